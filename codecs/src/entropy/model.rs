//! Probabilities of byte values and their compact wire form.
//!
//! A value's weight is a small float: a bit length from 1 to 16 and up to `precision` bits below the top one. Reader and
//! writer turn weights into frequencies that sum to 2^12 (or 2^14) by the same integer arithmetic, so precision is a matter of cost
//! alone: few bits for short streams.
//!
//! Wire form, in bits, least significant first:
//! - one bit: whether value 0 occurs; then lengths of runs of values that all occur or all do not, in turn, each as an
//!   Elias gamma code, up to 256 values in all;
//! - for each value that occurs: its weight's bit length less 1 (the first in 4 bits, others as the zigzag difference
//!   to the one before, in unary), then the `min(precision, bit length - 1)` bits below the weight's top bit;
//! - zeros up to a whole byte.

use super::Counts;
use super::bits::{BitReader, BitWriter};
use super::cost::log2;
/// The largest weight has this many bits.
const WEIGHT_BITS: u32 = 16;
/// The most bits below a weight's top one.
pub(crate) const MOST_PRECISION: u32 = 11;

/// Frequencies of the 256 values: they sum to 2^`bits` and at least two are not zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) bits: u32,
    pub(crate) frequencies: [u16; 256],
}

/// A weight as the wire has it: bit length less 1, and the bits below the top one.
#[derive(Clone, Copy, Default)]
struct Weight {
    class: u32,
    mantissa: u32,
}

impl Weight {
    /// The weight that stands for `count` of `len`.
    fn of(count: u32, len: usize, precision: u32) -> Self {
        let scale = 1u64 << (WEIGHT_BITS - 1);
        let weight = ((u64::from(count) * scale + len as u64 / 2) / len as u64).max(1) as u32;
        let class = weight.ilog2();
        let kept = class.min(precision);
        Self { class, mantissa: (weight >> (class - kept)) & ((1 << kept) - 1) }
    }

    /// The number in the middle of those that have this form.
    fn value(self, precision: u32) -> u32 {
        let dropped = self.class - self.class.min(precision);
        let middle = if dropped == 0 { 0 } else { 1 << (dropped - 1) };
        1 << self.class | self.mantissa << dropped | middle
    }
}

impl Model {
    /// The model of a stream of `len` bytes with these counts (of at least two values), with probabilities in units of
    /// 2^-`bits`, and its precision.
    pub(crate) fn fit(counts: &Counts, len: usize, bits: u32) -> (Self, u32) {
        let candidates: &[u32] = match len {
            0..0x4000 => &[0, 1, 2, 3],
            0x4000..0x4_0000 => &[2, 4, 6],
            _ => &[7],
        };
        Self::fit_with(candidates, counts, len, bits)
    }

    /// As [`Self::fit`], by the precision that is best for most streams of that length.
    pub(crate) fn fit_fast(counts: &Counts, len: usize, bits: u32) -> (Self, u32) {
        let precision = match len {
            0..0x400 => &[1],
            0x400..0x2000 => &[2],
            0x2000..0x1_0000 => &[3],
            0x1_0000..0x4_0000 => &[4],
            _ => &[6],
        };
        Self::fit_with(precision, counts, len, bits)
    }

    fn fit_with(candidates: &[u32], counts: &Counts, len: usize, bits: u32) -> (Self, u32) {
        let fit = |precision: u32| {
            let weight = |value| match counts[usize::from(value)] {
                0 => None,
                count => Some(Weight::of(count, len, precision).value(precision)),
            };
            (Self::from_weights(bits, weight), precision)
        };
        // The part of the table's size that depends on precision is about its bits for each value.
        let values = counts.iter().filter(|count| **count > 0).count() as u64;
        if let [precision] = candidates {
            return fit(*precision);
        }
        let cost = |(model, precision): &(Self, u32)| model.cost(counts) + (values << 16) * u64::from(*precision);
        let (first, others) = candidates.split_first().map_or((7, candidates), |(first, others)| (*first, others));
        let mut best = fit(first);
        for precision in others {
            let other = fit(*precision);
            if cost(&other) < cost(&best) {
                best = other;
            }
        }
        best
    }

    /// What symbols with these counts take, in units of 2^-16 bit.
    pub(crate) fn cost(&self, counts: &Counts) -> u64 {
        let occurring = counts.iter().zip(self.frequencies).filter(|(count, _)| **count > 0);
        occurring
            .map(|(count, frequency)| u64::from(*count) * ((u64::from(self.bits) << 16) - log2(u32::from(frequency))))
            .sum()
    }

    /// Shares the slots out: one to each value that occurs, the rest by what weights call for beyond that, rounded so that
    /// running totals are exact.
    fn from_weights(bits: u32, weight: impl Fn(u8) -> Option<u32>) -> Self {
        let mut weights = [0u32; 256];
        for (value, place) in (0..=255).zip(&mut weights) {
            *place = weight(value).unwrap_or(0);
        }
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let values = weights.iter().filter(|weight| **weight > 0).count() as u64;
        let excess = |weight: u32| (u64::from(weight) << bits).saturating_sub(sum);
        let excess_sum = weights.iter().map(|weight| excess(*weight)).sum::<u64>().max(1);
        let free = (1u64 << bits) - values;
        let (mut running, mut given) = (0, 0);
        let frequencies = weights.map(|weight| {
            if weight == 0 {
                return 0;
            }
            running += excess(weight);
            let share = running * free / excess_sum - given;
            given += share;
            1 + share as u16
        });
        Self { bits, frequencies }
    }

