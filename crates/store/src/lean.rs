//! Which copies to keep: the smallest, where every entry still comes down to a keyframe.
//!
//! Readers take the least deep copy ([`crate::depth`]), so that they agree whatever is there. A smaller copy that is deeper is
//! read only once the others are gone: which of them go is decided here, by everyone alike. First every entry has its
//! smallest copy. Where those lean on each other in a circle, or further down than readers follow, entries go back to their
//! least deep copies, first those at the bottom of what is too deep, until all is within the bound: in the end that is the
//! readers' choice, which always is.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

use crate::depth;

/// A copy of an entry to be decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<K> {
    /// The entry.
    pub id: K,
    /// The entries that it leans on.
    pub bases: Vec<K>,
    /// Bytes of the copy.
    pub stored_len: u64,
    /// Bytes of the pack that it is in: of equal copies the one in the largest pack stays, so that small packs get empty.
    pub pack_len: u64,
}

/// For each copy whether it is kept: one of every entry that can be decoded. Ties go to the copy that comes first.
#[must_use]
pub fn choose<K: Copy + Eq + Hash>(copies: &[Candidate<K>], max_depth: u32) -> Vec<bool> {
    let graph: Vec<(K, Vec<K>)> = copies.iter().map(|copy| (copy.id, copy.bases.clone())).collect();
    let depths = depth::resolve(&graph);
    // For each entry its smallest copy and its least deep one, among those that can be decoded.
    let mut chosen: HashMap<K, (usize, usize)> = HashMap::new();
    for (number, depth) in depths.iter().enumerate() {
        if depth.is_none_or(|depth| depth > max_depth) {
            continue;
        }
        let (small, shallow) = chosen.entry(copies[number].id).or_insert((number, number));
        let size =
            |number: usize| (copies[number].stored_len, depths[number], Reverse(copies[number].pack_len), number);
        let height =
            |number: usize| (depths[number], copies[number].stored_len, Reverse(copies[number].pack_len), number);
        if size(number) < size(*small) {
            *small = number;
        }
        if height(number) < height(*shallow) {
            *shallow = number;
        }
    }
    loop {
        let now: Vec<usize> = chosen.values().map(|(small, _)| *small).collect();
        let graph: Vec<(K, Vec<K>)> =
            now.iter().map(|number| (copies[*number].id, copies[*number].bases.clone())).collect();
        let resolved = depth::resolve(&graph);
        let mut back: Vec<K> = Vec::new();
        for (number, depth) in now.iter().zip(&resolved) {
            if depth.is_none_or(|depth| depth > max_depth) {
                back.push(copies[*number].id);
                // One that is as shallow as it gets may still stand on what is not.
                back.extend(&copies[*number].bases);
            }
        }
        let mut has_changed = false;
        for id in back {
            if let Some((small, shallow)) = chosen.get_mut(&id) {
                has_changed |= small != shallow;
                *small = *shallow;
            }
        }
        if !has_changed {
            break;
        }
    }
    let mut kept = vec![false; copies.len()];
    for (number, _) in chosen.values() {
        kept[*number] = true;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn copy(id: u8, bases: &[u8], stored_len: u64) -> Candidate<u8> {
        Candidate { id, bases: bases.to_vec(), stored_len, pack_len: 0 }
    }

    #[test]
    fn the_smallest_stays_where_it_comes_down_to_a_keyframe() {
        let keyframe_and_delta = [copy(1, &[], 100), copy(2, &[], 100), copy(2, &[1], 10)];
        assert_eq!(choose(&keyframe_and_delta, 8), [true, false, true]);
        // Each is smaller on the other: one of them has to be a keyframe.
        let circle = [copy(1, &[], 100), copy(1, &[2], 10), copy(2, &[], 100), copy(2, &[1], 10)];
        let kept = choose(&circle, 8);
        assert!(kept[0] || kept[2], "{kept:?}");
        assert_eq!(kept.iter().filter(|kept| **kept).count(), 2);
        assert_eq!(choose(&keyframe_and_delta, 0), [true, true, false], "no depth is allowed");
        // What cannot be decoded is not kept.
        assert_eq!(choose(&[copy(1, &[9], 1)], 8), [false]);
        let equal = [copy(1, &[], 5), Candidate { pack_len: 9, ..copy(1, &[], 5) }];
        assert_eq!(choose(&equal, 8), [false, true]);
    }

    proptest! {
        #[test]
        fn every_entry_is_kept_within_the_bound(
            copies in proptest::collection::vec((0u8..10, proptest::collection::btree_set(0u8..10, 0..3), 1u64..100), 0..40),
            max_depth in 0u32..4,
        ) {
            let copies: Vec<Candidate<u8>> =
                copies.into_iter().map(|(id, bases, len)| copy(id, &bases.into_iter().collect::<Vec<_>>(), len)).collect();
            let kept = choose(&copies, max_depth);
            let graph = |of: &dyn Fn(usize) -> bool| -> Vec<(u8, Vec<u8>)> {
                (0..copies.len()).filter(|n| of(*n)).map(|n| (copies[n].id, copies[n].bases.clone())).collect()
            };
            let all = graph(&|_| true);
            let mut least: HashMap<u8, u32> = HashMap::new();
            for ((id, _), depth) in all.iter().zip(depth::resolve(&all)) {
                if let Some(depth) = depth.filter(|depth| *depth <= max_depth) {
                    let entry = least.entry(*id).or_insert(depth);
                    *entry = depth.min(*entry);
                }
            }
            let left = graph(&|number| kept[number]);
            prop_assert_eq!(left.len(), least.len(), "one copy of each entry that can be read");
            for ((id, _), depth) in left.iter().zip(depth::resolve(&left)) {
                prop_assert!(depth.is_some_and(|depth| depth <= max_depth), "{} {:?}", id, depth);
            }
        }
    }
}
