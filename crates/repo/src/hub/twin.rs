//! Git twins of what is stored: computed from the objects where they are not known yet, and remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shard_core::Digest;
use shard_formats::Source;
use shard_history::git::{self, GitEntry, GitHasher};
use shard_history::{FileEntry, GitId, TreeNode};
use shard_store::{EntryKey, EntryKind, EntrySource as _, Transaction};

use super::read::FileReader;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::Repository;

/// Twins that are remembered in memory; beyond, they are forgotten, and found in the cache on disk.
const REMEMBERED: usize = 1 << 17;

/// Bytes of a content that are hashed at once.
const PIECE: usize = 256 << 10;

/// The twins that this process has met.
#[derive(Default)]
pub(crate) struct TwinMemory(Mutex<HashMap<EntryKey, GitId>>);

impl TwinMemory {
    fn get(&self, key: &EntryKey) -> Option<GitId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn put(&self, key: EntryKey, twin: GitId) {
        let mut twins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if twins.len() >= REMEMBERED {
            twins.clear();
        }
        twins.insert(key, twin);
    }

    /// The commits with a twin, as far as they are remembered.
    fn commits(&self, twin: GitId) -> Vec<Digest> {
        let twins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let commits = twins.iter().filter(|(key, id)| key.kind == EntryKind::Commit && **id == twin);
        commits.map(|(key, _)| key.id).collect()
    }
}

/// The blob of a content, as the cache knows it: by the SHA-256 of all its bytes.
fn content_key(sha256: Digest) -> EntryKey {
    EntryKey::new(EntryKind::Block, sha256)
}

/// Finds twins, and notes the new ones when it is done.
pub(super) struct Twins<'a> {
    repository: &'a Repository,
    objects: Objects<'a>,
    pub(super) threshold: u64,
    new: Vec<(EntryKey, [u8; GitId::LEN])>,
}

impl<'a> Twins<'a> {
    pub(super) fn new(repository: &'a Repository) -> Result<Self> {
        Self::of(repository, repository.objects())
    }

    /// The same, of what a transaction has besides.
    pub(super) fn over(repository: &'a Repository, transaction: &'a Transaction) -> Result<Self> {
        Self::of(repository, Objects::new(transaction))
    }

    fn of(repository: &'a Repository, objects: Objects<'a>) -> Result<Self> {
        let threshold = repository.large_file_threshold()?;
        Ok(Self { repository, objects, threshold, new: Vec::new() })
    }

    fn known(&self, key: &EntryKey) -> Option<GitId> {
        if let Some(twin) = self.repository.twins.get(key) {
            return Some(twin);
        }
        let twin = GitId(self.repository.store.twins(self.threshold).get(key)?);
        self.repository.twins.put(*key, twin);
        Some(twin)
    }

    fn note(&mut self, key: EntryKey, twin: GitId) {
        self.repository.twins.put(key, twin);
        self.new.push((key, twin.0));
    }

