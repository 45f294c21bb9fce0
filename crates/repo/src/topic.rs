//! The log of a path, or of tensors: which commits changed them.

use std::collections::HashMap;

use shard_core::{Digest, Sha256, sha256};
use shard_history::glob::Glob;
use shard_history::simplify::{Simplified, simplify};
use shard_history::{Commit, Node, Order, TreeNode, Walk};

use crate::error::{RepoError, Result};
use crate::log::LogEntry;
use crate::objects::Objects;
use crate::repository::Repository;
use crate::tensor_keys::TensorKeys;

/// What a log is about.
#[derive(Debug, Clone)]
pub enum Topic {
    /// Everything.
    All,
    /// A file, or a folder and all below it.
    Path(String),
    /// Tensors by name and content, whatever file they are in: those whose names match, of the files at or below a path, which
    /// is empty for all files.
    Tensors(Glob, String),
}

/// A commit of a log, and the commits of the log that it follows.
#[derive(Debug, Clone)]
pub struct LoggedCommit {
    /// The commit.
    pub entry: LogEntry,
    /// Its parents; where a log is about something, the nearest of their ancestors that are in it.
    pub parents: Vec<Digest>,
}

impl Repository {
    /// Commits reachable from `from` that changed something, newest first and none before a commit that follows it, at most `most`.
    /// Of merges only those are given in which it is as in no parent, as Git does.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn log_of(&self, from: Digest, topic: &Topic, most: usize) -> Result<Vec<LogEntry>> {
        let history = History::new(self, topic);
        let mut entries = Vec::new();
        history.walk(from, most, |id, read| entries.push(LogEntry { id, commit: read.commit.clone() }))?;
        Ok(entries)
    }

    /// The same, with the commits of the log that each follows: for a graph.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn log_graph(&self, from: Digest, topic: &Topic, most: usize) -> Result<Vec<LoggedCommit>> {
        let history = History::new(self, topic);
        let mut found: Vec<(LogEntry, Vec<Digest>)> = Vec::new();
        history.walk(from, most, |id, read| {
            found.push((LogEntry { id, commit: read.commit.clone() }, read.follow.clone()));
        })?;
        let mut state = history.0.into_inner();
        let mut shown: HashMap<Digest, Option<Digest>> = HashMap::new();
        let mut commits = Vec::with_capacity(found.len());
        for (entry, follow) in found {
            let mut parents = Vec::new();
            for parent in follow {
                let nearest = state.nearest_shown(parent, &mut shown)?;
                parents.extend(nearest.filter(|nearest| !parents.contains(nearest)));
            }
            commits.push(LoggedCommit { entry, parents });
        }
        Ok(commits)
    }
}

struct History<'a>(std::cell::RefCell<State<'a>>);

/// A commit that was looked at.
struct Read {
    commit: Commit,
    is_shown: bool,
    follow: Vec<Digest>,
}

struct State<'a> {
    topic: &'a Topic,
    objects: Objects<'a>,
    keys: TensorKeys,
    /// What a tree has of the topic; `None` for nothing.
    of_tree: HashMap<Digest, Option<Digest>>,
    read: HashMap<Digest, Read>,
}

impl<'a> History<'a> {
    fn new(repository: &'a Repository, topic: &'a Topic) -> Self {
        let (keys, objects) = (TensorKeys::default(), repository.objects());
        Self(State { topic, objects, keys, of_tree: HashMap::new(), read: HashMap::new() }.into())
    }

    fn walk(&self, from: Digest, most: usize, mut give: impl FnMut(Digest, &Read)) -> Result<()> {
        let fetch = |id: &Digest| -> Result<Node> {
            let mut state = self.0.borrow_mut();
            let read = state.read(*id)?;
            let time = read.commit.time().map_err(|source| RepoError::History { what: "commit", id: *id, source })?;
            Ok(Node { parents: read.follow.clone(), time })
        };
        let mut given = 0;
        let mut walk = Walk::new(&[from], Order::Topological, fetch);
        while given < most {
            let Some(id) = walk.next() else { break };
            let id = id?;
            let mut state = self.0.borrow_mut();
            let read = state.read(id)?;
            if read.is_shown {
                give(id, read);
                given += 1;
            }
        }
        Ok(())
    }
}

impl State<'_> {
    fn read(&mut self, id: Digest) -> Result<&Read> {
        if !self.read.contains_key(&id) {
            let commit = self.objects.commit(id)?;
            let simplified = match self.topic {
                Topic::All => Simplified { is_shown: true, follow: (0..commit.parents.len()).collect() },
                _ => {
                    let own = self.of_tree(commit.tree)?;
                    let mut parents = Vec::with_capacity(commit.parents.len());
                    for parent in &commit.parents {
                        let tree = match self.read.get(parent) {
                            Some(read) => read.commit.tree,
                            None => self.objects.commit(*parent)?.tree,
                        };
                        parents.push(self.of_tree(tree)?);
                    }
                    simplify(own.as_ref(), &parents)
                }
            };
            let follow = simplified.follow.iter().filter_map(|index| commit.parents.get(*index)).copied().collect();
            self.read.insert(id, Read { commit, is_shown: simplified.is_shown, follow });
        }
        self.read.get(&id).ok_or(RepoError::Internal("a commit that was just read is gone"))
    }

    /// What a tree has of the topic, as a digest.
    fn of_tree(&mut self, tree: Digest) -> Result<Option<Digest>> {
        if let Some(known) = self.of_tree.get(&tree) {
            return Ok(*known);
        }
        let found = match self.topic {
            Topic::All => Some(tree),
            Topic::Path(path) => self.objects.lookup(tree, path)?.map(|node| match node {
                TreeNode::Directory(tree) => tree,
                TreeNode::File(entry) => {
                    sha256(format!("{} {} {}", entry.mode.as_str(), entry.sha256, entry.manifest).as_bytes())
                }
            }),
            Topic::Tensors(pattern, path) => {
                let files = self.objects.file_tree(tree)?;
                let at = files.get(path).into_iter();
                let mut keys = Vec::new();
                for entry in at.chain(files.below(path).map(|(_, entry)| entry)) {
                    let keyed = self.keys.of(entry.manifest, &mut self.objects)?;
                    let wanted = keyed.tensors.iter().filter(|tensor| pattern.matches(&tensor.name));
                    keys.extend(wanted.map(|tensor| (tensor.name.clone(), tensor.key)));
                }
                keys.sort_unstable();
                let mut hash = Sha256::new();
                for (name, key) in &keys {
                    hash.update(&(name.len() as u64).to_le_bytes());
                    hash.update(name.as_bytes());
                    hash.update(&key.0);
                }
                (!keys.is_empty()).then(|| hash.finish())
            }
        };
        self.of_tree.insert(tree, found);
        Ok(found)
    }

    /// The nearest commit of the log on the way down from one, itself included. Commits that are not in it follow one parent.
    fn nearest_shown(&mut self, from: Digest, known: &mut HashMap<Digest, Option<Digest>>) -> Result<Option<Digest>> {
        let (mut at, mut passed) = (Some(from), Vec::new());
        let nearest = loop {
            let Some(id) = at else { break None };
            if let Some(nearest) = known.get(&id) {
                break *nearest;
            }
            let read = self.read(id)?;
            if read.is_shown {
                break Some(id);
            }
            at = read.follow.first().copied();
            passed.push(id);
            // Until more is known: this ends histories in a circle.
            known.insert(id, None);
        };
        known.extend(passed.into_iter().map(|id| (id, nearest)));
        Ok(nearest)
    }
}
