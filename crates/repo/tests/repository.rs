//! The engine as a library: what the commands rely on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shard_codecs::Level;
use shard_core::limits::{Cut, MAX_DEPTH};
use shard_core::{NoProgress, sha256};
use shard_datasets::cases::{Versions, every_change};
use shard_history::{Revision, TensorChange};
use shard_repo::{
    AddedState, Archive, CheckoutOptions, CommitOptions, CompareOptions, PackOptions, RepoError, Repository, Settings,
    Side, WorkState, compare_sides, pack,
};
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
    repository: Repository,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path(), "main", Cut::TEST, settings).unwrap();
        Self { folder, repository }
    }

    fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.place(path)).unwrap()
    }

    fn add(&self, path: &str) -> shard_repo::AddReport {
        self.repository.add(&[self.place(path)], &NoProgress).unwrap()
    }

    fn commit(&self, message: &str) -> shard_core::Digest {
        self.repository.commit(&CommitOptions { message: message.to_owned(), ..Default::default() }).unwrap().id
    }

    fn keep(&self, path: &str, bytes: &[u8]) -> shard_core::Digest {
        self.write(path, bytes);
        self.add(path);
        self.commit(path)
    }

    fn checkout(&self, revision: &str) -> Result<shard_repo::CheckoutReport, RepoError> {
        self.repository.checkout(revision, CheckoutOptions::default(), &NoProgress)
    }

    fn assert_sound(&self) {
        let report = self.repository.verify(true, &NoProgress).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        let quick = self.repository.verify(false, &NoProgress).unwrap();
        assert_eq!(quick.problems, Vec::<String>::new());
    }
}

fn versions(count: usize) -> Vec<Vec<u8>> {
    Versions::new(7, 3, 256, 256, 0.2).take(count).map(Result::unwrap).collect()
}

#[test]
fn a_series_longer_than_the_depth_bound_comes_back_and_stays_shallow() {
    // By default the work of decoding stops chains before the bound of the format; at the highest level that does.
    let deepest = deepest_of_a_long_series(Level::Default);
    assert!((2..MAX_DEPTH).contains(&deepest), "{deepest}");
    assert_eq!(deepest_of_a_long_series(Level::Max), MAX_DEPTH);
}

fn deepest_of_a_long_series(level: Level) -> u32 {
    let bench = Bench::with(Settings { level, ..Settings::default() });
    let series = versions(2 * MAX_DEPTH as usize + 3);
    let mut deltas = 0;
    for (step, bytes) in series.iter().enumerate() {
        bench.write("model.safetensors", bytes);
        let report = bench.add("model.safetensors");
        deltas += report.cost.deltas;
        if step > 0 {
            assert!(report.cost.new_bytes < bytes.len() as u64 / 2, "step {step}: {:?}", report.cost);
        }
        bench.commit(&format!("step {step}"));
    }
    assert!(deltas > 0);
    let mut deepest = 0;
    for back in 0..series.len() {
        let revision = Revision::parse(&format!("HEAD~{back}")).unwrap();
        let entry = bench.repository.file_at(&revision, "model.safetensors").unwrap();
        let (_, storage) = bench.repository.storage(entry.manifest).unwrap();
        deepest = deepest.max(storage.blocks.values().map(|block| block.depth).max().unwrap());
    }
    for (back, bytes) in series.iter().rev().enumerate() {
        bench.checkout(&format!("main~{back}")).unwrap();
        assert_eq!(sha256(&bench.read("model.safetensors")), sha256(bytes), "main~{back}");
    }
    bench.assert_sound();
    deepest
}

#[test]
fn the_same_content_costs_nothing_wherever_it_comes_again() {
    let bench = Bench::new();
    let bytes = versions(1).remove(0);
    bench.keep("a.safetensors", &bytes);
    for path in ["b.safetensors", "deep/er/c.bin", "a.safetensors"] {
        bench.write(path, &bytes);
        let report = bench.add(path);
        assert_eq!((report.cost.new_blocks, report.cost.new_bytes), (0, 0), "{path}");
    }
    bench.commit("copies");
    bench.assert_sound();
}

