//! Sums of squares of floats that are exact, so that they are the same in whatever order and runs the elements come.

use super::float::{Finite, Float, power_of_two};

/// The sum of the squares of some elements, by their place: `sum * 2^(2 * unit)`.
#[derive(Debug, Clone)]
pub(super) struct Squares {
    float: Float,
    /// The sum of the squared mantissas, and how often it went beyond 128 bits.
    sums: Vec<(u128, u64)>,
    /// Places before this are empty.
    first: usize,
}

/// A number: `value * 2^exponent`, which may be beyond what a double holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scaled {
    pub(super) value: f64,
    pub(super) exponent: i32,
}

impl Squares {
    pub(super) fn new(float: Float) -> Self {
        Self { float, sums: vec![(0, 0); float.places()], first: float.places() }
    }

    pub(super) fn add(&mut self, Finite { mantissa, place }: Finite) {
        if let Some((sum, carry)) = self.sums.get_mut(place) {
            let (more, is_over) = sum.overflowing_add(u128::from(mantissa) * u128::from(mantissa));
            (*sum, *carry) = (more, *carry + u64::from(is_over));
            self.first = self.first.min(place);
        }
    }

    /// The root of the sum divided by `count`; `None` where it is zero. Of the largest place first, in double precision: the sums are
    /// exact up to here, and what follows has one order. Its relative error is below 2^-40.
    pub(super) fn root_mean(&self, count: u64) -> Option<Scaled> {
        let top = self.sums.iter().rposition(|sum| *sum != (0, 0))?;
        let mut total = 0.0;
        for place in (self.first..=top).rev() {
            let (sum, carry) = self.sums.get(place).copied().unwrap_or_default();
            let sum = carry as f64 * power_of_two(128) + sum as f64;
            total += sum * power_of_two(2 * (place as i32 - top as i32));
        }
        Some(Scaled { value: (total / count as f64).sqrt(), exponent: self.float.unit(top) })
    }
}
