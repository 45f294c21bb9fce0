//! The branch that is checked out, where its ref was lost: what HEAD and the packs still tell of it.
//!
//! A ref that was ever there has states, also once it was deleted. A branch without any was never committed to, or its folder is
//! gone. Commits that no ref leads to tell which, and only where HEAD leads to such a branch, since everywhere else they are what
//! amended, squashed and deleted branches leave.

use std::collections::HashSet;

use shard_core::Digest;
use shard_store::{EntryKey, EntryKind, StoreError, Target};

use super::structure::Followed;
use super::{Damage, VerifyReport};
use crate::error::{RepoError, Result, unless_damaged};
use crate::objects::Objects;
use crate::repository::{HEADS, Repository, head_of};

/// A branch that is checked out and has no state, beside commits that no ref leads to.
pub(super) struct LostBranch {
    error: RepoError,
    /// Whether one of these commits follows another. Only a ref ever led from one to the next; a first commit may also
    /// have been interrupted before its branch was there.
    pub(super) is_certain: bool,
}

impl LostBranch {
    pub(super) fn problem(&self) -> String {
        self.error.to_string()
    }
}

impl Repository {
    /// Refuses where the ref of the branch that is checked out may be lost, with commits that only it led to.
    ///
    /// # Errors
    /// [`RepoError::LostBranch`]; what cannot be read.
    pub(crate) fn refuse_lost_branch(&self) -> Result<()> {
        if self.branch_without_state()?.is_none() {
            return Ok(());
        }
        let followed = self.follow_commits(&self.store, &mut VerifyReport::default(), &mut Damage::default())?;
        self.lost_branch(&followed)?.map_or(Ok(()), |lost| Err(lost.error))
    }

    /// The ref that HEAD leads to, where it never had a state, as far as can be told.
    pub(super) fn branch_without_state(&self) -> Result<Option<String>> {
        let Target::Symbolic(name) = head_of(&self.store)?.target else { return Ok(None) };
        let newest = self.store.refs().read_newest(&name).map_err(StoreError::from);
        match unless_damaged(newest.map_err(RepoError::from))? {
            Some(None) => Ok(Some(name)),
            // One that is damaged was there.
            Some(Some(_)) | None => Ok(None),
        }
    }

    pub(super) fn lost_branch(&self, followed: &Followed) -> Result<Option<LostBranch>> {
        let Some(name) = self.branch_without_state()? else { return Ok(None) };
        let unnamed = self.unnamed_commits(followed)?;
        let Some(newest) = unnamed.ends.first() else { return Ok(None) };
        let branch = name.strip_prefix(HEADS).unwrap_or(&name).to_owned();
        let error = RepoError::LostBranch { branch, commit: *newest, commits: unnamed.commits };
        Ok(Some(LostBranch { error, is_certain: unnamed.ends.len() < unnamed.commits }))
    }

    /// The commits that no state of any ref leads to.
    pub(super) fn unnamed_commits(&self, followed: &Followed) -> Result<Unnamed> {
        let mut unnamed: HashSet<Digest> = self.store.ids(EntryKind::Commit)?.into_iter().collect();
        for (commit, _) in &followed.commits {
            unnamed.remove(commit);
        }
        let commits = unnamed.len();
        let mut objects = Objects::new(&self.store);
        let mut ends = Vec::new();
        let mut followed = HashSet::new();
        for id in unnamed {
            if let Some(commit) = unless_damaged(objects.commit(id))? {
                followed.extend(commit.parents);
                ends.push((commit.created_at, id));
            }
        }
        ends.retain(|(_, id)| !followed.contains(id));
        ends.sort_by(|a, b| b.cmp(a));
        Ok(Unnamed { commits, ends: ends.into_iter().map(|(_, id)| id).collect() })
    }

    /// Whether something of a kind is stored here.
    pub(super) fn has(&self, kind: EntryKind, id: Digest) -> Result<bool> {
        Ok(!self.store.copies(&EntryKey::new(kind, id))?.is_empty())
    }
}

/// Commits that no ref leads to.
pub(super) struct Unnamed {
    /// How many there are.
    commits: usize,
    /// Those that no other of them follows, newest first by the times that they say.
    pub(super) ends: Vec<Digest>,
}
