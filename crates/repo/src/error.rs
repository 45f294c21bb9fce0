//! What can go wrong in a repository.

use std::io;
use std::path::{Path, PathBuf};

use shard_codecs::CodecError;
use shard_core::Digest;
use shard_formats::compress::NotRepeated;
use shard_history::{DagError, HistoryError, RevisionError};
use shard_manifest::ManifestError;
use shard_store::{BackendError, EntryKey, PackId, RefError, StoreError};
use thiserror::Error;

use crate::beside_git::GitProblem;
use crate::bisect::BisectProblem;
use crate::merge::MergeProblem;
use crate::operations::UndoProblem;
use crate::refs::RefProblem;
use crate::sync::SyncProblem;
use crate::work_plan::PlanProblem;

/// The engine's results.
pub type Result<T> = std::result::Result<T, RepoError>;

/// An operation on a repository that did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepoError {
    /// There is no repository here or above.
    #[error("{0}: not a shard repository, nor is any folder above it")]
    NotARepository(PathBuf),
    /// There is no repository at an address.
    #[error("{0}: there is no shard repository there")]
    NoRepository(String),
    /// What was asked for needs a repository in a folder.
    #[error("{0}: this repository is in no folder of this machine")]
    Away(String),
    /// A repository whose refs were lost: what they named cannot be told any more.
    #[error("{}: {missing}: the repository is damaged", dir.display())]
    NoHead {
        /// The repository's folder.
        dir: PathBuf,
        /// What is not there.
        missing: &'static str,
    },
    /// A branch that is checked out and has no ref, beside commits that no ref leads to.
    #[error("the branch {branch:?} is checked out and has no ref, and no other leads to commit {commit}{}: the ref was lost, or a first commit was interrupted", others(*.commits))]
    LostBranch {
        /// The branch.
        branch: String,
        /// The newest of these commits.
        commit: Digest,
        /// How many there are.
        commits: usize,
    },
    /// A repository whose making was interrupted.
    #[error("{}: the repository has no HEAD yet: its making was interrupted", .0.display())]
    Unfinished(PathBuf),
    /// What was asked for needs a work tree.
    #[error("{0}: this repository is bare: it has no work tree")]
    Bare(PathBuf),
    /// A repository is here already.
    #[error("{0}: there is a shard repository here already")]
    AlreadyARepository(PathBuf),
    /// A file or folder could not be read or written.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as in "cannot read".
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest, tree, commit or tag is malformed.
    #[error("{what} {id}: {source}")]
    Object {
        /// What kind of object it is.
        what: &'static str,
        /// Its id.
        id: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A tree, commit or tag is malformed.
    #[error("{what} {id}: {source}")]
    History {
        /// What kind of object it is.
        what: &'static str,
        /// Its id.
        id: Digest,
        /// What is wrong with it.
        source: HistoryError,
    },
    /// An entry is named but nowhere stored.
    #[error("{key} is missing from the repository")]
    Missing {
        /// The entry.
        key: EntryKey,
    },
    /// An entry's stored bytes cannot be decoded.
    #[error("{key} in {pack} is damaged: {source}")]
    Decode {
        /// The entry.
        key: EntryKey,
        /// The pack that holds it.
        pack: PackId,
        /// What the decoder said.
        source: CodecError,
    },
    /// An entry decoded to bytes that are not those of its id.
    #[error("{key} is damaged: its bytes hash to {found}")]
    WrongBytes {
        /// The entry.
        key: EntryKey,
        /// The hash of what was read.
        found: Digest,
    },
    /// An entry's header and the pack's footer disagree about its length, or it is over its limit.
    #[error("{key} in {pack} is damaged: its length is not what was promised")]
    WrongLength {
        /// The entry.
        key: EntryKey,
        /// The pack that holds it.
        pack: PackId,
    },
    /// A chain of bases is longer than any that shard writes.
    #[error("{key}: its chain of bases is too long")]
    TooDeep {
        /// The entry.
        key: EntryKey,
    },
    /// A base reference that does not fit the block it names.
    #[error("a base reference to block {block} does not fit it")]
    BadBase {
        /// The block.
        block: Digest,
    },
    /// A block could not be encoded.
    #[error("a block of {path} could not be encoded: {source}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: CodecError,
    },
    /// Compressing again does not give the bytes that a file has, or had.
    #[error(transparent)]
    NotRepeated(#[from] NotRepeated),
    /// What a file holds compressed is here, but compressing it does not give the file's bytes any more.
    #[error(
        "{path}: its contents are whole, but the zlib in this program compresses them to other bytes than the file had"
    )]
    OtherCompressor {
        /// The file.
        path: String,
    },
    /// A restored file is not the file that was kept.
    #[error("{path}: restored bytes hash to {found}, not to {expected}")]
    WrongFile {
        /// The file.
        path: String,
        /// The hash that was kept.
        expected: Digest,
        /// The hash of what was restored.
        found: Digest,
    },
    /// A file changed while it was being read.
    #[error("{0} changed while it was being read")]
    Changed(PathBuf),
    /// A file that looks like a model, whose tensors cannot be read.
    #[error("the tensors of {} cannot be read: {why}", path.display())]
    BadModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A folder of several models, where one is wanted.
    #[error("{} is a folder of several models and not of one in shards, since names of tensors come twice", .0.display())]
    SeveralModels(PathBuf),
    /// A path that cannot be kept.
    #[error("{path}: {why}")]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Something that is kept nowhere is where a file or folder has to be. It is left as it is.
    #[error("{}: is in the way: {needed} is needed here", path.display())]
    InTheWay {
        /// What is in the way.
        path: PathBuf,
        /// What has to be there, as in "a folder".
        needed: &'static str,
    },
    /// A path that no tree can have.
    #[error("{path:?} cannot be kept: {why}")]
    BadPath {
        /// The path, shortened.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path that cannot be beside what is there.
    #[error("{path}: {why}")]
    Clash {
        /// The path.
        path: String,
        /// What is in the way.
        why: String,
    },
    /// A revision that is malformed, or names nothing or several things.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// A commit that is its own ancestor, which only a damaged or forged history has.
    #[error("the commit {0} is its own ancestor")]
    Cycle(Digest),
    /// A path that a revision does not have.
    #[error("revision {revision} has no {path:?}")]
    NoSuchPath {
        /// The revision.
        revision: String,
        /// The path.
        path: String,
    },
    /// A lease that nobody has.
    #[error("there is no lease {0:?}")]
    NoLease(String),
    /// Nothing matched what was asked for.
    #[error("{0}")]
    NothingToDo(String),
    /// Doing this would lose something.
    #[error("{what}: {paths:?}")]
    WouldOverwrite {
        /// What would be lost.
        what: &'static str,
        /// The first few paths.
        paths: Vec<String>,
    },
    /// An approximation could be taken for what it is not.
    #[error("{path}: {why}")]
    Approximation {
        /// Where it would lie, or the file that is in the way.
        path: PathBuf,
        /// Why it may not.
        why: &'static str,
    },
    /// A branch or tag that cannot be made, moved or deleted.
    #[error(transparent)]
    Ref(#[from] RefProblem),
    /// Something that cannot be done beside Git.
    #[error(transparent)]
    Git(#[from] GitProblem),
    /// A search that cannot begin, or go on.
    #[error(transparent)]
    Bisect(#[from] BisectProblem),
    /// An operation that cannot be undone.
    #[error(transparent)]
    Undo(#[from] UndoProblem),
    /// A merge that is not begun, continued or given up.
    #[error(transparent)]
    Merge(#[from] MergeProblem),
    /// Commits that cannot be exchanged with another repository.
    #[error(transparent)]
    Sync(#[from] SyncProblem),
    /// A plan of work that cannot be made, done or finished.
    #[error(transparent)]
    Plan(#[from] PlanProblem),
    /// A branch is not at the commit that the caller named.
    #[error("{name} is at {}, not at {} as was expected", .found.map_or("no commit".to_owned(), |id| id.to_hex()), .expected.to_hex())]
    NotAt {
        /// The branch, or HEAD.
        name: String,
        /// Where it was said to be.
        expected: Digest,
        /// Where it is; `None` where it has no commits.
        found: Option<Digest>,
    },
    /// Another writer moved the ref first.
    #[error("{0} was moved by another writer meanwhile")]
    Raced(String),
    /// A fault of shard itself.
    #[error("internal error: {0}")]
    Internal(&'static str),
    /// A file whose manifest cannot be written.
    #[error("{path}: its manifest cannot be written: {source}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ManifestError,
    },
    /// A wrong argument.
    #[error("{0}")]
    Argument(String),
}

fn others(commits: usize) -> String {
    if commits > 1 { format!(", the newest of {commits}") } else { String::new() }
}

/// What was read; `None` where that is damaged or missing. That it could not be read is an error: it may be whole.
pub(crate) fn unless_damaged<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<DagError<Self>> for RepoError {
    fn from(error: DagError<Self>) -> Self {
        match error {
            DagError::Fetch(error) => error,
            DagError::Cycle(id) => Self::Cycle(id),
        }
    }
}

impl RepoError {
    /// Whether stored data is missing or damaged, so that whoever can do without it should. That it could not be read, since the
    /// disk or the system failed, says nothing about it.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Decode { .. }
            | Self::WrongBytes { .. }
            | Self::WrongLength { .. }
            | Self::TooDeep { .. }
            | Self::BadBase { .. }
            | Self::Object { .. }
            | Self::History { .. } => true,
            Self::Store(StoreError::Backend(error)) => {
                matches!(error, BackendError::NotFound { .. } | BackendError::OutOfBounds { .. })
            }
            Self::Store(StoreError::Ref(error)) => {
                matches!(**error, RefError::Damaged { .. } | RefError::Broken { .. })
            }
            Self::Store(error) => {
                use StoreError::{Entry, Missing, MissingBase, Pack};
                matches!(error, Entry { .. } | Pack { .. } | Missing(_) | MissingBase { .. })
            }
            _ => false,
        }
    }

    /// Whether something was nowhere to be found.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Sync(SyncProblem::Lacking { .. }) => true,
            Self::Store(StoreError::Backend(error)) => error.is_not_found(),
            Self::Store(error) => matches!(error, StoreError::Missing(_) | StoreError::MissingBase { .. }),
            _ => false,
        }
    }

    /// Whether another writer moved a ref first.
    pub(crate) fn is_conflict(error: &StoreError) -> bool {
        matches!(error, StoreError::Ref(error) if matches!(**error, RefError::Conflict { .. }))
    }

    /// Wraps an I/O error with its path and what was tried.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::Io { path: path.to_owned(), doing, source }
    }

    /// Wraps the error of a manifest that cannot be written.
    pub(crate) fn manifest<'a>(path: &'a Path) -> impl FnOnce(ManifestError) -> Self + use<'a> {
        move |source| Self::Manifest { path: path.to_owned(), source }
    }
}
