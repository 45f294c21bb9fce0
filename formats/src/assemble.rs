//! A layout, put together from where the tensors of a file lie.
//!
//! A tensor that shares no byte with another has a segment of its own, so that it is cut as it would be in any other file.
//! Tensors that share bytes (tied weights, views of one storage) share a segment. All else is opaque; a long run of it that
//! begins something (a member of an archive) has a segment of its own too, so that its chunks are those that it has anywhere.

use std::iter::Peekable;
use std::vec;

use shard_core::limits::MAX_NAME;
use shard_core::{CompressedRun, Compression, DType, Layout, Segment, TensorView};

use crate::compress::pieces;
use crate::distinct::make_distinct;
use crate::format::{FormatError, FormatErrorKind};
use crate::json::{MAX_ENTRIES, repeated};

/// Most tensors in a file.
pub(crate) const MAX_TENSORS: usize = MAX_ENTRIES;

/// Most dimensions of a tensor: what NumPy and PyTorch allow.
pub(crate) const MAX_RANK: usize = 64;

/// Shortest run of opaque bytes that has a segment of its own, in bytes: a chunk of their own is worth its record only where
/// there is something to find again.
pub(crate) const OWN_SEGMENT: u64 = 64 << 10;

/// A tensor and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// Elements, slowest first.
    pub(crate) shape: Vec<u64>,
    /// Elements; `None` for row-major order.
    pub(crate) strides: Option<Vec<u64>>,
    /// Offset of the first byte in the file.
    pub(crate) start: u64,
}

impl Located {
    /// The length of the tensor in bytes; `None` for a shape that its type cannot have.
    fn byte_len(&self) -> Option<u64> {
        let elements = match self.shape.contains(&0) {
            true => 0,
            false => self.shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))?,
        };
        self.dtype.byte_len(elements)
    }

    /// The offset behind the last byte; `None` where there is no such offset.
    pub(crate) fn end(&self) -> Option<u64> {
        self.start.checked_add(self.byte_len()?)
    }
}

/// A part of the file that is compressed, and what it holds.
struct CompressedPart {
    start: u64,
    len: u64,
    with: Compression,
    layout: Layout,
    /// Tensors that are not compressed and were added before it.
    after: usize,
}

/// A tensor with its bytes' end.
struct Placed {
    located: Located,
    end: u64,
}

/// Collects tensors and makes a layout of them.
#[derive(Default)]
pub(crate) struct Assembler {
    tensors: Vec<Located>,
    compressed: Vec<CompressedPart>,
    /// Where opaque bytes are parted, in bytes from the start of the file.
    parted: Vec<u64>,
    too_many: bool,
}

impl Assembler {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor. The order is of no account.
    pub(crate) fn add(&mut self, tensor: Located) {
        if self.tensors.len() < MAX_TENSORS {
            self.tensors.push(tensor);
        } else {
            self.too_many = true;
        }
    }

    /// Says that `len` opaque bytes from `start` on belong together: where no tensor has them, they have a segment of their own
    /// unless they are fewer than [`OWN_SEGMENT`].
    pub(crate) fn add_opaque(&mut self, start: u64, len: u64) {
        if len >= OWN_SEGMENT {
            self.parted.extend([start, start.saturating_add(len)]);
        }
    }

