//! `branch`, `tag`, `reset`, `reflog`, `checkout -b`, `log --graph`.

use std::fs;

use crate::place::{Place, model};

fn id(place: &Place, revision: &str) -> String {
    place.json(&["log", revision, "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned()
}

fn short(place: &Place, revision: &str) -> String {
    id(place, revision)[..12].to_owned()
}

fn commit(place: &Place, title: &str) -> String {
    place.write("notes.txt", title.as_bytes());
    place.ok(&["add", "notes.txt"]);
    place.json(&["commit", "-m", title])["id"].as_str().unwrap().to_owned()
}

#[test]
fn branches_are_made_listed_renamed_and_deleted() {
    let place = Place::with_history();
    assert_eq!(place.ok(&["branch"]), "* main\n");
    let (first, second) = (short(&place, "v1"), short(&place, "main"));
    let out = place.ok(&["branch", "old", "HEAD~1"]);
    assert!(out.contains(&format!("Made branch old at {first}")), "{out}");
    let json = place.json(&["branch", "run/1"]);
    assert_eq!((json["name"].as_str(), json["title"].as_str()), (Some("run/1"), Some("Second")));
    assert_eq!(place.ok(&["branch"]), "* main\n  old\n  run/1\n");
    let verbose = format!("* main   {second}  Second\n  old    {first}  First\n  run/1  {second}  Second\n");
    assert_eq!(place.ok(&["branch", "-v"]), verbose);
    assert_eq!(place.ok(&["branch", "--show-current"]), "main\n");
    let json = place.json(&["branch"]);
    assert_eq!((json["current"].as_str(), json["default"].as_str()), (Some("main"), Some("main")));
    assert_eq!(json["branches"][0]["current"], true);
    assert_eq!(json["branches"][1]["commit"], id(&place, "v1"));

    place.fails(&["branch", "old"], 4, &["there is a branch \"old\" already"]);
    place.fails(&["branch", "OLD"], 4, &["where case does not count"]);
    place.fails(&["branch", "old/er"], 4, &["in Git"]);
    place.fails(&["branch", "new", "nowhere"], 3, &["nowhere"]);
    for bad in ["a..b", "HEAD", "x.lock", "nul", "refs/heads/x", "a\u{202e}b", "../x"] {
        place.fails(&["branch", bad], 2, &["cannot be the name of a branch"]);
    }
    place.fails(&["branch", "a", "b", "c"], 2, &["too many names"]);

    assert_eq!(place.ok(&["branch", "-m", "old", "older"]), "Renamed branch old to older\n");
    place.fails(&["branch", "-m", "old", "x"], 3, &["there is no branch \"old\""]);
    place.fails(&["branch", "-m", "older", "main"], 4, &["already"]);
    let out = place.ok(&["branch", "-d", "older", "run/1"]);
    assert_eq!(
        out,
        format!("Deleted branch older, which was at {first}\nDeleted branch run/1, which was at {second}\n")
    );
    place.fails(&["branch", "-d", "older"], 3, &["there is no branch \"older\"", "`shard branch`"]);
    assert_eq!(place.ok(&["branch"]), "* main\n");
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn branches_that_are_needed_stay() {
    let place = Place::with_history();
    place.fails(&["branch", "-d", "main"], 4, &["\"main\" is checked out"]);
    assert!(place.ok(&["checkout", "-b", "side"]).starts_with("On branch side at "));
    place.fails(&["branch", "-D", "main"], 4, &["default branch", "`shard branch -m main NEW`"]);
    let lost = commit(&place, "On the side");
    place.ok(&["checkout", "main"]);
    place.fails(&["branch", "-d", "side"], 4, &["no other branch or tag leads to", &lost[..12], "branch -D side"]);
    // Whatever else leads there makes it safe.
    place.ok(&["checkout", "side~0"]);
    assert!(place.ok(&["branch"]).starts_with(&format!("* (no branch, at {})\n", &lost[..12])));
    assert_eq!(place.ok(&["branch", "--show-current"]), "");
    place.ok(&["branch", "-d", "side"]);
    place.ok(&["checkout", "-b", "side"]);
    place.ok(&["checkout", "main"]);
    let json = place.json(&["branch", "-D", "side"]);
    assert_eq!(json["deleted"][0]["commit"], lost);
    // Its log outlives it, and leads back to its commits.
    let log = place.json(&["reflog", "side"]);
    assert_eq!(log["ref"], "heads/side");
    assert_eq!((log["entries"][0]["old"].as_str(), log["entries"][0]["new"].as_str()), (Some(lost.as_str()), None));
    assert_eq!(log["entries"][0]["message"], "branch: deleted");
    place.fails(&["show", "side"], 3, &["side"]);
    place.ok(&["branch", "side", "side@{1}"]);
    assert_eq!(id(&place, "side"), lost);

    // Renaming the default branch is allowed, and what is checked out follows.
    place.ok(&["branch", "-m", "trunk"]);
    let json = place.json(&["branch"]);
    assert_eq!((json["current"].as_str(), json["default"].as_str()), (Some("trunk"), Some("trunk")));
    place.ok(&["checkout", "side"]);
    place.fails(&["branch", "-D", "trunk"], 4, &["default branch"]);
}

#[test]
fn a_branch_without_commits_can_be_renamed() {
    let place = Place::new();
    place.ok(&["init"]);
    assert_eq!(place.ok(&["branch"]), "");
    assert_eq!(place.ok(&["branch", "--show-current"]), "main\n");
    place.fails(&["branch", "x"], 3, &["no commits yet"]);
    place.ok(&["branch", "-m", "trunk"]);
    assert_eq!(place.ok(&["branch", "--show-current"]), "trunk\n");
    commit(&place, "First");
    assert_eq!(place.ok(&["branch"]), "* trunk\n");
    assert_eq!(place.json(&["branch"])["default"], "trunk");
    assert!(place.ok(&["reflog"]).contains("commit: First"));
    place.fails(&["init", "other", "-b", "nul"], 2, &["nul"]);
}

#[test]
fn checkout_makes_branches_or_nothing() {
    let place = Place::with_history();
    let json = place.json(&["checkout", "-b", "from-v1", "v1"]);
    assert_eq!((json["branch"].as_str(), json["commit"].as_str()), (Some("from-v1"), Some(id(&place, "v1").as_str())));
    place.fails(&["checkout", "-b", "main"], 4, &["already"]);
    place.write("model.safetensors", b"not committed");
    place.fails(&["checkout", "-b", "next", "main"], 4, &["model.safetensors", "--force"]);
    assert_eq!(place.ok(&["branch"]), "* from-v1\n  main\n");
    // What is not committed comes along where nothing else moves.
    place.ok(&["checkout", "-b", "next"]);
    assert_eq!(place.read("model.safetensors"), b"not committed");
    place.ok(&["checkout", "-f", "-b", "last", "main"]);
    assert_eq!(place.ok(&["status", "-s"]), "");
    // A name that a tag has too is told in full, and the branch is checked out, not only its commit.
    place.ok(&["tag", "main"]);
    place.fails(&["checkout", "main"], 3, &["ambiguous", "refs/heads/main", "refs/tags/main"]);
    assert_eq!(place.json(&["checkout", "heads/main"])["branch"], "main");
    assert_eq!(place.run(&["checkout"]).code, 2);
    assert_eq!(place.run(&["checkout", "-b", "x", "main", "notes.txt"]).code, 2);
}

#[test]
fn tags_light_and_annotated() {
    let place = Place::with_history();
    assert_eq!(place.ok(&["tag"]), "v1\n");
    let (first, second) = (short(&place, "v1"), short(&place, "main"));
    assert_eq!(place.ok(&["tag", "v2"]), format!("Put tag v2 on {second}\n"));
    let json =
        place.json(&["tag", "-m", "First release", "-m", "With \u{1b}[31mcolour.", "--author", "Ada", "r/1", "v1"]);
    assert_eq!(json["commit"], id(&place, "v1"));
    assert!(json["tag"].is_string() && json["tag"] != json["commit"], "{json}");
    assert_eq!(place.ok(&["tag"]), "r/1\nv1\nv2\n");
    assert_eq!(place.ok(&["tag", "-l", "v*"]), "v1\nv2\n");
    assert_eq!(place.ok(&["tag", "-l", "x*"]), "");
    let tags = place.json(&["tag", "-l"]);
    assert_eq!(tags["tags"][0]["message"], "First release\n\nWith \u{1b}[31mcolour.");
    assert_eq!(
        (tags["tags"][0]["annotated"].as_bool(), tags["tags"][1]["annotated"].as_bool()),
        (Some(true), Some(false))
    );
    assert_eq!(tags["tags"][0]["tagger"], "Ada");
    // It names the commit like any other tag.
    assert_eq!(id(&place, "r/1"), id(&place, "v1"));
    assert!(place.ok(&["log", "--oneline"]).contains("tag: r/1"));

    place.fails(&["tag", "v1"], 4, &["there is a tag \"v1\" already", "tag -f v1"]);
    place.fails(&["tag", "V1"], 4, &["where case does not count"]);
    place.fails(&["tag", "a b"], 2, &["cannot be the name of a tag"]);
    place.fails(&["tag", "v3", "nowhere"], 3, &["nowhere"]);
    place.fails(&["tag", "-m", " ", "v3"], 2, &["needs a message"]);
    assert_eq!(place.ok(&["tag", "-f", "v1"]), format!("Put tag v1, which was on {first}, on {second}\n"));
    assert_eq!(place.ok(&["tag", "-d", "v1"]), format!("Deleted tag v1, which was on {second}\n"));
    place.fails(&["tag", "-d", "v1"], 3, &["there is no tag \"v1\""]);
    place.ok(&["tag", "-d", "r/1"]);
    let log = place.json(&["reflog", "r/1"]);
    assert_eq!(
        (log["ref"].as_str(), log["entries"][0]["old"].as_str()),
        (Some("tags/r/1"), Some(id(&place, "main~1").as_str()))
    );
    assert_eq!(id(&place, "v1@{2}"), id(&place, "main~1"));
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn reset_soft_mixed_and_hard() {
    let place = Place::with_history();
    let (first, second) = (id(&place, "v1"), id(&place, "main"));
    let json = place.json(&["reset", "--soft", "HEAD~1"]);
    assert_eq!((json["branch"].as_str(), json["mode"].as_str()), (Some("main"), Some("soft")));
    assert_eq!((json["from"].as_str(), json["to"].as_str()), (Some(second.as_str()), Some(first.as_str())));
    assert_eq!(place.ok(&["status", "-s"]), "M  model.safetensors\n");
    let out = place.ok(&["reset"]);
    assert_eq!(out, format!("main is at {} First\n", &first[..12]));
    assert_eq!(place.ok(&["status", "-s"]), " M model.safetensors\n");
    let changed = place.read("model.safetensors");

    // Changes that no commit has are only lost when that is asked for.
    place.write("model.safetensors", b"mine");
    place.fails(&["reset", "--hard"], 4, &["would be lost", "model.safetensors", "--force"]);
    assert_eq!(place.read("model.safetensors"), b"mine");
    assert_eq!(id(&place, "main"), first);
    place.write("untracked.bin", b"u");
    let out = place.ok(&["reset", "--hard", "--force", "main@{1}"]);
    assert!(out.contains("1 file written, 0 removed") && out.contains("`shard reflog` remembers"), "{out}");
    assert_eq!((place.read("model.safetensors"), id(&place, "main")), (changed, second.clone()));
    assert_eq!(place.ok(&["status", "-s"]), "?? untracked.bin\n");
    // What is staged and nowhere else is not lost either.
    place.write("untracked.bin", b"v1");
    place.ok(&["add", "untracked.bin"]);
    place.fails(&["reset", "--hard", "v1"], 4, &["untracked.bin"]);
    place.ok(&["reset"]);
    assert_eq!(place.read("untracked.bin"), b"v1");
    // A file that is gone is no change to keep.
    fs::remove_file(place.path().join("notes.txt")).unwrap();
    place.ok(&["reset", "--hard", "v1"]);
    assert_eq!(place.read("notes.txt"), b"one");

    let log = place.json(&["reflog", "main"]);
    let messages: Vec<&str> =
        log["entries"].as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap()).collect();
    let expected = [
        "reset: moving to v1 (hard)",
        "reset: moving to main@{1} (hard)",
        "reset: moving to HEAD~1",
        "commit: Second",
        "commit: First",
    ];
    assert_eq!(messages, expected);
    // Another writer was first.
    place.fails(
        &["reset", "--expect", &second, "main@{1}"],
        4,
        &["heads/main is at ", "as was expected", &second, "shard log"],
    );
    assert_eq!(place.json(&["reset", "--expect", &first, "main@{1}"])["to"], second);
    place.fails(&["reset", "nowhere"], 3, &["nowhere"]);
    assert_eq!(place.run(&["reset", "--soft", "--hard"]).code, 2);
    assert_eq!(place.run(&["reset", "--force"]).code, 2);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);

    // A branch that is not checked out moves alone.
    place.ok(&["branch", "side", &second]);
    let status = place.ok(&["status", "-s"]);
    let json = place.json(&["reset", &first, "-r", "side"]);
    assert_eq!((json["branch"].as_str(), json["mode"].is_null()), (Some("side"), true), "{json}");
    assert_eq!((json["from"].as_str(), json["to"].as_str()), (Some(second.as_str()), Some(first.as_str())));
    assert_eq!(
        (id(&place, "side"), id(&place, "main"), place.ok(&["status", "-s"])),
        (first.clone(), second.clone(), status)
    );
    let out = place.ok(&["reset", "-r", "side", "side@{1}"]);
    assert!(out.starts_with(&format!("side is at {}", &second[..12])), "{out}");
    place.fails(&["reset", "v1", "-r", "main"], 4, &["checked out", "without -r"]);
    place.fails(&["reset", "v1", "-r", "nowhere"], 3, &["nowhere"]);
    assert_eq!(place.run(&["reset", "--hard", "v1", "-r", "side"]).code, 2);
    assert_eq!(id(&place, "side"), second);

    // On no branch, HEAD itself moves.
    place.ok(&["reset", "--hard", "-f"]);
    place.ok(&["checkout", "v1"]);
    let json = place.json(&["reset", "--hard", "main"]);
    assert!(json["branch"].is_null() && json["to"] == second.as_str(), "{json}");
    assert_eq!(id(&place, "HEAD@{1}"), first);
}

#[test]
fn a_branch_is_made_to_end_elsewhere() {
    let place = Place::with_history();
    let (first, second) = (id(&place, "v1"), id(&place, "main"));
    place.ok(&["branch", "side"]);
    let out = place.ok(&["branch", "-f", "side", "v1"]);
    assert_eq!(out, format!("Branch side, which was at {}, is at {}\n", &second[..12], &first[..12]));
    assert_eq!(id(&place, "side@{1}"), second);
    let json = place.json(&["branch", "-f", "other", "v1"]);
    assert!(json["moved_from"].is_null() && json["commit"] == first.as_str(), "{json}");
    assert_eq!(place.json(&["branch", "-f", "side"])["moved_from"], first);
    place.fails(&["branch", "-f", "main", "v1"], 4, &["\"main\" is checked out"]);
    place.fails(&["branch", "-f", "side", "nowhere"], 3, &["nowhere"]);
    place.fails(&["branch", "-f", "a..b", "v1"], 2, &["cannot be the name"]);
}

#[test]
fn a_first_branch_may_have_another_name() {
    let place = Place::new();
    place.ok(&["init"]);
    assert_eq!(place.ok(&["checkout", "-b", "trunk"]), "On branch trunk, no commits yet\n");
    place.fails(&["checkout", "-b", "nul"], 2, &["nul"]);
    place.fails(&["checkout", "-b", "x", "main"], 3, &["main"]);
    assert_eq!(place.ok(&["branch", "--show-current"]), "trunk\n");
    commit(&place, "First");
    assert_eq!(place.ok(&["branch"]), "* trunk\n");
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn logs_of_paths_and_tensors() {
    let place = Place::new();
    place.ok(&["init"]);
    let write = |a: f32, b: f32| {
        place.write("m.safetensors", &model(&[("x.a", &[a, 1.0]), ("x.b", &[b, 2.0])]));
    };
    let keep = |title: &str| {
        place.ok(&["add", "."]);
        place.json(&["commit", "-m", title])["id"].as_str().unwrap()[..12].to_owned()
    };
    write(1.0, 1.0);
    place.write("notes/n.txt", b"n");
    let first = keep("First");
    write(2.0, 1.0);
    let second = keep("Of a");
    place.write("notes/n.txt", b"o");
    let third = keep("Of notes");
    write(2.0, 2.0);
    let fourth = keep("Of b");
    let log = |args: &[&str]| {
        let out = place.ok(&[&["log", "--oneline"], args].concat());
        out.lines().map(|line| line.replace(" (HEAD -> main)", "")).collect::<Vec<_>>()
    };
    let line = |id: &str, title: &str| format!("{id} {title}");
    assert_eq!(log(&["--tensor", "*.a"]), [line(&second, "Of a"), line(&first, "First")]);
    assert_eq!(log(&["--tensor", "x.b"]), [line(&fourth, "Of b"), line(&first, "First")]);
    assert_eq!(log(&["--tensor", "x.*", "-n", "2"]), [line(&fourth, "Of b"), line(&second, "Of a")]);
    place.fails(&["log", "--tensor", "y*"], 3, &["no commit there has a tensor like \"y*\""]);
    place.fails(&["log", "--tensor", "x.a", "--", "notes"], 3, &["\"x.a\" in \"notes\""]);
    assert_eq!(log(&["HEAD", "--", "notes"]), [line(&third, "Of notes"), line(&first, "First")]);
    let graph = log(&["--graph", "m.safetensors"]);
    assert_eq!(graph, [format!("* {fourth} Of b"), format!("* {second} Of a"), format!("* {first} First")]);
    place.fails(&["log", "--tensor", "["], 2, &["no pattern"]);
    // A tensor keeps its log where the file is split or renamed.
    fs::rename(place.path().join("m.safetensors"), place.path().join("renamed.safetensors")).unwrap();
    keep("Renamed");
    assert_eq!(log(&["--tensor", "*.a"]), [line(&second, "Of a"), line(&first, "First")]);

    let differs = |args: &[&str]| {
        let json = place.json(&[&["diff"], args].concat());
        (json["models"].as_array().unwrap().len(), json["other_files"].as_array().unwrap().len())
    };
    assert_eq!(differs(&[&first, &fourth]), (1, 1));
    place.write("notes/n.txt", b"p");
    let run = |args: &[&str]| {
        let out = place.command(&[&["--json", "diff"], args].concat()).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        (json["models"].as_array().unwrap().len(), json["other_files"].as_array().unwrap().len())
    };
    assert_eq!(run(&[&first, &fourth, "--", "notes"]), (0, 1));
    assert_eq!(run(&[&first, &fourth, "--", "m.safetensors"]), (1, 0));
    assert_eq!(run(&["--", "notes/n.txt"]), (0, 1));
    assert_eq!(run(&["--", "renamed.safetensors"]), (0, 0));
}

#[test]
fn the_reflog_says_what_moved() {
    let place = Place::with_history();
    let (first, second) = (short(&place, "v1"), short(&place, "main"));
    place.ok(&["checkout", "v1"]);
    let out = place.ok(&["reflog"]);
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["time", "old", "new", "what"]);
    assert_eq!((lines[1][0], &lines[1][2..]), ("HEAD@{0}", &[second.as_str(), &first, "checkout:", "v1"][..]));
    assert_eq!((lines[2][0], &lines[2][2..]), ("HEAD@{1}", &[first.as_str(), &second, "commit:", "Second"][..]));
    assert_eq!((lines[3][0], &lines[3][2..]), ("HEAD@{2}", &["-", &first, "commit:", "First"][..]));
    assert_eq!(lines.len(), 4);
    assert!(lines[1][1].ends_with('Z') && lines[1][1].len() == 20, "{out}");
    assert_eq!(place.json(&["reflog", "-n", "1"])["entries"].as_array().unwrap().len(), 1);
    place.fails(&["reflog", "nowhere"], 3, &["nowhere"]);
    place.fails(&["show", "main@{9}"], 3, &["main@{9}", "`shard reflog main`"]);
    place.fails(&["reset", "main@{x}"], 2, &["main@{x}"]);
    assert!(place.ok(&["diff", "main@{1}", "main@{0}"]).contains("7 tensors"));

    let states = place.path().join(".shard/refs/heads%2fmain");
    let mut files: Vec<_> = fs::read_dir(states).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    fs::write(files.last().unwrap(), "torn").unwrap();
    let run = place.run(&["reflog", "main"]);
    assert_eq!(run.code, 5, "{}", run.err);
    assert!(run.out.contains("commit: Second") && run.err.contains("a state is damaged"), "{}{}", run.out, run.err);
}

#[test]
fn the_graph_stands_beside_the_log() {
    let place = Place::with_history();
    let (first, second) = (short(&place, "v1"), short(&place, "main"));
    let line = format!("* {second} (HEAD -> main) Second\n* {first} (tag: v1) First\n");
    assert_eq!(place.ok(&["log", "--graph", "--oneline"]), line);
    let out = place.ok(&["log", "--graph", "-n", "1"]);
    assert!(out.starts_with("* commit ") && out.contains("\n|     Second\n"), "{out}");
    assert_eq!(place.json(&["log", "--graph"]), place.json(&["log"]));
    assert_eq!(place.ok(&["log", "--graph", "--oneline", "notes.txt"]), format!("* {first} (tag: v1) First\n"));
    assert_eq!(place.run(&["log", "--graph", "--heat"]).code, 2);
}
