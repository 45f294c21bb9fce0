//! Files of a revision as bytes: whole, in part, or as something to read from.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use shard_core::{Digest, NoProgress};
use shard_history::{FileEntry, TreeNode};
use shard_manifest::ContentManifest;
use tempfile::TempPath;

use crate::blocks::{BlockReader, block_key, read_in_order};
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::restore::restore_file;

/// Blocks from this many on are decoded on all cores.
const MANY: usize = 3;

/// A block of a file.
#[derive(Clone, Copy)]
struct Placed {
    start: u64,
    len: u64,
    id: Digest,
}

impl Placed {
    fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// Where a file's bytes are read from.
enum Bytes<'a> {
    /// From its blocks, one decoded at a time; the index of the one in `block`.
    Blocks { reader: Box<BlockReader<'a>>, placed: Vec<Placed>, at: Option<usize>, block: Arc<Vec<u8>> },
    /// From a temporary copy: the file holds compressed data, which can only be proven whole.
    Copy { file: File, path: TempPath },
}

/// A file of a revision, open for reading. Every block is proven by its SHA-256 before a byte of it is given.
pub struct FileReader<'a> {
    bytes: Bytes<'a>,
    position: u64,
    size: u64,
    source: &'a Repository,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(repository: &'a Repository, manifest: Arc<ContentManifest>) -> Result<Self> {
        let size = manifest.size;
        let bytes = if manifest.compressed.is_empty() {
            let mut start = 0;
            let mut placed = Vec::new();
            for span in manifest.segments.iter().flat_map(|segment| &segment.blocks) {
                placed.push(Placed { start, len: u64::from(span.len), id: span.id });
                start += u64::from(span.len);
            }
            Bytes::Blocks {
                reader: Box::new(BlockReader::new(&repository.store)),
                placed,
                at: None,
                block: Arc::default(),
            }
        } else {
            let (folder, prefix) = repository.temporary();
            let threads = repository.settings.workers();
            let temporary = (folder.as_path(), prefix.as_str());
            let path =
                restore_file((&manifest, None), &repository.store, false, temporary, &folder, threads, &NoProgress)?;
            let file = File::open(&path).map_err(RepoError::io("cannot read", &path))?;
            Bytes::Copy { file, path }
        };
        Ok(Self { bytes, position: 0, size, source: repository })
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the bytes at the position, up to `most` of them, out of one block.
    fn step(&mut self, out: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX).min(out.len());
        let Some(out) = out.get_mut(..most).filter(|out| !out.is_empty()) else { return Ok(0) };
        let read = match &mut self.bytes {
            Bytes::Copy { file, path } => {
                let read = file.seek(SeekFrom::Start(self.position)).and_then(|_| file.read(out));
                read.map_err(RepoError::io("cannot read", path))?
            }
            Bytes::Blocks { reader, placed, at, block } => {
                let index = placed.partition_point(|placed| placed.end() <= self.position);
                let Some(piece) = placed.get(index) else { return Ok(0) };
                if *at != Some(index) {
                    *at = None;
                    *block = match self.source.blocks.block(piece.id) {
                        Some(block) => block,
                        None => {
                            let mut bytes = self.source.blocks.buffer(piece.len);
                            reader.read(&block_key(piece.id), &mut bytes)?;
                            let block = Arc::new(bytes);
                            self.source.blocks.put_block(piece.id, &block);
                            block
                        }
                    };
                    if block.len() as u64 != piece.len {
                        return Err(RepoError::BadBase { block: piece.id });
                    }
                    *at = Some(index);
                }
                let from = usize::try_from(self.position - piece.start).unwrap_or(usize::MAX);
                let bytes = block.get(from..).unwrap_or_default();
                let len = bytes.len().min(out.len());
                out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                len
            }
        };
        self.position += read as u64;
        Ok(read)
    }

    /// Fills `out` with the bytes at the position.
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.step(rest)? {
                0 => return Err(RepoError::Internal("a file is shorter than its manifest says")),
                read => filled += read,
            }
        }
        Ok(())
    }

    /// Gives all bytes from the position on, in pieces.
    pub(super) fn for_each(&mut self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.step(&mut buffer)? {
                0 => return Ok(()),
                len => each(buffer.get(..len).unwrap_or_default()),
            }
        }
    }

    /// Up to `len` bytes from `start` on; fewer at the end of the file. Only blocks that have some of them are read.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read_range(&mut self, start: u64, len: u64) -> Result<Vec<u8>> {
        let end = start.saturating_add(len).min(self.size);
        let len = end.saturating_sub(start);
        let mut bytes = Vec::new();
        let room = usize::try_from(len).ok().filter(|len| bytes.try_reserve_exact(*len).is_ok());
        let room = room.ok_or_else(|| RepoError::Argument(format!("{len} bytes do not fit in memory")))?;
        if let Bytes::Blocks { placed, .. } = &self.bytes {
            let first = placed.partition_point(|placed| placed.end() <= start);
            let last = placed.partition_point(|placed| placed.start < end);
            let wanted = placed.get(first..last).unwrap_or_default();
            if wanted.len() >= MANY {
                let ids: Vec<Digest> = wanted.iter().map(|placed| placed.id).collect();
                read_in_order(&self.source.store, &ids, &mut |index, block| {
                    let Some(piece) = wanted.get(index).filter(|piece| piece.len == block.len() as u64) else {
                        return Err(RepoError::BadBase { block: ids.get(index).copied().unwrap_or(Digest([0; 32])) });
                    };
                    let from = usize::try_from(start.saturating_sub(piece.start)).unwrap_or(usize::MAX);
                    let to = usize::try_from(end.min(piece.end()) - piece.start).unwrap_or(usize::MAX);
                    bytes.extend_from_slice(block.get(from..to).unwrap_or_default());
                    Ok(())
                })?;
                return Ok(bytes);
            }
        }
        bytes.resize(room, 0);
        // Where `Read` goes on is not moved.
        let position = std::mem::replace(&mut self.position, start);
        let filled = self.fill(&mut bytes);
        self.position = position;
        filled.map(|()| bytes)
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.step(out).map_err(io::Error::other)
    }
}

