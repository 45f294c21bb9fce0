//! What arrives is decoded and hashed before it is kept, on all cores.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use shard_codecs::kernel::{SHA256_LANES, sha256_all};
use shard_codecs::{Block, BlockHeader, CodecError, Encoder, Level};
use shard_core::limits::MAX_BLOCK;
use shard_core::{Digest, Progress};
use shard_store::{EntryKey, EntryKind, EntrySink, PackId, StoreError, Transaction};

use super::SyncProblem;
use super::peer::{Chosen, Supply};
use crate::begun::BegunFiles;
use crate::blocks::{EntryDecoder, StoredEntry};
use crate::error::{RepoError, Result};
use crate::object_cache::{BLOCKS, ObjectCache};

/// The pack of what is in none yet.
const ARRIVING: PackId = PackId::Archive;

/// Bytes that wait for their proof at most, decoded: as many blocks as are hashed at once.
const READY: usize = SHA256_LANES * MAX_BLOCK;
/// The same of what was received, but for the last of it: what waits is lost where the receiver is killed, and sent again. So it is
/// where little was sent for each block that many are hashed at once.
const RECEIVED: usize = MAX_BLOCK;

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
    /// Those of them that are decoded and not proven. That is done for several at once, which takes less time (see [`sha256_all`]).
    ready: Vec<Arrived>,
    ready_bytes: usize,
    /// Bytes of those that are being proven.
    proving_bytes: usize,
    /// Threads that wait for an entry to be kept.
    waiting: usize,
    /// Memory to use again, for what is received and for what that is decoded to.
    spare: [Vec<Vec<u8>>; 2],
    is_over: bool,
}

impl State {
    fn take_ready(&mut self) -> Vec<Arrived> {
        self.proving_bytes += std::mem::take(&mut self.ready_bytes);
        std::mem::take(&mut self.ready)
    }
}

