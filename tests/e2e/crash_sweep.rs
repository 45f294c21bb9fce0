//! Faults at every single system call of every command that writes, one at a time, by `strace`. Behind the feature
//! `data-suite`, since it takes minutes and needs `strace`, without which it fails.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;

use shard_tests::crash::{Scene, State, Step};
use shard_tests::inject::{DISK_CALLS, Fault, is_possible, run};
use shard_tests::process::{Shard, exit};
use shard_tests::tree::{copy, digests, files_ending, sizes};

const SHARD: &str = env!("CARGO_BIN_EXE_shard");
/// More calls of one kind than any of these commands makes on these files.
const MANY: u32 = 2000;

fn scene() -> Scene {
    assert!(
        is_possible(),
        "this suite needs strace, and the right to trace (apt install strace; SYS_PTRACE in containers)"
    );
    Scene::prepare(SHARD, 128)
}

/// Runs `body` with 1, 2, 3 … for each system call, until it says that the fault did not happen any more. Gives how often
/// it happened.
fn sweep(what: &str, mut body: impl FnMut(&str, u32) -> bool) -> u32 {
    let mut total = 0;
    for call in DISK_CALLS {
        let hits = (1..=MANY).take_while(|nth| body(call, *nth)).count() as u32;
        assert!(hits < MANY, "{what}: {call} is called without end");
        if hits > 0 {
            println!("{what}: {call}: {hits}");
        }
        total += hits;
    }
    total
}

fn kill_everywhere(step: Step) {
    let scene = scene();
    let total = sweep(&format!("{step:?} killed"), |call, nth| {
        let context = format!("{step:?} killed at {call} number {nth}");
        let shard = scene.ready_for(step, "kill");
        let injected = run(&shard, step.args(), call, nth, Fault::Kill, false);
        let happened = injected.happened();
        if !happened {
            let _ = injected.run.expect(exit::DONE);
        }
        scene.check_interrupted(&shard, step, &context);
        scene.check_goes_on(&shard, &context);
        scene.discard(&shard);
        happened
    });
    assert!(total >= 10, "expected to hit at least ten system calls, hit {total}");
}

#[test]
fn fault_01_kill_at_every_call_of_add() {
    kill_everywhere(Step::Add);
}

#[test]
fn fault_01_kill_at_every_call_of_commit() {
    kill_everywhere(Step::Commit);
}

#[test]
fn fault_01_kill_at_every_call_of_init() {
    let scene = scene();
    let total = sweep("init killed", |call, nth| {
        let folder = scene.place("init");
        fs::create_dir(&folder).unwrap();
        let shard = scene.ready_for(Step::Add, "beside").at(&folder);
        let happened = run(&shard, &["init"], call, nth, Fault::Kill, false).happened();
        // Whatever is there: making the repository again completes it, or finds it complete.
        let _ = shard.run(&["init"]).expect_one_of(&[exit::DONE, exit::REFUSED]);
        fs::write(folder.join("a.bin"), b"abc").unwrap();
        shard.ok(&["add", "a.bin"]);
        shard.ok(&["commit", "-m", "First"]);
        let verified = shard.run(&["verify", "--full"]);
        assert_eq!(verified.code, Some(exit::DONE), "init killed at {call} number {nth}\n{verified}");
        fs::remove_dir_all(&folder).unwrap();
        fs::remove_dir_all(scene.place("beside")).unwrap();
        happened
    });
    assert!(total >= 5, "expected to hit at least five system calls, hit {total}");
}

#[test]
fn fault_01_kill_at_every_call_of_checkout() {
    let scene = scene();
    let total = sweep("checkout killed", |call, nth| {
        let context = format!("checkout killed at {call} number {nth}");
        let shard = scene.ready_for(Step::Commit, "checkout");
        shard.ok(Step::Commit.args());
        let new = digests(shard.folder());
        let happened = run(&shard, &["checkout", "HEAD~1"], call, nth, Fault::Kill, false).happened();
        let verified = shard.run(&["verify", "--full"]);
        assert_eq!(verified.code, Some(exit::DONE), "{context}\n{verified}");
        // Each file is the old one, the new one, or gone where one of them has none: never a mixture.
        shard.ok(&["status"]);
        shard.ok(&["checkout", "--force", "main"]);
        assert_eq!(digests(shard.folder()), new, "{context}: expected the branch's files back");
        shard.ok(&["checkout", "HEAD~1"]);
        assert_eq!(shard.status(), "", "{context}: expected a clean work tree at the earlier commit");
        scene.discard(&shard);
        happened
    });
    assert!(total >= 5, "expected to hit at least five system calls, hit {total}");
}

