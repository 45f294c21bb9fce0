//! `shard checkout`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_repo::{CheckoutOptions, CheckoutReport, RepoError};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human};
use crate::report::style::Style;
use crate::report::text::visible;

/// Switch to a revision, or take files out of it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A branch to switch to, or any other revision
    #[arg(value_name = "REV")]
    revision: String,
    /// Take only these files or folders, over what is there; what is checked out stays
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Overwrite changes that no commit has
    #[arg(short, long)]
    force: bool,
    /// Write the files below DIR and touch nothing else
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let options = CheckoutOptions { force: args.force };
    let progress = context.ui.progress();
    let progress = progress.as_ref();
    let outcome = match &args.output {
        Some(folder) => {
            let paths: Vec<String> =
                args.paths.iter().map(|path| repository.tracked_path(path)).collect::<Result<_, _>>()?;
            repository.export(&args.revision, &paths, folder, options, progress)
        }
        None if args.paths.is_empty() => repository.checkout(&args.revision, options, progress),
        None => repository.checkout_paths(&args.revision, &args.paths, progress),
    };
    let report = outcome.map_err(|error| match error {
        RepoError::WouldOverwrite { .. } if args.output.is_some() => {
            Failure::from(error).next("choose an empty folder, or --force to overwrite them")
        }
        other => other.into(),
    })?;
    if context.ui.json {
        context.ui.print_json(&to_json(&report, args))?;
    } else {
        context.ui.inform(&to_text(&report, args, context))?;
    }
    Ok(code::DONE)
}

fn to_text(report: &CheckoutReport, args: &Args, context: &Context) -> String {
    let bytes = report.written.iter().map(|(_, size)| size).sum();
    let mut parts = vec![format!("{} written ({})", count(report.written.len() as u64, "file"), human(bytes))];
    if !report.removed.is_empty() {
        parts.push(format!("{} removed", report.removed.len()));
    }
    if report.unchanged > 0 {
        parts.push(format!("{} right already", report.unchanged));
    }
    let id = context.ui.paint(&report.commit.short(), Style::Cyan);
    let head = match (&args.output, args.paths.is_empty(), &report.branch) {
        (Some(folder), ..) => format!("From {id} into {}", visible(&folder.display().to_string())),
        (None, false, _) => format!("From {id}"),
        (None, true, Some(branch)) => format!("On branch {} at {id}", context.ui.paint(branch, Style::Green)),
        (None, true, None) => format!("At commit {id}, on no branch"),
    };
    format!("{head}: {}\n", parts.join(", "))
}

fn to_json(report: &CheckoutReport, args: &Args) -> Value {
    let written = report.written.iter().map(|(path, size)| json!({"path": path, "size": size}));
    json!({
        "commit": report.commit.to_hex(),
        "branch": report.branch,
        "output": args.output.as_ref().map(|folder| folder.display().to_string()),
        "written": written.collect::<Vec<_>>(),
        "removed": report.removed,
        "unchanged": report.unchanged,
    })
}
