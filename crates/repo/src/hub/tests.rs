use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::thread;

use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_history::git;
use shard_tests::zips::{npy, zip};

use super::*;
use crate::{PathFilter, ResetMode, ResetOptions};

mod copies;
mod reading;
mod views;

struct Bench {
    folder: tempfile::TempDir,
    hub: Repository,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub =
            Repository::create_repo(&folder.path().join("hub"), &NewRepo::default(), Settings::default()).unwrap();
        Self { folder, hub }
    }

    fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn add(&self, files: &[(&str, &[u8])]) -> CommitInfo {
        let operations = files.iter().map(|(path, bytes)| CommitOperation::add(*path, *bytes)).collect();
        self.commit(operations).unwrap()
    }

    fn commit(&self, operations: Vec<CommitOperation>) -> Result<CommitInfo> {
        self.hub.create_commit(operations, &CommitRequest::new("A commit"), &NoProgress)
    }

    fn files(&self) -> Vec<String> {
        self.hub.list_repo_files(None).unwrap()
    }
}

fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(next).collect()
}

#[test]
fn commits_add_delete_and_copy() {
    let bench = Bench::new();
    let big = noise(5 << 20, 1);
    fs::write(bench.place("script.sh"), "#!/bin/sh\n").unwrap();
    #[cfg(unix)]
    fs::set_permissions(bench.place("script.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let first = bench
        .commit(vec![
            CommitOperation::add("a/b.txt", b"hello".as_slice()),
            CommitOperation::add("run.sh", bench.place("script.sh")),
            CommitOperation::add_reader("big.bin", std::io::Cursor::new(big.clone())),
            CommitOperation::add("empty", Vec::new()),
        ])
        .unwrap();
    assert_eq!((first.parent, first.title.as_str(), first.branch.as_str()), (None, "A commit", "main"));
    assert_eq!(bench.files(), ["a/b.txt", "big.bin", "empty", "run.sh"]);
    assert!(bench.hub.read_bytes("big.bin", None).unwrap() == big);
    let RepoEntry::File(run) = &bench.hub.get_paths_info(&["run.sh"], None, ListOptions::default()).unwrap()[0] else {
        panic!()
    };
    assert_eq!(run.mode, shard_history::FileMode::Executable);

    // A deletion, a copy of a folder and of another revision, and an addition where something was: in their order.
    let second = bench
        .commit(vec![
            CommitOperation::delete("run.sh"),
            CommitOperation::copy("a", "copy/of a"),
            CommitOperation::add("a/b.txt", b"new".as_slice()),
            CommitOperation::copy_from(first.id.to_hex(), "run.sh", "bin/run.sh"),
            CommitOperation::add("run.sh/inside", b"x".as_slice()),
        ])
        .unwrap();
    assert_eq!(second.parent, Some(first.id));
    assert_eq!(bench.files(), ["a/b.txt", "big.bin", "bin/run.sh", "copy/of a/b.txt", "empty", "run.sh/inside"]);
    assert_eq!(bench.hub.read_bytes("copy/of a/b.txt", None).unwrap(), b"hello");
    assert_eq!(bench.hub.read_bytes("a/b.txt", Some("main~1")).unwrap(), b"hello");
    // Into a folder that is there, file by file.
    bench.commit(vec![CommitOperation::copy("copy/of a", "a")]).unwrap();
    assert_eq!(bench.hub.read_bytes("a/b.txt", None).unwrap(), b"hello");
    let info = bench.hub.delete_folder("copy", &CommitRequest::default()).unwrap();
    assert_eq!(info.title, "Delete folder copy");
    bench.hub.delete_file("a/b.txt", &CommitRequest::default()).unwrap();
    assert_eq!(bench.files(), ["big.bin", "bin/run.sh", "empty", "run.sh/inside"]);
    // The same content again is a commit all the same.
    let tip = bench.add(&[("empty", b"")]);
    assert_eq!(bench.hub.read_commit(tip.id).unwrap().tree, bench.hub.read_commit(tip.parent.unwrap()).unwrap().tree);
    assert!(bench.hub.verify(true, &NoProgress).unwrap().problems.is_empty());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let none = bench.commit(Vec::new());
    assert!(matches!(none, Err(RepoError::NothingToDo(_))), "{none:?}");
    let tip = bench.add(&[("dir/file", b"1"), ("Readme", b"2"), ("caf\u{e9}", b"3")]);
    let request = CommitRequest::new(" \n");
    let add = |path: &str| vec![CommitOperation::add(path, b"x".as_slice())];
    let unsaid = bench.hub.create_commit(add("x"), &request, &NoProgress);
    assert!(matches!(unsaid, Err(RepoError::Argument(_))), "{unsaid:?}");
    for path in ["dir", "Readme/x", "README", "DIR/other", "cafe\u{301}"] {
        let refused = bench.commit(add(path));
        assert!(matches!(refused, Err(RepoError::Clash { .. })), "{path}: {refused:?}");
        let refused = bench.commit(vec![CommitOperation::copy("dir/file", path)]);
        assert!(matches!(refused, Err(RepoError::Clash { .. })), "{path}: {refused:?}");
    }
    let missing = [
        CommitOperation::delete("nowhere"),
        CommitOperation::delete("dir"),
        CommitOperation::delete("Readme/"),
        CommitOperation::copy("nowhere", "x"),
    ];
    for operation in missing {
        let refused = bench.commit(vec![operation]);
        assert!(matches!(refused, Err(RepoError::NoSuchPath { .. })), "{refused:?}");
    }
    for branch in ["nowhere", "v1", "../x", "refs/tags/v1"] {
        let _ = bench.hub.create_tag("v1", "main", &Default::default());
        let refused = bench.hub.create_commit(add("x"), &CommitRequest::new("x").on(branch), &NoProgress);
        assert!(matches!(refused, Err(RepoError::Ref(RefProblem::Unknown { .. }))), "{branch}: {refused:?}");
    }
    let gone = bench.commit(vec![CommitOperation::add("x", bench.place("no such file"))]);
    assert!(matches!(gone, Err(RepoError::Io { .. })), "{gone:?}");
    assert_eq!(bench.hub.resolve("main").unwrap(), tip.id);
}

#[test]
fn fault_28_paths_and_refs_that_some_system_cannot_have() {
    let bench = Bench::new();
    let tip = bench.add(&[("file", b"1")]);
    for path in [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:/x",
        "a\\b",
        "nul",
        "aux.txt",
        ".git/hooks/post-checkout",
        ".GIT/config",
        "git~1",
        ".shard/format",
        "a/.g\u{200c}it/x",
        "a//b",
        "./a",
        "a/",
        "",
        "x\r",
        "x ",
        "x.",
        "a\0b",
        "a:b",
    ] {
        for operation in [
            CommitOperation::add(path, b"x".as_slice()),
            CommitOperation::copy("file", path),
            CommitOperation::copy(path, "fine"),
        ] {
            let refused = bench.commit(vec![operation]);
            assert!(matches!(refused, Err(RepoError::BadPath { .. })), "{path:?}: {refused:?}");
        }
        // What can be nowhere is nowhere found.
        for outcome in [
            bench.hub.read_bytes(path, None).map(|_| ()),
            bench.hub.hf_hub_download(path, None, None).map(|_| ()),
            bench.hub.hf_hub_download(path, None, Some(&bench.place("out"))).map(|_| ()),
        ] {
            assert!(matches!(outcome, Err(RepoError::NoSuchPath { .. })), "{path:?}: {outcome:?}");
        }
    }
    assert_eq!(bench.hub.resolve("main").unwrap(), tip.id);
    for name in ["a..b", "x.lock", "-x", "HEAD", "refs/heads/x", &"a".repeat(40), &"0".repeat(64)] {
        let refused = bench.hub.create_branch(name, "main");
        assert!(matches!(refused, Err(RepoError::Ref(RefProblem::Name { .. }))), "{name}: {refused:?}");
    }
}

#[test]
fn a_parent_that_is_not_the_tip_loses() {
    let bench = Bench::new();
    let first = bench.add(&[("a", b"1")]);
    let second = bench.add(&[("b", b"2")]);
    let on = |parent: String| CommitRequest { parent_commit: Some(parent), ..CommitRequest::new("x") };
    let add = || vec![CommitOperation::add("c", b"3".as_slice())];
    let lost = bench.hub.create_commit(add(), &on(first.id.to_hex()), &NoProgress);
    let (expected, found) = (first.id, Some(second.id));
    let is_told = |error: &RepoError| matches!(error, RepoError::NotAt { expected: e, found: f, .. } if *e == expected && *f == found);
    assert!(lost.as_ref().is_err_and(is_told), "{lost:?}");
    let text = lost.unwrap_err().to_string();
    assert!(text.contains(&first.id.to_hex()) && text.contains(&second.id.to_hex()), "{text}");
    assert!(bench.hub.create_commit(add(), &on("f".repeat(40)), &NoProgress).is_err());
    let third = bench.hub.create_commit(add(), &on(second.twin.to_hex()), &NoProgress).unwrap();
    assert_eq!(third.parent, Some(second.id));
}

#[test]
fn fault_14_commits_of_many_writers_follow_one_another() {
    let bench = Bench::new();
    let dir = bench.hub.dir();
    thread::scope(|scope| {
        for writer in 0..4 {
            let dir = &dir;
            scope.spawn(move || {
                let hub = Repository::discover(dir, Settings::default()).unwrap();
                for number in 0..3 {
                    let path = format!("{writer}/{number}.txt");
                    hub.upload_file(&path, path.clone().into_bytes(), &CommitRequest::default(), &NoProgress).unwrap();
                }
            });
        }
    });
    assert_eq!(bench.files().len(), 12);
    assert_eq!(bench.hub.list_repo_commits(None, false).unwrap().len(), 12);
    assert_eq!(bench.hub.reflog("main", 99).unwrap().entries.len(), 12);
    let race =
        |first: &CommitInfo| CommitRequest { parent_commit: Some(first.id.to_hex()), ..CommitRequest::new("Only one") };
    let first = bench.add(&[("x", b"x")]);
    let won = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (dir, request) = (&dir, race(&first));
                scope.spawn(move || {
                    let hub = Repository::discover(dir, Settings::default()).unwrap();
                    hub.upload_file("y", vec![writer], &request, &NoProgress).is_ok()
                })
            })
            .collect();
        writers.into_iter().map(|writer| usize::from(writer.join().unwrap())).sum::<usize>()
    });
    assert_eq!(won, 1);
}

