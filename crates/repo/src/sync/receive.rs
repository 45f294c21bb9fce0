//! What arrives is decoded and hashed before it is kept, on all cores.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use shard_codecs::kernel::sha256_pair;
use shard_codecs::{Block, BlockHeader, CodecError, Encoder, Level};
use shard_core::{Digest, Progress, sha256};
use shard_store::{EntryKey, EntryKind, EntrySink, PackId, StoreError, Transaction};

use super::SyncProblem;
use super::peer::{Chosen, Supply};
use crate::begun::BegunFiles;
use crate::blocks::{EntryDecoder, StoredEntry};
use crate::error::{RepoError, Result};
use crate::object_cache::{BLOCKS, ObjectCache};

/// The pack of what is in none yet.
const ARRIVING: PackId = PackId::Archive;

/// Takes entries into a transaction, each proven by its id first. Blocks of files that are begun are written there as well.
///
/// # Errors
/// [`RepoError::WrongBytes`] and what else says that an entry is not what it should be; it is not kept then, nor is what leans on it.
pub(crate) fn receive(
    parcels: &dyn Supply,
    into: &Transaction,
    begun: Option<&BegunFiles>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let receiving = Receiving {
        parcels,
        into,
        begun,
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
    begun: Option<&'a BegunFiles>,
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
        let entries = EntryDecoder::new(self.parcels.nearby().unwrap_or(self.into));
        let mut worker = Worker { receiving: self, progress, entries, arrived: Default::default(), filled: 0 };
        let outcome = worker.run();
        // What came before is kept, whatever became of the last.
        let kept = worker.keep();
        outcome.and(kept)
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

    /// Whether something that an entry leans on was taken before it and is not kept yet.
    fn is_any_coming(state: &State, bases: &[Digest], number: u64) -> bool {
        let before =
            |base: &Digest| state.under_way.get(&EntryKey::block(*base)).is_some_and(|before| *before < number);
        bases.iter().any(before)
    }

    /// Waits until nothing that an entry leans on is still under way; says whether it is worth going on. Who took an entry never
    /// waits for one that was taken later, nor while another one of his is decoded and not kept, so all of them come to an end.
    fn wait_for(&self, bases: &[Digest], number: u64) -> bool {
        let mut state = self.lock();
        while !state.is_over && Self::is_any_coming(&state, bases, number) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.is_over
    }

    /// Keeps an entry whose decoded bytes have this SHA-256.
    fn keep(&self, arrived: &mut Arrived, found: Digest) -> Result<()> {
        let Arrived { key, is_base, stored, header, bases, out } = arrived;
        let (Some(key), Some(header)) = (key.take(), header.take()) else { return Ok(()) };
        if found != key.id {
            return Err(RepoError::WrongBytes { key, found });
        }
        let raw_len = u64::from(header.raw_len);
        match self.into.put(&key, stored, raw_len, bases) {
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
        let begun = self.begun.filter(|_| key.kind == EntryKind::Block);
        let mut copy = begun.filter(|begun| *is_base && begun.has(&key.id)).map(|_| out.clone());
        if *is_base {
            self.decoded.put_block(key.id, &Arc::new(std::mem::take(out)));
        }
        self.lock().under_way.remove(&key);
        self.changed.notify_all();
        begun.map_or(Ok(()), |begun| begun.write(key.id, copy.as_mut().unwrap_or(out)))
    }
}

/// An entry that was taken. Its memory is used again.
#[derive(Default)]
struct Arrived {
    /// Which it is, until it is kept.
    key: Option<EntryKey>,
    is_base: bool,
    stored: Vec<u8>,
    header: Option<BlockHeader>,
    bases: Vec<Digest>,
    /// Its decoded bytes.
    out: Vec<u8>,
}

/// One thread. Entries are hashed by twos, which takes little longer than one (see [`sha256_pair`]): the first is decoded, and waits
/// for the second.
struct Worker<'r, 'a> {
    receiving: &'r Receiving<'a>,
    progress: &'r dyn Progress,
    entries: EntryDecoder<'a>,
    arrived: [Arrived; 2],
    /// How many of them are decoded and not kept.
    filled: usize,
}

impl Worker<'_, '_> {
    fn run(&mut self) -> Result<()> {
        while self.take()? {
            self.filled += 1;
            if self.filled == self.arrived.len() {
                self.keep()?;
            }
        }
        Ok(())
    }

    /// Takes and decodes the next entry; `false` where there is none, or it is not worth going on.
    fn take(&mut self) -> Result<bool> {
        let receiving = self.receiving;
        let arrived = &mut self.arrived[self.filled];
        let Some((number, chosen)) = receiving.take(&mut arrived.stored)? else { return Ok(false) };
        let key = chosen.key;
        receiving.parcels.complete(&chosen, &mut arrived.stored)?;
        let undecodable = |source: CodecError| SyncProblem::Undecodable { key, why: source.to_string() };
        let (header, _) = BlockHeader::read(&arrived.stored).map_err(undecodable)?;
        arrived.bases = header.base.as_ref().map(|base| base.blocks()).unwrap_or_default();
        if self.filled > 0 && Receiving::is_any_coming(&receiving.lock(), &arrived.bases, number) {
            // Others may be waiting for the one before.
            self.keep()?;
            self.arrived.swap(0, 1);
        }
        let Arrived { stored, bases, out, .. } = &mut self.arrived[self.filled];
        if !receiving.wait_for(bases, number) {
            return Ok(false);
        }
        let at_hand: Vec<(Digest, Arc<Vec<u8>>)> =
            bases.iter().filter_map(|id| Some((*id, receiving.decoded.block(*id)?))).collect();
        let find = |id: &Digest| at_hand.iter().find(|(other, _)| other == id).map(|(_, bytes)| &bytes[..]);
        let raw_len = u64::from(header.raw_len);
        let entry = StoredEntry { key: &key, pack: ARRIVING, stored, raw_len };
        self.entries.decode(entry, find, out).map_err(|error| match error {
            RepoError::Decode { pack: ARRIVING, source, .. } => undecodable(source).into(),
            error => error,
        })?;
        let arrived = &mut self.arrived[self.filled];
        (arrived.key, arrived.header, arrived.is_base) = (Some(key), Some(header), chosen.is_base);
        Ok(true)
    }

    /// Proves and keeps what is decoded.
    fn keep(&mut self) -> Result<()> {
        let arrived = &mut self.arrived[..std::mem::take(&mut self.filled)];
        let found = match &*arrived {
            [first, second] => sha256_pair(&first.out, &second.out).to_vec(),
            rest => rest.iter().map(|arrived| sha256(&arrived.out)).collect(),
        };
        let keep = |(arrived, found): (&mut Arrived, Digest)| {
            self.receiving.keep(arrived, found)?;
            self.progress.advance(arrived.stored.len() as u64);
            Ok(())
        };
        // One that is not what it should be is no harm to the other.
        arrived.iter_mut().zip(found).map(keep).collect::<Vec<Result<()>>>().into_iter().collect()
    }
}
