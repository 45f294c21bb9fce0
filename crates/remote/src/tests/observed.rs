//! What is logged, counted and told of the server itself.

use super::bench::{Bench, commit, push, soon};
use crate::Scope;

#[test]
fn every_request_is_logged_and_counted() {
    let (bench, [token]) = Bench::with_tokens([(Scope::Admin, "*")], |_, _| ());
    bench.served("team/hub");
    let here = bench.init("here");
    commit(&here, "a.bin", &[7; 5000], "First");
    push(&here, &bench.peer_with("team/hub", &token), &[]).unwrap();
    let answer = bench.ask("PUT", &format!("/team/hub/blocks/{}", shard_core::sha256(b"abc")), Some(&token), b"abc");
    let id = answer.header("x-request-id").to_owned();
    assert_eq!((answer.status, id.len()), (201, 32));
    assert_eq!((answer.header("x-content-type-options"), answer.header("cache-control")), ("nosniff", "no-store"));
    let lines = bench.events("request", 5);
    let put = lines.iter().find(|line| line["id"] == id.as_str()).unwrap();
    for (name, value) in
        [("method", "PUT"), ("route", "REPO/blocks/{hash}"), ("repository", "team/hub"), ("token", "admin-1")]
    {
        assert_eq!(put[name], value, "{put}");
    }
    assert_eq!((&put["status"], &put["bytes_in"]), (&201.into(), &3.into()));
    assert!(put["ms"].is_u64() && put["bytes_out"].as_u64() > Some(50) && put.get("cut_off").is_none(), "{put}");
    assert!(lines.iter().all(|line| line.get("cut_off").is_none()), "{lines:?}");
    bench.ask("BREW", "/team/hub/refs", Some(&token), b"");
    bench.ask("GET", "/a/b/c/d", None, b"");
    bench.events("request", 7);
    let answer = bench.ask("GET", "/metrics", Some(&token), b"");
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        "shard_requests_total{route=\"REPO/blocks/{hash}\",method=\"PUT\",status=\"201\"} 1",
        "shard_requests_total{route=\"REPO/-/v1/push\",method=\"POST\",status=\"200\"} 1",
        "shard_requests_total{route=\"REPO/refs\",method=\"other\",status=\"405\"} 1",
        "shard_requests_total{route=\"none\",method=\"GET\",status=\"404\"} 1",
        "shard_request_bytes_total{route=\"REPO/blocks/{hash}\"} 3",
        "shard_request_duration_seconds_count{route=\"REPO/blocks/{hash}\"} 1",
        "shard_pushes_under_way 0",
        "shard_refs_moved_total 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn health_is_told_to_everybody() {
    let (bench, _) = Bench::with_tokens([(Scope::Read, "x")], |_, _| ());
    for path in ["/healthz", "/readyz"] {
        let answer = bench.ask("GET", path, None, b"");
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")));
        assert_eq!(bench.ask("HEAD", path, None, b"").status, 200);
    }
    let description = bench.ask("GET", "/openapi.yaml", None, b"");
    assert!(String::from_utf8(description.body).unwrap().starts_with("openapi: 3.1.0\n"));
    for (method, path, status) in [("GET", "/", 404), ("POST", "/healthz", 405), ("GET", "/x/-/v2/info", 404)] {
        assert_eq!(bench.ask(method, path, None, b"{}").status, status, "{method} {path}");
        assert!(!bench.ask(method, path, None, b"{}").kind().is_empty());
    }
}

#[test]
fn what_the_log_says_of_a_failure_the_answer_does_not() {
    let bench = Bench::new();
    let hub = bench.served("hub");
    let here = bench.init("here");
    commit(&here, "a.bin", &[7; 5000], "First");
    push(&here, &bench.peer("hub"), &[]).unwrap();
    drop(hub);
    let state = std::fs::read_dir(bench.place("served/hub/refs")).unwrap().map(|entry| entry.unwrap().path());
    let branch = state.into_iter().find(|path| path.to_string_lossy().contains("main")).unwrap();
    for file in std::fs::read_dir(branch).unwrap() {
        std::fs::write(file.unwrap().path(), b"torn").unwrap();
    }
    let answer = bench.ask("GET", "/hub/-/v1/info", None, b"");
    assert_eq!((answer.status, answer.kind().as_str()), (500, "internal"));
    assert!(!String::from_utf8(answer.body).unwrap().contains("refs/"));
    soon(|| bench.log().iter().any(|line| line["status"] == 500));
    let line = bench.log().into_iter().find(|line| line["status"] == 500).unwrap();
    assert!(line["error"].as_str().unwrap().contains("refs"), "{line}");
}
