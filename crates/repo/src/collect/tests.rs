mod racing;
mod scale;

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress};
use shard_datasets::cases::Versions;
use shard_store::memory::MemoryBackend;
use shard_store::{Backend, EntryKey, EntryKind, RefUpdate, Store, StoreError, StoreOptions, Target};
use tempfile::TempDir;

use super::{GcOptions, Reclaim};
use crate::{CheckoutOptions, CommitOptions, RepoError, Repository, ResetMode, ResetOptions, Settings};

const NOW: GcOptions = GcOptions {
    keep_reflog: 0,
    max_unused: 0,
    wait: Duration::from_millis(200),
    prune_cache: false,
    prune_unnamed: true,
};

/// A repository over a backend in memory, with a work tree.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    pub(super) repository: Repository,
    pub(super) backend: Arc<dyn Backend>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::over(Arc::new(MemoryBackend::new()))
    }

    pub(super) fn over(backend: Arc<dyn Backend>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Everything but the store is where it always is.
        let made = Repository::init(folder.path(), "main", Cut::TEST, Settings::default()).unwrap();
        let store = Store::init_backend(backend.clone(), Cut::TEST, StoreOptions::default()).unwrap();
        let main = Target::Symbolic("heads/main".to_owned());
        store.refs().compare_and_swap("HEAD", None, main, "init", shard_store::Nonce([1; 16])).unwrap();
        let (dir, root) = (made.dir(), made.root().to_owned());
        let repository = Repository::new(dir, Some(root), store, Settings::default());
        Self { folder, repository, backend }
    }

    /// Another process at the same repository, with a work tree of its own.
    pub(super) fn other(&self) -> (TempDir, Repository) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join(".shard")).unwrap();
        fs::create_dir(root.join(".shard/tmp")).unwrap();
        let store = Store::open_backend(self.backend.clone(), StoreOptions::default()).unwrap();
        (folder, Repository::new(root.join(".shard"), Some(root), store, Settings::default()))
    }

    pub(super) fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(path), bytes).unwrap();
    }

    pub(super) fn add(&self, path: &str) {
        self.repository.add(&[self.folder.path().join(path)], &NoProgress).unwrap();
    }

    pub(super) fn commit(&self, message: &str) -> Digest {
        self.repository.commit(&CommitOptions { message: message.to_owned(), ..Default::default() }).unwrap().id
    }

    pub(super) fn keep(&self, path: &str, bytes: &[u8]) -> Digest {
        self.write(path, bytes);
        self.add(path);
        self.commit(path)
    }

    pub(super) fn reset(&self, to: &str) {
        let options = ResetOptions { mode: ResetMode::Hard, force: true, expected: None };
        self.repository.reset(to, options, &NoProgress).unwrap();
    }

    pub(super) fn content(&self, commit: Digest, path: &str) -> Vec<u8> {
        let out = tempfile::tempdir().unwrap();
        let options = CheckoutOptions::default();
        self.repository.export(&commit.to_hex(), &[], out.path(), options, &NoProgress).unwrap();
        fs::read(out.path().join(path)).unwrap()
    }

    pub(super) fn sound(&self) {
        sound(&self.repository);
    }

    fn packs(&self) -> HashSet<Digest> {
        self.repository.store.packs().unwrap().into_iter().map(|pack| pack.id).collect()
    }

    fn has(&self, kind: EntryKind, id: Digest) -> bool {
        !self.repository.store.copies(&EntryKey::new(kind, id)).unwrap().is_empty()
    }
}

/// Everything is there and what it says, also for who builds the index anew.
pub(super) fn sound(repository: &Repository) {
    for full in [false, true] {
        let report = repository.verify(full, &NoProgress).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
    }
    repository.store.reindex().unwrap();
    assert_eq!(repository.store.undecodable().unwrap(), []);
}

pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..len.div_ceil(32) as u64).flat_map(|i| shard_core::sha256(&(seed << 32 | i).to_le_bytes()).0).take(len).collect()
}

