//! The memory of `shard pack` on a large pair, at each level. That what it makes comes back is checked on the recorded pairs
//! ([`super::ratio`]), with the same levels.

use std::fs;
use std::path::Path;

use shard_datasets::synth::{SynthOptions, synthesise_pair};

use super::blocks::LEVELS;
use crate::Failure;
use crate::large::MOST_MEMORY;
use crate::measure::{run, shard};
use crate::table::{Row, mebibytes, seconds};

/// Measures in `dir`, which needs room for about twice `bytes` bytes, those of both files.
pub(crate) fn measure(data: &Path, dir: &Path, bytes: u64) -> Result<Vec<Row>, Failure> {
    let series = data.join("series/gpt-bf16");
    let files = ["first.safetensors", "second.safetensors"];
    let made = synthesise_pair(
        &series.join("step0385.safetensors"),
        &series.join("step0420.safetensors"),
        &SynthOptions::half_moved(bytes / 2),
        &dir.join(files[0]),
        &dir.join(files[1]),
    )?;
    let mut rows = Vec::new();
    // As on this machine, and as on one of many cores.
    for (level, threads) in LEVELS.iter().flat_map(|(level, _)| [(level, "0"), (level, "64")]) {
        let settings = ["-q", "--level", level, "--threads", threads];
        let pack = run(shard(dir).args(settings).arg("pack").args(files).args(["-o", "pair.shard"]))?;
        let many = if threads == "0" { "" } else { ", many threads" };
        let what = format!("pack of a pair of {}, {level}{many}", mebibytes(2 * made.bytes));
        eprintln!("codec: {what}: {}", seconds(pack.time));
        fs::remove_file(dir.join("pair.shard"))?;
        rows.push(Row::memory(&format!("peak memory, {what}"), pack.memory, MOST_MEMORY));
    }
    for file in files {
        fs::remove_file(dir.join(file))?;
    }
    Ok(rows)
}
