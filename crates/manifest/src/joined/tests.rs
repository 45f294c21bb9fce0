use super::*;
use crate::content::tests::{any_manifest, fields, fixed, fixed_2};
use crate::damage::assert_strict;
use crate::object::Fields;
use crate::{ContentExtra, ManifestSegment};
use proptest::prelude::*;
use serde_json::json;
use shard_core::{DType, TensorView, sha256};

fn record() -> RunRecord {
    RunRecord {
        model_name: Some("tiny".to_owned()),
        step: Some(7),
        extra: fields(json!({"team": "é"})),
        ..RunRecord::new("model.safetensors")
    }
}

fn value(bytes: &[u8]) -> Fields {
    fields(serde_json::from_slice(bytes).unwrap())
}

#[test]
fn golden() {
    let bytes = join(&fixed(), &record()).unwrap();
    assert_eq!(
        sha256(&bytes).to_hex(),
        "42965ad511d1addf0f435dd6ab32fa929b7f46d393d70e17bdfad2606d57f1ba",
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    let (content, run) = split(&bytes).unwrap();
    assert_eq!((content.id(), &run), (fixed().id(), &record()));
    assert_strict(&bytes, |bytes| {
        let (content, record) = split(bytes)?;
        join(&content, &record)
    });
}

#[test]
fn one_object_says_everything() {
    let joined = value(&join(&fixed(), &record()).unwrap());
    for (name, expected) in [
        ("type", json!("model")),
        ("version", json!(1)),
        ("model_name", json!("tiny")),
        ("file_path", json!("model.safetensors")),
        ("step", json!(7)),
        ("size", json!(190_007)),
        ("sha256", json!(sha256(b"file").to_hex())),
        ("team", json!("é")),
        ("content_fields", json!({"later": {"a": null, "b": [1, 2.5]}})),
    ] {
        assert_eq!(joined.get(name), Some(&expected), "{name}");
    }
    let manifest = fixed();
    let ids: Vec<String> = manifest.segments[1].blocks.iter().map(|block| block.id.to_hex()).collect();
    let tensors = joined["tensors"].as_array().unwrap();
    assert_eq!(tensors[0]["blocks"], json!(ids));
    assert_eq!(tensors[1]["blocks"], json!(ids), "a view lists the blocks it touches");
    assert_eq!(tensors[2]["blocks"], json!([]));
    assert_eq!(tensors[0]["layer"], json!([1, 450]));
    let segments = joined["segments"].as_array().unwrap();
    assert_eq!(segments[1], json!({"dtype": "BF16", "len": 90_000, "tensor": 0}), "ids are not written twice");
    assert!(segments[0].get("blocks").is_some());
}

#[test]
fn what_version_1_cannot_say_is_version_2() {
    let bytes = join(&fixed_2(), &record()).unwrap();
    let joined = value(&bytes);
    assert_eq!(joined["version"], json!(2));
    assert_eq!(joined["compressed"], json!([{"count": 2, "first": 1, "len": 50_000, "with": "zlib-6"}]));
    assert_eq!(split(&bytes).unwrap(), (fixed_2(), record()));
}

#[test]
fn contradictions() {
    let bytes = join(&fixed(), &record()).unwrap();
    let broken = |change: &dyn Fn(&mut Fields)| {
        let mut joined = value(&bytes);
        change(&mut joined);
        split(&crate::canonical::to_bytes(&Value::Object(joined)).unwrap()).unwrap_err()
    };
    let other = json!([sha256(b"other").to_hex(), sha256(b"another").to_hex()]);
    assert_eq!(broken(&|joined| joined["tensors"][1]["blocks"] = other.clone()), ManifestError::Joined);
    assert_eq!(broken(&|joined| joined["tensors"][0]["blocks"] = other.clone()), ManifestError::Joined);
    assert_eq!(broken(&|joined| joined["segments"][1]["tensor"] = json!(1)), ManifestError::Joined);
    assert_eq!(broken(&|joined| joined["segments"][1]["tensor"] = json!(-1)), ManifestError::Joined);
    assert_eq!(broken(&|joined| joined["segments"][1]["tensor"] = json!(99)), ManifestError::Joined);
    // One list for two segments: it is there only once.
    assert_eq!(broken(&|joined| joined["segments"][2]["tensor"] = json!(0)), ManifestError::Joined);
    assert!(matches!(broken(&|joined| joined["content_fields"] = json!({"size": 1})), ManifestError::Object(_)));
    assert!(matches!(broken(&|joined| joined["content_fields"] = json!({})), ManifestError::Object(_)));
    assert!(matches!(broken(&|joined| joined["version"] = json!(3)), ManifestError::Object(ObjectError::Newer { .. })));
    assert_eq!(broken(&|joined| joined["version"] = json!(2)), ManifestError::Joined, "one spelling");
    let without = |name: &str| matches!(broken(&|joined| drop(joined.remove(name))), ManifestError::Object(_));
    for name in ["cut", "format", "sha256", "size", "tensors", "segments", "file_path", "type", "version"] {
        assert!(without(name), "{name}");
    }
}

#[test]
fn views_without_end_are_refused() {
    let blocks: Vec<_> = (0..3000u32).map(|n| crate::BlockSpan { id: sha256(&n.to_le_bytes()), len: 65_536 }).collect();
    let len = 3000 * 65_536;
    let view =
        TensorView { name: "w".to_owned(), dtype: DType::U8, shape: vec![len], segment: 0, offset: 0, strides: None };
    for dtype in [Some(DType::U8), None] {
        let segments = vec![ManifestSegment { len, dtype, blocks: blocks.clone() }];
        let tensors = vec![view.clone(); 1500];
        let extra = ContentExtra::default();
        let content = ContentManifest { size: len, segments, tensors, extra, ..fixed() };
        assert!(content.to_bytes().is_ok());
        let error = ManifestError::Object(ObjectError::Canonical(CanonicalError::TooManyValues));
        assert_eq!(join(&content, &record()), Err(error));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn joined_manifests_split_again(content in any_manifest(), at: prop::sample::Index, to: u8) {
        let bytes = join(&content, &record()).unwrap();
        prop_assert_eq!(split(&bytes).unwrap(), (content, record()));
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] = to;
        if let Ok((content, record)) = split(&damaged) {
            prop_assert_eq!(join(&content, &record).unwrap(), damaged);
        }
    }
}
