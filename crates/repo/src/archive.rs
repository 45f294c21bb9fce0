//! Archives: one portable file that holds a model or a whole series, with no repository.
//!
//! An archive is a pack whose root entry lists its files. It is closed: every base is inside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use shard_codecs::Level;
use shard_core::Progress;
use shard_core::limits::{Cut, MAX_DEPTH};
use shard_formats::FileSource;
use shard_history::{FileEntry, FileMode, natural_cmp, validate_path};
use shard_manifest::{ArchiveFile, ArchiveRoot, ContentManifest, Lossy, ObjectError, StorageManifest};
use shard_store::{ArchiveReader, ArchiveWriter, EntryKey, EntryKind, FileStat};

use crate::base_chain::ChainLimits;
use crate::checkout::{place_all, prepare_all};
use crate::error::{RepoError, Result};
use crate::inspect::storage_manifest;
use crate::lossy::{LossyBound, Outcome, Rounded};
use crate::objects::Objects;
use crate::parent::MAX_CANDIDATES;
use crate::repository::Settings;
use crate::snapshot::{FileBatch, Input, Kept, SnapshotCost, SnapshotOptions, keep_file, put_object};
use crate::verify::{VerifyReport, verify_source, with_sources};
use crate::worktree::{REPOSITORY_DIR, UNFINISHED, is_unfinished, tree_mode};

/// How to pack.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackOptions {
    /// Whether an archive that is there is replaced.
    pub force: bool,
    /// The most bases that a block may have on its way to a keyframe, 0 to 8, whatever it takes to decode them. `None` is the
    /// default rule: any version restores in about three times a keyframe's time at most, or at the highest level 8.
    pub depth: Option<u32>,
    /// Whether the files are rounded before they are packed, and how far an element may be off. `None`, as nothing else asks for
    /// approximations: every file is packed as it is.
    pub lossy: Option<LossyBound>,
}

impl PackOptions {
    pub(crate) fn chains(&self, level: Level) -> Result<ChainLimits> {
        match self.depth {
            None => Ok(ChainLimits::of_level(level)),
            Some(depth) if depth <= MAX_DEPTH => Ok(ChainLimits::of_depth(depth)),
            Some(depth) => {
                Err(RepoError::Argument(format!("chains of {depth} bases: readers follow {MAX_DEPTH} at most")))
            }
        }
    }
}

/// A file that was packed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Its path in the archive.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// By how many bytes it made the archive grow, everything counted but the archive's own list of entries.
    pub growth: u64,
    /// What its content cost.
    pub cost: SnapshotCost,
    /// Why a file that looked like a model is kept as opaque bytes.
    pub note: Option<String>,
    /// What was packed in its place, where it was rounded.
    pub lossy: Option<Lossy>,
    /// Why its tensors were not rounded, where that was asked.
    pub exact: Option<&'static str>,
}

/// What `pack` did.
#[derive(Debug, Clone)]
pub struct PackReport {
    /// The files, in series order.
    pub files: Vec<Packed>,
    /// Length of the archive in bytes.
    pub size: u64,
}

