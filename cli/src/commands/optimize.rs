//! `shard optimize`

use serde_json::json;
use shard_repo::{OptimizeOptions, OptimizePlan, OptimizeReport};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human, percent};
use crate::report::style::Style;

/// Encode what is stored again, at --level and on the best bases that are known now, and put small packs together
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what there is to do
    #[arg(long)]
    dry_run: bool,
    /// Go on where an earlier run at the same level was interrupted
    #[arg(long)]
    resume: bool,
    /// Stop after files of about so many bytes; --resume goes on
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    at_most: Option<u64>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let (repository, ui) = (context.repository()?, &context.ui);
    let options = OptimizeOptions { resume: args.resume, at_most: args.at_most };
    if args.dry_run {
        let plan = repository.plan_optimize(options)?;
        match ui.json {
            true => ui.print_json(&plan_json(&plan))?,
            false => ui.print(&plan_text(&plan))?,
        }
        return Ok(code::DONE);
    }
    let progress = ui.progress();
    let report = repository.optimize(options, progress.as_ref())?;
    drop(progress);
    match ui.json {
        true => ui.print_json(&report_json(&report))?,
        false => ui.inform(&report_text(&report, context))?,
    }
    Ok(code::DONE)
}

fn plan_text(plan: &OptimizePlan) -> String {
    let (files, blocks) = (count(plan.files, "file"), count(plan.blocks, "block"));
    let mut text = format!(
        "{files} with {blocks} of {} would be encoded again; they take {} now\n",
        human(plan.raw_bytes),
        human(plan.bytes_before)
    );
    if plan.done > 0 {
        text.push_str(&format!("  {} were done before the last run was interrupted\n", plan.done));
    }
    if plan.small_packs > 0 {
        let packs = count(plan.small_packs, "small pack");
        text.push_str(&format!("  {packs} with {} would be put together\n", human(plan.small_bytes)));
    }
    text
}

fn report_text(report: &OptimizeReport, context: &Context) -> String {
    let ui = &context.ui;
    let saved = report.bytes_before.saturating_sub(report.bytes_after);
    let share = percent(saved as f64 / report.bytes_before.max(1) as f64);
    let mut text = format!(
        "{} of {} encoded anew: {} instead of {}, {} less\n",
        count(report.recoded, "block"),
        report.blocks,
        ui.paint(&human(report.bytes_after), Style::Green),
        human(report.bytes_before),
        share
    );
    if report.repacked > 0 {
        text.push_str(&format!("  entries copied out of small packs: {}\n", report.repacked));
    }
    if report.stopped {
        text.push_str("  stopped as asked: `shard optimize --resume` goes on from here\n");
    } else if report.recoded + report.repacked > 0 {
        text.push_str("  the old copies are still there: a collection removes them\n");
    }
    text
}

fn plan_json(plan: &OptimizePlan) -> serde_json::Value {
    json!({
        "dry_run": true,
        "files": plan.files,
        "done": plan.done,
        "blocks": plan.blocks,
        "raw_bytes": plan.raw_bytes,
        "bytes_before": plan.bytes_before,
        "small_packs": plan.small_packs,
        "small_bytes": plan.small_bytes,
    })
}

fn report_json(report: &OptimizeReport) -> serde_json::Value {
    json!({
        "dry_run": false,
        "files": report.files,
        "done": report.done,
        "blocks": report.blocks,
        "recoded": report.recoded,
        "repacked": report.repacked,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "stopped": report.stopped,
    })
}
