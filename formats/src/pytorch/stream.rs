//! The container of PyTorch before 1.6, which `_use_new_zipfile_serialization=False` still writes.
//!
//! Pickles follow one another: a magic number, a version (1001), what is known of the machine, the object, and the keys of its
//! storages in order. Then comes each storage: a signed little-endian 64-bit number of items, and the items.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::storage::{Place, Places, StorageId};
use super::walk::{Names, tensors as tensors_of};
use crate::assemble::{Located, shown};
use crate::format::{FormatError, FormatErrorKind};
use crate::pickle::{Instructions, Memory, Node, Pickle, read_pickle};
use crate::source::{Cursor, Source};

/// The magic number, as an integer in binary and in text. The pickle ends with it.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const MAGIC_TEXT: &[u8] = b"L119547037146038801333356L\n.";

/// Bytes in which the magic number ends: the version and a frame may come before it.
const MAGIC_WITHIN: usize = 32;

/// The version of the container.
const VERSION: u64 = 1001;

/// What a storage takes in the map of types and in that of places, beside its key, in bytes.
const TYPE_LEN: usize = 48;
const PLACE_LEN: usize = 80;

/// Whether a file starts as this container does.
pub(crate) fn is_stream(head: &[u8]) -> bool {
    let head = head.get(..MAGIC_WITHIN).unwrap_or(head);
    head.starts_with(MAGIC_TEXT)
        || head.first() == Some(&0x80) && head.windows(MAGIC.len()).any(|window| window == MAGIC)
}

/// The tensors of the stream.
///
/// # Errors
/// [`FormatError`] for a stream that is not sound.
pub(crate) fn tensors(source: &dyn Source) -> Result<Vec<Located>, FormatError> {
    let mut instructions = Instructions::new(Cursor::new(source, 0));
    read_pickle(&mut instructions, 0)?;
    let version = read_pickle(&mut instructions, 0)?;
    if version.tree.unsigned(version.root) != Some(VERSION) {
        return Err(FormatError::malformed("the version of the container is not 1001"));
    }
    let machine = read_pickle(&mut instructions, version.tree.taken())?;
    if is_big_endian(&machine) {
        return Err(FormatError::malformed("the tensors are big-endian"));
    }
    drop((version, machine));
    let object = read_pickle(&mut instructions, 0)?;
    let keys = read_pickle(&mut instructions, object.tree.taken())?;
    let (places, taken) = places(source, instructions.position(), &object, &keys)?;
    drop(keys);
    tensors_of(&object.tree, &places, object.root, "", &mut Names::beside(taken))
}

fn is_big_endian(machine: &Pickle) -> bool {
    let Node::Dict(entries) = machine.tree.node(machine.root) else { return false };
    let mut items = machine.tree.items(entries);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        if machine.tree.text(key) == Some(b"little_endian") {
            return machine.tree.node(value) == Node::Bool(false);
        }
    }
    false
}

/// Where the storages lie, the first at `start`, and what that takes in bytes.
fn places(source: &dyn Source, start: u64, object: &Pickle, keys: &Pickle) -> Result<(Places, usize), FormatError> {
    // A storage has the type by which the object first refers to it.
    let mut items = HashMap::new();
    let mut memory = Memory::beside(object.tree.taken() + keys.tree.taken());
    for node in object.tree.nodes() {
        if let Node::Persistent(id) = node
            && let Some(id) = StorageId::new(&object.tree, id)
            && let Entry::Vacant(entry) = items.entry(id.key)
        {
            memory.take(TYPE_LEN + PLACE_LEN + id.key.len())?;
            entry.insert(id.element.item);
        }
    }
    let Node::List(keys_in_order) = keys.tree.node(keys.root) else {
        return Err(FormatError::malformed("the keys of the storages are no list"));
    };
    let mut places = Places::new();
    let mut at = start;
    for key in keys.tree.items(keys_in_order) {
        let key = keys.tree.text(key).ok_or_else(|| FormatError::malformed("the key of a storage is no text"))?;
        let name = String::from_utf8_lossy(key);
        let Some(item) = items.get(key) else {
            return Err(FormatError::malformed(format!("nothing refers to storage {:?}", shown(&name))));
        };
        let truncated =
            || FormatError::new(FormatErrorKind::Truncated, format!("storage {:?} goes beyond the end", shown(&name)));
        let mut count = [0; 8];
        if source.len().saturating_sub(at) < count.len() as u64 {
            return Err(truncated());
        }
        source.read_at(at, &mut count)?;
        let start = at + count.len() as u64;
        // A negative number is larger than any file.
        let len = u64::from_le_bytes(count).checked_mul(*item).filter(|len| *len <= source.len() - start);
        let len = len.ok_or_else(truncated)?;
        if places.insert(key.to_vec(), Place { start, len }).is_some() {
            let message = format!("storage {:?} comes twice", shown(&name));
            return Err(FormatError::new(FormatErrorKind::Duplicate, message));
        }
        at = start + len;
    }
    let taken = memory.taken() - items.len() * TYPE_LEN;
    Ok((places, taken))
}
