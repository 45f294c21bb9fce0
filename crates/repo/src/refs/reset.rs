//! `reset`: what is checked out moves to another commit, and with it the stage and the work tree, as asked.

use shard_core::{Digest, Progress};
use shard_store::{RefUpdate, Target};

use crate::checkout::Losses;
use crate::error::{RepoError, Result};
use crate::repository::{Repository, STAGE};

/// What the message of a reset ends in that took the work tree along.
pub(crate) const HARD: &str = " (hard)";

/// What moves beside the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetMode {
    /// Nothing.
    Soft,
    /// The stage.
    #[default]
    Mixed,
    /// The stage and the tracked files of the work tree.
    Hard,
}

/// How to reset.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResetOptions {
    /// What moves.
    pub mode: ResetMode,
    /// With [`ResetMode::Hard`]: whether changes that no commit has may be lost.
    pub force: bool,
    /// The commit that the branch has to be at before.
    pub expected: Option<Digest>,
}

/// What `reset` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetReport {
    /// The branch that moved; `None` where a commit was checked out.
    pub branch: Option<String>,
    /// Where it was.
    pub from: Option<Digest>,
    /// Where it is.
    pub to: Digest,
    /// Files written, and their bytes.
    pub written: Vec<(String, u64)>,
    /// Files removed.
    pub removed: Vec<String>,
}

impl Repository {
    /// Moves the branch that is checked out, or HEAD where it is on no branch, to a revision. No object is deleted: where
    /// the branch was is in its log.
    ///
    /// # Errors
    /// [`RepoError::WouldOverwrite`] where changes that no commit has would be lost, and [`RepoError::Ref`] where the branch is
    /// protected, before anything is touched; [`RepoError::Merge`] where a merge waits, which only [`ResetMode::Hard`] gives up;
    /// [`RepoError::NotAt`] where the branch is not where it was expected;
    /// [`RepoError::Raced`] where another writer moved it meanwhile; an unknown revision; damaged data.
    pub fn reset(&self, revision: &str, options: ResetOptions, progress: &dyn Progress) -> Result<ResetReport> {
        self.again_if_condemned(|| self.reset_once(revision, options, progress))
    }

    fn reset_once(&self, revision: &str, options: ResetOptions, progress: &dyn Progress) -> Result<ResetReport> {
        if options.mode != ResetMode::Hard {
            // It would be continued with a stage, or a commit, that is not its own.
            self.refuse_while_merging()?;
        }
        let to = self.resolve(revision)?;
        let (moved, state) = self.moved_by_commits()?;
        let head = self.head()?;
        let from = head.commit;
        if let Some(expected) = options.expected.filter(|expected| Some(*expected) != from) {
            return Err(RepoError::NotAt { name: moved, expected, found: from });
        }
        if state.as_ref().map(|state| &state.target) != from.map(Target::Commit).as_ref() {
            return Err(RepoError::Raced(moved));
        }
        let transaction = self.begin_move("reset", to)?;
        let branch_moves = (from != Some(to)).then(|| RefUpdate {
            name: moved.clone(),
            expected: state.clone(),
            target: Target::Commit(to),
        });
        // A branch that may not move leaves the files as they are.
        self.check_protected(&self.store, branch_moves.as_slice())?;
        let tree = self.read_commit(to)?.tree;
        let mut stage = self.read_ref(STAGE)?;
        let (mut written, mut removed) = (Vec::new(), Vec::new());
        let staged = match options.mode {
            ResetMode::Soft | ResetMode::Mixed if self.is_bare() => None,
            // Before anything was staged, the stage is what HEAD has: where HEAD moves alone, that has to be kept.
            ResetMode::Soft => match (&stage, from) {
                (None, Some(from)) => Some(self.read_commit(from)?.tree),
                _ => None,
            },
            ResetMode::Mixed => Some(tree),
            ResetMode::Hard => {
                let target = self.files_of(to)?;
                let losses = if options.force { Losses::Allow } else { Losses::Refuse };
                let placed = self.replace_work_tree(&target, losses, progress)?;
                stage = placed.stage;
                (written, removed) = (placed.written, placed.removed);
                Some(tree)
            }
        };
        let staged = staged.filter(|tree| stage.as_ref().is_none_or(|state| state.target != Target::Tree(*tree)));
        let stage_moves =
            staged.map(|tree| RefUpdate { name: STAGE.to_owned(), expected: stage, target: Target::Tree(tree) });
        // After a crash between the two, the same reset finishes it. Until then, with the branch first a mixed one has come as far
        // as a soft one; a hard one, whose files are in place, would show a stage that undoes it, and a soft one would have lost
        // what was staged.
        let mut updates: Vec<RefUpdate> = match options.mode {
            ResetMode::Mixed => branch_moves.into_iter().chain(stage_moves).collect(),
            ResetMode::Soft | ResetMode::Hard => {
                // Where somebody else was first, the stage stays.
                if self.read_ref(&moved)?.map(|now| now.nonce) != state.map(|state| state.nonce) {
                    return Err(RepoError::Raced(moved));
                }
                stage_moves.into_iter().chain(branch_moves).collect()
            }
        };
        // What the work tree was to become is given up.
        updates.extend(self.forget_merge()?.filter(|_| options.mode == ResetMode::Hard));
        let hard = if options.mode == ResetMode::Hard { HARD } else { "" };
        self.move_or_lose(&transaction, &updates, &format!("reset: moving to {revision}{hard}"))?;
        Ok(ResetReport { branch: head.branch, from, to, written, removed })
    }
}
