//! AVX-512 (F, BW, VL, DQ, VBMI, VBMI2): word transforms compiled for it, the rANS decoder, and buckets.

use std::arch::x86_64::*;

use super::buckets::{BINS, Cursors, Key, MAX_BUCKETS, SLACK};
use super::scalar::{self, COARSE_BITS, DecodeTables, EncodeTables, FINE_BITS};
use super::{buckets, linear, words};
use crate::chain::Word;
use shard_core::FloatFormat;

super::avx2::compile_words!("avx2,bmi2,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2");

#[target_feature(enable = "avx2,popcnt,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn rans_decode_wide<const FINE: bool, const N: usize>(
    tables: &DecodeTables,
    states: &mut [u32; N],
    words: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    const { assert!(N == 32 || N == 64) };
    let slot_mask = _mm512_set1_epi32(if FINE { (1 << FINE_BITS) - 1 } else { (1 << COARSE_BITS) - 1 });
    let low = _mm512_set1_epi32(scalar::STATE_LOW as i32);
    // Vectors of 16 states; the last two are not used where there are 32.
    let mut vectors = [_mm512_setzero_si512(); 4];
    for (vector, states) in vectors.iter_mut().zip(states.as_chunks::<16>().0) {
        // SAFETY: 16 states are one vector.
        *vector = unsafe { _mm512_loadu_si512(states.as_ptr().cast()) };
    }
    let mut at = 0;
    let mut done = 0;
    for group in out.as_chunks_mut::<N>().0 {
        // A group takes at most 2 bytes of words a state, and each load of 32 starts at most so many bytes in as the states
        // before it can take.
        let Some(ahead) = words.get(at..at + 2 * N) else { break };
        let mut used = 0;
        for (i, state) in vectors.iter_mut().take(N / 16).enumerate() {
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
            // SAFETY: `used` counts words, at most 16 for each vector before this one.
            let next = unsafe { _mm256_loadu_si256(ahead.as_ptr().add(2 * used).cast()) };
            let next = _mm512_maskz_expand_epi32(empty, _mm512_cvtepu16_epi32(next));
            *state = _mm512_mask_or_epi32(moved, empty, _mm512_slli_epi32::<16>(moved), next);
            used += empty.count_ones() as usize;
            let symbols = _mm512_cvtepi32_epi8(symbols);
            // SAFETY: a group has a byte a state, 16 a vector.
            unsafe { _mm_storeu_si128(group.as_mut_ptr().add(16 * i).cast(), symbols) };
        }
        at += 2 * used;
        done += N;
    }
    for (vector, states) in vectors.iter().zip(states.as_chunks_mut::<16>().0) {
        // SAFETY: as for the load.
        unsafe { _mm512_storeu_si512(states.as_mut_ptr().cast(), *vector) };
    }
    let rest = scalar::rans_decode::<FINE, N>(tables, states, words.get(at..)?, out.get_mut(done..)?)?;
    Some(at + rest)
}

