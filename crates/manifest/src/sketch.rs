//! The sketch of a file's tensors: a few values of each, by which its relatives are found without reading it or them.
//!
//! Version 1: version (byte), the content manifest's id (32 bytes), the number of tensors (byte, 1 to 32), and each tensor, by
//! ascending segment: index of its segment, number of its elements (varints), and 64 words (u16, little-endian).
//!
//! Word `i` is a value of the tensor as a bfloat16 (the upper half of its binary32, to nearest, ties to even), whatever type it
//! is stored in; zeros are positive, and all that is no number is 0x7fc0. With `n` elements it is the value of element
//! `from + h(i) mod (to - from)` in the order in which they are stored, where `from` and `to` are `i·n / 64` and `(i + 1)·n / 64`
//! rounded down, and `h` is MurmurHash3's finaliser of `(i + 1)·0x9e3779b97f4a7c15` modulo 2^64.

use shard_core::wire::put_varint;
use shard_core::{Digest, WireError, WireReader, sha256};
use thiserror::Error;

const VERSION: u8 = 1;

/// Words of a sketched tensor.
pub const SKETCH_WORDS: usize = 64;

/// Most tensors of a sketch.
pub const MAX_SKETCHED: usize = 32;

/// Fewest elements of a tensor that is sketched.
pub const FEWEST_SKETCHED: u64 = 1024;

/// Values of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchedTensor {
    /// Index of its segment in the manifest.
    pub segment: u64,
    /// Number of its elements, at least [`FEWEST_SKETCHED`].
    pub elements: u64,
    /// The bits of the values as bfloat16, in the order of their places.
    pub words: [u16; SKETCH_WORDS],
}

impl SketchedTensor {
    /// The most bytes that a tensor takes in a sketch.
    pub const MAX_LEN: usize = 10 + 10 + 2 * SKETCH_WORDS;
}

/// Values of a file's tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    /// The content manifest that it is of.
    pub manifest: Digest,
    /// The tensors, at least one and at most [`MAX_SKETCHED`], by ascending segment, each segment once.
    pub tensors: Vec<SketchedTensor>,
}

/// Bytes that are no sketch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SketchError {
    /// Of a version that this program does not know.
    #[error("version {0} of a sketch is not known")]
    Version(u8),
    /// Truncated, out of bounds, or not in the only form.
    #[error("malformed sketch: {0}")]
    Malformed(#[from] WireError),
}

/// Up to `most` places among so many elements: one at a pseudo-random place of each of as many equal parts, so that no period of
/// a tensor falls in step with them. Where there are fewer elements, all are places. Ascending.
pub fn places(elements: u64, most: u64) -> impl Iterator<Item = u64> {
    let count = elements.min(most);
    let bound = move |i: u64| (u128::from(i) * u128::from(elements) / u128::from(count)) as u64;
    (0..count).map(move |i| {
        let (from, to) = (bound(i), bound(i + 1));
        from + scatter(i) % (to - from)
    })
}

