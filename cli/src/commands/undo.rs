//! `shard undo`

use serde_json::{Value, json};
use shard_repo::{RefMove, RepoError, UndoOptions, UndoPlan, UndoReport};
use shard_store::Target;

use super::operations::{move_json, short_id, to_json};
use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// Take the last operation back, whatever it was: once more does it again
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Another one, by the first digits of its id in `shard operations`
    #[arg(value_name = "OPERATION")]
    operation: Option<String>,
    /// Overwrite changes that no commit has
    #[arg(short, long)]
    force: bool,
    /// Say what would move, and move nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let operation = args.operation.as_deref();
    if args.dry_run {
        let plan = repository.plan_undo(operation)?;
        if context.ui.json {
            context.ui.print_json(&plan_json(&plan))?;
        } else {
            context.ui.print(&plan_text("Would undo", &plan, context))?;
        }
        return Ok(code::DONE);
    }
    let options = UndoOptions { force: args.force };
    let progress = context.ui.progress();
    let report = repository.undo(operation, options, progress.as_ref()).map_err(|error| match error {
        RepoError::WouldOverwrite { .. } => {
            Failure::from(error).next("commit them (`shard add`, `shard commit`) or move them away; --force loses them")
        }
        other => other.into(),
    })?;
    let UndoReport { plan, written, removed } = &report;
    if context.ui.json {
        let mut json = plan_json(plan);
        json["written"] = written.iter().map(|(path, size)| json!({"path": path, "size": size})).collect();
        json["removed"] = removed.iter().map(String::as_str).collect();
        context.ui.print_json(&json)?;
    } else {
        let mut text = plan_text("Undid", plan, context);
        if !written.is_empty() || !removed.is_empty() {
            text += &format!("  {} written, {} removed\n", count(written.len() as u64, "file"), removed.len());
        }
        context.ui.inform(&text)?;
    }
    Ok(code::DONE)
}

fn plan_json(plan: &UndoPlan) -> Value {
    json!({
        "operation": to_json(&plan.operation),
        "moves": plan.moves.iter().map(move_json).collect::<Vec<_>>(),
        "files": plan.files,
        "message": plan.message,
    })
}

fn plan_text(what: &str, plan: &UndoPlan, context: &Context) -> String {
    let ui = &context.ui;
    let id = ui.paint(&short_id(&plan.operation), Style::Yellow);
    let mut text = format!("{what} {id} {}\n", ui.paint(&plan.operation.message, Style::Plain));
    let mut table = Table::new(&["", "", "", ""]);
    for RefMove { name, old, new } in &plan.moves {
        let name = Cell::new(format!("  {name}"), Style::Green);
        let old = old.as_ref().map_or_else(String::new, place);
        table.row(vec![name, old.into(), "->".into(), Cell::new(place(new), Style::Cyan)]);
    }
    text.push_str(&ui.table(&table));
    text
}

fn place(target: &Target) -> String {
    match target {
        Target::Commit(id) | Target::Tag(id) => id.short(),
        Target::Tree(id) => format!("tree {}", id.short()),
        Target::Symbolic(name) => name.clone(),
        Target::Deleted => "nothing".to_owned(),
    }
}
