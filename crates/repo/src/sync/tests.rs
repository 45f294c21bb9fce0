//! Commits that go from one repository to another.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress};
use shard_store::memory::MemoryBackend;
use shard_store::{Backend, BackendError, EntryKey, EntryKind, EntrySource, Store, StoreOptions, Upload};

use tempfile::TempDir;

use super::needed::Needed;
use super::peer::{Inbound, Outbound, Supply, Wanted, Welcome};
use super::*;
use crate::commit::CommitOptions;
use crate::error::RepoError;
use crate::error::Result;
use crate::repository::{Repository, Settings};

/// Folders with repositories in them.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn place(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        self.place(name).to_str().unwrap().to_owned()
    }

    fn init(&self, name: &str) -> Repository {
        Repository::init(&self.place(name), "main", Cut::TEST, Settings::default()).unwrap()
    }

    fn bare(&self, name: &str) -> Repository {
        Repository::init_bare(&self.place(name), "main", Cut::TEST, Settings::default()).unwrap()
    }

    fn clone(&self, from: &str, name: &str) -> (Repository, SyncReport) {
        let (options, there) =
            (CloneOptions::default(), Repository::at(&self.place(from), Settings::default()).unwrap());
        Repository::clone_from(&there, &self.place(name), &options, Settings::default(), &NoProgress).unwrap()
    }
}

/// Bytes that nothing compresses; `changed` of them are other ones.
fn noise(len: usize, seed: u32, changed: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| next()).collect();
    bytes.iter_mut().take(changed).for_each(|byte| *byte ^= 0x55);
    bytes
}

fn commit(repository: &Repository, path: &str, bytes: &[u8], message: &str) -> Digest {
    let place = repository.root().join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, bytes).unwrap();
    repository.add(&[place], &NoProgress).unwrap();
    repository.commit(&CommitOptions { message: message.to_owned(), ..CommitOptions::default() }).unwrap().id
}

