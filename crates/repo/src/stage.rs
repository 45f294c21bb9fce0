//! `add`: files become manifests and blocks, and the stage names them.
//!
//! The stage is a tree like that of a commit, named by a ref, so that it is replaced as a whole, by compare-and-swap, and
//! has a history like any other ref.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::PathBuf;

use shard_core::{Digest, Progress, sha256};
use shard_formats::{FileSource, Source};
use shard_history::{FileEntry, FileTree, HistoryError};
use shard_store::{EntryKind, FileStat, Nonce, RefState, RefUpdate, StatEntry, Target, Transaction};

use crate::collect::hold_manifest;
use crate::error::{RepoError, Result};
use crate::keep::{Keeper, entry_of, likely_of};
use crate::repository::{Repository, STAGE};
use crate::snapshot::{Kept, SnapshotCost, put_object};
use crate::worktree::{Found, tree_mode};

/// What became of a path that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedState {
    /// The stage had it already, as it is.
    Unchanged,
    /// It was read and staged.
    Staged(SnapshotCost),
    /// It is gone from the work tree, and now from the stage.
    Removed,
}

/// A path that was added.
#[derive(Debug, Clone)]
pub struct Added {
    /// The path.
    pub path: String,
    /// What became of it.
    pub state: AddedState,
    /// Length in bytes; 0 where it is gone.
    pub size: u64,
    /// Why a file that looked like a model is kept as opaque bytes.
    pub note: Option<String>,
}

/// What `add` did.
#[derive(Debug, Clone, Default)]
pub struct AddReport {
    /// Every path looked at, in order.
    pub files: Vec<Added>,
    /// What the new content cost.
    pub cost: SnapshotCost,
}

impl Repository {
    /// Stages files and folders as they are now. Folders are taken whole; tracked files that are gone are removed from the
    /// stage.
    ///
    /// # Errors
    /// A path that is nowhere, a file that cannot be read, or what the store says; the stage is then as it was.
    pub fn add(&self, paths: &[PathBuf], progress: &dyn Progress) -> Result<AddReport> {
        self.again_if_condemned(|| self.add_once(paths, progress))
    }

    fn add_once(&self, paths: &[PathBuf], progress: &dyn Progress) -> Result<AddReport> {
        // Before the stage is read: what it names stays from here on.
        let transaction = self.store.begin("add")?;
        let work = self.work()?;
        let (state, mut tree) = self.stage()?;
        let mut changes = BTreeMap::new();
        let mut report = AddReport::default();
        let mut found = BTreeMap::new();
        let mut named = BTreeSet::new();
        let began = StatEntry::now_ns();
        let beside_git = self.tracked_beside_git()?;
        for given in paths {
            let path = work.tracked_path(given)?;
            named.insert(path.clone());
            let (mut files, unnameable) = work.files(&path)?;
            if let Some(tracked) = &beside_git {
                // Beside Git a folder stands for the models in it; what is named itself is meant.
                files.retain(|file| file.path == path || tree.get(&file.path).is_some() || tracked.has(&file.path));
            }
            if let Some(place) = unnameable.into_iter().next() {
                return Err(RepoError::Path {
                    path: place,
                    why: "has a name that is not valid UTF-8; rename it".to_owned(),
                });
            }
            let below = format!("{path}/");
            let present = |tracked: &str| files.binary_search_by(|file| file.path.as_str().cmp(tracked)).is_ok();
            let covered = |tracked: &str| path.is_empty() || tracked == path || tracked.starts_with(&below);
            let gone: Vec<String> =
                tree.files().keys().filter(|tracked| covered(tracked) && !present(tracked)).cloned().collect();
            if files.is_empty() && gone.is_empty() && !work.place(&path).is_dir() {
                return Err(RepoError::Path { path: given.clone(), why: "there is no such file or folder".to_owned() });
            }
            for path in gone {
                report.files.push(Added { path: path.clone(), state: AddedState::Removed, size: 0, note: None });
                changes.insert(path, None);
            }
            found.extend(files.into_iter().map(|file| (file.path.clone(), file)));
        }
        let total = found.values().map(|file| file.metadata.len()).sum();
        progress.begin("adding", Some(total));
        let keeper = Keeper::new(&transaction, self.snapshot_options());
        let mut adder = Adder { repository: self, keeper, began, staged: BTreeMap::new(), stats: Vec::new() };
        for file in found.into_values() {
            let (entry, added) = adder.add(&file, &tree, progress)?;
            if let AddedState::Staged(cost) = &added.state {
                report.cost.add(*cost);
                changes.insert(file.path, Some(entry));
            }
            report.files.push(added);
        }
        let stats = adder.stats;
        progress.finish();
        report.files.sort_by(|a, b| a.path.cmp(&b.path));
        // A path decides about itself by its name, and for a file where a folder is, so do paths below it. A folder that is named
        // decides only about what was staged: that the rest is ours still may be because nobody looked at it.
        let is_decided = |path: &str| {
            let below = format!("{path}/");
            named.contains(path) || named.iter().any(|named| named.starts_with(&below)) || changes.contains_key(path)
        };
        self.move_stage(&transaction, state, &mut tree, &changes, is_decided, "add")?;
        self.store.stat_cache().update(&stats, &[])?;
        Ok(report)
    }

