//! The list of a plan's tasks, as JSON.

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_core::Digest;
use shard_history::validate_path;

use crate::hub::CommitRequest;

const VERSION: u64 = 1;

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkPlan {
    /// Its name.
    pub name: String,
    /// What is done with the files.
    pub work: PlannedWork,
    /// The tasks, by their numbers from 0 on.
    pub tasks: Vec<Vec<TaskFile>>,
}

/// What is done with files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedWork {
    /// They are stored, in one commit in the end.
    Pack {
        /// Where they are.
        root: PathBuf,
        /// The folder in the repository; its root without one.
        into: Option<String>,
        /// What the commit says: message, branch, author and time.
        commit: CommitRequest,
    },
    /// They are proven.
    Verify {
        /// The commit that has them.
        commit: Digest,
    },
}

/// A file of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFile {
    /// Its path: below the root of what is stored, or in the commit that is proven.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

impl PlannedWork {
    /// The path in the repository of a file of a task.
    #[must_use]
    pub fn path_of(&self, path: &str) -> String {
        match self {
            Self::Pack { into: Some(into), .. } => format!("{into}/{path}"),
            _ => path.to_owned(),
        }
    }

    /// What is done, in a word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pack { .. } => "pack",
            Self::Verify { .. } => "verify",
        }
    }
}

impl WorkPlan {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let file = |file: &TaskFile| json!([file.path, file.size]);
        let tasks: Vec<Value> = self.tasks.iter().map(|task| task.iter().map(file).collect()).collect();
        let mut list = match &self.work {
            PlannedWork::Pack { root, into, commit } => json!({
                // Made of a path that was given as text, or found below one.
                "root": root.to_string_lossy(),
                "into": into,
                "branch": commit.revision,
                "message": commit.message,
                "author": commit.author,
                "created_at": commit.created_at,
            }),
            PlannedWork::Verify { commit } => json!({"commit": commit.to_hex()}),
        };
        (list["version"], list["work"], list["tasks"]) = (VERSION.into(), self.work.as_str().into(), tasks.into());
        format!("{list:#}\n").into_bytes()
    }

    /// The plan, or what is wrong with its list.
    pub(super) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, &'static str> {
        let list: Value = serde_json::from_slice(bytes).map_err(|_| "its list is no JSON")?;
        if list["version"].as_u64() != Some(VERSION) {
            return Err("its list is of another version");
        }
        let text = |field: &str| list[field].as_str().map(str::to_owned);
        let work = match list["work"].as_str() {
            Some("pack") => PlannedWork::Pack {
                root: text("root").ok_or("it does not say where the files are")?.into(),
                into: text("into"),
                commit: CommitRequest {
                    message: text("message").ok_or("its commit has no message")?,
                    revision: Some(text("branch").ok_or("its commit has no branch")?),
                    author: text("author"),
                    created_at: Some(text("created_at").ok_or("its commit has no time")?),
                    ..CommitRequest::default()
                },
            },
            Some("verify") => {
                let commit = list["commit"].as_str().and_then(|commit| Digest::from_hex(commit).ok());
                PlannedWork::Verify { commit: commit.ok_or("it does not say which commit is meant")? }
            }
            _ => return Err("what is to be done is unknown"),
        };
        let file = |file: &Value| {
            let path = file[0].as_str().filter(|path| validate_path(path).is_ok())?;
            Some(TaskFile { path: path.to_owned(), size: file[1].as_u64()? })
        };
        let task = |task: &Value| task.as_array()?.iter().map(file).collect::<Option<Vec<TaskFile>>>();
        let tasks = list["tasks"].as_array().and_then(|tasks| tasks.iter().map(task).collect::<Option<Vec<_>>>());
        let tasks = tasks.filter(|tasks| !tasks.is_empty()).ok_or("its tasks cannot be read")?;
        Ok(Self { name: name.to_owned(), work, tasks })
    }
}
