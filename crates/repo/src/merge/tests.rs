use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shard_core::limits::Cut;
use shard_core::{DType, Digest, NoProgress, Progress};
use shard_formats::Source;
use shard_history::{Commit, Merge, Side};
use shard_manifest::ContentManifest;
use shard_store::{EntryKind, RefUpdate, Target};
use shard_tests::rewrite::{Dtype, Tensor, write};
use tempfile::TempDir;

use super::source::{Content, MergedFile, Patch, StoredFile};
use super::{MergeOptions, MergeProblem};
use crate::snapshot::put_object;
use crate::{CheckoutOptions, CommitOperation, CommitOptions, CommitRequest, RepoError, Repository, Settings};

/// A repository whose files are cut often.
fn repository() -> (TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::init(folder.path(), "main", Cut::TEST, Settings::default()).unwrap();
    (folder, repository)
}

fn keep(folder: &TempDir, repository: &Repository, files: &[(&str, &[u8])]) -> Digest {
    for (name, bytes) in files {
        let place = folder.path().join(name);
        fs::write(&place, bytes).unwrap();
        repository.add(&[place], &NoProgress).unwrap();
    }
    repository.commit(&CommitOptions { message: "Kept".to_owned(), ..Default::default() }).unwrap().id
}

/// Words of binary32 that differ from file to file, in three tensors.
fn model(seed: u32) -> Vec<u8> {
    model_of([seed; 3])
}

/// The same, each tensor of a file of its own.
fn model_of([a, b, c]: [u32; 3]) -> Vec<u8> {
    let tensor = |name: &str, len: u32, seed: u32| {
        let value = |at: u32| ((at.wrapping_mul(2_654_435_761) >> 20) as f32 + (seed * at % 7) as f32).to_le_bytes();
        let bytes = (0..len).flat_map(value).collect();
        Tensor { name: name.to_owned(), dtype: Dtype::F32, shape: vec![len as usize], bytes }
    };
    write(&[tensor("a", 40_000, a), tensor("b", 3, b), tensor("c", 30_000, c)])
}

#[test]
fn a_merged_file_is_the_same_wherever_reading_it_starts_and_ends() {
    let (folder, repository) = repository();
    let files = Merge { base: model(0), ours: model(1), theirs: model(2) };
    let commit = keep(&folder, &repository, &[("base", &files.base), ("ours", &files.ours), ("theirs", &files.theirs)]);
    let tree = repository.files_of(commit).unwrap();
    let manifest =
        |name: &str| -> Arc<ContentManifest> { repository.manifest(tree.get(name).unwrap().manifest).unwrap() };
    let stored = |name: &str| StoredFile::new(&manifest(name), &repository.store);
    let starts: Vec<u64> = manifest("ours").segment_offsets();
    let view = |name: &str| {
        let manifest = manifest("ours");
        let view = manifest.tensors.iter().find(|tensor| tensor.name == name).unwrap().clone();
        let start = starts[view.segment] + view.offset;
        (start, start + view.byte_len().unwrap())
    };
    let ((a, a_end), (c, c_end)) = (view("a"), view("c"));
    let same = Merge { base: a, ours: a, theirs: a };
    let strategy = "task:0.5,0.25".parse().unwrap();
    let mut patches = [
        Patch { start: a, end: a_end, content: Content::Computed { strategy, dtype: DType::F32, at: same } },
        Patch { start: c, end: c_end, content: Content::Copied { from: Side::Theirs, at: c } },
    ];
    patches.sort_by_key(|patch| patch.start);
    let of = Merge { base: stored("base"), ours: stored("ours"), theirs: stored("theirs") };
    let merged = MergedFile::new(of, Side::Ours, &patches);

    let mut expected = files.ours.clone();
    expected[c as usize..c_end as usize].copy_from_slice(&files.theirs[c as usize..c_end as usize]);
    let value = |file: &[u8], at: usize| f64::from(f32::from_le_bytes(file[at..at + 4].try_into().unwrap()));
    for at in (a as usize..a_end as usize).step_by(4) {
        let [base, ours, theirs] = [&files.base, &files.ours, &files.theirs].map(|file| value(file, at));
        let sum = (base + 0.5 * (ours - base)) + 0.25 * (theirs - base);
        expected[at..at + 4].copy_from_slice(&(sum as f32).to_le_bytes());
    }
    let mut whole = vec![0; merged.len() as usize];
    merged.read_at(0, &mut whole).unwrap();
    assert!(whole == expected);
    let mut at = 0;
    for len in [1, 3, 4097, 70_001, 2, 65_536, 5].into_iter().cycle() {
        let len = (len as u64).min(merged.len() - at);
        if len == 0 {
            break;
        }
        let mut part = vec![0; len as usize];
        merged.read_at(at, &mut part).unwrap();
        assert!(part == expected[at as usize..(at + len) as usize], "{at} {len}");
        at += len;
    }
    assert!(merged.read_at(merged.len() - 1, &mut [0; 2]).is_err());
}

