//! Files of the work tree that are written while their blocks arrive, so that a clone decodes and hashes each block once.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use shard_core::Digest;
use shard_history::{FileEntry, FileMode};
use shard_manifest::ContentManifest;
use tempfile::NamedTempFile;

use crate::error::{RepoError, Result};
use crate::restore::{FLUSH, INLINE, Output, temporary_file};

/// Most files that are open at once; others are decoded when they are checked out.
const MOST: usize = 128;

/// Where a block belongs.
struct Piece {
    file: usize,
    offset: u64,
    len: u32,
}

struct Begun {
    manifest: Digest,
    temporary: NamedTempFile,
    output: Output<File>,
}

/// Files that lack blocks.
pub(crate) struct BegunFiles {
    files: Vec<Begun>,
    places: HashMap<Digest, Vec<Piece>>,
    /// Blocks that are where they belong.
    written: Mutex<HashSet<Digest>>,
    bytes: AtomicU64,
    /// Held by who sets the disk to work.
    flushing: Mutex<()>,
}

/// A file with some of its blocks.
pub(crate) struct PartFile {
    pub(crate) temporary: NamedTempFile,
    /// Those that it has.
    pub(crate) written: HashSet<Digest>,
}

impl BegunFiles {
    /// No file yet.
    pub(crate) fn new() -> Self {
        Self {
            files: Vec::new(),
            places: HashMap::new(),
            written: Mutex::default(),
            bytes: AtomicU64::new(0),
            flushing: Mutex::default(),
        }
    }

    /// Begins a file, in `temp_dir`, by a name with this prefix; where it is worth it: it is large, and its bytes are those of its
    /// blocks.
    ///
    /// # Errors
    /// [`RepoError::Io`].
    pub(crate) fn begin(
        &mut self,
        entry: &FileEntry,
        manifest: &ContentManifest,
        (temp_dir, temp_prefix): (&Path, &str),
        threads: usize,
    ) -> Result<()> {
        let is_plain = entry.mode != FileMode::Symlink && manifest.compressed.is_empty();
        let is_known = self.files.iter().any(|begun| begun.manifest == entry.manifest);
        if !is_plain || is_known || manifest.size <= INLINE || self.files.len() >= MOST {
            return Ok(());
        }
        let failed = || RepoError::io("cannot create a temporary file", temp_dir);
        let temporary = temporary_file(temp_dir, temp_prefix).map_err(failed())?;
        let file = temporary.as_file().try_clone().map_err(failed())?;
        file.set_len(manifest.size).map_err(RepoError::io("cannot be given its size", temporary.path()))?;
        let (number, mut offset) = (self.files.len(), 0);
        for span in manifest.segments.iter().flat_map(|segment| &segment.blocks) {
            self.places.entry(span.id).or_default().push(Piece { file: number, offset, len: span.len });
            offset += u64::from(span.len);
        }
        self.files.push(Begun { manifest: entry.manifest, temporary, output: Output::new(file, threads + 1) });
        Ok(())
    }

    /// Whether no file is begun.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether a block belongs anywhere.
    pub(crate) fn has(&self, id: &Digest) -> bool {
        self.places.contains_key(id)
    }

    /// Writes a block, whose id its bytes are proven by, wherever it belongs. What is in `block` afterwards is of no use.
    ///
    /// # Errors
    /// [`RepoError::Io`].
    pub(crate) fn write(&self, id: Digest, block: &mut Vec<u8>) -> Result<()> {
        let Some(places) = self.places.get(&id) else { return Ok(()) };
        // One that is not as long as its place is told when the file is completed.
        if places.iter().any(|place| place.len as usize != block.len()) {
            return Ok(());
        }
        let len = block.len() as u64;
        let write = |place: &Piece, block: &mut Vec<u8>| {
            let begun = self.files.get(place.file).ok_or(RepoError::Internal("a file was begun and is not there"))?;
            let path = begun.temporary.path();
            begun.output.write(block, place.offset).map_err(RepoError::io("cannot write", path))?;
            self.flush(len, begun).map_err(RepoError::io("cannot be written to the disk", path))
        };
        if let Some((last, others)) = places.split_last() {
            others.iter().try_for_each(|place| write(place, &mut block.clone()))?;
            write(last, block)?;
        }
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Ok(())
    }

