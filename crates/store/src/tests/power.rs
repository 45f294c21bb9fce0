//! Power loss at every operation: what was acknowledged is there, and no ref names what is not.

use std::path::Path;
use std::sync::Arc;

use shard_core::limits::Cut;
use shard_core::{Digest, sha256};

use crate::entry::{EntryKey, EntryKind, EntrySink, EntrySource};
use crate::sim::{Bug, Fault, SimFs};
use crate::{Nonce, RefState, RefUpdate, Store, StoreError, StoreOptions, Target};

const ROOT: &str = "/repo";
const ROUNDS: u64 = 3;
const SEEDS: u64 = 12;
const OPTIONS: StoreOptions = StoreOptions { pack_limit: 2_000, gather_above: 4 };

/// Ways to write that are wrong in themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Right,
    /// The ref moves before the packs are durable.
    RefBeforePack,
}

/// A world with an empty repository, made durable.
fn repository(bug: Option<Bug>) -> SimFs {
    let fs = SimFs::new();
    Store::init_with(Arc::new(fs.clone()), Path::new(ROOT), Cut::TEST).unwrap();
    fs.plant(bug);
    fs
}

fn open(fs: &SimFs) -> Result<Store, StoreError> {
    Store::open_fs(Arc::new(fs.clone()), Path::new(ROOT), OPTIONS)
}

fn commit(round: u64) -> (EntryKey, Vec<u8>) {
    let bytes = format!("commit {round}").into_bytes();
    (EntryKey::new(EntryKind::Commit, sha256(&bytes)), bytes)
}

/// The blocks that a commit stands for; each leans on the one before.
fn blocks(round: u64) -> Vec<(EntryKey, Vec<u8>)> {
    let block =
        |n: u64| -> Vec<u8> { (0..40).flat_map(|i| sha256(&(round * 1000 + n * 100 + i).to_le_bytes()).0).collect() };
    (0..3).map(block).map(|bytes| (EntryKey::block(sha256(&bytes)), bytes)).collect()
}

/// Commits a few times, and keeps what was acknowledged.
fn work(fs: &SimFs, order: Order, acknowledged: &mut Option<RefState>) -> Result<(), StoreError> {
    let store = open(fs)?;
    for round in 0..ROUNDS {
        let tx = store.begin("test")?;
        let mut base: Vec<Digest> = Vec::new();
        for (key, bytes) in blocks(round) {
            tx.put(&key, &bytes, bytes.len() as u64, &base)?;
            base = vec![key.id];
        }
        let (key, bytes) = commit(round);
        tx.put(&key, &bytes, bytes.len() as u64, &[])?;
        let target = Target::Commit(key.id);
        let operation = Nonce::random().unwrap();
        let state = match order {
            Order::Right => {
                let update = RefUpdate { name: "heads/main".to_owned(), expected: acknowledged.clone(), target };
                tx.update_refs(&[update], "round", operation)?.remove(0)
            }
            Order::RefBeforePack => {
                let refs = store.refs();
                let state = refs.compare_and_swap("heads/main", acknowledged.as_ref(), target, "round", operation)?;
                tx.seal()?;
                state
            }
        };
        *acknowledged = Some(state);
    }
    Ok(())
}

/// What is wrong with a repository after a crash, if anything is.
fn problem(fs: &SimFs, acknowledged: Option<&RefState>) -> Option<String> {
    let check = || -> Result<(), String> {
        let text = |error: StoreError| error.to_string();
        let store = open(fs).map_err(text)?;
        if let Some(pack) = store.packs().map_err(text)?.into_iter().find(|pack| pack.problem.is_some()) {
            return Err(format!("a pack is torn: {pack:?}"));
        }
        let state = store.refs().read("heads/main").map_err(|error| error.to_string())?;
        let reached = state.as_ref().map_or(0, |state| state.generation);
        let promised = acknowledged.map_or(0, |state| state.generation);
        if reached < promised {
            return Err(format!("generation {promised} was acknowledged, {reached} is there"));
        }
        let log = store.refs().log("heads/main").map_err(|error| error.to_string())?;
        if log.filter_map(Result::ok).count() as u64 != reached {
            return Err("the log has a gap".to_owned());
        }
        let mut out = Vec::new();
        for round in 0..reached {
            for (key, bytes) in blocks(round).into_iter().chain([commit(round)]) {
                store.read(&key, &mut out).map_err(text)?;
                if out != bytes {
                    return Err(format!("{key} is not what was written"));
                }
            }
        }
        // Work goes on: whatever was left behind is in nobody's way.
        let tx = store.begin("after").map_err(text)?;
        let update =
            RefUpdate { name: "heads/main".to_owned(), expected: state, target: Target::Commit(commit(9).0.id) };
        tx.put(&commit(9).0, &commit(9).1, 8, &[]).map_err(text)?;
        tx.update_refs(&[update], "after", Nonce([0; 16])).map_err(text)?;
        Ok(())
    };
    check().err()
}

/// Loses power at every operation, several times, and returns what went wrong first.
fn sweep(order: Order, bug: Option<Bug>) -> Option<String> {
    let whole = repository(bug);
    let before = whole.operations();
    let mut acknowledged = None;
    work(&whole, order, &mut acknowledged).unwrap();
    assert_eq!(acknowledged.unwrap().generation, ROUNDS);
    let operations = whole.operations() - before;
    assert!(operations > 50, "the sweep is over {operations} operations");

    for at in 1..=operations + 1 {
        let fs = repository(bug);
        fs.fail(at, Fault::PowerLoss);
        let mut acknowledged = None;
        let result = work(&fs, order, &mut acknowledged);
        // The last operations give the lease back, of which nobody is told.
        assert!(result.is_err() || at > operations - 2, "operation {at}");
        assert!(result.is_ok() || at <= operations, "operation {at}");
        for seed in 0..SEEDS {
            if let Some(problem) = problem(&fs.after_power_loss(seed + at * SEEDS), acknowledged.as_ref()) {
                return Some(format!("operation {at}, seed {seed}: {problem}"));
            }
        }
    }
    None
}

#[test]
fn fault_02_acknowledged_work_survives_a_power_loss() {
    assert_eq!(sweep(Order::Right, None), None);
}

#[test]
fn fault_02_planted_bugs_are_caught() {
    let plants =
        [(Order::Right, Some(Bug::SkipFileSync)), (Order::Right, Some(Bug::SkipDirSync)), (Order::RefBeforePack, None)];
    for (number, (order, bug)) in plants.into_iter().enumerate() {
        assert!(sweep(order, bug).is_some(), "planted bug {number} was not caught");
    }
}

#[test]
fn fault_02_a_repository_is_there_wholly_or_not_at_all() {
    let init = |fs: &SimFs| Store::init_with(Arc::new(fs.clone()), Path::new(ROOT), Cut::TEST);
    let whole = SimFs::new();
    init(&whole).unwrap();
    for at in 1..=whole.operations() + 1 {
        let fs = SimFs::new();
        fs.fail(at, Fault::PowerLoss);
        let acknowledged = init(&fs).is_ok();
        for seed in 0..SEEDS {
            let fs = fs.after_power_loss(seed);
            match open(&fs) {
                Ok(_) => {}
                Err(StoreError::NotARepository(_)) => {
                    assert!(!acknowledged, "operation {at}, seed {seed}: it was acknowledged and is lost");
                    init(&fs).unwrap();
                }
                Err(error) => panic!("operation {at}, seed {seed}: {error}"),
            }
            assert_eq!(problem(&fs, None), None, "operation {at}, seed {seed}");
        }
    }
}
