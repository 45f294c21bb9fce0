//! Writing to a store: entries go to new packs, packs become durable, then refs move.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use shard_core::Digest;
use shard_core::limits::MAX_DEPTH;
use shard_core::text::with_causes;

use crate::backend::{BackendError, Output, Upload};
use crate::depth::Copies;
use crate::entry::{EntryKey, EntryKind, EntrySink, EntrySource, Location, PackId};
use crate::error::{PackError, StoreError};
use crate::index::NewPack;
use crate::lease::{HeldLease, Lease};
use crate::nonce::Nonce;
use crate::pack::{PackReader, PackWriter, pack_name};
use crate::ref_record::{RefState, Target};
use crate::refs::RefError;
use crate::store::Store;

/// A transaction with more closed packs than this makes them durable early. They are named by nothing yet, so nobody sees
/// them but a later writer of the same bytes, who then has less to do.
const MAX_CLOSED: usize = 16;
/// Packs that are sent at the same time, and wait to be, where finishing one is a way over a network. Each is in memory.
const MAX_LEAVING: usize = 4;

/// A ref that a transaction moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The ref's name.
    pub name: String,
    /// The state it must be in; `None`: it must not exist.
    pub expected: Option<RefState>,
    /// What it shall name.
    pub target: Target,
}

/// A writer of a store. It holds a lease until it is dropped, and leaves nothing visible unless it was sealed.
///
/// All methods may be called from any thread.
pub struct Transaction {
    // Before the lease, so that unfinished files go first.
    shared: Arc<Shared>,
    store: Store,
    lease: HeldLease,
    /// Packs that were condemned when the transaction began: they may go at any time.
    condemned: HashSet<Digest>,
    /// Whether any of them is still there, so that blocks of other packs may lean on it.
    collecting: bool,
    salt: Nonce,
    writes: Writes,
    /// Whether packs leave for a store that is far away: each is then finished by a thread of its own, while others are filled.
    is_far: bool,
}

/// What a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// What is new.
    New,
    /// Copies of what is there.
    Copies,
    /// What comes from another repository, and is worth keeping where it ends in the middle.
    Received,
}

/// What a transaction shares with the threads that finish its packs.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A pack has left, or could not.
    left: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        let poisoned = self.state.is_poisoned();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if poisoned {
            state.failed.get_or_insert_with(|| "a thread panicked while writing".to_owned());
        }
        state
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.left.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    /// The packs of the transaction, by number. The last one may still grow.
    packs: Vec<Slot>,
    /// What the transaction wrote.
    entries: HashMap<EntryKey, Location>,
    /// Packs of the store that the transaction counts on.
    relied: HashSet<Digest>,
    /// How deep blocks of the store are without condemned packs; `None` for those that cannot be decoded then.
    sound: HashMap<Digest, Option<u32>>,
    /// Packs that threads are finishing.
    leaving: usize,
    failed: Option<String>,
    /// Why a pack could not leave, until somebody is told.
    undelivered: Option<StoreError>,
}

enum Slot {
    Growing(PackWriter<Box<dyn Upload>>),
    Closed(PackWriter<Box<dyn Upload>>),
    /// With the thread that finishes it. Its bytes cannot be read until then.
    Leaving,
    Sealed(Digest),
}

/// A pack on its way: whatever becomes of the thread that finishes it, others are told.
struct Departure {
    shared: Arc<Shared>,
    number: usize,
    outcome: Option<Result<Digest, StoreError>>,
}

impl Departure {
    fn end(mut self, outcome: Result<Digest, StoreError>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        match self.outcome.take() {
            Some(Ok(id)) => {
                if let Some(slot) = state.packs.get_mut(self.number) {
                    *slot = Slot::Sealed(id);
                }
            }
            Some(Err(error)) => {
                state.failed.get_or_insert_with(|| with_causes(&error));
                state.undelivered.get_or_insert(error);
            }
            None => _ = state.failed.get_or_insert_with(|| "a thread panicked while writing".to_owned()),
        }
        state.leaving -= 1;
        drop(state);
        self.shared.left.notify_all();
    }
}

impl State {
    fn check(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some(problem) => Err(StoreError::Poisoned(problem.clone())),
            None => Ok(()),
        }
    }

    /// The same; the first to ask after a pack could not leave gets the error itself.
    fn check_packs(&mut self) -> Result<(), StoreError> {
        match self.undelivered.take() {
            Some(error) => Err(error),
            None => self.check(),
        }
    }

    /// Runs a step that writes: after a failure nothing is believed any more.
    fn step<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.check()?;
        let result = step(self);
        if let Err(error) = &result {
            self.failed = Some(with_causes(error));
        }
        result
    }

    fn find(&self, key: &EntryKey) -> Option<Location> {
        let mut location = *self.entries.get(key)?;
        if let PackId::Pending(number) = location.pack
            && let Some(Slot::Sealed(pack)) = self.packs.get(number as usize)
        {
            location.pack = PackId::Sealed(*pack);
        }
        Some(location)
    }
}

