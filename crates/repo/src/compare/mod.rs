//! Tensor by tensor comparison of two models, wherever they are kept.

mod contents;
mod moved;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use shard_core::{DType, Digest, Progress, TensorView};
use shard_formats::compress::Expanded;
use shard_formats::model::LogicalModel;
use shard_formats::{FileSource, Source};
use shard_history::{TensorChange, diff_tensors};
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};
use crate::numeric::{ChangeStats, ChangeSums, compare, is_valued};
use crate::snapshot::manifest_of;
use shard_core::limits::Cut;

/// How often each byte of a file is read at most, on average, for the tensors that view it.
const MOST_OFTEN: u64 = 8;

/// Where the bytes of a compared file are.
#[derive(Clone)]
enum Content {
    File(Arc<Expanded<FileSource>>, PathBuf),
    Stored(Arc<dyn EntrySource + Send>),
}

/// One file of a side: its manifest and a way to its bytes.
#[derive(Clone)]
struct Part {
    manifest: Arc<ContentManifest>,
    /// Where its segments start, in expanded bytes.
    starts: Arc<Vec<u64>>,
    content: Content,
}

impl Part {
    fn new(manifest: Arc<ContentManifest>, content: Content) -> Self {
        let starts = Arc::new(manifest.segment_offsets());
        Self { manifest, starts, content }
    }

    /// Bytes of its tensors that are read at most: of a few overlapping views all, of a million not.
    fn most_bytes(&self) -> u64 {
        self.manifest
            .segments
            .iter()
            .fold(0u64, |sum, segment| sum.saturating_add(segment.len))
            .saturating_mul(MOST_OFTEN)
    }

    /// Whether it is best read in order: what is compressed is expanded from its start.
    fn is_read_in_order(&self) -> bool {
        matches!(&self.content, Content::File(source, _) if source.is_compressed())
    }
}

/// One side of a comparison: a model in one or more files.
#[derive(Clone)]
pub struct Side {
    /// What the user called it.
    pub label: String,
    parts: Vec<Part>,
}

/// A tensor on both sides, or on one.
#[derive(Debug, Clone)]
pub struct TensorDiff {
    /// The name, on the new side where it has one.
    pub name: String,
    /// The name on the old side, where it is another: its content is the same (renamed), or alike (value).
    pub old_name: Option<String>,
    /// What happened to it.
    pub state: TensorChange,
    /// Element type and shape on the old side.
    pub old: Option<(DType, Vec<u64>)>,
    /// Element type and shape on the new side.
    pub new: Option<(DType, Vec<u64>)>,
    /// How its values changed, where element type, shape and order are the same on both sides; not told of all of very many views
    /// that share bytes.
    pub stats: Option<ChangeStats>,
}

/// What a comparison found.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Every tensor of both sides, each once, in the new side's order; removed ones last.
    pub tensors: Vec<TensorDiff>,
    /// Whether the files are equal byte for byte.
    pub identical: bool,
    /// Whether something differs that is not in a tensor.
    pub other_bytes_differ: bool,
}

impl Side {
    /// A file, a folder of shards or an index file, outside of any repository. Its bytes are read once, to know them.
    ///
    /// # Errors
    /// What cannot be read, or a set of shards that is not whole.
    pub fn from_path(path: &Path, cut: Cut, progress: &dyn Progress) -> Result<Self> {
        let model = LogicalModel::open(path)
            .map_err(|error| RepoError::Path { path: path.to_owned(), why: error.to_string() })?;
        let mut parts = Vec::new();
        for part in &model.parts {
            let source = part.source().map_err(RepoError::io("cannot open", &part.path))?;
            progress.begin("reading", Some(source.len()));
            let manifest = manifest_of(&source, &part.path, &part.parsed.layout, cut, progress)?;
            progress.finish();
            let source = Expanded::new(source, &manifest.layout());
            let content = Content::File(Arc::new(source), part.path.clone());
            parts.push(Part::new(Arc::new(manifest), content));
        }
        Ok(Self { label: path.display().to_string(), parts })
    }

    /// Files that are stored.
    #[must_use]
    pub fn stored(label: String, manifests: Vec<Arc<ContentManifest>>, source: Arc<dyn EntrySource + Send>) -> Self {
        let parts =
            manifests.into_iter().map(|manifest| Part::new(manifest, Content::Stored(Arc::clone(&source)))).collect();
        Self { label, parts }
    }

    /// The files of several sides as one model; of none, a model without tensors.
    #[must_use]
    pub fn joined(label: String, sides: Vec<Self>) -> Self {
        Self { label, parts: sides.into_iter().flat_map(|side| side.parts).collect() }
    }

    /// The label of the files' format, and the number of tensors.
    #[must_use]
    pub fn tensor_count(&self) -> usize {
        self.parts.iter().map(|part| part.manifest.tensors.len()).sum()
    }

    fn tensors(&self) -> Vec<(&Part, &TensorView)> {
        self.parts.iter().flat_map(|part| part.manifest.tensors.iter().map(move |tensor| (part, tensor))).collect()
    }

    fn file_digests(&self) -> Vec<Digest> {
        self.parts.iter().map(|part| part.manifest.sha256).collect()
    }

    /// The blocks that hold no tensor data, in order.
    fn other_blocks(&self) -> Vec<Digest> {
        let segments = self.parts.iter().flat_map(|part| &part.manifest.segments);
        let opaque = segments.filter(|segment| segment.dtype.is_none());
        opaque.flat_map(|segment| segment.blocks.iter().map(|block| block.id)).collect()
    }
}

