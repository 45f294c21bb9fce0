//! A codec chain as data.

use std::fmt;

use shard_core::{DType, FloatFormat};

use crate::entropy::EntropyCoder;
use crate::filter::{self, Filter, StreamLengths};
use crate::predict::Predictor;
use crate::recode::{Recoding, Units};
use crate::residual::Residual;
use crate::{CODECS, CodecError, residual};

/// Most streams that a filter makes of a block.
pub const MAX_STREAMS: usize = 9;

/// The machine word that a block is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Bytes of a word: 1, 2, 4 or 8.
    pub bytes: usize,
    /// The floating-point geometry; `None` for integers, packed types and opaque bytes.
    pub float: Option<FloatFormat>,
    /// How codes that share a scale are put together; `None` for other types.
    pub units: Option<Units>,
}

impl Word {
    /// The word of a data type; one byte for opaque bytes.
    #[must_use]
    pub fn of(dtype: Option<DType>) -> Self {
        match dtype {
            Some(dtype) => Self { bytes: dtype.word_bytes(), float: dtype.float(), units: Units::of(dtype) },
            None => Self { bytes: 1, float: None, units: None },
        }
    }

    /// Whether bit patterns are sign and magnitude, as those of signed floats are.
    #[must_use]
    pub fn sign_magnitude(self) -> bool {
        self.float.is_some_and(|float| float.signed)
    }
}

/// How residuals are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coding {
    /// Taken apart into streams that are stored each on its own.
    Filtered(&'static dyn Filter),
    /// By the context coder.
    Context,
    /// By context mixing.
    Mixing,
    /// By the context coder, in another form.
    Recoded(&'static dyn Recoding),
}

impl Coding {
    /// The place of those that see the prediction among the wire ids of filters.
    const CONTEXT: u8 = 5;
    const MIXING: u8 = 6;

    /// The stable number in block headers.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::Filtered(filter) => filter.id(),
            Self::Context => Self::CONTEXT,
            Self::Mixing => Self::MIXING,
            Self::Recoded(recoding) => recoding.id(),
        }
    }

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered(filter) => filter.name(),
            Self::Context => "context",
            Self::Mixing => "mixing",
            Self::Recoded(recoding) => recoding.name(),
        }
    }

    /// The coding of that wire id.
    ///
    /// # Errors
    /// [`CodecError::Unsupported`] where there is none.
    pub fn from_wire_id(id: u8) -> Result<Self, CodecError> {
        match id {
            Self::CONTEXT => Ok(Self::Context),
            Self::MIXING => Ok(Self::Mixing),
            ..Self::CONTEXT | filter::GAPS => <dyn Filter>::from_wire_id(id).map(Self::Filtered),
            _ => <dyn Recoding>::from_wire_id(id).map(Self::Recoded),
        }
    }

    /// Every coding.
    pub fn all() -> impl Iterator<Item = Self> {
        let filters = CODECS.filters.iter().map(|filter| Self::Filtered(*filter));
        let recodings = CODECS.recodings.iter().map(|recoding| Self::Recoded(*recoding));
        filters.chain([Self::Context, Self::Mixing]).chain(recodings)
    }

    /// Whether it takes residuals apart into streams that are stored each on its own.
    #[must_use]
    pub fn is_filter(self) -> bool {
        matches!(self, Self::Filtered(_))
    }

    /// See [`Filter::most_exceptions`].
    pub(crate) fn most_exceptions(self, words: usize) -> Option<usize> {
        match self {
            Self::Filtered(filter) => filter.most_exceptions(words),
            _ => None,
        }
    }

    /// See [`Filter::lengths`].
    pub(crate) fn lengths(self, word_bytes: usize, words: usize, exceptions: usize) -> StreamLengths {
        match self {
            Self::Filtered(filter) => filter.lengths(word_bytes, words, exceptions),
            _ => StreamLengths::NONE,
        }
    }
}

/// The stages of a chain down to its streams, without the streams' coders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The predictor.
    pub predictor: &'static dyn Predictor,
    /// The residual.
    pub residual: &'static dyn Residual,
    /// How residuals are stored.
    pub coding: Coding,
}

