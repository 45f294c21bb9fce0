//! What was read and proven once, decoded: commits, trees and manifests, and blocks of files that are read in parts, each up to
//! a limit on their memory.
//!
//! An id names the same bytes for ever, so nothing here is ever out of date. What checks the store itself reads past it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shard_core::Digest;
use shard_history::{Commit, Tree};
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind};

/// Bytes of memory that objects may take in each of the two generations, about.
pub(crate) const OBJECTS: usize = 12 << 20;
/// The same of blocks: a generation has 16 of the largest ones, and the memory of as many is used again.
pub(crate) const BLOCKS: usize = 64 << 20;

#[derive(Clone)]
enum Object {
    Commit(Arc<Commit>),
    Tree(Arc<Tree>),
    Manifest(Arc<ContentManifest>),
    Block(Arc<Vec<u8>>),
}

/// Two generations: what is used moves to the younger one; when that is full, the older one goes.
pub(crate) struct ObjectCache(Mutex<Generations>);

struct Generations {
    /// Bytes that each may have.
    limit: usize,
    young: HashMap<EntryKey, (Object, usize)>,
    old: HashMap<EntryKey, (Object, usize)>,
    /// Bytes of the young ones.
    bytes: usize,
    /// Memory of blocks that went: to write into memory that the system has just given takes several times as long.
    spare: Vec<Vec<u8>>,
}

impl ObjectCache {
    /// A cache of two generations of so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Mutex::new(Generations { limit, young: HashMap::new(), old: HashMap::new(), bytes: 0, spare: Vec::new() }))
    }

    pub(crate) fn commit(&self, id: Digest) -> Option<Arc<Commit>> {
        match self.get(&EntryKey::new(EntryKind::Commit, id)) {
            Some(Object::Commit(commit)) => Some(commit),
            _ => None,
        }
    }

    pub(crate) fn put_commit(&self, id: Digest, commit: &Arc<Commit>) {
        let bytes = 400 + commit.message.len() + 32 * commit.parents.len() + 1000 * commit.records.len();
        self.put(EntryKey::new(EntryKind::Commit, id), Object::Commit(Arc::clone(commit)), bytes);
    }

    pub(crate) fn tree(&self, id: Digest) -> Option<Arc<Tree>> {
        match self.get(&EntryKey::new(EntryKind::Tree, id)) {
            Some(Object::Tree(tree)) => Some(tree),
            _ => None,
        }
    }

    pub(crate) fn put_tree(&self, id: Digest, tree: &Arc<Tree>) {
        let bytes = 200 + tree.entries.keys().map(|name| 140 + name.len()).sum::<usize>();
        self.put(EntryKey::new(EntryKind::Tree, id), Object::Tree(Arc::clone(tree)), bytes);
    }

    pub(crate) fn manifest(&self, id: Digest) -> Option<Arc<ContentManifest>> {
        match self.get(&EntryKey::new(EntryKind::Manifest, id)) {
            Some(Object::Manifest(manifest)) => Some(manifest),
            _ => None,
        }
    }

    pub(crate) fn put_manifest(&self, id: Digest, manifest: &Arc<ContentManifest>) {
        let blocks: usize = manifest.segments.iter().map(|segment| 48 + 36 * segment.blocks.len()).sum();
        let bytes = 400 + blocks + 200 * manifest.tensors.len();
        self.put(EntryKey::new(EntryKind::Manifest, id), Object::Manifest(Arc::clone(manifest)), bytes);
    }

    pub(crate) fn block(&self, id: Digest) -> Option<Arc<Vec<u8>>> {
        match self.get(&EntryKey::block(id)) {
            Some(Object::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// A buffer for a block of so many bytes, with whatever in it.
    pub(crate) fn buffer(&self, len: u64) -> Vec<u8> {
        let spare = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).spare;
        // A small block must not keep the memory of a large one.
        let fits = |buffer: &Vec<u8>| (len..=2 * len).contains(&(buffer.capacity() as u64));
        spare.iter().position(fits).map(|at| spare.swap_remove(at)).unwrap_or_default()
    }

    pub(crate) fn put_block(&self, id: Digest, block: &Arc<Vec<u8>>) {
        self.put(EntryKey::block(id), Object::Block(Arc::clone(block)), 200 + block.len());
    }

    fn get(&self, key: &EntryKey) -> Option<Object> {
        let generations = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((object, _)) = generations.young.get(key) {
            return Some(object.clone());
        }
        let (object, bytes) = generations.old.remove(key)?;
        generations.keep(*key, object.clone(), bytes);
        Some(object)
    }

    fn put(&self, key: EntryKey, object: Object, bytes: usize) {
        let generations = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that would push out all others is read again instead.
        if bytes <= generations.limit / 4 {
            generations.keep(key, object, bytes);
        }
    }
}

impl Generations {
    fn keep(&mut self, key: EntryKey, object: Object, bytes: usize) {
        if self.bytes + bytes > self.limit {
            let gone = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.bytes = 0;
            let block = |object| match object {
                Object::Block(block) => Arc::into_inner(block),
                _ => None,
            };
            // As many as one generation had.
            self.spare = gone.into_values().filter_map(|(object, _)| block(object)).collect();
        }
        if self.young.insert(key, (object, bytes)).is_none() {
            self.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;

    use super::*;

    #[test]
    fn the_memory_of_blocks_that_went_is_used_for_others_of_their_size() {
        let cache = ObjectCache::new(2000);
        assert_eq!(cache.buffer(100).capacity(), 0);
        for number in 0..20u8 {
            cache.put_block(sha256(&[number]), &Arc::new(vec![number; 100]));
        }
        let held = cache.block(sha256(&[19])).unwrap();
        assert_eq!(cache.buffer(10).capacity(), 0, "a small one would hold more than it has");
        assert_eq!(cache.buffer(101).capacity(), 0);
        let buffer = cache.buffer(60);
        assert_eq!(buffer.capacity(), 100);
        assert!(*held == [19; 100] && !buffer.contains(&19), "nobody else has it");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let cache = ObjectCache::new(OBJECTS);
        let commit = Arc::new(Commit {
            tree: sha256(b""),
            parents: Vec::new(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            author: None,
            message: "x".repeat(1 << 20),
            records: Vec::new(),
            extra: Default::default(),
        });
        let id = |number: u32| sha256(&number.to_le_bytes());
        for number in 0..100 {
            cache.put_commit(id(number), &commit);
            assert!(cache.commit(id(0)).is_some(), "{number}");
        }
        let kept = (0..100).filter(|number| cache.commit(id(*number)).is_some()).count();
        assert!((12..=24).contains(&kept), "{kept} MiB");
        assert!(cache.tree(id(99)).is_none());
    }
}
