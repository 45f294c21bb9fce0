//! Bits of known, changing widths (at most 56), least significant first.

use crate::kernel::buckets::Bits;

/// Appends bits.
pub(crate) struct LowBitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    /// Below 8.
    count: u32,
}

impl<'a> LowBitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, count: 0 }
    }

    /// Appends the low `widths[i]` bits (at most 56) of `values[i]`.
    pub(crate) fn put_all(&mut self, values: &[u64], widths: &[u8]) {
        let mut at = self.out.len();
        // At most 7 bytes are added for each, and 8 are written.
        self.out.resize(at + 7 * values.len() + 8, 0);
        for (value, width) in values.iter().zip(widths) {
            self.pending |= (value & ((1 << width) - 1)) << self.count;
            self.count += u32::from(*width);
            if let Some(place) = self.out.get_mut(at..at + 8) {
                place.copy_from_slice(&self.pending.to_le_bytes());
            }
            at += (self.count / 8) as usize;
            self.pending = self.pending.checked_shr(self.count & !7).unwrap_or(0);
            self.count %= 8;
        }
        self.out.truncate(at);
    }

    pub(crate) fn finish(self) {
        if self.count > 0 {
            self.out.push(self.pending as u8);
        }
    }
}

/// Whether exactly all bytes were used, and the bits after the last one taken are zeros.
pub(crate) fn is_finished(mut bits: Bits<'_>) -> bool {
    let left = (8 - bits.at % 8) % 8;
    bits.at.div_ceil(8) == bits.data.len() && bits.take(left as u32) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back(values in proptest::collection::vec((any::<u64>(), 0u8..=56), 0..200)) {
            let (values, widths): (Vec<u64>, Vec<u8>) = values.into_iter().unzip();
            let mut out = Vec::new();
            let mut writer = LowBitWriter::new(&mut out);
            let half = values.len() / 2;
            writer.put_all(&values[..half], &widths[..half]);
            writer.put_all(&values[half..], &widths[half..]);
            writer.finish();
            let mut reader = Bits { data: &out, at: 0 };
            for (value, width) in values.iter().zip(&widths) {
                prop_assert_eq!(reader.take(u32::from(*width)), *value & ((1 << width) - 1));
            }
            prop_assert!(is_finished(reader));
            let bits: usize = widths.iter().map(|width| usize::from(*width)).sum();
            prop_assert_eq!(out.len(), bits.div_ceil(8));
        }
    }
}
