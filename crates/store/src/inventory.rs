//! Everything that a store holds, at one moment: each copy of each entry, by the packs' own footers.
//!
//! The index is a cache, and may be behind or wrong. Who decides what can be deleted looks at the packs: this is one pass over
//! their footers, into arrays of numbers.

use std::collections::HashMap;
use std::ops::Range;

use shard_core::Digest;

use crate::at_once::each_at_once;
use crate::backend::BackendError;
use crate::depth::{Copies, NOWHERE};
use crate::entry::{EntryKey, EntryKind, Location, PackId};
use crate::error::StoreError;
use crate::footer::entry_header_len;
use crate::listing::EntryList;
use crate::pack::{pack_name, parse_pack_name};
use crate::store::{PackInfo, Store};

/// A copy of an entry.
#[derive(Debug, Clone, Copy)]
struct Place {
    pack: u32,
    offset: u64,
    stored_len: u32,
    raw_len: u32,
}

/// All entries of a store, by kind and id, with all their copies. Entries, copies and packs are numbers from 0.
pub struct Inventory {
    packs: Vec<PackInfo>,
    ids: Vec<Digest>,
    /// Where the entries of each kind begin, in the order of [`EntryKind::ALL`], and the end.
    kinds: [u32; EntryKind::ALL.len() + 1],
    /// Where the copies of each entry begin, and the end.
    first: Vec<u32>,
    places: Vec<Place>,
    pub(crate) copies: Copies,
}

/// A footer's entry on its way into an inventory.
struct Found {
    key: EntryKey,
    place: Place,
    /// Its bases, among all that were met.
    bases: Range<usize>,
}

/// Whether the index has each of these copies, which are in order: it leaves out those that were found to be bad. One pass for all;
/// none where no entry has two.
fn in_index(store: &Store, packs: &[PackInfo], found: &[Found]) -> Result<Vec<bool>, StoreError> {
    let mut there = vec![false; found.len()];
    if !found.is_sorted_by(|a, b| a.key < b.key) {
        let numbers: HashMap<Digest, u32> = packs.iter().zip(0u32..).map(|(pack, number)| (pack.id, number)).collect();
        for kind in EntryKind::ALL {
            store.each_copy(kind, &mut |copy| {
                let PackId::Sealed(pack) = copy.location.pack else { return };
                let Some(number) = numbers.get(&pack) else { return };
                let place = (copy.location.key, *number);
                if let Ok(at) = found.binary_search_by_key(&place, |found| (found.key, found.place.pack)) {
                    there[at] = true;
                }
            })?;
        }
    }
    Ok(there)
}

