//! The parser of `.npz` against NumPy, and on hostile files.
#![allow(clippy::unwrap_used, reason = "a test")]

mod archive;
mod listing;

use archive::{Member, zip};
use listing::{all_agree, check, damaged, fixture, parses_quickly, truncations};
use proptest::prelude::*;
use shard_formats::FormatErrorKind;

/// An archive of members with a name, data, and what the directory says of the length when expanded, which is given where the
/// member is said to be deflated.
fn archive(members: &[(String, Vec<u8>, Option<u32>)]) -> Vec<u8> {
    let members = members.iter().map(|(name, data, deflated)| match deflated {
        Some(len) => Member { method: 8, len: *len, ..Member::stored(name, data) },
        None => Member::stored(name, data),
    });
    zip(&members.collect::<Vec<_>>())
}

/// A `.npy` of that shape.
fn npy(shape: &str, data: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:117}\n");
    let mut bytes = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    bytes.extend((0..data).map(|at| (at / 7) as u8));
    bytes
}

#[test]
fn fixtures_agree_with_numpy() {
    assert!(all_agree("npz") >= 24);
}

#[test]
fn every_truncation_has_a_layout() {
    truncations("npz");
}

#[test]
fn the_arrays_of_a_compressed_archive_are_found_in_what_it_expands_to() {
    let parsed = check(&fixture("npz", "compressed.npz"));
    assert!(parsed.note.is_none());
    assert_eq!(parsed.layout.format, "npz");
    assert_eq!(parsed.layout.compressed.len(), parsed.layout.tensors.len());
    assert!(parsed.layout.tensors.len() >= 2);
}

#[test]
fn an_archive_of_more_than_arrays_is_a_zip() {
    let members = [("a.npy".to_owned(), npy("(2,)", 8), None), ("b.txt".to_owned(), b"text".to_vec(), None)];
    let parsed = check(&archive(&members));
    assert_eq!(parsed.layout.format, "zip");
    assert_eq!(parsed.note.unwrap().kind(), FormatErrorKind::Malformed);
    assert_eq!(parsed.layout.tensors[0].name, "a");
}

#[test]
fn arrays_that_are_not_sound_stay_opaque_and_the_others_are_found() {
    let members = [
        ("short.npy".to_owned(), npy("(1099511627776,)", 64), None),
        ("none.npy".to_owned(), Vec::new(), None),
        ("text.npy".to_owned(), b"no array".to_vec(), None),
        ("sound.npy".to_owned(), npy("(16,)", 64), None),
        (format!("{}.npy", "n".repeat(4092)), npy("(16,)", 64), None),
        (".npy".to_owned(), npy("(16,)", 64), None),
    ];
    let parsed = check(&archive(&members));
    assert!(parsed.note.is_none(), "{:?}", parsed.note);
    let names: Vec<_> =
        parsed.layout.tensors.iter().map(|tensor| tensor.name.chars().take(5).collect::<String>()).collect();
    assert_eq!(names, ["sound", "nnnnn", ""]);
}

#[test]
fn fault_37_a_member_that_expands_to_4_gib_is_not_expanded() {
    let parsed = check(&archive(&[("big.npy".to_owned(), vec![0; 4 << 20], Some(u32::MAX - 1))]));
    assert!(parsed.note.is_none());
    assert!(parsed.layout.tensors.is_empty());
    let lens: Vec<u64> = parsed.layout.segments.iter().map(|segment| segment.len).collect();
    assert_eq!(lens[1], 4 << 20, "{lens:?}");
    // One that is stored says its length twice.
    let mut bytes = archive(&[("big.npy".to_owned(), npy("(16,)", 64), None)]);
    let directory = bytes.len() - 22 - 46 - 7;
    bytes[directory + 24..directory + 28].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    assert_eq!(check(&bytes).note.unwrap().kind(), FormatErrorKind::Malformed);
}

#[test]
fn twenty_thousand_members_parse_quickly() {
    let members: Vec<_> = (0..20_000).map(|index| (format!("layers/{index}/w.npy"), npy("(16,)", 64), None)).collect();
    let parsed = parses_quickly(&archive(&members));
    assert_eq!(parsed.layout.format, "npz");
    assert_eq!(parsed.layout.tensors.len(), 20_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_files_have_a_layout(which: usize, edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        damaged("npz", which, &edits);
    }
}
