//! Whole blocks: with the chain that the encoder chooses, with chains that see the prediction of every word, and by zstd.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use shard_codecs::{BlockHeader, CodecError, Coding, Decoder, Encoder, Level, Shape, Word};
use shard_core::limits::MAX_BLOCK;

use crate::data::{CASES, Input};

const LEVELS: [(&str, Level); 3] = [("fast", Level::Fast), ("default", Level::Default), ("max", Level::Max)];

/// What is slow has less to code, in bytes, at the same throughput.
const LITTLE: usize = 512 << 10;

/// The chains that the encoder chooses, choosing and verification included.
pub(crate) fn chosen(c: &mut Criterion) {
    for case in CASES.iter() {
        let mut group = c.benchmark_group(case.name);
        group.throughput(Throughput::Bytes(case.data.len() as u64));
        yardstick(&mut group, &case.data);
        for input in case.inputs(case.data.len()) {
            let mut stored = Vec::new();
            for (level_name, level) in [("fast", Level::Fast), ("default", Level::Default)] {
                let mut encoder = Encoder::new(level);
                group.bench_function(format!("encode/{}, {level_name}", input.name), |b| {
                    b.iter(|| {
                        stored.clear();
                        encoder.encode(black_box(&input.block()), &mut stored).unwrap()
                    });
                });
            }
            // Of the last level: what a reader does depends on the chain alone.
            let encode = || {
                let mut stored = Vec::new();
                Encoder::new(Level::Default).encode(&input.block(), &mut stored).unwrap();
                stored
            };
            decode(&mut group, &format!("decode/{}", input.name), &input, encode);
        }
        group.finish();
    }
}

/// The context coder, and what else codes each word by its prediction, with the simplest predictors, at every level. What a
/// level stores decides what a reader has to do, so decoding is measured for each.
pub(crate) fn context(c: &mut Criterion) {
    for case in CASES.iter().filter(|case| case.dtype.is_some()) {
        let word = Word::of(case.dtype);
        let mut group = c.benchmark_group(format!("context/{}", case.name));
        let shapes = Shape::legal(word).filter(|shape| !shape.coding.is_filter() && shape.predictor.factors() == 0);
        for shape in shapes {
            let slow = shape.coding != Coding::Context;
            let len = if slow { LITTLE } else { MAX_BLOCK };
            group.throughput(Throughput::Bytes(len as u64));
            let inputs = case.inputs(len);
            for input in inputs.iter().filter(|input| input.base.is_some() == (shape.predictor.bases() > 0)) {
                if !takes(shape, input) {
                    continue;
                }
                // What is slow is the same at every level.
                let levels = if slow { &LEVELS[2..] } else { &LEVELS[..] };
                for (level_name, level) in levels {
                    let name = format!("{}, {shape}, {level_name}", input.name);
                    let mut encoder = Encoder::new(*level);
                    let mut stored = Vec::new();
                    group.bench_function(format!("encode/{name}"), |b| {
                        b.iter(|| {
                            stored.clear();
                            encoder.encode_with(shape, black_box(&input.block()), &mut stored).unwrap()
                        });
                    });
                    let encode = || {
                        let mut stored = Vec::new();
                        Encoder::new(*level).encode_with(shape, &input.block(), &mut stored).unwrap();
                        stored
                    };
                    decode(&mut group, &format!("decode/{name}"), input, encode);
                }
            }
        }
        group.finish();
    }
}

/// Whether these stages have a form for the block that is shorter than it is.
fn takes(shape: Shape, input: &Input<'_>) -> bool {
    match Encoder::new(Level::Fast).encode_with(shape, &input.block(), &mut Vec::new()) {
        Err(CodecError::Chain(_)) => false,
        encoded => encoded.map(|_| true).unwrap(),
    }
}

/// Decoding of what `encode` gives, which is asked only where the benchmark runs.
fn decode(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    input: &Input<'_>,
    mut encode: impl FnMut() -> Vec<u8>,
) {
    let mut ready = None;
    let mut out = vec![0; input.data.len()];
    group.bench_function(name, |b| {
        let (decoder, stored) = ready.get_or_insert_with(|| (Decoder::new(), encode()));
        b.iter(|| {
            let (header, len) = BlockHeader::read(black_box(stored)).unwrap();
            let base = input.base.as_ref().filter(|_| header.base.is_some()).map(|(_, bytes)| *bytes);
            decoder.decode(&header, &stored[len..], base, &mut out).unwrap();
        });
        assert_eq!(out, input.data);
    });
}

/// `zstd -3` and `zstd -d` of the same bytes.
fn yardstick(group: &mut BenchmarkGroup<'_, WallTime>, data: &[u8]) {
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    let mut out = Vec::with_capacity(data.len() * 2);
    group.bench_function("encode/zstd -3", |b| {
        b.iter(|| {
            out.clear();
            compressor.compress_to_buffer(black_box(data), &mut out).unwrap()
        });
    });
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut stored = None;
    group.bench_function("decode/zstd -d", |b| {
        let stored = stored.get_or_insert_with(|| compressor.compress(data).unwrap());
        b.iter(|| {
            out.clear();
            decompressor.decompress_to_buffer(black_box(&stored[..]), &mut out).unwrap()
        });
        assert_eq!(out, data);
    });
}
