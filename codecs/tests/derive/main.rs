//! Derivations: the same bits with every instruction set and for ever, right by the plainest code there is, and nothing but errors
//! for what makes no sense.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod cases;

use std::collections::BTreeSet;
use std::fmt::Write;

use half::{bf16, f16};
use shard_codecs::derive::quantise::{Sample, fit};
use shard_codecs::derive::{
    Arithmetic, Cast, Change, Ggml, Linear, Merge, Moments, NanRule, Rounding, Sizes, Target, words,
};
use shard_codecs::kernel::Isa;
use shard_codecs::{Base, Block, BlockHeader, CODECS, CodecError, Decoder, Derived, Encoder, Level};
use shard_core::{BaseRange, BaseRef, DType, sha256};

use cases::{Case, Random, cases, special, weights, word};

/// What each case derives, by its name: only ever added to.
const GOLDEN: &str = include_str!("../fixtures/derived.txt");

fn derive(case: &Case, isa: Isa) -> Vec<u8> {
    let mut out = vec![0xaa; case.target.len];
    case.derived
        .derive(isa, case.target, &case.input, &mut out)
        .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    out
}

#[test]
fn every_case_derives_what_it_always_did() {
    let golden: std::collections::BTreeMap<&str, &str> =
        GOLDEN.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let mut compared = 0;
    for case in cases() {
        for isa in Isa::available() {
            let hash = sha256(&derive(&case, isa)).to_hex();
            assert_eq!(golden.get(case.name.as_str()), Some(&&hash[..16]), "{} {isa:?}", case.name);
        }
        compared += 1;
    }
    assert_eq!(compared, golden.len());
    let seen: BTreeSet<&str> = cases().iter().map(|case| case.derived.name()).collect();
    for derivation in CODECS.derivations {
        assert!(seen.contains(derivation.name()), "{}", derivation.name());
    }
}

