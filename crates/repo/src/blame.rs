//! `blame`: the commit that last changed each tensor of a file. Manifests say it, and nothing is decoded.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use shard_core::Digest;
use shard_history::blame::{Followed, blame};
use shard_history::glob::Glob;
use shard_history::{Commit, FileTree, Node, Revision, TreeNode, in_model_order, roll_up};

use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::Repository;
use crate::tensor_keys::{KeyedTensor, KeyedTensors, TensorKeys};

/// A tensor, and the commit that made it what it is.
#[derive(Debug, Clone)]
pub struct BlameLine {
    /// The tensor's name in the file that was asked about.
    pub tensor: String,
    /// The commit.
    pub id: Digest,
    /// What it says.
    pub commit: Rc<Commit>,
    /// The file that the commit has the tensor in.
    pub path: String,
    /// What the tensor is called there.
    pub name: String,
}

/// Where a commit has a tensor.
#[derive(Clone)]
struct Place {
    path: Rc<str>,
    manifest: Digest,
    index: usize,
}

impl Repository {
    /// For each tensor of a file of a revision the commit that last changed it, in the model's order; only for those whose names
    /// match `pattern`, where it is given. Tensors are followed by type, shape and content, into files that were renamed, split or
    /// joined, and under other names.
    ///
    /// # Errors
    /// An unknown revision or path, a file without such tensors, what cannot be read.
    pub fn blame(&self, revision: &Revision, path: &str, pattern: Option<&Glob>) -> Result<Vec<BlameLine>> {
        let start = self.resolve_revision(revision)?;
        let entry = self.file_at(revision, path)?;
        let tracer = RefCell::new(Tracer::new(self));
        let path: Rc<str> = path.into();
        let all = tracer.borrow_mut().keys(entry.manifest)?;
        let wanted = |tensor: &KeyedTensor| pattern.is_none_or(|pattern| pattern.matches(&tensor.name));
        let places: Vec<Place> = (0..all.tensors.len())
            .filter(|index| all.tensors.get(*index).is_some_and(wanted))
            .map(|index| Place { path: Rc::clone(&path), manifest: entry.manifest, index })
            .collect();
        let names: Vec<String> =
            places.iter().filter_map(|place| all.tensors.get(place.index)).map(|tensor| tensor.name.clone()).collect();
        if names.is_empty() {
            let what = if pattern.is_some() { "no tensor of that name" } else { "no tensors" };
            return Err(RepoError::NothingToDo(format!("{revision}:{path} has {what}")));
        }
        // Where each was found last.
        let found = RefCell::new(places.clone());
        let fetch = |id: &Digest| -> Result<Node> {
            let node = tracer.borrow_mut().commit(*id)?.node();
            node.map_err(|source| RepoError::History { what: "commit", id: *id, source })
        };
        let trace = |commit: &Digest, parent: &Digest, things: &[Followed<Place>]| -> Result<Vec<Option<Place>>> {
            let places = tracer.borrow_mut().trace(*commit, *parent, things)?;
            for ((thing, _), place) in things.iter().zip(&places) {
                if let (Some(found), Some(place)) = (found.borrow_mut().get_mut(*thing), place) {
                    found.clone_from(place);
                }
            }
            Ok(places)
        };
        let blamed = blame(start, places, fetch, trace)?;
        let (mut tracer, found) = (tracer.into_inner(), found.into_inner());
        let mut lines: Vec<Option<BlameLine>> = Vec::with_capacity(blamed.len());
        for ((id, place), tensor) in blamed.into_iter().zip(found).zip(&names) {
            let there = tracer.keys(place.manifest)?;
            let name = there.tensors.get(place.index).map_or_else(String::new, |there| there.name.clone());
            let (commit, path) = (tracer.commit(id)?, place.path.to_string());
            lines.push(Some(BlameLine { tensor: tensor.clone(), id, commit, path, name }));
        }
        let mut layers = roll_up(names.iter().map(String::as_str));
        in_model_order(&mut layers);
        let order = layers.into_iter().flat_map(|layer| layer.tensors);
        Ok(order.filter_map(|index| lines.get_mut(index).and_then(Option::take)).collect())
    }
}

/// Looks for tensors in the parents of commits.
struct Tracer<'a> {
    objects: Objects<'a>,
    keys: TensorKeys,
    commits: HashMap<Digest, Rc<Commit>>,
}

impl<'a> Tracer<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self { objects: repository.objects(), keys: TensorKeys::default(), commits: HashMap::new() }
    }

    fn keys(&mut self, manifest: Digest) -> Result<Arc<KeyedTensors>> {
        self.keys.of(manifest, &mut self.objects)
    }

    fn commit(&mut self, id: Digest) -> Result<Rc<Commit>> {
        if let Some(commit) = self.commits.get(&id) {
            return Ok(Rc::clone(commit));
        }
        let commit = Rc::new(self.objects.commit(id)?);
        self.commits.insert(id, Rc::clone(&commit));
        Ok(commit)
    }

    /// Where the parent of a commit has the same tensors.
    fn trace(&mut self, commit: Digest, parent: Digest, things: &[Followed<Place>]) -> Result<Vec<Option<Place>>> {
        let (tree, parent_tree) = (self.commit(commit)?.tree, self.commit(parent)?.tree);
        if tree == parent_tree {
            return Ok(things.iter().map(|(_, place)| Some(place.clone())).collect());
        }
        let mut at_path: BTreeMap<Rc<str>, Option<Digest>> = BTreeMap::new();
        let mut found: Vec<Option<Place>> = Vec::with_capacity(things.len());
        for (_, place) in things {
            let same_path = match at_path.get(&place.path) {
                Some(manifest) => *manifest,
                None => {
                    let manifest = match self.objects.lookup(parent_tree, &place.path)? {
                        Some(TreeNode::File(entry)) => Some(entry.manifest),
                        _ => None,
                    };
                    at_path.insert(Rc::clone(&place.path), manifest);
                    manifest
                }
            };
            found.push(match same_path {
                Some(manifest) if manifest == place.manifest => Some(place.clone()),
                Some(manifest) => self.find(place, &place.path, manifest)?,
                None => None,
            });
        }
        if found.iter().all(Option::is_some) {
            return Ok(found);
        }
        // What is not in the file of that name may be in one that the commit renamed, split, joined or took away.
        let (after, before) = (self.objects.file_tree(tree)?, self.objects.file_tree(parent_tree)?);
        for (path, manifest) in gone(&before, &after).filter(|(path, _)| !at_path.contains_key(path.as_str())) {
            let path: Rc<str> = path.as_str().into();
            for ((_, place), found) in things.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                *found = self.find(place, &path, manifest)?;
            }
        }
        Ok(found)
    }

    /// Where a file has the tensor of a place.
    fn find(&mut self, place: &Place, path: &Rc<str>, manifest: Digest) -> Result<Option<Place>> {
        let (own, other) = (self.keys(place.manifest)?, self.keys(manifest)?);
        let index = own.tensors.get(place.index).and_then(|tensor| other.find(tensor));
        Ok(index.map(|index| Place { path: Rc::clone(path), manifest, index }))
    }
}

/// The files of one tree that are not in another as they are.
fn gone<'a>(before: &'a FileTree, after: &'a FileTree) -> impl Iterator<Item = (&'a String, Digest)> {
    let other = |path: &str| after.get(path).map(|entry| entry.manifest);
    before
        .files()
        .iter()
        .map(|(path, entry)| (path, entry.manifest))
        .filter(move |(path, manifest)| other(path) != Some(*manifest))
}
