//! Reading a source from front to back.

use std::io;

use super::Source;
use crate::format::{FormatError, FormatErrorKind};

/// Bytes that are read ahead at a time.
const AHEAD: usize = 64 << 10;

/// A position in a source. Small reads share one read of the source.
pub(crate) struct Cursor<'a> {
    source: &'a dyn Source,
    at: u64,
    /// What was read ahead: bytes of the source from `start` on.
    ahead: Vec<u8>,
    start: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(source: &'a dyn Source, at: u64) -> Self {
        Self { source, at, ahead: Vec::new(), start: 0 }
    }

    /// Where the next byte is read, in bytes from the start of the source.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Goes to a position, which may lie beyond the end: then nothing can be read there.
    pub(crate) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.source.len().saturating_sub(self.at)
    }

    /// Goes on by `len` bytes.
    pub(crate) fn skip(&mut self, len: u64) -> Result<(), FormatError> {
        if len > self.left() {
            return Err(self.truncated(len));
        }
        self.at += len;
        Ok(())
    }

    /// The next `len` bytes. What a file says of a length is checked against what is left before anything is allocated.
    pub(crate) fn take(&mut self, len: u64) -> Result<Vec<u8>, FormatError> {
        if len > self.left() {
            return Err(self.truncated(len));
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| self.truncated(len))?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Fills `buf` with the next bytes.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) -> Result<(), FormatError> {
        let len = buf.len() as u64;
        if len > self.left() {
            return Err(self.truncated(len));
        }
        if buf.len() >= AHEAD {
            self.source.read_at(self.at, buf)?;
        } else {
            buf.copy_from_slice(self.ahead(buf.len())?);
        }
        self.at += len;
        Ok(())
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// An unsigned integer of 4 bytes, little-endian.
    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    /// An unsigned integer of 8 bytes, little-endian.
    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Adds the next line to `into`, without the line feed that ends it, and at most `keep` bytes of it; whether that is all.
    pub(crate) fn line(&mut self, keep: usize, into: &mut Vec<u8>) -> Result<bool, FormatError> {
        let start = self.at;
        let limit = into.len().saturating_add(keep);
        let mut whole = true;
        while self.left() > 0 {
            let at = self.at;
            self.ahead(1)?;
            let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
            let have = self.ahead.get(skip..).unwrap_or_default();
            let end = have.iter().position(|byte| *byte == b'\n');
            let part = have.get(..end.unwrap_or(have.len())).unwrap_or_default();
            let kept = part.len().min(limit.saturating_sub(into.len()));
            into.extend_from_slice(part.get(..kept).unwrap_or_default());
            whole &= kept == part.len();
            self.at += part.len() as u64 + u64::from(end.is_some());
            if end.is_some() {
                return Ok(whole);
            }
        }
        self.at = start;
        Err(FormatError::new(FormatErrorKind::Truncated, format!("the line at byte {start} has no end")))
    }

    /// The next `len` bytes, which are there, without going on.
    fn ahead(&mut self, len: usize) -> io::Result<&[u8]> {
        let have = |at: u64, start: u64, ahead: &[u8]| {
            at.checked_sub(start).and_then(|skip| usize::try_from(skip).ok()).filter(|skip| skip + len <= ahead.len())
        };
        let skip = match have(self.at, self.start, &self.ahead) {
            Some(skip) => skip,
            None => {
                let wish = usize::try_from(self.left()).map_or(AHEAD, |left| left.min(AHEAD));
                self.ahead.resize(wish, 0);
                self.start = self.at;
                if let Err(error) = self.source.read_at(self.at, &mut self.ahead) {
                    self.ahead.clear();
                    return Err(error);
                }
                0
            }
        };
        self.ahead.get(skip..skip + len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn truncated(&self, len: u64) -> FormatError {
        let message = format!("the file ends too early: {len} bytes expected at {}, {} there", self.at, self.left());
        FormatError::new(FormatErrorKind::Truncated, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_what_is_there_and_no_more() {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
        let mut cursor = Cursor::new(&bytes, 3);
        assert_eq!(cursor.u32().unwrap(), u32::from_le_bytes([0, 0, 0, 0]));
        assert_eq!(cursor.take(70_000).unwrap(), &bytes[7..70_007]);
        assert_eq!(cursor.array::<5>().unwrap(), bytes[70_007..70_012]);
        cursor.skip(60_000).unwrap();
        assert_eq!(cursor.u8().unwrap(), bytes[130_012]);
        cursor.seek(9);
        assert_eq!(cursor.u64().unwrap(), u64::from_le_bytes(bytes[9..17].try_into().unwrap()));
        cursor.seek(199_999);
        assert!(cursor.u32().is_err() && cursor.take(u64::MAX).is_err() && cursor.skip(2).is_err());
        assert_eq!(cursor.position(), 199_999, "an error moves nothing");
        assert_eq!(cursor.u8().unwrap(), bytes[199_999]);
        assert_eq!(cursor.left(), 0);
        cursor.seek(u64::MAX);
        assert!(cursor.u8().is_err());
    }

    #[test]
    fn lines_end_where_they_end() {
        let mut bytes = b"one\n\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 150_000));
        bytes.extend_from_slice(b"\nlast");
        let mut cursor = Cursor::new(&bytes, 0);
        let mut line = Vec::new();
        assert!(cursor.line(3, &mut line).unwrap() && line == b"one");
        assert!(cursor.line(9, &mut line).unwrap() && line == b"one", "an empty line adds nothing");
        line.clear();
        assert!(!cursor.line(100_000, &mut line).unwrap());
        assert_eq!((line.len(), cursor.position()), (100_000, 150_006));
        assert!(cursor.line(9, &mut line).is_err());
        assert_eq!(cursor.position(), 150_006, "an error moves nothing");
        assert_eq!(cursor.u8().unwrap(), b'l');
    }
}
