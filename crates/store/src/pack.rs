//! Packs: many entries in one immutable file that describes itself.
//!
//! A pack is a header (magic, version, salt), entries back to back (see [`crate::footer`] for their headers), the footer, and a
//! trailer of fixed size that says where the footer starts and what its SHA-256 is. It is read from its end.

use std::collections::HashMap;

use shard_core::{Digest, Sha256};

use crate::backend::{Backend, BackendError, Output};
use crate::entry::{EntryKey, Location, PackId};
use crate::error::{PackError, StoreError};
use crate::footer::{
    Footer, FooterEntry, HEADER_LEN, TRAILER_LEN, Trailer, check_header, entry_header, entry_header_len, finish_hash,
    header,
};
use crate::nonce::Nonce;

/// Largest footer that is read, in bytes.
pub(crate) const MAX_FOOTER: u64 = 1 << 30;

/// What is read of a pack's end at once: most footers are shorter, trailer and all.
const TAIL: u64 = 64 << 10;

pub(crate) const OTHER_ENTRY: &str = "another entry is there, or its header is damaged";
pub(crate) const WRONG_CHECKSUM: &str = "the checksum does not match: the entry is damaged";

/// The name of a pack's object.
#[must_use]
pub fn pack_name(id: &Digest) -> String {
    format!("packs/{id}.pack")
}

/// The pack that a file name in `packs/` stands for.
#[must_use]
pub fn parse_pack_name(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_suffix(".pack")?).ok()
}

/// Something whose bytes can be read anywhere.
pub trait Bytes: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// [`BackendError`].
    fn size(&self) -> Result<u64, BackendError>;

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// [`BackendError`].
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError>;

    /// Its last `len` bytes, or all where it has fewer, and its length.
    ///
    /// # Errors
    /// [`BackendError`].
    fn tail(&self, len: u64) -> Result<(Vec<u8>, u64), BackendError> {
        let size = self.size()?;
        let mut bytes = vec![0; usize::try_from(len.min(size)).unwrap_or(usize::MAX)];
        self.read_at(size - bytes.len() as u64, &mut bytes)?;
        Ok((bytes, size))
    }

    /// Its name, for errors.
    fn name(&self) -> String;
}

/// An object of a backend as [`Bytes`].
pub struct Object<'a> {
    backend: &'a dyn Backend,
    name: String,
}

impl<'a> Object<'a> {
    /// The object with this name.
    pub fn new(backend: &'a dyn Backend, name: String) -> Self {
        Self { backend, name }
    }
}

