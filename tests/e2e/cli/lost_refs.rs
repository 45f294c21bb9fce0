//! Refs that were lost or are damaged, and a repository without its format file: what is told, what is refused, what is put right.

use std::fs;
use std::path::PathBuf;

use shard_tests::tree::{copy, files_ending};

use crate::care::{backup, commit, id, packs};
use crate::place::Place;

/// The files of a ref's states, newest first.
fn states(place: &Place, folder: &str) -> Vec<PathBuf> {
    let mut files = files_ending(&place.path().join(".shard/refs").join(folder), "");
    files.sort();
    files
}

/// Leaves the first `len` bytes of a file.
fn tear(file: &PathBuf, len: impl Fn(usize) -> usize) {
    let bytes = fs::read(file).unwrap();
    fs::remove_file(file).unwrap();
    fs::write(file, &bytes[..len(bytes.len())]).unwrap();
}

fn repair(place: &Place, from: Option<&Place>) -> serde_json::Value {
    let from = from.map(|from| from.path().join("copy"));
    let mut args = vec!["verify", "--repair"];
    if let Some(from) = &from {
        args.extend(["--from", from.to_str().unwrap()]);
    }
    let report = place.json(&args);
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    report
}

fn twin(of: &Place) -> Place {
    let place = Place::new();
    copy(of.path(), place.path());
    place
}

#[test]
fn fault_09_a_branch_that_lost_its_ref_keeps_its_commits() {
    let healthy = Place::with_history();
    let other = backup(&healthy);
    let third = commit(&healthy, "Third", &[]);
    // The tag leads to the first commit: the other two are the branch's alone.
    for how in 0..3 {
        let place = twin(&healthy);
        let before = packs(&place).len();
        fs::remove_dir_all(place.path().join(".shard/refs/heads%2fmain")).unwrap();
        for command in [&["gc"][..], &["gc", "--dry-run"]] {
            place.fails(
                command,
                5,
                &[&third, "the newest of 2", "verify --repair --from", "shard branch main", "--prune-now"],
            );
        }
        let run = place.run(&["verify"]);
        assert_eq!(run.code, 1, "{}{}", run.out, run.err);
        assert!(run.out.contains(&format!("no other leads to commit {third}, the newest of 2")), "{}", run.out);
        assert_eq!(packs(&place).len(), before);
        match how {
            0 => {
                let report = repair(&place, Some(&other));
                assert!(report["found"][0].as_str().unwrap().contains("heads%2fmain"), "{report}");
                assert!(report["notes"].to_string().contains(&format!("no ref leads to commit {third}")), "{report}");
                assert_ne!(id(&place, "main"), third);
                place.ok(&["branch", "later", &third]);
                place.ok(&["gc"]);
                assert_eq!(id(&place, "later"), third);
            }
            1 => {
                place.ok(&["branch", "main", &third]);
                place.ok(&["gc", "--prune-now"]);
                assert_eq!(id(&place, "HEAD"), third);
                assert_eq!(place.ok(&["status", "-s"]), "");
            }
            _ => {
                place.ok(&["gc", "--prune-now"]);
                place.fails(&["branch", "main", &third], 3, &[]);
                place.ok(&["gc"]);
            }
        }
        assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    }
}

#[test]
fn a_branch_without_commits_is_not_a_lost_one() {
    let place = Place::new();
    place.ok(&["init", "-b", "trunk"]);
    place.ok(&["gc"]);
    place.write("notes.txt", b"one");
    place.ok(&["add", "notes.txt"]);
    place.ok(&["gc"]);
    place.ok(&["checkout", "-b", "work"]);
    place.ok(&["gc"]);
    let first = commit(&place, "First", &[]);
    place.ok(&["undo"]);
    place.ok(&["gc"]);
    assert_eq!(place.json(&["verify"])["problems"].as_array().unwrap().len(), 0);
    // What an interrupted first commit leaves: a commit, and no branch. It is told, and no problem; it goes where that is wanted.
    fs::remove_dir_all(place.path().join(".shard/refs/heads%2fwork")).unwrap();
    let report = place.json(&["verify"]);
    assert_eq!(report["ok"], true);
    assert!(report["warnings"].to_string().contains(&first), "{report}");
    place.fails(&["gc"], 5, &[&first, "a first commit was interrupted", "gc --prune-now"]);
    place.ok(&["gc", "--prune-now"]);
    place.ok(&["gc"]);
}

