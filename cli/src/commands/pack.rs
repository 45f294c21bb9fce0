//! `shard pack`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shard_core::limits::MAX_DEPTH;
use shard_repo::{LossyBound, PackOptions, PackPlan, PackReport, PlannedChains, RepoError, pack, plan_pack};

use crate::Context;
use crate::commands::add::cost_json;
use crate::error::{Failure, code};
use crate::report::json::sizes;
use crate::report::lossy;
use crate::report::size::{count, human, percent, ratio, ratio_value};
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
    #[arg(short, long, value_name = "OUT.shard", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Replace an archive that is there
    #[arg(short, long)]
    force: bool,
    /// Let chains of bases be N long at most, 0 to 8, however long they take to decode. Without it, any version restores in
    /// about three times a keyframe's time or less
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_DEPTH)))]
    depth: Option<u32>,
    /// Pack approximations: each element of a float tensor is off by no more than BOUND times its tensor's root mean square, with
    /// BOUND above 0 and below 1, as in 1e-3. They are marked as lossy, and what they were cannot be restored
    #[arg(long, value_name = "BOUND", conflicts_with = "dry_run", allow_negative_numbers = true, value_parser = bound_of)]
    lossy: Option<LossyBound>,
    /// Write nothing; say what each file would lean on and take, by a sample, and what other depths would make
    #[arg(short = 'n', long)]
    dry_run: bool,
}

fn bound_of(text: &str) -> Result<LossyBound, String> {
    let bound = text.parse().ok().and_then(LossyBound::new);
    bound.ok_or_else(|| "it is not a number above 0 and below 1, such as 1e-3".to_owned())
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let options = PackOptions { force: args.force, depth: args.depth, lossy: args.lossy };
    let progress = context.ui.progress();
    if args.dry_run {
        let plan = plan_pack(&args.files, &options, context.settings, progress.as_ref()).map_err(explain)?;
        drop(progress);
        if context.ui.json {
            context.ui.print_json(&plan_json(&plan))?;
        } else {
            context.ui.print(&plan_text(&plan, context))?;
        }
        return Ok(code::DONE);
    }
    // clap asks for it.
    let output = args.output.as_deref().unwrap_or(Path::new(""));
    let report = pack(&args.files, output, &options, context.settings, progress.as_ref()).map_err(explain)?;
    drop(progress);
    if context.ui.json {
        context.ui.print_json(&to_json(&report, output))?;
    } else {
        context.ui.inform(&to_text(&report, output, args.lossy, context))?;
    }
    Ok(code::DONE)
}

fn explain(error: RepoError) -> Failure {
    match error {
        RepoError::WouldOverwrite { .. } => Failure::from(error).next("choose another name, or --force to replace it"),
        RepoError::NothingToDo(_) => Failure::from(error).next("name the files, in the order of the series"),
        other => other.into(),
    }
}

fn note(path: &str, note: Option<&String>) -> String {
    note.map(|note| format!("note: {} is kept as opaque bytes: {}\n", visible(path), visible(note))).unwrap_or_default()
}

fn raw_total(report: &PackReport) -> u64 {
    report.files.iter().map(|file| file.size).sum()
}

fn to_text(report: &PackReport, output: &Path, asked: Option<LossyBound>, context: &Context) -> String {
    let mut table = Table::new(&["file", ">size", ">growth", ">ratio", lossy::COLUMN]);
    let mut notes = String::new();
    for file in &report.files {
        table.row(vec![
            file.path.as_str().into(),
            human(file.size).into(),
            human(file.growth).into(),
            ratio(file.size, file.growth).into(),
            lossy::cell(file.lossy.as_ref().map(Ok)),
        ]);
        notes.push_str(&note(&file.path, file.note.as_ref()));
        if let Some(lossy) = &file.lossy {
            let rounded = count(lossy.tensors.len() as u64, "tensor");
            notes.push_str(&format!("note: {} is {lossy}; {rounded} rounded\n", visible(&file.path)));
        }
        if let Some(why) = file.exact {
            notes.push_str(&format!("note: {} is kept exactly: {why}\n", visible(&file.path)));
        }
    }
    if let Some(bound) = asked.filter(|_| report.files.iter().all(|file| file.lossy.is_none())) {
        notes.push_str(&format!(
            "note: nothing was rounded: no tensor has elements that {} allows to change; all files are exact\n",
            bound.get()
        ));
    }
    let raw = raw_total(report);
    table.row(vec![
        Cell::new("total", Style::Bold),
        human(raw).into(),
        human(report.size).into(),
        Cell::new(ratio(raw, report.size), Style::Bold),
    ]);
    let out = output.display().to_string();
    format!("{}{notes}{} made\n", context.ui.table(&table), visible(&out))
}