impl Shape {
    /// Checks that the stages go together, and with words of that kind.
    ///
    /// # Errors
    /// [`CodecError::Chain`] saying what does not.
    pub fn check(&self, word: Word) -> Result<(), CodecError> {
        if self.residual.needs_prediction() != (self.predictor.bases() > 0) {
            return Err(CodecError::Chain("the residual and the predictor do not go together"));
        }
        if !self.predictor.fits(word) {
            return Err(CodecError::Chain("the predictor does not fit the word"));
        }
        if self.predictor.factors() > 0 && self.coding.is_filter() {
            return Err(CodecError::Chain("the predictor is for the context coder"));
        }
        let is_step = self.residual.id() == residual::STEP;
        let is_turn = self.residual.id() == residual::TURN;
        if is_turn && (self.predictor.factors() > 0 || self.coding != Coding::Context || !word.sign_magnitude()) {
            return Err(CodecError::Chain("the turn residual is for the context coder, and floats"));
        }
        match self.coding {
            Coding::Mixing if !is_step => Err(CodecError::Chain("mixing is for the step residual")),
            Coding::Recoded(recoding) if !recoding.is_for(self.predictor, self.residual, word) => {
                Err(CodecError::Chain("the recoding does not go with the word or the stages before"))
            }
            Coding::Context if self.residual.needs_prediction() && !is_step && !is_turn => {
                Err(CodecError::Chain("the context coder and the residual do not go together"))
            }
            Coding::Filtered(_) if is_step => Err(CodecError::Chain("the step residual is for the context coder")),
            Coding::Filtered(filter) if !filter.fits(word) => {
                Err(CodecError::Chain("the filter does not fit the word"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the one stream is the words themselves.
    pub(crate) fn is_identity(self) -> bool {
        !self.residual.needs_prediction() && self.coding.id() == filter::WHOLE
    }

    /// Every legal shape for words of that kind.
    pub fn legal(word: Word) -> impl Iterator<Item = Self> {
        CODECS
            .predictors
            .iter()
            .flat_map(|predictor| CODECS.residuals.iter().map(move |residual| (predictor, residual)))
            .flat_map(|(predictor, residual)| Coding::all().map(move |coding| (predictor, residual, coding)))
            .map(|(predictor, residual, coding)| Self { predictor: *predictor, residual: *residual, coding })
            .filter(move |shape| shape.check(word).is_ok())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.predictor.name())?;
        for (id, name) in [(self.residual.id(), self.residual.name()), (self.coding.id(), self.coding.name())] {
            // Id 0 is the stage that leaves its input as it is.
            if id != 0 {
                write!(f, "+{name}")?;
            }
        }
        Ok(())
    }
}

/// How a block is stored: its stages and the coder of each stream.
///
/// Displayed as `parent+ulp+planes[rans,rans]`; stages that leave their input as it is are left out.
#[derive(Clone, Copy, PartialEq)]
pub struct Chain {
    shape: Shape,
    coders: [&'static dyn EntropyCoder; MAX_STREAMS],
    streams: usize,
}

impl Chain {
    /// A chain of that shape with one coder a stream; `None` for more than [`MAX_STREAMS`].
    #[must_use]
    pub fn new(shape: Shape, coders: &[&'static dyn EntropyCoder]) -> Option<Self> {
        let mut all: [&'static dyn EntropyCoder; MAX_STREAMS] = [&crate::entropy::Raw; MAX_STREAMS];
        all.get_mut(..coders.len())?.copy_from_slice(coders);
        Some(Self { shape, coders: all, streams: coders.len() })
    }

    /// The stages before entropy coding.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The predictor.
    #[must_use]
    pub fn predictor(&self) -> &'static dyn Predictor {
        self.shape.predictor
    }

    /// The residual.
    #[must_use]
    pub fn residual(&self) -> &'static dyn Residual {
        self.shape.residual
    }

    /// How residuals are stored.
    #[must_use]
    pub fn coding(&self) -> Coding {
        self.shape.coding
    }

    /// The entropy coder of each stream; the context coder has none.
    #[must_use]
    pub fn coders(&self) -> &[&'static dyn EntropyCoder] {
        self.coders.get(..self.streams).unwrap_or_default()
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shape)?;
        if !self.shape.coding.is_filter() {
            return Ok(());
        }
        f.write_str("[")?;
        for (index, coder) in self.coders().iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, coder.name())?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({self})")
    }
}

/// Gives the trait objects of a registry what a chain needs: equality by wire id, the name as debug text, and look-up.
macro_rules! registered {
    ($stage:ident, $what:literal, $table:ident) => {
        impl PartialEq for dyn $stage {
            fn eq(&self, other: &Self) -> bool {
                self.id() == other.id()
            }
        }

        impl std::fmt::Debug for dyn $stage {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl dyn $stage {
            /// The stage of that wire id.
            ///
            /// # Errors
            /// [`crate::CodecError::Unsupported`] where there is none.
            pub fn from_wire_id(id: u8) -> Result<&'static dyn $stage, crate::CodecError> {
                let found = crate::CODECS.$table.iter().copied().find(|stage| stage.id() == id);
                found.ok_or(crate::CodecError::Unsupported { stage: $what, id })
            }
        }
    };
}
pub(crate) use registered;
