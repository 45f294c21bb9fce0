//! The structure: everything that refs name, each object read once and no block decoded.
//!
//! Earlier states of refs are followed as well, all that are there: logs and `undo` lead back to them, and a collection takes
//! those for roots that it was told to, and removes the others before anything that only they lead to.

use std::collections::HashSet;

use rayon::prelude::*;
use shard_core::Digest;
use shard_core::limits::MAX_DEPTH;
use shard_history::tree::{Tree, TreeNode};
use shard_history::validate_path;
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntryList, EntrySource, RefError, RefState, StoreError, Target};

use super::{Damage, VerifyReport, with_sources};
use crate::blocks::block_key;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::{HEADS, Repository, TAGS, head_of};

/// Manifests that are read side by side before what they list is taken in.
const BATCH: usize = 256;

/// A file that was reached: one of those that have its manifest.
#[derive(Debug, Clone)]
pub(crate) struct ReachedFile {
    /// Where it was seen first, with what leads there where only an earlier state of a ref does.
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

/// The state of a ref that leads to something: one that nothing before it led to.
#[derive(Clone, Copy)]
struct Origin {
    /// The ref, by its place among the names.
    name: u32,
    /// How many states came after it: 0 for the present one.
    age: u32,
}

impl Origin {
    /// What is said before a problem that only an earlier state has; nothing where the present one does.
    fn prefix(self, names: &[String]) -> String {
        let (Some(name), 1..) = (names.get(self.name as usize), self.age) else { return String::new() };
        match name.starts_with(HEADS) || name.starts_with(TAGS) {
            true => format!("an earlier state of {name} ({name}@{{{}}}) needs it: ", self.age),
            // The log of HEAD counts the moves of branches too, and the others have none that people see.
            false => format!("an earlier state of {name} ({} before the present one) needs it: ", self.age),
        }
    }
}

/// What refs lead to, without files.
#[derive(Default)]
pub(super) struct Followed {
    names: Vec<String>,
    /// Every commit that could be read, and its tree.
    pub(super) commits: Vec<(Digest, Digest)>,
    /// The trees of present states, of commits or named by refs themselves, such as the staged one.
    trees: Vec<(Origin, Digest)>,
    /// Those of earlier states, where no present one leads to their commits.
    earlier_trees: Vec<(Origin, Digest)>,
}

impl Repository {
    /// Follows everything that refs name, and gives the files, each content once.
    pub(super) fn follow_refs(&self, report: &mut VerifyReport, damage: &mut Damage) -> Result<Vec<ReachedFile>> {
        self.follow_refs_in(&self.store, report, damage)
    }

    /// The same, with what they lead to read from a source.
    pub(super) fn follow_refs_in(
        &self,
        source: &dyn EntryList,
        report: &mut VerifyReport,
        damage: &mut Damage,
    ) -> Result<Vec<ReachedFile>> {
        let followed = self.follow_commits(source, report, damage)?;
        match self.lost_branch(&followed) {
            Ok(Some(lost)) if lost.is_certain => report.problems.push(lost.problem()),
            Ok(Some(lost)) => report.warnings.push(lost.problem()),
            // Of these it was told that they are missing or damaged.
            Ok(None) | Err(RepoError::NoHead { .. } | RepoError::Unfinished(_)) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
        let Followed { names, trees, earlier_trees, .. } = followed;
        let mut walk = TreeWalk { source, names: &names, known: HashSet::new(), seen: HashSet::new() };
        let mut files = walk.below(trees, report, damage);
        files.extend(walk.below(earlier_trees, report, damage));
        look_for_blocks(source, files, report, damage)
    }

    /// Follows refs and their logs, tags and commits.
    pub(super) fn follow_commits(
        &self,
        source: &dyn EntrySource,
        report: &mut VerifyReport,
        damage: &mut Damage,
    ) -> Result<Followed> {
        // Another error is told below, with its ref.
        if let Err(error @ (RepoError::NoHead { .. } | RepoError::Unfinished(_))) = head_of(&self.store) {
            report.problems.push(error.to_string());
        }
        let refs = self.store.refs();
        let (names, newest): (Vec<_>, Vec<_>) = refs.list_each("").map_err(StoreError::from)?.into_iter().unzip();
        report.refs = names.len() as u64;
        let mut walk = CommitWalk {
            objects: Objects::new(source),
            known: HashSet::new(),
            followed: Followed { names, ..Followed::default() },
            report,
            damage,
        };
        // Present states first: what they lead to is told with them.
        for (name, state) in (0u32..).zip(newest) {
            walk.state(Origin { name, age: 0 }, state);
        }
        for name in 0..walk.followed.names.len() {
            let log = refs.log(&walk.followed.names[name]).map_err(StoreError::from)?;
            for (age, state) in (0u32..).zip(log).skip(1) {
                walk.state(Origin { name: name as u32, age }, state);
            }
        }
        let CommitWalk { followed, report, .. } = walk;
        report.commits = followed.commits.len() as u64;
        Ok(followed)
    }
}

/// The walk over tags and commits, each commit read once.
struct CommitWalk<'a> {
    objects: Objects<'a>,
    known: HashSet<Digest>,
    followed: Followed,
    report: &'a mut VerifyReport,
    damage: &'a mut Damage,
}

impl CommitWalk<'_> {
    fn state(&mut self, origin: Origin, state: std::result::Result<RefState, RefError>) {
        let target = match state {
            Ok(state) => state.target,
            // A collection pruned it after it was listed.
            Err(RefError::Backend(error)) if error.is_not_found() => return,
            Err(error) => {
                let name = &self.followed.names[origin.name as usize];
                self.report.problems.push(format!("ref {name}: {}", with_sources(&error)));
                return;
            }
        };
        let mut open = Vec::new();
        match target {
            Target::Commit(id) => open.push(id),
            Target::Tree(id) => self.tree(origin, id),
            Target::Tag(id) => match self.objects.tag(id) {
                Ok(tag) => open.push(tag.target),
                Err(error) => self.lost(origin, EntryKind::Tag, id, error),
            },
            Target::Symbolic(_) | Target::Deleted => {}
        }
        while let Some(id) = open.pop() {
            if !self.known.insert(id) {
                continue;
            }
            match self.objects.commit(id) {
                Ok(commit) => {
                    self.followed.commits.push((id, commit.tree));
                    self.tree(origin, commit.tree);
                    open.extend(commit.parents);
                }
                Err(error) => self.lost(origin, EntryKind::Commit, id, error),
            }
        }
    }

