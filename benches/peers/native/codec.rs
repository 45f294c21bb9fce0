//! What is measured, and under which name.

use std::error::Error;

use shard_codecs::Level;

use crate::fm_delta::FmDelta;
use crate::shard::Shard;
use crate::tensors::Tensor;

/// A lossless codec of one tensor, whose base, where it has one, both sides have.
pub(crate) trait Codec {
    /// Appends the stored form of a tensor to `out`.
    fn encode(&mut self, tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), Box<dyn Error>>;

    /// Decodes a stored form into `out`, which has the tensor's length. Only the tensor's type and base may be looked at.
    fn decode(&mut self, stored: &[u8], tensor: &Tensor, out: &mut [u8]) -> Result<(), Box<dyn Error>>;
}

/// The codecs.
pub(crate) const NAMES: [&str; 4] = ["shard", "shard-fast", "shard-max", "fm-delta"];

/// The codec of that name.
pub(crate) fn find(name: &str) -> Result<Box<dyn Codec>, Box<dyn Error>> {
    Ok(match name {
        "shard" => Box::new(Shard::new(Level::Default)),
        "shard-fast" => Box::new(Shard::new(Level::Fast)),
        "shard-max" => Box::new(Shard::new(Level::Max)),
        "fm-delta" => Box::new(FmDelta),
        _ => return Err(format!("{name} is none of {}", NAMES.join(", ")).into()),
    })
}
