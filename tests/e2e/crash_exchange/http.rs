//! Kills of clients and servers while commits are exchanged over HTTP.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use shard_datasets::rng::Rng;
use shard_tests::process::{Shard, exit};
use shard_tests::serving::Serving;
use shard_tests::tree::{copy, digests, sizes};

use super::{BESIDE, BLOCK, head, scene, unfinished, whole};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Client,
    Server,
}

/// A command, and where what it moves arrives.
struct Exchange {
    name: &'static str,
    args: &'static [&'static str],
    /// What is run to go on; the same again where there is nothing.
    again: &'static [&'static [&'static str]],
    /// The repository that receives, below the base.
    receiver: &'static str,
}

const PULL: &[&str] = &["-C", "there", "pull"];
/// The work tree of a pull that was killed while it placed files.
const RESET: &[&str] = &["-C", "there", "reset", "--hard", "--force", "HEAD"];

const EXCHANGES: [Exchange; 3] = [
    Exchange { name: "push", args: &["-C", "here", "push"], again: &[&["-C", "here", "push"]], receiver: "hub" },
    Exchange { name: "pull", args: PULL, again: &[RESET, PULL], receiver: "there/.shard" },
    Exchange { name: "clone", args: &[], again: &[], receiver: "new/.shard" },
];

/// The bytes of what has arrived: packs that are finished and those that are not.
fn arrived(repository: &Path) -> u64 {
    let packs = repository.join("packs");
    let finished: u64 = if packs.is_dir() { sizes(&packs).values().sum() } else { 0 };
    finished + unfinished(repository)
}

/// A copy of the scene whose remotes are on a server.
fn place(base: &Shard, place: PathBuf) -> (Shard, Serving) {
    copy(base.folder(), &place);
    let shard = base.at(&place);
    let server = Serving::start(&shard);
    shard.ok(&["-C", "here", "remote", "set-url", "origin", &server.url("hub")]);
    shard.ok(&["-C", "there", "remote", "set-url", "origin", &server.url("full")]);
    (shard, server)
}

fn words(exchange: &Exchange, server: &Serving) -> Vec<String> {
    match exchange.args {
        [] => vec!["clone".to_owned(), server.url("full"), "new".to_owned()],
        args => args.iter().map(|&arg| arg.to_owned()).collect(),
    }
}

#[test]
fn fault_18_kills_of_clients_and_servers_over_http() {
    let rounds = shard_tests::rounds(500);
    let seed = std::env::var("SHARD_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (folder, base) = scene();
    let wanted = head(&base, "here");
    let mut rng = Rng::new(seed);

    // What each moves, and how long that takes.
    let measured: Vec<(u64, Duration)> = EXCHANGES
        .iter()
        .map(|exchange| {
            let (shard, server) = place(&base, folder.path().join(format!("rehearsal-{}", exchange.name)));
            let start = Instant::now();
            let report = shard.json(&words(exchange, &server));
            (report["bytes"].as_u64().unwrap(), start.elapsed())
        })
        .collect();
    assert!(measured.iter().all(|(bytes, _)| *bytes > 2 * BLOCK));

    let (mut killed, mut partial, mut tried) = (0, 0, 0);
    while killed < rounds {
        tried += 1;
        assert!(tried < 10 * rounds + 100, "only {killed} of {tried} were killed before they had ended");
        let number = rng.below(EXCHANGES.len() as u64) as usize;
        let (exchange, (all, whole_time)) = (&EXCHANGES[number], &measured[number]);
        let victim = if rng.below(2) == 0 { Victim::Client } else { Victim::Server };
        let context = format!("seed {seed}, round {tried}: {} with the {victim:?} killed", exchange.name);
        let root = folder.path().join("place");
        let (shard, mut server) = place(&base, root.clone());
        let receiver = root.join(exchange.receiver);
        let before = if receiver.is_dir() { arrived(&receiver) } else { 0 };

        let mut command = shard.command(&words(exchange, &server));
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole_time.mul_f64(1.1 * rng.unit()));
        let was_running = client.try_wait().unwrap().is_none();
        match victim {
            Victim::Client => client.kill().unwrap(),
            Victim::Server => server.kill(),
        }
        let status = client.wait().unwrap();
        match victim {
            Victim::Client => {}
            Victim::Server => {
                // It ends by itself, and says why.
                assert!(
                    matches!(status.code(), Some(exit::DONE | exit::NOT_FOUND | exit::REFUSED | exit::SYSTEM)),
                    "{context}: {status:?}"
                );
                server.restart();
            }
        }
        killed += u32::from(was_running);

        // Nothing is half there.
        let dir = exchange.receiver.strip_suffix("/.shard").unwrap_or(exchange.receiver);
        if receiver.join("packs").exists() && head(&shard, dir).is_some() {
            whole(&shard, dir, &context);
        }
        let received = received(&receiver, victim, before).min(*all);
        let mut sent = 0;
        let clone = words(exchange, &server);
        let steps = match exchange.again {
            [] => vec![clone.iter().map(String::as_str).collect()],
            again => again.iter().map(|step| step.to_vec()).collect::<Vec<_>>(),
        };
        for step in steps {
            let run = shard.run_json(&step);
            // A clone that was whole is not made again.
            assert!(matches!(run.code, Some(exit::DONE | exit::REFUSED)), "{context}: {run}");
            sent +=
                run.code.filter(|code| *code == exit::DONE).map_or(0, |_| run.json()["bytes"].as_u64().unwrap_or(0));
        }
        assert!(
            sent + received <= all + BLOCK + BESIDE,
            "{context}: of {all} bytes {received} were there, {sent} came again"
        );
        partial += u32::from(received > 0 && sent > 0);
        assert_eq!(head(&shard, dir), wanted, "{context}");
        whole(&shard, dir, &context);
        if dir != "hub" {
            assert_eq!(digests(&root.join(dir)), digests(&root.join("here")), "{context}");
        }
        drop(server);
        fs::remove_dir_all(&root).unwrap();
    }
    println!("seed {seed}: killed {killed} times in {tried} exchanges; {partial} went on from the middle");
    assert!(partial >= rounds / 10, "only {partial} of {killed} went on from the middle");
}

/// What a receiver had got: a server whose client was killed needs a moment to notice.
fn received(receiver: &Path, victim: Victim, before: u64) -> u64 {
    if !receiver.is_dir() {
        return 0;
    }
    let mut last = arrived(receiver);
    if victim == Victim::Client {
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(10));
            let now = arrived(receiver);
            if now == last && unfinished(receiver) == 0 {
                break;
            }
            last = now;
        }
    }
    last - before
}
