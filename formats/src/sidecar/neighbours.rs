//! What the models of a directory say of the files beside them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use shard_core::Layout;

use super::directory::Directory;
use super::{TF_CHECKPOINT, by_location, external, finish, is_text, onnx_data_layout};
use crate::assemble::{Assembler, MAX_TENSORS};
use crate::onnx::{Found, MAX_FIELDS};
use crate::source::{FileSource, Source};
use crate::tensorflow::{self, Bundle};
use crate::{Parsed, parse};

/// Most entries of a directory that is looked at.
const MAX_LISTED: usize = 100_000;

/// Most models in a directory that are read to see whether they name a file: those whose names are most like the file's.
const MAX_MODELS: usize = 32;

/// Directories that are remembered: of files that are parsed at the same time, and those above them.
const REMEMBERED: usize = 8;

/// Parses files at their paths, and remembers what their neighbours say, since many files may be the data of one model. It does
/// not notice that a neighbour changes: it is for as long as one command takes.
#[derive(Default)]
pub struct Neighbours {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The one that was used last comes last.
    directories: Vec<Models>,
    /// The index of a checkpoint that was read last, and what it says.
    bundle: Option<(PathBuf, Option<Arc<Bundle>>)>,
}

/// The models in a directory.
struct Models {
    directory: Directory,
    /// By name; the tensors that they keep elsewhere, by location, once they were read.
    models: Vec<(String, Option<Elsewhere>)>,
    /// Fields that may still be read, and tensors that may still be remembered, for all of them.
    fields: u64,
    tensors: usize,
}

/// Tensors by the location of their data.
type Elsewhere = BTreeMap<Arc<str>, Vec<Found>>;

impl Neighbours {
    /// As [`parse_file`](super::parse_file).
    ///
    /// # Errors
    /// As [`parse`](crate::parse).
    pub fn parse_file(&self, path: &Path, source: &dyn Source) -> io::Result<Parsed> {
        let parsed = parse(source)?;
        if parsed.layout.format != "opaque" || is_text(source)? {
            return Ok(parsed);
        }
        // What a thread that panicked had come to know is no less true.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match known.layout(path, source.len()) {
            Some(layout) => Parsed { layout, note: None },
            None => parsed,
        })
    }
}

impl Known {
    /// The layout of a file of `len` bytes by what is said beside it.
    fn layout(&mut self, path: &Path, len: u64) -> Option<Layout> {
        let directory = Directory::of(path).ok()?;
        let name = path.file_name()?.to_str()?;
        // A link that leads out of the directory is refused here.
        let (_, resolved) = directory.resolve(name).ok()?;
        if let Some(layout) = self.checkpoint(&directory, name, len) {
            return Some(layout);
        }
        let above = directory.resolved().parent().and_then(|above| Directory::new(above).ok());
        let location = directory.resolved().file_name().and_then(|folder| Some(format!("{}/{name}", folder.to_str()?)));
        self.models(directory)
            .and_then(|models| models.layout(name, &resolved, len))
            .or_else(|| self.models(above?)?.layout(&location?, &resolved, len))
    }

    /// The layout of a file of a checkpoint's data, if there is an index beside it that fits its name.
    fn checkpoint(&mut self, directory: &Directory, name: &str, len: u64) -> Option<Layout> {
        let (prefix, shard, shards) = tensorflow::data_file(name)?;
        let (_, index) = directory.resolve(&format!("{prefix}.index")).ok()?;
        if self.bundle.as_ref().is_none_or(|(path, _)| *path != index) {
            let read = |path| tensorflow::read(&FileSource::open(path).ok()?).ok();
            let bundle = read(&index).map(Arc::new);
            self.bundle = Some((index, bundle));
        }
        let bundle = self.bundle.as_ref()?.1.as_deref()?;
        if bundle.shards != shards {
            return None;
        }
        let mut assembler = Assembler::new();
        for tensor in bundle.tensors.iter().filter(|tensor| tensor.shard == shard) {
            if tensor.located.end().is_some_and(|end| end <= len) {
                assembler.add(tensor.located.clone());
            }
        }
        finish(assembler, TF_CHECKPOINT, len)
    }

    /// The models in a directory.
    fn models(&mut self, directory: Directory) -> Option<&mut Models> {
        let known = self.directories.iter().position(|models| models.directory.resolved() == directory.resolved());
        let models = match known {
            Some(index) => self.directories.remove(index),
            None => Models::list(directory)?,
        };
        self.directories.push(models);
        // The oldest go first.
        let held = |models: &[Models]| models.iter().map(|models| MAX_TENSORS - models.tensors).sum::<usize>();
        while self.directories.len() > 1
            && (self.directories.len() > REMEMBERED || held(&self.directories) > MAX_TENSORS)
        {
            self.directories.remove(0);
        }
        self.directories.last_mut()
    }
}

impl Models {
    /// The models of a directory, not yet read: none of one that has more entries than are looked at.
    fn list(directory: Directory) -> Option<Self> {
        let mut models = Vec::new();
        for (index, entry) in directory.resolved().read_dir().ok()?.enumerate() {
            if index == MAX_LISTED {
                models.clear();
                break;
            }
            let Ok(name) = entry.ok()?.file_name().into_string() else { continue };
            // Files with a leading dot are other programs' own.
            if name.ends_with(".onnx") && !name.starts_with('.') {
                models.push((name, None));
            }
        }
        models.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Some(Self { directory, models, fields: MAX_FIELDS, tensors: MAX_TENSORS })
    }

    /// The layout that the first model gives which names the file by that location.
    fn layout(&mut self, location: &str, resolved: &Path, len: u64) -> Option<Layout> {
        // It is the same file by its path, not only by its name.
        if self.models.is_empty() || self.directory.resolve(location).ok()?.1 != resolved {
            return None;
        }
        let name = Path::new(location).file_name()?.to_str()?;
        let alike = |model: &str| model.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let mut order: Vec<usize> = (0..self.models.len()).collect();
        order.sort_by_key(|index| self.models.get(*index).map(|(model, _)| Reverse(alike(model))));
        order.into_iter().take(MAX_MODELS).find_map(|index| {
            let tensors = self.read(index)?.get(location)?;
            onnx_data_layout(tensors, len)
        })
    }

    /// What a model keeps elsewhere.
    fn read(&mut self, index: usize) -> Option<&Elsewhere> {
        let (name, known) = self.models.get_mut(index)?;
        if known.is_none() {
            let read = |path: PathBuf, fields: &mut u64| external(&FileSource::open(&path).ok()?, fields);
            let path = self.directory.resolve(name).map(|(_, path)| path);
            let tensors = path.ok().and_then(|path| read(path, &mut self.fields)).unwrap_or_default();
            let left = self.tensors.checked_sub(tensors.len());
            self.tensors = left.unwrap_or(self.tensors);
            *known = Some(if left.is_some() { by_location(tensors) } else { Elsewhere::new() });
        }
        known.as_ref()
    }
}
