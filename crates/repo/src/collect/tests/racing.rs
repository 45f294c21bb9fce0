//! Collections among writers and readers, and collections that end at any moment.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use shard_core::{Digest, Layout, NoProgress};
use shard_history::{Commit, FileEntry, FileMode, FileTree};
use shard_store::memory::MemoryBackend;
use shard_store::{
    Backend, BackendError, EntryKey, EntryKind, EntrySource, Output, PackId, RefUpdate, Store, StoreError, Target,
    Upload,
};

use super::{Bench, NOW, noise, sound};
use crate::collect::GcOptions;
use crate::objects::Objects;
use crate::parent::EarlierFiles;
use crate::snapshot::{FileBatch, Input, keep_file, put_object};
use crate::stage::put_tree;
use crate::{CheckoutOptions, RepoError, Repository};

/// A backend in memory that ends after so many changes: this one and all later ones fail. Or it is full: what takes room fails.
#[derive(Clone)]
pub(super) struct Mortal {
    memory: MemoryBackend,
    left: Arc<AtomicU64>,
    is_full: Arc<AtomicBool>,
}

impl Mortal {
    fn new() -> Self {
        Self { memory: MemoryBackend::new(), left: Arc::new(AtomicU64::new(u64::MAX)), is_full: Arc::default() }
    }

    fn tick(&self, name: &str, takes_room: bool) -> Result<(), BackendError> {
        let failure = |kind: std::io::ErrorKind| BackendError::Io {
            name: name.to_owned(),
            action: "change",
            source: kind.into(),
        };
        if self.is_full.load(Ordering::SeqCst) {
            return if takes_room { Err(failure(std::io::ErrorKind::StorageFull)) } else { Ok(()) };
        }
        let spend = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend) {
            Ok(_) => Ok(()),
            Err(_) => Err(failure(std::io::ErrorKind::BrokenPipe)),
        }
    }
}

impl Backend for Mortal {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.memory.get_range(name, offset, out)
    }
    fn size(&self, name: &str) -> Result<u64, BackendError> {
        self.memory.size(name)
    }
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        self.tick(name, name.starts_with("packs"))?;
        self.memory.put_if_absent(name, bytes)
    }
    fn create(&self) -> Result<Box<dyn Upload>, BackendError> {
        Ok(Box::new(MortalUpload(self.clone(), self.memory.create()?)))
    }
    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
        self.memory.list(folder)
    }
    fn delete(&self, name: &str) -> Result<(), BackendError> {
        self.tick(name, false)?;
        self.memory.delete(name)
    }
}

struct MortalUpload(Mortal, Box<dyn Upload>);

impl Output for MortalUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.1.append(bytes)
    }
    fn len(&self) -> u64 {
        self.1.len()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        self.1.read_at(offset, out)
    }
}

impl Upload for MortalUpload {
    fn finish(self: Box<Self>, name: &str) -> Result<(), BackendError> {
        self.0.tick(name, true)?;
        self.1.finish(name)
    }
}

/// A repository of which much is dead: a whole commit, and part of a pack that is needed. Gives its commits and their files.
fn much_dead(bench: &Bench) -> Vec<(Digest, Vec<u8>)> {
    let kept = (0..2).map(|n| (bench.keep("file", &noise(n, 3000)), noise(n, 3000)));
    let mut kept: Vec<_> = kept.collect();
    bench.keep("file", &noise(7, 100_000));
    bench.reset("HEAD~1");
    bench.write("extra", &noise(8, 50_000));
    bench.write("file", &noise(9, 20_000));
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    std::fs::remove_file(bench.folder.path().join("extra")).unwrap();
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    kept.push((bench.commit("partly"), noise(9, 20_000)));
    kept
}

/// Leases and claims of who died with the backend: in a test all processes are this one, of which nobody can prove that it is gone.
fn bury(store: &Store) {
    for (file, _) in store.leases().list().unwrap() {
        store.leases().force_remove(&file).unwrap();
    }
}

