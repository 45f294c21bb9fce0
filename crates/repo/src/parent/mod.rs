//! Base search: which stored bytes are likely to predict a new file's tensors.
//!
//! First by [`name`]: that costs a look at manifests only, and is right nearly always. What is left is sought by [`content`]:
//! other names, transposed matrices, rows that moved to other tensors. Equal content needs no base: it is the same block.

mod content;
mod name;
mod rows;
mod sketch;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use shard_codecs::Rows;
use shard_core::limits::MAX_BASE_RANGES;
use shard_core::{BaseRange, BaseRef, DType, Layout, Segment, TensorView, Transpose};
use shard_formats::Source;
use shard_history::natural_cmp;
use shard_manifest::{BlockSpan, ContentManifest};
use shard_store::EntrySource;

use crate::derive::{Adapter, Adapters, AllComputed, Computed, find_adapters, find_computed};
use crate::error::{RepoError, Result};
use crate::snapshot::cannot_read;

pub(crate) use content::in_any_order;
pub(crate) use sketch::{Agreement, Sketch, Sketches, places};

/// Most earlier files that are looked at for one new file.
pub(crate) const MAX_CANDIDATES: usize = 32;

/// Most blocks that are decoded to read one whose base is more than one run of bytes: twice a chain of whole blocks. A transposed
/// block needs its whole base, so this is also the most blocks that a tensor has which is looked at as a transposed base.
pub(crate) const MAX_WORK: u32 = 16;

/// Earlier files that may predict a new one, likeliest first.
#[derive(Default)]
pub(crate) struct EarlierFiles {
    pub(crate) files: Vec<Arc<ContentManifest>>,
    /// How many of them, from the first on, are known to have values like the new one's: names do not put others before them.
    pub(crate) near: usize,
}

impl From<Vec<Arc<ContentManifest>>> for EarlierFiles {
    fn from(files: Vec<Arc<ContentManifest>>) -> Self {
        Self { files, near: 0 }
    }
}

/// A segment of an earlier file that is one tensor.
#[derive(Clone)]
pub(crate) struct Earlier {
    manifest: Arc<ContentManifest>,
    segment: usize,
}

impl Earlier {
    pub(crate) fn new(manifest: &Arc<ContentManifest>, segment: usize) -> Self {
        Self { manifest: Arc::clone(manifest), segment }
    }

    pub(crate) fn len(&self) -> u64 {
        self.manifest.segments.get(self.segment).map_or(0, |segment| segment.len)
    }

    pub(crate) fn blocks(&self) -> &[BlockSpan] {
        self.manifest.segments.get(self.segment).map_or(&[], |segment| &segment.blocks)
    }

    /// Appends the runs of blocks that bytes `start..start + len` lie in.
    pub(crate) fn put_ranges(&self, start: u64, len: u64, ranges: &mut Vec<BaseRange>) {
        put_runs(self.blocks(), start, len, ranges);
    }
}

/// Appends the runs of blocks, cut every so many bytes, that bytes `start..start + len` lie in.
pub(crate) fn put_runs(blocks: &[BlockSpan], mut start: u64, mut len: u64, ranges: &mut Vec<BaseRange>) {
    let Some(cut) = blocks.first().map(|block| u64::from(block.len)).filter(|cut| *cut > 0) else { return };
    let mut index = usize::try_from(start / cut).unwrap_or(usize::MAX);
    start %= cut;
    while len > 0 {
        let Some(block) = blocks.get(index).filter(|block| u64::from(block.len) > start) else { return };
        let run = (u64::from(block.len) - start).min(len);
        ranges.push(BaseRange { block: Some(block.id), start: start as u32, len: run as u32 });
        len -= run;
        start = 0;
        index += 1;
    }
}

/// A run of bytes of an earlier tensor, or of nothing.
#[derive(Clone)]
struct Piece {
    from: Option<Earlier>,
    /// Where it starts in the earlier tensor, in bytes.
    start: u64,
    /// Its length in bytes.
    len: u64,
}

