//! `clone`: a new repository with everything that another one's branches and tags lead to.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use shard_core::Progress;
use shard_history::revision::RefKind;
use shard_store::{RefUpdate, Store, StoreError, Target};

use super::fetch::FetchOptions;
use super::peer::Peer;
use super::remotes::{DEFAULT_REMOTE, tracking};
use super::{SyncProblem, SyncReport};
use crate::checkout::CheckoutOptions;
use crate::error::{RepoError, Result};
use crate::refs::full_name;
use crate::repository::{Repository, STAGE, Settings};
use crate::worktree::REPOSITORY_DIR;

/// How to clone.
#[derive(Debug, Clone, Default)]
pub struct CloneOptions {
    /// Whether the new repository has no work tree. It then has the other one's branches as its own.
    pub bare: bool,
    /// The branch that is checked out; the other one's default branch where there is none.
    pub branch: Option<String>,
    /// Whether nothing is checked out.
    pub no_checkout: bool,
    /// Whether blocks stay there until they are read: only what is checked out comes at once.
    pub lazy: bool,
}

impl Repository {
    /// Makes a repository in a folder that is not there yet, or empty, with all that another one has, whose address becomes the
    /// remote `origin`. One whose making was interrupted is completed.
    ///
    /// # Errors
    /// [`RepoError::Sync`], before anything is made; [`RepoError::WouldOverwrite`] for a folder with files; what cannot be read there or
    /// written here. What was made stays then: the same again goes on.
    pub fn clone_from(
        there: &dyn Peer,
        folder: &Path,
        options: &CloneOptions,
        settings: Settings,
        progress: &dyn Progress,
    ) -> Result<(Self, SyncReport)> {
        let welcome = there.welcome()?;
        let default = options.branch.clone().unwrap_or_else(|| welcome.default_branch.clone());
        if options.branch.is_some() && welcome.branch(&default).is_none() {
            return Err(SyncProblem::NotThere { url: there.url(), name: default }.into());
        }
        let mut made = match Self::begun(folder, &there.url(), options, settings)? {
            Some(begun) => begun,
            None if options.bare => Self::init_bare(folder, &default, welcome.cut, settings)?,
            None => Self::init(folder, &default, welcome.cut, settings)?,
        };
        if made.remotes()?.is_empty() {
            made.add_remote(DEFAULT_REMOTE, &there.url())?;
        }
        if options.lazy {
            made.leave_blocks_with(DEFAULT_REMOTE)?;
        }
        let is_checked_out = !options.bare && !options.no_checkout && welcome.branch(&default).is_some();
        // What is checked out lazily is asked for when it is known.
        let ahead = Some(&*default).filter(|_| is_checked_out && !options.lazy);
        let report = made.fetch_ahead(Some(DEFAULT_REMOTE), there, &FetchOptions::default(), ahead, progress)?;
        let transaction = made.store.begin("clone")?;
        let mut updates = Vec::new();
        let mut branches: Vec<_> = welcome.refs.iter().filter(|found| found.kind == RefKind::Branch).collect();
        // Last comes the one that says that the clone is whole.
        branches.sort_by_key(|found| found.name == default);
        for found in branches {
            let name = full_name(RefKind::Branch, &found.name);
            if (!options.bare && found.name != default) || made.read_ref(&name)?.is_some() {
                continue;
            }
            // As it was when it was fetched.
            let fetched = made.read_ref(&format!("{}{}", tracking(DEFAULT_REMOTE), found.name))?;
            if let Some(Target::Commit(commit)) = fetched.map(|state| state.target) {
                updates.push(RefUpdate { name, expected: None, target: Target::Commit(commit) });
            }
        }
        if !updates.is_empty() {
            made.move_or_lose(&transaction, &updates, "clone")?;
        }
        drop(transaction);
        if is_checked_out {
            made.checkout(&default, CheckoutOptions::default(), progress)?;
        }
        Ok((made, report))
    }

    /// A clone from this address that was begun and not finished: nothing was checked out, or in a bare one the last branch not made.
    fn begun(folder: &Path, url: &str, options: &CloneOptions, settings: Settings) -> Result<Option<Self>> {
        // Whoever makes the folder will say what is wrong with it.
        let Ok(names) = fs::read_dir(folder) else { return Ok(None) };
        let names: Vec<OsString> = names.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let taken = || {
            let paths = vec![folder.display().to_string()];
            RepoError::WouldOverwrite { what: "the folder has files already", paths }
        };
        let begun = match Self::open(folder, settings) {
            Ok(begun) => begun,
            // Its making is finished by whoever makes it again, also where it had hardly begun.
            Err(RepoError::Unfinished(_)) => return Ok(None),
            Err(RepoError::NotARepository(_) | RepoError::Store(StoreError::NotARepository(_)))
                if names.iter().all(|name| if options.bare { Store::is_own(name) } else { name == REPOSITORY_DIR }) =>
            {
                return Ok(None);
            }
            Err(_) => return Err(taken()),
        };
        let remotes = begun.remotes()?;
        let is_empty = || -> Result<bool> { Ok(begun.named_refs()?.is_empty() && begun.store.packs()?.is_empty()) };
        let is_of = match remotes.get(DEFAULT_REMOTE) {
            Some(origin) => origin == url && remotes.len() == 1,
            None => remotes.is_empty() && is_empty()?,
        };
        let is_whole = match begun.is_bare() {
            true => begun.head()?.commit.is_some(),
            false => begun.read_ref(STAGE)?.is_some(),
        };
        if is_of && !is_whole && begun.is_bare() == options.bare { Ok(Some(begun)) } else { Err(taken()) }
    }
}