#[test]
fn what_nothing_leads_to_goes_and_all_else_stays() {
    let bench = Bench::new();
    let mut versions = Versions::new(1, 3, 200, 64, 0.1);
    let kept: Vec<(Digest, Vec<u8>)> = (0..4)
        .map(|_| {
            let bytes = versions.next().unwrap().unwrap();
            (bench.keep("model.safetensors", &bytes), bytes)
        })
        .collect();
    let before = bench.packs();
    // Nothing is dead but a few trees: nothing has to be done.
    let report = bench.repository.gc(&GcOptions::default(), &NoProgress).unwrap();
    assert_eq!((report.deleted_packs, report.copied_entries), (0, 0), "{report:?}");
    assert_eq!(bench.packs(), before);

    let lost = bench.keep("other.bin", &noise(1, 300_000));
    bench.reset("HEAD~1");
    // The log of the branch still leads there.
    let report = bench.repository.gc(&GcOptions::default(), &NoProgress).unwrap();
    assert_eq!(report.deleted_packs, 0);
    assert!(bench.content(lost, "other.bin") == noise(1, 300_000));
    let overview = bench.repository.storage_overview(&GcOptions::default()).unwrap();
    assert!((300_000..310_000).contains(&overview.historical_retained_size), "{overview:?}");

    let plan = bench.repository.plan_gc(&NOW).unwrap();
    let report = bench.repository.gc(&NOW, &NoProgress).unwrap();
    assert_eq!(report.plan, plan, "a dry run says what is done");
    assert_eq!(report.freed_bytes(), plan.freed_bytes);
    assert!(report.freed_bytes() > 300_000 && report.deleted_packs >= 2, "{report:?}");
    assert!(!bench.has(EntryKind::Commit, lost));
    assert!(bench.repository.resolve(&lost.to_hex()).is_err());
    for (commit, bytes) in &kept {
        assert!(bench.content(*commit, "model.safetensors") == *bytes);
    }
    bench.sound();
    // Nothing is left to do.
    let plan = bench.repository.plan_gc(&NOW).unwrap();
    assert_eq!((plan.dead_bytes, plan.delete.len(), plan.rewrite.len()), (0, 0, 0), "{plan:?}");
    assert_eq!(bench.repository.reflog("main", 100).unwrap().entries.len(), 1);
    let overview = bench.repository.storage_overview(&GcOptions::default()).unwrap();
    assert_eq!((overview.historical_retained_size, overview.reclaimable_gc_size), (0, 0));
    // And work goes on.
    let again = bench.keep("other.bin", &noise(1, 300_000));
    assert!(bench.content(again, "other.bin") == noise(1, 300_000));
    bench.sound();
}

#[test]
fn logs_are_kept_by_count_also_of_refs_that_were_deleted() {
    let bench = Bench::new();
    let commits: Vec<Digest> = (0..4).map(|n| bench.keep("file", &noise(n, 1000))).collect();
    bench.repository.create_branch("side", "main").unwrap();
    bench.reset("HEAD~3");
    for n in 4..7 {
        bench.keep("file", &noise(n, 1000));
    }
    bench.repository.delete_branch("side", true).unwrap();
    let keep = |keep_reflog| GcOptions { keep_reflog, ..NOW };
    // The state before its deletion is one of the log.
    bench.repository.gc(&keep(1), &NoProgress).unwrap();
    assert!(commits.iter().all(|commit| bench.has(EntryKind::Commit, *commit)));
    assert_eq!(bench.repository.reflog("main", 100).unwrap().entries.len(), 2);
    assert_eq!(bench.repository.reflog("side", 100).unwrap().entries.len(), 2);
    bench.sound();
    bench.repository.gc(&keep(0), &NoProgress).unwrap();
    assert_eq!(commits.iter().filter(|commit| bench.has(EntryKind::Commit, **commit)).count(), 1);
    assert_eq!(bench.repository.reflog("side", 100).unwrap().entries.len(), 1);
    assert!(bench.repository.create_branch("side", "main").is_ok());
    bench.sound();
}