#[test]
fn fault_09_a_torn_state_of_a_branch_comes_back_from_a_copy() {
    let healthy = Place::with_history();
    let third = commit(&healthy, "Third", &[]);
    let other = backup(&healthy);
    let folder = "heads%2fmain";
    // The newest one or an older one, without anything left or half of it.
    for (which, half) in [(0, false), (0, true), (1, false), (1, true), (2, false)] {
        let place = twin(&healthy);
        let file = states(&place, folder)[which].clone();
        let whole = fs::read(&file).unwrap();
        tear(&file, |len| if half { len / 2 } else { 0 });
        assert_eq!(place.run(&["verify"]).code, 1);
        place.fails(&["gc"], 5, &[folder]);
        let report = repair(&place, Some(&other));
        assert_eq!(report["files"].as_array().unwrap().len(), 1, "{report}");
        assert_eq!(report["found"].as_array().unwrap().len(), 1, "{report}");
        assert_eq!(fs::read(&file).unwrap(), whole);
        assert_eq!(id(&place, "main"), third);
        place.ok(&["gc"]);
        commit(&place, "Fourth", &[]);
    }
}

#[test]
fn fault_09_a_torn_state_is_told_by_what_is_left_here() {
    let healthy = Place::with_history();
    let old = backup(&healthy);
    let third = commit(&healthy, "Third", &[]);
    // Without a copy, and with one that never had this state.
    for from in [None, Some(&old)] {
        for torn in ["heads%2fmain", "%48%45%41%44", "stage"] {
            let place = twin(&healthy);
            tear(&states(&place, torn)[0], |_| 0);
            let report = repair(&place, from);
            // HEAD has a single state, which the copy has too.
            let has_it = from.is_some() && torn == "%48%45%41%44";
            let note = if has_it { "is where the other copy has it" } else { "was damaged" };
            assert!(report["notes"].to_string().contains(note), "{report}");
            assert_eq!((id(&place, "main"), id(&place, "HEAD")), (third.clone(), third.clone()), "{torn}");
            place.ok(&["gc"]);
            place.run(&["reset", "--hard"]);
            commit(&place, "Fourth", &[]);
            assert_eq!(place.json(&["verify", "--full"])["ok"], true);
        }
    }
    // A state that the copy made by itself is not the one that was here.
    let place = twin(&healthy);
    let there = Place::new();
    copy(&old.path().join("copy"), &there.path().join("copy"));
    let path = there.path().join("copy");
    let run = place.run(&["-C", path.to_str().unwrap(), "commit", "--allow-empty", "-m", "Elsewhere"]);
    assert_eq!(run.code, 0, "{}", run.err);
    tear(&states(&place, "heads%2fmain")[0], |len| len / 2);
    repair(&place, Some(&there));
    assert_eq!(id(&place, "main"), third);
}

