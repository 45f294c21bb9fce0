//! `checkout`, `pack`, `unpack`, `reindex`, `demo`.

use std::fs;

use half::bf16;
use serde_json::Value;
use shard_datasets::cases::every_change;
use shard_datasets::synth::{Walk, WalkOptions};
use shard_tests::rewrite::{Dtype, Tensor, read};

use crate::place::{Place, hex, model};

#[test]
fn checkout_of_single_tensors() {
    let place = Place::new();
    place.ok(&["init"]);
    let (one, two): (Vec<f32>, Vec<f32>) =
        ((0..50).map(|i| i as f32).collect(), (0..50).map(|i| -(i as f32)).collect());
    let file = |head: &[f32], layer: &[f32]| model(&[("head", head), ("layer.0", layer), ("layer.1", layer)]);
    place.write("a.safetensors", &file(&one, &one));
    place.write("b/b.safetensors", &file(&one, &one));
    place.write("notes.txt", b"n");
    place.ok(&["add", "."]);
    place.ok(&["commit", "-m", "First", "--name", "v1"]);
    for path in ["a.safetensors", "b/b.safetensors"] {
        place.write(path, &file(&two, &two));
    }
    place.ok(&["add", "."]);
    place.ok(&["commit", "-m", "Second"]);
    let out = place.ok(&["checkout", "v1", "a.safetensors", "--tensor", "layer.*"]);
    assert!(out.contains("a.safetensors: 2 tensors"), "{out}");
    assert_eq!(place.read("a.safetensors"), file(&two, &one));
    assert_eq!(place.read("b/b.safetensors"), file(&two, &two));
    assert_eq!(place.ok(&["status", "-s"]), " M a.safetensors\n");
    let json = place.json(&["checkout", "v1", "--tensor", "head"]);
    assert_eq!(json["files"].as_array().unwrap().len(), 2);
    assert_eq!((place.read("a.safetensors"), place.read("b/b.safetensors")), (file(&one, &one), file(&one, &two)));

    // Where it does not fit nothing is touched, not even the files where it would.
    let other = model(&[("head", &one[..9]), ("layer.0", &two)]);
    place.write("b/b.safetensors", &other);
    place.fails(&["checkout", "main", "--tensor", "head"], 2, &["b.safetensors", "another type or shape"]);
    place.fails(&["checkout", "main", "--tensor", "layer.1"], 2, &["has no tensor"]);
    assert_eq!((place.read("a.safetensors"), place.read("b/b.safetensors")), (file(&one, &one), other));
    place.fails(&["checkout", "main", "--tensor", "x*"], 3, &["no tensor of main"]);
    place.fails(&["checkout", "main", "--tensor", "["], 2, &["no pattern"]);
    place.fails(&["checkout", "nowhere", "--tensor", "*"], 3, &["nowhere"]);
    assert_eq!(place.run(&["checkout", "--tensor", "*"]).code, 2);
}

#[cfg(unix)]
#[test]
fn fault_29_tensors_are_not_written_through_a_linked_folder() {
    let (place, outside) = (Place::new(), Place::new());
    place.ok(&["init"]);
    let (one, two) = (model(&[("a", &[1.0; 50])]), model(&[("a", &[2.0; 50])]));
    place.write("m/a.safetensors", &one);
    place.ok(&["add", "."]);
    place.ok(&["commit", "-m", "First"]);
    outside.write("a.safetensors", &two);
    fs::remove_dir_all(place.path().join("m")).unwrap();
    std::os::unix::fs::symlink(outside.path(), place.path().join("m")).unwrap();
    place.fails(&["checkout", "HEAD", "--tensor", "*"], 4, &["m: is in the way"]);
    assert_eq!(outside.read("a.safetensors"), two);
    place.fails(&["checkout", "HEAD", "m"], 4, &["m: is in the way"]);
    assert_eq!(outside.read("a.safetensors"), two);
}

