//! Products of low rank: a base with an adapter merged in.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use shard_codecs::derive::{Arithmetic, Change, Factors, Merge, words};
use shard_codecs::kernel::Isa;
use shard_core::limits::{MAX_BASE_RANGES, MAX_BLOCK};
use shard_core::{BaseRef, DType};
use shard_formats::Source;
use shard_manifest::BlockSpan;

use super::adapter::Merged;
use super::{Adapter, DerivedBase, Formula, MadeBlocks, make_blocks};
use crate::blocks::BlockReader;
use crate::error::Result;
use crate::parent::{put_runs, read_part};

/// Words of a matrix that factors are looked for in, at most: 64 MiB while they are looked for.
const SAMPLE: usize = 8 << 20;

/// Fewest rows and columns of a matrix whose change is looked at.
const FEWEST: u64 = 32;
/// Rows by which it is told whether a change may have a low rank.
const GLANCED: usize = 192;
/// Words by which it is told whether an adapter was merged.
const COMPARED: u64 = 64 << 10;
/// And fewest words.
const FEWEST_WORDS: u64 = 16 << 10;

/// What a matrix is, where it lies, and what predicts it.
pub(crate) struct Matrix<'a> {
    pub(crate) segment: usize,
    pub(crate) dtype: DType,
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    /// Where it starts in the file, in bytes.
    pub(crate) start: u64,
    /// The type of the tensor that it is compared with.
    pub(crate) base_type: DType,
    /// The base of so many bytes of words from there on, both in bytes of the matrix.
    pub(crate) base: &'a dyn Fn(u64, usize) -> Option<BaseRef>,
    /// The first block and its base, where they are at hand.
    pub(crate) first: Option<(&'a [u8], &'a [u8])>,
    /// The adapter that may have been merged into it.
    pub(crate) adapter: Option<&'a Adapter>,
}

impl Matrix<'_> {
    /// Whether it is large enough to be looked at, and its rows are no longer than blocks.
    pub(crate) fn is_large(&self) -> bool {
        let row = self.columns.saturating_mul(self.bytes());
        let is_matrix = self.rows >= FEWEST && self.columns >= FEWEST && row <= MAX_BLOCK as u64;
        is_matrix && self.rows.saturating_mul(self.columns) >= FEWEST_WORDS
    }

    fn bytes(&self) -> u64 {
        self.dtype.word_bytes() as u64
    }
}

/// The factors of a matrix' change.
struct Product {
    merge: Merge,
    left: Vec<BlockSpan>,
    right: Vec<BlockSpan>,
    made: Arc<MadeBlocks>,
}

/// The products of a file's tensors, as far as they were looked for.
pub(crate) struct LowRanks {
    products: Vec<OnceLock<Option<Product>>>,
    /// Held while factors are looked for: one at a time is enough memory.
    searching: Mutex<()>,
}

impl LowRanks {
    /// For a file of so many segments.
    pub(crate) fn new(segments: usize) -> Self {
        Self { products: (0..segments).map(|_| OnceLock::new()).collect(), searching: Mutex::new(()) }
    }

    /// The base of a block, `len` bytes at `offset` of its matrix, that is the matrix' base and a product of low rank; `None`
    /// where the change is no such. What it comes to is looked for once a matrix, by whoever is there first.
    pub(crate) fn base(
        &self,
        matrix: &Matrix<'_>,
        (offset, len): (u64, usize),
        source: &dyn Source,
        path: &Path,
        reader: &mut BlockReader<'_>,
    ) -> Result<Option<DerivedBase>> {
        let Some(place) = self.products.get(matrix.segment) else { return Ok(None) };
        if place.get().is_none() {
            let found = {
                let _one = self.searching.lock().unwrap_or_else(PoisonError::into_inner);
                if place.get().is_some() {
                    None
                } else {
                    match search(matrix, source, path, reader) {
                        // What is damaged is not tried again with each block.
                        Err(error) if error.is_damage() => Some(None),
                        found => Some(found?),
                    }
                }
            };
            if let Some(found) = found {
                // Another may have been faster; what it found is the same.
                let _ = place.set(found);
            }
        }
        Ok(place.get().and_then(Option::as_ref).and_then(|product| product.base(matrix, offset, len)))
    }
}

