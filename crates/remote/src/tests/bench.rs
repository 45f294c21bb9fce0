//! A server, and clients of it, in one process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress};
use shard_repo::{CloneOptions, CommitOptions, Peer, PushOptions, RepoError, Repository, Settings, SyncReport};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};

use crate::{AccessOptions, HttpPeer, Log, LogFormat, Scope, Secret, Served, Server, ServerOptions, TokenFile};

/// Repositories in a folder, and a server of them.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    pub(super) address: SocketAddr,
    /// Told to read again what can be read again.
    pub(super) reload: Arc<Notify>,
    log: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_, _| ())
    }

    pub(super) fn with(change: impl FnOnce(&mut ServerOptions, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("served/team")).unwrap();
        let mut options = ServerOptions::new(Served::All(folder.path().join("served")), Settings::default());
        let (log, reload) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Notify>::default());
        let kept = Arc::clone(&log);
        options.log = Log::to(LogFormat::Json, move |line| kept.lock().unwrap().push(line.to_owned()));
        change(&mut options, folder.path());
        let told_to_reload = Arc::clone(&reload);
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
                tell.send(server.address().unwrap()).unwrap();
                server.run(async { drop(stopped.await) }, told_to_reload).await;
            });
        });
        Self { folder, address: told.recv().unwrap(), reload, log, stop: Some(stop), thread: Some(thread) }
    }

    /// A server that asks for tokens, and one token for each of these scopes and repositories.
    pub(super) fn with_tokens<const N: usize>(
        tokens: [(Scope, &str); N],
        change: impl FnOnce(&mut ServerOptions, &Path),
    ) -> (Self, [String; N]) {
        let mut file = TokenFile::default();
        let mut number = 0;
        let made = tokens.map(|(scope, repository)| {
            number += 1;
            file.add(&format!("{}-{number}", scope.as_str()), scope, vec![repository.to_owned()]).unwrap()
        });
        let bench = Self::with(|options, folder| {
            let path = folder.join("tokens.toml");
            file.write(&path).unwrap();
            options.access = AccessOptions::Tokens(path);
            change(options, folder);
        });
        (bench, made)
    }

    /// What was logged so far, whole requests included that were answered before.
    pub(super) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of an event, once there are so many.
    pub(super) fn events(&self, event: &str, count: usize) -> Vec<Value> {
        let mut found = Vec::new();
        soon(|| {
            found = self.log();
            found.retain(|line| line["event"] == event);
            found.len() >= count
        });
        found
    }

    /// Asks, and gives the answer.
    pub(super) fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        self.ask_with(method, path, &token, body)
    }

    /// Asks with header lines of its own.
    pub(super) fn ask_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        Answer::read(&raw_bytes(self.address, &[head.as_bytes(), body].concat()))
    }

    pub(super) fn peer_with(&self, name: &str, token: &str) -> HttpPeer {
        HttpPeer::new(&self.url(name), Some(&Secret::new(token).unwrap())).unwrap()
    }

    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn served(&self, name: &str) -> Repository {
        Repository::init_bare(&self.place(&format!("served/{name}")), "main", Cut::TEST, Settings::default()).unwrap()
    }

    pub(super) fn init(&self, name: &str) -> Repository {
        Repository::init(&self.place(name), "main", Cut::TEST, Settings::default()).unwrap()
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    pub(super) fn peer(&self, name: &str) -> HttpPeer {
        HttpPeer::new(&self.url(name), None).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Bytes that nothing compresses; `changed` of them are other ones.
pub(super) fn noise(len: usize, changed: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| next()).collect();
    bytes.iter_mut().take(changed).for_each(|byte| *byte ^= 0x55);
    bytes
}

pub(super) fn commit(repository: &Repository, path: &str, bytes: &[u8], message: &str) -> Digest {
    let place = repository.root().join(path);
    fs::write(&place, bytes).unwrap();
    repository.add(&[place], &NoProgress).unwrap();
    repository.commit(&CommitOptions { message: message.to_owned(), ..CommitOptions::default() }).unwrap().id
}

pub(super) fn push(from: &Repository, to: &dyn Peer, specs: &[&str]) -> Result<SyncReport, RepoError> {
    let specs = specs.iter().map(|spec| (*spec).to_owned()).collect();
    from.push(Some("origin"), to, &PushOptions { specs, ..PushOptions::default() }, &NoProgress)
}

pub(super) fn clone(from: &dyn Peer, folder: &Path) -> (Repository, SyncReport) {
    Repository::clone_from(from, folder, &CloneOptions::default(), Settings::default(), &NoProgress).unwrap()
}

pub(super) fn whole(repository: &Repository) {
    assert_eq!(repository.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());
}

/// Sends bytes and gives what comes back until the other side closes.
pub(super) fn raw(address: SocketAddr, request: &[u8]) -> String {
    String::from_utf8_lossy(&raw_bytes(address, request)).into_owned()
}

fn raw_bytes(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Waits until something is so.
pub(super) fn soon(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came to be so");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The lines of the head, names in lowercase.
    head: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = text.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let head = lines.filter_map(|line| line.split_once(": ")).map(|(a, b)| (a.to_lowercase(), b.to_owned()));
        let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
        Self { status: status.unwrap_or(0), head: head.collect(), body }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.head.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The kind of an error, which every one has.
    pub(super) fn kind(&self) -> String {
        self.json()["error"]["kind"].as_str().unwrap().to_owned()
    }
}
