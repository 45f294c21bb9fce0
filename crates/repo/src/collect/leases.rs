//! Leases and claims as people see them, and breaking them.

use shard_store::lease::Lease;
use shard_store::process::Process;

use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// What is known of the process that holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// It runs on this machine.
    AtWork,
    /// It is provably gone: the next writer or collection removes the lease.
    Gone,
    /// It runs elsewhere, if it does, or the lease cannot be read: nobody can tell from here.
    Unknown,
}

/// A lease or a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The name of its file, by which it can be broken.
    pub name: String,
    /// What it says; `None` where it cannot be read.
    pub lease: Option<Lease>,
    /// What is known of its holder.
    pub holding: Holding,
}

impl Repository {
    /// The leases of writers, and the claim of a collection.
    ///
    /// # Errors
    /// Leases that cannot be listed.
    pub fn leases(&self) -> Result<Vec<LeaseInfo>> {
        let me = Process::current();
        let info = |(file, lease): (String, std::result::Result<Lease, _>)| {
            let lease = lease.ok();
            let holding = match lease.as_ref().map(|lease| &lease.process) {
                Some(process) if process.is_provably_gone(&me) => Holding::Gone,
                Some(process) if process.is_numbered_as(&me) => Holding::AtWork,
                _ => Holding::Unknown,
            };
            LeaseInfo { name: file.rsplit('/').next().unwrap_or(&file).to_owned(), lease, holding }
        };
        Ok(self.store.leases().list()?.into_iter().map(info).collect())
    }

    /// Removes a lease or claim, whoever holds it, by the name of its file, its nonce, or first digits of that. If its holder
    /// is still at work, it fails when it next moves a ref, or stops deleting.
    ///
    /// It must not be at work: between its last look at its lease and moving a ref there is a moment, and what it then names may
    /// be gone.
    ///
    /// # Errors
    /// [`RepoError::Argument`] where there is no such lease, or there are several.
    pub fn break_lease(&self, name: &str) -> Result<LeaseInfo> {
        let is_meant = |info: &LeaseInfo| {
            let nonce = info.lease.as_ref().map(|lease| lease.nonce.to_hex());
            info.name == name || (!name.is_empty() && nonce.is_some_and(|nonce| nonce.starts_with(name)))
        };
        let mut meant = self.leases()?.into_iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(info), None) => {
                self.store.leases().force_remove(&format!("leases/{}", info.name))?;
                Ok(info)
            }
            (None, _) => Err(RepoError::NoLease(name.to_owned())),
            _ => Err(RepoError::Argument(format!(
                "several leases start with {name:?}: give more of the one that is meant"
            ))),
        }
    }
}
