//! `lineage`: which known model a file comes from, and that from which, up to the first.
//!
//! Known are the files of all commits. A likely ancestor shares tensors exactly, has a sketch that agrees, or is what the same path
//! held before; which of these it is, a comparison of both tells. Of several histories of one file the merge commit says both.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use shard_core::{Digest, Progress};
use shard_formats::FileSource;
use shard_history::{Commit, Node, Order, Revision, TreeNode, Walk};
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use crate::compare::{CompareOptions, Kind, Side, Verdict, compare_sides};
use crate::error::{RepoError, Result};
use crate::inspect::read_manifest;
use crate::objects::Objects;
use crate::relatives::{Finder, Relative};
use crate::repository::Repository;
use crate::tensor_keys::KeyedTensors;

/// Longest chain of ancestors that is followed.
const MAX_DEPTH: usize = 200;
/// Most likely ancestors of a model that it is compared with.
const COMPARED: usize = 3;
/// Most ancestors of one model.
const MAX_PARENTS: usize = 3;
/// A further ancestor has at least this share of the tensors, and the others have none of these.
const LEAST_SHARE: f64 = 0.1;

/// How far to look.
#[derive(Debug, Clone, Copy)]
pub struct LineageOptions {
    /// Most ancestors one above the other.
    pub depth: usize,
}

impl Default for LineageOptions {
    fn default() -> Self {
        Self { depth: 20 }
    }
}

/// Where a known model was first.
#[derive(Debug, Clone)]
pub struct KnownModel {
    /// Its path in that commit.
    pub path: String,
    /// The commit.
    pub id: Digest,
    /// What it says.
    pub commit: Commit,
    /// SHA-256 of the file.
    pub sha256: Digest,
}

/// What a model is of one of its ancestors.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    /// What kind of change made the one the other.
    pub kind: Kind,
    /// What tells so, for people.
    pub evidence: String,
    /// The rank of the change, where that is low.
    pub rank: Option<usize>,
    /// Tensors that the ancestor has, too: same type, shape and content, whatever their names.
    pub equal: usize,
    /// Tensors of the model.
    pub tensors: usize,
    /// By how much sketches agree beyond chance, where that was looked at.
    pub nearness: Option<f64>,
}

/// A model and its ancestors.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// Where it is known from; `None` for a file that no commit has.
    pub known: Option<KnownModel>,
    /// What the model below it in the tree is of it; `None` for the one that was asked about.
    pub relation: Option<Relation>,
    /// Its ancestors, the likeliest first.
    pub parents: Vec<Lineage>,
    /// Whether it may have ancestors that were not looked for, because there are as many models above one another as asked for.
    pub is_cut: bool,
    /// Whether its ancestors are shown where it comes first in the tree, as those of `known`, and so not again here.
    pub is_shown_above: bool,
}

impl Repository {
    /// The lineage of a file on disk.
    ///
    /// # Errors
    /// A file without tensors; what cannot be read.
    pub fn lineage_of_file(&self, path: &Path, options: LineageOptions, progress: &dyn Progress) -> Result<Lineage> {
        let (manifest, note) = read_manifest(path, self.cut(), progress)?;
        if let Some(note) = note.filter(|_| manifest.tensors.is_empty()) {
            return Err(RepoError::BadModel { path: path.to_owned(), why: note });
        }
        if manifest.tensors.is_empty() {
            return Err(RepoError::NothingToDo(format!("{} has no tensors", path.display())));
        }
        let mut search = Search::new(self, options, progress)?;
        if let Some(place) = search.models.iter().position(|known| known.sha256 == manifest.sha256) {
            return search.known(place, None, 0);
        }
        let source = FileSource::open(path).map_err(RepoError::io("cannot read", path))?;
        let transaction = self.store.begin("lineage")?;
        let relatives = Finder::new(&transaction).find(&source, &manifest.layout(), path, None)?.relatives;
        let subject = Subject {
            keys: keys(&manifest),
            side: Side::from_path(path, self.cut())?,
            before: usize::MAX,
            likely: Vec::new(),
            relatives,
        };
        Ok(Lineage { known: None, relation: None, ..search.above(&subject, 0)? })
    }

    /// The lineage of a file of a revision.
    ///
    /// # Errors
    /// An unknown revision or path, a file without tensors; what cannot be read.
    pub fn lineage_of(
        &self,
        revision: &Revision,
        path: &str,
        options: LineageOptions,
        progress: &dyn Progress,
    ) -> Result<Lineage> {
        let entry = self.file_at(revision, path)?;
        let mut search = Search::new(self, options, progress)?;
        let place = search.models.iter().position(|known| known.sha256 == entry.sha256);
        let place = place.ok_or_else(|| RepoError::NothingToDo(format!("{revision}:{path} has no tensors")))?;
        search.known(place, None, 0)
    }
}

