//! `shard demo`: a model is trained here and now, every checkpoint is kept, and everything comes back exactly.

mod baseline;
mod report;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use shard_core::limits::Cut;
use shard_core::{Digest, Sha256};
use shard_datasets::train::{Event, Series, TrainConfig, train};
use shard_history::Revision;
use shard_manifest::RunRecord;
use shard_repo::{
    CheckoutOptions, CommitOptions, CompareOptions, DEFAULT_BRANCH, RepoError, Repository, compare_sides,
};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::progress::style;

/// Train a small model here and now, keep every checkpoint, compare sizes, and prove that all comes back exactly
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Work in DIR, which has to be empty or not there, and keep it; by default a temporary folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the temporary folder
    #[arg(long)]
    keep: bool,
    /// Optimizer steps; checkpoints are taken in the second half
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(12..=100_000))]
    steps: Option<u64>,
    /// A tiny model: a second or two
    #[arg(long, conflicts_with = "steps")]
    quick: bool,
}

/// The name of each kind of checkpoint in the repository.
const KINDS: [&str; 2] = ["bf16", "fp32"];

fn file_name(kind: &str) -> String {
    format!("model.{kind}.safetensors")
}

/// A checkpoint of one kind, and what it takes.
struct Kept {
    step: u64,
    kind: &'static str,
    original: PathBuf,
    sha256: Digest,
    raw: u64,
    zstd: u64,
    bitx: u64,
    /// Growth of the repository's packs.
    shard: u64,
    add_time: Duration,
}

/// A commit of one checkpoint in every kind.
struct Committed {
    id: Digest,
    step: u64,
    /// What the commit took beside its files.
    growth: u64,
}

/// A file that came back.
struct Restored {
    step: u64,
    name: String,
    expected: Digest,
    found: Digest,
}

/// Everything that was measured.
struct Outcome {
    series: Series,
    training_time: Duration,
    kept: Vec<Kept>,
    commits: Vec<Committed>,
    /// The whole repository on disk.
    repository_size: u64,
    restored: Vec<Restored>,
    restore_time: Duration,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let place = Place::new(args)?;
    let outcome = demonstrate(args, &place.path, context)?;
    let is_exact = outcome.restored.iter().all(|file| file.expected == file.found);
    if context.ui.json {
        context.ui.print_json(&report::to_json(&outcome, place.is_kept.then_some(&place.path)))?;
    } else if place.is_kept {
        context.ui.inform(&report::where_to_look(&place.path))?;
    }
    Ok(if is_exact { code::DONE } else { code::DAMAGED })
}

/// The folder that the demo works in.
struct Place {
    path: PathBuf,
    is_kept: bool,
    /// Removes it in the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new(args: &Args) -> Result<Self, Failure> {
        if let Some(path) = &args.dir {
            fs::create_dir_all(path).map_err(|error| Failure::io(path, "cannot create", &error))?;
            let mut entries = fs::read_dir(path).map_err(|error| Failure::io(path, "cannot list", &error))?;
            if entries.next().is_some() {
                return Err(Failure::new(code::REFUSED, format!("{}: is not empty", path.display()))
                    .next("name an empty folder, or one that is not there"));
            }
            return Ok(Self { path: path.clone(), is_kept: true, _temporary: None });
        }
        let temporary = tempfile::Builder::new().prefix("shard-demo-").tempdir();
        let temporary =
            temporary.map_err(|error| Failure::io(&std::env::temp_dir(), "cannot create a folder in it", &error))?;
        if args.keep {
            return Ok(Self { path: temporary.keep(), is_kept: true, _temporary: None });
        }
        Ok(Self { path: temporary.path().to_owned(), is_kept: false, _temporary: Some(temporary) })
    }
}

