//! Throughput of the codecs, block by block and on one core, with zstd on the same bytes beside them; of SHA-256; and of the
//! parser on a file with very many tensors.
//!
//! `cargo bench -p shard-benches`, or with part of a name as a filter: `cargo bench -p shard-benches -- bf16/decode`.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make undocumented functions; a benchmark that cannot go on stops"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use half::{bf16, f16};
use shard_codecs::{Base, Block, BlockHeader, Decoder, Encoder, Level};
use shard_core::limits::MAX_BLOCK;
use shard_core::{BaseRange, BaseRef, DType, sha256};
use shard_datasets::rng::Rng;

/// The scale of weights, and of the step between two versions: nearly every fp32 word of them differs, and most bf16 words.
const WEIGHT: f32 = 0.02;
const STEP: f32 = 4e-4;
/// The scale of int8 weights.
const INT8: f32 = 0.06 / 127.0;
/// One word in so many moves in a sparse step.
const SPARSE: u64 = 50;
/// Tensors of the file that is parsed.
const TENSORS: usize = 100_000;

/// A block as the engine cuts it, and what an earlier version has in its place.
struct Case {
    name: &'static str,
    dtype: Option<DType>,
    data: Vec<u8>,
    /// By name, how far the version before was away.
    bases: Vec<(&'static str, Vec<u8>)>,
}

/// A block of weights of one type, and the blocks before it: one in which few words differ, one in which most do.
fn weights(name: &'static str, dtype: DType, put: fn(f32, &mut Vec<u8>)) -> Case {
    let mut rng = Rng::new(3);
    let words = MAX_BLOCK / dtype.word_bytes();
    let new: Vec<f32> = (0..words).map(|_| rng.normal() as f32 * WEIGHT).collect();
    let bytes = |values: &mut dyn Iterator<Item = f32>| {
        let mut bytes = Vec::with_capacity(MAX_BLOCK);
        values.for_each(|value| put(value, &mut bytes));
        bytes
    };
    let data = bytes(&mut new.iter().copied());
    let mut step = |one_in: u64| {
        bytes(&mut new.iter().map(|value| {
            let moves = rng.below(one_in) == 0;
            if moves { value + rng.normal() as f32 * STEP } else { *value }
        }))
    };
    let bases = vec![("sparse delta", step(SPARSE)), ("dense delta", step(1))];
    Case { name, dtype: Some(dtype), data, bases }
}

/// A block of something like a log. The engine gives opaque bytes no base.
fn text() -> Case {
    let mut rng = Rng::new(5);
    let mut data = Vec::with_capacity(MAX_BLOCK + 128);
    let mut step = 0;
    while data.len() < MAX_BLOCK {
        step += 1 + rng.below(3);
        let (loss, rate) = (2.0 + rng.normal() * 0.05, 6e-4 * rng.unit());
        data.extend_from_slice(format!("{{\"step\": {step}, \"loss\": {loss:.5}, \"lr\": {rate:.3e}}}\n").as_bytes());
    }
    data.truncate(MAX_BLOCK);
    Case { name: "text", dtype: None, data, bases: Vec::new() }
}

fn cases() -> Vec<Case> {
    vec![
        weights("bf16", DType::BF16, |value, out| out.extend(bf16::from_f32(value).to_le_bytes())),
        weights("fp16", DType::F16, |value, out| out.extend(f16::from_f32(value).to_le_bytes())),
        weights("fp32", DType::F32, |value, out| out.extend(value.to_le_bytes())),
        // The cast saturates.
        weights("int8", DType::I8, |value, out| out.extend(((value / INT8).round() as i8).to_le_bytes())),
        text(),
    ]
}

fn codecs(c: &mut Criterion) {
    for case in cases() {
        let mut group = c.benchmark_group(case.name);
        group.throughput(Throughput::Bytes(case.data.len() as u64));
        yardstick(&mut group, &case.data);
        let block = Block { data: &case.data, dtype: case.dtype, rows: None, base: None };
        encode_and_decode(&mut group, "solo", &block);
        let range = BaseRange { block: Some(sha256(b"the version before")), start: 0, len: case.data.len() as u32 };
        let reference = BaseRef { ranges: vec![range], transpose: None };
        for (name, bytes) in &case.bases {
            encode_and_decode(&mut group, name, &Block { base: Some(Base { reference: &reference, bytes }), ..block });
        }
        group.finish();
    }
}

/// `zstd -3` and `zstd -d` of the same bytes.
fn yardstick(group: &mut BenchmarkGroup<'_, WallTime>, data: &[u8]) {
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    let stored = compressor.compress(data).unwrap();
    let mut out = Vec::with_capacity(data.len() * 2);
    group.bench_function("encode/zstd -3", |b| {
        b.iter(|| {
            out.clear();
            compressor.compress_to_buffer(black_box(data), &mut out).unwrap()
        });
    });
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    group.bench_function("decode/zstd -d", |b| {
        b.iter(|| {
            out.clear();
            decompressor.decompress_to_buffer(black_box(&stored), &mut out).unwrap()
        });
    });
    assert_eq!(out, data);
}

fn encode_and_decode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, block: &Block<'_>) {
    let mut stored = Vec::new();
    for (level_name, level) in [("fast", Level::Fast), ("default", Level::Default)] {
        let mut encoder = Encoder::new(level);
        group.bench_function(format!("encode/{name}, {level_name}"), |b| {
            b.iter(|| {
                stored.clear();
                encoder.encode(black_box(block), &mut stored).unwrap()
            });
        });
    }
    // Of the last level: what a reader does depends on the chain alone.
    stored.clear();
    Encoder::new(Level::Default).encode(block, &mut stored).unwrap();
    let mut decoder = Decoder::new();
    let mut out = vec![0; block.data.len()];
    let base = block.base.map(|base| base.bytes);
    group.bench_function(format!("decode/{name}"), |b| {
        b.iter(|| {
            let (header, len) = BlockHeader::read(black_box(&stored)).unwrap();
            let base = base.filter(|_| header.base.is_some());
            decoder.decode(&header, &stored[len..], base, &mut out).unwrap();
        });
    });
    assert_eq!(out, block.data);
}

fn hashing(c: &mut Criterion) {
    let data = vec![7; MAX_BLOCK];
    let mut group = c.benchmark_group("sha256");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("a block", |b| b.iter(|| sha256(black_box(&data))));
    group.finish();
}

fn parsing(c: &mut Criterion) {
    let entry = |index: usize| {
        let (from, to) = (index * 2, index * 2 + 2);
        format!("\"layers.{index}.mlp.weight\":{{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[{from},{to}]}}")
    };
    let header = format!("{{{}}}", (0..TENSORS).map(entry).collect::<Vec<_>>().join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + TENSORS * 2, 0);
    assert_eq!(shard_formats::parse(&file).unwrap().layout.tensors.len(), TENSORS);
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(TENSORS as u64));
    group
        .bench_function("safetensors, 100,000 tensors", |b| b.iter(|| shard_formats::parse(black_box(&file)).unwrap()));
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .without_plots()
}

criterion_group! {
    name = benches;
    config = short();
    targets = codecs, hashing, parsing
}
criterion_main!(benches);
