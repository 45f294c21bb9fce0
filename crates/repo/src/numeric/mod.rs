//! Tensors as numbers: what changed between two, and what the values of one are like.

mod change;
mod float8;
mod quantised;
mod summary;
mod tensors;
mod values;

use shard_core::DType;

pub use change::ChangeStats;
pub(crate) use change::{compare, signed_steps};
pub use summary::Summary;
pub(crate) use summary::Summing;
pub(crate) use tensors::TensorSums;
pub(crate) use values::{MOST_VALUES, push_values, values};

/// Whether the values of a type are known: not of some of GGML's quantised types.
pub(crate) fn is_valued(dtype: DType) -> bool {
    push_values(dtype, &[], &mut Vec::new())
}
