//! `shard plan` and `shard task`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_repo::{
    CommitRequest, FilesToPack, PlanOutcome, PlanState, PlannedWork, RepoError, SyncProblem, TaskReport, WorkPlan,
};

use super::commit::default_author;
use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::{count, human};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Share work among machines: a numbered list of tasks in the repository, which `shard task` does one by one, on whatever machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show how far plans are: as without any of these
    Ls,
    /// Plan to store files in one commit
    Pack(Pack),
    /// Plan to prove files of a revision
    Verify(Verify),
    /// Make the commit of a plan whose tasks are done, or say what is wrong with files that were proven, and delete the plan. Tasks that are
    /// missing are listed (exit code 1), and nothing is changed
    Finish {
        /// The plan; the only one without a name
        #[arg(value_name = "PLAN")]
        plan: Option<String>,
    },
    /// Give up a plan
    Drop {
        /// The plan
        #[arg(value_name = "PLAN")]
        plan: String,
    },
}

#[derive(Debug, clap::Args)]
struct Pack {
    /// The name of the plan
    #[arg(value_name = "PLAN")]
    plan: String,
    /// Files and folders, relative to the root; all that is below it without any
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where the files are; workers may have them elsewhere
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// The folder in the repository
    #[arg(long, value_name = "PATH")]
    into: Option<String>,
    /// Files of a task: later ones are stored as deltas against earlier ones
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    per_task: u32,
    /// The branch to commit to; the default branch without one
    #[arg(short, long, value_name = "BRANCH")]
    revision: Option<String>,
    /// What the commit says
    #[arg(short, long, value_name = "TEXT")]
    message: String,
    /// Who; SHARD_AUTHOR without it
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// When, RFC 3339 in UTC; now without it
    #[arg(long, value_name = "TIME")]
    created_at: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The name of the plan
    #[arg(value_name = "PLAN")]
    plan: String,
    /// The revision
    #[arg(value_name = "REV", default_value = "HEAD")]
    revision: String,
    /// Files of a task
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    per_task: u32,
}

/// Do one task of a plan, unless it is done: again and by several at once does no harm
#[derive(Debug, clap::Args)]
pub(crate) struct TaskArgs {
    /// The plan; the only one without a name
    #[arg(value_name = "PLAN")]
    plan: Option<String>,
    /// The task: its number, from 0 on
    #[arg(short, long, value_name = "N")]
    index: u64,
    /// Where the files of the plan are here; where they were when it was made without it
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The plan is this remote's: fetch it, and push the task when it is done. A lazy clone is enough
    #[arg(long, value_name = "REMOTE")]
    remote: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    match &args.action {
        None | Some(Action::Ls) => list(context),
        Some(Action::Pack(pack)) => {
            let files = FilesToPack {
                root: pack.root.clone(),
                paths: pack.paths.clone(),
                into: pack.into.clone(),
                commit: CommitRequest {
                    message: pack.message.clone(),
                    revision: pack.revision.clone(),
                    author: pack.author.clone().or_else(default_author),
                    created_at: pack.created_at.clone(),
                    ..CommitRequest::default()
                },
            };
            made(&context.repository()?.plan_to_pack(&pack.plan, &files, pack.per_task as usize)?, context)
        }
        Some(Action::Verify(verify)) => {
            let repository = context.repository()?;
            made(&repository.plan_to_verify(&verify.plan, &verify.revision, verify.per_task as usize)?, context)
        }
        Some(Action::Finish { plan }) => {
            let progress = context.ui.progress();
            finished(&context.repository()?.finish_plan(plan.as_deref(), progress.as_ref())?, context)
        }
        Some(Action::Drop { plan }) => {
            context.repository()?.drop_plan(plan)?;
            let text = format!("Gave up {}\n", visible(plan));
            context.ui.outcome(&json!({"plan": plan}), &text, false)?;
            Ok(code::DONE)
        }
    }
}

pub(crate) fn task(args: &TaskArgs, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let progress = context.ui.progress();
    let (plan, root) = (args.plan.as_deref(), args.root.as_deref());
    let report = match &args.remote {
        None => repository.do_task(plan, args.index, root, progress.as_ref())?,
        Some(remote) => {
            let (name, url) = repository.remote(Some(remote))?;
            let name = name.ok_or_else(|| Failure::from(RepoError::from(SyncProblem::UnknownRemote(url.clone()))))?;
            let there = shard_remote::other(&repository, &url)?;
            repository.do_task_of((&name, there.as_ref()), plan, args.index, root, progress.as_ref())?
        }
    };
    let TaskReport { plan, index, was_done, files, bytes, problems } = &report;
    let json = json!({
        "plan": plan,
        "index": index,
        "was_done": was_done,
        "files": files,
        "bytes": bytes,
        "problems": problems.iter().map(|(path, why)| json!({"path": path, "why": why})).collect::<Vec<_>>(),
    });
    let mut text = match was_done {
        true => format!("Task {index} of {} is done already\n", visible(plan)),
        false => format!("Task {index} of {}: {}, {}\n", visible(plan), count(*files, "file"), human(*bytes)),
    };
    for (path, why) in problems {
        text.push_str(&format!("  {}: {}\n", visible(path), visible(why)));
    }
    context.ui.outcome(&json, &text, false)?;
    Ok(code::DONE)
}

