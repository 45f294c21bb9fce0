//! BitX over whole safetensors files, read by another parser than shard's own: an independent measure of what shard takes.
//!
//! Every tensor is coded whole against the parent's tensor of the same name and size. Equal tensors are free, as for
//! everyone; so is the header.

use safetensors::SafeTensors;
use shard_baselines::Packed;
use shard_core::DType;

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

/// Compresses the tensors of a safetensors file against those of its parent.
#[must_use]
pub fn bitx(parent: &[u8], file: &[u8]) -> BitX {
    let parent = SafeTensors::deserialize(parent).unwrap();
    let file = SafeTensors::deserialize(file).unwrap();
    let mut coder = shard_baselines::BitX::new().unwrap();
    let mut packed = Packed::default();
    let mut total = BitX { raw: 0, stored: 0 };
    for (name, tensor) in file.tensors() {
        let data = tensor.data();
        total.raw += data.len() as u64;
        let base = parent.tensor(&name).ok().map(|base| base.data()).filter(|base| base.len() == data.len());
        if base == Some(data) {
            continue;
        }
        coder.encode(DType::from_name(&tensor.dtype().to_string()), data, base, &mut packed).unwrap();
        total.stored += packed.stored_len();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::odd_files::one_tensor;

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
