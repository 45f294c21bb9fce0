//! `shard reset`

use serde_json::{Value, json};
use shard_repo::{RefProblem, RepoError, Repository, ResetMode, ResetOptions, ResetReport};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;

/// Move a branch, by default the one that is checked out, to another commit
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to; HEAD by default, which resets the stage alone
    #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
    revision: String,
    /// Leave the stage as it is
    #[arg(long)]
    soft: bool,
    /// Reset the stage too, and leave the work tree as it is: the default
    #[arg(long, conflicts_with = "soft")]
    mixed: bool,
    /// Reset the stage and the tracked files of the work tree
    #[arg(long, conflicts_with_all = ["soft", "mixed"])]
    hard: bool,
    /// With --hard: lose changes that no commit has
    #[arg(short, long, requires = "hard")]
    force: bool,
    /// Move this branch, which is not checked out in a work tree: no file and no stage is touched
    #[arg(short = 'r', long, value_name = "BRANCH", conflicts_with_all = ["soft", "mixed", "hard", "expect"])]
    branch: Option<String>,
    /// Do nothing unless the branch is at this revision
    #[arg(long, value_name = "REV")]
    expect: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    if let Some(branch) = &args.branch {
        return other_branch(branch, &args.revision, &repository, context);
    }
    let mode = match (args.soft, args.hard) {
        (true, _) => ResetMode::Soft,
        (_, true) => ResetMode::Hard,
        _ => ResetMode::Mixed,
    };
    let expected = args.expect.as_deref().map(|expected| repository.resolve(expected)).transpose()?;
    let options = ResetOptions { mode, force: args.force, expected };
    let progress = context.ui.progress();
    let report = repository.reset(&args.revision, options, progress.as_ref()).map_err(|error| match error {
        RepoError::WouldOverwrite { .. } => Failure::from(error)
            .next("commit them, or `shard reset` without --hard to keep the files; --force loses the changes"),
        RepoError::Raced(_) => Failure::from(error)
            .next("nothing has moved: `shard log` shows where the branch is now; then run the command again"),
        other => other.into(),
    })?;
    if context.ui.json {
        context.ui.print_json(&to_json(&report, mode))?;
    } else {
        let title = repository.read_commit(report.to)?.title().to_owned();
        context.ui.inform(&to_text(&report, &title, context))?;
    }
    Ok(code::DONE)
}

/// Moves a branch that is not checked out.
fn other_branch(branch: &str, to: &str, repository: &Repository, context: &Context) -> Result<u8, Failure> {
    let from = repository.branches()?.into_iter().find(|known| known.name == branch).map(|known| known.commit);
    let to = repository.reset_ref(branch, to).map_err(|error| match error {
        RepoError::Ref(RefProblem::CheckedOut(_)) => {
            Failure::from(error).next("`shard reset REV` without -r moves it, and with it the stage")
        }
        other => other.into(),
    })?;
    if context.ui.json {
        let from = from.map(|from| from.to_hex());
        context.ui.print_json(&json!({
            "branch": branch, "mode": null, "from": from, "to": to.to_hex(), "written": [], "removed": [],
        }))?;
    } else {
        let title = repository.read_commit(to)?.title().to_owned();
        let (written, removed) = (Vec::new(), Vec::new());
        let report = ResetReport { branch: Some(branch.to_owned()), from, to, written, removed };
        context.ui.inform(&to_text(&report, &title, context))?;
    }
    Ok(code::DONE)
}

fn to_text(report: &ResetReport, title: &str, context: &Context) -> String {
    let ui = &context.ui;
    let branch = ui.paint(report.branch.as_deref().unwrap_or("HEAD"), Style::Green);
    let (id, title) = (ui.paint(&report.to.short(), Style::Cyan), ui.paint(title, Style::Plain));
    let mut text = format!("{branch} is at {id} {title}\n");
    match report.from {
        Some(from) if from != report.to => {
            let was = ui.paint(&from.short(), Style::Cyan);
            text.push_str(&format!("  it was at {was}, which `shard reflog` remembers\n"));
        }
        _ => {}
    }
    if !report.written.is_empty() || !report.removed.is_empty() {
        let written = count(report.written.len() as u64, "file");
        text.push_str(&format!("  {written} written, {} removed\n", report.removed.len()));
    }
    text
}

fn to_json(report: &ResetReport, mode: ResetMode) -> Value {
    let mode = match mode {
        ResetMode::Soft => "soft",
        ResetMode::Mixed => "mixed",
        ResetMode::Hard => "hard",
    };
    let written = report.written.iter().map(|(path, size)| json!({"path": path, "size": size}));
    json!({
        "branch": report.branch,
        "mode": mode,
        "from": report.from.map(|from| from.to_hex()),
        "to": report.to.to_hex(),
        "written": written.collect::<Vec<_>>(),
        "removed": report.removed,
    })
}
