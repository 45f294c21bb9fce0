//! Structure in the change of a matrix: its rank, or that it has none.

use nalgebra::{DMatrix, SVD};
use shard_codecs::derive::Change;
use shard_codecs::kernel::Isa;
use shard_core::DType;

use super::super::contents::Placed;
use super::matrix;
use super::sample::{Limits, Sample};
use crate::error::Result;

/// Rows and columns of the part of a matrix whose rank is found. That of a part is that of the whole, unless directions are many.
const RANKED: Limits = Limits { rows: 512, columns: 512 };
/// Rows and columns in which structure is looked for, and the fewest that tell anything.
const LOOKED_AT: usize = 192;
const FEWEST: usize = 16;
/// A direction is no rounding where it is so many times as long as the longest that rounding makes likely.
const BEYOND_ROUNDING: f64 = 1.3;
/// What is left beyond the rank may have so many times the energy of rounding.
const MOST_REST: f64 = 1.6;
/// Kurtosis of noise: above that of coin tosses (1), as steps of one size have it, and below that of a few outliers.
const NOISE_KURTOSIS: std::ops::Range<f64> = 1.5..12.0;
/// How many times as long the shorter side of a matrix is than a rank that is low.
const LEAST_SIDE: usize = 6;
/// Turns of the power method.
const TURNS: usize = 40;

/// A change of low rank.
pub(super) struct LowRank {
    pub(super) rank: usize,
    /// The share of the change's energy that its directions hold.
    pub(super) share: f64,
}

/// The rank of a change that is low but for rounding. Rounding alone, as if it were random, has singular values of at most about
/// its deviation times the sum of the square roots of the sides (Marchenko and Pastur 1967; Geman 1980).
pub(super) fn low_rank(glance: &Sample, old: Placed<'_>, new: Placed<'_>) -> Result<Option<LowRank>> {
    if glance.rows.min(glance.columns) < FEWEST || change_of(glance).and_then(|change| change.glance()).is_none() {
        return Ok(None);
    }
    let Some(sample) = Sample::read_within(old, new, RANKED)? else { return Ok(None) };
    let differences: Vec<f64> = sample.old.iter().zip(&sample.new).map(|(a, b)| b - a).collect();
    let Some(float) = sample.dtypes[1].float() else { return Ok(None) };
    let half = |value: &f64| half_unit(*value, float.exponent, float.mantissa);
    let rounding: f64 = sample.new.iter().map(half).map(|half| half * half / 3.0).sum();
    let Some(values) = singular_values(differences, sample.rows, sample.columns) else { return Ok(None) };
    let total: f64 = values.iter().map(|value| value * value).sum();
    let (rows, columns) = (sample.rows as f64, sample.columns as f64);
    let edge = BEYOND_ROUNDING * (rounding / (rows * columns)).sqrt() * (rows.sqrt() + columns.sqrt());
    // The products of the factors were rounded, too, in the type that they were computed in: binary32 most often.
    let least = edge.max(values.first().copied().unwrap_or(0.0) * 1e-6);
    let rank = values.iter().take_while(|value| **value > least).count();
    let held: f64 = values.iter().take(rank).map(|value| value * value).sum();
    let is_low = rank > 0 && rank * LEAST_SIDE <= values.len() && total - held <= MOST_REST * rounding + 1e-10 * total;
    Ok(is_low.then_some(LowRank { rank, share: held / total }))
}

/// The change in the form that codecs look for factors in.
fn change_of(sample: &Sample) -> Option<Change> {
    let (old, new) = sample.bytes()?;
    let mut change = Change::new(sample.columns);
    change.extend(Isa::best(), (sample.dtypes[0], old), (sample.dtypes[1], new)).ok()?;
    Some(change)
}

