//! Pushes and fetches.

use std::fs;
use std::time::{Duration, Instant};

use shard_core::{NoProgress, sha256};
use shard_repo::peer::{Chosen, RefMove, Supply};
use shard_repo::{FetchOptions, Peer as _, RefChange, RepoError, SyncProblem};
use shard_store::{EntryKey, EntryKind, EntrySource as _, Target};

use super::bench::{Bench, clone, commit, noise, push, whole};

#[test]
fn a_history_goes_through_a_server() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("team/model"), bench.init("here"));
    let peer = bench.peer("team/model");
    assert_eq!(peer.welcome().unwrap().refs, []);
    commit(&here, "model.bin", &noise(900_000, 0), "First");
    let report = push(&here, &peer, &[]).unwrap();
    assert_eq!((report.commits, report.refs[0].change), (1, RefChange::New));
    let second = commit(&here, "model.bin", &noise(900_000, 9), "Second");
    here.create_tag("v2", "HEAD", &shard_repo::TagOptions { message: Some("two".to_owned()), ..Default::default() })
        .unwrap();
    let report = push(&here, &peer, &["main", "v2"]).unwrap();
    assert!(report.bytes < 100_000 && report.refs.len() == 2, "{report:?}");
    assert_eq!(push(&here, &peer, &["main", "v2"]).unwrap().refs, []);
    assert_eq!((hub.resolve("main").unwrap(), hub.resolve("v2").unwrap()), (second, second));
    whole(&hub);

    let (copy, report) = clone(&peer, &bench.place("copy"));
    assert_eq!((report.commits, fs::read(bench.place("copy/model.bin")).unwrap()), (2, noise(900_000, 9)));
    whole(&copy);
    let third = commit(&here, "more.bin", &noise(300_000, 5), "Third");
    push(&here, &peer, &[]).unwrap();
    let options = FetchOptions { dry_run: true, ..FetchOptions::default() };
    let plan = copy.fetch(Some("origin"), &peer, &options, &NoProgress).unwrap();
    let report = copy.fetch(Some("origin"), &peer, &FetchOptions::default(), &NoProgress).unwrap();
    assert_eq!((plan.entries, plan.bytes, plan.refs), (report.entries, report.bytes, report.refs));
    assert_eq!(copy.resolve("origin/main").unwrap(), third);
    whole(&copy);
}

#[test]
fn who_comes_second_is_told_over_http_too() {
    let bench = Bench::new();
    let hub = bench.served("hub");
    let peer = bench.peer("hub");
    let one = bench.init("one");
    commit(&one, "a.bin", b"a", "First");
    push(&one, &peer, &[]).unwrap();
    let (two, _) = clone(&peer, &bench.place("two"));
    commit(&two, "b.bin", b"b", "Theirs");
    push(&two, &peer, &[]).unwrap();
    commit(&one, "c.bin", b"c", "Ours");
    let refused = push(&one, &peer, &[]);
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::NotFastForward { .. }))), "{refused:?}");
    // Who says that a branch is elsewhere than it is moves nothing.
    let inbound = peer.inbound().unwrap();
    let head = one.resolve("main").unwrap();
    let kind = shard_history::revision::RefKind::Branch;
    let moves = |from| [RefMove { kind, name: "main".to_owned(), from, to: Target::Commit(head), is_forced: true }];
    let refused = inbound.move_refs(&moves(Target::Deleted));
    assert!(matches!(refused, Err(RepoError::Raced(_))), "{refused:?}");
    // Nor does a commit move a branch that was never sent.
    let now = Target::Commit(two.resolve("main").unwrap());
    let refused = inbound.move_refs(&moves(now.clone()));
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::Lacking { .. }))), "{refused:?}");
    assert_eq!(Target::Commit(hub.resolve("main").unwrap()), now);
    hub.protect("main").unwrap();
    let refused = push(&one, &peer, &["+main"]);
    assert!(
        matches!(&refused, Err(RepoError::Sync(SyncProblem::Refused { why, .. })) if why.contains("protect")),
        "{refused:?}"
    );
    whole(&hub);
}

