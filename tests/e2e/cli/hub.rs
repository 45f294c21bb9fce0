//! `init --bare`, `commit --add`, `ls-tree`, `cat`, `download`, `snapshot`.

use std::fs;

use crate::place::{Place, hex};

/// A folder with a bare repository in `hub`, which has two commits.
fn hub() -> Place {
    let place = Place::new();
    let out = place.ok(&["init", "--bare", "hub"]);
    assert!(out.starts_with("Made an empty bare shard repository in "), "{out}");
    place.write("local/config.json", b"{}");
    place.write("local/weights.bin", b"some weights");
    let out = place.ok(&[
        "-C",
        "hub",
        "commit",
        "-m",
        "First",
        "--add",
        "config.json=../local/config.json",
        "--add",
        "sub/weights.bin=../local/weights.bin",
    ]);
    assert!(out.starts_with("[main ") && out.ends_with("] First\n"), "{out}");
    place.ok(&[
        "-C",
        "hub",
        "commit",
        "-m",
        "Second",
        "-r",
        "main",
        "--copy",
        "sub=kept",
        "--delete",
        "sub/weights.bin",
    ]);
    place
}

/// An argument that cannot be understood, which is told before anything is done.
fn refuses_usage(place: &Place, args: &[&str], expected: &str) {
    let run = place.run(args);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
    assert!(run.err.contains(expected), "{args:?}: {}", run.err);
}

