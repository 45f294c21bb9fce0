//! `shard untrack`

use serde_json::json;

use crate::Context;
use crate::error::{Failure, code};

/// Beside Git: take patterns of `shard track` back. Files, commits and pointers stay as they are
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Patterns, as `shard track` lists them
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    repository.untrack(&args.patterns)?;
    if context.ui.json {
        context.ui.print_json(&json!({"patterns": repository.track_patterns()?}))?;
    } else {
        context.ui.inform("Git sees these files again; `git rm` removes their pointers\n")?;
    }
    Ok(code::DONE)
}