#[test]
#[ignore = "writes the fixtures: cargo test --release -p shard-codecs --test derive write_fixtures -- --ignored"]
fn write_fixtures() {
    let mut text = String::new();
    for case in cases() {
        let hash = sha256(&derive(&case, Isa::SCALAR)).to_hex();
        writeln!(text, "{} {}", case.name, &hash[..16]).unwrap();
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/derived.txt");
    std::fs::write(path, text).unwrap();
}

fn reference(len: usize) -> BaseRef {
    BaseRef { ranges: vec![BaseRange { block: Some(sha256(b"inputs")), start: 0, len: len as u32 }], transpose: None }
}

#[test]
fn blocks_on_derived_bases_come_back() {
    for case in cases().into_iter().step_by(3) {
        let mut data = derive(&case, Isa::best());
        // Nearly what is derived, and exactly that.
        for changed in [false, true] {
            if changed {
                data.iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
            }
            let reference = reference(case.input.len());
            let base = Base { reference: &reference, derived: Some(case.derived), bytes: &case.input };
            let block = Block { data: &data, dtype: Some(case.target.dtype), rows: None, base: Some(base) };
            for level in [Level::Fast, Level::Default, Level::Max] {
                let mut stored = Vec::new();
                let encoded = Encoder::new(level).encode(&block, &mut stored).unwrap();
                // What tells nothing of special values may lose to the words themselves.
                if !encoded.used_base {
                    assert!(matches!(case.derived.name(), "magnitude" | "step"), "{}", case.name);
                    continue;
                }
                let (header, len) = BlockHeader::read(&stored).unwrap();
                assert_eq!(header.derived, Some(case.derived));
                assert_eq!(header.base_len(), case.input.len());
                for isa in Isa::available() {
                    let mut out = vec![0; data.len()];
                    let mut decoder = Decoder::with_isa(isa);
                    decoder.decode(&header, &stored[len..], Some(&case.input), &mut out).unwrap();
                    assert!(out == data, "{} {isa:?}", case.name);
                    let short = decoder.decode(&header, &stored[len..], Some(&case.input[1..]), &mut out);
                    assert!(matches!(short, Err(CodecError::Length { .. })), "{}", case.name);
                    assert!(matches!(
                        decoder.decode(&header, &stored[len..], None, &mut out),
                        Err(CodecError::BaseMissing)
                    ));
                }
            }
        }
    }
}

#[test]
fn numbers_that_no_header_may_have_are_refused_before_one_is_written() {
    let target = Target { dtype: DType::F32, len: 4 * 64 };
    let merge = |columns, rank| Merge {
        dtypes: [DType::F32, DType::U8, DType::U8],
        arithmetic: Arithmetic::Wide,
        rank,
        columns,
        phase: 0,
        transposed_rows: None,
        factor: 1.0,
    };
    assert!(merge(1 << 20, 1).derived().input_lens(target).is_ok());
    assert!(merge((1 << 20) + 64, 1).derived().input_lens(target).is_err());
    assert!(merge(64, 1024).derived().input_lens(target).is_ok());
    assert!(merge(64, 1025).derived().input_lens(target).is_err());
    // All columns of stacked experts.
    let sizes = Sizes { tensors: 1, dtype: DType::F32, scales: None, columns: 4096 * 14_336, phase: 0 };
    assert!(sizes.derived(&[1e9, 0.5]).input_lens(target).is_ok());
}

#[test]
fn damaged_headers_are_errors_or_values() {
    let mut errors = 0;
    for case in cases().into_iter().step_by(17) {
        let data = derive(&case, Isa::best());
        let reference = reference(case.input.len());
        let base = Base { reference: &reference, derived: Some(case.derived), bytes: &case.input };
        let block = Block { data: &data, dtype: Some(case.target.dtype), rows: None, base: Some(base) };
        let mut stored = Vec::new();
        Encoder::new(Level::Default).encode(&block, &mut stored).unwrap();
        let (header, header_len) = BlockHeader::read(&stored).unwrap();
        if header.derived.is_none() {
            continue;
        }
        for at in 0..header_len {
            assert!(BlockHeader::read(&stored[..at]).is_err(), "{} cut at {at}", case.name);
            for bit in 0..8 {
                let mut damaged = stored.clone();
                damaged[at] ^= 1 << bit;
                let Ok((header, len)) = BlockHeader::read(&damaged) else {
                    errors += 1;
                    continue;
                };
                if header.body_len() != damaged.len() - len || header.base_len() > 1 << 20 {
                    continue;
                }
                let input: Vec<u8> = case.input.iter().copied().cycle().take(header.base_len()).collect();
                let mut out = vec![0; header.raw_len as usize];
                let mut first = None;
                for isa in Isa::available() {
                    let result = Decoder::with_isa(isa).decode(&header, &damaged[len..], Some(&input), &mut out);
                    let result = result.ok().map(|()| out.clone());
                    assert_eq!(first.get_or_insert_with(|| result.clone()), &result, "{} {at} {bit}", case.name);
                }
            }
        }
    }
    assert!(errors > 100, "{errors} errors");
}

#[test]
fn casts_are_those_of_other_programs() {
    let isa = Isa::best();
    let cast = |from, to, words: &[u8], count: usize, nan| {
        let target = Target { dtype: to, len: count * to.word_bytes() };
        let mut out = vec![0; target.len];
        Cast::of(from, Rounding::Nearest, nan, false).derive(isa, target, words, &mut out).unwrap();
        out
    };
    // Every pattern of 16 bits up, and a few million of 32 bits down.
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for (index, word) in cast(DType::F16, DType::F32, &all, 65536, NanRule::Payload).chunks_exact(4).enumerate() {
        let (made, wanted) = (f32::from_le_bytes(word.try_into().unwrap()), f16::from_bits(index as u16).to_f32());
        assert!(made.to_bits() == wanted.to_bits(), "{index:x}: {made} {wanted}");
    }
    for (index, word) in cast(DType::BF16, DType::F32, &all, 65536, NanRule::Payload).chunks_exact(4).enumerate() {
        let wanted = bf16::from_bits(index as u16).to_f32().to_bits();
        let quiet = if f32::from_bits(wanted).is_nan() { 1 << 22 } else { 0 };
        assert_eq!(u32::from_le_bytes(word.try_into().unwrap()), wanted | quiet, "{index:x}");
    }
    let mut random = Random(77);
    let words: Vec<u32> = (0..1 << 20)
        .map(|_| match random.next() % 3 {
            0 => random.next() as u32,
            1 => (random.next() as u32 & 0x8fff_ffff) | 0x3000_0000,
            // Halfway between two of 16 bits, and one beside that.
            _ => (random.next() as u32 & 0xffff_8000).wrapping_add(random.next() as u32 % 3).wrapping_sub(1),
        })
        .collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let halves = cast(DType::F32, DType::F16, &bytes, words.len(), NanRule::Payload);
    let brains = cast(DType::F32, DType::BF16, &bytes, words.len(), NanRule::Payload);
    let ones = cast(DType::F32, DType::BF16, &bytes, words.len(), NanRule::Ones);
    for (index, word) in words.iter().enumerate() {
        let value = f32::from_bits(*word);
        let at = |words: &[u8]| u16::from_le_bytes([words[2 * index], words[2 * index + 1]]);
        assert_eq!(at(&halves), f16::from_f32(value).to_bits(), "{word:x}");
        assert_eq!(at(&brains), bf16::from_f32(value).to_bits(), "{word:x}");
        assert_eq!(at(&ones) == 0xffff, value.is_nan(), "{word:x}");
    }
    let doubles: Vec<f64> = words.iter().map(|word| f64::from(f32::from_bits(*word)) * 1.000_000_07).collect();
    let bytes: Vec<u8> = doubles.iter().flat_map(|value| value.to_le_bytes()).collect();
    let singles = cast(DType::F64, DType::F32, &bytes, words.len(), NanRule::Payload);
    for (value, word) in doubles.iter().zip(singles.chunks_exact(4)).filter(|(value, _)| !value.is_nan()) {
        assert_eq!(f32::from_le_bytes(word.try_into().unwrap()).to_bits(), (*value as f32).to_bits(), "{value:e}");
    }
}

#[test]
fn the_cast_that_was_used_is_found() {
    let isa = Isa::best();
    for (from, to) in [(DType::F32, DType::BF16), (DType::F32, DType::F16), (DType::BF16, DType::F8E4M3)] {
        let source = special(from, 20_000, 12);
        for rounding in [Rounding::Nearest, Rounding::Truncate] {
            for nan in [NanRule::Payload, NanRule::Canonical, NanRule::Signed] {
                let made = Cast::of(from, rounding, nan, false);
                let target = Target { dtype: to, len: 20_000 * to.word_bytes() };
                let mut words = vec![0; target.len];
                made.derive(isa, target, &source, &mut words).unwrap();
                let (_, equal) = Cast::find(isa, (from, &source), (to, &words)).unwrap();
                assert_eq!(equal, 20_000, "{from} {to} {rounding:?} {nan:?}");
            }
        }
    }
    assert!(Cast::find(isa, (DType::I8, &[1]), (DType::F32, &[0; 4])).is_none());
}

/// A matrix, and it with a product of that rank added.
fn merged(dtype: DType, rows: usize, columns: usize, rank: usize, size: f64) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random(4711);
    let base: Vec<f64> = (0..rows * columns).map(|_| random.weight(0.05)).collect();
    let left: Vec<f64> = (0..rows * rank).map(|_| random.weight(1.0)).collect();
    let right: Vec<f64> = (0..rank * columns).map(|_| random.weight(size)).collect();
    let before: Vec<u8> = base.iter().flat_map(|value| word(dtype, *value)).collect();
    let value = |at: usize| match dtype {
        DType::F32 => f64::from(f32::from_le_bytes(before[4 * at..4 * at + 4].try_into().unwrap())),
        _ => bf16::from_le_bytes([before[2 * at], before[2 * at + 1]]).to_f64(),
    };
    let after = (0..rows * columns).flat_map(|at| {
        let (row, column) = (at / columns, at % columns);
        let change: f64 = (0..rank).map(|k| left[row * rank + k] * right[k * columns + column]).sum();
        word(dtype, value(at) + change)
    });
    let after = after.collect();
    (before, after)
}

