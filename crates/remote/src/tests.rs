//! A server, and clients of it, in one process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress, sha256};
use shard_repo::peer::{Chosen, RefMove, Supply};
use shard_repo::{
    CloneOptions, CommitOptions, FetchOptions, Peer, PushOptions, RefChange, RepoError, Repository, Settings,
    SyncProblem, SyncReport,
};
use shard_store::{EntryKey, EntryKind, EntrySource, Target};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{HttpPeer, Served, Server, ServerOptions};

/// Repositories in a folder, and a server of them.
struct Bench {
    folder: TempDir,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("served/team")).unwrap();
        let mut options = ServerOptions::new(Served::All(folder.path().join("served")), Settings::default());
        change(&mut options);
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
                tell.send(server.address().unwrap()).unwrap();
                server.run(async { drop(stopped.await) }).await;
            });
        });
        Self { folder, address: told.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn served(&self, name: &str) -> Repository {
        Repository::init_bare(&self.place(&format!("served/{name}")), "main", Cut::TEST, Settings::default()).unwrap()
    }

    fn init(&self, name: &str) -> Repository {
        Repository::init(&self.place(name), "main", Cut::TEST, Settings::default()).unwrap()
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    fn peer(&self, name: &str) -> HttpPeer {
        HttpPeer::new(&self.url(name)).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Bytes that nothing compresses; `changed` of them are other ones.
fn noise(len: usize, changed: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| next()).collect();
    bytes.iter_mut().take(changed).for_each(|byte| *byte ^= 0x55);
    bytes
}

fn commit(repository: &Repository, path: &str, bytes: &[u8], message: &str) -> Digest {
    let place = repository.root().join(path);
    fs::write(&place, bytes).unwrap();
    repository.add(&[place], &NoProgress).unwrap();
    repository.commit(&CommitOptions { message: message.to_owned(), ..CommitOptions::default() }).unwrap().id
}

fn push(from: &Repository, to: &dyn Peer, specs: &[&str]) -> Result<SyncReport, RepoError> {
    let specs = specs.iter().map(|spec| (*spec).to_owned()).collect();
    from.push(Some("origin"), to, &PushOptions { specs, ..PushOptions::default() }, &NoProgress)
}

fn clone(from: &dyn Peer, folder: &Path) -> (Repository, SyncReport) {
    Repository::clone_from(from, folder, &CloneOptions::default(), Settings::default(), &NoProgress).unwrap()
}

fn whole(repository: &Repository) {
    assert_eq!(repository.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_history_goes_through_a_server() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("team/model"), bench.init("here"));
    let peer = bench.peer("team/model");
    assert_eq!(peer.welcome().unwrap().refs, []);
    commit(&here, "model.bin", &noise(900_000, 0), "First");
    let report = push(&here, &peer, &[]).unwrap();
    assert_eq!((report.commits, report.refs[0].change), (1, RefChange::New));
    let second = commit(&here, "model.bin", &noise(900_000, 9), "Second");
    here.create_tag("v2", "HEAD", &shard_repo::TagOptions { message: Some("two".to_owned()), ..Default::default() })
        .unwrap();
    let report = push(&here, &peer, &["main", "v2"]).unwrap();
    assert!(report.bytes < 100_000 && report.refs.len() == 2, "{report:?}");
    assert_eq!(push(&here, &peer, &["main", "v2"]).unwrap().refs, []);
    assert_eq!((hub.resolve("main").unwrap(), hub.resolve("v2").unwrap()), (second, second));
    whole(&hub);

    let (copy, report) = clone(&peer, &bench.place("copy"));
    assert_eq!((report.commits, fs::read(bench.place("copy/model.bin")).unwrap()), (2, noise(900_000, 9)));
    whole(&copy);
    let third = commit(&here, "more.bin", &noise(300_000, 5), "Third");
    push(&here, &peer, &[]).unwrap();
    let options = FetchOptions { dry_run: true, ..FetchOptions::default() };
    let plan = copy.fetch(Some("origin"), &peer, &options, &NoProgress).unwrap();
    let report = copy.fetch(Some("origin"), &peer, &FetchOptions::default(), &NoProgress).unwrap();
    assert_eq!((plan.entries, plan.bytes, plan.refs), (report.entries, report.bytes, report.refs));
    assert_eq!(copy.resolve("origin/main").unwrap(), third);
    whole(&copy);
}

#[test]
fn who_comes_second_is_told_over_http_too() {
    let bench = Bench::new();
    let hub = bench.served("hub");
    let peer = bench.peer("hub");
    let one = bench.init("one");
    commit(&one, "a.bin", b"a", "First");
    push(&one, &peer, &[]).unwrap();
    let (two, _) = clone(&peer, &bench.place("two"));
    commit(&two, "b.bin", b"b", "Theirs");
    push(&two, &peer, &[]).unwrap();
    commit(&one, "c.bin", b"c", "Ours");
    let refused = push(&one, &peer, &[]);
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::NotFastForward { .. }))), "{refused:?}");
    // Who says that a branch is elsewhere than it is moves nothing.
    let inbound = peer.inbound().unwrap();
    let head = one.resolve("main").unwrap();
    let kind = shard_history::revision::RefKind::Branch;
    let moves = |from| [RefMove { kind, name: "main".to_owned(), from, to: Target::Commit(head), is_forced: true }];
    let refused = inbound.move_refs(&moves(Target::Deleted));
    assert!(matches!(refused, Err(RepoError::Raced(_))), "{refused:?}");
    // Nor does a commit move a branch that was never sent.
    let now = Target::Commit(two.resolve("main").unwrap());
    let refused = inbound.move_refs(&moves(now.clone()));
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::Refused { .. }))), "{refused:?}");
    assert_eq!(Target::Commit(hub.resolve("main").unwrap()), now);
    hub.protect("main").unwrap();
    let refused = push(&one, &peer, &["+main"]);
    assert!(
        matches!(&refused, Err(RepoError::Sync(SyncProblem::Refused { why, .. })) if why.contains("protect")),
        "{refused:?}"
    );
    whole(&hub);
}

