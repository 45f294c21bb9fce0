//! `shard squash`

use serde_json::{Value, json};
use shard_repo::{BlockingRef, RepoError, SquashOptions, SquashReport};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;

/// Make one commit of a branch's history; its files stay byte for byte
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The branch; the one that is checked out by default
    #[arg(value_name = "BRANCH")]
    branch: Option<String>,
    /// The same
    #[arg(short = 'r', long = "ref", value_name = "REF", conflicts_with = "branch")]
    reference: Option<String>,
    /// Keep the commits from this one on, which becomes the first
    #[arg(long, value_name = "REV")]
    root: Option<String>,
    /// The message of the first commit; its own by default
    #[arg(short, long = "message", value_name = "TEXT")]
    message: Vec<String>,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let options = SquashOptions {
        branch: args.branch.clone().or_else(|| args.reference.clone()),
        root: args.root.clone(),
        message: (!args.message.is_empty()).then(|| args.message.join("\n\n")),
    };
    let plan = repository.plan_squash(&options).map_err(|error| match error {
        RepoError::NothingToDo(_) => Failure::from(error).next("nothing needs to be done"),
        error => error.into(),
    })?;
    let (json, text) = (to_json(&plan.report, args.dry_run), to_text(&plan.report, args.dry_run, context));
    if !args.dry_run {
        repository.squash(plan)?;
    }
    context.ui.outcome(&json, &text, args.dry_run)?;
    Ok(code::DONE)
}

fn to_text(report: &SquashReport, is_dry: bool, context: &Context) -> String {
    let ui = &context.ui;
    let name = ui.paint(report.ref_name.trim_start_matches("heads/"), Style::Green);
    let (old, new) = (ui.paint(&report.old_head.short(), Style::Cyan), ui.paint(&report.new_head.short(), Style::Cyan));
    let (kept, dropped) =
        (count(report.rewritten_commit_count as u64, "commit"), count(report.dropped_ancestor_count as u64, "commit"));
    let verb = if is_dry { "would have" } else { "has" };
    let mut text = format!("{name} {verb} {kept} at {new} in place of {old}: {dropped} dropped, files as they were\n");
    text.push_str(&blocking_text(&report.blocking_refs, context));
    text
}

/// What keeps old commits alive, for people.
pub(super) fn blocking_text(blocking: &[BlockingRef], context: &Context) -> String {
    let names = |is_log: bool| {
        let those = blocking.iter().filter(|by| by.is_log == is_log).map(|by| by.name.trim_start_matches("heads/"));
        let names: Vec<String> = those.map(|name| context.ui.paint(name, Style::Yellow)).collect();
        names.join(", ")
    };
    let (refs, logs) = (names(false), names(true));
    let mut text = String::new();
    if !refs.is_empty() {
        text.push_str(&format!("  the old commits are also on: {refs}\n"));
    }
    if !logs.is_empty() {
        text.push_str(&format!("  the old commits stay in the reflog of: {logs}\n"));
    }
    text
}

/// The same for programs.
pub(super) fn blocking_json(blocking: &[BlockingRef]) -> Value {
    let kind = |by: &BlockingRef| if by.is_log { "reflog" } else { "ref" };
    blocking.iter().map(|by| json!({"name": by.name, "kind": kind(by)})).collect()
}

fn to_json(report: &SquashReport, is_dry: bool) -> Value {
    json!({
        "ref_name": report.ref_name,
        "old_head": report.old_head.to_hex(),
        "new_head": report.new_head.to_hex(),
        "root_commit_before": report.root_commit_before.to_hex(),
        "rewritten_commit_count": report.rewritten_commit_count,
        "dropped_ancestor_count": report.dropped_ancestor_count,
        "blocking_refs": blocking_json(&report.blocking_refs),
        "dry_run": is_dry,
    })
}
