//! BitX, the delta of ZipLLM (Wang et al., "ZipLLM: Efficient LLM Storage via Model-Aware Synergistic Data Deduplication and
//! Compression", 2025).
//!
//! A tensor is XORed with the same tensor of the version before; the exponents, and the signs with the mantissas, of bf16
//! words go to a plane each, the bytes of words of other types to a plane each; zstd packs every plane. Without a version
//! before it is the words themselves that are split. Only compressed bytes are counted: no names, lengths or ids, which a
//! format that can be read again needs as well.

use std::io;

use shard_core::DType;

use crate::Zstd;

/// Codes runs of words, whole tensors or blocks of them; keeps zstd's contexts and its buffers for the next.
pub struct BitX {
    zstd: Zstd,
    xor: Vec<u8>,
    plane: Vec<u8>,
    planes: Vec<u8>,
}

/// The compressed planes of a run of words.
#[derive(Debug, Default)]
pub struct Packed {
    planes: [Vec<u8>; 8],
    count: usize,
}

impl Packed {
    /// Compressed bytes of all planes.
    #[must_use]
    pub fn stored_len(&self) -> u64 {
        self.planes().map(|plane| plane.len() as u64).sum()
    }

    fn planes(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.planes.iter().take(self.count)
    }
}

impl BitX {
    /// With zstd contexts of its own.
    ///
    /// # Errors
    /// What zstd says where it cannot make them.
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: Zstd::new()?, xor: Vec::new(), plane: Vec::new(), planes: Vec::new() })
    }

    /// Packs little-endian words of a type (`None`: bytes), against as many bytes of the version before where there are any.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a base of another length or an incomplete word; what zstd says.
    pub fn encode(
        &mut self,
        dtype: Option<DType>,
        words: &[u8],
        base: Option<&[u8]>,
        out: &mut Packed,
    ) -> io::Result<()> {
        check(dtype, words.len(), base)?;
        let words = match base {
            None => words,
            Some(base) => {
                self.xor.clear();
                self.xor.extend(words.iter().zip(base).map(|(word, base)| word ^ base));
                &self.xor
            }
        };
        out.count = plane_count(dtype);
        for (index, packed) in out.planes.iter_mut().take(out.count).enumerate() {
            self.plane.clear();
            take_plane(dtype, words, index, &mut self.plane);
            self.zstd.compress(&self.plane, packed)?;
        }
        Ok(())
    }

    /// Fills `out` with the words that were packed.
    ///
    /// # Errors
    /// As [`Self::encode`]; [`io::ErrorKind::InvalidData`] where the planes are those of another run.
    pub fn decode(
        &mut self,
        dtype: Option<DType>,
        packed: &Packed,
        base: Option<&[u8]>,
        out: &mut [u8],
    ) -> io::Result<()> {
        check(dtype, out.len(), base)?;
        let count = plane_count(dtype);
        if packed.count != count {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the planes are those of another type"));
        }
        self.planes.resize(out.len(), 0);
        let len = out.len() / count;
        for (packed, plane) in packed.planes().zip(self.planes.chunks_exact_mut(len.max(1))) {
            self.zstd.decompress(packed, plane)?;
        }
        join(dtype, &self.planes, out);
        if let Some(base) = base {
            out.iter_mut().zip(base).for_each(|(word, base)| *word ^= base);
        }
        Ok(())
    }
}

fn check(dtype: Option<DType>, len: usize, base: Option<&[u8]>) -> io::Result<()> {
    let whole = len.is_multiple_of(plane_count(dtype));
    let fault = match base {
        Some(base) if base.len() != len => "the base has another length",
        _ if !whole => "the last word is incomplete",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, fault))
}

/// One plane a byte of the word; the two of bf16 are cut elsewhere.
fn plane_count(dtype: Option<DType>) -> usize {
    dtype.map_or(1, DType::word_bytes)
}

/// Appends one plane of the words. Each loop is over words of a constant size, which compilers make vectors of.
fn take_plane(dtype: Option<DType>, words: &[u8], index: usize, plane: &mut Vec<u8>) {
    let bf16 = || words.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word));
    match (dtype, plane_count(dtype)) {
        (Some(DType::BF16), _) if index == 0 => plane.extend(bf16().map(|word| (word >> 7) as u8)),
        (Some(DType::BF16), _) => plane.extend(bf16().map(|word| (word >> 8) as u8 & 0x80 | word as u8 & 0x7f)),
        (_, 2) => plane.extend(words.as_chunks::<2>().0.iter().map(|word| word[index & 1])),
        (_, 4) => plane.extend(words.as_chunks::<4>().0.iter().map(|word| word[index & 3])),
        (_, 8) => plane.extend(words.as_chunks::<8>().0.iter().map(|word| word[index & 7])),
        _ => plane.extend_from_slice(words),
    }
}

