//! `gc`, `du`, `leases`.

use std::fs;
use std::time::{Duration, SystemTime};

use shard_tests::tree::files_ending;

use crate::place::Place;

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn packs_size(place: &Place) -> u64 {
    let packs = files_ending(&place.path().join(".shard/packs"), ".pack");
    packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum()
}

fn well(place: &Place) {
    for args in [&["verify"][..], &["verify", "--full"]] {
        assert_eq!(place.json(args)["ok"], true);
    }
}

/// A repository with a history, and a branch that is deleted with what it alone had.
fn with_dead_branch() -> Place {
    let place = Place::with_history();
    place.ok(&["checkout", "-b", "side"]);
    place.write("big.bin", &noise(1, 300_000));
    place.ok(&["add", "big.bin"]);
    place.ok(&["commit", "-m", "Big"]);
    place.ok(&["checkout", "main"]);
    place
}

#[test]
fn a_collection_says_what_it_would_do_and_does_it() {
    let place = with_dead_branch();
    let (model, before) = (place.read("model.safetensors"), packs_size(&place));
    place.ok(&["branch", "-D", "side"]);
    // Its log holds it.
    let out = place.ok(&["gc"]);
    assert!(out.contains("0 B given back") || out.contains("deleted 0 packs"), "{out}");
    let plan = place.json(&["gc", "--dry-run", "--prune-now"]);
    assert_eq!(plan["dry_run"], true);
    let freed = plan["plan"]["freed_bytes"].as_u64().unwrap();
    assert!(freed > 300_000, "{plan}");
    let out = place.ok(&["gc", "-n", "--prune-now"]);
    assert!(out.contains("would be given back; nothing was written") && out.contains("earlier state"), "{out}");
    assert_eq!(packs_size(&place), before);

    let report = place.json(&["gc", "--prune-now"]);
    assert_eq!((report["dry_run"].as_bool(), report["freed_bytes"].as_u64()), (Some(false), Some(freed)), "{report}");
    assert!(before - packs_size(&place) > 300_000);
    well(&place);
    assert_eq!(place.read("model.safetensors"), model);
    place.ok(&["checkout", "v1", "-o", "out"]);
    place.fails(&["branch", "side", "side@{1}"], 3, &["side@{1}"]);
    assert_eq!(place.json(&["gc", "--dry-run", "--prune-now"])["plan"]["dead_bytes"], 0);
    assert_eq!(place.ok(&["gc", "--prune-now", "-q"]), "");
    assert_eq!(place.run(&["gc", "--prune-now", "--keep-reflog", "3"]).code, 2);
}

#[test]
fn logs_are_kept_by_count() {
    let place = with_dead_branch();
    place.ok(&["branch", "-D", "side"]);
    assert!(place.json(&["reflog"])["entries"].as_array().unwrap().len() > 3);
    place.ok(&["gc", "--keep-reflog", "1"]);
    // The state of the branch before it was deleted is one of those that stay.
    place.ok(&["branch", "side", "side@{1}"]);
    assert!(place.read(".shard/format").starts_with(b"shard-repository"));
    well(&place);
}

