//! Which copies to keep: the smallest, where every entry still comes down to a keyframe.
//!
//! Readers take the least deep copy ([`crate::depth`]), so that they agree whatever is there. A smaller copy that is deeper is
//! read only once the others are gone. Which of them go is decided here: first every entry has its smallest copy; where those
//! lean on each other in a circle, or further down than readers follow, entries go back to their safe copies, with all that
//! those lean on, until all is within the bound. In the end that is the safe choice itself.

use crate::depth::Copies;

/// No copy of an entry.
pub(crate) const NONE: u32 = u32::MAX;

/// For each entry the copy that is kept, and its depth along those. `safe` has for each entry a copy, or [`NONE`], such that
/// all of them together can be decoded as far as that is possible; `small` the copy that would be better, or the same.
pub(crate) fn choose(copies: &Copies, safe: &[u32], small: Vec<u32>, max_depth: u32) -> (Vec<u32>, Vec<Option<u32>>) {
    let mut chosen = small;
    loop {
        let mut depths: Vec<Option<u32>> = vec![None; chosen.len()];
        copies.resolve(&mut depths, |copy| chosen[copies.entry(copy) as usize] == copy as u32);
        let is_bad = |entry: usize| chosen[entry] != NONE && depths[entry].is_none_or(|depth| depth > max_depth);
        let mut open: Vec<usize> = (0..chosen.len()).filter(|entry| is_bad(*entry)).collect();
        let mut seen = vec![false; chosen.len()];
        let mut has_changed = false;
        while let Some(entry) = open.pop() {
            if std::mem::replace(&mut seen[entry], true) {
                continue;
            }
            has_changed |= std::mem::replace(&mut chosen[entry], safe[entry]) != safe[entry];
            if chosen[entry] != NONE {
                let bases = copies.bases(chosen[entry] as usize).iter().map(|base| *base as usize);
                open.extend(bases.filter(|base| *base < safe.len()));
            }
        }
        if !has_changed {
            return (chosen, depths);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Copies: the entry, what it leans on, its bytes.
    type Given<'a> = (u32, &'a [u32], u64);

    /// The least deep and the smallest copy of each of `entries`, of those that can be decoded.
    fn candidates(copies: &Copies, sizes: &[u64], entries: u32, max_depth: u32) -> (Vec<u32>, Vec<u32>) {
        let depths = copies.resolve(&mut vec![None; entries as usize], |_| true);
        let of = |entry: u32, rank: &dyn Fn(usize) -> (u64, u64)| {
            let those = (0..copies.len()).filter(|copy| copies.entry(*copy) == entry);
            let those = those.filter(|copy| depths[*copy].is_some_and(|depth| depth <= max_depth));
            those.min_by_key(|copy| rank(*copy)).map_or(NONE, |copy| copy as u32)
        };
        let depth = |copy: usize| u64::from(depths[copy].unwrap_or(NONE));
        let safe = (0..entries).map(|entry| of(entry, &|copy| (depth(copy), sizes[copy]))).collect();
        (safe, (0..entries).map(|entry| of(entry, &|copy| (sizes[copy], depth(copy)))).collect())
    }

    fn kept(given: &[Given<'_>], entries: u32, max_depth: u32) -> Vec<u32> {
        let mut copies = Copies::default();
        given.iter().for_each(|(entry, bases, _)| copies.push(*entry, bases.iter().copied()));
        let sizes: Vec<u64> = given.iter().map(|(.., size)| *size).collect();
        let (safe, small) = candidates(&copies, &sizes, entries, max_depth);
        choose(&copies, &safe, small, max_depth).0
    }

    #[test]
    fn the_smallest_stays_where_it_comes_down_to_a_keyframe() {
        let delta: [Given<'_>; 3] = [(0, &[], 100), (1, &[], 100), (1, &[0], 10)];
        assert_eq!(kept(&delta, 2, 8), [0, 2]);
        assert_eq!(kept(&delta, 2, 0), [0, 1], "no depth is allowed");
        // Each is smaller on the other: they cannot both be.
        let circle: [Given<'_>; 4] = [(0, &[], 100), (0, &[1], 10), (1, &[], 100), (1, &[0], 10)];
        assert_eq!(kept(&circle, 2, 8), [0, 2]);
        // What cannot be decoded is not kept.
        assert_eq!(kept(&[(0, &[9], 1)], 1, 8), [NONE]);
        // What is too deep takes all below it along, also what is not too deep itself.
        let chain: [Given<'_>; 4] = [(0, &[], 9), (1, &[], 9), (1, &[0], 1), (2, &[1], 5)];
        assert_eq!(kept(&chain, 3, 1), [0, 1, 3]);
        assert_eq!(kept(&chain, 3, 2), [0, 2, 3]);
    }

    proptest! {
        #[test]
        fn every_entry_is_kept_within_the_bound(
            given in prop::collection::vec((0u32..10, prop::collection::btree_set(0u32..10, 0..3), 1u64..100), 0..40),
            max_depth in 0u32..4,
        ) {
            let mut copies = Copies::default();
            given.iter().for_each(|(entry, bases, _)| copies.push(*entry, bases.iter().copied()));
            let sizes: Vec<u64> = given.iter().map(|(.., size)| *size).collect();
            let (safe, small) = candidates(&copies, &sizes, 10, max_depth);
            let (kept, depths) = choose(&copies, &safe, small, max_depth);
            for entry in 0..10 {
                prop_assert_eq!(kept[entry] == NONE, safe[entry] == NONE);
                prop_assert!(kept[entry] == NONE || depths[entry].is_some_and(|depth| depth <= max_depth), "{}", entry);
                prop_assert!(kept[entry] == NONE || sizes[kept[entry] as usize] <= sizes[safe[entry] as usize]);
            }
        }
    }
}
