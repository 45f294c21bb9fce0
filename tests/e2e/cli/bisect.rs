//! `bisect`.

use crate::place::{Place, model};

/// A repository with so many commits, each with another `m.safetensors`: from number `bad` on tensor `b` has a NaN, and `a` grows.
fn history(commits: usize, bad: usize) -> (Place, Vec<String>) {
    let place = Place::new();
    place.ok(&["init"]);
    let ids = (0..commits).map(|number| {
        let b = if number >= bad { f32::NAN } else { 1.0 };
        place.write(
            "m.safetensors",
            &model(&[("a", &[number as f32, -0.5]), ("b", &[b, number as f32]), ("c", &[7.0])]),
        );
        place.write("number", format!("{number}\n").as_bytes());
        place.ok(&["add", "."]);
        place.json(&["commit", "-m", &format!("Step {number}")])["id"].as_str().unwrap().to_owned()
    });
    let ids = ids.collect();
    (place, ids)
}

#[test]
fn by_hand_as_git_does() {
    let (place, ids) = history(9, 5);
    let json = place.json(&["bisect", "start", "HEAD", &ids[0]]);
    assert_eq!((json["next"]["id"].as_str(), json["branch"].as_str()), (Some(ids[4].as_str()), Some("main")));
    assert_eq!(place.read("number"), b"4\n");
    place.fails(&["bisect", "start"], 4, &["started already", "bisect reset"]);
    let out = place.ok(&["bisect", "good"]);
    assert!(out.contains("left to test") && out.contains("Step 6"), "{out}");
    let json = place.json(&["bisect", "skip"]);
    let next = json["next"]["title"].as_str().unwrap().to_owned();
    assert!(next == "Step 5" || next == "Step 7", "{json}");
    // What was marked wrongly is taken back like anything else, with what was checked out for it.
    place.ok(&["undo"]);
    assert_eq!(place.read("number"), b"6\n");
    place.ok(&["bisect", "bad"]);
    let out = place.ok(&["bisect", "bad", &ids[5]]);
    assert!(out.contains("The first bad commit is") && out.contains(&ids[5][..12]) && out.contains("Step 5"), "{out}");
    let log = place.ok(&["bisect", "log"]);
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines[0], "shard bisect start");
    assert!(lines.contains(&format!("shard bisect good {}", ids[4]).as_str()), "{log}");
    assert!(lines.contains(&format!("shard bisect bad {}", ids[5]).as_str()), "{log}");
    assert_eq!(place.json(&["bisect", "log"])["found"][0]["id"], ids[5]);
    assert!(place.ok(&["bisect", "reset"]).contains("on branch main"));
    assert_eq!((place.read("number"), place.ok(&["status", "-s"])), (b"8\n".to_vec(), String::new()));
    for args in [&["bisect", "log"][..], &["bisect", "good"], &["bisect", "reset"], &["bisect", "run", "true"]] {
        place.fails(args, 4, &["no bisect was started"]);
    }
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn contradictions_and_changes_are_told() {
    let (place, ids) = history(4, 2);
    assert!(place.ok(&["bisect", "start"]).contains("bisect bad REV"));
    assert!(place.ok(&["bisect", "bad", &ids[1]]).contains("Waiting for a good commit"));
    place.fails(&["bisect", "good", &ids[3]], 4, &["it was mended between them"]);
    place.fails(&["bisect", "good", &ids[1]], 4, &["both good and bad"]);
    place.fails(&["bisect", "good", "nowhere"], 3, &["nowhere"]);
    assert!(place.ok(&["bisect", "good", &ids[0]]).contains("The first bad commit is"));
    place.ok(&["bisect", "reset"]);
    // Changes that no commit has are not lost.
    place.write("number", b"mine");
    place.fails(&["bisect", "start", "HEAD", &ids[0]], 4, &["would be lost: number"]);
    assert_eq!(place.read("number"), b"mine");
    place.fails(&["bisect", "log"], 4, &["no bisect was started"]);
}

