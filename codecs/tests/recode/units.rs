//! Two versions of block-quantised weights: each code is predicted in the new scale of its unit.

use shard_codecs::derive::{Ggml, Target};
use shard_codecs::kernel::Isa;
use shard_codecs::{Base, Block, BlockHeader, CodecError, Decoder, Encoder, Level, Rows, Shape, Word};
use shard_core::{BaseRef, DType, sha256};

use crate::random::Rng;

const TYPES: [DType; 5] = [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0];
const COLUMNS: usize = 256;

/// Weights as a type has them, by the derivation that makes it.
fn quantised(dtype: DType, weights: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let derived = Ggml::of(DType::F32, false);
    let len = dtype.byte_len(weights.len() as u64).unwrap() as usize;
    let mut out = vec![0; len];
    derived.derive(Isa::best(), Target { dtype, len }, &bytes, &mut out).unwrap();
    out
}

/// Two versions, of which a part of the weights differs by a little.
fn versions(dtype: DType, weights: usize) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng(weights as u64);
    let old: Vec<f32> = (0..weights).map(|_| rng.normal() as f32 * 0.02).collect();
    let new: Vec<f32> = old.iter().map(|weight| weight + rng.normal() as f32 * 0.0006).collect();
    (quantised(dtype, &old), quantised(dtype, &new))
}

fn shape(dtype: DType) -> Shape {
    Shape::legal(Word::of(Some(dtype))).find(|shape| shape.coding.name() == "units").unwrap()
}

fn rows(dtype: DType) -> Option<Rows> {
    Rows::of(dtype, &[64, COLUMNS as u64], 0)
}

#[test]
fn units_come_back_and_are_smaller_than_what_else_there_is() {
    for dtype in TYPES {
        for weights in [32, 64, 160 * COLUMNS] {
            let (old, new) = versions(dtype, weights);
            let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
            let base = Some(Base::new(&reference, &old));
            let block = Block { data: &new, dtype: Some(dtype), rows: rows(dtype), base };
            let mut first: Option<Vec<u8>> = None;
            for isa in Isa::available() {
                let mut stored = Vec::new();
                match Encoder::with_isa(Level::Default, isa).encode_with(shape(dtype), &block, &mut stored) {
                    Ok(_) => {}
                    Err(CodecError::Chain(_)) if weights < 100 => continue,
                    Err(error) => unreachable!("{dtype:?}, {weights} weights: {error}"),
                }
                let (header, at) = BlockHeader::read(&stored).unwrap();
                let mut out = vec![0; new.len()];
                Decoder::with_isa(isa).decode(&header, &stored[at..], Some(&old), &mut out).unwrap();
                assert!(out == new, "{dtype:?}, {weights} weights");
                assert_eq!(*first.get_or_insert_with(|| stored.clone()), stored, "the same on every machine");
            }
            if weights < 100 {
                continue;
            }
            let mut chosen = Vec::new();
            let encoded = Encoder::new(Level::Default).encode(&block, &mut chosen).unwrap();
            assert_eq!(encoded.chain.coding().name(), "units", "{dtype:?}: {}", encoded.chain);
            let least = Shape::legal(Word::of(Some(dtype)))
                .filter(|other| other.coding.name() != "units" && other.predictor.bases() == 1)
                .filter_map(|other| {
                    let mut stored = Vec::new();
                    Encoder::new(Level::Default).encode_with(other, &block, &mut stored).ok().map(|_| stored.len())
                })
                .min()
                .unwrap();
            assert!(chosen.len() * 100 < least * 95, "{dtype:?}: {} bytes, {least} without", chosen.len());
        }
    }
}

/// Scales and codes as no quantiser makes them: zeros, infinities, numbers that are none, all bits at random.
#[test]
fn any_bytes_of_whole_units_come_back() {
    let mut rng = Rng(7);
    for dtype in TYPES {
        let unit = dtype.storage_unit().1 as usize;
        for round in 0..40 {
            let units = 40 + round % 7;
            let mut old: Vec<u8> = (0..units * unit).map(|_| rng.next() as u8).collect();
            let mut new = old.clone();
            for at in 0..units {
                let odd: [u16; 6] = [0, 0x8000, 0x7c00, 0xfc00, 0x7e01, 1];
                if rng.next() & 3 == 0 {
                    let which = if rng.next() & 1 == 0 { &mut old } else { &mut new };
                    let field = if dtype.name().ends_with("_1") { 2 * (rng.next() as usize & 1) } else { 0 };
                    let scale = odd[rng.next() as usize % 6].to_le_bytes();
                    which[at * unit + field..at * unit + field + 2].copy_from_slice(&scale);
                }
                if rng.next() & 3 == 0 {
                    new[at * unit + rng.next() as usize % unit] = rng.next() as u8;
                }
            }
            let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
            let block = Block { data: &new, dtype: Some(dtype), rows: None, base: Some(Base::new(&reference, &old)) };
            let mut stored = Vec::new();
            Encoder::new(Level::Default).encode_with(shape(dtype), &block, &mut stored).unwrap();
            let (header, at) = BlockHeader::read(&stored).unwrap();
            for isa in Isa::available() {
                let mut out = vec![0; new.len()];
                Decoder::with_isa(isa).decode(&header, &stored[at..], Some(&old), &mut out).unwrap();
                assert!(out == new, "{dtype:?}");
            }
        }
    }
}

#[test]
fn what_is_no_whole_unit_or_has_no_units_is_refused() {
    let (old, new) = versions(DType::Q8_0, 320);
    let cut = new.len() - 1;
    let reference = BaseRef::whole(sha256(b"base"), cut as u32);
    let base = Some(Base::new(&reference, &old[..cut]));
    let block = Block { data: &new[..cut], dtype: Some(DType::Q8_0), rows: None, base };
    let refused = Encoder::new(Level::Default).encode_with(shape(DType::Q8_0), &block, &mut Vec::new());
    assert!(matches!(refused, Err(CodecError::Chain(_))));
    for dtype in DType::ALL {
        let has = Shape::legal(Word::of(Some(*dtype))).any(|shape| shape.coding.name() == "units");
        assert_eq!(has, TYPES.contains(dtype), "{dtype:?}");
    }
}

#[test]
fn damaged_units_are_an_error_or_a_value() {
    for dtype in TYPES {
        let (old, new) = versions(dtype, 16 * COLUMNS);
        let reference = BaseRef::whole(sha256(b"base"), new.len() as u32);
        let block = Block { data: &new, dtype: Some(dtype), rows: None, base: Some(Base::new(&reference, &old)) };
        let mut stored = Vec::new();
        Encoder::new(Level::Default).encode_with(shape(dtype), &block, &mut stored).unwrap();
        let (_, at) = BlockHeader::read(&stored).unwrap();
        let (mut decoder, mut out) = (Decoder::new(), vec![0; new.len()]);
        let mut decode = |stored: &[u8]| -> Result<(), CodecError> {
            let (header, at) = BlockHeader::read(stored)?;
            decoder.decode(&header, &stored[at..], Some(&old), &mut out)
        };
        for cut in at..stored.len() {
            assert!(decode(&stored[..cut]).is_err(), "{dtype:?} cut to {cut}");
        }
        for byte in at..stored.len().min(at + 600) {
            for bit in 0..8 {
                stored[byte] ^= 1 << bit;
                let _ = decode(&stored);
                stored[byte] ^= 1 << bit;
            }
        }
    }
}
