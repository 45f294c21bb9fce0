//! What changed between two sets of tensors. Equality is by content and nothing else, and every tensor of both sides is
//! accounted for exactly once.

use std::collections::{BTreeMap, HashMap};

use shard_core::{DType, Digest, TensorView};

use crate::similarity::Pairing;

/// A tensor of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions, in elements.
    pub shape: Vec<u64>,
    /// A digest of its bytes, equal for equal bytes of the same type: as from
    /// [`ContentManifest::tensor_content`](shard_manifest::ContentManifest::tensor_content) or
    /// [`TensorHasher`](shard_manifest::TensorHasher), under the same cut on both sides.
    pub content: Digest,
}

impl TensorInfo {
    /// A tensor of a layout, with the digest of its content.
    #[must_use]
    pub fn new(view: &TensorView, content: Digest) -> Self {
        Self { name: view.name.clone(), dtype: view.dtype, shape: view.shape.clone(), content }
    }
}

/// What happened to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorChange {
    /// Same name, type, shape and content.
    Equal,
    /// Same name, type and shape; other content.
    Value,
    /// Same name, other shape; the type may differ too.
    Shape,
    /// Same name and shape, other type.
    DType,
    /// Only on the new side.
    Added,
    /// Only on the old side.
    Removed,
    /// Same type, shape and content under another name.
    Renamed,
}

impl TensorChange {
    /// Every change, in the order in which they are listed.
    pub const ALL: [Self; 7] =
        [Self::Equal, Self::Value, Self::Shape, Self::DType, Self::Added, Self::Removed, Self::Renamed];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Value => "value",
            Self::Shape => "shape",
            Self::DType => "dtype",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Renamed => "renamed",
        }
    }
}

/// A tensor of the old side, one of the new side, or one of each that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorPair {
    /// What happened.
    pub change: TensorChange,
    /// Index on the old side; `None` only for an added tensor.
    pub old: Option<usize>,
    /// Index on the new side; `None` only for a removed tensor.
    pub new: Option<usize>,
}

/// How many tensors changed in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TensorCounts {
    counts: [usize; TensorChange::ALL.len()],
}

impl TensorCounts {
    /// Counts the pairs of a diff.
    #[must_use]
    pub fn of(pairs: &[TensorPair]) -> Self {
        let counts = TensorChange::ALL.map(|change| pairs.iter().filter(|pair| pair.change == change).count());
        Self { counts }
    }

