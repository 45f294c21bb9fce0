//! The end of a plan.

use std::collections::BTreeMap;

use serde_json::Value;
use shard_core::{Digest, Progress};
use shard_history::{FileEntry, TreeNode};

use super::{FILES, PlanProblem, PlanState, PlannedWork, branch_of, result_of};
use crate::error::{RepoError, Result};
use crate::hub::{CommitRequest, Terms};
use crate::repository::Repository;

/// How many commits before the last one of a branch are looked at for one that was made before.
const LOOK_BACK: usize = 1000;

/// What finishing a plan came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOutcome {
    /// How far it was.
    pub state: PlanState,
    /// The commit of all files; `None` where tasks are missing, and for files that were only proven.
    pub commit: Option<Digest>,
    /// What is wrong with files that were proven.
    pub problems: Vec<CheckedFile>,
}

/// A file that was proven, and is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// The task.
    pub task: u64,
    /// Its path.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl Repository {
    /// Finishes a plan whose tasks are all done: makes the commit, or gathers what was found, and deletes the plan. Where tasks are missing,
    /// nothing is changed. A commit that was made before it was killed is not made again.
    ///
    /// # Errors
    /// [`PlanProblem`]; as [`Self::create_commit`].
    pub fn finish_plan(&self, name: Option<&str>, progress: &dyn Progress) -> Result<PlanOutcome> {
        let state = self.plan_state(name)?;
        let mut outcome = PlanOutcome { state, commit: None, problems: Vec::new() };
        let state = &outcome.state;
        if !state.missing().is_empty() {
            return Ok(outcome);
        }
        match &state.plan.work {
            PlannedWork::Pack { commit, .. } => {
                let files = self.stored_files(state)?;
                let before = self.made_before(commit, &files)?;
                outcome.commit = match before {
                    Some(before) => Some(before),
                    None => {
                        let terms = Terms { stored: Some((state.tip, &files)), ..Terms::default() };
                        self.make_commit(Vec::new(), commit, &terms, progress)?.map(|made| made.id)
                    }
                };
            }
            PlannedWork::Verify { .. } => {
                for index in 0..state.plan.tasks.len() as u64 {
                    outcome.problems.extend(self.result(state, index)?);
                }
            }
        }
        self.drop_plan(&state.plan.name)?;
        Ok(outcome)
    }

    fn malformed(state: &PlanState, why: &'static str) -> RepoError {
        PlanProblem::Malformed { branch: branch_of(&state.plan.name), why }.into()
    }

    /// The files that the tasks of a plan have stored, by their paths.
    fn stored_files(&self, state: &PlanState) -> Result<BTreeMap<String, FileEntry>> {
        let mut objects = self.objects();
        let root = objects.shared_commit(state.tip)?.tree;
        let missing = || Self::malformed(state, "a file of a task that is done is not there");
        let Some(TreeNode::Directory(files)) = objects.lookup(root, FILES)? else { return Err(missing()) };
        let there = objects.file_tree(files)?;
        let mut stored = BTreeMap::new();
        for file in state.plan.tasks.iter().flatten() {
            let path = state.plan.work.path_of(&file.path);
            let entry = *there.get(&path).ok_or_else(missing)?;
            stored.insert(path, entry);
        }
        Ok(stored)
    }

    /// The commit of a plan, where it was made already.
    fn made_before(&self, request: &CommitRequest, files: &BTreeMap<String, FileEntry>) -> Result<Option<Digest>> {
        let (branch, _) = self.target_branch(request.revision.as_deref())?;
        let mut objects = self.objects();
        let mut next = self.tip(&branch)?.1;
        for _ in 0..LOOK_BACK {
            let Some(id) = next else { break };
            let commit = objects.shared_commit(id)?;
            let is_said = request.created_at.as_deref() == Some(&commit.created_at)
                && request.message == commit.message
                && request.author == commit.author;
            if is_said {
                let there = objects.file_tree(commit.tree)?;
                if files.iter().all(|(path, entry)| there.get(path) == Some(entry)) {
                    return Ok(Some(id));
                }
            }
            next = commit.parents.first().copied();
        }
        Ok(None)
    }

    /// What a task found.
    fn result(&self, state: &PlanState, index: u64) -> Result<Vec<CheckedFile>> {
        let bytes = self.read_bytes(&result_of(index), Some(&state.tip.to_hex()))?;
        let unreadable = || Self::malformed(state, "the result of a task cannot be read");
        let result: Value = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
        let problem = |problem: &Value| {
            let text = |part: usize| problem[part].as_str().map(str::to_owned);
            Some(CheckedFile { task: index, path: text(0)?, why: text(1)? })
        };
        let problems = result["problems"].as_array().and_then(|problems| problems.iter().map(problem).collect());
        problems.ok_or_else(unreadable)
    }
}
