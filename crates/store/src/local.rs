//! A backend in a local directory.
//!
//! An object is written to a temporary file, synced, linked to its name (which fails where the name is taken), and the
//! directory is synced: a name never shows torn bytes, and what is acknowledged survives a power loss. The names of temporary
//! files tell whose they are, so that those of a process that is provably gone can be removed.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, BackendError, Output, Upload, check_name};
use crate::file_writer::{FileWriter, io_error};
use crate::fs::{File, FileSystem, RealFs};
use crate::nonce::Nonce;
use crate::process::Process;

/// The folder of unfinished files.
const TEMPORARY: &str = "tmp";
/// The end of the names of those that are worth keeping in part.
const RESUMABLE: &str = ".received";
/// Most files that are kept open for reading.
const MAX_OPEN: usize = 64;
/// Objects as files below a directory.
pub struct LocalBackend {
    shared: Arc<Shared>,
}

struct Shared {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    process: Process,
    /// Makes the names of this handle's temporary files unlike those of any other handle.
    nonce: Nonce,
    next: AtomicU64,
    open: Mutex<OpenFiles>,
}

/// Files kept open, with the turn at which each was last used.
#[derive(Default)]
struct OpenFiles {
    files: HashMap<String, (Arc<dyn File>, u64, u64)>,
    turn: u64,
}

