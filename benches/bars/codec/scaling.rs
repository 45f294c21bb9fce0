//! What a second thread adds, against what it adds to work that needs nothing but a processor.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shard_codecs::Level;
use shard_core::sha256;

use super::blocks::{Coder, Piece, Tensors};
use crate::Failure;
use crate::table::Row;

/// The pair that is coded.
const PAIR: [&str; 2] = ["series/gpt-bf16/step0385.safetensors", "series/gpt-bf16/step0420.safetensors"];
/// Two threads have at least this share of the speed of as many processors as there are: of two, so 1.8 times that of one
/// thread, or of what the machine has free of them.
const LEAST: f64 = 0.9;
/// How long one thread works on a task in a turn, about, and the number of turns in a round: short turns, so that what else
/// the machine does hits all alike.
const TURN: Duration = Duration::from_millis(200);
const TURNS: u32 = 5;
/// More rounds than this are not needed: each is long.
const MOST_ROUNDS: u32 = 5;

/// What is done with a block.
type Task = fn(&mut Worker, &Piece, &[u8]) -> Result<(), String>;

/// A thread's own.
struct Worker {
    coder: Coder,
    encoded: Vec<u8>,
    decoded: Vec<u8>,
}

const TASKS: [(&str, Task); 3] = [
    ("SHA-256", |_, piece, _| {
        black_box(sha256(black_box(&piece.data)));
        Ok(())
    }),
    ("decode", |worker, piece, stored| {
        worker.decoded.resize(worker.decoded.len().max(piece.data.len()), 0);
        worker.coder.decode(stored, piece, &mut worker.decoded[..piece.data.len()])
    }),
    ("encode", |worker, piece, _| worker.coder.encode(piece, &mut worker.encoded)),
];

/// Measures.
pub(crate) fn measure(data: &Path, rounds: u32) -> Result<Vec<Row>, Failure> {
    let [base, file] = PAIR.map(|name| data.join(name));
    let mut pieces = Tensors::of_pair(&base, &file)?.pieces;
    // The last blocks of a queue decide how evenly it is shared: those are small.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.data.len()));
    let stored = Coder::new(Level::Default).encode_all(&pieces)?;
    let blocks: Vec<(&Piece, &[u8])> = pieces.iter().zip(&stored).map(|(piece, stored)| (piece, &stored[..])).collect();
    let mut workers =
        [(); 2].map(|()| Worker { coder: Coder::new(Level::Default), encoded: Vec::new(), decoded: Vec::new() });

    // How often all blocks are done in a turn; which also makes each thread's tables and buffers.
    let mut repeats = [1; TASKS.len()];
    for ((_, task), repeats) in TASKS.iter().zip(&mut repeats) {
        for worker in &mut workers {
            work(std::slice::from_mut(worker), *task, &blocks, 1)?;
            let once = work(std::slice::from_mut(worker), *task, &blocks, 1)?;
            *repeats = (TURN.as_secs_f64() / once.as_secs_f64()).ceil() as usize;
        }
    }
    // For each task, what a second thread made of its speed, in each round.
    let mut gains = [(); TASKS.len()].map(|()| Vec::new());
    for round in 1..=rounds.min(MOST_ROUNDS) {
        let mut times = [[Duration::ZERO; 2]; TASKS.len()];
        for _ in 0..TURNS {
            for threads in 1..=workers.len() {
                for (((_, task), repeats), times) in TASKS.iter().zip(repeats).zip(&mut times) {
                    times[threads - 1] += work(&mut workers[..threads], *task, &blocks, repeats)?;
                }
            }
        }
        for (((name, _), [one, two]), gains) in TASKS.iter().zip(times).zip(&mut gains) {
            let gain = one.as_secs_f64() / two.as_secs_f64();
            eprintln!("codec: round {round}, {name}: two threads have {gain:.2}x the speed of one");
            gains.push(gain);
        }
    }
    let [hash, ours @ ..] = gains;
    let rows = TASKS[1..].iter().zip(ours).map(|((name, _), gains)| {
        // Of one round each: from round to round the machine may have more or less to spare.
        let shares = gains.iter().zip(&hash).map(|(gain, hash)| gain / hash.min(2.0)).collect();
        Row::scaling(&format!("{name}, two threads"), median(hash.clone()), median(gains), median(shares), LEAST)
    });
    Ok(rows.collect())
}

/// How long these workers take for all blocks, `repeats` times, from one queue.
fn work(workers: &mut [Worker], task: Task, blocks: &[(&Piece, &[u8])], repeats: usize) -> Result<Duration, Failure> {
    let next = AtomicUsize::new(0);
    let run = |worker: &mut Worker| {
        // The largest first, each block as often as it is due.
        while let Some((piece, stored)) = blocks.get(next.fetch_add(1, Ordering::Relaxed) / repeats) {
            task(worker, piece, stored)?;
        }
        Ok::<(), String>(())
    };
    let start = Instant::now();
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(|| run(worker))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            .collect()
    });
    let time = start.elapsed();
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(time)
}

/// The middle one, or the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle.saturating_sub(1)..=middle) {
        Some([below, above]) if values.len().is_multiple_of(2) => (below + above) / 2.0,
        Some([.., middle]) => *middle,
        _ => 0.0,
    }
}
