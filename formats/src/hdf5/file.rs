//! Reading the metadata of a file: small pieces at scattered addresses, with a bound on how much is read.

use std::cell::{Cell, RefCell};

use crate::format::{FormatError, FormatErrorKind};
use crate::source::Source;

/// Bytes of a page, the unit in which the source is read.
const PAGE: usize = 4096;

/// Pages that are kept: 4 MiB.
const PAGES: u64 = 1024;

/// What reading a page costs beyond its bytes, in bytes: so that many small reads far apart are bounded in time as well.
const PAGE_COST: u64 = 256;

/// How often all bytes of a file may be read as metadata. Objects with several links are read several times.
const READINGS: u64 = 16;

/// Metadata that is read in any file, however small, and in none more, in bytes.
const READ_BOUNDS: (u64, u64) = (1 << 16, 1 << 30);

/// A file whose addresses count from `base`.
pub(super) struct File<'a> {
    source: &'a dyn Source,
    /// Where address 0 is: the length of the user block, in bytes.
    pub(super) base: u64,
    /// Bytes of an address.
    pub(super) offset_bytes: u8,
    /// Bytes of a length.
    pub(super) length_bytes: u8,
    pages: RefCell<Vec<Page>>,
    /// Bytes that may still be read.
    left: Cell<u64>,
}

#[derive(Clone, Default)]
struct Page {
    /// Its place among the pages of the file.
    number: u64,
    /// Empty where nothing was read yet.
    bytes: Vec<u8>,
}

impl<'a> File<'a> {
    /// A file whose signature is at `base`; the sizes of addresses and lengths are what the superblock says.
    pub(super) fn new(source: &'a dyn Source, base: u64) -> Self {
        let (least, most) = READ_BOUNDS;
        Self {
            source,
            base,
            offset_bytes: 8,
            length_bytes: 8,
            pages: RefCell::new(vec![Page::default(); PAGES as usize]),
            left: Cell::new(source.len().saturating_mul(READINGS).saturating_add(least).min(most)),
        }
    }

    /// Bytes from a position up to the end.
    pub(super) fn left_from(&self, at: u64) -> u64 {
        self.source.len().saturating_sub(at)
    }

    /// A reader from a position on, in bytes from the start of the file.
    pub(super) fn at(&'a self, at: u64) -> Reader<'a> {
        Reader { file: self, at, end: self.source.len() }
    }

    /// Takes from what may be read what something costs that is as much work as reading so many bytes.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), FormatError> {
        let left = self.left.get().checked_sub(bytes).ok_or_else(|| {
            FormatError::new(FormatErrorKind::Limit, "more metadata than shard follows, or the same again and again")
        })?;
        self.left.set(left);
        Ok(())
    }

    /// Fills `buf`, which lies inside the file.
    fn read(&self, mut at: u64, mut buf: &mut [u8]) -> Result<(), FormatError> {
        self.spend(buf.len() as u64)?;
        let mut pages = self.pages.borrow_mut();
        while !buf.is_empty() {
            let (number, skip) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let Some(page) = pages.get_mut((number % PAGES) as usize) else { break };
            if page.number != number || page.bytes.is_empty() {
                self.spend(PAGE_COST)?;
                let start = number * PAGE as u64;
                page.bytes.resize(usize::try_from(self.source.len() - start).map_or(PAGE, |left| left.min(PAGE)), 0);
                if let Err(error) = self.source.read_at(start, &mut page.bytes) {
                    page.bytes.clear();
                    return Err(error.into());
                }
                page.number = number;
            }
            let ready = page.bytes.get(skip..).unwrap_or_default();
            let len = ready.len().min(buf.len());
            let (now, rest) = buf.split_at_mut(len);
            now.copy_from_slice(ready.get(..len).unwrap_or_default());
            (at, buf) = (at + len as u64, rest);
            if len == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(())
    }
}

/// A position in a file, and where what is being read ends.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    file: &'a File<'a>,
    at: u64,
    end: u64,
}

impl<'a> Reader<'a> {
    /// Where the next byte is read, in bytes from the start of the file.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Goes on by `len` bytes.
    pub(super) fn skip(&mut self, len: u64) -> Result<(), FormatError> {
        if len > self.left() {
            return Err(self.truncated(len));
        }
        self.at += len;
        Ok(())
    }

