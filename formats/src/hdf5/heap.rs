//! Fractal heaps: where an object lies, by its offset in the heap.
//!
//! A heap is a doubling table: rows of blocks, of which the first two rows have blocks of the starting size and each further row
//! blocks twice as large. Blocks up to a size hold objects (direct blocks), larger ones are tables themselves (indirect blocks).

use super::btree::bytes_for;
use super::file::{File, Reader};
use crate::format::FormatError;

/// A heap.
pub(super) struct FractalHeap<'a> {
    file: &'a File<'a>,
    /// Blocks in a row.
    width: u64,
    /// Bytes of a block of the first row.
    starting: u64,
    /// Bytes of the largest direct block.
    max_direct: u64,
    /// Bytes of an offset, in ids and blocks.
    offset_bytes: u8,
    /// Bytes of a length in an id.
    length_bytes: u8,
    root: u64,
    /// Whether the root is an indirect block.
    indirect: bool,
}

/// Deepest nesting of indirect blocks: offsets have 64 bits, and each level takes at least one of them.
const MAX_LEVELS: usize = 64;

impl<'a> FractalHeap<'a> {
    /// The heap whose header is at `address`; `None` for one that is filtered, or empty.
    pub(super) fn open(file: &'a File<'a>, address: u64) -> Result<Option<Self>, FormatError> {
        let mut reader = file.at(address);
        reader.signature(b"FRHP")?;
        let version = reader.u8()?;
        if version != 0 {
            return Err(FormatError::malformed(format!("a fractal heap of version {version}")));
        }
        reader.skip(2)?;
        let filters = reader.u16()?;
        reader.skip(1)?;
        let max_managed = reader.u32()?;
        // The next huge object's id and tree, free space and its manager; then eight counts of bytes and objects.
        reader.skip(2 * u64::from(file.offset_bytes) + 10 * u64::from(file.length_bytes))?;
        let width = u64::from(reader.u16()?);
        let starting = reader.length()?;
        let max_direct = reader.length()?;
        let bits = reader.u16()?;
        reader.skip(2)?;
        let root = reader.address()?;
        let rows = reader.u16()?;
        let (Some(root), 0) = (root, filters) else { return Ok(None) };
        let sound = width > 0 && starting.is_power_of_two() && max_direct.is_power_of_two() && starting <= max_direct;
        if !sound || !(1..=64).contains(&bits) {
            return Err(FormatError::malformed("a fractal heap whose sizes make no table"));
        }
        Ok(Some(Self {
            file,
            width,
            starting,
            max_direct,
            offset_bytes: bits.div_ceil(8) as u8,
            length_bytes: (max_direct.ilog2().div_ceil(8) as u8).min(bytes_for(u64::from(max_managed))),
            root,
            indirect: rows > 0,
        }))
    }

    /// The object of that id; `None` for one that does not lie in the heap's blocks.
    pub(super) fn object(&self, mut id: Reader<'a>) -> Result<Option<Reader<'a>>, FormatError> {
        // Version 0 in the upper two bits, the kind of object in the next two: managed, huge, tiny.
        if id.u8()? & 0xf0 != 0 {
            return Ok(None);
        }
        let mut offset = id.uint(self.offset_bytes)?;
        let len = id.uint(self.length_bytes)?;
        let mut block = self.root;
        if self.indirect {
            for level in 0.. {
                if level == MAX_LEVELS {
                    return Err(FormatError::malformed("a fractal heap of too many levels"));
                }
                let (child, within, size) = self.descend(block, offset)?;
                (block, offset) = (child, within);
                if size <= self.max_direct {
                    break;
                }
            }
        }
        // Offsets count the headers of blocks too.
        let at = block.checked_add(offset).ok_or_else(|| FormatError::malformed("an object beyond all heaps"))?;
        self.file.at(at).part(len).map(Some)
    }

    /// The child of an indirect block that has `offset`: where it is, the offset in it, and its size in bytes.
    fn descend(&self, block: u64, offset: u64) -> Result<(u64, u64, u64), FormatError> {
        let beyond = || FormatError::malformed("an object beyond its fractal heap");
        let row_len = self.width.checked_mul(self.starting).ok_or_else(beyond)?;
        let (row, start, size) = match offset / row_len {
            0 => (0, 0, self.starting),
            rows => {
                let doublings = rows.ilog2();
                // No overflow: the row starts at or before the offset.
                (u64::from(doublings) + 1, row_len << doublings, self.starting << doublings)
            }
        };
        let column = (offset - start) / size;
        let entry = row.checked_mul(self.width).and_then(|first| first.checked_add(column)).ok_or_else(beyond)?;
        let mut reader = self.file.at(block);
        reader.signature(b"FHIB")?;
        reader.skip(1 + u64::from(self.file.offset_bytes) + u64::from(self.offset_bytes))?;
        reader.skip(entry.checked_mul(u64::from(self.file.offset_bytes)).ok_or_else(beyond)?)?;
        let child = reader.address()?.ok_or_else(beyond)?;
        Ok((child, (offset - start) % size, size))
    }
}
