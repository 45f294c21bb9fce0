//! Large safetensors files with the value statistics of a real pair of checkpoints, for measurements at sizes that no
//! small training run reaches.
//!
//! The first file's words are drawn independently from the words of real tensors of the same kind (attention, MLP,
//! embedding, norm), the second file's are the words that stood at the same place of the second checkpoint. So the
//! distributions of the words, of their changes, and of the changes given the words are real; what neighbouring words have
//! in common (the scale of a row or column) is lost, and a codec that uses it does better on the real pair.

mod pool;
mod walk;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use thiserror::Error;

use crate::rng::Rng;
use pool::{Kind, Pools};
pub use walk::{Walk, WalkOptions};

/// Bytes of each file that are made at a time.
const CHUNK: usize = 1 << 20;

/// Chunks of each file that wait to be written.
const CHUNKS: usize = 4;

/// The smallest file: 256 KiB.
const SMALLEST: u64 = 256 << 10;

/// Bytes set aside for a tensor's entry in the header; the longest name, dtype, shape and offsets need fewer.
const HEADER_ENTRY: u64 = 192;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthOptions {
    /// Largest size of each file in bytes, at least 256 KiB; the files fall short of it by under 5% for sizes below 1 MiB,
    /// under 1% above.
    pub bytes: u64,
    /// The share of words that differ between the files, 0 to 1; `None` keeps the real pair's. A smaller share than the
    /// real one keeps the real distribution of the first file and of the changes; a larger one draws more of the words
    /// from those that moved.
    pub moved: Option<f64>,
    /// Elements of a row of the square matrices, a multiple of 32 from 32 to 8192; `None` chooses 64 to 2048 by the size.
    pub hidden: Option<usize>,
    /// The seed: the same inputs and options always give the same files.
    pub seed: u64,
}

