use super::{Filter, Joining, Splitting, StreamLengths};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::{self, Isa};
use crate::transform::PIECE;

/// For words that are mostly zero: a bit a word that says whether it is not (the first word in bit 0 of the first byte),
/// then byte planes of the words that are not, in order.
pub struct Sparse;

/// Positions in a piece.
type Positions = [u16; PIECE];

/// Lists the positions of the bits that are set, of at most [`PIECE`] bits.
fn ones<'a>(mask: &[u8], positions: &'a mut Positions) -> &'a [u16] {
    let mut count = 0;
    for (index, bits) in mask.iter().enumerate() {
        let mut bits = u32::from(*bits);
        while bits != 0 {
            if let Some(place) = positions.get_mut(count) {
                *place = (8 * index) as u16 + bits.trailing_zeros() as u16;
                count += 1;
            }
            bits &= bits - 1;
        }
    }
    &positions[..count]
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
        let mut positions = [0; PIECE];
        let positions = ones(mask, &mut positions);
        let range = splitting.exceptions..splitting.exceptions + positions.len();
        for (index, plane) in planes.iter_mut().enumerate().take(word_bytes) {
            let Some(plane) = plane.get_mut(range.clone()) else { return false };
            for (place, position) in plane.iter_mut().zip(positions) {
                *place = piece[usize::from(*position) * word_bytes + index];
            }
        }
        splitting.exceptions = range.end;
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
        let mut positions = [0; PIECE];
        let positions = ones(mask, &mut positions);
        if positions.last().is_some_and(|position| usize::from(*position) >= count) {
            return Err(CodecError::Body("the mask goes beyond the last word"));
        }
        let range = joining.exceptions..joining.exceptions + positions.len();
        piece.fill(0);
        for (index, plane) in planes.iter().enumerate().take(word_bytes) {
            let Some(plane) = plane.get(range.clone()) else {
                return Err(CodecError::Body("more bits in the mask than words"));
            };
            for (byte, position) in plane.iter().zip(positions) {
                piece[usize::from(*position) * word_bytes + index] = *byte;
            }
        }
        joining.exceptions = range.end;
        joining.words += count;
        Ok(())
    }
}
