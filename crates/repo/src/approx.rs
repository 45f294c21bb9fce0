//! Files about as they are, from the first layers of their blocks alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use shard_codecs::Deviation;
use shard_core::{Digest, Progress, Sha256};
use shard_history::{FileEntry, FileMode};
use shard_manifest::{ContentManifest, PlacedBlock};
use shard_store::EntrySource;

use crate::blocks::{BlockReader, Coarse, block_key};
use crate::checkout::{CheckoutOptions, Ready, place_all, prepare_all, refuse_taken};
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::Repository;
use crate::restore::temporary_file;
use crate::worktree::{UNFINISHED, set_executable};

/// What is added to the name of an approximated file for the file that says so.
pub const APPROX_MARK: &str = ".approx.json";

/// Formats whose files have no checksums.
const PLAIN: &[&str] = &["gguf", "npy", "onnx", "onnx-data", "safetensors", "tflite"];

/// A tensor that is not exact.
#[derive(Debug, Clone, PartialEq)]
pub struct ApproxTensor {
    /// Its name.
    pub name: String,
    /// The largest error of an element, in the unit of the tensor.
    pub max_error: f32,
    /// The root of the mean square of all errors.
    pub rms_error: f64,
}

/// A file that was written.
#[derive(Debug, Clone)]
pub struct ApproxFile {
    /// Its path below the folder.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of the exact file.
    pub exact: Digest,
    /// SHA-256 of what was written.
    pub written: Digest,
    /// Bytes of stored blocks that it takes, of which bases are not counted.
    pub needed: u64,
    /// Bytes of stored blocks that the exact file takes.
    pub stored: u64,
    /// The tensors that are not exact.
    pub tensors: Vec<ApproxTensor>,
}

impl ApproxFile {
    /// Whether it is the file to the bit.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact == self.written
    }

    /// The mark that lies beside a file that is not exact, as [`APPROX_MARK`] says.
    #[must_use]
    pub fn mark(&self, commit: Digest) -> Value {
        let tensors: Map<String, Value> = self
            .tensors
            .iter()
            .map(|tensor| {
                let error =
                    json!({"max_error": finite(tensor.max_error.into()), "rms_error": finite(tensor.rms_error)});
                (tensor.name.clone(), error)
            })
            .collect();
        json!({
            "approximation_of": self.exact.to_hex(),
            "commit": commit.to_hex(),
            "path": self.path,
            "sha256": self.written.to_hex(),
            "size": self.size,
            "tensors": tensors,
        })
    }
}

/// JSON has no infinity.
fn finite(error: f64) -> Value {
    if error.is_finite() { json!(error) } else { json!("infinite") }
}

/// What [`Repository::export_approx`] did.
#[derive(Debug, Clone)]
pub struct ApproxReport {
    /// The commit.
    pub commit: Digest,
    /// The files.
    pub files: Vec<ApproxFile>,
}

