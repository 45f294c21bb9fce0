//! Zip archives with members that other libraries made, and hostile ones.
#![allow(clippy::unwrap_used, reason = "a test")]

mod archive;
mod listing;

use archive::stored;
use listing::{all_agree, check, damaged, fixture, truncations};
use proptest::prelude::*;
use shard_core::limits::Cut;
use shard_formats::FormatErrorKind::{self, Duplicate, Malformed, Overlap};
use shard_formats::cut::Cutter;

/// A member: its name, where its local header is, and how long its data are.
type Entry = (String, u32, u32);

/// The local header of a stored member.
fn local(name: &str, len: u32) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04\x14\0\0\x08\0\0\0\0\x21\0\0\0\0\0".to_vec();
    bytes.extend([len.to_le_bytes(); 2].concat());
    bytes.extend((name.len() as u16).to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(name.bytes());
    bytes
}

/// `bytes` with a directory of those entries.
fn with_directory(mut bytes: Vec<u8>, entries: &[Entry]) -> Vec<u8> {
    let start = bytes.len() as u32;
    for (name, at, len) in entries {
        bytes.extend(b"PK\x01\x02\x14\0");
        bytes.extend(&local(name, *len)[4..30]);
        bytes.extend([0; 10]);
        bytes.extend(at.to_le_bytes());
        bytes.extend(name.bytes());
    }
    let len = bytes.len() as u32 - start;
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([(entries.len() as u16).to_le_bytes(); 2].concat());
    bytes.extend(len.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// A safetensors file with one tensor.
fn safetensors(name: &str, data: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, data.len());
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Noise of that length.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect()
}

fn refused(bytes: &Vec<u8>) -> Option<FormatErrorKind> {
    let parsed = check(bytes);
    assert_eq!(parsed.layout.format == "opaque", parsed.note.is_some(), "{:?}", parsed.note);
    parsed.note.map(|note| note.kind())
}

#[test]
fn fixtures_agree_with_the_libraries_of_their_members() {
    assert!(all_agree("zip") >= 10);
}

#[test]
fn every_truncation_has_a_layout() {
    truncations("zip");
}

#[test]
fn fault_31_names_that_lead_outside_are_only_names() {
    let names: Vec<String> =
        check(&fixture("zip", "models.zip")).layout.tensors.into_iter().map(|tensor| tensor.name).collect();
    for name in ["../outside", "/absolute", "arrays/x", "array.bin", "model.safetensors/a.weight"] {
        assert!(names.iter().any(|other| other == name), "{name} of {names:?}");
    }
    let data = safetensors("../../t", b"x");
    let names = ["../../../etc/passwd", "C:\\x", "a/../b", "nul\0", "\u{202e}", ".."];
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &data[..])).collect();
    let layout = check(&stored(&members)).layout;
    for (tensor, name) in layout.tensors.iter().zip(names) {
        assert_eq!(tensor.name, format!("{name}/../../t"));
    }
    assert_eq!(layout.tensors.len(), names.len());
}

#[test]
fn fault_23_cve_2024_0450_members_that_overlap() {
    let data = safetensors("t", &[7; 100]);
    let len = data.len() as u32;
    let mut bytes = local("a", len);
    bytes.extend(&data);
    let entry = |name: &str, at, len| (name.to_owned(), at, len);
    // The same data many times, with the whole of it or with less.
    let same: Vec<Entry> = (0..1000).map(|index| entry(&format!("{index}"), 0, len)).collect();
    assert_eq!(refused(&with_directory(bytes.clone(), &same)), Some(Overlap));
    assert_eq!(refused(&with_directory(bytes.clone(), &[entry("a", 0, len), entry("b", 0, 9)])), Some(Overlap));
    // A member whose data are those of others, with their headers.
    let mut quoted = Vec::new();
    let mut entries = Vec::new();
    let all = 1000 * (31 + len);
    for index in 0..1000u32 {
        entries.push(entry("a", quoted.len() as u32, all - index * (31 + len) - 31));
        quoted.extend(&bytes);
    }
    assert_eq!(refused(&with_directory(quoted, &entries)), Some(Overlap));
    assert_eq!(refused(&with_directory(bytes, &[entry("a", 0, len)])), None);
}

