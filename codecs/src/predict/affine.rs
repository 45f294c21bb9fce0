use super::{Factors, Known, Predictor};
use crate::chain::Word;
use crate::context::Rows;
use crate::kernel::{self, Isa, linear};

/// Predicts each float to be the base's at the same place times a factor: weight decay shrinks all weights alike, and rows that
/// nothing else touched (tokens that did not occur, under AdamW) are predicted nearly to the bit. Moving averages shrink too.
///
/// The product is rounded as [`linear`] says.
pub struct Affine;

/// Rows of this many words are made where the tensor has none.
const ROW: usize = 256;
/// Rows that factors are looked for on, at most.
const ROWS: usize = 128;
/// A factor is that of the densest so many rows in 8, and of no fewer than this.
const LEAST: usize = 4;
/// What a factor has to save, in bits for 256 words.
const WORTHWHILE: u64 = 6;

impl Predictor for Affine {
    fn id(&self) -> u8 {
        2
    }
    fn name(&self) -> &'static str {
        "affine"
    }
    fn bases(&self) -> usize {
        1
    }
    fn factors(&self) -> usize {
        1
    }
    fn fits(&self, word: Word) -> bool {
        word.float.is_some_and(linear::is_known)
    }
    fn find(&self, known: Known<'_>) -> Option<Factors> {
        let factor = Search::new(known)?.factor()?;
        Some([factor.to_bits()])
    }
    fn predict<'a>(
        &self,
        isa: Isa,
        word: Word,
        factors: &Factors,
        base: Option<&'a [u8]>,
        buffer: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let (base, float) = (base?, word.float?);
        buffer.resize(base.len(), 0);
        kernel::scale(isa, float, f64::from_bits(factors[0]), base, buffer);
        Some(buffer)
    }
}

/// Looks for a factor on some rows.
struct Search<'a> {
    known: Known<'a>,
    /// The rows looked at, as ranges of words.
    rows: Vec<std::ops::Range<usize>>,
}

impl<'a> Search<'a> {
    fn new(known: Known<'a>) -> Option<Self> {
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

    /// The factor that saves most, if it saves enough.
    fn factor(&self) -> Option<f64> {
        let float = self.known.word.float?;
        let (mut before, mut now) = (Vec::new(), Vec::new());
        let (mut products, mut squares) = (0.0, 0.0);
        let mut slopes = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            before.resize(row.len(), 0.0);
            now.resize(row.len(), 0.0);
            kernel::load(self.known.isa, float, &self.known.base[self.bytes(row)], &mut before);
            kernel::load(self.known.isa, float, &self.known.words[self.bytes(row)], &mut now);
            // Products of extreme values may overflow; then the slope is no number, and counts for nothing.
            let product: f64 = before.iter().zip(&now).map(|(before, now)| before * now).sum();
            let square: f64 = before.iter().map(|before| before * before).sum();
            if (product / square).is_finite() {
                slopes.push(product / square);
                products += product;
                squares += square;
            }
        }
        slopes.sort_by(f64::total_cmp);
        let dense = LEAST.max(self.rows.len() / 8);
        let windows = slopes.windows(dense).filter_map(|window| Some((window, window.last()? - window.first()?)));
        // Rows that nothing but decay touched have one slope nearly to the bit, wherever among the others that lies.
        let narrowest = windows.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let densest = narrowest.map(|(window, _)| window.iter().sum::<f64>() / window.len() as f64);
        let overall = products / squares;
        let mut best = None;
        let mut least = self.cost(None).checked_sub(WORTHWHILE * self.words() / 256)?;
        for factor in densest.into_iter().chain([overall]).filter(|factor| factor.is_finite() && *factor != 1.0) {
            let cost = self.cost(Some(factor));
            if cost < least {
                (best, least) = (Some(factor), cost);
            }
        }
        best
    }

    fn words(&self) -> u64 {
        self.rows.iter().map(|row| row.len() as u64).sum()
    }

    /// About the bits that the residuals take.
    fn cost(&self, factor: Option<f64>) -> u64 {
        let Known { isa, word, words, base, .. } = self.known;
        let mut predicted = Vec::new();
        let mut residuals = Vec::new();
        let mut wide = Vec::new();
        let mut bits = 0;
        for row in &self.rows {
            let (words, base) = (&words[self.bytes(row)], &base[self.bytes(row)]);
            residuals.resize(words.len(), 0);
            wide.resize(row.len(), 0);
            let prediction = match (factor, word.float) {
                (Some(factor), Some(float)) => {
                    predicted.resize(base.len(), 0);
                    kernel::scale(isa, float, factor, base, &mut predicted);
                    &predicted[..]
                }
                _ => base,
            };
            kernel::step_forward(isa, word, words, prediction, &mut residuals);
            kernel::widen(word.bytes, &residuals, &mut wide);
            bits += wide.iter().map(|residual| u64::from(64 - residual.unsigned_abs().leading_zeros())).sum::<u64>();
        }
        bits
    }
}
