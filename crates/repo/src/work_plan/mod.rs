//! Work for many machines: a plan of numbered tasks, each of which any process can do that reaches the repository, in any order and more
//! than once. Who starts those processes is none of shard's business.
//!
//! A plan is a branch, `plan/NAME`. Its first commit has the list of tasks; a task that is done is a commit on top, with its files and its
//! result. So compare-and-swap of refs decides which of two that did the same task counts, nothing that a task has stored is collected
//! before the plan ends, and the repository is all that the machines share. To finish a plan makes one commit of all files on the branch
//! that they are for, which is the same as if one machine had made it, and deletes the plan.

mod away;
mod finish;
mod list;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use shard_core::{Digest, NoProgress};
use shard_history::{Timestamp, TreeNode, natural_cmp, validate_path};
use shard_store::timestamp;
use thiserror::Error;

pub use finish::{CheckedFile, PlanOutcome};
pub use list::{PlannedWork, TaskFile, WorkPlan};
pub use task::TaskReport;

use crate::error::{RepoError, Result};
use crate::hub::folder::files_below;
use crate::hub::{CommitOperation, CommitRequest, Terms};
use crate::refs::RefProblem;
use crate::repository::Repository;

/// What the names of plans' branches begin with.
const PLANS: &str = "plan/";
/// Where in a plan's tree its list is, its results are, and the files that its tasks stored.
const LIST: &str = "plan.json";
const RESULTS: &str = "tasks";
const FILES: &str = "files";

/// Most tasks of a plan.
const MAX_TASKS: usize = 1_000_000;

/// What cannot be done with a plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanProblem {
    /// There is none of that name.
    #[error("there is no plan {0:?}")]
    Unknown(String),
    /// None was named, and which one is meant cannot be told.
    #[error("{}", match .0 { 0 => "there is no plan".to_owned(), count => format!("there are {count} plans") })]
    NoDefault(usize),
    /// It is another repository's, and it was not said where its files are.
    #[error("the plan {0:?} is another repository's, and is not asked which files are read here")]
    NoRoot(String),
    /// It has no task of that number.
    #[error("the plan {name:?} has the tasks 0 to {last}, and no task {index}")]
    NoTask {
        /// The plan.
        name: String,
        /// The number.
        index: u64,
        /// The last task.
        last: u64,
    },
    /// A file has another size than when the plan was made.
    #[error("{} has {found} bytes, and had {planned} when the plan was made", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes that the plan says.
        planned: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The branch is no plan that this version knows.
    #[error("the branch {branch:?} is no plan that this version of shard understands: {why}")]
    Malformed {
        /// The branch.
        branch: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// Files to be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesToPack {
    /// The folder that paths are relative to. Workers may have it elsewhere.
    pub root: PathBuf,
    /// Files and folders, of which the files in them are meant, each in or below `root`; all that is below it where there is none.
    /// Files stay in this order, those of a folder in the order of the numbers in their names: the later ones of a task are
    /// deltas against the earlier ones.
    pub paths: Vec<PathBuf>,
    /// The folder in the repository; its root without one.
    pub into: Option<String>,
    /// What the commit says, and the branch that it goes to; `parent_commit` does not count.
    pub commit: CommitRequest,
}

/// How far a plan is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanState {
    /// The plan.
    pub plan: WorkPlan,
    /// The tasks that are done.
    pub done: BTreeSet<u64>,
    /// The commit that the plan's branch ends at.
    tip: Digest,
}

impl PlanState {
    /// The tasks that are not done.
    #[must_use]
    pub fn missing(&self) -> Vec<u64> {
        (0..self.plan.tasks.len() as u64).filter(|index| !self.done.contains(index)).collect()
    }
}

