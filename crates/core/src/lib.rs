//! The vocabulary that every other crate of shard speaks: data types, tensor views, file layouts, content ids, base
//! references, limits, wire primitives, progress, and what is safe and short enough to print. Nothing here does I/O.
#![forbid(unsafe_code)]

pub mod base;
pub mod digest;
pub mod dtype;
pub mod layout;
pub mod limits;
pub mod progress;
pub mod sha256;
pub mod size;
pub mod text;
pub mod wire;

pub use base::{BaseRange, BaseRef, Transpose};
pub use digest::Digest;
pub use dtype::{DType, FloatFormat};
pub use layout::{CompressedRun, Compression, Layout, LayoutError, Segment, TensorView};
pub use progress::{NoProgress, Progress};
pub use sha256::{Sha256, sha256};
pub use wire::{WireError, WireReader};
