//! `merge`: another commit's changes come to a branch. Files first, then tensors inside the model files that both sides changed.
//!
//! What is to be decided by someone is found before anything is written, from digests and from what model files say beside their
//! tensors; values of tensors are read only to tell someone of a conflict what each side changed. Model files are then made as they are
//! stored: block by block, from those of both sides, so that no file is ever in memory.

mod arithmetic;
mod model;
mod plan;
mod resume;
mod source;
mod state;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use shard_core::{Digest, Progress};
use shard_history::revision::RefKind;
use shard_history::{
    Commit, FileChange, FileEntry, FileTree, Merge, MergeRecord, MergeStatus, Node, Relation, Rules, Side, diff_files,
    relate,
};
use shard_manifest::ContentManifest;
use shard_store::{EntryKind, RefState, RefUpdate, Target, Transaction, timestamp};
use thiserror::Error;

use crate::checkout::{Losses, is_same_file};
use crate::error::{RepoError, Result};
use crate::parent::EarlierFiles;
use crate::refs::full_name;
use crate::relatives::Finder;
use crate::repository::{HEADS, Repository, STAGE};
use crate::snapshot::{FileBatch, Input, SnapshotCost, keep_file, put_object};
use crate::stage::put_tree;
use crate::status::WorkState;

use arithmetic::ARITHMETIC;
pub use model::TensorsMerged;
pub use plan::{MergeConflict, SideChange, TensorConflict};
use plan::{Plan, PlannedModel};
pub use resume::ContinueOptions;
use source::{MergedFile, StoredFile};
pub use state::MergeState;

/// Why a merge is not begun, continued or given up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeProblem {
    /// The histories share no commit.
    #[error("{} and {} have no commit in common", .ours.short(), .theirs.short())]
    Unrelated {
        /// The commit that would be merged into.
        ours: Digest,
        /// The commit that would be merged.
        theirs: Digest,
    },
    /// Both sides have commits that the other has not.
    #[error("the branch cannot be fast-forwarded: it has commits that {} has not", .theirs.short())]
    NotFastForward {
        /// The commit that would be merged.
        theirs: Digest,
    },
    /// Another merge is under way.
    #[error("a merge is under way")]
    UnderWay,
    /// No merge is under way.
    #[error("no merge is under way")]
    NotUnderWay,
    /// What is checked out is not what the merge under way began from.
    #[error("the merge under way began from {}, and something else is checked out now", .ours.short())]
    Elsewhere {
        /// The commit that it began from.
        ours: Digest,
    },
    /// A path that names no conflict of the merge under way, or a folder whose conflicts are all decided; empty for the root.
    #[error("{} is not in conflict", if .0.is_empty() { "." } else { .0.as_str() })]
    NotInConflict(String),
    /// Files that were staged since the merge began, though it changes them too.
    #[error("what was staged since the merge began would be lost, since the merge changes it too: {}", .0.join(", "))]
    StagedMeanwhile(Vec<String>),
    /// Rules for a merge under way in which they have nothing to decide about.
    #[error("everything is decided already: nothing is left for a strategy or rule")]
    NothingForRules,
    /// The record of the merge under way cannot be understood.
    #[error("the record of the merge under way is damaged: {0}")]
    State(Digest),
}

/// When a branch is only moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FastForward {
    /// Where that is enough.
    #[default]
    Allow,
    /// Never: there is always a commit with two parents.
    Never,
    /// Otherwise nothing is done.
    Only,
}

/// How to merge.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// The branch to merge into; what is checked out where it is `None`. A branch that is not checked out is merged into without
    /// a work tree.
    pub into: Option<String>,
    /// The message of the commit; where it is `None`, one that says what was merged.
    pub message: Option<String>,
    /// Who; recorded only where given.
    pub author: Option<String>,
    /// What decides where both sides changed a tensor.
    pub rules: Rules,
    /// When the branch is only moved.
    pub fast_forward: FastForward,
    /// Whether the result is only staged, for [`Repository::continue_merge`] to commit.
    pub no_commit: bool,
    /// Whether histories that share nothing are merged, from an empty tree.
    pub allow_unrelated: bool,
    /// The commit that the branch has to be at.
    pub expected: Option<Digest>,
}