impl LocalBackend {
    /// The objects below `root`, an existing directory.
    ///
    /// # Errors
    /// [`io::Error`] where the system has no random numbers.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        Self::with_fs(Arc::new(RealFs), root)
    }

    /// The same over another file system.
    ///
    /// # Errors
    /// [`io::Error`] where the system has no random numbers.
    pub fn with_fs(fs: Arc<dyn FileSystem>, root: impl Into<PathBuf>) -> io::Result<Self> {
        let shared = Shared {
            fs,
            root: root.into(),
            process: Process::current(),
            nonce: Nonce::random()?,
            next: AtomicU64::new(0),
            open: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Creates the folder, durably, where it is missing.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn create_folder(&self, folder: &str) -> Result<(), BackendError> {
        self.shared.create_folder(folder)
    }

    /// The temporary files of processes that are provably gone: their names below the root, and lengths in bytes.
    ///
    /// # Errors
    /// [`BackendError`] where the folder cannot be listed.
    pub fn stale_temporaries(&self) -> Result<Vec<(String, u64)>, BackendError> {
        let mut stale = Vec::new();
        for name in self.list(TEMPORARY)? {
            let owner = name.split_once('.').and_then(|(tag, _)| Process::from_tag(tag));
            if owner.is_some_and(|owner| owner.is_provably_gone(&self.shared.process)) {
                let name = format!("{TEMPORARY}/{name}");
                let size = self.size(&name).unwrap_or(0);
                stale.push((name, size));
            }
        }
        Ok(stale)
    }

    /// The names of those of them that are worth keeping in part.
    ///
    /// # Errors
    /// [`BackendError`] where the folder cannot be listed.
    pub fn stale_resumables(&self) -> Result<Vec<String>, BackendError> {
        let names = self.stale_temporaries()?.into_iter().map(|(name, _)| name);
        Ok(names.filter(|name| name.ends_with(RESUMABLE)).collect())
    }

    /// Removes the temporary files of processes that are provably gone, those that are worth keeping in part only where `all` says so.
    /// Gives how many went, and their bytes.
    ///
    /// # Errors
    /// [`BackendError`] where the folder cannot be listed.
    pub fn remove_stale_temporaries(&self, all: bool) -> Result<(u64, u64), BackendError> {
        let stale = self.stale_temporaries()?.into_iter().filter(|(name, _)| all || !name.ends_with(RESUMABLE));
        let removed = stale.filter(|(name, _)| self.delete(name).is_ok());
        Ok(removed.fold((0, 0), |(files, bytes), (_, size)| (files + 1, bytes + size)))
    }

    fn file(&self, name: &str) -> Result<(Arc<dyn File>, u64), BackendError> {
        let path = self.shared.path(name)?;
        {
            let mut open = self.shared.open_files();
            open.turn += 1;
            let turn = open.turn;
            if let Some((file, size, last)) = open.files.get_mut(name) {
                *last = turn;
                return Ok((file.clone(), *size));
            }
        }
        let file = self.shared.fs.open(&path).map_err(|e| io_error(name, "open", e))?;
        let size = file.size().map_err(|e| io_error(name, "read", e))?;
        let mut open = self.shared.open_files();
        if open.files.len() >= MAX_OPEN {
            let oldest = open.files.iter().min_by_key(|(_, (_, _, last))| *last).map(|(name, _)| name.clone());
            oldest.and_then(|name| open.files.remove(&name));
        }
        let turn = open.turn;
        open.files.insert(name.to_owned(), (file.clone(), size, turn));
        Ok((file, size))
    }
}

impl Shared {
    fn open_files(&self) -> MutexGuard<'_, OpenFiles> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &str) -> Result<PathBuf, BackendError> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    fn temporary(&self, end: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.root.join(TEMPORARY).join(format!("{}.{}-{number}{end}", self.process.tag(), self.nonce))
    }

    fn create_folder(&self, folder: &str) -> Result<(), BackendError> {
        let path = self.path(folder)?;
        let mut created = self.fs.create_dir(&path);
        if let (Err(error), Some((above, _))) = (&created, folder.rsplit_once('/'))
            && error.kind() == io::ErrorKind::NotFound
        {
            // Empty folders are easily lost when a repository is copied.
            self.create_folder(above)?;
            created = self.fs.create_dir(&path);
        }
        match created {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error(folder, "create the folder", error));
            }
            _ => {}
        }
        // Also where it existed: whoever made it may not have come to this.
        self.sync_parent(folder, &path)
    }

    fn sync_parent(&self, name: &str, path: &Path) -> Result<(), BackendError> {
        self.fs.sync_dir(path.parent().unwrap_or(&self.root)).map_err(|e| io_error(name, "sync the folder of", e))
    }

    /// Gives a synced temporary file its name.
    fn publish(&self, temporary: &Path, name: &str) -> Result<(), BackendError> {
        let path = self.path(name)?;
        // A file that had the name before, and was removed by another process, may still be open here.
        self.open_files().files.remove(name);
        let mut linked = self.fs.publish(temporary, &path);
        if let (Err(error), Some((folder, _))) = (&linked, name.rsplit_once('/'))
            && error.kind() == io::ErrorKind::NotFound
        {
            self.create_folder(folder)?;
            linked = self.fs.publish(temporary, &path);
        }
        match linked {
            Ok(()) => self.sync_parent(name, &path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // The object is there, perhaps by our own hand (NFS repeats requests), perhaps not yet durable.
                self.sync_parent(name, &path)?;
                Err(BackendError::AlreadyExists { name: name.to_owned() })
            }
            Err(error) => Err(io_error(name, "create", error)),
        }
    }
}

