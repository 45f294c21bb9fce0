//! Damage to every kind of file of a repository: it is found, nothing wrong is handed out, and what is not affected stays
//! readable.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use shard_core::limits::Cut;
use shard_datasets::cases::Versions;
use shard_datasets::rng::Rng;
use shard_repo::{Repository, Settings};
use shard_tests::crash::State;
use shard_tests::damage::{Damage, overwrite, swap_contents};
use shard_tests::odd_files::one_tensor;
use shard_tests::process::{Run, Shard, exit};
use shard_tests::tree::{copy, digests, files_ending, sha256_hex, write};
use tempfile::TempDir;

const SHARD: &str = env!("CARGO_BIN_EXE_shard");

/// Places of a file at which a bit is flipped, one at a time.
fn flips() -> u64 {
    u64::from(shard_tests::rounds(if cfg!(feature = "data-suite") { 120 } else { 10 }))
}

/// What is in the repository: a commit, a path, and the SHA-256 of the file.
struct Kept {
    commit: String,
    path: &'static str,
    digest: String,
}

/// A repository with three commits: a model, an unrelated file in a commit of its own, and the model again, changed, so that
/// it is a delta. Its tensors are cut small, so that they have many blocks.
struct Healthy {
    folder: TempDir,
    shard: Shard,
    state: State,
    kept: Vec<Kept>,
    /// The packs after each commit, from the first.
    packs: Vec<BTreeSet<PathBuf>>,
}

fn healthy() -> Healthy {
    let folder = TempDir::new().unwrap();
    let base = folder.path().join("base");
    Repository::init(&base, "main", Cut::TEST, Settings::default()).unwrap();
    let shard = Shard::new(SHARD, &base);
    let mut versions = Versions::new(11, 2, 300, 512, 0.3);
    let mut rng = Rng::new(5);
    let noise: Vec<u8> = (0..200_000).map(|_| rng.bits() as u8).collect();
    let (v1, v2) = (versions.next().unwrap().unwrap(), versions.next().unwrap().unwrap());
    let unrelated = one_tensor("elsewhere.weight", "U8", &[200_000], &noise);
    let mut packs = Vec::new();
    for (path, bytes, message) in [
        ("model.safetensors", &v1, "First"),
        ("other.safetensors", &unrelated, "Other"),
        ("model.safetensors", &v2, "Second"),
    ] {
        write(&base.join(path), bytes);
        shard.ok(&["add", path]);
        shard.ok(&["commit", "-m", message]);
        packs.push(relative(&base, files_ending(&base.join(".shard"), ".pack")));
    }
    assert!(
        packs[0].len() < packs[1].len() && packs[1].len() < packs[2].len(),
        "each commit has packs of its own: {packs:?}"
    );
    let state = State::of(&shard);
    let [second, _, first] = &state.commits[..] else { panic!("expected three commits: {state:?}") };
    let kept = [
        (first, "model.safetensors", &v1),
        (second, "other.safetensors", &unrelated),
        (second, "model.safetensors", &v2),
    ];
    let kept =
        kept.map(|(commit, path, bytes)| Kept { commit: commit.clone(), path, digest: sha256_hex(bytes) }).into();
    let _ = shard.run(&["verify", "--full"]).expect(exit::DONE);
    Healthy { folder, shard, state, kept, packs }
}

fn relative(root: &Path, places: Vec<PathBuf>) -> BTreeSet<PathBuf> {
    places.into_iter().map(|place| place.strip_prefix(root).unwrap().to_owned()).collect()
}

impl Healthy {
    /// A copy to damage.
    fn copy(&self) -> Shard {
        let place = self.folder.path().join("damaged");
        if place.exists() {
            fs::remove_dir_all(&place).unwrap();
        }
        copy(self.shard.folder(), &place);
        self.shard.at(&place)
    }

    /// Checks out every kept file into a folder of its own. Each comes back as it was, or not at all with an error that says
    /// that data is damaged. Gives which came back.
    fn check_out_all(&self, shard: &Shard, context: &str) -> Vec<bool> {
        self.check_out_all_or(&[exit::DAMAGED], shard, context)
    }

    /// The same where the error may be another.
    fn check_out_all_or(&self, errors: &[i32], shard: &Shard, context: &str) -> Vec<bool> {
        let came_back = self.kept.iter().map(|kept| {
            let out = shard.folder().join("out");
            let run = shard.run(&["checkout", &kept.commit, kept.path, "-o", "out"]);
            let found = if out.exists() { digests(&out) } else { Default::default() };
            let is_back = run.code == Some(exit::DONE);
            if is_back {
                assert_eq!(found.get(kept.path), Some(&kept.digest), "{context}: expected the right bytes\n{run}");
            } else {
                let run = run.expect_error(errors);
                assert!(found.is_empty(), "{context}: expected no file at all, found {found:?}\n{run}");
            }
            if out.exists() {
                fs::remove_dir_all(&out).unwrap();
            }
            is_back
        });
        came_back.collect()
    }

