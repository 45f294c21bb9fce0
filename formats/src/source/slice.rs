//! A part of another source.

use std::io;

use super::Source;

/// The bytes of `of` from `start` on.
#[derive(Clone, Copy)]
pub(crate) struct Slice<'a> {
    of: &'a dyn Source,
    start: u64,
    len: u64,
}

impl<'a> Slice<'a> {
    /// `len` bytes from `start` on; `None` where they do not lie inside.
    pub(crate) fn new(of: &'a dyn Source, start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= of.len()).then_some(Self { of, start, len })
    }
}

impl Source for Slice<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn is_expanded(&self) -> bool {
        self.of.is_expanded()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match offset.checked_add(buf.len() as u64) {
            Some(end) if end <= self.len => self.of.read_at(self.start + offset, buf),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_where_it_ends() {
        let bytes = b"hello world".to_vec();
        let slice = Slice::new(&bytes, 6, 3).unwrap();
        let mut buf = [0; 3];
        slice.read_at(0, &mut buf).unwrap();
        assert_eq!(&buf, b"wor");
        for offset in [1, 4, u64::MAX] {
            assert_eq!(slice.read_at(offset, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(Slice::new(&bytes, 6, 6).is_none() && Slice::new(&bytes, u64::MAX, 2).is_none());
        assert_eq!(Slice::new(&bytes, 11, 0).unwrap().len(), 0);
    }
}
