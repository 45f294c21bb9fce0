//! Files that hold nothing but tensors' data, whose names and types are in another file beside them.
//!
//! Two kinds are known: the external data of ONNX (`model.onnx` names `model.onnx.data`, or any other file), and the data of a
//! TensorFlow checkpoint (`X.index` names the tensors of `X.data-00000-of-00001`). Such a file has no form of its own, so what it
//! holds is learnt from its neighbours: [`parse_file`] looks for one that names it.
//!
//! A neighbour is not trusted. It is only read to learn where tensors lie, files are named by plain relative paths that do not
//! leave the neighbour's directory, symbolic links followed, and what it says applies only to the very file that was asked
//! about. At worst a file is cut in another way than it would be; its bytes are the same.

mod directory;

use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shard_core::Layout;

use crate::assemble::{Assembler, Located};
use crate::onnx::{Found, MAX_FIELDS, Onnx, Place, walk};
use crate::source::{FileSource, Source};
use crate::{Format, PROBE_LEN, Parsed, parse, tensorflow};

pub(crate) use directory::{Directory, Unresolved};

/// The format of a file of external data of an ONNX model.
pub const ONNX_DATA: &str = "onnx-data";

/// The format of the data of a TensorFlow checkpoint.
pub const TF_CHECKPOINT: &str = "tf-checkpoint";

/// Most entries of a directory that are looked at.
const MAX_LISTED: usize = 10_000;

/// Most models in a directory that are read to see whether they name a file: those whose names are most like the file's.
const MAX_MODELS: usize = 32;

/// [`parse`] for a file at a path: where its content alone says nothing, its neighbours are asked.
///
/// # Errors
/// As [`parse`]; a neighbour that cannot be read or makes no sense is passed over.
pub fn parse_file(path: &Path, source: &dyn Source) -> io::Result<Parsed> {
    let parsed = parse(source)?;
    if parsed.layout.format != "opaque" || is_text(source)? {
        return Ok(parsed);
    }
    Ok(match neighbours_layout(path, source.len()) {
        Some(layout) => Parsed { layout, note: None },
        None => parsed,
    })
}

/// Whether a file starts as a text does, as most that are no model do: then no model has to be read for it. A file of data might
/// start so too, if very unlikely, and then stays opaque.
fn is_text(source: &dyn Source) -> io::Result<bool> {
    let mut head = vec![0; usize::try_from(source.len()).map_or(PROBE_LEN, |len| len.min(PROBE_LEN))];
    source.read_at(0, &mut head)?;
    Ok(head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()))
}

/// The layout of a file of `len` bytes by what is said beside it.
fn neighbours_layout(path: &Path, len: u64) -> Option<Layout> {
    let directory = Directory::of(path).ok()?;
    let name = path.file_name()?.to_str()?;
    // A link that leads out of the directory is refused here.
    let (_, resolved) = directory.resolve(name).ok()?;
    if let Some(layout) = checkpoint_layout(&directory, name, len) {
        return Some(layout);
    }
    let mut fields = MAX_FIELDS;
    if let Some(layout) = named_by_a_model(&directory, name, &resolved, len, &mut fields) {
        return Some(layout);
    }
    let above = directory.resolved().parent()?;
    let location = format!("{}/{name}", directory.resolved().file_name()?.to_str()?);
    named_by_a_model(&Directory::new(above).ok()?, &location, &resolved, len, &mut fields)
}

/// The layout that the first model in the directory gives which names the file by that location. `fields` bounds the work for
/// all of them.
fn named_by_a_model(
    directory: &Directory,
    location: &str,
    resolved: &Path,
    len: u64,
    fields: &mut u64,
) -> Option<Layout> {
    // It is the same file by its path, not only by its name.
    if directory.resolve(location).ok()?.1 != resolved {
        return None;
    }
    let name = Path::new(location).file_name()?.to_str()?;
    let mut models: Vec<String> = directory
        .resolved()
        .read_dir()
        .ok()?
        .take(MAX_LISTED)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|model| model.ends_with(".onnx") && !model.starts_with('.'))
        .collect();
    let alike = |model: &str| model.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    models.sort_by(|a, b| Reverse(alike(a)).cmp(&Reverse(alike(b))).then_with(|| a.cmp(b)));
    models.iter().take(MAX_MODELS).find_map(|model| {
        let (_, path) = directory.resolve(model).ok()?;
        let tensors = external(&FileSource::open(&path).ok()?, fields)?;
        onnx_data_layout(&tensors, |named| Path::new(named) == Path::new(location), len)
    })
}

