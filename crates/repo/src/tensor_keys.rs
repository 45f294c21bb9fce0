//! Tensors of stored files told apart by type, shape and content, from their manifests alone.

use std::collections::HashMap;
use std::sync::Arc;

use shard_core::{Digest, Sha256, TensorView};
use shard_manifest::ContentManifest;

use crate::error::Result;
use crate::objects::Objects;

/// A tensor of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyedTensor {
    /// Its name.
    pub(crate) name: String,
    /// Equal for equal bytes of one type, shape and order: what it is called, and in which file it lies, does not count.
    pub(crate) key: Digest,
}

/// The tensors of a manifest, in file order.
#[derive(Debug, Default)]
pub(crate) struct KeyedTensors {
    pub(crate) tensors: Vec<KeyedTensor>,
    by_name: HashMap<String, usize>,
    by_key: HashMap<Digest, usize>,
}

impl KeyedTensors {
    pub(crate) fn of(manifest: &ContentManifest) -> Self {
        let tensors: Vec<KeyedTensor> = manifest
            .tensors
            .iter()
            .map(|view| KeyedTensor { name: view.name.clone(), key: tensor_key(manifest, view) })
            .collect();
        let (mut by_name, mut by_key) = (HashMap::new(), HashMap::new());
        for (index, tensor) in tensors.iter().enumerate() {
            by_name.entry(tensor.name.clone()).or_insert(index);
            by_key.entry(tensor.key).or_insert(index);
        }
        Self { tensors, by_name, by_key }
    }

    /// Where the tensor that has a key is: that of the same name, where that has it.
    pub(crate) fn find(&self, wanted: &KeyedTensor) -> Option<usize> {
        let same_name = self.by_name.get(&wanted.name).copied();
        let same_name = same_name.filter(|index| self.tensors.get(*index).is_some_and(|other| other.key == wanted.key));
        same_name.or_else(|| self.by_key.get(&wanted.key).copied())
    }
}

/// What tells a tensor's content: its type, shape, order and blocks.
pub(crate) fn tensor_key(manifest: &ContentManifest, view: &TensorView) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"shard tensor key 1\0");
    hash.update(view.dtype.name().as_bytes());
    let order = view.strides.as_ref().filter(|_| !view.is_row_major());
    for numbers in [Some(&view.shape), order].into_iter().flatten() {
        hash.update(&(numbers.len() as u64).to_le_bytes());
        numbers.iter().for_each(|number| hash.update(&number.to_le_bytes()));
    }
    match manifest.tensor_content(view) {
        Some(content) => hash.update(&content.0),
        // Not made of blocks of its own: the same only as what lies in the same way in the same blocks.
        None => {
            let (blocks, start) = manifest.tensor_blocks(view);
            hash.update(b"in blocks\0");
            hash.update(&(view.offset.saturating_sub(start)).to_le_bytes());
            blocks.iter().for_each(|block| hash.update(&block.id.0));
        }
    }
    hash.finish()
}

/// Reads manifests for the keys of their tensors, each once.
#[derive(Default)]
pub(crate) struct TensorKeys {
    known: HashMap<Digest, Arc<KeyedTensors>>,
}

impl TensorKeys {
    pub(crate) fn of(&mut self, manifest: Digest, objects: &mut Objects<'_>) -> Result<Arc<KeyedTensors>> {
        if let Some(known) = self.known.get(&manifest) {
            return Ok(Arc::clone(known));
        }
        let keyed = Arc::new(KeyedTensors::of(&objects.manifest_once(manifest)?));
        self.known.insert(manifest, Arc::clone(&keyed));
        Ok(keyed)
    }
}
