//! Epochs: how packs are deleted without a clock.
//!
//! A collection publishes the next epoch with the packs it condemns, waits until all leases of older epochs are gone, marks
//! once more, and deletes. A writer holds a lease under the epoch it began in, does not count on packs that were condemned
//! then, and looks again before it moves a ref. Packs that an unfinished collection condemned have to be condemned again by
//! the next one, or they are not.

use std::collections::HashSet;

use shard_core::Digest;

use crate::backend::Backend;
use crate::error::StoreError;
use crate::record::{MAX_RECORD, RecordReader, RecordWriter};

const FOLDER: &str = "epochs";
const KIND: &str = "epoch";
const VERSION: u32 = 1;

/// An epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Epoch {
    /// Its number; 0 before the first collection.
    pub number: u64,
    /// The packs that are going to be deleted.
    pub condemned: HashSet<Digest>,
}

/// The epochs of a repository.
pub struct Epochs<'a> {
    backend: &'a dyn Backend,
}

fn file(number: u64) -> String {
    // As with refs, the newest lists first.
    format!("{FOLDER}/{:016x}", u64::MAX - number)
}

fn parse_file(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name, 16).ok()?;
    (format!("{number:016x}") == name).then(|| u64::MAX - number)
}

impl<'a> Epochs<'a> {
    /// The epochs in a backend.
    #[must_use]
    pub fn new(backend: &'a dyn Backend) -> Self {
        Self { backend }
    }

    /// The present epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn current(&self) -> Result<Epoch, StoreError> {
        match self.numbers()?.first() {
            Some(number) => self.read(*number),
            None => Ok(Epoch::default()),
        }
    }

    /// The packs condemned by epochs after the one numbered `number`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn condemned_after(&self, number: u64) -> Result<HashSet<Digest>, StoreError> {
        let mut condemned = HashSet::new();
        for later in self.numbers()?.into_iter().take_while(|later| *later > number) {
            condemned.extend(self.read(later)?.condemned);
        }
        Ok(condemned)
    }

    /// Begins the next epoch.
    ///
    /// # Errors
    /// [`StoreError`], with [`crate::BackendError::AlreadyExists`] where another collection began it.
    pub fn begin(&self, condemned: HashSet<Digest>) -> Result<Epoch, StoreError> {
        let number = self.numbers()?.first().copied().unwrap_or(0) + 1;
        let mut ids: Vec<&Digest> = condemned.iter().collect();
        ids.sort_unstable();
        let mut record = RecordWriter::new(KIND, VERSION).field("epoch", &number.to_string());
        for id in ids {
            record = record.field("condemned", &id.to_hex());
        }
        self.backend.put_if_absent(&file(number), &record.finish())?;
        Ok(Epoch { number, condemned })
    }

    /// All numbers, newest first.
    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        Ok(self.backend.list(FOLDER)?.iter().filter_map(|name| parse_file(name)).collect())
    }

    fn read(&self, number: u64) -> Result<Epoch, StoreError> {
        let file = file(number);
        let bytes = self.backend.get(&file, MAX_RECORD)?;
        let read = || {
            let mut record = RecordReader::new(&bytes, KIND, VERSION)?;
            if record.number("epoch")? != number {
                return Err(crate::record::RecordError::Field("epoch"));
            }
            let mut condemned = HashSet::new();
            while let Some(id) = record.optional("condemned")? {
                condemned.insert(Digest::from_hex(&id).map_err(|_| crate::record::RecordError::Field("condemned"))?);
            }
            record.finish()?;
            Ok(Epoch { number, condemned })
        };
        read().map_err(|problem| StoreError::Record { file, problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBackend;
    use shard_core::sha256;

    #[test]
    fn epochs_count_up_and_tell_what_they_condemn() {
        let backend = MemoryBackend::new();
        let epochs = Epochs::new(&backend);
        assert_eq!(epochs.current().unwrap(), Epoch::default());
        let (a, b) = (sha256(b"a"), sha256(b"b"));
        epochs.begin(HashSet::from([a])).unwrap();
        let second = epochs.begin(HashSet::from([b])).unwrap();
        assert_eq!(second.number, 2);
        assert_eq!(epochs.current().unwrap(), second);
        assert_eq!(epochs.condemned_after(0).unwrap(), HashSet::from([a, b]));
        assert_eq!(epochs.condemned_after(1).unwrap(), HashSet::from([b]));
        assert_eq!(epochs.condemned_after(2).unwrap(), HashSet::new());
    }
}
