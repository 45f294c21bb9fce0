use super::{Factors, Predictor};
use crate::chain::Word;
use crate::kernel::Isa;

/// Predicts nothing: the block stands alone.
pub struct Zero;

impl Predictor for Zero {
    fn id(&self) -> u8 {
        0
    }
    fn name(&self) -> &'static str {
        "zero"
    }
    fn bases(&self) -> usize {
        0
    }
    fn predict<'a>(
        &self,
        _isa: Isa,
        _word: Word,
        _factors: &Factors,
        _bases: &[&'a [u8]],
        _buffer: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        None
    }
}