#[test]
fn fault_01_kill_at_every_call_of_checkout_leaves_whole_files() {
    let scene = scene();
    let shard = scene.ready_for(Step::Commit, "whole");
    shard.ok(Step::Commit.args());
    let new = digests(shard.folder());
    shard.ok(&["checkout", "HEAD~1"]);
    let old = digests(shard.folder());
    shard.ok(&["checkout", "main"]);
    let total = sweep("checkout of files killed", |call, nth| {
        let happened =
            run(&shard, &["checkout", "main~1", "model.safetensors", "notes.txt"], call, nth, Fault::Kill, false)
                .happened();
        let found = digests(shard.folder());
        for path in ["model.safetensors", "notes.txt"] {
            assert!(found.contains_key(path), "checkout killed at {call} number {nth}: {path} is gone");
        }
        for (path, digest) in found {
            let known = [old.get(&path), new.get(&path)];
            let is_temporary = path.starts_with(".shard-");
            assert!(
                known.contains(&Some(&digest)) || is_temporary,
                "checkout killed at {call} number {nth}: {path} is neither the old nor the new file"
            );
        }
        shard.ok(&["checkout", "--force", "main"]);
        happened
    });
    assert!(total >= 5, "expected to hit at least five system calls, hit {total}");
}

#[test]
fn fault_01_kill_at_every_call_of_pack_and_unpack() {
    let scene = scene();
    let shard = scene.ready_for(Step::Add, "pack");
    let files = ["model.safetensors", "notes.txt", "new.bin"];
    let pack: Vec<&str> = ["pack"].into_iter().chain(files).chain(["-o", "all.shard"]).collect();
    let before = sizes(shard.folder());
    let expected = digests(shard.folder());
    let packed = sweep("pack killed", |call, nth| {
        let happened = run(&shard, &pack, call, nth, Fault::Kill, false).happened();
        let archive = shard.folder().join("all.shard");
        if archive.exists() {
            let verified = shard.run(&["verify", "all.shard"]);
            assert_eq!(
                verified.code,
                Some(exit::DONE),
                "pack killed at {call} number {nth}: an archive is whole or not there\n{verified}"
            );
            fs::remove_file(&archive).unwrap();
        }
        for path in sizes(shard.folder()).keys().filter(|path| !before.contains_key(*path)) {
            fs::remove_file(shard.folder().join(path)).unwrap();
        }
        happened
    });
    shard.ok(&pack);
    let unpacked = sweep("unpack killed", |call, nth| {
        let happened = run(&shard, &["unpack", "all.shard", "-o", "out"], call, nth, Fault::Kill, false).happened();
        let out = shard.folder().join("out");
        if out.exists() {
            for (path, digest) in digests(&out).iter().filter(|(path, _)| expected.contains_key(*path)) {
                assert_eq!(
                    expected.get(path),
                    Some(digest),
                    "unpack killed at {call} number {nth}: {path} is not whole"
                );
            }
        }
        shard.ok(&["unpack", "all.shard", "-o", "out", "--force"]);
        let restored = digests(&out);
        for (path, digest) in expected.iter().filter(|(path, _)| files.contains(&path.as_str())) {
            assert_eq!(restored.get(path), Some(digest), "unpack after a kill at {call} number {nth}: {path}");
        }
        fs::remove_dir_all(&out).unwrap();
        happened
    });
    assert!(packed >= 3 && unpacked >= 3, "expected to hit system calls of both: {packed}, {unpacked}");
}

const GC: [&str; 2] = ["gc", "--prune-now"];

