//! How fast on one thread, against SHA-256 of the same bytes.
//!
//! Times are of the thread's own processor time, which other work on the machine disturbs less than time on the wall.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shard_codecs::Level;
use shard_core::sha256;

use super::blocks::{Coder, Tensors};
use super::ratio::SMALL;
use crate::Failure;
use crate::table::{Pair, Row, mebibytes};

/// The checkpoints of a series of fine-tuning, of which most words stay, and of one of pre-training, of which few do.
const FINETUNE: (&str, [&str; 3]) = ("series/finetune-bf16", ["base", "step0100", "step0150"]);
const GPT: (&str, [&str; 3]) = ("series/gpt-bf16", ["step0350", "step0385", "step0420"]);

/// Decoding has at least this share of the speed of SHA-256.
const LEAST_DECODE_FINETUNE: f64 = 1.2;
const LEAST_DECODE_GPT: f64 = 0.7;
const LEAST_DECODE_STANDALONE: f64 = 0.7;
/// Encoding has at least this share.
const LEAST_ENCODE: f64 = 0.3;

/// Measures.
pub(crate) fn measure(data: &Path, rounds: u32) -> Result<Vec<Row>, Failure> {
    let files = |(folder, names): (&str, [&str; 3])| {
        names.map(|name| data.join(folder).join(name).with_extension("safetensors"))
    };
    let (finetune, gpt) = (files(FINETUNE), files(GPT));
    let every = finetune.iter().chain(&gpt).map(PathBuf::as_path);
    let sets = [
        ("bf16 fine-tune pairs", pairs(&finetune)?, LEAST_DECODE_FINETUNE),
        ("dense bf16 GPT pairs", pairs(&gpt)?, LEAST_DECODE_GPT),
        ("standalone bf16", Tensors::standalone(every, SMALL)?, LEAST_DECODE_STANDALONE),
    ];
    let (mut decoding, mut encoding) = (Vec::new(), Vec::new());
    for (name, tensors, least) in &sets {
        let times = Times::of(tensors, rounds).map_err(|why| format!("{name}: {why}"))?;
        let bytes: usize = tensors.pieces.iter().map(|piece| piece.data.len()).sum();
        let speed = bytes as f64 / times.encode.yardstick().as_secs_f64() / 1e6;
        eprintln!("codec: {name}: {}, SHA-256 at {speed:.0} MB/s", mebibytes(bytes as u64));
        decoding.push(Row::speed(&format!("decode, {name}"), &times.decode, *least));
        encoding.push(Row::speed(&format!("encode, {name}"), &times.encode, LEAST_ENCODE));
    }
    decoding.append(&mut encoding);
    Ok(decoding)
}

/// The tensors of each file after the first, against those of the file before.
fn pairs(files: &[PathBuf]) -> Result<Tensors, Failure> {
    let mut all = Tensors::default();
    for pair in files.windows(2) {
        let mut tensors = Tensors::of_pair(&pair[0], &pair[1])?;
        all.raw += tensors.raw;
        all.pieces.append(&mut tensors.pieces);
    }
    Ok(all)
}

/// The sums over all blocks of the medians of the rounds, each with those of SHA-256.
struct Times {
    decode: Pair,
    encode: Pair,
}

impl Times {
    fn of(tensors: &Tensors, rounds: u32) -> Result<Self, Failure> {
        let pieces = &tensors.pieces;
        let mut coder = Coder::new(Level::Default);
        // Which also makes tables and buffers, and checks every round trip.
        let stored = coder.encode_all(pieces)?;
        let longest = pieces.iter().map(|piece| piece.data.len()).max().unwrap_or_default();
        let (mut encoded, mut decoded) = (Vec::with_capacity(2 * longest), vec![0; longest]);
        let mut decode: Vec<Pair> = pieces.iter().map(|_| Pair::default()).collect();
        let mut encode: Vec<Pair> = pieces.iter().map(|_| Pair::default()).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let out = &mut decoded[..piece.data.len()];
            for _ in 0..rounds {
                let (result, time) = timed(|| coder.decode(&stored[index], piece, out));
                result?;
                decode[index].add(hash(&piece.data), time);
            }
            for _ in 0..rounds {
                let (result, time) = timed(|| coder.encode(piece, &mut encoded));
                result?;
                encode[index].add(hash(&piece.data), time);
            }
        }
        Ok(Self { decode: sum(&decode), encode: sum(&encode) })
    }
}

fn sum(pairs: &[Pair]) -> Pair {
    let mut sum = Pair::default();
    sum.add(pairs.iter().map(Pair::yardstick).sum(), pairs.iter().map(Pair::ours).sum());
    sum
}

fn hash(data: &[u8]) -> Duration {
    timed(|| black_box(sha256(black_box(data)))).1
}

/// What `work` gives, and the processor time that this thread took for it.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    let result = work();
    (result, now().saturating_sub(start))
}