/// A model file that was merged tensor by tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedModel {
    /// Its path.
    pub path: String,
    /// Where its tensors are from.
    pub tensors: TensorsMerged,
}

/// What `merge` did.
#[derive(Debug, Clone)]
pub struct MergeReport {
    /// How it ended.
    pub status: MergeStatus,
    /// The branch that was merged into; `None` where a commit was checked out that no branch follows.
    pub target: Option<String>,
    /// The commit that was merged.
    pub source: Digest,
    /// The common ancestor that the merge started from.
    pub base: Option<Digest>,
    /// Other common ancestors that would have been as good.
    pub other_bases: Vec<Digest>,
    /// Where the branch was; `None` for one without commits.
    pub from: Option<Digest>,
    /// Where it is.
    pub to: Option<Digest>,
    /// The commit that was made.
    pub commit: Option<Digest>,
    /// What someone has to decide about.
    pub conflicts: Vec<MergeConflict>,
    /// Model files that were merged tensor by tensor.
    pub models: Vec<MergedModel>,
    /// Files that a strategy took whole from one side, though both changed them.
    pub taken: Vec<(String, Side)>,
    /// What the target got, against what it was.
    pub changes: Vec<FileChange>,
    /// What new content cost.
    pub cost: SnapshotCost,
    /// Whether the merge waits for [`Repository::continue_merge`].
    pub is_waiting: bool,
}

impl MergeReport {
    /// Of a merge that did nothing yet.
    fn new(target: &Destination, source: Digest) -> Self {
        Self {
            status: MergeStatus::AlreadyUpToDate,
            target: target.branch.clone(),
            source,
            base: None,
            other_bases: Vec::new(),
            from: target.commit,
            to: target.commit,
            commit: None,
            conflicts: Vec::new(),
            models: Vec::new(),
            taken: Vec::new(),
            changes: Vec::new(),
            cost: SnapshotCost::default(),
            is_waiting: false,
        }
    }
}

/// Where a merge goes.
struct Destination {
    /// The ref that moves.
    name: String,
    state: Option<RefState>,
    branch: Option<String>,
    commit: Option<Digest>,
    /// Whether it is what the work tree shows.
    is_checked_out: bool,
}

/// A tree that was merged and stored.
struct Stored {
    tree: FileTree,
    root: Digest,
    models: Vec<MergedModel>,
    cost: SnapshotCost,
}

impl Repository {
    /// Merges a revision into a branch: what only one side changed since the common ancestor is taken, and so it is with the tensors
    /// of model files that both sides changed. In a conflict the branch, the stage and the work tree stay as they are; where the
    /// branch is checked out, the merge is then under way until [`Self::continue_merge`] or [`Self::abort_merge`].
    ///
    /// # Errors
    /// [`RepoError::Merge`]; [`RepoError::WouldOverwrite`] where changes would be lost that no commit has; [`RepoError::NotAt`] where
    /// the branch is not where it was expected; [`RepoError::Raced`] where another writer moved it meanwhile; an unknown revision; what the store says.
    /// Nothing has moved then, and files that were in place already are again what they were.
    pub fn merge(&self, revision: &str, options: &MergeOptions, progress: &dyn Progress) -> Result<MergeReport> {
        self.again_if_condemned(|| self.merge_once(revision, options, progress))
    }

