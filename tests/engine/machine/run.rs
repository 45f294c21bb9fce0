//! Operations, done to a repository and to the model of one.

use std::fs;
use std::path::{Path, PathBuf};

use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress};
use shard_history::{FileChange, MergeStatus, Side};
use shard_repo::{
    CheckoutOptions, CommitOptions, ContinueOptions, GcOptions, MergeOptions, MergeProblem, MergeReport,
    OptimizeOptions, RefProblem, RepoError, Repository, ResetMode, ResetOptions, Settings, SquashOptions, TagOptions,
    UndoOptions, WorkState,
};
use tempfile::TempDir;

use super::content::Content;
use super::model::{Commit, Head, Losses, Model, Outcome};

/// The paths of all files.
pub(crate) const PATHS: [&str; 4] = ["model.safetensors", "a/model.safetensors", "a/b/notes.txt", "readme"];
/// What a side of a merge is taken of: the files, and the folders that they are in.
pub(crate) const PLACES: [&str; 7] = [PATHS[0], PATHS[1], PATHS[2], PATHS[3], "a", "a/b", ""];
/// The names of branches beside the default one.
pub(crate) const BRANCHES: [&str; 4] = ["main", "one", "two", "topic/three"];
/// The names of tags.
pub(crate) const TAGS: [&str; 3] = ["v1", "v2", "release/v3"];

/// What can be done. Numbers choose among what is there.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Write {
        path: usize,
        content: Content,
    },
    Remove {
        path: usize,
    },
    Add {
        path: Option<usize>,
    },
    Commit,
    Branch {
        name: usize,
        commit: usize,
    },
    DeleteBranch {
        name: usize,
        force: bool,
    },
    RenameBranch {
        old: usize,
        new: usize,
    },
    CheckoutBranch {
        name: usize,
        force: bool,
    },
    CheckoutCommit {
        commit: usize,
        force: bool,
    },
    CheckoutNew {
        name: usize,
        commit: usize,
    },
    CheckoutPath {
        commit: usize,
        path: usize,
    },
    Tag {
        name: usize,
        commit: usize,
        annotated: bool,
        force: bool,
    },
    DeleteTag {
        name: usize,
    },
    Reset {
        commit: usize,
        soft: bool,
    },
    ResetHard {
        commit: usize,
        force: bool,
    },
    /// Begins a merge; where it is `clean`, with nothing staged or changed.
    Merge {
        commit: usize,
        clean: bool,
        no_commit: bool,
    },
    /// Commits the merge that waits.
    Continue,
    /// Gives it up.
    Abort {
        force: bool,
    },
    /// Decides about its conflicts.
    CheckoutSide {
        place: usize,
        theirs: bool,
    },
    /// Squashes the branch that is checked out.
    Squash,
    /// Takes the last operation back, where the model can say what comes out.
    Undo,
    /// Collects garbage: with the logs of refs, or only what they do not hold.
    Collect {
        prune: bool,
    },
    Optimize,
    /// Another process goes on.
    Reopen,
    /// The cache is lost.
    LoseCache,
}

/// A repository and what it should be.
pub(crate) struct Machine {
    folder: TempDir,
    repository: Repository,
    pub(crate) model: Model,
    commits: usize,
    /// The last operation, where it can be taken back.
    undoable: Option<Undoable>,
}

/// An operation that can be taken back.
struct Undoable {
    /// The model before it.
    before: Model,
    /// Whether files go back with the stage.
    has_files: bool,
}

impl Machine {
    pub(crate) fn new() -> Self {
        // In memory where that is possible: thousands of syncs are no part of what is tested here.
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let settings = Settings { threads: 1, ..Settings::default() };
        let repository = Repository::init(folder.path(), "main", Cut::TEST, settings).unwrap();
        Self { folder, repository, model: Model::new(), commits: 0, undoable: None }
    }

    fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The number of one of the commits; `None` where there are none.
    fn number(&self, choice: usize) -> Option<usize> {
        let there = self.model.commits.iter().enumerate().filter(|(_, commit)| !commit.is_gone);
        let there: Vec<usize> = there.map(|(number, _)| number).collect();
        // The latest are chosen most.
        (!there.is_empty()).then(|| there[there.len() - 1 - choice % there.len().min(20)])
    }

    fn id(&self, number: usize) -> String {
        self.model.commits[number].id.to_hex()
    }

