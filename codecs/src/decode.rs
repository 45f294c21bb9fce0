//! From a stored block back to its bytes.

use shard_core::limits::MAX_BLOCK;

use crate::block::BlockHeader;
use crate::chain::{Coding, MAX_STREAMS};
use crate::context;
use crate::entropy::Workspace;
use crate::kernel::Isa;
use crate::predict::MAX_BASES;
use crate::transform::{self, Piece, Streams, Transform};
use crate::{CodecError, Level, mixing};

/// Decodes blocks. Keeps its tables and buffers (about a block, of hostile ones a few) for the next one.
pub struct Decoder {
    workspace: Workspace,
    streams: Streams,
    piece: Piece,
    context: context::Buffers,
    predicted: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that uses the fastest instructions of the machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with_isa(Isa::best())
    }

    /// A decoder that uses these instructions. All give the same bytes.
    #[must_use]
    pub fn with_isa(isa: Isa) -> Self {
        Self {
            workspace: Workspace::new(isa, Level::Default),
            streams: Streams::default(),
            piece: transform::new_piece(),
            context: context::Buffers::default(),
            predicted: Vec::new(),
        }
    }

    /// Decodes a block: `header` as read, `body` all bytes after it, `base` the bytes that its base reference names (as many as
    /// the block has for each version that the predictor needs). `out`
    /// has the header's raw length; it holds anything after an error.
    ///
    /// That the bytes are the ones that were stored is for the caller to check, by their SHA-256.
    ///
    /// # Errors
    /// [`CodecError::Length`] for buffers of the wrong length, [`CodecError::BaseMissing`], or [`CodecError::Body`] where the
    /// body does not decode.
    pub fn decode(
        &mut self,
        header: &BlockHeader,
        body: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let raw_len = header.raw_len as usize;
        let check = |what, got, wanted| {
            if got == wanted { Ok(()) } else { Err(CodecError::Length { what, got, wanted }) }
        };
        check("the output", out.len(), raw_len)?;
        check("the body", body.len(), header.body_len())?;
        let parents = header.chain.predictor().bases();
        let base = match (parents, base) {
            (0, _) => None,
            (_, None) => return Err(CodecError::BaseMissing),
            (_, Some(base)) => {
                check("the base", base.len(), parents * raw_len)?;
                Some(base)
            }
        };
        let word = header.word();
        let shape = header.chain.shape();
        let (words, tail) = out.split_at_mut(raw_len / word.bytes * word.bytes);
        let (stored, stored_tail) = body.split_at(body.len() - tail.len());
        tail.copy_from_slice(stored_tail);
        if shape.is_identity() {
            for stream in header.streams() {
                stream.coder.decode(&mut self.workspace, stored, words)?;
            }
            return Ok(());
        }
        let Some(transform) = Transform::of(self.workspace.isa(), shape, word) else {
            let isa = self.workspace.isa();
            let (bases, count) = parents_of(base, raw_len, words.len());
            let bases = &bases[..count];
            let prediction = shape.predictor.predict(isa, word, &header.factors, bases, &mut self.predicted);
            if shape.coding == Coding::Mixing {
                let prediction = prediction.ok_or(CodecError::BaseMissing)?;
                return mixing::decode(isa, word, prediction, stored, words);
            }
            return context::decode(&mut self.context, isa, word, prediction, stored, words);
        };
        self.streams.reset(header.lengths());
        let mut rest = stored;
        let mut stored_streams: [&[u8]; MAX_STREAMS] = Default::default();
        let arena = self.streams.all_mut();
        for ((stream, place), decoded) in header.streams().zip(&mut stored_streams).zip(arena) {
            let (stored, after) = rest.split_at(stream.stored_len);
            rest = after;
            // A raw stream is used where it lies.
            *place = stored;
            if stream.coder.id() != crate::entropy::RAW {
                stream.coder.decode(&mut self.workspace, stored, decoded)?;
            }
        }
        let mut streams = stored_streams;
        for ((place, decoded), stream) in streams.iter_mut().zip(self.streams.iter()).zip(header.streams()) {
            if stream.coder.id() != crate::entropy::RAW {
                *place = decoded;
            }
        }
        let exceptions = header.exceptions as usize;
        let result = transform.inverse(streams, exceptions, base, &mut self.piece, words);
        if raw_len > MAX_BLOCK {
            self.streams.release();
        }
        result
    }
}

/// The whole words of each earlier version in a base, and how many versions there are.
pub(crate) fn parents_of(base: Option<&[u8]>, raw_len: usize, whole: usize) -> ([&[u8]; MAX_BASES], usize) {
    let mut parents = [&[][..]; MAX_BASES];
    let mut count = 0;
    for (parent, part) in parents.iter_mut().zip(base.unwrap_or_default().chunks_exact(raw_len.max(1))) {
        *parent = &part[..whole];
        count += 1;
    }
    (parents, count)
}
