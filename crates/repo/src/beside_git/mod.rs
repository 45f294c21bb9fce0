//! Beside Git: shard keeps the models of a work tree, Git keeps small pointers to them.
//!
//! Patterns in a managed block of `.gitignore` say which files are models. `commit` writes beside each a pointer, which Git versions;
//! [`Repository::checkout_pointers`] brings the files that the pointers name. Where a pointer lies says where its file belongs, so
//! that no pointer can name a place elsewhere. No program of Git is run, and nothing that a Git repository holds is executed.

mod git_head;
mod patterns;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use shard_core::{Digest, Progress};
use shard_history::dag::ancestors;
use shard_history::{FileEntry, FileMode, FileTree, TreeNode};
use shard_manifest::{Pointer, RunRecord, pointer};
use shard_store::{EntryKey, EntryKind, EntrySource, StatEntry, Store, Transaction};
use thiserror::Error;

use crate::beneath::Place;
use crate::checkout::{CheckoutOptions, place_all, prepare_all};
use crate::collect::hold_manifest;
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::worktree::{Found, REPOSITORY_DIR, UNFINISHED};
use patterns::{POINTER, Pattern};

/// Most paths that an error names.
const NAMED: usize = 10;

/// How a model and its pointer stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointerState {
    /// The last commit has the file, and there is no pointer.
    NoPointer,
    /// There is a pointer, and no file.
    FileMissing,
    /// The pointer is that of the last commit, and the file is another one.
    FileChanged,
    /// The pointer names neither the file that is there nor that of the last commit, or is older than both.
    OutOfDate,
    /// What is there is no pointer.
    Malformed(String),
}

/// Why something cannot be done beside Git.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GitProblem {
    /// No Git repository is here.
    #[error("this is no Git repository, nor is any folder above it")]
    NoGit,
    /// A text that is no pattern.
    #[error("{pattern:?} is no pattern: {why}")]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A pattern that is not in the list.
    #[error("{0:?} is not among the patterns")]
    NotTracked(String),
    /// No patterns were given yet, so there are no pointers.
    #[error("no revision is given, and no files are tracked beside Git whose pointers could say which")]
    NothingTracked,
    /// What is there is no pointer.
    #[error("{path}: {why}")]
    Malformed {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Files that pointers name, and that are not stored here.
    #[error("files that pointers name are not in the repository: {}", .0.join(", "))]
    NotStored(Vec<String>),
}

/// Pointers that were brought up to date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PointerReport {
    /// Paths of the pointers that were written.
    pub written: Vec<String>,
    /// Paths of those that were removed, with their files.
    pub removed: Vec<String>,
}

/// What bringing the files that pointers name did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PointerCheckout {
    /// Files written, and their bytes.
    pub written: Vec<(String, u64)>,
    /// Files that were right already.
    pub unchanged: u64,
}

/// The files that shard keeps beside Git.
pub(crate) struct Tracked(Vec<Pattern>);

impl Tracked {
    /// Whether a file is one of them. Pointers are Git's, whatever folder they are in.
    pub(crate) fn has(&self, path: &str) -> bool {
        !path.ends_with(POINTER) && self.0.iter().any(|pattern| pattern.matches(path))
    }
}

impl Repository {
    /// The files that shard keeps beside Git; `None` where this is no Git repository, or nothing was said of them.
    pub(crate) fn tracked_beside_git(&self) -> Result<Option<Tracked>> {
        if self.is_bare() || git_head::git_dir(self.root()).is_none() {
            return Ok(None);
        }
        Ok(patterns::read(self.root())?.map(Tracked))
    }

    /// The patterns of files that shard keeps beside Git.
    ///
    /// # Errors
    /// [`RepoError::Path`] where the block that holds them is broken.
    pub fn track_patterns(&self) -> Result<Vec<String>> {
        let patterns = patterns::read(self.work()?.root())?.unwrap_or_default();
        Ok(patterns.iter().map(|pattern| pattern.text().to_owned()).collect())
    }