    fn tree(&mut self, origin: Origin, id: Digest) {
        let trees = if origin.age == 0 { &mut self.followed.trees } else { &mut self.followed.earlier_trees };
        trees.push((origin, id));
    }

    fn lost(&mut self, origin: Origin, kind: EntryKind, id: Digest, error: RepoError) {
        let names = &self.followed.names;
        let whose = match origin.age {
            0 => format!("ref {}: ", names[origin.name as usize]),
            _ => origin.prefix(names),
        };
        self.report.problems.push(format!("{whose}{}", with_sources(&error)));
        self.damage.note(EntryKey::new(kind, id), error);
    }
}

/// A tree that is to be read: what leads to it, and where it is below that.
type Below = (Origin, String, Digest);

/// The walk over trees, each read once.
struct TreeWalk<'a> {
    source: &'a dyn EntrySource,
    names: &'a [String],
    known: HashSet<Digest>,
    seen: HashSet<Entry>,
}

impl TreeWalk<'_> {
    /// All files below trees, each content once, at the first path that it was seen at.
    fn below(&mut self, roots: Vec<(Origin, Digest)>, report: &mut VerifyReport, damage: &mut Damage) -> Vec<Named> {
        let mut files: Vec<Named> = Vec::new();
        let mut level: Vec<Below> = roots.into_iter().map(|(origin, id)| (origin, String::new(), id)).collect();
        while !level.is_empty() {
            level.retain(|(_, _, id)| self.known.insert(*id));
            let mut next = Vec::new();
            // As many at once as memory has room for.
            for batch in level.chunks(BATCH) {
                let trees: Vec<_> = batch.par_iter().map(|(_, path, id)| read_tree(self.source, path, *id)).collect();
                for ((origin, path, id), tree) in batch.iter().zip(trees) {
                    let tree = match tree {
                        Ok(tree) => tree,
                        Err(error) => {
                            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
                            let whose = origin.prefix(self.names);
                            report.problems.push(format!("{whose}{place}{}", with_sources(&error)));
                            damage.note(EntryKey::new(EntryKind::Tree, *id), error);
                            continue;
                        }
                    };
                    for (name, node) in tree.entries {
                        let below = || if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                        match node {
                            TreeNode::Directory(id) if !self.known.contains(&id) => next.push((*origin, below(), id)),
                            TreeNode::Directory(_) => {}
                            TreeNode::File(file) => {
                                let entry = Entry { manifest: file.manifest, sha256: file.sha256, size: file.size };
                                if self.seen.insert(entry) {
                                    let path = format!("{}{}", origin.prefix(self.names), below());
                                    let Entry { manifest, sha256, size } = entry;
                                    files.push(Named { path, manifest, sha256, size: Some(size) });
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
    // Those that are not here are then elsewhere.
    let is_partial = source.is_partial();
    let mut left = wanted.iter().peekable();
    source.each_best(EntryKind::Block, &mut |copy| {
        let id = copy.location.key.id;
        while let Some(missing) = left.next_if(|wanted| wanted.id < id) {
            if !is_partial {
                problem(missing, "is missing");
            }
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
    left.filter(|_| !is_partial).for_each(|missing| problem(missing, "is missing"));
    Ok(())
}
