//! Clients and servers that mean no good.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use shard_core::limits::Cut;
use shard_repo::{Peer as _, RepoError, Repository, Settings, SyncProblem};

use super::bench::{Bench, raw};
use crate::HttpPeer;

#[test]
fn fault_22_lengths_that_lie_and_smuggled_requests_are_refused() {
    let bench = Bench::new();
    bench.served("hub");
    let with = |headers: &str| {
        format!("POST /hub/-/v1/push HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n\r\n0\r\n\r\n")
    };
    for (headers, status) in [
        ("content-length: 5\r\ncontent-length: 6", "400"),
        ("content-length: -1", "400"),
        ("content-length: 0x10", "400"),
        ("content-length: +4", "400"),
        ("content-length: 99999999999999999999999", "400"),
        ("transfer-encoding: chunked, identity", "400"),
        ("transfer-encoding : chunked", "400"),
        ("transfer-encoding: xchunked", "400"),
    ] {
        let answer = raw(bench.address, with(headers).as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{headers}: {answer}");
    }
    let huge = "POST /hub/-/v1/fetch/offers HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n";
    assert!(raw(bench.address, huge.as_bytes()).starts_with("HTTP/1.1 413"));
    // HTTP/2 with its floods is not spoken.
    assert!(
        raw(bench.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with("HTTP/1.1 505")
            || raw(bench.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_empty()
    );
}

#[test]
fn fault_21_who_is_slow_in_a_body_is_let_go() {
    let bench = Bench::with(|options, _| options.limits.idle = Duration::from_millis(300));
    bench.served("hub");
    let open = raw(
        bench.address,
        b"POST /hub/-/v1/push HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
    let push = open.split("\"push\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let start = Instant::now();
    let slow = format!(
        "POST /hub/-/v1/push/{push}/entries HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\nabc"
    );
    let answer = raw(bench.address, slow.as_bytes());
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn fault_26_names_of_repositories_lead_nowhere_else() {
    let bench = Bench::new();
    bench.served("hub");
    Repository::init_bare(&bench.place("secret"), "main", Cut::TEST, Settings::default()).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(bench.place("secret"), bench.place("served/link")).unwrap();
    for name in [
        "nothing",
        "..",
        "%2e%2e",
        "..%2fsecret",
        "%2e%2e%2fsecret",
        "link",
        "hub%2f..%2f..%2fsecret",
        "HUB%00",
        ".",
        "team",
    ] {
        let answer = raw(
            bench.address,
            format!("GET /{name}/-/v1/info HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        assert!(!answer.contains("secret/") && !answer.contains("served"), "{name}: {answer}");
    }
    assert!(
        raw(bench.address, b"GET /hub/-/v1/info HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .starts_with("HTTP/1.1 200")
    );
}

#[test]
fn fault_25_a_client_follows_no_redirection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let answer = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let peer = HttpPeer::new(&format!("http://{address}/hub"), None).unwrap();
    let refused = peer.welcome();
    assert!(
        matches!(&refused, Err(RepoError::Sync(SyncProblem::Refused { why, .. })) if why.contains("somewhere else")),
        "{refused:?}"
    );
    serving.join().unwrap();
    for url in ["file:///etc/passwd", "ftp://x/y", "http://", "http://me:pw@x/y", "http://x/y?z", "http://x/y#z", "x"] {
        assert!(matches!(HttpPeer::new(url, None), Err(RepoError::Sync(SyncProblem::Url { .. }))), "{url}");
    }
}

#[test]
fn fault_22_of_two_lengths_one_counts_and_nothing_is_smuggled() {
    let bench = Bench::new();
    bench.served("hub");
    let smuggled = "GET /hub/-/v1/info HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for headers in [
        format!("content-length: {}\r\ntransfer-encoding: chunked", smuggled.len() + 5),
        format!("transfer-encoding: chunked\r\ncontent-length: {}", smuggled.len() + 5),
        "transfer-encoding: chunked\r\ncontent-length: 4".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\ncontent-length: 4".to_owned(),
    ] {
        let request =
            format!("POST /hub/-/v1/push HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n0\r\n\r\n{smuggled}");
        let start = Instant::now();
        let answer = raw(bench.address, request.as_bytes());
        // The connection ends with the one answer.
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{headers}: {answer}");
        assert!(start.elapsed() < Duration::from_secs(10), "{headers}");
    }
    let asked = bench.events("request", 1);
    assert!(asked.iter().all(|line| line["method"] == "POST"), "{asked:?}");
}

#[test]
fn fault_22_bodies_are_no_longer_than_they_may_be() {
    let bench = Bench::with(|options, _| options.limits.body = 100_000);
    bench.served("hub");
    let push = bench.ask("POST", "/hub/-/v1/push", None, b"").json()["push"].as_str().unwrap().to_owned();
    for path in [
        format!("/hub/-/v1/push/{push}/entries"),
        format!("/hub/-/v1/push/{push}/has"),
        "/hub/-/v1/fetch/offers".to_owned(),
    ] {
        let told =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 100001\r\n\r\n");
        assert!(raw(bench.address, told.as_bytes()).starts_with("HTTP/1.1 413"), "{path}");
        // One that does not say how long it is.
        let mut chunked = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        .into_bytes();
        // An entry of a kind that may be long, so that it is not the entry that is refused.
        let mut entry = vec![2, 0];
        entry.extend([7; 32]);
        entry.extend(1_000_000u32.to_le_bytes());
        entry.resize(101_000, b' ');
        chunked.extend(format!("{:x}\r\n", entry.len()).into_bytes());
        chunked.extend(entry);
        chunked.extend(b"\r\n0\r\n\r\n");
        let answer = raw(bench.address, &chunked);
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
}

#[test]
fn fault_23_packed_bodies_are_not_unpacked() {
    let bench = Bench::new();
    bench.served("hub");
    for coding in ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"] {
        for path in ["/hub/-/v1/fetch/offers", "/hub/-/v1/push", "/healthz"] {
            let answer = bench.ask_with("POST", path, &format!("content-encoding: {coding}\r\n"), b"\x1f\x8b");
            assert_eq!((answer.status, answer.kind().as_str()), (415, "encoding"), "{coding} {path}");
        }
    }
    assert_eq!(bench.ask_with("POST", "/hub/-/v1/push", "content-encoding: identity\r\n", b"").status, 200);
}

#[test]
fn fault_21_heads_that_do_not_come_and_connections_that_idle_end() {
    let bench = Bench::with(|options, _| options.limits.head = Duration::from_millis(400));
    bench.served("hub");
    let start = Instant::now();
    for beginning in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n"] {
        let answer = raw(bench.address, beginning.as_bytes());
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    // One that was answered, and then says nothing.
    let answer = raw(bench.address, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let long = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(2_000_000));
    // Who still sends may not hear why.
    let answer = raw(bench.address, long.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert!(raw(bench.address, many.as_bytes()).starts_with("HTTP/1.1 431"));
}

#[test]
fn fault_21_a_little_every_now_and_then_is_too_slow() {
    let bench = Bench::with(|options, _| {
        options.limits.idle = Duration::from_secs(1);
        options.limits.slowest = 1000;
    });
    bench.served("hub");
    let mut stream = std::net::TcpStream::connect(bench.address).unwrap();
    let head =
        format!("PUT /hub/blocks/{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n", "0".repeat(64));
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (start, mut answer) = (Instant::now(), [0; 64]);
    loop {
        assert!(start.elapsed() < Duration::from_secs(20), "it is heard for ever");
        let _ = stream.write_all(b"x");
        match stream.read(&mut answer) {
            Ok(len) if len > 0 => break,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn fault_21_connections_and_requests_have_a_number() {
    let bench = Bench::with(|options, _| {
        options.limits.connections = 3;
        options.limits.head = Duration::from_secs(2);
        options.rules.defaults.requests = Some(2);
    });
    bench.served("hub");
    let put = |stream: &mut std::net::TcpStream| {
        let head =
            format!("PUT /hub/blocks/{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n", "0".repeat(64));
        stream.write_all(head.as_bytes()).unwrap();
    };
    let connect = || std::net::TcpStream::connect(bench.address).unwrap();
    // Both are under way before anything else is asked, or it would take the place of one: tried again where they were too slow.
    let hold = |attempt: u32| {
        let mut held = [connect(), connect()];
        held.iter_mut().for_each(put);
        std::thread::sleep(Duration::from_millis(100) * attempt);
        let answer = bench.ask("GET", "/hub/-/v1/info", None, b"");
        ((answer.status, answer.header("retry-after")) == (503, "1")).then_some(held)
    };
    let held = (1..20).find_map(hold).expect("with two under way a third is told to come back");
    // Other repositories are answered as before.
    bench.served("other");
    assert_eq!(bench.ask("GET", "/other/-/v1/info", None, b"").status, 200);
    // With all places taken by who says nothing, the next one is answered once these are let go.
    let silent = connect();
    let start = Instant::now();
    assert_eq!(bench.ask("GET", "/healthz", None, b"").status, 200);
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    drop((held, silent));
    super::bench::soon(|| bench.ask("GET", "/hub/-/v1/info", None, b"").status == 200);
}

#[test]
fn fault_18_entries_that_are_cut_off_are_no_failure_of_the_server() {
    let bench = Bench::new();
    bench.served("hub");
    let push = bench.ask("POST", "/hub/-/v1/push", None, b"").json()["push"].as_str().unwrap().to_owned();
    for body in [&b""[..], b"M", b"\x01\x00abc", b"\x00\x01\x00", b"\x00\x01\0\0\0\0\0\0\0"] {
        let answer = bench.ask("POST", &format!("/hub/-/v1/push/{push}/entries"), None, body);
        assert_eq!((answer.status, answer.kind().as_str()), (400, "malformed"), "{body:?}");
    }
}

#[test]
fn fault_21_pushes_have_a_number() {
    let bench = Bench::with(|options, _| options.limits.pushes = 2);
    bench.served("hub");
    let open = || bench.ask("POST", "/hub/-/v1/push", None, b"");
    let first = open().json()["push"].as_str().unwrap().to_owned();
    assert_eq!(open().status, 200);
    let busy = open();
    assert_eq!((busy.status, busy.kind().as_str(), busy.header("retry-after")), (503, "busy", "10"));
    assert_eq!(bench.ask("DELETE", &format!("/hub/-/v1/push/{first}"), None, b"").status, 200);
    assert_eq!(open().status, 200);
}
