//! What a collection starts from: the states of all refs.

use std::collections::BTreeMap;

use shard_store::{RefState, Store, StoreError, Target};

use crate::error::Result;
use crate::repository::head_of;

/// The states of one ref, newest first.
pub(crate) struct Root {
    pub(crate) name: String,
    pub(crate) states: Vec<RefState>,
}

/// The states of all refs that hold something: of each ref, also of one that was deleted, the newest and so many before it.
///
/// How far back was settled when they were first read. Whatever a ref names between then and a later reading is among the
/// roots of the later one, also if it was replaced again meanwhile: a writer that saw it may be about to name it elsewhere.
pub(crate) struct Roots {
    pub(crate) refs: Vec<Root>,
    /// The oldest generation of each ref that counts.
    pub(crate) oldest: BTreeMap<String, u64>,
}

impl Roots {
    /// Reads them: of each ref the newest state and the `keep` before it.
    ///
    /// # Errors
    /// A state that cannot be read: nobody knows what it holds. [`RepoError::NoHead`](crate::RepoError::NoHead): nobody knows what
    /// else is lost.
    pub(crate) fn read(store: &Store, keep: u64) -> Result<Self> {
        Self::read_from(store, |_, newest| newest.saturating_sub(keep))
    }

    /// Reads them again.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn again(&self, store: &Store) -> Result<Self> {
        // A ref that is new has nothing that is too old.
        Self::read_from(store, |name, _| self.oldest.get(name).copied().unwrap_or(0))
    }

    fn read_from(store: &Store, oldest: impl Fn(&str, u64) -> u64) -> Result<Self> {
        head_of(store)?;
        let refs = store.refs();
        let mut roots = Self { refs: Vec::new(), oldest: BTreeMap::new() };
        for (name, newest) in refs.list_each("").map_err(StoreError::from)? {
            let newest = newest.map_err(StoreError::from)?;
            let oldest = oldest(&name, newest.generation);
            let states = refs.states_from(&name, oldest).map_err(StoreError::from)?;
            roots.oldest.insert(name.clone(), oldest);
            roots.refs.push(Root { name, states });
        }
        Ok(roots)
    }

    /// What is named: by the newest states where `current`, else by those before them.
    pub(crate) fn targets(&self, current: bool) -> impl Iterator<Item = &Target> {
        self.refs.iter().flat_map(move |root| {
            let (newest, older) = root.states.split_at(root.states.len().min(1));
            if current { newest } else { older }.iter().map(|state| &state.target)
        })
    }

    /// Whether no ref moved between two readings.
    pub(crate) fn is_as(&self, earlier: &Self) -> bool {
        let newest = |roots: &Self| -> Vec<_> {
            roots.refs.iter().map(|root| (root.name.clone(), root.states.first().map(|state| state.nonce))).collect()
        };
        newest(self) == newest(earlier)
    }
}
