//! `remote`, `connect`, `clone`, `fetch`, `pull`, `push`.

use std::fs;

use crate::place::{Place, model};

/// A folder with a bare repository `hub` in it, and that one's address.
fn hub() -> (Place, String) {
    let place = Place::new();
    place.ok(&["init", "--bare", "hub"]);
    let url = place.path().join("hub").canonicalize().unwrap().to_str().unwrap().to_owned();
    (place, url)
}

fn id(place: &Place, revision: &str) -> String {
    place.json(&["log", revision, "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned()
}

fn commit(place: &Place, folder: &str, path: &str, bytes: &[u8], title: &str) {
    place.write(&format!("{folder}/{path}"), bytes);
    place.ok(&["-C", folder, "add", path]);
    place.ok(&["-C", folder, "commit", "-m", title]);
}

#[test]
fn a_history_is_pushed_cloned_and_pulled() {
    let place = Place::with_history();
    let (there, url) = hub();
    place.fails(&["push"], 3, &["there is no remote", "shard connect"]);
    assert_eq!(place.ok(&["connect", &url]), format!("origin is {url}\n"));
    assert_eq!(place.ok(&["remote"]), format!("origin  {url}\n"));

    let plan = place.json(&["push", "-n"]);
    assert_eq!((plan["commits"].as_u64(), plan["dry_run"].as_bool()), (Some(2), Some(true)));
    assert_eq!(there.json(&["-C", "hub", "branch"])["branches"].as_array().unwrap().len(), 0);
    let head = id(&place, "HEAD");
    let out = place.ok(&["push", "origin", "main", "v1"]);
    assert!(out.starts_with("Sent 2 commits and ") && out.contains(" for ") && out.contains(&url), "{out}");
    assert!(out.contains(&format!("new  main     {}", &head[..12])) && out.contains("new  tags/v1"), "{out}");
    assert_eq!(place.ok(&["push"]), "Everything is there already\n");
    assert_eq!(there.json(&["-C", "hub", "verify", "--full"])["ok"], true);

    let out = there.ok(&["clone", "./hub", "copy"]);
    assert!(out.starts_with("Received 2 commits and ") && out.contains("Cloned into "), "{out}");
    assert_eq!(there.read("copy/model.safetensors"), place.read("model.safetensors"));
    assert_eq!(there.json(&["-C", "copy", "status"])["clean"], true);
    assert_eq!(there.json(&["-C", "copy", "log", "v1"])["commits"].as_array().unwrap().len(), 1);

    commit(&there, "copy", "extra.safetensors", &model(&[("a", &[1.0, 2.0])]), "Third");
    let pushed = there.json(&["-C", "copy", "push"]);
    assert_eq!((pushed["commits"].as_u64(), pushed["refs"][0]["change"].as_str()), (Some(1), Some("forward")));
    let plan = place.ok(&["fetch", "--dry-run"]);
    assert!(
        plan.starts_with("Would have received 1 commit and 2 blocks") && plan.contains("remotes/origin/main"),
        "{plan}"
    );
    assert_eq!(id(&place, "origin/main"), head);
    let out = place.ok(&["pull"]);
    assert!(out.contains("main moved on to ") && out.contains("Third"), "{out}");
    assert_eq!(place.read("extra.safetensors"), there.read("copy/extra.safetensors"));
    assert!(place.ok(&["pull"]).contains("already"));
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn who_comes_second_is_told_to_pull() {
    let (there, _) = hub();
    there.ok(&["clone", "./hub", "one"]);
    commit(&there, "one", "a.bin", b"a", "First");
    there.ok(&["-C", "one", "push"]);
    there.ok(&["clone", "./hub", "two"]);
    commit(&there, "two", "b.bin", b"b", "Theirs");
    there.ok(&["-C", "two", "push"]);
    commit(&there, "one", "c.bin", b"c", "Ours");
    there.fails(&["-C", "one", "push"], 4, &["main over there is at", "`shard pull`"]);
    there.fails(&["-C", "one", "pull", "--ff-only"], 4, &["--ff-only"]);
    there.fails(&["-C", "one", "push"], 4, &["`shard merge`"]);
    let pulled = there.json(&["-C", "one", "pull"]);
    assert_eq!((pulled["source"].as_str(), pulled["merge"]["status"].as_str()), (Some("origin/main"), Some("merged")));
    assert_eq!(there.json(&["-C", "one", "push"])["commits"], 2);
    let log = there.ok(&["-C", "hub", "log", "main", "--oneline"]);
    assert!(["First", "Theirs", "Ours"].iter().all(|title| log.contains(title)), "{log}");

    // By force commits go, but not from a branch that is protected.
    there.ok(&["-C", "one", "branch", "old", "HEAD~1"]);
    there.fails(&["-C", "one", "push", "origin", "old:main"], 4, &["does not follow"]);
    there.ok(&["-C", "hub", "protect", "main"]);
    there.fails(&["-C", "one", "push", "-f", "origin", "old:main"], 4, &["protected"]);
    there.ok(&["-C", "hub", "protect", "--remove", "main"]);
    let out = there.ok(&["-C", "one", "push", "origin", "+old:main"]);
    assert!(out.contains("forced  main") && out.contains(" replaced by "), "{out}");
}

#[test]
fn a_conflict_leaves_what_was_fetched() {
    let (there, _) = hub();
    there.ok(&["clone", "./hub", "one"]);
    commit(&there, "one", "m.safetensors", &model(&[("w", &[0.0]), ("v", &[0.0])]), "Base");
    there.ok(&["-C", "one", "push"]);
    there.ok(&["clone", "./hub", "two"]);
    commit(&there, "two", "m.safetensors", &model(&[("w", &[1.0]), ("v", &[0.0])]), "Theirs");
    there.ok(&["-C", "two", "push"]);
    commit(&there, "one", "m.safetensors", &model(&[("w", &[2.0]), ("v", &[0.0])]), "Ours");
    let run = there.run(&["-C", "one", "pull"]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("1 conflict") && run.out.contains('w'), "{}", run.out);
    let ours = there.json(&["-C", "one", "log", "origin/main", "-n", "1"]);
    assert_eq!(ours["commits"][0]["message"].as_str().map(str::trim_end), Some("Theirs"));
}

#[test]
fn remotes_are_named_moved_and_removed() {
    let place = Place::with_history();
    let (_there, url) = hub();
    place.ok(&["remote", "add", "lab", &url]);
    place.fails(&["remote", "add", "lab", &url], 4, &["there is a remote \"lab\" already", "set-url"]);
    for bad in ["a/b", "..", "con", "a b"] {
        place.fails(&["remote", "add", bad, &url], 2, &["cannot be the name of a remote"]);
    }
    for bad in ["", "ftp://host/x", "file://host/x"] {
        place.fails(&["remote", "set-url", "lab", bad], 2, &["give a folder"]);
    }
    // The only one is meant where none is named.
    place.ok(&["push"]);
    place.ok(&["remote", "add", "far", "/nowhere/at/all"]);
    place.fails(&["push"], 2, &["there are 2 remotes", "name one of them"]);
    place.fails(&["fetch", "far"], 3, &["/nowhere/at/all: not a shard repository"]);
    place.fails(&["fetch", "nobody"], 3, &["there is no remote \"nobody\"", "./FOLDER"]);
    place.fails(&["connect", "/nowhere/at/all"], 3, &["not a shard repository"]);
    let removed = place.json(&["remote", "rm", "lab", "far"]);
    assert_eq!((&removed["removed"][0]["branches"], &removed["removed"][1]["branches"]), (&1.into(), &0.into()));
    place.fails(&["remote", "rm", "lab"], 3, &["there is no remote \"lab\""]);
    place.fails(&["log", "lab/main"], 3, &["lab/main"]);
    assert_eq!(place.ok(&["remote"]), "");
}

#[test]
fn what_cannot_be_exchanged_is_said() {
    let place = Place::with_history();
    let (there, url) = hub();
    place.ok(&["connect", &url]);
    place.fails(&["push", "origin", "nothing"], 3, &["there is no branch or tag \"nothing\" to push"]);
    place.fails(&["push", "origin", "main:"], 2, &["after the colon comes a name"]);
    place.fails(&["push", "origin", "main:a..b"], 2, &["cannot be the name of a branch"]);
    place.fails(&["push", "origin", ":gone"], 3, &["gone"]);
    place.fails(&["push", "."], 2, &["is this repository itself"]);
    place.fails(&["fetch", "origin", "gone"], 3, &["has no branch or tag \"gone\""]);
    place.ok(&["push", "--all", "--tags"]);
    place.fails(&["push", "origin", ":main"], 4, &["default branch"]);
    place.ok(&["tag", "-f", "v1", "HEAD"]);
    place.fails(&["push", "origin", "v1"], 4, &["the tag \"v1\" over there names another commit"]);

    there.fails(&["clone", "./nothing"], 3, &["not a shard repository"]);
    there.ok(&["clone", "./hub", "copy"]);
    there.fails(&["clone", "./hub", "copy"], 4, &["the folder has files already", "name another folder"]);
    there.fails(&["clone", "./hub", "b", "-b", "gone"], 3, &["has no branch or tag \"gone\""]);
    assert!(!there.path().join("b").exists(), "nothing was made");
    there.ok(&["-C", "copy", "checkout", "HEAD~1"]);
    there.fails(&["-C", "copy", "pull"], 2, &["no branch is checked out"]);
    there.fails(&["-C", "copy", "push", "../copy"], 2, &["is this repository itself"]);
    // What is checked out over there stays what its files are.
    there.ok(&["-C", "copy", "checkout", "main"]);
    let copy = there.path().join("copy").to_str().unwrap().to_owned();
    place.write("more.txt", b"more");
    place.ok(&["add", "more.txt"]);
    place.ok(&["commit", "-m", "More"]);
    place.fails(&["push", &copy, "main"], 4, &["is checked out over there"]);
    place.ok(&["push", &copy, "main:from-place"]);
    there.fails(&["-C", "hub", "pull"], 3, &["there is no remote"]);
}

#[test]
fn a_bare_clone_and_an_empty_one() {
    let place = Place::with_history();
    let (there, url) = hub();
    let out = there.ok(&["clone", "./hub", "empty"]);
    assert!(out.starts_with("Cloned into "), "{out}");
    place.ok(&["push", &url]);
    assert!(there.ok(&["-C", "empty", "pull"]).contains("Checked out what origin/main has"));
    assert_eq!(there.read("empty/notes.txt"), place.read("notes.txt"));
    there.ok(&["clone", "--bare", "./hub", "mirror"]);
    assert_eq!(there.ok(&["-C", "mirror", "cat", "notes.txt", "-r", "main"]).as_bytes(), place.read("notes.txt"));
    assert!(fs::read_dir(there.path().join("mirror")).unwrap().all(|entry| entry.unwrap().file_name() != "notes.txt"));
    place.ok(&["branch", "side"]);
    place.ok(&["push", &url, "side"]);
    there.ok(&["clone", "./hub", "branch", "-b", "side", "--no-checkout"]);
    assert_eq!(there.json(&["-C", "branch", "branch"])["current"], "side");
    assert!(!there.path().join("branch/notes.txt").exists());
}
