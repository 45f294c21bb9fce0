//! `shard init`

use std::path::PathBuf;

use serde_json::json;
use shard_core::limits::Cut;
use shard_repo::{DEFAULT_BRANCH, Repository};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::text::visible;

/// Make a repository, in a folder that may have files already
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; made where it is not there
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Name of the first branch
    #[arg(short = 'b', long, value_name = "NAME", default_value = DEFAULT_BRANCH)]
    initial_branch: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    shard_history::validate_ref_name(&args.initial_branch).map_err(|error| {
        Failure::new(code::USAGE, error.to_string()).next("names of branches follow the rules of Git, as in `main`")
    })?;
    let repository = Repository::init(&args.directory, &args.initial_branch, Cut::V1, context.settings)?;
    if context.ui.json {
        context.ui.print_json(&json!({
            "root": repository.root().display().to_string(),
            "repository": repository.dir().display().to_string(),
            "branch": args.initial_branch,
        }))?;
    } else {
        let place = repository.dir().display().to_string();
        context.ui.inform(&format!("Made an empty shard repository in {}\n", visible(&place)))?;
    }
    Ok(code::DONE)
}
