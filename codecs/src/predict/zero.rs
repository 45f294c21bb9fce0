use super::Predictor;

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
    fn predict<'a>(&self, _base: Option<&'a [u8]>) -> Option<&'a [u8]> {
        None
    }
}
