//! What is fetched.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use shard_repo::peer::Peer;
use tokio::sync::mpsc;

use super::App;
use super::reply::{Failed, Json, Read, Whole, binary, blocking};
use super::repositories::{Asked, ToRead};
use crate::protocol::{Frames, Wants, WelcomeMessage, chosen_of, offers as to_bytes};

/// Pieces of a body that wait to be sent.
const WAITING: usize = 4;

/// What the repository says of itself.
pub(super) async fn info(asked: Asked<ToRead>) -> Result<Json<WelcomeMessage>, Failed> {
    let welcome = blocking(move || asked.open.repository.welcome()).await?;
    Ok(Json(WelcomeMessage::from(&welcome)))
}

/// All that may have to travel to who wants something.
pub(super) async fn offers(asked: Asked<ToRead>, Read(wants): Read<Wants>) -> Result<Response, Failed> {
    let wanted = wants.read()?;
    let answer = blocking(move || Ok(to_bytes(asked.open.repository.outbound(&wanted)?.offers()))).await?;
    Ok(binary(answer))
}

/// Entries, in the order in which they were asked for.
pub(super) async fn entries(
    State(app): State<Arc<App>>,
    asked: Asked<ToRead>,
    Whole(body): Whole,
) -> Result<Response, Failed> {
    let chosen = chosen_of(&body)?;
    let (pieces, waiting) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    let idle = app.limits.idle;
    tokio::task::spawn_blocking(move || {
        let handle = tokio::runtime::Handle::current();
        let supply = asked.open.repository.supply(chosen);
        let mut frames = Frames::whole(supply.as_ref());
        loop {
            let piece = match frames.next() {
                Ok(None) => break,
                Ok(Some((piece, _))) => Ok(piece),
                // The stream is cut off: there is no other way to say so any more.
                Err(_) => Err(io::Error::other("an entry cannot be read")),
            };
            let is_over = piece.is_err();
            let sent = handle.block_on(tokio::time::timeout(idle, pieces.send(piece)));
            if is_over || !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
    });
    let next = |mut waiting: mpsc::Receiver<io::Result<Bytes>>| async move {
        let piece = waiting.recv().await?;
        Some((piece, waiting))
    };
    Ok(binary(Body::from_stream(futures_util::stream::unfold(waiting, next))))
}
