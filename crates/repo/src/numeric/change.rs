//! Statistics of the change between two runs of words of one element type.
//!
//! Sums are taken piece by piece in a fixed order, so the same pair gives the same bits on every machine.

use shard_codecs::kernel::{ChangeSums, Isa, change, change_of_values};
use shard_core::DType;

use super::is_valued;
use super::values::{Tile, Values};

/// How much a tensor changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangeStats {
    /// Words compared (elements; components of complex numbers; bytes of packed types; values between two types).
    pub words: u64,
    /// Words whose bits differ.
    pub changed: u64,
    /// Largest step of a word, in units in the last place (floats) or in ones (integers); `None` for packed types and between two types.
    pub max_ulp: Option<u64>,
    /// Euclidean norm of the change over that of the old values, those that are not finite left out; `None` for quantised
    /// types whose values are not known, and where the old norm is zero and something changed.
    pub relative: Option<f64>,
    /// Cosine of the angle between old and new values, those that are not finite left out; `None` for quantised types whose values are
    /// not known, and where a norm is zero.
    pub cosine: Option<f64>,
    /// Largest absolute change of a value; `None` for quantised types whose values are not known.
    pub max_abs: Option<f64>,
    /// Euclidean norm of the old values, those that are not finite on both sides left out; `None` as above.
    pub old_norm: Option<f64>,
    /// The same of the new values.
    pub new_norm: Option<f64>,
    /// The same of the differences.
    pub change_norm: Option<f64>,
    /// The factor that brings the old values nearest to the new ones (least squares); `None` as above and where the old norm
    /// is zero.
    pub factor: Option<f64>,
    /// Values that are NaN or infinite on either side.
    pub not_finite: u64,
    /// Values that are NaN or infinite on the new side only.
    pub lost: u64,
}

impl ChangeStats {
    /// Share of the words that changed, from 0 to 1; 0 for an empty tensor.
    #[must_use]
    pub fn changed_share(&self) -> f64 {
        if self.words == 0 { 0.0 } else { self.changed as f64 / self.words as f64 }
    }

    /// What sums over words of a type say.
    pub(crate) fn of(sums: &ChangeSums, [old, new]: [DType; 2]) -> Self {
        let has_steps = old == new && old.storage_unit().0 == 1;
        let relative = match (sums.old_squares > 0.0, sums.change_squares > 0.0) {
            (true, _) => Some((sums.change_squares / sums.old_squares).sqrt()),
            (false, false) => Some(0.0),
            (false, true) => None,
        };
        let norms = sums.old_squares.sqrt() * sums.new_squares.sqrt();
        let cosine = (norms > 0.0).then(|| (sums.products / norms).clamp(-1.0, 1.0));
        let factor = (sums.old_squares > 0.0).then(|| sums.products / sums.old_squares);
        // Where nothing is finite there is nothing to tell.
        let has_values = is_valued(old) && is_valued(new) && (sums.words == 0 || sums.finite > 0);
        let valued = |value: Option<f64>| value.filter(|value| has_values && value.is_finite());
        Self {
            words: sums.words,
            changed: sums.changed,
            max_ulp: has_steps.then_some(sums.max_steps),
            relative: valued(relative),
            cosine: valued(cosine),
            max_abs: valued(Some(sums.max_abs)),
            old_norm: valued(Some(sums.old_squares.sqrt())),
            new_norm: valued(Some(sums.new_squares.sqrt())),
            change_norm: valued(Some(sums.change_squares.sqrt())),
            factor: valued(factor),
            not_finite: sums.not_finite,
            lost: sums.lost,
        }
    }
}

/// The sums over two equally long runs of whole words, little-endian.
pub(crate) fn compare(dtype: DType, old: &[u8], new: &[u8]) -> ChangeSums {
    if let Some(sums) = dtype.float().and_then(|float| change(Isa::best(), float, old, new)) {
        return sums;
    }
    match dtype {
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
        DType::I8 => bytes(dtype, old, new, |word| word ^ 0x80),
        _ => match dtype.float() {
            Some(format) if format.signed => bytes(dtype, old, new, |word| ordered8(word).cast_unsigned() ^ 0x80),
            _ => bytes(dtype, old, new, |word| word),
        },
    }
}

/// Of types whose words are bytes: values that are one, parts of one, or share scales. `ordered` puts bytes in the order of their values.
fn bytes(dtype: DType, old: &[u8], new: &[u8], ordered: impl Fn(u8) -> u8) -> ChangeSums {
    let mut sums = ChangeSums::default();
    let (mut before, mut after) = (Values::of(dtype), Values::of(dtype));
    let tile = before.as_ref().map_or(TILE_BYTES, Values::tile_bytes).max(1);
    for (old, new) in old.chunks(tile).zip(new.chunks(tile)) {
        let (mut changed, mut steps) = (0u32, 0u8);
        for (old, new) in old.iter().zip(new) {
            changed += u32::from(old != new);
            steps = steps.max(ordered(*old).abs_diff(ordered(*new)));
        }
        sums.changed += u64::from(changed);
        sums.max_steps = sums.max_steps.max(steps.into());
        if let (Some(before), Some(after)) = (&mut before, &mut after)
            && let (Tile::Single(old), Tile::Single(new)) = (before.tile(old, usize::MAX), after.tile(new, usize::MAX))
        {
            change_of_values(Isa::best(), old, new, &mut sums);
        }
    }
    // Values may be more than words.
    sums.words = old.len().min(new.len()) as u64;
    sums
}

