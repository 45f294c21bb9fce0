//! `shard remote` and `shard connect`

use serde_json::json;
use shard_repo::{DEFAULT_REMOTE, Repository, SyncProblem};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// List, add, move or remove other repositories, to push to and fetch from
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the remotes and their addresses: as without any of these
    #[command(visible_alias = "list")]
    Ls,
    /// Give a name to the repository at an address: its folder, file:// and the whole path of it, http:// or https://
    Add {
        /// The name; the first one is best called origin
        #[arg(value_name = "NAME")]
        name: String,
        /// The address
        #[arg(value_name = "URL")]
        url: String,
    },
    /// Forget remotes, and where their branches were
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Give another address to a remote
    SetUrl {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// The address
        #[arg(value_name = "URL")]
        url: String,
    },
}

/// Push to and fetch from this repository from now on: it becomes the remote origin
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Its address: a folder, file:// and the whole path of one, http:// or https://
    #[arg(value_name = "URL")]
    url: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    match &args.action {
        None | Some(Action::Ls) => list(&repository, context)?,
        Some(Action::Add { name, url }) => {
            let url = repository.add_remote(name, url)?;
            told(name, &url, context)?;
        }
        Some(Action::SetUrl { name, url }) => {
            let url = repository.set_remote_url(name, url)?;
            told(name, &url, context)?;
        }
        Some(Action::Rm { names }) => {
            let mut removed = Vec::new();
            for name in names {
                removed.push((name, repository.remove_remote(name)?));
            }
            if context.ui.json {
                let removed = removed.iter().map(|(name, branches)| json!({"name": name, "branches": branches}));
                context.ui.print_json(&json!({"removed": removed.collect::<Vec<_>>()}))?;
            } else {
                for (name, branches) in removed {
                    let branches = count(branches as u64, "remote branch");
                    let name = context.ui.paint(name, Style::Green);
                    context.ui.inform(&format!("Removed {name}, and {branches}\n"))?;
                }
            }
        }
    }
    Ok(code::DONE)
}

pub(crate) fn connect(args: &ConnectArgs, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    // One that is not there is better found out now.
    shard_remote::other(&repository, &args.url)?.welcome()?;
    let url = match repository.add_remote(DEFAULT_REMOTE, &args.url) {
        Err(shard_repo::RepoError::Sync(SyncProblem::RemoteExists(_))) => {
            repository.set_remote_url(DEFAULT_REMOTE, &args.url)?
        }
        url => url?,
    };
    told(DEFAULT_REMOTE, &url, context)?;
    Ok(code::DONE)
}

fn told(name: &str, url: &str, context: &Context) -> Result<(), Failure> {
    if context.ui.json {
        return context.ui.print_json(&json!({"name": name, "url": url}));
    }
    let (name, url) = (context.ui.paint(name, Style::Green), context.ui.paint(url, Style::Plain));
    context.ui.inform(&format!("{name} is {url}\n"))
}

fn list(repository: &Repository, context: &Context) -> Result<(), Failure> {
    let remotes = repository.remotes()?;
    if context.ui.json {
        let remotes = remotes.iter().map(|(name, url)| json!({"name": name, "url": url}));
        return context.ui.print_json(&json!({"remotes": remotes.collect::<Vec<_>>()}));
    }
    let mut table = Table::new(&["", ""]);
    for (name, url) in remotes {
        table.row(vec![Cell::new(name, Style::Green), url.into()]);
    }
    context.ui.print(&context.ui.table(&table))
}
