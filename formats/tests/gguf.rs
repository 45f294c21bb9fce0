//! The GGUF parser against the Python package `gguf`, and on hostile files.
#![allow(clippy::unwrap_used, reason = "a test")]

mod listing;

use listing::{all_agree, check, damaged, fixture, listed, parses_quickly, refused, truncations};
use proptest::prelude::*;
use shard_core::DType;
use shard_formats::FormatErrorKind::{self, Duplicate, Limit, Malformed, Truncated};

/// Puts a file together, of either width of numbers.
#[derive(Clone)]
struct Builder {
    version: u32,
    counts: Option<(u64, u64)>,
    metadata: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    alignment: u64,
    data: usize,
}

/// The numbers of types of metadata.
const U8: u32 = 0;
const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;

impl Builder {
    fn new(version: u32) -> Self {
        Self { version, counts: None, metadata: Vec::new(), tensors: Vec::new(), alignment: 32, data: 0 }
    }

    fn number(&self, number: u64) -> Vec<u8> {
        if self.version == 1 { (number as u32).to_le_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    fn string(&self, text: &str) -> Vec<u8> {
        [&self.number(text.len() as u64)[..], text.as_bytes()].concat()
    }

    fn metadata(mut self, key: &str, value_type: u32, value: &[u8]) -> Self {
        self.metadata.push([&self.string(key)[..], &value_type.to_le_bytes(), value].concat());
        self
    }

    fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = u64::from(alignment);
        self.metadata("general.alignment", U32, &alignment.to_le_bytes())
    }

    /// A tensor with dimensions fastest first.
    fn tensor(mut self, name: &str, dims: &[u64], ggml_type: u32, offset: u64) -> Self {
        let mut info = self.string(name);
        info.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| info.extend(self.number(*dim)));
        info.extend(ggml_type.to_le_bytes());
        info.extend(offset.to_le_bytes());
        self.tensors.push(info);
        self
    }

    fn data(mut self, len: usize) -> Self {
        self.data = len;
        self
    }

    fn build(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        let (tensors, metadata) = self.counts.unwrap_or((self.tensors.len() as u64, self.metadata.len() as u64));
        bytes.extend(self.number(tensors));
        bytes.extend(self.number(metadata));
        bytes.extend(self.metadata.concat());
        bytes.extend(self.tensors.concat());
        if (1..=4096).contains(&self.alignment) {
            bytes.resize(bytes.len().next_multiple_of(self.alignment as usize), 0);
        }
        bytes.extend((0..self.data).map(|at| at as u8));
        bytes
    }

    fn refused(&self) -> Option<FormatErrorKind> {
        refused(&self.build())
    }
}

#[test]
fn fixtures_agree_with_the_package() {
    assert!(all_agree("gguf") >= 40);
}

#[test]
fn every_truncation_has_a_layout() {
    truncations("gguf");
}

#[test]
fn big_endian_files_stay_opaque() {
    assert_eq!(refused(&fixture("gguf", "big-endian.gguf")), Some(Malformed));
}

#[test]
fn versions() {
    for version in [1, 2, 3] {
        let value = [&ARRAY.to_le_bytes()[..], &STRING.to_le_bytes()].concat();
        let builder = Builder::new(version);
        let array = [&STRING.to_le_bytes()[..], &builder.number(2), &builder.string("x"), &builder.string("")].concat();
        let bytes = builder
            .metadata("test.text", STRING, &Builder::new(version).string("value"))
            .metadata("test.array", ARRAY, &array)
            .tensor("t", &[4, 3], 0, 0)
            .tensor("u", &[64, 2], 8, 64)
            .data(64 + 136)
            .build();
        let parsed = check(&bytes);
        assert!(parsed.note.is_none(), "{:?}", parsed.note);
        let shapes: Vec<_> = parsed.layout.tensors.iter().map(|t| (t.dtype, t.shape.clone())).collect();
        assert_eq!(shapes, [(DType::F32, vec![3, 4]), (DType::Q8_0, vec![2, 64])]);
        assert_eq!(Builder::new(version).metadata("v", ARRAY, &value).refused(), Some(Truncated));
    }
    for version in [0, 4, 0xffff, 0x0001_0001] {
        assert_eq!(Builder::new(version).refused(), Some(Malformed), "{version}");
    }
}

#[test]
fn unknown_types_stay_opaque_and_the_others_are_found() {
    for ggml_type in [4, 5, 9, 31, 32, 33, 36, 37, 38, 42, 99, u32::MAX] {
        let bytes = Builder::new(3)
            .tensor("a", &[7], ggml_type, 0)
            .tensor("b", &[3], 24, 64)
            .tensor("c", &[1], 0, 128)
            .data(132);
        let parsed = check(&bytes.build());
        assert!(parsed.note.is_none());
        let names: Vec<_> = parsed.layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
    }
}

