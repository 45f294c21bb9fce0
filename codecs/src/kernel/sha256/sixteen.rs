//! Sixteen messages at once, one in each 32-bit lane of AVX-512.

use std::arch::x86_64::*;

use super::{BLOCK, K, LANES};

/// Bytes that are asked for before they are needed, in each message.
const AHEAD: usize = 8 * BLOCK;

/// Takes the blocks of up to 16 messages into the words A to H of their states. All have as many.
///
/// # Safety
/// The CPU has AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn compress(messages: &mut [(&mut [u32; 8], &[[u8; BLOCK]])]) {
    let blocks = messages.iter().map(|(_, blocks)| blocks.len()).min().unwrap_or(0);
    // A lane without a message does the first one's work again, and what comes of it is left there.
    let Some(first) = messages.first().map(|(_, blocks)| blocks.as_ptr()) else { return };
    let mut starts = [first; LANES];
    let mut words = [[0u32; LANES]; 8];
    for (lane, (state, blocks)) in messages.iter().enumerate().take(LANES) {
        starts[lane] = blocks.as_ptr();
        for (row, word) in words.iter_mut().zip(state.iter()) {
            row[lane] = *word;
        }
    }
    // SAFETY: a row is one vector.
    let mut state = words.map(|row| unsafe { _mm512_loadu_si512(row.as_ptr().cast()) });
    for block in 0..blocks {
        // SAFETY: every message has so many blocks.
        let message = unsafe { load(&starts, block) };
        rounds(&mut state, message);
    }
    for (row, vector) in words.iter_mut().zip(state) {
        // SAFETY: as for the load.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), vector) };
    }
    for (lane, (state, _)) in messages.iter_mut().enumerate().take(LANES) {
        for (word, row) in state.iter_mut().zip(&words) {
            *word = row[lane];
        }
    }
}

/// The words of one block of each message: vector `i` has word `i` of all.
///
/// # Safety
/// Each start is followed by more than `block` blocks.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn load(starts: &[*const [u8; BLOCK]; LANES], block: usize) -> [__m512i; 16] {
    // Words are big-endian.
    let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    let rows = starts.map(|start| {
        // SAFETY: the block is there; what is asked for ahead need not be.
        unsafe {
            let place = start.add(block);
            _mm_prefetch::<_MM_HINT_T0>(place.cast::<i8>().wrapping_add(AHEAD));
            _mm512_shuffle_epi8(_mm512_loadu_si512(place.cast()), swap)
        }
    });
    // Transposed by pairs of rows, then pairs of pairs, then quarters of vectors.
    let mut pairs = rows;
    for (out, row) in pairs.as_chunks_mut::<2>().0.iter_mut().zip(rows.as_chunks::<2>().0) {
        *out = [_mm512_unpacklo_epi32(row[0], row[1]), _mm512_unpackhi_epi32(row[0], row[1])];
    }
    let mut fours = pairs;
    for (out, pair) in fours.as_chunks_mut::<4>().0.iter_mut().zip(pairs.as_chunks::<4>().0) {
        *out = [
            _mm512_unpacklo_epi64(pair[0], pair[2]),
            _mm512_unpackhi_epi64(pair[0], pair[2]),
            _mm512_unpacklo_epi64(pair[1], pair[3]),
            _mm512_unpackhi_epi64(pair[1], pair[3]),
        ];
    }
    let mut words = fours;
    for column in 0..4 {
        let [a, b, c, d] = [fours[column], fours[4 + column], fours[8 + column], fours[12 + column]];
        let (ab, ab_high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (cd, cd_high) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        words[column] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
        words[4 + column] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        words[8 + column] = _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high);
        words[12 + column] = _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high);
    }
    words
}

/// The bits of three vectors, one by one: their exclusive or, what the first chooses of the others, and what most of them have.
const XOR: i32 = 0x96;
const CHOOSE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

/// The 64 rounds, of all lanes.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
#[expect(unused_assignments, reason = "rounds are one macro, of which the last 16 make no words")]
fn rounds(state: &mut [__m512i; 8], mut w: [__m512i; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $round:expr) => {
            let word = w[$round % 16];
            let sum = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<6>($e),
                _mm512_ror_epi32::<11>($e),
                _mm512_ror_epi32::<25>($e),
            );
            let choice = _mm512_ternarylogic_epi32::<CHOOSE>($e, $f, $g);
            let known = _mm512_add_epi32(word, _mm512_set1_epi32(K[$round].cast_signed()));
            let first = _mm512_add_epi32(_mm512_add_epi32($h, known), _mm512_add_epi32(sum, choice));
            let sum = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<2>($a),
                _mm512_ror_epi32::<13>($a),
                _mm512_ror_epi32::<22>($a),
            );
            let majority = _mm512_ternarylogic_epi32::<MAJORITY>($a, $b, $c);
            $d = _mm512_add_epi32($d, first);
            $h = _mm512_add_epi32(first, _mm512_add_epi32(sum, majority));
            if $round < 48 {
                let (near, far) = (w[($round + 1) % 16], w[($round + 14) % 16]);
                let near = _mm512_ternarylogic_epi32::<XOR>(
                    _mm512_ror_epi32::<7>(near),
                    _mm512_ror_epi32::<18>(near),
                    _mm512_srli_epi32::<3>(near),
                );
                let far = _mm512_ternarylogic_epi32::<XOR>(
                    _mm512_ror_epi32::<17>(far),
                    _mm512_ror_epi32::<19>(far),
                    _mm512_srli_epi32::<10>(far),
                );
                let both = _mm512_add_epi32(word, w[($round + 9) % 16]);
                w[$round % 16] = _mm512_add_epi32(both, _mm512_add_epi32(near, far));
            }
        };
    }
    // The names move instead of the words: after eight rounds each is where it was.
    macro_rules! rounds {
        ($($from:literal)*) => { $(
            round!(a b c d e f g h $from);
            round!(h a b c d e f g $from + 1);
            round!(g h a b c d e f $from + 2);
            round!(f g h a b c d e $from + 3);
            round!(e f g h a b c d $from + 4);
            round!(d e f g h a b c $from + 5);
            round!(c d e f g h a b $from + 6);
            round!(b c d e f g h a $from + 7);
        )* };
    }
    rounds!(0 8 16 24 32 40 48 56);
    for (word, after) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = _mm512_add_epi32(*word, after);
    }
}
