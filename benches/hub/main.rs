//! hubvault beside shard, library against library: the same work on the same data and disk, in turns. `benches/hub/run` prepares
//! the peer and calls this.
//!
//! Exits with 1 where a bar is missed and with 2 where it could not be measured.
#![forbid(unsafe_code)]

mod data;
mod ours;
mod outcome;
mod peer;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use data::{SMALL_FILES, large_file, small_files, small_paths};
use ours::Ours;
use outcome::{Failure, exit_code};
use peer::Peer;
use rows::{Bar, Rows};

/// The path of the large file in repositories.
const LARGE: &str = "models/large.safetensors";
/// Commits after which the repository of small files is verified.
const VERIFIED: u64 = 200;

struct Options {
    peer: Vec<String>,
    dir: PathBuf,
    size: u64,
    commits: u64,
    rounds: u64,
    slack: f64,
    /// Only one of the parts, `large` or `small`.
    only: Option<String>,
}

const USAGE: &str = "benches/hub/run [--size 256MiB] [--commits 2000] [--rounds 3] [--slack 1] [--only large|small] [--dir DIR]

Measures shard's library beside hubvault's. --size is that of the large file, --commits the length of the history; --slack lets a
time miss its limit by that factor, for short runs on busy machines; --only measures one part.";

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        peer: Vec::new(),
        dir: PathBuf::new(),
        size: 256 << 20,
        commits: 2000,
        rounds: 3,
        slack: 1.0,
        only: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--peer" => options.peer.push(value()?),
            "--dir" => options.dir = value()?.into(),
            "--size" => {
                let text = value()?;
                options.size = text.strip_suffix("MiB").ok_or("a size ends in MiB")?.parse::<u64>()? << 20;
            }
            "--commits" => options.commits = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse::<u64>()?.max(1),
            "--slack" => options.slack = value()?.parse()?,
            "--only" => match value()? {
                part if part == "large" || part == "small" => options.only = Some(part),
                _ => return Err(USAGE.into()),
            },
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    exit_code("hub", options().and_then(|options| measure(&options)))
}

/// Both libraries, and what was measured of them.
struct Bench {
    peer: Peer,
    ours: Ours,
    rows: Rows,
    dir: PathBuf,
}

impl Bench {
    /// The folders of a repository: the peer's and ours.
    fn folders(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{name}-hubvault")), self.dir.join(format!("{name}-shard")))
    }

    /// Lets both do the same in their repositories called `name`, and checks that they counted the same.
    fn both(&mut self, name: &str, mut order: Value) -> Result<(f64, f64), Failure> {
        let (theirs, ours) = self.folders(name);
        order["repo"] = json!(theirs);
        let mut answer = self.peer.ask(&order)?;
        order["repo"] = json!(ours);
        let mut mine = self.ours.ask(&order)?;
        let seconds = |answer: &mut Value| answer["seconds"].take().as_f64().ok_or("an answer without its time");
        let times = (seconds(&mut answer)?, seconds(&mut mine)?);
        if answer != mine {
            return Err(format!("{}: hubvault says {answer}, shard {mine}", order["do"]).into());
        }
        Ok(times)
    }

    /// The same, as a row of the table.
    fn row(&mut self, row: &'static str, bar: Bar, name: &str, order: Value) -> Result<(), Failure> {
        let times = self.both(name, order)?;
        eprintln!("{row}: hubvault {:.4} s, shard {:.4} s", times.0, times.1);
        self.rows.add(row, bar, times);
        Ok(())
    }

    fn stored(&mut self, row: &'static str, name: &str) -> Result<(), Failure> {
        let (theirs, ours) = self.folders(name);
        self.rows.stored(row, size(&theirs)?, size(&ours)?);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        let (theirs, ours) = self.folders(name);
        fs::remove_dir_all(theirs)?;
        Ok(fs::remove_dir_all(ours)?)
    }
}

fn measure(options: &Options) -> Result<usize, Failure> {
    let dir = tempfile::Builder::new().prefix("hub-").tempdir_in(&options.dir)?;
    let mut bench = Bench {
        peer: Peer::start(&options.peer)?,
        ours: Ours::default(),
        rows: Rows::default(),
        dir: dir.path().to_owned(),
    };
    let wants = |part: &str| options.only.as_ref().is_none_or(|only| only == part);
    let rounds = if wants("large") { options.rounds } else { 0 };
    for round in 0..rounds {
        for (kind, names) in [("random", LargeRows::RANDOM), ("bf16", LargeRows::BF16)] {
            let file = dir.path().join(kind);
            large_file(&file, kind, options.size, round)?;
            large(&mut bench, &file, options, names)?;
            fs::remove_file(file)?;
        }
    }
    if wants("small") {
        small(&mut bench, options)?;
    }
    Ok(bench.rows.report(options.slack))
}

