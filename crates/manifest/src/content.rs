//! The content manifest: the bytes and the layout of one file, and nothing about how they are stored or where they came
//! from. Its id is the SHA-256 of its canonical JSON.
//!
//! Version 1: `type` "manifest", `version` 1, `format` (text), `size` (bytes), `sha256` (of the whole file), `cut` (largest
//! block in bytes), `segments` and `tensors` (arrays, in file order).
//! - A segment has `len` (bytes), `blocks` (array of block ids, in order) and, where it holds tensor data, `dtype`: then all
//!   its blocks but the last have the length that the cut gives that type. The lengths of opaque blocks are in `lengths`
//!   (bytes), which is absent where there is one block or none.
//! - A tensor has `name`, `dtype`, `shape` (elements), `segment` (index) and, unless it is 0, `offset` (bytes in the segment).
//!
//! Version 2 is written where, and only where, version 1 cannot say what there is to say:
//! - `strides` (array, elements) of a tensor that is not row-major.
//! - `compressed` (array, in file order), where the file holds runs of segments compressed: `first` (index of a segment), `count`
//!   (of segments), `len` (bytes in the file), `with` (how). Segments then tile the expanded file, blocks are of expanded bytes,
//!   and `size` and `sha256` are of the file as it is.

use std::collections::BTreeMap;

use serde_json::Value;
use shard_core::limits::{Cut, MAX_NAME};
use shard_core::{CompressedRun, Compression, DType, Digest, Layout, LayoutError, Segment, TensorView, sha256};
use thiserror::Error;

use crate::canonical;
use crate::object::{self, Fields, ObjectError, ObjectReader, ObjectWriter};

const KIND: &str = "manifest";
/// The newest version.
const VERSION: u64 = 2;

/// The members of the manifest that are not unknown fields, without type and version.
pub(crate) const FIELDS: &[&str] = &["compressed", "cut", "format", "segments", "sha256", "size", "tensors"];
/// Of a segment. `tensor` is how the joined form refers to a tensor that lists the blocks.
const SEGMENT_FIELDS: &[&str] = &["blocks", "dtype", "len", "lengths", "tensor"];
/// Of a tensor. `blocks` belongs to the joined form.
const TENSOR_FIELDS: &[&str] = &["blocks", "dtype", "name", "offset", "segment", "shape", "strides"];

/// A block of a file: its id, which is the SHA-256 of its decoded bytes, and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockSpan {
    /// The block's id.
    pub id: Digest,
    /// Its decoded length in bytes, never 0.
    pub len: u32,
}

/// A segment of a file and the blocks that it is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSegment {
    /// Length in bytes.
    pub len: u64,
    /// The element type of tensor data; `None` for opaque bytes.
    pub dtype: Option<DType>,
    /// The blocks, in order, without holes; none where `len` is 0.
    pub blocks: Vec<BlockSpan>,
}

/// Fields that this version does not know. They belong to the manifest's identity and are written back as they were read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContentExtra {
    /// Of the manifest itself.
    pub fields: Fields,
    /// Of segments, by index; only those that have any.
    pub segments: BTreeMap<usize, Fields>,
    /// Of tensors, by index; only those that have any.
    pub tensors: BTreeMap<usize, Fields>,
}

/// What a file consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct ContentManifest {
    /// The name of the format that the file was parsed as, as in its registry.
    pub format: String,
    /// The file's length in bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// How it was cut into blocks.
    pub cut: Cut,
    /// The segments, in file order; their blocks laid end to end are the file, or the expanded file where some of it is
    /// compressed.
    pub segments: Vec<ManifestSegment>,
    /// The tensors, in file order.
    pub tensors: Vec<TensorView>,
    /// The runs of segments that the file holds compressed, in file order.
    pub compressed: Vec<CompressedRun>,
    /// Unknown fields.
    pub extra: ContentExtra,
}

