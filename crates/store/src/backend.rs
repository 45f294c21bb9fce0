//! Where a repository's files are: a small set of operations that a local directory, a server and an object store share.
//!
//! An object's name is a path of segments joined by `/`. Objects are immutable: they appear whole, under a name that had
//! none, or not at all.

use std::io;

use thiserror::Error;

/// What went wrong in a backend.
#[derive(Debug, Error)]
pub enum BackendError {
    /// There is no such object.
    #[error("{name}: not found")]
    NotFound {
        /// The object.
        name: String,
    },
    /// The name is taken. The object that has it was not touched.
    #[error("{name}: already exists")]
    AlreadyExists {
        /// The object.
        name: String,
    },
    /// A range that goes beyond the end of its object.
    #[error("{name}: bytes {offset} to {end} are beyond its end (it has {size})")]
    OutOfBounds {
        /// The object.
        name: String,
        /// Start of the range, in bytes.
        offset: u64,
        /// End of the range, in bytes, saturating.
        end: u64,
        /// Length of the object in bytes.
        size: u64,
    },
    /// A name that no object can have.
    #[error("{0:?} cannot be the name of an object")]
    Name(String),
    /// The operation failed; nothing is acknowledged.
    #[error("{name}: cannot {action}")]
    Io {
        /// The object.
        name: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A reply was lost: the operation may have happened or not. Reading back tells.
    #[error("{name}: no reply to {action}")]
    Uncertain {
        /// The object.
        name: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BackendError {
    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the name is taken.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// The system's error, where there is one: a full disk is [`io::ErrorKind::StorageFull`].
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } | Self::Uncertain { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A row of bytes that is being written, and can be read back meanwhile.
pub trait Output: Send + Sync {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`BackendError`]; the output can then only be dropped.
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError>;

    /// Bytes appended so far.
    fn len(&self) -> u64;

    /// Whether nothing was appended so far.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with bytes already appended.
    ///
    /// # Errors
    /// [`BackendError::OutOfBounds`] beyond what was appended.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError>;
}

/// An object that is being written. Dropping it unfinished leaves nothing.
pub trait Upload: Output {
    /// Makes the bytes durable and gives them the name, if nothing has it. When this returns without an error, the object
    /// survives a power loss.
    ///
    /// # Errors
    /// [`BackendError::AlreadyExists`] where the name is taken; nothing was changed then.
    fn finish(self: Box<Self>, name: &str) -> Result<(), BackendError>;
}

impl<T: Output + ?Sized> Output for Box<T> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.as_mut().append(bytes)
    }

    fn len(&self) -> u64 {
        self.as_ref().len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.as_ref().read_at(offset, out)
    }
}

/// A place for immutable objects. All methods may be called from any thread.
pub trait Backend: Send + Sync {
    /// Fills `out` with the object's bytes from `offset` on.
    ///
    /// # Errors
    /// [`BackendError::NotFound`]; [`BackendError::OutOfBounds`] where the object is shorter.
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError>;

    /// Fills buffers with the object's bytes from `offset` on, one after the other, in one request.
    ///
    /// # Errors
    /// As [`Self::get_range`].
    fn get_parts(&self, name: &str, offset: u64, parts: &mut [&mut [u8]]) -> Result<(), BackendError> {
        let mut bytes = vec![0; parts.iter().map(|part| part.len()).sum()];
        self.get_range(name, offset, &mut bytes)?;
        let mut rest = &bytes[..];
        for part in parts {
            let (now, after) = rest.split_at(part.len());
            part.copy_from_slice(now);
            rest = after;
        }
        Ok(())
    }

    /// The object's length in bytes.
    ///
    /// # Errors
    /// [`BackendError::NotFound`].
    fn size(&self, name: &str) -> Result<u64, BackendError>;