    /// Checks that damage was found.
    fn expect_found(&self, shard: &Shard, context: &str) -> Run {
        let run = shard.run(&["verify", "--full"]);
        assert_eq!(run.code, Some(exit::NO), "{context}: expected verify to find it\n{run}");
        assert!(!run.stderr.contains("panicked"), "{context}\n{run}");
        run
    }

    fn all_packs(&self) -> &BTreeSet<PathBuf> {
        &self.packs[2]
    }
}

#[test]
fn fault_09_damage_anywhere_in_a_pack() {
    let healthy = healthy();
    let (mut damages, mut losses) = (0, 0);
    for pack in healthy.all_packs() {
        let len = fs::metadata(healthy.shard.folder().join(pack)).unwrap().len();
        for damage in Damage::everywhere(len, flips()) {
            let shard = healthy.copy();
            if !damage.apply(&shard.folder().join(pack)) {
                continue;
            }
            let context = format!("{} of {len} bytes, {damage:?}", pack.display());
            healthy.expect_found(&shard, &context);
            let back = healthy.check_out_all(&shard, &context);
            // The first model needs only the packs of its commit; the unrelated file is read by way of the last commit,
            // but none of its content is in the first packs.
            if healthy.packs[0].contains(pack) {
                assert!(back[1], "{context}: expected the unrelated file to stay readable");
            } else {
                assert!(back[0], "{context}: expected what was committed before to stay readable");
            }
            damages += 1;
            losses += back.iter().filter(|back| !**back).count();
        }
    }
    println!("{damages} damages, all found; {losses} reads refused");
    assert!(losses > 0, "expected at least one damage to hit a block that is read");
}

#[test]
fn fault_09_packs_with_swapped_contents_or_missing() {
    let healthy = healthy();
    let packs: Vec<&PathBuf> = healthy.all_packs().iter().collect();
    for pair in packs.windows(2) {
        let shard = healthy.copy();
        swap_contents(&shard.folder().join(pair[0]), &shard.folder().join(pair[1]));
        let context = format!("{} and {} swapped", pair[0].display(), pair[1].display());
        healthy.expect_found(&shard, &context);
        healthy.check_out_all(&shard, &context);
    }
    let mut lost = 0;
    for pack in packs {
        let shard = healthy.copy();
        fs::remove_file(shard.folder().join(pack)).unwrap();
        let context = format!("{} gone", pack.display());
        healthy.expect_found(&shard, &context);
        // Where the commit itself is gone, its id is one that nobody knows.
        let back = healthy.check_out_all_or(&[exit::DAMAGED, exit::NOT_FOUND], &shard, &context);
        lost += back.iter().filter(|back| !**back).count();
        if !healthy.packs[0].contains(pack) {
            assert!(back[0], "{context}: expected what was committed before to stay readable");
        }
    }
    assert!(lost >= 3, "expected each file to be missing with some pack: {lost}");
}

#[test]
fn fault_09_damage_anywhere_in_a_ref() {
    let healthy = healthy();
    let refs = relative(healthy.shard.folder(), files_ending(&healthy.shard.folder().join(".shard/refs"), ""));
    assert!(refs.len() >= 3, "expected refs for HEAD, the branch and the stage: {refs:?}");
    // A ref's newest generation lists first. What was before it is history, and is not read any more.
    let mut folders = BTreeSet::new();
    let mut noticed = 0;
    for path in &refs {
        let is_newest = folders.insert(path.parent());
        let len = fs::metadata(healthy.shard.folder().join(path)).unwrap().len();
        for damage in Damage::everywhere(len, flips()) {
            let shard = healthy.copy();
            if !damage.apply(&shard.folder().join(path)) {
                continue;
            }
            let context = format!("{} of {len} bytes, {damage:?}", path.display());
            for (args, right) in
                [(&["log", "--json"][..], None), (&["status", "--short"][..], Some(&healthy.state.status))]
            {
                let run = shard.run(args).expect_one_of(&[exit::DONE, exit::DAMAGED]);
                if run.code == Some(exit::DAMAGED) {
                    noticed += 1;
                    let _ = run.expect_error(&[exit::DAMAGED]);
                } else if let Some(right) = right {
                    assert_eq!(run.stdout, *right, "{context}: expected an error or the right answer");
                } else {
                    assert_eq!(
                        shard.commits(),
                        healthy.state.commits,
                        "{context}: expected an error or the right answer"
                    );
                }
            }
            if is_newest {
                healthy.expect_found(&shard, &context);
            }
        }
    }
    assert!(noticed > 0, "expected damage to a ref in use to be noticed");
}

