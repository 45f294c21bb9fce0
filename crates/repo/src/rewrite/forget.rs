//! `forget`: a branch with the commits alone that rules keep.

use std::collections::{HashMap, HashSet};

use shard_core::Digest;
use shard_history::Commit;
use shard_history::retention::{Candidate, Reason, Retention, metric};
use shard_history::revision::RefKind;

use super::{BlockingRef, Rewritten, shown};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// What to forget.
#[derive(Debug, Clone, Default)]
pub struct ForgetOptions {
    /// The branch; the one that is checked out where it is not given.
    pub branch: Option<String>,
    /// What stays.
    pub rules: Retention,
}

/// A commit of the branch.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCommit {
    /// Its id now.
    pub id: Digest,
    /// Its id afterwards, where it stays. It is the same where nothing before it goes.
    pub new_id: Option<Digest>,
    /// When it was made.
    pub created_at: String,
    /// The first line of its message.
    pub title: String,
    /// Why it stays; none where it goes.
    pub reasons: Vec<Reason>,
}

/// What forgetting comes to, and what it takes.
#[derive(Debug, Clone)]
pub struct ForgetPlan {
    /// What will have been done.
    pub report: ForgetReport,
    state: Box<shard_store::RefState>,
    rewritten: Rewritten,
}

/// What forgetting does to a branch.
#[derive(Debug, Clone, PartialEq)]
pub struct ForgetReport {
    /// The branch's full name.
    pub ref_name: String,
    /// Where it ends before: its log remembers.
    pub old_head: Digest,
    /// Where it ends afterwards, with the same tree.
    pub new_head: Digest,
    /// All commits that it has before, newest first.
    pub commits: Vec<PlannedCommit>,
    /// What leads to the old commits all the same, so that no collection removes them.
    pub blocking_refs: Vec<BlockingRef>,
}

/// What a rewritten commit has in common with the one that it was, and with hardly any other.
#[derive(PartialEq, Eq, Hash)]
struct Same {
    tree: Digest,
    created_at: String,
    author: Option<String>,
    message: String,
}

impl Same {
    fn of(commit: &Commit) -> Self {
        let Commit { tree, created_at, author, message, .. } = commit;
        Self { tree: *tree, created_at: created_at.clone(), author: author.clone(), message: message.clone() }
    }
}

impl ForgetReport {
    /// How many commits go.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.commits.iter().filter(|commit| commit.new_id.is_none()).count()
    }
}

impl Repository {
    /// What rules make of a branch. Nothing is written, and no clock is asked: times are those of the commits.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for a branch that is not there; [`RepoError::Argument`] without rules, or for a number that no
    /// commit has; what cannot be read.
    pub fn plan_forget(&self, options: &ForgetOptions) -> Result<ForgetPlan> {
        let rules = &options.rules;
        if rules.is_empty() {
            return Err(RepoError::Argument("no rule says what stays".to_owned()));
        }
        let branch = self.branch_with_history(options.branch.as_deref())?;
        let mut tags: HashMap<Digest, Vec<String>> = HashMap::new();
        // Tags stay on the commits that an earlier run took out of the branch; what it made of those is meant by them too.
        let mut tags_of_older: HashMap<Same, Vec<String>> = HashMap::new();
        let mut objects = self.objects();
        for tag in self.named_refs()?.into_iter().filter(|named| rules.tagged && named.kind == RefKind::Tag) {
            if branch.commits.contains_key(&tag.commit) {
                tags.entry(tag.commit).or_default().push(tag.name);
            } else {
                tags_of_older.entry(Same::of(&objects.commit(tag.commit)?)).or_default().push(tag.name);
            }
        }
        let mut candidates = Vec::with_capacity(branch.order.len());
        for id in &branch.order {
            let Some(commit) = branch.commits.get(id) else { continue };
            let tags = match tags.remove(id) {
                None if !tags_of_older.is_empty() => tags_of_older.remove(&Same::of(commit)),
                tags => tags,
            };
            candidates.push(Candidate {
                id: *id,
                time: commit.time().map_err(|source| RepoError::History { what: "commit", id: *id, source })?,
                tags: tags.unwrap_or_default(),
                metrics: rules.best.iter().map(|best| metric(commit, &best.metric, best.lowest)).collect(),
            });
        }
        for (index, best) in rules.best.iter().enumerate() {
            let has_it = |candidate: &Candidate| candidate.metrics.get(index).is_some_and(Option::is_some);
            // A name that is misspelt must not cost the commits that it was to keep.
            if !candidates.iter().any(has_it) {
                let why = format!("no commit of {} has a number {:?}", shown(&branch.name), best.metric);
                return Err(RepoError::Argument(why));
            }
        }
        let reasons = rules.decide(&candidates);
        let stays = candidates.iter().zip(&reasons).filter(|(_, reasons)| !reasons.is_empty());
        let keep: HashSet<Digest> = stays.map(|(candidate, _)| candidate.id).collect();
        let rewritten = self.rewrite(&branch, &keep, &|_, _| {})?;
        let commits = candidates.into_iter().zip(reasons).filter_map(|(candidate, reasons)| {
            let commit = branch.commits.get(&candidate.id)?;
            Some(PlannedCommit {
                id: candidate.id,
                new_id: rewritten.ids.get(&candidate.id).copied(),
                created_at: commit.created_at.clone(),
                title: commit.title().to_owned(),
                reasons,
            })
        });
        let new_head =
            *rewritten.ids.get(&branch.head).ok_or(RepoError::Internal("the last commit was not rewritten"))?;
        let report = ForgetReport {
            old_head: branch.head,
            new_head,
            commits: commits.collect(),
            blocking_refs: self.blocking(&branch, &rewritten.gone)?,
            ref_name: branch.name,
        };
        Ok(ForgetPlan { report, state: Box::new(branch.state), rewritten })
    }

    /// Does what was planned; where nothing goes, nothing is done. The tree of the last commit, the stage and the work tree
    /// are as they were.
    ///
    /// # Errors
    /// [`RepoError::Raced`] where the branch has moved since; [`RepoError::Ref`] where it is protected;
    /// [`RepoError::Merge`] where a merge into it is under way.
    pub fn forget(&self, plan: ForgetPlan) -> Result<ForgetReport> {
        let ForgetPlan { report, state, rewritten } = plan;
        if report.new_head != report.old_head {
            let message = format!("forget: {} of {} commits", report.dropped(), report.commits.len());
            self.move_rewritten((&report.ref_name, &state), &rewritten, report.new_head, &message)?;
        }
        Ok(report)
    }
}
