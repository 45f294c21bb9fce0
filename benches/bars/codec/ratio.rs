//! How small: pairs of recorded checkpoints against the best of the published peers, and weights by themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use shard_codecs::Level;

use super::blocks::{Coder, LEVELS, Tensors};
use crate::Failure;
use crate::measure::{run, same, shard, size};
use crate::table::Row;

/// A pair and its bar.
struct Pair {
    base: &'static str,
    file: &'static str,
    /// The best ratio of a peer.
    peer: f64,
    /// shard's ratio at the default level is at least so many times that.
    least: f64,
}

/// On no pair is shard below the best peer; on some it is well above.
const fn pair(base: &'static str, file: &'static str, peer: f64) -> Pair {
    Pair { base, file, peer, least: 1.0 }
}

/// The pairs of recorded checkpoints. The peers' ratios are those of the README of the recorded data: raw over stored bytes
/// of all tensors, equal ones being free, and each the best of BitX (its published algorithm), ZipNN 0.5.4, lmzip 1.3.0,
/// OpenZL 0.3.0, z4ai 0.2.0, pcodec 1.1.0 on differences, FM-Delta and `zstd -9 --patch-from`. `benches/peers` measures them
/// anew.
const PAIRS: [Pair; 15] = [
    pair("series/finetune-bf16/base", "series/finetune-bf16/step0100", 7.36),
    pair("series/finetune-bf16/step0100", "series/finetune-bf16/step0150", 24.487),
    pair("series/gpt-bf16/step0350", "series/gpt-bf16/step0385", 2.699),
    pair("series/gpt-bf16/step0385", "series/gpt-bf16/step0420", 2.856),
    pair("small/base-minilm/fp16", "small/finetune/fp16/step0150", 3.028),
    pair("small/base-minilm/fp32", "small/finetune/fp32/step0150", 1.803),
    // A merged LoRA, with no adapter given.
    Pair { least: 1.7, ..pair("small/base-minilm/bf16", "small/lora-merged/merged-bf16", 6.044) },
    // Trained in bf16, with no master.
    Pair { least: 1.5, ..pair("small/base-minilm/bf16", "small/finetune-purebf16/bf16/step0075", 28.863) },
    pair("small/gpt-fp16/step0385", "small/gpt-fp16/step0420", 1.861),
    pair("small/gpt-fp32/step0385", "small/gpt-fp32/step0420", 1.478),
    // Weights and an optimizer's moments.
    Pair { least: 1.04, ..pair("small/gpt-opt/step0385", "small/gpt-opt/step0420", 1.288) },
    pair("small/cnn/epoch4", "small/cnn/epoch5", 1.593),
    pair("small/frozen/fp32/step0060", "small/frozen/fp32/step0090", 2.958),
    Pair { least: 4.0, ..pair("small/base-minilm/fp32", "small/lora-merged/merged-fp32", 1.623) },
    pair("small/gpt-fp32/step0420", "small/ema/step0420-ema", 1.287),
];

/// The geometric mean over the pairs of shard's ratio by the best peer's, at least.
const LEAST_MEAN: f64 = 1.25;
const LEAST_MEAN_MAX: f64 = 1.28;

/// A model under other names in other shards, and the file it was.
const RESHARDED: (&str, [&str; 3]) = (
    "small/gpt-fp32/step0420.safetensors",
    [
        "small/resharded/model-00001-of-00002.safetensors",
        "small/resharded/model-00002-of-00002.safetensors",
        "small/resharded/model.safetensors.index.json",
    ],
);
/// It takes less than this percentage of its raw bytes.
const MOST_RESHARDED: f64 = 1.0;

/// Weights of the fine-tune and GPT files.
const WEIGHTS: [&str; 11] = [
    "small/finetune/bf16/step0150",
    "small/finetune/fp16/step0150",
    "small/finetune/fp32/step0150",
    "small/gpt-fp16/step0420",
    "small/gpt-fp32/step0420",
    "series/finetune-bf16/base",
    "series/finetune-bf16/step0100",
    "series/finetune-bf16/step0150",
    "series/gpt-bf16/step0350",
    "series/gpt-bf16/step0385",
    "series/gpt-bf16/step0420",
];
/// Tensors up to this size, in bytes, are left out where there is no parent.
pub(crate) const SMALL: usize = 64 << 10;
/// The ratio of weights without a parent is at least this.
const LEAST_STANDALONE: [(&str, f64); 3] = [("BF16", 1.5), ("F32", 1.2), ("F16", 1.175)];

