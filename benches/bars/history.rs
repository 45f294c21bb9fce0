//! `status` and `log` in a repository with a long history, against git in one with the same files and commits.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_datasets::rng::Rng;
use shard_repo::{CommitOptions, DEFAULT_BRANCH, Repository, Settings};

use crate::Failure;
use crate::measure::{git, run, shard};
use crate::table::{Pair, Row, seconds};

/// `status` and `log` take at most this many times as long as git's.
const MOST: f64 = 3.0;
/// Number of files, of which each commit changes one.
const FILES: u32 = 20;
/// Elements of a matrix of a file: rows, columns.
const SHAPE: (usize, usize) = (32, 64);
/// Number of matrices in a file.
const MATRICES: usize = 4;
/// Seconds between two commits.
const INTERVAL: u64 = 60;
/// The first commit's time: 2024-01-01, in seconds since 1970.
const BEGIN: u64 = 1_704_067_200;
/// Runs of each command before the measured ones.
const WARM_UP: u32 = 3;
/// Both tools read a file again whose time is too near to that of the last reading; after this time neither does.
const SETTLE: Duration = Duration::from_millis(2500);

/// Measures in `dir`.
pub(crate) fn measure(dir: &Path, commits: u32, runs: u32) -> Result<Vec<Row>, Failure> {
    let (ours, theirs) = (dir.join("shard"), dir.join("git"));
    let start = Instant::now();
    build_shard(&ours, commits)?;
    eprintln!("history: {commits} commits by shard's engine in {}", seconds(start.elapsed()));
    let start = Instant::now();
    build_git(&theirs, commits)?;
    eprintln!("history: {commits} commits by git fast-import in {}", seconds(start.elapsed()));
    thread::sleep(SETTLE);

    let mut rows = Vec::new();
    for command in [&["status"][..], &["log", "-n", "20"]] {
        let mut pair = Pair::default();
        for round in 0..WARM_UP + runs {
            let git = run(git(&theirs).arg("--no-pager").args(command))?;
            let shard = run(shard(&ours).args(command))?;
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

fn message(number: u32) -> String {
    format!("train: step {number:05}.")
}

/// The files of the histories, as a training run would write them.
struct Series {
    rng: Rng,
    files: Vec<Vec<u16>>,
}

impl Series {
    fn new() -> Self {
        let mut rng = Rng::new(7);
        let words = MATRICES * SHAPE.0 * SHAPE.1;
        // The upper half of a binary32 is a bfloat16.
        let mut file = || (0..words).map(|_| ((rng.normal() as f32 * 0.02).to_bits() >> 16) as u16).collect();
        let files = (0..FILES).map(|_| file()).collect();
        Self { rng, files }
    }

    fn path(file: u32) -> String {
        format!("models/expert-{file:02}.safetensors")
    }

    /// The files that commit `number` has other than its parent.
    fn step(&mut self, number: u32) -> Vec<(String, Vec<u8>)> {
        let changed = if number == 0 { 0..FILES } else { number % FILES..number % FILES + 1 };
        let mut written = Vec::new();
        for file in changed {
            if let Some(words) = self.files.get_mut(file as usize) {
                for _ in 0..words.len() / 10 {
                    let at = self.rng.below(words.len() as u64) as usize;
                    words[at] ^= 1;
                }
                written.push((Self::path(file), safetensors(words)));
            }
        }
        written
    }
}

/// A safetensors file of the matrices that `words` holds one after the other.
fn safetensors(words: &[u16]) -> Vec<u8> {
    let (rows, columns) = SHAPE;
    let len = rows * columns * 2;
    let entry = |index: usize| {
        let (from, to) = (index * len, (index + 1) * len);
        format!(
            "\"layer.{index}.weight\":{{\"dtype\":\"BF16\",\"shape\":[{rows},{columns}],\"data_offsets\":[{from},{to}]}}"
        )
    };
    let mut header = format!("{{{}}}", (0..MATRICES).map(entry).collect::<Vec<_>>().join(","));
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    file
}

/// Makes the commits one by one, as `shard add` and `shard commit` would.
fn build_shard(root: &Path, commits: u32) -> Result<(), Failure> {
    let repository = Repository::init(root, DEFAULT_BRANCH, Cut::V1, Settings { threads: 1, ..Settings::default() })?;
    let mut series = Series::new();
    for number in 0..commits {
        let mut paths: Vec<PathBuf> = Vec::new();
        for (path, bytes) in series.step(number) {
            let place = root.join(path);
            place.parent().map(fs::create_dir_all).transpose()?;
            fs::write(&place, bytes)?;
            paths.push(place);
        }
        repository.add(&paths, &NoProgress)?;
        let minutes = u64::from(number) * INTERVAL / 60;
        let (day, hour, minute) = (minutes / 1440 + 1, minutes / 60 % 24, minutes % 60);
        repository.commit(&CommitOptions {
            message: message(number),
            author: Some("bars <bars@example.org>".to_owned()),
            created_at: Some(format!("2024-01-{day:02}T{hour:02}:{minute:02}:00Z")),
            ..CommitOptions::default()
        })?;
    }
    Ok(())
}

/// Makes the same commits of the same files, and a work tree of the last.
fn build_git(root: &Path, commits: u32) -> Result<(), Failure> {
    fs::create_dir(root)?;
    run(git(root).args(["init", "-q", "-b", DEFAULT_BRANCH]))?;
    let mut command: Command = git(root);
    let mut import = command.args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    if let Some(pipe) = import.stdin.take() {
        write_stream(BufWriter::new(pipe), commits)?;
    }
    let status = import.wait()?;
    if !status.success() {
        return Err(format!("git fast-import: {status}").into());
    }
    run(git(root).args(["reset", "-q", "--hard"]))?;
    Ok(())
}

/// The commits in the language of `git fast-import`.
fn write_stream(mut out: impl Write, commits: u32) -> io::Result<()> {
    let mut series = Series::new();
    for number in 0..commits {
        let time = BEGIN + u64::from(number) * INTERVAL;
        let message = message(number);
        writeln!(out, "commit refs/heads/{DEFAULT_BRANCH}\ncommitter bars <bars@example.org> {time} +0000")?;
        writeln!(out, "data {}\n{message}", message.len())?;
        for (path, bytes) in series.step(number) {
            writeln!(out, "M 100644 inline {path}\ndata {}", bytes.len())?;
            out.write_all(&bytes)?;
            writeln!(out)?;
        }
    }
    out.flush()
}
