//! The codecs that are measured. Everything that `bench` asks of shard's own codecs is asked in this file.

use std::collections::BTreeSet;

use shard_baselines::{BitX, Packed, Zstd};
use shard_codecs::{Base, Block, BlockHeader, CodecError, Decoder, Encoder, Level, Rows, Shape, Word};
use shard_core::{BaseRef, DType};

use super::error::BenchError;

/// A block to be coded, and what may predict it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) data: &'a [u8],
    /// The element type; `None` is opaque bytes.
    pub(super) dtype: Option<DType>,
    /// How the tensor's rows lie in it.
    pub(super) rows: Option<Rows>,
    /// The same bytes of the file before, and how a block would name them.
    pub(super) base: Option<(&'a BaseRef, &'a [u8])>,
}

impl<'a> Piece<'a> {
    fn block(&self) -> Block<'a> {
        let base = self.base.map(|(reference, bytes)| Base::new(reference, bytes));
        Block { data: self.data, dtype: self.dtype, rows: self.rows, base }
    }

    fn base_bytes(&self) -> Option<&'a [u8]> {
        self.base.map(|(_, bytes)| bytes)
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Codec {
    /// shard, choosing a chain for each block.
    Shard(Level),
    /// zstd on the bytes as they are.
    Zstd,
    /// The published delta.
    BitX,
    /// One of shard's chains, by the name of its shape; its streams' coders are chosen at this level.
    Chain(String, Level),
}

impl Codec {
    /// The name in tables.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Shard(level) => format!("shard {}", level_name(*level)),
            Self::Zstd => format!("zstd -{}", shard_baselines::ZSTD_LEVEL),
            Self::BitX => "BitX".to_owned(),
            Self::Chain(name, _) => name.clone(),
        }
    }
}

/// The word for a level, as options have it.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Fast => "fast",
        Level::Default => "default",
        Level::Max => "max",
    }
}

/// The names of every chain that is legal for one of these types, each once, in the order of wire ids.
pub(super) fn chain_names(dtypes: &BTreeSet<Option<DType>>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for dtype in dtypes {
        // What only some types have goes where it stands for them, after the name before.
        let mut next = 0;
        for name in Shape::legal(Word::of(*dtype)).map(|shape| shape.to_string()) {
            let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.insert(next, name);
                next
            });
            next = place + 1;
        }
    }
    names
}

/// What would be stored for a block, and what else came into question.
#[derive(Debug)]
pub(super) struct Explanation {
    /// The chain that was chosen.
    pub(super) chain: String,
    /// Bytes stored with it.
    pub(super) stored: u64,
    /// Every chain that was looked at and the bytes it was expected to take, best first.
    pub(super) estimates: Vec<(String, u64)>,
}

/// Encodes and decodes with any codec. Tables, contexts and buffers stay from one block to the next, as they do in the
/// engine; an encoding is kept until the next, for its decoding.
pub(super) struct Coders {
    encoders: [(Level, Encoder); 3],
    decoder: Decoder,
    zstd: Zstd,
    bitx: BitX,
    stored: Vec<u8>,
    packed: Packed,
}

impl Coders {
    pub(super) fn new() -> Result<Self, BenchError> {
        Ok(Self {
            encoders: [Level::Fast, Level::Default, Level::Max].map(|level| (level, Encoder::new(level))),
            decoder: Decoder::new(),
            zstd: Zstd::new().map_err(BenchError::Compressor)?,
            bitx: BitX::new().map_err(BenchError::Compressor)?,
            stored: Vec::new(),
            packed: Packed::default(),
        })
    }

    /// Encodes a block and gives the bytes that are stored; `None` where the codec does not take such blocks.
    pub(super) fn encode(&mut self, codec: &Prepared, piece: &Piece<'_>) -> Result<Option<u64>, BenchError> {
        let stored = &mut self.stored;
        match codec {
            Prepared::Shard(level) => {
                stored.clear();
                let encoder = encoder(&mut self.encoders, *level);
                encoder.encode(&piece.block(), stored).map_err(BenchError::Codec)?;
            }
            Prepared::Shape(shape, level) => {
                stored.clear();
                match encoder(&mut self.encoders, *level).encode_with(*shape, &piece.block(), stored) {
                    // Not every chain takes every block: some need a base, some few exceptions.
                    Err(CodecError::Chain(_) | CodecError::BaseMissing) => return Ok(None),
                    encoded => encoded.map_err(BenchError::Codec)?,
                };
            }
            Prepared::Unfit => return Ok(None),
            #[cfg(test)]
            Prepared::Idle => return Ok(Some(1)),
            Prepared::Zstd => self.zstd.compress(piece.data, stored).map_err(BenchError::Compressor)?,
            Prepared::BitX => {
                let base = piece.base_bytes();
                let packed = &mut self.packed;
                self.bitx.encode(piece.dtype, piece.data, base, packed).map_err(BenchError::Compressor)?;
                return Ok(Some(packed.stored_len()));
            }
        }
        Ok(Some(stored.len() as u64))
    }