/// A model that a commit has, where it was first.
struct Known {
    manifest: Digest,
    sha256: Digest,
    commit: Digest,
    path: String,
    /// The tensors, by the beginnings of their keys, sorted.
    keys: Vec<u64>,
    /// What the parents of the commit had at its path.
    before: Vec<Digest>,
}

/// A model whose ancestors are looked for.
struct Subject {
    keys: Vec<u64>,
    side: Side,
    /// Only models that were known before that one may be ancestors.
    before: usize,
    /// What the path held before, by place.
    likely: Vec<usize>,
    relatives: Vec<Relative>,
}

struct Search<'a> {
    repository: &'a Repository,
    options: LineageOptions,
    progress: &'a dyn Progress,
    /// Oldest first.
    models: Vec<Known>,
    seen: HashSet<usize>,
}

impl<'a> Search<'a> {
    fn new(repository: &'a Repository, options: LineageOptions, progress: &'a dyn Progress) -> Result<Self> {
        let options = LineageOptions { depth: options.depth.min(MAX_DEPTH) };
        Ok(Self { repository, options, progress, models: models(repository)?, seen: HashSet::new() })
    }

    fn side(&self, place: usize) -> Result<Side> {
        let known = self.models.get(place).ok_or(RepoError::Internal("a model that was just found is gone"))?;
        let manifest = self.repository.manifest(known.manifest)?;
        let source = Arc::new(self.repository.store.clone()) as Arc<dyn EntrySource + Send>;
        Ok(Side::stored(format!("{}:{}", known.commit.short(), known.path), vec![manifest], source))
    }

    /// Where a known model was first.
    fn model(&self, place: usize) -> Result<KnownModel> {
        let known = self.models.get(place).ok_or(RepoError::Internal("a model that was just found is gone"))?;
        let commit = self.repository.read_commit(known.commit)?;
        Ok(KnownModel { path: known.path.clone(), id: known.commit, commit, sha256: known.sha256 })
    }

    /// A known model with its ancestors.
    fn known(&mut self, place: usize, relation: Option<Relation>, depth: usize) -> Result<Lineage> {
        let side = self.side(place)?;
        let at = self.model(place)?;
        let known = self.models.get(place).ok_or(RepoError::Internal("a model that was just found is gone"))?;
        let transaction = self.repository.store.begin("lineage")?;
        let relatives = Finder::new(&transaction).relatives_of(known.manifest)?;
        let likely =
            known.before.iter().filter_map(|manifest| self.models.iter().position(|other| other.manifest == *manifest));
        let likely: Vec<usize> = likely.filter(|other| *other != place).collect();
        let subject = Subject { keys: known.keys.clone(), side, before: place, likely, relatives };
        self.seen.insert(place);
        Ok(Lineage { known: Some(at), relation, ..self.above(&subject, depth)? })
    }

    /// The ancestors of a model.
    fn above(&mut self, subject: &Subject, depth: usize) -> Result<Lineage> {
        let candidates = self.candidates(subject);
        if depth >= self.options.depth {
            return Ok(Lineage { is_cut: !candidates.is_empty(), ..Lineage::default() });
        }
        let mut parents: Vec<(usize, Relation)> = Vec::new();
        let mut covered: HashSet<u64> = HashSet::new();
        for (tried, (place, nearness)) in candidates.into_iter().enumerate() {
            let Some(other) = self.models.get(place) else { continue };
            let shared: Vec<u64> = shared(&subject.keys, &other.keys).collect();
            let new = shared.iter().filter(|key| !covered.contains(*key)).count();
            // Both sides of a merge are ancestors; others only where they have what the first has not.
            let is_side = subject.likely.len() > 1 && subject.likely.contains(&place);
            let is_further = is_side || new as f64 >= LEAST_SHARE * subject.keys.len().max(1) as f64 && new > 0;
            if parents.len() >= MAX_PARENTS
                || (!parents.is_empty() && !is_further)
                || (parents.is_empty() && tried >= COMPARED)
            {
                continue;
            }
            let found = compare_sides(&self.side(place)?, &subject.side, CompareOptions::default(), self.progress)?;
            let verdict = found.verdict;
            let is_related = !shared.is_empty()
                || !matches!(verdict.kind, Kind::Unrelated | Kind::Added | Kind::Removed | Kind::Changed);
            if !is_related {
                continue;
            }
            let (equal, tensors) = (shared.len(), subject.keys.len());
            let (kind, evidence, rank) = (kind_of_change(&verdict), verdict.evidence, verdict.rank);
            covered.extend(shared);
            parents.push((place, Relation { kind, evidence, rank, equal, tensors, nearness }));
        }
        let mut above = Vec::new();
        for (place, relation) in parents {
            let relation = Some(relation);
            above.push(match self.seen.contains(&place) {
                true => {
                    let known = Some(self.model(place)?);
                    Lineage { known, relation, is_shown_above: true, ..Lineage::default() }
                }
                false => self.known(place, relation, depth + 1)?,
            });
        }
        Ok(Lineage { parents: above, ..Lineage::default() })
    }

