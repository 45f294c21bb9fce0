//! AVX2: word transforms compiled for it, and the rANS decoder.

use std::arch::x86_64::*;

use super::buckets::Key;
use super::scalar::{self, COARSE_BITS, DecodeTables, FINE_BITS};
use super::{buckets, linear, words};
use crate::chain::Word;
use shard_core::FloatFormat;

/// The word transforms compiled for a set of features.
macro_rules! compile_words {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn xor(a: &[u8], b: &[u8], out: &mut [u8]) {
            words::xor(a, b, out);
        }
        #[target_feature(enable = $features)]
        pub(super) fn ulp_forward(word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
            words::ulp_forward(word, words, prediction, residuals);
        }
        #[target_feature(enable = $features)]
        pub(super) fn ulp_inverse(word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
            words::ulp_inverse(word, residuals, prediction, words);
        }
        #[target_feature(enable = $features)]
        pub(super) fn split_planes(rotate: bool, words: &[u8], planes: &mut [&mut [u8]]) {
            words::split_planes(rotate, words, planes);
        }
        #[target_feature(enable = $features)]
        pub(super) fn join_planes(rotate: bool, planes: &[&[u8]], words: &mut [u8]) {
            words::join_planes(rotate, planes, words);
        }
        #[target_feature(enable = $features)]
        pub(super) fn nonzero_mask(word_bytes: usize, words: &[u8], mask: &mut [u8]) {
            words::nonzero_mask(word_bytes, words, mask);
        }
        #[target_feature(enable = $features)]
        pub(super) fn escape_tokens(words: &[u8], tokens: &mut [u8]) {
            words::escape_tokens(words, tokens);
        }
        #[target_feature(enable = $features)]
        pub(super) fn widen_tokens(tokens: &[u8], words: &mut [u8]) {
            words::widen_tokens(tokens, words);
        }
        #[target_feature(enable = $features)]
        pub(super) fn step_forward(word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
            words::step_forward(word, words, prediction, residuals);
        }
        #[target_feature(enable = $features)]
        pub(super) fn step_inverse(word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
            words::step_inverse(word, residuals, prediction, words);
        }
        #[target_feature(enable = $features)]
        pub(super) fn offset_forward(word: Word, origin: u64, words: &[u8], residuals: &mut [u8]) {
            words::offset_forward(word, origin, words, residuals);
        }
        #[target_feature(enable = $features)]
        pub(super) fn offset_inverse(word: Word, origin: u64, residuals: &[u8], words: &mut [u8]) {
            words::offset_inverse(word, origin, residuals, words);
        }
        #[target_feature(enable = $features)]
        pub(super) fn turn_forward(word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
            words::turn_forward(word, words, prediction, residuals);
        }
        #[target_feature(enable = $features)]
        pub(super) fn turn_inverse(word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
            words::turn_inverse(word, residuals, prediction, words);
        }
        #[target_feature(enable = $features)]
        pub(super) fn bins(word: Word, key: Key, words: &[u8], bins: &mut [u8]) {
            words::bins(word, key, words, bins);
        }
        #[target_feature(enable = $features)]
        pub(super) fn fold(word_bytes: usize, residuals: &[u8], tokens: &mut [u8]) {
            words::fold(word_bytes, residuals, tokens);
        }
        #[target_feature(enable = $features)]
        pub(super) fn fold_shifted(word_bytes: usize, residuals: &[u8], shifts: &[u8], tokens: &mut [u8]) {
            words::fold_shifted(word_bytes, residuals, shifts, tokens);
        }
        #[target_feature(enable = $features)]
        pub(super) fn unfold(word_bytes: usize, tokens: &[u8], residuals: &mut [u8]) {
            words::unfold(word_bytes, tokens, residuals);
        }
        #[target_feature(enable = $features)]
        pub(super) fn movement(word_bytes: usize, typical: f32, bins: &[u8], residuals: &[u8]) -> (f32, f32) {
            words::movement(word_bytes, typical, bins, residuals)
        }
        #[target_feature(enable = $features)]
        pub(super) fn scale(float: FloatFormat, factor: f64, words: &[u8], out: &mut [u8]) {
            linear::scale(float, factor, words, out);
        }
        #[target_feature(enable = $features)]
        pub(super) fn combine(float: FloatFormat, factors: [f64; 2], bases: [&[u8]; 2], out: &mut [u8]) {
            linear::combine(float, factors, bases, out);
        }
        #[target_feature(enable = $features)]
        pub(super) fn shift(float: FloatFormat, distances: &[f64], words: &[u8], out: &mut [u8]) {
            linear::shift(float, distances, words, out);
        }
        #[target_feature(enable = $features)]
        pub(super) fn load(float: FloatFormat, words: &[u8], values: &mut [f64]) {
            linear::load(float, words, values);
        }
        #[target_feature(enable = $features)]
        pub(super) fn unpack(bits: u32, symbols: &[u8], tokens: &mut [u8]) {
            buckets::unpack(bits, symbols, tokens);
        }
        #[target_feature(enable = $features)]
        pub(super) fn pack(bits: u32, tokens: &[u8], symbols: &mut [u8]) {
            buckets::pack(bits, tokens, symbols);
        }
    };
}
pub(super) use compile_words;