impl Bytes for Object<'_> {
    fn size(&self) -> Result<u64, BackendError> {
        self.backend.size(&self.name)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.backend.get_range(&self.name, offset, out)
    }

    fn tail(&self, len: u64) -> Result<(Vec<u8>, u64), BackendError> {
        self.backend.get_tail(&self.name, len)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Reads the header of an entry and checks that it is the one that the location speaks of. Returns the CRC-32 of its bytes.
pub(crate) fn read_entry_header(
    read: impl Fn(u64, &mut [u8]) -> Result<(), BackendError>,
    file: &str,
    location: &Location,
) -> Result<u32, StoreError> {
    let Location { key, offset, stored_len, raw_len, .. } = *location;
    let error = |problem| StoreError::Entry { file: file.to_owned(), offset, key, problem };
    let header_len = entry_header_len(stored_len, raw_len);
    let start = offset.checked_sub(header_len).ok_or_else(|| error("no room for the entry's header"))?;
    if stored_len > key.kind.max_stored_len() {
        return Err(error("it is longer than any entry"));
    }
    let mut header = [0; 64];
    let header = &mut header[..header_len as usize];
    read(start, header).map_err(|problem| match problem {
        BackendError::OutOfBounds { .. } => error("the pack ends before the entry does"),
        other => other.into(),
    })?;
    crc_of(header, location).ok_or_else(|| error(OTHER_ENTRY))
}

/// The CRC-32 in the header of an entry, if it is that of the one that the location speaks of.
pub(crate) fn crc_of(header: &[u8], location: &Location) -> Option<u32> {
    let (fields, crc) = header.split_last_chunk::<4>()?;
    entry_header(&location.key, location.stored_len, location.raw_len, 0)
        .starts_with(fields)
        .then_some(u32::from_le_bytes(*crc))
}

/// Reads the stored bytes of an entry and checks them against its header: key, lengths and CRC-32.
pub(crate) fn read_entry(
    read: impl Fn(u64, &mut [u8]) -> Result<(), BackendError>,
    file: &str,
    location: &Location,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let Location { key, offset, stored_len, .. } = *location;
    let error = |problem| StoreError::Entry { file: file.to_owned(), offset, key, problem };
    // Before anything is allocated: a wrong location costs nothing.
    let crc = read_entry_header(&read, file, location).inspect_err(|_| out.clear())?;
    // What an earlier entry left there is not cleared first: zeros would be written for nothing.
    out.resize(stored_len as usize, 0);
    read(offset, out).map_err(|problem| match problem {
        BackendError::OutOfBounds { .. } => error("the pack ends before the entry does"),
        other => other.into(),
    })?;
    if crc32fast::hash(out) != crc {
        out.clear();
        return Err(error(WRONG_CHECKSUM));
    }
    Ok(())
}

/// Reads the footer of a pack: its raw bytes and the pack's length.
pub(crate) fn read_footer(pack: &dyn Bytes) -> Result<(Vec<u8>, u64), StoreError> {
    let damaged = |problem| StoreError::Pack { pack: pack.name(), problem };
    let (tail, len) = pack.tail(TAIL)?;
    let trailer_at = len.checked_sub(TRAILER_LEN).filter(|at| *at >= HEADER_LEN).ok_or(damaged(PackError::Magic))?;
    let in_tail = |offset: u64| usize::try_from(offset.checked_sub(len - tail.len() as u64)?).ok();
    let end = in_tail(trailer_at).ok_or(damaged(PackError::Magic))?;
    let trailer = Trailer::decode(&tail[end..], len).map_err(damaged)?;
    if trailer.footer_len > MAX_FOOTER {
        return Err(damaged(PackError::Inconsistent("it is too large")));
    }
    let start = trailer_at - trailer.footer_len;
    let bytes = match in_tail(start) {
        Some(start) => tail[start..end].to_vec(),
        None => {
            let mut bytes = vec![0; trailer.footer_len as usize];
            pack.read_at(start, &mut bytes)?;
            bytes
        }
    };
    trailer.check(&bytes).map_err(damaged)?;
    Ok((bytes, len))
}

/// A pack that is being written. Entries appended can be read back at once.
pub struct PackWriter<O> {
    output: O,
    hash: Sha256,
    footer: Footer,
    numbers: HashMap<EntryKey, usize>,
    id: Option<Digest>,
}

impl<O: Output> PackWriter<O> {
    /// Starts a pack. The same entries after the same salt make the same pack; another salt makes another.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn new(output: O, salt: Nonce) -> Result<Self, BackendError> {
        let mut writer =
            Self { output, hash: Sha256::new(), footer: Footer::default(), numbers: HashMap::new(), id: None };
        writer.write(&header(salt))?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.hash.update(bytes);
        self.output.append(bytes)
    }

    /// Appends an entry, which must not be in the pack yet, and returns where it is.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over the limits of its kind, with nothing written; [`StoreError::Backend`], after which the
    /// pack can only be dropped.
    pub fn append(
        &mut self,
        key: &EntryKey,
        stored: &[u8],
        raw_len: u64,
        bases: &[Digest],
    ) -> Result<&FooterEntry, StoreError> {
        let stored_len = stored.len() as u64;
        if stored_len > key.kind.max_stored_len() {
            return Err(StoreError::TooLarge { key: *key, len: stored_len });
        }
        if raw_len > key.kind.max_raw_len() {
            return Err(StoreError::TooLarge { key: *key, len: raw_len });
        }
        self.write(&entry_header(key, stored_len, raw_len, crc32fast::hash(stored)))?;
        let offset = self.output.len();
        self.write(stored)?;
        let number = self.footer.entries.len();
        self.numbers.insert(*key, number);
        let mut bases = bases.to_vec();
        bases.sort_unstable();
        bases.dedup();
        self.footer.entries.push(FooterEntry { key: *key, offset, stored_len, raw_len, bases });
        Ok(&self.footer.entries[number])
    }

    /// The entry, if it was appended.
    #[must_use]
    pub fn entry(&self, key: &EntryKey) -> Option<&FooterEntry> {
        self.numbers.get(key).and_then(|number| self.footer.entries.get(*number))
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.output.len()
    }

    /// Whether there is no entry yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.footer.entries.is_empty()
    }

    /// What was appended so far.
    #[must_use]
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Reads back an entry.
    ///
    /// # Errors
    /// As [`crate::EntrySource::read_stored`].
    pub fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        read_entry(|offset, out| self.output.read_at(offset, out), &location.pack.to_string(), location, out)
    }

    /// Writes footer and trailer and returns the pack's id, the SHA-256 of all its bytes. Nothing can be appended then.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn complete(&mut self) -> Result<Digest, BackendError> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let footer = self.footer.encode();
        let trailer = Trailer::new(&footer).encode();
        self.write(&footer)?;
        self.write(&trailer)?;
        let id = finish_hash(&mut self.hash);
        self.id = Some(id);
        Ok(id)
    }

    /// The output and what was written to it.
    #[must_use]
    pub fn into_parts(self) -> (O, Footer) {
        (self.output, self.footer)
    }
}

