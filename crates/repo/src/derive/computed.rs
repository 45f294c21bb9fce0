//! A tensor that is computed from another one, and what each of its blocks is computed from.

use std::sync::Arc;

use shard_codecs::Derived;
use shard_codecs::derive::{Channels, Codes, Moments, Sizes};
use shard_core::limits::MAX_BASE_RANGES;
use shard_core::{BaseRange, BaseRef, DType};
use shard_manifest::{BlockSpan, ManifestSegment};

use super::{DerivedBase, Formula, MadeBlocks};
use crate::parent::{Earlier, put_runs};

/// How a tensor is computed.
#[derive(Clone)]
pub(super) enum How {
    /// Each storage unit from the elements at its place.
    InPlace(Derived),
    /// Codes of floats and scales.
    Codes(Quantised),
    /// Weights from those before and an optimizer's moments; each block has factors of its own.
    Step(Moments),
    /// Magnitudes from other tensors, and from scales of rows and columns; each block has exponents of its own.
    Sizes(Sizes, Option<RowsAndColumns>),
}

/// How codes are computed.
#[derive(Clone)]
pub(super) struct Quantised {
    /// With the phase 0.
    pub(super) codes: Codes,
    /// The blocks of the scales and of the zero points, where they are given, as many as channels.
    pub(super) given: [Vec<BlockSpan>; 2],
    pub(super) made: Arc<MadeBlocks>,
    /// The segments that these blocks are.
    pub(super) segments: Vec<usize>,
}

/// The scales of a matrix' rows and columns.
#[derive(Clone)]
pub(super) struct RowsAndColumns {
    pub(super) dtype: DType,
    pub(super) blocks: [Vec<BlockSpan>; 2],
    pub(super) made: Arc<MadeBlocks>,
}

/// A tensor that another is computed from.
#[derive(Clone)]
pub(super) enum Input {
    Earlier(Earlier, DType),
    /// One of the same file, by its segment.
    Own(usize, DType),
}

impl Input {
    fn dtype(&self) -> DType {
        match self {
            Self::Earlier(_, dtype) | Self::Own(_, dtype) => *dtype,
        }
    }

    fn put_ranges(&self, own: &[ManifestSegment], start: u64, len: u64, ranges: &mut Vec<BaseRange>) {
        match self {
            Self::Earlier(earlier, _) => earlier.put_ranges(start, len, ranges),
            Self::Own(segment, _) => {
                put_runs(own.get(*segment).map_or(&[], |segment| &segment.blocks), start, len, ranges);
            }
        }
    }
}

/// What a new tensor is computed from.
#[derive(Clone)]
pub(crate) struct Computed {
    pub(super) of: Vec<Input>,
    pub(super) to: DType,
    pub(super) how: How,
    /// Whether what is computed was seen to agree.
    pub(super) is_exact: bool,
    /// How many tensors of the same file have to come before it, one computed from the other.
    pub(super) level: u32,
}

impl Computed {
    /// That, of earlier tensors.
    pub(super) fn new(of: Vec<Input>, to: DType, how: How, is_exact: bool) -> Self {
        Self { of, to, how, is_exact, level: 0 }
    }

    /// Segments of the same file that are among the blocks made for it: they must not lean on others themselves.
    pub(crate) fn alone(&self) -> &[usize] {
        if let How::Codes(quantised) = &self.how { &quantised.segments } else { &[] }
    }

    /// See the field.
    pub(crate) fn level(&self) -> u32 {
        self.level
    }

    /// The same from fewer tensors, for where these lean on too much: the second moment from its scales alone, weights from this
    /// checkpoint's moments without those before.
    pub(crate) fn on_fewer(&self) -> Option<Self> {
        let (how, of) = match &self.how {
            How::Sizes(sizes, Some(scales)) if sizes.tensors > 0 => {
                (How::Sizes(Sizes { tensors: 0, ..*sizes }, Some(scales.clone())), 0)
            }
            How::Step(moments) if moments.pairs > 1 => {
                (How::Step(Moments { pairs: 1, ..*moments }), 2 + usize::from(moments.second))
            }
            _ => return None,
        };
        Some(Self { how, of: self.of.get(..of)?.to_vec(), ..self.clone() })
    }

