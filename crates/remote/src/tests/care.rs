//! Quotas, collections, retention and webhooks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use shard_repo::peer::Chosen;
use shard_repo::{RepoError, Repository, SyncProblem};
use shard_store::EntryKind;

use super::bench::{Bench, clone, commit, noise, push, soon, whole};
use crate::protocol::Frames;
use crate::{RepositoryRules, RetentionRule, ServerOptions, WebhookConfig};

fn rules(change: impl FnOnce(&mut RepositoryRules)) -> impl FnOnce(&mut ServerOptions, &std::path::Path) {
    |options, _| change(&mut options.rules.defaults)
}

#[test]
fn a_push_over_the_quota_is_refused_and_leaves_nothing() {
    let bench = Bench::with(rules(|rules| rules.quota = Some(1_000_000)));
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    commit(&here, "a.bin", &noise(600_000, 0), "First");
    push(&here, &bench.peer("hub"), &[]).unwrap();
    let stored = hub.stored_bytes().unwrap();
    commit(&here, "b.bin", &noise(600_000, 600_000), "Second");
    for _ in 0..2 {
        let refused = push(&here, &bench.peer("hub"), &[]);
        let is_told = |why: &str| why.contains("1000000 bytes") && why.contains("collected");
        assert!(
            matches!(&refused, Err(RepoError::Sync(SyncProblem::Refused { why, .. })) if is_told(why)),
            "{refused:?}"
        );
        assert_eq!(hub.stored_bytes().unwrap(), stored);
    }
    assert!(hub.leases().unwrap().is_empty(), "the push is over");
    let small = noise(1000, 7);
    let put = |bytes: &[u8]| bench.ask("PUT", &format!("/hub/blocks/{}", shard_core::sha256(bytes)), None, bytes);
    assert_eq!(put(&small).status, 201);
    let large = put(&noise(500_000, 400_000));
    assert_eq!((large.status, large.kind().as_str()), (507, "quota"));
    whole(&hub);
}

/// The body of a request that brings all blocks of a repository.
fn blocks_of(repository: &Repository) -> Vec<u8> {
    let keys = repository.store().keys(EntryKind::Block).unwrap().into_iter();
    let supply = repository.supply(keys.map(|key| Chosen { key, is_base: false }).collect());
    let (mut frames, mut body) = (Frames::whole(supply.as_ref()), Vec::new());
    while let Some((piece, _)) = frames.next().unwrap() {
        body.extend_from_slice(&piece);
    }
    body
}

#[test]
fn what_a_push_brings_in_several_requests_counts_once() {
    let bench = Bench::with(rules(|rules| rules.quota = Some(1_000_000)));
    let hub = bench.served("hub");
    let body = |number: u8| {
        let here = bench.init(&format!("here-{number}"));
        let bytes: Vec<u8> = noise(400_000, 0).into_iter().map(|byte| byte ^ (number * 0x11)).collect();
        commit(&here, "a.bin", &bytes, "Some");
        blocks_of(&here)
    };
    let bodies = [body(0), body(1), body(2)];
    let push = bench.ask("POST", "/hub/-/v1/push", None, b"").json()["push"].as_str().unwrap().to_owned();
    let send = |body: &[u8]| bench.ask("POST", &format!("/hub/-/v1/push/{push}/entries"), None, body);
    assert_eq!(send(&bodies[0]).status, 200);
    // Longer than a count of what is stored is believed.
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(send(&bodies[1]).status, 200);
    let stored = hub.stored_bytes().unwrap();
    let refused = send(&bodies[2]);
    assert_eq!((refused.status, refused.kind().as_str()), (507, "quota"));
    assert_eq!(hub.stored_bytes().unwrap(), stored);
    assert_eq!(send(&bodies[0]).status, 410, "the push is over");
}

