//! What the sides of a comparison are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use shard_core::limits::Cut;
use shard_history::{FileChange, FileTree, Revision, RevisionSpec, diff_files};
use shard_repo::{RepoError, Repository, Side, WorkState, model_name};

use super::{Pair, Plan};
use crate::Context;
use crate::error::{Failure, code};

/// One side, as the user named it.
enum Operand {
    /// A file, a folder or an index file on disk.
    Disk(PathBuf),
    /// A revision: all of its models.
    Revision(Revision),
    /// Part of a revision, and its path.
    Part(Revision, String),
}

/// Finds out what is to be compared.
pub(super) fn plan(sides: &[&str], context: &Context) -> Result<Plan, Failure> {
    let repository = context.repository_if_any()?;
    if let [one] = sides
        && let Some((from, to)) = range(one, repository.as_ref())
    {
        let planner = Planner { repository, context };
        return planner.revisions(&from, &to);
    }
    if sides.len() > 2 {
        return Err(Failure::new(code::USAGE, format!("two models are compared, and {} are named", sides.len()))
            .next("add --series to compare each with the one before it"));
    }
    let operands = sides.iter().map(|text| operand(text, repository.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let planner = Planner { repository, context };
    match &operands[..] {
        [] => planner.against_work_tree(&head()?),
        [Operand::Revision(revision)] => planner.against_work_tree(revision),
        [Operand::Disk(path)] => planner.file_against(&head()?, path),
        [Operand::Part(revision, path)] => planner.part_against_work_tree(revision, path),
        [Operand::Revision(old), Operand::Revision(new)] => planner.revisions(old, new),
        [Operand::Revision(revision), Operand::Disk(path)] => planner.file_against(revision, path),
        [Operand::Disk(path), Operand::Revision(revision)] => {
            let plan = planner.file_against(revision, path)?;
            let swap = |pair: Pair| Pair { name: pair.name, old: pair.new, new: pair.old };
            Ok(Plan { pairs: plan.pairs.into_iter().map(swap).collect(), ..plan })
        }
        [old, new, ..] => Ok(Plan { pairs: planner.pair_up(old, new)?, others: Vec::new(), files: BTreeSet::new() }),
    }
}

/// Leaves only what is at or below paths.
pub(super) fn limit(plan: &mut Plan, paths: &[PathBuf], context: &Context) -> Result<(), Failure> {
    if paths.is_empty() {
        return Ok(());
    }
    let repository = context.repository()?;
    let paths = paths.iter().map(|path| repository.tracked_path(path)).collect::<Result<Vec<_>, _>>()?;
    let is_below = |name: &str| paths.iter().any(|path| path.is_empty() || name.starts_with(&format!("{path}/")));
    let has_model = |name: &str| is_below(name) || paths.iter().any(|path| model_name(path) == name);
    for path in &paths {
        let is_it = |file: &String| path.is_empty() || file == path || file.starts_with(&format!("{path}/"));
        if !plan.files.is_empty() && !plan.files.iter().any(|file| is_it(file) || model_name(file) == path) {
            return Err(Failure::new(code::NOT_FOUND, format!("neither side has a file {path:?}"))
                .next("check the spelling: paths are as seen from the current folder"));
        }
    }
    plan.pairs.retain(|pair| has_model(&pair.name));
    plan.others.retain(|change| is_below(change.path()) || paths.iter().any(|path| path == change.path()));
    Ok(())
}

/// The paths of all files of trees.
fn paths_of(trees: [&FileTree; 2]) -> BTreeSet<String> {
    trees.into_iter().flat_map(|tree| tree.files().keys().cloned()).collect()
}

/// `A..B`, where that is no file.
fn range(text: &str, repository: Option<&Repository>) -> Option<(Revision, Revision)> {
    if repository.is_none() || Path::new(text).symlink_metadata().is_ok() {
        return None;
    }
    match RevisionSpec::parse(text) {
        Ok(RevisionSpec::Range(from, to)) => Some((from, to)),
        _ => None,
    }
}

/// A revision wins over a file of the same name, which can be written `./NAME`.
fn operand(text: &str, repository: Option<&Repository>) -> Result<Operand, Failure> {
    let on_disk = Path::new(text);
    let unknown = match repository.map(|repository| named(text, repository)) {
        None => None,
        Some(Ok(operand)) => return Ok(operand),
        Some(Err(error)) => Some(error),
    };
    if on_disk.symlink_metadata().is_ok() {
        return Ok(Operand::Disk(on_disk.to_owned()));
    }
    match unknown {
        Some(error @ RepoError::Revision(_)) => {
            let failure = Failure::from(error).because(format!("there is no file {text:?} either"));
            Err(failure.with_code(code::NOT_FOUND))
        }
        Some(error) => Err(error.into()),
        None => Err(Failure::new(code::NOT_FOUND, format!("there is no file {text:?}"))
            .because("there is no repository here either, so it cannot be a revision")
            .next("check the spelling, or run this in a repository")),
    }
}

/// What a text names in a repository.
fn named(text: &str, repository: &Repository) -> Result<Operand, RepoError> {
    match RevisionSpec::parse(text)? {
        RevisionSpec::Commit(revision) => {
            repository.resolve(&revision.to_string())?;
            Ok(Operand::Revision(revision))
        }
        RevisionSpec::Path(revision, path) => {
            repository.resolve(&revision.to_string())?;
            Ok(Operand::Part(revision, path))
        }
        RevisionSpec::Range(old, new) => Err(RepoError::Argument(format!(
            "{old}..{new} names commits, not a model: give two revisions, as in `shard diff {old} {new}`"
        ))),
    }
}

fn head() -> Result<Revision, Failure> {
    Ok(Revision::parse("HEAD").map_err(RepoError::from)?)
}

struct Planner<'a> {
    repository: Option<Repository>,
    context: &'a Context,
}

impl Planner<'_> {
    fn repository(&self) -> Result<&Repository, Failure> {
        match &self.repository {
            Some(repository) => Ok(repository),
            // Says why there is none.
            None => Err(match self.context.repository() {
                Err(failure) => failure,
                Ok(_) => Failure::new(code::REFUSED, "the repository came up meanwhile").next("run the command again"),
            }),
        }
    }

    fn cut(&self) -> Cut {
        self.repository.as_ref().map_or(Cut::V1, Repository::cut)
    }

    fn disk(&self, path: &Path) -> Result<Side, Failure> {
        Ok(Side::from_path(path, self.cut())?)
    }

    /// A file on disk against what a revision has at its path.
    fn file_against(&self, revision: &Revision, path: &Path) -> Result<Plan, Failure> {
        let repository = self.repository()?;
        let tracked = repository.tracked_path(path)?;
        let old = joined(repository.models(revision, &tracked)?, &format!("{revision}:{tracked}"));
        let pair = Pair { name: model_name(&tracked).to_owned(), old, new: self.disk(path)? };
        Ok(Plan { pairs: vec![pair], others: Vec::new(), files: BTreeSet::new() })
    }

    /// `REV:PATH` against the same path of the work tree.
    fn part_against_work_tree(&self, revision: &Revision, path: &str) -> Result<Plan, Failure> {
        let repository = self.repository()?;
        let old = joined(repository.models(revision, path)?, &format!("{revision}:{path}"));
        let new = self.disk(&repository.root().join(path))?;
        let pair = Pair { name: model_name(path).to_owned(), old, new };
        Ok(Plan { pairs: vec![pair], others: Vec::new(), files: BTreeSet::new() })
    }

    /// Every model of two revisions, by name.
    fn revisions(&self, old: &Revision, new: &Revision) -> Result<Plan, Failure> {
        let repository = self.repository()?;
        let tree = |revision: &Revision| repository.files_of(repository.resolve(&revision.to_string())?);
        let (before, after) = (tree(old)?, tree(new)?);
        let (changes, files) = (diff_files(&before, &after), paths_of([&before, &after]));
        let touched = |path: &str| changes.iter().any(|change| is_at(change, path));
        let (mut before, after) = (repository.models(old, "")?, repository.models(new, "")?);
        follow_renames(&mut before, &after, &changes);
        let pairs = by_name(before, after, &old.to_string(), &new.to_string());
        // A model that is the same on both sides is not worth a heading, unless it is all there is.
        let one = pairs.len() == 1;
        let changed = pairs.into_iter().filter(|pair| one || touched(&pair.name)).collect();
        Ok(Plan { pairs: changed, others: self.without_tensors(changes)?, files })
    }

    /// A revision against the work tree: what is tracked and not the same.
    fn against_work_tree(&self, revision: &Revision) -> Result<Plan, Failure> {
        let repository = self.repository()?;
        let base = repository.files_of(repository.resolve(&revision.to_string())?)?;
        let status = repository.status()?;
        let mut tracked = match status.head.commit {
            Some(head) => repository.files_of(head)?,
            None => FileTree::new(),
        };
        for change in &status.staged {
            if let FileChange::Renamed { from, .. } = change {
                tracked.remove(from);
            }
            match change.new_entry() {
                Some(entry) => {
                    // Of two staged trees one is valid, so inserting into the other can only fail for what is removed below.
                    let _ = tracked.insert(change.path(), *entry);
                }
                None => {
                    tracked.remove(change.path());
                }
            }
        }
        let files = paths_of([&base, &tracked]);
        let modified: BTreeSet<&str> = work_paths(&status.work, WorkState::Modified);
        for path in work_paths(&status.work, WorkState::Deleted) {
            tracked.remove(path);
        }
        // Paths that are not as in the revision: by content of the stage, or changed since.
        let mut changes = diff_files(&base, &tracked);
        let staged_changes: BTreeSet<String> = changes.iter().map(|change| change.path().to_owned()).collect();
        for path in modified.iter().filter(|path| !staged_changes.contains(**path)) {
            if let (Some(old), Some(new)) = (base.get(path), tracked.get(path)) {
                changes.push(FileChange::Modified { path: (*path).to_owned(), old: *old, new: *new });
            }
        }
        let names: BTreeSet<&str> = changes.iter().flat_map(names_of).collect();
        let mut old_models = repository.models(revision, "")?;
        old_models.retain(|name, _| names.contains(name.as_str()));
        let mut new_models: BTreeMap<String, Vec<Side>> = BTreeMap::new();
        let mut opaque = Vec::new();
        for path in tracked.files().keys().filter(|path| names.contains(model_name(path))) {
            let side = self.disk(&repository.root().join(path))?;
            if side.tensor_count() == 0 {
                opaque.push(path.clone());
            } else {
                new_models.entry(model_name(path).to_owned()).or_default().push(side);
            }
        }
        let new_models: BTreeMap<String, Side> = new_models
            .into_iter()
            .map(|(name, sides)| {
                let label = format!("work tree:{name}");
                (name, Side::joined(label, sides))
            })
            .collect();
        let others = changes
            .iter()
            .filter(|change| opaque.iter().any(|path| path == change.path()) || self.lacks_tensors(change, &tracked))
            .cloned()
            .collect();
        follow_renames(&mut old_models, &new_models, &changes);
        let pairs = by_name(old_models, new_models, &revision.to_string(), "work tree");
        Ok(Plan { pairs, others, files })
    }

    /// Whether a removed file held no tensors.
    fn lacks_tensors(&self, change: &FileChange, tracked: &FileTree) -> bool {
        let Some(old) = change.old().filter(|_| tracked.get(change.path()).is_none()) else { return false };
        let manifest = self.repository.as_ref().and_then(|repository| repository.manifest(old.manifest).ok());
        manifest.is_some_and(|manifest| manifest.tensors.is_empty())
    }

    /// The changes of files that hold no tensors on either side.
    fn without_tensors(&self, changes: Vec<FileChange>) -> Result<Vec<FileChange>, Failure> {
        let repository = self.repository()?;
        let mut others = Vec::new();
        for change in changes {
            let mut has_tensors = false;
            for entry in [change.old(), change.new_entry()].into_iter().flatten() {
                has_tensors |= !repository.manifest(entry.manifest)?.tensors.is_empty();
            }
            if !has_tensors {
                others.push(change);
            }
        }
        Ok(others)
    }

    /// Two sides of which at least one is a file or a part of a revision.
    fn pair_up(&self, old: &Operand, new: &Operand) -> Result<Vec<Pair>, Failure> {
        let ((before, old_name), (after, new_name)) = (self.models(old)?, self.models(new)?);
        if before.len() == 1 || after.len() == 1 {
            let pair = Pair { name: new_name.clone(), old: joined(before, &old_name), new: joined(after, &new_name) };
            return Ok(vec![pair]);
        }
        Ok(by_name(before, after, &old_name, &new_name))
    }

    /// The models of one side, by their names below the path that was given.
    fn models(&self, operand: &Operand) -> Result<(BTreeMap<String, Side>, String), Failure> {
        match operand {
            Operand::Disk(path) => {
                let label = path.display().to_string();
                Ok((BTreeMap::from([(String::new(), self.disk(path)?)]), label))
            }
            Operand::Revision(revision) => Ok((self.repository()?.models(revision, "")?, revision.to_string())),
            Operand::Part(revision, path) => {
                let below = format!("{path}/");
                let models = self.repository()?.models(revision, path)?;
                let relative = |name: String| name.strip_prefix(&below).map(str::to_owned).unwrap_or(name);
                Ok((
                    models.into_iter().map(|(name, side)| (relative(name), side)).collect(),
                    format!("{revision}:{path}"),
                ))
            }
        }
    }
}

