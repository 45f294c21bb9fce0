//! Keeping the index in step with the packs that are there.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use shard_core::Digest;

use crate::at_once::each_at_once;
use crate::error::StoreError;
use crate::footer::Footer;
use crate::gather::{self, RawFooter};
use crate::index::{Fold, Index, NewPack};
use crate::pack::{Object, pack_name, parse_pack_name, read_footer};
use crate::store::Store;

/// With more new packs than this, index files are read before footers.
const FEW_PACKS: usize = 16;

impl Store {
    pub(crate) fn rebuild(&self, index: &mut Index) -> Result<(), StoreError> {
        if let Some(note) = index.recreate(self.0.id)? {
            self.note(note);
        }
        self.absorb_listed(index)
    }

    /// Throws the index away and builds it from the packs. The stat cache is lost with it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reindex(&self) -> Result<(), StoreError> {
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        self.rebuild(&mut index)
    }

    /// Takes notice of packs that came or went since the store was opened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn refresh(&self) -> Result<(), StoreError> {
        // Before the listing: what comes in between changes the mark.
        let mark = self.0.backend.changed_ns("packs");
        self.with_index(|index| {
            self.absorb_listed(index)?;
            self.0.hints.note(index, mark);
            Ok(())
        })?;
        self.0.listed.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn absorb_listed(&self, index: &mut Index) -> Result<(), StoreError> {
        let names = self.0.backend.list("packs")?;
        let mut fold = Fold::default();
        let listed: Vec<Digest> = names.iter().filter_map(|name| parse_pack_name(name)).collect();
        listed.iter().for_each(|id| fold.add(id));
        if index.fold()? == fold {
            return Ok(());
        }
        let known: HashSet<Digest> = index.packs()?.into_iter().map(|pack| pack.id).collect();
        let gone: Vec<Digest> = {
            let listed: HashSet<Digest> = listed.iter().copied().collect();
            let gone = known.iter().filter(|id| !listed.contains(*id)).copied();
            // A pack that another process published and took in after the listing is there. A look past the files kept open.
            gone.filter(|id| matches!(self.0.backend.get(&pack_name(id), 0), Err(error) if error.is_not_found()))
                .collect()
        };
        let new: Vec<Digest> = listed.into_iter().filter(|id| !known.contains(id)).collect();
        let new = self.read_footers(&new)?;
        match index.absorb(&new, &gone) {
            Err(error) if Index::is_unwritable(&error) => {
                self.note(format!("the index cannot be written ({error}); a temporary one is built in memory"));
                *index = Index::in_memory(self.0.id)?;
                self.absorb_listed(index)
            }
            result => result,
        }
    }

    /// The footers of packs, from index files where there are many. A pack that cannot be read just now is left out.
    fn read_footers(&self, ids: &[Digest]) -> Result<Vec<NewPack>, StoreError> {
        let mut gathered: HashMap<Digest, (u64, Footer)> = HashMap::new();
        if ids.len() > FEW_PACKS {
            let wanted: HashSet<&Digest> = ids.iter().collect();
            for (id, name) in self.gatherings()? {
                let packs = self.0.backend.get(&name, gather::MAX_FILE).map(|bytes| gather::decode(&id, &bytes));
                match packs {
                    Ok(Ok(packs)) => {
                        let packs = packs.into_iter().filter(|(pack, ..)| wanted.contains(pack));
                        gathered.extend(packs.map(|(pack, len, footer)| (pack, (len, footer))));
                    }
                    Ok(Err(error)) => self.note(format!("{name}: ignored: {error}")),
                    Err(error) => self.note(format!("{name}: ignored: {error}")),
                }
            }
        }
        let mut packs = Vec::with_capacity(ids.len());
        let mut others = Vec::new();
        for id in ids {
            match gathered.remove(id) {
                Some((size, footer)) => packs.push(NewPack { id: *id, size, footer: Ok(footer), gathered: true }),
                None => others.push(*id),
            }
        }
        let found = each_at_once(self.0.backend.requests_at_once(), &others, |id| self.read_footer(id));
        packs.extend(found.into_iter().flatten());
        Ok(packs)
    }

    /// The footer of a pack; nothing where it cannot be read just now.
    fn read_footer(&self, id: &Digest) -> Option<NewPack> {
        let object = Object::new(self.0.backend.as_ref(), pack_name(id));
        let footer = read_footer(&object).and_then(|(bytes, len)| {
            let footer = Footer::decode(&bytes, len);
            Ok((footer.map_err(|problem| StoreError::Pack { pack: pack_name(id), problem })?, len))
        });
        match footer {
            Ok((footer, size)) => Some(NewPack { id: *id, size, footer: Ok(footer), gathered: false }),
            Err(error @ StoreError::Pack { .. }) => {
                self.note(error.to_string());
                let size = self.0.backend.size(&pack_name(id)).unwrap_or(0);
                Some(NewPack { id: *id, size, footer: Err(error.to_string()), gathered: false })
            }
            Err(StoreError::Backend(error)) if error.is_not_found() => None,
            Err(error) => {
                self.note(format!("{}: left out for now: {error}", pack_name(id)));
                None
            }
        }
    }

    fn gatherings(&self) -> Result<Vec<(Digest, String)>, StoreError> {
        let names = self.0.backend.list("index")?;
        let ids = names.iter().filter_map(|name| gather::parse_file_name(name));
        Ok(ids.map(|id| (id, gather::file_name(&id))).collect())
    }

    /// Takes in packs just made durable. The index is only a cache: if it fails, it is left to catch up later.
    pub(crate) fn absorb_sealed(&self, packs: &[NewPack]) {
        let absorbed = self.with_index(|index| index.absorb(packs, &[]));
        if let Err(error) = absorbed {
            self.note(format!("the index could not take in what was written ({error}); it will later"));
            return;
        }
        if let Err(error) = self.gather() {
            self.note(format!("no index file could be written: {error}"));
        }
    }

    /// Writes an index file where too many packs are in none.
    fn gather(&self) -> Result<(), StoreError> {
        let backend = self.0.backend.as_ref();
        let many = |packs: &[Digest]| packs.len() > self.0.options.gather_above;
        if !many(&self.with_index(|index| index.ungathered())?) {
            return Ok(());
        }
        // Others may have written some since.
        for (id, name) in self.gatherings()? {
            if self.with_index(|index| index.knows_gathering(&id))? {
                continue;
            }
            if let Ok(Ok(packs)) = backend.get(&name, gather::MAX_FILE).map(|bytes| gather::decode(&id, &bytes)) {
                let packs: Vec<Digest> = packs.into_iter().map(|(pack, ..)| pack).collect();
                self.with_index(|index| index.note_gathering(&id, &packs))?;
            }
        }
        let packs = self.with_index(|index| index.ungathered())?;
        if !many(&packs) {
            return Ok(());
        }
        let footers = each_at_once(backend.requests_at_once(), &packs, |pack| {
            let (bytes, pack_len) = read_footer(&Object::new(backend, pack_name(pack)))?;
            Ok(RawFooter { pack: *pack, pack_len, bytes })
        });
        let footers = footers.into_iter().collect::<Result<Vec<RawFooter>, StoreError>>()?;
        let bytes = gather::encode(&footers);
        let id = shard_core::sha256(&bytes);
        match backend.put_if_absent(&gather::file_name(&id), &bytes) {
            Err(error) if !error.is_already_exists() => return Err(error.into()),
            _ => {}
        }
        self.with_index(|index| index.note_gathering(&id, &packs))
    }

    /// The index files that no pack that is here is in, or that are damaged: their names, and their bytes.
    ///
    /// # Errors
    /// [`StoreError`] where files cannot be listed.
    pub fn idle_index_files(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let backend = self.0.backend.as_ref();
        let there: HashSet<Digest> = backend.list("packs")?.iter().filter_map(|name| parse_pack_name(name)).collect();
        let mut idle = Vec::new();
        for (id, name) in self.gatherings()? {
            let bytes = match backend.get(&name, gather::MAX_FILE) {
                Ok(bytes) => bytes,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let serves = gather::decode(&id, &bytes).is_ok_and(|packs| packs.iter().any(|(id, ..)| there.contains(id)));
            if !serves {
                idle.push((name, bytes.len() as u64));
            }
        }
        Ok(idle)
    }
}
