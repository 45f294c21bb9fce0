//! Derivation search: which stored tensors a new one was computed from.
//!
//! Casts are found by name before a file is cut ([`cast`]); products of low rank when the first block of a tensor comes by, since
//! what they lean on is at hand then ([`low_rank`]). What is found is an offer: a block is stored with it only where that is smaller.

mod cast;
mod low_rank;

use std::sync::Arc;

use shard_codecs::Derived;
use shard_core::{BaseRef, Digest};
use shard_manifest::BlockSpan;

pub(crate) use cast::{CastOf, Casts, find_casts};
pub(crate) use low_rank::{LowRanks, Matrix};

/// A base that is to be computed.
pub(crate) struct DerivedBase {
    pub(crate) derived: Derived,
    /// What it is computed from.
    pub(crate) reference: BaseRef,
    /// Blocks that were made for this and may not be stored yet.
    pub(crate) made: Option<Arc<MadeBlocks>>,
}

/// A block that no file has, but others lean on.
pub(crate) struct MadeBlock {
    pub(crate) span: BlockSpan,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stored: Vec<u8>,
}

/// Blocks that were made for one tensor.
#[derive(Default)]
pub(crate) struct MadeBlocks(pub(crate) Vec<MadeBlock>);

impl MadeBlocks {
    /// The bytes of a block, if it is one of these.
    pub(crate) fn bytes(&self, id: &Digest) -> Option<Vec<u8>> {
        self.0.iter().find(|block| block.span.id == *id).map(|block| block.bytes.clone())
    }
}
