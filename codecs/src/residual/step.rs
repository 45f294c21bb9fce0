use super::Residual;
use crate::chain::Word;
use crate::kernel::{self, Isa};

/// The difference in units in the last place, as a signed number that is positive where the word is further from zero than
/// its prediction: training that decays weights makes that asymmetric.
///
/// With `d` the difference modulo 2^w of the mapped word and the mapped prediction (see [`super::Ulp`]), the residual is `-d`
/// where the prediction's sign bit is set, and `d` elsewhere. Words that are not signed floats are taken as they are.
pub struct Step;

impl Residual for Step {
    fn id(&self) -> u8 {
        super::STEP
    }
    fn name(&self) -> &'static str {
        "step"
    }
    fn needs_prediction(&self) -> bool {
        true
    }
    fn forward(&self, isa: Isa, word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
        kernel::step_forward(isa, word, words, prediction, residuals);
    }
    fn inverse(&self, isa: Isa, word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
        kernel::step_inverse(isa, word, residuals, prediction, words);
    }
}
