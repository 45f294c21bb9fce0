//! The header of a stored block.
//!
//! A stored block is a header and a body. Numbers of more than a byte are varints (LEB128, shortest form) or raw digests.
//!
//! | field | form | meaning |
//! |---|---|---|
//! | version and flags | byte | bits 0 to 3: version, 1; bit 4: short base; bit 5: derived base; bits 6 and 7: 0 |
//! | raw length | varint | decoded length in bytes, at most 4 MiB; for opaque bytes, which manifests and trees are too, 256 MiB |
//! | data type | byte | its wire id, 0 for opaque bytes; it fixes the word: 1, 2, 4 or 8 bytes, float or not |
//! | predictor | byte | wire id; its factors follow, a little-endian binary64 each (affine: one; pair: two) |
//! | residual | byte | wire id; its parameters follow (none so far) |
//! | coding | byte | wire id of the filter or the context coder; its parameters follow: for escape, sparse and gaps the number of exceptional words (varint) |
//! | derivation | | where the base is derived: its wire id (byte), then its numbers in the forms that it gives them. The predictor then has one base, which is what is derived |
//! | bases | | where the base is derived, one reference that stands for the inputs, one after the other. Otherwise one reference for each base that the predictor has (parent, affine: one; pair: one that stands for the newer version and the older, one after the other). Short base: the digest of a block that is, whole, the base, 32 bytes. Otherwise the form of [`BaseRef::put`] |
//! | streams | | for each stream of the filter, in its order: the entropy coder (byte, wire id) and, where the coder's output has no fixed length for its input, the stored length (varint). The context coder and all that use it, and mixing, which are for blocks of at most 4 MiB, have one stream: its stored length (varint) |
//!
//! The body is the stored streams one after the other, then the bytes after the last whole word as they are. How many
//! streams there are, and how long each is decoded, follows from the filter, the word, the raw length and the filter's
//! parameters. The predictor's parameters, residual's and filter's belong to their ids: a new stage brings its own without
//! a new version, and a reader that does not know an id stops there with [`CodecError::Unsupported`]. There is no checksum:
//! the store knows a block by the SHA-256 of its decoded bytes.
//!
//! | id | predictor | residual | coding | entropy coder |
//! |---|---|---|---|---|
//! | 0 | zero | none | whole | raw |
//! | 1 | parent | xor | planes | constant |
//! | 2 | affine | ulp | split | rans |
//! | 3 | pair | step | escape | zstd |
//! | 4 | | turn | sparse | |
//! | 5 | | | context | |
//! | 6 | | | mixing | |
//! | 7 | | | layers | |
//! | 8 | | | units | |
//! | 9 | | | grid | |
//! | 10 | | | narrow | |
//! | 11 | | | gaps | |

use shard_core::limits::{MAX_BLOCK, MAX_METADATA};
use shard_core::wire::put_varint;
use shard_core::{BaseRange, BaseRef, DType, Digest, WireReader};

use crate::chain::{Chain, Coding, MAX_STREAMS, Shape, Word};
use crate::derive::Target;
use crate::entropy::EntropyCoder;
use crate::filter::StreamLengths;
use crate::predict::{Factors, Predictor};
use crate::residual::Residual;
use crate::{Base, Block, CodecError, Derived, entropy, filter, predict, recode, residual};

const VERSION: u8 = 1;
const SHORT_BASE: u8 = 1 << 4;
const DERIVED: u8 = 1 << 5;
/// Bytes that a derivation's numbers take, about.
const DERIVATION: usize = 16;

/// How a block is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockHeader {
    /// Decoded length in bytes.
    pub raw_len: u32,
    /// Element type; `None` for opaque bytes.
    pub dtype: Option<DType>,
    /// The stages.
    pub chain: Chain,
    /// The base that the predictor needs.
    pub base: Option<BaseRef>,
    /// How the base is computed from the bytes that the reference stands for; `None` where they are the base.
    pub derived: Option<Derived>,
    /// The predictor's factors; zeros beyond those that it has.
    pub(crate) factors: Factors,
    /// Words that the filter codes in streams of their own.
    pub(crate) exceptions: u32,
    /// Stored length of each stream in bytes.
    pub(crate) stored: [u32; MAX_STREAMS],
}

/// The most bytes that a block of a type may decode to. Metadata is coded as one opaque block, however long.
pub(crate) fn most_bytes(dtype: Option<DType>) -> usize {
    if dtype.is_some() { MAX_BLOCK } else { MAX_METADATA }
}

/// A stream of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// Its coder.
    pub coder: &'static dyn EntropyCoder,
    /// Decoded length in bytes.
    pub raw_len: usize,
    /// Stored length in bytes.
    pub stored_len: usize,
}

