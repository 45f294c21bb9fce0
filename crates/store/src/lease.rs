//! Leases: a writer's word that it is at work, so that nothing it counts on is deleted meanwhile.

use std::sync::Arc;

use crate::backend::Backend;
use crate::epoch::{Epoch, Epochs};
use crate::error::StoreError;
use crate::nonce::Nonce;
use crate::process::Process;
use crate::record::{MAX_RECORD, RecordError, RecordReader, RecordWriter};
use crate::timestamp;

const FOLDER: &str = "leases";
const KIND: &str = "lease";
const VERSION: u32 = 1;

/// A lease as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The number of the epoch it was taken under.
    pub epoch: u64,
    /// Tells it from any other.
    pub nonce: Nonce,
    /// What it is for, in a few words.
    pub purpose: String,
    /// Who holds it.
    pub process: Process,
    /// When it was taken by its holder's clock, RFC 3339 in UTC. For people: nothing rests on it.
    pub created_at: String,
}

impl Lease {
    /// The name of its object.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{FOLDER}/{:016x}-{}", self.epoch, self.nonce)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        RecordWriter::new(KIND, VERSION)
            .field("epoch", &self.epoch.to_string())
            .field("nonce", &self.nonce.to_hex())
            .field("purpose", &self.purpose)
            .field("host", &self.process.host)
            .field("process", &self.process.tag())
            .field("created", &self.created_at)
            .finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut record = RecordReader::new(bytes, KIND, VERSION)?;
        let (epoch, nonce) = (record.number("epoch")?, record.nonce("nonce")?);
        let (purpose, host) = (record.field("purpose")?, record.field("host")?);
        let process = Process::from_tag(&record.field("process")?).ok_or(RecordError::Field("process"))?;
        let created_at = record.field("created")?;
        record.finish()?;
        Ok(Self { epoch, nonce, purpose, process: Process { host, ..process }, created_at })
    }
}

/// A lease that is held. Dropping it gives it back.
pub struct HeldLease {
    backend: Arc<dyn Backend>,
    lease: Lease,
}

impl HeldLease {
    /// The lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether the lease is still there: somebody may have broken it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn is_intact(&self) -> Result<bool, StoreError> {
        match self.backend.get(&self.lease.file(), MAX_RECORD) {
            Ok(bytes) => Ok(bytes == self.lease.encode()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        // Best effort: a lease that stays is removed by the next writer once this process is gone.
        let _ = self.backend.delete(&self.lease.file());
    }
}

/// The leases of a repository.
pub struct Leases<'a> {
    backend: &'a Arc<dyn Backend>,
}

impl<'a> Leases<'a> {
    /// The leases in a backend.
    #[must_use]
    pub fn new(backend: &'a Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// Takes a lease under the present epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn acquire(&self, purpose: &str) -> Result<(HeldLease, Epoch), StoreError> {
        let epochs = Epochs::new(self.backend.as_ref());
        let mut epoch = epochs.current()?;
        loop {
            let random = |source| StoreError::Io { path: FOLDER.into(), action: "draw random numbers for", source };
            let lease = Lease {
                epoch: epoch.number,
                nonce: Nonce::random().map_err(random)?,
                purpose: purpose.to_owned(),
                process: Process::current(),
                created_at: timestamp::now(),
            };
            self.backend.put_if_absent(&lease.file(), &lease.encode())?;
            let held = HeldLease { backend: self.backend.clone(), lease };
            // A collection that began in between did not wait for this lease.
            let now = epochs.current()?;
            if now.number == epoch.number {
                return Ok((held, now));
            }
            epoch = now;
        }
    }

    /// All leases by the names of their files. One that cannot be read is an error of its own, and counts as held.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be listed.
    #[allow(clippy::type_complexity, reason = "a list of results by file is what it is")]
    pub fn list(&self) -> Result<Vec<(String, Result<Lease, StoreError>)>, StoreError> {
        let mut leases = Vec::new();
        for name in self.backend.list(FOLDER)? {
            let file = format!("{FOLDER}/{name}");
            let lease = match self.backend.get(&file, MAX_RECORD) {
                Ok(bytes) => Lease::decode(&bytes)
                    .and_then(|lease| if lease.file() == file { Ok(lease) } else { Err(RecordError::Field("nonce")) })
                    .map_err(|problem| StoreError::Record { file: file.clone(), problem }),
                Err(error) if error.is_not_found() => continue,
                Err(error) => Err(error.into()),
            };
            leases.push((file, lease));
        }
        Ok(leases)
    }

    /// Removes the leases of processes that are provably gone and returns them. All others stay, also those that cannot be read.
    ///
    /// # Errors
    /// [`StoreError`] where leases cannot be listed or removed.
    pub fn remove_stale(&self) -> Result<Vec<Lease>, StoreError> {
        let me = Process::current();
        let mut removed = Vec::new();
        for (file, lease) in self.list()? {
            if let Ok(lease) = lease
                && lease.process.is_provably_gone(&me)
            {
                self.backend.delete(&file)?;
                removed.push(lease);
            }
        }
        Ok(removed)
    }

    /// Removes a lease whoever holds it. Its holder fails when it next moves a ref.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn force_remove(&self, file: &str) -> Result<(), StoreError> {
        match file.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/')) {
            Some(_) => Ok(self.backend.delete(file)?),
            None => Err(crate::BackendError::Name(file.chars().take(200).collect()).into()),
        }
    }
}
