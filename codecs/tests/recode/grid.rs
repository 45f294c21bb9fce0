//! Floats that were rounded to multiples of a power of two are coded as the whole numbers that they are.

use shard_codecs::kernel::Isa;
use shard_codecs::{Base, Block, BlockHeader, CodecError, Decoder, Encoder, Level, Rows, Shape, Word};
use shard_core::{BaseRef, DType, sha256};

use crate::random::Rng;

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// A whole number of sixteenths, which all types have exactly while it has few bits.
fn put(dtype: DType, sixteenths: i64, out: &mut Vec<u8>) {
    let value = sixteenths as f64 / 16.0;
    let single = value as f32;
    match dtype {
        DType::F64 => out.extend_from_slice(&value.to_le_bytes()),
        DType::F32 => out.extend_from_slice(&single.to_le_bytes()),
        DType::BF16 => out.extend_from_slice(&single.to_le_bytes()[2..]),
        _ => {
            let bits = single.to_bits();
            let magnitude = if sixteenths == 0 { 0 } else { ((bits & 0x7fff_ffff) >> 13) - (112 << 10) };
            out.extend_from_slice(&((magnitude | bits >> 16 & 0x8000) as u16).to_le_bytes());
        }
    }
}

/// Two versions on a grid: whole numbers of up to seven bits.
fn versions(dtype: DType, words: usize) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng(words as u64 + u64::from(dtype.wire_id()));
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for _ in 0..words {
        let before = (rng.normal() * 24.0).clamp(-120.0, 120.0) as i64;
        put(dtype, before, &mut old);
        put(dtype, (before + (rng.normal() * 1.2) as i64).clamp(-127, 127), &mut new);
    }
    (old, new)
}

fn shapes(dtype: DType) -> impl Iterator<Item = Shape> {
    Shape::legal(Word::of(Some(dtype))).filter(|shape| shape.coding.name() == "grid")
}

fn decode(isa: Isa, stored: &[u8], base: &[u8], len: usize) -> Result<Vec<u8>, CodecError> {
    let (header, at) = BlockHeader::read(stored)?;
    let mut out = vec![0; len];
    Decoder::with_isa(isa).decode(&header, &stored[at..], Some(base), &mut out)?;
    Ok(out)
}

#[test]
fn multiples_come_back_and_are_as_small_as_whole_numbers() {
    for dtype in FLOATS {
        let (old, new) = versions(dtype, 40_000);
        let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
        let rows = Some(Rows { len: 200, phase: 20 });
        let base = Some(Base::new(&reference, &old));
        let block = Block { data: &new, dtype: Some(dtype), rows, base };
        assert_eq!(shapes(dtype).count(), 2, "alone and on a base");
        let mut sizes = Vec::new();
        for shape in shapes(dtype) {
            let mut first: Option<Vec<u8>> = None;
            for isa in Isa::available() {
                let mut stored = Vec::new();
                Encoder::with_isa(Level::Default, isa).encode_with(shape, &block, &mut stored).unwrap();
                assert!(decode(isa, &stored, &old, new.len()).unwrap() == new, "{dtype:?} {shape}");
                assert_eq!(*first.get_or_insert_with(|| stored.clone()), stored, "the same on every machine");
            }
            sizes.push(first.unwrap().len());
        }
        // By entropy: whole numbers of spread 24 take 6.6 bits, and steps of spread about 1.2 cut off to whole ones, 1.7.
        assert!(sizes[0] < 40_000 * 68 / 80 && sizes[1] < 40_000 * 19 / 80, "{dtype:?}: {sizes:?}");
        for base in [base, None] {
            let block = Block { base, ..block };
            let encoded = Encoder::new(Level::Default).encode(&block, &mut Vec::new()).unwrap();
            assert_eq!(encoded.chain.coding().name(), "grid", "{dtype:?}: {}", encoded.chain);
        }
    }
}

#[test]
fn a_few_words_may_lie_beside_the_grid() {
    for dtype in FLOATS {
        let (old, mut new) = versions(dtype, 30_000);
        let bytes = dtype.word_bytes();
        let mut rng = Rng(3);
        // Numbers that are none, infinities, a negative zero, and all bits at random.
        for index in 0..80 {
            let at = rng.next() as usize % 30_000 * bytes;
            let word = if index % 4 == 0 { 1u64 << (8 * bytes - 1) } else { rng.next() | rng.next() << 32 };
            new[at..at + bytes].copy_from_slice(&word.to_le_bytes()[..bytes]);
        }
        let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
        let block = Block { data: &new, dtype: Some(dtype), rows: None, base: Some(Base::new(&reference, &old)) };
        let mut done = 0;
        for shape in shapes(dtype) {
            let mut stored = Vec::new();
            match Encoder::new(Level::Default).encode_with(shape, &block, &mut stored) {
                Ok(_) => done += 1,
                Err(CodecError::Chain(_)) => continue,
                Err(error) => unreachable!("{error}"),
            }
            for isa in Isa::available() {
                assert!(decode(isa, &stored, &old, new.len()).unwrap() == new, "{dtype:?} {shape}");
            }
        }
        let mut chosen = Vec::new();
        Encoder::new(Level::Default).encode(&block, &mut chosen).unwrap();
        assert!(decode(Isa::best(), &chosen, &old, new.len()).unwrap() == new);
        assert!(done > 0 || dtype == DType::F16 || dtype == DType::BF16, "{dtype:?}");
    }
}

#[test]
fn damaged_grids_are_an_error_or_a_value() {
    for dtype in FLOATS {
        let (old, new) = versions(dtype, 3_000);
        let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
        let block = Block { data: &new, dtype: Some(dtype), rows: None, base: Some(Base::new(&reference, &old)) };
        for shape in shapes(dtype) {
            let mut stored = Vec::new();
            Encoder::new(Level::Default).encode_with(shape, &block, &mut stored).unwrap();
            let (_, at) = BlockHeader::read(&stored).unwrap();
            for cut in at..stored.len() {
                assert!(decode(Isa::best(), &stored[..cut], &old, new.len()).is_err(), "{dtype:?} cut to {cut}");
            }
            for byte in at..stored.len().min(at + 300) {
                for bit in 0..8 {
                    stored[byte] ^= 1 << bit;
                    let _ = decode(Isa::best(), &stored, &old, new.len());
                    stored[byte] ^= 1 << bit;
                }
            }
        }
    }
}
