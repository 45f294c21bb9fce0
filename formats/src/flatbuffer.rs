//! FlatBuffers: tables of fields, vectors and strings that point to one another.
//!
//! All numbers are little-endian. A table starts with the distance (4 bytes, signed) back to its vtable; that has its own size, the
//! table's size, and for each field where it lies in the table, 2 bytes each; 0 is a field that is not there. A field of a table,
//! vector or string holds the distance (4 bytes) to it; a vector is a count (4 bytes) and its elements. Every distance is checked
//! against the file. Whatever is pointed to may be pointed to often: a caller counts what it reads.
//!
//! Specification: <https://flatbuffers.dev/internals/>.

use shard_core::limits::MAX_NAME;

use crate::format::{FormatError, FormatErrorKind};
use crate::source::Source;

/// Bytes that are read at a time.
const PAGE: u64 = 4096;

/// Pages that are kept: 16 MiB. Tables are read in any order, most often from back to front.
const PAGES: usize = 4096;

/// A table of fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    at: u64,
    len: u64,
    vtable: u64,
    vtable_len: u64,
}

/// A vector's elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vector {
    /// Offset of the first, in bytes.
    pub(crate) start: u64,
    /// Their number.
    pub(crate) count: u64,
}

/// Some bytes of the file.
struct Page {
    start: u64,
    bytes: Vec<u8>,
}

/// A file of tables.
pub(crate) struct Flatbuffer<'a> {
    source: &'a dyn Source,
    pages: Vec<Option<Page>>,
}

impl<'a> Flatbuffer<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Self { source, pages: Vec::new() }
    }

    /// The table that the file starts with.
    pub(crate) fn root(&mut self) -> Result<Table, FormatError> {
        self.table_at(0)
    }

    /// The table that the distance at `at` leads to.
    pub(crate) fn table_at(&mut self, at: u64) -> Result<Table, FormatError> {
        let at = self.follow(at)?;
        let back = i64::from(i32::from_le_bytes(self.array(at)?));
        let vtable = at.checked_add_signed(-back).ok_or_else(|| outside(at))?;
        let vtable_len = u64::from(self.u16(vtable)?);
        let len = u64::from(self.u16(vtable + 2)?);
        if vtable_len < 4 || len < 4 {
            return Err(FormatError::malformed(format!("a table of no size at byte {at}")));
        }
        self.within(vtable, vtable_len)?;
        self.within(at, len)?;
        Ok(Table { at, len, vtable, vtable_len })
    }

    /// Where a field of `len` bytes lies; `None` where the table does not have it.
    pub(crate) fn field(&mut self, table: Table, number: u64, len: u64) -> Result<Option<u64>, FormatError> {
        let slot = 4 + 2 * number;
        if slot + 2 > table.vtable_len {
            return Ok(None);
        }
        match u64::from(self.u16(table.vtable + slot)?) {
            0 => Ok(None),
            place if place + len <= table.len => Ok(Some(table.at + place)),
            _ => Err(FormatError::malformed(format!("a field outside its table at byte {}", table.at))),
        }
    }

    /// A field that is a vector of elements of `size` bytes; an empty one where it is not there.
    pub(crate) fn vector(&mut self, table: Table, number: u64, size: u64) -> Result<Vector, FormatError> {
        let Some(at) = self.field(table, number, 4)? else { return Ok(Vector { start: 0, count: 0 }) };
        let at = self.follow(at)?;
        let vector = Vector { start: at + 4, count: u64::from(self.u32(at)?) };
        self.within(vector.start, vector.count * size)?;
        Ok(vector)
    }

    /// A field that is a string; an empty one where it is not there.
    pub(crate) fn text(&mut self, table: Table, number: u64) -> Result<String, FormatError> {
        let vector = self.vector(table, number, 1)?;
        if vector.count > MAX_NAME as u64 {
            return Err(FormatError::new(FormatErrorKind::Limit, "a name is longer than shard follows"));
        }
        let mut bytes = vec![0; vector.count as usize];
        self.read(vector.start, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| FormatError::malformed("a name that is not UTF-8"))
    }

    fn u16(&mut self, at: u64) -> Result<u16, FormatError> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// The number of 4 bytes at `at`.
    pub(crate) fn u32(&mut self, at: u64) -> Result<u32, FormatError> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// The bytes at `at`.
    pub(crate) fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// What the distance at `at` leads to.
    fn follow(&mut self, at: u64) -> Result<u64, FormatError> {
        let to = at + u64::from(self.u32(at)?);
        self.within(to, 4)?;
        Ok(to)
    }

    /// Checks that bytes lie in the file.
    fn within(&self, start: u64, len: u64) -> Result<(), FormatError> {
        match start.checked_add(len) {
            Some(end) if end <= self.source.len() => Ok(()),
            _ => Err(outside(start)),
        }
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        self.within(at, buf.len() as u64)?;
        let mut done = 0;
        while done < buf.len() {
            let from = at + done as u64;
            let skip = (from % PAGE) as usize;
            let page = self.page(from - from % PAGE)?;
            let rest = buf.get_mut(done..).unwrap_or_default();
            let there = page.get(skip..).unwrap_or_default();
            let len = rest.len().min(there.len());
            if len == 0 {
                return Err(outside(from));
            }
            rest[..len].copy_from_slice(&there[..len]);
            done += len;
        }
        Ok(())
    }

    /// The page that starts there.
    fn page(&mut self, start: u64) -> Result<&[u8], FormatError> {
        self.pages.resize_with(PAGES, || None);
        let index = (start / PAGE) as usize % PAGES;
        let Some(slot) = self.pages.get_mut(index) else { return Err(outside(start)) };
        let page = match slot.take() {
            Some(page) if page.start == start => page,
            old => {
                let len = self.source.len().saturating_sub(start).min(PAGE) as usize;
                let mut bytes = old.map_or(Vec::new(), |page| page.bytes);
                bytes.resize(len, 0);
                self.source.read_at(start, &mut bytes)?;
                Page { start, bytes }
            }
        };
        Ok(&slot.insert(page).bytes)
    }
}

