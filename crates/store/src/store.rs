//! A repository's store: a directory of plain, immutable files that can be moved as it is.
//!
//! ```text
//! format                       what this is: version, random id, cut
//! packs/<sha256>.pack          entries, named by the SHA-256 of the pack's bytes
//! index/<sha256>.idx           footers of many packs, gathered
//! refs/<name>/<generation>     the states of refs
//! leases/<epoch>-<nonce>       who is at work
//! epochs/<number>              collections, and the packs that they condemned
//! remotes/<number>             names and addresses of other repositories
//! tmp/                         unfinished files
//! cache/index.db               where each entry is: can be deleted at any time
//! cache/twins.db               what Git would call the objects: can be deleted at any time
//! twins                        from which size on files are pointers in Git twins, where that was chosen
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use shard_core::Digest;
use shard_core::limits::Cut;

use crate::backend::Backend;
use crate::elsewhere::Elsewhere;
use crate::entry::{EntryKey, EntryKind, EntrySource, Location, PackId};
use crate::epoch::Epochs;
use crate::error::{PackError, StoreError};
use crate::format::{FORMAT, decode_format, encode_format};
use crate::fs::{FileSystem, RealFs};
use crate::hints::Hints;
use crate::index::Index;
use crate::lease::{Claim, Leases};
use crate::local::LocalBackend;
use crate::nonce::Nonce;
use crate::pack::{Object, PackReader, pack_name, read_entry, read_entry_header, sha256_of};
use crate::record::MAX_RECORD;
use crate::refs::Refs;
use crate::remotes::Remotes;
use crate::runs::read_entries;
use crate::sketch_index::SketchIndex;
use crate::stat_cache::StatCache;
use crate::transaction::{Transaction, Writes};
use crate::twins::TwinCache;
use crate::windows::{SMALL, Windows};

pub(crate) const FOLDERS: [&str; 8] = ["packs", "index", "refs", "leases", "epochs", "remotes", "tmp", "cache"];
const INDEX: &str = "cache/index.db";

/// How a store writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// A pack that would grow beyond this many bytes is closed and another one begun.
    pub pack_limit: u64,
    /// When more packs than this are in no index file, their footers are gathered into one.
    pub gather_above: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { pack_limit: 512 << 20, gather_above: 64 }
    }
}

/// A pack of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// The SHA-256 of its bytes.
    pub id: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Why its entries are not used: its footer is damaged.
    pub problem: Option<String>,
}

/// Where a store's index is.
#[derive(Clone, Copy)]
enum Cache<'a> {
    /// In the repository's own directory.
    Inside,
    /// In a folder for those of many repositories.
    Elsewhere(&'a Path),
    Memory,
}

/// The store of a repository. Clones are handles to the same one; all methods may be called from any thread.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>, pub(crate) Option<Arc<dyn Elsewhere>>);

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    /// The same backend where it is a local directory.
    pub(crate) local: Option<Arc<LocalBackend>>,
    root: Option<PathBuf>,
    pub(crate) id: Nonce,
    cut: Cut,
    pub(crate) options: StoreOptions,
    pub(crate) index: Mutex<Index>,
    notes: Mutex<Vec<String>>,
    pub(crate) hints: Hints,
    /// Whether this handle has rebuilt the index to find something that it lacked.
    searched: AtomicBool,
    /// The last epoch under which this handle looked at what packs there are.
    epoch: AtomicU64,
    /// Whether this handle has listed `packs/`, or took the index for in step with it unseen.
    pub(crate) listed: AtomicBool,
    pub(crate) twins: OnceLock<TwinCache>,
    windows: Windows,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let index = self.index.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.hints.note(index, None);
    }
}

