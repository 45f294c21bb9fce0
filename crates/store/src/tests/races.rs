//! Refs: compare-and-swap among threads, processes, lost replies and late comers.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use shard_core::limits::Cut;
use shard_core::sha256;

use super::basics::repository;
use crate::memory::MemoryBackend;
use crate::{Backend, BackendError, Nonce, RefError, RefState, Refs, Store, Target, Upload};

const REF: &str = "heads/main";

fn target(n: usize) -> Target {
    Target::Commit(sha256(&n.to_le_bytes()))
}

fn set(refs: &Refs<'_>, expected: Option<&RefState>, n: usize) -> Result<RefState, RefError> {
    refs.compare_and_swap(REF, expected, target(n), &format!("to {n}"), Nonce([7; 16]))
}

/// Moves the ref until `wins` moves were this caller's, each from the newest state.
fn win(store: &Store, wins: usize) {
    let refs = store.refs();
    let mut won = 0;
    while won < wins {
        let current = refs.read(REF).unwrap();
        match set(&refs, current.as_ref(), won) {
            Ok(state) => {
                assert_eq!(state.previous, current.map(|state| state.nonce));
                won += 1;
            }
            Err(RefError::Conflict { current: Some(_), .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn log(store: &Store) -> Vec<RefState> {
    store.refs().log(REF).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn fault_14_of_many_threads_each_time_one_wins() {
    let (_dir, store) = repository();
    let root = store.root().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| win(&Store::open(root).unwrap(), 10));
        }
    });
    assert_eq!(log(&store).len(), 60);
}

#[test]
fn fault_14_from_one_state_one_wins() {
    let (_dir, store) = repository();
    for round in 0..20 {
        let from = store.refs().read(REF).unwrap();
        let wins = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for racer in 0..6 {
                let (store, from, wins) = (&store, &from, &wins);
                scope.spawn(move || match set(&store.refs(), from.as_ref(), racer) {
                    Ok(_) => drop(wins.fetch_add(1, Ordering::SeqCst)),
                    Err(RefError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                });
            }
        });
        assert_eq!(wins.into_inner(), 1, "round {round}");
    }
    assert_eq!(log(&store).len(), 20);
}

#[test]
fn fault_14_of_many_processes_each_time_one_wins() {
    let (_dir, store) = repository();
    let spawn = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "tests::races::a_racing_process"])
            .env("SHARD_RACE_ROOT", store.root().unwrap())
            .output()
    };
    std::thread::scope(|scope| {
        let children: Vec<_> = (0..3).map(|_| scope.spawn(spawn)).collect();
        for child in children {
            let output = child.join().unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    });
    assert_eq!(log(&store).len(), 30);
}

#[test]
#[ignore = "the process that the test above starts: cargo test --release -p shard-store races"]
fn a_racing_process() {
    let root = std::env::var_os("SHARD_RACE_ROOT").expect("started by the test above");
    win(&Store::open(root.as_ref()).unwrap(), 10);
}

/// How the next `put_if_absent` goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// It happens, and the reply is lost.
    DoneButLost,
    /// It does not happen, and nobody knows.
    NotDoneAndLost,
    /// It happens, and is repeated on the way, so that the reply is that the name is taken (NFS).
    Repeated,
}

struct Flaky(MemoryBackend, Mutex<Vec<Trouble>>);

impl Backend for Flaky {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.0.get_range(name, offset, out)
    }
    fn size(&self, name: &str) -> Result<u64, BackendError> {
        self.0.size(name)
    }
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        let source = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let lost = BackendError::Uncertain { name: name.to_owned(), action: "create", source: source() };
        match self.1.lock().unwrap().pop() {
            None => self.0.put_if_absent(name, bytes),
            Some(Trouble::DoneButLost) => self.0.put_if_absent(name, bytes).and(Err(lost)),
            Some(Trouble::NotDoneAndLost) => Err(lost),
            Some(Trouble::Repeated) => {
                self.0.put_if_absent(name, bytes).and_then(|()| self.0.put_if_absent(name, bytes))
            }
        }
    }
    fn create(&self) -> Result<Box<dyn Upload>, BackendError> {
        self.0.create()
    }
    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
        self.0.list(folder)
    }
    fn delete(&self, name: &str) -> Result<(), BackendError> {
        self.0.delete(name)
    }
}

