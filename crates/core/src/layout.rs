//! What a parser says about a file: the segments that tile it and the tensors that view them.
//!
//! Where a file holds some of its bytes compressed, the segments tile its **expanded** bytes: those of the file with each
//! compressed run replaced by what it expands to. Offsets of segments and tensors are in expanded bytes.

use std::fmt;

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
    /// How far apart neighbours lie in each dimension, in elements; `None` is row-major order. The elements fill their bytes
    /// without holes, as in a transposed tensor or in Fortran's order.
    pub strides: Option<Vec<u64>>,
}

impl TensorView {
    /// The dimensions as the bytes have them, slowest first: [`Self::shape`], but for a tensor with strides.
    #[must_use]
    pub fn stored_shape(&self) -> Vec<u64> {
        let Some(strides) = &self.strides else { return self.shape.clone() };
        let mut dims: Vec<(u64, u64)> = strides.iter().copied().zip(self.shape.iter().copied()).collect();
        // Of equal strides all but one belong to dimensions of one element; which comes first changes nothing but their place.
        dims.sort_by_key(|(stride, dim)| std::cmp::Reverse((*stride, *dim)));
        dims.into_iter().map(|(_, dim)| dim).collect()
    }

    /// Whether the elements lie in row-major order, whatever the strides of dimensions of one element are.
    #[must_use]
    pub fn is_row_major(&self) -> bool {
        let Some(strides) = &self.strides else { return true };
        if self.shape.contains(&0) {
            return true;
        }
        let mut expected = 1u64;
        strides.len() == self.shape.len()
            && strides.iter().zip(&self.shape).rev().filter(|(_, dim)| **dim != 1).all(|(stride, dim)| {
                let is_next = *stride == expected;
                expected = expected.saturating_mul(*dim);
                is_next
            })
    }

    /// Whether the strides are those of a tensor without holes and without elements that share their place.
    fn is_dense(&self) -> bool {
        let Some(strides) = &self.strides else { return true };
        if strides.len() != self.shape.len() {
            return false;
        }
        if self.shape.contains(&0) {
            return true;
        }
        let mut dims: Vec<(u64, u64)> =
            strides.iter().copied().zip(self.shape.iter().copied()).filter(|(_, dim)| *dim != 1).collect();
        dims.sort_unstable();
        let mut expected = 1u64;
        for (stride, dim) in dims {
            if stride != expected {
                return false;
            }
            let Some(next) = expected.checked_mul(dim) else { return false };
            expected = next;
        }
        true
    }

    /// Whether the strides, where there are any, say what their absence would not.
    fn is_told_once(&self) -> bool {
        self.strides.is_none() || (self.is_dense() && !self.is_row_major())
    }

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

/// How a run of bytes is compressed in a file: exactly which encoder with which parameters, so that compressing the expanded
/// bytes again gives the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Raw DEFLATE (RFC 1951) as zlib 1.x writes it at that level, 1 to 9, with a window of 32 KiB, memory level 8 and the
    /// default strategy.
    Zlib {
        /// zlib's level.
        level: u8,
    },
}

impl Compression {
    /// Every compression that shard can repeat.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=9).map(|level| Self::Zlib { level })
    }

    /// The compression of that name, as [`Display`](fmt::Display) writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|compression| compression.to_string() == name)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zlib { level } => write!(f, "zlib-{level}"),
        }
    }
}

/// Consecutive segments whose bytes the file holds compressed, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressedRun {
    /// Index of the first segment.
    pub first: usize,
    /// The number of segments, at least 1.
    pub count: usize,
    /// Length in the file, in bytes.
    pub len: u64,
    /// How.
    pub with: Compression,
}

impl CompressedRun {
    /// The segments' indexes.
    #[must_use]
    pub fn segments(&self) -> std::ops::Range<usize> {
        self.first..self.first.saturating_add(self.count)
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
    /// The runs that the file holds compressed, in file order; none for most files.
    pub compressed: Vec<CompressedRun>,
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
    /// A compressed run without segments or bytes, with segments that are not there, or that overlaps the one before it.
    #[error("compressed run {0} does not fit the segments")]
    Compressed(usize),
    /// A tensor that lies outside its segment, or has no size, or strides that leave holes or are those of row-major order.
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
        Self { format: "opaque".to_owned(), segments, tensors: Vec::new(), compressed: Vec::new() }
    }

    /// The length of the file's expanded bytes; saturating.
    #[must_use]
    pub fn expanded_len(&self) -> u64 {
        sum(&self.segments)
    }

    /// The same file with what it holds compressed left opaque, as it lies in the file.
    #[must_use]
    pub fn without_compressed(&self) -> Self {
        let mut segments = Vec::with_capacity(self.segments.len());
        let mut place: Vec<Option<usize>> = Vec::with_capacity(self.segments.len());
        let mut runs = self.compressed.iter().peekable();
        for (index, segment) in self.segments.iter().enumerate() {
            if let Some(run) = runs.peek().filter(|run| run.segments().contains(&index)) {
                if index == run.first {
                    segments.push(Segment { len: run.len, dtype: None });
                }
                place.push(None);
                if index + 1 >= run.segments().end {
                    runs.next();
                }
            } else {
                place.push(Some(segments.len()));
                segments.push(*segment);
            }
        }
        let moved = |tensor: &TensorView| {
            let segment = place.get(tensor.segment).copied().flatten()?;
            Some(TensorView { segment, ..tensor.clone() })
        };
        let tensors = self.tensors.iter().filter_map(moved).collect();
        Self { format: self.format.clone(), segments, tensors, compressed: Vec::new() }
    }

