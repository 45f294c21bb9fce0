//! Chunked datasets without filters: where each chunk lies, by whichever index the dataset has.

use shard_core::DType;

use super::btree::{self, Kind};
use super::dataset::{Dataspace, Place};
use super::extensible::ExtensibleArray;
use super::file::{File, Reader};
use crate::assemble::MAX_TENSORS;
use crate::format::{FormatError, FormatErrorKind};

/// Shortest chunk that is a tensor of its own, in bytes: what is said of a shorter one would not be worth it.
const SHORTEST: u64 = 4096;

/// What looking at a chunk costs of what may be read, in bytes, beyond 8 for each dimension: chunks that are found by arithmetic, or
/// not written, are work as well.
const CHUNK_COST: u64 = 16;

/// What a page of an array costs, in bytes: one that was never written is passed over without being read.
pub(super) const PAGE_COST: u64 = 16;

/// The type of a version 2 B-tree that indexes chunks without filters.
const CHUNKS: u8 = 10;

/// How chunks are found.
pub(super) enum Index {
    /// A version 1 B-tree by the offsets of chunks.
    BTree1 { root: u64 },
    /// There is one.
    Single { address: u64 },
    /// They follow one another from there on.
    Implicit { address: u64 },
    /// An array of fixed length, in the order of the grid.
    FixedArray { header: u64 },
    /// An array that grows along one dimension.
    ExtensibleArray { header: u64 },
    /// A version 2 B-tree by the places of chunks in the grid.
    BTree2 { header: u64 },
}

impl Index {
    /// What follows the chunk's dimensions in a layout message of version 4; `None` for chunks that were never written, and
    /// indexes that are not known.
    pub(super) fn read(body: &mut Reader<'_>) -> Result<Option<Self>, FormatError> {
        let kind = body.u8()?;
        // Parameters that the index itself repeats.
        body.skip(match kind {
            1 | 2 => 0,
            3 => 1,
            4 => 5,
            5 => 6,
            _ => return Ok(None),
        })?;
        let Some(at) = body.address()? else { return Ok(None) };
        Ok(Some(match kind {
            1 => Self::Single { address: at },
            2 => Self::Implicit { address: at },
            3 => Self::FixedArray { header: at },
            4 => Self::ExtensibleArray { header: at },
            _ => Self::BTree2 { header: at },
        }))
    }
}

/// The grid of a dataset's chunks.
pub(super) struct Grid {
    /// The dataset's dimensions, in elements.
    dims: Vec<u64>,
    /// A chunk's, in elements.
    chunk: Vec<u64>,
    /// Bytes of a chunk. Those at the edges are stored whole.
    chunk_bytes: u64,
    /// Chunks along each dimension.
    counts: Vec<u64>,
    /// The same, when the dataset has grown as far as it may; `u64::MAX` where that has no bound.
    most: Vec<u64>,
    /// Chunks in all.
    total: u64,
}

impl Grid {
    /// # Errors
    /// [`FormatError`] for chunks of no elements, or of other dimensions than the dataset's.
    pub(super) fn new(space: &Dataspace, chunk: Vec<u64>, dtype: DType) -> Result<Self, FormatError> {
        if chunk.len() != space.dims.len() || chunk.contains(&0) {
            return Err(FormatError::malformed("chunks that do not fit the dataset"));
        }
        let along = |dims: &[u64]| -> Vec<u64> {
            let count = |(dim, chunk): (&u64, &u64)| if *dim == u64::MAX { *dim } else { dim.div_ceil(*chunk) };
            dims.iter().zip(&chunk).map(count).collect()
        };
        let counts = along(&space.dims);
        let most = along(&space.most);
        let product = |numbers: &[u64]| numbers.iter().try_fold(1u64, |product, number| product.checked_mul(*number));
        let chunk_bytes = product(&chunk).and_then(|elements| dtype.byte_len(elements));
        let (Some(chunk_bytes), Some(total)) = (chunk_bytes, product(&counts)) else {
            return Err(FormatError::malformed("more chunks, or larger ones, than can be counted"));
        };
        Ok(Self { dims: space.dims.clone(), chunk, chunk_bytes, counts, most, total })
    }

    /// The number of a chunk by its place along each dimension; `None` outside the dataset.
    fn number(&self, place: impl Iterator<Item = u64>) -> Option<u64> {
        let mut number = 0u64;
        for (count, here) in self.counts.iter().zip(place) {
            if here >= *count {
                return None;
            }
            number = number.checked_mul(*count)?.checked_add(here)?;
        }
        Some(number)
    }

    /// The number of the chunk at `index` of an array over all chunks that the dataset may ever have, whose dimension `slowest`
    /// comes first; `None` outside the dataset as it is.
    fn number_in_array(&self, index: u64, slowest: usize) -> Option<u64> {
        let mut place = vec![0; self.counts.len()];
        let mut left = index;
        for dim in (0..place.len()).rev().filter(|dim| *dim != slowest) {
            let most = (*self.most.get(dim)?).max(1);
            *place.get_mut(dim)? = left % most;
            left /= most;
        }
        match place.get_mut(slowest) {
            Some(here) => *here = left,
            None if left > 0 => return None,
            None => {}
        }
        self.number(place.into_iter())
    }

