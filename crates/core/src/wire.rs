//! Primitives of shard's binary formats: little-endian integers, varints and digests, read without trust.
//!
//! A varint is an unsigned 64-bit integer in groups of 7 bits, least significant group first, the top bit of a byte set
//! when more follow (LEB128); the shortest form is the only valid one.

use thiserror::Error;

use crate::digest::Digest;

/// What is wrong with a piece of binary data.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The data ends before the value does.
    #[error("truncated: {wanted} more bytes wanted at byte {at}")]
    Truncated {
        /// Offset of the value, in bytes.
        at: usize,
        /// Bytes that are missing or more.
        wanted: usize,
    },
    /// A varint that is too long or not in its shortest form.
    #[error("malformed varint at byte {at}")]
    Varint {
        /// Offset of the varint, in bytes.
        at: usize,
    },
    /// A value outside what the format allows.
    #[error("invalid {what} at byte {at}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Offset just after the field, in bytes.
        at: usize,
    },
    /// Bytes after the end of the structure.
    #[error("{0} unexpected bytes at the end")]
    Trailing(usize),
}

/// A bounded reader over a byte slice. Nothing it does can panic or allocate.
#[derive(Debug, Clone)]
pub struct WireReader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> WireReader<'a> {
    /// A reader at the start of `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`] where fewer are left.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let rest = &self.data[self.at..];
        if rest.len() < len {
            return Err(WireError::Truncated { at: self.at, wanted: len - rest.len() });
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A varint.
    ///
    /// # Errors
    /// [`WireError::Truncated`], or [`WireError::Varint`] for one over 64 bits or not in its shortest form.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let at = self.at;
        let mut value = 0u64;
        for group in 0..10 {
            let byte = self.u8()?;
            if group == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                if byte == 0 && group > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(WireError::Varint { at })
    }

    /// A varint that must be at most `most`.
    ///
    /// # Errors
    /// As [`Self::varint`], or [`WireError::Invalid`] naming `what` above the limit.
    pub fn varint_up_to(&mut self, most: u64, what: &'static str) -> Result<u64, WireError> {
        let value = self.varint()?;
        if value > most { Err(self.invalid(what)) } else { Ok(value) }
    }

    /// A digest: 32 bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn digest(&mut self) -> Result<Digest, WireError> {
        Ok(Digest(self.array()?))
    }

    /// The error for a field just read that has a value the format does not allow.
    #[must_use]
    pub fn invalid(&self, what: &'static str) -> WireError {
        WireError::Invalid { what, at: self.at }
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn finish(self) -> Result<(), WireError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(WireError::Trailing(left)),
        }
    }
}

/// Appends a varint in its shortest form.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = WireReader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_accepted_varint_is_the_shortest(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = WireReader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&bytes[..reader.position()], &out[..]);
            }
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(WireReader::new(&[0x80, 0x00]).varint(), Err(WireError::Varint { at: 0 }));
        assert_eq!(WireReader::new(&[0xff; 11]).varint(), Err(WireError::Varint { at: 0 }));
        assert_eq!(WireReader::new(&[1]).u16(), Err(WireError::Truncated { at: 0, wanted: 1 }));
        assert_eq!(WireReader::new(&[1]).finish(), Err(WireError::Trailing(1)));
    }
}
