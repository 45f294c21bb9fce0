//! Tensors that changed and have another name: what equal names and equal bytes leave over is matched by content, first within a type
//! and then across types, as a model has it that was cast or quantised under other names.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use shard_core::{DType, TensorView};
use shard_history::{TensorChange, TensorPair};

use super::kind::correlation;
use super::part::{Part, PartReader, at_once};
use crate::error::Result;
use crate::numeric::push_values;
use crate::parent::Sketch;

/// Bytes from the start of a tensor that are compared.
const COMPARED: u64 = 64 << 10;

/// Most tensors of one type and shape that are compared with each other; where there are more, names alone tell them apart.
const MOST: usize = 512;

/// A tensor that only one side has under its name, and whose bytes only one side has.
struct Left<'a> {
    /// Index in the pairs.
    pair: usize,
    /// Index on its side.
    tensor: usize,
    part: &'a Part,
    view: &'a TensorView,
}

/// The removed and the added tensors that may belong together.
type Group<'a> = (Vec<Left<'a>>, Vec<Left<'a>>);

/// Values from the start of a tensor that are compared across types.
const VALUES: u64 = 1024;

/// The least correlation of a cast or quantised tensor with what it was.
const LEAST_CORRELATION: f64 = 0.9;

/// Joins removed and added tensors of one shape whose values agree beyond chance, the most alike first. What was added is
/// then a change of value or of type, and what was removed is no longer listed.
///
/// # Errors
/// What cannot be read on either side.
pub(super) fn join(
    pairs: &mut Vec<TensorPair>,
    old: &[(&Part, &TensorView)],
    new: &[(&Part, &TensorView)],
) -> Result<()> {
    let within = groups(pairs, old, new, |view| Some((view.dtype, view.stored_shape())));
    join_groups(pairs, within, TensorChange::Value, |removed, added| {
        let (of_removed, of_added) = (each(removed, sketch)?, each(added, sketch)?);
        Ok(all_pairs(&of_removed, &of_added, |old, new| {
            let agreement = old.agreement(new);
            agreement.is_related().then_some(agreement.equal as u64)
        }))
    })?;
    let across = groups(pairs, old, new, |view| {
        // A few numbers are alike by chance.
        (view.elements()? >= 64).then(|| view.stored_shape())
    });
    join_groups(pairs, across, TensorChange::DType, |removed, added| {
        let (of_removed, of_added) = (each(removed, values)?, each(added, values)?);
        Ok(all_pairs(&of_removed, &of_added, |(old_type, old, columns), (new_type, new, _)| {
            if old_type == new_type || old.len() != new.len() {
                return None;
            }
            let found = correlation(old, new, *columns);
            (found >= LEAST_CORRELATION).then_some((found * 1e9) as u64)
        }))
    })
}

/// What is left of each side, by what has to be the same.
fn groups<'a, K: Ord>(
    pairs: &[TensorPair],
    old: &[(&'a Part, &'a TensorView)],
    new: &[(&'a Part, &'a TensorView)],
    key: impl Fn(&TensorView) -> Option<K>,
) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<K, Group<'a>> = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let (side, tensor) = match pair.change {
            TensorChange::Removed => (old, pair.old),
            TensorChange::Added => (new, pair.new),
            _ => continue,
        };
        let Some((tensor, (part, view))) = tensor.and_then(|tensor| Some((tensor, *side.get(tensor)?))) else {
            continue;
        };
        let Some(key) = key(view) else { continue };
        let group = groups.entry(key).or_default();
        let left = Left { pair: index, tensor, part, view };
        if pair.change == TensorChange::Removed { group.0.push(left) } else { group.1.push(left) }
    }
    let few = |(removed, added): &Group<'_>| {
        !removed.is_empty() && !added.is_empty() && removed.len().max(added.len()) <= MOST
    };
    groups.into_values().filter(few).collect()
}

/// How alike a removed and an added tensor are: the more, the larger; then their places in the group, the added one's first.
type Related = (std::cmp::Reverse<u64>, usize, usize);

/// Joins what is found related in each group, one to one.
fn join_groups(
    pairs: &mut Vec<TensorPair>,
    groups: Vec<Group<'_>>,
    change: TensorChange,
    find: impl Fn(&[Left<'_>], &[Left<'_>]) -> Result<Vec<Related>>,
) -> Result<()> {
    let mut joined: HashMap<usize, (usize, usize)> = HashMap::new();
    for (removed, added) in groups {
        let mut related = find(&removed, &added)?;
        related.sort_unstable();
        let (mut new_taken, mut old_taken) = (vec![false; added.len()], vec![false; removed.len()]);
        for (_, new, old) in related {
            if !new_taken[new] && !old_taken[old] {
                (new_taken[new], old_taken[old]) = (true, true);
                joined.insert(added[new].pair, (removed[old].pair, removed[old].tensor));
            }
        }
    }
    let gone: std::collections::HashSet<usize> = joined.values().map(|(pair, _)| *pair).collect();
    let mut index = 0;
    pairs.retain_mut(|pair| {
        if let Some((_, tensor)) = joined.get(&index) {
            (pair.change, pair.old) = (change, Some(*tensor));
        }
        index += 1;
        !gone.contains(&(index - 1))
    });
    Ok(())
}

fn all_pairs<T>(removed: &[T], added: &[T], alike: impl Fn(&T, &T) -> Option<u64>) -> Vec<Related> {
    let mut related = Vec::new();
    for (new, of_new) in added.iter().enumerate() {
        for (old, of_old) in removed.iter().enumerate() {
            related.extend(alike(of_old, of_new).map(|alike| (std::cmp::Reverse(alike), new, old)));
        }
    }
    related
}

fn each<T: Send>(side: &[Left<'_>], look: fn(&Left<'_>) -> Result<T>) -> Result<Vec<T>> {
    let at_once = at_once(side.iter().map(|left| left.part));
    side.par_iter().with_min_len(at_once).map(look).collect()
}

/// The type, the first values, and how many of these are a row.
fn values(left: &Left<'_>) -> Result<(DType, Vec<f64>, usize)> {
    let dtype = left.view.dtype;
    let (elements, unit) = dtype.storage_unit();
    let count = left.view.elements().unwrap_or(0).min(VALUES);
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    PartReader::new(left.part).read(left.view, 0, count.div_ceil(elements) * unit, &mut bytes)?;
    if !push_values(dtype, &bytes, &mut values) {
        values.clear();
    }
    values.truncate(count as usize);
    let columns = left.view.stored_shape().get(1..).unwrap_or_default().iter().product::<u64>();
    Ok((dtype, values, if left.view.shape.len() < 2 { VALUES as usize } else { columns as usize }))
}

fn sketch(left: &Left<'_>) -> Result<Sketch> {
    let unit = left.view.dtype.storage_unit().1;
    let len = left.view.byte_len().unwrap_or(0).min(COMPARED / unit * unit);
    let mut bytes = Vec::new();
    PartReader::new(left.part).read(left.view, 0, len, &mut bytes)?;
    Ok(Sketch::of_block(left.view.dtype, &bytes))
}
