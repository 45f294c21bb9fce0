//! Sketches: a few words of a tensor, coarse enough that training keeps most of them.
//!
//! A sketch has the words at fixed places of a tensor's first block, of floats only sign, exponent and the first bit of the
//! mantissa. Two checkpoints of a training run agree in most of them; unrelated tensors agree by chance, in as many as their
//! own values make likely (about 1 in 16 for weights, nearly all for the scales of a norm). What counts is by how much two
//! sketches agree beyond chance.

use std::collections::HashMap;
use std::sync::Arc;

use shard_core::{DType, Digest};
use shard_manifest::sketch::scatter;

/// Words of a sketch; a tensor with fewer has all its words in it.
pub(super) const WORDS: u64 = 256;

/// Fewest words of a tensor that is sketched: naming a base takes about 40 bytes, so that less is not worth it.
pub(super) const FEWEST: u64 = 64;

/// Sketches agree beyond chance where chance alone would make them agree as much with a probability below e to minus this
/// (1.3e-14): a file of 1,000 tensors, compared with 256 others each, is misled once in 300 million.
const NATS: f64 = 32.0;

/// Share of what chance leaves that has to agree at least: below, a base would hardly help.
const LEAST: f64 = 0.2;

/// Share of what chance leaves from which on nothing better is looked for.
const CLOSE: f64 = 0.5;

/// The places of a sketch in a block of `words` words, ascending.
pub(crate) fn places(words: u64) -> impl Iterator<Item = u64> {
    shard_manifest::sketch::places(words, WORDS)
}

/// What a sketch keeps of a storage unit: of floats sign, exponent and one bit of mantissa, of bytes the upper six bits, of
/// other integers a hash of all.
pub(super) fn coarse(dtype: DType, unit: &[u8]) -> u16 {
    let mut bytes = [0; 8];
    let len = unit.len().min(if dtype.float().is_some() { dtype.word_bytes() } else { 8 });
    bytes[..len].copy_from_slice(&unit[..len]);
    let word = u64::from_le_bytes(bytes);
    match (dtype.float(), dtype) {
        (Some(float), _) => (word >> float.mantissa.saturating_sub(1)) as u16,
        (None, DType::U8 | DType::I8) => (word >> 2) as u16,
        _ => (scatter(word) >> 48) as u16,
    }
}

/// Words of a tensor, coarse.
#[derive(Debug)]
pub(crate) struct Sketch {
    words: Vec<u16>,
    sorted: Vec<u16>,
}

impl Sketch {
    pub(crate) fn new(words: Vec<u16>) -> Self {
        let mut sorted = words.clone();
        sorted.sort_unstable();
        Self { words, sorted }
    }

    /// The sketch of a block.
    pub(crate) fn of_block(dtype: DType, block: &[u8]) -> Self {
        let unit = dtype.storage_unit().1 as usize;
        let words = places((block.len() / unit) as u64).filter_map(|place| {
            let at = place as usize * unit;
            block.get(at..at + unit).map(|word| coarse(dtype, word))
        });
        Self::new(words.collect())
    }

    pub(crate) fn agreement(&self, other: &Self) -> Agreement {
        let words = self.words.len();
        if words == 0 || words != other.words.len() {
            return Agreement { equal: 0, words: 1, chance: 1.0 };
        }
        let equal = self.words.iter().zip(&other.words).filter(|(a, b)| a == b).count();
        let mut pairs = 0u64;
        let mut others = other.sorted.chunk_by(|a, b| a == b).peekable();
        for run in self.sorted.chunk_by(|a, b| a == b) {
            while others.next_if(|other| other[0] < run[0]).is_some() {}
            if let Some(same) = others.next_if(|other| other[0] == run[0]) {
                pairs += (run.len() * same.len()) as u64;
            }
        }
        Agreement { equal, words, chance: pairs as f64 / (words * words) as f64 }
    }

    /// How likely two words of it, at different places, are equal.
    pub(super) fn repetition(&self) -> f64 {
        self.agreement(self).chance
    }
}

/// By how much two sketches agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agreement {
    /// Words that are equal.
    pub(crate) equal: usize,
    words: usize,
    /// The share that would be equal by chance: if the words of each stood in any order.
    chance: f64,
}

impl Agreement {
    /// That of no words.
    pub(crate) const NONE: Self = Self { equal: 0, words: 0, chance: 0.0 };

    /// That of these words and others together.
    pub(crate) fn and(self, other: Self) -> Self {
        let words = self.words + other.words;
        let chance = self.chance * self.words as f64 + other.chance * other.words as f64;
        Self { equal: self.equal + other.equal, words, chance: chance / words.max(1) as f64 }
    }