impl Repository {
    /// Makes a plan to store files in one commit, of tasks of at most `per_task` of them.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for a name that is not allowed or taken, and a branch that is not there; [`RepoError::Path`] and
    /// [`RepoError::BadPath`] for files outside of the root and names that cannot be kept; [`RepoError::NothingToDo`] without files;
    /// [`RepoError::Argument`] without a message, and for too many tasks; what cannot be read or written.
    pub fn plan_to_pack(&self, name: &str, files: &FilesToPack, per_task: usize) -> Result<WorkPlan> {
        let root = std::path::absolute(&files.root).map_err(RepoError::io("cannot be found", &files.root))?;
        if root.to_str().is_none() {
            return Err(RepoError::Path { path: root, why: "is not valid UTF-8".to_owned() });
        }
        let (branch, _) = self.target_branch(files.commit.revision.as_deref())?;
        let created_at = match &files.commit.created_at {
            None => timestamp::now(),
            Some(given) => {
                given.parse::<Timestamp>().map_err(|error| RepoError::Argument(error.to_string()))?.to_string()
            }
        };
        let commit = CommitRequest {
            message: files.commit.text()?,
            description: None,
            revision: Some(branch),
            parent_commit: None,
            author: files.commit.author.clone(),
            created_at: Some(created_at),
        };
        let into = files.into.as_deref().map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty());
        let found = found_files(&root, &files.paths)?;
        let work = PlannedWork::Pack { root, into: into.map(str::to_owned), commit };
        for file in &found {
            validate_path(&work.path_of(&file.path))
                .map_err(|error| RepoError::BadPath { path: error.path, why: error.reason })?;
        }
        self.make_plan(name, work, found, per_task)
    }

    /// Makes a plan to prove files of a revision, of tasks of at most `per_task` of them.
    ///
    /// # Errors
    /// As [`Self::plan_to_pack`]; a revision that is not there.
    pub fn plan_to_verify(&self, name: &str, revision: &str, per_task: usize) -> Result<WorkPlan> {
        let commit = self.resolve(revision)?;
        let files = self.files_of(commit)?;
        let file =
            |(path, entry): (&String, &shard_history::FileEntry)| TaskFile { path: path.clone(), size: entry.size };
        let mut found: Vec<TaskFile> = files.files().iter().map(file).collect();
        found.sort_by(|a, b| natural_cmp(&a.path, &b.path));
        self.make_plan(name, PlannedWork::Verify { commit }, found, per_task)
    }

    fn make_plan(&self, name: &str, work: PlannedWork, files: Vec<TaskFile>, per_task: usize) -> Result<WorkPlan> {
        if files.is_empty() {
            return Err(RepoError::NothingToDo("there are no files to plan for".to_owned()));
        }
        let tasks: Vec<Vec<TaskFile>> = files.chunks(per_task.max(1)).map(<[TaskFile]>::to_vec).collect();
        if tasks.len() > MAX_TASKS {
            return Err(RepoError::Argument(format!("a plan has at most {MAX_TASKS} tasks, and not {}", tasks.len())));
        }
        let plan = WorkPlan { name: name.to_owned(), work, tasks };
        let request = CommitRequest::new(format!("Plan {name}")).on(branch_of(name));
        let terms = Terms { makes_branch: true, ..Terms::default() };
        let operations = vec![CommitOperation::add(LIST, plan.to_bytes())];
        self.make_commit(operations, &request, &terms, &NoProgress)?;
        Ok(plan)
    }

    /// The names of the plans.
    ///
    /// # Errors
    /// Refs that cannot be read.
    pub fn plans(&self) -> Result<Vec<String>> {
        let branches = self.branches()?.into_iter();
        Ok(branches.filter_map(|branch| branch.name.strip_prefix(PLANS).map(str::to_owned)).collect())
    }

    /// A plan, and how far it is: the one that is named, or the only one.
    ///
    /// # Errors
    /// [`PlanProblem`]; what cannot be read.
    pub fn plan_state(&self, name: Option<&str>) -> Result<PlanState> {
        let name = the_one(name, self.plans()?)?;
        let unknown = || PlanProblem::Unknown(name.clone());
        let tip = match self.tip(&branch_of(&name)) {
            Ok((_, tip)) => tip.ok_or_else(unknown)?,
            Err(RepoError::Ref(RefProblem::Name { .. })) => return Err(unknown().into()),
            Err(error) => return Err(error),
        };
        self.plan_at(&name, tip)
    }

    /// How far a plan is at a commit of its branch.
    fn plan_at(&self, name: &str, tip: Digest) -> Result<PlanState> {
        let mut objects = self.objects();
        // First what a ref names: it may be in a pack that others wrote just now, and ids are looked for in packs that are known.
        let root = objects.shared_commit(tip)?.tree;
        let bytes = self.read_bytes(LIST, Some(&tip.to_hex()))?;
        let malformed = |why| PlanProblem::Malformed { branch: branch_of(name), why };
        let plan = WorkPlan::from_bytes(name, &bytes).map_err(malformed)?;
        let mut done = BTreeSet::new();
        if let Some(TreeNode::Directory(results)) = objects.lookup(root, RESULTS)? {
            let results = objects.tree(results)?;
            done.extend(results.entries.keys().filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok()));
        }
        Ok(PlanState { plan, done, tip })
    }

    /// Gives up a plan. What its tasks have stored goes with the next collection.
    ///
    /// # Errors
    /// [`PlanProblem::Unknown`]; [`RepoError::Raced`] where a task was done meanwhile; what cannot be written.
    pub fn drop_plan(&self, name: &str) -> Result<()> {
        if self.tip(&branch_of(name))?.1.is_none() {
            return Err(PlanProblem::Unknown(name.to_owned()).into());
        }
        self.delete_branch(&branch_of(name), true).map(drop)
    }
}

