//! From a block's bytes to its stored form.

use std::ops::Range;

use shard_core::limits::MAX_BLOCK;

use crate::block::{BlockHeader, most_bytes};
use crate::chain::{Chain, Coding, MAX_STREAMS, Shape, Word};
use crate::context;
use crate::decode::{parents, parents_of};
use crate::derive::Target;
use crate::entropy::{self, EntropyCoder, Workspace};
use crate::kernel::Isa;
use crate::predict::{Factors, MAX_BASES};
use crate::recode::{Recoding, Tools};
use crate::select::{self, Candidate, Selector, find_factors, has_repeats};
use crate::transform::{self, Streams, Transform, Workbench};
use crate::{Base, Block, CODECS, CodecError, Decoder, Level, filter, mixing, predict, recode, residual};

/// Streams from this length, in bytes, to an eighth of the block (sparse masks above all) are checked for repeats as a
/// whole: that costs little, and the sample holds too little of them.
const MIN_SMALL: usize = 512;

/// The bits of a first layer of which nobody said how many it has.
const USUAL_BITS: u32 = 4;

/// What a block of which few words moved may take more where those are put down one by one, as its inverse.
const PATCH_COST: usize = 32;

/// What two layers may take more than one, as its inverse.
const LAYERS_COST: usize = 33;

/// Encodes blocks. Keeps its tables and buffers (up to about six blocks, and zstd's contexts) for the next one.
pub struct Encoder {
    selector: Selector,
    bench: Workbench,
    header: Vec<u8>,
    /// Bytes that are left free for the next header.
    room: usize,
    /// A base that had to be computed.
    derived: Vec<u8>,
    verifier: Decoder,
    /// The bits of the first of two layers, where these are asked for.
    layers: Option<u32>,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Encoded {
    /// The chain that it is stored with.
    pub chain: Chain,
    /// Whether the stored form needs the base.
    pub used_base: bool,
    /// Bytes of the header.
    pub header_len: usize,
    /// Bytes of header and body.
    pub stored_len: usize,
}

impl Encoder {
    /// An encoder that uses the fastest instructions of the machine.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self::with_isa(level, Isa::best())
    }

    /// An encoder that uses these instructions. All give the same bytes.
    #[must_use]
    pub fn with_isa(level: Level, isa: Isa) -> Self {
        Self {
            selector: Selector::default(),
            bench: Workbench {
                workspace: Workspace::new(isa, level),
                streams: Streams::default(),
                piece: transform::new_piece(),
                context: context::Buffers::default(),
                predicted: Vec::new(),
            },
            header: Vec::new(),
            room: 0,
            derived: Vec::new(),
            verifier: Decoder::with_isa(isa),
            layers: None,
        }
    }

    /// Stores what leans on a base in two layers, the first with so many bits (1 to 8) of each residual, wherever that takes hardly
    /// more room (see [`recode::Layers`]): at most a thirty-third of what one layer takes.
    #[must_use]
    pub fn with_layers(self, bits: Option<u32>) -> Self {
        Self { layers: bits.map(|bits| bits.clamp(1, recode::MAX_BITS)), ..self }
    }

    /// Appends the stored form of `block` to `out`: the smallest found, with or without its base, never larger than the raw
    /// bytes and a header, and decoded again to be sure. After an error `out` is as it was.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] or [`CodecError::Length`] for what cannot be a block or its base; [`CodecError::Verify`].
    pub fn encode(&mut self, block: &Block<'_>, out: &mut Vec<u8>) -> Result<Encoded, CodecError> {
        let start = out.len();
        self.bench.workspace.set_opaque(block.dtype.is_none());
        let result = self
            .with_base(block, |encoder, block| encoder.encode_unverified(block, out))
            .and_then(|()| self.verify(block, &out[start..]));
        if result.is_err() {
            out.truncate(start);
        }
        if block.data.len() > MAX_BLOCK {
            self.bench.streams.release();
        }
        result
    }

