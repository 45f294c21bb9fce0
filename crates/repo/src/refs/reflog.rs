//! The log of a ref: the chain of its states. That of HEAD is put together from its own and those of the branches that were
//! checked out.

use std::collections::HashMap;
use std::iter::Peekable;

use shard_core::Digest;
use shard_history::revision::RefKind;
use shard_history::{RevisionError, Timestamp};
use shard_store::{Nonce, RefError, RefState, StoreError, Target, ref_name};

use super::full_name;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::{HEAD, HEADS, Repository, TAGS};

/// A move of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReflogEntry {
    /// When, by the clock of the one who moved it: RFC 3339 in UTC.
    pub created_at: String,
    /// The commit before; `None` where the ref did not exist.
    pub old: Option<Digest>,
    /// The commit after; `None` where it was deleted, or is an annotated tag that cannot be read.
    pub new: Option<Digest>,
    /// What moved it.
    pub message: String,
    /// Shared by all refs that the operation moved.
    pub operation: Nonce,
}

/// The log of a ref.
#[derive(Debug, Clone)]
pub struct Reflog {
    /// The ref's full name in the store: `HEAD`, `heads/…` or `tags/…`.
    pub name: String,
    /// Its moves, newest first.
    pub entries: Vec<ReflogEntry>,
    /// Why older ones are not known, where a state is damaged.
    pub problem: Option<String>,
}

impl Repository {
    /// The last moves of a ref, at most `most`, newest first: of HEAD, a branch or a tag, also one that was deleted. A short
    /// name means the one that is there, or else the one that was.
    ///
    /// The log of HEAD has what was checked out, and what the branch did while it was: which of them came first is told by
    /// their times alone.
    ///
    /// # Errors
    /// [`RepoError::Revision`] where there never was such a ref, or a branch and a tag are meant alike.
    pub fn reflog(&self, name: &str, most: usize) -> Result<Reflog> {
        let name = self.logged_name(name)?;
        let mut reader = Reader { repository: self, objects: self.objects(), logs: HashMap::new() };
        let mut entries = Vec::new();
        let outcome =
            if name == HEAD { reader.head(most, &mut entries) } else { reader.moves(&name, None, most, &mut entries) };
        let problem = match outcome {
            Ok(()) => None,
            Err(RepoError::Store(StoreError::Ref(error)))
                if matches!(*error, RefError::Damaged { .. } | RefError::Broken { .. }) =>
            {
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        };
        Ok(Reflog { name, entries, problem })
    }

    /// The ref whose log a text means.
    fn logged_name(&self, text: &str) -> Result<String> {
        let name = if text == "@" { HEAD } else { text.strip_prefix("refs/").unwrap_or(text) };
        let newest = |name: &str| -> Result<Option<RefState>> {
            if ref_name::check(name).is_err() {
                return Ok(None);
            }
            Ok(self.store.refs().read_newest(name).map_err(StoreError::from)?)
        };
        let is_full = name == HEAD || name.starts_with(HEADS) || name.starts_with(TAGS);
        if is_full && newest(name)?.is_some() {
            return Ok(name.to_owned());
        }
        let mut found = Vec::new();
        for kind in [RefKind::Tag, RefKind::Branch] {
            let full = full_name(kind, name);
            found.extend(newest(&full)?.map(|state| (full, state.target != Target::Deleted)));
        }
        if found.iter().any(|(_, is_there)| *is_there) {
            found.retain(|(_, is_there)| *is_there);
        }
        match found.as_slice() {
            [] => Err(RevisionError::Unknown(text.to_owned()).into()),
            [(full, _)] => Ok(full.clone()),
            several => Err(RevisionError::Ambiguous {
                name: text.to_owned(),
                candidates: several.iter().map(|(full, _)| format!("refs/{full}")).collect(),
            }
            .into()),
        }
    }

    /// The commit that a ref pointed to before its last `moves` moves.
    pub(crate) fn logged(&self, name: &str, moves: usize) -> Result<Option<Digest>> {
        let log = self.reflog(name, moves.saturating_add(1))?;
        Ok(log.entries.get(moves).and_then(|entry| entry.new))
    }
}

type States<'a> = Peekable<Box<dyn Iterator<Item = Result<RefState>> + 'a>>;

/// Reads logs backwards, each only once.
struct Reader<'a> {
    repository: &'a Repository,
    objects: Objects<'a>,
    logs: HashMap<String, States<'a>>,
}