#[test]
fn a_branch_can_be_deleted_and_collected_when_the_quota_is_used_up() {
    let bench = Bench::with(|options, _| {
        options.rules.defaults.quota = Some(900_000);
        options.limits.idle = Duration::from_millis(500);
    });
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    commit(&here, "a.bin", &noise(10_000, 0), "First");
    push(&here, &bench.peer("hub"), &[]).unwrap();
    let (other, _) = clone(&bench.peer("hub"), &bench.place("other"));
    commit(&here, "b.bin", &noise(800_000, 0), "Large");
    push(&here, &bench.peer("hub"), &["main:large"]).unwrap();
    commit(&other, "c.bin", &noise(200_000, 200_000), "Another");
    assert!(push(&other, &bench.peer("hub"), &[]).is_err());
    push(&here, &bench.peer("hub"), &[":large"]).unwrap();
    let plan = bench.ask("POST", "/hub/-/v1/gc", None, b"{\"dry_run\": true, \"prune_now\": true}").json();
    assert!(plan["freed_bytes"].as_u64().unwrap() > 700_000, "{plan}");
    let done = bench.ask("POST", "/hub/-/v1/gc", None, b"{\"prune_now\": true}").json();
    assert!(done["freed_bytes"].as_u64().unwrap() > 700_000 && done["deleted_packs"].as_u64().unwrap() > 0, "{done}");
    push(&other, &bench.peer("hub"), &[]).unwrap();
    whole(&hub);
    for body in [&b"{\"wait\": 999999}"[..], b"{\"x\": 1}", b"", b"[]"] {
        assert_eq!(bench.ask("POST", "/hub/-/v1/gc", None, body).status, 400);
    }
    let metrics = String::from_utf8(bench.ask("GET", "/metrics", None, b"").body).unwrap();
    assert!(metrics.contains("shard_collections_total{outcome=\"done\"} 1"), "{metrics}");
}

#[test]
fn repositories_are_kept_tidy_on_schedule() {
    let bench = Bench::with(rules(|rules| {
        rules.gc_every = Some(Duration::from_secs(1));
        rules.keep_reflog = Some(0);
        rules.retention = Some(vec![
            RetentionRule { branch: "main".to_owned(), keep_last: 1, ..Default::default() },
            RetentionRule { branch: "none".to_owned(), keep_last: 1, ..Default::default() },
        ]);
    }));
    let (hub, here) = (bench.served("team/hub"), bench.init("here"));
    for version in 0..3 {
        commit(&here, "a.bin", &noise(100_000, version * 90_000), &format!("Version {version}"));
    }
    push(&here, &bench.peer("team/hub"), &[]).unwrap();
    soon(|| hub.list_repo_commits(Some("main"), false).unwrap().len() == 1);
    soon(|| bench.log().iter().any(|line| line["event"] == "collection" && line["deleted_packs"].as_u64() > Some(0)));
    whole(&hub);
    let told: Vec<Value> = bench.log().into_iter().filter(|line| line["event"] == "retention").collect();
    assert!(told.iter().any(|line| line["ref"] == "heads/main" && line["dropped"] == 2), "{told:?}");
    assert!(told.iter().any(|line| line["branch"] == "none" && line["error"].is_string()), "{told:?}");
}

/// Takes requests and answers them with these states, one after the other: gives the head and the body of each.
fn receiver(statuses: Vec<u16>) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for status in statuses {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let (mut all, mut piece) = (Vec::new(), [0; 4096]);
            let (head, body) = loop {
                let len = stream.read(&mut piece).unwrap();
                all.extend_from_slice(&piece[..len]);
                let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(all[..end].to_vec()).unwrap();
                let len: usize =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
                if all.len() >= end + 4 + len {
                    break (head, all[end + 4..].to_vec());
                }
            };
            tell.send((head, body)).unwrap();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\nlocation: http://127.0.0.1:1/\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, told)
}

