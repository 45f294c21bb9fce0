//! The safetensors parser against the reference implementation, on sound files and on damaged ones.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use shard_core::limits::Cut;
use shard_core::{DType, Layout};
use shard_formats::cut::Cutter;
use shard_formats::{FormatErrorKind, Parsed, parse};

/// Every dtype of the reference implementation; its names are ours.
const DTYPES: [Dtype; 22] = [
    Dtype::BOOL,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::U8,
    Dtype::I8,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::I16,
    Dtype::U16,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I32,
    Dtype::U32,
    Dtype::F32,
    Dtype::C64,
    Dtype::F64,
    Dtype::I64,
    Dtype::U64,
];

/// A tensor: dtype, shape, and where its data starts and ends in the file.
type Tensor = (String, Vec<u64>, u64, u64);

fn ours(layout: &Layout) -> BTreeMap<String, Tensor> {
    let offsets = layout.segment_offsets();
    let tensor = |tensor: &shard_core::TensorView| {
        let start = offsets[tensor.segment] + tensor.offset;
        assert_eq!(layout.segments[tensor.segment].dtype, Some(tensor.dtype));
        let end = start + tensor.byte_len().unwrap();
        (tensor.name.clone(), (tensor.dtype.name().to_owned(), tensor.shape.clone(), start, end))
    };
    let all: BTreeMap<_, _> = layout.tensors.iter().map(tensor).collect();
    assert_eq!(all.len(), layout.tensors.len(), "names are unique");
    all
}

fn theirs(bytes: &[u8]) -> Option<BTreeMap<String, Tensor>> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let tensor = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let place = |offset: usize| (8 + header + offset) as u64;
        let shape = info.shape.iter().map(|dim| *dim as u64).collect();
        (name, (info.dtype.to_string(), shape, place(info.data_offsets.0), place(info.data_offsets.1)))
    };
    Some(metadata.tensors().into_iter().map(tensor).collect())
}

/// Checks what holds for any bytes, and that whatever the reference implementation takes is taken alike.
fn check(bytes: &Vec<u8>) -> Parsed {
    let parsed = parse(bytes).unwrap();
    assert_eq!(parsed.layout.check(bytes.len() as u64), Ok(()));
    for cut in [Cut::TEST, Cut::V1] {
        let mut cutter = Cutter::new(bytes, &parsed.layout, cut);
        let (mut block, mut back) = (Vec::new(), Vec::new());
        while cutter.next(&mut block).unwrap().is_some() {
            back.extend_from_slice(&block);
        }
        assert!(back == *bytes, "every byte comes back");
    }
    let kind = parsed.note.as_ref().map(shard_formats::FormatError::kind);
    if let Some(theirs) = theirs(bytes) {
        // The reference implementation takes the last of two equal keys.
        if kind != Some(FormatErrorKind::Duplicate) {
            assert_eq!(parsed.layout.format, "safetensors", "{:?}", parsed.note);
            assert_eq!(ours(&parsed.layout), theirs);
        }
    }
    assert!(parsed.layout.format == "opaque" || parsed.note.is_none());
    parsed
}

/// A file of that header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..data).map(|index| index as u8));
    bytes
}

fn tensors() -> impl Strategy<Value = BTreeMap<String, (Dtype, Vec<usize>)>> {
    let shape = prop_oneof![
        4 => prop::collection::vec(1usize..9, 0..5),
        1 => prop::collection::vec(0usize..3, 1..5),
        1 => (1usize..70_000).prop_map(|elements| vec![elements]),
    ];
    let tensor = (prop::sample::select(&DTYPES[..]), shape).prop_map(|(dtype, mut shape)| {
        // Packed types come in whole bytes only.
        if dtype.bitsize() % 8 != 0 {
            shape.push(4);
        }
        (dtype, shape)
    });
    prop::collection::btree_map("[a-c.\"\\\\\n\u{e9}\u{1f600}]{0,5}", tensor, 0..8)
}

