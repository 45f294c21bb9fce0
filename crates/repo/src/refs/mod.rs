//! Branches and tags, moving what is checked out, and the logs of refs. What moves, moves by compare-and-swap.

mod branch;
mod names;
mod protect;
mod reflog;
mod reset;
mod tag;
#[cfg(test)]
mod tests;

pub use branch::Branch;
pub use names::RefProblem;
pub(crate) use names::{check_name, full_name};
pub use protect::Protection;
pub(crate) use protect::follows;
pub use reflog::{Reflog, ReflogEntry};
pub(crate) use reset::HARD;
pub use reset::{ResetMode, ResetOptions, ResetReport};
pub use tag::{TagOptions, TagReport, TaggedCommit};

use shard_core::Digest;
use shard_history::revision::RefKind;
use shard_store::{Nonce, RefError, RefState, RefUpdate, StoreError, Target, Transaction};

use crate::collect::hold_commit;
use crate::error::{RepoError, Result};
use crate::repository::{DEFAULT, DEFAULT_BRANCH, HEADS, Repository};

impl Repository {
    /// The branch that the repository began with, or what it was renamed to. It cannot be deleted.
    ///
    /// # Errors
    /// Refs that cannot be read.
    pub fn default_branch(&self) -> Result<String> {
        let name = match self.read_ref(DEFAULT)?.map(|state| state.target) {
            Some(Target::Symbolic(name)) => name.strip_prefix(HEADS).map(str::to_owned),
            _ => None,
        };
        Ok(name.unwrap_or_else(|| DEFAULT_BRANCH.to_owned()))
    }

    /// Begins what moves refs to a commit, and makes sure that the commit stays until they have moved.
    pub(crate) fn begin_move(&self, purpose: &str, commit: Digest) -> Result<Transaction> {
        let transaction = self.store.begin(purpose)?;
        hold_commit(&self.store, &transaction, commit)?;
        Ok(transaction)
    }

    /// Moves refs as one operation; a ref that is not as expected was moved by somebody else.
    pub(crate) fn move_or_lose(&self, transaction: &Transaction, updates: &[RefUpdate], message: &str) -> Result<()> {
        self.move_refs(transaction, updates, message).map_err(|error| match error {
            RepoError::Store(StoreError::Ref(error)) => match *error {
                RefError::Conflict { name, .. } => RepoError::Raced(name),
                other => RepoError::Store(StoreError::Ref(Box::new(other))),
            },
            other => other,
        })
    }

    /// Ends a tag whose newest state cannot be read.
    fn end_damaged(&self, full: &str, message: &str) -> Result<()> {
        self.refuse_protected(full)?;
        let transaction = self.store.begin("tag")?;
        transaction.check_epoch()?;
        let operation = Nonce::random().map_err(RepoError::io("cannot draw random numbers for", &self.dir()))?;
        self.store.refs().end_damaged(full, message, operation).map_err(StoreError::from)?;
        Ok(())
    }

    /// The state of a branch or tag that is there.
    pub(crate) fn existing(&self, kind: RefKind, name: &str) -> Result<RefState> {
        let unknown = || RefProblem::Unknown { kind: names::word(kind), name: name.to_owned() };
        let full = full_name(kind, name);
        if shard_store::ref_name::check(&full).is_err() {
            return Err(unknown().into());
        }
        Ok(self.read_ref(&full)?.ok_or_else(unknown)?)
    }
}
