//! `undo`: every ref that an operation moved goes back to where it was, as a new operation.

use shard_core::Progress;
use shard_core::text::visible;
use shard_history::FileTree;
use shard_history::revision::RefKind;
use shard_store::{Nonce, RefState, RefUpdate, Target};
use thiserror::Error;

use super::{Operation, RefMove};
use crate::checkout::Losses;
use crate::collect::hold_target;
use crate::error::Result;
use crate::refs::RefProblem;
use crate::repository::{HEAD, HEADS, MERGE, Repository, STAGE, TAGS};

/// Fewest digits by which an operation is named.
const FEWEST_DIGITS: usize = 4;

/// How to undo.
#[derive(Debug, Clone, Copy, Default)]
pub struct UndoOptions {
    /// Whether changes in the work tree that no commit has may be lost.
    pub force: bool,
}

/// What undoing an operation comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoPlan {
    /// The operation.
    pub operation: Operation,
    /// The refs that move: `old` is what they name now, and `new` what they will.
    pub moves: Vec<RefMove>,
    /// Whether the files of the work tree follow the stage, as they did in the operation.
    pub files: bool,
    /// What the log will say.
    pub message: String,
    present: Vec<Option<RefState>>,
}

impl UndoPlan {
    fn updates(&self) -> Vec<RefUpdate> {
        let update = |(moved, present): (&RefMove, &Option<RefState>)| RefUpdate {
            name: moved.name.clone(),
            expected: present.clone(),
            target: moved.new.clone(),
        };
        self.moves.iter().zip(&self.present).map(update).collect()
    }
}

/// What was undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoReport {
    /// What was to be done.
    pub plan: UndoPlan,
    /// Files written, and their bytes.
    pub written: Vec<(String, u64)>,
    /// Files removed.
    pub removed: Vec<String>,
}

/// Why an operation cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UndoProblem {
    /// Nothing was done but making the repository.
    #[error("nothing was done yet that could be undone")]
    Nothing,
    /// No operation has an id that begins so.
    #[error("there is no operation {0:?}")]
    Unknown(String),
    /// Several operations have.
    #[error("{0:?} is the beginning of several operations")]
    Ambiguous(String),
    /// A later operation moved a ref that this one moved.
    #[error("{name} was moved again after {}: by {later}, {}", .operation.to_hex().get(..12).unwrap_or_default(),
            visible(.message))]
    MovedLater {
        /// The ref.
        name: String,
        /// The operation.
        operation: Nonce,
        /// The beginning of the later one.
        later: String,
        /// What that was.
        message: String,
    },
    /// Where a ref was before is not known any more.
    #[error("what {0} was before is not in its log any more")]
    Forgotten(String),
    /// Making the repository cannot be undone.
    #[error("this operation made the repository")]
    Init,
}

impl Repository {
    /// What undoing an operation comes to: the last one, or one that is given by the first digits of its id. Nothing is changed.
    ///
    /// # Errors
    /// [`RepoError::Undo`](crate::RepoError::Undo) for an operation that is not there, or cannot be undone;
    /// [`RepoError::Ref`](crate::RepoError::Ref) where a branch or tag may not move so; [`RepoError::Merge`](crate::RepoError::Merge)
    /// where a merge waits that would lose what it began from; refs that cannot be read.
    pub fn plan_undo(&self, operation: Option<&str>) -> Result<UndoPlan> {
        let operations = self.operations()?.entries;
        let at = match operation {
            None => 0,
            Some(text) => find(&operations, text)?,
        };
        let (Some(operation), later) = (operations.get(at).cloned(), operations.get(..at).unwrap_or_default()) else {
            return Err(UndoProblem::Nothing.into());
        };
        // HEAD is never nothing.
        if operation.moves.iter().any(|moved| moved.name == HEAD && moved.old == Some(Target::Deleted)) {
            return Err(if at == 0 { UndoProblem::Nothing } else { UndoProblem::Init }.into());
        }
        let mut moves = Vec::new();
        for RefMove { name, old, new } in &operation.moves {
            let present = self.read_ref(name)?;
            let is = present.as_ref().map_or(&Target::Deleted, |state| &state.target);
            if is != new {
                let by = later.iter().find(|other| other.moves.iter().any(|moved| moved.name == *name));
                let (id, message) = by.map(|by| (by.id.to_hex(), by.message.clone())).unwrap_or_default();
                let (name, later) = (name.clone(), id.get(..12).unwrap_or_default().to_owned());
                return Err(UndoProblem::MovedLater { name, operation: operation.id, later, message }.into());
            }
            let Some(back) = old else { return Err(UndoProblem::Forgotten(name.clone()).into()) };
            if back != new {
                moves.push((RefMove { name: name.clone(), old: Some(is.clone()), new: back.clone() }, present));
            }
        }
        if moves.is_empty() {
            return Err(UndoProblem::Nothing.into());
        }
        moves.sort_by_key(|(moved, _)| order(moved));
        let (moves, present) = moves.into_iter().unzip();
        let message = undone(&operation.message);
        let plan = UndoPlan { files: moved_files(&operation), operation, moves, message, present };
        self.check_branches(&plan, later)?;
        self.check_waiting(&plan)?;
        self.check_protected(&self.store, &plan.updates())?;
        Ok(plan)
    }

