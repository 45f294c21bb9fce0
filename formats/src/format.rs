//! What a format is.

use std::{fmt, io};

use shard_core::Layout;

use crate::source::Source;

/// A file format: it recognises files and says where their tensors lie. One file a format, one line in
/// [`FORMATS`](crate::FORMATS).
pub trait Format: Sync {
    /// The name recorded in layouts.
    fn name(&self) -> &'static str;

    /// Whether a file of `len` bytes that starts with `head` (its first [`PROBE_LEN`](crate::PROBE_LEN) bytes, or all of a
    /// shorter file) looks like this format. A damaged file should still look like it, so that its user learns why it was
    /// not understood.
    fn probe(&self, head: &[u8], len: u64) -> bool;

    /// The file's layout, which tiles all its bytes. `depth` is how many files it lies in: a format that holds files parses its
    /// members with one more, and none at [`MAX_DEPTH`](crate::MAX_DEPTH).
    ///
    /// # Errors
    /// [`FormatError`] for a file that is not sound in this format; [`FormatErrorKind::Read`] where the source failed.
    fn parse(&self, source: &dyn Source, depth: usize) -> Result<Layout, FormatError>;
}

/// Longest message, in characters.
const MAX_MESSAGE: usize = 400;

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatErrorKind {
    /// The file ends before the data that it announces.
    Truncated,
    /// The file breaks the rules of its format.
    Malformed,
    /// A name that stands for two things.
    Duplicate,
    /// Tensors that partly share bytes, or share them under two types.
    Overlap,
    /// The file is larger, in some dimension, than shard follows.
    Limit,
    /// The file could not be read.
    Read,
    /// The file is of another format that starts alike; nothing is wrong with it.
    Other,
}

/// Why a file has no layout in a format.
#[derive(Debug)]
pub struct FormatError {
    kind: FormatErrorKind,
    message: String,
    read: Option<io::Error>,
}

impl FormatError {
    /// An error of that kind; `message` says what and where.
    #[must_use]
    pub fn new(kind: FormatErrorKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // A message may quote the file, and what it quotes may be as long as the file.
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(end);
            message.push('…');
        }
        Self { kind, message, read: None }
    }

    /// [`FormatErrorKind::Malformed`].
    #[must_use]
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(FormatErrorKind::Malformed, message)
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> FormatErrorKind {
        self.kind
    }

    /// What is wrong and where, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Parts the errors of reading a file from those of its content.
    ///
    /// # Errors
    /// The reader's error, where that was the reason.
    pub fn into_read_error(mut self) -> io::Result<Self> {
        match self.read.take() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        Self { kind: FormatErrorKind::Read, message: "the file could not be read".to_owned(), read: Some(error) }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.read.as_ref().map(|error| error as _)
    }
}
