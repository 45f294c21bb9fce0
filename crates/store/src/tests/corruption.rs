//! Damage of every kind of file: noticed, or harmless; never a panic, never other bytes.

use std::path::{Path, PathBuf};

use shard_core::limits::Cut;
use shard_core::sha256;

use super::basics::{block, files, read, repository};
use crate::entry::{EntryKey, EntryKind, EntrySink, EntrySource};
use crate::error::PackError;
use crate::local::LocalBackend;
use crate::{
    ArchiveReader, ArchiveWriter, BackendError, FileStat, Nonce, RefError, StatEntry, Store, StoreError, StoreOptions,
    Target,
};

/// A repository with two packs of a few entries each.
fn filled() -> (tempfile::TempDir, PathBuf, Vec<(EntryKey, Vec<u8>)>) {
    let (dir, store) = repository();
    let mut entries = Vec::new();
    for pack in 0..2 {
        let tx = store.begin("test").unwrap();
        let mut bases = Vec::new();
        for n in 0..3 {
            let bytes = block(pack * 10 + n).1[..700].to_vec();
            let key = EntryKey::block(sha256(&bytes));
            tx.put(&key, &bytes, 700, &bases).unwrap();
            bases = vec![key.id];
            entries.push((key, bytes));
        }
        tx.seal().unwrap();
    }
    let root = store.root().unwrap().to_owned();
    (dir, root, entries)
}

fn drop_index(root: &Path) {
    let _ = std::fs::remove_dir_all(root.join("cache"));
}

/// Opens a repository with an index that is built from its files.
fn open_afresh(root: &Path) -> Store {
    let backend = LocalBackend::new(root).unwrap();
    Store::open_backend(std::sync::Arc::new(backend), StoreOptions::default()).unwrap()
}

fn put_file(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
}

/// Damaged forms of a file: bits flipped all over it, cut at many places, a page zeroed, two parts swapped.
fn damaged(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for at in (0..bytes.len()).step_by(step) {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        all.push(flipped);
        all.push(bytes[..at].to_vec());
    }
    let mut zeroed = bytes.to_vec();
    let page = bytes.len() / 3..(bytes.len() / 3 + 512).min(bytes.len());
    zeroed[page].fill(0);
    all.push(zeroed);
    let (front, back) = bytes.split_at(bytes.len() / 2);
    all.push([back, front].concat());
    all.retain(|other| other != bytes);
    all
}

#[test]
fn fault_09_bit_flip_in_pack() {
    let (_dir, root, entries) = filled();
    let name = files(&root.join("packs")).remove(0);
    let path = root.join("packs").join(&name);
    let bytes = std::fs::read(&path).unwrap();
    let id = crate::pack::parse_pack_name(&name).unwrap();
    for bad in damaged(&bytes, 61) {
        put_file(&path, &bad);
        let store = open_afresh(&root);
        assert!(matches!(store.verify_pack(&id), Err(StoreError::Pack { .. })));
        let mut whole = 0;
        let mut out = Vec::new();
        for (key, bytes) in &entries {
            match store.read(key, &mut out) {
                Ok(_) => {
                    assert_eq!(out, *bytes);
                    whole += 1;
                }
                Err(error) => {
                    let text = error.to_string();
                    let located = matches!(error, StoreError::Entry { .. } | StoreError::Missing(_));
                    assert!(located, "{text}");
                }
            }
        }
        // The other pack stays readable.
        assert!(whole >= 3, "{whole}");
        let damaged_footer = store.packs().unwrap().iter().any(|pack| pack.problem.is_some());
        assert_eq!(damaged_footer, store.take_notes().iter().any(|note| note.contains(&name)));
    }
}

