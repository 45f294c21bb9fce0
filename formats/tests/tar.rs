//! Tar archives with members that other libraries made, and hostile ones.
#![allow(clippy::unwrap_used, reason = "a test")]

mod listing;

use listing::{all_agree, check, damaged, parses_quickly, refused, truncations};
use proptest::prelude::*;
use shard_formats::FormatErrorKind::{Limit, Malformed, Truncated};

/// A header: kind, name, size.
fn header(kind: u8, name: &str, size: &str) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..124 + size.len()].copy_from_slice(size.as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut header);
    header
}

/// Puts a header's sum in.
fn sum(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// A member with its data, padded.
fn member(kind: u8, name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, name, &format!("{:011o}", data.len())).to_vec();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A pax header of those records.
fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let len = key.len() + value.len() + 3;
        let len = (1..9).map(|digits| len + digits).find(|all| all.to_string().len() + len == *all).unwrap();
        format!("{len} {key}={value}\n")
    };
    member(kind, "pax", records.iter().map(record).collect::<String>().as_bytes())
}

/// A safetensors file with one tensor.
fn safetensors(name: &str) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}}"#);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"data"].concat()
}

/// The names of an archive's tensors.
fn names(parts: &[Vec<u8>]) -> Vec<String> {
    let parsed = check(&[parts.concat(), vec![0; 1024]].concat());
    assert!(parsed.note.is_none(), "{:?}", parsed.note);
    assert_eq!(parsed.layout.format, "tar");
    parsed.layout.tensors.into_iter().map(|tensor| tensor.name).collect()
}

#[test]
fn fixtures_agree_with_the_libraries_of_their_members() {
    assert!(all_agree("tar") >= 30);
}

#[test]
fn every_truncation_has_a_layout() {
    truncations("tar");
}

#[test]
fn the_end_is_a_block_of_zeros_or_the_end() {
    let one = member(b'0', "a", &safetensors("t"));
    assert_eq!(names(std::slice::from_ref(&one)), ["a/t"]);
    // What follows the end is not looked into.
    assert_eq!(names(&[one.clone(), vec![0; 512], member(b'0', "b", &safetensors("t"))]), ["a/t"]);
    assert_eq!(refused(&one), None);
    let unpadded = &one[..512 + safetensors("t").len()];
    assert_eq!(refused(&unpadded.to_vec()), None);
    assert_eq!(refused(&unpadded[..unpadded.len() - 1].to_vec()), Some(Truncated));
    assert_eq!(refused(&[&one[..], b"x"].concat()), Some(Truncated));
}

#[test]
fn only_plain_files_are_looked_into() {
    let model = safetensors("t");
    for kind in [b'0', 0, b'7'] {
        assert_eq!(names(&[member(kind, "a", &model)]), ["a/t"]);
    }
    for kind in [b'D', b'M', b'N', b'V', b'A', b'Z', b'S', 0xff] {
        assert!(names(&[member(kind, "a", &model), member(b'0', "b", &model)]).ends_with(&["b/t".to_owned()]));
        assert_eq!(names(&[member(kind, "a", &model)]), [""; 0], "{kind}");
    }
    for kind in b'1'..=b'6' {
        assert_eq!(names(&[member(kind, "a", &[]), member(b'0', "b", &model)]), ["b/t"]);
        // Readers disagree about whether data follow.
        assert_eq!(refused(&member(kind, "a", &model)), Some(Malformed), "{kind}");
    }
}

#[test]
fn names_come_from_where_they_are_said() {
    let model = safetensors("t");
    let plain = || member(b'0', "short", &model);
    assert_eq!(names(&[member(b'L', "././@LongLink", b"long\0"), plain()]), ["long/t"]);
    assert_eq!(names(&[member(b'K', "././@LongLink", b"long\0"), plain()]), ["short/t"]);
    assert_eq!(names(&[pax(b'x', &[("path", "gr\u{f6}\u{df}er"), ("mtime", "1.5")]), plain()]), ["gr\u{f6}\u{df}er/t"]);
    assert_eq!(
        names(&[pax(b'g', &[("comment", "x=y\nz")]), plain(), pax(b'x', &[("path", "p")]), plain()]),
        ["short/t", "p/t"]
    );
    // A name is that of the next member only.
    assert_eq!(names(&[member(b'L', "l", b"a"), plain(), member(b'0', "b", &model)]), ["a/t", "b/t"]);
    let mut prefixed = header(b'0', "short", &format!("{:011o}", model.len()));
    prefixed[345..348].copy_from_slice(b"pre");
    sum(&mut prefixed);
    assert_eq!(names(&[prefixed.to_vec(), model.clone()]), ["pre/short/t"]);
    prefixed[257..265].copy_from_slice(b"ustar  \0");
    sum(&mut prefixed);
    assert_eq!(names(&[prefixed.to_vec(), model.clone()]), ["short/t"]);
    for two in [
        [member(b'L', "l", b"a"), member(b'L', "l", b"b"), plain()],
        [member(b'L', "l", b"a"), pax(b'x', &[("path", "b")]), plain()],
        [pax(b'x', &[("path", "a")]), pax(b'x', &[("mtime", "1")]), plain()],
        [pax(b'x', &[("path", "a"), ("path", "b")]), plain(), plain()],
        [pax(b'g', &[("path", "a")]), plain(), plain()],
    ] {
        assert_eq!(refused(&two.concat()), Some(Malformed));
    }
    // As `tar -r` adds a newer file behind the older one.
    assert_eq!(names(&[plain(), plain()]), ["short/t", "short/t#2"]);
}

