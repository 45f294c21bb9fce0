//! `shard download` and `shard snapshot`

use std::path::{Path, PathBuf};

use serde_json::json;
use shard_repo::PathFilter;

use crate::Context;
use crate::error::{Failure, code};
use crate::report::text::visible;

/// Make a file of a revision one on disk, and print where it is
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// The file's path, as seen from this folder
    #[arg(value_name = "PATH")]
    path: String,
    /// The revision; by default the default branch
    #[arg(short, long, value_name = "REV")]
    revision: Option<String>,
    /// Where to; by default into the repository's cache
    #[arg(long, value_name = "DIR")]
    local_dir: Option<PathBuf>,
}

/// Make the files of a revision ones on disk, and print where they are
#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArgs {
    /// The revision; by default the default branch
    #[arg(short, long, value_name = "REV")]
    revision: Option<String>,
    /// Where to; by default into the repository's cache
    #[arg(long, value_name = "DIR")]
    local_dir: Option<PathBuf>,
    /// Only files that match one of these patterns: * is any text, ? a character, a slash at the end all in a folder
    #[arg(long, value_name = "PATTERN")]
    allow: Vec<String>,
    /// No files that match one of these patterns
    #[arg(long, value_name = "PATTERN")]
    ignore: Vec<String>,
}

pub(crate) fn file(args: &FileArgs, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let path = repository.tracked_path(args.path.as_ref())?;
    let place = repository.hf_hub_download(&path, args.revision.as_deref(), args.local_dir.as_deref())?;
    print(&place, context)
}

pub(crate) fn snapshot(args: &SnapshotArgs, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let allow = (!args.allow.is_empty()).then(|| args.allow.clone());
    let filter = PathFilter { allow, ignore: args.ignore.clone() };
    let progress = context.ui.progress();
    let (revision, local_dir) = (args.revision.as_deref(), args.local_dir.as_deref());
    print(&repository.snapshot_download(revision, local_dir, &filter, progress.as_ref())?, context)
}

fn print(place: &Path, context: &Context) -> Result<u8, Failure> {
    let place = place.display().to_string();
    match context.ui.json {
        true => context.ui.print_json(&json!({"path": place}))?,
        false => context.ui.print(&format!("{}\n", visible(&place)))?,
    }
    Ok(code::DONE)
}
