//! A codec chain as data.

use std::fmt;

use shard_core::{DType, FloatFormat};

use crate::entropy::EntropyCoder;
use crate::filter::Filter;
use crate::predict::Predictor;
use crate::residual::Residual;
use crate::{CODECS, CodecError};

/// Most streams that a filter makes of a block.
pub const MAX_STREAMS: usize = 9;

/// The machine word that a block is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Bytes of a word: 1, 2, 4 or 8.
    pub bytes: usize,
    /// The floating-point geometry; `None` for integers, packed types and opaque bytes.
    pub float: Option<FloatFormat>,
}

impl Word {
    /// The word of a data type; one byte for opaque bytes.
    #[must_use]
    pub fn of(dtype: Option<DType>) -> Self {
        match dtype {
            Some(dtype) => Self { bytes: dtype.word_bytes(), float: dtype.float() },
            None => Self { bytes: 1, float: None },
        }
    }

    /// Whether bit patterns are sign and magnitude, as those of signed floats are.
    #[must_use]
    pub fn sign_magnitude(self) -> bool {
        self.float.is_some_and(|float| float.signed)
    }
}

/// The stages of a chain down to its streams, without the streams' coders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The predictor.
    pub predictor: &'static dyn Predictor,
    /// The residual.
    pub residual: &'static dyn Residual,
    /// The filter.
    pub filter: &'static dyn Filter,
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
        if !self.filter.fits(word) {
            return Err(CodecError::Chain("the filter does not fit the word"));
        }
        Ok(())
    }

    /// Whether the one stream is the words themselves.
    pub(crate) fn is_identity(self) -> bool {
        !self.residual.needs_prediction() && self.filter.id() == crate::filter::WHOLE
    }

    /// Every legal shape for words of that kind, in the order of wire ids.
    pub fn legal(word: Word) -> impl Iterator<Item = Self> {
        CODECS
            .predictors
            .iter()
            .flat_map(|predictor| CODECS.residuals.iter().map(move |residual| (predictor, residual)))
            .flat_map(|(predictor, residual)| CODECS.filters.iter().map(move |filter| (predictor, residual, filter)))
            .map(|(predictor, residual, filter)| Self { predictor: *predictor, residual: *residual, filter: *filter })
            .filter(move |shape| shape.check(word).is_ok())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.predictor.name())?;
        for (id, name) in [(self.residual.id(), self.residual.name()), (self.filter.id(), self.filter.name())] {
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

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &'static dyn Filter {
        self.shape.filter
    }

    /// The entropy coder of each stream.
    #[must_use]
    pub fn coders(&self) -> &[&'static dyn EntropyCoder] {
        self.coders.get(..self.streams).unwrap_or_default()
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.shape)?;
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
