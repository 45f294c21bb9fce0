//! What merged tensors are computed by: the same bits on every processor, whatever the number of threads.
//!
//! Each word (a component of a complex number is one) is widened to binary64, which is exact, and the result is computed in
//! binary64 with each operation rounded to the nearest, ties to even, in this order and not fused:
//!
//! - the mean: `s = ours + theirs`, then `s * 0.5`; where `s` overflows, which only binary64 itself can, `ours * 0.5 + theirs * 0.5`;
//! - task arithmetic: `(base + a * (ours - base)) + b * (theirs - base)`.
//!
//! It is rounded once to the type, to the nearest, ties to even. Beyond the largest number that is infinity, or the NaN of the
//! types that have none. NaN and infinities in the inputs do as IEEE 754 says, but every NaN that comes out is one and the same:
//! quiet, positive, and without a payload. Zero has its sign, but in the types that have one zero.

use shard_core::{DType, FloatFormat};
use shard_history::Merge;
use shard_history::merge::strategy::Strategy;

use crate::numeric::push_values;

/// The version that merge commits name. Any change of a bit that comes out is another version.
pub(crate) const ARITHMETIC: u64 = 1;

/// How values are put into words of a type.
#[derive(Debug, Clone, Copy)]
struct Words {
    bytes: usize,
    format: FloatFormat,
    bias: i64,
    /// The magnitude from which on a number is too large.
    beyond: u64,
    /// The magnitude of what is too large, which has its sign, if that is no NaN.
    infinity: Option<u64>,
    nan: u64,
    has_negative_zero: bool,
}

impl Words {
    /// `None` for types that are not signed floats of whole bytes.
    fn of(dtype: DType) -> Option<Self> {
        let format = dtype.float().filter(|float| float.signed)?;
        let FloatFormat { exponent, mantissa, .. } = format;
        let is_fnuz = matches!(dtype, DType::F8E4M3Fnuz | DType::F8E5M2Fnuz);
        let all = (1u64 << (exponent + mantissa)) - 1;
        let top = all >> mantissa << mantissa;
        let (beyond, infinity, nan) = if is_fnuz {
            (all + 1, None, all + 1)
        } else if dtype == DType::F8E4M3 {
            (all, None, all)
        } else {
            (top, Some(top), top | 1 << (mantissa - 1))
        };
        let bias = (1i64 << (exponent - 1)) - 1 + i64::from(is_fnuz);
        Some(Self { bytes: dtype.word_bytes(), format, bias, beyond, infinity, nan, has_negative_zero: !is_fnuz })
    }

    /// The word of a value.
    fn word(&self, value: f64) -> u64 {
        if value.is_nan() {
            return self.nan;
        }
        let bits = value.to_bits();
        let sign = (bits >> 63) << (self.format.exponent + self.format.mantissa);
        let magnitude = if self.bytes == 8 { bits & !(1 << 63) } else { self.round(bits & !(1 << 63)) };
        if magnitude >= self.beyond {
            return self.infinity.map_or(self.nan, |infinity| infinity | sign);
        }
        if magnitude == 0 && !self.has_negative_zero { 0 } else { magnitude | sign }
    }

    /// The magnitude, as bits, of that of a binary64 which is not NaN.
    fn round(&self, magnitude: u64) -> u64 {
        const MANTISSA: u32 = 52;
        if magnitude >= f64::INFINITY.to_bits() {
            return self.beyond;
        }
        // The exponent in the type, at least that of its subnormals.
        let own = (magnitude >> MANTISSA) as i64 - 1023 + self.bias;
        let kept = own.max(1);
        // Subnormals of binary64 are zero in every narrower type.
        let hidden = u64::from(magnitude >> MANTISSA != 0) << MANTISSA;
        let full = (magnitude & ((1 << MANTISSA) - 1)) | hidden;
        let shift = (i64::from(MANTISSA - self.format.mantissa) + kept - own).min(63) as u32;
        let (whole, rest, half) = (full >> shift, full & ((1 << shift) - 1), 1u64 << (shift - 1));
        let up = rest > half || (rest == half && whole & 1 == 1);
        (whole + u64::from(up)).saturating_add(((kept - 1) as u64) << self.format.mantissa)
    }
}