/// Sends the stored bytes of something else than it says.
struct Lying {
    told: EntryKey,
    bytes: Vec<u8>,
    is_over: std::sync::atomic::AtomicBool,
}

impl Supply for Lying {
    fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>, RepoError> {
        if self.is_over.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return Ok(None);
        }
        stored.clone_from(&self.bytes);
        Ok(Some(Chosen { key: self.told, is_base: false }))
    }
}

#[test]
fn fault_19_what_does_not_decode_to_its_id_stays_missing() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    commit(&here, "model.bin", &noise(400_000, 0), "First");
    let keys = here.store().keys(EntryKind::Block).unwrap();
    let mut bytes = Vec::new();
    here.store().read(&keys[1], &mut bytes).unwrap();
    let lying = |bytes| Lying { told: keys[0], bytes, is_over: Default::default() };
    let peer = bench.peer("hub");
    let inbound = peer.inbound().unwrap();
    for bytes in [bytes, b"no block at all".to_vec(), Vec::new()] {
        let refused = inbound.take(&lying(bytes), &NoProgress);
        assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::Refused { .. }))), "{refused:?}");
        assert_eq!(inbound.has(&keys[..1]).unwrap(), [false]);
    }
    drop(inbound);
    assert!(hub.store().locate(&keys[0]).unwrap().is_none());
    push(&here, &peer, &[]).unwrap();
    whole(&hub);
}

