//! Blocks that are predicted from the two versions before them: where weights go on moving as they did, a series takes less, and
//! comes back byte for byte.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use shard_core::limits::{Cut, MAX_DEPTH};
use shard_core::{Digest, NoProgress};
use shard_datasets::rng::Rng;
use shard_repo::{Archive, CheckoutOptions, CommitOptions, PackOptions, RepoError, Repository, Settings, pack};
use shard_store::{ArchiveReader, EntryKey, EntrySource};
use shard_tests::damage::overwrite;
use shard_tests::rewrite::{Tensor, read, write};
use shard_tests::tree::files_ending;
use tempfile::TempDir;

const ROWS: usize = 160;
const COLUMNS: usize = 256;

/// Versions of two matrices of 40 Ki words each, as files. Each weight has a velocity that changes slowly, and noise.
fn series(seed: u64, count: usize, dtype: Dtype) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mut weights: Vec<(f64, f64)> =
        (0..2 * ROWS * COLUMNS).map(|_| (0.02 * rng.normal(), 8e-5 * rng.normal())).collect();
    let mut versions = Vec::new();
    for _ in 0..count {
        let bytes: Vec<u8> = weights.iter().flat_map(|(weight, _)| word(*weight as f32, dtype)).collect();
        let matrix = |(index, bytes): (usize, &[u8])| Tensor {
            name: format!("layer.{index}"),
            dtype,
            shape: vec![ROWS, COLUMNS],
            bytes: bytes.to_vec(),
        };
        versions.push(write(&bytes.chunks(bytes.len() / 2).enumerate().map(matrix).collect::<Vec<_>>()));
        for (weight, velocity) in &mut weights {
            *weight += *velocity + 5e-6 * rng.normal();
            *velocity = 0.97 * *velocity + 2e-5 * rng.normal();
        }
    }
    versions
}

fn word(value: f32, dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => (((value.to_bits() + 0x8000) >> 16) as u16).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

/// A folder with a series of files.
fn written(versions: &[Vec<u8>]) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> =
        (0..versions.len()).map(|step| folder.path().join(format!("step-{step}.safetensors"))).collect();
    files.iter().zip(versions).for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    (folder, files)
}

/// Packs files with chains of so many bases, and gives by how much each of them made the archive grow.
fn packed(files: &[PathBuf], out: &Path, depth: u32) -> Vec<u64> {
    let options = PackOptions { force: true, depth: Some(depth), ..PackOptions::default() };
    let report = pack(files, out, &options, settings(), &NoProgress).unwrap();
    report.files.iter().map(|file| file.growth).collect()
}

#[test]
fn a_series_with_momentum_takes_less_on_two_versions() {
    for dtype in [Dtype::BF16, Dtype::F32] {
        let versions = series(1, MAX_DEPTH as usize + 3, dtype);
        let (folder, files) = written(&versions);
        let out = folder.path().join("series.shard");
        let growth = packed(&files, &out, MAX_DEPTH);
        // Where the version before is a keyframe, there is no other one to be had.
        let other = folder.path().join("two.shard");
        let alone: Vec<u64> = files.windows(2).map(|two| packed(two, &other, 1)[1]).collect();
        let last = MAX_DEPTH as usize;
        let (on_two, on_one): (u64, u64) = (growth[2..=last].iter().sum(), alone[1..last].iter().sum());
        println!("{dtype:?}: {on_two} bytes on two versions, {on_one} on one");
        let percent = if dtype == Dtype::BF16 { 93 } else { 98 };
        assert!(on_two * 100 < on_one * percent, "{on_two} bytes on two versions, {on_one} on one");

        let archive = Archive::open(&out).unwrap();
        let mut pairs = 0;
        let mut before: Option<Vec<Digest>> = None;
        for (step, file) in archive.root.files.iter().enumerate() {
            let storage = archive.storage(file).unwrap();
            for block in storage.blocks.values() {
                assert!(block.depth <= MAX_DEPTH);
                let Some(base) = block.base.as_ref().filter(|_| block.chain.starts_with("pair+")) else { continue };
                pairs += 1;
                let [newer, older] = &base.ranges[..] else { panic!("{base:?}") };
                assert_eq!((newer.start, older.start, newer.len, older.len), (0, 0, newer.len, newer.len));
                assert_eq!(u64::from(newer.len), block.raw);
                assert!(step > MAX_DEPTH as usize || before.as_ref().unwrap().contains(&newer.block.unwrap()));
            }
            before = Some(storage.blocks.keys().copied().collect());
        }
        assert!(pairs >= 10, "{pairs} blocks lean on two versions");
        assert_eq!(archive.verify(&NoProgress).unwrap().problems, Vec::<String>::new());
        let restored = folder.path().join("out");
        archive.unpack(&restored, false, settings(), &NoProgress).unwrap();
        for (file, bytes) in files.iter().zip(&versions) {
            assert!(fs::read(restored.join(file.file_name().unwrap())).unwrap() == *bytes, "{}", file.display());
        }
        let one = Settings { threads: 1, ..settings() };
        pack(
            &files,
            &other,
            &PackOptions { force: true, depth: Some(MAX_DEPTH), ..PackOptions::default() },
            one,
            &NoProgress,
        )
        .unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(&other).unwrap(), "the same for any number of threads");
    }
}

