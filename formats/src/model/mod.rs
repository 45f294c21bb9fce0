//! One logical model: a file, a directory, an index with its shards, or an ONNX model with the files of its data.
//!
//! An index of safetensors (`*.safetensors.index.json`) or PyTorch (`*.bin.index.json`) is
//! `{"metadata": …, "weight_map": {tensor: file}}`; one of a TensorFlow checkpoint (`X.index`) is a table beside its data
//! (`X.data-00000-of-00001`). The files that an index or a model names, and those of a directory, never lie outside the
//! directory, symbolic links followed.

mod index;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use shard_core::{Layout, TensorView};
use thiserror::Error;

use crate::format::Format;
use crate::onnx::{MAX_FIELDS, Onnx};
use crate::sidecar::{self, DataFile, Directory, Neighbours, ONNX_DATA, Unresolved};
use crate::source::FileSource;
use crate::{Parsed, tensorflow};

pub use index::MAX_INDEX;
use index::shard_names;

/// How the name of an index ends.
pub const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// The index that is taken where a directory has several.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// How the name of an index of PyTorch's files ends.
pub const PYTORCH_INDEX_SUFFIX: &str = ".bin.index.json";

/// The index of PyTorch's files that is taken where a directory has several.
pub const PYTORCH_INDEX_NAME: &str = "pytorch_model.bin.index.json";

/// How the name of the index of a TensorFlow checkpoint ends.
const CHECKPOINT_SUFFIX: &str = ".index";

/// Most data files of a TensorFlow checkpoint: their names have five digits.
const MAX_SHARDS: u64 = 100_000;

/// Why a path is not a model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A file or directory could not be read.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// An index that cannot be used.
    #[error("{path} is not a usable index: {message}", path = path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A shard's name that is not a plain relative path, or that leads out of the model's directory.
    #[error("{name:?} is not a file inside {directory}", directory = directory.display())]
    Outside {
        /// The model's directory.
        directory: PathBuf,
        /// The shard, as the index or the directory names it.
        name: String,
    },
    /// A shard that the index names and the directory lacks.
    #[error("{index} names the shard {name:?}, which is missing", index = index.display())]
    MissingShard {
        /// The index.
        index: PathBuf,
        /// The shard, as the index names it.
        name: String,
    },
    /// A directory with several indexes or several ONNX models that have no data in common, none of them of the usual name
    /// ([`INDEX_NAME`], `model.onnx` and the like).
    #[error("{directory} has several models: {names}; name one of them", directory = directory.display(), names = names.join(", "))]
    Ambiguous {
        /// The directory.
        directory: PathBuf,
        /// The indexes or models.
        names: Vec<String>,
    },
    /// A directory without a file that is known for a model by its name.
    #[error("{directory} holds no model: no safetensors, PyTorch weights, ONNX or TensorFlow checkpoint", directory = directory.display())]
    Empty {
        /// The directory.
        directory: PathBuf,
    },
}

/// A file of a model.
#[derive(Debug)]
pub struct Part {
    /// Where the file is.
    pub path: PathBuf,
    /// Its layout.
    pub parsed: Parsed,
    /// The path that was opened: without symbolic links, so that a link changed later is not followed.
    resolved: PathBuf,
    offsets: Vec<u64>,
}

impl Part {
    fn open(path: PathBuf, resolved: PathBuf, neighbours: &Neighbours) -> Result<Self, ModelError> {
        let opened = FileSource::open(&resolved).and_then(|source| neighbours.parse_file(&path, &source));
        let parsed = opened.map_err(|error| ModelError::Io { path: path.clone(), error })?;
        let offsets = parsed.layout.segment_offsets();
        Ok(Self { path, parsed, resolved, offsets })
    }

    fn set_layout(&mut self, layout: Layout) {
        self.offsets = layout.segment_offsets();
        self.parsed = Parsed { layout, note: None };
    }

    /// Opens the file again, to read it.
    ///
    /// # Errors
    /// As [`FileSource::open`].
    pub fn source(&self) -> io::Result<FileSource> {
        FileSource::open(&self.resolved)
    }

    /// Where a tensor of this part lies in its file: (offset, length), in bytes. `None` for a view of another layout.
    #[must_use]
    pub fn tensor_range(&self, tensor: &TensorView) -> Option<(u64, u64)> {
        let start = self.offsets.get(tensor.segment)?.checked_add(tensor.offset)?;
        Some((start, tensor.byte_len()?))
    }
}

/// A model: one file or several.
#[derive(Debug)]
pub struct LogicalModel {
    /// The index, where there is one.
    pub index: Option<PathBuf>,
    /// The files; those of an index or a directory in the order of their names, an ONNX model before its data.
    pub parts: Vec<Part>,
}

