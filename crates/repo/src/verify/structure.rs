//! The structure: everything that refs name, each object read once and no block decoded.

use std::collections::HashSet;

use rayon::prelude::*;
use shard_core::Digest;
use shard_core::limits::MAX_DEPTH;
use shard_history::tree::{Tree, TreeNode};
use shard_history::validate_path;
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntryList, EntrySource, StoreError, Target};

use super::{Damage, VerifyReport, with_sources};
use crate::blocks::block_key;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::{Repository, head_of};

/// Manifests that are read side by side before what they list is taken in.
const BATCH: usize = 256;

/// A file that was reached: one of those that have its manifest.
#[derive(Debug, Clone)]
pub(crate) struct ReachedFile {
    /// Where it was seen first.
    pub(crate) path: String,
    pub(crate) manifest: Digest,
    pub(crate) sha256: Digest,
    /// Its blocks in order.
    pub(crate) blocks: Vec<Digest>,
    /// Whether it is more than its blocks one after another.
    pub(crate) is_compressed: bool,
}

/// A file as a tree has it.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct Entry {
    manifest: Digest,
    sha256: Digest,
    size: u64,
}

/// What refs lead to, without files.
#[derive(Default)]
pub(super) struct Followed {
    /// Every commit that could be read, and its tree.
    pub(super) commits: Vec<(Digest, Digest)>,
    /// Trees that refs name themselves, such as the staged one.
    trees: Vec<Digest>,
}

impl Repository {
    /// Follows everything that refs name, and gives the files, each content once.
    pub(super) fn follow_refs(&self, report: &mut VerifyReport, damage: &mut Damage) -> Result<Vec<ReachedFile>> {
        let Followed { commits, trees } = self.follow_commits(report, damage)?;
        let roots = commits.into_iter().map(|(_, tree)| tree).chain(trees).map(|tree| (String::new(), tree));
        let entries = walk_trees(&self.store, roots.collect(), report, damage);
        let named = |(path, Entry { manifest, sha256, size })| Named { path, manifest, sha256, size: Some(size) };
        look_for_blocks(&self.store, entries.into_iter().map(named).collect(), report, damage)
    }

    /// Follows refs and their logs, tags and commits.
    pub(super) fn follow_commits(&self, report: &mut VerifyReport, damage: &mut Damage) -> Result<Followed> {
        let mut objects = Objects::new(&self.store);
        let (mut known, mut followed) = (HashSet::new(), Followed::default());
        // Another error is told below, with its ref.
        if let Err(error @ (RepoError::NoHead { .. } | RepoError::Unfinished(_))) = head_of(&self.store) {
            report.problems.push(error.to_string());
        }
        for (name, state) in self.store.refs().list_each("").map_err(StoreError::from)? {
            report.refs += 1;
            // Older states are the ref's log: a damaged one loses no data, but does not go unseen.
            for older in self.store.refs().log(&name).map_err(StoreError::from)?.skip(1) {
                if let Err(error) = older {
                    report.problems.push(format!("ref {name}: {}", with_sources(&error)));
                }
            }
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    report.problems.push(format!("ref {name}: {}", with_sources(&error)));
                    continue;
                }
            };
            let mut lost = |kind, id, error: RepoError| {
                report.problems.push(format!("ref {name}: {}", with_sources(&error)));
                damage.note(EntryKey::new(kind, id), error);
            };
            let mut open = Vec::new();
            match state.target {
                Target::Commit(id) => open.push(id),
                Target::Tree(id) => followed.trees.push(id),
                Target::Tag(id) => match objects.tag(id) {
                    Ok(tag) => open.push(tag.target),
                    Err(error) => lost(EntryKind::Tag, id, error),
                },
                Target::Symbolic(_) | Target::Deleted => {}
            }
            while let Some(id) = open.pop() {
                if !known.insert(id) {
                    continue;
                }
                match objects.commit(id) {
                    Ok(commit) => {
                        followed.commits.push((id, commit.tree));
                        open.extend(commit.parents);
                    }
                    Err(error) => lost(EntryKind::Commit, id, error),
                }
            }
        }
        report.commits = followed.commits.len() as u64;
        Ok(followed)
    }
}

/// All files below trees, each content once, at the first path that it was seen at. Every tree is read once.
fn walk_trees(
    source: &dyn EntrySource,
    roots: Vec<(String, Digest)>,
    report: &mut VerifyReport,
    damage: &mut Damage,
) -> Vec<(String, Entry)> {
    let mut known: HashSet<Digest> = HashSet::new();
    let mut files: Vec<(String, Entry)> = Vec::new();
    let mut seen: HashSet<Entry> = HashSet::new();
    let mut level = roots;
    while !level.is_empty() {
        level.retain(|(_, id)| known.insert(*id));
        let mut next = Vec::new();
        // As many at once as memory has room for.
        for batch in level.chunks(BATCH) {
            let read = |(path, id): &(String, Digest)| (path.clone(), *id, read_tree(source, path, *id));
            let trees: Vec<_> = batch.par_iter().map(read).collect();
            for (path, id, tree) in trees {
                let tree = match tree {
                    Ok(tree) => tree,
                    Err(error) => {
                        let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
                        report.problems.push(format!("{place}{}", with_sources(&error)));
                        damage.note(EntryKey::new(EntryKind::Tree, id), error);
                        continue;
                    }
                };
                for (name, node) in tree.entries {
                    let below = || if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    match node {
                        TreeNode::Directory(id) if !known.contains(&id) => next.push((below(), id)),
                        TreeNode::Directory(_) => {}
                        TreeNode::File(file) => {
                            let entry = Entry { manifest: file.manifest, sha256: file.sha256, size: file.size };
                            if seen.insert(entry) {
                                files.push((below(), entry));
                            }
                        }
                    }
                }
            }
        }
        level = next;
    }
    files
}