#[target_feature(enable = "avx2,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2")]
pub(super) fn rans_encode_wide<const N: usize>(
    tables: &EncodeTables,
    states: &mut [u32; N],
    data: &[u8],
    words: &mut [u8],
    end: usize,
) -> Option<usize> {
    const { assert!(N == 32 || N == 64) };
    let (groups, rest) = data.as_chunks::<N>();
    let mut at = scalar::rans_encode::<N>(tables, states, rest, words, end)?;
    let bits = _mm512_set1_epi32(tables.bits as i32);
    let limit_shift = _mm512_set1_epi32(32 - tables.bits as i32);
    // Less by more than four roundings can add, and by less than would make a quotient below 2^20 too small by one.
    let two = _mm512_set1_ps(2.0 - 3.0 / (1 << 23) as f32);
    let one = _mm512_set1_epi32(1);
    let mut vectors = [_mm512_setzero_si512(); 4];
    for (vector, states) in vectors.iter_mut().zip(states.as_chunks::<16>().0) {
        // SAFETY: 16 states are one vector.
        *vector = unsafe { _mm512_loadu_si512(states.as_ptr().cast()) };
    }
    for group in groups.iter().rev() {
        // A group puts out at most a word a state, before `at`.
        let room = words.get_mut(at.checked_sub(2 * N)?..at)?;
        let mut unused = N;
        for (state, symbols) in vectors[..N / 16].iter_mut().zip(group.as_chunks::<16>().0).rev() {
            // SAFETY: 16 symbols; each is below 256.
            let entry = unsafe {
                let symbols = _mm512_cvtepu8_epi32(_mm_loadu_si128(symbols.as_ptr().cast()));
                _mm512_i32gather_epi32::<4>(symbols, tables.symbols.as_ptr().cast())
            };
            let frequency = _mm512_and_si512(entry, _mm512_set1_epi32(0xffff));
            let start = _mm512_srli_epi32::<16>(entry);
            let full = _mm512_cmpge_epu32_mask(*state, _mm512_sllv_epi32(frequency, limit_shift));
            let count = full.count_ones();
            unused -= count as usize;
            let low = _mm256_maskz_compress_epi16(full, _mm512_cvtepi32_epi16(*state));
            // SAFETY: `unused` and the states still to come are as many, so `count` words fit after it.
            unsafe {
                let place = room.as_mut_ptr().add(2 * unused).cast();
                _mm256_mask_storeu_epi16(place, ((1u32 << count) - 1) as u16, low);
            }
            let kept = _mm512_mask_srli_epi32::<16>(*state, full, *state);
            // The quotient by way of floats, from a reciprocal that is a little too small: right, or too small by one.
            let float = _mm512_cvtepi32_ps(frequency);
            let reciprocal = _mm512_rcp14_ps(float);
            let reciprocal = _mm512_mul_ps(reciprocal, _mm512_fnmadd_ps(float, reciprocal, two));
            let quotient = _mm512_cvttps_epu32(_mm512_mul_ps(_mm512_cvtepu32_ps(kept), reciprocal));
            let rest = _mm512_sub_epi32(kept, _mm512_mullo_epi32(quotient, frequency));
            let below = _mm512_cmpge_epu32_mask(rest, frequency);
            let quotient = _mm512_mask_add_epi32(quotient, below, quotient, one);
            let rest = _mm512_mask_sub_epi32(rest, below, rest, frequency);
            *state = _mm512_add_epi32(_mm512_add_epi32(_mm512_sllv_epi32(quotient, bits), rest), start);
        }
        at -= 2 * (N - unused);
    }
    for (vector, states) in vectors.iter().zip(states.as_chunks_mut::<16>().0) {
        // SAFETY: as for the load.
        unsafe { _mm512_storeu_si512(states.as_mut_ptr().cast(), *vector) };
    }
    Some(at)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn map_bins(map: &[u8; BINS], bins: &[u8], out: &mut [u8]) {
    // SAFETY: a map is one vector.
    let table = unsafe { _mm512_loadu_si512(map.as_ptr().cast()) };
    let len = bins.len().min(out.len());
    let (groups, rest) = bins[..len].as_chunks::<64>();
    let (out_groups, out_rest) = out[..len].as_chunks_mut::<64>();
    for (group, out) in groups.iter().zip(out_groups) {
        // SAFETY: both are 64 bytes.
        unsafe {
            let bins = _mm512_loadu_si512(group.as_ptr().cast());
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_permutexvar_epi8(bins, table));
        }
    }
    buckets::map_bins(map, rest, out_rest);
}

#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512vbmi2")]
pub(super) fn gather_tokens(
    buckets: usize,
    ids: &[u8],
    pool: &[u8],
    cursors: &mut Cursors,
    tokens: &mut [u8],
    escapes: &mut [u64],
) -> Option<()> {
    // Specialised, so that cursors stay in registers.
    match buckets {
        0..=2 => gather::<2>(ids, pool, cursors, tokens, escapes),
        3 => gather::<3>(ids, pool, cursors, tokens, escapes),
        4 => gather::<4>(ids, pool, cursors, tokens, escapes),
        5 => gather::<5>(ids, pool, cursors, tokens, escapes),
        6 => gather::<6>(ids, pool, cursors, tokens, escapes),
        7 => gather::<7>(ids, pool, cursors, tokens, escapes),
        8 => gather::<8>(ids, pool, cursors, tokens, escapes),
        9..=12 => gather::<12>(ids, pool, cursors, tokens, escapes),
        13..=16 => gather::<16>(ids, pool, cursors, tokens, escapes),
        _ => gather::<MAX_BUCKETS>(ids, pool, cursors, tokens, escapes),
    }
}

