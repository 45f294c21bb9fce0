//! From a stored block back to its bytes.

use shard_core::limits::MAX_BLOCK;

use crate::block::BlockHeader;
use crate::chain::{Coding, MAX_STREAMS};
use crate::context;
use crate::derive::Target;
use crate::entropy::Workspace;
use crate::kernel::Isa;
use crate::predict::MAX_BASES;
use crate::recode::Tools;
use crate::transform::{self, Piece, Streams, Transform};
use crate::{Base, Block, CodecError, Deviation, Level, mixing, recode, residual};

/// Decodes blocks. Keeps its tables and buffers (up to about two blocks, of hostile ones a few more) for the next one.
pub struct Decoder {
    workspace: Workspace,
    streams: Streams,
    piece: Piece,
    context: context::Buffers,
    predicted: Vec<u8>,
    /// A base that had to be computed.
    derived: Vec<u8>,
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
            derived: Vec::new(),
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
        if header.derived.is_some() {
            let derived = self.derive(header, base.as_slice())?;
            let result = self.is_on(header, body, Some(&derived), data);
            self.derived = derived;
            return result;
        }
        self.is_on(header, body, base, data)
    }

    fn is_on(
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
            let result = versions(header, base).and_then(|(bases, count)| {
                self.decode_words(header, body, &bases[..count], &mut decoded[..data.len()])
            });
            let same = decoded[..data.len()] == *data;
            self.decoded = if data.len() > MAX_BLOCK { Vec::new() } else { decoded };
            return result.map(|()| same);
        }
        let (bases, count) = versions(header, base)?;
        check_input(header, body, &bases[..count])?;
        check_length("the data", data.len(), header.raw_len as usize)?;
        let (words, tail) = data.split_at(data.len() / word.bytes * word.bytes);
        let (stored, stored_tail) = body.split_at(body.len() - tail.len());
        let prediction = bases[..count].first().map(|base| &base[..words.len()]);
        let known = context::Words::Known(words);
        let turned = shape.residual.id() == residual::TURN;
        context::decode(&mut self.context, self.workspace.isa(), word, prediction, turned, stored, known)?;
        Ok(stored_tail == tail)
    }

    /// Decodes a block: `header` as read, `body` all bytes after it, `base` the bytes that its base reference names, of which
    /// there are [`BlockHeader::base_len`]. `out` has the header's raw length; it holds anything after an error.
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
        if header.derived.is_some() {
            return self.decode_on(header, body, base.as_slice(), out);
        }
        let (bases, count) = versions(header, base)?;
        self.decode_on(header, body, &bases[..count], out)
    }

    /// Decodes a block as [`Self::decode`] does, with the earlier versions that its base stands for each by itself: as many as
    /// the predictor needs, the newest first, each as long as the block. Where the base is derived, `bases` is what it is
    /// derived from, all in one.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_on(
        &mut self,
        header: &BlockHeader,
        body: &[u8],
        bases: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        if header.derived.is_some() {
            let derived = self.derive(header, bases)?;
            let result = self.decode_words(header, body, &[&derived], out);
            self.derived = derived;
            return result;
        }
        self.decode_words(header, body, bases, out)
    }

    /// Decodes a block for which [`BlockHeader::is_patch`] where its base lies: `block` has the base's bytes, and then the block's. What
    /// did not move is not touched.
    ///
    /// # Errors
    /// As [`Self::decode`]; [`CodecError::Chain`] where the block is no patch. `block` holds anything then.
    pub fn patch(&mut self, header: &BlockHeader, body: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
        let word = header.word();
        let transform = Transform::of(self.workspace.isa(), header.chain.shape(), word).filter(|_| header.is_patch());
        let transform = transform.ok_or(CodecError::Chain("the block is no patch"))?;
        check_length("the base", block.len(), header.raw_len as usize)?;
        check_length("the body", body.len(), header.body_len())?;
        let (words, tail) = block.split_at_mut(block.len() / word.bytes * word.bytes);
        let (stored, stored_tail) = body.split_at(body.len() - tail.len());
        tail.copy_from_slice(stored_tail);
        let streams = decode_streams(&mut self.workspace, &mut self.streams, header, stored)?;
        transform.patch(streams, words)
    }

    /// Decodes of a block in layers ([`recode::Layers`]) the first, as [`Self::decode_on`] does all of it: `out` is then about what the
    /// block is, and how far it is off is returned. The body may end after [`BlockHeader::first_layer_len`].
    ///
    /// # Errors
    /// As [`Self::decode`]; [`CodecError::Chain`] where the block has no layers.
    pub fn decode_first_layer(
        &mut self,
        header: &BlockHeader,
        body: &[u8],
        bases: &[&[u8]],
        out: &mut [u8],
    ) -> Result<Deviation, CodecError> {
        if header.derived.is_some() {
            let derived = self.derive(header, bases)?;
            let result = self.decode_coarse(header, body, &[&derived], out);
            self.derived = derived;
            return result;
        }
        self.decode_coarse(header, body, bases, out)
    }

    fn decode_coarse(
        &mut self,
        header: &BlockHeader,
        body: &[u8],
        bases: &[&[u8]],
        out: &mut [u8],
    ) -> Result<Deviation, CodecError> {
        let (word, shape, isa) = (header.word(), header.chain.shape(), self.workspace.isa());
        if shape.coding.id() != recode::LAYERS {
            return Err(CodecError::Chain("the block has no layers"));
        }
        check_length("the output", out.len(), header.raw_len as usize)?;
        check_bases(header, bases)?;
        let (words, tail) = out.split_at_mut(header.raw_len as usize / word.bytes * word.bytes);
        // What is no whole word has no layers.
        tail.copy_from_slice(&bases[0][words.len()..]);
        let mut whole = [&[][..]; MAX_BASES];
        whole.iter_mut().zip(bases).for_each(|(whole, base)| *whole = &base[..words.len()]);
        let bases = &whole[..shape.predictor.bases()];
        let prediction = shape.predictor.predict(isa, word, &header.factors, bases, &mut self.predicted);
        let prediction = prediction.ok_or(CodecError::BaseMissing)?;
        recode::decode_first(&mut self.workspace, &mut self.context, word, prediction, body, words)
    }

    /// Computes a block's base. The buffer is to be given back.
    fn derive(&mut self, header: &BlockHeader, input: &[&[u8]]) -> Result<Vec<u8>, CodecError> {
        let &[input] = input else { return Err(CodecError::BaseMissing) };
        let (Some(derivation), Some(dtype)) = (header.derived, header.dtype) else {
            return Err(CodecError::BaseMissing);
        };
        let mut derived = std::mem::take(&mut self.derived);
        derived.resize(header.raw_len as usize, 0);
        let target = Target { dtype, len: header.raw_len as usize };
        derivation.derive(self.workspace.isa(), target, input, &mut derived)?;
        Ok(derived)
    }

    fn decode_words(
        &mut self,
        header: &BlockHeader,
        body: &[u8],
        bases: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        check_length("the output", out.len(), header.raw_len as usize)?;
        check_input(header, body, bases)?;
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
            // An empty block has no words to predict.
            let count = if raw_len == 0 { 0 } else { shape.predictor.bases() };
            let mut whole = [&[][..]; MAX_BASES];
            for (whole, base) in whole.iter_mut().zip(bases) {
                *whole = &base[..words.len()];
            }
            let bases = &whole[..count];
            let prediction = shape.predictor.predict(isa, word, &header.factors, bases, &mut self.predicted);
            if shape.coding == Coding::Mixing {
                let prediction = prediction.ok_or(CodecError::BaseMissing)?;
                return mixing::decode(isa, word, prediction, stored, words);
            }
            if let Coding::Recoded(recoding) = shape.coding {
                let Self { workspace, context, .. } = self;
                return recoding.take(&mut Tools { workspace, context, bits: 0 }, word, prediction, stored, words);
            }
            let words = context::Words::Wanted(words);
            let turned = shape.residual.id() == residual::TURN;
            return context::decode(&mut self.context, isa, word, prediction, turned, stored, words);
        };
        let streams = decode_streams(&mut self.workspace, &mut self.streams, header, stored)?;
        let result = match bases.first() {
            Some(base) if header.is_patch() => {
                words.copy_from_slice(&base[..words.len()]);
                transform.patch(streams, words)
            }
            base => transform.inverse(streams, header.exceptions as usize, base.copied(), &mut self.piece, words),
        };
        if raw_len > MAX_BLOCK {
            self.streams.release();
        }
        result
    }
}

