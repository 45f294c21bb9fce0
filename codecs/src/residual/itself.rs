use super::Residual;
use crate::chain::Word;
use crate::kernel::Isa;

/// The word itself.
pub struct Itself;

impl Residual for Itself {
    fn id(&self) -> u8 {
        super::ITSELF
    }
    fn name(&self) -> &'static str {
        "none"
    }
    fn needs_prediction(&self) -> bool {
        false
    }
    fn forward(&self, _isa: Isa, _word: Word, words: &[u8], _prediction: &[u8], residuals: &mut [u8]) {
        residuals.copy_from_slice(words);
    }
    fn inverse(&self, _isa: Isa, _word: Word, residuals: &[u8], _prediction: &[u8], words: &mut [u8]) {
        words.copy_from_slice(residuals);
    }
}
