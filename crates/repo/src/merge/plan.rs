//! What merging two commits comes to: which files are taken, which are merged tensor by tensor, and what someone has to decide about.

use std::collections::HashMap;
use std::sync::Arc;

use shard_core::{Digest, Progress};
use shard_history::merge::strategy::Strategy;
use shard_history::merge::tensors::PlannedTensor;
use shard_history::{
    ConflictKind, FileConflict, FileEntry, FileMode, FileTree, Merge, Rules, Side, TensorChange, merge_files,
};
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use super::model::{ModelPlan, Outcome, plan_model};
use crate::compare::{self, change_stats};
use crate::error::{RepoError, Result};
use crate::numeric::ChangeStats;
use crate::objects::Objects;
use crate::repository::Repository;

/// A path that someone has to decide about.
#[derive(Debug, Clone)]
pub struct MergeConflict {
    /// The path.
    pub path: String,
    /// Why both sides cannot be had.
    pub kind: ConflictKind,
    /// What is at the path in the base and on both sides.
    pub entries: Merge<Option<FileEntry>>,
    /// The other path that has to do with it, as [`FileConflict::related_path`] has it.
    pub related_path: Option<String>,
    /// Why a model file is a conflict although no tensor is, or why its tensors were not looked at.
    pub why: Option<String>,
    /// The tensors in conflict, of a model file.
    pub tensors: Vec<TensorConflict>,
}

/// A tensor that someone has to decide about.
#[derive(Debug, Clone)]
pub struct TensorConflict {
    /// Its name.
    pub name: String,
    /// Why both sides cannot be had.
    pub kind: ConflictKind,
    /// Why nothing decides about it, in words.
    pub why: &'static str,
    /// What ours made of it.
    pub ours: SideChange,
    /// What theirs made of it.
    pub theirs: SideChange,
    /// The name that it has on the side that removed it, if it was renamed there.
    pub renamed_to: Option<String>,
}

/// What a side made of a tensor.
#[derive(Debug, Clone, Copy)]
pub struct SideChange {
    /// What happened to it.
    pub state: TensorChange,
    /// How its values changed, where it has the same shape, and that is told in numbers.
    pub stats: Option<ChangeStats>,
}

/// A file that is merged tensor by tensor.
pub(super) struct PlannedModel {
    pub(super) path: String,
    pub(super) mode: FileMode,
    pub(super) manifests: Merge<Option<Arc<ContentManifest>>>,
    pub(super) plan: ModelPlan,
}

impl PlannedModel {
    /// Bytes of the merged file, which is that of a side with other bytes in some tensors.
    pub(super) fn size(&self) -> Option<u64> {
        Some(self.manifests.side(self.plan.layout).as_ref()?.size)
    }
}

/// What merging comes to.
pub(super) struct Plan {
    pub(super) sides: Merge<FileTree>,
    /// The files that are known, without those that are merged tensor by tensor, and without conflicts.
    pub(super) tree: FileTree,
    pub(super) models: Vec<PlannedModel>,
    /// Files that both sides changed and that a strategy takes whole from one.
    pub(super) taken: Vec<(String, Side)>,
    pub(super) conflicts: Vec<MergeConflict>,
    /// What the conflicts inside model files are about, by path.
    untold: HashMap<String, Untold>,
}

/// Tensors in conflict, and where to look up what each side changed.
struct Untold {
    tensors: Vec<PlannedTensor>,
    manifests: Merge<Option<Arc<ContentManifest>>>,
}

impl Repository {
    /// Plans a merge. No value of a tensor is read: what each side changed is told by [`Self::tell_conflicts`].
    pub(super) fn plan_merge(&self, commits: Merge<Option<Digest>>, rules: &Rules) -> Result<Plan> {
        let tree =
            |commit: Option<Digest>| commit.map_or_else(|| Ok(FileTree::default()), |commit| self.files_of(commit));
        let sides = Merge { base: tree(commits.base)?, ours: tree(commits.ours)?, theirs: tree(commits.theirs)? };
        let merged = merge_files(sides.as_ref());
        let merged = merged.map_err(|source| history(commits.ours, source))?;
        let store: Arc<dyn EntrySource + Send> = Arc::new(self.store.clone());
        let mut planner = Planner { objects: self.objects(), store, rules };
        let mut plan = Plan {
            sides,
            tree: merged.tree,
            models: Vec::new(),
            taken: Vec::new(),
            conflicts: Vec::new(),
            untold: HashMap::new(),
        };
        for conflict in merged.conflicts {
            planner.decide(conflict, &mut plan)?;
        }
        Ok(plan)
    }

    /// Reads the tensors of the conflicts that are left in a plan, and says in each what each side changed.
    pub(super) fn tell_conflicts(&self, plan: &mut Plan, progress: &dyn Progress) -> Result<()> {
        let store: Arc<dyn EntrySource + Send> = Arc::new(self.store.clone());
        for conflict in &mut plan.conflicts {
            if let Some(untold) = plan.untold.get(&conflict.path) {
                conflict.tensors = untold.tell(&store, progress)?;
            }
        }
        Ok(())
    }
}

