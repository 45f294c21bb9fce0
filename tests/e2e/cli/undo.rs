//! `operations`, `undo`.

use std::fs;

use crate::place::Place;

fn id(place: &Place, revision: &str) -> String {
    place.json(&["log", revision, "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned()
}

/// The ids and messages of all operations, newest first.
fn operations(place: &Place) -> Vec<(String, String)> {
    let json = place.json(&["operations"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let operations = json["operations"].as_array().unwrap().iter();
    operations.map(|operation| (text(&operation["id"]), text(&operation["message"]))).collect()
}

fn status(place: &Place) -> String {
    place.ok(&["status", "-s"])
}

#[test]
fn the_log_of_operations_says_what_moved() {
    let place = Place::with_history();
    let messages: Vec<String> = operations(&place).into_iter().map(|(_, message)| message).collect();
    assert_eq!(messages, ["commit: Second", "add", "commit: First", "add", "init"]);
    let json = place.json(&["op", "log", "-n", "1"]);
    let moved = &json["operations"][0]["moves"][0];
    assert_eq!(moved["ref"], "heads/main");
    assert_eq!(moved["old"], format!("commit {}", id(&place, "main~1")));
    assert_eq!(moved["new"], format!("commit {}", id(&place, "main")));
    let out = place.ok(&["operations", "-n", "2"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].contains("commit: Second") && lines[1].ends_with("heads/main"), "{out}");
    assert!(lines[2].contains(" add ") && lines[2].ends_with("stage"), "{out}");
    assert_eq!(lines.len(), 3);

    // A state that is damaged is told, and the rest is known.
    let states = place.path().join(".shard/refs/tags%2fv1");
    fs::write(fs::read_dir(states).unwrap().next().unwrap().unwrap().path(), "torn").unwrap();
    let run = place.run(&["operations"]);
    assert_eq!(run.code, 5, "{}", run.err);
    assert!(run.out.contains("commit: First") && run.err.contains("tags%2fv1"), "{}{}", run.out, run.err);
}

#[test]
fn a_commit_is_undone_and_done_again() {
    let place = Place::with_history();
    let (first, second) = (id(&place, "v1"), id(&place, "main"));
    let work = place.read("model.safetensors");
    let dry = place.ok(&["undo", "--dry-run"]);
    assert!(dry.starts_with("Would undo ") && dry.contains("commit: Second") && dry.contains(&first[..12]), "{dry}");
    assert_eq!(id(&place, "main"), second);
    let out = place.ok(&["undo"]);
    assert!(out.starts_with("Undid ") && out.contains("heads/main"), "{out}");
    // What was staged is staged again.
    assert_eq!((id(&place, "main"), status(&place)), (first.clone(), "M  model.safetensors\n".to_owned()));
    let json = place.json(&["undo"]);
    assert_eq!((json["message"].as_str(), json["files"].as_bool()), (Some("redo: commit: Second"), Some(false)));
    assert_eq!((id(&place, "main"), status(&place)), (second.clone(), String::new()));
    assert_eq!(place.read("model.safetensors"), work);
    assert_eq!(operations(&place)[0].1, "redo: commit: Second");

    // One after the other, back to the beginning: each is named, since the last one is what was undone.
    let all = operations(&place);
    for (id, message) in all.iter().skip(2) {
        if message == "init" {
            place.fails(&["undo", id], 4, &["made the repository"]);
        } else {
            place.ok(&["undo", &id[..8]]);
        }
    }
    assert_eq!(status(&place), "?? model.safetensors\n?? notes.txt\n");
    assert_eq!(place.ok(&["tag"]), "");
    place.fails(&["log"], 3, &["no commits yet"]);
    assert_eq!(place.read("model.safetensors"), work);
    // And all of it again.
    for (id, _) in operations(&place).iter().take(4).collect::<Vec<_>>() {
        place.ok(&["undo", id]);
    }
    assert_eq!((id(&place, "main"), id(&place, "v1"), status(&place)), (second, first, String::new()));
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn a_checkout_takes_the_work_tree_back() {
    let place = Place::with_history();
    let (old, new) = (place.json(&["show", "v1:model.safetensors"])["sha256"].clone(), place.read("model.safetensors"));
    place.ok(&["checkout", "v1"]);
    assert_eq!(place.json(&["show", "./model.safetensors"])["sha256"], old);
    // What is not committed is not lost, and nothing has moved.
    place.write("model.safetensors", b"mine");
    place.fails(&["undo"], 4, &["would be lost: model.safetensors", "--force"]);
    assert_eq!(place.read("model.safetensors"), b"mine");
    assert_eq!(place.ok(&["branch", "--show-current"]), "");
    place.write("notes.txt", b"kept");
    let out = place.ok(&["undo", "--force"]);
    assert!(out.contains("HEAD") && out.contains("heads/main") && out.contains("file"), "{out}");
    assert_eq!(place.read("model.safetensors"), new);
    assert_eq!(place.ok(&["branch", "--show-current"]), "main\n");

    // Changes in files that are the same on both sides come along.
    let place = Place::with_history();
    place.ok(&["checkout", "-b", "side", "v1"]);
    place.write("notes.txt", b"kept");
    let json = place.json(&["undo"]);
    assert_eq!((json["written"].as_array().unwrap().len(), json["files"].as_bool()), (1, Some(true)));
    assert_eq!(place.read("notes.txt"), b"kept");
    assert_eq!((place.ok(&["branch"]), status(&place)), ("* main\n".to_owned(), " M notes.txt\n".to_owned()));
    place.ok(&["undo"]);
    assert_eq!(place.ok(&["branch"]), "  main\n* side\n");
    assert_eq!(status(&place), " M notes.txt\n");

    // Files that were taken from a revision go back to what they were in the stage.
    let place = Place::with_history();
    place.ok(&["checkout", "v1", "model.safetensors"]);
    assert_eq!(status(&place), "M  model.safetensors\n");
    place.ok(&["undo"]);
    assert_eq!((status(&place), place.read("model.safetensors")), (String::new(), new));
}

#[test]
fn resets_take_along_what_they_took() {
    let place = Place::with_history();
    let (second, new) = (id(&place, "main"), place.read("model.safetensors"));
    place.ok(&["reset", "--hard", "v1"]);
    assert_ne!(place.read("model.safetensors"), new);
    place.ok(&["undo"]);
    assert_eq!((id(&place, "main"), place.read("model.safetensors")), (second.clone(), new.clone()));
    assert_eq!(status(&place), "");
    // A reset that left the files alone is undone in the same way.
    place.ok(&["reset", "v1"]);
    assert_eq!(status(&place), " M model.safetensors\n");
    place.ok(&["undo"]);
    assert_eq!((id(&place, "main"), status(&place), place.read("model.safetensors")), (second, String::new(), new));
    // What `add` read stays in the work tree.
    place.write("notes.txt", b"two");
    place.write("new.txt", b"new");
    place.ok(&["add", "notes.txt", "new.txt"]);
    place.ok(&["undo"]);
    assert_eq!(status(&place), " M notes.txt\n?? new.txt\n");
    assert_eq!(place.read("notes.txt"), b"two");
}

#[test]
fn branches_and_tags_come_back() {
    let place = Place::with_history();
    let (first, second) = (id(&place, "v1"), id(&place, "main"));
    place.ok(&["branch", "old", "v1"]);
    place.ok(&["branch", "-D", "old"]);
    place.ok(&["undo"]);
    assert_eq!(id(&place, "old"), first);
    place.ok(&["tag", "-m", "Release", "v2"]);
    let tag = place.json(&["tag", "-l", "v2"]);
    place.ok(&["tag", "-f", "v2", "v1"]);
    place.ok(&["undo"]);
    assert_eq!(place.json(&["tag", "-l", "v2"]), tag);
    place.ok(&["tag", "-d", "v2"]);
    place.ok(&["undo"]);
    assert_eq!(id(&place, "v2"), second);
    place.ok(&["branch", "-m", "trunk"]);
    place.ok(&["undo"]);
    let json = place.json(&["branch"]);
    assert_eq!((json["current"].as_str(), json["default"].as_str()), (Some("main"), Some("main")));
    assert_eq!(id(&place, "main"), second);
    place.fails(&["show", "trunk"], 3, &["trunk"]);

    // What is in the way of a name that comes back is told.
    place.ok(&["branch", "-D", "old"]);
    let gone = operations(&place)[0].0.clone();
    place.ok(&["branch", "OLD"]);
    place.fails(&["undo", &gone], 4, &["where case does not count"]);
    // The branch that is checked out stays.
    let made = operations(&place)[0].0.clone();
    place.ok(&["checkout", "OLD"]);
    place.fails(&["undo", &made], 4, &["\"OLD\" is checked out"]);
}

#[test]
fn what_was_moved_later_is_not_undone() {
    let place = Place::with_history();
    let all = operations(&place);
    let first = all.iter().find(|(_, message)| message == "commit: First").unwrap().0.clone();
    place.fails(&["undo", &first], 4, &["heads/main was moved again", "commit: Second", "shard operations"]);
    place.fails(&["undo", "ffff"], 3, &["there is no operation \"ffff\""]);
    place.fails(&["undo", &first[..2]], 3, &["operation"]);
    place.fails(&["undo", "../x"], 3, &["there is no operation"]);
    let place = Place::new();
    place.ok(&["init"]);
    place.fails(&["undo"], 4, &["nothing was done yet"]);
    // Other clocks: the chain of a ref tells what was last, whatever they say.
    let place = Place::with_history();
    let states = place.path().join(".shard/refs/heads%2fmain");
    let newest = fs::read_dir(&states).unwrap().map(|file| file.unwrap().path()).min().unwrap();
    let text = fs::read_to_string(&newest).unwrap();
    let created = text.lines().find(|line| line.starts_with("created ")).unwrap();
    let text = text.replace(created, "created 1999-01-01T00:00:00Z");
    let body = text.split("checksum ").next().unwrap();
    fs::write(&newest, format!("{body}checksum {}\n", crate::place::hex(body.as_bytes()))).unwrap();
    let messages: Vec<String> = operations(&place).into_iter().map(|(_, message)| message).collect();
    let place_of = |wanted: &str| messages.iter().position(|message| message == wanted).unwrap();
    assert!(place_of("commit: Second") < place_of("commit: First"), "{messages:?}");
}

#[test]
fn what_is_protected_is_refused_before_files_are_touched() {
    let place = Place::with_history();
    let (second, new) = (id(&place, "main"), place.read("model.safetensors"));
    place.ok(&["reset", "--hard", "v1"]);
    let old = place.read("model.safetensors");
    place.ok(&["reset", "--hard", "main@{1}"]);
    let forward = operations(&place)[0].0.clone();
    place.ok(&["protect", "main"]);
    let refused = ["cannot lose commits", "nothing was changed", "protect --remove"];
    for args in [
        &["reset", "--hard", "v1"][..],
        &["reset", "--hard", "--force", "v1"],
        &["undo", &forward],
        &["undo", "--force", &forward],
        &["undo", "--dry-run", &forward],
    ] {
        place.write("notes.txt", b"mine");
        place.fails(args, 4, &refused);
        assert_eq!((id(&place, "main"), status(&place)), (second.clone(), " M notes.txt\n".to_owned()), "{args:?}");
        assert!(place.read("model.safetensors") == new && place.read("notes.txt") == b"mine", "{args:?}");
    }
    place.write("notes.txt", b"one");
    place.ok(&["protect", "--remove", "main"]);
    place.ok(&["undo", &forward]);
    assert_eq!(place.read("model.safetensors"), old);
}

#[test]
fn a_commit_by_paths_leaves_the_work_tree_when_it_is_undone() {
    let place = Place::with_history();
    place.write("new.txt", b"precious");
    place.write("notes.txt", b"edited");
    let before = status(&place);
    place.ok(&["commit", "-m", "Paths", "--add", "new.txt=new.txt", "--add", "notes.txt=notes.txt"]);
    assert_eq!(status(&place), "");
    for expected in [&before[..], "", &before] {
        assert_eq!(place.json(&["undo"])["files"], false);
        assert_eq!(status(&place), expected);
        assert_eq!((place.read("new.txt"), place.read("notes.txt")), (b"precious".to_vec(), b"edited".to_vec()));
    }
}

#[test]
fn only_files_of_the_operation_are_overwritten() {
    let place = Place::with_history();
    place.write("b", b"1");
    place.write("gone", b"1");
    place.ok(&["add", "."]);
    place.ok(&["commit", "-m", "Third"]);
    place.ok(&["checkout", "-b", "side"]);
    place.write("notes.txt", b"two");
    place.ok(&["add", "."]);
    place.ok(&["commit", "-m", "Fourth"]);
    place.ok(&["checkout", "main"]);
    place.ok(&["merge", "side"]);
    place.write("notes.txt", b"mine");
    place.write("b", b"mine");
    fs::remove_file(place.path().join("gone")).unwrap();
    let run = place.run(&["undo"]);
    assert!(run.code == 4 && run.err.contains("would be lost: notes.txt\n"), "{}", run.err);
    place.ok(&["undo", "--force"]);
    assert_eq!((place.read("notes.txt"), place.read("b")), (b"one".to_vec(), b"mine".to_vec()));
    assert_eq!(status(&place), " M b\n D gone\n");
    // Nor is what was removed by hand brought back by the way.
    place.ok(&["checkout", "v1", "model.safetensors"]);
    let json = place.json(&["undo"]);
    assert_eq!(json["written"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(status(&place), " M b\n D gone\n");
}