#[test]
fn a_change_of_low_rank_is_found_from_the_pair_alone() {
    let isa = Isa::best();
    for (dtype, rows, columns, rank, most) in
        [(DType::F32, 300, 200, 4, 10), (DType::BF16, 300, 200, 4, 6), (DType::F32, 96, 400, 1, 15)]
    {
        let (before, after) = merged(dtype, rows, columns, rank, 0.002);
        let mut change = Change::new(columns);
        change.extend(isa, (dtype, &before), (dtype, &after)).unwrap();
        let glance = change.glance().unwrap();
        let factors = change.find(isa, glance, rows).unwrap();
        assert_eq!(factors.rank, rank);
        let left = change.left(isa, &factors).unwrap();
        let ((left_type, left), (right_type, right)) = (words(&left), words(&factors.right));
        let merge = Merge {
            dtypes: [dtype, left_type, right_type],
            arithmetic: Arithmetic::Wide,
            rank: rank as u32,
            columns: columns as u64,
            phase: 0,
            transposed_rows: None,
            factor: factors.step * factors.step,
        };
        let input = [&before[..], &left, &right].concat();
        let reference = reference(input.len());
        let base = Base { reference: &reference, derived: Some(merge.derived()), bytes: &input };
        let mut stored = Vec::new();
        Encoder::new(Level::Default)
            .encode(&Block { data: &after, dtype: Some(dtype), rows: None, base: Some(base) }, &mut stored)
            .unwrap();
        let total = stored.len() + left.len() + right.len();
        assert!(total * most < after.len(), "{dtype} of rank {rank}: {total} of {}", after.len());
    }
}