    /// Appends the wire form of the model that [`Self::fit`] made with that precision.
    pub(crate) fn put(counts: &Counts, len: usize, precision: u32, out: &mut Vec<u8>) {
        let mut bits = BitWriter::new(out);
        bits.put(u32::from(counts[0] > 0), 1);
        for run in counts.chunk_by(|a, b| (*a > 0) == (*b > 0)) {
            bits.put_gamma(run.len() as u32);
        }
        let mut before = None;
        for count in counts.iter().filter(|count| **count > 0) {
            let weight = Weight::of(*count, len, precision);
            match before {
                None => bits.put(weight.class, 4),
                Some(class) if weight.class >= class => bits.put_unary(2 * (weight.class - class)),
                Some(class) => bits.put_unary(2 * (class - weight.class) - 1),
            }
            before = Some(weight.class);
            bits.put(weight.mantissa, weight.class.min(precision));
        }
        bits.finish();
    }

    /// Reads the wire form; returns what follows it. `None` for anything malformed.
    pub(crate) fn read(data: &[u8], bits: u32, precision: u32) -> Option<(Self, &[u8])> {
        let mut reader = BitReader::new(data);
        let mut occurs = [false; 256];
        let mut state = reader.take(1)? == 1;
        let mut at = 0;
        while at < 256 {
            let run = reader.take_gamma(8)? as usize;
            occurs.get_mut(at..at + run)?.fill(state);
            at += run;
            state = !state;
        }
        let mut weights = [0; 256];
        let mut before = None;
        for (weight, _) in weights.iter_mut().zip(occurs).filter(|(_, occurs)| *occurs) {
            let class = match before {
                None => reader.take(4)?,
                Some(class) => {
                    let step = reader.take_unary(2 * WEIGHT_BITS)?;
                    if step % 2 == 0 { class + step / 2 } else { u32::checked_sub(class, step / 2 + 1)? }
                }
            };
            if class >= WEIGHT_BITS {
                return None;
            }
            before = Some(class);
            *weight = Weight { class, mantissa: reader.take(class.min(precision))? }.value(precision);
        }
        let rest = reader.finish()?;
        // A single value would need all slots, which the tables have no room for; such streams are constant.
        if occurs.iter().filter(|occurs| **occurs).count() < 2 {
            return None;
        }
        Some((Self::from_weights(bits, |value| Some(weights[usize::from(value)]).filter(|weight| *weight > 0)), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{COARSE_BITS, FINE_BITS};
    use proptest::prelude::*;

    fn counts() -> impl Strategy<Value = Counts> {
        proptest::collection::vec((any::<u8>(), 1u32..100_000), 2..300).prop_map(|pairs| {
            let mut counts = [0; 256];
            for (value, count) in pairs {
                counts[usize::from(value)] = count;
            }
            counts
        })
    }

    proptest! {
        #[test]
        fn models_round_trip(counts in counts(), fine: bool) {
            let bits = if fine { FINE_BITS } else { COARSE_BITS };
            prop_assume!(counts.iter().filter(|count| **count > 0).count() > 1);
            let len = counts.iter().sum::<u32>() as usize;
            let (model, precision) = Model::fit(&counts, len, bits);
            prop_assert_eq!(model.frequencies.iter().map(|f| u32::from(*f)).sum::<u32>(), 1 << bits);
            for (count, frequency) in counts.iter().zip(model.frequencies) {
                prop_assert_eq!(*count > 0, frequency > 0);
            }
            let mut wire = Vec::new();
            Model::put(&counts, len, precision, &mut wire);
            wire.push(0xaa);
            prop_assert_eq!(Model::read(&wire, bits, precision), Some((model, &[0xaa][..])));
            for cut in 0..wire.len() - 1 {
                prop_assert_eq!(Model::read(&wire[..cut], bits, precision), None);
            }
        }

        #[test]
        fn any_bytes_give_a_valid_model_or_none(data in proptest::collection::vec(any::<u8>(), 0..400), precision in 0u32..12) {
            let bits = COARSE_BITS;
            if let Some((model, rest)) = Model::read(&data, bits, precision) {
                prop_assert!(rest.len() < data.len());
                prop_assert_eq!(model.frequencies.iter().map(|f| u32::from(*f)).sum::<u32>(), 1 << bits);
                prop_assert!(model.frequencies.iter().all(|f| u32::from(*f) < 1 << bits));
            }
        }
    }

    #[test]
    fn few_values_make_a_small_table() {
        let mut counts = [0; 256];
        (counts[0], counts[1], counts[2]) = (1000, 30, 20);
        let mut wire = Vec::new();
        let (_, precision) = Model::fit(&counts, 1050, COARSE_BITS);
        Model::put(&counts, 1050, precision, &mut wire);
        assert!(wire.len() <= 7, "{}", wire.len());
    }
}