#[test]
fn fault_31_cve_2025_62518_and_2026_33055_pax_sizes() {
    // An archive in an archive, which shows its members where the inner size is ignored.
    let inner = member(b'0', "hidden", &safetensors("t"));
    let len = inner.len().to_string();
    let with = |pax_size: &str, size: &str| {
        [pax(b'x', &[("size", pax_size)]), header(b'0', "a", size).to_vec(), inner.clone()].concat()
    };
    assert_eq!(refused(&with(&len, "00000000000")), Some(Malformed));
    assert_eq!(refused(&with("0", &format!("{:011o}", inner.len()))), Some(Malformed));
    assert_eq!(refused(&with("512", &format!("{:011o}", inner.len()))), Some(Malformed));
    assert_eq!(refused(&with(&len, &format!("{:011o}", inner.len()))), None);
    for size in ["", "-1", "0x10", "1 ", "99999999999999999999999", "1.0"] {
        assert!(refused(&with(size, "00000000000")).is_some(), "{size}");
    }
    assert_eq!(refused(&[pax(b'x', &[("size", &len), ("size", "0")]), inner.clone()].concat()), Some(Malformed));
    assert_eq!(refused(&[pax(b'g', &[("size", "0")]), inner.clone()].concat()), Some(Malformed));
    // What a header cannot say, and a file that is not that long.
    assert_eq!(refused(&with("8589934592", "00000000000")), Some(Truncated));
    assert_eq!(refused(&with("8589934592", "00000001000")), Some(Malformed));
}

#[test]
fn fault_31_names_that_lead_outside_are_only_names() {
    let model = safetensors("../t");
    for name in ["../../etc/passwd", "/etc/passwd", "a/../..", "C:\\x"] {
        assert_eq!(names(&[member(b'0', name, &model)]), [format!("{name}/../t")]);
    }
}

#[test]
fn pax_headers_that_are_not_sound_are_refused() {
    let records = [
        "x",
        "9",
        "9 a=b",
        "6 a=b\n ",
        "99 a=b\n",
        "0 a=b\n",
        "5 a=\n\n",
        "4 ab\n",
        "18446744073709551616 a=b\n",
        "3 =\n",
        "2 \n",
        "+6 a=b\n",
    ];
    for record in records {
        let bytes = [member(b'x', "pax", record.as_bytes()), member(b'0', "a", b"")].concat();
        assert_eq!(refused(&bytes), Some(Malformed), "{record:?}");
    }
    assert_eq!(refused(&[member(b'x', "pax", b"6 a=b\n"), member(b'0', "a", b"")].concat()), None);
    let long = pax(b'x', &[("path", &"n".repeat(4097))]);
    assert_eq!(refused(&[long, member(b'0', "a", b"")].concat()), Some(Limit));
    assert_eq!(refused(&member(b'L', "l", &vec![b'x'; (1 << 20) + 1])), Some(Limit));
}

#[test]
fn numbers() {
    let with = |size: &[u8]| {
        let mut header = header(b'0', "a", "");
        header[124..124 + size.len()].copy_from_slice(size);
        sum(&mut header);
        refused(&[&header[..], &[1; 512]].concat())
    };
    for size in [&b"00000001000\0"[..], b"1000", b"    1000 ", b"\x80\0\0\0\0\0\0\0\0\0\x02\0", b"000000001000"] {
        assert_eq!(with(size), None, "{size:?}");
    }
    for size in [&b"00000001001\0"[..], b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", b"77777777777"] {
        assert_eq!(with(size), Some(Truncated), "{size:?}");
    }
    for size in [
        &b"8"[..],
        b"-1",
        b"0x1",
        b"1 1",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\0\0\x01",
        b"\x81",
    ] {
        assert_eq!(with(size), Some(Malformed), "{size:?}");
    }
    let mut bytes = member(b'0', "a", b"");
    bytes[0] = b'b';
    assert_eq!(refused(&bytes), Some(Malformed), "the sum");
}

#[test]
fn a_hundred_thousand_members_parse_quickly() {
    let model = safetensors("t");
    let bytes: Vec<u8> = (0..100_000).flat_map(|index| member(b'0', &format!("layers/{index}"), &model)).collect();
    assert_eq!(parses_quickly(&bytes).layout.tensors.len(), 100_000);
}

#[test]
fn sparse_maps_without_end_are_refused() {
    let mut sparse = header(b'S', "a", "00000000000");
    sparse[482] = 1;
    sum(&mut sparse);
    let mut more = [0; 512];
    more[504] = 1;
    assert_eq!(refused(&[&sparse[..], &more.repeat(1000)].concat()), Some(Truncated));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_have_a_layout(which: usize, edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        damaged("tar", which, &edits);
    }

    #[test]
    fn damaged_headers_with_a_sound_sum_have_a_layout(
        kind in prop::sample::select(&b"\x000123456789DKLMNSVXgx"[..]),
        at in 100usize..512,
        with in prop::collection::vec(any::<u8>(), 1..12),
        data in prop::collection::vec(prop::sample::select(&b"0123456789 =\nsizepath\0"[..]), 0..40),
    ) {
        let mut bytes = [member(kind, "a", &data), member(b'0', "b", &safetensors("t")), vec![0; 512]].concat();
        let header: &mut [u8; 512] = bytes.first_chunk_mut().unwrap();
        with.iter().zip(at..512).for_each(|(byte, at)| header[at] = *byte);
        header[257..262].copy_from_slice(b"ustar");
        sum(header);
        check(&bytes);
    }
}