#[test]
fn a_checkpoint_under_a_new_name_leans_on_its_nearest_predecessor() {
    let bench = Bench::new();
    let series = versions(4);
    for (step, bytes) in series.iter().enumerate() {
        // Natural order: step-90 comes before step-100.
        let path = format!("run/step-{}.safetensors", 80 + 10 * step);
        bench.write(&path, bytes);
        let cost = bench.add(&path).cost;
        assert_eq!(cost.deltas > 0, step > 0, "{path}: {cost:?}");
    }
    // In one go, each file leans on the one added just before it.
    let other = Bench::new();
    for (step, bytes) in series.iter().enumerate() {
        other.write(&format!("run/step-{}.safetensors", 80 + 10 * step), bytes);
    }
    let report = other.add("run");
    let total: u64 = series.iter().map(|bytes| bytes.len() as u64).sum();
    assert!(report.cost.new_bytes < total / 2, "{:?}", report.cost);
    other.commit("series");
    other.assert_sound();
}

#[test]
fn checkout_refuses_to_lose_what_no_commit_has() {
    let bench = Bench::new();
    let first = bench.keep("notes.txt", b"one");
    bench.keep("notes.txt", b"two");
    let refused = |revision: &str, path: &str| match bench.checkout(revision) {
        Err(RepoError::WouldOverwrite { paths, .. }) => assert_eq!(paths, [path]),
        other => panic!("{revision}: {other:?}"),
    };
    bench.write("notes.txt", b"changed by hand");
    refused(&first.to_hex(), "notes.txt");
    assert_eq!(bench.read("notes.txt"), b"changed by hand");
    // What the target does not touch stays as it is.
    bench.checkout("main").unwrap();
    assert_eq!(bench.read("notes.txt"), b"changed by hand");
    // Staged, but in no commit.
    bench.add("notes.txt");
    refused(&first.to_hex(), "notes.txt");
    bench.commit("by hand");
    bench.checkout(&first.to_hex()).unwrap();
    assert_eq!(bench.read("notes.txt"), b"one");
    assert_eq!(bench.repository.head().unwrap().branch, None);
    // An untracked file in the way.
    bench.checkout("main").unwrap();
    bench.keep("new.txt", b"new");
    bench.checkout("main~1").unwrap();
    assert!(!bench.place("new.txt").exists());
    bench.write("new.txt", b"mine");
    refused("main", "new.txt");
    bench.write("new.txt", b"new");
    bench.checkout("main").unwrap();
    // By force.
    bench.write("notes.txt", b"lost");
    bench.repository.checkout(&first.to_hex(), CheckoutOptions { force: true }, &NoProgress).unwrap();
    assert_eq!(bench.read("notes.txt"), b"one");
    // A deleted file comes back.
    fs::remove_file(bench.place("notes.txt")).unwrap();
    bench.checkout(&first.to_hex()).unwrap();
    assert_eq!(bench.read("notes.txt"), b"one");
    assert!(bench.repository.status().unwrap().is_clean());
}

#[test]
fn status_tells_stage_from_work_tree() {
    let bench = Bench::new();
    bench.keep("a.txt", b"a");
    bench.keep("b.txt", b"b");
    bench.write("a.txt", b"A");
    bench.add("a.txt");
    bench.write("a.txt", b"x");
    fs::remove_file(bench.place("b.txt")).unwrap();
    bench.write("c.txt", b"c");
    let status = bench.repository.status().unwrap();
    assert_eq!(status.staged.iter().map(|change| change.path()).collect::<Vec<_>>(), ["a.txt"]);
    let work: Vec<_> = status.work.iter().map(|(path, state)| (path.as_str(), *state)).collect();
    let expected = [("a.txt", WorkState::Modified), ("b.txt", WorkState::Deleted), ("c.txt", WorkState::Untracked)];
    assert_eq!(work, expected);
    let report = bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    let removed = report.files.iter().find(|file| file.path == "b.txt").unwrap();
    assert_eq!(removed.state, AddedState::Removed);
    bench.commit("all");
    assert!(bench.repository.status().unwrap().is_clean());
    assert!(matches!(
        bench.repository.commit(&CommitOptions { message: "again".to_owned(), ..Default::default() }),
        Err(RepoError::NothingToDo(_))
    ));
}

