//! The operations of the Hugging Face hub's client on a local repository: see the crate's documentation for the list.
//!
//! They work on bare repositories and on those with a work tree alike, and never look at the work tree.

mod commit;
pub(crate) mod folder;
mod list;
mod operation;
mod read;
mod single;
#[cfg(test)]
mod tests;
mod twin;
mod view;

use std::path::{Path, PathBuf};

use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress};
use shard_history::GitId;
use shard_history::git::LARGE_FILE_THRESHOLD;
use shard_store::{RefUpdate, Target};

pub(crate) use commit::{ATTEMPTS, Terms};
pub use commit::{CommitInfo, CommitRequest};
pub use folder::FolderUpload;
pub use list::{CommitSummary, LastCommit, LfsInfo, ListOptions, RepoEntry, RepoFile, RepoFolder};
pub use operation::{CommitOperation, Content};
pub use read::FileReader;
pub(crate) use twin::TwinMemory;

use crate::error::{RepoError, Result};
use crate::refs::RefProblem;
use crate::repository::{DEFAULT_BRANCH, HEADS, NamedRef, Repository, Settings};

/// How [`Repository::create_repo`] makes a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRepo {
    /// The first branch, which is the default one.
    pub default_branch: String,
    /// Whether one that is there already is opened instead.
    pub exist_ok: bool,
    /// From which size on, in bytes, a file is a pointer of Git LFS in the Git twins of commits; 16 MiB by default.
    pub large_file_threshold: Option<u64>,
    /// Whether the branch begins with a commit without files, as on the hub.
    pub initial_commit: bool,
}

impl Default for NewRepo {
    fn default() -> Self {
        let default_branch = DEFAULT_BRANCH.to_owned();
        Self { default_branch, exist_ok: false, large_file_threshold: None, initial_commit: false }
    }
}

/// What [`Repository::repo_info`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoInfo {
    /// The repository's folder.
    pub path: PathBuf,
    /// The default branch.
    pub default_branch: String,
    /// The commit that was asked for, or that the default branch ends at; `None` on a branch without commits.
    pub head: Option<Digest>,
    /// Its Git twin.
    pub twin: Option<GitId>,
    /// Branches and tags.
    pub refs: Vec<NamedRef>,
    /// From which size on, in bytes, files are pointers in Git twins.
    pub large_file_threshold: u64,
}

impl Repository {
    /// Makes a bare repository in a folder, which is made where it does not exist, and must be empty.
    ///
    /// # Errors
    /// As [`Repository::init_bare`]; where `exist_ok` finds one with another threshold.
    pub fn create_repo(folder: &Path, new: &NewRepo, settings: Settings) -> Result<Self> {
        let repository = match Self::init_bare(folder, &new.default_branch, Cut::V1, settings) {
            Err(RepoError::AlreadyARepository(_)) if new.exist_ok => Self::discover(folder, settings)?,
            made => made?,
        };
        if let Some(threshold) = new.large_file_threshold {
            repository.set_large_file_threshold(threshold)?;
        }
        if new.initial_commit && repository.tip(&repository.default_branch()?)?.1.is_none() {
            let first = CommitRequest::new("Initial commit");
            repository.make_commit(Vec::new(), &first, &Terms::default(), &NoProgress)?;
        }
        Ok(repository)
    }

    /// From which size on, in bytes, files are pointers of Git LFS in Git twins.
    ///
    /// # Errors
    /// A damaged record.
    pub fn large_file_threshold(&self) -> Result<u64> {
        Ok(self.store.large_file_threshold()?.unwrap_or(LARGE_FILE_THRESHOLD))
    }

    /// Chooses that size. It can be chosen once, before anything was committed: Git ids that were given out would change.
    ///
    /// # Errors
    /// [`RepoError::Argument`] where something else was chosen, or there are commits.
    pub fn set_large_file_threshold(&self, bytes: u64) -> Result<()> {
        if self.large_file_threshold()? == bytes {
            return Ok(());
        }
        if self.store.large_file_threshold()?.is_some() || !self.named_refs()?.is_empty() {
            let why = "the threshold of large files cannot be changed any more: Git ids of commits rest on it";
            return Err(RepoError::Argument(why.to_owned()));
        }
        Ok(self.store.choose_large_file_threshold(bytes)?)
    }

    /// What the repository is, seen from a revision or from the default branch.
    ///
    /// # Errors
    /// An unknown revision; what cannot be read.
    pub fn repo_info(&self, revision: Option<&str>) -> Result<RepoInfo> {
        let default_branch = self.default_branch()?;
        let head = match revision {
            Some(revision) => Some(self.resolve(revision)?),
            None => self.tip(&default_branch)?.1,
        };
        Ok(RepoInfo {
            path: self.dir(),
            head,
            twin: head.map(|head| self.twin(head)).transpose()?,
            refs: self.named_refs()?,
            large_file_threshold: self.large_file_threshold()?,
            default_branch,
        })
    }

    /// Moves a branch to a revision. Nothing is deleted: where it was is in its log. What is checked out in a work tree is moved
    /// by [`Repository::reset`] instead, which takes the stage along.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for an unknown branch, or the one that is checked out in a work tree; an unknown revision;
    /// [`RepoError::Raced`].
    pub fn reset_ref(&self, branch: &str, to: &str) -> Result<Digest> {
        let (name, _) = self.target_branch(Some(branch))?;
        let commit = self.resolve(to)?;
        if !self.is_bare() && self.head()?.branch.as_ref() == Some(&name) {
            return Err(RefProblem::CheckedOut(name).into());
        }
        let transaction = self.begin_move("reset", commit)?;
        let full = format!("{HEADS}{name}");
        let update = RefUpdate { expected: self.read_ref(&full)?, name: full, target: Target::Commit(commit) };
        self.move_or_lose(&transaction, &[update], &format!("reset: moving to {to}"))?;
        Ok(commit)
    }

    /// The commit of a revision; without one, that of the default branch.
    pub(super) fn revision_or_default(&self, revision: Option<&str>) -> Result<Digest> {
        match revision {
            Some(revision) => self.resolve(revision),
            None => match self.tip(&self.default_branch()?)?.1 {
                Some(commit) => Ok(commit),
                None => Err(shard_history::RevisionError::Unborn.into()),
            },
        }
    }
}
