//! Word transforms in safe Rust: the definition, and what compilers vectorise.
//!
//! Every function is `inline(always)` so that the modules for instruction sets compile it again with their features.

use super::buckets::Key;
use crate::chain::Word;

/// The functions that depend on the width of a word, for one width.
macro_rules! width {
    ($module:ident, $unsigned:ty, $signed:ty, $bytes:literal) => {
        mod $module {
            type Bytes = [u8; $bytes];
            const TOP: u32 = <$unsigned>::BITS - 1;

            /// Order-preserving map of a sign-and-magnitude pattern.
            #[inline(always)]
            fn ordered(bits: $unsigned) -> $unsigned {
                bits ^ (((bits as $signed) >> TOP) as $unsigned | 1 << TOP)
            }

            #[inline(always)]
            fn unordered(bits: $unsigned) -> $unsigned {
                bits ^ (!((bits as $signed) >> TOP) as $unsigned | 1 << TOP)
            }

            #[inline(always)]
            pub(super) fn ulp_forward<const SIGN_MAGNITUDE: bool>(
                words: &[u8],
                prediction: &[u8],
                residuals: &mut [u8],
            ) {
                let words = words.as_chunks::<$bytes>().0;
                let prediction = prediction.as_chunks::<$bytes>().0;
                let residuals = residuals.as_chunks_mut::<$bytes>().0;
                for ((residual, word), predicted) in residuals.iter_mut().zip(words).zip(prediction) {
                    let (mut word, mut predicted) =
                        (<$unsigned>::from_le_bytes(*word), <$unsigned>::from_le_bytes(*predicted));
                    if SIGN_MAGNITUDE {
                        (word, predicted) = (ordered(word), ordered(predicted));
                    }
                    let step = word.wrapping_sub(predicted);
                    *residual = (step << 1 ^ ((step as $signed) >> TOP) as $unsigned).to_le_bytes();
                }
            }

            #[inline(always)]
            pub(super) fn ulp_inverse<const SIGN_MAGNITUDE: bool>(
                residuals: &[u8],
                prediction: &[u8],
                words: &mut [u8],
            ) {
                let words = words.as_chunks_mut::<$bytes>().0;
                let prediction = prediction.as_chunks::<$bytes>().0;
                let residuals = residuals.as_chunks::<$bytes>().0;
                for ((word, residual), predicted) in words.iter_mut().zip(residuals).zip(prediction) {
                    let folded = <$unsigned>::from_le_bytes(*residual);
                    let step = folded >> 1 ^ (folded & 1).wrapping_neg();
                    let predicted = <$unsigned>::from_le_bytes(*predicted);
                    *word = if SIGN_MAGNITUDE {
                        unordered(ordered(predicted).wrapping_add(step))
                    } else {
                        predicted.wrapping_add(step)
                    }
                    .to_le_bytes();
                }
            }

            #[inline(always)]
            pub(super) fn split_planes<const ROTATE: u32>(words: &[u8], planes: &mut [&mut [u8]]) {
                let words = words.as_chunks::<$bytes>().0;
                for (index, plane) in planes.iter_mut().enumerate().take($bytes) {
                    let shift = 8 * index as u32;
                    for (byte, word) in plane.iter_mut().zip(words) {
                        *byte = (<$unsigned>::from_le_bytes(*word).rotate_left(ROTATE) >> shift) as u8;
                    }
                }
            }

            #[inline(always)]
            pub(super) fn join_planes<const ROTATE: u32>(planes: &[&[u8]], words: &mut [u8]) {
                let words = words.as_chunks_mut::<$bytes>().0;
                let Ok(planes) = <&[&[u8]; $bytes]>::try_from(planes) else { return };
                let count = planes.iter().map(|plane| plane.len()).fold(words.len(), usize::min);
                let planes = planes.map(|plane| &plane[..count]);
                for (index, word) in words[..count].iter_mut().enumerate() {
                    let bytes: Bytes = std::array::from_fn(|plane| planes[plane][index]);
                    *word = <$unsigned>::from_le_bytes(bytes).rotate_right(ROTATE).to_le_bytes();
                }
            }

            #[inline(always)]
            pub(super) fn nonzero_mask(words: &[u8], mask: &mut [u8]) {
                let (groups, rest) = words.as_chunks::<{ 8 * $bytes }>();
                let mut bits = mask.iter_mut();
                for (group, bits) in groups.iter().zip(bits.by_ref()) {
                    *bits = 0;
                    for (index, word) in group.as_chunks::<$bytes>().0.iter().enumerate() {
                        *bits |= u8::from(<$unsigned>::from_le_bytes(*word) != 0) << index;
                    }
                }
                if let Some(bits) = bits.next() {
                    *bits = 0;
                    for (index, word) in rest.as_chunks::<$bytes>().0.iter().enumerate() {
                        *bits |= u8::from(<$unsigned>::from_le_bytes(*word) != 0) << index;
                    }
                }
            }
            /// Steps away from zero; see [`crate::residual::Step`].
            #[inline(always)]
            pub(super) fn step_forward<const SIGN_MAGNITUDE: bool>(
                words: &[u8],
                prediction: &[u8],
                residuals: &mut [u8],
            ) {
                let words = words.as_chunks::<$bytes>().0;
                let prediction = prediction.as_chunks::<$bytes>().0;
                let residuals = residuals.as_chunks_mut::<$bytes>().0;
                for ((residual, word), predicted) in residuals.iter_mut().zip(words).zip(prediction) {
                    let (word, predicted) = (<$unsigned>::from_le_bytes(*word), <$unsigned>::from_le_bytes(*predicted));
                    *residual = if SIGN_MAGNITUDE {
                        let sign = ((predicted as $signed) >> TOP) as $unsigned;
                        let step = ordered(word).wrapping_sub(ordered(predicted));
                        (step ^ sign).wrapping_sub(sign)
                    } else {
                        word.wrapping_sub(predicted)
                    }
                    .to_le_bytes();
                }
            }

            #[inline(always)]
            pub(super) fn step_inverse<const SIGN_MAGNITUDE: bool>(
                residuals: &[u8],
                prediction: &[u8],
                words: &mut [u8],
            ) {
                let words = words.as_chunks_mut::<$bytes>().0;
                let prediction = prediction.as_chunks::<$bytes>().0;
                let residuals = residuals.as_chunks::<$bytes>().0;
                for ((word, residual), predicted) in words.iter_mut().zip(residuals).zip(prediction) {
                    let (step, predicted) =
                        (<$unsigned>::from_le_bytes(*residual), <$unsigned>::from_le_bytes(*predicted));
                    *word = if SIGN_MAGNITUDE {
                        let sign = ((predicted as $signed) >> TOP) as $unsigned;
                        unordered(ordered(predicted).wrapping_add((step ^ sign).wrapping_sub(sign)))
                    } else {
                        predicted.wrapping_add(step)
                    }
                    .to_le_bytes();
                }
            }

            /// Rotated words less `origin`.
            #[inline(always)]
            pub(super) fn offset_forward<const ROTATE: u32>(origin: u64, words: &[u8], residuals: &mut [u8]) {
                let words = words.as_chunks::<$bytes>().0;
                for (residual, word) in residuals.as_chunks_mut::<$bytes>().0.iter_mut().zip(words) {
                    let word = <$unsigned>::from_le_bytes(*word).rotate_left(ROTATE);
                    *residual = word.wrapping_sub(origin as $unsigned).to_le_bytes();
                }
            }

            #[inline(always)]
            pub(super) fn offset_inverse<const ROTATE: u32>(origin: u64, residuals: &[u8], words: &mut [u8]) {
                let residuals = residuals.as_chunks::<$bytes>().0;
                for (word, residual) in words.as_chunks_mut::<$bytes>().0.iter_mut().zip(residuals) {
                    let residual = <$unsigned>::from_le_bytes(*residual);
                    *word = residual.wrapping_add(origin as $unsigned).rotate_right(ROTATE).to_le_bytes();
                }
            }

            /// Differences of rotated words; see [`crate::residual::Turn`].
            #[inline(always)]
            pub(super) fn turn_forward<const ROTATE: u32>(words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
                let pairs = words.as_chunks::<$bytes>().0.iter().zip(prediction.as_chunks::<$bytes>().0);
                for (residual, (word, predicted)) in residuals.as_chunks_mut::<$bytes>().0.iter_mut().zip(pairs) {
                    let [word, predicted] =
                        [word, predicted].map(|word| <$unsigned>::from_le_bytes(*word).rotate_left(ROTATE));
                    *residual = word.wrapping_sub(predicted).to_le_bytes();
                }
            }

            #[inline(always)]
            pub(super) fn turn_inverse<const ROTATE: u32>(residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
                let pairs = residuals.as_chunks::<$bytes>().0.iter().zip(prediction.as_chunks::<$bytes>().0);
                for (word, (residual, predicted)) in words.as_chunks_mut::<$bytes>().0.iter_mut().zip(pairs) {
                    let predicted = <$unsigned>::from_le_bytes(*predicted).rotate_left(ROTATE);
                    let residual = <$unsigned>::from_le_bytes(*residual);
                    *word = residual.wrapping_add(predicted).rotate_right(ROTATE).to_le_bytes();
                }
            }

            /// `min(63, (word << drop_top >> shift) - low)`, not below 0.
            #[inline(always)]
            pub(super) fn bins(drop_top: u32, shift: u32, low: u32, words: &[u8], bins: &mut [u8]) {
                for (bin, word) in bins.iter_mut().zip(words.as_chunks::<$bytes>().0) {
                    let key = <$unsigned>::from_le_bytes(*word) << drop_top >> shift;
                    *bin = key.saturating_sub(low as $unsigned).min(63) as u8;
                }
            }

            /// Residuals as small numbers: zigzag, 255 for all from 255 on.
            #[inline(always)]
            pub(super) fn fold(residuals: &[u8], tokens: &mut [u8]) {
                for (token, residual) in tokens.iter_mut().zip(residuals.as_chunks::<$bytes>().0) {
                    let residual = <$unsigned>::from_le_bytes(*residual);
                    let folded = residual << 1 ^ ((residual as $signed) >> TOP) as $unsigned;
                    *token = folded.min(255) as u8;
                }
            }

            /// [`fold`] of residuals without their `shifts[i]` lowest bits.
            #[inline(always)]
            pub(super) fn fold_shifted(residuals: &[u8], shifts: &[u8], tokens: &mut [u8]) {
                for ((token, residual), shift) in tokens.iter_mut().zip(residuals.as_chunks::<$bytes>().0).zip(shifts) {
                    let residual = (<$signed>::from_le_bytes(*residual) >> (u32::from(*shift) & TOP)) as $unsigned;
                    let folded = residual << 1 ^ ((residual as $signed) >> TOP) as $unsigned;
                    *token = folded.min(255) as u8;
                }
            }

            /// The inverse of [`fold`] for tokens below 255.
            #[inline(always)]
            pub(super) fn unfold(tokens: &[u8], residuals: &mut [u8]) {
                for (residual, token) in residuals.as_chunks_mut::<$bytes>().0.iter_mut().zip(tokens) {
                    let token = <$unsigned>::from(*token);
                    *residual = (token >> 1 ^ (token & 1).wrapping_neg()).to_le_bytes();
                }
            }

            /// Sums for an estimate of how far the words of a run moved: of `w * |residual| * ulp` and of `w`, where the unit
            /// in the last place of a word is `2^(bin - 63)` and `w = min(1, typical / ulp)`. In a fixed order of operations,
            /// so that every machine finds the same.
            #[inline(always)]
            pub(super) fn movement(typical: f32, bins: &[u8], residuals: &[u8]) -> (f32, f32) {
                let (mut moved, mut weight) = ([0f32; 16], [0f32; 16]);
                let (bins, bins_rest) = bins.as_chunks::<16>();
                let (groups, residuals_rest) = residuals.as_chunks::<{ 16 * $bytes }>();
                let mut add = |lane: usize, bin: u8, residual: &Bytes| {
                    let ulp = f32::from_bits((u32::from(bin) + 64) << 23);
                    let in_ulps = typical * f32::from_bits((190 - u32::from(bin)) << 23);
                    moved[lane] += ulp.min(typical) * (<$signed>::from_le_bytes(*residual).unsigned_abs() as f32);
                    weight[lane] += in_ulps.min(1.0);
                };
                for (bins, group) in bins.iter().zip(groups) {
                    for (lane, (bin, residual)) in bins.iter().zip(group.as_chunks::<$bytes>().0).enumerate() {
                        add(lane, *bin, residual);
                    }
                }
                for (lane, (bin, residual)) in bins_rest.iter().zip(residuals_rest.as_chunks::<$bytes>().0).enumerate()
                {
                    add(lane, *bin, residual);
                }
                (moved.iter().sum(), weight.iter().sum())
            }

            /// The words as signed integers.
            #[inline(always)]
            pub(super) fn widen(words: &[u8], wide: &mut [i64]) {
                for (wide, word) in wide.iter_mut().zip(words.as_chunks::<$bytes>().0) {
                    *wide = i64::from(<$signed>::from_le_bytes(*word));
                }
            }
        }
    };
}

