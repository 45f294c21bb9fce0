//! `shard scan`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_formats::scan::{GlobalUse, ScanReport};
use shard_formats::{FileSource, scan};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Show what the pickles in files would import and call: exit code 1 where not all of it is usual, or not all was read
///
/// Nothing is executed. Usual is what rebuilds tensors, arrays and containers. What is unusual need not do harm, and a file
/// without it need not be harmless.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The files: checkpoints, pickles, NumPy files, and archives of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let mut reports = Vec::with_capacity(args.files.len());
    let mut unread = None;
    for path in &args.files {
        match FileSource::open(path).and_then(|source| scan(&source)) {
            Ok(report) => reports.push((path.display().to_string(), report)),
            // What the other files hold is told all the same.
            Err(error) => drop(unread.get_or_insert(Failure::io(path, "cannot read", &error))),
        }
    }
    if let Some(failure) = unread.take_if(|_| reports.is_empty()) {
        return Err(failure);
    }
    if context.ui.json {
        let files: Vec<Value> = reports.iter().map(|(path, report)| to_json(path, report)).collect();
        let total = Total::of(&reports);
        context.ui.print_json(&json!({
            "files": files,
            "total": {"pickles": total.pickles, "globals": total.globals, "unusual": total.unusual, "notes": total.notes},
        }))?;
    } else {
        context.ui.print(&to_text(&reports, context))?;
    }
    if let Some(failure) = unread {
        return Err(failure);
    }
    let total = Total::of(&reports);
    Ok(if total.unusual + total.notes == 0 { code::DONE } else { code::DIFFERENT })
}

/// Sums over files.
#[derive(Default)]
struct Total {
    pickles: u64,
    globals: usize,
    unusual: usize,
    notes: usize,
}

impl Total {
    fn of(reports: &[(String, ScanReport)]) -> Self {
        reports.iter().fold(Self::default(), |total, (_, report)| Self {
            pickles: total.pickles + report.pickles,
            globals: total.globals + report.globals.len(),
            unusual: total.unusual + report.unusual(),
            notes: total.notes + report.notes.len(),
        })
    }
}

/// How a class or function is used.
fn used(global: &GlobalUse) -> String {
    let times = |count: u64| if count == 1 { String::new() } else { format!(" {count} times") };
    match (global.calls, global.states) {
        (0, 0) => format!("imported{}", times(global.imports)),
        (calls, 0) => format!("called{}", times(calls)),
        (0, states) => format!("given a state{}", times(states)),
        (calls, states) => format!("called{}, given a state{}", times(calls), times(states)),
    }
}

/// Module and name.
fn names(global: &GlobalUse) -> String {
    match (global.module.as_str(), global.name.as_str()) {
        ("", "") => "(computed)".to_owned(),
        (module, name) => format!("{module} {name}"),
    }
}

fn to_text(reports: &[(String, ScanReport)], context: &Context) -> String {
    let ui = &context.ui;
    let mut table = Table::new(&["file", "member", ">offset", "class or function", "use", ""]);
    let mut notes = String::new();
    for (path, report) in reports {
        for global in &report.globals {
            let (word, style) = if global.usual { ("usual", Style::Dim) } else { ("unusual", Style::Red) };
            table.row(vec![
                path.as_str().into(),
                global.member.as_str().into(),
                global.offset.to_string().into(),
                Cell::new(names(global), if global.usual { Style::Plain } else { Style::Red }),
                used(global).into(),
                Cell::new(word, style),
            ]);
        }
        for note in &report.notes {
            let place = if note.member.is_empty() { path.clone() } else { format!("{path}: {}", note.member) };
            let label = ui.paint("note:", Style::Yellow);
            notes.push_str(&format!("{label} {}: {}\n", visible(&place), visible(&note.message)));
        }
    }
    let mut text = if table.is_empty() { String::new() } else { ui.table(&table) };
    text.push_str(&notes);
    let total = Total::of(reports);
    text.push_str(&format!(
        "{}: {}, {}, {} unusual\n",
        count(reports.len() as u64, "file"),
        count(total.pickles, "pickle"),
        match total.globals {
            1 => "1 class or function".to_owned(),
            globals => format!("{globals} classes and functions"),
        },
        total.unusual,
    ));
    text
}

fn to_json(path: &str, report: &ScanReport) -> Value {
    let globals = report.globals.iter().map(|global| {
        json!({
            "member": global.member,
            "offset": global.offset,
            "opcode": global.opcode,
            "module": global.module,
            "name": global.name,
            "imports": global.imports,
            "calls": global.calls,
            "states": global.states,
            "usual": global.usual,
        })
    });
    let notes = report.notes.iter().map(|note| json!({"member": note.member, "message": note.message}));
    json!({
        "path": path,
        "pickles": report.pickles,
        "unusual": report.unusual(),
        "globals": globals.collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
    })
}
