//! One pass over pairs of tensors, whose sums are the same bits wherever the tensors are kept and however many threads there are.

use rayon::prelude::*;
use shard_codecs::kernel::ChangeSums;
use shard_core::{Progress, TensorView};
use shard_formats::Source as _;

use super::part::{Part, PartReader, STEP, at_once, in_order};
use crate::error::{RepoError, Result};
use crate::numeric::{compare, push_values};

/// Two tensors of one shape.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) old: (&'a Part, &'a TensorView),
    pub(super) new: (&'a Part, &'a TensorView),
}

/// Elements at whose multiples all types have whole storage units.
const ALIGNED: u64 = 256;

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
    for (job, Job { old: (_, before), new: (part, tensor) }) in jobs.iter().enumerate() {
        let len = tensor.byte_len().unwrap_or(0);
        // What is put in order is so as a whole.
        if before.dtype == tensor.dtype && before.strides != tensor.strides {
            runs.push(Run { job, offset: 0, len });
            continue;
        }
        // Of two types it is elements that have to lie side by side.
        let whole = if before.dtype == tensor.dtype { 1 } else { (ALIGNED / tensor.dtype.storage_unit().0).max(1) };
        let unit = tensor.dtype.storage_unit().1 * whole;
        let step = (part.cut.tensor_block(tensor.dtype) as u64 / unit * unit).max(unit);
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

/// The sums of the values of two tensors of different types; what changed is values, and there are no steps.
fn sums_of_values(job: &Job<'_>, run: &Run, buffers: &mut Buffers, progress: &dyn Progress) -> Result<ChangeSums> {
    let Buffers { old, new } = buffers;
    let (from, to) = (job.old.1.dtype.storage_unit(), job.new.1.dtype.storage_unit());
    let (mut old_reader, mut new_reader) = (PartReader::new(job.old.0), PartReader::new(job.new.0));
    let piece = ALIGNED * 16 / to.0 * to.1;
    let (mut before, mut after, mut sums) = (Vec::new(), Vec::new(), ChangeSums::default());
    let end = run.offset + run.len;
    for offset in (run.offset..end).step_by(piece.max(1) as usize) {
        let len = (end - offset).min(piece);
        let (first, count) = (offset / to.1 * to.0, len / to.1 * to.0);
        let old_offset = first / from.0 * from.1;
        let old_len =
            (count.div_ceil(from.0) * from.1).min(job.old.1.byte_len().unwrap_or(0).saturating_sub(old_offset));
        old_reader.read(job.old.1, old_offset, old_len, old)?;
        new_reader.read(job.new.1, offset, len, new)?;
        before.clear();
        after.clear();
        let known = push_values(job.old.1.dtype, old, &mut before) && push_values(job.new.1.dtype, new, &mut after);
        if known {
            before.iter().zip(&after).for_each(|(old, new)| sums.add(*old, *new, old.to_bits() != new.to_bits(), || 0));
        }
    }
    progress.advance(run.len);
    Ok(sums)
}

/// The sums of two tensors whose elements lie in different orders: both are put in one, as a whole.
fn sums_in_order(job: &Job<'_>, run: &Run, buffers: &mut Buffers, progress: &dyn Progress) -> Result<ChangeSums> {
    let dtype = job.new.1.dtype;
    for ((part, tensor), bytes) in [(job.old, &mut buffers.old), (job.new, &mut buffers.new)] {
        match in_order(part, tensor)? {
            Some(ordered) => *bytes = ordered,
            None => PartReader::new(part).read(tensor, 0, run.len, bytes)?,
        }
    }
    let piece = (STEP / dtype.storage_unit().1 * dtype.storage_unit().1) as usize;
    let mut sums = ChangeSums::default();
    for (old, new) in buffers.old.chunks(piece).zip(buffers.new.chunks(piece)) {
        sums.merge(&compare(dtype, old, new));
    }
    progress.advance(run.len);
    Ok(sums)
}

fn sums_of_run(job: &Job<'_>, run: &Run, buffers: &mut Buffers, progress: &dyn Progress) -> Result<ChangeSums> {
    if job.old.1.dtype != job.new.1.dtype {
        return sums_of_values(job, run, buffers, progress);
    }
    if job.old.1.strides != job.new.1.strides {
        return sums_in_order(job, run, buffers, progress);
    }
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