/// A whole pack, opened from its trailer.
pub struct PackReader<B> {
    bytes: B,
    footer: Footer,
    len: u64,
}

impl<B: Bytes> PackReader<B> {
    /// Opens a pack and checks its header, trailer and footer.
    ///
    /// # Errors
    /// [`StoreError::Pack`] for what is not a pack or is damaged; [`StoreError::Backend`].
    pub fn open(bytes: B) -> Result<Self, StoreError> {
        let damaged = |problem| StoreError::Pack { pack: bytes.name(), problem };
        let (footer, len) = read_footer(&bytes)?;
        let mut header = [0; HEADER_LEN as usize];
        bytes.read_at(0, &mut header)?;
        check_header(&header).map_err(damaged)?;
        let footer = Footer::decode(&footer, len).map_err(damaged)?;
        Ok(Self { bytes, footer, len })
    }

    /// What is in the pack.
    #[must_use]
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The pack's length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the pack has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.footer.entries.is_empty()
    }

    /// Where an entry of the footer is, as seen by a reader that calls this pack `pack`.
    #[must_use]
    pub fn location(entry: &FooterEntry, pack: PackId, depth: u32) -> Location {
        let FooterEntry { key, offset, stored_len, raw_len, .. } = *entry;
        Location { key, pack, offset, stored_len, raw_len, depth }
    }

    /// Reads the stored bytes of an entry.
    ///
    /// # Errors
    /// As [`crate::EntrySource::read_stored`].
    pub fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        read_entry(|offset, out| self.bytes.read_at(offset, out), &self.bytes.name(), location, out)
    }

    /// Reads the whole pack once and returns the SHA-256 of its bytes, which is its id.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub fn sha256(&self) -> Result<Digest, StoreError> {
        Ok(sha256_of(&self.bytes, self.len)?)
    }
}

/// The SHA-256 of something of `len` bytes.
pub(crate) fn sha256_of(bytes: &dyn Bytes, len: u64) -> Result<Digest, BackendError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let piece = &mut buffer[..(len - at).min(1 << 20) as usize];
        bytes.read_at(at, piece)?;
        hash.update(piece);
        at += piece.len() as u64;
    }
    Ok(hash.finish())
}
