//! How long the hub's operations take: many small files, many commits, listings, reads, downloads.
//!
//! `cargo test --release -p shard-tests --test hub_speed -- --ignored --nocapture` prints the rates; the sizes are those that
//! hubvault was measured with.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Instant;

use shard_core::NoProgress;
use shard_repo::{CommitOperation, CommitRequest, ListOptions, NewRepo, PathFilter, Repository, Settings};

fn measure<T>(what: &str, count: usize, run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let value = run();
    let seconds = began.elapsed().as_secs_f64();
    println!("{what:<44} {:>10.1}/s  {:>9.3} ms each", count as f64 / seconds, seconds * 1000.0 / count as f64);
    value
}

fn path(number: usize) -> String {
    format!("folder-{:02}/file-{number:04}.txt", number % 25)
}

#[test]
#[ignore = "a measurement, not a test"]
fn rates() {
    let (files, commits): (usize, usize) = (1000, std::env::var("COMMITS").map_or(200, |n| n.parse().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("hub");
    let hub = Repository::create_repo(&dir, &NewRepo::default(), Settings::default()).unwrap();
    let add = |number: usize| CommitOperation::add(path(number), format!("file {number}\n").repeat(20).into_bytes());
    let operations = (0..files).map(add).collect();
    measure("small files in one commit", files, || {
        hub.create_commit(operations, &CommitRequest::new("Many"), &NoProgress).unwrap()
    });
    measure("commits of one file", commits, || {
        for number in 0..commits {
            let operation = CommitOperation::add("notes.txt", format!("{number}").into_bytes());
            hub.create_commit(vec![operation], &CommitRequest::new(format!("Commit {number}")), &NoProgress).unwrap();
        }
    });
    let hub = measure("open", 1, || Repository::discover(&dir, Settings::default()).unwrap());
    let listed = |hub: &Repository, ids| assert_eq!(hub.list_repo_commits(None, ids).unwrap().len(), commits + 1);
    measure("commits listed, cold", commits, || listed(&hub, false));
    measure("commits listed, warm", commits, || listed(&hub, false));
    measure("commits listed with Git ids", commits, || listed(&hub, true));
    measure("commits listed with Git ids, warm", commits, || listed(&hub, true));
    let all = ListOptions { recursive: true, ..ListOptions::default() };
    let tree = |options| assert_eq!(hub.list_repo_tree(None, None, options).unwrap().len(), files + 26);
    measure("entries of the tree, cold", files, || tree(all));
    measure("entries of the tree, warm", files, || tree(all));
    measure("entries of the tree with Git ids", files, || tree(ListOptions { git_ids: true, ..all }));
    measure("entries of the tree with Git ids, warm", files, || tree(ListOptions { git_ids: true, ..all }));
    let read = || (0..files).for_each(|number| assert!(!hub.read_bytes(&path(number), None).unwrap().is_empty()));
    measure("small files read, cold", files, read);
    measure("small files read, warm", files, read);
    let download = || drop(hub.hf_hub_download("notes.txt", None, None).unwrap());
    measure("download, cold", 1, download);
    std::thread::sleep(std::time::Duration::from_millis(60));
    download();
    measure("download, warm", 1000, || (0..1000).for_each(|_| download()));
    let snapshot = || drop(hub.snapshot_download(None, None, &PathFilter::default(), &NoProgress).unwrap());
    measure("files of a snapshot, cold", files, snapshot);
    std::thread::sleep(std::time::Duration::from_millis(60));
    snapshot();
    measure("files of a snapshot, warm", files, snapshot);
}
