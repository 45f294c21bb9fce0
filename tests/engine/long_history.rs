//! A repository with a thousand commits, through the engine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use shard_core::NoProgress;
use shard_repo::{CheckoutOptions, Repository, Settings};
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
