//! Places below a folder, reached without following a link: each folder on the way is opened from the one before it, so what
//! somebody puts in its place meanwhile leads nowhere (CVE-2021-21300 and CVE-2024-32002 were such races). The folder that one
//! starts from may be a link itself.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::error::{RepoError, Result};

#[cfg(not(unix))]
use elsewhere::Folder;
#[cfg(unix)]
use unix::Folder;

/// Where a file is or will be.
pub(crate) struct Place {
    folder: Folder,
    name: String,
    /// For messages.
    path: PathBuf,
}

/// What to do about a folder that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Leave,
}

impl Place {
    /// The place of the file at `path` below `root`; folders that are missing on the way are made.
    ///
    /// # Errors
    /// [`RepoError::InTheWay`] where something else than a folder is there; what the file system says.
    pub(crate) fn make(root: &Path, path: &str) -> Result<Self> {
        match Self::walk(root, path, Missing::Make)? {
            Ok(place) => Ok(place),
            Err(in_the_way) => Err(RepoError::InTheWay { path: in_the_way, needed: "a folder" }),
        }
    }

    /// The same; `None` where a folder on the way is missing, or is a link or something else.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn find(root: &Path, path: &str) -> Result<Option<Self>> {
        Ok(Self::walk(root, path, Missing::Leave)?.ok())
    }

    /// The inner error is what is in the way, or missing.
    fn walk(root: &Path, path: &str, missing: Missing) -> Result<std::result::Result<Self, PathBuf>> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = root.to_owned();
        let mut folder = Folder::open(root).map_err(RepoError::io("cannot open the folder", root))?;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            at.push(part);
            folder = match folder.below(part, missing) {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(Err(at)),
                Err(error) => return Err(RepoError::io("cannot open the folder", &at)(error)),
            };
        }
        Ok(Ok(Self { folder, name: name.to_owned(), path: root.join(path) }))
    }

    /// Renames a finished file to this place, so that a reader sees the old file or the whole new one.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn put(&self, file: TempPath) -> Result<()> {
        match self.folder.rename_here(&file, &self.name) {
            // The name that it had is another's now, if it is one's at all.
            Ok(()) => drop(file.keep()),
            // The repository may be on another file system than its work tree: then the file is copied beside its place first,
            // since only a rename within one is atomic.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let copy = || {
                    let mut from = File::open(&file)?;
                    let permissions = from.metadata()?.permissions();
                    self.folder.write_here(&mut from, Some(permissions), &self.name)
                };
                copy().map_err(RepoError::io("cannot be written", &self.path))?;
            }
            Err(error) => return Err(RepoError::io("cannot be put in place", &self.path)(error)),
        }
        Ok(())
    }

    /// Opens the file that is here, to read it and to write into it; a new one where there is none. What is no file, and a link
    /// to one, is an error.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(&self) -> Result<File> {
        self.folder.open_file(&self.name).map_err(RepoError::io("cannot be opened", &self.path))
    }

    /// Puts a file with these bytes here, as a whole.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn put_bytes(&self, mut bytes: &[u8]) -> Result<()> {
        let written = self.folder.write_here(&mut bytes, None, &self.name);
        written.map_err(RepoError::io("cannot be written", &self.path))
    }

    /// Makes a symbolic link here, in place of a file.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn link(&self, target: &[u8]) -> Result<()> {
        self.folder.link(target, &self.name).map_err(RepoError::io("cannot create the link", &self.path))
    }

    /// Removes the file; says whether there was one. A folder stays.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn remove(&self) -> Result<bool> {
        self.folder.remove_file(&self.name).map_err(RepoError::io("cannot remove", &self.path))
    }

    /// Removes the folder of that name, if it is empty; says whether it is gone.
    fn remove_folder(&self) -> bool {
        self.folder.remove_folder(&self.name)
    }

    /// Removes the file at `path` below `root`, and the folders above it that are empty then; says whether there was one.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn clear(root: &Path, path: &str) -> Result<bool> {
        let Some(place) = Self::find(root, path)? else { return Ok(false) };
        let was_there = place.remove()?;
        let mut folder = path;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if !Self::find(root, parent)?.is_some_and(|place| place.remove_folder()) {
                break;
            }
            folder = parent;
        }
        Ok(was_there)
    }
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::fs::{File, Permissions};
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;

    use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, symlinkat, unlinkat};
    use rustix::io::Errno;
    use shard_store::Nonce;

    use super::{Missing, Path, io};
    use crate::worktree::UNFINISHED;

    /// A folder that was opened.
    pub(super) struct Folder(OwnedFd);

    /// Only a place to start from: the folder need not be readable.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    impl Folder {
        pub(super) fn open(root: &Path) -> io::Result<Self> {
            Ok(Self(openat(CWD, root, FOLDER, Mode::empty())?))
        }

        /// A folder in this one; `None` where there is none.
        pub(super) fn below(&self, name: &str, missing: Missing) -> io::Result<Option<Self>> {
            let open = || openat(&self.0, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            let opened = match open() {
                Err(Errno::NOENT) if missing == Missing::Make => {
                    match mkdirat(&self.0, name, Mode::from_raw_mode(0o777)) {
                        // Somebody else may just have made it.
                        Ok(()) | Err(Errno::EXIST) => open(),
                        Err(error) => Err(error),
                    }
                }
                opened => opened,
            };
            match opened {
                Ok(folder) => Ok(Some(Self(folder))),
                Err(Errno::NOENT) if missing == Missing::Leave => Ok(None),
                // Which of these a link is depends on the system.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }

        pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
            // Not to wait for the writer of a pipe.
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(&self.0, name, flags, Mode::from_raw_mode(0o666))?);
            if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
        }

        pub(super) fn rename_here(&self, from: &Path, name: &str) -> io::Result<()> {
            Ok(renameat(CWD, from, &self.0, name)?)
        }

        /// Writes a new file, and renames it. Without permissions it has those of any new file.
        pub(super) fn write_here(
            &self,
            from: &mut dyn io::Read,
            permissions: Option<Permissions>,
            name: &str,
        ) -> io::Result<()> {
            let unfinished = format!("{}{}{}", UNFINISHED.0, Nonce::random()?.to_hex(), UNFINISHED.1);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(if permissions.is_some() { 0o600 } else { 0o666 });
            let mut to = File::from(openat(&self.0, unfinished.as_str(), flags, mode)?);
            let written = io::copy(from, &mut to)
                .and_then(|_| permissions.map_or(Ok(()), |permissions| to.set_permissions(permissions)))
                .and_then(|()| Ok(renameat(&self.0, unfinished.as_str(), &self.0, name)?));
            if written.is_err() {
                let _ = unlinkat(&self.0, unfinished.as_str(), AtFlags::empty());
            }
            written
        }

        pub(super) fn link(&self, target: &[u8], name: &str) -> io::Result<()> {
            self.remove_file(name)?;
            Ok(symlinkat(OsStr::from_bytes(target), &self.0, name)?)
        }

        pub(super) fn remove_file(&self, name: &str) -> io::Result<bool> {
            match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => return Ok(false),
                Err(Errno::NOENT) => return Ok(false),
                outcome => drop(outcome?),
            }
            match unlinkat(&self.0, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }

        pub(super) fn remove_folder(&self, name: &str) -> bool {
            unlinkat(&self.0, name, AtFlags::REMOVEDIR).is_ok()
        }
    }
}