impl LogicalModel {
    /// Opens a file (of any format), an index with its shards, an ONNX model with the files of its data, or a directory.
    ///
    /// # Errors
    /// [`ModelError`]; what the files contain is never an error (see [`parse`](crate::parse)), what they say of other files may be.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let metadata = path.metadata().map_err(|error| ModelError::Io { path: path.to_owned(), error })?;
        if metadata.is_dir() {
            return Self::open_directory(path);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(INDEX_SUFFIX) || name.ends_with(PYTORCH_INDEX_SUFFIX) {
            return Self::open_index(path.to_owned(), path);
        }
        if let Some(prefix) = name.strip_suffix(CHECKPOINT_SUFFIX)
            && let Some(model) = Self::open_checkpoint(path, path, prefix)?
        {
            return Ok(model);
        }
        let mut parts = vec![Part::open(path.to_owned(), path.to_owned(), &Neighbours::default())?];
        add_external(&mut parts)?;
        Ok(Self { index: None, parts })
    }

    /// Every tensor: its name, the index of its part, and the view into that part's layout. In file order, part by part.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, usize, &TensorView)> {
        self.parts.iter().enumerate().flat_map(|(index, part)| {
            part.parsed.layout.tensors.iter().map(move |tensor| (tensor.name.as_str(), index, tensor))
        })
    }

    /// The first that there is: an index of safetensors, files of safetensors, an index of PyTorch, files of PyTorch's weights,
    /// an ONNX model or several that share files of data, a TensorFlow checkpoint.
    fn open_directory(path: &Path) -> Result<Self, ModelError> {
        let directory = Directory::new(path).map_err(|error| ModelError::Io { path: path.to_owned(), error })?;
        let names = file_names(path)?;
        let with = |is: &dyn Fn(&str) -> bool| names.iter().filter(|name| is(name)).cloned().collect::<Vec<_>>();
        let weights = |name: &str| name.ends_with(".bin") && name.contains("pytorch_model");
        let index_of = |suffix: &'static str| move |name: &str| name.ends_with(suffix);
        let one = |found: Vec<String>, preferred: &str| match found.as_slice() {
            [] => Ok(None),
            [name] => Ok(Some(name.clone())),
            names if names.iter().any(|name| name == preferred) => Ok(Some(preferred.to_owned())),
            _ => Err(ModelError::Ambiguous { directory: path.to_owned(), names: found }),
        };
        let safetensors = |name: &str| name.ends_with(".safetensors");
        for (suffix, preferred, files) in
            [(INDEX_SUFFIX, INDEX_NAME, with(&safetensors)), (PYTORCH_INDEX_SUFFIX, PYTORCH_INDEX_NAME, with(&weights))]
        {
            if let Some(name) = one(with(&index_of(suffix)), preferred)? {
                let (index, resolved) = resolve(&directory, path, &name, None)?;
                return Self::open_index(index, &resolved);
            }
            if !files.is_empty() {
                return Ok(Self { index: None, parts: open_all(&directory, path, &files, None)? });
            }
        }
        let models = with(&|name| name.ends_with(".onnx"));
        if !models.is_empty() {
            let models = match share_data(&directory, path, &models) {
                true => models,
                false => one(models, "model.onnx")?.into_iter().collect(),
            };
            let mut parts = open_all(&directory, path, &models, None)?;
            add_external(&mut parts)?;
            return Ok(Self { index: None, parts });
        }
        let data: HashSet<&str> = names.iter().filter_map(|name| Some(tensorflow::data_file(name)?.0)).collect();
        let has_data = |name: &str| name.strip_suffix(CHECKPOINT_SUFFIX).is_some_and(|prefix| data.contains(prefix));
        if let Some(name) = one(with(&has_data), "variables.index")? {
            let (index, resolved) = resolve(&directory, path, &name, None)?;
            if let Some(model) = Self::open_checkpoint(&index, &resolved, name.trim_end_matches(CHECKPOINT_SUFFIX))? {
                return Ok(model);
            }
        }
        Err(ModelError::Empty { directory: path.to_owned() })
    }

    /// Opens the shards of an index that is shown as `index` and read from `resolved`.
    fn open_index(index: PathBuf, resolved: &Path) -> Result<Self, ModelError> {
        let names = shard_names(&index, resolved)?;
        let parts = open_beside(&index, &names)?;
        Ok(Self { index: Some(index), parts })
    }

    /// Opens the data files of a TensorFlow checkpoint with that index; `None` where it is an index of another kind.
    fn open_checkpoint(index: &Path, resolved: &Path, prefix: &str) -> Result<Option<Self>, ModelError> {
        let failed = |error| ModelError::Io { path: index.to_owned(), error };
        let source = FileSource::open(resolved).map_err(failed)?;
        let Ok(bundle) = tensorflow::read(&source) else { return Ok(None) };
        if bundle.shards > MAX_SHARDS {
            let message = format!("it names more than {MAX_SHARDS} files");
            return Err(ModelError::Index { path: index.to_owned(), message });
        }
        let name = |shard| tensorflow::data_file_name(prefix, shard, bundle.shards);
        let parts = open_beside(index, &(0..bundle.shards).map(name).collect::<Vec<_>>())?;
        Ok(Some(Self { index: Some(index.to_owned()), parts }))
    }
}

