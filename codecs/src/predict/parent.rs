use super::{Factors, Predictor};
use crate::chain::Word;
use crate::kernel::Isa;

/// Predicts each word to be the base's word at the same place.
pub struct Parent;

impl Predictor for Parent {
    fn id(&self) -> u8 {
        1
    }
    fn name(&self) -> &'static str {
        "parent"
    }
    fn bases(&self) -> usize {
        1
    }
    fn predict<'a>(
        &self,
        _isa: Isa,
        _word: Word,
        _factors: &Factors,
        bases: &[&'a [u8]],
        _buffer: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        bases.first().copied()
    }
}
