//! The CPU's SHA instructions, on two messages in turn: they wait for one another within one message.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi64x, _mm_setzero_si128, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::{BLOCK, K};

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
        one = State { abef: _mm_add_epi32(one.abef, before_one.abef), cdgh: _mm_add_epi32(one.cdgh, before_one.cdgh) };
        two = State { abef: _mm_add_epi32(two.abef, before_two.abef), cdgh: _mm_add_epi32(two.cdgh, before_two.cdgh) };
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
