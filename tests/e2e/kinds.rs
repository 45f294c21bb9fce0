//! What kind of change it is, on real pairs: every kind is there, and every file with a parent in the list is told right.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use serde_json::Value;
use shard_datasets::real;
use shard_tests::process::Shard;
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

/// The change from one file, or folder of shards, to another; its kind, and the rank of those of low rank.
const PAIRS: &[(&str, &str, &str, Option<u64>)] = &[
    ("base-minilm/fp32.safetensors", "base-minilm/fp32.safetensors", "identical", None),
    ("cnn/epoch5.safetensors", "cnn-npz/epoch5.npz", "identical", None),
    ("base-minilm/fp32.safetensors", "base-minilm/bf16.safetensors", "cast", None),
    ("base-minilm/fp32.safetensors", "base-minilm/fp16.safetensors", "cast", None),
    ("base-minilm/bf16.safetensors", "base-minilm/fp32.safetensors", "cast", None),
    ("gpt-fp32/step0420.safetensors", "gpt-bf16/step0420.safetensors", "cast", None),
    ("base-minilm/fp16.safetensors", "quantised/base-f16.gguf", "cast", None),
    ("base-minilm/fp32.safetensors", "finetune/fp32/step0150.safetensors", "fine-tune", None),
    ("base-minilm/bf16.safetensors", "finetune/bf16/step0100.safetensors", "fine-tune", None),
    ("finetune/bf16/step0100.safetensors", "finetune/bf16/step0150.safetensors", "fine-tune", None),
    ("base-minilm/fp16.safetensors", "finetune/fp16/step0150.safetensors", "fine-tune", None),
    ("base-minilm/bf16.safetensors", "finetune-purebf16/bf16/step0075.safetensors", "fine-tune", None),
    ("gpt-fp32/step0350.safetensors", "gpt-fp32/step0385.safetensors", "fine-tune", None),
    ("gpt-bf16/step0385.safetensors", "gpt-bf16/step0420.safetensors", "fine-tune", None),
    ("gpt-fp16/step0385.safetensors", "gpt-fp16/step0420.safetensors", "fine-tune", None),
    ("gpt-opt/step0385.safetensors", "gpt-opt/step0420.safetensors", "fine-tune", None),
    ("gpt-opt-pt/step0385.pt", "gpt-opt-pt/step0420.pt", "fine-tune", None),
    ("cnn/epoch3.safetensors", "cnn/epoch4.safetensors", "fine-tune", None),
    ("cnn/epoch4.safetensors", "cnn/epoch5.safetensors", "fine-tune", None),
    ("cnn-npz/epoch4.npz", "cnn-npz/epoch5.npz", "fine-tune", None),
    ("cnn-npz/epoch5.npz", "cnn-npz/epoch5-deflated.npz", "identical", None),
    ("gpt-bf16/step0350.safetensors", "gpt-bf16/step0385.safetensors", "fine-tune", None),
    ("gpt-fp32/step0385.safetensors", "gpt-fp32/step0420.safetensors", "fine-tune", None),
    ("gpt-fp32/step0420.safetensors", "ema/step0420-ema.safetensors", "fine-tune", None),
    ("resized/vocab8448-init.safetensors", "resized/vocab8448-trained30.safetensors", "fine-tune", None),
    ("quantised/base-q8_0.gguf", "quantised/ft-q8_0.gguf", "fine-tune", None),
    ("quantised/base-q4_0.gguf", "quantised/ft-q4_0.gguf", "fine-tune", None),
    ("quantised/base-int8pc.safetensors", "quantised/ft-int8pc.safetensors", "fine-tune", None),
    ("base-minilm/fp32.safetensors", "frozen/fp32/step0060.safetensors", "frozen", None),
    ("frozen/fp32/step0060.safetensors", "frozen/fp32/step0090.safetensors", "frozen", None),
    ("base-minilm/fp32.safetensors", "lora-merged/merged-fp32.safetensors", "low-rank", Some(8)),
    ("base-minilm/fp16.safetensors", "lora-merged/merged-fp16.safetensors", "low-rank", Some(8)),
    ("base-minilm/bf16.safetensors", "lora-merged/merged-bf16.safetensors", "low-rank", Some(8)),
    ("gpt-fp32/step0420.safetensors", "resized/vocab8448-init.safetensors", "resized", None),
    ("gpt-fp32/step0420.safetensors", "resized/vocab8448-trained30.safetensors", "resized", None),
    ("gpt-fp32/step0420.safetensors", "resharded", "renamed", None),
    ("gpt-fp32/step0420.safetensors", "resharded/model.safetensors.index.json", "renamed", None),
    ("base-minilm/fp16.safetensors", "quantised/base-int8pc.safetensors", "quantised", None),
    ("base-minilm/fp16.safetensors", "quantised/base-q8_0.gguf", "quantised", None),
    ("base-minilm/fp16.safetensors", "quantised/base-q4_0.gguf", "quantised", None),
    ("quantised/base-f16.gguf", "quantised/base-q8_0.gguf", "quantised", None),
    ("finetune/fp16/step0150.safetensors", "quantised/ft-q8_0.gguf", "quantised", None),
    ("finetune/fp16/step0150.safetensors", "quantised/ft-q4_0.gguf", "quantised", None),
    ("finetune/fp16/step0150.safetensors", "quantised/ft-int8pc.safetensors", "quantised", None),
    ("real-silero/silero_vad-v6.0.0.onnx", "real-silero/silero_vad-v6.2.0.onnx", "unrelated", None),
    ("real-silero/silero_vad-v6.0.0.onnx", "real-silero/silero_vad_16k-v6.2.3.safetensors", "unrelated", None),
    ("base-minilm/fp32.safetensors", "gpt-fp32/step0420.safetensors", "unrelated", None),
];

