//! Kills of clients that exchange commits with a repository in a bucket. There is no server: what has arrived is what the store has.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use shard_datasets::rng::Rng;
use shard_tests::process::{Shard, exit};
use shard_tests::tree::{copy, digests, sizes, write};
use tempfile::TempDir;

use super::{BESIDE, BLOCK, SHARD, head, unfinished, whole};

/// Most bytes of a pack in a bucket, which is sent as a whole: the part that is sent again.
const PART: u64 = 16 << 20;
/// Packs that are on their way at once.
const STREAMS: u64 = 4;
/// Bytes of the model that moves: several packs.
const MODEL: usize = 48 << 20;

const EXCHANGES: [&str; 3] = ["push", "pull", "clone"];

/// What is in the packs of a bucket.
fn stored(shard: &Shard, url: &str) -> u64 {
    shard.json(&["-C", url, "reindex"])["bytes"].as_u64().unwrap()
}

#[test]
#[ignore = "needs a store: run by tests/stores/run"]
fn fault_18_kills_of_clients_with_a_bucket() {
    let rounds = shard_tests::rounds(500);
    let seed = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = TempDir::new().unwrap();
    let base = Shard::new(SHARD, &folder.path().join("base")).with_globals(&["--threads", "1"]).with_store();
    fs::create_dir(base.folder()).unwrap();
    let full = shard_tests::bucket("kills-full");
    base.ok(&["init", "--bare", &full]);
    base.ok(&["clone", &full, "here"]);
    let commit = |path: &str, bytes: &[u8], title: &str| {
        write(&base.folder().join("here").join(path), bytes);
        base.ok(&["-C", "here", "add", path]);
        base.ok(&["-C", "here", "commit", "-m", title]);
    };
    commit("first.bin", &Rng::new(1).noise(300_000), "First");
    base.ok(&["-C", "here", "push"]);
    base.ok(&["clone", &full, "there"]);
    commit("second.bin", &Rng::new(2).noise(MODEL), "Second");
    base.ok(&["-C", "here", "push"]);
    let wanted = head(&base, "here");

    let mut rng = Rng::new(seed);
    let (mut killed, mut partial, mut tried) = (0, 0, 0);
    // How long each takes, about; known once it was run to its end.
    let mut whole_time = [Duration::from_secs(2); EXCHANGES.len()];
    // In a short run one that goes on from the middle may have to be waited for.
    while killed < rounds || (partial == 0 && tried < 10 * rounds + 20) {
        tried += 1;
        assert!(tried < 10 * rounds + 20, "only {killed} of {tried} were killed before they had ended");
        let number = tried as usize % EXCHANGES.len();
        let name = EXCHANGES[number];
        let context = format!("seed {seed}, round {tried}: {name} killed");
        let place = folder.path().join("place");
        copy(base.folder(), &place);
        let shard = base.at(&place);
        let empty = shard_tests::bucket(&format!("kills-{tried}"));
        let words: Vec<&str> = match name {
            "push" => {
                shard.ok(&["init", "--bare", &empty]);
                vec!["-C", "here", "push", &empty, "main"]
            }
            "pull" => vec!["-C", "there", "pull"],
            _ => vec!["clone", &full, "new"],
        };
        let receiver = match name {
            "push" => None,
            "pull" => Some(place.join("there/.shard")),
            _ => Some(place.join("new/.shard")),
        };
        let arrived = || -> u64 {
            let Some(receiver) = receiver.as_ref().filter(|receiver| receiver.join("packs").is_dir()) else { return 0 };
            sizes(&receiver.join("packs")).values().sum::<u64>() + unfinished(receiver)
        };
        let before = arrived();

        let start = Instant::now();
        let mut client = shard.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole_time[number].mul_f64(rng.unit()));
        let was_running = client.try_wait().unwrap().is_none();
        client.kill().unwrap();
        client.wait().unwrap();
        if !was_running {
            whole_time[number] = (whole_time[number] + start.elapsed()) / 3;
        }
        killed += u32::from(was_running);

        // Of each stream at most one part is sent again; here, at most what is in one block.
        let (there, received) = match name {
            "push" => (empty.as_str(), stored(&shard, &empty)),
            "pull" => ("there", arrived() - before),
            _ => ("new", arrived()),
        };
        if head(&shard, there).is_some() {
            whole(&shard, there, &context);
        }
        if name == "pull" {
            let _ = shard.run(&["-C", "there", "reset", "--hard", "--force", "HEAD"]).expect(exit::DONE);
        }
        let run = shard.run_json(&words);
        // What was whole is not made again.
        assert!(matches!(run.code, Some(exit::DONE | exit::REFUSED)), "{context}: {run}");
        let sent = if run.code == Some(exit::DONE) { run.json()["bytes"].as_u64().unwrap_or(0) } else { 0 };
        let all = MODEL as u64;
        let again = if name == "push" { (STREAMS + 1) * PART } else { BLOCK };
        let most = all.saturating_sub(received) + again + BESIDE;
        assert!(sent <= most, "{context}: of {all} bytes {received} were there, {sent} came again");
        partial += u32::from(received > 0 && sent > 0);
        assert_eq!(head(&shard, there), wanted, "{context}");
        whole(&shard, there, &context);
        if name != "push" {
            assert_eq!(digests(&place.join(there)), digests(&place.join("here")), "{context}");
        }
        fs::remove_dir_all(&place).unwrap();
    }
    println!("seed {seed}: killed {killed} times in {tried} exchanges; {partial} went on from the middle");
    assert!(partial > 0, "none of {killed} went on from the middle");
}
