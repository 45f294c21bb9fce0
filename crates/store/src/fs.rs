//! The few file operations that the local backend rests on, behind a trait, so that tests can lose power.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// An open file. All methods may be called from any thread.
pub trait File: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// [`io::Error`].
    fn size(&self) -> io::Result<u64>;

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] beyond the end.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; a short write is continued.
    ///
    /// # Errors
    /// [`io::Error`]; part of the bytes may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable. After an error nothing is known of what was written, and trying again proves nothing.
    ///
    /// # Errors
    /// [`io::Error`].
    fn sync(&self) -> io::Result<()>;
}

/// A file system. Durability is what POSIX promises: bytes by syncing their file, names by syncing their directory.
pub trait FileSystem: Send + Sync {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`io::Error`].
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates a file for writing and reading back. One that is `read_only` can be opened for reading only from then on.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where the name is taken.
    fn create(&self, path: &Path, read_only: bool) -> io::Result<Arc<dyn File>>;

    /// Gives the file `from` the name `to`, if nothing has it. The old name may stay or go.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where the name is taken, [`io::ErrorKind::NotFound`] where its directory is missing.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file `from` the name `to`, whatever had it.
    ///
    /// # Errors
    /// [`io::Error`].
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`io::Error`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// [`io::Error`].
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in any order. Names that are not UTF-8 are never ours and are left out.
    ///
    /// # Errors
    /// [`io::Error`].
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// When names last came to or went from a directory, in nanoseconds since 1970; `None` where that is not known.
    fn changed_ns(&self, _path: &Path) -> Option<i64> {
        None
    }
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl File for fs::File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl FileSystem for RealFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::open(path)?))
    }

    fn create(&self, path: &Path, read_only: bool) -> io::Result<Arc<dyn File>> {
        let mode = if read_only { 0o444 } else { 0o666 };
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
        Ok(Arc::new(file))
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::hard_link(from, to) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Err(error),
            Err(error) => {
                // A file system without hard links may know a rename that never replaces.
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                    Ok(()) => Ok(()),
                    Err(rustix::io::Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
                    Err(_) => Err(error),
                }
            }
        }
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn changed_ns(&self, path: &Path) -> Option<i64> {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
        i64::try_from(modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos()).ok()
    }
}
