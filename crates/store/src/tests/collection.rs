//! Collections and writers that overlap.

use std::collections::HashSet;

use shard_core::Digest;

use super::basics::{block, files, read, repository};
use crate::entry::{EntryKey, EntrySink, EntrySource};
use crate::process::Process;
use crate::{Nonce, RefUpdate, Store, StoreError, Target};

fn write(store: &Store, n: u64) -> (EntryKey, Digest) {
    let (key, bytes) = block(n);
    let tx = store.begin("test").unwrap();
    tx.put(&key, &bytes, 1, &[]).unwrap();
    tx.seal().unwrap();
    let location = store.locate(&key).unwrap().unwrap();
    let crate::PackId::Sealed(pack) = location.pack else { panic!("it was sealed") };
    (key, pack)
}

fn update(key: &EntryKey) -> Vec<RefUpdate> {
    vec![RefUpdate { name: "heads/x".to_owned(), expected: None, target: Target::Commit(key.id) }]
}

#[test]
fn fault_15_a_writer_that_counted_on_condemned_packs_begins_again() {
    let (_dir, store) = repository();
    let (key, pack) = write(&store, 1);
    let (other, _) = write(&store, 2);
    let counted = store.begin("counts on it").unwrap();
    counted.put(&key, &block(1).1, 1, &[]).unwrap();
    let leaned = store.begin("leans on it").unwrap();
    leaned.put(&block(3).0, &block(3).1, 1, &[key.id]).unwrap();
    let unaware = store.begin("does not").unwrap();
    unaware.put(&other, &block(2).1, 1, &[]).unwrap();

    store.epochs().begin(HashSet::from([pack])).unwrap();
    for tx in [&counted, &leaned] {
        let moved = tx.update_refs(&update(&key), "", Nonce([1; 16]));
        assert!(matches!(moved, Err(StoreError::Retry { condemned }) if condemned == [pack]));
    }
    assert_eq!(store.refs().read("heads/x").unwrap(), None);
    unaware.update_refs(&update(&other), "", Nonce([1; 16])).unwrap();

    // Begun again, it does not count on the condemned pack but writes its own copy.
    let again = store.begin("again").unwrap();
    assert_eq!(again.locate(&key).unwrap(), None);
    again.put(&key, &block(1).1, 1, &[]).unwrap();
    again.seal().unwrap();
    again.check_epoch().unwrap();
    assert_eq!(store.copies(&key).unwrap().len(), 2);
    store.claim("test").unwrap().delete_packs(&[pack]).unwrap();
    assert_eq!(store.copies(&key).unwrap().len(), 1);
    assert_eq!(read(&store, &key), block(1).1);
}

#[test]
fn fault_15_a_reader_whose_pack_goes_finds_the_other_copy() {
    let (_dir, store) = repository();
    let (key, pack) = write(&store, 1);
    let reader = Store::open(store.root().unwrap()).unwrap();
    let tx = store.begin("copy").unwrap();
    tx.put_copy(&key, b"encoded otherwise", 1, &[]).unwrap();
    tx.seal().unwrap();
    store.claim("test").unwrap().delete_packs(&[pack]).unwrap();
    let mut out = Vec::new();
    reader.read(&key, &mut out).unwrap();
    assert_eq!(out, b"encoded otherwise");
}

#[test]
fn fault_15_a_broken_lease_stops_its_holder() {
    let (_dir, store) = repository();
    let tx = store.begin("test").unwrap();
    let (key, bytes) = block(1);
    tx.put(&key, &bytes, 1, &[]).unwrap();
    store.leases().force_remove(&tx.lease().file()).unwrap();
    let moved = tx.update_refs(&update(&key), "", Nonce([1; 16]));
    assert!(matches!(moved, Err(StoreError::Retry { .. })));
    assert!(store.leases().force_remove("../format").is_err());
    assert!(store.leases().force_remove("leases/../format").is_err());
}

