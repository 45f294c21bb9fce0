use std::fs;
use std::sync::Barrier;
use std::thread;

use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress};
use shard_history::RevisionError;
use shard_history::revision::RefKind;
use shard_store::{RefUpdate, Target};
use tempfile::TempDir;

use super::{RefProblem, ResetMode, ResetOptions, TagOptions, check_name};
use crate::{CheckoutOptions, CommitOptions, RepoError, Repository, Settings};

struct Bench {
    folder: TempDir,
    one: Repository,
    two: Repository,
}

/// A repository with three commits, and two handles of it.
fn bench() -> (Bench, Vec<Digest>) {
    let folder = tempfile::tempdir().unwrap();
    let one = Repository::init(folder.path(), "main", Cut::TEST, Settings::default()).unwrap();
    let two = Repository::discover(folder.path(), Settings::default()).unwrap();
    let bench = Bench { folder, one, two };
    let commits = (0..3).map(|number| bench.keep(&format!("version {number}"))).collect();
    (bench, commits)
}

impl Bench {
    fn keep(&self, text: &str) -> Digest {
        let place = self.folder.path().join("file");
        fs::write(&place, text).unwrap();
        self.one.add(&[place], &NoProgress).unwrap();
        self.one.commit(&CommitOptions { message: text.to_owned(), ..Default::default() }).unwrap().id
    }
}

#[test]
fn who_read_before_another_moved_is_refused() {
    let (bench, commits) = bench();
    let state = bench.two.read_ref("heads/main").unwrap();
    let transaction = bench.two.begin_move("test", commits[0]).unwrap();
    let moved = bench.keep("another");
    let update = RefUpdate { name: "heads/main".to_owned(), expected: state, target: Target::Commit(commits[0]) };
    let refused = bench.two.move_or_lose(&transaction, &[update], "late").unwrap_err();
    assert!(matches!(&refused, RepoError::Raced(name) if name == "heads/main"), "{refused:?}");
    assert_eq!(bench.two.resolve("main").unwrap(), moved);

    let expected = Some(commits[2]);
    let options = ResetOptions { expected, ..Default::default() };
    let refused = bench.two.reset("main~2", options, &NoProgress).unwrap_err();
    let is_told = |error: &RepoError| matches!(error, RepoError::NotAt { name, expected, found } if name == "heads/main" && *expected == commits[2] && *found == Some(moved));
    assert!(is_told(&refused), "{refused:?}");
    let options = ResetOptions { expected: Some(moved), ..options };
    assert_eq!(bench.two.reset("main~2", options, &NoProgress).unwrap().to, commits[1]);
    assert_eq!(bench.one.resolve("main").unwrap(), commits[1]);
}

#[test]
fn of_writers_at_once_one_wins() {
    let (bench, commits) = bench();
    for round in 0..20 {
        let name = format!("branch-{round}");
        let start = Barrier::new(2);
        let race = |repository: &Repository, revision: &str| {
            start.wait();
            repository.create_branch(&name, revision).map(|branch| branch.commit)
        };
        let outcomes: Vec<_> = thread::scope(|scope| {
            let one = scope.spawn(|| race(&bench.one, "main"));
            let two = scope.spawn(|| race(&bench.two, "main~1"));
            vec![one.join().unwrap(), two.join().unwrap()]
        });
        let won: Vec<&Digest> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        assert_eq!(bench.one.resolve(&name).unwrap(), *won[0]);
        let lost = outcomes.iter().find_map(|outcome| outcome.as_ref().err()).unwrap();
        assert!(matches!(lost, RepoError::Raced(_) | RepoError::Ref(RefProblem::Exists { .. })), "{lost:?}");
        let log = bench.two.reflog(&name, usize::MAX).unwrap();
        assert_eq!(log.entries.len(), 1, "{log:?}");
    }
    assert_eq!(bench.one.resolve("main").unwrap(), commits[2]);
}

#[test]
fn fault_27_and_28_names_of_branches_and_tags() {
    for good in ["main", "run/7", "v1.0", "日本", "a@b", "release-1"] {
        assert_eq!(check_name(RefKind::Branch, good), Ok(format!("heads/{good}")));
    }
    let id = "0".repeat(64);
    for bad in [
        "",
        "HEAD",
        "head",
        "@",
        &id,
        "refs/x",
        "heads/x",
        "tags/v1",
        "../x",
        "a..b",
        "a/../b",
        "x.lock",
        "x.lock/y",
        "a b",
        "a\u{1b}[2J",
        "a\u{202e}b",
        "a\u{200b}",
        "-d",
        "a/-b",
        "a//b",
        "/a",
        "a/",
        "nul",
        "a/CON",
        "com1.txt",
        ".git/x",
        "a/.git",
        "git~1",
        "x.",
        "a\\b",
        "c:x",
        "a\r",
        "a@{1}",
        "a*",
        "a|b",
        &"x".repeat(300),
    ] {
        for kind in [RefKind::Branch, RefKind::Tag] {
            assert!(matches!(check_name(kind, bad), Err(RefProblem::Name { .. })), "{bad:?}");
        }
    }
}

