//! Pushes and fetches over connections.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response};
use shard_core::{Digest, Progress};
use shard_repo::peer::{Chosen, Inbound, Offer, Outbound, RefMove, Supply, Welcome};
use shard_repo::{RepoError, SyncProblem};
use shard_store::EntryKey;
use tokio::sync::mpsc;

use super::http::{Http, body_of, to_json};
use crate::protocol::{BINARY, Chunks, Entries, Frames, Moves, bits_of, chosen, commits, keys};

/// Pieces of a body that wait to be sent.
const WAITING: usize = 4;

/// A push under way.
pub(super) struct Pushing<'a> {
    http: &'a Http,
    route: String,
    welcome: Welcome,
    is_over: AtomicBool,
}

impl<'a> Pushing<'a> {
    pub(super) fn new(http: &'a Http, push: String, welcome: Welcome) -> Self {
        Self { http, route: format!("push/{push}"), welcome, is_over: AtomicBool::new(false) }
    }

    fn ask(&self, what: &str, question: Vec<u8>, count: usize) -> Result<Vec<bool>, RepoError> {
        let answer = self.http.call(Method::POST, &format!("{}/{what}", self.route), BINARY, question)?;
        Ok(bits_of(&answer, count)?)
    }

    /// Sends as many entries as one request may have.
    fn send_part(&self, frames: &mut Frames<'_>, progress: &dyn Progress) -> Result<(), RepoError> {
        let (pieces, waiting) = mpsc::channel::<io::Result<Bytes>>(WAITING);
        let request = self.http.request(Method::POST, &format!("{}/entries", self.route));
        let request = request.header(CONTENT_TYPE, BINARY).body(body_of(waiting));
        let sending = self.http.runtime.spawn(async move { request.send().await });
        let mut outcome = Ok(());
        loop {
            match frames.next() {
                Ok(Some((piece, stored))) => {
                    // The answer says why nobody listens any more.
                    if pieces.blocking_send(Ok(piece)).is_err() {
                        break;
                    }
                    progress.advance(stored);
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = pieces.blocking_send(Err(io::Error::other("given up")));
                    outcome = Err(error);
                    break;
                }
            }
        }
        drop(pieces);
        self.http.runtime.block_on(async {
            let sent = sending.await.map_err(|_| RepoError::Internal("a request was given up"))?;
            outcome?;
            self.http.answer(sent).await.map(drop)
        })
    }
}

impl Inbound for Pushing<'_> {
    fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    fn reaches(&self, ids: &[Digest]) -> Result<Vec<bool>, RepoError> {
        self.ask("reaches", commits(ids), ids.len())
    }

    fn has(&self, entries: &[EntryKey]) -> Result<Vec<bool>, RepoError> {
        self.ask("has", keys(entries), entries.len())
    }

    fn take(&self, parcels: &dyn Supply, progress: &dyn Progress) -> Result<(), RepoError> {
        let mut frames = Frames::new(parcels);
        while frames.begin_part() {
            self.send_part(&mut frames, progress)?;
        }
        Ok(())
    }

    fn move_refs(&self, moves: &[RefMove]) -> Result<(), RepoError> {
        let body = to_json(&Moves::new(moves))?;
        self.http.call(Method::POST, &format!("{}/refs", self.route), "application/json", body)?;
        self.is_over.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Pushing<'_> {
    fn drop(&mut self) {
        if !self.is_over.load(Ordering::Relaxed) {
            // Otherwise it ends when the server has waited long enough.
            let _ = self.http.call(Method::DELETE, &self.route, BINARY, Vec::new());
        }
    }
}

/// A fetch under way.
pub(super) struct Fetching<'a> {
    http: &'a Http,
    offers: Vec<Offer>,
}

impl<'a> Fetching<'a> {
    pub(super) fn new(http: &'a Http, offers: Vec<Offer>) -> Self {
        Self { http, offers }
    }
}

impl Outbound for Fetching<'_> {
    fn offers(&self) -> &[Offer] {
        &self.offers
    }

    fn send<'a>(&'a self, wanted: Vec<Chosen>) -> Result<Box<dyn Supply + 'a>, RepoError> {
        let request = self.http.request(Method::POST, "fetch/entries");
        let request = request.header(CONTENT_TYPE, BINARY).header(ACCEPT, BINARY).body(chosen(&wanted));
        let mut response: Response =
            self.http.runtime.block_on(async { self.http.answer(request.send().await).await })?;
        let next = move || self.http.runtime.block_on(response.chunk()).map_err(io::Error::other);
        let lost = |error: io::Error| match error.downcast::<reqwest::Error>() {
            Ok(error) => self.http.lost(&error),
            Err(error) => SyncProblem::Unreachable { url: self.http.url().to_owned(), why: error.to_string() }.into(),
        };
        Ok(Box::new(Asked { entries: Entries::new(Chunks::new(next), lost), wanted, next: AtomicUsize::new(0) }))
    }
}

/// What arrives, which has to be what was asked for.
struct Asked<S> {
    entries: S,
    wanted: Vec<Chosen>,
    next: AtomicUsize,
}

impl<S: Supply> Supply for Asked<S> {
    fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>, RepoError> {
        let arrived = self.entries.next(stored)?;
        let wanted = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed)).copied();
        if arrived != wanted {
            return Err(SyncProblem::Malformed("what arrives is not what was asked for").into());
        }
        Ok(arrived)
    }
}