width!(w1, u8, i8, 1);
width!(w2, u16, i16, 2);
width!(w4, u32, i32, 4);
width!(w8, u64, i64, 8);

/// Calls the function for a width in bytes, with a flag as a constant.
macro_rules! by_width {
    ($bytes:expr, $flag:expr, $on:expr, $off:expr, $name:ident($($argument:expr),*)) => {
        match ($bytes, $flag) {
            (1, true) => w1::$name::<{ $on }>($($argument),*),
            (1, false) => w1::$name::<{ $off }>($($argument),*),
            (2, true) => w2::$name::<{ $on }>($($argument),*),
            (2, false) => w2::$name::<{ $off }>($($argument),*),
            (4, true) => w4::$name::<{ $on }>($($argument),*),
            (4, false) => w4::$name::<{ $off }>($($argument),*),
            (_, true) => w8::$name::<{ $on }>($($argument),*),
            (_, false) => w8::$name::<{ $off }>($($argument),*),
        }
    };
}

#[inline(always)]
pub(super) fn xor(a: &[u8], b: &[u8], out: &mut [u8]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a ^ b;
    }
}

#[inline(always)]
pub(super) fn ulp_forward(word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), true, false, ulp_forward(words, prediction, residuals));
}

#[inline(always)]
pub(super) fn ulp_inverse(word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), true, false, ulp_inverse(residuals, prediction, words));
}

