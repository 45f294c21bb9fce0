//! The codec on recorded checkpoints: how small, against the best of the published peers; how fast and on how many threads,
//! against SHA-256; and in how much memory.
//!
//! Only [`blocks`] knows the codecs' interface.

mod blocks;
mod memory;
mod ratio;
mod scaling;
mod speed;

use std::path::Path;

use shard_datasets::real;

use crate::Failure;
use crate::table::Row;

/// Measures in `dir`, with a generated pair of files of `bytes` bytes together for the memory.
pub(crate) fn measure(dir: &Path, bytes: u64, rounds: u32) -> Result<Vec<Row>, Failure> {
    let data = real::shard_data()?.canonicalize()?;
    // First, while this process is small: see [`crate::measure::Run::memory`].
    let memory = memory::measure(&data, dir, bytes)?;
    let mut rows = ratio::measure(&data, dir)?;
    rows.extend(speed::measure(&data, rounds)?);
    rows.extend(scaling::measure(&data, rounds)?);
    rows.extend(memory);
    Ok(rows)
}