#[test]
fn a_change_of_the_same_length_within_the_clocks_tick_is_seen() {
    let bench = Bench::new();
    bench.keep("a.txt", b"before");
    for round in 0..20u8 {
        bench.write("a.txt", &[b'a' + round; 6]);
        assert_eq!(bench.repository.status().unwrap().work.len(), 1, "round {round}");
        bench.add("a.txt");
        assert_eq!(bench.repository.status().unwrap().work.len(), 0, "round {round}");
    }
}

#[test]
fn two_writers_lose_nothing() {
    let bench = Bench::new();
    bench.keep("start", b"start");
    let open = || Repository::discover(bench.folder.path(), Settings::default()).unwrap();
    for path in ["left", "right"] {
        bench.write(path, path.as_bytes());
    }
    std::thread::scope(|scope| {
        for path in ["left", "right"] {
            let place = bench.place(path);
            scope.spawn(move || open().add(&[place], &NoProgress).unwrap());
        }
    });
    let staged = bench.repository.status().unwrap().staged;
    assert_eq!(staged.iter().map(|change| change.path()).collect::<Vec<_>>(), ["left", "right"]);
    // Of two commits at once on one branch, one wins and the other is told; or they came one after the other.
    let commit = |message: &str| {
        let options = CommitOptions { message: message.to_owned(), allow_empty: true, ..Default::default() };
        open().commit(&options).map(|report| report.id)
    };
    let (a, b) = std::thread::scope(|scope| {
        let a = scope.spawn(|| commit("a"));
        let b = scope.spawn(|| commit("b"));
        (a.join().unwrap(), b.join().unwrap())
    });
    let head = bench.repository.head().unwrap().commit.unwrap();
    let log = bench.repository.log(head, None, 10).unwrap();
    for result in [a, b] {
        match result {
            Ok(id) => assert!(log.iter().any(|entry| entry.id == id), "a commit that returned is in the history"),
            Err(RepoError::Raced(name)) => assert_eq!(name, "heads/main"),
            Err(error) => panic!("{error}"),
        }
    }
    bench.assert_sound();
}

#[test]
fn the_log_of_a_path_has_only_what_touched_it() {
    let bench = Bench::new();
    let first = bench.keep("a/one", b"1");
    bench.keep("b", b"1");
    let third = bench.keep("a/two", b"2");
    let head = bench.repository.resolve("HEAD").unwrap();
    let ids = |path| -> Vec<_> {
        bench.repository.log(head, Some(path), 10).unwrap().into_iter().map(|entry| entry.id).collect()
    };
    assert_eq!(ids("a"), [third, first]);
    assert_eq!(ids("a/one"), [first]);
    assert_eq!(ids("nowhere"), []);
    assert_eq!(bench.repository.log(head, None, 2).unwrap().len(), 2);
}