    /// The stage's ref and tree; before anything was staged, the tree of what is checked out.
    pub(crate) fn stage(&self) -> Result<(Option<RefState>, FileTree)> {
        let state = self.read_ref(STAGE)?;
        let tree = match state.as_ref().map(|state| &state.target) {
            Some(Target::Tree(id)) => self.objects().file_tree(*id)?,
            _ => match self.head()?.commit {
                Some(commit) => {
                    let mut objects = self.objects();
                    let root = objects.commit(commit)?.tree;
                    objects.file_tree(root)?
                }
                None => FileTree::default(),
            },
        };
        Ok((state, tree))
    }

    /// Stages changes to paths (`None` removes one), and where a merge is under way, notes that its conflicts at the paths that
    /// `is_decided` holds for were decided about. Where another writer staged something meanwhile, the changes are made to what it
    /// staged.
    pub(crate) fn move_stage(
        &self,
        transaction: &Transaction,
        mut state: Option<RefState>,
        tree: &mut FileTree,
        changes: &BTreeMap<String, Option<FileEntry>>,
        is_decided: impl Fn(&str) -> bool,
        message: &str,
    ) -> Result<()> {
        loop {
            // First what goes: a folder may have become a file.
            for (path, _) in changes.iter().filter(|(_, entry)| entry.is_none()) {
                tree.remove(path);
            }
            for (path, entry) in changes {
                if let Some(entry) = entry {
                    tree.insert(path, *entry).map_err(|error| clash(path, &error))?;
                }
            }
            let root = put_tree(transaction, tree)?;
            let mut updates = Vec::new();
            if state.as_ref().is_none_or(|state| state.target != Target::Tree(root)) {
                updates.push(RefUpdate { name: STAGE.to_owned(), expected: state, target: Target::Tree(root) });
            }
            updates.extend(self.decided(transaction, &is_decided)?);
            if updates.is_empty() {
                transaction.seal()?;
                return Ok(());
            }
            match self.move_refs(transaction, &updates, message) {
                Err(RepoError::Store(error)) if RepoError::is_conflict(&error) => (state, *tree) = self.stage()?,
                other => return other,
            }
        }
    }
}

/// Stores the trees of a file tree, and gives the root's id.
pub(crate) fn put_tree(transaction: &Transaction, tree: &FileTree) -> Result<Digest> {
    let clashes = |source| RepoError::History { what: "tree", id: sha256(&[]), source };
    let (root, trees) = tree.to_trees().map_err(clashes)?;
    for (_, bytes) in &trees {
        put_object(transaction, EntryKind::Tree, bytes)?;
    }
    Ok(root)
}

struct Adder<'a> {
    repository: &'a Repository,
    keeper: Keeper<'a>,
    /// When this call began to look at files, in nanoseconds since 1970.
    began: i64,
    /// What this call staged so far: base candidates for what follows.
    staged: BTreeMap<String, FileEntry>,
    stats: Vec<(Vec<u8>, StatEntry)>,
}

