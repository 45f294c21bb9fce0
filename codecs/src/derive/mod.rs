//! Derivations: what a tensor's words should be, computed from other tensors.
//!
//! Much of what is stored was computed from what is stored already: a bf16 copy of an fp32 master, quantised weights, a base
//! with an adapter merged in. A derivation does the computation again, and what comes out is the base that the rest of the chain
//! leans on: an exact derivation leaves residuals of zeros, one that is nearly right small ones.
//!
//! A derivation has *inputs*, bytes of other blocks that the block's base reference names one after the other, and *numbers*,
//! which are in the block's header. All arithmetic is integer, or IEEE 754 operations on binary32 and binary64 in the order
//! written, so that every machine derives the same bits.

mod cast;
mod ggml;
mod linear;
mod low_rank;
mod magnitude;
mod moments;
/// Codes of 8 bits, and how they were made.
pub mod quantise;
mod values;

pub use cast::{Cast, NanRule, Rounding};
pub use ggml::Ggml;
pub(crate) use ggml::put_codes;
pub use linear::{Linear, Sum, Summing};
pub use low_rank::{Arithmetic, Change, Factors, LowRank, Merge, words};
pub use magnitude::{Magnitude, Scales, Sizes};
pub use moments::{Moments, Step};
pub use quantise::{Channels, Codes, Quantise};
pub(crate) use values::{Float, store, values};

use shard_core::limits::MAX_BLOCK;
use shard_core::wire::put_varint;
use shard_core::{DType, WireReader};

use crate::CodecError;
use crate::kernel::Isa;

/// Most inputs of a derivation.
pub const MAX_INPUTS: usize = 8;
/// Most numbers of a derivation.
pub const MAX_NUMBERS: usize = 12;
/// Most bytes of all inputs of a block together: words of 2 bits may be made of such of 32.
pub const MAX_INPUT: usize = 16 * MAX_BLOCK;

/// The numbers of a derivation, as many as [`Derivation::numbers`] says, the others 0.
pub type Numbers = [u64; MAX_NUMBERS];

/// The form of a number in a block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// The bits of a binary64, little-endian.
    Factor,
    /// The wire id of a data type, a byte.
    DType,
    /// A varint up to that.
    UpTo(u64),
}

/// What is derived: a block of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The element type.
    pub dtype: DType,
    /// Length in bytes.
    pub len: usize,
}

impl Target {
    /// The number of elements.
    ///
    /// # Errors
    /// [`CodecError::Chain`] where the length is no whole number of storage units.
    pub fn elements(self) -> Result<usize, CodecError> {
        let (elements, bytes) = self.dtype.storage_unit();
        if self.len.is_multiple_of(bytes as usize) {
            Ok(self.len / bytes as usize * elements as usize)
        } else {
            Err(CodecError::Chain("only whole elements can be derived"))
        }
    }
}

/// The lengths of a derivation's inputs in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputLens {
    lens: [usize; MAX_INPUTS],
    count: usize,
}

impl InputLens {
    fn of(lens: &[usize]) -> Self {
        let mut all = Self { count: lens.len().min(MAX_INPUTS), ..Self::default() };
        all.lens[..all.count].copy_from_slice(&lens[..all.count]);
        all
    }

    /// The lengths, in the order of the inputs.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.lens[..self.count]
    }

    /// The inputs, which lie one after the other; `None` where there are fewer bytes.
    fn split<'a>(&self, mut input: &'a [u8]) -> Option<([&'a [u8]; MAX_INPUTS], usize)> {
        let mut inputs = [&[][..]; MAX_INPUTS];
        for (place, len) in inputs.iter_mut().zip(self.as_slice()) {
            (*place, input) = input.split_at_checked(*len)?;
        }
        Some((inputs, self.count))
    }

    /// The sum of all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.as_slice().iter().fold(0, |sum, len| sum.saturating_add(*len))
    }
}

/// A way to compute the words of a block.
pub trait Derivation: Sync {
    /// The stable number in block headers.
    fn id(&self) -> u8;
    /// The name in reports.
    fn name(&self) -> &'static str;
    /// Whether what is derived tells the magnitude of words, and nothing of their signs.
    fn is_unsigned(&self) -> bool {
        false
    }
    /// Whether such words take much longer to derive than to decode.
    fn is_slow(&self, _dtype: DType) -> bool {
        false
    }
    /// The forms of its numbers, in the order of the header.
    fn numbers(&self) -> &'static [Number];
    /// The lengths of its inputs.
    ///
    /// # Errors
    /// [`CodecError::Chain`] where the numbers contradict each other or the target.
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError>;
    /// Computes the block: `out` has its length, and the inputs those that [`Self::input_lens`] gave.
    ///
    /// # Errors
    /// As [`Self::input_lens`].
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError>;
}

crate::chain::registered!(Derivation, "derivation", derivations);

/// A derivation with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Derived {
    stage: &'static dyn Derivation,
    numbers: Numbers,
}

impl Derived {
    fn new(stage: &'static dyn Derivation, numbers: &[u64]) -> Self {
        let mut all = [0; MAX_NUMBERS];
        for (place, number) in all.iter_mut().zip(numbers) {
            *place = *number;
        }
        Self { stage, numbers: all }
    }