impl BlockHeader {
    /// The chain by its name, after that of what its base is derived by: `cast>parent+ulp+planes[rans,rans]`.
    #[must_use]
    pub fn chain_name(&self) -> String {
        match &self.derived {
            Some(derived) => format!("{}>{}", derived.name(), self.chain),
            None => self.chain.to_string(),
        }
    }

    /// Whether the block is its base but for a few words, which [`crate::Decoder::patch`] puts there.
    #[must_use]
    pub fn is_patch(&self) -> bool {
        let is_based = self.chain.predictor().bases() == 1 && self.derived.is_none();
        is_based && self.chain.coding().id() == filter::GAPS
    }

    /// The words of the block.
    pub(crate) fn word(&self) -> Word {
        Word::of(self.dtype)
    }

    /// Decoded lengths of the streams.
    pub(crate) fn lengths(&self) -> StreamLengths {
        let word = self.word().bytes;
        self.chain.coding().lengths(word, self.raw_len as usize / word, self.exceptions as usize)
    }

    /// The streams, in the order of the body.
    pub fn streams(&self) -> impl Iterator<Item = Stream> {
        let lengths = self.lengths();
        let coders = self.chain.coders();
        (0..coders.len().min(lengths.as_slice().len())).map(move |index| Stream {
            coder: coders[index],
            raw_len: lengths.as_slice()[index],
            stored_len: self.stored[index] as usize,
        })
    }

    /// The length in bytes of what the base reference stands for: the derivation's inputs, or the bases that the predictor needs.
    #[must_use]
    pub fn base_len(&self) -> usize {
        let target = self.dtype.map(|dtype| Target { dtype, len: self.raw_len as usize });
        match (&self.derived, target) {
            // A header that was read has a derivation only where its inputs have lengths.
            (Some(derived), Some(target)) => derived.input_lens(target).map_or(0, |lens| lens.total()),
            _ => self.raw_len as usize * self.chain.predictor().bases(),
        }
    }

    /// The length of the body in bytes: the streams and the bytes after the last whole word.
    #[must_use]
    pub fn body_len(&self) -> usize {
        let coded = match self.chain.coding() {
            Coding::Filtered(_) => self.streams().map(|stream| stream.stored_len).sum(),
            _ => self.stored[0] as usize,
        };
        coded + self.raw_len as usize % self.word().bytes
    }

    /// The bytes of the body that the first of two layers takes ([`crate::recode::Layers`]); `None` where there are no layers.
    ///
    /// # Errors
    /// [`CodecError`] where the body does not begin with a length.
    pub fn first_layer_len(&self, body: &[u8]) -> Result<Option<usize>, CodecError> {
        (self.chain.coding().id() == recode::LAYERS).then(|| recode::first_len(body)).transpose()
    }

    /// The header of a block that is stored as it is; `None` where it is too long to be one.
    pub(crate) fn raw(block: &Block<'_>) -> Option<Self> {
        let shape =
            Shape { predictor: &predict::Zero, residual: &residual::Itself, coding: Coding::Filtered(&filter::Whole) };
        let word = Word::of(block.dtype).bytes;
        let raw_len = u32::try_from(block.data.len()).ok()?;
        let mut stored = [0; MAX_STREAMS];
        stored[0] = raw_len / word as u32 * word as u32;
        let chain = Chain::new(shape, &[&entropy::Raw])?;
        Some(Self {
            raw_len,
            dtype: block.dtype,
            chain,
            base: None,
            derived: None,
            factors: Factors::default(),
            exceptions: 0,
            stored,
        })
    }

    /// Appends the header.
    pub fn put(&self, out: &mut Vec<u8>) {
        let short = match &self.base {
            Some(BaseRef { ranges, transpose: None }) => match ranges[..] {
                [BaseRange { block: Some(digest), start: 0, len }]
                    if len == self.raw_len && self.chain.predictor().bases() == 1 && self.derived.is_none() =>
                {
                    Some(digest)
                }
                _ => None,
            },
            _ => None,
        };
        let flags = if short.is_some() { SHORT_BASE } else { 0 } | if self.derived.is_some() { DERIVED } else { 0 };
        out.push(VERSION | flags);
        put_varint(out, u64::from(self.raw_len));
        out.push(self.dtype.map_or(0, DType::wire_id));
        let words = self.raw_len as usize / self.word().bytes;
        out.push(self.chain.predictor().id());
        for factor in &self.factors[..self.chain.predictor().factors()] {
            out.extend_from_slice(&factor.to_le_bytes());
        }
        out.extend([self.chain.residual().id(), self.chain.coding().id()]);
        if self.chain.coding().most_exceptions(words).is_some() {
            put_varint(out, u64::from(self.exceptions));
        }
        if let Some(derived) = &self.derived {
            derived.put(out);
        }
        match (&self.base, short) {
            (_, Some(digest)) => out.extend_from_slice(&digest.0),
            (Some(base), None) => base.put(out),
            (None, None) => {}
        }
        if !self.chain.coding().is_filter() {
            put_varint(out, u64::from(self.stored[0]));
        }
        for stream in self.streams() {
            out.push(stream.coder.id());
            if stream.coder.fixed_len(stream.raw_len).is_none() {
                put_varint(out, stream.stored_len as u64);
            }
        }
    }

