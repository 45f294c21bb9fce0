//! What is known about a word before it is coded, and what its bits are likely to be.

use super::binary::BitCoder;
use super::probability::{Estimate, Mixer};
use crate::chain::Word;
use crate::context::Rows;

/// Models of a class.
const MODELS: usize = 7;
/// Steps of a scale, in half octaves.
const SCALES: usize = 32;
/// Bits below the top one that are modelled.
const LEADING: u32 = 3;
/// Most bits of a residual that are noise.
const MOST_NOISE: u32 = 56;
/// Bits seen after which estimates begin to follow the latest ones.
const LIMIT: u32 = 600;
/// How fast weights learn.
const RATE: i32 = 5;

/// Bits that are stored as they are: an encoder puts them, a decoder takes them.
pub(super) trait Noise {
    /// Puts the low `width` bits of `value`, or takes as many.
    fn code(&mut self, value: u64, width: u32) -> u64;
}

/// Logarithms of steps: to the base of two, in eighths, of a step in the unit that bin 0 has as its unit in the last place.
type Log = i32;

/// A running mean of logarithms.
#[derive(Clone, Copy)]
struct Scale {
    mean: Log,
    seen: u32,
}

impl Scale {
    const UNKNOWN: Self = Self { mean: 0, seen: 0 };

    /// The mean, of which 16 fractions of an eighth are kept; `other` where there is none.
    #[inline(always)]
    fn or(self, other: Log) -> Log {
        if self.seen == 0 { other } else { self.mean >> 4 }
    }

    /// Takes a step in. After `memory` steps older ones begin to fade.
    #[inline(always)]
    fn update(&mut self, log: Log, memory: u32) {
        self.seen += u32::from(self.seen < memory);
        self.mean += ((log << 4) - self.mean) / self.seen.max(1) as i32;
    }
}

/// What was coded at a place.
#[derive(Clone, Copy, Default)]
struct Place {
    log: Log,
    /// -1, 0 or 1: which way the word's value moved.
    direction: i8,
}

pub(super) struct Model {
    /// Of the tree of classes.
    depth: u32,
    row: usize,
    column: usize,
    row_scale: Scale,
    local: Scale,
    columns: Vec<Scale>,
    above: Vec<Place>,
    left: Place,
    corner: Place,
    any: bool,
    classes: [Vec<Estimate>; MODELS],
    class_mixer: Mixer<MODELS>,
    signs: [Vec<Estimate>; 3],
    sign_mixer: Mixer<3>,
    leading: Vec<Estimate>,
}

/// The logarithm of a magnitude, in eighths; a zero counts as a quarter.
#[inline(always)]
fn log_of(magnitude: u64) -> Log {
    match magnitude.checked_ilog2() {
        None => -16,
        Some(top) => {
            let below = if top >= 3 { magnitude >> (top - 3) } else { magnitude << (3 - top) };
            8 * top as i32 + (below & 7) as i32
        }
    }
}

/// A scale relative to a word's unit in the last place, as an index.
#[inline(always)]
fn relative(scale: Log, bin: u8) -> usize {
    ((scale - 8 * i32::from(bin)).div_euclid(4) + 6).clamp(0, SCALES as i32 - 1) as usize
}

impl Model {
    /// For `words` words.
    pub(super) fn new(word: Word, rows: Option<Rows>, words: usize) -> Self {
        // Very long rows tell little by their columns, and would need memory; columns that do not come again tell nothing.
        let width = rows.map_or(1, |rows| rows.len as usize);
        let columns = if (2..=words.min(1 << 20)).contains(&width) { width } else { 1 };
        // Classes 1 to 2^depth are the leaves of a tree of 2^depth - 1 nodes; node 0 is the bit for class 0.
        let depth = (8 * word.bytes).ilog2();
        let table = |contexts: usize| vec![Estimate::EVEN; contexts << depth];
        Self {
            depth,
            row: width,
            column: rows.map_or(0, |rows| rows.phase as usize),
            row_scale: Scale::UNKNOWN,
            local: Scale::UNKNOWN,
            columns: vec![Scale::UNKNOWN; columns],
            above: vec![Place::default(); columns],
            left: Place::default(),
            corner: Place::default(),
            any: false,
            classes: [
                table(SCALES * SCALES),
                table(SCALES * SCALES),
                table(64 * SCALES),
                table(16 * 16 * 4),
                table(64 * 8),
                table(64),
                table(SCALES * 8),
            ],
            class_mixer: Mixer::new(4 << depth),
            signs: [vec![Estimate::EVEN; 64 * SCALES], vec![Estimate::EVEN; 27 * 2 * 4], vec![Estimate::EVEN; 64 * 64]],
            sign_mixer: Mixer::new(64),
            leading: vec![Estimate::EVEN; 65 * SCALES * 8],
        }
    }