#[test]
fn tensors_may_share_bytes_and_leave_holes() {
    let bytes = Builder::new(3)
        .tensor("a", &[8], 0, 0)
        .tensor("b", &[4], 0, 16)
        .tensor("c", &[2, 1, 1, 1, 1, 1], 0, 96)
        .tensor("none", &[0, u64::MAX, 9], 0, 96)
        .data(200)
        .build();
    let parsed = check(&bytes);
    assert!(parsed.note.is_none());
    assert_eq!(listed(&parsed.layout, &bytes).len(), 4);
    assert_eq!(parsed.layout.tensors[0].segment, parsed.layout.tensors[1].segment);
    // Rows of quantised blocks; none at all; a scalar.
    assert_eq!(Builder::new(3).tensor("a", &[0, 5], 2, 0).refused(), None);
    assert_eq!(Builder::new(3).tensor("a", &[], 0, 0).data(4).refused(), None);
    assert_eq!(Builder::new(3).refused(), None);
}

#[test]
fn fault_35_cve_2024_21802_dimensions() {
    for dims in [&[u64::MAX][..], &[1 << 63], &[1 << 32, 1 << 32], &[1 << 62, 4], &[u64::MAX, u64::MAX, 2]] {
        for ggml_type in [0, 24] {
            assert!(Builder::new(3).tensor("a", dims, ggml_type, 0).data(64).refused().is_some(), "{dims:?}");
        }
    }
    let many = [1; 65];
    assert_eq!(Builder::new(3).tensor("a", &many, 0, 0).data(64).refused(), Some(Limit));
    assert_eq!(Builder::new(3).tensor("a", &many[..64], 0, 0).data(64).refused(), None);
    let mut bytes = Builder::new(3).tensor("a", &[1], 0, 0).data(64).build();
    bytes[33..37].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(refused(&bytes), Some(Limit));
}

#[test]
fn fault_35_cve_2024_23605_numbers_of_metadata_and_tensors() {
    let counts = |tensors, metadata| Builder { counts: Some((tensors, metadata)), ..Builder::new(3).data(1 << 21) };
    for count in [1 << 21, 1 << 40, u64::MAX / 4 * 3, u64::MAX] {
        assert!(counts(count, 0).refused().is_some());
        assert!(counts(0, count).refused().is_some());
    }
    assert_eq!(counts(0, u64::MAX).refused(), Some(Truncated));
    assert_eq!(counts((1 << 20) + 1, 0).refused(), Some(Limit));
    assert_eq!(counts(1, 0).data(0).refused(), Some(Truncated));
}

#[test]
fn fault_35_cve_2025_53630_and_2026_27940_sizes_that_overflow() {
    // Sizes whose sum, or whose sum with the padding, comes round to a small number.
    let huge = (u64::MAX - 31) / 4;
    assert!(Builder::new(3).tensor("a", &[huge], 0, 0).tensor("b", &[64], 0, 32).data(512).refused().is_some());
    assert!(Builder::new(3).tensor("a", &[u64::MAX - 30], 24, 0).tensor("b", &[4], 24, 0).data(64).refused().is_some());
    for offset in [u64::MAX, u64::MAX - 31, 1 << 63, 1 << 40] {
        assert!(Builder::new(3).tensor("a", &[8], 0, offset).data(64).refused().is_some(), "{offset}");
    }
    // A product that is sound, in bytes that are not.
    assert_eq!(Builder::new(3).tensor("a", &[1 << 61, 2], 28, 0).data(64).refused(), Some(Malformed));
}

#[test]
fn fault_35_cve_2026_7482_tensors_beyond_the_end() {
    for (dims, ggml_type, offset) in
        [(&[65][..], 24, 0), (&[64], 24, 32), (&[256], 14, 0), (&[1], 24, 64), (&[0], 24, 65)]
    {
        assert_eq!(
            Builder::new(3).tensor("a", dims, ggml_type, offset).data(64).refused(),
            Some(Truncated),
            "{dims:?}"
        );
    }
    assert_eq!(Builder::new(3).tensor("a", &[64], 24, 0).data(64).refused(), None);
}

#[test]
fn fault_35_cve_2024_39720_strings_and_arrays_beyond_the_end() {
    let with = |value_type, value: &[u8]| Builder::new(3).metadata("k", value_type, value).refused();
    let array = |value_type: u32, count: u64| [&value_type.to_le_bytes()[..], &count.to_le_bytes()].concat();
    assert_eq!(with(STRING, &u64::MAX.to_le_bytes()), Some(Truncated));
    assert_eq!(with(STRING, &100u64.to_le_bytes()), Some(Truncated));
    for count in [100, 1 << 61, u64::MAX] {
        for value_type in [U8, U32, STRING, ARRAY, U64] {
            assert_eq!(with(ARRAY, &array(value_type, count)), Some(Truncated), "{value_type} {count}");
        }
    }
    assert_eq!(with(ARRAY, &array(STRING, 0)), None);
    assert_eq!(with(ARRAY, &array(13, 0)), Some(Malformed));
    assert_eq!(with(13, &[]), Some(Malformed));
    // A file of four bytes, and every one that is a little longer.
    for len in 0..24 {
        let bytes = Builder::new(3).build()[..len].to_vec();
        assert_eq!(check(&bytes).note.map(|note| note.kind()), (len >= 4).then_some(Truncated), "{len}");
    }
    let mut bytes = Builder::new(3).tensor("name", &[1], 0, 0).data(64).build();
    bytes[24..32].copy_from_slice(&4097u64.to_le_bytes());
    assert_eq!(refused(&bytes), Some(Limit));
    bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(refused(&bytes), Some(Limit));
}

