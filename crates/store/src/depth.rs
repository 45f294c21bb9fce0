//! Which copy of a block to read: by rule, so that every reader of the same packs comes to the same, acyclic answer.
//!
//! The depth of a block is the least over its copies of 0 for a keyframe, else 1 + the greatest depth of the copy's bases.
//! This is the least fixed point, reached level by level: a copy counts once all its bases are settled. Copies that lean on
//! each other in a circle, or on what is missing, never are.

use std::collections::HashMap;

use crate::entry::EntryKey;

/// Stands for an entry that is nowhere.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Numbers for entries, from 0, in the order in which they are met.
#[derive(Debug, Default)]
pub(crate) struct Numbers(HashMap<EntryKey, u32>);

impl Numbers {
    /// The number of an entry.
    pub(crate) fn of(&mut self, key: EntryKey) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(key).or_insert(next)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Copies of entries, and what they lean on: entries are numbers, and nothing is allocated for a copy by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copies {
    entries: Vec<u32>,
    /// Where the bases of each copy end.
    ends: Vec<usize>,
    bases: Vec<u32>,
}

impl Copies {
    /// Adds a copy of an entry and what it leans on.
    pub(crate) fn push(&mut self, entry: u32, bases: impl IntoIterator<Item = u32>) {
        self.entries.push(entry);
        self.bases.extend(bases);
        self.ends.push(self.bases.len());
    }

    /// How many copies there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry that a copy is of.
    pub(crate) fn entry(&self, copy: usize) -> u32 {
        self.entries[copy]
    }

    /// What a copy leans on.
    pub(crate) fn bases(&self, copy: usize) -> &[u32] {
        let start = copy.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bases[start..self.ends[copy]]
    }

    /// The depth of each copy that `counts`, `None` where it cannot be decoded. Entries that are `settled` already have the depth
    /// that is given, and copies of them are not looked at.
    pub(crate) fn resolve(&self, settled: &mut [Option<u32>], counts: impl Fn(usize) -> bool) -> Vec<Option<u32>> {
        let mut depths: Vec<Option<u32>> = vec![None; self.len()];
        // Copies by what they wait for: those of entry `e` are `waiting[starts[e]..starts[e + 1]]`.
        let mut starts = vec![0usize; settled.len() + 2];
        let mut missing: Vec<u32> = vec![0; self.len()];
        let waits = |copy: usize, settled: &[Option<u32>]| {
            counts(copy) && settled.get(self.entries[copy] as usize).is_some_and(Option::is_none)
        };
        let mut levels: Vec<Level> = Vec::new();
        for copy in (0..self.len()).filter(|copy| waits(*copy, settled)) {
            missing[copy] = self.bases(copy).len() as u32;
            if missing[copy] == 0 {
                level(&mut levels, 0).copies.push(copy);
            }
            for base in self.bases(copy).iter().filter(|base| (**base as usize) < settled.len()) {
                starts[*base as usize + 2] += 1;
            }
        }
        for at in 2..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut waiting = vec![0usize; starts.last().copied().unwrap_or(0)];
        for copy in (0..self.len()).filter(|copy| waits(*copy, settled)) {
            for base in self.bases(copy).iter().filter(|base| (**base as usize) < settled.len()) {
                let next = &mut starts[*base as usize + 1];
                waiting[*next] = copy;
                *next += 1;
            }
        }
        for (entry, depth) in settled.iter().enumerate() {
            if let Some(depth) = depth {
                level(&mut levels, *depth as usize).entries.push(entry);
            }
        }
        let mut depth = 0;
        while let Some(here) = levels.get_mut(depth) {
            let Level { copies, mut entries } = std::mem::take(here);
            for copy in copies {
                depths[copy] = Some(depth as u32);
                let entry = self.entries[copy] as usize;
                if settled[entry].is_none() {
                    settled[entry] = Some(depth as u32);
                    entries.push(entry);
                }
            }
            for copy in entries.into_iter().flat_map(|entry| &waiting[starts[entry]..starts[entry + 1]]) {
                missing[*copy] -= 1;
                if missing[*copy] == 0 {
                    level(&mut levels, depth + 1).copies.push(*copy);
                }
            }
            depth += 1;
        }
        depths
    }
}

/// What becomes known at one depth.
#[derive(Default)]
struct Level {
    copies: Vec<usize>,
    /// Entries that were settled before.
    entries: Vec<usize>,
}

fn level(levels: &mut Vec<Level>, depth: usize) -> &mut Level {
    if levels.len() <= depth {
        levels.resize_with(depth + 1, Level::default);
    }
    &mut levels[depth]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn copies(list: &[(u32, Vec<u32>)]) -> Copies {
        let mut copies = Copies::default();
        for (entry, bases) in list {
            copies.push(*entry, bases.iter().copied());
        }
        copies
    }

    #[test]
    fn circles_and_gaps_are_never_chosen() {
        // 1 is a keyframe and also leans on 2, which leans on 1; 3 and 4 lean on each other; 5 leans on what is missing.
        let list = [
            (1, vec![2]),
            (1, vec![]),
            (2, vec![1]),
            (3, vec![4]),
            (4, vec![3]),
            (5, vec![NOWHERE, 1]),
            (6, vec![2, 1]),
        ];
        let expected = [Some(2), Some(0), Some(1), None, None, None, Some(2)];
        assert_eq!(copies(&list).resolve(&mut [None; 7], |_| true), expected);
        // Without its keyframe, and settled otherwise.
        assert_eq!(copies(&list).resolve(&mut [None; 7], |copy| copy != 1), [None; 7]);
        let mut settled = [None; 7];
        settled[2] = Some(3);
        let expected = [Some(4), None, None, None, None, None, Some(5)];
        assert_eq!(copies(&list).resolve(&mut settled, |copy| copy != 1), expected);
        assert_eq!((settled[1], settled[2], settled[3]), (Some(4), Some(3), None));
    }

    proptest! {
        #[test]
        fn is_the_least_fixed_point(
            list in proptest::collection::vec((0u32..12, proptest::collection::btree_set(0u32..12, 0..3)), 0..40),
            ignored in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let list: Vec<(u32, Vec<u32>)> =
                list.into_iter().map(|(id, bases)| (id, bases.into_iter().collect())).collect();
            // The oracle: relax until nothing changes.
            let mut best: HashMap<u32, u32> = HashMap::new();
            let depth_of = |best: &HashMap<u32, u32>, bases: &[u32]| {
                bases.iter().try_fold(0, |depth, base| Some(depth.max(best.get(base)? + 1)))
            };
            loop {
                let before = best.clone();
                for ((id, bases), _) in list.iter().zip(&ignored).filter(|(_, ignored)| !**ignored) {
                    if let Some(depth) = depth_of(&best, bases) {
                        let entry = best.entry(*id).or_insert(depth);
                        *entry = depth.min(*entry);
                    }
                }
                if before == best { break; }
            }
            let expected: Vec<_> = list.iter().zip(&ignored)
                .map(|((_, bases), ignored)| depth_of(&best, bases).filter(|_| !ignored)).collect();
            let mut settled = vec![None; 12];
            prop_assert_eq!(copies(&list).resolve(&mut settled, |copy| !ignored[copy]), expected);
            let settled: HashMap<u32, u32> =
                (0..12).filter_map(|id| Some((id, settled[id as usize]?))).collect();
            prop_assert_eq!(settled, best);
        }
    }
}
