//! Refs: names that move, by compare-and-swap on nothing more than "create a file if its name is free".
//!
//! A ref is a folder of numbered files, one a generation, each naming its predecessor's nonce. Moving a ref creates the file
//! of the next generation; of two writers one fails to, reads what the other wrote, and knows. The files are named by the
//! complement of their number, so that the newest lists first, and are the ref's log as well.

use thiserror::Error;

use crate::at_once::each_at_once;
use crate::backend::{Backend, BackendError};
use crate::hints::Hints;
use crate::nonce::Nonce;
use crate::record::RecordError;
use crate::ref_name::{self, RefNameError};
use crate::ref_record::{RefState, Target};
use crate::timestamp;

const FOLDER: &str = "refs";
/// Largest ref file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Longest message of a ref's state, in bytes.
pub(crate) const MAX_MESSAGE: usize = 16 << 10;
/// Most symbolic refs that are followed one after the other.
const MAX_SYMBOLIC: usize = 8;
/// Generations that are tried one after the other from a hint on; beyond, a listing is quicker.
const MAX_PROBES: u64 = 32;
/// How often an operation begins again when others are in its way.
const ATTEMPTS: usize = 16;

/// Why a ref cannot be read or moved.
#[derive(Debug, Error)]
pub enum RefError {
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] RefNameError),
    /// The ref is not in the state that was expected: somebody else moved it.
    #[error("ref {name} was moved meanwhile{}", now(.current.as_deref()))]
    Conflict {
        /// The ref.
        name: String,
        /// Its present state; `None` where it never was.
        current: Option<Box<RefState>>,
    },
    /// Some refs of an update moved before one could not.
    #[error("{} of the refs moved before one could not: {source}", .moved.len())]
    Partial {
        /// The new states of those that moved.
        moved: Vec<RefState>,
        /// Why the next one did not.
        source: Box<RefError>,
    },
    /// The file of a state is torn or damaged. Nothing older is taken for the present state.
    #[error("{file}: {problem}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        problem: RecordError,
    },
    /// A state does not follow the one before it.
    #[error("{file}: it is not the state that the next one followed")]
    Broken {
        /// The file.
        file: String,
    },
    /// Symbolic refs that lead too far, or in a circle.
    #[error("ref {0} leads through too many symbolic refs")]
    TooManySymbolic(String),
    /// The ref's file was neither there nor could it be created, again and again.
    #[error("ref {0} could not be moved: others always came first")]
    Starved(String),
    /// The message is too long.
    #[error("the message has {0} bytes; the limit is {MAX_MESSAGE}")]
    Message(usize),
    /// Files could not be read or written.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random(#[source] std::io::Error),
}

fn now(current: Option<&RefState>) -> String {
    current.map_or_else(|| " (it does not exist)".to_owned(), |state| format!(" (it now is {})", state.target))
}

/// Where symbolic refs led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The last ref, which is not symbolic.
    pub name: String,
    /// Its state; `None` where it does not exist, or not any more.
    pub state: Option<RefState>,
}

/// The refs of a repository. Moving one makes nothing durable but itself: what it names has to be durable before.
#[derive(Clone, Copy)]
pub struct Refs<'a> {
    backend: &'a dyn Backend,
    hints: Option<&'a Hints>,
}

fn folder(name: &str) -> String {
    format!("{FOLDER}/{}", ref_name::escape(name))
}

/// The object that holds a state of a ref.
#[must_use]
pub fn file(name: &str, generation: u64) -> String {
    format!("{}/{:016x}", folder(name), u64::MAX - generation)
}

/// The generation that the name of an object in a ref's folder stands for, from 1; `None` where it stands for none.
#[must_use]
pub fn parse_generation(file: &str) -> Option<u64> {
    let number = u64::from_str_radix(file, 16).ok()?;
    (format!("{number:016x}") == file).then(|| u64::MAX - number).filter(|generation| *generation > 0)
}

impl<'a> Refs<'a> {
    /// The refs in a backend.
    #[must_use]
    pub fn new(backend: &'a dyn Backend) -> Self {
        Self { backend, hints: None }
    }

    /// The same, with a memory of what was read before.
    pub(crate) fn with_hints(backend: &'a dyn Backend, hints: &'a Hints) -> Self {
        Self { backend, hints: Some(hints) }
    }

