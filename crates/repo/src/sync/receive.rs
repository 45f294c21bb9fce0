//! What arrives is decoded and hashed before it is kept, on all cores.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use shard_codecs::{Block, BlockHeader, CodecError, Encoder, Level};
use shard_core::{Digest, Progress, sha256};
use shard_store::{EntryKey, EntrySink, PackId, StoreError, Transaction};

use super::SyncProblem;
use super::peer::{Chosen, Supply};
use crate::blocks::{EntryDecoder, StoredEntry};
use crate::error::{RepoError, Result};
use crate::object_cache::{BLOCKS, ObjectCache};

/// The pack of what is in none yet.
const ARRIVING: PackId = PackId::Archive;

/// Takes entries into a transaction, each proven by its id first.
///
/// # Errors
/// [`RepoError::WrongBytes`] and what else says that an entry is not what it should be; it is not kept then, nor is what leans on it.
pub(crate) fn receive(parcels: &dyn Supply, into: &Transaction, threads: usize, progress: &dyn Progress) -> Result<()> {
    let receiving = Receiving {
        parcels,
        into,
        taking: Mutex::default(),
        decoded: ObjectCache::new(BLOCKS),
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    let run = || {
        let mut over = OverUnlessDone { receiving: &receiving, is_done: false };
        let outcome = receiving.work(progress);
        over.is_done = outcome.is_ok();
        outcome
    };
    // Each completes an entry and then proves it: where completing is mostly waiting, more are under way.
    let threads = threads.max(parcels.at_once());
    let outcome: Result<Vec<()>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // All of them have to be over before the first error is given.
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    });
    outcome.map(drop)
}

struct Receiving<'a> {
    parcels: &'a dyn Supply,
    into: &'a Transaction,
    /// Held by who takes the next entry: how many were taken.
    taking: Mutex<u64>,
    /// Blocks that others lean on, those that were decoded last.
    decoded: ObjectCache,
    state: Mutex<State>,
    changed: Condvar,
}

/// Tells the others that it is over, also where a worker panics: they may be waiting for what it took.
struct OverUnlessDone<'r, 'a> {
    receiving: &'r Receiving<'a>,
    is_done: bool,
}

impl Drop for OverUnlessDone<'_, '_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.receiving.lock().is_over = true;
            self.receiving.changed.notify_all();
        }
    }
}

#[derive(Default)]
struct State {
    /// Entries that were taken and not kept yet: the how manieth they are.
    under_way: HashMap<EntryKey, u64>,
    is_over: bool,
}

impl Receiving<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, progress: &dyn Progress) -> Result<()> {
        let mut entries = EntryDecoder::new(self.into);
        let (mut stored, mut out) = (Vec::new(), Vec::new());
        while let Some((number, chosen)) = self.take(&mut stored)? {
            self.parcels.complete(&chosen, &mut stored)?;
            if !self.keep(number, &chosen, &mut entries, &stored, &mut out)? {
                break;
            }
            self.lock().under_way.remove(&chosen.key);
            self.changed.notify_all();
            progress.advance(stored.len() as u64);
        }
        Ok(())
    }

    /// The next entry and its number, once it is known to the others; `None` where there is no more to do.
    fn take(&self, stored: &mut Vec<u8>) -> Result<Option<(u64, Chosen)>> {
        let mut taken = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().is_over {
            return Ok(None);
        }
        let Some(chosen) = self.parcels.next(stored)? else { return Ok(None) };
        *taken += 1;
        // The same one again is decoded again, and put where it is already.
        self.lock().under_way.entry(chosen.key).or_insert(*taken);
        Ok(Some((*taken, chosen)))
    }

    /// Waits until nothing that an entry leans on is still under way; says whether it is worth going on. Who took an entry never
    /// waits for one that was taken later, so all of them come to an end.
    fn wait_for(&self, bases: &[Digest], number: u64) -> bool {
        let mut state = self.lock();
        loop {
            let is_coming =
                |base: &Digest| state.under_way.get(&EntryKey::block(*base)).is_some_and(|before| *before < number);
            if state.is_over || !bases.iter().any(is_coming) {
                return !state.is_over;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Proves an entry and keeps it; says whether it is worth going on.
    fn keep(
        &self,
        number: u64,
        chosen: &Chosen,
        entries: &mut EntryDecoder<'_>,
        stored: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let key = chosen.key;
        let undecodable = |source: CodecError| SyncProblem::Undecodable { key, why: source.to_string() };
        let (header, _) = BlockHeader::read(stored).map_err(undecodable)?;
        let bases = header.base.as_ref().map(|base| base.blocks()).unwrap_or_default();
        if !self.wait_for(&bases, number) {
            return Ok(false);
        }
        let at_hand: Vec<(Digest, Arc<Vec<u8>>)> =
            bases.iter().filter_map(|id| Some((*id, self.decoded.block(*id)?))).collect();
        let find = |id: &Digest| at_hand.iter().find(|(other, _)| other == id).map(|(_, bytes)| &bytes[..]);
        let raw_len = u64::from(header.raw_len);
        entries.decode(StoredEntry { key: &key, pack: ARRIVING, stored, raw_len }, find, out).map_err(|error| {
            match error {
                RepoError::Decode { pack: ARRIVING, source, .. } => undecodable(source).into(),
                error => error,
            }
        })?;
        let found = sha256(out);
        if found != key.id {
            return Err(RepoError::WrongBytes { key, found });
        }
        match self.into.put(&key, stored, raw_len, &bases) {
            // What it leans on is deeper here than there.
            Err(StoreError::TooDeep { .. }) => {
                let mut alone = Vec::new();
                Encoder::new(Level::Default)
                    .encode(&Block { data: out, dtype: header.dtype, rows: None, base: None }, &mut alone)
                    .map_err(|source| RepoError::Encode { path: key.to_string().into(), source })?;
                self.into.put(&key, &alone, raw_len, &[])?;
            }
            outcome => outcome?,
        }
        if chosen.is_base {
            self.decoded.put_block(key.id, &Arc::new(std::mem::take(out)));
        }
        Ok(true)
    }
}
