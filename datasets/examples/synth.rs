//! Makes a large pair of files: `cargo run --release -p shard-datasets --example synth -- A B MIB OUT_A OUT_B [SHARE]`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use shard_datasets::synth::{SynthOptions, synthesise_pair};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, size, out_a, out_b, share @ ..] = arguments.as_slice() else {
        return Err("usage: synth A B MIB OUT_A OUT_B [SHARE OF MOVED WORDS]".into());
    };
    let moved = share.first().map(|share| share.parse()).transpose()?;
    let options = SynthOptions { bytes: size.parse::<u64>()? << 20, moved, hidden: None, seed: 1 };
    let start = Instant::now();
    let report = synthesise_pair(Path::new(a), Path::new(b), &options, Path::new(out_a), Path::new(out_b))?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} tensors, {} weights of {}, {:.3} of them moved, 2 x {} bytes in {seconds:.2} s: {:.0} MB/s",
        report.tensors,
        report.words,
        report.dtype,
        report.moved_share(),
        report.bytes,
        2e-6 * report.bytes as f64 / seconds
    );
    Ok(())
}