impl Product {
    fn base(&self, matrix: &Matrix<'_>, offset: u64, len: usize) -> Option<DerivedBase> {
        let BaseRef { mut ranges, transpose: None } = (matrix.base)(offset, len)? else { return None };
        let rank = u64::from(self.merge.rank);
        let phase = offset / matrix.bytes();
        let [_, left_type, right_type] = self.merge.dtypes;
        let (first, last) = (phase / matrix.columns, (phase + len as u64 / matrix.bytes()).div_ceil(matrix.columns));
        let row = rank * left_type.word_bytes() as u64;
        let left = match self.merge.transposed_rows {
            Some(rows) => 0..rows * row,
            None => first * row..last * row,
        };
        put_runs(&self.left, left.start, left.end - left.start, &mut ranges);
        put_runs(&self.right, 0, rank * matrix.columns * right_type.word_bytes() as u64, &mut ranges);
        let derived = Merge { phase, ..self.merge }.derived();
        (ranges.len() <= MAX_BASE_RANGES).then(|| DerivedBase {
            formula: Formula::Known(derived),
            reference: BaseRef { ranges, transpose: None },
            made: Some(Arc::clone(&self.made)),
        })
    }
}

/// Reads rows of a matrix and of its base.
struct Rows<'a, 'b> {
    matrix: &'a Matrix<'a>,
    source: &'a dyn Source,
    path: &'a Path,
    reader: &'a mut BlockReader<'b>,
    words: Vec<u8>,
    base: Vec<u8>,
    isa: Isa,
}

impl Rows<'_, '_> {
    /// Reads rows `first..first + count`; false where they have no base.
    fn read(&mut self, first: u64, count: u64) -> Result<bool> {
        let matrix = self.matrix;
        let row = matrix.columns * matrix.bytes();
        let (offset, len) = (first * row, (count * row) as usize);
        let Some(reference) = (matrix.base)(offset, len) else { return Ok(false) };
        let base_len = len / matrix.dtype.word_bytes() * matrix.base_type.word_bytes();
        self.reader.base_bytes(&reference, base_len, &mut self.base)?;
        self.words.resize(len, 0);
        read_part(self.source, matrix.start + offset, &mut self.words, self.path)?;
        Ok(true)
    }

    /// Reads rows, and adds their change; false where they have no base.
    fn add(&mut self, first: u64, count: u64, change: &mut Change) -> Result<bool> {
        let matrix = self.matrix;
        let is_read = self.read(first, count)?;
        let (base, words) = ((matrix.base_type, &self.base[..]), (matrix.dtype, &self.words[..]));
        Ok(is_read && change.extend(self.isa, base, words).is_ok())
    }
}

/// A few of the whole rows that are at hand.
fn some_rows(matrix: &Matrix<'_>, isa: Isa, (words, base): (&[u8], &[u8])) -> Change {
    let columns = matrix.columns as usize;
    let (row, base_row) = (columns * matrix.dtype.word_bytes(), columns * matrix.base_type.word_bytes());
    let rows = (words.len() / row).min(base.len() / base_row);
    let mut change = Change::new(columns);
    let taken = rows.min(GLANCED);
    for index in 0..taken {
        let at = index * rows / taken;
        let (before, after) = (&base[at * base_row..(at + 1) * base_row], &words[at * row..(at + 1) * row]);
        if change.extend(isa, (matrix.base_type, before), (matrix.dtype, after)).is_err() {
            break;
        }
    }
    change
}