#[test]
fn fault_04_a_collection_that_ends_at_any_moment_loses_nothing_and_is_finished() {
    let sweep = |first: u64, second: u64| -> (bool, bool) {
        let mortal = Mortal::new();
        let bench = Bench::over(Arc::new(mortal.clone()));
        let kept = much_dead(&bench);
        let mut ended = Vec::new();
        for after in [first, second] {
            mortal.left.store(after, Ordering::SeqCst);
            ended.push(bench.repository.gc(&NOW, &NoProgress).is_err());
            mortal.left.store(u64::MAX, Ordering::SeqCst);
            bury(&bench.repository.store);
            for (commit, bytes) in &kept {
                assert!(bench.content(*commit, "file") == *bytes, "ended after {after} of {first}, {second}");
            }
            bench.sound();
        }
        // Whoever works between collections can.
        let more = bench.keep("file", &noise(20, 1000));
        let report = bench.repository.gc(&NOW, &NoProgress).unwrap();
        assert_eq!(bench.repository.plan_gc(&NOW).unwrap().dead_bytes, 0, "{report:?}");
        assert!(bench.repository.store.packs().unwrap().iter().map(|pack| pack.size).sum::<u64>() < 40_000);
        assert!(bench.content(more, "file") == noise(20, 1000));
        bench.sound();
        (ended[0], ended[1])
    };
    let mut first = 0;
    while sweep(first, u64::MAX).0 {
        first += 1;
    }
    assert!(first > 12, "a collection makes {first} changes");
    for first in (0..first).step_by(3) {
        let mut second = 0;
        while sweep(first, second).1 {
            second += 2;
        }
    }
}

