//! The other repository, wherever it is: what both sides of an exchange have to be able to say.
//!
//! Entries travel as they are stored, so that deltas stay deltas. Whoever takes them proves each by its id before it counts as
//! there, and refs move last.

use shard_core::limits::Cut;
use shard_core::{Digest, Progress};
use shard_history::revision::RefKind;
use shard_store::{EntryKey, EntrySource, Target};

use crate::error::Result;

/// A repository that commits can be fetched from and pushed to. All methods may be called from any thread.
pub trait Peer: Send + Sync {
    /// Its address.
    fn url(&self) -> String;

    /// What it says of itself.
    ///
    /// # Errors
    /// What keeps it from being reached or read.
    fn welcome(&self) -> Result<Welcome>;

    /// Begins to push: from here on nothing is collected over there that it says it has.
    ///
    /// # Errors
    /// As [`Self::welcome`]; what keeps it from being written.
    fn inbound(&self) -> Result<Box<dyn Inbound + '_>>;

    /// Begins to fetch.
    ///
    /// # Errors
    /// As [`Self::welcome`]; [`RepoError::Missing`](crate::RepoError::Missing) for what it does not have.
    fn outbound(&self, wanted: &Wanted) -> Result<Box<dyn Outbound + '_>>;
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All that some commits and tags lead to.
    History {
        /// The commits and tags.
        wants: Vec<Target>,
        /// Commits that are here, with all that they lead to.
        has: Vec<Digest>,
        /// Whether blocks stay there.
        is_lazy: bool,
    },
    /// Blocks.
    Blocks(Vec<Digest>),
}

/// What a repository says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Where its tensors are cut.
    pub cut: Cut,
    /// Its default branch.
    pub default_branch: String,
    /// The branch that is checked out in its work tree, where it has one.
    pub checked_out: Option<String>,
    /// Its branches and tags, by name.
    pub refs: Vec<PeerRef>,
}

impl Welcome {
    /// A branch.
    #[must_use]
    pub fn branch(&self, name: &str) -> Option<&PeerRef> {
        self.find(RefKind::Branch, name)
    }

    fn find(&self, kind: RefKind, name: &str) -> Option<&PeerRef> {
        self.refs.iter().find(|found| found.kind == kind && found.name == name)
    }

    /// What a branch or tag names: [`Target::Deleted`] where there is none.
    pub(super) fn target(&self, kind: RefKind, name: &str) -> Target {
        self.find(kind, name).map_or(Target::Deleted, |found| found.target.clone())
    }

    /// The commit that a branch or tag leads to.
    pub(super) fn commit(&self, kind: RefKind, name: &str) -> Option<Digest> {
        self.find(kind, name).map(|found| found.commit)
    }
}

/// A branch or tag of another repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRef {
    /// Which of the two.
    pub kind: RefKind,
    /// Its name, without `heads/` and `tags/`.
    pub name: String,
    /// What it names: a commit, or the object of an annotated tag.
    pub target: Target,
    /// The commit that it leads to.
    pub commit: Digest,
}

/// A push, seen from the side that is pushed to.
pub trait Inbound: Send + Sync {
    /// What was there when the push began.
    fn welcome(&self) -> &Welcome;

    /// Of commits, whether refs lead to them, and so all that these lead to is there.
    ///
    /// # Errors
    /// What keeps it from being told.
    fn reaches(&self, commits: &[Digest]) -> Result<Vec<bool>>;

    /// Of entries, whether they are there, proven by their ids, and stay while the push lasts.
    ///
    /// # Errors
    /// What keeps it from being told.
    fn has(&self, keys: &[EntryKey]) -> Result<Vec<bool>>;

    /// Takes entries.
    ///
    /// # Errors
    /// [`RepoError::WrongBytes`](crate::RepoError::WrongBytes) and what else says that an entry is not what it should be: it is not
    /// there then.
    fn take(&self, parcels: &dyn Supply, progress: &dyn Progress) -> Result<()>;

    /// Moves refs, all of them or, where one may not move, none.
    ///
    /// # Errors
    /// [`RepoError::Raced`](crate::RepoError::Raced) where one is not where it was; [`RepoError::Sync`](crate::RepoError::Sync),
    /// [`RepoError::Ref`](crate::RepoError::Ref) for what is not allowed; [`RepoError::Missing`](crate::RepoError::Missing) where
    /// something that one leads to is not there.
    fn move_refs(&self, moves: &[RefMove]) -> Result<()>;
}

/// A fetch, seen from the side that is fetched from.
pub trait Outbound: Send + Sync {
    /// All that may have to travel: first what is needed, then what it leans on.
    fn offers(&self) -> &[Offer];

    /// Sends some of them, in this order.
    ///
    /// # Errors
    /// What keeps it from being read or sent.
    fn send<'a>(&'a self, chosen: Vec<Chosen>) -> Result<Box<dyn Supply + 'a>>;
}

/// A ref that shall move over there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// Whether it is a branch or a tag.
    pub kind: RefKind,
    /// Its name, without `heads/` and `tags/`.
    pub name: String,
    /// What it names now; [`Target::Deleted`] where it is not there.
    pub from: Target,
    /// What it shall name; [`Target::Deleted`] where it shall go.
    pub to: Target,
    /// Whether a branch may lose commits by it, or a tag name something else.
    pub is_forced: bool,
}

/// An entry that may travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The entry.
    pub key: EntryKey,
    /// Bytes that it decodes to.
    pub raw_len: u64,
    /// Bytes that it takes as it is stored.
    pub stored_len: u64,
    /// The blocks that it leans on.
    pub bases: Vec<Digest>,
    /// Whether it is asked for itself, and not only leaned on.
    pub is_needed: bool,
}

/// An entry that does travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The entry.
    pub key: EntryKey,
    /// Whether others that come after it lean on it.
    pub is_base: bool,
}

/// A row of entries, each after all those that it leans on and the other side lacks. All methods may be called from any thread.
pub trait Supply: Sync {
    /// Takes the next entry. Its stored bytes are put in the place of what is in `stored`, unless they have to be read by
    /// [`Self::complete`]; the receiver calls this from one thread at a time.
    ///
    /// # Errors
    /// What keeps it from being received.
    fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>>;

    /// Whether the entry that comes next is best completed together with the one that came last.
    fn goes_on(&self) -> bool {
        false
    }

    /// Reads what [`Self::next`] left to be read of entries that came one after the other, which may be done for many rows of them at
    /// once.
    ///
    /// # Errors
    /// What keeps one of them from being read.
    fn complete(&self, _chosen: &[Chosen], _stored: &mut [Vec<u8>]) -> Result<()> {
        Ok(())
    }

    /// Where what entries lean on is nearer than in the receiver's store. It may be wrong: what is decoded on it is proven.
    fn nearby(&self) -> Option<&dyn EntrySource> {
        None
    }

    /// How many rows of entries are worth being completed at once, where that is a way over a network.
    fn at_once(&self) -> usize {
        1
    }
}
