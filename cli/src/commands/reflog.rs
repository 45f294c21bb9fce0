//! `shard reflog`

use serde_json::{Value, json};
use shard_core::Digest;
use shard_repo::{Reflog, ReflogEntry};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// Show what a ref was, newest first: also one that was deleted
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HEAD, which is the default, a branch or a tag
    #[arg(value_name = "REF", default_value = "HEAD", hide_default_value = true)]
    reference: String,
    /// At most this many moves
    #[arg(short = 'n', long, value_name = "N")]
    max_count: Option<usize>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let log = repository.reflog(&args.reference, args.max_count.unwrap_or(usize::MAX))?;
    if context.ui.json {
        context.ui.print_json(&to_json(&log))?;
    } else {
        context.ui.print(&to_text(&log, &args.reference, context))?;
        if let Some(problem) = &log.problem {
            context.ui.note(&[format!("older moves are not known, since a state is damaged: {problem}")]);
        }
    }
    Ok(if log.problem.is_some() { code::DAMAGED } else { code::DONE })
}

fn to_text(log: &Reflog, reference: &str, context: &Context) -> String {
    let mut table = Table::new(&["", "time", "old", "new", "what"]);
    let id = |id: Option<Digest>| match id {
        Some(id) => Cell::new(id.short(), Style::Cyan),
        None => Cell::new("-", Style::Dim),
    };
    for (back, entry) in log.entries.iter().enumerate() {
        let ReflogEntry { created_at, old, new, message, .. } = entry;
        // People do not read nanoseconds.
        let time = created_at.split('.').next().unwrap_or(created_at).trim_end_matches('Z');
        let name = Cell::new(format!("{reference}@{{{back}}}"), Style::Yellow);
        table.row(vec![name, format!("{time}Z").into(), id(*old), id(*new), message.as_str().into()]);
    }
    context.ui.table(&table)
}

fn to_json(log: &Reflog) -> Value {
    let entries = log.entries.iter().map(|entry| {
        json!({
            "created_at": entry.created_at,
            "old": entry.old.map(|old| old.to_hex()),
            "new": entry.new.map(|new| new.to_hex()),
            "message": entry.message,
            "operation": entry.operation.to_hex(),
        })
    });
    json!({"ref": log.name, "entries": entries.collect::<Vec<_>>(), "problem": log.problem})
}
