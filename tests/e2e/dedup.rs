//! What is kept once costs nothing a second time.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use shard_datasets::cases::Versions;
use shard_tests::payload::payload;
use shard_tests::process::{Shard, exit, sum_in};
use shard_tests::reshard::reshard;
use shard_tests::tree::{digests, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

/// Adds, and gives the new payload bytes that the command reports, which have to be those that the store then has more.
fn add(shard: &Shard, args: &[&str]) -> u64 {
    let before = payload(shard.folder());
    let words: Vec<&str> = ["add"].into_iter().chain(args.iter().copied()).collect();
    let report = shard.json(&words);
    let reported = sum_in(&report, "files", "new_bytes");
    let after = payload(shard.folder());
    assert_eq!(after.blocks - before.blocks, reported, "expected the report to say what the store took: {report}");
    reported
}

fn versions() -> (Vec<u8>, Vec<u8>) {
    let mut versions = Versions::new(21, 4, 512, 512, 0.3);
    (versions.next().unwrap().unwrap(), versions.next().unwrap().unwrap())
}

#[test]
fn a_file_kept_twice_costs_no_payload() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let place = |name: &str| folder.path().join(name);
    let (v1, v2) = versions();
    shard.ok(&["init"]);
    write(&place("model.safetensors"), &v1);
    let first = add(&shard, &["model.safetensors"]);
    assert!(first > 0 && first < v1.len() as u64 * 9 / 10, "expected {} bytes to shrink, got {first}", v1.len());
    shard.ok(&["commit", "-m", "First"]);

    // The same path again, as it is and rewritten.
    assert_eq!(add(&shard, &["model.safetensors"]), 0);
    write(&place("model.safetensors"), &v1);
    assert_eq!(add(&shard, &["model.safetensors"]), 0);
    let _ = shard.run(&["commit", "-m", "Nothing"]).expect_error(&[exit::REFUSED]);

    // Another path, and others again in the same call: only lists and names grow.
    let before = payload(folder.path());
    write(&place("copies/model.safetensors"), &v1);
    write(&place("copies/once-more.bin"), &v1);
    assert_eq!(add(&shard, &["copies"]), 0);
    shard.ok(&["commit", "-m", "Copies"]);
    let grown = payload(folder.path()).packs - before.packs;
    assert!(grown < 16 << 10, "expected two copies of {} bytes to cost a few KiB of lists, not {grown}", v1.len());

    // Another version, and the first again in a later commit.
    write(&place("model.safetensors"), &v2);
    let second = add(&shard, &["model.safetensors"]);
    assert!(second > 0 && second < first, "expected the second version to be a delta: {second} of {first}");
    shard.ok(&["commit", "-m", "Second"]);
    let before = payload(folder.path());
    write(&place("model.safetensors"), &v1);
    assert_eq!(add(&shard, &["model.safetensors"]), 0);
    shard.ok(&["commit", "-m", "Back"]);
    let grown = payload(folder.path()).packs - before.packs;
    assert!(grown < 16 << 10, "expected the way back to cost a few KiB of lists, not {grown}");
    check(&shard, folder.path());
}

#[test]
fn a_model_in_renamed_shards_costs_under_one_percent() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let (v1, _) = versions();
    shard.ok(&["init"]);
    write(&folder.path().join("model.safetensors"), &v1);
    add(&shard, &["model.safetensors"]);
    shard.ok(&["commit", "-m", "Whole"]);
    let before = payload(folder.path());
    for (name, bytes) in reshard(&v1, 2, |name| format!("transformer.{name}")) {
        write(&folder.path().join("sharded").join(name), &bytes);
    }
    let new = add(&shard, &["sharded"]);
    assert!(new * 100 < v1.len() as u64, "expected under 1% of {} bytes, got {new}", v1.len());
    shard.ok(&["commit", "-m", "Sharded"]);
    let grown = payload(folder.path()).packs - before.packs;
    assert!(grown * 100 < v1.len() as u64, "with all lists: expected under 1% of {} bytes, got {grown}", v1.len());
    check(&shard, folder.path());
}

#[test]
fn a_model_packed_twice_costs_no_payload() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let (v1, _) = versions();
    for name in ["a.safetensors", "b.safetensors"] {
        write(&folder.path().join(name), &v1);
    }
    shard.ok(&["pack", "a.safetensors", "-o", "one.shard"]);
    shard.ok(&["pack", "a.safetensors", "b.safetensors", "-o", "two.shard"]);
    let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    let grown = size("two.shard") - size("one.shard");
    assert!(grown < 8 << 10, "expected a second copy of {} bytes to cost a few KiB of lists, not {grown}", v1.len());
}

/// Everything in the last commit comes back, and nothing is wrong.
fn check(shard: &Shard, folder: &Path) {
    let expected = digests(folder);
    shard.ok(&["verify", "--full"]);
    shard.ok(&["checkout", "HEAD", "-o", "out"]);
    assert_eq!(digests(&folder.join("out")), expected);
}
