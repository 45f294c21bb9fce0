mod fit;

pub use fit::{Fit, Sample, fit};

use shard_core::DType;

use super::values::{Float, values};
use super::{Derivation, Derived, InputLens, Number, Numbers, Target, byte_len, dtype};
use crate::CodecError;
use crate::kernel::{Isa, Work, compiled_for};

/// Codes of 8 bits of another tensor's floats: `round(x / scale) + zero`, within limits (as ONNX, torch and many scripts do).
///
/// Inputs: the floats; the scales, where they are given; the zero points, where they are given. All are used as binary32, and
/// each operation is rounded to it. Numbers: the type of the floats; of the scales, or 0 where each channel's scale is the
/// largest magnitude of its floats over the divisor; of the zero points (`I8`, `U8`), or 0; the [`Division`]; the [`Ties`]; the
/// lowest and the highest code, plus 128; the length of a row in codes; where the block starts in its tensor, in codes; which
/// codes share a scale ([`Channels`]); the number of rows, where the floats lie transposed, else 0; the divisor.
///
/// Where channels are rows, the floats of all rows that the block has a part of are an input, from their starts, and scales and
/// zero points of these rows. Transposed, all floats of the tensor are.
pub struct Quantise;

/// How floats are divided by scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Division {
    /// `x / scale`.
    Quotient,
    /// `x · (1 / scale)`.
    Inverse,
    /// `x · (divisor / largest)`; with scales that are given, as the one before.
    Ratio,
}

/// What becomes of a value halfway between two codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// The even one.
    Even,
    /// The one further from zero.
    Away,
    /// The upper one.
    Up,
}

/// Which codes share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// All.
    Tensor,
    /// Those of a row.
    Row,
    /// Those of a column.
    Column,
}

impl Division {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Quotient, Self::Inverse, Self::Ratio];
}

impl Ties {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Even, Self::Away, Self::Up];
}

impl Channels {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Tensor, Self::Row, Self::Column];
}

/// What a block of codes is made with, beside its inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Codes {
    /// The type of the floats.
    pub source: DType,
    /// The type of scales that are given.
    pub scale: Option<DType>,
    /// The type of zero points that are given.
    pub zero: Option<DType>,
    /// How floats are divided.
    pub division: Division,
    /// How quotients are rounded.
    pub ties: Ties,
    /// The lowest and the highest code.
    pub limits: (i16, i16),
    /// The length of a row.
    pub columns: u64,
    /// Where the block starts in its tensor, in codes.
    pub phase: u64,
    /// Which codes share a scale.
    pub channels: Channels,
    /// The number of rows, where the floats lie transposed.
    pub transposed_rows: Option<u64>,
    /// What the largest magnitude is divided by.
    pub divisor: f64,
}

const MOST: u64 = 1 << 32;

impl Codes {
    /// These codes.
    #[must_use]
    pub fn derived(&self) -> Derived {
        let codes = self;
        let id = |dtype: Option<DType>| dtype.map_or(0, |dtype| u64::from(dtype.wire_id()));
        let limit = |code: i16| (i64::from(code) + 128).clamp(0, 511) as u64;
        Derived::new(
            &Quantise,
            &[
                id(Some(codes.source)),
                id(codes.scale),
                id(codes.zero),
                codes.division as u64,
                codes.ties as u64,
                limit(codes.limits.0),
                limit(codes.limits.1),
                codes.columns,
                codes.phase,
                codes.channels as u64,
                codes.transposed_rows.unwrap_or(0),
                codes.divisor.to_bits(),
            ],
        )
    }
}

/// The numbers, as they are read.
struct Parts {
    source: Float,
    scale: Option<Float>,
    zero: Option<DType>,
    division: Division,
    ties: Ties,
    limits: (f32, f32),
    columns: usize,
    /// Codes of the block's first row that lie before it, where floats are taken by rows.
    before: usize,
    /// The first row, and the rows that the block has a part of.
    first: usize,
    touched: usize,
    channels: Channels,
    transposed_rows: usize,
    divisor: f32,
    words: usize,
}