/// Compares two models. Equality is decided by hashes alone; where values differ, both sides are read once.
///
/// # Errors
/// What cannot be read on either side.
pub fn compare_sides(old: &Side, new: &Side, progress: &dyn Progress) -> Result<Comparison> {
    let (old_tensors, new_tensors) = (old.tensors(), new.tensors());
    let mut pairs = diff_tensors(&contents::infos(&old_tensors)?, &contents::infos(&new_tensors)?);
    moved::join(&mut pairs, &old_tensors, &new_tensors)?;
    let to_read = pairs.iter().filter(|pair| pair.change == TensorChange::Value);
    let bytes = to_read.filter_map(|pair| new_tensors.get(pair.new?)?.1.byte_len()).sum();
    progress.begin("comparing", Some(bytes));
    // Views can share bytes so that all of them together are far more than the file.
    let mut left = new.parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.most_bytes()));
    let mut tensors = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let old = pair.old.and_then(|index| old_tensors.get(index).copied());
        let new = pair.new.and_then(|index| new_tensors.get(index).copied());
        let stats = match (pair.change, old, new) {
            // Elements in another order cannot be compared one by one as they lie.
            (TensorChange::Value, Some(old), Some(new)) if old.1.strides == new.1.strides => {
                let after = left.checked_sub(new.1.byte_len().unwrap_or(0));
                left = after.unwrap_or(left);
                after.map(|_| change_stats(old, new, progress)).transpose()?
            }
            _ => None,
        };
        let geometry = |side: Option<(&Part, &TensorView)>| side.map(|(_, t)| (t.dtype, t.shape.clone()));
        let old_name = old.map(|(_, tensor)| tensor.name.clone());
        let name = new.map(|(_, tensor)| tensor.name.clone()).or_else(|| old_name.clone()).unwrap_or_default();
        tensors.push(TensorDiff {
            old_name: old_name.filter(|old_name| *old_name != name),
            name,
            state: pair.change,
            old: geometry(old),
            new: geometry(new),
            stats,
        });
    }
    progress.finish();
    Ok(Comparison {
        tensors,
        identical: old.file_digests() == new.file_digests(),
        other_bytes_differ: old.other_blocks() != new.other_blocks(),
    })
}

/// For [`rayon`]: the least number of items that one thread takes, all of them where some part is read in order.
fn at_once<'a>(parts: impl IntoIterator<Item = &'a Part>) -> usize {
    if parts.into_iter().any(Part::is_read_in_order) { usize::MAX } else { 1 }
}

fn change_stats(old: (&Part, &TensorView), new: (&Part, &TensorView), progress: &dyn Progress) -> Result<ChangeStats> {
    let dtype = new.1.dtype;
    let len = new.1.byte_len().unwrap_or(0);
    let step = new.0.manifest.cut.tensor_block(dtype).max(1) as u64;
    let offsets: Vec<u64> = (0..len).step_by(step as usize).collect();
    let sums: Vec<ChangeSums> = offsets
        .par_iter()
        .with_min_len(at_once([old.0, new.0]))
        .map_init(
            || (PartReader::new(old.0), PartReader::new(new.0), Vec::new(), Vec::new()),
            |(old_reader, new_reader, old_bytes, new_bytes), offset| {
                let run = (len - offset).min(step);
                old_reader.read(old.1, *offset, run, old_bytes)?;
                new_reader.read(new.1, *offset, run, new_bytes)?;
                progress.advance(run);
                Ok(compare(dtype, old_bytes, new_bytes))
            },
        )
        .collect::<Result<_>>()?;
    let mut total = ChangeSums::default();
    for next in &sums {
        total.merge(next);
    }
    Ok(total.finish(is_valued(dtype)))
}

/// Reads ranges of tensors of one part.
struct PartReader<'a> {
    manifest: &'a ContentManifest,
    starts: &'a [u64],
    bytes: PartBytes<'a>,
}

enum PartBytes<'a> {
    File(&'a Expanded<FileSource>, &'a Path),
    Stored(Box<BlockReader<'a>>, Vec<u8>),
}

impl<'a> PartReader<'a> {
    fn new(part: &'a Part) -> Self {
        let bytes = match &part.content {
            Content::File(source, path) => PartBytes::File(source, path),
            Content::Stored(source) => PartBytes::Stored(Box::new(BlockReader::new(source.as_ref())), Vec::new()),
        };
        Self { manifest: &part.manifest, starts: &part.starts, bytes }
    }

    /// Puts `len` bytes at `offset` bytes of a tensor into `out`.
    fn read(&mut self, tensor: &TensorView, offset: u64, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let start = tensor.offset + offset;
        out.clear();
        match &mut self.bytes {
            PartBytes::File(source, path) => {
                let before = self.starts.get(tensor.segment).copied().unwrap_or(u64::MAX - start);
                out.resize(len as usize, 0);
                source.read_at(before + start, out).map_err(RepoError::io("cannot read", path))
            }
            PartBytes::Stored(reader, block) => {
                let end = start + len;
                let mut at = 0u64;
                for span in &self.manifest.segments[tensor.segment].blocks {
                    let next = at + u64::from(span.len);
                    if next > start && at < end {
                        reader.read(&block_key(span.id), block)?;
                        let from = start.saturating_sub(at) as usize;
                        let to = (end.min(next) - at) as usize;
                        out.extend_from_slice(block.get(from..to).ok_or(RepoError::BadBase { block: span.id })?);
                    }
                    at = next;
                }
                Ok(())
            }
        }
    }
}
