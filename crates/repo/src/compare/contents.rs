//! What tensors are compared by: a digest of their bytes, or the bytes themselves.

use std::collections::HashMap;

use rayon::prelude::*;
use shard_codecs::kernel::ChangeSums;
use shard_core::{DType, Digest, Progress, Sha256, TensorView};
use shard_history::TensorInfo;
use shard_manifest::{BlockSpan, content_digest};

use super::part::{Part, PartReader, at_once, in_order};
use super::stream::{Job, sums};
use crate::error::Result;

/// Part (by what tells its file), segment, offset, length, type and order of elements: views that agree in these are the same values.
type Range = (Digest, usize, u64, u64, DType, Option<(Vec<u64>, Vec<u64>)>);

/// A tensor, and the file it is in.
pub(super) type Placed<'a> = (&'a Part, &'a TensorView);

/// The tensors of both sides with digests that are equal for equal bytes of one type, and what was summed up on the way.
pub(super) struct Contents {
    pub(super) old: Vec<TensorInfo>,
    pub(super) new: Vec<TensorInfo>,
    /// By index on the old and the new side.
    pub(super) sums: HashMap<(usize, usize), ChangeSums>,
}

/// By the ids of blocks, where all are known. A view of part of a segment has to be read.
///
/// # Errors
/// What cannot be read.
pub(super) fn by_blocks(old: &[Placed<'_>], new: &[Placed<'_>]) -> Result<Contents> {
    Ok(Contents { old: infos(old)?, new: infos(new)?, sums: HashMap::new() })
}

/// By reading: tensors of one name, type and shape side by side, and what is left to be found under another name for a digest.
///
/// # Errors
/// What cannot be read.
pub(super) fn by_bytes(old: &[Placed<'_>], new: &[Placed<'_>], progress: &dyn Progress) -> Result<Contents> {
    let old_by_name = by_name(old);
    let mut left = budget(new);
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (name, to) in by_name(new) {
        let (Some(to), Some(Some(from))) = (to, old_by_name.get(name)) else { continue };
        let (a, b) = (old[*from].1, new[to].1);
        let is_alike = a.dtype == b.dtype && a.shape == b.shape && a.strides == b.strides;
        let bytes = b.byte_len().filter(|_| is_alike);
        if let Some(after) = bytes.and_then(|bytes| left.checked_sub(bytes)) {
            left = after;
            pairs.push((*from, to));
        }
    }
    // In the order of the file, which is that of fewest seeks.
    pairs.sort_unstable_by_key(|(_, to)| (new[*to].1.segment, new[*to].1.offset, *to));
    let jobs: Vec<Job<'_>> = pairs.iter().map(|(from, to)| Job { old: old[*from], new: new[*to] }).collect();
    progress.begin("comparing", Some(jobs.iter().filter_map(|job| job.new.1.byte_len()).sum()));
    let found = sums(&jobs, progress)?;
    progress.finish();

    let mut known = [vec![None; old.len()], vec![None; new.len()]];
    for ((from, to), sums) in pairs.iter().zip(&found) {
        let of_old = place(&range(&old[*from]));
        known[0][*from] = Some(of_old);
        known[1][*to] = Some(if sums.changed == 0 { of_old } else { place(&range(&new[*to])) });
    }
    let [known_old, known_new] = known;
    Ok(Contents {
        old: infos_but(old, &known_old)?,
        new: infos_but(new, &known_new)?,
        sums: pairs.into_iter().zip(found).collect(),
    })
}

/// Where each name is; `None` for one that is there several times.
fn by_name<'a>(tensors: &[Placed<'a>]) -> HashMap<&'a str, Option<usize>> {
    let mut places = HashMap::new();
    for (index, (_, tensor)) in tensors.iter().enumerate() {
        places.entry(tensor.name.as_str()).and_modify(|place| *place = None).or_insert(Some(index));
    }
    places
}

