//! A directory that the files named in a model may not leave.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a name does not lead to a file.
#[derive(Debug)]
pub(crate) enum Unresolved {
    /// It is not a relative path of plain components, or it leads out of the directory.
    Outside,
    /// What the system says.
    Io(io::Error),
}

/// A directory that its files may not leave.
pub(crate) struct Directory {
    path: PathBuf,
    resolved: PathBuf,
}

impl Directory {
    /// A directory, whichever way it is named.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), resolved: path.canonicalize()? })
    }

    /// The directory that a file is in, as the file's path names it.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        Self::new(match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        })
    }

    /// The path without symbolic links.
    pub(crate) fn resolved(&self) -> &Path {
        &self.resolved
    }

    /// A file's path and what it leads to, without symbolic links, where that is inside.
    ///
    /// A hard link is a file like any other and cannot be told from one. That loses nothing (CVE-2026-34446 is about readers
    /// that hand out what it holds): what is opened here is read to find out where tensors lie, and is stored only where its
    /// user adds it under that very name.
    pub(crate) fn resolve(&self, name: &str) -> Result<(PathBuf, PathBuf), Unresolved> {
        if !is_plain(name) {
            return Err(Unresolved::Outside);
        }
        let resolved = self.resolved.join(name).canonicalize().map_err(Unresolved::Io)?;
        // Compares whole components: `/models/a_evil` does not start with `/models/a`.
        match resolved.starts_with(&self.resolved) {
            true => Ok((self.path.join(name), resolved)),
            false => Err(Unresolved::Outside),
        }
    }
}

/// Whether a name is a relative path of plain components on every system.
pub(crate) fn is_plain(name: &str) -> bool {
    // Windows takes backslashes for separators and colons for drives and streams.
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}