#[test]
fn every_tensor_of_two_versions_is_accounted_for() {
    let bench = Bench::new();
    let (old, new) = every_change(3).unwrap();
    bench.keep("model.safetensors", &old);
    bench.keep("model.safetensors", &new);
    let side = |text: &str| {
        let models = bench.repository.models(&Revision::parse(text).unwrap(), "").unwrap();
        models.into_values().next().unwrap()
    };
    let stored = compare_sides(&side("HEAD~1"), &side("HEAD"), CompareOptions::default(), &NoProgress).unwrap();
    let on_disk = {
        let (a, b) = (bench.place("old.safetensors"), bench.place("new.safetensors"));
        fs::write(&a, &old).unwrap();
        fs::write(&b, &new).unwrap();
        let side = |path: &Path| Side::from_path(path, Cut::TEST).unwrap();
        compare_sides(&side(&a), &side(&b), CompareOptions::default(), &NoProgress).unwrap()
    };
    for comparison in [&stored, &on_disk] {
        let state = |name: &str| {
            let found: Vec<_> = comparison.tensors.iter().filter(|tensor| tensor.name == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            found[0].state
        };
        assert_eq!(state("noisy.weight"), TensorChange::Value);
        assert_eq!(state("resized.weight"), TensorChange::Shape);
        assert_eq!(state("added.weight"), TensorChange::Added);
        assert_eq!(state("removed.weight"), TensorChange::Removed);
        for name in ["equal.bf16", "equal.f32", "equal.i64"] {
            assert_eq!(state(name), TensorChange::Equal);
        }
        assert!(!comparison.identical);
        let noisy = comparison.tensors.iter().find(|tensor| tensor.name == "noisy.weight").unwrap();
        let stats = noisy.stats.unwrap();
        assert!(stats.changed > 0 && stats.changed_share() < 0.6, "{stats:?}");
        assert!(stats.relative.unwrap() > 0.0 && stats.cosine.unwrap() > 0.99, "{stats:?}");
    }
}

#[test]
fn an_archive_is_closed_deterministic_and_refuses_to_leave_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let series = versions(3);
    let files: Vec<PathBuf> = (0..3).map(|step| folder.path().join(format!("run/step-{step}.safetensors"))).collect();
    fs::create_dir(folder.path().join("run")).unwrap();
    for (place, bytes) in files.iter().zip(&series) {
        fs::write(place, bytes).unwrap();
    }
    let (one, two) = (folder.path().join("one.shard"), folder.path().join("two.shard"));
    let settings = |threads| Settings { threads, ..Settings::default() };
    let report = pack(&files, &one, &PackOptions::default(), settings(1), &NoProgress).unwrap();
    pack(&files, &two, &PackOptions::default(), settings(4), &NoProgress).unwrap();
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap(), "threads do not change the bytes");
    assert_eq!(report.size, fs::metadata(&one).unwrap().len());
    assert!(report.files[1].growth < report.files[0].growth / 2, "{report:?}");
    assert!(matches!(
        pack(&files, &one, &PackOptions::default(), settings(1), &NoProgress),
        Err(RepoError::WouldOverwrite { .. })
    ));

    let archive = Archive::open(&one).unwrap();
    assert_eq!(archive.verify(&NoProgress).unwrap().problems, Vec::<String>::new());
    let out = folder.path().join("out");
    archive.unpack(&out, false, settings(2), &NoProgress).unwrap();
    for (step, bytes) in series.iter().enumerate() {
        assert_eq!(sha256(&fs::read(out.join(format!("step-{step}.safetensors"))).unwrap()), sha256(bytes));
    }
    assert!(matches!(archive.unpack(&out, false, settings(2), &NoProgress), Err(RepoError::WouldOverwrite { .. })));
    let mut hostile = Archive::open(&one).unwrap();
    for path in ["../escaped", "/etc/escaped", "a/../../escaped", ".shard/format"] {
        hostile.root.files[0].path = path.to_owned();
        let refused = hostile.unpack(&folder.path().join("hostile"), true, settings(1), &NoProgress);
        assert!(matches!(refused, Err(RepoError::Path { .. })), "{path}");
    }
}

