//! `status` and `log` in a repository with a long history, against git in one with the same files and commits.

mod build;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use shard_repo::DEFAULT_BRANCH;

use crate::Failure;
use crate::measure::{git, run, shard};
use crate::table::{Pair, Row, seconds};

pub(crate) use build::{Shape, build_git, build_shard, message};

/// `status` and `log` take at most this many times as long as git's.
const MOST: f64 = 3.0;
/// The files of the histories, of which each commit changes one.
const SHAPE: Shape = Shape { files: 20, changed: 1, matrices: 4, rows: 32, columns: 64 };
/// Runs of each command before the measured ones.
const WARM_UP: u32 = 3;
/// Both tools read a file again whose time is too near to that of the last reading; after this time neither does.
const SETTLE: Duration = Duration::from_millis(2500);

/// Measures in `dir`.
pub(crate) fn measure(dir: &Path, commits: u32, runs: u32) -> Result<Vec<Row>, Failure> {
    let (ours, theirs) = (dir.join("shard"), dir.join("git"));
    let start = Instant::now();
    build_shard(&ours, SHAPE, commits)?;
    eprintln!("history: {commits} commits by shard's engine in {}", seconds(start.elapsed()));
    let start = Instant::now();
    build_git(&theirs, SHAPE, commits)?;
    eprintln!("history: {commits} commits by git fast-import in {}", seconds(start.elapsed()));
    against_git(&ours, &theirs, commits, runs)
}

/// The rows of `status` and `log` in two repositories with the same commits.
pub(crate) fn against_git(ours: &Path, theirs: &Path, commits: u32, runs: u32) -> Result<Vec<Row>, Failure> {
    thread::sleep(SETTLE);
    let mut rows = Vec::new();
    for command in [&["status"][..], &["log", "-n", "20"]] {
        let mut pair = Pair::default();
        for round in 0..WARM_UP + runs {
            let git = run(git(theirs).arg("--no-pager").args(command))?;
            let shard = run(shard(ours).args(command))?;
            if round == 0 {
                check(command, &String::from_utf8(git.stdout)?, commits)
                    .map_err(|why| format!("git {command:?}: {why}"))?;
                let printed = String::from_utf8(shard.stdout)?;
                check(command, &printed, commits).map_err(|why| format!("shard {command:?}: {why}"))?;
            }
            if round >= WARM_UP {
                pair.add(git.time, shard.time);
            }
        }
        rows.push(Row::time(&format!("{}, {commits} commits", command.join(" ")), &pair, MOST));
    }
    Ok(rows)
}

/// Whether a tool did what it was asked: a tree without changes, and the newest 20 commits.
fn check(command: &[&str], printed: &str, commits: u32) -> Result<(), String> {
    let has = |number: u32| printed.lines().any(|line| line.trim().ends_with(&message(number)));
    let is_right = match command {
        // A file is named only where it is not as committed.
        ["status"] => printed.contains(DEFAULT_BRANCH) && !printed.contains(".safetensors"),
        _ => (commits - 20..commits).all(has) && !has(commits - 21),
    };
    if is_right { Ok(()) } else { Err(format!("not what was expected:\n{printed}")) }
}
