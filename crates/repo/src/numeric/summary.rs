//! What the values of a tensor are like.
//!
//! Sums are taken tile by tile and tiles are merged in file order, so the same tensor gives the same bits on every machine. Mean and
//! variance by Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance", 1983: no cancellation where the mean is large.

use std::array::from_fn;

use shard_core::DType;

use super::values::{Tile, Values};

/// Lanes of partial sums: a fixed number, whatever the processor has.
const LANES: usize = 8;

/// The values of a tensor, summed up. Of complex numbers each component is a value. Where a type has NaN or infinities, minimum,
/// maximum, mean and deviation are of the finite values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Values.
    pub values: u64,
    /// Those that are zero.
    pub zeros: u64,
    /// Those that are not a number.
    pub nan: u64,
    /// Those that are infinite.
    pub infinite: u64,
    /// The least; `None` where none is finite.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
    /// The arithmetic mean; `None` also where sums leave the range of double precision.
    pub mean: Option<f64>,
    /// The standard deviation of all values (not of a sample: divided by their number); `None` as the mean.
    pub std: Option<f64>,
}

impl Summary {
    /// Share of the values that are zero, from 0 to 1; 0 for an empty tensor.
    #[must_use]
    pub fn sparsity(&self) -> f64 {
        if self.values == 0 { 0.0 } else { self.zeros as f64 / self.values as f64 }
    }
}

/// Sums over values; mergeable.
#[derive(Debug, Clone, Copy)]
struct Sums {
    values: u64,
    zeros: u64,
    nan: u64,
    infinite: u64,
    finite: u64,
    min: f64,
    max: f64,
    mean: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

impl Default for Sums {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { values: 0, zeros: 0, nan: 0, infinite: 0, finite: 0, min, max, mean: 0.0, squares: 0.0 }
    }
}

impl Sums {
    fn merge(&mut self, next: &Self) {
        self.values += next.values;
        self.zeros += next.zeros;
        self.nan += next.nan;
        self.infinite += next.infinite;
        self.min = self.min.min(next.min);
        self.max = self.max.max(next.max);
        let (left, right) = (self.finite as f64, next.finite as f64);
        if next.finite > 0 {
            let (all, apart) = (left + right, next.mean - self.mean);
            self.mean += apart * (right / all);
            self.squares += next.squares + apart * apart * (left / all) * right;
            self.finite += next.finite;
        }
    }
}

/// Sums up a tensor whose bytes come in runs, in order.
pub(crate) struct Summing {
    values: Values,
    /// Elements that are still to come; what lies beyond is padding.
    left: u64,
    /// Bytes of a tile that has not come whole.
    part: Vec<u8>,
    sums: Sums,
    scratch: Vec<f64>,
}

impl Summing {
    /// A tensor of `elements` elements; `None` for the quantised types whose values shard does not know.
    pub(crate) fn new(dtype: DType, elements: u64) -> Option<Self> {
        let values = Values::of(dtype)?;
        let words = dtype.storage_unit().1 / dtype.word_bytes() as u64;
        // Complex numbers have two words an element.
        let per_element = if dtype.storage_unit().0 == 1 { words } else { 1 };
        let left = elements.saturating_mul(per_element);
        Some(Self { values, left, part: Vec::new(), sums: Sums::default(), scratch: Vec::new() })
    }

    /// Takes in the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let tile = self.values.tile_bytes();
        if !self.part.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(tile - self.part.len()));
            self.part.extend_from_slice(head);
            bytes = rest;
            if self.part.len() < tile {
                return;
            }
            let part = std::mem::take(&mut self.part);
            self.take(&part);
        }
        let mut tiles = bytes.chunks_exact(tile);
        for whole in &mut tiles {
            self.take(whole);
        }
        self.part.extend_from_slice(tiles.remainder());
    }

    /// What all bytes say.
    pub(crate) fn finish(mut self) -> Summary {
        let part = std::mem::take(&mut self.part);
        self.take(&part);
        let Sums { values, zeros, nan, infinite, finite, min, max, mean, squares } = self.sums;
        let of_finite = |value: f64| (finite > 0).then_some(value);
        Summary {
            values,
            zeros,
            nan,
            infinite,
            min: of_finite(min),
            max: of_finite(max),
            mean: of_finite(mean).filter(|mean| mean.is_finite()),
            std: of_finite((squares / finite as f64).sqrt()).filter(|std| std.is_finite()),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let sums = match self.values.tile(bytes, most) {
            Tile::Single(values) => singles(values).unwrap_or_else(|| {
                self.scratch.clear();
                self.scratch.extend(values.iter().map(|value| f64::from(*value)));
                odd(&self.scratch)
            }),
            Tile::Double(values) => odd(values),
        };
        self.left = self.left.saturating_sub(sums.values);
        self.sums.merge(&sums);
    }
}

