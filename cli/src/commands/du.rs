//! `shard du`

use serde_json::{Value, json};
use shard_history::revision::RefKind;
use shard_repo::{GcOptions, KindUsage, StorageOverview};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{human, percent};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// Show what the repository holds and why, and what deleting each branch or tag would give back
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As for `gc`: earlier states of each ref that a collection keeps
    #[arg(long, value_name = "N")]
    keep_reflog: Option<u64>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let usual = GcOptions::default();
    let options = GcOptions { keep_reflog: args.keep_reflog.unwrap_or(usual.keep_reflog), ..usual };
    let overview = context.repository()?.storage_overview(&options)?;
    if context.ui.json {
        context.ui.print_json(&to_json(&overview))?;
    } else {
        context.ui.print(&to_text(&overview, context))?;
    }
    Ok(code::DONE)
}

fn word(kind: RefKind) -> &'static str {
    match kind {
        RefKind::Branch => "branch",
        RefKind::Tag => "tag",
        RefKind::Remote => "remote branch",
    }
}

fn to_text(overview: &StorageOverview, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = format!(
        "{} in all: refs lead to {}, only their logs to {}; {} of the packs is dead\n\n",
        ui.paint(&human(overview.total_size), Style::Bold),
        human(overview.reachable_size),
        human(overview.historical_retained_size),
        percent(overview.dead_share)
    );
    let mut table = Table::new(&["part", ">size", ">files", ">to be had back", "how"]);
    for section in &overview.sections {
        let (back, how) = match section.reclaimable_size {
            0 => (String::new(), String::new()),
            bytes => (human(bytes), section.reclaim.name().to_owned()),
        };
        table.row(vec![
            section.name.into(),
            human(section.total_size).into(),
            section.file_count.to_string().into(),
            back.into(),
            how.into(),
        ]);
    }
    text.push_str(&ui.table(&table));
    let mut table = Table::new(&["kind", ">entries", ">size", ">needed", ">size"]);
    for usage in &overview.kinds {
        table.row(vec![
            usage.kind.name().into(),
            usage.entries.to_string().into(),
            human(usage.bytes).into(),
            usage.needed_entries.to_string().into(),
            human(usage.needed_bytes).into(),
        ]);
    }
    text.push_str(&format!("\n{}", ui.table(&table)));
    if !overview.refs.is_empty() {
        let mut table = Table::new(&["", "name", ">deleting it frees"]);
        for usage in &overview.refs {
            let frees = if usage.frees == 0 { "-".to_owned() } else { human(usage.frees) };
            table.row(vec![word(usage.kind).into(), Cell::new(&usage.name, Style::Cyan), frees.into()]);
        }
        text.push_str(&format!("\n{}", ui.table(&table)));
    }
    let notes = overview
        .sections
        .iter()
        .flat_map(|section| section.notes.iter().map(move |note| format!("{}: {note}", section.name)));
    for note in notes.chain(overview.recommendations.iter().cloned()) {
        text.push_str(&format!("{} {}\n", ui.paint("note:", Style::Yellow), crate::report::text::visible(&note)));
    }
    text
}

/// Entries of a kind.
pub(crate) fn kind_json(usage: &KindUsage) -> Value {
    json!({
        "kind": usage.kind.name(),
        "entries": usage.entries,
        "bytes": usage.bytes,
        "needed_entries": usage.needed_entries,
        "needed_bytes": usage.needed_bytes,
    })
}

fn to_json(overview: &StorageOverview) -> Value {
    let sections = overview.sections.iter().map(|section| {
        json!({
            "name": section.name,
            "path": section.path,
            "total_size": section.total_size,
            "file_count": section.file_count,
            "reclaimable_size": section.reclaimable_size,
            "reclaim_strategy": section.reclaim.name(),
            "notes": section.notes,
        })
    });
    let refs = overview.refs.iter().map(|usage| {
        json!({
            "kind": word(usage.kind),
            "name": usage.name,
            "target": usage.target.to_hex(),
            "frees": usage.frees,
            "entries": usage.entries,
        })
    });
    json!({
        "total_size": overview.total_size,
        "reachable_size": overview.reachable_size,
        "historical_retained_size": overview.historical_retained_size,
        "reclaimable_gc_size": overview.reclaimable_gc_size,
        "reclaimable_cache_size": overview.reclaimable_cache_size,
        "reclaimable_temporary_size": overview.reclaimable_temporary_size,
        "dead_share": overview.dead_share,
        "sections": sections.collect::<Vec<_>>(),
        "kinds": overview.kinds.iter().map(kind_json).collect::<Vec<_>>(),
        "refs": refs.collect::<Vec<_>>(),
        "gc": super::gc::plan_json(&overview.gc),
        "recommendations": overview.recommendations,
    })
}
