//! One task of a plan.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shard_core::{Digest, Progress, Sha256};
use shard_history::FileEntry;
use shard_store::process::Process;

use super::{FILES, PlanProblem, PlanState, PlannedWork, branch_of, result_of};
use crate::blocks::read_in_order;
use crate::error::{RepoError, Result};
use crate::hub::{CommitOperation, CommitRequest, Content, Terms};
use crate::objects::check_manifest;
use crate::refs::RefProblem;
use crate::repository::Repository;
use crate::restore::file_bytes;

/// What doing a task came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// The plan.
    pub plan: String,
    /// The task.
    pub index: u64,
    /// Whether somebody has done it before, or meanwhile: this time counts for nothing then.
    pub was_done: bool,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong with files that were to be proven: their paths, and why.
    pub problems: Vec<(String, String)>,
}

impl Repository {
    /// Does a task of a plan, the one that is named or the only one, unless it is done. `root` is where the files of the plan are here, if
    /// that is elsewhere than on the machine that made the plan.
    ///
    /// When it returns, the task is done, and stays so through a power loss. What fails or is killed before leaves the plan as it was.
    ///
    /// # Errors
    /// [`PlanProblem`]; what cannot be read or written. Damage that was looked for is no error.
    pub fn do_task(
        &self,
        plan: Option<&str>,
        index: u64,
        root: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<TaskReport> {
        let state = self.plan_state(plan)?;
        Ok(self.do_task_on(&state, &branch_of(&state.plan.name), index, root, progress)?.0)
    }

    /// Does a task of a plan in a commit on a branch that ends where the plan does: also gives that commit, if one was made.
    pub(super) fn do_task_on(
        &self,
        state: &PlanState,
        branch: &str,
        index: u64,
        root: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<(TaskReport, Option<Digest>)> {
        let plan = &state.plan;
        let task = usize::try_from(index).ok().and_then(|index| plan.tasks.get(index));
        let task = task.ok_or_else(|| {
            let last = (plan.tasks.len() as u64).saturating_sub(1);
            RepoError::from(PlanProblem::NoTask { name: plan.name.clone(), index, last })
        })?;
        let mut report = TaskReport {
            plan: plan.name.clone(),
            index,
            was_done: state.done.contains(&index),
            files: task.len() as u64,
            bytes: task.iter().map(|file| file.size).sum(),
            problems: Vec::new(),
        };
        if report.was_done {
            return Ok((report, None));
        }
        let mut operations = Vec::new();
        match &plan.work {
            PlannedWork::Pack { root: planned, .. } => {
                let root = root.unwrap_or(planned);
                for file in task {
                    let path = root.join(&file.path);
                    let found = fs::metadata(&path).map_err(RepoError::io("cannot read", &path))?.len();
                    if found != file.size {
                        return Err(PlanProblem::Size { path, planned: file.size, found }.into());
                    }
                    let there = format!("{FILES}/{}", plan.work.path_of(&file.path));
                    operations.push(CommitOperation::add(there, Content::File(path)));
                }
            }
            PlannedWork::Verify { commit } => {
                let files = self.files_of(*commit)?;
                progress.begin("verifying", Some(report.bytes));
                for file in task {
                    let missing = || RepoError::NoSuchPath { revision: commit.to_hex(), path: file.path.clone() };
                    match self.prove_file(&file.path, files.get(&file.path).ok_or_else(missing)?, progress) {
                        Err(error) if error.is_damage() || matches!(error, RepoError::WrongFile { .. }) => {
                            report.problems.push((file.path.clone(), error.to_string()));
                        }
                        outcome => outcome?,
                    }
                }
                progress.finish();
            }
        }
        let result = result_of(index);
        let problems: Vec<Value> = report.problems.iter().map(|(path, why)| json!([path, why])).collect();
        let note = json!({"host": Process::current().host, "problems": problems});
        operations.push(CommitOperation::add(result.clone(), format!("{note}\n").into_bytes()));
        let terms = Terms { unless: Some(&result), ..Terms::default() };
        let request = CommitRequest::new(title_of(&plan.name, index)).on(branch);
        let made = self.make_commit(operations, &request, &terms, progress).map_err(|error| match error {
            // Finished or given up meanwhile.
            RepoError::Ref(RefProblem::Unknown { .. }) => PlanProblem::Unknown(plan.name.clone()).into(),
            error => error,
        })?;
        report.was_done = made.is_none();
        Ok((report, made.map(|made| made.id)))
    }

    /// Reads a file whole, and compares it with what its tree says of it.
    fn prove_file(&self, path: &str, entry: &FileEntry, progress: &dyn Progress) -> Result<()> {
        let manifest = self.objects().manifest_once(entry.manifest)?;
        check_manifest(path, entry, &manifest)?;
        let ids: Vec<Digest> = manifest.blocks().map(|block| block.span.id).collect();
        let (mut file, mut hash) = (file_bytes(&manifest), Sha256::new());
        read_in_order(&self.store, &ids, &mut |_, block| {
            progress.advance(block.len() as u64);
            file.push(block, &mut |bytes: &[u8]| {
                hash.update(bytes);
                Ok::<(), RepoError>(())
            })
        })?;
        let found = hash.finish();
        if found == entry.sha256 {
            return Ok(());
        }
        Err(RepoError::WrongFile { path: path.to_owned(), expected: entry.sha256, found })
    }
}

/// What the commit of a task says.
pub(super) fn title_of(plan: &str, index: u64) -> String {
    format!("Task {index} of {plan}")
}
