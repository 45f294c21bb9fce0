//! A file of a side: where its tensors are, and a way to its bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shard_core::limits::Cut;
use shard_core::{DType, Digest, Layout, Progress, Sha256, TensorView};
use shard_formats::compress::Expanded;
use shard_formats::{FileSource, Source};
use shard_manifest::{BlockSpan, ContentManifest};
use shard_store::EntrySource;

use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};
use crate::snapshot::manifest_of;

/// How often each byte of a file is read at most, on average, for the tensors that view it.
const MOST_OFTEN: u64 = 8;

/// Bytes of a file that are read at a time: they stay in the second-level cache until they have been looked at.
pub(super) const STEP: u64 = 128 << 10;

/// Where the bytes of a compared file are.
#[derive(Clone)]
enum Content {
    File(Arc<Expanded<FileSource>>, PathBuf),
    Stored(Arc<dyn EntrySource + Send>),
}

/// One file of a side.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) layout: Arc<Layout>,
    pub(super) cut: Cut,
    /// What tells it from files with other bytes: its SHA-256; of a file that was not hashed, a digest of its own.
    pub(super) key: Digest,
    /// Where its segments start, in expanded bytes.
    starts: Arc<Vec<u64>>,
    /// Its blocks, where they are known.
    manifest: Option<Arc<ContentManifest>>,
    content: Content,
}

impl Part {
    /// A stored file.
    pub(super) fn stored(manifest: Arc<ContentManifest>, source: Arc<dyn EntrySource + Send>) -> Self {
        Self {
            layout: Arc::new(manifest.layout()),
            cut: manifest.cut,
            key: manifest.sha256,
            starts: Arc::new(manifest.segment_offsets()),
            manifest: Some(manifest),
            content: Content::Stored(source),
        }
    }

    /// A file on disk, which is not read yet.
    pub(super) fn file(source: FileSource, path: PathBuf, layout: Layout, cut: Cut) -> Self {
        static FILES: AtomicU64 = AtomicU64::new(0);
        let mut key = Sha256::new();
        key.update(b"shard file 1\0");
        key.update(&FILES.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let starts = Arc::new(layout.segment_offsets());
        let content = Content::File(Arc::new(Expanded::new(source, &layout)), path);
        Self { layout: Arc::new(layout), cut, key: key.finish(), starts, manifest: None, content }
    }

    /// The same with its blocks known: a file on disk is read for that.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn hashed(&self, progress: &dyn Progress) -> Result<Self> {
        let Content::File(source, path) = &self.content else { return Ok(self.clone()) };
        if self.manifest.is_some() {
            return Ok(self.clone());
        }
        progress.begin("reading", Some(source.file().len()));
        let manifest = manifest_of(source.file(), path, &self.layout, self.cut, progress)?;
        progress.finish();
        let content = match manifest.compressed == self.layout.compressed {
            true => self.content.clone(),
            // A compressed part turned out not to be repeatable, and is kept as it is.
            false => {
                let source = FileSource::open(path).map_err(RepoError::io("cannot open", path))?;
                Content::File(Arc::new(Expanded::new(source, &manifest.layout())), path.clone())
            }
        };
        Ok(Self {
            layout: Arc::new(manifest.layout()),
            key: manifest.sha256,
            starts: Arc::new(manifest.segment_offsets()),
            manifest: Some(Arc::new(manifest)),
            content,
            ..self.clone()
        })
    }

    /// The file, where it is on disk.
    pub(super) fn on_disk(&self) -> Option<(&FileSource, &Path)> {
        match &self.content {
            Content::File(source, path) => Some((source.file(), path)),
            Content::Stored(_) => None,
        }
    }

    /// The blocks of a segment; none where they are not known.
    pub(super) fn blocks(&self, segment: usize) -> &[BlockSpan] {
        let segment = self.manifest.as_ref().and_then(|manifest| manifest.segments.get(segment));
        segment.map_or(&[], |segment| &segment.blocks)
    }

    /// Bytes of its tensors that are read at most: of a few overlapping views all, of a million not.
    pub(super) fn most_bytes(&self) -> u64 {
        self.layout
            .segments
            .iter()
            .fold(0u64, |sum, segment| sum.saturating_add(segment.len))
            .saturating_mul(MOST_OFTEN)
    }

    /// Whether it is best read in order: what is compressed is expanded from its start.
    pub(super) fn is_read_in_order(&self) -> bool {
        matches!(&self.content, Content::File(source, _) if source.is_compressed())
    }

    /// The block that is exactly the run of `len` bytes at `offset` of a tensor, if one is.
    fn block_at(&self, tensor: &TensorView, offset: u64, len: u64) -> Option<Digest> {
        let start = tensor.offset.checked_add(offset)?;
        let block = self.block_bytes(tensor.segment)?;
        let span = self.blocks(tensor.segment).get(usize::try_from(start / block).ok()?)?;
        (start.is_multiple_of(block) && u64::from(span.len) == len).then_some(span.id)
    }

    /// Bytes of all blocks of a tensor's segment but the last.
    fn block_bytes(&self, segment: usize) -> Option<u64> {
        let dtype = self.layout.segments.get(segment)?.dtype?;
        Some(self.cut.tensor_block(dtype).max(1) as u64)
    }