#[cfg(unix)]
fn secret(folder: &std::path::Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("secret");
    fs::write(&path, "a secret of some length\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn whoever_asked_is_told_when_refs_move() {
    let (url, told) = receiver(vec![500, 302, 200, 200]);
    let bench = Bench::with(|options, folder| {
        let hook = WebhookConfig {
            url,
            secret_file: secret(folder),
            refs: vec!["heads/main".to_owned(), "tags/v*".to_owned()],
        };
        options.rules.defaults.webhooks = Some(vec![hook]);
        options.webhook_pauses = Some(vec![Duration::from_millis(20); 3]);
    });
    bench.served("hub");
    let here = bench.init("here");
    let first = commit(&here, "a.bin", b"a", "First");
    here.create_branch("side", "main").unwrap();
    push(&here, &bench.peer("hub"), &["main", "side"]).unwrap();
    let mut tries = Vec::new();
    for _ in 0..3 {
        tries.push(told.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    let (head, body) = &tries[2];
    assert!(tries.iter().all(|(_, other)| other == body), "the same is sent again");
    let said: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&said["event"], &said["repository"]), (&"push".into(), &"hub".into()));
    assert_eq!(said["moves"].as_array().unwrap().len(), 1, "{said}");
    assert_eq!(said["moves"][0]["name"], "heads/main");
    assert_eq!(
        (&said["moves"][0]["from"], &said["moves"][0]["to"]),
        (&"deleted".into(), &format!("commit {first}").into())
    );
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap().to_owned();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"a secret of some length").unwrap();
    mac.update(body);
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    assert_eq!(header("x-shard-signature"), format!("sha256={}", shard_core::Digest(digest)));
    assert_eq!(
        (header("x-shard-event").as_str(), said["delivery"].as_str().unwrap()),
        ("push", header("x-shard-delivery").as_str())
    );
    // What no hook is for is told to none.
    here.create_branch("other", "main").unwrap();
    push(&here, &bench.peer("hub"), &["other"]).unwrap();
    here.create_tag("v1", "main", &Default::default()).unwrap();
    push(&here, &bench.peer("hub"), &["v1"]).unwrap();
    let (_, body) = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["moves"][0]["name"], "tags/v1");
    assert_eq!(bench.events("webhook-failed", 2).len(), 2);
}

#[cfg(unix)]
#[test]
fn a_receiver_that_never_answers_keeps_no_push_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let bench = Bench::with(|options, folder| {
        options.rules.defaults.webhooks =
            Some(vec![WebhookConfig { url, secret_file: secret(folder), refs: Vec::new() }]);
        options.limits.grace = Duration::from_millis(200);
    });
    bench.served("hub");
    let here = bench.init("here");
    let start = Instant::now();
    for version in 0..3 {
        commit(&here, "a.bin", &[version], "Version");
        push(&here, &bench.peer("hub"), &[]).unwrap();
    }
    drop(bench);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn protections_are_seen_and_lifted() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    commit(&here, "a.bin", b"a", "First");
    push(&here, &bench.peer("hub"), &[]).unwrap();
    let rule = bench.ask("POST", "/hub/-/v1/protect", None, b"{\"pattern\": \"ma*\"}").json();
    assert_eq!((&rule["pattern"], &rule["matches"][0]), (&"heads/ma*".into(), &"heads/main".into()));
    assert_eq!(bench.ask("GET", "/hub/-/v1/protections", None, b"").json()["protections"][0], rule);
    assert_eq!(hub.protections().unwrap().len(), 1);
    assert_eq!(bench.ask("POST", "/hub/-/v1/unprotect", None, b"{\"pattern\": \"ma*\"}").status, 200);
    let none = bench.ask("POST", "/hub/-/v1/unprotect", None, b"{\"pattern\": \"ma*\"}");
    assert_eq!((none.status, none.kind().as_str()), (404, "not-found"));
    assert_eq!(bench.ask("POST", "/hub/-/v1/protect", None, b"{\"pattern\": \"a[\"}").status, 400);
}