    /// Where each segment starts, in expanded bytes from the start of the file; saturating, for a layout that does not pass
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
        let mut covered = 0u64;
        let mut next = 0;
        for (index, run) in self.compressed.iter().enumerate() {
            let segments = run.segments();
            let is_there = run.count > 0 && run.first >= next && segments.end <= self.segments.len();
            if !is_there || self.segments[segments.clone()].iter().all(|segment| segment.len == 0) {
                return Err(LayoutError::Compressed(index));
            }
            covered = covered.saturating_add(sum(&self.segments[next..run.first])).saturating_add(run.len);
            next = segments.end;
        }
        covered = covered.saturating_add(sum(&self.segments[next..]));
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
                (Some(end), Some(segment)) if end <= segment.len && tensor.is_told_once() => {}
                _ => return Err(LayoutError::Tensor(tensor.name.clone())),
            }
        }
        Ok(())
    }
}

/// The length of some segments together, in bytes; saturating.
fn sum(segments: &[Segment]) -> u64 {
    segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[u64], offset: u64) -> TensorView {
        TensorView {
            name: "w".to_owned(),
            dtype: DType::BF16,
            shape: shape.to_vec(),
            segment: 1,
            offset,
            strides: None,
        }
    }

    #[test]
    fn strides_are_those_of_a_permutation() {
        let strided = |shape: &[u64], strides: &[u64]| {
            let tensor = TensorView { strides: Some(strides.to_vec()), ..view(shape, 0) };
            (tensor.is_dense(), tensor.stored_shape())
        };
        assert_eq!(strided(&[2, 3], &[1, 2]), (true, vec![3, 2]));
        assert_eq!(strided(&[2, 3, 4], &[4, 8, 1]), (true, vec![3, 2, 4]));
        assert!(strided(&[1, 3], &[77, 1]).0);
        assert!(strided(&[0, 3], &[9, 9]).0);
        for (shape, strides) in [(&[2, 3][..], &[1, 3][..]), (&[2, 3], &[0, 1]), (&[2, 3], &[3]), (&[2], &[2])] {
            assert!(!strided(shape, strides).0, "{shape:?} {strides:?}");
        }
        assert!(!strided(&[u64::MAX, 2, u64::MAX], &[2, 1, u64::MAX]).0);
        let row_major = |shape: &[u64], strides: &[u64]| {
            TensorView { strides: Some(strides.to_vec()), ..view(shape, 0) }.is_row_major()
        };
        assert!(row_major(&[2, 3], &[3, 1]) && row_major(&[1, 3], &[77, 1]) && row_major(&[], &[]));
        assert!(row_major(&[2, 0], &[1, 9]) && !row_major(&[2, 3], &[1, 2]) && !row_major(&[2, 3], &[1]));
        let layout = |strides: Option<Vec<u64>>| Layout {
            format: "test".to_owned(),
            segments: vec![Segment { len: 0, dtype: None }, Segment { len: 12, dtype: Some(DType::BF16) }],
            tensors: vec![TensorView { strides, ..view(&[2, 3], 0) }],
            compressed: Vec::new(),
        };
        assert_eq!(layout(Some(vec![1, 2])).check(12), Ok(()));
        assert!(layout(Some(vec![3, 1])).check(12).is_err(), "said without strides");
    }

    #[test]
    fn compressed_runs_tile_the_file_with_their_own_length() {
        let segment = |len, dtype| Segment { len, dtype };
        let with = Compression::Zlib { level: 6 };
        let layout = Layout {
            format: "test".to_owned(),
            segments: vec![segment(5, None), segment(8, None), segment(12, Some(DType::BF16)), segment(3, None)],
            tensors: vec![
                TensorView { segment: 2, ..view(&[6], 0) },
                TensorView { segment: 3, dtype: DType::U8, ..view(&[3], 0) },
            ],
            compressed: vec![CompressedRun { first: 1, count: 2, len: 7, with }],
        };
        assert_eq!(layout.check(15), Ok(()));
        assert_eq!(layout.expanded_len(), 28);
        assert!(matches!(layout.check(28), Err(LayoutError::Tiling { covered: 15, .. })));
        let plain = layout.without_compressed();
        assert_eq!(plain.segments, [segment(5, None), segment(7, None), segment(3, None)]);
        assert_eq!(plain.tensors, [TensorView { segment: 2, ..layout.tensors[1].clone() }]);
        assert_eq!(plain.check(15), Ok(()));
        for (first, count) in [(1, 0), (3, 2), (usize::MAX, 2)] {
            let mut bad = layout.clone();
            bad.compressed.push(CompressedRun { first, count, len: 0, with });
            assert_eq!(bad.check(15), Err(LayoutError::Compressed(1)));
        }
        for compression in Compression::all() {
            assert_eq!(Compression::from_name(&compression.to_string()), Some(compression));
        }
    }

    #[test]
    fn check_finds_what_does_not_fit() {
        let mut layout = Layout {
            format: "test".to_owned(),
            segments: vec![Segment { len: 8, dtype: None }, Segment { len: 12, dtype: Some(DType::BF16) }],
            tensors: vec![view(&[2, 3], 0), view(&[], 10), view(&[0, u64::MAX, u64::MAX], 12)],
            compressed: Vec::new(),
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