/// Bytes that are read at most: views can share bytes so that all of them together are far more than the file.
pub(super) fn budget(tensors: &[Placed<'_>]) -> u64 {
    let mut parts: HashMap<Digest, u64> = HashMap::new();
    for (part, _) in tensors {
        parts.entry(part.key).or_insert_with(|| part.most_bytes());
    }
    parts.into_values().fold(0, u64::saturating_add)
}

/// The tensors of one side, by the ids of blocks where those tell.
///
/// # Errors
/// What cannot be read.
pub(super) fn infos(tensors: &[Placed<'_>]) -> Result<Vec<TensorInfo>> {
    infos_but(tensors, &vec![None; tensors.len()])
}

/// Tensors with digests, those that are known already as given. Where a file has very many views, the digest of one is that of its
/// place: equal only in equal files.
fn infos_but(tensors: &[Placed<'_>], known: &[Option<Digest>]) -> Result<Vec<TensorInfo>> {
    let mut digests: HashMap<Range, Option<Digest>> = HashMap::new();
    let mut to_read: Vec<(Range, Placed<'_>)> = Vec::new();
    let mut left: HashMap<Digest, u64> = HashMap::new();
    for (placed, _) in tensors.iter().zip(known).filter(|(_, known)| known.is_none()) {
        let (part, tensor) = *placed;
        let range = range(placed);
        if digests.contains_key(&range) {
            continue;
        }
        let blocks = content_digest(part.blocks(tensor.segment), tensor.offset, range.3);
        // Elements in another order are other bytes, and may be the same values.
        let mut digest = blocks.filter(|_| tensor.is_row_major());
        if digest.is_none() {
            let left = left.entry(range.0).or_insert_with(|| part.most_bytes());
            match left.checked_sub(range.3) {
                Some(after) => {
                    *left = after;
                    to_read.push((range.clone(), *placed));
                }
                None => digest = Some(place(&range)),
            }
        }
        digests.insert(range, digest);
    }
    let read = to_read
        .par_iter()
        .with_min_len(at_once(to_read.iter().map(|(_, (part, _))| *part)))
        .map(|(range, (part, tensor))| Ok((range.clone(), Some(content(part, tensor)?))))
        .collect::<Result<Vec<_>>>()?;
    digests.extend(read);
    let info = |(placed, known): (&Placed<'_>, &Option<Digest>)| {
        let range = range(placed);
        let found = || digests.get(&range).copied().flatten();
        let content = known.or_else(found).unwrap_or_else(|| place(&range));
        let tensor = placed.1;
        TensorInfo { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone(), content }
    };
    Ok(tensors.iter().zip(known).map(info).collect())
}

fn range((part, tensor): &Placed<'_>) -> Range {
    let order = tensor.strides.as_ref().filter(|_| !tensor.is_row_major());
    let order = order.map(|strides| (tensor.shape.clone(), strides.clone()));
    (part.key, tensor.segment, tensor.offset, tensor.byte_len().unwrap_or(0), tensor.dtype, order)
}

/// A digest that stands for the place of bytes.
fn place((file, segment, offset, len, dtype, order): &Range) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"shard range 1\0");
    hash.update(&file.0);
    for number in [*segment as u64, *offset, *len, u64::from(dtype.wire_id())] {
        hash.update(&number.to_le_bytes());
    }
    for number in order.iter().flat_map(|(shape, strides)| shape.iter().chain(strides)) {
        hash.update(&number.to_le_bytes());
    }
    hash.finish()
}

/// The digest of a view's bytes in row-major order, cut as if it had a segment of its own.
fn content(part: &Part, tensor: &TensorView) -> Result<Digest> {
    let len = tensor.byte_len().unwrap_or(0);
    let mut reader = PartReader::new(part);
    let cut = part.cut.tensor_block(tensor.dtype) as u64;
    if let Some(ordered) = in_order(part, tensor)? {
        let blocks = ordered.chunks(cut.max(1) as usize);
        let spans: Vec<BlockSpan> =
            blocks.map(|block| BlockSpan { id: shard_core::sha256(block), len: block.len() as u32 }).collect();
        return Ok(content_digest(&spans, 0, len).unwrap_or_else(|| shard_core::sha256(&[])));
    }
    if !tensor.is_row_major() {
        // Too large to be put in order: the same only as what lies in the same order.
        return Ok(place(&range(&(part, tensor))));
    }
    let (mut spans, mut bytes) = (Vec::new(), Vec::new());
    for offset in (0..len).step_by(cut.max(1) as usize) {
        reader.read(tensor, offset, (len - offset).min(cut), &mut bytes)?;
        spans.push(BlockSpan { id: shard_core::sha256(&bytes), len: bytes.len() as u32 });
    }
    Ok(content_digest(&spans, 0, len).unwrap_or_else(|| shard_core::sha256(&[])))
}