#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512vbmi2")]
fn gather<const BUCKETS: usize>(
    ids: &[u8],
    pool: &[u8],
    cursors: &mut Cursors,
    tokens: &mut [u8],
    escapes: &mut [u64],
) -> Option<()> {
    let len = ids.len().min(tokens.len());
    let mut at: [usize; BUCKETS] = std::array::from_fn(|bucket| cursors[bucket]);
    // No cursor can pass the end of the pool while a vector is read at it.
    let within = at.iter().all(|at| at.saturating_add(len + SLACK) <= pool.len());
    let vectors = if within { (len / 64).min(escapes.len()) } else { 0 };
    let (groups, _) = ids[..64 * vectors].as_chunks::<64>();
    for ((group, out), escapes) in groups.iter().zip(tokens.as_chunks_mut::<64>().0).zip(escapes.iter_mut()) {
        // SAFETY: 64 bytes.
        let ids = unsafe { _mm512_loadu_si512(group.as_ptr().cast()) };
        let mut merged = _mm512_setzero_si512();
        for (bucket, at) in at.iter_mut().enumerate() {
            let mask = _mm512_cmpeq_epi8_mask(ids, _mm512_set1_epi8(bucket as i8));
            // SAFETY: at least SLACK = 64 bytes remain at every cursor: it moves by at most `len` in all.
            let next = unsafe { _mm512_loadu_si512(pool.as_ptr().add(*at).cast()) };
            merged = _mm512_or_si512(merged, _mm512_maskz_expand_epi8(mask, next));
            *at += mask.count_ones() as usize;
        }
        *escapes = _mm512_cmpeq_epi8_mask(merged, _mm512_set1_epi8(buckets::ESCAPE as i8));
        // SAFETY: 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), merged) };
    }
    cursors[..BUCKETS].copy_from_slice(&at);
    let done = 64 * vectors;
    let escapes = escapes.get_mut(vectors..).unwrap_or_default();
    buckets::gather_tokens(BUCKETS, &ids[done..len], pool, cursors, &mut tokens[done..len], escapes)
}

#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512vbmi2")]
pub(super) fn scatter_tokens(
    buckets: usize,
    ids: &[u8],
    tokens: &[u8],
    cursors: &mut Cursors,
    pool: &mut [u8],
) -> Option<()> {
    match buckets {
        0..=2 => scatter::<2>(ids, tokens, cursors, pool),
        3..=4 => scatter::<4>(ids, tokens, cursors, pool),
        5..=6 => scatter::<6>(ids, tokens, cursors, pool),
        7..=8 => scatter::<8>(ids, tokens, cursors, pool),
        9..=12 => scatter::<12>(ids, tokens, cursors, pool),
        13..=16 => scatter::<16>(ids, tokens, cursors, pool),
        _ => scatter::<MAX_BUCKETS>(ids, tokens, cursors, pool),
    }
}

#[target_feature(enable = "popcnt,avx512f,avx512bw,avx512vbmi2")]
fn scatter<const BUCKETS: usize>(ids: &[u8], tokens: &[u8], cursors: &mut Cursors, pool: &mut [u8]) -> Option<()> {
    let len = ids.len().min(tokens.len());
    let mut at: [usize; BUCKETS] = std::array::from_fn(|bucket| cursors[bucket]);
    let within = at.iter().all(|at| at.saturating_add(len + SLACK) <= pool.len());
    let vectors = if within { len / 64 } else { 0 };
    let (groups, _) = ids[..64 * vectors].as_chunks::<64>();
    for (group, tokens) in groups.iter().zip(tokens.as_chunks::<64>().0) {
        // SAFETY: both are 64 bytes.
        let (ids, tokens) =
            unsafe { (_mm512_loadu_si512(group.as_ptr().cast()), _mm512_loadu_si512(tokens.as_ptr().cast())) };
        for (bucket, at) in at.iter_mut().enumerate() {
            let mask = _mm512_cmpeq_epi8_mask(ids, _mm512_set1_epi8(bucket as i8));
            let packed = _mm512_maskz_compress_epi8(mask, tokens);
            // SAFETY: at least SLACK = 64 bytes remain at every cursor. What is written beyond the tokens lies in the
            // bucket's own slack.
            unsafe { _mm512_storeu_si512(pool.as_mut_ptr().add(*at).cast(), packed) };
            *at += mask.count_ones() as usize;
        }
    }
    cursors[..BUCKETS].copy_from_slice(&at);
    let done = 64 * vectors;
    buckets::scatter_tokens(BUCKETS, &ids[done..len], &tokens[done..len], cursors, pool)
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn reaches(tokens: &[u8], limits: &[u8], masks: &mut [u64]) {
    let (groups, rest) = tokens.as_chunks::<64>();
    let (limit_groups, limits_rest) = limits.as_chunks::<64>();
    let pairs = groups.iter().zip(limit_groups);
    let done = pairs.len().min(masks.len());
    for (mask, (tokens, limits)) in masks.iter_mut().zip(pairs) {
        // SAFETY: both are 64 bytes.
        unsafe {
            let tokens = _mm512_loadu_si512(tokens.as_ptr().cast());
            *mask = _mm512_cmpge_epu8_mask(tokens, _mm512_loadu_si512(limits.as_ptr().cast()));
        }
    }
    buckets::reaches(rest, limits_rest, &mut masks[done..]);
}
