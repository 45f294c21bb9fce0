//! Every real checkpoint below `$SHARD_DATA` parses and comes back byte for byte. Fails where the data is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use shard_core::limits::Cut;
use shard_formats::compress::{Expanded, FileBytes, NotRepeated};
use shard_formats::cut::Cutter;
use shard_formats::model::LogicalModel;
use shard_formats::{FileSource, parse};

fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("SHARD_DATA").expect("SHARD_DATA names the folder of real checkpoints"))
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in directory.read_dir().expect("the folder of real checkpoints") {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
#[ignore = "needs SHARD_DATA; run by `cargo test --workspace --release --test real_files -- --ignored`"]
fn every_file_parses_and_comes_back() {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    let mut with_tensors = 0;
    for path in &paths {
        let source = FileSource::open(path).unwrap();
        let parsed = parse(&source).unwrap();
        assert!(parsed.note.is_none(), "{}: {:?}", path.display(), parsed.note);
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(parsed.layout.check(bytes.len() as u64), Ok(()));
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            assert_eq!(parsed.layout.format, "safetensors", "{}", path.display());
            let (header, theirs) = SafeTensors::read_metadata(&bytes).unwrap();
            let offsets = parsed.layout.segment_offsets();
            assert_eq!(parsed.layout.tensors.len(), theirs.tensors().len(), "{}", path.display());
            for tensor in &parsed.layout.tensors {
                let info = theirs.info(&tensor.name).unwrap();
                assert_eq!(tensor.dtype.name(), info.dtype.to_string());
                assert_eq!(tensor.shape, info.shape.iter().map(|dim| *dim as u64).collect::<Vec<_>>());
                let start = offsets[tensor.segment] + tensor.offset;
                assert_eq!(start, (8 + header + info.data_offsets.0) as u64);
            }
            with_tensors += 1;
        }
        if path.extension().is_some_and(|extension| extension == "onnx") {
            assert_eq!(parsed.layout.format, "onnx", "{}", path.display());
            let data: u64 = parsed.layout.segments.iter().filter(|s| s.dtype.is_some()).map(|s| s.len).sum();
            assert!(data > bytes.len() as u64 / 10 * 9, "{}: {data} bytes of tensors", path.display());
        }
        if path.extension().is_some_and(|extension| extension == "pt") {
            // What PyTorch loads from these: a model, its optimizer's state, and that of the generator.
            assert_eq!(parsed.layout.format, "pytorch", "{}", path.display());
            assert!(parsed.layout.tensors.len() >= 25, "{}", path.display());
        }
        for cut in [Cut::V1, Cut::TEST] {
            let expanded = Expanded::new(&source, &parsed.layout);
            let mut cutter = Cutter::new(&expanded, &parsed.layout, cut);
            let mut file = FileBytes::new(&parsed.layout);
            let (mut block, mut at) = (Vec::new(), 0);
            while cutter.next(&mut block).unwrap().is_some() {
                let compare = &mut |part: &[u8]| {
                    assert!(bytes[at..at + part.len()] == *part, "{} from byte {at} on", path.display());
                    at += part.len();
                    Ok::<(), NotRepeated>(())
                };
                file.push(&block, compare).unwrap();
            }
            assert_eq!(at, bytes.len(), "{}", path.display());
        }
    }
    assert!(paths.len() >= 40 && with_tensors >= 30, "{} files, {with_tensors} safetensors", paths.len());
}

#[test]
#[ignore = "needs SHARD_DATA; run by `cargo test --workspace --release --test real_files -- --ignored`"]
fn a_sharded_model_is_one() {
    let directory = root().join("small/resharded");
    let json = std::fs::read(directory.join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let expected: BTreeSet<(String, String)> = index["weight_map"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, file)| (name.clone(), file.as_str().unwrap().to_owned()))
        .collect();
    for path in [directory.clone(), directory.join("model.safetensors.index.json")] {
        let model = LogicalModel::open(&path).unwrap();
        assert_eq!(model.parts.len(), 2);
        let file = |part: usize| model.parts[part].path.file_name().unwrap().to_str().unwrap().to_owned();
        let found: BTreeSet<_> = model.tensors().map(|(name, part, _)| (name.to_owned(), file(part))).collect();
        assert_eq!(found, expected);
    }
}

#[test]
#[ignore = "needs SHARD_DATA; run by `cargo test --workspace --release --test real_files -- --ignored`"]
fn quantised_models_and_archives_of_arrays_have_their_tensors() {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    let mut found = [0, 0];
    for path in &paths {
        let extension = path.extension().unwrap_or_default();
        let Some(index) = ["gguf", "npz"].iter().position(|known| extension == *known) else { continue };
        let layout = parse(&FileSource::open(path).unwrap()).unwrap().layout;
        assert_eq!(layout.format, ["gguf", "npz"][index], "{}", path.display());
        found[index] += layout.tensors.len();
    }
    assert!(found[0] >= 50 && found[1] >= 100, "{found:?}");
}
