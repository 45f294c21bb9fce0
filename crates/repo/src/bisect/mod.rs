//! `bisect`: which commit brought something about.
//!
//! What is known so far are refs, as in Git: `bisect/start` (what was checked out), `bisect/bad`, `bisect/tip` (what was bad first),
//! and, numbered, `bisect/good/…` and `bisect/skip/…`. They keep their commits from being collected, move as one operation with what is checked out, and are
//! undone like anything else.

mod tensors;

pub use tensors::{TensorAt, TensorBisect, TensorQuestion, TestedCommit};

use std::collections::HashSet;

use shard_core::{Digest, Progress};
use shard_history::bisect::{BisectError, Marks, Next, next};
use shard_history::{Node, Revision};
use shard_store::{RefState, RefUpdate, StoreError, Target};
use thiserror::Error;

use crate::checkout::{CheckoutOptions, CheckoutReport};
use crate::collect::hold_target;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::{HEADS, Repository, head_of};

const PREFIX: &str = "bisect/";
const START: &str = "bisect/start";
const BAD: &str = "bisect/bad";
const TIP: &str = "bisect/tip";
const GOOD: &str = "bisect/good/";
const SKIP: &str = "bisect/skip/";

/// Most commits that may be marked as good or as skipped.
const MAX_MARKS: usize = 10_000;

/// What a commit is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// It has what is looked for.
    Bad,
    /// It has it not.
    Good,
    /// It cannot be told.
    Skip,
}

impl Mark {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Good => "good",
            Self::Skip => "skip",
        }
    }
}

/// Where a search stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BisectStatus {
    /// The branch that was checked out at first; `None` where a commit was.
    pub branch: Option<String>,
    /// The commit that was; `None` on a branch without commits.
    pub commit: Option<Digest>,
    /// What was marked, in that order.
    pub marks: Vec<(Mark, Digest)>,
    /// What comes next; `None` where no bad commit is known yet, or no good one.
    pub next: Option<Next>,
}

/// What a step of a search did.
#[derive(Debug, Clone)]
pub struct BisectReport {
    /// Where the search stands now.
    pub status: BisectStatus,
    /// What was checked out to be tested.
    pub checkout: Option<CheckoutReport>,
}

/// Why a search cannot begin, or go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BisectProblem {
    /// None was started.
    #[error("no bisect was started")]
    NotStarted,
    /// One was started already.
    #[error("a bisect was started already")]
    Started,
    /// What was marked contradicts itself.
    #[error("{0}")]
    Contradiction(String),
    /// What is to be tested would have to be checked out, and there is no work tree.
    #[error("this repository is bare: it has no work tree in which a commit could be tested")]
    Bare,
    /// No tensor is what was asked about.
    #[error("no tensor of {}{path} matches {glob:?}", revision_of(.commit, .path))]
    NoTensors {
        /// The pattern of names.
        glob: String,
        /// The file or folder that was looked in; all where it is empty.
        path: String,
        /// The commit that should have the tensors.
        commit: Digest,
    },
    /// The commit that should have what is looked for does not.
    #[error("{question}: that is not so in {}, which should be the bad commit", .commit.short())]
    NotBad {
        /// What was asked.
        question: String,
        /// The commit.
        commit: Digest,
    },
    /// A commit that should be good is not.
    #[error("{question}: that is so in {}, which should be a good commit", .commit.short())]
    NotGood {
        /// What was asked.
        question: String,
        /// The commit.
        commit: Digest,
    },
}

