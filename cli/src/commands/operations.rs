//! `shard operations`

use serde_json::{Value, json};
use shard_repo::{Operation, Operations, RefMove};
use shard_store::Target;

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// Show what was done to the repository, newest first: `shard undo` takes any of it back
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `shard op log` is the same
    #[arg(value_name = "log", value_parser = ["log"], hide = true)]
    log: Option<String>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N")]
    max_count: Option<usize>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let Operations { mut entries, problems } = context.repository()?.operations()?;
    entries.truncate(args.max_count.unwrap_or(usize::MAX));
    if context.ui.json {
        let entries: Vec<Value> = entries.iter().map(to_json).collect();
        context.ui.print_json(&json!({"operations": entries, "problems": problems}))?;
    } else {
        let mut table = Table::new(&["", "time", "what", "moved"]);
        for operation in &entries {
            let names: Vec<&str> = operation.moves.iter().map(|moved| moved.name.as_str()).collect();
            table.row(vec![
                Cell::new(short_id(operation), Style::Yellow),
                seconds(&operation.created_at).into(),
                operation.message.as_str().into(),
                Cell::new(names.join(", "), Style::Dim),
            ]);
        }
        context.ui.print(&context.ui.table(&table))?;
        context.ui.note(&problems);
    }
    Ok(if problems.is_empty() { code::DONE } else { code::DAMAGED })
}

/// The digits by which an operation is shown.
pub(crate) fn short_id(operation: &Operation) -> String {
    operation.id.to_hex().chars().take(12).collect()
}

/// A time without parts of seconds, which people do not read.
pub(crate) fn seconds(time: &str) -> String {
    let whole = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    format!("{whole}Z")
}

/// An operation.
pub(crate) fn to_json(operation: &Operation) -> Value {
    json!({
        "id": operation.id.to_hex(),
        "created_at": operation.created_at,
        "message": operation.message,
        "moves": operation.moves.iter().map(move_json).collect::<Vec<_>>(),
    })
}

/// A move of a ref.
pub(crate) fn move_json(moved: &RefMove) -> Value {
    let target = |target: &Target| match target {
        Target::Deleted => Value::Null,
        other => other.to_string().into(),
    };
    json!({
        "ref": moved.name,
        "old": moved.old.as_ref().map_or(Value::Null, target),
        "new": target(&moved.new),
        "old_is_known": moved.old.is_some(),
    })
}