fn demonstrate(args: &Args, folder: &Path, context: &Context) -> Result<Outcome, Failure> {
    let say = |text: String| if context.ui.json { Ok(()) } else { context.ui.print(&text) };
    let config = configuration(args);
    let start = Instant::now();
    let series = run_training(&config, &folder.join("training"), context)?;
    let training_time = start.elapsed();
    say(report::training(&series, training_time))?;

    let root = folder.join("repository");
    let repository = Repository::init(&root, DEFAULT_BRANCH, Cut::V1, context.settings)?;
    let (kept, commits) = keep_all(&series, &repository, context)?;
    say(report::sizes(&kept, &commits, &repository_size(&repository.dir())?, context))?;

    if commits.len() > 1 {
        say(last_change(&repository, context)?)?;
    }

    let start = Instant::now();
    let restored = restore_all(&kept, &commits, &repository, &folder.join("restored"), context)?;
    let restore_time = start.elapsed();
    say(report::proof(&restored, restore_time, context))?;
    let repository_size = repository_size(&repository.dir())?;
    Ok(Outcome { series, training_time, kept, commits, repository_size, restored, restore_time })
}

fn configuration(args: &Args) -> TrainConfig {
    if args.quick {
        return TrainConfig::tiny();
    }
    match args.steps {
        None => TrainConfig::demo(),
        Some(steps) => {
            let checkpoints = (7..=12).map(|part| steps * part / 12).collect();
            let warm_up = (steps / 12).max(1);
            TrainConfig { steps, warm_up, checkpoints, ..TrainConfig::demo() }
        }
    }
}

fn run_training(config: &TrainConfig, folder: &Path, context: &Context) -> Result<Series, Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::io(folder, "cannot create", &error))?;
    let bar = if context.ui.shows_progress() { ProgressBar::new(config.steps) } else { ProgressBar::hidden() };
    bar.set_style(style("training [{wide_bar}] step {pos} of {len}, {msg}, {left} left"));
    let series = train(config, folder, &mut |event| {
        if let Event::Step { step, loss, .. } = event {
            bar.set_position(step);
            bar.set_message(format!("loss {loss:.3}"));
        }
    });
    bar.finish_and_clear();
    series.map_err(|error| {
        let failure = Failure::new(code::SYSTEM, "the training stopped").because(&error);
        match std::error::Error::source(&error) {
            Some(source) => failure.because(source),
            None => failure,
        }
    })
}

/// Adds and commits every checkpoint, and measures what it takes and what others would take for it.
fn keep_all(
    series: &Series,
    repository: &Repository,
    context: &Context,
) -> Result<(Vec<Kept>, Vec<Committed>), Failure> {
    let mut kept: Vec<Kept> = Vec::new();
    let mut commits = Vec::new();
    let mut before: [Option<Vec<u8>>; 2] = [None, None];
    let mut size = packs_size(repository)?;
    let progress = context.ui.progress();
    for checkpoint in &series.checkpoints {
        for ((kind, original), before) in KINDS.into_iter().zip([&checkpoint.bf16, &checkpoint.fp32]).zip(&mut before) {
            let bytes = fs::read(original).map_err(|error| Failure::io(original, "cannot read", &error))?;
            let packing = |error| Failure::io(original, "cannot compress", &error);
            let zstd = baseline::zstd_len(&bytes).map_err(packing)?;
            let bitx = match &before {
                None => zstd,
                Some(before) => baseline::bitx_len(before, &bytes).map_err(packing)?,
            };
            let target = repository.root().join(file_name(kind));
            fs::write(&target, &bytes).map_err(|error| Failure::io(&target, "cannot write", &error))?;
            let start = Instant::now();
            repository.add(std::slice::from_ref(&target), progress.as_ref())?;
            let add_time = start.elapsed();
            let grown = packs_size(repository)?;
            kept.push(Kept {
                step: checkpoint.step,
                kind,
                original: original.clone(),
                sha256: shard_core::sha256(&bytes),
                raw: bytes.len() as u64,
                zstd,
                bitx,
                shard: grown.saturating_sub(size),
                add_time,
            });
            size = grown;
            *before = Some(bytes);
        }
        let report = repository.commit(&CommitOptions {
            message: format!("step {}: loss {:.3}", checkpoint.step, checkpoint.loss),
            record: Some(record(series, checkpoint.step, checkpoint.learning_rate)),
            ..CommitOptions::default()
        })?;
        let grown = packs_size(repository)?;
        commits.push(Committed { id: report.id, step: checkpoint.step, growth: grown.saturating_sub(size) });
        size = grown;
    }
    Ok((kept, commits))
}

