//! What goes wrong in a store, with what and where.

use std::io;
use std::path::PathBuf;

use shard_core::{Digest, WireError};
use thiserror::Error;

use crate::backend::BackendError;
use crate::entry::EntryKey;
use crate::lease::Holder;
use crate::record::RecordError;
use crate::refs::RefError;

/// Why bytes are not a pack.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PackError {
    /// It lacks the first or last bytes of a pack: something else, or cut off.
    #[error("it does not start and end as a pack does: it is something else, or cut off")]
    Magic,
    /// It was written by a later version of shard.
    #[error("pack version {0} is not supported")]
    Version(u32),
    /// The footer's checksum does not match.
    #[error("the footer's checksum does not match")]
    FooterChecksum,
    /// The footer is malformed.
    #[error("malformed footer: {0}")]
    Footer(#[from] WireError),
    /// The footer contradicts itself or the pack.
    #[error("the footer is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// The whole file's SHA-256 is not the one it is named by.
    #[error("its SHA-256 is {0}")]
    Checksum(Digest),
}

/// What the index's database said.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct IndexError(#[from] rusqlite::Error);

impl IndexError {
    pub(crate) fn into_inner(self) -> rusqlite::Error {
        self.0
    }

    pub(crate) fn code(&self) -> Option<rusqlite::ErrorCode> {
        self.0.sqlite_error_code()
    }

    /// Whether the database itself is damaged, so that rebuilding it helps.
    pub(crate) fn is_damage(&self) -> bool {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match &self.0 {
            FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => true,
            rusqlite::Error::SqliteFailure(failure, message) => {
                // A file that is shorter than it says was cut off; a disk that fails says something else.
                matches!(failure.code, DatabaseCorrupt | NotADatabase)
                    || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
                    || message.as_ref().is_some_and(|m| m.contains("no such table") || m.contains("no such column"))
            }
            rusqlite::Error::SqlInputError { msg, .. } => {
                msg.contains("no such table") || msg.contains("no such column") || msg.contains("malformed")
            }
            _ => false,
        }
    }
}

/// What went wrong in a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Files could not be read or written.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A file could not be read or written.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Blocks are promised by another repository, and do not come.
    #[error("{url} has the blocks that are not here, and they cannot be brought")]
    Elsewhere {
        /// The address of the other one.
        url: String,
        /// What keeps them from coming.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no repository in the directory.
    #[error("{}: not a shard repository", .0.display())]
    NotARepository(PathBuf),
    /// What a repository consists of is in the directory, and its format file is not.
    #[error("{}: the file format is missing: the repository is damaged", .0.display())]
    NoFormat(PathBuf),
    /// There is a repository in the directory already.
    #[error("{}: is a shard repository already", .0.display())]
    AlreadyARepository(PathBuf),
    /// A small file of the repository is torn, damaged, or of a later version.
    #[error("{file}: {problem}")]
    Record {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        problem: RecordError,
    },
    /// A pack is damaged.
    #[error("{pack}: {problem}")]
    Pack {
        /// The pack's file.
        pack: String,
        /// What is wrong with it.
        #[source]
        problem: PackError,
    },
    /// The bytes at an entry's place are not the entry: the pack is damaged, or the index is wrong.
    #[error("{file}: at byte {offset}: {problem} ({key})")]
    Entry {
        /// The pack's file.
        file: String,
        /// Where the entry's stored bytes start, in bytes.
        offset: u64,
        /// The entry that was wanted.
        key: EntryKey,
        /// What is wrong.
        problem: &'static str,
    },
    /// An entry that is not here, or cannot be decoded with what is here.
    #[error("{0} is missing")]
    Missing(EntryKey),
    /// A base that is not here.
    #[error("{key} leans on block {base}, which is missing")]
    MissingBase {
        /// The entry.
        key: EntryKey,
        /// Its base.
        base: Digest,
    },
    /// A chain of bases that is longer than readers follow.
    #[error("{key} would be {depth} bases deep; the limit is {limit}", limit = shard_core::limits::MAX_DEPTH)]
    TooDeep {
        /// The entry.
        key: EntryKey,
        /// Its depth.
        depth: u32,
    },
    /// An entry over the limits of its kind.
    #[error("{key} is too large: {len} bytes")]
    TooLarge {
        /// The entry.
        key: EntryKey,
        /// Its length in bytes, raw or stored.
        len: u64,
    },
    /// The transaction failed earlier; what it wrote is given up.
    #[error("the transaction failed before: {0}")]
    Poisoned(String),
    /// Packs that this transaction counted on were condemned by a collection that began meanwhile: do it again.
    #[error("{} packs were condemned meanwhile; the operation has to be done again", .condemned.len())]
    Retry {
        /// The packs.
        condemned: Vec<Digest>,
    },
    /// Another process has the claim to delete packs: a collection, a repair or an optimization.
    #[error("another process may delete packs now: {0}")]
    Claimed(Box<Holder>),
    /// The claim of this collection was broken by somebody else.
    #[error("the collection was stopped: its claim was broken")]
    ClaimLost,
    /// Writers that began before are still at work.
    #[error("writers that began before are still at work: {}", list(.0))]
    Held(Vec<Holder>),
    /// A ref could not be read or moved.
    #[error(transparent)]
    Ref(#[from] Box<RefError>),
    /// The index failed. Rebuilding it may help; nothing is lost.
    #[error("the index failed")]
    Index(#[from] IndexError),
}

fn list(holders: &[Holder]) -> String {
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join("; ")
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error.into())
    }
}

impl From<RefError> for StoreError {
    fn from(error: RefError) -> Self {
        Self::Ref(Box::new(error))
    }
}

impl StoreError {
    /// The system's error, where there is one: a full disk is [`io::ErrorKind::StorageFull`].
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Backend(error) => error.io(),
            Self::Io { source, .. } => Some(source),
            Self::Ref(error) => match error.as_ref() {
                RefError::Backend(error) => error.io(),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn an_index_that_is_cut_off_is_damaged_and_a_failing_disk_is_not() {
        let is_damage = |code| IndexError(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).is_damage();
        assert!(is_damage(ffi::SQLITE_IOERR_SHORT_READ) && is_damage(ffi::SQLITE_CORRUPT));
        assert!(!is_damage(ffi::SQLITE_IOERR_READ) && !is_damage(ffi::SQLITE_IOERR) && !is_damage(ffi::SQLITE_FULL));
    }
}