    /// Moves every ref that an operation moved back to where it was, and the stage and the work tree with it, as a new
    /// operation: undoing that is doing it again. The last operation is meant, or one that is given by the first digits of its
    /// id.
    ///
    /// # Errors
    /// As [`Self::plan_undo`]; [`RepoError::WouldOverwrite`](crate::RepoError::WouldOverwrite) where changes would be lost that are nowhere else, before anything
    /// is touched; [`RepoError::Raced`](crate::RepoError::Raced) where another writer moved a ref meanwhile.
    pub fn undo(&self, operation: Option<&str>, options: UndoOptions, progress: &dyn Progress) -> Result<UndoReport> {
        self.again_if_condemned(|| self.undo_once(operation, options, progress))
    }

    fn undo_once(&self, operation: Option<&str>, options: UndoOptions, progress: &dyn Progress) -> Result<UndoReport> {
        // Before refs are read: what they name stays from here on.
        let transaction = self.store.begin("undo")?;
        let plan = self.plan_undo(operation)?;
        for moved in &plan.moves {
            hold_target(&self.store, &transaction, &moved.new)?;
        }
        let (mut written, mut removed) = (Vec::new(), Vec::new());
        if plan.files {
            let losses = if options.force { Losses::AllowTouched } else { Losses::KeepUnstaged };
            let placed = self.replace_work_tree(&self.stage_after(&plan)?, losses, progress)?;
            (written, removed) = (placed.written, placed.removed);
        }
        self.move_or_lose(&transaction, &plan.updates(), &plan.message)?;
        Ok(UndoReport { plan, written, removed })
    }

    /// The stage as it will be: what is not staged is what is checked out.
    fn stage_after(&self, plan: &UndoPlan) -> Result<FileTree> {
        let after = |name: &str| -> Result<Target> {
            match plan.moves.iter().find(|moved| moved.name == name) {
                Some(moved) => Ok(moved.new.clone()),
                None => Ok(self.read_ref(name)?.map_or(Target::Deleted, |state| state.target)),
            }
        };
        if let Target::Tree(tree) = after(STAGE)? {
            return self.objects().file_tree(tree);
        }
        let head = match after(HEAD)? {
            Target::Symbolic(branch) => after(&branch)?,
            target => target,
        };
        match head {
            Target::Commit(commit) => self.files_of(commit),
            _ => Ok(FileTree::new()),
        }
    }

    /// Refuses to take from under a merge that waits what it began from, unless the merge goes as well.
    fn check_waiting(&self, plan: &UndoPlan) -> Result<()> {
        let moves = |name: &str| plan.moves.iter().any(|moved| moved.name == name);
        if moves(MERGE) {
            return Ok(());
        }
        if moves(HEAD) {
            return self.refuse_while_merging();
        }
        plan.moves.iter().try_for_each(|moved| self.refuse_while_merging_into(&moved.name))
    }