fn record(series: &Series, step: u64, learning_rate: f64) -> RunRecord {
    let mut hyperparameters: serde_json::Map<String, serde_json::Value> =
        series.config.hyperparameters().into_iter().collect();
    hyperparameters.insert("learning_rate".to_owned(), learning_rate.into());
    RunRecord {
        model_name: Some("demo".to_owned()),
        step: Some(step),
        seed: Some(series.config.seed),
        framework: Some("candle".to_owned()),
        hyperparameters,
        ..RunRecord::default()
    }
}

/// What the last checkpoint changed, by layer.
fn last_change(repository: &Repository, context: &Context) -> Result<String, Failure> {
    let models = |text: &str| {
        let revision = Revision::parse(text).map_err(RepoError::from)?;
        repository.models(&revision, &file_name(KINDS[0]))
    };
    let (mut old, mut new) = (models("HEAD~1")?, models("HEAD")?);
    let (Some((_, old)), Some((_, new))) = (old.pop_first(), new.pop_first()) else { return Ok(String::new()) };
    let comparison = compare_sides(&old, &new, CompareOptions::default(), context.ui.progress().as_ref())?;
    Ok(super::diff::as_picture(&old, &new, &comparison, context))
}

/// Writes every commit's files into a folder of its own and hashes them.
fn restore_all(
    kept: &[Kept],
    commits: &[Committed],
    repository: &Repository,
    folder: &Path,
    context: &Context,
) -> Result<Vec<Restored>, Failure> {
    let progress = context.ui.progress();
    let mut restored = Vec::new();
    for commit in commits {
        let target = folder.join(format!("step{:04}", commit.step));
        let options = CheckoutOptions { force: false };
        repository.export(&commit.id.to_hex(), &[], &target, options, progress.as_ref())?;
        for original in kept.iter().filter(|kept| kept.step == commit.step) {
            let name = file_name(original.kind);
            let expected = hash_file(&original.original)?;
            let found = hash_file(&target.join(&name))?;
            restored.push(Restored { step: commit.step, name, expected, found });
        }
    }
    Ok(restored)
}

fn hash_file(path: &Path) -> Result<Digest, Failure> {
    let failed = |error| Failure::io(path, "cannot read", &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hash.finish()),
            len => hash.update(&buffer[..len]),
        }
    }
}

/// Bytes of all packs.
fn packs_size(repository: &Repository) -> Result<u64, Failure> {
    repository_size(&repository.dir().join("packs"))
}

/// Bytes of all files below a folder.
fn repository_size(folder: &Path) -> Result<u64, Failure> {
    let failed = |error| Failure::io(folder, "cannot list", &error);
    let mut total = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        total += if metadata.is_dir() { repository_size(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_lie_in_the_second_half() {
        let args = |steps| Args { dir: None, keep: false, steps, quick: false };
        assert_eq!(configuration(&args(Some(12))).checkpoints, [7, 8, 9, 10, 11, 12]);
        assert_eq!(configuration(&args(Some(240))).checkpoints, TrainConfig::demo().checkpoints);
        assert_eq!(configuration(&args(None)), TrainConfig::demo());
    }

    #[test]
    fn a_folder_that_is_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "").unwrap();
        let args = Args { dir: Some(folder.path().to_owned()), keep: false, steps: None, quick: true };
        assert_eq!(Place::new(&args).err().map(|failure| failure.code()), Some(code::REFUSED));
        assert_eq!(repository_size(folder.path()).unwrap(), 0);
    }
}
