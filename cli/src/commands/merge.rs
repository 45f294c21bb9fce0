//! `shard merge`

use serde_json::{Value, json};
use shard_core::Digest;
use shard_history::{MergeRecord, MergeStatus, RuleError, Rules, Scope};
use shard_repo::{
    CheckoutOptions, ContinueOptions, FastForward, MergeConflict, MergeOptions, MergeReport, Repository, SideChange,
    TensorConflict, TensorsMerged,
};

use super::commit::default_author;
use crate::Context;
use crate::error::{Failure, code};
use crate::report::changes::change_table;
use crate::report::json::{change_stats, file_change};
use crate::report::size::{count, percent, significant};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Tensors of a file in conflict that are listed; JSON has all.
const LISTED: usize = 20;

/// Merge another commit's changes into a branch: files, and the tensors inside model files
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to merge
    #[arg(value_name = "SOURCE", required_unless_present_any = ["go_on", "abort"], conflicts_with_all = ["go_on", "abort"])]
    source: Option<String>,
    /// The branch to merge into, by default what is checked out. Another one is merged into without a work tree
    #[arg(long, visible_alias = "target", value_name = "BRANCH", conflicts_with_all = ["go_on", "abort"])]
    into: Option<String>,
    /// The message of the commit; given again, a further paragraph
    #[arg(short, long, value_name = "TEXT", conflicts_with = "abort")]
    message: Vec<String>,
    /// Text after the title and an empty line
    #[arg(long, value_name = "TEXT", requires = "message", conflicts_with = "abort")]
    description: Option<String>,
    /// Who made it; by default what SHARD_AUTHOR says, or nobody
    #[arg(long, value_name = "NAME", conflicts_with = "abort")]
    author: Option<String>,
    /// What decides where both sides changed a tensor, or with ours and theirs a file: ours, theirs, average, task=A,B
    #[arg(long, value_name = "STRATEGY", conflicts_with = "abort")]
    strategy: Option<String>,
    /// A strategy for the tensors whose names match; may be given again, and the first that matches decides
    #[arg(long = "rule", value_name = "GLOB=STRATEGY", conflicts_with = "abort")]
    rules: Vec<String>,
    /// What strategies decide about: the tensors that both sides changed (conflicts), or all that any side changed
    #[arg(long, value_name = "SCOPE", value_parser = ["conflicts", "changes"], default_value = "conflicts", hide_default_value = true)]
    scope: String,
    /// Stage the result, and leave the commit to `shard merge --continue`
    #[arg(long, conflicts_with_all = ["go_on", "abort", "into"])]
    no_commit: bool,
    /// Make a commit of two parents even where the branch would only have to move
    #[arg(long, conflicts_with_all = ["go_on", "abort", "ff_only"])]
    no_ff: bool,
    /// Do nothing unless the branch only has to move
    #[arg(long, conflicts_with_all = ["go_on", "abort"])]
    ff_only: bool,
    /// Merge histories that have no commit in common
    #[arg(long, conflicts_with_all = ["go_on", "abort"])]
    allow_unrelated: bool,
    /// Do nothing unless the branch is at this revision
    #[arg(long, value_name = "REV", conflicts_with_all = ["go_on", "abort"])]
    expect: Option<String>,
    /// Commit the merge that is under way, its conflicts decided
    #[arg(long = "continue", conflicts_with = "abort")]
    go_on: bool,
    /// Give up the merge that is under way
    #[arg(long)]
    abort: bool,
    /// With --abort: lose changes that were not staged, in files that the merge changed
    #[arg(short, long, requires = "abort", conflicts_with_all = ["source", "go_on"])]
    force: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let progress = context.ui.progress();
    if args.abort {
        let options = CheckoutOptions { force: args.force };
        let head = repository.head()?;
        let state = repository.abort_merge(options, progress.as_ref()).map_err(|error| {
            Failure::or_lost(error, "move them elsewhere, and give it up then; --force loses the changes")
        })?;
        if context.ui.json {
            context.ui.print_json(&json!({"aborted": state.theirs.to_hex(), "head": state.ours.to_hex()}))?;
        } else {
            let [theirs, ours] = [state.theirs, state.ours].map(|id| context.ui.paint(&id.short(), Style::Cyan));
            let is_here = head.commit == Some(state.ours) && head.branch == state.target;
            let what = match is_here {
                true => format!("Gave up merging {theirs}: back at {ours}\n"),
                false => format!(
                    "Gave up merging {theirs}: {ours}, where it began, is not checked out, so nothing else changed\n"
                ),
            };
            context.ui.inform(&what)?;
        }
        return Ok(code::DONE);
    }
    let rules = rules(args)?;
    let message = message_of(args);
    let author = args.author.clone().or_else(default_author);
    let report = if args.go_on {
        let rules = (!rules.as_slice().is_empty()).then_some(rules);
        let options = ContinueOptions { message, author, rules };
        repository.continue_merge(&options, progress.as_ref()).map_err(|error| {
            Failure::or_lost(error, "move them elsewhere, and go on then; `shard merge --abort` gives up")
        })?
    } else {
        let fast_forward = match (args.no_ff, args.ff_only) {
            (true, _) => FastForward::Never,
            (_, true) => FastForward::Only,
            _ => FastForward::Allow,
        };
        let options = MergeOptions {
            into: args.into.clone(),
            message,
            author,
            rules,
            fast_forward,
            no_commit: args.no_commit,
            allow_unrelated: args.allow_unrelated,
            expected: args.expect.as_deref().map(|expected| repository.resolve(expected)).transpose()?,
        };
        let source = args.source.as_deref().unwrap_or("HEAD");
        repository.merge(source, &options, progress.as_ref()).map_err(|error| {
            Failure::or_lost(error, "commit them (`shard add`, `shard commit`) or move them away, and merge then")
        })?
    };
    if args.into.is_none() && !repository.is_bare() {
        write_pointers(&repository, &report)?;
    }
    if context.ui.json {
        context.ui.print_json(&to_json(&report, args.source.as_deref()))?;
    } else if report.status == MergeStatus::Conflict {
        context.ui.print(&conflict_text(&report, context))?;
    } else {
        context.ui.inform(&to_text(&report, &repository, context)?)?;
    }
    Ok(if report.status == MergeStatus::Conflict { code::DIFFERENT } else { code::DONE })
}