#[test]
fn links_and_modes_come_back() {
    let bench = Bench::new();
    bench.write("run.sh", b"#!/bin/sh\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(bench.place("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("run.sh", bench.place("latest")).unwrap();
    }
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    bench.commit("both");
    assert!(bench.repository.status().unwrap().is_clean());
    let out = bench.place("out");
    bench.repository.export("HEAD", &[], &out, CheckoutOptions::default(), &NoProgress).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::read_link(out.join("latest")).unwrap(), Path::new("run.sh"));
        let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("run.sh") & 0o111, 0o111 & !umask());
        assert_eq!(mode("run.sh") & 0o7000, 0);
    }
}

#[cfg(unix)]
fn umask() -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("probe");
    fs::write(&place, b"").unwrap();
    0o666 & !(fs::metadata(&place).unwrap().permissions().mode() & 0o666)
}

#[test]
#[cfg(unix)]
fn fault_28_a_checkout_never_writes_through_a_link() {
    let bench = Bench::new();
    let first = bench.keep("dir/file", b"inside");
    bench.keep("other", b"x");
    let outside = tempfile::tempdir().unwrap();
    fs::remove_dir_all(bench.place("dir")).unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.place("dir")).unwrap();
    let result = bench.repository.checkout(&first.to_hex(), CheckoutOptions { force: true }, &NoProgress);
    assert!(result.is_err(), "{result:?}");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none(), "nothing was written outside");
}

#[test]
fn a_library_user_can_share_a_repository_between_threads() {
    let bench = Arc::new(Bench::new());
    bench.keep("a", b"a");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let bench = Arc::clone(&bench);
            scope.spawn(move || assert!(bench.repository.status().unwrap().is_clean()));
        }
    });
}

/// Flips a bit in the middle of the largest pack.
fn damage_largest_pack(bench: &Bench) {
    let packs = fs::read_dir(bench.repository.dir().join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let pack = packs.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
}

#[test]
#[cfg(unix)]
fn fault_28_a_checkout_never_removes_through_a_link() {
    let bench = Bench::new();
    bench.keep("start", b"start");
    bench.keep("dir/file", b"inside");
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), b"somebody else's").unwrap();
    fs::remove_dir_all(bench.place("dir")).unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.place("dir")).unwrap();
    let _ = bench.checkout("HEAD~1");
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"somebody else's");
}

#[test]
fn a_folder_may_become_a_file_and_back() {
    let bench = Bench::new();
    bench.keep("d/x", b"below");
    fs::remove_dir_all(bench.place("d")).unwrap();
    bench.write("d", b"a file now");
    bench.add("d");
    bench.commit("file");
    bench.checkout("HEAD~1").unwrap();
    assert_eq!(bench.read("d/x"), b"below");
    bench.checkout("main").unwrap();
    assert_eq!(bench.read("d"), b"a file now");
    // In the way, untracked: refused before anything is touched, by force too.
    fs::remove_file(bench.place("d")).unwrap();
    bench.write("d/mine", b"mine");
    let forced = bench.repository.checkout("main", CheckoutOptions { force: true }, &NoProgress);
    assert!(matches!(forced, Err(RepoError::InTheWay { .. })), "{forced:?}");
    assert_eq!(bench.read("d/mine"), b"mine");
}

#[test]
fn fault_09_a_checkout_that_cannot_be_decoded_leaves_the_work_tree_alone() {
    let bench = Bench::new();
    let series = versions(1);
    bench.keep("model.safetensors", &series[0]);
    let damaged = bench.repository.head().unwrap().commit.unwrap();
    fs::remove_file(bench.place("model.safetensors")).unwrap();
    bench.write("other", b"other");
    bench.repository.add(&[bench.folder.path().to_owned()], &NoProgress).unwrap();
    bench.commit("other");
    damage_largest_pack(&bench);
    let repository = Repository::discover(bench.folder.path(), Settings::default()).unwrap();
    let result = repository.checkout(&damaged.to_hex(), CheckoutOptions::default(), &NoProgress);
    assert!(result.is_err());
    assert_eq!(bench.read("other"), b"other");
    assert!(!bench.place("model.safetensors").exists());
    assert!(repository.status().unwrap().is_clean());
}

