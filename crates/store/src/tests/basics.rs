//! Writing, reading back, finding.

use std::path::Path;

use shard_core::limits::{Cut, MAX_DEPTH};
use shard_core::{Digest, sha256};

use crate::entry::{EntryKey, EntryKind, EntrySink, EntrySource, PackId};
use crate::{EntryList, Nonce, PackSum, RefUpdate, Store, StoreError, StoreOptions, Target};

pub(super) fn repository() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::init(&dir.path().join("repo"), Cut::TEST).unwrap();
    (dir, store)
}

pub(super) fn block(n: u64) -> (EntryKey, Vec<u8>) {
    let bytes: Vec<u8> = (0..200 + n).flat_map(|i| sha256(&(n * 1000 + i).to_le_bytes()).0).collect();
    (EntryKey::block(sha256(&bytes)), bytes)
}

pub(super) fn read(source: &dyn EntrySource, key: &EntryKey) -> Vec<u8> {
    let location = source.locate(key).unwrap().unwrap();
    assert_eq!(location.key, *key);
    let mut out = vec![7; 3];
    source.read_stored(&location, &mut out).unwrap();
    out
}

pub(super) fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_before_and_after_sealing_and_by_others() {
    let (_dir, store) = repository();
    let root = store.root().unwrap().to_owned();
    let (a, a_bytes) = block(1);
    let (b, b_bytes) = block(2);
    let tree = EntryKey::new(EntryKind::Tree, a.id);
    let tx = store.begin("test").unwrap();
    tx.put(&a, &a_bytes, 70, &[]).unwrap();
    tx.put(&b, &b_bytes, 80, &[a.id]).unwrap();
    tx.put(&b, b"ignored", 80, &[]).unwrap();
    tx.put(&tree, b"", 0, &[]).unwrap();
    let pending = tx.locate(&b).unwrap().unwrap();
    assert!(matches!(pending.pack, PackId::Pending(0)));
    assert_eq!((pending.depth, pending.raw_len), (1, 80));
    assert_eq!(read(&tx, &b), b_bytes);
    assert_eq!(store.locate(&b).unwrap(), None);
    tx.seal().unwrap();
    // A location given out before still works.
    let mut out = Vec::new();
    tx.read_stored(&pending, &mut out).unwrap();
    assert_eq!(out, b_bytes);
    assert_eq!(read(&store, &b), b_bytes);
    assert_eq!(store.locate(&b).unwrap().unwrap().depth, 1);
    assert_eq!(store.copies_and_bases(&b).unwrap()[0].1, [a.id]);
    drop(tx);

    let other = Store::open(&root).unwrap();
    assert_eq!(read(&other, &a), a_bytes);
    assert_eq!(read(&other, &tree), b"");
    assert_eq!(other.keys(EntryKind::Tree).unwrap(), [tree]);
    assert_eq!(other.id(), store.id());
    assert_eq!(other.cut(), Cut::TEST);
    assert!(other.take_notes().is_empty());
    let packs = other.packs().unwrap();
    assert_eq!(packs.len(), 1);
    other.verify_pack(&packs[0].id).unwrap();
    assert_eq!(packs[0].size, std::fs::metadata(root.join(format!("packs/{}.pack", packs[0].id))).unwrap().len());
    assert!(files(&root.join("leases")).is_empty() && files(&root.join("tmp")).is_empty());
}

#[test]
fn nothing_is_written_twice() {
    let (_dir, store) = repository();
    let (a, bytes) = block(1);
    for _ in 0..3 {
        let tx = store.begin("test").unwrap();
        tx.put(&a, &bytes, 70, &[]).unwrap();
        tx.put(&a, &bytes, 70, &[]).unwrap();
        tx.seal().unwrap();
        tx.seal().unwrap();
    }
    assert_eq!(store.packs().unwrap().len(), 1);
    assert_eq!(store.open_pack(&store.packs().unwrap()[0].id).unwrap().footer().entries.len(), 1);
}

#[test]
fn a_dropped_transaction_leaves_nothing() {
    let (_dir, store) = repository();
    let root = store.root().unwrap();
    let (a, bytes) = block(1);
    let tx = store.begin("test").unwrap();
    tx.put(&a, &bytes, 70, &[]).unwrap();
    assert_eq!(files(&root.join("leases")).len(), 1);
    assert_eq!(files(&root.join("tmp")).len(), 1);
    drop(tx);
    for folder in ["leases", "tmp", "packs", "refs"] {
        assert!(files(&root.join(folder)).is_empty(), "{folder}");
    }
    assert_eq!(store.locate(&a).unwrap(), None);
}

