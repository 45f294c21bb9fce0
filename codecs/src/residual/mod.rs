//! Residuals: what is kept of a word once its prediction is known.

mod itself;
mod step;
mod turn;
mod ulp;
mod xor;

pub use itself::Itself;
pub use step::Step;
pub use turn::Turn;
pub use ulp::Ulp;
pub use xor::Xor;

use crate::chain::Word;
use crate::kernel::Isa;

/// A residual: a bijection on words for each predicted word.
///
/// All buffers hold the same whole number of little-endian words.
pub trait Residual: Sync {
    /// The stable number in block headers.
    fn id(&self) -> u8;
    /// The name in reports.
    fn name(&self) -> &'static str;
    /// Whether there must be a prediction (otherwise there must be none, and `prediction` is empty).
    fn needs_prediction(&self) -> bool;
    /// Residuals of `words`.
    fn forward(&self, isa: Isa, word: Word, words: &[u8], prediction: &[u8], residuals: &mut [u8]);
    /// The words that have these `residuals`.
    fn inverse(&self, isa: Isa, word: Word, residuals: &[u8], prediction: &[u8], words: &mut [u8]);
}

pub(crate) const ITSELF: u8 = 0;
pub(crate) const XOR: u8 = 1;
pub(crate) const ULP: u8 = 2;
pub(crate) const STEP: u8 = 3;
pub(crate) const TURN: u8 = 4;

crate::chain::registered!(Residual, "residual", residuals);
