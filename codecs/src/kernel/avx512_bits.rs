//! AVX-512 and BMI2: low bits of changing widths, as many words at once as fit in 64 bits.
//!
//! Words without low bits are left out first, in a type of 16 bits most of them. Then `pext` moves the bits of several words to
//! where they lie among the others, and `pdep` moves them back. All of a group are written before the first is read: what
//! is stored in parts stalls who reads it whole too soon.

use std::arch::x86_64::*;

use super::buckets::{self, BitSink, Bits, Chosen, GROUP};

/// Bytes that are touched beyond a group's bits.
const BEYOND: usize = 64;

#[target_feature(enable = "popcnt,bmi2,avx512f,avx512bw,avx512vl,avx512vbmi2")]
pub(super) fn put_low_bits(
    word_bytes: usize,
    widths: &[u8],
    residuals: &[u8],
    bits: &mut BitSink<'_>,
    group: &mut Chosen,
) {
    match word_bytes {
        2 => put_groups::<2>(widths, residuals, bits, group),
        4 => put_groups::<4>(widths, residuals, bits, group),
        _ => buckets::put_low_bits(word_bytes, widths, residuals, bits, group),
    }
}

#[target_feature(enable = "popcnt,bmi2,avx512f,avx512bw,avx512vl,avx512vbmi2")]
pub(super) fn add_low_bits(
    word_bytes: usize,
    widths: &[u8],
    bits: &mut Bits<'_>,
    residuals: &mut [u8],
    group: &mut Chosen,
) {
    match word_bytes {
        2 => add_groups::<2>(widths, bits, residuals, group),
        4 => add_groups::<4>(widths, bits, residuals, group),
        _ => buckets::add_low_bits(word_bytes, widths, bits, residuals, group),
    }
}

#[target_feature(enable = "popcnt,bmi2,avx512f,avx512bw,avx512vl,avx512vbmi2")]
fn put_groups<const BYTES: usize>(widths: &[u8], residuals: &[u8], bits: &mut BitSink<'_>, group: &mut Chosen) {
    let len = widths.len().min(residuals.len() / BYTES) / 64 * 64;
    let ((widths, widths_rest), (residuals, residuals_rest)) = (widths.split_at(len), residuals.split_at(len * BYTES));
    for (widths, residuals) in widths.chunks(GROUP).zip(residuals.chunks(GROUP * BYTES)) {
        let words = group.choose::<BYTES>(widths, Some(residuals));
        let all = group.mask::<BYTES>(words);
        if bits.out.len() < (bits.at + all) / 8 + BEYOND {
            buckets::put_low_bits(BYTES, widths, residuals, bits, group);
            continue;
        }
        let mut at = bits.at;
        let mut pending = u64::from(bits.out[at / 8]) & ((1 << (at % 8)) - 1);
        for (mask, words) in group.masks.iter().zip(&group.words).take((words * BYTES).div_ceil(8)) {
            let packed = _pext_u64(*words, *mask);
            let end = at % 8 + mask.count_ones() as usize;
            // Two words of 4 bytes have 50 bits at most; four of 2 bytes 60, and up to 7 are pending.
            let done = if BYTES == 4 {
                let joined = packed << (at % 8) | pending;
                let Some(place) = bits.out.get_mut(at / 8..).and_then(<[u8]>::first_chunk_mut::<8>) else { break };
                *place = joined.to_le_bytes();
                joined >> (end / 8 * 8)
            } else {
                let joined = u128::from(packed) << (at % 8) | u128::from(pending);
                let Some(place) = bits.out.get_mut(at / 8..).and_then(<[u8]>::first_chunk_mut::<16>) else { break };
                *place = joined.to_le_bytes();
                (joined >> (end / 8 * 8)) as u64
            };
            pending = done;
            at += mask.count_ones() as usize;
        }
        bits.at = at;
    }
    buckets::put_low_bits(BYTES, widths_rest, residuals_rest, bits, group);
}

#[target_feature(enable = "popcnt,bmi2,avx512f,avx512bw,avx512vl,avx512vbmi2")]
fn add_groups<const BYTES: usize>(widths: &[u8], bits: &mut Bits<'_>, residuals: &mut [u8], group: &mut Chosen) {
    let len = widths.len().min(residuals.len() / BYTES) / 64 * 64;
    let (widths, widths_rest) = widths.split_at(len);
    let (residuals, residuals_rest) = residuals.split_at_mut(len * BYTES);
    for (widths, residuals) in widths.chunks(GROUP).zip(residuals.chunks_mut(GROUP * BYTES)) {
        let words = group.choose::<BYTES>(widths, None);
        let all = if BYTES == 2 { group.mask::<BYTES>(words) } else { 25 * words };
        if bits.data.len() < (bits.at + all) / 8 + BEYOND {
            buckets::add_low_bits(BYTES, widths, bits, residuals, group);
            continue;
        }
        // Of words of 4 bytes, more are taken by gathering.
        if BYTES == 2 {
            group.take_by_masks::<BYTES>(words, bits);
        } else {
            group.take_by_gathers(words, bits);
        }
        group.add::<BYTES>(widths, residuals);
    }
    buckets::add_low_bits(BYTES, widths_rest, bits, residuals_rest, group);
}

