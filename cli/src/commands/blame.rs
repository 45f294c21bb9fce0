//! `shard blame`

use serde_json::{Value, json};
use shard_history::glob::Glob;
use shard_history::{Revision, RevisionSpec};
use shard_repo::{BlameLine, RepoError};

use super::operations::seconds;
use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// Show for each tensor of a file the commit that last changed it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file of a revision, REV:PATH; a path alone is one of HEAD
    #[arg(value_name = "REV:PATH")]
    file: String,
    /// Only tensors whose names match: * is any text, ? a character, [a-c] one of these
    #[arg(value_name = "GLOB")]
    tensors: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let (revision, path) = match RevisionSpec::parse(&args.file) {
        Ok(RevisionSpec::Path(revision, path)) => (revision, path),
        _ => (Revision::head(), repository.tracked_path(args.file.as_ref())?),
    };
    let pattern = args.tensors.as_deref().map(glob).transpose()?;
    let lines = repository.blame(&revision, &path, pattern.as_ref()).map_err(|error| match error {
        RepoError::NothingToDo(_) => Failure::from(error)
            .with_code(code::NOT_FOUND)
            .next(format!("`shard show {revision}:{path}` lists the tensors of a file")),
        other => other.into(),
    })?;
    if context.ui.json {
        let tensors: Vec<Value> = lines.iter().map(to_json).collect();
        context.ui.print_json(&json!({"revision": revision.to_string(), "path": path, "tensors": tensors}))?;
    } else {
        let mut table = Table::new(&["", "date", "author", "tensor", "title"]);
        for line in &lines {
            table.row(vec![
                Cell::new(line.id.short(), Style::Cyan),
                seconds(&line.commit.created_at).into(),
                line.commit.author.as_deref().unwrap_or_default().into(),
                line.tensor.as_str().into(),
                Cell::new(line.commit.title(), Style::Dim),
            ]);
        }
        context.ui.print(&context.ui.table_by_importance(&table, &["author", "date"]))?;
    }
    Ok(code::DONE)
}

/// A pattern for names of tensors.
pub(crate) fn glob(text: &str) -> Result<Glob, Failure> {
    Glob::new(text).map_err(|error| {
        Failure::new(code::USAGE, format!("{text:?} is no pattern: {error}"))
            .next("name a tensor, or use * for any text, ? for a character, [a-c] for one of these; \\ before one of them means itself")
    })
}

fn to_json(line: &BlameLine) -> Value {
    json!({
        "tensor": line.tensor,
        "commit": line.id.to_hex(),
        "author": line.commit.author,
        "created_at": line.commit.created_at,
        "title": line.commit.title(),
        "path": line.path,
        "name": line.name,
    })
}