fn valid_file() -> impl Strategy<Value = Vec<u8>> {
    let metadata = prop::option::of(prop::collection::hash_map("[a-z\"]{0,4}", "[ -~]{0,20}", 0..4));
    (tensors(), metadata, any::<u8>()).prop_map(|(tensors, metadata, seed)| {
        // Of no tensors and an empty `__metadata__` the reference writes what is no JSON: `{},"__metadata__":{}}`.
        let metadata = metadata.filter(|metadata| !metadata.is_empty() || !tensors.is_empty());
        build(&tensors, metadata, seed)
    })
}

fn build(
    tensors: &BTreeMap<String, (Dtype, Vec<usize>)>,
    metadata: Option<HashMap<String, String>>,
    seed: u8,
) -> Vec<u8> {
    let data: Vec<u8> = (0..600_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect();
    let views = tensors.iter().map(|(name, (dtype, shape))| {
        let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name, TensorView::new(*dtype, shape.clone(), &data[..len]).unwrap())
    });
    serialize(views, metadata).unwrap()
}

/// Pieces of headers, sound and not.
const PIECES: &[&str] = &[
    "",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "0",
    "1",
    "00",
    "-1",
    "1.5",
    "1e3",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    " ",
    "\n",
    "\0",
    "\u{e9}",
    "\\u0061",
    "\\ud800",
    "\"F4\"",
    "\"F99\"",
    "\"dtype\":",
    "\"shape\":[],",
    "\"extra\":{\"deep\":[[[1.5,null]]]},",
    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},",
    "\"__metadata__\":{},",
    "\"__metadata__\":null,",
    "\"__metadata__\":{\"a\":1},",
];

