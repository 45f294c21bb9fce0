//! Records have exactly one form: whatever else is in a file is refused, or is another valid record.

use shard_core::sha256;

use super::golden::{Content, decode, encode, files};

/// One record of each kind, with every field that the kind has.
const RECORDS: [&str; 5] = [
    "format",
    "refs/heads%2fmain/fffffffffffffffd",
    "leases/0000000000000003-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "epochs/fffffffffffffffc",
    "remotes/fffffffffffffffd",
];

/// Bytes that mean something in a record, or nearly do.
const BYTES: &[u8] = b"\0\t\n\x0b\x0c\r\x1b +-_,.:/\\{}u019afgxAFZ~\x7f\x80\x85\xc2\xe2\xff";

const CHECKSUM: usize = "checksum ".len() + 64 + 1;

/// Everything that one byte inserted, removed or changed makes of these.
fn neighbours(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let removed = (0..bytes.len()).map(|at| [&bytes[..at], &bytes[at + 1..]].concat());
    let put = move |at: usize, skip: usize, byte: u8| [&bytes[..at], &[byte], &bytes[at + skip..]].concat();
    let inserted = (0..=bytes.len()).flat_map(move |at| BYTES.iter().map(move |byte| put(at, 0, *byte)));
    let changed = (0..bytes.len()).flat_map(move |at| {
        let flips = (0..8).map(move |bit| bytes[at] ^ (1 << bit));
        BYTES.iter().copied().chain(flips).filter(move |byte| *byte != bytes[at]).map(move |byte| put(at, 1, byte))
    });
    removed.chain(inserted).chain(changed)
}

/// The lines of a record without its checksum, one of them left out, twice there, or in another's place.
fn reordered(body: &[u8]) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> = body.split_inclusive(|byte| *byte == b'\n').collect();
    let mut all = Vec::new();
    for at in 0..lines.len() {
        let without = [&lines[..at], &lines[at + 1..]].concat();
        for place in 0..=without.len() {
            let mut moved = without.clone();
            moved.insert(place, lines[at]);
            all.push(moved.concat());
            let mut twice = lines.clone();
            twice.insert(place, lines[at]);
            all.push(twice.concat());
        }
        all.push(without.concat());
    }
    all
}

/// Reads a body with a checksum that fits: an error, or a record whose one form this is.
fn read_sealed(path: &str, body: &[u8]) -> Option<Content> {
    let bytes = [body, format!("checksum {}\n", sha256(body)).as_bytes()].concat();
    let content = decode(path, &bytes).ok()?;
    assert!(encode(&content).1 == bytes, "{path}: a second form: {:?}", String::from_utf8_lossy(&bytes));
    Some(content)
}

#[test]
fn fault_03_one_byte_more_less_or_other_is_refused() {
    let files = files();
    for path in RECORDS {
        for bad in neighbours(&files[path]) {
            assert!(bad == files[path] || decode(path, &bad).is_err(), "{path}: {:?}", String::from_utf8_lossy(&bad));
        }
    }
}

#[test]
fn fault_03_a_checksum_that_fits_makes_no_second_form() {
    let files = files();
    for path in RECORDS {
        let body = &files[path][..files[path].len() - CHECKSUM];
        let original = read_sealed(path, body).unwrap();
        let (mut others, mut refused) = (0, 0);
        for other in neighbours(body).chain(reordered(body)) {
            match read_sealed(path, &other) {
                Some(content) => {
                    assert_eq!(content == original, other == *body, "{path}: {:?}", String::from_utf8_lossy(&other));
                    assert!(!other.contains(&b'\r') && other.ends_with(b"\n"), "{path}");
                    others += 1;
                }
                None => refused += 1,
            }
        }
        assert!(others > 0 && refused > others / 2, "{path}: {others} others, {refused} refused");
    }
}

#[test]
fn carriage_returns_and_missing_ends_of_lines_are_refused() {
    let files = files();
    for path in RECORDS {
        let body = &files[path][..files[path].len() - CHECKSUM];
        let text = std::str::from_utf8(body).unwrap();
        let ends = [text.replace('\n', "\r\n"), text.replace('\n', "\r"), text.replacen('\n', "\r\n", 1)];
        for bad in ends.iter().map(String::as_str).chain([text.trim_end_matches('\n')]) {
            assert_eq!(read_sealed(path, bad.as_bytes()), None, "{path}: {bad:?}");
        }
        let whole = std::str::from_utf8(&files[path]).unwrap();
        assert!(decode(path, whole.replace('\n', "\r\n").as_bytes()).is_err(), "{path}");
        assert!(decode(path, whole.trim_end().as_bytes()).is_err(), "{path}");
    }
}