/// A block with its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedBlock {
    /// Index of the segment.
    pub segment: usize,
    /// The segment's element type.
    pub dtype: Option<DType>,
    /// Where the block starts in its segment, in bytes.
    pub segment_offset: u64,
    /// Where the block starts in the (expanded) file, in bytes.
    pub file_offset: u64,
    /// The block.
    pub span: BlockSpan,
}

/// A manifest that is malformed or contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Not canonical JSON, of another type or version, or with missing or malformed fields. Also a manifest over the limits
    /// of canonical JSON: a file with so many tensors can still be kept as opaque bytes.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Segments that do not tile the file, or tensors outside their segment.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A cut that this program does not know.
    #[error("a cut of {0} bytes is not known")]
    Cut(u64),
    /// A compression that this program does not know.
    #[error("the compression {0:?} is not known")]
    Compression(String),
    /// An element type that this program does not know.
    #[error("the element type {0:?} is not known")]
    DType(String),
    /// Blocks that do not fill their segment, or not as the cut has it.
    #[error("the blocks of segment {0} do not fill it as the cut has it")]
    Blocks(usize),
    /// A joined manifest whose parts contradict one another.
    #[error("the block ids of a joined manifest contradict one another")]
    Joined,
}

impl ContentManifest {
    /// The canonical JSON.
    ///
    /// # Errors
    /// [`ManifestError`] where [`Self::from_bytes`] would refuse the bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        Ok(object::seal(self.to_fields()?, KIND, self.version())?)
    }

    /// The id and the canonical JSON that it is the SHA-256 of.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn encode(&self) -> Result<(Digest, Vec<u8>), ManifestError> {
        let bytes = self.to_bytes()?;
        Ok((sha256(&bytes), bytes))
    }

    /// The id: SHA-256 of the canonical JSON.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn id(&self) -> Result<Digest, ManifestError> {
        Ok(self.encode()?.0)
    }

    /// Reads the canonical JSON.
    ///
    /// # Errors
    /// [`ManifestError`] for anything that [`Self::to_bytes`] does not write; [`ObjectError::Newer`] for one that a newer
    /// version of it wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let reader = ObjectReader::open(bytes, KIND, VERSION)?;
        let version = reader.version();
        let manifest = Self::from_reader(reader)?;
        if manifest.version() != version {
            let expected = "the oldest version that can say it";
            return Err(ObjectError::Invalid { field: "version".to_owned(), expected }.into());
        }
        Ok(manifest)
    }

    /// The layout that the file was cut by.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            format: self.format.clone(),
            segments: self.segments.iter().map(|s| Segment { len: s.len, dtype: s.dtype }).collect(),
            tensors: self.tensors.clone(),
            compressed: self.compressed.clone(),
        }
    }

    /// The version that is written: the oldest that can say it.
    pub(crate) fn version(&self) -> u64 {
        let is_plain = self.compressed.is_empty() && self.tensors.iter().all(|tensor| tensor.strides.is_none());
        if is_plain { 1 } else { VERSION }
    }

    /// Checks that segments tile the file, tensors lie in their segments, and blocks follow the cut.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format.len() > MAX_NAME {
            return Err(ObjectError::Invalid { field: "format".to_owned(), expected: "a short name" }.into());
        }
        self.layout().check(self.size)?;
        for (index, segment) in self.segments.iter().enumerate() {
            let expected = segment.dtype.map(|dtype| self.cut.tensor_block(dtype) as u64);
            let mut left = segment.len;
            for block in &segment.blocks {
                let len = u64::from(block.len);
                let fits = match expected {
                    Some(expected) => len == expected.min(left),
                    None => len <= left && len <= self.cut.block() as u64,
                };
                if len == 0 || !fits {
                    return Err(ManifestError::Blocks(index));
                }
                left -= len;
            }
            if left != 0 {
                return Err(ManifestError::Blocks(index));
            }
        }
        Ok(())
    }

    /// Every block, in file order; laid end to end they are the (expanded) file.
    pub fn blocks(&self) -> impl Iterator<Item = PlacedBlock> + '_ {
        let mut file_offset = 0u64;
        self.segments
            .iter()
            .enumerate()
            .flat_map(|(index, segment)| segment.blocks.iter().map(move |b| (index, segment.dtype, b)))
            .scan((usize::MAX, 0u64), move |(last, segment_offset), (segment, dtype, span)| {
                if *last != segment {
                    (*last, *segment_offset) = (segment, 0);
                }
                let placed = PlacedBlock { segment, dtype, segment_offset: *segment_offset, file_offset, span: *span };
                *segment_offset += u64::from(span.len);
                file_offset += u64::from(span.len);
                Some(placed)
            })
    }

    /// Where each segment starts in the (expanded) file, in bytes.
    #[must_use]
    pub fn segment_offsets(&self) -> Vec<u64> {
        let starts = self.segments.iter().scan(0u64, |at, segment| {
            let start = *at;
            *at = at.saturating_add(segment.len);
            Some(start)
        });
        starts.collect()
    }

    /// The blocks that hold a tensor's bytes, and where the first of them starts in the segment, in bytes. Empty for a tensor
    /// without elements, and for a view that is not of this manifest.
    #[must_use]
    pub fn tensor_blocks(&self, view: &TensorView) -> (&[BlockSpan], u64) {
        let (Some(segment), Some(len)) = (self.segments.get(view.segment), view.byte_len()) else { return (&[], 0) };
        let Some(end) = view.offset.checked_add(len).filter(|end| *end <= segment.len && len > 0) else {
            return (&[], 0);
        };
        let (first, last, start) = match segment.dtype.map(|dtype| self.cut.tensor_block(dtype) as u64) {
            Some(block) => (view.offset / block, end.div_ceil(block), view.offset / block * block),
            None => opaque_blocks(&segment.blocks, view.offset, end),
        };
        let range = usize::try_from(first).ok().zip(usize::try_from(last).ok());
        match range.and_then(|(first, last)| segment.blocks.get(first..last)) {
            Some(blocks) => (blocks, start),
            None => (&[], 0),
        }
    }

    /// The content of a tensor as a digest of its block ids; equal for equal bytes of the same type under the same cut, and
    /// to what [`TensorHasher`](crate::TensorHasher) makes of the bytes. `None` where the tensor is not made of whole blocks
    /// cut from its own start: then its bytes must be read.
    #[must_use]
    pub fn tensor_content(&self, view: &TensorView) -> Option<Digest> {
        let segment = self.segments.get(view.segment)?;
        let block = self.cut.tensor_block(view.dtype);
        if view.byte_len()? > 0 && segment.dtype.map(|dtype| self.cut.tensor_block(dtype)) != Some(block) {
            return None;
        }
        let (blocks, start) = self.tensor_blocks(view);
        let lead = view.offset.checked_sub(start).filter(|_| !blocks.is_empty()).unwrap_or(0);
        crate::content_digest(blocks, lead, view.byte_len()?)
    }

    /// The fields, without type and version.
    pub(crate) fn to_fields(&self) -> Result<Fields, ManifestError> {
        self.check()?;
        let none = Fields::new();
        let mut segments = Vec::with_capacity(self.segments.len());
        for (index, segment) in self.segments.iter().enumerate() {
            let extra = self.extra.segments.get(&index).unwrap_or(&none);
            let mut writer = ObjectWriter::new(extra, SEGMENT_FIELDS)?;
            writer
                .put("len", canonical::integer(segment.len))
                .put("blocks", segment.blocks.iter().map(|block| object::digest(&block.id)).collect::<Vec<_>>())
                .put_some("dtype", segment.dtype.map(DType::name));
            if segment.dtype.is_none() && segment.blocks.len() > 1 {
                writer.put("lengths", segment.blocks.iter().map(|block| block.len).collect::<Vec<_>>());
            }
            segments.push(Value::Object(writer.into_fields()));
        }
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for (index, tensor) in self.tensors.iter().enumerate() {
            let extra = self.extra.tensors.get(&index).unwrap_or(&none);
            let mut writer = ObjectWriter::new(extra, TENSOR_FIELDS)?;
            writer
                .put("name", tensor.name.as_str())
                .put("dtype", tensor.dtype.name())
                .put("shape", integers(&tensor.shape))
                .put("segment", tensor.segment)
                .put_some("offset", (tensor.offset > 0).then(|| canonical::integer(tensor.offset)))
                .put_some("strides", tensor.strides.as_ref().map(|strides| integers(strides)));
            tensors.push(Value::Object(writer.into_fields()));
        }
        let compressed: Vec<Value> = self.compressed.iter().map(compressed_value).collect();
        let strays = |extra: &BTreeMap<usize, Fields>, count| extra.keys().any(|index| *index >= count);
        if strays(&self.extra.segments, self.segments.len()) || strays(&self.extra.tensors, self.tensors.len()) {
            return Err(ObjectError::Unexpected("extra".to_owned()).into());
        }
        let mut writer = ObjectWriter::new(&self.extra.fields, &[FIELDS, &["type", "version"]].concat())?;
        writer
            .put("format", self.format.as_str())
            .put("size", canonical::integer(self.size))
            .put("sha256", object::digest(&self.sha256))
            .put("cut", self.cut.block())
            .put("segments", segments)
            .put("tensors", tensors)
            .put_some("compressed", (!compressed.is_empty()).then_some(compressed));
        Ok(writer.into_fields())
    }

    /// Reads the fields; those that are left are unknown.
    pub(crate) fn from_reader(mut reader: ObjectReader) -> Result<Self, ManifestError> {
        let format = reader.string("format")?;
        let size = reader.integer("size")?;
        let sha256 = reader.digest("sha256")?;
        let block = reader.integer("cut")?;
        let cut = Cut::from_block(block).ok_or(ManifestError::Cut(block))?;
        let mut extra = ContentExtra::default();
        let mut segments = Vec::new();
        for (index, value) in reader.array("segments")?.into_iter().enumerate() {
            let (segment, unknown) = read_segment(value, index, cut)?;
            segments.push(segment);
            if !unknown.is_empty() {
                extra.segments.insert(index, unknown);
            }
        }
        let mut tensors = Vec::new();
        for (index, value) in reader.array("tensors")?.into_iter().enumerate() {
            let (tensor, unknown) = read_tensor(value, index)?;
            tensors.push(tensor);
            if !unknown.is_empty() {
                extra.tensors.insert(index, unknown);
            }
        }
        let compressed = reader.optional_array("compressed")?.map(read_compressed).transpose()?.unwrap_or_default();
        extra.fields = reader.unknown();
        let manifest = Self { format, size, sha256, cut, segments, tensors, compressed, extra };
        manifest.check()?;
        Ok(manifest)
    }
}

