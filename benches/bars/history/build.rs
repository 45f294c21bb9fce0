//! The same history made by shard's engine and by git.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_datasets::rng::Rng;
use shard_repo::{CommitOptions, DEFAULT_BRANCH, Repository, Settings};

use crate::Failure;
use crate::measure::{git, run};

/// Seconds between two commits.
const INTERVAL: u64 = 60;
/// The first commit's time: 2024-01-01, in seconds since 1970.
const BEGIN: u64 = 1_704_067_200;

/// What a history is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Number of files.
    pub(crate) files: u32,
    /// How many of them each commit but the first changes, in turns; all their matrices.
    pub(crate) changed: u32,
    /// Matrices in a file.
    pub(crate) matrices: usize,
    /// Rows of a matrix.
    pub(crate) rows: usize,
    /// Columns of a matrix: elements of a row.
    pub(crate) columns: usize,
}

/// The message of a commit.
pub(crate) fn message(number: u32) -> String {
    format!("train: step {number:05}.")
}

/// The files of the histories, as a training run would write them.
struct Series {
    shape: Shape,
    rng: Rng,
    files: Vec<Vec<u16>>,
}

impl Series {
    fn new(shape: Shape) -> Self {
        let mut rng = Rng::new(7);
        let words = shape.matrices * shape.rows * shape.columns;
        // The upper half of a binary32 is a bfloat16.
        let mut file = || (0..words).map(|_| ((rng.normal() as f32 * 0.02).to_bits() >> 16) as u16).collect();
        let files = (0..shape.files).map(|_| file()).collect();
        Self { shape, rng, files }
    }

    fn path(file: u32) -> String {
        format!("models/expert-{file:02}.safetensors")
    }

    /// The files that commit `number` has other than its parent.
    fn step(&mut self, number: u32) -> Vec<(String, Vec<u8>)> {
        let Shape { files, changed, rows, columns, .. } = self.shape;
        let changed = if number == 0 { files } else { changed };
        let mut written = Vec::new();
        for file in (0..changed).map(|turn| (number.wrapping_mul(changed) + turn) % files) {
            if let Some(words) = self.files.get_mut(file as usize) {
                for matrix in words.chunks_exact_mut(rows * columns) {
                    for _ in 0..matrix.len() / 10 {
                        let at = self.rng.below(matrix.len() as u64) as usize;
                        // One step more: nothing comes back to what it was.
                        matrix[at] = matrix[at].wrapping_add(1);
                    }
                }
                written.push((Self::path(file), safetensors(self.shape, words)));
            }
        }
        written
    }
}

/// A safetensors file of the matrices that `words` holds one after the other.
fn safetensors(shape: Shape, words: &[u16]) -> Vec<u8> {
    let Shape { rows, columns, matrices, .. } = shape;
    let len = rows * columns * 2;
    let entry = |index: usize| {
        let (from, to) = (index * len, (index + 1) * len);
        format!(
            "\"layer.{index}.weight\":{{\"dtype\":\"BF16\",\"shape\":[{rows},{columns}],\"data_offsets\":[{from},{to}]}}"
        )
    };
    let mut header = format!("{{{}}}", (0..matrices).map(entry).collect::<Vec<_>>().join(","));
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    file
}

/// Makes the commits one by one, as `shard add` and `shard commit` would.
pub(crate) fn build_shard(root: &Path, shape: Shape, commits: u32) -> Result<(), Failure> {
    let repository = Repository::init(root, DEFAULT_BRANCH, Cut::V1, Settings { threads: 1, ..Settings::default() })?;
    let mut series = Series::new(shape);
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
pub(crate) fn build_git(root: &Path, shape: Shape, commits: u32) -> Result<(), Failure> {
    fs::create_dir(root)?;
    run(git(root).args(["init", "-q", "-b", DEFAULT_BRANCH]))?;
    let mut command: Command = git(root);
    let mut import = command.args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    if let Some(pipe) = import.stdin.take() {
        write_stream(BufWriter::new(pipe), shape, commits)?;
    }
    let status = import.wait()?;
    if !status.success() {
        return Err(format!("git fast-import: {status}").into());
    }
    run(git(root).args(["reset", "-q", "--hard"]))?;
    Ok(())
}

/// The commits in the language of `git fast-import`.
fn write_stream(mut out: impl Write, shape: Shape, commits: u32) -> io::Result<()> {
    let mut series = Series::new(shape);
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