#[test]
fn storage_is_told_by_part_kind_and_ref() {
    let place = with_dead_branch();
    let json = place.json(&["du"]);
    let side = |json: &serde_json::Value| {
        let refs = json["refs"].as_array().unwrap();
        refs.iter().find(|entry| entry["name"] == "side").unwrap()["frees"].as_u64().unwrap()
    };
    assert!((300_000..310_000).contains(&side(&json)), "{json}");
    let sections = json["sections"].as_array().unwrap();
    let total: u64 = sections.iter().map(|section| section["total_size"].as_u64().unwrap()).sum();
    assert_eq!(json["total_size"], total);
    let packs = sections.iter().find(|section| section["name"] == "packs").unwrap();
    assert_eq!(
        (packs["total_size"].as_u64(), packs["reclaim_strategy"].as_str()),
        (Some(packs_size(&place)), Some("gc"))
    );
    place.ok(&["snapshot"]);
    let text = place.ok(&["du"]);
    for part in ["deleting it frees", "side", "packs", "prune-cache", "commit", "block"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What it said is what it gives.
    let (before, frees) = (json["reachable_size"].as_u64().unwrap(), side(&json));
    place.ok(&["branch", "-D", "side"]);
    let json = place.json(&["du"]);
    assert_eq!(before - json["reachable_size"].as_u64().unwrap(), frees);
    assert!(json["historical_retained_size"].as_u64().unwrap() >= 300_000, "{json}");
    let recommendations = json["recommendations"].to_string();
    assert!(recommendations.contains("--prune-now") && recommendations.contains("--prune-cache"), "{json}");
    // The files that a snapshot made go where that is asked for.
    let views = json["reclaimable_cache_size"].as_u64().unwrap();
    assert!(views > 0, "{json}");
    assert_eq!(place.json(&["gc", "--dry-run"])["plan"]["view_bytes"], 0);
    assert_eq!(place.json(&["gc", "--dry-run", "--prune-cache"])["plan"]["view_bytes"], views);
    assert_eq!(place.json(&["gc", "--prune-cache"])["view_bytes"], views);
    assert_eq!(place.json(&["du"])["reclaimable_cache_size"], 0);
}

#[test]
fn fault_15_who_is_at_work_is_waited_for_and_listed() {
    let place = with_dead_branch();
    place.ok(&["branch", "-D", "side"]);
    let store = shard_store::Store::open(&place.path().join(".shard")).unwrap();
    let writer = store.begin("a test").unwrap();
    let nonce = writer.lease().nonce.to_hex();
    let json = place.json(&["leases"]);
    assert_eq!(
        (json["leases"][0]["nonce"].as_str(), json["leases"][0]["holder"].as_str()),
        (Some(nonce.as_str()), Some("at work"))
    );
    assert!(place.ok(&["leases"]).contains("a test"));
    let before = packs_size(&place);
    place.fails(&["gc", "--prune-now", "--wait", "0"], 4, &["a test by process", "--wait", "shard leases"]);
    assert!(packs_size(&place) >= before);
    well(&place);
    let claim = store.claim("another").unwrap();
    place.fails(&["gc"], 4, &["another process may delete packs now", "shard leases"]);
    drop(claim);
    place.fails(&["leases", "--break", "nothing"], 3, &["there is no lease"]);
    let out = place.ok(&["leases", "--break", &nonce[..10]]);
    assert!(out.contains(&nonce), "{out}");
    let moved = shard_store::RefUpdate {
        name: "heads/late".to_owned(),
        expected: None,
        target: store.refs().read("heads/main").unwrap().unwrap().target,
    };
    assert!(writer.update_refs(&[moved], "", shard_store::Nonce([1; 16])).is_err(), "its holder is stopped");
    // What was condemned is deleted by the next one.
    place.ok(&["gc", "--prune-now"]);
    assert!(packs_size(&place) + 300_000 < before);
    well(&place);
}

#[test]
fn fault_17_leases_and_claims_of_the_dead_are_in_nobodys_way() {
    let place = with_dead_branch();
    let store = shard_store::Store::open(&place.path().join(".shard")).unwrap();
    let (claim, writer) = (store.claim("gc").unwrap(), store.begin("writer").unwrap());
    // As they would be, had their process been another, which is gone.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let folder = place.path().join(".shard/leases");
    for file in files_ending(&folder, "") {
        let text = fs::read_to_string(&file).unwrap();
        let me = std::process::id();
        let body = text[..text.find("checksum ").unwrap()].replace(&format!("_{me}_"), &format!("_{}_", child.id()));
        fs::remove_file(&file).unwrap();
        let sum = shard_core::sha256(body.as_bytes());
        fs::write(&file, format!("{body}checksum {sum}\n")).unwrap();
    }
    assert!(place.ok(&["leases"]).matches("gone").count() == 2);
    place.ok(&["branch", "-D", "side"]);
    place.ok(&["gc", "--prune-now", "--wait", "0"]);
    assert!(files_ending(&folder, "").is_empty());
    well(&place);
    drop((claim, writer));
}

#[test]
fn fault_16_no_clock_decides_what_is_deleted() {
    let place = with_dead_branch();
    let year = Duration::from_secs(365 * 24 * 3600);
    place.ok(&["tag", "kept", "side"]);
    place.ok(&["branch", "-D", "side"]);
    for when in [SystemTime::now() - 10 * year, SystemTime::now() + 10 * year] {
        for folder in ["packs", "refs", "leases", "epochs", "index"] {
            for file in files_ending(&place.path().join(".shard").join(folder), "") {
                let set = fs::File::open(&file).and_then(|file| file.set_modified(when));
                set.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            }
        }
        let report = place.json(&["gc", "--prune-now"]);
        assert_eq!(report["plan"]["unfinished_collection"], false, "{report}");
        well(&place);
        place.ok(&["checkout", "kept", "-o", "out", "-f"]);
        assert_eq!(place.read("out/big.bin"), noise(1, 300_000));
    }
    place.ok(&["tag", "-d", "kept"]);
    let freed = place.json(&["gc", "--prune-now"])["freed_bytes"].as_u64().unwrap();
    assert!(freed > 300_000);
    well(&place);
}

#[test]
fn damage_stops_a_collection() {
    let place = with_dead_branch();
    place.ok(&["branch", "-D", "side"]);
    // Then all that is left is needed.
    place.ok(&["gc", "--prune-now"]);
    let packs = files_ending(&place.path().join(".shard/packs"), ".pack");
    let smallest = packs.iter().min_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::rename(smallest, place.path().join("aside")).unwrap();
    let left = packs_size(&place);
    place.fails(&["gc", "--prune-now"], 5, &["missing"]);
    place.fails(&["gc", "--dry-run"], 5, &["missing"]);
    assert_eq!(packs_size(&place), left, "nothing was deleted");
    fs::rename(place.path().join("aside"), smallest).unwrap();
    place.ok(&["gc", "--prune-now"]);
    well(&place);
}