#[test]
fn messages_are_split_and_commits_listed() {
    let bench = Bench::new();
    let request = CommitRequest {
        description: Some("More of it".to_owned()),
        author: Some("Ada <ada@example.com>".to_owned()),
        created_at: Some("2026-01-02T03:04:05Z".to_owned()),
        ..CommitRequest::new("A title\n\nA body")
    };
    let info = bench.hub.upload_file("a", b"1".as_slice(), &request, &NoProgress).unwrap();
    assert_eq!((info.title.as_str(), info.description.as_str()), ("A title", "A body\n\nMore of it"));
    bench.hub.create_branch("side", "main").unwrap();
    let side = bench.hub.upload_file("b", b"2".as_slice(), &CommitRequest::new("Beside").on("side"), &NoProgress);
    let listed = bench.hub.list_repo_commits(Some("side"), true).unwrap();
    assert_eq!(listed.iter().map(|commit| commit.title.as_str()).collect::<Vec<_>>(), ["Beside", "A title"]);
    assert_eq!((listed[0].twin, listed[1].id), (Some(side.unwrap().twin), info.id));
    assert_eq!(listed[1].message, "A body\n\nMore of it");
    assert_eq!(listed[1].author.as_deref(), Some("Ada <ada@example.com>"));
    assert_eq!(bench.hub.list_repo_commits(None, false).unwrap().len(), 1);
    // Back to where it was; the data stays.
    bench.hub.reset_ref("side", "main").unwrap();
    assert_eq!(bench.hub.resolve("side").unwrap(), info.id);
    assert_eq!(bench.hub.read_bytes("b", Some("side@{1}")).unwrap(), b"2");
    let again = CommitRequest { created_at: Some("yesterday".to_owned()), ..CommitRequest::new("x") };
    assert!(bench.hub.upload_file("a", b"1".as_slice(), &again, &NoProgress).is_err());
}