fn work_paths(work: &[(String, WorkState)], wanted: WorkState) -> BTreeSet<&str> {
    work.iter().filter(|(_, state)| *state == wanted).map(|(path, _)| path.as_str()).collect()
}

/// The names of the models that a change touches.
fn names_of(change: &FileChange) -> impl Iterator<Item = &str> {
    let from = match change {
        FileChange::Renamed { from, .. } => Some(model_name(from)),
        _ => None,
    };
    from.into_iter().chain([model_name(change.path())])
}

/// Gives a model of the old side the name that it has on the new one, where a file was renamed and neither side has both.
fn follow_renames(old: &mut BTreeMap<String, Side>, new: &BTreeMap<String, Side>, changes: &[FileChange]) {
    for change in changes {
        let FileChange::Renamed { from, path, .. } = change else { continue };
        let (from, to) = (model_name(from), model_name(path));
        if !new.contains_key(from)
            && new.contains_key(to)
            && !old.contains_key(to)
            && let Some(side) = old.remove(from)
        {
            old.insert(to.to_owned(), side);
        }
    }
}

fn is_at(change: &FileChange, name: &str) -> bool {
    names_of(change).any(|changed| changed == name)
}

/// Pairs models of the same name; one that a side lacks is compared with nothing.
fn by_name(
    mut old: BTreeMap<String, Side>,
    new: BTreeMap<String, Side>,
    old_label: &str,
    new_label: &str,
) -> Vec<Pair> {
    let nothing = |label: &str| Side::joined(format!("{label} (not there)"), Vec::new());
    let mut pairs: Vec<Pair> = new
        .into_iter()
        .map(|(name, new)| {
            let old = old.remove(&name).unwrap_or_else(|| nothing(&format!("{old_label}:{name}")));
            Pair { name, old, new }
        })
        .collect();
    pairs.extend(old.into_iter().map(|(name, old)| {
        let new = nothing(&format!("{new_label}:{name}"));
        Pair { name, old, new }
    }));
    pairs.sort_by(|a, b| shard_history::natural_cmp(&a.name, &b.name));
    pairs
}

/// All models of a side as one.
fn joined(models: BTreeMap<String, Side>, label: &str) -> Side {
    Side::joined(label.to_owned(), models.into_values().collect())
}
