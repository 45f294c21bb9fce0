//! Commit and checkout of a large file and of its next version, half of whose words have moved, against zstd.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use shard_core::Sha256;
use shard_datasets::real;
use shard_datasets::synth::{SynthOptions, synthesise_pair};

use crate::Failure;
use crate::measure::{clear, run, same, shard, size, timed_to_disk, warm};
use crate::table::{Pair, Row, mebibytes, seconds};

/// A commit has at least this share of the speed of `zstd -3 -T2`.
const LEAST_COMMIT: f64 = 0.5;
/// A checkout has at least this share of the speed of `zstd -d`.
const LEAST_CHECKOUT: f64 = 1.0;
/// Looking at a file and all its values has at least this share of the speed of reading and hashing it once, on one thread.
const LEAST_SHOW: f64 = 0.6;
/// No command takes more memory, in bytes.
pub(crate) const MOST_MEMORY: u64 = 512 << 20;

const MODEL: &str = "model.safetensors";
const VERSIONS: [&str; 2] = ["first version", "second version"];

/// What one tool took for one step: until the bytes were on the disk, and of processors' time.
struct Cost {
    time: Duration,
    cpu: Duration,
}

/// The most memory that a command of shard took, in bytes.
#[derive(Default)]
struct Memory {
    commit: u64,
    checkout: u64,
    show: u64,
}

/// Measures in `dir`, which needs room for about seven files of `bytes` bytes.
pub(crate) fn measure(dir: &Path, bytes: u64, rounds: u32) -> Result<Vec<Row>, Failure> {
    let series = real::shard_data()?.join("series/gpt-bf16");
    let bench = Large {
        inputs: [dir.join("first.safetensors"), dir.join("second.safetensors")],
        compressed: [dir.join("first.zst"), dir.join("second.zst")],
        repository: dir.join("repository"),
        output: dir.join("output"),
        dir,
    };
    let made = synthesise_pair(
        &series.join("step0385.safetensors"),
        &series.join("step0420.safetensors"),
        &SynthOptions::half_moved(bytes),
        &bench.inputs[0],
        &bench.inputs[1],
    )?;
    let moved = made.moved_share() * 100.0;
    eprintln!("large: {} each, {} tensors, {moved:.1}% of the words moved", mebibytes(made.bytes), made.tensors);

    let (mut commits, mut checkouts) = (<[Pair; 2]>::default(), <[Pair; 2]>::default());
    let mut shows = Pair::default();
    let mut sizes = [[0; 2]; 2];
    let mut memory = Memory::default();
    for round in 1..=rounds {
        fs::create_dir(&bench.repository)?;
        run(shard(&bench.repository).args(["-q", "init"]))?;
        for version in 0..2 {
            let (zstd, ours) = bench.commit(version, &mut memory)?;
            report(round, "commit", version, &zstd, &ours);
            commits[version].add(zstd.time, ours.time);
            sizes[version] = [size(&bench.compressed[version])?, size(&bench.repository.join(".shard"))?];
        }
        for (version, pair) in checkouts.iter_mut().enumerate() {
            let (zstd, ours) = bench.checkout(version, round == 1, &mut memory)?;
            report(round, "checkout", version, &zstd, &ours);
            pair.add(zstd.time, ours.time);
        }
        let (hash, show) = bench.show(&mut memory)?;
        eprintln!("large: round {round}, show: SHA-256 {}, shard {}", seconds(hash), seconds(show));
        shows.add(hash, show);
        fs::remove_dir_all(&bench.repository)?;
        for file in &bench.compressed {
            fs::remove_file(file)?;
        }
    }

    let mut rows = Vec::new();
    for (what, pairs, least) in [("commit", &commits, LEAST_COMMIT), ("checkout", &checkouts, LEAST_CHECKOUT)] {
        rows.extend(
            pairs.iter().zip(VERSIONS).map(|(pair, version)| Row::speed(&format!("{what}, {version}"), pair, least)),
        );
    }
    rows.push(Row::speed("show, with values (against SHA-256)", &shows, LEAST_SHOW));
    rows.push(Row::memory("peak memory, show", memory.show, MOST_MEMORY));
    rows.push(Row::memory("peak memory, commit", memory.commit, MOST_MEMORY));
    rows.push(Row::memory("peak memory, checkout", memory.checkout, MOST_MEMORY));
    let [[zstd_first, first], [zstd_second, both]] = sizes;
    rows.push(Row::size("stored, first version", zstd_first, first));
    rows.push(Row::size("stored, second version", zstd_second, both.saturating_sub(first)));
    Ok(rows)
}

