//! Statistics of the change between two runs of words of one element type.
//!
//! Sums are taken block by block in a fixed order, so the same pair gives the same bits on every machine.

use half::{bf16, f16};
use shard_core::DType;

use super::float8::small_float;

/// Sums over words of two versions of a tensor; mergeable.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ChangeSums {
    words: u64,
    changed: u64,
    max_steps: u64,
    max_abs: f64,
    /// Sums over the words that are finite on both sides.
    old_squares: f64,
    new_squares: f64,
    products: f64,
    change_squares: f64,
    not_finite: u64,
}

/// How much a tensor changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangeStats {
    /// Words compared (elements; components of complex numbers; bytes of packed types).
    pub words: u64,
    /// Words whose bits differ.
    pub changed: u64,
    /// Largest step of a word, in units in the last place (floats) or in ones (integers).
    pub max_ulp: u64,
    /// Euclidean norm of the change over that of the old values, words that are not finite left out; `None` for packed
    /// types, and where the old norm is zero and something changed.
    pub relative: Option<f64>,
    /// Cosine of the angle between old and new values, words that are not finite left out; `None` for packed types and
    /// where a norm is zero.
    pub cosine: Option<f64>,
    /// Largest absolute change of a value; `None` for packed types.
    pub max_abs: Option<f64>,
    /// Words that are NaN or infinite on either side.
    pub not_finite: u64,
}

impl ChangeStats {
    /// Share of the words that changed, from 0 to 1; 0 for an empty tensor.
    #[must_use]
    pub fn changed_share(&self) -> f64 {
        if self.words == 0 { 0.0 } else { self.changed as f64 / self.words as f64 }
    }
}

impl ChangeSums {
    /// Adds the sums of the words that follow.
    pub(crate) fn merge(&mut self, next: &Self) {
        self.words += next.words;
        self.changed += next.changed;
        self.max_steps = self.max_steps.max(next.max_steps);
        self.max_abs = self.max_abs.max(next.max_abs);
        self.old_squares += next.old_squares;
        self.new_squares += next.new_squares;
        self.products += next.products;
        self.change_squares += next.change_squares;
        self.not_finite += next.not_finite;
    }

    /// What the sums say; `valued` is false for packed types, whose words are no numbers.
    pub(crate) fn finish(&self, valued: bool) -> ChangeStats {
        let relative = match (self.old_squares > 0.0, self.change_squares > 0.0) {
            (true, _) => Some((self.change_squares / self.old_squares).sqrt()),
            (false, false) => Some(0.0),
            (false, true) => None,
        };
        let norms = self.old_squares.sqrt() * self.new_squares.sqrt();
        let cosine = (norms > 0.0).then(|| (self.products / norms).clamp(-1.0, 1.0));
        ChangeStats {
            words: self.words,
            changed: self.changed,
            max_ulp: self.max_steps,
            relative: relative.filter(|_| valued),
            cosine: cosine.filter(|_| valued),
            max_abs: valued.then_some(self.max_abs),
            not_finite: self.not_finite,
        }
    }
}

/// The sums over two equally long runs of whole words, little-endian.
pub(crate) fn compare(dtype: DType, old: &[u8], new: &[u8]) -> ChangeSums {
    match dtype {
        DType::BF16 => words(old, new, |w: [u8; 2]| f64::from(bf16::from_le_bytes(w)), steps16),
        DType::F16 | DType::C32 => words(old, new, |w: [u8; 2]| f64::from(f16::from_le_bytes(w)), steps16),
        DType::F32 | DType::C64 => words(
            old,
            new,
            |w: [u8; 4]| f64::from(f32::from_le_bytes(w)),
            |a, b| ordered32(a).abs_diff(ordered32(b)).into(),
        ),
        DType::F64 | DType::C128 => words(old, new, f64::from_le_bytes, |a, b| ordered64(a).abs_diff(ordered64(b))),
        DType::U16 => words(
            old,
            new,
            |w| f64::from(u16::from_le_bytes(w)),
            |a, b| u16::from_le_bytes(a).abs_diff(u16::from_le_bytes(b)).into(),
        ),
        DType::I16 => words(
            old,
            new,
            |w| f64::from(i16::from_le_bytes(w)),
            |a, b| i16::from_le_bytes(a).abs_diff(i16::from_le_bytes(b)).into(),
        ),
        DType::U32 => words(
            old,
            new,
            |w| f64::from(u32::from_le_bytes(w)),
            |a, b| u32::from_le_bytes(a).abs_diff(u32::from_le_bytes(b)).into(),
        ),
        DType::I32 => words(
            old,
            new,
            |w| f64::from(i32::from_le_bytes(w)),
            |a, b| i32::from_le_bytes(a).abs_diff(i32::from_le_bytes(b)).into(),
        ),
        DType::U64 => words(
            old,
            new,
            |w| u64::from_le_bytes(w) as f64,
            |a, b| u64::from_le_bytes(a).abs_diff(u64::from_le_bytes(b)),
        ),
        DType::I64 => words(
            old,
            new,
            |w| i64::from_le_bytes(w) as f64,
            |a, b| i64::from_le_bytes(a).abs_diff(i64::from_le_bytes(b)),
        ),
        DType::I8 => words(
            old,
            new,
            |[w]| f64::from(w.cast_signed()),
            |[a], [b]| a.cast_signed().abs_diff(b.cast_signed()).into(),
        ),
        _ => match dtype.float() {
            Some(format) => {
                let values: Vec<f64> = (0..=255).map(|bits| small_float(dtype, format, bits)).collect();
                let ordered = |w: u8| if format.signed { i16::from(ordered8(w)) } else { i16::from(w) };
                words(old, new, |[w]| values[usize::from(w)], |[a], [b]| ordered(a).abs_diff(ordered(b)).into())
            }
            None => words(old, new, |[w]| f64::from(w), |[a], [b]| a.abs_diff(b).into()),
        },
    }
}

