//! Kills in the middle of commands that exchange commits: with a folder at their system calls, by `strace`; over HTTP, of the client or the
//! server, at random instants. Behind the feature `data-suite`, since it takes minutes and needs `strace`, without which it fails.
//! `SHARD_TEST_EVERY=1` kills at every system call; without it at every fourth. `SHARD_TEST_ROUNDS` says how often is killed over HTTP, and with a
//! bucket, which `tests/stores/run` does.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "crash_exchange/bucket.rs"]
mod bucket;
#[path = "crash_exchange/http.rs"]
mod http;

use std::fs;
use std::path::Path;

use shard_datasets::rng::Rng;
use shard_tests::inject::{DISK_CALLS, Fault, is_possible, run};
use shard_tests::process::{Shard, exit};
use shard_tests::tree::{copy, digests, sizes, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");
/// How the names of packs end that are not finished.
const RESUMABLE: &str = ".received";
/// More calls of one kind than any of these commands makes on these files.
const MANY: u32 = 2000;
/// Bytes of the largest block.
const BLOCK: u64 = 4 << 20;
/// What else may be sent again: what the receiver had not written out yet, and objects beside blocks.
const BESIDE: u64 = 1 << 20;

/// A folder with a bare repository `hub` that has one commit, and with clones of it: `here` has made a second commit, which `full`
/// has too.
fn scene() -> (TempDir, Shard) {
    let folder = TempDir::new().unwrap();
    let base = folder.path().join("base");
    fs::create_dir(&base).unwrap();
    let shard = Shard::new(SHARD, &base).with_globals(&["--threads", "1"]);
    shard.ok(&["init", "--bare", "hub"]);
    shard.ok(&["clone", "./hub", "here"]);
    let commit = |path: &str, bytes: &[u8], title: &str| {
        write(&base.join("here").join(path), bytes);
        shard.ok(&["-C", "here", "add", path]);
        shard.ok(&["-C", "here", "commit", "-m", title]);
    };
    commit("first.bin", &Rng::new(1).noise(300_000), "First");
    shard.ok(&["-C", "here", "push"]);
    shard.ok(&["clone", "./hub", "there"]);
    commit("second.bin", &Rng::new(2).noise(12 << 20), "Second");
    shard.ok(&["init", "--bare", "full"]);
    shard.ok(&["-C", "here", "push", "../full"]);
    shard.ok(&["-C", "there", "remote", "set-url", "origin", "../full"]);
    (folder, shard)
}

fn head(shard: &Shard, repository: &str) -> Option<String> {
    let log = shard.run_json(&["-C", repository, "log", "main", "-n", "1"]);
    (log.code == Some(exit::DONE)).then(|| log.json()["commits"][0]["id"].as_str().unwrap().to_owned())
}

fn whole(shard: &Shard, repository: &str, context: &str) {
    let verified = shard.run(&["-C", repository, "verify", "--full"]);
    assert_eq!(verified.code, Some(exit::DONE), "{context}\n{verified}");
}

/// The bytes of packs that are not finished. Beside them there are files of the work tree that wait for their blocks.
fn unfinished(repository: &Path) -> u64 {
    let folder = repository.join("tmp");
    let files = if folder.is_dir() { sizes(&folder) } else { Default::default() };
    files.iter().filter(|(name, _)| name.ends_with(RESUMABLE)).map(|(_, size)| size).sum()
}

/// Kills a command, and then runs it again. `receiver` is the repository that it writes to, below the base; after it `main` there, or
/// the remote branch, is where `here` is. Gives how often it was killed.
fn kill(name: &str, args: &[&str], receiver: &str, again: &[&[&str]]) -> u32 {
    assert!(
        is_possible(),
        "this suite needs strace, and the right to trace (apt install strace; SYS_PTRACE in containers)"
    );
    let every: usize = std::env::var("SHARD_TEST_EVERY").map_or(4, |every| every.parse().unwrap());
    let (folder, base) = scene();
    let place = folder.path().join("kill");
    let (dir, wanted) = (receiver.strip_suffix("/.shard").unwrap_or(receiver), head(&base, "here"));
    let rehearsal = base.at(&folder.path().join("rehearsal"));
    copy(base.folder(), rehearsal.folder());
    let all = rehearsal.json(args)["bytes"].as_u64().unwrap();
    let mut killed = 0;
    for call in DISK_CALLS {
        for nth in (1..=MANY).step_by(every) {
            let context = format!("{name} killed at {call} number {nth}");
            let shard = base.at(&place);
            copy(base.folder(), &place);
            let happened = run(&shard, args, call, nth, Fault::Kill, false).happened();
            let there = place.join(receiver);
            if Path::new(&there).join("packs").exists() && head(&shard, dir).is_some() {
                whole(&shard, dir, &context);
            }
            let received = unfinished(&there).min(all);
            let mut sent = 0;
            for step in again {
                let run = shard.run_json(step);
                assert!(matches!(run.code, Some(exit::DONE | exit::REFUSED)), "{context}: {run}");
                if run.code == Some(exit::DONE) {
                    sent += run.json()["bytes"].as_u64().unwrap_or(0);
                }
            }
            assert!(
                sent + received <= all + BLOCK + BESIDE,
                "{context}: of {all} bytes {received} were there, {sent} came"
            );
            assert_eq!(head(&shard, dir), wanted, "{context}");
            whole(&shard, dir, &context);
            if dir != "hub" {
                let files = digests(&place.join(dir));
                assert_eq!(files, digests(&place.join("here")), "{context}");
            }
            fs::remove_dir_all(&place).unwrap();
            killed += u32::from(happened);
            if !happened {
                break;
            }
        }
    }
    println!("{name}: killed {killed} times");
    killed
}

#[test]
fn fault_18_kill_in_a_push() {
    assert!(kill("push", &["-C", "here", "push"], "hub", &[&["-C", "here", "push"]]) >= 10);
}

#[test]
fn fault_18_kill_in_a_pull() {
    let (pull, reset): (&[&str], &[&str]) =
        (&["-C", "there", "pull"], &["-C", "there", "reset", "--hard", "--force", "HEAD"]);
    assert!(kill("pull", pull, "there/.shard", &[reset, pull]) >= 20);
}

#[test]
fn fault_18_kill_in_a_clone() {
    let clone: &[&str] = &["clone", "./full", "new"];
    assert!(kill("clone", clone, "new/.shard", &[clone]) >= 20);
}
