//! Decoding one entry after another, where most of what each leans on was decoded just before.

use shard_codecs::{BlockHeader, Decoder};
use shard_core::Digest;
use shard_core::limits::{MAX_BLOCK, MAX_METADATA};
use shard_store::{EntryKey, EntryKind, EntrySource, PackId};

use super::{BlockReader, base_error, block_key, under};
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
    base: Vec<u8>,
}

impl<'a> EntryDecoder<'a> {
    pub(crate) fn new(source: &'a dyn EntrySource) -> Self {
        Self { decoder: Decoder::new(), reader: BlockReader::new(source), base: Vec::new() }
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
        let whole = |id: &Digest| at_hand(id).and_then(|bytes| bytes.get(..header.raw_len as usize));
        out.resize(header.raw_len as usize, 0);
        // What nearly all blocks lean on is there as it is.
        let two = under(&header).and_then(|under| {
            let older = under.older.map(|older| whole(&older).ok_or(())).transpose().ok()?;
            Some((whole(&under.newer)?, older))
        });
        if let Some((newer, older)) = two {
            let bases = [newer, older.unwrap_or_default()];
            let bases = &bases[..1 + usize::from(older.is_some())];
            return self.decoder.decode_on(&header, body, bases, out).map_err(damaged);
        }
        let Some(reference) = &header.base else {
            return self.decoder.decode_on(&header, body, &[], out).map_err(damaged);
        };
        self.base.resize(header.base_len(), 0);
        let reader = &mut self.reader;
        let read = |id: &Digest, buffer: &mut Vec<u8>| match at_hand(id) {
            Some(bytes) => {
                buffer.clear();
                buffer.extend_from_slice(bytes);
                Ok(())
            }
            None => reader.look_at(&block_key(*id), buffer),
        };
        reference.assemble(&mut self.base, read).map_err(|error| base_error(reference, error))?;
        if header.derived.is_some() {
            return self.decoder.decode_on(&header, body, &[&self.base], out).map_err(damaged);
        }
        let count = header.chain.predictor().bases();
        let bases = self.base.split_at((header.raw_len as usize).min(self.base.len()));
        self.decoder.decode_on(&header, body, &[bases.0, bases.1][..count.min(2)], out).map_err(damaged)
    }
}