    /// Now and then sets the disk to work on what was written, while the next blocks arrive.
    fn flush(&self, len: u64, begun: &Begun) -> io::Result<()> {
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        if before / FLUSH == (before + len) / FLUSH {
            return Ok(());
        }
        // Where one is under way already, the next will do.
        let Ok(_turn) = self.flushing.try_lock() else { return Ok(()) };
        begun.temporary.as_file().sync_data()
    }

    /// What there is of files, by their manifests. Nothing may be written any more.
    pub(crate) fn into_parts(self) -> HashMap<Digest, PartFile> {
        let Self { files, places, written, .. } = self;
        let written = written.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut of_file: Vec<HashSet<Digest>> = vec![HashSet::new(); files.len()];
        for (id, places) in places.iter().filter(|(id, _)| written.contains(id)) {
            for place in places {
                if let Some(written) = of_file.get_mut(place.file) {
                    written.insert(*id);
                }
            }
        }
        let part = |(begun, written): (Begun, _)| (begun.manifest, PartFile { temporary: begun.temporary, written });
        files.into_iter().zip(of_file).map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shard_core::NoProgress;
    use shard_core::limits::Cut;

    use super::*;
    use crate::blocks::{BlockReader, block_key};
    use crate::counted::Counted;
    use crate::objects::Objects;
    use crate::restore::restore_file;
    use crate::worktree::UNFINISHED;
    use crate::{Repository, Settings};

    #[test]
    fn only_what_did_not_arrive_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path(), "main", Cut::TEST, Settings::default()).unwrap();
        // Much of it is in it twice.
        let half = shard_datasets::rng::Rng::new(1).noise(1_500_000);
        let bytes = [&half[..], &half].concat();
        fs::write(folder.path().join("model.bin"), &bytes).unwrap();
        fs::write(folder.path().join("small.bin"), &half[..1000]).unwrap();
        repository.add(&[folder.path().to_owned()], &NoProgress).unwrap();
        let (_, files) = repository.stage().unwrap();
        let (mut objects, mut begun) = (Objects::new(repository.store()), BegunFiles::new());
        let (out, prefix) = (tempfile::tempdir().unwrap(), UNFINISHED.0);
        for entry in files.files().values().chain(files.files().values()) {
            let manifest = objects.manifest_once(entry.manifest).unwrap();
            begun.begin(entry, &manifest, (out.path(), prefix), 2).unwrap();
        }
        let entry = files.get("model.bin").unwrap();
        let manifest = objects.manifest_once(entry.manifest).unwrap();
        let ids: HashSet<Digest> = manifest.blocks().map(|block| block.span.id).collect();
        assert!(ids.len() > 6 && ids.len() < manifest.blocks().count());
        let (arrived, lacking): (Vec<_>, Vec<_>) = ids.into_iter().enumerate().partition(|(number, _)| number % 3 > 0);
        let mut block = Vec::new();
        for (_, id) in &arrived {
            BlockReader::new(repository.store()).read(&block_key(*id), &mut block).unwrap();
            begun.write(*id, &mut block).unwrap();
        }
        // What belongs nowhere, and what cannot be what it says.
        begun.write(shard_core::sha256(b"x"), &mut b"x".to_vec()).unwrap();
        begun.write(lacking[0].1, &mut b"x".to_vec()).unwrap();
        let mut parts = begun.into_parts();
        assert_eq!(parts.len(), 1, "small files are not worth it");
        let (part, source) = (parts.remove(&entry.manifest), Counted::new(repository.store()));
        assert_eq!(part.as_ref().unwrap().written, arrived.iter().map(|(_, id)| *id).collect());
        let temporary = (out.path(), prefix);
        let path = restore_file((&manifest, part), &source, false, temporary, out.path(), 2, &NoProgress).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        let read: HashSet<Digest> = source.reads().keys().map(|key| key.id).collect();
        assert_eq!(read, lacking.iter().map(|(_, id)| *id).collect());
    }
}
