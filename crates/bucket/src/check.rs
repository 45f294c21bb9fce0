//! Whether a store keeps what all writers of a repository rest on.

use shard_store::backend::{Backend, BackendError};
use shard_store::conformance::{self, Failure};
use thiserror::Error;

use crate::backend::BucketBackend;

/// Why many writers are not safe on a store.
#[derive(Debug, Error)]
pub enum Broken {
    /// The store did something else than it must.
    #[error(transparent)]
    Habit(#[from] Failure),
    /// It could not be tried.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl BucketBackend {
    /// A folder of its own for a check, below the prefix: others may check at the same time.
    fn folder_of_check(&self) -> Result<Self, Broken> {
        let nonce = shard_store::Nonce::random().map_err(|source| BackendError::Io {
            name: self.address().to_string(),
            action: "draw random numbers for",
            source,
        })?;
        let name = format!("check-{nonce}");
        let address = self.address().below(&name).map_err(|_| BackendError::Name(name))?;
        Ok(self.at(address))
    }

    /// Tries whether a name is given once, also when many race for it: without that, of two writers one would lose what it wrote.
    /// Leaves nothing behind.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn check_puts(&self) -> Result<(), Broken> {
        let folder = self.folder_of_check()?;
        let outcome = conformance::check_puts(&folder);
        let cleared = folder.clear_check();
        // What the store did wrong says more than that it cannot be tidied.
        outcome?;
        Ok(cleared?)
    }

    /// Tries all that a backend must do. Leaves nothing behind.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn check_all(&self) -> Result<(), Broken> {
        let folder = self.folder_of_check()?;
        let outcome = conformance::check(&folder);
        let cleared = folder.clear_check();
        // What the store did wrong says more than that it cannot be tidied.
        outcome?;
        Ok(cleared?)
    }

    /// Removes what a check that failed has left.
    fn clear_check(&self) -> Result<(), BackendError> {
        for folder in ["check", "check/b", "check/uploads", "check/first"] {
            for name in self.list(folder)? {
                self.delete(&format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }
}
