//! The tensors of a safetensors file, each with the one of the same name in an earlier file.

use std::error::Error;
use std::path::Path;

use safetensors::SafeTensors;
use shard_core::DType;

/// A tensor to encode.
pub(crate) struct Tensor {
    /// Its name in the file.
    pub(crate) name: String,
    /// The type of its elements.
    pub(crate) dtype: DType,
    /// Its dimensions, in elements.
    pub(crate) shape: Vec<u64>,
    /// Its bytes.
    pub(crate) data: Vec<u8>,
    /// The bytes of its earlier version: as many.
    pub(crate) base: Option<Vec<u8>>,
}

/// The tensors of at least `min_bytes`. Those that equal their earlier version are left out: they cost nobody anything.
pub(crate) fn load(base: Option<&Path>, file: &Path, min_bytes: usize) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let base = base.map(std::fs::read).transpose()?;
    let base = base.as_deref().map(SafeTensors::deserialize).transpose()?;
    let file = std::fs::read(file)?;
    let file = SafeTensors::deserialize(&file)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let data = view.data();
        let dtype =
            DType::from_name(&view.dtype().to_string()).ok_or_else(|| format!("{name}: its type is unknown"))?;
        let base = base.as_ref().and_then(|base| base.tensor(name).ok());
        let base = base.filter(|base| base.dtype() == view.dtype() && base.data().len() == data.len());
        if data.len() < min_bytes || base.as_ref().is_some_and(|base| base.data() == data) {
            continue;
        }
        let base = base.map(|base| base.data().to_vec());
        let shape = view.shape().iter().map(|dim| *dim as u64).collect();
        tensors.push(Tensor { name: name.to_owned(), dtype, shape, data: data.to_vec(), base });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}