fn whole(repository: &Repository) {
    let report = repository.verify(true, &NoProgress).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

fn fetch_with(repository: &Repository, options: &FetchOptions) -> Result<SyncReport> {
    let (name, url) = repository.remote(None)?;
    repository.fetch(name.as_deref(), &Repository::at(url.as_ref(), Settings::default())?, options, &NoProgress)
}

fn fetch(repository: &Repository) -> SyncReport {
    fetch_with(repository, &FetchOptions::default()).unwrap()
}

fn push(repository: &Repository, specs: &[&str]) -> Result<SyncReport> {
    let specs = specs.iter().map(|spec| (*spec).to_owned()).collect();
    let (name, url) = repository.remote(None)?;
    let options = PushOptions { specs, ..PushOptions::default() };
    repository.push(name.as_deref(), &Repository::at(url.as_ref(), Settings::default())?, &options, &NoProgress)
}

#[test]
fn a_clone_has_everything_and_fetch_brings_what_is_new() {
    let bench = Bench::new();
    let origin = bench.init("origin");
    let first = commit(&origin, "a/model.bin", &noise(400_000, 1, 0), "First");
    origin
        .create_tag("v1", "HEAD", &crate::TagOptions { message: Some("one".to_owned()), ..Default::default() })
        .unwrap();
    let (copy, report) = bench.clone("origin", "copy");
    assert_eq!((report.commits, copy.head().unwrap().commit), (1, Some(first)));
    assert_eq!(fs::read(bench.place("copy/a/model.bin")).unwrap(), noise(400_000, 1, 0));
    assert_eq!(copy.resolve("origin/main").unwrap(), first);
    assert_eq!(copy.resolve("v1").unwrap(), first);
    assert!(copy.tags(None).unwrap()[0].annotation.is_some());
    whole(&copy);
    assert_eq!(fetch(&copy).refs, []);

    let second = commit(&origin, "a/model.bin", &noise(400_000, 1, 5), "Second");
    let plan = fetch_with(&copy, &FetchOptions { dry_run: true, ..FetchOptions::default() }).unwrap();
    assert_eq!(copy.resolve("origin/main").unwrap(), first, "a plan moves nothing");
    let report = fetch(&copy);
    assert_eq!((plan.entries, plan.bytes, &plan.refs), (report.entries, report.bytes, &report.refs));
    assert_eq!((report.commits, report.refs.len(), report.refs[0].change), (1, 1, RefChange::Forward));
    assert!(report.bytes < 100_000, "only the blocks that changed: {} bytes", report.bytes);
    assert_eq!(copy.resolve("origin/main").unwrap(), second);
    assert_eq!(copy.head().unwrap().commit, Some(first), "what is checked out stays");
    whole(&copy);

    // What is rewritten over there is told, and what went goes where that is asked.
    origin.create_branch("side", "HEAD").unwrap();
    origin
        .reset("HEAD~1", crate::ResetOptions { mode: crate::ResetMode::Hard, ..Default::default() }, &NoProgress)
        .unwrap();
    let report = fetch(&copy);
    let changes: Vec<_> = report.refs.iter().map(|moved| (moved.name.as_str(), moved.change)).collect();
    assert_eq!(changes, [("remotes/origin/main", RefChange::Forced), ("remotes/origin/side", RefChange::New)]);
    assert_eq!(report.entries, 0);
    origin.delete_branch("side", true).unwrap();
    assert_eq!(fetch(&copy).refs, []);
    let report = fetch_with(&copy, &FetchOptions { prune: true, ..FetchOptions::default() }).unwrap();
    assert_eq!(report.refs[0].change, RefChange::Deleted);
    assert!(copy.resolve("origin/side").is_err());
}

#[test]
fn a_push_moves_what_is_missing_as_it_is_stored() {
    let bench = Bench::new();
    let hub = bench.bare("hub");
    let here = bench.init("here");
    here.add_remote("origin", &bench.url("hub")).unwrap();
    commit(&here, "model.bin", &noise(400_000, 1, 0), "First");
    let report = push(&here, &[]).unwrap();
    assert_eq!(
        (report.commits, report.refs[0].name.as_str(), report.refs[0].change),
        (1, "heads/main", RefChange::New)
    );
    assert_eq!(here.resolve("origin/main").unwrap(), here.resolve("main").unwrap());
    assert_eq!(push(&here, &[]).unwrap().refs, []);

    let second = commit(&here, "model.bin", &noise(400_000, 1, 5), "Second");
    here.create_tag("v2", "HEAD", &crate::TagOptions::default()).unwrap();
    let report = push(&here, &["main", "v2"]).unwrap();
    assert!(report.bytes < 100_000 && report.refs.len() == 2, "{report:?}");
    assert_eq!((hub.resolve("main").unwrap(), hub.resolve("v2").unwrap()), (second, second));
    whole(&hub);
    // What is there already does not move, by whatever path or branch it came.
    let copied = noise(400_000, 1, 5);
    commit(&here, "copy.bin", &copied, "Third");
    let report = push(&here, &["main:other"]).unwrap();
    assert_eq!((report.blocks, report.refs[0].name.as_str()), (0, "heads/other"));
    push(&here, &[":other"]).unwrap();
    assert!(hub.resolve("other").is_err());
    assert!(matches!(push(&here, &[":main"]), Err(RepoError::Ref(_))), "the default branch stays");
    whole(&hub);
}

#[test]
fn two_pushers_to_one_branch() {
    let bench = Bench::new();
    let hub = bench.bare("hub");
    let one = bench.init("one");
    one.add_remote("origin", &bench.url("hub")).unwrap();
    commit(&one, "a.bin", b"a", "First");
    push(&one, &[]).unwrap();
    let (two, _) = bench.clone("hub", "two");
    let theirs = commit(&two, "b.bin", b"b", "Theirs");
    push(&two, &[]).unwrap();
    let ours = commit(&one, "c.bin", b"c", "Ours");
    let refused = push(&one, &[]);
    assert!(
        matches!(refused, Err(RepoError::Sync(SyncProblem::NotFastForward { is_known: false, .. }))),
        "{refused:?}"
    );
    assert_eq!(hub.resolve("main").unwrap(), theirs);
    fetch(&one);
    let refused = push(&one, &[]);
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::NotFastForward { is_known: true, .. }))), "{refused:?}");
    one.merge("origin/main", &crate::MergeOptions::default(), &NoProgress).unwrap();
    let report = push(&one, &[]).unwrap();
    assert_eq!((report.commits, report.refs[0].change), (2, RefChange::Forward));
    assert!(hub.log(hub.resolve("main").unwrap(), None, 9).unwrap().iter().any(|entry| entry.id == ours));
    // By force commits are lost; a branch that is protected does not lose them.
    let old = one.resolve("main~1").unwrap().to_hex();
    one.create_branch("old", &old).unwrap();
    hub.protect("main").unwrap();
    assert!(matches!(push(&one, &["+old:main"]), Err(RepoError::Ref(_))));
    hub.unprotect("main").unwrap();
    assert_eq!(push(&one, &["+old:main"]).unwrap().refs[0].change, RefChange::Forced);
    whole(&hub);
}

