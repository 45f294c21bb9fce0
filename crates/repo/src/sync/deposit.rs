//! Blocks and manifests that arrive one by one, before anything leads to them, and entries that are read one by one.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shard_core::Digest;
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntrySource, Location, Transaction};

use super::SyncProblem;
use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::snapshot::put_object;

/// Takes entries by their decoded bytes. What it took stays while it is there; afterwards it goes with the next collection, unless
/// something leads to it by then, or a push counts on it.
pub struct Deposit {
    repository: Arc<Repository>,
    transaction: Transaction,
    /// How many were written.
    written: AtomicU64,
    /// How many of those are durable.
    durable: Mutex<u64>,
}

impl Deposit {
    /// Begins to take entries.
    ///
    /// # Errors
    /// What keeps the repository from being written.
    pub fn begin(repository: Arc<Repository>) -> Result<Self> {
        let transaction = repository.store.begin("deposit")?;
        Ok(Self { repository, transaction, written: AtomicU64::new(0), durable: Mutex::new(0) })
    }

    /// Takes a block or a manifest, durably; says whether it is new. Those that are taken at the same time become durable together.
    ///
    /// # Errors
    /// [`SyncProblem::Malformed`] for a manifest that is none; [`RepoError::Missing`] where blocks of one are not there; what the store
    /// says: the deposit takes nothing more then.
    pub fn put(&self, kind: EntryKind, bytes: &[u8]) -> Result<(Digest, bool)> {
        if kind == EntryKind::Manifest {
            self.check_manifest(bytes)?;
        }
        let key = EntryKey::new(kind, shard_core::sha256(bytes));
        let is_new = self.transaction.locate(&key)?.is_none();
        put_object(&self.transaction, kind, bytes)?;
        let number = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if *durable < number {
            let all = self.written.load(Ordering::SeqCst);
            self.transaction.seal()?;
            *durable = all;
        }
        Ok((key.id, is_new))
    }

    fn check_manifest(&self, bytes: &[u8]) -> Result<()> {
        let manifest = ContentManifest::from_bytes(bytes)
            .map_err(|_| SyncProblem::Malformed("the body is no manifest in its canonical form"))?;
        let mut seen = HashSet::new();
        for block in manifest.blocks().map(|placed| placed.span.id).filter(|id| seen.insert(*id)) {
            let key = block_key(block);
            self.transaction.locate(&key)?.ok_or(RepoError::Missing { key })?;
        }
        Ok(())
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

impl Repository {
    /// Whether a folder is a repository, or the work tree of one.
    #[must_use]
    pub fn is_at(folder: &Path) -> bool {
        crate::repository::repository_of(folder).is_some()
    }

    /// How many bytes an entry decodes to, where it is here.
    ///
    /// # Errors
    /// What the store says.
    pub fn entry_len(&self, key: &EntryKey) -> Result<Option<u64>> {
        Ok(self.located(key)?.map(|location| location.raw_len))
    }

    /// The decoded bytes of an entry, proven by its id, where it is here.
    ///
    /// # Errors
    /// What cannot be read, decoded or proven.
    pub fn entry(&self, key: &EntryKey) -> Result<Option<Vec<u8>>> {
        if self.located(key)?.is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        BlockReader::new(&self.store).read(key, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Where an entry is; what other processes have written meanwhile is looked at before it is said to be nowhere.
    fn located(&self, key: &EntryKey) -> Result<Option<Location>> {
        match self.store.locate(key)? {
            None => {
                self.store.refresh()?;
                Ok(self.store.locate(key)?)
            }
            found => Ok(found),
        }
    }

    /// Bytes of all packs: what the repository takes, nearly.
    ///
    /// # Errors
    /// What the store says.
    pub fn stored_bytes(&self) -> Result<u64> {
        Ok(self.store.packs()?.iter().map(|pack| pack.size).sum())
    }
}
