//! Keeping the contents of several files in one go: what is known of the ones before predicts the next.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use shard_core::{Digest, Layout, Progress};
use shard_formats::Source;
use shard_history::FileEntry;
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntrySource, Transaction};

use crate::error::Result;
use crate::objects::Objects;
use crate::parent::{EarlierFiles, MAX_CANDIDATES};
use crate::relatives::{Finder, Found as Relatives};
use crate::snapshot::{FileBatch, Input, Kept, SnapshotOptions, keep_file};

/// What paths say may predict a file: by the manifest that its path held before, and those of files with like names, likeliest
/// first.
#[derive(Default)]
pub(crate) struct Likely {
    pub(crate) before: Option<Digest>,
    pub(crate) near: Vec<Digest>,
}

pub(crate) struct Keeper<'a> {
    pub(crate) transaction: &'a Transaction,
    pub(crate) objects: Objects<'a>,
    finder: Finder<'a>,
    batch: FileBatch,
    options: SnapshotOptions,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(transaction: &'a Transaction, options: SnapshotOptions) -> Self {
        let (objects, finder) = (Objects::new(transaction), Finder::new(transaction));
        Self { transaction, objects, finder, batch: FileBatch::default(), options }
    }

    /// Stores the blocks and the manifest of a file. `place` is where it is on disk, or a place where nothing is; `likely` is asked
    /// only for files that have tensors.
    pub(crate) fn keep(
        &mut self,
        source: &dyn Source,
        place: &Path,
        likely: impl FnOnce() -> Result<Likely>,
        progress: &dyn Progress,
    ) -> Result<Kept> {
        let mut batch = std::mem::take(&mut self.batch);
        let (mut relatives, mut segments) = (Relatives::default(), 0);
        let (transaction, options) = (self.transaction, self.options);
        let earlier = |layout: &Layout| {
            if layout.tensors.is_empty() {
                return Ok(EarlierFiles::default());
            }
            let likely = likely()?;
            // What a path held before is the base of what it holds now.
            relatives = if likely.before.is_some() {
                self.finder.sample(source, layout, place)?
            } else {
                self.finder.find(source, layout, place, likely.near.first().copied())?
            };
            segments = layout.segments.len();
            self.manifests(&relatives, likely)
        };
        let kept = keep_file(
            Input { source, path: place, layout: None, mark: None },
            earlier,
            &mut batch,
            transaction,
            options,
            progress,
        )?;
        self.batch = batch;
        // Otherwise it is kept under another layout than the one that was sampled.
        if kept.manifest.segments.len() == segments {
            self.finder.remember(relatives, kept.id)?;
        }
        Ok(kept)
    }

    /// The manifests of relatives, and then of other files that may predict a new one.
    fn manifests(&mut self, relatives: &Relatives, likely: Likely) -> Result<EarlierFiles> {
        let mut earlier = EarlierFiles::default();
        let mut seen = HashSet::new();
        for relative in &relatives.relatives {
            let id = relative.manifest;
            // A sketch may outlive its manifest. Reading what is nowhere would have the index rebuilt.
            let is_there = self.transaction.locate(&EntryKey::new(EntryKind::Manifest, id))?.is_some();
            if is_there && seen.insert(id) {
                earlier.files.extend(self.unless_damaged(id)?);
            }
        }
        earlier.near = earlier.files.len();
        let likely = likely.before.into_iter().chain(likely.near).take(MAX_CANDIDATES);
        for id in likely.filter(|id| seen.insert(*id)) {
            if earlier.files.len() < MAX_CANDIDATES {
                earlier.files.extend(self.unless_damaged(id)?);
            }
        }
        Ok(earlier)
    }

    /// A manifest, if it is not damaged: what is predicts nothing.
    fn unless_damaged(&mut self, id: Digest) -> Result<Option<Arc<ContentManifest>>> {
        match self.objects.manifest(id) {
            Err(error) if error.is_damage() => Ok(None),
            manifest => manifest.map(Some),
        }
    }
}

/// The entry of a tree for a file that is kept.
pub(crate) fn entry_of(kept: &Kept, mode: shard_history::FileMode) -> FileEntry {
    FileEntry { mode, size: kept.manifest.size, sha256: kept.manifest.sha256, manifest: kept.id }
}

/// What the files of a tree may tell of one at `path`: `staged` are those kept in the same go, which come first.
pub(crate) fn likely_of<'f>(
    path: &str,
    staged: &'f BTreeMap<String, FileEntry>,
    files: impl Iterator<Item = (&'f str, &'f FileEntry)>,
) -> Likely {
    let files: BTreeMap<&str, &FileEntry> = files.collect();
    let others =
        staged.keys().map(String::as_str).chain(files.keys().copied().filter(|path| !staged.contains_key(*path)));
    let entry = |other: &str| staged.get(other).or_else(|| files.get(other).copied());
    let near = crate::parent::by_nearness(path, others);
    Likely {
        before: files.get(path).map(|entry| entry.manifest),
        near: near.into_iter().filter_map(entry).map(|entry| entry.manifest).collect(),
    }
}
