//! Where the members of a tar archive lie.
//!
//! Read are ustar, GNU's long names and pax headers. Wherever two readers of tar disagree about where the next header is, the
//! archive is refused: a pax size that is not the header's (CVE-2025-62518, CVE-2026-33055), a length of what has no data.
//!
//! Specification: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>; GNU's additions:
//! <https://www.gnu.org/software/tar/manual/html_node/Standard.html>.

use shard_core::limits::MAX_NAME;

use super::directory::{Member, Method};
use crate::format::{FormatError, FormatErrorKind};
use crate::json::MAX_ENTRIES;
use crate::source::{Cursor, Source};

/// Bytes of a header, and the unit in which data are padded.
pub(crate) const BLOCK: usize = 512;

/// Longest pax header or long name, in bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// The first size that a header's octal digits cannot say, in bytes.
const OCTAL_END: u64 = 1 << 33;

/// The name in the first header of an archive, without what a record before it may say of it.
pub(crate) fn first_name(head: &[u8]) -> Option<String> {
    head.first_chunk::<BLOCK>().map(name_of)
}

/// Whether a file starts as a tar archive of POSIX or GNU does.
pub(crate) fn is_tar(head: &[u8]) -> bool {
    head.len() >= BLOCK && field(head, 257, 5) == b"ustar"
}

/// The files in a tar archive, in order. What is no plain file (folders, links, devices, files with holes) is left out. The data of
/// the members lie inside the archive and do not overlap.
///
/// # Errors
/// [`FormatError`] for an archive that is not sound.
pub(crate) fn members(source: &dyn Source) -> Result<Vec<Member>, FormatError> {
    let mut cursor = Cursor::new(source, 0);
    let mut members = Vec::new();
    let mut extended = Extended::default();
    let mut headers = 0;
    // The end is a header of zeros; without one, the end of the file.
    while cursor.left() > 0 {
        let header: [u8; BLOCK] = cursor.array()?;
        if header == [0; BLOCK] {
            break;
        }
        headers += 1;
        if headers > MAX_ENTRIES {
            return Err(FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_ENTRIES} headers")));
        }
        check_sum(&header)?;
        let kind = header[156];
        match kind {
            b'L' | b'K' | b'x' | b'X' | b'g' => {
                let data = extension(&mut cursor, &header)?;
                match kind {
                    b'L' => extended.name(until_zero(&data))?,
                    b'x' | b'X' => extended.local(&data)?,
                    b'g' => global(&data)?,
                    _ => {}
                }
                continue;
            }
            _ => {}
        }
        let Extended { name, size, has_pax: _, sparse } = std::mem::take(&mut extended);
        let size = agreed_size(&header, size)?;
        // Links, devices, folders and pipes.
        if matches!(kind, b'1'..=b'6') {
            if size != 0 {
                return Err(FormatError::malformed("a member that has no data has a size"));
            }
            continue;
        }
        if kind == b'S' {
            skip_sparse_map(&mut cursor, &header)?;
        }
        let start = cursor.position();
        cursor.skip(size)?;
        if matches!(kind, b'0' | 0 | b'7') && !sparse {
            let name = name.unwrap_or_else(|| name_of(&header));
            members.push(Member { name, method: Method::Stored, start, stored_len: size, len: size });
        }
        pad(&mut cursor);
    }
    Ok(members)
}

/// What the headers before a member say of it.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    size: Option<u64>,
    has_pax: bool,
    /// Whether the data are a map of holes and what lies between them.
    sparse: bool,
}

impl Extended {
    fn name(&mut self, name: &[u8]) -> Result<(), FormatError> {
        if name.len() > MAX_NAME {
            return Err(FormatError::new(FormatErrorKind::Limit, "a member's name is longer than shard follows"));
        }
        match self.name.replace(String::from_utf8_lossy(name).into_owned()) {
            None => Ok(()),
            Some(_) => Err(FormatError::malformed("a member has two long names")),
        }
    }

    /// Reads a pax header.
    fn local(&mut self, data: &[u8]) -> Result<(), FormatError> {
        if std::mem::replace(&mut self.has_pax, true) {
            return Err(FormatError::malformed("a member has two pax headers"));
        }
        for record in Records(data) {
            match record? {
                (b"path", value) => self.name(value)?,
                (b"size", value) => {
                    let size = decimal(value).ok_or_else(|| FormatError::malformed("a pax size is no number"))?;
                    if self.size.replace(size).is_some() {
                        return Err(FormatError::malformed("a pax header has two sizes"));
                    }
                }
                (key, _) => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }
}

/// Checks a pax header for all members: one that says where they end or what they are called is for none.
fn global(data: &[u8]) -> Result<(), FormatError> {
    for record in Records(data) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err(FormatError::malformed("a pax header for all members has what only one can have"));
        }
    }
    Ok(())
}

/// The records `LENGTH KEY=VALUE\n` of a pax header; the length is that of the record.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let found = record(self.0);
        self.0 = found.map_or(&[], |(_, rest)| rest);
        Some(found.map(|(pair, _)| pair).ok_or_else(|| FormatError::malformed("a pax header is not sound")))
    }
}

