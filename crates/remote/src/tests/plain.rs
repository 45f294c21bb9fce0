//! The plain routes.

use std::sync::Barrier;
use std::time::Duration;

use serde_json::Value;
use shard_core::{NoProgress, sha256};
use shard_repo::GcOptions;
use shard_repo::peer::Peer as _;
use shard_store::{EntryKey, EntryKind};

use super::bench::{Bench, commit, noise, push, soon, whole};
use crate::Scope;

fn block(name: &str, bytes: &[u8]) -> String {
    format!("/{name}/blocks/{}", sha256(bytes))
}

#[test]
fn fault_19_a_block_is_put_once_and_only_if_it_is_what_it_says() {
    let bench = Bench::new();
    let hub = bench.served("hub");
    let bytes = noise(100_000, 3);
    let at = block("hub", &bytes);
    assert_eq!(bench.ask("HEAD", &at, None, b"").status, 404);
    for wrong in [&bytes[1..], b"", &[bytes.as_slice(), b"x"].concat()] {
        let answer = bench.ask("PUT", &at, None, wrong);
        assert_eq!((answer.status, answer.kind().as_str()), (422, "wrong-bytes"));
    }
    assert_eq!(bench.ask("GET", &at, None, b"").status, 404);
    assert_eq!(hub.store().keys(EntryKind::Block).unwrap(), []);

    // Two at the same time give the same bytes.
    let barrier = Barrier::new(8);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let put = || {
            barrier.wait();
            bench.ask("PUT", &at, None, &bytes)
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(put)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 201)), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.status == 201));
    assert_eq!(bench.ask("PUT", &at, None, &bytes).status, 200);
    assert_eq!(bench.ask("GET", &at, None, b"").body, bytes);
    let head = bench.ask("HEAD", &at, None, b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "100000", 0));
    whole(&hub);

    // As long as they may be, and no longer.
    let most = noise(4 << 20, 1);
    assert_eq!(bench.ask("PUT", &block("hub", &most), None, &most).status, 201);
    let more = noise((4 << 20) + 1, 1);
    assert_eq!(bench.ask("PUT", &block("hub", &more), None, &more).status, 413);
    assert_eq!(bench.ask("PUT", &block("hub", b""), None, b"").status, 201);
    assert_eq!(bench.ask("GET", &block("hub", b""), None, b"").body, b"");
}

#[test]
fn parts_of_blocks_and_what_is_known_already() {
    let bench = Bench::new();
    bench.served("hub");
    let bytes = noise(1000, 0);
    let at = block("hub", &bytes);
    bench.ask("PUT", &at, None, &bytes);
    let ask = |headers: &str| bench.ask_with("GET", &at, headers, b"");
    let part = ask("range: bytes=10-19\r\n");
    assert_eq!(
        (part.status, part.body.as_slice(), part.header("content-range")),
        (206, &bytes[10..20], "bytes 10-19/1000")
    );
    assert_eq!(ask("range: bytes=-5\r\n").body, &bytes[995..]);
    let beyond = ask("range: bytes=1000-\r\n");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */1000"));
    assert_eq!(ask("range: bytes=0-1,3-4\r\n").status, 200);
    let tag = ask("").header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", sha256(&bytes)));
    let known = ask(&format!("if-none-match: \"x\", {tag}\r\n"));
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(ask("range: bytes=0-1\r\nif-range: \"x\"\r\n").status, 200);
    assert_eq!(ask(&format!("range: bytes=0-1\r\nif-range: {tag}\r\n")).status, 206);
    for hash in ["x", &sha256(b"").to_hex().to_uppercase(), "..%2f..%2fformat", &"0".repeat(65)] {
        assert_eq!(bench.ask("GET", &format!("/hub/blocks/{hash}"), None, b"").status, 400, "{hash}");
    }
}

