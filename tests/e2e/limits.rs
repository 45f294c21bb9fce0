//! Too little of something: a full disk, a read-only one, limits on files, memory and open files. The command fails and says
//! why; what was there stays readable; with more room it works again.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![cfg(unix)]

use std::fs;
use std::io::Write as _;
use std::process::Command;

use shard_datasets::cases::every_change;
use shard_datasets::rng::Rng;
use shard_tests::crash::State;
use shard_tests::disk::{SmallDisk, file_size_limit};
use shard_tests::process::{Shard, exit};
use shard_tests::tree::{digests, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

fn repository(folder: &std::path::Path) -> Shard {
    let shard = Shard::new(SHARD, folder);
    shard.ok(&["init"]);
    write(&folder.join("model.safetensors"), &every_change(1).unwrap().0);
    shard.ok(&["add", "model.safetensors"]);
    shard.ok(&["commit", "-m", "First"]);
    shard
}

/// A small disk. Where this user may not mount, the limits on the size of files are all that the quick suite tests.
fn small_disk(kib: u64) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(kib);
    assert!(disk.is_some() || !cfg!(feature = "data-suite"), "this suite has to be allowed to mount a tmpfs");
    disk
}

/// Everything that only reads works, and the commit's file is the right one.
fn check_readable(shard: &Shard, state: &State, context: &str) {
    assert_eq!(State::of(shard), *state, "{context}: expected the state from before");
    let verified = shard.run(&["verify", "--full"]);
    assert_eq!(verified.code, Some(exit::DONE), "{context}: expected nothing wrong\n{verified}");
    let elsewhere = TempDir::new().unwrap();
    let out = elsewhere.path().join("out");
    shard.ok(&["checkout", "HEAD", "model.safetensors", "-o", out.to_str().unwrap()]);
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), every_change(1).unwrap().0, "{context}");
}

#[test]
fn fault_06_full_disk() {
    let Some(disk) = small_disk(6 << 10) else { return };
    let shard = repository(disk.path());
    write(&disk.path().join("big.bin"), &Rng::new(9).noise(3 << 20));
    let before = State::of(&shard);
    let _ = shard.run(&["add", "big.bin"]).expect_error(&[exit::SYSTEM]).says("space");
    check_readable(&shard, &before, "after a write that found the disk full");
    let left = shard_tests::tree::files_ending(&disk.path().join(".shard/tmp"), "");
    assert!(left.is_empty(), "expected that a failed write gives its room back, found {left:?}");

    // Not a byte left.
    let mut filler = fs::File::create(disk.path().join(".shard/filler")).unwrap();
    while filler.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    drop(filler);
    check_readable(&shard, &before, "with not a byte left");
    for args in
        [&["add", "big.bin"][..], &["commit", "-m", "x", "--allow-empty"], &["pack", "big.bin", "-o", "big.shard"]]
    {
        let _ = shard.run(args).expect_error(&[exit::SYSTEM]).says("space");
        check_readable(&shard, &before, &format!("after {args:?} with not a byte left"));
    }
    assert!(!disk.path().join("big.shard").exists(), "expected no archive that is not whole");

    fs::remove_file(disk.path().join(".shard/filler")).unwrap();
    disk.resize(32 << 10);
    shard.ok(&["add", "big.bin"]);
    shard.ok(&["commit", "-m", "Second"]);
    let expected = digests(disk.path());
    shard.ok(&["verify", "--full"]);
    // And a checkout onto a full disk leaves the target as it was.
    let small = SmallDisk::mount(1 << 10).expect("a second disk can be mounted as the first was");
    let out = small.path().join("out");
    let _ = shard.run(&["checkout", "HEAD", "-o", out.to_str().unwrap()]).expect_error(&[exit::SYSTEM]).says("space");
    assert!(!out.join("big.bin").exists(), "expected no file that is not whole");
    small.resize(16 << 10);
    shard.ok(&["checkout", "HEAD", "-o", out.to_str().unwrap(), "--force"]);
    assert_eq!(digests(&out), expected, "expected every file once there is room");
}

/// Room for small files and not for a pack; and for nothing at all, where caches have to go before a collection can begin.
#[test]
fn fault_06_a_collection_gives_room_back_on_a_full_disk() {
    collect_on_a_full_disk(300 << 10);
    collect_on_a_full_disk(0);
}

