//! Why commits cannot be exchanged.

use shard_core::Digest;
use shard_store::EntryKey;
use thiserror::Error;

/// Why another repository cannot be reached, or does not take what it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyncProblem {
    /// No remote has that name.
    #[error("there is no remote {0:?}")]
    UnknownRemote(String),
    /// None was named, and which one is meant cannot be told.
    #[error("{}", match .0 { 0 => "there is no remote".to_owned(), count => format!("there are {count} remotes, and none is called origin") })]
    NoDefault(usize),
    /// A remote of that name is there.
    #[error("there is a remote {0:?} already")]
    RemoteExists(String),
    /// A remote has blocks of this repository that are not here.
    #[error("the remote {0:?} has the blocks that are not here")]
    Promises(String),
    /// A name that no remote can have.
    #[error("{name:?} cannot be the name of a remote: {why}")]
    RemoteName {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An address that leads nowhere.
    #[error("{url}: {why}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The list of remotes was changed by somebody else.
    #[error("the list of remotes was changed by another writer meanwhile")]
    Raced,
    /// The other repository has no such branch or tag.
    #[error("{url} has no branch or tag {name:?}")]
    NotThere {
        /// The other repository.
        url: String,
        /// The name.
        name: String,
    },
    /// Here is no branch or tag of that name.
    #[error("there is no branch or tag {0:?} to push")]
    NothingToPush(String),
    /// What is to be pushed is not the name of a branch or tag, nor two of them with a colon between.
    #[error("{spec:?} does not say what to push: {why}")]
    Spec {
        /// What was given.
        spec: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A branch over there has commits that what is pushed does not follow.
    #[error("{name} over there is at {}, which what is pushed does not follow", .there.short())]
    NotFastForward {
        /// The branch.
        name: String,
        /// Where it is.
        there: Digest,
        /// Whether that commit is here.
        is_known: bool,
    },
    /// A tag over there names something else.
    #[error("the tag {0:?} over there names another commit")]
    TagThere(String),
    /// The branch is checked out over there.
    #[error("the branch {0:?} is checked out over there: its work tree would not be what it says any more")]
    CheckedOutThere(String),
    /// A commit is checked out, and no branch was named to pull.
    #[error("no branch is checked out here, and none was named to pull")]
    WhichBranch,
    /// What arrived as an entry cannot be it.
    #[error("what arrived as {key} cannot be decoded: {why}")]
    Undecodable {
        /// The entry.
        key: EntryKey,
        /// What the decoder said.
        why: String,
    },
    /// The other repository cannot be reached, or was lost on the way.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What was said.
        why: String,
    },
    /// The other side wants to know who asks.
    #[error("{url}: {why}")]
    Unauthorized {
        /// Which.
        url: String,
        /// What it said.
        why: String,
    },
    /// A bucket that cannot be used.
    #[error("{url}: {why}")]
    Bucket {
        /// Its address.
        url: String,
        /// What is wrong with it, or with what is known of it here.
        why: String,
    },
    /// A store on which writers would lose each other's work.
    #[error("{url}: many writers are not safe on this store: it does not keep to this: {why}")]
    ManyWriters {
        /// The address.
        url: String,
        /// What a check expected.
        why: String,
    },
    /// The other side lacks what it was asked for, or what it was sent leans on.
    #[error("{url}: {why}")]
    Lacking {
        /// Which.
        url: String,
        /// What it said.
        why: String,
    },
    /// The other side said no.
    #[error("{url}: {why}")]
    Refused {
        /// Which.
        url: String,
        /// What it said.
        why: String,
    },
    /// A repository may not take so much.
    #[error("the repository may take {quota} bytes, and takes {stored}: what is pushed does not fit")]
    OverQuota {
        /// Bytes that it may take.
        quota: u64,
        /// Bytes that it takes.
        stored: u64,
    },
    /// The other side asked for what makes no sense.
    #[error("the other side does not keep to the protocol: {0}")]
    Malformed(&'static str),
}