/// What a run read, in bytes, whether from the disk or from memory.
#[cfg(target_os = "linux")]
fn bytes_read(place: &Place, args: &[&str]) -> u64 {
    let mut child = place.command(args).stdout(std::process::Stdio::null()).spawn().unwrap();
    let proc = format!("/proc/{}", child.id());
    // Its counters are there until it is waited for.
    while !fs::read_to_string(format!("{proc}/stat")).unwrap().contains(") Z ") {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let counters = fs::read_to_string(format!("{proc}/io")).unwrap();
    assert!(child.wait().unwrap().success());
    counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn status_reads_what_changed_and_nothing_else() {
    const LEN: usize = 16 << 20;
    let place = Place::new();
    place.ok(&["init"]);
    place.write("large.bin", &vec![7; LEN]);
    place.write("other.bin", &vec![8; LEN]);
    // What was written just before it is looked at would be looked at once more.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert!(bytes_read(&place, &["add", "."]) >= 2 * LEN as u64);
    assert!(bytes_read(&place, &["status", "-s"]) < (LEN / 4) as u64);
    // Same length, other bytes, and its time set back to what it was.
    let path = place.path().join("large.bin");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    place.write("large.bin", &vec![9; LEN]);
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    let read = bytes_read(&place, &["status", "-s"]);
    assert!((LEN as u64..2 * LEN as u64).contains(&read), "{read}");
    assert_eq!(place.ok(&["status", "-s"]), "AM large.bin\nA  other.bin\n");
}

#[test]
fn checkout_switches_takes_and_exports() {
    let place = Place::with_history();
    let (first, second) = every_change(1).unwrap();
    let out = place.ok(&["checkout", "v1"]);
    assert!(out.starts_with("At commit ") && out.contains("1 file written"), "{out}");
    assert_eq!(place.read("model.safetensors"), first);
    assert!(place.ok(&["status", "-sb"]).starts_with("## HEAD (detached at "));
    assert_eq!(place.json(&["checkout", "main"])["branch"], "main");
    assert_eq!(place.read("model.safetensors"), second);

    place.write("model.safetensors", b"work of hours");
    place.fails(&["checkout", "v1"], 4, &["would be lost", "model.safetensors", "shard commit", "--force"]);
    assert_eq!(place.read("model.safetensors"), b"work of hours");
    place.ok(&["checkout", "v1", "--force"]);
    assert_eq!(place.read("model.safetensors"), first);
    place.ok(&["checkout", "-q", "main"]);

    place.ok(&["checkout", "v1", "model.safetensors"]);
    assert_eq!(place.read("model.safetensors"), first);
    assert_eq!(place.ok(&["status", "-s"]), "M  model.safetensors\n");
    place.ok(&["checkout", "HEAD", "--", "model.safetensors"]);
    assert_eq!(place.read("model.safetensors"), second);

    let json = place.json(&["checkout", "v1", "-o", "out"]);
    assert_eq!(json["written"].as_array().unwrap().len(), 2);
    assert_eq!(place.read("out/model.safetensors"), first);
    place.fails(&["checkout", "v1", "-o", "out"], 4, &["would be overwritten", "model.safetensors", "empty folder"]);
    place.ok(&["checkout", "HEAD", "model.safetensors", "-o", "out", "--force"]);
    assert_eq!(place.read("out/model.safetensors"), second);
    for own in [".shard", ".shard/packs", "no/../.shard/x"] {
        place.fails(
            &["checkout", "v1", "-o", own],
            2,
            &["inside the repository's own folder", "`shard help checkout`"],
        );
    }
    place.fails(&["checkout", "v1", "model"], 3, &["model"]);
    place.fails(&["checkout", "v9"], 3, &["v9"]);
    // Paths are relative to where the user is.
    place.write("sub/deep.bin", b"deep");
    place.ok(&["add", "sub"]);
    place.ok(&["commit", "-m", "sub"]);
    fs::remove_file(place.path().join("sub/deep.bin")).unwrap();
    place.ok(&["-C", "sub", "checkout", "HEAD", "deep.bin"]);
    assert_eq!(place.read("sub/deep.bin"), b"deep");
}

#[test]
fn pack_and_unpack_without_a_repository() {
    let place = Place::new();
    let (first, second) = every_change(1).unwrap();
    place.write("step1.safetensors", &first);
    place.write("step2.safetensors", &second);
    let out = place.ok(&["pack", "step1.safetensors", "step2.safetensors", "-o", "run.shard"]);
    assert!(out.contains("step2.safetensors") && out.contains("total") && out.ends_with("run.shard made\n"), "{out}");
    place.fails(&["pack", "step1.safetensors", "-o", "run.shard"], 4, &["run.shard", "--force"]);
    let json = place.json(&["pack", "step1.safetensors", "step2.safetensors", "-o", "run.shard", "--force"]);
    assert_eq!(json["total"]["stored"], fs::metadata(place.path().join("run.shard")).unwrap().len());
    assert!(json["files"][1]["deltas"].as_u64() > Some(0), "{json}");

    let list = place.ok(&["unpack", "run.shard", "--list"]);
    assert!(list.contains(&hex(&first)) && list.contains("step2.safetensors"), "{list}");
    let out = place.ok(&["unpack", "run.shard", "-o", "back"]);
    assert!(out.starts_with("2 files restored"), "{out}");
    assert_eq!((place.read("back/step1.safetensors"), place.read("back/step2.safetensors")), (first, second));
    place.fails(&["unpack", "run.shard", "-o", "back"], 4, &["would be overwritten", "step1.safetensors", "--force"]);
    place.ok(&["unpack", "run.shard", "-o", "back", "--force"]);
    assert_eq!(place.json(&["unpack", "run.shard", "-o", "twice"])["written"].as_array().unwrap().len(), 2);

    place.write("bad.shard", b"this is no archive at all, whatever its name says");
    for args in [&["unpack", "bad.shard", "-o", "x"][..], &["verify", "bad.shard"], &["show", "bad.shard"]] {
        place.fails(args, 5, &["bad.shard", "copy it again"]);
    }
    let pipe = shard_tests::disk::fifo(&place.path().join("pipe")).map(|_| "pipe");
    for other in pipe.into_iter().chain(["."]) {
        for command in ["unpack", "verify"] {
            place.fails(&[command, other], 2, &["is no archive"]);
        }
    }
    let whole = place.read("run.shard");
    place.write("cut.shard", &whole[..whole.len() - 10]);
    place.fails(&["unpack", "cut.shard", "-o", "x"], 5, &["cut.shard"]);
    place.fails(&["unpack", "none.shard"], 3, &["none.shard"]);
    place.fails(&["pack", "none.bin", "-o", "n.shard"], 3, &["none.bin"]);
    assert!(!place.path().join("n.shard").exists());
}

/// A place with eight checkpoints of a series, and their names.
fn series() -> (Place, Vec<String>) {
    let place = Place::new();
    let mut walk = Walk::new(WalkOptions::pre_training(512 << 10, 8)).unwrap();
    let names: Vec<String> = (0..8).map(|number| format!("step{number}.safetensors")).collect();
    for name in &names {
        walk.write_next(&place.path().join(name)).unwrap();
    }
    (place, names)
}

#[test]
fn a_dry_run_plans_an_archive_and_writes_nothing() {
    let (place, names) = series();
    let with = |more: &[&'static str]| {
        let mut args = vec!["pack"];
        args.extend(names.iter().map(String::as_str));
        args.extend(more);
        args
    };
    let before = fs::read_dir(place.path()).unwrap().count();
    let args = with(&["--dry-run"]);
    let out = place.ok(&args);
    for said in ["leans on", "--depth", "slowest restore", "this plan", "default", "nothing was written"] {
        assert!(out.contains(said), "{said:?} in {out}");
    }
    assert!(
        out.lines().any(|line| line.starts_with("step1.safetensors") && line.contains("step0.safetensors")),
        "{out}"
    );
    let args = with(&["-n", "--depth", "1", "-o", "planned.shard"]);
    let json = place.json(&args);
    assert_eq!((&json["dry_run"], json["files"].as_array().unwrap().len()), (&true.into(), 8));
    assert!(json["files"].as_array().unwrap().iter().all(|file| file["depth"].as_u64() <= Some(1)), "{json}");
    assert_eq!((&json["files"][7]["base"], &json["files"][0]["base"]), (&"step0.safetensors".into(), &Value::Null));
    let depths: Vec<Option<u64>> =
        json["chains"].as_array().unwrap().iter().map(|chains| chains["depth"].as_u64()).collect();
    assert_eq!(depths, [Some(0), Some(1), Some(2), Some(4), Some(8), None]);
    assert_eq!((&json["chains"][1]["chosen"], &json["chains"][5]["chosen"]), (&true.into(), &false.into()));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), before, "nothing is written");

    let args = with(&["--depth", "1", "-o", "shallow.shard"]);
    let made = place.json(&args);
    let (planned, packed) = (json["total"]["stored"].as_f64().unwrap(), made["total"]["stored"].as_f64().unwrap());
    assert!((planned / packed - 1.0).abs() < 0.1, "planned {planned}, packed {packed}");
    place.ok(&["verify", "shallow.shard"]);
    let storage = place.json(&["show", "shallow.shard", "--storage"]);
    let depths = numbers(&storage, "depth");
    assert_eq!(depths.iter().max(), Some(&1), "{storage}");
    place.ok(&["unpack", "shallow.shard", "-o", "back"]);
    for name in &names {
        assert_eq!(place.read(&format!("back/{name}")), place.read(name), "{name}");
    }
}

