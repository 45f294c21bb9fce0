//! What is done with each word of a row, written so that compilers make vectors of it.

use super::cells::{Contexts, KINDS};
use crate::kernel::{Isa, Work, compiled_for};

/// Words of `N` bytes.
trait Lane<const N: usize> {
    /// The sign and the exponent field, at the top.
    fn top(word: [u8; N]) -> i32;
    /// A small signed number.
    fn small(word: [u8; N]) -> i32;
    fn from_small(number: i32) -> [u8; N];
    /// A word whose exponent field, that begins at a bit, is that.
    fn with_field(field: u32, shift: u32) -> [u8; N];
    fn negated_if(word: [u8; N], negated: bool) -> [u8; N];
}

macro_rules! lane {
    ($name:ident, $bytes:literal, $signed:ty, $unsigned:ty, |$word:ident| $top:expr) => {
        struct $name;

        impl Lane<$bytes> for $name {
            #[inline(always)]
            fn top($word: [u8; $bytes]) -> i32 {
                let $word = <$signed>::from_le_bytes($word);
                $top
            }
            #[inline(always)]
            fn small(word: [u8; $bytes]) -> i32 {
                <$signed>::from_le_bytes(word) as i32
            }
            #[inline(always)]
            fn from_small(number: i32) -> [u8; $bytes] {
                (number as $signed).to_le_bytes()
            }
            #[inline(always)]
            fn with_field(field: u32, shift: u32) -> [u8; $bytes] {
                ((field as $unsigned) << shift).to_le_bytes()
            }
            #[inline(always)]
            fn negated_if(word: [u8; $bytes], negated: bool) -> [u8; $bytes] {
                let sign = (negated as $signed).wrapping_neg();
                ((<$signed>::from_le_bytes(word) ^ sign).wrapping_sub(sign)).to_le_bytes()
            }
        }
    };
}

lane!(Two, 2, i16, u16, |word| i32::from(word) << 16);
lane!(Four, 4, i32, u32, |word| word);
lane!(Eight, 8, i64, u64, |word| (word >> 32) as i32);

/// Calls a method for the width of words.
macro_rules! by_lane {
    ($bytes:expr, $self:ident.$name:ident()) => {
        match $bytes {
            2 => $self.$name::<2, Two>(),
            4 => $self.$name::<4, Four>(),
            _ => $self.$name::<8, Eight>(),
        }
    };
}

/// The exponent field of a word with this top.
#[inline(always)]
fn field(contexts: &Contexts, top: i32) -> i32 {
    ((top as u32 >> (31 - contexts.exponent_bits)) as i32 & contexts.mask).max(1)
}

/// A step of a row at a word with this exponent field: no less than a unit in the last place.
#[inline(always)]
fn step(contexts: &Contexts, row: f64, field: i32) -> f64 {
    let unit = f64::from_bits(((field + contexts.unit).max(1) as u64) << 52);
    if unit > row { unit } else { row }
}

/// The cells of words that are so far from their predictions.
pub(super) struct Find<'a> {
    pub(super) contexts: &'a Contexts,
    pub(super) row_step: f64,
    pub(super) distances: &'a [f64],
    pub(super) predictions: &'a [u8],
    pub(super) cells: &'a mut [u8],
}

impl Find<'_> {
    #[inline(always)]
    fn find<const N: usize, L: Lane<N>>(self) {
        let contexts = self.contexts;
        let most = f64::from(contexts.outermost);
        let is_sign = contexts.outermost == 1;
        let predictions = self.predictions.as_chunks::<N>().0;
        for ((cell, prediction), distance) in
            self.cells.as_chunks_mut::<N>().0.iter_mut().zip(predictions).zip(self.distances)
        {
            let step = step(contexts, self.row_step, field(contexts, L::top(*prediction)));
            // To the nearest; of a single bit, the sign. What is no number is 0.
            let away = if is_sign && *distance != 0.0 { 1.0 } else { 0.5 };
            let steps = distance / step;
            let steps = (steps + f64::copysign(away, *distance)).max(-most).min(most);
            *cell = L::from_small(if steps.is_nan() { 0 } else { steps as i32 });
        }
    }
}

