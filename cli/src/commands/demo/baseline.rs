//! What others do with the same files: zstd alone, and BitX.
//!
//! BitX is the delta of ZipLLM (Wang et al., "ZipLLM: Efficient LLM Storage via Model-Aware Synergistic Data Deduplication
//! and Compression", 2025): a tensor is XORed with the same tensor of the version before, the exponents and the signs with
//! mantissas of a bf16 go to a plane each, the bytes of a wider word to a plane each, and zstd packs every plane. Only
//! compressed bytes are counted here: no names, lengths or ids, which a format that can be read again needs as well.

use std::collections::HashMap;
use std::io;

use shard_core::{DType, Layout, TensorView};
use shard_formats::{Source, parse};

/// ZipLLM's level, and zstd's own default.
const LEVEL: i32 = 3;

/// Bytes of a whole file under zstd.
pub(super) fn zstd_len(bytes: &[u8]) -> io::Result<u64> {
    Ok(zstd::bulk::compress(bytes, LEVEL)?.len() as u64)
}

/// Bytes of a file under BitX, given the version before. Tensors without a counterpart of the same type and shape are packed
/// as they are, and so is all that is no tensor.
pub(super) fn bitx_len(old: &[u8], new: &[u8]) -> io::Result<u64> {
    let (old_layout, new_layout) = (layout(old)?, layout(new)?);
    let (old_starts, new_starts) = (old_layout.segment_offsets(), new_layout.segment_offsets());
    let earlier: HashMap<&str, &TensorView> = old_layout.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut total = 0;
    for tensor in &new_layout.tensors {
        let words = bytes_of(new, tensor, &new_starts)?;
        let base = earlier.get(tensor.name.as_str()).filter(|t| t.dtype == tensor.dtype && t.shape == tensor.shape);
        total += match base {
            None => zstd_len(words)?,
            Some(base) => {
                let base = bytes_of(old, base, &old_starts)?;
                let xor: Vec<u8> = words.iter().zip(base).map(|(a, b)| a ^ b).collect();
                planes(tensor.dtype, &xor)
                    .iter()
                    .try_fold(0, |sum, plane| Ok::<_, io::Error>(sum + zstd_len(plane)?))?
            }
        };
    }
    for (segment, start) in new_layout.segments.iter().zip(&new_starts) {
        if segment.dtype.is_none() {
            total += zstd_len(range(new, *start, segment.len)?)?;
        }
    }
    Ok(total)
}

fn layout(bytes: &[u8]) -> io::Result<Layout> {
    let source: &dyn Source = &bytes;
    Ok(parse(source)?.layout)
}

fn bytes_of<'a>(file: &'a [u8], tensor: &TensorView, starts: &[u64]) -> io::Result<&'a [u8]> {
    let start = starts.get(tensor.segment).copied().unwrap_or(u64::MAX).saturating_add(tensor.offset);
    range(file, start, tensor.byte_len().unwrap_or(u64::MAX))
}

fn range(file: &[u8], start: u64, len: u64) -> io::Result<&[u8]> {
    let range = usize::try_from(start).ok().zip(usize::try_from(start.saturating_add(len)).ok());
    range.and_then(|(start, end)| file.get(start..end)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The planes of XORed words, little-endian.
fn planes(dtype: DType, xor: &[u8]) -> Vec<Vec<u8>> {
    if dtype == DType::BF16 {
        let words = || xor.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let exponents = words().map(|word| (word >> 7) as u8).collect();
        let rest = words().map(|word| (word >> 8) as u8 & 0x80 | word as u8 & 0x7f).collect();
        return vec![exponents, rest];
    }
    let width = dtype.word_bytes();
    (0..width).map(|byte| xor.iter().skip(byte).step_by(width).copied().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file with one tensor.
    fn file(dtype: DType, data: &[u8]) -> Vec<u8> {
        let elements = data.len() / dtype.word_bytes();
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[{elements}],"data_offsets":[0,{}]}}}}"#, data.len());
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn the_planes_hold_every_bit() {
        let xor: Vec<u8> = (0..=255u8).flat_map(|low| [low, low.wrapping_mul(37)]).collect();
        let [exponents, rest] = &planes(DType::BF16, &xor)[..] else { panic!("two planes") };
        let joined: Vec<u8> = exponents
            .iter()
            .zip(rest)
            .map(|(e, r)| u16::from(*r & 0x80) << 8 | u16::from(*e) << 7 | u16::from(*r & 0x7f))
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(joined, xor);
        assert_eq!(planes(DType::F32, &[1, 2, 3, 4, 5, 6, 7, 8]), [[1, 5], [2, 6], [3, 7], [4, 8]]);
    }

    #[test]
    fn a_small_change_is_small() {
        let old: Vec<u8> =
            (0..20_000u32).flat_map(|i| ((i.wrapping_mul(2_654_435_761) >> 16) as u16).to_le_bytes()).collect();
        let mut new = old.clone();
        for at in (0..new.len()).step_by(2000) {
            new[at] ^= 1;
        }
        let (old, new) = (file(DType::BF16, &old), file(DType::BF16, &new));
        let (alone, delta) = (zstd_len(&new).unwrap(), bitx_len(&old, &new).unwrap());
        assert!(delta * 20 < alone, "{delta} of {alone}");
        // Without a counterpart it is the tensor that is packed, and the header.
        let other = file(DType::F16, &[0; 64]);
        assert!(bitx_len(&other, &new).unwrap() > 30_000);
    }
}
