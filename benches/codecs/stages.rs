//! Each stage of a chain alone, whatever the registry has: predictors, residuals, filters, entropy coders. (The coders that
//! see predictions can be reached by whole blocks only: see [`crate::blocks::context`].)

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use shard_codecs::entropy::{Counts, EntropyCoder, Workspace};
use shard_codecs::filter::{Filter, Joining, Splitting};
use shard_codecs::kernel::Isa;
use shard_codecs::predict::{Factors, Known, MAX_FACTORS};
use shard_codecs::residual::Residual;
use shard_codecs::{CODECS, Level, MAX_STREAMS, Word};
use shard_core::limits::MAX_BLOCK;
use shard_datasets::rng::Rng;

use crate::data::{CASES, Case};

/// Stages take a block in pieces of so many bytes, which stay in the first-level cache.
const PIECE: usize = 8 << 10;
/// The residual that filters are measured on.
const RESIDUAL: &str = "ulp";

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// The cases of tensors, each with its words and a group of its own.
fn each_case(c: &mut Criterion, stage: &str, mut measure: impl FnMut(&mut Group<'_>, &Case, Word)) {
    for case in CASES.iter().filter(|case| case.dtype.is_some()) {
        let mut group = c.benchmark_group(format!("{stage}/{}", case.name));
        group.throughput(Throughput::Bytes(case.data.len() as u64));
        measure(&mut group, case, Word::of(case.dtype));
        group.finish();
    }
}

/// Predictors, on the dense delta: looking for factors, and predicting. Those that have no factors compute nothing.
pub(crate) fn predictors(c: &mut Criterion) {
    let isa = Isa::best();
    each_case(c, "predict", |group, case, word| {
        let Some((_, newer)) = case.bases.last() else { return };
        let versions = [&newer[..], &case.older];
        for predictor in CODECS.predictors.iter().filter(|predictor| predictor.factors() > 0 && predictor.fits(word)) {
            let bases = &versions[..predictor.bases()];
            let known = Known { isa, word, words: &case.data, bases, rows: case.rows, dear: false };
            group
                .bench_function(format!("{}, find", predictor.name()), |b| b.iter(|| predictor.find(black_box(known))));
            let factors: Factors = [0.99f64.to_bits(); MAX_FACTORS];
            let mut buffer = Vec::new();
            group.bench_function(predictor.name(), |b| {
                b.iter(|| predictor.predict(isa, word, &factors, black_box(bases), &mut buffer).map(<[u8]>::len));
            });
        }
    });
}

/// Residuals of both deltas.
pub(crate) fn residuals(c: &mut Criterion) {
    let isa = Isa::best();
    each_case(c, "residual", |group, case, word| {
        for (name, base) in &case.bases {
            for residual in CODECS.residuals.iter().filter(|residual| residual.needs_prediction()) {
                let mut piece = vec![0; PIECE];
                group.bench_function(format!("{name}, {}, forward", residual.name()), |b| {
                    b.iter(|| {
                        for (words, base) in case.data.chunks(PIECE).zip(base.chunks(PIECE)) {
                            residual.forward(isa, word, black_box(words), base, &mut piece[..words.len()]);
                        }
                    });
                });
                let mut ready = None;
                let mut out = vec![0; case.data.len()];
                group.bench_function(format!("{name}, {}, inverse", residual.name()), |b| {
                    let residuals = ready.get_or_insert_with(|| forward(*residual, word, &case.data, base));
                    b.iter(|| {
                        let parts = residuals.chunks(PIECE).zip(base.chunks(PIECE)).zip(out.chunks_mut(PIECE));
                        for ((residuals, base), out) in parts {
                            residual.inverse(isa, word, black_box(residuals), base, out);
                        }
                    });
                    assert_eq!(out, case.data);
                });
            }
        }
    });
}

fn forward(residual: &dyn Residual, word: Word, words: &[u8], base: &[u8]) -> Vec<u8> {
    let mut residuals = vec![0; words.len()];
    residual.forward(Isa::best(), word, words, base, &mut residuals);
    residuals
}

/// Filters, on the residuals of both deltas where they take these.
pub(crate) fn filters(c: &mut Criterion) {
    let isa = Isa::best();
    let Some(residual) = CODECS.residuals.iter().find(|residual| residual.name() == RESIDUAL) else { return };
    each_case(c, "filter", |group, case, word| {
        for (name, base) in &case.bases {
            let words = forward(*residual, word, &case.data, base);
            for filter in CODECS.filters.iter().filter(|filter| filter.fits(word)) {
                let mut arena = Arena::new(*filter, word, words.len());
                let Some(exceptions) = arena.split(*filter, isa, word, &words) else { continue };
                group.bench_function(format!("{name}, {}, split", filter.name()), |b| {
                    b.iter(|| arena.split(*filter, isa, word, black_box(&words)));
                });
                let mut piece = vec![0; PIECE];
                group.bench_function(format!("{name}, {}, join", filter.name()), |b| {
                    let streams = arena.streams(*filter, word, words.len(), exceptions);
                    b.iter(|| {
                        let mut joining = Joining { streams: black_box(streams), words: 0, exceptions: 0, next: 0 };
                        for words in words.chunks(PIECE) {
                            let piece = &mut piece[..words.len()];
                            filter.join(isa, word.bytes, &mut joining, piece).unwrap();
                        }
                    });
                    assert_eq!(piece, words[words.len() - PIECE..]);
                });
            }
        }
    });
}

/// Room for streams.
struct Arena {
    streams: Vec<Vec<u8>>,
}

impl Arena {
    fn new(filter: &dyn Filter, word: Word, len: usize) -> Self {
        let words = len / word.bytes;
        let lengths = filter.lengths(word.bytes, words, filter.most_exceptions(words).unwrap_or(0));
        Self { streams: lengths.as_slice().iter().map(|len| vec![0; *len]).collect() }
    }

    /// Splits a block's words and says how many were exceptions; `None` where there are too many.
    fn split(&mut self, filter: &dyn Filter, isa: Isa, word: Word, words: &[u8]) -> Option<usize> {
        let mut streams: [&mut [u8]; MAX_STREAMS] = Default::default();
        for (stream, room) in streams.iter_mut().zip(&mut self.streams) {
            *stream = room;
        }
        let mut splitting = Splitting { streams, words: 0, exceptions: 0, next: 0 };
        let done = words.chunks(PIECE).all(|piece| filter.split(isa, word.bytes, piece, &mut splitting));
        done.then_some(splitting.exceptions)
    }

    /// The streams of so many bytes of words, cut to their lengths.
    fn streams(&self, filter: &dyn Filter, word: Word, len: usize, exceptions: usize) -> [&[u8]; MAX_STREAMS] {
        let lengths = filter.lengths(word.bytes, len / word.bytes, exceptions);
        let mut streams: [&[u8]; MAX_STREAMS] = Default::default();
        for ((stream, room), len) in streams.iter_mut().zip(&self.streams).zip(lengths.as_slice()) {
            *stream = &room[..*len];
        }
        streams
    }
}

/// Entropy coders, on streams as blocks have them.
pub(crate) fn coders(c: &mut Criterion) {
    let mut group = c.benchmark_group("entropy");
    for (name, stream) in streams() {
        group.throughput(Throughput::Bytes(stream.len() as u64));
        let mut counts: Counts = [0; 256];
        stream.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        for coder in CODECS.coders {
            coder_on(&mut group, name, &stream, &counts, *coder);
        }
    }
    group.finish();
}

fn coder_on(group: &mut Group<'_>, name: &str, stream: &[u8], counts: &Counts, coder: &dyn EntropyCoder) {
    let mut workspace = Workspace::new(Isa::best(), Level::Default);
    let mut stored = Vec::new();
    // Not every coder has a shorter form of every stream.
    if !coder.encode(&mut workspace, stream, counts, &mut stored).unwrap() {
        return;
    }
    let mut out = vec![0; stream.len()];
    coder.decode(&mut workspace, &stored, &mut out).unwrap();
    assert_eq!(out, stream);
    let mut again = Vec::new();
    group.bench_function(format!("{name}, {}, encode", coder.name()), |b| {
        b.iter(|| {
            again.clear();
            coder.encode(&mut workspace, black_box(stream), counts, &mut again).unwrap()
        });
    });
    group.bench_function(format!("{name}, {}, decode", coder.name()), |b| {
        b.iter(|| coder.decode(&mut workspace, black_box(&stored), &mut out).unwrap());
    });
}

/// Streams by name: the exponents of weights, steps of few and of most words, text, what is the same all over, noise.
fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let find = |name| CASES.iter().find(|case| case.name == name);
    let mut streams = Vec::new();
    if let Some(case) = find("bf16") {
        streams.push(("exponents", case.data.iter().skip(1).step_by(2).copied().collect()));
    }
    if let Some(case) = find("int8") {
        let differences = |(name, base): &(&'static str, Vec<u8>)| {
            (*name, case.data.iter().zip(base).map(|(now, before)| now.wrapping_sub(*before)).collect())
        };
        streams.extend(case.bases.iter().map(differences));
    }
    streams.extend(find("text").map(|case| ("text", case.data.clone())));
    streams.push(("zeros", vec![0; MAX_BLOCK]));
    let mut rng = Rng::new(7);
    streams.push(("noise", (0..MAX_BLOCK / 8).flat_map(|_| rng.bits().to_le_bytes()).collect()));
    streams
}
