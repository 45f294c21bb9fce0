//! Restore of the slowest version of a long series, against that of its keyframe.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shard_datasets::synth::{Walk, WalkOptions};
use shard_history::Revision;
use shard_repo::{Repository, Settings};

use crate::Failure;
use crate::measure::{clear, run, same, shard, size, sync, warm};
use crate::table::{Pair, Row, mebibytes, seconds};

/// Any version restores in at most this many times a keyframe's time.
const MOST: f64 = 3.0;
/// How many versions that are likely to be the slowest are tried.
const CANDIDATES: usize = 5;

const MODEL: &str = "model.safetensors";

/// A version, and how much there is to decode for it.
struct Version {
    /// Its commit, as a revision.
    revision: String,
    /// Most bases of a block on its way to a keyframe.
    depth: u32,
    /// Bytes that are decoded to restore it.
    decoded: u64,
}

/// Measures in `dir`, which needs room for about the sum of the files, at most.
pub(crate) fn measure(dir: &Path, bytes: u64, checkpoints: u32, runs: u32) -> Result<Vec<Row>, Failure> {
    let bench = Series { dir, repository: dir.join("repository"), output: dir.join("output"), bytes };
    fs::create_dir(&bench.repository)?;
    let start = Instant::now();
    let raw = bench.commit(checkpoints)?;
    let repository = bench.repository.join(".shard");
    let stored = size(&repository)?;
    eprintln!("series: {checkpoints} commits of {} in {}", mebibytes(bytes), seconds(start.elapsed()));

    let mut versions = bench.versions(checkpoints)?;
    let keyframe = versions.iter().position(|version| version.depth == 0).ok_or("no version is a keyframe")?;
    let keyframe = versions.swap_remove(keyframe);
    versions.sort_by_key(|version| std::cmp::Reverse(version.decoded));
    versions.truncate(CANDIDATES);
    warm(&repository)?;
    let mut slowest: Option<(Duration, &Version)> = None;
    for version in &versions {
        let time = bench.restore(&version.revision)?.min(bench.restore(&version.revision)?);
        if slowest.is_none_or(|(most, _)| time > most) {
            slowest = Some((time, version));
        }
    }
    let (_, slowest) = slowest.ok_or("there is one version only")?;
    let mut pair = Pair::default();
    for round in 1..=runs {
        let (yardstick, ours) = (bench.restore(&keyframe.revision)?, bench.restore(&slowest.revision)?);
        eprintln!("series: round {round}, keyframe {}, slowest {}", seconds(yardstick), seconds(ours));
        pair.add(yardstick, ours);
    }
    let restore = format!("restore, slowest of {checkpoints} versions ({} deep)", slowest.depth);
    Ok(vec![Row::time(&restore, &pair, MOST), Row::size(&format!("stored, {checkpoints} versions"), raw, stored)])
}

struct Series<'a> {
    dir: &'a Path,
    repository: PathBuf,
    output: PathBuf,
    bytes: u64,
}

impl Series<'_> {
    /// Makes and commits every checkpoint at default settings, and gives the bytes of all.
    fn commit(&self, checkpoints: u32) -> Result<u64, Failure> {
        run(shard(&self.repository).args(["-q", "init"]))?;
        let mut walk = Walk::new(WalkOptions::pre_training(self.bytes, u64::from(checkpoints)))?;
        let model = self.repository.join(MODEL);
        let mut raw = 0;
        for number in 0..checkpoints {
            raw += walk.write_next(&model)?;
            run(shard(&self.repository).args(["-q", "add", MODEL]))?;
            run(shard(&self.repository).args(["-q", "commit", "-m", &format!("step {number}")]))?;
        }
        self.restore("HEAD")?;
        same(&model, &self.output.join(MODEL))?;
        Ok(raw)
    }

    /// What there is to decode for each version, the newest first.
    fn versions(&self, checkpoints: u32) -> Result<Vec<Version>, Failure> {
        let repository = Repository::discover(&self.repository, Settings::default())?;
        let mut versions = Vec::new();
        for back in 0..checkpoints {
            let revision = format!("HEAD~{back}");
            let entry = repository.file_at(&Revision::parse(&revision)?, MODEL)?;
            let (_, storage) = repository.storage(entry.manifest)?;
            let blocks = storage.blocks.values();
            let decoded = blocks.clone().map(|block| block.raw * u64::from(block.depth + 1)).sum();
            versions.push(Version { revision, depth: blocks.map(|block| block.depth).max().unwrap_or(0), decoded });
        }
        Ok(versions)
    }

    /// Restores the file of a revision into another folder, and says how long the command took. The disk has nothing to do with
    /// it: the archive is in the page cache, and so is what was written. So decoding has its whole weight.
    fn restore(&self, revision: &str) -> Result<Duration, Failure> {
        clear(&self.output, self.bytes, self.dir)?;
        sync(self.dir)?;
        let checkout = run(shard(&self.repository).args(["-q", "checkout", revision, MODEL, "-o"]).arg(&self.output))?;
        Ok(checkout.time)
    }
}
