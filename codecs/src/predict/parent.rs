use super::Predictor;

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
    fn predict<'a>(&self, base: Option<&'a [u8]>) -> Option<&'a [u8]> {
        base
    }
}
