//! Weights on disk, and all that training goes on from.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, View, serialize_to_file};

use super::TrainError;
use super::model::Model;
use super::optimizer::AdamW;

/// The names of a state's tensors beside the weights, as torch has them.
const FIRST: &str = "optimizer.exp_avg.";
const SECOND: &str = "optimizer.exp_avg_sq.";
const STEP: &str = "step";

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

/// Writes `state/stepNNNN.safetensors` below `out_dir`: the fp32 weights, both moments of each, and the number of the step.
pub(super) fn write_state(model: &Model, optimizer: &AdamW, out_dir: &Path, step: u64) -> Result<PathBuf, TrainError> {
    let floats = |values: &[f32], shape: &[usize]| Weight {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let mut tensors =
        vec![(STEP.to_owned(), Weight { dtype: Dtype::U64, shape: Vec::new(), bytes: step.to_le_bytes().to_vec() })];
    for (parameter, moments) in model.weights().iter().zip(&optimizer.moments) {
        let (name, shape) = (&parameter.name, parameter.value.dims());
        tensors.push((name.clone(), floats(&parameter.value.flatten_all()?.to_vec1()?, shape)));
        tensors.push((format!("{FIRST}{name}"), floats(&moments.first, shape)));
        tensors.push((format!("{SECOND}{name}"), floats(&moments.second, shape)));
    }
    save(&tensors, &out_dir.join("state"), step)
}

/// Puts a state into a model and its optimizer; gives the number of its step.
pub(super) fn read_state(path: &Path, model: &Model, optimizer: &mut AdamW) -> Result<u64, TrainError> {
    let failed = |source| TrainError::Read { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(|error| failed(error.into()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(failed)?;
    let words = |name: &str, dtype: Dtype, shape: &[usize]| {
        let tensor = tensors.tensor(name).map_err(failed)?;
        if (tensor.dtype(), tensor.shape()) == (dtype, shape) {
            Ok(tensor.data())
        } else {
            Err(TrainError::State { path: path.to_owned(), tensor: name.to_owned() })
        }
    };
    let floats = |name: &str, shape: &[usize]| -> Result<Vec<f32>, TrainError> {
        let (words, _) = words(name, Dtype::F32, shape)?.as_chunks();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    };
    for (parameter, moments) in model.weights().iter().zip(&mut optimizer.moments) {
        let (name, shape) = (&parameter.name, parameter.value.dims());
        parameter.value.set(&Tensor::from_vec(floats(name, shape)?, shape, parameter.value.device())?)?;
        moments.first = floats(&format!("{FIRST}{name}"), shape)?;
        moments.second = floats(&format!("{SECOND}{name}"), shape)?;
    }
    let (step, _) = words(STEP, Dtype::U64, &[])?.as_chunks();
    let step = step.first().map_or(0, |step| u64::from_le_bytes(*step));
    let bad = |_| TrainError::State { path: path.to_owned(), tensor: STEP.to_owned() };
    optimizer.steps = i32::try_from(step).map_err(bad)?;
    Ok(step)
}

fn write_as(model: &Model, dtype: Dtype, folder: &Path, step: u64) -> Result<PathBuf, TrainError> {
    let mut weights = Vec::with_capacity(model.weights().len());
    for parameter in model.weights() {
        let values: Vec<f32> = parameter.value.flatten_all()?.to_vec1()?;
        let bytes = match dtype {
            // `from_f32` rounds to nearest, ties to even, as the casts of the training frameworks do.
            Dtype::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        weights.push((parameter.name.clone(), Weight { dtype, shape: parameter.value.dims().to_vec(), bytes }));
    }
    save(&weights, folder, step)
}

fn save(tensors: &[(String, Weight)], folder: &Path, step: u64) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(folder).map_err(|source| TrainError::Write { path: folder.to_owned(), source })?;
    let path = folder.join(format!("step{step:04}.safetensors"));
    // One entry only: the crate writes metadata in a map's order, which differs from run to run.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(tensors.iter().map(|(name, weight)| (name.as_str(), weight)), Some(metadata), &path)
        .map_err(|source| TrainError::Checkpoint { path: path.clone(), source })?;
    Ok(path)
}
