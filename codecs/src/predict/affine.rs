use super::search::{LEAST, Saving, Search, dot};
use super::{Factors, Known, Predictor};
use crate::chain::Word;
use crate::kernel::{self, Isa, linear};

/// Predicts each float to be the base's at the same place times a factor: weight decay shrinks all weights alike, and rows that
/// nothing else touched (tokens that did not occur, under AdamW) are predicted nearly to the bit. Moving averages shrink too.
///
/// The product is rounded as `kernel::linear` says.
pub struct Affine;

/// What a factor has to save, in bits for 256 words: the context coder makes up for less by itself.
const WORTHWHILE: u64 = 32;

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
        let search = Search::new(known)?;
        let (mut products, mut squares) = (0.0, 0.0);
        let mut slopes = Vec::new();
        search.each_row(|before, _, now| {
            // Products of extreme values may overflow; then the slope is no number, and counts for nothing.
            let (product, square) = (dot(before, now), dot(before, before));
            if (product / square).is_finite() {
                slopes.push(product / square);
                products += product;
                squares += square;
            }
        });
        slopes.sort_by(f64::total_cmp);
        let dense = LEAST.max(search.rows() / 8);
        let windows = slopes.windows(dense).filter_map(|window| Some((window, window.last()? - window.first()?)));
        // Rows that nothing but decay touched have one slope nearly to the bit, wherever among the others that lies.
        let narrowest = windows.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let densest = narrowest.map(|(window, _)| window.iter().sum::<f64>() / window.len() as f64);
        let candidates = densest.into_iter().chain([products / squares]).filter(|factor| *factor != 1.0);
        search.best(self, Saving::Bits(WORTHWHILE), candidates.map(|factor| [factor, 0.0]))
    }
    fn predict<'a>(
        &self,
        isa: Isa,
        word: Word,
        factors: &Factors,
        bases: &[&'a [u8]],
        buffer: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let (base, float) = (bases.first()?, word.float?);
        buffer.resize(base.len(), 0);
        kernel::scale(isa, float, f64::from_bits(factors[0]), base, buffer);
        Some(buffer)
    }
}
