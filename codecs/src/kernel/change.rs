//! What changed between two runs of floats, in numbers.
//!
//! Every product and sum is one IEEE 754 operation on binary64. Words are taken in tiles of 1,024, each summed up in 8 lanes, and tiles
//! are added in order: the same bits on every machine and with every instruction set.

use shard_core::FloatFormat;

use super::linear::is_known;
use super::{Isa, Work, compiled_for};

/// Words of a tile: few enough for the first-level cache.
const TILE: usize = 1024;

/// Partial sums: a fixed number, whatever the processor has.
const LANES: usize = 8;

/// Sums over words of two versions of a tensor. Words that are not finite on both sides are in none but the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ChangeSums {
    /// Words compared.
    pub words: u64,
    /// Words whose bits differ.
    pub changed: u64,
    /// The largest step of a word, in units in the last place (floats) or in ones (integers).
    pub max_steps: u64,
    /// The largest absolute change of a value.
    pub max_abs: f64,
    /// Sum of the squares of the old values.
    pub old_squares: f64,
    /// Sum of the squares of the new values.
    pub new_squares: f64,
    /// Sum of the products of old and new values.
    pub products: f64,
    /// Sum of the squares of the differences.
    pub change_squares: f64,
    /// Words that are finite on both sides.
    pub finite: u64,
    /// Words that are NaN or infinite on either side.
    pub not_finite: u64,
    /// Words that are NaN or infinite on the new side only.
    pub lost: u64,
}

impl ChangeSums {
    /// Adds the sums of the words that follow.
    pub fn merge(&mut self, next: &Self) {
        self.words += next.words;
        self.changed += next.changed;
        self.max_steps = self.max_steps.max(next.max_steps);
        self.max_abs = self.max_abs.max(next.max_abs);
        self.old_squares += next.old_squares;
        self.new_squares += next.new_squares;
        self.products += next.products;
        self.change_squares += next.change_squares;
        self.finite += next.finite;
        self.not_finite += next.not_finite;
        self.lost += next.lost;
    }

    /// Adds one pair of words, given what they are worth and how many steps lie between them.
    #[inline(always)]
    pub fn add(&mut self, old: f64, new: f64, differs: bool, steps: impl FnOnce() -> u64) {
        self.words += 1;
        if differs {
            self.changed += 1;
            self.max_steps = self.max_steps.max(steps());
        }
        if old.is_finite() && new.is_finite() {
            let change = new - old;
            self.finite += 1;
            self.old_squares += old * old;
            self.new_squares += new * new;
            self.products += old * new;
            self.change_squares += change * change;
            self.max_abs = self.max_abs.max(change.abs());
        } else {
            self.not_finite += 1;
            self.lost += u64::from(old.is_finite());
        }
    }
}

/// The sums over two equally long runs of little-endian floats; `None` for types other than binary16, bfloat16 and binary32.
#[must_use]
pub fn change(isa: Isa, float: FloatFormat, old: &[u8], new: &[u8]) -> Option<ChangeSums> {
    if !is_known(float) || float.exponent == 11 {
        return None;
    }
    let mut sums = ChangeSums::default();
    compiled_for(isa, Run { float, old, new, sums: &mut sums });
    Some(sums)
}

/// The sums over two equally long runs of values: nothing is told of bits and steps.
pub fn change_of_values(isa: Isa, old: &[f32], new: &[f32], sums: &mut ChangeSums) {
    compiled_for(isa, ValueRun { old, new, sums });
}

struct ValueRun<'a> {
    old: &'a [f32],
    new: &'a [f32],
    sums: &'a mut ChangeSums,
}

impl Work for ValueRun<'_> {
    #[inline(always)]
    fn run(self) {
        for (old, new) in self.old.chunks(TILE).zip(self.new.chunks(TILE)) {
            tile(old, new, self.sums);
        }
    }
}

struct Run<'a> {
    float: FloatFormat,
    old: &'a [u8],
    new: &'a [u8],
    sums: &'a mut ChangeSums,
}

impl Work for Run<'_> {
    #[inline(always)]
    fn run(self) {
        match (self.float.exponent, self.float.mantissa) {
            (5, _) => narrow(self.old, self.new, half, self.sums),
            (8, 7) => narrow(self.old, self.new, |bits| f32::from_bits(u32::from(bits) << 16), self.sums),
            _ => wide(self.old, self.new, self.sums),
        }
    }
}

