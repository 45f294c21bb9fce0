//! `shard clone`

use std::path::{Path, PathBuf};

use serde_json::json;
use shard_repo::{CloneOptions, Repository};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::exchange::{to_json, to_text};
use crate::report::text::visible;

/// Make a repository with all that another one has, which becomes its remote origin
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The address of the other one: its folder, file:// and the whole path of it, http:// or https://, s3://, gs:// or az://
    #[arg(value_name = "URL")]
    url: String,
    /// The folder to make; by default one of the same name here
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Without a work tree, with the branches of the other one
    #[arg(long)]
    bare: bool,
    /// Check out this branch, in place of the other one's default
    #[arg(short, long, value_name = "NAME")]
    branch: Option<String>,
    /// Check nothing out
    #[arg(long)]
    no_checkout: bool,
    /// Leave the blocks of files over there until they are read: only what is checked out comes at once
    #[arg(long)]
    lazy: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let there = shard_remote::peer(&args.url, context.settings)?;
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => name_of(&there.url()).ok_or_else(|| {
            Failure::new(code::USAGE, "the address does not say how the folder is to be called")
                .next("name it: `shard clone URL DIR`")
        })?,
    };
    let options =
        CloneOptions { bare: args.bare, branch: args.branch.clone(), no_checkout: args.no_checkout, lazy: args.lazy };
    let progress = context.ui.progress();
    let (made, report) = Repository::clone_from(there.as_ref(), &folder, &options, context.settings, progress.as_ref())
        .map_err(|error| Failure::or_lost(error, "name another folder: `shard clone URL DIR`"))?;
    if context.ui.json {
        let mut json = to_json(&report, false);
        json["root"] = json!(made.root().display().to_string());
        json["branch"] = json!(made.head()?.branch);
        json["bare"] = json!(made.is_bare());
        json["lazy"] = json!(made.is_partial());
        context.ui.print_json(&json)?;
    } else {
        let place = made.root().display().to_string();
        let text = match report.entries {
            0 => String::new(),
            _ => to_text(&report, ["received", &format!("from {}", visible(&report.url))], false, &context.ui),
        };
        context.ui.inform(&format!("{text}Cloned into {}\n", visible(&place)))?;
    }
    Ok(code::DONE)
}

/// What a clone of the repository at an address is called.
fn name_of(url: &str) -> Option<PathBuf> {
    let path = url.split_once("://").map_or(url, |(_, rest)| match rest.split_once('/') {
        Some((_, path)) => path,
        // A bucket has a name like a folder's.
        None if shard_remote::is_bucket(url) => rest,
        None => "",
    });
    let name = Path::new(path).file_name()?.to_str()?;
    let name = name.strip_suffix(".shard").filter(|name| !name.is_empty()).unwrap_or(name);
    Some(name.into())
}
