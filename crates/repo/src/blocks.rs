//! Reading entries back: locate, read, follow the chain of bases, decode, and check against the id.

use shard_codecs::{BlockHeader, Decoder};
use shard_core::base::BaseError;
use shard_core::limits::{MAX_BLOCK, MAX_DEPTH, MAX_METADATA};
use shard_core::{BaseRef, Digest, sha256};
use shard_store::{EntryKey, EntryKind, EntrySource};

use crate::error::{RepoError, Result};

/// Decodes entries of one source. A reader keeps its buffers, so make one a thread.
pub(crate) struct BlockReader<'a> {
    source: &'a dyn EntrySource,
    decoder: Decoder,
    spare: Vec<Vec<u8>>,
}

impl<'a> BlockReader<'a> {
    pub(crate) fn new(source: &'a dyn EntrySource) -> Self {
        Self { source, decoder: Decoder::new(), spare: Vec::new() }
    }

    /// The decoded bytes of an entry, proven by its id.
    pub(crate) fn read(&mut self, key: &EntryKey, out: &mut Vec<u8>) -> Result<()> {
        self.read_unproven(key, out)?;
        let found = sha256(out);
        if found == key.id { Ok(()) } else { Err(RepoError::WrongBytes { key: *key, found }) }
    }

    /// The decoded bytes of an entry that only serve to decode another one, whose own hash will tell.
    pub(crate) fn read_unproven(&mut self, key: &EntryKey, out: &mut Vec<u8>) -> Result<()> {
        self.read_within(key, out, MAX_DEPTH)
    }

    fn read_within(&mut self, key: &EntryKey, out: &mut Vec<u8>, depth_left: u32) -> Result<()> {
        let location = self.source.locate(key)?.ok_or(RepoError::Missing { key: *key })?;
        let mut stored = self.buffer();
        self.source.read_stored(&location, &mut stored)?;
        let damaged = |source| RepoError::Decode { key: *key, pack: location.pack, source };
        let (header, header_len) = BlockHeader::read(&stored).map_err(damaged)?;
        let most = if key.kind == EntryKind::Block { MAX_BLOCK } else { MAX_METADATA };
        let raw_len = header.raw_len as usize;
        if raw_len > most || u64::from(header.raw_len) != location.raw_len {
            return Err(RepoError::WrongLength { key: *key, pack: location.pack });
        }
        let base = match &header.base {
            None => None,
            Some(_) if depth_left == 0 => return Err(RepoError::TooDeep { key: *key }),
            Some(reference) => {
                let mut base = self.buffer();
                self.read_base(reference, raw_len, &mut base, depth_left - 1)?;
                Some(base)
            }
        };
        out.resize(raw_len, 0);
        self.decoder.decode(&header, &stored[header_len..], base.as_deref(), out).map_err(damaged)?;
        self.spare.push(stored);
        self.spare.extend(base);
        Ok(())
    }

    /// Puts the `len` bytes that a base reference stands for into `out`.
    fn read_base(&mut self, reference: &BaseRef, len: usize, out: &mut Vec<u8>, depth_left: u32) -> Result<()> {
        let whole = match (&reference.ranges[..], &reference.transpose) {
            ([range], None) if range.start == 0 && range.len as usize == len => range.block,
            _ => None,
        };
        if let Some(id) = whole {
            self.read_within(&block_key(id), out, depth_left)?;
            if out.len() >= len {
                out.truncate(len);
                return Ok(());
            }
            return Err(RepoError::BadBase { block: id });
        }
        out.resize(len, 0);
        reference.assemble(out, |id, buffer| self.read_within(&block_key(*id), buffer, depth_left)).map_err(|error| {
            match error {
                BaseError::Reference => {
                    RepoError::BadBase { block: reference.blocks().first().copied().unwrap_or(Digest([0; 32])) }
                }
                BaseError::Fetch(error) => error,
            }
        })
    }

    /// As [`Self::read_base`], for an encoder: the bytes that would predict a block of `len` bytes.
    pub(crate) fn base_bytes(&mut self, reference: &BaseRef, len: usize, out: &mut Vec<u8>) -> Result<()> {
        self.read_base(reference, len, out, MAX_DEPTH)
    }

    /// The header of an entry as it is stored, with the entry's location.
    pub(crate) fn header(&mut self, key: &EntryKey) -> Result<(BlockHeader, shard_store::Location)> {
        let location = self.source.locate(key)?.ok_or(RepoError::Missing { key: *key })?;
        let mut stored = self.buffer();
        self.source.read_stored(&location, &mut stored)?;
        let (header, _) = BlockHeader::read(&stored).map_err(|source| RepoError::Decode {
            key: *key,
            pack: location.pack,
            source,
        })?;
        self.spare.push(stored);
        Ok((header, location))
    }

    fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }
}

/// The key of a block.
pub(crate) fn block_key(id: Digest) -> EntryKey {
    EntryKey { kind: EntryKind::Block, id }
}
