//! Walks of the commit graph. Nothing here recurses or trusts the graph to be acyclic: nodes come from the caller's `fetch`,
//! which may read them from anywhere.

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use shard_core::Digest;
use thiserror::Error;

use crate::timestamp::Timestamp;

/// A commit as the graph sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Ids of the parents.
    pub parents: Vec<Digest>,
    /// When the commit was made.
    pub time: Timestamp,
}

/// A walk that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DagError<E> {
    /// What the caller's closure said.
    #[error(transparent)]
    Fetch(E),
    /// A commit that is its own ancestor, which only a damaged or forged history has.
    #[error("the commit {0} is its own ancestor")]
    Cycle(Digest),
}

/// In which order a walk goes, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// All ancestors; no commit before its children, otherwise the newest first.
    Topological,
    /// Only first parents, from the first start.
    FirstParent,
}

/// A walk over commits, each once, as an iterator of ids. After an error it is over.
///
/// Where the history is a line, commits are fetched one by one as they are asked for. From the first fork on, all that is
/// left is fetched before the next commit is given, because only then is it known that none of its children is missing.
#[derive(Debug)]
pub struct Walk<F> {
    fetch: F,
    order: Order,
    hidden: HashSet<Digest>,
    /// Commits that may come next, while they have not been explored.
    frontier: Vec<Digest>,
    explored: Option<Explored>,
    given: HashSet<Digest>,
}

/// The part of the graph that is still to come.
#[derive(Debug, Default)]
struct Explored {
    nodes: HashMap<Digest, Node>,
    /// How many children of a commit have not been given yet.
    children: HashMap<Digest, usize>,
    /// Commits without such children.
    ready: BinaryHeap<(Timestamp, Digest)>,
}

impl<E, F: FnMut(&Digest) -> Result<Node, E>> Walk<F> {
    /// A walk from `starts` on.
    pub fn new(starts: &[Digest], order: Order, fetch: F) -> Self {
        let mut frontier: Vec<Digest> = Vec::new();
        for start in starts {
            if !frontier.contains(start) {
                frontier.push(*start);
            }
        }
        if order == Order::FirstParent {
            frontier.truncate(1);
        }
        Self { fetch, order, hidden: HashSet::new(), frontier, explored: None, given: HashSet::new() }
    }

    /// Leaves out `tips` and all their ancestors, for ranges such as `A..B`.
    ///
    /// # Errors
    /// What `fetch` says.
    pub fn hide(&mut self, tips: &[Digest]) -> Result<(), DagError<E>> {
        self.hidden.extend(ancestors(tips, &mut self.fetch).map_err(DagError::Fetch)?);
        let hidden = &self.hidden;
        self.frontier.retain(|id| !hidden.contains(id));
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Digest>, DagError<E>> {
        if self.explored.is_none() && self.frontier.len() > 1 {
            self.explored = Some(self.explore()?);
        }
        match &mut self.explored {
            None => {
                let Some(id) = self.frontier.pop() else { return Ok(None) };
                if !self.given.insert(id) {
                    return Err(DagError::Cycle(id));
                }
                let node = (self.fetch)(&id).map_err(DagError::Fetch)?;
                let most = if self.order == Order::FirstParent { 1 } else { usize::MAX };
                for parent in node.parents.iter().take(most) {
                    if !self.hidden.contains(parent) && !self.frontier.contains(parent) {
                        self.frontier.push(*parent);
                    }
                }
                Ok(Some(id))
            }
            Some(explored) => {
                let Some((_, id)) = explored.ready.pop() else {
                    // What is left has children that never come: they are its ancestors.
                    return match explored.nodes.keys().min() {
                        Some(id) => Err(DagError::Cycle(*id)),
                        None => Ok(None),
                    };
                };
                let node = explored.nodes.remove(&id);
                for parent in node.iter().flat_map(|node| &node.parents) {
                    let Some(children) = explored.children.get_mut(parent) else { continue };
                    *children -= 1;
                    if let (0, Some(node)) = (*children, explored.nodes.get(parent)) {
                        explored.ready.push((node.time, *parent));
                    }
                }
                Ok(Some(id))
            }
        }
    }

    /// Fetches all that can be reached from the frontier.
    fn explore(&mut self) -> Result<Explored, DagError<E>> {
        let mut explored = Explored::default();
        let mut open = std::mem::take(&mut self.frontier);
        while let Some(id) = open.pop() {
            if self.hidden.contains(&id) || explored.nodes.contains_key(&id) {
                continue;
            }
            if self.given.contains(&id) {
                return Err(DagError::Cycle(id));
            }
            let node = (self.fetch)(&id).map_err(DagError::Fetch)?;
            explored.children.entry(id).or_default();
            for parent in node.parents.iter().filter(|parent| !self.hidden.contains(*parent)) {
                *explored.children.entry(*parent).or_default() += 1;
                open.push(*parent);
            }
            explored.nodes.insert(id, node);
        }
        for (id, node) in &explored.nodes {
            if explored.children.get(id) == Some(&0) {
                explored.ready.push((node.time, *id));
            }
        }
        Ok(explored)
    }
}

impl<E, F: FnMut(&Digest) -> Result<Node, E>> Iterator for Walk<F> {
    type Item = Result<Digest, DagError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if matches!(step, Some(Err(_))) {
            self.frontier.clear();
            self.explored = None;
        }
        step
    }
}

