//! Storages: the byte ranges that tensors view, and how a pickle names them.

use std::collections::HashMap;

use super::dtype::ElementType;
use crate::pickle::{NodeId, Tree};

/// A range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Offset of the first byte in the file.
    pub(crate) start: u64,
    /// Length in bytes.
    pub(crate) len: u64,
}

/// A storage that a pickle refers to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storage {
    pub(crate) place: Place,
    pub(crate) element: ElementType,
    /// The number of items that the pickle says it has.
    pub(crate) items: u64,
}

/// The persistent id of a storage: `("storage", class, key, location, items)`, before 1.6 with a sixth member: nothing, or
/// `(key, offset, items)` for one that is part of another, in items.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StorageId<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) element: ElementType,
    items: u64,
    /// Offset and number of items.
    part: Option<(u64, u64)>,
}

impl<'a> StorageId<'a> {
    pub(crate) fn new(tree: &'a Tree, id: NodeId) -> Option<Self> {
        let (kind, class, key, items, more) = match tree.tuple(id)? {
            [kind, class, key, _, items] => (kind, class, key, items, None),
            [kind, class, key, _, items, part] => (kind, class, key, items, Some(*part)),
            _ => return None,
        };
        if tree.text(*kind) != Some(b"storage") {
            return None;
        }
        let (_, class) = tree.global(*class)?;
        let part = match more.and_then(|part| tree.tuple(part)) {
            Some([_, offset, items]) => Some((tree.unsigned(*offset)?, tree.unsigned(*items)?)),
            Some(_) => return None,
            None => None,
        };
        Some(Self {
            key: tree.text(*key)?,
            element: ElementType::from_storage_name(class)?,
            items: tree.unsigned(*items)?,
            part,
        })
    }
}

/// Where the storages of a file lie, by their keys.
pub(crate) type Places = HashMap<Vec<u8>, Place>;

/// What a persistent id stands for.
#[derive(Debug, Clone)]
pub(crate) enum Outside {
    Storage(Storage),
    /// A tensor, in files that list them apart from the pickle.
    Tensor(View),
}

/// A tensor as PyTorch describes it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) storage: Storage,
    /// In items of the tensor's type.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<u64>,
    /// In items.
    pub(crate) strides: Vec<u64>,
}

/// Finds what a persistent id stands for.
pub(crate) trait Outsiders {
    fn find(&self, tree: &Tree, id: NodeId) -> Option<Outside>;
}

impl Outsiders for Places {
    fn find(&self, tree: &Tree, id: NodeId) -> Option<Outside> {
        let StorageId { key, element, items, part } = StorageId::new(tree, id)?;
        let mut place = *self.get(key)?;
        let mut count = items;
        if let Some((offset, part_items)) = part {
            let skip = offset.checked_mul(element.item)?;
            let len = part_items.checked_mul(element.item)?;
            if skip.checked_add(len)? > place.len {
                return None;
            }
            place = Place { start: place.start + skip, len };
            count = part_items;
        }
        Some(Outside::Storage(Storage { place, element, items: count }))
    }
}
