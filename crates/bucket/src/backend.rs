//! The backend: each operation is a request or a few, and a put whose reply was lost is resolved by what is there.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use shard_store::backend::{Backend, BackendError, Upload};
use tokio::runtime::Runtime;

use crate::address::Address;
use crate::connect::{Connection, runtime};
use crate::error::BucketError;

/// Requests that are worth being under way at once.
const AT_ONCE: usize = 8;
/// An object of more bytes is sent in parts. Packs of buckets have at most half as many.
const WHOLE: usize = 32 << 20;
/// Bytes of a part.
const PART: usize = 8 << 20;
/// Parts of one object that are under way at once.
const PARTS: usize = 4;
/// How often a put is begun again of which nothing is there.
const ATTEMPTS: u32 = 6;
/// Longest text of an error.
const MAX_TEXT: usize = 400;

/// Objects below a prefix of a bucket. Clones share the connections.
#[derive(Clone)]
pub struct BucketBackend {
    address: Address,
    connection: Connection,
    runtime: &'static Runtime,
    parts_above: usize,
}

impl BucketBackend {
    /// The objects at an address, by the credentials and settings of the environment and of the files that the store's own tools
    /// read. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn open(address: Address) -> Result<Self, BucketError> {
        let connection = Connection::new(&address, &|name| std::env::var(name).ok())?;
        Self::over(address, connection)
    }

    pub(crate) fn over(address: Address, connection: Connection) -> Result<Self, BucketError> {
        Ok(Self { address, connection, runtime: runtime()?, parts_above: WHOLE })
    }

    #[cfg(test)]
    pub(crate) fn with_parts_above(self, parts_above: usize) -> Self {
        Self { parts_above, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Another folder of the same bucket.
    pub(crate) fn at(&self, address: Address) -> Self {
        Self { address, ..self.clone() }
    }

    /// Waits for a request. Whoever waits is no thread of the runtime, so that this never waits for itself.
    fn wait<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> Result<T, BackendError> {
        let (done, outcome) = sync_channel(1);
        self.runtime.spawn(async move { done.send(request.await) });
        outcome.recv().map_err(|_| {
            let source = io::Error::other("the request was given up");
            BackendError::Uncertain { name: self.address.to_string(), action: "a request", source }
        })
    }

    fn key(&self, name: &str) -> Result<Path, BackendError> {
        let key = self.address.key(name)?;
        Path::parse(key).map_err(|_| BackendError::Name(name.to_owned()))
    }

    /// The names of the folders at the address itself, sorted.
    ///
    /// # Errors
    /// [`BackendError`].
    pub fn folders(&self) -> Result<Vec<String>, BackendError> {
        let (store, url) = (self.store(), self.address.to_string());
        let key = Path::parse(self.address.prefix()).map_err(|_| BackendError::Name(url.clone()))?;
        let found = self.wait(async move { store.list_with_delimiter(Some(&key)).await })?;
        let found = found.map_err(|error| failed(&url, "list", error))?;
        let names: BTreeSet<&str> = found.common_prefixes.iter().filter_map(Path::filename).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.connection.store)
    }

    /// Creates an object, whole or in parts.
    pub(crate) fn place(&self, name: &str, bytes: Bytes) -> Result<(), BackendError> {
        if bytes.len() <= self.parts_above {
            return self.put(name, bytes);
        }
        let key = self.key(name)?;
        // Parts are put together without a condition: names of such objects say what is in them.
        match self.size(name) {
            Err(error) if error.is_not_found() => {}
            Ok(_) => return self.compare(name, &bytes)?.unwrap_or_else(|| Err(lost(name, "create"))),
            Err(error) => return Err(error),
        }
        let store = self.store();
        match self.wait(async move { send_parts(store.as_ref(), &key, bytes).await })? {
            Ok(()) => Ok(()),
            Err(error) => Err(failed(name, "create", error)),
        }
    }

    /// Creates an object by a conditional put. Whatever the store answers, only what is there tells whose it is: a reply may be lost,
    /// and a request repeated.
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), BackendError> {
        let key = self.key(name)?;
        let mut last = lost(name, "create");
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(50 << attempt));
            }
            let (store, key, payload) = (self.store(), key.clone(), PutPayload::from(bytes.clone()));
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.wait(async move { store.put_opts(&key, payload, options).await })? {
                Ok(_) => return Ok(()),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => {}
                Err(error) if is_certain(&error) => return Err(failed(name, "create", error)),
                Err(error) => last = uncertain(name, "create", error),
            }
            match self.compare(name, &bytes) {
                Ok(Some(outcome)) => return outcome,
                // Nothing is there: refused for another writer's sake whose put then failed, or never arrived.
                Ok(None) => {}
                Err(error) => {
                    let source = io::Error::other(format!("and it cannot be read back: {}", described(&error)));
                    return Err(BackendError::Uncertain { name: name.to_owned(), action: "create", source });
                }
            }
        }
        Err(last)
    }

    /// Whether an object that was to be created has our bytes, or others'; `None` where it is not there.
    fn compare(&self, name: &str, bytes: &[u8]) -> Result<Option<Result<(), BackendError>>, BackendError> {
        let taken = || Ok(Some(Err(BackendError::AlreadyExists { name: name.to_owned() })));
        match self.size(name) {
            Err(error) if error.is_not_found() => return Ok(None),
            Ok(size) if size != bytes.len() as u64 => return taken(),
            other => other.map(drop)?,
        }
        match self.get(name, bytes.len() as u64) {
            Ok(found) if found == bytes => Ok(Some(Ok(()))),
            Ok(_) => taken(),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last segments of what is directly in a folder.
    fn listed(&self, folder: &str) -> Result<BTreeSet<String>, BackendError> {
        let (key, store) = (self.key(folder)?, self.store());
        let found = self.wait(async move { store.list_with_delimiter(Some(&key)).await })?;
        let found = found.map_err(|error| failed(folder, "list", error))?;
        let objects = found.objects.iter().map(|object| &object.location);
        Ok(objects.chain(&found.common_prefixes).filter_map(|path| Some(path.filename()?.to_owned())).collect())
    }

    /// The first name of a folder, where one page of one key tells it.
    fn first_of_page(&self, folder: &str) -> Result<Option<String>, BackendError> {
        let (prefix, pages) = (format!("{}/", self.address.key(folder)?), Arc::clone(&self.connection.pages));
        let options =
            PaginatedListOptions { delimiter: Some("/".into()), max_keys: Some(1), ..PaginatedListOptions::default() };
        let page = self.wait(async move { pages.list_paginated(Some(&prefix), options).await })?;
        let page = page.map_err(|error| failed(folder, "list", error))?.result;
        let first = page.objects.iter().map(|object| &object.location).chain(&page.common_prefixes).next();
        Ok(first.and_then(|path| Some(path.filename()?.to_owned())))
    }
}

impl Backend for BucketBackend {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.get_parts(name, offset, &mut [out])
    }

    fn get_parts(&self, name: &str, offset: u64, parts: &mut [&mut [u8]]) -> Result<(), BackendError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let key = self.key(name)?;
        let end = offset.saturating_add(len as u64);
        let beyond = |size| BackendError::OutOfBounds { name: name.to_owned(), offset, end, size };
        if len == 0 || end == u64::MAX {
            let size = self.size(name)?;
            return if end > size { Err(beyond(size)) } else { Ok(()) };
        }
        let store = self.store();
        let options = GetOptions { range: Some(GetRange::Bounded(offset..end)), ..GetOptions::default() };
        // As they came: the only copy is the one to where they are wanted.
        let pieces = self.wait(async move {
            let found = store.get_opts(&key, options).await?;
            found.into_stream().try_collect::<Vec<Bytes>>().await
        })?;
        match pieces {
            Ok(pieces) if pieces.iter().map(Bytes::len).sum::<usize>() == len => {
                let mut pieces = pieces.into_iter();
                let mut piece = Bytes::new();
                for part in parts {
                    let mut rest = &mut part[..];
                    while !rest.is_empty() {
                        if piece.is_empty() {
                            piece = pieces.next().unwrap_or_default();
                        }
                        let (now, after) = rest.split_at_mut(rest.len().min(piece.len()));
                        now.copy_from_slice(&piece.split_to(now.len()));
                        rest = after;
                    }
                }
                Ok(())
            }
            Err(Error::NotFound { .. }) => Err(BackendError::NotFound { name: name.to_owned() }),
            // Stores have many ways to say that a range is beyond the end.
            outcome => {
                let size = self.size(name)?;
                match outcome {
                    _ if end > size => Err(beyond(size)),
                    Ok(_) => Err(BackendError::Io {
                        name: name.to_owned(),
                        action: "read",
                        source: io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the store sent another range than was asked for",
                        ),
                    }),
                    Err(error) => Err(failed(name, "read", error)),
                }
            }
        }
    }

    fn size(&self, name: &str) -> Result<u64, BackendError> {
        let (key, store) = (self.key(name)?, self.store());
        let found = self.wait(async move { store.head(&key).await })?;
        Ok(found.map_err(|error| failed(name, "read", error))?.size)
    }

    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>, BackendError> {
        let (key, store) = (self.key(name)?, self.store());
        let found = self.wait(async move {
            // Without a limit worth the name it is only asked whether it is there.
            if limit == 0 {
                let size = store.head(&key).await?.size;
                return Ok(if size > 0 { Err(size) } else { Ok(Bytes::new()) });
            }
            let found = store.get_opts(&key, GetOptions::default()).await?;
            if found.meta.size > limit {
                return Ok(Err(found.meta.size));
            }
            found.bytes().await.map(Ok)
        })?;
        match found.map_err(|error| failed(name, "read", error))? {
            Ok(bytes) => Ok(bytes.into()),
            Err(size) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes are more than {limit}"));
                Err(BackendError::Io { name: name.to_owned(), action: "read", source })
            }
        }
    }

    fn get_tail(&self, name: &str, len: u64) -> Result<(Vec<u8>, u64), BackendError> {
        if !self.connection.has_tails {
            return shard_store::backend::tail_by_size(self, name, len);
        }
        let (key, store) = (self.key(name)?, self.store());
        let options = GetOptions { range: Some(GetRange::Suffix(len)), ..GetOptions::default() };
        let found = self.wait(async move {
            let found = store.get_opts(&key, options).await?;
            let size = found.meta.size;
            Ok::<_, Error>((found.bytes().await?, size))
        })?;
        match found {
            Ok((bytes, size)) if bytes.len() as u64 == len.min(size) => Ok((bytes.into(), size)),
            Err(Error::NotFound { .. }) => Err(BackendError::NotFound { name: name.to_owned() }),
            // Empty objects have no range at all, and some stores know no ranges from the end.
            _ => shard_store::backend::tail_by_size(self, name, len),
        }
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        self.put(name, Bytes::copy_from_slice(bytes))
    }

    fn create(&self) -> Result<Box<dyn Upload>, BackendError> {
        let backend = self.clone();
        Ok(shard_store::memory::upload(move |name, bytes| backend.place(name, Bytes::from(bytes))))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
        Ok(self.listed(folder)?.into_iter().collect())
    }

    fn list_first(&self, folder: &str) -> Result<Option<String>, BackendError> {
        // Keys are sorted with the slashes of folders, names without: they differ only for names with what sorts before a slash.
        let sorts_alike = |name: &String| name.bytes().all(|byte| byte > b'/');
        let found = if self.connection.is_sorted { self.first_of_page(folder)?.filter(sorts_alike) } else { None };
        match found {
            Some(first) => Ok(Some(first)),
            // A page may be empty, with more after it.
            None => Ok(self.listed(folder)?.into_iter().next()),
        }
    }

    fn delete(&self, name: &str) -> Result<(), BackendError> {
        let (key, store) = (self.key(name)?, self.store());
        match self.wait(async move { store.delete(&key).await })? {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(name, "delete", error)),
        }
    }

    fn requests_at_once(&self) -> usize {
        AT_ONCE
    }
}