fn report(round: u32, what: &str, version: usize, zstd: &Cost, ours: &Cost) {
    let told = |cost: &Cost| format!("{} (processors {})", seconds(cost.time), seconds(cost.cpu));
    eprintln!("large: round {round}, {what}, {}: zstd {}, shard {}", VERSIONS[version], told(zstd), told(ours));
}

struct Large<'a> {
    dir: &'a Path,
    inputs: [PathBuf; 2],
    compressed: [PathBuf; 2],
    repository: PathBuf,
    output: PathBuf,
}

impl Large<'_> {
    /// Compresses and commits a version.
    fn commit(&self, version: usize, memory: &mut Memory) -> Result<(Cost, Cost), Failure> {
        let input = &self.inputs[version];
        // The same bytes in the page cache for both: a second name of the file.
        let model = self.repository.join(MODEL);
        if version > 0 {
            fs::remove_file(&model)?;
        }
        fs::hard_link(input, &model)?;
        warm(input)?;
        let compress = || run(zstd(&["-3", "-T2"]).arg(input).arg("-o").arg(&self.compressed[version]));
        let (time, zstd) = timed_to_disk(self.dir, compress)?;
        let zstd = Cost { time, cpu: zstd.cpu };
        let (time, (add, commit)) = timed_to_disk(self.dir, || {
            let add = run(shard(&self.repository).args(["-q", "add", MODEL]))?;
            let commit = run(shard(&self.repository).args(["-q", "commit", "-m", VERSIONS[version]]))?;
            Ok((add, commit))
        })?;
        memory.commit = memory.commit.max(add.memory).max(commit.memory);
        Ok((zstd, Cost { time, cpu: add.cpu + commit.cpu }))
    }

    /// Reads and hashes the first version, and shows what its values are like.
    fn show(&self, memory: &mut Memory) -> Result<(Duration, Duration), Failure> {
        let input = &self.inputs[0];
        warm(input)?;
        let start = Instant::now();
        let (mut file, mut hash) = (File::open(input)?, Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
        let (time, digest) = (start.elapsed(), hash.finish().to_hex());
        let show = run(shard(self.dir).arg("show").arg(input))?;
        if !String::from_utf8_lossy(&show.stdout).contains(&digest) {
            return Err("show does not tell the hash of its file".into());
        }
        memory.show = memory.show.max(show.memory);
        Ok((time, show.time))
    }

    /// Decompresses and checks out a version, and compares what comes out where asked.
    fn checkout(&self, version: usize, compare: bool, memory: &mut Memory) -> Result<(Cost, Cost), Failure> {
        let revision = ["main~1", "main"][version];
        let restored = self.output.join(MODEL);
        warm(&self.compressed[version])?;
        warm(&self.repository.join(".shard"))?;
        clear(&self.output, size(&self.inputs[version])?, self.dir)?;
        let decompress = || run(zstd(&["-d"]).arg(&self.compressed[version]).arg("-o").arg(&restored));
        let (time, zstd) = timed_to_disk(self.dir, decompress)?;
        let zstd = Cost { time, cpu: zstd.cpu };
        clear(&self.output, size(&self.inputs[version])?, self.dir)?;
        let checkout = || run(shard(&self.repository).args(["-q", "checkout", revision, "-o"]).arg(&self.output));
        let (time, ours) = timed_to_disk(self.dir, checkout)?;
        if compare {
            same(&self.inputs[version], &restored)?;
        }
        fs::remove_dir_all(&self.output)?;
        memory.checkout = memory.checkout.max(ours.memory);
        Ok((zstd, Cost { time, cpu: ours.cpu }))
    }
}

fn zstd(arguments: &[&str]) -> Command {
    let mut command = Command::new("zstd");
    command.args(["-q", "-f"]).args(arguments);
    command
}
