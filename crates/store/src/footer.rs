//! The footer of a pack: what is in it and where.
//!
//! Wire form: number of entries (varint); each entry as kind (byte), id (32 bytes), stored length, raw length, number of
//! bases (varints), and each base as a varint that is 0, followed by the digest, or the number, counted from 1, of an earlier
//! entry of the footer. Entries lie back to back from [`HEADER_LEN`] to the start of the footer, so offsets follow from the
//! lengths: entries cannot overlap, and no byte of a pack is unaccounted for.

use std::collections::HashMap;

use shard_core::limits::MAX_BASE_RANGES;
use shard_core::wire::put_varint;
use shard_core::{Digest, Sha256, WireReader, sha256};

use crate::entry::{EntryKey, EntryKind};
use crate::error::PackError;
use crate::nonce::Nonce;

/// The first bytes of a pack.
pub(crate) const MAGIC: &[u8; 8] = b"shardpak";
/// The version of the pack format.
pub(crate) const VERSION: u32 = 1;
/// Length of what precedes the first entry, in bytes: magic, version (u32, little-endian), salt (16 bytes).
pub const HEADER_LEN: u64 = 8 + 4 + 16;
/// Length of what follows the footer, in bytes: footer length (u64), SHA-256 of the footer, version (u32), magic.
pub const TRAILER_LEN: u64 = 8 + 32 + 4 + 8;

/// The shortest entry of a footer, in bytes: kind, id, and three one-byte varints.
const SHORTEST_ENTRY: usize = 1 + 32 + 3;

/// An entry of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FooterEntry {
    /// The entry.
    pub key: EntryKey,
    /// Where its stored bytes start in the pack, in bytes.
    pub offset: u64,
    /// How many stored bytes there are.
    pub stored_len: u64,
    /// How many bytes they decode to.
    pub raw_len: u64,
    /// The blocks that decoding needs.
    pub bases: Vec<Digest>,
}

/// What is in a pack, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footer {
    /// The entries.
    pub entries: Vec<FooterEntry>,
}

/// The header of an entry in a pack: kind (byte), id, stored length, raw length (varints), CRC-32 (IEEE) of the stored
/// bytes (u32, little-endian). The stored bytes follow.
pub(crate) fn entry_header(key: &EntryKey, stored_len: u64, raw_len: u64, crc: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(64);
    header.push(key.kind as u8);
    header.extend_from_slice(&key.id.0);
    put_varint(&mut header, stored_len);
    put_varint(&mut header, raw_len);
    header.extend_from_slice(&crc.to_le_bytes());
    header
}

/// What the header of an entry says, at the start of these bytes: key, stored length, raw length. `None` where none is there.
pub(crate) fn parse_entry_header(bytes: &[u8]) -> Option<(EntryKey, u64, u64)> {
    let mut reader = WireReader::new(bytes);
    let kind = EntryKind::from_byte(reader.u8().ok()?)?;
    let key = EntryKey::new(kind, reader.digest().ok()?);
    let stored_len = reader.varint_up_to(kind.max_stored_len(), "stored length").ok()?;
    let raw_len = reader.varint_up_to(kind.max_raw_len(), "raw length").ok()?;
    Some((key, stored_len, raw_len))
}

/// Length of [`entry_header`] in bytes.
pub(crate) fn entry_header_len(stored_len: u64, raw_len: u64) -> u64 {
    let varint_len = |value: u64| u64::from((64 - (value | 1).leading_zeros()).div_ceil(7));
    1 + 32 + varint_len(stored_len) + varint_len(raw_len) + 4
}

/// Magic, version and salt.
pub(crate) fn header(salt: Nonce) -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes(), &salt.0].concat()
}

/// Checks magic and version at the start of a pack.
pub(crate) fn check_header(header: &[u8]) -> Result<(), PackError> {
    let mut reader = WireReader::new(header);
    if reader.bytes(MAGIC.len()).map_err(|_| PackError::Magic)? != MAGIC {
        return Err(PackError::Magic);
    }
    match reader.u32().map_err(|_| PackError::Magic)? {
        VERSION => Ok(()),
        version => Err(PackError::Version(version)),
    }
}

/// What the trailer of a pack says of its footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) footer_len: u64,
    pub(crate) footer_sha256: Digest,
}

impl Trailer {
    pub(crate) fn new(footer: &[u8]) -> Self {
        Self { footer_len: footer.len() as u64, footer_sha256: sha256(footer) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.footer_len.to_le_bytes().as_slice(), &self.footer_sha256.0, &VERSION.to_le_bytes(), MAGIC].concat()
    }

