//! What one repository has to send so that another one has everything that some commits lead to.

use std::collections::{BTreeSet, HashMap, HashSet};

use shard_core::Digest;
use shard_history::{DagError, HistoryError, Order, Tree, TreeNode, Walk};
use shard_store::{EntryKey, EntryKind, EntrySource, SketchIndex, Target};

use crate::error::{RepoError, Result};
use crate::objects::Objects;

/// Entries that the other side may lack, each once.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// Blocks, in the order in which files have them, older versions first.
    pub(crate) blocks: Vec<Digest>,
    /// All else: what leads to others after them.
    pub(crate) objects: Vec<EntryKey>,
}

/// What `wants` lead to, without what those commits do that `is_there` says the other side has with all that they lead to.
///
/// Where a file was there under the same path, its blocks are left out too; of others the other side has to be asked. Sketches are
/// needed where an index of them is given.
///
/// # Errors
/// What cannot be read.
pub(crate) fn needed(
    source: &dyn EntrySource,
    sketches: Option<&SketchIndex<'_>>,
    wants: &[Target],
    is_there: &mut dyn FnMut(&Digest) -> Result<bool>,
) -> Result<Needed> {
    let Commits { new: commits, edge, trees: trees_of, tags } = commits(source, wants, is_there)?;
    let mut below = Below { sketches, objects: Objects::new(source), seen: HashSet::new(), before: HashMap::new() };
    for tree in edge.iter().filter_map(|id| trees_of.get(id)) {
        below.skip(*tree)?;
    }
    let mut found = Needed::default();
    let mut trees = Vec::new();
    for tree in commits.iter().filter_map(|id| trees_of.get(id)) {
        below.take(*tree, &mut found, &mut trees)?;
    }
    found.objects.extend(trees);
    found.objects.extend(commits.iter().map(|id| EntryKey::new(EntryKind::Commit, *id)));
    found.objects.extend(tags);
    Ok(found)
}

/// The commits among what `wants` lead to that are not there, older ones first.
///
/// # Errors
/// What cannot be read.
pub(crate) fn new_commits(
    source: &dyn EntrySource,
    wants: &[Target],
    is_there: &mut dyn FnMut(&Digest) -> Result<bool>,
) -> Result<Vec<Digest>> {
    Ok(commits(source, wants, is_there)?.new)
}

/// Commits that something leads to.
struct Commits {
    /// Those that are not there, older ones first.
    new: Vec<Digest>,
    /// Those that are, and were met first.
    edge: HashSet<Digest>,
    /// The trees of both.
    trees: HashMap<Digest, Digest>,
    /// The tags on the way.
    tags: BTreeSet<EntryKey>,
}

fn commits(
    source: &dyn EntrySource,
    wants: &[Target],
    is_there: &mut dyn FnMut(&Digest) -> Result<bool>,
) -> Result<Commits> {
    let mut objects = Objects::new(source);
    let (mut tips, mut tags) = (Vec::new(), BTreeSet::new());
    for want in wants {
        match want {
            Target::Commit(id) => tips.push(*id),
            Target::Tag(id) => {
                tags.insert(EntryKey::new(EntryKind::Tag, *id));
                tips.push(objects.tag(*id)?.target);
            }
            Target::Tree(_) | Target::Symbolic(_) | Target::Deleted => {}
        }
    }
    let (mut trees, mut edge) = (HashMap::new(), HashSet::new());
    let fetch = |id: &Digest| -> Result<_> {
        let commit = objects.commit(*id)?;
        let mut node = commit.node().map_err(|source| RepoError::History { what: "commit", id: *id, source })?;
        if is_there(id)? {
            edge.insert(*id);
            node.parents.clear();
        }
        trees.insert(*id, commit.tree);
        Ok(node)
    };
    let walk = Walk::new(&tips, Order::Topological, fetch);
    let mut new = walk.collect::<std::result::Result<Vec<Digest>, DagError<RepoError>>>()?;
    new.retain(|id| !edge.contains(id));
    new.reverse();
    Ok(Commits { new, edge, trees, tags })
}

/// Goes through trees, each once.
struct Below<'a> {
    sketches: Option<&'a SketchIndex<'a>>,
    objects: Objects<'a>,
    /// Trees, manifests and blocks that were met.
    seen: HashSet<EntryKey>,
    /// The manifests that a path had in the commits that the other side has.
    before: HashMap<String, Vec<Digest>>,
}

impl Below<'_> {
    /// Everything below a tree is there.
    fn skip(&mut self, root: Digest) -> Result<()> {
        let mut open = vec![(String::new(), root)];
        while let Some((path, id)) = open.pop() {
            if !self.seen.insert(EntryKey::new(EntryKind::Tree, id)) {
                continue;
            }
            for (name, node) in self.tree(id)?.entries {
                let path = join(&path, name);
                match node {
                    TreeNode::Directory(id) => open.push((path, id)),
                    TreeNode::File(file) => {
                        self.seen.insert(EntryKey::new(EntryKind::Manifest, file.manifest));
                        self.before.entry(path).or_default().push(file.manifest);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what is new below a tree; trees go to a list of their own, each after those in it.
    fn take(&mut self, root: Digest, found: &mut Needed, trees: &mut Vec<EntryKey>) -> Result<()> {
        let start = trees.len();
        let mut open = vec![(String::new(), root)];
        while let Some((path, id)) = open.pop() {
            let key = EntryKey::new(EntryKind::Tree, id);
            if !self.seen.insert(key) {
                continue;
            }
            trees.push(key);
            for (name, node) in self.tree(id)?.entries {
                let path = join(&path, name);
                match node {
                    TreeNode::Directory(id) => open.push((path, id)),
                    TreeNode::File(file) => {
                        if self.seen.insert(EntryKey::new(EntryKind::Manifest, file.manifest)) {
                            self.manifest(&path, file.manifest, found)?;
                        }
                    }
                }
            }
        }
        trees[start..].reverse();
        Ok(())
    }

    fn manifest(&mut self, path: &str, id: Digest, found: &mut Needed) -> Result<()> {
        for before in self.before.remove(path).unwrap_or_default() {
            for block in self.objects.manifest_once(before)?.blocks() {
                self.seen.insert(EntryKey::block(block.span.id));
            }
        }
        for block in self.objects.manifest_once(id)?.blocks() {
            if self.seen.insert(EntryKey::block(block.span.id)) {
                found.blocks.push(block.span.id);
            }
        }
        found.objects.push(EntryKey::new(EntryKind::Manifest, id));
        // What tells relatives apart is small, and as long to compute again as the file is.
        if let Some(sketches) = self.sketches
            && let Some(known) = sketches.of_manifest(&id)?
        {
            found.objects.push(EntryKey::new(EntryKind::Sketch, known.sketch));
        }
        Ok(())
    }

    fn tree(&mut self, id: Digest) -> Result<Tree> {
        let malformed = |source: HistoryError| RepoError::History { what: "tree", id, source };
        Tree::from_bytes(self.objects.bytes(EntryKind::Tree, id)?).map_err(malformed)
    }
}

fn join(folder: &str, name: String) -> String {
    if folder.is_empty() { name } else { format!("{folder}/{name}") }
}