#[test]
fn what_is_checked_out_is_not_pushed_to() {
    let bench = Bench::new();
    let (there, here) = (bench.init("there"), bench.init("here"));
    commit(&there, "a.bin", b"a", "Theirs");
    commit(&here, "a.bin", b"b", "Ours");
    here.add_remote("origin", &bench.url("there")).unwrap();
    let refused = push(&here, &["main"]);
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::CheckedOutThere(_)))), "{refused:?}");
    push(&here, &["main:from-here"]).unwrap();
    assert_eq!(there.resolve("from-here").unwrap(), here.resolve("main").unwrap());
    assert!(matches!(push(&here, &["nowhere"]), Err(RepoError::Sync(SyncProblem::NothingToPush(_)))));
    assert!(matches!(here.remote(Some("x")), Err(RepoError::Sync(SyncProblem::UnknownRemote(_)))));
}

#[test]
fn what_arrives_damaged_is_not_kept() {
    let bench = Bench::new();
    let origin = bench.init("origin");
    let bytes = noise(400_000, 9, 0);
    commit(&origin, "model.bin", &bytes, "First");
    let copy = bench.bare("copy");
    copy.add_remote("origin", &bench.url("origin")).unwrap();
    let keys = origin.store.keys(EntryKind::Block).unwrap();
    let [told, sent] = [keys[0], keys[1]];
    /// Sends the stored bytes of another block than it says.
    struct Lying<'a>(travel::Stored<'a>, EntryKey);
    impl Supply for Lying<'_> {
        fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>> {
            self.0.next(stored)
        }
        fn complete(&self, _: &[Chosen], stored: &mut [Vec<u8>]) -> Result<()> {
            self.0.complete(&[Chosen { key: self.1, is_base: false }], stored)
        }
    }
    let transaction = copy.store.begin("test").unwrap();
    let lying = Lying(travel::Stored::new(&origin.store, vec![Chosen { key: told, is_base: false }]), sent);
    let refused = receive::receive(&lying, &transaction, None, 2, &NoProgress);
    assert!(matches!(refused, Err(RepoError::WrongBytes { key, .. }) if key == told), "{refused:?}");
    // What is hashed beside it is kept.
    let chosen = [sent, told].map(|key| Chosen { key, is_base: false }).to_vec();
    let refused =
        receive::receive(&Lying(travel::Stored::new(&origin.store, chosen), sent), &transaction, None, 1, &NoProgress);
    assert!(matches!(refused, Err(RepoError::WrongBytes { key, .. }) if key == told), "{refused:?}");
    transaction.seal().unwrap();
    drop(transaction);
    assert!(copy.store.locate(&told).unwrap().is_none(), "the id stays missing");
    assert!(copy.store.locate(&sent).unwrap().is_some());
    fetch(&copy);
    assert_eq!(copy.read_bytes("model.bin", Some("origin/main")).unwrap(), bytes);
    whole(&copy);
}

#[test]
fn a_repository_in_no_folder_is_pushed_to_cloned_and_read() {
    let bench = Bench::new();
    let (backend, cache) = (Arc::new(MemoryBackend::new()), bench.place("cache"));
    let address = "s3://models/team";
    let open = || Repository::open_away(backend.clone(), address, &cache, Settings::default());
    assert!(matches!(open(), Err(RepoError::NoRepository(_))));
    let init = || Repository::init_away(backend.clone(), address, "main", Cut::TEST, &cache, Settings::default());
    let away = init().unwrap();
    assert!(away.is_bare() && away.is_away());
    assert!(matches!(init(), Err(RepoError::AlreadyARepository(_))));

    let here = bench.init("here");
    let first = commit(&here, "model.bin", &noise(300_000, 1, 0), "one");
    here.push(None, &away, &PushOptions::default(), &NoProgress).unwrap();
    assert_eq!(open().unwrap().resolve("main").unwrap(), first);
    whole(&open().unwrap());
    let (options, settings) = (CloneOptions::default(), Settings::default());
    let (clone, _) = Repository::clone_from(&away, &bench.place("clone"), &options, settings, &NoProgress).unwrap();
    assert_eq!(clone.remotes().unwrap()["origin"], address);
    assert_eq!(fs::read(bench.place("clone/model.bin")).unwrap(), noise(300_000, 1, 0));

    // The index is in the cache, which is only that.
    let index = cache.join(away.store().id().to_hex()).join("index.db");
    assert!(index.is_file());
    drop(away);
    fs::remove_dir_all(&cache).unwrap();
    whole(&open().unwrap());
    assert!(index.is_file());
    // What needs a folder says so, and makes none.
    let away = open().unwrap();
    assert!(matches!(away.hf_hub_download("model.bin", None, None), Err(RepoError::Away(_))));
    assert!(matches!(away.work(), Err(RepoError::Bare(_))));
    assert!(!std::path::Path::new("s3:").exists());
}

