//! Weights on disk.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::tensor::{Dtype, View, serialize_to_file};

use super::TrainError;
use super::model::Model;

struct Weight {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Weight {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes the weights below `out_dir`, in bf16 and in fp32; gives the paths in this order.
pub(super) fn write(model: &Model, out_dir: &Path, step: u64) -> Result<(PathBuf, PathBuf), TrainError> {
    let bf16 = write_as(model, Dtype::BF16, &out_dir.join("bf16"), step)?;
    let fp32 = write_as(model, Dtype::F32, &out_dir.join("fp32"), step)?;
    Ok((bf16, fp32))
}

fn write_as(model: &Model, dtype: Dtype, folder: &Path, step: u64) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(folder).map_err(|source| TrainError::Write { path: folder.to_owned(), source })?;
    let mut weights = Vec::with_capacity(model.weights().len());
    for parameter in model.weights() {
        let values: Vec<f32> = parameter.value.flatten_all()?.to_vec1()?;
        let bytes = match dtype {
            // `from_f32` rounds to nearest, ties to even, as the casts of the training frameworks do.
            Dtype::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        weights.push((parameter.name.as_str(), Weight { dtype, shape: parameter.value.dims().to_vec(), bytes }));
    }
    let path = folder.join(format!("step{step:04}.safetensors"));
    // One entry only: the crate writes metadata in a map's order, which differs from run to run.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(weights.iter().map(|(name, weight)| (*name, weight)), Some(metadata), &path)
        .map_err(|source| TrainError::Checkpoint { path: path.clone(), source })?;
    Ok(path)
}