/// A plan, for JSON.
fn to_json(plan: &WorkPlan) -> Value {
    let files = plan.tasks.iter().flatten();
    json!({
        "plan": plan.name,
        "work": plan.work.as_str(),
        "tasks": plan.tasks.len(),
        "files": files.clone().count(),
        "bytes": files.map(|file| file.size).sum::<u64>(),
    })
}

fn made(plan: &WorkPlan, context: &Context) -> Result<u8, Failure> {
    let (tasks, files) = (plan.tasks.len() as u64, plan.tasks.iter().flatten());
    let (number, bytes) = (files.clone().count() as u64, files.map(|file| file.size).sum());
    let name = visible(&plan.name);
    let text = format!(
        "{name}: {} for {}, {}\nDo each with `shard task {name} --index N`, N from 0 to {}, and then `shard plan finish {name}`\n",
        count(tasks, "task"),
        count(number, "file"),
        human(bytes),
        tasks.saturating_sub(1),
    );
    context.ui.outcome(&to_json(plan), &text, false)?;
    Ok(code::DONE)
}

fn state_json(state: &PlanState) -> Value {
    let mut json = to_json(&state.plan);
    (json["done"], json["missing"]) = (state.done.len().into(), state.missing().into());
    json
}

fn list(context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let states =
        repository.plans()?.iter().map(|name| repository.plan_state(Some(name))).collect::<Result<Vec<_>, _>>()?;
    if context.ui.json {
        context.ui.print_json(&json!({"plans": states.iter().map(state_json).collect::<Vec<_>>()}))?;
        return Ok(code::DONE);
    }
    if states.is_empty() {
        context.ui.inform("There are no plans\n")?;
        return Ok(code::DONE);
    }
    let mut table = Table::new(&["plan", "work", "done", "missing"]);
    for state in &states {
        let done = format!("{} of {}", state.done.len(), state.plan.tasks.len());
        let name = Cell::new(&state.plan.name, Style::Green);
        table.row(vec![name, state.plan.work.as_str().into(), done.into(), ranges(&state.missing()).into()]);
    }
    context.ui.print(&context.ui.table(&table))?;
    Ok(code::DONE)
}

fn finished(outcome: &PlanOutcome, context: &Context) -> Result<u8, Failure> {
    let missing = outcome.state.missing();
    let PlanState { plan, .. } = &outcome.state;
    let name = visible(&plan.name);
    if context.ui.json {
        let mut json = state_json(&outcome.state);
        json["commit"] = json!(outcome.commit.map(|commit| commit.to_hex()));
        json["problems"] = outcome
            .problems
            .iter()
            .map(|problem| json!({"task": problem.task, "path": problem.path, "why": problem.why}))
            .collect();
        context.ui.print_json(&json)?;
    } else if !missing.is_empty() {
        context.ui.print(&format!(
            "{} of {name} missing: {}\n",
            count(missing.len() as u64, "task"),
            ranges(&missing)
        ))?;
    } else if let (Some(commit), PlannedWork::Pack { commit: request, .. }) = (outcome.commit, &plan.work) {
        let branch = context.ui.paint(request.revision.as_deref().unwrap_or_default(), Style::Green);
        let title = request.message.lines().next().unwrap_or_default();
        context.ui.inform(&format!(
            "[{branch} {}] {}\n",
            context.ui.paint(&commit.short(), Style::Cyan),
            visible(title)
        ))?;
    } else {
        let mut text = String::new();
        for problem in &outcome.problems {
            text.push_str(&format!("{}: {}\n", visible(&problem.path), visible(&problem.why)));
        }
        if text.is_empty() {
            text = format!("{} proven\n", count(plan.tasks.iter().flatten().count() as u64, "file"));
        }
        context.ui.print(&text)?;
    }
    let is_done = missing.is_empty() && outcome.problems.is_empty();
    Ok(if is_done { code::DONE } else { code::DIFFERENT })
}

/// Numbers in order as SLURM takes them for an array: `0,3-7`.
fn ranges(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_short() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 3, 4, 5, 7, 8]), "0,3-5,7-8");
    }
}
