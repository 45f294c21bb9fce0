//! What takes room and is of no use to anybody: what processes that are gone left behind, and, where there is no room at all, caches.

use std::sync::PoisonError;

use crate::error::StoreError;
use crate::store::Store;

/// What processes that are gone had left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leftovers {
    /// Leases.
    pub leases: u64,
    /// Unfinished files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes what processes that are provably gone left behind: leases, claims and unfinished files; of what they had received only
    /// where `all` says so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove_leftovers(&self, all: bool) -> Result<Leftovers, StoreError> {
        let leases = self.leases().remove_stale()?.len() as u64;
        let (files, bytes) = match &self.0.local {
            Some(local) => local.remove_stale_temporaries(all)?,
            None => (0, 0),
        };
        Ok(Leftovers { leases, files, bytes })
    }

    /// Gives back the room that caches take, on a disk that is so full that not even a claim can be written: files that say how far
    /// something came, index files, and the index itself, which then lives in memory. All of them are made again. Gives how many
    /// files went, and their bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn give_back_caches(&self) -> Result<(u64, u64), StoreError> {
        let (backend, mut given) = (self.backend(), (0, 0));
        let mut files = vec!["cache/verified".to_owned(), "cache/optimized".to_owned()];
        files.extend(backend.list("index")?.iter().map(|name| format!("index/{name}")));
        for file in files {
            match backend.size(&file) {
                Ok(size) => {
                    backend.delete(&file)?;
                    given = (given.0 + 1, given.1 + size);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = index.leave_disk(self.0.id)?;
        self.absorb_listed(&mut index)?;
        Ok((given.0 + u64::from(bytes > 0), given.1 + bytes))
    }

    /// The unfinished files of processes that are provably gone: how many, and their bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stale_temporaries(&self) -> Result<(u64, u64), StoreError> {
        match &self.0.local {
            Some(local) => Ok(local.stale_temporaries()?.iter().fold((0, 0), |(n, sum), (_, len)| (n + 1, sum + len))),
            None => Ok((0, 0)),
        }
    }
}
