//! The crate's own random numbers, so that what a seed gives never changes with a dependency's version.

/// xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), seeded through SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        let state = std::array::from_fn(|_| {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            scramble(mix)
        });
        Self { state }
    }

    /// An independent generator for part `stream` of the work that `seed` stands for.
    #[must_use]
    pub fn stream(seed: u64, stream: u64) -> Self {
        Self::new(scramble(seed) ^ scramble(stream.wrapping_add(0x6a09_e667_f3bc_c909)))
    }

    /// Bytes that nothing compresses.
    #[must_use]
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }

    /// 64 uniform bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A uniform integer below `end` (0 for 0). The bias of the multiply-shift is below `end / 2^64`.
    #[inline]
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A uniform number in [0, 1), a multiple of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A draw from the standard normal distribution (Box and Muller's transform, its first half).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// SplitMix64's finalizer: a bijection of 64 bits.
fn scramble(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_published_generators() {
        // SplitMix64 from 0, and xoshiro256++ from the state 1, 2, 3, 4: values of the reference implementations.
        assert_eq!(Rng::new(0).state[0], 0xe220_a839_7b1d_cdaf);
        assert_eq!(Rng::new(0).state[1], 0x6e78_9e6a_a1b9_65f4);
        let mut rng = Rng { state: [1, 2, 3, 4] };
        assert_eq!([rng.bits(), rng.bits(), rng.bits()], [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(7);
        let n = 100_000;
        let (mut unit, mut mean, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            unit += rng.unit() / f64::from(n);
            let x = rng.normal();
            mean += x / f64::from(n);
            square += x * x / f64::from(n);
        }
        assert!((unit - 0.5).abs() < 0.01 && mean.abs() < 0.02 && (square - 1.0).abs() < 0.03);
        assert!((0..1000).all(|_| rng.below(3) < 3) && rng.below(0) == 0);
    }
}
