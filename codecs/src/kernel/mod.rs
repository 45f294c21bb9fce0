//! Inner loops, in versions for several instruction sets.
//!
//! Safe Rust in `scalar.rs`, `words.rs`, `linear.rs`, `change.rs` and `buckets.rs` defines what each kernel computes. Two kinds of versions
//! stand beside it: the same code compiled for wider vectors (word transforms, scaled floats, sums), and hand-written ones (rANS,
//! buckets, low bits). All give the same bytes, which the tests check for every instruction set the machine has. This
//! folder is the only one with `unsafe`: calls into code compiled for features that [`Isa`] proves present, and the gathers,
//! vector loads and stores of the hand-written versions.
//!
//! An AArch64 port adds `neon.rs` here, a variant of `Level` with its detection in [`Isa::available`], and arms where a level is
//! matched: `dispatch`, `by_buckets`, `compiled_for`, `rans_decode_wide` and `rans_encode_wide`. Until then such machines run
//! the scalar code, which compilers already vectorise for NEON (a baseline feature there).
#![allow(unsafe_code, reason = "SIMD kernels; each has a safe twin as its oracle")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bits;
pub(crate) mod buckets;
mod change;
pub(crate) mod linear;
mod scalar;
mod sha256;
mod words;

pub use change::{ChangeSums, change, change_of_values};
pub use sha256::{LANES as SHA256_LANES, sha256_all, sha256_along, sha256_pair};

use shard_core::FloatFormat;

use crate::chain::Word;
use buckets::{BINS, Cursors};
pub(crate) use scalar::{
    COARSE_BITS, DecodeTables, EncodeTables, FINE_BITS, LANES, MANY_LANES, STATE_LOW, rans_decode, rans_encode,
};

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Plain Rust, on every machine.
    pub const SCALAR: Self = Self(Level::Scalar);

    /// Every instruction set that kernels exist for and the machine has, slowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        let scalar = [Some(Self::SCALAR)];
        #[cfg(target_arch = "x86_64")]
        let vector = {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vbmi2")
                && is_x86_feature_detected!("bmi2");
            [avx2.then_some(Self(Level::Avx2)), avx512.then_some(Self(Level::Avx512))]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let vector = [];
        scalar.into_iter().chain(vector).flatten()
    }

    /// Whether it is AVX-512, with what of it kernels use.
    #[cfg(target_arch = "x86_64")]
    fn has_avx512(self) -> bool {
        self.0 == Level::Avx512
    }

    /// The fastest that the machine has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::SCALAR)
    }
}

/// Calls a function of the same name in the module for the instruction set.
macro_rules! dispatch {
    ($isa:expr, $scalar:ident, $name:ident($($argument:expr),*)) => {
        match $isa.0 {
            Level::Scalar => $scalar::$name($($argument),*),
            // SAFETY: an `Isa` of that level exists only where its features were detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::$name($($argument),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::$name($($argument),*) },
        }
    };
}

/// Calls a function of the same name for AVX-512, or the safe one: without its expanding moves there is nothing to gain.
macro_rules! by_buckets {
    ($isa:expr, $name:ident($($argument:expr),*)) => { by_buckets!($isa, avx512, $name($($argument),*)) };
    ($isa:expr, $module:ident, $name:ident($($argument:expr),*)) => {
        match $isa.0 {
            // SAFETY: an `Isa` of that level exists only where its features were detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { $module::$name($($argument),*) },
            _ => buckets::$name($($argument),*),
        }
    };
}

/// Safe code that is worth compiling again for vector instructions.
pub(crate) trait Work {
    /// Does it. To be `inline(always)`, as all that it calls: only what is inlined is compiled again.
    fn run(self);
}

/// Does work with code compiled for the instruction set.
pub(crate) fn compiled_for(isa: Isa, work: impl Work) {
    match isa.0 {
        Level::Scalar => work.run(),
        // SAFETY: an `Isa` of that level exists only where its features were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => unsafe { avx2::compiled_for(work) },
    }
}

/// `out[i] = a[i] ^ b[i]`, for as many bytes as all have.
pub(crate) fn xor(isa: Isa, a: &[u8], b: &[u8], out: &mut [u8]) {
    dispatch!(isa, words, xor(a, b, out));
}

/// The ulp residual of each word (see [`crate::residual::Ulp`]).
pub(crate) fn ulp_forward(isa: Isa, word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
    dispatch!(isa, words, ulp_forward(word, words, prediction, residuals));
}

/// The inverse of [`ulp_forward`].
pub(crate) fn ulp_inverse(isa: Isa, word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
    dispatch!(isa, words, ulp_inverse(word, residuals, prediction, words));
}

/// Byte `k` of each word, rotated left by `rotate` (0 or 1), to `planes[k]`.
pub(crate) fn split_planes(isa: Isa, rotate: bool, words: &[u8], planes: &mut [&mut [u8]]) {
    dispatch!(isa, words, split_planes(rotate, words, planes));
}

