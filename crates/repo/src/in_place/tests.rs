use std::path::PathBuf;

use shard_core::limits::Cut;
use tempfile::TempDir;

use super::*;
use crate::{CommitOptions, Settings};

/// A repository, and a folder that follows it.
struct Bench {
    root: TempDir,
    repository: Repository,
}

/// Many versions, none of them an anchor.
const NEVER: u64 = u64::MAX;

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("trainer");
        let repository = Repository::init(&place, "main", Cut::TEST, Settings::default()).unwrap();
        Self { root, repository }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("sampler")
    }

    fn open(&self, paths: &[&str]) -> Result<InPlace> {
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        InPlace::open(&self.repository, &self.folder(), &paths)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.folder().join(path)).unwrap()
    }

    /// A commit of the work tree with these files in the place of those that are there; `None` removes one.
    fn commit(&self, files: &[(&str, Option<&[u8]>)]) -> Digest {
        for (path, bytes) in files {
            let place = self.repository.root().join(path);
            match bytes {
                Some(bytes) => {
                    fs::create_dir_all(place.parent().unwrap()).unwrap();
                    fs::write(&place, bytes).unwrap();
                }
                None => fs::remove_file(&place).unwrap(),
            }
        }
        self.repository.add(&[self.repository.root().to_owned()], &NoProgress).unwrap();
        let options = CommitOptions { message: "Next".to_owned(), ..CommitOptions::default() };
        self.repository.commit(&options).unwrap().id
    }
}

/// Bytes that nothing compresses, in ten blocks of the test's size and a short one; blocks that are told are other ones.
fn weights(changed: &[usize]) -> Vec<u8> {
    let mut state = 7u32;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(10 * BLOCK + 100)
    .collect();
    changed.iter().for_each(|block| bytes[block * BLOCK + 5] ^= 0x55);
    bytes
}

const BLOCK: usize = 64 << 10;

/// The weights as a file whose blocks have fixed places.
fn npy(changed: &[usize]) -> Vec<u8> {
    shard_tests::zips::npy(&weights(changed))
}

#[test]
fn only_what_differs_is_written_and_everything_is_what_it_should_be() {
    let bench = Bench::new();
    let first = bench.commit(&[("w.npy", Some(&npy(&[]))), ("a/notes.txt", Some(b"one")), ("same.bin", Some(b"same"))]);
    let mut folder = bench.open(&[]).unwrap();
    assert!(folder.version().is_none() && !folder.is_at(first));
    let applied = folder.apply(&bench.repository, first, NEVER).unwrap();
    assert_eq!((applied.from, applied.is_anchor, applied.files, applied.mended), (None, true, 3, 0));
    assert_eq!(applied.bytes, npy(&[]).len() as u64 + 7);
    assert!(folder.is_at(first));

    let second = bench.commit(&[("w.npy", Some(&npy(&[2, 7]))), ("a/notes.txt", None), ("b/more.txt", Some(b"more"))]);
    let inode = |path: &str| FileStat::new(&fs::metadata(bench.folder().join(path)).unwrap()).inode;
    let before = (inode("w.npy"), inode("same.bin"));
    let applied = folder.apply(&bench.repository, second, NEVER).unwrap();
    assert_eq!((applied.from, applied.is_anchor, applied.files, applied.mended), (Some(first), false, 3, 0));
    assert_eq!((applied.blocks, applied.bytes), (3, 2 * BLOCK as u64 + 4));
    assert_eq!((inode("w.npy"), inode("same.bin")), before, "who has mapped the file sees the new version");
    assert!(bench.read("w.npy") == npy(&[2, 7]) && bench.read("b/more.txt") == b"more");
    assert!(!bench.folder().join("a").exists(), "the folder went with its last file");

    // Nothing new: nothing is written.
    let applied = folder.apply(&bench.repository, second, NEVER).unwrap();
    assert_eq!((applied.from, applied.is_anchor, applied.files, applied.bytes), (Some(second), false, 0, 0));
    // Shorter, longer, and another kind of file.
    for bytes in [b"short".to_vec(), npy(&[1]), b"short".to_vec()] {
        let next = bench.commit(&[("w.npy", Some(&bytes))]);
        folder.apply(&bench.repository, next, NEVER).unwrap();
        assert!(bench.read("w.npy") == bytes);
    }
    let text = fs::read_to_string(bench.folder().join(VERSION_FILE)).unwrap();
    assert!(text.contains("\"whole\":true"), "{text}");
}

