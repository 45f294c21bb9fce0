//! `shard unpack`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_repo::{Archive, RepoError};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Restore the files of an archive, each proven by its SHA-256
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive
    #[arg(value_name = "IN.shard")]
    archive: PathBuf,
    /// Folder to restore to; made where it is not there
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Replace files that are there
    #[arg(short, long)]
    force: bool,
    /// Only list what is in the archive
    #[arg(long, conflicts_with_all = ["output", "force"])]
    list: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let archive = Archive::open(&args.archive).map_err(|error| Failure::in_archive(error, &args.archive))?;
    if args.list {
        let ui = &context.ui;
        if ui.json {
            ui.print_json(&list_json(&archive))?
        } else {
            ui.print(&list_text(&archive, context))?
        }
        return Ok(code::DONE);
    }
    let progress = context.ui.progress();
    let written =
        archive.unpack(&args.output, args.force, context.settings, progress.as_ref()).map_err(|error| match error {
            RepoError::WouldOverwrite { .. } => {
                Failure::from(error).next("choose another folder with -o, or --force to replace them")
            }
            other => Failure::in_archive(other, &args.archive),
        })?;
    drop(progress);
    if context.ui.json {
        let files = written.iter().map(|(path, size)| json!({"path": path, "size": size}));
        let output = args.output.display().to_string();
        context.ui.print_json(&json!({"output": output, "written": files.collect::<Vec<_>>()}))?;
    } else {
        let bytes = written.iter().map(|(_, size)| size).sum();
        let output = args.output.display().to_string();
        let files = count(written.len() as u64, "file");
        context.ui.inform(&format!("{files} restored ({}) in {}\n", human(bytes), visible(&output)))?;
    }
    Ok(code::DONE)
}

/// The files of an archive, in series order.
pub(crate) fn list_text(archive: &Archive, context: &Context) -> String {
    let mut table = Table::new(&["file", ">size", "sha256"]);
    for file in &archive.root.files {
        table.row(vec![
            file.path.as_str().into(),
            human(file.size).into(),
            Cell::new(file.sha256.to_hex(), Style::Dim),
        ]);
    }
    context.ui.table(&table)
}

/// The same as JSON.
pub(crate) fn list_json(archive: &Archive) -> Value {
    let files = archive.root.files.iter().map(|file| {
        json!({
            "path": file.path,
            "mode": file.mode,
            "size": file.size,
            "sha256": file.sha256.to_hex(),
            "manifest": file.manifest.to_hex(),
        })
    });
    json!({"files": files.collect::<Vec<_>>()})
}
