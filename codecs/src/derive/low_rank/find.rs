//! Finding the factors of a change of low rank from the matrices before and after it.
//!
//! The change is known but for rounding: each word after it stands for an interval of values, half a unit in the last place to
//! either side. First comes a randomised range finder (Halko, Martinsson, Tropp, arXiv:0909.4061) on some rows. Then factors are
//! moved until their product lies inside of as many intervals as possible: the product is projected onto the intervals, a little
//! beyond, and fitted again by least squares, in turns (alternating projections). That finds the factors far more exactly than
//! least squares alone, which takes rounding for noise around the truth. At last both are rounded to whole numbers as coarse as
//! pays off.

use shard_core::DType;

use super::super::values::{Float, bits, values};
use crate::CodecError;
use crate::kernel::{Isa, Work, compiled_for};

/// Rows and columns that are looked at to tell whether a change has a low rank at all.
const GLANCE: usize = 192;
/// The highest rank that is looked for.
const MOST_RANK: usize = 64;
/// A change has to have so many times the energy that rounding alone makes likely.
const LEAST_ENERGY: f64 = 2.0;
/// What is left beyond the rank may have so many times the energy of rounding.
const MOST_REST: f64 = 1.6;
/// Directions that are sought beyond the rank.
const MORE: usize = 8;
/// Multiplications that may be spent on moving factors, and the turns that this is for at most.
const BUDGET: usize = 1 << 30;
const TURNS: usize = 60;
/// By how much a projection goes beyond the interval's edge, in the manner of successive over-relaxation.
const BEYOND: f32 = 1.9;
/// Rows that steps are tried on.
const JUDGED: usize = 256;
/// Words that are looked at at a time.
const TILE: usize = 1024;
/// Bits that a number in a factor takes, about.
const NUMBER_BITS: f64 = 8.0;

/// A change of some rows of a matrix, and how far the truth may be from it.
#[derive(Debug, Clone, Default)]
pub struct Change {
    columns: usize,
    /// The difference of each word.
    difference: Vec<f32>,
    /// Half a unit in the last place of each word after the change.
    half: Vec<f32>,
}

/// Factors: whole numbers, to be multiplied by a step each.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// The rank.
    pub rank: usize,
    /// The step of either factor.
    pub step: f64,
    /// The right factor: `rank` rows.
    pub right: Vec<i32>,
    columns: usize,
}

impl Change {
    /// No rows yet, of that length.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Adds words before and after the change; of those that are not finite, no change.
    ///
    /// # Errors
    /// [`CodecError::Chain`] where a type is no float that can be computed with.
    pub fn extend(
        &mut self,
        isa: Isa,
        (before_type, before): (DType, &[u8]),
        (after_type, after): (DType, &[u8]),
    ) -> Result<(), CodecError> {
        let (from, to) = (Float::of(before_type)?, Float::of(after_type)?);
        // The units of subnormal words do not get smaller.
        let least = 2f32.powi((1 - (1 << (to.format.exponent - 1)) - to.format.mantissa as i32 + 1).max(-126));
        let (mut old, mut new) = ([0.0; TILE], [0.0; TILE]);
        for (before, after) in before.chunks(TILE * from.bytes()).zip(after.chunks(TILE * to.bytes())) {
            let count = (before.len() / from.bytes()).min(after.len() / to.bytes());
            let (old, new) = (&mut old[..count], &mut new[..count]);
            let all_finite = values(isa, from, before, old) & values(isa, to, after, new);
            for (index, (old, new)) in old.iter().zip(&*new).enumerate() {
                let finite = all_finite || is_finite(from, before, index) && is_finite(to, after, index);
                let power = (new.to_bits() >> 52 & 0x7ff).saturating_sub(u64::from(to.format.mantissa) + 1);
                self.difference.push(if finite { (new - old) as f32 } else { 0.0 });
                self.half.push((f64::from_bits(power << 52) as f32).max(least));
            }
        }
        Ok(())
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.difference.len() / self.columns.max(1)
    }

