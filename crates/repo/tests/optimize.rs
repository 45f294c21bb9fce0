//! Optimizing a repository: smaller, the same bytes, and nothing that a collection cannot sort out.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;

use shard_codecs::Level;
use shard_core::limits::{Cut, MAX_DEPTH};
use shard_core::{Digest, NoProgress, sha256};
use shard_datasets::cases::every_change;
use shard_repo::{CheckoutOptions, CommitOptions, GcOptions, OptimizeOptions, RepoError, Repository, Settings};
use shard_store::{Choice, EntryKind, Inventory, StoreError};
use tempfile::TempDir;

const MODEL: &str = "model.safetensors";

/// Versions of a model, committed at the fast level, and their hashes.
fn series(versions: usize) -> (TempDir, Vec<Digest>) {
    let folder = TempDir::new().unwrap();
    let fast = Settings { level: Level::Fast, ..Settings::default() };
    let repository = Repository::init(folder.path(), "main", Cut::TEST, fast).unwrap();
    let mut hashes = Vec::new();
    for seed in 0..versions.div_ceil(2) as u64 {
        let (first, second) = every_change(seed).unwrap();
        for bytes in [first, second].into_iter().take(versions - hashes.len()) {
            hashes.push(sha256(&bytes));
            let place = folder.path().join(MODEL);
            fs::write(&place, bytes).unwrap();
            repository.add(&[place], &NoProgress).unwrap();
            let message = hashes.len().to_string();
            repository.commit(&CommitOptions { message, ..CommitOptions::default() }).unwrap();
        }
    }
    (folder, hashes)
}

fn open(folder: &TempDir) -> Repository {
    Repository::discover(folder.path(), Settings::default()).unwrap()
}

fn check(repository: &Repository, hashes: &[Digest]) {
    assert_eq!(repository.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());
    let out = TempDir::new().unwrap();
    for (back, hash) in hashes.iter().rev().enumerate() {
        let options = CheckoutOptions { force: true };
        repository.export(&format!("HEAD~{back}"), &[MODEL.to_owned()], out.path(), options, &NoProgress).unwrap();
        assert_eq!(sha256(&fs::read(out.path().join(MODEL)).unwrap()), *hash, "HEAD~{back}");
    }
}

/// Bytes of the blocks that a collection keeps.
fn kept(repository: &Repository) -> u64 {
    let inventory = Inventory::read(repository.store()).unwrap();
    let choice = Choice::new(repository.store(), &inventory, &[], &[]);
    let blocks = inventory.of_kind(EntryKind::Block);
    blocks
        .map(|entry| choice.location(entry).unwrap())
        .inspect(|at| assert!(at.depth <= MAX_DEPTH))
        .map(|at| at.stored_len)
        .sum()
}

/// Bytes of the packs.
fn packs(repository: &Repository) -> u64 {
    repository.store().packs().unwrap().iter().map(|pack| pack.size).sum()
}

#[test]
fn what_was_stored_fast_gets_smaller_once() {
    let (folder, hashes) = series(5);
    let repository = open(&folder);
    let head = repository.head().unwrap();
    let plan = repository.plan_optimize(OptimizeOptions::default()).unwrap();
    assert_eq!((plan.files, plan.done), (5, 0));
    assert!(plan.small_packs > 5 && plan.small_bytes > 0, "{plan:?}");
    assert_eq!(kept(&repository), plan.bytes_before);
    let report = repository.optimize(OptimizeOptions::default(), &NoProgress).unwrap();
    assert_eq!((report.files, report.blocks, report.bytes_before), (5, plan.blocks, plan.bytes_before));
    assert!(report.recoded > 0 && report.repacked > 0 && report.bytes_after < report.bytes_before, "{report:?}");
    assert_eq!(kept(&repository), report.bytes_after, "what a collection keeps is what was chosen");
    assert_eq!(repository.head().unwrap(), head);
    check(&repository, &hashes);
    // As another process finds it: nothing is left to do.
    let repository = open(&folder);
    let packs_now = repository.store().packs().unwrap().len();
    let again = repository.optimize(OptimizeOptions::default(), &NoProgress).unwrap();
    assert_eq!((again.recoded, again.repacked), (0, 0), "{again:?}");
    assert_eq!((again.bytes_before, again.bytes_after), (report.bytes_after, report.bytes_after));
    assert_eq!(repository.store().packs().unwrap().len(), packs_now);
    // What was chosen is what a collection leaves, in few packs, and there is nothing more to put together.
    let before = packs(&repository);
    repository.gc(&GcOptions::default(), &NoProgress).unwrap();
    let left = repository.store().packs().unwrap().len();
    assert!(packs(&repository) < before && left <= packs_now / 3, "{left} of {packs_now} packs");
    assert_eq!(kept(&repository), report.bytes_after);
    check(&open(&folder), &hashes);
    let last = open(&folder).optimize(OptimizeOptions::default(), &NoProgress).unwrap();
    assert_eq!((last.recoded, last.repacked, last.bytes_after), (0, 0, report.bytes_after));
}

#[test]
fn nothing_gets_larger() {
    let (folder, hashes) = series(2);
    open(&folder).optimize(OptimizeOptions::default(), &NoProgress).unwrap();
    let fast = Settings { level: Level::Fast, ..Settings::default() };
    let repository = Repository::discover(folder.path(), fast).unwrap();
    let report = repository.optimize(OptimizeOptions::default(), &NoProgress).unwrap();
    assert_eq!(report.recoded, 0, "{report:?}");
    assert_eq!(report.bytes_after, report.bytes_before);
    check(&repository, &hashes);
}

#[test]
fn an_interrupted_run_is_not_done_again() {
    let (folder, hashes) = series(4);
    let part = OptimizeOptions { resume: true, at_most: Some(1) };
    let (mut recoded, mut runs) = (0, 0);
    loop {
        let report = open(&folder).optimize(part, &NoProgress).unwrap();
        // What was done before is neither looked at nor written again.
        assert_eq!(report.done, runs.min(4), "{report:?}");
        recoded += report.recoded;
        check(&open(&folder), &hashes);
        if !report.stopped {
            break;
        }
        runs += 1;
    }
    assert!(runs >= 3, "{runs}");
    assert!(!folder.path().join(".shard/cache/optimized").exists());
    let (other, _) = series(4);
    let whole = open(&other).optimize(OptimizeOptions::default(), &NoProgress).unwrap();
    assert_eq!(recoded, whole.recoded);
    assert_eq!(kept(&open(&folder)), whole.bytes_after);
}

#[test]
fn one_at_a_time() {
    let (folder, _) = series(1);
    let repository = open(&folder);
    let other = repository.store().claim("gc").unwrap();
    let error = repository.optimize(OptimizeOptions::default(), &NoProgress).unwrap_err();
    assert!(matches!(error, RepoError::Store(StoreError::Claimed(_))), "{error}");
    drop(other);
    repository.optimize(OptimizeOptions::default(), &NoProgress).unwrap();
}
