//! Derivation search: which stored tensors a new one was computed from.
//!
//! Tensors in another type are looked for before a file is cut ([`search`], [`compare`]); products of low rank when the first block
//! of a tensor comes by, since what they lean on is at hand then ([`low_rank`]). What is found is an offer: a block is stored with
//! it only where that is smaller.

mod adapter;
mod average;
mod compare;
mod computed;
mod low_rank;
mod moments;
mod search;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shard_codecs::derive::{Moments, Sizes, Target};
use shard_codecs::kernel::Isa;
use shard_codecs::{Block, Derived, Encoder, Level};
use shard_core::limits::MAX_BLOCK;
use shard_core::{BaseRef, DType, Digest, sha256};
use shard_manifest::BlockSpan;

use crate::error::{RepoError, Result};

pub(crate) use adapter::{Adapter, Adapters, find_adapters};
pub(crate) use computed::Computed;
pub(crate) use low_rank::{LowRanks, Matrix};
pub(crate) use search::{AllComputed, find_computed};

/// A base that is to be computed.
pub(crate) struct DerivedBase {
    pub(crate) formula: Formula,
    /// What it is computed from.
    pub(crate) reference: BaseRef,
    /// Blocks that were made for this and may not be stored yet.
    pub(crate) made: Option<Arc<MadeBlocks>>,
}

/// How a base is computed.
pub(crate) enum Formula {
    Known(Derived),
    /// With factors that fit the block.
    Step(Moments),
    /// With exponents that fit the block.
    Sizes(Sizes),
}

impl Formula {
    /// Whether such words take much longer to compute than to decode.
    pub(crate) fn is_slow(&self, dtype: DType) -> bool {
        matches!(self, Self::Known(derived) if derived.is_slow(dtype))
    }

    /// The derivation for a block, if it helps.
    pub(crate) fn of(&self, target: Target, input: &[u8], words: &[u8]) -> Option<Derived> {
        match self {
            Self::Known(derived) => Some(*derived),
            Self::Step(moments) => moments.fit(Isa::best(), target, input, words),
            Self::Sizes(sizes) => sizes.fit(Isa::best(), target, input, words),
        }
    }
}

/// A block that no file has, but others lean on.
pub(crate) struct MadeBlock {
    pub(crate) span: BlockSpan,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stored: Vec<u8>,
}

/// Blocks that were made for one tensor, until they are stored.
#[derive(Default)]
pub(crate) struct MadeBlocks(Mutex<Vec<MadeBlock>>);

impl MadeBlocks {
    fn new(blocks: Vec<MadeBlock>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(blocks)))
    }

    fn blocks(&self) -> MutexGuard<'_, Vec<MadeBlock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a block is one of these and not stored yet.
    pub(crate) fn has(&self, id: &Digest) -> bool {
        self.blocks().iter().any(|block| block.span.id == *id)
    }

    /// The bytes of a block, if it is one of these and not stored yet.
    pub(crate) fn bytes(&self, id: &Digest) -> Option<Vec<u8>> {
        self.blocks().iter().find(|block| block.span.id == *id).map(|block| block.bytes.clone())
    }

    /// Stores all, and lets go of them: a large file has more of them than memory should hold.
    pub(crate) fn store(&self, mut store: impl FnMut(&MadeBlock) -> Result<()>) -> Result<()> {
        let mut blocks = self.blocks();
        blocks.iter().try_for_each(&mut store)?;
        *blocks = Vec::new();
        Ok(())
    }
}

/// Makes blocks of words, which are encoded each by itself.
fn make_blocks(dtype: DType, words: &[u8], path: &Path, made: &mut Vec<MadeBlock>) -> Result<Vec<BlockSpan>> {
    let mut encoder = Encoder::new(Level::Default);
    let mut spans = Vec::new();
    for data in words.chunks(MAX_BLOCK) {
        let mut stored = Vec::new();
        encoder
            .encode(&Block { data, dtype: Some(dtype), rows: None, base: None }, &mut stored)
            .map_err(|source| RepoError::Encode { path: path.to_owned(), source })?;
        let span = BlockSpan { id: sha256(data), len: data.len() as u32 };
        spans.push(span);
        made.push(MadeBlock { span, bytes: data.to_vec(), stored });
    }
    Ok(spans)
}
