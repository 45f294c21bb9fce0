//! SHA-256 (FIPS 180-4) over bytes that arrive in pieces.
//!
//! The compression function is that of the `sha2` crate, which uses the CPU's SHA instructions where it has them. The state around it
//! is ours, so that a kernel which takes blocks of two messages in turn can go on where this stands.

use sha2::block_api::compress256;

use crate::Digest;

/// Bytes that the compression function takes at once.
const BLOCK: usize = 64;

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes.
const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// A hash under way.
#[derive(Clone)]
pub struct Sha256 {
    words: [u32; 8],
    /// Bytes taken in.
    len: u64,
    /// The bytes since the last whole block, at its start.
    tail: [u8; BLOCK],
}

impl Default for Sha256 {
    fn default() -> Self {
        Self { words: INITIAL, len: 0, tail: [0; BLOCK] }
    }
}

impl Sha256 {
    /// A hash of no bytes so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes since the last whole block.
    fn fill(&self) -> usize {
        (self.len % BLOCK as u64) as usize
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let fill = self.fill();
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if fill > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - fill));
            self.tail[fill..fill + head.len()].copy_from_slice(head);
            if fill + head.len() < BLOCK {
                return;
            }
            compress256(&mut self.words, &[self.tail]);
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        compress256(&mut self.words, blocks);
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    /// How many bytes are missing to the end of a block of 64: fewer than that.
    #[must_use]
    pub fn to_boundary(&self) -> usize {
        (BLOCK - self.fill()) % BLOCK
    }

    /// The eight words of the state, for a kernel that takes in the next `blocks` of 64 bytes instead of [`Self::update`].
    /// `None` where a block is only begun: [`Self::to_boundary`] is not 0.
    pub fn take_blocks(&mut self, blocks: usize) -> Option<&mut [u32; 8]> {
        if self.fill() != 0 {
            return None;
        }
        self.len = self.len.wrapping_add((blocks * BLOCK) as u64);
        Some(&mut self.words)
    }

    /// Where it stands, for [`Self::resume`] to go on from: what the bytes so far came to, and the few since the last whole block.
    /// The eight words and the number of bytes, little-endian, then those few.
    #[must_use]
    pub fn pause(&self) -> Vec<u8> {
        let mut state: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        state.extend(self.len.to_le_bytes());
        state.extend(&self.tail[..self.fill()]);
        state
    }

    /// A hash that goes on where another stood; `None` for bytes that are no such state.
    #[must_use]
    pub fn resume(state: &[u8]) -> Option<Self> {
        let (words, rest) = state.split_first_chunk::<32>()?;
        let (len, tail) = rest.split_first_chunk::<8>()?;
        let mut hash = Self { len: u64::from_le_bytes(*len), ..Self::default() };
        for (word, bytes) in hash.words.iter_mut().zip(words.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        if tail.len() != hash.fill() {
            return None;
        }
        hash.tail[..tail.len()].copy_from_slice(tail);
        Some(hash)
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        // A one bit, zeros, and the length in bits at the end of a block.
        let bits = self.len.wrapping_mul(8);
        let zeros = (self.to_boundary() + BLOCK - 9) % BLOCK;
        let mut padding = [0; 2 * BLOCK];
        padding[0] = 0x80;
        padding[1 + zeros..9 + zeros].copy_from_slice(&bits.to_be_bytes());
        self.update(&padding[..9 + zeros]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.words) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        Digest(digest)
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
    use sha2::Digest as _;

    use super::*;

    #[test]
    fn known_vectors() {
        // FIPS 180-4 examples.
        assert_eq!(sha256(b"").to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(sha256(b"abc").to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn digests_of_every_length_are_those_of_the_library() {
        let bytes: Vec<u8> = (0..400u32).map(|n| ((n * n) >> 3) as u8).collect();
        for len in 0..bytes.len() {
            let expected: [u8; 32] = sha2::Sha256::digest(&bytes[..len]).into();
            assert_eq!(sha256(&bytes[..len]), Digest(expected), "{len} bytes");
            for at in [0, 1, 63, 64, 65, 128, len / 2].into_iter().filter(|at| *at <= len) {
                let mut hash = Sha256::new();
                hash.update(&bytes[..at]);
                hash.update(&bytes[at..len]);
                assert_eq!(hash.finish(), Digest(expected), "{at} of {len} bytes first");
            }
        }
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
    fn blocks_are_taken_by_others_at_their_boundary_alone() {
        let bytes = [7; 192];
        let mut hash = Sha256::new();
        hash.update(&bytes[..3]);
        assert_eq!(hash.to_boundary(), 61);
        assert!(hash.take_blocks(1).is_none());
        hash.update(&bytes[3..64]);
        assert_eq!(hash.to_boundary(), 0);
        compress256(hash.take_blocks(2).unwrap(), bytes[64..].as_chunks().0);
        assert_eq!(hash.finish(), sha256(&bytes));
    }
}