    /// The number of pairs with that change.
    #[must_use]
    pub fn get(&self, change: TensorChange) -> usize {
        TensorChange::ALL.iter().zip(self.counts).find(|(known, _)| **known == change).map_or(0, |(_, count)| count)
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn all_equal(&self) -> bool {
        TensorChange::ALL.iter().zip(self.counts).all(|(change, count)| count == 0 || *change == TensorChange::Equal)
    }
}

/// Pairs the tensors of two sides. The result has the tensors of the new side in their order, then those that were removed
/// in theirs.
///
/// Tensors of the same name belong together, whatever became of them; where a side has a name several times, equal ones
/// first. Of the rest, those with the same type, shape and content are renamed, one to one, the most similar names first.
#[must_use]
pub fn diff_tensors(old: &[TensorInfo], new: &[TensorInfo]) -> Vec<TensorPair> {
    let mut partner_of_old: Vec<Option<usize>> = vec![None; old.len()];
    let mut partner_of_new: Vec<Option<(usize, TensorChange)>> = vec![None; new.len()];
    let mut join = |from: usize, to: usize, change: TensorChange| {
        if let (Some(source), Some(target)) = (partner_of_old.get_mut(from), partner_of_new.get_mut(to)) {
            (*source, *target) = (Some(to), Some((from, change)));
        }
    };

    let mut by_name: HashMap<&str, (Vec<usize>, Vec<usize>)> = HashMap::new();
    for (index, tensor) in old.iter().enumerate() {
        by_name.entry(&tensor.name).or_default().0.push(index);
    }
    for (index, tensor) in new.iter().enumerate() {
        by_name.entry(&tensor.name).or_default().1.push(index);
    }
    // Names are independent of one another, so that the order of the map does not matter.
    for (mut from, mut to) in by_name.into_values() {
        if from.len() > 1 || to.len() > 1 {
            take_equal(old, new, &mut from, &mut to, &mut join);
        }
        for (from, to) in from.into_iter().zip(to) {
            if let (Some(a), Some(b)) = (old.get(from), new.get(to)) {
                join(from, to, change(a, b));
            }
        }
    }

    type Key<'a> = (DType, &'a [u64], Digest);
    type Group<'a> = (Vec<(usize, &'a str)>, Vec<(usize, &'a str)>);
    let mut groups: BTreeMap<Key<'_>, Group<'_>> = BTreeMap::new();
    for ((index, tensor), _) in old.iter().enumerate().zip(&partner_of_old).filter(|(_, partner)| partner.is_none()) {
        let key = (tensor.dtype, tensor.shape.as_slice(), tensor.content);
        groups.entry(key).or_default().0.push((index, &tensor.name));
    }
    for ((index, tensor), _) in new.iter().enumerate().zip(&partner_of_new).filter(|(_, partner)| partner.is_none()) {
        if let Some(group) = groups.get_mut(&(tensor.dtype, tensor.shape.as_slice(), tensor.content)) {
            group.1.push((index, &tensor.name));
        }
    }
    let mut pairing = Pairing::new();
    for (from, to) in groups.values().flat_map(|(old, new)| pairing.pair(old, new)) {
        if let (Some(source), Some(target)) = (partner_of_old.get_mut(from), partner_of_new.get_mut(to)) {
            (*source, *target) = (Some(to), Some((from, TensorChange::Renamed)));
        }
    }

    let kept = partner_of_new.into_iter().enumerate().map(|(index, partner)| match partner {
        Some((from, change)) => TensorPair { change, old: Some(from), new: Some(index) },
        None => TensorPair { change: TensorChange::Added, old: None, new: Some(index) },
    });
    let removed = partner_of_old.into_iter().enumerate().filter(|(_, partner)| partner.is_none());
    let removed = removed.map(|(index, _)| TensorPair { change: TensorChange::Removed, old: Some(index), new: None });
    kept.chain(removed).collect()
}

/// Of tensors that all have one name, joins those that are equal, in order, and leaves the rest.
fn take_equal(
    old: &[TensorInfo],
    new: &[TensorInfo],
    from: &mut Vec<usize>,
    to: &mut Vec<usize>,
    join: &mut impl FnMut(usize, usize, TensorChange),
) {
    let key = |tensor: &TensorInfo| (tensor.dtype, tensor.shape.clone(), tensor.content);
    let mut waiting: HashMap<_, std::collections::VecDeque<usize>> = HashMap::new();
    for index in to.iter() {
        if let Some(tensor) = new.get(*index) {
            waiting.entry(key(tensor)).or_default().push_back(*index);
        }
    }
    let mut taken = std::collections::HashSet::new();
    from.retain(|index| {
        let twin = old.get(*index).and_then(|tensor| waiting.get_mut(&key(tensor))?.pop_front());
        if let Some(twin) = twin {
            taken.insert(twin);
            join(*index, twin, TensorChange::Equal);
        }
        twin.is_none()
    });
    to.retain(|index| !taken.contains(index));
}

/// What became of a tensor that kept its name.
pub(crate) fn change(old: &TensorInfo, new: &TensorInfo) -> TensorChange {
    if old.shape != new.shape {
        TensorChange::Shape
    } else if old.dtype != new.dtype {
        TensorChange::DType
    } else if old.content != new.content {
        TensorChange::Value
    } else {
        TensorChange::Equal
    }
}

#[cfg(test)]
mod tests;
