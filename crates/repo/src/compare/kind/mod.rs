//! What kind of change a tensor went through, and what tells so.
//!
//! Sums over all words tell scaled, unrelated and re-initialised tensors. What tells noise from training and finds low ranks is a
//! sample of rows and columns, read beside the one pass that everything else takes.

mod sample;
mod structure;
mod verdict;

use rayon::prelude::*;
use shard_codecs::derive::Cast;
use shard_codecs::kernel::Isa;
use shard_core::{DType, TensorView};
use shard_history::TensorChange;

use super::contents::Placed;
use super::part::at_once;
use crate::error::Result;
use crate::numeric::ChangeStats;
use sample::Sample;
pub(super) use sample::correlation;
pub use structure::Spectrum;
pub(super) use structure::spectrum;
use structure::{LowRank, low_rank, noise};
pub use verdict::Verdict;
pub(super) use verdict::verdict;

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The same bytes.
    Identical,
    /// The same bytes, in a model that was trained otherwise.
    Frozen,
    /// The same bytes under another name.
    Renamed,
    /// The same values, rounded to another type or taken from it.
    Cast,
    /// Values rounded to few levels, or taken back from these.
    Quantised,
    /// All values times one factor.
    Scaled,
    /// A change of low rank was added, as merging an adapter does.
    LowRank,
    /// Values moved without any structure.
    Noise,
    /// Trained on.
    FineTune,
    /// New values in a model that is otherwise related.
    Reinitialised,
    /// Values of another training.
    Unrelated,
    /// Another shape.
    Resized,
    /// Only on the new side.
    Added,
    /// Only on the old side.
    Removed,
    /// Something else: other integers, types without known values, files without tensors.
    Changed,
}

impl Kind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 15] = [
        Self::Identical,
        Self::Frozen,
        Self::Renamed,
        Self::Cast,
        Self::Quantised,
        Self::Scaled,
        Self::LowRank,
        Self::Noise,
        Self::FineTune,
        Self::Reinitialised,
        Self::Unrelated,
        Self::Resized,
        Self::Added,
        Self::Removed,
        Self::Changed,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Frozen => "frozen",
            Self::Renamed => "renamed",
            Self::Cast => "cast",
            Self::Quantised => "quantised",
            Self::Scaled => "scaled",
            Self::LowRank => "low-rank",
            Self::Noise => "noise",
            Self::FineTune => "fine-tune",
            Self::Reinitialised => "re-initialised",
            Self::Unrelated => "unrelated",
            Self::Resized => "resized",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// A kind, and what tells so.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The kind.
    pub kind: Kind,
    /// What tells so, for people.
    pub evidence: String,
    /// The rank of the change, where that is low.
    pub rank: Option<usize>,
    /// What share of the change's energy (squared norm) the kind explains: of a low rank its directions, of a scaled tensor the factor;
    /// of a cast the share of words.
    pub share: Option<f64>,
}

impl Finding {
    fn new(kind: Kind, evidence: impl Into<String>) -> Self {
        Self { kind, evidence: evidence.into(), rank: None, share: None }
    }
}

/// A tensor with what is known of its change.
pub(super) struct Subject<'a> {
    pub(super) change: TensorChange,
    pub(super) old: Option<Placed<'a>>,
    pub(super) new: Option<Placed<'a>>,
    pub(super) stats: Option<ChangeStats>,
}

/// Cosines of at most this are no relation.
const LEAST_COSINE: f64 = 0.3;
/// Share of the change's energy that one factor has to explain.
const LEAST_SCALED: f64 = 0.999;
/// Elements from which on values tell something.
const FEW: u64 = 8;
/// Share of a sample's words that a cast has to give exactly.
const LEAST_CAST: f64 = 0.999;
/// What is said of numbers near 1e154 and 1e-162, and beyond.
const OUT_OF_RANGE: &str = "squares of the values leave the range of binary64";
/// Share of the values that have to be zero now, and were not.
const LEAST_PRUNED: f64 = 0.05;
/// Correlation along rows that quantised values keep with theirs.
const LEAST_QUANTISED: f64 = 0.9;

