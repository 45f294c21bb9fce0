//! The side of `benches/peers` that is Rust: shard's codecs, FM-Delta and SHA-256 over the tensors of a safetensors file,
//! one thread, in memory, every tensor compared with what comes back.
//!
//! ```text
//! peers-native BASE FILE  [--codec NAME]… [--rounds N] [--min-bytes N] [--lockstep]
//! peers-native --solo FILE …
//! ```
//!
//! Prints one JSON object for each codec: `codec`, and in total and for each of its `tensors`: `raw` and `stored` bytes
//! (headers and tables included), and `encode_s`, `decode_s` and `sha256_s`, the medians of the rounds in seconds of processor
//! time. With `--lockstep`, names of codecs come on standard input, one a line, and each is answered by one round: so this
//! program takes turns with whoever asks.
#![forbid(unsafe_code)]

mod clock;
mod codec;
mod fm_delta;
mod range_coder;
mod round;
mod shard;
mod tensors;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use codec::{Codec, NAMES};
use tensors::Tensor;

/// What is asked for on the command line.
struct Options {
    base: Option<PathBuf>,
    file: PathBuf,
    codecs: Vec<String>,
    rounds: usize,
    min_bytes: usize,
    lockstep: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut paths, mut codecs, mut solo) = (Vec::new(), Vec::new(), false);
        let (mut rounds, mut min_bytes, mut lockstep) = (5, 0, false);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--solo" => solo = true,
                "--lockstep" => lockstep = true,
                "--codec" => codecs.push(value()?),
                "--rounds" => rounds = value()?.parse::<usize>()?.max(1),
                "--min-bytes" => min_bytes = value()?.parse()?,
                _ if arg.starts_with('-') => return Err(format!("{arg} is not an option").into()),
                _ => paths.push(PathBuf::from(arg)),
            }
        }
        if codecs.is_empty() {
            codecs.extend(NAMES.iter().map(|name| (*name).to_owned()));
        }
        let (base, file) = match (solo, paths.pop(), paths.pop(), paths.pop()) {
            (true, Some(file), None, _) => (None, file),
            (false, Some(file), Some(base), None) => (Some(base), file),
            _ => return Err("give BASE and FILE, or --solo and FILE".into()),
        };
        Ok(Self { base, file, codecs, rounds, min_bytes, lockstep })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    let tensors = tensors::load(options.base.as_deref(), &options.file, options.min_bytes)?;
    let mut out = std::io::stdout().lock();
    if options.lockstep {
        let mut codecs: BTreeMap<String, Box<dyn Codec>> = BTreeMap::new();
        for name in std::io::stdin().lock().lines() {
            let name = name?;
            let codec = match codecs.entry(name.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(codec::find(&name)?),
            };
            answer(&mut out, &name, codec.as_mut(), &tensors, 1)?;
        }
        return Ok(());
    }
    for name in &options.codecs {
        let mut codec = codec::find(name)?;
        answer(&mut out, name, codec.as_mut(), &tensors, options.rounds)?;
    }
    Ok(())
}

/// Runs the rounds and writes their medians as one line.
fn answer(
    out: &mut impl Write,
    name: &str,
    codec: &mut dyn Codec,
    tensors: &[Tensor],
    rounds: usize,
) -> Result<(), Box<dyn Error>> {
    let rounds = (0..rounds).map(|_| round::run(codec, tensors)).collect::<Result<Vec<_>, _>>();
    let rounds = rounds.map_err(|error| format!("{name}: {error}"))?;
    writeln!(out, "{}", round::json(name, tensors, &rounds))?;
    Ok(out.flush()?)
}
