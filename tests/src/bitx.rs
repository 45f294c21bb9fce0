//! BitX, the published baseline: the delta of ZipLLM ("ZipLLM: Efficient LLM Storage via Model-Aware Synergistic Data
//! Deduplication and Compression", 2025), as an independent measure.
//!
//! Per tensor: XOR with the parent's tensor of the same name and size, the words split into a plane of exponents and a plane
//! of signs and mantissas (for bf16 a byte each), each plane compressed by zstd at level 3. Equal tensors are free, as for
//! everyone; so is the header. A tensor without a parent is compressed as it is, in the same planes.

use safetensors::{Dtype, SafeTensors};

/// What BitX makes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitX {
    /// Bytes of all tensors.
    pub raw: u64,
    /// Bytes that BitX keeps for them.
    pub stored: u64,
}

impl BitX {
    /// Raw bytes over stored bytes: higher is better.
    #[must_use]
    pub fn ratio(self) -> f64 {
        self.raw as f64 / self.stored as f64
    }
}

/// Compresses the tensors of a safetensors file against those of its parent. Only bf16 tensors are split into planes.
#[must_use]
pub fn bitx(parent: &[u8], file: &[u8]) -> BitX {
    let parent = SafeTensors::deserialize(parent).unwrap();
    let file = SafeTensors::deserialize(file).unwrap();
    let mut total = BitX { raw: 0, stored: 0 };
    for (name, tensor) in file.tensors() {
        let data = tensor.data();
        total.raw += data.len() as u64;
        let base = parent.tensor(&name).ok().map(|base| base.data()).filter(|base| base.len() == data.len());
        if base == Some(data) {
            continue;
        }
        let delta: Vec<u8> = match base {
            Some(base) => data.iter().zip(base).map(|(a, b)| a ^ b).collect(),
            None => data.to_vec(),
        };
        let planes = if tensor.dtype() == Dtype::BF16 { bf16_planes(&delta) } else { vec![delta] };
        total.stored += planes.iter().map(|plane| zstd::bulk::compress(plane, 3).unwrap().len() as u64).sum::<u64>();
    }
    total
}

/// The exponents, and the signs with the mantissas, of little-endian bf16 words.
fn bf16_planes(words: &[u8]) -> Vec<Vec<u8>> {
    let words = words.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let exponents = words.clone().map(|word| (word >> 7) as u8).collect();
    let rest = words.map(|word| (word >> 15 << 7) as u8 | (word & 0x7f) as u8).collect();
    vec![exponents, rest]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::odd_files::one_tensor;

    #[test]
    fn planes_hold_every_bit_once() {
        assert_eq!(bf16_planes(&0b1010_1010_1110_0110_u16.to_le_bytes()), [[0b0101_0101], [0b1110_0110]]);
    }

    #[test]
    fn equal_tensors_are_free_and_close_ones_cheap() {
        let mut rng = shard_datasets::rng::Rng::new(1);
        let words: Vec<u8> = (0..16384).map(|_| rng.bits() as u8).collect();
        let mut moved = words.clone();
        moved[6] ^= 1;
        let (a, b) = (one_tensor("w", "BF16", &[8192], &words), one_tensor("w", "BF16", &[8192], &moved));
        assert_eq!(bitx(&a, &a), BitX { raw: 16384, stored: 0 });
        let delta = bitx(&a, &b);
        assert!(delta.stored > 0 && delta.stored < 200, "{delta:?}");
        let other = one_tensor("v", "BF16", &[8192], &words);
        assert!(bitx(&other, &b).stored > 4000, "without a parent there is no delta");
    }
}