    /// The whole object, which must have at most `limit` bytes.
    ///
    /// # Errors
    /// [`BackendError::NotFound`]; [`BackendError::Io`] above the limit.
    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>, BackendError> {
        let size = self.size(name)?;
        if size > limit {
            let source = io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes are more than {limit}"));
            return Err(BackendError::Io { name: name.to_owned(), action: "read", source });
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.get_range(name, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// The last `len` bytes of the object, or all where it has fewer, and its length.
    ///
    /// # Errors
    /// [`BackendError::NotFound`].
    fn get_tail(&self, name: &str, len: u64) -> Result<(Vec<u8>, u64), BackendError> {
        tail_by_size(self, name, len)
    }

    /// Creates the object with these bytes if nothing has the name; atomic against other writers, durable on return.
    ///
    /// # Errors
    /// [`BackendError::AlreadyExists`] where the name is taken.
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError>;

    /// Starts an object whose name is known only at its end.
    ///
    /// # Errors
    /// [`BackendError`].
    fn create(&self) -> Result<Box<dyn Upload>, BackendError>;

    /// The same for an object that is worth keeping in part, should its writer be killed: where that is possible,
    /// [`Store::unfinished_packs`](crate::Store::unfinished_packs) finds it then.
    ///
    /// # Errors
    /// [`BackendError`].
    fn create_resumable(&self) -> Result<Box<dyn Upload>, BackendError> {
        self.create()
    }

    /// The last segments of the names of all objects and folders directly in a folder, sorted by their bytes. A folder that
    /// is not there has none; one without objects may be listed or not.
    ///
    /// # Errors
    /// [`BackendError`].
    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError>;

    /// The first of them only. A backend that can ask for it alone should.
    ///
    /// # Errors
    /// [`BackendError`].
    fn list_first(&self, folder: &str) -> Result<Option<String>, BackendError> {
        Ok(self.list(folder)?.into_iter().next())
    }

    /// A mark that changes whenever an object comes to or goes from a folder, where the backend has one that is cheaper than
    /// a listing: an instant in nanoseconds since 1970, which says nothing about changes within the same tick.
    fn changed_ns(&self, _folder: &str) -> Option<i64> {
        None
    }

    /// Makes durable that objects were removed from a folder; until then a power loss may bring them back.
    ///
    /// # Errors
    /// [`BackendError`].
    fn settle(&self, _folder: &str) -> Result<(), BackendError> {
        Ok(())
    }

    /// Removes an object. One that is not there is no error.
    ///
    /// # Errors
    /// [`BackendError`].
    fn delete(&self, name: &str) -> Result<(), BackendError>;

    /// How many requests are worth being under way at once. More than one where each goes over a network: readers then ask for
    /// several things at a time, and uploads are finished while others are still written.
    fn requests_at_once(&self) -> usize {
        1
    }
}

/// The end of an object, by its length: what [`Backend::get_tail`] is where it cannot be had at once.
///
/// # Errors
/// As [`Backend::get_tail`].
pub fn tail_by_size<B: Backend + ?Sized>(backend: &B, name: &str, len: u64) -> Result<(Vec<u8>, u64), BackendError> {
    let size = backend.size(name)?;
    let len = len.min(size);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    backend.get_range(name, size - len, &mut bytes)?;
    Ok((bytes, size))
}

/// Checks that a text can name an object on every backend: segments of `a`-`z`, `0`-`9`, `.`, `_`, `-`, `%`, none of them
/// empty or with a dot first or last, each at most 255 bytes long.
///
/// # Errors
/// [`BackendError::Name`].
pub fn check_name(name: &str) -> Result<(), BackendError> {
    let segment_fits = |segment: &str| {
        (1..=255).contains(&segment.len())
            && !segment.starts_with('.')
            && !segment.ends_with('.')
            && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-%".contains(&b))
    };
    if name.len() <= 1024 && name.split('/').all(segment_fits) {
        Ok(())
    } else {
        Err(BackendError::Name(name.chars().take(200).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_26_names_never_leave_the_repository() {
        for good in ["format", "packs/00ff.pack", "refs/heads%2fmain/fffffffffffffffe"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/etc", "a//b", "..", "a/../b", ".hidden", "a.", "A", "a\\b", "a\0", "a:b", "ü", "a/"] {
            assert!(matches!(check_name(bad), Err(BackendError::Name(_))), "{bad}");
        }
        assert!(check_name(&"a".repeat(256)).is_err());
    }
}