#[test]
fn every_real_pair_is_told_right() {
    let small = real::shard_data().unwrap().canonicalize().unwrap().join("small");
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let mut wrong = Vec::new();
    for (old, new, kind, rank) in PAIRS {
        let path = |name: &str| small.join(name).to_str().unwrap().to_owned();
        let found = shard.json(&["diff", "--stat", &path(old), &path(new)]);
        let verdict = &found["models"][0]["kind"];
        if verdict["kind"] != *kind || verdict["rank"].as_u64() != *rank {
            wrong.push(format!("{old} -> {new}: {kind} {rank:?}, not {verdict}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_with_a_parent_is_in_the_list() {
    let list = std::fs::read_to_string(real::shard_data().unwrap().join("small/manifest.csv")).unwrap();
    let mut seen = 0;
    for line in list.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (path, set) = (fields[0], fields[2]);
        if !fields[3].is_empty() {
            let is_listed = PAIRS.iter().any(|(_, new, ..)| *new == path || path.starts_with(&format!("{new}/")));
            assert!(is_listed, "{path} of {set}");
            seen += 1;
        }
    }
    assert!(seen >= 25, "{seen}");
}

#[test]
fn tensors_are_told_with_evidence() {
    let small = real::shard_data().unwrap().canonicalize().unwrap().join("small");
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let path = |name: &str| small.join(name).to_str().unwrap().to_owned();
    let tensors = |old: &str, new: &str| -> Vec<Value> {
        let found = shard.json(&["diff", "--equal", &path(old), &path(new)]);
        found["models"][0]["tensors"].as_array().unwrap().clone()
    };
    for dtype in ["fp32", "fp16", "bf16"] {
        let found =
            tensors(&format!("base-minilm/{dtype}.safetensors"), &format!("lora-merged/merged-{dtype}.safetensors"));
        let changed: Vec<&Value> = found.iter().filter(|tensor| tensor["state"] == "value").collect();
        assert!(changed.len() >= 2);
        for tensor in changed {
            assert_eq!((&tensor["kind"], &tensor["rank"]), (&"low-rank".into(), &8.into()), "{dtype}: {tensor}");
            assert!(tensor["explained"].as_f64() > Some(0.8), "{tensor}");
        }
        let equal = found.iter().filter(|tensor| tensor["state"] == "equal");
        assert!(equal.clone().count() >= 4 && equal.clone().all(|tensor| tensor["kind"] == "frozen"), "{dtype}");
    }
    let moments = tensors("gpt-opt/step0385.safetensors", "gpt-opt/step0420.safetensors");
    assert!(moments.iter().all(|tensor| tensor["kind"] == "fine-tune"), "moments are not re-initialised");
    for tensor in tensors("gpt-fp32/step0420.safetensors", "gpt-bf16/step0420.safetensors") {
        assert_eq!((&tensor["kind"], &tensor["state"]), (&"cast".into(), &"dtype".into()), "{tensor}");
    }
}

#[test]
fn numbers_are_the_same_bits_with_any_threads_and_wherever_models_are_kept() {
    let series = real::shard_data().unwrap().canonicalize().unwrap().join("series/gpt-bf16");
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let versions = ["step0385.safetensors", "step0420.safetensors"].map(|name| series.join(name));
    let [old, new] = versions.each_ref().map(|path| path.to_str().unwrap());
    let tensors = |found: &Value| found["models"][0]["tensors"].clone();
    let expected = tensors(&shard.json(&["--threads", "1", "diff", old, new]));
    assert!(expected.as_array().unwrap().len() > 70);
    assert_eq!(tensors(&shard.json(&["--threads", "4", "diff", old, new])), expected);
    shard.ok(&["init"]);
    for version in &versions {
        std::fs::copy(version, folder.path().join("model.safetensors")).unwrap();
        shard.ok(&["add", "model.safetensors"]);
        shard.ok(&["commit", "-m", "a version"]);
    }
    assert_eq!(tensors(&shard.json(&["diff", "HEAD~1", "HEAD"])), expected, "stored");
    assert_eq!(tensors(&shard.json(&["diff", "HEAD~1:model.safetensors", new])), expected, "stored, and a file");
}