/// Bytes of a tile of a type without values.
const TILE_BYTES: usize = 2048;

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
        sums.add(value(*old), value(*new), old != new, || steps(*old, *new));
    }
    sums
}

/// The step from one word to another of a type whose elements are words, in units in the last place (floats) or in ones (integers);
/// 0 exactly where their bits are the same.
pub(crate) fn signed_steps(dtype: DType, old: &[u8], new: &[u8]) -> i128 {
    let bits = |word: &[u8]| {
        let mut wide = [0; 8];
        wide.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(wide)
    };
    let width = 8 * old.len().clamp(1, 8) as u32;
    let ordered = |word: &[u8]| {
        let bits = bits(word);
        let signed = i128::from((bits << (64 - width)).cast_signed() >> (64 - width));
        match (dtype.float(), dtype) {
            // Negative floats count down from -0, which is one below +0.
            (Some(float), _) if float.signed && signed < 0 => -1 - (signed + (1 << (width - 1))),
            (None, DType::I8 | DType::I16 | DType::I32 | DType::I64) | (Some(_), _) if dtype != DType::F8E8M0 => signed,
            _ => i128::from(bits),
        }
    };
    ordered(new) - ordered(old)
}

fn ordered8(word: u8) -> i8 {
    let bits = word.cast_signed();
    bits ^ ((bits >> 7) & i8::MAX)
}

fn ordered64(word: [u8; 8]) -> i64 {
    let bits = i64::from_le_bytes(word);
    bits ^ ((bits >> 63) & i64::MAX)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn bf16s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()
    }

    #[test]
    fn a_small_change_in_bf16() {
        let (old, new) = (bf16s(&[1.0, 2.0, -4.0, 0.0]), bf16s(&[1.0, 2.0, -4.0, 3.0]));
        let stats = ChangeStats::of(&compare(DType::BF16, &old, &new), [DType::BF16; 2]);
        assert_eq!((stats.words, stats.changed, stats.max_abs), (4, 1, Some(3.0)));
        assert!((stats.relative.unwrap() - (9.0f64 / 21.0).sqrt()).abs() < 1e-12);
        assert!((stats.cosine.unwrap() - 21.0 / (21f64.sqrt() * 30f64.sqrt())).abs() < 1e-12);
        assert_eq!(stats.changed_share(), 0.25);
    }

    #[test]
    fn ulp_steps_cross_zero() {
        // The smallest positive and negative denormal are two steps apart, with +0 and -0 between them counted as one
        // step from each other.
        let steps = |a: u16, b: u16| compare(DType::F16, &a.to_le_bytes(), &b.to_le_bytes()).max_steps;
        assert_eq!((steps(1, 0x8001), steps(0, 0x8000)), (3, 1));
        assert_eq!(compare(DType::F32, &1f32.to_le_bytes(), &1.0000001f32.to_le_bytes()).max_steps, 1);
        assert_eq!(compare(DType::F64, &f64::MIN.to_le_bytes(), &f64::MAX.to_le_bytes()).max_steps, {
            2 * (0x7fef_ffff_ffff_ffffu64) + 1
        });
    }

    #[test]
    fn nan_and_infinity_are_counted_apart() {
        let (old, new) = (bf16s(&[f32::NAN, 1.0, 1.0]), bf16s(&[f32::NAN, f32::INFINITY, 1.0]));
        let stats = ChangeStats::of(&compare(DType::BF16, &old, &new), [DType::BF16; 2]);
        assert_eq!((stats.changed, stats.not_finite, stats.lost), (1, 2, 1));
        assert_eq!(stats.relative, Some(0.0));
    }

    #[test]
    fn signed_steps_are_as_long_as_the_largest_step() {
        for dtype in DType::ALL.iter().filter(|dtype| dtype.storage_unit() == (1, dtype.word_bytes() as u64)) {
            let bytes = dtype.word_bytes();
            let mut state = 1u64;
            let mut word = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state ^ state >> 29).to_le_bytes()[..bytes].to_vec()
            };
            for _ in 0..200 {
                let (old, new) = (word(), word());
                let steps = signed_steps(*dtype, &old, &new);
                let most = compare(*dtype, &old, &new).max_steps;
                assert_eq!(steps.unsigned_abs(), u128::from(most), "{dtype} {old:?} {new:?}");
                assert_eq!(signed_steps(*dtype, &new, &old), -steps, "{dtype}");
            }
        }
    }

    #[test]
    fn every_dtype_is_compared() {
        for dtype in DType::ALL {
            let unit = dtype.storage_unit().1 as usize;
            let old: Vec<u8> = (0..unit * 8).map(|i| i as u8).collect();
            let mut new = old.clone();
            new[0] ^= 1;
            let stats = ChangeStats::of(&compare(*dtype, &old, &new), [*dtype; 2]);
            assert_eq!(stats.words, (old.len() / dtype.word_bytes()) as u64, "{dtype}");
            assert_eq!(stats.changed, 1, "{dtype}");
            assert_eq!(stats.max_ulp.is_some(), dtype.storage_unit().0 == 1, "{dtype}");
            assert_eq!(stats.relative.is_some(), is_valued(*dtype), "{dtype}");
        }
    }
}
