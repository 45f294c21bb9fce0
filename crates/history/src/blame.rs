//! Which commit last changed each of several things: they are followed from a commit to its parents as long as they are there.

use std::collections::HashMap;

use shard_core::Digest;

use crate::dag::{DagError, Node, Order, Walk};

/// A thing, by its number, and where a commit has it.
pub type Followed<L> = (usize, L);

/// The commit that last changed each thing, in the order of `things`, which says where the commit `start` has them.
///
/// `trace` is asked where the parent of a commit has the same things, unchanged: for each it gives the place there, or `None`.
/// What no parent has was changed by the commit. Of several parents that have it the first is followed.
///
/// # Errors
/// What the closures say; a history in a circle.
pub fn blame<L, E>(
    start: Digest,
    things: Vec<L>,
    mut fetch: impl FnMut(&Digest) -> Result<Node, E>,
    mut trace: impl FnMut(&Digest, &Digest, &[Followed<L>]) -> Result<Vec<Option<L>>, E>,
) -> Result<Vec<Digest>, DagError<E>> {
    let mut blamed = vec![start; things.len()];
    let mut left = things.len();
    let mut pending: HashMap<Digest, Vec<Followed<L>>> = HashMap::new();
    pending.insert(start, things.into_iter().enumerate().collect());
    let mut parents: HashMap<Digest, Vec<Digest>> = HashMap::new();
    let nodes = std::cell::RefCell::new(&mut parents);
    let walk = Walk::new(&[start], Order::Topological, |id: &Digest| {
        let node = fetch(id)?;
        nodes.borrow_mut().insert(*id, node.parents.clone());
        Ok(node)
    });
    for commit in walk {
        let commit = commit?;
        let parents = nodes.borrow_mut().remove(&commit).unwrap_or_default();
        let Some(mut here) = pending.remove(&commit) else { continue };
        for parent in parents {
            if here.is_empty() {
                break;
            }
            let places = trace(&commit, &parent, &here).map_err(DagError::Fetch)?;
            let mut kept = Vec::new();
            let at_parent = pending.entry(parent).or_default();
            let mut places = places.into_iter();
            for (thing, place) in here {
                match places.next().flatten() {
                    Some(earlier) => at_parent.push((thing, earlier)),
                    None => kept.push((thing, place)),
                }
            }
            here = kept;
        }
        for (thing, _) in here {
            if let Some(blamed) = blamed.get_mut(thing) {
                *blamed = commit;
            }
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    Ok(blamed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::Timestamp;
    use shard_core::sha256;

    fn id(number: usize) -> Digest {
        sha256(&number.to_le_bytes())
    }

    /// Commits with their parents and what they hold; a thing is unchanged where a parent holds the same letter.
    fn run(commits: &[(&[usize], &str)], start: usize) -> (Vec<usize>, usize) {
        let number = |digest: &Digest| (0..commits.len()).find(|number| id(*number) == *digest).unwrap();
        let fetched = std::cell::Cell::new(0);
        let fetch = |digest: &Digest| -> Result<Node, ()> {
            fetched.set(fetched.get() + 1);
            let parents = commits[number(digest)].0.iter().map(|parent| id(*parent)).collect();
            Ok(Node { parents, time: Timestamp::from_unix(number(digest) as i64, 0).unwrap() })
        };
        let trace = |_: &Digest, parent: &Digest, things: &[Followed<char>]| {
            let held = commits[number(parent)].1;
            Ok(things.iter().map(|(_, letter)| held.contains(*letter).then_some(*letter)).collect())
        };
        let blamed = blame(id(start), commits[start].1.chars().collect(), fetch, trace).unwrap();
        (blamed.iter().map(number).collect(), fetched.get())
    }

    #[test]
    fn along_a_line_and_no_further_than_needed() {
        let line: &[(&[usize], &str)] = &[(&[], "a"), (&[0], "ab"), (&[1], "ac"), (&[2], "bc"), (&[3], "dce")];
        assert_eq!(run(line, 3), (vec![3, 2], 2));
        assert_eq!(run(line, 2), (vec![0, 2], 3));
        assert_eq!(run(line, 4).0, [4, 2, 4]);
        assert_eq!(run(&[(&[], "")], 0), (vec![], 1));
    }

    #[test]
    fn through_both_sides_of_a_merge() {
        let merge: &[(&[usize], &str)] = &[(&[], "a"), (&[0], "ab"), (&[0], "ac"), (&[1, 2], "abcd")];
        assert_eq!(run(merge, 3).0, [0, 1, 2, 3]);
    }
}
