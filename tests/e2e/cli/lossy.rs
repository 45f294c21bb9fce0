//! `pack --lossy`: approximations, and that they are told from what they approximate.

use std::fs;

use shard_codecs::{Block, Encoder, Level};
use shard_core::{limits::Cut, sha256};
use shard_datasets::synth::{Walk, WalkOptions};
use shard_history::FileMode;
use shard_manifest::{ArchiveFile, ArchiveRoot, ContentManifest, Lossy, StorageManifest};
use shard_store::{ArchiveWriter, EntryKey, EntryKind, EntrySink};
use shard_tests::rewrite;

use crate::place::{Place, hex};

/// A place with three checkpoints of a series, and their names.
fn series() -> (Place, Vec<String>) {
    let place = Place::new();
    let mut walk = Walk::new(WalkOptions::pre_training(256 << 10, 8)).unwrap();
    let names: Vec<String> = (0..3).map(|number| format!("step{number}.safetensors")).collect();
    for name in &names {
        walk.write_next(&place.path().join(name)).unwrap();
    }
    (place, names)
}

fn pack<'a>(names: &'a [String], out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let files = names.iter().map(String::as_str);
    ["pack"].into_iter().chain(more.iter().copied()).chain(files).chain(["-o", out]).collect()
}

/// The elements of a tensor of float bytes.
fn values(tensor: &rewrite::Tensor) -> Vec<f64> {
    use half::{bf16, f16};
    let data = &tensor.bytes;
    match format!("{:?}", tensor.dtype).as_str() {
        "F32" => data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
        "F16" => data.chunks(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
        "BF16" => data.chunks(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect(),
        other => panic!("a tensor of type {other}"),
    }
}

#[test]
fn approximations_are_within_the_bound_and_marked() {
    let (place, names) = series();
    place.ok(&pack(&names, "exact.shard", &[]));
    let out = place.ok(&pack(&names, "lossy.shard", &["--lossy", "1e-2"]));
    assert!(out.contains("lossy") && out.contains("within 0.01"), "{out}");
    let size = |name: &str| fs::metadata(place.path().join(name)).unwrap().len();
    assert!(size("lossy.shard") < size("exact.shard") * 9 / 10, "{} and {}", size("lossy.shard"), size("exact.shard"));

    let run = place.run(&["unpack", "lossy.shard", "-o", "back", "--quiet"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let list = place.json(&["show", "lossy.shard"]);
    for (index, name) in names.iter().enumerate() {
        let (given, restored) = (place.read(name), place.read(&format!("back/{name}")));
        let listed = &list["files"][index];
        assert_eq!(listed["sha256"], hex(&restored));
        assert_eq!(listed["lossy"]["of"], hex(&given));
        assert_eq!(listed["lossy"]["bound"], 0.01);
        assert!(run.err.contains(name) && run.err.contains("lossy") && run.err.contains(&hex(&given)), "{}", run.err);
        let mut rounded = 0;
        for (old, new) in rewrite::read(&given).iter().zip(&rewrite::read(&restored)) {
            assert_eq!((&old.name, old.dtype, &old.shape), (&new.name, new.dtype, &new.shape));
            if old.bytes == new.bytes {
                continue;
            }
            rounded += 1;
            let (old, name, new) = (values(old), &old.name, values(new));
            let rms = (old.iter().map(|value| value * value).sum::<f64>() / old.len() as f64).sqrt();
            let most = old.iter().zip(&new).map(|(old, new)| (old - new).abs()).fold(0.0, f64::max);
            assert!(most <= 0.01 * rms, "{name}: {most} of {rms}");
            assert_eq!(listed["lossy"]["tensors"][name.as_str()]["max_error"], most);
        }
        assert!(rounded > 0, "{name}");
        assert_eq!(listed["lossy"]["tensors"].as_object().unwrap().len(), rounded);
    }

    // Every listing says so.
    for args in [
        &["show", "lossy.shard"][..],
        &["show", "lossy.shard", "--storage"],
        &["unpack", "lossy.shard", "--list"],
        &["verify", "lossy.shard"],
    ] {
        let out = place.ok(args);
        for name in &names {
            let of = hex(&place.read(name));
            let line = format!("{name} is lossy: an approximation of the file with SHA-256 {of}, within 0.01 of");
            assert_eq!(out.matches(&line).count(), 1, "{args:?}: {out}");
        }
        assert!(place.json(args).to_string().contains("lossy"), "{args:?}");
    }
    let json = place.json(&["unpack", "lossy.shard", "-o", "twice"]);
    assert_eq!(json["written"][0]["lossy"]["bound"], 0.01);

    // What is on its grid is not rounded again, and so it is no approximation.
    let back: Vec<String> = names.iter().map(|name| format!("back/{name}")).collect();
    let again = place.json(&pack(&back, "again.shard", &["--lossy", "1e-2"]));
    assert!(!again.to_string().contains("lossy"), "{again}");
    let out = place.ok(&pack(&back, "text.shard", &["--lossy", "1e-2"]));
    assert!(out.contains("nothing was rounded"), "{out}");
    assert!(!place.ok(&pack(&names, "some.shard", &["--lossy", "1e-2"])).contains("nothing was rounded"));
}

/// An archive of files without bytes, with these manifests.
fn archive_of(place: &Place, name: &str, manifests: &[(&str, Vec<u8>)]) {
    let writer = ArchiveWriter::create(&place.path().join(name)).unwrap();
    let put = |kind, bytes: &[u8]| {
        let mut stored = Vec::new();
        let block = Block { data: bytes, dtype: None, rows: None, base: None };
        Encoder::new(Level::Default).encode(&block, &mut stored).unwrap();
        let id = sha256(bytes);
        writer.put(&EntryKey::new(kind, id), &stored, bytes.len() as u64, &[]).unwrap();
        id
    };
    let mut root = ArchiveRoot::default();
    for (path, manifest) in manifests {
        let manifest = put(EntryKind::Manifest, manifest);
        root.files.push(ArchiveFile {
            path: (*path).to_owned(),
            mode: FileMode::ALL[0].as_str().to_owned(),
            size: 0,
            sha256: sha256(b""),
            manifest,
            storage: put(EntryKind::Storage, &StorageManifest::new(manifest).to_bytes().unwrap()),
            record: None,
            extra: Default::default(),
        });
    }
    put(EntryKind::Archive, &root.to_bytes().unwrap());
    writer.finish(false).unwrap();
}

#[test]
fn a_mark_or_a_manifest_that_makes_no_sense_hides_no_file() {
    let place = Place::new();
    let plain = ContentManifest {
        format: "opaque".to_owned(),
        size: 0,
        sha256: sha256(b""),
        cut: Cut::V1,
        segments: Vec::new(),
        tensors: Vec::new(),
        compressed: Vec::new(),
        extra: Default::default(),
    };
    let mut marked = plain.clone();
    marked.mark_lossy(&Lossy { bound: 7.0, of: sha256(b"given"), tensors: Default::default() });
    let (plain, marked) = (plain.to_bytes().unwrap(), marked.to_bytes().unwrap());

    archive_of(&place, "marked.shard", &[("good", plain.clone()), ("odd", marked)]);
    for args in
        [&["unpack", "marked.shard", "--list"][..], &["show", "marked.shard"], &["show", "marked.shard", "--storage"]]
    {
        let out = place.ok(args);
        assert!(out.contains("odd is marked as lossy, but its mark is malformed: "), "{args:?}: {out}");
        assert!(out.contains("good") && !out.contains("good is"), "{args:?}: {out}");
    }
    assert!(place.json(&["show", "marked.shard"])["files"][1]["lossy"]["malformed"].is_string());
    let run = place.run(&["unpack", "marked.shard", "-o", "back"]);
    assert!(run.code == 0 && run.err.contains("odd is marked as lossy, but"), "{}", run.err);
    assert_eq!((place.read("back/good"), place.read("back/odd")), (Vec::new(), Vec::new()));
    let run = place.run(&["verify", "marked.shard"]);
    assert!(run.code == 1 && run.out.contains("odd: marked as lossy, but its mark is malformed"), "{}", run.out);

    archive_of(&place, "damaged.shard", &[("good", plain), ("bad", b"no manifest".to_vec())]);
    for args in [&["unpack", "damaged.shard", "--list"][..], &["show", "damaged.shard"]] {
        let out = place.ok(args);
        assert!(out.contains("good") && out.contains("bad"), "{args:?}: {out}");
    }
    assert_ne!(place.run(&["unpack", "damaged.shard", "-o", "other"]).code, 0);
    let run = place.run(&["verify", "damaged.shard"]);
    assert!(run.code == 1 && run.out.contains("bad"), "{}", run.out);
}

#[test]
fn without_being_asked_nothing_is_lossy() {
    let (place, names) = series();
    place.ok(&pack(&names, "a.shard", &[]));
    place.ok(&pack(&names, "b.shard", &["--lossy", "1e-200"]));
    assert_eq!(place.read("a.shard"), place.read("b.shard"), "a bound that changes nothing");
    for args in [&["show", "a.shard"][..], &["show", "a.shard", "--storage"], &["verify", "a.shard"]] {
        assert!(!place.ok(args).contains("lossy") && !place.json(args).to_string().contains("lossy"), "{args:?}");
    }
    place.write("notes.txt", b"no tensors");
    let json = place.json(&["pack", "--lossy", "0.1", "notes.txt", "-o", "text.shard"]);
    assert_eq!(json["files"][0].get("lossy"), None);
    for bad in ["0", "-0.1", "1", "1.5", "nan", "inf", "much", ""] {
        let run = place.run(&["pack", "--lossy", bad, "step0.safetensors", "-o", "x.shard"]);
        assert!(run.code == 2 && run.err.contains("above 0 and below 1"), "{bad:?}: {}", run.err);
    }
    assert_eq!(
        place.run(&["pack", "--lossy", "0.1", "--dry-run", "step0.safetensors"]).code,
        2,
        "a plan is of exact archives"
    );
    assert!(!place.path().join("x.shard").exists());
}
