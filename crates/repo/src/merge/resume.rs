//! A merge under way: conflicts decided from one side, the commit, or back to before.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use shard_core::Progress;
use shard_history::{ConflictKind, FileEntry, FileTree, Merge, MergeStatus, Rules, Side, diff_files};
use shard_store::refs::RefError;
use shard_store::{RefUpdate, StoreError, Target, Transaction};

use super::{Destination, MergeProblem, MergeReport, MergeState, Plan, Stored};
use crate::checkout::{CheckoutOptions, CheckoutReport, NAMED, Placed, place_all};
use crate::error::{RepoError, Result};
use crate::repository::{Repository, STAGE};
use crate::status::WorkState;

/// How to go on with a merge.
#[derive(Debug, Clone, Default)]
pub struct ContinueOptions {
    /// Another message than the merge began with.
    pub message: Option<String>,
    /// Another author.
    pub author: Option<String>,
    /// Other rules than the merge began with, for what is not decided yet.
    pub rules: Option<Rules>,
}

impl Repository {
    /// Commits the merge that is under way, where everything is decided: by what was staged since it began, or by rules. Otherwise
    /// the report has the conflicts that are left, and nothing has moved.
    ///
    /// # Errors
    /// [`RepoError::Merge`] where none is under way, something else is checked out now, what was staged meanwhile is changed by the
    /// merge too, or rules are given and nothing is left for them; otherwise as [`Self::merge`].
    pub fn continue_merge(&self, options: &ContinueOptions, progress: &dyn Progress) -> Result<MergeReport> {
        self.again_if_condemned(|| self.continue_once(options, progress))
    }

    fn continue_once(&self, options: &ContinueOptions, progress: &dyn Progress) -> Result<MergeReport> {
        // Before refs are read: what they name stays from here on.
        let transaction = self.store.begin("merge")?;
        let (at, mut state) = self.read_merge()?.ok_or(MergeProblem::NotUnderWay)?;
        let target = self.resumed(&state)?;
        let mut report = MergeReport::new(&target, state.theirs);
        report.base = state.record.base;
        if let Some(message) = options.message.clone().filter(|message| !message.trim().is_empty()) {
            state.message = message;
        }
        state.author = options.author.clone().or(state.author);
        if let Some(rules) = options.rules.clone() {
            state.record.rules = rules;
        }
        if options.rules.is_some() && state.is_staged {
            return Err(MergeProblem::NothingForRules.into());
        }
        let before = self.files_of(state.ours)?;
        let stored = if state.is_staged {
            let (_, tree) = self.stage()?;
            let root = crate::stage::put_tree(&transaction, &tree)?;
            Stored { tree, root, models: Vec::new(), cost: Default::default() }
        } else {
            let commits = Merge { base: state.record.base, ours: Some(state.ours), theirs: Some(state.theirs) };
            let mut plan = self.plan_merge(commits, &state.record.rules)?;
            self.decide(&mut plan, &state)?;
            if !plan.conflicts.is_empty() {
                report.status = MergeStatus::Conflict;
                report.is_waiting = true;
                self.tell_conflicts(&mut plan, progress)?;
                report.conflicts = plan.conflicts;
                return Ok(report);
            }
            let is_ruled = state.unresolved().next().is_some() || !plan.models.is_empty() || !plan.taken.is_empty();
            if options.rules.is_some() && !is_ruled {
                return Err(MergeProblem::NothingForRules.into());
            }
            report.taken = plan.taken.clone();
            state.record.files = plan.models.iter().map(|model| model.path.clone()).collect();
            self.store_merged(plan, &transaction, progress)?
        };
        report.changes = diff_files(&before, &stored.tree);
        (report.models, report.cost) = (stored.models.clone(), stored.cost);
        let done = RefUpdate { name: at.name.clone(), expected: Some(at), target: Target::Deleted };
        let commit = self.commit_merged(&state, &stored, target, &transaction, Some(done), progress)?;
        report.status = MergeStatus::Merged;
        (report.to, report.commit) = (Some(commit), Some(commit));
        Ok(report)
    }