#[test]
fn fault_35_cve_2025_0317_alignment() {
    let with = |alignment: u32| Builder::new(3).alignment(alignment).tensor("a", &[8], 0, 0).data(64).refused();
    for alignment in [0, 3, 33, u32::MAX] {
        assert_eq!(with(alignment), Some(Malformed), "{alignment}");
    }
    assert_eq!(with(1 << 31), Some(Limit));
    assert_eq!(with(1 << 30), Some(Truncated));
    for alignment in [1, 2, 8, 4096] {
        assert_eq!(with(alignment), None, "{alignment}");
    }
    assert_eq!(Builder::new(3).alignment(64).alignment(64).refused(), Some(Duplicate));
    assert_eq!(Builder::new(3).metadata("general.alignment", U64, &[8; 8]).refused(), Some(Malformed));
}

#[test]
fn fault_35_rows_and_names() {
    for (row, ggml_type, sound) in [(32, 2, true), (33, 2, false), (16, 2, false), (256, 12, true), (128, 12, false)] {
        let kind = Builder::new(3).tensor("a", &[row, 2], ggml_type, 0).data(512).refused();
        assert_eq!(kind, (!sound).then_some(Malformed), "{row} {ggml_type}");
    }
    assert_eq!(Builder::new(3).tensor("a", &[], 2, 0).data(512).refused(), Some(Malformed));
    let twice = Builder::new(3).tensor("a", &[1], 0, 0).tensor("a", &[1], 0, 32).data(512);
    assert_eq!(twice.refused(), Some(Duplicate));
    let mut bytes = Builder::new(3).tensor("name", &[1], 0, 0).data(64).build();
    bytes[33] = 0xff;
    assert_eq!(refused(&bytes), Some(Malformed));
    assert_eq!(Builder::new(3).tensor("", &[1], 0, 0).data(64).refused(), None);
}

#[test]
fn fault_35_nesting_and_endless_metadata() {
    let nested = |depth: usize, count: u64| {
        let level = [&ARRAY.to_le_bytes()[..], &count.to_le_bytes()].concat();
        let last = [&U8.to_le_bytes()[..], &1u64.to_le_bytes(), &[7]].concat();
        Builder::new(3).metadata("k", ARRAY, &[level.repeat(depth), last].concat()).data(64)
    };
    assert_eq!(nested(10, 1).refused(), None);
    assert_eq!(nested(1_000_000, 1).refused(), Some(Limit));
    assert_eq!(nested(1_000_000, u64::MAX).refused(), Some(Limit));
    // More empty strings than are walked, of a source that costs nothing to read.
    struct Strings(Vec<u8>);
    impl shard_formats::Source for Strings {
        fn len(&self) -> u64 {
            1 << 50
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
            buf.fill(0);
            let skip = usize::try_from(offset).unwrap().min(self.0.len());
            let len = buf.len().min(self.0.len() - skip);
            buf[..len].copy_from_slice(&self.0[skip..skip + len]);
            Ok(())
        }
    }
    let array = [&STRING.to_le_bytes()[..], &(1u64 << 46).to_le_bytes()].concat();
    let bytes = Builder::new(3).metadata("k", ARRAY, &array).build();
    let parsed = shard_formats::parse(&Strings(bytes)).unwrap();
    assert_eq!(parsed.note.map(|note| note.kind()), Some(Limit));
}

#[test]
fn a_hundred_thousand_tensors_parse_quickly() {
    let mut builder = Builder::new(3);
    for index in 0..100_000 {
        builder = builder.tensor(&format!("blk.{index}.ffn_gate_exps.weight"), &[32, 1], 2, index * 32);
    }
    let tokens: Vec<u8> = (0..250_000).flat_map(|index| builder.string(&format!("token {index}"))).collect();
    let array = [&STRING.to_le_bytes()[..], &250_000u64.to_le_bytes(), &tokens].concat();
    let bytes = builder.metadata("tokenizer.ggml.tokens", ARRAY, &array).data(3_200_000).build();
    let parsed = parses_quickly(&bytes);
    assert_eq!(parsed.layout.tensors.len(), 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_files_have_a_layout(which: usize, edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..3)) {
        damaged("gguf", which, &edits);
    }

    #[test]
    fn damaged_headers_have_a_layout(which: usize, edits in prop::collection::vec((0usize..300, any::<u8>()), 1..3)) {
        damaged("gguf", which, &edits);
    }
}
