//! Word transforms in safe Rust: the definition, and what compilers vectorise.
//!
//! Every function is `inline(always)` so that the modules for instruction sets compile it again with their features.

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
