//! What others do with the same files: zstd alone, and BitX tensor by tensor.

use std::collections::HashMap;
use std::io;

use shard_baselines::{BitX, Packed, Zstd};
use shard_core::{Layout, TensorView};
use shard_formats::{Source, parse};

/// Bytes of a whole file under zstd.
pub(super) fn zstd_len(bytes: &[u8]) -> io::Result<u64> {
    Zstd::new()?.compressed_len(bytes)
}

/// Bytes of a file under BitX, given the version before. A tensor without a counterpart of the same type and shape is packed
/// alone; all that is no tensor goes through zstd.
pub(super) fn bitx_len(old: &[u8], new: &[u8]) -> io::Result<u64> {
    let (old_layout, new_layout) = (layout(old)?, layout(new)?);
    let (old_starts, new_starts) = (old_layout.segment_offsets(), new_layout.segment_offsets());
    let earlier: HashMap<&str, &TensorView> = old_layout.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let (mut bitx, mut packed) = (BitX::new()?, Packed::default());
    let mut total = 0;
    for tensor in &new_layout.tensors {
        let words = bytes_of(new, tensor, &new_starts)?;
        let base = earlier.get(tensor.name.as_str()).filter(|t| t.dtype == tensor.dtype && t.shape == tensor.shape);
        let base = base.map(|base| bytes_of(old, base, &old_starts)).transpose()?;
        bitx.encode(Some(tensor.dtype), words, base, &mut packed)?;
        total += packed.stored_len();
    }
    let mut zstd = Zstd::new()?;
    for (segment, start) in new_layout.segments.iter().zip(&new_starts) {
        if segment.dtype.is_none() {
            total += zstd.compressed_len(range(new, *start, segment.len)?)?;
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

#[cfg(test)]
mod tests {
    use shard_core::DType;

    use super::*;

    /// A safetensors file with one tensor.
    fn file(dtype: DType, data: &[u8]) -> Vec<u8> {
        let elements = data.len() / dtype.word_bytes();
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[{elements}],"data_offsets":[0,{}]}}}}"#, data.len());
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
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
        assert!(bitx_len(&other, &new).unwrap() > delta * 20);
    }
}
