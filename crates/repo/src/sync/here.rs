//! A repository as one that others exchange commits with.

use std::ops::Deref;
use std::sync::Arc;

use shard_core::{Digest, Progress};
use shard_history::revision::RefKind;
use shard_store::{EntryKey, EntrySource, RefUpdate, StoreError, Target, Transaction};

use super::fetch::is_forward;
use super::needed::{Needed, needed};
use super::peer::{Chosen, Inbound, Offer, Outbound, Peer, PeerRef, RefMove, Supply, Wanted, Welcome};
use super::reached::{Reached, commit_of};
use super::receive::receive;
use super::travel::{Stored, offers};
use super::{SyncProblem, leftovers};
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::refs::{RefProblem, full_name};
use crate::repository::{HEADS, Repository, TAGS};

impl Peer for Repository {
    fn url(&self) -> String {
        self.root().display().to_string()
    }

    fn welcome(&self) -> Result<Welcome> {
        let mut objects = self.objects();
        let mut refs = Vec::new();
        for (kind, prefix) in [(RefKind::Branch, HEADS), (RefKind::Tag, TAGS)] {
            for (full, state) in self.store.refs().list(prefix).map_err(StoreError::from)? {
                let Some(name) = full.strip_prefix(prefix) else { continue };
                if let Some(commit) = commit_of(&mut objects, &state.target)? {
                    refs.push(PeerRef { kind, name: name.to_owned(), target: state.target, commit });
                }
            }
        }
        let checked_out = if self.is_bare() { None } else { self.head()?.branch };
        Ok(Welcome { cut: self.cut(), default_branch: self.default_branch()?, checked_out, refs })
    }

    fn inbound(&self) -> Result<Box<dyn Inbound + '_>> {
        Ok(Box::new(Pushed::begin(self)?))
    }

    fn outbound(&self, wanted: &Wanted) -> Result<Box<dyn Outbound + '_>> {
        let needed = match wanted {
            Wanted::Blocks(blocks) => Needed { blocks: blocks.clone(), objects: Vec::new() },
            Wanted::History { wants, has, is_lazy } => {
                let mut reached = Reached::new(&self.store, has.iter().copied().collect());
                let sketches = self.store.sketches();
                let mut needed = needed(&self.store, Some(&sketches), wants, &mut |commit| reached.has(commit))?;
                if *is_lazy {
                    needed.blocks.clear();
                }
                needed
            }
        };
        Ok(Box::new(Fetched { repository: self, offers: offers(&self.store, &needed)? }))
    }
}

impl Repository {
    /// Begins to be pushed to, for as long as anybody likes.
    ///
    /// # Errors
    /// As [`Peer::inbound`].
    pub fn inbound_of(repository: Arc<Self>) -> Result<Box<dyn Inbound>> {
        Ok(Box::new(Pushed::begin(repository)?))
    }

    /// Entries as they are stored, in this order.
    #[must_use]
    pub fn supply(&self, chosen: Vec<Chosen>) -> Box<dyn Supply + '_> {
        Box::new(Stored::new(&self.store, chosen))
    }
}

/// What is pushed here.
struct Pushed<R> {
    repository: R,
    transaction: Transaction,
    welcome: Welcome,
}

impl<R: Deref<Target = Repository>> Pushed<R> {
    fn begin(repository: R) -> Result<Self> {
        leftovers::keep(&repository, "push")?;
        // Before refs are read: what they name stays from here on.
        let transaction = repository.store.begin_received("push")?;
        Ok(Self { welcome: repository.welcome()?, repository, transaction })
    }
}

impl<R: Deref<Target = Repository> + Send + Sync> Inbound for Pushed<R> {
    fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    fn reaches(&self, commits: &[Digest]) -> Result<Vec<bool>> {
        let mut reached = Reached::of(&self.repository)?;
        commits.iter().map(|commit| reached.has(commit)).collect()
    }