#[test]
fn members_outside_the_file_are_refused() {
    let data = safetensors("t", b"x");
    let len = data.len() as u32;
    let bytes = [local("a", len), data].concat();
    for (at, len) in [(0, len + 1000), (0, u32::MAX - 1), (1, len), (u32::MAX - 1, len), (100, len)] {
        assert_eq!(
            refused(&with_directory(bytes.clone(), &[("a".to_owned(), at, len)])),
            Some(Malformed),
            "{at} {len}"
        );
    }
}

#[test]
fn a_name_that_stands_for_two_tensors_is_refused() {
    let (one, other) = (safetensors("b/c", b"x"), safetensors("c", b"y"));
    assert_eq!(refused(&stored(&[("a", &one), ("a/b", &other)])), Some(Duplicate));
    assert_eq!(refused(&stored(&[("a", &other), ("b", &other)])), None);
    assert_eq!(refused(&stored(&[("a", &other), ("a", &other)])), Some(Duplicate));
    assert_eq!(refused(&stored(&[("a", b"x"), ("a", b"y")])), None);
}

#[test]
fn a_name_that_is_too_long_with_its_path_leaves_its_member_opaque() {
    let model = safetensors(&"t".repeat(2000), b"x");
    let names = ["n".repeat(2095), "o".repeat(2096)];
    let layout = check(&stored(&[(&names[0], &model), (&names[1], &model)])).layout;
    assert_eq!(layout.format, "zip");
    let lens: Vec<_> = layout.tensors.iter().map(|tensor| tensor.name.len()).collect();
    assert_eq!(lens, [4096]);
}

#[test]
fn long_members_have_their_own_segments_and_short_ones_do_not() {
    let (long, other) = (noise(300_000, 1), noise(65_536, 2));
    let first = stored(&[("readme", b"short"), ("data", &long), ("config", b"{}"), ("other", &other)]);
    let layout = check(&first).layout;
    assert_eq!(layout.format, "zip");
    let lens: Vec<u64> = layout.segments.iter().map(|segment| segment.len).collect();
    let tail = first.len() as u64 - (36 + 5 + 34 + 300_000 + 36 + 2 + 35 + 65_536);
    assert_eq!(lens, [36 + 5 + 34, 300_000, 36 + 2 + 35, 65_536, tail]);
    // Equal members have equal blocks, wherever they are.
    let second = stored(&[("elsewhere", &noise(12_345, 3)), ("renamed", &other), ("again", &long)]);
    let blocks = |bytes: &Vec<u8>, len: u64| {
        let layout = check(bytes).layout;
        let segment = layout.segments.iter().position(|segment| segment.len == len).unwrap();
        let mut cutter = Cutter::new(bytes, &layout, Cut::TEST);
        let (mut block, mut blocks) = (Vec::new(), Vec::new());
        while let Some(found) = cutter.next(&mut block).unwrap() {
            if found.segment == segment {
                blocks.push(block.clone());
            }
        }
        blocks
    };
    for len in [300_000, 65_536] {
        assert_eq!(blocks(&first, len), blocks(&second, len));
    }
    // The head of a file in an archive is that of the file by itself.
    let model = safetensors(&"n".repeat(4000), &long);
    let padded = [&(model.len() as u64 + 70_000).to_le_bytes()[..], &model[8..]].concat();
    assert!(check(&stored(&[("model", &padded)])).note.is_none());
}

#[test]
fn the_depth_of_archives_is_bounded() {
    let mut bytes = safetensors("t", b"x");
    for depth in 0..40 {
        bytes = stored(&[("m", &bytes)]);
        let found = check(&bytes).layout.tensors.len();
        assert_eq!(found, usize::from(depth < shard_formats::MAX_DEPTH), "{depth}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_files_have_a_layout(which: usize, edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        damaged("zip", which, &edits);
    }
}
