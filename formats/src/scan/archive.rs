//! Files and the files in them.

use std::io::{self, Read};

use flate2::read::DeflateDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::Scanner;
use super::stream::Between;
use crate::MAX_DEPTH;
use crate::container::{directory, tar_directory};
use crate::format::FormatError;
use crate::source::{Slice, Source};

/// Most bytes that a member is expanded to, together with those that it lies in.
const MAX_EXPANDED: u64 = 128 << 20;

/// Bytes that are expanded at a time.
const STEP_EXPANDED: usize = 1 << 20;

/// Most bytes that members are expanded to, together.
const MAX_EXPANDED_TOTAL: u64 = 2 << 30;

/// Most members that are looked at.
const MAX_MEMBERS: usize = 1 << 20;

/// Bytes by which a kind of file is known.
const HEAD: usize = 1 << 10;

/// The start of a NumPy file.
const NPY: &[u8] = b"\x93NUMPY";

/// The start of a member in a zip archive, before its name.
const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const LOCAL_HEADER_LEN: usize = 30;

/// Starts of archives that are not opened.
const UNOPENED: &[(&[u8], &str)] = &[
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\x5d\0\0", "LZMA"),
];

/// What a file that starts so is compressed by, where it is not opened.
fn unopened(head: &[u8]) -> Option<&'static str> {
    let known = UNOPENED.iter().find(|(start, _)| head.starts_with(start)).map(|(_, kind)| *kind);
    known.or_else(|| is_zlib(head).then_some("zlib"))
}

/// Whether a file starts as a stream of zlib (RFC 1950), as joblib writes them: its two bytes alone could be anything's.
fn is_zlib(head: &[u8]) -> bool {
    let starts = matches!(head, [0x78, flags, ..] if (0x7800 + u16::from(*flags)) % 31 == 0);
    let mut out = [0; 64];
    starts
        && Decompress::new(true)
            .decompress(head, &mut out, FlushDecompress::None)
            .is_ok_and(|status| status != Status::BufError)
}

impl Scanner {
    /// A file, or a member of an archive that is `depth` archives deep.
    pub(super) fn file(&mut self, source: &dyn Source, member: &str, depth: usize) -> io::Result<()> {
        let mut head = vec![0; usize::try_from(source.len()).map_or(HEAD, |len| len.min(HEAD))];
        source.read_at(0, &mut head)?;
        // A file may be several things at once, to several readers.
        let between = match member.rsplit('/').next() {
            Some("storages") if depth > 0 => Between::Storages,
            Some("tensors") if depth > 0 => Between::Tensors,
            _ => Between::Nothing,
        };
        self.pickles(source, 0, member, between)?;
        if let Some(start) = object_array(&head) {
            self.pickles(source, start, member, Between::Nothing)?;
        }
        let (zip, tar) = (is_zip(source, &head, depth)?, tar_directory::is_tar(&head));
        if (zip || tar) && depth >= MAX_DEPTH {
            self.note(member, format!("an archive {MAX_DEPTH} archives deep was not opened"));
        } else {
            if zip {
                self.zip(source, member, depth)?;
            }
            if tar {
                self.tar(source, member, depth)?;
            }
        }
        if let Some(kind) = unopened(&head) {
            self.note(member, format!("{kind} data was not expanded"));
        }
        Ok(())
    }

    fn tar(&mut self, source: &dyn Source, member: &str, depth: usize) -> io::Result<()> {
        match tar_directory::members(source) {
            Ok(members) => members.iter().try_for_each(|inner| {
                let Some(slice) = Slice::new(source, inner.start, inner.len) else { return Ok(()) };
                self.member(&slice, &path(member, &inner.name), depth)
            }),
            Err(error) => {
                let error = error.into_read_error()?;
                self.note(member, format!("the tar archive was not opened: {error}"));
                Ok(())
            }
        }
    }

    fn zip(&mut self, source: &dyn Source, member: &str, depth: usize) -> io::Result<()> {
        let members = match directory::members(source).map_err(FormatError::into_read_error) {
            Ok(members) => members,
            Err(error) => {
                let error = error?;
                self.note(member, format!("{error}; its members were sought by what begins them"));
                return self.loose_members(source, member, depth);
            }
        };
        for inner in &members {
            let Some(slice) = Slice::new(source, inner.start, inner.stored_len) else { continue };
            let name = path(member, &inner.name);
            // What the archive says of a member need not be what a reader goes by: a flag that says that it is encrypted makes
            // one reader fail and is passed over by another.
            if inner.method != directory::Method::Deflated {
                self.member(&slice, &name, depth)?;
            }
            if inner.method != directory::Method::Stored {
                let expanded = self.expanded(&slice, &name, depth)?;
                if !expanded && inner.method == directory::Method::Other {
                    self.note(&name, "the member is encrypted, or compressed in a way that was not expanded");
                }
            }
        }
        Ok(())
    }

