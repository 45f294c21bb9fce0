//! A merge that waits to be decided: `checkout --ours`, `add`, `status`, `merge --continue` and `--abort`.

use std::fs;

use serde_json::{Value, json};

use super::merging::{Files, but, conflicts, fork, fork_models, head, lines};
use crate::place::Place;

#[test]
fn a_merge_under_way_is_decided_and_continued() {
    let place = fork(
        &[("model.safetensors", Some(&but(&[]))), ("notes", Some(b"1")), ("gone", Some(b"1")), ("plain", Some(b"1"))],
        &[("model.safetensors", Some(&but(&[("a.weight", 2.0)]))), ("notes", Some(b"2")), ("gone", None)],
        &[
            ("model.safetensors", Some(&but(&[("a.weight", 4.0)]))),
            ("notes", Some(b"3")),
            ("gone", Some(b"2")),
            ("plain", Some(b"2")),
        ],
    );
    let json = conflicts(&place, &["merge", "side", "-m", "Both"]);
    assert_eq!(lines(&json), ["delete/modify gone", "modify/modify model.safetensors", "modify/modify notes"]);
    // A folder that is named decides about nothing that stayed as it was.
    place.ok(&["add", "-A"]);
    assert_eq!(place.json(&["status"])["merge"]["conflicts"].as_array().map(Vec::len), Some(3));
    place.write("notes", b"2 and 3");
    place.ok(&["add", "notes"]);
    place.ok(&["checkout", "--theirs", "gone"]);
    assert_eq!(place.read("gone"), b"2");
    let status = place.json(&["status"]);
    assert_eq!(status["merge"]["resolved"], json!(["gone", "notes"]));
    assert_eq!(lines(&status["merge"]), ["modify/modify model.safetensors"]);
    let run = place.run(&["merge", "--continue"]);
    assert!(run.code == 1 && run.out.contains("a.weight") && !run.out.contains("notes"), "{}", run.out);
    // What is left is decided by a rule.
    let json = place.json(&["merge", "--continue", "--rule", "a.*=average"]);
    assert_eq!(json["status"], "merged");
    assert_eq!(
        (place.read("notes"), place.read("gone"), place.read("plain")),
        (b"2 and 3".to_vec(), b"2".to_vec(), b"2".to_vec())
    );
    assert_eq!(place.read("model.safetensors"), but(&[("a.weight", 3.0)]));
    assert_eq!((place.ok(&["status", "-s"]), &place.json(&["status"])["merge"]), (String::new(), &Value::Null));
    let commit = place.json(&["show"]);
    // A branch of its own for what the options of the message make.
    place.ok(&["branch", "other", "main~1"]);
    let merge = ["merge", "side", "--into", "other", "--strategy", "theirs"];
    place.fails(&[&merge[..], &["-m", " ", "--description", "No title"]].concat(), 2, &["needs a message"]);
    assert_eq!(place.run(&[&merge[..], &["--description", "No title"]].concat()).code, 2);
    place.ok(&[&merge[..], &["-m", "Title ", "--description", "A body\n\nof two parts\n"]].concat());
    assert_eq!(place.json(&["show", "other"])["message"], "Title\n\nA body\n\nof two parts");
    assert_eq!((commit["message"].as_str(), commit["parents"].as_array().map(Vec::len)), (Some("Both"), Some(2)));
    assert_eq!(commit["merge"]["files"], json!(["model.safetensors"]));
    assert_eq!(place.json(&["merge", "side"])["status"], "already-up-to-date");
}

#[test]
fn giving_up_brings_back_what_was() {
    let place = fork(
        &[("a", Some(b"1")), ("b", Some(b"1")), ("c", Some(b"1"))],
        &[("a", Some(b"2")), ("b", None)],
        &[("a", Some(b"3")), ("b", Some(b"2"))],
    );
    place.write("untracked", b"mine");
    place.write("c", b"unrelated");
    conflicts(&place, &["merge", "side"]);
    place.ok(&["checkout", "--theirs", "a", "b"]);
    assert_eq!((place.read("a"), place.read("b")), (b"3".to_vec(), b"2".to_vec()));
    let json = place.json(&["merge", "--abort"]);
    assert_eq!(json["head"], json!(head(&place, "main")));
    assert_eq!(
        (place.read("a"), place.read("c"), place.read("untracked")),
        (b"2".to_vec(), b"unrelated".to_vec(), b"mine".to_vec())
    );
    assert!(!place.path().join("b").exists());
    assert_eq!(place.ok(&["status", "-s"]), " M c\n?? untracked\n");
    place.write("c", b"1");
    conflicts(&place, &["merge", "side"]);
    place.ok(&["reset", "--hard"]);
    assert_eq!(place.json(&["status"])["merge"], Value::Null);
}

