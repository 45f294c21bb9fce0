//! Tensors that were computed from stored ones cost next to nothing, and those that only look as if they were, no more than they
//! would have cost. Over the recorded real checkpoints in `SHARD_DATA`, behind the feature `data-suite`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use shard_datasets::real::shard_data;
use shard_datasets::rng::Rng;
use shard_tests::process::Shard;
use shard_tests::rewrite::{Dtype, Tensor, read, write};
use shard_tests::tree::digests;
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

fn small(name: &str) -> Vec<u8> {
    let folder = shard_data().unwrap_or_else(|error| panic!("{error}"));
    let path = folder.join("small").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a series, in its order, under names that are in that order too.
struct Series {
    folder: TempDir,
    files: Vec<String>,
}

impl Series {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = TempDir::new().unwrap();
        let files = files.iter().enumerate().map(|(index, (name, bytes))| {
            let name = format!("{index}-{}", name.replace('/', "-"));
            fs::write(folder.path().join(&name), bytes).unwrap();
            name
        });
        let files = files.collect();
        Self { folder, files }
    }

    fn recorded(names: &[&str]) -> Self {
        let files: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (*name, small(name))).collect();
        Self::new(&files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect::<Vec<_>>())
    }

    /// What the last file makes an archive of them grow by, everything included, in bytes. The archive is unpacked and compared.
    fn growth(&self) -> u64 {
        let work = TempDir::new().unwrap();
        let (archive, out) = (work.path().join("x.shard"), work.path().join("out"));
        let shard = Shard::new(SHARD, self.folder.path());
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut args = vec!["pack"];
        args.extend(self.files.iter().map(String::as_str));
        let archive = text(&archive);
        args.extend(["-o", &archive]);
        let report = shard.json(&args);
        shard.ok(&["unpack", &archive, "-o", &text(&out)]);
        assert_eq!(digests(&out), digests(self.folder.path()), "expected every byte");
        report["files"].as_array().unwrap().last().unwrap()["growth"].as_u64().unwrap()
    }

    fn last_len(&self) -> u64 {
        fs::metadata(self.folder.path().join(self.files.last().unwrap())).unwrap().len()
    }
}

#[test]
fn what_was_computed_from_stored_files_costs_next_to_nothing() {
    // The files before it, the file, and the most that it may take: thousandths of its bytes.
    let cases: &[(&[&str], &str, u64)] = &[
        // Casts.
        (&["base-minilm/fp32.safetensors"], "base-minilm/bf16.safetensors", 10),
        (&["base-minilm/fp32.safetensors"], "base-minilm/fp16.safetensors", 10),
        (&["finetune/fp32/step0150.safetensors"], "finetune/bf16/step0150.safetensors", 10),
        (&["finetune/fp32/step0150.safetensors"], "finetune/fp16/step0150.safetensors", 10),
        (&["gpt-fp32/step0385.safetensors"], "gpt-bf16/step0385.safetensors", 10),
        (&["gpt-fp32/step0420.safetensors"], "gpt-bf16/step0420.safetensors", 10),
        (&["gpt-fp32/step0385.safetensors"], "gpt-fp16/step0385.safetensors", 10),
        (&["gpt-fp32/step0420.safetensors"], "gpt-fp16/step0420.safetensors", 10),
        // Quantised codes.
        (&["quantised/base-f16.gguf"], "quantised/base-q8_0.gguf", 30),
        (&["quantised/base-f16.gguf"], "quantised/base-q4_0.gguf", 30),
        (&["base-minilm/fp16.safetensors"], "quantised/base-int8pc.safetensors", 30),
        (&["finetune/fp16/step0150.safetensors"], "quantised/ft-int8pc.safetensors", 30),
        // The same, found by content: other names.
        (&["base-minilm/fp16.safetensors"], "quantised/base-q8_0.gguf", 30),
        (&["quantised/base-f16.gguf"], "quantised/base-int8pc.safetensors", 30),
        // Another version, quantised alike.
        (&["quantised/base-q4_0.gguf"], "quantised/ft-q4_0.gguf", 52),
        (&["quantised/base-q8_0.gguf"], "quantised/ft-q8_0.gguf", 87),
        (&["quantised/base-int8pc.safetensors"], "quantised/ft-int8pc.safetensors", 70),
        // A merged adapter that is stored.
        (
            &["base-minilm/fp32.safetensors", "lora-merged/adapter.safetensors"],
            "lora-merged/merged-fp32.safetensors",
            20,
        ),
        (
            &["base-minilm/bf16.safetensors", "lora-merged/adapter.safetensors"],
            "lora-merged/merged-bf16.safetensors",
            20,
        ),
        (
            &["base-minilm/fp16.safetensors", "lora-merged/adapter.safetensors"],
            "lora-merged/merged-fp16.safetensors",
            20,
        ),
    ];
    for (before, file, most) in cases {
        let names: Vec<&str> = before.iter().chain([file]).copied().collect();
        let series = Series::recorded(&names);
        let (growth, raw) = (series.growth(), series.last_len());
        println!("{file} after {before:?}: {growth} of {raw} bytes, {:.2}%", growth as f64 * 100.0 / raw as f64);
        assert!(
            growth * 1000 < raw * most,
            "{file} after {before:?}: expected under {most}/1000, got {growth} of {raw}"
        );
    }
}

