//! Inner loops, in versions for several instruction sets.
//!
//! Safe Rust in `scalar.rs` and `words.rs` defines what each kernel computes. Two kinds of versions stand beside it: the
//! same code compiled for wider vectors (word transforms), and hand-written ones (rANS). All give the same bytes, which
//! the tests check for every instruction set the machine has. This folder is the only one with `unsafe`: calls into
//! code compiled for features that [`Isa`] proves present, and the gathers and vector loads of the hand-written versions.
//!
//! An AArch64 port adds `neon.rs` here, a variant of `Level`, and an arm in `dispatch`; until then such machines run the
//! scalar code, which compilers already vectorise for NEON (a baseline feature there).
#![allow(unsafe_code, reason = "SIMD kernels; each has a safe twin as its oracle")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
mod sha256;
mod words;

pub use sha256::sha256_pair;

use crate::chain::Word;
pub(crate) use scalar::{
    COARSE_BITS, DecodeTables, EncodeEntry, FINE_BITS, LANES, STATE_LOW, rans_decode, rans_encode,
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
                && is_x86_feature_detected!("avx512dq");
            [avx2.then_some(Self(Level::Avx2)), avx512.then_some(Self(Level::Avx512))]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let vector = [];
        scalar.into_iter().chain(vector).flatten()
    }

    /// The fastest that the machine has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::SCALAR)
    }
}

/// Calls a function of the same name in the module for the instruction set.
macro_rules! dispatch {
    ($isa:expr, $scalar:ident, $name:ident $(::<$generic:ident>)? ($($argument:expr),*)) => {
        match $isa.0 {
            Level::Scalar => $scalar::$name $(::<$generic>)? ($($argument),*),
            // SAFETY: an `Isa` of that level exists only where its features were detected.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::$name $(::<$generic>)? ($($argument),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::$name $(::<$generic>)? ($($argument),*) },
        }
    };
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

/// Decodes symbols of [`LANES`] interleaved rANS states (see [`crate::entropy::Rans`]). Returns the bytes of `words` used;
/// `None` where they run out.
pub(crate) fn rans_decode_wide<const FINE: bool>(
    isa: Isa,
    tables: &DecodeTables,
    states: &mut [u32; LANES],
    words: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    dispatch!(isa, scalar, rans_decode_wide::<FINE>(tables, states, words, out))
}

#[cfg(test)]
mod tests;