#[test]
fn packs_roll_at_their_limit_and_close_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("repo");
    Store::init(&root, Cut::TEST).unwrap();
    let store = Store::open_with(&root, StoreOptions { pack_limit: 10_000, gather_above: 8 }).unwrap();
    let tx = store.begin("test").unwrap();
    for n in 0..40 {
        let (key, bytes) = block(n);
        tx.put(&key, &bytes, 70, &[]).unwrap();
    }
    let early = store.packs().unwrap().len();
    assert!(early > 0 && early < 40, "{early} packs were made durable early");
    tx.seal().unwrap();
    for n in 0..40 {
        let (key, bytes) = block(n);
        assert_eq!(read(&tx, &key), bytes);
        assert_eq!(read(&store, &key), bytes);
    }
    assert!(store.packs().unwrap().iter().all(|pack| pack.size < 11_000));
    assert!(!files(&root.join("index")).is_empty());

    // A reader without an index finds all of it in the gathered file alone, even if the packs' footers were lost.
    std::fs::remove_dir_all(root.join("cache")).unwrap();
    let other = Store::open(&root).unwrap();
    assert_eq!(other.ids(EntryKind::Block).unwrap().len(), 40);
}

#[test]
fn limits_are_kept_without_harm() {
    let (_dir, store) = repository();
    let tx = store.begin("test").unwrap();
    let (missing, _) = block(99);
    let mut base: Option<Digest> = None;
    for n in 0..=u64::from(MAX_DEPTH) + 1 {
        let (key, bytes) = block(n);
        let bases: Vec<Digest> = base.into_iter().collect();
        let result = tx.put(&key, &bytes, 70, &bases);
        if n <= u64::from(MAX_DEPTH) {
            result.unwrap();
        } else {
            assert!(matches!(result, Err(StoreError::TooDeep { depth: 9, .. })));
        }
        base = Some(key.id);
    }
    let (key, bytes) = block(50);
    assert!(matches!(tx.put(&key, &bytes, 70, &[missing.id]), Err(StoreError::MissingBase { .. })));
    assert!(matches!(tx.put(&key, &bytes, 70, &[key.id]), Err(StoreError::MissingBase { .. })));
    assert!(matches!(tx.put(&key, &bytes, (4 << 20) + 1, &[]), Err(StoreError::TooLarge { .. })));
    assert!(matches!(tx.put(&key, &vec![0; 6 << 20], 70, &[]), Err(StoreError::TooLarge { .. })));
    tx.put(&key, &bytes, 70, &[]).unwrap();
    tx.seal().unwrap();
    assert_eq!(read(&store, &key), bytes);
}

#[test]
fn prefixes() {
    let (_dir, store) = repository();
    let tx = store.begin("test").unwrap();
    let keys: Vec<EntryKey> = (0..50).map(|n| block(n).0).collect();
    for key in &keys {
        tx.put(key, b"x", 1, &[]).unwrap();
    }
    tx.seal().unwrap();
    for key in &keys {
        let hex = key.id.to_hex();
        assert_eq!(store.find_prefix(EntryKind::Block, &hex, 9).unwrap(), [key.id]);
        let short = store.find_prefix(EntryKind::Block, &hex[..3], 99).unwrap();
        assert!(short.contains(&key.id) && short.iter().all(|id| id.to_hex().starts_with(&hex[..3])));
        assert!(store.find_prefix(EntryKind::Tree, &hex, 9).unwrap().is_empty());
    }
    assert_eq!(store.find_prefix(EntryKind::Block, "", 20).unwrap().len(), 20);
    for odd in ["zz", "A", "../..", &"0".repeat(65), "ü"] {
        assert!(store.find_prefix(EntryKind::Block, odd, 9).unwrap().is_empty(), "{odd}");
    }
}

#[test]
fn refs_move_after_what_they_name() {
    let (_dir, store) = repository();
    let tx = store.begin("test").unwrap();
    let commit = EntryKey::new(EntryKind::Commit, sha256(b"commit"));
    tx.put(&commit, b"commit", 6, &[]).unwrap();
    let update = |name: &str, target| RefUpdate { name: name.to_owned(), expected: None, target };
    let updates =
        [update("heads/main", Target::Commit(commit.id)), update("HEAD", Target::Symbolic("heads/main".to_owned()))];
    let operation = Nonce::random().unwrap();
    let states = tx.update_refs(&updates, "first", operation).unwrap();
    assert_eq!(states.len(), 2);
    drop(tx);
    let head = store.refs().read_resolved("HEAD").unwrap();
    assert_eq!((head.name.as_str(), head.state.as_ref()), ("heads/main", Some(&states[0])));
    assert_eq!(states[0].operation, operation);
    assert_eq!(read(&store, &commit), b"commit");
}

#[test]
fn opening_what_is_no_repository() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotARepository(_))));
    assert!(matches!(Store::open(&dir.path().join("no")), Err(StoreError::NotARepository(_))));
    let store = Store::init(dir.path(), Cut::V1).unwrap();
    assert_eq!(store.cut(), Cut::V1);
    assert!(matches!(Store::init(dir.path(), Cut::V1), Err(StoreError::AlreadyARepository(_))));
    assert_eq!(Store::open(dir.path()).unwrap().id(), store.id());
}

