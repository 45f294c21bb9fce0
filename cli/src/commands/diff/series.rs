//! A series of versions, each compared with the one before it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_core::Digest;
use shard_heatmap::models::{self, Series};
use shard_heatmap::{Label, Version};
use shard_history::{Revision, RevisionSpec};
use shard_repo::{LogEntry, PackOptions, RepoError, Repository, Side, compare_sides, pack};

use super::picture::{self, Pictures};
use super::{Args, By, json};
use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;

/// A version of a model.
struct Point {
    label: Label,
    side: Side,
    version: Option<Version>,
}

/// `shard diff --series`: files, or revisions, or one range.
pub(super) fn of_operands(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository_if_any()?;
    let points = match (&args.sides[..], &repository) {
        ([range], Some(repository)) if range.contains("..") && !Path::new(range).exists() => {
            of_commits(repository, &range_of(repository, range)?, None)?
        }
        (names, Some(repository)) if !names.is_empty() && names.iter().all(|name| !Path::new(name).exists()) => {
            let commits = names.iter().map(|name| repository.resolve(name)).collect::<Result<Vec<_>, _>>()?;
            of_commits(repository, &commits, None)?
        }
        (names, repository) if names.len() > 1 => of_files(names, repository.as_ref(), !args.no_sizes, context)?,
        _ => Vec::new(),
    };
    if points.len() < 2 {
        return Err(Failure::new(code::USAGE, "a series has two versions at least")
            .next("name the files of a run in order, or a range of a branch, as in main~5..main"));
    }
    show(None, points, args.by, &args.pictures, args.exit_code, context)
}

/// `shard log --heat`: the commits given, newest first.
pub(crate) fn of_log(
    repository: &Repository,
    entries: &[LogEntry],
    path: Option<&str>,
    by: By,
    pictures: &Pictures,
    context: &Context,
) -> Result<u8, Failure> {
    pictures.check()?;
    // The oldest of some commits has a version before it, too, which is not shown.
    let oldest = entries.last().and_then(|entry| entry.commit.parents.first().copied());
    let commits: Vec<Digest> = oldest.into_iter().chain(entries.iter().rev().map(|entry| entry.id)).collect();
    let mut points = of_commits(repository, &commits, path)?;
    let before = oldest.is_some().then(|| points.remove(0));
    show(before, points, by, pictures, false, context)
}

/// The commits of a branch from the first of a range to its last, by first parents.
fn range_of(repository: &Repository, text: &str) -> Result<Vec<Digest>, Failure> {
    let RevisionSpec::Range(from, to) = RevisionSpec::parse(text).map_err(RepoError::from)? else {
        return Err(Failure::new(code::USAGE, format!("{text:?} is no range of revisions")).next("write it as A..B"));
    };
    let (first, last) = (repository.resolve(&from.to_string())?, repository.resolve(&to.to_string())?);
    let mut commits = vec![last];
    let mut at = last;
    while at != first {
        let Some(parent) = repository.read_commit(at)?.parents.first().copied() else {
            return Err(Failure::new(code::REFUSED, format!("{to} does not come from {from} by first parents"))
                .next("give a range along one branch, as in main~5..main"));
        };
        commits.push(parent);
        at = parent;
    }
    commits.reverse();
    Ok(commits)
}

fn of_commits(repository: &Repository, commits: &[Digest], path: Option<&str>) -> Result<Vec<Point>, Failure> {
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut points = Vec::new();
    for id in commits {
        let revision = Revision::parse(&id.to_hex()).map_err(RepoError::from)?;
        let commit = repository.read_commit(*id)?;
        let within = |file: &str| path.is_none_or(|path| file == path || file.starts_with(&format!("{path}/")));
        let mut version = Version::default();
        for (file, entry) in repository.files_of(*id)?.files() {
            if !within(file) {
                continue;
            }
            let (manifest, stored) = repository.storage(entry.manifest)?;
            if manifest.tensors.is_empty() {
                continue;
            }
            version.raw += entry.size;
            let new = stored.blocks.iter().filter(|(block, _)| seen.insert(**block));
            version.stored += new.map(|(_, block)| block.stored).sum::<u64>();
        }
        let models = match repository.models(&revision, path.unwrap_or_default()) {
            Ok(models) => models,
            // The path came later.
            Err(RepoError::NoSuchPath { .. }) => Default::default(),
            Err(error) => return Err(error.into()),
        };
        let step = commit.records.iter().find_map(|record| record.step);
        let short = step.map_or_else(|| id.short(), |step| step.to_string());
        let full = format!("{} {}", id.short(), commit.title());
        let side = Side::joined(full.clone(), models.into_values().collect());
        points.push(Point { label: Label { short, full }, side, version: Some(version) });
    }
    Ok(points)
}