/// All numbers of that name, at any depth.
fn numbers(value: &Value, name: &str) -> Vec<u64> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| numbers(item, name)).collect(),
        Value::Object(members) => {
            let of = |(key, member): (&String, &Value)| match member.as_u64() {
                Some(number) if key == name => vec![number],
                _ => numbers(member, name),
            };
            members.iter().flat_map(of).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn depths_that_no_reader_follows_are_refused() {
    let (place, _) = series();
    for depth in ["9", "-1", "deep"] {
        let depth = format!("--depth={depth}");
        let run = place.run(&["pack", "step0.safetensors", "-o", "x.shard", &depth]);
        assert!(run.code == 2 && run.err.contains("--depth"), "{depth}: {}", run.err);
    }
    let run = place.run(&["pack", "step0.safetensors"]);
    assert!(run.code == 2 && run.err.contains("--output"), "{}", run.err);
    place.fails(&["pack", "none.safetensors", "--dry-run"], 3, &["none.safetensors"]);
    assert!(!place.path().join("x.shard").exists());
}

#[test]
fn reindex_builds_what_was_deleted() {
    let place = Place::with_history();
    fs::remove_dir_all(place.path().join(".shard/cache")).unwrap();
    fs::create_dir(place.path().join(".shard/cache")).unwrap();
    assert!(place.ok(&["reindex"]).starts_with("indexed "));
    assert!(place.json(&["reindex"])["packs"].as_u64() > Some(0));
    assert_eq!(place.ok(&["log", "--oneline"]).lines().count(), 2);
    place.ok(&["verify", "--full"]);
}

#[cfg(feature = "demo")]
#[test]
fn the_demo_proves_that_everything_comes_back() {
    let place = Place::new();
    let json = place.json(&["demo", "--quick", "--dir", "demo"]);
    assert_eq!(json["exact"], true);
    let restored = json["restored"].as_array().unwrap();
    assert_eq!(restored.len(), 6);
    assert!(restored.iter().all(|file| file["equal"] == true && file["found"] == file["expected"]), "{json}");
    for total in json["totals"].as_array().unwrap() {
        let of = |codec: &str| total[codec]["stored"].as_u64().unwrap();
        assert!(of("shard") < of("zstd") && of("shard") < total["zstd"]["raw"].as_u64().unwrap(), "{total}");
    }
    assert!(place.ok(&["-C", "demo/repository", "log", "--oneline"]).contains("step 200: loss"));
    place.ok(&["-C", "demo/repository", "verify", "--full"]);
    place.fails(&["demo", "--quick", "--dir", "demo"], 4, &["is not empty"]);
    let out = place.ok(&["demo", "--quick"]);
    for text in ["million weights", "zstd -3", "BitX", "equals the original", "6 files restored", "tensors: "] {
        assert!(out.contains(text), "{text}: {out}");
    }
}

/// The values of a tensor of bf16 or F32, exactly.
fn values(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype {
        Dtype::BF16 => tensor.bytes.as_chunks().0.iter().map(|word| bf16::from_le_bytes(*word).to_f64()).collect(),
        Dtype::F32 => tensor.bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word).into()).collect(),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn first_layers_give_a_file_about_and_say_how_far_it_is_off() {
    let (plain, names) = series();
    let place = Place::new();
    for place in [&place, &plain] {
        place.ok(&["init"]);
        place.write("model.safetensors", &plain.read(&names[0]));
        place.ok(&["add", "model.safetensors"]);
        place.ok(&["commit", "-m", "first"]);
        place.write("model.safetensors", &plain.read(&names[1]));
    }
    let stored = |report: &Value| numbers(report, "new_bytes").into_iter().max().unwrap();
    let one = stored(&plain.json(&["add", "model.safetensors"]));
    let two = stored(&place.json(&["add", "model.safetensors", "--coarse", "3"]));
    assert!(two * 100 <= one * 103 && two != one, "{two} in two layers, {one} in one");
    place.ok(&["commit", "-m", "second"]);

    place.ok(&["checkout", "HEAD", "-o", "exact"]);
    let exact = place.read("exact/model.safetensors");
    assert_eq!(exact, plain.read(&names[1]), "both layers give every byte");
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);

    let outside = tempfile::TempDir::new().unwrap();
    let (near, first) = (outside.path().join("near"), outside.path().join("first"));
    let (near_text, first_text) = (near.to_str().unwrap(), first.to_str().unwrap());
    let read_file = |path: &std::path::Path| fs::read(path).unwrap();
    let out = place.ok(&["checkout", "HEAD", "--approx", "-o", near_text]);
    assert!(out.contains("APPROXIMATE") && out.contains("model.safetensors.approx.json"), "{out}");
    let coarse = read_file(&near.join("model.safetensors"));
    let mark: Value = serde_json::from_slice(&read_file(&near.join("model.safetensors.approx.json"))).unwrap();
    assert_eq!((&mark["sha256"], &mark["approximation_of"]), (&hex(&coarse).into(), &hex(&exact).into()));
    assert_ne!(coarse, exact);
    let mut off = 0;
    for (near, exact) in read(&coarse).iter().zip(&read(&exact)) {
        let errors: Vec<f64> = values(near).iter().zip(values(exact)).map(|(a, b)| (a - b).abs()).collect();
        let max = errors.iter().copied().fold(0.0, f64::max);
        let said = &mark["tensors"][&exact.name];
        if max == 0.0 {
            assert!(said.is_null(), "{}: {said}", exact.name);
            continue;
        }
        off += 1;
        let rms = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
        let is_said = |name: &str, found: f64| (said[name].as_f64().unwrap() / found - 1.0).abs() < 1e-6;
        assert!(is_said("max_error", max) && is_said("rms_error", rms), "{}: {max}, {rms}, {said}", exact.name);
    }
    assert!(off > 3 && mark["tensors"].as_object().unwrap().len() == off, "{off} tensors are off: {mark}");

    // What was added without layers is exact, and has no mark.
    let json = place.json(&["checkout", "HEAD~1", "model.safetensors", "--approx", "-o", first_text]);
    assert_eq!(json["written"][0]["exact"], true, "{json}");
    assert_eq!(read_file(&first.join("model.safetensors")), plain.read(&names[0]));
    assert!(!first.join("model.safetensors.approx.json").exists());
    let json = place.json(&["checkout", "HEAD", "--approx", "-o", near_text, "--force"]);
    let file = &json["written"][0];
    assert!(file["needed_bytes"].as_u64().unwrap() * 10 < file["stored_bytes"].as_u64().unwrap() * 9, "{json}");

    place.fails(&["checkout", "HEAD", "--approx", "-o", near_text], 4, &["model.safetensors.approx.json", "--force"]);
    // Nothing of it gets where it would be committed for the model, and a mark is never another file.
    for folder in [".", "near", ".shard/x"] {
        place.fails(&["checkout", "HEAD", "--approx", "-f", "-o", folder], 4, &["own folders", "outside"]);
        assert!(!place.path().join("near").exists());
    }
    assert_eq!(place.read("model.safetensors"), exact);
    // What is exact has no mark, whatever lay there before.
    place.ok(&["checkout", "HEAD~1", "--approx", "-f", "-o", near_text]);
    assert!(!near.join("model.safetensors.approx.json").exists());
    place.write("model.safetensors.approx.json", b"mine");
    place.ok(&["add", "-A"]);
    place.ok(&["commit", "-m", "a file of the mark's name"]);
    place.fails(&["checkout", "HEAD", "--approx", "-f", "-o", near_text], 4, &["model.safetensors.approx.json"]);
    for wrong in [&["checkout", "HEAD", "--approx"][..], &["add", "model.safetensors", "--coarse", "9"]] {
        assert_eq!(place.run(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn what_is_in_the_way_of_a_checkout_is_told_and_stays() {
    let place = Place::with_history();
    place.write("d", b"a file");
    place.ok(&["add", "d"]);
    place.ok(&["commit", "-m", "A file"]);
    fs::remove_file(place.path().join("d")).unwrap();
    place.write("d/mine", b"mine");
    place.fails(&["checkout", "--force", "main"], 4, &["d: is in the way: a file is needed here", "move it away"]);
    assert_eq!(place.read("d/mine"), b"mine");
}