#[test]
fn packs_that_are_partly_dead_are_written_anew_above_a_threshold() {
    let bench = Bench::new();
    for (path, seed) in [("small", 1), ("large", 2)] {
        bench.write(path, &noise(seed, if seed == 1 { 20_000 } else { 400_000 }));
    }
    // One pack has both files.
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    fs::remove_file(bench.folder.path().join("small")).unwrap();
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    let commit = bench.commit("large alone");
    let stays = GcOptions { keep_reflog: 0, max_unused: 10, ..NOW };
    let report = bench.repository.gc(&stays, &NoProgress).unwrap();
    assert_eq!(report.copied_entries, 0, "{report:?}");
    assert!((20_000..25_000).contains(&report.plan.left_bytes), "{:?}", report.plan);
    let report = bench.repository.gc(&GcOptions { max_unused: 1, ..stays }, &NoProgress).unwrap();
    assert!(report.copied_entries > 0 && report.plan.rewrite.len() == 1, "{report:?}");
    assert!((20_000..25_000).contains(&report.freed_bytes()), "{report:?}");
    assert!(bench.content(commit, "large") == noise(2, 400_000));
    bench.sound();
}

#[test]
fn what_dead_entries_lean_on_stays_as_long_as_they_do() {
    let bench = Bench::new();
    let mut versions = Versions::new(5, 2, 1000, 64, 0.1);
    let (first, second) = (versions.next().unwrap().unwrap(), versions.next().unwrap().unwrap());
    bench.write("a.safetensors", &first);
    bench.add("a.safetensors");
    // A pack with a delta that nothing needs later, on the first, and much that is needed.
    bench.write("a.safetensors", &second);
    bench.write("b", &noise(3, 2_000_000));
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    fs::remove_file(bench.folder.path().join("a.safetensors")).unwrap();
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    let commit = bench.commit("b alone");
    let stays = GcOptions { keep_reflog: 0, max_unused: 10, ..NOW };
    let report = bench.repository.gc(&stays, &NoProgress).unwrap();
    assert!(report.deleted_packs >= 1 && report.copied_entries > 0, "{report:?}");
    bench.sound();
    // Where that is too much to keep for nothing, the pack that needs it is written anew.
    let report = bench.repository.gc(&GcOptions { max_unused: 1, ..stays }, &NoProgress).unwrap();
    assert!(report.plan.rewrite.len() == 1 && report.plan.left_bytes == 0, "{report:?}");
    assert!(bench.content(commit, "b") == noise(3, 2_000_000));
    bench.sound();
}

#[test]
fn one_collection_at_a_time() {
    let bench = Bench::new();
    bench.keep("file", b"bytes");
    let claim = bench.repository.store.claim("another").unwrap();
    let error = bench.repository.gc(&NOW, &NoProgress).unwrap_err();
    assert!(matches!(&error, RepoError::Store(StoreError::Claimed(_))), "{error:?}");
    assert!(error.to_string().contains("another by process"), "{error}");
    // What the plan is can be asked for.
    bench.repository.plan_gc(&NOW).unwrap();
    drop(claim);
    bench.repository.gc(&NOW, &NoProgress).unwrap();
}

#[test]
fn fault_15_a_writer_from_before_is_waited_for() {
    let bench = Bench::new();
    bench.keep("file", &noise(1, 1000));
    let lost = bench.keep("file", &noise(2, 100_000));
    bench.reset("HEAD~1");
    let writer = bench.repository.store.begin("a long one").unwrap();
    let error = bench.repository.gc(&NOW, &NoProgress).unwrap_err();
    assert!(matches!(&error, RepoError::Store(StoreError::Held(held)) if held.len() == 1), "{error:?}");
    assert!(error.to_string().contains("a long one by process"), "{error}");
    // In quarantine, and not deleted. Whoever begins now does not count on it.
    assert!(bench.has(EntryKind::Commit, lost));
    bench.sound();
    assert!(matches!(bench.repository.create_branch("x", &lost.to_hex()), Err(RepoError::Missing { .. })));
    drop(writer);
    // The next one finishes it.
    assert!(bench.repository.plan_gc(&NOW).unwrap().unfinished);
    let report = bench.repository.gc(&NOW, &NoProgress).unwrap();
    assert!(report.plan.unfinished && report.freed_bytes() > 100_000, "{report:?}");
    assert!(!bench.has(EntryKind::Commit, lost));
    bench.sound();
    assert!(!bench.repository.plan_gc(&NOW).unwrap().unfinished);
}

