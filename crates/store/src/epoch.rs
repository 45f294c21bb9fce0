//! Epochs: how packs are deleted without a clock.
//!
//! A collection publishes the next epoch with the packs it condemns, waits until all leases of older epochs are gone, marks
//! once more, and deletes. A writer holds a lease under the epoch it began in, does not count on packs that were condemned
//! then, and looks again before it moves a ref. Packs that an unfinished collection condemned have to be condemned again by
//! the next one, or they are not.

use std::collections::HashSet;

use shard_core::Digest;

use crate::backend::{Backend, BackendError};
use crate::error::StoreError;
use crate::lease::Claim;
use crate::record::{MAX_RECORD, RecordError, RecordReader, RecordWriter};

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

impl Epoch {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut ids: Vec<&Digest> = self.condemned.iter().collect();
        ids.sort_unstable();
        let mut record = RecordWriter::new(KIND, VERSION).field("epoch", &self.number.to_string());
        for id in ids {
            record = record.field("condemned", &id.to_hex());
        }
        record.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut record = RecordReader::new(bytes, KIND, VERSION)?;
        let number = record.number("epoch")?;
        if number == 0 {
            return Err(RecordError::Field("epoch"));
        }
        let mut condemned = HashSet::new();
        let mut last = None;
        while let Some(id) = record.optional("condemned")? {
            let id = Digest::from_hex(&id).map_err(|_| RecordError::Field("condemned"))?;
            // One form only: each once, in order.
            if last.is_some_and(|last| last >= id) {
                return Err(RecordError::Field("condemned"));
            }
            last = Some(id);
            condemned.insert(id);
        }
        record.finish()?;
        Ok(Self { number, condemned })
    }
}

/// The epochs of a repository.
pub struct Epochs<'a> {
    backend: &'a dyn Backend,
}

pub(crate) fn file(number: u64) -> String {
    // As with refs, the newest lists first.
    format!("{FOLDER}/{:016x}", u64::MAX - number)
}

fn parse_file(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name, 16).ok()?;
    (format!("{number:016x}") == name).then(|| u64::MAX - number).filter(|number| *number > 0)
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

    /// Begins the next epoch. Who does needs a [`crate::Claim`].
    ///
    /// # Errors
    /// [`StoreError`], with [`BackendError::AlreadyExists`] where another collection began it.
    pub fn begin(&self, condemned: HashSet<Digest>) -> Result<Epoch, StoreError> {
        // Where there is no next number, its file is taken.
        let number = self.numbers()?.first().copied().unwrap_or(0).saturating_add(1);
        let epoch = Epoch { number, condemned };
        match self.backend.put_if_absent(&file(number), &epoch.encode()) {
            // The reply may have been lost, and the request repeated: what is there tells.
            Err(BackendError::Uncertain { .. }) if self.read(number).is_ok_and(|found| found == epoch) => {}
            result => result?,
        }
        Ok(epoch)
    }

    /// Removes the records of the epochs before one under which, or later, all leases are. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prune(&self, before: u64) -> Result<u64, StoreError> {
        let numbers = self.numbers()?;
        let newest = numbers.first().copied().unwrap_or(0);
        let old: Vec<u64> = numbers.into_iter().filter(|number| *number < before.min(newest)).collect();
        for number in old.iter().rev() {
            self.backend.delete(&file(*number))?;
        }
        Ok(old.len() as u64)
    }

    /// All epochs that there are by the names of their files, newest first. One that cannot be read is an error of its own.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be listed.
    #[allow(clippy::type_complexity, reason = "a list of results by file is what it is")]
    pub fn list(&self) -> Result<Vec<(String, Result<Epoch, StoreError>)>, StoreError> {
        let epochs = self.numbers()?.into_iter().map(|number| (file(number), self.read(number)));
        // A collection may prune them meanwhile.
        let is_there = |epoch: &Result<Epoch, StoreError>| !matches!(epoch, Err(StoreError::Backend(error)) if error.is_not_found());
        Ok(epochs.filter(|(_, epoch)| is_there(epoch)).collect())
    }

    /// All numbers, newest first.
    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        Ok(self.backend.list(FOLDER)?.iter().filter_map(|name| parse_file(name)).collect())
    }

    fn read(&self, number: u64) -> Result<Epoch, StoreError> {
        let file = file(number);
        let bytes = self.backend.get(&file, MAX_RECORD)?;
        let read = Epoch::decode(&bytes)
            .and_then(|epoch| if epoch.number == number { Ok(epoch) } else { Err(RecordError::Field("epoch")) });
        read.map_err(|problem| StoreError::Record { file, problem })
    }
}