#[test]
fn names_beside_others() {
    let (bench, _) = bench();
    bench.one.create_branch("run/7", "main").unwrap();
    let problem = |name: &str| match bench.one.create_branch(name, "main").unwrap_err() {
        RepoError::Ref(problem) => problem,
        other => panic!("{other:?}"),
    };
    assert!(matches!(problem("main"), RefProblem::Exists { .. }));
    assert!(matches!(problem("MAIN"), RefProblem::CaseFold { other, .. } if other == "main"));
    assert!(matches!(problem("Run/8"), RefProblem::CaseFold { other, .. } if other == "run"));
    assert!(matches!(problem("run"), RefProblem::Nested { other, .. } if other == "run/7"));
    assert!(matches!(problem("run/7/x"), RefProblem::Nested { .. }));
    // A branch may differ from its old name in case alone, and a tag may have the name of a branch.
    bench.one.rename_branch("run/7", "Run/7").unwrap();
    bench.one.create_tag("main", "main", &TagOptions::default()).unwrap();
    let ambiguous = bench.one.resolve("main").unwrap_err();
    assert!(matches!(ambiguous, RepoError::Revision(RevisionError::Ambiguous { .. })), "{ambiguous:?}");
    let ambiguous = bench.one.reflog("main", 1).unwrap_err();
    assert!(matches!(ambiguous, RepoError::Revision(RevisionError::Ambiguous { .. })), "{ambiguous:?}");
    assert_eq!(bench.one.reflog("heads/main", 9).unwrap().entries.len(), 3);
    // What is there is meant rather than what was.
    bench.one.delete_tag("main").unwrap();
    assert_eq!(bench.one.reflog("main", 9).unwrap().name, "heads/main");
}

#[test]
fn the_log_of_head_follows_what_was_checked_out() {
    let (bench, commits) = bench();
    let checkout = |revision: &str| {
        bench.one.checkout(revision, CheckoutOptions::default(), &NoProgress).unwrap();
    };
    bench.one.create_branch("side", "main~2").unwrap();
    checkout("side");
    let side = bench.keep("on the side");
    // Main moves while it is not checked out: HEAD does not.
    let state = bench.two.read_ref("heads/main").unwrap();
    let transaction = bench.two.begin_move("test", commits[1]).unwrap();
    let update = RefUpdate { name: "heads/main".to_owned(), expected: state, target: Target::Commit(commits[1]) };
    bench.two.move_or_lose(&transaction, &[update], "elsewhere").unwrap();
    checkout("main");
    checkout(&side.to_hex());
    let loose = bench.keep("on no branch");
    let expected = [
        (Some(side), Some(loose)),
        (Some(commits[1]), Some(side)),
        (Some(side), Some(commits[1])),
        (Some(commits[0]), Some(side)),
        (Some(commits[2]), Some(commits[0])),
        (Some(commits[1]), Some(commits[2])),
        (Some(commits[0]), Some(commits[1])),
        (None, Some(commits[0])),
    ];
    let log = bench.two.reflog("HEAD", usize::MAX).unwrap();
    let moves: Vec<_> = log.entries.iter().map(|entry| (entry.old, entry.new)).collect();
    assert_eq!(moves, expected, "{log:#?}");
    assert_eq!(log.problem, None);
    assert!(log.entries[0].message.starts_with("commit: on no branch"), "{log:?}");
    for (most, (_, new)) in expected.iter().enumerate() {
        assert_eq!(bench.two.reflog("HEAD", most).unwrap().entries, log.entries[..most]);
        assert_eq!(bench.two.resolve(&format!("HEAD@{{{most}}}")).ok(), *new);
    }
    assert!(matches!(
        bench.two.resolve("HEAD@{8}"),
        Err(RepoError::Revision(RevisionError::NotInLog(text))) if text == "HEAD@{8}"
    ));
    assert_eq!(bench.two.resolve("main@{1}").unwrap(), commits[2]);
}

#[test]
fn a_damaged_state_ends_the_log_that_is_known() {
    let (bench, commits) = bench();
    let states = bench.folder.path().join(".shard/refs/heads%2fmain");
    let mut files: Vec<_> = fs::read_dir(&states).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    fs::write(&files[1], "torn").unwrap();
    let log = bench.two.reflog("main", usize::MAX).unwrap();
    assert_eq!(log.entries.len(), 1);
    assert_eq!((log.entries[0].old, log.entries[0].new), (None, Some(commits[2])));
    assert!(log.problem.is_some());
    assert_eq!(bench.two.reflog("HEAD", usize::MAX).unwrap().entries.len(), 1);
}

#[test]
fn a_soft_reset_keeps_the_stage_that_was_never_written() {
    let (bench, commits) = bench();
    let transaction = bench.one.begin_move("test", commits[2]).unwrap();
    let expected = bench.one.read_ref("stage").unwrap();
    let update = RefUpdate { name: "stage".to_owned(), expected, target: Target::Deleted };
    bench.one.move_or_lose(&transaction, &[update], "test").unwrap();
    let options = ResetOptions { mode: ResetMode::Soft, ..Default::default() };
    bench.one.reset("main~1", options, &NoProgress).unwrap();
    let status = bench.one.status().unwrap();
    assert_eq!((status.staged.len(), status.work.len()), (1, 0), "{status:?}");
}

#[test]
fn the_default_branch_of_an_interrupted_init_is_that_of_the_one_that_finished() {
    let folder = tempfile::tempdir().unwrap();
    drop(Repository::init(folder.path(), "first", Cut::TEST, Settings::default()).unwrap());
    fs::remove_dir_all(folder.path().join(".shard/refs/%48%45%41%44")).unwrap();
    let repository = Repository::init(folder.path(), "second", Cut::TEST, Settings::default()).unwrap();
    assert_eq!(repository.default_branch().unwrap(), "second");
    assert_eq!(repository.head().unwrap().branch.as_deref(), Some("second"));
}