/// Packs files, in the order of a series, into one new archive. Folders are taken whole, in natural order of their files'
/// paths. Nothing is at `out` before everything is durable there. With `options.lossy` approximations of the files are packed, which
/// are marked as such.
///
/// # Errors
/// A file that cannot be read, a path that comes twice, `out` that exists (unless `force`), or what the file system says.
pub fn pack(
    files: &[PathBuf],
    out: &Path,
    options: &PackOptions,
    settings: Settings,
    progress: &dyn Progress,
) -> Result<PackReport> {
    let (force, chains) = (options.force, options.chains(settings.level)?);
    if !force && fs::symlink_metadata(out).is_ok() {
        let paths = vec![out.display().to_string()];
        return Err(RepoError::WouldOverwrite { what: "there is a file already", paths });
    }
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(RepoError::Io { path: folder.to_owned(), doing: "there is no such folder", source });
    }
    let inputs = inputs(files, Some(out))?;
    let sizes = inputs.iter().filter_map(|(_, place)| fs::metadata(place).ok()).map(|metadata| metadata.len());
    // To round tensors they are read twice before.
    let total = sizes.sum::<u64>() * if options.lossy.is_some() { 3 } else { 1 };
    progress.begin("packing", Some(total));
    let writer = ArchiveWriter::create(out)?;
    let lossy = options.lossy;
    let options = SnapshotOptions::new(Cut::V1, settings, chains);
    let mut root = ArchiveRoot::default();
    let mut report = Vec::new();
    let mut series: Vec<Arc<ContentManifest>> = Vec::new();
    let mut batch = FileBatch::default();
    for (path, place) in inputs {
        let before = writer.len();
        let read = |error| RepoError::io("cannot read", &place)(error);
        let metadata = fs::metadata(&place).map_err(read)?;
        let source = FileSource::open(&place).map_err(read)?;
        let outcome = match lossy {
            Some(bound) => Rounded::of(&source, &batch.layout(&source, &place)?, bound, progress).map_err(read)?,
            None => Outcome::Same,
        };
        let (input, exact) = match &outcome {
            Outcome::Rounded(rounded) => {
                (Input { source: rounded, path: &place, layout: None, mark: Some(&rounded.mark) }, None)
            }
            Outcome::Same => (Input { source: &source, path: &place, layout: None, mark: None }, None),
            Outcome::Untouched(why) => (Input { source: &source, path: &place, layout: None, mark: None }, Some(*why)),
        };
        let earlier = |_: &_| Ok(series.clone().into());
        let Kept { manifest, id, cost, note } = keep_file(input, earlier, &mut batch, &writer, options, progress)?;
        let now = fs::metadata(&place).map_err(read)?;
        if manifest.size != metadata.len() || FileStat::new(&now) != FileStat::new(&metadata) {
            return Err(RepoError::Changed(place));
        }
        let storage = storage_manifest(&writer, id, &manifest)?;
        let storage = storage.to_bytes().map_err(|error| RepoError::manifest(&place)(error.into()))?;
        root.files.push(ArchiveFile {
            path: path.clone(),
            mode: tree_mode(&metadata).as_str().to_owned(),
            size: manifest.size,
            sha256: manifest.sha256,
            manifest: id,
            storage: put_object(&writer, EntryKind::Storage, &storage)?,
            record: None,
            extra: Default::default(),
        });
        let growth = writer.len() - before;
        let lossy = input.mark.cloned();
        report.push(Packed { path, size: manifest.size, growth, cost, note, lossy, exact });
        if !manifest.tensors.is_empty() {
            series.insert(0, Arc::new(manifest));
            series.truncate(MAX_CANDIDATES);
        }
    }
    put_object(&writer, EntryKind::Archive, &root.to_bytes().map_err(|error| RepoError::manifest(out)(error.into()))?)?;
    let (_, size) = writer.finish(force)?;
    progress.finish();
    Ok(PackReport { files: report, size })
}

/// An archive, opened.
pub struct Archive {
    reader: ArchiveReader,
    /// What it holds.
    pub root: ArchiveRoot,
}

impl Archive {
    /// Opens an archive and reads its list of files.
    ///
    /// # Errors
    /// A file that is no archive, or a damaged one.
    pub fn open(path: &Path) -> Result<Self> {
        // Opening a pipe would wait for a writer that never comes.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(RepoError::Path {
                path: path.to_owned(),
                why: "is not a file, so it is no archive".to_owned(),
            });
        }
        let reader = ArchiveReader::open(path)?;
        let roots = reader.keys(EntryKind::Archive);
        let [EntryKey { id, .. }] = roots[..] else {
            let why = "is a pack, but not an archive: it has no list of files".to_owned();
            return Err(RepoError::Path { path: path.to_owned(), why });
        };
        let mut objects = Objects::new(&reader);
        let bytes = objects.bytes(EntryKind::Archive, id)?;
        let root = ArchiveRoot::from_bytes(bytes).map_err(|source| RepoError::Object {
            what: "archive",
            id,
            source: source.into(),
        })?;
        Ok(Self { reader, root })
    }

    /// Restores every file below `folder`, and gives their paths and sizes.
    ///
    /// # Errors
    /// A damaged archive, a path that would leave the folder, files that exist (unless `force`), or what the file system
    /// says.
    pub fn unpack(
        &self,
        folder: &Path,
        force: bool,
        settings: Settings,
        progress: &dyn Progress,
    ) -> Result<Vec<(String, u64)>> {
        let mut files = BTreeMap::new();
        for file in &self.root.files {
            validate_path(&file.path).map_err(|error| RepoError::Path {
                path: file.path.clone().into(),
                why: format!("cannot be restored: {error}"),
            })?;
            let mode = FileMode::ALL.into_iter().find(|mode| mode.as_str() == file.mode).ok_or_else(|| {
                RepoError::Path { path: file.path.clone().into(), why: format!("has an unknown mode, {:?}", file.mode) }
            })?;
            let entry = FileEntry { mode, size: file.size, sha256: file.sha256, manifest: file.manifest };
            files.insert(file.path.clone(), entry);
        }
        fs::create_dir_all(folder).map_err(RepoError::io("cannot create", folder))?;
        let taken = files.keys().filter(|path| fs::symlink_metadata(folder.join(path)).is_ok());
        let taken: Vec<String> = taken.take(10).cloned().collect();
        if !force && !taken.is_empty() {
            return Err(RepoError::WouldOverwrite { what: "files would be overwritten", paths: taken });
        }
        let temporary = (folder, UNFINISHED.0);
        let wanted = files.iter().collect();
        let ready = prepare_all(&self.reader, &wanted, folder, temporary, settings.workers(), progress)?;
        place_all(ready, folder)
    }

    /// How far one of its files is from the one that was given; `None` where it is that one. The inner error is that of a mark that is
    /// malformed: the file is marked all the same.
    ///
    /// # Errors
    /// A damaged archive.
    pub fn lossy(&self, file: &ArchiveFile) -> Result<std::result::Result<Option<Lossy>, ObjectError>> {
        Ok(Objects::new(&self.reader).manifest(file.manifest)?.lossy())
    }

    /// How the blocks of one of its files are stored.
    ///
    /// # Errors
    /// A damaged archive.
    pub fn storage(&self, file: &ArchiveFile) -> Result<StorageManifest> {
        let manifest = Objects::new(&self.reader).manifest(file.manifest)?;
        storage_manifest(&self.reader, file.manifest, &manifest)
    }

    /// Decodes and hashes every entry and every file.
    ///
    /// # Errors
    /// Only what keeps it from looking; what is wrong with the archive is in the report.
    pub fn verify(&self, progress: &dyn Progress) -> Result<VerifyReport> {
        let manifests = self.root.files.iter().map(|file| (file.path.clone(), file.manifest, file.sha256)).collect();
        let mut report = verify_source(&self.reader, manifests, progress)?;
        for file in &self.root.files {
            let problem = match self.lossy(file) {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(lossy))) => {
                    report.warnings.push(format!("{} is {lossy}", file.path));
                    continue;
                }
                Ok(Err(error)) => format!("{}: marked as lossy, but its mark is malformed: {error}", file.path),
                // Mostly it is among the problems already.
                Err(error) => format!("{}: {}", file.path, with_sources(&error)),
            };
            if !report.problems.contains(&problem) {
                report.problems.push(problem);
            }
        }
        Ok(report)
    }
}

