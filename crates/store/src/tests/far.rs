//! Backends that are far away: packs leave while others are filled, and small entries are read together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use shard_core::limits::Cut;
use shard_core::{Digest, sha256};

use super::basics::{block, read};
use crate::backend::Output;
use crate::entry::{EntryKey, EntryKind, EntrySink, EntrySource, Location, PackId};
use crate::memory::MemoryBackend;
use crate::runs::in_runs;
use crate::{Backend, BackendError, Store, StoreError, StoreOptions, Upload};

/// A store in memory that is asked over a slow line.
#[derive(Default)]
struct Far {
    there: MemoryBackend,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    reads: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Whether nothing arrives any more.
    is_down: AtomicBool,
}

struct Slow(Box<dyn Upload>, Arc<Counts>);

impl Output for Slow {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.0.append(bytes)
    }
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.0.read_at(offset, out)
    }
}

impl Upload for Slow {
    fn finish(self: Box<Self>, name: &str) -> Result<(), BackendError> {
        let now = self.1.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        self.1.under_way.fetch_sub(1, Ordering::SeqCst);
        if self.1.is_down.load(Ordering::SeqCst) {
            let source = io::Error::from(io::ErrorKind::ConnectionReset);
            return Err(BackendError::Io { name: name.to_owned(), action: "create", source });
        }
        self.0.finish(name)
    }
}

impl Backend for Far {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.counts.reads.fetch_add(1, Ordering::SeqCst);
        self.there.get_range(name, offset, out)
    }
    fn size(&self, name: &str) -> Result<u64, BackendError> {
        self.there.size(name)
    }
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        self.there.put_if_absent(name, bytes)
    }
    fn create(&self) -> Result<Box<dyn Upload>, BackendError> {
        Ok(Box::new(Slow(self.there.create()?, Arc::clone(&self.counts))))
    }
    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
        self.there.list(folder)
    }
    fn delete(&self, name: &str) -> Result<(), BackendError> {
        self.there.delete(name)
    }
    fn requests_at_once(&self) -> usize {
        4
    }
}

fn store() -> (Store, Arc<Counts>, MemoryBackend) {
    let far = Far::default();
    let (counts, there) = (Arc::clone(&far.counts), far.there.clone());
    let options = StoreOptions { pack_limit: 16 << 10, ..StoreOptions::default() };
    (Store::init_backend(Arc::new(far), Cut::TEST, options).unwrap(), counts, there)
}

#[test]
fn packs_leave_while_others_are_filled_and_are_all_there_when_sealed() {
    let (store, counts, there) = store();
    let tx = store.begin("test").unwrap();
    let blocks: Vec<(EntryKey, Vec<u8>)> = (0..24).map(block).collect();
    for (n, (key, bytes)) in blocks.iter().enumerate() {
        let bases: Vec<Digest> = n.checked_sub(1).map(|n| blocks[n].0.id).into_iter().filter(|_| n % 4 != 0).collect();
        tx.put(key, bytes, 70, &bases).unwrap();
        if n >= 16 {
            // What was just written is read, wherever its pack is; one that is on its way is waited for.
            assert_eq!(read(&tx, &blocks[n - 3].0), blocks[n - 3].1);
        }
    }
    tx.seal().unwrap();
    assert!(there.list("packs").unwrap().len() > 8);
    let most = counts.most.load(Ordering::SeqCst);
    assert!((2..=5).contains(&most), "{most} packs were under way at once");
    for (key, bytes) in &blocks {
        assert_eq!(read(&store, key), *bytes);
    }
    let again = Store::open_backend(Arc::clone(store.backend()), StoreOptions::default()).unwrap();
    assert_eq!(again.keys(EntryKind::Block).unwrap().len(), blocks.len());
}

#[test]
fn fault_18_a_pack_that_cannot_leave_fails_the_transaction_and_names_the_cause() {
    let (store, counts, there) = store();
    let tx = store.begin("test").unwrap();
    counts.is_down.store(true, Ordering::SeqCst);
    let outcome = (0..24).map(block).try_for_each(|(key, bytes)| tx.put(&key, &bytes, 70, &[]));
    let outcome = outcome.and_then(|()| tx.seal());
    assert!(matches!(outcome, Err(StoreError::Backend(BackendError::Io { .. }))), "{outcome:?}");
    // From then on nothing is believed.
    counts.is_down.store(false, Ordering::SeqCst);
    assert!(matches!(tx.seal(), Err(StoreError::Poisoned(_) | StoreError::Backend(_))));
    let (key, bytes) = block(90);
    assert!(tx.put(&key, &bytes, 70, &[]).is_err());
    drop(tx);
    assert!(there.list("leases").unwrap().is_empty());
    // And all of it can be done again.
    let tx = store.begin("test").unwrap();
    (0..24).map(block).try_for_each(|(key, bytes)| tx.put(&key, &bytes, 70, &[])).unwrap();
    tx.seal().unwrap();
    assert_eq!(read(&store, &block(23).0), block(23).1);
}

