//! `shard pack`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_repo::{PackOptions, PackReport, RepoError, pack};

use crate::Context;
use crate::commands::add::cost_json;
use crate::error::{Failure, code};
use crate::report::json::sizes;
use crate::report::size::{human, ratio, ratio_value};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Pack files, a model or a series of checkpoints, into one portable archive
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and folders, in the order of the series: each is stored as the difference to those before it
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The archive to make
    #[arg(short, long, value_name = "OUT.shard")]
    output: PathBuf,
    /// Replace an archive that is there
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let progress = context.ui.progress();
    let options = PackOptions { force: args.force, ..PackOptions::default() };
    let report =
        pack(&args.files, &args.output, &options, context.settings, progress.as_ref()).map_err(
            |error| match error {
                RepoError::WouldOverwrite { .. } => {
                    Failure::from(error).next("choose another name, or --force to replace it")
                }
                RepoError::NothingToDo(_) => Failure::from(error).next("name the files, in the order of the series"),
                other => other.into(),
            },
        )?;
    drop(progress);
    if context.ui.json {
        context.ui.print_json(&to_json(&report, args))?;
    } else {
        context.ui.inform(&to_text(&report, args, context))?;
    }
    Ok(code::DONE)
}

fn raw_total(report: &PackReport) -> u64 {
    report.files.iter().map(|file| file.size).sum()
}

fn to_text(report: &PackReport, args: &Args, context: &Context) -> String {
    let mut table = Table::new(&["file", ">size", ">growth", ">ratio"]);
    let mut notes = String::new();
    for file in &report.files {
        table.row(vec![
            file.path.as_str().into(),
            human(file.size).into(),
            human(file.growth).into(),
            ratio(file.size, file.growth).into(),
        ]);
        if let Some(note) = &file.note {
            notes.push_str(&format!("note: {} is kept as opaque bytes: {}\n", visible(&file.path), visible(note)));
        }
    }
    let raw = raw_total(report);
    table.row(vec![
        Cell::new("total", Style::Bold),
        human(raw).into(),
        human(report.size).into(),
        Cell::new(ratio(raw, report.size), Style::Bold),
    ]);
    let out = args.output.display().to_string();
    format!("{}{notes}{} made\n", context.ui.table(&table), visible(&out))
}

fn to_json(report: &PackReport, args: &Args) -> Value {
    let files = report.files.iter().map(|file| {
        let mut fields = cost_json(file.cost);
        fields["path"] = file.path.as_str().into();
        fields["size"] = file.size.into();
        fields["growth"] = file.growth.into();
        fields["ratio"] = ratio_value(file.size, file.growth).into();
        fields["note"] = file.note.as_deref().into();
        fields
    });
    json!({
        "archive": args.output.display().to_string(),
        "files": files.collect::<Vec<_>>(),
        "total": sizes(raw_total(report), report.size),
    })
}
