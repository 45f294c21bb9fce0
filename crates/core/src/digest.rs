//! SHA-256 digests and the ids made of them.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState;
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

/// SHA-256 over bytes that arrive in pieces (FIPS 180-4; the CPU's SHA instructions are used where it has them).
#[derive(Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// A hash of no bytes so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Where it stands, for [`Self::resume`] to go on from: what the bytes so far came to, not the bytes.
    #[must_use]
    pub fn pause(&self) -> Vec<u8> {
        self.0.serialize().to_vec()
    }

    /// A hash that goes on where another stood; `None` for bytes that are no such state.
    #[must_use]
    pub fn resume(state: &[u8]) -> Option<Self> {
        let state = state.try_into().ok()?;
        sha2::Sha256::deserialize(&state).ok().map(Self)
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The SHA-256 digest of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        // FIPS 180-4 examples.
        assert_eq!(sha256(b"").to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(sha256(b"abc").to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_hash_that_was_paused_goes_on() {
        let bytes: Vec<u8> = (0..300u16).map(|n| n as u8).collect();
        for at in [0, 1, 63, 64, 65, 128, 300] {
            let mut hash = Sha256::new();
            hash.update(&bytes[..at]);
            let mut hash = Sha256::resume(&hash.pause()).unwrap();
            hash.update(&bytes[at..]);
            assert_eq!(hash.finish(), sha256(&bytes), "{at}");
        }
        assert!(Sha256::resume(&[]).is_none() && Sha256::resume(&[255; 200]).is_none());
    }

    #[test]
    fn hex_round_trip_and_refusals() {
        let digest = sha256(b"shard");
        assert_eq!(Digest::from_hex(&digest.to_hex()), Ok(digest));
        for bad in ["", "abc", &digest.to_hex().to_uppercase(), &"../".repeat(22)[..64], &"é".repeat(32)] {
            assert!(Digest::from_hex(bad).is_err(), "{bad}");
        }
    }
}