#[test]
fn a_side_of_a_folder_is_that_of_its_conflicts_alone() {
    let place = fork(
        &[("models/a", Some(b"1")), ("models/b", Some(b"1")), ("models/d", Some(b"1"))],
        &[
            ("models/a", Some(b"2")),
            ("models/b", Some(b"2")),
            ("models/c", Some(b"2")),
            ("models/d", Some(b"2")),
            ("models/e", Some(b"2")),
        ],
        &[("models/a", Some(b"3")), ("models/d", Some(b"3"))],
    );
    conflicts(&place, &["merge", "side"]);
    place.write("models/b", b"edited");
    place.write("models/e", b"staged");
    place.ok(&["add", "models/e"]);
    // What was decided by its own name stays so.
    place.write("models/d", b"2 and 3");
    place.ok(&["add", "models/d"]);
    let files = || ["a", "b", "c", "d", "e"].map(|name| place.read(&format!("models/{name}")));
    let expected = |a: &[u8]| [a, b"edited", b"2", b"2 and 3", b"staged"].map(<[u8]>::to_vec);
    let report = place.json(&["checkout", "--theirs", "models"]);
    assert_eq!((&report["written"], &report["removed"]), (&json!([{"path": "models/a", "size": 1}]), &json!([])));
    assert_eq!(files(), expected(b"3"));
    assert_eq!(place.ok(&["status", "-s"]), "M  models/a\n M models/b\nM  models/d\nM  models/e\n");
    assert_eq!(place.json(&["status"])["merge"]["resolved"], json!(["models/a", "models/d"]));
    // Another side of what is decided is taken by its own name.
    let hints = ["`shard status`", "`shard checkout REV PATH`"];
    place.fails(&["checkout", "--ours", "."], 4, &[&[". is not in conflict"], &hints[..]].concat());
    place.ok(&["checkout", "--ours", "models/a"]);
    assert_eq!(files(), expected(b"2"));
    place.ok(&["checkout", "--theirs", "models/a"]);
    for path in ["models/b", "models/c", "nowhere"] {
        place.fails(&["checkout", "--theirs", path], 4, &[&format!("{path} is not in conflict")]);
    }
    assert_eq!(files(), expected(b"3"));
    place.ok(&["merge", "--continue"]);
    assert_eq!((files(), place.ok(&["status", "-s"])), (expected(b"3"), " M models/b\n".to_owned()));
    place.ok(&["checkout", "HEAD", "models/b"]);
    assert_eq!(place.read("models/b"), b"2");
}

#[test]
fn a_folder_in_the_place_of_a_file_is_decided_as_one() {
    let folder: Files<'_> = &[("d/e", Some(b"1")), ("d/f", Some(b"1"))];
    let place = fork(&[("x", Some(b"1"))], folder, &[("d", Some(b"file"))]);
    assert_eq!(lines(&conflicts(&place, &["merge", "side"])), ["file/directory d d/e"]);
    place.write("d/e", b"edited");
    place.fails(&["checkout", "--theirs", "d"], 4, &["not staged would be lost: d/e", "move them elsewhere"]);
    // Ours is there already.
    place.ok(&["checkout", "--ours", "d/f"]);
    assert_eq!(
        (place.read("d/e"), place.json(&["status"])["merge"]["resolved"].clone()),
        (b"edited".to_vec(), json!(["d"]))
    );
    fs::rename(place.path().join("d/e"), place.path().join("mine")).unwrap();
    place.ok(&["checkout", "--theirs", "d"]);
    place.ok(&["merge", "--continue"]);
    assert_eq!((place.read("d"), place.ok(&["status", "-s"])), (b"file".to_vec(), "?? mine\n".to_owned()));
    // By a path below it, which theirs alone has.
    let place = fork(&[("x", Some(b"1"))], &[("d", Some(b"file"))], folder);
    conflicts(&place, &["merge", "side"]);
    place.fails(&["checkout", "--theirs", "d/nowhere"], 4, &["d/nowhere is not in conflict"]);
    place.ok(&["checkout", "--theirs", "d/f"]);
    assert_eq!((place.read("d/e"), place.read("d/f")), (b"1".to_vec(), b"1".to_vec()));
    place.ok(&["merge", "--continue"]);
    assert_eq!(place.ok(&["status", "-s"]), "");
}

