//! The command line as a user meets it: what each command prints, as text and as JSON, its exit codes, and its errors.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use shard_core::sha256;
use shard_datasets::cases::{Versions, every_change};
use tempfile::TempDir;

/// What a run left behind.
struct Run {
    code: i32,
    out: String,
    err: String,
}

/// A folder to run in.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// A repository whose first commit has the first version of `model.safetensors`, and whose second has the second.
    fn with_history() -> Self {
        let place = Self::new();
        let (first, second) = every_change(1).unwrap();
        place.ok(&["init"]);
        place.write("model.safetensors", &first);
        place.write("notes.txt", b"one");
        place.ok(&["add", "."]);
        place.ok(&[
            "commit",
            "-m",
            "First",
            "--author",
            "A <a@example.com>",
            "--name",
            "v1",
            "--step",
            "100",
            "--hparam",
            "lr=0.001",
        ]);
        place.write("model.safetensors", &second);
        place.ok(&["add", "model.safetensors"]);
        place.ok(&["commit", "-m", "Second"]);
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path().join(path)).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shard"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("SHARD_AUTHOR").env_remove("NO_COLOR").env("TERM", "xterm");
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}{}", run.out, run.err);
        assert_eq!(run.err, "", "{args:?}");
        run.out
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let out = self.ok(&all);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    /// Runs what must fail, and checks that it says what, why where expected, and what next.
    fn fails(&self, args: &[&str], code: i32, expected: &[&str]) {
        let run = self.run(args);
        assert_eq!(run.code, code, "{args:?}: {}{}", run.out, run.err);
        assert_eq!(run.out, "", "{args:?}");
        assert!(run.err.starts_with("error: "), "{args:?}: {}", run.err);
        assert!(run.err.contains("\n  next: "), "{args:?}: {}", run.err);
        for text in expected {
            assert!(run.err.contains(text), "{args:?} lacks {text:?}: {}", run.err);
        }
        let mut all = args.to_vec();
        all.insert(0, "--json");
        let run = self.run(&all);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{all:?}");
        let error: Value = serde_json::from_str(&run.err).unwrap_or_else(|e| panic!("{all:?}: {e}: {}", run.err));
        assert_eq!(error["error"]["code"], code, "{error}");
        assert!(error["error"]["what"].is_string() && error["error"]["why"].is_array(), "{error}");
    }
}

fn hex(bytes: &[u8]) -> String {
    sha256(bytes).to_hex()
}

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
    place.fails(&["commit", "-m", "x", "--allow-empty", "--name", "v1"], 2, &["v1"]);
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
    let by_layer = place.ok(&["diff", "v1", "HEAD", "--by-layer"]);
    assert!(by_layer.starts_with("v1:model -> HEAD:model\nlayer "), "{by_layer}");
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
fn many_changes_are_rolled_up_by_layer() {
    let place = Place::new();
    let mut versions = Versions::new(3, 60, 8, 32, 0.5);
    place.write("a.safetensors", &versions.next().unwrap().unwrap());
    place.write("b.safetensors", &versions.next().unwrap().unwrap());
    let out = place.ok(&["diff", "a.safetensors", "b.safetensors"]);
    assert!(out.contains("\nlayer ") && out.contains("60 tensors: 60 value"), "{out}");
    let out = place.ok(&["diff", "a.safetensors", "b.safetensors", "--by-tensor"]);
    assert!(out.contains("\ntensor ") && out.contains("block.59.weight"), "{out}");
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

#[test]
fn outside_of_a_repository_each_command_says_so() {
    let place = Place::new();
    for args in [
        &["add", "x"][..],
        &["commit", "-m", "x"],
        &["status"],
        &["log"],
        &["checkout", "main"],
        &["verify"],
        &["reindex"],
        &["diff"],
    ] {
        place.fails(args, 3, &["not a shard repository", "`shard init`"]);
    }
    place.fails(&["-C", "nowhere", "status"], 3, &["nowhere: cannot enter the folder"]);
}

#[test]
fn wrong_usage_is_code_2() {
    let place = Place::new();
    for args in
        [&["frobnicate"][..], &["init", "--frob"], &["--threads", "many", "status"], &["diff", "a", "b", "c"], &[]]
    {
        let run = place.run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(!run.err.is_empty(), "{args:?}");
    }
    let run = place.run(&["frobnicate", "--json"]);
    let error: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((run.code, error["error"]["code"].as_u64()), (2, Some(2)));
    let help = place.ok(&["help"]);
    assert!(help.contains("Exit codes:") && help.contains("5  damaged data"), "{help}");
    assert!(place.ok(&["--version"]).starts_with("shard "));
    assert!(place.ok(&["help", "diff"]).contains("--by-layer"));
}

#[test]
fn quiet_is_quiet_but_results_are_printed() {
    let place = Place::with_history();
    place.write("more.bin", b"more");
    for args in [
        &["-q", "add", "more.bin"][..],
        &["-q", "commit", "-m", "More"],
        &["-q", "checkout", "v1"],
        &["-q", "checkout", "main"],
        &["-q", "verify"],
        &["-q", "reindex"],
        &["-q", "pack", "more.bin", "-o", "m.shard"],
        &["-q", "unpack", "m.shard", "-o", "m"],
    ] {
        assert_eq!(place.ok(args), "", "{args:?}");
    }
    assert!(place.ok(&["-q", "log"]).contains("More"));
    assert!(
        place.ok(&["-q", "diff", "v1", "v1~0"]).is_empty()
            || place.ok(&["-q", "diff", "v1", "main"]).contains("tensors")
    );
    assert!(place.ok(&["-q", "show"]).contains("More"));
    assert!(place.ok(&["-q", "status", "-sb"]).starts_with("## main"));
}

#[test]
fn off_a_terminal_there_is_no_colour_and_no_progress() {
    let place = Place::with_history();
    for args in [
        &["log"][..],
        &["status"],
        &["show"],
        &["diff", "v1", "HEAD"],
        &["verify", "--full"],
        &["chunk", "model.safetensors"],
    ] {
        assert!(!place.ok(args).contains('\u{1b}'), "{args:?}");
        let mut colored = vec!["--color", "always"];
        colored.extend(args);
        let has_color = place.ok(&colored).contains('\u{1b}');
        assert!(has_color, "{colored:?}");
        colored[1] = "never";
        assert!(!place.ok(&colored).contains('\u{1b}'), "{colored:?}");
    }
    let run = place.run(&["show", "nothing"]);
    assert!(!run.err.contains('\u{1b}'), "{}", run.err);
    assert!(place.run(&["--color", "always", "show", "nothing"]).err.contains("\u{1b}[31merror: "));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = Place::with_history();
    for args in [&["log"][..], &["show", "--tensors"], &["--json", "log"], &["help"]] {
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{args:?}");
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

#[cfg(unix)]
#[test]
fn what_the_system_refuses_is_code_6() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_history();
    let locked = place.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    // Permissions do not hold root back.
    if fs::write(locked.join("probe"), "").is_err() {
        place.fails(&["checkout", "v1", "-o", "locked/out"], 6, &["locked", "permissions"]);
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    // A full device: what cannot be printed is an error too.
    if Path::new("/dev/full").exists() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(&["log"]).stdout(full).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{err}");
        assert!(err.contains("cannot write the output"), "{err}");
    }
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
