//! Bytes without a known format, and how they are cut into chunks by their content.

use fastcdc::v2020::{Normalization, cut, select_masks};
use shard_core::Layout;
use shard_core::limits::Cut;

use crate::format::{Format, FormatError};
use crate::source::Source;

/// Any file, as one segment of opaque bytes.
#[derive(Debug, Clone, Copy)]
pub struct Opaque;

impl Format for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn probe(&self, _head: &[u8], _len: u64) -> bool {
        true
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        Ok(Layout::opaque(source.len()))
    }
}

/// Finds the chunks of opaque bytes: FastCDC with normalized chunking (Xia et al., "The Design of Fast Data Deduplication
/// Based Content-Defined Chunking", IEEE TPDS 2020), level 1, with the gear tables of the crate `fastcdc`, unseeded.
/// Boundaries are part of a file's identity; golden vectors pin them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunker {
    smallest: usize,
    average: usize,
    largest: usize,
    mask_small: u64,
    mask_large: u64,
}

impl Chunker {
    pub(crate) fn new(sizes: Cut) -> Self {
        let (smallest, average, largest) = sizes.opaque_chunk();
        let (mask_small, mask_large) = select_masks(average, Normalization::Level1);
        Self { smallest, average, largest, mask_small, mask_large }
    }

    /// The largest chunk, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// The length of the chunk at the start of `bytes`, which are all that is left of a segment or at least
    /// [`Self::largest`] bytes of it. It is 0 only for no bytes.
    pub(crate) fn first(&self, bytes: &[u8]) -> usize {
        let (_, len) = cut(
            bytes,
            self.smallest,
            self.average,
            self.largest,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
        );
        len
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The output of a 64-bit xorshift (Marsaglia, shifts 13, 7, 17) from a fixed seed, little-endian.
    pub(crate) fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn chunks(sizes: Cut, mut bytes: &[u8]) -> Vec<usize> {
        let chunker = Chunker::new(sizes);
        let mut lengths = Vec::new();
        while !bytes.is_empty() {
            let len = chunker.first(bytes);
            assert!(len <= chunker.largest() && (len >= chunker.smallest || len == bytes.len()));
            assert_eq!(
                chunker.first(&bytes[..bytes.len().min(chunker.largest())]),
                len,
                "needs no more than the largest"
            );
            lengths.push(len);
            bytes = &bytes[len..];
        }
        lengths
    }

    #[test]
    fn golden_chunks() {
        // Never change these: every stored file's ids depend on them.
        assert_eq!(chunks(Cut::TEST, &noise(200_000)), [19314, 24259, 30543, 36239, 17067, 18194, 21300, 18699, 14385]);
        assert_eq!(
            chunks(Cut::V1, &noise(12_000_001)),
            [532150, 2088921, 1361465, 604807, 1071987, 2119792, 1188501, 1871958, 1160420]
        );
    }

    #[test]
    fn chunks_are_those_of_the_crate() {
        let bytes = noise(300_001);
        let (smallest, average, largest) = Cut::TEST.opaque_chunk();
        let theirs = fastcdc::v2020::FastCDC::new(&bytes, smallest, average, largest).map(|chunk| chunk.length);
        assert_eq!(chunks(Cut::TEST, &bytes), theirs.collect::<Vec<_>>());
    }

    #[test]
    fn bytes_without_features_are_cut_at_the_largest() {
        for (sizes, largest) in [(Cut::TEST, 65_536), (Cut::V1, 4_194_304)] {
            assert_eq!(chunks(sizes, &vec![0; 2 * largest + 1]), [largest, largest, 1]);
            assert_eq!(chunks(sizes, &[]), [0; 0]);
            assert_eq!(chunks(sizes, &[7]), [1]);
        }
    }

    #[test]
    fn an_insertion_moves_few_boundaries() {
        let before = noise(1 << 20);
        let mut after = before.clone();
        after.splice(1000..1000, [1, 2, 3]);
        // Boundaries are told by how far they are from the end, which the insertion does not move.
        let ends = |bytes: &[u8]| {
            let lengths = chunks(Cut::TEST, bytes);
            (0..lengths.len()).map(|index| lengths[index..].iter().sum()).collect::<Vec<usize>>()
        };
        let (before, after) = (ends(&before), ends(&after));
        let same = before.iter().filter(|end| after.contains(end)).count();
        assert!(same + 5 > before.len() && before.len() > 30, "{same} of {}", before.len());
    }
}
