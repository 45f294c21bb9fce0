//! Linear predictions of floats, in safe Rust.
//!
//! Every product and sum is one IEEE 754 operation on binary64, in the order written, and the result is rounded to binary32 (but
//! for binary64 words) and from there to the word's type, ties to even: the same bits on every machine.

use shard_core::FloatFormat;

/// Whether predictions of such floats can be computed.
pub(crate) fn is_known(float: FloatFormat) -> bool {
    matches!((float.exponent, float.mantissa), (5, 10) | (8, 7) | (8, 23) | (11, 52))
}

/// A float type as little-endian words of `N` bytes.
trait Words<const N: usize> {
    /// The value, and whether it is finite.
    fn load(word: [u8; N]) -> (f64, bool);
    /// The nearest word, and whether it is finite.
    fn store(value: f64) -> ([u8; N], bool);
}

struct Half;
struct BFloat;
struct Single;
struct Double;

impl Words<2> for Half {
    #[inline(always)]
    fn load(word: [u8; 2]) -> (f64, bool) {
        let bits = u32::from(u16::from_le_bytes(word));
        // The exponent is rebased by an exact product, which takes subnormals along.
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        (f64::from(f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)), bits & 0x7c00 != 0x7c00)
    }
    #[inline(always)]
    fn store(value: f64) -> ([u8; 2], bool) {
        let value = value as f32;
        let bits = value.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        // Rounded to 10 bits of mantissa, and rebased; small numbers by a sum whose last bit is worth 2^-24.
        let normal = (magnitude + 0xfff + (magnitude >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
        let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let half = if magnitude < 113 << 23 { small } else { normal };
        // 65,520 and above round to infinity.
        (((half as u16) | (bits >> 16 & 0x8000) as u16).to_le_bytes(), magnitude < 65_520f32.to_bits())
    }
}

impl Words<2> for BFloat {
    #[inline(always)]
    fn load(word: [u8; 2]) -> (f64, bool) {
        let value = f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16);
        (f64::from(value), value.is_finite())
    }
    #[inline(always)]
    fn store(value: f64) -> ([u8; 2], bool) {
        let bits = (value as f32).to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        ((rounded as u16).to_le_bytes(), bits & 0x7fff_ffff < 0x7f7f_8000)
    }
}

impl Words<4> for Single {
    #[inline(always)]
    fn load(word: [u8; 4]) -> (f64, bool) {
        let value = f32::from_le_bytes(word);
        (f64::from(value), value.is_finite())
    }
    #[inline(always)]
    fn store(value: f64) -> ([u8; 4], bool) {
        let value = value as f32;
        (value.to_le_bytes(), value.is_finite())
    }
}

impl Words<8> for Double {
    #[inline(always)]
    fn load(word: [u8; 8]) -> (f64, bool) {
        let value = f64::from_le_bytes(word);
        (value, value.is_finite())
    }
    #[inline(always)]
    fn store(value: f64) -> ([u8; 8], bool) {
        (value.to_le_bytes(), value.is_finite())
    }
}

#[inline(always)]
fn scale_as<const N: usize, W: Words<N>>(factor: f64, words: &[u8], out: &mut [u8]) {
    for (out, word) in out.as_chunks_mut::<N>().0.iter_mut().zip(words.as_chunks::<N>().0) {
        let (value, finite) = W::load(*word);
        let (scaled, fits) = W::store(value * factor);
        *out = if finite & fits { scaled } else { *word };
    }
}

/// Each word times `factor`; the word itself where that or the product is not finite.
#[inline(always)]
pub(super) fn scale(float: FloatFormat, factor: f64, words: &[u8], out: &mut [u8]) {
    match (float.exponent, float.mantissa) {
        (5, _) => scale_as::<2, Half>(factor, words, out),
        (8, 7) => scale_as::<2, BFloat>(factor, words, out),
        (8, _) => scale_as::<4, Single>(factor, words, out),
        _ => scale_as::<8, Double>(factor, words, out),
    }
}

#[inline(always)]
fn combine_as<const N: usize, W: Words<N>>(factors: [f64; 2], bases: [&[u8]; 2], out: &mut [u8]) {
    let pairs = bases[0].as_chunks::<N>().0.iter().zip(bases[1].as_chunks::<N>().0);
    for (out, (first, second)) in out.as_chunks_mut::<N>().0.iter_mut().zip(pairs) {
        let ((a, a_finite), (b, b_finite)) = (W::load(*first), W::load(*second));
        let (sum, fits) = W::store(a * factors[0] + b * factors[1]);
        *out = if a_finite & b_finite & fits { sum } else { *first };
    }
}

/// The sum of the words of both bases, each times its factor; the first base's word where one of them or the sum is not finite.
#[inline(always)]
pub(super) fn combine(float: FloatFormat, factors: [f64; 2], bases: [&[u8]; 2], out: &mut [u8]) {
    match (float.exponent, float.mantissa) {
        (5, _) => combine_as::<2, Half>(factors, bases, out),
        (8, 7) => combine_as::<2, BFloat>(factors, bases, out),
        (8, _) => combine_as::<4, Single>(factors, bases, out),
        _ => combine_as::<8, Double>(factors, bases, out),
    }
}

#[inline(always)]
fn shift_as<const N: usize, W: Words<N>>(distances: &[f64], words: &[u8], out: &mut [u8]) {
    let words = words.as_chunks::<N>().0;
    for (out, (word, distance)) in out.as_chunks_mut::<N>().0.iter_mut().zip(words.iter().zip(distances)) {
        let (value, finite) = W::load(*word);
        let (sum, fits) = W::store(value + distance);
        *out = if finite & fits { sum } else { *word };
    }
}

/// Each word plus a distance; the word itself where that or the sum is not finite.
#[inline(always)]
pub(super) fn shift(float: FloatFormat, distances: &[f64], words: &[u8], out: &mut [u8]) {
    match (float.exponent, float.mantissa) {
        (5, _) => shift_as::<2, Half>(distances, words, out),
        (8, 7) => shift_as::<2, BFloat>(distances, words, out),
        (8, _) => shift_as::<4, Single>(distances, words, out),
        _ => shift_as::<8, Double>(distances, words, out),
    }
}

/// Whether a word is finite.
pub(crate) fn is_finite(float: FloatFormat, word: &[u8]) -> bool {
    let bits = word.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mask = (1 << float.exponent) - 1;
    bits >> float.mantissa & mask != mask
}

#[inline(always)]
fn load_as<const N: usize, W: Words<N>>(words: &[u8], values: &mut [f64]) {
    for (value, word) in values.iter_mut().zip(words.as_chunks::<N>().0) {
        let (loaded, finite) = W::load(*word);
        *value = if finite { loaded } else { 0.0 };
    }
}

/// The values of words; 0 for those that are not finite.
#[inline(always)]
pub(super) fn load(float: FloatFormat, words: &[u8], values: &mut [f64]) {
    match (float.exponent, float.mantissa) {
        (5, _) => load_as::<2, Half>(words, values),
        (8, 7) => load_as::<2, BFloat>(words, values),
        (8, _) => load_as::<4, Single>(words, values),
        _ => load_as::<8, Double>(words, values),
    }
}
