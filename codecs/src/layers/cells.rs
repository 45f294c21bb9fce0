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
fn step(scale: u16) -> f64 {
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
    fn outermost(&self) -> i64 {
        1 << (self.bits - 1)
    }

    /// The cell of a word that is so far from its prediction: the nearest, or of a single bit, the sign.
    pub(super) fn cell(&self, distance: f64, step: f64) -> i64 {
        let most = self.outermost();
        if self.bits == 1 {
            return i64::from(distance > 0.0) - i64::from(distance < 0.0);
        }
        let steps = distance / step;
        // What is no number is 0.
        (steps + f64::copysign(0.5, steps)).clamp(-(most as f64), most as f64) as i64
    }

    /// How far a cell moves a word. Nothing is added to the word of cell 0, be it a zero of either sign.
    pub(super) fn distance(cell: i64, step: f64) -> f64 {
        if cell == 0 { -0.0 } else { cell as f64 * step }
    }
}

/// What the exponents of words say: how wide a step has to be at least, and how the second layer is coded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contexts {
    shift: u32,
    mask: u64,
    /// A scale that makes a step as wide as a unit in the last place has this much less than twice the exponent field.
    unit: i64,
    outermost: u64,
    /// The words whose exponent fields are the contexts.
    own: Word,
    own_shift: u32,
}

/// Kinds of cells that are told apart.
const KINDS: u64 = 4;
/// The geometry of words whose exponent fields are contexts, for types of fewer exponents.
const ROOMY: FloatFormat = FloatFormat { exponent: 8, mantissa: 7, signed: true };

impl Contexts {
    /// `None` for words that are no signed floats.
    pub(super) fn new(word: Word, cells: &Cells) -> Option<Self> {
        let float = word.float.filter(|float| float.signed)?;
        let mask = (1u64 << float.exponent) - 1;
        let bias = (mask >> 1) as i64;
        let unit = i64::from(OCTAVE) * (1023 - bias - i64::from(float.mantissa));
        let own = if float.exponent < ROOMY.exponent { ROOMY } else { float };
        let (outermost, own_shift) = (cells.outermost() as u64, own.mantissa);
        let own = Word { float: Some(own), ..word };
        Some(Self { shift: float.mantissa, mask, unit, outermost, own, own_shift })
    }

    /// What the words of [`Self::word`] are.
    pub(super) fn own(self) -> Word {
        self.own
    }

    /// A step of a row at a word that is predicted to be this one: no less than a unit in the last place.
    pub(super) fn step(self, prediction: i64, scale: u16) -> f64 {
        let least = self.exponent(prediction) * i64::from(OCTAVE) + self.unit;
        step(scale.max(least.clamp(0, MAX_SCALE.into()) as u16))
    }

    fn exponent(self, word: i64) -> i64 {
        (word as u64 >> self.shift & self.mask).max(1) as i64
    }

    /// A word whose exponent field is the context of what the second layer has of a word: how many units in the last place of `near`,
    /// which the first layer makes of it, a step of its row is, and how far out its cell is.
    pub(super) fn word(self, cell: i64, near: i64, scale: u16) -> i64 {
        /// So many octaves less than a unit are told apart.
        const BELOW: i64 = 2;
        /// And so many in all.
        const MOST: u64 = 60;
        let cell = cell.unsigned_abs();
        let kind = match (cell, cell >= self.outermost) {
            (0, _) => 0,
            (_, true) => 3,
            (1, _) => 1,
            _ => 2,
        };
        let width = (i64::from(scale) - self.unit) / i64::from(OCTAVE) - self.exponent(near);
        let width = ((width + BELOW).max(0) as u64).min(MOST);
        ((1 + KINDS * width + kind) << self.own_shift) as i64
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
