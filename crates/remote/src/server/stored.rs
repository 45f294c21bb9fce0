//! How much a repository takes, and how much it may.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shard_repo::{RepoError, Repository, SyncProblem};

/// How long a count is believed.
const FRESH: Duration = Duration::from_secs(2);

/// The bytes of a repository's packs.
pub(super) struct Stored {
    quota: Option<u64>,
    counted: Mutex<Option<(Instant, u64)>>,
}

impl Stored {
    pub(super) fn new(quota: Option<u64>) -> Self {
        Self { quota, counted: Mutex::new(None) }
    }

    /// How many bytes may still come; `None` where there is no limit.
    ///
    /// # Errors
    /// [`SyncProblem::OverQuota`] where none may; what keeps them from being counted.
    pub(super) fn room(&self, repository: &Repository) -> Result<Option<u64>, RepoError> {
        let Some(quota) = self.quota else { return Ok(None) };
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = match *counted {
            Some((when, stored)) if when.elapsed() < FRESH => stored,
            _ => repository.stored_bytes()?,
        };
        *counted = Some((Instant::now(), stored));
        match quota.checked_sub(stored) {
            Some(room) if room > 0 => Ok(Some(room)),
            _ => Err(SyncProblem::OverQuota { quota, stored }.into()),
        }
    }

    /// What was counted is not so any more.
    pub(super) fn changed(&self) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The error of a push that is larger than the room that is left.
    pub(super) fn over(&self, repository: &Repository) -> RepoError {
        let stored = repository.stored_bytes().unwrap_or_default();
        SyncProblem::OverQuota { quota: self.quota.unwrap_or_default(), stored }.into()
    }
}
