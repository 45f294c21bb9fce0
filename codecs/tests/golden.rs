//! Stored blocks that must decode forever, and that today's encoder still makes.
//!
//! Each line of `fixtures/blocks.txt`: data type, content, length in bytes, chain, stored block in hexadecimal.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::collections::BTreeSet;
use std::fmt::Write;

use shard_codecs::kernel::Isa;
use shard_codecs::{Base, Block, BlockHeader, CODECS, Decoder, Encoder, Level, Rows, Shape, Word};
use shard_core::{BaseRange, BaseRef, DType, sha256};

/// What today's encoder makes.
const FIXTURES: &str = include_str!("fixtures/blocks.txt");
/// What earlier ones made of the same blocks: only ever added to, for it has to decode for ever.
const KEPT: &str = include_str!("fixtures/kept.txt");

/// Words of a row, where the content has rows.
const ROW: u64 = 96;

/// A block of `len` bytes and its base. Word `i` of the base is `i * 0x9e3779b97f4a7c15`; the block's is near it.
fn content(name: &str, word: usize, len: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut data, mut base) = (Vec::new(), Vec::new());
    for index in 0..len as u64 {
        let hash = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let draw = (hash >> 17).wrapping_mul(hash | 1) >> 40;
        let before = hash.rotate_left(29) & 0x3fff_3fff_3fff_3fff;
        let now = match name {
            "steps" => before.wrapping_add(u64::from(draw.trailing_ones())).wrapping_sub(draw % 3),
            "rare" if draw % 300 == 0 => before ^ ((draw >> 9) % 5),
            "zeros" if draw % 4 != 0 => 0,
            "few" if draw % 20 != 0 => 0,
            "small" if (draw >> 3) % 32 != 0 => draw % 9,
            "seldom" if draw % 90_000 == 0 => before ^ 0x155,
            "tail" if draw % 400 == 0 => before ^ ((draw >> 9) % 120),
            // Rows that move by more than others, and words by less the larger they are; rows that move by their mantissa.
            "rows" => before.wrapping_add(((draw % 16) >> (before >> 12 & 3)) << (index / ROW % 3 * 2)),
            "mantissas" if !(index / ROW).is_multiple_of(3) => before.wrapping_add(((before >> 17 & 63) * 3) >> 4),
            "mantissas" => before.wrapping_add(draw % 4096),
            "jumps" if draw % 16 == 0 => before ^ 0xfff,
            // Quarters, as binary32, of whole numbers that need up to five bits.
            "grid" => u64::from(((draw % 61) as f32 / 4.0 - 7.0).to_bits()),
            // Words whose lower half is 0, the upper near that of the base.
            "upper" => (before & !0xffff).wrapping_add((draw % 3) << 16),
            "text" => u64::from(b"{\"weight\": [1, 2]}, "[index as usize % 20]),
            _ => before,
        };
        data.extend_from_slice(&now.to_le_bytes()[..word]);
        base.extend_from_slice(&before.to_le_bytes()[..word]);
    }
    data.truncate(len);
    base.truncate(len);
    (data, base)
}

/// The base, and the one before it where there are two: of which every eighth byte differs in a bit.
fn bases(base: Vec<u8>, count: usize) -> Vec<u8> {
    let older: Vec<u8> = base.iter().enumerate().map(|(index, byte)| byte ^ u8::from(index % 8 == 0)).collect();
    if count == 2 { [base, older].concat() } else { base }
}

