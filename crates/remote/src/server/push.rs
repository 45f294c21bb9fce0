//! What is pushed: a push lasts over several requests, and holds a lease while it does.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt as _;
use shard_core::NoProgress;
use shard_repo::peer::Inbound;
use shard_repo::{RepoError, Repository, SyncProblem};
use shard_store::Nonce;
use tokio::sync::mpsc;

use super::App;
use super::reply::{Failed, Json, Whole, binary, blocking};
use super::repositories::Asked;
use crate::protocol::{Chunks, Entries, Has, Moves, Opened, WelcomeMessage, bits, commits_of, keys_of};

/// Most pushes at the same time.
const MOST: usize = 256;
/// Pieces of a body that wait to be taken.
const WAITING: usize = 4;
/// What is still read of a body that is refused, so that its sender hears why.
const HEARD: usize = 64 << 20;

/// Pushes that have begun.
#[derive(Default)]
pub(super) struct Pushes(Mutex<HashMap<String, Arc<Push>>>);

struct Push {
    repository: String,
    inbound: Box<dyn Inbound>,
    last: Mutex<Instant>,
}

/// A push while a request is about it.
struct Held(Arc<Push>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Pushes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Push>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, repository: String, inbound: Box<dyn Inbound>) -> Result<String, Failed> {
        let no_name = |_| RepoError::Internal("the system has no random numbers");
        let name = Nonce::random().map_err(no_name)?.to_hex();
        let mut pushes = self.lock();
        if pushes.len() >= MOST {
            let busy = "too many pushes are under way: try again later";
            return Err(Failed::new(StatusCode::SERVICE_UNAVAILABLE, "busy", busy));
        }
        pushes.insert(name.clone(), Arc::new(Push { repository, inbound, last: Mutex::new(Instant::now()) }));
        Ok(name)
    }

    fn hold(&self, name: &str, asked: &Asked) -> Result<Held, Failed> {
        let found = self.lock().get(name).filter(|push| push.repository == asked.name).cloned();
        let gone = || Failed::new(StatusCode::GONE, "push-over", "the push is over: begin another one");
        found.map(Held).ok_or_else(gone)
    }

    fn end(&self, name: &str) {
        let ended = self.lock().remove(name);
        // What it holds goes with the last who uses it.
        drop(ended);
    }

    /// Ends those that nobody has asked about for too long.
    pub(super) fn end_idle(&self, idle: Duration) {
        let is_idle = |push: &Arc<Push>| {
            Arc::strong_count(push) == 1 && push.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > idle
        };
        let ended: Vec<Arc<Push>> = self.lock().extract_if(|_, push| is_idle(push)).map(|(_, push)| push).collect();
        drop(ended);
    }

    pub(super) fn end_all(&self) {
        let ended = std::mem::take(&mut *self.lock());
        drop(ended);
    }
}

/// Begins a push.
pub(super) async fn open(State(app): State<Arc<App>>, asked: Asked) -> Result<Json<Opened>, Failed> {
    let Asked { name, repository } = asked;
    let inbound = blocking(move || Repository::inbound_of(repository)).await?;
    let welcome = WelcomeMessage::from(inbound.welcome());
    let push = app.pushes.open(name, inbound)?;
    Ok(Json(Opened { push, welcome }))
}

/// The name of a push, the last part of the path that is one.
type Named = Path<HashMap<String, String>>;

fn named(path: &Named) -> &str {
    path.get("push").map(String::as_str).unwrap_or_default()
}

/// Of commits, whether refs lead to them.
pub(super) async fn reaches(
    State(app): State<Arc<App>>,
    path: Named,
    asked: Asked,
    Whole(body): Whole,
) -> Result<Response, Failed> {
    let (push, commits) = (app.pushes.hold(named(&path), &asked)?, commits_of(&body)?);
    let answers = blocking(move || push.0.inbound.reaches(&commits)).await?;
    Ok(binary(bits(&answers)))
}

/// Of entries, whether they are there.
pub(super) async fn has(
    State(app): State<Arc<App>>,
    path: Named,
    asked: Asked,
    Whole(body): Whole,
) -> Result<Response, Failed> {
    let (push, keys) = (app.pushes.hold(named(&path), &asked)?, keys_of(&body)?);
    let answers = blocking(move || push.0.inbound.has(&keys)).await?;
    Ok(binary(bits(&answers)))
}

/// Takes entries: each counts as there once it is proven.
pub(super) async fn entries(
    State(app): State<Arc<App>>,
    path: Named,
    asked: Asked,
    body: Body,
) -> Result<Json<Has>, Failed> {
    let push = app.pushes.hold(named(&path), &asked)?;
    let (pieces, mut waiting) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    let taking = blocking(move || {
        let lost = |error: io::Error| -> RepoError {
            SyncProblem::Unreachable { url: "the client".to_owned(), why: error.to_string() }.into()
        };
        let supply = Entries::new(Chunks::new(move || waiting.blocking_recv().transpose()), lost);
        push.0.inbound.take(&supply, &NoProgress)?;
        Ok(Has { entries: supply.taken() })
    });
    let taking = tokio::spawn(taking);
    let mut body = body.into_data_stream();
    let mut unheard = 0;
    loop {
        let piece = match tokio::time::timeout(app.idle, body.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => Ok(piece),
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let len = piece.as_ref().map_or(HEARD, Bytes::len);
        if pieces.send(piece).await.is_err() {
            unheard += len;
            if unheard >= HEARD {
                break;
            }
        }
    }
    drop(pieces);
    match taking.await {
        Ok(outcome) => outcome.map(Json),
        Err(_) => Err(RepoError::Internal("a request was given up").into()),
    }
}

/// Moves refs, which ends the push.
pub(super) async fn refs(
    State(app): State<Arc<App>>,
    path: Named,
    asked: Asked,
    Whole(body): Whole,
) -> Result<Json<Has>, Failed> {
    let push = app.pushes.hold(named(&path), &asked)?;
    let moves: Moves =
        serde_json::from_slice(&body).map_err(|_| Failed::malformed("the body does not say what moves"))?;
    let moves = moves.read()?;
    blocking(move || push.0.inbound.move_refs(&moves)).await?;
    app.pushes.end(named(&path));
    Ok(Json(Has { entries: 0 }))
}

/// Ends a push that moved nothing.
pub(super) async fn end(State(app): State<Arc<App>>, path: Named, asked: Asked) -> Result<Json<Has>, Failed> {
    drop(app.pushes.hold(named(&path), &asked)?);
    let name = named(&path).to_owned();
    blocking(move || {
        app.pushes.end(&name);
        Ok(Json(Has { entries: 0 }))
    })
    .await
}
