//! `init`, `add`, `commit`, `status`, `log`.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use shard_datasets::cases::every_change;

use crate::place::Place;

#[test]
fn init_makes_a_repository_once() {
    let place = Place::new();
    place.write("old.txt", b"was here before");
    let out = place.ok(&["init"]);
    assert!(out.starts_with("Made an empty shard repository in ") && out.contains(".shard"), "{out}");
    place.fails(&["init"], 4, &["there is a shard repository here already", "shard status"]);
    let json = place.json(&["init", "deep/er", "-b", "trunk"]);
    assert_eq!(json["branch"], "trunk");
    assert!(place.path().join("deep/er/.shard").is_dir());
    assert!(place.ok(&["-C", "deep/er", "status"]).starts_with("On branch trunk, no commits yet\n"));
    place.fails(&["init", "other", "-b", "a..b"], 2, &["a..b"]);
    assert_eq!(place.ok(&["init", "silent", "-q"]), "");
}

#[test]
fn add_says_what_each_file_takes() {
    let place = Place::new();
    place.ok(&["init"]);
    let (first, second) = every_change(1).unwrap();
    place.write("a.safetensors", &first);
    let out = place.ok(&["add", "a.safetensors"]);
    assert!(out.contains("staged") && out.contains("a.safetensors") && out.contains("1 file staged"), "{out}");
    assert!(place.ok(&["add", "a.safetensors"]).contains("1 unchanged"));
    place.write("b.safetensors", &second);
    let header = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,9]}}"#;
    place.write("broken.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"xx"].concat());
    let json = place.json(&["add", "-A"]);
    let files = json["files"].as_array().unwrap();
    let states: Vec<_> =
        files.iter().map(|file| (file["path"].as_str().unwrap(), file["state"].as_str().unwrap())).collect();
    assert_eq!(states, [("a.safetensors", "unchanged"), ("b.safetensors", "staged"), ("broken.safetensors", "staged")]);
    assert_eq!(files[1]["size"], second.len());
    let new_bytes = files[1]["new_bytes"].as_u64().unwrap();
    assert!(new_bytes > 0 && new_bytes < second.len() as u64, "{json}");
    assert_eq!(json["total"]["new_bytes"], new_bytes + files[2]["new_bytes"].as_u64().unwrap());
    assert!(files[2]["note"].is_string(), "an odd file says why it is kept as bytes: {json}");
    fs::remove_file(place.path().join("a.safetensors")).unwrap();
    assert!(place.ok(&["add", "-A"]).contains("removed"));
    assert_eq!(place.ok(&["add", "-A", "-q"]), "");
    place.fails(&["add", "missing.bin"], 3, &["missing.bin", "no such file or folder"]);
    let nothing = place.run(&["add"]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("<PATH>"), "{}", nothing.err);
}