    /// Puts what was staged since the merge began into its plan.
    fn decide(&self, plan: &mut Plan, state: &MergeState) -> Result<()> {
        let (_, stage) = self.stage()?;
        let ours = &plan.sides.ours;
        let is_decided = |path: &str| state.resolved.contains(path);
        plan.models.retain(|model| !is_decided(&model.path));
        plan.taken.retain(|(path, _)| !is_decided(path));
        let mut decided: BTreeMap<String, Option<FileEntry>> = BTreeMap::new();
        plan.conflicts.retain(|conflict| {
            if !is_decided(&conflict.path) {
                return true;
            }
            // A file that stays where the other side has a folder leaves nothing below it.
            if conflict.kind == ConflictKind::FileDirectory && stage.get(&conflict.path).is_some() {
                let below = plan.tree.below(&conflict.path).map(|(path, _)| (path.clone(), stage.get(path).copied()));
                decided.extend(below);
            }
            false
        });
        decided.extend(state.resolved.iter().map(|path| (path.clone(), stage.get(path).copied())));
        // What else was staged is part of the result, unless the merge changes it too.
        let open: HashSet<&str> = plan.conflicts.iter().map(|conflict| conflict.path.as_str()).collect();
        let models: HashSet<&str> = plan.models.iter().map(|model| model.path.as_str()).collect();
        let mut clashes = Vec::new();
        for path in ours.files().keys().chain(stage.files().keys()) {
            let (before, now, merged) = (ours.get(path), stage.get(path), plan.tree.get(path));
            if before == now || open.contains(path.as_str()) || decided.contains_key(path) {
                continue;
            }
            if models.contains(path.as_str()) || (merged != before && merged != now) {
                clashes.push(path.clone());
            } else {
                decided.insert(path.clone(), now.copied());
            }
        }
        if !clashes.is_empty() {
            clashes.sort();
            clashes.dedup();
            clashes.truncate(NAMED);
            return Err(MergeProblem::StagedMeanwhile(clashes).into());
        }
        put_all(&mut plan.tree, &decided)
    }

    /// Gives up the merge that is under way. The stage is again what it was when the merge began, and so are the files of the work
    /// tree that were staged since, and those in conflict; other changes stay. Where something else is checked out by now, the
    /// merge is only forgotten.
    ///
    /// # Errors
    /// [`RepoError::Merge`] where none is under way; [`RepoError::WouldOverwrite`] where a file that was staged since, and is not in
    /// conflict, has changes that were not staged, unless they may be lost; what cannot be read or written.
    pub fn abort_merge(&self, options: CheckoutOptions, progress: &dyn Progress) -> Result<MergeState> {
        self.again_if_condemned(|| self.abort_once(options, progress))
    }

    fn abort_once(&self, options: CheckoutOptions, progress: &dyn Progress) -> Result<MergeState> {
        let transaction = self.store.begin("merge")?;
        let (at, state) = self.read_merge()?.ok_or(MergeProblem::NotUnderWay)?;
        let mut updates = Vec::new();
        let is_here = match self.resumed(&state) {
            Err(RepoError::Merge(MergeProblem::Elsewhere { .. })) => false,
            target => target.map(|_| true)?,
        };
        if is_here {
            let (ours, theirs) = (self.files_of(state.ours)?, self.files_of(state.theirs)?);
            let (expected, stage) = self.stage()?;
            let changes: BTreeMap<String, WorkState> = self.work_changes(&stage)?.into_iter().collect();
            let is_touched = |path: &str| {
                stage.get(path) != ours.get(path) || (state.conflicts.contains_key(path) && changes.contains_key(path))
            };
            let wanted: BTreeMap<&String, &FileEntry> =
                ours.files().iter().filter(|(path, _)| is_touched(path)).collect();
            // A new file that the merge did not bring was there before it.
            let removed: Vec<String> = stage
                .files()
                .keys()
                .filter(|path| ours.get(path).is_none() && theirs.get(path).is_some())
                .cloned()
                .collect();
            if !options.force {
                let touched = wanted.keys().copied().chain(&removed).map(String::as_str);
                let others = touched.filter(|path| !state.conflicts.contains_key(*path));
                self.refuse_unstaged(others, &changes, &ours)?;
            }
            self.replace(&wanted, &removed, progress)?;
            let root = crate::stage::put_tree(&transaction, &ours)?;
            if expected.as_ref().is_some_and(|state| state.target != Target::Tree(root)) {
                updates.push(RefUpdate { name: STAGE.to_owned(), expected, target: Target::Tree(root) });
            }
        }
        updates.push(RefUpdate { name: at.name.clone(), expected: Some(at), target: Target::Deleted });
        self.move_or_lose(&transaction, &updates, "merge: given up")?;
        Ok(state)
    }