    /// Adds the tensors and the long opaque segments of a file that lies in this one from `start` on, with `prefix` before the
    /// tensors' names, and what it holds compressed.
    pub(crate) fn add_layout(&mut self, start: u64, prefix: &str, layout: &Layout) {
        let starts = layout.segment_offsets();
        let mut tensors = layout.tensors.iter().peekable();
        for piece in pieces(layout.segments.iter().map(|segment| segment.len), &layout.compressed) {
            let first = piece.segments.start;
            let mut inside = Vec::new();
            while let Some(tensor) = tensors.next_if(|tensor| tensor.segment < piece.segments.end) {
                inside.push(TensorView { segment: tensor.segment.saturating_sub(first), ..tensor.clone() });
            }
            let segments = layout.segments.get(piece.segments.clone()).unwrap_or_default();
            let at = start.saturating_add(piece.file.start);
            if let Some(with) = piece.with {
                let layout = Layout { tensors: inside, segments: segments.to_vec(), ..empty(&layout.format) };
                self.add_compressed(at, piece.file.end - piece.file.start, with, prefix, layout);
                continue;
            }
            let offset = |segment: usize| {
                let offset = starts.get(first + segment).copied().unwrap_or(u64::MAX);
                at.saturating_add(offset.saturating_sub(piece.expanded.start))
            };
            for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.dtype.is_none()) {
                self.add_opaque(offset(index), segment.len);
            }
            for tensor in inside {
                let start = offset(tensor.segment).saturating_add(tensor.offset);
                let name = format!("{prefix}{}", tensor.name);
                self.add(Located { name, dtype: tensor.dtype, shape: tensor.shape, strides: tensor.strides, start });
            }
        }
    }

    /// Adds `len` bytes from `start` on that expand to a file with that layout.
    pub(crate) fn add_compressed(&mut self, start: u64, len: u64, with: Compression, prefix: &str, mut layout: Layout) {
        if !layout.segments.is_empty() && layout.compressed.is_empty() {
            layout.tensors.iter_mut().for_each(|tensor| tensor.name.insert_str(0, prefix));
            self.compressed.push(CompressedPart { start, len, with, layout, after: self.tensors.len() });
        }
    }

    /// [`Self::finish`] for a file that may hold several tensors of a name, as archives do: they are told apart by numbers, in the order
    /// in which they were added.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn finish_distinct(mut self, format: &str, file_len: u64) -> Result<Layout, FormatError> {
        let mut names = Vec::new();
        let mut plain = self.tensors.iter_mut().map(|tensor| &mut tensor.name);
        let mut before = 0;
        for part in &mut self.compressed {
            names.extend(plain.by_ref().take(part.after.saturating_sub(before)));
            before = part.after;
            names.extend(part.layout.tensors.iter_mut().map(|tensor| &mut tensor.name));
        }
        names.extend(plain);
        make_distinct(&mut names);
        self.finish(format, file_len)
    }

    /// The layout of a file of `file_len` bytes.
    ///
    /// # Errors
    /// [`FormatError`] for tensors outside the file or too large to count, of the same name, with more dimensions or longer
    /// names than shard follows, or too many of them; for compressed parts that overlap anything.
    pub(crate) fn finish(self, format: &str, file_len: u64) -> Result<Layout, FormatError> {
        if self.too_many {
            return Err(FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_TENSORS} tensors")));
        }
        let inner = self.compressed.iter().flat_map(|part| part.layout.tensors.iter().map(|tensor| &tensor.name));
        let names = self.tensors.iter().map(|tensor| &tensor.name).chain(inner);
        if let Some(name) = repeated(names.map(String::as_str)) {
            let message = format!("the tensor {:?} comes twice", shown(name));
            return Err(FormatError::new(FormatErrorKind::Duplicate, message));
        }
        let mut placed =
            self.tensors.into_iter().map(|tensor| place(tensor, file_len)).collect::<Result<Vec<_>, _>>()?;
        // Of those that start together the longest comes first, so that it begins their segment; those without bytes share none.
        placed.sort_by(|a, b| {
            let key = |tensor: &Placed| {
                let start = tensor.located.start;
                (start, tensor.end > start, std::cmp::Reverse(tensor.end))
            };
            key(a).cmp(&key(b)).then_with(|| a.located.name.cmp(&b.located.name))
        });
        let mut compressed = self.compressed;
        compressed.sort_by_key(|part| part.start);
        let mut parted = self.parted;
        parted.sort_unstable();
        let mut tiling = Tiling { file_len, at: 0, parted: parted.into_iter().peekable(), layout: empty(format) };
        let mut parts = compressed.into_iter().peekable();
        let mut tensors = placed.into_iter().peekable();
        while let Some(first) = tensors.next() {
            while let Some(part) = parts.next_if(|part| part.start < first.located.start) {
                tiling.compressed(part)?;
            }
            let mut end = first.end;
            let mut cluster = vec![first];
            while let Some(next) = tensors.next_if(|next| next.located.start < end) {
                end = end.max(next.end);
                cluster.push(next);
            }
            tiling.cluster(cluster, end)?;
        }
        for part in parts {
            tiling.compressed(part)?;
        }
        tiling.opaque_up_to(file_len)?;
        Ok(tiling.layout)
    }
}

