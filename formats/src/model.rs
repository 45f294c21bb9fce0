//! One logical model: a file, a directory, or an index (`*.safetensors.index.json`) with its shards.
//!
//! An index is `{"metadata": …, "weight_map": {tensor: file}}`. The files it names, and those of a directory, never lie
//! outside the directory, symbolic links followed.

use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use shard_core::TensorView;
use thiserror::Error;

use crate::json::{Pairs, repeated};
use crate::source::{FileSource, Source};
use crate::{Parsed, parse};

/// How the name of an index ends.
pub const INDEX_SUFFIX: &str = ".safetensors.index.json";

/// The index that is taken where a directory has several.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// Largest index, in bytes.
pub const MAX_INDEX: u64 = 100_000_000;

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
    /// A directory with several indexes, none of them [`INDEX_NAME`].
    #[error("{directory} has several models: {names}; name one of them", directory = directory.display(), names = names.join(", "))]
    Ambiguous {
        /// The directory.
        directory: PathBuf,
        /// The indexes.
        names: Vec<String>,
    },
    /// A directory with neither an index nor a safetensors file.
    #[error("{directory} holds no model: no *.safetensors and no index of any", directory = directory.display())]
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
    fn open(path: PathBuf, resolved: PathBuf) -> Result<Self, ModelError> {
        let opened = FileSource::open(&resolved).and_then(|source| parse(&source));
        let parsed = opened.map_err(|error| ModelError::Io { path: path.clone(), error })?;
        let offsets = parsed.layout.segment_offsets();
        Ok(Self { path, parsed, resolved, offsets })
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
    /// The files; those of an index or a directory in the order of their names.
    pub parts: Vec<Part>,
}

impl LogicalModel {
    /// Opens a file (of any format), an index with its shards, or a directory: its index, else its `*.safetensors`.
    ///
    /// # Errors
    /// [`ModelError`]; what the files contain is never an error (see [`parse`]), what an index contains may be.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let metadata = path.metadata().map_err(|error| ModelError::Io { path: path.to_owned(), error })?;
        if metadata.is_dir() {
            return Self::open_directory(path);
        }
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(INDEX_SUFFIX)) {
            return Self::open_index(path.to_owned(), path);
        }
        Ok(Self { index: None, parts: vec![Part::open(path.to_owned(), path.to_owned())?] })
    }

    /// Every tensor: its name, the index of its part, and the view into that part's layout. In file order, part by part.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, usize, &TensorView)> {
        self.parts.iter().enumerate().flat_map(|(index, part)| {
            part.parsed.layout.tensors.iter().map(move |tensor| (tensor.name.as_str(), index, tensor))
        })
    }

    fn open_directory(path: &Path) -> Result<Self, ModelError> {
        let failed = |error| ModelError::Io { path: path.to_owned(), error };
        let directory = Directory::new(path)?;
        let mut indexes = Vec::new();
        let mut files = Vec::new();
        for entry in path.read_dir().map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Files with a leading dot are other programs' own (macOS leaves `._model.safetensors`).
            if name.starts_with('.') || path.is_dir() {
                continue;
            }
            if name.ends_with(INDEX_SUFFIX) {
                indexes.push(name);
            } else if name.ends_with(".safetensors") {
                files.push(name);
            }
        }
        indexes.sort_unstable();
        files.sort_unstable();
        let name = match indexes.as_slice() {
            [] if files.is_empty() => return Err(ModelError::Empty { directory: path.to_owned() }),
            [] => return Ok(Self { index: None, parts: directory.open_all(&files, None)? }),
            [name] => name,
            names => match names.iter().find(|name| *name == INDEX_NAME) {
                Some(name) => name,
                None => return Err(ModelError::Ambiguous { directory: path.to_owned(), names: indexes }),
            },
        };
        let (index, resolved) = directory.resolve(name, None)?;
        Self::open_index(index, &resolved)
    }

    /// Opens the shards of an index that is shown as `index` and read from `resolved`.
    fn open_index(index: PathBuf, resolved: &Path) -> Result<Self, ModelError> {
        let names = shard_names(&index, resolved)?;
        let directory = match index.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let parts = Directory::new(directory)?.open_all(&names, Some(&index))?;
        Ok(Self { index: Some(index), parts })
    }
}

/// The shards that an index names, each once, sorted.
fn shard_names(index: &Path, resolved: &Path) -> Result<Vec<String>, ModelError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Pairs<String>,
    }
    let failed = |error| ModelError::Io { path: index.to_owned(), error };
    let unusable = |message: String| ModelError::Index { path: index.to_owned(), message };
    let source = FileSource::open(resolved).map_err(failed)?;
    if source.len() > MAX_INDEX {
        return Err(unusable(format!("it has more than {MAX_INDEX} bytes")));
    }
    let mut json = vec![0; source.len() as usize];
    source.read_at(0, &mut json).map_err(failed)?;
    let Index { weight_map: Pairs(pairs) } =
        serde_json::from_slice(&json).map_err(|error| unusable(error.to_string().chars().take(400).collect()))?;
    if let Some(name) = repeated(pairs.iter().map(|(tensor, _)| tensor.as_str())) {
        return Err(unusable(format!("the tensor {name:?} comes twice")));
    }
    let mut names: Vec<String> = pairs.into_iter().map(|(_, file)| file).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err(unusable("it names no file".to_owned()));
    }
    Ok(names)
}

/// A directory that its files may not leave.
struct Directory<'a> {
    path: &'a Path,
    resolved: PathBuf,
}

impl<'a> Directory<'a> {
    fn new(path: &'a Path) -> Result<Self, ModelError> {
        let resolved = path.canonicalize().map_err(|error| ModelError::Io { path: path.to_owned(), error })?;
        Ok(Self { path, resolved })
    }

    fn open_all(&self, names: &[String], index: Option<&Path>) -> Result<Vec<Part>, ModelError> {
        let open = |name: &String| self.resolve(name, index).and_then(|(path, resolved)| Part::open(path, resolved));
        names.iter().map(open).collect()
    }

    /// A file's path and what it leads to, without symbolic links; `index` is what named it.
    fn resolve(&self, name: &str, index: Option<&Path>) -> Result<(PathBuf, PathBuf), ModelError> {
        let outside =
            || ModelError::Outside { directory: self.path.to_owned(), name: name.chars().take(400).collect() };
        if !is_plain(name) {
            return Err(outside());
        }
        let path = self.path.join(name);
        let resolved = match (self.resolved.join(name).canonicalize(), index) {
            (Ok(resolved), _) => resolved,
            (Err(error), Some(index)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ModelError::MissingShard { index: index.to_owned(), name: name.to_owned() });
            }
            (Err(error), _) => return Err(ModelError::Io { path, error }),
        };
        // Compares whole components: `/models/a_evil` does not start with `/models/a`.
        if !resolved.starts_with(&self.resolved) {
            return Err(outside());
        }
        Ok((path, resolved))
    }
}

/// Whether a name is a relative path of plain components on every system.
fn is_plain(name: &str) -> bool {
    // Windows takes backslashes for separators and colons for drives and streams.
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}