#[test]
fn a_bare_repository_is_committed_to_by_paths() {
    let place = hub();
    let run = |args: &[&str]| place.json(&[&["-C", "hub"], args].concat());
    let log = run(&["log"]);
    let titles: Vec<&str> = log["commits"].as_array().unwrap().iter().map(|c| c["message"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Second", "First"]);
    let tree = run(&["ls-tree", "-r"]);
    let paths: Vec<&str> = tree["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["config.json", "kept", "kept/weights.bin"]);
    assert_eq!(tree["entries"][0]["sha256"], hex(b"{}"));
    assert_eq!(run(&["verify", "--full"])["ok"], true);

    // On another branch, with all that a commit may say.
    place.ok(&["-C", "hub", "branch", "side", "HEAD~1"]);
    let made = run(&[
        "commit",
        "-m",
        "On the side",
        "--description",
        "Because",
        "--author",
        "A <a@b>",
        "-r",
        "side",
        "--parent-commit",
        "side",
        "--delete",
        "sub/",
        "--add",
        "sub=../local/config.json",
    ]);
    assert_eq!((made["branch"].as_str(), made["description"].as_str()), (Some("side"), Some("Because")));
    assert_eq!(made["git_id"].as_str().unwrap().len(), 40);
    let git_id = made["git_id"].as_str().unwrap();
    assert_eq!(run(&["log", git_id, "-n", "1"])["commits"][0]["id"], made["id"]);
    assert_eq!(place.ok(&["-C", "hub", "cat", "side:sub"]), "{}");

    place.fails(&["-C", "hub", "commit", "-m", "x", "-r", "side"], 4, &["needs operations", "--add PATH=FILE"]);
    place.fails(&["-C", "hub", "commit", "-m", "x", "-r", "nowhere", "--delete", "a"], 3, &["there is no branch"]);
    place.fails(&["-C", "hub", "commit", "-m", "x", "--delete", "nowhere"], 3, &["nowhere"]);
    place.fails(&["-C", "hub", "commit", "-m", "x", "--copy", "kept=Config.JSON/x"], 4, &["config.json"]);
    place.fails(&["-C", "hub", "commit", "-m", "x", "--add", "../x=../local/config.json"], 2, &["cannot be kept"]);
    refuses_usage(&place, &["-C", "hub", "commit", "-m", "x", "--add", "x"], "no = between");
    place.fails(&["-C", "hub", "commit", "-m", "x", "--add", "x=nowhere"], 3, &["nowhere"]);
    let stale = ["-C", "hub", "commit", "-m", "x", "--parent-commit", "main~1", "--delete", "config.json"];
    place.fails(&stale, 4, &["heads/main is at ", "as was expected", "nothing was changed"]);
    place.fails(&["-C", "hub", "commit", "-m", "x", "--delete", "a", "--step", "1"], 2, &["run record"]);
}

#[test]
fn what_needs_a_work_tree_says_so() {
    let place = hub();
    for args in [&["add", "."][..], &["status"], &["commit", "-m", "x"], &["checkout", "main"], &["reset", "--hard"]] {
        place.fails(&[&["-C", "hub"], args].concat(), 2, &["is bare: it has no work tree"]);
    }
    place.fails(&["init", "--bare", "hub"], 4, &["already"]);
    place.fails(&["init", "--bare", "local"], 2, &["has files already"]);
    place.fails(&["status"], 3, &["not a shard repository"]);
    // What only reads works as ever.
    place.ok(&["-C", "hub", "checkout", "main", "-o", "../out"]);
    assert_eq!(place.read("out/kept/weights.bin"), b"some weights");
    place.ok(&["-C", "hub", "diff", "HEAD~1", "HEAD"]);
    place.ok(&["-C", "hub", "show", "HEAD:config.json"]);
    place.ok(&["-C", "hub/packs", "log", "HEAD", "kept"]);
}

#[test]
fn branches_of_a_bare_repository_are_merged() {
    let place = hub();
    place.ok(&["-C", "hub", "branch", "side"]);
    let commit = |branch: &str, path: &str| {
        place.write("new.bin", path.as_bytes());
        place.ok(&["-C", "hub", "commit", "-m", path, "-r", branch, "--add", &format!("{path}=../new.bin")]);
    };
    commit("side", "theirs.bin");
    commit("main", "ours.bin");
    let merged = place.json(&["-C", "hub", "merge", "side"]);
    assert_eq!(merged["status"], "merged");
    assert_eq!(place.ok(&["-C", "hub", "cat", "theirs.bin", "-r", "main"]), "theirs.bin");
    assert_eq!(place.ok(&["-C", "hub", "cat", "ours.bin", "-r", "main"]), "ours.bin");
}

#[test]
fn trees_are_listed() {
    let place = hub();
    let run = |args: &[&str]| place.ok(&[&["-C", "hub"], args].concat());
    let out = run(&["ls-tree"]);
    let first = format!("100644 blob {}\tconfig.json\n", hex(b"{}"));
    assert!(out.starts_with(&first) && out.contains("040000 tree ") && out.ends_with("\tkept\n"), "{out}");
    // What Git itself says of the same bytes.
    let out = run(&["ls-tree", "HEAD", "--git", "-r"]);
    assert!(out.contains("100644 blob 9e26dfeeb6e641a33dae4961196235bdb965b21b\tconfig.json\n"), "{out}");
    assert_eq!(run(&["ls-tree", "HEAD~1:sub"]), run(&["ls-tree", "HEAD~1", "sub/"]));
    let out = run(&["ls-tree", "HEAD", "--last"]);
    let titles: Vec<&str> =
        out.lines().map(|line| line.rsplit('\t').next().unwrap().split_once(' ').unwrap().1).collect();
    assert_eq!(titles, ["First", "Second"]);
    let json = place.json(&["-C", "hub", "ls-tree", "HEAD", "--git", "--last"]);
    assert_eq!(json["entries"][1]["type"], "folder");
    assert_eq!(json["entries"][1]["tree_id"].as_str().unwrap().len(), 40);
    assert_eq!(json["entries"][0]["last_commit"]["title"], "First");
    place.fails(&["-C", "hub", "ls-tree", "HEAD", "config.json"], 3, &["config.json"]);
    place.fails(&["-C", "hub", "ls-tree", "nowhere"], 3, &["nowhere"]);
}

#[test]
fn files_are_written_to_standard_output() {
    let place = hub();
    let run = |args: &[&str]| place.ok(&[&["-C", "hub"], args].concat());
    assert_eq!(run(&["cat", "kept/weights.bin"]), "some weights");
    assert_eq!(run(&["cat", "HEAD~1:sub/weights.bin"]), "some weights");
    assert_eq!(run(&["cat", "sub/weights.bin", "-r", "HEAD~1", "--range", "5:3"]), "wei");
    assert_eq!(run(&["cat", "kept/weights.bin", "--range", "5:"]), "weights");
    assert_eq!(run(&["cat", "kept/weights.bin", "--range", "99:5"]), "");
    place.fails(&["-C", "hub", "cat", "sub/weights.bin"], 3, &["sub/weights.bin"]);
    place.fails(&["-C", "hub", "cat", "kept"], 3, &["kept"]);
    refuses_usage(&place, &["-C", "hub", "cat", "kept/weights.bin", "--range", "5"], "START:LEN");
}

#[test]
fn files_and_snapshots_are_downloaded() {
    let place = hub();
    let download = |args: &[&str]| place.ok(&[&["-C", "hub"], args].concat()).trim_end().to_owned();
    let cached = download(&["download", "kept/weights.bin"]);
    assert!(cached.ends_with("/kept/weights.bin") && cached.contains("/cache/files/"), "{cached}");
    fs::write(&cached, "damaged").unwrap();
    assert_eq!(download(&["download", "kept/weights.bin"]), cached);
    assert_eq!(fs::read(&cached).unwrap(), b"some weights");
    download(&["download", "sub/weights.bin", "-r", "main~1", "--local-dir", "../out"]);
    assert_eq!(place.read("out/sub/weights.bin"), b"some weights");

    let snapshot = download(&["snapshot"]);
    assert!(snapshot.contains("/cache/snapshots/"), "{snapshot}");
    assert_eq!(fs::read(format!("{snapshot}/config.json")).unwrap(), b"{}");
    let json = place.json(&["-C", "hub", "snapshot", "--local-dir", "../all", "--ignore", "*.bin"]);
    assert!(json["path"].as_str().unwrap().ends_with("/all"), "{json}");
    assert!(place.path().join("all/config.json").exists() && !place.path().join("all/kept").exists());
    place.fails(&["-C", "hub", "snapshot", "--local-dir", "x"], 2, &["inside the repository's own folder"]);
    place.fails(&["-C", "hub", "download", "nowhere"], 3, &["nowhere"]);
    // The cache may go at any time.
    fs::remove_dir_all(place.path().join("hub/cache")).unwrap();
    assert_eq!(download(&["snapshot"]), snapshot);
    assert_eq!(place.json(&["-C", "hub", "verify", "--full"])["ok"], true);
}

#[test]
fn large_files_are_pointers_for_git() {
    let place = Place::new();
    place.ok(&["init", "--bare", "hub", "--large-file-threshold", "10"]);
    place.write("large", b"0123456789");
    place.ok(&["-C", "hub", "commit", "-m", "x", "--add", "large=../large", "--add", "format=../hub/format"]);
    let json = place.json(&["-C", "hub", "ls-tree", "HEAD", "--git"]);
    assert_eq!(json["entries"][1]["lfs"]["size"], 10);
    assert_eq!(json["entries"][1]["lfs"]["sha256"], hex(b"0123456789"));
}

#[test]
fn paths_are_those_seen_from_the_current_folder() {
    let place = Place::new();
    place.ok(&["init"]);
    place.write("name", b"above");
    place.write("sub/name", b"here");
    place.write("sub/deep/other", b"below");
    place.ok(&["add", "."]);
    place.ok(&["commit", "-m", "Files"]);
    let sub = |args: &[&'static str]| place.ok(&[&["-C", "sub"][..], args].concat());
    assert_eq!(sub(&["cat", "name"]), "here");
    assert_eq!(sub(&["cat", "../name", "-r", "main"]), "above");
    // As in `git show REV:PATH`.
    assert_eq!(sub(&["cat", "HEAD:name"]), "above");
    assert_eq!(place.ok(&["cat", "./sub/name"]), "here");
    let json = place.json(&["-C", "sub", "ls-tree", "HEAD", "deep"]);
    assert_eq!(
        (json["path"].as_str(), json["entries"][0]["path"].as_str()),
        (Some("sub/deep"), Some("sub/deep/other"))
    );
    assert_eq!(sub(&["ls-tree", "HEAD", "."]), place.ok(&["ls-tree", "HEAD:sub"]));
    assert_eq!(sub(&["ls-tree", "HEAD", ".."]), sub(&["ls-tree"]));
    let place_of = sub(&["download", "name"]);
    assert_eq!(fs::read(place_of.trim_end()).unwrap(), b"here");
    place.fails(&["-C", "sub", "cat", "deep/name"], 3, &["sub/deep/name"]);
    place.fails(&["-C", "sub", "cat", "../../name"], 3, &["outside of the repository"]);
}