/// A repository with its second commit, and as much that is dead: a third one, and part of a pack that is needed.
fn with_dead(scene: &Scene, name: &str) -> Shard {
    let shard = scene.ready_for(Step::Commit, name);
    shard.ok(Step::Commit.args());
    let place = |path: &str| shard.folder().join(path);
    let before = fs::read(place("notes.txt")).unwrap();
    fs::write(place("dead.bin"), vec![7; 30_000]).unwrap();
    fs::write(place("live.bin"), vec![8; 30_000]).unwrap();
    shard.ok(&["add", "dead.bin", "live.bin"]);
    fs::remove_file(place("dead.bin")).unwrap();
    shard.ok(&["add", "-A"]);
    shard.ok(&["commit", "-m", "Third"]);
    fs::write(place("notes.txt"), b"dead too").unwrap();
    shard.ok(&["add", "notes.txt"]);
    shard.ok(&["commit", "-m", "Fourth"]);
    shard.ok(&["reset", "--hard", "HEAD~1"]);
    assert_eq!(fs::read(place("notes.txt")).unwrap(), before);
    shard
}

/// Nothing is lost, and whoever comes next finishes the collection.
fn check_collected(shard: &Shard, state: &State, expected: &std::collections::BTreeMap<String, String>, context: &str) {
    assert_eq!(State::of(shard), *state, "{context}: expected that a collection changes nothing that is seen");
    let verified = shard.run(&["verify", "--full"]);
    assert_eq!(verified.code, Some(exit::DONE), "{context}\n{verified}");
    let out = shard.folder().with_extension("out");
    shard.ok(&["checkout", "HEAD", "-o", out.to_str().unwrap()]);
    assert_eq!(digests(&out), *expected, "{context}: expected every file byte for byte");
    fs::remove_dir_all(&out).unwrap();
}

fn check_finished(shard: &Shard, context: &str) {
    let _ = shard.run(&GC).expect(exit::DONE);
    let plan = shard.run_json(&["gc", "--dry-run", "--prune-now"]).expect(exit::DONE).json()["plan"].clone();
    assert_eq!(
        (plan["dead_bytes"].as_u64(), plan["unfinished_collection"].as_bool()),
        (Some(0), Some(false)),
        "{context}: {plan}"
    );
    for folder in ["tmp", "leases"] {
        let left = files_ending(&shard.folder().join(".shard").join(folder), "");
        assert!(left.is_empty(), "{context}: expected nothing left behind, found {left:?}");
    }
}

#[test]
fn fault_01_kill_at_every_call_of_gc() {
    let scene = scene();
    let base = with_dead(&scene, "dead");
    let (state, expected) = (State::of(&base), digests(base.folder()));
    let total = sweep("gc killed", |call, nth| {
        let context = format!("gc killed at {call} number {nth}");
        let shard = base.at(&scene.place("kill"));
        copy(base.folder(), shard.folder());
        let happened = run(&shard, &GC, call, nth, Fault::Kill, false).happened();
        check_collected(&shard, &state, &expected, &context);
        check_finished(&shard, &context);
        check_collected(&shard, &state, &expected, &context);
        scene.discard(&shard);
        happened
    });
    assert!(total >= 20, "expected to hit at least twenty system calls, hit {total}");
}

#[test]
fn fault_04_a_collection_killed_twice_is_finished() {
    let scene = scene();
    let base = with_dead(&scene, "dead");
    let (state, expected) = (State::of(&base), digests(base.folder()));
    for (call, step) in [("linkat", 1), ("unlink", 2), ("fsync", 2)] {
        for first in (1..MANY).step_by(step) {
            let mut happened = false;
            for (other, second) in [("unlink", 1), ("unlink", 4), ("linkat", 2), ("fsync", 3)] {
                let context = format!("gc killed at {call} number {first}, then at {other} number {second}");
                let shard = base.at(&scene.place("twice"));
                copy(base.folder(), shard.folder());
                happened |= run(&shard, &GC, call, first, Fault::Kill, false).happened();
                let _ = run(&shard, &GC, other, second, Fault::Kill, false);
                check_collected(&shard, &state, &expected, &context);
                check_finished(&shard, &context);
                check_collected(&shard, &state, &expected, &context);
                scene.discard(&shard);
            }
            if !happened {
                break;
            }
        }
    }
}