fn collect_on_a_full_disk(room: u64) {
    let Some(disk) = small_disk(8 << 10) else { return };
    let shard = repository(disk.path());
    // A commit that is dead, and a pack of which half is.
    write(&disk.path().join("dead.bin"), &Rng::new(9).noise(1 << 20));
    shard.ok(&["add", "dead.bin"]);
    shard.ok(&["commit", "-m", "Dead"]);
    shard.ok(&["reset", "--hard", "HEAD~1"]);
    write(&disk.path().join("half.bin"), &Rng::new(9).noise(700_001));
    write(&disk.path().join("other.bin"), &Rng::new(9).noise(900_002)[1..]);
    shard.ok(&["add", "-A"]);
    fs::remove_file(disk.path().join("other.bin")).unwrap();
    shard.ok(&["add", "-A"]);
    shard.ok(&["commit", "-m", "Half"]);
    let before = State::of(&shard);
    let mut filler = fs::File::create(disk.path().join(".shard/filler")).unwrap();
    while filler.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    let filled = filler.metadata().unwrap().len();
    filler.set_len(filled - room).unwrap();
    drop(filler);
    let packs = || -> u64 {
        let packs = shard_tests::tree::files_ending(&disk.path().join(".shard/packs"), ".pack");
        packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum()
    };
    let full = packs();
    shard.ok(&["gc", "--prune-now"]);
    assert!(packs() + 1_500_000 < full, "{} of {full}", packs());
    check_readable(&shard, &before, "after a collection on a full disk");
}

#[test]
fn fault_07_limited_file_size() {
    let folder = TempDir::new().unwrap();
    let shard = repository(folder.path());
    write(&folder.path().join("big.bin"), &Rng::new(9).noise(2 << 20));
    let before = State::of(&shard);
    for kib in [100, 500, 1000] {
        for is_signal_ignored in [true, false] {
            let limit = file_size_limit(kib, is_signal_ignored);
            let limit: Vec<&str> = limit.iter().map(String::as_str).collect();
            let context = format!("files limited to {kib} KiB, signal ignored: {is_signal_ignored}");
            let run = shard.run_wrapped(&limit, &["add", "big.bin"]);
            if is_signal_ignored || run.code.is_some() {
                let _ = run.expect_error(&[exit::SYSTEM]);
            }
            check_readable(&shard, &before, &context);
            let elsewhere = TempDir::new().unwrap();
            let archive = elsewhere.path().join("big.shard");
            let run = shard.run_wrapped(&limit, &["pack", "big.bin", "-o", archive.to_str().unwrap()]);
            assert_ne!(run.code, Some(exit::DONE), "{context}: expected a failure\n{run}");
            assert!(!archive.exists(), "{context}: expected no archive that is not whole");
        }
    }
    shard.ok(&["add", "big.bin"]);
    shard.ok(&["commit", "-m", "Second"]);
    let limit = file_size_limit(500, true);
    let limit: Vec<&str> = limit.iter().map(String::as_str).collect();
    let _ = shard.run_wrapped(&limit, &["checkout", "HEAD", "-o", "out"]).expect_error(&[exit::SYSTEM]);
    assert!(!folder.path().join("out/big.bin").exists(), "expected no file that is not whole");
    shard.ok(&["verify", "--full"]);
}

#[test]
fn fault_08_read_only_disk() {
    let Some(disk) = small_disk(8 << 10) else { return };
    let shard = repository(disk.path());
    let state = State::of(&shard);
    write(&disk.path().join("more.bin"), b"more");
    let state = State { status: shard.status(), ..state };
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
    assert!(remounted.is_ok_and(|status| status.success()), "the disk can be made read-only");
    check_readable(&shard, &state, "on a read-only disk");
    for args in [&["add", "more.bin"][..], &["commit", "-m", "x", "--allow-empty"], &["checkout", "HEAD", "-o", "out"]]
    {
        let _ = shard.run(args).expect_error(&[exit::SYSTEM]).says("read-only");
    }
}

#[test]
fn fault_08_little_memory_and_few_open_files() {
    let folder = TempDir::new().unwrap();
    let shard = repository(folder.path());
    write(&folder.path().join("big.bin"), &Rng::new(9).noise(6 << 20));
    let limited = |script: &str, args: &[&str]| {
        shard.run_wrapped(&["sh", "-c", &format!("{script}; exec \"$@\""), "limited"], args)
    };
    let before = State::of(&shard);
    // Few open files: enough, or an error that says so.
    for files in [5, 8, 12, 16, 24] {
        let run = limited(&format!("ulimit -n {files}"), &["--threads", "2", "add", "big.bin"]);
        if run.code == Some(exit::DONE) {
            break;
        }
        // With too few to load the program's libraries it does not start at all.
        if run.code != Some(127) {
            let _ = run.expect_error(&[exit::SYSTEM, exit::DAMAGED, exit::NOT_FOUND]);
        }
        check_readable(&shard, &before, &format!("after {files} open files"));
    }
    shard.ok(&["add", "big.bin"]);
    // 256 MiB of address space.
    let run = limited("ulimit -v 262144", &["--threads", "1", "commit", "-m", "Second"]).expect(exit::DONE);
    assert_eq!(shard.status(), "", "{run}");
    let _ = limited("ulimit -v 262144", &["--threads", "1", "checkout", "HEAD", "-o", "out"]).expect(exit::DONE);
    assert_eq!(fs::read(folder.path().join("out/big.bin")).unwrap(), Rng::new(9).noise(6 << 20));
}