    fn merge_once(&self, revision: &str, options: &MergeOptions, progress: &dyn Progress) -> Result<MergeReport> {
        let theirs = self.resolve(revision)?;
        // Before refs are read: what they name stays from here on.
        let transaction = self.begin_move("merge", theirs)?;
        let target = self.destination(options.into.as_deref())?;
        if target.is_checked_out {
            self.refuse_while_merging()?;
        }
        if let Some(expected) = options.expected.filter(|expected| Some(*expected) != target.commit) {
            return Err(RepoError::NotAt { name: target.name, expected, found: target.commit });
        }
        let mut report = MergeReport::new(&target, theirs);
        let relation = match target.commit {
            // A branch without commits only has to move.
            None => Relation::FastForward,
            Some(ours) => self.relation(ours, theirs)?,
        };
        match (relation, options.fast_forward) {
            (Relation::AlreadyUpToDate, _) => {
                report.base = Some(theirs);
                return Ok(report);
            }
            (Relation::FastForward, FastForward::Allow | FastForward::Only) => {
                return self.fast_forward(revision, target, report, &transaction, progress);
            }
            (Relation::FastForward, FastForward::Never) => report.base = target.commit,
            (_, FastForward::Only) => return Err(MergeProblem::NotFastForward { theirs }.into()),
            (Relation::Diverged { base, others }, _) => (report.base, report.other_bases) = (Some(base), others),
            (Relation::Unrelated, _) if options.allow_unrelated => {}
            (Relation::Unrelated, _) => {
                let ours = target.commit.unwrap_or(theirs);
                return Err(MergeProblem::Unrelated { ours, theirs }.into());
            }
        }
        let Some(ours) = target.commit else {
            let why = "a branch without commits can only be fast-forwarded";
            return Err(RepoError::Argument(why.to_owned()));
        };
        if options.no_commit && !target.is_checked_out {
            let why =
                "a result that is not committed needs a work tree: only what is checked out can be merged into so";
            return Err(RepoError::Argument(why.to_owned()));
        }
        let mut state = MergeState {
            target: target.branch.clone(),
            ours,
            theirs,
            message: options.message.clone().unwrap_or_else(|| self.message(revision, &target)),
            author: options.author.clone(),
            record: MergeRecord {
                base: report.base,
                files: Vec::new(),
                rules: options.rules.clone(),
                arithmetic: ARITHMETIC,
                extra: Default::default(),
            },
            conflicts: Default::default(),
            resolved: BTreeSet::new(),
            is_staged: false,
        };
        if state.message.trim().is_empty() {
            return Err(RepoError::Argument("a commit needs a message".to_owned()));
        }
        let commits = Merge { base: report.base, ours: Some(ours), theirs: Some(theirs) };
        let mut plan = self.plan_merge(commits, &options.rules)?;
        if target.is_checked_out {
            self.refuse_changed(&plan)?;
        }
        if !plan.conflicts.is_empty() {
            report.status = MergeStatus::Conflict;
            report.is_waiting = target.is_checked_out;
            if target.is_checked_out {
                state.conflicts =
                    plan.conflicts.iter().map(|conflict| (conflict.path.clone(), conflict.kind)).collect();
                let update = self.put_merge(&transaction, None, &state)?;
                self.move_or_lose(&transaction, &[update], &format!("merge {revision}: conflicts"))?;
            }
            self.tell_conflicts(&mut plan, progress)?;
            report.conflicts = plan.conflicts;
            return Ok(report);
        }
        report.taken = plan.taken.clone();
        state.record.files = plan.models.iter().map(|model| model.path.clone()).collect();
        let before = plan.sides.ours.clone();
        let stored = self.store_merged(plan, &transaction, progress)?;
        report.changes = diff_files(&before, &stored.tree);
        (report.models, report.cost) = (stored.models.clone(), stored.cost);
        report.status = MergeStatus::Merged;
        if options.no_commit {
            let placed = self.replace_work_tree(&stored.tree, Losses::Keep, progress)?;
            state.is_staged = true;
            let (expected, root) = (placed.stage.clone(), Target::Tree(stored.root));
            let stage = RefUpdate { name: STAGE.to_owned(), expected, target: root };
            // First what is staged: a merge that is under way without it would be continued with nothing of theirs.
            let updates = [stage, self.put_merge(&transaction, None, &state)?];
            self.move_placed(&placed, &transaction, &updates, &format!("merge {revision}: staged"), progress)?;
            report.is_waiting = true;
            return Ok(report);
        }
        let commit = self.commit_merged(&state, &stored, target, &transaction, None, progress)?;
        (report.to, report.commit) = (Some(commit), Some(commit));
        Ok(report)
    }

