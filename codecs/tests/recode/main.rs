//! Words in another form: every recoding on words that are made for it, on such that are not, and damaged.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grid;
mod layers;
mod narrow;
mod random;
mod units;
