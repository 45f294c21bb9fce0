//! Many clients and one repository: eight that commit and push, four that pull, and collections, side by side, by real processes that are killed at
//! random instants; over HTTP the server too. Behind the feature `data-suite`, since it takes minutes; that on a bucket is run by
//! `tests/stores/run`, which starts a store. `SHARD_TEST_ROUNDS` says how many pushes have to be acknowledged (200), `SHARD_TEST_SEED` begins another sequence.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shard_datasets::cases::Versions;
use shard_datasets::rng::Rng;
use shard_tests::killing::{EndsOthers, Killer};
use shard_tests::process::{Run, Shard, exit};
use shard_tests::serving::Serving;
use shard_tests::tree::{sha256_hex, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");
const PUSHERS: u64 = 8;
const PULLERS: u64 = 4;
/// Longer than any run here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(1500);

/// What the loops know of each other.
struct Scene {
    seed: u64,
    /// Pushes that have to be acknowledged.
    rounds: u32,
    start: Instant,
    /// Commits of pushes that said they were done, and the models that they brought: path and SHA-256.
    acknowledged: Mutex<Vec<(String, String, String)>>,
    kills: AtomicU32,
    lost_races: AtomicU32,
    pulls: AtomicU32,
    collections: AtomicU32,
    /// A loop has failed, or it takes too long: the others need not go on.
    is_over: AtomicBool,
}

/// One client with its repository.
struct Client<'a> {
    scene: &'a Scene,
    killer: Killer<'a>,
}

impl Scene {
    fn is_done(&self) -> bool {
        let pushed = self.acknowledged.lock().unwrap().len();
        let others = [&self.pulls, &self.collections].map(|number| number.load(Ordering::Relaxed));
        if self.start.elapsed() > PATIENCE {
            self.is_over.store(true, Ordering::Relaxed);
        }
        let has_seen_enough = pushed >= self.rounds as usize && others.iter().all(|number| *number >= 10);
        has_seen_enough || self.is_over.load(Ordering::Relaxed)
    }

    fn client(&self, shard: Shard, stream: u64) -> Client<'_> {
        Client { scene: self, killer: Killer::new(shard, Rng::stream(self.seed, stream), 3, &self.kills) }
    }

    /// Commits one version of a model after the other and pushes each, after a pull where another was first.
    fn push(&self, shard: Shard, number: u64) {
        let _others = EndsOthers(&self.is_over);
        let mut client = self.client(shard, number);
        let path = format!("model-{number}.safetensors");
        let mut versions = Versions::new(self.seed + number, 2, 40, 512, 0.2);
        while !self.is_done() {
            let bytes = versions.next().unwrap().unwrap();
            client.until_done(&["reset", "--hard", "--force", "HEAD"], &[]);
            write(&client.killer.shard.folder().join(&path), &bytes);
            client.killer.shard.ok(&["add", &path]);
            client.killer.shard.ok(&["commit", "-m", "Next"]);
            while !self.is_done() {
                let Some(run) = client.run(&["--json", "push"]) else { continue };
                match run.code {
                    Some(exit::DONE) => {
                        let commit = client.head();
                        self.acknowledged.lock().unwrap().push((commit, path.clone(), sha256_hex(&bytes)));
                        break;
                    }
                    Some(exit::REFUSED) => {
                        self.lost_races.fetch_add(1, Ordering::Relaxed);
                        client.pull();
                    }
                    // The server was killed.
                    Some(exit::SYSTEM) => std::thread::sleep(Duration::from_millis(50)),
                    _ => panic!("{run}"),
                }
            }
        }
    }

    /// Pulls, and looks whether what arrives is whole.
    fn pull(&self, shard: Shard, stream: u64) {
        let _others = EndsOthers(&self.is_over);
        let mut client = self.client(shard, stream);
        while !self.is_done() {
            client.pull();
            if client.killer.rng.below(4) == 0 {
                let _ = client.killer.shard.run(&["verify"]).expect(exit::DONE);
            }
            self.pulls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Collects what nothing leads to.
    fn collect(&self, shard: Shard, stream: u64) {
        let _others = EndsOthers(&self.is_over);
        let mut client = self.client(shard, stream);
        while !self.is_done() {
            client.until_done(&["gc", "--prune-now", "--wait", "2"], &["run the command again"]);
            self.collections.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(client.killer.rng.below(200)));
        }
    }
}