    /// A rank that the change may have; `None` where it is not low.
    #[must_use]
    pub fn glance(&self) -> Option<usize> {
        let (rows, columns) = (self.rows().min(GLANCE), self.columns.min(GLANCE));
        let at = |row: usize, column: usize| row * self.rows() / rows * self.columns + column * self.columns / columns;
        let mut rest: Vec<Vec<f64>> =
            (0..rows).map(|r| (0..columns).map(|c| f64::from(self.difference[at(r, c)])).collect()).collect();
        let halves = (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c)));
        let noise = halves.map(|(r, c)| f64::from(self.half[at(r, c)]).powi(2)).sum::<f64>() / 3.0;
        let energy = |row: &[f64]| wide_dot(row, row);
        let mut energies: Vec<f64> = rest.iter().map(|row| energy(row)).collect();
        let total = energies.iter().sum::<f64>();
        let most = MOST_RANK.min(rows.min(columns) / 3);
        if !total.is_finite() || total <= LEAST_ENERGY * noise {
            return None;
        }
        // Gram and Schmidt, the longest row first: what is left falls to the level of noise once all directions were taken.
        for rank in 0..=most {
            let left = (rows - rank) as f64 / rows as f64 * (columns - rank) as f64 / columns as f64;
            let energy_left = energies.iter().sum::<f64>();
            if energy_left <= MOST_REST * noise * left || energy_left <= total * 1e-12 {
                return (rank > 0).then_some(rank);
            }
            let longest = (0..rows).max_by(|a, b| energies[*a].total_cmp(&energies[*b]))?;
            let length = energies[longest].sqrt();
            let direction: Vec<f64> = rest[longest].iter().map(|value| value / length).collect();
            for (row, energy_of) in rest.iter_mut().zip(&mut energies) {
                let share = wide_dot(row, &direction);
                row.iter_mut().zip(&direction).for_each(|(value, unit)| *value -= share * unit);
                *energy_of = energy(row);
            }
        }
        None
    }

    /// Factors of the change, of about that rank, if they save anything: for a matrix of `rows` rows in all.
    #[must_use]
    pub fn find(&self, isa: Isa, rank: usize, rows: usize) -> Option<Factors> {
        let (mut left, mut right) = self.range(isa, (rank + MORE).min(self.columns), rows)?;
        let rank = right.len() / self.columns;
        let work = 3 * self.difference.len() * rank;
        let turns = (BUDGET / work.max(1)).clamp(4, TURNS);
        for _ in 0..turns {
            self.turn(isa, &mut left, &mut right, true)?;
        }
        self.round(isa, rank, right)
    }

    /// The left factor of these rows, as whole numbers.
    #[must_use]
    pub fn left(&self, isa: Isa, factors: &Factors) -> Option<Vec<i32>> {
        let right: Vec<f32> = factors.right.iter().map(|code| (f64::from(*code) * factors.step) as f32).collect();
        let left = self.solve(isa, &right, factors.rank)?;
        Some(left.iter().map(|value| whole(*value, factors.step)).collect())
    }

    /// The singular vectors that are worth their bytes, on both sides, scaled so that values on both are about as large.
    fn range(&self, isa: Isa, directions: usize, rows: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let columns = self.columns;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut signs = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state >> 63 == 0 { 1.0 } else { -1.0 }
        };
        let mut left: Vec<f32> = (0..self.rows() * directions).map(|_| signs()).collect();
        let mut right = vec![0.0; directions * columns];
        for _ in 0..3 {
            right.fill(0.0);
            compiled_for(isa, Gather { rows: &self.difference, left: &left, sums: &mut right, columns });
            orthonormal(&mut right, columns);
            compiled_for(isa, Project { rows: &self.difference, right: &right, left: &mut left, columns });
        }
        let gram = gram(left.chunks_exact(directions), directions);
        let (energies, vectors) = eigen(gram, directions);
        let words = self.difference.len() as f64;
        let noise = self.half.iter().map(|half| f64::from(*half).powi(2)).sum::<f64>() / 3.0 / words;
        let price = (rows + columns) as f64 * NUMBER_BITS;
        let all = (rows * columns) as f64;
        let pays = |energy: f64| energy > 0.0 && all / 2.0 * (1.0 + energy / words / noise.max(1e-60)).log2() > price;
        let kept: Vec<usize> = (0..directions).filter(|k| pays(energies[*k])).take(MOST_RANK).collect();
        if kept.is_empty() {
            return None;
        }
        let (mut u, mut v) = (vec![0.0; self.rows() * kept.len()], vec![0.0; kept.len() * columns]);
        for (index, k) in kept.iter().enumerate() {
            let vector = &vectors[k * directions..(k + 1) * directions];
            let scale = (energies[*k].sqrt() * (columns as f64 / self.rows() as f64).sqrt()).sqrt();
            for (row, out) in left.chunks_exact(directions).zip(u.chunks_exact_mut(kept.len())) {
                let value: f64 = row.iter().zip(vector).map(|(a, b)| f64::from(*a) * b).sum();
                out[index] = (value / scale) as f32;
            }
            let out = &mut v[index * columns..(index + 1) * columns];
            for (row, weight) in right.chunks_exact(columns).zip(vector) {
                out.iter_mut().zip(row).for_each(|(out, value)| *out += value * (weight * scale) as f32);
            }
        }
        Some((u, v))
    }

    /// Moves the factors towards products inside of the intervals: the left one, and the right one where that is asked for.
    fn turn(&self, isa: Isa, left: &mut [f32], right: &mut Vec<f32>, both: bool) -> Option<()> {
        let rank = right.len() / self.columns;
        let inverse = inverse(gram(transposed_pairs(right, self.columns), rank), rank)?;
        let mut sums = vec![0.0; if both { right.len() } else { 0 }];
        compiled_for(isa, Turn { change: self, right, inverse: &inverse, left, sums: &mut sums });
        if both {
            let inverse = self::inverse(gram(left.chunks_exact(rank), rank), rank)?;
            for (row, weights) in right.chunks_exact_mut(self.columns).zip(inverse.chunks_exact(rank)) {
                row.fill(0.0);
                for (sum, weight) in sums.chunks_exact(self.columns).zip(weights) {
                    row.iter_mut().zip(sum).for_each(|(out, value)| *out += value * *weight as f32);
                }
            }
        }
        right.iter().all(|value| value.is_finite()).then_some(())
    }

    /// The left factor for a right one.
    fn solve(&self, isa: Isa, right: &[f32], rank: usize) -> Option<Vec<f32>> {
        let mut right = right.to_vec();
        let inverse = inverse(gram(transposed_pairs(&right, self.columns), rank), rank)?;
        let mut left = vec![0.0; self.rows() * rank];
        compiled_for(isa, Project { rows: &self.difference, right: &right, left: &mut left, columns: self.columns });
        for row in left.chunks_exact_mut(rank) {
            apply(&inverse, row);
        }
        let turns = (BUDGET / (2 * self.difference.len() * rank).max(1)).clamp(2, TURNS / 2);
        for _ in 0..turns {
            self.turn(isa, &mut left, &mut right, false)?;
        }
        Some(left)
    }

    /// The right factor as whole numbers of the coarsest step that pays off.
    fn round(&self, isa: Isa, rank: usize, right: Vec<f32>) -> Option<Factors> {
        let judged = self.some_rows(JUDGED);
        let largest = right.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let numbers = (judged.rows() * rank) as f64;
        // Numbers of the right factor are shared by all rows.
        let shared = right.len() as f64 * judged.rows() as f64 / self.rows() as f64;
        let mut best: Option<(f64, Factors)> = None;
        let mut worse = 0;
        for bits in 4..24 {
            let step = f64::from(largest) / f64::from((1u32 << (bits - 1)) - 1);
            let codes: Vec<i32> = right.iter().map(|value| whole(*value, step)).collect();
            let factors = Factors { rank, step, right: codes, columns: self.columns };
            let Some(left) = judged.left(isa, &factors) else { continue };
            let cost = judged.cost(&factors, &left) + (numbers + shared) * f64::from(bits - 1);
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, factors));
                worse = 0;
            } else {
                worse += 1;
                if worse > 2 {
                    break;
                }
            }
        }
        let (cost, factors) = best?;
        let nothing = Factors { rank: 1, step: 0.0, right: vec![0; self.columns], columns: self.columns };
        let without = judged.cost(&nothing, &vec![0; judged.rows()]);
        (cost < without * 0.9).then_some(factors)
    }

    /// At most so many of the rows, evenly spread.
    fn some_rows(&self, most: usize) -> Self {
        let count = self.rows().min(most);
        let rows = (0..count).map(|index| index * self.rows() / count * self.columns);
        let take = |from: &[f32]| rows.clone().flat_map(|at| from[at..at + self.columns].to_vec()).collect();
        Self { columns: self.columns, difference: take(&self.difference), half: take(&self.half) }
    }

    /// About the bits that residuals take, in units in the last place.
    fn cost(&self, factors: &Factors, left: &[i32]) -> f64 {
        const MOST: usize = 64;
        let mut counts = [0u32; 2 * MOST + 1];
        let mut far = 0.0;
        let scale = factors.step * factors.step;
        let mut products = vec![0.0; self.columns];
        let rows = self.difference.chunks_exact(self.columns).zip(self.half.chunks_exact(self.columns));
        for ((difference, half), left) in rows.zip(left.chunks_exact(factors.rank)) {
            products.fill(0.0);
            for (left, right) in left.iter().zip(factors.right.chunks_exact(self.columns)) {
                let left = f64::from(*left) * scale;
                products.iter_mut().zip(right).for_each(|(sum, right)| *sum += left * f64::from(*right));
            }
            for ((product, difference), half) in products.iter().zip(difference).zip(half) {
                let units = ((product - f64::from(*difference)) / (2.0 * f64::from(*half))).round();
                if units.abs() < MOST as f64 {
                    counts[(units + MOST as f64) as usize] += 1;
                } else {
                    counts[2 * MOST] += 1;
                    far += (units.abs() + 1.0).log2().min(64.0);
                }
            }
        }
        let total = f64::from(counts.iter().sum::<u32>().max(1));
        let entropy = |count: &u32| f64::from(*count) * (total / f64::from(*count)).log2();
        far + counts.iter().filter(|count| **count > 0).map(entropy).sum::<f64>()
    }
}