#[test]
fn fault_09_adding_again_mends_a_damaged_block_and_nothing_leans_on_it() {
    let bench = Bench::new();
    let series = versions(2);
    bench.keep("model.safetensors", &series[0]);
    damage_largest_pack(&bench);
    let reopen = || Repository::discover(bench.folder.path(), Settings::default()).unwrap();
    // A new version leans on what is whole only.
    bench.write("model.safetensors", &series[1]);
    reopen().add(&[bench.place("model.safetensors")], &NoProgress).unwrap();
    bench.commit("second");
    let out = tempfile::tempdir().unwrap();
    reopen().export("HEAD", &[], &out.path().join("second"), CheckoutOptions::default(), &NoProgress).unwrap();
    assert_eq!(sha256(&fs::read(out.path().join("second/model.safetensors")).unwrap()), sha256(&series[1]));
    let first = reopen().export("HEAD~1", &[], &out.path().join("first"), CheckoutOptions::default(), &NoProgress);
    assert!(first.is_err(), "what is damaged is not handed out");
    // The same bytes again: the damaged block is written anew.
    bench.write("again.safetensors", &series[0]);
    let report = reopen().add(&[bench.place("again.safetensors")], &NoProgress).unwrap();
    assert!(report.cost.new_blocks >= 1, "{:?}", report.cost);
    for repository in [reopen(), {
        fs::remove_file(bench.repository.dir().join("cache/index.db")).unwrap();
        reopen()
    }] {
        let folder = tempfile::tempdir().unwrap();
        repository.export("HEAD~1", &[], folder.path(), CheckoutOptions::default(), &NoProgress).unwrap();
        assert_eq!(sha256(&fs::read(folder.path().join("model.safetensors")).unwrap()), sha256(&series[0]));
    }
}

#[test]
fn checking_out_head_stays_on_the_branch() {
    let bench = Bench::new();
    bench.keep("a", b"a");
    fs::remove_file(bench.place("a")).unwrap();
    bench.checkout("HEAD").unwrap();
    assert_eq!(bench.read("a"), b"a");
    assert_eq!(bench.repository.head().unwrap().branch.as_deref(), Some("main"));
}

/// A safetensors file of one bf16 matrix whose word k holds k.
fn counting(rows: usize) -> Vec<u8> {
    let words: Vec<u8> = (0..rows * 512).flat_map(|k| (k as u16).to_le_bytes()).collect();
    let header = format!(r#"{{"w":{{"dtype":"BF16","shape":[{rows},512],"data_offsets":[0,{}]}}}}"#, words.len());
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &words].concat()
}

#[test]
fn tensors_that_grow_and_shrink_by_rows_lean_on_what_is_there() {
    let bench = Bench::new();
    // Blocks of 64 rows: the last block is shorter, longer, or gone in the next version.
    let rows = [100, 130, 90, 64, 200, 10];
    for (step, rows) in rows.into_iter().enumerate() {
        let mut bytes = counting(rows);
        // Something moves, so that no block is known already.
        let at = bytes.len() - rows * 1024;
        bytes[at..].iter_mut().step_by(101).for_each(|byte| *byte ^= step as u8);
        bench.write("m.safetensors", &bytes);
        let cost = bench.add("m.safetensors").cost;
        assert_eq!(cost.deltas > 0, step > 0, "{rows} rows: {cost:?}");
        bench.commit("rows");
        bench.checkout("HEAD").unwrap();
        fs::remove_file(bench.place("m.safetensors")).unwrap();
        bench.checkout("HEAD").unwrap();
        assert_eq!(sha256(&bench.read("m.safetensors")), sha256(&bytes), "{rows} rows");
    }
    bench.assert_sound();
}