fn empty(format: &str) -> Layout {
    Layout { format: format.to_owned(), segments: Vec::new(), tensors: Vec::new(), compressed: Vec::new() }
}

/// The start of a name, for a message.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

fn place(tensor: Located, file_len: u64) -> Result<Placed, FormatError> {
    let fail = |kind, what: &str| Err(FormatError::new(kind, format!("tensor {:?} {what}", shown(&tensor.name))));
    if tensor.name.len() > MAX_NAME {
        return fail(FormatErrorKind::Limit, "has a name longer than shard follows");
    }
    if tensor.shape.len() > MAX_RANK {
        return fail(FormatErrorKind::Limit, "has more dimensions than shard follows");
    }
    let Some(len) = tensor.byte_len() else {
        return fail(FormatErrorKind::Malformed, "has a shape that its type cannot have");
    };
    match tensor.start.checked_add(len) {
        Some(end) if end <= file_len => Ok(Placed { located: tensor, end }),
        _ => fail(FormatErrorKind::Truncated, "lies beyond the end of the file"),
    }
}

/// A layout that has come to byte `at` of the file.
struct Tiling {
    file_len: u64,
    at: u64,
    /// Where opaque bytes are parted, in order.
    parted: Peekable<vec::IntoIter<u64>>,
    layout: Layout,
}

impl Tiling {
    /// Everything up to `end` that no tensor has.
    fn opaque_up_to(&mut self, end: u64) -> Result<(), FormatError> {
        if end < self.at || end > self.file_len {
            return Err(FormatError::new(FormatErrorKind::Overlap, "compressed data overlaps other data"));
        }
        while self.at < end {
            let to = self.parted.next_if(|parted| *parted < end).unwrap_or(end);
            if to > self.at {
                self.layout.segments.push(Segment { len: to - self.at, dtype: None });
                self.at = to;
            }
        }
        Ok(())
    }

    /// Tensors that share bytes, in one segment that ends at `end`.
    fn cluster(&mut self, cluster: Vec<Placed>, end: u64) -> Result<(), FormatError> {
        let Some(start) = cluster.first().map(|first| first.located.start) else { return Ok(()) };
        self.opaque_up_to(start)?;
        let len = end - start;
        // The type of the first whose storage units fill the segment.
        let fills = |dtype: &DType| len.is_multiple_of(dtype.storage_unit().1);
        let dtype = cluster.iter().map(|tensor| tensor.located.dtype).find(fills).unwrap_or(DType::U8);
        self.layout.segments.push(Segment { len, dtype: Some(dtype) });
        let segment = self.layout.segments.len() - 1;
        for Placed { located, .. } in cluster {
            let Located { name, dtype, shape, strides, start: from } = located;
            let mut tensor = TensorView { name, dtype, shape, segment, offset: from - start, strides };
            if tensor.is_row_major() {
                tensor.strides = None;
            }
            self.layout.tensors.push(tensor);
        }
        self.at = end;
        Ok(())
    }