#[test]
fn a_master_stands_in_for_the_copy_before() {
    for dtype in ["bf16", "fp16"] {
        let child = format!("finetune/{dtype}/step0150.safetensors");
        let copy = Series::recorded(&[&format!("base-minilm/{dtype}.safetensors"), &child]).growth();
        let master = Series::recorded(&["base-minilm/fp32.safetensors", &child]).growth();
        println!("{child}: {copy} bytes on the {dtype} copy, {master} on the fp32 master");
        assert!(master * 100 <= copy * 102, "{child}: expected at most 2% above {copy}, got {master}");
    }
}

/// A tensor's values.
fn values(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype {
        Dtype::F32 => tensor.bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
        Dtype::BF16 => tensor.bytes.as_chunks::<2>().0.iter().map(|word| bf16::from_le_bytes(*word).to_f32()).collect(),
        _ => panic!("{:?}", tensor.dtype),
    }
}

fn single(tensor: &Tensor, values: impl Iterator<Item = f32>) -> Tensor {
    Tensor { dtype: Dtype::F32, bytes: values.flat_map(f32::to_le_bytes).collect(), ..tensor.clone() }
}

#[test]
fn averages_of_stored_checkpoints_cost_next_to_nothing() {
    let files = ["gpt-fp32/step0385.safetensors", "gpt-fp32/step0420.safetensors", "ema/step0420-ema.safetensors"];
    let bytes = files.map(small);
    let models: Vec<Vec<Tensor>> = bytes.iter().map(|bytes| read(bytes)).collect();
    let merged = |merge: &dyn Fn([f32; 3]) -> f32| {
        let tensors: Vec<Tensor> = models[1]
            .iter()
            .map(|tensor| {
                let same = |model: &Vec<Tensor>| values(model.iter().find(|other| other.name == tensor.name).unwrap());
                let all: Vec<Vec<f32>> = models.iter().map(same).collect();
                single(tensor, (0..all[0].len()).map(|at| merge([all[0][at], all[1][at], all[2][at]])))
            })
            .collect();
        write(&tensors)
    };
    type Merge<'a> = &'a dyn Fn([f32; 3]) -> f32;
    let ways: [(&str, Merge<'_>); 5] = [
        // As numpy and torch compute a mean over a new axis.
        ("mean", &|[a, b, c]| (a + b + c) / 3.0),
        ("mean in binary64", &|[a, b, c]| ((f64::from(a) + f64::from(b) + f64::from(c)) / 3.0) as f32),
        ("soup", &|[a, b, c]| 0.2 * a + 0.3 * b + 0.5 * c),
        ("of two", &|[a, b, _]| 0.5 * a + 0.5 * b),
        ("task arithmetic", &|[a, b, c]| c + 0.4 * (b - a)),
    ];
    for (name, way) in ways {
        let average = merged(way);
        let mut series: Vec<(&str, &[u8])> =
            files.iter().zip(&bytes).map(|(name, bytes)| (*name, &bytes[..])).collect();
        series.push(("average.safetensors", &average));
        let growth = Series::new(&series).growth();
        println!("{name}: {growth} of {} bytes", average.len());
        assert!(growth * 20 < average.len() as u64, "{name}: expected under 5%, got {growth} of {}", average.len());
    }
}

/// A model without what it may have been computed from, and with it: the second may take a thousandth more.
fn costs_no_more(what: &str, without: &Series, with: &Series) {
    let (plain, derived) = (without.growth(), with.growth());
    println!("{what}: {plain} bytes, {derived} with what it looks computed from");
    assert!(derived * 1000 <= plain * 1001, "{what}: expected at most 0.1% above {plain}, got {derived}");
}

#[test]
fn what_only_looks_computed_costs_no_more() {
    let mut rng = Rng::new(20);
    let base = small("base-minilm/fp32.safetensors");
    let tensors = read(&base);
    let map = |make: &mut dyn FnMut(&Tensor) -> Tensor| write(&tensors.iter().map(make).collect::<Vec<_>>());

    // A cast of other weights, and one that rounds at random.
    let other = map(&mut |tensor| {
        let words = values(tensor).into_iter().map(|value| bf16::from_f32(value + rng.normal() as f32 * 0.05));
        Tensor { dtype: Dtype::BF16, bytes: words.flat_map(bf16::to_le_bytes).collect(), ..tensor.clone() }
    });
    let rounded = map(&mut |tensor| {
        let words = values(tensor).into_iter().map(|value| (value.to_bits() + (rng.below(1 << 16) as u32)) >> 16);
        Tensor {
            dtype: Dtype::BF16,
            bytes: words.flat_map(|word| (word as u16).to_le_bytes()).collect(),
            ..tensor.clone()
        }
    });
    for (what, cast) in [("a cast of other weights", &other), ("stochastic rounding", &rounded)] {
        let alone = Series::new(&[("x", cast)]);
        costs_no_more(what, &alone, &Series::new(&[("base", &base), ("x", cast)]));
    }

    // Codes by scales that nothing says, and of other weights.
    for (what, noise) in [("other scales", 0.0), ("codes of other weights", 0.05)] {
        let codes = map(&mut |tensor| {
            let columns = *tensor.shape.last().unwrap();
            let (scale, mut at) = (rng.normal().abs() as f32 * 0.0004 + 0.0004, 0);
            let code = |value: f32| {
                at += 1;
                let row_scale = scale * (1.0 + (at / columns % 13) as f32 * 0.1);
                (((value + rng.normal() as f32 * noise) / row_scale).floor().clamp(-128.0, 127.0) as i8).cast_unsigned()
            };
            let bytes = values(tensor).into_iter().map(code).collect();
            Tensor { dtype: Dtype::I8, bytes, ..tensor.clone() }
        });
        let alone = Series::new(&[("x", &codes)]);
        costs_no_more(what, &alone, &Series::new(&[("base", &base), ("x", &codes)]));
    }

    // A change of a rank that is not low: as a vector, nobody looks for one.
    let flat = |file: &[u8]| {
        let flat = |tensor: Tensor| Tensor { shape: vec![tensor.shape.iter().product()], ..tensor };
        write(&read(file).into_iter().map(flat).collect::<Vec<_>>())
    };
    let wide = map(&mut |tensor| {
        let &[rows, columns] = &tensor.shape[..] else { return tensor.clone() };
        let rank = rows.min(columns) / 2;
        let mut normals = |count: usize| (0..count).map(|_| rng.normal() as f32 * 0.01).collect::<Vec<_>>();
        let (left, right) = (normals(rows * rank), normals(rank * columns));
        let product = |at: usize| -> f32 {
            (0..rank).map(|k| left[at / columns * rank + k] * right[k * columns + at % columns]).sum()
        };
        single(tensor, values(tensor).into_iter().enumerate().map(|(at, value)| value + product(at)))
    });
    let plain = Series::new(&[("base", &flat(&base)), ("x", &flat(&wide))]);
    costs_no_more("a change of half the rank", &plain, &Series::new(&[("base", &base), ("x", &wide)]));

    // Moments of other weights, against the same tensors under names that say nothing.
    let (first, second) = (small("gpt-opt/step0385.safetensors"), small("gpt-opt/step0420.safetensors"));
    let shuffled = |file: &[u8], name: &dyn Fn(&str) -> String| {
        let mut tensors = read(file);
        for tensor in
            tensors.iter_mut().filter(|tensor| tensor.name.starts_with("optimizer.") && tensor.bytes.len() > 8192)
        {
            // The same words, a third of the tensor further on.
            let third = tensor.bytes.len() / 12 * 4;
            if tensor.name.contains("exp_avg.") {
                tensor.bytes.rotate_left(third);
            }
        }
        write(
            &tensors
                .into_iter()
                .map(|tensor| {
                    let name = name(&tensor.name);
                    tensor.named(name)
                })
                .collect::<Vec<_>>(),
        )
    };
    let plain_name = |name: &str| name.replace("exp_avg", "moment").replace("momentum", "m");
    let same_name = |name: &str| name.to_owned();
    let plain = Series::new(&[("a", &shuffled(&first, &plain_name)), ("b", &shuffled(&second, &plain_name))]);
    let named = Series::new(&[("a", &shuffled(&first, &same_name)), ("b", &shuffled(&second, &same_name))]);
    costs_no_more("moments of other weights", &plain, &named);

    // An average of which one is missing.
    let models: Vec<Vec<Tensor>> = [&first, &second].map(|file| read(file)).into();
    let average: Vec<Tensor> = models[1]
        .iter()
        .zip(&models[0])
        .map(|(now, before)| {
            let noise = values(before).into_iter().zip(values(now));
            single(now, noise.map(|(a, b)| (a + b + (b + rng.normal() as f32 * (b - a).abs())) / 3.0))
        })
        .map(|tensor| {
            let name = tensor.name.replace("exp_avg", "moment");
            tensor.named(name)
        })
        .collect();
    let renamed = |file: &[u8]| {
        write(
            &read(file)
                .into_iter()
                .map(|tensor| {
                    let name = tensor.name.replace("exp_avg", "moment");
                    tensor.named(name)
                })
                .collect::<Vec<_>>(),
        )
    };
    let average = write(&average);
    let plain = Series::new(&[("b", &renamed(&second)), ("x", &average)]);
    costs_no_more(
        "an average of which one is missing",
        &plain,
        &Series::new(&[("a", &renamed(&first)), ("b", &renamed(&second)), ("x", &average)]),
    );
}

#[test]
fn a_half_of_a_half_is_exact_too() {
    // fp16 of fp32 of fp16, special values among them, in a repository, added in the order of their names.
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let words: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let half = Tensor { name: "w".into(), dtype: Dtype::F16, shape: vec![256, 256], bytes: words };
    let wide = single(&half, half.bytes.as_chunks::<2>().0.iter().map(|word| f16::from_le_bytes(*word).to_f32()));
    let files: [(&str, &Tensor); 2] = [("a.safetensors", &half), ("b.safetensors", &wide)];
    for (name, tensor) in files {
        fs::write(folder.path().join(name), write(std::slice::from_ref(tensor))).unwrap();
    }
    let expected = digests(folder.path());
    shard.ok(&["init"]);
    shard.ok(&["add", "-A"]);
    shard.ok(&["commit", "-m", "Both"]);
    shard.ok(&["verify"]);
    let out: PathBuf = folder.path().join("out");
    shard.ok(&["checkout", "HEAD", "-o", out.to_str().unwrap()]);
    assert_eq!(digests(&out), expected);
}