    /// Lets shard keep files that match patterns, and Git only their pointers. Pointers to files that the last commit has are
    /// written. A folder stands for all that is in it.
    ///
    /// # Errors
    /// [`RepoError::Git`] for what is no pattern, or where there is no Git repository; what cannot be read or written.
    pub fn track(&self, texts: &[String]) -> Result<PointerReport> {
        self.work()?;
        if git_head::git_dir(self.root()).is_none() {
            return Err(GitProblem::NoGit.into());
        }
        let mut patterns = patterns::read(self.work()?.root())?.unwrap_or_default();
        for text in texts {
            let pattern = self.pattern(text)?;
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        patterns::write(self.root(), &patterns)?;
        self.write_pointers(true)
    }

    /// Takes patterns back. Pointers stay: they are Git's.
    ///
    /// # Errors
    /// As [`Self::track`]; [`GitProblem::NotTracked`].
    pub fn untrack(&self, texts: &[String]) -> Result<()> {
        self.work()?;
        let mut patterns = patterns::read(self.work()?.root())?.unwrap_or_default();
        for text in texts {
            let pattern = self.pattern(text)?;
            let at = patterns.iter().position(|other| *other == pattern);
            patterns.remove(at.ok_or_else(|| GitProblem::NotTracked(text.clone()))?);
        }
        patterns::write(self.root(), &patterns)
    }

    fn pattern(&self, text: &str) -> Result<Pattern> {
        let is_folder = !text.ends_with('/') && !text.is_empty() && self.root().join(text).is_dir();
        let text = if is_folder { format!("{text}/") } else { text.to_owned() };
        Pattern::new(&text).map_err(|why| GitProblem::Pattern { pattern: text, why }.into())
    }

    /// Writes pointers to the files of the last commit: those that it changed, and those that have none, or, with `all`, those
    /// that do not name the file.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn write_pointers(&self, all: bool) -> Result<PointerReport> {
        self.work()?;
        let mut report = PointerReport::default();
        let (Some(tracked), Some(head)) = (self.tracked_beside_git()?, self.head()?.commit) else { return Ok(report) };
        let mut objects = self.objects();
        let commit = objects.commit(head)?;
        let tree = objects.file_tree(commit.tree)?;
        let changes = self.changes_of(&commit)?;
        let changed: BTreeSet<&str> = changes.iter().map(|change| change.path()).collect();
        let git_head = git_head::git_dir(self.root()).and_then(|dir| git_head::head(&dir));
        for (path, entry) in tree.files() {
            if entry.mode == FileMode::Symlink || !tracked.has(path) {
                continue;
            }
            let there = self.work()?.place(&pointer_path(path));
            let is_there = fs::symlink_metadata(&there).is_ok();
            let names_another = || !read_pointer(&there).is_ok_and(|pointer| pointer.sha256 == entry.sha256);
            let is_due = changed.contains(path.as_str()) || !is_there || (all && names_another());
            // Of a file that is not there the pointer is none of this work tree's business.
            let place = if is_due { Place::find(self.root(), &pointer_path(path))? } else { None };
            let Some(place) = place else { continue };
            let mut record = commit.record(path).cloned().unwrap_or_else(|| RunRecord::new(path.as_str()));
            record.code_git_sha = record.code_git_sha.or_else(|| git_head.clone());
            let manifest = objects.manifest_once(entry.manifest)?;
            let bytes = pointer::write(&manifest, &record).map_err(RepoError::manifest(&there))?;
            place.put_bytes(&bytes)?;
            report.written.push(pointer_path(path));
        }
        for change in &changes {
            let Some((path, _)) = old_path(change).filter(|(path, _)| tree.get(path).is_none() && tracked.has(path))
            else {
                continue;
            };
            let pointer = pointer_path(path);
            let work = self.work()?;
            if read_pointer(&work.place(&pointer)).is_ok() {
                work.remove(&pointer)?;
                report.removed.push(pointer);
            }
        }
        Ok(report)
    }