#[test]
fn folders_are_uploaded_by_patterns() {
    let bench = Bench::new();
    let source = bench.place("source");
    for path in
        ["1.txt", "sub/2.txt", "sub/3.bin", "sub/.git/config", ".shard/format", ".cache/shard/view.json", ".gitignore"]
    {
        let place = source.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, path).unwrap();
    }
    bench.add(&[("up/old.txt", b"old"), ("up/old.bin", b"old"), ("other/old.txt", b"old")]);
    let upload = FolderUpload {
        path_in_repo: Some("up/".to_owned()),
        filter: PathFilter {
            allow: Some(vec!["*.txt".to_owned(), "sub/".to_owned()]),
            ignore: vec!["*.bin".to_owned()],
        },
        delete: vec!["*.txt".to_owned()],
    };
    let info = bench.hub.upload_folder(&source, &upload, &CommitRequest::default(), &NoProgress).unwrap();
    assert_eq!(info.title, "Upload folder");
    assert_eq!(bench.files(), ["other/old.txt", "up/1.txt", "up/old.bin", "up/sub/2.txt"]);
    bench.hub.upload_large_folder(&source, PathFilter::default(), &CommitRequest::default(), &NoProgress).unwrap();
    let expected =
        [".gitignore", "1.txt", "other/old.txt", "sub/2.txt", "sub/3.bin", "up/1.txt", "up/old.bin", "up/sub/2.txt"];
    assert_eq!(bench.files(), expected);
    let none = FolderUpload {
        filter: PathFilter { allow: Some(Vec::new()), ..PathFilter::default() },
        ..FolderUpload::default()
    };
    let nothing = bench.hub.upload_folder(&source, &none, &CommitRequest::default(), &NoProgress);
    assert!(matches!(nothing, Err(RepoError::NothingToDo(_))));
    let outside = FolderUpload { path_in_repo: Some("../up".to_owned()), ..FolderUpload::default() };
    assert!(matches!(
        bench.hub.upload_folder(&source, &outside, &CommitRequest::default(), &NoProgress),
        Err(RepoError::BadPath { .. })
    ));
    assert!(bench.hub.upload_folder(&source.join("1.txt"), &none, &CommitRequest::default(), &NoProgress).is_err());
}

