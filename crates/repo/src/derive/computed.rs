//! A tensor that is computed from another one, and what each of its blocks is computed from.

use std::sync::Arc;

use shard_codecs::Derived;
use shard_codecs::derive::{Channels, Codes, Quantise};
use shard_core::limits::MAX_BASE_RANGES;
use shard_core::{BaseRange, BaseRef, DType};
use shard_manifest::BlockSpan;

use super::{DerivedBase, MadeBlocks};
use crate::parent::{Earlier, put_runs};

/// How a tensor is computed.
#[derive(Clone)]
pub(super) enum How {
    /// Each storage unit from the elements at its place.
    InPlace(Derived),
    /// Codes of floats and scales.
    Codes(Quantised),
}

/// How codes are computed.
#[derive(Clone)]
pub(super) struct Quantised {
    /// With the phase 0.
    pub(super) codes: Codes,
    /// The blocks of the scales and of the zero points, where they are given, as many as channels.
    pub(super) given: [Vec<BlockSpan>; 2],
    pub(super) made: Arc<MadeBlocks>,
}

/// What a new tensor is computed from: tensors of one type, most often one.
#[derive(Clone)]
pub(crate) struct Computed {
    pub(super) of: Vec<Earlier>,
    pub(super) from: DType,
    pub(super) to: DType,
    pub(super) how: How,
    /// Whether what is computed was seen to agree.
    pub(super) is_exact: bool,
}

impl Computed {
    /// The base of the `len` bytes at `offset`.
    pub(crate) fn base(&self, offset: u64, len: usize) -> Option<DerivedBase> {
        match &self.how {
            How::InPlace(derived) => {
                let reference = self.in_place(offset, len)?;
                Some(DerivedBase { derived: *derived, reference, made: None })
            }
            How::Codes(quantised) => self.codes(quantised, offset, len),
        }
    }

    /// The type of the other tensor.
    pub(crate) fn from(&self) -> DType {
        self.from
    }

    /// The elements at the same place of the other tensors.
    pub(crate) fn in_place(&self, offset: u64, len: usize) -> Option<BaseRef> {
        let (elements, bytes) = self.to.storage_unit();
        let from = elements * self.from.word_bytes() as u64;
        let mut ranges = Vec::new();
        for of in &self.of {
            of.put_ranges(offset / bytes * from, len as u64 / bytes * from, &mut ranges);
        }
        let is_whole = (len as u64).is_multiple_of(bytes) && ranges.len() <= MAX_BASE_RANGES;
        is_whole.then_some(BaseRef { ranges, transpose: None })
    }

    fn codes(&self, quantised: &Quantised, offset: u64, len: usize) -> Option<DerivedBase> {
        let codes = Codes { phase: offset, ..quantised.codes };
        let columns = codes.columns;
        let (first, last) = (offset / columns, (offset + len as u64).div_ceil(columns));
        let float = self.from.word_bytes() as u64;
        let is_by_row = codes.channels == Channels::Row;
        let mut ranges: Vec<BaseRange> = Vec::new();
        let floats = match codes.transposed_rows {
            Some(rows) => 0..rows * columns,
            None if is_by_row => first * columns..last * columns,
            None => offset..offset + len as u64,
        };
        self.of.first()?.put_ranges(floats.start * float, (floats.end - floats.start) * float, &mut ranges);
        for (blocks, dtype) in quantised.given.iter().zip([codes.scale, codes.zero]) {
            let Some(dtype) = dtype else { continue };
            let word = dtype.word_bytes() as u64;
            let all = blocks.iter().map(|block| u64::from(block.len)).sum::<u64>() / word;
            let channels = if is_by_row && codes.transposed_rows.is_none() { first..last } else { 0..all };
            put_runs(blocks, channels.start * word, (channels.end - channels.start) * word, &mut ranges);
        }
        (ranges.len() <= MAX_BASE_RANGES).then(|| DerivedBase {
            derived: Quantise::new(&codes),
            reference: BaseRef { ranges, transpose: None },
            made: Some(Arc::clone(&quantised.made)),
        })
    }
}