#[test]
fn other_changes_have_no_low_rank() {
    let isa = Isa::best();
    for dtype in [DType::F32, DType::BF16] {
        let (before, _) = merged(dtype, 200, 200, 1, 0.0);
        let mut random = Random(5);
        let step = before.chunks_exact(dtype.word_bytes()).flat_map(|old| {
            let value = match dtype {
                DType::F32 => f64::from(f32::from_le_bytes(old.try_into().unwrap())),
                _ => bf16::from_le_bytes(old.try_into().unwrap()).to_f64(),
            };
            word(dtype, value + random.weight(0.002))
        });
        let after: Vec<u8> = step.collect();
        for after in [&after, &before] {
            let mut change = Change::new(200);
            change.extend(isa, (dtype, &before), (dtype, after)).unwrap();
            let found = change.glance().and_then(|rank| change.find(isa, rank, 200));
            assert!(found.is_none(), "{dtype}");
        }
    }
    let mut change = Change::new(8);
    assert!(change.extend(isa, (DType::I8, &[0; 8]), (DType::F32, &[0; 32])).is_err());
}

#[test]
fn how_codes_were_made_is_found() {
    let isa = Isa::best();
    let (rows, columns) = (90, 70);
    let source = weights(DType::F32, rows * columns, 55);
    let floats: Vec<f32> = source.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    let largest =
        |row: usize| floats[row * columns..(row + 1) * columns].iter().fold(0f32, |most, x| most.max(x.abs()));
    let scales: Vec<f32> = (0..rows).map(|row| largest(row) / 120.0).collect();
    let scale_bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let of_row = |scale: &dyn Fn(usize) -> f32| -> Vec<u8> {
        let code = |at: usize| (floats[at] / scale(at / columns)).round_ties_even().clamp(-128.0, 127.0);
        (0..floats.len()).map(|at| code(at) as i8 as u8).collect()
    };
    let unrelated = weights(DType::F32, rows, 3);
    let tensors = [(DType::F32, &unrelated[..]), (DType::F32, &scale_bytes[..])];
    let find = |codes: (DType, &[u8]), tensors: &[(DType, &[u8])]| {
        fit(isa, &Sample { source: (DType::F32, &source), codes, columns, rows }, tensors)
    };
    // By the largest magnitude of a row, with nothing given.
    let found = find((DType::I8, &of_row(&|row| largest(row) / 127.0)), &[]).unwrap();
    assert_eq!((found.equal, found.codes.scale, found.codes.divisor), (rows * columns, None, 127.0));
    // By scales in another tensor.
    let found = find((DType::I8, &of_row(&|row| scales[row])), &tensors).unwrap();
    assert_eq!((found.equal, found.given), (rows * columns, [Some(1), None]));
    // With zero points.
    let zeros: Vec<u8> = (0..rows).map(|row| 100 + (row % 50) as u8).collect();
    let affine: Vec<u8> = (0..floats.len())
        .map(|at| {
            let quotient = (floats[at] / scales[at / columns]).round_ties_even() + f32::from(zeros[at / columns]);
            quotient.clamp(0.0, 255.0) as u8
        })
        .collect();
    let with_zeros = [tensors[0], tensors[1], (DType::U8, &zeros[..])];
    let found = find((DType::U8, &affine), &with_zeros).unwrap();
    assert_eq!((found.equal, found.given), (rows * columns, [Some(1), Some(2)]));
    // Of other floats, nothing agrees.
    let other = weights(DType::I8, rows * columns, 1000);
    assert!(find((DType::I8, &other), &tensors).is_none_or(|found| found.equal * 2 < rows * columns));
}

