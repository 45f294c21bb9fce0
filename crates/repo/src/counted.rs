//! For tests of how often something is read.

use std::collections::HashMap;
use std::sync::Mutex;

use shard_store::{EntryKey, EntryKind, EntryList, EntrySource, Location, Store, StoreError, StoredCopy};

/// A store that counts how often each entry is read.
pub(crate) struct Counted<'a> {
    store: &'a Store,
    reads: Mutex<HashMap<EntryKey, u32>>,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, reads: Mutex::default() }
    }

    pub(crate) fn reads(self) -> HashMap<EntryKey, u32> {
        self.reads.into_inner().unwrap()
    }
}

impl EntrySource for Counted<'_> {
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>, StoreError> {
        self.store.locate(key)
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        *self.reads.lock().unwrap().entry(location.key).or_default() += 1;
        self.store.read_stored(location, out)
    }
}

impl EntryList for Counted<'_> {
    fn each_copy(&self, kind: EntryKind, show: &mut dyn FnMut(StoredCopy)) -> Result<(), StoreError> {
        self.store.each_copy(kind, show)
    }
}