    /// Whether a run of two tensors is known to be the same bytes.
    pub(super) fn same_block(&self, tensor: &TensorView, other: (&Self, &TensorView), offset: u64, len: u64) -> bool {
        let ids = [self.block_at(tensor, offset, len), other.0.block_at(other.1, offset, len)];
        matches!(ids, [Some(a), Some(b)] if a == b)
    }

    /// A digest of everything that is in no tensor's segment.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn other_bytes(&self) -> Result<Digest> {
        let mut hash = Sha256::new();
        let mut reader = PartReader::new(self);
        let mut bytes = Vec::new();
        let opaque = self.layout.segments.iter().enumerate().filter(|(_, segment)| segment.dtype.is_none());
        for (index, segment) in opaque {
            let whole = whole_segment(index, segment.len);
            for offset in (0..segment.len).step_by(STEP as usize) {
                reader.read(&whole, offset, (segment.len - offset).min(STEP), &mut bytes)?;
                hash.update(&bytes);
            }
        }
        Ok(hash.finish())
    }
}

/// A segment as if it were one tensor of bytes.
fn whole_segment(segment: usize, len: u64) -> TensorView {
    TensorView { name: String::new(), dtype: DType::U8, shape: vec![len], segment, offset: 0, strides: None }
}

/// Reads ranges of tensors of one part.
pub(super) struct PartReader<'a> {
    part: &'a Part,
    stored: Option<Stored<'a>>,
}

/// Decodes blocks, and keeps the last one: what is read next is most often in it, too.
struct Stored<'a> {
    reader: Box<BlockReader<'a>>,
    block: Vec<u8>,
    last: Option<Digest>,
}

impl<'a> PartReader<'a> {
    pub(super) fn new(part: &'a Part) -> Self {
        let stored = match &part.content {
            Content::File(..) => None,
            Content::Stored(source) => {
                let reader = Box::new(BlockReader::new(source.as_ref()));
                Some(Stored { reader, block: Vec::new(), last: None })
            }
        };
        Self { part, stored }
    }

    /// Puts `len` bytes at `offset` bytes of a tensor into `out`.
    pub(super) fn read(&mut self, tensor: &TensorView, offset: u64, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let start = tensor.offset + offset;
        match (&self.part.content, &mut self.stored) {
            (Content::Stored(_), Some(Stored { reader, block, last })) => {
                out.clear();
                let end = start + len;
                let block_bytes = self.part.block_bytes(tensor.segment);
                let first = block_bytes.map_or(0, |bytes| start / bytes);
                let mut at = first * block_bytes.unwrap_or(0);
                for span in self.part.blocks(tensor.segment).iter().skip(first as usize) {
                    let next = at + u64::from(span.len);
                    if at >= end {
                        break;
                    }
                    if next > start {
                        if *last != Some(span.id) {
                            *last = None;
                            reader.read(&block_key(span.id), block)?;
                            *last = Some(span.id);
                        }
                        let from = start.saturating_sub(at) as usize;
                        let to = (end.min(next) - at) as usize;
                        out.extend_from_slice(block.get(from..to).ok_or(RepoError::BadBase { block: span.id })?);
                    }
                    at = next;
                }
                Ok(())
            }
            (Content::File(source, path), _) => {
                let before = self.part.starts.get(tensor.segment).copied().unwrap_or(u64::MAX - start);
                out.resize(len as usize, 0);
                source.read_at(before + start, out).map_err(RepoError::io("cannot read", path))
            }
            (Content::Stored(_), None) => Ok(()),
        }
    }
}

/// Bytes of a tensor whose elements are put in order to compare it, at most.
const MOST_ORDERED: u64 = 64 << 20;

/// Whether two tensors of one type can be put in one order, if they are not.
pub(super) fn can_be_ordered(old: &TensorView, new: &TensorView) -> bool {
    let is_small = |tensor: &TensorView| tensor.byte_len().is_some_and(|len| len <= MOST_ORDERED);
    old.dtype.storage_unit().0 == 1 && is_small(old) && is_small(new)
}

/// The bytes of a tensor in row-major order, where they lie otherwise; `None` for those that lie so, that are too large, or whose
/// elements are parts of bytes or share scales.
///
/// # Errors
/// What cannot be read.
pub(super) fn in_order(part: &Part, tensor: &TensorView) -> Result<Option<Vec<u8>>> {
    let Some(strides) = tensor.strides.as_ref().filter(|_| !tensor.is_row_major()) else { return Ok(None) };
    if !can_be_ordered(tensor, tensor) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    PartReader::new(part).read(tensor, 0, tensor.byte_len().unwrap_or(0), &mut bytes)?;
    let unit = tensor.dtype.storage_unit().1 as usize;
    let mut ordered = Vec::with_capacity(bytes.len());
    let mut index = vec![0u64; tensor.shape.len()];
    for _ in 0..bytes.len() / unit {
        let place: u64 = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
        let start = place as usize * unit;
        ordered.extend_from_slice(bytes.get(start..start + unit).unwrap_or_default());
        // The next index, the last dimension first.
        for (index, dim) in index.iter_mut().zip(&tensor.shape).rev() {
            *index += 1;
            if *index < *dim {
                break;
            }
            *index = 0;
        }
    }
    Ok(Some(ordered))
}

/// For [`rayon`]: the least number of items that one thread takes, all of them where some part is read in order.
pub(super) fn at_once<'a>(parts: impl IntoIterator<Item = &'a Part>) -> usize {
    if parts.into_iter().any(Part::is_read_in_order) { usize::MAX } else { 1 }
}
