//! Operations that fail while the power stays on: a full disk, a disk that loses writes.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use shard_core::limits::Cut;
use shard_core::sha256;

use super::basics::{block, files};
use crate::entry::{EntryKey, EntryKind, EntrySink, EntrySource};
use crate::sim::{Fault, SimFs};
use crate::{Nonce, RefState, RefUpdate, Store, StoreError, StoreOptions, Target};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const OPTIONS: StoreOptions = StoreOptions { pack_limit: 20_000, gather_above: 64 };

fn world() -> (SimFs, Store) {
    let fs = SimFs::new();
    Store::init_with(Arc::new(fs.clone()), Path::new("/repo"), Cut::TEST).unwrap();
    let store = Store::open_fs(Arc::new(fs.clone()), Path::new("/repo"), OPTIONS).unwrap();
    (fs, store)
}

/// Writes blocks and a commit and moves a ref to it.
fn work(store: &Store, expected: Option<RefState>, text: &str) -> Result<RefState, StoreError> {
    let tx = store.begin("test")?;
    for n in 0..4 {
        let (key, bytes) = block(n);
        tx.put(&key, &bytes, 1, &[])?;
    }
    let commit = EntryKey::new(EntryKind::Commit, sha256(text.as_bytes()));
    tx.put(&commit, text.as_bytes(), 1, &[])?;
    let update = RefUpdate { name: "heads/main".to_owned(), expected, target: Target::Commit(commit.id) };
    let result = tx.update_refs(&[update], text, Nonce([1; 16]));
    Ok(result?.remove(0))
}

fn sweep(fault: Fault) {
    let (fs, store) = world();
    let before = fs.operations();
    work(&store, None, "first").unwrap();
    let operations = fs.operations() - before;
    let mut failed = 0;
    for at in 1..=operations {
        let (fs, store) = world();
        fs.fail(at, fault);
        let result = work(&store, None, "first");
        fs.repair();
        let there = store.refs().read("heads/main").unwrap();
        match &result {
            Ok(state) => assert_eq!(there.as_ref(), Some(state), "operation {at}"),
            Err(error) => {
                failed += 1;
                let io = error.io().unwrap_or_else(|| panic!("operation {at}: {error}"));
                if fault != Fault::Errno(EIO) {
                    assert_eq!(io.kind(), ErrorKind::StorageFull, "operation {at}");
                }
            }
        }
        // Old or new, and whatever is named is there, also after a power loss that follows at once.
        let after = fs.after_power_loss(at);
        let reopened = Store::open_fs(Arc::new(after.clone()), Path::new("/repo"), OPTIONS).unwrap();
        let survived = reopened.refs().read("heads/main").unwrap();
        assert!(result.is_err() || survived.is_some(), "operation {at}");
        if survived.is_some() {
            let mut out = Vec::new();
            for n in 0..4 {
                reopened.read(&block(n).0, &mut out).unwrap();
                assert_eq!(out, block(n).1, "operation {at}");
            }
        }
        // The same again works: nothing is in its way.
        let state = work(&store, there, "second").unwrap();
        assert_eq!(store.refs().read("heads/main").unwrap(), Some(state), "operation {at}");
    }
    assert!(failed > operations / 3, "only {failed} of {operations} operations matter");
}

#[test]
fn fault_05_a_failed_sync_is_never_success() {
    sweep(Fault::Errno(EIO));
}

#[test]
fn fault_06_a_full_disk_leaves_the_old_state() {
    sweep(Fault::Errno(ENOSPC));
    sweep(Fault::DiskFull);
}

#[test]
fn fault_05_a_transaction_that_failed_stays_failed() {
    // Every operation between the first entry and the end of the seal, the first failing sync included.
    let mut poisoned = 0;
    for at in 1..20 {
        let (fs, store) = world();
        let tx = store.begin("test").unwrap();
        let (key, bytes) = block(1);
        fs.fail(at, Fault::Errno(EIO));
        let failed = tx.put(&key, &bytes, 1, &[]).and_then(|()| tx.seal()).is_err();
        fs.repair();
        if !failed {
            continue;
        }
        poisoned += 1;
        assert!(matches!(tx.seal(), Err(StoreError::Poisoned(_))), "operation {at}");
        assert!(matches!(tx.put(&key, &bytes, 1, &[]), Err(StoreError::Poisoned(_))), "operation {at}");
        let update = RefUpdate { name: "x".to_owned(), expected: None, target: Target::Commit(key.id) };
        let moved = tx.update_refs(&[update], "", Nonce([0; 16]));
        assert!(matches!(moved, Err(StoreError::Poisoned(_))), "operation {at}");
        assert_eq!(store.refs().read("x").unwrap(), None);
        drop(tx);
        let tx = store.begin("again").unwrap();
        tx.put(&key, &bytes, 1, &[]).unwrap();
        tx.seal().unwrap();
    }
    assert!(poisoned >= 5, "{poisoned}");
}

/// Writes in a process whose files may have so many KiB, and says how that ended.
fn work_limited(root: &Path, kib: u32) -> (bool, String) {
    // Where the signal is ignored, the write that reaches the limit is short, and the next one fails.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2);
    let output = Command::new("sh")
        .args(["-c", &script, "limited"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "tests::failures::a_limited_process"])
        .env("SHARD_LIMITED_ROOT", root)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn fault_06_a_limit_on_the_size_of_files_leaves_the_old_state() {
    let mut failed = 0;
    for kib in [0, 1, 7, 16, 24, 32, 48, 64, 4096] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        let before = work(&Store::init(&root, Cut::TEST).unwrap(), None, "first").unwrap();
        std::fs::remove_dir_all(root.join("cache")).unwrap();
        let (is_whole, output) = work_limited(&root, kib);
        assert!(is_whole, "{kib} KiB: {output}");
        let store = Store::open(&root).unwrap();
        let after = store.refs().read("heads/main").unwrap().unwrap();
        if output.contains("went through") {
            assert_eq!(after.previous, Some(before.nonce), "{kib} KiB");
        } else {
            assert!(output.contains("was refused"), "{kib} KiB: {output}");
            assert_eq!(after, before, "{kib} KiB");
            failed += 1;
        }
        for pack in store.packs().unwrap() {
            store.verify_pack(&pack.id).unwrap();
        }
        assert!(files(&root.join("tmp")).is_empty(), "{kib} KiB");
        work(&store, Some(after), "last").unwrap();
    }
    assert!((1..9).contains(&failed), "{failed} failed");
}

#[test]
#[ignore = "the process that the test above starts: cargo test --release -p shard-store failures"]
fn a_limited_process() {
    let root = std::env::var_os("SHARD_LIMITED_ROOT").expect("started by the test above");
    // Reading needs no room at all.
    let store = Store::open(root.as_ref()).unwrap();
    let before = store.refs().read("heads/main").unwrap();
    for n in 0..4 {
        store.read(&block(n).0, &mut Vec::new()).unwrap();
    }
    let write = || {
        let tx = store.begin("test")?;
        let (key, bytes) = block(1000);
        tx.put(&key, &bytes, 1, &[])?;
        let update = RefUpdate { name: "heads/main".to_owned(), expected: before, target: Target::Commit(key.id) };
        tx.update_refs(&[update], "limited", Nonce([2; 16]))
    };
    match write() {
        Ok(_) => println!("went through"),
        Err(error) => {
            assert_eq!(error.io().map(std::io::Error::kind), Some(ErrorKind::FileTooLarge), "{error}");
            println!("was refused");
        }
    }
}
