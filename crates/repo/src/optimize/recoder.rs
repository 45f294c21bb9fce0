//! A store in which nothing is until it was decided how it is kept: blocks are encoded as if they came for the first time, and
//! what is here already stays where that is no larger.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shard_core::Digest;
use shard_core::limits::MAX_DEPTH;
use shard_store::{EntryKey, EntryKind, EntrySink, EntrySource, Location, PackId, StoreError, Transaction};

use crate::blocks::block_key;

type Result<T> = std::result::Result<T, StoreError>;

/// What is decided so far. Each copy leans only on what was decided before it, so there is no circle; how deep it is then is
/// counted along the copies that were decided on, whatever else is there.
pub(super) struct Recoder<'a> {
    transaction: &'a Transaction,
    /// Lengths of the packs.
    packs: HashMap<Digest, u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    decided: HashMap<Digest, Location>,
    written: u64,
}

impl<'a> Recoder<'a> {
    pub(super) fn new(transaction: &'a Transaction) -> Result<Self> {
        let packs = transaction.store().packs()?.into_iter().map(|pack| (pack.id, pack.size)).collect();
        Ok(Self { transaction, packs, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a block is kept, where that was decided.
    pub(super) fn decided(&self, id: &Digest) -> Option<Location> {
        self.lock().decided.get(id).copied()
    }

    /// Blocks that were written anew.
    pub(super) fn written(&self) -> u64 {
        self.lock().written
    }

    /// The copies of a block and what each leans on, the one first that should stay: see [`shard_store::Choice`].
    pub(super) fn copies(&self, key: &EntryKey) -> Result<Vec<(Location, Vec<Digest>)>> {
        let mut copies = self.transaction.store().copies_and_bases(key)?;
        let size = |location: &Location| match location.pack {
            PackId::Sealed(pack) => self.packs.get(&pack).copied().unwrap_or_default(),
            _ => 0,
        };
        copies.sort_by_key(|(copy, _)| (copy.stored_len, copy.depth, std::cmp::Reverse(size(copy))));
        Ok(copies)
    }

    /// Decides that a block stays as it is, with all that its copy leans on; says whether it can.
    pub(super) fn keep(&self, id: Digest) -> Result<bool> {
        self.keep_within(id, u64::MAX, MAX_DEPTH)
    }

    /// The same for a copy of at most so many bytes.
    fn keep_within(&self, id: Digest, most: u64, depth_left: u32) -> Result<bool> {
        if self.decided(&id).is_some() {
            return Ok(true);
        }
        'copies: for (copy, bases) in self.copies(&block_key(id))? {
            if copy.stored_len > most {
                continue;
            }
            let mut depth = 0;
            for base in bases {
                // Copies that lean on each other come to an end here.
                if depth_left == 0 || !self.keep_within(base, u64::MAX, depth_left - 1)? {
                    continue 'copies;
                }
                depth = depth.max(self.decided(&base).map_or(0, |base| base.depth) + 1);
            }
            if depth <= MAX_DEPTH {
                // A circle may have come back to this block, and decided it.
                self.lock().decided.entry(id).or_insert(Location { depth, ..copy });
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl EntrySource for Recoder<'_> {
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>> {
        if key.kind == EntryKind::Block { Ok(self.decided(&key.id)) } else { self.transaction.locate(key) }
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<()> {
        self.transaction.read_stored(location, out)
    }

    fn read(&self, key: &EntryKey, out: &mut Vec<u8>) -> Result<Location> {
        if key.kind != EntryKind::Block {
            return self.transaction.read(key, out);
        }
        let location = self.decided(&key.id).ok_or(StoreError::Missing(*key))?;
        self.read_stored(&location, out)?;
        Ok(location)
    }
}

impl EntrySink for Recoder<'_> {
    fn put(&self, key: &EntryKey, stored: &[u8], raw_len: u64, bases: &[Digest]) -> Result<()> {
        if key.kind != EntryKind::Block {
            return self.transaction.put(key, stored, raw_len, bases);
        }
        if self.keep_within(key.id, stored.len() as u64, MAX_DEPTH)? {
            return Ok(());
        }
        let mut depth = 0;
        for base in bases {
            let missing = StoreError::MissingBase { key: *key, base: *base };
            depth = depth.max(self.decided(base).ok_or(missing)?.depth + 1);
        }
        if depth > MAX_DEPTH {
            return Err(StoreError::TooDeep { key: *key, depth });
        }
        self.transaction.put_copy(key, stored, raw_len, bases)?;
        let location = self.transaction.locate(key)?.ok_or(StoreError::Missing(*key))?;
        let mut state = self.lock();
        state.decided.insert(key.id, Location { depth, ..location });
        state.written += 1;
        Ok(())
    }
}
