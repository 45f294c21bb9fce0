//! Bases by name.
//!
//! A tensor's base is the tensor of the same name and element type in an earlier file: the file whose tensors match best (among
//! equals the previous version of the same path, then its nearest predecessor), then any other, so that renamed files and
//! re-sharded sets find theirs. Shapes are equal, or differ only in the first dimension (rows were appended or dropped).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shard_core::{DType, Layout, TensorView};
use shard_manifest::ContentManifest;

use super::{Earlier, EarlierFiles, earlier_tensors, whole_tensors};

/// An earlier tensor of the same name.
pub(super) struct Named {
    pub(super) earlier: Earlier,
    /// Whether the shapes are equal.
    pub(super) is_exact: bool,
}

/// What names say about a file.
pub(super) struct Names {
    /// The earlier files, best first.
    pub(super) earlier: Vec<Arc<ContentManifest>>,
    /// The base of each segment that has one.
    pub(super) found: BTreeMap<usize, Named>,
}

/// Looks up the tensors of a file in earlier ones, likeliest first.
pub(super) fn find(layout: &Layout, earlier: &EarlierFiles) -> Names {
    let mut indexes: Vec<NameIndex<'_>> = earlier.files.iter().map(NameIndex::new).collect();
    // Stable: equal scores keep the caller's order.
    let others = indexes.get_mut(earlier.near..).unwrap_or_default();
    others.sort_by_cached_key(|index| std::cmp::Reverse(index.score(layout)));
    let mut found = BTreeMap::new();
    for tensor in whole_tensors(layout) {
        let by = |is_exact: bool| {
            let earlier = indexes.iter().find_map(|index| index.find(tensor, is_exact))?;
            Some(Named { earlier, is_exact })
        };
        if let Some(named) = by(true).or_else(|| by(false)) {
            found.insert(tensor.segment, named);
        }
    }
    Names { earlier: indexes.iter().map(|index| Arc::clone(index.manifest)).collect(), found }
}

/// An earlier file's tensors by name.
struct NameIndex<'a> {
    manifest: &'a Arc<ContentManifest>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> NameIndex<'a> {
    fn new(manifest: &'a Arc<ContentManifest>) -> Self {
        let by_name = earlier_tensors(manifest).map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
        Self { manifest, by_name }
    }

    /// Bytes of the new file that this one predicts.
    fn score(&self, layout: &Layout) -> u64 {
        whole_tensors(layout)
            .filter(|tensor| self.find(tensor, true).is_some())
            .filter_map(TensorView::byte_len)
            .fold(0, u64::saturating_add)
    }

    fn find(&self, tensor: &TensorView, is_exact: bool) -> Option<Earlier> {
        let earlier = &self.manifest.tensors[*self.by_name.get(tensor.name.as_str())?];
        let (old, new) = (earlier.stored_shape(), tensor.stored_shape());
        // A square matrix looks alike in both orders.
        let is_same_order = earlier.strides.is_some() == tensor.strides.is_some();
        let fits = is_same_order && earlier.dtype == tensor.dtype && shapes_fit(tensor.dtype, &old, &new, is_exact);
        fits.then(|| Earlier { manifest: Arc::clone(self.manifest), segment: earlier.segment })
    }
}

fn shapes_fit(dtype: DType, earlier: &[u64], new: &[u64], is_exact: bool) -> bool {
    if is_exact {
        return earlier == new;
    }
    let rows_differ = earlier.len() == new.len() && !new.is_empty() && earlier[1..] == new[1..];
    rows_differ && dtype.storage_unit().0 == 1
}
