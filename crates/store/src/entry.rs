//! What the store keeps: entries, keyed by what they are and by the digest of what they decode to.

use std::fmt;

use shard_core::Digest;
use shard_core::limits::{MAX_BLOCK, MAX_METADATA, MAX_SKETCH};

use crate::error::StoreError;

/// Most bytes that an encoding may have beyond the bytes it stands for (header, tables of a codec).
pub const MAX_OVERHEAD: u64 = 1 << 20;

/// What an entry is. The numbers are part of the pack format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A block of a file's content.
    Block = 1,
    /// A content manifest.
    Manifest = 2,
    /// A tree.
    Tree = 3,
    /// A commit.
    Commit = 4,
    /// A tag.
    Tag = 5,
    /// The description of a single-file archive.
    Archive = 6,
    /// A storage manifest.
    Storage = 7,
    /// The sketch of a file's tensors.
    Sketch = 8,
}

impl EntryKind {
    /// All kinds, by number.
    pub const ALL: [Self; 8] =
        [Self::Block, Self::Manifest, Self::Tree, Self::Commit, Self::Tag, Self::Archive, Self::Storage, Self::Sketch];

    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The kind's name, lowercase.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Manifest => "manifest",
            Self::Tree => "tree",
            Self::Commit => "commit",
            Self::Tag => "tag",
            Self::Archive => "archive",
            Self::Storage => "storage",
            Self::Sketch => "sketch",
        }
    }

    /// The most bytes that an entry of this kind may decode to.
    #[must_use]
    pub fn max_raw_len(self) -> u64 {
        match self {
            Self::Block => MAX_BLOCK as u64,
            Self::Sketch => MAX_SKETCH as u64,
            _ => MAX_METADATA as u64,
        }
    }

    /// The most bytes that an entry of this kind may take as stored.
    #[must_use]
    pub fn max_stored_len(self) -> u64 {
        self.max_raw_len() + MAX_OVERHEAD
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of an entry. Equal bytes of two kinds are two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// What the entry is.
    pub kind: EntryKind,
    /// SHA-256 of the decoded bytes.
    pub id: Digest,
}

impl EntryKey {
    /// The key of an entry.
    #[must_use]
    pub fn new(kind: EntryKind, id: Digest) -> Self {
        Self { kind, id }
    }

    /// The key of a block.
    #[must_use]
    pub fn block(id: Digest) -> Self {
        Self::new(EntryKind::Block, id)
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// Which pack an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackId {
    /// A pack of the repository, by the SHA-256 of its bytes.
    Sealed(Digest),
    /// A pack that a transaction is still writing, by its number there. Only that transaction can read it.
    Pending(u32),
    /// The file itself, for a single-file archive.
    Archive,
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed(id) => write!(f, "packs/{id}.pack"),
            Self::Pending(number) => write!(f, "unfinished pack {number}"),
            Self::Archive => f.write_str("archive"),
        }
    }
}

/// Where one copy of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The entry.
    pub key: EntryKey,
    /// The pack it is in.
    pub pack: PackId,
    /// Where its stored bytes start in the pack, in bytes.
    pub offset: u64,
    /// How many stored bytes there are.
    pub stored_len: u64,
    /// How many bytes they decode to.
    pub raw_len: u64,
    /// How many bases have to be decoded one after the other before this entry can be: 0 for a keyframe.
    pub depth: u32,
}

/// A place that entries are read from. All methods may be called from any thread.
pub trait EntrySource: Sync {
    /// Where the best copy of an entry is: the least deep one. `None` where there is none that can be decoded.
    ///
    /// # Errors
    /// [`StoreError`] where the question cannot be answered.
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>, StoreError>;

    /// Replaces the content of `out` by the stored bytes of an entry. They are checked against the entry's own header and
    /// checksum; only decoding and hashing them proves the id.
    ///
    /// # Errors
    /// [`StoreError`] naming the pack and offset where they are missing, damaged, or another entry's.
    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError>;

    /// Replaces the content of `out` by the stored bytes of a copy of an entry that can be read, and says which: the best one,
    /// or another where that is damaged.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is none; else as [`Self::read_stored`].
    fn read(&self, key: &EntryKey, out: &mut Vec<u8>) -> Result<Location, StoreError> {
        let location = self.locate(key)?.ok_or(StoreError::Missing(*key))?;
        self.read_stored(&location, out)?;
        Ok(location)
    }

    /// Brings entries here that are promised elsewhere, all at once: for who is about to read them. Those that nobody promised are left
    /// alone, and reading says so.
    ///
    /// # Errors
    /// [`StoreError::Elsewhere`] where they are promised and do not come.
    fn bring(&self, _keys: &mut dyn Iterator<Item = EntryKey>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether blocks that are not here may be elsewhere, and come when they are read.
    fn is_partial(&self) -> bool {
        false
    }

    /// Stops finding a copy that was found to be bad, as far as this place can: whoever has the entry's bytes may then write
    /// them again.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be noted.
    fn forget(&self, _location: &Location) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A place that entries are written to, and read back from. All methods may be called from any thread.
pub trait EntrySink: EntrySource {
    /// Keeps an entry: `stored` decodes to the `raw_len` bytes whose SHA-256 is the key's id, with the help of the blocks
    /// `bases`, all of which must already be locatable here. An entry that is here already is left as it is.
    ///
    /// # Errors
    /// [`StoreError`]; after one that concerns writing, the sink refuses everything.
    fn put(&self, key: &EntryKey, stored: &[u8], raw_len: u64, bases: &[Digest]) -> Result<(), StoreError>;
}