/// Writes pointers as after any commit; the merge is made, whatever becomes of what Git is given.
pub(super) fn write_pointers(repository: &Repository, report: &MergeReport) -> Result<(), Failure> {
    let Some(commit) = report.commit else { return Ok(()) };
    repository.write_pointers(false).map(drop).map_err(|error| {
        let failure =
            Failure::from(error).because(format!("the commit {commit} was made; its pointers were not written"));
        failure.next("once the cause is gone, `shard track --refresh` writes them")
    })
}

/// The message of the commit, the description after it.
fn message_of(args: &Args) -> Option<String> {
    let message = (!args.message.is_empty()).then(|| args.message.join("\n\n"))?;
    let description = args.description.as_deref().map(str::trim_end).filter(|text| !text.is_empty());
    Some(match description {
        // A description does not stand for a title.
        Some(description) if !message.trim().is_empty() => format!("{}\n\n{description}", message.trim_end()),
        _ => message,
    })
}

/// The rules of the command line, the strategy for everything last.
fn rules(args: &Args) -> Result<Rules, Failure> {
    let wrong = |error: RuleError| {
        Failure::new(code::USAGE, error.to_string())
            .next("--rule takes GLOB=STRATEGY, as in 'encoder.*=theirs', '*.bias=average' or 'lm_head.*=task:0.7,0.3'")
    };
    if let Some(strategy) = &args.strategy {
        strategy.parse::<shard_history::merge::strategy::Strategy>().map_err(|error| {
            Failure::new(code::USAGE, error.to_string())
                .next("--strategy takes ours, theirs, average or task:0.7,0.3; a rule for some tensors is --rule GLOB=STRATEGY")
        })?;
    }
    let scope = if args.scope == Scope::Changes.as_str() { Scope::Changes } else { Scope::Conflicts };
    Rules::parse(args.rules.iter().chain(&args.strategy).map(String::as_str), scope).map_err(wrong)
}

