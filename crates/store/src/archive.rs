//! Single-file archives: a pack at a place of the caller's choosing, complete in itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shard_core::Digest;
use shard_core::limits::MAX_DEPTH;

use crate::backend::{BackendError, Output};
use crate::depth::{Copies, Numbers};
use crate::entry::{EntryKey, EntryKind, EntrySink, EntrySource, Location, PackId};
use crate::error::StoreError;
use crate::file_writer::{FileWriter, io_error};
use crate::fs::{File, FileSystem, RealFs};
use crate::nonce::Nonce;
use crate::pack::{Bytes, PackReader, PackWriter};

/// A file as [`Bytes`].
pub struct FileBytes {
    file: Arc<dyn File>,
    name: String,
}

impl FileBytes {
    /// Opens a file.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn open(path: &Path) -> Result<Self, BackendError> {
        let name = path.to_string_lossy().into_owned();
        let file = RealFs.open(path).map_err(|error| io_error(&name, "open", error))?;
        Ok(Self { file, name })
    }
}

impl Bytes for FileBytes {
    fn size(&self) -> Result<u64, BackendError> {
        self.file.size().map_err(|error| io_error(&self.name, "read", error))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        let end = offset.saturating_add(out.len() as u64);
        let size = self.size()?;
        if end > size {
            return Err(BackendError::OutOfBounds { name: self.name.clone(), offset, end, size });
        }
        self.file.read_exact_at(out, offset).map_err(|error| io_error(&self.name, "read", error))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A single-file archive, or any pack, opened by itself.
pub struct ArchiveReader {
    pack: PackReader<FileBytes>,
    entries: HashMap<EntryKey, Location>,
}

impl ArchiveReader {
    /// Opens an archive.
    ///
    /// # Errors
    /// [`StoreError::Pack`] for what is none or is damaged; [`StoreError::Backend`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let pack = PackReader::open(FileBytes::open(path)?)?;
        let entries = &pack.footer().entries;
        let (mut numbers, mut copies) = (Numbers::default(), Copies::default());
        for entry in entries {
            let bases: Vec<u32> = entry.bases.iter().map(|base| numbers.of(EntryKey::block(*base))).collect();
            copies.push(numbers.of(entry.key), bases);
        }
        let depths = copies.resolve(&mut vec![None; numbers.len()], |_| true);
        let located = entries.iter().zip(depths).filter_map(|(entry, depth)| {
            Some((entry.key, PackReader::<FileBytes>::location(entry, PackId::Archive, depth?)))
        });
        let entries = located.collect();
        Ok(Self { pack, entries })
    }

    /// The pack that the archive is.
    #[must_use]
    pub fn pack(&self) -> &PackReader<FileBytes> {
        &self.pack
    }

    /// The keys of all entries of a kind, in the order of the file.
    #[must_use]
    pub fn keys(&self, kind: EntryKind) -> Vec<EntryKey> {
        self.pack.footer().entries.iter().map(|entry| entry.key).filter(|key| key.kind == kind).collect()
    }
}

impl EntrySource for ArchiveReader {
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>, StoreError> {
        Ok(self.entries.get(key).copied())
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.pack.read_stored(location, out)
    }
}

/// A single-file archive that is being written, beside its place: nothing is there before it is whole.
pub struct ArchiveWriter {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    pack: PackWriter<FileWriter>,
    depths: HashMap<EntryKey, u32>,
    failed: bool,
}

impl ArchiveWriter {
    /// Starts an archive that will be at `path`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let nonce = Nonce::random().map_err(|source| StoreError::Io {
            path: path.to_owned(),
            action: "draw random numbers for",
            source,
        })?;
        let temporary = folder(path).join(format!(".shard-{nonce}.tmp"));
        let file = FileWriter::create(Arc::new(RealFs), temporary, false)?;
        let state = State { pack: PackWriter::new(file, Nonce::ZERO)?, depths: HashMap::new(), failed: false };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let poisoned = self.state.is_poisoned();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed |= poisoned;
        state
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lock().pack.len()
    }

    /// Whether nothing was written so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().pack.is_empty()
    }

    /// Makes the archive durable at its place. Returns its SHA-256 and length in bytes.
    ///
    /// # Errors
    /// [`StoreError`], with [`BackendError::AlreadyExists`] where there is a file and it may not be replaced.
    pub fn finish(self, replace: bool) -> Result<(Digest, u64), StoreError> {
        let name = self.path.to_string_lossy().into_owned();
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if state.failed {
            return Err(StoreError::Poisoned("writing the archive failed".to_owned()));
        }
        let mut pack = state.pack;
        let id = pack.complete()?;
        let (mut file, _) = pack.into_parts();
        file.sync()?;
        let placed =
            if replace { RealFs.replace(file.path(), &self.path) } else { RealFs.publish(file.path(), &self.path) };
        placed.and_then(|()| RealFs.sync_dir(folder(&self.path))).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => BackendError::AlreadyExists { name: name.clone() },
            _ => io_error(&name, "create", error),
        })?;
        Ok((id, file.len()))
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl EntrySource for ArchiveWriter {
    fn locate(&self, key: &EntryKey) -> Result<Option<Location>, StoreError> {
        let state = self.lock();
        let location = state.pack.entry(key).zip(state.depths.get(key));
        Ok(location.map(|(entry, depth)| PackReader::<FileBytes>::location(entry, PackId::Archive, *depth)))
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.lock().pack.read_stored(location, out)
    }
}

impl EntrySink for ArchiveWriter {
    fn put(&self, key: &EntryKey, stored: &[u8], raw_len: u64, bases: &[Digest]) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.failed {
            return Err(StoreError::Poisoned("writing the archive failed".to_owned()));
        }
        if state.depths.contains_key(key) {
            return Ok(());
        }
        let mut depth = 0;
        for base in bases {
            let found = state.depths.get(&EntryKey::block(*base));
            depth = depth.max(found.ok_or(StoreError::MissingBase { key: *key, base: *base })? + 1);
        }
        if depth > MAX_DEPTH {
            return Err(StoreError::TooDeep { key: *key, depth });
        }
        match state.pack.append(key, stored, raw_len, bases) {
            Ok(_) => {}
            Err(error) => {
                state.failed = !matches!(error, StoreError::TooLarge { .. });
                return Err(error);
            }
        }
        state.depths.insert(*key, depth);
        Ok(())
    }
}