/// Measures, with archives made in `dir`.
pub(crate) fn measure(data: &Path, dir: &Path) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut means = [0.0; LEVELS.len()];
    for pair in &PAIRS {
        let ratios = ratios(data, dir, pair).map_err(|why| format!("{} -> {}: {why}", pair.base, pair.file))?;
        let mut told = format!("codec: {} -> {}: best peer {:.3}", pair.base, pair.file, pair.peer);
        for (((level_name, level), ratio), mean) in LEVELS.iter().zip(ratios).zip(&mut means) {
            told.push_str(&format!(", {level_name} {ratio:.3}"));
            *mean += (ratio / pair.peer).ln() / PAIRS.len() as f64;
            if *level == Level::Default {
                rows.push(Row::ratio(&format!("ratio, {}", brief(pair)), pair.peer, ratio, pair.least));
            }
        }
        eprintln!("{told}");
    }
    for ((level_name, level), mean) in LEVELS.iter().zip(means) {
        let least = match level {
            Level::Fast => None,
            Level::Default => Some(LEAST_MEAN),
            Level::Max => Some(LEAST_MEAN_MAX),
        };
        let bar = format!("ratio, geometric mean of {} pairs, {level_name}", PAIRS.len());
        rows.push(Row::mean(&bar, mean.exp(), least));
    }
    rows.push(resharded(data, dir)?);
    rows.extend(standalone(data)?);
    Ok(rows)
}

/// The names of a pair without what they have in common.
fn brief(pair: &Pair) -> String {
    let (folder, name) = pair.file.rsplit_once('/').unwrap_or(("", pair.file));
    match pair.base.rsplit_once('/') {
        Some((same, base)) if same == folder => format!("{folder}/{base} -> {name}"),
        _ => format!("{} -> {}", pair.base, pair.file.trim_start_matches("small/")),
    }
}

/// shard's ratios on a pair, one for each level: the bytes of all tensors by what an archive grows, on series with everything
/// included, on cut checkpoints by the stored bytes of all new blocks.
fn ratios(data: &Path, dir: &Path, pair: &Pair) -> Result<[f64; LEVELS.len()], Failure> {
    let [base, file] = [pair.base, pair.file].map(|name| format!("{name}.safetensors"));
    let raw = Tensors::bytes_of(&data.join(&file))?;
    let mut ratios = [0.0; LEVELS.len()];
    for ((name, _), ratio) in LEVELS.iter().zip(&mut ratios) {
        let grown = growth(data, dir, name, &base, &[&file])?;
        let stored = if pair.file.starts_with("series/") { grown.archive } else { grown.blocks };
        *ratio = raw as f64 / stored as f64;
    }
    Ok(ratios)
}

/// By how much an archive grows.
struct Growth {
    /// In all, in bytes.
    archive: u64,
    /// By new blocks alone.
    blocks: u64,
}

/// How much larger an archive is with `files` after `base`. They are unpacked and compared.
fn growth(data: &Path, dir: &Path, level: &str, base: &str, files: &[&str]) -> Result<Growth, Failure> {
    let (alone, both, out) = (dir.join("alone.shard"), dir.join("both.shard"), dir.join("out"));
    run(shard(data).args(["-q", "--level", level, "pack", base, "-o"]).arg(&alone))?;
    let packed = run(shard(data).args(["--json", "--level", level, "pack", base]).args(files).arg("-o").arg(&both))?;
    run(shard(data).args(["-q", "unpack"]).arg(&both).arg("-o").arg(&out))?;
    for file in files {
        same(&data.join(file), &out.join(file))?;
    }
    let told: serde_json::Value = serde_json::from_slice(&packed.stdout)?;
    let told = told["files"].as_array().ok_or("pack says nothing of its files")?;
    let blocks = told.iter().skip(1).filter_map(|file| file["new_bytes"].as_u64()).sum();
    let archive = size(&both)?.saturating_sub(size(&alone)?);
    fs::remove_file(alone)?;
    fs::remove_file(both)?;
    fs::remove_dir_all(out)?;
    Ok(Growth { archive, blocks })
}

fn resharded(data: &Path, dir: &Path) -> Result<Row, Failure> {
    let (source, shards) = RESHARDED;
    let grown = growth(data, dir, "default", source, &shards)?.archive;
    let raw = shards.iter().try_fold(0, |sum, name| Ok::<_, Failure>(sum + size(&data.join(name))?))?;
    Ok(Row::share("stored, renamed tensors in other shards", raw, grown, MOST_RESHARDED))
}

/// Weights without a parent, by type, at the default level.
fn standalone(data: &Path) -> Result<Vec<Row>, Failure> {
    let mut coder = Coder::new(Level::Default);
    let mut sizes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for name in WEIGHTS {
        let file = data.join(format!("{name}.safetensors"));
        let tensors = Tensors::standalone([file.as_path()].into_iter(), SMALL)?;
        for (piece, stored) in tensors.pieces.iter().zip(coder.encode_all(&tensors.pieces)?) {
            let (raw, sum) = sizes.entry(piece.dtype.name()).or_default();
            *raw += piece.data.len();
            *sum += stored.len();
        }
    }
    let row = |(dtype, least): &(&str, f64)| {
        let (raw, stored) = sizes.get(dtype).ok_or_else(|| format!("there are no weights of type {dtype}"))?;
        Ok(Row::reached(&format!("ratio, standalone, {dtype}"), *raw as f64 / *stored as f64, *least))
    };
    LEAST_STANDALONE.iter().map(row).collect()
}
