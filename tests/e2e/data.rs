//! The suite over the recorded real checkpoints in `SHARD_DATA`, behind the feature `data-suite`. It fails where they are
//! missing or not what their manifest says.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use shard_datasets::real::{Recorded, pairs, recorded, shard_data};
use shard_tests::bitx::bitx;
use shard_tests::payload::payload;
use shard_tests::process::{Shard, exit, sum_in};
use shard_tests::rewrite::{Tensor, read, read_any, write};
use shard_tests::tree::{digests, sizes};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

/// The files that `small/manifest.csv` lists.
const LISTED: usize = 48;
/// The published ratios of BitX on the consecutive pairs of `series/`, tensors only.
const BITX: [(&str, &str, f64); 4] = [
    ("finetune-bf16/base", "finetune-bf16/step0100", 5.182),
    ("finetune-bf16/step0100", "finetune-bf16/step0150", 13.337),
    ("gpt-bf16/step0350", "gpt-bf16/step0385", 2.22),
    ("gpt-bf16/step0385", "gpt-bf16/step0420", 2.331),
];

fn data() -> PathBuf {
    let folder = shard_data().unwrap_or_else(|error| panic!("{error}"));
    folder.canonicalize().unwrap()
}

fn listed() -> Vec<Recorded> {
    let files = recorded().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(files.len(), LISTED, "expected {LISTED} files in small/manifest.csv");
    files
}

/// The recorded data as it has to come back: every file below `small` and `series`, checked against the manifest where it is
/// listed. `gpt-bf16` and `finetune-bf16` of the series have three checkpoints each.
fn originals() -> BTreeMap<String, String> {
    let mut expected = digests(&data());
    expected.retain(|path, _| path.starts_with("small/") || path.starts_with("series/"));
    for file in listed() {
        let found = expected.get(&format!("small/{}", file.name));
        assert_eq!(found, Some(&file.sha256.to_hex()), "{}: expected the SHA-256 of the manifest", file.name);
    }
    let series = expected.keys().filter(|path| path.starts_with("series/")).count();
    assert!(series >= 6, "expected six checkpoints in series/, found {series}");
    expected
}

/// Copies `small` and `series` into a folder of its own.
fn copied(folder: &Path) {
    for name in ["small", "series"] {
        shard_tests::tree::copy(&data().join(name), &folder.join(name));
    }
}

#[test]
fn every_file_comes_back_from_a_repository() {
    let expected = originals();
    let folder = TempDir::new().unwrap();
    copied(folder.path());
    let shard = Shard::new(SHARD, folder.path());
    shard.ok(&["init"]);
    let report = shard.json(&["add", "-A"]);
    assert_eq!(report["files"].as_array().map(Vec::len), Some(expected.len()), "expected every file to be added");
    shard.ok(&["commit", "-m", "Everything"]);
    assert_eq!(shard.status(), "");
    let raw: u64 = sizes(folder.path()).values().sum();
    let stored = payload(folder.path()).packs;
    println!("repository: {raw} bytes in {stored}, ratio {:.3}", raw as f64 / stored as f64);
    let elsewhere = TempDir::new().unwrap();
    let out = elsewhere.path().join("out");
    shard.ok(&["checkout", "HEAD", "-o", out.to_str().unwrap()]);
    assert_eq!(digests(&out), expected, "expected every file byte for byte");
    let _ = shard.run(&["verify", "--full"]).expect(exit::DONE);
}

