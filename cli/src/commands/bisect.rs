//! `shard bisect`

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitStatus};

use clap::Subcommand;
use serde_json::{Value, json};
use shard_core::Digest;
use shard_history::bisect::{Next, Predicate};
use shard_repo::{
    BisectProblem, BisectReport, BisectStatus, CheckoutOptions, CheckoutReport, Mark, RepoError, Repository, TensorAt,
    TensorBisect, TensorQuestion, TestedCommit,
};

use super::blame::glob;
use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;
use crate::report::text::visible;

/// Exit code by which the command of `bisect run` says that it cannot tell.
const SKIP: i32 = 125;
/// From this exit code on `bisect run` stops.
const STOP: i32 = 128;

/// Find the commit that brought something about: by a command, by hand, or by a question about tensors
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    step: Option<Step>,
    /// Ask about tensors whose names match, and check nothing out
    #[arg(long, value_name = "GLOB", required = true, requires = "question")]
    tensor: Option<String>,
    /// What is asked: `has nan`, `has inf`, `changed since REV`, or one of nan, inf, min, max, absmax, mean, std and zeros with
    /// < <= > >= == != and a number; `not` in front turns it round
    #[arg(long = "where", value_name = "QUESTION", required = true, requires = "tensor")]
    question: Option<String>,
    /// Only in this file or folder
    #[arg(long, value_name = "PATH")]
    path: Option<std::path::PathBuf>,
    /// A revision of which it is so (HEAD by default), and then revisions of which it is not
    #[arg(value_name = "REV")]
    revisions: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Begin: BAD has what is looked for, and each GOOD has it not
    Start {
        /// A revision that has it
        #[arg(value_name = "BAD")]
        bad: Option<String>,
        /// Revisions that have it not
        #[arg(value_name = "GOOD")]
        good: Vec<String>,
        /// Overwrite changes that no commit has
        #[arg(short, long)]
        force: bool,
    },
    /// This revision, or what is checked out, has it
    Bad {
        /// The revision
        #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
        revision: String,
    },
    /// These revisions, or what is checked out, have it not
    Good {
        /// The revisions
        #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
        revisions: Vec<String>,
    },
    /// Of these revisions, or of what is checked out, it cannot be told
    Skip {
        /// The revisions
        #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
        revisions: Vec<String>,
    },
    /// Go on by a command that exits with 0 where it is good, 125 where it cannot tell, and another code below 128 where it is bad
    Run {
        /// The command and its arguments
        #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show what was marked so far
    Log,
    /// End: what was checked out at first is so again
    Reset {
        /// Check this out instead
        #[arg(value_name = "REV")]
        revision: Option<String>,
        /// Overwrite changes that no commit has
        #[arg(short, long)]
        force: bool,
    },
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let progress = context.ui.progress();
    let progress = progress.as_ref();
    let plain = CheckoutOptions::default();
    let mark = |mark: Mark, revisions: &[String]| {
        repository.bisect_mark(mark, revisions, plain, progress).map_err(without_force)
    };
    let report = match &args.step {
        None => return by_tensors(args, &repository, context),
        Some(Step::Start { bad, good, force }) => {
            Ok(repository.bisect_start(bad.as_deref(), good, CheckoutOptions { force: *force }, progress)?)
        }
        Some(Step::Bad { revision }) => mark(Mark::Bad, std::slice::from_ref(revision)),
        Some(Step::Good { revisions }) => mark(Mark::Good, revisions),
        Some(Step::Skip { revisions }) => mark(Mark::Skip, revisions),
        Some(Step::Run { command }) => return by_command(command, &repository, context),
        Some(Step::Log) => return log(&repository, context),
        Some(Step::Reset { revision, force }) => {
            let options = CheckoutOptions { force: *force };
            return reset(&repository.bisect_reset(revision.as_deref(), options, progress)?, context);
        }
    }?;
    tell(&report, &repository, context)?;
    Ok(code::DONE)
}

/// An error of a step that has no --force.
fn without_force(error: RepoError) -> Failure {
    let next =
        "move them elsewhere, and run the command again; `shard reset --hard --force` loses those in tracked files";
    Failure::or_lost(error, next)
}

fn reset(report: &CheckoutReport, context: &Context) -> Result<u8, Failure> {
    if context.ui.json {
        context.ui.print_json(&json!({"commit": report.commit.to_hex(), "branch": report.branch}))?;
        return Ok(code::DONE);
    }
    let id = context.ui.paint(&report.commit.short(), Style::Cyan);
    context.ui.inform(&match &report.branch {
        Some(branch) => format!("Ended; on branch {} at {id}\n", context.ui.paint(branch, Style::Green)),
        None => format!("Ended; at commit {id}, on no branch\n"),
    })?;
    Ok(code::DONE)
}

/// Says where the search stands.
fn tell(report: &BisectReport, repository: &Repository, context: &Context) -> Result<(), Failure> {
    if context.ui.json {
        return context.ui.print_json(&status_json(&report.status, repository)?);
    }
    context.ui.print(&next_text(&report.status, repository, context)?)
}

