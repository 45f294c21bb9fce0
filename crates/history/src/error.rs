//! What can be wrong with objects of the history.

use shard_manifest::ObjectError;
use thiserror::Error;

use crate::path::PathError;

/// An object of the history that is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HistoryError {
    /// Not canonical JSON, of another type or version, or with missing or malformed fields.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A path or a name that cannot be kept.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries, parents or records that are not in order, or given twice.
    #[error("{0} are not in order, or there is one twice")]
    Order(&'static str),
    /// A path that is both a file and a directory.
    #[error("{0:?} is both a file and a directory")]
    Clash(String),
    /// A directory without files below the root: trees have none.
    #[error("the directory {0:?} is empty")]
    EmptyDirectory(String),
    /// More files or directories than a tree may have.
    #[error("a tree of more than {0} entries")]
    TooManyEntries(usize),
    /// A time that is not RFC 3339 in UTC.
    #[error("not a time in UTC after RFC 3339: {0:?}")]
    Time(String),
    /// A name that no branch or tag can have.
    #[error("{0:?} is not a name for a branch or a tag")]
    RefName(String),
}

/// An object that could not be fetched, or that is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError<E> {
    /// What the caller's closure said.
    #[error(transparent)]
    Fetch(E),
    /// The object fetched is malformed.
    #[error("{0}")]
    Object(HistoryError),
}

impl<E> From<HistoryError> for FetchError<E> {
    fn from(error: HistoryError) -> Self {
        Self::Object(error)
    }
}

impl<E> From<PathError> for FetchError<E> {
    fn from(error: PathError) -> Self {
        Self::Object(error.into())
    }
}
