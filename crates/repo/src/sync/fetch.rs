//! `fetch`: another repository's branches become remote branches here, with all that they lead to.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use shard_core::{Digest, Progress};
use shard_history::revision::RefKind;
use shard_store::{EntryKey, EntryKind, EntrySource, RefUpdate, StoreError, Target, Transaction};

use super::peer::{Chosen, Peer, PeerRef, Wanted};
use super::reached::{commit_of, tips};
use super::receive::receive;
use super::remotes::tracking;
use super::travel::choose;
use super::{MovedRef, RefChange, SyncProblem, SyncReport, again_if_missing, leftovers};
use crate::begun::BegunFiles;
use crate::error::Result;
use crate::objects::Objects;
use crate::refs::{check_name, follows, full_name};
use crate::repository::Repository;

/// How to fetch.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// The branches to fetch; all of them where there is none.
    pub branches: Vec<String>,
    /// Whether remote branches go that are not over there any more.
    pub prune: bool,
    /// Whether tags stay where they are.
    pub no_tags: bool,
    /// Whether blocks stay there until they are read. In a repository that is partial already they do.
    pub lazy: bool,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

impl Repository {
    /// Fetches from another repository. Its branches become those of the remote that is named; without a name no branch moves, but
    /// tags do.
    ///
    /// # Errors
    /// [`RepoError::Sync`](crate::RepoError::Sync); what cannot be read there or written here. No ref has moved then; what has arrived
    /// stays, and is not sent again.
    pub fn fetch(
        &self,
        remote: Option<&str>,
        there: &dyn Peer,
        options: &FetchOptions,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        self.fetch_ahead(remote, there, options, None, progress)
    }

    /// The same; files of a branch that will be checked out are written while their blocks arrive.
    pub(super) fn fetch_ahead(
        &self,
        remote: Option<&str>,
        there: &dyn Peer,
        options: &FetchOptions,
        ahead: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        leftovers::keep(self, "fetch")?;
        again_if_missing(|| self.again_if_condemned(|| self.fetch_once(remote, there, options, ahead, progress)))
    }

    fn fetch_once(
        &self,
        remote: Option<&str>,
        there: &dyn Peer,
        options: &FetchOptions,
        ahead: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        // Before refs are read: what they name stays from here on.
        let transaction = self.store.begin_received("fetch")?;
        let welcome = there.welcome()?;
        if let Some(missing) = options.branches.iter().find(|name| welcome.branch(name).is_none()) {
            return Err(SyncProblem::NotThere { url: there.url(), name: missing.clone() }.into());
        }
        let is_wanted = |found: &&PeerRef| match found.kind {
            RefKind::Branch => options.branches.is_empty() || options.branches.contains(&found.name),
            _ => !options.no_tags,
        };
        let wanted: Vec<&PeerRef> = welcome.refs.iter().filter(is_wanted).collect();
        let wants: Vec<Target> = wanted.iter().map(|found| found.target.clone()).collect();
        let ahead = ahead.and_then(|branch| Some(welcome.branch(branch)?.commit));
        let outcome = self.receive_from(there, (wants, ahead), &transaction, options, progress);
        if outcome.is_err() && !options.dry_run {
            // What has arrived does not have to be sent again.
            let _ = transaction.seal();
        }
        let mut report = outcome?;
        report.url = there.url();

        let (mut updates, mut kept) = (Vec::new(), BTreeSet::new());
        for found in wanted {
            let full = match (found.kind, remote) {
                (RefKind::Branch, Some(remote)) => {
                    check_name(RefKind::Branch, &found.name)?;
                    format!("{}{}", tracking(remote), found.name)
                }
                (RefKind::Branch, None) => continue,
                (kind, _) => full_name(kind, &found.name),
            };
            let expected = self.read_ref(&full)?;
            if expected.as_ref().is_some_and(|state| state.target == found.target) {
                continue;
            }
            if found.kind == RefKind::Tag {
                if expected.is_some() {
                    kept.insert(full.clone());
                } else {
                    self.new_name(RefKind::Tag, &found.name, None)?;
                }
            }
            updates.push(RefUpdate { name: full, expected, target: found.target.clone() });
        }
        if let Some(remote) = remote.filter(|_| options.prune) {
            let prefix = tracking(remote);
            for (full, state) in self.store.refs().list(&prefix).map_err(StoreError::from)? {
                if full.strip_prefix(&prefix).is_some_and(|name| welcome.branch(name).is_none()) {
                    updates.push(RefUpdate { name: full, expected: Some(state), target: Target::Deleted });
                }
            }
        }
        for update in &updates {
            let mut moved = self.moved_here(update, &transaction)?;
            if kept.contains(&update.name) {
                moved.change = RefChange::Kept;
            }
            report.refs.push(moved);
        }
        updates.retain(|update| !kept.contains(&update.name));
        if !options.dry_run && !updates.is_empty() {
            let from = remote.map_or_else(|| there.url(), str::to_owned);
            self.move_or_lose(&transaction, &updates, &format!("fetch: {from}"))?;
        }
        Ok(report)
    }

