//! What moved between two repositories.

use serde_json::{Value, json};
use shard_repo::{MovedRef, RefChange, SyncReport};

use super::Ui;
use super::size::{count, human};
use super::style::Style;
use super::table::{Cell, Table};

/// What was, or where it `is_dry` would be, sent or received: `verb` is one of both, `place` as in "from /srv/models".
pub(crate) fn to_text(report: &SyncReport, [verb, place]: [&str; 2], is_dry: bool, ui: &Ui) -> String {
    let mut table = Table::new(&["", "", ""]);
    for moved in &report.refs {
        let MovedRef { name, from, to, change } = moved;
        let style = match change {
            RefChange::New | RefChange::Forward => Style::Green,
            RefChange::Forced | RefChange::Kept => Style::Yellow,
            RefChange::Deleted => Style::Red,
        };
        let ids: Vec<String> = [from, to].iter().filter_map(|id| Some(id.as_ref()?.short())).collect();
        let between = match change {
            RefChange::Kept => " is not ",
            RefChange::Forced => " replaced by ",
            _ => " to ",
        };
        let name = name.strip_prefix("heads/").unwrap_or(name);
        table.row(vec![
            Cell::new(format!("  {}", change.as_str()), style),
            name.into(),
            Cell::new(ids.join(between), Style::Cyan),
        ]);
    }
    let mut text = String::new();
    if report.entries > 0 {
        let (commits, blocks) = (count(report.commits, "commit"), count(report.blocks, "block"));
        let verb = if is_dry { format!("Would have {verb}") } else { capital(verb) };
        let of = human(report.raw_bytes);
        text.push_str(&format!("{verb} {commits} and {blocks}, {} for {of}, {place}\n", human(report.bytes)));
    }
    text.push_str(&ui.table(&table));
    if text.is_empty() {
        text = "Everything is there already\n".to_owned();
    }
    text
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    format!("{}{rest}", first.to_uppercase())
}

pub(crate) fn to_json(report: &SyncReport, is_dry: bool) -> Value {
    let moved = |moved: &MovedRef| {
        json!({
            "name": moved.name,
            "from": moved.from.map(|id| id.to_hex()),
            "to": moved.to.map(|id| id.to_hex()),
            "change": moved.change.as_str(),
        })
    };
    json!({
        "url": report.url,
        "refs": report.refs.iter().map(moved).collect::<Vec<_>>(),
        "commits": report.commits,
        "blocks": report.blocks,
        "entries": report.entries,
        "bytes": report.bytes,
        "raw_bytes": report.raw_bytes,
        "dry_run": is_dry,
    })
}
