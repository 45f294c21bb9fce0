//! `checkout --tensor`: single tensors of a revision come back into the files of the work tree, and all else in them stays.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use shard_core::text::visible;
use shard_core::{Digest, Progress, TensorView};
use shard_formats::FileSource;
use shard_history::glob::Glob;
use shard_history::{FileEntry, FileMode};
use shard_manifest::ContentManifest;
use tempfile::TempPath;

use crate::approx::has_checksums;
use crate::beneath::Place;
use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::restore::temporary_file;
use crate::worktree::UNFINISHED;

/// What `checkout --tensor` did.
#[derive(Debug, Clone)]
pub struct TensorCheckout {
    /// The commit that the tensors are from.
    pub commit: Digest,
    /// Files by path, and the tensors that were put into each.
    pub files: Vec<(String, Vec<String>)>,
}

impl Repository {
    /// Puts tensors of a revision whose names match into the files of the work tree, of all files or of those at or below `paths`,
    /// over what is there. The stage stays as it is.
    ///
    /// # Errors
    /// A file of the work tree that has no tensor of that name, type and shape, or whose format keeps checksums of its tensors,
    /// before anything is touched; [`RepoError::NothingToDo`] where no tensor matches; an unknown revision; damaged data.
    pub fn checkout_tensors(
        &self,
        revision: &str,
        paths: &[PathBuf],
        pattern: &Glob,
        progress: &dyn Progress,
    ) -> Result<TensorCheckout> {
        let tracked = paths.iter().map(|path| self.tracked_path(path)).collect::<Result<Vec<_>>>()?;
        let (commit, chosen) = self.chosen(revision, &tracked)?;
        let transaction = self.store.begin("checkout")?;
        let mut objects = self.objects();
        let mut ready: Vec<(String, Vec<String>, TempPath)> = Vec::new();
        let wanted: BTreeMap<String, FileEntry> =
            chosen.into_iter().filter(|(_, entry)| entry.mode != FileMode::Symlink).collect();
        for (path, entry) in &wanted {
            let manifest = objects.manifest_once(entry.manifest)?;
            let tensors: Vec<&TensorView> =
                manifest.tensors.iter().filter(|view| pattern.matches(&view.name)).collect();
            if !tensors.is_empty() {
                let file = self.splice(path, &manifest, &tensors, progress)?;
                let names = tensors.iter().map(|view| view.name.clone()).collect();
                ready.push((path.clone(), names, file));
            }
        }
        if ready.is_empty() {
            let what = format!("no tensor of {revision} has a name like {:?}", pattern.as_str());
            return Err(RepoError::NothingToDo(what));
        }
        let mut files = Vec::with_capacity(ready.len());
        for (path, names, file) in ready {
            Place::make(self.work()?.root(), &path)?.put(file)?;
            files.push((path, names));
        }
        drop(transaction);
        Ok(TensorCheckout { commit, files })
    }

    /// A copy of a file of the work tree that has these tensors of a manifest.
    fn splice(
        &self,
        path: &str,
        manifest: &ContentManifest,
        tensors: &[&TensorView],
        progress: &dyn Progress,
    ) -> Result<TempPath> {
        let place = self.work()?.place(path);
        let refuse = |why: String| RepoError::Path { path: place.clone(), why };
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(refuse("is no file".to_owned())),
            Err(error) => return Err(RepoError::io("cannot read", &place)(error)),
        }
        // Through a link it would be another file. Since it is there, no folder has to be made.
        Place::make(self.work()?.root(), path)?;
        let source = FileSource::open(&place).map_err(RepoError::io("cannot read", &place))?;
        let layout = shard_formats::parse_file(&place, &source).map_err(RepoError::io("cannot read", &place))?.layout;
        if has_checksums(manifest) || layout.format != manifest.format || !layout.compressed.is_empty() {
            let why = "single tensors are only put into formats that have no checksums of them: check out the file";
            return Err(refuse(why.to_owned()));
        }
        let starts = layout.segment_offsets();
        let mut places = Vec::with_capacity(tensors.len());
        for view in tensors {
            let same = |other: &&TensorView| other.name == view.name;
            let there = layout
                .tensors
                .iter()
                .find(same)
                .ok_or_else(|| refuse(format!("has no tensor {:?}: check out the file", visible(&view.name))))?;
            if (there.dtype, &there.shape, &there.strides) != (view.dtype, &view.shape, &view.strides) {
                let name = visible(&view.name);
                return Err(refuse(format!("has {name:?} in another type or shape: check out the file")));
            }
            let start = starts.get(there.segment).copied().unwrap_or(0);
            places.push(start + there.offset);
        }
        let copy = temporary_file(self.root(), UNFINISHED.0).map_err(RepoError::io("cannot write beside", &place))?;
        let copy = copy.into_temp_path();
        // The system copies without reading where the file system shares blocks; permissions come along.
        fs::copy(&place, &copy).map_err(RepoError::io("cannot be copied", &place))?;
        let mut file = File::options().write(true).open(&copy).map_err(RepoError::io("cannot write", &copy))?;
        self.bring_blocks(tensors.iter().flat_map(|view| manifest.tensor_blocks(view).0).map(|span| span.id))?;
        let mut reader = BlockReader::new(&self.store);
        progress.begin("writing", Some(tensors.iter().filter_map(|view| view.byte_len()).sum()));
        let mut bytes = Vec::new();
        for (view, place) in tensors.iter().zip(places) {
            let (blocks, mut at) = manifest.tensor_blocks(view);
            let end = view.offset.saturating_add(view.byte_len().unwrap_or(0));
            file.seek(SeekFrom::Start(place)).map_err(RepoError::io("cannot write", &copy))?;
            for span in blocks {
                reader.read(&block_key(span.id), &mut bytes)?;
                let len = bytes.len() as u64;
                let (from, to) = (view.offset.saturating_sub(at).min(len), end.saturating_sub(at).min(len));
                let part = bytes.get(from as usize..to as usize).ok_or(RepoError::BadBase { block: span.id })?;
                file.write_all(part).map_err(RepoError::io("cannot write", &copy))?;
                progress.advance(part.len() as u64);
                at += u64::from(span.len);
            }
        }
        progress.finish();
        Ok(copy)
    }
}