    /// Decodes what was encoded last.
    pub(super) fn decode(&mut self, codec: &Prepared, piece: &Piece<'_>, out: &mut [u8]) -> Result<(), BenchError> {
        match codec {
            Prepared::Shard(_) | Prepared::Shape(..) => {
                let (header, len) = BlockHeader::read(&self.stored).map_err(BenchError::Codec)?;
                let base = piece.base_bytes().filter(|_| header.base.is_some());
                let body = self.stored.get(len..).unwrap_or_default();
                self.decoder.decode(&header, body, base, out).map_err(BenchError::Codec)
            }
            Prepared::Unfit => Ok(()),
            #[cfg(test)]
            Prepared::Idle => Ok(()),
            Prepared::Zstd => self.zstd.decompress(&self.stored, out).map_err(BenchError::Compressor),
            Prepared::BitX => {
                let base = piece.base_bytes();
                self.bitx.decode(piece.dtype, &self.packed, base, out).map_err(BenchError::Compressor)
            }
        }
    }

    /// How shard chooses for a block, at a level.
    pub(super) fn explain(&mut self, level: Level, piece: &Piece<'_>) -> Result<Explanation, BenchError> {
        let encoder = encoder(&mut self.encoders, level);
        let block = piece.block();
        let candidates = encoder.explain(&block).map_err(BenchError::Codec)?;
        let estimates = candidates.iter().map(|candidate| (candidate.shape.to_string(), candidate.estimated)).collect();
        self.stored.clear();
        let encoded = encoder.encode(&block, &mut self.stored).map_err(BenchError::Codec)?;
        Ok(Explanation { chain: encoded.chain.to_string(), stored: encoded.stored_len as u64, estimates })
    }
}

fn encoder(encoders: &mut [(Level, Encoder); 3], level: Level) -> &mut Encoder {
    let [first, second, third] = encoders;
    let found = [first, second].into_iter().find(|(of, _)| *of == level);
    &mut found.unwrap_or(third).1
}

/// A codec made ready for one type of words, so that looking up its stages is not part of what is timed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Prepared {
    Shard(Level),
    Shape(Shape, Level),
    /// A chain that is not legal for these words.
    Unfit,
    Zstd,
    BitX,
    /// Claims to have done it, and does nothing: what the check of round trips is tested with.
    #[cfg(test)]
    Idle,
}

impl Prepared {
    pub(super) fn new(codec: &Codec, dtype: Option<DType>) -> Self {
        match codec {
            Codec::Shard(level) => Self::Shard(*level),
            Codec::Zstd => Self::Zstd,
            Codec::BitX => Self::BitX,
            Codec::Chain(name, level) => {
                let found = Shape::legal(Word::of(dtype)).find(|shape| shape.to_string() == *name);
                found.map_or(Self::Unfit, |shape| Self::Shape(shape, *level))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;

    use super::*;

    #[test]
    fn every_codec_gives_every_block_back() {
        let data: Vec<u8> = (0..9000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut before = data.clone();
        before.iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
        let reference = BaseRef::whole(sha256(&before), before.len() as u32);
        let mut coders = Coders::new().unwrap();
        for dtype in [Some(DType::BF16), Some(DType::F32), Some(DType::I8), None] {
            let levels = [Level::Fast, Level::Default, Level::Max].map(Codec::Shard);
            let chains = chain_names(&BTreeSet::from([dtype]));
            assert!(chains.len() >= 2, "{chains:?}");
            let chains = chains.into_iter().map(|name| Codec::Chain(name, Level::Default));
            for codec in levels.into_iter().chain([Codec::Zstd, Codec::BitX]).chain(chains) {
                let ready = Prepared::new(&codec, dtype);
                for base in [None, Some((&reference, &before[..]))] {
                    let piece = Piece { data: &data, dtype, rows: None, base };
                    let Some(stored) = coders.encode(&ready, &piece).unwrap() else {
                        assert!(matches!(codec, Codec::Chain(..)), "{codec:?}");
                        continue;
                    };
                    let mut out = vec![0; data.len()];
                    coders.decode(&ready, &piece, &mut out).unwrap();
                    assert!(out == data && stored > 0, "{codec:?} {dtype:?}");
                }
            }
        }
    }

    #[test]
    fn chains_are_found_by_their_names() {
        let dtypes = BTreeSet::from([Some(DType::BF16), None]);
        let names = chain_names(&dtypes);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each once");
        assert!(names.iter().any(|name| name == "zero") && names.iter().any(|name| name.starts_with("parent+")));
        assert_eq!(
            names,
            chain_names(&BTreeSet::from([Some(DType::BF16)])),
            "words of two bytes take all that bytes do"
        );
        let codec = Codec::Chain("no such chain".to_owned(), Level::Fast);
        assert!(matches!(Prepared::new(&codec, None), Prepared::Unfit));
    }

    #[test]
    fn an_explanation_has_the_choice_and_its_rivals() {
        let data = vec![3; 4096];
        let piece = Piece { data: &data, dtype: Some(DType::BF16), rows: None, base: None };
        let explanation = Coders::new().unwrap().explain(Level::Default, &piece).unwrap();
        assert!(explanation.stored < 100 && explanation.chain.contains('['), "{explanation:?}");
        assert!(explanation.estimates.is_sorted_by_key(|(_, bytes)| *bytes), "{explanation:?}");
    }
}