fn to_json(report: &PackReport, output: &Path) -> Value {
    let files = report.files.iter().map(|file| {
        let mut fields = cost_json(file.cost);
        fields["path"] = file.path.as_str().into();
        fields["size"] = file.size.into();
        fields["growth"] = file.growth.into();
        fields["ratio"] = ratio_value(file.size, file.growth).into();
        fields["note"] = file.note.as_deref().into();
        lossy::add_to(&mut fields, file.lossy.as_ref().map(Ok));
        if let Some(why) = file.exact {
            fields["exact"] = why.into();
        }
        fields
    });
    json!({
        "archive": output.display().to_string(),
        "files": files.collect::<Vec<_>>(),
        "total": sizes(raw_total(report), report.size),
    })
}

/// A time in multiples of a keyframe's.
fn times(multiple: f64) -> String {
    format!("{multiple:.1}x")
}

fn bound(chains: &PlannedChains) -> String {
    chains.depth.map_or("default".to_owned(), |depth| depth.to_string())
}

fn plan_text(plan: &PackPlan, context: &Context) -> String {
    let mut table = Table::new(&["file", ">size", "leans on", ">of it", ">depth", ">stored", ">ratio", ">restore"]);
    let mut notes = String::new();
    for file in &plan.files {
        let share = file.leaning as f64 / file.size.max(1) as f64;
        table.row(vec![
            file.path.as_str().into(),
            human(file.size).into(),
            file.base.as_deref().unwrap_or("").into(),
            file.base.as_ref().map(|_| percent(share.min(1.0))).unwrap_or_default().into(),
            file.depth.to_string().into(),
            human(file.stored).into(),
            ratio(file.size, file.stored).into(),
            times(file.restore).into(),
        ]);
        notes.push_str(&note(&file.path, file.note.as_ref()));
    }
    table.row(vec![
        Cell::new("total", Style::Bold),
        human(plan.size).into(),
        "".into(),
        "".into(),
        "".into(),
        human(plan.stored).into(),
        Cell::new(ratio(plan.size, plan.stored), Style::Bold),
    ]);
    let mut chains = Table::new(&["--depth", ">deepest", ">stored", ">ratio", ">slowest restore", ""]);
    for line in &plan.chains {
        chains.row(vec![
            bound(line).into(),
            line.deepest.to_string().into(),
            human(line.stored).into(),
            ratio(plan.size, line.stored).into(),
            times(line.slowest).into(),
            if line.chosen { "this plan" } else { "" }.into(),
        ]);
    }
    format!(
        "{}{notes}\n{}estimated from {} of {} ({}); a restore is told in multiples of what the file would take alone\n\
         nothing was written\n",
        context.ui.table(&table),
        context.ui.table(&chains),
        human(plan.sampled),
        human(plan.size),
        percent(plan.sampled as f64 / plan.size.max(1) as f64),
    )
}

fn plan_json(plan: &PackPlan) -> Value {
    let files = plan.files.iter().map(|file| {
        json!({
            "path": file.path,
            "size": file.size,
            "base": file.base,
            "leaning": file.leaning,
            "depth": file.depth,
            "stored": file.stored,
            "ratio": ratio_value(file.size, file.stored),
            "restore": file.restore,
            "note": file.note,
        })
    });
    let chains = plan.chains.iter().map(|line| {
        json!({
            "depth": line.depth,
            "deepest": line.deepest,
            "stored": line.stored,
            "ratio": ratio_value(plan.size, line.stored),
            "slowest": line.slowest,
            "chosen": line.chosen,
        })
    });
    json!({
        "dry_run": true,
        "files": files.collect::<Vec<_>>(),
        "chains": chains.collect::<Vec<_>>(),
        "sampled": plan.sampled,
        "total": sizes(plan.size, plan.stored),
    })
}