fn outside(at: u64) -> FormatError {
    FormatError::new(FormatErrorKind::Truncated, format!("the file ends before what should be at byte {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table at 20 with a number in field 0, nothing in field 1, a string in field 2, and a vtable before it.
    fn file() -> Vec<u8> {
        let mut bytes = vec![20, 0, 0, 0];
        // The vtable, at 8: its size, the table's size, three places.
        bytes.extend([0; 4]);
        for number in [10u16, 12, 4, 0, 8] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([0; 2]);
        // The table: the vtable is 12 before it, the string 4 behind the field.
        for number in [12u32, 0xdead_beef, 4, 3] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"xyz\0");
        bytes
    }

    #[test]
    fn fields_are_found() {
        let bytes = file();
        let mut flat = Flatbuffer::new(&bytes);
        let table = flat.root().unwrap();
        let at = flat.field(table, 0, 4).unwrap().unwrap();
        assert_eq!(flat.u32(at).unwrap(), 0xdead_beef);
        assert_eq!(flat.field(table, 1, 4).unwrap(), None);
        assert_eq!(flat.field(table, 3, 4).unwrap(), None, "the vtable ends before");
        assert_eq!(flat.text(table, 2).unwrap(), "xyz");
        assert_eq!(flat.text(table, 1).unwrap(), "");
        assert!(flat.field(table, 0, 9).is_err(), "longer than the table");
    }

    #[test]
    fn what_leads_outside_is_refused() {
        for (at, with) in [(0, 36), (0, 0xffff_fff0), (20, 21), (20, 0x8000_0000), (8, 0), (28, 13), (32, 100)] {
            let mut bytes = file();
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(with));
            let mut flat = Flatbuffer::new(&bytes);
            let text = flat.root().and_then(|table| flat.text(table, 2));
            assert!(text.is_err(), "{at} {with}");
        }
    }

    #[test]
    fn reads_cross_pages() {
        let bytes: Vec<u8> = (0..30_000u32).map(|index| (index / 3) as u8).collect();
        let mut flat = Flatbuffer::new(&bytes);
        for at in [4094, 29_996, 4094, 8190] {
            assert_eq!(flat.array::<4>(at).unwrap(), bytes[at as usize..][..4]);
        }
        assert!(flat.array::<4>(29_997).is_err() && flat.array::<4>(u64::MAX).is_err());
    }
}