/// The sums of a tile of single precision; `None` where some are not finite.
fn singles(values: &[f32]) -> Option<Sums> {
    // Loop by loop, and lanes as values and not places: so each becomes vectors.
    let (mut zeros, mut odd) = (0u32, false);
    for value in values {
        let magnitude = value.to_bits() << 1;
        zeros += u32::from(magnitude == 0);
        odd |= magnitude >= 0x7f80_0000 << 1;
    }
    if odd || values.is_empty() {
        return None;
    }
    let (lanes, rest) = values.as_chunks::<LANES>();
    let mut min = [f32::INFINITY; LANES];
    for lane in lanes {
        min = from_fn(|at| if lane[at] < min[at] { lane[at] } else { min[at] });
    }
    let mut max = [f32::NEG_INFINITY; LANES];
    for lane in lanes {
        max = from_fn(|at| if lane[at] > max[at] { lane[at] } else { max[at] });
    }
    let mut sum = [0f64; LANES];
    for lane in lanes {
        sum = from_fn(|at| sum[at] + f64::from(lane[at]));
    }
    let count = values.len() as f64;
    let mean = (sum.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value)).sum::<f64>()) / count;
    let mut squares = [0f64; LANES];
    for lane in lanes {
        squares = from_fn(|at| {
            let apart = f64::from(lane[at]) - mean;
            squares[at] + apart * apart
        });
    }
    let rest_squares = rest.iter().map(|value| (f64::from(*value) - mean).powi(2));
    let all = |lanes: [f32; LANES], pick: fn(f32, f32) -> f32, start: f32| {
        f64::from(lanes.into_iter().chain(rest.iter().copied()).fold(start, pick))
    };
    Some(Sums {
        values: values.len() as u64,
        zeros: u64::from(zeros),
        nan: 0,
        infinite: 0,
        finite: values.len() as u64,
        min: all(min, f32::min, f32::INFINITY),
        max: all(max, f32::max, f32::NEG_INFINITY),
        mean,
        squares: squares.iter().sum::<f64>() + rest_squares.sum::<f64>(),
    })
}

/// The sums of a tile of any values.
fn odd(values: &[f64]) -> Sums {
    let mut sums = Sums { values: values.len() as u64, ..Sums::default() };
    let mut sum = 0.0;
    for value in values {
        sums.zeros += u64::from(*value == 0.0);
        sums.nan += u64::from(value.is_nan());
        sums.infinite += u64::from(value.is_infinite());
        if value.is_finite() {
            sums.finite += 1;
            sums.min = sums.min.min(*value);
            sums.max = sums.max.max(*value);
            sum += value;
        }
    }
    if sums.finite > 0 {
        sums.mean = sum / sums.finite as f64;
        let apart = values.iter().filter(|value| value.is_finite()).map(|value| value - sums.mean);
        sums.squares = apart.map(|apart| apart * apart).sum();
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn summary(dtype: DType, elements: u64, runs: &[&[u8]]) -> Summary {
        let mut summing = Summing::new(dtype, elements).unwrap();
        runs.iter().for_each(|run| summing.update(run));
        summing.finish()
    }

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn finite_values_are_summed_and_others_counted() {
        let bytes = f32s(&[1.0, 0.0, -0.0, f32::NAN, 3.0, f32::INFINITY, -2.0, f32::NEG_INFINITY]);
        let found = summary(DType::F32, 8, &[&bytes]);
        assert_eq!((found.values, found.zeros, found.nan, found.infinite), (8, 2, 1, 2));
        assert_eq!((found.min, found.max, found.mean), (Some(-2.0), Some(3.0), Some(0.4)));
        assert!((found.std.unwrap() - (14f64 / 5.0 - 0.16).sqrt()).abs() < 1e-15);
        assert_eq!(found.sparsity(), 0.25);
        assert_eq!(summary(DType::F32, 0, &[]), Summary::default());
        let huge: Vec<u8> = [1e308f64, 1e308, 1e308].iter().flat_map(|value| value.to_le_bytes()).collect();
        let found = summary(DType::F64, 3, &[&huge]);
        assert_eq!((found.max, found.mean, found.std), (Some(1e308), None, None), "beyond what can be summed");
        let nothing_finite = summary(DType::F32, 1, &[&f32s(&[f32::NAN])]);
        assert_eq!((nothing_finite.min, nothing_finite.std, nothing_finite.nan), (None, None, 1));
    }

    #[test]
    fn padding_is_no_value() {
        let found = summary(DType::I4, 3, &[&[0x21, 0xf8]]);
        assert_eq!((found.values, found.min, found.max), (3, Some(-8.0), Some(2.0)));
        assert!(Summing::new(DType::IQ1_S, 256).is_none());
        assert_eq!(summary(DType::C64, 2, &[&f32s(&[1.0, 2.0, 3.0, 4.0])]).values, 4);
    }

    #[test]
    fn a_large_mean_takes_nothing_from_the_deviation() {
        let values: Vec<u8> = (0..100_000u32).flat_map(|i| (1e9 + f64::from(i % 2)).to_le_bytes()).collect();
        let found = summary(DType::F64, 100_000, &[&values]);
        assert_eq!(found.std, Some(0.5));
        assert_eq!(found.mean, Some(1e9 + 0.5));
    }

    proptest! {
        #[test]
        fn runs_of_any_length_give_the_same(
            len in 0usize..30_000, cuts in prop::collection::vec(0usize..30_000, 0..5), seed: u32,
            dtype in prop::sample::select(DType::ALL),
        ) {
            prop_assume!(Summing::new(dtype, 0).is_some());
            let unit = dtype.storage_unit().1 as usize;
            let len = len / unit * unit;
            let bytes: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect();
            let elements = len as u64 / dtype.storage_unit().1 * dtype.storage_unit().0;
            let whole = summary(dtype, elements, &[&bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(len)).chain([0, len]).collect();
            cuts.sort_unstable();
            let runs: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let parts = summary(dtype, elements, &runs);
            prop_assert_eq!(format!("{:?}", whole), format!("{:?}", parts));
            let components = if dtype.storage_unit().0 == 1 { unit / dtype.word_bytes() } else { 1 };
            prop_assert_eq!(whole.values, elements * components as u64);
        }
    }
}
