//! Object storage as a backend: repositories at `s3://bucket/prefix`, `gs://bucket/prefix` and `az://container/prefix`.
//!
//! Nothing but the store itself coordinates writers: an object is created only if its name is free, by a conditional put. Not every
//! store keeps that promise; [`BucketBackend::check_puts`] finds out.
#![forbid(unsafe_code)]

mod address;
mod backend;
mod check;
mod connect;
mod error;
mod profile;
#[cfg(test)]
mod tests;

pub use address::{Address, Scheme};
pub use backend::BucketBackend;
pub use check::Broken;
pub use error::BucketError;