    /// The base of the `len` bytes at `offset`. `own` is what is known of the tensors of the same file.
    pub(crate) fn base(&self, offset: u64, len: usize, own: &[ManifestSegment]) -> Option<DerivedBase> {
        match &self.how {
            How::InPlace(derived) => {
                let reference = self.in_place(offset, len, own)?;
                Some(DerivedBase { formula: Formula::Known(*derived), reference, made: None })
            }
            How::Codes(quantised) => self.codes(quantised, offset, len),
            How::Step(moments) => {
                let reference = self.in_place(offset, len, own)?;
                Some(DerivedBase { formula: Formula::Step(*moments), reference, made: None })
            }
            How::Sizes(sizes, scales) => {
                let BaseRef { mut ranges, .. } = self.in_place(offset, len, own)?;
                let elements = |bytes: u64| bytes / self.to.word_bytes() as u64;
                let sizes = Sizes { phase: elements(offset), ..*sizes };
                if let Some(scales) = scales {
                    let word = scales.dtype.word_bytes() as u64;
                    let last = elements(offset + len as u64).div_ceil(sizes.columns);
                    let (first, [rows, columns]) = (sizes.phase / sizes.columns, &scales.blocks);
                    put_runs(rows, first * word, (last - first) * word, &mut ranges);
                    put_runs(columns, 0, sizes.columns * word, &mut ranges);
                }
                (ranges.len() <= MAX_BASE_RANGES).then(|| DerivedBase {
                    formula: Formula::Sizes(sizes),
                    reference: BaseRef { ranges, transpose: None },
                    made: scales.as_ref().map(|scales| Arc::clone(&scales.made)),
                })
            }
        }
    }

    /// The type of the one other tensor, if its elements at the same places are a base.
    pub(crate) fn nearest(&self) -> Option<DType> {
        match (&self.how, &self.of[..]) {
            (How::InPlace(_), [one]) => Some(one.dtype()),
            _ => None,
        }
    }

    /// The elements at the same place of the other tensors.
    pub(crate) fn in_place(&self, offset: u64, len: usize, own: &[ManifestSegment]) -> Option<BaseRef> {
        let (elements, bytes) = self.to.storage_unit();
        let mut ranges = Vec::new();
        for of in &self.of {
            let from = elements * of.dtype().word_bytes() as u64;
            of.put_ranges(own, offset / bytes * from, len as u64 / bytes * from, &mut ranges);
        }
        let is_whole = (len as u64).is_multiple_of(bytes) && ranges.len() <= MAX_BASE_RANGES;
        is_whole.then_some(BaseRef { ranges, transpose: None })
    }

    fn codes(&self, quantised: &Quantised, offset: u64, len: usize) -> Option<DerivedBase> {
        let codes = Codes { phase: offset, ..quantised.codes };
        let columns = codes.columns;
        let (first, last) = (offset / columns, (offset + len as u64).div_ceil(columns));
        let of = self.of.first()?;
        let float = of.dtype().word_bytes() as u64;
        let is_by_row = codes.channels == Channels::Row;
        let mut ranges: Vec<BaseRange> = Vec::new();
        let floats = match codes.transposed_rows {
            Some(rows) => 0..rows * columns,
            None if is_by_row => first * columns..last * columns,
            None => offset..offset + len as u64,
        };
        of.put_ranges(&[], floats.start * float, (floats.end - floats.start) * float, &mut ranges);
        for (blocks, dtype) in quantised.given.iter().zip([codes.scale, codes.zero]) {
            let Some(dtype) = dtype else { continue };
            let word = dtype.word_bytes() as u64;
            let all = blocks.iter().map(|block| u64::from(block.len)).sum::<u64>() / word;
            let channels = if is_by_row && codes.transposed_rows.is_none() { first..last } else { 0..all };
            put_runs(blocks, channels.start * word, (channels.end - channels.start) * word, &mut ranges);
        }
        (ranges.len() <= MAX_BASE_RANGES).then(|| DerivedBase {
            formula: Formula::Known(codes.derived()),
            reference: BaseRef { ranges, transpose: None },
            made: Some(Arc::clone(&quantised.made)),
        })
    }
}
