//! Packs that go out of use: what is good in them is written again first.

use std::collections::BTreeMap;

use shard_core::Digest;
use shard_core::limits::MAX_DEPTH;
use shard_store::footer::Footer;
use shard_store::pack::{Object, PackReader};
use shard_store::{EntryKind, EntryList, EntrySource, Location, PackId, Salvage, StoreError};

use super::{Fetcher, bases_of};
use crate::error::{RepoError, Result, unless_damaged};

impl Fetcher<'_> {
    /// Looks what is in bad packs that the index knows nothing of, and writes again what is good in them, before it is fetched
    /// from elsewhere, or told to be lost.
    pub(super) fn salvage_all(&mut self) -> Result<()> {
        let sums = self.store.index_sums()?;
        for pack in self.bad_packs.clone() {
            if sums.get(&pack).is_some_and(|sum| sum.entries() > 0) {
                continue;
            }
            let salvage = self.contents(pack)?;
            // In the order of the file: bases come before what leans on them.
            for location in &salvage.entries {
                if self.transaction.locate(&location.key)?.is_none()
                    && let Some(stored) = self.prove(location, None)?
                {
                    self.keep(location, &stored)?;
                }
            }
            self.lost.insert(pack, salvage);
        }
        Ok(())
    }

    /// What is in a pack: by its own footer, by that of the other's pack of this name, if it is whole, or by its entries' headers.
    fn contents(&self, pack: Digest) -> Result<Salvage> {
        let listed = |footer: &Footer| {
            let place = |entry| PackReader::<Object<'_>>::location(entry, PackId::Sealed(pack), 0);
            Salvage { entries: footer.entries.iter().map(place).collect(), is_complete: true }
        };
        if let Some(opened) = unless_damaged(self.store.open_pack(&pack).map_err(RepoError::from))? {
            return Ok(listed(opened.footer()));
        }
        if let Some(other) = self.other_store {
            // Its name proves it, down to the last entry.
            let opened = other.verify_pack(&pack).and_then(|()| other.open_pack(&pack));
            if let Some(opened) = unless_damaged(opened.map_err(RepoError::from))? {
                return Ok(listed(opened.footer()));
            }
        }
        let salvage = self.store.salvage_pack(&pack).map_err(RepoError::from);
        Ok(unless_damaged(salvage)?.unwrap_or_default())
    }

    /// Writes again what is good in the bad packs and nowhere else, and gives the packs with which nothing is lost.
    ///
    /// That nothing is missed without a pack is not enough: refs that cannot be read may lead to what is in it.
    pub(super) fn save_all(&mut self) -> Result<Vec<Digest>> {
        let mut held: BTreeMap<Digest, Vec<Location>> = BTreeMap::new();
        for kind in EntryKind::ALL {
            let bad_packs = &self.bad_packs;
            self.store.each_copy(kind, &mut |copy| match copy.location.pack {
                PackId::Sealed(pack) if bad_packs.contains(&pack) => held.entry(pack).or_default().push(copy.location),
                _ => {}
            })?;
        }
        let mut retired = Vec::new();
        for pack in self.bad_packs.clone() {
            let known = held.remove(&pack).map(|entries| Salvage { entries, is_complete: true });
            let known = match known.or_else(|| self.lost.remove(&pack)) {
                Some(known) => known,
                // All that the index knew of was bad.
                None => self.contents(pack)?,
            };
            let Salvage { mut entries, is_complete: mut is_needless } = known;
            // A base before what leans on it.
            entries.sort_by_key(|location| (location.depth, location.offset));
            for location in entries {
                is_needless &= self.save(&location)?;
            }
            if is_needless {
                retired.push(pack);
            } else {
                self.report.left.push(pack);
            }
        }
        Ok(retired)
    }

    /// Sees to it that an entry of a bad pack is whole elsewhere.
    fn save(&mut self, location: &Location) -> Result<bool> {
        let key = location.key;
        if matches!(self.transaction.locate(&key)?, Some(Location { pack: PackId::Pending(_), .. })) {
            return Ok(true);
        }
        for other in self.store.copies(&key)? {
            if matches!(other.pack, PackId::Sealed(pack) if !self.bad_packs.contains(&pack))
                && self.prove(&other, None)?.is_some()
            {
                return Ok(true);
            }
        }
        if let Some(stored) = self.prove(location, None)?
            && self.keep(location, &stored)?
        {
            return Ok(true);
        }
        // A sketch is a guide, and may be missing.
        Ok(self.fetch(key, MAX_DEPTH)? || key.kind == EntryKind::Sketch)
    }

    /// Writes a copy that is proven to be good once more, unless what it leans on is too deep by now.
    fn keep(&mut self, location: &Location, stored: &[u8]) -> Result<bool> {
        let bases = bases_of(stored).unwrap_or_default();
        match self.transaction.put_copy(&location.key, stored, location.raw_len, &bases) {
            Ok(()) => Ok(self.count(stored.len(), false)),
            Err(StoreError::TooDeep { .. } | StoreError::MissingBase { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
