//! A repository with a thousand commits, through the engine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::time::{Duration, Instant};

use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_history::Revision;
use shard_repo::{CheckoutOptions, CommitOptions, Repository, Settings};
use shard_tests::long_history::{MODEL, build, minute};
use shard_tests::tree::sizes;
use tempfile::TempDir;

#[test]
fn a_thousand_commits() {
    const COMMITS: usize = 1000;
    // In memory where that is possible: thousands of syncs are no part of what is tested here.
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    build(folder.path(), COMMITS, 8);
    // As another process finds it.
    let repository = Repository::discover(folder.path(), Settings::default()).unwrap();
    let head = repository.head().unwrap().commit.expect("there are commits");
    let log = repository.log(head, None, usize::MAX).unwrap();
    assert_eq!(log.len(), COMMITS);
    for (entry, number) in log.iter().zip((0..COMMITS).rev()) {
        assert_eq!(entry.commit.message, format!("Version {number}"));
        assert_eq!(entry.commit.created_at, minute(number));
    }
    assert_eq!(repository.log(head, Some("notes"), usize::MAX).unwrap().len(), COMMITS / 10);
    assert!(repository.status().unwrap().is_clean());

    let last = fs::read(folder.path().join(MODEL)).unwrap();
    let out = tempfile::tempdir().unwrap();
    for revision in ["HEAD~999", "HEAD~500", "HEAD"] {
        let options = CheckoutOptions { force: true };
        repository.export(revision, &[MODEL.to_owned()], out.path(), options, &NoProgress).unwrap();
        let found = fs::read(out.path().join(MODEL)).unwrap();
        assert_eq!(found == last, revision == "HEAD", "{revision}");
    }
    let bytes: u64 = sizes(&repository.dir()).values().sum();
    println!("{COMMITS} commits: {} files, {bytes} bytes", sizes(&repository.dir()).len());
    let report = repository.verify(true, &NoProgress).unwrap();
    assert_eq!((report.commits, report.problems), (COMMITS as u64, Vec::<String>::new()));
}

/// A safetensors file of tensors of four bytes.
fn file(values: &[u32]) -> Vec<u8> {
    let entry = |index: usize| {
        let (from, to) = (4 * index, 4 * index + 4);
        format!("\"layers.{index}.w\":{{\"dtype\":\"U32\",\"shape\":[1],\"data_offsets\":[{from},{to}]}}")
    };
    let mut header = format!("{{{}}}", (0..values.len()).map(entry).collect::<Vec<_>>().join(","));
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

#[test]
fn two_hundred_tensors_are_blamed_on_a_thousand_commits() {
    const COMMITS: u32 = 1000;
    const TENSORS: u32 = 200;
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let repository = Repository::init(folder.path(), "main", Cut::V1, Settings::default()).unwrap();
    let place = folder.path().join(MODEL);
    let mut values: Vec<u32> = (0..TENSORS).collect();
    for number in 0..COMMITS {
        // The first tensor stays as it was, so that all of the history has to be looked at.
        let changed = 1 + number % (TENSORS - 1);
        values[changed as usize] = (number + 1) * TENSORS;
        fs::write(&place, file(&values)).unwrap();
        repository.add(std::slice::from_ref(&place), &NoProgress).unwrap();
        let options = CommitOptions { message: number.to_string(), ..CommitOptions::default() };
        repository.commit(&options).unwrap();
    }
    let repository = Repository::discover(folder.path(), Settings::default()).unwrap();
    let start = Instant::now();
    let lines = repository.blame(&Revision::head(), MODEL, None).unwrap();
    let took = start.elapsed();
    assert_eq!(lines.len(), TENSORS as usize);
    for (index, line) in (0..TENSORS).zip(&lines) {
        assert_eq!(line.tensor, format!("layers.{index}.w"));
        let last = (0..COMMITS).rev().find(|number| 1 + number % (TENSORS - 1) == index).unwrap_or(0);
        assert_eq!(line.commit.message, last.to_string(), "{index}");
    }
    let start = Instant::now();
    let operations = repository.operations().unwrap().entries.len();
    println!("blame took {took:?}, the log of {operations} operations {:?}", start.elapsed());
    assert_eq!(operations, 1 + 2 * COMMITS as usize);
    // Built for release it takes a fraction of this; it must not become minutes.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
