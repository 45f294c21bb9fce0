//! Kills at the system calls of commands that move several refs, or write what others lean on, by `strace`. Behind the feature
//! `data-suite`, since it takes minutes and needs `strace`, without which it fails. `SHARD_TEST_EVERY=1` kills at every call;
//! without it at every third.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;

use shard_tests::crash::{Scene, Step};
use shard_tests::inject::{DISK_CALLS, Fault, is_possible, run};
use shard_tests::process::{Shard, exit};
use shard_tests::tree::{copy, digests, write};

const SHARD: &str = env!("CARGO_BIN_EXE_shard");
/// More calls of one kind than any of these commands makes on these files.
const MANY: u32 = 2000;
/// What the command may say that is run again after a kill: it is done, or there is nothing left to do, or to name.
const AGAIN: [i32; 4] = [exit::DONE, exit::NO, exit::NOT_FOUND, exit::REFUSED];

/// A command that is killed.
struct Case {
    name: &'static str,
    /// On a repository with two commits on `main`, checked out.
    set_up: fn(&Shard),
    args: &'static [&'static str],
    /// Its exit code where nothing kills it.
    code: i32,
    /// What a user does after the kill, before the same command again; whether it works or is not needed.
    recover: &'static [&'static [&'static str]],
    /// Whether it is run again: not where that means another thing.
    again: bool,
}

/// What has to be as before or as after: the files of what is checked out, and how many commits lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    files: BTreeMap<String, String>,
    commits: usize,
}

impl Seen {
    fn of(shard: &Shard) -> Self {
        let out = shard.folder().with_extension("out");
        shard.ok(&["checkout", "HEAD", "-o", out.to_str().unwrap()]);
        let files = digests(&out);
        fs::remove_dir_all(&out).unwrap();
        Self { files, commits: shard.commits().len() }
    }
}

fn whole(shard: &Shard, context: &str) {
    let verified = shard.run(&["verify", "--full"]);
    assert_eq!(verified.code, Some(exit::DONE), "{context}\n{verified}");
}

fn kill(case: &Case) {
    assert!(
        is_possible(),
        "this suite needs strace, and the right to trace (apt install strace; SYS_PTRACE in containers)"
    );
    let every: usize = std::env::var("SHARD_TEST_EVERY").map_or(3, |every| every.parse().unwrap());
    let scene = Scene::prepare(SHARD, 64);
    let base = scene.ready_for(Step::Commit, "base-of-case");
    base.ok(Step::Commit.args());
    (case.set_up)(&base);
    let before = Seen::of(&base);
    let rehearsal = base.at(&scene.place("rehearsal-of-case"));
    copy(base.folder(), rehearsal.folder());
    let _ = rehearsal.run(case.args).expect(case.code);
    let after = Seen::of(&rehearsal);
    let mut total = 0;
    for call in DISK_CALLS {
        for nth in (1..=MANY).step_by(every) {
            let context = format!("{} killed at {call} number {nth}", case.name);
            let shard = base.at(&scene.place("kill"));
            copy(base.folder(), shard.folder());
            let happened = run(&shard, case.args, call, nth, Fault::Kill, false).happened();
            whole(&shard, &context);
            let found = Seen::of(&shard);
            assert!(found == before || found == after, "{context}: expected {before:?}\nor {after:?}\nfound {found:?}");
            for step in case.recover {
                let _ = shard.run(step).expect_one_of(&AGAIN);
            }
            if case.again {
                let _ = shard.run(case.args).expect_one_of(&AGAIN);
                assert_eq!(Seen::of(&shard), after, "{context}: expected the end that it has without the kill");
                whole(&shard, &context);
            }
            scene.discard(&shard);
            total += u32::from(happened);
            if !happened {
                break;
            }
        }
    }
    println!("{}: killed {total} times", case.name);
    assert!(total >= 3, "{}: expected at least three kills, there were {total}", case.name);
}

const RESET: &[&str] = &["reset", "--hard", "--force"];
const ABORT: &[&str] = &["merge", "--abort", "--force"];
const PLAIN: Case = Case { name: "", set_up: |_| {}, args: &[], code: exit::DONE, recover: &[RESET], again: true };

/// A branch `side`, from the first commit, with a file of its own and the text of `notes.txt` as given.
fn side(shard: &Shard, notes: &str) {
    shard.ok(&["checkout", "-b", "side", "HEAD~1"]);
    write(&shard.folder().join("side.txt"), b"side\n");
    write(&shard.folder().join("notes.txt"), notes.as_bytes());
    shard.ok(&["add", "-A"]);
    shard.ok(&["commit", "-m", "Side"]);
    shard.ok(&["checkout", "main"]);
}

/// The same, where both changed a file in their own way.
fn both_sides(shard: &Shard) {
    side(shard, "theirs\n");
    write(&shard.folder().join("notes.txt"), b"ours\n");
    shard.ok(&["add", "-A"]);
    shard.ok(&["commit", "-m", "Ours"]);
}

fn in_conflict(shard: &Shard) {
    both_sides(shard);
    let _ = shard.run(&["merge", "side"]).expect(exit::NO);
}

#[test]
fn fault_04_kill_in_a_merge() {
    kill(&Case { name: "merge", set_up: |shard| side(shard, "first\n"), args: &["merge", "side", "-m", "M"], ..PLAIN });
}

#[test]
fn fault_04_kill_in_a_merge_with_conflicts() {
    let (args, code, recover): (&[&str], _, &[&[&str]]) = (&["merge", "side"], exit::NO, &[ABORT, RESET]);
    kill(&Case { name: "merge in conflict", set_up: both_sides, args, code, recover, ..PLAIN });
    let recover: &[&[&str]] = &[RESET];
    kill(&Case { name: "merge given up", set_up: in_conflict, args: &["merge", "--abort"], recover, ..PLAIN });
    let decided = |shard: &Shard| {
        in_conflict(shard);
        shard.ok(&["checkout", "--theirs", "notes.txt"]);
    };
    let args = &["merge", "--continue", "-m", "M"];
    kill(&Case { name: "merge continued", set_up: decided, args, recover: &[], ..PLAIN });
}

#[test]
fn fault_04_kill_in_reset_and_undo() {
    let tag = |shard: &Shard| {
        shard.ok(&["tag", "v1", "HEAD~1"]);
    };
    kill(&Case { name: "reset", set_up: tag, args: &["reset", "--hard", "v1"], ..PLAIN });
    kill(&Case { name: "undo of a commit", args: &["undo"], again: false, ..PLAIN });
}

#[test]
fn fault_04_kill_in_what_rewrites_history() {
    kill(&Case { name: "squash", args: &["squash"], recover: &[], ..PLAIN });
    kill(&Case { name: "forget", args: &["forget", "--keep-last", "1"], recover: &[], ..PLAIN });
}

#[test]
fn fault_04_kill_in_optimize() {
    kill(&Case { name: "optimize", args: &["optimize", "--level", "max"], recover: &[], ..PLAIN });
}

#[test]
fn fault_04_kill_in_moves_of_branches_and_commits_of_paths() {
    kill(&Case { name: "branch renamed", args: &["branch", "-m", "main", "trunk"], recover: &[], ..PLAIN });
    let args = &["commit", "-m", "Added", "--add", "more/notes.txt=notes.txt"];
    kill(&Case { name: "commit of a path", args, recover: &[], again: false, ..PLAIN });
}
