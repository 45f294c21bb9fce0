//! `shard add`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_repo::{AddReport, Added, AddedState, SnapshotCost};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human, ratio, ratio_value};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Stage files and folders as they are now, for the next commit
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and folders; tracked files that are gone are staged as deleted
    #[arg(value_name = "PATH", required_unless_present = "all")]
    paths: Vec<PathBuf>,
    /// Stage the whole work tree
    #[arg(short = 'A', long, conflicts_with = "paths")]
    all: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let paths = if args.all { vec![repository.root().to_owned()] } else { args.paths.clone() };
    let progress = context.ui.progress();
    let report = repository.add(&paths, progress.as_ref())?;
    drop(progress);
    if context.ui.json {
        context.ui.print_json(&to_json(&report))?;
    } else {
        context.ui.inform(&to_text(&report, context))?;
    }
    Ok(code::DONE)
}

fn to_text(report: &AddReport, context: &Context) -> String {
    let mut table = Table::new(&["", "path", ">size", ">new", ">ratio"]);
    let mut notes = String::new();
    let (mut staged, mut removed, mut unchanged, mut bytes) = (0u64, 0u64, 0u64, 0u64);
    for file in &report.files {
        match &file.state {
            AddedState::Unchanged => unchanged += 1,
            AddedState::Removed => {
                removed += 1;
                table.row(vec![Cell::new("removed", Style::Red), file.path.as_str().into()]);
            }
            AddedState::Staged(cost) => {
                staged += 1;
                bytes += file.size;
                table.row(vec![
                    Cell::new("staged", Style::Green),
                    file.path.as_str().into(),
                    human(file.size).into(),
                    human(cost.new_bytes).into(),
                    ratio(file.size, cost.new_bytes).into(),
                ]);
            }
        }
        if let Some(note) = &file.note {
            notes.push_str(&format!("note: {} is kept as opaque bytes: {}\n", visible(&file.path), visible(note)));
        }
    }
    let mut text = if table.is_empty() { String::new() } else { context.ui.table(&table) };
    text.push_str(&notes);
    let mut parts = Vec::new();
    if staged > 0 {
        let cost = report.cost;
        parts.push(format!(
            "{} staged: {} in {}, {} of them new, stored in {}",
            count(staged, "file"),
            human(bytes),
            count(cost.blocks, "block"),
            cost.new_blocks,
            human(cost.new_bytes),
        ));
    }
    if removed > 0 {
        parts.push(format!("{removed} removed"));
    }
    if unchanged > 0 {
        parts.push(format!("{unchanged} unchanged"));
    }
    if parts.is_empty() {
        parts.push("nothing to stage".to_owned());
    }
    text.push_str(&parts.join("; "));
    text.push('\n');
    text
}

fn to_json(report: &AddReport) -> Value {
    json!({"files": report.files.iter().map(file_json).collect::<Vec<_>>(), "total": cost_json(report.cost)})
}

fn file_json(file: &Added) -> Value {
    let (state, cost) = match &file.state {
        AddedState::Unchanged => ("unchanged", SnapshotCost::default()),
        AddedState::Removed => ("removed", SnapshotCost::default()),
        AddedState::Staged(cost) => ("staged", *cost),
    };
    let mut fields = cost_json(cost);
    fields["path"] = file.path.as_str().into();
    fields["state"] = state.into();
    fields["size"] = file.size.into();
    fields["ratio"] = ratio_value(file.size, cost.new_bytes).into();
    fields["note"] = file.note.as_deref().into();
    fields
}

/// What content cost, as JSON.
pub(crate) fn cost_json(cost: SnapshotCost) -> Value {
    json!({
        "blocks": cost.blocks,
        "new_blocks": cost.new_blocks,
        "new_bytes": cost.new_bytes,
        "deltas": cost.deltas,
    })
}
