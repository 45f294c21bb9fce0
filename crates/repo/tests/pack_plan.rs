//! Plans of archives, against the archives that are then made.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use shard_core::limits::MAX_DEPTH;
use shard_core::{NoProgress, sha256};
use shard_datasets::synth::{Walk, WalkOptions};
use shard_repo::{Archive, PackOptions, PackPlan, RepoError, Settings, pack, plan_pack};
use tempfile::TempDir;

fn series(folder: &Path, options: WalkOptions, count: usize) -> Vec<PathBuf> {
    let mut walk = Walk::new(options).unwrap();
    let paths: Vec<PathBuf> = (0..count).map(|number| folder.join(format!("step-{number:03}.safetensors"))).collect();
    for path in &paths {
        walk.write_next(path).unwrap();
    }
    paths
}

fn plan(files: &[PathBuf], depth: Option<u32>) -> PackPlan {
    let options = PackOptions { depth, ..PackOptions::default() };
    plan_pack(files, &options, Settings::default(), &NoProgress).unwrap()
}

/// Packs the files, checks that everything comes back, and gives the archive's length and its deepest chain.
fn packed(folder: &Path, files: &[PathBuf], depth: Option<u32>) -> (u64, u32) {
    let out = folder.join("series.shard");
    let options = PackOptions { depth, force: true, ..PackOptions::default() };
    let report = pack(files, &out, &options, Settings::default(), &NoProgress).unwrap();
    let archive = Archive::open(&out).unwrap();
    assert_eq!(archive.verify(&NoProgress).unwrap().problems, Vec::<String>::new());
    let depths = archive.root.files.iter().map(|file| {
        let storage = archive.storage(file).unwrap();
        storage.blocks.values().map(|block| block.depth).max().unwrap_or(0)
    });
    let deepest = depths.max().unwrap();
    let back = TempDir::new().unwrap();
    archive.unpack(back.path(), false, Settings::default(), &NoProgress).unwrap();
    for file in files {
        let restored = back.path().join(file.file_name().unwrap());
        assert_eq!(sha256(&fs::read(restored).unwrap()), sha256(&fs::read(file).unwrap()), "{}", file.display());
    }
    (report.size, deepest)
}

#[test]
fn a_plan_says_what_packing_makes() {
    for options in [WalkOptions::pre_training(1 << 20, 20), WalkOptions::fine_tuning(1 << 20, 20)] {
        let folder = TempDir::new().unwrap();
        let files = series(folder.path(), options, 20);
        let before = fs::read_dir(folder.path()).unwrap().count();
        let plan = plan(&files, None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "a plan writes nothing");
        assert!(plan.sampled * 3 < plan.size, "{} of {}", plan.sampled, plan.size);
        assert_eq!(plan.files[1].base.as_ref(), Some(&plan.files[0].path));
        assert_eq!((plan.files[0].depth, plan.files[0].restore), (0, 1.0));
        assert!(plan.files.iter().all(|file| file.restore <= 3.1), "{:?}", plan.files);
        for chains in plan.chains.iter().filter(|chains| chains.depth.is_none_or(|depth| [1, 8].contains(&depth))) {
            let (size, deepest) = packed(folder.path(), &files, chains.depth);
            let off = chains.stored as f64 / size as f64 - 1.0;
            println!("{:?}: planned {}, packed {size}: {:+.1}%", chains.depth, chains.stored, 100.0 * off);
            assert!(off.abs() < 0.1, "{:?}: planned {}, packed {size}", chains.depth, chains.stored);
            assert!(chains.depth.is_none_or(|depth| deepest <= depth), "{deepest} deep of {:?}", chains.depth);
            assert!(deepest <= MAX_DEPTH);
        }
        let of = |depth: Option<u32>| plan.chains.iter().find(|chains| chains.depth == depth).unwrap();
        assert!(of(Some(0)).stored > of(Some(1)).stored && of(Some(1)).stored > of(Some(8)).stored);
        assert!(of(Some(1)).slowest < of(Some(4)).slowest && of(Some(4)).slowest < of(Some(8)).slowest);
        assert_eq!((of(Some(0)).slowest, of(Some(0)).deepest), (1.0, 0));
        assert!(of(None).chosen && of(None).stored == plan.stored);
    }
}

#[test]
fn a_depth_that_is_asked_for_is_in_the_plan() {
    let folder = TempDir::new().unwrap();
    let files = series(folder.path(), WalkOptions::pre_training(1 << 20, 6), 6);
    let plan = plan(&files, Some(3));
    let depths: Vec<Option<u32>> = plan.chains.iter().map(|chains| chains.depth).collect();
    assert_eq!(depths, [Some(0), Some(1), Some(2), Some(3), Some(4), Some(8), None]);
    assert!(plan.chains[3].chosen && plan.files.iter().all(|file| file.depth <= 3));
    let options = PackOptions { depth: Some(MAX_DEPTH + 1), ..PackOptions::default() };
    let out = folder.path().join("x.shard");
    assert!(matches!(plan_pack(&files, &options, Settings::default(), &NoProgress), Err(RepoError::Argument(_))));
    let refused = pack(&files, &out, &options, Settings::default(), &NoProgress);
    assert!(matches!(refused, Err(RepoError::Argument(_))) && !out.exists());
}

#[test]
fn what_is_equal_costs_nothing_in_a_plan_either() {
    let folder = TempDir::new().unwrap();
    let mut files = series(folder.path(), WalkOptions::pre_training(1 << 20, 2), 1);
    let text = folder.path().join("notes.txt");
    fs::write(&text, "a line of text\n".repeat(1000)).unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    files.push(folder.path().join("copy.safetensors"));
    fs::copy(&files[0], &files[1]).unwrap();
    files.extend([text, empty]);
    let plan = plan(&files, None);
    assert!(plan.files[1].stored * 20 < plan.files[0].stored, "{:?}", plan.files);
    assert_eq!((plan.files[1].depth, plan.files[1].base.as_ref()), (0, Some(&plan.files[0].path)));
    let (size, _) = packed(folder.path(), &files, None);
    assert!((plan.stored as f64 / size as f64 - 1.0).abs() < 0.1, "planned {}, packed {size}", plan.stored);
}

#[test]
fn what_was_renamed_is_found_by_a_plan_as_well() {
    let folder = TempDir::new().unwrap();
    let files = series(folder.path(), WalkOptions::pre_training(1 << 20, 3), 3);
    let mut bytes = fs::read(&files[1]).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in 0..header - 6 {
        if bytes[at..].starts_with(b"model.") {
            bytes[at..at + 6].copy_from_slice(b"other.");
        }
    }
    fs::write(&files[1], bytes).unwrap();
    let plan = plan(&files, None);
    assert_eq!(plan.files[1].base.as_ref(), Some(&plan.files[0].path), "{:?}", plan.files);
    assert!(plan.files[1].stored * 3 < plan.files[0].stored * 2, "{:?}", plan.files);
    let (size, _) = packed(folder.path(), &files, None);
    assert!((plan.stored as f64 / size as f64 - 1.0).abs() < 0.1, "planned {}, packed {size}", plan.stored);
}
