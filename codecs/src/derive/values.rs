//! Words of any float type as binary64, and back by any rounding: in integers, so that every machine agrees.

use shard_core::{DType, FloatFormat};

use crate::CodecError;
use crate::kernel::{Isa, Work, compiled_for, load};

/// How a value becomes a word of fewer bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// Towards zero: the bits that do not fit are dropped.
    Truncate,
    /// To the nearest, ties away from zero.
    Away,
}

impl Rounding {
    pub(super) const ALL: [Self; 3] = [Self::Nearest, Self::Truncate, Self::Away];
}

/// A float type that values are stored as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Float {
    pub(super) format: FloatFormat,
    pub(super) dtype: DType,
}

impl Float {
    /// The float type of that name; an error for all others, and for those whose geometry does not say what their words mean.
    pub(crate) fn of(dtype: DType) -> Result<Self, CodecError> {
        let known = matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2);
        let format = dtype.float().filter(|_| known);
        format.map(|format| Self { format, dtype }).ok_or(CodecError::Chain("the derivation is for floats"))
    }

    pub(super) fn bytes(self) -> usize {
        self.dtype.word_bytes()
    }

    /// The bits of infinity; of `F8_E4M3`, which has none, those of its NaN.
    pub(super) fn infinity(self) -> u64 {
        let all = (1u64 << (self.format.exponent + self.format.mantissa)) - 1;
        if self.dtype == DType::F8E4M3 { all } else { all >> self.format.mantissa << self.format.mantissa }
    }

    /// The sign bit.
    pub(super) fn sign(self) -> u64 {
        1 << (self.format.exponent + self.format.mantissa)
    }

    /// The magnitude's bits of a finite binary64 (its own magnitude, as bits) rounded to the type; at least
    /// [`Self::infinity`] where it does not fit.
    #[inline(always)]
    fn round(self, magnitude: u64, rounding: Rounding) -> u64 {
        const MANTISSA: u32 = 52;
        let FloatFormat { exponent, mantissa, .. } = self.format;
        let bias = (1i64 << (exponent - 1)) - 1;
        // The exponent in the type, at least that of its subnormals.
        let own = (magnitude >> MANTISSA) as i64 - 1023 + bias;
        let kept = own.max(1);
        // Binary64's own subnormals have no hidden bit, but are zero in any type that is narrower.
        let hidden = u64::from(magnitude >> MANTISSA != 0) << MANTISSA;
        let full = (magnitude & ((1 << MANTISSA) - 1)) | hidden;
        let shift = (i64::from(MANTISSA - mantissa) + kept - own).min(63) as u32;
        let whole = full >> shift;
        let rest = full & ((1u64 << shift) - 1);
        let half = (1u64 << shift) >> 1;
        let up = match rounding {
            Rounding::Nearest => rest > half || (rest == half && half > 0 && whole & 1 == 1),
            Rounding::Truncate => false,
            Rounding::Away => rest >= half && half > 0,
        };
        whole + u64::from(up) + (((kept - 1) as u64) << mantissa)
    }
}

/// Values as words.
pub(super) struct Store<'a> {
    pub(super) float: Float,
    pub(super) rounding: Rounding,
    /// What finite values beyond the type's largest become: that, instead of infinity.
    pub(super) saturates: bool,
    /// Finite values.
    pub(super) values: &'a [f64],
    /// As many words.
    pub(super) words: &'a mut [u8],
}

impl Work for Store<'_> {
    #[inline(always)]
    fn run(self) {
        match (self.float.bytes(), self.rounding) {
            (1, _) => self.of::<1>(),
            (2, Rounding::Nearest) => Store { rounding: Rounding::Nearest, ..self }.of::<2>(),
            (2, _) => self.of::<2>(),
            (4, Rounding::Nearest) => Store { rounding: Rounding::Nearest, ..self }.of::<4>(),
            (4, _) => self.of::<4>(),
            _ => {
                for (word, value) in self.words.as_chunks_mut::<8>().0.iter_mut().zip(self.values) {
                    *word = value.to_le_bytes();
                }
            }
        }
    }
}

impl Store<'_> {
    #[inline(always)]
    fn of<const N: usize>(self) {
        let (infinity, sign) = (self.float.infinity(), self.float.sign());
        let beyond = infinity - u64::from(self.saturates);
        for (word, value) in self.words.as_chunks_mut::<N>().0.iter_mut().zip(self.values) {
            let bits = value.to_bits();
            let magnitude = self.float.round(bits & !(1 << 63), self.rounding);
            let magnitude = if magnitude >= infinity { beyond } else { magnitude };
            let stored = magnitude | ((bits >> 63) * sign);
            *word = std::array::from_fn(|byte| (stored >> (8 * byte)) as u8);
        }
    }
}

/// Puts finite values as words of a type, to the nearest.
pub(crate) fn store(isa: Isa, float: Float, values: &[f64], words: &mut [u8]) {
    compiled_for(isa, Store { float, rounding: Rounding::Nearest, saturates: false, values, words });
}

/// The values of a float type's words; 0 for those that are not finite. Returns whether all are finite.
pub(crate) fn values(isa: Isa, float: Float, words: &[u8], values: &mut [f64]) -> bool {
    if float.bytes() == 1 {
        for (value, word) in values.iter_mut().zip(words) {
            *value = small(float, *word);
        }
    } else {
        load(isa, float.format, words, values);
    }
    all_finite(float, words)
}

/// The value of a word of 8 bits; 0 where it is not finite.
fn small(float: Float, word: u8) -> f64 {
    let FloatFormat { exponent, mantissa, .. } = float.format;
    let magnitude = u64::from(word) & (float.sign() - 1);
    if magnitude >= float.infinity() {
        return 0.0;
    }
    let bias = (1i32 << (exponent - 1)) - 1;
    let (power, fraction) = ((magnitude >> mantissa) as i32, (magnitude & ((1 << mantissa) - 1)) as f64);
    let scale = |power: i32| f64::from_bits(((1023 + power) as u64) << 52);
    let value = match power {
        0 => fraction * scale(1 - bias - mantissa as i32),
        _ => (fraction + f64::from(1u32 << mantissa)) * scale(power - bias - mantissa as i32),
    };
    if u64::from(word) & float.sign() != 0 { -value } else { value }
}

fn all_finite(float: Float, words: &[u8]) -> bool {
    let (infinity, mask) = (float.infinity(), float.sign() - 1);
    match float.bytes() {
        1 => words.iter().all(|word| u64::from(*word) & mask < infinity),
        2 => all_below::<2>(words, mask, infinity),
        4 => all_below::<4>(words, mask, infinity),
        _ => all_below::<8>(words, mask, infinity),
    }
}

fn all_below<const N: usize>(words: &[u8], mask: u64, infinity: u64) -> bool {
    let mut below = true;
    for word in words.as_chunks::<N>().0 {
        below &= bits(word) & mask < infinity;
    }
    below
}

/// A word as a number.
#[inline(always)]
pub(super) fn bits(word: &[u8]) -> u64 {
    word.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}