#[test]
fn fault_09_damage_to_small_files_of_the_repository() {
    let healthy = healthy();
    let root = healthy.shard.folder().join(".shard");
    let small = files_ending(&root, "").into_iter().filter(|place| {
        let name = place.strip_prefix(&root).unwrap().to_str().unwrap();
        !name.ends_with(".pack") && !name.starts_with("refs") && !name.contains("index.db")
    });
    for path in relative(healthy.shard.folder(), small.collect()) {
        let len = fs::metadata(healthy.shard.folder().join(&path)).unwrap().len();
        for damage in Damage::everywhere(len, flips()) {
            let shard = healthy.copy();
            if !damage.apply(&shard.folder().join(&path)) {
                continue;
            }
            let context = format!("{} of {len} bytes, {damage:?}", path.display());
            let run = shard.run(&["status", "--short"]);
            if run.code == Some(exit::DONE) {
                assert_eq!(State::of(&shard), healthy.state, "{context}: expected an error or the right answer");
                healthy.check_out_all(&shard, &context);
            } else {
                let _ = run.expect_error(&[exit::DAMAGED, exit::NOT_FOUND, exit::SYSTEM]);
            }
        }
    }
}

/// The files of the index.
fn index_files(root: &Path) -> Vec<PathBuf> {
    let files = files_ending(&root.join(".shard"), "");
    files.into_iter().filter(|place| place.file_name().unwrap().to_str().unwrap().starts_with("index.db")).collect()
}

#[test]
fn fault_10_the_index_is_rebuilt_whatever_happened_to_it() {
    let healthy = healthy();
    let index = index_files(healthy.shard.folder());
    assert!(!index.is_empty(), "expected an index.db in the repository");
    let name = index[0].strip_prefix(healthy.shard.folder()).unwrap().to_owned();
    let len = fs::metadata(&index[0]).unwrap().len();
    let other = self::healthy();

    type Harm<'a> = (String, Box<dyn Fn(&Path) + 'a>);
    let mut harms: Vec<Harm<'_>> = vec![
        ("deleted".into(), Box::new(|root| index_files(root).iter().for_each(|place| fs::remove_file(place).unwrap()))),
        ("empty".into(), Box::new(|root| overwrite(&root.join(&name), b""))),
        ("one byte".into(), Box::new(|root| overwrite(&root.join(&name), b"S"))),
        ("garbage".into(), Box::new(|root| overwrite(&root.join(&name), &[0xa5; 40_000]))),
        ("text".into(), Box::new(|root| overwrite(&root.join(&name), b"this is no database\n"))),
        (
            "of another repository".into(),
            Box::new(|root| {
                fs::copy(other.shard.folder().join(&name), root.join(&name)).unwrap();
            }),
        ),
        (
            "a folder".into(),
            Box::new(|root| {
                fs::remove_file(root.join(&name)).unwrap();
                fs::create_dir(root.join(&name)).unwrap();
            }),
        ),
        (
            "beside a log of garbage".into(),
            Box::new(|root| {
                let mut log = root.join(&name).into_os_string();
                log.push("-wal");
                fs::write(log, [0x5a; 8192]).unwrap();
            }),
        ),
    ];
    for cut in [100, 4096, len / 2, len - 1] {
        let name = name.clone();
        let harm: Box<dyn Fn(&Path)> = Box::new(move |root| {
            let _ = Damage::Truncate { len: cut }.apply(&root.join(&name));
        });
        harms.push((format!("cut to {cut} of {len} bytes"), harm));
    }
    let expected = digests(healthy.shard.folder());
    for (context, harm) in &harms {
        // Whichever command comes first has to get over it.
        for first in [&["log"][..], &["status"], &["checkout", "HEAD~1"], &["verify", "--full"], &["reindex"]] {
            let shard = healthy.copy();
            harm(shard.folder());
            let run = shard.run(first);
            assert_eq!(run.code, Some(exit::DONE), "index {context}, then {first:?}: expected it to work\n{run}");
            if first[0] == "checkout" {
                shard.ok(&["checkout", "main"]);
            }
            assert_eq!(State::of(&shard), healthy.state, "index {context}, then {first:?}");
            let back = healthy.check_out_all(&shard, context);
            assert_eq!(back, [true; 3], "index {context}, then {first:?}: expected every file");
            assert_eq!(digests(shard.folder()), expected, "index {context}, then {first:?}");
            let verified = shard.run(&["verify", "--full"]);
            assert_eq!(verified.code, Some(exit::DONE), "index {context}, then {first:?}\n{verified}");
            write(&shard.folder().join("new.bin"), b"new");
            shard.ok(&["add", "new.bin"]);
            shard.ok(&["commit", "-m", "After"]);
        }
    }
}

