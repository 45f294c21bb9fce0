//! Detached views: copies of files that programs open by path. They share nothing with the store; what is done to them is done to
//! them alone, and they are made again from it.
//!
//! Inside the repository they are in `cache/files/<content>/<path>` and `cache/snapshots/<tree>/`; elsewhere where the caller says.
//! Beside each is a record of what its files were when they were written or last hashed. A file that still has that size, those
//! times and that inode is taken for what it was; any other is hashed, and replaced where it is not what it should be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Map, Value, json};
use shard_core::{Digest, NoProgress, Progress, sha256};
use shard_history::{FileEntry, TreeNode};
use shard_store::{FileStat, StatEntry};

use super::folder::VIEW_FOLDER;
use crate::beneath::Place;
use crate::checkout::{place_all, prepare_all};
use crate::error::{RepoError, Result};
use crate::pattern::PathFilter;
use crate::repository::Repository;
use crate::restore::hash_file;
use crate::stage::link_target;
use crate::worktree::tree_mode;

/// The folders of views inside the repository.
const FILES: &str = "cache/files";
const SNAPSHOTS: &str = "cache/snapshots";

/// The record of a view in a folder of the caller's.
const RECORD: &str = "view.json";
const VERSION: u64 = 1;
/// Longest record that is believed, in bytes.
const MAX_RECORD: u64 = 256 << 20;

/// A file written this long before its stat was taken, in nanoseconds, cannot be written again without its times showing it, on
/// file systems that keep more than seconds. On others it is two seconds, as FAT has it.
const TICK_NS: i64 = 50_000_000;
const COARSE_TICK_NS: i64 = 2_000_000_000;

/// What a file of a view was, when it was last known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    sha256: Digest,
    stat: FileStat,
    /// When that was, in nanoseconds since 1970.
    checked_ns: i64,
}

impl Seen {
    fn holds(&self, now: &FileStat) -> bool {
        const SECOND: i64 = 1_000_000_000;
        let is_coarse = now.ctime_ns % SECOND == 0 && now.mtime_ns % SECOND == 0;
        let settled = self.checked_ns.saturating_sub(if is_coarse { COARSE_TICK_NS } else { TICK_NS });
        self.stat == *now && now.mtime_ns < settled && now.ctime_ns < settled
    }

    fn to_json(self) -> Value {
        let FileStat { size, mtime_ns, ctime_ns, inode, device } = self.stat;
        json!([self.sha256.to_hex(), size, mtime_ns, ctime_ns, inode, device, self.checked_ns])
    }

    fn from_json(value: &Value) -> Option<Self> {
        let unsigned = |index: usize| value.get(index)?.as_u64();
        let signed = |index: usize| value.get(index)?.as_i64();
        let stat = FileStat {
            size: unsigned(1)?,
            mtime_ns: signed(2)?,
            ctime_ns: signed(3)?,
            inode: unsigned(4)?,
            device: unsigned(5)?,
        };
        Some(Self { sha256: Digest::from_hex(value.get(0)?.as_str()?).ok()?, stat, checked_ns: signed(6)? })
    }
}

/// A folder with copies of files, and what is known of them.
struct View<'a> {
    repository: &'a Repository,
    folder: PathBuf,
    /// Where the record is: below which folder, and its path there.
    record: (PathBuf, String),
    seen: BTreeMap<String, Seen>,
    is_changed: bool,
}

impl<'a> View<'a> {
    /// A view in a folder that may not be there yet. A record that makes no sense is none.
    fn open(repository: &'a Repository, folder: PathBuf, record: (PathBuf, String)) -> Self {
        let read = || -> Option<BTreeMap<String, Seen>> {
            let record = record.0.join(&record.1);
            if fs::symlink_metadata(&record).ok().filter(fs::Metadata::is_file)?.len() > MAX_RECORD {
                return None;
            }
            let value: Value = serde_json::from_slice(&fs::read(&record).ok()?).ok()?;
            if value.get("version")?.as_u64()? != VERSION {
                return None;
            }
            let files = value.get("files")?.as_object()?.iter();
            Some(files.filter_map(|(path, seen)| Some((path.clone(), Seen::from_json(seen)?))).collect())
        };
        let seen = read().unwrap_or_default();
        Self { repository, folder, record, seen, is_changed: false }
    }

