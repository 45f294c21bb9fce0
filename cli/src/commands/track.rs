//! `shard track`

use serde_json::json;

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::text::visible;

/// Beside Git: keep files that match patterns in shard, and let Git have pointers to them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Patterns as in .gitignore, such as '*.safetensors' or models/; without any, those that there are are listed
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Write the pointers to files of the last commit that are missing or name other files
    #[arg(long)]
    refresh: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    let is_listing = args.patterns.is_empty() && !args.refresh;
    let written = if is_listing { Vec::new() } else { repository.track(&args.patterns)?.written };
    let patterns = repository.track_patterns()?;
    if context.ui.json {
        context.ui.print_json(&json!({"patterns": patterns, "written": written}))?;
        return Ok(code::DONE);
    }
    let mut text: String = patterns.iter().map(|pattern| format!("{}\n", visible(pattern))).collect();
    if !written.is_empty() {
        text.push_str(&format!("{} written: `git add` them\n", count(written.len() as u64, "pointer")));
    }
    context.ui.print(&text)?;
    Ok(code::DONE)
}
