//! `shard chunk`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_core::limits::Cut;
use shard_repo::{ChunkLine, ChunkReport, Repository, chunk};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Show how a file is cut into blocks, and which the repository has already; nothing is stored
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only the totals
    #[arg(long)]
    summary: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository_if_any()?;
    let cut = repository.as_ref().map_or(Cut::V1, Repository::cut);
    let progress = context.ui.progress();
    let report = chunk(&args.file, cut, repository.as_ref(), progress.as_ref())?;
    drop(progress);
    if context.ui.json {
        context.ui.print_json(&to_json(&report, args.summary))?;
    } else {
        context.ui.print(&to_text(&report, args, repository.is_some(), context))?;
    }
    Ok(code::DONE)
}

fn state(block: &ChunkLine) -> (&'static str, Style) {
    match (block.repeated, block.known) {
        (true, _) => ("repeated", Style::Cyan),
        (false, true) => ("known", Style::Green),
        (false, false) => ("new", Style::Yellow),
    }
}

/// How many blocks are in that state, and their bytes.
fn total(report: &ChunkReport, word: &str) -> (u64, u64) {
    let matching = report.blocks.iter().filter(|block| state(block).0 == word);
    matching.fold((0, 0), |(blocks, bytes), block| (blocks + 1, bytes + u64::from(block.len)))
}

fn to_text(report: &ChunkReport, args: &Args, in_repository: bool, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = format!(
        "{}: {}, {}, sha256 {}\n",
        visible(&args.file.display().to_string()),
        visible(&report.format),
        human(report.size),
        report.sha256
    );
    if let Some(note) = &report.note {
        text.push_str(&format!("note: kept as opaque bytes: {}\n", visible(note)));
    }
    if !args.summary && !report.blocks.is_empty() {
        let mut table = Table::new(&[">offset", ">length", "block", "dtype", "state", "tensor"]);
        for block in &report.blocks {
            let (word, style) = state(block);
            table.row(vec![
                block.offset.to_string().into(),
                block.len.to_string().into(),
                Cell::new(block.id.short(), Style::Cyan),
                block.dtype.map_or("", shard_core::DType::name).into(),
                Cell::new(word, style),
                block.tensor.as_deref().unwrap_or_default().into(),
            ]);
        }
        text.push_str(&ui.table(&table));
    }
    let mut parts = Vec::new();
    for word in ["new", "known", "repeated"] {
        let (blocks, bytes) = total(report, word);
        if blocks > 0 {
            parts.push(format!("{blocks} {word} ({})", human(bytes)));
        }
    }
    let blocks = count(report.blocks.len() as u64, "block");
    text.push_str(&format!("{blocks}{}{}\n", if parts.is_empty() { "" } else { ": " }, parts.join(", ")));
    if !in_repository && !ui.quiet {
        text.push_str("(no repository here: no block is known)\n");
    }
    text
}

fn to_json(report: &ChunkReport, summary: bool) -> Value {
    let mut json = json!({
        "format": report.format,
        "note": report.note,
        "size": report.size,
        "sha256": report.sha256.to_hex(),
        "total": {"blocks": report.blocks.len()},
    });
    for word in ["new", "known", "repeated"] {
        let (blocks, bytes) = total(report, word);
        json["total"][word] = json!({"blocks": blocks, "bytes": bytes});
    }
    if !summary {
        let blocks = report.blocks.iter().map(|block| {
            json!({
                "offset": block.offset,
                "len": block.len,
                "id": block.id.to_hex(),
                "dtype": block.dtype.map(shard_core::DType::name),
                "tensor": block.tensor,
                "state": state(block).0,
            })
        });
        json["blocks"] = blocks.collect();
    }
    json
}
