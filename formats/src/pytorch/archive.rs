//! The zip container of PyTorch since 1.6, and of TorchScript.

use std::collections::HashMap;

use super::storage::{Place, Places};
use super::walk::{Names, tensors as tensors_of};
use crate::assemble::Located;
use crate::container::directory::{Member, Method, members};
use crate::format::{FormatError, FormatErrorKind};
use crate::pickle::{Instructions, read_pickle};
use crate::source::{Cursor, Slice, Source};

/// The object of a checkpoint.
const OBJECT: &str = "data.pkl";

/// The constants of a TorchScript archive, a tuple.
const CONSTANTS: &str = "constants.pkl";

/// The tensors of a zip archive.
///
/// # Errors
/// [`FormatErrorKind::Other`] for an archive that is not PyTorch's, or that was packed anew with compression: what reads any zip
/// makes more of it. Other kinds of [`FormatError`] for one that is not sound.
pub(crate) fn tensors(source: &dyn Source) -> Result<Vec<Located>, FormatError> {
    let other = |what| FormatError::new(FormatErrorKind::Other, what);
    let members = members(source).map_err(|error| match error.kind() {
        FormatErrorKind::Read => error,
        _ => other("a zip archive whose directory is not sound"),
    })?;
    let Some(folder) = folder(&members) else { return Err(other("a zip archive without an object of PyTorch")) };
    let mut inside = HashMap::with_capacity(members.len());
    for member in &members {
        let Some(path) = member.name.strip_prefix(folder) else { continue };
        if inside.insert(path, member).is_some() {
            let message = format!("the archive has two members {:?}", crate::assemble::shown(path));
            return Err(FormatError::new(FormatErrorKind::Duplicate, message));
        }
    }
    if inside.iter().any(|(path, member)| member.method != Method::Stored && is_needed(path)) {
        return Err(other("an archive of PyTorch that was compressed"));
    }
    if let Some(order) = inside.get("byteorder")
        && Slice::new(source, order.start, order.stored_len).is_some_and(|slice| starts_with(&slice, b"big"))
    {
        return Err(FormatError::malformed("the tensors are big-endian"));
    }
    let mut names = Names::default();
    let mut found = Vec::new();
    for (pickle, storages, prefix) in [(OBJECT, "data/", ""), (CONSTANTS, "constants/", "constants")] {
        let Some(member) = inside.get(pickle) else { continue };
        let places: Places = inside
            .iter()
            .filter_map(|(path, member)| {
                let place = Place { start: member.start, len: member.stored_len };
                Some((path.strip_prefix(storages)?.as_bytes().to_vec(), place))
            })
            .collect();
        let Some(slice) = Slice::new(source, member.start, member.stored_len) else { continue };
        let pickle = read_pickle(&mut Instructions::new(Cursor::new(&slice, 0)), names.taken())?;
        found.extend(tensors_of(&pickle.tree, &places, pickle.root, prefix, &mut names)?);
    }
    Ok(found)
}

/// The folder that everything lies in, with the slash at its end: that of the object nearest to the archive's root. It is empty
/// where the folder was taken away.
fn folder(members: &[Member]) -> Option<&str> {
    let objects = members.iter().filter_map(|member| member.name.strip_suffix(OBJECT));
    let folders = objects.filter(|folder| folder.is_empty() || folder.ends_with('/'));
    folders.min_by_key(|folder| folder.bytes().filter(|byte| *byte == b'/').count())
}

/// Whether a member has to lie in the file as it is.
fn is_needed(path: &str) -> bool {
    path == OBJECT || path == CONSTANTS || path.starts_with("data/") || path.starts_with("constants/")
}

fn starts_with(source: &dyn Source, bytes: &[u8]) -> bool {
    let mut head = vec![0; bytes.len()];
    source.read_at(0, &mut head).is_ok() && head == bytes
}
