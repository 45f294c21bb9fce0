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
mod neighbours;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shard_core::Layout;

use crate::assemble::{Assembler, Located};
use crate::onnx::{Found, Onnx, Place, walk};
use crate::source::Source;
use crate::{Format, PROBE_LEN, Parsed};

pub(crate) use directory::{Directory, Unresolved};
pub use neighbours::Neighbours;

/// The format of a file of external data of an ONNX model.
pub const ONNX_DATA: &str = "onnx-data";

/// The format of the data of a TensorFlow checkpoint.
pub const TF_CHECKPOINT: &str = "tf-checkpoint";

/// [`parse`](crate::parse) for a file at a path: where its content alone says nothing, its neighbours are asked. For many files,
/// [`Neighbours`] does not ask them again for each.
///
/// # Errors
/// As [`parse`](crate::parse); a neighbour that cannot be read or makes no sense is passed over.
pub fn parse_file(path: &Path, source: &dyn Source) -> io::Result<Parsed> {
    Neighbours::default().parse_file(path, source)
}

/// Whether a file starts as a text does, as most that are no model do: then no model has to be read for it. A file of data might
/// start so too, if very unlikely, and then stays opaque.
fn is_text(source: &dyn Source) -> io::Result<bool> {
    let mut head = vec![0; usize::try_from(source.len()).map_or(PROBE_LEN, |len| len.min(PROBE_LEN))];
    source.read_at(0, &mut head)?;
    Ok(head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()))
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

/// The layout of a file of `len` bytes that holds those tensors; those that do not fit are left out. `None` where none is left.
pub(crate) fn onnx_data_layout(tensors: &[Found], len: u64) -> Option<Layout> {
    let mut assembler = Assembler::new();
    for Found { name, dtype, shape, place } in tensors {
        let Place::Outside(external) = place else { continue };
        let (name, shape) = (name.clone(), shape.clone());
        let located = Located { name, dtype: *dtype, shape, strides: None, start: external.offset };
        if located.end().is_some_and(|end| end <= len) {
            assembler.add(located);
        }
    }
    finish(assembler, ONNX_DATA, len)
}

fn finish(assembler: Assembler, format: &str, len: u64) -> Option<Layout> {
    let layout = assembler.finish(format, len).ok()?;
    (!layout.tensors.is_empty() && layout.check(len).is_ok()).then_some(layout)
}

/// A file that a model keeps tensors in.
pub(crate) struct DataFile {
    /// The path without symbolic links.
    pub(crate) resolved: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) tensors: Vec<Found>,
}

/// The files that a model keeps its tensors in, in the order of their paths; a file may have several locations.
///
/// # Errors
/// A location that does not lead to a file inside the directory.
pub(crate) fn data_files(directory: &Directory, tensors: Vec<Found>) -> Result<Vec<DataFile>, (String, Unresolved)> {
    let mut files: BTreeMap<PathBuf, DataFile> = BTreeMap::new();
    for (location, mut tensors) in by_location(tensors) {
        let (path, resolved) = directory.resolve(&location).map_err(|error| (location.to_string(), error))?;
        files
            .entry(resolved.clone())
            .or_insert_with(|| DataFile { resolved, path, tensors: Vec::new() })
            .tensors
            .append(&mut tensors);
    }
    Ok(files.into_values().collect())
}

/// The tensors that are in other files, by location.
fn by_location(tensors: Vec<Found>) -> BTreeMap<Arc<str>, Vec<Found>> {
    let mut by_location: BTreeMap<Arc<str>, Vec<Found>> = BTreeMap::new();
    for tensor in tensors {
        if let Place::Outside(external) = &tensor.place {
            by_location.entry(Arc::clone(&external.location)).or_default().push(tensor);
        }
    }
    by_location
}
