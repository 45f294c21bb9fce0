//! Stored files as bytes at positions, and what a merge makes of them, which nobody has to hold as a whole.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shard_core::{DType, Digest};
use shard_formats::Source;
use shard_history::merge::strategy::Strategy;
use shard_history::{Merge, Side};
use shard_manifest::{BlockSpan, ContentManifest};
use shard_store::EntrySource;

use super::arithmetic::Computer;
use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};

/// A stored file that holds nothing compressed. The block that was read last is kept: what is read next is most often in it.
pub(super) struct StoredFile<'a> {
    len: u64,
    /// Where each block starts, in bytes.
    blocks: Vec<(u64, BlockSpan)>,
    reader: Mutex<Reader<'a>>,
}

struct Reader<'a> {
    reader: BlockReader<'a>,
    block: Vec<u8>,
    last: Option<Digest>,
    /// Why a block could not be read. An I/O error would hide that it is damaged.
    failure: Option<RepoError>,
}

impl<'a> StoredFile<'a> {
    pub(super) fn new(manifest: &Arc<ContentManifest>, store: &'a dyn EntrySource) -> Self {
        let reader = Reader { reader: BlockReader::new(store), block: Vec::new(), last: None, failure: None };
        let blocks = manifest.blocks().map(|block| (block.file_offset, block.span)).collect();
        Self { len: manifest.size, blocks, reader: Mutex::new(reader) }
    }

    fn lock(&self) -> MutexGuard<'_, Reader<'a>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What kept a block from being read, if something did.
    pub(super) fn failure(&self) -> Option<RepoError> {
        self.lock().failure.take()
    }
}

impl Reader<'_> {
    fn read(&mut self, span: &BlockSpan) -> Result<()> {
        if self.last != Some(span.id) {
            self.last = None;
            self.reader.read(&block_key(span.id), &mut self.block)?;
            if self.block.len() != span.len as usize {
                return Err(RepoError::BadBase { block: span.id });
            }
            self.last = Some(span.id);
        }
        Ok(())
    }
}

impl Source for StoredFile<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut reader = self.lock();
        let first = self.blocks.partition_point(|(start, span)| start + u64::from(span.len) <= offset);
        for (start, span) in self.blocks.iter().skip(first).take_while(|(start, _)| *start < end) {
            if let Err(error) = reader.read(span) {
                reader.failure.get_or_insert(error);
                return Err(io::Error::other("a stored block cannot be read"));
            }
            let (from, to) = ((*start).max(offset), (start + u64::from(span.len)).min(end));
            let bytes = reader.block.get((from - start) as usize..(to - start) as usize);
            let place = buf.get_mut((from - offset) as usize..(to - offset) as usize);
            if let (Some(bytes), Some(place)) = (bytes, place) {
                place.copy_from_slice(bytes);
            }
        }
        Ok(())
    }
}

/// Bytes of the merged file that are not those of the file it is laid out as.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Patch {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) content: Content,
}

/// Where the bytes of a patch are from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Content {
    /// A side's file, from that byte on.
    Copied { from: Side, at: u64 },
    /// Words of the files, from those bytes on, by a strategy that computes.
    Computed { strategy: Strategy, dtype: DType, at: Merge<u64> },
}

/// Bytes that are computed at a time: what is read for them stays in the second-level cache.
const STEP: u64 = 64 << 10;

/// A file of a side with other bytes in some tensors.
pub(super) struct MergedFile<'a> {
    /// Of both sides, and of the base, or where there is none of ours again.
    files: Merge<StoredFile<'a>>,
    layout: Side,
    /// In file order, apart from one another.
    patches: &'a [Patch],
}

impl<'a> MergedFile<'a> {
    pub(super) fn new(files: Merge<StoredFile<'a>>, layout: Side, patches: &'a [Patch]) -> Self {
        Self { files, layout, patches }
    }

    /// What kept a block of any file from being read.
    pub(super) fn failure(&self) -> Option<RepoError> {
        let Merge { base, ours, theirs } = &self.files;
        [base, ours, theirs].into_iter().find_map(StoredFile::failure)
    }

    /// Puts the bytes of a patch into `out`, from `from` of the merged file on.
    fn fill(&self, patch: &Patch, from: u64, out: &mut [u8]) -> io::Result<()> {
        match patch.content {
            Content::Copied { from: side, at } => self.files.side(side).read_at(at + (from - patch.start), out),
            Content::Computed { strategy, dtype, at } => {
                let word = dtype.word_bytes() as u64;
                // The first and the last word may be asked for in part.
                let (first, last) = (from - patch.start, from - patch.start + out.len() as u64);
                let (whole, end) = (first / word * word, last.next_multiple_of(word).min(patch.end - patch.start));
                let (mut computer, mut inputs, mut words) =
                    (Computer::default(), [(); 3].map(|()| Vec::new()), Vec::new());
                let needs_base = matches!(strategy, Strategy::Task { .. });
                for offset in (whole..end).step_by(STEP as usize) {
                    let len = (end - offset).min(STEP);
                    let [base, ours, theirs] = &mut inputs;
                    for (file, at, bytes, is_needed) in [
                        (&self.files.base, at.base, &mut *base, needs_base),
                        (&self.files.ours, at.ours, &mut *ours, true),
                        (&self.files.theirs, at.theirs, &mut *theirs, true),
                    ] {
                        if is_needed {
                            bytes.resize(len as usize, 0);
                            file.read_at(at + offset, bytes)?;
                        }
                    }
                    words.resize(len as usize, 0);
                    computer.compute(dtype, strategy, Merge { base, ours, theirs }.map(|bytes| &bytes[..]), &mut words);
                    let (from, to) = (offset.max(first), (offset + len).min(last));
                    let made = words.get((from - offset) as usize..(to - offset) as usize);
                    let place = out.get_mut((from - first) as usize..(to - first) as usize);
                    if let (Some(made), Some(place)) = (made, place) {
                        place.copy_from_slice(made);
                    }
                }
                Ok(())
            }
        }
    }
}

impl Source for MergedFile<'_> {
    fn len(&self) -> u64 {
        self.files.side(self.layout).len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let own = self.files.side(self.layout);
        let mut at = offset;
        let first = self.patches.partition_point(|patch| patch.end <= offset);
        for patch in self.patches.iter().skip(first).take_while(|patch| patch.start < end) {
            let (from, to) = (patch.start.max(offset), patch.end.min(end));
            if let Some(before) = buf.get_mut((at - offset) as usize..(from - offset) as usize) {
                own.read_at(at, before)?;
            }
            if let Some(place) = buf.get_mut((from - offset) as usize..(to - offset) as usize) {
                self.fill(patch, from, place)?;
            }
            at = to;
        }
        match buf.get_mut((at - offset) as usize..) {
            Some(rest) if !rest.is_empty() => own.read_at(at, rest),
            _ => Ok(()),
        }
    }
}