impl Inventory {
    /// Reads the footers of all packs. Those that cannot be read are among the packs, with what is wrong with them, and hold
    /// nothing.
    ///
    /// Copies that were found to be bad (see [`crate::EntrySource::forget`]) do not count where an entry has others.
    ///
    /// # Errors
    /// [`StoreError`] where packs cannot be listed, or one not be read for another reason than damage.
    pub fn read(store: &Store) -> Result<Self, StoreError> {
        store.refresh()?;
        let mut packs = Vec::new();
        let mut found = Vec::new();
        let mut bases: Vec<Digest> = Vec::new();
        let names = store.backend().list("packs")?;
        let ids: Vec<Digest> = names.iter().filter_map(|name| parse_pack_name(name)).collect();
        let at_once = store.backend().requests_at_once();
        let opened = ids.chunks(at_once.max(1) * 4).flat_map(|ids| {
            let opened = each_at_once(at_once, ids, |id| store.open_pack(id));
            ids.iter().copied().zip(opened)
        });
        for (id, opened) in opened {
            let number = packs.len() as u32;
            match opened {
                Ok(pack) => {
                    packs.push(PackInfo { id, size: pack.len(), problem: None });
                    for entry in &pack.footer().entries {
                        let start = bases.len();
                        bases.extend_from_slice(&entry.bases);
                        // Limits of the format keep lengths below 2^32.
                        let (stored_len, raw_len) = (entry.stored_len as u32, entry.raw_len as u32);
                        let place = Place { pack: number, offset: entry.offset, stored_len, raw_len };
                        found.push(Found { key: entry.key, place, bases: start..bases.len() });
                    }
                }
                Err(StoreError::Backend(BackendError::NotFound { .. })) => {}
                Err(error @ StoreError::Pack { .. }) => {
                    let size = store.backend().size(&pack_name(&id))?;
                    packs.push(PackInfo { id, size, problem: Some(error.to_string()) });
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_unstable_by_key(|found| (found.key, found.place.pack));
        let is_good = in_index(store, &packs, &found)?;
        let mut inventory = Self {
            packs,
            ids: Vec::new(),
            kinds: [0; EntryKind::ALL.len() + 1],
            first: Vec::new(),
            places: Vec::with_capacity(found.len()),
            copies: Copies::default(),
        };
        let mut start = 0;
        for of_one in found.chunk_by(|a, b| a.key == b.key) {
            let Some(Found { key, .. }) = of_one.first() else { continue };
            inventory.first.push(inventory.places.len() as u32);
            inventory.ids.push(key.id);
            for end in &mut inventory.kinds[key.kind as usize..] {
                *end += 1;
            }
            let good = &is_good[start..start + of_one.len()];
            start += of_one.len();
            let any_good = good.contains(&true);
            let places = of_one.iter().zip(good).filter(|(_, is_good)| !any_good || **is_good);
            inventory.places.extend(places.map(|(found, _)| found.place));
        }
        inventory.first.push(inventory.places.len() as u32);
        // Bases can be numbered only now.
        let mut at = 0;
        for found in &found {
            let Some(entry) = inventory.find(&found.key) else { continue };
            let is_next = inventory.places.get(at).is_some_and(|place| {
                at < inventory.first[entry as usize + 1] as usize && place.pack == found.place.pack
            });
            if is_next {
                at += 1;
                let numbers = bases[found.bases.clone()].iter();
                let numbers: Vec<u32> =
                    numbers.map(|base| inventory.find(&EntryKey::block(*base)).unwrap_or(NOWHERE)).collect();
                inventory.copies.push(entry, numbers);
            }
        }
        Ok(inventory)
    }

    /// The packs, by id.
    #[must_use]
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The entries of a kind.
    #[must_use]
    pub fn of_kind(&self, kind: EntryKind) -> Range<u32> {
        let at = kind as usize - 1;
        self.kinds[at]..self.kinds[at + 1]
    }

    /// The number of an entry.
    #[must_use]
    pub fn find(&self, key: &EntryKey) -> Option<u32> {
        let range = self.of_kind(key.kind);
        let ids = &self.ids[range.start as usize..range.end as usize];
        ids.binary_search(&key.id).ok().map(|at| range.start + at as u32)
    }

    /// The kind of an entry.
    #[must_use]
    pub fn kind(&self, entry: u32) -> EntryKind {
        let is_of = |kind: &EntryKind| self.of_kind(*kind).contains(&entry);
        EntryKind::ALL.into_iter().find(is_of).unwrap_or(EntryKind::Block)
    }

    /// The key of an entry.
    #[must_use]
    pub fn key(&self, entry: u32) -> EntryKey {
        EntryKey::new(self.kind(entry), self.ids[entry as usize])
    }

    /// The copies of an entry.
    #[must_use]
    pub fn copies(&self, entry: u32) -> Range<u32> {
        self.first[entry as usize]..self.first[entry as usize + 1]
    }

    /// The pack that a copy is in.
    #[must_use]
    pub fn pack_of(&self, copy: u32) -> u32 {
        self.places[copy as usize].pack
    }

    /// What a copy takes in its pack, in bytes: its header and what is stored.
    #[must_use]
    pub fn bytes(&self, copy: u32) -> u64 {
        let Place { stored_len, raw_len, .. } = self.places[copy as usize];
        u64::from(stored_len) + entry_header_len(stored_len.into(), raw_len.into())
    }

    /// The entries that a copy leans on; `None` for one that is nowhere.
    pub fn bases(&self, copy: u32) -> impl Iterator<Item = Option<u32>> + '_ {
        self.copies.bases(copy as usize).iter().map(|base| Some(*base).filter(|base| *base != NOWHERE))
    }

    /// Where a copy is.
    #[must_use]
    pub fn location(&self, entry: u32, copy: u32, depth: u32) -> Location {
        let Place { pack, offset, stored_len, raw_len } = self.places[copy as usize];
        let pack = PackId::Sealed(self.packs[pack as usize].id);
        let (stored_len, raw_len) = (stored_len.into(), raw_len.into());
        Location { key: self.key(entry), pack, offset, stored_len, raw_len, depth }
    }
}