impl Adder<'_> {
    fn add(&mut self, found: &Found, tree: &FileTree, progress: &dyn Progress) -> Result<(FileEntry, Added)> {
        let size = found.metadata.len();
        let before = tree.get(&found.path);
        let mode = tree_mode(&found.metadata);
        let unchanged = Added { path: found.path.clone(), state: AddedState::Unchanged, size, note: None };
        if let Some(known) = self.repository.known(&found.path, &found.metadata)? {
            let entry = FileEntry { mode, ..known };
            let manifest =
                self.keeper.objects.manifest(entry.manifest).ok().filter(|manifest| manifest.sha256 == entry.sha256);
            // What the stage does not name may be on its way out.
            let stays = match manifest {
                Some(_) if before.is_some_and(|before| before.manifest == entry.manifest) => true,
                Some(manifest) => hold_manifest(self.keeper.transaction, entry.manifest, &manifest)?,
                None => false,
            };
            if stays {
                progress.advance(size);
                let state = if before == Some(&entry) {
                    AddedState::Unchanged
                } else {
                    AddedState::Staged(SnapshotCost::default())
                };
                return Ok((entry, Added { state, ..unchanged }));
            }
        }
        let kept = self.keep(found, tree, progress)?;
        let entry = entry_of(&kept, mode);
        self.stats.push(stat_entry(&found.path, &found.metadata, &entry, self.began));
        self.staged.insert(found.path.clone(), entry);
        let state = if before == Some(&entry) { AddedState::Unchanged } else { AddedState::Staged(kept.cost) };
        Ok((entry, Added { state, note: kept.note, ..unchanged }))
    }

    fn keep(&mut self, found: &Found, tree: &FileTree, progress: &dyn Progress) -> Result<Kept> {
        let place = self.repository.work()?.place(&found.path);
        let read = |error| RepoError::io("cannot read", &place)(error);
        let file: FileSource;
        let link: Vec<u8>;
        let source: &dyn Source = if found.metadata.is_symlink() {
            link = link_target(&place)?;
            &link
        } else {
            file = FileSource::open(&place).map_err(read)?;
            &file
        };
        let files = tree.files().iter().map(|(path, entry)| (path.as_str(), entry));
        let likely = || Ok(likely_of(&found.path, &self.staged, files));
        let kept = self.keeper.keep(source, &place, likely, progress)?;
        if !found.metadata.is_symlink() {
            let now = fs::metadata(&place).map_err(read)?;
            if FileStat::new(&now) != FileStat::new(&found.metadata) || now.len() != kept.manifest.size {
                return Err(RepoError::Changed(place));
            }
        }
        Ok(kept)
    }
}

/// The bytes that stand for a symbolic link: its target.
pub(crate) fn link_target(place: &std::path::Path) -> Result<Vec<u8>> {
    let target = fs::read_link(place).map_err(RepoError::io("cannot read", place))?;
    let text = target.to_str().ok_or_else(|| RepoError::Path {
        path: place.to_owned(),
        why: "is a link whose target is not valid UTF-8".to_owned(),
    })?;
    Ok(text.as_bytes().to_vec())
}

impl Repository {
    /// What a file's content is, as far as its size and times tell that it has not changed since it was last read.
    pub(crate) fn known(&self, path: &str, metadata: &Metadata) -> Result<Option<FileEntry>> {
        let known = self.store.stat_cache().get(path.as_bytes())?;
        let known = known.filter(|known| known.holds(&FileStat::new(metadata)));
        Ok(known.map(|known| FileEntry {
            mode: tree_mode(metadata),
            size: known.stat.size,
            sha256: known.sha256,
            manifest: known.manifest,
        }))
    }

    /// Moves refs as one operation, after everything that the transaction wrote is durable. All moves of an existing repository
    /// pass here, and what is protected is kept from moving.
    pub(crate) fn move_refs(&self, transaction: &Transaction, updates: &[RefUpdate], message: &str) -> Result<()> {
        self.check_protected(transaction, updates)?;
        let operation = Nonce::random().map_err(RepoError::io("cannot draw random numbers for", self.root()))?;
        transaction.update_refs(updates, message, operation)?;
        Ok(())
    }
}

/// What the stat cache remembers of a file that was read after `began` (nanoseconds since 1970), when it had these metadata.
pub(crate) fn stat_entry(path: &str, metadata: &Metadata, entry: &FileEntry, began: i64) -> (Vec<u8>, StatEntry) {
    let stat = FileStat::new(metadata);
    let known = StatEntry { stat, sha256: entry.sha256, manifest: entry.manifest, checked_ns: began };
    (path.as_bytes().to_vec(), known)
}

/// The error of a path that cannot be beside those that are staged.
fn clash(path: &str, error: &HistoryError) -> RepoError {
    RepoError::Path { path: path.into(), why: format!("cannot be staged: {error}") }
}
