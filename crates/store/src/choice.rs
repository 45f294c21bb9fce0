//! One copy of each entry: those that stay when all others go.

use std::cmp::Reverse;

use shard_core::limits::MAX_DEPTH;

use crate::entry::{EntryKey, EntrySource, Location};
use crate::error::StoreError;
use crate::inventory::Inventory;
use crate::lean::{self, NONE};
use crate::store::Store;

/// For each entry of an inventory a copy, such that all of them together can be decoded with nothing else: each leans only on
/// entries that are less deep, and none is deeper than readers follow, as far as the store allows.
///
/// As a source it finds these copies alone.
pub struct Choice<'a> {
    store: &'a Store,
    inventory: &'a Inventory,
    copies: Vec<u32>,
    depths: Vec<u32>,
}

impl<'a> Choice<'a> {
    /// Chooses: of each entry the smallest copy, of equal ones the least deep, then that in the pack with the least `rank`, then that
    /// in the largest one. Where those cannot be decoded together (`lean.rs`), the least deep one, as readers do.
    /// Copies in packs that are `avoided` are chosen only where an entry could not be decoded otherwise, or would be too deep.
    ///
    /// `avoided` and `rank` are by the numbers of packs.
    #[must_use]
    pub fn new(store: &'a Store, inventory: &'a Inventory, avoided: &[bool], rank: &[u64]) -> Self {
        let is_avoided = |copy: usize| avoided.get(inventory.pack_of(copy as u32) as usize).copied().unwrap_or(false);
        // What is in large packs stays, so that small ones that were put together get empty.
        let size = |pack: u32| inventory.packs().get(pack as usize).map_or(0, |pack| pack.size);
        let order_of = |pack: u32| (rank.get(pack as usize).copied().unwrap_or(0), Reverse(size(pack)), pack);
        let mut settled: Vec<Option<u32>> = vec![None; inventory.len()];
        let mut depths = inventory.copies.resolve(&mut settled, |copy| !is_avoided(copy));
        if avoided.contains(&true) {
            let is_bad = |depth: &Option<u32>| depth.is_none_or(|depth| depth > MAX_DEPTH);
            for depth in settled.iter_mut().filter(|depth| is_bad(depth)) {
                *depth = None;
            }
            // What is left, on top of that.
            let first = settled.clone();
            let more = inventory.copies.resolve(&mut settled, |_| true);
            for (copy, depth) in depths.iter_mut().enumerate() {
                if first[inventory.copies.entry(copy) as usize].is_none() {
                    *depth = more[copy];
                }
            }
            if settled.iter().any(is_bad) {
                let mut least: Vec<Option<u32>> = vec![None; inventory.len()];
                let all = inventory.copies.resolve(&mut least, |_| true);
                if settled.iter().zip(&least).any(|(settled, least)| is_bad(settled) && !is_bad(least)) {
                    (settled, depths) = (least, all);
                }
            }
        }
        let safe = (0..inventory.len() as u32).map(|entry| {
            let depth = settled[entry as usize];
            let copies = inventory.copies(entry).filter(|copy| depth.is_some() && depths[*copy as usize] == depth);
            let by_rank = |copy: &u32| {
                let pack = inventory.pack_of(*copy);
                (is_avoided(*copy as usize), order_of(pack))
            };
            copies.min_by_key(by_rank).unwrap_or(NONE)
        });
        let safe: Vec<u32> = safe.collect();
        // What counts on no pack that is avoided goes on doing so.
        let is_free =
            |entry: u32| safe.get(entry as usize).is_some_and(|copy| *copy != NONE && !is_avoided(*copy as usize));
        let small = (0..inventory.len() as u32).map(|entry| {
            let now = safe[entry as usize];
            let fits = |copy: &u32| {
                let bases = inventory.copies.bases(*copy as usize);
                let is_shallow = depths[*copy as usize].is_some_and(|depth| depth <= MAX_DEPTH);
                is_shallow && !is_avoided(*copy as usize) && bases.iter().all(|base| is_free(*base))
            };
            let by_size = |copy: &u32| {
                let pack = inventory.pack_of(*copy);
                (inventory.bytes(*copy), depths[*copy as usize], order_of(pack))
            };
            let others = inventory.copies(entry).filter(|copy| is_free(entry) && fits(copy));
            others.min_by_key(by_size).unwrap_or(now)
        });
        let small = small.collect();
        let (copies, settled) = lean::choose(&inventory.copies, &safe, small, MAX_DEPTH);
        let depths = settled.into_iter().map(|depth| depth.unwrap_or(NONE)).collect();
        Self { store, inventory, copies, depths }
    }

    /// The inventory that was chosen from.
    #[must_use]
    pub fn inventory(&self) -> &'a Inventory {
        self.inventory
    }

    /// The copy of an entry that was chosen; `None` where none can be decoded.
    #[must_use]
    pub fn copy(&self, entry: u32) -> Option<u32> {
        self.copies.get(entry as usize).copied().filter(|copy| *copy != NONE)
    }

    /// How many bases have to be decoded one after the other before an entry can be.
    #[must_use]
    pub fn depth(&self, entry: u32) -> Option<u32> {
        self.depths.get(entry as usize).copied().filter(|depth| *depth != NONE)
    }

    /// Where the chosen copy of an entry is.
    #[must_use]
    pub fn location(&self, entry: u32) -> Option<Location> {
        Some(self.inventory.location(entry, self.copy(entry)?, self.depth(entry)?))
    }
}

impl EntrySource for Choice<'_> {
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>, StoreError> {
        Ok(self.inventory.find(key).and_then(|entry| self.location(entry)))
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.store.read_stored(location, out)
    }

    fn is_partial(&self) -> bool {
        self.store.is_partial()
    }

    fn forget(&self, location: &Location) -> Result<(), StoreError> {
        self.store.forget(location)
    }
}
