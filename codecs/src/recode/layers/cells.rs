//! What the first layer tells of a word: how many steps of its row it is from the prediction.

use shard_core::FloatFormat;

use crate::chain::Word;
use crate::context::Rows;

/// Most bits of a cell.
pub(crate) const MAX_BITS: u32 = 8;
/// The largest scale.
pub(super) const MAX_SCALE: u16 = 2 * 2046 + 1;
/// Scales that double a step.
const OCTAVE: u16 = 2;

/// How the words of a block are moved from their predictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cells {
    /// Bits of a cell, its sign among them.
    pub(super) bits: u32,
    /// How the words lie in rows; one row where they do not.
    pub(super) rows: Option<Rows>,
    /// For each row, twice the exponent field of its step as a binary64, and 1 more where that is times the root of 2.
    pub(super) scales: Vec<u16>,
}

/// The step of a scale.
pub(super) fn step(scale: u16) -> f64 {
    let power = f64::from_bits(u64::from((scale / OCTAVE).clamp(1, 2046)) << 52);
    if scale.is_multiple_of(OCTAVE) { power } else { power * std::f64::consts::SQRT_2 }
}

/// The highest scale whose step is no larger than a value.
fn scale_of(value: f64) -> u16 {
    let scale = (value.to_bits() >> 52) as u16 * OCTAVE;
    let scale = scale + u16::from(value >= step(scale + 1));
    scale.clamp(OCTAVE, MAX_SCALE)
}

impl Cells {
    /// The largest cell.
    fn outermost(&self) -> i32 {
        1 << (self.bits - 1)
    }
}

/// Kinds of cells that are told apart.
pub(super) const KINDS: i32 = 4;
/// The geometry of words whose exponent fields are contexts, for types of fewer exponents.
const ROOMY: FloatFormat = FloatFormat { exponent: 8, mantissa: 7, signed: true };

/// What the exponents of words say: how wide a step has to be at least, and how the second layer is coded. Its context is how many units
/// in the last place a step of the row is, of what the first layer makes of a word, and how far out its cell is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contexts {
    pub(super) bytes: usize,
    pub(super) exponent_bits: u32,
    pub(super) mask: i32,
    /// The exponent field, as a binary64, of a unit in the last place of words of exponent field 0.
    pub(super) unit: i32,
    pub(super) outermost: i32,
    pub(super) own_shift: u32,
    /// The words whose exponent fields are the contexts.
    pub(super) own: Word,
}

impl Contexts {
    /// `None` for words that are no signed floats.
    pub(super) fn new(word: Word, cells: &Cells) -> Option<Self> {
        let float = word.float.filter(|float| float.signed && word.bytes > 1)?;
        let mask = (1i32 << float.exponent) - 1;
        let unit = 1023 - (mask >> 1) - float.mantissa as i32;
        let own = if float.exponent < ROOMY.exponent { ROOMY } else { float };
        Some(Self {
            bytes: word.bytes,
            exponent_bits: float.exponent,
            mask,
            unit,
            outermost: cells.outermost(),
            own_shift: own.mantissa,
            own: Word { float: Some(own), ..word },
        })
    }
}

/// Finds the scale of a row from how far its words move.
pub(super) struct Finder {
    bits: u32,
    distances: Vec<u16>,
    sum: f64,
    last: u16,
}

impl Finder {
    pub(super) fn new(bits: u32) -> Self {
        Self { bits, distances: Vec::new(), sum: 0.0, last: OCTAVE }
    }

    /// Takes in a word of the row at hand.
    pub(super) fn add(&mut self, distance: f64) {
        let distance = distance.abs();
        if distance > 0.0 && distance.is_finite() {
            self.distances.push(scale_of(distance));
            self.sum += distance;
        }
    }

    /// The scale of the row that was taken in: all but a few words are nearer than the outermost cell. The step of a single bit is
    /// the mean.
    pub(super) fn scale(&mut self) -> u16 {
        // One word in so many is further out: the finer the steps, the more those that are would weigh.
        let beyond = 4 << self.bits;
        let count = self.distances.len();
        if count > 0 {
            self.last = if self.bits == 1 {
                scale_of(self.sum / count as f64)
            } else {
                let (_, scale, _) = self.distances.select_nth_unstable(count - 1 - count / beyond);
                let outermost = OCTAVE * (self.bits as u16 - 1);
                // A power of two, as units in the last place are, so that of short words the cells are whole units.
                let scale = scale.div_ceil(OCTAVE) * OCTAVE;
                scale.saturating_sub(outermost).clamp(OCTAVE, MAX_SCALE - 1)
            };
            self.distances.clear();
            self.sum = 0.0;
        }
        self.last
    }
}