/// The first record of a pax header, and what follows it.
#[allow(clippy::type_complexity, reason = "two pairs of bytes")]
fn record(data: &[u8]) -> Option<((&[u8], &[u8]), &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let len = usize::try_from(decimal(data.get(..space)?)?).ok()?;
    let text = data.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    Some(((text.get(..equals)?, text.get(equals + 1..)?), data.get(len..)?))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let all = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

/// The data of a header that is about another.
fn extension(cursor: &mut Cursor<'_>, header: &[u8; BLOCK]) -> Result<Vec<u8>, FormatError> {
    let size = header_size(header)?;
    if size > MAX_EXTENSION {
        return Err(FormatError::new(FormatErrorKind::Limit, format!("a name or pax header of {size} bytes")));
    }
    let data = cursor.take(size)?;
    pad(cursor);
    Ok(data)
}

/// Passes over the map of a file with holes where it goes on after its header.
fn skip_sparse_map(cursor: &mut Cursor<'_>, header: &[u8; BLOCK]) -> Result<(), FormatError> {
    let mut more = header[482];
    while more != 0 {
        more = cursor.array::<BLOCK>()?[504];
    }
    Ok(())
}

/// Goes on to the next header, or to the end where the last block is not padded.
fn pad(cursor: &mut Cursor<'_>) {
    cursor.seek(cursor.position().next_multiple_of(BLOCK as u64));
}

/// Checks the sum of a header's bytes, in which those of the sum itself count as spaces. Old programs took bytes for signed.
fn check_sum(header: &[u8; BLOCK]) -> Result<(), FormatError> {
    let counted = header.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let (unsigned, signed) = counted.fold((0i64, 0i64), |(unsigned, signed), byte| {
        (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
    });
    match number(field(header, 148, 8)).and_then(|sum| i64::try_from(sum).ok()) {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err(FormatError::malformed("a header's sum is not that of its bytes")),
    }
}

/// The size that a header says, in bytes.
fn header_size(header: &[u8; BLOCK]) -> Result<u64, FormatError> {
    number(field(header, 124, 12)).ok_or_else(|| FormatError::malformed("a header's size is no number"))
}

/// The size of a member's data, in bytes: that of its pax header, if it has one. The two differ only where the header cannot say it.
fn agreed_size(header: &[u8; BLOCK], pax: Option<u64>) -> Result<u64, FormatError> {
    let size = header_size(header)?;
    match pax {
        Some(pax) if pax != size && (pax < OCTAL_END || size != 0) => {
            Err(FormatError::malformed(format!("a member has {size} bytes by its header and {pax} by its pax header")))
        }
        pax => Ok(pax.unwrap_or(size)),
    }
}

/// A number in octal digits, or, with the highest bit set, in big-endian bytes.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, rest @ ..] => {
            rest.iter().try_fold(0u64, |number, byte| (number >> 56 == 0).then_some(number << 8 | u64::from(*byte)))
        }
        _ => {
            let digits = until_zero(field).trim_ascii();
            digits.iter().try_fold(0u64, |number, digit| match digit {
                b'0'..=b'7' if number >> 61 == 0 => Some(number << 3 | u64::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

/// A member's path as the header itself has it; bytes that are not UTF-8 are replaced.
fn name_of(header: &[u8; BLOCK]) -> String {
    let name = until_zero(field(header, 0, 100));
    // Where POSIX has the start of a long path, GNU has times.
    let prefix = if field(header, 257, 6) == b"ustar\0" { until_zero(field(header, 345, 155)) } else { &[] };
    let path = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
    String::from_utf8_lossy(&path).into_owned()
}

fn field(header: &[u8], at: usize, len: usize) -> &[u8] {
    header.get(at..at + len).unwrap_or_default()
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_big_endian() {
        assert_eq!(number(b"00000000017\0"), Some(15));
        assert_eq!(number(b"  17 \0garbage"), Some(15));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"777777777777"), Some((1 << 36) - 1));
        assert_eq!(number(b"\x80\0\0\x02\0\0\0\0\0"), Some(2 << 40));
        assert_eq!(number(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), Some(u64::MAX));
        assert_eq!(number(b"1777777777777777777777"), Some(u64::MAX));
        for bad in [&b"18"[..], b"1-", b"\xff\xff", b"\x81\0", b"2777777777777777777777", b"\x80\x01\0\0\0\0\0\0\0\0"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn records_say_their_own_length() {
        let all = |data| Records(data).collect::<Result<Vec<_>, _>>().ok();
        assert_eq!(all(b""), Some(vec![]));
        assert_eq!(all(b"6 a=b\n10 k=v=\n\x00\n"), Some(vec![(&b"a"[..], &b"b"[..]), (b"k", b"v=\n\0")]));
        for bad in [&b"6 a=b"[..], b"7 a=b\n", b"5 a=b\n", b"6 a:b\n", b" a=b\n", b"-6 a=b\n", b"6 a=b\nx"] {
            assert_eq!(all(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_end_needs_no_padding_and_the_sum_may_be_of_signed_bytes() {
        let mut header = [0u8; BLOCK];
        header[0] = 0xe9;
        header[124..127].copy_from_slice(b"003");
        header[156] = b'0';
        header[257..262].copy_from_slice(b"ustar");
        let rest: i64 = header.iter().skip(1).map(|byte| i64::from(*byte)).sum::<i64>() + 8 * i64::from(b' ');
        for sum in [rest + 0xe9, rest + 0xe9 - 256] {
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            let members = members(&[&header[..], b"abc"].concat()).unwrap();
            assert_eq!((members[0].name.as_str(), members[0].start, members[0].len), ("\u{fffd}", 512, 3));
        }
        header[148..155].copy_from_slice(format!("{:06o}\0", rest).as_bytes());
        assert!(members(&[&header[..], b"abc"].concat()).is_err());
    }
}
