//! Collections, commits and reads side by side, by real processes, of which those that write are killed at random instants.
//! Until both kinds were killed 12 times, 150 with the feature `data-suite`; `SHARD_TEST_ROUNDS` says otherwise.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shard_core::{Digest, sha256};
use shard_datasets::cases::Versions;
use shard_datasets::rng::Rng;
use shard_tests::killing::{EndsOthers, Killer};
use shard_tests::process::{Run, Shard, exit};
use shard_tests::tree::{files_ending, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");
const MODEL: &str = "model.safetensors";
/// Longer than any run here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(900);

/// A commit that `shard commit` said it made, and the model in it.
#[derive(Clone)]
struct Acknowledged {
    id: String,
    model: Digest,
}

/// What the loops know of each other.
#[derive(Default)]
struct Scene {
    acknowledged: Mutex<Vec<Acknowledged>>,
    commit_kills: AtomicU32,
    gc_kills: AtomicU32,
    collections: AtomicU32,
    reads: AtomicU32,
    /// A loop has failed: the others need not go on.
    is_over: AtomicBool,
}

/// Runs it until it has ended by itself: well, or refused since another was in its way, which it says then.
fn run_to_end(killer: &mut Killer<'_>, args: &[&str]) -> Run {
    let run = killer.until_it_ends(args).expect_one_of(&[exit::DONE, exit::REFUSED]);
    if run.code == Some(exit::DONE) { run } else { run.says("run the command again") }
}

impl Scene {
    fn is_done(&self, rounds: u32) -> bool {
        let kills = [&self.commit_kills, &self.gc_kills].map(|kills| kills.load(Ordering::Relaxed));
        let others = self.collections.load(Ordering::Relaxed).min(self.reads.load(Ordering::Relaxed));
        let commits = self.acknowledged.lock().unwrap().len();
        let has_seen_enough = kills.iter().all(|kills| *kills >= rounds) && others > 3 && commits > 3;
        has_seen_enough || self.is_over.load(Ordering::Relaxed)
    }

    /// Stages and commits one version of the model after the other, and now and then stages one that no commit has.
    fn commit(&self, shard: &Shard, seed: u64, rounds: u32) {
        let _others = EndsOthers(&self.is_over);
        let mut killer = Killer::new(shard.clone(), Rng::stream(seed, 1), 2, &self.commit_kills);
        let mut versions = Versions::new(seed, 2, 40, 512, 0.2).skip(1);
        while !self.is_done(rounds) {
            let bytes = versions.next().unwrap().unwrap();
            write(&shard.folder().join(MODEL), &bytes);
            if run_to_end(&mut killer, &["add", MODEL]).code != Some(exit::DONE) || killer.rng.below(4) == 0 {
                continue;
            }
            let Some(run) = killer.run(&["commit", "-m", "Next", "--json"]) else { continue };
            let run = run.expect_one_of(&[exit::DONE, exit::REFUSED]);
            if run.code == Some(exit::REFUSED) {
                let _ = run.says("run the command again");
                continue;
            }
            let id = run.json()["id"].as_str().unwrap().to_owned();
            self.acknowledged.lock().unwrap().push(Acknowledged { id, model: sha256(&bytes) });
        }
    }

    fn collect(&self, shard: &Shard, seed: u64, rounds: u32) {
        let _others = EndsOthers(&self.is_over);
        let mut killer = Killer::new(shard.clone(), Rng::stream(seed, 2), 2, &self.gc_kills);
        while !self.is_done(rounds) {
            // What writers that are at work keep from being deleted is deleted by a later one.
            let run = run_to_end(&mut killer, &["gc", "--prune-now", "--wait", "2"]);
            self.collections.fetch_add(u32::from(run.code == Some(exit::DONE)), Ordering::Relaxed);
        }
    }

    /// Reads earlier commits by `cat` and by `checkout -o`, and verifies: nothing is wrong at any moment.
    fn read(&self, shard: &Shard, seed: u64, rounds: u32) {
        let _others = EndsOthers(&self.is_over);
        let mut rng = Rng::stream(seed, 3);
        while !self.is_done(rounds) {
            let commit = {
                let all = self.acknowledged.lock().unwrap();
                all[rng.below(all.len() as u64) as usize].clone()
            };
            let is_read = match rng.below(4) {
                0 | 1 => cat(shard, &commit),
                2 => check_out(shard, &commit),
                _ => shard.run(&["verify"]).expect(exit::DONE).code.is_some(),
            };
            self.reads.fetch_add(u32::from(is_read), Ordering::Relaxed);
        }
    }
}

/// Checks the bytes of a commit. Gives whether it could: who is told to run the command again may do so.
fn cat(shard: &Shard, commit: &Acknowledged) -> bool {
    let args = ["cat", &format!("{}:{MODEL}", commit.id)];
    let output = shard.command(&args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(exit::REFUSED) && error.contains("run the command again") {
        return false;
    }
    assert_eq!(output.status.code(), Some(exit::DONE), "{args:?}: {error}");
    assert_eq!(sha256(&output.stdout), commit.model, "{args:?}");
    true
}

/// The same by writing it into a folder.
fn check_out(shard: &Shard, commit: &Acknowledged) -> bool {
    let out = shard.folder().with_extension("out");
    let run = shard.run(&["checkout", &commit.id, MODEL, "-o", out.to_str().unwrap()]);
    let run = run.expect_one_of(&[exit::DONE, exit::REFUSED]);
    if run.code == Some(exit::REFUSED) {
        let _ = run.says("run the command again");
        return false;
    }
    assert_eq!(sha256(&fs::read(out.join(MODEL)).unwrap()), commit.model, "{run}");
    fs::remove_dir_all(out).unwrap();
    true
}

#[test]
fn fault_04_collections_and_commits_that_are_killed_side_by_side_lose_nothing() {
    let rounds = shard_tests::rounds(if cfg!(feature = "data-suite") { 150 } else { 12 });
    let seed = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("repository");
    fs::create_dir(&place).unwrap();
    let shard = Shard::new(SHARD, &place).with_globals(&["--threads", "1"]);
    shard.ok(&["init"]);
    let bytes = Versions::new(seed, 2, 40, 512, 0.2).next().unwrap().unwrap();
    write(&place.join(MODEL), &bytes);
    shard.ok(&["add", MODEL]);
    let id = shard.json(&["commit", "-m", "First"])["id"].as_str().unwrap().to_owned();

    let scene = Scene::default();
    scene.acknowledged.lock().unwrap().push(Acknowledged { id, model: sha256(&bytes) });
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (scene, shard) = (&scene, &shard);
        scope.spawn(move || scene.commit(shard, seed, rounds));
        scope.spawn(move || scene.collect(shard, seed, rounds));
        scope.spawn(move || scene.read(shard, seed, rounds));
        scope.spawn(move || {
            while !scene.is_done(rounds) {
                std::thread::sleep(Duration::from_millis(20));
                if start.elapsed() > PATIENCE {
                    scene.is_over.store(true, Ordering::Relaxed);
                }
            }
        });
    });
    assert!(!scene.is_over.load(Ordering::Relaxed), "it has not seen enough after {PATIENCE:?}");
    let count = |number: &AtomicU32| number.load(Ordering::Relaxed);
    let acknowledged = scene.acknowledged.lock().unwrap().clone();
    println!(
        "seed {seed}, {:?}: {} commits, {} collections, {} reads; killed: {} and {}",
        start.elapsed(),
        acknowledged.len(),
        count(&scene.collections),
        count(&scene.reads),
        count(&scene.commit_kills),
        count(&scene.gc_kills)
    );

    let check = |when: &str| {
        let verified = shard.run(&["verify", "--full"]);
        assert_eq!(verified.code, Some(exit::DONE), "{when}\n{verified}");
        let there = shard.commits();
        for commit in &acknowledged {
            assert!(there.contains(&commit.id), "{when}: {} was acknowledged, and is gone", commit.id);
            assert!(cat(&shard, commit), "{when}");
        }
    };
    check("as it was left");
    shard.ok(&["gc", "--prune-now"]);
    check("collected");
    for folder in ["tmp", "leases"] {
        let left = files_ending(&place.join(".shard").join(folder), "");
        assert!(left.is_empty(), "expected nothing left behind, found {left:?}");
    }
}