#[test]
fn giving_up_loses_no_edit_that_was_never_staged() {
    let place = fork(
        &[("a", Some(b"1")), ("b", Some(b"1")), ("gone", Some(b"1"))],
        &[("a", Some(b"2"))],
        &[("b", Some(b"2")), ("c", Some(b"2")), ("gone", None)],
    );
    let file = |path: &str| fs::read(place.path().join(path)).ok();
    place.ok(&["merge", "side", "--no-commit"]);
    // Changed by the merge, brought by it, removed by it; and what it has nothing to do with.
    for path in ["a", "b", "c", "gone"] {
        place.write(path, b"mine");
    }
    let mine = Some(b"mine".to_vec());
    place.fails(&["merge", "--abort"], 4, &["not staged would be lost: b, c, gone", "move them elsewhere", "--force"]);
    assert!(["a", "b", "c", "gone"].iter().all(|path| file(path) == mine));
    assert_eq!(place.json(&["status"])["merge"]["staged"], true);
    assert_eq!(place.run(&["merge", "side", "--force"]).code, 2);
    place.ok(&["merge", "--abort", "--force"]);
    let one = Some(b"1".to_vec());
    assert_eq!((file("a"), file("b"), file("c"), file("gone")), (mine.clone(), one.clone(), None, one));
    assert_eq!((place.ok(&["status", "-s"]), &place.json(&["status"])["merge"]), (" M a\n".to_owned(), &Value::Null));
    // Moved away as the hint says, they are nothing to lose.
    place.ok(&["merge", "side", "--no-commit"]);
    place.write("c", b"mine");
    fs::rename(place.path().join("c"), place.path().join("kept")).unwrap();
    place.ok(&["merge", "--abort"]);
    assert_eq!((file("b"), file("c"), file("kept")), (Some(b"1".to_vec()), None, mine));

    // What is written into a file in conflict decides about it, and is given up with the merge.
    let place = fork(&[("a", Some(b"1"))], &[("a", Some(b"2"))], &[("a", Some(b"3"))]);
    conflicts(&place, &["merge", "side"]);
    place.write("a", b"2 and 3");
    place.ok(&["merge", "--abort"]);
    assert_eq!((place.read("a"), place.ok(&["status", "-s"])), (b"2".to_vec(), String::new()));
}

#[test]
fn a_result_may_be_looked_at_before_it_is_committed() {
    let place =
        fork(&[("a", Some(b"1")), ("b", Some(b"1"))], &[("a", Some(b"2"))], &[("b", Some(b"2")), ("c", Some(b"1"))]);
    let before = head(&place, "main");
    let text = place.ok(&["merge", "side", "--no-commit"]);
    assert!(text.contains("`shard merge --continue`"), "{text}");
    assert_eq!((head(&place, "main"), place.ok(&["status", "-s"])), (before.clone(), "M  b\nA  c\n".to_owned()));
    assert_eq!(place.json(&["status"])["merge"]["staged"], true);
    place.ok(&["merge", "--abort"]);
    assert_eq!((place.ok(&["status", "-s"]), place.path().join("c").exists()), (String::new(), false));
    place.ok(&["merge", "side", "--no-commit"]);
    place.write("b", b"edited");
    place.ok(&["add", "b"]);
    place.ok(&["merge", "--continue", "-m", "With an edit"]);
    assert_eq!((place.read("b"), place.ok(&["status", "-s"])), (b"edited".to_vec(), String::new()));
    assert_eq!(place.json(&["show"])["parents"][0], json!(before));
}

