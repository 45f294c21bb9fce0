use std::fs;

use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_datasets::cases::Versions;
use shard_store::EntryKind;
use tempfile::TempDir;

use super::*;
use crate::counted::Counted;
use crate::{CommitOptions, ResetMode, ResetOptions, Settings};

/// A repository with versions of a model that lean on each other, cut small, so that each has many blocks.
fn series(versions: usize) -> (TempDir, Repository) {
    let folder = TempDir::new().unwrap();
    let repository = Repository::init(folder.path(), "main", Cut::TEST, Settings::default()).unwrap();
    let mut all = Versions::new(5, 2, 300, 512, 0.2);
    for number in 0..versions {
        let place = folder.path().join("model.safetensors");
        fs::write(&place, all.next().unwrap().unwrap()).unwrap();
        repository.add(&[place], &NoProgress).unwrap();
        let options = CommitOptions { message: number.to_string(), ..CommitOptions::default() };
        repository.commit(&options).unwrap();
    }
    (folder, repository)
}

#[test]
fn every_block_of_a_series_is_decoded_once() {
    let (_folder, repository) = series(6);
    let mut report = VerifyReport::default();
    let files = repository.follow_refs(&mut report, &mut Damage::default()).unwrap();
    assert_eq!((files.len(), report.problems.len()), (6, 0));
    let source = Counted::new(repository.store());
    let decoded = decode_all(&source, &files, &Memory::none(), &Budget::new(None), None, &NoProgress).unwrap();
    assert_eq!((decoded.files, decoded.problems.as_slice()), (6, &[][..]));
    let reads = source.reads();
    let mut deepest = 0;
    repository
        .store()
        .each_best(EntryKind::Block, &mut |copy| {
            deepest = deepest.max(copy.location.depth);
            assert_eq!(reads.get(&copy.location.key), Some(&1), "{}", copy.location.key);
        })
        .unwrap();
    assert!(deepest >= 2, "expected chains");
    assert_eq!(reads.len() as u64, decoded.entries);
}

#[test]
fn earlier_states_are_followed_and_nothing_is_read_twice() {
    let (_folder, repository) = series(4);
    let options = ResetOptions { mode: ResetMode::Hard, ..ResetOptions::default() };
    let newest = repository.resolve("main").unwrap().to_hex();
    for _ in 0..3 {
        repository.reset("main~2", options, &NoProgress).unwrap();
        repository.reset(&newest, options, &NoProgress).unwrap();
    }
    repository.reset("main~3", options, &NoProgress).unwrap();
    let source = Counted::new(repository.store());
    let mut report = VerifyReport::default();
    let files = repository.follow_refs_in(&source, &mut report, &mut Damage::default()).unwrap();
    assert_eq!((report.problems.as_slice(), report.commits), (&[][..], 4));
    // The one that is present still, and three that only logs lead to.
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((paths.len(), paths[0]), (4, "model.safetensors"));
    let earlier =
        |path: &&str| path.starts_with("an earlier state of ") && path.ends_with(" needs it: model.safetensors");
    assert!(paths[1..].iter().all(earlier), "{paths:?}");
    let reads = source.reads();
    assert_eq!(reads.len(), 3 * 4, "commits, trees and manifests");
    assert!(reads.values().all(|reads| *reads == 1), "{reads:?}");
}

#[test]
fn a_file_s_hash_is_compared_however_its_blocks_come() {
    let (_folder, repository) = series(3);
    let files = repository.follow_refs(&mut VerifyReport::default(), &mut Damage::default()).unwrap();
    let decode = |files: &[ReachedFile]| {
        decode_all(repository.store(), files, &Memory::none(), &Budget::new(None), None, &NoProgress).unwrap().problems
    };
    // The same block at several places, and all in another order: a file that shard did not make.
    let mut odd = files[0].clone();
    odd.blocks.reverse();
    let more: Vec<Digest> = odd.blocks.iter().step_by(2).copied().collect();
    odd.blocks.extend(more);
    let mut whole = Vec::new();
    for id in &odd.blocks {
        let mut block = Vec::new();
        crate::blocks::BlockReader::new(repository.store()).read(&EntryKey::block(*id), &mut block).unwrap();
        whole.extend(block);
    }
    odd.sha256 = shard_core::sha256(&whole);
    let mut all = files.clone();
    all.push(odd.clone());
    assert_eq!(decode(&all), Vec::<String>::new());
    all[3].sha256 = shard_core::sha256(b"another file");
    all[3].path = "odd".to_owned();
    let problems = decode(&all);
    assert!(problems.len() == 1 && problems[0].starts_with("odd: its bytes hash to "), "{problems:?}");
}

