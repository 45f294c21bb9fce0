//! A file that lies in another, as it is or deflated.

use std::io;

use shard_core::limits::MAX_NAME;
use shard_core::{Compression, Layout};

use super::directory::Member;
use crate::assemble::Assembler;
use crate::compress::{InflatedHead, repeats};
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

/// How often a member may expand to its length in the file: tensors are never worth more, and no small file makes much work.
const MOST_EXPANDED: u64 = 64;

/// How many members in a row may be by an encoder that shard cannot repeat, before the others of the archive are not tried.
const TRIES: usize = 3;

/// The level at which the members of an archive were deflated, as far as it is known.
#[derive(Default)]
pub(super) struct Levels {
    likely: Option<Compression>,
    missed: usize,
}

/// Adds the tensors of a deflated member. It stays opaque where it has none, or where deflating again would not give its bytes.
pub(super) fn add_deflated(
    assembler: &mut Assembler,
    source: &dyn Source,
    member: &Member,
    levels: &mut Levels,
    depth: usize,
) -> Result<(), FormatError> {
    let range = member.start..member.start.saturating_add(member.stored_len);
    let is_tried = depth < MAX_DEPTH
        && levels.missed < TRIES
        && range.end <= source.len()
        && member.len / MOST_EXPANDED <= member.stored_len;
    let mut found = None;
    if is_tried && let Some(mut layout) = expanded_layout(source, range.clone(), member.len, depth)? {
        let prefix = prefix(&member.name, &mut layout);
        if layout.tensors.iter().all(|tensor| prefix.len() + tensor.name.len() <= MAX_NAME) {
            let with = repeats(source, range, member.len, levels.likely)?;
            levels.missed = if with.is_some() { 0 } else { levels.missed + 1 };
            levels.likely = with.or(levels.likely);
            found = with.map(|with| (with, prefix, layout));
        }
    }
    match found {
        Some((with, prefix, layout)) => {
            assembler.add_compressed(member.start, member.stored_len, with, &prefix, layout);
        }
        None => assembler.add_opaque(member.start, member.stored_len),
    }
    Ok(())
}

/// The layout of what `range` of a source expands to, `len` bytes; `None` where it has no tensors or cannot be expanded.
fn expanded_layout(
    source: &dyn Source,
    range: std::ops::Range<u64>,
    len: u64,
    depth: usize,
) -> Result<Option<Layout>, FormatError> {
    match parse_at(&InflatedHead::new(source, range, len), depth + 1) {
        Ok(parsed) => {
            let layout = parsed.layout.without_compressed();
            Ok(Some(layout).filter(|layout| !layout.tensors.is_empty()))
        }
        // Damaged, or read too far from its start.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error.into()),
    }
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
