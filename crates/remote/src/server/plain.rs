//! The plain routes: blocks and manifests by their ids, as they decode, and refs by their names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shard_core::Digest;
use shard_repo::peer::Peer as _;
use shard_repo::{Deposit, RepoError, SyncProblem};
use shard_store::{EntryKey, EntryKind};

use super::App;
use super::reply::{Arriving, Failed, Json, blocking, of_type};
use super::repositories::{Asked, Open, ToAppend, ToRead};
use crate::protocol::{BINARY, RefMessage, WelcomeMessage};

/// Entries of a page of a list, where not so many are asked for, and at most.
const PAGE: usize = 1000;
/// What is known by its hash never changes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// Deposits that are open, by repository.
#[derive(Default)]
pub(super) struct Deposits(Mutex<HashMap<String, Held>>);

struct Held {
    deposit: Arc<Deposit>,
    begun: Instant,
    last: Instant,
}

impl Deposits {
    /// The deposit of a repository. One takes no more after a while, so that a collection waits for none for ever.
    fn of(&self, open: &Open, idle: Duration) -> Result<Arc<Deposit>, RepoError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&open.name).filter(|held| held.begun.elapsed() < idle) {
            held.last = Instant::now();
            return Ok(Arc::clone(&held.deposit));
        }
        let deposit = Arc::new(Deposit::begin(Arc::clone(&open.repository))?);
        let now = Instant::now();
        all.insert(open.name.clone(), Held { deposit: Arc::clone(&deposit), begun: now, last: now });
        Ok(deposit)
    }

    /// Gives up one that failed: it takes nothing more.
    fn give_up(&self, open: &Open, failed: &Arc<Deposit>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&open.name).is_some_and(|held| Arc::ptr_eq(&held.deposit, failed)) {
            all.remove(&open.name);
        }
    }

    /// Ends those that nobody has put anything into for a while.
    pub(super) fn end_idle(&self, idle: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended: Vec<Held> = all.extract_if(|_, held| held.last.elapsed() > idle).map(|(_, held)| held).collect();
        drop(all);
        drop(ended);
    }

    pub(super) fn end_all(&self) {
        let ended = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(ended);
    }
}

/// What a path names.
pub(super) type Params = HashMap<String, String>;
/// A hash in a path.
pub(super) type Hashed = Path<Params>;

/// The entry that a path names: 64 lowercase hexadecimal digits, and nothing else.
fn key_of(kind: EntryKind, path: &Hashed) -> Result<EntryKey, Failed> {
    let text = path.get("hash").map(String::as_str).unwrap_or_default();
    let id = Digest::from_hex(text).map_err(|_| Failed::malformed("a hash is 64 lowercase hexadecimal digits"))?;
    Ok(EntryKey::new(kind, id))
}

fn not_there(what: &str) -> Failed {
    Failed::new(StatusCode::NOT_FOUND, "not-found", &format!("there is no such {what}"))
}

/// `GET` and `HEAD` of a block.
pub(super) async fn block(
    method: Method,
    path: Hashed,
    asked: Asked<ToRead>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    read(EntryKind::Block, method, &path, asked, &headers).await
}

/// `GET` and `HEAD` of a manifest.
pub(super) async fn manifest(
    method: Method,
    path: Hashed,
    asked: Asked<ToRead>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    read(EntryKind::Manifest, method, &path, asked, &headers).await
}

async fn read(
    kind: EntryKind,
    method: Method,
    path: &Hashed,
    asked: Asked<ToRead>,
    headers: &HeaderMap,
) -> Result<Response, Failed> {
    let key = key_of(kind, path)?;
    let of = HeaderValue::from_static(if kind == EntryKind::Block { BINARY } else { "application/json" });
    let tag = format!("\"{}\"", key.id.to_hex());
    let repository = Arc::clone(&asked.open.repository);
    let len = blocking(move || repository.entry_len(&key)).await?.ok_or_else(|| not_there(kind.name()))?;
    let is_known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if is_known
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag)
    {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        described(&mut response, &tag);
        return Ok(response);
    }
    if method == Method::HEAD {
        let mut response = of_type(of, Body::empty());
        response.headers_mut().insert(CONTENT_LENGTH, len.into());
        described(&mut response, &tag);
        return Ok(response);
    }
    let wanted =
        match headers.get(RANGE).filter(|_| headers.get(IF_RANGE).is_none_or(|of| of.as_bytes() == tag.as_bytes())) {
            Some(range) => range_of(range, len),
            None => Wanted::All,
        };
    if let Wanted::Nothing = wanted {
        return Ok(unsatisfiable(len));
    }
    let repository = Arc::clone(&asked.open.repository);
    let bytes = blocking(move || repository.entry(&key)).await?.ok_or_else(|| not_there(kind.name()))?;
    let bytes = Bytes::from(bytes);
    let mut response = match wanted {
        Wanted::Part { start, end } => {
            let part = bytes.slice(at(start, &bytes)..at(end, &bytes));
            part_of(of_type(of, part.into()), start, end, len)
        }
        Wanted::All | Wanted::Nothing => of_type(of, bytes.into()),
    };
    described(&mut response, &tag);
    Ok(response)
}