impl Claim {
    /// Begins an epoch after those whose records are damaged, and removes these: nobody could write any more. Gives their files.
    ///
    /// What they condemned is not known, so the new epoch condemns only what others do that is still there. Nothing is lost with
    /// it. Packs are deleted by the holder of the claim, which is us; so what was condemned stays until a later collection
    /// condemns it again, waits for everybody who began before, under this epoch too, and looks again what is needed. Who holds a
    /// lease under a damaged epoch read it while it was whole, and counts on nothing in it. Who holds an older one is not told to
    /// begin again; nothing rests on that: the collection that condemned what it counts on was still waiting for it when it lost
    /// its claim.
    ///
    /// The next number is there before a record goes: else numbers would begin anew, and the leases under the old ones would pass
    /// for later than they are.
    ///
    /// # Errors
    /// [`StoreError`], also where a record cannot be read now, and may be whole.
    pub fn repair_epochs(&self) -> Result<Vec<String>, StoreError> {
        let (store, mut damaged, mut condemned) = (self.store(), Vec::new(), HashSet::new());
        let epochs = store.epochs();
        for (file, epoch) in epochs.list()? {
            match epoch {
                Ok(epoch) => condemned.extend(epoch.condemned),
                Err(StoreError::Record { problem: RecordError::Version { .. }, .. }) => {}
                Err(error) if error.io().is_some() => return Err(error),
                Err(_) => damaged.push(file),
            }
        }
        if damaged.is_empty() {
            return Ok(damaged);
        }
        let there: HashSet<Digest> = store.packs()?.into_iter().map(|pack| pack.id).collect();
        condemned.retain(|pack| there.contains(pack));
        self.check()?;
        epochs.begin(condemned)?;
        damaged.iter().try_for_each(|file| store.backend().delete(file))?;
        Ok(damaged)
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

    #[test]
    fn packs_are_condemned_in_order_and_once() {
        let (a, b) = (sha256(b"a").to_hex(), sha256(b"b").to_hex());
        let read = |number: &str, ids: &[&str]| {
            let record = RecordWriter::new(KIND, VERSION).field("epoch", number);
            Epoch::decode(&ids.iter().fold(record, |record, id| record.field("condemned", id)).finish())
        };
        assert!(b < a);
        assert_eq!(read("1", &[&b, &a]).map(|epoch| epoch.condemned.len()), Ok(2));
        assert_eq!(read("1", &[]).map(|epoch| epoch.condemned.len()), Ok(0));
        assert_eq!(read("1", &[&a, &b]), Err(RecordError::Field("condemned")));
        assert_eq!(read("1", &[&a, &a]), Err(RecordError::Field("condemned")));
        assert_eq!(read("0", &[]), Err(RecordError::Field("epoch")));
    }

    #[test]
    fn a_file_is_the_epoch_of_its_name() {
        let backend = MemoryBackend::new();
        let epochs = Epochs::new(&backend);
        backend.put_if_absent(&format!("{FOLDER}/{:016x}", u64::MAX), b"epoch 0 is no file").unwrap();
        assert_eq!(epochs.current().unwrap(), Epoch::default());
        let last = Epoch { number: u64::MAX, condemned: HashSet::new() };
        backend.put_if_absent(&file(u64::MAX), &last.encode()).unwrap();
        assert_eq!(epochs.current().unwrap(), last);
        let next = epochs.begin(HashSet::new());
        assert!(matches!(next, Err(StoreError::Backend(error)) if error.is_already_exists()));
        backend.put_if_absent(&file(7), &last.encode()).unwrap();
        assert!(matches!(epochs.condemned_after(6), Err(StoreError::Record { .. })));
    }
}