fn integers(numbers: &[u64]) -> Vec<Value> {
    numbers.iter().map(|number| canonical::integer(*number)).collect()
}

fn compressed_value(run: &CompressedRun) -> Value {
    let mut fields = Fields::new();
    fields.insert("first".to_owned(), run.first.into());
    fields.insert("count".to_owned(), run.count.into());
    fields.insert("len".to_owned(), canonical::integer(run.len));
    fields.insert("with".to_owned(), run.with.to_string().into());
    Value::Object(fields)
}

fn read_compressed(values: Vec<Value>) -> Result<Vec<CompressedRun>, ManifestError> {
    let read = |(index, value)| {
        let mut reader = ObjectReader::nested(value, &format!("compressed[{index}]"))?;
        let number = |number: u64| usize::try_from(number).map_err(|_| LayoutError::Compressed(index));
        let first = number(reader.integer("first")?)?;
        let count = number(reader.integer("count")?)?;
        let len = reader.integer("len")?;
        let with = reader.string("with")?;
        let with = Compression::from_name(&with).ok_or(ManifestError::Compression(with))?;
        reader.finish()?;
        Ok(CompressedRun { first, count, len, with })
    };
    values.into_iter().enumerate().map(read).collect()
}

/// Of blocks of any length, the first that holds a byte of `offset..end`, the one after the last, and where the first
/// starts, in bytes.
fn opaque_blocks(blocks: &[BlockSpan], offset: u64, end: u64) -> (u64, u64, u64) {
    let (mut first, mut last, mut start, mut at) = (0, 0, 0, 0u64);
    for block in blocks {
        if at >= end {
            break;
        }
        let next = at + u64::from(block.len);
        if next <= offset {
            (first, start) = (first + 1, next);
        }
        (last, at) = (last + 1, next);
    }
    (first, last, start)
}

