//! `push`: branches and tags go to another repository, with all that they lead to.

use std::collections::HashSet;

use shard_core::{Digest, Progress};
use shard_history::revision::RefKind;
use shard_store::{EntryKey, EntryKind, EntrySource, RefUpdate, Target};

use super::fetch::{change_of, is_forward};
use super::needed::{needed, new_commits};
use super::peer::{Inbound, Peer, PeerRef, RefMove, Welcome};
use super::reached::{Reached, commit_of};
use super::remotes::tracking;
use super::travel::{Stored, choose, offers};
use super::{MovedRef, SyncProblem, SyncReport, again_if_missing};
use crate::error::{RepoError, Result};
use crate::refs::{RefProblem, check_name, full_name};
use crate::repository::{HEADS, Repository, TAGS};

/// What to push, and how.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Names of branches and tags; `HERE:THERE` gives one another name over there, and `:THERE` deletes it. What is checked out where
    /// there is none.
    pub specs: Vec<String>,
    /// All branches.
    pub all: bool,
    /// All tags.
    pub tags: bool,
    /// Whether branches may lose commits over there, and tags move.
    pub force: bool,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

/// A ref over there, and what it shall name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    kind: RefKind,
    /// Without `heads/` and `tags/`.
    name: String,
    target: Target,
    is_forced: bool,
}

impl Repository {
    /// Pushes to another repository. Where its branches are then is noted as those of the remote that is named. Either all refs move
    /// or, where one may not, none.
    ///
    /// # Errors
    /// [`RepoError::Sync`], [`RepoError::Ref`] for what the other side does not take; [`RepoError::Raced`] where another writer was first.
    /// What has arrived stays there, and is not sent again.
    pub fn push(
        &self,
        remote: Option<&str>,
        there: &dyn Peer,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        let wanted = self.wanted(options)?;
        let report =
            again_if_missing(|| self.again_if_condemned(|| self.push_once(there, &wanted, options, progress)))?;
        if let Some(remote) = remote.filter(|_| !options.dry_run) {
            self.note_pushed(remote, &wanted)?;
        }
        Ok(SyncReport { url: there.url(), ..report })
    }

    fn push_once(
        &self,
        there: &dyn Peer,
        wanted: &[Wanted],
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        let inbound = there.inbound()?;
        let welcome = inbound.welcome();
        let mut moves = Vec::new();
        for wanted in wanted {
            let from = welcome.target(wanted.kind, &wanted.name);
            if from == wanted.target {
                if from == Target::Deleted {
                    return Err(
                        RefProblem::Unknown { kind: "branch or tag over there", name: wanted.name.clone() }.into()
                    );
                }
                continue;
            }
            let Wanted { kind, name, target, is_forced } = wanted.clone();
            let wanted = RefMove { kind, name, from, to: target, is_forced };
            self.check_forward(&wanted, welcome)?;
            moves.push(wanted);
        }
        let mut report = self.send_to(inbound.as_ref(), &moves, options.dry_run, progress)?;
        let mut objects = self.objects();
        for wanted in &moves {
            let from = welcome.commit(wanted.kind, &wanted.name);
            let to = commit_of(&mut objects, &wanted.to)?;
            let change = change_of(&self.store, from, to)?;
            report.refs.push(MovedRef { name: full_name(wanted.kind, &wanted.name), from, to, change });
        }
        if !options.dry_run && !moves.is_empty() {
            inbound.move_refs(&moves)?;
        }
        Ok(report)
    }

    /// Sends what the other side lacks of all that refs shall lead to there.
    fn send_to(
        &self,
        inbound: &dyn Inbound,
        moves: &[RefMove],
        dry_run: bool,
        progress: &dyn Progress,
    ) -> Result<SyncReport> {
        let wants: Vec<Target> = moves.iter().map(|wanted| wanted.to.clone()).collect();
        let mut tips: HashSet<Digest> = inbound.welcome().refs.iter().map(|found| found.commit).collect();
        let mut reached = Reached::new(&self.store, tips.clone());
        if !reached.are_all_here()? {
            // Over there are commits that are not here, and it may have some of ours below them.
            let new = new_commits(&self.store, &wants, &mut |commit| reached.has(commit))?;
            if !new.is_empty() {
                let known = inbound.reaches(&new)?;
                tips.extend(new.into_iter().zip(known).filter(|(_, known)| *known).map(|(commit, _)| commit));
                reached = Reached::new(&self.store, tips);
            }
        }
        let sketches = self.store.sketches();
        let needed = needed(&self.store, Some(&sketches), &wants, &mut |commit| reached.has(commit))?;
        let offers = offers(&self.store, &needed)?;
        if offers.is_empty() {
            return Ok(SyncReport::default());
        }
        let keys: Vec<EntryKey> = offers.iter().map(|offer| offer.key).collect();
        let chosen = choose(&offers, &inbound.has(&keys)?);
        let report = SyncReport::of(&offers, &chosen);
        if !dry_run && !chosen.is_empty() {
            progress.begin("sending", Some(report.bytes));
            let chosen = chosen.into_iter().map(|(_, chosen)| chosen).collect();
            inbound.take(&Stored::nearby(&self.store, chosen), progress)?;
            progress.finish();
        }
        Ok(report)
    }

