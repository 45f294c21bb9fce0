//! A long series of checkpoints without training: weights that walk as training moves them, rounded to bf16.
//!
//! Each weight has an fp32 master that starts normal and takes a normal step from each checkpoint to the next. What the steps
//! have in common with those of the recorded series: a weight moves by about the same absolute amount whatever its size, rows
//! differ in their scale and in how far they move, steps shrink along half a cosine, and a quarter of a step's variance keeps
//! its direction for four checkpoints. So deltas grow with distance as those of real training do: by the bits of a random
//! walk, a little faster where it is short. What neighbouring weights otherwise have in common is missing.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use safetensors::tensor::Dtype;

use super::pool::Kind;
use super::{Plan, SynthError, SynthOptions, header, plan};
use crate::rng::Rng;

/// Checkpoints for which a part of the steps keeps its direction.
const COURSE: u64 = 4;
/// The share of a step's variance that keeps its direction.
const KEPT: f32 = 0.25;
/// What the last step is of the first.
const LAST: f64 = 0.3;
/// Spread of the logarithms of rows' scales: of their weights, and of their steps.
const SPREAD: (f64, f64) = (0.2, 0.4);

/// Streams of [`Rng`] under a seed, each for every tensor.
const WEIGHTS: u64 = 1 << 40;
const ROWS: u64 = 2 << 40;
const NOISE: u64 = 3 << 40;
const DIRECTION: u64 = 4 << 40;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct WalkOptions {
    /// Largest size of each file in bytes, at least 256 KiB.
    pub bytes: u64,
    /// Number of checkpoints over which the steps shrink.
    pub checkpoints: u64,
    /// Root mean square of the first step, in units of that of the weights.
    pub step: f64,
    /// The seed: the same options always give the same files.
    pub seed: u64,
}

impl WalkOptions {
    /// Steps as far as those between checkpoints of a pre-training run in full swing: nine words in ten change.
    #[must_use]
    pub fn pre_training(bytes: u64, checkpoints: u64) -> Self {
        Self { bytes, checkpoints, step: 0.02, seed: 1 }
    }

    /// Steps as far as those of a fine-tuning run: one or two words in ten change.
    #[must_use]
    pub fn fine_tuning(bytes: u64, checkpoints: u64) -> Self {
        Self { bytes, checkpoints, step: 0.001, seed: 1 }
    }
}

/// A series, made checkpoint by checkpoint. It keeps the masters: 4 bytes a weight.
pub struct Walk {
    options: WalkOptions,
    plans: Vec<Plan>,
    header: Vec<u8>,
    /// The masters of each tensor.
    masters: Vec<Vec<f32>>,
    /// Checkpoints made.
    made: u64,
}

impl Walk {
    /// A series at its start.
    ///
    /// # Errors
    /// [`SynthError`] for options that describe no file.
    pub fn new(options: WalkOptions) -> Result<Self, SynthError> {
        let layout = SynthOptions { bytes: options.bytes, moved: None, hidden: None, seed: options.seed };
        let plans = plan(&layout, 2)?;
        let header = header(&plans, Dtype::BF16)?;
        let masters = plans.iter().zip(0..).map(|(plan, index)| start(plan, options.seed, index)).collect();
        Ok(Self { options, plans, header, masters, made: 0 })
    }

    /// Writes the next checkpoint as a safetensors file, which is replaced if it exists, and gives its size in bytes.
    ///
    /// # Errors
    /// [`SynthError::Write`].
    pub fn write_next(&mut self, path: &Path) -> Result<u64, SynthError> {
        let failed = |source| SynthError::Write { path: path.to_owned(), source };
        if self.made > 0 {
            self.step();
        }
        self.made += 1;
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        file.write_all(&self.header).map_err(failed)?;
        let mut size = self.header.len() as u64;
        let mut bytes = Vec::new();
        for master in self.masters.iter().flat_map(|masters| masters.chunks(1 << 16)) {
            bytes.clear();
            bytes.extend(master.iter().flat_map(|value| round(*value).to_le_bytes()));
            file.write_all(&bytes).map_err(failed)?;
            size += bytes.len() as u64;
        }
        file.flush().map_err(failed)?;
        Ok(size)
    }

    fn step(&mut self) {
        let WalkOptions { checkpoints, step, seed, .. } = self.options;
        let done = (self.made - 1).min(checkpoints) as f64 / checkpoints.max(1) as f64;
        let rate = LAST + (1.0 - LAST) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        let (kept, fresh) = (KEPT.sqrt(), (1.0 - KEPT).sqrt());
        for ((plan, masters), index) in self.plans.iter().zip(&mut self.masters).zip(0..) {
            let mut noise = Rng::stream(seed, NOISE + (self.made << 20) + index);
            let mut direction = Rng::stream(seed, DIRECTION + ((self.made / COURSE) << 20) + index);
            let mut rows = Rng::stream(seed, ROWS + index);
            for row in masters.chunks_mut(plan.row()) {
                let scale = row_scales(plan.kind, &mut rows).1 * rate * step;
                let (kept, fresh) = (kept * scale as f32, fresh * scale as f32);
                for value in row {
                    *value += fresh * nearly_normal(&mut noise) + kept * nearly_normal(&mut direction);
                }
            }
        }
    }
}