#[test]
fn what_is_told_to_do_about_changes_in_the_way_works() {
    let hint = |place: &Place, args: &[&str], code: i32, expected: &[&str]| {
        place.fails(args, code, expected);
        let said = place.run(args).err;
        assert!(!said.contains("--force"), "there is no such option: {said}");
    };
    let base: Files<'_> = &[("a", Some(b"1")), ("plain", Some(b"1"))];
    let place = fork(base, &[("a", Some(b"2"))], &[("a", Some(b"3")), ("plain", Some(b"3")), ("new", Some(b"3"))]);
    place.write("plain", b"mine");
    hint(&place, &["merge", "side"], 4, &["plain", "commit them", "move them away"]);
    place.write("plain", b"1");
    for is_given_up in [true, false] {
        conflicts(&place, &["merge", "side"]);
        place.ok(&["checkout", "--theirs", "a"]);
        place.write("plain", b"mine");
        place.write("new", b"mine");
        let lost =
            ["changes that no commit has would be lost: new, plain", "move them elsewhere", "`shard merge --abort`"];
        hint(&place, &["merge", "--continue"], 4, &lost);
        place.ok(&["add", "plain", "new"]);
        let lost = [
            "staged since the merge began would be lost, since the merge changes it too: new, plain",
            "`shard checkout HEAD PATH` takes it back",
            "`shard add PATH` after the file is moved away",
            "`shard merge --abort` gives up",
        ];
        hint(&place, &["merge", "--continue"], 4, &lost);
        if is_given_up {
            place.ok(&["merge", "--abort"]);
            assert_eq!((place.read("plain"), place.ok(&["status", "-s"])), (b"1".to_vec(), String::new()));
        }
    }
    place.ok(&["checkout", "HEAD", "plain"]);
    fs::remove_file(place.path().join("new")).unwrap();
    place.ok(&["add", "new"]);
    place.ok(&["merge", "--continue"]);
    let files = ["a", "plain", "new"].map(|path| place.read(path));
    assert_eq!((files, place.ok(&["status", "-s"])), ([b"3"; 3].map(|bytes| bytes.to_vec()), String::new()));
}

#[test]
fn a_merge_that_waits_outlives_what_tidies() {
    let (base, ours, theirs) = (but(&[]), but(&[("a.weight", 1.01)]), but(&[("a.weight", 1.02), ("c.weight", 3.02)]));
    let place = fork_models(&base, &ours, &theirs);
    place.ok(&["branch", "other", "side"]);
    conflicts(&place, &["merge", "side"]);
    let before = head(&place, "main");
    // The branch that is merged into stays where it is.
    let commit = ["commit", "-m", "more", "--revision", "main", "--add", "more.safetensors=model.safetensors"];
    for args in [&["squash"][..], &["squash", "main"], &["forget", "--keep-last", "1"], &commit] {
        place.fails(args, 4, &["a merge is under way", "merge --abort"]);
    }
    assert_eq!(head(&place, "main"), before);
    // Other branches may be rewritten, even that which is merged and goes then; nothing that the merge needs is collected.
    place.ok(&["squash", "other"]);
    place.ok(&["squash", "side"]);
    place.ok(&["branch", "-D", "other"]);
    place.ok(&["optimize"]);
    place.ok(&["gc", "--prune-now"]);
    place.ok(&["checkout", "--theirs", "model.safetensors"]);
    let json = place.json(&["merge", "--continue"]);
    assert_eq!(json["status"], "merged");
    assert_eq!(place.read("model.safetensors"), theirs);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    place.ok(&["squash"]);
    assert_eq!(place.read("model.safetensors"), theirs);
}

/// A merge of `side` with a conflict in `f`; `side` also changed `g` and added `h`.
fn open_conflict() -> Place {
    let place = fork(
        &[("f", Some(b"1")), ("g", Some(b"1"))],
        &[("f", Some(b"main"))],
        &[("f", Some(b"side")), ("g", Some(b"side")), ("h", Some(b"side"))],
    );
    conflicts(&place, &["merge", "side"]);
    place
}

