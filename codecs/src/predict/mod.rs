//! Predictors: what a block's words should be, from what a reader already has.

mod parent;
mod zero;

pub use parent::Parent;
pub use zero::Zero;

/// A predictor.
pub trait Predictor: Sync {
    /// The stable number in block headers.
    fn id(&self) -> u8;
    /// The name in reports.
    fn name(&self) -> &'static str;
    /// The number of base references in the header.
    fn bases(&self) -> usize;
    /// The predicted bytes, as many as the block has; `None` predicts zeros. `base` is there if [`Self::bases`] is 1.
    fn predict<'a>(&self, base: Option<&'a [u8]>) -> Option<&'a [u8]>;
}

crate::chain::registered!(Predictor, "predictor", predictors);
