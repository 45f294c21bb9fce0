use shard_core::DType;

use super::values::{Float, store, values};
use super::{Derivation, Derived, InputLens, Number, Numbers, Target, byte_len, dtype, solve};
use crate::CodecError;
use crate::kernel::Isa;

/// Elements that are worked on at a time.
const TILE: usize = 1024;
/// Elements that factors are fitted to, at most.
const FITTED: usize = 16 << 10;
/// What prediction has to take off the mean square of the step, as its inverse.
const LEAST: f64 = 24.0;

/// Weights after some steps of an optimizer, from those before and its moments: `w + f·w + Σ g·m/√v`, or without `v` (SGD's momentum
/// buffer) `w + f·w + Σ g·m` (AdamW: Loshchilov and Hutter, arXiv:1711.05101). Where `v` is 0, so is the quotient.
///
/// A checkpoint's first moment has the direction of the last steps, and the one of the checkpoint before that of the first.
///
/// Inputs: the weights before; for each pair of moments `m`, and `v` where there are second moments. Numbers: the types of weights and
/// of moments; how many pairs (1 or 2); whether there are second moments; `f`; `g` of each pair.
pub struct Step;

/// What weights are predicted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    /// The type of the weights before.
    pub weights: DType,
    /// The type of the moments.
    pub moments: DType,
    /// How many pairs of moments.
    pub pairs: u8,
    /// Whether there are second moments.
    pub second: bool,
}

impl Moments {
    /// With these factors: of the weights themselves, then of each pair of moments.
    #[must_use]
    pub fn derived(self, factors: &[f64]) -> Derived {
        let [first, second, third] = [0, 1, 2].map(|index| factors.get(index).copied().unwrap_or(0.0).to_bits());
        let numbers = [
            u64::from(self.weights.wire_id()),
            u64::from(self.moments.wire_id()),
            self.pairs.into(),
            u64::from(self.second),
            first,
            second,
            third,
        ];
        Derived::new(&Step, &numbers)
    }

    /// The factors that predict a block's words best from its inputs (by least squares), if that helps.
    #[must_use]
    pub fn fit(self, isa: Isa, target: Target, input: &[u8], words: &[u8]) -> Option<Derived> {
        let parts = Parts::new(target, &self.derived(&[]).numbers).ok()?;
        let lens = Step.input_lens(target, &self.derived(&[]).numbers).ok()?;
        let (inputs, count) = lens.split(input)?;
        let inputs = &inputs[..count];
        let to = Float::of(target.dtype).ok()?;
        let count = words.len() / to.bytes();
        let tiles = count.div_ceil(TILE);
        let step = tiles.div_ceil(FITTED / TILE).max(1);
        let unknown = 1 + usize::from(self.pairs);
        let (mut gram, mut along) = (vec![0.0; unknown * unknown], vec![0.0; unknown]);
        let mut total = 0.0;
        let mut tile = Tile::default();
        let mut after = [0.0; TILE];
        for index in (0..tiles).step_by(step) {
            let range = index * TILE..((index + 1) * TILE).min(count);
            tile.read(isa, &parts, inputs, range.clone());
            let after = &mut after[..range.len()];
            values(isa, to, &words[range.start * to.bytes()..range.end * to.bytes()], after);
            for (at, after) in after.iter().enumerate() {
                let change = after - tile.weights[at];
                let features = [tile.weights[at], tile.steps[0][at], tile.steps[1][at]];
                if !change.is_finite() || !features.iter().all(|feature| feature.is_finite()) {
                    continue;
                }
                total += change * change;
                for (row, feature) in features[..unknown].iter().enumerate() {
                    along[row] += feature * change;
                    for (column, other) in features[..unknown].iter().enumerate() {
                        gram[row * unknown + column] += feature * other;
                    }
                }
            }
        }
        let factors = solve(&gram, &along)?;
        let explained: f64 = factors.iter().zip(&along).map(|(factor, along)| factor * along).sum();
        (total > 0.0 && explained * LEAST > total).then(|| self.derived(&factors))
    }
}