#[test]
fn a_file_goes_through_the_plain_routes() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    commit(&here, "model.bin", &noise(300_000, 0), "First");
    let manifest = here.store().ids(EntryKind::Manifest).unwrap()[0];
    let bytes = here.entry(&EntryKey::new(EntryKind::Manifest, manifest)).unwrap().unwrap();
    let at = format!("/hub/manifests/{manifest}");
    // What it consists of comes first.
    let early = bench.ask("PUT", &at, None, &bytes);
    assert_eq!((early.status, early.kind().as_str()), (422, "missing"));
    for key in here.store().keys(EntryKind::Block).unwrap() {
        let block = here.entry(&key).unwrap().unwrap();
        assert_eq!(bench.ask("PUT", &format!("/hub/blocks/{}", key.id), None, &block).status, 201);
    }
    assert_eq!(bench.ask("PUT", &at, None, &bytes).status, 201);
    let answer = bench.ask("GET", &at, None, b"");
    assert_eq!((answer.body, answer.status), (bytes, 200));
    let none = b"{\"not\":\"a manifest\"}";
    let refused = bench.ask("PUT", &format!("/hub/manifests/{}", sha256(none)), None, none);
    assert_eq!((refused.status, refused.kind().as_str()), (400, "malformed"));

    // A push sends only what is not there: no block.
    let report = push(&here, &bench.peer("hub"), &[]).unwrap();
    assert_eq!((report.blocks, report.commits), (0, 1));
    whole(&hub);
    // Lists.
    commit(&here, "other.bin", &noise(1000, 1), "Second");
    here.create_tag("v1", "HEAD", &Default::default()).unwrap();
    push(&here, &bench.peer("hub"), &["main", "v1"]).unwrap();
    let list = |path: &str| bench.ask("GET", &format!("/hub/{path}"), None, b"").json();
    let first = list("manifests?limit=1");
    let second = list(&format!("manifests?limit=1&after={}", first["next"].as_str().unwrap()));
    assert!(second.get("next").is_none());
    let mut listed = vec![first["manifests"][0].clone(), second["manifests"][0].clone()];
    let all = list("manifests");
    listed.sort_by_key(Value::to_string);
    assert_eq!(all["manifests"].as_array().unwrap(), &listed);
    let refs = list("refs");
    assert_eq!((&refs["refs"][0]["name"], &refs["refs"][1]["name"]), (&"heads/main".into(), &"tags/v1".into()));
    assert_eq!(list("refs?prefix=tags/")["refs"].as_array().unwrap().len(), 1);
    assert_eq!(list("refs?limit=1")["next"], "heads/main");
    assert_eq!(list("refs?limit=1&after=heads/main")["refs"][0]["name"], "tags/v1");
    assert_eq!(list("refs/heads/main"), refs["refs"][0]);
    for (path, status) in [
        ("refs/heads/none", 404),
        ("refs/HEAD", 400),
        ("refs?limit=0", 400),
        ("refs?limit=1001", 400),
        ("refs?x=1", 400),
        ("manifests?after=x", 400),
    ] {
        assert_eq!(bench.ask("GET", &format!("/hub/{path}"), None, b"").status, status, "{path}");
    }
}

#[test]
fn fault_15_what_was_put_stays_as_long_as_it_was_promised() {
    let bench = Bench::with(|options, _| options.limits.idle = Duration::from_secs(2));
    let hub = bench.served("hub");
    let bytes = noise(70_000, 5);
    let (at, key) = (block("hub", &bytes), EntryKey::block(sha256(&bytes)));
    assert_eq!(bench.ask("PUT", &at, None, &bytes).status, 201);
    // A push that was told that it is there keeps it.
    let peer = bench.peer("hub");
    let inbound = peer.inbound().unwrap();
    assert_eq!(hub.leases().unwrap().len(), 2);
    soon(|| {
        assert_eq!(inbound.has(&[key]).unwrap(), [true]);
        hub.leases().unwrap().len() == 1
    });
    let gc = GcOptions { wait: Duration::ZERO, ..GcOptions::default() }.prune_now();
    assert!(hub.gc(&gc, &NoProgress).is_err());
    assert_eq!(bench.ask("GET", &at, None, b"").body, bytes);
    drop(inbound);
    // Then it goes like everything that nothing leads to.
    hub.gc(&gc, &NoProgress).unwrap();
    assert_eq!(bench.ask("GET", &at, None, b"").status, 404);

    // A collection gives up rather than take what somebody has just put; once that is over the next one takes it.
    assert_eq!(bench.ask("PUT", &at, None, &bytes).status, 201);
    assert!(hub.gc(&gc, &NoProgress).is_err());
    assert_eq!(bench.ask("GET", &at, None, b"").body, bytes);
    soon(|| hub.gc(&gc, &NoProgress).is_ok());
    assert_eq!(bench.ask("HEAD", &at, None, b"").status, 404);
    assert_eq!(bench.ask("PUT", &at, None, &bytes).status, 201);
    whole(&hub);
}

#[test]
fn reading_takes_no_more_than_read_and_putting_takes_append() {
    let (bench, [read, append]) = Bench::with_tokens([(Scope::Read, "hub"), (Scope::Append, "hub")], |_, _| ());
    bench.served("hub");
    let at = block("hub", b"x");
    assert_eq!(bench.ask("PUT", &at, Some(&read), b"x").status, 403);
    assert_eq!(bench.ask("PUT", &at, None, b"x").status, 401);
    assert_eq!(bench.ask("PUT", &at, Some(&append), b"x").status, 201);
    assert_eq!(bench.ask("GET", &at, Some(&read), b"").body, b"x");
    assert_eq!(bench.ask("GET", "/hub/refs", None, b"").status, 401);
}
