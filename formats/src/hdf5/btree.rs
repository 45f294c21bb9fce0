//! B-trees, versions 1 and 2, walked without recursion: a node's children are one level below it, so no walk goes in circles.

use super::file::{File, Reader};
use crate::format::FormatError;

/// Most levels of a tree.
const MAX_LEVELS: usize = 16;

/// What a version 1 tree indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Symbol table nodes of a group.
    Group = 0,
    /// Chunks of a dataset.
    Chunks = 1,
}

/// A node on the way to the leaf that is visited.
struct Node {
    at: u64,
    level: u16,
    entries: u64,
    next: u64,
}

/// Calls `visit` with the key and the child of each entry in the leaves of a version 1 tree. A key has `key_len` bytes.
pub(super) fn version_1<'a>(
    file: &'a File<'a>,
    root: u64,
    kind: Kind,
    key_len: u64,
    mut visit: impl FnMut(Reader<'a>, u64) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let prefix = 8 + 2 * u64::from(file.offset_bytes);
    let stride = key_len + u64::from(file.offset_bytes);
    let open = |at: u64| {
        let mut reader = file.at(at);
        reader.signature(b"TREE")?;
        let [found, level, a, b]: [u8; 4] = reader.array()?;
        if found != kind as u8 {
            return Err(FormatError::malformed(format!("a B-tree node of type {found}")));
        }
        let entries = u64::from(u16::from_le_bytes([a, b]));
        // All of it is there.
        file.at(at).skip(prefix + entries * stride)?;
        Ok(Node { at: at + prefix, level: u16::from(level), entries, next: 0 })
    };
    let mut path = vec![open(root)?];
    while let Some(node) = path.last_mut() {
        if node.next == node.entries {
            path.pop();
            continue;
        }
        let mut entry = file.at(node.at + node.next * stride);
        node.next += 1;
        let level = node.level;
        let key = entry.part(key_len)?;
        let Some(child) = entry.address()? else { continue };
        if level == 0 {
            visit(key, child)?;
            continue;
        }
        let child = open(child)?;
        if child.level + 1 != level || path.len() == MAX_LEVELS {
            return Err(FormatError::malformed("a B-tree whose levels do not follow one another"));
        }
        path.push(child);
    }
    Ok(())
}

/// Sizes in a version 2 tree, by level: leaves first.
struct Level {
    /// Bytes of the number of records in all nodes below a child.
    total_bytes: u8,
    /// Most records in a node and all below it.
    most: u64,
}

/// Bytes that a number up to `limit` is stored in.
pub(super) fn bytes_for(limit: u64) -> u8 {
    (limit.max(1).ilog2() / 8 + 1) as u8
}

/// Calls `visit` with each record of the version 2 tree whose header is at `header`, in no particular order. Trees of another
/// type than `kind` are malformed.
pub(super) fn version_2<'a>(
    file: &'a File<'a>,
    header: u64,
    kind: u8,
    mut visit: impl FnMut(Reader<'a>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut reader = file.at(header);
    reader.signature(b"BTHD")?;
    let [version, found]: [u8; 2] = reader.array()?;
    if version != 0 || found != kind {
        return Err(FormatError::malformed(format!("a B-tree of version {version}, type {found}")));
    }
    let node_len = u64::from(reader.u32()?);
    let record_len = u64::from(reader.u16()?);
    let depth = reader.u16()?;
    reader.skip(2)?;
    let Some(root) = reader.address()? else { return Ok(()) };
    let root_records = u64::from(reader.u16()?);
    // Signature, version, type and checksum.
    let Some(room) = node_len.checked_sub(10) else { return Err(FormatError::malformed("a B-tree of no room")) };
    if record_len == 0 || usize::from(depth) >= MAX_LEVELS {
        return Err(FormatError::malformed(format!("a B-tree of {depth} levels, records of {record_len} bytes")));
    }
    let leaf_most = room / record_len;
    let count_bytes = bytes_for(leaf_most);
    let pointer_len = |below: &Level| u64::from(file.offset_bytes) + u64::from(count_bytes + below.total_bytes);
    let mut levels = vec![Level { total_bytes: 0, most: leaf_most }];
    for _ in 0..depth {
        let Some(below) = levels.last() else { break };
        let pointer = pointer_len(below);
        let here = room.saturating_sub(pointer) / (record_len + pointer);
        let most = here.saturating_add(1).saturating_mul(below.most).saturating_add(here);
        levels.push(Level { total_bytes: bytes_for(most), most });
    }
    let open = |at: u64, level: u16, entries: u64| {
        let mut reader = file.at(at);
        reader.signature(if level == 0 { b"BTLF" } else { b"BTIN" })?;
        reader.skip(2)?;
        let records = reader.position();
        reader.part(node_len - 6)?.skip(entries * record_len)?;
        Ok::<_, FormatError>(Node { at: records, level, entries, next: 0 })
    };
    let mut path = vec![open(root, depth, root_records)?];
    while let Some(node) = path.last_mut() {
        let here = node.next;
        node.next += 1;
        if here < node.entries {
            visit(file.at(node.at + here * record_len).part(record_len)?)?;
        }
        // A node has one child more than records.
        if here > node.entries || node.level == 0 {
            if here >= node.entries {
                path.pop();
            }
            continue;
        }
        let level = node.level - 1;
        let Some(below) = levels.get(usize::from(level)) else { break };
        let mut pointer = file.at(node.at + node.entries * record_len + here * pointer_len(below));
        let child = pointer.address()?.ok_or_else(|| FormatError::malformed("a B-tree node without a child"))?;
        let entries = pointer.uint(count_bytes)?;
        if entries > leaf_most {
            return Err(FormatError::malformed("a B-tree node of more records than it has room for"));
        }
        path.push(open(child, level, entries)?);
    }
    Ok(())
}
