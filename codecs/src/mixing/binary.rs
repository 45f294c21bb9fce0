//! Arithmetic coding of single bits: a 32-bit interval, carried out a byte at a time.

/// Codes bits: an encoder takes them, a decoder finds them.
pub(super) trait BitCoder {
    /// Codes a bit that is one with the probability `one`, in units of 2^-16 (1 to 65,535). A decoder does not look at `bit`.
    fn code(&mut self, bit: bool, one: u32) -> bool;
}

/// The first part of an interval, for a one.
#[inline(always)]
fn split(low: u32, high: u32, one: u32) -> u32 {
    low + ((u64::from(high - low) * u64::from(one)) >> 16) as u32
}

pub(super) struct BitEncoder<'a> {
    low: u32,
    high: u32,
    out: &'a mut Vec<u8>,
}

impl<'a> BitEncoder<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { low: 0, high: u32::MAX, out }
    }

    /// Puts out what identifies the interval.
    pub(super) fn finish(self) {
        self.out.extend_from_slice(&self.low.to_be_bytes());
    }
}

impl BitCoder for BitEncoder<'_> {
    #[inline(always)]
    fn code(&mut self, bit: bool, one: u32) -> bool {
        let middle = split(self.low, self.high, one);
        if bit {
            self.high = middle
        } else {
            self.low = middle + 1
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.out.push((self.high >> 24) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 255;
        }
        bit
    }
}

pub(super) struct BitDecoder<'a> {
    low: u32,
    high: u32,
    value: u32,
    data: &'a [u8],
    at: usize,
}

impl<'a> BitDecoder<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        let mut decoder = Self { low: 0, high: u32::MAX, value: 0, data, at: 0 };
        (0..4).for_each(|_| decoder.shift());
        decoder
    }

    #[inline(always)]
    fn shift(&mut self) {
        // Zeros beyond the end, which `is_finished` tells.
        self.value = self.value << 8 | u32::from(self.data.get(self.at).copied().unwrap_or(0));
        self.at += 1;
    }

    /// Whether all bytes were taken and no more, and they are what an encoder ends with.
    pub(super) fn is_finished(&self) -> bool {
        self.at == self.data.len() && self.value == self.low
    }
}

impl BitCoder for BitDecoder<'_> {
    #[inline(always)]
    fn code(&mut self, _bit: bool, one: u32) -> bool {
        let middle = split(self.low, self.high, one);
        let bit = self.value <= middle;
        if bit {
            self.high = middle
        } else {
            self.low = middle + 1
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 255;
            self.shift();
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back(bits in proptest::collection::vec((any::<bool>(), 1u32..65_536), 0..500)) {
            let mut out = Vec::new();
            let mut encoder = BitEncoder::new(&mut out);
            for (bit, one) in &bits {
                encoder.code(*bit, *one);
            }
            encoder.finish();
            let mut decoder = BitDecoder::new(&out);
            for (bit, one) in &bits {
                prop_assert_eq!(decoder.code(false, *one), *bit);
            }
            prop_assert!(decoder.is_finished());
        }
    }
}