    /// The name of the derivation.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.stage.name()
    }

    /// The numbers, each with its form, in the order of the header.
    pub fn numbers(&self) -> impl Iterator<Item = (Number, u64)> {
        self.stage.numbers().iter().copied().zip(self.numbers)
    }

    /// See [`Derivation::is_unsigned`].
    #[must_use]
    pub fn is_unsigned(&self) -> bool {
        self.stage.is_unsigned()
    }

    /// See [`Derivation::is_slow`].
    #[must_use]
    pub fn is_slow(&self, dtype: DType) -> bool {
        self.stage.is_slow(dtype)
    }

    /// The lengths of the inputs for such a block.
    ///
    /// # Errors
    /// [`CodecError::Chain`] where there is no such block, or its inputs were more than [`MAX_INPUT`].
    pub fn input_lens(&self, target: Target) -> Result<InputLens, CodecError> {
        let is_in_form = |(form, number): (Number, u64)| match form {
            Number::Factor => true,
            Number::DType => dtype(number).is_ok(),
            Number::UpTo(most) => number <= most,
        };
        if !self.numbers().all(is_in_form) {
            return Err(CodecError::Chain("a number of a derivation is beyond its bound"));
        }
        let lens = self.stage.input_lens(target, &self.numbers)?;
        if lens.total() > MAX_INPUT {
            return Err(CodecError::Chain("the inputs of a derivation are too long"));
        }
        Ok(lens)
    }

    /// Computes a block from its inputs, which lie one after the other in `input`.
    ///
    /// # Errors
    /// As [`Self::input_lens`]; [`CodecError::Length`] for inputs or an output of another length.
    pub fn derive(&self, isa: Isa, target: Target, input: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let lens = self.input_lens(target)?;
        let lengths = [("the inputs", input.len(), lens.total()), ("the output", out.len(), target.len)];
        if let Some((what, got, wanted)) = lengths.into_iter().find(|(_, got, wanted)| got != wanted) {
            return Err(CodecError::Length { what, got, wanted });
        }
        let (inputs, count) = lens.split(input).ok_or(CodecError::BaseMissing)?;
        self.stage.derive(isa, target, &self.numbers, &inputs[..count], out)
    }

    /// Appends the wire form: the wire id, then the numbers.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.stage.id());
        for (number, form) in self.numbers.iter().zip(self.stage.numbers()) {
            match form {
                Number::Factor => out.extend_from_slice(&number.to_le_bytes()),
                Number::DType => out.push(*number as u8),
                Number::UpTo(_) => put_varint(out, *number),
            }
        }
    }

    /// Reads the wire form.
    pub(crate) fn read(reader: &mut WireReader<'_>) -> Result<Self, CodecError> {
        let stage = <dyn Derivation>::from_wire_id(reader.u8()?)?;
        let mut numbers = [0; MAX_NUMBERS];
        for (number, form) in numbers.iter_mut().zip(stage.numbers()) {
            *number = match form {
                Number::Factor => {
                    let mut bits = 0;
                    for shift in (0..64).step_by(8) {
                        bits |= u64::from(reader.u8()?) << shift;
                    }
                    bits
                }
                Number::DType => {
                    let id = reader.u8()?;
                    DType::from_wire_id(id).ok_or(CodecError::Unsupported { stage: "data type", id })?;
                    u64::from(id)
                }
                Number::UpTo(most) => reader.varint_up_to(*most, "number of a derivation")?,
            };
        }
        Ok(Self { stage, numbers })
    }
}

/// The data type that a number names.
fn dtype(number: u64) -> Result<DType, CodecError> {
    let id = u8::try_from(number).unwrap_or(0);
    DType::from_wire_id(id).ok_or(CodecError::Unsupported { stage: "data type", id })
}

/// The bytes of so many elements of a type that has whole bytes.
fn byte_len(dtype: DType, elements: usize) -> Result<usize, CodecError> {
    let len = dtype.byte_len(elements as u64).and_then(|len| usize::try_from(len).ok());
    len.ok_or(CodecError::Chain("the inputs of a derivation are no whole elements"))
}

/// The solution of a system of equations with a symmetric, positive definite matrix (Gauss's elimination); `None` where there is none.
fn solve(matrix: &[f64], along: &[f64]) -> Option<Vec<f64>> {
    let size = along.len();
    let rows = matrix.chunks_exact(size.max(1)).zip(along);
    let mut rows: Vec<Vec<f64>> = rows.map(|(row, along)| row.iter().copied().chain([*along]).collect()).collect();
    for pivot in 0..size {
        let value = rows[pivot][pivot];
        // What depends on the others has nothing left on the diagonal.
        if !value.is_finite() || value <= matrix[pivot * size + pivot] * 1e-12 {
            return None;
        }
        let pivot_row = rows[pivot].clone();
        for (index, row) in rows.iter_mut().enumerate() {
            let share = if index == pivot { 0.0 } else { row[pivot] / value };
            row.iter_mut().zip(&pivot_row).for_each(|(entry, above)| *entry -= share * above);
        }
    }
    let found: Vec<f64> = rows.iter().enumerate().map(|(index, row)| row[size] / row[index]).collect();
    found.iter().all(|value| value.is_finite()).then_some(found)
}
