//! `shard push`

use shard_repo::PushOptions;

use crate::Context;
use crate::error::{Failure, code};
use crate::report::exchange::{to_json, to_text};

/// Send branches and tags to another repository, with what they lead to and it lacks: all of them move there, or none
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The remote, or an address; origin by default, or the only one there is
    #[arg(value_name = "REMOTE")]
    remote: Option<String>,
    /// Branches and tags; HERE:THERE has another name there, :THERE deletes it, +HERE may lose commits. By default the branch that is
    /// checked out
    #[arg(value_name = "REF")]
    refs: Vec<String>,
    /// All branches
    #[arg(long)]
    all: bool,
    /// All tags
    #[arg(long)]
    tags: bool,
    /// Also where a branch over there loses commits, or a tag names something else then
    #[arg(short, long)]
    force: bool,
    /// Show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let (name, url) = repository.remote(args.remote.as_deref())?;
    let there = shard_remote::other(&repository, &url)?;
    let options = PushOptions {
        specs: args.refs.clone(),
        all: args.all,
        tags: args.tags,
        force: args.force,
        dry_run: args.dry_run,
    };
    let report = repository.push(name.as_deref(), there.as_ref(), &options, context.ui.progress().as_ref())?;
    let text = to_text(&report, ["sent", &format!("to {url}")], args.dry_run, &context.ui);
    context.ui.outcome(&to_json(&report, args.dry_run), &text, args.dry_run)?;
    Ok(code::DONE)
}