/// A model of bf16 words in one tensor; every fiftieth is moved by so much.
fn model(moved: u16) -> Vec<u8> {
    let mut word = 1u16;
    let each = |at: u16| {
        word = word.wrapping_mul(25_173).wrapping_add(13_849);
        (0x3c00 + (word >> 6) + u16::from(at.is_multiple_of(50)) * moved).to_le_bytes()
    };
    let words: Vec<u8> = (0..20_000u16).flat_map(each).collect();
    let mut header = br#"{"w":{"dtype":"BF16","shape":[200,100],"data_offsets":[0,40000]}}"#.to_vec();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &words].concat()
}

/// A repository that is collected between what it offers and what it sends, so many times: what it reads then leans on blocks that it
/// did not say.
struct Collected<'a> {
    there: &'a Repository,
    left: AtomicUsize,
}

struct Moved<'a> {
    offered: Box<dyn Outbound + 'a>,
    is_moved: bool,
}

impl Peer for Collected<'_> {
    fn url(&self) -> String {
        self.there.url()
    }

    fn welcome(&self) -> Result<Welcome> {
        self.there.welcome()
    }

    fn inbound(&self) -> Result<Box<dyn Inbound + '_>> {
        self.there.inbound()
    }

    fn outbound(&self, wanted: &Wanted) -> Result<Box<dyn Outbound + '_>> {
        let is_moved = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        Ok(Box::new(Moved { offered: self.there.outbound(wanted)?, is_moved }))
    }
}

impl Outbound for Moved<'_> {
    fn offers(&self) -> &[Offer] {
        self.offered.offers()
    }

    fn send<'a>(&'a self, mut chosen: Vec<Chosen>) -> Result<Box<dyn Supply + 'a>> {
        chosen.retain(|chosen| !(self.is_moved && chosen.is_base));
        self.offered.send(chosen)
    }
}

#[test]
fn a_fetch_looks_again_where_a_collection_over_there_was_between() {
    let bench = Bench::new();
    let origin = bench.init("origin");
    commit(&origin, "m.safetensors", &model(0), "First");
    commit(&origin, "m.safetensors", &model(1), "Second");
    let copy = bench.bare("copy");
    let there = Collected { there: &origin, left: AtomicUsize::new(AGAIN) };
    copy.fetch(Some("origin"), &there, &FetchOptions::default(), &NoProgress).unwrap();
    assert_eq!(there.left.load(Ordering::Relaxed), 0, "bases were left out");
    assert_eq!(copy.read_bytes("m.safetensors", Some("origin/main")).unwrap(), model(1));
    whole(&copy);

    // Where it stays missing that is said.
    let other = bench.bare("other");
    let there = Collected { there: &origin, left: AtomicUsize::new(usize::MAX) };
    let refused = other.fetch(Some("origin"), &there, &FetchOptions::default(), &NoProgress);
    assert!(matches!(&refused, Err(error) if error.is_missing()), "{refused:?}");
}

