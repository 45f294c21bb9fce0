//! What tensors are compared by: a digest of their bytes.

use std::collections::HashMap;

use rayon::prelude::*;
use shard_core::{DType, Digest, Sha256, TensorView};
use shard_history::TensorInfo;
use shard_manifest::{BlockSpan, content_digest};

use super::{Part, PartReader, at_once};
use crate::error::Result;

/// Part (by the hash of its file), segment, offset, length and type: views that agree in these are the same bytes.
type Range = (Digest, usize, u64, u64, DType);

/// Tensors with digests of their bytes, equal for equal bytes of one type, on any side. A view of part of a segment has to be read
/// for it; where a file has so many that this is no longer done, its digest is that of its place: equal only in equal files.
///
/// # Errors
/// What cannot be read.
pub(super) fn infos(tensors: &[(&Part, &TensorView)]) -> Result<Vec<TensorInfo>> {
    let mut digests: HashMap<Range, Option<Digest>> = HashMap::new();
    let mut to_read: Vec<(Range, &Part, &TensorView)> = Vec::new();
    let mut left: HashMap<Digest, u64> = HashMap::new();
    for (part, tensor) in tensors {
        let range = range(part, tensor);
        if digests.contains_key(&range) {
            continue;
        }
        let blocks = part.manifest.segments.get(tensor.segment).map_or(&[][..], |segment| &segment.blocks);
        let mut digest = content_digest(blocks, tensor.offset, range.3);
        if digest.is_none() {
            let left = left.entry(range.0).or_insert_with(|| part.most_bytes());
            match left.checked_sub(range.3) {
                Some(after) => {
                    *left = after;
                    to_read.push((range, part, tensor));
                }
                None => digest = Some(place(&range)),
            }
        }
        digests.insert(range, digest);
    }
    let read = to_read
        .par_iter()
        .with_min_len(at_once(to_read.iter().map(|(_, part, _)| *part)))
        .map(|(range, part, tensor)| Ok((*range, Some(content(part, tensor)?))))
        .collect::<Result<Vec<_>>>()?;
    digests.extend(read);
    let info = |(part, tensor): &(&Part, &TensorView)| {
        let range = range(part, tensor);
        let content = digests.get(&range).copied().flatten().unwrap_or_else(|| place(&range));
        TensorInfo { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone(), content }
    };
    Ok(tensors.iter().map(info).collect())
}

fn range(part: &Part, tensor: &TensorView) -> Range {
    (part.manifest.sha256, tensor.segment, tensor.offset, tensor.byte_len().unwrap_or(0), tensor.dtype)
}

/// A digest that stands for the place of bytes.
fn place((file, segment, offset, len, dtype): &Range) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"shard range 1\0");
    hash.update(&file.0);
    for number in [*segment as u64, *offset, *len, u64::from(dtype.wire_id())] {
        hash.update(&number.to_le_bytes());
    }
    hash.finish()
}

/// The digest of a view's bytes, cut as if it had a segment of its own.
fn content(part: &Part, tensor: &TensorView) -> Result<Digest> {
    let len = tensor.byte_len().unwrap_or(0);
    let mut reader = PartReader::new(part);
    let cut = part.manifest.cut.tensor_block(tensor.dtype) as u64;
    let (mut spans, mut bytes) = (Vec::new(), Vec::new());
    for offset in (0..len).step_by(cut.max(1) as usize) {
        reader.read(tensor, offset, (len - offset).min(cut), &mut bytes)?;
        spans.push(BlockSpan { id: shard_core::sha256(&bytes), len: bytes.len() as u32 });
    }
    Ok(content_digest(&spans, 0, len).unwrap_or_else(|| shard_core::sha256(&[])))
}