impl Store {
    /// Creates a repository in the directory `root`, which may exist, and opens it.
    ///
    /// # Errors
    /// [`StoreError::AlreadyARepository`], [`StoreError::NoFormat`]; [`StoreError::Backend`], [`StoreError::Io`].
    pub fn init(root: &Path, cut: Cut) -> Result<Self, StoreError> {
        let absolute = std::path::absolute(root).map_err(|source| StoreError::Io {
            path: root.to_owned(),
            action: "find",
            source,
        })?;
        // Before anything is written: another id would make the packs another repository's.
        if Self::lacks_format(&absolute) {
            return Err(StoreError::NoFormat(root.to_owned()));
        }
        Self::init_with(Arc::new(RealFs), &absolute, cut)?;
        Self::open(root)
    }

    /// Creates a repository over another file system, without opening it.
    pub(crate) fn init_with(fs: Arc<dyn FileSystem>, root: &Path, cut: Cut) -> Result<(), StoreError> {
        let error = |action| move |source| StoreError::Io { path: root.to_owned(), action, source };
        match fs.create_dir(root) {
            Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => return Err(error("create")(problem)),
            _ => {}
        }
        if let Some(parent) = root.parent() {
            fs.sync_dir(parent).map_err(error("sync the directory of"))?;
        }
        let backend = LocalBackend::with_fs(fs, root).map_err(error("draw random numbers for"))?;
        for folder in FOLDERS {
            backend.create_folder(folder)?;
        }
        let id = Nonce::random().map_err(error("draw random numbers for"))?;
        match backend.put_if_absent(FORMAT, &encode_format(id, cut)) {
            Err(problem) if problem.is_already_exists() => Err(StoreError::AlreadyARepository(root.to_owned())),
            result => Ok(result?),
        }
    }