/// A number that looks random (the finaliser of MurmurHash3).
#[must_use]
pub fn scatter(i: u64) -> u64 {
    let mut x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

impl Sketch {
    /// The wire form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + self.tensors.len() * (2 * SKETCH_WORDS + 8));
        out.push(VERSION);
        out.extend_from_slice(&self.manifest.0);
        out.push(self.tensors.len() as u8);
        for tensor in &self.tensors {
            put_varint(&mut out, tensor.segment);
            put_varint(&mut out, tensor.elements);
            out.extend(tensor.words.iter().flat_map(|word| word.to_le_bytes()));
        }
        out
    }

    /// The id, SHA-256 of the wire form, and the wire form.
    #[must_use]
    pub fn encode(&self) -> (Digest, Vec<u8>) {
        let bytes = self.to_bytes();
        (sha256(&bytes), bytes)
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// [`SketchError`] for anything that [`Self::to_bytes`] does not write of a valid sketch.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SketchError> {
        let mut reader = WireReader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            version => return Err(SketchError::Version(version)),
        }
        let manifest = reader.digest()?;
        let count = usize::from(reader.u8()?);
        if count == 0 || count > MAX_SKETCHED {
            return Err(reader.invalid("number of tensors").into());
        }
        let mut tensors: Vec<SketchedTensor> = Vec::with_capacity(count);
        for _ in 0..count {
            let segment = reader.varint()?;
            if tensors.last().is_some_and(|before| before.segment >= segment) {
                return Err(reader.invalid("segment").into());
            }
            let elements = reader.varint()?;
            if elements < FEWEST_SKETCHED {
                return Err(reader.invalid("number of elements").into());
            }
            let mut words = [0; SKETCH_WORDS];
            for word in &mut words {
                *word = reader.u16()?;
            }
            tensors.push(SketchedTensor { segment, elements, words });
        }
        reader.finish()?;
        Ok(Self { manifest, tensors })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shard_core::limits::MAX_SKETCH;

    use super::*;
    use crate::damage::assert_strict;

    fn example() -> Sketch {
        let tensor = |segment, elements, first: u16| SketchedTensor {
            segment,
            elements,
            words: std::array::from_fn(|i| first.wrapping_add(i as u16 * 257)),
        };
        let tensors = vec![tensor(0, 1024, 0x3f80), tensor(2, 300, 0), tensor(300, u64::MAX, 0xffff)];
        let tensors =
            tensors.into_iter().map(|tensor| SketchedTensor { elements: tensor.elements.max(1 << 20), ..tensor });
        Sketch { manifest: sha256(b"manifest"), tensors: tensors.collect() }
    }

    fn any_sketch() -> impl Strategy<Value = Sketch> {
        let tensor = (1..1u64 << 40, FEWEST_SKETCHED.., proptest::collection::vec(any::<u16>(), SKETCH_WORDS));
        (any::<[u8; 32]>(), proptest::collection::vec(tensor, 1..=MAX_SKETCHED)).prop_map(|(manifest, tensors)| {
            let mut segment = 0;
            let tensors = tensors.into_iter().map(|(step, elements, words)| {
                segment += step;
                SketchedTensor { segment, elements, words: words.try_into().unwrap() }
            });
            Sketch { manifest: Digest(manifest), tensors: tensors.collect() }
        })
    }

    proptest! {
        #[test]
        fn sketches_round_trip(sketch in any_sketch()) {
            let bytes = sketch.to_bytes();
            prop_assert!(bytes.len() <= 34 + sketch.tensors.len() * SketchedTensor::MAX_LEN && bytes.len() <= MAX_SKETCH);
            prop_assert_eq!(Sketch::from_bytes(&bytes), Ok(sketch));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Sketch::from_bytes(&bytes);
        }

        #[test]
        fn places_lie_in_their_parts(elements: u64) {
            let found: Vec<u64> = places(elements, 64).collect();
            prop_assert_eq!(found.len() as u64, elements.min(64));
            prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(found.last().is_none_or(|last| *last < elements));
        }
    }

    #[test]
    fn damage_is_refused_or_another_sketch() {
        assert_strict(&example().to_bytes(), |bytes| Ok::<_, SketchError>(Sketch::from_bytes(bytes)?.to_bytes()));
    }

    #[test]
    fn golden() {
        let (id, bytes) = example().encode();
        assert_eq!(bytes[..40], [&[1][..], &sha256(b"manifest").0, &[3, 0, 0x80, 0x80, 0x40, 0x80, 0x3f]].concat());
        assert_eq!(id.to_hex(), "ab8d9d11078d02c6dc9deba7dd304a35498ea8980121951f006ebce2c1bcff0b");
        let found: Vec<u64> = places(1 << 20, 64).take(4).chain(places(1000, 64).skip(62)).collect();
        assert_eq!(found, [12010, 32215, 47491, 51582, 981, 999]);
    }

    #[test]
    fn refusals() {
        let with = |change: fn(&mut Sketch)| {
            let mut sketch = example();
            change(&mut sketch);
            Sketch::from_bytes(&sketch.to_bytes())
        };
        assert!(with(|sketch| sketch.tensors.clear()).is_err());
        assert!(with(|sketch| sketch.tensors.swap(0, 1)).is_err());
        assert!(with(|sketch| sketch.tensors[1].segment = 0).is_err());
        assert!(with(|sketch| sketch.tensors[1].elements = FEWEST_SKETCHED - 1).is_err());
        let many = |sketch: &mut Sketch| {
            let tensor = sketch.tensors[2].clone();
            sketch.tensors.extend((301..331).map(|segment| SketchedTensor { segment, ..tensor.clone() }));
        };
        assert!(with(many).is_err());
        let mut later = example().to_bytes();
        later[0] = 2;
        assert_eq!(Sketch::from_bytes(&later), Err(SketchError::Version(2)));
        later[0] = 1;
        later.push(0);
        assert_eq!(Sketch::from_bytes(&later), Err(SketchError::Malformed(WireError::Trailing(1))));
    }
}
