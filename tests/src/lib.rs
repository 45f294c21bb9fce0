//! What shard's end-to-end suites share: running the binary ([`process`], [`serving`]), files and folders to give it ([`odd_files`],
//! [`reshard`], [`rewrite`], [`tree`], [`zips`]), faults ([`inject`], [`disk`], [`damage`], [`crash`], [`killing`]), long histories ([`long_history`]), what blocks cost
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
pub mod killing;
pub mod long_history;
pub mod odd_files;
pub mod payload;
pub mod process;
pub mod reshard;
pub mod rewrite;
pub mod serving;
pub mod tree;
pub mod zips;

/// The address of an empty folder in a bucket, for a test that needs one: below that in `SHARD_TEST_BUCKET`, whose store the
/// usual variables of the environment describe. `tests/stores/run` starts a store and sets them.
///
/// # Panics
/// Where the variable is not set: a test that needs a store and has none has failed.
#[must_use]
pub fn bucket(name: &str) -> String {
    match std::env::var("SHARD_TEST_BUCKET") {
        Ok(url) => format!("{url}/{name}"),
        Err(_) => panic!("this test needs a bucket: run `tests/stores/run`, which starts a store for it"),
    }
}

/// How often a repeated test is repeated: as `SHARD_TEST_ROUNDS` says, or else so often.
///
/// # Panics
/// Where the variable is no number.
#[must_use]
pub fn rounds(default: u32) -> u32 {
    match std::env::var("SHARD_TEST_ROUNDS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("SHARD_TEST_ROUNDS is no number: {text:?}")),
        Err(_) => default,
    }
}
