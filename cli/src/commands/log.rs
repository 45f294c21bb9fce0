//! `shard log`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_core::Digest;
use shard_history::MergeRecord;
use shard_history::revision::RefKind;
use shard_manifest::RunRecord;
use shard_repo::{Head, LogEntry, LoggedCommit, NamedRef, RepoError, Repository, Topic};

use super::blame::glob;
use super::diff::{By, Pictures, series};
use super::merge::rules_text;
use crate::Context;
use crate::error::{Failure, code};
use crate::report::graph::{Beside, Graph};
use crate::report::json;
use crate::report::style::Style;
use crate::report::text::{visible, visible_lines};

/// Show commits, newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to start; HEAD by default. What is no revision is taken for a path
    #[arg(value_name = "REV")]
    first: Option<String>,
    /// Only commits that changed this file or folder
    #[arg(value_name = "PATH")]
    second: Option<PathBuf>,
    /// The same, where PATH alone would be taken for a revision
    #[arg(last = true, value_name = "PATH", conflicts_with = "second")]
    path: Option<PathBuf>,
    /// At most this many commits
    #[arg(short = 'n', long, value_name = "N")]
    max_count: Option<usize>,
    /// A line a commit
    #[arg(long)]
    oneline: bool,
    /// Only commits that changed tensors whose names match, in whatever file: * is any text, ? a character, [a-c] one of these
    #[arg(long, value_name = "GLOB", conflicts_with = "heat")]
    tensor: Option<String>,
    /// Draw the graph of commits beside them
    #[arg(long, conflicts_with = "heat")]
    graph: bool,
    /// Show these commits as a picture: each against the one before it, time on x, layers on y, and what each takes
    #[arg(long, conflicts_with = "oneline")]
    heat: bool,
    /// With --heat: what colours stand for
    #[arg(long, value_name = "METRIC", value_enum, default_value_t, requires = "heat")]
    by: By,
    #[command(flatten)]
    pictures: Pictures,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    if args.pictures.any() && !args.heat {
        return Err(Failure::new(code::USAGE, "pictures of the log are those of --heat").next("add --heat"));
    }
    let repository = context.repository()?;
    let (from, path) = select(args, &repository)?;
    let most = args.max_count.unwrap_or(usize::MAX);
    let topic = match (&args.tensor, &path) {
        (Some(pattern), path) => Topic::Tensors(glob(pattern)?, path.clone().unwrap_or_default()),
        (None, Some(path)) => Topic::Path(path.clone()),
        (None, None) => Topic::All,
    };
    if args.graph && !context.ui.json {
        let names = Names::new(&repository)?;
        let commits = repository.log_graph(from, &topic, most)?;
        if commits.is_empty() && most > 0 {
            return Err(nothing(args, path.as_deref()));
        }
        context.ui.print(&graph(&commits, args.oneline, &names, context))?;
        return Ok(code::DONE);
    }
    let entries = repository.log_of(from, &topic, most)?;
    if entries.is_empty() && most > 0 {
        return Err(nothing(args, path.as_deref()));
    }
    if args.heat {
        return series::of_log(&repository, &entries, path.as_deref(), args.by, &args.pictures, context);
    }
    if context.ui.json {
        let commits: Vec<Value> = entries.iter().map(|entry| json::commit(&entry.id, &entry.commit)).collect();
        context.ui.print_json(&json!({"commits": commits}))?;
        return Ok(code::DONE);
    }
    let names = Names::new(&repository)?;
    let mut text = String::new();
    for entry in &entries {
        if args.oneline {
            line(entry, &names, context, &mut text)
        } else {
            paragraph(entry, &names, context, &mut text)
        }
    }
    // Paragraphs are parted by blank lines; none comes first.
    context.ui.print(text.strip_prefix('\n').unwrap_or(&text))?;
    Ok(code::DONE)
}

/// Why a log is empty: every commit has been asked.
fn nothing(args: &Args, path: Option<&str>) -> Failure {
    let what = match (&args.tensor, path) {
        (Some(pattern), Some(path)) => format!("no commit there has a tensor like {pattern:?} in {path:?}"),
        (Some(pattern), None) => format!("no commit there has a tensor like {pattern:?}"),
        (None, _) => format!("no commit there has a path {:?}", path.unwrap_or_default()),
    };
    Failure::new(code::NOT_FOUND, what).next(
        "check the spelling; `shard log BRANCH PATH` looks at another branch, `shard show REV:PATH --tensors` lists tensors",
    )
}

/// The commit to start from, and the path that the log is about.
fn select(args: &Args, repository: &Repository) -> Result<(Digest, Option<String>), Failure> {
    let tracked = |path: &Path| repository.tracked_path(path);
    let path = args.second.as_deref().or(args.path.as_deref()).map(tracked).transpose()?;
    let Some(first) = &args.first else { return Ok((repository.resolve("HEAD")?, path)) };
    match repository.resolve(first) {
        Ok(from) => Ok((from, path)),
        Err(error @ RepoError::Revision(_)) if path.is_none() => {
            // No revision, so a path: one that is there, or was once.
            let path = Path::new(first);
            let Ok(name) = tracked(path) else { return Err(error.into()) };
            let head = repository.resolve("HEAD")?;
            if std::fs::symlink_metadata(path).is_err() && repository.log(head, Some(&name), 1)?.is_empty() {
                return Err(Failure::from(error)
                    .because(format!("no commit of what is checked out has a path {name:?} either")));
            }
            Ok((head, Some(name)))
        }
        Err(error) => Err(error.into()),
    }
}