    /// The present state of a ref; `None` where it never was or was deleted.
    ///
    /// # Errors
    /// [`RefError`]; a damaged state is an error, never an older state.
    pub fn read(&self, name: &str) -> Result<Option<RefState>, RefError> {
        Ok(self.read_newest(name)?.filter(|state| state.target != Target::Deleted))
    }

    /// The newest state of a ref, which may be that it was deleted.
    ///
    /// # Errors
    /// [`RefError`].
    pub fn read_newest(&self, name: &str) -> Result<Option<RefState>, RefError> {
        ref_name::check(name)?;
        if let Some(state) = self.read_hinted(name)? {
            return Ok(Some(state));
        }
        for _ in 0..ATTEMPTS {
            let Some(generation) = self.newest_generation(name)? else { return Ok(None) };
            match self.read_generation(name, generation) {
                // It was pruned after a newer one came.
                Err(RefError::Backend(error)) if error.is_not_found() => {}
                state => {
                    if let Some(hints) = self.hints {
                        hints.set(name, generation);
                    }
                    return state.map(Some);
                }
            }
        }
        Err(RefError::Starved(name.to_owned()))
    }

    /// Looks for the newest state from where it was last found: generations have no gaps, and the oldest are pruned first.
    fn read_hinted(&self, name: &str) -> Result<Option<RefState>, RefError> {
        let Some(hint) = self.hints.and_then(|hints| hints.get(name)) else { return Ok(None) };
        let mut generation = hint;
        loop {
            match self.backend.size(&file(name, generation.saturating_add(1))) {
                Err(error) if error.is_not_found() => break,
                Ok(_) if generation - hint < MAX_PROBES => generation += 1,
                _ => return Ok(None),
            }
        }
        match self.read_generation(name, generation) {
            Err(RefError::Backend(error)) if error.is_not_found() => Ok(None),
            state => state.map(Some),
        }
    }

    fn newest_generation(&self, name: &str) -> Result<Option<u64>, RefError> {
        let folder = folder(name);
        match self.backend.list_first(&folder)? {
            None => Ok(None),
            Some(first) => match parse_generation(&first) {
                Some(generation) => Ok(Some(generation)),
                None => Ok(self.generations(name)?.into_iter().next()),
            },
        }
    }

    /// All generations of a ref that are there, newest first.
    fn generations(&self, name: &str) -> Result<Vec<u64>, RefError> {
        Ok(self.backend.list(&folder(name))?.iter().filter_map(|file| parse_generation(file)).collect())
    }

    fn read_generation(&self, name: &str, generation: u64) -> Result<RefState, RefError> {
        let file = file(name, generation);
        let bytes = self.backend.get(&file, MAX_FILE)?;
        let state = RefState::decode(&bytes).map_err(|problem| RefError::Damaged { file: file.clone(), problem })?;
        if state.name != name || state.generation != generation {
            return Err(RefError::Damaged { file, problem: RecordError::Field("name or generation") });
        }
        Ok(state)
    }

    /// Follows symbolic refs from a ref to one that is not.
    ///
    /// # Errors
    /// [`RefError`].
    pub fn read_resolved(&self, name: &str) -> Result<Resolved, RefError> {
        let mut at = name.to_owned();
        for _ in 0..=MAX_SYMBOLIC {
            match self.read(&at)? {
                Some(RefState { target: Target::Symbolic(next), .. }) => at = next,
                state => return Ok(Resolved { name: at, state }),
            }
        }
        Err(RefError::TooManySymbolic(name.to_owned()))
    }

