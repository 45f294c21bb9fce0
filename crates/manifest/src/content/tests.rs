use super::*;
use crate::damage::assert_strict;
use crate::{CanonicalError, TensorHasher};
use proptest::prelude::*;
use serde_json::json;

pub(crate) fn fields(value: Value) -> Fields {
    value.as_object().cloned().unwrap()
}

/// The blocks of a segment of made-up content, cut as the manifest's cut has it; opaque bytes at `opaque` bytes.
fn cut_blocks(len: u64, dtype: Option<DType>, cut: Cut, opaque: u64, seed: u64) -> Vec<BlockSpan> {
    let block = dtype.map_or(opaque, |dtype| cut.tensor_block(dtype) as u64);
    (0..len.div_ceil(block))
        .map(|index| BlockSpan {
            id: sha256(format!("{seed}/{index}").as_bytes()),
            len: (len - index * block).min(block) as u32,
        })
        .collect()
}

fn view(name: &str, dtype: DType, shape: &[u64], segment: usize, offset: u64) -> TensorView {
    TensorView { name: name.to_owned(), dtype, shape: shape.to_vec(), segment, offset, strides: None }
}

/// A header in two chunks, a tensor of two blocks with a second view, an empty tensor, and a single opaque block.
pub(crate) fn fixed() -> ContentManifest {
    let cut = Cut::TEST;
    let segment = |len, dtype, seed| ManifestSegment { len, dtype, blocks: cut_blocks(len, dtype, cut, 60_000, seed) };
    let segments = vec![
        segment(100_000, None, 0),
        segment(90_000, Some(DType::BF16), 1),
        segment(0, Some(DType::F32), 2),
        segment(7, None, 3),
    ];
    ContentManifest {
        format: "safetensors".to_owned(),
        size: 190_007,
        sha256: sha256(b"file"),
        cut,
        segments,
        tensors: vec![
            view("w", DType::BF16, &[450, 100], 1, 0),
            view("tied", DType::BF16, &[10], 1, 65_530),
            view("none", DType::F32, &[0, u64::MAX], 2, 0),
        ],
        compressed: Vec::new(),
        extra: ContentExtra {
            fields: fields(json!({"later": {"b": [1, 2.5], "a": null}})),
            segments: BTreeMap::from([(3, fields(json!({"checked": "twice"})))]),
            tensors: BTreeMap::from([(0, fields(json!({"layer": [1, 450]})))]),
        },
    }
}

/// A manifest with segments and tensors of every kind.
pub(crate) fn any_manifest() -> impl Strategy<Value = ContentManifest> {
    let dtype = prop::option::weighted(0.7, prop::sample::select(DType::ALL));
    let segment = (dtype, 0u64..300, 1u64..65_537);
    (prop::collection::vec(segment, 0..6), any::<u64>(), ".{0,8}").prop_map(|(parts, seed, name)| {
        let cut = Cut::TEST;
        let mut segments = Vec::new();
        let mut tensors = Vec::new();
        for (index, (dtype, kilo_elements, opaque)) in parts.into_iter().enumerate() {
            // Whole storage units of every type.
            let elements = kilo_elements * 1024;
            let len = dtype.map_or(elements, |dtype| dtype.byte_len(elements).unwrap());
            let blocks = cut_blocks(len, dtype, cut, opaque, seed.wrapping_add(index as u64));
            segments.push(ManifestSegment { len, dtype, blocks });
            if let Some(dtype) = dtype {
                tensors.push(view(&format!("{name}.{index}"), dtype, &[elements / 4, 4], index, 0));
                if index % 2 == 1 && elements > 0 {
                    tensors.last_mut().unwrap().strides = Some(vec![1, elements / 4]);
                }
                if elements >= 512 {
                    let offset = dtype.byte_len(elements / 512 * 256).unwrap();
                    tensors.push(view(&name, dtype, &[256], index, offset));
                }
            } else if len > 9 {
                tensors.push(view(&name, DType::U8, &[len / 3], index, len / 2));
            }
        }
        let mut size: u64 = segments.iter().map(|segment| segment.len).sum();
        let mut compressed = Vec::new();
        if seed % 3 == 0 && segments.len() > 2 {
            let with = Compression::Zlib { level: (seed % 9) as u8 + 1 };
            compressed.push(CompressedRun { first: 1, count: 2, len: 77, with });
            size = size - segments[1].len - segments[2].len + 77;
        }
        let sha256 = sha256(&seed.to_le_bytes());
        ContentManifest {
            format: name,
            size,
            sha256,
            cut,
            segments,
            tensors,
            compressed,
            extra: ContentExtra::default(),
        }
    })
}