#[test]
fn commit_records_what_was_said() {
    let place = Place::new();
    place.ok(&["init"]);
    place.fails(&["commit", "-m", "x"], 4, &["nothing was ever added", "`shard add PATH…`"]);
    place.write("model.safetensors", &every_change(1).unwrap().0);
    place.ok(&["add", "model.safetensors"]);
    place.write("run.json", br#"{"epoch": 2, "step": 1, "cluster": "c1"}"#);
    let json = place.json(&[
        "commit",
        "-m",
        "First step",
        "-m",
        "A second paragraph.",
        "--record",
        "run.json",
        "--step",
        "7",
        "--seed",
        "42",
        "--hparam",
        "lr=1e-3",
        "--hparam",
        "optimizer=adamw",
        "--framework",
        "candle",
        "--note",
        "a note",
        "--name",
        "v1",
        "--created-at",
        "2026-01-31T12:00:00Z",
        "--model-name",
        "m",
        "--script-path",
        "train.py",
    ]);
    assert_eq!((json["branch"].as_str(), json["title"].as_str()), (Some("main"), Some("First step")));
    assert_eq!(json["changes"][0]["state"], "added");
    assert_eq!(json["name"], "tags/v1");
    let log = place.json(&["log"]);
    let commit = &log["commits"][0];
    assert_eq!(commit["id"], json["id"]);
    assert_eq!(commit["message"], "First step\n\nA second paragraph.");
    assert_eq!(commit["created_at"], "2026-01-31T12:00:00Z");
    let record = &commit["records"][0];
    assert_eq!(record["file_path"], "model.safetensors");
    assert_eq!(
        (record["step"].as_u64(), record["epoch"].as_f64(), record["seed"].as_u64()),
        (Some(7), Some(2.0), Some(42))
    );
    assert_eq!(record["hyperparameters"], serde_json::json!({"lr": 0.001, "optimizer": "adamw"}));
    assert_eq!(record["cluster"], "c1", "unknown fields survive");
    assert_eq!(record["created_at"], "2026-01-31T12:00:00Z");
    assert_eq!(record["provenance"]["script_path"], "train.py");
    assert_eq!(record["message"], "a note");

    place.fails(&["commit", "-m", "again"], 4, &["nothing is staged", "shard add", "--allow-empty"]);
    let out = place.ok(&["commit", "-m", "again", "--allow-empty"]);
    assert!(out.starts_with("[main ") && out.contains("] again\n"), "{out}");
    let id = &out["[main ".len()..][..12];
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{out}");
    place.fails(&["commit", "-m", " ", "--allow-empty"], 2, &["message"]);
    place.fails(&["commit", "-m", "x", "--allow-empty", "--name", "v1"], 4, &["v1"]);
    place.fails(&["commit", "-m", "x", "--allow-empty", "--name", "V1"], 4, &["where case does not count"]);
    place.fails(&["commit", "-m", "x", "--allow-empty", "--name", "HEAD"], 2, &["HEAD"]);
    assert_eq!(place.run(&["commit", "-m", "x", "--created-at", "today"]).code, 2);
    assert_eq!(place.run(&["commit", "-m", "x", "--hparam", "lr"]).code, 2);
    place.write("bad.json", b"[]");
    place.fails(&["commit", "-m", "x", "--record", "bad.json"], 2, &["is no run record"]);
    place.fails(&["commit", "-m", "x", "--record", "none.json"], 3, &["none.json"]);
}

#[test]
fn the_author_comes_from_the_environment_or_an_option() {
    let place = Place::with_history();
    let author = |args: &[&str]| {
        let status = place.command(args).env("SHARD_AUTHOR", "Env").stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
        place.json(&["log", "-n", "1"])["commits"][0]["author"].clone()
    };
    assert_eq!(author(&["commit", "--allow-empty", "-m", "x"]), "Env");
    assert_eq!(author(&["commit", "--allow-empty", "-m", "y", "--author", "Option"]), "Option");
    place.ok(&["commit", "--allow-empty", "-m", "z"]);
    assert_eq!(place.json(&["log", "-n", "1"])["commits"][0]["author"], Value::Null);
}

#[test]
fn status_in_all_its_forms() {
    let place = Place::with_history();
    assert_eq!(place.ok(&["status"]), "On branch main\nNothing to commit: the work tree is as committed\n");
    assert_eq!(place.ok(&["status", "-s"]), "");
    place.write("new.bin", b"new");
    place.write("staged.bin", b"staged");
    place.ok(&["add", "staged.bin"]);
    place.write("notes.txt", b"two");
    assert_eq!(place.ok(&["status", "-sb"]), "## main\n M notes.txt\nA  staged.bin\n?? new.bin\n");
    let long = place.ok(&["status"]);
    for text in ["Staged", "added  staged.bin", "Not staged", "modified  notes.txt", "Untracked", "  new.bin\n"] {
        assert!(long.contains(text), "{text}: {long}");
    }
    assert_eq!(place.run(&["status", "--exit-code"]).code, 1);
    let json = place.json(&["status"]);
    assert_eq!(json["clean"], false);
    assert_eq!(json["staged"][0]["path"], "staged.bin");
    assert_eq!(
        json["work"],
        serde_json::json!([
            {"path": "new.bin", "state": "untracked"}, {"path": "notes.txt", "state": "modified"}
        ])
    );
    place.ok(&["add", "-A"]);
    place.ok(&["commit", "-m", "all"]);
    fs::rename(place.path().join("new.bin"), place.path().join("moved.bin")).unwrap();
    fs::remove_file(place.path().join("notes.txt")).unwrap();
    place.ok(&["add", "-A"]);
    assert_eq!(place.ok(&["status", "-s"]), "R  new.bin -> moved.bin\nD  notes.txt\n");
    assert_eq!(place.run(&["-C", "..", "status"]).code, 3);
}

#[test]
fn log_finds_revisions_and_paths() {
    let place = Place::with_history();
    let lines = place.ok(&["log", "--oneline"]);
    let titles: Vec<&str> = lines.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(titles, ["Second", "First"]);
    assert!(lines.contains("(HEAD -> main)") && lines.contains("(tag: v1)"), "{lines}");
    assert_eq!(place.ok(&["log", "--oneline", "-n", "1"]).lines().count(), 1);
    assert_eq!(place.ok(&["log", "--oneline", "v1"]).lines().count(), 1);
    assert_eq!(place.ok(&["log", "--oneline", "notes.txt"]).lines().count(), 1);
    assert_eq!(place.ok(&["log", "--oneline", "HEAD", "model.safetensors"]).lines().count(), 2);
    assert_eq!(place.ok(&["log", "--oneline", "HEAD", "--", "notes.txt"]).lines().count(), 1);
    let long = place.ok(&["log"]);
    for text in
        ["commit ", "Author: A <a@example.com>", "Date:   2", "\n    First\n", "model.safetensors: step 100, lr=0.001"]
    {
        assert!(long.contains(text), "{text}: {long}");
    }
    assert_eq!(place.json(&["log", "HEAD~1"])["commits"].as_array().unwrap().len(), 1);
    // A path that is gone still has a history; a name that never was is unknown.
    fs::remove_file(place.path().join("notes.txt")).unwrap();
    place.ok(&["add", "-A"]);
    place.ok(&["commit", "-m", "Third"]);
    assert_eq!(place.ok(&["log", "--oneline", "notes.txt"]).lines().count(), 2);
    place.fails(&["log", "mian"], 3, &["mian", "did you mean main?"]);
    place.fails(&["log", "HEAD~9"], 3, &["HEAD~9"]);
    // A branch may have the name of a file: the path then stands after --.
    place.write("main", b"a file");
    place.ok(&["add", "main"]);
    place.ok(&["commit", "-m", "Fourth"]);
    assert_eq!(place.ok(&["log", "--oneline", "main"]).lines().count(), 4);
    assert_eq!(place.ok(&["log", "--oneline", "--", "main"]).lines().count(), 1);
    let empty = Place::new();
    empty.ok(&["init"]);
    empty.fails(&["log"], 3, &["no commits yet", "shard commit"]);
}