/// What names commits: HEAD, branches and tags.
struct Names {
    head: Head,
    of: HashMap<Digest, Vec<NamedRef>>,
}

impl Names {
    fn new(repository: &Repository) -> Result<Self, Failure> {
        let mut of: HashMap<Digest, Vec<NamedRef>> = HashMap::new();
        for named in repository.readable_refs()? {
            of.entry(named.commit).or_default().push(named);
        }
        Ok(Self { head: repository.head()?, of })
    }

    /// As in Git: ` (HEAD -> main, tag: v1)`.
    fn decoration(&self, id: &Digest, context: &Context) -> String {
        let mut parts = Vec::new();
        if self.head.branch.is_none() && self.head.commit == Some(*id) {
            parts.push(context.ui.paint("HEAD", Style::Cyan));
        }
        for named in self.of.get(id).into_iter().flatten() {
            let is_head = named.kind == RefKind::Branch && self.head.branch.as_ref() == Some(&named.name);
            parts.push(match named.kind {
                RefKind::Tag => context.ui.paint(&format!("tag: {}", named.name), Style::Yellow),
                _ if is_head => context.ui.paint(&format!("HEAD -> {}", named.name), Style::Green),
                _ => context.ui.paint(&named.name, Style::Green),
            });
        }
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    }
}

/// Commits with the graph on their left.
fn graph(commits: &[LoggedCommit], oneline: bool, names: &Names, context: &Context) -> String {
    let mut graph = Graph::default();
    let mut rows: Vec<String> = Vec::new();
    for (index, LoggedCommit { entry, parents }) in commits.iter().enumerate() {
        let mut text = String::new();
        match oneline {
            true => line(entry, names, context, &mut text),
            false => {
                text = header(entry, &names.decoration(&entry.id, context), context);
                if index + 1 < commits.len() {
                    text.push('\n');
                }
            }
        }
        let mut lines = text.lines();
        let Beside { before, commit, after, rest } = graph.next(entry.id, parents);
        rows.extend(before);
        rows.push(format!("{commit}{}", lines.next().unwrap_or_default()));
        let mut after = after.into_iter();
        for line in lines {
            rows.push(format!("{}{line}", after.next().unwrap_or_else(|| rest.clone())));
        }
        rows.extend(after);
    }
    rows.iter().map(|row| format!("{}\n", row.trim_end())).collect()
}

fn line(entry: &LogEntry, names: &Names, context: &Context, text: &mut String) {
    let id = context.ui.paint(&entry.id.short(), Style::Cyan);
    let decoration = names.decoration(&entry.id, context);
    text.push_str(&format!("{id}{decoration} {}\n", visible(entry.commit.title())));
}

fn paragraph(entry: &LogEntry, names: &Names, context: &Context, text: &mut String) {
    let decoration = names.decoration(&entry.id, context);
    text.push_str(&format!("\n{}", header(entry, &decoration, context)));
}

/// A commit's id, author, date, message and records.
pub(crate) fn header(entry: &LogEntry, decoration: &str, context: &Context) -> String {
    let commit = &entry.commit;
    let mut text = format!("{}{decoration}\n", context.ui.paint(&format!("commit {}", entry.id), Style::Cyan));
    if commit.parents.len() > 1 {
        let parents: Vec<String> = commit.parents.iter().map(Digest::short).collect();
        text.push_str(&format!("Merge:  {}\n", parents.join(" ")));
    }
    // One that this shard does not understand is no reason not to show the commit.
    if let Ok(Some(record)) = MergeRecord::of(commit) {
        for (label, value) in [("Rules:  ", rules_text(&record)), ("Merged: ", record.files.join(" "))] {
            if !value.is_empty() {
                text.push_str(&format!("{label}{}\n", visible(&value)));
            }
        }
    }
    if let Some(author) = &commit.author {
        text.push_str(&format!("Author: {}\n", visible(author)));
    }
    text.push_str(&format!("Date:   {}\n\n", visible(&commit.created_at)));
    for line in visible_lines(commit.message.trim_end()) {
        text.push_str(format!("    {line}").trim_end());
        text.push('\n');
    }
    if !commit.records.is_empty() {
        text.push('\n');
    }
    for record in &commit.records {
        text.push_str(&format!("    {}\n", context.ui.paint(&summary(record), Style::Dim)));
    }
    text
}

/// A record in one line.
fn summary(record: &RunRecord) -> String {
    let mut parts = Vec::new();
    parts.extend(record.model_name.clone());
    parts.extend(record.epoch.map(|epoch| format!("epoch {epoch}")));
    parts.extend(record.step.map(|step| format!("step {step}")));
    parts.extend(record.seed.map(|seed| format!("seed {seed}")));
    parts.extend(record.hyperparameters.iter().take(6).map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    }));
    if record.hyperparameters.len() > 6 {
        parts.push("…".to_owned());
    }
    format!("{}: {}", record.file_path, if parts.is_empty() { "run record".to_owned() } else { parts.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_in_one_line() {
        let mut record = RunRecord::new("m.safetensors");
        assert_eq!(summary(&record), "m.safetensors: run record");
        (record.step, record.epoch) = (Some(100), Some(1.5));
        record.hyperparameters.insert("lr".to_owned(), json!(0.001));
        record.hyperparameters.insert("optimizer".to_owned(), json!("adamw"));
        assert_eq!(summary(&record), "m.safetensors: epoch 1.5, step 100, lr=0.001, optimizer=adamw");
    }
}
