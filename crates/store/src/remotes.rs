//! Where other repositories are: names for them, which stay here and travel nowhere.
//!
//! The list is rewritten whole, under a number of its own, as refs are: of two writers one is told that another was first.

use std::collections::BTreeMap;

use crate::backend::{Backend, BackendError};
use crate::error::StoreError;
use crate::record::{MAX_RECORD, RecordError, RecordReader, RecordWriter};

const FOLDER: &str = "remotes";
const KIND: &str = "remotes";
const VERSION: u32 = 1;

/// The list at one moment: addresses by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoteList {
    /// Its number; 0 where there never was a list.
    pub(crate) number: u64,
    /// The addresses by name.
    pub urls: BTreeMap<String, String>,
    /// The name of the one that has the blocks which are not here, where the repository is a partial clone.
    pub promises: Option<String>,
}

impl RemoteList {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let record = RecordWriter::new(KIND, VERSION).field("number", &self.number.to_string());
        let record = self.promises.iter().fold(record, |record, name| record.field("promises", name));
        let each = |record: RecordWriter, (name, url): (&String, &String)| record.field("name", name).field("url", url);
        self.urls.iter().fold(record, each).finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut record = RecordReader::new(bytes, KIND, VERSION)?;
        let number = record.number("number")?;
        if number == 0 {
            return Err(RecordError::Field("number"));
        }
        let promises = record.optional("promises")?;
        let mut urls: BTreeMap<String, String> = BTreeMap::new();
        while let Some(name) = record.optional("name")? {
            // One form only: each once, in order.
            if urls.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(RecordError::Field("name"));
            }
            urls.insert(name, record.field("url")?);
        }
        record.finish()?;
        if promises.as_ref().is_some_and(|name| !urls.contains_key(name)) {
            return Err(RecordError::Field("promises"));
        }
        Ok(Self { number, urls, promises })
    }
}

pub(crate) fn file(number: u64) -> String {
    // As with refs, the newest lists first.
    format!("{FOLDER}/{:016x}", u64::MAX - number)
}

fn parse_file(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name, 16).ok()?;
    (format!("{number:016x}") == name).then(|| u64::MAX - number).filter(|number| *number > 0)
}

/// The names of other repositories.
pub struct Remotes<'a> {
    backend: &'a dyn Backend,
}

impl<'a> Remotes<'a> {
    /// Those in a backend.
    #[must_use]
    pub fn new(backend: &'a dyn Backend) -> Self {
        Self { backend }
    }

    /// The list.
    ///
    /// # Errors
    /// [`StoreError::Record`] where it is damaged; [`StoreError::Backend`].
    pub fn read(&self) -> Result<RemoteList, StoreError> {
        // One that was replaced between listing and reading is read again.
        loop {
            let Some(number) = self.numbers()?.first().copied() else { return Ok(RemoteList::default()) };
            let file = file(number);
            let bytes = match self.backend.get(&file, MAX_RECORD) {
                Err(error) if error.is_not_found() => continue,
                bytes => bytes?,
            };
            let read = RemoteList::decode(&bytes);
            let read =
                read.and_then(|list| if list.number == number { Ok(list) } else { Err(RecordError::Field("number")) });
            return read.map_err(|problem| StoreError::Record { file, problem });
        }
    }

    /// Puts another list in the place of one that was read.
    ///
    /// # Errors
    /// [`StoreError::Backend`] with [`BackendError::AlreadyExists`] where somebody else did meanwhile.
    pub fn replace(
        &self,
        read: &RemoteList,
        urls: BTreeMap<String, String>,
        promises: Option<String>,
    ) -> Result<(), StoreError> {
        let list = RemoteList { number: read.number.saturating_add(1), urls, promises };
        let file = file(list.number);
        match self.backend.put_if_absent(&file, &list.encode()) {
            Err(BackendError::Uncertain { .. }) if self.read().is_ok_and(|found| found == list) => {}
            result => result?,
        }
        for old in self.numbers()?.into_iter().filter(|number| *number < list.number) {
            self.backend.delete(&self::file(old))?;
        }
        Ok(())
    }

    /// All numbers, newest first.
    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        Ok(self.backend.list(FOLDER)?.iter().filter_map(|name| parse_file(name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBackend;

    fn urls(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect()
    }

    #[test]
    fn the_list_is_replaced_by_one_writer_at_a_time() {
        let backend = MemoryBackend::new();
        let remotes = Remotes::new(&backend);
        let none = remotes.read().unwrap();
        assert_eq!(none, RemoteList::default());
        remotes.replace(&none, urls(&[("origin", "/a\nb")]), None).unwrap();
        let first = remotes.read().unwrap();
        assert_eq!(first.urls, urls(&[("origin", "/a\nb")]));
        let late = remotes.replace(&none, urls(&[("other", "/c")]), None);
        assert!(matches!(late, Err(StoreError::Backend(error)) if error.is_already_exists()));
        remotes.replace(&first, urls(&[("a", "/1"), ("b", "/2")]), Some("b".to_owned())).unwrap();
        let second = remotes.read().unwrap();
        assert_eq!((second.urls, second.promises.as_deref()), (urls(&[("a", "/1"), ("b", "/2")]), Some("b")));
        assert_eq!(backend.list(FOLDER).unwrap().len(), 1, "the old lists are gone");
    }

    #[test]
    fn a_list_has_one_form() {
        let read = |fields: &[(&'static str, &str)]| {
            let record = RecordWriter::new(KIND, VERSION);
            RemoteList::decode(&fields.iter().fold(record, |record, (name, value)| record.field(name, value)).finish())
        };
        assert!(read(&[("number", "1"), ("name", "a"), ("url", "x"), ("name", "b"), ("url", "x")]).is_ok());
        assert!(read(&[("number", "1"), ("promises", "a"), ("name", "a"), ("url", "x")]).is_ok());
        for bad in [
            &[("number", "0")][..],
            &[("number", "1"), ("name", "b"), ("url", "x"), ("name", "a"), ("url", "x")],
            &[("number", "1"), ("name", "a"), ("url", "x"), ("name", "a"), ("url", "x")],
            &[("number", "1"), ("name", "a")],
            &[("number", "1"), ("url", "a")],
            &[("number", "1"), ("promises", "b"), ("name", "a"), ("url", "x")],
            &[("number", "1"), ("name", "a"), ("url", "x"), ("promises", "a")],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