/// When a state was written; where its time is none, before everything.
fn time(state: &RefState) -> Option<Timestamp> {
    state.created_at.parse().ok()
}

impl<'a> Reader<'a> {
    fn states(&mut self, name: &str) -> Result<&mut States<'a>> {
        if !self.logs.contains_key(name) {
            let log = self.repository.store.refs().log(name).map_err(StoreError::from)?;
            let log = log.map(|state| state.map_err(|error| StoreError::from(error).into()));
            let states: Box<dyn Iterator<Item = Result<RefState>> + 'a> = Box::new(log);
            self.logs.insert(name.to_owned(), states.peekable());
        }
        self.logs.get_mut(name).ok_or(RepoError::Internal("a log that was just opened is gone"))
    }

    /// The commit that a ref's newest state names that is not read yet.
    fn present(&mut self, name: &str) -> Result<Option<Digest>> {
        let target = match self.states(name)?.peek() {
            Some(Ok(state)) => state.target.clone(),
            // It is reported when it is its turn.
            Some(Err(_)) | None => return Ok(None),
        };
        Ok(match target {
            Target::Commit(commit) => Some(commit),
            Target::Tag(tag) => self.objects.tag(tag).ok().map(|tag| tag.target),
            _ => None,
        })
    }

    /// Passes over states that are newer than a time.
    fn skip(&mut self, name: &str, after: Option<Timestamp>) -> Result<()> {
        let states = self.states(name)?;
        while states.next_if(|state| state.as_ref().is_ok_and(|state| time(state) > after)).is_some() {}
        Ok(())
    }

    /// The moves of a ref, down to those that are not newer than `since`.
    fn moves(
        &mut self,
        name: &str,
        since: Option<Option<Timestamp>>,
        most: usize,
        entries: &mut Vec<ReflogEntry>,
    ) -> Result<()> {
        while entries.len() < most {
            let new = self.present(name)?;
            let is_due = |state: &Result<RefState>| match (state, since) {
                (Ok(state), Some(since)) => time(state) > since,
                _ => true,
            };
            let Some(state) = self.states(name)?.next_if(is_due) else { return Ok(()) };
            let RefState { created_at, message, operation, .. } = state?;
            let old = self.present(name)?;
            entries.push(ReflogEntry { created_at, old, new, message, operation });
        }
        Ok(())
    }

    /// The log of HEAD: its own moves, and between them those of the branch that it led to.
    fn head(&mut self, most: usize, entries: &mut Vec<ReflogEntry>) -> Result<()> {
        while entries.len() < most {
            let Some(state) = self.states(HEAD)?.next() else { return Ok(()) };
            let state = state?;
            let since = time(&state);
            let new = match &state.target {
                Target::Symbolic(branch) => {
                    self.moves(branch, Some(since), most, entries)?;
                    self.present(branch)?
                }
                Target::Commit(commit) => Some(*commit),
                _ => None,
            };
            let before = match self.states(HEAD)?.peek() {
                Some(Ok(before)) => Some(before.target.clone()),
                _ => None,
            };
            let old = match before {
                Some(Target::Symbolic(branch)) => {
                    // What it did later, it did while something else was checked out.
                    self.skip(&branch, since)?;
                    self.present(&branch)?
                }
                Some(Target::Commit(commit)) => Some(commit),
                _ => None,
            };
            // A branch without commits is no commit to go back to.
            if entries.len() < most && (old.is_some() || new.is_some()) {
                let RefState { created_at, message, operation, .. } = state;
                entries.push(ReflogEntry { created_at, old, new, message, operation });
            }
        }
        Ok(())
    }
}