    /// Decides about conflicts of the merge under way: takes what one side has at them into the work tree and the stage, over what
    /// is there, and removes what it has not. A path names the conflict at it, and those below it that are not decided yet; where one
    /// side has a file and the other a folder, also a path below it does, and what lies below follows. All else stays.
    ///
    /// # Errors
    /// [`RepoError::Merge`] where none is under way, something else is checked out now, or a path names no conflict;
    /// [`RepoError::WouldOverwrite`] where files that are not in conflict themselves have to make room, and have changes that were
    /// not staged; what cannot be read or written.
    pub fn checkout_side(&self, side: Side, paths: &[PathBuf], progress: &dyn Progress) -> Result<CheckoutReport> {
        self.again_if_condemned(|| self.checkout_side_once(side, paths, progress))
    }

    fn checkout_side_once(&self, side: Side, paths: &[PathBuf], progress: &dyn Progress) -> Result<CheckoutReport> {
        let transaction = self.store.begin("checkout")?;
        let (_, state) = self.read_merge()?.ok_or(MergeProblem::NotUnderWay)?;
        let Destination { branch, .. } = self.resumed(&state)?;
        let (ours, theirs) = (self.files_of(state.ours)?, self.files_of(state.theirs)?);
        let (expected, mut stage) = self.stage()?;
        let mut named: BTreeSet<&str> = BTreeSet::new();
        for given in paths {
            let path = self.work()?.tracked_path(given)?;
            let is_file = [&ours, &theirs, &stage].iter().any(|tree| tree.get(&path).is_some());
            let found = named_by(&path, is_file, &state);
            if found.is_empty() {
                return Err(MergeProblem::NotInConflict(path).into());
            }
            named.extend(found);
        }
        let (commit, tree) = if side == Side::Ours { (state.ours, ours) } else { (state.theirs, theirs) };
        // Where a file is in the place of a folder, one of them goes with all that is below.
        let below =
            named.iter().flat_map(|path| tree.below(path).chain(stage.below(path))).map(|(path, _)| path.as_str());
        let below: BTreeSet<&str> =
            below.filter(|path| !named.contains(path) && tree.get(path) != stage.get(path)).collect();
        if !below.is_empty() {
            let changes = self.work_changes(&stage)?.into_iter().collect();
            self.refuse_unstaged(below.iter().copied(), &changes, &tree)?;
        }
        let (mut wanted, mut removed) = (BTreeMap::new(), Vec::new());
        for path in named.iter().chain(&below).copied() {
            match tree.get(path) {
                Some(entry) => drop(wanted.insert(path.to_owned(), *entry)),
                None if stage.get(path).is_some() => removed.push(path.to_owned()),
                None => {}
            }
        }
        self.replace(&wanted.iter().collect(), &removed, progress)?;
        let gone = removed.iter().map(|path| (path.clone(), None));
        let changes = wanted.iter().map(|(path, entry)| (path.clone(), Some(*entry))).chain(gone).collect();
        let message = format!("checkout: {} of the merge", side.as_str());
        let decided: BTreeSet<String> = named.iter().chain(&below).map(|path| (*path).to_owned()).collect();
        self.move_stage(&transaction, expected, &mut stage, &changes, |path| decided.contains(path), &message)?;
        let written = wanted.into_iter().map(|(path, entry)| (path, entry.size)).collect();
        Ok(CheckoutReport { commit, branch, written, removed, unchanged: 0 })
    }

