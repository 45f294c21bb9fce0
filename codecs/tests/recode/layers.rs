//! Coarse to fine: both layers give the words to the bit, the first gives them about, and says how far it is off.

use shard_codecs::kernel::Isa;
use shard_codecs::{Base, Block, BlockHeader, CodecError, Decoder, Encoder, Level, Rows, Shape, Word};
use shard_core::{BaseRef, DType, sha256};

use crate::random::Rng;

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];
const ROW: usize = 192;

/// A word of that type, cut off rather than rounded.
fn word(dtype: DType, value: f64, out: &mut Vec<u8>) {
    match dtype {
        DType::F64 => out.extend_from_slice(&value.to_le_bytes()),
        DType::F32 => out.extend_from_slice(&(value as f32).to_le_bytes()),
        DType::BF16 => out.extend_from_slice(&(value as f32).to_le_bytes()[2..]),
        _ => {
            let bits = (value as f32).to_bits();
            let exponent = (bits >> 23 & 0xff) as i32 - 112;
            let half = if exponent <= 0 { 0 } else { (exponent as u32) << 10 | bits >> 13 & 0x3ff };
            out.extend_from_slice(&((half | bits >> 16 & 0x8000) as u16).to_le_bytes());
        }
    }
}

fn value(dtype: DType, word: &[u8]) -> f64 {
    match dtype {
        DType::F64 => f64::from_le_bytes(word.try_into().unwrap()),
        DType::F32 => f32::from_le_bytes(word.try_into().unwrap()).into(),
        DType::BF16 => f32::from_bits(u32::from(u16::from_le_bytes(word.try_into().unwrap())) << 16).into(),
        _ => {
            let half = u32::from(u16::from_le_bytes(word.try_into().unwrap()));
            let (exponent, mantissa) = ((half >> 10 & 31) as i32, f64::from(half & 0x3ff));
            let size = match exponent {
                0 => mantissa * 2f64.powi(-24),
                31 => f64::INFINITY,
                _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
            };
            if half >> 15 == 1 { -size } else { size }
        }
    }
}

/// Weights and the same after a step, rows moving by more or less; every so often a word does not move at all, or jumps.
fn step(dtype: DType, words: usize, extremes: bool) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng(words as u64 + u64::from(dtype.wire_id()));
    let (mut before, mut now) = (Vec::new(), Vec::new());
    for at in 0..words {
        let weight = rng.normal() * 0.02;
        let moved = match rng.next() % 64 {
            0..8 => 0.0,
            8 if extremes => 1e3 * rng.normal(),
            _ => rng.normal() * 1e-4 * f64::from(1 << (at / ROW % 4)),
        };
        word(dtype, weight, &mut before);
        word(dtype, weight + moved, &mut now);
        if extremes && at % 97 == 0 {
            for (buffer, from) in [(&mut before, at), (&mut now, at / 97)] {
                let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, -0.0, f64::MIN_POSITIVE, f64::MAX];
                buffer.truncate(buffer.len() - dtype.word_bytes());
                word(dtype, odd[from % odd.len()], buffer);
            }
        }
    }
    (before, now)
}

/// Decodes all and the first layer of a block, the latter from no more bytes than it takes.
fn decode(isa: Isa, stored: &[u8], base: &[u8]) -> (Vec<u8>, Vec<u8>, shard_codecs::Deviation, usize) {
    let (header, at) = BlockHeader::read(stored).unwrap();
    let mut decoder = Decoder::with_isa(isa);
    let (mut exact, mut near) = (vec![0; header.raw_len as usize], vec![0; header.raw_len as usize]);
    decoder.decode(&header, &stored[at..], Some(base), &mut exact).unwrap();
    let body = &stored[at..];
    let first = header.first_layer_len(body).unwrap().unwrap();
    let deviation = decoder.decode_first_layer(&header, &body[..first], &[base], &mut near).unwrap();
    (exact, near, deviation, first)
}

fn layers(dtype: DType) -> Shape {
    let mut shapes = Shape::legal(Word::of(Some(dtype)));
    shapes.find(|shape| shape.to_string() == "parent+step+layers").unwrap()
}