/// What predicts a tensor.
#[derive(Clone)]
enum Prediction {
    /// Pieces laid end to end, and zeros beyond them.
    Pieces(Vec<Piece>),
    /// The transpose of a matrix: its number of rows and of columns, and the bytes of a word.
    Transposed { of: Earlier, rows: u64, columns: u64, word: u8 },
}

impl Prediction {
    fn whole(earlier: Earlier) -> Self {
        let len = earlier.len();
        Self::Pieces(vec![Piece { from: Some(earlier), start: 0, len }])
    }
}

/// For each segment of a new file, what predicts it.
pub(crate) struct BasePlan {
    segments: Vec<Option<Prediction>>,
    /// For each segment that is one tensor, its type and the shape in which it is stored.
    tensors: Vec<Option<(DType, Vec<u64>)>>,
    /// Tensors that some segments may be computed from.
    computed: AllComputed,
    /// Adapters that may have been merged into some segments.
    adapters: Adapters,
}

impl BasePlan {
    /// A plan without bases, for a file with `segments` segments.
    pub(crate) fn none(segments: usize) -> Self {
        let (computed, adapters) = (AllComputed::new(), Adapters::new());
        Self { segments: vec![None; segments], tensors: vec![None; segments], computed, adapters }
    }

    /// Plans the bases of a file, whose bytes are `source`, from earlier ones, best first. Ties between equally good files go
    /// to the earlier in the list. Blocks of earlier files are read from `store` only for tensors that no earlier file has
    /// under their name; those that are damaged are no candidates.
    ///
    /// # Errors
    /// What reading the file or the store says, other than that stored data is damaged.
    pub(crate) fn new(
        layout: &Layout,
        earlier: &EarlierFiles,
        source: &dyn Source,
        path: &Path,
        store: &dyn EntrySource,
        sketches: &mut Sketches,
    ) -> Result<Self> {
        let mut plan = Self::none(layout.segments.len());
        for tensor in whole_tensors(layout) {
            plan.tensors[tensor.segment] = Some((tensor.dtype, tensor.stored_shape()));
        }
        let named = name::find(layout, earlier);
        for (segment, found) in &named.found {
            plan.segments[*segment] = Some(Prediction::whole(found.earlier.clone()));
        }
        for (segment, prediction) in content::find(layout, &named, source, path, store, sketches)? {
            plan.segments[segment] = Some(prediction);
        }
        let has_base = |segment: usize| plan.segments.get(segment).is_some_and(Option::is_some);
        plan.computed = find_computed(layout, &named.earlier, has_base, source, path, store)?;
        plan.adapters = find_adapters(layout, &named.earlier);
        let alone: Vec<usize> = plan.computed.values().flat_map(|computed| computed.alone().to_vec()).collect();
        for segment in alone {
            plan.segments[segment] = None;
            plan.computed.remove(&segment);
        }
        Ok(plan)
    }

    /// How the rows of a segment's tensor lie from `offset` bytes on.
    pub(crate) fn rows(&self, segment: usize, offset: u64) -> Option<Rows> {
        let (dtype, shape) = self.tensors.get(segment)?.as_ref()?;
        Rows::of(*dtype, shape, offset)
    }

    /// The tensor that a segment may be computed from.
    pub(crate) fn computed(&self, segment: usize) -> Option<&Computed> {
        self.computed.get(&segment)
    }

    /// How many tensors of the same file a segment has to wait for, one computed from the other.
    pub(crate) fn level(&self, segment: usize) -> u32 {
        self.computed(segment).map_or(0, Computed::level)
    }

    /// The highest level.
    pub(crate) fn levels(&self) -> u32 {
        self.computed.values().map(Computed::level).max().unwrap_or(0)
    }

    /// The adapter that may have been merged into a segment.
    pub(crate) fn adapter(&self, segment: usize) -> Option<&Adapter> {
        self.adapters.get(&segment)
    }

    /// The type of a segment that is one tensor, and the shape in which it is stored.
    pub(crate) fn tensor(&self, segment: usize) -> Option<(DType, &[u64])> {
        self.tensors.get(segment)?.as_ref().map(|(dtype, shape)| (*dtype, &shape[..]))
    }