fn read_segment(value: Value, index: usize, cut: Cut) -> Result<(ManifestSegment, Fields), ManifestError> {
    let mut reader = ObjectReader::nested(value, &format!("segments[{index}]"))?;
    let len = reader.integer("len")?;
    let dtype = reader.optional_string("dtype")?.map(read_dtype).transpose()?;
    let ids = reader.digests("blocks")?;
    let lengths = match dtype {
        Some(dtype) => tensor_lengths(len, cut.tensor_block(dtype) as u64, ids.len()),
        None if ids.len() > 1 => Some(reader.integers("lengths")?),
        None => Some(ids.iter().map(|_| len).collect()),
    };
    let lengths = lengths.filter(|lengths| lengths.len() == ids.len()).ok_or(ManifestError::Blocks(index))?;
    let spans = ids
        .into_iter()
        .zip(lengths)
        .map(|(id, len)| Ok(BlockSpan { id, len: u32::try_from(len).map_err(|_| ManifestError::Blocks(index))? }));
    let blocks = spans.collect::<Result<Vec<_>, ManifestError>>()?;
    for reserved in ["lengths", "tensor"] {
        if reader.take(reserved).is_some() {
            return Err(ObjectError::Unexpected(reader.locate(reserved)).into());
        }
    }
    Ok((ManifestSegment { len, dtype, blocks }, reader.unknown()))
}