/// Half a unit in the last place of a value of a type.
fn half_unit(value: f64, exponent: u32, mantissa: u32) -> f64 {
    let least = 2f64.powi(2 - (1 << (exponent - 1)) - mantissa as i32 - 1);
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    2f64.powi(value.abs().log2().floor() as i32 - mantissa as i32 - 1).max(least)
}

/// Elements of a matrix whose spectrum is taken as a whole, and how much is taken of a larger one.
const WHOLE: u64 = 1 << 21;
const PART: Limits = Limits { rows: 1024, columns: 1024 };

/// The directions of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// Its singular values, the largest first.
    pub singular_values: Vec<f64>,
    /// Rows and columns of the part of the matrix that was looked at: all of one with at most 2,097,152 elements, otherwise at most 1,024
    /// of each.
    pub looked_at: (usize, usize),
    /// Whether that is all of it.
    pub is_whole: bool,
}

impl Spectrum {
    /// The exponential of the entropy of the singular values as shares of their sum (Roy and Vetterli, "The effective rank: a measure
    /// of effective dimensionality", EUSIPCO 2007): the number of directions, where all are of one length; 0 without a change.
    #[must_use]
    pub fn effective_rank(&self) -> f64 {
        let sum: f64 = self.singular_values.iter().sum();
        if sum <= 0.0 {
            return 0.0;
        }
        let shares = self.singular_values.iter().map(|value| value / sum).filter(|share| *share > 0.0);
        (-shares.map(|share| share * share.ln()).sum::<f64>()).exp()
    }

    /// The share of the change's energy (squared norm) that its first directions hold.
    #[must_use]
    pub fn energy(&self, directions: usize) -> f64 {
        let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        let all = squares(&self.singular_values);
        let first = self.singular_values.get(..directions).unwrap_or(&self.singular_values);
        if all > 0.0 { squares(first) / all } else { 0.0 }
    }
}

/// The spectrum of the change of a matrix; `None` for vectors, types without values, and what is not finite.
pub(in super::super) fn spectrum(old: Placed<'_>, new: Placed<'_>) -> Result<Option<Spectrum>> {
    let Some((rows, columns)) = matrix(new.1).filter(|(rows, columns)| rows.min(columns) > &1) else { return Ok(None) };
    let is_whole = rows.saturating_mul(columns) <= WHOLE;
    let limits = if is_whole { Limits { rows, columns } } else { PART };
    let Some(sample) = Sample::read_within(old, new, limits)? else { return Ok(None) };
    let change = sample.old.iter().zip(&sample.new).map(|(a, b)| b - a).collect();
    let looked_at = (sample.rows, sample.columns);
    let values = singular_values(change, sample.rows, sample.columns);
    Ok(values.map(|singular_values| Spectrum { singular_values, looked_at, is_whole }))
}

/// The singular values of a matrix in row-major order, the largest first; `None` where it is empty, not finite, or they do not settle.
fn singular_values(values: Vec<f64>, rows: usize, columns: usize) -> Option<Vec<f64>> {
    if values.is_empty() || values.len() != rows * columns || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    // Columns of the one are rows of the other, and the values are the same.
    let matrix = DMatrix::from_vec(columns, rows, values);
    let turns = 64 * rows.min(columns).max(64);
    let svd = SVD::try_new_unordered(matrix, false, false, f64::EPSILON, turns)?;
    let mut values: Vec<f64> = svd.singular_values.iter().map(|value| value.abs()).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    Some(values)
}