#[test]
fn every_file_comes_back_from_an_archive() {
    let expected = originals();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let archive = folder.path().join("all.shard");
    // Packed from where they are: packing writes nothing beside its output.
    let shard = Shard::new(SHARD, &data());
    shard.ok(&["pack", "small", "series", "-o", archive.to_str().unwrap()]);
    let raw: u64 = sizes(&data()).iter().filter(|(path, _)| expected.contains_key(*path)).map(|(_, size)| size).sum();
    let stored = fs::metadata(&archive).unwrap().len();
    println!("archive: {raw} bytes in {stored}, ratio {:.3}", raw as f64 / stored as f64);
    let _ = shard.run(&["verify", archive.to_str().unwrap()]).expect(exit::DONE);
    shard.ok(&["unpack", archive.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!(digests(&out), expected, "expected every file byte for byte");
}

/// Packs files that are in `folder` in this order, and gives the archive's length in bytes: all of it.
fn packed(folder: &Path, files: &[&Path]) -> u64 {
    let out = TempDir::new().unwrap();
    let archive = out.path().join("x.shard");
    let mut args = vec!["pack"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    args.extend(["-o", archive.to_str().unwrap()]);
    Shard::new(SHARD, folder).ok(&args);
    fs::metadata(&archive).unwrap().len()
}

#[test]
fn the_next_checkpoint_of_a_series_is_a_tenth_smaller_than_bitx() {
    let series = data().join("series");
    let pairs = pairs().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(pairs.len(), BITX.len(), "expected the four consecutive pairs of series/");
    println!(
        "{:45} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8}",
        "pair", "raw", "BitX", "BitX here", "shard", "ratio", "of BitX"
    );
    let mut failures = Vec::new();
    for (pair, (from, to, published)) in pairs.iter().zip(BITX) {
        let place = |path: &Path| path.canonicalize().unwrap().strip_prefix(&series).unwrap().to_owned();
        let (a, b) = (place(&pair.from), place(&pair.to));
        assert_eq!(
            (a.to_str().unwrap(), b.to_str().unwrap()),
            (&*format!("{from}.safetensors"), &*format!("{to}.safetensors"))
        );
        let raw = fs::metadata(&pair.to).unwrap().len();
        let bitx_published = (raw as f64 / published) as u64;
        let here = bitx(&fs::read(&pair.from).unwrap(), &fs::read(&pair.to).unwrap());
        let ours = packed(&series, &[&a, &b]) - packed(&series, &[&a]);
        let of_bitx = ours as f64 / bitx_published.min(here.stored) as f64;
        println!(
            "{:45} {raw:>10} {bitx_published:>10} {:>10} {ours:>10} {:>8.3} {:>7.1}%",
            format!("{from} -> {to}"),
            here.stored,
            raw as f64 / ours as f64,
            100.0 * of_bitx
        );
        // The measure itself: the baseline made here is the published one.
        if (here.ratio() / published - 1.0).abs() > 0.02 {
            failures.push(format!(
                "{to}: BitX made here has the ratio {:.3}, expected {published} within 2%",
                here.ratio()
            ));
        }
        if of_bitx > 0.9 {
            failures.push(format!(
                "{to}: {ours} bytes, expected at most 90% of BitX's {}",
                bitx_published.min(here.stored)
            ));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// What changes the tensors of a model.
type Change = fn(Vec<Tensor>) -> Vec<Tensor>;

fn under_other_names(tensors: Vec<Tensor>) -> Vec<Tensor> {
    tensors.into_iter().map(|tensor| Tensor { name: format!("model.{}", tensor.name), ..tensor }).collect()
}

/// Under names that say nothing.
fn numbered(tensors: Vec<Tensor>) -> Vec<Tensor> {
    tensors.into_iter().enumerate().map(|(number, tensor)| tensor.named(format!("{:03}", number * 37 % 101))).collect()
}

/// The square matrices and those that are wider than high transposed.
fn transposed(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let turn = |tensor: Tensor| match tensor.shape[..] {
        [rows, columns] if rows > 2 && rows <= columns => tensor.transposed(),
        _ => tensor,
    };
    under_other_names(tensors).into_iter().map(turn).collect()
}

/// Query, key and value as one; the first layer of an MLP, or all three where they are one, in halves.
fn cut_anew(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let all = under_other_names(tensors);
    let find = |name: &str| all.iter().find(|tensor| tensor.name == name).cloned();
    let mut new = Vec::new();
    for tensor in &all {
        let name = |from: &str, to: &str| tensor.name.replace(from, to);
        if tensor.shape.len() == 2 && tensor.name.contains(".query.") {
            let parts = ["query", "key", "value"].map(|part| find(&name("query", part)).unwrap());
            new.push(Tensor::stacked(&parts).named(name("query", "qkv")));
        } else if tensor.shape.len() == 2 && ["intermediate", "c_fc", "c_attn"].iter().any(|p| tensor.name.contains(p))
        {
            let half = tensor.shape[0] / 2;
            new.push(tensor.rows(0..half).named(name("weight", "0.weight")));
            new.push(tensor.rows(half..2 * half).named(name("weight", "1.weight")));
        } else if tensor.shape.len() != 2 || !(tensor.name.contains(".key.") || tensor.name.contains(".value.")) {
            new.push(tensor.clone());
        }
    }
    new
}

#[test]
fn a_real_checkpoint_under_other_names_or_in_other_cuts_costs_what_it_costs_under_its_own() {
    let series = data().join("series");
    let folder = TempDir::new().unwrap();
    let changes: [(&str, Change); 4] = [
        ("other names", under_other_names),
        ("names that say nothing", numbered),
        ("transposed", transposed),
        ("cut anew", cut_anew),
    ];
    for (from, to) in [("finetune-bf16/base", "finetune-bf16/step0100"), ("gpt-bf16/step0350", "gpt-bf16/step0420")] {
        let place = |name: &str| series.join(format!("{name}.safetensors"));
        let (first, second) = (folder.path().join("first.safetensors"), folder.path().join("second.safetensors"));
        fs::copy(place(from), &first).unwrap();
        let grown = |tensors: &[Tensor]| {
            fs::write(&second, write(tensors)).unwrap();
            let names = [Path::new("first.safetensors"), Path::new("second.safetensors")];
            packed(folder.path(), &names) - packed(folder.path(), &names[..1])
        };
        let tensors = read(&fs::read(place(to)).unwrap());
        let named = grown(&tensors);
        let mut failures = Vec::new();
        for (what, change) in changes {
            let found = grown(&change(tensors.clone()));
            let share = 100.0 * (found as f64 / named as f64 - 1.0);
            println!("{to}, {what}: {found} bytes, {share:+.2}% of {named}");
            if share >= 3.0 {
                failures.push(format!("{to}, {what}: {found} bytes, expected {named} within 3%"));
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

#[test]
fn plans_of_the_real_series_come_true() {
    for name in ["gpt-bf16", "finetune-bf16"] {
        let series = data().join("series").join(name);
        let mut files: Vec<PathBuf> = fs::read_dir(&series).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let files: Vec<&Path> = files.iter().map(|file| file.strip_prefix(&series).unwrap()).collect();
        let mut args = vec!["pack", "--dry-run"];
        args.extend(files.iter().map(|file| file.to_str().unwrap()));
        let plan = Shard::new(SHARD, &series).json(&args);
        let (planned, packed) = (plan["total"]["stored"].as_u64().unwrap(), packed(&series, &files));
        println!("{name}: planned {planned}, packed {packed}, by {} sampled bytes", plan["sampled"]);
        let off = planned as f64 / packed as f64 - 1.0;
        assert!(off.abs() < 0.1, "{name}: expected {planned} bytes, got {packed}");
    }
}

#[test]
fn a_real_file_kept_twice_costs_no_payload() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    shard.ok(&["init"]);
    copied(folder.path());
    fs::remove_dir_all(folder.path().join("series")).unwrap();
    shard.ok(&["add", "small"]);
    shard.ok(&["commit", "-m", "All"]);
    let before = payload(folder.path());
    // Every file again under another path, in another commit.
    shard_tests::tree::copy(&folder.path().join("small"), &folder.path().join("again"));
    let report = shard.json(&["add", "again"]);
    assert_eq!(sum_in(&report, "files", "new_bytes"), 0, "expected no new payload: {report}");
    shard.ok(&["commit", "-m", "Again"]);
    let after = payload(folder.path());
    assert_eq!(after.blocks, before.blocks, "expected no new payload in the store");
    let (grown, raw) = (after.packs - before.packs, sizes(&folder.path().join("small")).values().sum::<u64>());
    println!("{LISTED} files of {raw} bytes again: {grown} bytes of lists");
    assert!(grown * 1000 < raw, "expected lists under 0.1% of {raw} bytes, got {grown}");
}

#[test]
fn a_real_model_in_renamed_shards_costs_under_one_percent() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    shard.ok(&["init"]);
    let files = listed();
    let shards: Vec<&Recorded> = files.iter().filter(|file| file.kind == "resharded").collect();
    assert_eq!(shards.len(), 3, "expected two shards and an index");
    let parent = &shards[0].parents[0];
    let copy = |name: &str| {
        let target = folder.path().join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(data().join("small").join(name), target).unwrap();
    };
    copy(parent);
    shard.ok(&["add", parent]);
    shard.ok(&["commit", "-m", "Whole"]);
    let before = payload(folder.path());
    shards.iter().for_each(|file| copy(&file.name));
    let report = shard.json(&["add", "resharded"]);
    let raw: u64 = shards.iter().map(|file| file.bytes).sum();
    let new = sum_in(&report, "files", "new_bytes");
    println!("{raw} bytes in renamed shards: {new} new");
    assert_eq!(payload(folder.path()).blocks - before.blocks, new, "expected the report to say what the store took");
    assert!(new * 100 < raw, "expected under 1% of {raw} bytes, got {new}: {report}");
    shard.ok(&["commit", "-m", "Sharded"]);
    let expected = digests(folder.path());
    shard.ok(&["checkout", "HEAD", "-o", "out"]);
    assert_eq!(digests(&folder.path().join("out")), expected);
}

/// Commits two versions of a file, and gives what the second took: all that it added to the packs, in bytes.
fn second_version(name: &str, versions: [&[u8]; 2]) -> u64 {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    shard.ok(&["init"]);
    let mut before = 0;
    for bytes in versions {
        before = payload(folder.path()).packs;
        fs::write(folder.path().join(name), bytes).unwrap();
        shard.ok(&["add", name]);
        shard.ok(&["commit", "-m", "A version"]);
    }
    payload(folder.path()).packs - before
}

#[test]
fn a_delta_of_a_pytorch_checkpoint_costs_what_its_tensors_cost_as_safetensors() {
    let place = |step: &str| data().join(format!("small/gpt-opt-pt/{step}.pt"));
    let steps = ["step0385", "step0420"].map(place);
    let [first, second] = steps.each_ref().map(|path| fs::read(path).unwrap());
    let as_pytorch = second_version("model.pt", [&first, &second]);
    let tensors = steps.each_ref().map(|path| read_any(path));
    assert!(tensors[1].len() == 25, "expected the 25 tensors of weights and optimizer");
    let [first, second] = tensors.each_ref().map(|tensors| write(tensors));
    let as_safetensors = second_version("model.safetensors", [&first, &second]);
    println!("second checkpoint: {as_pytorch} bytes as PyTorch's, {as_safetensors} as safetensors");
    assert!(as_pytorch * 100 <= as_safetensors * 102, "expected at most 2% more");
}

#[test]
fn a_tensor_is_stored_once_whatever_the_format() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    shard.ok(&["init"]);
    // The same model as safetensors and as ONNX, arrays as safetensors, as .npz and deflated, and weights as PyTorch's.
    let copy = |from: &str, to: &str| fs::copy(data().join("small").join(from), folder.path().join(to)).unwrap();
    copy("real-silero/silero_vad_16k-v6.2.3.safetensors", "a.safetensors");
    copy("cnn/epoch5.safetensors", "b.safetensors");
    fs::write(folder.path().join("c.safetensors"), write(&read_any(&data().join("small/gpt-opt-pt/step0420.pt"))))
        .unwrap();
    shard.ok(&["add", "-A"]);
    for (from, to, tensors) in [
        ("cnn-npz/epoch5.npz", "b.npz", 62),
        ("cnn-npz/epoch5-deflated.npz", "deflated.npz", 62),
        ("gpt-opt-pt/step0420.pt", "c.pt", 25),
    ] {
        let raw = copy(from, to);
        let report = shard.json(&["add", to]);
        let new = sum_in(&report, "files", "new_bytes");
        println!("{to}: {raw} bytes, {new} new");
        assert!(new * 50 < raw, "expected under 2% of {raw} bytes, got {new}: {report}");
        let twin = format!("{}.safetensors", if to == "c.pt" { "c" } else { "b" });
        let compared = shard.json(&["diff", &twin, to]);
        let counts = &compared["models"][0]["counts"];
        assert_eq!(counts["equal"], tensors, "expected every tensor of {to} in {twin}: {counts}");
    }
    // The short-time Fourier basis is in both releases, under other names.
    copy("real-silero/silero_vad-v6.2.0.onnx", "a.onnx");
    let names = shard.json(&["diff", "--names", "a.safetensors", "a.onnx"]);
    let names = names["models"][0]["names"].as_array().unwrap().clone();
    let basis = names.iter().find(|name| name["old"] == "stft_conv.weight").unwrap();
    assert_eq!(basis["equal"], true, "{basis}");
    assert!(names.iter().filter(|name| name["equal"] == false).count() > 4, "expected similar tensors too: {names:?}");
}

/// Deltas coarse to fine: both layers give every byte, and take at most 3% more than one.
#[test]
fn two_layers_take_hardly_more_than_one() {
    for (before, file) in [
        ("gpt-fp32/step0385", "gpt-fp32/step0420"),
        ("gpt-bf16/step0385", "gpt-bf16/step0420"),
        ("gpt-fp16/step0385", "gpt-fp16/step0420"),
        ("gpt-opt/step0385", "gpt-opt/step0420"),
        ("cnn/epoch4", "cnn/epoch5"),
        ("base-minilm/fp32", "finetune/fp32/step0150"),
        ("base-minilm/bf16", "finetune/bf16/step0150"),
        ("base-minilm/fp16", "finetune/fp16/step0150"),
        ("finetune/bf16/step0100", "finetune/bf16/step0150"),
        ("base-minilm/bf16", "finetune-purebf16/bf16/step0075"),
    ] {
        let folder = TempDir::new().unwrap();
        let shard = Shard::new(SHARD, folder.path());
        fs::create_dir(folder.path().join("in")).unwrap();
        for (name, to) in [(before, "in/0.safetensors"), (file, "in/1.safetensors")] {
            fs::copy(data().join("small").join(format!("{name}.safetensors")), folder.path().join(to)).unwrap();
        }
        let growth = |coarse: &[&str], archive: &str| {
            let args = [&["pack", "in/0.safetensors", "in/1.safetensors", "-o", archive], coarse].concat();
            let report = shard.json(&args);
            let out = format!("{archive}.out");
            shard.ok(&["unpack", archive, "-o", &out]);
            assert_eq!(digests(&folder.path().join(out).join("in")), digests(&folder.path().join("in")), "{file}");
            report["files"][1]["growth"].as_u64().unwrap()
        };
        let one = growth(&[], "one.shard");
        let mut all = Vec::new();
        for bits in ["1", "2", "3", "4", "6", "8"] {
            let two = growth(&["--coarse", bits], &format!("{bits}.shard"));
            assert!(two * 100 <= one * 103, "{file}, {bits} bits: {two} in two layers, {one} in one");
            all.push(format!("{bits}: {:+.1}%", two as f64 * 100.0 / one as f64 - 100.0));
        }
        println!("{file} after {before}: {one} bytes in one layer; in two with so many bits {}", all.join(", "));
    }
}

/// Two models that come from one: a fine-tune, which changed every tensor, and one with a LoRA merged in, which changed three.
#[test]
fn two_fine_tunes_of_one_base_merge() {
    let small = data().join("small");
    let bytes = |name: &str| fs::read(small.join(name)).unwrap();
    let (base, ours) = (bytes("base-minilm/bf16.safetensors"), bytes("finetune/bf16/step0150.safetensors"));
    let theirs = bytes("lora-merged/merged-bf16.safetensors");
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model.safetensors");
    let shard = Shard::new(SHARD, folder.path());
    let keep = |bytes: &[u8], title: &str| {
        fs::write(&model, bytes).unwrap();
        shard.ok(&["add", "model.safetensors"]);
        shard.ok(&["commit", "-m", title]);
    };
    shard.ok(&["init"]);
    keep(&base, "Base");
    shard.ok(&["branch", "lora"]);
    keep(&ours, "Fine-tune");
    shard.ok(&["checkout", "lora"]);
    keep(&theirs, "LoRA");
    shard.ok(&["checkout", "main"]);

    let tensors = [&base, &ours, &theirs].map(|file| read(file));
    let [before, a, b] = &tensors;
    let apart: Vec<&str> =
        (0..before.len()).filter(|at| b[*at] != before[*at]).map(|at| before[at].name.as_str()).collect();
    assert_eq!(apart.len(), 3, "{apart:?}");
    assert!(before.iter().zip(a).all(|(before, after)| before != after));
    let json = shard.run_json(&["merge", "lora"]).expect(exit::NO).json();
    let found = json["conflicts"][0]["tensors"].as_array().unwrap();
    let mut names: Vec<&str> = found.iter().map(|tensor| tensor["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, apart);
    for tensor in found {
        for side in ["ours", "theirs"] {
            let stats = &tensor[side]["stats"];
            assert!(stats["relative"].as_f64().is_some_and(|relative| relative > 0.0 && relative < 0.5), "{tensor}");
            assert!(stats["changed_share"].as_f64().is_some_and(|share| share > 0.0), "{tensor}");
        }
    }
    let report = shard.json(&["merge", "--continue", "--strategy", "task=1,0.5"]);
    assert_eq!(report["status"], "merged");
    let merged = fs::read(&model).unwrap();
    // The file is the fine-tune's, whose header says its step, but for the three tensors.
    let value = |word: &[u8]| half::bf16::from_le_bytes(word.try_into().unwrap()).to_f64();
    let mut changed = 0;
    for (at, tensor) in read(&merged).iter().enumerate() {
        if !apart.contains(&tensor.name.as_str()) {
            assert_eq!(tensor, &a[at], "expected what only one side changed from that side");
            continue;
        }
        changed += 1;
        let words = before[at].bytes.chunks(2).zip(a[at].bytes.chunks(2)).zip(b[at].bytes.chunks(2));
        let expected: Vec<u8> = words
            .flat_map(|((base, ours), theirs)| {
                let (base, ours, theirs) = (value(base), value(ours), value(theirs));
                half::bf16::from_f64((base + 1.0 * (ours - base)) + 0.5 * (theirs - base)).to_le_bytes()
            })
            .collect();
        assert!(tensor.bytes == expected, "{}: expected the sum, rounded once", tensor.name);
    }
    assert_eq!((changed, merged.len()), (3, ours.len()));
    let header = |file: &[u8]| file[..8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize].to_vec();
    assert_eq!(header(&merged), header(&ours));
    println!("merged tensors: {}", report["stored"]);
    let _ = shard.run(&["verify", "--full"]).expect(exit::DONE);
}