/// The inverse of [`split_planes`].
pub(crate) fn join_planes(isa: Isa, rotate: bool, planes: &[&[u8]], words: &mut [u8]) {
    dispatch!(isa, words, join_planes(rotate, planes, words));
}

/// The low byte of each 16-bit word below 255, 255 for others (see [`crate::filter::Escape`]).
pub(crate) fn escape_tokens(isa: Isa, words: &[u8], tokens: &mut [u8]) {
    dispatch!(isa, words, escape_tokens(words, tokens));
}

/// Each byte as a 16-bit word.
pub(crate) fn widen_tokens(isa: Isa, tokens: &[u8], words: &mut [u8]) {
    dispatch!(isa, words, widen_tokens(tokens, words));
}

/// A bit a word, the first word in bit 0 of the first byte: whether the word is not zero.
pub(crate) fn nonzero_mask(isa: Isa, word_bytes: usize, words: &[u8], mask: &mut [u8]) {
    dispatch!(isa, words, nonzero_mask(word_bytes, words, mask));
}

/// How often each byte value occurs.
pub(crate) fn histogram(data: &[u8]) -> [u32; 256] {
    scalar::histogram(data)
}

/// Decodes symbols of `N` (32 or 64) interleaved rANS states (see [`crate::entropy::Rans`]). Returns the bytes of `words` used;
/// `None` where they run out.
pub(crate) fn rans_decode_wide<const FINE: bool, const N: usize>(
    isa: Isa,
    tables: &DecodeTables,
    states: &mut [u32; N],
    words: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    match isa.0 {
        Level::Scalar => rans_decode::<FINE, N>(tables, states, words, out),
        // SAFETY: an `Isa` of that level exists only where its features were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::rans_decode_wide::<FINE, N>(tables, states, words, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::rans_decode_wide::<FINE, N>(tables, states, words, out) },
    }
}

/// Encodes symbols backwards with `N` (32 or 64) interleaved states, as [`rans_encode`] does.
pub(crate) fn rans_encode_wide<const N: usize>(
    isa: Isa,
    tables: &EncodeTables,
    states: &mut [u32; N],
    data: &[u8],
    words: &mut [u8],
    end: usize,
) -> Option<usize> {
    match isa.0 {
        // SAFETY: an `Isa` of that level exists only where its features were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::rans_encode_wide::<N>(tables, states, data, words, end) },
        _ => rans_encode::<N>(tables, states, data, words, end),
    }
}

/// The step residual of each word (see [`crate::residual::Step`]).
pub(crate) fn step_forward(isa: Isa, word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
    dispatch!(isa, words, step_forward(word, words, prediction, residuals));
}

/// The inverse of [`step_forward`].
pub(crate) fn step_inverse(isa: Isa, word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
    dispatch!(isa, words, step_inverse(word, residuals, prediction, words));
}

/// Each word (of signed floats: rotated left by one bit) less `origin`.
pub(crate) fn offset_forward(isa: Isa, word: Word, origin: u64, words: &[u8], residuals: &mut [u8]) {
    dispatch!(isa, words, offset_forward(word, origin, words, residuals));
}

/// The inverse of [`offset_forward`].
pub(crate) fn offset_inverse(isa: Isa, word: Word, origin: u64, residuals: &[u8], words: &mut [u8]) {
    dispatch!(isa, words, offset_inverse(word, origin, residuals, words));
}

/// The turn residual of each word (see [`crate::residual::Turn`]).
pub(crate) fn turn_forward(isa: Isa, word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
    dispatch!(isa, words, turn_forward(word, words, prediction, residuals));
}

/// The inverse of [`turn_forward`].
pub(crate) fn turn_inverse(isa: Isa, word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
    dispatch!(isa, words, turn_inverse(word, residuals, prediction, words));
}

/// The bin of each word, 0 to 63, by a key of it.
pub(crate) fn bins(isa: Isa, word: Word, key: buckets::Key, words: &[u8], bins: &mut [u8]) {
    dispatch!(isa, words, bins(word, key, words, bins));
}

/// Residuals (signed) folded to 0, 1, 2 … for 0, -1, 1 …; 255 for all from 255 on.
pub(crate) fn fold(isa: Isa, word_bytes: usize, residuals: &[u8], tokens: &mut [u8]) {
    dispatch!(isa, words, fold(word_bytes, residuals, tokens));
}

/// [`fold`] of residuals shifted right by `shifts[i]` bits.
pub(crate) fn fold_shifted(isa: Isa, word_bytes: usize, residuals: &[u8], shifts: &[u8], tokens: &mut [u8]) {
    dispatch!(isa, words, fold_shifted(word_bytes, residuals, shifts, tokens));
}

/// The residuals that tokens below 255 stand for.
pub(crate) fn unfold(isa: Isa, word_bytes: usize, tokens: &[u8], residuals: &mut [u8]) {
    dispatch!(isa, words, unfold(word_bytes, tokens, residuals));
}

