//! Extensible arrays: the index of chunks of a dataset that may grow along one dimension.
//!
//! The first elements are in the index block itself; then come data blocks, whose lengths grow. They are numbered by super blocks:
//! super block `s` has 2^(s/2) data blocks of 2^((s+1)/2) times the least length. The data blocks of the first super blocks are
//! named in the index block, the others in super blocks of their own. Large data blocks come in pages.

use super::chunks::PAGE_COST;
use super::file::{File, Reader};
use crate::format::FormatError;

/// An array.
pub(super) struct ExtensibleArray<'a> {
    file: &'a File<'a>,
    /// Bytes of an index, in blocks.
    index_bytes: u64,
    /// Elements in the index block.
    in_index: u64,
    /// Elements of the shortest data block.
    shortest: u64,
    /// Super blocks whose data blocks are named in the index block.
    direct: u32,
    /// Super blocks in all.
    supers: u32,
    /// Elements of a page.
    page: u64,
    /// Elements that were ever set.
    used: u64,
    block: Option<u64>,
}

impl<'a> ExtensibleArray<'a> {
    /// The array whose header is at `header`.
    pub(super) fn open(file: &'a File<'a>, header: u64) -> Result<Self, FormatError> {
        let mut reader = file.at(header);
        reader.signature(b"EAHD")?;
        let [_, client, _, bits, in_index, shortest, pointers, page_bits]: [u8; 8] = reader.array()?;
        // Super blocks and data blocks: how many, and how large together.
        reader.skip(4 * u64::from(file.length_bytes))?;
        let used = reader.length()?;
        reader.skip(u64::from(file.length_bytes))?;
        let block = reader.address()?;
        let sound = client == 0 && (1..=63).contains(&bits) && page_bits < 32;
        if !sound || !shortest.is_power_of_two() || !pointers.is_power_of_two() {
            return Err(FormatError::malformed("an extensible array whose sizes make no table"));
        }
        let supers = 1 + u32::from(bits).saturating_sub(shortest.ilog2());
        Ok(Self {
            file,
            index_bytes: u64::from(bits).div_ceil(8),
            in_index: u64::from(in_index),
            shortest: u64::from(shortest),
            direct: (2 * pointers.ilog2()).min(supers),
            supers,
            page: 1 << page_bits,
            used,
            block,
        })
    }

    /// Data blocks of a super block, and elements of each.
    fn size(&self, number: u32) -> (u64, u64) {
        (1 << (number / 2), self.shortest << number.div_ceil(2))
    }

    /// Calls `visit` with the index and the address of each element that was ever set.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(u64, Option<u64>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let Some(block) = self.block else { return Ok(()) };
        let mut reader = self.file.at(block);
        reader.signature(b"EAIB")?;
        reader.skip(2 + u64::from(self.file.offset_bytes))?;
        for index in 0..self.in_index {
            visit(index, reader.address()?)?;
        }
        let mut first = self.in_index;
        for number in 0..self.direct {
            let (blocks, len) = self.size(number);
            for _ in 0..blocks {
                if first >= self.used {
                    return Ok(());
                }
                if let Some(at) = reader.address()? {
                    self.data_block(at, first, len, None, &mut visit)?;
                }
                first = first.saturating_add(len);
            }
        }
        for number in self.direct..self.supers {
            if first >= self.used {
                return Ok(());
            }
            let (blocks, len) = self.size(number);
            if let Some(at) = reader.address()? {
                self.super_block(at, first, (blocks, len), &mut visit)?;
            }
            first = first.saturating_add(blocks.saturating_mul(len));
        }
        Ok(())
    }

    fn super_block(
        &self,
        at: u64,
        mut first: u64,
        (blocks, len): (u64, u64),
        visit: &mut impl FnMut(u64, Option<u64>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut reader = self.file.at(at);
        reader.signature(b"EASB")?;
        reader.skip(2 + u64::from(self.file.offset_bytes) + self.index_bytes)?;
        // Which pages were ever written, data block by data block.
        let bitmap = if len > self.page { (len / self.page).div_ceil(8) } else { 0 };
        let mut written = reader.part(bitmap.saturating_mul(blocks))?;
        for _ in 0..blocks {
            if first >= self.used {
                break;
            }
            let pages = written.part(bitmap)?;
            if let Some(at) = reader.address()? {
                self.data_block(at, first, len, Some(pages), visit)?;
            }
            first = first.saturating_add(len);
        }
        Ok(())
    }

    fn data_block(
        &self,
        at: u64,
        first: u64,
        len: u64,
        written: Option<Reader<'a>>,
        visit: &mut impl FnMut(u64, Option<u64>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut reader = self.file.at(at);
        reader.signature(b"EADB")?;
        reader.skip(2 + u64::from(self.file.offset_bytes) + self.index_bytes)?;
        let end = first.saturating_add(len).min(self.used);
        if len <= self.page {
            for index in first..end {
                visit(index, reader.address()?)?;
            }
            return Ok(());
        }
        let Some(mut written) = written else {
            return Err(FormatError::malformed("an extensible array whose first blocks have pages"));
        };
        let mut bits = 0;
        // A checksum follows here and after each page.
        reader.skip(4)?;
        for (number, start) in (first..end).step_by(self.page as usize).enumerate() {
            self.file.spend(PAGE_COST)?;
            if number % 8 == 0 {
                bits = written.u8()?;
            }
            let mut page = reader.part(self.page * u64::from(self.file.offset_bytes) + 4)?;
            if bits & (0x80 >> (number % 8)) != 0 {
                for index in start..start.saturating_add(self.page).min(end) {
                    visit(index, page.address()?)?;
                }
            }
        }
        Ok(())
    }
}