impl Backend for LocalBackend {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        let (file, size) = self.file(name)?;
        let end = offset.saturating_add(out.len() as u64);
        if end > size {
            return Err(BackendError::OutOfBounds { name: name.to_owned(), offset, end, size });
        }
        file.read_exact_at(out, offset).map_err(|e| io_error(name, "read", e))
    }

    fn size(&self, name: &str) -> Result<u64, BackendError> {
        Ok(self.file(name)?.1)
    }

    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>, BackendError> {
        // Small files that are read once and whole: not kept open, so that refs do not push packs out.
        let path = self.shared.path(name)?;
        let file = self.shared.fs.open(&path).map_err(|e| io_error(name, "open", e))?;
        let size = file.size().map_err(|e| io_error(name, "read", e))?;
        if size > limit {
            let source = io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes are more than {limit}"));
            return Err(BackendError::Io { name: name.to_owned(), action: "read", source });
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, 0).map_err(|e| io_error(name, "read", e))?;
        Ok(bytes)
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        check_name(name)?;
        let mut upload = Box::new(LocalUpload::new(&self.shared, "")?);
        upload.append(bytes)?;
        upload.finish(name)
    }

    fn create(&self) -> Result<Box<dyn Upload>, BackendError> {
        Ok(Box::new(LocalUpload::new(&self.shared, "")?))
    }

    fn create_resumable(&self) -> Result<Box<dyn Upload>, BackendError> {
        Ok(Box::new(LocalUpload::new(&self.shared, RESUMABLE)?))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
        let path = self.shared.path(folder)?;
        match self.shared.fs.list(&path) {
            Ok(mut names) => {
                names.sort_unstable();
                Ok(names)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Vec::new())
            }
            Err(error) => Err(io_error(folder, "list", error)),
        }
    }

    fn list_first(&self, folder: &str) -> Result<Option<String>, BackendError> {
        let path = self.shared.path(folder)?;
        match self.shared.fs.list(&path) {
            Ok(names) => Ok(names.into_iter().min()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(io_error(folder, "list", error)),
        }
    }

    fn changed_ns(&self, folder: &str) -> Option<i64> {
        self.shared.fs.changed_ns(&self.shared.path(folder).ok()?)
    }

    fn settle(&self, folder: &str) -> Result<(), BackendError> {
        match self.shared.fs.sync_dir(&self.shared.path(folder)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(folder, "sync", error)),
            _ => Ok(()),
        }
    }

    fn delete(&self, name: &str) -> Result<(), BackendError> {
        let path = self.shared.path(name)?;
        self.shared.open_files().files.remove(name);
        match self.shared.fs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(name, "remove", error)),
            _ => Ok(()),
        }
    }
}

/// A temporary file on its way to its name.
struct LocalUpload {
    shared: Arc<Shared>,
    file: FileWriter,
}

impl LocalUpload {
    fn new(shared: &Arc<Shared>, end: &str) -> Result<Self, BackendError> {
        let path = shared.temporary(end);
        let create = || FileWriter::create(shared.fs.clone(), path.clone(), true);
        let file = match create() {
            Err(error) if error.is_not_found() => {
                shared.create_folder(TEMPORARY)?;
                create()
            }
            file => file,
        };
        Ok(Self { shared: shared.clone(), file: file? })
    }
}

impl Output for LocalUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.file.append(bytes)
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.file.read_at(offset, out)
    }
}

impl Upload for LocalUpload {
    fn finish(mut self: Box<Self>, name: &str) -> Result<(), BackendError> {
        check_name(name)?;
        self.file.sync()?;
        self.shared.publish(self.file.path(), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> (tempfile::TempDir, LocalBackend) {
        let dir = tempfile::tempdir().unwrap();
        let backend = LocalBackend::new(dir.path()).unwrap();
        (dir, backend)
    }

    #[test]
    fn fault_17_temporaries_of_the_dead_are_removed_and_others_kept() {
        let (dir, backend) = backend();
        let upload = backend.create().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = Process { pid: child.id(), ..Process::current() };
        let tmp = dir.path().join(TEMPORARY);
        std::fs::write(tmp.join(format!("{}.x-1", dead.tag())), b"left over").unwrap();
        let received = format!("{TEMPORARY}/{}.x-2{RESUMABLE}", dead.tag());
        std::fs::write(dir.path().join(&received), b"in part").unwrap();
        std::fs::write(tmp.join("somebody-elses"), b"kept").unwrap();
        assert_eq!(backend.remove_stale_temporaries(false).unwrap(), (1, 9));
        assert_eq!(backend.stale_resumables().unwrap(), [received]);
        assert_eq!(backend.remove_stale_temporaries(true).unwrap(), (1, 7));
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 2);
        drop(upload);
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 1);
    }

    #[test]
    fn more_objects_than_open_files() {
        let (_dir, backend) = backend();
        for i in 0..MAX_OPEN + 10 {
            backend.put_if_absent(&format!("packs/{i}"), &[i as u8]).unwrap();
        }
        for i in (0..MAX_OPEN + 10).chain(0..5) {
            let mut out = [0];
            backend.get_range(&format!("packs/{i}"), 0, &mut out).unwrap();
            assert_eq!(out, [i as u8]);
        }
        assert_eq!(backend.shared.open_files().files.len(), MAX_OPEN);
    }
}
