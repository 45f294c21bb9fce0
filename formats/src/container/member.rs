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

/// How many members in a row may be by an encoder that shard cannot repeat, before the others of the archive are not tried.
const TRIES: usize = 3;

/// To how much the members of an archive may expand together: so many times its length, and so many bytes more.
const MOST_EXPANDED: (u64, u64) = (64, 64 << 20);

/// What may be expanded and compressed again to parse an archive: so many times its length, and so many bytes more. Members without
/// tensors cost as much as others.
const MOST_WORK: (u64, u64) = (16, 64 << 20);

/// What is known of an archive's deflated members, and what may still be done to know more.
pub(super) struct Deflated {
    /// The level at which the last one was deflated.
    likely: Option<Compression>,
    /// Members in a row that no level gives.
    missed: usize,
    /// Bytes that may still be expanded or compressed.
    left: u64,
    /// Bytes to which further members may still expand.
    room: u64,
}

impl Deflated {
    /// Those of the archive `source`, which lies in `depth` files. In one that is itself expanded none are: a layout has no compressed
    /// runs in compressed ones, so that it would be for nothing, and archives in archives multiply it. What is added to the multiple
    /// of a length is for the outermost alone, since a file may hold very many archives.
    pub(super) fn new(source: &dyn Source, depth: usize) -> Self {
        let most = |(times, more): (u64, u64)| match source.is_expanded() {
            true => 0,
            false => source.len().saturating_mul(times).saturating_add(if depth == 0 { more } else { 0 }),
        };
        Self { likely: None, missed: 0, left: most(MOST_WORK), room: most(MOST_EXPANDED) }
    }
}

/// Adds the tensors of a deflated member. It stays opaque where it has none, or where deflating again would not give its bytes.
pub(super) fn add_deflated(
    assembler: &mut Assembler,
    source: &dyn Source,
    member: &Member,
    deflated: &mut Deflated,
    depth: usize,
) -> Result<(), FormatError> {
    let range = member.start..member.start.saturating_add(member.stored_len);
    let is_tried = depth < MAX_DEPTH
        && deflated.left > 0
        && deflated.missed < TRIES
        && range.end <= source.len()
        && member.len <= deflated.room;
    let mut found = None;
    if is_tried && let Some(mut layout) = expanded_layout(source, range.clone(), member.len, deflated, depth)? {
        let prefix = prefix(&member.name, &mut layout);
        if layout.tensors.iter().all(|tensor| prefix.len() + tensor.name.len() <= MAX_NAME) {
            let with = repeats(source, range, member.len, deflated.likely, &mut deflated.left)?;
            deflated.missed = if with.is_some() { 0 } else { deflated.missed + 1 };
            deflated.likely = with.or(deflated.likely);
            deflated.room -= if with.is_some() { member.len } else { 0 };
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
    deflated: &mut Deflated,
    depth: usize,
) -> Result<Option<Layout>, FormatError> {
    let head = InflatedHead::new(source, range, len, deflated.left);
    let parsed = parse_at(&head, depth + 1);
    deflated.left -= head.expanded().min(deflated.left);
    match parsed {
        Ok(parsed) => Ok(Some(parsed.layout).filter(|layout| !layout.tensors.is_empty())),
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
