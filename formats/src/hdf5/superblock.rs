//! The superblock: where the file's addresses start, how wide they are, and which object is the root group.

use super::file::File;
use crate::format::{FormatError, FormatErrorKind};
use crate::source::Source;

/// The first bytes of a superblock.
pub(super) const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

/// A user block may come first: of 512 bytes, or twice that, and so on. This many are tried.
const PLACES: u32 = 32;

/// Where a superblock may be, in bytes from the start of the file.
pub(super) fn places() -> impl Iterator<Item = u64> {
    std::iter::once(0).chain((0..PLACES).map(|index| 512u64 << index))
}

/// Reads the superblock; also gives where the root group's object header is.
///
/// Addresses count from the superblock, wherever the file says that it is: a user block may have been put before the file, or
/// taken away.
pub(super) fn open(source: &dyn Source) -> Result<(File<'_>, u64), FormatError> {
    for base in places().take_while(|base| base.saturating_add(SIGNATURE.len() as u64) <= source.len()) {
        let mut signature = [0; 8];
        source.read_at(base, &mut signature)?;
        if signature == *SIGNATURE {
            return read(File::new(source, base));
        }
    }
    Err(FormatError::malformed("no superblock"))
}

fn read(mut file: File<'_>) -> Result<(File<'_>, u64), FormatError> {
    let start = file.base;
    let mut reader = file.at(start);
    reader.skip(SIGNATURE.len() as u64)?;
    let version = reader.u8()?;
    let (offset_bytes, length_bytes) = match version {
        0 | 1 => {
            reader.skip(4)?;
            (reader.u8()?, reader.u8()?)
        }
        2 | 3 => (reader.u8()?, reader.u8()?),
        _ => return Err(FormatError::new(FormatErrorKind::Limit, format!("a superblock of version {version}"))),
    };
    if !matches!(offset_bytes, 2 | 4 | 8) || !matches!(length_bytes, 2 | 4 | 8) {
        return Err(FormatError::malformed(format!(
            "addresses of {offset_bytes} bytes, lengths of {length_bytes} bytes"
        )));
    }
    let position = reader.position();
    (file.offset_bytes, file.length_bytes) = (offset_bytes, length_bytes);
    let mut reader = file.at(position);
    let addresses = 3 * u64::from(offset_bytes);
    // After the base address come those of what describes free space, of the file's end, and of more.
    reader.skip(match version {
        0 => 9 + 4 * u64::from(offset_bytes) + u64::from(offset_bytes),
        1 => 13 + 4 * u64::from(offset_bytes) + u64::from(offset_bytes),
        _ => 1 + addresses,
    })?;
    let root = reader.address()?.ok_or_else(|| FormatError::malformed("no root group"))?;
    Ok((file, root))
}