    /// Reads the header at the start of a stored block, and gives its length.
    ///
    /// # Errors
    /// [`CodecError`] for anything truncated, unknown or contradictory. The body is not looked at.
    pub fn read(stored: &[u8]) -> Result<(Self, usize), CodecError> {
        let mut reader = WireReader::new(stored);
        let first = reader.u8()?;
        if first & 15 != VERSION {
            return Err(CodecError::Version(first & 15));
        }
        if first & !(VERSION | SHORT_BASE | DERIVED) != 0 || first & (SHORT_BASE | DERIVED) == (SHORT_BASE | DERIVED) {
            return Err(reader.invalid("block flags").into());
        }
        let raw_len = reader.varint_up_to(MAX_METADATA as u64, "raw length")? as u32;
        let dtype = match reader.u8()? {
            0 => None,
            id => Some(DType::from_wire_id(id).ok_or(CodecError::Unsupported { stage: "data type", id })?),
        };
        if raw_len as usize > most_bytes(dtype) {
            return Err(reader.invalid("raw length").into());
        }
        let word = Word::of(dtype);
        let words = raw_len as usize / word.bytes;
        let predictor = <dyn Predictor>::from_wire_id(reader.u8()?)?;
        let mut factors = Factors::default();
        for factor in &mut factors[..predictor.factors()] {
            for shift in (0..64).step_by(8) {
                *factor |= u64::from(reader.u8()?) << shift;
            }
        }
        let residual = <dyn Residual>::from_wire_id(reader.u8()?)?;
        let coding = Coding::from_wire_id(reader.u8()?)?;
        let shape = Shape { predictor, residual, coding };
        shape.check(word)?;
        if matches!(coding, Coding::Recoded(recoding) if !recoding.may_be(word, raw_len as usize)) {
            return Err(CodecError::Chain("the recoding is not for blocks of that length"));
        }
        let exceptions = match coding.most_exceptions(words) {
            Some(most) => reader.varint_up_to(most as u64, "number of exceptional words")? as u32,
            None => 0,
        };
        let derived = match (first & DERIVED != 0, dtype, predictor.bases()) {
            (false, ..) => None,
            (true, Some(dtype), 1) => {
                let derived = Derived::read(&mut reader)?;
                derived.input_lens(Target { dtype, len: raw_len as usize })?;
                Some(derived)
            }
            _ => return Err(reader.invalid("block flags").into()),
        };
        let base = match (predictor.bases(), first & SHORT_BASE != 0) {
            (0, false) => None,
            (0 | 2.., true) => return Err(reader.invalid("block flags").into()),
            (1, true) => Some(BaseRef::whole(reader.digest()?, raw_len)),
            (_, false) => Some(BaseRef::read(&mut reader)?),
        };
        let lengths = coding.lengths(word.bytes, words, exceptions as usize);
        let mut coders: [&'static dyn EntropyCoder; MAX_STREAMS] = [&entropy::Raw; MAX_STREAMS];
        let mut stored = [0; MAX_STREAMS];
        for ((coder, stored), len) in coders.iter_mut().zip(&mut stored).zip(lengths.as_slice()) {
            *coder = <dyn EntropyCoder>::from_wire_id(reader.u8()?)?;
            *stored = match coder.fixed_len(*len) {
                Some(fixed) => fixed as u32,
                // A coder that does not make a stream shorter is not used.
                None => reader.varint_up_to(*len as u64, "stored length")? as u32,
            };
        }
        if !coding.is_filter() {
            if raw_len as usize > MAX_BLOCK {
                return Err(CodecError::Chain("context coders are for shorter blocks"));
            }
            stored[0] = reader.varint_up_to(raw_len.into(), "stored length")? as u32;
        }
        let coders = coders.get(..lengths.as_slice().len()).unwrap_or_default();
        let chain = Chain::new(shape, coders).ok_or(CodecError::Chain("too many streams"))?;
        Ok((Self { raw_len, dtype, chain, base, derived, factors, exceptions, stored }, reader.position()))
    }

    /// Bytes that a base takes in the header of a block of `raw_len` bytes, if that leans on one version.
    pub(crate) fn reference_len(base: &Base<'_>, raw_len: usize) -> usize {
        let derivation = base.derived.map_or(0, |_| DERIVATION);
        let base = base.reference(1, raw_len);
        if derivation == 0
            && base.transpose.is_none()
            && base.ranges.len() == 1
            && base.ranges.iter().all(|r| r.len as usize == raw_len)
        {
            return Digest::LEN;
        }
        derivation + 2 + base.ranges.len() * (Digest::LEN + 8)
    }
}
