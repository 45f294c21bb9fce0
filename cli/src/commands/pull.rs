//! `shard pull`

use std::path::PathBuf;

use serde_json::{Value, json};
use shard_history::MergeStatus;
use shard_repo::{FastForward, FetchOptions, MergeOptions, Peer, RepoError, Repository, SyncProblem};

use super::blame::glob;
use super::commit::default_author;
use super::merge;
use crate::Context;
use crate::error::{Failure, code};
use crate::report::exchange;
use crate::report::size::count;
use crate::report::style::Style;

/// Fetch from another repository, and merge its branch into the one that is checked out
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The remote; origin by default, or the only one there is
    #[arg(value_name = "REMOTE")]
    remote: Option<String>,
    /// The branch of it; by default the one with the name of that which is checked out
    #[arg(value_name = "BRANCH")]
    branch: Option<String>,
    /// Do nothing unless the branch only has to move
    #[arg(long)]
    ff_only: bool,
    /// Make a commit of two parents even where the branch would only have to move
    #[arg(long, conflicts_with = "ff_only")]
    no_ff: bool,
    /// Merge histories that have no commit in common
    #[arg(long)]
    allow_unrelated: bool,
    /// Do not merge: bring only these files or folders, and put them into the work tree. All other blocks stay over there until they are
    /// read, from now on
    #[arg(long = "path", value_name = "PATH", conflicts_with_all = ["ff_only", "no_ff", "allow_unrelated"])]
    paths: Vec<PathBuf>,
    /// The same with the blocks of tensors whose names match, of all files or of those at PATH; the work tree stays as it is
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["ff_only", "no_ff", "allow_unrelated"])]
    tensor: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let (name, url) = repository.remote(args.remote.as_deref())?;
    let name = name.ok_or_else(|| {
        Failure::from(RepoError::from(SyncProblem::UnknownRemote(url.clone())))
            .next("a pull is from a remote: `shard remote add NAME URL` makes one, `shard fetch URL BRANCH` needs none")
    })?;
    let there = shard_remote::other(&repository, &url)?;
    if !args.paths.is_empty() || args.tensor.is_some() {
        return pull_part(args, context, repository, &name, there.as_ref());
    }
    let options = MergeOptions {
        author: default_author(),
        fast_forward: match (args.no_ff, args.ff_only) {
            (true, _) => FastForward::Never,
            (_, true) => FastForward::Only,
            _ => FastForward::Allow,
        },
        allow_unrelated: args.allow_unrelated,
        ..MergeOptions::default()
    };
    let progress = context.ui.progress();
    let pulled = repository
        .pull((&name, args.branch.as_deref()), there.as_ref(), &options, progress.as_ref())
        .map_err(|error| {
            Failure::or_lost(
                error,
                "what was fetched stays: commit them (`shard add`, `shard commit`) or move them away, and pull then",
            )
        })?;
    if let Some(merged) = &pulled.merged {
        merge::write_pointers(&repository, merged)?;
    }
    if context.ui.json {
        let mut json = exchange::to_json(&pulled.fetched, false);
        json["source"] = pulled.source.as_str().into();
        json["merge"] =
            pulled.merged.as_ref().map_or(Value::Null, |merged| merge::to_json(merged, Some(&pulled.source)));
        context.ui.print_json(&json)?;
    } else {
        let mut text = match pulled.fetched.entries {
            0 => String::new(),
            _ => exchange::to_text(&pulled.fetched, ["received", &format!("from {url}")], false, &context.ui),
        };
        match &pulled.merged {
            Some(merged) if merged.status == MergeStatus::Conflict => {
                text.push_str(&merge::conflict_text(merged, context));
                context.ui.print(&text)?;
            }
            Some(merged) => {
                text.push_str(&merge::to_text(merged, &repository, context)?);
                context.ui.inform(&text)?;
            }
            None => {
                let source = context.ui.paint(&pulled.source, Style::Green);
                context.ui.inform(&format!("{text}Checked out what {source} has\n"))?;
            }
        }
    }
    let is_conflict = pulled.merged.is_some_and(|merged| merged.status == MergeStatus::Conflict);
    Ok(if is_conflict { code::DIFFERENT } else { code::DONE })
}

/// Brings some files or tensors, and leaves everything else.
fn pull_part(
    args: &Args,
    context: &Context,
    mut repository: Repository,
    remote: &str,
    there: &dyn Peer,
) -> Result<u8, Failure> {
    let branch = match &args.branch {
        Some(branch) => branch.clone(),
        None => repository.head()?.branch.ok_or_else(|| Failure::from(RepoError::from(SyncProblem::WhichBranch)))?,
    };
    let pattern = args.tensor.as_deref().map(glob).transpose()?;
    let progress = context.ui.progress();
    repository.leave_blocks_with(remote)?;
    let options = FetchOptions { branches: vec![branch.clone()], lazy: true, ..FetchOptions::default() };
    let fetched = repository.fetch(Some(remote), there, &options, progress.as_ref())?;
    let source = format!("{remote}/{branch}");
    let brought = repository.bring(&source, &args.paths, pattern.as_ref())?;
    let written = match &pattern {
        None => repository.checkout_paths(&source, &args.paths, progress.as_ref())?.written.len(),
        Some(_) => 0,
    };
    let mut json = exchange::to_json(&fetched, false);
    json["source"] = source.as_str().into();
    json["brought"] = json!({"files": brought.files, "tensors": brought.tensors, "blocks": brought.blocks});
    json["written"] = written.into();
    let text = match &pattern {
        None => format!("Brought {} of {source}: {}\n", count(brought.blocks, "block"), count(brought.files, "file")),
        Some(_) => {
            format!("Brought {} of {source}: {}\n", count(brought.blocks, "block"), count(brought.tensors, "tensor"))
        }
    };
    context.ui.outcome(&json, &text, false)?;
    Ok(code::DONE)
}