#[test]
fn fault_17_leases_of_the_dead_are_removed_and_others_kept() {
    let (_dir, store) = repository();
    let leases = store.root().unwrap().join("leases");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let plant = |process: Process| {
        let (held, _) = store.leases().acquire("planted").unwrap();
        let lease = crate::lease::Lease { process, ..held.lease().clone() };
        drop(held);
        store.backend().put_if_absent(&lease.file(), &lease.encode()).unwrap();
        lease
    };
    let me = Process::current();
    let running = plant(Process { pid: child.id(), start: "-".to_owned(), ..me.clone() });
    let foreign = plant(Process { boot: "f".repeat(16), machine: "-".to_owned(), ..me.clone() });
    std::fs::write(leases.join("0000000000000000-torn"), b"shard-lease 1\nepo").unwrap();
    let mine = store.begin("mine").unwrap();
    assert_eq!(files(&leases).len(), 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let other = store.begin("other").unwrap();
    let left: Vec<String> = files(&leases).into_iter().map(|name| format!("leases/{name}")).collect();
    assert!(!left.contains(&running.file()));
    for kept in [foreign.file(), mine.lease().file(), other.lease().file(), "leases/0000000000000000-torn".to_owned()] {
        assert!(left.contains(&kept), "{kept}");
    }
    assert_eq!(store.leases().list().unwrap().iter().filter(|(_, lease)| lease.is_err()).count(), 1);
}

#[test]
fn copies_are_chosen_by_depth_and_never_in_a_circle() {
    let (_dir, store) = repository();
    let put = |n: u64, bases: &[Digest]| {
        let tx = store.begin("test").unwrap();
        tx.put_copy(&block(n).0, format!("{n} on {bases:?}").as_bytes(), 1, bases).unwrap();
        tx.seal().unwrap();
        store.packs().unwrap().into_iter().map(|pack| pack.id).collect::<HashSet<_>>()
    };
    let (a, b) = (block(1).0, block(2).0);
    let keyframe = put(1, &[]);
    put(2, &[a.id]);
    put(1, &[b.id]);
    let depths = |store: &Store, key: &EntryKey| -> Vec<u32> {
        store.copies(key).unwrap().iter().map(|location| location.depth).collect()
    };
    for _ in 0..2 {
        assert_eq!((depths(&store, &a), depths(&store, &b)), (vec![0, 2], vec![1]));
        store.reindex().unwrap();
    }
    // Without the keyframe the two lean on each other only: neither can be decoded, and nobody is told otherwise.
    store.claim("test").unwrap().delete_packs(&keyframe.into_iter().collect::<Vec<_>>()).unwrap();
    assert_eq!((store.locate(&a).unwrap(), store.locate(&b).unwrap()), (None, None));
    let mut lost = store.undecodable().unwrap();
    lost.sort();
    let mut expected = vec![a, b];
    expected.sort();
    assert_eq!(lost, expected);
    // A new keyframe heals both.
    put(2, &[]);
    assert_eq!((depths(&store, &a), depths(&store, &b)), (vec![1], vec![0, 2]));
    assert!(store.undecodable().unwrap().is_empty());
}

#[test]
fn fault_15_a_writer_does_not_count_on_what_leans_on_condemned_packs() {
    let (_dir, store) = repository();
    let put = |n: u64, bases: &[Digest]| {
        let tx = store.begin("test").unwrap();
        tx.put_copy(&block(n).0, format!("{n} on {bases:?}").as_bytes(), 1, bases).unwrap();
        tx.seal().unwrap();
        let crate::PackId::Sealed(pack) = store.locate(&block(n).0).unwrap().unwrap().pack else { panic!() };
        pack
    };
    let (a, b, c) = (block(1).0, block(2).0, block(3).0);
    let pack = put(1, &[]);
    put(2, &[a.id]);
    put(3, &[b.id]);
    let claim = store.claim("test").unwrap();
    store.epochs().begin(HashSet::from([pack])).unwrap();
    let tx = store.begin("under the new epoch").unwrap();
    for key in [a, b, c] {
        assert_eq!(tx.locate(&key).unwrap(), None, "it could not be decoded once the pack has gone");
    }
    // What it writes itself makes the rest sound again, at another depth.
    tx.put(&block(9).0, b"another", 1, &[]).unwrap();
    tx.put_copy(&a, b"a on another", 1, &[block(9).0.id]).unwrap();
    assert_eq!(tx.locate(&c).unwrap().map(|location| location.depth), Some(3));
    tx.seal().unwrap();
    claim.delete_packs(&[pack]).unwrap();
    assert_eq!(store.locate(&c).unwrap().map(|location| location.depth), Some(3));
    assert!(store.undecodable().unwrap().is_empty());
    tx.check_epoch().unwrap();
}

#[test]
fn fault_15_a_writer_counts_on_the_copy_that_is_least_deep_without_condemned_packs() {
    let (_dir, store) = repository();
    let put = |n: u64, bases: &[Digest]| {
        let tx = store.begin_copy("test").unwrap();
        tx.put_copy(&block(n).0, format!("{n} on {bases:?}").as_bytes(), 1, bases).unwrap();
        let location = tx.locate(&block(n).0).unwrap().unwrap();
        tx.seal().unwrap();
        let crate::PackId::Sealed(pack) = tx.locate(&location.key).unwrap().unwrap().pack else { panic!() };
        pack
    };
    let id = |n| block(n).0.id;
    // Block 5 leans on 4, and in a second copy on 2 and 3 beside it. With the keyframe of 4 the first is the least deep; without
    // it 4 is three deep.
    put(1, &[]);
    put(2, &[id(1)]);
    put(3, &[id(2)]);
    let keyframe = put(4, &[]);
    put(4, &[id(3)]);
    put(5, &[id(4)]);
    let better = put(5, &[id(2)]);
    assert_eq!(store.locate(&block(5).0).unwrap().map(|location| location.depth), Some(1));
    store.epochs().begin(HashSet::from([keyframe])).unwrap();
    let tx = store.begin("under the new epoch").unwrap();
    let found = tx.locate(&block(5).0).unwrap().unwrap();
    assert_eq!((found.depth, found.pack), (2, crate::PackId::Sealed(better)));
    assert_eq!(tx.locate(&block(4).0).unwrap().map(|location| location.depth), Some(3));
    tx.check_epoch().unwrap();
}

#[test]
fn fault_15_a_chain_that_is_condemned_at_its_end_is_walked_once() {
    let (_dir, store) = repository();
    // Each block has six copies, each on both blocks before it: 12^n ways down to keyframes that are condemned.
    let mut condemned = HashSet::new();
    let depth = shard_core::limits::MAX_DEPTH as u64;
    for n in 0..=depth {
        for way in 0..2 {
            for copy in 0..6 {
                let bases: Vec<Digest> =
                    if n == 0 { vec![] } else { vec![block(n * 2 - 2).0.id, block(n * 2 - 1).0.id] };
                let tx = store.begin_copy("test").unwrap();
                let key = block(n * 2 + way).0;
                tx.put_copy(&key, format!("{n} {way} {copy}").as_bytes(), 1, &bases).unwrap();
                tx.seal().unwrap();
                if n == 0 {
                    let crate::PackId::Sealed(pack) = tx.locate(&key).unwrap().unwrap().pack else { panic!() };
                    condemned.insert(pack);
                }
            }
        }
    }
    store.epochs().begin(condemned).unwrap();
    let tx = store.begin("under the new epoch").unwrap();
    let began = std::time::Instant::now();
    for n in 0..=depth * 2 + 1 {
        assert_eq!(tx.locate(&block(n).0).unwrap(), None);
    }
    // 12^8 steps take hours.
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn of_many_who_claim_one_at_a_time_has_it() {
    let (_dir, store) = repository();
    let (root, holders) = (store.root().unwrap(), std::sync::atomic::AtomicUsize::new(0));
    let had = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(root).unwrap();
                for _ in 0..8 {
                    match store.claim("race") {
                        Ok(claim) => {
                            assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            std::thread::sleep(std::time::Duration::from_millis(1));
                            claim.check().unwrap();
                            holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            had.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        }
                        Err(StoreError::Claimed(holder)) => assert!(holder.lease.is_none_or(|lease| lease.is_claim())),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(had.into_inner() > 0);
    // A claim is nobody's reason to wait, and one that is broken deletes nothing.
    let claim = store.claim("test").unwrap();
    store.leases().wait_for_older(9, std::time::Duration::ZERO).unwrap();
    let (key, pack) = write(&store, 1);
    store.leases().force_remove(&claim.lease().file()).unwrap();
    assert!(matches!(claim.delete_packs(&[pack]), Err(StoreError::ClaimLost)));
    assert_eq!(read(&store, &key), block(1).1);
}

#[test]
fn an_inventory_has_every_copy_and_a_choice_one_of_each() {
    let (_dir, store) = repository();
    let put = |n: u64, bases: &[Digest], text: &str| {
        let before: HashSet<Digest> = store.packs().unwrap().into_iter().map(|pack| pack.id).collect();
        let tx = store.begin("test").unwrap();
        tx.put_copy(&block(n).0, text.as_bytes(), 1, bases).unwrap();
        tx.seal().unwrap();
        store.packs().unwrap().into_iter().map(|pack| pack.id).find(|id| !before.contains(id)).unwrap()
    };
    let (a, b) = (block(1).0, block(2).0);
    let keyframe = put(1, &[], "a keyframe");
    let on_a = put(2, &[a.id], "b on a");
    let alone = put(2, &[], "b alone, longer");
    put(1, &[b.id], "a on b");
    let inventory = crate::Inventory::read(&store).unwrap();
    assert_eq!((inventory.len(), inventory.packs().len()), (2, 4));
    let number = |id: &Digest| inventory.packs().iter().position(|pack| pack.id == *id).unwrap();
    let entry = |key: &EntryKey| inventory.find(key).unwrap();
    assert_eq!(inventory.key(entry(&a)), a);
    assert_eq!(inventory.of_kind(crate::EntryKind::Block), 0..2);
    let chosen = |avoided: &[&Digest], key: &EntryKey| {
        let mut packs = [false; 4];
        avoided.iter().for_each(|id| packs[number(id)] = true);
        let choice = crate::Choice::new(&store, &inventory, &packs, &[]);
        let copy = choice.copy(entry(key)).unwrap();
        (inventory.packs()[inventory.pack_of(copy) as usize].id, choice.depth(entry(key)).unwrap())
    };
    // The least deep ones, as readers have it; others where packs are to go.
    assert_eq!((chosen(&[], &a), chosen(&[], &b)), ((keyframe, 0), (alone, 0)));
    assert_eq!(chosen(&[&keyframe], &a).1, 1);
    assert_eq!(chosen(&[&alone], &b), (on_a, 1));
    // Without either, one of them has to come from a pack that goes, and they never lean on each other.
    let both = [chosen(&[&keyframe, &alone], &a).1, chosen(&[&keyframe, &alone], &b).1];
    assert!(both.contains(&0), "{both:?}");
    // Of equal ones that with the least rank.
    let again = put(1, &[], "a keyframe, again");
    let inventory = crate::Inventory::read(&store).unwrap();
    for best in [keyframe, again] {
        let rank: Vec<u64> = inventory.packs().iter().map(|pack| u64::from(pack.id != best)).collect();
        let choice = crate::Choice::new(&store, &inventory, &[], &rank);
        let location = choice.locate(&a).unwrap().unwrap();
        assert_eq!(location.pack, crate::PackId::Sealed(best));
    }
    // A copy that was found bad does not count where there is another.
    let location = store.copies(&a).unwrap().into_iter().find(|l| l.pack == crate::PackId::Sealed(again)).unwrap();
    store.forget(&location).unwrap();
    let inventory = crate::Inventory::read(&store).unwrap();
    assert_eq!(inventory.copies(inventory.find(&a).unwrap()).len(), 2);
}

#[test]
fn old_records_of_epochs_go_and_the_newest_never() {
    let (_dir, store) = repository();
    for _ in 0..4 {
        store.epochs().begin(HashSet::new()).unwrap();
    }
    assert_eq!(store.epochs().prune(3).unwrap(), 2);
    assert_eq!(store.epochs().prune(9).unwrap(), 1);
    assert_eq!(store.epochs().current().unwrap().number, 4);
    assert_eq!(files(&store.root().unwrap().join("epochs")).len(), 1);
}

#[test]
fn an_index_file_that_serves_no_pack_is_idle() {
    let (_dir, store) = repository();
    let packs: Vec<Digest> = (0..70).map(|n| write(&store, n).1).collect();
    assert_eq!(files(&store.root().unwrap().join("index")).len(), 1);
    assert!(store.idle_index_files().unwrap().is_empty());
    store.claim("test").unwrap().delete_packs(&packs).unwrap();
    assert_eq!(store.idle_index_files().unwrap().len(), 1);
    assert_eq!(store.packs().unwrap(), []);
    assert!(store.keys(crate::EntryKind::Block).unwrap().is_empty());
}