impl Chosen {
    /// Gathers the widths that are not 0, and the words that have them. Widths come in whole vectors, at most [`GROUP`]; zeros
    /// follow them. Returns their number.
    #[target_feature(enable = "popcnt,avx512f,avx512bw,avx512vbmi2")]
    fn choose<const BYTES: usize>(&mut self, widths: &[u8], residuals: Option<&[u8]>) -> usize {
        let vectors = (widths.len() / 64).min(GROUP / 64);
        let vectors = residuals.map_or(vectors, |residuals| vectors.min(residuals.len() / (64 * BYTES)));
        let mut chosen = 0;
        for vector in 0..vectors {
            // SAFETY: there are so many vectors of widths, and of residuals; there is room for GROUP words, of which at most 64 a
            // vector were chosen, and for a vector more.
            unsafe {
                let widths = _mm512_loadu_si512(widths.as_ptr().add(64 * vector).cast());
                let some = _mm512_test_epi8_mask(widths, widths);
                if some == 0 {
                    continue;
                }
                let place = self.widths.as_mut_ptr().add(chosen).cast();
                _mm512_storeu_si512(place, _mm512_maskz_compress_epi8(some, widths));
                if let Some(residuals) = residuals {
                    let mut place = self.words.as_mut_ptr().cast::<u8>().add(chosen * BYTES);
                    for part in 0..BYTES {
                        let words = residuals.as_ptr().add(64 * (vector * BYTES + part)).cast();
                        let mask = some >> (64 / BYTES * part);
                        let (packed, count) = if BYTES == 2 {
                            (
                                _mm512_maskz_compress_epi16(mask as u32, _mm512_loadu_si512(words)),
                                (mask as u32).count_ones(),
                            )
                        } else {
                            (
                                _mm512_maskz_compress_epi32(mask as u16, _mm512_loadu_si512(words)),
                                (mask as u16).count_ones(),
                            )
                        };
                        _mm512_storeu_si512(place.cast(), packed);
                        place = place.add(count as usize * BYTES);
                    }
                }
                chosen += some.count_ones() as usize;
            }
        }
        // SAFETY: at most GROUP were chosen.
        unsafe { _mm512_storeu_si512(self.widths.as_mut_ptr().add(chosen).cast(), _mm512_setzero_si512()) };
        chosen
    }