/// What the fixtures cover: every legal shape for words of every size, short; streams long enough for 4, 32 and 64 states.
fn cases() -> Vec<(Option<DType>, &'static str, usize, Shape)> {
    let mut cases = Vec::new();
    for dtype in [Some(DType::BF16), Some(DType::F32), Some(DType::F64), Some(DType::I8), Some(DType::I16), None] {
        for shape in Shape::legal(Word::of(dtype)) {
            for content in ["steps", "rare", "jumps", "zeros"] {
                cases.push((dtype, content, 91, shape));
            }
        }
    }
    // What depends on the type beyond its width: how scaled floats are rounded, and where exponents lie.
    for dtype in [DType::F16, DType::F8E4M3] {
        let told = |shape: &Shape| shape.predictor.factors() > 0 || shape.coding.name() == "context";
        for shape in Shape::legal(Word::of(Some(dtype))).filter(told) {
            cases.push((Some(dtype), "steps", 301, shape));
        }
    }
    for shape in Shape::legal(Word::of(Some(DType::BF16))).filter(|shape| shape.residual.name() == "ulp") {
        cases.push((Some(DType::BF16), "rare", 17_000, shape));
        cases.push((Some(DType::BF16), "steps", 3_001, shape));
        if shape.coding.name() == "escape" {
            cases.push((Some(DType::BF16), "steps", 17_000, shape));
        }
    }
    let small = Shape::legal(Word::of(Some(DType::I16))).find(|shape| shape.to_string() == "zero+escape");
    cases.push((Some(DType::I16), "small", 901, small.unwrap()));
    for shape in Shape::legal(Word::of(Some(DType::BF16))).filter(|shape| shape.to_string() == "zero+gaps") {
        cases.push((Some(DType::BF16), "few", 901, shape));
    }
    // Many rare values beside a very frequent one: what fine probabilities are for.
    let skewed = Shape::legal(Word::of(Some(DType::I8))).find(|shape| shape.to_string() == "parent+ulp");
    cases.push((Some(DType::I8), "tail", 60_000, skewed.unwrap()));
    cases.push((Some(DType::I8), "tail", 600_000, skewed.unwrap()));
    let of = |dtype, name| Shape::legal(Word::of(Some(dtype))).find(|shape| shape.to_string() == name).unwrap();
    // 64 states with either precision; gaps that are longer than a number tells.
    cases.push((Some(DType::BF16), "rare", 1_100_000, of(DType::BF16, "parent+ulp+planes")));
    cases.push((Some(DType::BF16), "seldom", 1_000_001, of(DType::BF16, "parent+ulp+gaps")));
    // Classes of runs, several buckets, mantissa bins, fine probabilities, several tokens in a symbol, 64 states.
    for (dtype, name, len) in [
        (DType::BF16, "rows", 7_001),
        (DType::F32, "mantissas", 14_003),
        (DType::I8, "tail", 60_000),
        (DType::BF16, "rare", 1_600_001),
    ] {
        cases.push((Some(dtype), name, len, of(dtype, "parent+step+context")));
    }
    // Both layers, with scales of rows and contexts of several cells.
    for (dtype, name, len) in [
        (DType::F16, "rows", 4_001),
        (DType::BF16, "rows", 4_001),
        (DType::F32, "mantissas", 6_003),
        (DType::F64, "rows", 6_003),
    ] {
        cases.push((Some(dtype), name, len, of(dtype, "parent+step+layers")));
    }
    for shape in Shape::legal(Word::of(Some(DType::F32))).filter(|shape| shape.coding.name() == "grid") {
        cases.push((Some(DType::F32), "grid", 3_001, shape));
    }
    for shape in Shape::legal(Word::of(Some(DType::F32))).filter(|shape| shape.coding.name() == "narrow") {
        cases.push((Some(DType::F32), "upper", 3_001, shape));
    }
    for dtype in [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0] {
        let unit = dtype.storage_unit().1 as usize;
        cases.push((Some(dtype), "rare", 90 * unit, of(dtype, "parent+step+units")));
        cases.push((Some(dtype), "steps", 90 * unit, of(dtype, "parent+step+units")));
    }
    cases.push((None, "text", 400, Shape::legal(Word::of(None)).next().unwrap()));
    cases
}