#[test]
fn what_a_merge_began_from_stays_while_it_waits() {
    let files = |place: &Place| ["f", "g", "h"].map(|path| fs::read(place.path().join(path)).unwrap_or_default());
    let place = open_conflict();
    let refused = ["a merge is under way", "`shard merge --continue`", "`shard merge --abort`"];
    place.ok(&["checkout", "--theirs", "f"]);
    let before = (head(&place, "main"), place.json(&["status"]));
    let made = place.json(&["operations"])["operations"].as_array().unwrap().clone();
    let commit = made.iter().find(|made| made["message"] == "commit: Ours").unwrap()["id"].as_str().unwrap();
    for args in [
        &["reset"][..],
        &["reset", "--mixed", "HEAD~1"],
        &["reset", "--soft", "HEAD~1"],
        &["branch", "-m", "trunk"],
        &["undo", commit],
        &["undo", "--dry-run", commit],
    ] {
        place.fails(args, 4, &refused);
        assert_eq!((head(&place, "main"), place.json(&["status"])), before, "{args:?}");
    }
    // Another branch has nothing to do with it.
    place.ok(&["branch", "other"]);
    place.ok(&["reset", "HEAD~1", "-r", "other"]);
    place.ok(&["branch", "-m", "other", "elsewhere"]);
    place.ok(&["merge", "--continue"]);
    assert_eq!(files(&place), [b"side"; 3].map(|bytes| bytes.to_vec()));

    // All staged, and nothing of it lost by a reset.
    let place = open_conflict();
    place.ok(&["merge", "--abort"]);
    place.ok(&["merge", "side", "--strategy", "theirs", "--no-commit"]);
    place.fails(&["reset"], 4, &refused);
    place.ok(&["merge", "--continue"]);
    assert_eq!(files(&place), [b"side"; 3].map(|bytes| bytes.to_vec()));

    // A hard one gives the merge up.
    let place = open_conflict();
    place.ok(&["checkout", "--theirs", "f"]);
    place.ok(&["reset", "--hard", "--force"]);
    assert_eq!(
        (files(&place), &place.json(&["status"])["merge"]),
        ([&b"main"[..], b"1", b""].map(<[u8]>::to_vec), &Value::Null)
    );
}

#[test]
fn a_decision_is_one_operation() {
    let place = open_conflict();
    for decide in [&["checkout", "--theirs", "f"][..], &["checkout", "side", "f"], &["add", "f"]] {
        let is_checkout = decide[0] == "checkout";
        if !is_checkout {
            place.write("f", b"both");
        }
        let before = place.json(&["operations"])["operations"].as_array().unwrap().len();
        place.ok(decide);
        assert_eq!(place.json(&["status"])["merge"]["resolved"], json!(["f"]), "{decide:?}");
        assert_eq!(place.json(&["operations"])["operations"].as_array().unwrap().len(), before + 1, "{decide:?}");
        place.ok(&["undo"]);
        let status = place.json(&["status"]);
        assert_eq!((&status["merge"]["resolved"], &status["staged"]), (&json!([]), &json!([])), "{decide:?}");
        // What was added came from the work tree, and stays there.
        assert_eq!(place.read("f"), if is_checkout { &b"main"[..] } else { b"both" }, "{decide:?}");
    }
}

#[test]
fn status_says_what_a_merge_waits_for() {
    let place = open_conflict();
    let text = place.ok(&["status"]);
    assert!(text.contains("Merge under way") && !text.contains("Nothing to commit"), "{text}");
    assert_eq!(
        (place.json(&["status"])["clean"].clone(), place.run(&["status", "--exit-code"]).code),
        (json!(false), 1)
    );
    place.ok(&["checkout", "--theirs", "f"]);
    let text = place.ok(&["status"]);
    assert!(text.contains("(`shard merge --continue` records them)") && !text.contains("`shard commit`"), "{text}");
    place.ok(&["merge", "--continue"]);
    assert_eq!(
        (place.json(&["status"])["clean"].clone(), place.run(&["status", "--exit-code"]).code),
        (json!(true), 0)
    );
    assert_eq!(place.json(&["status"])["bisect"], false);
    place.ok(&["bisect", "start"]);
    let text = place.ok(&["status"]);
    assert!(text.contains("Bisect under way (`shard bisect log`"), "{text}");
    assert_eq!(place.json(&["status"])["bisect"], true);
}

#[test]
fn rules_that_have_nothing_to_decide_are_refused() {
    let refused = ["everything is decided already", "without --strategy and --rule", "--abort"];
    let place = open_conflict();
    place.ok(&["checkout", "--ours", "f"]);
    place.fails(&["merge", "--continue", "--rule", "*=theirs"], 4, &refused);
    place.fails(&["merge", "--continue", "--strategy", "theirs"], 4, &refused);
    place.ok(&["merge", "--continue"]);
    assert_eq!(place.read("f"), b"main");
    let place = open_conflict();
    place.ok(&["merge", "--abort"]);
    place.ok(&["merge", "side", "--strategy", "ours", "--no-commit"]);
    place.fails(&["merge", "--continue", "--strategy", "theirs"], 4, &refused);
    place.ok(&["merge", "--continue"]);
    assert_eq!(place.read("f"), b"main");
}