fn of_files(
    names: &[String],
    repository: Option<&Repository>,
    sizes: bool,
    context: &Context,
) -> Result<Vec<Point>, Failure> {
    let cut = repository.map_or(shard_core::limits::Cut::V1, Repository::cut);
    let sides = names.iter().map(|name| {
        if !Path::new(name).exists() {
            return Err(Failure::new(code::NOT_FOUND, format!("there is no file {name:?}"))
                .next("name files, or revisions, but not both"));
        }
        let side = Side::from_path(Path::new(name), cut)?;
        if side.tensor_count() == 0 {
            return Err(Failure::new(code::USAGE, format!("{name} holds no tensors"))
                .next("a series is of models: leave other files out"));
        }
        Ok(side)
    });
    let sides = sides.collect::<Result<Vec<_>, _>>()?;
    let versions = match sizes {
        true => packed(names, context)?,
        false => vec![None; names.len()],
    };
    let labels = labels(names);
    Ok(sides
        .into_iter()
        .zip(labels)
        .zip(versions)
        .map(|((side, label), version)| Point { label, side, version })
        .collect())
}

/// What each file takes beside those before it, found by packing them into an archive that is thrown away. Nothing is said of folders.
fn packed(names: &[String], context: &Context) -> Result<Vec<Option<Version>>, Failure> {
    let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    let distinct: HashSet<&PathBuf> = files.iter().collect();
    if files.iter().any(|file| !file.is_file()) || distinct.len() < files.len() {
        return Ok(vec![None; names.len()]);
    }
    let folder =
        tempfile::tempdir().map_err(|error| Failure::io(&std::env::temp_dir(), "cannot make a folder in", &error))?;
    let progress = context.ui.progress();
    let out = folder.path().join("series.shard");
    let report = pack(&files, &out, &PackOptions::default(), context.settings, progress.as_ref())?;
    let of = |packed: &shard_repo::Packed| Some(Version { raw: packed.size, stored: packed.growth });
    Ok(report.files.iter().map(of).collect())
}

/// Files by what tells them apart: their names without extension, or the folders they are in.
fn labels(names: &[String]) -> Vec<Label> {
    let stem = |name: &str| {
        let path = Path::new(name);
        path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned())
    };
    let folder = |name: &str| {
        let parent = Path::new(name).parent().and_then(Path::file_name);
        parent.map_or_else(|| stem(name), |parent| parent.to_string_lossy().into_owned())
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    names.iter().for_each(|name| *counts.entry(stem(name)).or_default() += 1);
    let is_told_by_stem = counts.values().all(|count| *count == 1);
    let short = |name: &String| if is_told_by_stem { stem(name) } else { folder(name) };
    names.iter().map(|name| Label { short: short(name), full: name.clone() }).collect()
}

/// Shows versions, the first against one before it, where there is one.
fn show(
    first: Option<Point>,
    points: Vec<Point>,
    by: By,
    pictures: &Pictures,
    exit_code: bool,
    context: &Context,
) -> Result<u8, Failure> {
    let progress = context.ui.progress();
    let mut series = Series::default();
    let mut documents: Vec<Value> = Vec::new();
    let mut differs = false;
    let title = match (points.first(), points.last()) {
        (Some(first), Some(last)) => models::title(&first.side.label, &last.side.label),
        _ => String::new(),
    };
    let mut notes = vec![count(points.len() as u64, "version")];
    let mut before: Option<&Point> = first.as_ref();
    for point in &points {
        let found = before
            .map(|before| compare_sides(&before.side, &point.side, by.options(), progress.as_ref()))
            .transpose()?;
        series.push(point.label.clone(), found.as_ref(), point.version);
        differs |= found.as_ref().is_some_and(|found| !found.identical);
        let mut document = json!({
            "label": point.label.short,
            "name": point.label.full,
            "raw": point.version.map(|version| version.raw),
            "stored": point.version.map(|version| version.stored),
        });
        if let Some(found) = &found {
            notes.extend(models::lost_values(found).map(|lost| format!("{}: {lost}", point.label.short)));
            document["kind"] = json::verdict(&found.verdict);
            document["tensors"] = found.tensors.iter().map(json::tensor).collect();
        }
        if context.ui.json {
            documents.push(document);
        }
        before = Some(point);
    }
    drop(progress);
    let map = series.finish(title, notes, by.metric());
    pictures.write(&map)?;
    if context.ui.json {
        context.ui.print_json(&json!({"differs": differs, "versions": documents}))?;
    } else {
        context.ui.print(&picture::text(&map, context))?;
    }
    Ok(if exit_code && differs { code::DIFFERENT } else { code::DONE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names_or_by_their_folders() {
        let short = |names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            labels(&names).into_iter().map(|label| label.short).collect()
        };
        assert_eq!(short(&["run/step10.pt", "run/step20.pt"]), ["step10", "step20"]);
        assert_eq!(short(&["a/model.pt", "b/model.pt"]), ["a", "b"]);
    }
}
