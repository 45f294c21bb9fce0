//! The container of PyTorch before 0.2: a tar archive of three members.
//!
//! - `storages`: a pickled number; for each storage the pickle `(key, location, class)`, a signed 64-bit number of items, and the
//!   items; then the pickled list of those that are parts of others, `(key, key of the other, offset, items)`, in items;
//! - `tensors`: a pickled number; for each tensor the pickle `(key, key of its storage, class)`, a 32-bit number of dimensions, 4
//!   bytes of no account, 64-bit sizes, strides, and the offset in its storage, in items;
//! - `pickle`: the object, in which both are persistent ids, their keys as text.
//!
//! Binary numbers are little-endian.

use std::collections::HashMap;

use super::dtype::ElementType;
use super::storage::{Outside, Outsiders, Place, Storage, View};
use super::walk::{Names, tensors as tensors_of};
use crate::assemble::{Located, MAX_RANK, MAX_TENSORS};
use crate::container::directory::Member;
use crate::container::tar_directory::{first_name, is_tar, members};
use crate::format::{FormatError, FormatErrorKind};
use crate::pickle::{Instructions, Node, NodeId, Pickle, Tree, read_pickle};
use crate::source::{Cursor, Slice, Source};

/// What the archive has; the first is one that says what wrote it.
const NAMES: [&str; 4] = ["sys_info", "pickle", "tensors", "storages"];

/// Whether a file starts as this container does.
pub(crate) fn may_be_tar(head: &[u8]) -> bool {
    is_tar(head) && first_name(head).is_some_and(|name| NAMES.contains(&name.as_str()))
}

/// Storages and tensors by their keys.
#[derive(Default)]
struct Objects {
    storages: HashMap<i64, Storage>,
    tensors: HashMap<i64, View>,
}

impl Outsiders for Objects {
    fn find(&self, tree: &Tree, id: NodeId) -> Option<Outside> {
        let key = match tree.node(id) {
            Node::Int(key) => key,
            _ => std::str::from_utf8(tree.text(id)?).ok()?.parse().ok()?,
        };
        let tensor = self.tensors.get(&key).cloned().map(Outside::Tensor);
        tensor.or_else(|| self.storages.get(&key).copied().map(Outside::Storage))
    }
}

/// The tensors of the archive.
///
/// # Errors
/// [`FormatErrorKind::Other`] for an archive that is not PyTorch's, other kinds of [`FormatError`] for one that is not sound.
pub(crate) fn tensors(source: &dyn Source) -> Result<Vec<Located>, FormatError> {
    let members = members(source)?;
    let find = |name: &str| {
        let member = members.iter().find(|member| member.name == name);
        member.ok_or_else(|| FormatError::new(FormatErrorKind::Other, "a tar archive that PyTorch did not write"))
    };
    let (storages, tensors, pickle) = (find("storages")?, find("tensors")?, find("pickle")?);
    let mut objects = Objects::default();
    read_storages(&slice(source, storages)?, storages.start, &mut objects)?;
    read_tensors(&slice(source, tensors)?, &mut objects)?;
    let pickle = slice(source, pickle)?;
    let object = read_pickle(&mut Instructions::new(Cursor::new(&pickle, 0)), 0)?;
    tensors_of(&object.tree, &objects, object.root, "", &mut Names::default())
}

fn slice<'a>(source: &'a dyn Source, member: &Member) -> Result<Slice<'a>, FormatError> {
    Slice::new(source, member.start, member.len).ok_or_else(unsound)
}

fn unsound() -> FormatError {
    FormatError::malformed("the archive's tensors or storages are not as PyTorch writes them")
}

fn count(pickle: &Pickle) -> Result<u64, FormatError> {
    let count = pickle.tree.unsigned(pickle.root).ok_or_else(unsound)?;
    if count > MAX_TENSORS as u64 {
        return Err(FormatError::new(FormatErrorKind::Limit, "more tensors or storages than shard follows"));
    }
    Ok(count)
}

fn key(tree: &Tree, id: NodeId) -> Result<i64, FormatError> {
    match tree.node(id) {
        Node::Int(key) => Ok(key),
        _ => Err(unsound()),
    }
}

/// The storages; `base` is where the member's data starts in the file.
fn read_storages(member: &Slice<'_>, base: u64, objects: &mut Objects) -> Result<(), FormatError> {
    let mut instructions = Instructions::new(Cursor::new(member, 0));
    for _ in 0..count(&read_pickle(&mut instructions, 0)?)? {
        let Pickle { tree, root } = read_pickle(&mut instructions, 0)?;
        let Some([id, _, class]) = tree.tuple(root) else { return Err(unsound()) };
        let class = tree.global(*class).map(|(_, name)| name).unwrap_or_default();
        let element = ElementType::from_storage_name(class).ok_or_else(unsound)?;
        let cursor = instructions.cursor();
        let items = cursor.u64()?;
        let start = base + cursor.position();
        // A negative number is larger than any file.
        let len = items.checked_mul(element.item).ok_or_else(unsound)?;
        cursor.skip(len)?;
        objects.storages.insert(key(&tree, *id)?, Storage { place: Place { start, len }, element, items });
    }
    let Pickle { tree, root } = read_pickle(&mut instructions, 0)?;
    let parts: Vec<NodeId> = match tree.node(root) {
        Node::List(chain) => tree.items(chain).take(MAX_TENSORS).collect(),
        _ => tree.tuple(root).unwrap_or_default().to_vec(),
    };
    for part in parts {
        let Some([id, whole, offset, items]) = tree.tuple(part) else { return Err(unsound()) };
        let whole = objects.storages.get(&key(&tree, *whole)?).copied().ok_or_else(unsound)?;
        let bytes = |id| tree.unsigned(id).and_then(|items| items.checked_mul(whole.element.item)).ok_or_else(unsound);
        let (skip, len) = (bytes(*offset)?, bytes(*items)?);
        if skip.checked_add(len).is_none_or(|end| end > whole.place.len) {
            return Err(unsound());
        }
        let place = Place { start: whole.place.start + skip, len };
        let items = tree.unsigned(*items).ok_or_else(unsound)?;
        objects.storages.insert(key(&tree, *id)?, Storage { place, items, ..whole });
    }
    Ok(())
}

fn read_tensors(member: &Slice<'_>, objects: &mut Objects) -> Result<(), FormatError> {
    let mut instructions = Instructions::new(Cursor::new(member, 0));
    for _ in 0..count(&read_pickle(&mut instructions, 0)?)? {
        let Pickle { tree, root } = read_pickle(&mut instructions, 0)?;
        let Some([id, storage, _]) = tree.tuple(root) else { return Err(unsound()) };
        let storage = objects.storages.get(&key(&tree, *storage)?).copied();
        let cursor = instructions.cursor();
        let rank = usize::try_from(cursor.u32()?).ok().filter(|rank| *rank <= MAX_RANK).ok_or_else(unsound)?;
        cursor.skip(4)?;
        let mut numbers = || (0..rank).map(|_| cursor.u64()).collect::<Result<Vec<u64>, _>>();
        let (shape, strides) = (numbers()?, numbers()?);
        let offset = cursor.u64()?;
        // One without elements may be without a storage.
        if let Some(storage) = storage {
            objects.tensors.insert(key(&tree, *id)?, View { storage, offset, shape, strides });
        }
    }
    Ok(())
}