#[test]
fn fault_09_a_pack_without_a_footer_tells_what_is_in_it() {
    let (_dir, root, _) = filled();
    let name = files(&root.join("packs")).remove(0);
    let path = root.join("packs").join(&name);
    let bytes = std::fs::read(&path).unwrap();
    let id = crate::pack::parse_pack_name(&name).unwrap();
    let store = Store::open(&root).unwrap();
    let footer = store.open_pack(&id).unwrap().footer().clone();
    let places = |entries: &[crate::Location]| -> Vec<_> {
        entries.iter().map(|entry| (entry.key, entry.offset, entry.stored_len, entry.raw_len)).collect()
    };
    let right: Vec<_> =
        footer.entries.iter().map(|entry| (entry.key, entry.offset, entry.stored_len, entry.raw_len)).collect();
    let (footer_at, trailer_at) = (bytes.len() - 52 - footer.encode().len(), bytes.len() - 52);
    for at in (0..bytes.len()).step_by(7).chain(trailer_at..bytes.len()) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        put_file(&path, &bad);
        let salvage = open_afresh(&root).salvage_pack(&id).unwrap();
        if at >= footer_at || at < 28 {
            assert!(salvage.is_complete, "at {at} of {}", bytes.len());
            assert_eq!(places(&salvage.entries), right, "at {at}");
        } else {
            // What is told to be all never lacks one.
            assert!(!salvage.is_complete || salvage.entries.len() == right.len(), "at {at}");
        }
    }
    // Neither footer nor trailer: what is whole is found, and that it is all is not known.
    for (len, count) in [(trailer_at, 3), (footer_at, 3), (footer_at - 1, 2), (200, 0), (28, 0), (0, 0)] {
        put_file(&path, &bytes[..len]);
        let salvage = open_afresh(&root).salvage_pack(&id).unwrap();
        assert_eq!((salvage.is_complete, places(&salvage.entries)), (false, right[..count].to_vec()), "{len}");
    }
    let mut bad = bytes.clone();
    bad[footer_at] ^= 1;
    bad[trailer_at + 50] ^= 1;
    put_file(&path, &bad);
    let salvage = open_afresh(&root).salvage_pack(&id).unwrap();
    assert_eq!((salvage.is_complete, places(&salvage.entries)), (false, right));
}

