//! Repositories that are in no folder of this machine.

use std::path::PathBuf;
use std::sync::Arc;

use shard_bucket::{Address, Broken, BucketBackend, BucketError};
use shard_core::limits::Cut;
use shard_core::text::with_causes;
use shard_repo::{RepoError, Repository, Settings, SyncProblem};
use shard_store::{Backend, BackendError, FORMAT};

use crate::client::{HttpBackend, token_for};
use crate::{is_bucket, refused};

/// The bucket at an address. Nothing is sent yet.
///
/// # Errors
/// [`SyncProblem::Bucket`].
pub fn bucket(url: &str) -> Result<BucketBackend, RepoError> {
    let problem = |error: BucketError| SyncProblem::Bucket { url: url.to_owned(), why: with_causes(&error) };
    Ok(Address::parse(url).and_then(BucketBackend::open).map_err(problem)?)
}

/// The files of a repository in a bucket or behind a server, and its address as it is shown. Nothing is sent yet.
fn files(url: &str) -> Result<(Arc<dyn Backend>, String), RepoError> {
    if is_bucket(url) {
        let backend = bucket(url)?;
        let address = backend.address().to_string();
        return Ok((Arc::new(backend), address));
    }
    let token = token_for(url).map_err(|error| refused(url, &error))?;
    Ok((Arc::new(HttpBackend::new(url, token.as_ref())?), url.to_owned()))
}

/// Opens the repository in a bucket, or behind a server by its files, for who may do everything with them.
///
/// # Errors
/// [`SyncProblem::Bucket`]; as [`HttpBackend::new`] and [`Repository::open_away`].
pub fn open_away(url: &str, settings: Settings) -> Result<Repository, RepoError> {
    let (backend, address) = files(url)?;
    Repository::open_away(backend, &address, &cache(), settings)
}

/// The same, also where its HEAD is missing.
///
/// # Errors
/// As [`open_away`].
pub fn open_damaged_away(url: &str, settings: Settings) -> Result<Repository, RepoError> {
    let (backend, address) = files(url)?;
    Repository::open_damaged_away(backend, &address, &cache(), settings)
}

/// Makes a repository in a bucket, if the store gives each name once: without that, writers would lose each other's work.
///
/// # Errors
/// [`SyncProblem::Bucket`], [`SyncProblem::ManyWriters`]; as [`Repository::init_away`].
pub fn init_bucket(url: &str, branch: &str, settings: Settings) -> Result<Repository, RepoError> {
    let backend = bucket(url)?;
    let address = backend.address().to_string();
    // One that is there was checked when it was made.
    if !backend.get(FORMAT, 1 << 20).is_ok_and(|format| !format.is_empty()) {
        backend.check_puts().map_err(|broken| problem(&address, &broken))?;
    }
    Repository::init_away(Arc::new(backend), &address, branch, Cut::V1, &cache(), settings)
}

/// Tries all that a store must do for many to write to it, in a folder of its own below an address, which is empty again then.
///
/// # Errors
/// [`SyncProblem::Bucket`], [`SyncProblem::ManyWriters`]; [`SyncProblem::Unreachable`] where nothing could be tried.
pub fn check_bucket(url: &str) -> Result<String, RepoError> {
    let backend = bucket(url)?;
    let address = backend.address().to_string();
    backend.check_all().map_err(|broken| problem(&address, &broken))?;
    Ok(address)
}

/// What a check says: that many writers are not safe only where the store answers, and wrongly.
fn problem(url: &str, broken: &Broken) -> RepoError {
    let url = url.to_owned();
    match broken {
        Broken::Habit(failure) if failure.error.is_none() => {
            SyncProblem::ManyWriters { url, why: failure.check.to_owned() }.into()
        }
        Broken::Habit(_) | Broken::Backend(_) => SyncProblem::Unreachable { url, why: with_causes(broken) }.into(),
    }
}

/// The names of the folders at an address, sorted.
pub(crate) fn folders_below(url: &str) -> Result<Vec<String>, RepoError> {
    let unreachable =
        |error: BackendError| SyncProblem::Unreachable { url: url.to_owned(), why: with_causes(&error) }.into();
    bucket(url)?.folders().map_err(unreachable)
}

/// Whether a repository is at an address, as far as can be told.
pub(crate) fn is_repository(url: &str) -> bool {
    bucket(url).is_ok_and(|backend| backend.size(FORMAT).is_ok())
}

/// Where what can be thrown away is kept of repositories that are elsewhere, each in a folder of its id.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| Some(set("HOME").or_else(|| set("USERPROFILE"))?.join(".cache")));
    folder.unwrap_or_else(std::env::temp_dir).join("shard")
}