impl Transaction {
    pub(crate) fn begin(store: Store, purpose: &str, writes: Writes) -> Result<Self, StoreError> {
        let (lease, epoch) = store.leases().acquire(purpose)?;
        store.catch_up(epoch.number)?;
        let mut collecting = false;
        for pack in &epoch.condemned {
            collecting |= store.has_pack(pack)?;
        }
        // The same work makes the same packs, so that two who do it keep one. But what was condemned must not be written again
        // under its own name: it may be deleted the moment after.
        let salt = if epoch.number == 0 && writes != Writes::Copies { Nonce::ZERO } else { lease.lease().nonce };
        let is_far = store.backend().requests_at_once() > 1;
        Ok(Self { shared: Arc::default(), store, lease, condemned: epoch.condemned, collecting, salt, writes, is_far })
    }

    /// The store that is written to.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The transaction's lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        self.lease.lease()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// The best copy of an entry that will stay, here or in the store, and notes that the transaction counts on it. Since
    /// what is found is not written, the index alone is not believed.
    fn find(&self, key: &EntryKey) -> Result<Option<Location>, StoreError> {
        if let Some(location) = self.lock().find(key) {
            return Ok(Some(location));
        }
        let mut sound = Vec::new();
        for (mut location, bases) in self.store.copies_and_bases(key)? {
            if let Some(depth) = self.depth_of(&location, bases)?.filter(|depth| *depth <= MAX_DEPTH) {
                location.depth = depth;
                sound.push(location);
            }
        }
        // What is least deep with all packs need not be without some.
        sound.sort_by_key(|location| location.depth);
        for location in sound {
            let PackId::Sealed(pack) = location.pack else { continue };
            // A pack that was there once since the lease was taken stays: far away, one look at each is enough.
            let is_known = self.is_far && self.lock().relied.contains(&pack);
            if is_known || self.store.is_there(&location) {
                self.lock().relied.insert(pack);
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// How deep a copy is without condemned packs; `None` where it cannot be decoded without them.
    fn depth_of(&self, location: &Location, bases: Vec<Digest>) -> Result<Option<u32>, StoreError> {
        if !self.stays(location) {
            return Ok(None);
        }
        if !self.collecting || location.depth == 0 {
            return Ok(Some(location.depth));
        }
        let mut depth = 0;
        for base in bases {
            match self.sound_depth(base)? {
                Some(base) => depth = depth.max(base.saturating_add(1)),
                None => return Ok(None),
            }
        }
        Ok(Some(depth))
    }

    fn stays(&self, location: &Location) -> bool {
        matches!(location.pack, PackId::Sealed(pack) if !self.condemned.contains(&pack))
    }

    /// How deep a block of the store is without condemned packs: the least that its copies allow. Whatever it leads to is looked at
    /// once for all that lean on it, also where it cannot be decoded.
    fn sound_depth(&self, block: Digest) -> Result<Option<u32>, StoreError> {
        if let Some(known) = self.known_depth(&block) {
            return Ok(known);
        }
        let (mut blocks, mut numbers) = (vec![block], HashMap::from([(block, 0u32)]));
        let (mut depths, mut copies) = (Vec::new(), Copies::default());
        while let Some(block) = blocks.get(depths.len()).copied() {
            let known = self.known_depth(&block);
            let entry = depths.len() as u32;
            depths.push(known.flatten());
            if known.is_some() {
                continue;
            }
            let there = self.store.copies_and_bases(&EntryKey::block(block))?;
            for (_, leans_on) in there.into_iter().filter(|(location, _)| self.stays(location)) {
                let mut bases = Vec::new();
                for base in leans_on {
                    bases.push(*numbers.entry(base).or_insert_with(|| {
                        blocks.push(base);
                        blocks.len() as u32 - 1
                    }));
                }
                copies.push(entry, bases);
            }
        }
        copies.resolve(&mut depths, |_| true);
        let mut state = self.lock();
        let found = depths.first().copied().flatten();
        state.sound.extend(blocks.into_iter().zip(depths));
        Ok(found)
    }

    fn known_depth(&self, block: &Digest) -> Option<Option<u32>> {
        let state = self.lock();
        let written = state.find(&EntryKey::block(*block)).map(|location| Some(location.depth));
        written.or_else(|| state.sound.get(block).copied())
    }

    /// Writes an entry even if the store has it: another copy, with other bases. One that this transaction wrote is left as
    /// it is.
    ///
    /// # Errors
    /// As [`EntrySink::put`].
    pub fn put_copy(&self, key: &EntryKey, stored: &[u8], raw_len: u64, bases: &[Digest]) -> Result<(), StoreError> {
        let mut depth = 0;
        for base in bases {
            let missing = StoreError::MissingBase { key: *key, base: *base };
            let base = self.find(&EntryKey::block(*base))?.filter(|location| location.key != *key).ok_or(missing)?;
            depth = depth.max(base.depth.saturating_add(1));
        }
        if depth > MAX_DEPTH {
            return Err(StoreError::TooDeep { key: *key, depth });
        }
        let limits = [(raw_len, key.kind.max_raw_len()), (stored.len() as u64, key.kind.max_stored_len())];
        if let Some((len, _)) = limits.into_iter().find(|(len, most)| len > most) {
            return Err(StoreError::TooLarge { key: *key, len });
        }
        let mut state = self.lock();
        state.check_packs()?;
        if state.entries.contains_key(key) {
            return Ok(());
        }
        let limit = self.store.0.options.pack_limit;
        let full =
            |writer: &PackWriter<_>| !writer.is_empty() && writer.len().saturating_add(stored.len() as u64) > limit;
        let is_full = |state: &State| matches!(state.packs.last(), Some(Slot::Growing(writer)) if full(writer));
        // Before anything is closed, so that who waits here does not keep others from what still has room.
        while state.leaving >= MAX_LEAVING && is_full(&state) {
            state = self.shared.wait(state);
            state.check_packs()?;
            if state.entries.contains_key(key) {
                return Ok(());
            }
        }
        state.step(|state| {
            if is_full(state) {
                close_last(state)?;
                if self.is_far {
                    self.send(state)?;
                } else if state.packs.iter().filter(|slot| matches!(slot, Slot::Closed(_))).count() > MAX_CLOSED {
                    self.publish(state)?;
                }
            }
            if !matches!(state.packs.last(), Some(Slot::Growing(_))) {
                let backend = self.store.backend();
                let upload = match self.writes {
                    Writes::Received => backend.create_resumable()?,
                    Writes::New | Writes::Copies => backend.create()?,
                };
                let writer = PackWriter::new(upload, self.salt)?;
                state.packs.push(Slot::Growing(writer));
            }
            let number = state.packs.len() as u32 - 1;
            if let Some(Slot::Growing(writer)) = state.packs.last_mut() {
                let entry = writer.append(key, stored, raw_len, bases)?;
                let location = PackReader::<crate::pack::Object<'_>>::location(entry, PackId::Pending(number), depth);
                state.entries.insert(*key, location);
                // What could not be decoded without it perhaps can now.
                if key.kind == EntryKind::Block && state.sound.get(&key.id) == Some(&None) {
                    state.sound.retain(|_, depth| depth.is_some());
                }
            }
            Ok(())
        })
    }

    /// Makes all entries written so far durable and visible. More can be written afterwards.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction then refuses everything.
    pub fn seal(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.check_packs()?;
        state.step(|state| {
            close_last(state)?;
            if self.is_far { self.send(state) } else { self.publish(state) }
        })?;
        while state.leaving > 0 {
            state = self.shared.wait(state);
        }
        state.check_packs()
    }

    /// Starts a thread for each closed pack that finishes it. Entries of it are not read meanwhile: who wants one waits.
    fn send(&self, state: &mut State) -> Result<(), StoreError> {
        for number in 0..state.packs.len() {
            if !matches!(state.packs[number], Slot::Closed(_)) {
                continue;
            }
            let Slot::Closed(writer) = std::mem::replace(&mut state.packs[number], Slot::Leaving) else { continue };
            state.leaving += 1;
            let (shared, store) = (Arc::clone(&self.shared), self.store.clone());
            let run = move || {
                let departure = Departure { shared, number, outcome: None };
                departure.end(finish(&store, writer).map(|pack| {
                    let id = pack.id;
                    store.absorb_sealed(&[pack]);
                    id
                }));
            };
            if let Err(source) = thread::Builder::new().name("pack".to_owned()).spawn(run) {
                state.leaving -= 1;
                return Err(StoreError::Io { path: "packs".into(), action: "start a thread for", source });
            }
        }
        Ok(())
    }

    /// Publishes the closed packs, then tells the index.
    fn publish(&self, state: &mut State) -> Result<(), StoreError> {
        let mut sealed = Vec::new();
        for slot in &mut state.packs {
            let Slot::Closed(writer) = slot else { continue };
            let id = writer.complete()?;
            let Slot::Closed(writer) = std::mem::replace(slot, Slot::Sealed(id)) else { continue };
            sealed.push(finish(&self.store, writer)?);
        }
        if !sealed.is_empty() {
            self.store.absorb_sealed(&sealed);
        }
        Ok(())
    }

    /// Checks that everything the transaction counts on will stay.
    ///
    /// # Errors
    /// [`StoreError::Retry`] where a collection condemned packs it counts on, or its lease was broken: it has to be done
    /// again, by a new transaction.
    pub fn check_epoch(&self) -> Result<(), StoreError> {
        let condemned = self.store.epochs().condemned_after(self.lease().epoch)?;
        let mut condemned: Vec<Digest> = self.lock().relied.intersection(&condemned).copied().collect();
        if !condemned.is_empty() || !self.lease.is_intact()? {
            condemned.sort_unstable();
            return Err(StoreError::Retry { condemned });
        }
        Ok(())
    }

    /// Seals, and then moves refs, in order, as one operation. Nothing moves unless every ref is in its expected state at
    /// first; each move is a compare-and-swap of its own.
    ///
    /// # Errors
    /// [`RefError::Conflict`] where a ref is in another state, with nothing moved; [`RefError::Partial`] where that happened
    /// after some had moved; [`StoreError::Retry`]; others as [`Self::seal`].
    pub fn update_refs(
        &self,
        updates: &[RefUpdate],
        message: &str,
        operation: Nonce,
    ) -> Result<Vec<RefState>, StoreError> {
        self.seal()?;
        self.check_epoch()?;
        let refs = self.store.refs();
        for update in updates {
            refs.expect(&update.name, update.expected.as_ref())?;
        }
        let mut moved = Vec::with_capacity(updates.len());
        for update in updates {
            let RefUpdate { name, expected, target } = update;
            match refs.compare_and_swap(name, expected.as_ref(), target.clone(), message, operation) {
                Ok(state) => moved.push(state),
                Err(error) if moved.is_empty() => return Err(error.into()),
                Err(error) => return Err(RefError::Partial { moved, source: Box::new(error) }.into()),
            }
        }
        Ok(moved)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // What is on its way arrives while the lease is held.
        let mut state = self.lock();
        while state.leaving > 0 {
            state = self.shared.wait(state);
        }
    }
}

/// Makes a closed pack durable under its name.
fn finish(store: &Store, mut writer: PackWriter<Box<dyn Upload>>) -> Result<NewPack, StoreError> {
    let id = writer.complete()?;
    let (upload, footer) = writer.into_parts();
    let size = upload.len();
    match upload.finish(&pack_name(&id)) {
        // The same bytes under the same name, if they are: never taken on trust.
        Err(BackendError::AlreadyExists { .. }) if store.is_intact(&id)? => {}
        Err(BackendError::AlreadyExists { .. }) => {
            return Err(StoreError::Pack { pack: pack_name(&id), problem: PackError::Checksum(id) });
        }
        result => result?,
    }
    Ok(NewPack { id, size, footer: Ok(footer), gathered: false })
}

/// Closes the last pack, so that nothing more is written to it.
fn close_last(state: &mut State) -> Result<(), StoreError> {
    match state.packs.pop() {
        Some(Slot::Growing(mut writer)) if !writer.is_empty() => {
            writer.complete()?;
            state.packs.push(Slot::Closed(writer));
        }
        Some(Slot::Growing(_)) | None => {}
        Some(slot) => state.packs.push(slot),
    }
    Ok(())
}

impl EntrySource for Transaction {
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>, StoreError> {
        self.find(key)
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let mut location = *location;
        if let PackId::Pending(number) = location.pack {
            let mut state = self.lock();
            loop {
                match state.packs.get(number as usize) {
                    Some(Slot::Growing(writer) | Slot::Closed(writer)) => return writer.read_stored(&location, out),
                    Some(Slot::Sealed(pack)) => location.pack = PackId::Sealed(*pack),
                    Some(Slot::Leaving) => {
                        state.check()?;
                        state = self.shared.wait(state);
                        continue;
                    }
                    None => return Err(StoreError::Missing(location.key)),
                }
                break;
            }
        }
        self.store.read_stored(&location, out)
    }

    fn read(&self, key: &EntryKey, out: &mut Vec<u8>) -> Result<Location, StoreError> {
        match self.find(key)? {
            Some(location) if matches!(location.pack, PackId::Pending(_)) => {
                self.read_stored(&location, out)?;
                Ok(location)
            }
            _ => self.store.read(key, out),
        }
    }

    fn bring(&self, keys: &mut dyn Iterator<Item = EntryKey>) -> Result<(), StoreError> {
        self.store.bring(keys)
    }

    fn is_partial(&self) -> bool {
        self.store.is_partial()
    }

    fn forget(&self, location: &Location) -> Result<(), StoreError> {
        self.store.forget(location)
    }
}

impl EntrySink for Transaction {
    fn put(&self, key: &EntryKey, stored: &[u8], raw_len: u64, bases: &[Digest]) -> Result<(), StoreError> {
        self.lock().check_packs()?;
        if self.find(key)?.is_some() {
            return Ok(());
        }
        self.put_copy(key, stored, raw_len, bases)
    }
}
