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
/// How long threads work on a task in a turn, and the number of turns in a round: short turns, so that what else the machine
/// does hits all alike.
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
    let pieces = Tensors::of_pair(&base, &file)?.pieces;
    let stored = Coder::new(Level::Default).encode_all(&pieces)?;
    let blocks: Vec<(&Piece, &[u8])> = pieces.iter().zip(&stored).map(|(piece, stored)| (piece, &stored[..])).collect();
    let mut workers =
        [(); 2].map(|()| Worker { coder: Coder::new(Level::Default), encoded: Vec::new(), decoded: Vec::new() });

    let queues = TASKS.map(|(_, task)| Queue { task, blocks: &blocks, next: AtomicUsize::new(0) });
    // Which makes each thread's tables and buffers.
    for queue in &queues {
        queue.work(&mut workers)?;
    }
    // For each task, what a second thread made of its speed, in each round.
    let mut gains = [(); TASKS.len()].map(|()| Vec::new());
    for round in 1..=rounds.min(MOST_ROUNDS) {
        let mut speeds = [[0.0; 2]; TASKS.len()];
        for _ in 0..TURNS {
            for threads in 1..=workers.len() {
                for (queue, speeds) in queues.iter().zip(&mut speeds) {
                    speeds[threads - 1] += queue.work(&mut workers[..threads])?;
                }
            }
        }
        for (((name, _), [one, two]), gains) in TASKS.iter().zip(speeds).zip(&mut gains) {
            let gain = two / one;
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

/// All blocks, over and over.
struct Queue<'a> {
    task: Task,
    blocks: &'a [(&'a Piece, &'a [u8])],
    next: AtomicUsize,
}

impl Queue<'_> {
    /// The speed of these workers together in a turn, a thread each, in bytes a second.
    fn work(&self, workers: &mut [Worker]) -> Result<f64, Failure> {
        let speeds: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(|| self.turn(worker))).collect();
            let panicked = |_| Err("a thread panicked".to_owned());
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        Ok(speeds.into_iter().sum::<Result<f64, String>>()?)
    }

    /// Each thread's time ends with its last block: waiting for the other's would weigh more the longer a block takes.
    fn turn(&self, worker: &mut Worker) -> Result<f64, String> {
        let start = Instant::now();
        let mut bytes = 0;
        while start.elapsed() < TURN {
            let (piece, stored) = self.blocks[self.next.fetch_add(1, Ordering::Relaxed) % self.blocks.len()];
            (self.task)(worker, piece, stored)?;
            bytes += piece.data.len();
        }
        Ok(bytes as f64 / start.elapsed().as_secs_f64())
    }
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
