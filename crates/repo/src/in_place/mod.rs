//! Versions applied in place: a folder outside of any work tree whose files become those of one commit after the other, of which only
//! the blocks that differ are written. For samplers that follow a trainer.
//!
//! What is there is proven as a chain. Ids of manifests and blocks are hashes: a block that is written was decoded and hashed to its
//! id, and one that is not was there in the version before, whose commit the new one follows. The chain begins at an anchor, where
//! every byte of every file is hashed; so it does again every so many versions, and wherever a link is missing: after a kill, and on a
//! branch that was rewritten. A file that somebody else changed is known by its size and times, and mended block by block.
//!
//! Between two versions a file is neither: who maps it into memory reads it when the note in the folder says that it is whole.

mod note;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use shard_core::{Digest, NoProgress, sha256};
use shard_formats::{FileSource, Source as _};
use shard_history::{FileEntry, FileMode};
use shard_manifest::{ContentManifest, PlacedBlock};
use shard_store::FileStat;

use crate::beneath::Place;
use crate::blocks::{AtHand, read_in_order_with};
use crate::error::{RepoError, Result, unless_damaged};
use crate::objects::{Objects, check_manifest};
use crate::refs::follows;
use crate::repository::Repository;
use crate::restore::{hash_file, restore_bytes, restore_file, write_all_at};
use crate::worktree::{set_executable, tree_mode};

pub use note::VERSION_FILE;
use note::{Left, Note};

/// A folder that versions are applied to, by nobody else while this lives.
#[derive(Debug)]
pub struct InPlace {
    folder: PathBuf,
    /// Only these files or folders of each version; all where there is none.
    paths: Vec<String>,
    note: Note,
    /// Whether something was applied since it was opened.
    is_looked_through: bool,
    _lock: File,
}

/// What applying a version came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The commit whose files are in the folder now.
    pub commit: Digest,
    /// The one whose files were there; `None` where that is not known.
    pub from: Option<Digest>,
    /// Whether every byte in the folder was proven. Otherwise those that were written were, and the others by the versions before.
    pub is_anchor: bool,
    /// Files that were changed, made or removed.
    pub files: u64,
    /// Of these, files that somebody else had changed, damaged or removed.
    pub mended: u64,
    /// Blocks that were written.
    pub blocks: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

impl InPlace {
    /// Takes a folder to apply versions to: an empty one, which is made where it is not there, or one that has had some.
    ///
    /// # Errors
    /// [`RepoError::Path`] for a folder that has other files, and while another process applies versions to it;
    /// [`RepoError::Argument`] inside the repository's own folder; what cannot be read or made.
    pub fn open(repository: &Repository, folder: &Path, paths: &[String]) -> Result<Self> {
        let folder = repository.made_outside(folder)?;
        let lock = File::open(&folder).map_err(RepoError::io("cannot be opened", &folder))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let why = "is followed by another process already".to_owned();
                return Err(RepoError::Path { path: folder, why });
            }
            // File systems that cannot lock leave that to who uses them.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let note = match Note::read(&folder)? {
            Some(note) => note,
            None => {
                let mut names = fs::read_dir(&folder).map_err(RepoError::io("cannot be listed", &folder))?;
                if names.next().is_some() {
                    let why = "has files already: versions are applied to a folder of their own".to_owned();
                    return Err(RepoError::Path { path: folder, why });
                }
                Note::default()
            }
        };
        Ok(Self { folder, paths: paths.to_vec(), note, is_looked_through: false, _lock: lock })
    }

    /// The commit whose files are there, as far as is known without reading them.
    #[must_use]
    pub fn version(&self) -> Option<Digest> {
        self.note.commit.filter(|_| self.note.is_whole)
    }

    /// Whether the files are those of a commit, as this left them, by their sizes and times.
    #[must_use]
    pub fn is_at(&self, commit: Digest) -> bool {
        self.is_looked_through
            && self.version() == Some(commit)
            && self.note.files.iter().all(|(path, left)| left.is_some_and(|left| is_as_left(&self.folder, path, &left)))
    }

    /// Makes the files those of a commit. All bytes are proven where that is the `every`th version since they were, where the last
    /// time was interrupted, and where the commit does not follow the one that is there.
    ///
    /// # Errors
    /// A path that the commit does not have; what cannot be read or written: the next time begins with what is there then.
    pub fn apply(&mut self, repository: &Repository, commit: Digest, every: u64) -> Result<Applied> {
        repository.again_if_condemned(|| self.apply_once(repository, commit, every))
    }

    fn apply_once(&mut self, repository: &Repository, commit: Digest, every: u64) -> Result<Applied> {
        fs::create_dir_all(&self.folder).map_err(RepoError::io("cannot be made", &self.folder))?;
        // What the commit leads to stays while it is read.
        let _transaction = repository.begin_move("watch", commit)?;
        let new = repository.chosen(&commit.to_hex(), &self.paths)?.1;
        if let Some(path) = new.keys().find(|path| path.starts_with(VERSION_FILE)) {
            let why = "is where it is noted what is in the folder".to_owned();
            return Err(RepoError::Path { path: path.into(), why });
        }
        let from = self.version();
        let is_linked = match from {
            Some(from) => from == commit || unless_damaged(follows(&repository.store, from, commit))?.unwrap_or(false),
            None => false,
        };
        let chained = if from == Some(commit) { self.note.chained } else { self.note.chained + 1 };
        let is_anchor = !is_linked || chained >= every;
        let mut applied = Applied { commit, from, is_anchor, files: 0, mended: 0, blocks: 0, bytes: 0 };

        let (mut next, mut todo) = (Note { commit: Some(commit), ..Note::default() }, Vec::new());
        for (path, entry) in &new {
            let left = self.note.files.get(path).copied().flatten();
            let is_left = is_linked && left.is_some_and(|left| is_as_left(&self.folder, path, &left));
            let left = left.filter(|_| is_left);
            let is_there = left.filter(|left| left.manifest == entry.manifest && left.mode == entry.mode);
            if is_there.is_none() || is_anchor {
                let is_foreign = is_linked && !is_left && self.note.files.contains_key(path);
                todo.push((path, entry, left, is_foreign));
            }
            next.files.insert(path.clone(), is_there);
        }
        let gone: Vec<String> = self.note.files.keys().filter(|path| !new.contains_key(*path)).cloned().collect();
        if !todo.is_empty() || !gone.is_empty() {
            next.files.extend(gone.iter().map(|path| (path.clone(), None)));
            next.write(&self.folder)?;
            // From here on nothing is known but what is there, whatever fails.
            self.note = next.clone();
        }
        for path in gone {
            applied.files += u64::from(Place::clear(&self.folder, &path)?);
            next.files.remove(&path);
        }
        let mut files = Files { repository, folder: &self.folder, objects: repository.objects() };
        for (path, entry, left, is_foreign) in todo {
            let before = applied.files;
            let (left, is_wrong) = files.apply(path, entry, left, &mut applied)?;
            applied.mended += u64::from(is_wrong || is_foreign && applied.files != before);
            next.files.insert(path.clone(), Some(left));
        }
        let is_same = self.note.is_whole && self.note.commit == Some(commit);
        (next.is_whole, next.chained) = (true, if is_anchor { 0 } else { chained });
        if !is_same {
            next.write(&self.folder)?;
        }
        (self.note, self.is_looked_through) = (next, true);
        Ok(applied)
    }
}

