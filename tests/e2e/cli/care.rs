//! `verify` with resuming and repair, `protect`, `squash`, `forget`.

use std::fs;
use std::path::PathBuf;

use shard_core::NoProgress;
use shard_datasets::cases::every_change;
use shard_manifest::RunRecord;
use shard_repo::{CommitOptions, Repository, Settings};
use shard_tests::damage::{Damage, overwrite};
use shard_tests::tree::{copy, files_ending};

use crate::place::{Place, hex};

pub(crate) fn id(place: &Place, revision: &str) -> String {
    place.json(&["log", revision, "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned()
}

fn tree(place: &Place, revision: &str) -> String {
    place.json(&["log", revision, "-n", "1"])["commits"][0]["tree"].as_str().unwrap().to_owned()
}

pub(crate) fn commit(place: &Place, title: &str, more: &[&str]) -> String {
    place.write("notes.txt", title.as_bytes());
    place.ok(&["add", "notes.txt"]);
    let mut args = vec!["commit", "-m", title];
    args.extend(more);
    place.json(&args)["id"].as_str().unwrap().to_owned()
}

/// A commit that was made at another time, with a number in its record.
fn commit_at(place: &Place, title: &str, time: &str, loss: f64) {
    let repository = Repository::discover(place.path(), Settings::default()).unwrap();
    let notes = place.write("notes.txt", title.as_bytes());
    repository.add(&[notes], &NoProgress).unwrap();
    let mut record = RunRecord::new("");
    record.hyperparameters.insert("loss".to_owned(), loss.into());
    let options = CommitOptions {
        message: title.to_owned(),
        created_at: Some(time.to_owned()),
        record: Some(record),
        ..CommitOptions::default()
    };
    repository.commit(&options).unwrap();
}

pub(crate) fn packs(place: &Place) -> Vec<PathBuf> {
    files_ending(&place.path().join(".shard/packs"), ".pack")
}

/// Another copy of a place's repository.
pub(crate) fn backup(place: &Place) -> Place {
    let other = Place::new();
    copy(place.path(), &other.path().join("copy"));
    other
}

#[test]
fn a_full_verification_goes_on_where_it_stopped() {
    let place = Place::with_history();
    let whole = place.json(&["verify", "--full"]);
    assert_eq!((whole["ok"].as_bool(), whole["stopped"].as_bool()), (Some(true), Some(false)));
    let entries = whole["entries"].as_u64().unwrap();
    let part = place.json(&["verify", "--full", "--at-most", "1"]);
    assert_eq!((part["stopped"].as_bool(), part["ok"].as_bool()), (Some(true), Some(true)));
    let note = place.path().join(".shard/cache/verified");
    assert!(note.is_file());
    let packs: u64 = packs(&place).iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    let part = place.json(&["verify", "--full", "--resume", "--at-most", &(packs + 3000).to_string()]);
    assert_eq!(part["stopped"], true);
    let out = place.ok(&["verify", "--full", "--resume", "--at-most", "5000"]);
    assert!(out.starts_with("all is well so far:") && out.contains("next: `shard verify --full --resume`"), "{out}");
    let rest = place.json(&["verify", "--full", "--resume"]);
    assert_eq!((rest["ok"].as_bool(), rest["stopped"].as_bool()), (Some(true), Some(false)));
    let (resumed, now) = (rest["resumed"].as_u64().unwrap(), rest["entries"].as_u64().unwrap());
    assert!(resumed > 0 && now > 0 && resumed + now == entries, "{rest}");
    assert_eq!(rest["files"], whole["files"]);
    // What is over is over.
    assert!(!note.exists());
    let again = place.json(&["verify", "--full", "--resume"]);
    assert_eq!((again["entries"].as_u64(), again["resumed"].as_u64()), (Some(entries), Some(0)));
    assert!(again["warnings"][0].as_str().unwrap().contains("no interrupted verification"), "{again}");

    // Other packs, and what is remembered does not count.
    place.ok(&["verify", "--full", "--at-most", "100000"]);
    let pack = &self::packs(&place)[0];
    let bytes = fs::read(pack).unwrap();
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    let all = place.json(&["verify", "--full", "--resume"]);
    assert_eq!((all["entries"].as_u64(), all["resumed"].as_u64()), (Some(entries), Some(0)));
    assert!(all["warnings"][0].as_str().unwrap().contains("not those of the verification"), "{all}");
    assert_eq!(place.run(&["verify", "--at-most", "10"]).code, 2);
}

#[test]
fn repair_needs_another_copy() {
    let place = Place::with_history();
    place.fails(&["verify", "--repair", "--from", "."], 2, &["with itself"]);
    place.fails(&["verify", "--repair", "--from", "nowhere"], 3, &["nowhere"]);
    assert_eq!(place.run(&["verify", "--from", "."]).code, 2);
    assert_eq!(place.ok(&["verify", "--repair"]), "all is well: nothing needs to be repaired\n");
    let other = backup(&place);
    let copy = other.path().join("copy");
    let out = place.ok(&["verify", "--repair", "--from", copy.to_str().unwrap()]);
    assert_eq!(out, "all is well: nothing needs to be repaired\n");
}

#[test]
fn fault_09_damage_of_every_kind_is_repaired_from_another_copy() {
    let healthy = Place::with_history();
    let other = backup(&healthy);
    let from = other.path().join("copy");
    let from = from.to_str().unwrap();
    let names: Vec<String> = packs(&healthy)
        .iter()
        .map(|pack| pack.strip_prefix(healthy.path()).unwrap().to_str().unwrap().to_owned())
        .collect();
    let (model, history) = (healthy.read("model.safetensors"), healthy.json(&["log"]));
    let check = |place: &Place, what: &str| {
        let report = place.json(&["verify", "--repair", "--from", from]);
        assert_eq!(report["ok"], true, "{what}: {report}");
        // Also when the index has to be built anew, which would find bad copies again.
        place.ok(&["reindex"]);
        let after = place.json(&["verify", "--full"]);
        assert_eq!(after["ok"], true, "{what}: {after}");
        assert_eq!(place.json(&["log"]), history, "{what}");
        place.ok(&["checkout", "main", "model.safetensors", "-o", "out"]);
        assert_eq!(hex(&place.read("out/model.safetensors")), hex(&model), "{what}");
        report
    };
    let fresh = || {
        let place = Place::new();
        copy(healthy.path(), place.path());
        place
    };
    for name in &names {
        let len = fs::metadata(healthy.path().join(name)).unwrap().len();
        for damage in Damage::everywhere(len, 3) {
            let place = fresh();
            if damage.apply(&place.path().join(name)) {
                let report = check(&place, &format!("{name} {damage:?}"));
                assert_eq!(report["retired"].as_array().unwrap().len(), 1, "{name} {damage:?}: {report}");
            }
        }
        let place = fresh();
        fs::remove_file(place.path().join(name)).unwrap();
        let report = check(&place, name);
        assert!(report["fetched"].as_u64().unwrap() > 0, "{report}");
    }
    // All at once.
    let place = fresh();
    for name in &names {
        overwrite(&place.path().join(name), b"nothing");
    }
    check(&place, "every pack");
    // A ref whose checksum is whole, or all but that.
    let refs = healthy.path().join(".shard/refs/heads%2fmain");
    let mut states = files_ending(&refs, "");
    states.sort();
    let newest = states[0].strip_prefix(healthy.path()).unwrap();
    let len = fs::metadata(&states[0]).unwrap().len();
    for at in [30, len - 10] {
        let place = fresh();
        assert!(Damage::Flip { at, bit: 2 }.apply(&place.path().join(newest)));
        assert_eq!(place.run(&["log"]).code, 5);
        let report = check(&place, "a ref");
        assert_eq!(report["files"].as_array().unwrap().len(), 1, "{report}");
    }
    // One of which nothing is left: it is told that the copy says so, and nothing here.
    let place = fresh();
    overwrite(&place.path().join(newest), b"");
    let report = check(&place, "an empty ref");
    assert!(report["notes"].to_string().contains("ref heads/main is where the other copy has it"), "{report}");
}

#[test]
fn what_cannot_be_repaired_is_told_by_path_and_commit() {
    let place = Place::with_history();
    // A copy from before the second commit.
    let old = Place::new();
    copy(place.path(), &old.path().join("copy"));
    let copy_path = old.path().join("copy");
    place.write("other.bin", &vec![7; 3000].iter().enumerate().map(|(i, b)| (i * 31) as u8 ^ b).collect::<Vec<u8>>());
    place.ok(&["add", "other.bin"]);
    let third = place.json(&["commit", "-m", "Third"])["id"].as_str().unwrap().to_owned();
    for pack in packs(&place) {
        let len = fs::metadata(&pack).unwrap().len();
        assert!(Damage::Flip { at: len.min(200) - 1, bit: 0 }.apply(&pack));
    }
    let run = place.run(&["verify", "--repair", "--from", copy_path.to_str().unwrap(), "--json"]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert!(report["fetched"].as_u64().unwrap() > 0, "{report}");
    let affected = report["affected"].as_array().unwrap();
    assert!(!affected.is_empty(), "{report}");
    for one in affected {
        let commits: Vec<&str> = one["commits"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(commits, [third.as_str()], "{report}");
    }
    // What the copy had is whole again.
    assert_eq!(place.run(&["checkout", "v1", "model.safetensors", "-o", "out"]).code, 0);
}

#[test]
fn an_archive_of_the_files_is_a_copy_too() {
    let place = Place::with_history();
    place.ok(&["pack", "model.safetensors", "-o", "model.shard"]);
    let model = place.read("model.safetensors");
    let largest = packs(&place).into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let len = fs::metadata(&largest).unwrap().len();
    assert!(Damage::Zero { at: len / 3 }.apply(&largest));
    let before = place.run(&["verify", "--full"]);
    assert_eq!(before.code, 1);
    assert!(before.out.contains("--repair --from"), "{}", before.out);
    let report = place.run(&["verify", "--repair", "--from", "model.shard", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    assert!(report["fetched"].as_u64().unwrap() > 0, "{report}");
    place.ok(&["checkout", "main", "model.safetensors", "-o", "out"]);
    assert_eq!(place.read("out/model.safetensors"), model);
}

#[test]
fn protected_branches_and_tags_stay() {
    let place = Place::with_history();
    assert_eq!(place.ok(&["protect"]), "");
    assert_eq!(place.ok(&["protect", "main"]), "heads/main is protected\n");
    assert_eq!(place.ok(&["protect", "heads/main"]), "heads/main was protected already\n");
    place.ok(&["protect", "tags/v*"]);
    let out = place.ok(&["protect", "release/*"]);
    assert_eq!(out, "heads/release/* is protected: nothing yet\n");
    let list = place.json(&["protect", "--list"]);
    let patterns: Vec<&str> =
        list["protections"].as_array().unwrap().iter().map(|rule| rule["pattern"].as_str().unwrap()).collect();
    assert_eq!(patterns, ["heads/main", "heads/release/*", "tags/v*"]);
    assert_eq!(list["protections"][2]["matches"][0], "tags/v1");
    for bad in ["", "a[", "a b", "x\u{202e}y", "a..b"] {
        place.fails(&["protect", bad], 2, &["is no pattern"]);
    }

    let (first, head) = (id(&place, "v1"), id(&place, "main"));
    let refused = ["heads/main is protected by \"heads/main\"", "cannot lose commits", "shard protect --remove"];
    place.fails(&["reset", "v1"], 4, &refused);
    place.fails(&["squash"], 4, &refused);
    place.fails(&["forget", "--keep-last", "1"], 4, &refused);
    place.fails(&["branch", "-m", "trunk"], 4, &["cannot be deleted or renamed"]);
    place.fails(&["tag", "-f", "v1"], 4, &["tags/v1 is protected by \"tags/v*\"", "cannot be moved"]);
    place.fails(&["tag", "-d", "v1"], 4, &["cannot be deleted"]);
    assert_eq!((id(&place, "v1"), id(&place, "main")), (first.clone(), head));
    // What follows is welcome, and so is what is new.
    let third = commit(&place, "Third", &[]);
    assert_eq!(id(&place, "main"), third);
    place.ok(&["tag", "v2"]);
    place.fails(&["tag", "-d", "v2"], 4, &["tags/v2"]);
    place.ok(&["branch", "release/1", "v1"]);
    place.fails(&["branch", "-D", "release/1"], 4, &["release/1"]);

    assert_eq!(place.ok(&["protect", "--remove", "main"]), "heads/main is not protected any more\n");
    place.fails(&["protect", "--remove", "main"], 3, &["there is no protection \"heads/main\"", "`shard protect`"]);
    place.ok(&["reset", "v1"]);
    assert_eq!(id(&place, "main"), first);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn squash_leaves_one_commit_and_every_byte() {
    let place = Place::with_history();
    let third = commit(&place, "Third", &["--step", "7"]);
    let (old_tree, second) = (tree(&place, "main"), id(&place, "main~1"));
    let dry = place.json(&["squash", "--dry-run"]);
    assert_eq!(id(&place, "main"), third);
    assert_eq!((dry["dropped_ancestor_count"].as_u64(), dry["rewritten_commit_count"].as_u64()), (Some(2), Some(1)));
    let done = place.json(&["squash", "main", "-m", "All", "-m", "of it"]);
    assert_eq!((done["ref_name"].as_str(), done["old_head"].as_str()), (Some("heads/main"), Some(third.as_str())));
    assert_eq!(done["root_commit_before"], third);
    let blocking = done["blocking_refs"].as_array().unwrap();
    let names: Vec<(&str, &str)> =
        blocking.iter().map(|by| (by["name"].as_str().unwrap(), by["kind"].as_str().unwrap())).collect();
    assert_eq!(names, [("heads/main", "reflog"), ("tags/v1", "ref")]);
    let log = place.json(&["log"]);
    let commits = log["commits"].as_array().unwrap();
    assert_eq!(commits.len(), 1);
    assert_eq!((&commits[0]["id"], commits[0]["message"].as_str()), (&done["new_head"], Some("All\n\nof it")));
    assert_eq!(commits[0]["tree"], old_tree.as_str());
    // The record of a file stays as long as the file is that of the record.
    let records = commits[0]["records"].as_array().unwrap();
    let paths: Vec<&str> = records.iter().map(|record| record["file_path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["notes.txt"]);
    assert_eq!(place.ok(&["status", "-s"]), "");
    place.fails(&["squash"], 4, &["begins with"]);
    place.fails(&["squash", "nowhere"], 3, &["there is no branch \"nowhere\""]);
    // The log leads back.
    place.ok(&["reset", "main@{1}"]);
    assert_eq!(id(&place, "main"), third);

    let text = place.ok(&["squash", "-r", "heads/main", "--root", "main~1"]);
    assert!(text.contains("main has 2 commits at ") && text.contains(": 1 commit dropped"), "{text}");
    assert!(text.contains("tags/v1") && text.contains("reflog of: main"), "{text}");
    let log = place.json(&["log"]);
    let titles: Vec<&str> =
        log["commits"].as_array().unwrap().iter().map(|commit| commit["message"].as_str().unwrap()).collect();
    assert_eq!(titles, ["Third", "Second"]);
    assert_eq!(log["commits"][1]["tree"], tree(&place, &second).as_str());
    place.fails(&["squash", "--root", "v1"], 2, &["is no commit of main"]);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn forget_keeps_what_rules_keep() {
    let place = Place::new();
    place.ok(&["init"]);
    for (number, (date, loss)) in [
        ("2026-01-01T10:00:00Z", 0.9),
        ("2026-01-01T12:00:00Z", 0.2),
        ("2026-01-02T10:00:00Z", 0.7),
        ("2026-01-03T10:00:00Z", 0.6),
        ("2026-01-03T11:00:00Z", 0.5),
        ("2026-01-03T12:00:00Z", 0.8),
    ]
    .into_iter()
    .enumerate()
    {
        commit_at(&place, &format!("C{number}"), date, loss);
    }
    place.ok(&["tag", "kept", "HEAD~3"]);
    place.fails(&["forget"], 2, &["no rule says what stays", "--keep-last"]);
    place.fails(&["forget", "--keep-lowest", "1:lost"], 2, &["no commit of main has a number \"lost\""]);
    assert_eq!(place.run(&["forget", "--keep-lowest", "loss"]).code, 2);
    let rules = ["--keep-last", "2", "--keep-tagged", "--keep-lowest", "1:loss"];
    let mut args = vec!["forget", "--dry-run"];
    args.extend(rules);
    let plan = place.ok(&args);
    assert!(plan.contains("best 1 by loss: 0.2") && plan.contains("tag kept") && plan.contains("last 2"), "{plan}");
    assert!(plan.contains("would keep 4 of 6 commits"), "{plan}");
    let head = id(&place, "main");
    let old_tree = tree(&place, "main");
    let json = place.json(&args);
    let keeps: Vec<bool> =
        json["commits"].as_array().unwrap().iter().map(|commit| commit["keep"].as_bool().unwrap()).collect();
    assert_eq!(keeps, [true, true, false, true, true, false]);
    assert_eq!(id(&place, "main"), head);
    args.remove(1);
    let done = place.json(&args);
    assert_eq!((done["kept"].as_u64(), done["dropped"].as_u64()), (Some(4), Some(2)));
    assert_eq!(done["new_head"], json["new_head"], "a plan is what happens");
    let log = place.json(&["log"]);
    let titles: Vec<&str> =
        log["commits"].as_array().unwrap().iter().map(|commit| commit["message"].as_str().unwrap()).collect();
    assert_eq!(titles, ["C5", "C4", "C2", "C1"]);
    assert_eq!(tree(&place, "main"), old_tree);
    assert_eq!(place.ok(&["status", "-s"]), "");
    // The tag is where it was, on a history that main does not have any more.
    assert!(done["blocking_refs"].as_array().unwrap().iter().any(|by| by["name"] == "tags/kept"), "{done}");
    // It is meant for what became of that commit as well: the same rules keep the same again.
    let again = place.json(&args);
    assert_eq!((again["kept"].as_u64(), again["dropped"].as_u64()), (Some(4), Some(0)), "{again}");
    assert_eq!(again["commits"][2]["reasons"], serde_json::json!(["tag kept"]));
    let again = place.ok(&["forget", "--keep-last", "9"]);
    assert_eq!(again, "main keeps all of its commits\n");
    place.ok(&["forget", "--keep-daily", "2"]);
    assert_eq!(place.json(&["log"])["commits"].as_array().unwrap().len(), 2);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn optimize_makes_smaller_what_was_stored_fast() {
    let place = Place::new();
    let (first, second) = every_change(1).unwrap();
    place.ok(&["init"]);
    for (title, bytes) in [("First", &first), ("Second", &second)] {
        place.write("model.safetensors", bytes);
        place.ok(&["--level", "fast", "add", "model.safetensors"]);
        place.ok(&["commit", "-m", title]);
    }
    let log = place.json(&["log"]);
    let plan = place.json(&["optimize", "--dry-run"]);
    assert_eq!((plan["files"].as_u64(), plan["done"].as_u64()), (Some(2), Some(0)));
    assert!(place.ok(&["optimize", "--dry-run"]).starts_with("2 files with "));
    let part = place.json(&["optimize", "--at-most", "1"]);
    assert_eq!((part["stopped"].as_bool(), part["done"].as_u64()), (Some(true), Some(0)));
    let rest = place.json(&["optimize", "--resume"]);
    assert_eq!((rest["stopped"].as_bool(), rest["done"].as_u64()), (Some(false), Some(1)));
    let number = |json: &serde_json::Value, name: &str| json[name].as_u64().unwrap();
    assert!(number(&part, "recoded") + number(&rest, "recoded") > 0, "{part} {rest}");
    assert!(number(&rest, "bytes_after") < number(&plan, "bytes_before"), "{plan} {rest}");
    let out = place.ok(&["optimize"]);
    assert!(out.starts_with("0 blocks of ") && !out.contains("small packs"), "{out}");
    assert_eq!(place.json(&["log"]), log);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    place.ok(&["checkout", "HEAD~1", "model.safetensors", "-o", "out"]);
    assert_eq!(place.read("out/model.safetensors"), first);
}

/// Everything below the repository's folder of packs, by name.
fn stored(place: &Place) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = packs(place);
    files.sort();
    files
        .into_iter()
        .map(|file| (file.strip_prefix(place.path()).unwrap().to_owned(), fs::read(&file).unwrap()))
        .collect()
}

/// Ways to lose refs: the whole folder, HEAD's folder, the file in it.
fn lose_refs(place: &Place, how: usize) {
    let refs = place.path().join(".shard/refs");
    let head = refs.join("%48%45%41%44");
    match how {
        0 => fs::remove_dir_all(refs).unwrap(),
        1 => fs::remove_dir_all(head).unwrap(),
        _ => files_ending(&head, "").iter().for_each(|file| fs::remove_file(file).unwrap()),
    }
}

#[test]
fn fault_09_without_head_nothing_is_collected_and_the_refs_come_back_from_a_copy() {
    let healthy = Place::with_history();
    let other = backup(&healthy);
    let from = other.path().join("copy");
    let from = from.to_str().unwrap();
    let history = healthy.json(&["log"]);
    for how in 0..3 {
        let place = Place::new();
        copy(healthy.path(), place.path());
        // A commit that the copy does not have.
        let third = commit(&place, "Third", &[]);
        let before = stored(&place);
        lose_refs(&place, how);
        let next = ["missing", "the repository is damaged", "verify --repair --from"];
        for command in [
            &["gc"][..],
            &["gc", "--prune-now"],
            &["gc", "--dry-run"],
            &["optimize"],
            &["squash"],
            &["forget", "--keep-last", "1"],
            &["log"],
            &["status"],
            &["commit", "-m", "Fourth"],
            &["branch", "other"],
            &["checkout", "main"],
            &["init"],
        ] {
            place.fails(command, 5, &next);
        }
        for command in [&["verify"][..], &["verify", "--full"]] {
            let run = place.run(command);
            assert_eq!(run.code, 1, "{command:?}: {}{}", run.out, run.err);
            assert!(run.out.contains("missing") && run.out.contains("the repository is damaged"), "{}", run.out);
        }
        place.ok(&["reindex"]);
        assert_eq!(stored(&place), before, "{how}");
        // Another repository says nothing about the refs of this one.
        let foreign = Place::with_history();
        let run = place.run(&["verify", "--repair", "--from", foreign.path().to_str().unwrap()]);
        assert_eq!(run.code, 1, "{}{}", run.out, run.err);

        let run = place.run(&["verify", "--repair", "--from", from]);
        assert_eq!(run.code, 0, "{}{}", run.out, run.err);
        assert!(run.out.contains("%48%45%41%44/") && run.out.contains("was put right"), "{}", run.out);
        if how == 0 {
            // The branch is where the copy had it; what came later is told, and not lost.
            assert_eq!(place.json(&["log"]), history);
            assert!(run.out.contains(&format!("no ref leads to commit {third}")), "{}", run.out);
            place.ok(&["branch", "later", &third]);
        } else {
            assert!(!run.out.contains("no ref leads"), "{}", run.out);
        }
        place.ok(&["gc", "--prune-now"]);
        assert_eq!(id(&place, if how == 0 { "later" } else { "main" }), third);
        assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    }
}

#[test]
fn a_repository_without_commits_is_whole_and_one_without_anything_is_finished() {
    let place = Place::new();
    place.ok(&["init"]);
    for command in [&["verify", "--full"][..], &["gc"], &["status"], &["optimize"]] {
        assert_eq!(place.run(command).code, 0, "{command:?}");
    }
    lose_refs(&place, 1);
    place.fails(&["gc"], 4, &["was interrupted", "shard init"]);
    assert_eq!(place.run(&["verify"]).code, 1);
    place.ok(&["init"]);
    assert_eq!(place.json(&["verify"])["ok"], true);
    place.write("notes.txt", b"one");
    place.ok(&["add", "notes.txt"]);
    place.ok(&["commit", "-m", "First"]);
}

#[cfg(unix)]
#[test]
fn fault_05_a_pack_that_cannot_be_read_now_is_not_taken_for_damaged() {
    let place = Place::with_history();
    let other = backup(&place);
    let from = other.path().join("copy");
    let from = from.to_str().unwrap();
    let before = stored(&place);
    for (name, bytes) in &before {
        // A link to itself: opening it fails, whoever tries, and says nothing about what should be there.
        let pack = place.path().join(name);
        fs::remove_file(&pack).unwrap();
        std::os::unix::fs::symlink(&pack, &pack).unwrap();
        for command in [&[][..], &["reindex"]] {
            if !command.is_empty() {
                place.run(command);
            }
            let run = place.run(&["verify", "--repair", "--from", from]);
            assert_eq!(run.code, 6, "{}{}", run.out, run.err);
            assert!(
                run.err.contains(&format!("error: {}", name.strip_prefix(".shard").unwrap().display())),
                "{}",
                run.err
            );
            assert!(fs::symlink_metadata(&pack).unwrap().is_symlink(), "it was removed");
            assert_eq!(files_ending(&place.path().join(".shard/packs"), ".pack").len(), before.len());
        }
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
    place.ok(&["reindex"]);
    assert_eq!(place.ok(&["verify", "--repair", "--from", from]), "all is well: nothing needs to be repaired\n");
    assert_eq!(stored(&place), before);
}

#[test]
fn fault_09_a_damaged_ref_stops_only_who_needs_it_and_who_deletes() {
    let place = Place::with_history();
    place.ok(&["branch", "other", "v1"]);
    place.ok(&["checkout", "other"]);
    commit(&place, "Aside", &[]);
    place.ok(&["checkout", "main"]);
    // From the first collection on writers look what refs lead to.
    place.ok(&["gc", "--prune-now"]);
    assert!(!files_ending(&place.path().join(".shard/epochs"), "").is_empty());
    let mut states = files_ending(&place.path().join(".shard/refs/heads%2fother"), "");
    states.sort();
    assert!(Damage::Flip { at: 30, bit: 2 }.apply(&states[0]));
    let before = stored(&place);
    for command in [&["gc"][..], &["gc", "--prune-now"], &["log", "other"], &["checkout", "other"]] {
        place.fails(command, 5, &["heads%2fother"]);
    }
    assert_eq!(place.run(&["verify"]).code, 1);
    assert_eq!(stored(&place), before);
    let third = commit(&place, "Third", &[]);
    assert_eq!(id(&place, "main"), third);
    place.ok(&["status"]);
    place.ok(&["log"]);
    place.ok(&["checkout", "v1"]);
    place.ok(&["checkout", "main"]);
    place.ok(&["checkout", "v1", "model.safetensors", "-o", "out"]);
}