#[test]
fn fault_09_a_torn_tag_can_be_moved_deleted_and_repaired() {
    let healthy = Place::with_history();
    let other = backup(&healthy);
    let torn = || {
        let place = twin(&healthy);
        tear(&states(&place, "tags%2fv1")[0], |_| 0);
        place.fails(&["tag"], 5, &["tags%2fv1"]);
        place
    };
    let place = torn();
    place.fails(&["tag", "v1", "HEAD"], 5, &["tags%2fv1"]);
    place.ok(&["tag", "-d", "v1"]);
    assert_eq!(place.ok(&["tag"]), "");
    place.ok(&["gc"]);
    place.ok(&["tag", "v1", "HEAD~1"]);

    let place = torn();
    place.ok(&["tag", "-f", "v1", "HEAD"]);
    assert_eq!(id(&place, "v1"), id(&place, "HEAD"));
    place.ok(&["gc"]);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);

    let place = torn();
    repair(&place, Some(&other));
    assert_eq!(id(&place, "v1"), id(&place, "HEAD~1"));

    healthy.ok(&["protect", "tags/*"]);
    let place = torn();
    place.fails(&["tag", "-d", "v1"], 4, &["protected"]);
}

#[test]
fn fault_09_a_repository_without_its_format_file_is_damaged_and_not_begun_again() {
    let healthy = Place::with_history();
    let other = backup(&healthy);
    let from = other.path().join("copy");
    let format = healthy.read(".shard/format");
    let all = |place: &Place| {
        let mut files = files_ending(&place.path().join(".shard"), "");
        files.retain(|file| !file.starts_with(place.path().join(".shard/cache")));
        files.sort();
        files
    };
    for is_missing in [true, false] {
        let place = twin(&healthy);
        let file = place.path().join(".shard/format");
        fs::remove_file(&file).unwrap();
        if !is_missing {
            fs::write(&file, b"").unwrap();
        }
        let before = all(&place);
        for command in [&["status"][..], &["init"], &["gc"], &["verify"]] {
            place.fails(command, 5, &["format", "very repository"]);
        }
        let foreign = Place::with_history();
        place.fails(&["verify", "--repair", "--from", foreign.path().to_str().unwrap()], 2, &["very one"]);
        assert_eq!(all(&place), before);
        let out = place.ok(&["verify", "--repair", "--from", from.to_str().unwrap()]);
        assert!(out.contains("1 problem found") && out.contains("format was put right"), "{out}");
        assert_eq!(place.read(".shard/format"), format);
        assert_eq!(place.json(&["verify", "--full"])["ok"], true);
        assert_eq!(place.ok(&["status", "-s"]), "");
    }
    // The same where there is no work tree.
    let bare = Place::new();
    copy(&healthy.path().join(".shard"), bare.path());
    fs::remove_file(bare.path().join("format")).unwrap();
    bare.fails(&["log"], 5, &["format"]);
    bare.fails(&["init", "--bare"], 5, &["format"]);
    assert!(!bare.path().join("format").exists());
}

#[test]
fn a_repair_does_not_tell_of_its_own_leases() {
    let place = Place::with_history();
    let other = backup(&place);
    tear(&states(&place, "tags%2fv1")[0], |_| 0);
    let out = place.ok(&["verify", "--repair", "--from", other.path().join("copy").to_str().unwrap()]);
    assert!(out.starts_with("1 problem found") && !out.contains("leases/"), "{out}");
}

#[test]
fn what_a_file_lacks_is_told_once() {
    let place = Place::new();
    place.ok(&["init"]);
    let (first, second) = shard_datasets::cases::every_change(1).unwrap();
    let mut all = Vec::new();
    for (name, bytes) in [("First", &first), ("Second", &second)] {
        place.write("model.safetensors", bytes);
        let before = packs(&place);
        place.ok(&["add", "model.safetensors"]);
        all.push(packs(&place).into_iter().filter(|pack| !before.contains(pack)).collect::<Vec<_>>());
        place.ok(&["commit", "-m", name]);
    }
    // What the second version leans on is gone.
    all[0].iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let run = place.run(&["verify", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let problems: Vec<&str> = report["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    let mut leaning: Vec<&str> =
        problems.iter().filter(|p| p.contains("leans on")).map(|p| &p[p.find("block ").unwrap()..]).collect();
    assert!(!leaning.is_empty(), "{report}");
    let count = leaning.len();
    leaning.sort_unstable();
    leaning.dedup();
    assert_eq!(leaning.len(), count, "{report}");
}
