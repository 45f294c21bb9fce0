//! Repositories that are in no folder: behind a [`Backend`] such as a bucket, by the layout that a bare repository has in a folder.
//!
//! Nothing of them is on this machine but a cache: the index, and room for files that are being restored.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shard_core::limits::Cut;
use shard_history::revision::RefKind;
use shard_store::{Backend, Store, StoreError, StoreOptions};

use crate::error::{RepoError, Result};
use crate::refs::check_name;
use crate::repository::{Repository, Settings, head_of, set_first_refs};
use crate::sync::SyncProblem;

/// Largest packs, in bytes: each is in memory while it is filled and sent.
const PACK_LIMIT: u64 = 16 << 20;
/// Workers where no number was asked for: most of the time they wait for what was asked of the store.
const WORKERS: usize = 8;

/// Where a repository is that is in no folder, and what of it is here.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) address: String,
    /// A folder for unfinished files, made when it is needed.
    pub(crate) scratch: PathBuf,
}

fn options() -> StoreOptions {
    StoreOptions { pack_limit: PACK_LIMIT, ..StoreOptions::default() }
}

impl Repository {
    /// Makes a bare repository in a backend, whose address is only shown. One whose making was interrupted is completed. What has to
    /// be on this machine is below the folder `cache`, which can be deleted at any time.
    ///
    /// # Errors
    /// [`RepoError::AlreadyARepository`]; [`SyncProblem::Unreachable`]; what the store says.
    pub fn init_away(
        backend: Arc<dyn Backend>,
        address: &str,
        branch: &str,
        cut: Cut,
        cache: &Path,
        settings: Settings,
    ) -> Result<Self> {
        let branch = check_name(RefKind::Branch, branch)?;
        match Store::init_backend(Arc::clone(&backend), cut, options()) {
            Ok(_) | Err(StoreError::AlreadyARepository(_)) => {}
            Err(error) => return Err(unreachable(address, error)),
        }
        let repository = Self::open_damaged_away(backend, address, cache, settings)?;
        match head_of(&repository.store) {
            Err(RepoError::Unfinished(_)) => {}
            Err(error @ RepoError::NoHead { .. }) => return Err(error),
            _ => return Err(RepoError::AlreadyARepository(address.into())),
        }
        set_first_refs(&repository.store, branch)?;
        Ok(repository)
    }

    /// Opens the repository in a backend.
    ///
    /// # Errors
    /// [`RepoError::NoRepository`], [`RepoError::NoHead`], [`RepoError::Unfinished`]; [`SyncProblem::Unreachable`]; what the store says.
    pub fn open_away(backend: Arc<dyn Backend>, address: &str, cache: &Path, settings: Settings) -> Result<Self> {
        let repository = Self::open_damaged_away(backend, address, cache, settings)?;
        match head_of(&repository.store) {
            Err(error @ (RepoError::NoHead { .. } | RepoError::Unfinished(_))) => Err(error),
            _ => Ok(repository),
        }
    }

    /// As [`Self::open_away`], and also opens one whose HEAD is missing.
    ///
    /// # Errors
    /// As there.
    pub fn open_damaged_away(
        backend: Arc<dyn Backend>,
        address: &str,
        cache: &Path,
        settings: Settings,
    ) -> Result<Self> {
        let store = Store::open_cached(backend, cache, options()).map_err(|error| match error {
            StoreError::NotARepository(_) => RepoError::NoRepository(address.to_owned()),
            error => unreachable(address, error),
        })?;
        let threads = if settings.threads == 0 { WORKERS } else { settings.threads };
        let scratch = cache.join(store.id().to_hex()).join("tmp");
        let away = Away { address: address.to_owned(), scratch };
        Ok(Self::new_away(away, store, Settings { threads, ..settings }))
    }

    /// The folder of the repository, for what cannot be done without one.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        match &self.away {
            None => Ok(self.dir()),
            Some(away) => Err(RepoError::Away(away.address.clone())),
        }
    }

    /// Whether the repository is in no folder of this machine.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }
}

/// What keeps a backend from answering at all is said of its address.
fn unreachable(address: &str, error: StoreError) -> RepoError {
    let StoreError::Backend(problem) = &error else { return error.into() };
    if problem.io().is_none() {
        return error.into();
    }
    let why = problem.source().map_or_else(|| problem.to_string(), ToString::to_string);
    SyncProblem::Unreachable { url: address.to_owned(), why }.into()
}