    /// Whether a file of the view is as it should be.
    fn is_right(&mut self, path: &str, entry: &FileEntry) -> bool {
        let place = self.folder.join(path);
        let Ok(metadata) = fs::symlink_metadata(&place) else { return false };
        // A link to the right bytes is no copy of them.
        if tree_mode(&metadata) != entry.mode || !Place::find(&self.folder, path).is_ok_and(|place| place.is_some()) {
            return false;
        }
        if metadata.is_symlink() {
            return link_target(&place).is_ok_and(|target| sha256(&target) == entry.sha256);
        }
        let stat = FileStat::new(&metadata);
        if !metadata.is_file() || stat.size != entry.size {
            return false;
        }
        if self.seen.get(path).is_some_and(|seen| seen.sha256 == entry.sha256 && seen.holds(&stat)) {
            return true;
        }
        let checked_ns = StatEntry::now_ns();
        let is_right = hash_file(&place).is_ok_and(|found| found == entry.sha256);
        if is_right {
            self.seen.insert(path.to_owned(), Seen { sha256: entry.sha256, stat, checked_ns });
            self.is_changed = true;
        }
        is_right
    }

    /// Makes files of the view what they should be.
    fn fill(&mut self, files: &BTreeMap<String, FileEntry>, progress: &dyn Progress) -> Result<()> {
        if let Some(path) = files.keys().find(|path| self.folder.join(path) == self.record.0.join(&self.record.1)) {
            let why = "is where downloads keep what they know of this folder".to_owned();
            return Err(RepoError::Path { path: path.into(), why });
        }
        let wrong: BTreeMap<&String, &FileEntry> =
            files.iter().filter(|(path, entry)| !self.is_right(path, entry)).collect();
        if !wrong.is_empty() {
            let (folder, prefix) = self.repository.temporary();
            let threads = self.repository.settings.workers();
            fs::create_dir_all(&self.folder).map_err(RepoError::io("cannot create", &self.folder))?;
            let ready =
                prepare_all(&self.repository.store, &wrong, &self.folder, (&folder, &prefix), threads, progress)?;
            // What somebody changes from here on is not taken for what was written.
            let checked_ns = StatEntry::now_ns();
            place_all(ready, &self.folder)?;
            for (path, entry) in wrong {
                let place = self.folder.join(path);
                let metadata = fs::symlink_metadata(&place).map_err(RepoError::io("cannot read", &place))?;
                let stat = FileStat::new(&metadata);
                if metadata.is_file() && stat.size == entry.size {
                    let seen = Seen { sha256: entry.sha256, stat, checked_ns };
                    self.seen.insert(path.clone(), seen);
                    self.is_changed = true;
                }
            }
        }
        self.write()
    }

    /// Writes the record, where it has changed.
    fn write(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        let files: Map<String, Value> = self.seen.iter().map(|(path, seen)| (path.clone(), seen.to_json())).collect();
        let bytes = json!({"version": VERSION, "files": files}).to_string();
        let (root, path) = &self.record;
        Place::make(root, path)?.put_bytes(bytes.as_bytes())
    }
}