/// The answer where a range begins after the end.
pub(super) fn unsatisfiable(len: u64) -> Response {
    let mut response =
        Failed::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", "the range is not in it").into_response();
    let range = HeaderValue::try_from(format!("bytes */{len}"));
    response.headers_mut().extend(range.ok().map(|range| (CONTENT_RANGE, range)));
    response
}

/// Makes an answer that of the bytes from `start` to before `end`, of `len`.
pub(super) fn part_of(mut response: Response, start: u64, end: u64, len: u64) -> Response {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = HeaderValue::try_from(format!("bytes {start}-{}/{len}", end.saturating_sub(1)));
    response.headers_mut().extend(range.ok().map(|range| (CONTENT_RANGE, range)));
    response
}

fn at(offset: u64, bytes: &Bytes) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())
}

fn described(response: &mut Response, tag: &str) {
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, FOR_EVER);
    headers.extend(HeaderValue::try_from(tag).ok().map(|tag| (ETAG, tag)));
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    /// From `start` to before `end`.
    Part {
        start: u64,
        end: u64,
    },
    /// A range that begins after the end.
    Nothing,
}

/// The one range that is asked for; all, where it is no range that is understood (RFC 9110, 14.2).
pub(super) fn range_of(range: &HeaderValue, len: u64) -> Wanted {
    let text = range.to_str().ok().and_then(|text| text.strip_prefix("bytes=")).map(str::trim);
    let Some((first, last)) = text.and_then(|text| text.split_once('-')) else { return Wanted::All };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().unwrap_or(u64::MAX));
    let (Some(first_number), Some(last_number)) = (number_or_none(first, number), number_or_none(last, number)) else {
        return Wanted::All;
    };
    match (first_number, last_number) {
        (Some(start), Some(last)) if last < start => Wanted::All,
        (Some(start), _) if start >= len => Wanted::Nothing,
        (Some(start), last) => Wanted::Part { start, end: last.map_or(len, |last| last.saturating_add(1).min(len)) },
        (None, Some(0)) => Wanted::Nothing,
        (None, Some(_)) if len == 0 => Wanted::Nothing,
        (None, Some(count)) => Wanted::Part { start: len.saturating_sub(count), end: len },
        (None, None) => Wanted::All,
    }
}

/// A number, or none where there is no text; `None` for what is neither.
fn number_or_none(text: &str, number: impl Fn(&str) -> Option<u64>) -> Option<Option<u64>> {
    if text.is_empty() { Some(None) } else { number(text).map(Some) }
}

/// What was put.
#[derive(Debug, Serialize)]
pub(super) struct Put {
    hash: String,
    bytes: usize,
    /// Whether it was not there before.
    new: bool,
}

/// `PUT` of a block: its decoded bytes.
pub(super) async fn put_block(
    State(app): State<Arc<App>>,
    path: Hashed,
    asked: Asked<ToAppend>,
    body: Body,
) -> Result<Response, Failed> {
    put(EntryKind::Block, app, &path, asked, body).await
}

/// `PUT` of a manifest, whose blocks are all there.
pub(super) async fn put_manifest(
    State(app): State<Arc<App>>,
    path: Hashed,
    asked: Asked<ToAppend>,
    body: Body,
) -> Result<Response, Failed> {
    put(EntryKind::Manifest, app, &path, asked, body).await
}

async fn put(
    kind: EntryKind,
    app: Arc<App>,
    path: &Hashed,
    asked: Asked<ToAppend>,
    body: Body,
) -> Result<Response, Failed> {
    let key = key_of(kind, path)?;
    let mut body = Arriving::new(body, &app.limits, kind.max_raw_len().min(app.limits.body))?;
    let (mut hash, mut bytes) = (Sha256::new(), Vec::new());
    while let Some(piece) = body.next().await? {
        hash.update(&piece);
        bytes.extend_from_slice(&piece);
    }
    let found = Digest(hash.finalize().into());
    if found != key.id {
        let why = format!("the body is {found}, and not {}", key.id);
        return Err(Failed::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong-bytes", &why));
    }
    let len = bytes.len();
    let is_new = blocking(move || {
        let open = &asked.open;
        if open.stored.room(&open.repository)?.is_some_and(|room| len as u64 > room) {
            return Err(open.stored.over(&open.repository));
        }
        let deposit = app.deposits.of(open, app.limits.idle)?;
        let outcome = deposit.put(kind, &bytes);
        if matches!(outcome, Err(RepoError::Store(_))) {
            app.deposits.give_up(open, &deposit);
        }
        outcome.map(|(_, is_new)| is_new)
    })
    .await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Put { hash: found.to_hex(), bytes: len, new: is_new })).into_response())
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    /// The last one of the page before.
    after: Option<String>,
    /// How many at most.
    limit: Option<usize>,
    /// What names begin with.
    prefix: Option<String>,
}