fn is_finite(float: Float, words: &[u8], index: usize) -> bool {
    let word = words.get(index * float.bytes()..(index + 1) * float.bytes()).unwrap_or_default();
    bits(word) & (float.sign() - 1) < float.infinity()
}

/// Whole numbers as words that [`super::LowRank`] takes for factors, of the shortest type that holds all.
#[must_use]
pub fn words(numbers: &[i32]) -> (DType, Vec<u8>) {
    let most = numbers.iter().map(|number| number.unsigned_abs()).max().unwrap_or(0);
    let (dtype, bias) = match most {
        0..128 => (DType::U8, 1 << 7),
        128..32_768 => (DType::U16, 1 << 15),
        _ => (DType::U32, 1 << 23),
    };
    let bytes = numbers.iter().flat_map(|number| (number + bias).to_le_bytes().into_iter().take(dtype.word_bytes()));
    (dtype, bytes.collect())
}

/// The nearest whole number of steps that fits into 24 bits.
fn whole(value: f32, step: f64) -> i32 {
    const MOST: f64 = 8_388_607.0;
    (f64::from(value) / step).round().clamp(-MOST, MOST) as i32
}

/// The dot product of equally long vectors, in a fixed order that makes vectors.
fn wide_dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0f64; 8];
    for (a, b) in a.iter().zip(b) {
        for at in 0..8 {
            lanes[at] += a[at] * b[at];
        }
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// The sum of products, in sixteen lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// `sums += factor * values`.
#[inline(always)]
fn add(factor: f32, values: &[f32], sums: &mut [f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// `left[i][k] = rows[i] · right[k]`.
struct Project<'a> {
    rows: &'a [f32],
    right: &'a [f32],
    left: &'a mut [f32],
    columns: usize,
}

impl Work for Project<'_> {
    #[inline(always)]
    fn run(self) {
        let rank = self.right.len() / self.columns;
        for (row, left) in self.rows.chunks_exact(self.columns).zip(self.left.chunks_exact_mut(rank)) {
            for (left, right) in left.iter_mut().zip(self.right.chunks_exact(self.columns)) {
                *left = dot(row, right);
            }
        }
    }
}

/// `sums[k] += Σ left[i][k] · rows[i]`.
struct Gather<'a> {
    rows: &'a [f32],
    left: &'a [f32],
    sums: &'a mut [f32],
    columns: usize,
}

