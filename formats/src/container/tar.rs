//! Tar archives. The tensors of a member, in any format that shard knows, are called `path/name`; that of a `.npy` like the member
//! without that ending. Paths are only names here: nothing is ever written under them.

use shard_core::Layout;

use super::member::add_stored;
use super::tar_directory::{is_tar, members};
use crate::assemble::Assembler;
use crate::format::{Format, FormatError};
use crate::source::Source;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Tar;

impl Format for Tar {
    fn name(&self) -> &'static str {
        "tar"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        is_tar(head)
    }

    fn parse(&self, source: &dyn Source, depth: usize) -> Result<Layout, FormatError> {
        let mut assembler = Assembler::new();
        for member in members(source)? {
            add_stored(&mut assembler, source, &member, depth)?;
        }
        assembler.finish_distinct(self.name(), source.len())
    }
}