    /// Opens the repository in the directory `root`.
    ///
    /// # Errors
    /// [`StoreError::NotARepository`]; [`StoreError::Record`] where its format file is damaged or of a later version.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_with(root, StoreOptions::default())
    }

    /// Opens the repository in the directory `root`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(root: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let backend = LocalBackend::new(root).map_err(|source| StoreError::Io {
            path: root.to_owned(),
            action: "open",
            source,
        })?;
        Self::open_parts(Arc::new(backend), Some(root.to_owned()), true, options)
    }

    /// Opens a repository over another file system. Its index lives in memory.
    #[cfg(test)]
    pub(crate) fn open_fs(fs: Arc<dyn FileSystem>, root: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let backend = LocalBackend::with_fs(fs, root).map_err(|source| StoreError::Io {
            path: root.to_owned(),
            action: "open",
            source,
        })?;
        Self::open_parts(Arc::new(backend), Some(root.to_owned()), false, options)
    }

    /// Creates a repository in an empty backend and opens it, with an index in memory.
    ///
    /// # Errors
    /// [`StoreError::AlreadyARepository`]; [`StoreError::Backend`].
    pub fn init_backend(backend: Arc<dyn Backend>, cut: Cut, options: StoreOptions) -> Result<Self, StoreError> {
        let id = Nonce::random().map_err(|source| StoreError::Io {
            path: FORMAT.into(),
            action: "draw random numbers for",
            source,
        })?;
        match backend.put_if_absent(FORMAT, &encode_format(id, cut)) {
            Err(problem) if problem.is_already_exists() => Err(StoreError::AlreadyARepository(FORMAT.into())),
            result => {
                result?;
                Self::open_backend(backend, options)
            }
        }
    }

    /// Opens the repository in a backend, with an index in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_backend(backend: Arc<dyn Backend>, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_any(backend, None, None, Cache::Memory, options)
    }

    /// Opens the repository in a backend that is no folder. Its index is kept in `cache`, in a folder of the repository's id that can
    /// be deleted at any time; in memory where that cannot be written.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_cached(backend: Arc<dyn Backend>, cache: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_any(backend, None, None, Cache::Elsewhere(cache), options)
    }

    fn open_parts(
        local: Arc<LocalBackend>,
        root: Option<PathBuf>,
        on_disk: bool,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let cache = if on_disk { Cache::Inside } else { Cache::Memory };
        Self::open_any(local.clone(), Some(local), root, cache, options)
    }

    fn open_any(
        backend: Arc<dyn Backend>,
        local: Option<Arc<LocalBackend>>,
        root: Option<PathBuf>,
        cache: Cache<'_>,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let on_disk = matches!(cache, Cache::Inside);
        let bytes = match backend.get(FORMAT, MAX_RECORD) {
            Err(error) if error.is_not_found() => {
                return Err(match root {
                    Some(root) if on_disk && Self::lacks_format(&root) => StoreError::NoFormat(root),
                    root => StoreError::NotARepository(root.unwrap_or_else(|| FORMAT.into())),
                });
            }
            bytes => bytes?,
        };
        let (id, cut) =
            decode_format(&bytes).map_err(|problem| StoreError::Record { file: FORMAT.to_owned(), problem })?;
        let file = match (cache, &root) {
            (Cache::Inside, Some(root)) => Some(root.join(INDEX)),
            (Cache::Elsewhere(cache), _) => Some(cache.join(id.to_hex()).join("index.db")),
            _ => None,
        };
        let (index, note) = match file {
            Some(file) => {
                // Inside missing only where it was deleted by hand or lost in a copy; if it cannot be made, the index says so.
                let _ = file.parent().map(std::fs::create_dir_all);
                Index::open(&file, id)?
            }
            None => (Index::in_memory(id)?, None),
        };
        let hints = Hints::load(&index);
        let store = Self(
            Arc::new(Inner {
                backend,
                local,
                root,
                id,
                cut,
                options,
                index: Mutex::new(index),
                notes: Mutex::new(note.into_iter().collect()),
                hints,
                searched: AtomicBool::new(false),
                epoch: AtomicU64::new(0),
                listed: AtomicBool::new(false),
                twins: OnceLock::new(),
                windows: Windows::default(),
            }),
            None,
        );
        if !store.0.hints.is_in_step(store.0.backend.changed_ns("packs")) {
            store.refresh()?;
        }
        Ok(store)
    }

    /// The repository's random id.
    #[must_use]
    pub fn id(&self) -> Nonce {
        self.0.id
    }

    /// Where the repository's files are cut into blocks.
    #[must_use]
    pub fn cut(&self) -> Cut {
        self.0.cut
    }

    /// A pack that would grow beyond this many bytes is closed and another one begun.
    #[must_use]
    pub fn pack_limit(&self) -> u64 {
        self.0.options.pack_limit
    }

    /// The repository's directory, where it is one.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.0.root.as_deref()
    }

    /// The files behind the store.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.0.backend
    }

    /// What was out of the ordinary since the last call (an index rebuilt, a pack damaged), for people to read.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn note(&self, note: String) {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    /// The refs.
    #[must_use]
    pub fn refs(&self) -> Refs<'_> {
        Refs::with_hints(self.0.backend.as_ref(), &self.0.hints)
    }

    /// The leases.
    #[must_use]
    pub fn leases(&self) -> Leases<'_> {
        Leases::new(&self.0.backend)
    }

    /// The epochs.
    #[must_use]
    pub fn epochs(&self) -> Epochs<'_> {
        Epochs::new(self.0.backend.as_ref())
    }

    /// The names of other repositories.
    #[must_use]
    pub fn remotes(&self) -> Remotes<'_> {
        Remotes::new(self.0.backend.as_ref())
    }

    /// The stat cache of the work tree.
    #[must_use]
    pub fn stat_cache(&self) -> StatCache<'_> {
        StatCache::new(self)
    }

    /// The index of sketches.
    #[must_use]
    pub fn sketches(&self) -> SketchIndex<'_> {
        SketchIndex::new(self)
    }

    /// Begins to write. What writers that are provably gone left behind is removed first.
    ///
    /// What the writer reads of refs counts only if it is read afterwards: a collection spares what refs name while a writer is at
    /// work, and nothing that they named before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(&self, purpose: &str) -> Result<Transaction, StoreError> {
        self.remove_leftovers(false)?;
        Transaction::begin(self.clone(), purpose, Writes::New)
    }

    /// Begins to write copies of what is here: packs that no other writer makes, whatever is in them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin_copy(&self, purpose: &str) -> Result<Transaction, StoreError> {
        Transaction::begin(self.clone(), purpose, Writes::Copies)
    }

    /// Claims the right to delete packs, which one process at a time has.
    ///
    /// # Errors
    /// [`StoreError::Claimed`] where another process has it, and is not provably gone.
    pub fn claim(&self, purpose: &str) -> Result<Claim, StoreError> {
        self.leases().claim(self, purpose)
    }

    /// Brings the index in step with packs that were deleted, and forgets what it kept for them.
    pub(crate) fn forget_deleted(&self) -> Result<(), StoreError> {
        self.refresh()?;
        // Only a cache: it may be as it is.
        let _ = self.with_index(Index::tidy);
        self.forget_twins();
        Ok(())
    }

    /// Before a writer begins under an epoch: collections since this handle last looked may have deleted packs.
    pub(crate) fn catch_up(&self, epoch: u64) -> Result<(), StoreError> {
        if self.0.epoch.load(Ordering::Relaxed) < epoch {
            self.refresh()?;
            self.0.epoch.fetch_max(epoch, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the index knows a pack.
    pub(crate) fn has_pack(&self, id: &Digest) -> Result<bool, StoreError> {
        self.with_index(|index| index.has_pack(id))
    }

    /// Runs something on the index; if the index turns out to be damaged, rebuilds it and runs it again.
    pub(crate) fn with_index<T>(&self, run: impl Fn(&mut Index) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut index = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        match run(&mut index) {
            Err(StoreError::Index(error)) if error.is_damage() => {
                self.note(format!("the index was damaged ({error}) and is built anew"));
                self.rebuild(&mut index)?;
                run(&mut index)
            }
            result => result,
        }
    }

    /// All copies of an entry that can be decoded, best first: least deep, then by the pack's name.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn copies(&self, key: &EntryKey) -> Result<Vec<Location>, StoreError> {
        Ok(self.copies_and_bases(key)?.into_iter().map(|(location, _)| location).collect())
    }

    /// The same, each with the blocks that it leans on: by one look, since another process may take a copy out of the index at any
    /// time.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn copies_and_bases(&self, key: &EntryKey) -> Result<Vec<(Location, Vec<Digest>)>, StoreError> {
        self.with_index(|index| index.copies(key))
    }

    /// Whether an entry's header is where the index says: cheap, and enough to tell a pack that is gone or an index that is
    /// wrong.
    pub(crate) fn is_there(&self, location: &Location) -> bool {
        let PackId::Sealed(pack) = location.pack else { return false };
        let name = pack_name(&pack);
        match read_entry_header(|offset, out| self.0.backend.get_range(&name, offset, out), &name, location) {
            Ok(_) => true,
            Err(error) => {
                self.note(format!("a copy is passed over: {error}"));
                false
            }
        }
    }

    /// All ids of a kind, sorted.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn ids(&self, kind: EntryKind) -> Result<Vec<Digest>, StoreError> {
        self.with_index(|index| index.ids(kind))
    }

    /// The keys of all entries of a kind, sorted.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn keys(&self, kind: EntryKind) -> Result<Vec<EntryKey>, StoreError> {
        Ok(self.ids(kind)?.into_iter().map(|id| EntryKey::new(kind, id)).collect())
    }

    /// Up to `limit` ids of a kind that start with these lowercase hexadecimal digits, sorted. Other text starts none.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn find_prefix(&self, kind: EntryKind, hex: &str, limit: usize) -> Result<Vec<Digest>, StoreError> {
        let bound =
            |digit: &str| Digest::from_hex(&format!("{hex}{}", digit.repeat(64usize.saturating_sub(hex.len()))));
        let (Ok(first), Ok(last)) = (bound("0"), bound("f")) else { return Ok(Vec::new()) };
        self.with_index(|index| index.ids_between(kind, &first, &last, limit))
    }

    /// The entries that are here but that no copy of can be decoded, since bases are missing.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn undecodable(&self) -> Result<Vec<EntryKey>, StoreError> {
        self.with_index(|index| index.undecodable())
    }

    /// The packs, by id.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn packs(&self) -> Result<Vec<PackInfo>, StoreError> {
        let packs = self.with_index(|index| index.packs())?;
        Ok(packs.into_iter().map(|pack| PackInfo { id: pack.id, size: pack.size, problem: pack.problem }).collect())
    }

    /// Opens a pack by itself, without the index.
    ///
    /// # Errors
    /// [`StoreError::Pack`], [`StoreError::Backend`].
    pub fn open_pack(&self, id: &Digest) -> Result<PackReader<Object<'_>>, StoreError> {
        PackReader::open(Object::new(self.0.backend.as_ref(), pack_name(id)))
    }

    /// Reads all bytes of a pack and compares their SHA-256 with its name.
    ///
    /// # Errors
    /// [`StoreError::Pack`] where they differ.
    pub fn verify_pack(&self, id: &Digest) -> Result<(), StoreError> {
        let found = self.open_pack(id)?.sha256()?;
        if found == *id {
            return Ok(());
        }
        Err(StoreError::Pack { pack: pack_name(id), problem: PackError::Checksum(found) })
    }

    /// Whether a pack's object holds the bytes that its name promises.
    pub(crate) fn is_intact(&self, id: &Digest) -> Result<bool, StoreError> {
        let name = pack_name(id);
        let len = self.0.backend.size(&name)?;
        Ok(sha256_of(&Object::new(self.0.backend.as_ref(), name), len)? == *id)
    }
}