/// Decodes the streams of a filter. A raw one is used where it lies.
fn decode_streams<'a>(
    workspace: &mut Workspace,
    streams: &'a mut Streams,
    header: &BlockHeader,
    stored: &'a [u8],
) -> Result<[&'a [u8]; MAX_STREAMS], CodecError> {
    streams.reset(header.lengths());
    let mut rest = stored;
    let mut places: [&[u8]; MAX_STREAMS] = Default::default();
    for ((stream, place), decoded) in header.streams().zip(&mut places).zip(streams.all_mut()) {
        let (stored, after) = rest.split_at(stream.stored_len);
        rest = after;
        *place = stored;
        if stream.coder.id() != crate::entropy::RAW {
            stream.coder.decode(workspace, stored, decoded)?;
        }
    }
    for ((place, decoded), stream) in places.iter_mut().zip(streams.iter()).zip(header.streams()) {
        if stream.coder.id() != crate::entropy::RAW {
            *place = decoded;
        }
    }
    Ok(places)
}

fn check_length(what: &'static str, got: usize, wanted: usize) -> Result<(), CodecError> {
    if got == wanted { Ok(()) } else { Err(CodecError::Length { what, got, wanted }) }
}

/// Checks the lengths of what a block is decoded from.
fn check_input(header: &BlockHeader, body: &[u8], bases: &[&[u8]]) -> Result<(), CodecError> {
    check_length("the body", body.len(), header.body_len())?;
    check_bases(header, bases)
}

fn check_bases(header: &BlockHeader, bases: &[&[u8]]) -> Result<(), CodecError> {
    let needed = bases.get(..header.chain.predictor().bases()).ok_or(CodecError::BaseMissing)?;
    needed.iter().try_for_each(|base| check_length("the base", base.len(), header.raw_len as usize))
}

/// The earlier versions that a base of the right length stands for: the first few of these, and how many the predictor needs.
fn versions<'a>(header: &BlockHeader, base: Option<&'a [u8]>) -> Result<([&'a [u8]; MAX_BASES], usize), CodecError> {
    let raw_len = header.raw_len as usize;
    let count = header.chain.predictor().bases();
    if count > 0 {
        let base = base.ok_or(CodecError::BaseMissing)?;
        check_length("the base", base.len(), count * raw_len)?;
    }
    Ok((parents_of(base, raw_len, raw_len).0, count))
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

/// The earlier versions that a block comes with.
pub(crate) fn parents(block: &Block<'_>) -> usize {
    // An empty block has as many as one likes.
    let two = |base: Base<'_>| block.data.is_empty() || base.bytes.len() > block.data.len();
    block.base.map_or(0, |base| if two(base) { MAX_BASES } else { 1 })
}