type Paged = Result<Query<Page>, QueryRejection>;

impl Page {
    fn of(query: Paged) -> Result<Self, Failed> {
        let Query(page) =
            query.map_err(|_| Failed::malformed("a list is asked for with after, limit and, of refs, prefix"))?;
        match page.limit {
            Some(limit) if limit == 0 || limit > PAGE => Err(Failed::malformed("a page has 1 to 1000 of a list")),
            _ => Ok(page),
        }
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE)
    }
}

/// A page of the ids of manifests.
#[derive(Debug, Serialize)]
pub(super) struct Manifests {
    manifests: Vec<String>,
    /// What to ask for the next page with.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists manifests.
pub(super) async fn manifests(asked: Asked<ToRead>, query: Paged) -> Result<Json<Manifests>, Failed> {
    let page = Page::of(query)?;
    if page.prefix.is_some() {
        return Err(Failed::malformed("manifests are listed with after and limit"));
    }
    let after = page.after.as_deref().map(Digest::from_hex).transpose();
    let after = after.map_err(|_| Failed::malformed("after is the last hash of the page before"))?;
    let limit = page.limit();
    let mut found = blocking(move || {
        let mut keys = asked.open.repository.store().ids(EntryKind::Manifest)?;
        keys.sort_unstable();
        let keys = keys.into_iter().filter(|id| after.is_none_or(|after| *id > after));
        Ok(keys.take(limit + 1).collect::<Vec<Digest>>())
    })
    .await?;
    let is_more = found.len() > limit;
    found.truncate(limit);
    let manifests: Vec<String> = found.iter().map(Digest::to_hex).collect();
    let next = manifests.last().filter(|_| is_more).cloned();
    Ok(Json(Manifests { manifests, next }))
}

/// A page of refs.
#[derive(Debug, Serialize)]
pub(super) struct Refs {
    refs: Vec<RefMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

async fn all_refs(asked: Asked<ToRead>) -> Result<Vec<RefMessage>, Failed> {
    let welcome = blocking(move || asked.open.repository.welcome()).await?;
    let mut refs = WelcomeMessage::from(&welcome).refs;
    refs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(refs)
}

/// Lists branches and tags.
pub(super) async fn refs(asked: Asked<ToRead>, query: Paged) -> Result<Json<Refs>, Failed> {
    let page = Page::of(query)?;
    let mut refs = all_refs(asked).await?;
    let (after, prefix) = (page.after.as_deref(), page.prefix.as_deref().unwrap_or_default());
    refs.retain(|found| found.name.starts_with(prefix) && after.is_none_or(|after| found.name.as_str() > after));
    let is_more = refs.len() > page.limit();
    refs.truncate(page.limit());
    let next = refs.last().filter(|_| is_more).map(|last| last.name.clone());
    Ok(Json(Refs { refs, next }))
}

/// One branch or tag, by its full name.
pub(super) async fn one_ref(path: Hashed, asked: Asked<ToRead>) -> Result<Json<RefMessage>, Failed> {
    let name = path.get("name").cloned().unwrap_or_default();
    if !name.starts_with("heads/") && !name.starts_with("tags/") {
        return Err(SyncProblem::Malformed("a ref is named in full: heads/NAME or tags/NAME").into());
    }
    let refs = all_refs(asked).await?;
    refs.into_iter().find(|found| found.name == name).map(Json).ok_or_else(|| not_there("branch or tag"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_meant() {
        for (text, wanted) in [
            ("bytes=0-0", Wanted::Part { start: 0, end: 1 }),
            ("bytes=2-", Wanted::Part { start: 2, end: 10 }),
            ("bytes=2-99999999999999999999999", Wanted::Part { start: 2, end: 10 }),
            ("bytes=-3", Wanted::Part { start: 7, end: 10 }),
            ("bytes=-30", Wanted::Part { start: 0, end: 10 }),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("items=0-1", Wanted::All),
            ("bytes", Wanted::All),
        ] {
            assert_eq!(range_of(&HeaderValue::from_static(text), 10), wanted, "{text}");
        }
        assert_eq!(range_of(&HeaderValue::from_static("bytes=-5"), 0), Wanted::Nothing);
    }
}
