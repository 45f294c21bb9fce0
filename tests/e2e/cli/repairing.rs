//! `verify` and its repair, of what only earlier states of refs lead to, and of what no copy is needed for.

use std::fs;
use std::path::{Path, PathBuf};

use shard_tests::damage::{Damage, overwrite};
use shard_tests::tree::{copy, files_ending};

use crate::care::{backup, commit, id, packs};
use crate::place::Place;

/// A repository whose last commit was taken back: that commit, and the packs that it alone needs, below the repository.
fn taken_back() -> (Place, String, Vec<PathBuf>) {
    let place = Place::with_history();
    let before = packs(&place);
    let second = id(&place, "main");
    let third = commit(&place, "Third", &[]);
    let mut new = packs(&place);
    new.retain(|pack| !before.contains(pack));
    assert!(!new.is_empty());
    place.ok(&["reset", "--hard", "HEAD~1"]);
    assert_eq!(id(&place, "main"), second);
    let below = new.iter().map(|pack| pack.strip_prefix(place.path()).unwrap().to_owned()).collect();
    (place, third, below)
}

fn repair(place: &Place, from: &Path) -> (i32, serde_json::Value) {
    let run = place.run(&["verify", "--repair", "--from", from.to_str().unwrap(), "--json"]);
    (run.code, serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {}{}", run.out, run.err)))
}

/// Checks that what was taken back can be had again, by its log and by undoing.
fn comes_back(place: &Place, third: &str) {
    place.ok(&["branch", "x", "heads/main@{1}"]);
    assert_eq!(id(place, "x"), third);
    place.ok(&["checkout", "x", "-o", "out"]);
    assert_eq!(place.read("out/notes.txt"), b"Third");
    place.ok(&["branch", "-D", "x"]);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    place.ok(&["du"]);
    place.ok(&["gc"]);
    place.ok(&["reset", "--hard", "heads/main@{1}"]);
    assert_eq!(id(place, "main"), third);
    assert_eq!(place.read("notes.txt"), b"Third");
}

#[test]
fn fault_09_what_an_earlier_state_of_a_ref_leads_to_is_verified_and_repaired() {
    let (place, third, lost) = taken_back();
    let other = backup(&place);
    for pack in &lost {
        fs::remove_file(place.path().join(pack)).unwrap();
    }
    for command in [&["gc"][..], &["du"]] {
        place.fails(command, 5, &["missing"]);
    }
    let needs = "an earlier state of heads/main (heads/main@{1}) needs it: commit";
    for command in [&["verify"][..], &["verify", "--full"]] {
        let run = place.run(command);
        assert_eq!(run.code, 1, "{command:?}: {}{}", run.out, run.err);
        assert!(run.out.contains(&format!("{needs} {third}")), "{}", run.out);
        assert!(run.out.contains("an earlier state of stage ("), "{}", run.out);
    }
    // One that has it neither: it is told how to go on without.
    let old = Place::with_history();
    let run = place.run(&["verify", "--repair", "--from", old.path().to_str().unwrap()]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains(needs) && run.out.contains("`shard gc --prune-now`"), "{}", run.out);

    let (code, report) = repair(&place, &other.path().join("copy"));
    assert_eq!((code, report["ok"].as_bool()), (0, Some(true)), "{report}");
    assert!(report["fetched"].as_u64().unwrap() >= 3, "{report}");
    place.ok(&["undo"]);
    assert_eq!(id(&place, "main"), third);
    place.ok(&["undo"]);
    comes_back(&place, &third);
}

#[test]
fn earlier_states_are_given_up_where_nobody_has_what_they_lead_to() {
    let (place, _, lost) = taken_back();
    for pack in &lost {
        fs::remove_file(place.path().join(pack)).unwrap();
    }
    assert_eq!(place.run(&["verify"]).code, 1);
    place.fails(&["gc"], 5, &["missing"]);
    place.ok(&["gc", "--prune-now"]);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    place.ok(&["gc"]);
}

/// Flips a bit so far before the end of a pack: 53 is in its footer, how many bases the last entry has, 10 in its trailer.
fn flip(place: &Place, pack: &Path, before_end: u64) {
    let pack = place.path().join(pack);
    let at = fs::metadata(&pack).unwrap().len() - before_end;
    assert!(Damage::Flip { at, bit: 3 }.apply(&pack));
}

#[test]
fn fault_09_a_pack_without_a_footer_goes_only_where_all_that_was_in_it_is_known() {
    let (healthy, third, lost) = taken_back();
    let other = backup(&healthy);
    let copy_path = other.path().join("copy");
    healthy.ok(&["pack", "model.safetensors", "-o", "model.shard"]);
    let archive = healthy.path().join("model.shard");
    let fresh = |before_end: &[u64]| {
        let place = Place::new();
        copy(healthy.path(), place.path());
        for pack in &lost {
            before_end.iter().for_each(|before_end| flip(&place, pack, *before_end));
        }
        // What is left knows nothing of them.
        fs::remove_dir_all(place.path().join(".shard/cache")).unwrap();
        let run = place.run(&["verify"]);
        assert_eq!(run.code, 1, "{}{}", run.out, run.err);
        assert!(run.out.contains("an earlier state of heads/main"), "{}", run.out);
        place
    };
    // The entries are whole, and tell what was in the footer; so a copy that has nothing of them will do.
    for damage in [&[53][..], &[10]] {
        for from in [&copy_path, &archive] {
            let place = fresh(damage);
            let (code, report) = repair(&place, from);
            assert_eq!((code, report["left"].as_array().unwrap().len()), (0, 0), "{damage:?} {from:?}: {report}");
            assert_eq!(report["retired"].as_array().unwrap().len(), lost.len(), "{report}");
            assert_eq!(report["fetched"], 0, "{report}");
            place.ok(&["reindex"]);
            comes_back(&place, &third);
        }
    }
    // With neither footer nor trailer nobody knows whether what is found is all: the other's packs tell, or they stay.
    for (from, is_told) in [(&archive, false), (&copy_path, true)] {
        let place = fresh(&[53, 10]);
        let (code, report) = repair(&place, from);
        assert_eq!(code, i32::from(!is_told), "{report}");
        let count = |field: &str| report[field].as_array().unwrap().len();
        let counts = (count("left"), count("retired"));
        assert_eq!(counts, if is_told { (0, lost.len()) } else { (lost.len(), 0) }, "{report}");
        for pack in &lost {
            assert_eq!(place.path().join(pack).exists(), !is_told, "{report}");
        }
        if !is_told {
            // It was written again all the same; and what stays can be put right later.
            let run = place.run(&["verify", "--repair", "--from", archive.to_str().unwrap()]);
            assert_eq!(run.code, 1, "{}{}", run.out, run.err);
            assert!(run.out.contains(".pack is damaged and stays: not all"), "{}", run.out);
            assert!(!run.out.contains("an earlier state"), "{}", run.out);
            assert_eq!(repair(&place, &copy_path).0, 0);
        }
        comes_back(&place, &third);
    }
    // Nothing of the packs is left, and the copy has other ones: with nobody to tell what was in them they stay.
    let place = fresh(&[53]);
    for pack in &lost {
        overwrite(&place.path().join(pack), b"nothing");
    }
    let (code, report) = repair(&place, &archive);
    assert_eq!((code, report["left"].as_array().unwrap().len()), (1, lost.len()), "{report}");
    let (code, report) = repair(&place, &copy_path);
    assert_eq!((code, report["left"].as_array().unwrap().len()), (0, 0), "{report}");
    comes_back(&place, &third);
}

/// The newest record of a collection.
fn newest_epoch(place: &Place) -> PathBuf {
    let mut epochs = files_ending(&place.path().join(".shard/epochs"), "");
    epochs.sort();
    epochs.remove(0)
}

#[test]
fn fault_09_a_damaged_epoch_is_told_and_repaired_without_another_copy() {
    let (place, third, _) = taken_back();
    place.ok(&["gc", "--keep-reflog", "5"]);
    // One that a collection is waiting with: it condemns what only an earlier state leads to.
    place.ok(&["branch", "dead", &third]);
    place.ok(&["branch", "-D", "dead"]);
    place.ok(&["gc", "--prune-now"]);
    let epoch = newest_epoch(&place);
    assert!(Damage::Flip { at: 20, bit: 1 }.apply(&epoch));
    let name = epoch.file_name().unwrap().to_str().unwrap().to_owned();
    let place_of = format!("epochs/{name}");
    place.write("notes.txt", b"more");
    for command in [&["add", "notes.txt"][..], &["gc"], &["branch", "other"]] {
        place.fails(command, 5, &[&place_of, "`shard verify --repair` puts it right"]);
    }
    for command in [&["verify"][..], &["verify", "--full"]] {
        let run = place.run(command);
        assert_eq!(run.code, 1, "{command:?}: {}{}", run.out, run.err);
        assert!(run.out.contains(&place_of) && run.out.contains("nothing can be written"), "{}", run.out);
    }
    let report = place.json(&["verify", "--repair"]);
    assert_eq!((report["ok"].as_bool(), &report["files"][0]), (Some(true), &place_of.as_str().into()), "{report}");
    assert!(!epoch.exists() && newest_epoch(&place) < epoch);
    let fourth = commit(&place, "Fourth", &[]);
    place.ok(&["gc", "--prune-now"]);
    assert_eq!(id(&place, "main"), fourth);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    assert_eq!(place.ok(&["verify", "--repair"]), "all is well: nothing needs to be repaired\n");
}

#[test]
fn fault_09_a_damaged_lease_is_told_and_can_be_ended() {
    let place = Place::with_history();
    let third = commit(&place, "Third", &[]);
    place.ok(&["reset", "--hard", "HEAD~1"]);
    // A writer's, from before any collection; and a claim.
    for (epoch, refused) in [(0u64, "still at work"), (u64::MAX, "may delete packs")] {
        let name = format!("{epoch:016x}-{}", "5".repeat(32));
        let lease = place.write(&format!(".shard/leases/{name}"), b"nothing that can be read");
        place.fails(
            &["gc", "--prune-now", "--wait", "0"],
            4,
            &[refused, &name, "cannot be read", "shard leases --break"],
        );
        let listed = place.ok(&["leases"]);
        assert!(listed.contains(&name) && listed.contains("cannot be read"), "{listed}");
        let run = place.run(&["verify"]);
        assert_eq!(run.code, 0, "{}{}", run.out, run.err);
        assert!(run.out.contains(&format!("`shard leases --break {name}` ends it")), "{}", run.out);
        place.ok(&["leases", "--break", &name]);
        assert!(!lease.exists());
    }
    place.ok(&["gc", "--prune-now"]);
    place.fails(&["log", &third], 3, &[]);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
}

#[test]
fn damage_is_told_with_the_repair_that_there_is() {
    let place = Place::with_history();
    for pack in packs(&place) {
        overwrite(&pack, b"nothing");
    }
    for command in [&["checkout", "v1", "-o", "out"][..], &["log"], &["gc"], &["reindex"]] {
        let run = place.run(command);
        assert_eq!(run.code, 5, "{command:?}: {}{}", run.out, run.err);
        for text in ["`shard verify --full`", "`shard verify --repair --from COPY`", "backup"] {
            assert!(run.err.contains(text), "{command:?} lacks {text:?}: {}", run.err);
        }
    }
}
