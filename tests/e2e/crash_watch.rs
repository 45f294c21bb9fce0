//! A trainer that commits and pushes, a sampler that follows it in place and is killed at random instants, and a reader of the sampler's
//! folder, side by side, by real processes; over HTTP the server is killed too. Behind the feature `data-suite`, since it takes minutes.
//! `SHARD_TEST_ROUNDS` says how often the watcher has to be killed (200), `SHARD_TEST_SEED` begins another sequence.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use shard_datasets::cases::Versions;
use shard_datasets::rng::Rng;
use shard_tests::killing::EndsOthers;
use shard_tests::process::{Shard, exit};
use shard_tests::serving::Serving;
use shard_tests::tree::{sha256_hex, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");
const MODEL: &str = "model.safetensors";
/// Longer than any run here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(900);

/// What the loops know of each other.
#[derive(Default)]
struct Scene {
    /// The models of all commits, by their ids: SHA-256.
    committed: Mutex<BTreeMap<String, String>>,
    kills: AtomicU32,
    /// How often a whole version was read.
    reads: AtomicU32,
    is_over: AtomicBool,
}

impl Scene {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Commits and pushes versions; now and then it goes back and another way.
    fn train(&self, shard: &Shard, mut rng: Rng) {
        let _others = EndsOthers(&self.is_over);
        let mut versions = Versions::new(rng.below(1 << 40), 6, 300, 512, 0.001);
        let mut since = 0;
        while !self.is_over() {
            if since > 4 && rng.below(8) == 0 {
                shard.ok(&["reset", "--hard", "HEAD~3"]);
                since = 0;
            }
            let bytes = versions.next().unwrap().unwrap();
            write(&shard.folder().join(MODEL), &bytes);
            write(&shard.folder().join(format!("logs/{since}.txt")), since.to_string().as_bytes());
            shard.ok(&["add", "."]);
            shard.ok(&["commit", "-m", "Next"]);
            let commit = shard.json(&["log", "HEAD", "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned();
            self.committed.lock().unwrap().insert(commit, sha256_hex(&bytes));
            since += 1;
            // The server may have been killed.
            while shard.run(&["push", "--force"]).expect_one_of(&[exit::DONE, exit::SYSTEM]).code == Some(exit::SYSTEM)
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Follows the trainer, and is killed again and again.
    fn watch(&self, shard: &Shard, mut rng: Rng, kills: u32) {
        let _others = EndsOthers(&self.is_over);
        let start = Instant::now();
        while self.kills.load(Ordering::Relaxed) < kills && !self.is_over() {
            assert!(start.elapsed() < PATIENCE, "{} kills", self.kills.load(Ordering::Relaxed));
            let mut command = shard.command(&WATCH);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(rng.below(700)));
            let was_running = child.try_wait().unwrap().is_none();
            // It may have ended meanwhile.
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                None => self.kills.fetch_add(u32::from(was_running), Ordering::Relaxed),
                // The server was killed before it had a version.
                Some(exit::SYSTEM) if told.contains("reached") => 0,
                code => panic!("the watcher ended by itself, with {code:?}: {told}"),
            };
        }
    }

    /// Reads the folder as a sampler does: what is there while the note says that a version is whole is that version.
    fn read(&self, folder: &Path) {
        let _others = EndsOthers(&self.is_over);
        while !self.is_over() {
            std::thread::sleep(Duration::from_millis(2));
            let Some(before) = whole(folder) else { continue };
            let Ok(bytes) = fs::read(folder.join(MODEL)) else { continue };
            if whole(folder).as_ref() == Some(&before) {
                assert_eq!(self.committed.lock().unwrap().get(&before), Some(&sha256_hex(&bytes)), "{before}");
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

const WATCH: [&str; 9] = ["watch", "origin", "main", "-o", "../weights", "--interval", "5", "--anchor", "4"];

/// The commit that the folder has, where it is whole.
fn whole(folder: &Path) -> Option<String> {
    let note: Value = serde_json::from_slice(&fs::read(folder.join(".shard-version")).ok()?).unwrap();
    note["whole"].as_bool().filter(|is_whole| *is_whole).map(|_| note["commit"].as_str().unwrap().to_owned())
}

fn follow(over_http: bool) {
    let kills = shard_tests::rounds(200);
    let seed = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = TempDir::new().unwrap();
    let root = Shard::new(SHARD, folder.path()).with_globals(&["--threads", "1"]);
    root.ok(&["init", "--bare", "hub"]);
    let mut server = over_http.then(|| Serving::start(&root));
    let url = server.as_ref().map_or_else(|| "./hub".to_owned(), |server| server.url("hub"));
    root.ok(&["clone", &url, "trainer"]);
    root.ok(&["clone", &url, "sampler"]);
    let (trainer, sampler) = (root.at(&folder.path().join("trainer")), root.at(&folder.path().join("sampler")));
    write(&trainer.folder().join("first.txt"), b"first");
    trainer.ok(&["add", "."]);
    trainer.ok(&["commit", "-m", "First"]);
    trainer.ok(&["push"]);
    let weights = folder.path().join("weights");
    let scene = Scene::default();
    std::thread::scope(|scope| {
        let _end = EndsOthers(&scene.is_over);
        scope.spawn(|| scene.train(&trainer, Rng::stream(seed, 1)));
        scope.spawn(|| scene.read(&weights));
        let watching = scope.spawn(|| scene.watch(&sampler, Rng::stream(seed, 2), kills));
        let mut rng = Rng::stream(seed, 3);
        while !watching.is_finished() {
            std::thread::sleep(Duration::from_millis(200 + rng.below(1000)));
            if let Some(server) = &mut server {
                server.restart();
            }
        }
        scene.is_over.store(true, Ordering::Relaxed);
    });

    // Left alone, it comes to the last version.
    let last = trainer.json(&["log", "HEAD", "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned();
    let mut child = sampler.command(&WATCH).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while whole(&weights).as_ref() != Some(&last) {
        assert!(start.elapsed() < PATIENCE && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for path in fs::read_dir(trainer.folder().join("logs")).unwrap() {
        let path = path.unwrap().path();
        assert_eq!(fs::read(&path).unwrap(), fs::read(weights.join("logs").join(path.file_name().unwrap())).unwrap());
    }
    assert_eq!(fs::read(trainer.folder().join(MODEL)).unwrap(), fs::read(weights.join(MODEL)).unwrap());
    let names = fs::read_dir(&weights).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, [".shard-version", "first.txt", "logs", MODEL], "nothing unfinished is left");
    let _ = sampler.run(&["verify", "--full"]).expect(exit::DONE);
    let (reads, committed) = (scene.reads.load(Ordering::Relaxed), scene.committed.lock().unwrap().len());
    println!("{committed} versions, {kills} kills, {reads} reads of whole versions");
    assert!(committed > 3 && reads > kills / 4);
}

#[test]
fn a_killed_watcher_goes_on_from_a_folder() {
    follow(false);
}

#[test]
fn a_killed_watcher_goes_on_over_http() {
    follow(true);
}
