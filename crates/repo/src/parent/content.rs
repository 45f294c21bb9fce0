//! Bases by content, for tensors that no earlier file has under their name and shape.
//!
//! First whole tensors: an earlier one of the same type and size, as it lies or transposed, whose sketch agrees beyond chance.
//! What is left is sought row by row: slices, concatenations, rows that were inserted.
//!
//! Sketches of earlier tensors cost decoding, so names still say where to look first, and all reading is paid from a credit
//! that grows with the bytes for which a base is sought: a file whose names match costs nothing here, and no file costs more
//! than reading it back twice and [`FREE`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use shard_core::{DType, Digest, Layout, TensorView};
use shard_formats::Source;
use shard_formats::compress::HELD;
use shard_manifest::{BlockSpan, ContentManifest};
use shard_store::EntrySource;

use super::name::Names;
use super::rows::{RUN, RowIndex, Run, Signature, run_start};
use super::sketch::{FEWEST, Sketch, Sketches, coarse, places};
use super::{Earlier, MAX_WORK, Piece, Prediction, earlier_tensors, read_part, whole_tensors};
use crate::blocks::{BlockReader, block_key};
use crate::error::Result;

/// Bytes of earlier blocks that may be decoded for any file: a tenth of a second, and all of most small models.
const FREE: u64 = 64 << 20;

/// What the smallest block counts as, in bytes, since finding it takes time too.
const LEAST_COST: u64 = 16 << 10;

/// Most tensors of one earlier file that a tensor is compared with. Experts and layers are many of one size, and their names say
/// which to take first.
const MAX_COMPARED: usize = 256;

/// Most rows of earlier tensors that are held to be looked up: 20 MiB. The largest vocabularies have as many.
const MAX_ROWS: u64 = 1 << 18;

/// Largest part of the new file that is read at once for a sketch, in bytes.
const AT_ONCE: u64 = 64 << 10;

/// A tensor of an earlier file.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    manifest: &'a Arc<ContentManifest>,
    tensor: &'a TensorView,
}

impl Candidate<'_> {
    fn earlier(&self) -> Earlier {
        Earlier::new(self.manifest, self.tensor.segment)
    }
}

/// What a search for a whole tensor came to.
enum Whole {
    Found(Prediction),
    /// Nothing has its size.
    None,
    /// What has its size is something else.
    Unrelated,
}

/// A tensor that is sought by rows.
#[derive(Clone, Copy)]
struct Sought<'a> {
    tensor: &'a TensorView,
    /// Whether it was compared with whole tensors.
    was_compared: bool,
}

/// The bases of segments that names do not find, and of those that changed their number of rows.
pub(super) fn find(
    layout: &Layout,
    names: &Names,
    source: &dyn Source,
    path: &Path,
    store: &dyn EntrySource,
    sketches: &mut Sketches,
) -> Result<Vec<(usize, Prediction)>> {
    let is_named = |tensor: &TensorView| names.found.get(&tensor.segment).is_some_and(|named| named.is_exact);
    let mut segments = BTreeSet::new();
    let sought: Vec<&TensorView> = whole_tensors(layout)
        .filter(|tensor| !is_named(tensor) && units(tensor) >= FEWEST && segments.insert(tensor.segment))
        .filter(|tensor| in_any_order(layout, tensor.segment))
        .collect();
    if sought.is_empty() || names.earlier.is_empty() {
        return Ok(Vec::new());
    }
    let mut search = Search {
        files: names.earlier.iter().map(File::new).collect(),
        taken: whole_tensors(layout).filter(|tensor| is_named(tensor)).map(|tensor| tensor.name.as_str()).collect(),
        first: 0,
        credit: FREE,
        compared: HashSet::new(),
        starts: layout.segment_offsets(),
        source,
        path,
        reader: BlockReader::new(store),
        block: Vec::new(),
        sketches,
    };
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for tensor in sought {
        let len = tensor.byte_len().unwrap_or(0).max(LEAST_COST);
        search.credit = search.credit.saturating_add(2 * len);
        // Rows that were appended, or others: their name says where they come from, but not how they lie.
        let is_resized = names.found.contains_key(&tensor.segment);
        match if is_resized { Whole::None } else { search.whole(tensor)? } {
            Whole::Found(prediction) => found.push((tensor.segment, prediction)),
            Whole::None => left.push(Sought { tensor, was_compared: false }),
            Whole::Unrelated => left.push(Sought { tensor, was_compared: true }),
        }
    }
    found.extend(search.by_rows(&left)?);
    Ok(found)
}

