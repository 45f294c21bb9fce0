//! The tensors of a model in other files: under other names, transposed, cut, put together.

use std::path::Path;

use safetensors::SafeTensors;
pub use safetensors::tensor::Dtype;
use safetensors::tensor::{TensorView, serialize};
use shard_formats::compress::Expanded;
use shard_formats::{FileSource, Source, parse_file};

/// A tensor, with its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape, in elements.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The tensors of a safetensors file, in the order of their names.
#[must_use]
pub fn read(file: &[u8]) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = SafeTensors::deserialize(file)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, tensor)| Tensor {
            name,
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            bytes: tensor.data().to_vec(),
        })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

/// The tensors of a file of any format, as shard sees them, in the order of the file. Only types that safetensors has.
#[must_use]
pub fn read_any(path: &Path) -> Vec<Tensor> {
    let source = FileSource::open(path).unwrap();
    let layout = parse_file(path, &source).unwrap().layout;
    let (source, starts) = (Expanded::new(source, &layout), layout.segment_offsets());
    let tensor = |view: &shard_core::TensorView| {
        let mut bytes = vec![0; view.byte_len().unwrap() as usize];
        source.read_at(starts[view.segment] + view.offset, &mut bytes).unwrap();
        Tensor {
            name: view.name.clone(),
            dtype: serde_json::from_value(view.dtype.name().into()).unwrap(),
            shape: view.stored_shape().iter().map(|dim| *dim as usize).collect(),
            bytes,
        }
    };
    layout.tensors.iter().map(tensor).collect()
}

/// A safetensors file of tensors.
#[must_use]
pub fn write(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        (tensor.name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
    });
    serialize(views, None).unwrap()
}

impl Tensor {
    /// The tensor under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.shape[0]
    }

    /// A matrix transposed.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let &[rows, columns] = &self.shape[..] else { panic!("{} is no matrix", self.name) };
        let word = self.bytes.len() / (rows * columns);
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for column in 0..columns {
            for row in 0..rows {
                let at = (row * columns + column) * word;
                bytes.extend_from_slice(&self.bytes[at..at + word]);
            }
        }
        Self { shape: vec![columns, rows], bytes, ..self.clone() }
    }

    /// Some of its rows.
    #[must_use]
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let bytes = self.bytes[rows.start * self.row_bytes()..rows.end * self.row_bytes()].to_vec();
        Self { shape, bytes, ..self.clone() }
    }

    /// Its rows in another order.
    #[must_use]
    pub fn reordered(&self, order: &[usize]) -> Self {
        let bytes = order.iter().flat_map(|row| self.rows(*row..row + 1).bytes).collect();
        Self { bytes, ..self.clone() }
    }

    /// Tensors of the same row length below one another; named as the first.
    #[must_use]
    pub fn stacked(parts: &[Self]) -> Self {
        let mut shape = parts[0].shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        let bytes = parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
        Self { shape, bytes, ..parts[0].clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(rows: u16, columns: u16) -> Tensor {
        let bytes = (0..rows * columns).flat_map(u16::to_le_bytes).collect();
        let shape = vec![usize::from(rows), usize::from(columns)];
        Tensor { name: "w".to_owned(), dtype: Dtype::BF16, shape, bytes }
    }

    #[test]
    fn there_and_back() {
        let tensor = counting(5, 3);
        let one = std::slice::from_ref(&tensor);
        assert_eq!(read(&write(one)), one);
        assert_eq!(tensor.transposed().transposed(), tensor);
        assert_eq!(tensor.transposed().bytes[..10], [0, 0, 3, 0, 6, 0, 9, 0, 12, 0]);
        assert_eq!(Tensor::stacked(&[tensor.rows(0..2), tensor.rows(2..5)]), tensor);
        assert_eq!(tensor.reordered(&[4, 3, 2, 1, 0]).rows(0..1).bytes, tensor.rows(4..5).bytes);
        assert_eq!(tensor.clone().named("v").name, "v");
    }
}
