//! What can go wrong with a block.

use shard_core::WireError;
use thiserror::Error;

/// A block that cannot be encoded or decoded.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The block header is malformed.
    #[error("malformed block header: {0}")]
    Header(#[from] WireError),
    /// The header is of a version that this build does not read.
    #[error("block header version {0} is not supported")]
    Version(u8),
    /// The header names a stage that this build does not have.
    #[error("{stage} {id} is not supported")]
    Unsupported {
        /// The kind of stage.
        stage: &'static str,
        /// Its wire id.
        id: u8,
    },
    /// The header's stages do not go together, or not with the block's data type.
    #[error("illegal chain: {0}")]
    Chain(&'static str),
    /// The body does not decode.
    #[error("malformed block body: {0}")]
    Body(&'static str),
    /// A buffer has another length than the block calls for.
    #[error("{what} is {got} bytes, {wanted} expected")]
    Length {
        /// The buffer.
        what: &'static str,
        /// Its length in bytes.
        got: usize,
        /// The length expected, in bytes.
        wanted: usize,
    },
    /// The block is larger than [`shard_core::limits::MAX_BLOCK`], or metadata than [`shard_core::limits::MAX_METADATA`].
    #[error("a block of {0} bytes is too large")]
    TooLarge(usize),
    /// The block leans on a base that was not given.
    #[error("the block needs its base")]
    BaseMissing,
    /// What was encoded did not decode to the input: a bug, or memory that does not keep its bits.
    #[error("verification failed: the encoded block does not decode to its input (chain {0})")]
    Verify(String),
    /// zstd could not make or use a context.
    #[error("zstd: {0}")]
    Zstd(#[source] std::io::Error),
}
