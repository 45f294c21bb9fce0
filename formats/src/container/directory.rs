//! Where the members of a zip archive lie.

use std::io;

use rawzip::{CompressionMethod, ReaderAt, ZipLocator};
use shard_core::limits::MAX_NAME;

use crate::format::{FormatError, FormatErrorKind};
use crate::json::MAX_ENTRIES;
use crate::source::Source;

/// Bytes at the end of a file in which its directory's end is sought: the longest comment of a zip, and what follows it.
const SEARCHED: u64 = 70_000;

/// How a member is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// As it is.
    Stored,
    /// DEFLATE (RFC 1951).
    Deflated,
    /// In another way, or encrypted.
    Other,
}

/// A member of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its path; bytes that are not UTF-8 are replaced.
    pub(crate) name: String,
    pub(crate) method: Method,
    /// Where its data starts in the file, in bytes.
    pub(crate) start: u64,
    /// The length of its data in the file, in bytes.
    pub(crate) stored_len: u64,
    /// The length of the data when it is expanded, in bytes, as the archive has it.
    pub(crate) len: u64,
}

/// Whether a file starts as a zip archive does; an empty archive, which has no members, does not count.
pub(crate) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
}

/// The members of a zip archive, in the order of its directory, folders left out. Their data lie inside the file and do not
/// overlap (CVE-2024-0450).
///
/// # Errors
/// [`FormatError`] for a directory that is not sound.
pub(crate) fn members(source: &dyn Source) -> Result<Vec<Member>, FormatError> {
    let reader = Reader { source };
    let mut buffer = vec![0; 64 << 10];
    let archive = ZipLocator::new()
        .max_search_space(SEARCHED)
        .locate_in_reader(reader, &mut buffer, source.len())
        .map_err(|(_, error)| failed(error))?;
    let mut entries = archive.entries(&mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().map_err(failed)? {
        if entry.is_dir() {
            continue;
        }
        if found.len() == MAX_ENTRIES {
            return Err(FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_ENTRIES} members")));
        }
        let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        if name.len() > MAX_NAME {
            return Err(FormatError::new(FormatErrorKind::Limit, "a member's name is longer than shard follows"));
        }
        let method = match entry.compression_method() {
            _ if entry.flags().is_encrypted() => Method::Other,
            CompressionMethod::STORE => Method::Stored,
            CompressionMethod::DEFLATE => Method::Deflated,
            _ => Method::Other,
        };
        found.push((name, method, entry.wayfinder()));
    }
    let mut members = Vec::with_capacity(found.len());
    for (name, method, wayfinder) in found {
        let (start, end) = archive.get_entry(wayfinder).map_err(failed)?.compressed_data_range();
        let len = wayfinder.uncompressed_size_hint();
        if start > end || end > source.len() || (method == Method::Stored && len != end - start) {
            return Err(FormatError::malformed(format!("member {name:?} does not lie in the file as it should")));
        }
        members.push(Member { name, method, start, stored_len: end - start, len });
    }
    let mut ranges: Vec<(u64, u64)> = members.iter().map(|member| (member.start, member.stored_len)).collect();
    ranges.sort_unstable();
    if ranges.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
        return Err(FormatError::new(FormatErrorKind::Overlap, "members of the archive overlap"));
    }
    Ok(members)
}

fn failed(error: rawzip::Error) -> FormatError {
    match error.kind() {
        rawzip::ErrorKind::IO(io) if io.kind() != io::ErrorKind::UnexpectedEof => {
            io::Error::new(io.kind(), io.to_string()).into()
        }
        _ => FormatError::malformed(format!("the archive's directory is not sound: {error}")),
    }
}

struct Reader<'a> {
    source: &'a dyn Source,
}

impl ReaderAt for Reader<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        self.source.read_at(offset, &mut buf[..len])?;
        Ok(len)
    }
}
