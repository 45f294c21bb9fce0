//! `show`, `diff`, `chunk`, `scan`, `verify`.

use std::fs;

use serde_json::Value;
use shard_datasets::cases::{Versions, every_change};
use shard_datasets::rng::Rng;
use shard_tests::odd_files::safetensors;
use shard_tests::zips::{npy, zip};

use crate::place::{Place, hex};

#[test]
fn show_revisions_files_and_archives() {
    let place = Place::with_history();
    let (first, second) = every_change(1).unwrap();
    let out = place.ok(&["show", "v1"]);
    assert!(out.contains("    First\n") && out.contains("added  model.safetensors"), "{out}");
    assert!(place.ok(&["show", "--tensors"]).contains("noisy.weight"));
    assert!(place.ok(&["show", "--storage"]).contains("notes.txt"));

    let out = place.ok(&["show", "HEAD:model.safetensors"]);
    assert!(out.contains("safetensors") && out.contains(&hex(&second)) && out.contains("noisy.weight"), "{out}");
    let json = place.json(&["show", "v1:model.safetensors"]);
    assert_eq!(json["sha256"], hex(&first).as_str());
    assert_eq!(json["size"], first.len());
    assert_eq!(json["record"]["step"], 100);
    let tensors = json["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 6);
    assert!(
        tensors
            .iter()
            .any(|t| t["name"] == "equal.i64" && t["dtype"] == "I64" && t["shape"] == serde_json::json!([50]))
    );
    assert_eq!(place.json(&["show", "HEAD:notes.txt"])["format"], "opaque");

    let json = place.json(&["show", "HEAD:model.safetensors", "--storage"]);
    let blocks = json["storage"]["blocks"].as_array().unwrap();
    assert!(blocks.iter().any(|block| block["base"].is_object() && block["depth"] == 1), "{json}");
    assert!(blocks.iter().all(|block| block["chain"].is_string() && block["stored"].as_u64() > Some(0)));
    assert!(place.ok(&["show", "HEAD:model.safetensors", "--storage"]).contains("total, each block once"));

    let manifest: Value = serde_json::from_str(&place.ok(&["show", "v1:model.safetensors", "--manifest"])).unwrap();
    assert_eq!((manifest["type"].as_str(), manifest["step"].as_u64()), (Some("model"), Some(100)));
    assert_eq!(manifest["sha256"], hex(&first).as_str());

    // A plain file, in a repository or not.
    let plain = Place::new();
    plain.write("x.safetensors", &first);
    let out = plain.ok(&["show", "./x.safetensors"]);
    assert!(out.contains(&hex(&first)) && out.contains("resized.weight"), "{out}");
    plain.ok(&["pack", "x.safetensors", "-o", "x.shard"]);
    assert!(plain.ok(&["show", "x.shard"]).contains(&hex(&first)));
    assert_eq!(plain.json(&["show", "x.shard", "--storage"])["files"][0]["path"], "x.safetensors");

    place.fails(&["show", "HEAD:model.safetensor"], 3, &["did you mean model.safetensors?"]);
    place.fails(&["show", "v2"], 3, &["v2", "did you mean v1?", "there is no file"]);
    place.fails(&["show", "--manifest"], 2, &["HEAD:model.safetensors"]);
    place.fails(&["show", "./model.safetensors", "--storage"], 2, &["--storage"]);
    plain.fails(&["show"], 3, &["not a shard repository", "shard init"]);
    plain.fails(&["show", "gone.safetensors"], 3, &["gone.safetensors"]);
}

#[test]
fn show_tells_what_values_are_like() {
    let place = Place::new();
    let values = [0.0f32, 1.0, -3.0, f32::NAN, 0.0, f32::INFINITY, 4.0, 0.0];
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    place.write("a.npz", &zip(&[("w.npy", &npy(&bytes), 6)]));
    place.ok(&["init"]);
    place.ok(&["add", "a.npz"]);
    place.ok(&["commit", "-m", "Values"]);
    // On the disk and stored, compressed in both.
    for object in ["./a.npz", "HEAD:a.npz"] {
        let json = place.json(&["show", object]);
        assert_eq!(json["format"], "npz");
        let found = &json["tensors"][0]["values"];
        for (name, expected) in [
            ("count", 8.0),
            ("zeros", 3.0),
            ("sparsity", 0.375),
            ("nan", 1.0),
            ("inf", 1.0),
            ("min", -3.0),
            ("max", 4.0),
        ] {
            assert_eq!(found[name].as_f64(), Some(expected), "{object}: {name}");
        }
        assert!((found["mean"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-15, "{found}");
        assert!((found["std"].as_f64().unwrap() - (26.0f64 / 6.0 - 1.0 / 9.0).sqrt()).abs() < 1e-15, "{found}");
        let text = place.ok(&["show", object]);
        assert!(text.contains("zeros") && text.contains("37.5%") && text.contains("0.333"), "{text}");
        assert!(place.json(&["show", object, "--no-values"])["tensors"][0].get("values").is_none());
    }
}

#[test]
fn diff_finds_tensors_under_other_names_in_other_formats() {
    let place = Place::new();
    let weights = |seed: u64, step: f64| -> Vec<u8> {
        let (mut start, mut moves) = (Rng::new(seed), Rng::new(seed + 100));
        (0..5000).flat_map(|_| ((0.02 * start.normal() + step * moves.normal()) as f32).to_le_bytes()).collect()
    };
    let (moved, other) = (weights(1, 0.0), weights(2, 0.0));
    place.write(
        "old.npz",
        &zip(&[("a.npy", &npy(&moved), 0), ("b.npy", &npy(&other), 6), ("gone.npy", &npy(&weights(3, 0.0)), 0)]),
    );
    let moved_on = weights(1, 1e-4);
    let data = [&moved_on[..], &other, &weights(4, 0.0)].concat();
    let entry = |from: usize| format!(r#"{{"dtype":"F32","shape":[5000],"data_offsets":[{from},{}]}}"#, from + 20_000);
    let header = format!(r#"{{"x.weight":{},"y.weight":{},"new":{}}}"#, entry(0), entry(20_000), entry(40_000));
    place.write("new.safetensors", &safetensors(&header, &data));

    let compared = &place.json(&["diff", "old.npz", "new.safetensors"])["models"][0];
    assert_eq!((&compared["counts"]["value"], &compared["counts"]["renamed"]), (&Value::from(1), &Value::from(1)));
    assert_eq!((&compared["counts"]["added"], &compared["counts"]["removed"]), (&Value::from(1), &Value::from(1)));
    let change = compared["tensors"].as_array().unwrap().iter().find(|tensor| tensor["state"] == "value").unwrap();
    assert_eq!((&change["old_name"], &change["name"]), (&Value::from("a"), &Value::from("x.weight")));
    assert!((change["stats"]["relative"].as_f64().unwrap() - 0.005).abs() < 5e-4, "{change}");

    let names = &place.json(&["diff", "--names", "old.npz", "new.safetensors"])["models"][0]["names"];
    let expected = serde_json::json!([
        {"old": "a", "new": "x.weight", "equal": false},
        {"old": "b", "new": "y.weight", "equal": true},
    ]);
    assert_eq!(*names, expected);
    let text = place.ok(&["diff", "--names", "old.npz", "new.safetensors"]);
    assert!(text.contains("similar content") && text.contains("y.weight"), "{text}");
}

#[test]
fn diff_accounts_for_every_tensor() {
    let place = Place::with_history();
    let (first, second) = every_change(1).unwrap();
    let summary = "7 tensors: 3 equal, 1 value, 1 shape, 1 added, 1 removed";
    for args in
        [&["diff", "v1", "HEAD"][..], &["diff", "v1"], &["diff", "v1:model.safetensors", "HEAD:model.safetensors"]]
    {
        let out = place.ok(args);
        assert!(out.contains(summary), "{args:?}: {out}");
        assert!(out.contains("noisy.weight") && !out.contains("equal.f32"), "{args:?}: {out}");
    }
    assert!(place.ok(&["diff", "v1", "HEAD", "--equal"]).contains("equal.f32"));
    assert!(!place.ok(&["diff", "v1", "HEAD", "--stat"]).contains("noisy.weight"));
    let by_layer = place.ok(&["diff", "v1", "HEAD", "--layers"]);
    assert!(by_layer.starts_with("v1:model -> HEAD:model\nresized: ") && by_layer.contains("\nlayer "), "{by_layer}");
    assert_eq!(place.ok(&["diff", "v1..HEAD"]), place.ok(&["diff", "v1", "HEAD"]));
    let json = place.json(&["diff", "v1", "HEAD", "--equal", "--sort", "change"]);
    let model = &json["models"][0];
    assert_eq!(model["counts"]["equal"], 3);
    assert_eq!(model["tensors"].as_array().unwrap().len(), 7);
    let noisy = model["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "noisy.weight").unwrap();
    assert!(noisy["stats"]["max_ulp"].as_u64() >= Some(1) && noisy["stats"]["changed_share"].as_f64() > Some(0.3));

    assert_eq!(place.ok(&["diff"]), "no differences\n");
    assert_eq!(place.run(&["diff", "--exit-code"]).code, 0);
    assert_eq!(place.run(&["diff", "v1", "--exit-code"]).code, 1);
    // The work tree and files on disk.
    place.write("model.safetensors", &first);
    place.write("notes.txt", b"changed");
    let out = place.ok(&["diff"]);
    assert!(out.contains("HEAD:model -> work tree:model") && out.contains("files without tensors"), "{out}");
    assert!(out.contains("notes.txt") && out.contains("7 tensors"), "{out}");
    assert!(place.ok(&["diff", "model.safetensors"]).contains("7 tensors: 3 equal"));
    let same = place.ok(&["diff", "v1", "model.safetensors"]);
    assert!(same.contains("the files are identical"), "{same}");
    let outside = Place::new();
    let (a, b) = (outside.write("a.safetensors", &first), outside.write("b/c.safetensors", &second));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    assert!(outside.ok(&["diff", a, b]).contains(summary));
    assert!(outside.ok(&["diff", "a.safetensors", "b"]).contains(summary), "a folder of shards");
    assert_eq!(outside.run(&["diff", a, a, "--exit-code"]).code, 0);
    assert_eq!(outside.run(&["diff", a, b, "--exit-code"]).code, 1);
    outside.fails(&["diff", a, "nothing"], 3, &["nothing"]);
    outside.fails(&["diff"], 3, &["not a shard repository"]);
    place.fails(&["diff", "v1", "mian"], 3, &["mian", "did you mean main?"]);
}

#[test]
fn of_many_changes_there_is_a_picture_and_tables_where_they_are_asked_for() {
    let place = Place::new();
    let mut versions = Versions::new(3, 60, 8, 32, 0.5);
    place.write("a.safetensors", &versions.next().unwrap().unwrap());
    place.write("b.safetensors", &versions.next().unwrap().unwrap());
    let out = place.ok(&["diff", "a.safetensors", "b.safetensors"]);
    assert!(!out.contains("\ntensor ") && out.contains("60 tensors: 60 value"), "{out}");
    assert!(out.contains("block.59") && out.contains("relative change  "), "{out}");
    let out = place.ok(&["diff", "a.safetensors", "b.safetensors", "--layers"]);
    assert!(out.contains("\nlayer ") && out.contains("block.59"), "{out}");
    let out = place.ok(&["diff", "a.safetensors", "b.safetensors", "--tensors"]);
    assert!(out.contains("\ntensor ") && out.contains("block.59.weight"), "{out}");
}

#[test]
fn chunk_tells_what_is_known() {
    let place = Place::with_history();
    let (first, _) = every_change(1).unwrap();
    let out = place.ok(&["chunk", "model.safetensors"]);
    assert!(out.contains("noisy.weight") && out.contains("known"), "{out}");
    let json = place.json(&["chunk", "model.safetensors"]);
    let total = &json["total"];
    assert_eq!(total["new"]["blocks"], 0, "{total}");
    assert_eq!(json["blocks"].as_array().unwrap().len() as u64, total["blocks"].as_u64().unwrap());
    assert!(!place.ok(&["chunk", "model.safetensors", "--summary"]).contains("noisy.weight"));
    assert!(place.json(&["chunk", "--summary", "model.safetensors"])["blocks"].is_null());
    let plain = Place::new();
    plain.write("x.safetensors", &first);
    assert!(plain.ok(&["chunk", "x.safetensors"]).contains("no repository here"));
    plain.fails(&["chunk", "none"], 3, &["none"]);
}

#[test]
fn fault_33_scan_tells_what_a_pickle_would_do() {
    let place = Place::new();
    let attack = b"cos\nsystem\n(S'touch run'\ntR.";
    place.write("usual.pkl", b"\x80\x02ccollections\nOrderedDict\n)R.");
    place.write("attack.bin", attack);
    place.write("broken.pkl", b"\x80\x02ccollections\nOrderedDict\n)R");
    place.write("words.txt", b"cat\ndog\n");
    let out = place.ok(&["scan", "usual.pkl", "words.txt"]);
    assert!(out.contains("collections OrderedDict  called  usual"), "{out}");
    assert!(out.ends_with("2 files: 1 pickle, 1 class or function, 0 unusual\n"), "{out}");
    let json = place.json(&["scan", "usual.pkl"]);
    assert_eq!((&json["total"]["unusual"], &json["files"][0]["path"]), (&0.into(), &"usual.pkl".into()));

    let run = place.run(&["scan", "usual.pkl", "attack.bin"]);
    assert_eq!((run.code, run.err.as_str()), (1, ""));
    assert!(run.out.contains("os system") && run.out.contains("called  unusual"), "{}", run.out);
    for word in ["safe", "clean", "harmless"] {
        assert!(!run.out.contains(word) && !out.contains(word), "a scan cannot say that");
    }
    let run = place.run(&["scan", "--json", "attack.bin"]);
    let json: Value = serde_json::from_str(&run.out).unwrap();
    let global = &json["files"][0]["globals"][0];
    assert_eq!((run.code, &global["opcode"], &global["calls"]), (1, &"GLOBAL".into(), &1.into()));
    assert!(!place.path().join("run").exists(), "nothing is executed");

    let run = place.run(&["scan", "broken.pkl"]);
    assert_eq!(run.code, 1);
    assert!(run.out.contains("note: broken.pkl: the pickle at byte 0 breaks off"), "{}", run.out);
    place.fails(&["scan", "none"], 3, &["none"]);
    let run = place.run(&["scan", "none", "broken.pkl"]);
    assert_eq!(run.code, 3);
    assert!(run.out.contains("broken.pkl"), "what can be read is told all the same: {}", run.out);
    assert_eq!(place.run(&["scan"]).code, 2);
}

#[test]
fn verify_tells_good_from_bad() {
    let place = Place::with_history();
    assert!(place.ok(&["verify"]).starts_with("all is well: "));
    let json = place.json(&["verify", "--full"]);
    assert_eq!((json["ok"].as_bool(), json["commits"].as_u64()), (Some(true), Some(2)));
    assert!(json["entries"].as_u64() > Some(5));
    place.ok(&["pack", "model.safetensors", "-o", "good.shard"]);
    assert!(place.ok(&["verify", "good.shard"]).contains("1 file"));

    let largest = fs::read_dir(place.path().join(".shard/packs")).unwrap();
    let largest = largest.map(|entry| entry.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::remove_file(&largest).unwrap();
    fs::write(&largest, bytes).unwrap();
    let run = place.run(&["verify", "--full"]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("problem: ") && run.out.contains("next: "), "{}", run.out);
    let run = place.run(&["verify", "--full", "--json"]);
    let json: Value = serde_json::from_str(&run.out).unwrap();
    assert!(run.code == 1 && json["ok"] == false && !json["problems"].as_array().unwrap().is_empty());
    let restored = place.run(&["checkout", "v1", "-o", "again"]);
    if restored.code != 0 {
        assert_eq!(restored.code, 5, "{}", restored.err);
        assert!(restored.err.contains("shard verify --full"), "{}", restored.err);
    }
}

#[test]
fn names_in_files_cannot_steer_the_terminal() {
    let place = Place::new();
    let header = r#"{"\u001b[2Jevil\n":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[1, 2]].concat();
    place.write("evil.safetensors", &bytes);
    let out = place.ok(&["show", "./evil.safetensors"]);
    assert!(out.contains("\\u{1b}[2Jevil\\n") && !out.contains('\u{1b}'), "{out}");
    assert_eq!(place.json(&["show", "./evil.safetensors"])["tensors"][0]["name"], "\u{1b}[2Jevil\n");
}

#[test]
fn a_path_or_tensor_that_nothing_has_is_told() {
    let place = Place::with_history();
    for args in [
        &["log", "HEAD", "nots.txt"][..],
        &["log", "nots.txt"],
        &["log", "--graph", "HEAD", "nots.txt"],
        &["log", "--tensor", "nope*"],
        &["diff", "HEAD~1", "HEAD", "--", "nots.txt"],
        &["diff", "--", "nots.txt"],
    ] {
        let expected = if args.contains(&"nope*") { "nope*" } else { "nots.txt" };
        place.fails(args, 3, &[expected]);
    }
    place.fails(&["log", "HEAD", "model.safetensors", "--tensor", "nope*"], 3, &["nope*", "model.safetensors"]);
    place.ok(&["log", "HEAD", "notes.txt"]);
    // What is the same on both sides is there.
    place.ok(&["diff", "HEAD~1", "HEAD", "--", "notes.txt"]);
    fs::create_dir(place.path().join("sub")).unwrap();
    place.fails(&["-C", "sub", "diff", "HEAD~1", "HEAD", "--", "model.safetensors"], 3, &["sub/model.safetensors"]);
    place.ok(&["-C", "sub", "diff", "HEAD~1", "HEAD", "--", "../model.safetensors"]);
}
