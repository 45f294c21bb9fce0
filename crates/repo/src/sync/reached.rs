//! Which commits some refs lead to.

use std::collections::HashSet;

use shard_core::Digest;
use shard_store::{EntryKey, EntryKind, EntrySource, StoreError, Target};

use crate::error::{Result, unless_damaged};
use crate::objects::Objects;
use crate::repository::Repository;

/// Commits that refs of a repository lead to, as far as a store knows them: with all that these lead to, they are there.
pub(super) struct Reached<'a> {
    source: &'a dyn EntrySource,
    tips: HashSet<Digest>,
    /// All of them, once somebody asks for more than the tips.
    all: Option<HashSet<Digest>>,
}

impl<'a> Reached<'a> {
    /// What commits lead to, those of them that a store has.
    pub(super) fn new(source: &'a dyn EntrySource, tips: HashSet<Digest>) -> Self {
        Self { source, tips, all: None }
    }

    /// What a repository's refs lead to.
    pub(super) fn of(repository: &'a Repository) -> Result<Self> {
        Ok(Self::new(&repository.store, tips(repository)?))
    }

    /// Whether all of those that the refs name are here: of what is here it is known then whether refs lead to it.
    pub(super) fn are_all_here(&self) -> Result<bool> {
        for tip in &self.tips {
            if !self.is_here(tip)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn has(&mut self, commit: &Digest) -> Result<bool> {
        if self.tips.contains(commit) {
            return Ok(true);
        }
        if !self.is_here(commit)? {
            return Ok(false);
        }
        if self.all.is_none() {
            let (mut objects, mut all) = (Objects::new(self.source), HashSet::new());
            let mut open: Vec<Digest> = self.tips.iter().copied().collect();
            while let Some(id) = open.pop() {
                if all.contains(&id) || !self.is_here(&id)? {
                    continue;
                }
                // Commits of the other side may be here because of a push that was given up, and be collected in part, or just now.
                if let Some(commit) = unless_damaged(objects.commit(id))? {
                    all.insert(id);
                    open.extend(commit.parents);
                }
            }
            self.all = Some(all);
        }
        Ok(self.all.as_ref().is_some_and(|all| all.contains(commit)))
    }

    fn is_here(&self, commit: &Digest) -> Result<bool> {
        Ok(self.source.locate(&EntryKey::new(EntryKind::Commit, *commit))?.is_some())
    }
}

/// The commits that a repository's refs name.
pub(super) fn tips(repository: &Repository) -> Result<HashSet<Digest>> {
    let mut objects = repository.objects();
    let mut tips = HashSet::new();
    for (_, state) in repository.store.refs().list("").map_err(StoreError::from)? {
        tips.extend(commit_of(&mut objects, &state.target)?);
    }
    Ok(tips)
}

/// The commit that a ref's target leads to.
pub(super) fn commit_of(objects: &mut Objects<'_>, target: &Target) -> Result<Option<Digest>> {
    match target {
        Target::Commit(commit) => Ok(Some(*commit)),
        Target::Tag(tag) => Ok(Some(objects.tag(*tag)?.target)),
        Target::Tree(_) | Target::Symbolic(_) | Target::Deleted => Ok(None),
    }
}
