//! In which order a verification decodes blocks: trees of those that lean on each other, and the paths through them.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shard_core::Digest;
use shard_core::limits::MAX_DEPTH;
use shard_store::{EntryKind, EntryList};

use super::structure::ReachedFile;
use crate::error::Result;

/// No number of a block or file.
pub(super) const NONE: u32 = u32::MAX;

/// The blocks, numbered in the order of their ids.
pub(super) struct Blocks {
    pub(super) ids: Vec<Digest>,
    pub(super) lens: Vec<u32>,
    /// The block that each hangs on.
    pub(super) parents: Vec<u32>,
    /// The first block that hangs on each, and the next one that hangs on the same.
    first_child: Vec<u32>,
    next_sibling: Vec<u32>,
    /// Where in `uses` those of each block begin; one more than there are blocks.
    use_starts: Vec<u32>,
    /// Files and the places in them.
    uses: Vec<(u32, u32)>,
}

impl Blocks {
    pub(super) fn new(source: &dyn EntryList, files: &[ReachedFile]) -> Result<Self> {
        let (mut ids, mut lens, mut depths, mut all_bases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        source.each_best(EntryKind::Block, &mut |copy| {
            // The others are known to be broken.
            if copy.is_decodable && copy.location.depth <= MAX_DEPTH {
                ids.push(copy.location.key.id);
                lens.push(u32::try_from(copy.location.raw_len).unwrap_or(u32::MAX));
                depths.push(copy.location.depth);
                all_bases.push(copy.bases.into_boxed_slice());
            }
        })?;
        let find = |id: &Digest| ids.binary_search(id).ok();
        let count = ids.len();
        let (mut parents, mut first_child, mut next_sibling) =
            (vec![NONE; count], vec![NONE; count], vec![NONE; count]);
        for (block, bases) in all_bases.iter().enumerate() {
            // Of several the deepest: that leans on the others, as writers have it.
            let parent = bases.iter().filter_map(find).filter(|base| depths[*base] < depths[block]);
            if let Some(parent) = parent.max_by_key(|base| depths[*base]) {
                parents[block] = parent as u32;
                next_sibling[block] = std::mem::replace(&mut first_child[parent], block as u32);
            }
        }
        let mut use_starts = vec![0u32; count + 1];
        let places = |each: &mut dyn FnMut(usize, u32, u32)| {
            for (file, reached) in files.iter().enumerate().filter(|(_, file)| !file.is_compressed) {
                for (place, id) in reached.blocks.iter().enumerate().filter(|_| reached.blocks.len() > 1) {
                    if let Some(block) = find(id) {
                        each(block, file as u32, place as u32);
                    }
                }
            }
        };
        places(&mut |block, _, _| use_starts[block + 1] += 1);
        for block in 0..count {
            use_starts[block + 1] += use_starts[block];
        }
        let mut uses = vec![(0, 0); use_starts.last().map_or(0, |end| *end as usize)];
        let mut ends = use_starts.clone();
        places(&mut |block, file, place| {
            uses[ends[block] as usize] = (file, place);
            ends[block] += 1;
        });
        Ok(Self { ids, lens, parents, first_child, next_sibling, use_starts, uses })
    }

    pub(super) fn find(&self, id: &Digest) -> Option<usize> {
        self.ids.binary_search(id).ok()
    }

    pub(super) fn uses(&self, block: usize) -> &[(u32, u32)] {
        &self.uses[self.use_starts[block] as usize..self.use_starts[block + 1] as usize]
    }

    /// The keyframes, in the order in which files need what hangs on them; then the others.
    pub(super) fn roots(&self, files: &[ReachedFile]) -> Vec<u32> {
        let mut taken = vec![false; self.ids.len()];
        let mut roots = Vec::new();
        let mut take = |mut block: usize| {
            while self.parents[block] != NONE {
                block = self.parents[block] as usize;
            }
            if !std::mem::replace(&mut taken[block], true) {
                roots.push(block as u32);
            }
        };
        files.iter().flat_map(|file| &file.blocks).filter_map(|id| self.find(id)).for_each(&mut take);
        (0..self.ids.len()).for_each(take);
        roots
    }

    /// The blocks of a tree, each after the one that it hangs on, without branches of which `is_done` is true throughout.
    pub(super) fn tree(&self, root: u32, is_done: impl Fn(usize) -> bool) -> Vec<u32> {
        let (mut order, mut open) = (Vec::new(), vec![root]);
        while let Some(block) = open.pop() {
            order.push(block);
            let mut child = self.first_child[block as usize];
            while child != NONE {
                open.push(child);
                child = self.next_sibling[child as usize];
            }
        }
        let mut needed: HashSet<u32> = HashSet::new();
        for block in order.iter().rev() {
            if needed.contains(block) || !is_done(*block as usize) {
                needed.insert(*block);
                needed.insert(self.parents[*block as usize]);
            }
        }
        order.retain(|block| needed.contains(block));
        order
    }
}

/// The blocks between the keyframe and the one that is being decoded.
#[derive(Default)]
pub(super) struct Path {
    pub(super) blocks: Vec<(u32, Vec<u8>)>,
    pub(super) spare: Vec<Vec<u8>>,
}

impl Path {
    /// Goes back until `parent` is the last.
    pub(super) fn cut(&mut self, parent: u32) {
        while self.blocks.last().is_some_and(|(block, _)| *block != parent) {
            self.spare.extend(self.blocks.pop().map(|(_, bytes)| bytes));
        }
    }

    pub(super) fn get(&self, block: u32) -> Option<&[u8]> {
        self.blocks.iter().rev().find(|(other, _)| *other == block).map(|(_, bytes)| &bytes[..])
    }
}

/// Trees that are begun and not done, by number. Only the first of them never waits for another, so that all come to an end.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<BTreeSet<usize>>);

/// A tree that is under way, until it is dropped.
pub(super) struct Turn<'a> {
    pub(super) number: usize,
    all: &'a UnderWay,
}

impl UnderWay {
    pub(super) fn begin(&self, next: &AtomicUsize) -> Turn<'_> {
        let mut all = lock(&self.0);
        let number = next.fetch_add(1, Ordering::Relaxed);
        all.insert(number);
        Turn { number, all: self }
    }
}

impl Turn<'_> {
    pub(super) fn is_first(&self) -> bool {
        lock(&self.all.0).first() == Some(&self.number)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.all.0).remove(&self.number);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