/// The names of the rows of a large file.
struct LargeRows {
    upload: &'static str,
    ranges: &'static str,
    short: &'static str,
    cold: &'static str,
    warm: &'static str,
    verify: &'static str,
    stored: &'static str,
}

impl LargeRows {
    const RANDOM: Self = Self {
        upload: "upload of a large file, random bytes",
        ranges: "reads of 1 MiB at random, random bytes",
        short: "reads of 64 KiB at random, random bytes",
        cold: "download, cold, random bytes",
        warm: "download again, random bytes",
        verify: "full verify, random bytes",
        stored: "stored, random bytes",
    };
    const BF16: Self = Self {
        upload: "upload of a large file, bf16 weights",
        ranges: "reads of 1 MiB at random, bf16 weights",
        short: "reads of 64 KiB at random, bf16 weights",
        cold: "download, cold, bf16 weights",
        warm: "download again, bf16 weights",
        verify: "full verify, bf16 weights",
        stored: "stored, bf16 weights",
    };
}

fn large(bench: &mut Bench, file: &Path, options: &Options, rows: LargeRows) -> Result<(), Failure> {
    bench.both("large", json!({"do": "create"}))?;
    bench.row(rows.upload, Bar::Faster, "large", json!({"do": "upload", "file": file, "path": LARGE}))?;
    for (row, len, count) in [(rows.ranges, 1 << 20, 256), (rows.short, 64 << 10, 1024)] {
        let starts = data::starts(options.size - len, count).into_iter();
        let ranges: Vec<(u64, u64)> = starts.map(|start| (start, len)).collect();
        bench.row(row, Bar::Faster, "large", json!({"do": "range_reads", "path": LARGE, "ranges": ranges}))?;
    }
    bench.row(rows.cold, Bar::Faster, "large", json!({"do": "cold_download", "path": LARGE}))?;
    bench.row(rows.warm, Bar::TenTimes, "large", json!({"do": "warm_downloads", "path": LARGE, "times": 200}))?;
    bench.row(rows.verify, Bar::Faster, "large", json!({"do": "full_verify"}))?;
    for place in [bench.folders("large").0, bench.folders("large").1] {
        fs::remove_dir_all(place.join("cache"))?;
    }
    bench.stored(rows.stored, "large")?;
    bench.remove("large")
}

fn small(bench: &mut Bench, options: &Options) -> Result<(), Failure> {
    let folder = bench.dir.join("small");
    small_files(&folder)?;
    bench.row("making a repository", Bar::Faster, "small", json!({"do": "create"}))?;
    bench.row("upload of 1,000 small files", Bar::Faster, "small", json!({"do": "upload_folder", "folder": folder}))?;
    let paths = small_paths();
    for _ in 0..options.rounds {
        bench.row("1,000 small files read", Bar::TenTimes, "small", json!({"do": "small_reads", "paths": paths}))?;
    }
    // After the first commits: of 2,000 hubvault had not ended a quick verification after 12 minutes.
    let mut made = 0;
    let mut commits = |bench: &mut Bench, count: u64| {
        let order = json!({"do": "commits", "path": "log/state.txt", "first": made, "count": count});
        made += count;
        bench.row("commits of one small file", Bar::TenTimes, "small", order)
    };
    let verified = options.commits.min(VERIFIED);
    commits(bench, verified)?;
    bench.row("quick verify", Bar::TenTimes, "small", json!({"do": "quick_verify"}))?;
    bench.row("full verify, small files", Bar::Faster, "small", json!({"do": "full_verify"}))?;
    let left = options.commits - verified;
    for chunk in 0..options.rounds {
        let until = |chunk| left * chunk / options.rounds;
        commits(bench, until(chunk + 1) - until(chunk))?;
    }
    for round in 0..options.rounds {
        bench.row("history listed", Bar::TenTimes, "small", json!({"do": "list_commits"}))?;
        bench.row("nested tree listed", Bar::TenTimes, "small", json!({"do": "list_tree"}))?;
        let branch = format!("side-{round}");
        let (ours, theirs) = (format!("log/ours-{round}.txt"), format!("log/theirs-{round}.txt"));
        bench.row(
            "merge",
            Bar::TenTimes,
            "small",
            json!({"do": "merge", "branch": branch, "ours": ours, "theirs": theirs}),
        )?;
    }
    bench.stored("stored, small files and history", "small")?;
    bench.row("squash and cleanup", Bar::Faster, "small", json!({"do": "squash"}))?;
    bench.stored("stored after squash", "small")?;
    let tree = bench.both("small", json!({"do": "list_tree"}))?;
    eprintln!("{SMALL_FILES} files are still there, listed in {:.4} s and {:.4} s", tree.0, tree.1);
    Ok(())
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}