/// Buffers of one that computes.
#[derive(Default)]
pub(crate) struct Computer {
    values: Merge<Vec<f64>>,
}

impl Computer {
    /// Computes words of one type from those of both sides, and for task arithmetic of the base, all as many. What is no
    /// computation, or no type to compute with, is ours as it is.
    pub(crate) fn compute(&mut self, dtype: DType, strategy: Strategy, words: Merge<&[u8]>, out: &mut [u8]) {
        let Some(to) = Words::of(dtype) else { return copy(words.ours, out) };
        for (values, words) in [
            (&mut self.values.base, words.base),
            (&mut self.values.ours, words.ours),
            (&mut self.values.theirs, words.theirs),
        ] {
            values.clear();
            push_values(dtype, words, values);
        }
        let Merge { base, ours, theirs } = &self.values;
        let pairs = ours.iter().zip(theirs);
        match strategy {
            Strategy::Ours => copy(words.ours, out),
            Strategy::Theirs => copy(words.theirs, out),
            Strategy::Average => put(to, pairs.map(|(ours, theirs)| mean(*ours, *theirs)), out),
            Strategy::Task { ours: a, theirs: b } => {
                let (a, b) = (a.get(), b.get());
                let sum = |((ours, theirs), base): ((&f64, &f64), &f64)| task(*base, (a, *ours), (b, *theirs));
                put(to, pairs.zip(base).map(sum), out);
            }
        }
    }
}

fn copy(words: &[u8], out: &mut [u8]) {
    out.iter_mut().zip(words).for_each(|(to, from)| *to = *from);
}

fn put(to: Words, values: impl Iterator<Item = f64>, out: &mut [u8]) {
    for (word, value) in out.chunks_exact_mut(to.bytes).zip(values) {
        copy(&to.word(value).to_le_bytes(), word);
    }
}

fn mean(ours: f64, theirs: f64) -> f64 {
    let sum = ours + theirs;
    if sum.is_infinite() && ours.is_finite() && theirs.is_finite() { ours * 0.5 + theirs * 0.5 } else { sum * 0.5 }
}