impl Work for Gather<'_> {
    #[inline(always)]
    fn run(self) {
        let rank = self.sums.len() / self.columns;
        for (row, left) in self.rows.chunks_exact(self.columns).zip(self.left.chunks_exact(rank)) {
            for (left, sums) in left.iter().zip(self.sums.chunks_exact_mut(self.columns)) {
                add(*left, row, sums);
            }
        }
    }
}

/// One turn: each row's product is projected, and the row of the left factor fitted to that.
struct Turn<'a> {
    change: &'a Change,
    right: &'a [f32],
    inverse: &'a [f64],
    left: &'a mut [f32],
    /// Sums for the right factor, or nothing.
    sums: &'a mut [f32],
}

impl Work for Turn<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { change, right, inverse, left, sums } = self;
        let columns = change.columns;
        let rank = right.len() / columns;
        let mut target = vec![0.0; columns];
        let rows = change.difference.chunks_exact(columns).zip(change.half.chunks_exact(columns));
        for ((difference, half), left) in rows.zip(left.chunks_exact_mut(rank)) {
            target.fill(0.0);
            for (left, right) in left.iter().zip(right.chunks_exact(columns)) {
                add(*left, right, &mut target);
            }
            for ((product, difference), half) in target.iter_mut().zip(difference).zip(half) {
                let off = *product - difference;
                let inside = if off > *half { *half } else { off };
                let inside = if inside < -*half { -*half } else { inside };
                *product += BEYOND * (inside - off);
            }
            for (left, right) in left.iter_mut().zip(right.chunks_exact(columns)) {
                *left = dot(&target, right);
            }
            apply(inverse, left);
            for (left, sums) in left.iter().zip(sums.chunks_exact_mut(columns)) {
                add(*left, &target, sums);
            }
        }
    }
}