#[test]
fn by_a_command() {
    let (place, ids) = history(12, 7);
    place.ok(&["bisect", "start", "HEAD", &ids[0]]);
    let test = "n=$(cat number); [ $n = 6 ] && exit 125; [ $n -lt 7 ]";
    let out = place.ok(&["bisect", "run", "sh", "-c", test]);
    assert!(out.contains(&ids[7][..12]) || out.contains("one of these"), "{out}");
    place.ok(&["bisect", "reset"]);
    place.ok(&["bisect", "start", "HEAD", &ids[0]]);
    // What comes after the command is the command's. What it prints is no part of the document.
    let run = place.run(&["--json", "bisect", "run", "sh", "-c", "echo seen; [ $(cat number) -lt 7 ]"]);
    assert!(run.code == 0 && run.err.contains("seen"), "{}", run.err);
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(json["found"][0]["id"], ids[7]);
    assert_eq!(json["found"].as_array().unwrap().len(), 1);
    place.ok(&["bisect", "reset"]);
    // A command that breaks stops it, and it goes on from there.
    place.ok(&["bisect", "start", "HEAD", &ids[0]]);
    place.fails(&["bisect", "run", "sh", "-c", "exit 130"], 4, &["the search stopped", "bisect reset"]);
    place.fails(&["bisect", "run", "/no/such/program"], 3, &["/no/such/program"]);
    let out = place.ok(&["bisect", "run", "sh", "-c", "test $(cat number) -lt 7"]);
    assert!(out.contains("The first bad commit is"), "{out}");
    // What is only skipped stays open.
    place.ok(&["bisect", "reset"]);
    place.ok(&["bisect", "start", &ids[3], &ids[0]]);
    let run = place.run(&["--json", "bisect", "run", "sh", "-c", "exit 125"]);
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let found: Vec<&str> = json["found"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(found, [ids[3].as_str(), &ids[2], &ids[1]]);
}

#[test]
fn by_a_question_about_tensors() {
    let (place, ids) = history(20, 13);
    place.write("number", b"mine");
    let ask =
        |question: &str, more: &[&str]| place.json(&[&["bisect", "--tensor", "*", "--where", question], more].concat());
    let json = ask("has nan", &["HEAD", &ids[0]]);
    assert_eq!(json["found"][0]["id"], ids[13]);
    let tested = json["tested"].as_array().unwrap();
    assert!(tested.len() <= 8, "{json}");
    assert_eq!(tested[0]["tensors"], serde_json::json!([{"path": "m.safetensors", "name": "b"}]));
    assert_eq!(ask("absmax > 9.5", &[])["found"][0]["id"], ids[10]);
    let json = place.json(&["bisect", "--tensor", "a", "--where", "mean >= 2", "main", "main~19"]);
    assert_eq!(json["found"][0]["id"], ids[5]);
    // Nothing was checked out or marked.
    assert_eq!(
        (place.read("number"), place.ok(&["branch", "--show-current"])),
        (b"mine".to_vec(), "main\n".to_owned())
    );
    place.fails(&["bisect", "log"], 4, &["no bisect was started"]);
    let out = place.ok(&["bisect", "--tensor", "b", "--where", "has nan"]);
    assert!(
        out.contains("The first bad commit is") && out.contains("Step 13") && out.contains("nan > 0: m.safetensors: b"),
        "{out}"
    );
}

#[test]
fn questions_that_have_no_answer() {
    let (place, ids) = history(4, 9);
    let fails = |tensor: &str, question: &str, more: &[&str], code: i32, text: &str| {
        place.fails(&[&["bisect", "--tensor", tensor, "--where", question], more].concat(), code, &[text]);
    };
    fails("*", "has nan", &[], 4, "should be the bad commit");
    fails("a", "max >= 0", &["HEAD", &ids[1]], 4, "should be a good commit");
    fails("*", "is odd", &[], 2, "is not a question");
    fails("[", "has nan", &[], 2, "no pattern");
    fails("*", "changed since nowhere", &[], 3, "nowhere");
    assert_eq!(place.run(&["bisect", "--tensor", "*"]).code, 2);
    assert_eq!(place.run(&["bisect"]).code, 2);
    let json =
        place.json(&["bisect", "--tensor", "a", "--where", &format!("changed since {}", ids[1]), "HEAD", &ids[1]]);
    assert_eq!(json["found"][0]["id"], ids[2]);
}

#[test]
fn tensors_of_one_name_in_several_files() {
    let place = Place::new();
    place.ok(&["init"]);
    let nan = model(&[("w", &[f32::NAN, 1.0])]);
    let ids: Vec<String> = (0..8)
        .map(|number| {
            // Only the first of two files has what is looked for, and only it changes.
            let first = if number >= 3 { nan.clone() } else { model(&[("w", &[number as f32, 1.0])]) };
            place.write("a.safetensors", &first);
            place.write("b.safetensors", &model(&[("w", &[1.0, 2.0])]));
            place.write("number", format!("{number}").as_bytes());
            place.ok(&["add", "."]);
            place.json(&["commit", "-m", &format!("Step {number}")])["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let json = place.json(&["bisect", "--tensor", "w", "--where", "has nan", "HEAD", &ids[0]]);
    assert_eq!(json["found"][0]["id"], ids[3]);
    assert_eq!(json["tested"][0]["tensors"], serde_json::json!([{"path": "a.safetensors", "name": "w"}]));
    let since = format!("changed since {}", ids[2]);
    let json = place.json(&["bisect", "--tensor", "w", "--where", &since, "HEAD", &ids[2]]);
    assert_eq!(json["found"][0]["id"], ids[3]);
    // A pattern that nothing matches says nothing of any commit.
    for question in ["has nan", "not has nan", &since] {
        let args = ["bisect", "--tensor", "typo.*", "--where", question];
        place.fails(&args, 3, &["no tensor of", "\"typo.*\"", "shard show"]);
    }
    let args = ["bisect", "--tensor", "w", "--where", "has nan", "--path", "number"];
    place.fails(&args, 3, &["no tensor of", ":number matches"]);
}

#[test]
fn a_bare_repository_has_nothing_to_check_out() {
    let place = Place::new();
    place.ok(&["init", "--bare", "models"]);
    let bare = |args: &[&'static str]| [&["-C", "models"][..], args].concat();
    for (number, value) in [1.0, f32::NAN].into_iter().enumerate() {
        let file = place.write("m.safetensors", &model(&[("w", &[value, 2.0])]));
        let add = format!("m.safetensors={}", file.display());
        place.ok(&["-C", "models", "commit", "-m", &format!("Step {number}"), "--add", &add]);
    }
    for args in [&["bisect", "start"][..], &["bisect", "start", "main", "main~1"]] {
        place.fails(&bare(args), 2, &["bare", "no work tree", "bisect --tensor"]);
    }
    place.fails(&bare(&["bisect", "log"]), 4, &["no bisect was started"]);
    let json = place.json(&bare(&["bisect", "--tensor", "w", "--where", "has nan"]));
    assert_eq!(json["found"][0]["title"], "Step 1");
}

#[test]
fn a_step_that_would_lose_changes_says_what_works() {
    let place = Place::new();
    place.ok(&["init"]);
    for number in 0..6 {
        place.write("file", format!("{number}").as_bytes());
        place.ok(&["add", "file"]);
        place.ok(&["commit", "-m", &format!("Commit {number}")]);
    }
    place.ok(&["bisect", "start", "HEAD", "HEAD~5"]);
    place.write("file", b"mine");
    let steps: [&[&str]; 4] = [&["bad"], &["good"], &["skip"], &["run", "true"]];
    for step in steps {
        let run = place.run(&[&["bisect"], step].concat());
        let next =
            "move them elsewhere, and run the command again; `shard reset --hard --force` loses those in tracked files";
        assert!(run.code == 4 && run.err.contains("would be lost: file"), "{step:?}: {}", run.err);
        assert!(run.err.contains(next) && !run.err.contains("overwrites"), "{step:?}: {}", run.err);
    }
    place.ok(&["reset", "--hard", "--force"]);
    place.ok(&["bisect", "good"]);
}