fn words<const N: usize>(
    old: &[u8],
    new: &[u8],
    value: impl Fn([u8; N]) -> f64,
    steps: impl Fn([u8; N], [u8; N]) -> u64,
) -> ChangeSums {
    let mut sums = ChangeSums::default();
    let (old, _) = old.as_chunks::<N>();
    let (new, _) = new.as_chunks::<N>();
    for (old, new) in old.iter().zip(new) {
        sums.words += 1;
        let (x, y) = (value(*old), value(*new));
        if old != new {
            sums.changed += 1;
            sums.max_steps = sums.max_steps.max(steps(*old, *new));
        }
        if x.is_finite() && y.is_finite() {
            let change = y - x;
            sums.old_squares += x * x;
            sums.new_squares += y * y;
            sums.products += x * y;
            sums.change_squares += change * change;
            sums.max_abs = sums.max_abs.max(change.abs());
        } else {
            sums.not_finite += 1;
        }
    }
    sums
}

fn steps16(old: [u8; 2], new: [u8; 2]) -> u64 {
    let ordered = |word| {
        let bits = i16::from_le_bytes(word);
        bits ^ ((bits >> 15) & i16::MAX)
    };
    ordered(old).abs_diff(ordered(new)).into()
}

fn ordered8(word: u8) -> i8 {
    let bits = word.cast_signed();
    bits ^ ((bits >> 7) & i8::MAX)
}

fn ordered32(word: [u8; 4]) -> i32 {
    let bits = i32::from_le_bytes(word);
    bits ^ ((bits >> 31) & i32::MAX)
}

fn ordered64(word: [u8; 8]) -> i64 {
    let bits = i64::from_le_bytes(word);
    bits ^ ((bits >> 63) & i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::is_valued;
    use super::*;

    fn bf16s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()
    }

    #[test]
    fn a_small_change_in_bf16() {
        let (old, new) = (bf16s(&[1.0, 2.0, -4.0, 0.0]), bf16s(&[1.0, 2.0, -4.0, 3.0]));
        let stats = compare(DType::BF16, &old, &new).finish(true);
        assert_eq!((stats.words, stats.changed, stats.max_abs), (4, 1, Some(3.0)));
        assert!((stats.relative.unwrap() - (9.0f64 / 21.0).sqrt()).abs() < 1e-12);
        assert!((stats.cosine.unwrap() - 21.0 / (21f64.sqrt() * 30f64.sqrt())).abs() < 1e-12);
        assert_eq!(stats.changed_share(), 0.25);
    }

    #[test]
    fn ulp_steps_cross_zero() {
        // The smallest positive and negative denormal are two steps apart, with +0 and -0 between them counted as one
        // step from each other.
        assert_eq!(steps16(1u16.to_le_bytes(), 0x8001u16.to_le_bytes()), 3);
        assert_eq!(steps16(0u16.to_le_bytes(), 0x8000u16.to_le_bytes()), 1);
        assert_eq!(compare(DType::F32, &1f32.to_le_bytes(), &1.0000001f32.to_le_bytes()).max_steps, 1);
        assert_eq!(compare(DType::F64, &f64::MIN.to_le_bytes(), &f64::MAX.to_le_bytes()).max_steps, {
            2 * (0x7fef_ffff_ffff_ffffu64) + 1
        });
    }

    #[test]
    fn nan_and_infinity_are_counted_apart() {
        let (old, new) = (bf16s(&[f32::NAN, 1.0, 1.0]), bf16s(&[f32::NAN, f32::INFINITY, 1.0]));
        let stats = compare(DType::BF16, &old, &new).finish(true);
        assert_eq!((stats.changed, stats.not_finite), (1, 2));
        assert_eq!(stats.relative, Some(0.0));
    }

    #[test]
    fn every_dtype_is_compared() {
        for dtype in DType::ALL {
            let unit = dtype.storage_unit().1 as usize;
            let old: Vec<u8> = (0..unit * 8).map(|i| i as u8).collect();
            let mut new = old.clone();
            new[0] ^= 1;
            let stats = compare(*dtype, &old, &new).finish(is_valued(*dtype));
            assert_eq!(stats.words, (old.len() / dtype.word_bytes()) as u64, "{dtype}");
            assert_eq!(stats.changed, 1, "{dtype}");
            assert!(stats.max_ulp >= 1, "{dtype}");
            assert_eq!(stats.relative.is_some(), is_valued(*dtype), "{dtype}");
        }
    }
}
