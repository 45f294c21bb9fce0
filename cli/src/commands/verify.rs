//! `shard verify`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_repo::{Archive, RepairReport, RepoError, Repository, VerifyOptions, VerifyReport};

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
    /// With --full: go on where an earlier one was interrupted
    #[arg(long, requires = "full")]
    resume: bool,
    /// With --full: stop after about so many bytes; --resume goes on
    #[arg(long, value_name = "BYTES", requires = "full", value_parser = clap::value_parser!(u64).range(1..))]
    at_most: Option<u64>,
    /// Put right what is damaged, and with --from what is missing too
    #[arg(long, conflicts_with_all = ["resume", "at_most", "archive"])]
    repair: bool,
    /// With --repair: the other copy, a folder with a repository or an archive
    #[arg(long, value_name = "COPY", requires = "repair")]
    from: Option<PathBuf>,
    /// An archive to check in place of the repository
    #[arg(value_name = "ARCHIVE", conflicts_with_all = ["resume", "at_most"])]
    archive: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let progress = context.ui.progress();
    if args.repair {
        let from = args.from.as_deref();
        let copy = from.filter(|from| from.is_dir());
        let is_opened = copy.map_or(Ok(false), |copy| Repository::restore_format(Path::new("."), copy))?;
        let outcome = context.damaged_repository()?.repair(from, progress.as_ref());
        drop(progress);
        let mut report = outcome.map_err(|error| in_copy(error, from))?;
        if is_opened {
            report.files.insert(0, "format".to_owned());
            report.before.problems.insert(0, "format: it was missing or damaged".to_owned());
        }
        return repaired(&report, context);
    }
    let report = match &args.archive {
        Some(path) => {
            let archive = Archive::open(path).map_err(|error| Failure::in_archive(error, path))?;
            archive.verify(progress.as_ref()).map_err(|error| Failure::in_archive(error, path))?
        }
        None => {
            let options = VerifyOptions { full: args.full, resume: args.resume, at_most: args.at_most };
            context.damaged_repository()?.verify_with(options, progress.as_ref())?
        }
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

/// A failure to repair, where the other copy may be what is wrong.
fn in_copy(error: RepoError, from: Option<&Path>) -> Failure {
    match from.filter(|from| !from.is_dir()) {
        None => Failure::from(error),
        Some(archive) => Failure::in_archive(error, archive),
    }
}

fn lines(report: &VerifyReport, context: &Context) -> String {
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
    text
}

fn to_text(report: &VerifyReport, full: bool, is_archive: bool, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = lines(report, context);
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
    if report.resumed > 0 {
        looked.push(format!("{} before", report.resumed));
    }
    let looked = looked.join(", ");
    if report.problems.is_empty() {
        if !ui.quiet {
            let (so_far, style) = match report.stopped {
                true => ("all is well so far:", Style::Yellow),
                false => ("all is well:", Style::Green),
            };
            text.push_str(&format!("{} {looked}\n", ui.paint(so_far, style)));
        }
    } else {
        text.push_str(&format!("{} found in {looked}\n", count(report.problems.len() as u64, "problem")));
    }
    if ui.quiet {
        return text;
    }
    if report.stopped {
        text.push_str("next: `shard verify --full --resume` goes on from here\n");
    } else if !report.problems.is_empty() {
        text.push_str(match (is_archive, full) {
            (true, _) => "next: copy the archive again from where it came\n",
            (false, true) => {
                "next: `shard verify --repair --from COPY` takes what is damaged from another copy of the repository\n"
            }
            (false, false) => "next: `shard verify --full` shows every file that is affected\n",
        });
    }
    text
}

fn repaired(report: &RepairReport, context: &Context) -> Result<u8, Failure> {
    let is_clean = report.after.problems.is_empty();
    if context.ui.json {
        context.ui.print_json(&repair_json(report))?;
    } else {
        context.ui.print(&repair_text(report, context))?;
    }
    Ok(if is_clean { code::DONE } else { code::DIFFERENT })
}

/// Commits of a path that are named.
const NAMED: usize = 4;

fn repair_text(report: &RepairReport, context: &Context) -> String {
    let ui = &context.ui;
    let found = count(report.before.problems.len() as u64, "problem");
    let mut text = String::new();
    if report.before.problems.is_empty() && report.files.is_empty() {
        return format!("{} nothing needs to be repaired\n", ui.paint("all is well:", Style::Green));
    }
    text.push_str(&format!("{found} found; entries taken from the other copy: {}, ", report.fetched));
    text.push_str(&format!("saved out of damaged packs: {}; {} written\n", report.saved, human(report.bytes)));
    for pack in &report.retired {
        text.push_str(&format!("  packs/{pack}.pack was damaged, and is not needed any more: it was removed\n"));
    }
    for pack in &report.left {
        text.push_str(&format!(
            "  packs/{pack}.pack is damaged and stays: not all that was in it is known to be elsewhere\n"
        ));
    }
    for file in &report.files {
        text.push_str(&format!("  {} was put right\n", visible(file)));
    }
    text.push_str(&lines(&report.after, context));
    for note in report.notes.iter().filter(|_| !ui.quiet) {
        text.push_str(&format!("{} {}\n", ui.paint("note:", Style::Yellow), visible(note)));
    }
    for affected in &report.affected {
        let path = if affected.path.is_empty() { "everything".into() } else { visible(&affected.path) };
        let commits: Vec<String> = affected.commits.iter().take(NAMED).map(|id| id.short()).collect();
        let more = if affected.commits.len() > NAMED { " …" } else { "" };
        let (word, commits) = (ui.paint("lost:", Style::Red), commits.join(" "));
        text.push_str(&format!(
            "{word} {path} of {} ({commits}{more})\n",
            count(affected.commits.len() as u64, "commit")
        ));
    }
    if report.after.problems.is_empty() {
        text.push_str(&format!("{} everything was decoded and hashed again\n", ui.paint("all is well:", Style::Green)));
    } else if !ui.quiet {
        text.push_str("next: try another copy, an archive of the files, or add the files again where they are\n");
        if report.after.problems.iter().any(|problem| problem.contains("an earlier state of")) {
            text.push_str("next: `shard gc --prune-now` gives up the earlier states of all refs\n");
        }
    }
    text
}

fn repair_json(report: &RepairReport) -> Value {
    let affected = report.affected.iter().map(|affected| {
        let commits: Vec<String> = affected.commits.iter().map(|id| id.to_hex()).collect();
        json!({"path": affected.path, "commits": commits})
    });
    json!({
        "ok": report.after.problems.is_empty(),
        "found": report.before.problems,
        "fetched": report.fetched,
        "saved": report.saved,
        "bytes": report.bytes,
        "retired": report.retired.iter().map(|id| id.to_hex()).collect::<Vec<_>>(),
        "left": report.left.iter().map(|id| id.to_hex()).collect::<Vec<_>>(),
        "files": report.files,
        "notes": report.notes,
        "problems": report.after.problems,
        "affected": affected.collect::<Vec<_>>(),
    })
}

fn to_json(report: &VerifyReport, full: bool) -> Value {
    json!({
        "ok": report.problems.is_empty(),
        "full": full,
        "stopped": report.stopped,
        "refs": report.refs,
        "commits": report.commits,
        "files": report.files,
        "packs": report.packs,
        "entries": report.entries,
        "bytes": report.bytes,
        "resumed": report.resumed,
        "problems": report.problems,
        "warnings": report.warnings,
    })
}