    /// Does an operation to both, and checks that it ended alike.
    pub(crate) fn step(&mut self, operation: &Operation) {
        let before = self.model.clone();
        let undoable = self.undoable.take();
        match operation {
            Operation::Merge { commit, clean, no_commit } => return self.merge(*commit, *clean, *no_commit),
            Operation::Continue => return self.go_on(),
            Operation::Undo => return self.undo(undoable),
            Operation::Squash => return self.squash(),
            _ => {}
        }
        let expected = self.model_step(operation);
        let found = self.repository_step(operation, &before);
        match found {
            Ok(made) => {
                assert_eq!(Outcome::Done, expected, "{operation:?} was done");
                if let Some(id) = made {
                    self.model.commit(id);
                }
                self.undoable = self.undoable(operation, before);
            }
            Err(error) => assert_eq!(outcome(&error), expected, "{operation:?}: {error}"),
        }
    }

    fn merge(&mut self, commit: usize, is_clean: bool, no_commit: bool) {
        if is_clean && self.model.merge.is_none() {
            // Chance alone hardly makes a work tree that nothing is in the way of a merge in.
            self.step(&Operation::Add { path: None });
            self.step(&Operation::Commit);
            self.undoable = None;
        }
        let Some(theirs) = self.number(commit).filter(|theirs| self.model.can_merge(*theirs)) else { return };
        let expected = self.model.merge(theirs, no_commit);
        let options = MergeOptions { no_commit, ..MergeOptions::default() };
        let found = self.repository.merge(&self.id(theirs), &options, &NoProgress);
        self.merged(found, expected);
    }

    /// A merge ended so, and should have ended as `expected`.
    fn merged(&mut self, found: Result<MergeReport, RepoError>, (expected, merged): (Outcome, Option<Commit>)) {
        match found {
            Ok(report) => {
                let is_conflict = report.status == MergeStatus::Conflict;
                let outcome = if is_conflict { Outcome::Conflict } else { Outcome::Done };
                assert_eq!(outcome, expected, "{report:?}");
                assert_eq!(report.is_waiting, self.model.merge.is_some(), "{report:?}");
                assert_eq!(report.commit.is_some(), merged.is_some(), "{report:?}");
                if let (Some(id), Some(merged)) = (report.commit, merged) {
                    self.model.merged(Commit { id, ..merged });
                }
            }
            Err(error) => assert_eq!(outcome(&error), expected, "{error}"),
        }
    }

    fn go_on(&mut self) {
        let expected = self.model.go_on();
        let found = self.repository.continue_merge(&ContinueOptions::default(), &NoProgress);
        self.merged(found, expected);
    }

    fn squash(&mut self) {
        let Head::Branch(name) = self.model.head.clone() else { return };
        if self.model.head_commit().is_none() || self.model.merge.is_some() {
            return;
        }
        let options = SquashOptions { branch: Some(name), ..SquashOptions::default() };
        let plan = match self.repository.plan_squash(&options) {
            Err(RepoError::NothingToDo(_)) => {
                let head = self.model.head_commit().unwrap();
                return assert!(self.model.commits[head].parents.is_empty(), "there was something to squash");
            }
            plan => plan.unwrap(),
        };
        let report = self.repository.squash(plan).unwrap();
        self.model.squashed(report.new_head);
    }

    fn undo(&mut self, before: Option<Undoable>) {
        let Some(Undoable { before, has_files }) = before else { return };
        self.repository.undo(None, UndoOptions::default(), &NoProgress).unwrap();
        if has_files {
            assert_eq!(self.model.replace(&before.staged(), Losses::KeepUnstaged), Outcome::Done);
        }
        // What was made is still there, and named by logs; and files that no operation changed are what they are now.
        let (commits, work) = (std::mem::take(&mut self.model.commits), std::mem::take(&mut self.model.work));
        self.model = Model { commits, work, ..before };
    }

    /// What undoing an operation that was done comes to, where the model can say it.
    fn undoable(&self, operation: &Operation, before: Model) -> Option<Undoable> {
        let after = &self.model;
        let has_files = match operation {
            Operation::Commit | Operation::Branch { .. } | Operation::DeleteBranch { .. } => false,
            Operation::CheckoutBranch { .. }
            | Operation::CheckoutCommit { .. }
            | Operation::CheckoutNew { .. }
            | Operation::ResetHard { .. } => {
                // Where no ref moved, nothing was done that could be undone.
                let stage_moved = before.stage != after.stage;
                let others_moved = before.head != after.head || before.head_commit() != after.head_commit();
                if !stage_moved && !others_moved && before.merge.is_none() {
                    return None;
                }
                stage_moved
            }
            _ => return None,
        };
        Some(Undoable { before, has_files })
    }