impl Work for Find<'_> {
    #[inline(always)]
    fn run(self) {
        by_lane!(self.contexts.bytes, self.find());
    }
}

/// How far cells move words from their predictions.
pub(super) struct Distances<'a> {
    pub(super) contexts: &'a Contexts,
    pub(super) row_step: f64,
    pub(super) predictions: &'a [u8],
    pub(super) cells: &'a [u8],
    pub(super) distances: &'a mut [f64],
}

impl Distances<'_> {
    #[inline(always)]
    fn measure<const N: usize, L: Lane<N>>(self) {
        let (predictions, cells) = (self.predictions.as_chunks::<N>().0, self.cells.as_chunks::<N>().0);
        for ((distance, prediction), cell) in self.distances.iter_mut().zip(predictions).zip(cells) {
            let step = step(self.contexts, self.row_step, field(self.contexts, L::top(*prediction)));
            let cell = L::small(*cell);
            // Nothing is added to the word of cell 0, be it a zero of either sign.
            *distance = if cell == 0 { -0.0 } else { f64::from(cell) * step };
        }
    }
}

impl Work for Distances<'_> {
    #[inline(always)]
    fn run(self) {
        by_lane!(self.contexts.bytes, self.measure());
    }
}

/// The words whose exponent fields are contexts: see [`Contexts`].
pub(super) struct Tell<'a> {
    pub(super) contexts: &'a Contexts,
    pub(super) scale: u16,
    pub(super) near: &'a [u8],
    pub(super) cells: &'a [u8],
    pub(super) out: &'a mut [u8],
}

impl Tell<'_> {
    #[inline(always)]
    fn tell<const N: usize, L: Lane<N>>(self) {
        /// So many octaves less than a unit are told apart, and so many in all.
        const BELOW: i32 = 2;
        const MOST: i32 = 60;
        let contexts = self.contexts;
        let width = i32::from(self.scale / 2) - contexts.unit + BELOW;
        let (near, cells) = (self.near.as_chunks::<N>().0, self.cells.as_chunks::<N>().0);
        for ((out, near), cell) in self.out.as_chunks_mut::<N>().0.iter_mut().zip(near).zip(cells) {
            let cell = L::small(*cell).wrapping_abs();
            let kind = i32::from(cell > 0) + i32::from(cell > 1) + i32::from(cell >= contexts.outermost);
            let width = (width - field(contexts, L::top(*near))).clamp(0, MOST);
            *out = L::with_field((1 + KINDS * width + kind) as u32, contexts.own_shift);
        }
    }
}

impl Work for Tell<'_> {
    #[inline(always)]
    fn run(self) {
        by_lane!(self.contexts.bytes, self.tell());
    }
}

/// Residuals to what the first layer made, turned so that they are positive further out than the cell; and back again.
pub(super) struct Turn<'a> {
    pub(super) contexts: &'a Contexts,
    pub(super) near: &'a [u8],
    pub(super) cells: &'a [u8],
    pub(super) residuals: &'a mut [u8],
}

impl Turn<'_> {
    #[inline(always)]
    fn turn<const N: usize, L: Lane<N>>(self) {
        let (near, cells) = (self.near.as_chunks::<N>().0, self.cells.as_chunks::<N>().0);
        for ((residual, near), cell) in self.residuals.as_chunks_mut::<N>().0.iter_mut().zip(near).zip(cells) {
            let cell = L::small(*cell);
            *residual = L::negated_if(*residual, cell != 0 && (cell < 0) != (L::top(*near) < 0));
        }
    }
}

impl Work for Turn<'_> {
    #[inline(always)]
    fn run(self) {
        by_lane!(self.contexts.bytes, self.turn());
    }
}

/// Does one of these with the best instructions.
pub(super) fn run(isa: Isa, work: impl Work) {
    compiled_for(isa, work);
}
