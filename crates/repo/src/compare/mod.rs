//! Tensor by tensor comparison of two models, wherever they are kept.

mod contents;
mod elements;
mod inside;
mod kind;
mod moved;
mod part;
mod stream;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use shard_core::limits::Cut;
use shard_core::{DType, Digest, Progress, TensorView};
use shard_formats::model::LogicalModel;
use shard_history::{TensorChange, TensorInfo, TensorPair, diff_tensors, role_of};
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use crate::error::{RepoError, Result};
use crate::numeric::{ChangeStats, is_valued};
use contents::Placed;
pub use inside::{Histogram, Inside, Patch, look_inside};
use kind::Subject;
pub use kind::{Finding, Kind, Spectrum, Verdict};
use part::{Part, can_be_ordered};
use stream::Job;

/// One side of a comparison: a model in one or more files.
#[derive(Clone)]
pub struct Side {
    /// What the user called it.
    pub label: String,
    parts: Vec<Part>,
}

/// A tensor on both sides, or on one.
#[derive(Debug, Clone)]
pub struct TensorDiff {
    /// The name, on the new side where it has one.
    pub name: String,
    /// The name on the old side, where it is another: its content is the same (renamed), or alike (value).
    pub old_name: Option<String>,
    /// What happened to it.
    pub state: TensorChange,
    /// Element type and shape on the old side.
    pub old: Option<(DType, Vec<u64>)>,
    /// Element type and shape on the new side.
    pub new: Option<(DType, Vec<u64>)>,
    /// How its values changed, where element type, shape and order are the same on both sides; not told of all of very many views
    /// that share bytes.
    pub stats: Option<ChangeStats>,
    /// What kind of change it is.
    pub finding: Finding,
    /// The directions of its change, where that was asked for; `None` also for what is no matrix of one shape on both sides, and where
    /// something is not finite.
    pub spectrum: Option<Spectrum>,
}

/// What a comparison found.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Every tensor of both sides, each once, in the new side's order; removed ones last.
    pub tensors: Vec<TensorDiff>,
    /// Whether the files are equal byte for byte.
    pub identical: bool,
    /// Whether something differs that is not in a tensor.
    pub other_bytes_differ: bool,
    /// What kind of change it is as a whole.
    pub verdict: Verdict,
}

impl Side {
    /// A file, a folder of shards or an index file, outside of any repository. Tensors are not read yet.
    ///
    /// # Errors
    /// What cannot be read, or a set of shards that is not whole.
    pub fn from_path(path: &Path, cut: Cut) -> Result<Self> {
        let model = LogicalModel::open(path)
            .map_err(|error| RepoError::Path { path: path.to_owned(), why: error.to_string() })?;
        let mut parts = Vec::new();
        let several = model.index.is_none() && model.parts.len() > 1;
        let mut names = HashSet::new();
        for part in model.parts {
            let layout = &part.parsed.layout;
            if let Some(note) = part.parsed.note.as_ref().filter(|_| layout.tensors.is_empty()) {
                return Err(RepoError::BadModel { path: part.path.clone(), why: note.to_string() });
            }
            if several && layout.tensors.iter().any(|tensor| !names.insert(tensor.name.clone())) {
                return Err(RepoError::SeveralModels(path.to_owned()));
            }
            let source = part.source().map_err(RepoError::io("cannot open", &part.path))?;
            parts.push(Part::file(source, part.path, part.parsed.layout, cut));
        }
        Ok(Self { label: path.display().to_string(), parts })
    }

    /// Files that are stored.
    #[must_use]
    pub fn stored(label: String, manifests: Vec<Arc<ContentManifest>>, source: Arc<dyn EntrySource + Send>) -> Self {
        let parts = manifests.into_iter().map(|manifest| Part::stored(manifest, Arc::clone(&source))).collect();
        Self { label, parts }
    }

    /// The files of several sides as one model; of none, a model without tensors.
    #[must_use]
    pub fn joined(label: String, sides: Vec<Self>) -> Self {
        Self { label, parts: sides.into_iter().flat_map(|side| side.parts).collect() }
    }

    /// The number of tensors.
    #[must_use]
    pub fn tensor_count(&self) -> usize {
        self.parts.iter().map(|part| part.layout.tensors.len()).sum()
    }

    fn tensors(&self) -> Vec<Placed<'_>> {
        self.parts.iter().flat_map(|part| part.layout.tensors.iter().map(move |tensor| (part, tensor))).collect()
    }

    /// Whether its bytes can be looked at in any order without having been hashed.
    fn is_plain_files(&self) -> bool {
        self.parts.iter().all(|part| part.on_disk().is_some() && part.layout.compressed.is_empty())
    }

    fn hashed(&self, progress: &dyn Progress) -> Result<Self> {
        let parts = self.parts.iter().map(|part| part.hashed(progress)).collect::<Result<_>>()?;
        Ok(Self { label: self.label.clone(), parts })
    }

    fn keys(&self) -> Vec<Digest> {
        self.parts.iter().map(|part| part.key).collect()
    }

    /// The blocks that hold no tensor data, in order.
    fn other_blocks(&self) -> Vec<Digest> {
        let of_part = |part: &Part| {
            let segments = part.layout.segments.iter().enumerate();
            let opaque = segments.filter(|(_, segment)| segment.dtype.is_none());
            opaque.flat_map(|(index, _)| part.blocks(index)).map(|block| block.id).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of_part).collect()
    }
}

