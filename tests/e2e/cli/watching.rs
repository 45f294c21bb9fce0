//! `watch`.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shard_tests::process::Shard;
use shard_tests::serving::Serving;

use crate::place::{Place, hex, model};

/// A watcher under way, and what it says.
struct Watcher {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watcher {
    fn start(place: &Place, args: &[&str]) -> Self {
        let all =
            [&["-C", "sampler", "--json", "watch", "origin", "main", "-o", "../weights", "--interval", "10"], args]
                .concat();
        let mut child = place.command(&all).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it says of the next version that it applies.
    fn next(&mut self) -> Value {
        let line = self.lines.next().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A trainer whose origin is at `url`, and a sampler that is a clone of it.
fn trainer_and_sampler(place: &Place, url: &str) {
    place.ok(&["init", "trainer"]);
    place.ok(&["-C", "trainer", "connect", url]);
    commit(place, 1.0);
    place.ok(&["clone", "--lazy", "--no-checkout", url, "sampler"]);
}

fn weights(first: f32) -> Vec<u8> {
    model(&[("a", &[first, 2.0, 3.0]), ("b", &[4.0; 1000])])
}

fn commit(place: &Place, first: f32) {
    place.write("trainer/model.safetensors", &weights(first));
    place.write("trainer/log.txt", first.to_string().as_bytes());
    place.ok(&["-C", "trainer", "add", "."]);
    place.ok(&["-C", "trainer", "commit", "-m", "Next"]);
    place.ok(&["-C", "trainer", "push", "--force"]);
}

fn follow(place: &Place, url: &str) {
    trainer_and_sampler(place, url);
    let mut watcher = Watcher::start(place, &["--anchor", "3", "--path", "model.safetensors"]);
    let first = watcher.next();
    assert_eq!(
        (first["from"].is_null(), first["anchor"].as_bool(), first["files"].as_u64()),
        (true, Some(true), Some(1))
    );
    assert_eq!(place.read("weights/model.safetensors"), weights(1.0));
    for (number, anchor) in [(2u8, false), (3, false), (4, true), (5, false)] {
        commit(place, f32::from(number));
        let told = watcher.next();
        assert_eq!(
            (told["anchor"].as_bool(), told["mended"].as_u64(), told["blocks"].as_u64()),
            (Some(anchor), Some(0), Some(1))
        );
        assert_eq!(told["written"], 12, "the block that the tensor is");
        assert!(place.read("weights/model.safetensors") == weights(f32::from(number)), "{number}");
        let note: Value = serde_json::from_slice(&place.read("weights/.shard-version")).unwrap();
        assert_eq!((&note["commit"], note["whole"].as_bool()), (&told["commit"], Some(true)));
    }
    assert!(!place.path().join("weights/log.txt").exists(), "it was not asked for");
    // Changed here: mended, while nothing new comes.
    std::thread::sleep(Duration::from_millis(30));
    place.write("weights/model.safetensors", b"other");
    let told = watcher.next();
    assert_eq!((told["mended"].as_u64(), told["from"] == told["commit"]), (Some(1), true));
    assert_eq!(place.read("weights/model.safetensors"), weights(5.0));
    // A branch that goes back and then another way.
    place.ok(&["-C", "trainer", "reset", "--hard", "HEAD~2"]);
    commit(place, 9.0);
    let told = watcher.next();
    assert_eq!(told["anchor"], true);
    assert_eq!(place.read("weights/model.safetensors"), weights(9.0));
    place.fails(
        &["-C", "sampler", "watch", "origin", "main", "-o", "../weights"],
        2,
        &["is followed by another process"],
    );

    // Killed, and started again: it goes on from where it was, with what came meanwhile.
    drop(watcher);
    commit(place, 10.0);
    commit(place, 11.0);
    let out = place.ok(&[
        "-C",
        "sampler",
        "watch",
        "origin",
        "main",
        "-o",
        "../weights",
        "--path",
        "model.safetensors",
        "--count",
        "1",
    ]);
    assert!(out.contains("wrote 12 B (1 block) of 1 file") && !out.contains("proved"), "{out}");
    assert_eq!(place.read("weights/model.safetensors"), weights(11.0));
}

#[test]
fn versions_are_followed_in_a_folder() {
    let place = Place::new();
    place.ok(&["init", "--bare", "hub"]);
    let url = place.path().join("hub").to_str().unwrap().to_owned();
    follow(&place, &url);
}

#[test]
fn versions_are_followed_over_http() {
    let place = Place::new();
    place.ok(&["init", "--bare", "hub"]);
    let shard = Shard::new(env!("CARGO_BIN_EXE_shard"), place.path());
    let mut server = Serving::start(&shard);
    follow(&place, &server.url("hub"));

    // A server that is gone for a while is waited for by who has a version.
    let mut watcher = Watcher::start(&place, &["--path", "model.safetensors"]);
    server.kill();
    std::thread::sleep(Duration::from_millis(100));
    server.restart();
    commit(&place, 12.0);
    let told = watcher.next();
    assert_eq!(place.read("weights/model.safetensors"), weights(12.0), "{told}");
    drop(watcher);
    // Who has none is told.
    server.kill();
    place.fails(&["-C", "sampler", "watch", "origin", "main", "-o", "../other"], 6, &["cannot be reached"]);
}

#[test]
fn what_cannot_be_watched_is_told() {
    let place = Place::new();
    place.ok(&["init", "--bare", "hub"]);
    let url = place.path().join("hub").to_str().unwrap().to_owned();
    trainer_and_sampler(&place, &url);
    let watch = |args: &[&str], code, expected: &[&str]| {
        place.fails(&[&["-C", "sampler", "watch"], args].concat(), code, expected)
    };
    for wrong in [&["origin"][..], &["origin", "main"], &["origin", "main", "-o", "../w", "--anchor", "x"]] {
        assert_eq!(place.run(&[&["-C", "sampler", "watch"], wrong].concat()).code, 2, "{wrong:?}");
    }
    watch(&["elsewhere", "main", "-o", "../w"], 3, &["there is no remote \"elsewhere\""]);
    watch(&["../hub", "main", "-o", "../w"], 3, &["only remotes are followed"]);
    watch(&["origin", "gone", "-o", "../w"], 3, &["has no branch or tag \"gone\""]);
    watch(&["origin", "main", "-o", "../w", "--path", "gone"], 3, &["gone"]);
    watch(&["origin", "main", "-o", "../trainer"], 2, &["has files already"]);
    watch(&["origin", "main", "-o", ".shard/w"], 2, &["inside the repository's own folder"]);
    for zero in ["--interval", "--count", "--anchor"] {
        assert_eq!(place.run(&["-C", "sampler", "watch", "origin", "main", "-o", "../w", zero, "0"]).code, 2, "{zero}");
    }
    place.write("w2/.shard-version", b"{\"version\": 1}");
    watch(&["origin", "main", "-o", "../w2"], 2, &["is not what shard writes there"]);
    // A pipe in the place of a file is not waited for.
    let start = Instant::now();
    place.ok(&["-C", "sampler", "watch", "origin", "main", "-o", "../w3", "--count", "1"]);
    let file = place.path().join("w3/model.safetensors");
    let was = hex(&fs::read(&file).unwrap());
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    commit(&place, 2.0);
    commit(&place, 1.0);
    place.ok(&["-C", "sampler", "watch", "origin", "main", "-o", "../w3", "--count", "1"]);
    assert_eq!(hex(&fs::read(&file).unwrap()), was);
    assert!(start.elapsed() < Duration::from_secs(60));
}