fn history(id: Option<Digest>, source: shard_history::HistoryError) -> RepoError {
    RepoError::History { what: "tree", id: id.unwrap_or_else(|| shard_core::sha256(&[])), source }
}

struct Planner<'a> {
    objects: Objects<'a>,
    store: Arc<dyn EntrySource + Send>,
    rules: &'a Rules,
}

impl Planner<'_> {
    fn decide(&mut self, conflict: FileConflict, plan: &mut Plan) -> Result<()> {
        let mut why = None;
        if let Some(mode) = one_mode(&conflict) {
            let manifests = Merge {
                base: self.manifest(conflict.entries.base)?,
                ours: self.manifest(conflict.entries.ours)?,
                theirs: self.manifest(conflict.entries.theirs)?,
            };
            match plan_model(manifests.as_ref().map(Option::as_ref), &self.store, self.rules)? {
                Outcome::Whole(reason) => why = reason,
                Outcome::Merged(model) => {
                    plan.models.push(PlannedModel { path: conflict.path, mode, manifests, plan: model });
                    return Ok(());
                }
                Outcome::Conflict { tensors, why } => {
                    plan.untold.insert(conflict.path.clone(), Untold { tensors, manifests });
                    plan.conflicts.push(MergeConflict::new(conflict, why));
                    return Ok(());
                }
            }
        }
        let side = match self.rules.otherwise() {
            Some(Strategy::Ours) => Some(Side::Ours),
            Some(Strategy::Theirs) => Some(Side::Theirs),
            _ => None,
        };
        // A file and a directory, and two spellings of one name, are not decided by taking a side of one path.
        let is_of_one_path = !matches!(conflict.kind, ConflictKind::FileDirectory | ConflictKind::CaseFold);
        match side.filter(|_| is_of_one_path) {
            None => plan.conflicts.push(MergeConflict::new(conflict, why)),
            Some(side) => {
                if let Some(entry) = conflict.entries.side(side) {
                    plan.tree.insert(&conflict.path, *entry).map_err(|source| history(None, source))?;
                }
                plan.taken.push((conflict.path, side));
            }
        }
        Ok(())
    }

    fn manifest(&mut self, entry: Option<FileEntry>) -> Result<Option<Arc<ContentManifest>>> {
        entry.map(|entry| self.objects.manifest(entry.manifest)).transpose()
    }
}

impl Untold {
    /// The tensors in conflict, with what each side changed.
    fn tell(&self, store: &Arc<dyn EntrySource + Send>, progress: &dyn Progress) -> Result<Vec<TensorConflict>> {
        let Self { tensors, manifests } = self;
        let side = |manifest: &Option<Arc<ContentManifest>>| {
            compare::Side::stored(String::new(), manifest.iter().cloned().collect(), Arc::clone(store))
        };
        let (mut by_ours, mut by_theirs) = (vec![None; tensors.len()], vec![None; tensors.len()]);
        let base = side(&manifests.base);
        for (which, found) in [(Side::Ours, &mut by_ours), (Side::Theirs, &mut by_theirs)] {
            let places = tensors.iter().enumerate().filter_map(|(place, tensor)| {
                let pair = tensor.at.base.zip(*tensor.at.side(which))?;
                let change = if which == Side::Ours { tensor.ours } else { tensor.theirs };
                matches!(change, TensorChange::Value | TensorChange::DType).then_some((place, pair))
            });
            let (places, pairs): (Vec<usize>, Vec<(usize, usize)>) = places.unzip();
            let told = change_stats(&base, &side(manifests.side(which)), &pairs, progress)?;
            for (place, stats) in places.into_iter().zip(told) {
                if let Some(found) = found.get_mut(place) {
                    *found = stats;
                }
            }
        }
        let both = by_ours.into_iter().zip(by_theirs);
        let told = tensors.iter().zip(both).filter_map(|(tensor, (ours, theirs))| {
            let (kind, why) = tensor.conflict()?;
            Some(TensorConflict {
                name: tensor.name.clone(),
                kind,
                why: why.as_str(),
                ours: SideChange { state: tensor.ours, stats: ours },
                theirs: SideChange { state: tensor.theirs, stats: theirs },
                renamed_to: tensor.renamed_to.clone(),
            })
        });
        Ok(told.collect())
    }
}

impl MergeConflict {
    fn new(conflict: FileConflict, why: Option<String>) -> Self {
        let FileConflict { path, kind, entries, related_path } = conflict;
        Self { path, kind, entries, related_path, why, tensors: Vec::new() }
    }
}

/// The mode of a file whose content alone is in conflict.
fn one_mode(conflict: &FileConflict) -> Option<FileMode> {
    if !matches!(conflict.kind, ConflictKind::AddAdd | ConflictKind::ModifyModify) {
        return None;
    }
    let (ours, theirs) = (conflict.entries.ours?.mode, conflict.entries.theirs?.mode);
    let base = conflict.entries.base.map_or(ours, |base| base.mode);
    let mode = Merge { base, ours, theirs }.resolve().ok()?;
    let is_file = [base, ours, theirs].iter().all(|mode| *mode != FileMode::Symlink);
    // Without a base, both have to agree.
    (is_file && (conflict.entries.base.is_some() || ours == theirs)).then_some(mode)
}