compile_words!("avx2,popcnt");

#[target_feature(enable = "avx2,popcnt")]
pub(super) fn compiled_for(work: impl super::Work) {
    work.run();
}

/// For each set of states that need a word: the index of its word for each state that does.
const WORD_INDEX: [u64; 256] = {
    let mut table = [0; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask] |= next << (8 * lane);
                next += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
};

#[target_feature(enable = "avx2,popcnt")]
pub(super) fn rans_decode_wide<const FINE: bool, const N: usize>(
    tables: &DecodeTables,
    states: &mut [u32; N],
    words: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    const { assert!(N == 32 || N == 64) };
    let slot_mask = _mm256_set1_epi32(if FINE { (1 << FINE_BITS) - 1 } else { (1 << COARSE_BITS) - 1 });
    let low_half = _mm256_set1_epi32(0xffff);
    let zero = _mm256_setzero_si256();
    // Vectors of 8 states; the last four are not used where there are 32.
    let mut vectors = [zero; 8];
    for (vector, states) in vectors.iter_mut().zip(states.as_chunks::<8>().0) {
        // SAFETY: 8 states are one vector.
        *vector = unsafe { _mm256_loadu_si256(states.as_ptr().cast()) };
    }
    let mut at = 0;
    let mut done = 0;
    for group in out.as_chunks_mut::<N>().0 {
        // A group takes at most 2 bytes of words a state, and each load of 16 starts at most so many bytes in as the states
        // before it can take.
        let Some(ahead) = words.get(at..at + 2 * N) else { break };
        let mut used = 0;
        let mut symbols = [zero; 8];
        for (state, symbol) in vectors.iter_mut().zip(&mut symbols).take(N / 8) {
            let slot = _mm256_and_si256(*state, slot_mask);
            let moved = if FINE {
                // SAFETY: a slot is below 2^14, and four bytes can be read at each.
                let found = unsafe { _mm256_i32gather_epi32::<1>(tables.fine.as_ptr().cast(), slot) };
                *symbol = _mm256_and_si256(found, _mm256_set1_epi32(0xff));
                // SAFETY: a symbol is below 256.
                let entry = unsafe { _mm256_i32gather_epi32::<4>(tables.symbols.as_ptr().cast(), *symbol) };
                let frequency = _mm256_and_si256(entry, low_half);
                let offset = _mm256_sub_epi32(slot, _mm256_srli_epi32::<16>(entry));
                let quotient = _mm256_srli_epi32::<{ FINE_BITS as i32 }>(*state);
                _mm256_add_epi32(_mm256_mullo_epi32(frequency, quotient), offset)
            } else {
                // SAFETY: a slot is below 2^12.
                let entry = unsafe { _mm256_i32gather_epi32::<4>(tables.coarse.as_ptr().cast(), slot) };
                *symbol = _mm256_srli_epi32::<24>(entry);
                let frequency = _mm256_and_si256(entry, slot_mask);
                let offset = _mm256_and_si256(_mm256_srli_epi32::<12>(entry), slot_mask);
                let quotient = _mm256_srli_epi32::<{ COARSE_BITS as i32 }>(*state);
                _mm256_add_epi32(_mm256_mullo_epi32(frequency, quotient), offset)
            };
            let empty = _mm256_cmpeq_epi32(_mm256_andnot_si256(low_half, moved), zero);
            let mask = _mm256_movemask_ps(_mm256_castsi256_ps(empty)) as u32 as usize;
            // SAFETY: `used` counts words, at most 8 for each vector before this one.
            let next = unsafe { _mm_loadu_si128(ahead.as_ptr().add(2 * used).cast()) };
            let index = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(WORD_INDEX[mask] as i64));
            let next = _mm256_permutevar8x32_epi32(_mm256_cvtepu16_epi32(next), index);
            let refilled = _mm256_or_si256(_mm256_slli_epi32::<16>(moved), next);
            *state = _mm256_blendv_epi8(moved, refilled, empty);
            used += mask.count_ones() as usize;
        }
        at += 2 * used;
        done += N;
        for ([a, b, c, d], out) in symbols.as_chunks().0.iter().zip(group.as_chunks_mut::<32>().0) {
            // The packs work within 128-bit halves; the permutation puts the eight runs of four symbols back in order.
            let bytes = _mm256_packus_epi16(_mm256_packus_epi32(*a, *b), _mm256_packus_epi32(*c, *d));
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            // SAFETY: 32 bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) };
        }
    }
    for (vector, states) in vectors.iter().zip(states.as_chunks_mut::<8>().0) {
        // SAFETY: as for the load.
        unsafe { _mm256_storeu_si256(states.as_mut_ptr().cast(), *vector) };
    }
    let rest = scalar::rans_decode::<FINE, N>(tables, states, words.get(at..)?, out.get_mut(done..)?)?;
    Some(at + rest)
}
