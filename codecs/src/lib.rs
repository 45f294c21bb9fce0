//! Lossless coding of one block of tensor words, or of opaque bytes.
//!
//! A block goes through a chain that is data, recorded in its header ([`block`]):
//!
//! 1. a *predictor* says what the words should be: zero, or the parent's words at the same place, or these scaled, or going on
//!    as they went from the version before that. What stands in for the parent may be *derived* from other tensors ([`mod@derive`]);
//! 2. a *residual* is what is left of each word: itself, the XOR, or the difference in units in the last place;
//! 3. either the [`context`] coder stores the residuals, with what it knows from the predictions, maybe in another form ([`recode`]), or a *filter* takes
//!    them apart into streams of bytes: none, byte planes, float split, escape, sparse, gaps;
//! 4. and each stream has its own *entropy coder*: raw, constant, rANS, zstd.
//!
//! [`CODECS`] lists what there is; the round-trip, corruption and golden tests iterate it. [`Encoder`] ranks the chains that come
//! into question by a sample, encodes with the best, verifies by decoding; [`Decoder`] follows the header and never guesses.
#![deny(unsafe_code)]

pub mod block;
pub mod chain;
pub mod context;
mod decode;
pub mod derive;
mod encode;
pub mod entropy;
mod error;
pub mod filter;
pub mod kernel;
mod mixing;
pub mod predict;
pub mod recode;
pub mod residual;
mod select;
mod transform;

use shard_core::{BaseRef, DType};

pub use block::BlockHeader;
pub use chain::{Chain, Coding, MAX_STREAMS, Shape, Word};
pub use context::Rows;
pub use decode::Decoder;
pub use derive::Derived;
pub use encode::{Encoded, Encoder};
pub use error::CodecError;
pub use recode::{Deviation, Units};
pub use select::Candidate;

/// Every stage that a chain may name.
#[derive(Debug, Clone, Copy)]
pub struct Codecs {
    /// How bases are computed from other tensors.
    pub derivations: &'static [&'static dyn derive::Derivation],
    /// What words are predicted from.
    pub predictors: &'static [&'static dyn predict::Predictor],
    /// What is kept of a word and its prediction.
    pub residuals: &'static [&'static dyn residual::Residual],
    /// How words become streams of bytes.
    pub filters: &'static [&'static dyn filter::Filter],
    /// How words are put for the context coder.
    pub recodings: &'static [&'static dyn recode::Recoding],
    /// How a stream is stored.
    pub coders: &'static [&'static dyn entropy::EntropyCoder],
}

/// The registry. A stage's wire id never changes and is never used again.
pub const CODECS: Codecs = Codecs {
    derivations: &[
        &derive::Cast,
        &derive::LowRank,
        &derive::Quantise,
        &derive::Ggml,
        &derive::Linear,
        &derive::Step,
        &derive::Magnitude,
    ],
    predictors: &[&predict::Zero, &predict::Parent, &predict::Affine, &predict::Pair],
    residuals: &[&residual::Itself, &residual::Xor, &residual::Ulp, &residual::Step, &residual::Turn],
    filters: &[
        &filter::Whole,
        &filter::BytePlanes,
        &filter::FloatSplit,
        &filter::Escape,
        &filter::Sparse,
        &filter::Gaps,
    ],
    recodings: &[&recode::Layers, &recode::UnitCodes, &recode::Grid, &recode::Narrow],
    coders: &[&entropy::Raw, &entropy::Constant, &entropy::Rans, &entropy::Zstd],
};

/// How much time to spend on choosing and coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// The usually best chains and rANS only, rows not told apart; zstd (level 1) for opaque bytes.
    Fast,
    /// Every sensible chain is ranked by a sample; zstd (level 3) where a sample shows repeats.
    #[default]
    Default,
    /// Several chains and coders are tried in full, context mixing among them, which reads and writes tens of megabytes a
    /// second; zstd level 9, and 19 for opaque bytes.
    Max,
}

/// What to encode.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The bytes: little-endian words of `dtype`; a last, incomplete word is allowed.
    pub data: &'a [u8],
    /// The element type; `None` is opaque bytes.
    pub dtype: Option<DType>,
    /// How the tensor's rows lie in the block, where it has rows.
    pub rows: Option<Rows>,
    /// Bytes that may predict the block.
    pub base: Option<Base<'a>>,
}

/// Bytes that may predict a block.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// Where a reader finds them.
    pub reference: &'a BaseRef,
    /// How the base is computed from `bytes`; `None` where they are the base.
    pub derived: Option<Derived>,
    /// The bytes: the inputs of the derivation; or as many as the block has, byte `i` predicting byte `i`; or twice as many, of
    /// the version before and the one before that.
    pub bytes: &'a [u8],
}

impl<'a> Base<'a> {
    /// A base that is there as it is.
    #[must_use]
    pub fn new(reference: &'a BaseRef, bytes: &'a [u8]) -> Self {
        Self { reference, derived: None, bytes }
    }

    /// The reference in the header of a block of `len` bytes that leans on so many versions.
    pub(crate) fn reference(&self, versions: usize, len: usize) -> BaseRef {
        // Of two versions that were offered one may do; a derivation needs all of its inputs.
        if self.derived.is_some() { self.reference.clone() } else { self.reference.first(versions * len) }
    }
}
