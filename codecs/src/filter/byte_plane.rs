use super::{Filter, Joining, Splitting, StreamLengths, join_planes, split_planes};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::Isa;

/// A stream a byte of the little-endian word, the least significant first.
pub struct BytePlanes;

impl Filter for BytePlanes {
    fn id(&self) -> u8 {
        super::BYTE_PLANES
    }
    fn name(&self) -> &'static str {
        "planes"
    }
    fn fits(&self, word: Word) -> bool {
        word.bytes > 1
    }
    fn most_exceptions(&self, _words: usize) -> Option<usize> {
        None
    }
    fn lengths(&self, word_bytes: usize, words: usize, _exceptions: usize) -> StreamLengths {
        StreamLengths::first_and(words, words, word_bytes - 1)
    }
    fn split(&self, isa: Isa, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool {
        split_planes(isa, false, word_bytes, piece, splitting)
    }
    fn join(&self, isa: Isa, word_bytes: usize, joining: &mut Joining<'_>, piece: &mut [u8]) -> Result<(), CodecError> {
        join_planes(isa, false, word_bytes, joining, piece)
    }
}