    /// The members of a zip archive whose directory is not sound, by their own headers.
    fn loose_members(&mut self, source: &dyn Source, member: &str, depth: usize) -> io::Result<()> {
        const STEP: usize = 1 << 20;
        let overlap = LOCAL_HEADER_LEN as u64 - 1;
        let mut window = Vec::new();
        let mut at = 0;
        while at < source.len() {
            window.resize(usize::try_from(source.len() - at).map_or(STEP, |left| left.min(STEP)), 0);
            source.read_at(at, &mut window)?;
            let starts =
                window.windows(LOCAL_HEADER_LEN).enumerate().filter(|(_, header)| header.starts_with(LOCAL_HEADER));
            let found: Vec<(u64, u64, bool)> = starts
                .map(|(offset, header)| {
                    let number = |at: usize| match header.get(at..at + 2) {
                        Some([low, high]) => u64::from(u16::from_le_bytes([*low, *high])),
                        _ => 0,
                    };
                    (at + offset as u64, LOCAL_HEADER_LEN as u64 + number(26) + number(28), number(8) != 0)
                })
                .collect();
            for (start, header, packed) in found {
                // How long it is, its pickle or its compressed data says.
                let Some(data) = source.len().checked_sub(start + header) else { continue };
                let Some(slice) = Slice::new(source, start + header, data) else { continue };
                let name = path(member, &format!("@{start}"));
                self.pickles(&slice, 0, &name, Between::Nothing)?;
                if packed {
                    self.expanded(&slice, &name, depth)?;
                }
            }
            if window.len() < STEP {
                break;
            }
            at += STEP as u64 - overlap;
        }
        Ok(())
    }

    fn member(&mut self, source: &dyn Source, name: &str, depth: usize) -> io::Result<()> {
        if self.members >= MAX_MEMBERS {
            if self.members == MAX_MEMBERS {
                self.note(name, format!("there are more than {MAX_MEMBERS} members; the rest was not looked at"));
                self.members += 1;
            }
            return Ok(());
        }
        self.members += 1;
        self.file(source, name, depth + 1)
    }

    /// A deflated member; whether it is one.
    fn expanded(&mut self, source: &Slice<'_>, name: &str, depth: usize) -> io::Result<bool> {
        let room = MAX_EXPANDED.saturating_sub(self.held);
        let limit = room.min(MAX_EXPANDED_TOTAL.saturating_sub(self.expanded));
        if limit == 0 {
            self.note(name, "it was not expanded: other members took all that a scan has for that");
            return Ok(true);
        }
        let mut bytes = Vec::new();
        let mut failed = None;
        let mut reader = DeflateDecoder::new(Reader { source, at: 0, failed: &mut failed }).take(limit + 1);
        // In steps: a vector that doubles would take twice what it holds.
        let whole = loop {
            bytes.reserve_exact(STEP_EXPANDED);
            let before = bytes.len();
            match reader.by_ref().take(STEP_EXPANDED as u64).read_to_end(&mut bytes) {
                Ok(_) if bytes.len() == before => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        // Data may be long and expand to nothing.
        self.expanded += reader.get_ref().total_in().max(bytes.len() as u64);
        drop(reader);
        if let Some(error) = failed {
            return Err(error);
        }
        if bytes.len() as u64 > limit {
            bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            self.note(name, format!("only its first {limit} bytes were looked at"));
        }
        // Whatever came out before the data turned out to be damaged, a reader has seen too.
        if !bytes.is_empty() {
            self.held += bytes.len() as u64;
            let looked_at = self.member(&bytes, name, depth);
            self.held -= bytes.len() as u64;
            looked_at?;
        }
        Ok(whole)
    }
}

/// Whether one reader or another takes a file for a zip archive: by its start, or by the end of its directory.
fn is_zip(source: &dyn Source, head: &[u8], depth: usize) -> io::Result<bool> {
    const END: &[u8] = b"PK\x05\x06";
    const END_LEN: u64 = 22;
    const LONGEST_COMMENT: u64 = 1 << 16;
    if directory::is_zip(head) {
        return Ok(true);
    }
    // Archives in archives are known by their end only where no comment follows it: there may be many members.
    let within = if depth == 0 { END_LEN + LONGEST_COMMENT } else { END_LEN };
    let mut tail = vec![0; source.len().min(within) as usize];
    source.read_at(source.len() - tail.len() as u64, &mut tail)?;
    Ok(tail.windows(END.len()).any(|window| window == END))
}

/// Where the pickle of a NumPy array of objects starts, if the file is one.
fn object_array(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(NPY)?;
    let (header, len): (usize, usize) = match rest {
        [1, _, low, high, ..] => (4, usize::from(*low) | usize::from(*high) << 8),
        [_, _, a, b, c, d, ..] => (6, usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?),
        _ => return None,
    };
    let described = rest.get(header..)?;
    let described = described.get(..len).unwrap_or(described);
    // Names of fields may have the letter too; then there are no pickles, and nothing is found.
    described.contains(&b'O').then_some((NPY.len() + header + len) as u64)
}

fn path(outer: &str, inner: &str) -> String {
    if outer.is_empty() { inner.to_owned() } else { format!("{outer}/{inner}") }
}

/// Reads a source from front to back. What fails is kept, since a decoder hides it.
struct Reader<'a, 'b> {
    source: &'a dyn Source,
    at: u64,
    failed: &'b mut Option<io::Error>,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.at);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let part = buf.get_mut(..len).unwrap_or_default();
        if let Err(error) = self.source.read_at(self.at, part) {
            *self.failed = Some(io::Error::new(error.kind(), error.to_string()));
            return Err(error);
        }
        self.at += len as u64;
        Ok(len)
    }
}
