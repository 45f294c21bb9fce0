//! Finding out how codes were made of floats.

use shard_core::DType;

use super::super::Target;
use super::{Channels, Codes, Division, Ties, singles};
use crate::derive::values::Float;
use crate::kernel::Isa;

/// What the largest magnitude of a channel is divided by.
const DIVISORS: [f64; 3] = [127.0, 128.0, 127.5];
/// Channels whose scales are estimated to tell which tensor holds them.
const CHANNELS: usize = 8;
/// How far an estimate may be from the scale, and from the zero point.
const NEAR: f32 = 0.05;
const NEAR_ZERO: f32 = 1.5;
/// Tensors of scales that are tried at most.
const TRIED: usize = 4;

/// Rows of floats, and the codes that were made of them, as the floats lie.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The floats' type, and whole rows of them, from the first on.
    pub source: (DType, &'a [u8]),
    /// The codes' type, and as many codes.
    pub codes: (DType, &'a [u8]),
    /// Floats of a row.
    pub columns: usize,
    /// Rows of the whole tensor.
    pub rows: usize,
}

/// How codes were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// With the phase 0, and the floats as they lie.
    pub codes: Codes,
    /// Which of the tensors has the scales, and which the zero points.
    pub given: [Option<usize>; 2],
    /// How many codes of the sample are made so.
    pub equal: usize,
}

/// A channel's scale and zero point by least squares.
#[derive(Clone, Copy)]
struct Estimate {
    scale: f32,
    zero: f32,
}

fn estimate(pairs: impl Iterator<Item = (f32, f32)>) -> Option<Estimate> {
    let (mut n, mut x, mut q, mut xx, mut xq) = (0.0f64, 0.0, 0.0, 0.0, 0.0);
    for (float, code) in pairs {
        let (float, code) = (f64::from(float), f64::from(code));
        (n, x, q) = (n + 1.0, x + float, q + code);
        (xx, xq) = (xx + float * float, xq + float * code);
    }
    let (variance, covariance) = (xx - x * x / n, xq - x * q / n);
    let scale = variance / covariance;
    (n > 0.0 && scale.is_finite() && scale > 0.0)
        .then(|| Estimate { scale: scale as f32, zero: (q / n - x / n / scale) as f32 })
}

