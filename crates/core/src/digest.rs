//! SHA-256 digests and how they are written.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A SHA-256 digest: 32 bytes, written as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// The value of each hexadecimal digit, 255 for every other byte.
const NIBBLES: [u8; 256] = {
    let mut table = [255; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// A text that is not exactly 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a SHA-256 digest (64 lowercase hexadecimal digits): {0:?}")]
pub struct DigestParseError(pub String);

impl Digest {
    /// The number of bytes in a digest.
    pub const LEN: usize = 32;

    /// The 64 lowercase hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// Reads exactly 64 lowercase hexadecimal digits; nothing else is ever taken for a digest, since digests become file
    /// names.
    ///
    /// # Errors
    /// [`DigestParseError`] for any other text.
    pub fn from_hex(text: &str) -> Result<Self, DigestParseError> {
        let error = || DigestParseError(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(error());
        }
        let mut bytes = [0; 32];
        let mut all = 0;
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
            *byte = high << 4 | low & 15;
            all |= high | low;
        }
        // Other characters are 255 in the table; repositories with thousands of packs read as many names at every start.
        if all > 15 { Err(error()) } else { Ok(Self(bytes)) }
    }

    /// The first 12 hexadecimal digits, for people to read.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.to_hex())
    }
}

impl FromStr for Digest {
    type Err = DigestParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_hex(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256;

    #[test]
    fn hex_round_trip_and_refusals() {
        let digest = sha256(b"shard");
        assert_eq!(Digest::from_hex(&digest.to_hex()), Ok(digest));
        for bad in ["", "abc", &digest.to_hex().to_uppercase(), &"../".repeat(22)[..64], &"é".repeat(32)] {
            assert!(Digest::from_hex(bad).is_err(), "{bad}");
        }
    }
}