/// Sends the stored bytes of something else than it says.
struct Lying {
    told: EntryKey,
    bytes: Vec<u8>,
    is_over: std::sync::atomic::AtomicBool,
}

impl Supply for Lying {
    fn next(&self, stored: &mut Vec<u8>) -> Result<Option<Chosen>, RepoError> {
        if self.is_over.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return Ok(None);
        }
        stored.clone_from(&self.bytes);
        Ok(Some(Chosen { key: self.told, is_base: false }))
    }
}

#[test]
fn fault_19_what_does_not_decode_to_its_id_stays_missing() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    commit(&here, "model.bin", &noise(400_000, 0), "First");
    let keys = here.store().keys(EntryKind::Block).unwrap();
    let mut bytes = Vec::new();
    here.store().read(&keys[1], &mut bytes).unwrap();
    let lying = |bytes| Lying { told: keys[0], bytes, is_over: Default::default() };
    let peer = bench.peer("hub");
    let inbound = peer.inbound().unwrap();
    for bytes in [bytes, b"no block at all".to_vec(), Vec::new()] {
        let refused = inbound.take(&lying(bytes), &NoProgress);
        assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::Refused { .. }))), "{refused:?}");
        assert_eq!(inbound.has(&keys[..1]).unwrap(), [false]);
    }
    drop(inbound);
    assert!(hub.store().locate(&keys[0]).unwrap().is_none());
    push(&here, &peer, &[]).unwrap();
    whole(&hub);
}

#[test]
fn a_delta_whose_base_is_not_there_is_refused() {
    let bench = Bench::new();
    let (hub, here) = (bench.served("hub"), bench.init("here"));
    let words = |moved: u16| -> Vec<u8> {
        let mut word = 1u16;
        let each = |at: u16| {
            word = word.wrapping_mul(25_173).wrapping_add(13_849);
            (0x3c00 + (word >> 6) + u16::from(at.is_multiple_of(50)) * moved).to_le_bytes()
        };
        (0..20_000u16).flat_map(each).collect()
    };
    let file = |moved| {
        let mut header = br#"{"w":{"dtype":"BF16","shape":[200,100],"data_offsets":[0,40000]}}"#.to_vec();
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header, &words(moved)].concat()
    };
    commit(&here, "m.safetensors", &file(0), "First");
    commit(&here, "m.safetensors", &file(1), "Second");
    let all = here.store().keys(EntryKind::Block).unwrap();
    let bases = |key: &EntryKey| here.store().copies_and_bases(key).unwrap().remove(0).1;
    let delta = *all.iter().find(|key| !bases(key).is_empty()).unwrap();
    let chosen = vec![Chosen { key: delta, is_base: false }];
    let peer = bench.peer("hub");
    let inbound = peer.inbound().unwrap();
    let refused = inbound.take(here.supply(chosen).as_ref(), &NoProgress);
    assert!(matches!(refused, Err(RepoError::Sync(SyncProblem::Lacking { .. }))), "{refused:?}");
    assert_eq!(inbound.has(&[delta]).unwrap(), [false]);
    drop(inbound);
    // The next writer sends it with what it leans on.
    push(&here, &peer, &[]).unwrap();
    hub.store().read(&delta, &mut Vec::new()).unwrap();
    whole(&hub);
}

#[test]
fn a_push_that_is_left_alone_ends() {
    let bench = Bench::with(|options, _| options.limits.idle = Duration::from_millis(200));
    let hub = bench.served("hub");
    let peer = bench.peer("hub");
    let inbound = peer.inbound().unwrap();
    assert_eq!(hub.leases().unwrap().len(), 1);
    let start = Instant::now();
    while !hub.leases().unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    let over = inbound.has(&[EntryKey::block(sha256(b"x"))]);
    assert!(
        matches!(&over, Err(RepoError::Sync(SyncProblem::Refused { why, .. })) if why.contains("over")),
        "{over:?}"
    );
}
