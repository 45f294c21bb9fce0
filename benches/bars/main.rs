//! The project's performance bars: what `shard` does against a yardstick, in the same run and on the same machine, so that
//! the numbers hold anywhere. Exits with 1 where a bar is missed and with 2 where it could not be measured.
//!
//! `cargo bench -p shard-cli --bench bars -- [--size 3GiB] [--rounds 3] [--only large|diff|history|scale|codec|series|finding|exchange|buckets]
//! [--slack 1] [--dir DIR]`
//!
//! Without `--bench` among the arguments (which `cargo bench` adds and `cargo test` does not) nothing is measured.
#![forbid(unsafe_code)]
#![cfg_attr(not(unix), allow(dead_code, reason = "what measures memory and syncs is written for Unix alone"))]

#[cfg(unix)]
mod buckets;
#[cfg(unix)]
mod codec;
#[cfg(unix)]
mod diff;
#[cfg(unix)]
mod exchange;
#[cfg(unix)]
mod finding;
#[cfg(unix)]
mod history;
#[cfg(unix)]
mod large;
#[cfg(unix)]
mod measure;
#[cfg(unix)]
mod scale;
#[cfg(unix)]
mod series;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// What any step may fail with.
type Failure = Box<dyn std::error::Error>;

/// How often is measured where nothing is said.
const LARGE_ROUNDS: u32 = 3;
const CODEC_ROUNDS: u32 = 9;
const DIFF_ROUNDS: u32 = 9;
const EXCHANGE_ROUNDS: u32 = 3;
/// Size of the model that is pushed, in bytes.
const EXCHANGE_SIZE: u64 = 1 << 30;
/// Size of each of two files that are compared, in bytes.
const DIFF_SIZE: u64 = 1 << 30;
/// The codec's memory shows in a pair of files of this size together, in bytes.
const CODEC_SIZE: u64 = 1 << 30;

/// Measures shard's performance bars.
#[derive(Debug, Parser)]
#[command(name = "bars")]
struct Options {
    /// Size of each of the two large files: bytes, or a number with KiB, MiB or GiB.
    #[arg(long, default_value = "3GiB", value_parser = parse_size)]
    size: u64,
    /// How often the large files (default: 3) and the blocks of the codec (default: 9) are measured.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How often each command on a long history is measured.
    #[arg(long, default_value_t = 41, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Number of commits of the long history.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(21..))]
    commits: u32,
    /// Number of commits of the history of many tensors.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(84..))]
    scale_commits: u32,
    /// Size of each checkpoint of the long series.
    #[arg(long, default_value = "64MiB", value_parser = parse_size)]
    series_size: u64,
    /// Number of checkpoints of the long series.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..))]
    checkpoints: u32,
    /// How often the restores of the long series are measured.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    restores: u32,
    /// Number of sketched models among which a base is sought.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(500..))]
    models: u64,
    /// How often finding a base is measured.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    finds: u32,
    /// Measure only this.
    #[arg(long)]
    only: Option<Part>,
    /// Factor by which a time may miss its limit and pass all the same: for short runs on busy machines, which still catch what
    /// became several times slower. The bars are those without it.
    #[arg(long, default_value_t = 1.0)]
    slack: f64,
    /// Folder to work in, on the disk to be measured; everything made there is removed again.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Added by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Commit and checkout of a large file and its next version, against zstd.
    Large,
    /// `status` and `log` on a long history, against git.
    History,
    /// A history of 10,000 commits and a million blocks, against git and a quarter of itself.
    Scale,
    /// The codec on recorded checkpoints, against the best peers and SHA-256.
    Codec,
    /// Restore of the slowest version of a long series, against its keyframe.
    Series,
    /// The base of a new model among many, against hashing its file.
    Finding,
    /// Comparing two large files, against `cmp`.
    Diff,
    /// Pushing a large model and versions of it over HTTP, against the first push.
    Exchange,
    /// Pushing a large model to a bucket, and cloning it, against rclone copying the same bytes.
    Buckets,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..) {
        Some("" | "B") => 0,
        Some("KiB") => 10,
        Some("MiB") => 20,
        Some("GiB") => 30,
        _ => return Err("a size is a number of bytes, or ends in KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{digits:?}: {error}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("bars: nothing is measured without --bench; run `cargo bench -p shard-cli --bench bars`");
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    match run(&options) {
        Ok(mut rows) => {
            rows.iter_mut().for_each(|row| row.relax(options.slack));
            print!("{}", table::render(&rows));
            let missed = rows.iter().filter(|row| row.passed == Some(false)).count();
            if missed == 0 {
                println!("every bar is met");
                return ExitCode::SUCCESS;
            }
            println!("bars missed: {missed}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bars: {error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(unix)]
fn run(options: &Options) -> Result<Vec<table::Row>, Failure> {
    std::fs::create_dir_all(&options.dir)?;
    let mut rows = Vec::new();
    let asked = |part| options.only.is_none_or(|only| only == part);
    let folder = |prefix| tempfile::Builder::new().prefix(prefix).tempdir_in(&options.dir);
    if asked(Part::Large) {
        let dir = folder("bars-large-")?;
        rows.extend(large::measure(dir.path(), options.size, options.rounds.unwrap_or(LARGE_ROUNDS))?);
    }
    // Before what makes this process large: it would be counted as memory of the programs that it starts.
    if asked(Part::Diff) {
        let dir = folder("bars-diff-")?;
        rows.extend(diff::measure(dir.path(), options.size.min(DIFF_SIZE), options.rounds.unwrap_or(DIFF_ROUNDS))?);
    }
    if asked(Part::Exchange) {
        let dir = folder("bars-exchange-")?;
        let (size, rounds) = (options.size.min(EXCHANGE_SIZE), options.rounds.unwrap_or(EXCHANGE_ROUNDS));
        rows.extend(exchange::measure(dir.path(), size, rounds)?);
    }
    if asked(Part::Buckets) {
        let dir = folder("bars-buckets-")?;
        let (size, rounds) = (options.size.min(EXCHANGE_SIZE), options.rounds.unwrap_or(EXCHANGE_ROUNDS));
        rows.extend(buckets::measure(dir.path(), size, rounds)?);
    }
    if asked(Part::History) {
        let dir = folder("bars-history-")?;
        rows.extend(history::measure(dir.path(), options.commits, options.runs)?);
    }
    if asked(Part::Scale) {
        let dir = folder("bars-scale-")?;
        rows.extend(scale::measure(dir.path(), options.scale_commits, options.runs)?);
    }
    if asked(Part::Codec) {
        let dir = folder("bars-codec-")?;
        let size = options.size.min(CODEC_SIZE);
        rows.extend(codec::measure(dir.path(), size, options.rounds.unwrap_or(CODEC_ROUNDS))?);
    }
    if asked(Part::Series) {
        let dir = folder("bars-series-")?;
        rows.extend(series::measure(dir.path(), options.series_size, options.checkpoints, options.restores)?);
        #[cfg(feature = "demo")]
        rows.extend(series::measure_trained(dir.path(), options.checkpoints, options.restores)?);
    }
    if asked(Part::Finding) {
        let dir = folder("bars-finding-")?;
        rows.extend(finding::measure(dir.path(), options.models, options.finds)?);
    }
    Ok(rows)
}

#[cfg(not(unix))]
fn run(_: &Options) -> Result<Vec<table::Row>, Failure> {
    Err("the bars are measured on Unix only".into())
}
