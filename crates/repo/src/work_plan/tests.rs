use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use shard_core::limits::Cut;
use tempfile::TempDir;

use super::*;
use crate::{CommitOptions, GcOptions, Settings};

/// A folder with checkpoints, and hubs to store them in.
struct Bench(TempDir);

const CHECKPOINTS: u64 = 12;

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for step in 1..=CHECKPOINTS {
            let folder = bench.root().join(format!("step-{step}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("w.npy"), weights(step)).unwrap();
        }
        fs::write(bench.root().join("run.sh"), b"train").unwrap();
        fs::set_permissions(bench.root().join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        bench
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("run")
    }

    fn hub(&self, name: &str) -> Repository {
        let place = self.0.path().join(name);
        match Repository::init_bare(&place, "main", Cut::TEST, Settings::default()) {
            Err(RepoError::AlreadyARepository(_)) => Repository::at(&place, Settings::default()).unwrap(),
            made => made.unwrap(),
        }
    }

    fn files(&self) -> FilesToPack {
        let commit = CommitRequest {
            author: Some("A".to_owned()),
            created_at: Some("2026-01-02T03:04:05Z".to_owned()),
            ..CommitRequest::new("All checkpoints")
        };
        FilesToPack { root: self.root(), commit, ..FilesToPack::default() }
    }
}

/// A small checkpoint, little of which differs from the one before.
fn weights(step: u64) -> Vec<u8> {
    let value = |index: u64| if index % 97 == step % 97 { step as f32 } else { (index % 1000) as f32 * 0.37 };
    shard_tests::zips::npy(&(0..40_000).flat_map(|index| value(index).to_le_bytes()).collect::<Vec<u8>>())
}

fn do_all(hub: &Repository, tasks: impl IntoIterator<Item = u64>) {
    for index in tasks {
        assert!(!hub.do_task(None, index, None, &NoProgress).unwrap().was_done, "{index}");
    }
}

fn problem<T: std::fmt::Debug>(outcome: Result<T>) -> PlanProblem {
    match outcome {
        Err(RepoError::Plan(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_machines_make_the_commit_that_one_makes() {
    let bench = Bench::new();
    // One after the other, by one machine.
    let alone = bench.hub("alone");
    let plan = alone.plan_to_pack("nightly", &bench.files(), 1).unwrap();
    let paths: Vec<&str> = plan.tasks.iter().flatten().map(|file| file.path.as_str()).collect();
    assert_eq!((paths.len(), paths[0], paths[2], paths[12]), (13, "run.sh", "step-2/w.npy", "step-12/w.npy"));
    do_all(&alone, 0..13);
    let first = alone.finish_plan(Some("nightly"), &NoProgress).unwrap().commit.unwrap();

    // By four at once, in another order, in other portions, each with a handle of its own.
    let plan = bench.hub("many").plan_to_pack("other/name", &bench.files(), 2).unwrap();
    assert_eq!(plan.tasks.len(), 7);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let hub = bench.hub("many");
                while let index @ 0..7 = next.fetch_add(1, Ordering::Relaxed) {
                    do_all(&hub, [6 - index]);
                }
            });
        }
    });
    let many = bench.hub("many");
    let outcome = many.finish_plan(None, &NoProgress).unwrap();
    assert_eq!(outcome.commit, Some(first), "the same commit, to the last byte");
    assert!(many.plans().unwrap().is_empty());
    for step in 1..=CHECKPOINTS {
        assert!(many.read_bytes(&format!("step-{step}/w.npy"), None).unwrap() == weights(step), "{step}");
    }
    many.gc(&GcOptions { keep_reflog: 0, max_unused: 0, ..GcOptions::default() }, &NoProgress).unwrap();
    assert_eq!(many.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());

    // As an add and a commit have it.
    let work = Repository::init(&bench.root(), "main", Cut::TEST, Settings::default()).unwrap();
    work.add(&[bench.root()], &NoProgress).unwrap();
    let files = bench.files().commit;
    let options = CommitOptions {
        message: files.message,
        author: files.author,
        created_at: files.created_at,
        ..CommitOptions::default()
    };
    assert_eq!(work.commit(&options).unwrap().id, first);
}