fn read_tree(source: &dyn EntrySource, path: &str, id: Digest) -> Result<Tree> {
    let wrong = |source| RepoError::History { what: "tree", id, source };
    // Paths end, so trees that lead to themselves do too.
    if !path.is_empty() {
        validate_path(path).map_err(|error| wrong(error.into()))?;
    }
    Tree::from_bytes(Objects::new(source).bytes(EntryKind::Tree, id)?).map_err(wrong)
}

/// Reads the manifests of files (path, manifest, the hash that the file should have), and looks for their blocks.
pub(super) fn read_files(
    source: &dyn EntryList,
    files: Vec<(String, Digest, Digest)>,
    report: &mut VerifyReport,
    damage: &mut Damage,
) -> Result<Vec<ReachedFile>> {
    let named = |(path, manifest, sha256)| Named { path, manifest, sha256, size: None };
    look_for_blocks(source, files.into_iter().map(named).collect(), report, damage)
}

/// What names a file. The length is not always known.
struct Named {
    path: String,
    manifest: Digest,
    sha256: Digest,
    size: Option<u64>,
}

/// A block as a file needs it: its length in bytes, and the number of the file.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    id: Digest,
    len: u32,
    file: u32,
}

/// Reads manifests, and checks that the blocks in them are here, as long as they should be, within the depth bound.
fn look_for_blocks(
    source: &dyn EntryList,
    files: Vec<Named>,
    report: &mut VerifyReport,
    damage: &mut Damage,
) -> Result<Vec<ReachedFile>> {
    let mut reached: Vec<ReachedFile> = Vec::with_capacity(files.len());
    let (mut wanted, mut tidy) = (Vec::new(), 1 << 16);
    for batch in files.chunks(BATCH) {
        let manifests: Vec<_> =
            batch.par_iter().map(|named| Objects::new(source).manifest_once(named.manifest)).collect();
        for (Named { path, manifest: id, sha256, size }, manifest) in batch.iter().zip(manifests) {
            let manifest: ContentManifest = match manifest {
                Ok(manifest) => manifest,
                Err(error) => {
                    report.problems.push(format!("{path}: {}", with_sources(&error)));
                    damage.note(EntryKey::new(EntryKind::Manifest, *id), error);
                    continue;
                }
            };
            if manifest.sha256 != *sha256 || size.is_some_and(|size| size != manifest.size) {
                report
                    .problems
                    .push(format!("{path}: its tree and its manifest {id} disagree about its hash or length"));
            }
            let file = reached.len() as u32;
            wanted.extend(manifest.blocks().map(|block| Wanted { id: block.span.id, len: block.span.len, file }));
            reached.push(ReachedFile {
                path: path.clone(),
                manifest: *id,
                sha256: *sha256,
                blocks: manifest.blocks().map(|block| block.span.id).collect(),
                is_compressed: !manifest.compressed.is_empty(),
            });
        }
        // Blocks that many files share are wanted once.
        if wanted.len() > tidy {
            sort(&mut wanted);
            tidy = 2 * wanted.len().max(1 << 16);
        }
    }
    sort(&mut wanted);
    check_blocks(source, &wanted, &reached, report, damage)?;
    Ok(reached)
}

fn sort(wanted: &mut Vec<Wanted>) {
    wanted.sort_unstable();
    wanted.dedup_by(|a, b| (a.id, a.len) == (b.id, b.len));
}

/// Both lists are in the order of the ids, so one pass over each is enough.
fn check_blocks(
    source: &dyn EntryList,
    wanted: &[Wanted],
    files: &[ReachedFile],
    report: &mut VerifyReport,
    damage: &mut Damage,
) -> Result<()> {
    let mut problem = |wanted: &Wanted, what: &str| {
        let path = files.get(wanted.file as usize).map_or("", |file| &file.path);
        report.problems.push(format!("{path}: block {} {what}", wanted.id));
        damage.entries.insert(block_key(wanted.id));
    };
    let mut left = wanted.iter().peekable();
    source.each_best(EntryKind::Block, &mut |copy| {
        let id = copy.location.key.id;
        while let Some(missing) = left.next_if(|wanted| wanted.id < id) {
            problem(missing, "is missing");
        }
        while let Some(wanted) = left.next_if(|wanted| wanted.id == id) {
            if !copy.is_decodable {
                problem(wanted, "leans on blocks that are missing");
            } else if copy.location.depth > MAX_DEPTH {
                problem(wanted, "has a chain of bases that is too long");
            } else if copy.location.raw_len != u64::from(wanted.len) {
                problem(wanted, "has another length than it should");
            }
        }
    })?;
    left.for_each(|missing| problem(missing, "is missing"));
    Ok(())
}
