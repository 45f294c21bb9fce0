//! `shard unpack`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_manifest::ArchiveFile;
use shard_repo::{Archive, RepoError};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::lossy::{self, Mark};
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
    let files = listed(&archive);
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
    if context.ui.json {
        let files = written.iter().map(|(path, size)| {
            let mut file = json!({"path": path, "size": size});
            let mark = files.iter().find(|(marked, _)| marked.path == *path).and_then(|(_, mark)| mark.as_ref());
            lossy::add_to(&mut file, mark.map(Result::as_ref));
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
        let notes = files.iter().filter_map(|(file, mark)| Some(format!("{} is {}", file.path, lossy::what(mark)?)));
        context.ui.note(&notes.collect::<Vec<_>>());
    }
    Ok(code::DONE)
}

/// A file of an archive, and its mark.
pub(crate) type Listed<'a> = (&'a ArchiveFile, Mark);

/// The files of an archive, in series order. One whose manifest cannot be read is listed by what the archive's root says of it, like
/// a file without a mark: it cannot be restored, and `verify` says why.
pub(crate) fn listed(archive: &Archive) -> Vec<Listed<'_>> {
    let mark = |file| archive.lossy(file).ok().and_then(Result::transpose);
    archive.root.files.iter().map(|file| (file, mark(file))).collect()
}

/// The files of an archive as a table.
pub(crate) fn list_text(files: &[Listed<'_>], context: &Context) -> String {
    let mut table = Table::new(&["file", ">size", "sha256", lossy::COLUMN]);
    for (file, mark) in files {
        table.row(vec![
            file.path.as_str().into(),
            human(file.size).into(),
            Cell::new(file.sha256.to_hex(), Style::Dim),
            lossy::cell(mark.as_ref().map(Result::as_ref)),
        ]);
    }
    let marks = lossy::lines(files.iter().map(|(file, mark)| (file.path.as_str(), mark)));
    format!("{}{marks}", context.ui.table(&table))
}

/// The same as JSON.
pub(crate) fn list_json(files: &[Listed<'_>]) -> Value {
    let files = files.iter().map(|(file, mark)| {
        let mut value = json!({
            "path": file.path,
            "mode": file.mode,
            "size": file.size,
            "sha256": file.sha256.to_hex(),
            "manifest": file.manifest.to_hex(),
        });
        lossy::add_to(&mut value, mark.as_ref().map(Result::as_ref));
        value
    });
    json!({"files": files.collect::<Vec<_>>()})
}