#[test]
fn a_task_that_is_done_again_or_twice_at_once_counts_once() {
    let bench = Bench::new();
    let hub = bench.hub("hub");
    hub.plan_to_pack("p", &bench.files(), 13).unwrap();
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let report = bench.hub("hub").do_task(Some("p"), 0, None, &NoProgress).unwrap();
                count.fetch_add(u64::from(!report.was_done), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(count.into_inner(), 1);
    assert!(hub.do_task(None, 0, Some(Path::new("/nowhere")), &NoProgress).unwrap().was_done);
    assert_eq!(hub.plan_state(None).unwrap().missing(), Vec::<u64>::new());
}

#[test]
fn what_tasks_stored_outlives_collections_and_a_finish_that_was_killed_is_not_done_twice() {
    let bench = Bench::new();
    let hub = bench.hub("hub");
    hub.upload_file("readme.txt", b"before".as_slice(), &CommitRequest::default(), &NoProgress).unwrap();
    let files = FilesToPack { into: Some("runs/a/".to_owned()), ..bench.files() };
    hub.plan_to_pack("p", &files, 5).unwrap();
    do_all(&hub, [2, 0]);
    hub.gc(&GcOptions { keep_reflog: 0, max_unused: 0, ..GcOptions::default() }, &NoProgress).unwrap();
    let outcome = hub.finish_plan(None, &NoProgress).unwrap();
    assert_eq!((outcome.commit, outcome.state.missing()), (None, vec![1]));
    do_all(&hub, [1]);

    // Killed after the commit: the plan is still there.
    let state = hub.plan_state(None).unwrap();
    let branch = format!("{PLANS}p");
    hub.create_branch("copy", &branch).unwrap();
    let commit = hub.finish_plan(None, &NoProgress).unwrap().commit.unwrap();
    hub.create_branch(&branch, &state.tip.to_hex()).unwrap();
    hub.upload_file("later.txt", b"later".as_slice(), &CommitRequest::default(), &NoProgress).unwrap();
    assert_eq!(hub.finish_plan(None, &NoProgress).unwrap().commit, Some(commit));
    let paths: BTreeSet<String> = hub.list_repo_files(None).unwrap().into_iter().collect();
    assert!(paths.len() == 15 && paths.contains("runs/a/step-3/w.npy") && paths.contains("later.txt"), "{paths:?}");
    assert_eq!(hub.read_bytes("runs/a/run.sh", None).unwrap(), b"train");
}

#[test]
fn damage_is_found_by_tasks_that_verify() {
    let bench = Bench::new();
    let hub = bench.hub("hub");
    hub.plan_to_pack("p", &bench.files(), 13).unwrap();
    do_all(&hub, [0]);
    let commit = hub.finish_plan(None, &NoProgress).unwrap().commit.unwrap();
    hub.plan_to_verify("check", &commit.to_hex(), 4).unwrap();
    do_all(&hub, 0..4);
    let outcome = hub.finish_plan(None, &NoProgress).unwrap();
    assert_eq!((outcome.commit, outcome.problems), (None, Vec::new()));

    hub.plan_to_verify("check", "main", 1).unwrap();
    drop(hub);
    // One byte in the middle of the largest pack.
    let packs: BTreeMap<u64, PathBuf> = files_below(&bench.0.path().join("hub/packs"))
        .unwrap()
        .into_iter()
        .map(|path| bench.0.path().join("hub/packs").join(path))
        .map(|path| (fs::metadata(&path).unwrap().len(), path))
        .collect();
    let (len, pack) = packs.last_key_value().unwrap();
    let mut bytes = fs::read(pack).unwrap();
    bytes[usize::try_from(*len).unwrap() / 3] ^= 1;
    fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(pack, bytes).unwrap();
    let hub = bench.hub("hub");
    do_all(&hub, 0..13);
    let outcome = hub.finish_plan(None, &NoProgress).unwrap();
    assert!(!outcome.problems.is_empty() && outcome.commit.is_none());
    assert!(outcome.problems.iter().all(|problem| problem.path.ends_with("w.npy") && !problem.why.is_empty()));
}

#[test]
fn what_cannot_be_planned_or_done_is_refused() {
    let bench = Bench::new();
    let hub = bench.hub("hub");
    assert_eq!(problem(hub.plan_state(None)), PlanProblem::NoDefault(0));
    assert_eq!(problem(hub.do_task(Some("p"), 0, None, &NoProgress)), PlanProblem::Unknown("p".to_owned()));
    assert_eq!(problem(hub.drop_plan("p")), PlanProblem::Unknown("p".to_owned()));
    let with = |paths: &[&str]| FilesToPack { paths: paths.iter().map(PathBuf::from).collect(), ..bench.files() };
    for paths in [["../hub"], ["/etc/passwd"], ["nothing"]] {
        assert!(hub.plan_to_pack("p", &with(&paths), 1).is_err(), "{paths:?}");
    }
    fs::create_dir(bench.root().join("empty")).unwrap();
    assert!(matches!(hub.plan_to_pack("p", &with(&["empty"]), 1), Err(RepoError::NothingToDo(_))));
    let into = FilesToPack { into: Some("a/../b".to_owned()), ..bench.files() };
    assert!(matches!(hub.plan_to_pack("p", &into, 1), Err(RepoError::BadPath { .. })));
    let silent = FilesToPack { commit: CommitRequest::default(), ..bench.files() };
    assert!(matches!(hub.plan_to_pack("p", &silent, 1), Err(RepoError::Argument(_))));
    let elsewhere = FilesToPack { commit: CommitRequest::new("m").on("gone"), ..bench.files() };
    assert!(matches!(hub.plan_to_pack("p", &elsewhere, 1), Err(RepoError::Ref(_))));
    assert!(matches!(hub.plan_to_pack("a b", &bench.files(), 1), Err(RepoError::Ref(_))));
    assert!(hub.plans().unwrap().is_empty());

    // The same file twice is one.
    hub.plan_to_pack("p", &with(&["step-2", "run.sh", "step-2/w.npy"]), 1).unwrap();
    assert!(matches!(hub.plan_to_pack("p", &bench.files(), 1), Err(RepoError::Ref(RefProblem::Exists { .. }))));
    assert_eq!(
        problem(hub.do_task(None, 2, None, &NoProgress)),
        PlanProblem::NoTask { name: "p".to_owned(), index: 2, last: 1 }
    );
    fs::write(bench.root().join("run.sh"), b"train more").unwrap();
    let size = problem(hub.do_task(None, 1, None, &NoProgress));
    assert_eq!(size, PlanProblem::Size { path: bench.root().join("run.sh"), planned: 5, found: 10 });
    assert!(hub.do_task(None, 0, Some(&bench.0.path().join("hub")), &NoProgress).is_err());
    assert_eq!(hub.plan_state(None).unwrap().missing(), [0, 1]);
    hub.plan_to_verify("q", &hub.tip("plan/p").unwrap().1.unwrap().to_hex(), 1).unwrap();
    assert_eq!(problem(hub.plan_state(None)), PlanProblem::NoDefault(2));
    hub.drop_plan("p").unwrap();
    hub.drop_plan("q").unwrap();

    for text in ["[]", "{\"version\": 2}", "{\"version\": 1, \"work\": \"pack\"}"] {
        let request = CommitRequest::new("Odd").on("plan/odd");
        let terms = Terms { makes_branch: true, ..Terms::default() };
        hub.make_commit(vec![CommitOperation::add(LIST, text.as_bytes())], &request, &terms, &NoProgress).unwrap();
        assert!(matches!(problem(hub.plan_state(Some("odd"))), PlanProblem::Malformed { .. }), "{text}");
        hub.drop_plan("odd").unwrap();
    }
}