/// The files that would be in an archive at `out`, in its order: their paths in it, and their places.
pub(crate) fn inputs(files: &[PathBuf], out: Option<&Path>) -> Result<Vec<(String, PathBuf)>> {
    let mut inputs = Vec::new();
    for given in files {
        collect(given, &archive_path(given)?, out, &mut inputs)?;
    }
    if let Some((_, place)) = inputs.iter().find(|(_, place)| is_output(place, out)) {
        return Err(RepoError::Argument(format!("{} cannot be packed into itself", place.display())));
    }
    if inputs.is_empty() {
        return Err(RepoError::NothingToDo("there is no file to pack".to_owned()));
    }
    let mut names = BTreeSet::new();
    if let Some((path, _)) = inputs.iter().find(|(path, _)| !names.insert(path.clone())) {
        return Err(RepoError::Argument(format!("two files would be {path:?} in the archive")));
    }
    Ok(inputs)
}

/// The path that a file given by a user has in an archive: as given where it is relative and stays below the current
/// folder, else its last part.
fn archive_path(given: &Path) -> Result<String> {
    let refuse = |why: &str| RepoError::Path { path: given.to_owned(), why: why.to_owned() };
    let mut parts = Vec::new();
    let mut is_plain = true;
    for part in given.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| refuse("is not valid UTF-8"))?),
            Component::CurDir => {}
            _ => is_plain = false,
        }
    }
    if !is_plain {
        parts.drain(..parts.len().saturating_sub(1));
    }
    Ok(parts.join("/"))
}

/// Adds a file, or every file of a folder, to the list of what is to be packed.
fn collect(place: &Path, path: &str, out: Option<&Path>, inputs: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let metadata = fs::metadata(place).map_err(RepoError::io("cannot read", place))?;
    if !metadata.is_dir() {
        validate_path(path).map_err(|error| RepoError::Path { path: place.to_owned(), why: error.to_string() })?;
        inputs.push((path.to_owned(), place.to_owned()));
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(place).map_err(RepoError::io("cannot list", place))? {
        let entry = entry.map_err(RepoError::io("cannot list", place))?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| RepoError::Path { path: entry.path(), why: "is not valid UTF-8".to_owned() })?;
        let is_output = is_output(&entry.path(), out);
        // A link to a folder may lead back to where it is.
        let is_linked_folder = entry.path().is_symlink() && entry.path().is_dir();
        if !is_output && !is_linked_folder && name != REPOSITORY_DIR && name != ".git" && !is_unfinished(&name) {
            names.push(name);
        }
    }
    names.sort_by(|a, b| natural_cmp(a, b));
    for name in names {
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        collect(&place.join(&name), &below, out, inputs)?;
    }
    Ok(())
}

fn is_output(place: &Path, out: Option<&Path>) -> bool {
    out.is_some_and(|out| matches!((place.canonicalize(), out.canonicalize()), (Ok(a), Ok(b)) if a == b))
}
