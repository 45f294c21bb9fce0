//! `shard gc`

use std::time::Duration;

use serde_json::{Value, json};
use shard_repo::{GcOptions, GcPack, GcPlan, GcReport};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human};
use crate::report::style::Style;
use crate::report::text::visible;

/// Give back what nothing leads to any more: other commands may run meanwhile
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; say what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Also what only the logs of refs hold, every dead byte, and commits that a lost ref may have led to
    #[arg(long)]
    prune_now: bool,
    /// Earlier states of each ref that stay, with what they hold
    #[arg(long, value_name = "N", conflicts_with = "prune_now")]
    keep_reflog: Option<u64>,
    /// Write packs anew until at most so many percent of what is needed is dead in the others
    #[arg(long, value_name = "PERCENT", conflicts_with = "prune_now", value_parser = clap::value_parser!(u32).range(0..=100))]
    max_unused: Option<u32>,
    /// Also what `download` and `snapshot` made inside the repository: they make it again
    #[arg(long)]
    prune_cache: bool,
    /// How long to wait for writers that began before
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

impl Args {
    fn options(&self) -> GcOptions {
        let usual = GcOptions::default();
        let options = GcOptions {
            keep_reflog: self.keep_reflog.unwrap_or(usual.keep_reflog),
            max_unused: self.max_unused.unwrap_or(usual.max_unused),
            wait: Duration::from_secs(self.wait),
            prune_cache: self.prune_cache,
            ..usual
        };
        if self.prune_now { options.prune_now() } else { options }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let options = args.options();
    if args.dry_run {
        let plan = repository.plan_gc(&options)?;
        if context.ui.json {
            context.ui.print_json(&json!({"dry_run": true, "plan": plan_json(&plan)}))?;
        } else {
            context.ui.print(&plan_text(&plan, context))?;
        }
        return Ok(code::DONE);
    }
    let progress = context.ui.progress();
    let report = repository.gc(&options, progress.as_ref())?;
    drop(progress);
    if context.ui.json {
        context.ui.print_json(&report_json(&report))?;
    } else {
        context.ui.inform(&report_text(&report))?;
        context.ui.note(&report.notes);
    }
    Ok(code::DONE)
}

fn plan_text(plan: &GcPlan, context: &Context) -> String {
    let sum = |packs: &[GcPack]| packs.iter().map(|pack| pack.size).sum::<u64>();
    let copied: u64 = plan.rewrite.iter().map(|pack| pack.needed).sum();
    let mut text = format!(
        "{} of {} in {} are needed, {} are dead\n",
        human(plan.needed_bytes),
        human(plan.pack_bytes),
        count(plan.packs, "pack"),
        human(plan.dead_bytes)
    );
    let mut line = |what: String| text.push_str(&format!("  {what}\n"));
    if !plan.delete.is_empty() {
        line(format!("delete {} ({})", count(plan.delete.len() as u64, "pack"), human(sum(&plan.delete))));
    }
    if !plan.rewrite.is_empty() {
        let packs = count(plan.rewrite.len() as u64, "pack");
        line(format!("write anew {packs} ({}), copying {}", human(sum(&plan.rewrite)), human(copied)));
    }
    if plan.left_bytes > 0 {
        line(format!("leave {} dead in packs that are mostly needed", human(plan.left_bytes)));
    }
    if plan.states > 0 {
        line(format!("remove {} of refs", count(plan.states, "earlier state")));
    }
    if plan.index_files > 0 {
        line(format!("remove {} ({})", count(plan.index_files, "index file"), human(plan.index_bytes)));
    }
    if plan.view_files > 0 {
        line(format!("remove {} ({})", count(plan.view_files, "downloaded file"), human(plan.view_bytes)));
    }
    if plan.leftovers.files > 0 {
        line(format!("remove {} ({})", count(plan.leftovers.files, "unfinished file"), human(plan.leftovers.bytes)));
    }
    for (pack, why) in &plan.damaged {
        line(format!("leave pack {}, which is damaged: {}", pack.short(), visible(why)));
    }
    if plan.unfinished {
        line("finish a collection that was interrupted".to_owned());
    }
    let freed = context.ui.paint(&human(plan.freed_bytes), Style::Green);
    text.push_str(&format!("{freed} would be given back; nothing was written\n"));
    text
}

fn report_text(report: &GcReport) -> String {
    let mut parts = vec![format!("deleted {}", count(report.deleted_packs, "pack"))];
    if report.copied_entries > 0 {
        parts.push(format!("copied {} to new ones", human(report.copied_bytes)));
    }
    if report.states > 0 {
        parts.push(format!("removed {} of refs", count(report.states, "earlier state")));
    }
    if report.index_files > 0 {
        parts.push(format!("removed {}", count(report.index_files, "index file")));
    }
    if report.view_files > 0 {
        parts.push(format!("removed {}", count(report.view_files, "downloaded file")));
    }
    if report.leftovers.files > 0 {
        parts.push(format!("removed {}", count(report.leftovers.files, "unfinished file")));
    }
    format!("{}: {} given back\n", parts.join(", "), human(report.freed_bytes()))
}

fn packs_json(packs: &[GcPack]) -> Vec<Value> {
    packs.iter().map(|pack| json!({"pack": pack.id.to_hex(), "size": pack.size, "needed": pack.needed})).collect()
}

/// A plan as `gc --dry-run` and `du` have it.
pub(crate) fn plan_json(plan: &GcPlan) -> Value {
    let kinds = plan.kinds.iter().map(super::du::kind_json);
    let damaged = plan.damaged.iter().map(|(pack, why)| json!({"pack": pack.to_hex(), "problem": why}));
    json!({
        "refs": plan.refs,
        "packs": plan.packs,
        "pack_bytes": plan.pack_bytes,
        "needed_bytes": plan.needed_bytes,
        "dead_bytes": plan.dead_bytes,
        "delete": packs_json(&plan.delete),
        "rewrite": packs_json(&plan.rewrite),
        "left_bytes": plan.left_bytes,
        "freed_bytes": plan.freed_bytes,
        "states": plan.states,
        "kinds": kinds.collect::<Vec<_>>(),
        "stale_leases": plan.leftovers.leases,
        "unfinished_files": plan.leftovers.files,
        "unfinished_bytes": plan.leftovers.bytes,
        "index_files": plan.index_files,
        "index_bytes": plan.index_bytes,
        "view_files": plan.view_files,
        "view_bytes": plan.view_bytes,
        "unfinished_collection": plan.unfinished,
        "damaged": damaged.collect::<Vec<_>>(),
    })
}

fn report_json(report: &GcReport) -> Value {
    json!({
        "dry_run": false,
        "plan": plan_json(&report.plan),
        "deleted_packs": report.deleted_packs,
        "deleted_bytes": report.deleted_bytes,
        "copied_entries": report.copied_entries,
        "copied_bytes": report.copied_bytes,
        "states": report.states,
        "stale_leases": report.leftovers.leases,
        "unfinished_files": report.leftovers.files,
        "unfinished_bytes": report.leftovers.bytes,
        "index_files": report.index_files,
        "index_bytes": report.index_bytes,
        "view_files": report.view_files,
        "view_bytes": report.view_bytes,
        "freed_bytes": report.freed_bytes(),
        "notes": report.notes,
    })
}
