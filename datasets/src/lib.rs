//! Data for shard's demo, tests and benches: small real training series made by training with candle on the CPU
//! ([`train`], behind the default feature of that name), large files with the value statistics of a real pair of
//! checkpoints ([`synth`]), small files for the cases that tests need ([`cases`]), and the way to the recorded real series
//! ([`real`]). Nothing needs a network.
#![forbid(unsafe_code)]

pub mod cases;
pub mod real;
pub mod rng;
pub mod synth;
pub mod text;
#[cfg(feature = "train")]
pub mod train;