    /// Refuses early, before anything is sent, what the other side would refuse.
    fn check_forward(&self, wanted: &RefMove, welcome: &Welcome) -> Result<()> {
        if wanted.kind == RefKind::Branch && welcome.checked_out.as_ref() == Some(&wanted.name) {
            return Err(SyncProblem::CheckedOutThere(wanted.name.clone()).into());
        }
        if wanted.is_forced || wanted.from == Target::Deleted || wanted.to == Target::Deleted {
            return Ok(());
        }
        if wanted.kind == RefKind::Tag {
            return Err(SyncProblem::TagThere(wanted.name.clone()).into());
        }
        let after = commit_of(&mut self.objects(), &wanted.to)?;
        let (Some(before), Some(after)) = (welcome.commit(wanted.kind, &wanted.name), after) else { return Ok(()) };
        let is_known = self.store.locate(&EntryKey::new(EntryKind::Commit, before))?.is_some();
        if is_known && is_forward(&self.store, before, after)? {
            return Ok(());
        }
        Err(SyncProblem::NotFastForward { name: wanted.name.clone(), there: before, is_known }.into())
    }

    /// What is to be pushed.
    fn wanted(&self, options: &PushOptions) -> Result<Vec<Wanted>> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let is_forced = options.force;
        for PeerRef { kind, name, target, .. } in self.welcome()?.refs {
            if (options.all && kind == RefKind::Branch) || (options.tags && kind == RefKind::Tag) {
                wanted.push(Wanted { kind, name, target, is_forced });
            }
        }
        for spec in &options.specs {
            wanted.push(self.spec(spec, options.force)?);
        }
        if options.specs.is_empty() && !options.all && !options.tags {
            let head = self.head()?;
            let branch = head.branch.ok_or_else(|| SyncProblem::NothingToPush("HEAD".to_owned()))?;
            wanted.push(self.spec(&branch, options.force)?);
        }
        if wanted.is_empty() {
            return Err(RepoError::NothingToDo("there is no branch or tag to push".to_owned()));
        }
        Ok(wanted)
    }

    fn spec(&self, spec: &str, force: bool) -> Result<Wanted> {
        let refuse = |why| SyncProblem::Spec { spec: spec.chars().take(80).collect(), why };
        let (is_forced, text) = match spec.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (force, spec),
        };
        let (here, there) = text.split_once(':').unwrap_or((text, text));
        if there.is_empty() {
            return Err(refuse("after the colon comes a name").into());
        }
        if here.is_empty() {
            let (kind, name) = in_short(there).unwrap_or((RefKind::Branch, there));
            return Ok(Wanted { kind, name: name.to_owned(), target: Target::Deleted, is_forced });
        }
        let candidates = match in_short(here) {
            Some((kind, name)) => vec![(kind, name)],
            None => vec![(RefKind::Branch, here), (RefKind::Tag, here)],
        };
        let mut found = Vec::new();
        for (kind, name) in candidates {
            let full = full_name(kind, name);
            if shard_store::ref_name::check(&full).is_ok()
                && let Some(state) = self.read_ref(&full)?
            {
                found.push((kind, state.target));
            }
        }
        let (kind, target) = match found.len() {
            0 => return Err(SyncProblem::NothingToPush(here.to_owned()).into()),
            1 => found.remove(0),
            _ => return Err(refuse("a branch and a tag have that name: write heads/NAME or tags/NAME").into()),
        };
        let (kind, name) = match in_short(there) {
            Some((other, name)) => (other, name),
            None => (kind, there),
        };
        if kind == RefKind::Branch && !matches!(target, Target::Commit(_)) {
            return Err(refuse("a branch cannot be an annotated tag").into());
        }
        check_name(kind, name)?;
        Ok(Wanted { kind, name: name.to_owned(), target, is_forced })
    }

    /// What is over there now is noted here.
    fn note_pushed(&self, remote: &str, wanted: &[Wanted]) -> Result<()> {
        let mut updates = Vec::new();
        for wanted in wanted.iter().filter(|wanted| wanted.kind == RefKind::Branch) {
            let name = format!("{}{}", tracking(remote), wanted.name);
            let expected = self.read_ref(&name)?;
            let is = expected.as_ref().map_or(&Target::Deleted, |state| &state.target);
            if *is != wanted.target {
                updates.push(RefUpdate { name, expected, target: wanted.target.clone() });
            }
        }
        if updates.is_empty() {
            return Ok(());
        }
        let transaction = self.store.begin("push")?;
        for update in &updates {
            crate::collect::hold_target(&self.store, &transaction, &update.target)?;
        }
        match self.move_or_lose(&transaction, &updates, &format!("push: {remote}")) {
            // Whoever moved it meanwhile knows better.
            Err(RepoError::Raced(_)) => Ok(()),
            outcome => outcome,
        }
    }
}

/// The kind and the name of a ref whose name is given in full.
fn in_short(name: &str) -> Option<(RefKind, &str)> {
    let name = name.strip_prefix("refs/").unwrap_or(name);
    let branch = name.strip_prefix(HEADS).map(|name| (RefKind::Branch, name));
    branch.or_else(|| name.strip_prefix(TAGS).map(|name| (RefKind::Tag, name)))
}
