//! What is pushed: a push lasts over several requests, and holds a lease while it does.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::response::Response;
use shard_core::NoProgress;
use shard_repo::peer::Inbound;
use shard_repo::{RepoError, Repository, SyncProblem};
use shard_store::{Nonce, Target};
use tokio::sync::mpsc;

use super::App;
use super::metrics::Counted;
use super::reply::{Arriving, Failed, Json, Read, Whole, binary, blocking};
use super::repositories::{Asked, ToAppend};
use super::tokens::Scope;
use crate::protocol::{Chunks, Entries, Has, Moves, Opened, WelcomeMessage, bits, commits_of, keys_of};

/// Pieces of a body that wait to be taken.
const WAITING: usize = 4;
/// What is still read of a body that is refused, so that its sender hears why.
const HEARD: usize = 64 << 20;

/// Pushes that have begun.
#[derive(Default)]
pub(super) struct Pushes(Mutex<HashMap<String, Arc<Push>>>);

struct Push {
    repository: String,
    /// The name of the token with which it began: nobody else goes on with it.
    token: Option<String>,
    inbound: Box<dyn Inbound>,
    last: Mutex<Instant>,
    _under_way: Counted,
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

    fn open(&self, app: &App, asked: &Asked<ToAppend>, inbound: Box<dyn Inbound>) -> Result<String, Failed> {
        let no_name = |_| RepoError::Internal("the system has no random numbers");
        let name = Nonce::random().map_err(no_name)?.to_hex();
        let mut pushes = self.lock();
        if pushes.len() >= app.limits.pushes {
            let busy = "too many pushes are under way: try again later";
            return Err(Failed::new(StatusCode::SERVICE_UNAVAILABLE, "busy", busy)
                .with_header(RETRY_AFTER, HeaderValue::from_static("10")));
        }
        let push = Push {
            repository: asked.open.name.clone(),
            token: asked.token.clone(),
            inbound,
            last: Mutex::new(Instant::now()),
            _under_way: Counted::new(&app.metrics.pushes),
        };
        pushes.insert(name.clone(), Arc::new(push));
        Ok(name)
    }

    fn hold(&self, name: &str, asked: &Asked<ToAppend>) -> Result<Held, Failed> {
        let is_it = |push: &&Arc<Push>| push.repository == asked.open.name && push.token == asked.token;
        let found = self.lock().get(name).filter(is_it).cloned();
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
pub(super) async fn open(State(app): State<Arc<App>>, asked: Asked<ToAppend>) -> Result<Json<Opened>, Failed> {
    let repository = Arc::clone(&asked.open.repository);
    let inbound = blocking(move || Repository::inbound_of(repository)).await?;
    let welcome = WelcomeMessage::from(inbound.welcome());
    let push = app.pushes.open(&app, &asked, inbound)?;
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
    asked: Asked<ToAppend>,
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
    asked: Asked<ToAppend>,
    Whole(body): Whole,
) -> Result<Response, Failed> {
    let (push, keys) = (app.pushes.hold(named(&path), &asked)?, keys_of(&body)?);
    let answers = blocking(move || push.0.inbound.has(&keys)).await?;
    Ok(binary(bits(&answers)))
}

/// A body that a repository has no room for.
#[derive(Debug, thiserror::Error)]
#[error("there is no room")]
struct NoRoom;

/// Takes entries: each counts as there once it is proven.
pub(super) async fn entries(
    State(app): State<Arc<App>>,
    path: Named,
    asked: Asked<ToAppend>,
    body: Body,
) -> Result<Json<Has>, Failed> {
    let push = app.pushes.hold(named(&path), &asked)?;
    let mut body = Arriving::new(body, &app.limits, app.limits.body)?;
    let open = Arc::clone(&asked.open);
    let room = blocking(move || open.stored.room(&open.repository)).await;
    let room = match room {
        Ok(room) => room,
        Err(failed) => return Err(over(&app, &path, failed)),
    };
    let (pieces, mut waiting) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    let (held, open) = (Arc::clone(&push.0), Arc::clone(&asked.open));
    let taking = blocking(move || {
        let lost = |error: io::Error| -> RepoError {
            match error.get_ref() {
                Some(inner) if inner.is::<NoRoom>() => open.stored.over(&open.repository),
                _ => SyncProblem::Malformed("the stream of entries is cut off").into(),
            }
        };
        let supply = Entries::new(Chunks::new(move || waiting.blocking_recv().transpose()), lost);
        held.inbound.take(&supply, &NoProgress)?;
        Ok(Has { entries: supply.taken() })
    });
    let taking = tokio::spawn(taking);
    // What earlier requests of the push have brought is among what is stored.
    let (mut arrived, mut unheard, mut refused) = (0u64, 0, None);
    loop {
        let piece = match body.next().await {
            Ok(None) => break,
            Ok(Some(piece)) => {
                arrived += piece.len() as u64;
                if room.is_some_and(|room| arrived > room) { Err(io::Error::other(NoRoom)) } else { Ok(piece) }
            }
            Err(failed) => {
                refused = Some(failed);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        let len = piece.as_ref().map_or(0, Bytes::len);
        if pieces.send(piece).await.is_err() {
            unheard += len;
        }
        if refused.is_some() || unheard >= HEARD {
            break;
        }
    }
    drop(pieces);
    let outcome = match taking.await {
        Ok(outcome) => outcome.map(Json),
        Err(_) => Err(RepoError::Internal("a request was given up").into()),
    };
    asked.open.stored.changed();
    match (outcome, refused) {
        (Err(_), Some(refused)) => Err(refused),
        (Err(failed), None) if failed.is_over_quota() => Err(over(&app, &path, failed)),
        (outcome, _) => outcome,
    }
}

/// Ends a push that does not fit: nothing of the request is kept.
fn over(app: &App, path: &Named, failed: Failed) -> Failed {
    app.pushes.end(named(path));
    failed
}

/// Moves refs, which ends the push.
pub(super) async fn refs(
    State(app): State<Arc<App>>,
    path: Named,
    asked: Asked<ToAppend>,
    Read(moves): Read<Moves>,
) -> Result<Json<Has>, Failed> {
    let push = app.pushes.hold(named(&path), &asked)?;
    let moves = moves.read()?;
    if asked.scope == Scope::Append && moves.iter().any(|wanted| wanted.is_forced || wanted.to == Target::Deleted) {
        let why = "the token may add to branches, and neither force nor delete them";
        return Err(Failed::new(StatusCode::FORBIDDEN, "scope", why));
    }
    let moves = blocking(move || push.0.inbound.move_refs(&moves).map(|()| moves)).await?;
    app.pushes.end(named(&path));
    asked.open.stored.changed();
    app.metrics.moved.inc_by(moves.len() as u64);
    app.webhooks.moved(&asked.open, asked.token.as_deref(), &moves);
    Ok(Json(Has { entries: 0 }))
}

/// Ends a push that moved nothing.
pub(super) async fn end(State(app): State<Arc<App>>, path: Named, asked: Asked<ToAppend>) -> Result<Json<Has>, Failed> {
    drop(app.pushes.hold(named(&path), &asked)?);
    let name = named(&path).to_owned();
    blocking(move || {
        app.pushes.end(&name);
        Ok(Json(Has { entries: 0 }))
    })
    .await
}
