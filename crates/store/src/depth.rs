//! Which copy of a block to read: by rule, so that every reader of the same packs comes to the same, acyclic answer.
//!
//! The depth of a block is the least over its copies of 0 for a keyframe, else 1 + the greatest depth of the copy's bases.
//! This is the least fixed point, reached level by level: a copy counts once all its bases are settled. Copies that lean on
//! each other in a circle, or on what is missing, never are.

use std::collections::HashMap;
use std::hash::Hash;

/// The depth of each copy, `None` where it cannot be decoded. A copy is the id of an entry and the ids of its bases.
pub(crate) fn resolve<K: Copy + Eq + Hash>(copies: &[(K, Vec<K>)]) -> Vec<Option<u32>> {
    let mut depths: Vec<Option<u32>> = vec![None; copies.len()];
    let mut settled: HashMap<K, u32> = HashMap::with_capacity(copies.len());
    let mut waiting_on: HashMap<K, Vec<usize>> = HashMap::new();
    let mut missing: Vec<usize> = Vec::with_capacity(copies.len());
    let mut level: Vec<usize> = Vec::new();
    for (number, (_, bases)) in copies.iter().enumerate() {
        missing.push(bases.len());
        if bases.is_empty() {
            level.push(number);
        }
        for base in bases {
            waiting_on.entry(*base).or_default().push(number);
        }
    }
    let mut depth = 0;
    while !level.is_empty() {
        for number in &level {
            depths[*number] = Some(depth);
        }
        let mut next = Vec::new();
        for number in level {
            let id = copies[number].0;
            if settled.contains_key(&id) {
                continue;
            }
            settled.insert(id, depth);
            for waiting in waiting_on.remove(&id).unwrap_or_default() {
                missing[waiting] -= 1;
                if missing[waiting] == 0 {
                    next.push(waiting);
                }
            }
        }
        level = next;
        depth += 1;
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn circles_and_gaps_are_never_chosen() {
        // 1 is a keyframe and also leans on 2, which leans on 1; 3 and 4 lean on each other; 5 leans on what is missing.
        let copies =
            vec![(1, vec![2]), (1, vec![]), (2, vec![1]), (3, vec![4]), (4, vec![3]), (5, vec![9, 1]), (6, vec![2, 1])];
        assert_eq!(resolve(&copies), [Some(2), Some(0), Some(1), None, None, None, Some(2)]);
    }

    proptest! {
        #[test]
        fn is_the_least_fixed_point(
            copies in proptest::collection::vec((0u8..12, proptest::collection::btree_set(0u8..12, 0..3)), 0..40),
        ) {
            let copies: Vec<(u8, Vec<u8>)> =
                copies.into_iter().map(|(id, bases)| (id, bases.into_iter().collect())).collect();
            // The oracle: relax until nothing changes.
            let mut best: HashMap<u8, u32> = HashMap::new();
            let depth_of = |best: &HashMap<u8, u32>, bases: &[u8]| {
                bases.iter().try_fold(0, |depth, base| Some(depth.max(best.get(base)? + 1)))
            };
            loop {
                let before = best.clone();
                for (id, bases) in &copies {
                    if let Some(depth) = depth_of(&best, bases) {
                        let entry = best.entry(*id).or_insert(depth);
                        *entry = depth.min(*entry);
                    }
                }
                if before == best { break; }
            }
            let expected: Vec<_> = copies.iter().map(|(_, bases)| depth_of(&best, bases)).collect();
            prop_assert_eq!(resolve(&copies), expected);
        }
    }
}
