//! Comparing two large files, against `cmp` on files that are the same and so have to be read whole.

use std::path::Path;
use std::process::Command;

use shard_datasets::real;
use shard_datasets::synth::{SynthOptions, synthesise_pair};

use crate::Failure;
use crate::large::MOST_MEMORY;
use crate::measure::{run, shard, warm};
use crate::table::{Pair, Row, mebibytes};

/// A diff has at least this share of the speed of `cmp`, by the byte that is read.
const LEAST_DIFF: f64 = 0.5;

/// Measures in `dir`, which needs room for three files of `bytes` bytes. All are in the page cache.
pub(crate) fn measure(dir: &Path, bytes: u64, rounds: u32) -> Result<Vec<Row>, Failure> {
    let series = real::shard_data()?.join("series/gpt-bf16");
    let names = ["old.safetensors", "new.safetensors", "copy.safetensors"];
    let [old, new, copy] = names.map(|name| dir.join(name));
    let made = synthesise_pair(
        &series.join("step0385.safetensors"),
        &series.join("step0420.safetensors"),
        &SynthOptions::half_moved(bytes),
        &old,
        &new,
    )?;
    std::fs::copy(&old, &copy)?;
    eprintln!("diff: {} each, {} tensors", mebibytes(made.bytes), made.tensors);
    let (mut pair, mut memory) = (Pair::default(), 0);
    for round in 1..=rounds {
        warm(dir)?;
        let cmp = run(Command::new("cmp").current_dir(dir).args([names[0], names[2]]))?;
        let ours = run(shard(dir).args(["diff", names[0], names[1]]))?;
        let told = String::from_utf8_lossy(&ours.stdout);
        if !told.contains(&format!("{} tensors: {} value", made.tensors, made.tensors)) {
            return Err(format!("diff did not find all tensors changed: {told}").into());
        }
        eprintln!(
            "diff round {round}: cmp {:.2?}, shard {:.2?} ({:.2?} of processor time)",
            cmp.time, ours.time, ours.cpu
        );
        pair.add(cmp.time, ours.time);
        memory = memory.max(ours.memory);
    }
    Ok(vec![
        Row::speed("diff of two files, against cmp by the byte that is read", &pair, LEAST_DIFF),
        Row::memory("memory of diff", memory, MOST_MEMORY),
    ])
}