#[test]
fn fault_10_a_wrong_bit_in_the_index_is_never_a_wrong_answer() {
    let healthy = healthy();
    let name = index_files(healthy.shard.folder())[0].strip_prefix(healthy.shard.folder()).unwrap().to_owned();
    let len = fs::metadata(healthy.shard.folder().join(&name)).unwrap().len();
    let mut noticed = 0;
    // Most of a database is unused: more places than elsewhere.
    for damage in Damage::everywhere(len, flips() * 12) {
        let shard = healthy.copy();
        if !damage.apply(&shard.folder().join(&name)) {
            continue;
        }
        let context = format!("index of {len} bytes, {damage:?}");
        for (args, right) in [(&["log", "--oneline"][..], None), (&["status", "--short"], Some(&healthy.state.status))]
        {
            let run = shard.run(args).expect_one_of(&[exit::DONE, exit::DAMAGED, exit::SYSTEM, exit::NOT_FOUND]);
            noticed += u32::from(run.code != Some(exit::DONE));
            if let Some(right) = right.filter(|_| run.code == Some(exit::DONE)) {
                assert_eq!(run.stdout, *right, "{context}: expected an error or the right answer");
            }
        }
        // What the index does not lead to may seem not to be there.
        healthy.check_out_all_or(&[exit::DAMAGED, exit::SYSTEM, exit::NOT_FOUND], &shard, &context);
        // The index is no part of what has to be kept.
        let _ = shard.run(&["reindex"]).expect(exit::DONE);
        assert_eq!(State::of(&shard), healthy.state, "{context}: expected `reindex` to mend it");
        assert_eq!(healthy.check_out_all(&shard, &context), [true; 3], "{context}: expected `reindex` to mend it");
        let verified = shard.run(&["verify", "--full"]);
        assert_eq!(verified.code, Some(exit::DONE), "{context}: expected `reindex` to mend it\n{verified}");
    }
    println!("{noticed} commands noticed a wrong index");
}

#[test]
fn fault_10_an_index_of_earlier_or_later_packs() {
    let healthy = healthy();
    let name = index_files(healthy.shard.folder())[0].strip_prefix(healthy.shard.folder()).unwrap().to_owned();
    // An index from before the last writes, as a backup or a second machine may bring it back.
    let shard = healthy.copy();
    let early = fs::read(shard.folder().join(&name)).unwrap();
    write(&shard.folder().join("new.bin"), b"new");
    shard.ok(&["add", "new.bin"]);
    shard.ok(&["commit", "-m", "After"]);
    let (state, expected) = (State::of(&shard), digests(shard.folder()));
    for place in index_files(shard.folder()) {
        fs::remove_file(place).unwrap();
    }
    fs::write(shard.folder().join(&name), early).unwrap();
    assert_eq!(State::of(&shard), state, "expected an index that lacks packs to catch up");
    shard.ok(&["checkout", "HEAD", "-o", "out"]);
    assert_eq!(digests(&shard.folder().join("out")), expected);
    shard.ok(&["verify", "--full"]);
}

#[test]
fn fault_09_damage_anywhere_in_an_archive() {
    let folder = TempDir::new().unwrap();
    let shard = Shard::new(SHARD, folder.path());
    let mut versions = Versions::new(3, 2, 60, 512, 0.3);
    for name in ["a.safetensors", "b.safetensors"] {
        write(&folder.path().join(name), &versions.next().unwrap().unwrap());
    }
    let expected = digests(folder.path());
    shard.ok(&["pack", "a.safetensors", "b.safetensors", "-o", "good.shard"]);
    shard.ok(&["verify", "good.shard"]);
    let len = fs::metadata(folder.path().join("good.shard")).unwrap().len();
    let mut refused = 0;
    for damage in Damage::everywhere(len, flips() * 4) {
        fs::copy(folder.path().join("good.shard"), folder.path().join("bad.shard")).unwrap();
        if !damage.apply(&folder.path().join("bad.shard")) {
            continue;
        }
        let verified = shard.run(&["verify", "bad.shard"]).expect_one_of(&[exit::NO, exit::DAMAGED]);
        let run = shard.run(&["unpack", "bad.shard", "-o", "out"]).expect_one_of(&[exit::DONE, exit::DAMAGED]);
        refused += u32::from(run.code == Some(exit::DAMAGED));
        let out = folder.path().join("out");
        if out.exists() {
            for (path, digest) in digests(&out) {
                assert_eq!(expected.get(&path), Some(&digest), "{damage:?}: {path} has wrong bytes\n{run}\n{verified}");
            }
            fs::remove_dir_all(&out).unwrap();
        }
    }
    assert!(refused > 0, "expected unpack to refuse damaged archives");
}