/// Puts the planes, one after the other, together again.
fn join(dtype: Option<DType>, planes: &[u8], out: &mut [u8]) {
    let count = plane_count(dtype);
    let plane = |index: usize| {
        let len = planes.len() / count;
        planes.get(index * len..(index + 1) * len).unwrap_or_default()
    };
    match (dtype, count) {
        (Some(DType::BF16), _) => {
            for ((word, exponent), rest) in out.as_chunks_mut::<2>().0.iter_mut().zip(plane(0)).zip(plane(1)) {
                let (exponent, rest) = (u16::from(*exponent), u16::from(*rest));
                *word = ((rest & 0x80) << 8 | exponent << 7 | rest & 0x7f).to_le_bytes();
            }
        }
        (_, 2) => join_bytes::<2>(plane, out),
        (_, 4) => join_bytes::<4>(plane, out),
        (_, 8) => join_bytes::<8>(plane, out),
        _ => out.copy_from_slice(planes),
    }
}

fn join_bytes<'a, const WIDTH: usize>(plane: impl Fn(usize) -> &'a [u8], out: &mut [u8]) {
    let planes: [&[u8]; WIDTH] = std::array::from_fn(plane);
    for (at, word) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        *word = std::array::from_fn(|byte| planes[byte].get(at).copied().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern (Knuth's multiplicative hash).
    fn noise(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    fn planes(dtype: DType, words: &[u8]) -> Vec<Vec<u8>> {
        let plane = |index| {
            let mut plane = Vec::new();
            take_plane(Some(dtype), words, index, &mut plane);
            plane
        };
        (0..plane_count(Some(dtype))).map(plane).collect()
    }

    #[test]
    fn planes_are_the_published_ones() {
        let word = 0b1010_1010_1110_0110_u16.to_le_bytes();
        assert_eq!(planes(DType::BF16, &word), [[0b0101_0101], [0b1110_0110]]);
        assert_eq!(planes(DType::F32, &[1, 2, 3, 4, 5, 6, 7, 8]), [[1, 5], [2, 6], [3, 7], [4, 8]]);
    }

    #[test]
    fn words_of_every_type_come_back() {
        let mut bitx = BitX::new().unwrap();
        let mut packed = Packed::default();
        let (words, base) = (noise(4800), noise(4900).split_off(100));
        for dtype in DType::ALL.iter().copied().map(Some).chain([None]) {
            for base in [None, Some(&base[..])] {
                bitx.encode(dtype, &words, base, &mut packed).unwrap();
                let mut out = vec![0; words.len()];
                bitx.decode(dtype, &packed, base, &mut out).unwrap();
                assert!(out == words, "{dtype:?}");
            }
        }
        bitx.encode(Some(DType::F32), &[], None, &mut packed).unwrap();
        bitx.decode(Some(DType::F32), &packed, None, &mut []).unwrap();
    }

    #[test]
    fn a_small_change_is_small() {
        let old = noise(40_000);
        let mut new = old.clone();
        new.iter_mut().step_by(2000).for_each(|byte| *byte ^= 1);
        let mut bitx = BitX::new().unwrap();
        let mut packed = Packed::default();
        bitx.encode(Some(DType::BF16), &new, None, &mut packed).unwrap();
        let alone = packed.stored_len();
        bitx.encode(Some(DType::BF16), &new, Some(&old), &mut packed).unwrap();
        assert!(packed.stored_len() * 20 < alone, "{} of {alone}", packed.stored_len());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut bitx = BitX::new().unwrap();
        let mut packed = Packed::default();
        assert!(bitx.encode(Some(DType::F32), &[0; 7], None, &mut packed).is_err());
        assert!(bitx.encode(Some(DType::F32), &[0; 8], Some(&[0; 4]), &mut packed).is_err());
        bitx.encode(Some(DType::F32), &[0; 8], None, &mut packed).unwrap();
        assert!(bitx.decode(Some(DType::BF16), &packed, None, &mut [0; 8]).is_err());
        assert!(bitx.decode(Some(DType::F32), &packed, None, &mut [0; 12]).is_err());
    }
}
