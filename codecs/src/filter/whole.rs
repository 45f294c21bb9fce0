use super::{Filter, Joining, Splitting, StreamLengths};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::Isa;

/// No filter: one stream, the words as they are.
pub struct Whole;

impl Filter for Whole {
    fn id(&self) -> u8 {
        super::WHOLE
    }
    fn name(&self) -> &'static str {
        "whole"
    }
    fn fits(&self, _word: Word) -> bool {
        true
    }
    fn most_exceptions(&self, _words: usize) -> Option<usize> {
        None
    }
    fn lengths(&self, word_bytes: usize, words: usize, _exceptions: usize) -> StreamLengths {
        StreamLengths::first_and(word_bytes * words, 0, 0)
    }
    fn split(&self, _isa: Isa, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool {
        let start = splitting.words * word_bytes;
        let Some(part) = splitting.streams[0].get_mut(start..start + piece.len()) else { return false };
        part.copy_from_slice(piece);
        splitting.words += piece.len() / word_bytes;
        true
    }
    fn join(
        &self,
        _isa: Isa,
        word_bytes: usize,
        joining: &mut Joining<'_>,
        piece: &mut [u8],
    ) -> Result<(), CodecError> {
        let start = joining.words * word_bytes;
        let part = joining.streams[0].get(start..start + piece.len());
        piece.copy_from_slice(part.ok_or(CodecError::Body("the stream is too short"))?);
        joining.words += piece.len() / word_bytes;
        Ok(())
    }
}