/// The kind of each tensor's change, as far as the tensor alone tells.
///
/// # Errors
/// What cannot be read.
pub(super) fn findings(subjects: &[Subject<'_>]) -> Result<Vec<Finding>> {
    let parts = subjects.iter().flat_map(|subject| subject.old.iter().chain(&subject.new).map(|(part, _)| *part));
    subjects.par_iter().with_min_len(at_once(parts)).map(finding).collect()
}

fn finding(subject: &Subject<'_>) -> Result<Finding> {
    let (Some(old), Some(new)) = (subject.old, subject.new) else {
        return Ok(match subject.change {
            TensorChange::Removed => Finding::new(Kind::Removed, "only on the old side"),
            _ => Finding::new(Kind::Added, "only on the new side"),
        });
    };
    match subject.change {
        TensorChange::Equal => Ok(Finding::new(Kind::Identical, "the same bytes")),
        TensorChange::Renamed => Ok(Finding::new(Kind::Renamed, "the same bytes under another name")),
        TensorChange::Shape => resized(old, new),
        TensorChange::DType => retyped(old, new),
        TensorChange::Value | TensorChange::Added | TensorChange::Removed => valued(old, new, subject.stats),
    }
}

/// Other values of one type and shape.
fn valued(old: Placed<'_>, new: Placed<'_>, stats: Option<ChangeStats>) -> Result<Finding> {
    let dtype = new.1.dtype;
    if !is_weight(dtype) {
        return Ok(Finding::new(Kind::Changed, format!("other values of {dtype}")));
    }
    let sample = match old.1.strides == new.1.strides {
        true => Sample::read(old, new)?,
        false => None,
    };
    let Some(measured) = stats.and_then(Measured::of).or_else(|| sample.as_ref().and_then(Measured::of_sample)) else {
        return Ok(match stats {
            Some(stats) if stats.lost > 0 => {
                Finding::new(Kind::Changed, format!("{} of {} values became NaN or infinite", stats.lost, stats.words))
            }
            Some(stats) if stats.not_finite < stats.words => Finding::new(Kind::Changed, OUT_OF_RANGE),
            Some(_) => Finding::new(Kind::Changed, "no finite values to compare"),
            None => Finding::new(
                Kind::Changed,
                "not measured: many views share its bytes, or its elements lie in another order",
            ),
        });
    };
    // Squares of very small numbers are zero, too.
    let is_zero =
        |pick: fn((f64, f64)) -> f64| sample.as_ref().is_none_or(|sample| sample.pairs().all(|pair| pick(pair) == 0.0));
    match (measured.old_norm == 0.0, measured.new_norm == 0.0) {
        (false, false) => {}
        (true, true) if is_zero(|(old, _)| old) && is_zero(|(_, new)| new) => {
            return Ok(Finding::new(Kind::Changed, "zeros, of which some changed their sign"));
        }
        (_, true) if is_zero(|(_, new)| new) => {
            return Ok(Finding::new(Kind::Reinitialised, "all values are zero now"));
        }
        (true, _) if is_zero(|(old, _)| old) => return Ok(Finding::new(Kind::Reinitialised, "all values were zero")),
        _ => return Ok(Finding::new(Kind::Changed, OUT_OF_RANGE)),
    }
    if new.1.elements().unwrap_or(0) < FEW {
        let kind = if measured.cosine > LEAST_COSINE { Kind::FineTune } else { Kind::Changed };
        return Ok(Finding::new(kind, format!("too few values to tell more; {}", measured.text())));
    }
    let scaled = measured.scaled();
    if scaled >= LEAST_SCALED {
        let mut found = Finding::new(Kind::Scaled, format!("times {}", factor(measured.factor)));
        found.share = Some(scaled);
        return Ok(found);
    }
    if measured.cosine <= LEAST_COSINE {
        return Ok(Finding::new(Kind::Unrelated, measured.text()));
    }
    let Some(sample) = sample else { return Ok(Finding::new(Kind::FineTune, measured.text())) };
    if let Some((name, share)) = rounded(&sample) {
        let text = format!("rounded to {name}, kept as {dtype}, in {:.2}% of the words looked at", share * 100.0);
        return Ok(Finding { share: Some(share), ..Finding::new(Kind::Cast, text) });
    }
    if let Some(share) = pruned(&sample) {
        return Ok(Finding::new(Kind::Changed, format!("pruned: {:.1}% of the values became zero", share * 100.0)));
    }
    if let Some(evidence) = noise(&sample) {
        return Ok(Finding::new(Kind::Noise, evidence));
    }
    if let Some(LowRank { rank, share }) = low_rank(&sample, old, new)? {
        let percent = if share >= 0.999_95 { ">99.99%".to_owned() } else { format!("{:.2}%", share * 100.0) };
        let text = format!("rank {rank} holds {percent} of the change; the rest is rounding");
        return Ok(Finding { kind: Kind::LowRank, evidence: text, rank: Some(rank), share: Some(share) });
    }
    Ok(Finding::new(Kind::FineTune, measured.text()))
}

/// A factor with digits that tell it from 1.
fn factor(value: f64) -> String {
    if (1e-3..1e6).contains(&value.abs()) { format!("{value:.6}") } else { format!("{value:.6e}") }
}

/// The narrower type that wider floats were rounded to, and in what share of the words.
fn rounded(sample: &Sample) -> Option<(&'static str, f64)> {
    let [from, to] = sample.dtypes;
    if from != to || !matches!(to, DType::F32 | DType::F64) {
        return None;
    }
    let share = |round: fn(f64) -> f64| {
        let is_rounded = |(old, new): &(f64, f64)| round(*old) == *new;
        sample.pairs().filter(is_rounded).count() as f64 / sample.len().max(1) as f64
    };
    type Rounding = (&'static str, fn(f64) -> f64);
    let narrower: [Rounding; 3] = [
        ("BF16", |value| half::bf16::from_f32(value as f32).to_f64()),
        ("F16", |value| half::f16::from_f32(value as f32).to_f64()),
        ("F32", |value| f64::from(value as f32)),
    ];
    let found = narrower.into_iter().filter(|(name, _)| *name != to.name()).map(|(name, round)| (name, share(round)));
    found.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, share)| *share >= LEAST_CAST)
}