#[test]
fn what_refs_lead_to_and_is_missing_stops_a_collection() {
    let bench = Bench::new();
    bench.keep("file", &noise(1, 1000));
    bench.keep("file", &noise(2, 1000));
    let (store, none) = (&bench.repository.store, shard_core::sha256(b"none"));
    let transaction = store.begin("test").unwrap();
    let update = RefUpdate { name: "heads/bad".to_owned(), expected: None, target: Target::Commit(none) };
    transaction.update_refs(&[update], "", shard_store::Nonce([2; 16])).unwrap();
    drop(transaction);
    let before = bench.packs();
    bench.reset("HEAD~1");
    for gc in [bench.repository.gc(&NOW, &NoProgress).map(drop), bench.repository.plan_gc(&NOW).map(drop)] {
        assert!(matches!(gc, Err(RepoError::Missing { key }) if key.id == none));
    }
    assert!(before.is_subset(&bench.packs()));
    // Nobody is kept from working, and nothing from being put right.
    bench.repository.delete_branch("bad", true).unwrap();
    bench.repository.gc(&NOW, &NoProgress).unwrap();
    bench.sound();
}

#[test]
fn the_overview_says_what_each_ref_holds_alone() {
    let bench = Bench::new();
    bench.keep("file", &noise(1, 10_000));
    for (branch, seed, len) in [("one", 2, 50_000), ("two", 3, 70_000)] {
        bench.repository.checkout_new_branch(branch, "main", CheckoutOptions::default(), &NoProgress).unwrap();
        bench.keep("file", &noise(seed, len));
        bench.keep("more", &noise(seed + 10, len));
    }
    bench.repository.checkout("main", CheckoutOptions { force: true }, &NoProgress).unwrap();
    // Two names for the same: neither holds anything alone.
    bench.repository.create_branch("twin", "two").unwrap();
    let overview = |bench: &Bench| bench.repository.storage_overview(&NOW).unwrap();
    let frees = |bench: &Bench, name: &str| {
        let found = overview(bench).refs.into_iter().find(|usage| usage.name == name).unwrap();
        assert_eq!(found.frees > 0, found.entries > 0);
        found.frees
    };
    assert!((100_000..110_000).contains(&frees(&bench, "one")), "{}", frees(&bench, "one"));
    assert_eq!((frees(&bench, "two"), frees(&bench, "twin"), frees(&bench, "main")), (0, 0, 0));
    bench.repository.gc(&NOW, &NoProgress).unwrap();
    let (one, before) = (frees(&bench, "one"), overview(&bench));
    bench.repository.delete_branch("one", true).unwrap();
    bench.repository.delete_branch("twin", true).unwrap();
    assert!((140_000..150_000).contains(&frees(&bench, "two")));
    bench.repository.gc(&NOW, &NoProgress).unwrap();
    let after = overview(&bench);
    assert_eq!(before.reachable_size - after.reachable_size, one, "it is told exactly");
    assert_eq!(after.gc.dead_bytes, 0);

    let section = |name: &str| after.sections.iter().find(|section| section.name == name).unwrap();
    let on_disk = |folder: &str| -> u64 {
        let names = bench.backend.list(folder).unwrap();
        names.iter().map(|name| bench.backend.size(&format!("{folder}/{name}")).unwrap()).sum()
    };
    assert_eq!(section("packs").total_size, on_disk("packs"));
    assert_eq!((section("packs").reclaim, section("packs").reclaimable_size), (Reclaim::Gc, 0));
    assert_eq!(section("epochs").total_size, on_disk("epochs"));
    assert_eq!(after.total_size, after.sections.iter().map(|section| section.total_size).sum::<u64>());
    let commits = after.kinds.iter().find(|usage| usage.kind == EntryKind::Commit).unwrap();
    assert_eq!((commits.entries, commits.needed_entries), (3, 3));
}

#[test]
fn damaged_packs_stay_and_are_told() {
    let bench = Bench::new();
    bench.keep("file", &noise(1, 1000));
    let id = shard_core::sha256(b"not a pack");
    bench.backend.put_if_absent(&format!("packs/{id}.pack"), b"not a pack").unwrap();
    let report = bench.repository.gc(&NOW, &NoProgress).unwrap();
    assert_eq!(report.plan.damaged.len(), 1);
    assert!(bench.backend.size(&format!("packs/{id}.pack")).is_ok());
    let overview = bench.repository.storage_overview(&NOW).unwrap();
    assert!(overview.sections.iter().any(|section| section.reclaim == Reclaim::ManualReview));
    assert!(overview.recommendations.iter().any(|text| text.contains("damaged packs")));
}
