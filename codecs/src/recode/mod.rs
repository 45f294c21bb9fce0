//! Recodings: words in another form, in which the context coder makes more of them.
//!
//! Each knows a kind of words of which the context coder by itself would take a part for noise: codes that share a scale, multiples of a
//! power of two, values of a narrower type; or tells words in two layers, coarse to fine. What it stores is whatever the recoded words
//! need, and one or two stored forms of [`crate::context`].

mod grid;
mod layers;
mod narrow;
mod units;

pub use grid::Grid;
pub use layers::{Deviation, Layers};
pub use narrow::Narrow;
pub use units::{UnitCodes, Units};

pub(crate) use layers::{MAX_BITS, decode_first, first_len};

use crate::chain::Word;
use crate::context;
use crate::entropy::Workspace;
use crate::kernel::Isa;
use crate::predict::Predictor;
use crate::{CodecError, residual};

/// Words that are worked on at a time.
const TILE: usize = 2048;

/// What recodings work with.
pub struct Tools<'a> {
    pub(crate) workspace: &'a mut Workspace,
    pub(crate) context: &'a mut context::Buffers,
    /// The bits of the first of two layers.
    pub(crate) bits: u32,
}

/// A recoding.
pub trait Recoding: Sync {
    /// The stable number in block headers, among those of filters.
    fn id(&self) -> u8;
    /// The name in reports.
    fn name(&self) -> &'static str;
    /// Whether it is for words of that kind.
    fn fits(&self, word: Word) -> bool;
    /// Whether it is for what such a predictor says.
    fn goes_with(&self, predictor: &dyn Predictor) -> bool {
        predictor.factors() == 0
    }
    /// Whether a block may have so many bytes.
    fn may_be(&self, _word: Word, _len: usize) -> bool {
        true
    }
    /// Whether these words (whole ones) are such that it is hardly to be beaten. For most it takes no more than a look at a few.
    fn suits(&self, isa: Isa, word: Word, words: &[u8]) -> bool;
    /// Appends the stored form of words. Returns false, with anything appended, where there is none.
    ///
    /// # Errors
    /// As entropy coders have.
    #[doc(hidden)]
    fn put(&self, tools: &mut Tools<'_>, input: context::Input<'_>, out: &mut Vec<u8>) -> Result<bool, CodecError>;
    /// Fills `words` (whole words) from their stored form.
    ///
    /// # Errors
    /// [`CodecError::Body`] or [`CodecError::Header`] where `stored` is not the stored form of so many words.
    #[doc(hidden)]
    fn take(
        &self,
        tools: &mut Tools<'_>,
        word: Word,
        prediction: Option<&[u8]>,
        stored: &[u8],
        words: &mut [u8],
    ) -> Result<(), CodecError>;
}

crate::chain::registered!(Recoding, "coding", recodings);

pub(crate) const LAYERS: u8 = 7;
const UNITS: u8 = 8;
const GRID: u8 = 9;
const NARROW: u8 = 10;

impl dyn Recoding {
    /// Whether it is for what a predictor and a residual leave of words of that kind.
    pub(crate) fn is_for(&self, predictor: &dyn Predictor, residual: &dyn residual::Residual, word: Word) -> bool {
        let is_step = residual.id() == residual::STEP;
        self.fits(word) && self.goes_with(predictor) && (is_step || !residual.needs_prediction())
    }

    /// Appends the stored form of words. Returns false, with nothing appended, where there is none that is shorter than they are.
    ///
    /// # Errors
    /// As entropy coders have.
    pub(crate) fn encode(
        &self,
        tools: &mut Tools<'_>,
        input: context::Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        let start = out.len();
        let done = !input.words.is_empty() && self.put(tools, input, out)? && out.len() - start < input.words.len();
        if !done {
            out.truncate(start);
        }
        Ok(done)
    }
}