    /// Refuses where what is checked out now would lose its branch, or one that comes back could not be beside the others.
    fn check_branches(&self, plan: &UndoPlan, later: &[Operation]) -> Result<()> {
        let goes = |moved: &&RefMove| moved.new == Target::Deleted;
        let moves_head = |operation: &Operation| operation.moves.iter().any(|moved| moved.name == HEAD);
        let branch = self.head()?.branch;
        for moved in plan.moves.iter().filter(goes) {
            let gone = moved.name.strip_prefix(HEADS);
            // The first commit of a branch may go, since that was without commits before.
            let is_checked_out = gone.is_some() && gone == branch.as_deref() && later.iter().any(moves_head);
            if let Some(gone) = gone.filter(|_| is_checked_out && !plan.moves.iter().any(|moved| moved.name == HEAD)) {
                return Err(RefProblem::CheckedOut(gone.to_owned()).into());
            }
        }
        for moved in plan.moves.iter().filter(|moved| moved.old == Some(Target::Deleted)) {
            for (kind, prefix) in [(RefKind::Branch, HEADS), (RefKind::Tag, TAGS)] {
                let Some(name) = moved.name.strip_prefix(prefix) else { continue };
                let replaced = plan.moves.iter().filter(goes).find_map(|moved| moved.name.strip_prefix(prefix));
                drop(self.new_name(kind, name, replaced)?);
            }
        }
        Ok(())
    }
}

/// The operation whose id begins so.
fn find(operations: &[Operation], text: &str) -> Result<usize> {
    let mut found = operations.iter().enumerate().filter(|(_, other)| other.id.to_hex().starts_with(text));
    match (found.next(), found.next()) {
        (Some((at, _)), None) if text.len() >= FEWEST_DIGITS => Ok(at),
        (Some(_), Some(_)) => Err(UndoProblem::Ambiguous(text.to_owned()).into()),
        _ => Err(UndoProblem::Unknown(text.to_owned()).into()),
    }
}

/// Whatever is left half done, what is checked out has a branch, and nothing loses its name.
fn order(moved: &RefMove) -> u8 {
    match (&moved.new, moved.name.as_str()) {
        (Target::Deleted, _) => 3,
        (_, HEAD) => 2,
        (_, STAGE) => 1,
        _ => 0,
    }
}

/// What the log says of undoing something: undoing that is doing it again.
fn undone(message: &str) -> String {
    match (message.strip_prefix("undo: "), message.strip_prefix("redo: ")) {
        (Some(rest), _) => format!("redo: {rest}"),
        (_, Some(rest)) => format!("undo: {rest}"),
        _ => format!("undo: {message}"),
    }
}

/// Whether an operation made the files of the work tree those of the stage: what moved the stage together with something else
/// did, but for `add`, commits and a reset that was not asked to; what moved the stage alone did where it took files from a revision.
fn moved_files(operation: &Operation) -> bool {
    let message = &operation.message;
    let message = message.strip_prefix("undo: ").or(message.strip_prefix("redo: ")).unwrap_or(message);
    let moves_stage = operation.moves.iter().any(|moved| moved.name == STAGE);
    let kind = message.split(':').next().unwrap_or_default();
    moves_stage
        && match kind {
            "reset" => message.ends_with(crate::refs::HARD),
            "checkout" => true,
            // What was added comes from the work tree, and a commit by paths does not look at it.
            "add" | "commit" => false,
            _ => operation.moves.len() > 1,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoing_is_told_apart_from_doing_again() {
        assert_eq!(undone("commit: x"), "undo: commit: x");
        assert_eq!(undone("undo: commit: x"), "redo: commit: x");
        assert_eq!(undone("redo: commit: x"), "undo: commit: x");
    }

    #[test]
    fn files_follow_what_moved_them() {
        let operation = |message: &str, names: &[&str]| Operation {
            id: Nonce::ZERO,
            created_at: String::new(),
            message: message.to_owned(),
            moves: names
                .iter()
                .map(|name| RefMove { name: (*name).to_owned(), old: None, new: Target::Deleted })
                .collect(),
        };
        let follows = |message: &str, names: &[&str]| moved_files(&operation(message, names));
        assert!(follows("checkout: v1", &["HEAD", "stage"]) && follows("redo: checkout: v1 (paths)", &["stage"]));
        assert!(follows("reset: moving to v1 (hard)", &["stage"]) && follows("merge: side", &["heads/main", "stage"]));
        assert!(!follows("reset: moving to v1", &["heads/main", "stage"]) && !follows("add", &["stage"]));
        assert!(!follows("commit: checkout: v1", &["heads/main"]) && !follows("checkout: main", &["HEAD"]));
        assert!(!follows("commit: By paths", &["heads/main", "stage"]) && !follows("undo: add", &["merge", "stage"]));
    }
}