/// The tensors of a model that are in other files; `None` for what is no model.
pub(crate) fn external(model: &dyn Source, fields: &mut u64) -> Option<Vec<Found>> {
    let mut head = vec![0; usize::try_from(model.len()).map_or(PROBE_LEN, |len| len.min(PROBE_LEN))];
    model.read_at(0, &mut head).ok()?;
    if !Onnx.probe(&head, model.len()) {
        return None;
    }
    let mut tensors = walk(model, fields).ok()?;
    tensors.retain(|tensor| matches!(tensor.place, Place::Outside(_)));
    Some(tensors)
}

/// The layout of a file of `len` bytes that holds those tensors whose location `is_it`; those that do not fit are left out.
/// `None` where there are none.
pub(crate) fn onnx_data_layout(tensors: &[Found], is_it: impl Fn(&str) -> bool, len: u64) -> Option<Layout> {
    let mut assembler = Assembler::new();
    for Found { name, dtype, shape, place } in tensors {
        let Place::Outside(external) = place else { continue };
        if is_it(&external.location) {
            let (name, shape) = (name.clone(), shape.clone());
            let located = Located { name, dtype: *dtype, shape, strides: None, start: external.offset };
            if located.end().is_some_and(|end| end <= len) {
                assembler.add(located);
            }
        }
    }
    finish(assembler, ONNX_DATA, len)
}

/// The layout of a file of a checkpoint's data, if there is an index beside it that fits its name.
fn checkpoint_layout(directory: &Directory, name: &str, len: u64) -> Option<Layout> {
    let (prefix, shard, shards) = tensorflow::data_file(name)?;
    let (_, index) = directory.resolve(&format!("{prefix}.index")).ok()?;
    let bundle = tensorflow::read(&FileSource::open(&index).ok()?).ok()?;
    if bundle.shards != shards {
        return None;
    }
    let mut assembler = Assembler::new();
    for tensor in bundle.tensors.into_iter().filter(|tensor| tensor.shard == shard) {
        if tensor.located.end().is_some_and(|end| end <= len) {
            assembler.add(tensor.located);
        }
    }
    finish(assembler, TF_CHECKPOINT, len)
}

fn finish(assembler: Assembler, format: &str, len: u64) -> Option<Layout> {
    let layout = assembler.finish(format, len).ok()?;
    (!layout.tensors.is_empty() && layout.check(len).is_ok()).then_some(layout)
}

/// A file that a model keeps tensors in.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DataFile {
    /// The path without symbolic links.
    pub(crate) resolved: PathBuf,
    pub(crate) path: PathBuf,
    /// Every location by which the model names it.
    pub(crate) locations: Vec<String>,
}

/// The files that a model's tensors are in, in the order of their paths.
///
/// # Errors
/// A location that does not lead to a file inside the directory.
pub(crate) fn data_files(directory: &Directory, tensors: &[Found]) -> Result<Vec<DataFile>, (String, Unresolved)> {
    let location = |tensor: &Found| match &tensor.place {
        Place::Outside(external) => Some(Arc::clone(&external.location)),
        Place::Inside(_) => None,
    };
    let mut names: Vec<Arc<str>> = tensors.iter().filter_map(location).collect();
    names.sort_unstable();
    names.dedup();
    let mut files: Vec<DataFile> = Vec::new();
    for name in names {
        let (path, resolved) = directory.resolve(&name).map_err(|error| (name.to_string(), error))?;
        files.push(DataFile { resolved, path, locations: vec![name.to_string()] });
    }
    files.sort_unstable();
    files.dedup_by(|next, kept| {
        let same = next.resolved == kept.resolved;
        if same {
            kept.locations.append(&mut next.locations);
        }
        same
    });
    Ok(files)
}