fn encode(dtype: Option<DType>, name: &str, len: usize, shape: Shape) -> Option<(String, Vec<u8>)> {
    let (data, base) = content(name, Word::of(dtype).bytes, len);
    let mut reference = BaseRef::whole(sha256(b"golden"), len as u32);
    let base = bases(base, shape.predictor.bases());
    if shape.predictor.bases() == 2 {
        reference.ranges.push(BaseRange { block: Some(sha256(b"older")), ..reference.ranges[0] });
    }
    let rows = matches!(name, "rows" | "mantissas").then_some(Rows { len: ROW as u32, phase: 0 });
    let block = Block { data: &data, dtype, rows, base: Some(Base::new(&reference, &base)) };
    let mut stored = Vec::new();
    let encoded = Encoder::new(Level::Default).encode_with(shape, &block, &mut stored).ok()?;
    Some((encoded.chain.to_string(), stored))
}

fn line(dtype: Option<DType>, name: &str, len: usize, chain: &str, stored: &[u8]) -> String {
    let mut line = format!("{} {name} {len} {chain} ", dtype.map_or("-", DType::name));
    for byte in stored {
        write!(line, "{byte:02x}").unwrap();
    }
    line
}

#[test]
fn todays_encoder_makes_the_same_bytes() {
    let mut kept = FIXTURES.lines();
    let mut compared = 0;
    for (dtype, name, len, shape) in cases() {
        let Some((chain, stored)) = encode(dtype, name, len, shape) else { continue };
        let kept = kept.next().unwrap();
        // What zstd makes of the same bytes changes with its version.
        if !chain.contains("zstd") {
            assert_eq!(line(dtype, name, len, &chain, &stored), kept);
            compared += 1;
        }
    }
    assert_eq!(kept.next(), None);
    assert!(compared > 100, "{compared} compared");
}

#[test]
fn every_stored_block_decodes() {
    let mut chains = BTreeSet::new();
    let mut fine = 0;
    for line in FIXTURES.lines().chain(KEPT.lines()) {
        let [dtype, name, len, chain, stored] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let dtype = DType::from_name(dtype);
        let stored: Vec<u8> = stored
            .as_bytes()
            .as_chunks::<2>()
            .0
            .iter()
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect();
        let (data, base) = content(name, Word::of(dtype).bytes, len.parse().unwrap());
        let (header, header_len) = BlockHeader::read(&stored).unwrap();
        let base = bases(base, header.chain.predictor().bases());
        assert_eq!((header.dtype, header.chain.to_string()), (dtype, chain.to_owned()));
        assert_eq!(header.base.is_some(), !chain.starts_with("zero"));
        for isa in Isa::available() {
            let mut out = vec![0; data.len()];
            Decoder::with_isa(isa).decode(&header, &stored[header_len..], Some(&base), &mut out).unwrap();
            assert!(out == data, "{dtype:?} {name} {len} {chain} {isa:?}");
        }
        let first = header.streams().next();
        fine += usize::from(first.is_some_and(|s| s.coder.name() == "rans") && stored[header_len] >> 6 == 1);
        chains.insert(header.chain.shape().to_string());
        chains.extend(header.streams().map(|stream| stream.coder.name().to_owned()));
    }
    assert!(fine > 0, "no rANS stream has fine probabilities");
    for dtype in DType::ALL {
        for shape in Shape::legal(Word::of(Some(*dtype))) {
            assert!(chains.contains(&shape.to_string()), "{shape}");
        }
    }
    for coder in CODECS.coders {
        assert!(chains.contains(coder.name()), "{}", coder.name());
    }
}

#[test]
#[ignore = "writes the fixtures: cargo test --release -p shard-codecs --test golden write_fixtures -- --ignored"]
fn write_fixtures() {
    // Lines that the encoder no longer makes are kept.
    let (mut text, mut kept) = (String::new(), KEPT.to_owned());
    for (dtype, name, len, shape) in cases() {
        if let Some((chain, stored)) = encode(dtype, name, len, shape) {
            text += &line(dtype, name, len, &chain, &stored);
            text.push('\n');
        }
    }
    let made: BTreeSet<&str> = text.lines().chain(KEPT.lines()).collect();
    for line in FIXTURES.lines().filter(|line| !made.contains(line)) {
        kept += line;
        kept.push('\n');
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::write(folder.join("blocks.txt"), text).unwrap();
    std::fs::write(folder.join("kept.txt"), kept).unwrap();
}
