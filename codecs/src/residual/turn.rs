use super::Residual;
use crate::chain::Word;
use crate::kernel::{self, Isa};

/// The difference of magnitudes in units in the last place, with the sign below it: for predictions that tell how large a word is,
/// and nothing of its sign.
///
/// Words of signed floats are rotated left by a bit, so that the sign is the lowest; the residual is the difference modulo 2^w of
/// the word and the prediction. Other words are taken as they are.
pub struct Turn;

impl Residual for Turn {
    fn id(&self) -> u8 {
        super::TURN
    }
    fn name(&self) -> &'static str {
        "turn"
    }
    fn needs_prediction(&self) -> bool {
        true
    }
    fn forward(&self, isa: Isa, word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
        kernel::turn_forward(isa, word, words, prediction, residuals);
    }
    fn inverse(&self, isa: Isa, word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
        kernel::turn_inverse(isa, word, residuals, prediction, words);
    }
}
