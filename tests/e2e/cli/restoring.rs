//! `checkout`, `pack`, `unpack`, `reindex`, `demo`.

use std::fs;

use shard_datasets::cases::every_change;

use crate::place::{Place, hex};

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
    let whole = place.read("run.shard");
    place.write("cut.shard", &whole[..whole.len() - 10]);
    place.fails(&["unpack", "cut.shard", "-o", "x"], 5, &["cut.shard"]);
    place.fails(&["unpack", "none.shard"], 3, &["none.shard"]);
    place.fails(&["pack", "none.bin", "-o", "n.shard"], 3, &["none.bin"]);
    assert!(!place.path().join("n.shard").exists());
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
