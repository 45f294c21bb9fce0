//! All copies of all entries in one pass, for who looks at a whole repository: one question for each would take longer than
//! the answers.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use shard_core::Digest;

use crate::archive::ArchiveReader;
use crate::entry::{EntryKey, EntryKind, EntrySource, Location, PackId};
use crate::error::StoreError;
use crate::footer::{Footer, FooterEntry};
use crate::store::Store;

/// Copies that are asked of the index in one go.
const PAGE: usize = 4096;

/// A copy of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCopy {
    /// Where it is. Its depth means nothing where it cannot be decoded.
    pub location: Location,
    /// The blocks that it leans on.
    pub bases: Vec<Digest>,
    /// Whether all that it leans on is here, and does not lean on it in turn.
    pub is_decodable: bool,
}

impl StoredCopy {
    /// Whether readers take this copy rather than another of the same entry.
    #[must_use]
    pub fn comes_before(&self, other: &Self) -> bool {
        let rank = |copy: &Self| (!copy.is_decodable, copy.location.depth, copy.location.pack);
        rank(self) < rank(other)
    }
}

/// A place whose entries can be listed. All methods may be called from any thread.
pub trait EntryList: EntrySource {
    /// Shows every copy of every entry of a kind, those of one entry one after another, entries in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be listed.
    fn each_copy(&self, kind: EntryKind, show: &mut dyn FnMut(StoredCopy)) -> Result<(), StoreError>;

    /// Shows of every entry of a kind the copy that readers take, in the order of their ids; also where that cannot be decoded.
    ///
    /// # Errors
    /// [`StoreError`] where they cannot be listed.
    fn each_best(&self, kind: EntryKind, show: &mut dyn FnMut(StoredCopy)) -> Result<(), StoreError> {
        let mut best: Option<StoredCopy> = None;
        self.each_copy(kind, &mut |copy| match &mut best {
            Some(best) if best.location.key == copy.location.key => {
                if copy.comes_before(best) {
                    *best = copy;
                }
            }
            _ => {
                if let Some(done) = best.replace(copy) {
                    show(done);
                }
            }
        })?;
        if let Some(last) = best {
            show(last);
        }
        Ok(())
    }
}

impl EntryList for Store {
    fn each_copy(&self, kind: EntryKind, show: &mut dyn FnMut(StoredCopy)) -> Result<(), StoreError> {
        // In pages, so that others get at the index meanwhile, and one that turns out to be damaged can be built anew.
        let mut after = None;
        loop {
            let page = self.with_index(|index| index.copies_after(kind, after, PAGE))?;
            let is_last = page.len() < PAGE;
            for (copy, place) in page {
                after = Some(place);
                show(copy);
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

impl EntryList for ArchiveReader {
    fn each_copy(&self, kind: EntryKind, show: &mut dyn FnMut(StoredCopy)) -> Result<(), StoreError> {
        let entries = &self.pack().footer().entries;
        let mut order: Vec<usize> = (0..entries.len()).filter(|index| entries[*index].key.kind == kind).collect();
        order.sort_unstable_by_key(|index| entries[*index].key.id);
        for index in order {
            let entry = &entries[index];
            let found = self.locate(&entry.key)?;
            let FooterEntry { key, offset, stored_len, raw_len, .. } = *entry;
            let lost = Location { key, pack: PackId::Archive, offset, stored_len, raw_len, depth: 0 };
            show(StoredCopy {
                location: found.unwrap_or(lost),
                bases: entry.bases.clone(),
                is_decodable: found.is_some(),
            });
        }
        Ok(())
    }
}

/// What a pack holds, as one number: equal lists have equal sums, and others do not, short of an attack on a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackSum {
    entries: u64,
    sum: u64,
}

impl PackSum {
    /// The sum of what a footer lists.
    #[must_use]
    pub fn of(footer: &Footer) -> Self {
        let mut sum = Self::default();
        for entry in &footer.entries {
            sum.add(&entry.key, [entry.offset, entry.stored_len, entry.raw_len], &entry.bases);
        }
        sum
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn add(&mut self, key: &EntryKey, place: [u64; 3], bases: &[Digest]) {
        let mut bases = bases.to_vec();
        bases.sort_unstable();
        let mut hasher = DefaultHasher::new();
        (key, place, bases).hash(&mut hasher);
        self.entries += 1;
        // In any order.
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

impl Store {
    /// What the index says that each pack holds.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn index_sums(&self) -> Result<HashMap<Digest, PackSum>, StoreError> {
        let mut sums: HashMap<Digest, PackSum> = HashMap::new();
        for kind in EntryKind::ALL {
            self.each_copy(kind, &mut |copy| {
                let Location { key, pack, offset, stored_len, raw_len, .. } = copy.location;
                if let PackId::Sealed(pack) = pack {
                    sums.entry(pack).or_default().add(&key, [offset, stored_len, raw_len], &copy.bases);
                }
            })?;
        }
        Ok(sums)
    }
}