#[inline(always)]
pub(super) fn split_planes(rotate: bool, words: &[u8], planes: &mut [&mut [u8]]) {
    by_width!(planes.len(), rotate, 1, 0, split_planes(words, planes));
}

#[inline(always)]
pub(super) fn join_planes(rotate: bool, planes: &[&[u8]], words: &mut [u8]) {
    by_width!(planes.len(), rotate, 1, 0, join_planes(planes, words));
}

#[inline(always)]
pub(super) fn nonzero_mask(word_bytes: usize, words: &[u8], mask: &mut [u8]) {
    match word_bytes {
        1 => w1::nonzero_mask(words, mask),
        2 => w2::nonzero_mask(words, mask),
        4 => w4::nonzero_mask(words, mask),
        _ => w8::nonzero_mask(words, mask),
    }
}

/// Calls the function for a width in bytes.
macro_rules! of_width {
    ($bytes:expr, $name:ident($($argument:expr),*)) => {
        match $bytes {
            1 => w1::$name($($argument),*),
            2 => w2::$name($($argument),*),
            4 => w4::$name($($argument),*),
            _ => w8::$name($($argument),*),
        }
    };
}

#[inline(always)]
pub(super) fn step_forward(word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), true, false, step_forward(words, prediction, residuals));
}

#[inline(always)]
pub(super) fn step_inverse(word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), true, false, step_inverse(residuals, prediction, words));
}

