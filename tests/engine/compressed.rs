//! Archives with deflated members: kept as the tensors in them where the encoder can be repeated, as they are where not, and given
//! back byte for byte either way.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_datasets::rng::Rng;
use shard_repo::{
    Archive, CheckoutOptions, CommitOptions, CompareOptions, PackOptions, Repository, Settings, compare_sides, pack,
};
use shard_repo::{Side, describe};
use shard_tests::zips::{deflate, npy, zip, zip_of};

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

/// Weights of a layer, `step` steps into a training.
fn weights(count: usize, step: usize) -> Vec<u8> {
    let (mut start, mut moves) = (Rng::new(1), Rng::new(2));
    let weights = (0..count).map(|_| 0.02 * start.normal() + step as f64 * 1e-5 * moves.normal());
    weights.flat_map(|weight| (weight as f32).to_le_bytes()).collect()
}

/// More than is held of a compressed member: 9 times 2^20 weights.
fn many_weights(step: usize) -> Vec<u8> {
    weights(1 << 20, step).repeat(9)
}

/// Adds files one after the other, and says how many bytes each took; then everything comes back from the repository and from an
/// archive.
fn kept(files: &[(&str, Vec<u8>)], cut: Cut) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::init(folder.path(), "main", cut, settings()).unwrap();
    let mut cost = Vec::new();
    let places: Vec<PathBuf> = files.iter().map(|(name, _)| folder.path().join(name)).collect();
    for ((_, bytes), place) in files.iter().zip(&places) {
        fs::write(place, bytes).unwrap();
        let report = repository.add(std::slice::from_ref(place), &NoProgress).unwrap();
        cost.push(report.cost.new_bytes);
    }
    let options = CommitOptions { message: "all".to_owned(), ..CommitOptions::default() };
    let commit = repository.commit(&options).unwrap().id;
    let out = tempfile::tempdir().unwrap();
    repository.export(&commit.to_hex(), &[], out.path(), CheckoutOptions { force: true }, &NoProgress).unwrap();
    are_there(files, out.path());
    assert_eq!(repository.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());
    let archive = out.path().join("all.shard");
    pack(&places, &archive, &PackOptions::default(), settings(), &NoProgress).unwrap();
    let opened = Archive::open(&archive).unwrap();
    assert_eq!(opened.verify(&NoProgress).unwrap().problems, Vec::<String>::new());
    let unpacked = out.path().join("unpacked");
    opened.unpack(&unpacked, false, settings(), &NoProgress).unwrap();
    are_there(files, &unpacked);
    cost
}

fn are_there(files: &[(&str, Vec<u8>)], folder: &Path) {
    for (name, bytes) in files {
        assert!(
            fs::read(folder.join(name)).unwrap() == *bytes,
            "expected {name} byte for byte in {}",
            folder.display()
        );
    }
}

/// Tensors and compressed runs that are seen in a file.
fn seen(bytes: &[u8]) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, bytes).unwrap();
    let manifest = describe(&path, Cut::V1, &NoProgress).unwrap().manifest;
    (manifest.tensors.len(), manifest.compressed.len())
}

#[test]
fn a_tensor_is_the_same_block_whether_it_is_deflated_or_not() {
    let (a, b) = (npy(&weights(300_000, 0)), npy(&weights(70_000, 3)));
    let stored = zip(&[("a.npy", &a, 0), ("b.npy", &b, 0)]);
    let deflated = zip(&[("a.npy", &a, 6), ("notes.txt", b"not a tensor", 6), ("b.npy", &b, 1)]);
    assert_eq!(seen(&deflated), (2, 2));
    for cut in [Cut::V1, Cut::TEST] {
        let cost = kept(&[("stored.npz", stored.clone()), ("deflated.zip", deflated.clone())], cut);
        assert!(cost[1] < 1000, "{cost:?}");
    }
}

#[test]
fn zeros_are_found_however_small_they_deflate() {
    let zeros = npy(&vec![0; 4 << 20]);
    let stored = zip(&[("z.npy", &zeros, 0), ("w.npy", &npy(&weights(5000, 0)), 0)]);
    let deflated = zip(&[("z.npy", &zeros, 6), ("w.npy", &npy(&weights(5000, 0)), 6)]);
    assert!(deflated.len() < 40_000);
    assert_eq!(seen(&deflated), (2, 2));
    let cost = kept(&[("stored.npz", stored), ("deflated.npz", deflated)], Cut::V1);
    assert!(cost[1] < 1000, "{cost:?}");
}

