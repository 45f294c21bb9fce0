//! A task of a plan that another repository has.

use std::collections::BTreeMap;
use std::path::Path;

use shard_core::{Digest, NoProgress, Progress};
use shard_history::revision::RefKind;

use super::task::title_of;
use super::{FILES, PLANS, PlanProblem, PlanState, PlannedWork, TaskReport, branch_of, result_of, the_one};
use crate::error::{RepoError, Result};
use crate::hub::{ATTEMPTS, CommitRequest, Terms};
use crate::repository::Repository;
use crate::sync::{FetchOptions, Peer, PushOptions, SyncProblem};

impl Repository {
    /// Does a task of a plan of a remote: fetches the plan, does the task here, and pushes its commit. Where others were first, the commit is made
    /// again on top of theirs; what it stores is here already. Several may work in one repository side by side, each at its task.
    ///
    /// `root` is where the files of the plan are: who may push to the other repository does not say what is read here.
    ///
    /// # Errors
    /// As [`Self::do_task`], [`Self::fetch`] and [`Self::push`]; [`PlanProblem::NoRoot`] for files to pack without one.
    pub fn do_task_of(
        &self,
        (remote, there): (&str, &dyn Peer),
        plan: Option<&str>,
        index: u64,
        root: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<TaskReport> {
        let branches = there.welcome()?.refs.into_iter().filter(|found| found.kind == RefKind::Branch);
        let names = branches.filter_map(|found| found.name.strip_prefix(PLANS).map(str::to_owned)).collect();
        let name = the_one(plan, names)?;
        // Where nobody else is at work, unless it is on the same task.
        let own = format!("task-{index}/{name}");
        let outcome = self.push_task((remote, there), &name, (index, &own), root, progress);
        // What was fetched and made stays for the next time where it failed.
        if outcome.is_ok() && self.tip(&own)?.1.is_some() {
            self.delete_branch(&own, true)?;
        }
        outcome
    }

    fn push_task(
        &self,
        (remote, there): (&str, &dyn Peer),
        name: &str,
        (index, own): (u64, &str),
        root: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<TaskReport> {
        let branch = branch_of(name);
        let mut done: Option<(TaskReport, Digest)> = None;
        for attempt in 0..ATTEMPTS {
            let options = FetchOptions { branches: vec![branch.clone()], no_tags: true, ..FetchOptions::default() };
            match self.fetch(Some(remote), there, &options, &NoProgress) {
                Err(RepoError::Sync(SyncProblem::NotThere { .. })) => {
                    return Err(PlanProblem::Unknown(name.to_owned()).into());
                }
                // Another worker of this repository moved the remote branch: it is there, too.
                Err(RepoError::Raced(_)) => {}
                outcome => drop(outcome?),
            }
            let tip = self.resolve(&format!("refs/remotes/{remote}/{branch}"))?;
            let state = self.plan_at(name, tip)?;
            if root.is_none() && matches!(state.plan.work, PlannedWork::Pack { .. }) {
                return Err(PlanProblem::NoRoot(name.to_owned()).into());
            }
            self.set_branch(own, &tip.to_hex())?;
            match &done {
                Some((report, _)) if state.done.contains(&index) => {
                    return Ok(TaskReport { was_done: true, ..report.clone() });
                }
                Some((_, commit)) => self.put_on_top(&state, own, index, *commit)?,
                None => match self.do_task_on(&state, own, index, root, progress)? {
                    (report, Some(commit)) => done = Some((report, commit)),
                    (report, None) => return Ok(report),
                },
            }
            let options = PushOptions { specs: vec![format!("{own}:{branch}")], ..PushOptions::default() };
            match (self.push(None, there, &options, &NoProgress), &done) {
                (Ok(_), Some((report, _))) => return Ok(report.clone()),
                (Err(RepoError::Raced(_) | RepoError::Sync(SyncProblem::NotFastForward { .. })), _) => {
                    self.wait_after(attempt)?;
                }
                (outcome, _) => drop(outcome?),
            }
        }
        Err(RepoError::Raced(branch))
    }

    /// Puts what a commit of a task has on a branch on which the plan has gone on.
    fn put_on_top(&self, state: &PlanState, own: &str, index: u64, commit: Digest) -> Result<()> {
        let there = self.files_of(commit)?;
        let task = usize::try_from(index).ok().and_then(|index| state.plan.tasks.get(index)).into_iter().flatten();
        let paths = task.map(|file| format!("{FILES}/{}", state.plan.work.path_of(&file.path)));
        let entry = |path: String| there.get(&path).copied().map(|entry| (path, entry));
        let files: BTreeMap<_, _> = paths.chain([result_of(index)]).filter_map(entry).collect();
        let request = CommitRequest::new(title_of(&state.plan.name, index)).on(own);
        let terms = Terms { stored: Some((commit, &files)), ..Terms::default() };
        self.make_commit(Vec::new(), &request, &terms, &NoProgress).map(drop)
    }
}