fn next_text(status: &BisectStatus, repository: &Repository, context: &Context) -> Result<String, Failure> {
    Ok(match &status.next {
        None => {
            let has = |wanted: Mark| status.marks.iter().any(|(mark, _)| *mark == wanted);
            match (has(Mark::Bad), has(Mark::Good)) {
                (false, false) => "Started: `shard bisect bad REV` and `shard bisect good REV` say where\n".to_owned(),
                (true, _) => "Waiting for a good commit: `shard bisect good REV`\n".to_owned(),
                (false, true) => "Waiting for the bad commit: `shard bisect bad REV`\n".to_owned(),
            }
        }
        Some(Next::Test { commit, left, steps }) => {
            let after = count(*left as u64, "commit");
            let line = titled(*commit, repository, context)?;
            format!("{after} left to test after this, in about {}\n{line}\n", count(u64::from(*steps), "step"))
        }
        Some(Next::Base(commit)) => {
            let line = titled(*commit, repository, context)?;
            format!("First the commit that the good and the bad one both come from\n{line}\n")
        }
        Some(Next::Found(commit)) => found_text(&[*commit], repository, context)?,
        Some(Next::Undecided(commits)) => found_text(commits, repository, context)?,
    })
}

fn found_text(commits: &[Digest], repository: &Repository, context: &Context) -> Result<String, Failure> {
    let lines = commits.iter().map(|commit| titled(*commit, repository, context));
    Ok(match commits {
        [commit] => {
            let commit = titled(*commit, repository, context)?;
            format!("{}\n{commit}\n", context.ui.paint("The first bad commit is", Style::Bold))
        }
        _ => {
            let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
            let head = "The first bad commit is one of these; of those between it cannot be told";
            format!("{}\n{}\n", context.ui.paint(head, Style::Bold), lines.join("\n"))
        }
    })
}

/// A commit in one line.
fn titled(commit: Digest, repository: &Repository, context: &Context) -> Result<String, Failure> {
    let title = repository.read_commit(commit)?.title().to_owned();
    Ok(format!("  {} {}", context.ui.paint(&commit.short(), Style::Cyan), visible(&title)))
}

fn commit_json(commit: Digest, repository: &Repository) -> Result<Value, Failure> {
    let said = repository.read_commit(commit)?;
    let (author, created_at) = (&said.author, &said.created_at);
    Ok(json!({"id": commit.to_hex(), "title": said.title(), "author": author, "created_at": created_at}))
}

fn commits_json(commits: &[Digest], repository: &Repository) -> Result<Value, Failure> {
    commits.iter().map(|commit| commit_json(*commit, repository)).collect()
}

fn status_json(status: &BisectStatus, repository: &Repository) -> Result<Value, Failure> {
    let marks = status.marks.iter().map(|(mark, commit)| json!({"mark": mark.as_str(), "commit": commit.to_hex()}));
    let (mut next, mut found, mut left) = (Value::Null, Value::Null, Value::Null);
    match &status.next {
        None => {}
        Some(Next::Test { commit, left: rest, .. }) => {
            (next, left) = (commit_json(*commit, repository)?, (*rest).into());
        }
        Some(Next::Base(commit)) => next = commit_json(*commit, repository)?,
        Some(Next::Found(commit)) => found = commits_json(&[*commit], repository)?,
        Some(Next::Undecided(commits)) => found = commits_json(commits, repository)?,
    }
    let marks: Vec<Value> = marks.collect();
    Ok(json!({"branch": status.branch, "marks": marks, "next": next, "left": left, "found": found}))
}

fn log(repository: &Repository, context: &Context) -> Result<u8, Failure> {
    let status = repository.bisect_status()?;
    if context.ui.json {
        context.ui.print_json(&status_json(&status, repository)?)?;
        return Ok(code::DONE);
    }
    let mut text = String::from("shard bisect start\n");
    for (mark, commit) in &status.marks {
        let title = repository.read_commit(*commit)?.title().to_owned();
        text.push_str(&format!("# {}\nshard bisect {} {commit}\n", visible(&title), mark.as_str()));
    }
    text.push_str(&commented(&next_text(&status, repository, context)?));
    context.ui.print(&text)?;
    Ok(code::DONE)
}

/// Lines that a shell passes over.
fn commented(text: &str) -> String {
    text.lines().map(|line| format!("# {}\n", line.trim_start())).collect()
}

