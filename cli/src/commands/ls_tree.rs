//! `shard ls-tree`

use serde_json::{Value, json};
use shard_repo::{LastCommit, ListOptions, RepoEntry};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::text::visible;

/// List what a revision has in a folder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The revision; by default what is checked out
    #[arg(value_name = "REV", default_value = "HEAD", hide_default_value = true)]
    revision: String,
    /// A folder of it, as seen from this folder; in REV:PATH from the root of the repository. Without one all of it
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// What is in folders below too
    #[arg(short, long)]
    recursive: bool,
    /// Show the ids that Git would give files and folders
    #[arg(long)]
    git: bool,
    /// Show the last commit that changed each
    #[arg(long)]
    last: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let options = ListOptions { recursive: args.recursive, git_ids: args.git, last_commit: args.last };
    let (revision, path) = match (args.revision.split_once(':'), &args.path) {
        (Some((revision, path)), None) => (revision, path.to_owned()),
        (_, None) => (args.revision.as_str(), String::new()),
        (_, Some(path)) => (args.revision.as_str(), repository.tracked_path(path.as_ref())?),
    };
    let entries = repository.list_repo_tree(Some(&path), Some(revision), options)?;
    if context.ui.json {
        let commit = repository.resolve(revision)?.to_hex();
        let entries: Vec<Value> = entries.iter().map(to_json).collect();
        context.ui.print_json(&json!({"commit": commit, "path": path, "entries": entries}))?;
    } else {
        let text: String = entries.iter().map(|entry| line(entry, args, context)).collect();
        context.ui.print(&text)?;
    }
    Ok(code::DONE)
}

/// Mode, type and id as `git ls-tree` has them, a tab, and the path.
fn line(entry: &RepoEntry, args: &Args, context: &Context) -> String {
    let (mode, kind, id, git, last) = match entry {
        RepoEntry::File(file) => (file.mode.as_str(), "blob", file.sha256, file.blob_id, &file.last_commit),
        RepoEntry::Folder(folder) => ("040000", "tree", folder.tree, folder.tree_id, &folder.last_commit),
    };
    let id = match git {
        Some(id) if args.git => id.to_hex(),
        _ => id.to_hex(),
    };
    let last = match last {
        Some(LastCommit { id, title, .. }) => {
            format!("\t{} {}", context.ui.paint(&id.short(), Style::Cyan), visible(title))
        }
        None => String::new(),
    };
    format!("{mode} {kind} {id}\t{}{last}\n", visible(entry.path()))
}

fn to_json(entry: &RepoEntry) -> Value {
    let last = |last: &Option<LastCommit>| {
        last.as_ref().map(|last| json!({"id": last.id.to_hex(), "title": last.title, "created_at": last.created_at}))
    };
    match entry {
        RepoEntry::File(file) => json!({
            "type": "file",
            "path": file.path,
            "mode": file.mode.as_str(),
            "size": file.size,
            "sha256": file.sha256.to_hex(),
            "manifest": file.manifest.to_hex(),
            "blob_id": file.blob_id.map(|id| id.to_hex()),
            "lfs": file.lfs.map(|lfs| json!({"sha256": lfs.sha256.to_hex(), "size": lfs.size, "pointer_size": lfs.pointer_size})),
            "last_commit": last(&file.last_commit),
        }),
        RepoEntry::Folder(folder) => json!({
            "type": "folder",
            "path": folder.path,
            "tree": folder.tree.to_hex(),
            "tree_id": folder.tree_id.map(|id| id.to_hex()),
            "last_commit": last(&folder.last_commit),
        }),
    }
}