    /// Reads the last [`TRAILER_LEN`] bytes of a pack of `pack_len` bytes.
    pub(crate) fn decode(bytes: &[u8], pack_len: u64) -> Result<Self, PackError> {
        let mut reader = WireReader::new(bytes);
        let mut read = || -> Result<_, shard_core::WireError> {
            Ok((reader.u64()?, reader.digest()?, reader.u32()?, reader.bytes(MAGIC.len())?))
        };
        let (footer_len, footer_sha256, version, magic) = read().map_err(|_| PackError::Magic)?;
        if magic != MAGIC {
            return Err(PackError::Magic);
        }
        if version != VERSION {
            return Err(PackError::Version(version));
        }
        let room = pack_len.checked_sub(HEADER_LEN + TRAILER_LEN).ok_or(PackError::Magic)?;
        if footer_len > room {
            return Err(PackError::Inconsistent("it is longer than the pack"));
        }
        Ok(Self { footer_len, footer_sha256 })
    }

    pub(crate) fn check(&self, footer: &[u8]) -> Result<(), PackError> {
        if *self == Self::new(footer) { Ok(()) } else { Err(PackError::FooterChecksum) }
    }
}

impl Footer {
    /// The wire form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 48 + 8);
        let mut blocks: HashMap<Digest, u64> = HashMap::with_capacity(self.entries.len());
        put_varint(&mut out, self.entries.len() as u64);
        for (number, entry) in (1u64..).zip(&self.entries) {
            out.push(entry.key.kind as u8);
            out.extend_from_slice(&entry.key.id.0);
            put_varint(&mut out, entry.stored_len);
            put_varint(&mut out, entry.raw_len);
            put_varint(&mut out, entry.bases.len() as u64);
            for base in &entry.bases {
                let known = blocks.get(base).copied().unwrap_or(0);
                put_varint(&mut out, known);
                if known == 0 {
                    out.extend_from_slice(&base.0);
                }
            }
            if entry.key.kind == EntryKind::Block {
                blocks.insert(entry.key.id, number);
            }
        }
        out
    }

    /// Reads the footer of a pack of `pack_len` bytes.
    ///
    /// # Errors
    /// [`PackError`] for anything malformed, out of bounds, twice there, or not adding up to the pack's length.
    pub fn decode(bytes: &[u8], pack_len: u64) -> Result<Self, PackError> {
        let mut reader = WireReader::new(bytes);
        let most = (bytes.len() / SHORTEST_ENTRY) as u64;
        let count = reader.varint_up_to(most, "number of entries")?;
        let mut entries: Vec<FooterEntry> = Vec::with_capacity(count as usize);
        let mut numbers: HashMap<EntryKey, usize> = HashMap::with_capacity(count as usize);
        let mut at = HEADER_LEN;
        for number in 0..count as usize {
            let kind = reader.u8()?;
            let kind = EntryKind::from_byte(kind).ok_or_else(|| reader.invalid("kind of entry"))?;
            let key = EntryKey::new(kind, reader.digest()?);
            let stored_len = reader.varint_up_to(kind.max_stored_len(), "stored length")?;
            let raw_len = reader.varint_up_to(kind.max_raw_len(), "raw length")?;
            let base_count = reader.varint_up_to(MAX_BASE_RANGES as u64, "number of bases")?;
            let mut bases = Vec::new();
            for _ in 0..base_count {
                let base = match reader.varint_up_to(number as u64, "number of a base")? {
                    0 => reader.digest()?,
                    earlier => {
                        let base = entries[earlier as usize - 1].key;
                        if base.kind != EntryKind::Block {
                            return Err(PackError::Inconsistent("a base is not a block"));
                        }
                        base.id
                    }
                };
                if EntryKey::block(base) == key || bases.contains(&base) {
                    return Err(PackError::Inconsistent("an entry leans on itself, or on a block twice"));
                }
                bases.push(base);
            }
            // Both lengths are capped above and entries by the footer's length: no overflow.
            let offset = at + entry_header_len(stored_len, raw_len);
            at = offset + stored_len;
            if numbers.insert(key, number).is_some() {
                return Err(PackError::Inconsistent("an entry is there twice"));
            }
            entries.push(FooterEntry { key, offset, stored_len, raw_len, bases });
        }
        reader.finish()?;
        if at.checked_add(bytes.len() as u64 + TRAILER_LEN) != Some(pack_len) {
            return Err(PackError::Inconsistent("the entries do not add up to the pack"));
        }
        Ok(Self { entries })
    }

    /// Length in bytes of a pack with this footer of `footer_len` bytes.
    #[must_use]
    pub fn pack_len(&self, footer_len: u64) -> u64 {
        let end = self.entries.last().map_or(HEADER_LEN, |entry| entry.offset.saturating_add(entry.stored_len));
        end.saturating_add(footer_len).saturating_add(TRAILER_LEN)
    }
}

