//! A link to a server that lets only so many bits through in a second, each way, and counts what goes through.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// Bytes that go through at once.
const PIECE: usize = 64 << 10;
/// How far ahead of its rate a link may be: what the buffers of a network card hold.
const BURST: Duration = Duration::from_millis(2);
/// What the head of each request has once, and nothing else.
const REQUEST: &[u8] = b"user-agent: shard/";

/// What went through a link.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    /// Bytes, both ways, with heads of requests and answers.
    pub(super) bytes: u64,
    /// Requests.
    pub(super) requests: u64,
}

impl Counted {
    pub(super) fn since(self, before: Self) -> Self {
        Self { bytes: self.bytes - before.bytes, requests: self.requests - before.requests }
    }
}

#[derive(Default)]
struct Count {
    bytes: AtomicU64,
    requests: AtomicU64,
}

/// A link. It lasts until the process ends.
pub(super) struct Link {
    pub(super) address: SocketAddr,
    count: Arc<Count>,
}

impl Link {
    /// A link to a server, with this many bits per second each way, of all connections together.
    pub(super) fn throttled(server: SocketAddr, bits: u64) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let count = Arc::new(Count::default());
        let link = Self { address, count: Arc::clone(&count) };
        thread::spawn(move || {
            let rates = [Arc::new(Rate::new(bits)), Arc::new(Rate::new(bits))];
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (Ok(to), Ok(from)) = (server.try_clone(), client.try_clone()) else { continue };
                for (from, to, rate, is_up) in [(client, to, 0, true), (server, from, 1, false)] {
                    let (rate, count) = (Arc::clone(&rates[rate]), Arc::clone(&count));
                    thread::spawn(move || pass(from, to, &rate, &count, is_up));
                }
            }
        });
        Ok(link)
    }

    /// What went through so far.
    pub(super) fn counted(&self) -> Counted {
        Counted { bytes: self.count.bytes.load(Ordering::SeqCst), requests: self.count.requests.load(Ordering::SeqCst) }
    }
}

/// Passes on what one side sends to the other, until it has said all.
fn pass(mut from: TcpStream, mut to: TcpStream, rate: &Rate, count: &Count, is_up: bool) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let mut buffer = vec![0; PIECE];
    // The end of the piece before, since a head may lie across two.
    let mut tail: Vec<u8> = Vec::new();
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        let piece = &buffer[..read];
        count.bytes.fetch_add(read as u64, Ordering::SeqCst);
        if is_up {
            tail.extend_from_slice(piece);
            let requests = tail.windows(REQUEST.len()).filter(|window| *window == REQUEST).count();
            count.requests.fetch_add(requests as u64, Ordering::SeqCst);
            tail.drain(..tail.len().saturating_sub(REQUEST.len() - 1));
        }
        rate.wait(read as u64);
        if to.write_all(piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// So many bits per second.
struct Rate {
    bits: u64,
    /// When all that was let through has gone over the line.
    free: std::sync::Mutex<Instant>,
}

impl Rate {
    fn new(bits: u64) -> Self {
        Self { bits, free: std::sync::Mutex::new(Instant::now()) }
    }

    /// Waits until this many bytes fit.
    fn wait(&self, bytes: u64) {
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits as f64);
        let until = {
            let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *free = (*free).max(Instant::now()) + takes;
            *free
        };
        let ahead = until.saturating_duration_since(Instant::now());
        if ahead > BURST {
            thread::sleep(ahead - BURST);
        }
    }
}
