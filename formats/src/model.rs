//! One logical model: a file, a directory, or an index (`*.safetensors.index.json`) with its shards.
//!
//! An index is `{"metadata": …, "weight_map": {tensor: file}}`. The files it names, and those of a directory, never lie
//! outside the directory, symbolic links followed.

use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use shard_core::TensorView;
use thiserror::Error;

use crate::json::{MAX_ENTRIES, Pairs, repeated};
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
    let Index { weight_map: Pairs { entries, too_many } } =
        serde_json::from_slice(&json).map_err(|error| unusable(error.to_string().chars().take(400).collect()))?;
    if too_many {
        return Err(unusable(format!("it names more than {MAX_ENTRIES} tensors")));
    }
    if let Some(name) = repeated(entries.iter().map(|(tensor, _)| tensor.as_str())) {
        let shown: String = name.chars().take(100).collect();
        return Err(unusable(format!("the tensor {shown:?} comes twice")));
    }
    let mut names: Vec<String> = entries.into_iter().map(|(_, file)| file).collect();
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

#[cfg(test)]
mod tests {
    use std::fs;

    use shard_core::DType;
    use tempfile::TempDir;

    use super::*;

    /// A safetensors file with one tensor of two bytes.
    fn shard(tensor: &str) -> Vec<u8> {
        let header = format!(r#"{{"{tensor}":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[1, 2]].concat()
    }

    /// A directory `model` with two shards, `a.safetensors` and `sub/b.safetensors`, inside a directory of its own.
    fn model() -> (TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let model = outer.path().join("model");
        fs::create_dir_all(model.join("sub")).unwrap();
        fs::write(model.join("a.safetensors"), shard("a")).unwrap();
        fs::write(model.join("sub/b.safetensors"), shard("b")).unwrap();
        (outer, model)
    }

    fn write_index(model: &Path, name: &str, files: &[&str]) -> PathBuf {
        let map: Vec<String> =
            files.iter().enumerate().map(|(tensor, file)| format!(r#""{tensor}": "{file}""#)).collect();
        let json = format!(r#"{{"metadata": {{"total_size": 4}}, "weight_map": {{{}}}}}"#, map.join(", "));
        fs::write(model.join(name), json).unwrap();
        model.join(name)
    }

    fn names(model: &LogicalModel) -> Vec<(&str, usize)> {
        model.tensors().map(|(name, part, _)| (name, part)).collect()
    }

    #[test]
    fn a_file_is_one_part() {
        let (_outer, model) = model();
        let opened = LogicalModel::open(&model.join("a.safetensors")).unwrap();
        assert_eq!(names(&opened), [("a", 0)]);
        assert_eq!(opened.index, None);
        let part = &opened.parts[0];
        let (start, len) = part.tensor_range(&part.parsed.layout.tensors[0]).unwrap();
        let mut bytes = vec![0; len as usize];
        part.source().unwrap().read_at(start, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2]);
        let foreign =
            TensorView { name: String::new(), dtype: DType::U8, shape: vec![], segment: 9, offset: 0, strides: None };
        assert_eq!(part.tensor_range(&foreign), None);
        fs::write(model.join("notes.txt"), "any file").unwrap();
        let opened = LogicalModel::open(&model.join("notes.txt")).unwrap();
        assert_eq!(opened.parts[0].parsed.layout.format, "opaque");
    }

    #[test]
    fn an_index_leads_to_its_shards() {
        let (_outer, model) = model();
        let index = write_index(&model, INDEX_NAME, &["sub/b.safetensors", "a.safetensors", "sub/b.safetensors"]);
        for path in [&index, &model] {
            let opened = LogicalModel::open(path).unwrap();
            assert_eq!(opened.index.as_ref(), Some(&index));
            assert_eq!(names(&opened), [("a", 0), ("b", 1)]);
            assert_eq!(opened.parts[1].path, model.join("sub/b.safetensors"));
        }
    }

    #[test]
    fn a_directory_is_its_files_or_its_index() {
        let (_outer, model) = model();
        fs::write(model.join("0.safetensors"), shard("z")).unwrap();
        fs::write(model.join("._a.safetensors"), "left by another system").unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        assert_eq!(names(&LogicalModel::open(&model).unwrap()), [("z", 0), ("a", 1)]);
        write_index(&model, "unet.safetensors.index.json", &["a.safetensors"]);
        assert_eq!(names(&LogicalModel::open(&model).unwrap()), [("a", 0)]);
        write_index(&model, "model.fp16.safetensors.index.json", &["0.safetensors"]);
        let error = LogicalModel::open(&model).unwrap_err();
        assert!(matches!(&error, ModelError::Ambiguous { names, .. } if names.len() == 2), "{error}");
        write_index(&model, INDEX_NAME, &["0.safetensors", "a.safetensors"]);
        assert_eq!(LogicalModel::open(&model).unwrap().parts.len(), 2);
        let error = LogicalModel::open(tempfile::tempdir().unwrap().path()).unwrap_err();
        assert!(matches!(error, ModelError::Empty { .. }), "{error}");
    }

    #[test]
    fn shards_never_lie_outside() {
        let (outer, model) = model();
        fs::write(outer.path().join("secret.safetensors"), shard("s")).unwrap();
        fs::create_dir(outer.path().join("model_evil")).unwrap();
        fs::write(outer.path().join("model_evil/x.safetensors"), shard("s")).unwrap();
        let absolute = outer.path().join("secret.safetensors");
        for name in [
            "../secret.safetensors",
            "sub/../../secret.safetensors",
            "sub/../a.safetensors",
            "../model_evil/x.safetensors",
            "./a.safetensors",
            absolute.to_str().unwrap(),
            r"..\\secret.safetensors",
            "C:secret.safetensors",
            r"a.safetensors\u0000",
            "",
            "..",
            "/",
        ] {
            let index = write_index(&model, INDEX_NAME, &["a.safetensors", name]);
            let error = LogicalModel::open(&index).unwrap_err();
            assert!(matches!(error, ModelError::Outside { .. }), "{name:?}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_do_not_lead_outside() {
        use std::os::unix::fs::symlink;
        let (outer, model) = model();
        fs::write(outer.path().join("secret.safetensors"), shard("s")).unwrap();
        fs::create_dir(outer.path().join("model_evil")).unwrap();
        fs::write(outer.path().join("model_evil/x.safetensors"), shard("s")).unwrap();
        symlink("sub/b.safetensors", model.join("inside.safetensors")).unwrap();
        assert_eq!(names(&LogicalModel::open(&model).unwrap()), [("a", 0), ("b", 1)]);
        symlink("../model_evil", model.join("folder")).unwrap();
        let index = write_index(&model, "model.safetensors.index.json", &["folder/x.safetensors"]);
        assert!(matches!(LogicalModel::open(&index), Err(ModelError::Outside { .. })));
        fs::rename(&index, outer.path().join(INDEX_NAME)).unwrap();
        symlink("../model.safetensors.index.json", &index).unwrap();
        assert!(matches!(LogicalModel::open(&model), Err(ModelError::Outside { .. })));
        fs::remove_file(&index).unwrap();
        symlink("../secret.safetensors", model.join("escape.safetensors")).unwrap();
        let error = LogicalModel::open(&model).unwrap_err();
        assert!(matches!(&error, ModelError::Outside { name, .. } if name == "escape.safetensors"), "{error}");
        // A path that the user names is the user's choice.
        assert_eq!(names(&LogicalModel::open(&model.join("escape.safetensors")).unwrap()), [("s", 0)]);
    }

    #[test]
    fn what_is_missing_or_unusable_is_named() {
        let (_outer, model) = model();
        let index = write_index(&model, INDEX_NAME, &["a.safetensors", "gone.safetensors"]);
        let error = LogicalModel::open(&index).unwrap_err();
        assert!(matches!(&error, ModelError::MissingShard { name, .. } if name == "gone.safetensors"), "{error}");
        assert!(matches!(LogicalModel::open(&model.join("none")), Err(ModelError::Io { .. })));
        write_index(&model, INDEX_NAME, &["sub"]);
        assert!(matches!(LogicalModel::open(&index), Err(ModelError::Io { .. })), "a directory is no shard");
        for json in [
            "",
            "[]",
            "{}",
            r#"{"weight_map": {}}"#,
            r#"{"weight_map": {"a": 1}}"#,
            r#"{"weight_map": {"a": "a.safetensors"}, "weight_map": {}}"#,
            r#"{"weight_map": {"a": "a.safetensors", "\u0061": "a.safetensors"}}"#,
        ] {
            fs::write(&index, json).unwrap();
            let error = LogicalModel::open(&index).unwrap_err();
            assert!(matches!(error, ModelError::Index { .. }), "{json}: {error}");
        }
    }
}