/// How far the words of a run moved: the weighted sum, and the sum of weights, of `|residual|` in units of the value that
/// bin 63 has as its unit in the last place. Words whose unit is far above `typical` weigh little.
pub(crate) fn movement(isa: Isa, word_bytes: usize, typical: f32, bins: &[u8], residuals: &[u8]) -> (f32, f32) {
    dispatch!(isa, words, movement(word_bytes, typical, bins, residuals))
}

/// Each float times `factor`, rounded to its type; the word itself where that or the product is not finite.
pub(crate) fn scale(isa: Isa, float: FloatFormat, factor: f64, words: &[u8], out: &mut [u8]) {
    dispatch!(isa, linear, scale(float, factor, words, out));
}

/// The sum of two bases' floats, each times its factor, rounded to their type; the first base's word where one of them or the
/// sum is not finite.
pub(crate) fn combine(isa: Isa, float: FloatFormat, factors: [f64; 2], bases: [&[u8]; 2], out: &mut [u8]) {
    dispatch!(isa, linear, combine(float, factors, bases, out));
}

/// Each word plus a distance; the word itself where that or the sum is not finite.
pub(crate) fn shift(isa: Isa, float: FloatFormat, distances: &[f64], words: &[u8], out: &mut [u8]) {
    dispatch!(isa, linear, shift(float, distances, words, out));
}

/// The values of floats; 0 for those that are not finite.
pub(crate) fn load(isa: Isa, float: FloatFormat, words: &[u8], values: &mut [f64]) {
    dispatch!(isa, linear, load(float, words, values));
}

/// Words as signed integers.
pub(crate) fn widen(word_bytes: usize, words: &[u8], wide: &mut [i64]) {
    words::widen(word_bytes, words, wide);
}

/// `out[i] = map[bins[i]]`; bins are below 64.
pub(crate) fn map_bins(isa: Isa, map: &[u8; BINS], bins: &[u8], out: &mut [u8]) {
    by_buckets!(isa, map_bins(map, bins, out));
}

/// Takes the next token of each word's bucket off the pool, and says which are escapes, a mask for 64 tokens. `None` where the
/// pool ends.
pub(crate) fn gather_tokens(
    isa: Isa,
    buckets: usize,
    ids: &[u8],
    pool: &[u8],
    cursors: &mut Cursors,
    tokens: &mut [u8],
    escapes: &mut [u64],
) -> Option<()> {
    by_buckets!(isa, gather_tokens(buckets, ids, pool, cursors, tokens, escapes))
}

/// Puts each word's token at the end of its bucket in the pool. `None` where that has no room. Up to [`buckets::SLACK`] bytes
/// after each bucket may be overwritten, and those at cursors of buckets that no id names.
pub(crate) fn scatter_tokens(
    isa: Isa,
    buckets: usize,
    ids: &[u8],
    tokens: &[u8],
    cursors: &mut Cursors,
    pool: &mut [u8],
) -> Option<()> {
    by_buckets!(isa, scatter_tokens(buckets, ids, tokens, cursors, pool))
}

/// Puts the next `widths[i]` bits (of words of up to 4 bytes at most 25) below residual `i`, which moves up by as many.
pub(crate) fn add_low_bits(
    isa: Isa,
    word_bytes: usize,
    widths: &[u8],
    bits: &mut buckets::Bits<'_>,
    residuals: &mut [u8],
    chosen: &mut buckets::Chosen,
) {
    by_buckets!(isa, avx512_bits, add_low_bits(word_bytes, widths, bits, residuals, chosen));
}

/// The inverse of [`unpack`]; tokens from the highest value on are that value.
pub(crate) fn pack(isa: Isa, bits: u32, tokens: &[u8], symbols: &mut [u8]) {
    dispatch!(isa, buckets, pack(bits, tokens, symbols));
}

/// Which tokens are not below their limits: a mask for 64 tokens, the first in bit 0.
pub(crate) fn reaches(isa: Isa, tokens: &[u8], limits: &[u8], masks: &mut [u64]) {
    by_buckets!(isa, reaches(tokens, limits, masks));
}

/// Puts the lowest `widths[i]` bits of each residual (of words of up to 4 bytes at most 25).
pub(crate) fn put_low_bits(
    isa: Isa,
    word_bytes: usize,
    widths: &[u8],
    residuals: &[u8],
    bits: &mut buckets::BitSink<'_>,
    chosen: &mut buckets::Chosen,
) {
    by_buckets!(isa, avx512_bits, put_low_bits(word_bytes, widths, residuals, bits, chosen));
}

/// Symbols of several tokens of `bits` bits taken apart; the highest value becomes [`buckets::ESCAPE`].
pub(crate) fn unpack(isa: Isa, bits: u32, symbols: &[u8], tokens: &mut [u8]) {
    dispatch!(isa, buckets, unpack(bits, symbols, tokens));
}

#[cfg(test)]
mod context_tests;
#[cfg(test)]
mod tests;
