use super::{Filter, Joining, Splitting, StreamLengths, join_planes, split_planes};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::Isa;

/// Byte planes of the word rotated left by one bit, so that the sign is the lowest bit of the lowest plane and the
/// exponent is at the top: it is the whole top plane of a bfloat16 or binary32.
pub struct FloatSplit;

impl Filter for FloatSplit {
    fn id(&self) -> u8 {
        super::FLOAT_SPLIT
    }
    fn name(&self) -> &'static str {
        "split"
    }
    fn fits(&self, word: Word) -> bool {
        word.bytes > 1 && word.sign_magnitude()
    }
    fn most_exceptions(&self, _words: usize) -> Option<usize> {
        None
    }
    fn lengths(&self, word_bytes: usize, words: usize, _exceptions: usize) -> StreamLengths {
        StreamLengths::first_and(words, words, word_bytes - 1)
    }
    fn split(&self, isa: Isa, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool {
        split_planes(isa, true, word_bytes, piece, splitting)
    }
    fn join(&self, isa: Isa, word_bytes: usize, joining: &mut Joining<'_>, piece: &mut [u8]) -> Result<(), CodecError> {
        join_planes(isa, true, word_bytes, joining, piece)
    }
}
