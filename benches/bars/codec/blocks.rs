//! Blocks of tensors as the engine cuts them, and what codes them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use shard_codecs::{Base, Block, BlockHeader, Decoder, Encoder, Level, Rows};
use shard_core::limits::Cut;
use shard_core::{BaseRef, DType, TensorView, sha256};

use crate::Failure;

/// The levels by the names that `--level` takes.
pub(crate) const LEVELS: [(&str, Level); 3] = [("fast", Level::Fast), ("default", Level::Default), ("max", Level::Max)];

/// A block of a tensor, and the bytes in its place in an earlier file.
pub(crate) struct Piece {
    pub(crate) data: Vec<u8>,
    pub(crate) dtype: DType,
    rows: Option<Rows>,
    base: Option<(BaseRef, Vec<u8>)>,
}

/// What has to be stored of a file's tensors.
#[derive(Default)]
pub(crate) struct Tensors {
    /// Bytes of all tensors, equal ones too.
    pub(crate) raw: u64,
    /// The blocks of those that differ from their earlier version.
    pub(crate) pieces: Vec<Piece>,
}

impl Tensors {
    /// The tensors of a file, each with the one of the same name, type and shape in an earlier file; those that are equal to
    /// it cost nothing.
    pub(crate) fn of_pair(base: &Path, file: &Path) -> Result<Self, Failure> {
        let (base, file) = (Model::read(base)?, Model::read(file)?);
        let earlier: HashMap<&str, &TensorView> =
            base.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut found = Self::default();
        for tensor in &file.tensors {
            let earlier = earlier.get(tensor.name.as_str()).copied();
            let earlier = earlier.filter(|earlier| earlier.dtype == tensor.dtype && earlier.shape == tensor.shape);
            let data = file.data(tensor)?;
            let base = earlier.map(|earlier| base.data(earlier)).transpose()?;
            found.raw += data.len() as u64;
            if base != Some(data) {
                found.cut(tensor, data, base);
            }
        }
        Ok(found)
    }

    /// The bytes of all tensors of a file.
    pub(crate) fn bytes_of(file: &Path) -> Result<u64, Failure> {
        Ok(Model::read(file)?.tensors.iter().filter_map(TensorView::byte_len).sum())
    }

    /// The tensors of more than `above` bytes of files, each by itself.
    pub(crate) fn standalone<'a>(files: impl Iterator<Item = &'a Path>, above: usize) -> Result<Self, Failure> {
        let mut found = Self::default();
        for file in files {
            let file = Model::read(file)?;
            for tensor in &file.tensors {
                let data = file.data(tensor)?;
                if data.len() > above {
                    found.raw += data.len() as u64;
                    found.cut(tensor, data, None);
                }
            }
        }
        Ok(found)
    }

    fn cut(&mut self, tensor: &TensorView, data: &[u8], base: Option<&[u8]>) {
        let len = Cut::V1.tensor_block(tensor.dtype);
        let mut bases = base.map(|base| base.chunks(len));
        for (index, data) in data.chunks(len).enumerate() {
            let base = bases.as_mut().and_then(Iterator::next);
            self.pieces.push(Piece {
                data: data.to_vec(),
                dtype: tensor.dtype,
                rows: Rows::of(tensor.dtype, &tensor.shape, (index * len) as u64),
                base: base.map(|bytes| (BaseRef::whole(sha256(bytes), bytes.len() as u32), bytes.to_vec())),
            });
        }
    }
}

/// A model file in memory.
struct Model {
    bytes: Vec<u8>,
    /// Where each segment starts.
    starts: Vec<usize>,
    tensors: Vec<TensorView>,
}

impl Model {
    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let layout = shard_formats::parse(&bytes)?.layout;
        if layout.tensors.is_empty() {
            return Err(format!("{}: there are no tensors", path.display()).into());
        }
        let mut end = 0;
        let starts = layout.segments.iter().map(|segment| {
            let start = end;
            end += segment.len as usize;
            start
        });
        Ok(Self { starts: starts.collect(), tensors: layout.tensors, bytes })
    }

    fn data(&self, tensor: &TensorView) -> Result<&[u8], Failure> {
        let place = self.starts.get(tensor.segment).zip(tensor.byte_len());
        let range = place.map(|(start, len)| {
            let start = start + tensor.offset as usize;
            start..start + len as usize
        });
        let data = range.and_then(|range| self.bytes.get(range));
        Ok(data.ok_or_else(|| format!("{}: its bytes are not in the file", tensor.name))?)
    }
}

/// Encodes and decodes. Tables and buffers stay from one block to the next, as they do in the engine.
pub(crate) struct Coder {
    encoder: Encoder,
    decoder: Decoder,
}

impl Coder {
    pub(crate) fn new(level: Level) -> Self {
        Self { encoder: Encoder::new(level), decoder: Decoder::new() }
    }

    /// Puts the stored form of a block, header and tables included, into `out`.
    pub(crate) fn encode(&mut self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), String> {
        out.clear();
        let base = piece.base.as_ref().map(|(reference, bytes)| Base::new(reference, bytes));
        let block = Block { data: &piece.data, dtype: Some(piece.dtype), rows: piece.rows, base };
        self.encoder.encode(&block, out).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Decodes what [`Self::encode`] gave for that block into `out`, which has its length. Of the block only the base is
    /// looked at.
    pub(crate) fn decode(&mut self, stored: &[u8], piece: &Piece, out: &mut [u8]) -> Result<(), String> {
        let (header, len) = BlockHeader::read(stored).map_err(|error| error.to_string())?;
        let base = piece.base.as_ref().filter(|_| header.base.is_some()).map(|(_, bytes)| bytes.as_slice());
        self.decoder.decode(&header, &stored[len..], base, out).map_err(|error| error.to_string())
    }

    /// The stored form of every block, each checked by decoding it.
    pub(crate) fn encode_all(&mut self, pieces: &[Piece]) -> Result<Vec<Vec<u8>>, Failure> {
        let mut all = Vec::with_capacity(pieces.len());
        let mut out = Vec::new();
        for piece in pieces {
            let mut stored = Vec::new();
            self.encode(piece, &mut stored)?;
            out.resize(piece.data.len(), 0);
            self.decode(&stored, piece, &mut out)?;
            if out != piece.data {
                return Err("a round trip is not exact".into());
            }
            all.push(stored);
        }
        Ok(all)
    }
}