/// What share of the values became zero, where that is all that happened to many.
fn pruned(sample: &Sample) -> Option<f64> {
    let (mut zeroed, mut moved) = (0u64, 0u64);
    for (old, new) in sample.pairs() {
        zeroed += u64::from(old != 0.0 && new == 0.0);
        moved += u64::from(new != 0.0 && old != new);
    }
    let share = zeroed as f64 / sample.len().max(1) as f64;
    (share >= LEAST_PRUNED && moved * 100 < zeroed).then_some(share)
}

/// Whether values of a type are what training moves.
fn is_weight(dtype: DType) -> bool {
    let is_real = dtype.float().is_some() && !is_complex(dtype);
    is_real || (has_few_levels(dtype) && dtype != DType::U8)
}

/// Whether elements are pairs of values, of which nothing is told but sums.
pub(super) fn is_complex(dtype: DType) -> bool {
    matches!(dtype, DType::C32 | DType::C64 | DType::C128)
}

/// Whether a type is what weights are quantised to.
fn has_few_levels(dtype: DType) -> bool {
    use DType::{F4, F6E2M3, F6E3M2, I2, I4, I8, U2, U4, U8};
    dtype.is_quantised() || matches!(dtype, I8 | U8 | I4 | U4 | I2 | U2 | F4 | F6E2M3 | F6E3M2)
}

/// How two tensors compare as vectors.
struct Measured {
    relative: f64,
    cosine: f64,
    factor: f64,
    old_norm: f64,
    new_norm: f64,
}

impl Measured {
    fn of(stats: ChangeStats) -> Option<Self> {
        let (old_norm, new_norm) = (stats.old_norm?, stats.new_norm?);
        Some(Self {
            relative: stats.relative.unwrap_or(f64::INFINITY),
            cosine: stats.cosine.unwrap_or(0.0),
            factor: stats.factor.unwrap_or(0.0),
            old_norm,
            new_norm,
        })
    }

    /// Of packed types there is only the sample.
    fn of_sample(sample: &Sample) -> Option<Self> {
        sample.pairs().next()?;
        let (mut a, mut b, mut ab, mut d) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in sample.pairs() {
            (a, b, ab, d) = (a + x * x, b + y * y, ab + x * y, d + (y - x) * (y - x));
        }
        let (old_norm, new_norm) = (a.sqrt(), b.sqrt());
        let norms = old_norm * new_norm;
        let over = |value: f64, by: f64| if by > 0.0 { value / by } else { 0.0 };
        let relative = if a > 0.0 { (d / a).sqrt() } else { f64::INFINITY };
        Some(Self { relative, cosine: over(ab, norms), factor: over(ab, a), old_norm, new_norm })
            .filter(|_| a.is_finite() && b.is_finite())
    }

    /// What share of the change's energy is that all values were multiplied by one factor.
    fn scaled(&self) -> f64 {
        if self.relative > 0.0 { ((self.factor - 1.0) / self.relative).powi(2).min(1.0) } else { 0.0 }
    }

    fn text(&self) -> String {
        format!("relative change {:.3e}, cosine {:.6}", self.relative, self.cosine)
    }
}

