//! Base search: which stored bytes are likely to predict a new file's tensors.
//!
//! A tensor's base is the tensor of the same name and element type in an earlier file: the file whose tensors match best (among
//! equals the previous version of the same path, then its nearest predecessor), then any other, so that renamed files and
//! re-sharded sets find theirs. Shapes are equal, or differ only in the first dimension (rows were appended or dropped). Equal content under
//! another name needs no base: it is the same block.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use shard_codecs::Rows;
use shard_core::limits::MAX_BASE_RANGES;
use shard_core::{BaseRange, BaseRef, DType, Layout, Segment, TensorView};
use shard_history::natural_cmp;
use shard_manifest::{BlockSpan, ContentManifest};

/// Most earlier files that are looked at for one new file.
pub(crate) const MAX_CANDIDATES: usize = 32;

/// For each segment of a new file, the segment of an earlier one that predicts it.
pub(crate) struct BasePlan {
    segments: Vec<Option<(Arc<ContentManifest>, usize)>>,
    /// For each segment that is one tensor, its type and shape.
    tensors: Vec<Option<(DType, Vec<u64>)>>,
}

impl BasePlan {
    /// A plan without bases, for a file with `segments` segments.
    pub(crate) fn none(segments: usize) -> Self {
        Self { segments: vec![None; segments], tensors: vec![None; segments] }
    }

    /// Plans the bases of a file from earlier ones, best first. Ties between equally good files go to the earlier in the
    /// list.
    pub(crate) fn new(layout: &Layout, earlier: &[Arc<ContentManifest>]) -> Self {
        let mut indexes: Vec<NameIndex> = earlier.iter().map(NameIndex::new).collect();
        // Stable: equal scores keep the caller's order.
        indexes.sort_by_key(|index| std::cmp::Reverse(index.score(layout)));
        let mut plan = Self::none(layout.segments.len());
        for tensor in whole_tensors(layout) {
            let exact = indexes.iter().find_map(|index| index.find(tensor, true));
            plan.tensors[tensor.segment] = Some((tensor.dtype, tensor.shape.clone()));
            plan.segments[tensor.segment] =
                exact.or_else(|| indexes.iter().find_map(|index| index.find(tensor, false)));
        }
        plan
    }

    /// How the rows of a segment's tensor lie from `offset` bytes on.
    pub(crate) fn rows(&self, segment: usize, offset: u64) -> Option<Rows> {
        let (dtype, shape) = self.tensors.get(segment)?.as_ref()?;
        Rows::of(*dtype, shape, offset)
    }

    /// The bytes that predict the `len` bytes at `offset` of a segment: the same range of the earlier tensor, and zeros
    /// where that is shorter.
    pub(crate) fn base(&self, segment: usize, offset: u64, len: usize) -> Option<BaseRef> {
        let (manifest, earlier) = self.segments.get(segment)?.as_ref()?;
        let blocks = &manifest.segments.get(*earlier)?.blocks;
        let cut = u64::from(blocks.first()?.len);
        let mut index = usize::try_from(offset / cut.max(1)).ok()?;
        let mut start = offset - index as u64 * cut;
        let mut ranges = Vec::with_capacity(1);
        let mut left = len as u64;
        while left > 0 {
            let Some(BlockSpan { id, len: block_len }) = blocks.get(index).filter(|span| u64::from(span.len) > start)
            else {
                break;
            };
            let run = (u64::from(*block_len) - start).min(left);
            ranges.push(BaseRange { block: Some(*id), start: start as u32, len: run as u32 });
            left -= run;
            start = 0;
            index += 1;
        }
        if ranges.is_empty() || ranges.len() >= MAX_BASE_RANGES {
            return None;
        }
        if left > 0 {
            ranges.push(BaseRange { block: None, start: 0, len: left as u32 });
        }
        Some(BaseRef { ranges, transpose: None })
    }
}

/// The tensors that have a segment of their own.
fn whole_tensors(layout: &Layout) -> impl Iterator<Item = &TensorView> {
    layout.tensors.iter().filter(|tensor| is_whole(tensor, |index| layout.segments.get(index).copied()))
}

fn is_whole(tensor: &TensorView, segment: impl Fn(usize) -> Option<Segment>) -> bool {
    let Some(segment) = segment(tensor.segment) else { return false };
    tensor.offset == 0
        && segment.len > 0
        && tensor.byte_len() == Some(segment.len)
        && segment.dtype == Some(tensor.dtype)
}

/// An earlier file's tensors by name.
struct NameIndex {
    manifest: Arc<ContentManifest>,
    by_name: HashMap<String, usize>,
}

impl NameIndex {
    fn new(manifest: &Arc<ContentManifest>) -> Self {
        let segment = |index: usize| {
            let segment = manifest.segments.get(index)?;
            Some(Segment { len: segment.len, dtype: segment.dtype })
        };
        let by_name = manifest
            .tensors
            .iter()
            .enumerate()
            .filter(|(_, tensor)| is_whole(tensor, segment))
            .map(|(index, tensor)| (tensor.name.clone(), index))
            .collect();
        Self { manifest: Arc::clone(manifest), by_name }
    }

    /// Bytes of the new file that this one predicts.
    fn score(&self, layout: &Layout) -> u64 {
        whole_tensors(layout)
            .filter(|tensor| self.find(tensor, true).is_some())
            .filter_map(TensorView::byte_len)
            .fold(0, u64::saturating_add)
    }

    fn find(&self, tensor: &TensorView, exact: bool) -> Option<(Arc<ContentManifest>, usize)> {
        let earlier = &self.manifest.tensors[*self.by_name.get(&tensor.name)?];
        let fits = earlier.dtype == tensor.dtype && shapes_fit(tensor.dtype, &earlier.shape, &tensor.shape, exact);
        fits.then(|| (Arc::clone(&self.manifest), earlier.segment))
    }
}

fn shapes_fit(dtype: DType, earlier: &[u64], new: &[u64], exact: bool) -> bool {
    if exact {
        return earlier == new;
    }
    let rows_differ = earlier.len() == new.len() && !new.is_empty() && earlier[1..] == new[1..];
    rows_differ && dtype.storage_unit().0 == 1
}

/// Orders the paths of earlier files by how likely they are the parent of a new file at `path`: its nearest predecessor
/// in natural order first (`step-90` before `step-100`), then further ones, then those that come after it.
pub(crate) fn by_nearness<'a>(path: &str, earlier: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let (mut before, mut after): (Vec<&str>, Vec<&str>) =
        earlier.filter(|other| *other != path).partition(|other| natural_cmp(other, path) == Ordering::Less);
    before.sort_by(|a, b| natural_cmp(b, a));
    after.sort_by(|a, b| natural_cmp(a, b));
    before.extend(after);
    before
}
