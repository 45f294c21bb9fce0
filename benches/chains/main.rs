//! What rules for choosing bases cost on a series, and how deep they make its chains: the figures behind
//! `docs/decisions/005`.
//!
//! `cargo run --release -p shard-benches --example chains -- [--share 0.1] [--walk pre|fine] [FILES…]`
//!
//! Blocks of a sample of the tensors (the same in every checkpoint) are encoded against the versions that each rule leans on,
//! and decoded, timed. A version's restore is the decoding of its chain, one SHA-256, and one write, which is taken to be as
//! long as the SHA-256.
#![forbid(unsafe_code)]

mod rules;
mod sample;

use std::error::Error;
use std::path::PathBuf;

use shard_datasets::synth::{Walk, WalkOptions};

use rules::RULES;
use sample::Sample;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut share = 0.1;
    let folder = tempfile::tempdir()?;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("an option without its value");
        match argument.as_str() {
            "--share" => share = value()?.parse()?,
            "--walk" => {
                let (bytes, count) = (8 << 20, 100);
                let options = match value()?.as_str() {
                    "pre" => WalkOptions::pre_training(bytes, count),
                    _ => WalkOptions::fine_tuning(bytes, count),
                };
                let mut walk = Walk::new(options)?;
                for number in 0..count {
                    files.push(folder.path().join(format!("{number:03}.safetensors")));
                    walk.write_next(&files[files.len() - 1])?;
                }
            }
            _ => files.push(argument.into()),
        }
    }
    let mut sample = Sample::read(&files, share)?;
    let versions = sample.versions();
    println!("{versions} versions, sampled {} bytes of {} each", sample.raw, sample.whole);
    println!("distance to the first: stored bytes in a hundred of raw");
    for version in [1, 2, 4, 8, 16, 32, 64, 99].into_iter().filter(|version| *version < versions) {
        let delta = sample.cost(version, Some(0))?;
        let near = sample.cost(version, Some(version - 1))?;
        println!("{version:4}: {:6.2} (to the one before {:6.2})", sample.percent(delta), sample.percent(near));
    }
    let alone = sample.cost(0, None)?;
    println!("alone: {:6.2}", sample.percent(alone));
    println!("{:44} {:>5} {:>9} {:>7} {:>8} {:>8}", "rule", "depth", "bytes", "ratio", "slowest", "mean");
    for (name, rule) in RULES {
        for bound in [1, 2, 3, 4, 5, 6, 8] {
            let outcome = rules::simulate(&mut sample, *rule, bound)?;
            println!(
                "{:44} {:>5} {:>9} {:>6.3}x {:>7.2}x {:>7.2}x",
                format!("{name}, bound {bound}"),
                outcome.depth,
                outcome.bytes,
                (sample.raw * versions as u64) as f64 / outcome.bytes as f64,
                outcome.slowest,
                outcome.mean
            );
        }
    }
    for bound in [2, 4, 6, 8] {
        let bytes = rules::hindsight(&mut sample, bound)?;
        println!("{:44} {bound:>5} {bytes:>9}", format!("best in hindsight, bound {bound}"));
    }
    Ok(())
}