    /// The share beyond chance; 0 where it is hardly any.
    pub(crate) fn share(self) -> f64 {
        Some(self.beyond_chance()).filter(|share| *share >= LEAST).unwrap_or(0.0)
    }

    /// The share of what chance leaves that is equal (Cohen's kappa): 0 by chance, 1 where all are.
    fn beyond_chance(self) -> f64 {
        let (share, left) = (self.equal as f64 / self.words.max(1) as f64, 1.0 - self.chance);
        if left > 0.0 { (share - self.chance) / left } else { 0.0 }
    }

    /// Whether it is no chance: by Bernstein's inequality, for words that are drawn independently.
    pub(crate) fn is_related(self) -> bool {
        let beyond = self.equal as f64 / self.words.max(1) as f64 - self.chance;
        let spread = self.chance * (1.0 - self.chance) + beyond / 3.0;
        self.beyond_chance() >= LEAST && self.words as f64 * beyond * beyond >= 2.0 * NATS * spread
    }

    /// Whether that is good enough not to look further.
    pub(super) fn is_close(self) -> bool {
        self.is_related() && self.beyond_chance() >= CLOSE
    }
}

/// Most sketches that are remembered: about 16 MiB.
const REMEMBERED: usize = 1 << 14;

/// Sketches of earlier blocks, remembered for the files that are added in one go. A block that cannot be read has none.
#[derive(Default)]
pub(crate) struct Sketches {
    known: HashMap<(Digest, DType), Option<Arc<Sketch>>>,
}

impl Sketches {
    pub(super) fn get(&self, block: Digest, dtype: DType) -> Option<Option<Arc<Sketch>>> {
        self.known.get(&(block, dtype)).cloned()
    }

    pub(super) fn remember(&mut self, block: Digest, dtype: DType, sketch: Option<Arc<Sketch>>) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert((block, dtype), sketch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_datasets::rng::Rng;

    fn weights(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed);
        (0..count).map(|_| (rng.normal() * 0.02) as f32).collect()
    }

    fn sketch(words: &[f32]) -> Sketch {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Sketch::of_block(DType::F32, &bytes)
    }

    #[test]
    fn places_are_ascending_and_inside() {
        for words in [0, 1, 63, 255, 256, 257, 1000, 2_097_152] {
            let found: Vec<u64> = places(words).collect();
            assert_eq!(found.len() as u64, words.min(WORDS));
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(found.last().is_none_or(|last| *last < words));
        }
    }

    #[test]
    fn what_moved_agrees_and_what_is_unrelated_does_not() {
        let mut rng = Rng::new(9);
        for count in [100, 300, 100_000] {
            let old = weights(count, 1);
            for spread in [0.0, 0.0005, 0.002] {
                let moved: Vec<f32> = old.iter().map(|word| word + (rng.normal() * spread) as f32).collect();
                let agreement = sketch(&old).agreement(&sketch(&moved));
                assert!(agreement.is_related(), "{count} words moved by {spread}: {agreement:?}");
                assert!(agreement.is_close() || spread > 0.001, "{count} words moved by {spread}: {agreement:?}");
            }
            for seed in 2..300 {
                let agreement = sketch(&old).agreement(&sketch(&weights(count, seed)));
                assert!(!agreement.is_related(), "{count} words: {agreement:?}");
            }
        }
    }

    #[test]
    fn values_that_say_nothing_are_never_related() {
        let ones = sketch(&[1.0; 400]);
        assert!(!ones.agreement(&ones).is_related());
        let mut scales = vec![1.0f32; 400];
        scales.iter_mut().step_by(40).for_each(|scale| *scale = 0.9);
        let scales = sketch(&scales);
        assert!(!scales.agreement(&scales).is_related(), "{:?}", scales.agreement(&scales));
        assert!(!ones.agreement(&sketch(&[1.0; 300])).is_related(), "other numbers of words");
    }

    #[test]
    fn the_coarse_word_of_every_type() {
        assert_eq!(coarse(DType::BF16, &0x3f80u16.to_le_bytes()), 0x3f80 >> 6);
        assert_eq!(coarse(DType::F32, &1.5f32.to_le_bytes()), (1.5f32.to_bits() >> 22) as u16);
        assert_eq!(coarse(DType::F64, &(-1.0f64).to_le_bytes()), ((-1.0f64).to_bits() >> 51) as u16);
        assert_eq!(coarse(DType::I8, &[0xff]), 0x3f);
        for dtype in DType::ALL {
            let unit = dtype.storage_unit().1 as usize;
            let _ = coarse(*dtype, &vec![0xa5; unit]);
        }
        assert_ne!(coarse(DType::I64, &5i64.to_le_bytes()), coarse(DType::I64, &6i64.to_le_bytes()));
    }
}
