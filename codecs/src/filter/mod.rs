//! Filters: how words become streams of bytes that are easier to code than the words.

mod byte_plane;
mod escape;
mod float_split;
mod gaps;
mod sparse;
mod whole;

pub use byte_plane::BytePlanes;
pub use escape::Escape;
pub use float_split::FloatSplit;
pub use gaps::Gaps;
pub(crate) use gaps::patch;
pub use sparse::Sparse;
pub use whole::Whole;

use crate::CodecError;
use crate::chain::{MAX_STREAMS, Word};
use crate::kernel::Isa;

/// The lengths in bytes of the streams that a filter makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLengths {
    lengths: [usize; MAX_STREAMS],
    count: usize,
}

impl StreamLengths {
    /// No streams.
    pub(crate) const NONE: Self = Self { lengths: [0; MAX_STREAMS], count: 0 };

    /// A first stream, then `count` streams of one length.
    fn first_and(first: usize, others: usize, count: usize) -> Self {
        let mut lengths = [0; MAX_STREAMS];
        let count = (1 + count).min(MAX_STREAMS);
        lengths[..count].fill(others);
        lengths[0] = first;
        Self { lengths, count }
    }

    /// The lengths, a stream each.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.lengths[..self.count]
    }

    /// All bytes of all streams.
    #[must_use]
    pub fn total(&self) -> usize {
        self.as_slice().iter().sum()
    }
}

/// Streams being made of words, a piece of the block at a time.
#[derive(Debug)]
pub struct Splitting<'a> {
    /// The streams, as long as [`Filter::lengths`] says for the most exceptions allowed.
    pub streams: [&'a mut [u8]; MAX_STREAMS],
    /// Words done.
    pub words: usize,
    /// Exceptional words met.
    pub exceptions: usize,
    /// The word after the last exceptional one, which some filters count from.
    pub next: usize,
}

/// Words being made of streams, a piece of the block at a time.
#[derive(Debug)]
pub struct Joining<'a> {
    /// The streams, as long as [`Filter::lengths`] says.
    pub streams: [&'a [u8]; MAX_STREAMS],
    /// Words done.
    pub words: usize,
    /// Exceptional words met.
    pub exceptions: usize,
    /// The word after the last exceptional one, which some filters count from.
    pub next: usize,
}

/// A filter: a bijection between words and streams of bytes.
///
/// Pieces are at most 8 KiB, whole numbers of words and, but for a block's last, of 8 words.
pub trait Filter: Sync {
    /// The stable number in block headers.
    fn id(&self) -> u8;
    /// The name in reports.
    fn name(&self) -> &'static str;
    /// Whether the filter is for words of that kind.
    fn fits(&self, word: Word) -> bool;
    /// Most exceptional words (words coded in streams of their own) in a block of `words` words. `None` for filters that
    /// know none: the header has their number for the others.
    fn most_exceptions(&self, words: usize) -> Option<usize>;
    /// The lengths of the streams of `words` words of `word_bytes` bytes.
    fn lengths(&self, word_bytes: usize, words: usize, exceptions: usize) -> StreamLengths;
    /// Appends a piece to the streams. Gives up, and returns false, where there are too many exceptions.
    fn split(&self, isa: Isa, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool;
    /// Takes the next piece off the streams.
    ///
    /// # Errors
    /// [`CodecError::Body`] where the streams contradict each other.
    fn join(&self, isa: Isa, word_bytes: usize, joining: &mut Joining<'_>, piece: &mut [u8]) -> Result<(), CodecError>;
}

pub(crate) const WHOLE: u8 = 0;
pub(crate) const BYTE_PLANES: u8 = 1;
pub(crate) const FLOAT_SPLIT: u8 = 2;
pub(crate) const ESCAPE: u8 = 3;
pub(crate) const SPARSE: u8 = 4;
pub(crate) const GAPS: u8 = 11;

crate::chain::registered!(Filter, "filter", filters);

/// Splits a piece into byte planes of the words, rotated or not.
fn split_planes(isa: Isa, rotate: bool, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool {
    let count = piece.len() / word_bytes;
    let range = splitting.words..splitting.words + count;
    let mut planes: [&mut [u8]; MAX_STREAMS] = Default::default();
    for (plane, stream) in planes.iter_mut().zip(&mut splitting.streams).take(word_bytes) {
        let Some(part) = stream.get_mut(range.clone()) else { return false };
        *plane = part;
    }
    crate::kernel::split_planes(isa, rotate, piece, &mut planes[..word_bytes]);
    splitting.words = range.end;
    true
}

/// The inverse of [`split_planes`].
fn join_planes(
    isa: Isa,
    rotate: bool,
    word_bytes: usize,
    joining: &mut Joining<'_>,
    piece: &mut [u8],
) -> Result<(), CodecError> {
    let count = piece.len() / word_bytes;
    let range = joining.words..joining.words + count;
    let mut planes: [&[u8]; MAX_STREAMS] = Default::default();
    for (plane, stream) in planes.iter_mut().zip(joining.streams).take(word_bytes) {
        *plane = stream.get(range.clone()).ok_or(CodecError::Body("a byte plane is too short"))?;
    }
    crate::kernel::join_planes(isa, rotate, &planes[..word_bytes], piece);
    joining.words = range.end;
    Ok(())
}