impl Client<'_> {
    /// Runs a command, which is killed at a random instant every third time: `None` then.
    fn run(&mut self, args: &[&str]) -> Option<Run> {
        let run = self.killer.run(args)?;
        assert!(!run.stderr.contains("panicked at"), "{run}");
        Some(run)
    }

    /// Runs a command until it was not killed: it is done, or was refused and says one of these.
    fn until_done(&mut self, args: &[&str], refused: &[&str]) {
        let run = self.killer.until_it_ends(args).expect_one_of(&[exit::DONE, exit::REFUSED]);
        let is_told = refused.iter().any(|text| run.stderr.contains(text));
        assert!(run.code == Some(exit::DONE) || is_told, "{run}");
    }

    /// Pulls until that is done.
    fn pull(&mut self) {
        while !self.scene.is_done() {
            let Some(run) = self.run(&["pull"]) else {
                // Files may have been placed that no commit here has yet.
                self.until_done(&["reset", "--hard", "--force", "HEAD"], &[]);
                continue;
            };
            match run.code {
                Some(exit::DONE) => return,
                // The server was killed, or a collection was in the way.
                Some(exit::SYSTEM) => std::thread::sleep(Duration::from_millis(50)),
                Some(exit::REFUSED) if run.stderr.contains("run the command again") => {}
                _ => panic!("{run}"),
            }
        }
    }

    fn head(&self) -> String {
        self.killer.shard.json(&["log", "HEAD", "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned()
    }
}

/// What a hub is reached by.
enum Way {
    Folder,
    Http,
    Bucket,
}

fn race(way: &Way) {
    let rounds = shard_tests::rounds(200);
    let seed = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = TempDir::new().unwrap();
    let root = Shard::new(SHARD, folder.path()).with_globals(&["--threads", "1"]);
    let root = if matches!(way, Way::Bucket) { root.with_store() } else { root };
    let place = if matches!(way, Way::Bucket) { shard_tests::bucket("race") } else { "./hub".to_owned() };
    root.ok(&["init", "--bare", &place]);
    let mut server = match way {
        Way::Folder | Way::Bucket => None,
        Way::Http => Some(Serving::start(&root)),
    };
    let url = server.as_ref().map_or_else(|| place.clone(), |server| server.url("hub"));
    root.ok(&["clone", &url, "first"]);
    write(&folder.path().join("first/readme.txt"), b"All of them");
    root.ok(&["-C", "first", "add", "readme.txt"]);
    root.ok(&["-C", "first", "commit", "-m", "First"]);
    root.ok(&["-C", "first", "push"]);
    let clients = |what: &str, number: u64| {
        let name = format!("{what}-{number}");
        root.ok(&["clone", &url, &name]);
        root.at(&folder.path().join(name))
    };
    let pushers: Vec<Shard> = (0..PUSHERS).map(|number| clients("pusher", number)).collect();
    let pullers: Vec<Shard> = (0..PULLERS).map(|number| clients("puller", number)).collect();

    let scene = Scene {
        seed,
        rounds,
        start: Instant::now(),
        acknowledged: Mutex::default(),
        kills: AtomicU32::new(0),
        lost_races: AtomicU32::new(0),
        pulls: AtomicU32::new(0),
        collections: AtomicU32::new(0),
        is_over: AtomicBool::new(false),
    };
    let hub = match way {
        Way::Bucket => root.with_globals(&["--threads", "1", "-C", &place]),
        Way::Folder | Way::Http => root.at(&folder.path().join("hub")),
    };
    std::thread::scope(|scope| {
        let scene = &scene;
        for (number, shard) in (0..).zip(pushers.iter().cloned()) {
            scope.spawn(move || scene.push(shard, number));
        }
        for (number, shard) in (100..).zip(pullers.iter().cloned()) {
            scope.spawn(move || scene.pull(shard, number));
        }
        let collecting = hub.clone();
        scope.spawn(move || scene.collect(collecting, 200));
        let mut rng = Rng::stream(seed, 300);
        while !scene.is_done() {
            std::thread::sleep(Duration::from_millis(20));
            if let Some(server) = server.as_mut().filter(|_| rng.below(100) == 0) {
                server.restart();
                scene.kills.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert!(!scene.is_over.load(Ordering::Relaxed), "it has not seen enough after {:?}", scene.start.elapsed());
    let count = |number: &AtomicU32| number.load(Ordering::Relaxed);
    let acknowledged = scene.acknowledged.lock().unwrap().clone();
    println!(
        "seed {seed}, {:?}: {} pushes, {} lost races, {} pulls, {} collections, {} kills",
        scene.start.elapsed(),
        acknowledged.len(),
        count(&scene.lost_races),
        count(&scene.pulls),
        count(&scene.collections),
        count(&scene.kills)
    );

    drop(server);
    hub.ok(&["gc", "--prune-now", "--wait", "10"]);
    assert_eq!(hub.run(&["verify", "--full"]).expect(exit::DONE).code, Some(exit::DONE));
    let there: Vec<String> = {
        let log = hub.json(&["log", "main"]);
        log["commits"].as_array().unwrap().iter().map(|commit| commit["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut models = BTreeMap::new();
    for (commit, path, model) in &acknowledged {
        assert!(there.contains(commit), "{commit} was acknowledged, and is gone");
        let bytes = hub.command(&["cat", &format!("{commit}:{path}")]).output().unwrap().stdout;
        assert_eq!(&sha256_hex(&bytes), model, "{path} of {commit}");
        models.insert(path, model);
    }
    // What the last of them brought is in the newest commit, whoever made it; a clone has it too.
    root.ok(&["clone", &place, "last"]);
    for (path, model) in models {
        let bytes = fs::read(folder.path().join("last").join(path)).unwrap();
        let newest = sha256_hex(&bytes);
        let is_later = newest != *model;
        // A push that was killed after its refs had moved was not acknowledged.
        assert!(
            !is_later || !acknowledged.iter().any(|(_, _, other)| *other == newest),
            "{path} is not what was pushed last"
        );
    }
    if matches!(way, Way::Bucket) {
        // Who started the store looks for leases.
        return;
    }
    for place in ["tmp", "leases"] {
        let left: Vec<_> = fs::read_dir(Path::new(&folder.path().join("hub")).join(place)).unwrap().collect();
        assert!(left.is_empty(), "expected nothing left behind in {place}, found {left:?}");
    }
}

#[test]
fn fault_14_pushers_pullers_and_collections_on_a_folder() {
    race(&Way::Folder);
}

#[test]
fn fault_15_pushers_pullers_and_collections_over_http() {
    race(&Way::Http);
}

#[test]
#[ignore = "needs a store: run by tests/stores/run"]
fn fault_20_pushers_pullers_and_collections_in_a_bucket() {
    race(&Way::Bucket);
}