#[test]
fn what_others_wrote_meanwhile_is_offered() {
    let backend = Arc::new(MemoryBackend::new());
    let here = Store::init_backend(backend.clone(), Cut::TEST, StoreOptions::default()).unwrap();
    assert!(here.keys(EntryKind::Block).unwrap().is_empty());
    here.refresh().unwrap();
    let other = Store::open_backend(backend, StoreOptions::default()).unwrap();
    let transaction = other.begin("test").unwrap();
    let id = crate::snapshot::put_object(&transaction, EntryKind::Block, b"block").unwrap();
    transaction.seal().unwrap();
    let needed = Needed { blocks: vec![id], objects: Vec::new() };
    assert_eq!(travel::offers(&here, &needed).unwrap().len(), 1);
    let needed = Needed { blocks: vec![shard_core::sha256(b"another")], objects: Vec::new() };
    assert!(matches!(travel::offers(&here, &needed), Err(RepoError::Missing { .. })));
}

/// A backend that is a way off, and counts the bytes that are read from it, and the reads of many of them.
struct Counting(MemoryBackend, AtomicU64, AtomicUsize);

impl Backend for Counting {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> std::result::Result<(), BackendError> {
        self.1.fetch_add(out.len() as u64, Ordering::Relaxed);
        self.2.fetch_add(usize::from(out.len() > 4096), Ordering::Relaxed);
        self.0.get_range(name, offset, out)
    }

    fn size(&self, name: &str) -> std::result::Result<u64, BackendError> {
        self.0.size(name)
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> std::result::Result<(), BackendError> {
        self.0.put_if_absent(name, bytes)
    }

    fn create(&self) -> std::result::Result<Box<dyn Upload>, BackendError> {
        self.0.create()
    }

    fn list(&self, folder: &str) -> std::result::Result<Vec<String>, BackendError> {
        self.0.list(folder)
    }

    fn list_first(&self, folder: &str) -> std::result::Result<Option<String>, BackendError> {
        self.0.list_first(folder)
    }

    fn delete(&self, name: &str) -> std::result::Result<(), BackendError> {
        self.0.delete(name)
    }

    fn requests_at_once(&self) -> usize {
        4
    }
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new(Self(MemoryBackend::new(), AtomicU64::new(0), AtomicUsize::new(0)))
    }
}

#[test]
fn a_clone_from_a_bucket_reads_many_blocks_by_one_request() {
    let bench = Bench::new();
    let (backend, cache) = (Counting::new(), bench.place("cache"));
    let settings = Settings::default();
    let away = Repository::init_away(backend.clone(), "s3://models/team", "main", Cut::TEST, &cache, settings).unwrap();
    let here = bench.init("here");
    for step in 0..3 {
        commit(&here, "m.safetensors", &model(step), "Step");
    }
    commit(&here, "noise.bin", &noise(3_000_000, 3, 0), "Noise");
    here.push(None, &away, &PushOptions::default(), &NoProgress).unwrap();
    let blocks = away.store().keys(EntryKind::Block).unwrap().len();
    let before = backend.2.load(Ordering::Relaxed);
    let folder = bench.place("clone");
    let (cloned, _) =
        Repository::clone_from(&away, &folder, &CloneOptions::default(), Settings::default(), &NoProgress).unwrap();
    let requests = backend.2.load(Ordering::Relaxed) - before;
    assert!(requests * 4 < blocks, "{requests} requests for {blocks} blocks");
    assert_eq!(cloned.read_bytes("m.safetensors", Some("main~1")).unwrap(), model(2));
    assert_eq!(fs::read(folder.join("noise.bin")).unwrap(), noise(3_000_000, 3, 0));
    whole(&cloned);
}

#[test]
fn a_push_to_a_bucket_does_not_read_what_its_deltas_lean_on_from_there() {
    let bench = Bench::new();
    let (backend, cache) = (Counting::new(), bench.place("cache"));
    let settings = Settings::default();
    let away = Repository::init_away(backend.clone(), "s3://models/team", "main", Cut::TEST, &cache, settings).unwrap();
    let here = bench.init("here");
    commit(&here, "m.safetensors", &model(0), "First");
    here.push(None, &away, &PushOptions::default(), &NoProgress).unwrap();
    let whole_model = away.store().packs().unwrap().iter().map(|pack| pack.size).sum::<u64>();
    commit(&here, "m.safetensors", &model(1), "Second");
    let before = backend.1.load(Ordering::Relaxed);
    let report = here.push(None, &away, &PushOptions::default(), &NoProgress).unwrap();
    let read = backend.1.load(Ordering::Relaxed) - before;
    assert!(report.bytes < whole_model / 4, "deltas travel: {} of {whole_model}", report.bytes);
    assert!(read < whole_model / 4, "{read} bytes were read, of {whole_model}");
    whole(&away);
}