impl Receiving<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, progress: &dyn Progress) -> Result<()> {
        let entries = EntryDecoder::new(self.parcels.nearby().unwrap_or(self.into));
        let outcome = Worker { receiving: self, progress, entries }.run();
        // What came before is kept, whatever became of the last.
        let ready = self.lock().take_ready();
        outcome.and(self.prove(ready, progress))
    }

    /// The next entries that are best read together, each with its number, once they are known to the others; none where there is no more
    /// to do.
    fn take(&self) -> Result<Vec<Taken>> {
        let mut taken = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut run = Vec::new();
        if self.lock().is_over {
            return Ok(run);
        }
        loop {
            let mut stored = self.lock().spare[0].pop().unwrap_or_default();
            let Some(chosen) = self.parcels.next(&mut stored)? else { break };
            *taken += 1;
            // The same one again is decoded again, and put where it is already.
            self.lock().under_way.entry(chosen.key).or_insert(*taken);
            run.push(Taken { number: *taken, chosen, stored });
            if !self.parcels.goes_on() {
                break;
            }
        }
        drop(taken);
        let chosen: Vec<Chosen> = run.iter().map(|taken| taken.chosen).collect();
        let mut stored: Vec<Vec<u8>> = run.iter_mut().map(|taken| std::mem::take(&mut taken.stored)).collect();
        self.parcels.complete(&chosen, &mut stored)?;
        run.iter_mut().zip(stored).for_each(|(taken, stored)| taken.stored = stored);
        Ok(run)
    }

    /// Whether something that an entry leans on was taken before it and is not kept yet.
    fn is_any_coming(state: &State, bases: &[Digest], number: u64) -> bool {
        let before =
            |base: &Digest| state.under_way.get(&EntryKey::block(*base)).is_some_and(|before| *before < number);
        bases.iter().any(before)
    }

    /// Waits until nothing that an entry leans on is still under way; says whether it is worth going on. What is ready is proven first,
    /// and while somebody waits nothing else becomes ready: it is proven at once. So who took an entry waits for others that are being
    /// decoded or proven only, all of which were taken before, and all of them come to an end.
    fn wait_for(&self, bases: &[Digest], number: u64, progress: &dyn Progress) -> Result<bool> {
        let mut state = self.lock();
        while !state.is_over && Self::is_any_coming(&state, bases, number) {
            let ready = state.take_ready();
            if ready.is_empty() {
                state.waiting += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            } else {
                drop(state);
                self.prove(ready, progress)?;
                state = self.lock();
            }
        }
        Ok(!state.is_over)
    }

    /// Memory for a decoded entry, once there is room for more.
    fn room(&self) -> Vec<u8> {
        let mut state = self.lock();
        // Those that are being proven are waited for; what is ready alone is never so much.
        while !state.is_over && state.ready_bytes + state.proving_bytes >= 2 * READY {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.spare[1].pop().unwrap_or_default()
    }

    /// Adds an entry to those that are ready; gives them where they are enough to be proven, or somebody waits.
    fn add(&self, arrived: Arrived) -> Vec<Arrived> {
        let mut state = self.lock();
        state.ready_bytes += arrived.out.len();
        state.ready.push(arrived);
        let received: usize = state.ready.iter().map(|arrived| arrived.stored.len()).sum();
        let is_enough = state.ready.len() >= SHA256_LANES || state.ready_bytes >= READY || received >= RECEIVED;
        if is_enough || state.waiting > 0 { state.take_ready() } else { Vec::new() }
    }

    /// Proves and keeps entries.
    fn prove(&self, mut ready: Vec<Arrived>, progress: &dyn Progress) -> Result<()> {
        if ready.is_empty() {
            return Ok(());
        }
        let bytes: usize = ready.iter().map(|arrived| arrived.out.len()).sum();
        let found = sha256_all(&ready.iter().map(|arrived| &arrived.out[..]).collect::<Vec<_>>());
        let keep = |(arrived, found): (&mut Arrived, Digest)| {
            self.keep(arrived, found)?;
            progress.advance(arrived.stored.len() as u64);
            Ok(())
        };
        // One that is not what it should be is no harm to the others.
        let kept: Vec<Result<()>> = ready.iter_mut().zip(found).map(keep).collect();
        let mut state = self.lock();
        state.proving_bytes -= bytes;
        for Arrived { stored, out, .. } in ready {
            state.spare[0].push(stored);
            state.spare[1].push(out);
        }
        self.changed.notify_all();
        kept.into_iter().collect()
    }

    /// Keeps an entry whose decoded bytes have this SHA-256.
    fn keep(&self, arrived: &mut Arrived, found: Digest) -> Result<()> {
        let Arrived { key, is_base, stored, header, bases, out } = arrived;
        let key = *key;
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

/// An entry as it came, and the how manieth it is.
struct Taken {
    number: u64,
    chosen: Chosen,
    stored: Vec<u8>,
}

/// An entry that is decoded.
struct Arrived {
    key: EntryKey,
    is_base: bool,
    stored: Vec<u8>,
    header: BlockHeader,
    bases: Vec<Digest>,
    /// Its decoded bytes.
    out: Vec<u8>,
}

/// One thread.
struct Worker<'r, 'a> {
    receiving: &'r Receiving<'a>,
    progress: &'r dyn Progress,
    entries: EntryDecoder<'a>,
}

impl Worker<'_, '_> {
    fn run(&mut self) -> Result<()> {
        loop {
            let run = self.receiving.take()?;
            if run.is_empty() {
                return Ok(());
            }
            for taken in run {
                let Some(arrived) = self.decode(taken)? else { return Ok(()) };
                let ready = self.receiving.add(arrived);
                self.receiving.prove(ready, self.progress)?;
            }
        }
    }

    /// Decodes an entry, which is not proven by that; `None` where it is not worth going on.
    fn decode(&mut self, taken: Taken) -> Result<Option<Arrived>> {
        let Taken { number, chosen: Chosen { key, is_base }, stored } = taken;
        let receiving = self.receiving;
        let undecodable = |source: CodecError| SyncProblem::Undecodable { key, why: source.to_string() };
        let (header, _) = BlockHeader::read(&stored).map_err(undecodable)?;
        let bases = header.base.as_ref().map(|base| base.blocks()).unwrap_or_default();
        if !receiving.wait_for(&bases, number, self.progress)? {
            return Ok(None);
        }
        let mut out = receiving.room();
        let at_hand: Vec<(Digest, Arc<Vec<u8>>)> =
            bases.iter().filter_map(|id| Some((*id, receiving.decoded.block(*id)?))).collect();
        let find = |id: &Digest| at_hand.iter().find(|(other, _)| other == id).map(|(_, bytes)| &bytes[..]);
        let raw_len = u64::from(header.raw_len);
        let entry = StoredEntry { key: &key, pack: ARRIVING, stored: &stored, raw_len };
        self.entries.decode(entry, find, &mut out).map_err(|error| match error {
            RepoError::Decode { pack: ARRIVING, source, .. } => undecodable(source).into(),
            error => error,
        })?;
        Ok(Some(Arrived { key, is_base, stored, header, bases, out }))
    }
}