/// Whether a file is as it was left, by its size and times. What is done to it within the same tick of the clock is not seen.
fn is_as_left(folder: &Path, path: &str, left: &Left) -> bool {
    fs::symlink_metadata(folder.join(path)).is_ok_and(|metadata| FileStat::new(&metadata) == left.stat)
}

/// Files on their way to a commit.
struct Files<'a> {
    repository: &'a Repository,
    folder: &'a Path,
    objects: Objects<'a>,
}

impl Files<'_> {
    /// Makes a file what a tree says; `left` is what it is, where that is known. Says what it is then, and whether it was not that.
    fn apply(
        &mut self,
        path: &str,
        new: &FileEntry,
        left: Option<Left>,
        applied: &mut Applied,
    ) -> Result<(Left, bool)> {
        let manifest = self.objects.manifest_once(new.manifest)?;
        check_manifest(path, new, &manifest)?;
        let there = self.folder.join(path);
        let metadata = fs::symlink_metadata(&there).ok();
        let is_file = metadata.as_ref().is_some_and(fs::Metadata::is_file);
        let mut is_wrong = false;
        if new.mode == FileMode::Symlink {
            let target = restore_bytes(&manifest, &self.repository.store, path)?;
            if crate::stage::link_target(&there).ok().as_ref() != Some(&target) {
                Place::make(self.folder, path)?.link(&target)?;
                applied.files += 1;
            }
        } else if manifest.compressed.is_empty() {
            if metadata.is_some() && !is_file {
                Place::clear(self.folder, path)?;
            }
            let is_mode = metadata.is_some_and(|metadata| tree_mode(&metadata) == new.mode);
            let file = Place::make(self.folder, path)?.open()?;
            let is_changed;
            (is_changed, is_wrong) = self.write(&file, &there, (new, &manifest), left, applied)?;
            if !is_mode {
                set_executable(&file, new.mode == FileMode::Executable)
                    .map_err(RepoError::io("cannot be made executable", &there))?;
            }
            applied.files += u64::from(is_changed || !is_mode);
        } else if !is_file
            || metadata.is_some_and(|metadata| tree_mode(&metadata) != new.mode)
            || hash_file(&there).map_err(RepoError::io("cannot be read", &there))? != new.sha256
        {
            // Where its blocks are compressed they have no places of their own.
            let (temporary, prefix) = self.repository.temporary();
            let (executable, threads) = (new.mode == FileMode::Executable, self.repository.settings.workers());
            let (source, temporary) = (&self.repository.store, (temporary.as_path(), prefix.as_str()));
            let whole =
                restore_file((&manifest, None), source, executable, temporary, self.folder, threads, &NoProgress)?;
            Place::make(self.folder, path)?.put(whole)?;
            (applied.files, applied.bytes) = (applied.files + 1, applied.bytes + manifest.size);
        }
        let metadata = fs::symlink_metadata(&there).map_err(RepoError::io("cannot be read", &there))?;
        Ok((Left { manifest: new.manifest, mode: new.mode, stat: FileStat::new(&metadata) }, is_wrong))
    }

    /// Writes the blocks that are not there; says whether the file is another one then, and whether it was not what it was taken for.
    fn write(
        &mut self,
        file: &File,
        there: &Path,
        (new, manifest): (&FileEntry, &ContentManifest),
        left: Option<Left>,
        applied: &mut Applied,
    ) -> Result<(bool, bool)> {
        let problem = |source| RepoError::io("cannot be changed in place", there)(source);
        let len = file.metadata().map_err(problem)?.len();
        let old = match left.filter(|left| left.mode != FileMode::Symlink) {
            // What it was is known only as long as its manifest is.
            Some(left) => unless_damaged(self.objects.manifest_once(left.manifest))?,
            None => None,
        };
        let old = old.filter(|old| old.compressed.is_empty());
        let blocks = match &old {
            Some(old) => differing(old, manifest),
            None if len == 0 => manifest.blocks().collect(),
            None => self.unproven(there, manifest)?,
        };
        if len != manifest.size {
            file.set_len(manifest.size).map_err(problem)?;
        }
        // What a delta leans on is mostly what it is to replace.
        let places: HashMap<Digest, PlacedBlock> =
            old.iter().flat_map(ContentManifest::blocks).map(|block| (block.span.id, block)).collect();
        let source = FileSource::open(there).map_err(problem)?;
        let at_hand = |id: &Digest, bytes: &mut Vec<u8>| {
            places.get(id).is_some_and(|block| {
                bytes.resize(block.span.len as usize, 0);
                source.read_at(block.file_offset, bytes).is_ok()
            })
        };
        self.put(&blocks, Some(&at_hand), (file, there), applied)?;
        // Bytes that were not written were proven by the versions before, or are now.
        let has_unproven = applied.is_anchor || (left.is_none() && len > 0);
        let is_wrong = has_unproven && hash_file(there).map_err(problem)? != new.sha256;
        if is_wrong {
            self.put(&self.unproven(there, manifest)?, None, (file, there), applied)?;
            if hash_file(there).map_err(problem)? != new.sha256 {
                return Err(RepoError::Changed(there.to_owned()));
            }
        }
        file.sync_all().map_err(problem)?;
        Ok((!blocks.is_empty() || len != manifest.size || is_wrong, is_wrong))
    }

    /// Writes blocks to their places.
    fn put(
        &self,
        blocks: &[PlacedBlock],
        at_hand: Option<&AtHand<'_>>,
        (file, there): (&File, &Path),
        applied: &mut Applied,
    ) -> Result<()> {
        let ids: Vec<Digest> = blocks.iter().map(|block| block.span.id).collect();
        read_in_order_with(&self.repository.store, at_hand, &ids, &mut |number, bytes| {
            let Some(block) = blocks.get(number).filter(|block| block.span.len as usize == bytes.len()) else {
                return Err(RepoError::Internal("a block has another length than its place"));
            };
            write_all_at(file, bytes, block.file_offset).map_err(RepoError::io("cannot be changed in place", there))?;
            applied.blocks += 1;
            applied.bytes += bytes.len() as u64;
            Ok(())
        })
    }

    /// The blocks of a file that its bytes do not prove to be there.
    fn unproven(&self, there: &Path, manifest: &ContentManifest) -> Result<Vec<PlacedBlock>> {
        let file = FileSource::open(there).map_err(RepoError::io("cannot be read", there))?;
        let blocks: Vec<PlacedBlock> = manifest.blocks().collect();
        let is_there = |bytes: &mut Vec<u8>, block: &PlacedBlock| {
            bytes.resize(block.span.len as usize, 0);
            // What cannot be read is written anew.
            file.read_at(block.file_offset, bytes).is_ok() && sha256(bytes) == block.span.id
        };
        let proven: Vec<bool> = blocks.par_iter().map_init(Vec::new, is_there).collect();
        Ok(blocks.into_iter().zip(proven).filter(|(_, is_there)| !is_there).map(|(block, _)| block).collect())
    }
}

/// The blocks of a file that another version of it has not in the same place.
fn differing(old: &ContentManifest, new: &ContentManifest) -> Vec<PlacedBlock> {
    let mut old = old.blocks().map(|block| (block.file_offset, block.span)).peekable();
    let is_new = |block: &PlacedBlock| {
        while old.next_if(|(offset, _)| *offset < block.file_offset).is_some() {}
        old.peek() != Some(&(block.file_offset, block.span))
    };
    new.blocks().filter(is_new).collect()
}
