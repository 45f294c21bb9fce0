//! The content of a tensor as one digest, made of the ids of the blocks that it is cut into.
//!
//! The digest of a tensor is the SHA-256 of the text `shard tensor 1`, a zero byte, and the 32 bytes of each block id in
//! order. Two tensors of the same type have equal digests exactly when their bytes are equal, if both were cut alike;
//! [`content_digest`] takes it from a manifest, [`TensorHasher`] from the bytes.

use shard_core::limits::Cut;
use shard_core::{DType, Digest, Sha256};

use crate::content::BlockSpan;

const DOMAIN: &[u8] = b"shard tensor 1\0";

/// The digest of the `len` bytes that start `offset` bytes into the first of `blocks`. `None` unless they are exactly these
/// blocks, whole: otherwise the ids say nothing about them.
#[must_use]
pub fn content_digest(blocks: &[BlockSpan], offset: u64, len: u64) -> Option<Digest> {
    let total: u64 = blocks.iter().map(|block| u64::from(block.len)).sum();
    if offset != 0 || total != len {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    for block in blocks {
        hash.update(&block.id.0);
    }
    Some(hash.finish())
}

/// Computes the digest of a tensor from its bytes, which arrive in pieces of any length.
pub struct TensorHasher {
    ids: Sha256,
    block: Sha256,
    /// Bytes in `block`.
    filled: usize,
    /// Length of a whole block in bytes.
    whole: usize,
}

impl TensorHasher {
    /// A tensor of that type, without bytes so far.
    #[must_use]
    pub fn new(dtype: DType, cut: Cut) -> Self {
        let mut ids = Sha256::new();
        ids.update(DOMAIN);
        Self { ids, block: Sha256::new(), filled: 0, whole: cut.tensor_block(dtype) }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(self.whole - self.filled));
            self.block.update(piece);
            self.filled += piece.len();
            if self.filled == self.whole {
                self.close();
            }
            bytes = rest;
        }
    }

    fn close(&mut self) {
        self.ids.update(&std::mem::take(&mut self.block).finish().0);
        self.filled = 0;
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        if self.filled > 0 {
            self.close();
        }
        self.ids.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shard_core::sha256;

    fn spans(bytes: &[u8], block: usize) -> Vec<BlockSpan> {
        bytes.chunks(block).map(|block| BlockSpan { id: sha256(block), len: block.len() as u32 }).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn bytes_and_blocks_agree(
            len in 0usize..300_000, pieces in prop::collection::vec(1usize..100_000, 1..8),
            dtype in prop::sample::select(DType::ALL),
        ) {
            let bytes: Vec<u8> = (0..len).map(|index| (index * 31 / 7) as u8).collect();
            let spans = spans(&bytes, Cut::TEST.tensor_block(dtype));
            let mut hasher = TensorHasher::new(dtype, Cut::TEST);
            let mut rest = bytes.as_slice();
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                hasher.update(now);
                rest = later;
                if rest.is_empty() { break; }
            }
            let digest = hasher.finish();
            prop_assert_eq!(content_digest(&spans, 0, len as u64), Some(digest));
            prop_assert_eq!(content_digest(&spans, 1, len as u64), None);
            prop_assert_eq!(content_digest(&spans, 0, len as u64 + 1), None);
        }
    }

    #[test]
    fn golden() {
        let mut hasher = TensorHasher::new(DType::F32, Cut::V1);
        hasher.update(&[1, 2, 3, 4]);
        assert_eq!(hasher.finish().to_hex(), "3075e101d04a1e7d7642abfd3cea2426dc7a3e4019791878c39a3c28b62faf9e");
    }
}
