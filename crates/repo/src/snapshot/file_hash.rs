//! The hash of a file, taken while its expanded bytes go by.

use std::io;
use std::path::Path;

use shard_core::{Digest, Layout, Sha256};
use shard_formats::Source;
use shard_formats::compress::FileBytes;

use crate::error::{RepoError, Result};

/// Does something with a layout; where what the file holds compressed turns out not to be repeatable, with the layout that leaves it
/// compressed.
pub(super) fn repeatable<T>(layout: &Layout, mut with: impl FnMut(&Layout) -> Result<T>) -> Result<T> {
    match with(layout) {
        Err(RepoError::NotRepeated(_)) if !layout.compressed.is_empty() => with(&layout.without_compressed()),
        result => result,
    }
}

/// The error of reading expanded bytes: damaged compressed data are a reason not to expand them.
pub(crate) fn cannot_read(error: io::Error, path: &Path) -> RepoError {
    match error.kind() {
        io::ErrorKind::InvalidData => RepoError::NotRepeated(shard_formats::compress::NotRepeated),
        _ => RepoError::io("cannot read", path)(error),
    }
}

/// Hashes a file from its expanded bytes. Where some of it is compressed, they are compressed again and compared with the file, so
/// that what is hashed is what a restore gives.
pub(super) struct FileHash<'a> {
    hash: Sha256,
    compressed: Option<Compressed<'a>>,
}

struct Compressed<'a> {
    bytes: FileBytes,
    file: &'a dyn Source,
    path: &'a Path,
    /// Bytes of the file that were compared.
    at: u64,
    theirs: Vec<u8>,
}

impl<'a> FileHash<'a> {
    pub(super) fn new(file: &'a dyn Source, layout: &Layout, path: &'a Path) -> Self {
        let compressed = (!layout.compressed.is_empty()).then(|| Compressed {
            bytes: FileBytes::new(layout),
            file,
            path,
            at: 0,
            theirs: Vec::new(),
        });
        Self { hash: Sha256::new(), compressed }
    }

    /// Takes in the next expanded bytes.
    ///
    /// # Errors
    /// [`RepoError::NotRepeated`] where compressing gave other bytes than the file has, and what reading it says.
    pub(super) fn update(&mut self, data: &[u8]) -> Result<()> {
        let Some(Compressed { bytes, file, path, at, theirs }) = &mut self.compressed else {
            self.hash.update(data);
            return Ok(());
        };
        bytes.push(data, &mut |ours: &[u8]| {
            theirs.resize(ours.len(), 0);
            file.read_at(*at, theirs).map_err(RepoError::io("cannot read", path))?;
            if theirs != ours {
                return Err(RepoError::NotRepeated(shard_formats::compress::NotRepeated));
            }
            *at += ours.len() as u64;
            self.hash.update(ours);
            Ok(())
        })
    }

    pub(super) fn finish(self) -> Digest {
        self.hash.finish()
    }
}