    /// Receives what is lacking here of all that `wants` lead to. In a dry run that is only counted, and nothing but commits and tags
    /// arrives, which say how refs would move.
    fn receive_from(
        &self,
        there: &dyn Peer,
        (wants, ahead): (Vec<Target>, Option<Digest>),
        into: &Transaction,
        options: &FetchOptions,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        let has: BTreeSet<Digest> = tips(self)?.into_iter().collect();
        let (has, is_lazy, dry_run) = (has.into_iter().collect(), options.lazy || self.is_partial(), options.dry_run);
        let outbound = there.outbound(&Wanted::History { wants, has, is_lazy })?;
        let offers = outbound.offers();
        // What is found counts as something that the transaction counts on.
        let is_here = |key: &EntryKey| Ok(into.locate(key)?.is_some());
        let here = offers.iter().map(|offer| is_here(&offer.key)).collect::<Result<Vec<bool>>>()?;
        let mut chosen = choose(offers, &here);
        let report = SyncReport::of(offers, &chosen);
        if dry_run {
            chosen.retain(|(_, chosen)| matches!(chosen.key.kind, EntryKind::Commit | EntryKind::Tag));
        } else {
            progress.begin("receiving", Some(report.bytes));
        }
        let mut chosen: Vec<Chosen> = chosen.into_iter().map(|(_, chosen)| chosen).collect();
        let receive = |chosen: Vec<Chosen>, begun: Option<&BegunFiles>| -> Result<()> {
            if chosen.is_empty() {
                return Ok(());
            }
            receive(outbound.send(chosen)?.as_ref(), into, begun, self.settings.workers(), progress)
        };
        let is_block = |key: &EntryKey| key.kind == EntryKind::Block;
        // What files are made of comes first, where nothing of that leans on blocks.
        let mut begun = None;
        if let Some(commit) = ahead.filter(|_| !dry_run && chosen.iter().any(|chosen| is_block(&chosen.key)))
            && offers.iter().all(|offer| is_block(&offer.key) || offer.bases.is_empty())
        {
            let (blocks, others) = chosen.into_iter().partition(|chosen| is_block(&chosen.key));
            chosen = blocks;
            receive(others, None)?;
            begun = Some(self.begin_files(into, commit)?).filter(|begun| !begun.is_empty());
        }
        receive(chosen, begun.as_ref())?;
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        progress.finish();
        Ok(report)
    }

    /// What an update of a ref here comes to.
    fn moved_here(&self, update: &RefUpdate, new: &dyn EntrySource) -> Result<MovedRef> {
        let mut objects = Objects::new(new);
        let from = match &update.expected {
            Some(state) => commit_of(&mut objects, &state.target)?,
            None => None,
        };
        let to = commit_of(&mut objects, &update.target)?;
        Ok(MovedRef { name: update.name.clone(), from, to, change: change_of(new, from, to)? })
    }
}

/// How a ref moves from one commit to another.
pub(super) fn change_of(source: &dyn EntrySource, from: Option<Digest>, to: Option<Digest>) -> Result<RefChange> {
    Ok(match (from, to) {
        (_, None) => RefChange::Deleted,
        (None, _) => RefChange::New,
        (Some(from), Some(to)) if is_forward(source, from, to)? => RefChange::Forward,
        _ => RefChange::Forced,
    })
}

/// Whether a commit has another among its ancestors; one whose history cannot be gone through has not.
pub(super) fn is_forward(source: &dyn EntrySource, from: Digest, to: Digest) -> Result<bool> {
    Ok(crate::error::unless_damaged(follows(source, from, to))?.unwrap_or(false))
}
