//! Partial clones: blocks stay where they were cloned from until they are read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use shard_core::{Digest, NoProgress};
use shard_history::glob::Glob;
use shard_store::{Elsewhere, EntryKey, EntrySource, Store, StoreError};

use super::peer::{Peer, Wanted};
use super::receive::receive;
use super::travel::choose;
use super::{SyncProblem, again_if_missing};
use crate::error::{RepoError, Result};
use crate::repository::{Repository, Settings};

/// Finds the repository at an address, to exchange commits with: this crate knows folders alone.
pub type Connect = fn(&str, Settings) -> Result<Box<dyn Peer>>;

/// Most blocks that are asked for at once: what is known of them stays small.
const MOST: usize = 1 << 14;

/// A handle that brings blocks from the remote which promised them, where one did and can be connected to.
pub(crate) fn with_promised(store: Store, settings: Settings) -> Store {
    let Some(connect) = settings.connect else { return store };
    // A list that cannot be read is told by who asks for it.
    let Ok(list) = store.remotes().read() else { return store };
    match list.promises.and_then(|name| list.urls.get(&name).cloned()) {
        Some(url) => promised(&store, url, connect, settings),
        None => store,
    }
}

fn promised(store: &Store, url: String, connect: Connect, settings: Settings) -> Store {
    let store = store.without_elsewhere();
    let promised =
        Promised { store: store.clone(), settings, url, connect, peer: OnceLock::new(), bringing: Mutex::default() };
    store.with_elsewhere(Arc::new(promised))
}

/// The remote that has the blocks.
struct Promised {
    /// A handle that brings nothing, so that what is brought cannot ask for more.
    store: Store,
    settings: Settings,
    url: String,
    connect: Connect,
    peer: OnceLock<Box<dyn Peer>>,
    /// Held by who brings blocks: others often want the same.
    bringing: Mutex<()>,
}

impl Elsewhere for Promised {
    fn bring(&self, blocks: &[EntryKey]) -> std::result::Result<(), StoreError> {
        let _one = self.bringing.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: RepoError| StoreError::Elsewhere { url: self.url.clone(), source: Box::new(error) };
        blocks.chunks(MOST).try_for_each(|some| again_if_missing(|| self.bring_some(some))).map_err(failed)
    }
}

impl Promised {
    fn bring_some(&self, blocks: &[EntryKey]) -> Result<()> {
        let transaction = self.store.begin("bring")?;
        let mut missing = BTreeSet::new();
        for key in blocks {
            if transaction.locate(key)?.is_none() {
                missing.insert(key.id);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let outbound = self.peer()?.outbound(&Wanted::Blocks(missing.into_iter().collect()))?;
        let offers = outbound.offers();
        let is_here = |key: &EntryKey| Ok(transaction.locate(key)?.is_some());
        let here = offers.iter().map(|offer| is_here(&offer.key)).collect::<Result<Vec<bool>>>()?;
        let chosen = choose(offers, &here).into_iter().map(|(_, chosen)| chosen).collect();
        let supply = outbound.send(chosen)?;
        let outcome = receive(supply.as_ref(), &transaction, None, self.settings.workers(), &NoProgress);
        // Also what came before it was cut off.
        let sealed = transaction.seal();
        outcome?;
        Ok(sealed?)
    }

    fn peer(&self) -> Result<&dyn Peer> {
        if self.peer.get().is_none() {
            let peer = (self.connect)(&self.url, self.settings)?;
            let _ = self.peer.set(peer);
        }
        Ok(self.peer.get().ok_or(RepoError::Internal("a connection was lost"))?.as_ref())
    }
}

/// What [`Repository::bring`] looked at, and brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brought {
    /// Files.
    pub files: u64,
    /// Tensors whose names match.
    pub tensors: u64,
    /// Blocks that were not here.
    pub blocks: u64,
}

impl Repository {
    /// Whether blocks may be elsewhere, and come when they are read.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.store.is_partial()
    }

    /// Leaves blocks with a remote from here on, until they are read.
    ///
    /// # Errors
    /// [`SyncProblem::Promises`] where another remote has blocks of this repository already.
    pub fn leave_blocks_with(&mut self, remote: &str) -> Result<()> {
        let url = self.remotes()?.remove(remote).ok_or_else(|| SyncProblem::UnknownRemote(remote.to_owned()))?;
        let connect = self.settings.connect.ok_or(RepoError::Internal("no remote can be connected to"))?;
        self.note_promises(remote)?;
        self.store = promised(&self.store, url, connect, self.settings);
        Ok(())
    }

    /// Brings the blocks of a revision's files, of all or of those at or below `paths`; of their tensors only those whose names match.
    ///
    /// # Errors
    /// An unknown revision or path; [`RepoError::NothingToDo`] where no tensor matches; what keeps blocks from coming.
    pub fn bring(&self, revision: &str, paths: &[PathBuf], pattern: Option<&Glob>) -> Result<Brought> {
        let tracked = paths.iter().map(|path| self.tracked_path(path)).collect::<Result<Vec<_>>>()?;
        let (_, chosen) = self.chosen(revision, &tracked)?;
        let (mut objects, mut brought, mut wanted) = (self.objects(), Brought::default(), BTreeSet::new());
        for entry in chosen.values() {
            let manifest = objects.manifest_once(entry.manifest)?;
            brought.files += 1;
            match pattern {
                None => wanted.extend(manifest.blocks().map(|block| block.span.id)),
                Some(pattern) => {
                    for view in manifest.tensors.iter().filter(|view| pattern.matches(&view.name)) {
                        brought.tensors += 1;
                        wanted.extend(manifest.tensor_blocks(view).0.iter().map(|span| span.id));
                    }
                }
            }
        }
        if let Some(pattern) = pattern.filter(|_| brought.tensors == 0) {
            let what = format!("no tensor of {revision} has a name like {:?}", pattern.as_str());
            return Err(RepoError::NothingToDo(what));
        }
        for id in &wanted {
            brought.blocks += u64::from(self.store.locate(&EntryKey::block(*id))?.is_none());
        }
        self.bring_blocks(wanted.into_iter())?;
        Ok(brought)
    }

    /// Brings blocks that are not here and will be read.
    pub(crate) fn bring_blocks(&self, blocks: impl Iterator<Item = Digest>) -> Result<()> {
        Ok(self.store.bring(&mut blocks.map(EntryKey::block))?)
    }
}