#[test]
fn what_somebody_else_changed_is_mended_and_what_does_not_show_is_by_the_next_anchor() {
    let bench = Bench::new();
    let first = bench.commit(&[("w.npy", Some(&npy(&[]))), ("gone.txt", Some(b"there"))]);
    let mut folder = bench.open(&[]).unwrap();
    folder.apply(&bench.repository, first, NEVER).unwrap();

    // A block, by who does not hide it, and a file that was removed; not within the tick of the clock in which they were written.
    let tick = || std::thread::sleep(std::time::Duration::from_millis(30));
    tick();
    let place = bench.folder().join("w.npy");
    let mut bytes = npy(&[]);
    bytes[3 * BLOCK] ^= 1;
    fs::write(&place, &bytes).unwrap();
    fs::remove_file(bench.folder().join("gone.txt")).unwrap();
    assert!(!folder.is_at(first));
    let applied = folder.apply(&bench.repository, first, NEVER).unwrap();
    assert_eq!((applied.from, applied.is_anchor, applied.files, applied.mended), (Some(first), false, 2, 2));
    assert_eq!(applied.blocks, 2);
    assert!(bench.read("w.npy") == npy(&[]) && bench.read("gone.txt") == b"there" && folder.is_at(first));
    // The same on the way to another version: only that file is read.
    tick();
    fs::write(&place, b"other").unwrap();
    let second = bench.commit(&[("w.npy", Some(&npy(&[1])))]);
    let applied = folder.apply(&bench.repository, second, NEVER).unwrap();
    assert_eq!((applied.is_anchor, applied.files, applied.mended), (false, 1, 1));
    assert!(bench.read("w.npy") == npy(&[1]));

    // A disk that gives other bytes with the file as it was.
    let stat = FileStat::new(&fs::metadata(&place).unwrap());
    let mut bytes = npy(&[1]);
    bytes[8 * BLOCK] ^= 1;
    fs::write(&place, &bytes).unwrap();
    for left in folder.note.files.values_mut().flatten().filter(|left| left.stat == stat) {
        left.stat = FileStat::new(&fs::metadata(&place).unwrap());
    }
    assert!(folder.is_at(second));
    let third = bench.commit(&[("w.npy", Some(&npy(&[1, 2])))]);
    let applied = folder.apply(&bench.repository, third, NEVER).unwrap();
    assert_eq!((applied.is_anchor, applied.blocks, applied.mended), (false, 1, 0));
    assert!(bench.read("w.npy") != npy(&[1, 2]), "that is what anchors are for");
    let fourth = bench.commit(&[("w.npy", Some(&npy(&[1, 2, 4])))]);
    let applied = folder.apply(&bench.repository, fourth, 3).unwrap();
    assert_eq!((applied.is_anchor, applied.blocks, applied.mended), (true, 2, 1));
    assert!(bench.read("w.npy") == npy(&[1, 2, 4]));
    assert_eq!(folder.note.chained, 0);
}

#[test]
fn an_interrupted_version_and_a_rewritten_branch_are_proven_whole() {
    let bench = Bench::new();
    let first = bench.commit(&[("w.npy", Some(&npy(&[]))), ("old.txt", Some(b"old"))]);
    let second = bench.commit(&[("w.npy", Some(&npy(&[4]))), ("old.txt", None)]);
    let mut folder = bench.open(&[]).unwrap();
    folder.apply(&bench.repository, first, NEVER).unwrap();
    // Killed after the note and half of a block.
    let (mut note, mut bytes) = (folder.note.clone(), npy(&[]));
    (note.commit, note.is_whole) = (Some(second), false);
    note.files.values_mut().for_each(|left| *left = None);
    note.write(&bench.folder()).unwrap();
    bytes[4 * BLOCK + 200..4 * BLOCK + 700].fill(9);
    fs::write(bench.folder().join("w.npy"), bytes).unwrap();
    drop(folder);
    let mut folder = bench.open(&[]).unwrap();
    assert_eq!(folder.version(), None);
    let applied = folder.apply(&bench.repository, second, NEVER).unwrap();
    assert_eq!((applied.from, applied.is_anchor, applied.files, applied.blocks), (None, true, 2, 1));
    assert!(bench.read("w.npy") == npy(&[4]) && !bench.folder().join("old.txt").exists());

    // Back to the first: that does not follow the second.
    drop(folder);
    let mut folder = bench.open(&[]).unwrap();
    assert_eq!(folder.version(), Some(second));
    let applied = folder.apply(&bench.repository, first, NEVER).unwrap();
    assert_eq!((applied.from, applied.is_anchor, applied.blocks), (Some(second), true, 2));
    assert!(bench.read("w.npy") == npy(&[]) && bench.read("old.txt") == b"old");
    // Other paths: what is not among them goes.
    drop(folder);
    let mut folder = bench.open(&["w.npy"]).unwrap();
    assert!(!folder.is_at(first), "what is there was asked for otherwise");
    folder.apply(&bench.repository, first, NEVER).unwrap();
    assert!(!bench.folder().join("old.txt").exists());
    assert!(matches!(bench.open(&[]), Err(RepoError::Path { .. })), "two would write over each other");
    drop(folder);
    assert!(matches!(
        bench.open(&["nothing"]).unwrap().apply(&bench.repository, first, NEVER),
        Err(RepoError::NoSuchPath { .. })
    ));
}

