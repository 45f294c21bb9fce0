use shard_core::DType;

use super::values::{Float, store, values};
use super::{Derivation, Derived, InputLens, MAX_INPUTS, Number, Numbers, Target, byte_len, dtype, solve};
use crate::CodecError;
use crate::kernel::Isa;

/// Elements that are worked on at a time.
const TILE: usize = 1024;

/// A sum of tensors, each times a weight: averages of checkpoints ("soups": Wortsman et al., arXiv:2203.05482), moving averages,
/// and merges by the same recipe (task arithmetic: Ilharco et al., arXiv:2212.04089).
///
/// Inputs: the words of each tensor. Numbers: their type; how many there are; the [`Summing`]; the weight of each.
pub struct Linear;

/// How sums are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summing {
    /// Products and sums in binary64, in the order of the inputs, and rounded once.
    Wide,
    /// Each product and each sum as in binary32.
    Single,
    /// Sums as in binary32, and their product with the first weight.
    Multiple,
    /// Sums as in binary32, over the number of inputs.
    Mean,
    /// Sums in binary64, over the number of inputs.
    WideMean,
}

impl Summing {
    const ALL: [Self; 5] = [Self::Wide, Self::Single, Self::Multiple, Self::Mean, Self::WideMean];
}

/// Weights that make most of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// How it is summed up.
    pub summing: Summing,
    /// The weights, of those that are used.
    pub weights: Vec<f64>,
    /// Which of the tensors offered it has, in its order.
    pub used: Vec<usize>,
    /// The share of words that it makes.
    pub equal: f64,
    /// The mean square of what is left, over that of the difference to the nearest tensor.
    pub left: f64,
}

impl Sum {
    /// The sum of tensors of that type.
    #[must_use]
    pub fn derived(&self, from: DType) -> Derived {
        Linear::of(from, self.summing, &self.weights)
    }
}

impl Linear {
    /// The sum of tensors of that type with these weights, at most [`MAX_INPUTS`].
    #[must_use]
    pub fn of(from: DType, summing: Summing, weights: &[f64]) -> Derived {
        let weights = &weights[..weights.len().min(MAX_INPUTS)];
        let numbers = [u64::from(from.wire_id()), weights.len() as u64, summing as u64];
        let all: Vec<u64> = numbers.into_iter().chain(weights.iter().map(|weight| weight.to_bits())).collect();
        Derived::new(&Self, &all)
    }

    /// The weights, of sum 1, by which the first words of some tensors, two at least, add up to `words` best (by least squares).
    #[must_use]
    pub fn find(isa: Isa, dtype: DType, words: &[u8], tensors: &[&[u8]]) -> Option<Sum> {
        let float = Float::of(dtype).ok()?;
        let read = |words: &[u8]| {
            let mut out = vec![0.0; words.len() / float.bytes()];
            values(isa, float, words, &mut out).then_some(out)
        };
        let target = read(words)?;
        let tensors: Vec<&[u8]> = tensors.iter().take(MAX_INPUTS).copied().collect();
        let all: Vec<Vec<f64>> = tensors.iter().map(|words| read(words)).collect::<Option<_>>()?;
        if all.iter().any(|values| values.len() != target.len()) || all.len() < 2 {
            return None;
        }
        let mut used: Vec<usize> = (0..all.len()).collect();
        let mut weights = fit(&target, &all, &used)?;
        // Tensors that hardly count are left out.
        for _ in 0..all.len() {
            let least =
                weights.iter().map(|weight| weight.abs()).enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
            if least.1 >= 0.005 || used.len() == 1 {
                break;
            }
            used.remove(least.0);
            weights = fit(&target, &all, &used)?;
        }
        if used.len() < 2 {
            return None;
        }
        let energy = |made: &dyn Fn(usize) -> f64| {
            target.iter().enumerate().map(|(at, value)| (value - made(at)).powi(2)).sum::<f64>()
        };
        let sum = |at: usize| used.iter().zip(&weights).map(|(index, weight)| all[*index][at] * weight).sum::<f64>();
        let nearest = all.iter().map(|values| energy(&|at| values[at])).fold(f64::INFINITY, f64::min);
        let left = energy(&sum) / nearest;
        let mut out = vec![0; words.len()];
        let mut best: Option<Sum> = None;
        let each = 1.0 / used.len() as f64;
        let is_mean = weights.iter().all(|weight| (weight - each).abs() < 0.03);
        let round = |parts: f64| weights.iter().map(|weight| (weight * parts).round() / parts).collect::<Vec<f64>>();
        let mut ways: Vec<(Vec<f64>, &[Summing])> = Vec::new();
        if is_mean {
            ways.push((vec![each; used.len()], &Summing::ALL));
        }
        ways.extend([(round(20.0), &Summing::ALL[..2]), (round(1000.0), &Summing::ALL[..2])]);
        ways.push((weights.clone(), &Summing::ALL[..1]));
        for order in orders(used.len()) {
            let input: Vec<u8> = order.iter().flat_map(|place| tensors[used[*place]]).copied().collect();
            for (weights, summings) in &ways {
                let weights: Vec<f64> = order.iter().map(|place| weights[*place]).collect();
                for summing in *summings {
                    let derived = Self::of(dtype, *summing, &weights);
                    derived.derive(isa, Target { dtype, len: words.len() }, &input, &mut out).ok()?;
                    let pairs = out.chunks_exact(float.bytes()).zip(words.chunks_exact(float.bytes()));
                    let equal = pairs.filter(|(made, word)| made == word).count();
                    let equal = equal as f64 / target.len().max(1) as f64;
                    if best.as_ref().is_none_or(|best| equal > best.equal) {
                        let used = order.iter().map(|place| used[*place]).collect();
                        best = Some(Sum { summing: *summing, weights: weights.clone(), used, equal, left });
                    }
                    if equal == 1.0 {
                        break;
                    }
                }
            }
        }
        best
    }
}

