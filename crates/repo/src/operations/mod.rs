//! What was done to a repository, and undoing it.
//!
//! Nobody writes a log of operations: every state of a ref names the operation that made it, and the states of all refs, grouped
//! by that, are the log. Their order is that of the refs' own chains; clocks order only what no ref has both of.

mod undo;

pub use undo::{UndoOptions, UndoPlan, UndoProblem, UndoReport};

use std::collections::HashMap;

use shard_history::Timestamp;
use shard_history::chains::newest_first;
use shard_store::{Nonce, RefState, StoreError, Target};

use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// A ref that an operation moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMove {
    /// The ref's full name in the store: `HEAD`, `stage`, `heads/…`.
    pub name: String,
    /// What it named before; [`Target::Deleted`] where it did not exist, `None` where that is not known any more.
    pub old: Option<Target>,
    /// What the operation made it name.
    pub new: Target,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What all states of refs have that it made.
    pub id: Nonce,
    /// When, by the clock of who did it: RFC 3339 in UTC.
    pub created_at: String,
    /// What it was; the word before the first colon is its kind.
    pub message: String,
    /// The refs that it moved, by name.
    pub moves: Vec<RefMove>,
}

/// The log of operations.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    /// What was done, newest first.
    pub entries: Vec<Operation>,
    /// What of it is not known, where states of refs are damaged.
    pub problems: Vec<String>,
}

impl Repository {
    /// What was done to the repository, newest first. The logs of all refs are read.
    ///
    /// # Errors
    /// Refs that cannot be listed. States that are damaged are in the report.
    pub fn operations(&self) -> Result<Operations> {
        let refs = self.store.refs();
        let mut problems = Vec::new();
        let mut chains = Vec::new();
        let mut found: HashMap<Nonce, Operation> = HashMap::new();
        for (name, _) in refs.list_each("").map_err(StoreError::from)? {
            let mut states: Vec<RefState> = Vec::new();
            for state in refs.log(&name).map_err(StoreError::from)? {
                match state {
                    Ok(state) => states.push(state),
                    Err(error) => problems.push(RepoError::from(StoreError::from(error)).to_string()),
                }
            }
            chains.push(states.iter().map(|state| (state.operation, time(state))).collect::<Vec<_>>());
            for (at, state) in states.iter().enumerate() {
                let old = match states.get(at + 1) {
                    Some(before) => Some(before.target.clone()),
                    None => state.previous.is_none().then_some(Target::Deleted),
                };
                let operation = found.entry(state.operation).or_insert_with(|| Operation {
                    id: state.operation,
                    created_at: state.created_at.clone(),
                    message: state.message.clone(),
                    moves: Vec::new(),
                });
                match operation.moves.iter_mut().find(|moved| moved.name == name) {
                    // It moved the ref more than once, and this is an earlier move.
                    Some(moved) => moved.old = old,
                    None => operation.moves.push(RefMove { name: name.clone(), old, new: state.target.clone() }),
                }
            }
        }
        let entries = newest_first(&chains).into_iter().filter_map(|id| found.remove(&id)).collect();
        Ok(Operations { entries, problems })
    }
}

/// When a state was written; where its time is none, before everything.
fn time(state: &RefState) -> Option<Timestamp> {
    state.created_at.parse().ok()
}
