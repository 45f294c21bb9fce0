//! `shard init`

use std::path::{Path, PathBuf};

use serde_json::json;
use shard_core::limits::Cut;
use shard_history::git::LARGE_FILE_THRESHOLD;
use shard_repo::{DEFAULT_BRANCH, Repository};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::text::visible;

/// Make a repository, in a folder that may have files already
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; made where it is not there. With --bare also s3://BUCKET/PREFIX, gs:// or az://: the store is tried first, whether
    /// many can write to it
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Name of the first branch
    #[arg(short = 'b', long, value_name = "NAME", default_value = DEFAULT_BRANCH)]
    initial_branch: String,
    /// Make the folder itself the repository, without a work tree; it must be empty
    #[arg(long)]
    bare: bool,
    /// From which size on, in bytes, files are pointers of Git LFS in the Git ids of commits
    #[arg(long, value_name = "BYTES", default_value_t = LARGE_FILE_THRESHOLD)]
    large_file_threshold: u64,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    shard_history::validate_ref_name(&args.initial_branch).map_err(|error| {
        Failure::new(code::USAGE, error.to_string()).next("names of branches follow the rules of Git, as in `main`")
    })?;
    let url = context.away.as_deref().filter(|_| args.directory == Path::new(".")).or(args.directory.to_str());
    let repository = match url.filter(|url| shard_remote::is_away(url)) {
        Some(url) if !shard_remote::is_bucket(url) => {
            return Err(Failure::new(code::USAGE, format!("no repository is made behind a server: {}", visible(url)))
                .next(
                    "`shard init --bare` makes one in the folder that is served, or `shard clone` has what is there",
                ));
        }
        Some(url) if args.bare => shard_remote::init_bucket(url, &args.initial_branch, context.settings)?,
        Some(url) => {
            return Err(Failure::new(code::USAGE, "a repository in a bucket has no work tree")
                .next(format!("`shard init --bare {url}` makes one")));
        }
        None => {
            let init = if args.bare { Repository::init_bare } else { Repository::init };
            init(&args.directory, &args.initial_branch, Cut::V1, context.settings)?
        }
    };
    repository.set_large_file_threshold(args.large_file_threshold)?;
    if context.ui.json {
        context.ui.print_json(&json!({
            "root": repository.root().display().to_string(),
            "repository": repository.dir().display().to_string(),
            "branch": args.initial_branch,
            "bare": repository.is_bare(),
        }))?;
    } else {
        let kind = if args.bare { "bare shard repository" } else { "shard repository" };
        let place = repository.dir().display().to_string();
        context.ui.inform(&format!("Made an empty {kind} in {}\n", visible(&place)))?;
    }
    Ok(code::DONE)
}