impl Seek for FileReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "a position before the beginning of the file");
        self.position = position.ok_or_else(before)?;
        Ok(self.position)
    }
}

impl Repository {
    /// Opens a file of a revision for reading at any position.
    ///
    /// # Errors
    /// An unknown revision; [`RepoError::NoSuchPath`] where it has no such file; what cannot be read.
    ///
    /// ```
    /// # use std::io::{Read, Seek, SeekFrom};
    /// # use shard_repo::{CommitRequest, NewRepo, Repository, Settings};
    /// # let folder = tempfile::tempdir()?;
    /// let hub = Repository::create_repo(&folder.path().join("hub"), &NewRepo::default(), Settings::default())?;
    /// hub.upload_file("a.txt", b"0123456789".as_slice(), &CommitRequest::default(), &shard_core::NoProgress)?;
    /// let mut file = hub.open_file("a.txt", None)?;
    /// file.seek(SeekFrom::End(-3))?;
    /// let mut text = String::new();
    /// file.read_to_string(&mut text)?;
    /// assert_eq!(text, "789");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_file(&self, path: &str, revision: Option<&str>) -> Result<FileReader<'_>> {
        let entry = self.file_of(path, revision)?;
        let manifest = self.objects().manifest_of(path, &entry)?;
        FileReader::new(self, manifest)
    }

    /// A file of a revision.
    ///
    /// # Errors
    /// As [`Self::open_file`]; [`RepoError::Argument`] where it does not fit in memory.
    pub fn read_bytes(&self, path: &str, revision: Option<&str>) -> Result<Vec<u8>> {
        self.read_range(path, 0, u64::MAX, revision)
    }

    /// Up to `len` bytes of a file from `start` on; fewer at its end. Only blocks that have some of them are read, but of files
    /// that hold compressed data, which can only be proven whole.
    ///
    /// # Errors
    /// As [`Self::read_bytes`].
    pub fn read_range(&self, path: &str, start: u64, len: u64, revision: Option<&str>) -> Result<Vec<u8>> {
        self.open_file(path, revision)?.read_range(start, len)
    }

    /// A file of a revision; of the default branch without one.
    pub(super) fn file_of(&self, path: &str, revision: Option<&str>) -> Result<FileEntry> {
        let mut objects = self.objects();
        let root = objects.shared_commit(self.revision_or_default(revision)?)?.tree;
        match objects.lookup(root, path)? {
            Some(TreeNode::File(entry)) => Ok(entry),
            _ => Err(self.no_such_path(path, revision)),
        }
    }

    /// The error of a path that a revision does not have.
    pub(super) fn no_such_path(&self, path: &str, revision: Option<&str>) -> RepoError {
        let default = || self.default_branch().unwrap_or_default();
        RepoError::NoSuchPath { revision: revision.map_or_else(default, str::to_owned), path: path.to_owned() }
    }
}