impl Repository {
    /// Begins a search: `bad` has what is looked for, and each of `good` has it not. Either may be told later, by
    /// [`Self::bisect_mark`]. Where both are known, the first commit to test is checked out.
    ///
    /// # Errors
    /// [`RepoError::Bisect`]; as [`Self::checkout`].
    pub fn bisect_start(
        &self,
        bad: Option<&str>,
        good: &[String],
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<BisectReport> {
        if self.is_bare() {
            return Err(BisectProblem::Bare.into());
        }
        if self.is_bisecting()? {
            return Err(BisectProblem::Started.into());
        }
        let RefState { target, .. } = head_of(&self.store)?;
        let mut marks: Vec<(Mark, Digest)> = Vec::new();
        if let Some(bad) = bad {
            marks.push((Mark::Bad, self.resolve(bad)?));
        }
        for good in good {
            marks.push((Mark::Good, self.resolve(good)?));
        }
        let first = vec![RefUpdate { name: START.to_owned(), expected: None, target }];
        self.bisect_step(first, &marks, "bisect: start", options, progress)
    }

    /// Marks revisions, of which only one may be bad, and checks out what is to be tested next.
    ///
    /// # Errors
    /// As [`Self::bisect_start`].
    pub fn bisect_mark(
        &self,
        mark: Mark,
        revisions: &[String],
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<BisectReport> {
        if !self.is_bisecting()? {
            return Err(BisectProblem::NotStarted.into());
        }
        if mark == Mark::Bad && revisions.len() > 1 {
            return Err(RepoError::Argument("one commit is bad, and its ancestors are looked through".to_owned()));
        }
        let commits = revisions.iter().map(|text| Ok((mark, self.resolve(text)?))).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = commits.iter().map(|(_, commit)| commit.short()).collect();
        let message = format!("bisect: {} {}", mark.as_str(), names.join(" "));
        self.bisect_step(Vec::new(), &commits, &message, options, progress)
    }

    /// Whether a search was started.
    pub(crate) fn is_bisecting(&self) -> Result<bool> {
        Ok(self.read_ref(START)?.is_some())
    }

    /// Where the search stands.
    ///
    /// # Errors
    /// [`RepoError::Bisect`] where none was started; what cannot be read.
    pub fn bisect_status(&self) -> Result<BisectStatus> {
        let refs = self.bisect_refs()?;
        let start = refs.iter().find(|(name, _)| name == START).ok_or(BisectProblem::NotStarted)?;
        let mut dated: Vec<(&str, usize, Mark, Digest)> = Vec::new();
        for (name, state) in &refs {
            if let (Some((mark, number)), Target::Commit(commit)) = (mark_of(name), &state.target) {
                dated.push((&state.created_at, number, mark, *commit));
            }
        }
        dated.sort_unstable_by_key(|(created, number, mark, _)| (*created, *mark != Mark::Bad, *number));
        let marks: Vec<(Mark, Digest)> = dated.into_iter().map(|(_, _, mark, commit)| (mark, commit)).collect();
        let tip = refs.iter().find(|(name, _)| name == TIP).map(|(_, state)| &state.target);
        self.status_of(&start.1.target, tip, marks)
    }

    /// Ends the search: what was checked out at first is so again, or `revision`.
    ///
    /// # Errors
    /// [`RepoError::Bisect`] where none was started; as [`Self::checkout`].
    pub fn bisect_reset(
        &self,
        revision: Option<&str>,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<CheckoutReport> {
        let refs = self.bisect_refs()?;
        let status = self.bisect_status()?;
        let to = match revision {
            Some(text) => self.named_commit(text)?,
            None => {
                let now =
                    status.branch.as_ref().map(|branch| self.read_ref(&format!("{HEADS}{branch}"))).transpose()?;
                let now = now.flatten().and_then(|state| match state.target {
                    Target::Commit(commit) => Some(commit),
                    _ => None,
                });
                match (status.branch, now.or(status.commit)) {
                    // A branch that was deleted meanwhile leaves its commit.
                    (branch, Some(commit)) => (commit, branch.filter(|_| now.is_some())),
                    (_, None) => self.named_commit("HEAD")?,
                }
            }
        };
        let gone =
            |(name, state): (String, RefState)| RefUpdate { name, expected: Some(state), target: Target::Deleted };
        // What was checked out first: until that is so again, it is known where to go back to.
        let last: Vec<RefUpdate> = refs.into_iter().map(gone).collect();
        self.switch_and(to, (&[], &last), "bisect: reset", options, progress)
    }

    /// The refs of a search.
    fn bisect_refs(&self) -> Result<Vec<(String, RefState)>> {
        Ok(self.store.refs().list(PREFIX).map_err(StoreError::from)?)
    }

    fn bisect_step(
        &self,
        mut updates: Vec<RefUpdate>,
        new: &[(Mark, Digest)],
        message: &str,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<BisectReport> {
        let refs = self.bisect_refs()?;
        let start = updates.first().map(|update| update.target.clone());
        let start = start.or_else(|| Some(refs.iter().find(|(name, _)| name == START)?.1.target.clone()));
        let start = start.ok_or(BisectProblem::NotStarted)?;
        let mut marks = match updates.is_empty() {
            true => self.bisect_status()?.marks,
            false => Vec::new(),
        };
        let mut tip = refs.iter().find(|(name, _)| name == TIP).map(|(_, state)| state.target.clone());
        let bad = new.iter().find(|(mark, _)| *mark == Mark::Bad).map(|(_, commit)| Target::Commit(*commit));
        if let (None, Some(target)) = (&tip, bad) {
            updates.push(RefUpdate { name: TIP.to_owned(), expected: None, target: target.clone() });
            tip = Some(target);
        }
        for (mark, commit) in new {
            let name = match mark {
                Mark::Bad => {
                    marks.retain(|(mark, _)| *mark != Mark::Bad);
                    BAD.to_owned()
                }
                Mark::Good | Mark::Skip => {
                    let number = 1 + marks.iter().filter(|(other, _)| other == mark).count();
                    if number > MAX_MARKS {
                        return Err(RepoError::Argument(format!("more than {MAX_MARKS} commits are marked")));
                    }
                    format!("{}{number}", if *mark == Mark::Good { GOOD } else { SKIP })
                }
            };
            let expected = refs.iter().find(|(other, _)| *other == name).map(|(_, state)| state.clone());
            if !marks.contains(&(*mark, *commit)) {
                updates.push(RefUpdate { name, expected, target: Target::Commit(*commit) });
                marks.push((*mark, *commit));
            }
        }
        let status = self.status_of(&start, tip.as_ref(), marks)?;
        let checkout = match status.next {
            Some(Next::Test { commit, .. } | Next::Base(commit)) => {
                Some(self.switch((commit, None), &updates, message, options, progress)?)
            }
            _ => {
                self.again_if_condemned(|| {
                    let transaction = self.store.begin("bisect")?;
                    for update in &updates {
                        hold_target(&self.store, &transaction, &update.target)?;
                    }
                    self.move_or_lose(&transaction, &updates, message)
                })?;
                None
            }
        };
        Ok(BisectReport { status, checkout })
    }

    fn status_of(&self, start: &Target, tip: Option<&Target>, marks: Vec<(Mark, Digest)>) -> Result<BisectStatus> {
        let of = |wanted: Mark| marks.iter().filter(move |(mark, _)| *mark == wanted).map(|(_, commit)| *commit);
        let (bad, good): (_, Vec<Digest>) = (of(Mark::Bad).next(), of(Mark::Good).collect());
        let next = match bad.filter(|_| !good.is_empty()) {
            Some(bad) => {
                let tip = match tip {
                    Some(Target::Commit(tip)) => *tip,
                    _ => bad,
                };
                Some(self.bisect_next(&Marks { tip, bad, good, skipped: of(Mark::Skip).collect() })?)
            }
            None => None,
        };
        let (branch, commit) = match start {
            Target::Symbolic(name) => (Some(name.strip_prefix(HEADS).unwrap_or(name).to_owned()), None),
            Target::Commit(commit) => (None, Some(*commit)),
            _ => (None, None),
        };
        Ok(BisectStatus { branch, commit, marks, next })
    }

    /// What to test next.
    fn bisect_next(&self, marks: &Marks) -> Result<Next> {
        let mut objects = self.objects();
        next(marks, |id| node(&mut objects, id)).map_err(|error| match error {
            BisectError::Fetch(error) => error,
            BisectError::Cycle(id) => RepoError::Cycle(id),
            other => BisectProblem::Contradiction(other.to_string()).into(),
        })
    }

    /// Finds the commit by asking about tensors alone: nothing is checked out, and only tensors that match are read. `bad` has what
    /// is asked for, none of `good` has; without any, all of the history is looked through.
    ///
    /// # Errors
    /// [`RepoError::Bisect`] where `bad` or one of `good` is not what it should be; unknown revisions; what cannot be read.
    pub fn bisect_tensors(
        &self,
        bad: &str,
        good: &[String],
        question: &TensorQuestion,
        progress: &dyn Progress,
    ) -> Result<TensorBisect> {
        let tip = self.resolve(bad)?;
        let mut marks = Marks { tip, bad: tip, good: Vec::new(), skipped: HashSet::new() };
        let mut asking = tensors::Asking::new(self, question)?;
        let mut tested = Vec::new();
        let mut has_any = false;
        let mut ask = |commit: Digest, tested: &mut Vec<TestedCommit>| -> Result<Option<bool>> {
            let answer = asking.ask(commit)?;
            progress.advance(1);
            has_any |= answer.has_any;
            tested.push(TestedCommit { id: commit, answer: answer.holds, tensors: answer.tensors });
            // A pattern that nothing matches has no answer, least of all "not so".
            if !has_any {
                let (glob, path) = (question.tensors.to_string(), question.path.clone());
                return Err(BisectProblem::NoTensors { glob, path, commit }.into());
            }
            Ok(answer.holds)
        };
        progress.begin("asking", None);
        let text = || question.predicate.to_string();
        if ask(marks.bad, &mut tested)? != Some(true) {
            return Err(BisectProblem::NotBad { question: text(), commit: marks.bad }.into());
        }
        for revision in good {
            let commit = self.resolve(revision)?;
            if ask(commit, &mut tested)? == Some(true) {
                return Err(BisectProblem::NotGood { question: text(), commit }.into());
            }
            marks.good.push(commit);
        }
        let found = loop {
            match self.bisect_next(&marks)? {
                Next::Test { commit, .. } | Next::Base(commit) => match ask(commit, &mut tested)? {
                    Some(true) => marks.bad = commit,
                    Some(false) => marks.good.push(commit),
                    None => drop(marks.skipped.insert(commit)),
                },
                Next::Found(commit) => break vec![commit],
                Next::Undecided(commits) => break commits,
            }
        };
        progress.finish();
        Ok(TensorBisect { found, tested })
    }

    /// The commit and the branch that a text means, as for [`Self::checkout`].
    fn named_commit(&self, text: &str) -> Result<(Digest, Option<String>)> {
        let commit = self.resolve_revision(&Revision::parse(text)?)?;
        Ok((commit, self.branch_of(text, commit)?))
    }
}

fn node(objects: &mut Objects<'_>, id: &Digest) -> Result<Node> {
    objects.commit(*id)?.node().map_err(|source| RepoError::History { what: "commit", id: *id, source })
}

/// What stands before the path in a message.
fn revision_of(commit: &Digest, path: &str) -> String {
    format!("{}{}", commit.short(), if path.is_empty() { "" } else { ":" })
}

/// What a ref marks, and its number.
fn mark_of(name: &str) -> Option<(Mark, usize)> {
    let number = |digits: &str| digits.parse().ok();
    if name == BAD {
        return Some((Mark::Bad, 0));
    }
    let good = name.strip_prefix(GOOD).and_then(number).map(|number| (Mark::Good, number));
    good.or_else(|| name.strip_prefix(SKIP).and_then(number).map(|number| (Mark::Skip, number)))
}