    /// Hashes the bytes of a file that is about to be kept, unless it is large enough to be a pointer.
    pub(super) fn content(&mut self, source: &dyn Source) -> std::io::Result<Option<GitId>> {
        if source.len() >= self.threshold {
            return Ok(None);
        }
        let mut hash = GitHasher::blob(source.len());
        let mut buffer = vec![0; PIECE.min(usize::try_from(source.len()).unwrap_or(PIECE))];
        let mut at = 0;
        while at < source.len() {
            let len = usize::try_from(source.len() - at).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..len).unwrap_or_default();
            source.read_at(at, piece)?;
            hash.update(piece);
            at += len as u64;
        }
        Ok(Some(hash.finish()))
    }

    /// Notes what [`Self::content`] found, once the content is kept.
    pub(super) fn kept(&mut self, entry: &FileEntry, twin: GitId) {
        let key = content_key(entry.sha256);
        if self.known(&key).is_none() {
            self.note(key, twin);
        }
    }

    /// The blob of a file: its bytes, or its pointer. Bytes whose twin is not known are read.
    pub(super) fn file(&mut self, path: &str, entry: &FileEntry) -> Result<GitId> {
        if entry.size >= self.threshold {
            return Ok(git::blob_id(git::lfs_pointer(&entry.sha256, entry.size).as_bytes()));
        }
        let key = content_key(entry.sha256);
        if let Some(twin) = self.known(&key) {
            return Ok(twin);
        }
        let manifest = self.objects.manifest_of(path, entry)?;
        let mut reader = FileReader::new(self.repository, manifest)?;
        let mut hash = GitHasher::blob(entry.size);
        reader.for_each(|bytes| hash.update(bytes))?;
        let twin = hash.finish();
        self.note(key, twin);
        Ok(twin)
    }

    /// The tree of a directory. Those in it that are not known come first; none can be in itself, as ids are hashes.
    pub(super) fn tree(&mut self, root: Digest) -> Result<GitId> {
        let mut open = vec![root];
        loop {
            let Some(id) = open.last().copied() else { return Err(RepoError::Internal("a twin was lost")) };
            let key = EntryKey::new(EntryKind::Tree, id);
            let twin = match self.known(&key) {
                Some(twin) => twin,
                None => {
                    let tree = self.objects.tree(id)?;
                    let (mut entries, mut missing) = (Vec::with_capacity(tree.entries.len()), Vec::new());
                    for (name, node) in &tree.entries {
                        let (mode, id) = match node {
                            TreeNode::File(file) => (Some(file.mode), Some(self.file(name, file)?)),
                            TreeNode::Directory(below) => {
                                let twin = self.known(&EntryKey::new(EntryKind::Tree, *below));
                                missing.extend(twin.is_none().then_some(*below));
                                (None, twin)
                            }
                        };
                        entries.extend(id.map(|id| GitEntry { name: name.clone(), mode, id }));
                    }
                    if !missing.is_empty() {
                        open.extend(missing);
                        continue;
                    }
                    let twin = git::tree_id(entries);
                    self.note(key, twin);
                    twin
                }
            };
            open.pop();
            if open.is_empty() {
                return Ok(twin);
            }
        }
    }

    /// The twin of a commit, parents first.
    pub(super) fn commit(&mut self, id: Digest) -> Result<GitId> {
        let mut open = vec![id];
        loop {
            let Some(id) = open.last().copied() else { return Err(RepoError::Internal("a twin was lost")) };
            let key = EntryKey::new(EntryKind::Commit, id);
            let twin = match self.known(&key) {
                Some(twin) => twin,
                None => {
                    let commit = self.objects.shared_commit(id)?;
                    let known: Vec<Option<GitId>> =
                        commit.parents.iter().map(|id| self.known(&EntryKey::new(EntryKind::Commit, *id))).collect();
                    let missing = commit.parents.iter().zip(&known).filter(|(_, twin)| twin.is_none());
                    let before = open.len();
                    open.extend(missing.map(|(id, _)| *id));
                    if open.len() > before {
                        continue;
                    }
                    let parents: Vec<GitId> = known.into_iter().flatten().collect();
                    let tree = self.tree(commit.tree)?;
                    let twin = git::commit_id(&commit, &tree, &parents);
                    self.note(key, twin);
                    twin
                }
            };
            open.pop();
            if open.is_empty() {
                return Ok(twin);
            }
        }
    }

    /// Notes on disk what was found.
    pub(super) fn finish(self) {
        self.repository.store.twins(self.threshold).put(&self.new);
    }
}

impl Repository {
    /// The Git twin of a commit: the id that Git itself would give a commit of the same files, messages and parents, where files
    /// of [`Self::large_file_threshold`] bytes and more are pointers of Git LFS. It is an alias for tools that know only such ids.
    ///
    /// It is known at once for commits made by [`Self::create_commit`]; otherwise it is computed, which reads the small files that
    /// the commit and those before it brought, and remembered in a cache that can be deleted.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn twin(&self, commit: Digest) -> Result<GitId> {
        let mut twins = Twins::new(self)?;
        let twin = twins.commit(commit)?;
        twins.finish();
        Ok(twin)
    }

    /// The commits of this repository whose twin this is.
    pub(crate) fn commits_of_twin(&self, twin: GitId, most: usize) -> Result<Vec<Digest>> {
        let find = || -> Result<Vec<Digest>> {
            let mut named = self.twins.commits(twin);
            named.extend(self.store.twins(self.large_file_threshold()?).commits(&twin.0, most));
            named.sort_unstable();
            named.dedup();
            let mut found = Vec::new();
            for id in named {
                // The cache may know commits that were collected.
                found.extend(self.store.locate(&EntryKey::new(EntryKind::Commit, id))?.map(|_| id));
            }
            found.truncate(most);
            Ok(found)
        };
        let found = find()?;
        if !found.is_empty() {
            return Ok(found);
        }
        // Twins that are not known yet are those of the newest commits.
        let mut twins = Twins::new(self)?;
        for named in self.named_refs()? {
            twins.commit(named.commit)?;
        }
        twins.finish();
        find()
    }
}
