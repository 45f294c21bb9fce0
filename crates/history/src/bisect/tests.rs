use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use shard_core::{Digest, sha256};

use super::{BisectError, Marks, Next, next};
use crate::dag::{Node, ancestors};
use crate::timestamp::Timestamp;

type Graph = HashMap<Digest, Node>;

fn id(name: usize) -> Digest {
    sha256(&name.to_le_bytes())
}

/// Commits by number: each with its parents.
fn graph(commits: &[&[usize]]) -> Graph {
    let node = |(number, parents): (usize, &&[usize])| {
        let time = Timestamp::from_unix(number as i64, 0).unwrap();
        (id(number), Node { parents: parents.iter().map(|parent| id(*parent)).collect(), time })
    };
    commits.iter().enumerate().map(node).collect()
}

fn ask(graph: &Graph, bad: usize, good: &[usize], skipped: &[usize]) -> Result<Next, BisectError<()>> {
    let marks = Marks {
        tip: id(bad),
        bad: id(bad),
        good: good.iter().map(|good| id(*good)).collect(),
        skipped: skipped.iter().map(|skipped| id(*skipped)).collect(),
    };
    next(&marks, |id| graph.get(id).cloned().ok_or(()))
}

fn line(len: usize) -> Graph {
    let parents: Vec<Vec<usize>> = (0..len).map(|number| number.checked_sub(1).into_iter().collect()).collect();
    graph(&parents.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[test]
fn a_line_is_halved() {
    let line = line(9);
    assert_eq!(ask(&line, 8, &[0], &[]), Ok(Next::Test { commit: id(4), left: 3, steps: 2 }));
    assert_eq!(ask(&line, 4, &[0], &[]), Ok(Next::Test { commit: id(2), left: 1, steps: 1 }));
    assert_eq!(ask(&line, 2, &[0], &[]), Ok(Next::Test { commit: id(1), left: 0, steps: 0 }));
    assert_eq!(ask(&line, 1, &[0], &[]), Ok(Next::Found(id(1))));
    // Without a good commit anything may be the first bad one.
    assert_eq!(ask(&line, 0, &[], &[]), Ok(Next::Found(id(0))));
    // What is skipped is gone around, and in the end it is told that it was.
    assert_eq!(ask(&line, 8, &[0], &[4]), Ok(Next::Test { commit: id(5), left: 4, steps: 3 }));
    assert_eq!(ask(&line, 3, &[0], &[1, 2]), Ok(Next::Undecided(vec![id(3), id(2), id(1)])));
}

#[test]
fn a_merge_counts_both_sides() {
    // 0 - 1 - 2 - 5, and 0 - 3 - 4 - 5.
    let merged = graph(&[&[], &[0], &[1], &[0], &[3], &[2, 4], &[5]]);
    assert_eq!(ask(&merged, 6, &[0], &[]), Ok(Next::Test { commit: id(4), left: 3, steps: 2 }));
    assert_eq!(ask(&merged, 6, &[4], &[]), Ok(Next::Test { commit: id(2), left: 1, steps: 1 }));
}

#[test]
fn a_good_commit_beside_the_line() {
    // 0 - 1 - 2 (bad), and 1 - 3 (good).
    let forked = graph(&[&[], &[0], &[1], &[1]]);
    assert_eq!(ask(&forked, 2, &[3], &[]), Ok(Next::Base(id(1))));
    assert_eq!(ask(&forked, 2, &[3, 1], &[]), Ok(Next::Found(id(2))));
    assert_eq!(ask(&forked, 1, &[3], &[]), Err(BisectError::Mended(id(1))));
    assert_eq!(ask(&forked, 1, &[1], &[]), Err(BisectError::Contradiction(id(1))));
}

#[test]
fn a_history_in_a_circle_ends() {
    let circle = graph(&[&[2], &[0], &[1], &[2]]);
    assert!(matches!(ask(&circle, 3, &[], &[]), Err(BisectError::Cycle(_))));
    assert_eq!(ask(&line(1), 7, &[], &[]), Err(BisectError::Fetch(())));
}

#[test]
fn long_histories_take_no_time() {
    let line = line(20_000);
    assert!(matches!(ask(&line, 19_999, &[0], &[]), Ok(Next::Test { left: 9_998 | 9_999, steps: 14, .. })));
}

proptest! {
    #[test]
    fn the_first_bad_commit_is_found_in_about_as_many_steps_as_halving_takes(
        seeds in prop::collection::vec((any::<u8>(), any::<u8>(), any::<bool>()), 1..60), at: prop::sample::Index,
    ) {
        // Each commit follows one or two of the few before it, so that the last leads to most of them.
        let mut parents: Vec<Vec<usize>> = vec![Vec::new()];
        for (a, b, is_merge) in &seeds {
            let number = parents.len();
            let pick = |seed: u8| number - 1 - usize::from(seed) % number.min(4);
            let mut of = vec![pick(*a)];
            if *is_merge && pick(*b) != pick(*a) {
                of.push(pick(*b));
            }
            parents.push(of);
        }
        let graph = graph(&parents.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let tip = parents.len() - 1;
        let fetch = |id: &Digest| graph.get(id).cloned().ok_or(());
        let mut reached: Vec<Digest> = ancestors(&[id(tip)], fetch).unwrap().into_iter().collect();
        reached.sort();
        let first = reached[at.index(reached.len())];
        let is_bad = |commit: &Digest| ancestors(&[*commit], fetch).unwrap().contains(&first);
        let mut marks = Marks { tip: id(tip), bad: id(tip), good: Vec::new(), skipped: HashSet::new() };
        let mut tests = 0;
        let found = loop {
            match next(&marks, fetch).unwrap() {
                Next::Test { commit, .. } => {
                    tests += 1;
                    if is_bad(&commit) { marks.bad = commit } else { marks.good.push(commit) }
                }
                Next::Found(commit) => break commit,
                other => panic!("{other:?}"),
            }
        };
        prop_assert_eq!(found, first);
        prop_assert!(tests <= 2 * (usize::BITS - reached.len().leading_zeros()), "{} of {}", tests, reached.len());
    }
}
