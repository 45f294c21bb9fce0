//! NumPy's `.npz`: a zip archive whose members are all `.npy`. A tensor is called like its member, without the ending.
//!
//! Specification: <https://numpy.org/doc/stable/reference/generated/numpy.savez.html>.

use shard_core::Layout;

use super::directory::{is_zip, members};
use super::zip::lay_out;
use crate::format::{Format, FormatError};
use crate::source::Source;

/// How the names of its members end.
pub(super) const ENDING: &str = ".npy";

/// Where the length of the first member's name and the name are in a file, in bytes.
const NAME_LEN: usize = 26;
const NAME: usize = 30;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Npz;

impl Format for Npz {
    fn name(&self) -> &'static str {
        "npz"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        is_zip(head) && first_name(head).is_some_and(|name| name.ends_with(ENDING.as_bytes()))
    }

    fn parse(&self, source: &dyn Source, depth: usize) -> Result<Layout, FormatError> {
        let members = members(source)?;
        if let Some(other) = members.iter().find(|member| !member.name.ends_with(ENDING)) {
            return Err(FormatError::malformed(format!("the archive holds more than arrays: {:?}", other.name)));
        }
        lay_out(self.name(), source, &members, depth)
    }
}

/// The name of the member that comes first in the file.
fn first_name(head: &[u8]) -> Option<&[u8]> {
    let len = head.get(NAME_LEN..)?.first_chunk().map(|len| u16::from_le_bytes(*len))?;
    head.get(NAME..)?.get(..usize::from(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_known_by_its_first_member() {
        let head = |name: &str| {
            let mut head = b"PK\x03\x04".to_vec();
            head.resize(NAME_LEN, 0);
            head.extend((name.len() as u16).to_le_bytes());
            head.extend([0, 0]);
            head.extend(name.bytes());
            head
        };
        for (name, known) in [("a.npy", true), (".npy", true), ("a/b.npy", true), ("a.npz", false), ("", false)] {
            assert_eq!(Npz.probe(&head(name), 1000), known, "{name}");
        }
        let whole = head("a.npy");
        assert!((0..whole.len()).all(|len| !Npz.probe(&whole[..len], 1000)));
    }
}
