//! Answers, and errors as answers.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Serialize;
use shard_repo::{RepoError, SyncProblem};

use super::App;
use crate::protocol::{BINARY, MAX_MESSAGE, Problem};

/// Why a request is not answered as it was meant.
#[derive(Debug)]
pub(super) struct Failed {
    status: StatusCode,
    problem: Problem,
}

impl Failed {
    pub(super) fn new(status: StatusCode, kind: &str, message: &str) -> Self {
        Self { status, problem: Problem::new(kind, message) }
    }

    pub(super) fn malformed(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }
}

impl From<RepoError> for Failed {
    fn from(error: RepoError) -> Self {
        let (status, problem) = Problem::of(&error);
        Self { status, problem }
    }
}

impl From<SyncProblem> for Failed {
    fn from(problem: SyncProblem) -> Self {
        RepoError::from(problem).into()
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

/// An answer in JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => of_type(HeaderValue::from_static("application/json"), body.into()),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

/// An answer in bytes.
pub(super) fn binary(body: impl Into<Body>) -> Response {
    of_type(HeaderValue::from_static(BINARY), body.into())
}

fn of_type(of: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, of);
    response
}

/// The whole body of a request, which is short, and arrives without long pauses.
pub(super) struct Whole(pub(super) Vec<u8>);

impl FromRequest<Arc<App>> for Whole {
    type Rejection = Failed;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failed> {
        let too_long = || Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", "the body is too long");
        let body = request.into_body();
        // One that says that it is too long is not waited for.
        if body.size_hint().lower() > MAX_MESSAGE as u64 {
            return Err(too_long());
        }
        let (mut pieces, mut whole) = (body.into_data_stream(), Vec::new());
        loop {
            match tokio::time::timeout(app.idle, pieces.next()).await {
                Ok(None) => return Ok(Self(whole)),
                Ok(Some(Ok(piece))) if whole.len() + piece.len() > MAX_MESSAGE => return Err(too_long()),
                Ok(Some(Ok(piece))) => whole.extend_from_slice(&piece),
                Ok(Some(Err(_))) => return Err(Failed::malformed("the body is cut off")),
                Err(_) => return Err(Failed::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body does not arrive")),
            }
        }
    }
}

/// Runs what reads and writes files where that keeps nobody else waiting.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RepoError> + Send + 'static,
) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Failed::from),
        Err(_) => Err(RepoError::Internal("a request was given up").into()),
    }
}
