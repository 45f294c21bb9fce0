//! Tensors that changed and have another name: what equal names and equal bytes leave over is matched by content.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use shard_core::{DType, TensorView};
use shard_history::{TensorChange, TensorPair};

use super::part::{Part, PartReader, at_once};
use crate::error::Result;
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

/// The removed and the added tensors of one type and shape.
type Group<'a> = (Vec<Left<'a>>, Vec<Left<'a>>);

/// Joins removed and added tensors of one type and shape whose values agree beyond chance, the most alike first. What was added is
/// then a change of value, and what was removed is no longer listed.
///
/// # Errors
/// What cannot be read on either side.
pub(super) fn join(
    pairs: &mut Vec<TensorPair>,
    old: &[(&Part, &TensorView)],
    new: &[(&Part, &TensorView)],
) -> Result<()> {
    let mut groups: BTreeMap<(DType, Vec<u64>), Group<'_>> = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let (side, tensor) = match pair.change {
            TensorChange::Removed => (old, pair.old),
            TensorChange::Added => (new, pair.new),
            _ => continue,
        };
        let Some((tensor, (part, view))) = tensor.and_then(|tensor| Some((tensor, side.get(tensor)?))) else {
            continue;
        };
        let group = groups.entry((view.dtype, view.stored_shape())).or_default();
        let left = Left { pair: index, tensor, part, view };
        if pair.change == TensorChange::Removed { group.0.push(left) } else { group.1.push(left) }
    }
    let mut joined: HashMap<usize, (usize, usize)> = HashMap::new();
    for (removed, added) in groups.into_values() {
        if removed.is_empty() || added.is_empty() || removed.len().max(added.len()) > MOST {
            continue;
        }
        let sketches = |side: &[Left<'_>]| {
            let at_once = at_once(side.iter().map(|left| left.part));
            side.par_iter().with_min_len(at_once).map(sketch).collect::<Result<Vec<Sketch>>>()
        };
        let (of_removed, of_added) = (sketches(&removed)?, sketches(&added)?);
        let mut related = Vec::new();
        for (new, of_new) in of_added.iter().enumerate() {
            for (old, of_old) in of_removed.iter().enumerate() {
                let agreement = of_old.agreement(of_new);
                if agreement.is_related() {
                    related.push((std::cmp::Reverse(agreement.equal), new, old));
                }
            }
        }
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
            (pair.change, pair.old) = (TensorChange::Value, Some(*tensor));
        }
        index += 1;
        !gone.contains(&(index - 1))
    });
    Ok(())
}

fn sketch(left: &Left<'_>) -> Result<Sketch> {
    let unit = left.view.dtype.storage_unit().1;
    let len = left.view.byte_len().unwrap_or(0).min(COMPARED / unit * unit);
    let mut bytes = Vec::new();
    PartReader::new(left.part).read(left.view, 0, len, &mut bytes)?;
    Ok(Sketch::of_block(left.view.dtype, &bytes))
}
