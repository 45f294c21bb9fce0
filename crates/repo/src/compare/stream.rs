//! One pass over pairs of tensors, whose sums are the same bits wherever the tensors are kept and however many threads there are.

use rayon::prelude::*;
use shard_codecs::kernel::ChangeSums;
use shard_core::{Progress, TensorView};
use shard_formats::Source as _;

use super::part::{Part, PartReader, STEP, at_once};
use crate::error::{RepoError, Result};
use crate::numeric::compare;

/// Two tensors of one type and length.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) old: (&'a Part, &'a TensorView),
    pub(super) new: (&'a Part, &'a TensorView),
}

/// A run of a pair that one thread works through.
struct Run {
    job: usize,
    offset: u64,
    len: u64,
}

/// The sums of each pair. Blocks that both sides have under one id are read once.
///
/// # Errors
/// What cannot be read on either side.
pub(super) fn sums(jobs: &[Job<'_>], progress: &dyn Progress) -> Result<Vec<ChangeSums>> {
    let mut runs = Vec::new();
    for (job, Job { new: (part, tensor), .. }) in jobs.iter().enumerate() {
        let len = tensor.byte_len().unwrap_or(0);
        let step = part.cut.tensor_block(tensor.dtype).max(1) as u64;
        runs.extend((0..len).step_by(step as usize).map(|offset| Run { job, offset, len: (len - offset).min(step) }));
    }
    let parts = jobs.iter().flat_map(|job| [job.old.0, job.new.0]);
    let found: Vec<ChangeSums> = runs
        .par_iter()
        .with_min_len(at_once(parts))
        .map_init(Buffers::default, |buffers, run| sums_of_run(&jobs[run.job], run, buffers, progress))
        .collect::<Result<_>>()?;
    let mut sums = vec![ChangeSums::default(); jobs.len()];
    for (run, found) in runs.iter().zip(&found) {
        sums[run.job].merge(found);
    }
    Ok(sums)
}

#[derive(Default)]
struct Buffers {
    old: Vec<u8>,
    new: Vec<u8>,
}

fn sums_of_run(job: &Job<'_>, run: &Run, buffers: &mut Buffers, progress: &dyn Progress) -> Result<ChangeSums> {
    let Buffers { old, new } = buffers;
    let dtype = job.new.1.dtype;
    let unit = dtype.storage_unit().1;
    let piece = STEP / unit * unit;
    let (mut old_reader, mut new_reader) = (PartReader::new(job.old.0), PartReader::new(job.new.0));
    let mut sums = ChangeSums::default();
    // A stored block is decoded as a whole; of a file no more is read than the cache holds.
    let at_a_time = if job.old.0.on_disk().is_some() && job.new.0.on_disk().is_some() { piece } else { run.len };
    let end = run.offset + run.len;
    for offset in (run.offset..end).step_by(at_a_time.max(1) as usize) {
        let len = (end - offset).min(at_a_time);
        old_reader.read(job.old.1, offset, len, old)?;
        let same = job.old.0.same_block(job.old.1, job.new, offset, len);
        if !same {
            new_reader.read(job.new.1, offset, len, new)?;
        }
        let new = if same { &*old } else { &*new };
        for (old, new) in old.chunks(piece as usize).zip(new.chunks(piece as usize)) {
            sums.merge(&compare(dtype, old, new));
        }
    }
    progress.advance(run.len);
    Ok(sums)
}

/// Whether two files are the same bytes: told at the first that differ.
///
/// # Errors
/// What cannot be read.
pub(super) fn same_files(old: &Part, new: &Part) -> Result<bool> {
    let (Some((old, old_path)), Some((new, new_path))) = (old.on_disk(), new.on_disk()) else { return Ok(false) };
    if old.len() != new.len() {
        return Ok(false);
    }
    // Most files that differ do so at once: threads are not worth starting for them.
    let runs: Vec<u64> = (0..old.len()).step_by(STEP as usize).collect();
    let same_run = |buffers: &mut Buffers, offset: u64| {
        let len = (old.len() - offset).min(STEP) as usize;
        buffers.old.resize(len, 0);
        buffers.new.resize(len, 0);
        old.read_at(offset, &mut buffers.old).map_err(RepoError::io("cannot read", old_path))?;
        new.read_at(offset, &mut buffers.new).map_err(RepoError::io("cannot read", new_path))?;
        Ok(buffers.old == buffers.new)
    };
    let (first, rest) = runs.split_at(runs.len().min(16));
    for offset in first {
        if !same_run(&mut Buffers::default(), *offset)? {
            return Ok(false);
        }
    }
    let differs = rest.par_iter().map_init(Buffers::default, |buffers, offset| same_run(buffers, *offset));
    match differs.find_any(|same: &Result<bool>| !matches!(same, Ok(true))) {
        None => Ok(true),
        Some(found) => found,
    }
}
