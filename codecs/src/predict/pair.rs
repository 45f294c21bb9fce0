use super::search::{Saving, Search};
use super::{Factors, Known, Predictor};
use crate::chain::Word;
use crate::kernel::{self, Isa, linear};

/// Predicts each float from two earlier versions, a factor each: what moved a weight from the older to the newer goes on moving it,
/// since optimizers have momentum, and gradients change slowly.
///
/// The sum is rounded as `kernel::linear` says.
pub struct Pair;

/// What two factors have to save, in bits for 256 words.
const WORTHWHILE: u64 = 6;

/// And where a second base is paid for elsewhere, which is by shorter chains of bases: the share of all bits, as its inverse
/// (`docs/decisions/012`).
const DEAR: u64 = 12;

/// Bits that the factors and the longer reference take in a block's header.
const PRICE: u64 = 62 * 8;

impl Predictor for Pair {
    fn id(&self) -> u8 {
        3
    }
    fn name(&self) -> &'static str {
        "pair"
    }
    fn bases(&self) -> usize {
        2
    }
    fn factors(&self) -> usize {
        2
    }
    fn fits(&self, word: Word) -> bool {
        word.float.is_some_and(linear::is_known)
    }
    fn find(&self, known: Known<'_>) -> Option<Factors> {
        let search = Search::new(known).filter(|_| known.bases.len() == 2)?;
        let (mut products, mut squares) = (0.0, 0.0);
        search.each_row(|newer, older, now| {
            for ((newer, older), now) in newer.iter().zip(older).zip(now) {
                let step = newer - older;
                let (product, square) = ((now - newer) * step, step * step);
                if product.is_finite() && square.is_finite() {
                    products += product;
                    squares += square;
                }
            }
        });
        let momentum = products / squares;
        let words = (known.words.len() / known.word.bytes).max(1) as u64;
        let least = match known.dear {
            false => Saving::Bits(WORTHWHILE.max(PRICE * 256 / words)),
            true => Saving::Share(DEAR),
        };
        search.best(self, least, [momentum, momentum / 2.0].into_iter().map(|momentum| [1.0 + momentum, -momentum]))
    }
    fn predict<'a>(
        &self,
        isa: Isa,
        word: Word,
        factors: &Factors,
        bases: &[&'a [u8]],
        buffer: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let ([newer, older], float) = (bases, word.float?) else { return None };
        buffer.resize(newer.len(), 0);
        kernel::combine(isa, float, factors.map(f64::from_bits), [newer, older], buffer);
        Some(buffer)
    }
}