impl Parts {
    fn new(target: Target, numbers: &Numbers) -> Result<Self, CodecError> {
        let fault = || CodecError::Chain("quantised codes do not fit their block");
        let [source, scale, zero, division, ties, low, high, columns, phase, channels, rows, divisor] = *numbers;
        if !matches!(target.dtype, DType::I8 | DType::U8) || columns == 0 {
            return Err(fault());
        }
        let words = target.elements()?;
        let (first, before) = (phase / columns, phase % columns);
        let touched = (before + words as u64).div_ceil(columns);
        let channels = *Channels::ALL.get(channels as usize).ok_or_else(fault)?;
        let scale = if scale == 0 { None } else { Some(Float::of(dtype(scale)?)?) };
        let zero = if zero == 0 { None } else { Some(dtype(zero)?) };
        if zero.is_some_and(|zero| !matches!(zero, DType::I8 | DType::U8)) {
            return Err(fault());
        }
        // The largest magnitude of a channel is known where all of its floats are.
        let is_known = scale.is_some() || matches!((channels, rows), (Channels::Row, 0) | (Channels::Column, 1..));
        let all = rows.checked_mul(columns).ok_or_else(fault)?;
        if !is_known || (rows > 0 && (first + touched > rows || all > MOST)) || touched.saturating_mul(columns) > MOST {
            return Err(fault());
        }
        let limit = |number: u64| number as f32 - 128.0;
        Ok(Self {
            source: Float::of(dtype(source)?)?,
            scale,
            zero,
            division: *Division::ALL.get(division as usize).ok_or_else(fault)?,
            ties: *Ties::ALL.get(ties as usize).ok_or_else(fault)?,
            limits: (limit(low), limit(high)),
            columns: columns as usize,
            before: before as usize,
            first: first as usize,
            touched: touched as usize,
            channels,
            transposed_rows: rows as usize,
            divisor: f64::from_bits(divisor) as f32,
            words,
        })
    }

    /// The number of floats, and of scales and zero points.
    fn counts(&self) -> (usize, usize) {
        let floats = match (self.transposed_rows, self.channels) {
            (0, Channels::Row) => self.touched * self.columns,
            (0, _) => self.words,
            (rows, _) => rows * self.columns,
        };
        let channels = match self.channels {
            Channels::Tensor => 1,
            Channels::Row if self.transposed_rows > 0 => self.transposed_rows,
            Channels::Row => self.touched,
            Channels::Column => self.columns,
        };
        (floats, channels)
    }
}

/// Values of a float type as binary32.
fn singles(isa: Isa, float: Float, words: &[u8]) -> Vec<f32> {
    const TILE: usize = 1024;
    let mut out = Vec::with_capacity(words.len() / float.bytes());
    let mut wide = [0.0; TILE];
    for words in words.chunks(TILE * float.bytes()) {
        let wide = &mut wide[..words.len() / float.bytes()];
        values(isa, float, words, wide);
        out.extend(wide.iter().map(|value| *value as f32));
    }
    out
}

/// The codes of a run of floats that share a scale, or have one each.
struct Run<'a> {
    parts: &'a Parts,
    floats: &'a [f32],
    factors: &'a [f32],
    zeros: &'a [f32],
    out: &'a mut [u8],
}

impl Work for Run<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { parts, floats, factors, zeros, out } = self;
        match (parts.division, factors.len()) {
            (Division::Quotient, 1) => each(parts, floats, out, |x, _| x / factors[0], |_| zeros[0]),
            (Division::Quotient, _) => each(parts, floats, out, |x, at| x / factors[at], |at| zeros[at]),
            (_, 1) => each(parts, floats, out, |x, _| x * factors[0], |_| zeros[0]),
            (_, _) => each(parts, floats, out, |x, at| x * factors[at], |at| zeros[at]),
        }
    }
}

#[inline(always)]
fn each(
    parts: &Parts,
    floats: &[f32],
    out: &mut [u8],
    divide: impl Fn(f32, usize) -> f32,
    zero: impl Fn(usize) -> f32,
) {
    for (at, (out, x)) in out.iter_mut().zip(floats).enumerate() {
        let quotient = divide(*x, at);
        let rounded = match parts.ties {
            Ties::Even => {
                // By a sum whose last bit is worth one; what is that large anyway is beyond all limits.
                const SHIFT: f32 = 12_582_912.0;
                (quotient + SHIFT) - SHIFT
            }
            Ties::Away => quotient.round(),
            Ties::Up => (quotient + 0.5).floor(),
        };
        let code = (rounded + zero(at)).max(parts.limits.0).min(parts.limits.1);
        *out = code as i16 as u8;
    }
}

