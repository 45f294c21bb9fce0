//! What streams cost, in integers, so that every machine chooses alike.

use super::Counts;

/// `log2(1 + i/256)` in units of 2^-16.
const LOG2: [u32; 257] = {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 256 {
        // Bit by bit: squaring doubles the logarithm. `x` is 1 to 2 in units of 2^-30.
        let mut x = (256 + i as u64) << 22;
        let mut bits = 0;
        let mut round = 0;
        while round < 17 {
            x = (x * x) >> 30;
            bits <<= 1;
            if x >= 2 << 30 {
                x >>= 1;
                bits |= 1;
            }
            round += 1;
        }
        table[i] = (bits + 1) >> 1;
        i += 1;
    }
    table[256] = 1 << 16;
    table
};

/// `log2(value)` in units of 2^-16 bit; 0 for 0.
pub(crate) const fn log2(value: u32) -> u64 {
    if value == 0 {
        return 0;
    }
    let top = value.ilog2();
    let fraction = ((value as u64) << 32 >> top) as u32;
    let index = (fraction >> 24) as usize;
    let (low, high) = (LOG2[index] as u64, LOG2[index + 1] as u64);
    ((top as u64) << 16) + low + (((high - low) * (fraction >> 8 & 0xffff) as u64) >> 16)
}

/// `value * log2(value)` of small values, in units of 2^-16 bit.
static TIMES_LOG2: [u32; 1 << 12] = {
    let mut table = [0; 1 << 12];
    let mut value = 0;
    while value < 1 << 12 {
        table[value] = value as u32 * log2(value as u32) as u32;
        value += 1;
    }
    table
};

/// What values with these counts, `total` in all, take by their entropy, in units of 2^-16 bit, and how many there are.
#[inline(always)]
pub(crate) fn entropy_of(total: u32, counts: impl Iterator<Item = u32>) -> (u64, u64) {
    let (mut saved, mut values) = (0, 0);
    for count in counts {
        saved += match TIMES_LOG2.get(count as usize) {
            Some(saved) => u64::from(*saved),
            None => u64::from(count) * log2(count),
        };
        values += u64::from(count > 0);
    }
    ((u64::from(total) * log2(total)).saturating_sub(saved), values)
}

/// What a stream is expected to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimate {
    /// For each byte, in units of 2^-16 bit.
    per_byte: u64,
    /// Once a stream, in bytes: table and states.
    fixed: u64,
}

impl Estimate {
    /// The expected size of `len` such bytes.
    pub(crate) fn bytes(self, len: usize) -> u64 {
        let variable = (u128::from(self.per_byte) * len as u128).div_ceil(8 << 16) as u64;
        (variable + self.fixed).min(len as u64)
    }
}

/// The order-0 cost of a stream like a sample of `len` bytes with these counts, or of that sample if it is the stream.
pub(crate) fn estimate(counts: &Counts, len: usize) -> Estimate {
    let (total, values) = entropy_of(len as u32, counts.iter().copied());
    if len == 0 || values <= 1 {
        return Estimate { per_byte: 0, fixed: values };
    }
    // A sample looks more orderly than what it is of: by half a bit's worth of nats for each value but one (Miller).
    let bias = (values - 1) * 47_274;
    // No probability is above 1 - 2^-14, nor cheaper than that.
    let per_byte = ((total + bias) / len as u64).max(6);
    // Tables take about 5 bits a value; states 2 bytes more than they hold.
    let lanes = super::rans::lanes(len) as u64;
    Estimate { per_byte, fixed: 3 + values * 5 / 8 + 2 * lanes }
}

/// The order-0 cost of each byte value of a stream of `len` bytes, in units of 2^-16 bit.
pub(crate) fn byte_costs(counts: &Counts, len: usize) -> [u32; 256] {
    counts.map(|count| log2(len as u32).saturating_sub(log2(count)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms() {
        for value in (1..70_000u32).chain([1 << 22, u32::MAX]) {
            let expected = f64::from(value).log2() * 65536.0;
            assert!((log2(value) as f64 - expected).abs() < 4.0, "{value}");
        }
    }

    #[test]
    fn uniform_bytes_do_not_shrink() {
        assert_eq!(estimate(&[4096; 256], 1 << 20).bytes(1 << 20), 1 << 20);
        let mut counts = [0; 256];
        (counts[3], counts[7]) = (1 << 19, 1 << 19);
        let halves = estimate(&counts, 1 << 20).bytes(1 << 20);
        // And 64 states.
        assert!(halves.abs_diff((1 << 17) + 2 * 64) < 100, "{halves}");
    }
}