#[test]
fn golden() {
    let manifest = fixed();
    let (id, bytes) = manifest.encode().unwrap();
    assert_eq!(
        id.to_hex(),
        "29066e6ae0a434518eae9d2b6e71769684e34b39dbebd1ca86761356123101a9",
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    assert_eq!(ContentManifest::from_bytes(&bytes), Ok(manifest));
    assert_strict(&bytes, |bytes| ContentManifest::from_bytes(bytes)?.to_bytes());
}

#[test]
fn the_json_is_compact() {
    let manifest = ContentManifest { extra: ContentExtra::default(), ..fixed() };
    let mut text = String::from_utf8(manifest.to_bytes().unwrap()).unwrap();
    for (number, block) in manifest.blocks().enumerate() {
        text = text.replace(&block.span.id.to_hex(), &format!("id{number}"));
    }
    let expected = concat!(
        r#"{"cut":65536,"format":"safetensors","segments":[{"blocks":["id0","id1"],"len":100000,"lengths":[60000,40000]},"#,
        r#"{"blocks":["id2","id3"],"dtype":"BF16","len":90000},{"blocks":[],"dtype":"F32","len":0},{"blocks":["id4"],"len":7}],"#,
        r#""sha256":"3b9c358f36f0a31b6ad3e14f309c7cf198ac9246e8316f9ce543d5b19ac02b80","size":190007,"tensors":["#,
        r#"{"dtype":"BF16","name":"w","segment":1,"shape":[450,100]},"#,
        r#"{"dtype":"BF16","name":"tied","offset":65530,"segment":1,"shape":[10]},"#,
        r#"{"dtype":"F32","name":"none","segment":2,"shape":[0,"18446744073709551615"]}],"type":"manifest","version":1}"#,
    );
    assert_eq!(text, expected);
}

/// What only version 2 can say: the middle two segments compressed together, and a tensor in Fortran's order.
pub(crate) fn fixed_2() -> ContentManifest {
    let mut manifest = fixed();
    manifest.tensors[0].strides = Some(vec![1, 450]);
    manifest.compressed.push(CompressedRun { first: 1, count: 2, len: 50_000, with: Compression::Zlib { level: 6 } });
    manifest.size = 150_007;
    manifest
}

#[test]
fn what_version_1_cannot_say_is_version_2() {
    let manifest = fixed_2();
    let bytes = manifest.to_bytes().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(r#""compressed":[{"count":2,"first":1,"len":50000,"with":"zlib-6"}]"#), "{text}");
    assert!(text.contains(r#""shape":[450,100],"strides":[1,450]}"#), "{text}");
    assert!(text.ends_with(r#""type":"manifest","version":2}"#), "{text}");
    assert_eq!(ContentManifest::from_bytes(&bytes), Ok(manifest));
    assert_strict(&bytes, |bytes| ContentManifest::from_bytes(bytes)?.to_bytes());
    let read = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        ContentManifest::from_bytes(text.replace(from, to).as_bytes())
    };
    let older = read(r#""version":2"#, r#""version":1"#);
    assert!(matches!(older, Err(ManifestError::Object(ObjectError::Invalid { .. }))), "{older:?}");
    assert_eq!(read("zlib-6", "zlib-10"), Err(ManifestError::Compression("zlib-10".to_owned())));
    assert_eq!(read(r#""count":2"#, r#""count":0"#), Err(LayoutError::Compressed(0).into()));
    assert!(read(r#""len":50000"#, r#""len":50001"#).is_err(), "the file's length");
    assert!(read(r#""strides":[1,450]"#, r#""strides":[1,451]"#).is_err());
    let plain = String::from_utf8(fixed().to_bytes().unwrap()).unwrap();
    let newer = ContentManifest::from_bytes(plain.replace(r#""version":1"#, r#""version":2"#).as_bytes());
    assert!(newer.is_err(), "one spelling");
}

#[test]
fn blocks_have_their_places() {
    let manifest = fixed();
    let places: Vec<(usize, u64, u64, u32)> =
        manifest.blocks().map(|b| (b.segment, b.segment_offset, b.file_offset, b.span.len)).collect();
    assert_eq!(
        places,
        [
            (0, 0, 0, 60_000),
            (0, 60_000, 60_000, 40_000),
            (1, 0, 100_000, 65_536),
            (1, 65_536, 165_536, 24_464),
            (3, 0, 190_000, 7)
        ]
    );
    assert_eq!(manifest.segment_offsets(), [0, 100_000, 190_000, 190_000]);
    let blocks = |segment, offset, len| {
        let (blocks, start) = manifest.tensor_blocks(&view("", DType::U8, &[len], segment, offset));
        (blocks.len(), start)
    };
    assert_eq!(blocks(0, 0, 60_000), (1, 0));
    assert_eq!(blocks(0, 59_999, 2), (2, 0));
    assert_eq!(blocks(0, 60_000, 40_000), (1, 60_000));
    assert_eq!(blocks(0, 60_000, 40_001), (0, 0));
    assert_eq!(blocks(1, 65_535, 1), (1, 0));
    assert_eq!(blocks(1, 65_530, 10), (2, 0));
    assert_eq!(blocks(1, 65_536, 1), (1, 65_536));
    assert_eq!(blocks(1, 5, 0), (0, 0));
    assert_eq!(blocks(9, 0, 1), (0, 0));
}

#[test]
fn content_of_tensors() {
    let manifest = fixed();
    let content = |view: &TensorView| manifest.tensor_content(view);
    assert!(content(&manifest.tensors[0]).is_some());
    assert_eq!(content(&manifest.tensors[1]), None);
    assert_eq!(content(&manifest.tensors[2]), Some(TensorHasher::new(DType::F32, Cut::TEST).finish()));
    assert!(content(&view("", DType::U8, &[65_536], 1, 0)).is_some());
    assert!(content(&view("", DType::U8, &[24_464], 1, 65_536)).is_some());
    assert_eq!(content(&view("", DType::F6E2M3, &[120_000], 1, 0)), None, "F6 is cut at other places");
    assert_eq!(content(&view("", DType::U8, &[100_000], 0, 0)), None, "opaque bytes are not cut as tensors are");
}

#[test]
fn contradictions() {
    let broken = |change: &dyn Fn(&mut ContentManifest)| {
        let mut manifest = fixed();
        change(&mut manifest);
        manifest.to_bytes().unwrap_err()
    };
    assert!(matches!(broken(&|m| m.size += 1), ManifestError::Layout(LayoutError::Tiling { .. })));
    assert!(matches!(broken(&|m| m.tensors[1].offset = 90_000), ManifestError::Layout(LayoutError::Tensor(_))));
    assert!(matches!(broken(&|m| m.tensors[1].segment = 4), ManifestError::Layout(LayoutError::Tensor(_))));
    assert_eq!(broken(&|m| m.segments[1].blocks[0].len -= 1), ManifestError::Blocks(1));
    assert_eq!(broken(&|m| m.segments[1].blocks.truncate(1)), ManifestError::Blocks(1));
    assert_eq!(broken(&|m| m.segments[0].blocks[0].len = 100_000), ManifestError::Blocks(0));
    assert_eq!(broken(&|m| m.segments[2].blocks = m.segments[3].blocks.clone()), ManifestError::Blocks(2));
    let empty = BlockSpan { id: sha256(b""), len: 0 };
    assert_eq!(broken(&|m| m.segments[3].blocks.push(empty)), ManifestError::Blocks(3));
    let unexpected = |name: &str| ManifestError::Object(ObjectError::Unexpected(name.to_owned()));
    for name in FIELDS.iter().chain(&["type", "version"]) {
        assert_eq!(broken(&|m| m.extra.fields = fields(json!({ *name: 1 }))), unexpected(name));
    }
    assert_eq!(
        broken(&|m| *m.extra.tensors.entry(0).or_default() = fields(json!({"blocks": 1}))),
        unexpected("blocks")
    );
    assert_eq!(broken(&|m| m.extra.segments = BTreeMap::from([(4, Fields::new())])), unexpected("extra"));
    let inexact = |m: &mut ContentManifest| m.extra.fields = fields(json!({"x": u64::MAX}));
    assert!(matches!(broken(&inexact), ManifestError::Object(ObjectError::Canonical(CanonicalError::Integer(_)))));
}

#[test]
fn refusals() {
    let text = String::from_utf8(fixed().to_bytes().unwrap()).unwrap();
    let read = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        ContentManifest::from_bytes(text.replacen(from, to, 1).as_bytes())
    };
    let newer = ObjectError::Newer { kind: "manifest", found: 3, known: 2 };
    assert_eq!(read(r#""version":1"#, r#""version":3"#), Err(newer.into()));
    assert!(matches!(read(r#""manifest""#, r#""tree""#), Err(ManifestError::Object(ObjectError::Kind { .. }))));
    assert_eq!(read(r#""cut":65536"#, r#""cut":65537"#), Err(ManifestError::Cut(65_537)));
    assert_eq!(read(r#""cut":65536"#, r#""cut":4194304"#), Err(ManifestError::Blocks(1)));
    assert_eq!(read(r#""BF16""#, r#""BF17""#), Err(ManifestError::DType("BF17".to_owned())));
    assert_eq!(read("[60000,40000]", "[60001,40000]"), Err(ManifestError::Blocks(0)));
    assert_eq!(read("[60000,40000]", "[60000]"), Err(ManifestError::Blocks(0)));
    assert_eq!(read("[60000,40000]", "[100000,0]"), Err(ManifestError::Blocks(0)));
    assert_eq!(read("[60000,40000]", "[4294967296000,40000]"), Err(ManifestError::Blocks(0)));
    assert!(matches!(
        read(r#""len":7"#, r#""len":7,"lengths":[7]"#),
        Err(ManifestError::Object(ObjectError::Unexpected(_)))
    ));
    assert!(read(r#""name":"tied","offset":65530"#, r#""name":"tied","offset":0"#).is_err());
    assert!(read(r#""size":190007"#, r#""size":"190007""#).is_err());
    assert!(read(r#""size":190007"#, r#""size":190008"#).is_err());
    assert!(read(r#","size":190007"#, "").is_err());
    // A length that no list of blocks can have is refused before anything is made of it.
    assert_eq!(read(r#""len":90000"#, r#""len":"18446744073709551615""#), Err(ManifestError::Blocks(1)));
    assert!(ContentManifest::from_bytes(b"").is_err());
}

#[test]
fn an_empty_file() {
    let layout = Layout::opaque(0);
    let manifest = ContentManifest {
        format: layout.format.clone(),
        size: 0,
        sha256: sha256(b""),
        cut: Cut::V1,
        segments: Vec::new(),
        tensors: Vec::new(),
        compressed: Vec::new(),
        extra: ContentExtra::default(),
    };
    let bytes = manifest.to_bytes().unwrap();
    assert_eq!(ContentManifest::from_bytes(&bytes).unwrap().layout(), layout);
    assert_eq!(manifest.blocks().next(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn manifests_round_trip(manifest in any_manifest()) {
        let bytes = manifest.to_bytes().unwrap();
        let read = ContentManifest::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read, &manifest);
        prop_assert_eq!(read.layout().check(manifest.size), Ok(()));
        let mut at = 0;
        for block in manifest.blocks() {
            prop_assert_eq!(block.file_offset, at);
            at += u64::from(block.span.len);
        }
        prop_assert_eq!(at, read.layout().expanded_len());
        let starts = manifest.segment_offsets();
        for view in &manifest.tensors {
            let (from, len) = (starts[view.segment] + view.offset, view.byte_len().unwrap());
            let expected: Vec<BlockSpan> = manifest
                .blocks()
                .filter(|b| b.segment == view.segment && b.file_offset < from + len && b.file_offset + u64::from(b.span.len) > from)
                .map(|b| b.span)
                .collect();
            let (blocks, start) = manifest.tensor_blocks(view);
            prop_assert_eq!(blocks, if len > 0 { expected.as_slice() } else { &[] });
            prop_assert!(blocks.is_empty() || start <= view.offset && view.offset < start + u64::from(blocks[0].len));
        }
    }

    #[test]
    fn damaged_manifests_are_refused_or_others(manifest in any_manifest(), at: prop::sample::Index, to: u8) {
        let bytes = manifest.to_bytes().unwrap();
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] = to;
        if let Ok(read) = ContentManifest::from_bytes(&damaged) {
            prop_assert_eq!(read.to_bytes().unwrap(), damaged);
        }
        prop_assert!(ContentManifest::from_bytes(&bytes[..at.index(bytes.len())]).is_err());
    }
}