/// The numbers, as they are read.
struct Parts {
    weights: Float,
    moments: Float,
    pairs: usize,
    second: bool,
    factors: [f64; 3],
}

impl Parts {
    fn new(target: Target, numbers: &Numbers) -> Result<Self, CodecError> {
        Float::of(target.dtype)?;
        let pairs = numbers[2] as usize;
        if !(1..=2).contains(&pairs) {
            return Err(CodecError::Chain("a step has one pair of moments or two"));
        }
        Ok(Self {
            weights: Float::of(dtype(numbers[0])?)?,
            moments: Float::of(dtype(numbers[1])?)?,
            pairs,
            second: numbers[3] == 1,
            factors: [4, 5, 6].map(|index| f64::from_bits(numbers[index])),
        })
    }
}

/// What a few elements are predicted from.
struct Tile {
    weights: [f64; TILE],
    steps: [[f64; TILE]; 2],
    second: [f64; TILE],
}

impl Default for Tile {
    fn default() -> Self {
        Self { weights: [0.0; TILE], steps: [[0.0; TILE]; 2], second: [0.0; TILE] }
    }
}

impl Tile {
    fn read(&mut self, isa: Isa, parts: &Parts, inputs: &[&[u8]], range: std::ops::Range<usize>) {
        let len = range.len();
        let part =
            |float: Float, words: &'_ [u8]| range.start * float.bytes()..(range.end * float.bytes()).min(words.len());
        let mut inputs = inputs.iter();
        let mut read = |float: Float, out: &mut [f64]| {
            let input = inputs.next().copied().unwrap_or_default();
            values(isa, float, &input[part(float, input)], out);
        };
        read(parts.weights, &mut self.weights[..len]);
        for step in &mut self.steps[..parts.pairs] {
            let step = &mut step[..len];
            read(parts.moments, step);
            if parts.second {
                let second = &mut self.second[..len];
                read(parts.moments, second);
                for (step, second) in step.iter_mut().zip(second) {
                    let quotient = *step / second.sqrt();
                    *step = if quotient.is_finite() { quotient } else { 0.0 };
                }
            }
        }
    }
}

impl Derivation for Step {
    fn id(&self) -> u8 {
        6
    }
    fn name(&self) -> &'static str {
        "step"
    }
    fn numbers(&self) -> &'static [Number] {
        &[
            Number::DType,
            Number::DType,
            Number::UpTo(2),
            Number::UpTo(1),
            Number::Factor,
            Number::Factor,
            Number::Factor,
        ]
    }
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError> {
        let parts = Parts::new(target, numbers)?;
        let elements = target.elements()?;
        let moment = byte_len(parts.moments.dtype, elements)?;
        let mut lens = [moment; 5];
        lens[0] = byte_len(parts.weights.dtype, elements)?;
        Ok(InputLens::of(&lens[..1 + parts.pairs * if parts.second { 2 } else { 1 }]))
    }
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let (parts, to) = (Parts::new(target, numbers)?, Float::of(target.dtype)?);
        let mut tile = Tile::default();
        for (index, out) in out.chunks_mut(TILE * to.bytes()).enumerate() {
            let len = out.len() / to.bytes();
            tile.read(isa, &parts, inputs, index * TILE..index * TILE + len);
            let Tile { weights, steps, .. } = &mut tile;
            for (at, weight) in weights[..len].iter_mut().enumerate() {
                let mut sum = *weight + parts.factors[0] * *weight + parts.factors[1] * steps[0][at];
                if parts.pairs > 1 {
                    sum += parts.factors[2] * steps[1][at];
                }
                // A sum beyond all bounds must not become a NaN, whose bits are not the same everywhere.
                *weight = if sum.is_finite() { sum } else { 0.0 };
            }
            store(isa, to, &weights[..len], out);
        }
        Ok(())
    }
}
