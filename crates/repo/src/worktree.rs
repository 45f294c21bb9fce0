//! The work tree: the folder that holds the repository, seen as paths with `/` between their parts.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use shard_history::{FileMode, validate_path};

use crate::beneath::Place;
use crate::error::{RepoError, Result};

/// The repository's folder inside a work tree.
pub const REPOSITORY_DIR: &str = ".shard";

/// Folders that are never looked into.
const SKIPPED: [&str; 2] = [REPOSITORY_DIR, ".git"];

/// A file found in the work tree.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) metadata: Metadata,
}

/// A folder whose files are tracked.
#[derive(Debug, Clone)]
pub(crate) struct WorkTree {
    root: PathBuf,
}

impl WorkTree {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The place of a tracked path.
    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The tracked path of a place given by a user, relative to the current folder or absolute; empty for the root itself.
    pub(crate) fn tracked_path(&self, given: &Path) -> Result<String> {
        let refuse = |why: &str| RepoError::Path { path: given.to_owned(), why: why.to_owned() };
        let absolute = std::path::absolute(given).map_err(RepoError::io("cannot be resolved", given))?;
        // Only the folder is resolved: the last part may be a link that is tracked itself, or not exist any more.
        let resolved = match (absolute.parent(), absolute.file_name()) {
            (Some(parent), Some(name)) if parent.exists() && absolute != self.root => {
                parent.canonicalize().map_err(RepoError::io("cannot be resolved", given))?.join(name)
            }
            _ => absolute,
        };
        let relative = resolved.strip_prefix(&self.root).map_err(|_| refuse("is outside of the repository"))?;
        let mut parts = Vec::new();
        for part in relative.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| refuse("is not valid UTF-8"))?),
                Component::ParentDir if parts.pop().is_some() => {}
                _ => return Err(refuse("is outside of the repository")),
            }
        }
        if parts.first() == Some(&REPOSITORY_DIR) {
            return Err(refuse("is inside the repository's own folder"));
        }
        let path = parts.join("/");
        if !path.is_empty() {
            validate_path(&path).map_err(|error| refuse(&error.to_string()))?;
        }
        Ok(path)
    }

    /// Every file at or below a tracked path (the root is empty), in the order of their paths, and the places whose names are
    /// not UTF-8, which cannot be tracked. Symbolic links are files; other special files and unfinished files of a process that
    /// was killed are left out.
    pub(crate) fn files(&self, path: &str) -> Result<(Vec<Found>, Vec<PathBuf>)> {
        let mut found = Vec::new();
        let mut unnameable = Vec::new();
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            let place = self.place(&path);
            let metadata = match fs::symlink_metadata(&place) {
                Ok(metadata) => metadata,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(RepoError::io("cannot read", &place)(error)),
            };
            if metadata.is_file() || metadata.is_symlink() {
                found.push(Found { path, metadata });
            } else if metadata.is_dir() {
                for entry in fs::read_dir(&place).map_err(RepoError::io("cannot list", &place))? {
                    let entry = entry.map_err(RepoError::io("cannot list", &place))?;
                    let name = entry.file_name();
                    let Some(name) = name.to_str() else {
                        unnameable.push(entry.path());
                        continue;
                    };
                    if SKIPPED.contains(&name) || is_unfinished(name) {
                        continue;
                    }
                    open.push(if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((found, unnameable))
    }

    /// Removes a tracked file and the folders that this leaves empty. Through a link, or where a folder became something else, the
    /// file of that name is another one.
    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        Place::clear(&self.root, path).map(drop)
    }
}

/// Whether an error says that there is no such file.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What the names of files that are still being written begin and end with, outside of a repository's own folder.
pub(crate) const UNFINISHED: (&str, &str) = (".shard-", ".tmp");

/// Whether a name is that of a file that a process was writing.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1)
}

/// The mode that a tree records for a file.
pub(crate) fn tree_mode(metadata: &Metadata) -> FileMode {
    if metadata.is_symlink() {
        return FileMode::Symlink;
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0 {
        return FileMode::Executable;
    }
    FileMode::Regular
}

/// Gives a written file the permissions of its tree mode, as far as the umask lets it.
pub(crate) fn set_executable(file: &File, executable: bool) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata()?.permissions().mode();
        // Who may read may also execute.
        let wanted = if executable { mode | (mode & 0o444) >> 2 } else { mode & !0o111 };
        if wanted != mode {
            file.set_permissions(fs::Permissions::from_mode(wanted))?;
        }
    }
    Ok(())
}
