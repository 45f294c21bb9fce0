//! Which names a new branch or tag may have.

use std::collections::BTreeSet;

use shard_core::Digest;
use shard_core::text::visible;
use shard_history::revision::RefKind;
use shard_history::{GitId, case_fold_clash, validate_path, validate_ref_name};
use shard_store::{StoreError, ref_name};
use thiserror::Error;

use crate::error::Result;
use crate::repository::Repository;

/// Why a branch or tag cannot be made, moved or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefProblem {
    /// A name that is not allowed.
    #[error("{name:?} cannot be the name of a {kind}: {why}")]
    Name {
        /// What was to be named.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name is taken.
    #[error("there is a {kind} {name:?} already")]
    Exists {
        /// Branch or tag.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Another name that some file systems take for the same, as Git keeps refs in files.
    #[error("the {kind} {name:?} could not be told from {other:?} where case does not count")]
    CaseFold {
        /// Branch or tag.
        kind: &'static str,
        /// The new name.
        name: String,
        /// The name that is there, or a folder of it.
        other: String,
    },
    /// A name that would have to be a file and a folder in Git.
    #[error("there is a {kind} {other:?}, and in Git {name:?} cannot be beside it")]
    Nested {
        /// Branch or tag.
        kind: &'static str,
        /// The new name.
        name: String,
        /// The name that is there.
        other: String,
    },
    /// No such branch or tag.
    #[error("there is no {kind} {name:?}")]
    Unknown {
        /// Branch or tag.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The branch that is checked out cannot be deleted.
    #[error("the branch {0:?} is checked out")]
    CheckedOut(String),
    /// The default branch cannot be deleted.
    #[error("{0:?} is the repository's default branch")]
    Default(String),
    /// A text that is no pattern of branches or tags.
    #[error("{pattern:?} is no pattern of branches or tags: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A protected branch or tag.
    #[error("{name} is protected by {pattern:?}: it {what}")]
    Protected {
        /// Its full name.
        name: String,
        /// The rule that protects it.
        pattern: String,
        /// What it cannot.
        what: &'static str,
    },
    /// Deleting a branch would leave commits to the reflog alone.
    #[error("no other branch or tag leads to {}, where the branch {name:?} ends", .commit.short())]
    OnlyHere {
        /// The branch.
        name: String,
        /// Its commit.
        commit: Digest,
    },
}

/// The word for a kind.
pub(super) fn word(kind: RefKind) -> &'static str {
    match kind {
        RefKind::Branch => "branch",
        RefKind::Tag => "tag",
        RefKind::Remote => "remote branch",
    }
}

/// The name of a branch or tag as the store has it.
pub(crate) fn full_name(kind: RefKind, name: &str) -> String {
    format!("{}{name}", kind.prefix().trim_start_matches("refs/"))
}

/// Checks the name of a new branch or tag: by the rules of `git check-ref-format`; as a path that any file system can have;
/// and so that it is seen as it is, and means nothing else in a revision. Gives its full name.
///
/// # Errors
/// [`RefProblem::Name`].
pub(crate) fn check_name(kind: RefKind, name: &str) -> std::result::Result<String, RefProblem> {
    let refuse = |why: String| Err(RefProblem::Name { kind: word(kind), name: name.chars().take(80).collect(), why });
    let full = full_name(kind, name);
    let is_id =
        [2 * Digest::LEN, 2 * GitId::LEN].contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let prefixes = ["refs/", "heads/", "tags/", "remotes/"];
    if name.is_empty() {
        refuse("it is empty".to_owned())
    } else if name.eq_ignore_ascii_case("HEAD") || name == "@" {
        refuse("it means what is checked out".to_owned())
    } else if is_id {
        refuse("it would be taken for the id of a commit".to_owned())
    } else if let Some(prefix) = prefixes.into_iter().find(|prefix| name.starts_with(prefix)) {
        refuse(format!("names in full begin with {prefix:?}"))
    } else if visible(name) != name {
        refuse("it has characters that are not seen".to_owned())
    } else if let Err(error) = ref_name::check(&full) {
        refuse(error.problem.to_owned())
    } else if validate_ref_name(name).is_err() {
        refuse("Git would not take it".to_owned())
    } else if let Err(error) = validate_path(name) {
        refuse(error.reason.to_owned())
    } else {
        Ok(full)
    }
}

impl Repository {
    /// Checks the name of a new branch or tag, also beside those that are there; `but` is about to go. Gives its full name.
    pub(crate) fn new_name(&self, kind: RefKind, name: &str, but: Option<&str>) -> Result<String> {
        let full = check_name(kind, name)?;
        let prefix = full_name(kind, "");
        let there = self.store.refs().list(&prefix).map_err(StoreError::from)?;
        let there = there.iter().filter_map(|(full, _)| full.strip_prefix(&prefix)).filter(|other| Some(*other) != but);
        let there: BTreeSet<&str> = there.collect();
        let kind = word(kind);
        if there.contains(name) {
            return Err(RefProblem::Exists { kind, name: name.to_owned() }.into());
        }
        for other in there {
            let is_below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            if is_below(name, other) || is_below(other, name) {
                return Err(RefProblem::Nested { kind, name: name.to_owned(), other: other.to_owned() }.into());
            }
            if let Some((other, _)) = case_fold_clash([other, name]) {
                return Err(RefProblem::CaseFold { kind, name: name.to_owned(), other }.into());
            }
        }
        Ok(full)
    }
}
