use super::{Filter, Joining, Splitting, StreamLengths};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::{self, Isa};

/// For words that are mostly zero: a bit a word that says whether it is not (the first word in bit 0 of the first byte),
/// then byte planes of the words that are not, in order.
pub struct Sparse;

/// The positions of the bits that are set.
fn ones(mask: &[u8]) -> impl Iterator<Item = usize> {
    mask.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(|(index, bits)| {
        let mut bits = u32::from(*bits);
        std::iter::from_fn(move || {
            let position = (bits != 0).then(|| 8 * index + bits.trailing_zeros() as usize);
            bits &= bits.wrapping_sub(1);
            position
        })
    })
}

impl Filter for Sparse {
    fn id(&self) -> u8 {
        super::SPARSE
    }
    fn name(&self) -> &'static str {
        "sparse"
    }
    fn fits(&self, _word: Word) -> bool {
        true
    }
    fn most_exceptions(&self, words: usize) -> Option<usize> {
        Some(words / 2)
    }
    fn lengths(&self, word_bytes: usize, words: usize, exceptions: usize) -> StreamLengths {
        StreamLengths::first_and(words.div_ceil(8), exceptions, word_bytes)
    }
    fn split(&self, isa: Isa, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool {
        let count = piece.len() / word_bytes;
        let Some((mask, planes)) = splitting.streams.split_first_mut() else { return false };
        let first = splitting.words / 8;
        let Some(mask) = mask.get_mut(first..first + count.div_ceil(8)) else { return false };
        kernel::nonzero_mask(isa, word_bytes, piece, mask);
        let mut at = splitting.exceptions;
        for index in ones(mask) {
            let Some(word) = piece.get(index * word_bytes..(index + 1) * word_bytes) else { return false };
            for (plane, byte) in planes.iter_mut().zip(word) {
                let Some(place) = plane.get_mut(at) else { return false };
                *place = *byte;
            }
            at += 1;
        }
        splitting.exceptions = at;
        splitting.words += count;
        true
    }
    fn join(
        &self,
        _isa: Isa,
        word_bytes: usize,
        joining: &mut Joining<'_>,
        piece: &mut [u8],
    ) -> Result<(), CodecError> {
        let count = piece.len() / word_bytes;
        let first = joining.words / 8;
        let [mask, planes @ ..] = joining.streams;
        let mask = mask.get(first..first + count.div_ceil(8)).ok_or(CodecError::Body("the mask is too short"))?;
        piece.fill(0);
        let mut at = joining.exceptions;
        for index in ones(mask) {
            let word = piece.get_mut(index * word_bytes..(index + 1) * word_bytes);
            for (byte, plane) in
                word.ok_or(CodecError::Body("the mask goes beyond the last word"))?.iter_mut().zip(planes)
            {
                *byte = *plane.get(at).ok_or(CodecError::Body("more bits in the mask than words"))?;
            }
            at += 1;
        }
        joining.exceptions = at;
        joining.words += count;
        Ok(())
    }
}