    fn compressed(&mut self, part: CompressedPart) -> Result<(), FormatError> {
        self.opaque_up_to(part.start)?;
        let end = part.start.saturating_add(part.len);
        if end > self.file_len {
            return Err(FormatError::new(
                FormatErrorKind::Truncated,
                "compressed data goes beyond the end of the file",
            ));
        }
        let first = self.layout.segments.len();
        let count = part.layout.segments.len();
        self.layout.segments.extend(part.layout.segments);
        self.layout.tensors.extend(
            part.layout.tensors.into_iter().map(|tensor| TensorView { segment: tensor.segment + first, ..tensor }),
        );
        self.layout.compressed.push(CompressedRun { first, count, len: part.len, with: part.with });
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn located(name: &str, dtype: DType, shape: &[u64], start: u64) -> Located {
        Located { name: name.to_owned(), dtype, shape: shape.to_vec(), strides: None, start }
    }

    fn assemble(tensors: &[Located], len: u64) -> Result<Layout, FormatError> {
        let mut assembler = Assembler::new();
        tensors.iter().for_each(|tensor| assembler.add(tensor.clone()));
        let layout = assembler.finish("test", len)?;
        assert_eq!(layout.check(len), Ok(()));
        Ok(layout)
    }

    fn lens(layout: &Layout) -> Vec<(u64, Option<DType>)> {
        layout.segments.iter().map(|segment| (segment.len, segment.dtype)).collect()
    }

    #[test]
    fn tensors_have_their_own_segments_unless_they_share_bytes() {
        use DType::{BF16, F32, U8};
        let layout = assemble(
            &[
                located("b", F32, &[2], 18),
                located("a", F32, &[2], 10),
                located("empty", BF16, &[0, 9], 26),
                located("tied", F32, &[2], 30),
                located("part", U8, &[5], 31),
                located("over", BF16, &[2], 35),
                located("whole", F32, &[2], 30),
            ],
            50,
        )
        .unwrap();
        let expected =
            [(10, None), (8, Some(F32)), (8, Some(F32)), (0, Some(BF16)), (4, None), (9, Some(U8)), (11, None)];
        assert_eq!(lens(&layout), expected);
        let views: Vec<_> = layout.tensors.iter().map(|t| (t.name.as_str(), t.segment, t.offset)).collect();
        let expected = [
            ("a", 1, 0),
            ("b", 2, 0),
            ("empty", 3, 0),
            ("tied", 5, 0),
            ("whole", 5, 0),
            ("part", 5, 1),
            ("over", 5, 5),
        ];
        assert_eq!(views, expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        use FormatErrorKind::{Duplicate, Limit, Malformed, Truncated};
        let one = |tensor| assemble(&[tensor], 50).map_err(|error| error.kind()).err();
        assert_eq!(one(located("a", DType::F32, &[2], 42)), None);
        assert_eq!(one(located("a", DType::F32, &[2], 43)), Some(Truncated));
        assert_eq!(one(located("a", DType::F32, &[2], u64::MAX)), Some(Truncated));
        assert_eq!(one(located("a", DType::F32, &[u64::MAX, 2], 0)), Some(Malformed));
        assert_eq!(one(located("a", DType::Q4_0, &[33], 0)), Some(Malformed));
        assert_eq!(one(located("a", DType::F32, &[1; 65], 0)), Some(Limit));
        assert_eq!(one(located(&"n".repeat(5000), DType::F32, &[1], 0)), Some(Limit));
        let twice = [located("a", DType::F32, &[1], 0), located("a", DType::F32, &[1], 8)];
        assert_eq!(assemble(&twice, 50).unwrap_err().kind(), Duplicate);
    }

    #[test]
    fn compressed_parts_bring_their_own_tensors() {
        let mut inner = Assembler::new();
        inner.add(located("x", DType::F32, &[4], 8));
        let inner = inner.finish("inner", 30).unwrap();
        let with = Compression::Zlib { level: 1 };
        let assemble = |start| {
            let mut outer = Assembler::new();
            outer.add(located("a", DType::F32, &[2], 0));
            outer.add(located("z", DType::F32, &[2], 30));
            outer.add_compressed(start, 10, with, "m/", inner.clone());
            outer.finish("outer", 40)
        };
        let layout = assemble(12).unwrap();
        assert_eq!(layout.check(40), Ok(()));
        assert_eq!(layout.compressed, [CompressedRun { first: 2, count: 3, len: 10, with }]);
        let views: Vec<_> = layout.tensors.iter().map(|t| (t.name.as_str(), t.segment)).collect();
        assert_eq!(views, [("a", 0), ("m/x", 3), ("z", 6)]);
        for start in [7, 21, 31, u64::MAX] {
            assert!(assemble(start).is_err(), "{start}");
        }
    }

    #[test]
    fn long_opaque_runs_have_their_own_segments() {
        const LONG: u64 = OWN_SEGMENT;
        let f32 = Some(DType::F32);
        let mut assembler = Assembler::new();
        assembler.add(located("a", DType::F32, &[2], 100));
        assembler.add_opaque(10, LONG - 1);
        assembler.add_opaque(200, LONG);
        assembler.add_opaque(200 + LONG, LONG + 1);
        // Twice, partly under a tensor, and beyond the end.
        assembler.add_opaque(200, LONG);
        assembler.add_opaque(104, LONG);
        assembler.add_opaque(u64::MAX - 3, LONG);
        let layout = assembler.finish("test", 3 * LONG).unwrap();
        assert_eq!(layout.check(3 * LONG), Ok(()));
        let expected =
            [(100, None), (8, f32), (92, None), (LONG - 96, None), (96, None), (LONG + 1, None), (LONG - 201, None)];
        assert_eq!(lens(&layout), expected);
        let mut outer = Assembler::new();
        outer.add_layout(50, "m/", &layout);
        let outer = outer.finish("test", 4 * LONG).unwrap();
        assert_eq!(outer.check(4 * LONG), Ok(()));
        let expected = [(150, None), (8, f32), (LONG + 92, None), (LONG + 1, None), (2 * LONG - 251, None)];
        assert_eq!(lens(&outer), expected, "short ones are joined with what is beside them");
    }

    proptest! {
        #[test]
        fn any_runs_and_tensors_tile_the_file(
            tensors in prop::collection::vec((0u64..9, 0u64..3), 0..4),
            runs in prop::collection::vec((0u64..12, 0u64..12), 0..6),
        ) {
            const PART: u64 = OWN_SEGMENT / 2;
            let mut assembler = Assembler::new();
            for (index, (start, dim)) in tensors.iter().enumerate() {
                assembler.add(located(&index.to_string(), DType::U8, &[dim * PART], start * PART));
            }
            for (start, len) in &runs {
                assembler.add_opaque(start * PART, len * PART);
            }
            let layout = assembler.finish("test", 11 * PART).unwrap();
            prop_assert_eq!(layout.check(11 * PART), Ok(()));
            prop_assert!(layout.segments.iter().all(|segment| segment.dtype.is_some() || segment.len > 0));
            // Where a run starts or ends, an opaque segment does too, or a tensor lies there.
            let starts = layout.segment_offsets();
            for (start, len) in runs.iter().filter(|(_, len)| *len > 1) {
                for edge in [*start, start + len].into_iter().filter(|edge| *edge < 11) {
                    let covered = tensors.iter().any(|(start, dim)| (*start..start + dim).contains(&edge));
                    prop_assert!(covered || starts.contains(&(edge * PART)));
                }
            }
        }

        #[test]
        fn any_tensors_make_a_layout_or_an_error(
            tensors in prop::collection::vec((0u64..70, 0u64..9, prop::sample::select(DType::ALL)), 0..9),
        ) {
            let named = tensors.iter().enumerate().map(|(index, (start, dim, dtype))| {
                located(&index.to_string(), *dtype, &[*dim], *start)
            });
            let named: Vec<Located> = named.collect();
            if let Ok(layout) = assemble(&named, 64) {
                let starts = layout.segment_offsets();
                prop_assert_eq!(layout.tensors.len(), named.len());
                for tensor in &layout.tensors {
                    let index: usize = tensor.name.parse().unwrap();
                    prop_assert_eq!(starts[tensor.segment] + tensor.offset, named[index].start);
                }
            }
        }
    }
}
