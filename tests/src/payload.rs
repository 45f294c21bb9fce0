//! What a repository spends on content, apart from what it spends on lists and names.

use std::path::Path;

use shard_repo::{Repository, Settings};
use shard_store::{EntryKind, EntrySource as _};

/// Stored bytes of a repository, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Blocks: the bytes of models.
    pub blocks: u64,
    /// How many blocks.
    pub block_count: u64,
    /// Length of all packs: blocks, manifests, trees, commits, footers.
    pub packs: u64,
}

/// Counts what the repository in `folder` holds.
#[must_use]
pub fn payload(folder: &Path) -> Payload {
    let repository = Repository::discover(folder, Settings::default()).unwrap();
    let store = repository.store();
    let keys = store.keys(EntryKind::Block).unwrap();
    let stored = |key| store.locate(key).unwrap().expect("a listed entry is somewhere").stored_len;
    let blocks = keys.iter().map(stored).sum();
    let block_count = keys.len() as u64;
    let packs = crate::tree::files_ending(&repository.dir(), ".pack");
    Payload { blocks, block_count, packs: packs.iter().map(|pack| std::fs::metadata(pack).unwrap().len()).sum() }
}
