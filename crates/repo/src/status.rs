//! `status`: what differs between the last commit, the stage and the work tree.

use shard_history::{FileChange, FileEntry, FileTree, diff_files};
use shard_store::StatEntry;

use crate::beside_git::PointerState;
use crate::error::{RepoError, Result};
use crate::merge::MergeState;
use crate::repository::{Head, Repository};
use crate::restore::hash_file;
use crate::stage::{link_target, stat_entry};
use crate::worktree::{Found, tree_mode};

/// How a tracked file of the work tree differs from the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkState {
    /// Other content, or another mode.
    Modified,
    /// It is gone.
    Deleted,
    /// It is not tracked.
    Untracked,
}

/// What `status` found.
#[derive(Debug, Clone)]
pub struct Status {
    /// What is checked out.
    pub head: Head,
    /// Stage against the last commit.
    pub staged: Vec<FileChange>,
    /// Work tree against the stage, in the order of paths.
    pub work: Vec<(String, WorkState)>,
    /// Beside Git: models and pointers that are not as they should be, in the order of the models' paths.
    pub pointers: Vec<(String, PointerState)>,
    /// The merge that is under way.
    pub merge: Option<MergeState>,
    /// Whether a bisect is under way.
    pub is_bisecting: bool,
}

impl Status {
    /// Whether nothing differs and no merge waits; untracked files do not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.merge.is_none()
            && self.staged.is_empty()
            && self.pointers.is_empty()
            && self.work.iter().all(|(_, state)| *state == WorkState::Untracked)
    }
}

impl Repository {
    /// Compares last commit, stage and work tree. Files whose size and times are those of the last reading are not read
    /// again, unless they were read so soon after their change that a later change could have the same times.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn status(&self) -> Result<Status> {
        let head = self.head()?;
        let (_, stage) = self.stage()?;
        let mut objects = self.objects();
        let last = match head.commit {
            Some(commit) => {
                let root = objects.commit(commit)?.tree;
                objects.file_tree(root)?
            }
            None => FileTree::default(),
        };
        let mut work = self.work_changes(&stage)?;
        let mut pointers = Vec::new();
        if let Some(tracked) = self.tracked_beside_git()? {
            // All else is Git's.
            work.retain(|(path, state)| *state != WorkState::Untracked || tracked.has(path));
            pointers = self.pointer_states(&tracked, &last)?;
        }
        let (merge, is_bisecting) = (self.merge_state()?, self.is_bisecting()?);
        Ok(Status { head, staged: diff_files(&last, &stage), work, pointers, merge, is_bisecting })
    }

    /// How the work tree differs from a tree.
    pub(crate) fn work_changes(&self, tree: &FileTree) -> Result<Vec<(String, WorkState)>> {
        let began = StatEntry::now_ns();
        let (files, _) = self.work()?.files("")?;
        let mut changes = Vec::new();
        let mut stats = Vec::new();
        for found in &files {
            match tree.get(&found.path) {
                None => changes.push((found.path.clone(), WorkState::Untracked)),
                Some(entry) if self.is_unchanged(found, entry, &mut stats, began)? => {}
                Some(_) => changes.push((found.path.clone(), WorkState::Modified)),
            }
        }
        let present = |path: &str| files.binary_search_by(|file| file.path.as_str().cmp(path)).is_ok();
        let gone = tree.files().keys().filter(|path| !present(path));
        changes.extend(gone.map(|path| (path.clone(), WorkState::Deleted)));
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        if !stats.is_empty() {
            self.store.stat_cache().update(&stats, &[])?;
        }
        Ok(changes)
    }

    /// Whether a file of the work tree is what a tree says. What had to be read is added to `stats`.
    pub(crate) fn is_unchanged(
        &self,
        found: &Found,
        entry: &FileEntry,
        stats: &mut Vec<(Vec<u8>, StatEntry)>,
        began: i64,
    ) -> Result<bool> {
        if entry.mode != tree_mode(&found.metadata) {
            return Ok(false);
        }
        let place = self.work()?.place(&found.path);
        if found.metadata.is_symlink() {
            return Ok(shard_core::sha256(&link_target(&place)?) == entry.sha256);
        }
        if found.metadata.len() != entry.size {
            return Ok(false);
        }
        if let Some(known) = self.known(&found.path, &found.metadata)? {
            return Ok(known.sha256 == entry.sha256);
        }
        let hash = hash_file(&place).map_err(RepoError::io("cannot read", &place))?;
        if hash == entry.sha256 {
            stats.push(stat_entry(&found.path, &found.metadata, entry, began));
            return Ok(true);
        }
        Ok(false)
    }
}
