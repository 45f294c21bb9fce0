//! `shard forget`

use std::str::FromStr;

use serde_json::{Value, json};
use shard_history::retention::{Best, Period, Retention};
use shard_repo::{ForgetOptions, ForgetReport};

use super::squash::{blocking_json, blocking_text};
use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// Thin out a branch: commits that no rule keeps go. The last commit always stays, and files of those that stay are as they were
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The branch; the one that is checked out by default
    #[arg(value_name = "BRANCH")]
    branch: Option<String>,
    /// Keep the last N commits
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: usize,
    /// Keep the last commit of each of the last N hours that have any
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_hourly: usize,
    /// The same of days, by UTC
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_daily: usize,
    /// The same of weeks, from Monday on
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_weekly: usize,
    /// The same of months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_monthly: usize,
    /// The same of years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_yearly: usize,
    /// Keep commits that have a tag
    #[arg(long)]
    keep_tagged: bool,
    /// Keep the N commits with the highest METRIC: a number in the run records (metrics, hyperparameters, step, epoch) or the commit
    #[arg(long, value_name = "N:METRIC")]
    keep_highest: Vec<Metric>,
    /// Keep the N commits with the lowest METRIC
    #[arg(long, value_name = "N:METRIC")]
    keep_lowest: Vec<Metric>,
    /// Show what would stay, and why
    #[arg(long)]
    dry_run: bool,
}

/// How many commits are kept by which number.
#[derive(Debug, Clone)]
struct Metric {
    count: usize,
    name: String,
}

impl FromStr for Metric {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, name) = text.split_once(':').ok_or("expected N:METRIC, such as 3:accuracy")?;
        let count = count.parse().map_err(|_| "expected a number before the colon")?;
        if name.is_empty() { Err("expected a name after the colon") } else { Ok(Self { count, name: name.to_owned() }) }
    }
}

impl Args {
    fn rules(&self) -> Retention {
        let periods = [
            (Period::Hour, self.keep_hourly),
            (Period::Day, self.keep_daily),
            (Period::Week, self.keep_weekly),
            (Period::Month, self.keep_monthly),
            (Period::Year, self.keep_yearly),
        ];
        let best =
            |lowest: bool| move |Metric { count, name }: &Metric| Best { metric: name.clone(), count: *count, lowest };
        Retention {
            last: self.keep_last,
            periods: periods.into_iter().filter(|(_, count)| *count > 0).collect(),
            tagged: self.keep_tagged,
            best: self.keep_highest.iter().map(best(false)).chain(self.keep_lowest.iter().map(best(true))).collect(),
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let options = ForgetOptions { branch: args.branch.clone(), rules: args.rules() };
    if options.rules.is_empty() {
        return Err(Failure::new(code::USAGE, "no rule says what stays")
            .next("such as `shard forget --keep-last 10 --keep-daily 7 --keep-tagged --dry-run`"));
    }
    let plan = repository.plan_forget(&options)?;
    let (json, text) = (to_json(&plan.report, args.dry_run), to_text(&plan.report, args.dry_run, context));
    if !args.dry_run {
        repository.forget(plan)?;
    }
    context.ui.outcome(&json, &text, args.dry_run)?;
    Ok(code::DONE)
}

fn to_text(report: &ForgetReport, is_dry: bool, context: &Context) -> String {
    let ui = &context.ui;
    let mut text = String::new();
    if is_dry {
        let mut table = Table::new(&["", "commit", "time", "title", "why"]);
        for commit in &report.commits {
            let (mark, style) = if commit.new_id.is_some() { ("keep", Style::Green) } else { ("drop", Style::Red) };
            let why: Vec<String> = commit.reasons.iter().map(ToString::to_string).collect();
            table.row(vec![
                Cell::new(mark, style),
                Cell::new(commit.id.short(), Style::Cyan),
                Cell::new(&commit.created_at, Style::Plain),
                Cell::new(&commit.title, Style::Plain),
                Cell::new(why.join(", "), Style::Dim),
            ]);
        }
        text.push_str(&ui.table(&table));
    }
    let name = ui.paint(report.ref_name.trim_start_matches("heads/"), Style::Green);
    let dropped = report.dropped();
    let (kept, dropped_text) = (report.commits.len() - dropped, count(dropped as u64, "commit"));
    if dropped == 0 {
        text.push_str(&format!("{name} keeps all of its commits\n"));
        return text;
    }
    let head = ui.paint(&report.new_head.short(), Style::Cyan);
    let verb = if is_dry { "would keep" } else { "keeps" };
    text.push_str(&format!("{name} {verb} {kept} of {} commits, and ends at {head}: ", report.commits.len()));
    text.push_str(&format!("{dropped_text} dropped\n{}", blocking_text(&report.blocking_refs, context)));
    text
}

fn to_json(report: &ForgetReport, is_dry: bool) -> Value {
    let commits = report.commits.iter().map(|commit| {
        json!({
            "id": commit.id.to_hex(),
            "new_id": commit.new_id.map(|id| id.to_hex()),
            "created_at": commit.created_at,
            "title": commit.title,
            "keep": commit.new_id.is_some(),
            "reasons": commit.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    json!({
        "ref_name": report.ref_name,
        "old_head": report.old_head.to_hex(),
        "new_head": report.new_head.to_hex(),
        "kept": report.commits.len() - report.dropped(),
        "dropped": report.dropped(),
        "commits": commits.collect::<Vec<_>>(),
        "blocking_refs": blocking_json(&report.blocking_refs),
        "dry_run": is_dry,
    })
}