/// The factors of a matrix' change, if it has a low rank.
fn search(
    matrix: &Matrix<'_>,
    source: &dyn Source,
    path: &Path,
    reader: &mut BlockReader<'_>,
) -> Result<Option<Product>> {
    let isa = Isa::best();
    let columns = matrix.columns as usize;
    // As many rows as a block has.
    let group = (MAX_BLOCK as u64 / (matrix.columns * matrix.bytes())).max(1);
    let mut rows = Rows { matrix, source, path, reader, words: Vec::new(), base: Vec::new(), isa };
    let row = (matrix.columns * matrix.bytes()) as usize;
    let at_hand = matrix.first.filter(|first| first.0.len() >= row);
    if at_hand.is_none() && !rows.read(0, group.min(matrix.rows))? {
        return Ok(None);
    }
    let (words, base) = at_hand.unwrap_or((&rows.words, &rows.base));
    let whole = words.len() / row;
    let (words, base) = (&words[..whole * row], &base[..whole * columns * matrix.base_type.word_bytes()]);
    if let Some(adapter) = matrix.adapter
        && let Some(product) = adapted(adapter, matrix, (words, base), rows.reader)?
    {
        return Ok(Some(product));
    }
    let Some(rank) = some_rows(matrix, isa, (words, base)).glance() else { return Ok(None) };
    // Groups all over the matrix.
    let mut change = Change::new(columns);
    let groups = matrix.rows.div_ceil(group);
    let most = (SAMPLE as u64 / (group * matrix.columns)).max(1);
    let step = groups.div_ceil(most);
    for index in (0..groups).step_by(step as usize) {
        let first = index * group;
        if !rows.add(first, group.min(matrix.rows - first), &mut change)? {
            return Ok(None);
        }
    }
    let Some(factors) = change.find(isa, rank, matrix.rows as usize) else { return Ok(None) };
    let mut left = Vec::new();
    for index in 0..groups {
        let first = index * group;
        let mut change = Change::new(columns);
        if !rows.add(first, group.min(matrix.rows - first), &mut change)? {
            return Ok(None);
        }
        let Some(codes) = change.left(isa, &factors) else { return Ok(None) };
        left.extend(codes);
    }
    make(matrix, &factors, &left, path).map(Some)
}

/// The product of an adapter's factors, if that was merged into the first few rows.
fn adapted(
    adapter: &Adapter,
    matrix: &Matrix<'_>,
    (words, base): (&[u8], &[u8]),
    reader: &mut BlockReader<'_>,
) -> Result<Option<Product>> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (half, bytes) in [(&adapter.left, &mut left), (&adapter.right, &mut right)] {
        let mut ranges = Vec::new();
        half.put_ranges(0, half.len(), &mut ranges);
        reader.base_bytes(&BaseRef { ranges, transpose: None }, half.len() as usize, bytes)?;
    }
    let compared = ((COMPARED / matrix.columns + 1) * matrix.columns) as usize;
    let part = |bytes: &'_ [u8], dtype: DType| bytes.len().min(compared * dtype.word_bytes());
    let merged = Merged {
        words: (matrix.dtype, &words[..part(words, matrix.dtype)]),
        base: (matrix.base_type, &base[..part(base, matrix.base_type)]),
        columns: matrix.columns,
        rows: matrix.rows,
        left: &left,
        right: &right,
    };
    Ok(adapter.merge(Isa::best(), &merged).map(|merge| Product {
        merge,
        left: adapter.left.blocks().to_vec(),
        right: adapter.right.blocks().to_vec(),
        made: Arc::default(),
    }))
}

/// The blocks that hold both factors.
fn make(matrix: &Matrix<'_>, factors: &Factors, left: &[i32], path: &Path) -> Result<Product> {
    let mut made = Vec::new();
    let mut sides = Vec::new();
    for numbers in [left, &factors.right] {
        let (dtype, bytes) = words(numbers);
        sides.push((dtype, make_blocks(dtype, &bytes, path, &mut made)?));
    }
    let (right_type, right) = sides.pop().unwrap_or((DType::U8, Vec::new()));
    let (left_type, left) = sides.pop().unwrap_or((DType::U8, Vec::new()));
    let merge = Merge {
        dtypes: [matrix.base_type, left_type, right_type],
        arithmetic: Arithmetic::Wide,
        rank: factors.rank as u32,
        columns: matrix.columns,
        phase: 0,
        transposed_rows: None,
        factor: factors.step * factors.step,
    };
    Ok(Product { merge, left, right, made: MadeBlocks::new(made) })
}