/// What a comparison is to find out beside what it takes one pass to see.
#[derive(Debug, Clone, Copy, Default)]
pub struct CompareOptions {
    /// The directions of the change of each matrix: minutes for a large model.
    pub spectra: bool,
}

/// Compares two models. Of what is stored equality is told by ids, without reading; of files by their bytes. Where values differ, both
/// sides are read once.
///
/// # Errors
/// What cannot be read on either side.
pub fn compare_sides(old: &Side, new: &Side, options: CompareOptions, progress: &dyn Progress) -> Result<Comparison> {
    let by_bytes = old.is_plain_files() && new.is_plain_files();
    if by_bytes && same_files(old, new)? {
        return identical(old);
    }
    // To compare a file with stored blocks its own blocks have to be known.
    let hashed = if by_bytes { None } else { Some((old.hashed(progress)?, new.hashed(progress)?)) };
    let (old, new) = hashed.as_ref().map_or((old, new), |(old, new)| (old, new));
    let (old_tensors, new_tensors) = (old.tensors(), new.tensors());
    let found = match by_bytes {
        true => contents::by_bytes(&old_tensors, &new_tensors, progress)?,
        false => contents::by_blocks(&old_tensors, &new_tensors)?,
    };
    let mut pairs = diff_tensors(&found.old, &found.new);
    moved::join(&mut pairs, &old_tensors, &new_tensors)?;

    let mut sums = found.sums;
    let mut left = contents::budget(&new_tensors);
    let values = pairs.iter().filter(|pair| matches!(pair.change, TensorChange::Value | TensorChange::DType));
    let to_read: Vec<(usize, usize)> = values
        .filter_map(|pair| pair.old.zip(pair.new))
        .filter(|pair| !sums.contains_key(pair))
        .filter(|(from, to)| can_be_summed(old_tensors[*from].1, new_tensors[*to].1, &mut left))
        .collect();
    let jobs: Vec<Job<'_>> =
        to_read.iter().map(|(from, to)| Job { old: old_tensors[*from], new: new_tensors[*to] }).collect();
    progress.begin("comparing", Some(jobs.iter().filter_map(|job| job.new.1.byte_len()).sum()));
    sums.extend(to_read.iter().copied().zip(stream::sums(&jobs, progress)?));
    progress.finish();

    let subject = |pair: &TensorPair| {
        let old = pair.old.and_then(|index| old_tensors.get(index)).copied();
        let new = pair.new.and_then(|index| new_tensors.get(index)).copied();
        let known = pair.old.zip(pair.new).and_then(|pair| sums.get(&pair));
        let sums = known.filter(|_| matches!(pair.change, TensorChange::Value | TensorChange::DType));
        let stats = sums.zip(old.zip(new)).map(|(sums, (old, new))| ChangeStats::of(sums, [old.1.dtype, new.1.dtype]));
        Subject { change: pair.change, old, new, stats }
    };
    let subjects: Vec<Subject<'_>> = pairs.iter().map(subject).collect();
    let findings = kind::findings(&subjects)?;
    let mut tensors: Vec<TensorDiff> =
        subjects.iter().zip(findings).map(|(subject, finding)| TensorDiff::new(subject, finding)).collect();
    let (other_bytes_differ, identical) = match by_bytes {
        true => (other_bytes(old)? != other_bytes(new)?, false),
        false => (old.other_blocks() != new.other_blocks(), old.keys() == new.keys()),
    };
    if options.spectra {
        add_spectra(&mut tensors, &subjects, progress)?;
    }
    let verdict = kind::verdict(&mut tensors, identical, other_bytes_differ);
    Ok(Comparison { tensors, identical, other_bytes_differ, verdict })
}

impl TensorDiff {
    fn new(subject: &Subject<'_>, finding: Finding) -> Self {
        let geometry = |side: Option<Placed<'_>>| side.map(|(_, tensor)| (tensor.dtype, tensor.shape.clone()));
        let old_name = subject.old.map(|(_, tensor)| tensor.name.clone());
        let name = subject.new.map(|(_, tensor)| tensor.name.clone()).or_else(|| old_name.clone()).unwrap_or_default();
        let old_name = old_name.filter(|old_name| *old_name != name);
        let (old, new) = (geometry(subject.old), geometry(subject.new));
        let (state, stats) = (subject.change, subject.stats);
        Self { name, old_name, state, old, new, stats, finding, spectrum: None }
    }

