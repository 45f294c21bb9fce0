//! `shard unpack`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_manifest::{ArchiveFile, Lossy};
use shard_repo::{Archive, RepoError};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::lossy;
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
    let files = listed(&archive).map_err(|error| Failure::in_archive(error, &args.archive))?;
    if args.list {
        let ui = &context.ui;
        if ui.json {
            ui.print_json(&list_json(&files))?
        } else {
            ui.print(&list_text(&files, context))?
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
    let approximate = || files.iter().filter_map(|(file, lossy)| Some((file.path.as_str(), lossy.as_ref()?)));
    if context.ui.json {
        let files = written.iter().map(|(path, size)| {
            let mut file = json!({"path": path, "size": size});
            lossy::add_to(&mut file, approximate().find(|(marked, _)| marked == path).map(|(_, lossy)| lossy));
            file
        });
        let output = args.output.display().to_string();
        context.ui.print_json(&json!({"output": output, "written": files.collect::<Vec<_>>()}))?;
    } else {
        let bytes = written.iter().map(|(_, size)| size).sum();
        let output = args.output.display().to_string();
        let restored = count(written.len() as u64, "file");
        context.ui.inform(&format!("{restored} restored ({}) in {}\n", human(bytes), visible(&output)))?;
        // With `--quiet` too: nobody is to take them for what was packed.
        context.ui.note(&approximate().map(|(path, lossy)| format!("{path} is {lossy}")).collect::<Vec<_>>());
    }
    Ok(code::DONE)
}

/// A file of an archive, and how far it is from what was packed.
pub(crate) type Listed<'a> = (&'a ArchiveFile, Option<Lossy>);

/// The files of an archive, in series order.
pub(crate) fn listed(archive: &Archive) -> Result<Vec<Listed<'_>>, RepoError> {
    archive.root.files.iter().map(|file| Ok((file, archive.lossy(file)?))).collect()
}

/// The files of an archive as a table.
pub(crate) fn list_text(files: &[Listed<'_>], context: &Context) -> String {
    let mut table = Table::new(&["file", ">size", "sha256", lossy::COLUMN]);
    for (file, lossy) in files {
        table.row(vec![
            file.path.as_str().into(),
            human(file.size).into(),
            Cell::new(file.sha256.to_hex(), Style::Dim),
            lossy::cell(lossy.as_ref()),
        ]);
    }
    context.ui.table(&table)
}

/// The same as JSON.
pub(crate) fn list_json(files: &[Listed<'_>]) -> Value {
    let files = files.iter().map(|(file, lossy)| {
        let mut value = json!({
            "path": file.path,
            "mode": file.mode,
            "size": file.size,
            "sha256": file.sha256.to_hex(),
            "manifest": file.manifest.to_hex(),
        });
        lossy::add_to(&mut value, lossy.as_ref());
        value
    });
    json!({"files": files.collect::<Vec<_>>()})
}