    fn model_step(&mut self, operation: &Operation) -> Outcome {
        let losses = |force| if force { Losses::Allow } else { Losses::Keep };
        let Some(number) = self.choice(operation) else { return Outcome::Unknown };
        let model = &mut self.model;
        match *operation {
            Operation::Write { path, content } => drop(model.work.insert(PATHS[path], content)),
            Operation::Remove { path } => drop(model.work.remove(PATHS[path])),
            Operation::Add { path } => return model.add(path.map(|path| PATHS[path])),
            Operation::Commit => return model.can_commit(),
            Operation::Branch { name, .. } => return model.create_branch(BRANCHES[name], number),
            Operation::DeleteBranch { name, force } => return model.delete_branch(BRANCHES[name], force),
            Operation::RenameBranch { old, new } => return model.rename_branch(BRANCHES[old], BRANCHES[new]),
            Operation::CheckoutBranch { name, force } => {
                return match model.branches.get(BRANCHES[name]).copied() {
                    Some(number) => model.checkout(Head::Branch(BRANCHES[name].to_owned()), number, losses(force)),
                    None => Outcome::Unknown,
                };
            }
            Operation::CheckoutCommit { force, .. } => {
                return model.checkout(Head::Commit(number), number, losses(force));
            }
            Operation::CheckoutNew { name, .. } => {
                if model.branches.contains_key(BRANCHES[name]) {
                    return Outcome::Taken;
                }
                let outcome = model.checkout(Head::Branch(BRANCHES[name].to_owned()), number, Losses::Keep);
                if outcome == Outcome::Done {
                    model.branches.insert(BRANCHES[name].to_owned(), number);
                }
                return outcome;
            }
            Operation::CheckoutPath { path, .. } => return model.checkout_path(number, PATHS[path]),
            Operation::Tag { name, force, .. } => return model.create_tag(TAGS[name], number, force),
            Operation::DeleteTag { name } => return model.delete_tag(TAGS[name]),
            Operation::Reset { soft, .. } => return model.reset(number, soft, None),
            Operation::ResetHard { force, .. } => {
                let losses = if force { Losses::Allow } else { Losses::Refuse };
                return model.reset(number, false, Some(losses));
            }
            Operation::Collect { prune: true } => model.prune(),
            Operation::Abort { force } => return model.abort(force),
            Operation::CheckoutSide { place, theirs } => return model.checkout_side(PLACES[place], theirs),
            Operation::Merge { .. } | Operation::Continue | Operation::Squash | Operation::Undo => {
                unreachable!("done by themselves")
            }
            Operation::Collect { prune: false } | Operation::Optimize | Operation::Reopen | Operation::LoseCache => {}
        }
        Outcome::Done
    }

    /// The commit that an operation is about; 0 where it is about none, `None` where it would be and there are none.
    fn choice(&self, operation: &Operation) -> Option<usize> {
        match operation {
            Operation::Branch { commit, .. }
            | Operation::CheckoutCommit { commit, .. }
            | Operation::CheckoutNew { commit, .. }
            | Operation::CheckoutPath { commit, .. }
            | Operation::Tag { commit, .. }
            | Operation::Reset { commit, .. }
            | Operation::ResetHard { commit, .. } => self.number(*commit),
            _ => Some(0),
        }
    }