#[test]
fn a_repository_can_be_moved() {
    let (dir, store) = repository();
    let (a, bytes) = block(1);
    let tx = store.begin("test").unwrap();
    tx.put(&a, &bytes, 70, &[]).unwrap();
    tx.seal().unwrap();
    drop(tx);
    let from = store.root().unwrap().to_owned();
    drop(store);
    let to = dir.path().join("elsewhere");
    std::fs::rename(&from, &to).unwrap();
    assert_eq!(read(&Store::open(&to).unwrap(), &a), bytes);
}

#[test]
fn all_copies_are_listed_and_agree_with_the_footers() {
    let (_dir, store) = repository();
    let blocks: Vec<(EntryKey, Vec<u8>)> = (0..5).map(block).collect();
    let tx = store.begin("test").unwrap();
    for (key, bytes) in &blocks {
        tx.put(key, bytes, 70, &[]).unwrap();
    }
    tx.put(&EntryKey::new(EntryKind::Tree, blocks[0].0.id), b"", 0, &[]).unwrap();
    tx.seal().unwrap();
    drop(tx);
    // A second copy of one, which leans on another, and one that leans on it.
    let tx = store.begin("test").unwrap();
    tx.put_copy(&blocks[1].0, b"delta", 70, &[blocks[0].0.id]).unwrap();
    tx.seal().unwrap();
    drop(tx);
    let (mut all, mut best) = (Vec::new(), Vec::new());
    store.each_copy(EntryKind::Block, &mut |copy| all.push(copy)).unwrap();
    store.each_best(EntryKind::Block, &mut |copy| best.push(copy)).unwrap();
    assert_eq!((all.len(), best.len()), (6, 5));
    assert!(all.is_sorted_by_key(|copy| copy.location.key.id) && best.is_sorted_by_key(|copy| copy.location.key.id));
    for copy in &best {
        assert_eq!(Some(copy.location), store.locate(&copy.location.key).unwrap());
    }
    let delta = all.iter().find(|copy| !copy.bases.is_empty()).unwrap();
    assert_eq!((delta.bases.as_slice(), delta.location.depth), (&[blocks[0].0.id][..], 1));
    let footers = || -> Vec<_> {
        let packs = store.packs().unwrap().into_iter();
        packs.map(|pack| (pack.id, PackSum::of(store.open_pack(&pack.id).unwrap().footer()))).collect()
    };
    let sums = store.index_sums().unwrap();
    assert_eq!(footers().into_iter().collect::<std::collections::HashMap<_, _>>(), sums);
    // A copy that was found to be bad is in no sum.
    store.forget(&delta.location).unwrap();
    let sums = store.index_sums().unwrap();
    assert_eq!(footers().iter().filter(|(pack, sum)| sums.get(pack) == Some(sum)).count(), 1);
}

#[test]
fn a_ref_that_cannot_be_read_can_be_ended_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::init(dir.path(), Cut::V1).unwrap();
    let refs = store.refs();
    let (operation, target) = (Nonce([7; 16]), Target::Symbolic("heads/main".to_owned()));
    let first = refs.compare_and_swap("tags/t", None, target.clone(), "first", operation).unwrap();
    refs.compare_and_swap("tags/t", Some(&first), target.clone(), "second", operation).unwrap();
    assert!(!refs.end_damaged("tags/t", "end", operation).unwrap());
    assert!(!refs.end_damaged("tags/none", "end", operation).unwrap());
    let newest = dir.path().join("refs/tags%2ft").join(format!("{:016x}", u64::MAX - 2));
    std::fs::remove_file(&newest).unwrap();
    std::fs::write(&newest, b"").unwrap();
    assert!(refs.read("tags/t").is_err());
    assert!(refs.end_damaged("tags/t", "end", operation).unwrap());
    assert_eq!(refs.read("tags/t").unwrap(), None);
    // What came before is gone, and it goes on from there, also for who remembers where it was.
    assert_eq!(refs.log("tags/t").unwrap().count(), 1);
    let again = refs.compare_and_swap("tags/t", None, target, "again", operation).unwrap();
    assert_eq!(again.generation, 4);
    assert_eq!(refs.log("tags/t").unwrap().filter(Result::is_ok).count(), 2);
}

#[test]
fn nobody_makes_a_repository_of_what_lost_its_format_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::init(dir.path(), Cut::V1).unwrap();
    std::fs::remove_file(dir.path().join("format")).unwrap();
    // Nothing is in it yet: its making was interrupted.
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotARepository(_))));
    let main = Target::Symbolic("heads/main".to_owned());
    store.refs().compare_and_swap("HEAD", None, main, "init", Nonce([7; 16])).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NoFormat(_))));
    assert!(matches!(Store::init(dir.path(), Cut::V1), Err(StoreError::NoFormat(_))));
    assert!(!dir.path().join("format").exists());
    Store::restore_format(dir.path(), &store).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().id(), store.id());
}
