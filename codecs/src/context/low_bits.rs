//! Bits of known, changing widths (at most 56), least significant first.

use crate::kernel::buckets::Bits;

/// Appends bits.
pub(super) struct LowBitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl<'a> LowBitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, count: 0 }
    }

    /// Appends the low `width` bits of each of `values`.
    pub(super) fn put_all(&mut self, values: &[i64], widths: &[u8]) {
        for (value, width) in values.iter().zip(widths) {
            let width = u32::from(*width);
            let kept = *value as u64 & ((1 << width) - 1);
            self.pending |= kept << self.count;
            self.count += width;
            if self.count >= 64 {
                self.out.extend_from_slice(&self.pending.to_le_bytes());
                self.count -= 64;
                // The bits that did not fit; none if the word was full before.
                self.pending = kept.checked_shr(width - self.count).unwrap_or(0);
            }
        }
    }

    pub(super) fn finish(self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
    }
}

/// Whether exactly all bytes were used, and the bits after the last one taken are zeros.
pub(super) fn is_finished(mut bits: Bits<'_>) -> bool {
    let left = (8 - bits.at % 8) % 8;
    bits.at.div_ceil(8) == bits.data.len() && bits.take(left as u32) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back(values in proptest::collection::vec((any::<i64>(), 0u8..=56), 0..200)) {
            let (values, widths): (Vec<i64>, Vec<u8>) = values.into_iter().unzip();
            let mut out = Vec::new();
            let mut writer = LowBitWriter::new(&mut out);
            let half = values.len() / 2;
            writer.put_all(&values[..half], &widths[..half]);
            writer.put_all(&values[half..], &widths[half..]);
            writer.finish();
            let mut reader = Bits { data: &out, at: 0 };
            for (value, width) in values.iter().zip(&widths) {
                prop_assert_eq!(reader.take(u32::from(*width)), *value as u64 & ((1 << width) - 1));
            }
            prop_assert!(is_finished(reader));
            let bits: usize = widths.iter().map(|width| usize::from(*width)).sum();
            prop_assert_eq!(out.len(), bits.div_ceil(8));
        }
    }
}
