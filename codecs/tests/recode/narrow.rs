//! Floats that a narrower type has too are coded as words of that.

use half::{bf16, f16};
use shard_codecs::kernel::Isa;
use shard_codecs::{Base, Block, BlockHeader, CodecError, Decoder, Encoder, Level, Shape, Word};
use shard_core::{BaseRef, DType, sha256};

use crate::random::Rng;

/// Wide types, and what their values come from.
const CASES: [(DType, DType); 5] = [
    (DType::F32, DType::BF16),
    (DType::F32, DType::F16),
    (DType::F64, DType::BF16),
    (DType::F64, DType::F16),
    (DType::F64, DType::F32),
];

/// A value as the narrow type has it, in a word of the wide one.
fn put(wide: DType, narrow: DType, value: f64, out: &mut Vec<u8>) {
    let value = match narrow {
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::F16 => f16::from_f64(value).to_f64(),
        _ => f64::from(value as f32),
    };
    match wide {
        DType::F32 => out.extend_from_slice(&(value as f32).to_le_bytes()),
        _ => out.extend_from_slice(&value.to_le_bytes()),
    }
}

/// Two versions; zeros of both signs and subnormal numbers among them.
fn versions(wide: DType, narrow: DType, words: usize) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng(words as u64 + u64::from(wide.wire_id() * 8 + narrow.wire_id()));
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for at in 0..words {
        let before = match at % 211 {
            0 => 0.0,
            1 => -0.0,
            2 => 5e-8,
            _ => rng.normal() * 0.02,
        };
        put(wide, narrow, before, &mut old);
        put(wide, narrow, if at % 211 < 3 { before } else { before + rng.normal() * 1e-4 }, &mut new);
    }
    (old, new)
}

fn shapes(dtype: DType) -> impl Iterator<Item = Shape> {
    Shape::legal(Word::of(Some(dtype))).filter(|shape| shape.coding.name() == "narrow")
}

fn decode(isa: Isa, stored: &[u8], base: &[u8], len: usize) -> Result<Vec<u8>, CodecError> {
    let (header, at) = BlockHeader::read(stored)?;
    let mut out = vec![0; len];
    Decoder::with_isa(isa).decode(&header, &stored[at..], Some(base), &mut out)?;
    Ok(out)
}

#[test]
fn what_was_saved_in_a_wider_type_takes_what_the_narrower_takes() {
    for (wide, narrow) in CASES {
        let (old, new) = versions(wide, narrow, 30_000);
        let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
        let block = Block { data: &new, dtype: Some(wide), rows: None, base: Some(Base::new(&reference, &old)) };
        assert_eq!(shapes(wide).count(), 2, "alone and on a base");
        for shape in shapes(wide) {
            let mut first: Option<Vec<u8>> = None;
            for isa in Isa::available() {
                let mut stored = Vec::new();
                Encoder::with_isa(Level::Default, isa).encode_with(shape, &block, &mut stored).unwrap();
                assert!(decode(isa, &stored, &old, new.len()).unwrap() == new, "{wide:?} {narrow:?} {shape}");
                assert_eq!(*first.get_or_insert_with(|| stored.clone()), stored, "the same on every machine");
            }
        }
        let narrowed = |words: &[u8]| -> Vec<u8> {
            let value = |word: &[u8]| match wide {
                DType::F32 => f64::from(f32::from_le_bytes(word.try_into().unwrap())),
                _ => f64::from_le_bytes(word.try_into().unwrap()),
            };
            let short = |value: f64| match narrow {
                DType::BF16 => bf16::from_f64(value).to_le_bytes().to_vec(),
                DType::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
                _ => (value as f32).to_le_bytes().to_vec(),
            };
            words.chunks(wide.word_bytes()).flat_map(|word| short(value(word))).collect()
        };
        let (short_old, short_new) = (narrowed(&old), narrowed(&new));
        for based in [false, true] {
            let base = |bytes| Some(Base::new(&reference, bytes)).filter(|_| based);
            let (mut wide_stored, mut short_stored) = (Vec::new(), Vec::new());
            let of_wide = Block { base: base(&old), ..block };
            let encoded = Encoder::new(Level::Default).encode(&of_wide, &mut wide_stored).unwrap();
            let short_reference = BaseRef::whole(sha256(b"base"), short_new.len() as u32);
            let short_base = Some(Base::new(&short_reference, &short_old)).filter(|_| based);
            let of_short = Block { data: &short_new, dtype: Some(narrow), rows: None, base: short_base };
            Encoder::new(Level::Default).encode(&of_short, &mut short_stored).unwrap();
            assert_eq!(encoded.chain.coding().name(), "narrow", "{wide:?} {narrow:?}: {}", encoded.chain);
            let (took, takes) = (wide_stored.len(), short_stored.len());
            assert!(took * 100 <= takes * 103, "{wide:?} {narrow:?}: {took} bytes, {takes} as the narrower type");
        }
    }
}

#[test]
fn one_word_that_the_narrower_type_lacks_is_enough() {
    for (wide, narrow) in CASES {
        let (old, mut new) = versions(wide, narrow, 5_000);
        let odd: [u8; 8] =
            if wide == DType::F32 { [1, 0, 0, 0x3f, 0, 0, 0, 0] } else { [1, 0, 0, 0, 0, 0, 0xf0, 0x3f] };
        let bytes = wide.word_bytes();
        new[4_000 * bytes..4_001 * bytes].copy_from_slice(&odd[..bytes]);
        let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
        let block = Block { data: &new, dtype: Some(wide), rows: None, base: Some(Base::new(&reference, &old)) };
        for shape in shapes(wide) {
            let refused = Encoder::new(Level::Default).encode_with(shape, &block, &mut Vec::new());
            assert!(matches!(refused, Err(CodecError::Chain(_))), "{wide:?} {narrow:?}");
        }
        let mut stored = Vec::new();
        Encoder::new(Level::Default).encode(&block, &mut stored).unwrap();
        assert!(decode(Isa::best(), &stored, &old, new.len()).unwrap() == new);
    }
}

#[test]
fn damaged_words_of_a_narrower_type_are_an_error_or_a_value() {
    for (wide, narrow) in CASES {
        let (old, new) = versions(wide, narrow, 3_000);
        let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
        let block = Block { data: &new, dtype: Some(wide), rows: None, base: Some(Base::new(&reference, &old)) };
        for shape in shapes(wide) {
            let mut stored = Vec::new();
            Encoder::new(Level::Default).encode_with(shape, &block, &mut stored).unwrap();
            let (_, at) = BlockHeader::read(&stored).unwrap();
            for cut in at..stored.len() {
                assert!(decode(Isa::best(), &stored[..cut], &old, new.len()).is_err(), "{wide:?} cut to {cut}");
            }
            for byte in at..stored.len().min(at + 200) {
                for bit in 0..8 {
                    stored[byte] ^= 1 << bit;
                    let _ = decode(Isa::best(), &stored, &old, new.len());
                    stored[byte] ^= 1 << bit;
                }
            }
        }
    }
}
