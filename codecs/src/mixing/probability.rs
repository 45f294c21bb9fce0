//! Probabilities in integers: the logistic function, adaptive estimates, and their mixture.

/// Units of the logistic domain in 1: a probability `p` is `ln(p / (1 - p))` there.
const ONE: i32 = 256;
/// The domain's limits: probabilities from 6e-6 up.
const MOST: i32 = 12 * ONE - 1;

/// `65536 / (1 + e^-x)` for `x` in sixteenths from -12 to 12.
const LOGISTIC: [u32; 385] = {
    // e^(-1/16) in units of 2^-32.
    const STEP: u64 = 4_034_751_264;
    let mut table = [0; 385];
    let mut power = 1u64 << 32;
    let mut index = 0;
    while index <= 192 {
        // e^-x is `power` for x = index / 16 from 0 up.
        let upper = ((1u128 << 80) / ((1u128 << 32) + power as u128)) >> 32;
        table[192 + index] = if upper > 65_535 { 65_535 } else { upper as u32 };
        table[192 - index] = 65_536 - table[192 + index];
        power = (power * STEP) >> 32;
        index += 1;
    }
    table
};

/// The probability, in units of 2^-16 and never 0 or 1, that belongs to `x`.
#[inline(always)]
pub(super) fn squash(x: i32) -> u32 {
    let x = (x.clamp(-MOST, MOST) + 12 * ONE) as u32;
    let (index, part) = ((x / 16) as usize, x % 16);
    ((LOGISTIC[index] * (16 - part) + LOGISTIC[index + 1] * part + 8) / 16).clamp(1, 65_535)
}

/// The inverse of [`squash`], by the top 12 bits of the probability.
static STRETCH: [i16; 4096] = {
    let mut table = [0; 4096];
    let mut x = -MOST;
    let mut index = 0;
    while index < 4096 {
        let wanted = (2 * index as u32 + 1) * 8;
        while x < MOST {
            let place = (x + 12 * ONE) as u32;
            let (at, part) = ((place / 16) as usize, place % 16);
            if (LOGISTIC[at] * (16 - part) + LOGISTIC[at + 1] * part + 8) / 16 >= wanted {
                break;
            }
            x += 1;
        }
        table[index] = x as i16;
        index += 1;
    }
    table
};

/// `2^16 / (n + 1.5)`: how far an estimate that has seen `n` bits goes towards the next.
const RATES: [u32; 1024] = {
    let mut table = [0; 1024];
    let mut n = 0;
    while n < 1024 {
        table[n] = (1 << 17) / (2 * n as u32 + 3);
        n += 1;
    }
    table
};

/// The probability of a one, in 22 bits, and the number of bits seen, in 10.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate(u32);

impl Estimate {
    pub(super) const EVEN: Self = Self(1 << 31);

    /// In the logistic domain.
    #[inline(always)]
    fn stretched(self) -> i32 {
        i32::from(STRETCH[(self.0 >> 20) as usize])
    }

    /// In units of 2^-16, never 0 or 1.
    #[inline(always)]
    pub(super) fn probability(self) -> u32 {
        (self.0 >> 16).clamp(1, 65_535)
    }

    /// Takes a bit in. After `limit` bits older ones begin to fade.
    #[inline(always)]
    pub(super) fn update(&mut self, bit: bool, limit: u32) {
        let (p, n) = ((self.0 >> 10) as i32, self.0 & 1023);
        let goal = if bit { (1 << 22) - 1 } else { 0 };
        let moved = p + ((i64::from(goal - p) * i64::from(RATES[n as usize])) >> 16) as i32;
        self.0 = (moved as u32) << 10 | (n + u32::from(n < limit));
    }
}

/// Mixes estimates in the logistic domain with weights that learn (Mattern, "Mixing Strategies in Data Compression", 2012).
pub(super) struct Mixer<const N: usize> {
    /// Sets of weights, in units of 2^-14 and below 4.
    weights: Vec<[i32; N]>,
    inputs: [i32; N],
    set: usize,
    mixed: u32,
}

impl<const N: usize> Mixer<N> {
    pub(super) fn new(sets: usize) -> Self {
        Self { weights: vec![[(3 << 13) / N as i32; N]; sets], inputs: [0; N], set: 0, mixed: 1 << 15 }
    }

    /// The probability of a one, in units of 2^-16, by these estimates and a set of weights.
    #[inline(always)]
    pub(super) fn mix(&mut self, estimates: [Estimate; N], set: usize) -> u32 {
        self.inputs = estimates.map(Estimate::stretched);
        self.set = set;
        let weights = &self.weights[set];
        // At most 8 * 2^16 * 3071 either way.
        const { assert!(N <= 8) };
        let sum: i32 = weights.iter().zip(self.inputs).map(|(w, x)| w * x).sum();
        self.mixed = squash(sum >> 14);
        self.mixed
    }

    /// Learns from the bit that came.
    #[inline(always)]
    pub(super) fn learn(&mut self, bit: bool, rate: i32) {
        let error = ((if bit { 1 << 16 } else { 0 }) - self.mixed as i32) >> 4;
        for (weight, input) in self.weights[self.set].iter_mut().zip(self.inputs) {
            *weight = (*weight + ((input * error * rate + (1 << 17)) >> 18)).clamp(-(1 << 16), 1 << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logistic_function_and_its_inverse() {
        for x in -MOST..=MOST {
            let expected = 65536.0 / (1.0 + (-f64::from(x) / 256.0).exp());
            assert!((f64::from(squash(x)) - expected).abs() < 12.0, "{x}: {} {expected}", squash(x));
        }
        for (index, x) in (0..4096u32).zip(STRETCH) {
            assert!(squash(i32::from(x)).abs_diff(index * 16 + 8) <= 64, "{index}");
        }
    }

    #[test]
    fn estimates_learn() {
        let mut estimate = Estimate::EVEN;
        for round in 0..4000 {
            estimate.update(round % 10 == 0, 255);
        }
        let p = f64::from(estimate.probability()) / 65536.0;
        assert!((0.08..0.12).contains(&p), "{p}");
    }
}
