//! SHA-256 of two messages at once (FIPS 180-4).
//!
//! The CPU's SHA instructions wait for one another within one message: half of their throughput stays unused. Two messages,
//! taken in turn, fill the gaps. The safe twin and oracle is [`Sha256`], which every other CPU uses.

use shard_core::{Digest, Sha256};

/// Bytes that the compression function takes at once.
const BLOCK: usize = 64;

/// The digests of two messages.
#[must_use]
pub fn sha256_pair(a: &[u8], b: &[u8]) -> [Digest; 2] {
    let mut hashes = [Sha256::new(), Sha256::new()];
    let [one, two] = &mut hashes;
    update_both([one, two], [a, b]);
    hashes.map(Sha256::finish)
}

/// The digest of a message, which another hash takes in as its next bytes.
#[must_use]
pub fn sha256_along(message: &[u8], other: &mut Sha256) -> Digest {
    let mut hash = Sha256::new();
    update_both([&mut hash, other], [message, message]);
    hash.finish()
}

/// Takes the next bytes of two messages into their hashes.
fn update_both(mut hashes: [&mut Sha256; 2], mut messages: [&[u8]; 2]) {
    for (hash, message) in hashes.iter_mut().zip(&mut messages) {
        let (head, rest) = message.split_at(hash.to_boundary().min(message.len()));
        hash.update(head);
        *message = rest;
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sha")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1")
    {
        let count = messages.map(|message| message.len() / BLOCK);
        let count = count[0].min(count[1]);
        let [one, two] = &mut hashes;
        if count > 0
            && let (Some(one), Some(two)) = (one.take_blocks(count), two.take_blocks(count))
        {
            let parts = messages.map(|message| message.split_at(count * BLOCK));
            // SAFETY: the CPU has the instructions.
            unsafe { x86::compress([one, two], parts.map(|(blocks, _)| blocks.as_chunks().0)) };
            messages = parts.map(|(_, rest)| rest);
        }
    }
    for (hash, message) in hashes.into_iter().zip(messages) {
        hash.update(message);
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "SIMD kernel with a safe twin")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi64x, _mm_setzero_si128,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
        _mm_storeu_si128,
    };

    use super::BLOCK;

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    static K: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
        0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
        0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
        0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
        0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
        0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2,
    ];

    /// A state as the instructions want it: the words A B E F and C D G H, the first the highest.
    #[derive(Clone, Copy)]
    struct State {
        abef: __m128i,
        cdgh: __m128i,
    }

    impl State {
        #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
        fn load(words: &[u32; 8]) -> Self {
            let half = |high: usize, low: usize| (u64::from(words[high]) << 32 | u64::from(words[low])).cast_signed();
            Self { abef: _mm_set_epi64x(half(0, 1), half(4, 5)), cdgh: _mm_set_epi64x(half(2, 3), half(6, 7)) }
        }

        #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
        fn store(self, words: &mut [u32; 8]) {
            let mut rows = [[0u32; 4]; 2];
            for (row, register) in rows.iter_mut().zip([self.abef, self.cdgh]) {
                // SAFETY: a row has 16 bytes.
                unsafe { _mm_storeu_si128(row.as_mut_ptr().cast(), register) };
            }
            let [[f, e, b, a], [h, g, d, c]] = rows;
            *words = [a, b, c, d, e, f, g, h];
        }
    }

    /// Takes blocks of two messages into the words A to H of their states: as many as both have.
    ///
    /// # Safety
    /// The CPU has SHA, SSSE3 and SSE4.1.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) unsafe fn compress(states: [&mut [u32; 8]; 2], messages: [&[[u8; BLOCK]]; 2]) {
        let (mut one, mut two) = (State::load(states[0]), State::load(states[1]));
        // Words are big-endian.
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        for blocks in messages[0].iter().zip(messages[1]) {
            let (before_one, before_two) = (one, two);
            let mut m = [[_mm_setzero_si128(); 4]; 2];
            for (lane, block) in m.iter_mut().zip([blocks.0, blocks.1]) {
                for (quarter, register) in lane.iter_mut().enumerate() {
                    // SAFETY: a block has four quarters of 16 bytes.
                    let bytes = unsafe { _mm_loadu_si128(block.as_ptr().add(16 * quarter).cast()) };
                    *register = _mm_shuffle_epi8(bytes, swap);
                }
            }
            let [mut m1, mut m2] = m;
            macro_rules! four_rounds {
                ($group:literal) => {
                    // SAFETY: the constants of the group lie within the table.
                    let k = unsafe { _mm_loadu_si128(K.as_ptr().add(4 * $group).cast()) };
                    const AT: usize = $group % 4;
                    if $group >= 4 {
                        m1[AT] = schedule(m1[AT], m1[(AT + 1) % 4], m1[(AT + 2) % 4], m1[(AT + 3) % 4]);
                        m2[AT] = schedule(m2[AT], m2[(AT + 1) % 4], m2[(AT + 2) % 4], m2[(AT + 3) % 4]);
                    }
                    let (w1, w2) = (_mm_add_epi32(m1[AT], k), _mm_add_epi32(m2[AT], k));
                    one.cdgh = _mm_sha256rnds2_epu32(one.cdgh, one.abef, w1);
                    two.cdgh = _mm_sha256rnds2_epu32(two.cdgh, two.abef, w2);
                    one.abef = _mm_sha256rnds2_epu32(one.abef, one.cdgh, _mm_shuffle_epi32::<0x0e>(w1));
                    two.abef = _mm_sha256rnds2_epu32(two.abef, two.cdgh, _mm_shuffle_epi32::<0x0e>(w2));
                };
            }
            macro_rules! groups {
                ($($group:literal)*) => { $({ four_rounds!($group); })* };
            }
            groups!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            one = State {
                abef: _mm_add_epi32(one.abef, before_one.abef),
                cdgh: _mm_add_epi32(one.cdgh, before_one.cdgh),
            };
            two = State {
                abef: _mm_add_epi32(two.abef, before_two.abef),
                cdgh: _mm_add_epi32(two.cdgh, before_two.cdgh),
            };
        }
        let [first, second] = states;
        one.store(first);
        two.store(second);
    }

    /// The next four words of the message schedule, from the 16 before them.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    #[inline]
    fn schedule(w0: __m128i, w4: __m128i, w8: __m128i, w12: __m128i) -> __m128i {
        let middle = _mm_alignr_epi8::<4>(w12, w8);
        _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), middle), w12)
    }
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;

    use super::*;

    #[test]
    fn pairs_are_what_the_oracle_says() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for len in (0..200).chain([255, 256, 257, 500]) {
            for other in [len, 0, 63, 64, 65, 300] {
                let (a, b) = (&bytes[..len], &bytes[len..len + other]);
                assert_eq!(sha256_pair(a, b), [sha256(a), sha256(b)], "{len} and {other} bytes");
            }
        }
    }

    #[test]
    fn a_hash_that_goes_along_is_what_the_oracle_says() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| ((i * i) >> 3) as u8).collect();
        for before in [0, 1, 63, 64, 65, 130] {
            for len in (0..200).chain([255, 256, 257, 500]) {
                let (mut whole, message) = (Sha256::new(), &bytes[before..before + len]);
                whole.update(&bytes[..before]);
                assert_eq!(sha256_along(message, &mut whole), sha256(message), "{len} bytes after {before}");
                whole.update(&bytes[before + len..]);
                assert_eq!(whole.finish(), sha256(&bytes), "{len} bytes after {before}");
            }
        }
    }
}