    /// The bytes that predict the `len` bytes at `offset` of a segment: those that lie there in the prediction, and zeros where
    /// it has none.
    pub(crate) fn base(&self, segment: usize, offset: u64, len: usize) -> Option<BaseRef> {
        let mut ranges = Vec::with_capacity(1);
        let transpose = match self.segments.get(segment)?.as_ref()? {
            Prediction::Pieces(pieces) => {
                put_pieces(pieces, offset, len as u64, &mut ranges);
                None
            }
            Prediction::Transposed { of, rows, columns, word } => {
                of.put_ranges(0, of.len(), &mut ranges);
                Some(Transpose { word: *word, row: *rows, column: *columns, phase: offset / u64::from(*word) })
            }
        };
        let is_something = ranges.iter().any(|range| range.block.is_some());
        (is_something && ranges.len() <= MAX_BASE_RANGES).then_some(BaseRef { ranges, transpose })
    }
}

/// Appends the runs that lie under the `len` bytes at `offset`; holes where there is nothing.
fn put_pieces(pieces: &[Piece], offset: u64, len: u64, ranges: &mut Vec<BaseRange>) {
    let end = offset + len;
    let mut at = 0u64;
    let mut filled = offset;
    for piece in pieces {
        let (from, to) = (at.max(offset), (at + piece.len).min(end));
        if let Some(earlier) = piece.from.as_ref().filter(|_| from < to) {
            put_hole(from - filled, ranges);
            let before: u64 = ranges.iter().map(|range| u64::from(range.len)).sum();
            earlier.put_ranges(piece.start + (from - at), to - from, ranges);
            let now: u64 = ranges.iter().map(|range| u64::from(range.len)).sum();
            filled = from + (now - before);
        }
        at += piece.len;
    }
    put_hole(end - filled, ranges);
}

fn put_hole(len: u64, ranges: &mut Vec<BaseRange>) {
    if len > 0 {
        // No longer than a block.
        ranges.push(BaseRange { block: None, start: 0, len: len as u32 });
    }
}

/// Fills `bytes` from byte `offset` of a new file on.
pub(crate) fn read_part(source: &dyn Source, offset: u64, bytes: &mut [u8], path: &Path) -> Result<()> {
    source.read_at(offset, bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => RepoError::Changed(path.to_owned()),
        _ => cannot_read(error, path),
    })
}

/// The tensors that have a segment of their own.
pub(crate) fn whole_tensors(layout: &Layout) -> impl Iterator<Item = &TensorView> {
    layout.tensors.iter().filter(|tensor| is_whole(tensor, |index| layout.segments.get(index).copied()))
}

fn is_whole(tensor: &TensorView, segment: impl Fn(usize) -> Option<Segment>) -> bool {
    let Some(segment) = segment(tensor.segment) else { return false };
    tensor.offset == 0
        && segment.len > 0
        && tensor.byte_len() == Some(segment.len)
        && segment.dtype == Some(tensor.dtype)
}

/// The tensors of an earlier file that have a segment of their own, by index.
pub(crate) fn earlier_tensors(manifest: &ContentManifest) -> impl Iterator<Item = (usize, &TensorView)> {
    let segment = |index: usize| {
        let segment = manifest.segments.get(index)?;
        Some(Segment { len: segment.len, dtype: segment.dtype })
    };
    manifest.tensors.iter().enumerate().filter(move |(_, tensor)| is_whole(tensor, segment))
}

/// Orders the paths of earlier files by how likely they are the parent of a new file at `path`: its nearest predecessor
/// in natural order first (`step-90` before `step-100`), then further ones, then those that come after it.
pub(crate) fn by_nearness<'a>(path: &str, earlier: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let (mut before, mut after): (Vec<&str>, Vec<&str>) =
        earlier.filter(|other| *other != path).partition(|other| natural_cmp(other, path) == Ordering::Less);
    before.sort_by(|a, b| natural_cmp(b, a));
    after.sort_by(|a, b| natural_cmp(a, b));
    before.extend(after);
    before
}

#[cfg(test)]
mod tests;