/// Orders in which so many may have been summed up: as they are, from the other end, and of three each last.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let forwards: Vec<usize> = (0..count).collect();
    let mut orders = vec![forwards.iter().rev().copied().collect(), forwards];
    if count == 3 {
        orders.push(vec![0, 2, 1]);
    }
    orders
}

/// Weights of sum 1 by least squares.
fn fit(target: &[f64], all: &[Vec<f64>], used: &[usize]) -> Option<Vec<f64>> {
    let (first, others) = used.split_first()?;
    let first = &all[*first];
    let size = others.len();
    let (mut gram, mut along) = (vec![0.0; size * size], vec![0.0; size]);
    for (at, (target, first)) in target.iter().zip(first).enumerate() {
        for (row, index) in others.iter().enumerate() {
            let difference = all[*index][at] - first;
            along[row] += difference * (target - first);
            for (column, other) in others[..=row].iter().enumerate() {
                gram[row * size + column] += difference * (all[*other][at] - first);
            }
        }
    }
    // The lower half of a symmetric matrix is there.
    let full = |row: usize, column: usize| gram[row.max(column) * size + row.min(column)];
    let matrix: Vec<f64> = (0..size * size).map(|at| full(at / size, at % size)).collect();
    let others = solve(&matrix, &along)?;
    Some([1.0 - others.iter().sum::<f64>()].into_iter().chain(others).collect())
}

impl Derivation for Linear {
    fn id(&self) -> u8 {
        5
    }
    fn name(&self) -> &'static str {
        "linear"
    }
    fn numbers(&self) -> &'static [Number] {
        const WEIGHT: Number = Number::Factor;
        &[
            Number::DType,
            Number::UpTo(MAX_INPUTS as u64),
            Number::UpTo(4),
            WEIGHT,
            WEIGHT,
            WEIGHT,
            WEIGHT,
            WEIGHT,
            WEIGHT,
            WEIGHT,
            WEIGHT,
        ]
    }
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError> {
        Float::of(target.dtype)?;
        let len = byte_len(Float::of(dtype(numbers[0])?)?.dtype, target.elements()?)?;
        let count = usize::try_from(numbers[1]).unwrap_or(MAX_INPUTS);
        if count == 0 {
            return Err(CodecError::Chain("a sum of nothing"));
        }
        Ok(InputLens::of(&[len; MAX_INPUTS][..count.min(MAX_INPUTS)]))
    }
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let (from, to) = (Float::of(dtype(numbers[0])?)?, Float::of(target.dtype)?);
        let summing = Summing::ALL.get(numbers[2] as usize).ok_or(CodecError::Chain("no such sum"))?;
        let weights: Vec<f64> = numbers[3..].iter().take(inputs.len()).map(|bits| f64::from_bits(*bits)).collect();
        let first = weights.first().copied().unwrap_or_default();
        let count = inputs.len() as f64;
        let (mut sums, mut buffer) = ([0.0; TILE], [0.0; TILE]);
        for (tile, out) in out.chunks_mut(TILE * to.bytes()).enumerate() {
            let words = out.len() / to.bytes();
            let (sums, buffer) = (&mut sums[..words], &mut buffer[..words]);
            sums.fill(0.0);
            for (input, weight) in inputs.iter().zip(&weights) {
                let at = tile * TILE * from.bytes();
                values(isa, from, &input[at..at + words * from.bytes()], buffer);
                let pairs = sums.iter_mut().zip(&*buffer);
                match summing {
                    Summing::Wide => pairs.for_each(|(sum, value)| *sum += value * weight),
                    Summing::Single => pairs.for_each(|(sum, value)| {
                        *sum = f64::from(*sum as f32 + *value as f32 * *weight as f32);
                    }),
                    Summing::Multiple | Summing::Mean => {
                        pairs.for_each(|(sum, value)| *sum = f64::from(*sum as f32 + *value as f32));
                    }
                    Summing::WideMean => pairs.for_each(|(sum, value)| *sum += value),
                }
            }
            for sum in &mut *sums {
                *sum = match summing {
                    Summing::Wide => *sum,
                    Summing::Single => f64::from(*sum as f32),
                    Summing::Multiple => f64::from(*sum as f32 * first as f32),
                    Summing::Mean => f64::from(*sum as f32 / count as f32),
                    Summing::WideMean => *sum / count,
                };
                // A sum beyond all bounds must not become a NaN, whose bits are not the same everywhere.
                *sum = if sum.is_finite() { *sum } else { 0.0 };
            }
            store(isa, to, sums, out);
        }
        Ok(())
    }
}
