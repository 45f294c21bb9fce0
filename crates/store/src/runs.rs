//! Entries that lie near one another in a pack, read by one request: for where each is a round trip.

use crate::backend::BackendError;
use crate::entry::{EntrySource as _, Location, PackId};
use crate::error::StoreError;
use crate::footer::entry_header_len;
use crate::pack::{OTHER_ENTRY, WRONG_CHECKSUM, crc_of, pack_name};
use crate::store::Store;

/// Bytes of a pack that are read at once at most, but for an entry that is longer.
const RUN: u64 = 16 << 20;
/// Bytes between entries that are read for nothing at most.
const GAP: u64 = 256 << 10;
/// Longest header of an entry.
const HEADER: usize = 64;

/// Puts entries in an order in which many that follow one another can be read together, and each comes after what it leans on: by depth,
/// and by where they are. Says of each whether it is best read together with the one before.
pub fn in_runs(locations: &mut [Location]) -> Vec<bool> {
    locations.sort_by_key(|location| (location.depth, pack_of(location), location.offset));
    let mut first: Option<&Location> = None;
    let mut last: Option<&Location> = None;
    let mut goes_on = |location| {
        let joins = first.zip(last).is_some_and(|(first, last)| joins(first, last, location));
        if !joins {
            first = Some(location);
        }
        last = Some(location);
        joins
    };
    locations.iter().map(&mut goes_on).collect()
}

fn pack_of(location: &Location) -> Option<[u8; 32]> {
    if let PackId::Sealed(pack) = location.pack { Some(pack.0) } else { None }
}

fn start_of(location: &Location) -> Option<u64> {
    location.offset.checked_sub(entry_header_len(location.stored_len, location.raw_len))
}

fn joins(first: &Location, last: &Location, next: &Location) -> bool {
    let (Some(start), Some(from)) = (start_of(first), start_of(next)) else { return false };
    let (end, to) = (last.offset.saturating_add(last.stored_len), next.offset.saturating_add(next.stored_len));
    let is_near = from >= end && from - end <= GAP && to - start <= RUN;
    is_near && pack_of(first).is_some() && pack_of(first) == pack_of(next)
}

impl Store {
    /// Reads stored bytes of entries, as [`read_stored`](crate::EntrySource::read_stored) does, that [`in_runs`] says are best read together.
    ///
    /// # Errors
    /// As [`read_stored`](crate::EntrySource::read_stored), for the first that cannot be read.
    pub fn read_run(&self, run: &[Location], out: &mut [Vec<u8>]) -> Result<(), StoreError> {
        match (run, out) {
            ([one], [out]) => self.read_stored(one, out),
            (run, out) => {
                let Some(PackId::Sealed(pack)) = run.first().map(|location| location.pack) else { return Ok(()) };
                let (name, backend) = (pack_name(&pack), self.backend());
                read_entries(|offset, parts| backend.get_parts(&name, offset, parts), &name, run, out)
            }
        }
    }
}

/// Reads the stored bytes of entries of a file, each after the one before, and checks them against their headers: key, lengths and CRC-32.
/// `read` fills parts that lie one after the other.
pub(crate) fn read_entries(
    read: impl Fn(u64, &mut [&mut [u8]]) -> Result<(), BackendError>,
    file: &str,
    run: &[Location],
    out: &mut [Vec<u8>],
) -> Result<(), StoreError> {
    let error = |location: &Location, problem| StoreError::Entry {
        file: file.to_owned(),
        offset: location.offset,
        key: location.key,
        problem,
    };
    let mut headers = vec![[0; HEADER]; run.len()];
    let outcome = (|| {
        let (mut parts, mut between, mut at) = (Vec::new(), vec![Vec::new(); run.len()], None);
        let places = run.iter().zip(&mut *out).zip(headers.iter_mut().zip(&mut between));
        for ((location, out), (header, between)) in places {
            let start = start_of(location).ok_or_else(|| error(location, "no room for the entry's header"))?;
            // Before anything is allocated: a wrong location costs nothing.
            if location.stored_len > location.key.kind.max_stored_len() {
                return Err(error(location, "it is longer than any entry"));
            }
            let gap = start.checked_sub(at.unwrap_or(start)).filter(|gap| *gap <= GAP);
            between.resize(gap.ok_or_else(|| error(location, "it is not where the one before ends"))? as usize, 0);
            // What an earlier entry left there is not cleared first: zeros would be written for nothing.
            out.resize(location.stored_len as usize, 0);
            at = Some(location.offset + location.stored_len);
            parts.push(&mut between[..]);
            parts.push(&mut header[..(location.offset - start) as usize]);
            parts.push(&mut out[..]);
        }
        let Some(first) = run.first() else { return Ok(()) };
        read(start_of(first).unwrap_or(0), &mut parts).map_err(|problem| match problem {
            BackendError::OutOfBounds { .. } => error(first, "the pack ends before the entry does"),
            other => other.into(),
        })?;
        for ((location, out), header) in run.iter().zip(&*out).zip(&headers) {
            let header = &header[..entry_header_len(location.stored_len, location.raw_len) as usize];
            let crc = crc_of(header, location).ok_or_else(|| error(location, OTHER_ENTRY))?;
            if crc32fast::hash(out) != crc {
                return Err(error(location, WRONG_CHECKSUM));
            }
        }
        Ok(())
    })();
    outcome.inspect_err(|_| out.iter_mut().for_each(Vec::clear))
}
