//! What a parser says about a file: the segments that tile it and the tensors that view them.

use thiserror::Error;

use crate::dtype::DType;
use crate::limits::MAX_NAME;

/// A run of bytes of a file. The segments of a layout follow one another without holes, from the file's first byte to its
/// last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Length in bytes; a tensor without elements has a segment of length 0.
    pub len: u64,
    /// The element type where the segment holds tensor data, which is cut into blocks of whole storage units; `None` for
    /// opaque bytes (headers, padding, anything not understood), which are cut by content.
    pub dtype: Option<DType>,
}

/// A tensor: a name, a type and a shape over bytes of one segment. Several views may share a segment (tied weights).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorView {
    /// The tensor's name in the file.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions, in elements, slowest first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Index of the segment that holds the data.
    pub segment: usize,
    /// Where the data starts in the segment, in bytes.
    pub offset: u64,
}

impl TensorView {
    /// The number of elements, `None` where it overflows 64 bits.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        // A zero dimension makes the tensor empty however large the others are.
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))
    }

    /// The length of the data in bytes, `None` where it overflows or does not fill whole storage units.
    #[must_use]
    pub fn byte_len(&self) -> Option<u64> {
        self.dtype.byte_len(self.elements()?)
    }
}

/// A file as its parser saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The name of the format, as in its registry.
    pub format: String,
    /// The segments, in file order.
    pub segments: Vec<Segment>,
    /// The tensors, in file order.
    pub tensors: Vec<TensorView>,
}

/// A layout that does not describe its file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The segments' lengths do not add up to the file's length.
    #[error("the segments cover {covered} bytes of a file of {file}")]
    Tiling {
        /// Bytes that the segments cover, saturating.
        covered: u64,
        /// The file's length in bytes.
        file: u64,
    },
    /// A tensor that lies outside its segment, or has no size.
    #[error("tensor {0:?} does not fit its segment")]
    Tensor(String),
    /// A name over [`MAX_NAME`] bytes.
    #[error("a tensor's name has {0} bytes")]
    Name(usize),
}

impl Layout {
    /// The layout of a file that is nothing but bytes.
    #[must_use]
    pub fn opaque(file_len: u64) -> Self {
        let segments = if file_len == 0 { Vec::new() } else { vec![Segment { len: file_len, dtype: None }] };
        Self { format: "opaque".to_owned(), segments, tensors: Vec::new() }
    }

    /// Where each segment starts, in bytes from the start of the file; saturating, for a layout that does not pass
    /// [`Self::check`].
    #[must_use]
    pub fn segment_offsets(&self) -> Vec<u64> {
        let mut next = 0u64;
        let start_of = |segment: &Segment| {
            let start = next;
            next = next.saturating_add(segment.len);
            start
        };
        self.segments.iter().map(start_of).collect()
    }

    /// Checks that the segments tile a file of `file_len` bytes and that every tensor lies inside its segment.
    ///
    /// # Errors
    /// The first [`LayoutError`] found.
    pub fn check(&self, file_len: u64) -> Result<(), LayoutError> {
        let covered = self.segments.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.len));
        if covered != file_len {
            return Err(LayoutError::Tiling { covered, file: file_len });
        }
        for tensor in &self.tensors {
            if tensor.name.len() > MAX_NAME {
                return Err(LayoutError::Name(tensor.name.len()));
            }
            let end = tensor.byte_len().and_then(|len| len.checked_add(tensor.offset));
            let segment = self.segments.get(tensor.segment);
            match (end, segment) {
                (Some(end), Some(segment)) if end <= segment.len => {}
                _ => return Err(LayoutError::Tensor(tensor.name.clone())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[u64], offset: u64) -> TensorView {
        TensorView { name: "w".to_owned(), dtype: DType::BF16, shape: shape.to_vec(), segment: 1, offset }
    }

    #[test]
    fn check_finds_what_does_not_fit() {
        let mut layout = Layout {
            format: "test".to_owned(),
            segments: vec![Segment { len: 8, dtype: None }, Segment { len: 12, dtype: Some(DType::BF16) }],
            tensors: vec![view(&[2, 3], 0), view(&[], 10), view(&[0, u64::MAX, u64::MAX], 12)],
        };
        assert_eq!(layout.check(20), Ok(()));
        assert_eq!(layout.segment_offsets(), [0, 8]);
        assert_eq!(layout.check(21), Err(LayoutError::Tiling { covered: 20, file: 21 }));
        for bad in [view(&[2, 3], 1), view(&[7], 0), view(&[4_194_305, 4_194_305, 211_106_198_978_564], 0)] {
            layout.tensors = vec![bad];
            assert_eq!(layout.check(20), Err(LayoutError::Tensor("w".to_owned())));
        }
        layout.tensors = vec![TensorView { segment: 2, ..view(&[], 0) }];
        assert!(layout.check(20).is_err());
    }
}
