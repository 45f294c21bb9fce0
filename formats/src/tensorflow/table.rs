//! A sorted table of keys and values, as LevelDB and TensorFlow write it.
//!
//! The file's last 48 bytes are two handles (offset and length in bytes, varints), zeros, and a magic number of 8 bytes,
//! little-endian. The second handle is that of the index block, whose values are handles of data blocks. A block is a run of
//! entries, then the offsets of some of them and their number (4 bytes each), and behind the block a byte that says how it is
//! compressed and a checksum of 4 bytes. An entry says how many bytes its key shares with the key before it, how many more it
//! has, and how long the value is (varints); then follow these bytes and the value.
//!
//! Specification: <https://github.com/google/leveldb/blob/main/doc/table_format.md>.

use std::mem;

use shard_core::limits::MAX_NAME;

use crate::distinct::MAX_NAMES;
use crate::format::{FormatError, FormatErrorKind};
use crate::protobuf::varint;
use crate::source::{Cursor, Source};

/// Largest table that is read, in bytes.
const MAX_TABLE: u64 = 100_000_000;

/// Bytes of the two handles, zeros and magic number at the end of the file.
const FOOTER: u64 = 48;

const MAGIC: u64 = 0xdb47_7524_8b80_fb57;

/// Longest key: that of a part of a tensor has numbers behind the name.
const MAX_KEY: u64 = 2 * MAX_NAME as u64;

/// A block's place.
struct Handle {
    start: u64,
    len: u64,
}

/// Calls `visit` with each key and value, in the order of the keys.
///
/// # Errors
/// [`FormatError`] for what is no sound table, or has compressed blocks; what `visit` says.
pub(super) fn read(
    source: &dyn Source,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let len = source.len();
    if len > MAX_TABLE {
        return Err(FormatError::new(FormatErrorKind::Limit, format!("a table of more than {MAX_TABLE} bytes")));
    }
    let Some(end) = len.checked_sub(FOOTER) else {
        return Err(FormatError::new(FormatErrorKind::Truncated, "a table that is shorter than its footer"));
    };
    let mut cursor = Cursor::new(source, len - 8);
    if cursor.u64()? != MAGIC {
        return Err(FormatError::malformed("a table without its magic number"));
    }
    cursor.seek(end);
    handle(&mut cursor)?;
    let index = block(source, &handle(&mut cursor)?, end)?;
    let mut at = 0;
    let mut last: Option<Vec<u8>> = None;
    let mut key_bytes = 0usize;
    entries(&index, |_, value| {
        let handle = handle(&mut Cursor::new(&value, 0))?;
        // Otherwise one block could be read as often as the index has entries.
        if handle.start < at {
            return Err(FormatError::new(FormatErrorKind::Overlap, "blocks of a table that do not follow one another"));
        }
        let data = block(source, &handle, end)?;
        at = handle.start + handle.len;
        entries(&data, |key, value| {
            if last.as_deref().is_some_and(|last| last >= key) {
                return Err(FormatError::new(FormatErrorKind::Duplicate, "keys of a table that do not ascend"));
            }
            // A key may be far longer than what there is of it in the file.
            key_bytes = key_bytes.saturating_add(key.len());
            if key_bytes > MAX_NAMES {
                return Err(FormatError::new(FormatErrorKind::Limit, format!("keys of more than {MAX_NAMES} bytes")));
            }
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            visit(key, value)
        })
    })
}

fn handle(cursor: &mut Cursor<'_>) -> Result<Handle, FormatError> {
    Ok(Handle { start: varint(cursor)?, len: varint(cursor)? })
}

/// The entries of a block. Blocks lie before `end`.
fn block(source: &dyn Source, handle: &Handle, end: u64) -> Result<Vec<u8>, FormatError> {
    // The compression's byte and the checksum lie behind it.
    match handle.start.checked_add(handle.len).and_then(|after| after.checked_add(5)) {
        Some(after) if after <= end => {}
        _ => return Err(FormatError::new(FormatErrorKind::Truncated, "a block of a table that lies beyond its end")),
    }
    let mut cursor = Cursor::new(source, handle.start);
    let mut bytes = cursor.take(handle.len)?;
    if cursor.u8()? != 0 {
        return Err(FormatError::malformed("a table whose blocks are compressed"));
    }
    let count = bytes.last_chunk().map(|count| u64::from(u32::from_le_bytes(*count)));
    match count.and_then(|count| handle.len.checked_sub(4 * count + 4)) {
        Some(entries) => bytes.truncate(entries as usize),
        None => return Err(FormatError::malformed("a block of a table that is shorter than its restarts")),
    }
    Ok(bytes)
}

fn entries(block: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), FormatError>) -> Result<(), FormatError> {
    let mut cursor = Cursor::new(&block, 0);
    let mut key = Vec::new();
    while cursor.left() > 0 {
        let (shared, more, len) = (varint(&mut cursor)?, varint(&mut cursor)?, varint(&mut cursor)?);
        if shared > key.len() as u64 {
            return Err(FormatError::malformed("a key of a table that shares more than there is"));
        }
        if shared.saturating_add(more) > MAX_KEY {
            return Err(FormatError::new(FormatErrorKind::Limit, "a key of a table is longer than shard follows"));
        }
        let mut start = mem::take(&mut key);
        start.truncate(shared as usize);
        start.extend(cursor.take(more)?);
        key = start;
        visit(&key, &cursor.take(len)?)?;
    }
    Ok(())
}