#[test]
fn a_branch_that_another_writer_moved_is_not_merged_into() {
    let (folder, one) = repository();
    let base = keep(&folder, &one, &[("file", b"1")]);
    one.create_branch("side", "main").unwrap();
    let ours = keep(&folder, &one, &[("file", b"2")]);
    let expected = MergeOptions { expected: Some(base), ..Default::default() };
    let refused = one.merge("side", &expected, &NoProgress).unwrap_err();
    let is_told =
        matches!(&refused, RepoError::NotAt { expected, found, .. } if *expected == base && *found == Some(ours));
    assert!(is_told, "{refused:?}");
    assert_eq!(one.resolve("main").unwrap(), ours);
}

/// Another process that commits to the branch, once, when files are about to be written.
struct Rival {
    folder: PathBuf,
    is_done: AtomicBool,
}

impl Progress for Rival {
    fn begin(&self, phase: &str, _total_bytes: Option<u64>) {
        if phase != "writing" || self.is_done.swap(true, Ordering::SeqCst) {
            return;
        }
        let other = Repository::discover(&self.folder, Settings::default()).unwrap();
        let added = CommitOperation::add("theirs", b"1".to_vec());
        let request = CommitRequest { message: "First".to_owned(), ..Default::default() };
        other.create_commit(vec![added], &request, &NoProgress).unwrap();
    }
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}

#[test]
fn a_merge_that_lost_the_race_for_the_branch_can_be_run_again() {
    for no_commit in [false, true] {
        let (folder, one) = repository();
        let files = |model: &[u32; 3], number: &'static [u8]| [("model", model_of(*model)), ("gone", number.to_vec())];
        let keep_all = |files: &[(&str, Vec<u8>)]| {
            let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
            keep(&folder, &one, &files)
        };
        keep_all(&files(&[0, 0, 0], b"1"));
        one.create_branch("side", "main").unwrap();
        let ours = model_of([1, 0, 0]);
        keep_all(&files(&[1, 0, 0], b"1"));
        one.checkout("side", CheckoutOptions::default(), &NoProgress).unwrap();
        let mut theirs = files(&[0, 0, 2], b"2").to_vec();
        theirs.push(("new", b"2".to_vec()));
        keep_all(&theirs);
        one.checkout("main", CheckoutOptions::default(), &NoProgress).unwrap();
        let file = |name: &str| fs::read(folder.path().join(name)).ok();
        // What is not there is not put back.
        fs::remove_file(folder.path().join("gone")).unwrap();

        let rival = Rival { folder: folder.path().to_owned(), is_done: AtomicBool::new(false) };
        let options = MergeOptions { no_commit, ..Default::default() };
        let lost = one.merge("side", &options, &rival).unwrap_err();
        assert!(matches!(lost, RepoError::Raced(_)), "{lost:?}");
        assert!(file("model") == Some(ours) && file("gone").is_none() && file("new").is_none());
        assert!(one.merge_state().unwrap().is_none());
        let report = one.merge("side", &options, &NoProgress).unwrap();
        assert_eq!((report.commit.is_none(), report.is_waiting), (no_commit, no_commit));
        assert!(file("model") == Some(model_of([1, 0, 2])), "the merge is made of what both sides have");
        assert_eq!([file("gone"), file("new")], [Some(b"2".to_vec()), Some(b"2".to_vec())]);
        if no_commit {
            one.continue_merge(&super::ContinueOptions::default(), &NoProgress).unwrap();
        }
        let merged = one.files_of(one.resolve("main").unwrap()).unwrap();
        assert!(merged.files().keys().eq(["gone", "model", "new", "theirs"]));
    }
}