impl Derivation for Quantise {
    fn id(&self) -> u8 {
        3
    }
    fn name(&self) -> &'static str {
        "quantise"
    }
    fn numbers(&self) -> &'static [Number] {
        &[
            Number::DType,
            Number::UpTo(255),
            Number::UpTo(255),
            Number::UpTo(2),
            Number::UpTo(2),
            Number::UpTo(511),
            Number::UpTo(511),
            Number::UpTo(MOST),
            Number::UpTo(1 << 48),
            Number::UpTo(2),
            Number::UpTo(MOST),
            Number::Factor,
        ]
    }
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError> {
        let parts = Parts::new(target, numbers)?;
        let (floats, channels) = parts.counts();
        let mut lens = vec![byte_len(parts.source.dtype, floats)?];
        if let Some(scale) = parts.scale {
            lens.push(byte_len(scale.dtype, channels)?);
        }
        if parts.zero.is_some() {
            lens.push(channels);
        }
        Ok(InputLens::of(&lens))
    }
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let parts = Parts::new(target, numbers)?;
        let mut inputs = inputs.iter().copied();
        let mut next = || inputs.next().ok_or(CodecError::BaseMissing);
        let (source, (_, channels)) = (next()?, parts.counts());
        let mut floats = singles(isa, parts.source, source);
        let largest = |row: &[f32]| row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // Floats that lie transposed have a channel in a row when columns are channels.
        let mut factors = match parts.scale {
            Some(scale) => singles(isa, scale, next()?),
            None if parts.transposed_rows > 0 => floats.chunks_exact(parts.transposed_rows).map(largest).collect(),
            None => floats.chunks_exact(parts.columns).map(largest).collect(),
        };
        let is_largest = parts.scale.is_none();
        for factor in &mut factors {
            let scale = if is_largest { *factor / parts.divisor } else { *factor };
            *factor = match parts.division {
                Division::Quotient => scale,
                Division::Ratio if is_largest => parts.divisor / *factor,
                Division::Inverse | Division::Ratio => 1.0 / scale,
            };
            // Nothing is divided by what is no scale; a quotient by infinity is 0.
            if !factor.is_finite() || *factor == 0.0 {
                *factor = if parts.division == Division::Quotient { f32::MAX } else { 0.0 };
            }
        }
        let mut zeros: Vec<f32> = match parts.zero {
            Some(DType::I8) => next()?.iter().map(|zero| f32::from(*zero as i8)).collect(),
            Some(_) => next()?.iter().map(|zero| f32::from(*zero)).collect(),
            None => vec![0.0; channels],
        };
        let mut skipped = if parts.channels == Channels::Row { parts.before } else { 0 };
        if parts.transposed_rows > 0 {
            floats = rows_of_transposed(&floats, &parts);
            skipped = parts.before;
            if parts.channels == Channels::Row {
                factors.drain(..parts.first);
                zeros.drain(..parts.first);
            }
        }
        let floats = floats.get(skipped..).unwrap_or_default();
        let mut at = 0;
        while at < parts.words {
            let (row, column) = ((at + parts.before) / parts.columns, (at + parts.before) % parts.columns);
            let count = (parts.columns - column).min(parts.words - at);
            let channels = match parts.channels {
                Channels::Tensor => 0..1,
                Channels::Row => row..row + 1,
                Channels::Column => column..column + count,
            };
            let (Some(factors), Some(zeros)) = (factors.get(channels.clone()), zeros.get(channels)) else {
                return Err(CodecError::BaseMissing);
            };
            let floats = floats.get(at..at + count).unwrap_or_default();
            compiled_for(isa, Run { parts: &parts, floats, factors, zeros, out: &mut out[at..at + count] });
            at += count;
        }
        Ok(())
    }
}

/// The rows that a block has a part of, of floats that lie transposed.
fn rows_of_transposed(floats: &[f32], parts: &Parts) -> Vec<f32> {
    let rows = parts.transposed_rows;
    let mut out = vec![0.0; parts.touched * parts.columns];
    for (column, values) in floats.chunks_exact(rows).enumerate() {
        for (row, value) in values[parts.first..parts.first + parts.touched].iter().enumerate() {
            out[row * parts.columns + column] = *value;
        }
    }
    out
}
