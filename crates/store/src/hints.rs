//! What is noted to start quicker: where the newest generations of refs were found, and the state of `packs/` that the index is
//! known to be in step with. A hint only says where to look first; what is found there is checked as ever.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::index::Index;
use crate::stat_cache::{RACY_NS, StatEntry};

/// The note about `packs/`: its mark when it was listed.
const PACKS: &str = "packs";
/// Before the names of refs.
const REF: &str = "ref ";
/// Refs with fewer generations are listed as quickly.
const MANY: u64 = 32;
/// A note is renewed when the newest generation is so far from it.
const FAR: u64 = 16;

/// The hints of one handle.
#[derive(Debug, Default)]
pub(crate) struct Hints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Newest generations, by ref.
    newest: HashMap<String, u64>,
    noted: HashMap<String, i64>,
}

impl Hints {
    /// What earlier processes noted; nothing where it cannot be read.
    pub(crate) fn load(index: &Index) -> Self {
        let noted = index.hints().unwrap_or_default();
        let newest = noted.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(REF)?;
            Some((name.to_owned(), u64::try_from(*value).ok().filter(|generation| *generation > 0)?))
        });
        let newest = newest.collect();
        Self(Mutex::new(State { newest, noted }))
    }

    /// The newest generation of a ref that was seen.
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newest.get(name).copied()
    }

    /// The newest generation of a ref was found.
    pub(crate) fn set(&self, name: &str, generation: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newest.insert(name.to_owned(), generation);
    }

    /// Whether `packs/` is as it was when the index was last brought in step with it.
    pub(crate) fn is_in_step(&self, packs: Option<i64>) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        packs.is_some() && state.noted.get(PACKS).copied() == packs
    }

    /// Notes for later processes what is worth it: that the index is in step with `packs/` as it was at the mark, if a later
    /// change could not have the same mark, and where refs with many generations were found. Failing to is no harm.
    pub(crate) fn note(&self, index: &mut Index, packs: Option<i64>) {
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        let settled = StatEntry::now_ns().saturating_sub(RACY_NS);
        if let Some(mark) = packs.filter(|mark| *mark < settled && state.noted.get(PACKS) != Some(mark)) {
            new.push((PACKS.to_owned(), mark));
        }
        for (name, generation) in state.newest.iter().filter(|(_, generation)| **generation > MANY) {
            let key = format!("{REF}{name}");
            let noted = state.noted.get(&key).and_then(|noted| u64::try_from(*noted).ok());
            if noted.is_none_or(|noted| noted.abs_diff(*generation) > FAR) {
                new.push((key, i64::try_from(*generation).unwrap_or(i64::MAX)));
            }
        }
        if !new.is_empty() && index.set_hints(&new).is_ok() {
            state.noted.extend(new);
        }
    }
}
