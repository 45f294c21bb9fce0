//! Which of hubvault's errors says what one of ours says.

use std::io::ErrorKind;

use shard_history::revision::RevisionError;
use shard_repo::{RefProblem, RepoError};
use shard_store::StoreError;

/// The name of the class.
pub(super) fn class(error: &RepoError) -> String {
    let class = match error {
        RepoError::NotARepository(_) => "RepositoryNotFoundError",
        RepoError::AlreadyARepository(_) => "RepositoryAlreadyExistsError",
        RepoError::Revision(RevisionError::Ambiguous { .. }) => "ConflictError",
        RepoError::Revision(_) | RepoError::Ref(RefProblem::Unknown { .. }) => "RevisionNotFoundError",
        // Errors of paths are errors of arguments there.
        RepoError::Ref(RefProblem::Name { .. })
        | RepoError::BadPath { .. }
        | RepoError::Path { .. }
        | RepoError::Argument(_) => "ValueError",
        RepoError::Io { source, .. } if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
            "ValueError"
        }
        RepoError::NoSuchPath { .. } => "EntryNotFoundError",
        RepoError::Ref(_)
        | RepoError::Clash { .. }
        | RepoError::NothingToDo(_)
        | RepoError::Raced(_)
        | RepoError::NotAt { .. }
        | RepoError::Merge(_) => "ConflictError",
        RepoError::Store(StoreError::Entry { .. } | StoreError::Pack { .. } | StoreError::Missing(_))
        | RepoError::Missing { .. }
        | RepoError::Decode { .. }
        | RepoError::WrongBytes { .. } => "IntegrityError",
        other => return format!("other: {other:?}"),
    };
    class.to_owned()
}
