//! Lists of changed files.

use shard_history::FileChange;

use super::json::change_word;
use super::size::human;
use super::style::Style;
use super::table::{Cell, Table};

/// A line a file: what happened, its path, its size or sizes.
pub(crate) fn change_table(changes: &[FileChange]) -> Table {
    let mut table = Table::new(&["", "", ">"]);
    for change in changes {
        let size = match (change.old(), change.new_entry()) {
            (Some(old), Some(new)) if old.size != new.size => format!("{} -> {}", human(old.size), human(new.size)),
            (_, Some(new)) => human(new.size),
            (Some(old), None) => human(old.size),
            (None, None) => String::new(),
        };
        table.row(vec![
            Cell::new(format!("  {}", change_word(change)), change_style(change)),
            path(change).into(),
            size.into(),
        ]);
    }
    table
}

/// The path, with the one before where it was renamed.
pub(crate) fn path(change: &FileChange) -> String {
    match change {
        FileChange::Renamed { from, path, .. } => format!("{from} -> {path}"),
        other => other.path().to_owned(),
    }
}

/// The colour of a kind of change.
pub(crate) fn change_style(change: &FileChange) -> Style {
    match change {
        FileChange::Added { .. } => Style::Green,
        FileChange::Removed { .. } => Style::Red,
        FileChange::Modified { .. } | FileChange::ModeChanged { .. } => Style::Yellow,
        FileChange::Renamed { .. } => Style::Cyan,
    }
}