    /// How two commits stand to one another; each is read once.
    fn relation(&self, ours: Digest, theirs: Digest) -> Result<Relation> {
        let known = RefCell::new((self.objects(), HashMap::<Digest, Node>::new()));
        relate(&ours, &theirs, |id| {
            let (objects, nodes) = &mut *known.borrow_mut();
            if let Some(node) = nodes.get(id) {
                return Ok(node.clone());
            }
            let node = objects.commit(*id)?.node();
            let node = node.map_err(|source| RepoError::History { what: "commit", id: *id, source })?;
            nodes.insert(*id, node.clone());
            Ok(node)
        })
    }

    fn destination(&self, into: Option<&str>) -> Result<Destination> {
        let head = self.head()?;
        let is_head = |into: &&str| head.branch.as_deref() == Some(into.strip_prefix(HEADS).unwrap_or(into));
        // Where there is no work tree, the branch moves alone.
        let alone = if self.is_bare() { into.or(head.branch.as_deref()) } else { into.filter(|into| !is_head(into)) };
        match alone {
            None => {
                let (name, state) = self.moved_by_commits()?;
                Ok(Destination { name, state, branch: head.branch, commit: head.commit, is_checked_out: true })
            }
            Some(into) => {
                let branch = into.strip_prefix(HEADS).unwrap_or(into);
                let state = self.existing(RefKind::Branch, branch)?;
                let Target::Commit(commit) = state.target else {
                    return Err(RepoError::Argument(format!("the branch {branch:?} names no commit")));
                };
                Ok(Destination {
                    name: full_name(RefKind::Branch, branch),
                    state: Some(state),
                    branch: Some(branch.to_owned()),
                    commit: Some(commit),
                    is_checked_out: false,
                })
            }
        }
    }

    /// The message of a merge where none is given, as Git has it.
    fn message(&self, revision: &str, target: &Destination) -> String {
        let name = revision.strip_prefix("refs/").unwrap_or(revision);
        let branch = name.strip_prefix(HEADS).unwrap_or(name);
        let is_branch = self.store.refs().read(&format!("{HEADS}{branch}")).is_ok_and(|state| state.is_some());
        let what = if is_branch { format!("branch '{branch}'") } else { format!("commit '{revision}'") };
        match &target.branch {
            Some(into) if self.default_branch().is_ok_and(|default| default != *into) => {
                format!("Merge {what} into {into}")
            }
            _ => format!("Merge {what}"),
        }
    }

    /// Moves a branch to a commit that follows its own.
    fn fast_forward(
        &self,
        revision: &str,
        target: Destination,
        mut report: MergeReport,
        transaction: &Transaction,
        progress: &dyn Progress,
    ) -> Result<MergeReport> {
        let theirs = report.source;
        let after = self.files_of(theirs)?;
        let before = target.commit.map(|commit| self.files_of(commit)).transpose()?.unwrap_or_default();
        let root = self.read_commit(theirs)?.tree;
        let message = format!("merge {revision}: fast-forward");
        self.move_to(theirs, (&after, root), target, None, (transaction, &message), progress)?;
        report.base = report.from;
        report.status = MergeStatus::FastForward;
        report.to = Some(theirs);
        report.changes = diff_files(&before, &after);
        Ok(report)
    }

