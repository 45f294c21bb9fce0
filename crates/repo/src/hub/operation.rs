//! What a commit does, one path at a time.

use std::fmt;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use shard_formats::{FileSource, Source};
use tempfile::NamedTempFile;

use crate::error::{RepoError, Result};

/// A reader's bytes up to this many are kept in memory; beyond, in a temporary file.
const IN_MEMORY: u64 = 4 << 20;

/// Where a file's bytes come from.
pub enum Content {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file on disk. A symbolic link is followed.
    File(PathBuf),
    /// From a reader, up to its end.
    Reader(Box<dyn Read + Send>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Reader(_) => f.write_str("Reader"),
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<PathBuf> for Content {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Content {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

/// A change of one path. Operations apply in their order; the sources of copies are as they were before the commit.
#[derive(Debug)]
pub enum CommitOperation {
    /// Adds a file, or replaces it.
    Add {
        /// Its path in the repository.
        path: String,
        /// Its bytes.
        content: Content,
    },
    /// Deletes a file, or with a slash at the end of its path a folder with everything in it.
    Delete {
        /// The path.
        path: String,
    },
    /// Copies a file, or a folder with everything in it. No bytes are read.
    Copy {
        /// The path to copy.
        from: String,
        /// The revision that has it; the branch as it is, without one.
        revision: Option<String>,
        /// The path to copy to.
        to: String,
    },
}

impl CommitOperation {
    /// Adds a file: from bytes, or from the path of a file on disk.
    #[must_use]
    pub fn add(path: impl Into<String>, content: impl Into<Content>) -> Self {
        Self::Add { path: path.into(), content: content.into() }
    }

    /// Adds a file with the bytes that a reader gives.
    #[must_use]
    pub fn add_reader(path: impl Into<String>, reader: impl Read + Send + 'static) -> Self {
        Self::Add { path: path.into(), content: Content::Reader(Box::new(reader)) }
    }

    /// Deletes a file, or with a slash at the end a folder.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::Delete { path: path.into() }
    }

    /// Copies a file or a folder of the same branch.
    #[must_use]
    pub fn copy(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self::Copy { from: from.into(), revision: None, to: to.into() }
    }

    /// Copies a file or a folder of another revision.
    #[must_use]
    pub fn copy_from(revision: impl Into<String>, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self::Copy { from: from.into(), revision: Some(revision.into()), to: to.into() }
    }
}

/// Content that can be read at any offset, and more than once.
pub(super) enum Opened {
    Bytes(Vec<u8>),
    /// Opened when it is read: there may be more files than may be open.
    File(PathBuf),
    /// What a reader gave: the file lives as long as this.
    Spooled {
        source: FileSource,
        _file: NamedTempFile,
    },
}

impl Opened {
    /// Its length in bytes, as far as it is known.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(place) => std::fs::metadata(place).map_or(0, |metadata| metadata.len()),
            Self::Spooled { source, .. } => source.len(),
        }
    }

    /// Reads from it.
    pub(super) fn with<T>(&self, run: impl FnOnce(&dyn Source) -> Result<T>) -> Result<T> {
        match self {
            Self::Bytes(bytes) => run(bytes),
            Self::File(place) => run(&FileSource::open(place).map_err(RepoError::io("cannot read", place))?),
            Self::Spooled { source, .. } => run(source),
        }
    }
}

impl Content {
    /// Opens it; `temporary` is for what a reader gives: a folder, and the beginning of names.
    pub(super) fn open(self, path: &str, temporary: (&Path, &str)) -> Result<Opened> {
        let mut reader = match self {
            Self::Bytes(bytes) => return Ok(Opened::Bytes(bytes)),
            Self::File(place) => return Ok(Opened::File(place)),
            Self::Reader(reader) => reader,
        };
        let place = Path::new(path);
        let mut bytes = Vec::new();
        reader.by_ref().take(IN_MEMORY).read_to_end(&mut bytes).map_err(RepoError::io("cannot read", place))?;
        if (bytes.len() as u64) < IN_MEMORY {
            return Ok(Opened::Bytes(bytes));
        }
        let (folder, prefix) = temporary;
        let mut spool = || -> io::Result<(FileSource, NamedTempFile)> {
            let mut file = crate::restore::temporary_file(folder, prefix)?;
            file.write_all(&bytes)?;
            io::copy(&mut reader, &mut file)?;
            file.flush()?;
            file.seek(SeekFrom::Start(0))?;
            Ok((FileSource::open(file.path())?, file))
        };
        let (source, file) = spool().map_err(RepoError::io("cannot be read into a temporary file", place))?;
        Ok(Opened::Spooled { source, _file: file })
    }
}
