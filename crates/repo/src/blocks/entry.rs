//! Decoding one entry after another, where most of what each leans on was decoded just before.

use shard_codecs::{BlockHeader, Decoder};
use shard_core::Digest;
use shard_core::limits::{MAX_BLOCK, MAX_METADATA};
use shard_store::{EntryKey, EntryKind, EntrySource, PackId};

use super::{BlockReader, Under, base_error, block_key, start, under};
use crate::error::{RepoError, Result};

/// An entry as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredEntry<'a> {
    pub(crate) key: &'a EntryKey,
    /// The pack that it is from.
    pub(crate) pack: PackId,
    pub(crate) stored: &'a [u8],
    /// How many bytes it should decode to.
    pub(crate) raw_len: u64,
}

/// Decodes entries. It keeps its buffers, so make one a thread.
pub(crate) struct EntryDecoder<'a> {
    decoder: Decoder,
    /// For bases that are not at hand.
    pub(crate) reader: BlockReader<'a>,
    /// Their bytes.
    bases: [Vec<u8>; 2],
}

impl<'a> EntryDecoder<'a> {
    pub(crate) fn new(source: &'a dyn EntrySource) -> Self {
        Self { decoder: Decoder::new(), reader: BlockReader::new(source), bases: Default::default() }
    }

    /// The bytes of an entry, not proven. `at_hand` gives blocks that are decoded already.
    pub(crate) fn decode<'b>(
        &mut self,
        entry: StoredEntry<'_>,
        at_hand: impl Fn(&Digest) -> Option<&'b [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let StoredEntry { key, pack, stored, raw_len } = entry;
        let damaged = |source| RepoError::Decode { key: *key, pack, source };
        let (header, len) = BlockHeader::read(stored).map_err(damaged)?;
        let most = if key.kind == EntryKind::Block { MAX_BLOCK } else { MAX_METADATA };
        if header.raw_len as usize > most || u64::from(header.raw_len) != raw_len {
            return Err(RepoError::WrongLength { key: *key, pack });
        }
        let body = stored.get(len..).unwrap_or_default();
        // What nearly all blocks lean on is used where it is, at hand or in a buffer of its own.
        if let Some(Under { newer, older }) = under(&header) {
            let whole = |id: &Digest| at_hand(id).and_then(|bytes| bytes.get(..header.raw_len as usize));
            if header.is_patch() && at_hand(&newer).is_none() {
                self.reader.look_at(&block_key(newer), out)?;
                start(out, header.raw_len as usize, newer)?;
                out.truncate(header.raw_len as usize);
                return self.decoder.patch(&header, body, out).map_err(damaged);
            }
            out.resize(header.raw_len as usize, 0);
            let ids = [Some(newer), older];
            for (id, buffer) in ids.iter().flatten().zip(&mut self.bases) {
                if whole(id).is_none() {
                    self.reader.look_at(&block_key(*id), buffer)?;
                }
            }
            let mut bases = Vec::with_capacity(ids.len());
            for (id, buffer) in ids.iter().flatten().zip(&self.bases) {
                bases.push(whole(id).map_or_else(|| start(buffer, header.raw_len as usize, *id), Ok)?);
            }
            return self.decoder.decode_on(&header, body, &bases, out).map_err(damaged);
        }
        out.resize(header.raw_len as usize, 0);
        let Some(reference) = &header.base else {
            return self.decoder.decode_on(&header, body, &[], out).map_err(damaged);
        };
        let (reader, base) = (&mut self.reader, &mut self.bases[0]);
        base.resize(header.base_len(), 0);
        let read = |id: &Digest, buffer: &mut Vec<u8>| match at_hand(id) {
            Some(bytes) => {
                buffer.clear();
                buffer.extend_from_slice(bytes);
                Ok(())
            }
            None => reader.look_at(&block_key(*id), buffer),
        };
        reference.assemble(base, read).map_err(|error| base_error(reference, error))?;
        if header.derived.is_some() {
            return self.decoder.decode_on(&header, body, &[base], out).map_err(damaged);
        }
        let count = header.chain.predictor().bases();
        let bases = base.split_at((header.raw_len as usize).min(base.len()));
        self.decoder.decode_on(&header, body, &[bases.0, bases.1][..count.min(2)], out).map_err(damaged)
    }
}
