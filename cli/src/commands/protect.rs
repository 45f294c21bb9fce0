//! `shard protect`

use serde_json::json;
use shard_repo::Protection;

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::text::visible;

/// Protect branches and tags: they cannot be deleted, moved back, squashed or thinned
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A branch, or a pattern of branches, or with tags/ in front of tags; without one the protections are listed
    #[arg(value_name = "GLOB")]
    pattern: Option<String>,
    /// List what is protected
    #[arg(long, conflicts_with = "pattern")]
    list: bool,
    /// Lift a protection: GLOB as it is listed
    #[arg(long, requires = "pattern")]
    remove: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let (repository, ui) = (context.repository()?, &context.ui);
    match &args.pattern {
        Some(pattern) if args.remove => {
            let pattern = repository.unprotect(pattern)?;
            match ui.json {
                true => ui.print_json(&json!({"removed": pattern}))?,
                false => ui.inform(&format!("{} is not protected any more\n", ui.paint(&pattern, Style::Green)))?,
            }
        }
        Some(pattern) => {
            let (rule, is_new) = repository.protect(pattern)?;
            if ui.json {
                ui.print_json(&json!({"pattern": rule.pattern, "matches": rule.matches, "new": is_new}))?;
            } else {
                let word = if is_new { "is protected" } else { "was protected already" };
                ui.inform(&format!("{} {word}{}\n", ui.paint(&rule.pattern, Style::Green), told(&rule)))?;
            }
        }
        None => {
            let rules = repository.protections()?;
            if ui.json {
                let rules = rules.iter().map(|rule| json!({"pattern": rule.pattern, "matches": rule.matches}));
                ui.print_json(&json!({"protections": rules.collect::<Vec<_>>()}))?;
            } else {
                let line = |rule: &Protection| format!("{}{}\n", ui.paint(&rule.pattern, Style::Green), told(rule));
                ui.print(&rules.iter().map(line).collect::<String>())?;
            }
        }
    }
    Ok(code::DONE)
}

/// What a rule protects, where that is not what it says.
fn told(rule: &Protection) -> String {
    match rule.matches.as_slice() {
        [only] if *only == rule.pattern => String::new(),
        [] => ": nothing yet".to_owned(),
        all => format!(": {}", visible(&all.join(", "))),
    }
}
