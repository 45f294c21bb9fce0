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

/// Decodes blocks. Keeps its tables and buffers (up to about two blocks, of hostile ones a few more) for the next one.
pub struct Decoder {
    workspace: Workspace,
    streams: Streams,
    piece: Piece,
    context: context::Buffers,
    predicted: Vec<u8>,
    /// What was compared last.
    decoded: Vec<u8>,
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
            decoded: Vec::new(),
        }
    }

    /// Decodes a block as [`Self::decode`] does and says whether it is `data`.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub(crate) fn is(
        &mut self,
        header: &BlockHeader,
        body: &[u8],
        base: Option<&[u8]>,
        data: &[u8],
    ) -> Result<bool, CodecError> {
        let (word, shape) = (header.word(), header.chain.shape());
        if shape.coding != Coding::Context || shape.predictor.factors() > 0 {
            let mut decoded = std::mem::take(&mut self.decoded);
            decoded.resize(decoded.len().max(data.len()), 0);
            let result = self.decode(header, body, base, &mut decoded[..data.len()]);
            let same = decoded[..data.len()] == *data;
            self.decoded = if data.len() > MAX_BLOCK { Vec::new() } else { decoded };
            return result.map(|()| same);
        }
        let base = check_input(header, body, base)?;
        check_length("the data", data.len(), header.raw_len as usize)?;
        let (words, tail) = data.split_at(data.len() / word.bytes * word.bytes);
        let (stored, stored_tail) = body.split_at(body.len() - tail.len());
        let prediction = base.map(|base| &base[..words.len()]);
        let known = context::Words::Known(words);
        context::decode(&mut self.context, self.workspace.isa(), word, prediction, stored, known)?;
        Ok(stored_tail == tail)
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
        check_length("the output", out.len(), header.raw_len as usize)?;
        let base = check_input(header, body, base)?;
        let raw_len = header.raw_len as usize;
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
            let words = context::Words::Wanted(words);
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

fn check_length(what: &'static str, got: usize, wanted: usize) -> Result<(), CodecError> {
    if got == wanted { Ok(()) } else { Err(CodecError::Length { what, got, wanted }) }
}

/// Checks the lengths of what a block is decoded from; returns the base, if it has one.
fn check_input<'a>(header: &BlockHeader, body: &[u8], base: Option<&'a [u8]>) -> Result<Option<&'a [u8]>, CodecError> {
    check_length("the body", body.len(), header.body_len())?;
    match (header.chain.predictor().bases(), base) {
        (0, _) => Ok(None),
        (_, None) => Err(CodecError::BaseMissing),
        (parents, Some(base)) => {
            check_length("the base", base.len(), parents * header.raw_len as usize)?;
            Ok(Some(base))
        }
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