#[test]
fn fault_06_a_disk_that_is_full_at_any_moment_of_a_collection() {
    let scene = scene();
    let base = with_dead(&scene, "dead");
    let (state, expected) = (State::of(&base), digests(base.folder()));
    for call in ["pwrite64", "linkat", "openat"] {
        for nth in 1..MANY {
            let context = format!("gc without room from {call} number {nth} on");
            let shard = base.at(&scene.place("full"));
            copy(base.folder(), shard.folder());
            let injected = run(&shard, &GC, call, nth, Fault::Error("ENOSPC"), call == "pwrite64");
            let happened = injected.happened();
            let _ = injected.run.expect_one_of(&[exit::DONE, exit::SYSTEM]);
            check_collected(&shard, &state, &expected, &context);
            check_finished(&shard, &context);
            scene.discard(&shard);
            if !happened {
                break;
            }
        }
    }
}

/// One call fails with an error. The command fails, cleanly, in the old state or the new; or it does without that call, and
/// is in the new state.
fn fail_everywhere(step: Step, calls: &[&str], error: &'static str, and_later: bool) {
    let scene = scene();
    let (mut failed, mut total) = (0, 0);
    for call in calls {
        for nth in 1..=MANY {
            let context =
                format!("{step:?} with {error} at {call} number {nth}{}", if and_later { " and later" } else { "" });
            let shard = scene.ready_for(step, "fail");
            let injected = run(&shard, step.args(), call, nth, Fault::Error(error), and_later);
            let happened = injected.happened();
            // What is opened may not be needed, and a link may be replaced by a rename.
            let has_to_fail = ["fsync", "fdatasync", "pwrite64"].contains(call) && injected.hit_what_is_kept();
            let run =
                injected.run.expect_one_of(if has_to_fail { &[exit::SYSTEM] } else { &[exit::DONE, exit::SYSTEM] });
            let is_after = scene.check_interrupted(&shard, step, &context);
            if run.code == Some(exit::DONE) {
                assert!(is_after, "{context}: expected the new state after success\n{run}");
            } else {
                failed += 1;
                let _ = run.expect_error(&[exit::SYSTEM]);
            }
            scene.check_goes_on(&shard, &context);
            scene.discard(&shard);
            total += u32::from(happened);
            if !happened {
                break;
            }
        }
    }
    println!("{step:?} with {error}: {total} calls, {failed} of them failed the command");
    assert!(failed > 0, "expected {error} at {calls:?} to make {step:?} fail at least once ({total} calls were hit)");
}

#[test]
fn fault_05_a_failing_fsync_is_never_success() {
    for step in [Step::Add, Step::Commit] {
        fail_everywhere(step, &["fsync", "fdatasync"], "EIO", false);
    }
}

#[test]
fn fault_05_failing_writes_are_never_success() {
    for step in [Step::Add, Step::Commit] {
        fail_everywhere(step, &["pwrite64", "linkat", "link", "renameat2", "rename"], "EIO", false);
    }
}

#[test]
fn fault_06_no_space_at_any_write() {
    for step in [Step::Add, Step::Commit] {
        fail_everywhere(step, &["pwrite64", "ftruncate", "linkat", "link", "openat"], "ENOSPC", false);
        fail_everywhere(step, &["pwrite64"], "ENOSPC", true);
    }
}

#[test]
fn fault_05_failing_reads_are_never_success() {
    let scene = scene();
    let shard = scene.ready_for(Step::Commit, "read");
    shard.ok(Step::Commit.args());
    let expected = digests(shard.folder());
    let mut failed = 0;
    for nth in 1..=MANY {
        let out = shard.folder().join("out");
        let injected = run(&shard, &["checkout", "HEAD", "-o", "out"], "pread64", nth, Fault::Error("EIO"), false);
        let (happened, run) = (injected.happened(), injected.run);
        if run.stderr.contains("shared libraries") {
            // The program was still being loaded.
            continue;
        }
        let run = run.expect_one_of(&[exit::DONE, exit::DAMAGED, exit::SYSTEM]);
        failed += u32::from(run.code != Some(exit::DONE));
        if out.exists() {
            let found = digests(&out);
            if run.code == Some(exit::DONE) {
                assert_eq!(found, expected, "read {nth} fails: expected all files after success");
            }
            for (path, digest) in found {
                assert_eq!(expected.get(&path), Some(&digest), "read {nth} fails: {path} is not whole\n{run}");
            }
            fs::remove_dir_all(&out).unwrap();
        }
        if !happened {
            break;
        }
    }
    assert!(failed > 0, "expected a failing read to make checkout fail at least once");
    assert_eq!(State::of(&shard), scene.committed, "expected that reading changes nothing");
}