    /// Brings the files that the pointers of the work tree name, from this repository or, where it is given, from another one,
    /// whose files are added here. The stage follows; what is checked out stays.
    ///
    /// # Errors
    /// [`GitProblem`] for pointers that are none, or whose files are not stored; [`RepoError::WouldOverwrite`] where a file
    /// has changes that no commit has, before anything is touched; damaged data.
    pub fn checkout_pointers(
        &self,
        from: Option<&Path>,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<PointerCheckout> {
        self.again_if_condemned(|| self.checkout_pointers_once(from, options, progress))
    }

    fn checkout_pointers_once(
        &self,
        from: Option<&Path>,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<PointerCheckout> {
        self.work()?;
        let tracked = self.tracked_beside_git()?.ok_or(GitProblem::NothingTracked)?;
        let other = from.map(open_store).transpose()?;
        let transaction = self.store.begin("checkout")?;
        let source: &dyn EntrySource = other.as_ref().map_or(&self.store, |other| other);
        let (stage_state, mut stage) = self.stage()?;
        let (mut wanted, mut unchanged) = (BTreeMap::new(), 0);
        let (mut lost, mut missing) = (Vec::new(), Vec::new());
        for (path, pointer) in self.pointers(&tracked)? {
            let pointer = pointer.map_err(|why| GitProblem::Malformed { path: pointer_path(&path), why })?;
            let mode = stage.get(&path).map_or(FileMode::Regular, |entry| entry.mode);
            let Pointer { manifest, sha256, size, .. } = pointer;
            let entry = FileEntry { mode, size, sha256, manifest };
            let place = self.work()?.place(&path);
            if let Ok(metadata) = fs::symlink_metadata(&place) {
                let found = Found { path: path.clone(), metadata };
                if self.is_unchanged(&found, &entry, &mut Vec::new(), 0)? {
                    unchanged += 1;
                    continue;
                }
                let has_other = || self.is_in_other(&found, &stage, other.as_ref());
                if !options.force && !self.is_kept(&found, &stage)? && !has_other()? {
                    lost.push(path);
                    continue;
                }
            }
            let is_there = source.locate(&EntryKey::new(EntryKind::Manifest, manifest))?.is_some();
            // What the stage is going to name has to stay.
            let stays = is_there && (other.is_some() || self.stays(&transaction, manifest)?);
            if stays {
                wanted.insert(path, entry);
            } else {
                missing.push(path);
            }
        }
        if !missing.is_empty() {
            missing.truncate(NAMED);
            return Err(GitProblem::NotStored(missing).into());
        }
        if !lost.is_empty() {
            lost.truncate(NAMED);
            return Err(RepoError::WouldOverwrite { what: "changes that no commit has would be lost", paths: lost });
        }
        let by_path: BTreeMap<&String, &FileEntry> = wanted.iter().collect();
        self.refuse_clashes(&by_path, &[])?;
        let threads = self.settings.workers();
        let ready = prepare_all(source, &by_path, self.root(), (self.root(), UNFINISHED.0), threads, progress)?;
        if other.is_some() {
            // Another repository's word for what its blocks come to is not taken.
            ready.iter().zip(by_path.values()).try_for_each(|(file, entry)| file.prove(entry.sha256))?;
        }
        let written = place_all(ready, self.root())?;
        let work = self.work()?;
        let places: Vec<PathBuf> = wanted.keys().map(|path| work.place(path)).collect();
        if other.is_some() {
            self.add(&places, progress)?;
        } else if !wanted.is_empty() {
            let changes = wanted.into_iter().map(|(path, entry)| (path, Some(entry))).collect();
            let message = "checkout: pointers (paths)";
            self.move_stage(&transaction, stage_state, &mut stage, &changes, |_| false, message)?;
        }
        Ok(PointerCheckout { written, unchanged })
    }

    fn stays(&self, transaction: &Transaction, manifest: Digest) -> Result<bool> {
        hold_manifest(transaction, manifest, &*self.manifest(manifest)?)
    }

    /// Whether a file of the work tree is one that a commit has.
    fn is_kept(&self, found: &Found, stage: &FileTree) -> Result<bool> {
        let Some(entry) = stage.get(&found.path) else { return Ok(false) };
        if !self.is_unchanged(found, entry, &mut Vec::new(), 0)? {
            return Ok(false);
        }
        let tips: Vec<Digest> =
            self.named_refs()?.into_iter().map(|named| named.commit).chain(self.head()?.commit).collect();
        let mut objects = self.objects();
        let mut is_kept = false;
        ancestors(&tips, |id| {
            let commit = objects.commit(*id)?;
            let there = if is_kept { None } else { objects.lookup(commit.tree, &found.path)? };
            is_kept |= there == Some(TreeNode::File(*entry));
            let mut node = commit.node().map_err(|source| RepoError::History { what: "commit", id: *id, source })?;
            if is_kept {
                node.parents.clear();
            }
            Ok::<_, RepoError>(node)
        })?;
        Ok(is_kept)
    }

    /// Whether a file of the work tree is as it was added, and the other repository has it too.
    fn is_in_other(&self, found: &Found, stage: &FileTree, other: Option<&Store>) -> Result<bool> {
        let (Some(other), Some(entry)) = (other, stage.get(&found.path)) else { return Ok(false) };
        let is_there = other.locate(&EntryKey::new(EntryKind::Manifest, entry.manifest))?.is_some();
        Ok(is_there && self.is_unchanged(found, entry, &mut Vec::new(), 0)?)
    }

    /// The pointers of the work tree by the paths of their files; of one that is none, why.
    fn pointers(&self, tracked: &Tracked) -> Result<Vec<(String, std::result::Result<Pointer, String>)>> {
        let work = self.work()?;
        let (files, _) = work.files("")?;
        let paths = files.iter().filter_map(|found| found.path.strip_suffix(POINTER)).filter(|path| tracked.has(path));
        Ok(paths.map(|path| (path.to_owned(), read_pointer(&work.place(&pointer_path(path))))).collect())
    }

    /// How models and pointers stand, where they are not as they should be, by path.
    pub(crate) fn pointer_states(&self, tracked: &Tracked, last: &FileTree) -> Result<Vec<(String, PointerState)>> {
        let (work, began) = (self.work()?, StatEntry::now_ns());
        let mut states = BTreeMap::new();
        let pointers: BTreeMap<_, _> = self.pointers(tracked)?.into_iter().collect();
        let mut stats = Vec::new();
        for (path, pointer) in &pointers {
            let pointer = match pointer {
                Ok(pointer) => pointer,
                Err(why) => {
                    states.insert(path.clone(), PointerState::Malformed(why.clone()));
                    continue;
                }
            };
            let Ok(metadata) = fs::symlink_metadata(work.place(path)) else {
                states.insert(path.clone(), PointerState::FileMissing);
                continue;
            };
            let found = Found { path: path.clone(), metadata };
            let mode = crate::worktree::tree_mode(&found.metadata);
            let Pointer { manifest, sha256, size, .. } = *pointer;
            let entry = FileEntry { mode, size, sha256, manifest };
            if !self.is_unchanged(&found, &entry, &mut stats, began)? {
                let is_last = last.get(path).is_some_and(|last| last.sha256 == sha256);
                states.insert(path.clone(), if is_last { PointerState::FileChanged } else { PointerState::OutOfDate });
            }
        }
        for (path, entry) in last.files() {
            if entry.mode != FileMode::Symlink && tracked.has(path) && !pointers.contains_key(path) {
                states.insert(path.clone(), PointerState::NoPointer);
            }
        }
        if !stats.is_empty() {
            self.store.stat_cache().update(&stats, &[])?;
        }
        Ok(states.into_iter().collect())
    }
}

/// The path of a file's pointer.
fn pointer_path(path: &str) -> String {
    format!("{path}{POINTER}")
}

/// Where a change had its file before.
fn old_path(change: &shard_history::FileChange) -> Option<(&str, &FileEntry)> {
    let path = match change {
        shard_history::FileChange::Renamed { from, .. } => from,
        other => other.path(),
    };
    change.old().map(|old| (path, old))
}

/// The pointer in a file, or why it is none.
fn read_pointer(place: &Path) -> std::result::Result<Pointer, String> {
    let metadata = fs::symlink_metadata(place).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(place).map_err(|error| error.to_string())?;
    file.take(pointer::MAX_POINTER + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > pointer::MAX_POINTER {
        return Err("it is too long".to_owned());
    }
    pointer::read(&bytes).map_err(|error| error.to_string())
}

/// The store of the repository at a folder.
fn open_store(folder: &Path) -> Result<Store> {
    let inside = folder.join(REPOSITORY_DIR);
    let dir = if inside.is_dir() { inside } else { folder.to_owned() };
    if !dir.is_dir() {
        return Err(RepoError::NotARepository(folder.to_owned()));
    }
    Ok(Store::open(&dir)?)
}
