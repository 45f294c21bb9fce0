//! Predictor, residual and filter over a whole block, in pieces that stay in the first-level cache.

use crate::CodecError;
use crate::chain::{Coding, MAX_STREAMS, Shape, Word};
use crate::entropy::Workspace;
use crate::filter::{self, Filter, Joining, Splitting, StreamLengths};
use crate::kernel::Isa;
use crate::predict::Predictor;
use crate::residual::Residual;

/// Bytes of a piece: whole words of every kind, and a multiple of 8 of them.
pub(crate) const PIECE: usize = 8 << 10;

/// A buffer for residuals on their way between words and streams.
pub(crate) type Piece = Box<[u8; PIECE]>;

pub(crate) fn new_piece() -> Piece {
    Box::new([0; PIECE])
}

/// Streams of a block, in one buffer that is used again.
#[derive(Default)]
pub(crate) struct Streams {
    arena: Vec<u8>,
    /// The bytes that each stream may take.
    room: StreamRoom,
    /// The bytes that each stream has.
    lengths: Option<StreamLengths>,
}

type StreamRoom = [usize; MAX_STREAMS];

impl Streams {
    /// Makes room for streams of these lengths; what they hold is whatever was there before.
    pub(crate) fn reset(&mut self, lengths: StreamLengths) {
        self.room = [0; MAX_STREAMS];
        self.room[..lengths.as_slice().len()].copy_from_slice(lengths.as_slice());
        self.lengths = Some(lengths);
        if self.arena.len() < lengths.total() {
            // Filled anew rather than grown, which would copy, and only as large as needed, which doubling would not be.
            self.arena = Vec::new();
            self.arena.resize(lengths.total(), 0);
        }
    }

    /// Gives the buffer back, after a block much longer than most.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn all_mut(&mut self) -> [&mut [u8]; MAX_STREAMS] {
        let mut rest = &mut self.arena[..];
        self.room.map(|len| {
            let (stream, after) = std::mem::take(&mut rest).split_at_mut(len);
            rest = after;
            stream
        })
    }

    /// The streams, cut to their lengths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let lengths = self.lengths.as_ref().map(StreamLengths::as_slice).unwrap_or_default();
        lengths.iter().zip(self.room).map(move |(len, room)| {
            let stream = &self.arena[at..at + len];
            at += room;
            stream
        })
    }
}

/// What encoding works with, used again for every block.
pub(crate) struct Workbench {
    pub(crate) workspace: Workspace,
    pub(crate) streams: Streams,
    pub(crate) piece: Piece,
    pub(crate) context: crate::context::Buffers,
    /// A prediction that had to be computed.
    pub(crate) predicted: Vec<u8>,
}

/// The stages that turn words into streams and back.
#[derive(Clone, Copy)]
pub(crate) struct Transform {
    pub(crate) isa: Isa,
    pub(crate) predictor: &'static dyn Predictor,
    pub(crate) residual: &'static dyn Residual,
    pub(crate) filter: &'static dyn Filter,
    pub(crate) word: Word,
}

impl Transform {
    /// The stages of a shape; `None` where it has no filter.
    pub(crate) fn of(isa: Isa, shape: Shape, word: Word) -> Option<Self> {
        let Shape { predictor, residual, coding } = shape;
        match coding {
            Coding::Filtered(filter) => Some(Self { isa, predictor, residual, filter, word }),
            _ => None,
        }
    }

    /// Takes `words` (whole words) apart into `streams`. Returns the number of exceptional words; `None` where there are more
    /// than the filter takes.
    pub(crate) fn forward(
        self,
        words: &[u8],
        base: Option<&[u8]>,
        piece: &mut Piece,
        streams: &mut Streams,
    ) -> Option<usize> {
        let Self { isa, predictor, residual, filter, word } = self;
        let count = words.len() / word.bytes;
        let most = filter.most_exceptions(count).unwrap_or(0);
        streams.reset(filter.lengths(word.bytes, count, most));
        let mut splitting = Splitting { streams: streams.all_mut(), words: 0, exceptions: 0, next: 0 };
        match base.filter(|_| predictor.bases() > 0) {
            None => {
                for part in words.chunks(PIECE) {
                    filter.split(isa, word.bytes, part, &mut splitting).then_some(())?;
                }
            }
            Some(prediction) => {
                for (part, prediction) in words.chunks(PIECE).zip(prediction.chunks(PIECE)) {
                    let residuals = &mut piece[..part.len()];
                    residual.forward(isa, word, part, &prediction[..part.len()], residuals);
                    filter.split(isa, word.bytes, residuals, &mut splitting).then_some(())?;
                }
            }
        }
        let exceptions = splitting.exceptions;
        streams.lengths = Some(filter.lengths(word.bytes, count, exceptions));
        Some(exceptions)
    }

    /// Turns the prediction that `words` hold into the words, for a header that is a patch.
    pub(crate) fn patch(self, streams: [&[u8]; MAX_STREAMS], words: &mut [u8]) -> Result<(), CodecError> {
        filter::patch(self.isa, self.word, self.residual, streams, words)
    }

    /// Puts `words` (whole words) together again. `streams` are as [`crate::filter::Filter::lengths`] says for `exceptions`.
    pub(crate) fn inverse(
        self,
        streams: [&[u8]; MAX_STREAMS],
        exceptions: usize,
        base: Option<&[u8]>,
        piece: &mut Piece,
        words: &mut [u8],
    ) -> Result<(), CodecError> {
        let Self { isa, predictor, residual, filter, word } = self;
        let mut joining = Joining { streams, words: 0, exceptions: 0, next: 0 };
        match base.filter(|_| predictor.bases() > 0) {
            None => {
                for part in words.chunks_mut(PIECE) {
                    filter.join(isa, word.bytes, &mut joining, part)?;
                }
            }
            Some(prediction) => {
                for (part, prediction) in words.chunks_mut(PIECE).zip(prediction.chunks(PIECE)) {
                    let residuals = &mut piece[..part.len()];
                    filter.join(isa, word.bytes, &mut joining, residuals)?;
                    residual.inverse(isa, word, residuals, &prediction[..part.len()], part);
                }
            }
        }
        if joining.exceptions != exceptions {
            return Err(CodecError::Body("exceptional words are left over"));
        }
        Ok(())
    }
}