/// All ancestors of `starts`, themselves included.
///
/// # Errors
/// What `fetch` says.
pub fn ancestors<E>(
    starts: &[Digest],
    mut fetch: impl FnMut(&Digest) -> Result<Node, E>,
) -> Result<HashSet<Digest>, E> {
    let mut seen = HashSet::new();
    let mut open = starts.to_vec();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(fetch(&id)?.parents);
        }
    }
    Ok(seen)
}

/// A commit and its ancestors one by one, near ones first.
#[derive(Debug)]
pub(crate) struct Nearest {
    seen: HashSet<Digest>,
    open: VecDeque<Digest>,
    /// The commit given last: its parents are fetched only when more is asked for.
    last: Option<Digest>,
}

impl Nearest {
    pub(crate) fn new(start: Digest) -> Self {
        Self { seen: HashSet::new(), open: VecDeque::from([start]), last: None }
    }

    pub(crate) fn next<E>(&mut self, mut fetch: impl FnMut(&Digest) -> Result<Node, E>) -> Result<Option<Digest>, E> {
        if let Some(last) = self.last.take() {
            self.open.extend(fetch(&last)?.parents);
        }
        while let Some(id) = self.open.pop_front() {
            if self.seen.insert(id) {
                self.last = Some(id);
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

/// Whether `ancestor` is `descendant` or one of its ancestors.
///
/// # Errors
/// What `fetch` says.
pub fn is_ancestor<E>(
    ancestor: &Digest,
    descendant: &Digest,
    mut fetch: impl FnMut(&Digest) -> Result<Node, E>,
) -> Result<bool, E> {
    // The commit asked for is mostly near.
    let mut nearest = Nearest::new(*descendant);
    while let Some(id) = nearest.next(&mut fetch)? {
        if id == *ancestor {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The best common ancestors of two commits: those that are no ancestor of another one. The newest first; more than one after
/// merges in both directions, none for histories that share nothing.
///
/// # Errors
/// What `fetch` says.
pub fn merge_bases<E>(
    a: &Digest,
    b: &Digest,
    mut fetch: impl FnMut(&Digest) -> Result<Node, E>,
) -> Result<Vec<Digest>, E> {
    let of_a = ancestors(&[*a], &mut fetch)?;
    let mut common: HashMap<Digest, Node> = HashMap::new();
    let mut seen = HashSet::new();
    let mut open = vec![*b];
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let node = fetch(&id)?;
            open.extend(&node.parents);
            if of_a.contains(&id) {
                common.insert(id, node);
            }
        }
    }
    // Parents of common ancestors are common ancestors, so a better one is always a child.
    let worse: HashSet<Digest> = common.values().flat_map(|node| node.parents.iter().copied()).collect();
    let mut best: Vec<(Timestamp, Digest)> =
        common.iter().filter(|(id, _)| !worse.contains(*id)).map(|(id, node)| (node.time, *id)).collect();
    best.sort_unstable_by(|x, y| y.cmp(x));
    Ok(best.into_iter().map(|(_, id)| id).collect())
}

/// The best common ancestor of two commits, the newest where there are several.
///
/// # Errors
/// What `fetch` says.
pub fn merge_base<E>(
    a: &Digest,
    b: &Digest,
    fetch: impl FnMut(&Digest) -> Result<Node, E>,
) -> Result<Option<Digest>, E> {
    Ok(merge_bases(a, b, fetch)?.first().copied())
}

/// How many commits `a` has that `b` has not, and the other way round.
///
/// # Errors
/// What `fetch` says.
pub fn ahead_behind<E>(
    a: &Digest,
    b: &Digest,
    mut fetch: impl FnMut(&Digest) -> Result<Node, E>,
) -> Result<(usize, usize), E> {
    let of_a = ancestors(&[*a], &mut fetch)?;
    let of_b = ancestors(&[*b], &mut fetch)?;
    Ok((of_a.difference(&of_b).count(), of_b.difference(&of_a).count()))
}

#[cfg(test)]
mod tests;
