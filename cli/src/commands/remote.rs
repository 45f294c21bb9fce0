//! `shard remote` and `shard connect`

use std::io::{BufRead as _, IsTerminal as _};

use serde_json::json;
use shard_remote::{Credentials, HttpPeer, Secret};
use shard_repo::{DEFAULT_REMOTE, Peer as _, Place, RepoError, Repository, SyncProblem};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::size::count;
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// List, add, move, check or remove other repositories, to push to and fetch from
///
/// Credentials of buckets come from where the stores' own tools look for them. S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
/// AWS_REGION, AWS_ENDPOINT_URL for other stores than AWS; the profile AWS_PROFILE of ~/.aws/credentials and ~/.aws/config; what the
/// machine is given in the cloud. Google: GOOGLE_APPLICATION_CREDENTIALS, or those of `gcloud auth application-default login`. Azure:
/// AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY.
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
    /// Give a name to the repository at an address: its folder, file:// and the whole path of it, http:// or https://, or a bucket's
    /// s3://, gs:// or az://
    Add {
        /// The name; the first one is best called origin
        #[arg(value_name = "NAME")]
        name: String,
        /// The address
        #[arg(value_name = "URL")]
        url: String,
    },
    /// Try whether a bucket can have many writers: whether the store gives each name once, however many race for it, and does all else
    /// that a repository needs. What is tried is in a folder of its own, and gone afterwards
    Check {
        /// The remote, or the address of a bucket, which need not have a repository; origin by default
        #[arg(value_name = "REMOTE")]
        remote: Option<String>,
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
    /// Keep a token for a server, in a file of yours that nobody else may read; it is read from stdin
    Login {
        /// The remote, or an address: it is for all addresses that begin with it; origin by default
        #[arg(value_name = "REMOTE")]
        remote: Option<String>,
        /// Send it even where whoever is in between can read it
        #[arg(long)]
        over_http: bool,
    },
    /// Forget the token of a server
    Logout {
        /// The remote, or the address; origin by default
        #[arg(value_name = "REMOTE")]
        remote: Option<String>,
    },
}

/// Push to and fetch from this repository from now on: it becomes the remote origin
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Its address: a folder, file:// and the whole path of one, http:// or https://, s3://, gs:// or az://
    #[arg(value_name = "URL")]
    url: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    match &args.action {
        Some(Action::Check { remote }) => return check(remote.as_deref(), context),
        Some(Action::Login { remote, over_http }) => return login(remote.as_deref(), *over_http, context),
        Some(Action::Logout { remote }) => return logout(remote.as_deref(), context),
        _ => {}
    }
    let repository = context.repository()?;
    match &args.action {
        Some(Action::Check { .. } | Action::Login { .. } | Action::Logout { .. }) => {}
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

/// The address of a server: one that is given, or that of a remote.
fn server(given: Option<&str>, context: &Context) -> Result<String, Failure> {
    let url = match given {
        Some(given) if given.contains("://") => given.to_owned(),
        given => context.repository()?.remote(given)?.1,
    };
    match Place::of(&url)? {
        Place::Server => Ok(url),
        Place::Folder(_) => {
            let why = "is a folder, which asks for no token";
            Err(RepoError::from(SyncProblem::Url { url, why }).into())
        }
        Place::Bucket => {
            let why = "is in a bucket, whose credentials are not kept here: `shard help remote` lists where they are looked for";
            Err(RepoError::from(SyncProblem::Url { url, why }).into())
        }
    }
}

fn login(remote: Option<&str>, over_http: bool, context: &Context) -> Result<u8, Failure> {
    let url = server(remote, context)?;
    let path = Credentials::path()?;
    let mut all = Credentials::read(&path)?;
    let token = Secret::new(&read_token()?)?;
    all.set(&url, token.clone(), over_http)?;
    // Whether it is one is better found out now; of a whole server there is nothing to ask for.
    match HttpPeer::new(&url, Some(&token))?.welcome() {
        Ok(_) | Err(RepoError::Sync(SyncProblem::Refused { .. })) => {}
        Err(error) => return Err(error.into()),
    }
    all.write(&path)?;
    if context.ui.json {
        context.ui.print_json(&json!({"url": url}))?;
    } else {
        context.ui.inform(&format!("From now on a token is sent to {url}: {} has it\n", path.display()))?;
    }
    Ok(code::DONE)
}

fn logout(remote: Option<&str>, context: &Context) -> Result<u8, Failure> {
    let url = server(remote, context)?;
    let path = Credentials::path()?;
    let mut all = Credentials::read(&path)?;
    if !all.remove(&url)? {
        return Err(Failure::new(code::NOT_FOUND, format!("there is no token for {url}"))
            .next("`shard remote login` keeps one, for addresses that begin with the one that it was given"));
    }
    all.write(&path)?;
    if context.ui.json {
        context.ui.print_json(&json!({"url": url}))?;
    } else {
        context.ui.inform(&format!("No token is sent to {url} any more\n"))?;
    }
    Ok(code::DONE)
}

/// The token, which is not shown while it is typed.
fn read_token() -> Result<String, Failure> {
    let system = |error: std::io::Error| Failure::new(code::SYSTEM, "the token cannot be read").because(error);
    if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str("Token: ").map_err(system)?;
        return terminal.read_secure_line().map_err(system);
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(system)?;
    Ok(line)
}

pub(crate) fn connect(args: &ConnectArgs, context: &Context) -> Result<u8, Failure> {
    let repository = context.repository()?;
    // One that is not there is better found out now.
    shard_remote::other(&repository, &args.url)?.welcome()?;
    let url = match repository.add_remote(DEFAULT_REMOTE, &args.url) {
        Err(RepoError::Sync(SyncProblem::RemoteExists(_))) => repository.set_remote_url(DEFAULT_REMOTE, &args.url)?,
        url => url?,
    };
    told(DEFAULT_REMOTE, &url, context)?;
    Ok(code::DONE)
}

fn check(remote: Option<&str>, context: &Context) -> Result<u8, Failure> {
    let url = match remote.or(context.away.as_deref()) {
        Some(url) if shard_remote::is_bucket(url) => url.to_owned(),
        remote => context.repository()?.remote(remote)?.1,
    };
    if !shard_remote::is_bucket(&url) {
        return Err(Failure::new(code::USAGE, format!("{url} is in no bucket"))
            .next("folders are safe for many writers, and a server sees to it itself: there is nothing to check"));
    }
    let started = std::time::Instant::now();
    let (is_safe, why) = match shard_remote::check_bucket(&url) {
        Ok(_) => (true, None),
        Err(RepoError::Sync(SyncProblem::ManyWriters { why, .. })) => (false, Some(why)),
        Err(error) => return Err(error.into()),
    };
    if context.ui.json {
        context.ui.print_json(&json!({"url": url, "many_writers": is_safe, "failed": why}))?;
    } else {
        let took = started.elapsed().as_secs_f64();
        let text = match &why {
            None => format!("{url}: many writers are safe, and all else that a repository needs works ({took:.1} s)\n"),
            Some(why) => format!(
                "{url}: many writers are NOT safe: the store does not keep to this: {why}\n\
                 No repository can be made there; `shard serve` can keep it in a folder instead\n"
            ),
        };
        context.ui.print(&text)?;
    }
    Ok(if is_safe { code::DONE } else { code::DIFFERENT })
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