#[inline(always)]
pub(super) fn offset_forward(word: Word, origin: u64, words: &[u8], residuals: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), 1, 0, offset_forward(origin, words, residuals));
}

#[inline(always)]
pub(super) fn offset_inverse(word: Word, origin: u64, residuals: &[u8], words: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), 1, 0, offset_inverse(origin, residuals, words));
}

#[inline(always)]
pub(super) fn turn_forward(word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), 1, 0, turn_forward(words, prediction, residuals));
}

#[inline(always)]
pub(super) fn turn_inverse(word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
    by_width!(word.bytes, word.sign_magnitude(), 1, 0, turn_inverse(residuals, prediction, words));
}

#[inline(always)]
pub(super) fn bins(word: Word, key: Key, words: &[u8], bins: &mut [u8]) {
    let bits = 8 * word.bytes as u32;
    let (drop_top, shift, low) = match (key, word.float) {
        (Key::Exponent { first }, Some(float)) => (u32::from(float.signed), bits - float.exponent, first),
        (Key::Mantissa, Some(float)) => (bits - float.mantissa, bits - float.mantissa.clamp(1, 6), 0),
        (_, None) => (0, bits.saturating_sub(6), 0),
    };
    of_width!(word.bytes, bins(drop_top % bits, shift, low, words, bins));
}

#[inline(always)]
pub(super) fn fold(word_bytes: usize, residuals: &[u8], tokens: &mut [u8]) {
    of_width!(word_bytes, fold(residuals, tokens));
}

#[inline(always)]
pub(super) fn fold_shifted(word_bytes: usize, residuals: &[u8], shifts: &[u8], tokens: &mut [u8]) {
    of_width!(word_bytes, fold_shifted(residuals, shifts, tokens));
}

#[inline(always)]
pub(super) fn unfold(word_bytes: usize, tokens: &[u8], residuals: &mut [u8]) {
    of_width!(word_bytes, unfold(tokens, residuals));
}

#[inline(always)]
pub(super) fn movement(word_bytes: usize, typical: f32, bins: &[u8], residuals: &[u8]) -> (f32, f32) {
    of_width!(word_bytes, movement(typical, bins, residuals))
}

#[inline(always)]
pub(super) fn widen(word_bytes: usize, words: &[u8], wide: &mut [i64]) {
    of_width!(word_bytes, widen(words, wide));
}

#[inline(always)]
pub(super) fn escape_tokens(words: &[u8], tokens: &mut [u8]) {
    for (token, word) in tokens.iter_mut().zip(words.as_chunks::<2>().0) {
        *token = u16::from_le_bytes(*word).min(255) as u8;
    }
}

#[inline(always)]
pub(super) fn widen_tokens(tokens: &[u8], words: &mut [u8]) {
    for (word, token) in words.as_chunks_mut::<2>().0.iter_mut().zip(tokens) {
        *word = u16::from(*token).to_le_bytes();
    }
}