#[derive(Debug, Clone)]
enum Mutation {
    Truncate(prop::sample::Index),
    Append(usize),
    Flip(prop::sample::Index, u8),
    /// Replaces some bytes of the header, whose length follows.
    Edit(prop::sample::Index, usize, &'static str),
    /// As `Edit`, but where the JSON has structure: after a comma or an opening bracket.
    Insert(prop::sample::Index, &'static str),
    Length(u64),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let piece = || prop::sample::select(PIECES);
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Mutation::Truncate),
        (1usize..100).prop_map(Mutation::Append),
        (any::<prop::sample::Index>(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (any::<prop::sample::Index>(), 0usize..4, piece()).prop_map(|(at, len, with)| Mutation::Edit(at, len, with)),
        (any::<prop::sample::Index>(), piece()).prop_map(|(at, with)| Mutation::Insert(at, with)),
        prop::sample::select(&[0, 1, 2, 100_000_000, 100_000_001, 1 << 40, u64::MAX][..]).prop_map(Mutation::Length),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let header = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
    let end = 8usize.saturating_add(usize::try_from(header).unwrap()).min(bytes.len());
    let mut splice = |at: usize, len: usize, with: &str| {
        let stop = (at + len).min(end);
        bytes.splice(at..stop, with.bytes());
        bytes[..8].copy_from_slice(&((end - 8 + with.len() - (stop - at)) as u64).to_le_bytes());
    };
    match mutation {
        Mutation::Edit(at, len, with) if end > 8 => splice(8 + at.index(end - 8), *len, with),
        Mutation::Insert(at, with) if end > 8 => {
            let places: Vec<usize> = (8..end).filter(|at| b"{[,:".contains(&bytes[*at])).collect();
            if !places.is_empty() {
                let at = at.get(&places) + 1;
                bytes.splice(at..at, with.bytes());
                bytes[..8].copy_from_slice(&((end - 8 + with.len()) as u64).to_le_bytes());
            }
        }
        Mutation::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Mutation::Append(len) => bytes.resize(bytes.len() + len, b' '),
        // Half of the flips hit the header, however long the data is.
        Mutation::Flip(at, bit) if !bytes.is_empty() => {
            let range = if bit % 2 == 0 { bytes.len() } else { end.max(1) };
            bytes[at.index(range)] ^= 1 << bit;
        }
        Mutation::Length(length) if bytes.len() >= 8 => bytes[..8].copy_from_slice(&length.to_le_bytes()),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sound_files_agree_with_the_reference(bytes in valid_file()) {
        let parsed = check(&bytes);
        prop_assert!(parsed.note.is_none());
        prop_assert_eq!(Some(ours(&parsed.layout)), theirs(&bytes));
        prop_assert_eq!(parsed.layout.segments.len(), 1 + parsed.layout.tensors.len());
        prop_assert_eq!(parsed.layout.segments[0].dtype, None);
        let places: Vec<_> = parsed.layout.tensors.iter().map(|tensor| tensor.segment).collect();
        prop_assert!(places.is_sorted(), "file order");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn odd_but_sound_headers_agree_with_the_reference(
        bytes in valid_file(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6), 1..8),
    ) {
        let mut bytes = bytes;
        for (at, edit) in edits {
            let end = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
            let header = std::str::from_utf8(&bytes[8..end]).unwrap();
            let places = |pattern: &str| header.match_indices(pattern).map(|(at, _)| 8 + at).collect::<Vec<_>>();
            let (places, with) = match edit {
                0 => (places(","), "\x20".repeat(4100)),
                1 => (vec![8], "\n\t\r ".to_owned()),
                2 => (places("\"dtype\":"), "\"more\":{\"dtype\":[[null,{\"a\":-1.5e3}]]},".to_owned()),
                3 => (places("\"shape\":"), "\"Shape\": \"\\u00e9\",".to_owned()),
                4 => (vec![end], " \n".to_owned()),
                // Flips a bit of the data.
                _ if end < bytes.len() => {
                    let at = end + at.index(bytes.len() - end);
                    bytes[at] ^= 1;
                    continue;
                }
                _ => continue,
            };
            if !places.is_empty() {
                let at = *at.get(&places);
                bytes.splice(at..at, with.bytes());
                bytes[..8].copy_from_slice(&((end - 8 + with.len()) as u64).to_le_bytes());
            }
        }
        let parsed = check(&bytes);
        prop_assert!(parsed.note.is_none());
        prop_assert_eq!(Some(ours(&parsed.layout)), theirs(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_files_have_a_layout_and_agree(
        bytes in valid_file(), mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let mut bytes = bytes;
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        check(&bytes);
    }

    #[test]
    fn ranges_are_taken_unless_they_share_bytes_in_part(
        ranges in prop::collection::vec((0u64..20, 0u64..6, prop::sample::select(&["U8", "I8", "F16", "??"][..])), 0..6),
    ) {
        const DATA: u64 = 22;
        let ranges: Vec<(u64, u64, &str)> = ranges
            .into_iter()
            .map(|(start, len, dtype)| (start, start + if dtype == "F16" { len & !1 } else { len }, dtype))
            .collect();
        let entries: Vec<String> = ranges
            .iter()
            .enumerate()
            .map(|(index, (start, end, dtype))| {
                let elements = if *dtype == "F16" { (end - start) / 2 } else { end - start };
                format!(r#""{index}":{{"dtype":"{dtype}","shape":[{elements}],"data_offsets":[{start},{end}]}}"#)
            })
            .collect();
        let header = format!("{{{}}}", entries.join(","));
        let parsed = check(&file(&header, DATA as usize));
        let sound = ranges.iter().enumerate().all(|(index, a)| {
            a.1 <= DATA && ranges[..index].iter().all(|b| {
                let apart = a.1 <= b.0 || b.1 <= a.0;
                apart || (a == b && a.0 < a.1)
            })
        });
        prop_assert_eq!(parsed.note.is_none(), sound, "{:?}", parsed.note);
        if sound {
            let found = ours(&parsed.layout);
            let known: Vec<_> = ranges.iter().enumerate().filter(|(_, range)| range.2 != "??").collect();
            prop_assert_eq!(found.len(), known.len());
            for (index, (start, end, dtype)) in known {
                let base = 8 + header.len() as u64;
                let (found_dtype, _, found_start, found_end) = &found[&index.to_string()];
                prop_assert_eq!((found_dtype.as_str(), *found_start, *found_end), (*dtype, base + start, base + end));
            }
        }
    }
}

#[test]
fn every_dtype_of_ours_is_one_of_theirs() {
    let theirs: Vec<String> = DTYPES.iter().map(ToString::to_string).collect();
    for dtype in DType::ALL.iter().filter(|dtype| dtype.wire_id() <= 22) {
        assert!(theirs.contains(&dtype.name().to_owned()), "{dtype}");
    }
    for name in theirs {
        assert!(DType::from_name(&name).is_some(), "{name}");
    }
}

fn note(header: &str, data: usize) -> Option<FormatErrorKind> {
    check(&file(header, data)).note.map(|note| note.kind())
}

fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn refused_headers() {
    use FormatErrorKind::{Duplicate, Limit, Malformed, Overlap, Truncated};
    let cases = [
        (one("U8", "[4194305,4194305,211106198978564]", "[0,4]"), Malformed),
        (one("I8", "[4294967296,4294967296]", "[0,0]"), Malformed),
        (one("??", "[4294967296,4294967296]", "[0,0]"), Malformed),
        (one("F64", "[2305843009213693952]", "[0,0]"), Malformed),
        (one("U8", "[-1]", "[0,1]"), Malformed),
        (one("U8", "[18446744073709551616]", "[0,0]"), Malformed),
        (one("U8", "[1.0]", "[0,1]"), Malformed),
        (one("U8", "1", "[0,1]"), Malformed),
        (one("U8", "[4]", "[4,0]"), Malformed),
        (one("U8", "[4]", "[0,3]"), Malformed),
        (one("F32", "[1]", "[0,3]"), Malformed),
        (one("F4", "[3]", "[0,1]"), Malformed),
        (one("U8", "[4]", "[0,4,8]"), Malformed),
        (one("U8", "[4]", "[0]"), Malformed),
        (one("U8", "[9]", "[0,9]"), Truncated),
        (one("U8", "[0]", "[18446744073709551615,18446744073709551615]"), Truncated),
        (one("U8", &format!("[{}1]", "1,".repeat(64)), "[0,1]"), Limit),
        (one("U8", "[1]", "[0,1]").replace("\"a\"", &format!("\"{}\"", "a".repeat(4097))), Limit),
        (r#"{"a":{"dtype":"U8","shape":[1]}}"#.to_owned(), Malformed),
        (r#"{"a":1}"#.to_owned(), Malformed),
        (r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#.to_owned(), Malformed),
        (r#"{"__metadata__":{"a":"b","\u0061":"c"}}"#.to_owned(), Duplicate),
        (r#"{"__metadata__":{"a":"b"},"__metadata__":{}}"#.to_owned(), Duplicate),
        (r#"{"__metadata__":{"a":1}}"#.to_owned(), Malformed),
        (r#"{"__metadata__":"#.to_owned(), Malformed),
        (r"{} {}".to_owned(), Malformed),
        ("{\"".to_owned(), Malformed),
        (
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#
                .to_owned(),
            Duplicate,
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#
                .to_owned(),
            Overlap,
        ),
    ];
    for (header, kind) in cases {
        assert_eq!(note(&header, 8), Some(kind), "{header}");
    }
}

#[test]
fn accepted_headers() {
    for (header, tensors) in [
        ("{}".to_owned(), 0),
        ("  {} \n".to_owned(), 0),
        (r#"{"__metadata__":null}"#.to_owned(), 0),
        (one("U8", "[]", "[7,8]"), 1),
        (one("F99", "[3]", "[1,4]"), 0),
        (one("I8", "[0,18446744073709551615,2]", "[3,3]"), 1),
        (one("U8", "[1]", "[0,1]").replace("\"a\"", &format!("\"{}\"", "a".repeat(4096))), 1),
        (one("U8", &format!("[{}1]", "1,".repeat(63)), "[0,1]"), 1),
        (
            format!(
                r#"{{"a":{{"x":{}1{},"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#,
                "[".repeat(50),
                "]".repeat(50)
            ),
            1,
        ),
    ] {
        let parsed = check(&file(&header, 8));
        assert!(parsed.note.is_none(), "{header}: {:?}", parsed.note);
        assert_eq!(parsed.layout.format, "safetensors");
        assert_eq!(parsed.layout.tensors.len(), tensors, "{header}");
    }
}

#[test]
fn holes_trailing_bytes_shared_ranges_and_unknown_dtypes_become_segments() {
    let entry = |name: &str, dtype: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from)
    };
    let entries = [
        entry("tied", "U8", 2, 6),
        entry("empty", "U8", 2, 2),
        entry("weight", "U8", 2, 6),
        entry("odd", "U4X", 6, 9),
        entry("last", "I8", 9, 10),
        entry("empty2", "I8", 2, 2),
    ];
    let header = format!("{{{}}}", entries.join(","));
    let layout = check(&file(&header, 12)).layout;
    let segments: Vec<_> = layout.segments.iter().map(|segment| (segment.len, segment.dtype)).collect();
    let (u8, i8) = (Some(DType::U8), Some(DType::I8));
    let start = 8 + header.len() as u64;
    let expected = [(start + 2, None), (0, u8), (0, i8), (4, u8), (3, None), (1, i8), (2, None)];
    assert_eq!(segments, expected);
    let tensors: Vec<_> = layout.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.segment)).collect();
    assert_eq!(tensors, [("empty", 1), ("empty2", 2), ("tied", 3), ("weight", 3), ("last", 5)]);
}

#[test]
fn truncated_files_say_so() {
    let whole = build(&BTreeMap::from([("a".to_owned(), (Dtype::F32, vec![10]))]), None, 0);
    for len in 0..whole.len() {
        let parsed = check(&whole[..len].to_vec());
        assert_eq!(parsed.layout, Layout::opaque(len as u64));
        let kind = parsed.note.map(|note| note.kind());
        // Up to the brace there is nothing to know the format by.
        assert_eq!(kind, (len > 8).then_some(FormatErrorKind::Truncated), "{len} of {} bytes", whole.len());
    }
}

#[test]
fn a_header_above_the_limit_is_not_read() {
    for length in [100_000_001, u64::MAX] {
        let mut bytes = file("{}", 0);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(check(&bytes).note.map(|note| note.kind()), Some(FormatErrorKind::Limit));
    }
}

#[test]
fn nesting_does_not_recurse_and_messages_are_short() {
    let deep = format!(r#"{{"a":{{"x":{},"dtype":"U8"}}}}"#, "[".repeat(3_000_000));
    assert_eq!(note(&deep, 0), Some(FormatErrorKind::Malformed));
    let deep = format!(r#"{{"a":{}"#, r#"{"a":"#.repeat(3_000_000));
    assert_eq!(note(&deep, 0), Some(FormatErrorKind::Malformed));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(3_000_000));
    let message = check(&file(&long, 0)).note.unwrap().to_string();
    assert!(message.len() < 2000 && message.starts_with("the header"), "{} bytes", message.len());
}

#[test]
fn entries_above_the_limit_are_not_kept() {
    let metadata = (0..=1 << 20).map(|key| format!("\"{key:x}\":\"\"")).collect::<Vec<_>>().join(",");
    let tensor = |name| format!(r#""{name:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let tensors = (0..=1 << 20).map(tensor).collect::<Vec<_>>().join(",");
    // The reference implementation has no such limits.
    for header in [format!(r#"{{"__metadata__":{{{metadata}}}}}"#), format!("{{{tensors}}}")] {
        let parsed = parse(&file(&header, 0)).unwrap();
        assert_eq!(parsed.note.map(|note| note.kind()), Some(FormatErrorKind::Limit));
    }
}

#[test]
fn a_hundred_thousand_tensors_parse_quickly() {
    let entry = |index: usize| {
        let from = index * 4;
        format!(
            r#""model.layers.{index}.mlp.experts.weight":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{}]}}"#,
            from + 4
        )
    };
    let header = format!("{{{}}}", (0..100_000).map(entry).collect::<Vec<_>>().join(","));
    let bytes = file(&header, 400_000);
    let start = std::time::Instant::now();
    let parsed = parse(&bytes).unwrap();
    // It takes some 50 ms; the bound leaves room for a busy machine.
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert!(parsed.note.is_none());
    assert_eq!(parsed.layout.tensors.len(), 100_000);
    assert_eq!(parsed.layout.segments.len(), 100_001);
}
