//! Answers, and errors as answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shard_core::text::with_causes;
use shard_repo::{RepoError, SyncProblem};

use super::App;
use super::config::Limits;
use crate::protocol::{BINARY, MAX_MESSAGE, Problem};

/// Most bytes of a question in JSON.
const MAX_JSON: u64 = 64 << 20;

/// Why a request is not answered as it was meant.
#[derive(Debug)]
pub(super) struct Failed {
    status: StatusCode,
    problem: Box<Problem>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    cause: Option<String>,
}

/// What an answer does not say, and the log does.
#[derive(Debug, Clone)]
pub(super) struct Cause(pub(super) String);

impl Failed {
    pub(super) fn new(status: StatusCode, kind: &str, message: &str) -> Self {
        Self { status, problem: Problem::new(kind, message).into(), header: None, cause: None }
    }

    pub(super) fn malformed(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn too_long() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", "the body is too long")
    }

    pub(super) fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some(Box::new((name, value))), ..self }
    }

    pub(super) fn is_over_quota(&self) -> bool {
        self.problem.error.kind == "quota"
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }
}

impl From<RepoError> for Failed {
    fn from(error: RepoError) -> Self {
        let (status, problem) = Problem::of(&error);
        let cause = status.is_server_error().then(|| with_causes(&error));
        Self { status, problem: problem.into(), header: None, cause }
    }
}

impl From<SyncProblem> for Failed {
    fn from(problem: SyncProblem) -> Self {
        RepoError::from(problem).into()
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        response.headers_mut().extend(self.header.map(|header| *header));
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
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

pub(super) fn of_type(of: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, of);
    response
}

/// A body that arrives without long pauses, not too slowly, and has an end.
pub(super) struct Arriving {
    pieces: BodyDataStream,
    start: Instant,
    idle: Duration,
    slowest: u64,
    most: u64,
    taken: u64,
}

impl Arriving {
    /// # Errors
    /// 413 for one that says that it is longer than `most` bytes: it is not waited for.
    pub(super) fn new(body: Body, limits: &Limits, most: u64) -> Result<Self, Failed> {
        if body.size_hint().lower() > most {
            return Err(Failed::too_long());
        }
        let Limits { idle, slowest, .. } = *limits;
        Ok(Self { pieces: body.into_data_stream(), start: Instant::now(), idle, slowest, most, taken: 0 })
    }

    /// The next piece.
    ///
    /// # Errors
    /// 413, 408 and 400: nothing comes after them.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        let late = || Failed::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body does not arrive");
        let Ok(piece) = tokio::time::timeout(self.idle, self.pieces.next()).await else { return Err(late()) };
        let Some(piece) = piece else { return Ok(None) };
        let piece = piece.map_err(|_| Failed::malformed("the body is cut off"))?;
        self.taken += piece.len() as u64;
        if self.taken > self.most {
            return Err(Failed::too_long());
        }
        // A little every now and then would hold a connection for ever.
        let slow = self.start.elapsed().saturating_sub(self.idle).as_secs();
        if self.taken < slow.saturating_mul(self.slowest) {
            return Err(late());
        }
        Ok(Some(piece))
    }

    pub(super) async fn whole(mut self) -> Result<Vec<u8>, Failed> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// The whole body of a request, which is short.
pub(super) struct Whole(pub(super) Vec<u8>);

impl FromRequest<Arc<App>> for Whole {
    type Rejection = Failed;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failed> {
        let most = (MAX_MESSAGE as u64).min(app.limits.body);
        Arriving::new(request.into_body(), &app.limits, most)?.whole().await.map(Self)
    }
}

/// The whole body of a request, read as JSON.
pub(super) struct Read<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Read<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failed> {
        let most = MAX_JSON.min(app.limits.body);
        let whole = Arriving::new(request.into_body(), &app.limits, most)?.whole().await?;
        // A row of values would be taken for the fields in their order.
        if whole.trim_ascii_start().first() != Some(&b'{') {
            return Err(Failed::malformed("the body is no object in JSON"));
        }
        let wrong =
            |error: serde_json::Error| Failed::malformed(&format!("the body is not what this route takes: {error}"));
        serde_json::from_slice(&whole).map(Self).map_err(wrong)
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
