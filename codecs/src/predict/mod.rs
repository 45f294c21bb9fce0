//! Predictors: what a block's words should be, from what a reader already has.

mod affine;
mod pair;
mod parent;
mod search;
mod zero;

pub use affine::Affine;
pub use pair::Pair;
pub use parent::Parent;
pub use zero::Zero;

use crate::chain::Word;
use crate::context::Rows;
use crate::kernel::Isa;

/// Numbers that a predictor works with: the bits of a binary64 each, as they are in the header.
pub type Factors = [u64; MAX_FACTORS];
/// Most factors of a predictor.
pub const MAX_FACTORS: usize = 2;
/// Most bases of a predictor.
pub const MAX_BASES: usize = 2;

/// What a predictor's factors are looked for on.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The instruction set to use.
    pub isa: Isa,
    /// What the words are.
    pub word: Word,
    /// The words to be predicted: whole words.
    pub words: &'a [u8],
    /// As many words of each base, the nearest first.
    pub bases: &'a [&'a [u8]],
    /// How the tensor's rows lie in them.
    pub rows: Option<Rows>,
    /// Whether a second base has to save much: it is paid for elsewhere.
    pub dear: bool,
}

/// A predictor.
pub trait Predictor: Sync {
    /// The stable number in block headers.
    fn id(&self) -> u8;
    /// The name in reports.
    fn name(&self) -> &'static str;
    /// The number of earlier versions that it needs, at most [`MAX_BASES`]. The base reference stands for one after the other.
    fn bases(&self) -> usize;
    /// The number of factors in the header, at most [`MAX_FACTORS`].
    fn factors(&self) -> usize {
        0
    }
    /// Whether the predictor is for words of that kind.
    fn fits(&self, _word: Word) -> bool {
        true
    }
    /// Factors that predict better than the simpler predictors do; `None` where there are none.
    fn find(&self, _known: Known<'_>) -> Option<Factors> {
        Some(Factors::default())
    }
    /// The predicted words, as many as the block has; `None` predicts zeros. `bases` are as many as
    /// [`Self::bases`] says, as long as each other. What has to be computed goes to `buffer`.
    fn predict<'a>(
        &self,
        isa: Isa,
        word: Word,
        factors: &Factors,
        bases: &[&'a [u8]],
        buffer: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]>;
}

crate::chain::registered!(Predictor, "predictor", predictors);