/// What decided, in words; nothing where there were no rules.
pub(crate) fn rules_text(record: &MergeRecord) -> String {
    let rules: Vec<String> = record.rules.as_slice().iter().map(ToString::to_string).collect();
    if rules.is_empty() {
        return String::new();
    }
    let of = if record.rules.scope == Scope::Changes { " of all changes" } else { "" };
    format!("{}{of} (arithmetic {})", rules.join(" "), record.arithmetic)
}

/// What was merged, for people.
pub(super) fn to_text(report: &MergeReport, repository: &Repository, context: &Context) -> Result<String, Failure> {
    let ui = &context.ui;
    let target = ui.paint(report.target.as_deref().unwrap_or("HEAD"), Style::Green);
    let short = |id: Digest| ui.paint(&id.short(), Style::Cyan);
    let title = |id: Digest| Ok::<_, Failure>(ui.paint(repository.read_commit(id)?.title(), Style::Plain));
    let mut text = match (report.status, report.commit) {
        (MergeStatus::AlreadyUpToDate, _) => format!("{target} has {} already\n", short(report.source)),
        (MergeStatus::FastForward, _) => {
            format!("{target} moved on to {} {}\n", short(report.source), title(report.source)?)
        }
        (_, Some(commit)) => format!("[{target} {}] {}\n", short(commit), title(commit)?),
        (_, None) => format!("Merged {}, and staged it: `shard merge --continue` commits it\n", short(report.source)),
    };
    text.push_str(&ui.table(&change_table(&report.changes)));
    for model in &report.models {
        text.push_str(&format!("  {}: {}\n", visible(&model.path), tensors_text(&model.tensors)));
    }
    for (path, side) in &report.taken {
        text.push_str(&format!("  {}: both sides changed it, taken from {}\n", visible(path), side.as_str()));
    }
    if !report.other_bases.is_empty() {
        let base = report.base.map(short).unwrap_or_default();
        let others = count(report.other_bases.len() as u64, "other common ancestor");
        text.push_str(&format!("  {others} would have been as good as {base}, the newest\n"));
    }
    Ok(text)
}

