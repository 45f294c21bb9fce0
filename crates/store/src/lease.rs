//! Leases: a writer's word that it is at work, so that nothing it counts on is deleted meanwhile. A claim is a lease that one
//! process at a time can hold: who deletes packs needs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_core::Digest;

use crate::backend::Backend;
use crate::epoch::{Epoch, Epochs};
use crate::error::StoreError;
use crate::nonce::Nonce;
use crate::pack::pack_name;
use crate::process::Process;
use crate::record::{MAX_RECORD, RecordError, RecordReader, RecordWriter};
use crate::store::Store;
use crate::timestamp;

const FOLDER: &str = "leases";
const KIND: &str = "lease";
const VERSION: u32 = 1;

/// The epoch of claims: it is never reached, so no collection waits for one.
const CLAIM: u64 = u64::MAX;
/// How often a claim is tried, where another was made at the same moment.
const ATTEMPTS: u32 = 5;
/// The shortest and the longest time between two looks at leases that are waited for.
const LOOKS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

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

    /// Whether it is the claim of a collection, and not the lease of a writer.
    #[must_use]
    pub fn is_claim(&self) -> bool {
        self.epoch == CLAIM
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

/// Who holds a lease that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The lease's file.
    pub file: String,
    /// The lease; `None` where it cannot be read.
    pub lease: Option<Lease>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.lease {
            Some(Lease { purpose, process, created_at, .. }) => {
                write!(
                    f,
                    "{purpose} by process {} on {}, since {created_at} ({})",
                    process.pid, process.host, self.file
                )
            }
            None => write!(f, "{}, which cannot be read", self.file),
        }
    }
}

fn no_random(source: std::io::Error) -> StoreError {
    StoreError::Io { path: FOLDER.into(), action: "draw random numbers for", source }
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

/// The right to delete packs, which one process at a time has. Dropping it gives it back.
pub struct Claim {
    store: Store,
    held: HeldLease,
}

impl Claim {
    /// The claim as it is written down.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        self.held.lease()
    }

    /// The store that it is of.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Checks that the claim was not broken.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`].
    pub fn check(&self) -> Result<(), StoreError> {
        if self.held.is_intact()? { Ok(()) } else { Err(StoreError::ClaimLost) }
    }

    /// Deletes packs, and brings the index in step. Whether anything still needs them is for the caller to know: see
    /// [`crate::epoch`].
    ///
    /// # Errors
    /// [`StoreError::Backend`], [`StoreError::ClaimLost`]; packs before the failing one are gone.
    pub fn delete_packs(&self, ids: &[Digest]) -> Result<(), StoreError> {
        let deleted = ids.iter().try_for_each(|id| {
            self.check()?;
            Ok(self.store.backend().delete(&pack_name(id))?)
        });
        let forgotten = self.store.forget_deleted();
        deleted.and(forgotten)
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

    /// Claims the right to delete packs.
    ///
    /// # Errors
    /// [`StoreError::Claimed`] where another process has it, and is not provably gone.
    pub(crate) fn claim(&self, store: &Store, purpose: &str) -> Result<Claim, StoreError> {
        let mut attempt = 1;
        loop {
            let held = self.create(CLAIM, purpose)?;
            // Whoever comes later sees the one who came first; two who come at once may both see each other, and both give way.
            self.remove_stale()?;
            let others = self.held(|epoch| epoch == CLAIM)?;
            let Some(other) = others.into_iter().find(|other| other.file != held.lease.file()) else {
                return Ok(Claim { store: store.clone(), held });
            };
            drop(held);
            if attempt == ATTEMPTS {
                return Err(StoreError::Claimed(Box::new(other)));
            }
            let noise = u64::from(Nonce::random().map_err(no_random)?.0[0]);
            std::thread::sleep(Duration::from_millis(noise * u64::from(attempt) / 16));
            attempt += 1;
        }
    }

    /// Waits until no lease of an earlier epoch than this is left, at most as long as `limit`.
    ///
    /// # Errors
    /// [`StoreError::Held`] with those that are left.
    pub fn wait_for_older(&self, epoch: u64, limit: Duration) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut pause = LOOKS.0;
        loop {
            self.remove_stale()?;
            let holders = self.held(|lease| lease < epoch)?;
            if holders.is_empty() {
                return Ok(());
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(StoreError::Held(holders));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// The leases of some epochs, by the names of their files: also those that cannot be read.
    fn held(&self, of: impl Fn(u64) -> bool) -> Result<Vec<Holder>, StoreError> {
        let mut held = Vec::new();
        for (file, lease) in self.list()? {
            // A file without an epoch in its name may be any lease.
            let epoch = file.get(FOLDER.len() + 1..FOLDER.len() + 17).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            if epoch.is_none_or(&of) {
                held.push(Holder { file, lease: lease.ok() });
            }
        }
        Ok(held)
    }

    fn create(&self, epoch: u64, purpose: &str) -> Result<HeldLease, StoreError> {
        let lease = Lease {
            epoch,
            nonce: Nonce::random().map_err(no_random)?,
            purpose: purpose.to_owned(),
            process: Process::current(),
            created_at: timestamp::now(),
        };
        // Held before it is written: where writing fails half-way, what is there goes again.
        let held = HeldLease { backend: self.backend.clone(), lease };
        self.backend.put_if_absent(&held.lease.file(), &held.lease.encode())?;
        Ok(held)
    }

    /// Takes a lease under the present epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn acquire(&self, purpose: &str) -> Result<(HeldLease, Epoch), StoreError> {
        let epochs = Epochs::new(self.backend.as_ref());
        let mut epoch = epochs.current()?;
        loop {
            let held = self.create(epoch.number, purpose)?;
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

    /// The leases of processes that are provably gone. No others, also none that cannot be read.
    ///
    /// # Errors
    /// [`StoreError`] where leases cannot be listed.
    pub fn stale(&self) -> Result<Vec<Lease>, StoreError> {
        let me = Process::current();
        let leases = self.list()?.into_iter().filter_map(|(_, lease)| lease.ok());
        Ok(leases.filter(|lease| lease.process.is_provably_gone(&me)).collect())
    }

    /// Removes the leases of processes that are provably gone and returns them. All others stay, also those that cannot be read.
    ///
    /// # Errors
    /// [`StoreError`] where leases cannot be listed or removed.
    pub fn remove_stale(&self) -> Result<Vec<Lease>, StoreError> {
        let stale = self.stale()?;
        stale.iter().try_for_each(|lease| self.backend.delete(&lease.file()))?;
        Ok(stale)
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