/// A row times a symmetric matrix.
#[inline(always)]
fn apply(matrix: &[f64], row: &mut [f32]) {
    let mut out = [0.0f32; MOST_RANK + MORE];
    for (out, weights) in out.iter_mut().zip(matrix.chunks_exact(row.len())) {
        *out = weights.iter().zip(&*row).map(|(weight, value)| weight * f64::from(*value)).sum::<f64>() as f32;
    }
    row.copy_from_slice(&out[..row.len()]);
}

/// The columns of a matrix of rows, as rows.
fn transposed_pairs(rows: &[f32], columns: usize) -> impl Iterator<Item = Vec<f32>> {
    (0..columns).map(move |column| rows.iter().skip(column).step_by(columns).copied().collect())
}

/// The products of all columns of a matrix with each other.
fn gram<R: AsRef<[f32]>>(rows: impl Iterator<Item = R>, rank: usize) -> Vec<f64> {
    let mut gram = vec![0.0; rank * rank];
    for row in rows {
        let row = row.as_ref();
        for (out, a) in gram.chunks_exact_mut(rank).zip(row) {
            out.iter_mut().zip(row).for_each(|(sum, b)| *sum += f64::from(*a) * f64::from(*b));
        }
    }
    gram
}

/// Makes the rows of a matrix orthonormal (Gram and Schmidt, twice, which is enough); what depends on others becomes 0.
fn orthonormal(rows: &mut [f32], columns: usize) {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for index in 0..rows.len() / columns {
        let (before, rest) = rows.split_at_mut(index * columns);
        let row = &mut rest[..columns];
        let length = product(row, row);
        for _ in 0..2 {
            for other in before.chunks_exact(columns) {
                let share = product(row, other);
                row.iter_mut().zip(other).for_each(|(value, unit)| *value -= (share * f64::from(*unit)) as f32);
            }
        }
        let left = product(row, row);
        let scale = if left > length * 1e-10 { 1.0 / left.sqrt() } else { 0.0 };
        row.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
}

/// Eigenvalues of a symmetric matrix, the largest first, and their vectors as rows (Jacobi's method).
fn eigen(mut matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; size * size];
    (0..size).for_each(|index| vectors[index * size + index] = 1.0);
    for _ in 0..30 {
        let at = |row: usize, column: usize| row * size + column;
        let off: f64 = (0..size).flat_map(|r| (0..r).map(move |c| (r, c))).map(|(r, c)| matrix[at(r, c)].powi(2)).sum();
        let on: f64 = (0..size).map(|index| matrix[at(index, index)].powi(2)).sum();
        if off <= on * 1e-28 {
            break;
        }
        for row in 1..size {
            for column in 0..row {
                let (p, q, pq) = (matrix[at(column, column)], matrix[at(row, row)], matrix[at(row, column)]);
                if pq == 0.0 {
                    continue;
                }
                let theta = (q - p) / (2.0 * pq);
                let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                let sine = tangent * cosine;
                for k in 0..size {
                    let (a, b) = (matrix[at(k, column)], matrix[at(k, row)]);
                    matrix[at(k, column)] = cosine * a - sine * b;
                    matrix[at(k, row)] = sine * a + cosine * b;
                }
                for k in 0..size {
                    let (a, b) = (matrix[at(column, k)], matrix[at(row, k)]);
                    matrix[at(column, k)] = cosine * a - sine * b;
                    matrix[at(row, k)] = sine * a + cosine * b;
                    let (a, b) = (vectors[at(column, k)], vectors[at(row, k)]);
                    vectors[at(column, k)] = cosine * a - sine * b;
                    vectors[at(row, k)] = sine * a + cosine * b;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|a, b| matrix[b * size + b].total_cmp(&matrix[a * size + a]));
    let values = order.iter().map(|index| matrix[index * size + index]).collect();
    (values, order.iter().flat_map(|index| vectors[index * size..(index + 1) * size].to_vec()).collect())
}

/// The inverse of a symmetric positive definite matrix (Gauss and Jordan); `None` where it has none.
fn inverse(mut matrix: Vec<f64>, size: usize) -> Option<Vec<f64>> {
    let mut out = vec![0.0; size * size];
    (0..size).for_each(|index| out[index * size + index] = 1.0);
    let largest = (0..size).map(|index| matrix[index * size + index]).fold(0.0, f64::max);
    for pivot in 0..size {
        let value = matrix[pivot * size + pivot];
        if !value.is_finite() || value <= largest * 1e-14 {
            return None;
        }
        for table in [&mut matrix, &mut out] {
            table[pivot * size..(pivot + 1) * size].iter_mut().for_each(|entry| *entry /= value);
        }
        for row in (0..size).filter(|row| *row != pivot) {
            let share = matrix[row * size + pivot];
            for table in [&mut matrix, &mut out] {
                for column in 0..size {
                    let above = table[pivot * size + column];
                    table[row * size + column] -= share * above;
                }
            }
        }
    }
    Some(out)
}