#[test]
fn histories_that_share_nothing_are_merged_where_that_is_asked_for() {
    let (folder, repository) = repository();
    let ours = keep(&folder, &repository, &[("file", b"1")]);
    let tree = repository.read_commit(ours).unwrap().tree;
    let transaction = repository.store.begin("test").unwrap();
    let commit = Commit {
        tree,
        parents: Vec::new(),
        created_at: "2020-01-01T00:00:00Z".to_owned(),
        author: None,
        message: "Apart".to_owned(),
        records: Vec::new(),
        extra: Default::default(),
    };
    let theirs = put_object(&transaction, EntryKind::Commit, &commit.to_bytes().unwrap()).unwrap();
    let update = RefUpdate { name: "heads/apart".to_owned(), expected: None, target: Target::Commit(theirs) };
    repository.move_or_lose(&transaction, &[update], "test").unwrap();
    let refused = repository.merge("apart", &MergeOptions::default(), &NoProgress).unwrap_err();
    assert!(matches!(refused, RepoError::Merge(MergeProblem::Unrelated { .. })), "{refused:?}");
    let options = MergeOptions { allow_unrelated: true, ..Default::default() };
    let report = repository.merge("apart", &options, &NoProgress).unwrap();
    assert_eq!((report.base, report.changes.len()), (None, 0));
    assert_eq!(repository.read_commit(report.commit.unwrap()).unwrap().parents, [ours, theirs]);
}

#[test]
fn a_merge_whose_branch_was_moved_under_it_is_only_forgotten() {
    let (folder, repository) = repository();
    let base = keep(&folder, &repository, &[("file", b"1")]);
    repository.create_branch("side", "main").unwrap();
    let ours = keep(&folder, &repository, &[("file", b"2")]);
    repository.checkout("side", CheckoutOptions::default(), &NoProgress).unwrap();
    keep(&folder, &repository, &[("file", b"3")]);
    repository.checkout("main", CheckoutOptions::default(), &NoProgress).unwrap();
    assert!(repository.merge("side", &MergeOptions::default(), &NoProgress).unwrap().is_waiting);
    // Another process looked before the merge began, and moves the branch now.
    let transaction = repository.begin_move("test", base).unwrap();
    let expected = repository.read_ref("heads/main").unwrap();
    let update = RefUpdate { name: "heads/main".to_owned(), expected, target: Target::Commit(base) };
    repository.move_or_lose(&transaction, &[update], "test").unwrap();
    let options = super::ContinueOptions::default();
    let refused = repository.continue_merge(&options, &NoProgress).unwrap_err();
    assert!(
        matches!(refused, RepoError::Merge(MergeProblem::Elsewhere { ours: began }) if began == ours),
        "{refused:?}"
    );
    repository.abort_merge(CheckoutOptions::default(), &NoProgress).unwrap();
    assert!(repository.merge_state().unwrap().is_none());
    assert_eq!(repository.resolve("main").unwrap(), base);
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"2");
    assert_eq!(repository.status().unwrap().staged.len(), 1);
}