#[test]
fn weights_of_a_sum_are_found() {
    let isa = Isa::best();
    let count = 20_000;
    let mut random = Random(8);
    let first: Vec<f32> = (0..count).map(|_| random.weight(0.05) as f32).collect();
    let mut next = |before: &[f32]| -> Vec<f32> { before.iter().map(|x| x + random.weight(0.001) as f32).collect() };
    let (second, third) = (next(&first), next(&first));
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let tensors = [&first, &second, &third].map(|values| bytes(values));
    let offered: Vec<&[u8]> = tensors.iter().map(Vec::as_slice).collect();
    let mean: Vec<f32> = (0..count).map(|at| (first[at] + second[at] + third[at]) / 3.0).collect();
    let found = Linear::find(isa, DType::F32, &bytes(&mean), &offered).unwrap();
    assert!(found.equal == 1.0 && found.used.len() == 3, "{found:?}");
    let soup: Vec<f32> = (0..count).map(|at| 0.3f32 * first[at] + 0.7f32 * third[at]).collect();
    let found = Linear::find(isa, DType::F32, &bytes(&soup), &offered).unwrap();
    assert!(found.equal == 1.0 && found.used.len() == 2, "{found:?}");
    // A task vector: what the second learned, added to the third.
    let task: Vec<f32> = (0..count).map(|at| third[at] + 0.5 * (second[at] - first[at])).collect();
    let found = Linear::find(isa, DType::F32, &bytes(&task), &offered).unwrap();
    assert!(found.left < 1e-6 && found.used.len() == 3, "{found:?}");
    // Another step is no sum of these.
    let other = next(&third);
    assert!(Linear::find(isa, DType::F32, &bytes(&other), &offered).is_none_or(|found| found.left > 0.9));
    assert!(Linear::find(isa, DType::F32, &bytes(&mean), &offered[..1]).is_none());
    assert!(Linear::find(isa, DType::F32, &bytes(&mean), &[&tensors[0], &tensors[0]]).is_none());
    // One of them alone is no sum.
    assert!(Linear::find(isa, DType::F32, &tensors[0], &[&tensors[0], &tensors[1]]).is_none());
}

#[test]
fn factors_of_moments_are_found() {
    let isa = Isa::best();
    let count = 5_000;
    let mut random = Random(17);
    let weights: Vec<f64> = (0..count).map(|_| random.weight(0.05)).collect();
    let second: Vec<f64> = (0..count).map(|_| (random.weight(0.01) + 0.02).abs() + 1e-3).collect();
    let first: Vec<f64> = second.iter().map(|second| random.weight(1.0) * second.sqrt()).collect();
    let bytes = |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect() };
    let target = Target { dtype: DType::F32, len: 4 * count };
    let moments = Moments { weights: DType::F32, moments: DType::F32, pairs: 1, second: true };
    let input = [bytes(&weights), bytes(&first), bytes(&second)].concat();
    let near = |derived: Derived, wanted: &[f64]| {
        let mut out = vec![0; target.len];
        derived.derive(isa, target, &input, &mut out).unwrap();
        let made = out.chunks_exact(4).map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap())));
        made.zip(wanted).map(|(made, wanted)| (made - wanted).powi(2)).sum::<f64>()
    };
    let moved: Vec<f64> = (0..count)
        .map(|at| weights[at] * 0.999 - 0.001 * first[at] / second[at].sqrt() + random.weight(1e-4))
        .collect();
    let found = moments.fit(isa, target, &input, &bytes(&moved)).unwrap();
    let without: f64 = weights.iter().zip(&moved).map(|(before, after)| (before - after).powi(2)).sum();
    assert!(near(found, &moved) < without / 50.0);
    // A step that has nothing to do with the moments.
    let other: Vec<f64> = weights.iter().map(|weight| weight + random.weight(0.001)).collect();
    assert!(moments.fit(isa, target, &input, &bytes(&other)).is_none());
    // The first moment's size follows from the second; another tensor's does not.
    let sizes = Sizes { tensors: 1, dtype: DType::F32, scales: None, columns: 1, phase: 0 };
    let squares: Vec<f64> = second.iter().map(|value| (value * 40.0).powi(4)).collect();
    let sized: Vec<f64> = squares.iter().map(|square| square.sqrt() * random.weight(1.0)).collect();
    assert!(sizes.fit(isa, target, &bytes(&squares), &bytes(&sized)).is_some());
    assert!(sizes.fit(isa, target, &bytes(&squares), &bytes(&weights)).is_none());
}

#[test]
fn quantised_blocks_are_those_of_ggml_itself() {
    // Twelve super-blocks of floats, and what the library of that name makes of them, type by type: weights, zeros, equal values,
    // zeros among others, one sign only, tiny and far values, few values, repeats, halves.
    let fixture = include_bytes!("../fixtures/ggml.bin");
    let (floats, mut rest) = fixture.split_at(12 * 256 * 4);
    for dtype in [
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
    ] {
        let (wanted, after) = rest.split_at(dtype.byte_len(12 * 256).unwrap() as usize);
        rest = after;
        for isa in Isa::available() {
            let mut made = vec![0; wanted.len()];
            let target = Target { dtype, len: wanted.len() };
            Ggml::of(DType::F32, false).derive(isa, target, floats, &mut made).unwrap();
            assert!(made == wanted, "{dtype} {isa:?}");
        }
    }
    assert!(rest.is_empty());
}