/// Takes in a hash and gives it out; a hash can be finished only once.
pub(crate) fn finish_hash(hash: &mut Sha256) -> Digest {
    std::mem::take(hash).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u64) -> Digest {
        sha256(&n.to_le_bytes())
    }

    fn footer(spec: &[(usize, u64, u64, Vec<u64>)]) -> Footer {
        let mut at = HEADER_LEN;
        let mut entries = Vec::new();
        for (number, (kind, stored_len, raw_len, bases)) in spec.iter().enumerate() {
            let key = EntryKey::new(EntryKind::ALL[*kind], id(number as u64));
            let (stored_len, raw_len) =
                ((*stored_len).min(key.kind.max_stored_len()), (*raw_len).min(key.kind.max_raw_len()));
            let mut bases: Vec<Digest> =
                bases.iter().filter(|base| **base != number as u64).map(|base| id(*base)).collect();
            bases.sort_unstable();
            bases.dedup();
            let offset = at + entry_header_len(stored_len, raw_len);
            at = offset + stored_len;
            entries.push(FooterEntry { key, offset, stored_len, raw_len, bases });
        }
        Footer { entries }
    }

    fn any_footer() -> impl Strategy<Value = Footer> {
        let bases = proptest::collection::vec(0u64..12, 0..4);
        proptest::collection::vec((0usize..8, 0u64..1 << 20, 0u64..1 << 22, bases), 0..10).prop_map(|s| footer(&s))
    }

    proptest! {
        #[test]
        fn footers_round_trip(footer in any_footer()) {
            let bytes = footer.encode();
            let len = footer.pack_len(bytes.len() as u64);
            prop_assert_eq!(Footer::decode(&bytes, len), Ok(footer.clone()));
            for wrong in [len - 1, len + 1, 0, u64::MAX] {
                prop_assert!(Footer::decode(&bytes, wrong).is_err());
            }
            for cut in 0..bytes.len() {
                prop_assert!(Footer::decode(&bytes[..cut], len).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), len: u64) {
            let _ = Footer::decode(&bytes, len);
            let _ = Trailer::decode(&bytes, len);
            let _ = check_header(&bytes);
        }

        #[test]
        fn header_lengths(stored_len: u64, raw_len: u64) {
            let header = entry_header(&EntryKey::block(id(1)), stored_len, raw_len, 7);
            prop_assert_eq!(header.len() as u64, entry_header_len(stored_len, raw_len));
        }
    }

    #[test]
    fn fault_09_flipped_footers_never_panic() {
        let footer = footer(&[(0, 5, 9, vec![]), (0, 5, 9, vec![0, 77]), (2, 300, 9, vec![1])]);
        let bytes = footer.encode();
        let len = footer.pack_len(bytes.len() as u64);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Footer::decode(&bad, len).as_ref(), Ok(&footer), "bit {bit}");
            assert_eq!(Trailer::new(&bytes).check(&bad), Err(PackError::FooterChecksum));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let twice = |entries: Vec<FooterEntry>| {
            let footer = Footer { entries };
            let bytes = footer.encode();
            Footer::decode(&bytes, footer.pack_len(bytes.len() as u64))
        };
        let mut entries = footer(&[(0, 5, 9, vec![]), (0, 5, 9, vec![])]).entries;
        assert!(twice(entries.clone()).is_ok());
        entries[1].key = entries[0].key;
        assert!(matches!(twice(entries.clone()), Err(PackError::Inconsistent(_))));
        entries.truncate(1);
        entries[0].bases = vec![entries[0].key.id];
        assert!(matches!(twice(entries.clone()), Err(PackError::Inconsistent(_))));
        entries[0].bases = vec![id(5), id(5)];
        assert!(matches!(twice(entries), Err(PackError::Inconsistent(_))));
        let mut count = Vec::new();
        put_varint(&mut count, u64::MAX);
        assert!(Footer::decode(&count, 100).is_err());
    }
}