    /// Codes a residual: an encoder the one given, a decoder the one that it returns. `context` is the bin of the prediction by
    /// exponent and by mantissa.
    #[inline(always)]
    pub(super) fn code(
        &mut self,
        coder: &mut impl BitCoder,
        noise: &mut impl Noise,
        context: (u8, u8),
        residual: i64,
    ) -> i64 {
        let (bin, mantissa) = context;
        let magnitude = residual.unsigned_abs();
        let column = if self.columns.len() > 1 { self.column } else { 0 };
        let overall = if self.any { self.local.or(0) } else { 8 * i32::from(bin) };
        let row = self.row_scale.or(overall);
        let across = self.columns[column].or(row);
        let above = self.above[column];
        let both = relative((row + across) / 2, bin);
        let (by_row, by_column, by_local) = (relative(row, bin), relative(across, bin), relative(overall, bin));
        let near = |place: Place| relative(place.log, bin) / 2;
        let bases = [
            by_row * SCALES + by_local,
            by_column * SCALES + by_row,
            usize::from(bin) * SCALES + both,
            (near(above) * 16 + near(self.left)) * 4 + both / 8,
            usize::from(mantissa) * 8 + by_row / 4,
            usize::from(bin),
            by_column * 8 + by_local / 4,
        ]
        .map(|context| context << self.depth);
        let class = self.class(coder, bases, both / 8, 64 - magnitude.leading_zeros());
        let mut coded = 0;
        let mut negative = false;
        if class > 0 {
            negative = self.sign(coder, residual < 0, class, both, mantissa, above);
            coded = self.magnitude(coder, noise, class, both, magnitude);
        }
        let log = 8 * i32::from(bin) + log_of(coded);
        // A word that is coarse beside the step says nothing by standing still.
        if coded > 0 || log < overall {
            self.row_scale.update(log, 64);
            self.local.update(log, 6);
            self.columns[column].update(log, 12);
            self.any = true;
        }
        let direction = if coded == 0 {
            0
        } else if negative {
            -1
        } else {
            1
        };
        self.corner = above;
        self.left = Place { log, direction };
        self.above[column] = self.left;
        self.column += 1;
        if self.column >= self.row {
            self.column = 0;
            self.left = Place { log: self.row_scale.or(0), direction: 0 };
            self.corner = Place::default();
            self.row_scale = Scale { mean: self.row_scale.mean, seen: self.row_scale.seen.min(4) };
        }
        let coded = coded as i64;
        if negative { coded.wrapping_neg() } else { coded }
    }

    #[inline(always)]
    fn class(&mut self, coder: &mut impl BitCoder, bases: [usize; MODELS], set: usize, class: u32) -> u32 {
        let mut node = 0;
        let mut bit = self.class_bit(coder, bases, node, set, class > 0);
        if !bit {
            return 0;
        }
        node = 1;
        for level in (0..self.depth).rev() {
            bit = self.class_bit(coder, bases, node, set, (class.wrapping_sub(1) >> level) & 1 == 1);
            node = 2 * node + usize::from(bit);
        }
        // The leaves are numbered from 2^depth on.
        node as u32 - (1 << self.depth) + 1
    }

    #[inline(always)]
    fn class_bit(
        &mut self,
        coder: &mut impl BitCoder,
        bases: [usize; MODELS],
        node: usize,
        set: usize,
        bit: bool,
    ) -> bool {
        let estimates = std::array::from_fn(|model| self.classes[model][bases[model] + node]);
        let one = self.class_mixer.mix(estimates, (set << self.depth) + node);
        let bit = coder.code(bit, one);
        self.class_mixer.learn(bit, RATE);
        for (table, base) in self.classes.iter_mut().zip(bases) {
            table[base + node].update(bit, LIMIT);
        }
        bit
    }

    #[inline(always)]
    fn sign(
        &mut self,
        coder: &mut impl BitCoder,
        negative: bool,
        class: u32,
        scale: usize,
        mantissa: u8,
        above: Place,
    ) -> bool {
        let class = class as usize % 64;
        let trit = |place: Place| (place.direction + 1) as usize;
        let neighbours = (trit(above) * 3 + trit(self.left)) * 3 + trit(self.corner);
        let at = [class * SCALES + scale, neighbours * 8 + scale / 4, usize::from(mantissa) * 64 + class];
        let estimates = std::array::from_fn(|model| self.signs[model][at[model]]);
        let one = self.sign_mixer.mix(estimates, class);
        let bit = coder.code(negative, one);
        self.sign_mixer.learn(bit, RATE);
        for (table, at) in self.signs.iter_mut().zip(at) {
            table[at].update(bit, LIMIT);
        }
        bit
    }

    /// The magnitude of a class: its leading bits, then noise.
    #[inline(always)]
    fn magnitude(
        &mut self,
        coder: &mut impl BitCoder,
        noise: &mut impl Noise,
        class: u32,
        scale: usize,
        magnitude: u64,
    ) -> u64 {
        let below = class - 1;
        let leading = below.min(LEADING.max(below.saturating_sub(MOST_NOISE)));
        let base = (class as usize * SCALES + scale) * 8;
        let mut value = 1;
        for level in (below - leading..below).rev() {
            let estimate = &mut self.leading[base + value as usize % 8];
            let bit = coder.code(magnitude >> level & 1 == 1, estimate.probability());
            estimate.update(bit, LIMIT);
            value = value << 1 | u64::from(bit);
        }
        let rest = below - leading;
        if rest == 0 { value } else { value << rest | noise.code(magnitude, rest) }
    }
}