/// A repository with a series under one name.
fn kept(versions: &[Vec<u8>]) -> (TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::init(folder.path(), "main", Cut::TEST, settings()).unwrap();
    let place = folder.path().join("model.safetensors");
    for bytes in versions {
        fs::write(&place, bytes).unwrap();
        repository.add(std::slice::from_ref(&place), &NoProgress).unwrap();
        repository.commit(&CommitOptions { message: "next".to_owned(), ..CommitOptions::default() }).unwrap();
    }
    (folder, repository)
}

fn export(repository: &Repository, revision: &str) -> Result<Vec<u8>, RepoError> {
    let out = tempfile::tempdir().unwrap();
    repository.export(revision, &[], out.path(), CheckoutOptions { force: true }, &NoProgress)?;
    Ok(fs::read(out.path().join("model.safetensors")).unwrap())
}

#[test]
fn every_version_of_a_repository_comes_back() {
    for dtype in [Dtype::BF16, Dtype::F32] {
        let versions = series(2, 12, dtype);
        let (_folder, repository) = kept(&versions);
        let (mut pairs, mut deepest) = (0, 0);
        for (back, bytes) in versions.iter().rev().enumerate() {
            let revision = format!("HEAD~{back}");
            assert!(export(&repository, &revision).unwrap() == *bytes, "{revision}");
            let at = shard_history::Revision::parse(&revision).unwrap();
            let entry = repository.file_at(&at, "model.safetensors").unwrap();
            let (_, storage) = repository.storage(entry.manifest).unwrap();
            pairs += storage.blocks.values().filter(|block| block.chain.starts_with("pair+")).count();
            deepest = storage.blocks.values().map(|block| block.depth).max().unwrap().max(deepest);
        }
        println!("{dtype:?}: {pairs} pairs, {deepest} deep");
        assert!(pairs > 0, "{dtype:?}");
        assert!((3..=6).contains(&deepest), "a second version costs no link of a chain: {deepest}");
        for full in [true, false] {
            assert_eq!(repository.verify(full, &NoProgress).unwrap().problems, Vec::<String>::new());
        }
    }
}

#[test]
fn damage_to_the_older_version_is_told() {
    let versions = series(3, 4, Dtype::BF16);
    let (folder, files) = written(&versions[..3]);
    let out = folder.path().join("series.shard");
    packed(&files, &out, MAX_DEPTH);
    let archive = Archive::open(&out).unwrap();
    let storage = archive.storage(&archive.root.files[2]).unwrap();
    let pair = storage.blocks.values().find(|block| block.chain.starts_with("pair+")).unwrap();
    let older = pair.base.as_ref().unwrap().ranges[1].block.unwrap();
    let location = ArchiveReader::open(&out).unwrap().locate(&EntryKey::block(older)).unwrap().unwrap();
    let mut bytes = fs::read(&out).unwrap();
    bytes[(location.offset + location.stored_len / 2) as usize] ^= 1;
    overwrite(&out, &bytes);
    let archive = Archive::open(&out).unwrap();
    let result = archive.unpack(&folder.path().join("out"), false, settings(), &NoProgress);
    assert!(matches!(result, Err(RepoError::Store(_))), "{result:?}");
    assert!(!archive.verify(&NoProgress).unwrap().problems.is_empty());

    // The pack of the first version is gone: all that leans on it is, and what comes next is kept all the same.
    let (folder, repository) = kept(&versions[..3]);
    let packs = files_ending(&repository.dir(), ".pack");
    let largest = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    let repository = Repository::discover(folder.path(), settings()).unwrap();
    let result = export(&repository, "HEAD");
    assert!(matches!(result, Err(RepoError::Store(_) | RepoError::Missing { .. })), "{:?}", result.map(|_| ()));
    assert!(!repository.verify(true, &NoProgress).unwrap().problems.is_empty());
    let place = folder.path().join("model.safetensors");
    fs::write(&place, &versions[3]).unwrap();
    repository.add(&[place], &NoProgress).unwrap();
    repository.commit(&CommitOptions { message: "next".to_owned(), ..CommitOptions::default() }).unwrap();
    assert!(export(&repository, "HEAD").unwrap() == versions[3]);
}

#[test]
fn other_cuts_lean_on_blocks_that_lean_on_two() {
    for dtype in [Dtype::BF16, Dtype::F32] {
        for count in [3, 5, 7] {
            let versions = series(4, count + 1, dtype);
            let (folder, repository) = kept(&versions[..count]);
            // Blocks that begin elsewhere: of each, parts of two or three others are the base.
            let tensors = read(&versions[count]);
            let stacked = Tensor::stacked(&[tensors[0].rows(50..ROWS), tensors[1].clone(), tensors[0].rows(0..50)]);
            let turned = tensors[1].transposed().named("turned");
            let bytes = write(&[stacked.named("stacked"), turned]);
            let place = folder.path().join("model.safetensors");
            fs::write(&place, &bytes).unwrap();
            let cost = repository.add(&[place], &NoProgress).unwrap().cost;
            repository.commit(&CommitOptions { message: "cut".to_owned(), ..CommitOptions::default() }).unwrap();
            assert!(cost.deltas > 0, "{dtype:?} {count}: {cost:?}");
            assert!(export(&repository, "HEAD").unwrap() == bytes, "{dtype:?} {count}");
            assert_eq!(repository.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());
        }
    }
}
