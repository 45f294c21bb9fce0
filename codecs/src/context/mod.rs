//! The context coder: residuals coded in buckets that the prediction and the scale of their surroundings decide.
//!
//! Training moves a weight by about the same amount whatever its size, so the number of units in the last place that it
//! moves depends on its exponent, which a reader knows from the prediction; and some rows move more than others. Each word
//! therefore has a *context*: the exponent of its prediction (`kernel::bins`) and the class of its run (a row of the tensor,
//! say). A map joins contexts that behave alike into at most 32 *buckets*, and each bucket has its own probabilities. All
//! contexts are known before decoding starts, so each bucket is decoded at full speed on its own (as in PivCo,
//! arXiv:2606.05765), and the tokens are put back into the order of words with vector instructions.
//!
//! A residual loses its lowest bits first, as many as its context says (they are noise, and stored as they are); what is left
//! is folded to a token: 0, -1, 1, -2 … are 0, 1, 2, 3 …, and 255 stands for everything from 255 on. Tokens of a bucket that
//! are nearly all small share bytes, 2, 4 or 8 of them in one symbol, which is faster and sees what neighbours have in
//! common; the highest token that fits then stands for all from there on. Such escapes follow in a list of their own.
//!
//! Stored form:
//!
//! 1. parameters (`params`);
//! 2. the heads of the segments (`segment`): the classes of runs where there are some, each bucket, the escapes. After the
//!    head of each bucket but the last, and that of the escapes, the number of its tokens (varint);
//! 3. rANS states and words as in [`crate::entropy::Rans`], one set of states for all segments: each segment starts with
//!    the first state. A constant segment takes none;
//! 4. for each escape that is 255 itself, in the order of words: the folded residual, a word of the block's width;
//! 5. the lowest bits, in the order of words, the first in the lowest bits of the first byte; zeros up to a whole byte.

mod cluster;
mod decode;
mod encode;
mod fit;
mod low_bits;
mod packing;
mod params;
mod segment;
mod subject;

use shard_core::DType;

use crate::kernel::buckets::{Chosen, MAX_BUCKETS, SLACK};
use crate::kernel::{self, DecodeTables, EncodeTables, MANY_LANES};
pub(crate) use decode::{Words, decode};
pub(crate) use encode::{encode, estimate};
pub(crate) use fit::rows_differ;
pub use subject::Input;
pub(crate) use subject::first_key_of;

/// Words that are worked on at a time: a piece of each buffer that stays in the first-level cache.
pub(crate) const TILE: usize = 2048;

/// A regular division of a block's words, such as the rows of its tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Words of a row.
    pub len: u32,
    /// Words of the first row that lie before the block; below `len`.
    pub phase: u32,
}

impl Rows {
    /// The rows (all dimensions but the first) of a tensor, for the block at `offset` bytes of it; `None` where it has none.
    #[must_use]
    pub fn of(dtype: DType, shape: &[u64], offset: u64) -> Option<Self> {
        let dimensions = shape.split_first().map(|(_, others)| others).filter(|others| !others.is_empty())?;
        let elements = dimensions.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
        let word = dtype.word_bytes() as u64;
        let len = u32::try_from(dtype.byte_len(elements)? / word).ok().filter(|len| *len > 0)?;
        Some(Self { len, phase: (offset / word % u64::from(len)) as u32 })
    }

    /// The number of rows that a block of `words` words touches.
    pub(crate) fn count(self, words: usize) -> usize {
        (words + self.phase as usize).div_ceil(self.len as usize)
    }

    /// The parts of `range` (of words) that lie in one row: the row, and the part.
    pub(crate) fn spans(self, range: std::ops::Range<usize>) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let (len, phase) = (self.len as usize, self.phase as usize);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let row = (at + phase) / len;
            let end = ((row + 1) * len - phase).min(range.end);
            let span = at..end;
            at = end;
            (!span.is_empty()).then_some((row, span))
        })
    }
}

/// Buffers that are used again for every block.
pub(crate) struct Buffers {
    tables: Box<DecodeTables>,
    encode_tables: Box<EncodeTables>,
    heads: Vec<decode::Head>,
    classes: Vec<u8>,
    ids: Vec<u8>,
    pool: Vec<u8>,
    symbols: Vec<u8>,
    escapes: Vec<u8>,
    chosen: Box<Chosen>,
    // Only an encoder has these.
    tokens: Vec<u8>,
    words: Vec<u8>,
    low_bits: Vec<u8>,
    far: Vec<u8>,
    fit: fit::Sample,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            tables: Box::new(DecodeTables::new()),
            encode_tables: Box::new(EncodeTables::new()),
            heads: Vec::new(),
            classes: Vec::new(),
            ids: Vec::new(),
            pool: Vec::new(),
            symbols: Vec::new(),
            escapes: Vec::new(),
            chosen: Box::new(Chosen::new()),
            tokens: Vec::new(),
            words: Vec::new(),
            low_bits: Vec::new(),
            far: Vec::new(),
            fit: fit::Sample::default(),
        }
    }
}

/// Makes a buffer at least so long; what it holds is whatever was there before.
fn reserve(buffer: &mut Vec<u8>, len: usize) {
    if buffer.len() < len {
        // Made anew rather than grown, which would copy; and of pages that take no memory before they are touched.
        *buffer = Vec::new();
        *buffer = vec![0; len];
    }
}

/// The length of a reader's pool of tokens for so many words.
fn pool_len(words: usize) -> usize {
    words + TILE + (MAX_BUCKETS + 1) * SLACK
}

/// The number of rANS states for so many symbols: states cost bytes, so few symbols have fewer.
fn lanes(symbols: usize) -> usize {
    match symbols {
        0..512 => 1,
        512..8192 => 4,
        8192..0x1_8000 => kernel::LANES,
        _ => MANY_LANES,
    }
}