#[test]
fn pieces_add_up_to_the_whole() {
    let (_folder, repository) = series(4);
    let whole = repository.verify(true, &NoProgress).unwrap();
    let packs: u64 = repository.store().packs().unwrap().iter().map(|pack| pack.size).sum();
    let (mut entries, mut runs) = (0, 0);
    let mut at_most = packs + 200_000;
    loop {
        let options = VerifyOptions { full: true, resume: runs > 0, at_most: Some(at_most) };
        let report = repository.verify_with(options, &NoProgress).unwrap();
        assert_eq!((report.problems, report.resumed), (Vec::<String>::new(), entries));
        (entries, runs, at_most) = (entries + report.entries, runs + 1, 200_000);
        if !report.stopped {
            assert_eq!(report.files, whole.files);
            break;
        }
    }
    assert!(runs > 3, "{runs}");
    assert_eq!(entries, whole.entries);
}

#[test]
fn whole_files_are_not_hashed_again_by_a_run_that_goes_on() {
    let (_folder, repository) = series(5);
    let files = repository.follow_refs(&mut VerifyReport::default(), &mut Damage::default()).unwrap();
    let packs = repository.store().packs().unwrap();
    // An earlier run decoded every block, and came to no file.
    let mut done = memory::Done::default();
    repository
        .store()
        .each_best(EntryKind::Block, &mut |copy| {
            done.entries.insert(copy.location.key);
        })
        .unwrap();
    Memory::open(repository.store(), &packs, false).0.note(&done);
    let mut so_far = 0;
    loop {
        let (memory, note) = Memory::open(repository.store(), &packs, true);
        assert_eq!(note, None);
        let source = Counted::new(repository.store());
        let decoded = decode_all(&source, &files, &memory, &Budget::new(Some(1)), None, &NoProgress).unwrap();
        assert_eq!(decoded.problems, Vec::<String>::new());
        // One file more each time, and its blocks alone are read.
        so_far += 1;
        assert_eq!(decoded.files, so_far);
        let blocks: u32 = source.reads().iter().filter(|(key, _)| key.kind == EntryKind::Block).map(|(_, n)| n).sum();
        assert!(blocks > 0);
        let noted = Memory::open(repository.store(), &packs, true).0.take();
        assert_eq!(noted.files.len() as u64, so_far);
        if so_far == files.len() as u64 {
            break;
        }
    }
    // Nothing of the files is left to do.
    let (memory, _) = Memory::open(repository.store(), &packs, true);
    let source = Counted::new(repository.store());
    let decoded = decode_all(&source, &files, &memory, &Budget::new(None), None, &NoProgress).unwrap();
    assert_eq!(decoded.files, files.len() as u64);
    assert!(source.reads().keys().all(|key| key.kind != EntryKind::Block));
}

#[test]
fn trees_that_name_one_another_over_and_over_end() {
    let (_folder, repository) = series(1);
    let transaction = repository.store().begin("test").unwrap();
    let put = |tree: &shard_history::Tree| {
        let (id, bytes) = tree.encode().unwrap();
        crate::snapshot::put_object(&transaction, EntryKind::Tree, &bytes).unwrap();
        id
    };
    let missing = shard_core::sha256(b"a tree that is nowhere");
    let mut id = missing;
    for _ in 0..40 {
        let node = shard_history::TreeNode::Directory(id);
        let mut tree = shard_history::Tree::default();
        tree.entries.insert("a".to_owned(), node);
        tree.entries.insert("b".to_owned(), node);
        id = put(&tree);
    }
    transaction.seal().unwrap();
    let bad = BTreeSet::new();
    // 2^40 paths.
    let paths = repair::affected_paths(id, &bad, repository.store());
    assert!(!paths.is_empty() && paths.len() <= 20_000, "{}", paths.len());
}