    /// The refs whose names start with `prefix`, by name, without those that were deleted.
    ///
    /// # Errors
    /// [`RefError`] for the first that cannot be read.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, RefState)>, RefError> {
        let mut refs = Vec::new();
        for (name, state) in self.list_each(prefix)? {
            let state = state?;
            if state.target != Target::Deleted {
                refs.push((name, state));
            }
        }
        Ok(refs)
    }

    /// The newest states of the refs whose names start with `prefix`, by name: also of those that were deleted, and errors for
    /// those that cannot be read.
    ///
    /// # Errors
    /// [`RefError`] where the refs cannot be listed.
    #[allow(clippy::type_complexity, reason = "a list of results by name is what it is")]
    pub fn list_each(&self, prefix: &str) -> Result<Vec<(String, Result<RefState, RefError>)>, RefError> {
        let folders = self.backend.list(FOLDER)?;
        let mut names: Vec<String> = folders.iter().filter_map(|folder| ref_name::unescape(folder)).collect();
        names.retain(|name| name.starts_with(prefix));
        names.sort_unstable();
        let states = each_at_once(self.backend.requests_at_once(), &names, |name| self.read_newest(name).transpose());
        Ok(names.into_iter().zip(states).filter_map(|(name, state)| Some((name, state?))).collect())
    }

    /// The states of a ref, newest first, back to the first or to where they were pruned.
    ///
    /// # Errors
    /// [`RefError`] where they cannot be listed; each state is an error of its own.
    pub fn log(&self, name: &str) -> Result<impl Iterator<Item = Result<RefState, RefError>> + use<'a>, RefError> {
        self.log_down_to(name, 0)
    }

    fn log_down_to(
        &self,
        name: &str,
        oldest: u64,
    ) -> Result<impl Iterator<Item = Result<RefState, RefError>> + use<'a>, RefError> {
        ref_name::check(name)?;
        let mut generations = self.generations(name)?;
        generations.retain(|generation| *generation >= oldest);
        let mut generations = generations.into_iter();
        let (refs, name) = (*self, name.to_owned());
        let mut follows: Option<(u64, Option<Nonce>)> = None;
        let next = move || {
            let generation = generations.next()?;
            if follows.is_some_and(|(newer, _)| newer - 1 != generation) {
                return None;
            }
            let state = refs.read_generation(&name, generation).and_then(|state| {
                let fits = follows.is_none_or(|(_, previous)| previous == Some(state.nonce));
                if fits { Ok(state) } else { Err(RefError::Broken { file: file(&name, generation) }) }
            });
            match &state {
                Ok(state) => follows = Some((generation, state.previous)),
                // What comes before a state that cannot be read is not known to belong to this ref.
                Err(_) => generations = Vec::new().into_iter(),
            }
            Some(state)
        };
        Ok(std::iter::from_fn(next))
    }

    /// Moves a ref from the state `expected` (`None`: it does not exist, or not any more) to `target`. Everything that the
    /// target needs must be durable, and stay: see [`crate::Transaction::update_refs`].
    ///
    /// # Errors
    /// [`RefError::Conflict`] where the ref is in another state; then nothing moved.
    pub fn compare_and_swap(
        &self,
        name: &str,
        expected: Option<&RefState>,
        target: Target,
        message: &str,
        operation: Nonce,
    ) -> Result<RefState, RefError> {
        if let Target::Symbolic(other) = &target {
            ref_name::check(other)?;
        }
        if message.len() > MAX_MESSAGE {
            return Err(RefError::Message(message.len()));
        }
        let current = self.expect(name, expected)?;
        let state = RefState {
            name: name.to_owned(),
            generation: current.as_ref().map_or(0, |state| state.generation) + 1,
            nonce: Nonce::random().map_err(RefError::Random)?,
            previous: current.as_ref().map(|state| state.nonce),
            operation,
            target,
            created_at: timestamp::now_exact(),
            message: message.to_owned(),
        };
        let file = file(name, state.generation);
        for _ in 0..ATTEMPTS {
            match self.backend.put_if_absent(&file, &state.encode()) {
                Ok(()) => return self.confirm(state),
                Err(BackendError::AlreadyExists { .. } | BackendError::Uncertain { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // Only what is there tells whose it is: a reply may be lost, and a request repeated.
            match self.read_generation(name, state.generation) {
                Ok(found) if found.nonce == state.nonce => return self.confirm(state),
                Ok(_) => return Err(self.conflict(name)?),
                // Nothing is there, so it was never created, or pruned because newer ones are: the same again tells which.
                Err(RefError::Backend(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Err(RefError::Starved(name.to_owned()))
    }

    /// Ends a ref whose newest state cannot be read: a state that says it was deleted takes its place, and what came before goes
    /// with it. Gives whether there was such a one; a ref that can be read stays as it is.
    ///
    /// # Errors
    /// [`RefError`], and [`RefError::Conflict`] where somebody else did so first.
    pub fn end_damaged(&self, name: &str, message: &str, operation: Nonce) -> Result<bool, RefError> {
        match self.read_newest(name) {
            // What a later version wrote is whole.
            Err(RefError::Damaged { problem, .. }) if !matches!(problem, RecordError::Version { .. }) => {}
            read => return read.map(|_| false),
        }
        let Some(damaged) = self.newest_generation(name)? else { return Ok(false) };
        // A name that no writer gives leaves no room for another state.
        let generation = damaged.checked_add(1).ok_or_else(|| RefError::Starved(name.to_owned()))?;
        let state = RefState {
            name: name.to_owned(),
            generation,
            nonce: Nonce::random().map_err(RefError::Random)?,
            // Nobody knows that of the state before it, which goes: a log ends where one is missing.
            previous: Some(Nonce::random().map_err(RefError::Random)?),
            operation,
            target: Target::Deleted,
            created_at: timestamp::now_exact(),
            message: message.to_owned(),
        };
        match self.backend.put_if_absent(&file(name, state.generation), &state.encode()) {
            // Only what is there tells whose it is.
            Ok(()) | Err(BackendError::Uncertain { .. } | BackendError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if self.read_generation(name, state.generation)?.nonce != state.nonce {
            return Err(self.conflict(name)?);
        }
        // With all before it: for who looks from a hint on, a gap would pass for the end of the log.
        self.prune(name, state.generation)?;
        Ok(true)
    }

    /// Checks that a ref is in the expected state and returns its newest.
    pub(crate) fn expect(&self, name: &str, expected: Option<&RefState>) -> Result<Option<RefState>, RefError> {
        let current = self.read_newest(name)?;
        let fits = match (&current, expected) {
            (Some(current), Some(expected)) => current.nonce == expected.nonce,
            (Some(current), None) => current.target == Target::Deleted,
            (None, expected) => expected.is_none(),
        };
        if fits {
            return Ok(current);
        }
        Err(RefError::Conflict { name: name.to_owned(), current: current.map(Box::new) })
    }

    fn conflict(&self, name: &str) -> Result<RefError, RefError> {
        let current = self.read_newest(name)?.map(Box::new);
        Ok(RefError::Conflict { name: name.to_owned(), current })
    }

    /// A state just created counts only if no newer one is there, or one that follows it. Otherwise its place was free because
    /// it had been pruned, long after the ref went on.
    pub(crate) fn confirm(&self, state: RefState) -> Result<RefState, RefError> {
        let newest = self.newest_generation(&state.name)?;
        if newest.is_none_or(|newest| newest <= state.generation) {
            return Ok(state);
        }
        match self.read_generation(&state.name, state.generation + 1) {
            Ok(next) if next.previous == Some(state.nonce) => return Ok(state),
            Ok(_) => {}
            Err(RefError::Backend(error)) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.backend.delete(&file(&state.name, state.generation))?;
        Err(self.conflict(&state.name)?)
    }

    /// The states of a ref from generation `oldest` on, newest first.
    ///
    /// # Errors
    /// [`RefError`], also for a state that is damaged, or that its successor does not follow.
    pub fn states_from(&self, name: &str, oldest: u64) -> Result<Vec<RefState>, RefError> {
        self.log_down_to(name, oldest)?.collect()
    }

    /// How many states [`Self::prune`] would remove.
    ///
    /// # Errors
    /// [`RefError`].
    pub fn count_before(&self, name: &str, oldest: u64) -> Result<u64, RefError> {
        ref_name::check(name)?;
        let old = self.generations(name)?.into_iter().skip(1).filter(|generation| *generation < oldest);
        Ok(old.count() as u64)
    }

    /// Removes the states of a ref before generation `oldest`, oldest first; never the newest. Returns how many went. When this
    /// returns, a power loss does not bring them back.
    ///
    /// # Errors
    /// [`RefError`].
    pub fn prune(&self, name: &str, oldest: u64) -> Result<usize, RefError> {
        ref_name::check(name)?;
        // The newest that stays must be readable: pruning never makes a damaged state the only one.
        self.read_newest(name)?;
        let generations = self.generations(name)?;
        let old: Vec<u64> = generations.into_iter().skip(1).filter(|generation| *generation < oldest).collect();
        let hint = self.hints.and_then(|hints| hints.get(name)).unwrap_or(0);
        // Where a ref is looked for from a hint on, a gap after it would pass for the end of the log. So what is before the gap has
        // to be gone for good first.
        let (hinted, others): (Vec<u64>, Vec<u64>) = old.iter().rev().partition(|generation| **generation <= hint);
        for generations in [hinted, others] {
            for generation in &generations {
                self.backend.delete(&file(name, *generation))?;
            }
            if !generations.is_empty() {
                self.backend.settle(&folder(name))?;
            }
        }
        Ok(old.len())
    }
}
