//! What a pack still tells of itself where it has no footer that can be read, or none yet: entries lie back to back, and each has a
//! header.

use shard_core::Digest;

use crate::entry::{Location, PackId};
use crate::error::StoreError;
use crate::footer::{Footer, HEADER_LEN, TRAILER_LEN, Trailer, check_header, entry_header_len, parse_entry_header};
use crate::pack::{Bytes, MAX_FOOTER, Object, pack_name, read_entry};
use crate::store::Store;
use crate::transaction::{Transaction, Writes};

/// The longest header of an entry, in bytes.
const LONGEST_HEADER: u64 = 64;

/// The entries of a pack as their own headers tell of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Salvage {
    /// Where they are, in the order of the file. Depths are 0: nobody knows them.
    pub entries: Vec<Location>,
    /// Whether these are all that the pack had. One that is damaged may be among them.
    pub is_complete: bool,
}

impl Store {
    /// What is in a pack by the headers of its entries, where its footer cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub fn salvage_pack(&self, id: &Digest) -> Result<Salvage, StoreError> {
        let pack = Object::new(self.backend().as_ref(), pack_name(id));
        let len = pack.size()?;
        let Some(room) = len.checked_sub(TRAILER_LEN).filter(|room| *room >= HEADER_LEN) else {
            return Ok(Salvage::default());
        };
        let mut trailer = [0; TRAILER_LEN as usize];
        pack.read_at(room, &mut trailer)?;
        // The trailer says where entries end, unless it is what is damaged.
        let footer_at = Trailer::decode(&trailer, len).ok().map(|trailer| room - trailer.footer_len);
        if let Some(footer_at) = footer_at {
            let (entries, end) = walk(&pack, PackId::Sealed(*id), footer_at, false)?;
            if end == footer_at {
                return Ok(Salvage { entries, is_complete: true });
            }
        }
        // Otherwise the first that is not whole ends them, and they are all if what follows is their footer.
        let (entries, end) = walk(&pack, PackId::Sealed(*id), len, true)?;
        Ok(Salvage { entries, is_complete: is_footer(&pack, end, room, len)? })
    }

    /// Begins to write what another repository sends: should this process be killed, [`Self::unfinished_packs`] has what had come.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_received(&self, purpose: &str) -> Result<Transaction, StoreError> {
        self.remove_leftovers(false)?;
        Transaction::begin(self.clone(), purpose, Writes::Received)
    }

    /// The names of packs that processes which are provably gone were receiving.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub fn unfinished_packs(&self) -> Result<Vec<String>, StoreError> {
        match &self.0.local {
            Some(local) => Ok(local.stale_resumables()?),
            None => Ok(Vec::new()),
        }
    }

    /// Removes an unfinished pack.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub fn remove_unfinished(&self, name: &str) -> Result<(), StoreError> {
        Ok(self.backend().delete(name)?)
    }

    /// The entries of an unfinished pack, up to the first that is not whole. Depths are 0, and packs those of an archive: nobody
    /// knows them.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub fn salvage_unfinished(&self, name: &str) -> Result<Vec<Location>, StoreError> {
        let pack = Object::new(self.backend().as_ref(), name.to_owned());
        let len = pack.size()?;
        let mut start = [0; HEADER_LEN as usize];
        if len < HEADER_LEN || pack.read_at(0, &mut start).is_err() || check_header(&start).is_err() {
            return Ok(Vec::new());
        }
        Ok(walk(&pack, PackId::Archive, len, true)?.0)
    }

    /// Replaces the content of `out` by the stored bytes of an entry of an unfinished pack.
    ///
    /// # Errors
    /// [`StoreError::Entry`] where it is damaged; [`StoreError::Backend`].
    pub fn read_unfinished(&self, name: &str, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        read_entry(|offset, out| self.backend().get_range(name, offset, out), name, location, out)
    }
}

/// Goes over entries from the start of a pack to `end`, or to what is none, or, where `only_whole`, is damaged. Gives them and
/// where they end.
fn walk(bytes: &dyn Bytes, pack: PackId, end: u64, only_whole: bool) -> Result<(Vec<Location>, u64), StoreError> {
    let (mut entries, mut at, mut stored) = (Vec::new(), HEADER_LEN, Vec::new());
    while at < end {
        let mut header = [0; LONGEST_HEADER as usize];
        let header = &mut header[..(end - at).min(LONGEST_HEADER) as usize];
        bytes.read_at(at, header)?;
        let Some((key, stored_len, raw_len)) = parse_entry_header(header) else { break };
        let offset = at + entry_header_len(stored_len, raw_len);
        if offset + stored_len > end {
            break;
        }
        let location = Location { key, pack, offset, stored_len, raw_len, depth: 0 };
        match read_entry(|offset, out| bytes.read_at(offset, out), &bytes.name(), &location, &mut stored) {
            Err(StoreError::Entry { .. }) if only_whole => break,
            Err(StoreError::Entry { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        entries.push(location);
        at = offset + stored_len;
    }
    Ok((entries, at))
}

/// Whether a footer is there that fits a pack of this length: its entries end where it begins.
fn is_footer(bytes: &dyn Bytes, at: u64, end: u64, pack_len: u64) -> Result<bool, StoreError> {
    let Some(len) = end.checked_sub(at).filter(|len| *len <= MAX_FOOTER) else { return Ok(false) };
    let mut footer = vec![0; len as usize];
    bytes.read_at(at, &mut footer)?;
    Ok(Footer::decode(&footer, pack_len).is_ok())
}