impl Repository {
    /// Writes files of a revision (all, or those at or below `paths`) into a folder outside of the work tree's care, from the first
    /// layers of their blocks where these have two: about as they are. Beside each that is not exact lies a file that says so, and
    /// how far its tensors are off: see [`APPROX_MARK`].
    ///
    /// # Errors
    /// As [`Self::export`].
    pub fn export_approx(
        &self,
        text: &str,
        paths: &[String],
        folder: &Path,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<ApproxReport> {
        self.refuse_own(folder)?;
        fs::create_dir_all(folder).map_err(RepoError::io("cannot create", folder))?;
        let (commit, chosen) = self.chosen(text, paths)?;
        let is_mark = |path: &&String| {
            let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
            let mut marked = ends.filter_map(|end| path.get(..end)?.strip_suffix(APPROX_MARK));
            marked.any(|of| chosen.contains_key(of))
        };
        if let Some(path) = chosen.keys().find(is_mark) {
            let why = "has the name of the mark of an approximation";
            return Err(RepoError::Approximation { path: path.into(), why });
        }
        let marks = chosen.keys().map(|path| format!("{path}{APPROX_MARK}"));
        let names: Vec<String> = chosen.keys().cloned().chain(marks).collect();
        refuse_taken(names.iter(), folder, options)?;
        let mut objects = Objects::new(self.store());
        let (mut files, mut ready) = (Vec::new(), Vec::new());
        progress.begin("writing", Some(chosen.values().map(|entry| entry.size).sum()));
        for (path, entry) in &chosen {
            let manifest = objects.manifest_once(entry.manifest)?;
            if entry.mode == FileMode::Symlink || has_checksums(&manifest) {
                let wanted = BTreeMap::from([(path, entry)]);
                let threads = self.settings.workers();
                ready.extend(prepare_all(self.store(), &wanted, folder, (folder, UNFINISHED.0), threads, progress)?);
                let (size, exact) = (entry.size, entry.sha256);
                let path = path.clone();
                files.push(ApproxFile { path, size, exact, written: exact, needed: 0, stored: 0, tensors: Vec::new() });
                continue;
            }
            let (file, written) = self.write_approx(path, entry, &manifest, folder, progress)?;
            // The mark is there before what it marks.
            if !file.is_exact() {
                let mark = serde_json::to_vec_pretty(&file.mark(commit)).unwrap_or_default();
                ready.push(mark_file(&format!("{path}{APPROX_MARK}"), &mark, folder)?);
            }
            ready.push(written);
            files.push(file);
        }
        progress.finish();
        place_all(ready, folder)?;
        for file in files.iter().filter(|file| file.is_exact()) {
            let stale = folder.join(format!("{}{APPROX_MARK}", file.path));
            match fs::remove_file(&stale) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(RepoError::io("cannot be removed", &stale)(error));
                }
                _ => {}
            }
        }
        Ok(ApproxReport { commit, files })
    }

    /// Refuses a folder in the work tree, or below it: what lies there is committed as it is.
    fn refuse_own(&self, folder: &Path) -> Result<()> {
        if self.is_away() {
            return Ok(());
        }
        let real = |path: &Path| fs::canonicalize(path).map_err(RepoError::io("cannot be found", path));
        let own = [real(self.root())?, real(&self.dir())?];
        let absolute = std::path::absolute(folder).map_err(RepoError::io("cannot be found", folder))?;
        let there = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(&absolute);
        let given = real(there)?;
        if own.iter().any(|own| given.starts_with(own)) {
            let why = "is in the repository's own folders, where an approximation could be committed for the model";
            return Err(RepoError::Approximation { path: folder.to_owned(), why });
        }
        Ok(())
    }

    fn write_approx(
        &self,
        path: &str,
        entry: &FileEntry,
        manifest: &ContentManifest,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(ApproxFile, Ready)> {
        if manifest.size != entry.size || manifest.sha256 != entry.sha256 {
            let (expected, found) = (entry.sha256, manifest.sha256);
            return Err(RepoError::WrongFile { path: path.to_owned(), expected, found });
        }
        let mut temporary =
            temporary_file(folder, UNFINISHED.0).map_err(RepoError::io("cannot create a temporary file", folder))?;
        let (mut hash, mut needed, mut stored) = (Sha256::new(), 0, 0);
        let mut off: BTreeMap<usize, Deviation> = BTreeMap::new();
        let blocks: Vec<PlacedBlock> = manifest.blocks().collect();
        for batch in blocks.chunks(2 * self.settings.workers()) {
            for (block, read) in batch.iter().zip(read_coarse(self.store(), batch)?) {
                let (bytes, coarse) = read;
                if bytes.len() != block.span.len as usize {
                    return Err(RepoError::BadBase { block: block.span.id });
                }
                if let Some(deviation) = coarse.deviation {
                    off.entry(block.segment).or_default().add(deviation);
                }
                needed += coarse.needed;
                stored += coarse.stored;
                hash.update(&bytes);
                temporary.write_all(&bytes).map_err(RepoError::io("cannot write", temporary.path()))?;
                progress.advance(bytes.len() as u64);
            }
        }
        let executable = entry.mode == FileMode::Executable;
        set_executable(temporary.as_file(), executable).map_err(RepoError::io("cannot be made executable", folder))?;
        let written = hash.finish();
        if off.is_empty() && written != entry.sha256 {
            return Err(RepoError::WrongFile { path: path.to_owned(), expected: entry.sha256, found: written });
        }
        let tensors = manifest.tensors.iter().filter_map(|tensor| {
            let deviation = off.get(&tensor.segment)?;
            let len = manifest.segments.get(tensor.segment)?.len;
            let words = (len / tensor.dtype.word_bytes() as u64).max(1);
            Some(ApproxTensor {
                name: tensor.name.clone(),
                max_error: deviation.max,
                rms_error: (deviation.squares / words as f64).sqrt(),
            })
        });
        let file = ApproxFile {
            path: path.to_owned(),
            size: entry.size,
            exact: entry.sha256,
            written,
            needed,
            stored,
            tensors: tensors.collect(),
        };
        Ok((file, Ready::file(path, entry.size, temporary.into_temp_path())))
    }
}

/// Whether readers of a file would miss what is exact: compressed members would not have their length, and members of zip archives,
/// HDF5 and TensorFlow's files have checksums.
pub(crate) fn has_checksums(manifest: &ContentManifest) -> bool {
    let is_plain = PLAIN.contains(&manifest.format.as_str());
    !manifest.compressed.is_empty() || !is_plain
}

/// Reads blocks side by side.
fn read_coarse(source: &dyn EntrySource, blocks: &[PlacedBlock]) -> Result<Vec<(Vec<u8>, Coarse)>> {
    let read = |reader: &mut BlockReader<'_>, block: &PlacedBlock| {
        let mut out = Vec::new();
        reader.read_coarse(&block_key(block.span.id), &mut out).map(|coarse| (out, coarse))
    };
    blocks.par_iter().map_init(|| BlockReader::new(source), read).collect()
}

fn mark_file(path: &str, bytes: &[u8], folder: &Path) -> Result<Ready> {
    let mut file =
        temporary_file(folder, UNFINISHED.0).map_err(RepoError::io("cannot create a temporary file", folder))?;
    file.write_all(bytes).map_err(RepoError::io("cannot write", file.path()))?;
    Ok(Ready::file(path, bytes.len() as u64, file.into_temp_path()))
}
