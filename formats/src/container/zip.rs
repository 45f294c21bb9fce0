//! Zip archives. The tensors of a member that is stored as it is, in any format that shard knows, are called `path/name`; that of
//! a `.npy` like the member without that ending. Paths are only names here: nothing is ever written under them.
//!
//! So are those of a member that is deflated, where zlib makes its bytes again of what they expand to; others stay as they
//! are, and so do those of an archive in a compressed member.
//!
//! What the directory says is decisive, as it is for NumPy and PyTorch. Members do not overlap, so that a small archive has no
//! more to parse than its own bytes.
//!
//! Specification: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>.

use shard_core::Layout;

use super::directory::{Member, Method, is_zip, members};
use super::member::{Deflated, add_deflated, add_stored};
use crate::assemble::Assembler;
use crate::format::{Format, FormatError};
use crate::source::Source;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Zip;

impl Format for Zip {
    fn name(&self) -> &'static str {
        "zip"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        is_zip(head)
    }

    fn parse(&self, source: &dyn Source, depth: usize) -> Result<Layout, FormatError> {
        lay_out(self.name(), source, &members(source)?, depth)
    }
}

/// The layout of an archive with those members.
pub(super) fn lay_out(
    format: &str,
    source: &dyn Source,
    members: &[Member],
    depth: usize,
) -> Result<Layout, FormatError> {
    let mut assembler = Assembler::new();
    let mut deflated = Deflated::new(source, depth);
    for member in members {
        match member.method {
            Method::Stored => add_stored(&mut assembler, source, member, depth)?,
            Method::Deflated => add_deflated(&mut assembler, source, member, &mut deflated, depth)?,
            Method::Other => assembler.add_opaque(member.start, member.stored_len),
        }
    }
    assembler.finish_distinct(format, source.len())
}