/// The value of a binary16: its exponent is rebased by an exact product, which takes subnormals along. Infinity and NaN are put by
/// hand, for they would become numbers.
#[inline(always)]
fn half(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 | (bits & 0x3ff) << 13 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

#[inline(always)]
fn narrow(old: &[u8], new: &[u8], value: impl Fn(u16) -> f32, sums: &mut ChangeSums) {
    let (mut a, mut b) = ([0f32; TILE], [0f32; TILE]);
    for (old, new) in old.chunks(TILE * 2).zip(new.chunks(TILE * 2)) {
        let (old, new) = (old.as_chunks::<2>().0, new.as_chunks::<2>().0);
        let (mut changed, mut steps) = (0u16, 0u16);
        for (old, new) in old.iter().zip(new) {
            let (old, new) = (u16::from_le_bytes(*old), u16::from_le_bytes(*new));
            // Floats in order, as unsigned integers.
            let ordered = |bits: u16| bits ^ ((bits.cast_signed() >> 15).cast_unsigned() >> 1) ^ 0x8000;
            changed += u16::from(old != new);
            steps = steps.max(ordered(old).abs_diff(ordered(new)));
        }
        for ((a, b), (old, new)) in a.iter_mut().zip(&mut b).zip(old.iter().zip(new)) {
            (*a, *b) = (value(u16::from_le_bytes(*old)), value(u16::from_le_bytes(*new)));
        }
        let count = old.len().min(new.len());
        tile(&a[..count], &b[..count], sums);
        sums.changed += u64::from(changed);
        sums.max_steps = sums.max_steps.max(u64::from(steps));
    }
}

#[inline(always)]
fn wide(old: &[u8], new: &[u8], sums: &mut ChangeSums) {
    let (mut a, mut b) = ([0f32; TILE], [0f32; TILE]);
    for (old, new) in old.chunks(TILE * 4).zip(new.chunks(TILE * 4)) {
        let (old, new) = (old.as_chunks::<4>().0, new.as_chunks::<4>().0);
        let (mut changed, mut steps) = (0u32, 0u32);
        for (old, new) in old.iter().zip(new) {
            let (old, new) = (u32::from_le_bytes(*old), u32::from_le_bytes(*new));
            let ordered = |bits: u32| bits ^ ((bits.cast_signed() >> 31).cast_unsigned() >> 1) ^ 0x8000_0000;
            changed += u32::from(old != new);
            steps = steps.max(ordered(old).abs_diff(ordered(new)));
        }
        for ((a, b), (old, new)) in a.iter_mut().zip(&mut b).zip(old.iter().zip(new)) {
            (*a, *b) = (f32::from_le_bytes(*old), f32::from_le_bytes(*new));
        }
        let count = old.len().min(new.len());
        tile(&a[..count], &b[..count], sums);
        sums.changed += u64::from(changed);
        sums.max_steps = sums.max_steps.max(u64::from(steps));
    }
}

/// Everything but what is told by bits.
#[inline(always)]
fn tile(old: &[f32], new: &[f32], sums: &mut ChangeSums) {
    let mut odd = false;
    for (old, new) in old.iter().zip(new) {
        odd |= old.to_bits() << 1 >= 0x7f80_0000 << 1;
        odd |= new.to_bits() << 1 >= 0x7f80_0000 << 1;
    }
    let mut found = ChangeSums::default();
    if odd {
        // Where one is not finite, both are put to zero: then they are in no sum.
        let (mut a, mut b) = ([0f32; TILE], [0f32; TILE]);
        let (mut finite, mut lost) = (0u32, 0u32);
        for ((a, b), (old, new)) in a.iter_mut().zip(&mut b).zip(old.iter().zip(new)) {
            let both = old.is_finite() & new.is_finite();
            (*a, *b) = if both { (*old, *new) } else { (0.0, 0.0) };
            finite += u32::from(both);
            lost += u32::from(old.is_finite() & !new.is_finite());
        }
        let count = old.len().min(new.len());
        finite_tile(&a[..count], &b[..count], &mut found);
        found.finite = u64::from(finite);
        found.not_finite = count as u64 - u64::from(finite);
        found.lost = u64::from(lost);
    } else {
        finite_tile(old, new, &mut found);
    }
    sums.merge(&found);
}

/// The sums over finite values.
#[inline(always)]
fn finite_tile(old: &[f32], new: &[f32], found: &mut ChangeSums) {
    // In binary64 first, and then loop by loop, each with few sums: so each becomes vectors, and its sums stay in registers.
    let (mut x, mut y) = ([0f64; TILE], [0f64; TILE]);
    x.iter_mut().zip(old).for_each(|(wide, value)| *wide = f64::from(*value));
    y.iter_mut().zip(new).for_each(|(wide, value)| *wide = f64::from(*value));
    let (x, y) = (&x[..old.len()], &y[..old.len()]);
    let ((lanes, rest), (new_lanes, new_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let (mut a, mut b, mut ab, mut d, mut most) =
        ([0f64; LANES], [0f64; LANES], [0f64; LANES], [0f64; LANES], [0f64; LANES]);
    for (x, y) in lanes.iter().zip(new_lanes) {
        for at in 0..LANES {
            a[at] += x[at] * x[at];
            b[at] += y[at] * y[at];
            ab[at] += x[at] * y[at];
        }
    }
    for (x, y) in lanes.iter().zip(new_lanes) {
        for at in 0..LANES {
            let change = y[at] - x[at];
            d[at] += change * change;
            most[at] = if change.abs() > most[at] { change.abs() } else { most[at] };
        }
    }
    for (old, new) in rest.iter().zip(new_rest) {
        found.add(*old, *new, false, || 0);
    }
    found.words += (lanes.len() * LANES) as u64;
    found.finite += (lanes.len() * LANES) as u64;
    found.old_squares += a.iter().sum::<f64>();
    found.new_squares += b.iter().sum::<f64>();
    found.products += ab.iter().sum::<f64>();
    found.change_squares += d.iter().sum::<f64>();
    found.max_abs = most.into_iter().fold(found.max_abs, f64::max);
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [(u32, u32); 3] = [(5, 10), (8, 7), (8, 23)];

    fn format((exponent, mantissa): (u32, u32)) -> FloatFormat {
        FloatFormat { exponent, mantissa, signed: true }
    }

    /// Word by word, with the `half` crate.
    fn plainly(float: FloatFormat, old: &[u8], new: &[u8]) -> ChangeSums {
        let mut sums = ChangeSums::default();
        let bytes = if float.mantissa == 23 { 4 } else { 2 };
        for (old, new) in old.chunks_exact(bytes).zip(new.chunks_exact(bytes)) {
            let value = |word: &[u8]| match (float.exponent, word) {
                (5, [low, high]) => f16::from_le_bytes([*low, *high]).to_f64(),
                (_, [low, high]) => bf16::from_le_bytes([*low, *high]).to_f64(),
                (_, word) => f32::from_le_bytes(word.try_into().unwrap()).into(),
            };
            let ordered = |word: &[u8]| {
                let mut wide = [0; 8];
                wide[8 - bytes..].copy_from_slice(word);
                let bits = i64::from_le_bytes(wide) >> (64 - 8 * bytes);
                if bits < 0 { bits ^ ((1 << (8 * bytes - 1)) - 1) } else { bits }
            };
            sums.add(value(old), value(new), old != new, || ordered(old).abs_diff(ordered(new)));
        }
        sums
    }

    #[test]
    fn every_binary16_has_its_value() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (half(bits), f16::from_bits(bits).to_f32());
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{bits:#x}");
        }
    }

    proptest! {
        #[test]
        fn all_instruction_sets_give_the_same_and_what_is_plainly_so(
            which in 0usize..3, old in prop::collection::vec(any::<u32>(), 0..5000), seed: u32, odd: bool,
        ) {
            let float = format(FORMATS[which]);
            let finite = |word: u32| if odd { word } else { word & !0x0800_0800 & !0x4000_4000 };
            let old: Vec<u8> = old.iter().flat_map(|word| finite(*word).to_le_bytes()).collect();
            let mut new = old.clone();
            for (at, byte) in new.iter_mut().enumerate() {
                *byte ^= u8::from((at as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 28 == 0);
            }
            let expected = plainly(float, &old, &new);
            let first = change(Isa::SCALAR, float, &old, &new).unwrap();
            for isa in Isa::available() {
                let found = change(isa, float, &old, &new).unwrap();
                prop_assert_eq!(format!("{found:?}"), format!("{first:?}"));
            }
            prop_assert_eq!(
                (first.words, first.changed, first.max_steps, first.finite, first.not_finite, first.lost),
                (expected.words, expected.changed, expected.max_steps, expected.finite, expected.not_finite, expected.lost)
            );
            prop_assert_eq!(first.max_abs, expected.max_abs);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1e-300) || a == b || a.is_nan() && b.is_nan();
            prop_assert!(near(first.old_squares, expected.old_squares) && near(first.new_squares, expected.new_squares));
            prop_assert!(near(first.change_squares, expected.change_squares));
            let most = (expected.old_squares * expected.new_squares).sqrt();
            prop_assert!((first.products - expected.products).abs() <= 1e-12 * most || !most.is_finite());
        }
    }
}
