//! A stored file as something to read from, by positions in its expanded bytes.

use std::io;
use std::sync::{Mutex, PoisonError};

use shard_core::Digest;
use shard_formats::Source;
use shard_manifest::ContentManifest;
use shard_store::Store;

use crate::blocks::{BlockReader, block_key};

/// Blocks that stay decoded: readers go through a file once in order, and look at some places again.
const KEPT: usize = 4;

pub(super) struct StoredFile<'a> {
    store: &'a Store,
    len: u64,
    /// Where each block starts, and its id.
    blocks: Vec<(u64, Digest)>,
    recent: Mutex<Vec<(usize, Vec<u8>)>>,
}

impl<'a> StoredFile<'a> {
    pub(super) fn new(manifest: &ContentManifest, store: &'a Store) -> Self {
        let blocks: Vec<(u64, Digest)> = manifest.blocks().map(|block| (block.file_offset, block.span.id)).collect();
        let len = manifest.segments.iter().map(|segment| segment.len).sum();
        Self { store, len, blocks, recent: Mutex::default() }
    }
}

impl Source for StoredFile<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while !buf.is_empty() {
            let next = self.blocks.partition_point(|(start, _)| *start <= offset);
            let number = next.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
            let place = match recent.iter().position(|(other, _)| *other == number) {
                Some(place) => place,
                None => {
                    let mut bytes = if recent.len() < KEPT { Vec::new() } else { recent.remove(0).1 };
                    let key = block_key(self.blocks[number].1);
                    BlockReader::new(self.store).read(&key, &mut bytes).map_err(io::Error::other)?;
                    recent.push((number, bytes));
                    recent.len() - 1
                }
            };
            let start = usize::try_from(offset - self.blocks[number].0).unwrap_or(usize::MAX);
            let there = recent[place].1.get(start..).filter(|there| !there.is_empty());
            let there = there.ok_or(io::ErrorKind::UnexpectedEof)?;
            let len = there.len().min(buf.len());
            let (now, later) = buf.split_at_mut(len);
            now.copy_from_slice(&there[..len]);
            (buf, offset) = (later, offset + len as u64);
        }
        Ok(())
    }

    /// What was compressed in the file is expanded here.
    fn is_expanded(&self) -> bool {
        true
    }
}
