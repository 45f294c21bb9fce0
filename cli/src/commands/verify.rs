//! `shard verify`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_repo::{Archive, VerifyReport};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human};
use crate::report::style::Style;
use crate::report::text::visible;

/// Check that everything is there and is what it says: exit code 1 where it is not
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Decode and hash every entry, file and pack, not only the structure; an archive is always checked so
    #[arg(long)]
    full: bool,
    /// An archive to check in place of the repository
    #[arg(value_name = "ARCHIVE")]
    archive: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let progress = context.ui.progress();
    let report = match &args.archive {
        Some(path) => {
            let archive = Archive::open(path).map_err(|error| Failure::in_archive(error, path))?;
            archive.verify(progress.as_ref()).map_err(|error| Failure::in_archive(error, path))?
        }
        None => context.repository()?.verify(args.full, progress.as_ref())?,
    };
    drop(progress);
    let full = args.full || args.archive.is_some();
    if context.ui.json {
        context.ui.print_json(&to_json(&report, full))?;
    } else {
        context.ui.print(&to_text(&report, full, args.archive.is_some(), context))?;
    }
    Ok(if report.problems.is_empty() { code::DONE } else { code::DIFFERENT })
}

fn to_text(report: &VerifyReport, full: bool, is_archive: bool, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = String::new();
    for problem in &report.problems {
        text.push_str(&format!("{} {}\n", ui.paint("problem:", Style::Red), visible(problem)));
    }
    if !ui.quiet {
        for warning in &report.warnings {
            text.push_str(&format!("{} {}\n", ui.paint("note:", Style::Yellow), visible(warning)));
        }
    }
    let mut looked = Vec::new();
    if !is_archive {
        looked.push(count(report.refs, "ref"));
        looked.push(count(report.commits, "commit"));
    }
    looked.push(count(report.files, "file"));
    if !is_archive {
        looked.push(count(report.packs, "pack"));
    }
    if full {
        looked.push(format!("{} entries of {} decoded and hashed", report.entries, human(report.bytes)));
    }
    let looked = looked.join(", ");
    if report.problems.is_empty() {
        if !ui.quiet {
            text.push_str(&format!("{} {looked}\n", ui.paint("all is well:", Style::Green)));
        }
        return text;
    }
    text.push_str(&format!("{} found in {looked}\n", count(report.problems.len() as u64, "problem")));
    if !ui.quiet {
        text.push_str(match (is_archive, full) {
            (true, _) => "next: copy the archive again from where it came\n",
            (false, true) => "next: restore the damaged files of `.shard` from a copy of the repository\n",
            (false, false) => "next: `shard verify --full` shows every file that is affected\n",
        });
    }
    text
}

fn to_json(report: &VerifyReport, full: bool) -> Value {
    json!({
        "ok": report.problems.is_empty(),
        "full": full,
        "refs": report.refs,
        "commits": report.commits,
        "files": report.files,
        "packs": report.packs,
        "entries": report.entries,
        "bytes": report.bytes,
        "problems": report.problems,
        "warnings": report.warnings,
    })
}
