//! Limits and constants that formats, codecs and the store agree on.
//!
//! The cut of a tensor and the chunker's sizes are part of a file's identity (they decide its block ids), so they change
//! only with the version of the content manifest.

use crate::dtype::DType;

/// The largest block, in bytes: 4 MiB.
pub const MAX_BLOCK: usize = 4 << 20;

/// The cut that test suites use so that small files have many blocks, in bytes: 64 KiB.
pub const TEST_CUT: usize = 64 << 10;

/// Smallest, average and largest chunk of opaque bytes, in bytes, for the normal cut. The average is a power of two.
pub const OPAQUE_CHUNK: (usize, usize, usize) = (256 << 10, 1 << 20, MAX_BLOCK);

/// Longest chain of bases that a reader has to follow to reach a keyframe (a block without a base).
pub const MAX_DEPTH: u32 = 8;

/// Largest manifest, tree, commit or other metadata entry, decoded, in bytes.
pub const MAX_METADATA: usize = 256 << 20;

/// Largest sketch of a file's tensors, decoded, in bytes: many are read at once.
pub const MAX_SKETCH: usize = 64 << 10;

/// Most base ranges that one block may name.
pub const MAX_BASE_RANGES: usize = 64;

/// Deepest nesting that a parser follows in a file that is not its own.
pub const MAX_NESTING: usize = 64;

/// Longest tensor name or path, in bytes.
pub const MAX_NAME: usize = 4096;

/// Where tensors are cut into blocks, and opaque bytes into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    block: usize,
}

impl Cut {
    /// The cut of content manifest version 1: blocks of at most 4 MiB.
    pub const V1: Self = Self { block: MAX_BLOCK };
    /// The test-only cut of 64 KiB.
    pub const TEST: Self = Self { block: TEST_CUT };

    /// The cut with blocks of at most `block` bytes, if there is such a cut.
    #[must_use]
    pub fn from_block(block: u64) -> Option<Self> {
        [Self::V1, Self::TEST].into_iter().find(|cut| cut.block as u64 == block)
    }

    /// The largest block, in bytes.
    #[must_use]
    pub fn block(self) -> usize {
        self.block
    }

    /// The length of a tensor's blocks (all but its last): the largest multiple of the storage unit that fits.
    #[must_use]
    pub fn tensor_block(self, dtype: DType) -> usize {
        let unit = dtype.storage_unit().1 as usize;
        self.block / unit * unit
    }

    /// Smallest, average and largest chunk of opaque bytes, in bytes.
    #[must_use]
    pub fn opaque_chunk(self) -> (usize, usize, usize) {
        let shrink = MAX_BLOCK / self.block;
        let (smallest, average, largest) = OPAQUE_CHUNK;
        (smallest / shrink, average / shrink, largest / shrink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_whole_units() {
        for dtype in DType::ALL {
            for cut in [Cut::V1, Cut::TEST] {
                let block = cut.tensor_block(*dtype);
                assert!(block <= cut.block() && block + dtype.storage_unit().1 as usize > cut.block());
                assert!(block.is_multiple_of(dtype.storage_unit().1 as usize));
            }
        }
    }
}
