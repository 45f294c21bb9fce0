//! Branches.

use shard_core::Digest;
use shard_history::Node;
use shard_history::dag::ancestors;
use shard_history::revision::RefKind;
use shard_store::{RefUpdate, Target};

use super::{RefProblem, check_name, full_name};
use crate::error::{RepoError, Result};
use crate::repository::{DEFAULT, HEAD, Repository, head_of};

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// Where it ends.
    pub commit: Digest,
    /// Whether it is checked out.
    pub is_current: bool,
    /// Whether it is the default branch.
    pub is_default: bool,
}

impl Repository {
    /// The branches that have commits, by name.
    ///
    /// # Errors
    /// Refs that cannot be read.
    pub fn branches(&self) -> Result<Vec<Branch>> {
        let (current, default) = (self.head()?.branch, self.default_branch()?);
        let branches = self.named_refs()?.into_iter().filter(|named| named.kind == RefKind::Branch);
        let branch = |named: crate::NamedRef| Branch {
            is_current: current.as_ref() == Some(&named.name),
            is_default: default == named.name,
            name: named.name,
            commit: named.commit,
        };
        Ok(branches.map(branch).collect())
    }

    /// Makes a branch that ends at a revision. What is checked out stays.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for a name that is not allowed or taken, an unknown revision, [`RepoError::Raced`].
    pub fn create_branch(&self, name: &str, start: &str) -> Result<Branch> {
        self.again_if_condemned(|| self.create_branch_once(name, start))
    }

    fn create_branch_once(&self, name: &str, start: &str) -> Result<Branch> {
        let commit = self.resolve(start)?;
        let full = self.new_name(RefKind::Branch, name, None)?;
        let transaction = self.begin_move("branch", commit)?;
        let update = RefUpdate { name: full, expected: None, target: Target::Commit(commit) };
        self.move_or_lose(&transaction, &[update], &format!("branch: created from {start}"))?;
        let is_default = self.default_branch()? == name;
        Ok(Branch {
            name: name.to_owned(),
            commit,
            is_current: self.head()?.branch.as_deref() == Some(name),
            is_default,
        })
    }

    /// Makes a branch that ends at a revision, or makes one that is there end there, and gives where that ended before.
    ///
    /// # Errors
    /// As [`Self::create_branch`]; [`RefProblem::CheckedOut`] for the branch that is checked out, which a reset moves.
    pub fn set_branch(&self, name: &str, start: &str) -> Result<(Branch, Option<Digest>)> {
        let full = check_name(RefKind::Branch, name)?;
        if self.read_ref(&full)?.is_none() {
            return Ok((self.create_branch(name, start)?, None));
        }
        self.again_if_condemned(|| self.move_branch(&full, name, start))
    }

    fn move_branch(&self, full: &str, name: &str, start: &str) -> Result<(Branch, Option<Digest>)> {
        let state = self.existing(RefKind::Branch, name)?;
        let commit = self.resolve(start)?;
        if self.head()?.branch.as_deref() == Some(name) {
            return Err(RefProblem::CheckedOut(name.to_owned()).into());
        }
        let before = match state.target {
            Target::Commit(before) => Some(before),
            _ => None,
        };
        let transaction = self.begin_move("branch", commit)?;
        if before != Some(commit) {
            let update = RefUpdate { name: full.to_owned(), expected: Some(state), target: Target::Commit(commit) };
            self.move_or_lose(&transaction, &[update], &format!("branch: moved to {start}"))?;
        }
        let is_default = self.default_branch()? == name;
        Ok((Branch { name: name.to_owned(), commit, is_current: false, is_default }, before))
    }

    /// Leaves a branch without commits checked out, in place of another one without commits.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for a name that is not allowed or taken; [`RepoError::Argument`] where there are commits already;
    /// [`RepoError::Raced`].
    pub fn checkout_unborn(&self, name: &str) -> Result<()> {
        if self.head()?.commit.is_some() {
            return Err(RepoError::Argument("what is checked out has commits already".to_owned()));
        }
        let target = Target::Symbolic(self.new_name(RefKind::Branch, name, None)?);
        let update = RefUpdate { name: HEAD.to_owned(), expected: Some(head_of(&self.store)?), target };
        let transaction = self.store.begin("checkout")?;
        self.move_or_lose(&transaction, &[update], &format!("checkout: {name}"))
    }

