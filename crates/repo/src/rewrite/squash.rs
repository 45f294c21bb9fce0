//! `squash`: a branch of one commit, or of those from one on.

use std::collections::HashSet;

use shard_core::Digest;

use super::{BlockingRef, Branch, Rewritten, shown};
use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// What to squash.
#[derive(Debug, Clone, Default)]
pub struct SquashOptions {
    /// The branch; the one that is checked out where it is not given.
    pub branch: Option<String>,
    /// The commit that becomes the first; the last one where it is not given. It and those that follow it stay.
    pub root: Option<String>,
    /// Another message for the first commit.
    pub message: Option<String>,
}

/// What squashing comes to, and what it takes.
#[derive(Debug, Clone)]
pub struct SquashPlan {
    /// What will have been done.
    pub report: SquashReport,
    branch: Box<Planned>,
}

#[derive(Debug, Clone)]
struct Planned {
    rewritten: Rewritten,
    state: shard_store::RefState,
}

/// What squashing does to a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SquashReport {
    /// The branch's full name.
    pub ref_name: String,
    /// Where it ends before: its log remembers.
    pub old_head: Digest,
    /// Where it ends afterwards, with the same tree.
    pub new_head: Digest,
    /// The commit that becomes the first, by the id that it had.
    pub root_commit_before: Digest,
    /// Commits that stay, under new ids.
    pub rewritten_commit_count: usize,
    /// Commits that the branch loses.
    pub dropped_ancestor_count: usize,
    /// What leads to the old commits all the same, so that no collection removes them.
    pub blocking_refs: Vec<BlockingRef>,
}

impl Repository {
    /// What squashing a branch comes to. Nothing is written.
    ///
    /// # Errors
    /// [`RepoError::Ref`] for a branch that is not there, a `root` that is none of its commits, [`RepoError::NothingToDo`]
    /// where it is as asked already, an empty message, or what cannot be read.
    pub fn plan_squash(&self, options: &SquashOptions) -> Result<SquashPlan> {
        if options.message.as_ref().is_some_and(|message| message.trim().is_empty()) {
            return Err(RepoError::Argument("a commit needs a message".to_owned()));
        }
        let branch = self.branch_with_history(options.branch.as_deref())?;
        let root = options.root.as_deref().map_or(Ok(branch.head), |root| self.resolve(root))?;
        let keep = from_on(&branch, root);
        if keep.is_empty() {
            let why = format!("{} is no commit of {}", root.short(), shown(&branch.name));
            return Err(RepoError::Argument(why));
        }
        let edit = |id: &Digest, commit: &mut shard_history::Commit| {
            if *id == root {
                commit.message = options.message.clone().unwrap_or_else(|| std::mem::take(&mut commit.message));
            }
        };
        let rewritten = self.rewrite(&branch, &keep, &edit)?;
        if rewritten.new.is_empty() {
            let what = format!("{} begins with {} already", shown(&branch.name), root.short());
            return Err(RepoError::NothingToDo(what));
        }
        let new_head =
            *rewritten.ids.get(&branch.head).ok_or(RepoError::Internal("the last commit was not rewritten"))?;
        let report = SquashReport {
            old_head: branch.head,
            new_head,
            root_commit_before: root,
            rewritten_commit_count: keep.len(),
            dropped_ancestor_count: branch.order.len() - keep.len(),
            blocking_refs: self.blocking(&branch, &rewritten.gone)?,
            ref_name: branch.name,
        };
        Ok(SquashPlan { report, branch: Box::new(Planned { rewritten, state: branch.state }) })
    }

    /// Does what was planned. The tree of the last commit, the stage and the work tree are as they were.
    ///
    /// # Errors
    /// [`RepoError::Raced`] where the branch has moved since; [`RepoError::Ref`] where it is protected;
    /// [`RepoError::Merge`] where a merge into it is under way.
    pub fn squash(&self, plan: SquashPlan) -> Result<SquashReport> {
        let SquashPlan { report, branch } = plan;
        let (dropped, root) = (report.dropped_ancestor_count, report.root_commit_before.short());
        let commits = if dropped == 1 { "commit" } else { "commits" };
        let message = format!("squash: {dropped} {commits} dropped before {root}");
        self.move_rewritten((&report.ref_name, &branch.state), &branch.rewritten, report.new_head, &message)?;
        Ok(report)
    }
}

/// The commits of a branch that follow one of them, and that itself; none where it is not one of them.
fn from_on(branch: &Branch, root: Digest) -> HashSet<Digest> {
    let mut kept = HashSet::new();
    for id in branch.order.iter().rev() {
        let parents = branch.commits.get(id).map(|commit| &commit.parents[..]).unwrap_or_default();
        if *id == root || parents.iter().any(|parent| kept.contains(parent)) {
            kept.insert(*id);
        }
    }
    kept
}
