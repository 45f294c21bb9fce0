//! What an exchange that was killed had received is kept, so that it is not sent again.

use std::sync::atomic::{AtomicUsize, Ordering};

use shard_core::NoProgress;
use shard_store::{Location, Store};

use super::peer::{Chosen, Supply};
use super::receive::receive;
use crate::error::Result;
use crate::repository::Repository;

/// Keeps the whole entries of packs that processes which are provably gone did not finish, each proven by its id. What cannot be kept
/// goes.
///
/// # Errors
/// What keeps a transaction from beginning.
pub(super) fn keep(repository: &Repository, purpose: &str) -> Result<()> {
    let store = &repository.store;
    let unfinished = store.unfinished_packs()?;
    if unfinished.is_empty() {
        return Ok(());
    }
    let transaction = store.begin_received(purpose)?;
    for name in &unfinished {
        let Ok(entries) = store.salvage_unfinished(name) else { continue };
        let salvaged = Salvaged { store, name: name.clone(), entries, next: AtomicUsize::new(0) };
        // The first that leans on what is gone ends it.
        let _ = receive(&salvaged, &transaction, None, repository.settings.workers(), &NoProgress);
    }
    if transaction.seal().is_ok() {
        for name in &unfinished {
            store.remove_unfinished(name)?;
        }
    }
    Ok(())
}

/// The entries of an unfinished pack.
struct Salvaged<'a> {
    store: &'a Store,
    name: String,
    entries: Vec<Location>,
    next: AtomicUsize,
}

impl Supply for Salvaged<'_> {
    fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>> {
        let Some(location) = self.entries.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return Ok(None) };
        self.store.read_unfinished(&self.name, location, stored)?;
        Ok(Some(Chosen { key: location.key, is_base: true }))
    }
}