    /// Deletes a branch, and gives the commit where it ended. Its log stays, and its commits until they are collected.
    ///
    /// # Errors
    /// [`RepoError::Ref`] where there is none, for the branch that is checked out, for the default branch, and, unless
    /// `force`, where nothing else leads to its commits; [`RepoError::Raced`] where it was moved meanwhile.
    pub fn delete_branch(&self, name: &str, force: bool) -> Result<Digest> {
        let state = self.existing(RefKind::Branch, name)?;
        let Target::Commit(commit) = state.target else {
            return Err(RepoError::Argument(format!("the branch {name:?} names no commit")));
        };
        let head = self.head()?;
        if head.branch.as_deref() == Some(name) {
            return Err(RefProblem::CheckedOut(name.to_owned()).into());
        }
        if self.default_branch()? == name {
            return Err(RefProblem::Default(name.to_owned()).into());
        }
        if !force && !self.is_reached_otherwise(name, commit)? {
            return Err(RefProblem::OnlyHere { name: name.to_owned(), commit }.into());
        }
        let transaction = self.store.begin("branch")?;
        let full = full_name(RefKind::Branch, name);
        let update = RefUpdate { name: full, expected: Some(state), target: Target::Deleted };
        self.move_or_lose(&transaction, &[update], "branch: deleted")?;
        Ok(commit)
    }

    /// Whether another branch, a tag or what is checked out leads to a commit.
    fn is_reached_otherwise(&self, branch: &str, commit: Digest) -> Result<bool> {
        let others = self.named_refs()?.into_iter();
        let others = others.filter(|named| named.kind != RefKind::Branch || named.name != branch);
        let mut tips: Vec<Digest> = others.map(|named| named.commit).collect();
        tips.extend(self.head()?.commit);
        if tips.contains(&commit) {
            return Ok(true);
        }
        let mut objects = self.objects();
        let fetch = |id: &Digest| -> Result<Node> {
            let node = objects.commit(*id)?.node();
            node.map_err(|source| RepoError::History { what: "commit", id: *id, source })
        };
        Ok(ancestors(&tips, fetch)?.contains(&commit))
    }

    /// Gives a branch another name; what is checked out and the default branch follow. The log of the old name stays under
    /// the old name.
    ///
    /// # Errors
    /// [`RepoError::Ref`]; [`RepoError::Merge`] where a merge into it waits; [`RepoError::Raced`].
    pub fn rename_branch(&self, old: &str, new: &str) -> Result<()> {
        let head = self.head()?;
        let is_current = head.branch.as_deref() == Some(old);
        let is_unborn = is_current && head.commit.is_none();
        let state = if is_unborn { None } else { Some(self.existing(RefKind::Branch, old)?) };
        let to = self.new_name(RefKind::Branch, new, Some(old))?;
        if old == new {
            return Ok(());
        }
        self.refuse_while_merging_into(&full_name(RefKind::Branch, old))?;
        // Whatever is left half done, what is checked out has a branch, and nothing loses its name.
        let mut updates = Vec::new();
        if let Some(state) = &state {
            updates.push(RefUpdate { name: to.clone(), expected: None, target: state.target.clone() });
        }
        for (follows, name) in [(is_current, HEAD), (self.default_branch()? == old, DEFAULT)] {
            if follows {
                let (name, expected) = (name.to_owned(), self.read_ref(name)?);
                updates.push(RefUpdate { name, expected, target: Target::Symbolic(to.clone()) });
            }
        }
        if state.is_some() {
            let name = full_name(RefKind::Branch, old);
            updates.push(RefUpdate { name, expected: state, target: Target::Deleted });
        }
        let transaction = self.store.begin("branch")?;
        self.move_or_lose(&transaction, &updates, &format!("branch: renamed {old} to {new}"))
    }
}