    /// Refuses where something is staged, and where files of the work tree have changes that no commit has and the merge, or someone
    /// who decides about its conflicts, would write them. What is as the merge would have it is no loss: it is what one leaves that
    /// was interrupted. Of a file merged tensor by tensor only its size is known yet; the rest is told before it is put in place.
    fn refuse_changed(&self, plan: &Plan) -> Result<()> {
        let (_, stage) = self.stage()?;
        let ours = &plan.sides.ours;
        let is_clean = plan.conflicts.is_empty();
        let mut lost: BTreeSet<String> = BTreeSet::new();
        let written: BTreeMap<&str, Option<u64>> =
            plan.models.iter().map(|model| (model.path.as_str(), model.size())).collect();
        for path in ours.files().keys().chain(stage.files().keys()) {
            let (before, now) = (ours.get(path), stage.get(path));
            let is_as_merged = match written.get(path.as_str()) {
                Some(size) => now.map(|entry| entry.size) == *size,
                None => is_same_file(now, plan.tree.get(path)),
            };
            if before != now && !(is_clean && is_as_merged) {
                lost.insert(path.clone());
            }
        }
        let conflicts: HashMap<&str, &MergeConflict> =
            plan.conflicts.iter().map(|conflict| (conflict.path.as_str(), conflict)).collect();
        for (path, state) in self.work_changes(&stage)? {
            let entry = plan.tree.get(&path);
            let conflict = conflicts.get(path.as_str());
            let is_written = match conflict {
                Some(conflict) => state != WorkState::Untracked || conflict.entries.theirs.is_some(),
                // What is staged is as the merge would have it then, and what differs from that stays.
                None if stage.get(&path) != ours.get(&path) => false,
                None => written.contains_key(path.as_str()) || entry != ours.get(&path),
            };
            if state == WorkState::Deleted || !is_written {
                continue;
            }
            let is_same = match (conflict, written.get(path.as_str())) {
                (Some(_), _) => false,
                (None, Some(size)) => is_clean && self.size_of(&path)? == *size,
                (None, None) => self.has_content(&path, entry)?,
            };
            if !is_same {
                lost.insert(path);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let paths = lost.into_iter().take(10).collect();
        Err(RepoError::WouldOverwrite { what: "there are changes that no commit has", paths })
    }

    /// Bytes of a file of the work tree; `None` where it is none.
    fn size_of(&self, path: &str) -> Result<Option<u64>> {
        let place = self.work()?.place(path);
        let metadata = fs::symlink_metadata(&place).map_err(RepoError::io("cannot read", &place))?;
        Ok(metadata.is_file().then_some(metadata.len()))
    }

    /// Stores the files that are merged tensor by tensor, and the tree.
    fn store_merged(&self, plan: Plan, transaction: &Transaction, progress: &dyn Progress) -> Result<Stored> {
        let Plan { mut tree, models, .. } = plan;
        let (mut batch, mut cost, mut merged) = (FileBatch::default(), SnapshotCost::default(), Vec::new());
        let sizes = models.iter().filter_map(PlannedModel::size);
        if !models.is_empty() {
            progress.begin("merging", Some(sizes.sum()));
        }
        for model in models {
            let entry = self.store_model(&model, &mut batch, &mut cost, transaction, progress)?;
            let clash = |source| RepoError::History { what: "tree", id: entry.sha256, source };
            tree.insert(&model.path, entry).map_err(clash)?;
            merged.push(MergedModel { path: model.path, tensors: model.plan.counts });
        }
        progress.finish();
        let root = put_tree(transaction, &tree)?;
        // The work tree is written from the store.
        transaction.seal()?;
        Ok(Stored { tree, root, models: merged, cost })
    }

    fn store_model(
        &self,
        model: &PlannedModel,
        batch: &mut FileBatch,
        cost: &mut SnapshotCost,
        transaction: &Transaction,
        progress: &dyn Progress,
    ) -> Result<FileEntry> {
        let PlannedModel { path, mode, manifests, plan } = model;
        let (Some(ours), Some(theirs)) = (&manifests.ours, &manifests.theirs) else {
            return Err(RepoError::Internal("a model that is merged is missing on a side"));
        };
        let base = manifests.base.as_ref().unwrap_or(ours);
        let own = if plan.layout == Side::Ours { ours } else { theirs };
        let stored = |manifest: &Arc<ContentManifest>| StoredFile::new(manifest, transaction);
        let files = Merge { base: stored(base), ours: stored(ours), theirs: stored(theirs) };
        let source = MergedFile::new(files, plan.layout, &plan.patches);
        let place = Path::new(path);
        let layout = own.layout();
        let finder = Finder::new(transaction);
        let mut kept = || {
            let sample = finder.sample(&source, &layout, place)?;
            let mut files = vec![Arc::clone(own)];
            files.extend([ours, theirs, base].into_iter().filter(|file| file.sha256 != own.sha256).cloned());
            let earlier = EarlierFiles { near: files.len(), files };
            let input = Input { source: &source, path: place, layout: Some(&layout), mark: None };
            let kept = keep_file(input, |_| Ok(earlier), batch, transaction, self.snapshot_options(), progress)?;
            finder.remember(sample, kept.id)?;
            Ok(kept)
        };
        // What kept a block from being read says more than that one could not be read.
        let kept = kept().map_err(|error| source.failure().unwrap_or(error))?;
        cost.add(kept.cost);
        Ok(FileEntry { mode: *mode, size: kept.manifest.size, sha256: kept.manifest.sha256, manifest: kept.id })
    }

    /// Makes the commit of a merge, and moves the branch to it; `waiting` is the state of the merge that was under way.
    fn commit_merged(
        &self,
        state: &MergeState,
        stored: &Stored,
        target: Destination,
        transaction: &Transaction,
        waiting: Option<RefUpdate>,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let mut commit = Commit {
            tree: stored.root,
            parents: vec![state.ours, state.theirs],
            created_at: timestamp::now(),
            author: state.author.clone(),
            message: state.message.clone(),
            records: Vec::new(),
            extra: Default::default(),
        };
        let malformed = |source| RepoError::History { what: "commit", id: stored.root, source };
        state.record.put(&mut commit).map_err(malformed)?;
        let (id, bytes) = commit.encode().map_err(malformed)?;
        put_object(transaction, EntryKind::Commit, &bytes)?;
        let title: String = commit.title().chars().take(200).collect();
        let message = format!("merge: {title}");
        self.move_to(id, (&stored.tree, stored.root), target, waiting, (transaction, &message), progress)?;
        Ok(id)
    }

    /// Moves a branch to a commit with a tree, which what is checked out follows: its files are put in place. `waiting` moves last.
    fn move_to(
        &self,
        commit: Digest,
        (tree, root): (&FileTree, Digest),
        target: Destination,
        waiting: Option<RefUpdate>,
        (transaction, message): (&Transaction, &str),
        progress: &dyn Progress,
    ) -> Result<()> {
        let Destination { name, state: expected, is_checked_out, .. } = target;
        let seen = expected.as_ref().map(|state| state.nonce);
        let branch_moves = RefUpdate { name: name.clone(), expected, target: Target::Commit(commit) };
        let last = [branch_moves].into_iter().chain(waiting);
        if !is_checked_out {
            return self.move_or_lose(transaction, &last.collect::<Vec<_>>(), message);
        }
        // Where somebody else was first, no file is touched.
        if self.read_ref(&name)?.map(|now| now.nonce) != seen {
            return Err(RepoError::Raced(name));
        }
        let placed = self.replace_work_tree(tree, Losses::Keep, progress)?;
        let expected = placed.stage.clone();
        // First the stage: a branch that had moved alone would leave one that undoes the commit.
        let stage = RefUpdate { name: STAGE.to_owned(), expected, target: Target::Tree(root) };
        let updates: Vec<RefUpdate> = [stage].into_iter().chain(last).collect();
        self.move_placed(&placed, transaction, &updates, message, progress)
    }

    /// The branch or commit that is checked out, where that is what a merge under way began from.
    fn resumed(&self, state: &MergeState) -> Result<Destination> {
        let target = self.destination(None)?;
        if target.name != state.moves() || target.commit != Some(state.ours) {
            return Err(MergeProblem::Elsewhere { ours: state.ours }.into());
        }
        Ok(target)
    }
}
