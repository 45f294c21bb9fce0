//! A sample of a series' blocks, and what they take against one another.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use shard_codecs::{Base, Block, BlockHeader, CodecError, Decoder, Encoder, Level, Rows};
use shard_core::limits::Cut;
use shard_core::{BaseRef, DType, Digest, sha256};
use shard_formats::{FileSource, Source as _, parse};

/// What a version's sample takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Stored bytes.
    pub(crate) bytes: u64,
    /// Time to decode it, its bases being there.
    pub(crate) decode: Duration,
    /// Whether most of it is a delta.
    pub(crate) delta: bool,
}

struct Piece {
    dtype: DType,
    rows: Option<Rows>,
    /// By version.
    bytes: Vec<Vec<u8>>,
}

/// Blocks at the same places of every version.
pub(crate) struct Sample {
    pieces: Vec<Piece>,
    costs: HashMap<(usize, Option<usize>), Cost>,
    encoder: Encoder,
    decoder: Decoder,
    /// Bytes of a version's sample, and of the version.
    pub(crate) raw: u64,
    pub(crate) whole: u64,
    versions: usize,
    /// One SHA-256 of a version's sample.
    pub(crate) hash: Duration,
}

impl Sample {
    pub(crate) fn read(files: &[PathBuf], share: f64) -> Result<Self, Box<dyn Error>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut whole = 0;
        for (version, file) in files.iter().enumerate() {
            let source = FileSource::open(file)?;
            let layout = parse(&source)?.layout;
            let starts: Vec<u64> = layout
                .segments
                .iter()
                .scan(0, |at, segment| {
                    *at += segment.len;
                    Some(*at - segment.len)
                })
                .collect();
            whole = source.len();
            let (mut index, mut due) = (0, 0.5);
            for tensor in &layout.tensors {
                let len = tensor.byte_len().unwrap_or(0);
                let block = Cut::V1.tensor_block(tensor.dtype) as u64;
                for offset in (0..len).step_by(block as usize) {
                    let taken = (len - offset).min(block);
                    due += share * taken as f64;
                    if due < taken as f64 * 0.5 {
                        continue;
                    }
                    due -= taken as f64;
                    let mut bytes = vec![0; taken as usize];
                    source.read_at(starts[tensor.segment] + tensor.offset + offset, &mut bytes)?;
                    if version == 0 {
                        let rows = Rows::of(tensor.dtype, &tensor.shape, offset);
                        pieces.push(Piece { dtype: tensor.dtype, rows, bytes: Vec::new() });
                    }
                    pieces.get_mut(index).ok_or("files of different layouts")?.bytes.push(bytes);
                    index += 1;
                }
            }
        }
        let raw = pieces.iter().map(|piece| piece.bytes[0].len() as u64).sum();
        let start = Instant::now();
        for _ in 0..4 {
            pieces.iter().for_each(|piece| {
                std::hint::black_box(sha256(&piece.bytes[0]));
            });
        }
        let hash = start.elapsed() / 4;
        let encoder = Encoder::new(Level::Default);
        Ok(Self {
            pieces,
            costs: HashMap::new(),
            encoder,
            decoder: Decoder::new(),
            raw,
            whole,
            versions: files.len(),
            hash,
        })
    }

    pub(crate) fn versions(&self) -> usize {
        self.versions
    }

    pub(crate) fn percent(&self, cost: Cost) -> f64 {
        100.0 * cost.bytes as f64 / self.raw as f64
    }

    /// What a version takes against another, or alone.
    pub(crate) fn cost(&mut self, version: usize, base: Option<usize>) -> Result<Cost, CodecError> {
        if let Some(cost) = self.costs.get(&(version, base)) {
            return Ok(*cost);
        }
        let mut cost = Cost::default();
        let (mut stored, mut out) = (Vec::new(), Vec::new());
        let mut deltas = 0;
        for piece in &self.pieces {
            let data = &piece.bytes[version];
            let reference = BaseRef::whole(Digest([7; 32]), data.len() as u32);
            let bytes = base.map(|base| &piece.bytes[base][..]);
            if bytes == Some(&data[..]) {
                deltas += data.len() as u64;
                continue;
            }
            let base = bytes.map(|bytes| Base::new(&reference, bytes));
            stored.clear();
            let block = Block { data, dtype: Some(piece.dtype), rows: piece.rows, base };
            let encoded = self.encoder.encode(&block, &mut stored)?;
            cost.bytes += stored.len() as u64;
            deltas += if encoded.used_base { data.len() as u64 } else { 0 };
            out.resize(data.len(), 0);
            let (header, len) = BlockHeader::read(&stored)?;
            let mut least = Duration::MAX;
            for _ in 0..3 {
                let start = Instant::now();
                self.decoder.decode(&header, &stored[len..], bytes, &mut out)?;
                least = least.min(start.elapsed());
            }
            cost.decode += least;
        }
        cost.delta = deltas * 2 > self.raw;
        self.costs.insert((version, base), cost);
        Ok(cost)
    }
}