/// Where folders cannot be opened: by their paths, looked at one by one.
#[cfg(not(unix))]
mod elsewhere {
    use std::fs;

    use super::{Missing, Path, PathBuf, io};

    pub(super) struct Folder(PathBuf);

    impl Folder {
        pub(super) fn open(root: &Path) -> io::Result<Self> {
            Ok(Self(root.to_owned()))
        }

        pub(super) fn below(&self, name: &str, missing: Missing) -> io::Result<Option<Self>> {
            let next = self.0.join(name);
            match fs::symlink_metadata(&next) {
                Ok(metadata) if metadata.is_dir() => Ok(Some(Self(next))),
                Ok(_) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Make => {
                    fs::create_dir(&next).map(|()| Some(Self(next)))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        }

        pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
            let place = self.0.join(name);
            if fs::symlink_metadata(&place).is_ok_and(|metadata| !metadata.is_file()) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            File::options().read(true).write(true).create(true).truncate(false).open(place)
        }

        pub(super) fn rename_here(&self, from: &Path, name: &str) -> io::Result<()> {
            fs::rename(from, self.0.join(name))
        }

        pub(super) fn write_here(
            &self,
            from: &mut dyn io::Read,
            permissions: Option<fs::Permissions>,
            name: &str,
        ) -> io::Result<()> {
            let mut beside = crate::restore::temporary_file(&self.0, crate::worktree::UNFINISHED.0)?;
            io::copy(from, &mut beside)?;
            if let Some(permissions) = permissions {
                fs::set_permissions(beside.path(), permissions)?;
            }
            beside.persist(self.0.join(name)).map_err(|error| error.error).map(drop)
        }

        pub(super) fn link(&self, target: &[u8], name: &str) -> io::Result<()> {
            // As Git does where links need special rights: a file that holds the target.
            fs::write(self.0.join(name), target)
        }

        pub(super) fn remove_file(&self, name: &str) -> io::Result<bool> {
            let place = self.0.join(name);
            match fs::symlink_metadata(&place) {
                Ok(metadata) if metadata.is_dir() => Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                _ => fs::remove_file(&place).map(|()| true),
            }
        }

        pub(super) fn remove_folder(&self, name: &str) -> bool {
            fs::remove_dir(self.0.join(name)).is_ok()
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::restore::temporary_file;
    use crate::worktree::UNFINISHED;

    #[test]
    fn fault_29_no_link_is_followed_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), b"theirs").unwrap();
        symlink(&outside, root.join("link")).unwrap();
        symlink(&root, folder.path().join("way")).unwrap();
        assert!(matches!(Place::make(&root, "link/file"), Err(RepoError::InTheWay { .. })));
        assert!(Place::find(&root, "link/file").unwrap().is_none());
        assert!(Place::find(&root, "nowhere/file").unwrap().is_none());