#[test]
fn a_delta_whose_base_is_not_there_is_refused() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    let words = |moved: u16| -> Vec<u8> {
        let mut word = 1u16;
        let each = |at: u16| {
            word = word.wrapping_mul(25_173).wrapping_add(13_849);
            (0x3c00 + (word >> 6) + u16::from(at.is_multiple_of(50)) * moved).to_le_bytes()
        };
        (0..20_000u16).flat_map(each).collect()
    };
    let file = |moved| {
        let mut header = br#"{"w":{"dtype":"BF16","shape":[200,100],"data_offsets":[0,40000]}}"#.to_vec();
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header, &words(moved)].concat()
    };
    commit(&here, "m.safetensors", &file(0), "First");
    commit(&here, "m.safetensors", &file(1), "Second");
    let all = here.store().keys(EntryKind::Block).unwrap();
    let bases = |key: &EntryKey| here.store().bases(&here.store().locate(key).unwrap().unwrap()).unwrap();
    let delta = *all.iter().find(|key| !bases(key).is_empty()).unwrap();
    let chosen = vec![Chosen { key: delta, is_base: false }];
    let peer = bench.peer("hub");
    let inbound = peer.inbound().unwrap();
    let refused = inbound.take(here.supply(chosen).as_ref(), &NoProgress);
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::Refused { .. }))), "{refused:?}");
    assert_eq!(inbound.has(&[delta]).unwrap(), [false]);
    drop(inbound);
    // The next writer sends it with what it leans on.
    push(&here, &peer, &[]).unwrap();
    hub.store().read(&delta, &mut Vec::new()).unwrap();
    whole(&hub);
}

/// Sends bytes and gives what comes back until the other side closes.
fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn fault_22_lengths_that_lie_and_smuggled_requests_are_refused() {
    let bench = Bench::new();
    bench.served("hub");
    let with = |headers: &str| {
        format!("POST /hub/-/v1/push HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n\r\n0\r\n\r\n")
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
    let huge =
        "POST /hub/-/v1/fetch/offers HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n";
    assert!(raw(bench.address, huge.as_bytes()).starts_with("HTTP/1.1 413"));
    // HTTP/2 with its floods is not spoken.
    assert!(
        raw(bench.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with("HTTP/1.1 505")
            || raw(bench.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_empty()
    );
}

#[test]
fn fault_21_who_is_slow_in_a_body_is_let_go() {
    let bench = Bench::with(|options| options.idle = Duration::from_millis(300));
    bench.served("hub");
    let open = raw(
        bench.address,
        b"POST /hub/-/v1/push HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
    let push = open.split("\"push\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let start = Instant::now();
    let slow = format!(
        "POST /hub/-/v1/push/{push}/entries HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\nabc"
    );
    let answer = raw(bench.address, slow.as_bytes());
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_push_that_is_left_alone_ends() {
    let bench = Bench::with(|options| options.idle = Duration::from_millis(200));
    let hub = bench.served("hub");
    let peer = bench.peer("hub");
    let inbound = peer.inbound().unwrap();
    assert_eq!(hub.leases().unwrap().len(), 1);
    let start = Instant::now();
    while !hub.leases().unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    let over = inbound.has(&[EntryKey::block(sha256(b"x"))]);
    assert!(
        matches!(&over, Err(RepoError::Sync(SyncProblem::Refused { why, .. })) if why.contains("over")),
        "{over:?}"
    );
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
            format!("GET /{name}/-/v1/info HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        assert!(!answer.contains("secret/") && !answer.contains("served"), "{name}: {answer}");
    }
    assert!(
        raw(bench.address, b"GET /hub/-/v1/info HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
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
    let peer = HttpPeer::new(&format!("http://{address}/hub")).unwrap();
    let refused = peer.welcome();
    assert!(
        matches!(&refused, Err(RepoError::Sync(SyncProblem::Refused { why, .. })) if why.contains("somewhere else")),
        "{refused:?}"
    );
    serving.join().unwrap();
    for url in ["file:///etc/passwd", "ftp://x/y", "http://", "http://me:pw@x/y", "http://x/y?z", "http://x/y#z", "x"] {
        assert!(matches!(HttpPeer::new(url), Err(RepoError::Sync(SyncProblem::Url { .. }))), "{url}");
    }
}