    /// The chains that come into question and what a sample says they would take, best first. [`Self::encode`] picks from
    /// the top, encoding what is too close to call both ways.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn explain(&mut self, block: &Block<'_>) -> Result<Vec<Candidate>, CodecError> {
        self.bench.workspace.set_opaque(block.dtype.is_none());
        self.with_base(block, |encoder, block| Ok(encoder.selector.rank(block, &mut encoder.bench)?.to_vec()))
    }

    /// Does something with a block whose base, where it is derived, was computed.
    fn with_base<T>(
        &mut self,
        block: &Block<'_>,
        what: impl FnOnce(&mut Self, &Block<'_>) -> Result<T, CodecError>,
    ) -> Result<T, CodecError> {
        check(block)?;
        let (Some(base), Some(dtype)) = (block.base, block.dtype) else { return what(self, block) };
        let Some(derivation) = base.derived else { return what(self, block) };
        let mut derived = std::mem::take(&mut self.derived);
        derived.resize(block.data.len(), 0);
        let target = Target { dtype, len: block.data.len() };
        let result = derivation
            .derive(self.bench.workspace.isa(), target, base.bytes, &mut derived)
            .and_then(|()| what(self, &Block { base: Some(Base { bytes: &derived, ..base }), ..*block }));
        self.derived = derived;
        result
    }

    /// Whether `block`, whose own base does not matter, would be predicted from the two versions before it better than from one:
    /// `bases`, the newer first, each as long as the block. Where two are `dear`, since they are paid for elsewhere, they have to
    /// save a twelfth of the bits. That is looked up in a few rows, so nobody has to put two together for nothing.
    #[must_use]
    pub fn wants_two(&self, block: &Block<'_>, bases: [&[u8]; 2], dear: bool) -> bool {
        let workspace = &self.bench.workspace;
        select::wants_two(workspace.isa(), workspace.level(), block, bases, dear)
    }

    /// Appends the stored form of `block` with the stages given, whatever it takes; zstd is tried for opaque bytes
    /// and where repeats are found. For measurements and tests.
    ///
    /// # Errors
    /// As [`Self::encode`]; [`CodecError::Chain`] where the stages do not go together or not with the block;
    /// [`CodecError::BaseMissing`].
    pub fn encode_with(&mut self, shape: Shape, block: &Block<'_>, out: &mut Vec<u8>) -> Result<Encoded, CodecError> {
        shape.check(Word::of(block.dtype))?;
        if shape.predictor.bases() > parents(block) {
            return Err(CodecError::BaseMissing);
        }
        let start = out.len();
        self.bench.workspace.set_opaque(block.dtype.is_none());
        let result = self.with_base(block, |encoder, block| encoder.put_with(shape, block, out)).and_then(|done| {
            if done {
                self.verify(block, &out[start..])
            } else {
                Err(CodecError::Chain("the block has no shorter form with these stages"))
            }
        });
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Appends the stored form of `block` with the stages given, if it has one.
    fn put_with(&mut self, shape: Shape, block: &Block<'_>, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        let repeats = [block.dtype.is_none(); MAX_STREAMS];
        let word = Word::of(block.dtype).bytes;
        // Where no factor predicts better than the base itself does, that is what is asked for all the same.
        let isa = self.bench.workspace.isa();
        let found = find_factors(shape, isa, block, block.data.len() / word * word);
        let factors = found.unwrap_or([1f64.to_bits(), 0]);
        self.put(shape, &repeats, &factors, block, out)
    }

    fn encode_unverified(&mut self, block: &Block<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        self.selector.rank(block, &mut self.bench)?;
        let level = self.bench.workspace.level();
        let mut first: Option<Candidate> = None;
        let mut tried = 0;
        let mut least = usize::MAX;
        let mut choose = |shape: Shape, out: &mut Vec<u8>, middle: usize| {
            let weight = weight(shape, out.len() - middle);
            settle(out, start..middle, weight < least);
            least = least.min(weight);
        };
        for index in 0..self.selector.ranking().len() {
            let Some(candidate) = self.selector.ranking().get(index).copied() else { break };
            if first.as_ref().is_some_and(|best| !candidate.rivals(best, level, tried)) {
                continue;
            }
            let middle = out.len();
            if !self.put(candidate.shape, &candidate.repeats, &candidate.factors, block, out)? {
                continue;
            }
            tried += 1;
            first = Some(first.unwrap_or(candidate));
            choose(candidate.shape, out, middle);
        }
        if self.layers.is_some() {
            self.put_layers(block, out, start)?;
        }
        for shape in self.unusual(block) {
            let middle = out.len();
            let done = self.put(shape, &[false; MAX_STREAMS], &Factors::default(), block, out)?;
            tried += usize::from(done);
            if done {
                choose(shape, out, middle);
            }
        }
        // An estimate is not a promise: nothing is stored larger than raw.
        let raw = BlockHeader::raw(block).map(|header| {
            self.header.clear();
            header.put(&mut self.header);
        });
        if raw.is_some() && (tried == 0 || out.len() - start > self.header.len() + block.data.len()) {
            out.truncate(start);
            out.extend_from_slice(&self.header);
            out.extend_from_slice(block.data);
        }
        Ok(())
    }

    /// Shapes for words of which few have what it takes, and which are then hardly to be beaten.
    fn unusual(&self, block: &Block<'_>) -> impl Iterator<Item = Shape> + use<> {
        let word = Word::of(block.dtype);
        let words = &block.data[..block.data.len() / word.bytes * word.bytes];
        let isa = self.bench.workspace.isa();
        let suits = |recoding: &&'static dyn Recoding| recoding.fits(word) && recoding.suits(isa, word, words);
        let codings: Vec<_> = CODECS.recodings.iter().copied().filter(suits).map(Coding::Recoded).collect();
        let has_base = parents(block) > 0;
        codings.into_iter().flat_map(move |coding| {
            let alone = Shape { predictor: &predict::Zero, residual: &residual::Itself, coding };
            let based = Shape { predictor: &predict::Parent, residual: &residual::Step, coding };
            let shapes = [Some(alone), Some(based).filter(|_| has_base)];
            shapes.into_iter().flatten().filter(move |shape| shape.check(word).is_ok())
        })
    }

    /// Puts a block in layers in the place of its stored form from `start` on, which is of one, if that is hardly longer.
    fn put_layers(&mut self, block: &Block<'_>, out: &mut Vec<u8>, start: usize) -> Result<(), CodecError> {
        let middle = out.len();
        let Ok((one, _)) = BlockHeader::read(&out[start..]) else { return Ok(()) };
        let shape = Shape { coding: Coding::Recoded(&recode::Layers), ..one.chain.shape() };
        if one.chain.coding() != Coding::Context || shape.check(one.word()).is_err() {
            return Ok(());
        }
        let done = self.put(shape, &[false; MAX_STREAMS], &one.factors, block, out)?;
        settle(out, start..middle, done && (out.len() - middle) * LAYERS_COST <= (middle - start) * (LAYERS_COST + 1));
        Ok(())
    }

    /// Appends the stored form of `block` with these stages. Returns false, with nothing appended, where the filter cannot
    /// take it.
    fn put(
        &mut self,
        shape: Shape,
        repeats: &[bool; MAX_STREAMS],
        factors: &Factors,
        block: &Block<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        let word = Word::of(block.dtype);
        let (words, tail) = block.data.split_at(block.data.len() / word.bytes * word.bytes);
        let base = block.base.map(|base| &base.bytes[..block.data.len()]);
        let Workbench { workspace, streams, piece, context, predicted } = &mut self.bench;
        let mut coders: [&'static dyn EntropyCoder; MAX_STREAMS] = [&entropy::Raw; MAX_STREAMS];
        let mut stored = [0; MAX_STREAMS];
        let start = out.len();
        // Most headers are as long as the one before.
        let body_at = start + self.room;
        out.resize(body_at, 0);
        let mut exceptions = 0;
        let mut count = 0;
        let mut put_stream = |workspace: &mut Workspace, stream: &[u8], out: &mut Vec<u8>| {
            let before = out.len();
            let small = (MIN_SMALL..=block.data.len() / 8).contains(&stream.len());
            let looked_at = small && workspace.level() != Level::Fast;
            let repeats = repeats[count] || (looked_at && has_repeats(stream));
            coders[count] = entropy::encode_stream(workspace, stream, repeats, out)?;
            stored[count] = (out.len() - before) as u32;
            count += 1;
            Ok::<(), CodecError>(())
        };
        let (isa, level) = (workspace.isa(), workspace.level());
        let bits = self.layers.unwrap_or(USUAL_BITS);
        match Transform::of(isa, shape, word) {
            _ if shape.is_identity() => put_stream(workspace, words, out)?,
            Some(transform) => {
                match transform.forward(words, base, piece, streams) {
                    Some(met) => exceptions = met as u32,
                    None => {
                        out.truncate(start);
                        return Ok(false);
                    }
                }
                for stream in streams.iter() {
                    put_stream(workspace, stream, out)?;
                }
            }
            // A reader holds several buffers of the block's length at once.
            None if block.data.len() > MAX_BLOCK => return Ok(false),
            None => {
                let rows = block.rows;
                let (bases, parents) = parents_of(block.base.map(|base| base.bytes), block.data.len(), words.len());
                let bases = &bases[..parents.min(shape.predictor.bases())];
                let prediction = shape.predictor.predict(isa, word, factors, bases, predicted);
                let done = match (shape.coding, prediction) {
                    (Coding::Mixing, Some(prediction)) => mixing::encode(isa, word, words, prediction, rows, out),
                    (Coding::Recoded(recoding), _) => {
                        let input = context::Input { word, words, prediction, turned: false, rows };
                        recoding.encode(&mut Tools { workspace, context, bits }, input, out)?
                    }
                    _ => {
                        let turned = shape.residual.id() == residual::TURN;
                        let input = context::Input { word, words, prediction, turned, rows };
                        context::encode(context, isa, level, input, out)
                    }
                };
                if !done {
                    out.truncate(start);
                    return Ok(false);
                }
                stored[0] = (out.len() - body_at) as u32;
            }
        }
        out.extend_from_slice(tail);
        let chain = Chain::new(shape, coders.get(..count).unwrap_or_default());
        let parents = shape.predictor.bases();
        let base = block.base.filter(|_| parents > 0);
        let header = BlockHeader {
            raw_len: block.data.len() as u32,
            dtype: block.dtype,
            chain: chain.ok_or(CodecError::Chain("too many streams"))?,
            base: base.map(|base| base.reference(parents, block.data.len())),
            derived: base.and_then(|base| base.derived),
            factors: *factors,
            exceptions,
            stored,
        };
        self.header.clear();
        header.put(&mut self.header);
        self.room = self.header.len();
        out.splice(start..body_at, self.header.iter().copied());
        Ok(true)
    }

    fn verify(&mut self, block: &Block<'_>, stored: &[u8]) -> Result<Encoded, CodecError> {
        let (header, header_len) = BlockHeader::read(stored)?;
        let fault = || CodecError::Verify(header.chain.to_string());
        let raw_len = block.data.len();
        let parents = header.chain.predictor().bases();
        let base = block.base.filter(|_| parents > 0);
        let bytes = base.map(|base| &base.bytes[..header.base_len().min(base.bytes.len())]);
        let same = self.verifier.is(&header, &stored[header_len..], bytes, block.data).map_err(|_| fault())?;
        let expected = (base.map(|base| base.reference(parents, raw_len)), base.and_then(|base| base.derived));
        if !same || header.dtype != block.dtype || (&header.base, header.derived) != (&expected.0, expected.1) {
            return Err(fault());
        }
        let used_base = header.base.is_some();
        Ok(Encoded { chain: header.chain, used_base, header_len, stored_len: stored.len() })
    }
}

/// How much a stored form weighs against others. What is put down word by word decodes many times faster than the context coder's.
fn weight(shape: Shape, len: usize) -> usize {
    if shape.coding.id() == filter::GAPS { len - len / PATCH_COST } else { len }
}

/// Keeps of two stored forms, one at `old` and the other after it, the second if it is wanted.
fn settle(out: &mut Vec<u8>, old: Range<usize>, is_wanted: bool) {
    if is_wanted {
        out.drain(old);
    } else {
        out.truncate(old.end);
    }
}

/// Checks the lengths of a block and its base.
fn check(block: &Block<'_>) -> Result<(), CodecError> {
    let wanted = block.data.len();
    if wanted > most_bytes(block.dtype) {
        return Err(CodecError::TooLarge(wanted));
    }
    if let Some((base, derived)) = block.base.and_then(|base| Some((base, base.derived?))) {
        let dtype = block.dtype.ok_or(CodecError::Chain("opaque bytes are not derived"))?;
        let (got, wanted) = (base.bytes.len(), derived.input_lens(Target { dtype, len: wanted })?.total());
        return if got == wanted { Ok(()) } else { Err(CodecError::Length { what: "the base", got, wanted }) };
    }
    match block.base.map(|base| base.bytes.len()) {
        Some(got) if got != wanted && got != MAX_BASES * wanted => {
            Err(CodecError::Length { what: "the base", got, wanted })
        }
        _ => Ok(()),
    }
}