/// What tells that a change is noise, if it is: that its rows, its columns and its largest direction are as chance has them.
/// Noise in proportion to the values counts, too.
pub(super) fn noise(sample: &Sample) -> Option<String> {
    let (rows, columns) = (sample.rows.min(LOOKED_AT), sample.columns.min(LOOKED_AT));
    if rows.min(columns) < FEWEST || !matches!(sample.dtypes, [a, b] if a == b && is_fine(a)) {
        return None;
    }
    let at = |row: usize, column: usize| row * sample.rows / rows * sample.columns + column * sample.columns / columns;
    let places: Vec<usize> = (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(row, column)| at(row, column))
        .collect();
    let change: Vec<f64> = places.iter().map(|at| sample.new[*at] - sample.old[*at]).collect();
    if let Some(deviation) = patternless(&change, rows, columns) {
        return Some(format!(
            "without structure: deviation {deviation:.3e} in all rows and columns, no direction stands out"
        ));
    }
    let in_proportion: Vec<f64> = places
        .iter()
        .zip(&change)
        .map(|(at, change)| if *change == 0.0 { 0.0 } else { change / sample.old[*at].abs() })
        .collect();
    let deviation = patternless(&in_proportion, rows, columns)?;
    Some(format!(
        "without structure: {:.2}% of each value, in all rows and columns, no direction stands out",
        deviation * 100.0
    ))
}

/// Whether steps of a type are fine enough for noise to keep its form.
fn is_fine(dtype: DType) -> bool {
    dtype.float().is_some_and(|float| float.mantissa >= 7)
}

/// The deviation of a matrix whose entries look as if they were drawn independently from one distribution.
fn patternless(matrix: &[f64], rows: usize, columns: usize) -> Option<f64> {
    let count = matrix.len() as f64;
    let square = matrix.iter().map(|value| value * value).sum::<f64>() / count;
    let kurtosis = matrix.iter().map(|value| value.powi(4)).sum::<f64>() / count / (square * square);
    if !NOISE_KURTOSIS.contains(&kurtosis) {
        return None;
    }
    // Of independent entries the mean square of a row of n deviates from that of all by (kurtosis - 1) / n, relative and squared.
    let spread = |energies: Vec<f64>, others: usize| {
        let mean = energies.iter().sum::<f64>() / energies.len() as f64;
        let variance = energies.iter().map(|energy| (energy - mean).powi(2)).sum::<f64>() / (energies.len() - 1) as f64;
        let expected = mean * mean * (kurtosis - 1.0) / others as f64;
        let tolerance = 5.0 * (2.0 / energies.len() as f64).sqrt();
        (variance / expected - 1.0).abs() <= tolerance.max(0.3)
    };
    let by_row = matrix.chunks_exact(columns).map(|row| row.iter().map(|v| v * v).sum::<f64>() / columns as f64);
    let by_column = (0..columns)
        .map(|column| (0..rows).map(|row| matrix[row * columns + column].powi(2)).sum::<f64>() / rows as f64);
    if !spread(by_row.collect(), columns) || !spread(by_column.collect(), rows) {
        return None;
    }
    let expected = square.sqrt() * ((rows as f64).sqrt() + (columns as f64).sqrt());
    let most = 1.05 + (rows.min(columns) as f64).powf(-2.0 / 3.0);
    (largest_direction(matrix, rows, columns) <= most * expected).then_some(square.sqrt())
}

/// The largest singular value, by the power method: a little less, never more.
fn largest_direction(matrix: &[f64], rows: usize, columns: usize) -> f64 {
    let norm = |vector: &[f64]| vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    let longest = matrix.chunks_exact(columns).max_by(|a, b| norm(a).total_cmp(&norm(b)));
    let mut direction = longest.unwrap_or_default().to_vec();
    let mut length = 0.0;
    for _ in 0..TURNS {
        let scale = norm(&direction);
        if scale <= 0.0 {
            return 0.0;
        }
        direction.iter_mut().for_each(|value| *value /= scale);
        let along: Vec<f64> =
            matrix.chunks_exact(columns).map(|row| row.iter().zip(&direction).map(|(a, b)| a * b).sum()).collect();
        length = norm(&along);
        let mut next = vec![0.0; columns];
        for (row, share) in matrix.chunks_exact(columns).zip(&along).take(rows) {
            next.iter_mut().zip(row).for_each(|(sum, value)| *sum += share * value);
        }
        direction = next;
    }
    length
}
