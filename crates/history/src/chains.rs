//! One order for events that several chains know of.
//!
//! Each chain has its own events in the order in which they happened, which is certain. Which of two events came first that no
//! chain has both of is told by clocks alone. This is Kahn's topological sort ("Topological sorting of large networks", 1962)
//! with the latest time first among what may come next.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::Hash;

/// Puts the events of all chains, each newest first, in one order, newest first, each event once. An event comes after all that
/// are before it in any chain; times only order what chains leave open.
///
/// Chains that contradict one another, which racing writers can bring about, are no error: then the latest of the events that
/// come next in some chain is taken.
#[must_use]
pub fn newest_first<K: Copy + Ord + Hash, T: Copy + Ord>(chains: &[Vec<(K, T)>]) -> Vec<K> {
    let mut times: HashMap<K, T> = HashMap::new();
    let mut members: HashMap<K, HashSet<usize>> = HashMap::new();
    for (index, chain) in chains.iter().enumerate() {
        for (event, time) in chain {
            let latest = times.entry(*event).or_insert(*time);
            *latest = (*latest).max(*time);
            members.entry(*event).or_default().insert(index);
        }
    }
    let mut at = vec![0usize; chains.len()];
    // In how many chains an event is next.
    let mut heads: HashMap<K, usize> = HashMap::new();
    let mut ready: BinaryHeap<(T, K)> = BinaryHeap::new();
    let mut given: HashSet<K> = HashSet::new();
    let mut order = Vec::with_capacity(times.len());
    let mut moved: Vec<usize> = (0..chains.len()).collect();
    loop {
        for index in moved.drain(..) {
            let (Some(chain), Some(at)) = (chains.get(index), at.get_mut(index)) else { continue };
            while chain.get(*at).is_some_and(|(event, _)| given.contains(event)) {
                *at += 1;
            }
            let Some((event, _)) = chain.get(*at) else { continue };
            let count = heads.entry(*event).or_default();
            *count += 1;
            if Some(*count) == members.get(event).map(HashSet::len)
                && let Some(time) = times.get(event)
            {
                ready.push((*time, *event));
            }
        }
        let next = ready.pop().map(|(_, event)| event).or_else(|| {
            let left = heads.keys().filter(|event| !given.contains(*event));
            left.max_by_key(|event| (times.get(*event).copied(), **event)).copied()
        });
        let Some(event) = next else { return order };
        if given.insert(event) {
            order.push(event);
        }
        let of_event = members.get(&event).into_iter().flatten();
        moved.extend(of_event.filter(|index| {
            let next = chains.get(**index).zip(at.get(**index)).and_then(|(chain, at)| chain.get(*at));
            next.is_some_and(|(next, _)| *next == event)
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chains_win_over_clocks() {
        // The clock of who did 1 was far behind, and that of who did 2 far ahead.
        let chains = [vec![('c', 5), ('b', 900), ('a', 3)], vec![('d', 1), ('b', 900)]];
        assert_eq!(newest_first(&chains), ['c', 'd', 'b', 'a']);
        let chains = [vec![('x', 1), ('y', 2)], vec![('x', 1), ('z', 3)]];
        assert_eq!(newest_first(&chains), ['x', 'z', 'y']);
        assert_eq!(newest_first::<char, u8>(&[vec![], vec![]]), []);
    }

    #[test]
    fn contradictions_end() {
        let chains = [vec![('a', 2), ('b', 1)], vec![('b', 1), ('a', 2)]];
        assert_eq!(newest_first(&chains), ['a', 'b']);
        let twice = [vec![('a', 3), ('b', 2), ('a', 1)]];
        assert_eq!(newest_first(&twice), ['a', 'b']);
    }

    proptest! {
        #[test]
        fn every_chain_keeps_its_order(
            events in prop::collection::vec((prop::collection::btree_set(0usize..4, 1..4), any::<i8>()), 0..30),
        ) {
            // Event n happened n-th, moved some chains, and has any time at all.
            let mut chains = vec![Vec::new(); 4];
            for (event, (in_chains, time)) in events.iter().enumerate().rev() {
                for chain in in_chains {
                    chains[*chain].push((event, *time));
                }
            }
            let order = newest_first(&chains);
            prop_assert_eq!(order.len(), events.len());
            let place = |event: usize| order.iter().position(|other| *other == event).unwrap();
            for chain in &chains {
                prop_assert!(chain.is_sorted_by_key(|(event, _)| place(*event)));
            }
        }
    }
}