    /// Models that may be ancestors, the likeliest first, and how near their sketches are.
    fn candidates(&self, subject: &Subject) -> Vec<(usize, Option<f64>)> {
        let near: HashMap<Digest, f64> =
            subject.relatives.iter().map(|relative| (relative.manifest, relative.nearness)).collect();
        let all = subject.keys.len().max(1) as f64;
        let mut found: Vec<(f64, bool, usize, Option<f64>)> = Vec::new();
        for (place, other) in self.models.iter().enumerate().take(subject.before) {
            let share = shared(&subject.keys, &other.keys).count() as f64 / all;
            let nearness = near.get(&other.manifest).copied();
            let score = share.max(nearness.unwrap_or(0.0));
            let is_likely = subject.likely.contains(&place);
            if score > 0.0 || is_likely {
                found.push((score, is_likely, place, nearness));
            }
        }
        // Of those that are as near, what the path held before, and then what is newest.
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
        found.into_iter().map(|(_, _, place, nearness)| (place, nearness)).collect()
    }
}

/// The kind of what changed, however much was left as it was.
fn kind_of_change(verdict: &Verdict) -> Kind {
    if verdict.kind != Kind::Frozen {
        return verdict.kind;
    }
    let same = [Kind::Identical, Kind::Frozen, Kind::Renamed];
    let changed = verdict.parts.iter().filter(|(kind, ..)| !same.contains(kind));
    changed.max_by_key(|(_, _, elements)| *elements).map_or(verdict.kind, |(kind, ..)| *kind)
}

/// The keys that two models have in common.
fn shared<'k>(own: &'k [u64], other: &'k [u64]) -> impl Iterator<Item = u64> + 'k {
    own.iter().copied().filter(|key| other.binary_search(key).is_ok())
}

fn keys(manifest: &ContentManifest) -> Vec<u64> {
    let keyed = KeyedTensors::of(manifest);
    let mut keys: Vec<u64> = keyed.tensors.iter().map(|tensor| beginning(&tensor.key)).collect();
    keys.sort_unstable();
    keys
}

fn beginning(key: &Digest) -> u64 {
    key.0.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// The models of all commits that refs lead to, each where it was first, oldest first.
fn models(repository: &Repository) -> Result<Vec<Known>> {
    let mut tips: Vec<Digest> = repository.named_refs()?.into_iter().map(|named| named.commit).collect();
    tips.extend(repository.head()?.commit);
    let mut objects = repository.objects();
    let mut commits = repository.objects();
    let walk = Walk::new(&tips, Order::Topological, |id: &Digest| -> Result<Node> {
        commits.commit(*id)?.node().map_err(|source| RepoError::History { what: "commit", id: *id, source })
    });
    let mut order = walk.collect::<std::result::Result<Vec<_>, _>>()?;
    order.reverse();
    let (mut trees, mut files) = (HashSet::new(), HashSet::new());
    let mut models = Vec::new();
    for id in order {
        let commit = objects.commit(id)?;
        if !trees.insert(commit.tree) {
            continue;
        }
        for (path, entry) in objects.file_tree(commit.tree)?.files() {
            if !files.insert(entry.manifest) {
                continue;
            }
            let manifest = objects.manifest_once(entry.manifest)?;
            if manifest.tensors.is_empty() {
                continue;
            }
            let before = earlier(&mut objects, &commit, path)?;
            let (path, keys) = (path.clone(), keys(&manifest));
            models.push(Known { manifest: entry.manifest, sha256: entry.sha256, commit: id, path, keys, before });
        }
    }
    Ok(models)
}

/// What the parents of a commit have at a path.
fn earlier(objects: &mut Objects<'_>, commit: &Commit, path: &str) -> Result<Vec<Digest>> {
    let mut before = Vec::new();
    for parent in &commit.parents {
        let tree = objects.commit(*parent)?.tree;
        if let Some(TreeNode::File(entry)) = objects.lookup(tree, path)?
            && !before.contains(&entry.manifest)
        {
            before.push(entry.manifest);
        }
    }
    Ok(before)
}