    /// Elements on the new side, or on the old one where it has none.
    #[must_use]
    pub fn elements(&self) -> u64 {
        let shape = self.new.as_ref().or(self.old.as_ref()).map(|(_, shape)| shape.as_slice()).unwrap_or_default();
        if shape.contains(&0) { 0 } else { shape.iter().fold(1, |product: u64, dim| product.saturating_mul(*dim)) }
    }

    /// Whether it is a moment of an optimizer, by its name.
    #[must_use]
    pub fn is_optimizer_state(&self) -> bool {
        is_optimizer_state(&self.name)
    }
}

/// Whether the change from one tensor to another is told in numbers, within bytes that are left to be read.
fn can_be_summed(old: &TensorView, new: &TensorView, left: &mut u64) -> bool {
    let after = left.checked_sub(new.byte_len().unwrap_or(0));
    *left = after.unwrap_or(*left);
    // Elements in another order are put in one, where that does not take too much memory.
    let is_ordered = old.strides == new.strides || (old.dtype == new.dtype && can_be_ordered(old, new));
    let is_known = old.dtype == new.dtype || (is_valued(old.dtype) && is_valued(new.dtype));
    old.shape == new.shape && is_ordered && is_known && after.is_some()
}

/// The tensors of a stored side, with digests that are equal for equal values.
pub(crate) fn tensor_infos(side: &Side) -> Result<Vec<TensorInfo>> {
    contents::infos(&side.tensors())
}

/// How some tensors changed, given by their indices on both sides; `None` where that is not told in numbers.
pub(crate) fn change_stats(
    old: &Side,
    new: &Side,
    pairs: &[(usize, usize)],
    progress: &dyn Progress,
) -> Result<Vec<Option<ChangeStats>>> {
    let (old, new) = (old.tensors(), new.tensors());
    let mut left = contents::budget(&new);
    let mut jobs = Vec::new();
    let mut known = Vec::with_capacity(pairs.len());
    for (from, to) in pairs {
        let job = old.get(*from).zip(new.get(*to)).map(|(old, new)| Job { old: *old, new: *new });
        let job = job.filter(|job| can_be_summed(job.old.1, job.new.1, &mut left));
        known.push(job.is_some());
        jobs.extend(job);
    }
    progress.begin("comparing", Some(jobs.iter().filter_map(|job| job.new.1.byte_len()).sum()));
    let sums = stream::sums(&jobs, progress)?;
    progress.finish();
    let stats = jobs.iter().zip(&sums).map(|(job, sums)| ChangeStats::of(sums, [job.old.1.dtype, job.new.1.dtype]));
    let mut stats = stats.into_iter();
    Ok(known.into_iter().map(|is_known| if is_known { stats.next() } else { None }).collect())
}

fn is_optimizer_state(name: &str) -> bool {
    role_of(name).part.is_optimizer_state()
}

/// Those of changed matrices, several at a time.
fn add_spectra(tensors: &mut [TensorDiff], subjects: &[Subject<'_>], progress: &dyn Progress) -> Result<()> {
    let changed = |subject: &&Subject<'_>| matches!(subject.change, TensorChange::Value | TensorChange::DType);
    progress.begin("taking spectra", Some(subjects.iter().filter(changed).count() as u64));
    tensors.par_iter_mut().zip(subjects).filter(|(_, subject)| changed(subject)).try_for_each(
        |(tensor, subject)| {
            if let (Some(old), Some(new)) = (subject.old, subject.new) {
                tensor.spectrum = kind::spectrum(old, new)?;
            }
            progress.advance(1);
            Ok::<(), RepoError>(())
        },
    )?;
    progress.finish();
    Ok(())
}

fn same_files(old: &Side, new: &Side) -> Result<bool> {
    if old.parts.len() != new.parts.len() {
        return Ok(false);
    }
    for (old, new) in old.parts.iter().zip(&new.parts) {
        if !stream::same_files(old, new)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn other_bytes(side: &Side) -> Result<Vec<Digest>> {
    side.parts.iter().map(Part::other_bytes).collect()
}

/// The comparison of a side with itself.
fn identical(side: &Side) -> Result<Comparison> {
    let tensors = side.tensors();
    let equal = tensors.into_iter().map(|tensor| Subject {
        change: TensorChange::Equal,
        old: Some(tensor),
        new: Some(tensor),
        stats: None,
    });
    let subjects: Vec<Subject<'_>> = equal.collect();
    let findings = kind::findings(&subjects)?;
    let mut tensors: Vec<TensorDiff> =
        subjects.iter().zip(findings).map(|(subject, finding)| TensorDiff::new(subject, finding)).collect();
    let verdict = kind::verdict(&mut tensors, true, false);
    Ok(Comparison { tensors, identical: true, other_bytes_differ: false, verdict })
}
