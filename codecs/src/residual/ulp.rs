use super::Residual;
use crate::chain::Word;
use crate::kernel::{self, Isa};

/// The difference in units in the last place, folded so that small steps either way are small numbers.
///
/// Bit patterns of signed floats are first mapped to unsigned integers in the order of their values: all bits inverted
/// where the sign bit is set, the sign bit flipped elsewhere. Other words are taken as they are. With `d` the difference
/// modulo 2^w of the mapped word and the mapped prediction, the residual is `2d` for `d < 2^(w-1)` and `2(2^w - d) - 1`
/// above. Every bit pattern (NaN payloads, infinities, both zeros) maps to one residual and back.
pub struct Ulp;

impl Residual for Ulp {
    fn id(&self) -> u8 {
        super::ULP
    }
    fn name(&self) -> &'static str {
        "ulp"
    }
    fn needs_prediction(&self) -> bool {
        true
    }
    fn forward(&self, isa: Isa, word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
        kernel::ulp_forward(isa, word, words, prediction, residuals);
    }
    fn inverse(&self, isa: Isa, word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
        kernel::ulp_inverse(isa, word, residuals, prediction, words);
    }
}
