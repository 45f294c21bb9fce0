//! `shard checkout`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_history::Side;
use shard_repo::{
    APPROX_MARK, ApproxReport, ApproxTensor, CheckoutOptions, CheckoutReport, PointerCheckout, RepoError, Repository,
    TensorCheckout,
};

use super::blame::glob;
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
    revision: Option<String>,
    /// Beside Git, without REV: bring the files that pointers name from the repository of DIR, and add them here
    #[arg(long, value_name = "DIR", conflicts_with_all = ["revision", "new_branch", "output"])]
    from: Option<PathBuf>,
    /// Decide about conflicts of the merge that is under way: take the paths of the branch that is merged into
    #[arg(long, requires = "revision", conflicts_with_all = ["theirs", "new_branch", "output", "tensor", "from"])]
    ours: bool,
    /// The same with the paths of what is merged
    #[arg(long, requires = "revision", conflicts_with_all = ["new_branch", "output", "tensor", "from"])]
    theirs: bool,
    /// Make a branch that ends at REV, by default at what is checked out, and switch to it
    #[arg(short = 'b', value_name = "NAME", conflicts_with_all = ["paths", "output"])]
    new_branch: Option<String>,
    /// Take only these files or folders, over what is there; what is checked out stays
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Take only tensors whose names match into the files of the work tree, and leave all else in them: * is any text, ? a
    /// character, [a-c] one of these
    #[arg(long, value_name = "GLOB", requires = "revision", conflicts_with_all = ["new_branch", "output", "force"])]
    tensor: Option<String>,
    /// Overwrite changes that no commit has
    #[arg(short, long)]
    force: bool,
    /// Write the files below DIR and touch nothing else
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write files about as they are, from the first layers of what was added with --coarse. Each that is not exact has a
    /// FILE.approx.json beside it, which says so, and how far its tensors are off
    #[arg(long, requires = "output")]
    approx: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let revision = args.revision.as_deref().unwrap_or("HEAD");
    let options = CheckoutOptions { force: args.force };
    let progress = context.ui.progress();
    let progress = progress.as_ref();
    if args.ours || args.theirs {
        let side = if args.ours { Side::Ours } else { Side::Theirs };
        // What stands first is a path, too.
        let paths: Vec<PathBuf> = args.revision.iter().map(PathBuf::from).chain(args.paths.iter().cloned()).collect();
        let report = repository
            .checkout_side(side, &paths, progress)
            .map_err(|error| Failure::or_lost(error, "move them elsewhere, and decide then"))?;
        if context.ui.json {
            context.ui.print_json(&to_json(&report, args))?;
        } else {
            context.ui.inform(&side_text(&report, side, context))?;
        }
        return Ok(code::DONE);
    }
    if let Some(pattern) = &args.tensor {
        let report = repository.checkout_tensors(revision, &args.paths, &glob(pattern)?, progress);
        return tensors(&report.map_err(|error| explain(error, args))?, context);
    }
    if args.revision.is_none() && args.new_branch.is_none() {
        let report = repository.checkout_pointers(args.from.as_deref(), options, progress)?;
        return pointers(&report, context);
    }
    if let Some(folder) = args.output.as_ref().filter(|_| args.approx) {
        let paths = tracked(args, &repository)?;
        let report = repository.export_approx(revision, &paths, folder, options, progress);
        let report = report.map_err(|error| explain(error, args))?;
        if context.ui.json {
            context.ui.print_json(&approx_json(&report, folder))?;
        } else {
            context.ui.inform(&approx_text(&report, folder, context))?;
        }
        return Ok(code::DONE);
    }
    if let (Some(name), None, None) = (&args.new_branch, &args.revision, repository.head()?.commit) {
        repository.checkout_unborn(name)?;
        if context.ui.json {
            context.ui.print_json(&json!({"commit": null, "branch": name}))?;
        } else {
            context.ui.inform(&format!("On branch {}, no commits yet\n", context.ui.paint(name, Style::Green)))?;
        }
        return Ok(code::DONE);
    }
    let outcome = match (&args.output, &args.new_branch) {
        (None, Some(name)) => repository.checkout_new_branch(name, revision, options, progress),
        (Some(folder), _) => {
            let paths = tracked(args, &repository)?;
            repository.export(revision, &paths, folder, options, progress)
        }
        (None, None) if args.paths.is_empty() => repository.checkout(revision, options, progress),
        (None, None) => repository.checkout_paths(revision, &args.paths, progress),
    };
    let report = outcome.map_err(|error| explain(error, args))?;
    if context.ui.json {
        context.ui.print_json(&to_json(&report, args))?;
    } else {
        context.ui.inform(&to_text(&report, args, context))?;
    }
    Ok(code::DONE)
}

