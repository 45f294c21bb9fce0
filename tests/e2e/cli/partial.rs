//! `clone --lazy`, `pull --path`, `pull --tensor`.

use std::fs;

use shard_datasets::rng::Rng;
use shard_tests::process::Shard;
use shard_tests::serving::Serving;
use shard_tests::tree::sizes;

use crate::place::{Place, model};

/// Bytes of each version of `big.bin`.
const BIG: usize = 600_000;

/// A folder with a bare repository `hub` whose branch `main` has three versions of `big.bin`, and a model of two tensors.
fn hub() -> Place {
    let place = Place::new();
    place.ok(&["init", "--bare", "hub"]);
    place.ok(&["clone", "./hub", "maker"]);
    for (seed, title) in [(1, "One"), (2, "Two"), (3, "Three")] {
        place.write("maker/big.bin", &Rng::new(seed).noise(BIG));
        let values: Vec<f32> = (0..4096u32).map(|at| (u64::from(at) * seed) as f32 * 0.37).collect();
        place.write("maker/m/model.safetensors", &model(&[("a", &values), ("b", &values[..2048])]));
        place.ok(&["-C", "maker", "add", "."]);
        place.ok(&["-C", "maker", "commit", "-m", title]);
    }
    place.ok(&["-C", "maker", "push"]);
    place
}

fn stored(place: &Place, repository: &str) -> u64 {
    sizes(&place.path().join(repository).join("packs")).values().sum()
}

fn cat(place: &Place, file: &str) -> Vec<u8> {
    place.command(&["-C", "part", "cat", file]).output().unwrap().stdout
}

fn is_whole(place: &Place, folder: &str) {
    assert_eq!(place.json(&["-C", folder, "verify", "--full"])["ok"], true);
}

#[test]
fn a_lazy_clone_has_blocks_when_they_are_read() {
    let place = hub();
    let all = stored(&place, "hub");
    assert!(all > 3 * BIG as u64);
    let cloned = place.json(&["clone", "--lazy", "./hub", "part"]);
    assert_eq!(
        (cloned["lazy"].as_bool(), cloned["commits"].as_u64(), cloned["blocks"].as_u64()),
        (Some(true), Some(3), Some(0))
    );
    assert_eq!(place.read("part/big.bin"), Rng::new(3).noise(BIG));
    assert!(stored(&place, "part/.shard") < BIG as u64 * 3 / 2, "only what is checked out is there");
    is_whole(&place, "part");
    assert_eq!(place.json(&["-C", "part", "status"])["clean"], true);
    // What is left over there survives a collection, and is no damage.
    place.ok(&["-C", "part", "gc", "--prune-now"]);
    is_whole(&place, "part");

    let diff = place.ok(&["-C", "part", "diff", "HEAD~2", "HEAD", "--", "m/model.safetensors"]);
    assert!(diff.contains("2 tensors"), "{diff}");
    assert_eq!(cat(&place, "HEAD~1:big.bin"), Rng::new(2).noise(BIG));
    place.ok(&["-C", "part", "checkout", "HEAD~2", "-o", "../first"]);
    assert_eq!(place.read("first/big.bin"), Rng::new(1).noise(BIG));
    assert!(stored(&place, "part/.shard") > 3 * BIG as u64, "now they are all there");
    is_whole(&place, "part");
}

#[test]
fn a_lazy_clone_commits_pushes_and_pulls() {
    let place = hub();
    place.ok(&["clone", "--lazy", "./hub", "part"]);
    place.write("part/more.bin", b"more");
    place.ok(&["-C", "part", "add", "more.bin"]);
    place.ok(&["-C", "part", "commit", "-m", "Four"]);
    assert_eq!(place.json(&["-C", "part", "push"])["commits"], 1);
    is_whole(&place, "hub");
    place.ok(&["-C", "maker", "pull"]);
    place.write("maker/big.bin", &Rng::new(5).noise(BIG));
    place.ok(&["-C", "maker", "add", "."]);
    place.ok(&["-C", "maker", "commit", "-m", "Five"]);
    place.ok(&["-C", "maker", "push"]);
    let pulled = place.json(&["-C", "part", "pull"]);
    assert_eq!((pulled["commits"].as_u64(), pulled["blocks"].as_u64()), (Some(1), Some(0)));
    assert_eq!(place.read("part/big.bin"), Rng::new(5).noise(BIG));
    // To another repository all of it goes, from wherever it is.
    place.ok(&["init", "--bare", "other"]);
    place.ok(&["-C", "part", "push", "../other", "main"]);
    is_whole(&place, "other");
    assert!(stored(&place, "other") > 4 * BIG as u64);
}

#[test]
fn blocks_that_cannot_come_are_told() {
    let place = hub();
    place.ok(&["clone", "--lazy", "--no-checkout", "./hub", "part"]);
    place.fails(&["-C", "part", "remote", "rm", "origin"], 4, &["has the blocks that are not here", "set-url"]);
    fs::rename(place.path().join("hub"), place.path().join("gone")).unwrap();
    let told = &["hub has the blocks that are not here, and they cannot be brought", "not a shard repository"];
    place.fails(&["-C", "part", "checkout", "HEAD"], 6, told);
    let gone = place.path().join("gone").to_str().unwrap().to_owned();
    place.ok(&["-C", "part", "remote", "set-url", "origin", &gone]);
    assert_eq!(cat(&place, "HEAD:big.bin"), Rng::new(3).noise(BIG));
}

#[test]
fn parts_are_pulled_over_http() {
    let place = hub();
    let shard = Shard::new(env!("CARGO_BIN_EXE_shard"), place.path());
    let server = Serving::start(&shard);
    place.ok(&["clone", "--lazy", "--no-checkout", &server.url("hub"), "part"]);
    assert!(stored(&place, "part/.shard") < 100_000);
    let pulled = place.json(&["-C", "part", "pull", "--tensor", "b"]);
    assert_eq!((pulled["brought"]["tensors"].as_u64(), pulled["brought"]["blocks"].as_u64()), (Some(1), Some(1)));
    assert!(stored(&place, "part/.shard") < 100_000, "the other file stays where it is");
    place.fails(&["-C", "part", "pull", "--tensor", "nothing*"], 4, &["no tensor of origin/main"]);
    let pulled = place.json(&["-C", "part", "pull", "--path", "m"]);
    assert_eq!((pulled["written"].as_u64(), pulled["source"].as_str()), (Some(1), Some("origin/main")));
    assert_eq!(place.read("part/m/model.safetensors"), place.read("maker/m/model.safetensors"));
    assert!(!place.path().join("part/big.bin").exists());
    // Of a whole clone only what is new stays over there.
    place.ok(&["clone", &server.url("hub"), "whole"]);
    place.write("maker/big.bin", &Rng::new(9).noise(BIG));
    place.write("maker/small.txt", b"small");
    place.ok(&["-C", "maker", "add", "."]);
    place.ok(&["-C", "maker", "commit", "-m", "Four"]);
    place.ok(&["-C", "maker", "push"]);
    let before = stored(&place, "whole/.shard");
    place.ok(&["-C", "whole", "pull", "--path", "small.txt"]);
    assert_eq!(place.read("whole/small.txt"), b"small");
    assert!(stored(&place, "whole/.shard") < before + BIG as u64 / 2);
    assert_eq!(place.read("whole/big.bin"), Rng::new(3).noise(BIG));
    place.ok(&["-C", "whole", "checkout", "--force", "origin/main"]);
    assert_eq!(place.read("whole/big.bin"), Rng::new(9).noise(BIG));
}