fn task(base: f64, (a, ours): (f64, f64), (b, theirs): (f64, f64)) -> f64 {
    (base + a * (ours - base)) + b * (theirs - base)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use shard_core::{Sha256, sha256};

    use super::*;

    const TYPES: [DType; 11] = [
        DType::F64,
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::F8E4M3,
        DType::F8E5M2,
        DType::F8E4M3Fnuz,
        DType::F8E5M2Fnuz,
        DType::C32,
        DType::C64,
        DType::C128,
    ];

    fn strategy(text: &str) -> Strategy {
        text.parse().unwrap()
    }

    fn compute(dtype: DType, text: &str, base: &[u8], ours: &[u8], theirs: &[u8]) -> Vec<u8> {
        let mut out = vec![0; ours.len()];
        Computer::default().compute(dtype, strategy(text), Merge { base, ours, theirs }, &mut out);
        out
    }

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn every_signed_float_of_whole_bytes_is_computed_and_nothing_else() {
        for dtype in DType::ALL {
            assert_eq!(Words::of(*dtype).is_some(), TYPES.contains(dtype), "{dtype}");
        }
    }

    #[test]
    fn means_and_sums_of_binary32() {
        let (base, ours, theirs) =
            (f32s(&[1.0, 2.0, -1.5, 0.0]), f32s(&[1.5, 2.0, -1.0, -0.0]), f32s(&[2.0, 4.0, 1.0, -0.0]));
        assert_eq!(compute(DType::F32, "average", &base, &ours, &theirs), f32s(&[1.75, 3.0, 0.0, -0.0]));
        assert_eq!(compute(DType::F32, "task:1,1", &base, &ours, &theirs), f32s(&[2.5, 4.0, 1.5, 0.0]));
        assert_eq!(compute(DType::F32, "task:0.5,-0.25", &base, &ours, &theirs), f32s(&[1.0, 1.5, -1.875, 0.0]));
        assert_eq!(compute(DType::F32, "theirs", &base, &ours, &theirs), theirs);
    }

    #[test]
    fn ties_go_to_even_and_what_is_too_large_is_infinite() {
        let f16s = |values: &[f32]| values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect::<Vec<u8>>();
        // 1 and the next: halfway, so the even one; the next two likewise.
        let step = 2f32.powi(-10);
        let found =
            compute(DType::F16, "average", &[], &f16s(&[1.0, 1.0 + step]), &f16s(&[1.0 + step, 1.0 + 2.0 * step]));
        assert_eq!(found, f16s(&[1.0, 1.0 + 2.0 * step]));
        let base = f16s(&[0.0, 0.0]);
        let found = compute(DType::F16, "task:1,1", &base, &f16s(&[60000.0, -60000.0]), &f16s(&[60000.0, -60000.0]));
        assert_eq!(found, f16s(&[f32::INFINITY, f32::NEG_INFINITY]));
        // Halves of the smallest subnormal: ties to even, which is zero, with its sign.
        let smallest = f16::from_bits(1).to_le_bytes();
        assert_eq!(compute(DType::F16, "average", &[], &smallest, &[0, 0]), [0, 0]);
        assert_eq!(compute(DType::F16, "task:-0.5,0", &[0, 0], &smallest, &[0, 0]), [0, 0x80]);
        // Of binary64 the sum would be too large, the mean is not.
        let (large, small) = (f64::MAX.to_le_bytes(), f64::from_bits(1).to_le_bytes());
        assert_eq!(compute(DType::F64, "average", &[], &large, &large), large);
        assert_eq!(compute(DType::F64, "average", &[], &small, &small), small);
    }

    #[test]
    fn there_is_one_nan_and_types_without_infinity_have_it_for_what_is_too_large() {
        let nans = f32s(&[f32::from_bits(0xffc1_2345), 1.0, f32::INFINITY]);
        let others = f32s(&[1.0, f32::from_bits(0x7fa0_0001), f32::NEG_INFINITY]);
        let one = f32::from_bits(0x7fc0_0000);
        assert_eq!(compute(DType::F32, "average", &[], &nans, &others), f32s(&[one, one, one]));
        let same = f32s(&[f32::INFINITY]);
        assert_eq!(compute(DType::F32, "average", &[], &same, &same), same);
        for (dtype, large, nan, expected) in [
            (DType::F8E4M3, 0x7e, 0xff, 0x7f),
            (DType::F8E5M2, 0x7b, 0xfe, 0x7e),
            (DType::F8E4M3Fnuz, 0x7f, 0x80, 0x80),
            (DType::F8E5M2Fnuz, 0x7f, 0x80, 0x80),
        ] {
            let beyond = if dtype == DType::F8E5M2 { 0x7c } else { expected };
            assert_eq!(compute(dtype, "task:1,1", &[0], &[large], &[large]), [beyond], "{dtype}");
            assert_eq!(compute(dtype, "average", &[], &[nan], &[large]), [expected], "{dtype}");
            assert_eq!(compute(dtype, "average", &[], &[large], &[large]), [large], "{dtype}");
            // A negative number that is nearest to zero.
            let zero = if dtype == DType::F8E4M3 || dtype == DType::F8E5M2 { 0x80 } else { 0 };
            assert_eq!(compute(dtype, "task:-0.25,0", &[0], &[1], &[0]), [zero], "{dtype}");
        }
    }

    /// The nearest word by trying all of them.
    fn nearest(dtype: DType, value: f64) -> u8 {
        let mut values = Vec::new();
        push_values(dtype, &(0..=255).collect::<Vec<u8>>(), &mut values);
        let finite = (0..=255u8).zip(values).filter(|(_, other)| other.is_finite());
        let distance = |(word, other): &(u8, f64)| ((other - value).abs(), word & 1, word & 0x7f, word >> 7);
        finite.min_by(|a, b| distance(a).partial_cmp(&distance(b)).unwrap()).unwrap().0
    }

    #[test]
    fn eight_bits_are_rounded_to_the_nearest_of_all() {
        for dtype in [DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz] {
            let mut values = Vec::new();
            push_values(dtype, &(0..=255).collect::<Vec<u8>>(), &mut values);
            for (ours, a) in (0..=255u8).zip(&values).filter(|(_, a)| a.is_finite()) {
                for (theirs, b) in (0..=255u8).zip(&values).filter(|(_, b)| b.is_finite()) {
                    let mean = (a + b) / 2.0;
                    let found = compute(dtype, "average", &[], &[ours], &[theirs])[0];
                    if mean != 0.0 {
                        let expected = nearest(dtype, mean);
                        assert_eq!(found & 0x7f, expected & 0x7f, "{dtype} {ours:02x} {theirs:02x}");
                        assert!(found & 0x7f == 0 || found == expected, "{dtype} {ours:02x} {theirs:02x}");
                    }
                }
            }
        }
    }

    #[test]
    fn wider_types_are_rounded_as_the_language_and_its_libraries_do() {
        let (base, ours, theirs) = (random(1, 1 << 16), random(2, 1 << 16), random(3, 1 << 16));
        let found = compute(DType::F32, "task:0.7,0.3", &base, &ours, &theirs);
        let words = |bytes: &[u8]| -> Vec<f64> {
            bytes.as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect()
        };
        let expected = words(&base).into_iter().zip(words(&ours)).zip(words(&theirs));
        let expected = expected.map(|((base, ours), theirs)| (base + 0.7 * (ours - base)) + 0.3 * (theirs - base));
        for (found, value) in found.as_chunks().0.iter().zip(expected) {
            let found = f32::from_le_bytes(*found);
            assert!(found.to_bits() == (value as f32).to_bits() || (found.is_nan() && value.is_nan()), "{value}");
        }
        for (dtype, is_brain) in [(DType::F16, false), (DType::BF16, true)] {
            let found = compute(dtype, "average", &[], &ours, &theirs);
            for ((found, a), b) in found.as_chunks().0.iter().zip(ours.as_chunks().0).zip(theirs.as_chunks().0) {
                let value = |word: [u8; 2]| match is_brain {
                    true => bf16::from_le_bytes(word).to_f64(),
                    false => f16::from_le_bytes(word).to_f64(),
                };
                let mean = (value(*a) + value(*b)) / 2.0;
                let expected = match is_brain {
                    true => bf16::from_f64(mean).to_le_bytes(),
                    false => f16::from_f64(mean).to_le_bytes(),
                };
                assert!(*found == expected || (mean.is_nan() && value(*found).is_nan()), "{dtype} {a:?} {b:?}");
            }
        }
    }

    /// Version 1 for good: what comes out of pseudo-random words, NaN and infinities among them. Those of `F64`, `F32`, `F16` and
    /// `BF16` are also what Python's floats and `struct` make of them.
    #[test]
    fn golden() {
        let mut all = Sha256::new();
        let mut found = Vec::new();
        for dtype in TYPES {
            for text in ["average", "task:0.7,0.3", "task:1,-1", "task:-2.5,1e-3"] {
                let (base, ours, theirs) = (random(11, 1 << 14), random(12, 1 << 14), random(13, 1 << 14));
                let out = compute(dtype, text, &base, &ours, &theirs);
                all.update(&out);
                if text == "task:0.7,0.3" {
                    found.push(format!("{dtype} {}", &sha256(&out).to_hex()[..16]));
                }
            }
        }
        let expected = [
            "F64 f5ea777a3256a0a6",
            "F32 5c0a10e6368f0399",
            "F16 b61db05ddd9a304d",
            "BF16 6f584b44717013e5",
            "F8_E4M3 0663f8e93d07a652",
            "F8_E5M2 7458cd370ec50417",
            "F8_E4M3FNUZ 08d641d8fba7a1fd",
            "F8_E5M2FNUZ d6210faffacb4737",
            "C32 b61db05ddd9a304d",
            "C64 5c0a10e6368f0399",
            "C128 f5ea777a3256a0a6",
        ];
        assert_eq!((found, ARITHMETIC), (expected.map(str::to_owned).to_vec(), 1));
        assert_eq!(all.finish().to_hex(), "2ae0c84a8ef4f724f2705160d31f99b5e0f18be796c9ebc50a090d3b094f9a45");
    }
}