/// The tensors of an earlier file, by type and length in bytes.
struct File<'a> {
    manifest: &'a Arc<ContentManifest>,
    by_size: HashMap<(DType, u64), Vec<Candidate<'a>>>,
}

impl<'a> File<'a> {
    fn new(manifest: &'a Arc<ContentManifest>) -> Self {
        let mut by_size: HashMap<_, Vec<_>> = HashMap::new();
        for (_, tensor) in earlier_tensors(manifest) {
            let key = (tensor.dtype, tensor.byte_len().unwrap_or(0));
            by_size.entry(key).or_default().push(Candidate { manifest, tensor });
        }
        Self { manifest, by_size }
    }
}

struct Search<'a> {
    /// Best first.
    files: Vec<File<'a>>,
    /// Names of earlier tensors that predict one of the file already.
    taken: HashSet<&'a str>,
    /// The file that a tensor was found in last.
    first: usize,
    /// Bytes of blocks that may still be decoded.
    credit: u64,
    /// First blocks of earlier tensors that one of the file was compared with.
    compared: HashSet<Digest>,
    /// Where the new file's segments start.
    starts: Vec<u64>,
    source: &'a dyn Source,
    path: &'a Path,
    reader: BlockReader<'a>,
    block: Vec<u8>,
    sketches: &'a mut Sketches,
}

impl<'a> Search<'a> {
    /// An earlier tensor of the same size that the new one agrees with, best of the first file that has any.
    fn whole(&mut self, tensor: &TensorView) -> Result<Whole> {
        let key = (tensor.dtype, tensor.byte_len().unwrap_or(0));
        let mut own: HashMap<(u64, bool), Sketch> = HashMap::new();
        let mut was_compared = false;
        let order = [self.first].into_iter().chain((0..self.files.len()).filter(|file| *file != self.first));
        for file in order.collect::<Vec<_>>() {
            let mut candidates = self.files[file].by_size.get(&key).cloned().unwrap_or_default();
            candidates.sort_by_cached_key(|candidate| {
                let name = candidate.tensor.name.as_str();
                (self.taken.contains(name), Reverse(common_end(name, &tensor.name)))
            });
            let mut best: Option<(usize, Candidate<'a>, bool)> = None;
            'candidates: for candidate in candidates.into_iter().take(MAX_COMPARED) {
                let earlier = candidate.earlier();
                let Some(block) = earlier.blocks().first() else { continue };
                let words = u64::from(block.len) / key.0.storage_unit().1;
                let Some(sketch) = self.sketch(*block, tensor.dtype)? else { continue };
                was_compared = true;
                self.compared.insert(block.id);
                for is_transposed in [false, true] {
                    if is_transposed && !is_transpose(&earlier, candidate.tensor, tensor) {
                        continue;
                    }
                    let own = match own.entry((words, is_transposed)) {
                        std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                        std::collections::hash_map::Entry::Vacant(new) => {
                            new.insert(self.own_sketch(tensor, words, is_transposed)?)
                        }
                    };
                    let agreement = sketch.agreement(own);
                    if agreement.is_related() && best.is_none_or(|(equal, _, _)| agreement.equal > equal) {
                        best = Some((agreement.equal, candidate, is_transposed));
                        if agreement.is_close() {
                            break 'candidates;
                        }
                    }
                }
            }
            if let Some((_, candidate, is_transposed)) = best {
                self.first = file;
                self.taken.insert(&candidate.tensor.name);
                return Ok(Whole::Found(prediction(&candidate, is_transposed)));
            }
        }
        Ok(if was_compared { Whole::Unrelated } else { Whole::None })
    }