#[cfg(unix)]
#[test]
fn links_of_a_folder_are_followed_to_files_alone() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    let source = bench.place("source");
    fs::create_dir_all(source.join("blobs")).unwrap();
    fs::write(source.join("blobs/1"), "content").unwrap();
    symlink("blobs/1", source.join("model.bin")).unwrap();
    let upload = |bench: &Bench| {
        bench.hub.upload_folder(&source, &FolderUpload::default(), &CommitRequest::default(), &NoProgress)
    };
    upload(&bench).unwrap();
    assert_eq!(bench.hub.read_bytes("model.bin", None).unwrap(), b"content");
    symlink("nowhere", source.join("broken")).unwrap();
    assert!(matches!(upload(&bench), Err(RepoError::Path { .. })));
}

#[test]
fn a_checked_out_branch_takes_its_stage_along() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("work");
    let repository = Repository::init(&root, "main", Cut::V1, Settings::default()).unwrap();
    for (path, text) in [("kept", "1"), ("staged", "1"), ("goes", "1")] {
        fs::write(root.join(path), text).unwrap();
    }
    let add = |path: &str| repository.add(&[root.join(path)], &NoProgress).unwrap();
    add("");
    let message = |text: &str| crate::CommitOptions { message: text.to_owned(), ..Default::default() };
    repository.commit(&message("First")).unwrap();
    fs::write(root.join("staged"), "mine").unwrap();
    add("staged");
    let operations = vec![
        CommitOperation::add("new", b"n".as_slice()),
        CommitOperation::add("staged", b"theirs".as_slice()),
        CommitOperation::delete("goes"),
    ];
    repository.create_commit(operations, &CommitRequest::new("By paths"), &NoProgress).unwrap();
    let status = repository.status().unwrap();
    let staged: Vec<&str> = status.staged.iter().map(|change| change.path()).collect();
    assert_eq!(staged, ["staged"], "only what was staged by hand");
    let work: Vec<&str> = status.work.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(work, ["goes", "new"]);
    // So the next commit of the stage undoes nothing.
    repository.commit(&message("Mine")).unwrap();
    assert_eq!(repository.list_repo_files(None).unwrap(), ["kept", "new", "staged"]);
    assert_eq!(repository.read_bytes("staged", None).unwrap(), b"mine");
    assert!(matches!(repository.reset_ref("main", "HEAD~1"), Err(RepoError::Ref(RefProblem::CheckedOut(_)))));
    // A file in place of a folder, and the reverse.
    for (operations, expected) in [
        (vec![CommitOperation::add("d/x", b"x".as_slice())], "d/x"),
        (vec![CommitOperation::delete("d/"), CommitOperation::add("d", b"d".as_slice())], "d"),
        (vec![CommitOperation::delete("d"), CommitOperation::add("d/y", b"y".as_slice())], "d/y"),
    ] {
        repository.create_commit(operations, &CommitRequest::new("A folder or a file"), &NoProgress).unwrap();
        let (_, stage) = repository.stage().unwrap();
        let found: Vec<&String> = stage.files().keys().filter(|path| path.starts_with('d')).collect();
        assert_eq!(found, [expected]);
    }
}