    /// Whether chunks that follow one another hold the dataset in row-major order, the last one maybe padded.
    fn is_row_major(&self) -> bool {
        let Some(first) = self.chunk.iter().position(|chunk| *chunk != 1) else { return true };
        let rest = first + 1;
        let whole = self.chunk.get(rest..) == self.dims.get(rest..);
        let (Some(dim), Some(chunk)) = (self.dims.get(first), self.chunk.get(first)) else { return true };
        let alone = self.counts.iter().take(first).all(|count| *count == 1);
        whole && (alone || dim.is_multiple_of(*chunk))
    }
}

/// Where the chunks are, or the dataset, where that is the same.
pub(super) fn place<'a>(file: &'a File<'a>, grid: Grid, index: Index) -> Result<Option<Place>, FormatError> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let cost = CHUNK_COST + 8 * grid.chunk.len() as u64;
    let mut add = |number: Option<u64>, address: Option<u64>| {
        file.spend(cost)?;
        if let (Some(number), Some(address)) = (number, address) {
            if found.len() == MAX_TENSORS {
                return Err(FormatError::new(FormatErrorKind::Limit, "a dataset of too many chunks"));
            }
            found.push((number, address));
        }
        Ok(())
    };
    match index {
        Index::BTree1 { root } => {
            let rank = grid.chunk.len();
            // Size and skipped filters; then the offset of the chunk, and that in an element, in elements.
            btree::version_1(file, root, Kind::Chunks, 8 + 8 * (rank as u64 + 1), |mut key, address| {
                key.skip(8)?;
                let mut place = Vec::with_capacity(rank);
                for chunk in &grid.chunk {
                    let offset = key.u64()?;
                    if !offset.is_multiple_of(*chunk) {
                        return Err(FormatError::malformed("a chunk that is not in the grid"));
                    }
                    place.push(offset / chunk);
                }
                add(grid.number(place.into_iter()), Some(address))
            })?;
        }
        Index::Single { address } => add(Some(0), Some(address))?,
        Index::Implicit { address } => {
            let wanted = |number: u64| number.checked_mul(grid.chunk_bytes).and_then(|skip| address.checked_add(skip));
            if grid.counts == grid.most && grid.is_row_major() {
                return Ok(Some(Place::Whole(address)));
            }
            // All chunks that there may ever be are in the file, so that there are no more than it has room for.
            let all = grid.most.iter().try_fold(1u64, |product, count| product.checked_mul(*count));
            let fits = |all: &u64| wanted(*all).is_some_and(|end| end - address <= file.left_from(address));
            let Some(all) = all.filter(fits) else { return Ok(None) };
            for number in 0..all {
                add(grid.number_in_array(number, 0), wanted(number))?;
            }
        }
        Index::FixedArray { header } => {
            fixed_array(file, header, |number, address| add(grid.number_in_array(number, 0), address))?;
        }
        Index::ExtensibleArray { header } => {
            let slowest = grid.most.iter().position(|most| *most == u64::MAX).unwrap_or(0);
            ExtensibleArray::open(file, header)?
                .each(|number, address| add(grid.number_in_array(number, slowest), address))?;
        }
        Index::BTree2 { header } => btree::version_2(file, header, CHUNKS, |mut record| {
            let address = record.address()?;
            let place = grid.chunk.iter().map(|_| record.u64()).collect::<Result<Vec<u64>, _>>()?;
            add(grid.number(place.into_iter()), address)
        })?,
    }
    found.sort_unstable();
    if found.array_windows().any(|[(left, _), (right, _)]| left == right) {
        return Err(FormatError::malformed("a chunk that is in two places"));
    }
    let follows = |[(_, left), (_, right)]: &[(u64, u64); 2]| left.checked_add(grid.chunk_bytes) == Some(*right);
    let complete = found.len() as u64 == grid.total;
    if let (true, true, Some((_, start))) = (complete, grid.is_row_major(), found.first())
        && found.array_windows().all(follows)
    {
        return Ok(Some(Place::Whole(*start)));
    }
    Ok((grid.chunk_bytes >= SHORTEST).then_some(Place::Chunks(grid.chunk, found)))
}

/// Calls `visit` with the index and the address of each element of a fixed array.
fn fixed_array<'a>(
    file: &'a File<'a>,
    header: u64,
    mut visit: impl FnMut(u64, Option<u64>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut reader = file.at(header);
    reader.signature(b"FAHD")?;
    let [_, client, _, page_bits]: [u8; 4] = reader.array()?;
    let elements = reader.length()?;
    let Some(block) = reader.address()? else { return Ok(()) };
    // Elements with filters are of another client, and pages of that many elements none that was ever written.
    if client != 0 || page_bits > 32 {
        return Err(FormatError::malformed("a fixed array of something else than chunks"));
    }
    let mut reader = file.at(block);
    reader.signature(b"FADB")?;
    reader.skip(2 + u64::from(file.offset_bytes))?;
    let page = 1u64 << page_bits;
    if elements <= page {
        for index in 0..elements {
            visit(index, reader.address()?)?;
        }
        return Ok(());
    }
    let pages = elements.div_ceil(page);
    let mut written = reader.part(pages.div_ceil(8))?;
    // A checksum follows here and after each page.
    reader.skip(4)?;
    let mut bits = 0;
    for number in 0..pages {
        file.spend(PAGE_COST)?;
        if number % 8 == 0 {
            bits = written.u8()?;
        }
        let first = number * page;
        let len = page.min(elements - first);
        if bits & (0x80 >> (number % 8)) == 0 {
            reader.skip(len.saturating_mul(u64::from(file.offset_bytes)))?;
        } else {
            for index in first..first + len {
                visit(index, reader.address()?)?;
            }
        }
        reader.skip(4)?;
    }
    Ok(())
}