#[test]
fn the_next_version_of_a_deflated_tensor_is_a_delta() {
    let version = |step| zip(&[("w.npy", &npy(&weights(300_000, step)), 6)]);
    let (first, second) = (version(0), version(1));
    let cost = kept(&[("v1.npz", first), ("v2.npz", second.clone())], Cut::V1);
    assert!(3 * cost[1] < 2 * second.len() as u64, "{cost:?}, deflated {}", second.len());
}

#[test]
fn what_no_known_encoder_made_is_kept_as_it_is() {
    let data = npy(&weights(600_000, 0));
    let sound = deflate(&[(&data, 6)]);
    // The same level for the first two MB, and another for the rest: seen only when all of it was compressed.
    let (head, tail) = data.split_at(2_000_000);
    let mixed = deflate(&[(head, 6), (tail, 1)]);
    let first_differs = deflate(&[(&data[..1000], 6), (&data[1000..], 6)]);
    let mut damaged = sound.clone();
    let at = damaged.len() - 5000;
    damaged[at] ^= 0x10;
    let trailing = [&sound[..], b"more"].concat();
    let short = sound[..sound.len() - 10].to_vec();
    let file = |stream: &[u8]| zip_of(&[("w.npy", &data, true, stream)]);
    for (name, stream, runs) in [
        ("sound", &sound, 1),
        ("mixed", &mixed, 0),
        ("first", &first_differs, 0),
        ("damaged", &damaged, 0),
        ("trailing", &trailing, 0),
        ("short", &short, 0),
    ] {
        assert_eq!(seen(&file(stream)), (runs, runs), "{name}");
        kept(&[("w.npz", file(stream))], Cut::V1);
    }
}

#[test]
fn a_member_larger_than_what_is_held_is_read_front_to_back() {
    let data = npy(&many_weights(0));
    let file = zip(&[("w.npy", &data, 1)]);
    let cost = kept(&[("plain.npy", data), ("w.npz", file)], Cut::V1);
    assert!(cost[1] < 1000, "{cost:?}");
}

#[test]
fn deflated_files_are_compared_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str, step, level| {
        let path = folder.path().join(name);
        fs::write(&path, zip(&[("w.npy", &npy(&many_weights(step)), level)])).unwrap();
        path
    };
    let (old, new) = (place("old.npz", 0, 1), place("new.npz", 1, 1));
    let side = |path: &Path| Side::from_path(path, Cut::V1).unwrap();
    let found = compare_sides(&side(&old), &side(&new), CompareOptions::default(), &NoProgress).unwrap();
    let stats = found.tensors[0].stats.unwrap();
    assert_eq!(stats.words, 9 << 20);
    assert!((stats.relative.unwrap() - 5e-4).abs() < 1e-5, "{stats:?}");
}

/// CVE-2019-9674 and its like: 4 MiB that expand to 4 GiB are kept, and not expanded.
#[test]
fn fault_37_a_member_that_expands_without_end_is_not_expanded() {
    let header = npy(&[]);
    let zeros = vec![0u8; 64 << 20];
    // One flushed part, again and again, and the empty block that ends a stream.
    let end = deflate(&[(&[], 9)]);
    let part = |data: &[u8]| deflate(&[(data, 9), (&[], 9)]).strip_suffix(&end[..]).unwrap().to_vec();
    let stream = [part(&header), part(&zeros).repeat(64), end.clone()].concat();
    let mut file = zip_of(&[("w.npy", &header, true, &stream)]);
    // The length that both headers announce.
    let len = (header.len() as u64 + 64 * zeros.len() as u64).min(u64::from(u32::MAX) - 1) as u32;
    let directory = file.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    for at in [22, directory + 24] {
        file[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
    assert_eq!(seen(&file), (0, 0));
    kept(&[("bomb.npz", file)], Cut::V1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_archive_comes_back(
        members in prop::collection::vec((0usize..70_000, 0u32..10, 0usize..3), 0..6),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let files: Vec<(String, Vec<u8>, u32)> = members.iter().enumerate().map(|(index, (count, level, kind))| {
            let data = weights(*count, index);
            match kind {
                0 => (format!("{index}.npy"), npy(&data), *level),
                1 => (format!("{index}.bin"), data, *level),
                _ => (format!("{index}.zip"), zip(&[("x.npy", &npy(&data), *level)]), 9 - level),
            }
        }).collect();
        let borrowed: Vec<_> = files.iter().map(|(name, data, level)| (name.as_str(), &data[..], *level)).collect();
        let mut file = zip(&borrowed);
        if let Some((at, to)) = damage {
            let at = at.index(file.len());
            file[at] = to;
        }
        kept(&[("a.zip", file)], Cut::TEST);
    }
}