    /// A reader of the next `len` bytes, which this one goes past.
    pub(super) fn part(&mut self, len: u64) -> Result<Reader<'a>, FormatError> {
        let at = self.at;
        self.skip(len)?;
        Ok(Reader { file: self.file, at, end: self.at })
    }

    /// Fills `buf` with the next bytes.
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> Result<(), FormatError> {
        let at = self.at;
        self.skip(buf.len() as u64)?;
        self.file.read(at, buf)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    /// An unsigned integer of 2 bytes, little-endian, as all are.
    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    /// An unsigned integer of 4 bytes.
    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    /// An unsigned integer of 8 bytes.
    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned integer of `bytes` bytes, at most 8.
    pub(super) fn uint(&mut self, bytes: u8) -> Result<u64, FormatError> {
        let mut value = [0; 8];
        let Some(buf) = value.get_mut(..usize::from(bytes)) else {
            return Err(FormatError::malformed("an integer of more than 8 bytes"));
        };
        self.fill(buf)?;
        Ok(u64::from_le_bytes(value))
    }

    /// A length or a count, in as many bytes as the superblock says.
    pub(super) fn length(&mut self) -> Result<u64, FormatError> {
        self.uint(self.file.length_bytes)
    }

    /// An address, as a position in the file; `None` for the undefined one. It may lie beyond the end.
    pub(super) fn address(&mut self) -> Result<Option<u64>, FormatError> {
        let bytes = self.file.offset_bytes;
        let value = self.uint(bytes)?;
        if value == u64::MAX >> (64 - 8 * u32::from(bytes).clamp(1, 8)) {
            return Ok(None);
        }
        match self.file.base.checked_add(value) {
            Some(at) => Ok(Some(at)),
            None => Err(FormatError::malformed("an address beyond all files")),
        }
    }

    /// Passes over a signature.
    pub(super) fn signature(&mut self, expected: &[u8; 4]) -> Result<(), FormatError> {
        if self.array()? == *expected {
            return Ok(());
        }
        let name = String::from_utf8_lossy(expected);
        Err(FormatError::malformed(format!("{name} expected at {}", self.at - 4)))
    }

    /// The bytes up to a zero, which is passed over; at most `most` of them.
    pub(super) fn until_zero(&mut self, most: usize) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::new();
        loop {
            match self.u8()? {
                0 => return Ok(bytes),
                _ if bytes.len() == most => {
                    return Err(FormatError::new(FormatErrorKind::Limit, "a name is longer than shard follows"));
                }
                byte => bytes.push(byte),
            }
        }
    }

    fn truncated(&self, len: u64) -> FormatError {
        let message = format!("{len} bytes of metadata expected at {}, {} there", self.at, self.left());
        FormatError::new(FormatErrorKind::Truncated, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_across_pages_and_no_further() {
        let bytes: Vec<u8> = (0..3 * PAGE as u32 + 5).map(|i| (i / 3) as u8 | 1).collect();
        let file = File::new(&bytes, 0);
        let mut piece = vec![0; 2 * PAGE];
        file.at(4000).fill(&mut piece).unwrap();
        assert_eq!(piece, bytes[4000..4000 + 2 * PAGE]);
        let mut last = file.at(3 * PAGE as u64);
        assert_eq!(last.left(), 5);
        assert!(last.u64().is_err() && last.skip(6).is_err());
        assert_eq!(last.u32().unwrap().to_le_bytes(), bytes[3 * PAGE..3 * PAGE + 4]);
        assert_eq!(last.u8().unwrap(), bytes[3 * PAGE + 4]);
        assert!(last.u8().is_err());
        assert!(file.at(u64::MAX).u8().is_err());
        let mut part = file.at(7).part(3).unwrap();
        assert_eq!(part.uint(3).unwrap(), u64::from_le_bytes([bytes[7], bytes[8], bytes[9], 0, 0, 0, 0, 0]));
        assert!(part.u8().is_err() && part.uint(9).is_err());
    }

    #[test]
    fn addresses_are_as_wide_as_the_superblock_says() {
        let bytes = [&[0xff; 8][..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
        for (width, expected) in [(2, 0x201), (4, 0x0403_0201), (8, 0x0807_0605_0403_0201)] {
            let file = File { offset_bytes: width, ..File::new(&bytes, 512) };
            let mut reader = file.at(8 - u64::from(width));
            assert_eq!(reader.address().unwrap(), None);
            assert_eq!(reader.address().unwrap(), Some(512 + expected), "{width}");
        }
    }

    #[test]
    fn names_end_with_a_zero() {
        let bytes = [&[b'a'; 40][..], &[0, b'b', 0, b'c'], &[b'd'; 31], &[0], &[b'e'; 9]].concat();
        let file = File::new(&bytes, 0);
        let mut reader = file.at(0);
        assert_eq!(reader.until_zero(40).unwrap(), [b'a'; 40]);
        assert_eq!(reader.until_zero(9).unwrap(), b"b");
        assert_eq!(reader.until_zero(99).unwrap().len(), 32);
        assert_eq!(reader.left(), 9);
        assert!(reader.until_zero(99).is_err(), "no zero up to the end");
        assert!(file.at(0).until_zero(39).is_err());
    }

    #[test]
    fn what_is_read_again_and_again_comes_to_an_end() {
        let bytes = vec![0; 10_000];
        let file = File::new(&bytes, 0);
        let most = 10_000 * READINGS + READ_BOUNDS.0;
        let reads = (0..most).take_while(|_| file.at(5000).array::<100>().is_ok()).count() as u64;
        assert_eq!(reads, (most - PAGE_COST) / 100);
    }
}
