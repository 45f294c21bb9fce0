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
/// All trained versions take at most so many times what the first takes, and plain deltas.
#[cfg(feature = "demo")]
const MOST_STORED: f64 = 1.3;
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
    let mut walk = Walk::new(WalkOptions::pre_training(bytes, u64::from(checkpoints)))?;
    let raw = bench.commit(checkpoints, |_, model| Ok(walk.write_next(model)?))?;
    let stored = size(&bench.repository.join(".shard"))?;
    let restore = bench.slowest(&format!("restore, slowest of {checkpoints} versions"), checkpoints, runs)?;
    Ok(vec![restore, Row::size(&format!("stored, {checkpoints} versions"), raw, stored)])
}

/// The same of a model that is trained for it, in both of its types: what all versions take, beside the first and plain deltas, each
/// to the version before, however long the restore of the last would then be.
#[cfg(feature = "demo")]
pub(crate) fn measure_trained(dir: &Path, checkpoints: u32, runs: u32) -> Result<Vec<Row>, Failure> {
    use shard_datasets::train::{TrainConfig, train};

    /// Steps before the first checkpoint, and from each to the next.
    const STEPS: (u64, u64) = (40, 4);
    let steps: Vec<u64> = (0..u64::from(checkpoints)).map(|index| STEPS.0 + index * STEPS.1).collect();
    let last = steps.last().copied().unwrap_or(STEPS.0);
    let config = TrainConfig { steps: last, checkpoints: steps, ..TrainConfig::demo() };
    let start = Instant::now();
    let trained = train(&config, &dir.join("trained"), &mut |_| ())?;
    eprintln!("series: {checkpoints} checkpoints were trained in {}", seconds(start.elapsed()));
    let mut rows = Vec::new();
    for dtype in ["bf16", "fp32"] {
        let file = |index: usize| {
            let checkpoint = trained.checkpoints.get(index).ok_or("a checkpoint is missing")?;
            Ok::<_, Failure>(if dtype == "bf16" { &checkpoint.bf16 } else { &checkpoint.fp32 })
        };
        let folder = dir.join(dtype);
        fs::create_dir(&folder)?;
        let bytes = size(file(0)?)?;
        let bench =
            Series { dir: &folder, repository: folder.join("repository"), output: folder.join("output"), bytes };
        bench.commit(checkpoints, |index, model| Ok(fs::copy(file(index)?, model)?))?;
        let stored = size(&bench.repository.join(".shard"))?;
        let archive = folder.join("plain.shard");
        let pack = |files: &[&PathBuf]| {
            run(shard(&folder).args(["-q", "pack", "--force"]).args(files).arg("-o").arg(&archive))?;
            size(&archive)
        };
        let mut plain = pack(&[file(0)?])?;
        for index in 1..checkpoints as usize {
            let alone = pack(&[file(index - 1)?])?;
            plain += pack(&[file(index - 1)?, file(index)?])? - alone;
        }
        rows.push(Row::at_most(
            &format!("stored, {checkpoints} trained versions, {dtype}"),
            plain,
            stored,
            MOST_STORED,
        ));
        rows.push(bench.slowest(&format!("restore, slowest of {checkpoints} trained, {dtype}"), checkpoints, runs)?);
        fs::remove_dir_all(&folder)?;
    }
    Ok(rows)
}

struct Series<'a> {
    dir: &'a Path,
    repository: PathBuf,
    output: PathBuf,
    bytes: u64,
}

impl Series<'_> {
    /// Makes and commits every checkpoint at default settings, and gives the bytes of all.
    fn commit(
        &self,
        checkpoints: u32,
        mut write_next: impl FnMut(usize, &Path) -> Result<u64, Failure>,
    ) -> Result<u64, Failure> {
        let start = Instant::now();
        fs::create_dir(&self.repository)?;
        run(shard(&self.repository).args(["-q", "init"]))?;
        let model = self.repository.join(MODEL);
        let mut raw = 0;
        for number in 0..checkpoints {
            raw += write_next(number as usize, &model)?;
            run(shard(&self.repository).args(["-q", "add", MODEL]))?;
            run(shard(&self.repository).args(["-q", "commit", "-m", &format!("step {number}")]))?;
        }
        self.restore("HEAD")?;
        same(&model, &self.output.join(MODEL))?;
        eprintln!("series: {checkpoints} commits of {} in {}", mebibytes(self.bytes), seconds(start.elapsed()));
        Ok(raw)
    }

    /// The restore of the slowest version against that of a keyframe.
    fn slowest(&self, bar: &str, checkpoints: u32, runs: u32) -> Result<Row, Failure> {
        let mut versions = self.versions(checkpoints)?;
        let keyframe = versions.iter().position(|version| version.depth == 0).ok_or("no version is a keyframe")?;
        let keyframe = versions.swap_remove(keyframe);
        versions.sort_by_key(|version| std::cmp::Reverse(version.decoded));
        versions.truncate(CANDIDATES);
        warm(&self.repository.join(".shard"))?;
        let mut slowest: Option<(Duration, &Version)> = None;
        for version in &versions {
            let time = self.restore(&version.revision)?.min(self.restore(&version.revision)?);
            if slowest.is_none_or(|(most, _)| time > most) {
                slowest = Some((time, version));
            }
        }
        let (_, slowest) = slowest.ok_or("there is one version only")?;
        let mut pair = Pair::default();
        for round in 1..=runs {
            let (yardstick, ours) = (self.restore(&keyframe.revision)?, self.restore(&slowest.revision)?);
            eprintln!("series: round {round}, keyframe {}, slowest {}", seconds(yardstick), seconds(ours));
            pair.add(yardstick, ours);
        }
        Ok(Row::time(&format!("{bar} ({} deep)", slowest.depth), &pair, MOST))
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
