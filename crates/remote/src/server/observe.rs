//! What happens to every request: it gets an id, is counted and logged, and what no route takes is refused before it reaches one.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body::{Frame, SizeHint};
use serde_json::json;
use shard_store::Nonce;

use super::App;
use super::metrics::{Counted, millis};
use super::reply::{Cause, Failed};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The first parts of paths that are parameters, and stand for the name of a repository.
const NAMES: [&str; 2] = ["/{first}/{second}", "/{first}"];

/// What a request turns out to be about.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) repository: Option<String>,
    pub(super) token: Option<String>,
}

/// What is filled in by whoever finds it out.
#[derive(Clone, Default)]
pub(super) struct About(Arc<Mutex<Seen>>);

impl About {
    pub(super) fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A request that is over.
pub(super) struct Finished<'a> {
    pub(super) route: &'a str,
    pub(super) method: &'static str,
    pub(super) status: u16,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) took: Duration,
}

/// A request that is being answered. It is over when this goes.
struct Record {
    app: Arc<App>,
    start: Instant,
    id: String,
    method: &'static str,
    route: String,
    about: About,
    status: u16,
    cause: Option<String>,
    bytes_in: Arc<AtomicU64>,
    bytes_out: u64,
    is_whole: bool,
    _under_way: Counted,
}

impl Drop for Record {
    fn drop(&mut self) {
        let finished = Finished {
            route: &self.route,
            method: self.method,
            status: self.status,
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out,
            took: self.start.elapsed(),
        };
        self.app.metrics.answered(&finished);
        let seen = std::mem::take(&mut *self.about.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.app.log.line(
            "request",
            json!({
                "id": self.id,
                "method": self.method,
                "route": self.route,
                "repository": seen.repository,
                "token": seen.token,
                "status": self.status,
                "bytes_in": finished.bytes_in,
                "bytes_out": finished.bytes_out,
                "ms": millis(finished.took),
                "cut_off": (!self.is_whole).then_some(true),
                "error": self.cause,
            }),
        );
    }
}

/// Goes around every route.
pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let about = About::default();
    let bytes_in = Arc::new(AtomicU64::new(0));
    let id = Nonce::random().map(|nonce| nonce.to_hex()).unwrap_or_default();
    let mut record = Record {
        start: Instant::now(),
        method: known(request.method()),
        route: route_of(&request),
        about: about.clone(),
        status: 0,
        cause: None,
        bytes_in: Arc::clone(&bytes_in),
        bytes_out: 0,
        is_whole: false,
        id,
        _under_way: Counted::new(&app.metrics.under_way),
        app: Arc::clone(&app),
    };
    let mut response = match refuse(&app, &request) {
        Some(failed) => failed.into_response(),
        None => {
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(about);
            next.run(Request::from_parts(parts, Body::new(Arriving { body, bytes: bytes_in }))).await
        }
    };
    record.status = response.status().as_u16();
    record.cause = response.extensions_mut().remove::<Cause>().map(|cause| cause.0);
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&record.id).ok().map(|id| (REQUEST_ID, id)));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.map(|body| {
        record.is_whole = body.is_end_stream();
        Body::new(Leaving { body, record })
    })
}

/// What is refused whatever it asks for.
fn refuse(app: &App, request: &Request) -> Option<Failed> {
    let headers = request.headers();
    // Nothing here is unpacked: a short body could stand for a very long one.
    if headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let why = "bodies are taken as they are: send them without Content-Encoding";
        return Some(Failed::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", why));
    }
    // Without tokens whoever reaches the server may do everything: pages that a browser on this machine shows must not.
    if app.access.is_for_this_machine_alone() && (is_of_page(headers) || !is_to_this_machine(headers)) {
        let why = "without tokens only programs on this machine are answered, at a loopback address";
        return Some(Failed::new(StatusCode::FORBIDDEN, "not-from-here", why));
    }
    None
}

/// Whether a browser says that a page of another site asks.
fn is_of_page(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).is_some_and(|site| site != "none" && site != "same-origin");
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    site || headers.contains_key(ORIGIN) && !origin.is_some_and(|origin| is_loopback(after_scheme(origin)))
}

fn after_scheme(origin: &str) -> &str {
    origin.split_once("://").map_or("", |(_, host)| host)
}

/// Whether a request was meant for this machine: a name elsewhere may lead here as well.
fn is_to_this_machine(headers: &HeaderMap) -> bool {
    headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(is_loopback)
}

/// Whether a host, perhaps with a port, is this machine.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<std::net::SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host });
    crate::is_this_machine(name)
}

/// The route that a request has taken, with `REPO` for the name of a repository.
fn route_of(request: &Request) -> String {
    let Some(matched) = request.extensions().get::<MatchedPath>() else { return "none".to_owned() };
    let matched = matched.as_str();
    match NAMES.into_iter().find_map(|names| matched.strip_prefix(names)) {
        Some(rest) => format!("REPO{rest}"),
        None => matched.to_owned(),
    }
}

/// Methods that are told apart in numbers: anybody can make up others.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The body of a request, counted.
struct Arriving {
    body: Body,
    bytes: Arc<AtomicU64>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes.fetch_add(frame.data_ref().map_or(0, |data| data.len() as u64), Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, counted: the request is over with it.
struct Leaving {
    body: Body,
    record: Record,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.record.is_whole = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.record.is_whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_25_names_that_lead_here_are_not_this_machine() {
        for host in ["localhost", "LOCALHOST:8460", "127.0.0.1", "127.8.0.1:1", "[::1]", "[::1]:8460"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1:8460",
            "127.0.0.1.evil.example:1",
            "[::2]:1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
        let page = |name: HeaderName, value| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            is_of_page(&headers)
        };
        assert!(page(FETCH_SITE, "cross-site") && page(ORIGIN, "https://evil.example") && page(ORIGIN, "null"));
        assert!(!page(FETCH_SITE, "none") && !page(ORIGIN, "http://127.0.0.1:8460") && !is_of_page(&HeaderMap::new()));
    }
}