#[test]
fn both_layers_are_exact_and_the_first_says_how_far_it_is_off() {
    for dtype in FLOATS {
        for (words, extremes) in [(1, false), (300, false), (20_000, false), (20_000, true)] {
            let (before, now) = step(dtype, words, extremes);
            let reference = BaseRef::whole(sha256(b"base"), now.len() as u32);
            let rows = (words > 1000).then_some(Rows { len: ROW as u32, phase: 40 });
            let block = Block { data: &now, dtype: Some(dtype), rows, base: Some(Base::new(&reference, &before)) };
            let mut last = f64::INFINITY;
            for bits in 1..=8 {
                let name = format!("{dtype:?}, {words} words, {bits} bits");
                let mut stored = Vec::new();
                let mut encoder = Encoder::new(Level::Default).with_layers(Some(bits));
                match encoder.encode_with(layers(dtype), &block, &mut stored) {
                    Ok(_) => {}
                    // A few words have no shorter form.
                    Err(CodecError::Chain(_)) if words <= 300 => continue,
                    Err(error) => unreachable!("{name}: {error}"),
                }
                let (exact, near, deviation, first) = decode(Isa::best(), &stored, &before);
                assert!(exact == now, "{name}");
                for isa in Isa::available() {
                    assert_eq!(
                        decode(isa, &stored, &before),
                        (exact.clone(), near.clone(), deviation, first),
                        "{name}"
                    );
                }
                let errors = || {
                    let bytes = dtype.word_bytes();
                    now.chunks(bytes).zip(near.chunks(bytes)).map(|(now, near)| {
                        let error = (value(dtype, now) - value(dtype, near)).abs();
                        if now == near {
                            0.0
                        } else if error.is_nan() {
                            f64::INFINITY
                        } else {
                            error
                        }
                    })
                };
                let max = errors().fold(0.0, f64::max);
                assert!(f64::from(deviation.max) >= max && f64::from(deviation.max) <= max * (1.0 + 1e-6), "{name}");
                let squares: f64 = errors().map(|error| error * error).sum();
                assert!(squares == deviation.squares || (squares / deviation.squares - 1.0).abs() < 1e-9, "{name}");
                if !extremes && words > 1000 {
                    assert!(first < stored.len(), "{name}: {first} of {} bytes", stored.len());
                    assert!(squares <= last * 1.001, "{name}: more bits are worse, {squares} after {last}");
                    last = squares;
                }
            }
            if !extremes && words > 1000 {
                let moved: f64 = now
                    .chunks(dtype.word_bytes())
                    .zip(before.chunks(dtype.word_bytes()))
                    .map(|(now, before)| (value(dtype, now) - value(dtype, before)).powi(2))
                    .sum();
                assert!(last < moved / 100.0, "{dtype:?}: eight bits leave {last} of {moved}");
            }
        }
    }
}

#[test]
fn two_layers_take_hardly_more_than_one() {
    for dtype in FLOATS {
        let (before, now) = step(dtype, 100_000, false);
        let reference = BaseRef::whole(sha256(b"base"), now.len() as u32);
        let rows = Some(Rows { len: ROW as u32, phase: 0 });
        let block = Block { data: &now, dtype: Some(dtype), rows, base: Some(Base::new(&reference, &before)) };
        let mut one = Vec::new();
        Encoder::new(Level::Default).encode(&block, &mut one).unwrap();
        for bits in 1..=8 {
            let mut two = Vec::new();
            let encoded = Encoder::new(Level::Default).with_layers(Some(bits)).encode(&block, &mut two).unwrap();
            // Where steps are hardly wider than units in the last place, one layer may do.
            let is_fine = bits > 4 && dtype.word_bytes() == 2;
            let coding = encoded.chain.coding();
            assert!(coding.name() == "layers" || is_fine, "{dtype:?}, {bits} bits: {}", encoded.chain);
            assert!(two.len() * 100 <= one.len() * 103, "{dtype:?}, {bits} bits: {} and {}", two.len(), one.len());
        }
    }
}

/// What leans on nothing, has no floats, or is exactly its base stays in one layer.
#[test]
fn layers_are_only_where_they_serve() {
    let (before, now) = step(DType::F32, 5_000, false);
    let reference = BaseRef::whole(sha256(b"base"), now.len() as u32);
    let base = Some(Base::new(&reference, &before));
    let blocks = [
        Block { data: &now, dtype: Some(DType::F32), rows: None, base: None },
        Block { data: &before, dtype: Some(DType::F32), rows: None, base },
        Block { data: &now, dtype: Some(DType::I32), rows: None, base },
        Block { data: &now, dtype: None, rows: None, base },
    ];
    for block in blocks {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        Encoder::new(Level::Default).encode(&block, &mut one).unwrap();
        Encoder::new(Level::Default).with_layers(Some(4)).encode(&block, &mut two).unwrap();
        assert!(one == two, "{:?}", block.dtype);
        let (header, at) = BlockHeader::read(&two).unwrap();
        assert_eq!(header.first_layer_len(&two[at..]).unwrap(), None);
        let refused = Decoder::new().decode_first_layer(&header, &two[at..], &[&before], &mut vec![0; now.len()]);
        assert!(matches!(refused, Err(CodecError::Chain(_))));
    }
}

#[test]
fn a_damaged_first_layer_is_an_error_or_a_value() {
    for dtype in FLOATS {
        let (before, now) = step(dtype, 2_500, false);
        let reference = BaseRef::whole(sha256(b"base"), now.len() as u32);
        let rows = Some(Rows { len: 64, phase: 20 });
        let block = Block { data: &now, dtype: Some(dtype), rows, base: Some(Base::new(&reference, &before)) };
        let mut stored = Vec::new();
        Encoder::new(Level::Default).encode_with(layers(dtype), &block, &mut stored).unwrap();
        let (header, at) = BlockHeader::read(&stored).unwrap();
        let mut body = stored[at..].to_vec();
        let first = header.first_layer_len(&body).unwrap().unwrap();
        let (mut decoder, mut out) = (Decoder::new(), vec![0; now.len()]);
        for cut in 0..first {
            assert!(decoder.decode_first_layer(&header, &body[..cut], &[&before], &mut out).is_err(), "cut to {cut}");
        }
        for byte in 0..first.min(400) {
            for bit in 0..8 {
                body[byte] ^= 1 << bit;
                let _ = decoder.decode_first_layer(&header, &body, &[&before], &mut out);
                let _ = decoder.decode(&header, &body, Some(&before), &mut out);
                body[byte] ^= 1 << bit;
            }
        }
    }
}