/// The way to make most of the codes out of the floats. `tensors` are those that may hold scales and zero points: their types
/// and bytes.
#[must_use]
pub fn fit(isa: Isa, sample: &Sample<'_>, tensors: &[(DType, &[u8])]) -> Option<Fit> {
    let (source_type, source) = sample.source;
    let floats = singles(isa, Float::of(source_type).ok()?, source);
    let (code_type, codes) = sample.codes;
    let code = |byte: u8| if code_type == DType::I8 { f32::from(byte.cast_signed()) } else { f32::from(byte) };
    let columns = sample.columns;
    let rows = floats.len() / columns.max(1);
    if rows == 0 || codes.len() != rows * columns || floats.len() != codes.len() {
        return None;
    }
    let pair = |row: usize, column: usize| {
        let at = row * columns + column;
        (floats[at], code(codes[at]))
    };
    let base = Codes {
        source: source_type,
        scale: None,
        zero: None,
        division: Division::Quotient,
        ties: Ties::Even,
        limits: if code_type == DType::I8 { (-128, 127) } else { (0, 255) },
        columns: columns as u64,
        phase: 0,
        channels: Channels::Row,
        transposed_rows: None,
        divisor: 127.0,
    };
    let mut trial = Trial { isa, sample, made: vec![0; codes.len()], best: None };
    if code_type == DType::I8 {
        for divisor in DIVISORS {
            trial.all(Codes { divisor, ..base }, [None, None], tensors);
        }
    }
    for channels in Channels::ALL {
        let count = match channels {
            Channels::Tensor => 1,
            Channels::Row => sample.rows,
            Channels::Column => columns,
        };
        let known = if channels == Channels::Row { rows } else { count };
        let estimates: Vec<(usize, Estimate)> = (0..known.min(CHANNELS))
            .filter_map(|index| {
                let channel = index * known / known.min(CHANNELS);
                let found = match channels {
                    Channels::Tensor => estimate((0..rows).flat_map(|r| (0..columns).map(move |c| pair(r, c)))),
                    Channels::Row => estimate((0..columns).map(|column| pair(channel, column))),
                    Channels::Column => estimate((0..rows).map(|row| pair(row, channel))),
                };
                found.map(|found| (channel, found))
            })
            .collect();
        if estimates.is_empty() {
            continue;
        }
        let most = |near: &dyn Fn(usize, Estimate) -> bool| {
            estimates.iter().filter(|(channel, estimate)| near(*channel, *estimate)).count() * 4 >= estimates.len() * 3
        };
        let holds = |index: &usize, near: &dyn Fn(f32, Estimate) -> bool| {
            let (dtype, bytes) = tensors[*index];
            if bytes.len() != count * dtype.word_bytes() {
                return false;
            }
            let values = numbers(isa, dtype, bytes);
            most(&|channel, estimate| near(values[channel], estimate))
        };
        let has_zeros = !most(&|_, estimate| estimate.zero.abs() < NEAR_ZERO);
        let of_scale = |index: &usize| {
            Float::of(tensors[*index].0).is_ok()
                && holds(index, &|value, estimate| (value / estimate.scale - 1.0).abs() < NEAR)
        };
        let of_zero = |index: &usize| {
            matches!(tensors[*index].0, DType::I8 | DType::U8)
                && holds(index, &|value, estimate| (value - estimate.zero).abs() < NEAR_ZERO)
        };
        let zero = if has_zeros { (0..tensors.len()).find(of_zero) } else { None };
        if has_zeros && zero.is_none() {
            continue;
        }
        for scale in (0..tensors.len()).filter(of_scale).take(TRIED) {
            let dtype = |index: usize| Some(tensors[index].0);
            let codes = Codes { scale: dtype(scale), zero: zero.and_then(dtype), channels, ..base };
            trial.all(codes, [Some(scale), zero], tensors);
        }
    }
    trial.best
}

/// Values of a small tensor.
fn numbers(isa: Isa, dtype: DType, bytes: &[u8]) -> Vec<f32> {
    match (Float::of(dtype), dtype) {
        (Ok(float), _) => singles(isa, float, bytes),
        (_, DType::I8) => bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect(),
        _ => bytes.iter().map(|byte| f32::from(*byte)).collect(),
    }
}

/// Ways that are tried on the sample.
struct Trial<'a> {
    isa: Isa,
    sample: &'a Sample<'a>,
    made: Vec<u8>,
    best: Option<Fit>,
}

impl Trial<'_> {
    /// Tries every division and rounding.
    fn all(&mut self, codes: Codes, given: [Option<usize>; 2], tensors: &[(DType, &[u8])]) {
        for division in Division::ALL {
            for ties in Ties::ALL {
                let is_all = self.best.as_ref().is_some_and(|best| best.equal == self.made.len());
                if !is_all {
                    self.one(Codes { division, ties, ..codes }, given, tensors);
                }
            }
        }
    }

    fn one(&mut self, codes: Codes, given: [Option<usize>; 2], tensors: &[(DType, &[u8])]) {
        let rows = self.made.len() / self.sample.columns;
        let mut input = self.sample.source.1.to_vec();
        for (dtype, bytes) in given.into_iter().flatten().map(|index| tensors[index]) {
            let channels = if codes.channels == Channels::Row { rows * dtype.word_bytes() } else { bytes.len() };
            input.extend_from_slice(bytes.get(..channels).unwrap_or_default());
        }
        let (dtype, wanted) = self.sample.codes;
        let target = Target { dtype, len: wanted.len() };
        if codes.derived().derive(self.isa, target, &input, &mut self.made).is_err() {
            return;
        }
        let equal = self.made.iter().zip(wanted).filter(|(made, wanted)| made == wanted).count();
        if self.best.as_ref().is_none_or(|best| equal > best.equal) {
            self.best = Some(Fit { codes, given, equal });
        }
    }
}