    /// Does an operation to the repository; gives the id of a new commit.
    fn repository_step(&mut self, operation: &Operation, before: &Model) -> Result<Option<Digest>, RepoError> {
        let revision = match self.choice(operation) {
            Some(number) if !before.commits.is_empty() => self.id(number),
            _ => "HEAD".to_owned(),
        };
        let force = |force| CheckoutOptions { force };
        let repository = &self.repository;
        match *operation {
            Operation::Write { path, content } => {
                let place = self.place(PATHS[path]);
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::write(place, content.bytes()).unwrap();
            }
            Operation::Remove { path } => drop(fs::remove_file(self.place(PATHS[path]))),
            Operation::Add { path } => {
                let place = path.map_or_else(|| self.folder.path().to_owned(), |path| self.place(PATHS[path]));
                repository.add(&[place], &NoProgress)?;
            }
            Operation::Commit => {
                self.commits += 1;
                let message = format!("Commit {}", self.commits);
                let options = CommitOptions { message, ..CommitOptions::default() };
                return Ok(Some(repository.commit(&options)?.id));
            }
            Operation::Branch { name, .. } => drop(repository.create_branch(BRANCHES[name], &revision)?),
            Operation::DeleteBranch { name, force } => drop(repository.delete_branch(BRANCHES[name], force)?),
            Operation::RenameBranch { old, new } => repository.rename_branch(BRANCHES[old], BRANCHES[new])?,
            Operation::CheckoutBranch { name, force: forced } => {
                repository.checkout(&format!("heads/{}", BRANCHES[name]), force(forced), &NoProgress)?;
            }
            Operation::CheckoutCommit { force: forced, .. } => {
                repository.checkout(&revision, force(forced), &NoProgress)?;
            }
            Operation::CheckoutNew { name, .. } => {
                repository.checkout_new_branch(BRANCHES[name], &revision, force(false), &NoProgress)?;
            }
            Operation::CheckoutPath { path, .. } => {
                repository.checkout_paths(&revision, &[self.place(PATHS[path])], &NoProgress)?;
            }
            Operation::Tag { name, annotated, force, .. } => {
                let message = annotated.then(|| "A release".to_owned());
                repository.create_tag(TAGS[name], &revision, &TagOptions { message, force, tagger: None })?;
            }
            Operation::DeleteTag { name } => drop(repository.delete_tag(TAGS[name])?),
            Operation::Reset { soft, .. } => {
                let mode = if soft { ResetMode::Soft } else { ResetMode::Mixed };
                repository.reset(&revision, ResetOptions { mode, ..ResetOptions::default() }, &NoProgress)?;
            }
            Operation::ResetHard { force, .. } => {
                let options = ResetOptions { mode: ResetMode::Hard, force, ..ResetOptions::default() };
                repository.reset(&revision, options, &NoProgress)?;
            }
            Operation::Collect { prune } => {
                let options = GcOptions { keep_reflog: 10_000, ..GcOptions::default() };
                repository.gc(&if prune { options.prune_now() } else { options }, &NoProgress)?;
            }
            Operation::Optimize => drop(repository.optimize(OptimizeOptions::default(), &NoProgress)?),
            Operation::Abort { force: forced } => drop(repository.abort_merge(force(forced), &NoProgress)?),
            Operation::CheckoutSide { place, theirs } => {
                let side = if theirs { Side::Theirs } else { Side::Ours };
                repository.checkout_side(side, &[self.place(PLACES[place])], &NoProgress)?;
            }
            Operation::Merge { .. } | Operation::Continue | Operation::Squash | Operation::Undo => {
                unreachable!("done by themselves")
            }
            Operation::Reopen => self.reopen(),
            Operation::LoseCache => {
                fs::remove_dir_all(self.repository.dir().join("cache")).unwrap();
                self.reopen();
            }
        }
        Ok(None)
    }

    fn reopen(&mut self) {
        let settings = Settings { threads: 1, ..Settings::default() };
        self.repository = Repository::discover(self.folder.path(), settings).unwrap();
    }