    /// Refuses where files that are to be those of a tree have changes that were not staged.
    fn refuse_unstaged<'a>(
        &self,
        paths: impl Iterator<Item = &'a str>,
        changes: &BTreeMap<String, WorkState>,
        target: &FileTree,
    ) -> Result<()> {
        let mut lost = Vec::new();
        for path in paths {
            let is_changed = matches!(changes.get(path), Some(WorkState::Modified | WorkState::Untracked));
            if is_changed && !self.has_content(path, target.get(path))? {
                lost.push(path.to_owned());
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        lost.sort();
        lost.truncate(NAMED);
        Err(RepoError::WouldOverwrite { what: "changes that were not staged would be lost", paths: lost })
    }

    /// Moves refs after files were put in place. Where none moved, since another writer was first or the store refused, what was there
    /// is put back, so that the command can be run again.
    pub(super) fn move_placed(
        &self,
        placed: &Placed,
        transaction: &Transaction,
        updates: &[RefUpdate],
        message: &str,
        progress: &dyn Progress,
    ) -> Result<()> {
        let moved = self.move_or_lose(transaction, updates, message);
        let some_moved = |error: &RepoError| matches!(error, RepoError::Store(StoreError::Ref(error)) if matches!(**error, RefError::Partial { .. }));
        if moved.as_ref().is_err_and(|error| !some_moved(error)) {
            let wanted = placed.before.iter().filter_map(|(path, entry)| Some((path, entry.as_ref()?))).collect();
            let removed = placed.before.iter().filter(|(_, entry)| entry.is_none());
            self.replace(&wanted, &removed.map(|(path, _)| path.clone()).collect::<Vec<_>>(), progress)?;
        }
        moved
    }

    /// Writes and removes files of the work tree; everything is decoded before anything is touched.
    fn replace(
        &self,
        wanted: &BTreeMap<&String, &FileEntry>,
        removed: &[String],
        progress: &dyn Progress,
    ) -> Result<()> {
        self.refuse_clashes(wanted, removed)?;
        let ready = self.prepare_files(wanted, progress)?;
        for path in removed {
            self.work()?.remove(path)?;
        }
        place_all(ready, self.work()?.root())?;
        Ok(())
    }
}

/// The conflicts that a path names; `is_file` says whether a file is or was at that path.
fn named_by<'a>(path: &str, is_file: bool, state: &'a MergeState) -> Vec<&'a str> {
    let is_below = |path: &str, folder: &str| {
        folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    };
    let is_named = |conflict: &str, kind: ConflictKind| {
        conflict == path
            // What someone decided about by its own name is not decided again with its folder.
            || (is_below(conflict, path) && !state.resolved.contains(conflict))
            || (kind == ConflictKind::FileDirectory && is_file && is_below(path, conflict))
    };
    let conflicts = state.conflicts.iter().map(|(conflict, kind)| (conflict.as_str(), *kind));
    conflicts.filter(|(conflict, kind)| is_named(conflict, *kind)).map(|(conflict, _)| conflict).collect()
}

/// Puts entries into a tree, first what goes: a folder may become a file.
fn put_all(tree: &mut FileTree, entries: &BTreeMap<String, Option<FileEntry>>) -> Result<()> {
    for path in entries.iter().filter(|(_, entry)| entry.is_none()).map(|(path, _)| path) {
        tree.remove(path);
    }
    for (path, entry) in entries {
        if let Some(entry) = entry {
            let clash =
                |error: shard_history::HistoryError| RepoError::Path { path: path.into(), why: error.to_string() };
            tree.insert(path, *entry).map_err(clash)?;
        }
    }
    Ok(())
}
