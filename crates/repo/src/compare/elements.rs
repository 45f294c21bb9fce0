//! Runs of a tensor's elements, as numbers and as words.

use shard_core::{DType, TensorView};

use super::contents::Placed;
use super::part::PartReader;
use crate::error::Result;
use crate::numeric::push_values;

/// Reads elements of one tensor.
pub(super) struct Elements<'a> {
    reader: PartReader<'a>,
    tensor: &'a TensorView,
    pub(super) bytes: Vec<u8>,
    /// The values of the elements that were read, from the first on; of the last storage unit all.
    pub(super) values: Vec<f64>,
}

impl<'a> Elements<'a> {
    pub(super) fn new((part, tensor): Placed<'a>) -> Self {
        Self { reader: PartReader::new(part), tensor, bytes: Vec::new(), values: Vec::new() }
    }

    pub(super) fn dtype(&self) -> DType {
        self.tensor.dtype
    }

    /// Reads elements `first` to `first + count`; `false` for types without known values.
    pub(super) fn read(&mut self, first: u64, count: u64) -> Result<bool> {
        let (elements, unit) = self.tensor.dtype.storage_unit();
        let (from, to) = (first / elements, (first + count).div_ceil(elements));
        self.reader.read(self.tensor, from * unit, (to - from) * unit, &mut self.bytes)?;
        self.values.clear();
        let is_known = push_values(self.tensor.dtype, &self.bytes, &mut self.values);
        self.values.drain(..((first - from * elements) as usize).min(self.values.len()));
        Ok(is_known)
    }

    /// Whether each element is one word.
    pub(super) fn has_words(&self) -> bool {
        let dtype = self.tensor.dtype;
        dtype.storage_unit() == (1, dtype.word_bytes() as u64)
    }

    /// The word of an element that was read, where an element is one.
    pub(super) fn words(&self, index: usize) -> Option<&[u8]> {
        let bytes = self.tensor.dtype.word_bytes();
        self.has_words().then(|| self.bytes.get(index * bytes..(index + 1) * bytes))?
    }
}