    fn has(&self, keys: &[EntryKey]) -> Result<Vec<bool>> {
        // What is found counts as something that the transaction counts on.
        keys.iter().map(|key| Ok(self.transaction.locate(key)?.is_some())).collect()
    }

    fn take(&self, parcels: &dyn Supply, progress: &dyn Progress) -> Result<()> {
        let outcome = receive(parcels, &self.transaction, None, self.repository.settings.workers(), progress);
        // What was more than may be kept goes with the push.
        if let Err(error @ RepoError::Sync(SyncProblem::OverQuota { .. })) = outcome {
            return Err(error);
        }
        // Whatever becomes of the rest, what has arrived does not have to be sent again.
        let sealed = self.transaction.seal();
        outcome?;
        Ok(sealed?)
    }

    fn move_refs(&self, moves: &[RefMove]) -> Result<()> {
        let mut updates = Vec::new();
        for wanted in moves {
            let name = full_name(wanted.kind, &wanted.name);
            let expected = self.repository.read_ref(&name)?;
            if expected.as_ref().map_or(&Target::Deleted, |state| &state.target) != &wanted.from {
                return Err(RepoError::Raced(name));
            }
            self.check(wanted)?;
            updates.push(RefUpdate { name, expected, target: wanted.to.clone() });
        }
        let wants: Vec<Target> = moves.iter().map(|wanted| wanted.to.clone()).collect();
        self.check_whole(&wants)?;
        self.repository.move_or_lose(&self.transaction, &updates, "push")
    }
}

impl<R: Deref<Target = Repository>> Pushed<R> {
    /// Whether a ref may move.
    fn check(&self, wanted: &RefMove) -> Result<()> {
        let RefMove { kind, name, from, to, is_forced } = wanted;
        if *kind == RefKind::Branch && self.welcome.checked_out.as_ref() == Some(name) {
            return Err(SyncProblem::CheckedOutThere(name.clone()).into());
        }
        let is_of_kind = match to {
            Target::Commit(_) | Target::Deleted => true,
            Target::Tag(_) => *kind == RefKind::Tag,
            Target::Tree(_) | Target::Symbolic(_) => false,
        };
        if !is_of_kind {
            return Err(SyncProblem::Malformed("a branch names a commit, and a tag a commit or a tag").into());
        }
        match (from, to) {
            (_, Target::Deleted) if *kind == RefKind::Branch && self.repository.default_branch()? == *name => {
                Err(RefProblem::Default(name.clone()).into())
            }
            (_, Target::Deleted) => Ok(()),
            (Target::Deleted, _) => self.repository.new_name(*kind, name, None).map(drop),
            _ if *is_forced => Ok(()),
            _ if *kind == RefKind::Tag => Err(SyncProblem::TagThere(name.clone()).into()),
            (before, after) => {
                let mut objects = Objects::new(&self.transaction);
                match (commit_of(&mut objects, before)?, commit_of(&mut objects, after)?) {
                    (Some(before), Some(after)) if !is_forward(&self.transaction, before, after)? => {
                        Err(SyncProblem::NotFastForward { name: name.clone(), there: before, is_known: true }.into())
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whether all that new targets of refs lead to is here, and stays.
    fn check_whole(&self, wants: &[Target]) -> Result<()> {
        let mut reached = Reached::of(&self.repository)?;
        let found = needed(&self.transaction, None, wants, &mut |commit| reached.has(commit))?;
        let keys = found.blocks.iter().map(|id| EntryKey::block(*id)).chain(found.objects);
        for key in keys {
            self.transaction.locate(&key)?.ok_or(RepoError::Missing { key })?;
        }
        Ok(())
    }
}

/// What is fetched from here.
struct Fetched<'a> {
    repository: &'a Repository,
    offers: Vec<Offer>,
}

impl Outbound for Fetched<'_> {
    fn offers(&self) -> &[Offer] {
        &self.offers
    }

    fn send<'a>(&'a self, chosen: Vec<Chosen>) -> Result<Box<dyn Supply + 'a>> {
        Ok(Box::new(Stored::in_runs(&self.repository.store, chosen)?))
    }
}
