//! Zip archives with members that other libraries made, and hostile ones.
#![allow(clippy::unwrap_used, reason = "a test")]

mod archive;
mod listing;

use std::io::Write;

use archive::{Member, put_directory, stored, zip};
use listing::{all_agree, check, damaged, fixture, truncations};
use proptest::prelude::*;
use shard_core::limits::Cut;
use shard_formats::FormatErrorKind::{self, Malformed, Overlap};
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
fn a_name_that_stands_for_several_tensors_is_numbered() {
    let (one, other) = (safetensors("b/c", b"x"), safetensors("c", b"y"));
    let names = |members: &[Member<'_>]| {
        let parsed = check(&zip(members));
        assert!(parsed.note.is_none(), "{:?}", parsed.note);
        parsed.layout.tensors.into_iter().map(|tensor| tensor.name).collect::<Vec<_>>()
    };
    let plain = Member::stored;
    assert_eq!(names(&[plain("a", &one), plain("a/b", &other)]), ["a/b/c", "a/b/c#2"]);
    assert_eq!(names(&[plain("a", &other), plain("b", &other)]), ["a/c", "b/c"]);
    assert_eq!(names(&[plain("a", &other); 3]), ["a/c", "a/c#2", "a/c#3"]);
    // Deflated ones are numbered among the others.
    let small = deflate(&other);
    let small = Member { method: 8, len: other.len() as u32, ..plain("a", &small) };
    assert_eq!(names(&[small, plain("a", &other), small]), ["a/c", "a/c#2", "a/c#3"]);
    assert_eq!(names(&[plain("a", &other), small, plain("a", &other)]), ["a/c", "a/c#2", "a/c#3"]);
    // The order is the directory's, not that of the file.
    let (mut bytes, first, second) = (Vec::new(), safetensors("t", b"first"), safetensors("t", b"2nd"));
    plain("a", &first).put(&mut bytes);
    let at = bytes.len() as u32;
    plain("a", &second).put(&mut bytes);
    put_directory(&[(plain("a", &second), at), (plain("a", &first), 0)], &mut bytes);
    let tensors = check(&bytes).layout.tensors.into_iter().map(|tensor| (tensor.name, tensor.shape[0]));
    assert_eq!(tensors.collect::<Vec<_>>(), [("a/t#2".to_owned(), 5), ("a/t".to_owned(), 3)]);
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

/// `data` deflated as zlib does by default.
fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An archive of `count` members that are deflated, each of them `inner`.
fn deflated(count: usize, inner: &[u8]) -> Vec<u8> {
    let data = deflate(inner);
    let names: Vec<String> = (0..count).map(|index| format!("m{index}")).collect();
    let member = |name| Member { method: 8, len: inner.len() as u32, ..Member::stored(name, &data) };
    zip(&names.iter().map(|name| member(name)).collect::<Vec<_>>())
}

#[test]
fn fault_23_deflated_archives_in_deflated_archives_cost_little() {
    // Noise keeps each step below the growth that a member may have.
    let mut bomb = safetensors("t", &[&noise(1100, 1)[..], &vec![0; 64 << 10]].concat());
    for count in [40, 40, 12] {
        bomb = deflated(count, &bomb);
    }
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/seeds/zip/nested.zip");
    assert!(bomb == std::fs::read(seed).unwrap(), "the fuzzer's seed");
    let start = std::time::Instant::now();
    assert!(check(&bomb).layout.tensors.is_empty());
    // Takes some ms; the members of all three archives one in another took minutes.
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}

#[test]
fn what_lies_in_a_deflated_member_is_found_but_not_what_is_deflated_there() {
    let model = safetensors("t", &noise(1000, 4));
    let names = |bytes: &Vec<u8>| -> Vec<String> {
        check(bytes).layout.tensors.into_iter().map(|tensor| tensor.name).collect()
    };
    let inner = stored(&[("in", &model)]);
    assert_eq!(names(&deflated(2, &inner)), ["m0/in/t", "m1/in/t"]);
    assert_eq!(names(&deflated(1, &stored(&[("mid", &inner)]))), ["m0/mid/in/t"]);
    let packed = deflated(1, &model);
    assert_eq!(names(&packed), ["m0/t"]);
    assert!(names(&deflated(1, &packed)).is_empty());
    // A compressed member of a stored archive is one of the file.
    assert_eq!(names(&stored(&[("in", &packed)])), ["in/m0/t"]);
    assert_eq!(names(&stored(&[("in", &packed), ("plain", &model)])), ["in/m0/t", "plain/t"]);
    assert_eq!(names(&deflated(1, &stored(&[("in", &packed), ("plain", &model)]))), ["m0/plain/t"]);
}

#[test]
fn fault_37_what_expanding_members_costs_is_bounded_for_all_together() {
    // Of three members two are by an encoder that ends a block where zlib does not, so that every level is tried in vain.
    let model = safetensors("t", &[&noise(20_000, 5)[..], &vec![0; 1_100_000]].concat());
    let sound = deflate(&model);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
    for part in [&model[..5000], &model[5000..]] {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
    }
    let other = encoder.finish().unwrap();
    let names: Vec<String> = (0..120).map(|index| format!("m{index}")).collect();
    let member = |(index, name)| {
        let data = if index % 3 == 0 { &sound } else { &other };
        Member { method: 8, len: model.len() as u32, ..Member::stored(name, data) }
    };
    let bytes = zip(&names.iter().map(String::as_str).enumerate().map(member).collect::<Vec<_>>());
    let start = std::time::Instant::now();
    let found = shard_formats::parse(&bytes).unwrap().layout.tensors.len();
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    // A tenth or so of the 40 that could be found.
    assert!((1..20).contains(&found), "{found}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_files_have_a_layout(which: usize, edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        damaged("zip", which, &edits);
    }
}
