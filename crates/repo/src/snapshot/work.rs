//! How much readers have to decode for a base.

use std::collections::HashSet;
use std::rc::Rc;

use shard_core::{BaseRef, Digest};

use super::Worker;
use crate::blocks::{Under, block_key, under};
use crate::error::{RepoError, Result};

/// What an earlier block leans on.
pub(super) struct Links {
    /// Its length in bytes.
    len: u64,
    bases: Vec<Digest>,
    under: Option<Under>,
}

impl Worker<'_> {
    /// How many blocks have to be decoded for a base, each as often as it is come by, or a number above `most`.
    pub(super) fn work(&mut self, reference: &BaseRef, most: u32) -> Result<u32> {
        let ids = reference.ranges.iter().filter_map(|range| range.block);
        self.work_of(ids, most)
    }

    fn work_of(&mut self, ids: impl Iterator<Item = Digest>, most: u32) -> Result<u32> {
        let mut work = 0;
        for id in ids {
            work += 1 + self.work_below(id, most.saturating_sub(work))?;
            if work > most {
                break;
            }
        }
        Ok(work)
    }

    /// How many blocks have to be decoded before this one, or a number above `most`.
    fn work_below(&mut self, id: Digest, most: u32) -> Result<u32> {
        if let Some(known) = self.works.get(&id) {
            return Ok(*known);
        }
        let links = self.links(id)?;
        let work = match links.under {
            // The older version is decoded on the way to the newer one.
            Some(Under { newer, older: Some(older) }) if self.newer_of(newer)? == Some(older) => {
                1 + self.work_below(newer, most.saturating_sub(1))?
            }
            _ => self.work_of(links.bases.iter().copied(), most)?,
        };
        if work <= most {
            self.works.insert(id, work);
        }
        Ok(work)
    }

    /// The bytes that have to be decoded for a base, each block once, and those of the longest block that it names.
    pub(super) fn decoded(&mut self, reference: &BaseRef) -> Result<(u64, u64)> {
        let (mut decoded, mut longest) = (0u64, 0);
        let mut waiting = reference.blocks();
        for id in &waiting {
            longest = self.links(*id)?.len.max(longest);
        }
        let mut seen = HashSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                let links = self.links(id)?;
                decoded = decoded.saturating_add(links.len);
                waiting.extend(&links.bases);
            }
        }
        Ok((decoded, longest))
    }

    /// The block that another leans on first, where it is whole.
    fn newer_of(&mut self, id: Digest) -> Result<Option<Digest>> {
        Ok(self.links(id)?.under.map(|under| under.newer))
    }

    /// What a block leans on, which is looked up once.
    fn links(&mut self, id: Digest) -> Result<Rc<Links>> {
        if let Some(known) = self.links.get(&id) {
            return Ok(Rc::clone(known));
        }
        let key = block_key(id);
        let location = self.job.sink.locate(&key)?.ok_or(RepoError::Missing { key })?;
        let mut links = Links { len: location.raw_len, bases: Vec::new(), under: None };
        if location.depth > 0 {
            let (header, _) = self.reader.header(&key)?;
            links.under = under(&header);
            links.bases =
                header.base.iter().flat_map(|base| base.ranges.iter().filter_map(|range| range.block)).collect();
        }
        let links = Rc::new(links);
        self.links.insert(id, Rc::clone(&links));
        Ok(links)
    }
}