impl SynthOptions {
    /// Files of at most `bytes` bytes, about half of whose words differ.
    #[must_use]
    pub fn half_moved(bytes: u64) -> Self {
        Self { bytes, moved: Some(0.5), hidden: None, seed: 1 }
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthReport {
    /// Size of each of the two files in bytes.
    pub bytes: u64,
    /// Number of tensors in each file.
    pub tensors: usize,
    /// Number of words (weights) in each file.
    pub words: u64,
    /// Number of words that differ between the files.
    pub moved: u64,
    /// The element type, as safetensors names it.
    pub dtype: String,
}

impl SynthReport {
    /// The share of words that differ, 0 to 1.
    #[must_use]
    pub fn moved_share(&self) -> f64 {
        self.moved as f64 / self.words.max(1) as f64
    }
}

/// Why no files could be made.
#[derive(Debug, Error)]
pub enum SynthError {
    /// Options that describe no file.
    #[error("synthesis options: {0}")]
    Options(&'static str),
    /// A file that could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is not safetensors.
    #[error("{} is not a safetensors file", path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// The checkpoints share no tensor of bf16, f16 or f32 elements.
    #[error("the two checkpoints have no tensor of bf16, f16 or f32 elements in common")]
    NothingInCommon,
    /// A header that safetensors refuses.
    #[error("the header of the new files")]
    Layout(#[from] SafeTensorError),
    /// A file that could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A tensor to make.
struct Plan {
    name: String,
    kind: Kind,
    shape: Vec<usize>,
}

impl Plan {
    fn words(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Makes a pair of files like the checkpoints `a` and `b`, which are read in pieces; memory stays below 32 MiB for any size. Only
/// tensors that both have with the same name, shape and the commonest of bf16, f16 and f32 are looked at. The outputs are
/// replaced if they exist, and incomplete after an error.
///
/// # Errors
/// [`SynthError`].
pub fn synthesise_pair(
    a: &Path,
    b: &Path,
    options: &SynthOptions,
    out_a: &Path,
    out_b: &Path,
) -> Result<SynthReport, SynthError> {
    if options.moved.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err(SynthError::Options("the share of moved words lies between 0 and 1"));
    }
    let pools = Pools::read(a, b, options.moved, options.seed)?;
    let plans = plan(options, pools.word_bytes() as u64)?;
    let header = header(&plans, pools.dtype())?;

    let create = |path: &Path| File::create(path).map_err(|source| SynthError::Write { path: path.to_owned(), source });
    let outputs = [(create(out_a)?, out_a), (create(out_b)?, out_b)];
    // One thread writes what this one makes. Chunks go round between them, so that memory is bounded.
    let (to_writer, made) = sync_channel::<[Vec<u8>; 2]>(CHUNKS);
    let (to_maker, used) = sync_channel::<[Vec<u8>; 2]>(CHUNKS);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(outputs, &made, &to_maker));
        let report = make(&plans, &pools, options, header, &to_writer, &used);
        drop(to_writer);
        match writer.join() {
            Ok(written) => written.map(|()| report),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Sends the header and all tensors' words to the writer, in order; stops early where the writer did.
fn make(
    plans: &[Plan],
    pools: &Pools,
    options: &SynthOptions,
    header: Vec<u8>,
    to_writer: &SyncSender<[Vec<u8>; 2]>,
    used: &Receiver<[Vec<u8>; 2]>,
) -> SynthReport {
    let mut report = SynthReport {
        bytes: header.len() as u64,
        tensors: plans.len(),
        words: 0,
        moved: 0,
        dtype: format!("{:?}", pools.dtype()),
    };
    if to_writer.send([header.clone(), header]).is_err() {
        return report;
    }
    for (plan, stream) in plans.iter().zip(1..) {
        let mut rng = Rng::stream(options.seed, stream);
        let mut left = plan.words() * pools.word_bytes();
        report.bytes += left as u64;
        report.words += plan.words() as u64;
        while left > 0 {
            let len = left.min(CHUNK);
            let [mut a, mut b] = used.try_recv().unwrap_or_default();
            a.resize(len, 0);
            b.resize(len, 0);
            report.moved += pools.draw(plan.kind, &mut rng, &mut a, &mut b);
            if to_writer.send([a, b]).is_err() {
                return report;
            }
            left -= len;
        }
    }
    report
}

/// Writes each pair of chunks to the two files and gives the buffers back.
fn write(
    mut outputs: [(File, &Path); 2],
    made: &Receiver<[Vec<u8>; 2]>,
    to_maker: &SyncSender<[Vec<u8>; 2]>,
) -> Result<(), SynthError> {
    for chunks in made {
        for ((file, path), chunk) in outputs.iter_mut().zip(&chunks) {
            file.write_all(chunk).map_err(|source| SynthError::Write { path: path.to_path_buf(), source })?;
        }
        // A buffer that finds no room, or nobody, is dropped.
        let _ = to_maker.try_send(chunks);
    }
    Ok(())
}

/// The tensors of a Llama-style decoder that fills `options.bytes`: as many layers as fit, and an embedding of the rest.
fn plan(options: &SynthOptions, word: u64) -> Result<Vec<Plan>, SynthError> {
    if options.bytes < SMALLEST {
        return Err(SynthError::Options("a file has at least 256 KiB"));
    }
    let hidden = match options.hidden {
        Some(hidden) if hidden.is_multiple_of(32) && (32..=8192).contains(&hidden) => hidden,
        Some(_) => return Err(SynthError::Options("rows are a multiple of 32 from 32 to 8192 elements")),
        None => match options.bytes / word {
            0x2000_0000.. => 2048,
            0x0400_0000.. => 1024,
            0x0100_0000.. => 512,
            0x0020_0000.. => 256,
            _ => 64,
        },
    };
    let (grouped, inner) = (hidden / 8, hidden / 4 * 11);
    let parts: [(&str, Kind, &[usize]); 9] = [
        ("input_layernorm", Kind::Norm, &[hidden]),
        ("mlp.down_proj", Kind::MlpOut, &[hidden, inner]),
        ("mlp.gate_proj", Kind::MlpIn, &[inner, hidden]),
        ("mlp.up_proj", Kind::MlpIn, &[inner, hidden]),
        ("post_attention_layernorm", Kind::Norm, &[hidden]),
        ("self_attn.k_proj", Kind::AttentionIn, &[grouped, hidden]),
        ("self_attn.o_proj", Kind::AttentionOut, &[hidden, hidden]),
        ("self_attn.q_proj", Kind::AttentionIn, &[hidden, hidden]),
        ("self_attn.v_proj", Kind::AttentionIn, &[grouped, hidden]),
    ];
    let layer: u64 =
        parts.iter().map(|(_, _, shape)| shape.iter().product::<usize>() as u64 * word + HEADER_ENTRY).sum();
    let row = hidden as u64 * word;
    let outside = 16 + 2 * HEADER_ENTRY + row;
    // A sixteenth is left to the embedding, which evens out the size.
    let layers = (options.bytes / 16 * 15).saturating_sub(outside) / layer;
    if layers == 0 {
        return Err(SynthError::Options("no layer with rows of this length fits the size"));
    }
    let rows = (options.bytes - outside - layers * layer) / row;

    let mut plans = vec![Plan {
        name: "model.embed_tokens.weight".to_owned(),
        kind: Kind::Embedding,
        shape: vec![rows as usize, hidden],
    }];
    for layer in 0..layers {
        plans.extend(parts.iter().map(|(name, kind, shape)| Plan {
            name: format!("model.layers.{layer}.{name}.weight"),
            kind: *kind,
            shape: shape.to_vec(),
        }));
    }
    plans.push(Plan { name: "model.norm.weight".to_owned(), kind: Kind::Norm, shape: vec![hidden] });
    Ok(plans)
}

/// The header of a safetensors file with these tensors in this order, its length before it, padded to 8 bytes.
fn header(plans: &[Plan], dtype: Dtype) -> Result<Vec<u8>, SynthError> {
    let mut at = 0;
    let mut infos = Vec::with_capacity(plans.len());
    for plan in plans {
        let end = at + plan.words() * dtype.bitsize() / 8;
        infos.push((plan.name.clone(), TensorInfo { dtype, shape: plan.shape.clone(), data_offsets: (at, end) }));
        at = end;
    }
    let mut json = serde_json::to_vec(&Metadata::new(None, infos)?).map_err(SafeTensorError::from)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

#[cfg(test)]
mod tests;