#[test]
fn fault_06_on_a_full_disk_a_collection_still_gives_room_back() {
    let mortal = Mortal::new();
    let bench = Bench::over(Arc::new(mortal.clone()));
    let kept = much_dead(&bench);
    mortal.is_full.store(true, Ordering::SeqCst);
    let report = bench.repository.gc(&NOW, &NoProgress).unwrap();
    assert!(report.deleted_bytes > 100_000 && report.copied_bytes == 0, "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("no room")), "{report:?}");
    for (commit, bytes) in &kept {
        assert!(bench.content(*commit, "file") == *bytes);
    }
    bench.sound();
    mortal.is_full.store(false, Ordering::SeqCst);
    let report = bench.repository.gc(&NOW, &NoProgress).unwrap();
    assert!(report.deleted_bytes > 50_000 && report.copied_bytes > 0, "{report:?}");
    bench.sound();
}

#[test]
fn fault_15_what_a_writer_from_before_names_again_is_kept() {
    let bench = Bench::new();
    let first = bench.keep("file", &noise(1, 5000));
    let dead = bench.keep("file", &noise(2, 50_000));
    bench.reset("HEAD~1");
    let (_folder, other) = bench.other();
    let options = GcOptions { wait: Duration::from_secs(20), ..NOW };
    thread::scope(|scope| {
        // The writer has its lease before the collection begins, and names the dead commit while that waits for it.
        let writer = other.begin_move("late", dead).unwrap();
        let collection = scope.spawn(|| bench.repository.gc(&options, &NoProgress));
        while other.store.epochs().current().unwrap().number == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let refs = other.store.refs();
        let target = Target::Commit(dead);
        // Its transaction would be told to begin again; even one that does not ask loses nothing.
        refs.compare_and_swap("heads/late", None, target, "late", shard_store::Nonce([3; 16])).unwrap();
        drop(writer);
        collection.join().unwrap().unwrap();
    });
    for (commit, bytes) in [(first, noise(1, 5000)), (dead, noise(2, 50_000))] {
        assert!(bench.content(commit, "file") == bytes);
    }
    bench.sound();
    sound(&other);
}

/// Collects while a writer from before names a dead commit again.
fn collect_while_named_again(bench: &Bench, dead: Digest, options: GcOptions) {
    let (_folder, other) = bench.other();
    let options = GcOptions { wait: Duration::from_secs(20), ..options };
    thread::scope(|scope| {
        let writer = other.begin_move("late", dead).unwrap();
        let collection = scope.spawn(|| bench.repository.gc(&options, &NoProgress));
        while other.store.epochs().current().unwrap().number == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let target = Target::Commit(dead);
        let refs = other.store.refs();
        refs.compare_and_swap("heads/late", None, target, "late", shard_store::Nonce([3; 16])).unwrap();
        drop(writer);
        collection.join().unwrap().unwrap();
    });
}

/// The blocks of a file.
fn blocks_of(bench: &Bench, commit: Digest, path: &str) -> Vec<Digest> {
    let mut objects = Objects::new(&bench.repository.store);
    let tree = objects.commit(commit).unwrap().tree;
    let manifest = objects.file_tree(tree).unwrap().files()[path].manifest;
    objects.manifest_once(manifest).unwrap().blocks().map(|block| block.span.id).collect()
}

/// Writes copies of blocks to a pack of their own, and gives its id.
fn copy_blocks(store: &Store, blocks: &[Digest]) -> Digest {
    let transaction = store.begin_copy("test").unwrap();
    for block in blocks {
        let (key, mut stored) = (EntryKey::block(*block), Vec::new());
        let location = store.read(&key, &mut stored).unwrap();
        transaction.put_copy(&key, &stored, location.raw_len, &[]).unwrap();
    }
    transaction.seal().unwrap();
    let location = transaction.locate(&EntryKey::block(blocks[0])).unwrap().unwrap();
    let PackId::Sealed(pack) = location.pack else { panic!("it was sealed") };
    pack
}

/// Damages the copy of a block in one pack.
fn damage(bench: &Bench, block: Digest, pack: Digest) {
    let copies = bench.repository.store.copies(&EntryKey::block(block)).unwrap();
    let copy = copies.into_iter().find(|copy| copy.pack == PackId::Sealed(pack)).unwrap();
    let name = shard_store::pack::pack_name(&pack);
    let mut bytes = bench.backend.get(&name, 1 << 30).unwrap();
    bytes[copy.offset as usize + 100] ^= 1;
    bench.backend.delete(&name).unwrap();
    bench.backend.put_if_absent(&name, &bytes).unwrap();
}

#[test]
fn fault_15_what_came_back_to_life_is_proven_before_its_other_copy_goes() {
    let bench = Bench::new();
    bench.keep("base", &noise(1, 1000));
    // A pack with a block that stays needed, and one that is dead for now.
    bench.write("file", &noise(2, 60_000));
    bench.write("extra", &noise(3, 50_000));
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    let dead = bench.commit("both");
    bench.reset("HEAD~1");
    bench.keep("file", &noise(2, 60_000));
    let blocks = blocks_of(&bench, dead, "extra");
    let block = blocks[0];
    let PackId::Sealed(stays) = bench.repository.store.locate(&EntryKey::block(block)).unwrap().unwrap().pack else {
        panic!("it was sealed")
    };
    // A good copy in a pack that goes, a bad one in the pack that stays.
    let goes = copy_blocks(&bench.repository.store, &blocks);
    damage(&bench, block, stays);
    collect_while_named_again(&bench, dead, GcOptions { max_unused: 100, ..NOW });
    assert!(bench.packs().contains(&stays) && !bench.packs().contains(&goes));
    assert!(bench.content(dead, "extra") == noise(3, 50_000));
    assert!(bench.content(dead, "file") == noise(2, 60_000));
}

#[test]
fn fault_15_a_bad_copy_that_is_spared_is_not_counted_on() {
    let bench = Bench::new();
    bench.keep("base", &noise(1, 1000));
    for (path, seed) in [("one", 2), ("two", 3)] {
        bench.write(path, &noise(seed, 50_000));
        bench.add(path);
    }
    let dead = bench.commit("both");
    bench.reset("HEAD~1");
    // All packs with these blocks are going to be condemned. The copy that is preferred is bad.
    let blocks = ["one", "two"].map(|path| blocks_of(&bench, dead, path)).concat();
    let preferred = copy_blocks(&bench.repository.store, &blocks);
    damage(&bench, blocks[0], preferred);
    collect_while_named_again(&bench, dead, NOW);
    assert!(bench.content(dead, "one") == noise(2, 50_000));
    assert!(bench.content(dead, "two") == noise(3, 50_000));
}

#[test]
fn fault_15_what_is_on_its_way_out_is_written_again_by_who_needs_it() {
    let bench = Bench::new();
    bench.keep("file", &noise(1, 5000));
    bench.keep("file", &noise(2, 50_000));
    bench.reset("HEAD~1");
    let blocker = bench.repository.store.begin("in the way").unwrap();
    assert!(matches!(bench.repository.gc(&NOW, &NoProgress), Err(RepoError::Store(StoreError::Held(_)))));
    // The same bytes again, while their pack is condemned: the stat cache knows the file, and its manifest is still there.
    bench.write("file", &noise(2, 50_000));
    bench.add("file");
    bench.write("twin", &noise(2, 50_000));
    bench.add("twin");
    let commit = bench.commit("again");
    drop(blocker);
    bench.repository.gc(&NOW, &NoProgress).unwrap();
    for path in ["file", "twin"] {
        assert!(bench.content(commit, path) == noise(2, 50_000));
    }
    bench.sound();
}

#[test]
fn fault_15_collections_among_writers_and_readers_lose_nothing() {
    const WRITERS: u64 = 3;
    const ROUNDS: u64 = 12;
    let bench = Bench::new();
    let shared = bench.keep("file", &noise(0, 20_000));
    let stop = AtomicBool::new(false);
    let kept: Mutex<Vec<(Digest, Vec<u8>)>> = Mutex::new(vec![(shared, noise(0, 20_000))]);
    let options = GcOptions { wait: Duration::from_secs(60), ..NOW };
    let collections = AtomicU64::new(0);
    thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let (_folder, repository) = bench.other();
            while !stop.load(Ordering::SeqCst) {
                repository.gc(&options, &NoProgress).unwrap();
                collections.fetch_add(1, Ordering::SeqCst);
            }
        });
        let reader = scope.spawn(|| {
            let (_folder, repository) = bench.other();
            let mut at = 0;
            while !stop.load(Ordering::SeqCst) {
                let (commit, bytes) = {
                    let kept = kept.lock().unwrap();
                    kept[at % kept.len()].clone()
                };
                at += 1;
                // Who asks for a commit by its id has to know of it: this handle has an index of its own.
                repository.store.refresh().unwrap();
                let out = tempfile::tempdir().unwrap();
                let options = CheckoutOptions::default();
                repository.export(&commit.to_hex(), &[], out.path(), options, &NoProgress).unwrap();
                assert!(std::fs::read(out.path().join("file")).unwrap() == bytes);
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (kept, bench) = (&kept, &bench);
                scope.spawn(move || {
                    let (_folder, repository) = bench.other();
                    let branch = format!("writer-{writer}");
                    bench.repository.create_branch(&branch, "main").unwrap();
                    for round in 0..ROUNDS {
                        // Bytes that others write too, and that were dead before.
                        let bytes = noise(100 + (round + writer) % 4, 20_000);
                        let commit = write(&repository, &branch, &bytes);
                        if round % 3 == 0 {
                            kept.lock().unwrap().push((commit, bytes));
                            let name = format!("kept-{writer}-{round}");
                            repository.create_tag(&name, &commit.to_hex(), &Default::default()).unwrap();
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // At least one after all writing.
        let so_far = collections.load(Ordering::SeqCst);
        while collections.load(Ordering::SeqCst) < so_far + 2 && !collector.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::SeqCst);
        collector.join().unwrap();
        reader.join().unwrap();
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert!(collections.into_inner() >= 3);
    bench.sound();
    for (commit, bytes) in kept.into_inner().unwrap() {
        assert!(bench.content(commit, "file") == bytes, "{commit}");
    }
    bench.repository.gc(&NOW, &NoProgress).unwrap();
    assert_eq!(bench.repository.plan_gc(&NOW).unwrap().dead_bytes, 0);
    bench.sound();
}

/// Commits a file to a branch that this writer alone moves, in place of what the branch had before.
fn write(repository: &Repository, branch: &str, bytes: &[u8]) -> Digest {
    repository
        .again_if_condemned(|| {
            let transaction = repository.store.begin("writer")?;
            let expected = repository.read_ref(&format!("heads/{branch}"))?;
            let input = Input { source: &bytes.to_vec(), path: Path::new("file"), layout: None, mark: None };
            let (earlier, options) = (|_: &Layout| Ok(EarlierFiles::default()), repository.snapshot_options());
            let kept = keep_file(input, earlier, &mut FileBatch::default(), &transaction, options, &NoProgress)?;
            let mut files = FileTree::default();
            let (mode, sha256, manifest) = (FileMode::Regular, kept.manifest.sha256, kept.id);
            files.insert("file", FileEntry { mode, size: kept.manifest.size, sha256, manifest }).unwrap();
            let tree = put_tree(&transaction, &files)?;
            let commit = Commit {
                tree,
                parents: Vec::new(),
                created_at: "2026-01-01T00:00:00Z".to_owned(),
                author: None,
                message: branch.to_owned(),
                records: Vec::new(),
                extra: Default::default(),
            };
            let (commit, bytes) = commit.encode().unwrap();
            put_object(&transaction, EntryKind::Commit, &bytes)?;
            let target = Target::Commit(commit);
            let update = RefUpdate { name: format!("heads/{branch}"), expected, target };
            repository.move_refs(&transaction, &[update], "writer")?;
            Ok(commit)
        })
        .unwrap()
}
