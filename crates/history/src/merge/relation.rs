//! What merging one commit into another comes to, by their places in the graph.

use shard_core::Digest;

use crate::dag::{Nearest, Node, merge_bases};

/// How two commits stand to one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// Theirs is ours or an ancestor of it: there is nothing to merge.
    AlreadyUpToDate,
    /// Ours is an ancestor of theirs: the branch only has to move.
    FastForward,
    /// Both have commits that the other has not.
    Diverged {
        /// The best common ancestor that the merge starts from.
        base: Digest,
        /// Other common ancestors as good, newest first. There are some after merges in both directions.
        others: Vec<Digest>,
    },
    /// They share no commit. Such a merge starts from an empty tree, and only where the user asks for it.
    Unrelated,
}

/// How a merge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MergeStatus {
    /// A commit with two parents was made.
    Merged,
    /// The branch was moved.
    FastForward,
    /// There was nothing to do.
    AlreadyUpToDate,
    /// There are conflicts, and the branch is where it was.
    Conflict,
}

impl MergeStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Merged, Self::FastForward, Self::AlreadyUpToDate, Self::Conflict];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::FastForward => "fast-forward",
            Self::AlreadyUpToDate => "already-up-to-date",
            Self::Conflict => "conflict",
        }
    }
}

/// How `theirs` stands to `ours`, into which it would be merged.
///
/// Among several best common ancestors the base is the newest, and among those of one time the one with the largest id: the
/// same whichever side is ours and in whatever order commits were fetched. No virtual ancestor is made of them, as Git's
/// recursive strategy does; a change that only one of them has may then show as a conflict, and is never lost silently.
///
/// Where one commit is an ancestor of the other, commits much further back are not fetched.
///
/// # Errors
/// What `fetch` says.
pub fn relate<E>(
    ours: &Digest,
    theirs: &Digest,
    mut fetch: impl FnMut(&Digest) -> Result<Node, E>,
) -> Result<Relation, E> {
    // Both ways in step: the one that finds something mostly finds it near.
    let (mut of_ours, mut of_theirs) = (Nearest::new(*ours), Nearest::new(*theirs));
    loop {
        let behind = of_ours.next(&mut fetch)?;
        if behind == Some(*theirs) {
            return Ok(Relation::AlreadyUpToDate);
        }
        let ahead = of_theirs.next(&mut fetch)?;
        if ahead == Some(*ours) {
            return Ok(Relation::FastForward);
        }
        if behind.is_none() && ahead.is_none() {
            break;
        }
    }
    let mut bases = merge_bases(ours, theirs, fetch)?.into_iter();
    Ok(match bases.next() {
        Some(base) => Relation::Diverged { base, others: bases.collect() },
        None => Relation::Unrelated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::is_ancestor;
    use crate::timestamp::Timestamp;
    use proptest::prelude::*;
    use shard_core::sha256;
    use std::cell::Cell;

    fn id(number: usize) -> Digest {
        sha256(&number.to_le_bytes())
    }

    /// Commits by number: the parents of each, and its time.
    fn node(graph: &[(Vec<usize>, i64)], wanted: &Digest) -> Result<Node, Digest> {
        let (parents, time) =
            (0..graph.len()).find(|number| id(*number) == *wanted).map(|n| &graph[n]).ok_or(*wanted)?;
        let parents = parents.iter().map(|parent| id(*parent)).collect();
        Ok(Node { parents, time: Timestamp::from_unix(*time, 0).unwrap() })
    }

    fn of(graph: &[(Vec<usize>, i64)], ours: usize, theirs: usize) -> Relation {
        relate(&id(ours), &id(theirs), |wanted| node(graph, wanted)).unwrap()
    }

    #[test]
    fn every_relation() {
        // 0 - 1 - 2, 1 - 3, and 4 apart.
        let graph = [(vec![], 0), (vec![0], 1), (vec![1], 2), (vec![1], 3), (vec![], 4)];
        assert_eq!(of(&graph, 2, 2), Relation::AlreadyUpToDate);
        assert_eq!(of(&graph, 2, 0), Relation::AlreadyUpToDate);
        assert_eq!(of(&graph, 0, 3), Relation::FastForward);
        assert_eq!(of(&graph, 2, 3), Relation::Diverged { base: id(1), others: vec![] });
        assert_eq!(of(&graph, 4, 3), Relation::Unrelated);
        assert_eq!(relate(&id(9), &id(1), |wanted| node(&graph, wanted)), Err(id(9)));
    }

    #[test]
    fn after_merges_in_both_directions_the_newest_base_is_taken() {
        for (times, newest) in [((5, 6), 2), ((6, 5), 1)] {
            let graph = [(vec![], 0), (vec![0], times.0), (vec![0], times.1), (vec![1, 2], 7), (vec![2, 1], 8)];
            let expected = Relation::Diverged { base: id(newest), others: vec![id(3 - newest)] };
            assert_eq!((of(&graph, 3, 4), of(&graph, 4, 3)), (expected.clone(), expected));
        }
        let graph = [(vec![], 0), (vec![0], 1), (vec![0], 1), (vec![1, 2], 7), (vec![2, 1], 8)];
        let expected = Relation::Diverged { base: id(1).max(id(2)), others: vec![id(1).min(id(2))] };
        assert_eq!((of(&graph, 3, 4), of(&graph, 4, 3)), (expected.clone(), expected));
    }

    #[test]
    fn long_histories_are_not_read_for_a_step() {
        let graph: Vec<_> = (0..1000usize).map(|n| (n.checked_sub(1).into_iter().collect(), n as i64)).collect();
        for (ours, theirs, expected) in [(998, 999, Relation::FastForward), (999, 998, Relation::AlreadyUpToDate)] {
            let fetched = Cell::new(0);
            let found = relate(&id(ours), &id(theirs), |wanted| {
                fetched.set(fetched.get() + 1);
                node(&graph, wanted)
            });
            assert_eq!(found, Ok(expected));
            assert!(fetched.get() < 5, "{}", fetched.get());
        }
    }

    #[test]
    fn words() {
        let words = MergeStatus::ALL.map(MergeStatus::as_str);
        assert_eq!(words, ["merged", "fast-forward", "already-up-to-date", "conflict"]);
    }

    proptest! {
        #[test]
        fn relations_agree_with_ancestry(
            parents in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..12),
            ours: prop::sample::Index, theirs: prop::sample::Index,
        ) {
            let graph: Vec<(Vec<usize>, i64)> = parents.iter().enumerate().map(|(number, parents)| {
                let mut parents: Vec<usize> =
                    parents.iter().filter(|_| number > 0).map(|parent| parent.index(number)).collect();
                parents.sort_unstable();
                parents.dedup();
                (parents, number as i64)
            }).collect();
            let (ours, theirs) = (ours.index(graph.len()), theirs.index(graph.len()));
            let is = |a: usize, b: usize| is_ancestor(&id(a), &id(b), |wanted| node(&graph, wanted)).unwrap();
            match of(&graph, ours, theirs) {
                Relation::AlreadyUpToDate => prop_assert!(is(theirs, ours)),
                Relation::FastForward => prop_assert!(is(ours, theirs) && ours != theirs),
                Relation::Diverged { base, others } => {
                    prop_assert!(!is(ours, theirs) && !is(theirs, ours));
                    let base = (0..graph.len()).find(|number| id(*number) == base).unwrap();
                    prop_assert!(is(base, ours) && is(base, theirs));
                    // No common ancestor is newer than the base here, where times follow the graph.
                    prop_assert!((base + 1..graph.len()).all(|later| !(is(later, ours) && is(later, theirs))));
                    prop_assert_eq!(of(&graph, theirs, ours), Relation::Diverged { base: id(base), others });
                }
                Relation::Unrelated => {
                    prop_assert!((0..graph.len()).all(|common| !(is(common, ours) && is(common, theirs))));
                }
            }
        }
    }
}