#[test]
fn compressed_files_links_and_modes_are_followed() {
    let bench = Bench::new();
    let zip = |changed: &[usize]| shard_tests::zips::zip(&[("w.npy", &npy(changed), 6)]);
    let root = bench.repository.root().to_owned();
    fs::write(root.join("run"), b"run").unwrap();
    std::os::unix::fs::symlink("run", root.join("link")).unwrap();
    let first = bench.commit(&[("w.npz", Some(&zip(&[])))]);
    let mut folder = bench.open(&[]).unwrap();
    folder.apply(&bench.repository, first, NEVER).unwrap();
    assert!(bench.read("w.npz") == zip(&[]) && bench.read("link") == b"run");

    fs::set_permissions(root.join("run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    std::os::unix::fs::symlink("w.npz", root.join("link")).unwrap();
    let second = bench.commit(&[("w.npz", Some(&zip(&[3])))]);
    let applied = folder.apply(&bench.repository, second, NEVER).unwrap();
    assert_eq!((applied.files, applied.is_anchor), (3, false));
    assert_eq!(fs::read_link(bench.folder().join("link")).unwrap(), Path::new("w.npz"));
    assert_eq!(tree_mode(&fs::metadata(bench.folder().join("run")).unwrap()), FileMode::Executable);
    assert!(bench.read("w.npz") == zip(&[3]));
    // Through all bytes, with nothing to change; and back.
    let applied = folder.apply(&bench.repository, second, 1).unwrap();
    assert_eq!((applied.files, applied.bytes), (0, 0));
    folder.apply(&bench.repository, first, NEVER).unwrap();
    assert_eq!(tree_mode(&fs::metadata(bench.folder().join("run")).unwrap()), FileMode::Regular);

    // A link becomes a folder with a file in it: what the link leads to stays what it is.
    let outside = bench.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), b"theirs").unwrap();
    fs::remove_file(root.join("link")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    let third = bench.commit(&[]);
    folder.apply(&bench.repository, third, NEVER).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    let fourth = bench.commit(&[("link/f", Some(b"ours"))]);
    folder.apply(&bench.repository, fourth, NEVER).unwrap();
    assert_eq!(
        (bench.read("link/f").as_slice(), fs::read(outside.join("f")).unwrap().as_slice()),
        (&b"ours"[..], &b"theirs"[..])
    );
}

#[test]
fn a_folder_that_is_somebody_elses_is_left_alone() {
    let bench = Bench::new();
    fs::create_dir(bench.folder()).unwrap();
    fs::write(bench.folder().join("theirs.txt"), b"theirs").unwrap();
    assert!(matches!(bench.open(&[]), Err(RepoError::Path { .. })));
    assert_eq!(bench.read("theirs.txt"), b"theirs");
    let inside = bench.repository.dir().join("sampler");
    assert!(matches!(InPlace::open(&bench.repository, &inside, &[]), Err(RepoError::Argument(_))));
    fs::write(bench.folder().join(VERSION_FILE), b"{").unwrap();
    assert!(matches!(bench.open(&[]), Err(RepoError::Path { .. })));
    fs::remove_dir_all(bench.folder()).unwrap();
    let commit = bench.commit(&[(VERSION_FILE, Some(b"{}"))]);
    let refused = bench.open(&[]).unwrap().apply(&bench.repository, commit, NEVER);
    assert!(matches!(refused, Err(RepoError::Path { .. })));
}