fn tensors_text(tensors: &TensorsMerged) -> String {
    let TensorsMerged { same, ours, theirs, computed, removed } = *tensors;
    let parts = [
        (ours, "from ours"),
        (theirs, "from theirs"),
        (computed, "computed"),
        (removed, "left out"),
        (same, "unchanged"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> = parts.map(|(number, what)| format!("{number} {what}")).collect();
    format!("tensors: {}", parts.join(", "))
}

/// Why nothing was merged, for people.
pub(super) fn conflict_text(report: &MergeReport, context: &Context) -> String {
    let ui = &context.ui;
    let target = ui.paint(report.target.as_deref().unwrap_or("HEAD"), Style::Green);
    let files = count(report.conflicts.len() as u64, "conflict");
    let mut text = format!("{}, so {target} stays where it is\n", ui.paint(&files, Style::Red));
    for conflict in &report.conflicts {
        let related = conflict.related_path.as_ref().map(|path| format!(" ({})", visible(path))).unwrap_or_default();
        let kind = ui.paint(conflict.kind.as_str(), Style::Red);
        text.push_str(&format!("\n{kind}  {}{related}: {}\n", visible(&conflict.path), visible(&message(conflict))));
        let mut table = Table::new(&["  tensor", "", "ours", "theirs"]);
        for tensor in conflict.tensors.iter().take(LISTED) {
            let name = match &tensor.renamed_to {
                Some(now) => format!("  {} -> {now}", tensor.name),
                None => format!("  {}", tensor.name),
            };
            let [ours, theirs] = [&tensor.ours, &tensor.theirs].map(|change| Cell::from(change_text(change)));
            table.row(vec![name.into(), Cell::new(tensor.kind.as_str(), Style::Red), ours, theirs]);
        }
        if !table.is_empty() {
            text.push_str(&ui.table(&table));
        }
        if conflict.tensors.len() > LISTED {
            text.push_str(&format!("  and {} more: --json lists all\n", conflict.tensors.len() - LISTED));
        }
    }
    text.push_str(&match (report.is_waiting, &report.target) {
        (true, _) => "\nDecide with `shard checkout --ours PATH`, `--theirs PATH` or `shard add PATH`, or by --strategy and --rule; then\n\
             `shard merge --continue`. `shard merge --abort` gives it up\n"
            .to_owned(),
        (false, Some(target)) => format!(
            "\nDecide by --strategy and --rule, or `shard checkout {}` and merge there\n",
            visible(target)
        ),
        (false, None) => String::new(),
    });
    text
}

/// What kind of conflict it is, in a sentence.
fn message(conflict: &MergeConflict) -> String {
    use shard_history::ConflictKind as Kind;
    if let Some(why) = &conflict.why {
        return why.clone();
    }
    let words = match conflict.kind {
        _ if !conflict.tensors.is_empty() => {
            return format!("both sides changed {}", count(conflict.tensors.len() as u64, "tensor"));
        }
        Kind::AddAdd => "both sides added it",
        Kind::DeleteModify if conflict.entries.ours.is_none() => "deleted by ours, changed by theirs",
        Kind::DeleteModify => "changed by ours, deleted by theirs",
        Kind::ModifyModify => "both sides changed it",
        Kind::Mode => "what kind of file it is differs",
        Kind::FileDirectory => "a file on one side, a directory on the other",
        Kind::CaseFold => "not to be told from the other where case, or how characters are composed, does not count",
    };
    words.to_owned()
}

/// What a side made of a tensor: `value 12.3% relative 0.00123`.
fn change_text(change: &SideChange) -> String {
    let mut text = change.state.as_str().to_owned();
    if let Some(stats) = &change.stats {
        text.push_str(&format!(" {} changed", percent(stats.changed_share())));
        if let Some(relative) = stats.relative {
            text.push_str(&format!(", relative {}", significant(relative)));
        }
        if stats.lost > 0 {
            text.push_str(&format!(", {} not finite", stats.lost));
        }
    }
    text
}

/// For programs: `source` is what was merged, as it was named.
pub(super) fn to_json(report: &MergeReport, source: Option<&str>) -> Value {
    let hex = |id: Option<Digest>| id.map(|id| id.to_hex());
    let models = report.models.iter().map(|model| {
        let TensorsMerged { same, ours, theirs, computed, removed } = model.tensors;
        json!({
            "path": model.path,
            "tensors": {"same": same, "ours": ours, "theirs": theirs, "computed": computed, "removed": removed},
        })
    });
    json!({
        "status": report.status.as_str(),
        "target_revision": report.target,
        "source_revision": source,
        "base_commit": hex(report.base),
        "other_bases": report.other_bases.iter().map(Digest::to_hex).collect::<Vec<_>>(),
        "target_head_before": hex(report.from),
        "source_head": report.source.to_hex(),
        "head_after": hex(report.to),
        "commit": hex(report.commit),
        "fast_forward": report.status == MergeStatus::FastForward,
        "created_commit": report.commit.is_some(),
        "waiting": report.is_waiting,
        "conflicts": report.conflicts.iter().map(conflict_json).collect::<Vec<_>>(),
        "models": models.collect::<Vec<_>>(),
        "taken": report.taken.iter().map(|(path, side)| json!({"path": path, "side": side.as_str()})).collect::<Vec<_>>(),
        "changes": report.changes.iter().map(file_change).collect::<Vec<_>>(),
        "stored": {"new_blocks": report.cost.new_blocks, "new_bytes": report.cost.new_bytes, "deltas": report.cost.deltas},
    })
}

fn conflict_json(conflict: &MergeConflict) -> Value {
    let oid = |entry: &Option<shard_history::FileEntry>| entry.map(|entry| entry.sha256.to_hex());
    let side =
        |change: &SideChange| json!({"state": change.state.as_str(), "stats": change.stats.as_ref().map(change_stats)});
    let tensor = |tensor: &TensorConflict| {
        json!({
            "name": tensor.name,
            "conflict_type": tensor.kind.as_str(),
            "why": tensor.why,
            "ours": side(&tensor.ours),
            "theirs": side(&tensor.theirs),
            "renamed_to": tensor.renamed_to,
        })
    };
    json!({
        "path": conflict.path,
        "conflict_type": conflict.kind.as_str(),
        "message": message(conflict),
        "base_oid": oid(&conflict.entries.base),
        "target_oid": oid(&conflict.entries.ours),
        "source_oid": oid(&conflict.entries.theirs),
        "related_path": conflict.related_path,
        "tensors": conflict.tensors.iter().map(tensor).collect::<Vec<_>>(),
    })
}
