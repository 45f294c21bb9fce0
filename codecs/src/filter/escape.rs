use super::{Filter, Joining, Splitting, StreamLengths};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::buckets::escapes;
use crate::kernel::{self, Isa};

/// For 16-bit words that are mostly small: a byte a word, 255 standing for every word from 255 on; then the low bytes and
/// the high bytes of those words less 255, in order. One symbol to decode a word where byte planes take two, and it keeps
/// what the planes lose by being coded apart.
pub struct Escape;

const ESCAPE: u16 = 255;

impl Filter for Escape {
    fn id(&self) -> u8 {
        super::ESCAPE
    }
    fn name(&self) -> &'static str {
        "escape"
    }
    fn fits(&self, word: Word) -> bool {
        word.bytes == 2
    }
    fn most_exceptions(&self, words: usize) -> Option<usize> {
        Some(words / 8)
    }
    fn lengths(&self, _word_bytes: usize, words: usize, exceptions: usize) -> StreamLengths {
        StreamLengths::first_and(words, exceptions, 2)
    }
    fn split(&self, isa: Isa, _word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool {
        let words = piece.as_chunks::<2>().0;
        let [tokens, low, high, ..] = &mut splitting.streams;
        let Some(tokens) = tokens.get_mut(splitting.words..splitting.words + words.len()) else { return false };
        kernel::escape_tokens(isa, piece, tokens);
        let mut at = splitting.exceptions;
        for index in escapes(tokens) {
            let (Some(low), Some(high)) = (low.get_mut(at), high.get_mut(at)) else { return false };
            [*low, *high] = (u16::from_le_bytes(words[index]) - ESCAPE).to_le_bytes();
            at += 1;
        }
        splitting.exceptions = at;
        splitting.words += words.len();
        true
    }
    fn join(
        &self,
        isa: Isa,
        _word_bytes: usize,
        joining: &mut Joining<'_>,
        piece: &mut [u8],
    ) -> Result<(), CodecError> {
        let [tokens, low, high, ..] = joining.streams;
        let count = piece.len() / 2;
        let tokens = tokens.get(joining.words..joining.words + count);
        let tokens = tokens.ok_or(CodecError::Body("the stream of tokens is too short"))?;
        kernel::widen_tokens(isa, tokens, piece);
        let words = piece.as_chunks_mut::<2>().0;
        let mut at = joining.exceptions;
        for index in escapes(tokens) {
            let (Some(low), Some(high)) = (low.get(at), high.get(at)) else {
                return Err(CodecError::Body("more escapes than escaped words"));
            };
            words[index] = u16::from_le_bytes([*low, *high]).wrapping_add(ESCAPE).to_le_bytes();
            at += 1;
        }
        joining.exceptions = at;
        joining.words += count;
        Ok(())
    }
}
