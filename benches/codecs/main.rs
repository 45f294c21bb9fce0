//! Throughput of the codecs on one core: whole blocks, with zstd on the same bytes beside them, and each stage alone; of
//! SHA-256; and of the parser on a file with very many tensors.
//!
//! `cargo bench -p shard-benches`, or with part of a name as a filter: `cargo bench -p shard-benches -- bf16/decode`. What is
//! filtered out is not prepared either, but for little, so nothing may rely on another benchmark having run.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make undocumented functions; a benchmark that cannot go on stops"
)]

mod blocks;
mod data;
mod stages;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shard_core::limits::MAX_BLOCK;
use shard_core::sha256;

/// Tensors of the file that is parsed.
const TENSORS: usize = 100_000;

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
    targets = blocks::chosen, blocks::context, stages::predictors, stages::residuals, stages::filters, stages::coders, hashing,
        parsing
}
criterion_main!(benches);