fn by_command(command: &[OsString], repository: &Repository, context: &Context) -> Result<u8, Failure> {
    let progress = context.ui.progress();
    let mut status = repository.bisect_status()?;
    loop {
        match status.next {
            None => {
                return Err(Failure::new(code::REFUSED, "a bad and a good commit have to be known first")
                    .next("`shard bisect bad REV` and `shard bisect good REV`"));
            }
            Some(Next::Found(_) | Next::Undecided(_)) => break,
            Some(Next::Test { commit, .. } | Next::Base(commit)) => {
                if repository.head()?.commit != Some(commit) {
                    let to = commit.to_hex();
                    let options = CheckoutOptions::default();
                    repository.checkout(&to, options, progress.as_ref()).map_err(without_force)?;
                }
                let mark = ask(command, repository.root(), context)?;
                if !context.ui.json {
                    let line = titled(commit, repository, context)?;
                    context.ui.inform(&format!("{line}: {}\n", mark.as_str()))?;
                }
                let plain = CheckoutOptions::default();
                let marked = repository.bisect_mark(mark, &[commit.to_hex()], plain, progress.as_ref());
                status = marked.map_err(without_force)?.status;
            }
        }
    }
    tell(&BisectReport { status, checkout: None }, repository, context)?;
    Ok(code::DONE)
}

/// Runs the user's command in the root of the work tree.
fn ask(command: &[OsString], root: &Path, context: &Context) -> Result<Mark, Failure> {
    let [program, arguments @ ..] = command else {
        return Err(Failure::new(code::USAGE, "no command is given").next("`shard bisect run CMD…`"));
    };
    let mut process = Command::new(program);
    process.args(arguments).current_dir(root);
    if context.ui.json {
        // Standard output has one document and nothing else.
        process.stdout(std::io::stderr());
    }
    let status = process.status().map_err(|error| Failure::io(Path::new(program), "cannot run the command", &error))?;
    verdict(status.code()).ok_or_else(|| stopped(status))
}

/// What an exit code says.
fn verdict(code: Option<i32>) -> Option<Mark> {
    match code? {
        0 => Some(Mark::Good),
        SKIP => Some(Mark::Skip),
        1..STOP => Some(Mark::Bad),
        _ => None,
    }
}

fn stopped(status: ExitStatus) -> Failure {
    Failure::new(code::REFUSED, format!("the command ended with {status}, and the search stopped"))
        .next("`shard bisect run` goes on from here, `shard bisect reset` ends the search")
}

fn by_tensors(args: &Args, repository: &Repository, context: &Context) -> Result<u8, Failure> {
    let tensors = glob(args.tensor.as_deref().unwrap_or_default())?;
    let predicate: Predicate = args.question.as_deref().unwrap_or_default().parse().map_err(|error| {
        Failure::new(code::USAGE, format!("{error}"))
            .next("ask for example --where 'has nan', 'absmax > 10' or 'changed since v1'")
    })?;
    let path = args.path.as_deref().map(|path| repository.tracked_path(path)).transpose()?.unwrap_or_default();
    let question = TensorQuestion { tensors, predicate, path };
    let (bad, good) = match args.revisions.as_slice() {
        [] => ("HEAD", &[][..]),
        [bad, good @ ..] => (bad.as_str(), good),
    };
    let progress = context.ui.progress();
    let found = repository.bisect_tensors(bad, good, &question, progress.as_ref()).map_err(|error| match error {
        RepoError::Bisect(BisectProblem::NotBad { .. }) => {
            Failure::from(error).next("give a revision of which it is so, then, after it, one of which it is not")
        }
        other => other.into(),
    })?;
    let TensorBisect { found, tested } = found;
    if context.ui.json {
        let asked: Vec<Value> = tested.iter().map(tested_json).collect();
        context.ui.print_json(&json!({"found": commits_json(&found, repository)?, "tested": asked}))?;
        return Ok(code::DONE);
    }
    let mut text = found_text(&found, repository, context)?;
    if let Some(test) = found.first().and_then(|first| tested.iter().find(|test| test.id == *first)) {
        text.push_str(&format!("  {}: {}\n", question.predicate, visible(&names(&test.tensors))));
    }
    text.push_str(&format!("{} asked\n", count(tested.len() as u64, "commit")));
    context.ui.print(&text)?;
    Ok(code::DONE)
}

/// The first tensors, each file's behind its path.
fn names(tensors: &[TensorAt]) -> String {
    let mut text = String::new();
    let mut path = None;
    for tensor in tensors.iter().take(8) {
        let is_same = path.replace(&tensor.path) == Some(&tensor.path);
        let before = match (text.is_empty(), is_same) {
            (true, _) => format!("{}: ", tensor.path),
            (_, true) => ", ".to_owned(),
            (_, false) => format!("; {}: ", tensor.path),
        };
        text.push_str(&before);
        text.push_str(&tensor.name);
    }
    if tensors.len() > 8 {
        text.push_str(", …");
    }
    text
}

fn tested_json(test: &TestedCommit) -> Value {
    let tensors = test.tensors.iter().map(|tensor| json!({"path": tensor.path, "name": tensor.name}));
    json!({"id": test.id.to_hex(), "answer": test.answer, "tensors": tensors.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_git_s() {
        assert_eq!(verdict(Some(0)), Some(Mark::Good));
        assert_eq!((verdict(Some(1)), verdict(Some(127))), (Some(Mark::Bad), Some(Mark::Bad)));
        assert_eq!(verdict(Some(125)), Some(Mark::Skip));
        assert_eq!((verdict(Some(128)), verdict(Some(-1)), verdict(None)), (None, None, None));
    }
}