    /// Makes the masks of the words chosen; returns the number of their bits.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn mask<const BYTES: usize>(&mut self, words: usize) -> usize {
        let (one_16, one_32) = (_mm512_set1_epi16(1), _mm512_set1_epi32(1));
        let mut bits = _mm512_setzero_si512();
        for vector in 0..words.min(GROUP).div_ceil(64) {
            // SAFETY: there is room for a vector of widths, and for the masks of as many words, after those of GROUP.
            unsafe {
                let widths = self.widths.as_ptr().add(64 * vector);
                bits =
                    _mm512_add_epi64(bits, _mm512_sad_epu8(_mm512_loadu_si512(widths.cast()), _mm512_setzero_si512()));
                let place = self.masks.as_mut_ptr().cast::<u8>().add(64 * BYTES * vector);
                for part in 0..BYTES {
                    let widths = widths.add(64 / BYTES * part);
                    let ones = if BYTES == 2 {
                        let width = _mm512_cvtepu8_epi16(_mm256_loadu_si256(widths.cast()));
                        _mm512_sub_epi16(_mm512_sllv_epi16(one_16, width), one_16)
                    } else {
                        let width = _mm512_cvtepu8_epi32(_mm_loadu_si128(widths.cast()));
                        _mm512_sub_epi32(_mm512_sllv_epi32(one_32, width), one_32)
                    };
                    _mm512_storeu_si512(place.add(64 * part).cast(), ones);
                }
            }
        }
        _mm512_reduce_add_epi64(bits) as usize
    }

    /// Takes the bits of so many chosen words. They are there, and [`BEYOND`] bytes more.
    #[target_feature(enable = "popcnt,bmi2")]
    fn take_by_masks<const BYTES: usize>(&mut self, words: usize, bits: &mut Bits<'_>) {
        for (mask, words) in self.masks.iter().zip(&mut self.words).take((words * BYTES).div_ceil(8)) {
            let Some(window) = bits.data.get(bits.at / 8..).and_then(<[u8]>::first_chunk::<16>) else { break };
            *words = _pdep_u64((u128::from_le_bytes(*window) >> (bits.at % 8)) as u64, *mask);
            bits.at += mask.count_ones() as usize;
        }
    }

    /// The same for words of 4 bytes (and so at most 25 bits each), 16 at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn take_by_gathers(&mut self, words: usize, bits: &mut Bits<'_>) {
        let zero = _mm512_setzero_si512();
        for vector in 0..words.min(GROUP).div_ceil(16) {
            // SAFETY: 16 of GROUP widths, or zeros.
            let width = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(self.widths.as_ptr().add(16 * vector).cast()) });
            // Each number's bits start after those of all before it: sums over 1, 2, 4, 8 neighbours.
            let mut ends = width;
            ends = _mm512_add_epi32(ends, _mm512_alignr_epi32::<15>(ends, zero));
            ends = _mm512_add_epi32(ends, _mm512_alignr_epi32::<14>(ends, zero));
            ends = _mm512_add_epi32(ends, _mm512_alignr_epi32::<12>(ends, zero));
            ends = _mm512_add_epi32(ends, _mm512_alignr_epi32::<8>(ends, zero));
            let start = _mm512_add_epi32(_mm512_sub_epi32(ends, width), _mm512_set1_epi32((bits.at % 8) as i32));
            let byte = _mm512_min_epu32(_mm512_srli_epi32::<3>(start), _mm512_set1_epi32(60));
            let Some(ahead) = bits.data.get(bits.at / 8..).and_then(<[u8]>::first_chunk::<64>) else { return };
            // SAFETY: 64 bytes are there, and an index is at most 60 (where widths are as they should be: (7 + 15 * 25) / 8).
            let window = unsafe { _mm512_i32gather_epi32::<1>(byte, ahead.as_ptr().cast()) };
            let ones = _mm512_sub_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), width), _mm512_set1_epi32(1));
            let shifted = _mm512_srlv_epi32(window, _mm512_and_si512(start, _mm512_set1_epi32(7)));
            // SAFETY: 16 of GROUP words, with a vector to spare.
            unsafe {
                let place = self.words.as_mut_ptr().cast::<u8>().add(64 * vector);
                _mm512_storeu_si512(place.cast(), _mm512_and_si512(shifted, ones));
            }
            bits.at += _mm_extract_epi32::<3>(_mm512_extracti32x4_epi32::<3>(ends)) as usize;
        }
    }

    /// Moves residuals up by their widths (whole vectors of them, at most [`GROUP`]) and puts the words, one for each width
    /// that is not 0, below.
    #[target_feature(enable = "popcnt,avx512f,avx512bw,avx512vbmi2")]
    fn add<const BYTES: usize>(&self, widths: &[u8], residuals: &mut [u8]) {
        let vectors = (widths.len() / 64).min(residuals.len() / (64 * BYTES)).min(GROUP / 64);
        let mut words = self.words.as_ptr().cast::<u8>();
        for vector in 0..vectors {
            // SAFETY: there are so many vectors of widths and of residuals. At most 64 words a vector are used up, and a vector
            // can be read after GROUP of them.
            unsafe {
                let widths = widths.as_ptr().add(64 * vector);
                let all = _mm512_loadu_si512(widths.cast());
                let some = _mm512_test_epi8_mask(all, all);
                if some == 0 {
                    continue;
                }
                for part in 0..BYTES {
                    let place = residuals.as_mut_ptr().add(64 * (vector * BYTES + part)).cast();
                    let widths = widths.add(64 / BYTES * part);
                    let mask = some >> (64 / BYTES * part);
                    let (moved, low, count) = if BYTES == 2 {
                        let mask = mask as u32;
                        let width = _mm512_cvtepu8_epi16(_mm256_loadu_si256(widths.cast()));
                        let moved = _mm512_sllv_epi16(_mm512_loadu_si512(place), width);
                        (moved, _mm512_maskz_expand_epi16(mask, _mm512_loadu_si512(words.cast())), mask.count_ones())
                    } else {
                        let mask = mask as u16;
                        let width = _mm512_cvtepu8_epi32(_mm_loadu_si128(widths.cast()));
                        let moved = _mm512_sllv_epi32(_mm512_loadu_si512(place), width);
                        (moved, _mm512_maskz_expand_epi32(mask, _mm512_loadu_si512(words.cast())), mask.count_ones())
                    };
                    _mm512_storeu_si512(place, _mm512_or_si512(moved, low));
                    words = words.add(count as usize * BYTES);
                }
            }
        }
    }
}
