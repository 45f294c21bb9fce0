//! `shard fetch`

use shard_repo::FetchOptions;

use crate::Context;
use crate::error::{Failure, code};
use crate::report::exchange::{to_json, to_text};

/// Bring another repository's branches here, as remote branches such as origin/main, with what they lead to and is not here yet
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The remote, or an address; origin by default, or the only one there is
    #[arg(value_name = "REMOTE")]
    remote: Option<String>,
    /// Only these branches of it
    #[arg(value_name = "BRANCH")]
    branches: Vec<String>,
    /// Delete remote branches that are not over there any more
    #[arg(short, long)]
    prune: bool,
    /// Leave tags where they are
    #[arg(long)]
    no_tags: bool,
    /// Show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let (name, url) = repository.remote(args.remote.as_deref())?;
    let there = shard_remote::other(&repository, &url)?;
    let options = FetchOptions {
        branches: args.branches.clone(),
        prune: args.prune,
        no_tags: args.no_tags,
        lazy: false,
        dry_run: args.dry_run,
    };
    let report = repository.fetch(name.as_deref(), there.as_ref(), &options, context.ui.progress().as_ref())?;
    let text = to_text(&report, ["received", &format!("from {url}")], args.dry_run, &context.ui);
    context.ui.outcome(&to_json(&report, args.dry_run), &text, args.dry_run)?;
    Ok(code::DONE)
}
