//! The backend over stores in memory, good ones and such with bad habits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use shard_store::backend::{Backend, BackendError};
use shard_store::conformance;

use crate::address::Address;
use crate::backend::BucketBackend;
use crate::check::Broken;
use crate::connect::Connection;

/// What goes wrong with a conditional put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// It happens, and the reply is lost.
    DoneButLost,
    /// It happens, the reply is lost, and the repeated request is told that the name is taken.
    DoneAndRefused,
    /// It does not happen, and nobody knows.
    NotDoneAndLost,
    /// It is refused for another writer's sake that never finishes.
    Conflict,
    /// The condition is ignored.
    Ignored,
    /// It is looked whether the name is free, and then written.
    LooksFirst,
}

#[derive(Debug)]
struct Store {
    inner: InMemory,
    trouble: Trouble,
    /// How many puts go wrong.
    left: AtomicUsize,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store of a test")
    }
}

fn lost() -> Error {
    Error::Generic { store: "test", source: "the connection was lost".into() }
}

#[async_trait::async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, key: &Path, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_wrong = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let trouble = if is_wrong { self.trouble } else { Trouble::None };
        match trouble {
            Trouble::None => self.inner.put_opts(key, bytes, options).await,
            Trouble::DoneButLost => {
                self.inner.put_opts(key, bytes, options).await?;
                Err(lost())
            }
            Trouble::DoneAndRefused => {
                self.inner.put_opts(key, bytes.clone(), options.clone()).await?;
                self.inner.put_opts(key, bytes, options).await
            }
            Trouble::NotDoneAndLost => Err(lost()),
            Trouble::Conflict => Err(Error::AlreadyExists { path: key.to_string(), source: "409".into() }),
            Trouble::Ignored => self.inner.put_opts(key, bytes, PutMode::Overwrite.into()).await,
            Trouble::LooksFirst => {
                if self.inner.head(key).await.is_ok() {
                    return Err(Error::AlreadyExists { path: key.to_string(), source: "412".into() });
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.inner.put_opts(key, bytes, PutMode::Overwrite.into()).await
            }
        }
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait::async_trait]
impl PaginatedListStore for Store {
    async fn list_paginated(&self, prefix: Option<&str>, options: PaginatedListOptions) -> Result<PaginatedListResult> {
        let folder = Path::parse(prefix.unwrap_or_default().trim_end_matches('/'))?;
        let mut result = self.inner.list_with_delimiter(Some(&folder)).await?;
        // As stores do: by whole keys, those of folders with their slashes.
        let keys = result.objects.iter().map(|object| object.location.to_string());
        let first = keys.chain(result.common_prefixes.iter().map(|path| format!("{path}/"))).min();
        if options.max_keys == Some(1) {
            result.objects.retain(|object| first.as_ref() == Some(&object.location.to_string()));
            result.common_prefixes.retain(|path| first.as_ref() == Some(&format!("{path}/")));
        }
        Ok(PaginatedListResult { result, page_token: None })
    }
}

fn backend(trouble: Trouble, times: usize) -> BucketBackend {
    let store = Arc::new(Store { inner: InMemory::new(), trouble, left: AtomicUsize::new(times) });
    let connection = Connection { store: store.clone(), pages: store, is_sorted: true, has_tails: true };
    BucketBackend::over(Address::parse("s3://models/a folder").unwrap(), connection).unwrap()
}

/// All that a store holds.
fn keys(backend: &BucketBackend) -> Vec<String> {
    use futures_util::TryStreamExt;
    let listed = backend.store().list(None);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found: Vec<ObjectMeta> = runtime.block_on(listed.try_collect()).unwrap();
    found.into_iter().map(|object| object.location.to_string()).collect()
}

#[test]
fn fault_14_a_bucket_conforms() {
    conformance::check(&backend(Trouble::None, 0)).unwrap();
    // With objects in parts, too.
    conformance::check(&backend(Trouble::None, 0).with_parts_above(1 << 20)).unwrap();
}

#[test]
fn fault_20_lost_replies_and_conflicts_are_settled_by_reading_back() {
    for trouble in [Trouble::DoneButLost, Trouble::DoneAndRefused, Trouble::NotDoneAndLost, Trouble::Conflict] {
        let backend = backend(trouble, 1);
        backend.put_if_absent("refs/a", b"ours").unwrap_or_else(|error| panic!("{trouble:?}: {error}"));
        assert_eq!(backend.get("refs/a", 10).unwrap(), b"ours", "{trouble:?}");
        // And the name is taken.
        let other = backend.put_if_absent("refs/a", b"theirs");
        assert!(other.is_err_and(|error| error.is_already_exists()), "{trouble:?}");
    }
}

#[test]
fn fault_20_of_a_put_that_never_arrives_nothing_is_believed() {
    let backend = backend(Trouble::NotDoneAndLost, usize::MAX);
    assert!(matches!(backend.put_if_absent("refs/a", b"ours"), Err(BackendError::Uncertain { .. })));
    assert!(backend.size("refs/a").unwrap_err().is_not_found());
}

#[test]
fn fault_14_stores_with_bad_habits_are_noticed_and_left_as_they_were() {
    for trouble in [Trouble::Ignored, Trouble::LooksFirst] {
        let backend = backend(trouble, usize::MAX);
        for outcome in [backend.check_puts(), backend.check_all()] {
            let Err(Broken::Habit(failure)) = outcome else { panic!("{trouble:?} was not noticed") };
            assert!(failure.error.is_none(), "{failure}");
        }
        let names = keys(&backend);
        assert!(names.is_empty(), "{names:?}");
    }
    let good = backend(Trouble::None, 0);
    good.check_puts().unwrap();
    good.check_all().unwrap();
    assert!(keys(&good).is_empty());
}

#[test]
fn waiting_is_allowed_on_threads_of_other_runtimes() {
    let backend = backend(Trouble::None, 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        backend.put_if_absent("refs/a", b"x").unwrap();
        let there = backend.clone();
        let size = tokio::task::spawn_blocking(move || there.size("refs/a")).await.unwrap();
        assert_eq!(size.unwrap(), 1);
    });
}

#[test]
fn folders_of_an_address_are_told() {
    let backend = backend(Trouble::None, 0);
    for name in ["b/c/d", "a/format", "a/packs/x", "single"] {
        backend.put_if_absent(name, b"x").unwrap();
    }
    assert_eq!(backend.folders().unwrap(), ["a", "b"]);
    assert_eq!(backend.at(Address::parse("s3://models").unwrap()).folders().unwrap(), ["a folder"]);
    assert!(backend.at(Address::parse("s3://models/none").unwrap()).folders().unwrap().is_empty());
}
