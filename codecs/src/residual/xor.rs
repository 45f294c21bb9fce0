use super::Residual;
use crate::chain::Word;
use crate::kernel::{self, Isa};

/// The bits in which word and prediction differ.
pub struct Xor;

impl Residual for Xor {
    fn id(&self) -> u8 {
        super::XOR
    }
    fn name(&self) -> &'static str {
        "xor"
    }
    fn needs_prediction(&self) -> bool {
        true
    }
    fn forward(&self, isa: Isa, _word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]) {
        kernel::xor(isa, words, prediction, residuals);
    }
    fn inverse(&self, isa: Isa, _word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]) {
        kernel::xor(isa, residuals, prediction, words);
    }
}