    /// The repository is what the model says: refs, what is checked out, files, what is staged and changed.
    pub(crate) fn check(&self) {
        let (repository, model) = (&self.repository, &self.model);
        let head = repository.head().unwrap();
        let id = |number: usize| model.commits[number].id;
        assert_eq!(head.commit, model.head_commit().map(id), "what is checked out");
        let branch = match &model.head {
            Head::Branch(name) => Some(name.clone()),
            Head::Commit(_) => None,
        };
        assert_eq!(head.branch, branch, "the branch that is checked out");
        assert_eq!(repository.default_branch().unwrap(), model.default);
        let branches = repository.branches().unwrap().into_iter().map(|branch| (branch.name, branch.commit));
        let expected = model.branches.iter().map(|(name, number)| (name.clone(), id(*number)));
        assert_eq!(branches.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "branches");
        let tags = repository.tags(None).unwrap().into_iter().map(|tag| (tag.name, tag.commit));
        let expected = model.tags.iter().map(|(name, number)| (name.clone(), id(*number)));
        assert_eq!(tags.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "tags");

        let merge = repository.merge_state().unwrap().map(|merge| {
            let conflicts = merge.conflicts.into_keys().collect::<Vec<_>>();
            (merge.ours, merge.theirs, conflicts, merge.resolved.into_iter().collect(), merge.is_staged)
        });
        let expected = model.merge.as_ref().map(|merge| {
            let [conflicts, resolved] = [&merge.conflicts, &merge.resolved]
                .map(|paths| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
            (id(merge.ours), id(merge.theirs), conflicts, resolved, merge.is_staged)
        });
        assert_eq!(merge, expected, "the merge that waits");

        for path in PATHS {
            let found = fs::read(self.place(path)).ok();
            assert!(found == model.work.get(path).map(|content| content.bytes()), "{path} in the work tree");
        }
        let status = repository.status().unwrap();
        let (last, stage) = (model.last(), model.staged());
        let mut staged: Vec<&str> = Vec::new();
        for change in &status.staged {
            // A file that is gone where the same content is new counts as renamed: both paths are staged.
            if let FileChange::Renamed { from, path, .. } = change {
                assert_eq!(last.get(from.as_str()), stage.get(path.as_str()), "{from} to {path}");
                staged.push(from);
            }
            staged.push(change.path());
        }
        staged.sort_unstable();
        let mut expected: Vec<&str> = last.keys().chain(stage.keys()).copied().collect();
        expected.sort_unstable();
        expected.dedup();
        expected.retain(|path| last.get(path) != stage.get(path));
        assert_eq!(staged, expected, "what is staged: {last:?} is checked out, {stage:?} staged");
        let mut expected: Vec<(String, WorkState)> = Vec::new();
        for path in PATHS {
            let state = match (model.work.get(path), stage.get(path)) {
                (Some(_), None) => WorkState::Untracked,
                (None, Some(_)) => WorkState::Deleted,
                (Some(work), Some(staged)) if work != staged => WorkState::Modified,
                _ => continue,
            };
            expected.push((path.to_owned(), state));
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(status.work, expected, "what is changed");
    }

    /// History and the files of every commit that something names are what the model says, and the repository is sound.
    pub(crate) fn check_all(&self) {
        let model = &self.model;
        let mut named: Vec<usize> = model.branches.values().chain(model.tags.values()).copied().collect();
        named.extend(model.head_commit());
        named.sort_unstable();
        named.dedup();
        for number in named {
            let log = self.repository.log(model.commits[number].id, None, usize::MAX).unwrap();
            let mut found: Vec<Digest> = log.iter().map(|entry| entry.id).collect();
            let mut expected: Vec<Digest> =
                model.ancestors(number).into_iter().map(|number| model.commits[number].id).collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "the history of commit {number}");
            let out = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
            self.repository
                .export(&self.id(number), &[], out.path(), CheckoutOptions { force: false }, &NoProgress)
                .unwrap();
            for path in PATHS {
                let found = fs::read(Path::join(out.path(), path)).ok();
                let expected = model.commits[number].tree.get(path).map(|content| content.bytes());
                assert!(found == expected, "{path} of commit {number}");
            }
        }
        let report = self.repository.verify(true, &NoProgress).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
    }
}

/// What an error means.
fn outcome(error: &RepoError) -> Outcome {
    match error {
        RepoError::NothingToDo(_) => Outcome::Nothing,
        RepoError::WouldOverwrite { .. } => Outcome::Lost,
        RepoError::Ref(problem) => match problem {
            RefProblem::Exists { .. } => Outcome::Taken,
            RefProblem::Unknown { .. } => Outcome::Unknown,
            RefProblem::CheckedOut(_) | RefProblem::Default(_) | RefProblem::OnlyHere { .. } => Outcome::Needed,
            problem => panic!("{problem}"),
        },
        RepoError::Merge(problem) => match problem {
            MergeProblem::Unrelated { .. } => Outcome::Unrelated,
            MergeProblem::UnderWay | MergeProblem::NotUnderWay => Outcome::Merging,
            MergeProblem::NotInConflict(_) => Outcome::Unknown,
            MergeProblem::StagedMeanwhile(_) => Outcome::Lost,
            problem => panic!("{problem}"),
        },
        RepoError::Revision(_) | RepoError::NoSuchPath { .. } | RepoError::Path { .. } => Outcome::Unknown,
        error => panic!("{error}"),
    }
}