#[test]
fn fault_20_lost_replies_are_settled_by_reading_back() {
    use Trouble::{DoneButLost, NotDoneAndLost, Repeated};
    let rows = [
        vec![DoneButLost],
        vec![NotDoneAndLost],
        vec![Repeated],
        vec![NotDoneAndLost, NotDoneAndLost, DoneButLost],
        vec![Repeated, NotDoneAndLost],
    ];
    for troubles in rows {
        let flaky = Flaky(MemoryBackend::new(), Mutex::default());
        let refs = Refs::new(&flaky);
        let first = set(&refs, None, 1).unwrap();
        *flaky.1.lock().unwrap() = troubles.clone();
        let second = set(&refs, Some(&first), 2).unwrap();
        assert_eq!((second.generation, second.previous), (2, Some(first.nonce)), "{troubles:?}");
        assert_eq!(refs.read(REF).unwrap(), Some(second));
        // A loser is told so, however its replies fare.
        *flaky.1.lock().unwrap() = troubles;
        assert!(matches!(set(&refs, Some(&first), 3), Err(RefError::Conflict { current: Some(_), .. })));
    }
}

#[test]
fn a_late_comer_in_a_pruned_place_does_not_count() {
    let backend = MemoryBackend::new();
    let refs = Refs::new(&backend);
    let mut states = vec![set(&refs, None, 0).unwrap()];
    for n in 1..6 {
        states.push(set(&refs, states.last(), n).unwrap());
    }
    assert_eq!(refs.prune(REF, 5).unwrap(), 4);
    // A writer that saw generation 2, slept, and now creates generation 3, whose place is free again.
    let late = RefState { nonce: Nonce([9; 16]), ..states[2].clone() };
    let file = format!("refs/heads%2fmain/{:016x}", u64::MAX - 3);
    backend.put_if_absent(&file, &late.encode()).unwrap();
    let result = refs.confirm(late);
    assert!(matches!(result, Err(RefError::Conflict { current: Some(current), .. }) if *current == states[5]));
    assert!(!backend.list("refs/heads%2fmain").unwrap().contains(&format!("{:016x}", u64::MAX - 3)));
    // One that others have built on since does count.
    assert_eq!(refs.confirm(states[4].clone()).unwrap(), states[4]);
    let log: Vec<RefState> = refs.log(REF).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(log, [states[5].clone(), states[4].clone()]);
}

#[test]
fn deleting_and_creating_again() {
    let backend = MemoryBackend::new();
    let refs = Refs::new(&backend);
    assert_eq!(refs.read(REF).unwrap(), None);
    let first = set(&refs, None, 1).unwrap();
    assert!(matches!(set(&refs, None, 2), Err(RefError::Conflict { current: Some(_), .. })));
    let gone = refs.compare_and_swap(REF, Some(&first), Target::Deleted, "delete", Nonce([1; 16])).unwrap();
    assert_eq!(refs.read(REF).unwrap(), None);
    assert_eq!(refs.read_newest(REF).unwrap(), Some(gone));
    assert!(refs.list("").unwrap().is_empty());
    assert_eq!(refs.list_each("").unwrap().len(), 1);
    assert!(matches!(set(&refs, Some(&first), 2), Err(RefError::Conflict { .. })));
    assert_eq!(set(&refs, None, 3).unwrap().generation, 3);
    assert_eq!(refs.list("heads/").unwrap().len(), 1);
    assert!(refs.list("tags/").unwrap().is_empty());
}

#[test]
fn symbolic_refs_end_or_are_refused() {
    let backend = MemoryBackend::new();
    let refs = Refs::new(&backend);
    let link = |name: &str, to: &str| {
        refs.compare_and_swap(name, None, Target::Symbolic(to.to_owned()), "", Nonce([1; 16])).map(drop)
    };
    link("HEAD", REF).unwrap();
    let unborn = refs.read_resolved("HEAD").unwrap();
    assert_eq!((unborn.name.as_str(), unborn.state), (REF, None));
    link("a", "b").unwrap();
    link("b", "a").unwrap();
    assert!(matches!(refs.read_resolved("a"), Err(RefError::TooManySymbolic(_))));
    assert!(matches!(link("c", "../x"), Err(RefError::Name(_))));
    let long = refs.compare_and_swap("d", None, target(1), &"x".repeat(20_000), Nonce([1; 16]));
    assert!(matches!(long, Err(RefError::Message(20_000))));
}

#[test]
fn names_that_differ_in_case_are_two_refs_and_foreign_files_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::init(dir.path(), Cut::TEST).unwrap();
    for name in ["heads/Main", "heads/main", "heads/con", "heads/Ü"] {
        store.refs().compare_and_swap(name, None, target(1), "", Nonce([1; 16])).unwrap();
    }
    std::fs::create_dir(dir.path().join("refs/Foreign")).unwrap();
    std::fs::write(dir.path().join("refs/.DS_Store"), b"x").unwrap();
    std::fs::write(dir.path().join("refs/heads%2fmain/.nfs0001"), b"x").unwrap();
    let names: Vec<String> = store.refs().list("").unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["heads/Main", "heads/con", "heads/main", "heads/Ü"]);
    for bad in ["../format", "a.lock", "x\ny"] {
        assert!(matches!(store.refs().read(bad), Err(RefError::Name(_))), "{bad}");
    }
}
