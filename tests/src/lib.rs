//! What shard's end-to-end suites share: running the binary ([`process`]), files and folders to give it ([`odd_files`],
//! [`reshard`], [`rewrite`], [`tree`], [`zips`]), faults ([`inject`], [`disk`], [`damage`], [`crash`]), long histories ([`long_history`]), what blocks cost
//! ([`payload`]), and the published baseline to measure against ([`bitx`]).
//!
//! Everything here panics where it cannot do its work: a test whose fixture fails has failed.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use this crate, and a test whose fixture fails has failed"
)]

pub mod bitx;
pub mod crash;
pub mod damage;
pub mod disk;
pub mod inject;
pub mod long_history;
pub mod odd_files;
pub mod payload;
pub mod process;
pub mod reshard;
pub mod rewrite;
pub mod tree;
pub mod zips;