fn tensors(report: &TensorCheckout, context: &Context) -> Result<u8, Failure> {
    let TensorCheckout { commit, files } = report;
    if context.ui.json {
        let files: Vec<Value> = files.iter().map(|(path, tensors)| json!({"path": path, "tensors": tensors})).collect();
        context.ui.print_json(&json!({"commit": commit.to_hex(), "files": files}))?;
        return Ok(code::DONE);
    }
    let id = context.ui.paint(&commit.short(), Style::Cyan);
    let lines =
        files.iter().map(|(path, tensors)| format!("  {}: {}\n", visible(path), count(tensors.len() as u64, "tensor")));
    context.ui.inform(&format!("From {id}\n{}", lines.collect::<String>()))?;
    Ok(code::DONE)
}

/// What bringing the files that pointers name did.
fn pointers(report: &PointerCheckout, context: &Context) -> Result<u8, Failure> {
    let PointerCheckout { written, unchanged } = report;
    if context.ui.json {
        let written: Vec<Value> = written.iter().map(|(path, size)| json!({"path": path, "size": size})).collect();
        context.ui.print_json(&json!({"written": written, "unchanged": unchanged}))?;
        return Ok(code::DONE);
    }
    let bytes = written.iter().map(|(_, size)| size).sum();
    let files = count(written.len() as u64, "file");
    context
        .ui
        .inform(&format!("As the pointers say: {files} written ({}), {unchanged} right already\n", human(bytes)))?;
    Ok(code::DONE)
}

fn side_text(report: &CheckoutReport, side: Side, context: &Context) -> String {
    let written = count(report.written.len() as u64, "file");
    let id = context.ui.paint(&report.commit.short(), Style::Cyan);
    format!("From {} at {id}: {written} written, {} removed\n", side.as_str(), report.removed.len())
}

fn tracked(args: &Args, repository: &Repository) -> Result<Vec<String>, Failure> {
    Ok(args.paths.iter().map(|path| repository.tracked_path(path)).collect::<Result<_, _>>()?)
}

fn explain(error: RepoError, args: &Args) -> Failure {
    match error {
        RepoError::NothingToDo(_) => {
            Failure::from(error).with_code(code::NOT_FOUND).next("`shard show REV:PATH` lists the tensors of a file")
        }
        RepoError::WouldOverwrite { .. } if args.output.is_some() => {
            Failure::from(error).next("choose an empty folder, or --force to overwrite them")
        }
        other => other.into(),
    }
}

fn approx_text(report: &ApproxReport, folder: &Path, context: &Context) -> String {
    let id = context.ui.paint(&report.commit.short(), Style::Cyan);
    let files = count(report.files.len() as u64, "file");
    let mut text = format!("From {id} into {}: {files} written\n", visible(&folder.display().to_string()));
    for file in &report.files {
        let path = visible(&file.path);
        if file.is_exact() {
            text += &format!("  {path}: exact\n");
            continue;
        }
        let worst = file.tensors.iter().max_by(|a, b| a.max_error.total_cmp(&b.max_error));
        let (needed, stored) = (human(file.needed), human(file.stored));
        text += &format!("  {path}: APPROXIMATE, from {needed} of {stored} stored; see {path}{APPROX_MARK}\n");
        if let Some(ApproxTensor { name, max_error, rms_error }) = worst {
            let name = visible(name);
            text += &format!(
                "    no value is off by more than {max_error:.2e}; in {name}, that has it, by {rms_error:.2e} in the mean (RMS)\n"
            );
        }
    }
    text
}

fn approx_json(report: &ApproxReport, folder: &Path) -> Value {
    let files = report.files.iter().map(|file| {
        let mut entry = file.mark(report.commit);
        entry["exact"] = file.is_exact().into();
        entry["needed_bytes"] = file.needed.into();
        entry["stored_bytes"] = file.stored.into();
        entry
    });
    json!({
        "commit": report.commit.to_hex(),
        "output": folder.display().to_string(),
        "written": files.collect::<Vec<_>>(),
    })
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