/// The names of the files in a directory, sorted.
fn file_names(directory: &Path) -> Result<Vec<String>, ModelError> {
    let failed = |error| ModelError::Io { path: directory.to_owned(), error };
    let mut names = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Files with a leading dot are other programs' own (macOS leaves `._model.safetensors`).
        if !name.starts_with('.') && !path.is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens files that `index` names.
fn open_beside(index: &Path, names: &[String]) -> Result<Vec<Part>, ModelError> {
    let (directory, path) = directory_of(index)?;
    open_all(&directory, &path, names, Some(index))
}

/// The directory of a file, and its path for people.
fn directory_of(file: &Path) -> Result<(Directory, PathBuf), ModelError> {
    let directory = Directory::of(file).map_err(|error| ModelError::Io { path: file.to_owned(), error })?;
    Ok((directory, file.parent().unwrap_or(Path::new("")).to_owned()))
}

fn open_all(
    directory: &Directory,
    path: &Path,
    names: &[String],
    index: Option<&Path>,
) -> Result<Vec<Part>, ModelError> {
    let neighbours = Neighbours::default();
    let open = |name: &String| {
        let (path, resolved) = resolve(directory, path, name, index)?;
        Part::open(path, resolved, &neighbours)
    };
    names.iter().map(open).collect()
}

/// A file's path and what it leads to, without symbolic links; `index` is what named it, `path` the directory's.
fn resolve(
    directory: &Directory,
    path: &Path,
    name: &str,
    index: Option<&Path>,
) -> Result<(PathBuf, PathBuf), ModelError> {
    directory.resolve(name).map_err(|error| unresolved(error, path, name, index))
}

fn unresolved(error: Unresolved, directory: &Path, name: &str, index: Option<&Path>) -> ModelError {
    match (error, index) {
        (Unresolved::Outside, _) => {
            ModelError::Outside { directory: directory.to_owned(), name: name.chars().take(400).collect() }
        }
        (Unresolved::Io(error), Some(index)) if error.kind() == io::ErrorKind::NotFound => {
            ModelError::MissingShard { index: index.to_owned(), name: name.to_owned() }
        }
        (Unresolved::Io(error), _) => ModelError::Io { path: directory.join(name), error },
    }
}

/// Whether ONNX models in a directory are parts of one: each shares a file of data with another, which leads to all of them. What
/// cannot be read shares nothing.
fn share_data(directory: &Directory, path: &Path, models: &[String]) -> bool {
    let files_of = |name: &String| {
        let (_, resolved) = resolve(directory, path, name, None).ok()?;
        let tensors = sidecar::external(&FileSource::open(&resolved).ok()?, &mut { MAX_FIELDS })?;
        let files = sidecar::data_files(directory, tensors).ok()?;
        Some(files.into_iter().map(|file| file.resolved).collect::<Vec<_>>())
    };
    if models.len() < 2 {
        return true;
    }
    let files: Vec<Vec<PathBuf>> = models.iter().map(|name| files_of(name).unwrap_or_default()).collect();
    let mut users: HashMap<&Path, Vec<usize>> = HashMap::new();
    for (model, files) in files.iter().enumerate() {
        files.iter().for_each(|file| users.entry(file).or_default().push(model));
    }
    let mut reached = HashSet::from([0]);
    let mut next = vec![0];
    while let Some(files) = next.pop().and_then(|model| files.get(model)) {
        // Whoever uses a file is reached once, so each file is followed once.
        let found = files.iter().filter_map(|file| users.remove(file.as_path())).flatten();
        next.extend(found.filter(|model| reached.insert(*model)));
    }
    reached.len() == models.len()
}

/// Adds the files that the ONNX models among the parts keep tensors in, each once.
fn add_external(parts: &mut Vec<Part>) -> Result<(), ModelError> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let neighbours = Neighbours::default();
    for model in parts.iter().filter(|part| part.parsed.layout.format == Onnx.name()) {
        let source = model.source().map_err(|error| ModelError::Io { path: model.path.clone(), error })?;
        let Some(tensors) = sidecar::external(&source, &mut { MAX_FIELDS }) else { continue };
        let (directory, path) = directory_of(&model.path)?;
        let found = sidecar::data_files(&directory, tensors)
            .map_err(|(name, error)| unresolved(error, &path, &name, Some(&model.path)))?;
        for DataFile { resolved, path, tensors } in found {
            if !seen.insert(resolved.clone()) {
                continue;
            }
            let mut part = Part::open(path, resolved, &neighbours)?;
            // What this model says counts, though another beside it may name the same file.
            if matches!(part.parsed.layout.format.as_str(), "opaque" | ONNX_DATA)
                && let Some(layout) = sidecar::onnx_data_layout(&tensors, part.parsed.layout.expanded_len())
            {
                part.set_layout(layout);
            }
            files.push(part);
        }
    }
    parts.append(&mut files);
    Ok(())
}

#[cfg(test)]
mod tests;