    /// The sketch of an earlier tensor with this first block; `None` where it cannot be read, or where there is no credit left.
    fn sketch(&mut self, block: BlockSpan, dtype: DType) -> Result<Option<Arc<Sketch>>> {
        if let Some(known) = self.sketches.get(block.id, dtype) {
            return Ok(known);
        }
        let (id, len) = (block.id, u64::from(block.len));
        if !self.pay(len) {
            return Ok(None);
        }
        let sketch = self.read(id)?.then(|| Arc::new(Sketch::of_block(dtype, &self.block)));
        self.sketches.remember(id, dtype, sketch.clone());
        Ok(sketch)
    }

    fn pay(&mut self, len: u64) -> bool {
        let left = self.credit.checked_sub(len.max(LEAST_COST));
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    /// Reads a block, and says whether it could be: what is damaged is no candidate.
    fn read(&mut self, id: Digest) -> Result<bool> {
        match self.reader.look_at(&block_key(id), &mut self.block) {
            Ok(()) => Ok(true),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The words of the new tensor that lie where an earlier one's sketch would have them, if its first block has `words` words.
    fn own_sketch(&self, tensor: &TensorView, words: u64, is_transposed: bool) -> Result<Sketch> {
        let unit = tensor.dtype.storage_unit().1;
        if !is_transposed && words * unit <= AT_ONCE {
            let mut bytes = vec![0; (words * unit) as usize];
            self.read_own(tensor, 0, &mut bytes)?;
            return Ok(Sketch::of_block(tensor.dtype, &bytes));
        }
        let (rows, columns) = matrix(tensor).unwrap_or((1, 1));
        let place = |at: u64| if is_transposed { at % rows * columns + at / rows } else { at };
        let mut bytes = vec![0; unit as usize];
        let words = places(words).map(|at| {
            self.read_own(tensor, place(at), &mut bytes)?;
            Ok(coarse(tensor.dtype, &bytes))
        });
        Ok(Sketch::new(words.collect::<Result<_>>()?))
    }

    /// Fills `bytes` from word `at` of the new tensor on.
    fn read_own(&self, tensor: &TensorView, at: u64, bytes: &mut [u8]) -> Result<()> {
        let start = self.starts.get(tensor.segment).copied().unwrap_or(u64::MAX);
        let offset = start.saturating_add(at * tensor.dtype.storage_unit().1);
        read_part(self.source, offset, bytes, self.path)
    }

    /// Bases of tensors that are put together of rows of earlier ones.
    fn by_rows(&mut self, sought: &[Sought<'_>]) -> Result<Vec<(usize, Prediction)>> {
        let mut groups: BTreeMap<(DType, u64), Vec<Sought<'_>>> = BTreeMap::new();
        for sought in sought {
            if let Some(words) = row_words(sought.tensor).filter(|words| units(sought.tensor) / words <= MAX_ROWS) {
                groups.entry((sought.tensor.dtype, words)).or_default().push(*sought);
            }
        }
        let mut found = Vec::new();
        for ((dtype, words), group) in groups {
            let (index, earlier) = self.row_index(dtype, words, &group)?;
            if earlier.is_empty() {
                continue;
            }
            for Sought { tensor, .. } in group {
                let runs = index.align(&self.own_signatures(tensor, words)?);
                if !runs.is_empty() {
                    let row_bytes = words * tensor.dtype.storage_unit().1;
                    found.push((tensor.segment, Prediction::Pieces(pieces(&runs, &earlier, row_bytes))));
                }
            }
        }
        Ok(found)
    }

    /// The rows of `words` words of earlier tensors that predict nothing yet, those of the names that are sought first.
    fn row_index(&mut self, dtype: DType, words: u64, group: &[Sought<'_>]) -> Result<(RowIndex, Vec<Earlier>)> {
        let is_sought: HashSet<&str> = group.iter().map(|sought| sought.tensor.name.as_str()).collect();
        // Where all that is sought was compared with tensors of its size, only others are left to be parts of it or the whole of
        // it: another model of the same shapes is not read twice.
        let is_all = group.iter().any(|sought| !sought.was_compared);
        let order = [self.first].into_iter().chain((0..self.files.len()).filter(|file| *file != self.first));
        let mut candidates: Vec<Candidate<'a>> = order
            .flat_map(|file| {
                let manifest: &'a Arc<ContentManifest> = self.files[file].manifest;
                earlier_tensors(manifest).map(move |(_, tensor)| Candidate { manifest, tensor })
            })
            .filter(|Candidate { tensor, .. }| tensor.dtype == dtype && row_words(tensor) == Some(words))
            .filter(|Candidate { tensor, .. }| !self.taken.contains(tensor.name.as_str()))
            .filter(|candidate| {
                let earlier = candidate.earlier();
                is_all || earlier.blocks().first().is_none_or(|block| !self.compared.contains(&block.id))
            })
            .collect();
        candidates.sort_by_key(|candidate| !is_sought.contains(candidate.tensor.name.as_str()));
        let (mut index, mut earlier, mut left) = (RowIndex::default(), Vec::new(), MAX_ROWS);
        let mut starts: HashMap<&str, Vec<Vec<Signature>>> = HashMap::new();
        for candidate in candidates {
            let rows = units(candidate.tensor) / words;
            if rows > left {
                continue;
            }
            // Of several versions of a tensor one is enough; parts of it in several files have its name too.
            let versions = starts.entry(&candidate.tensor.name).or_default();
            if !versions.is_empty() {
                match self.signatures(&candidate, words, FIRST_ROWS.min(rows))? {
                    Some(start) if !versions.iter().any(|other| is_version(other, &start)) => {}
                    _ => continue,
                }
            }
            let Some(signatures) = self.signatures(&candidate, words, rows)? else { continue };
            versions.push(signatures.iter().take(FIRST_ROWS as usize).copied().collect());
            left -= rows;
            index.add(signatures);
            earlier.push(candidate.earlier());
        }
        index.close();
        Ok((index, earlier))
    }

    /// The signatures of an earlier tensor's first `rows` rows; `None` where not all can be read or paid.
    fn signatures(&mut self, candidate: &Candidate<'_>, words: u64, rows: u64) -> Result<Option<Vec<Signature>>> {
        let (dtype, unit) = (candidate.tensor.dtype, candidate.tensor.dtype.storage_unit().1);
        let earlier = candidate.earlier();
        let end = rows * words * unit;
        let cut = earlier.blocks().first().map_or(1, |block| u64::from(block.len));
        let blocks = &earlier.blocks()[..earlier.blocks().len().min(end.div_ceil(cut.max(1)) as usize)];
        if !self.pay(blocks.iter().map(|block| u64::from(block.len)).sum()) {
            return Ok(None);
        }
        let mut signatures = vec![[0; RUN]; rows as usize];
        let mut start = 0;
        for block in blocks {
            if !self.read(block.id)? {
                return Ok(None);
            }
            let end = start + self.block.len() as u64 / unit;
            // A signature may lie in two blocks.
            for row in start / words..end.div_ceil(words).min(rows) {
                let first = row * words + run_start(words);
                for (word, place) in (first..first + RUN as u64).enumerate() {
                    if let Some(at) = place.checked_sub(start).filter(|_| place < end) {
                        let at = (at * unit) as usize;
                        signatures[row as usize][word] = coarse(dtype, &self.block[at..at + unit as usize]);
                    }
                }
            }
            start = end;
        }
        Ok(Some(signatures))
    }

    /// The signatures of all rows of the new tensor.
    fn own_signatures(&self, tensor: &TensorView, words: u64) -> Result<Vec<Signature>> {
        let unit = tensor.dtype.storage_unit().1 as usize;
        let mut bytes = vec![0; RUN * unit];
        (0..units(tensor) / words)
            .map(|row| {
                self.read_own(tensor, row * words + run_start(words), &mut bytes)?;
                let mut words = bytes.chunks_exact(unit).map(|word| coarse(tensor.dtype, word));
                Ok(std::array::from_fn(|_| words.next().unwrap_or(0)))
            })
            .collect()
    }
}

/// Rows that tell whether two tensors of one name are versions of each other.
const FIRST_ROWS: u64 = 8;

fn is_version(a: &[Signature], b: &[Signature]) -> bool {
    let same = a.iter().zip(b).filter(|(a, b)| super::rows::is_same(a, b)).count();
    2 * same >= a.len().min(b.len())
}

fn prediction(candidate: &Candidate<'_>, is_transposed: bool) -> Prediction {
    let earlier = candidate.earlier();
    match matrix(candidate.tensor).filter(|_| is_transposed) {
        Some((rows, columns)) => {
            let word = candidate.tensor.dtype.storage_unit().1 as u8;
            Prediction::Transposed { of: earlier, rows, columns, word }
        }
        None => Prediction::whole(earlier),
    }
}

/// The bytes that runs of rows stand for, with holes between them.
fn pieces(runs: &[Run], earlier: &[Earlier], row_bytes: u64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(runs.len());
    let mut row = 0;
    for run in runs {
        if run.to > row {
            pieces.push(Piece { from: None, start: 0, len: (run.to - row) as u64 * row_bytes });
        }
        let from = earlier.get(run.tensor).cloned();
        pieces.push(Piece { from, start: run.from as u64 * row_bytes, len: run.rows as u64 * row_bytes });
        row = run.to + run.rows;
    }
    pieces
}

/// Whether an earlier tensor may be the new one transposed, and is small enough to be read whole for each of its blocks.
fn is_transpose(earlier: &Earlier, old: &TensorView, new: &TensorView) -> bool {
    let (Some((rows, columns)), Some(shape)) = (matrix(old), matrix(new)) else { return false };
    let is_word = matches!(old.dtype.storage_unit(), (1, 1 | 2 | 4 | 8));
    is_word && rows > 1 && columns > 1 && shape == (columns, rows) && earlier.blocks().len() <= MAX_WORK as usize
}

/// Rows and columns of a matrix.
fn matrix(tensor: &TensorView) -> Option<(u64, u64)> {
    match tensor.stored_shape()[..] {
        [rows, columns] if rows > 0 && columns > 0 => Some((rows, columns)),
        _ => None,
    }
}

/// Words of the rows by which a tensor is taken apart: its last dimension, or all but the first where that is short (as in
/// convolutions); `None` where it has none or they are too short.
fn row_words(tensor: &TensorView) -> Option<u64> {
    let shape = tensor.stored_shape();
    let (first, others) = shape.split_first()?;
    let last = *others.last()?;
    let words = if last >= RUN as u64 { last } else { units(tensor) / (*first).max(1) };
    (words >= RUN as u64 && tensor.dtype.storage_unit().0 == 1).then_some(words)
}

/// The number of storage units of a tensor: elements, but for packed types.
fn units(tensor: &TensorView) -> u64 {
    tensor.byte_len().unwrap_or(0) / tensor.dtype.storage_unit().1
}

/// Whether a segment can be read in any order at no more cost than in its own: not from a compressed run that is too large to be
/// held.
pub(crate) fn in_any_order(layout: &Layout, segment: usize) -> bool {
    let runs = &layout.compressed;
    let next = runs.partition_point(|run| run.segments().end <= segment);
    let run = runs.get(next).filter(|run| run.segments().contains(&segment));
    let segments = run.and_then(|run| layout.segments.get(run.segments())).unwrap_or_default();
    segments.iter().map(|segment| segment.len).sum::<u64>() <= HELD
}

/// How many bytes two names have in common at their ends.
fn common_end(a: &str, b: &str) -> usize {
    a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count()
}