/// The same shape in another type.
fn retyped(old: Placed<'_>, new: Placed<'_>) -> Result<Finding> {
    let (from, to) = (old.1.dtype, new.1.dtype);
    if !is_weight(from) && !is_weight(to) {
        return Ok(Finding::new(Kind::Changed, format!("{from} to {to}")));
    }
    let Some(sample) = Sample::read(old, new)? else {
        return Ok(Finding::new(Kind::Changed, format!("{from} to {to}, whose values are not comparable")));
    };
    let words = sample.len();
    let cast = sample.bytes().and_then(|(before, after)| Cast::find(Isa::best(), (from, before), (to, after)));
    if let Some((_, equal)) = cast {
        let share = equal as f64 / words.max(1) as f64;
        if share >= LEAST_CAST {
            let text = format!("{from} to {to}: {equal} of {words} words looked at are the old ones, rounded");
            return Ok(Finding { share: Some(share), ..Finding::new(Kind::Cast, text) });
        }
    }
    // The other way round: what was rounded comes back with all its digits.
    let back = sample.bytes().and_then(|(before, after)| Cast::find(Isa::best(), (to, after), (from, before)));
    if let Some((_, equal)) = back.filter(|(_, equal)| *equal as f64 >= LEAST_CAST * words.max(1) as f64) {
        let text = format!("{from} to {to}: {equal} of {words} old words looked at are the new ones, rounded");
        return Ok(Finding { share: Some(equal as f64 / words as f64), ..Finding::new(Kind::Cast, text) });
    }
    let same = sample.pairs().filter(|(a, b)| a == b).count();
    if same as f64 >= LEAST_CAST * words as f64 && words > 0 {
        let kind = if has_few_levels(from) { Kind::Quantised } else { Kind::Cast };
        let text = format!("{from} to {to}: {same} of {words} values looked at are the same");
        return Ok(Finding { share: Some(same as f64 / words as f64), ..Finding::new(kind, text) });
    }
    let correlation = sample.correlation();
    if (has_few_levels(to) || has_few_levels(from)) && correlation >= LEAST_QUANTISED {
        let error = (1.0 - correlation * correlation).max(0.0).sqrt();
        let text = format!("{from} to {to}: values agree but for {:.2}% along rows", error * 100.0);
        return Ok(Finding::new(Kind::Quantised, text));
    }
    Ok(match Measured::of_sample(&sample) {
        Some(measured) if measured.cosine > LEAST_COSINE => {
            Finding::new(Kind::FineTune, format!("{from} to {to}, and {}", measured.text()))
        }
        Some(measured) => Finding::new(Kind::Unrelated, format!("{from} to {to}, and {}", measured.text())),
        None => Finding::new(Kind::Changed, format!("{from} to {to}, whose values are not finite")),
    })
}

/// Another shape: what both have is compared.
fn resized(old: Placed<'_>, new: Placed<'_>) -> Result<Finding> {
    let shapes = format!("{:?} to {:?}", old.1.shape, new.1.shape);
    let overlap = match common(old.1, new.1) {
        Some((rows, columns)) => Sample::of_corner(old, new, rows, columns)?,
        None => None,
    };
    let told = overlap.as_ref().and_then(|sample| Some((sample, Measured::of_sample(sample)?)));
    Ok(match told {
        None => Finding::new(Kind::Resized, shapes),
        Some((sample, _)) if sample.pairs().all(|(a, b)| a == b) => {
            Finding::new(Kind::Resized, format!("{shapes}; what both have is the same where it was looked at"))
        }
        Some((_, measured)) if measured.cosine > LEAST_COSINE => {
            Finding::new(Kind::Resized, format!("{shapes}; what both have is related: {}", measured.text()))
        }
        Some((_, measured)) => Finding::new(
            Kind::Resized,
            format!("{shapes}; what both have is not related: cosine {:.3}", measured.cosine),
        ),
    })
}

/// Rows and columns that two matrices have both.
fn common(old: &TensorView, new: &TensorView) -> Option<(u64, u64)> {
    let (a, b) = (matrix(old)?, matrix(new)?);
    (old.shape.len() == new.shape.len()).then_some((a.0.min(b.0), a.1.min(b.1)))
}

/// A tensor as a matrix: the first dimension of what is stored, and all others. A vector is one row.
pub(super) fn matrix(tensor: &TensorView) -> Option<(u64, u64)> {
    let elements = tensor.elements().filter(|elements| *elements > 0)?;
    let shape = tensor.stored_shape();
    let rows = if shape.len() < 2 { 1 } else { *shape.first()? };
    Some((rows, elements / rows))
}
