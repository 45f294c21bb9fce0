//! What goes wrong, on its way from one end to the other.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shard_core::Digest;
use shard_repo::{RefProblem, RepoError, SyncProblem};
use shard_store::StoreError;

/// An error's body: `{"error": {"kind": …, "message": …}}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) error: Said,
}

/// What went wrong, for programs and for people.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Which error it is.
    pub(crate) kind: String,
    /// What to tell people.
    pub(crate) message: String,
    /// The name that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The commit that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { error: Said { kind: kind.to_owned(), message: message.into(), name: None, commit: None } }
    }

    fn about(mut self, name: &str) -> Self {
        self.error.name = Some(name.to_owned());
        self
    }

    /// An error of the engine as it is told, and its status.
    pub(crate) fn of(error: &RepoError) -> (StatusCode, Self) {
        let say = |status: StatusCode, kind: &str| (status, Self::new(kind, error.to_string()));
        match error {
            RepoError::Raced(name) => (StatusCode::CONFLICT, Self::new("raced", error.to_string()).about(name)),
            RepoError::Store(StoreError::Retry { .. }) => say(StatusCode::CONFLICT, "collected"),
            RepoError::Sync(SyncProblem::NotFastForward { name, there, .. }) => {
                let mut problem = Self::new("not-fast-forward", error.to_string()).about(name);
                problem.error.commit = Some(there.to_hex());
                (StatusCode::CONFLICT, problem)
            }
            RepoError::Sync(SyncProblem::TagThere(name)) => {
                (StatusCode::CONFLICT, Self::new("tag-exists", error.to_string()).about(name))
            }
            RepoError::Sync(SyncProblem::CheckedOutThere(name)) => {
                (StatusCode::CONFLICT, Self::new("checked-out", error.to_string()).about(name))
            }
            RepoError::Ref(RefProblem::Unknown { .. }) => say(StatusCode::NOT_FOUND, "not-found"),
            RepoError::Ref(RefProblem::Pattern { .. }) => say(StatusCode::BAD_REQUEST, "malformed"),
            RepoError::Ref(RefProblem::Protected { .. }) => say(StatusCode::FORBIDDEN, "protected"),
            RepoError::Ref(_) => say(StatusCode::CONFLICT, "ref"),
            RepoError::Missing { .. } | RepoError::Store(StoreError::MissingBase { .. } | StoreError::Missing(_)) => {
                say(StatusCode::UNPROCESSABLE_ENTITY, "missing")
            }
            RepoError::WrongBytes { .. } | RepoError::Sync(SyncProblem::Undecodable { .. }) => {
                say(StatusCode::UNPROCESSABLE_ENTITY, "wrong-bytes")
            }
            RepoError::Sync(SyncProblem::OverQuota { .. }) => {
                let what = "delete branches and tags that are not needed and have it collected, or ask who runs the server for more";
                (StatusCode::INSUFFICIENT_STORAGE, Self::new("quota", format!("{error}; {what}")))
            }
            RepoError::Store(StoreError::Claimed(_) | StoreError::Held(_)) => say(StatusCode::CONFLICT, "in-use"),
            RepoError::Sync(SyncProblem::Malformed(_)) => say(StatusCode::BAD_REQUEST, "malformed"),
            RepoError::NotARepository(_) => {
                (StatusCode::NOT_FOUND, Self::new("no-repository", "there is no such repository"))
            }
            RepoError::Store(error) if is_full(error) => {
                (StatusCode::INSUFFICIENT_STORAGE, Self::new("full", "there is no room left"))
            }
            // What is wrong on the server is for its log; paths on it are nobody else's business.
            _ => (StatusCode::INTERNAL_SERVER_ERROR, Self::new("internal", "the server failed: its log says how")),
        }
    }

    /// The error that a server at an address told of.
    pub(crate) fn read(self, url: &str) -> RepoError {
        let Said { kind, message, name, commit } = self.error;
        let said = || shard_core::text::visible(&message).into_owned();
        let name = name.map(|name| shard_core::text::visible(&name).into_owned());
        match (kind.as_str(), name) {
            ("raced", Some(name)) => RepoError::Raced(name),
            // It has to be asked again what is there.
            ("collected", _) => StoreError::Retry { condemned: vec![Digest([0; 32])] }.into(),
            ("not-fast-forward", Some(name)) => {
                let there = commit.and_then(|commit| Digest::from_hex(&commit).ok()).unwrap_or(Digest([0; 32]));
                SyncProblem::NotFastForward { name, there, is_known: false }.into()
            }
            ("tag-exists", Some(name)) => SyncProblem::TagThere(name).into(),
            ("checked-out", Some(name)) => SyncProblem::CheckedOutThere(name).into(),
            ("missing", _) => SyncProblem::Lacking { url: url.to_owned(), why: said() }.into(),
            ("unauthorized", _) => SyncProblem::Unauthorized { url: url.to_owned(), why: said() }.into(),
            _ => SyncProblem::Refused { url: url.to_owned(), why: said() }.into(),
        }
    }
}

/// Whether a disk is full.
fn is_full(error: &StoreError) -> bool {
    error.io().is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
}
