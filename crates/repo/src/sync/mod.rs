//! Repositories that exchange commits: of what one has, only what the other lacks moves, as it is stored.
//!
//! The other one is a [`Peer`], wherever it is. What has to move is found in two steps: commits, trees, manifests and blocks that
//! the other side's commits do not lead to ([`needed`]), and of these, with what they lean on, what is not there already
//! ([`travel`]). What arrives is decoded and hashed before it is kept ([`receive`]), and refs move last, by compare-and-swap: nobody
//! sees a ref that names something missing.

mod clone;
mod deposit;
mod fetch;
mod here;
mod lazy;
mod leftovers;
mod needed;
pub mod peer;
mod problem;
mod pull;
mod push;
mod reached;
mod receive;
mod remotes;
#[cfg(test)]
mod tests;
mod travel;

pub use clone::CloneOptions;
pub use deposit::Deposit;
pub use fetch::FetchOptions;
pub(crate) use lazy::with_promised;
pub use lazy::{Brought, Connect};
pub use peer::Peer;
pub use problem::SyncProblem;
pub use pull::Pulled;
pub use push::PushOptions;
pub use remotes::{DEFAULT_REMOTE, Place};

use peer::{Chosen, Offer};
use shard_core::Digest;
use shard_store::EntryKind;

use crate::error::Result;

/// How often an exchange is done again since something was missing.
const AGAIN: usize = 3;

/// Runs an exchange, and again where something was missing: a collection on the side that is read may have moved it between two looks,
/// to a copy that leans on other blocks, or a ref that led to it is elsewhere by now. What has arrived is not sent again.
fn again_if_missing<T>(mut run: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..AGAIN {
        match run() {
            Err(error) if error.is_missing() => {}
            outcome => return outcome,
        }
    }
    run()
}

/// What happens to a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefChange {
    /// It is new.
    New,
    /// It goes on to a commit that follows the one before.
    Forward,
    /// It goes to a commit that does not, or a tag names another.
    Forced,
    /// It goes.
    Deleted,
    /// It stays, since it is a tag that names something else here.
    Kept,
}

impl RefChange {
    /// The word for it in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Forward => "forward",
            Self::Forced => "forced",
            Self::Deleted => "deleted",
            Self::Kept => "kept",
        }
    }
}

/// A ref that was moved, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedRef {
    /// Its name where it moves: `remotes/origin/main`, `heads/main`, `tags/v1`.
    pub name: String,
    /// The commit that it named.
    pub from: Option<Digest>,
    /// The commit that it names.
    pub to: Option<Digest>,
    /// What happened.
    pub change: RefChange,
}

/// What moved between two repositories, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncReport {
    /// The address of the other one.
    pub url: String,
    /// Refs that were not as they should be.
    pub refs: Vec<MovedRef>,
    /// Commits that moved.
    pub commits: u64,
    /// Blocks that moved.
    pub blocks: u64,
    /// Entries that moved, these and all others.
    pub entries: u64,
    /// Their bytes, as they are stored.
    pub bytes: u64,
    /// Bytes that they decode to.
    pub raw_bytes: u64,
}

impl SyncReport {
    /// Counts what travels.
    fn of(offers: &[Offer], chosen: &[(usize, Chosen)]) -> Self {
        let mut report = Self { entries: chosen.len() as u64, ..Self::default() };
        for offer in chosen.iter().filter_map(|(number, _)| offers.get(*number)) {
            report.commits += u64::from(offer.key.kind == EntryKind::Commit);
            report.blocks += u64::from(offer.key.kind == EntryKind::Block);
            report.bytes += offer.stored_len;
            report.raw_bytes += offer.raw_len;
        }
        report
    }
}