/// The lengths of the `count` blocks of a tensor segment, all but the last `block` bytes; `None` where `len` bytes have
/// another number of blocks.
fn tensor_lengths(len: u64, block: u64, count: usize) -> Option<Vec<u64>> {
    if len.div_ceil(block) != count as u64 {
        return None;
    }
    Some((0..count as u64).map(|index| block.min(len - index * block)).collect())
}

fn read_tensor(value: Value, index: usize) -> Result<(TensorView, Fields), ManifestError> {
    let mut reader = ObjectReader::nested(value, &format!("tensors[{index}]"))?;
    let name = reader.string("name")?;
    let dtype = read_dtype(reader.string("dtype")?)?;
    let shape = reader.integers("shape")?;
    let segment = reader.integer("segment")?;
    let segment = usize::try_from(segment).map_err(|_| LayoutError::Tensor(name.clone()))?;
    let offset = match reader.optional_integer("offset")? {
        Some(0) => return Err(reader.invalid("offset", "absent where it is 0").into()),
        offset => offset.unwrap_or(0),
    };
    let strides = reader.optional_integers("strides")?;
    if reader.take("blocks").is_some() {
        return Err(ObjectError::Unexpected(reader.locate("blocks")).into());
    }
    Ok((TensorView { name, dtype, shape, segment, offset, strides }, reader.unknown()))
}

fn read_dtype(name: String) -> Result<DType, ManifestError> {
    DType::from_name(&name).ok_or_else(|| ManifestError::DType(name.chars().take(80).collect()))
}

#[cfg(test)]
pub(crate) mod tests;
