//! `shard commit` by paths: `--add`, `--delete` and `--copy` make a commit on a branch without stage and work tree.

use std::path::PathBuf;

use serde_json::json;
use shard_repo::{CommitInfo, CommitOperation, CommitRequest};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;

/// Deletions come first, then copies of what the branch had, then additions.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "On a branch, without stage and work tree")]
pub(crate) struct Paths {
    /// The branch to commit to; the default branch without one
    #[arg(short, long, value_name = "BRANCH", conflicts_with = "name")]
    revision: Option<String>,
    /// Add a file: its path in the repository, and the file on disk that has its bytes
    #[arg(long, value_name = "PATH=FILE", value_parser = parse_pair)]
    add: Vec<(String, String)>,
    /// Delete a file, or with a slash at the end a folder
    #[arg(long, value_name = "PATH")]
    delete: Vec<String>,
    /// Copy a file or a folder of the branch
    #[arg(long, value_name = "PATH=NEW", value_parser = parse_pair)]
    copy: Vec<(String, String)>,
    /// Do nothing unless the branch ends at this commit
    #[arg(long, value_name = "REV")]
    parent_commit: Option<String>,
    /// Text after the title and an empty line
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => Ok((left.to_owned(), right.to_owned())),
        _ => Err(format!("{text:?} has no = between two paths")),
    }
}

impl Paths {
    /// Whether a commit by paths is asked for.
    pub(crate) fn is_asked_for(&self) -> bool {
        let has_operations = !self.add.is_empty() || !self.delete.is_empty() || !self.copy.is_empty();
        has_operations || self.revision.is_some() || self.parent_commit.is_some() || self.description.is_some()
    }

    pub(crate) fn run(
        &self,
        message: String,
        author: Option<String>,
        created_at: Option<String>,
        context: &Context,
    ) -> Result<u8, Failure> {
        let repository = context.repository()?;
        let add = |(path, file): &(String, String)| CommitOperation::add(path.clone(), PathBuf::from(file));
        let mut operations: Vec<CommitOperation> = self.delete.iter().map(CommitOperation::delete).collect();
        operations.extend(self.copy.iter().map(|(from, to)| CommitOperation::copy(from, to)));
        operations.extend(self.add.iter().map(add));
        let request = CommitRequest {
            message,
            description: self.description.clone(),
            revision: self.revision.clone(),
            parent_commit: self.parent_commit.clone(),
            author,
            created_at,
        };
        let progress = context.ui.progress();
        let info = repository.create_commit(operations, &request, progress.as_ref()).map_err(|error| match error {
            shard_repo::RepoError::NothingToDo(_) => {
                Failure::from(error).next("say what with `--add PATH=FILE`, `--delete PATH` or `--copy PATH=NEW`")
            }
            other => other.into(),
        })?;
        report(&info, context)
    }
}

fn report(info: &CommitInfo, context: &Context) -> Result<u8, Failure> {
    let ui = &context.ui;
    if ui.json {
        ui.print_json(&json!({
            "id": info.id.to_hex(),
            "git_id": info.twin.to_hex(),
            "branch": info.branch,
            "parent": info.parent.map(|parent| parent.to_hex()),
            "title": info.title,
            "description": info.description,
            "tree": info.tree.to_hex(),
        }))?;
    } else {
        let (branch, id) = (ui.paint(&info.branch, Style::Green), ui.paint(&info.id.short(), Style::Cyan));
        ui.inform(&format!("[{branch} {id}] {}\n", ui.paint(&info.title, Style::Plain)))?;
    }
    Ok(code::DONE)
}
