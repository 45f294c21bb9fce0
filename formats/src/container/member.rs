//! A file that lies in another as it is.

use shard_core::Layout;
use shard_core::limits::MAX_NAME;

use super::directory::Member;
use crate::assemble::Assembler;
use crate::format::{Format, FormatError};
use crate::npy::Npy;
use crate::source::{Slice, Source};
use crate::{MAX_DEPTH, parse_at};

/// Adds the tensors of a member that is stored as it is, in a file that lies in `depth` others. A member without tensors, or that
/// is not sound, is no error: its bytes stay opaque, in a segment of their own.
pub(super) fn add_stored(
    assembler: &mut Assembler,
    source: &dyn Source,
    member: &Member,
    depth: usize,
) -> Result<(), FormatError> {
    let Some(slice) = Slice::new(source, member.start, member.len).filter(|_| depth < MAX_DEPTH) else {
        assembler.add_opaque(member.start, member.stored_len);
        return Ok(());
    };
    let mut layout = parse_at(&slice, depth + 1)?.layout;
    let prefix = prefix(&member.name, &mut layout);
    let fits = |name: &str| prefix.len() + name.len() <= MAX_NAME;
    if layout.tensors.is_empty() || !layout.tensors.iter().all(|tensor| fits(&tensor.name)) {
        layout.tensors.clear();
        assembler.add_opaque(member.start, member.stored_len);
    }
    assembler.add_layout(member.start, &prefix, &layout);
    Ok(())
}

/// What comes before the names of a member's tensors: its path and a slash. The array of a `.npy` bears the member's path without
/// that ending and nothing else, as in [`numpy.load`](https://numpy.org/doc/stable/reference/generated/numpy.load.html).
pub(super) fn prefix(path: &str, layout: &mut Layout) -> String {
    if layout.format != Npy.name() {
        return format!("{path}/");
    }
    let stem = path.strip_suffix(super::npz::ENDING).unwrap_or(path);
    layout.tensors.iter_mut().for_each(|tensor| stem.clone_into(&mut tensor.name));
    String::new()
}