        // The root itself may be one.
        let place = Place::make(&folder.path().join("way"), "a/b/file").unwrap();
        place.put_bytes(b"ours").unwrap();
        assert_eq!(fs::read(root.join("a/b/file")).unwrap(), b"ours");
        assert_eq!(fs::read_dir(root.join("a/b")).unwrap().count(), 1, "nothing unfinished is left");
        assert!(!Place::find(&root, "a/b").unwrap().unwrap().remove().unwrap(), "a folder stays");

        // A folder that becomes a link after it was opened.
        let place = Place::make(&root, "a/b/file").unwrap();
        fs::rename(root.join("a"), root.join("moved")).unwrap();
        fs::create_dir(outside.join("b")).unwrap();
        symlink(&outside, root.join("a")).unwrap();
        fs::write(outside.join("b/file"), b"theirs").unwrap();
        let new = temporary_file(&root, UNFINISHED.0).unwrap();
        fs::write(new.path(), b"new").unwrap();
        place.put(new.into_temp_path()).unwrap();
        assert_eq!(fs::read(outside.join("b/file")).unwrap(), b"theirs");
        assert_eq!(fs::read(root.join("moved/b/file")).unwrap(), b"new");
        place.link(b"elsewhere").unwrap();
        assert_eq!(fs::read_link(root.join("moved/b/file")).unwrap(), Path::new("elsewhere"));
        assert!(place.remove().unwrap() && !place.remove().unwrap());
        assert!(outside.join("b/file").exists());
    }

    #[test]
    fn a_file_from_another_file_system_is_copied_first() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let from = elsewhere.path().join("from");
        fs::write(&from, b"bytes").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o751)).unwrap();
        fs::write(folder.path().join("to"), b"old").unwrap();
        let permissions = || Some(fs::metadata(&from).unwrap().permissions());
        let write = |name| {
            let mut from = File::open(&from).unwrap();
            Folder::open(folder.path()).unwrap().write_here(&mut from, permissions(), name)
        };
        write("to").unwrap();
        assert_eq!(fs::read(folder.path().join("to")).unwrap(), b"bytes");
        assert_eq!(fs::metadata(folder.path().join("to")).unwrap().permissions().mode() & 0o777, 0o751);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(write("taken").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "what could not be put in place is gone");
    }
}
