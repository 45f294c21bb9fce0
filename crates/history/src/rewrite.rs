//! A history without some of its commits: which parents those have that stay.

use std::collections::{HashMap, HashSet};

use shard_core::Digest;

/// A commit that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its id in the old history.
    pub id: Digest,
    /// What it follows now, by old ids: of each parent the nearest commits that stay, each once and none that another one
    /// follows.
    pub parents: Vec<Digest>,
    /// The commits between it and those, nearest first.
    pub absorbed: Vec<Digest>,
}

/// Takes commits out of a history. `order` has every commit with its parents, none before a commit that follows it; parents that
/// are not in it are as if they were not there. Gives the commits that stay, each after those that it follows.
#[must_use]
pub fn relink(order: &[(Digest, Vec<Digest>)], keep: &HashSet<Digest>) -> Vec<Kept> {
    let parents_of: HashMap<Digest, &[Digest]> = order.iter().map(|(id, parents)| (*id, &parents[..])).collect();
    // For each commit the nearest ones that stay, itself included.
    let mut nearest: HashMap<Digest, Vec<Digest>> = HashMap::new();
    let mut new_parents: HashMap<Digest, Vec<Digest>> = HashMap::new();
    let mut kept = Vec::new();
    for (id, parents) in order.iter().rev() {
        let mut found: Vec<Digest> = Vec::new();
        for near in parents.iter().flat_map(|parent| nearest.get(parent).into_iter().flatten()) {
            if !found.contains(near) {
                found.push(*near);
            }
        }
        if found.len() > 1 {
            found = without_followed(found, &new_parents);
        }
        if keep.contains(id) {
            kept.push(Kept { id: *id, parents: found.clone(), absorbed: absorbed(parents, &parents_of, keep) });
            new_parents.insert(*id, found);
            found = vec![*id];
        }
        nearest.insert(*id, found);
    }
    kept
}

/// Those of `ids` that none of the others leads to.
fn without_followed(ids: Vec<Digest>, parents: &HashMap<Digest, Vec<Digest>>) -> Vec<Digest> {
    let mut followed = HashSet::new();
    let mut open: Vec<Digest> = ids.iter().flat_map(|id| parents.get(id).into_iter().flatten()).copied().collect();
    while let Some(id) = open.pop() {
        if followed.insert(id) {
            open.extend(parents.get(&id).into_iter().flatten());
        }
    }
    ids.into_iter().filter(|id| !followed.contains(id)).collect()
}

/// The commits that go, from these parents on down to the first that stay.
fn absorbed(parents: &[Digest], all: &HashMap<Digest, &[Digest]>, keep: &HashSet<Digest>) -> Vec<Digest> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut level: Vec<Digest> = parents.to_vec();
    while !level.is_empty() {
        level.retain(|id| all.contains_key(id) && !keep.contains(id) && seen.insert(*id));
        found.extend(&level);
        level = level.iter().flat_map(|id| all.get(id).copied().unwrap_or_default()).copied().collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_core::sha256;

    fn id(name: &str) -> Digest {
        sha256(name.as_bytes())
    }

    /// Lines such as `d: b c`, newest first.
    fn history(text: &[&str]) -> Vec<(Digest, Vec<Digest>)> {
        let line = |line: &&str| {
            let (name, parents) = line.split_once(':').unwrap();
            (id(name), parents.split_whitespace().map(id).collect())
        };
        text.iter().map(line).collect()
    }

    fn relinked(text: &[&str], keep: &[&str]) -> Vec<(Digest, Vec<Digest>, Vec<Digest>)> {
        let keep = keep.iter().map(|name| id(name)).collect();
        relink(&history(text), &keep).into_iter().map(|kept| (kept.id, kept.parents, kept.absorbed)).collect()
    }

    #[test]
    fn a_line_gets_shorter() {
        let line = ["e:d", "d:c", "c:b", "b:a", "a:"];
        let expected = [(id("b"), vec![], vec![id("a")]), (id("e"), vec![id("b")], vec![id("d"), id("c")])];
        assert_eq!(relinked(&line, &["e", "b"]), expected);
        assert_eq!(relinked(&line, &[]), []);
        assert_eq!(relinked(&line, &["a", "b"]).len(), 2);
    }

    #[test]
    fn merges_keep_what_is_no_ancestor_of_another() {
        // a - b - c - m, a - s - m
        let fork = ["m:c s", "s:a", "c:b", "b:a", "a:"];
        let all = relinked(&fork, &["m", "c", "s", "b", "a"]);
        assert_eq!(all.last().unwrap().1, [id("c"), id("s")]);
        // Both sides come to the same commit.
        assert_eq!(relinked(&fork, &["m", "a"])[1], (id("m"), vec![id("a")], vec![id("c"), id("s"), id("b")]));
        // One side comes to an ancestor of the other.
        assert_eq!(relinked(&fork, &["m", "c", "a"])[2].1, [id("c")]);
        assert_eq!(relinked(&fork, &["m", "s", "c"])[2].1, [id("c"), id("s")]);
        // A commit that is not there is no parent.
        assert_eq!(relinked(&["b:a x"], &["b", "x"])[0].1, []);
    }
}