impl Repository {
    /// A file of a revision as a file on disk, whose path ends in `path`: inside the repository's cache, or below `local_dir`. One
    /// that is there and right is left as it is, which is known by its size and times; any other is written anew.
    ///
    /// # Errors
    /// As [`Self::open_file`]; [`RepoError::Argument`] where `local_dir` is inside the repository's own folder;
    /// [`RepoError::InTheWay`] for what is no folder where one is needed.
    ///
    /// ```
    /// # use shard_repo::{CommitRequest, NewRepo, Repository, Settings};
    /// # let folder = tempfile::tempdir()?;
    /// let hub = Repository::create_repo(&folder.path().join("hub"), &NewRepo::default(), Settings::default())?;
    /// hub.upload_file("a/b.txt", b"text".as_slice(), &CommitRequest::default(), &shard_core::NoProgress)?;
    /// let place = hub.hf_hub_download("a/b.txt", None, None)?;
    /// assert!(place.ends_with("a/b.txt"));
    /// let place = hub.hf_hub_download("a/b.txt", Some("main"), Some(&folder.path().join("out")))?;
    /// assert_eq!(place, folder.path().join("out/a/b.txt"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hf_hub_download(&self, path: &str, revision: Option<&str>, local_dir: Option<&Path>) -> Result<PathBuf> {
        let entry = self.file_of(path, revision)?;
        let mut view = match local_dir {
            Some(folder) => self.view_in(folder)?,
            None => {
                // A file and one with another mode or at another path are different views: the path of one may be a folder of another.
                let parts = json!([entry.sha256.to_hex(), entry.mode.as_str(), path]);
                self.view_of(&format!("{FILES}/{}", sha256(parts.to_string().as_bytes()).to_hex()))?
            }
        };
        view.fill(&BTreeMap::from([(path.to_owned(), entry)]), &NoProgress)?;
        Ok(view.folder.join(path))
    }

    /// The files of a revision that a filter admits as files on disk: in a folder of the repository's cache, or in `local_dir`, where
    /// other files stay as they are. Gives the folder. Files that are there and right are left as they are.
    ///
    /// # Errors
    /// As [`Self::hf_hub_download`].
    ///
    /// ```
    /// # use shard_core::NoProgress;
    /// # use shard_repo::{CommitRequest, NewRepo, PathFilter, Repository, Settings};
    /// # let folder = tempfile::tempdir()?;
    /// let hub = Repository::create_repo(&folder.path().join("hub"), &NewRepo::default(), Settings::default())?;
    /// hub.upload_file("a/b.txt", b"text".as_slice(), &CommitRequest::default(), &NoProgress)?;
    /// let snapshot = hub.snapshot_download(None, None, &PathFilter::default(), &NoProgress)?;
    /// assert_eq!(std::fs::read(snapshot.join("a/b.txt"))?, b"text");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot_download(
        &self,
        revision: Option<&str>,
        local_dir: Option<&Path>,
        filter: &PathFilter,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let mut objects = self.objects();
        let root = objects.shared_commit(self.revision_or_default(revision)?)?.tree;
        let (mut files, admits) = (BTreeMap::new(), filter.admits());
        let mut open = vec![(String::new(), root)];
        while let Some((folder, id)) = open.pop() {
            for (name, node) in &objects.tree(id)?.entries {
                let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                match node {
                    TreeNode::Directory(below) => open.push((path, *below)),
                    TreeNode::File(entry) if admits(&path) => drop(files.insert(path, *entry)),
                    TreeNode::File(_) => {}
                }
            }
        }
        let mut view = match local_dir {
            Some(folder) => self.view_in(folder)?,
            None => {
                let key = match filter.is_open() {
                    true => root,
                    false => {
                        let parts = json!([root.to_hex(), filter.allow, filter.ignore]);
                        sha256(parts.to_string().as_bytes())
                    }
                };
                self.view_of(&format!("{SNAPSHOTS}/{}", key.to_hex()))?
            }
        };
        fs::create_dir_all(&view.folder).map_err(RepoError::io("cannot create", &view.folder))?;
        view.fill(&files, progress)?;
        Ok(view.folder)
    }

    /// How many files the views inside the repository have, and their bytes.
    pub(crate) fn views(&self) -> Result<(u64, u64)> {
        let (mut files, mut bytes) = (0, 0);
        if self.is_away() {
            return Ok((0, 0));
        }
        let mut open: Vec<PathBuf> = [FILES, SNAPSHOTS].iter().map(|views| self.dir().join(views)).collect();
        while let Some(folder) = open.pop() {
            let cannot = RepoError::io("cannot read", &folder);
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(cannot)?,
            };
            for entry in entries {
                let entry = entry.map_err(RepoError::io("cannot read", &folder))?;
                // What another process removes meanwhile does not count.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    open.push(entry.path());
                } else {
                    (files, bytes) = (files + 1, bytes + metadata.len());
                }
            }
        }
        Ok((files, bytes))
    }

    /// Removes the views inside the repository: downloads make them again.
    pub(crate) fn remove_views(&self) -> Result<(u64, u64)> {
        let found = self.views()?;
        if self.is_away() {
            return Ok(found);
        }
        for views in [FILES, SNAPSHOTS] {
            let folder = self.dir().join(views);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(RepoError::io("cannot be removed", &folder))?,
            }
        }
        Ok(found)
    }

    /// The view inside the repository with a key.
    fn view_of(&self, key: &str) -> Result<View<'_>> {
        let record = format!("{key}.json");
        let dir = self.folder()?;
        Place::make(&dir, &record)?;
        Ok(View::open(self, dir.join(key), (dir, record)))
    }

    /// The view in a folder of the caller's.
    fn view_in(&self, folder: &Path) -> Result<View<'_>> {
        let absolute = self.made_outside(folder)?;
        let record = format!("{VIEW_FOLDER}/{RECORD}");
        // Before anything is downloaded.
        Place::make(&absolute, &record)?;
        Ok(View::open(self, absolute.clone(), (absolute, record)))
    }
}
