//! Whether a tensor is computed from another one, and how: by its first words.

use std::path::Path;

use shard_codecs::derive::quantise::{Sample, fit};
use shard_codecs::derive::{Cast, Channels, Codes, Ggml, NanRule, Rounding};
use shard_codecs::kernel::Isa;
use shard_core::{DType, TensorView};
use shard_formats::Source;

use super::computed::{How, Quantised};
use super::search::Small;
use super::{MadeBlocks, make_blocks};
use crate::error::Result;
use crate::parent::read_part;

/// Elements that are compared.
const COMPARED: usize = 16 << 10;
/// Of tensors that are quantised by rows or columns, which have to be whole.
const COMPARED_CODES: usize = 64 << 10;

/// A tensor of the new file.
pub(super) struct New<'a> {
    pub(super) tensor: &'a TensorView,
    /// Where it starts in the file, in bytes.
    pub(super) start: u64,
    pub(super) source: &'a dyn Source,
    pub(super) path: &'a Path,
    /// The small tensors of the file, which may be scales.
    pub(super) small: &'a [Small<'a>],
}

/// Whether nearly all are equal.
fn agrees(equal: usize, count: usize) -> bool {
    equal * 16 >= count * 15
}

impl New<'_> {
    /// How the tensor is computed from another one, of which `words` are the first in its type; `transposed` where it lies
    /// transposed to that.
    pub(super) fn how(&self, (from, words): (DType, &[u8]), transposed: bool) -> Result<Option<How>> {
        let to = self.tensor.dtype;
        if to.float().is_some() && !transposed {
            return self.cast(from, words);
        }
        if Ggml::makes(to) && !transposed {
            return self.ggml(from, words);
        }
        if matches!(to, DType::I8 | DType::U8) { self.codes(from, words, transposed) } else { Ok(None) }
    }

    fn cast(&self, from: DType, words: &[u8]) -> Result<Option<How>> {
        let (isa, to) = (Isa::best(), self.tensor.dtype);
        let count = (words.len() / from.word_bytes()).min(COMPARED);
        let words = &words[..count * from.word_bytes()];
        let mut own = vec![0; count * to.word_bytes()];
        self.read(0, &mut own)?;
        let is_close = |found: &(_, usize)| agrees(found.1, count);
        if let Some((cast, _)) = Cast::find(isa, (from, words), (to, &own)).filter(is_close) {
            return Ok(Some(How::InPlace(cast)));
        }
        // The other was made of this one: what it lost is all that is left.
        let widens = Cast::find(isa, (to, &own), (from, words)).is_some_and(|found| is_close(&found));
        Ok(widens.then(|| How::InPlace(Cast::of(from, Rounding::Nearest, NanRule::Payload, false))))
    }

    fn ggml(&self, from: DType, words: &[u8]) -> Result<Option<How>> {
        let (elements, bytes) = self.tensor.dtype.storage_unit();
        let unit = elements as usize * from.word_bytes();
        let count = (words.len() / unit).min(COMPARED / elements as usize);
        let mut own = vec![0; count * bytes as usize];
        self.read(0, &mut own)?;
        let target = shard_codecs::derive::Target { dtype: self.tensor.dtype, len: own.len() };
        let mut made = vec![0; own.len()];
        for fused in [false, true] {
            let derived = Ggml::of(from, fused);
            if derived.derive(Isa::best(), target, &words[..count * unit], &mut made).is_ok() {
                let equal = made.iter().zip(&own).filter(|(made, own)| made == own).count();
                // Not all: programs differ in their last bits.
                if count > 0 && equal * 4 >= made.len() * 3 {
                    return Ok(Some(How::InPlace(derived)));
                }
            }
        }
        Ok(None)
    }

    fn codes(&self, from: DType, words: &[u8], transposed: bool) -> Result<Option<How>> {
        let shape = self.tensor.stored_shape();
        let [first, others @ ..] = &shape[..] else { return Ok(None) };
        // As the floats lie.
        let (rows, columns) = match (transposed, others) {
            (true, [second]) => (*second, *first),
            _ => (*first, others.iter().product()),
        };
        let row = columns as usize * from.word_bytes();
        let count =
            (words.len() / row.max(1)).min((COMPARED_CODES / columns.max(1) as usize).max(1)).min(rows as usize);
        if count == 0 {
            return Ok(None);
        }
        let mut own = vec![0; count * columns as usize];
        if transposed {
            // Row by row of the codes, the first few of each.
            let mut part = vec![0; count];
            for at in 0..columns as usize {
                self.read(at as u64 * rows, &mut part)?;
                for (index, code) in part.iter().enumerate() {
                    own[index * columns as usize + at] = *code;
                }
            }
        } else {
            self.read(0, &mut own)?;
        }
        let tensors: Vec<(DType, &[u8])> = self.small.iter().map(|small| (small.dtype, &small.bytes[..])).collect();
        let sample = Sample {
            source: (from, &words[..count * row]),
            codes: (self.tensor.dtype, &own),
            columns: columns as usize,
            rows: rows as usize,
        };
        let Some(found) = fit(Isa::best(), &sample, &tensors).filter(|found| found.equal * 8 >= own.len() * 5) else {
            return Ok(None);
        };
        let swap = |channels: Channels| match channels {
            Channels::Row => Channels::Column,
            Channels::Column => Channels::Row,
            Channels::Tensor => Channels::Tensor,
        };
        let codes = match transposed {
            true => Codes {
                columns: rows,
                channels: swap(found.codes.channels),
                transposed_rows: Some(columns),
                ..found.codes
            },
            false => found.codes,
        };
        let mut all = Vec::new();
        let mut given = [Vec::new(), Vec::new()];
        let mut segments = Vec::new();
        for (place, index) in given.iter_mut().zip(found.given) {
            if let Some(small) = index.and_then(|index| self.small.get(index)) {
                *place = make_blocks(small.dtype, &small.bytes, self.path, &mut all)?;
                segments.push(small.segment);
            }
        }
        Ok(Some(How::Codes(Quantised { codes, given, made: MadeBlocks::new(all), segments })))
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        read_part(self.source, self.start + offset, bytes, self.path)
    }
}