#[test]
fn fault_09_bit_flip_in_a_pack_whose_index_is_whole() {
    let (_dir, root, entries) = filled();
    for name in files(&root.join("packs")) {
        let path = root.join("packs").join(&name);
        let bytes = std::fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(97) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            put_file(&path, &bad);
            let store = Store::open(&root).unwrap();
            let mut out = Vec::new();
            for (key, bytes) in &entries {
                let location = store.locate(key).unwrap().unwrap();
                match store.read_stored(&location, &mut out) {
                    Ok(()) => assert_eq!(out, *bytes),
                    Err(StoreError::Entry { file, offset, .. }) => {
                        assert_eq!((file, offset), (format!("packs/{name}"), location.offset));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        put_file(&path, &bytes);
    }
}

#[test]
fn fault_10_an_index_that_does_not_fit_its_packs_is_noticed_and_healed() {
    let (_dir, root, entries) = filled();
    for change in [
        "UPDATE entry SET offset = offset + 1",
        "UPDATE entry SET offset = 9223372036854775807",
        "UPDATE entry SET offset = 0",
        "UPDATE entry SET stored_len = stored_len - 1",
        "UPDATE entry SET stored_len = 9223372036854775807",
        "UPDATE entry SET raw_len = 5",
        "UPDATE entry SET pack = 3 - pack",
        "UPDATE entry SET raw_len = -1",
        "UPDATE entry SET depth = 'x'",
        "DELETE FROM entry",
        "DELETE FROM pack",
        "DROP TABLE entry",
        "UPDATE state SET fold = x'00'",
        "PRAGMA user_version = 77",
        "UPDATE state SET repository = x'00000000000000000000000000000000'",
    ] {
        rusqlite::Connection::open(root.join("cache/index.db")).unwrap().execute_batch(change).unwrap();
        let store = Store::open(&root).unwrap();
        let mut out = Vec::new();
        for (key, bytes) in &entries {
            if let Ok(Some(location)) = store.locate(key) {
                match store.read_stored(&location, &mut out) {
                    Ok(()) => assert_eq!(out, *bytes, "{change}"),
                    Err(error) => assert!(matches!(error, StoreError::Entry { .. }), "{change}: {error}"),
                }
            }
        }
        for (key, bytes) in &entries {
            store.read(key, &mut out).unwrap_or_else(|error| panic!("{change}: {error}"));
            assert_eq!(out, *bytes, "{change}");
        }
    }
}

#[test]
fn fault_10_what_only_the_index_has_is_written_again() {
    let (_dir, root, entries) = filled();
    let (key, bytes) = &entries[0];
    for change in ["UPDATE entry SET offset = offset + 1", "UPDATE entry SET pack = 3 - pack"] {
        let store = Store::open(&root).unwrap();
        rusqlite::Connection::open(root.join("cache/index.db")).unwrap().execute_batch(change).unwrap();
        let tx = store.begin("test").unwrap();
        assert_eq!(tx.locate(key).unwrap(), None);
        tx.put(key, bytes, 700, &[]).unwrap();
        tx.seal().unwrap();
        assert_eq!(read(&tx, key), *bytes);
        assert!(store.take_notes().iter().any(|note| note.contains("passed over")));
        drop((tx, store));
        drop_index(&root);
        let copies = Store::open(&root).unwrap().copies(key).unwrap();
        assert!(copies.len() >= 2, "it was written again");
    }
}

#[test]
fn a_copy_found_bad_is_forgotten_and_written_again() {
    let (_dir, root, entries) = filled();
    let store = Store::open(&root).unwrap();
    let (key, bytes) = &entries[0];
    let leaning = &entries[1].0;
    assert_eq!(store.locate(leaning).unwrap().unwrap().depth, 1);
    store.forget(&store.locate(key).unwrap().unwrap()).unwrap();
    assert_eq!(store.locate(key).unwrap(), None);
    assert_eq!(store.locate(leaning).unwrap(), None, "it leans on what is lost");
    let tx = store.begin("again").unwrap();
    tx.put(key, bytes, 700, &[]).unwrap();
    tx.seal().unwrap();
    assert_eq!(read(&store, key), *bytes);
    assert_eq!(store.locate(leaning).unwrap().unwrap().depth, 1);
}

#[test]
fn fault_09_bit_flip_in_index() {
    let (_dir, root, entries) = filled();
    let store = Store::open(&root).unwrap();
    let stat = FileStat { size: 1, mtime_ns: 2, ctime_ns: 3, inode: u64::MAX, device: 5 };
    let known = StatEntry { stat, sha256: entries[0].0.id, manifest: entries[1].0.id, checked_ns: 6 };
    store.stat_cache().update(&[(b"w/\xff".to_vec(), known)], &[]).unwrap();
    assert_eq!(store.stat_cache().get(b"w/\xff").unwrap(), Some(known));
    assert_eq!(store.stat_cache().all().unwrap().len(), 1);
    drop(store);
    let path = root.join("cache/index.db");
    let bytes = std::fs::read(&path).unwrap();
    for bad in damaged(&bytes, bytes.len() / 24) {
        drop_index(&root);
        std::fs::create_dir(root.join("cache")).unwrap();
        std::fs::write(&path, &bad).unwrap();
        let store = Store::open(&root).unwrap();
        let mut out = Vec::new();
        for (key, bytes) in &entries {
            store.read(key, &mut out).unwrap();
            assert_eq!(out, *bytes);
        }
        let _ = store.stat_cache().all();
        let _ = store.ids(EntryKind::Block);
        let tx = store.begin("test").unwrap();
        tx.put(&entries[0].0, &entries[0].1, 700, &[]).unwrap();
        tx.seal().unwrap();
    }
}

#[test]
fn the_index_can_be_deleted_at_any_time() {
    let (_dir, root, entries) = filled();
    for form in 0..3 {
        let store = Store::open(&root).unwrap();
        match form {
            0 => std::fs::remove_file(root.join("cache/index.db")).unwrap(),
            1 => std::fs::remove_dir_all(root.join("cache")).unwrap(),
            _ => store.reindex().unwrap(),
        }
        let other = Store::open(&root).unwrap();
        for (key, bytes) in &entries {
            assert_eq!(read(&other, key), *bytes);
            let mut out = Vec::new();
            store.read(key, &mut out).unwrap();
            assert_eq!(out, *bytes);
        }
    }
}

#[test]
fn fault_08_an_index_that_cannot_be_written_is_kept_in_memory() {
    let (_dir, root, entries) = filled();
    drop_index(&root);
    // A file in the place of the folder: not even root can write an index below it.
    std::fs::write(root.join("cache"), b"").unwrap();
    let store = Store::open(&root).unwrap();
    assert!(store.take_notes()[0].contains("in memory"));
    for (key, bytes) in &entries {
        assert_eq!(read(&store, key), *bytes);
    }
}

#[test]
fn fault_09_bit_flip_in_gathered_index_file() {
    let dir = tempfile::tempdir().unwrap();
    Store::init(dir.path(), Cut::TEST).unwrap();
    let store = Store::open_with(dir.path(), StoreOptions { gather_above: 20, ..StoreOptions::default() }).unwrap();
    for n in 0..21 {
        let tx = store.begin("test").unwrap();
        tx.put(&block(n).0, &block(n).1, 1, &[]).unwrap();
        tx.seal().unwrap();
    }
    let names = files(&dir.path().join("index"));
    assert_eq!(names.len(), 1);
    let path = dir.path().join("index").join(&names[0]);
    let bytes = std::fs::read(&path).unwrap();
    for bad in damaged(&bytes, bytes.len() / 12) {
        put_file(&path, &bad);
        let store = open_afresh(dir.path());
        assert!(store.take_notes().iter().any(|note| note.contains("ignored")));
        for n in 0..21 {
            assert_eq!(read(&store, &block(n).0), block(n).1);
        }
    }
    // Whole, it serves packs whose own footers are lost.
    put_file(&path, &bytes);
    let pack = dir.path().join("packs").join(&files(&dir.path().join("packs"))[0]);
    let mut torn = std::fs::read(&pack).unwrap();
    let end = torn.len() - 20;
    torn[end] ^= 1;
    put_file(&pack, &torn);
    drop_index(dir.path());
    let store = Store::open(dir.path()).unwrap();
    for n in 0..21 {
        assert_eq!(read(&store, &block(n).0), block(n).1);
    }
}

#[test]
fn fault_03_fault_09_a_damaged_ref_is_an_error_and_never_an_older_state() {
    let (_dir, root, _) = filled();
    let store = Store::open(&root).unwrap();
    let target = |n: u8| Target::Commit(sha256(&[n]));
    let set = |name: &str, expected, n| store.refs().compare_and_swap(name, expected, target(n), "m", Nonce([1; 16]));
    let first = set("heads/main", None, 1).unwrap();
    let second = set("heads/main", Some(&first), 2).unwrap();
    set("heads/other", None, 3).unwrap();
    let folder = root.join("refs/heads%2fmain");
    let path = folder.join(&files(&folder)[0]);
    let bytes = std::fs::read(&path).unwrap();
    for bad in damaged(&bytes, 1) {
        put_file(&path, &bad);
        match store.refs().read("heads/main") {
            Err(RefError::Damaged { file, .. }) => assert!(root.join(file) == path),
            other => panic!("{other:?}"),
        }
        assert!(matches!(set("heads/main", Some(&second), 4), Err(RefError::Damaged { .. })));
        assert!(store.refs().list("").is_err());
        let each = store.refs().list_each("").unwrap();
        assert_eq!(each.iter().filter(|(_, state)| state.is_ok()).count(), 1);
    }
    // A state of another ref or generation in its place is damage too.
    put_file(&path, &first.encode());
    assert!(matches!(store.refs().read("heads/main"), Err(RefError::Damaged { .. })));
    put_file(&path, &bytes);
    assert_eq!(store.refs().read("heads/main").unwrap(), Some(second));
    // And one that was replaced in the middle of the log is seen there.
    let old = folder.join(&files(&folder)[1]);
    put_file(&old, &crate::RefState { nonce: Nonce([8; 16]), ..first }.encode());
    let log: Vec<_> = store.refs().log("heads/main").unwrap().collect();
    assert!(matches!(log[..], [Ok(_), Err(RefError::Broken { .. })]));
}

#[test]
fn fault_09_bit_flip_in_format_lease_and_epoch() {
    let (_dir, root, entries) = filled();
    let format = root.join("format");
    let bytes = std::fs::read(&format).unwrap();
    for bad in damaged(&bytes, 1) {
        put_file(&format, &bad);
        assert!(matches!(Store::open(&root), Err(StoreError::Record { file, .. }) if file == "format"));
    }
    put_file(&format, &bytes);
    let store = Store::open(&root).unwrap();

    let held = store.begin("held").unwrap();
    let lease = root.join(held.lease().file());
    let bytes = std::fs::read(&lease).unwrap();
    for bad in damaged(&bytes, 5) {
        put_file(&lease, &bad);
        let tx = store.begin("other").unwrap();
        tx.put(&entries[0].0, &entries[0].1, 700, &[]).unwrap();
        tx.check_epoch().unwrap();
        assert!(lease.exists(), "a lease that cannot be read may be anybody's");
        assert!(matches!(held.check_epoch(), Err(StoreError::Retry { .. })));
    }
    drop(held);

    store.epochs().begin([sha256(b"some pack")].into()).unwrap();
    let epoch = root.join("epochs").join(&files(&root.join("epochs"))[0]);
    let bytes = std::fs::read(&epoch).unwrap();
    for bad in damaged(&bytes, 5) {
        put_file(&epoch, &bad);
        assert!(matches!(store.begin("test"), Err(StoreError::Record { .. })));
        assert!(store.locate(&entries[0].0).unwrap().is_some(), "reading goes on");
    }
}

#[test]
fn fault_09_a_damaged_epoch_is_followed_by_one_that_can_be_read() {
    let (_dir, root, _) = filled();
    let store = Store::open(&root).unwrap();
    let packs: Vec<_> = store.packs().unwrap().iter().map(|pack| pack.id).collect();
    let (first, second, gone) = (packs[0], packs[1], sha256(b"some pack"));
    store.epochs().begin([first, gone].into()).unwrap();
    let old = store.begin("held").unwrap();
    store.epochs().begin([second].into()).unwrap();
    let claim = store.claim("repair").unwrap();
    assert_eq!(claim.repair_epochs().unwrap(), Vec::<String>::new());
    assert_eq!(store.epochs().current().unwrap().number, 2);
    let newest = files(&root.join("epochs")).remove(0);
    let bytes = std::fs::read(root.join("epochs").join(&newest)).unwrap();
    put_file(&root.join("epochs").join(&newest), &bytes[..bytes.len() / 2]);
    assert!(matches!(old.check_epoch(), Err(StoreError::Record { .. })));
    assert_eq!(claim.repair_epochs().unwrap(), [format!("epochs/{newest}")]);
    // Numbers go on, and what is known to be condemned, and there, stays so.
    let current = store.epochs().current().unwrap();
    assert_eq!((current.number, current.condemned), (3, [first].into()));
    assert_eq!(files(&root.join("epochs")).len(), 2);
    // Who began before is still waited for, and who begins now goes on.
    old.check_epoch().unwrap();
    let wait = store.leases().wait_for_older(3, std::time::Duration::ZERO);
    assert!(matches!(wait, Err(StoreError::Held(holders)) if holders.len() == 1));
    drop(old);
    store.leases().wait_for_older(3, std::time::Duration::ZERO).unwrap();
    assert_eq!(store.begin("test").unwrap().lease().epoch, 3);
    // One of a later version of shard is whole.
    let later = root.join("epochs").join(&files(&root.join("epochs"))[0]);
    put_file(&later, &crate::record::RecordWriter::new("epoch", 2).finish());
    assert_eq!(claim.repair_epochs().unwrap(), Vec::<String>::new());
    assert!(later.exists());
}

#[test]
fn fault_13_an_object_that_is_there_is_compared_and_never_overwritten() {
    let (_dir, root, _) = filled();
    let write = |root: &Path| {
        let store = Store::open(root).unwrap();
        let tx = store.begin("test").unwrap();
        tx.put(&block(50).0, &block(50).1, 1, &[]).unwrap();
        tx.seal()
    };
    let before = files(&root.join("packs"));
    write(&root).unwrap();
    let name = files(&root.join("packs")).into_iter().find(|name| !before.contains(name)).unwrap();
    // The same pack is there already, but this writer's index does not know it yet: as after a crash of the index.
    let bytes = std::fs::read(root.join("packs").join(&name)).unwrap();
    let store = Store::open(&root).unwrap();
    let path = root.join("packs").join(&name);
    std::fs::remove_file(&path).unwrap();
    store.refresh().unwrap();
    for (there, fine) in [(bytes.clone(), true), (b"something else".to_vec(), false)] {
        put_file(&path, b"");
        std::fs::remove_file(&path).unwrap();
        store.refresh().unwrap();
        let tx = store.begin("test").unwrap();
        tx.put(&block(50).0, &block(50).1, 1, &[]).unwrap();
        put_file(&path, &there);
        match tx.seal() {
            Ok(()) => assert!(fine),
            Err(StoreError::Pack { problem: PackError::Checksum(_), .. }) => assert!(!fine),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), there);
    }
}

#[test]
fn archives_are_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.shard");
    let ((a, a_bytes), (b, b_bytes)) = (block(1), block(2));
    let fill = || {
        let writer = ArchiveWriter::create(&path).unwrap();
        writer.put(&a, &a_bytes, 1, &[]).unwrap();
        writer.put(&b, &b_bytes, 2, &[a.id]).unwrap();
        writer.put(&b, b"ignored", 2, &[]).unwrap();
        let missing = writer.put(&block(3).0, b"", 2, &[block(4).0.id]);
        assert!(matches!(missing, Err(StoreError::MissingBase { .. })));
        assert_eq!(read(&writer, &b), b_bytes);
        assert_eq!(writer.locate(&b).unwrap().unwrap().depth, 1);
        writer
    };
    let writer = fill();
    assert!(!path.exists());
    drop(writer);
    assert!(files(dir.path()).is_empty());
    let (id, len) = fill().finish(false).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((sha256(&bytes), bytes.len() as u64), (id, len));
    assert_eq!(files(dir.path()), ["x.shard"]);
    let again = fill().finish(false);
    assert!(matches!(again, Err(StoreError::Backend(BackendError::AlreadyExists { .. }))));
    assert_eq!(fill().finish(true).unwrap().0, id, "the same entries make the same archive");

    let reader = ArchiveReader::open(&path).unwrap();
    assert_eq!(reader.keys(EntryKind::Block), [a, b]);
    assert_eq!(read(&reader, &a), a_bytes);
    assert_eq!(read(&reader, &b), b_bytes);
    assert_eq!(reader.locate(&b).unwrap().unwrap().depth, 1);
    assert_eq!(reader.locate(&block(3).0).unwrap(), None);
    assert_eq!(reader.pack().sha256().unwrap(), id);

    let mut out = Vec::new();
    for bad in damaged(&bytes, 37) {
        std::fs::write(&path, &bad).unwrap();
        match ArchiveReader::open(&path) {
            Err(StoreError::Pack { pack, .. }) => assert_eq!(Path::new(&pack), path),
            Err(error) => panic!("{error}"),
            Ok(reader) => {
                assert_ne!(reader.pack().sha256().unwrap(), id);
                for (key, bytes) in [(&a, &a_bytes), (&b, &b_bytes)] {
                    match reader.read_stored(&reader.locate(key).unwrap().unwrap(), &mut out) {
                        Ok(()) => assert_eq!(out, *bytes),
                        Err(error) => assert!(matches!(error, StoreError::Entry { .. })),
                    }
                }
            }
        }
    }
}

#[test]
fn fault_26_only_digests_are_packs() {
    let (_dir, root, entries) = filled();
    for name in ["x.pack", "../x.pack", &format!("{}.pack", "A".repeat(64)), &format!("{}.pack.tmp", "a".repeat(64))] {
        assert_eq!(crate::pack::parse_pack_name(name), None, "{name}");
    }
    std::fs::write(root.join("packs/notes.txt"), b"a stranger").unwrap();
    std::fs::create_dir(root.join("packs/folder")).unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(store.packs().unwrap().len(), 2);
    assert_eq!(read(&store, &entries[0].0), entries[0].1);
    // A folder in a pack's place is damage of that pack alone.
    std::fs::create_dir(root.join(format!("packs/{}.pack", "a".repeat(64)))).unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(read(&store, &entries[0].0), entries[0].1);
}