#[test]
fn a_transaction_that_is_dropped_waits_for_what_is_on_its_way() {
    let (store, counts, there) = store();
    let tx = store.begin("test").unwrap();
    (0..8).map(block).try_for_each(|(key, bytes)| tx.put(&key, &bytes, 70, &[])).unwrap();
    drop(tx);
    assert_eq!(counts.under_way.load(Ordering::SeqCst), 0);
    assert!(there.list("leases").unwrap().is_empty());
}

#[test]
fn small_entries_are_read_together_and_a_pack_that_is_gone_is_noticed() {
    let (store, counts, there) = store();
    let tx = store.begin("test").unwrap();
    let small: Vec<(EntryKey, Vec<u8>)> = (0..50u8)
        .map(|n| {
            let bytes = vec![n; 100];
            (EntryKey::new(EntryKind::Tree, sha256(&bytes)), bytes)
        })
        .collect();
    for (key, bytes) in &small {
        tx.put(key, bytes, 100, &[]).unwrap();
    }
    tx.seal().unwrap();
    drop(tx);
    let before = counts.reads.load(Ordering::SeqCst);
    for (key, bytes) in small.iter().rev() {
        assert_eq!(read(&store, key), *bytes);
    }
    let reads = counts.reads.load(Ordering::SeqCst) - before;
    assert!(reads <= 2, "{reads} requests for 50 small entries of one pack");
    // Whoever counts on an entry asks the store itself.
    for name in there.list("packs").unwrap() {
        there.delete(&format!("packs/{name}")).unwrap();
    }
    let tx = store.begin("test").unwrap();
    assert!(tx.locate(&small[0].0).unwrap().is_none());
}

#[test]
fn entries_that_lie_together_are_read_by_one_request() {
    let (store, counts, there) = store();
    let tx = store.begin("test").unwrap();
    let blocks: Vec<(EntryKey, Vec<u8>)> = (0..24).map(block).collect();
    for (n, (key, bytes)) in blocks.iter().enumerate() {
        let bases: Vec<Digest> = n.checked_sub(1).map(|n| blocks[n].0.id).into_iter().filter(|_| n % 6 == 5).collect();
        tx.put(key, bytes, 70, &bases).unwrap();
    }
    tx.seal().unwrap();
    drop(tx);
    let mut places: Vec<Location> = blocks.iter().rev().map(|(key, _)| store.locate(key).unwrap().unwrap()).collect();
    let joins = in_runs(&mut places);
    assert!(places.is_sorted_by_key(|place| place.depth), "each comes after what it leans on");
    let mut runs: Vec<Vec<Location>> = Vec::new();
    for (place, joins) in places.iter().zip(joins) {
        match runs.last_mut() {
            Some(run) if joins => run.push(*place),
            _ => runs.push(vec![*place]),
        }
    }
    // A pack has two of them.
    assert!(runs.len() <= 16 && runs.iter().any(|run| run.len() > 1), "{} runs of 24 entries", runs.len());
    let read = |run: &[Location]| {
        let mut out = vec![vec![9; 3]; run.len()];
        store.read_run(run, &mut out).map(|()| out)
    };
    let before = counts.reads.load(Ordering::SeqCst);
    for run in &runs {
        let expected: Vec<&[u8]> =
            run.iter().map(|place| &blocks.iter().find(|(key, _)| *key == place.key).unwrap().1[..]).collect();
        assert_eq!(read(run).unwrap(), expected);
    }
    assert!(counts.reads.load(Ordering::SeqCst) - before <= runs.len());
    assert_eq!(read(&[]).unwrap(), Vec::<Vec<u8>>::new());

    // One that is damaged is told, and so is one that is not there.
    let run = runs.iter().find(|run| run.len() > 1).unwrap();
    let PackId::Sealed(pack) = run[0].pack else { panic!("{run:?}") };
    let name = crate::pack::pack_name(&pack);
    let whole = there.get(&name, 1 << 20).unwrap();
    let mut damaged = whole.clone();
    damaged[run[1].offset as usize] ^= 1;
    for bytes in [&damaged[..], &whole[..run[1].offset as usize]] {
        there.delete(&name).unwrap();
        there.put_if_absent(&name, bytes).unwrap();
        let refused = read(run);
        assert!(matches!(refused, Err(StoreError::Entry { .. })), "{refused:?}");
    }
    there.delete(&name).unwrap();
    assert!(matches!(read(run), Err(StoreError::Backend(error)) if error.is_not_found()));
    let mut swapped = run.clone();
    swapped.reverse();
    assert!(matches!(read(&swapped), Err(StoreError::Entry { .. })));
}