/// The plan that is named, or the only one there is.
fn the_one(name: Option<&str>, mut names: Vec<String>) -> Result<String> {
    match (name, names.len()) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, 1) => Ok(names.remove(0)),
        (None, count) => Err(PlanProblem::NoDefault(count).into()),
    }
}

/// The branch of a plan.
fn branch_of(name: &str) -> String {
    format!("{PLANS}{name}")
}

/// Where in a plan's tree the result of a task is.
fn result_of(index: u64) -> String {
    format!("{RESULTS}/{index:06}.json")
}

/// The files at and below paths, by their paths below a root.
fn found_files(root: &Path, paths: &[PathBuf]) -> Result<Vec<TaskFile>> {
    let all = [PathBuf::from(".")];
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for path in if paths.is_empty() { &all } else { paths } {
        let place = root.join(path);
        let outside = |why: &str| RepoError::Path { path: place.clone(), why: why.to_owned() };
        let below = place.strip_prefix(root).map_err(|_| outside("is not below the root of the plan"))?;
        let mut parts = Vec::new();
        for part in below.components() {
            match part {
                std::path::Component::Normal(name) => {
                    parts.push(name.to_str().ok_or_else(|| outside("has a name that is not valid UTF-8; rename it"))?);
                }
                std::path::Component::CurDir => {}
                _ => return Err(outside("is not below the root of the plan")),
            }
        }
        let prefix = parts.join("/");
        let metadata = std::fs::metadata(&place).map_err(RepoError::io("cannot read", &place))?;
        let mut files = if metadata.is_dir() {
            let join = |path: String| if prefix.is_empty() { path } else { format!("{prefix}/{path}") };
            files_below(&place)?.into_iter().map(join).collect()
        } else {
            vec![prefix]
        };
        files.sort_by(|a, b| natural_cmp(a, b));
        for path in files {
            if seen.insert(path.clone()) {
                let place = root.join(&path);
                let size = std::fs::metadata(&place).map_err(RepoError::io("cannot read", &place))?.len();
                found.push(TaskFile { path, size });
            }
        }
    }
    Ok(found)
}
