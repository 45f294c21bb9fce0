use super::{Filter, Joining, Splitting, StreamLengths};
use crate::CodecError;
use crate::chain::{MAX_STREAMS, Word};
use crate::kernel::{self, Isa};
use crate::residual::Residual;
use crate::transform::PIECE;

/// For words of which hardly any is not zero: how many zeros are before each (the low bytes of these numbers, then their high
/// bytes), then byte planes of the words that are not, in order. Where more than 65,535 zeros follow one another, a zero is put
/// down like another word after 65,535 of them.
///
/// What moved can be put into a prediction where it lies ([`crate::Decoder::patch`]): all other words are not touched.
pub struct Gaps;

/// The most zeros before a word that is put down.
const MOST: usize = u16::MAX as usize;

/// Words that are put down in at most so many streams: two of the gaps, and a plane for each byte.
const WIDEST: usize = MAX_STREAMS - 2;

fn body(cause: &'static str) -> CodecError {
    CodecError::Body(cause)
}

impl Gaps {
    /// Puts down the word that is so many words into the block.
    fn put(word: &[u8], place: usize, splitting: &mut Splitting<'_>) -> Option<()> {
        let [low, high, planes @ ..] = &mut splitting.streams;
        let index = splitting.exceptions;
        let gap = u16::try_from(place - splitting.next).ok()?.to_le_bytes();
        (*low.get_mut(index)?, *high.get_mut(index)?) = (gap[0], gap[1]);
        for (plane, byte) in planes.iter_mut().zip(word) {
            *plane.get_mut(index)? = *byte;
        }
        splitting.exceptions += 1;
        splitting.next = place + 1;
        Some(())
    }

    fn split_piece(isa: Isa, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> Option<()> {
        let count = piece.len() / word_bytes;
        let mut mask = [0; PIECE / 8];
        let mask = &mut mask[..count.div_ceil(8)];
        kernel::nonzero_mask(isa, word_bytes, piece, mask);
        for (index, bits) in mask.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let at = 8 * index + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                while splitting.words + at - splitting.next > MOST {
                    Self::put(&[0; WIDEST][..word_bytes], splitting.next + MOST, splitting)?;
                }
                Self::put(&piece[at * word_bytes..][..word_bytes], splitting.words + at, splitting)?;
            }
        }
        splitting.words += count;
        Some(())
    }
}

/// The next word that is put down, if it is before word `end`.
fn next(joining: &Joining<'_>, end: usize) -> Option<usize> {
    let [low, high, ..] = joining.streams;
    let gap = [*low.get(joining.exceptions)?, *high.get(joining.exceptions)?];
    Some(joining.next + usize::from(u16::from_le_bytes(gap))).filter(|place| *place < end)
}

/// Copies the bytes of the next word that is put down.
fn copy(joining: &Joining<'_>, word: &mut [u8]) -> Option<()> {
    for (byte, plane) in word.iter_mut().zip(&joining.streams[2..]) {
        *byte = *plane.get(joining.exceptions)?;
    }
    Some(())
}

impl Filter for Gaps {
    fn id(&self) -> u8 {
        super::GAPS
    }
    fn name(&self) -> &'static str {
        "gaps"
    }
    fn fits(&self, word: Word) -> bool {
        word.bytes <= WIDEST
    }
    fn most_exceptions(&self, words: usize) -> Option<usize> {
        Some(words / 8)
    }
    fn lengths(&self, word_bytes: usize, _words: usize, exceptions: usize) -> StreamLengths {
        StreamLengths::first_and(exceptions, exceptions, 1 + word_bytes)
    }
    fn split(&self, isa: Isa, word_bytes: usize, piece: &[u8], splitting: &mut Splitting<'_>) -> bool {
        Self::split_piece(isa, word_bytes, piece, splitting).is_some()
    }
    fn join(
        &self,
        _isa: Isa,
        word_bytes: usize,
        joining: &mut Joining<'_>,
        piece: &mut [u8],
    ) -> Result<(), CodecError> {
        let end = joining.words + piece.len() / word_bytes;
        piece.fill(0);
        while let Some(place) = next(joining, end) {
            let word =
                piece.get_mut((place - joining.words) * word_bytes..).and_then(|rest| rest.get_mut(..word_bytes));
            word.and_then(|word| copy(joining, word)).ok_or(body("a plane is too short"))?;
            joining.exceptions += 1;
            joining.next = place + 1;
        }
        joining.words = end;
        Ok(())
    }
}

/// Turns a prediction into the words: those that `streams` put down are their residuals, all others are as predicted.
///
/// # Errors
/// [`CodecError::Body`] where a word lies beyond the last.
pub(crate) fn patch(
    isa: Isa,
    word: Word,
    residual: &dyn Residual,
    streams: [&[u8]; MAX_STREAMS],
    words: &mut [u8],
) -> Result<(), CodecError> {
    /// Words that are done at a time.
    const MANY: usize = 512;
    let bytes = word.bytes;
    let end = words.len() / bytes;
    let mut joining = Joining { streams, words: 0, exceptions: 0, next: 0 };
    let mut places = [0; MANY];
    let mut buffers = [[0; MANY * WIDEST]; 3];
    loop {
        let [residuals, predicted, patched] = &mut buffers;
        let mut count = 0;
        while count < MANY
            && let Some(place) = next(&joining, end)
        {
            let range = count * bytes..(count + 1) * bytes;
            copy(&joining, &mut residuals[range.clone()]).ok_or(body("a plane is too short"))?;
            predicted[range].copy_from_slice(&words[place * bytes..][..bytes]);
            places[count] = place;
            joining.exceptions += 1;
            joining.next = place + 1;
            count += 1;
        }
        let len = count * bytes;
        residual.inverse(isa, word, &residuals[..len], &predicted[..len], &mut patched[..len]);
        for (place, patched) in places[..count].iter().zip(patched.chunks_exact(bytes)) {
            words[place * bytes..][..bytes].copy_from_slice(patched);
        }
        if count < MANY {
            break;
        }
    }
    if joining.exceptions != streams[0].len() {
        return Err(body("exceptional words are left over"));
    }
    Ok(())
}
