//! `track`, `untrack`, and what `commit`, `checkout` and `status` do beside a Git repository.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use shard_datasets::cases::every_change;

use crate::place::{Place, model};

/// Runs Git with nothing of anybody's configuration.
fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(args).current_dir(folder).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    for (name, value) in [("NAME", "T"), ("EMAIL", "t@example.com")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "git {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A Git repository and one of shard with two versions of a model, of which Git has the pointers.
fn beside_git() -> (Place, String, String) {
    let place = Place::new();
    git(place.path(), &["init", "-q", "-b", "main"]);
    place.ok(&["init"]);
    place.write("train.py", b"print()\n");
    git(place.path(), &["add", "."]);
    git(place.path(), &["commit", "-qm", "Code"]);
    assert_eq!(place.ok(&["track", "*.safetensors"]), "*.safetensors\n");
    let (first, second) = every_change(1).unwrap();
    let mut heads = Vec::new();
    for (title, bytes) in [("First", first), ("Second", second)] {
        place.write("m/model.safetensors", &bytes);
        place.ok(&["add", "."]);
        let out = place.ok(&["commit", "-m", title, "--step", "7"]);
        assert!(out.contains("1 pointer written"), "{out}");
        git(place.path(), &["add", "."]);
        git(place.path(), &["commit", "-qm", title]);
        heads.push(git(place.path(), &["rev-parse", "HEAD"]).trim().to_owned());
    }
    let second = heads.pop().unwrap();
    (place, heads.pop().unwrap(), second)
}

fn pointers(place: &Place) -> Vec<(String, String)> {
    let status = place.json(&["status"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pointers = status["pointers"].as_array().unwrap().iter();
    pointers.map(|pointer| (text(&pointer["path"]), text(&pointer["state"]))).collect()
}

const MODEL: &str = "m/model.safetensors";
const POINTER: &str = "m/model.safetensors.shard.json";

#[test]
fn git_has_the_pointers_and_shard_the_models() {
    let (place, first, _) = beside_git();
    let files = git(place.path(), &["ls-files"]);
    assert_eq!(files, format!(".gitattributes\n.gitignore\n{POINTER}\ntrain.py\n"));
    assert_eq!(git(place.path(), &["status", "--porcelain"]), "");
    // Only models are shard's here.
    assert_eq!(place.ok(&["status", "-s"]), "");
    assert_eq!(place.json(&["show", "HEAD"])["changes"][0]["path"], MODEL);
    let pointer: Value = serde_json::from_slice(&place.read(POINTER)).unwrap();
    assert_eq!((pointer["type"].as_str(), pointer["step"].as_u64()), (Some("model"), Some(7)));
    // The commit that Git was at when it was written, which the commit of shard does not say unasked.
    assert_eq!(pointer["code_git_sha"], first);
    assert!(place.json(&["log", "-n", "1"])["commits"][0]["records"][0]["code_git_sha"].is_null());
    assert_eq!(pointer["sha256"], place.json(&["show", &format!("HEAD:{MODEL}")])["sha256"]);
    assert_eq!(git(place.path(), &["check-attr", "text", POINTER]).trim(), format!("{POINTER}: text: unset"));
    // Patterns mean what they mean to Git.
    place.ok(&["track", "weights", "/top.bin", "runs/**/w?.pt"]);
    for (path, ignored) in [
        ("top.bin", true),
        ("m/top.bin", false),
        ("runs/a/b/w1.pt", true),
        ("runs/w1.pt", true),
        ("runs/w10.pt", false),
        ("x/y.safetensors", true),
        ("x/y.safetensors.shard.json", false),
    ] {
        place.write(path, b"x");
        let output = Command::new("git").args(["check-ignore", "-q", path]).current_dir(place.path()).status().unwrap();
        assert_eq!(output.success(), ignored, "{path}");
        let seen = place.json(&["status"])["work"].as_array().unwrap().iter().any(|work| work["path"] == path);
        assert_eq!(seen, ignored, "{path}");
    }
    place.ok(&["untrack", "/top.bin", "runs/**/w?.pt", "*.safetensors"]);
    place.fails(&["untrack", "/top.bin"], 3, &["not among the patterns"]);
    assert_eq!(place.json(&["track"])["patterns"], serde_json::json!(["weights"]));
    place.ok(&["untrack", "weights"]);
    assert!(!place.path().join(".gitattributes").exists() && !place.path().join(".gitignore").exists());
}

#[test]
fn what_git_checks_out_shard_brings() {
    let (place, first, second) = beside_git();
    let new = place.read(MODEL);
    git(place.path(), &["checkout", "-q", &first]);
    assert_eq!(pointers(&place), [(MODEL.to_owned(), "out of date".to_owned())]);
    assert!(place.ok(&["status"]).contains("out of date"));
    let json = place.json(&["checkout"]);
    assert_eq!((json["written"][0]["path"].as_str(), json["unchanged"].as_u64()), (Some(MODEL), Some(0)));
    let old = place.read(MODEL);
    assert_eq!(place.json(&["show", &format!("main~1:{MODEL}")])["sha256"], crate::place::hex(&old));
    assert_eq!(pointers(&place), []);
    assert_eq!(place.json(&["checkout"])["unchanged"], 1);
    git(place.path(), &["checkout", "-q", &second]);
    place.ok(&["checkout"]);
    assert_eq!((place.read(MODEL), place.ok(&["status", "-s"])), (new.clone(), String::new()));
    // Gone, changed, undone.
    fs::remove_file(place.path().join(MODEL)).unwrap();
    assert_eq!(pointers(&place), [(MODEL.to_owned(), "file missing".to_owned())]);
    place.ok(&["checkout"]);
    assert_eq!(place.read(MODEL), new);
    place.write(MODEL, b"mine");
    assert_eq!(pointers(&place), [(MODEL.to_owned(), "file changed".to_owned())]);
    git(place.path(), &["checkout", "-q", &first]);
    place.fails(&["checkout"], 4, &["would be lost: m/model.safetensors"]);
    assert_eq!(place.read(MODEL), b"mine");
    place.ok(&["checkout", "--force"]);
    assert_eq!(place.read(MODEL), old);
    place.ok(&["undo"]);
    assert_eq!(place.read(MODEL), new);
    // What was removed takes its pointer along; what was lost is written again.
    git(place.path(), &["checkout", "-q", &second]);
    fs::remove_file(place.path().join(POINTER)).unwrap();
    assert_eq!(pointers(&place), [(MODEL.to_owned(), "no pointer".to_owned())]);
    // A listing writes nothing.
    assert_eq!(place.ok(&["track"]), "*.safetensors\n");
    assert_eq!(place.json(&["track"])["written"], serde_json::json!([]));
    assert_eq!(pointers(&place), [(MODEL.to_owned(), "no pointer".to_owned())]);
    assert!(place.ok(&["track", "--refresh"]).contains("1 pointer written"));
    assert_eq!(pointers(&place), []);
    fs::remove_file(place.path().join(MODEL)).unwrap();
    place.ok(&["add", "."]);
    assert!(place.ok(&["commit", "-m", "Without"]).contains("1 removed"));
    assert!(!place.path().join(POINTER).exists());
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn a_clone_is_filled_from_another_repository() {
    let (place, first, _) = beside_git();
    let clone = Place::new();
    git(clone.path(), &["clone", "-q", place.path().to_str().unwrap(), "c"]);
    let from = place.path().to_str().unwrap().to_owned();
    let here = clone.path().join("c");
    let run = |args: &[&str]| {
        let mut command = clone.command(args);
        let output = command.current_dir(&here).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    assert_eq!(run(&["checkout", "--from", &from]).0, 3, "there is no repository yet");
    assert_eq!(run(&["init"]).0, 0);
    let (code, text) = run(&["checkout"]);
    assert!(
        code == 3 && text.contains("not in the repository: m/model.safetensors") && text.contains("--from"),
        "{text}"
    );
    let (code, text) = run(&["checkout", "--from", &from]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(fs::read(here.join(MODEL)).unwrap(), place.read(MODEL));
    // It is this repository's own now.
    fs::remove_file(here.join(MODEL)).unwrap();
    assert_eq!(run(&["checkout"]).0, 0);
    // The file that is there is committed nowhere here, but it is as the other repository has it.
    git(&here, &["checkout", "-q", &first]);
    let second = fs::read(here.join(MODEL)).unwrap();
    let (code, text) = run(&["checkout", "--from", &from]);
    assert_eq!(code, 0, "{text}");
    assert_ne!(fs::read(here.join(MODEL)).unwrap(), second);
    // What nobody else has is not lost unasked, whether it was added or not.
    for args in [&["status"][..], &["add", MODEL]] {
        fs::write(here.join(MODEL), model(&[("mine", &[1.0])])).unwrap();
        assert_eq!(run(args).0, 0);
        assert_eq!(run(&["checkout", "--from", &from]).0, 4);
    }
    assert_eq!(run(&["commit", "-m", "Mine"]).0, 0);
    git(&here, &["checkout", "-q", "--", "."]);
    assert_eq!(run(&["checkout"]).0, 0);
    assert_eq!(run(&["checkout", "--from", &from]).0, 0);
    assert_eq!(run(&["checkout", "--from", "/no/such/folder"]).0, 3);
    assert_eq!(run(&["verify", "--full"]).0, 0);
}

#[test]
fn a_folder_that_is_tracked_has_no_pointers_of_pointers() {
    let place = Place::new();
    git(place.path(), &["init", "-q", "-b", "main"]);
    place.ok(&["init"]);
    place.ok(&["track", "models/"]);
    for number in 0..3u8 {
        place.write("models/a.bin", &[number; 100]);
        place.ok(&["add", "."]);
        place.ok(&["commit", "-m", "Step"]);
    }
    let names: Vec<String> = fs::read_dir(place.path().join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.len() == 2 && names.iter().any(|name| name == "a.bin.shard.json"), "{names:?}");
    let files = place.json(&["ls-tree", "HEAD", "-r"])["entries"].as_array().unwrap().clone();
    assert!(files.iter().all(|file| !file["path"].as_str().unwrap().ends_with(".json")), "{files:?}");
}

#[test]
fn without_git_or_patterns() {
    let place = Place::with_history();
    place.fails(&["track", "*.bin"], 3, &["no Git repository"]);
    place.fails(&["checkout"], 2, &["no revision is given", "shard track"]);
    assert_eq!(place.run(&["checkout", "v1", "--from", "x"]).code, 2);
    git(place.path(), &["init", "-q"]);
    for bad in ["!x", "a\\b", "../x", "a//b", "[x"] {
        place.fails(&["track", bad], 2, &["is no pattern"]);
    }
    assert!(!place.path().join(".gitignore").exists());
}

#[test]
fn fault_28_to_30_pointers_that_lead_elsewhere() {
    let (place, ..) = beside_git();
    let pointer = place.read(POINTER);
    let outside = Place::new();
    // A pointer's own word for its path does not count: where it lies does.
    let text = String::from_utf8(pointer.clone()).unwrap();
    for path in ["../escaped.safetensors", "/etc/passwd", ".git/hooks/post-checkout", "x/.shard/format"] {
        place.write(
            POINTER,
            text.replace(&format!("\"file_path\":\"{MODEL}\""), &format!("\"file_path\":\"{path}\"")).as_bytes(),
        );
        fs::remove_file(place.path().join(MODEL)).unwrap();
        let json = place.json(&["checkout"]);
        assert_eq!(json["written"][0]["path"], MODEL, "{path}");
    }
    assert!(!place.path().parent().unwrap().join("escaped.safetensors").exists());
    assert!(!place.path().join(".git/hooks/post-checkout").exists());
    // Malformed ones are told, and nothing is touched.
    let sha = crate::place::hex(&place.read(MODEL));
    let other = "0".repeat(64);
    for bad in [
        Vec::new(),
        b"{}".to_vec(),
        b"not JSON".to_vec(),
        pointer[..pointer.len() - 1].to_vec(),
        [pointer.as_slice(), b"\n"].concat(),
        text.replace("\"version\":1", "\"version\":9").into_bytes(),
        text.replace(&sha[..60], &"z".repeat(60)).into_bytes(),
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize 3\n").into_bytes(),
        format!("<<<<<<< HEAD\n{text}\n=======\n{text}\n>>>>>>> b\n").into_bytes(),
    ] {
        place.write(POINTER, &bad);
        fs::remove_file(place.path().join(MODEL)).ok();
        place.fails(&["checkout"], 5, &["m/model.safetensors.shard.json", "git checkout"]);
        assert_eq!(pointers(&place), [(MODEL.to_owned(), "no pointer in it".to_owned())]);
        assert!(!place.path().join(MODEL).exists());
    }
    // One that names other bytes than its manifest has, or bytes that are nowhere.
    place.write(POINTER, text.replace(&sha, &other).as_bytes());
    place.fails(&["checkout"], 3, &["not in the repository"]);
    let manifest = place.json(&["show", &format!("HEAD:{MODEL}")])["manifest"].as_str().map(str::to_owned);
    if let Some(manifest) = manifest {
        let record = format!("{{\"file_path\":\"{MODEL}\"}}");
        let size = place.json(&["show", &format!("HEAD:{MODEL}")])["size"].clone();
        let lying = format!(
            "{{\"manifest\":\"{manifest}\",\"record\":{record},\"sha256\":\"{other}\",\"size\":{size},\"type\":\"model-reference\",\"version\":1}}"
        );
        place.write(POINTER, lying.as_bytes());
        place.fails(&["checkout"], 5, &["m/model.safetensors"]);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        // A pointer that is a link is none, and files are not written through linked folders.
        fs::remove_file(place.path().join(POINTER)).unwrap();
        let elsewhere = outside.write("pointer", &pointer);
        symlink(&elsewhere, place.path().join(POINTER)).unwrap();
        place.fails(&["checkout"], 5, &["it is no file"]);
        fs::remove_file(place.path().join(POINTER)).unwrap();
        fs::remove_dir_all(place.path().join("m")).unwrap();
        fs::create_dir(outside.path().join("target")).unwrap();
        outside.write(&format!("target/{}", POINTER.trim_start_matches("m/")), &pointer);
        symlink(outside.path().join("target"), place.path().join("m")).unwrap();
        place.ok(&["checkout"]);
        assert!(!outside.path().join("target/model.safetensors").exists());
        fs::remove_file(outside.path().join("target").join(POINTER.trim_start_matches("m/"))).unwrap();
        place.ok(&["track", "m/*.safetensors"]);
        assert_eq!(fs::read_dir(outside.path().join("target")).unwrap().count(), 0, "no pointer is written there");
        // Nor is a block of patterns read or written through a link.
        fs::remove_file(place.path().join(".gitignore")).unwrap();
        symlink(outside.write("ignore", b"mine\n"), place.path().join(".gitignore")).unwrap();
        place.fails(&["track", "*.bin"], 2, &[".gitignore"]);
        assert_eq!(outside.read("ignore"), b"mine\n");
    }
}

#[test]
fn nothing_of_the_git_repository_is_run() {
    let (place, first, _) = beside_git();
    let witness = place.path().join("ran");
    let script = format!("#!/bin/sh\ntouch '{}'\n", witness.display());
    for hook in ["post-checkout", "pre-commit", "post-commit", "post-index-change", "fsmonitor-watchman"] {
        let path = place.write(&format!(".git/hooks/{hook}"), script.as_bytes());
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    git(place.path(), &["config", "core.fsmonitor", ".git/hooks/fsmonitor-watchman"]);
    place.write(".git/HEAD", format!("{first}\n").as_bytes());
    place.write(MODEL, &model(&[("a", &[1.0])]));
    place.ok(&["status"]);
    place.ok(&["add", "."]);
    place.ok(&["commit", "-m", "Third"]);
    place.ok(&["checkout"]);
    place.ok(&["track", "*.bin"]);
    assert!(!witness.exists());
    let pointer: Value = serde_json::from_slice(&place.read(POINTER)).unwrap();
    assert_eq!(pointer["code_git_sha"], first);
}