#[test]
fn bare_repositories_have_no_work_tree() {
    let bench = Bench::new();
    let (hub, dir) = (&bench.hub, bench.hub.dir());
    assert!(hub.is_bare() && hub.root() == dir);
    let first = bench.add(&[("a/b", b"1")]);
    let second = bench.add(&[("a/b", b"2")]);
    for place in [dir.clone(), dir.join("packs")] {
        let found = Repository::discover(&place, Settings::default()).unwrap();
        assert!(found.is_bare() && found.dir() == dir);
    }
    let needs: Vec<(&str, Option<RepoError>)> = vec![
        ("add", hub.add(std::slice::from_ref(&dir), &NoProgress).err()),
        ("status", hub.status().err()),
        ("commit", hub.commit(&crate::CommitOptions { message: "x".to_owned(), ..Default::default() }).err()),
        ("checkout", hub.checkout("main", Default::default(), &NoProgress).err()),
        ("checkout -b", hub.checkout_new_branch("new", "main", Default::default(), &NoProgress).err()),
        ("paths", hub.checkout_paths("main", &["a/b".into()], &NoProgress).err()),
        ("hard", hub.reset("main~1", ResetOptions { mode: ResetMode::Hard, ..Default::default() }, &NoProgress).err()),
    ];
    for (what, error) in needs {
        assert!(matches!(error, Some(RepoError::Bare(_))), "{what}: {error:?}");
    }
    assert_eq!(hub.branches().unwrap().len(), 1, "none was made by a checkout that failed");
    hub.reset("main~1", ResetOptions::default(), &NoProgress).unwrap();
    assert_eq!(hub.resolve("main").unwrap(), first.id);
    assert!(hub.read_ref(crate::repository::STAGE).unwrap().is_none());
    hub.reset_ref("main", &second.id.to_hex()).unwrap();
    hub.export("main", &[], &bench.place("out"), Default::default(), &NoProgress).unwrap();
    assert_eq!(fs::read(bench.place("out/a/b")).unwrap(), b"2");
    assert_eq!(hub.tracked_path(Path::new("a/b")).unwrap(), "a/b");
    assert!(hub.tracked_path(Path::new("../x")).is_err());

    let again = Repository::init_bare(&dir, "main", Cut::V1, Settings::default());
    assert!(matches!(again, Err(RepoError::AlreadyARepository(_))));
    let new = NewRepo { exist_ok: true, ..NewRepo::default() };
    assert_eq!(Repository::create_repo(&dir, &new, Settings::default()).unwrap().resolve("main").unwrap(), second.id);
    let taken = bench.place("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("file"), "x").unwrap();
    assert!(matches!(Repository::init_bare(&taken, "main", Cut::V1, Settings::default()), Err(RepoError::Path { .. })));
    // A work tree's repository that is moved away is bare, and one is found only from its own folder on.
    let new = NewRepo { initial_commit: true, ..NewRepo::default() };
    let hub = Repository::create_repo(&bench.place("begun"), &new, Settings::default()).unwrap();
    assert_eq!(hub.list_repo_commits(None, false).unwrap()[0].title, "Initial commit");
    assert_eq!(hub.list_repo_files(None).unwrap(), Vec::<String>::new());
    assert!(matches!(
        Repository::discover(bench.folder.path(), Settings::default()),
        Err(RepoError::NotARepository(_))
    ));
}

/// Only the folders on the way to a path are written, whatever else there is.
#[test]
fn a_commit_costs_what_it_changes() {
    let bench = Bench::new();
    let names: Vec<String> = (0..400).map(|number| format!("{:02}/{number}.txt", number % 20)).collect();
    let operations = names.iter().map(|name| CommitOperation::add(name.clone(), name.clone().into_bytes())).collect();
    bench.commit(operations).unwrap();
    let trees = || bench.hub.store().ids(shard_store::EntryKind::Tree).unwrap().len();
    let before = trees();
    assert_eq!(before, 21);
    bench.add(&[("07/7.txt", b"changed")]);
    assert_eq!(trees(), before + 2);
}
