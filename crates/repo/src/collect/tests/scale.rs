//! How long a collection takes in a large repository, and the memory it takes.

use std::time::{Duration, Instant};

use shard_core::limits::Cut;
use shard_core::{NoProgress, sha256};
use shard_history::{Commit, FileEntry, FileMode, FileTree};
use shard_manifest::{BlockSpan, ContentManifest, ManifestSegment};
use shard_store::{EntryKey, EntryKind, EntrySink, Nonce, RefUpdate, Target};

use super::{Bench, NOW};
use crate::snapshot::put_object;
use crate::stage::put_tree;

const COMMITS: u64 = 10_000;
const BLOCKS: u64 = 200;
const NEW: u64 = 100;

/// Peak memory of this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "minutes: cargo test --release -p shard-repo -- --ignored --nocapture a_million"]
fn a_million_blocks_and_ten_thousand_commits() {
    let bench = Bench::new();
    let repository = &bench.repository;
    let (mut tips, mut parents) = (Vec::new(), Vec::new());
    for commit in 0..COMMITS {
        let transaction = repository.store.begin("scale").unwrap();
        let blocks: Vec<BlockSpan> =
            (0..BLOCKS).map(|n| BlockSpan { id: sha256(&(commit * NEW + n).to_le_bytes()), len: 100 }).collect();
        for block in &blocks {
            transaction.put(&EntryKey::block(block.id), &block.id.0, 100, &[]).unwrap();
        }
        let manifest = ContentManifest {
            format: "opaque".to_owned(),
            size: 100 * BLOCKS,
            sha256: sha256(&commit.to_be_bytes()),
            cut: Cut::TEST,
            segments: vec![ManifestSegment { len: 100 * BLOCKS, dtype: None, blocks }],
            tensors: Vec::new(),
            compressed: Vec::new(),
            extra: Default::default(),
        };
        let id = put_object(&transaction, EntryKind::Manifest, &manifest.to_bytes().unwrap()).unwrap();
        let mut files = FileTree::default();
        let (mode, size) = (FileMode::Regular, manifest.size);
        files.insert("file", FileEntry { mode, size, sha256: manifest.sha256, manifest: id }).unwrap();
        let object = Commit {
            tree: put_tree(&transaction, &files).unwrap(),
            parents: parents.clone(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            author: None,
            message: format!("{commit}"),
            records: Vec::new(),
            extra: Default::default(),
        };
        let commit_id = put_object(&transaction, EntryKind::Commit, &object.to_bytes().unwrap()).unwrap();
        // The second half of the history goes.
        parents = if commit == COMMITS / 2 { Vec::new() } else { vec![commit_id] };
        if commit == COMMITS / 2 || commit == COMMITS - 1 {
            tips.push(commit_id);
        }
        transaction.seal().unwrap();
    }
    for (name, tip) in ["kept", "gone"].into_iter().zip(tips) {
        let transaction = repository.store.begin("scale").unwrap();
        let update = RefUpdate { name: format!("heads/{name}"), expected: None, target: Target::Commit(tip) };
        transaction.update_refs(&[update], "", Nonce([1; 16])).unwrap();
    }
    let timed = |what: &str, run: &mut dyn FnMut()| {
        let (before, began) = (peak(), Instant::now());
        run();
        println!("{what}: {:.1?}, peak {} MB (before {} MB)", began.elapsed(), peak() >> 20, before >> 20);
        assert!(began.elapsed() < Duration::from_secs(120), "{what} took {:?}", began.elapsed());
    };
    timed("overview", &mut || drop(repository.storage_overview(&NOW).unwrap()));
    timed("nothing to do", &mut || assert_eq!(repository.gc(&NOW, &NoProgress).unwrap().deleted_packs, 0));
    repository.delete_branch("gone", true).unwrap();
    timed("half goes", &mut || assert!(repository.gc(&NOW, &NoProgress).unwrap().deleted_packs > COMMITS / 3));
    timed("after that", &mut || assert_eq!(repository.plan_gc(&NOW).unwrap().dead_bytes, 0));
}
