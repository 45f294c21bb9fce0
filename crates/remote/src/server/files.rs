//! The files of a repository as they are: what a [`Backend`] has to be able to do, for who may do everything with them.

use std::io::ErrorKind;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, HeaderMap, IF_NONE_MATCH, RANGE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use shard_store::backend::{Backend, BackendError, check_name};

use super::App;
use super::plain::{Params, Wanted, part_of, range_of, unsatisfiable};
use super::reply::{Arriving, Failed, Json, binary, blocking};
use super::repositories::{Asked, ToAdmin};
use crate::protocol::MAX_FILE_PART;

/// The file that a path names.
fn name_of(path: &Params) -> Result<String, Failed> {
    let name = path.get("name").cloned().unwrap_or_default();
    check_name(&name).map_err(failed)?;
    Ok(name)
}

fn failed(error: BackendError) -> Failed {
    match error {
        BackendError::NotFound { .. } => Failed::new(StatusCode::NOT_FOUND, "not-found", "there is no such file"),
        BackendError::AlreadyExists { .. } => {
            Failed::new(StatusCode::PRECONDITION_FAILED, "exists", "there is a file of that name")
        }
        BackendError::Name(_) => Failed::malformed("no file has such a name"),
        // In a folder, a folder has the name, or a file that of a folder of it.
        error if is_in_the_way(&error) => Failed::new(StatusCode::NOT_FOUND, "not-found", "there is no such file"),
        error => shard_repo::RepoError::from(shard_store::StoreError::from(error)).into(),
    }
}

fn is_in_the_way(error: &BackendError) -> bool {
    error.io().is_some_and(|error| matches!(error.kind(), ErrorKind::IsADirectory | ErrorKind::NotADirectory))
}

/// Runs an operation where that keeps nobody else waiting.
async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T, BackendError> + Send + 'static) -> Result<T, Failed> {
    blocking(move || Ok(work())).await?.map_err(failed)
}

fn backend_of(asked: &Asked<ToAdmin>) -> Arc<dyn Backend> {
    Arc::clone(asked.open.repository.store().backend())
}

/// `GET` and `HEAD` of a file, or a range of it.
pub(super) async fn read(
    method: Method,
    Path(path): Path<Params>,
    asked: Asked<ToAdmin>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let (name, backend) = (name_of(&path)?, backend_of(&asked));
    let (sought, there) = (name.clone(), Arc::clone(&backend));
    let is_head = method == Method::HEAD;
    let len = run(move || {
        let len = there.size(&sought)?;
        // A folder of a disk has a length too, and no bytes: whoever reads it is told that anyway.
        there.get_range(&sought, 0, &mut vec![0; usize::from(is_head && len > 0)])?;
        Ok(len)
    })
    .await?;
    if is_head {
        let mut response = binary(Body::empty());
        response.headers_mut().insert(CONTENT_LENGTH, len.into());
        return Ok(response);
    }
    let (start, end, is_part) = match headers.get(RANGE).map_or(Wanted::All, |range| range_of(range, len)) {
        Wanted::Nothing => return Ok(unsatisfiable(len)),
        Wanted::Part { start, end } => (start, end, true),
        Wanted::All => (0, len, false),
    };
    if end - start > MAX_FILE_PART {
        return Err(Failed::malformed("the file is longer than 64 MiB: ask for ranges of it"));
    }
    let bytes = run(move || {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        backend.get_range(&name, start, &mut bytes)?;
        Ok(Bytes::from(bytes))
    });
    let response = binary(bytes.await?);
    Ok(if is_part { part_of(response, start, end, len) } else { response })
}

/// `PUT` of a file whose name nothing has.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path(path): Path<Params>,
    asked: Asked<ToAdmin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failed> {
    let (name, backend) = (name_of(&path)?, backend_of(&asked));
    if headers.get(IF_NONE_MATCH).is_none_or(|condition| condition.as_bytes() != b"*") {
        let why = "files are never replaced: send If-None-Match: *";
        return Err(Failed::new(StatusCode::PRECONDITION_REQUIRED, "condition", why));
    }
    let mut arriving = Arriving::new(body, &app.limits, app.limits.body)?;
    let mut upload = run(move || backend.create()).await?;
    while let Some(piece) = arriving.next().await? {
        upload = run(move || upload.append(&piece).map(|()| upload)).await?;
    }
    run(move || match upload.finish(&name) {
        Err(error) if is_in_the_way(&error) => Err(BackendError::AlreadyExists { name }),
        outcome => outcome,
    })
    .await?;
    Ok(StatusCode::CREATED.into_response())
}

/// `DELETE` of a file; one that is not there is gone already.
pub(super) async fn delete(Path(path): Path<Params>, asked: Asked<ToAdmin>) -> Result<Response, Failed> {
    let (name, backend) = (name_of(&path)?, backend_of(&asked));
    run(move || {
        backend.delete(&name)?;
        name.rsplit_once('/').map_or(Ok(()), |(folder, _)| backend.settle(folder))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What is to be listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    folder: String,
    /// Whether the first name is enough.
    #[serde(default)]
    first: bool,
}

/// What is directly in a folder.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    names: Vec<String>,
}

/// The names in a folder, sorted.
pub(super) async fn list(
    asked: Asked<ToAdmin>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Listed>, Failed> {
    let Query(Which { folder, first }) = which.map_err(|_| {
        Failed::malformed("say which folder: ?folder=packs, and &first=true where the first name is enough")
    })?;
    let backend = backend_of(&asked);
    let names = run(move || match first {
        true => Ok(backend.list_first(&folder)?.into_iter().collect()),
        false => backend.list(&folder),
    });
    Ok(Json(Listed { names: names.await? }))
}