impl Plan {
    /// Words of a row.
    fn row(&self) -> usize {
        self.shape.iter().skip(1).product::<usize>().max(1)
    }
}

/// Root mean square of a tensor's weights, as in a small GPT.
fn typical(kind: Kind) -> f64 {
    match kind {
        Kind::AttentionIn | Kind::MlpIn => 0.022,
        Kind::AttentionOut | Kind::MlpOut => 0.010,
        Kind::Embedding => 0.030,
        Kind::Norm => 1.0,
    }
}

/// The scale of a row's weights and of its steps, before the rate.
fn row_scales(kind: Kind, rng: &mut Rng) -> (f64, f64) {
    if kind == Kind::Norm {
        // Gains stay near 1 and move as far as other weights.
        return (0.0, 0.05);
    }
    let typical = typical(kind);
    let mut scale = |spread: f64| typical * (spread * rng.normal()).exp();
    (scale(SPREAD.0), scale(SPREAD.1))
}

fn start(plan: &Plan, seed: u64, index: u64) -> Vec<f32> {
    let mut weights = Rng::stream(seed, WEIGHTS + index);
    let mut rows = Rng::stream(seed, ROWS + index);
    let mut masters = vec![if plan.kind == Kind::Norm { 1.0 } else { 0.0 }; plan.words()];
    for row in masters.chunks_mut(plan.row()) {
        let scale = row_scales(plan.kind, &mut rows).0;
        row.iter_mut().for_each(|value| *value += (weights.normal() * scale) as f32);
    }
    masters
}

/// The sum of four uniform numbers, scaled to variance 1: close enough to a normal one, and quick.
fn nearly_normal(rng: &mut Rng) -> f32 {
    let bits = rng.bits();
    let sum = [0, 16, 32, 48].map(|shift| (bits >> shift & 0xffff) as i32 - 0x8000).iter().sum::<i32>();
    sum as f32 * (1.732_050_8 / 65_536.0)
}

/// To bf16, ties to even; the masters are finite.
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> Vec<f32> {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..]
            .chunks_exact(2)
            .map(|word| f32::from_bits(u32::from(u16::from_le_bytes([word[0], word[1]])) << 16))
            .collect()
    }

    fn series(options: &WalkOptions, count: usize) -> Vec<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let mut walk = Walk::new(options.clone()).unwrap();
        let path = folder.path().join("x.safetensors");
        let mut next = || {
            let size = walk.write_next(&path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, size);
            bytes
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn steps_are_as_large_as_asked_and_the_walk_goes_on() {
        let options = WalkOptions::pre_training(1 << 20, 20);
        let files = series(&options, 10);
        assert_eq!(series(&options, 3), files[..3], "the same options give the same files");
        assert!(files.iter().all(|file| file.len() <= 1 << 20 && safetensors::SafeTensors::deserialize(file).is_ok()));
        let all: Vec<Vec<f32>> = files.iter().map(|file| words(file)).collect();
        let changed = |a: usize, b: usize| {
            all[a].iter().zip(&all[b]).filter(|(a, b)| a != b).count() as f64 / all[a].len() as f64
        };
        let distance = |a: usize, b: usize| {
            let squares =
                all[a].iter().zip(&all[b]).filter(|(a, _)| a.abs() < 0.5).map(|(a, b)| f64::from(a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        assert!((0.85..0.95).contains(&changed(0, 1)), "{}", changed(0, 1));
        let growth = distance(0, 4) / distance(0, 1);
        assert!((1.9..3.0).contains(&growth), "between a walk without memory and a straight line: {growth}");
        assert!(distance(8, 9) < 0.8 * distance(0, 1), "steps shrink");
    }

    #[test]
    fn fine_tuning_leaves_most_words_alone() {
        let files = series(&WalkOptions::fine_tuning(1 << 20, 20), 2);
        let (a, b) = (words(&files[0]), words(&files[1]));
        let changed = a.iter().zip(&b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64;
        assert!((0.05..0.35).contains(&changed), "{changed}");
    }

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        let mut rng = Rng::new(3);
        for _ in 0..1000 {
            let value = f32::from_bits(rng.bits() as u32 & 0xbfff_ffff);
            assert_eq!(round(value), half::bf16::from_f32(value).to_bits());
        }
    }
}
