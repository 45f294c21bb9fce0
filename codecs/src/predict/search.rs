//! Looking for the factors of a predictor on some rows of a block.

use super::{Factors, Known, MAX_BASES, MAX_FACTORS, Predictor};
use crate::context::Rows;
use crate::kernel;

/// Rows of this many words are made where the tensor has none.
const ROW: usize = 256;
/// Rows that factors are looked for on, at most.
const ROWS: usize = 128;
/// A factor is that of the densest so many rows in 8, and of no fewer than this.
pub(super) const LEAST: usize = 4;

/// What factors have to save over the first base as it is.
pub(super) enum Saving {
    /// Bits for 256 words.
    Bits(u64),
    /// A share of all bits, as its inverse.
    Share(u64),
}

/// Looks for a factor on some rows.
pub(super) struct Search<'a> {
    known: Known<'a>,
    /// The rows looked at, as ranges of words.
    rows: Vec<std::ops::Range<usize>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(known: Known<'a>) -> Option<Self> {
        let words = known.words.len() / known.word.bytes;
        let usual = Rows { len: ROW as u32, phase: 0 };
        let rows = known.rows.filter(|rows| (16..=4096).contains(&rows.len)).unwrap_or(usual);
        let spans: Vec<_> = rows.spans(0..words).map(|(_, span)| span).collect();
        let step = spans.len().div_ceil(ROWS).max(1);
        let rows: Vec<_> = spans.into_iter().step_by(step).collect();
        (rows.len() >= 2 * LEAST).then_some(Self { known, rows })
    }

    fn bytes(&self, row: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        row.start * self.known.word.bytes..row.end * self.known.word.bytes
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Shows the values of each row: of the first base, of the second (as long as there are two) and of the words.
    pub(super) fn each_row(&self, mut show: impl FnMut(&[f64], &[f64], &[f64])) {
        let Known { isa, word, words, bases, .. } = self.known;
        let Some(float) = word.float else { return };
        let mut values = [const { Vec::new() }; 3];
        let [first, second] = [0, 1].map(|index| bases.get(index).copied().unwrap_or_default());
        for row in &self.rows {
            for (values, source) in values.iter_mut().zip([first, second, words]) {
                let source = source.get(self.bytes(row)).unwrap_or_default();
                values.resize(source.len() / word.bytes, 0.0);
                kernel::load(isa, float, source, values);
            }
            show(&values[0], &values[1], &values[2]);
        }
    }

    /// The factors that save most over the first base as it is, if any save so much.
    pub(super) fn best(
        &self,
        predictor: &dyn Predictor,
        saving: Saving,
        candidates: impl Iterator<Item = [f64; MAX_FACTORS]>,
    ) -> Option<Factors> {
        let words: u64 = self.judged().map(|row| row.len() as u64).sum();
        let mut best = None;
        let before = self.cost(None)?;
        let mut least = before.checked_sub(match saving {
            Saving::Bits(bits) => bits * words / 256,
            Saving::Share(inverse) => before.div_ceil(inverse.max(1)),
        })?;
        for factors in candidates.filter(|factors| factors.iter().all(|factor| factor.is_finite())) {
            let factors = factors.map(f64::to_bits);
            let cost = self.cost(Some((predictor, &factors)))?;
            if cost < least {
                (best, least) = (Some(factors), cost);
            }
        }
        best
    }

    /// The rows that candidates are judged by: half of those that factors come from.
    fn judged(&self) -> impl Iterator<Item = &std::ops::Range<usize>> {
        self.rows.iter().step_by(2)
    }

    /// About the bits that the residuals take.
    fn cost(&self, predictor: Option<(&dyn Predictor, &Factors)>) -> Option<u64> {
        let Known { isa, word, words, bases, .. } = self.known;
        let mut predicted = Vec::new();
        let mut residuals = Vec::new();
        let mut wide = Vec::new();
        let mut bits = 0;
        for row in self.judged() {
            let part = self.bytes(row);
            let mut parts = [&[][..]; MAX_BASES];
            for (part_of, base) in parts.iter_mut().zip(bases) {
                *part_of = base.get(part.clone())?;
            }
            let parts = &parts[..bases.len().min(MAX_BASES)];
            let words = words.get(part)?;
            residuals.resize(words.len(), 0);
            wide.resize(row.len(), 0);
            let prediction = match predictor {
                Some((predictor, factors)) => predictor.predict(isa, word, factors, parts, &mut predicted)?,
                None => parts.first()?,
            };
            kernel::step_forward(isa, word, words, prediction, &mut residuals);
            kernel::widen(word.bytes, &residuals, &mut wide);
            bits += wide.iter().map(|residual| u64::from(64 - residual.unsigned_abs().leading_zeros())).sum::<u64>();
        }
        Some(bits)
    }
}

/// The sum of products, in a fixed order of operations that vectors can follow.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let len = a.len().min(b.len());
    let ((a, a_rest), (b, b_rest)) = (a[..len].as_chunks::<LANES>(), b[..len].as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}