impl EntrySource for Store {
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>, StoreError> {
        let found = self.copies(key)?.into_iter().next();
        if found.is_none() && !self.0.listed.load(Ordering::Relaxed) {
            self.refresh()?;
            return Ok(self.copies(key)?.into_iter().next());
        }
        Ok(found)
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let PackId::Sealed(pack) = location.pack else { return Err(StoreError::Missing(location.key)) };
        let (name, backend) = (pack_name(&pack), self.0.backend.as_ref());
        if backend.requests_at_once() == 1 {
            return read_entry(|offset, out| backend.get_range(&name, offset, out), &name, location, out);
        }
        let is_small = location.stored_len <= SMALL;
        let read = |offset, parts: &mut [&mut [u8]]| match is_small {
            true => self.0.windows.read(backend, &pack, offset, parts),
            false => backend.get_parts(&name, offset, parts),
        };
        let (run, out) = (std::slice::from_ref(location), std::slice::from_mut(out));
        read_entries(read, &name, run, out).inspect_err(|_| self.0.windows.forget(&pack))
    }

    fn read(&self, key: &EntryKey, out: &mut Vec<u8>) -> Result<Location, StoreError> {
        let mut last = StoreError::Missing(*key);
        for attempt in 0..4 {
            match attempt {
                0 => {}
                1 => self.refresh()?,
                2 => self.bring(&mut std::iter::once(*key))?,
                // Once for each handle: a block that is not there must not make every reader rebuild the index.
                _ if self.0.searched.swap(true, Ordering::Relaxed) => break,
                _ => self.reindex()?,
            }
            for location in self.copies(key)? {
                match self.read_stored(&location, out) {
                    Ok(()) => return Ok(location),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    fn bring(&self, keys: &mut dyn Iterator<Item = EntryKey>) -> Result<(), StoreError> {
        self.bring_missing(keys)
    }

    fn is_partial(&self) -> bool {
        self.1.is_some()
    }

    /// Drops a copy of an entry from the index, since reading or decoding it showed that it is bad: nobody finds it any more,
    /// and the next writer of the same bytes writes them again. A rebuilt index has it back.
    fn forget(&self, location: &Location) -> Result<(), StoreError> {
        let PackId::Sealed(pack) = location.pack else { return Ok(()) };
        self.with_index(|index| index.forget(&location.key, &pack))
    }
}
