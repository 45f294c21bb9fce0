//! A repository behind a server as a place for files, for who may do everything with it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, IF_NONE_MATCH, RANGE};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use shard_core::text::with_causes;
use shard_repo::RepoError;
use shard_store::backend::{Backend, BackendError, Upload, check_name};
use shard_store::memory::upload;

use super::credentials::Secret;
use super::http::{Http, described};
use crate::protocol::MAX_FILE_PART;

/// Requests that are worth being under way at once.
const AT_ONCE: usize = 4;

/// The files of a repository behind a server. Clones share the connections.
#[derive(Clone)]
pub struct HttpBackend {
    http: Arc<Http>,
}

/// The names in a folder.
#[derive(Debug, Deserialize)]
struct Listed {
    names: Vec<String>,
}

/// What a server says, where it does what it was asked for or says that a range is not in a file.
struct Answer {
    is_beyond: bool,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The length of the whole file, of an answer about a range.
    fn size(&self) -> Option<u64> {
        self.headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
    }
}

impl HttpBackend {
    /// The files of the repository at an `http://` or `https://` address, for who has this token. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SyncProblem::Url`](shard_repo::SyncProblem::Url); what keeps a connection from being made at all.
    pub fn new(url: &str, token: Option<&Secret>) -> Result<Self, RepoError> {
        Ok(Self { http: Arc::new(Http::new(url, token)?) })
    }

    fn request(&self, method: Method, name: &str) -> Result<RequestBuilder, BackendError> {
        check_name(name)?;
        Ok(self.http.request(method, &format!("files/{}", escaped(name))))
    }

    fn ask(&self, name: &str, action: &'static str, request: RequestBuilder) -> Result<Answer, BackendError> {
        let failed = |why: String| BackendError::Io { name: name.to_owned(), action, source: io::Error::other(why) };
        let lost = |error: reqwest::Error| {
            let source = io::Error::other(described(&error));
            BackendError::Uncertain { name: name.to_owned(), action, source }
        };
        self.http.runtime.block_on(async {
            let mut response = request.send().await.map_err(lost)?;
            let is_beyond = response.status() == StatusCode::RANGE_NOT_SATISFIABLE;
            match response.status() {
                StatusCode::NOT_FOUND => return Err(BackendError::NotFound { name: name.to_owned() }),
                StatusCode::PRECONDITION_FAILED => return Err(BackendError::AlreadyExists { name: name.to_owned() }),
                status if status.is_success() || is_beyond => {}
                // The answer to `HEAD` says no more.
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    return Err(failed(format!(
                        "the server refuses it ({status}): the files of a repository are for admins"
                    )));
                }
                status => {
                    let said = self.http.answer(Ok(response)).await.err();
                    return Err(failed(said.map_or_else(|| status.to_string(), |error| with_causes(&error))));
                }
            }
            let (headers, mut body) = (std::mem::take(response.headers_mut()), Vec::new());
            while let Some(piece) = response.chunk().await.map_err(lost)? {
                if (body.len() + piece.len()) as u64 > MAX_FILE_PART {
                    return Err(failed("the answer is too long".to_owned()));
                }
                body.extend_from_slice(&piece);
            }
            Ok(Answer { is_beyond, headers, body })
        })
    }

    fn wrong(name: &str, action: &'static str) -> BackendError {
        let source = io::Error::new(io::ErrorKind::InvalidData, "the answer is not what was asked for");
        BackendError::Io { name: name.to_owned(), action, source }
    }

    /// Some of the names in a folder.
    fn listed(&self, folder: &str, first: bool) -> Result<Vec<String>, BackendError> {
        check_name(folder)?;
        let route = format!("files?folder={}&first={first}", escaped(folder));
        let answer = self.ask(folder, "list", self.http.request(Method::GET, &route))?;
        let listed: Listed = serde_json::from_slice(&answer.body).map_err(|_| Self::wrong(folder, "list"))?;
        Ok(listed.names)
    }

    /// Creates a file.
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), BackendError> {
        let request = self.request(Method::PUT, name)?.header(IF_NONE_MATCH, "*").body(bytes);
        self.ask(name, "create", request).map(drop)
    }
}

/// A name in a URL: of what names are made of, this alone means something else there.
fn escaped(name: &str) -> String {
    name.replace('%', "%25")
}

impl Backend for HttpBackend {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        let end = offset.saturating_add(out.len() as u64);
        let beyond = |size| BackendError::OutOfBounds { name: name.to_owned(), offset, end, size };
        if out.is_empty() || end == u64::MAX {
            return match self.size(name)? {
                size if end > size => Err(beyond(size)),
                _ => Ok(()),
            };
        }
        let mut start = offset;
        for part in out.chunks_mut(MAX_FILE_PART as usize) {
            let after = start + part.len() as u64;
            let request = self.request(Method::GET, name)?.header(RANGE, format!("bytes={start}-{}", after - 1));
            let answer = self.ask(name, "read", request)?;
            let size = answer.size().ok_or_else(|| Self::wrong(name, "read"))?;
            if answer.is_beyond || after > size {
                return Err(beyond(size));
            }
            if answer.body.len() != part.len() {
                return Err(Self::wrong(name, "read"));
            }
            part.copy_from_slice(&answer.body);
            start = after;
        }
        Ok(())
    }

    fn size(&self, name: &str) -> Result<u64, BackendError> {
        let answer = self.ask(name, "look at", self.request(Method::HEAD, name)?)?;
        let len = answer.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        len.ok_or_else(|| Self::wrong(name, "look at"))
    }

    fn get_tail(&self, name: &str, len: u64) -> Result<(Vec<u8>, u64), BackendError> {
        if len == 0 || len > MAX_FILE_PART {
            return shard_store::backend::tail_by_size(self, name, len);
        }
        let answer = self.ask(name, "read", self.request(Method::GET, name)?.header(RANGE, format!("bytes=-{len}")))?;
        let size = answer.size().ok_or_else(|| Self::wrong(name, "read"))?;
        if answer.is_beyond {
            // Nothing is the end of an empty file.
            return Ok((Vec::new(), size));
        }
        if answer.body.len() as u64 != len.min(size) {
            return Err(Self::wrong(name, "read"));
        }
        Ok((answer.body, size))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        self.put(name, Bytes::copy_from_slice(bytes))
    }

    fn create(&self) -> Result<Box<dyn Upload>, BackendError> {
        let backend = self.clone();
        Ok(upload(move |name, bytes| backend.put(name, Bytes::from(bytes))))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
        self.listed(folder, false)
    }

    fn list_first(&self, folder: &str) -> Result<Option<String>, BackendError> {
        Ok(self.listed(folder, true)?.into_iter().next())
    }

    fn delete(&self, name: &str) -> Result<(), BackendError> {
        self.ask(name, "delete", self.request(Method::DELETE, name)?).map(drop)
    }

    fn requests_at_once(&self) -> usize {
        AT_ONCE
    }
}
