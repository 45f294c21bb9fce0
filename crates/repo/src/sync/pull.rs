//! `pull`: what was fetched goes into what is checked out.

use shard_core::Progress;

use super::fetch::FetchOptions;
use super::peer::Peer;
use super::remotes::tracking;
use super::{SyncProblem, SyncReport};
use crate::error::Result;
use crate::merge::{MergeOptions, MergeReport};
use crate::repository::Repository;

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// What was fetched.
    pub fetched: SyncReport,
    /// The remote branch, as in `origin/main`.
    pub source: String,
    /// What the merge came to; `None` where the branch had no commits, and has those of the remote branch now.
    pub merged: Option<MergeReport>,
}

impl Repository {
    /// Fetches from a remote and merges one of its branches into what is checked out: the one that is named, or the one with the name of
    /// the branch that is checked out.
    ///
    /// # Errors
    /// As [`Self::fetch`] and [`Self::merge`]: what was fetched stays.
    pub fn pull(
        &self,
        (remote, branch): (&str, Option<&str>),
        there: &dyn Peer,
        merge: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<Pulled> {
        self.work()?;
        let head = self.head()?;
        let branch = branch.map(str::to_owned).or_else(|| head.branch.clone()).ok_or(SyncProblem::WhichBranch)?;
        let options = FetchOptions { branches: vec![branch.clone()], ..FetchOptions::default() };
        let fetched = self.fetch(Some(remote), there, &options, progress)?;
        let source = format!("{remote}/{branch}");
        // In full: a branch here may have that name too.
        let full = format!("{}{branch}", tracking(remote));
        let merged = match (head.commit, head.branch) {
            (None, Some(unborn)) => {
                self.checkout_new_branch(&unborn, &full, Default::default(), progress)?;
                None
            }
            _ => Some(self.merge(&full, merge, progress)?),
        };
        Ok(Pulled { fetched, source, merged })
    }
}
