//! Floats rounded to multiples of a power of two, by integers alone.

use shard_core::DType;

/// A binary floating-point type of IEEE 754's form: subnormals, and a largest exponent that is kept for infinities and NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Float {
    /// Bytes of an element.
    pub(super) bytes: usize,
    /// Stored bits of the mantissa.
    mantissa: u32,
    /// Bits of the exponent.
    exponent: u32,
}

/// A finite element: `mantissa * 2^(Float::unit(place))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finite {
    /// Below `2^53`.
    pub(super) mantissa: u64,
    /// The exponent as it is stored, but 1 for a subnormal, which has the same unit.
    pub(super) place: usize,
}

/// An element that was rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    /// The element that it became.
    pub(super) word: u64,
    /// How far that is from what it was, in units of the old element's last place.
    pub(super) error: u64,
    /// Whether it was a multiple of half the step.
    pub(super) was_halfway: bool,
}

/// What the nearest multiple of a step is to an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    /// The element itself, or there is none, the element being no number.
    Same,
    Other(Changed),
    /// Beyond the type's largest number, so that the element is on no grid.
    Beyond,
}

impl Float {
    /// The types whose tensors are rounded.
    pub(super) fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
                let format = dtype.float()?;
                Some(Self { bytes: dtype.word_bytes(), mantissa: format.mantissa, exponent: format.exponent })
            }
            _ => None,
        }
    }

    /// The number of places, [`Finite::place`] being below it.
    pub(super) fn places(self) -> usize {
        (1 << self.exponent) - 1
    }

    /// The exponent of two of the last place of elements of that place.
    pub(super) fn unit(self, place: usize) -> i32 {
        let bias = (1i32 << (self.exponent - 1)) - 1;
        place as i32 - bias - self.mantissa as i32
    }

    /// The largest exponent of two of an element.
    pub(super) fn largest(self) -> i32 {
        self.unit(self.places() - 1) + self.mantissa as i32
    }

    /// Takes an element apart; `None` for an infinity and for what is not a number.
    pub(super) fn finite(self, word: u64) -> Option<Finite> {
        let fraction = word & ((1 << self.mantissa) - 1);
        match (word >> self.mantissa) as usize & self.places() {
            0 => Some(Finite { mantissa: fraction, place: 1 }),
            place if place < self.places() => Some(Finite { mantissa: fraction | 1 << self.mantissa, place }),
            _ => None,
        }
    }

    /// The nearest multiple of `2^step`, ties to the even multiple; zero has no sign then.
    pub(super) fn round(self, word: u64, step: i32) -> Nearest {
        let Some(Finite { mantissa, place }) = self.finite(word) else { return Nearest::Same };
        let cut = step.saturating_sub(self.unit(place));
        // A multiple of its last place is one of every smaller step.
        if mantissa == 0 || cut <= 0 || mantissa.trailing_zeros() as i32 >= cut {
            return Nearest::Same;
        }
        let was_halfway = mantissa.trailing_zeros() as i32 == cut - 1;
        let hidden = 1u64 << self.mantissa;
        // Mantissas are below `2 * hidden`: of a larger step, less than a half.
        let rounded = if cut > self.mantissa as i32 + 1 {
            0
        } else {
            let (floor, rest, half) = (mantissa >> cut, mantissa & ((1 << cut) - 1), 1u64 << (cut - 1));
            (floor + u64::from(rest > half || (rest == half && floor & 1 == 1))) << cut
        };
        let (place_after, fraction) = match rounded {
            0 => (0, 0),
            carried if carried == 2 * hidden => (place + 1, 0),
            normal if normal >= hidden => (place, normal - hidden),
            subnormal => (0, subnormal),
        };
        if place_after == self.places() {
            return Nearest::Beyond;
        }
        let sign = if rounded == 0 { 0 } else { word & 1 << (self.mantissa + self.exponent) };
        let word = sign | (place_after as u64) << self.mantissa | fraction;
        Nearest::Other(Changed { word, error: mantissa.abs_diff(rounded), was_halfway })
    }

    /// The elements of little-endian bytes, which are whole elements.
    pub(super) fn words(self, bytes: &[u8]) -> impl Iterator<Item = u64> {
        bytes.chunks_exact(self.bytes).map(load)
    }

    /// Rounds every element of little-endian bytes, which are whole elements.
    pub(super) fn round_all(self, bytes: &mut [u8], step: i32) {
        for element in bytes.chunks_exact_mut(self.bytes) {
            if let Nearest::Other(changed) = self.round(load(element), step) {
                element.copy_from_slice(&changed.word.to_le_bytes()[..self.bytes]);
            }
        }
    }
}

fn load(element: &[u8]) -> u64 {
    element.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// `2^exponent`: 0 below what a double can hold, infinite above.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        -1074..=-1023 => f64::from_bits(1 << (exponent + 1074)),
        ..-1074 => 0.0,
        _ => f64::INFINITY,
    }
}
