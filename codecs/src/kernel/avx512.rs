//! AVX-512 (F, BW, VL, DQ): word transforms compiled for it, and the rANS decoder.

use std::arch::x86_64::*;

use super::scalar::{self, COARSE_BITS, DecodeTables, FINE_BITS, LANES};
use super::words;
use crate::chain::Word;

super::avx2::compile_words!("avx2,popcnt,avx512f,avx512bw,avx512vl,avx512dq");

#[target_feature(enable = "avx2,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn rans_decode_wide<const FINE: bool>(
    tables: &DecodeTables,
    states: &mut [u32; LANES],
    words: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let slot_mask = _mm512_set1_epi32(if FINE { (1 << FINE_BITS) - 1 } else { (1 << COARSE_BITS) - 1 });
    let low = _mm512_set1_epi32(scalar::STATE_LOW as i32);
    // SAFETY: 32 states are two vectors of 16.
    let mut vectors: [__m512i; 2] =
        std::array::from_fn(|i| unsafe { _mm512_loadu_si512(states[16 * i..16 * i + 16].as_ptr().cast()) });
    let mut at = 0;
    let mut done = 0;
    for group in out.as_chunks_mut::<LANES>().0 {
        // A group takes at most 64 bytes of words: two loads of 32, the second at most 32 bytes in.
        let Some(ahead) = words.get(at..at + 64) else { break };
        let mut used = 0;
        for (i, state) in vectors.iter_mut().enumerate() {
            let slot = _mm512_and_si512(*state, slot_mask);
            let (symbols, moved) = if FINE {
                // SAFETY: a slot is below 2^14, and four bytes can be read at each.
                let found = unsafe { _mm512_i32gather_epi32::<1>(slot, tables.fine.as_ptr().cast()) };
                let symbols = _mm512_and_si512(found, _mm512_set1_epi32(0xff));
                // SAFETY: a symbol is below 256.
                let entry = unsafe { _mm512_i32gather_epi32::<4>(symbols, tables.symbols.as_ptr().cast()) };
                let frequency = _mm512_and_si512(entry, _mm512_set1_epi32(0xffff));
                let offset = _mm512_sub_epi32(slot, _mm512_srli_epi32::<16>(entry));
                let quotient = _mm512_srli_epi32::<FINE_BITS>(*state);
                (symbols, _mm512_add_epi32(_mm512_mullo_epi32(frequency, quotient), offset))
            } else {
                // SAFETY: a slot is below 2^12.
                let entry = unsafe { _mm512_i32gather_epi32::<4>(slot, tables.coarse.as_ptr().cast()) };
                let frequency = _mm512_and_si512(entry, slot_mask);
                let offset = _mm512_and_si512(_mm512_srli_epi32::<12>(entry), slot_mask);
                let quotient = _mm512_srli_epi32::<COARSE_BITS>(*state);
                let moved = _mm512_add_epi32(_mm512_mullo_epi32(frequency, quotient), offset);
                (_mm512_srli_epi32::<24>(entry), moved)
            };
            let empty = _mm512_cmplt_epu32_mask(moved, low);
            // SAFETY: `used` counts words, at most 16 for the vector before this one.
            let next = unsafe { _mm256_loadu_si256(ahead.as_ptr().add(2 * used).cast()) };
            let next = _mm512_maskz_expand_epi32(empty, _mm512_cvtepu16_epi32(next));
            *state = _mm512_mask_or_epi32(moved, empty, _mm512_slli_epi32::<16>(moved), next);
            used += empty.count_ones() as usize;
            let symbols = _mm512_cvtepi32_epi8(symbols);
            // SAFETY: a group is 32 bytes, 16 a vector.
            unsafe { _mm_storeu_si128(group.as_mut_ptr().add(16 * i).cast(), symbols) };
        }
        at += 2 * used;
        done += LANES;
    }
    for (i, vector) in vectors.iter().enumerate() {
        // SAFETY: as for the load.
        unsafe { _mm512_storeu_si512(states[16 * i..16 * i + 16].as_mut_ptr().cast(), *vector) };
    }
    let rest = scalar::rans_decode::<FINE, LANES>(tables, states, words.get(at..)?, out.get_mut(done..)?)?;
    Some(at + rest)
}
