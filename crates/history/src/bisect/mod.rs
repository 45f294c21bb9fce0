//! Finding the first commit that has something its good ancestors have not, by asking about as few commits as can be.
//!
//! What is asked next is the commit that splits what is left most evenly, as in `git bisect`: of the commits that the bad one
//! leads to and no good one does, each has as its weight how many of them it leads to, itself included, and the best is the one
//! whose weight, or the rest beside it, is largest where the smaller of both counts.

mod predicate;

pub use predicate::{Measure, Predicate, PredicateError};

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use shard_core::Digest;
use thiserror::Error;

use crate::dag::{Node, ancestors, merge_bases};
use crate::timestamp::Timestamp;

/// What is known of some commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// The commit that was found to have it first: the search is among its ancestors.
    pub tip: Digest,
    /// The commit that has it and was found last, the same or one of those.
    pub bad: Digest,
    /// Commits that have it not, nor have their ancestors.
    pub good: Vec<Digest>,
    /// Commits of which it cannot be told.
    pub skipped: HashSet<Digest>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A commit to test.
    Test {
        /// The commit.
        commit: Digest,
        /// Commits that are left to test after it, at most.
        left: usize,
        /// About how many tests those take.
        steps: u32,
    },
    /// A commit to test first: a good commit is no ancestor of the bad one, and only if their common ancestor is good, too, was
    /// it between that and the bad one that it came.
    Base(Digest),
    /// The first bad commit.
    Found(Digest),
    /// Any of these may be the first bad commit, newest first: all but the first were skipped.
    Undecided(Vec<Digest>),
}

/// A search that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BisectError<E> {
    /// What the caller's closure said.
    #[error(transparent)]
    Fetch(E),
    /// One commit is good and bad.
    #[error("the commit {0} is marked both good and bad")]
    Contradiction(Digest),
    /// A good commit has the bad one among its ancestors.
    #[error("the commit {0} is bad, and one that follows it is good: it was mended between them")]
    Mended(Digest),
    /// A commit that is its own ancestor, which only a damaged or forged history has.
    #[error("the commit {0} is its own ancestor")]
    Cycle(Digest),
}

/// What to test next.
///
/// # Errors
/// [`BisectError`].
pub fn next<E>(marks: &Marks, mut fetch: impl FnMut(&Digest) -> Result<Node, E>) -> Result<Next, BisectError<E>> {
    let bad = marks.bad;
    let mut known: HashMap<Digest, Node> = HashMap::new();
    let mut fetch = |id: &Digest| -> Result<Node, BisectError<E>> {
        if let Some(node) = known.get(id) {
            return Ok(node.clone());
        }
        let node = fetch(id).map_err(BisectError::Fetch)?;
        known.insert(*id, node.clone());
        Ok(node)
    };
    let of_bad = ancestors(&[bad], &mut fetch)?;
    let good = ancestors(&marks.good, &mut fetch)?;
    if good.contains(&bad) {
        let is_both = marks.good.contains(&bad);
        return Err(if is_both { BisectError::Contradiction(bad) } else { BisectError::Mended(bad) });
    }
    // Ancestors of a good commit beside all that is searched are only taken for good once their common ancestor is.
    let of_tip = ancestors(&[marks.tip], &mut fetch)?;
    let (before, beside): (Vec<Digest>, Vec<Digest>) = marks.good.iter().partition(|good| of_tip.contains(*good));
    let proven = ancestors(&before, &mut fetch)?;
    for commit in beside {
        for base in merge_bases(&commit, &marks.tip, &mut fetch)? {
            if !proven.contains(&base) && !marks.skipped.contains(&base) {
                return Ok(Next::Base(base));
            }
        }
    }
    let mut left: HashMap<Digest, Node> = HashMap::new();
    for id in of_bad.into_iter().filter(|id| !good.contains(id)) {
        left.insert(id, fetch(&id)?);
    }
    choose(marks, &left)
}

/// The best of the commits that are left.
fn choose<E>(marks: &Marks, left: &HashMap<Digest, Node>) -> Result<Next, BisectError<E>> {
    let all = left.len();
    let weights = weights(left)?;
    let may_be_tested = |id: &Digest| *id != marks.bad && !marks.skipped.contains(id);
    let best = weights
        .iter()
        .filter(|(id, _)| may_be_tested(id))
        .filter_map(|(id, weight)| Some(((*weight).min(all - weight), left.get(id)?.time, Reverse(*id), *weight)))
        .max();
    if let Some((_, _, Reverse(commit), weight)) = best {
        let rest = weight.max(all - weight).saturating_sub(1);
        return Ok(Next::Test { commit, left: rest, steps: usize::BITS - rest.leading_zeros() });
    }
    if all <= 1 {
        return Ok(Next::Found(marks.bad));
    }
    let mut undecided: Vec<(usize, Timestamp, Digest)> =
        weights.iter().filter_map(|(id, weight)| Some((*weight, left.get(id)?.time, *id))).collect();
    undecided.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Next::Undecided(undecided.into_iter().map(|(_, _, id)| id).collect()))
}

/// How many of these commits each of them leads to, itself included.
fn weights<E>(left: &HashMap<Digest, Node>) -> Result<HashMap<Digest, usize>, BisectError<E>> {
    let parents = |id: &Digest| {
        let parents = left.get(id).map(|node| node.parents.as_slice()).unwrap_or_default();
        parents.iter().filter(|parent| left.contains_key(*parent)).copied().collect::<Vec<_>>()
    };
    let mut waiting: HashMap<Digest, usize> = HashMap::new();
    let mut children: HashMap<Digest, Vec<Digest>> = HashMap::new();
    let mut ready = Vec::new();
    for id in left.keys() {
        let parents = parents(id);
        if parents.is_empty() {
            ready.push(*id);
        }
        waiting.insert(*id, parents.len());
        for parent in parents {
            children.entry(parent).or_default().push(*id);
        }
    }
    let mut weights: HashMap<Digest, usize> = HashMap::with_capacity(left.len());
    while let Some(id) = ready.pop() {
        let weight = match parents(&id)[..] {
            [] => 1,
            // Only where lines join do they have to be counted.
            [parent] => weights.get(&parent).copied().unwrap_or(0) + 1,
            _ => {
                let (mut seen, mut open) = (HashSet::from([id]), vec![id]);
                while let Some(id) = open.pop() {
                    open.extend(parents(&id).into_iter().filter(|parent| seen.insert(*parent)));
                }
                seen.len()
            }
        };
        weights.insert(id, weight);
        for child in children.get(&id).into_iter().flatten() {
            if let Some(waiting) = waiting.get_mut(child) {
                *waiting -= 1;
                if *waiting == 0 {
                    ready.push(*child);
                }
            }
        }
    }
    match left.keys().filter(|id| !weights.contains_key(*id)).min() {
        Some(id) => Err(BisectError::Cycle(*id)),
        None => Ok(weights),
    }
}

#[cfg(test)]
mod tests;