/// Sends an object in parts, several at once. What was sent of one that fails is given up.
async fn send_parts(store: &dyn ObjectStore, key: &Path, bytes: Bytes) -> object_store::Result<()> {
    let mut upload = store.put_multipart(key).await?;
    match send_all(upload.as_mut(), bytes).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

async fn send_all(upload: &mut dyn MultipartUpload, bytes: Bytes) -> object_store::Result<()> {
    let starts = (0..bytes.len()).step_by(PART);
    let parts: Vec<_> =
        starts.map(|start| upload.put_part(bytes.slice(start..bytes.len().min(start + PART)).into())).collect();
    stream::iter(parts).map(Ok).try_for_each_concurrent(PARTS, |part| part).await?;
    upload.complete().await.map(drop)
}

/// Whether an error means that nothing was written.
fn is_certain(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotImplemented { .. }
            | Error::NotSupported { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. }
    )
}

fn io_of(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, described(&error))
}

/// What an error says, on one line, with what its causes add.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_TEXT).collect()
}

fn failed(name: &str, action: &'static str, error: Error) -> BackendError {
    match error {
        // Of a put it is the bucket that is not there.
        Error::NotFound { .. } if action != "create" && action != "list" => {
            BackendError::NotFound { name: name.to_owned() }
        }
        Error::AlreadyExists { .. } => BackendError::AlreadyExists { name: name.to_owned() },
        error => BackendError::Io { name: name.to_owned(), action, source: io_of(error) },
    }
}

fn uncertain(name: &str, action: &'static str, error: Error) -> BackendError {
    BackendError::Uncertain { name: name.to_owned(), action, source: io_of(error) }
}

fn lost(name: &str, action: &'static str) -> BackendError {
    let source = io::Error::other("the store refuses it, and yet has nothing of that name");
    BackendError::Uncertain { name: name.to_owned(), action, source }
}
