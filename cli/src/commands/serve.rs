//! `shard serve`

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::json;
use shard_remote::{
    AccessOptions, AllRules, Log, LogFormat, Scope, ServeConfig, Served, Server, ServerOptions, TlsOptions, TokenFile,
};

use crate::Context;
use crate::error::{Failure, code};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::visible;

/// Serve repositories over HTTP: push, fetch and clone at http://ADDRESS/NAME
///
/// Without tokens only programs on this machine are answered. `shard serve token new` makes them; docs/operations.md has the rest.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The folder whose repositories are served, each by its name in it, or s3://BUCKET/PREFIX, gs:// or az://; by default the current
    /// folder
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Serve the repository of the folder itself, at http://ADDRESS
    #[arg(long)]
    local: bool,
    /// Where to listen, by default 127.0.0.1:8460; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Settings, as docs/operations.md has them; options of the command line come before them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The file of tokens: who has one may do what it says
    #[arg(long, value_name = "FILE", conflicts_with = "insecure_open")]
    tokens: Option<PathBuf>,
    /// Ask for no tokens: whoever reaches the address may read, overwrite and delete everything
    #[arg(long)]
    insecure_open: bool,
    /// Speak TLS, with this certificate and those between it and the authority, in PEM; SIGHUP has it read again
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How requests are logged to stderr: by default for people where that is a terminal, else one JSON object a line
    #[arg(long, value_name = "FORMAT", value_enum)]
    log: Option<LogChoice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogChoice {
    Json,
    Text,
    Off,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make, list and take back tokens: the file has their hashes alone, and a server notices when it changes
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    #[command(subcommand)]
    action: TokenAction,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The file of tokens
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Settings that name it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum TokenAction {
    /// Make a token, and print it: it cannot be had again
    New {
        /// What logs and lists call it
        #[arg(value_name = "NAME")]
        name: String,
        /// What it may do: append moves branches forward and makes new ones, write also forces and deletes, admin also collects and protects
        #[arg(long, value_enum, value_name = "SCOPE")]
        scope: ScopeChoice,
        /// Repositories that it is for: NAME, TEAM/NAME, TEAM/* or *
        #[arg(long = "repository", value_name = "NAME", required = true)]
        repositories: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// List tokens, with what they may
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        place: Place,
    },
    /// Take tokens back
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScopeChoice {
    Read,
    Append,
    Write,
    Admin,
}

impl From<ScopeChoice> for Scope {
    fn from(choice: ScopeChoice) -> Self {
        match choice {
            ScopeChoice::Read => Self::Read,
            ScopeChoice::Append => Self::Append,
            ScopeChoice::Write => Self::Write,
            ScopeChoice::Admin => Self::Admin,
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<u8, Failure> {
    if let Some(Action::Token(token)) = &args.action {
        return tokens(&token.action, context);
    }
    let config = args.config.as_deref().map(ServeConfig::read).transpose()?.unwrap_or_default();
    let current = || context.away.clone().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let folder = args.folder.clone().or_else(|| config.folder.clone()).unwrap_or_else(current);
    let system = |doing, error: &std::io::Error| Failure::io(&folder, doing, error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| system("cannot start to serve", &error))?;
    let listen = args.listen.or(config.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8460)));
    let options = options(args, config, folder.clone(), context)?;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    runtime.block_on(async {
        // Before anybody is told that it can be stopped.
        let (stop, reload) = (stop(), reload());
        let server = Server::bind(listen, options).await?;
        let address = server.address().map_err(|error| system("cannot tell where it listens", &error))?;
        if context.ui.json {
            context.ui.print_json(&json!({"address": address.to_string(), "url": format!("{scheme}://{address}")}))?;
        } else {
            let name = if args.local { "" } else { "/NAME" };
            let shown = visible(&folder.to_string_lossy()).into_owned();
            context.ui.print(&format!("Serving {shown} at {scheme}://{address}{name}\n"))?;
        }
        server.run(stop, reload).await;
        Ok(code::DONE)
    })
}

/// What the command line says, and where it says nothing, the settings.
fn options(args: &Args, config: ServeConfig, folder: PathBuf, context: &Context) -> Result<ServerOptions, Failure> {
    let served = if args.local { Served::One(folder) } else { Served::All(folder) };
    let access = match args.tokens.clone().or(config.tokens) {
        _ if args.insecure_open => AccessOptions::Everybody,
        Some(tokens) => AccessOptions::Tokens(tokens),
        None => AccessOptions::ThisMachine,
    };
    let cert = args.tls_cert.clone().or(config.tls_cert);
    let tls = match (cert, args.tls_key.clone().or(config.tls_key)) {
        (Some(cert), Some(key)) => Some(TlsOptions { cert, key }),
        (None, None) => None,
        _ => {
            let what = "a certificate takes a key, and a key a certificate";
            return Err(Failure::new(code::USAGE, what).next("set tls_cert and tls_key, or neither"));
        }
    };
    let log = match (args.log, config.log.as_deref()) {
        (Some(LogChoice::Json), _) | (None, Some("json")) => LogFormat::Json,
        (Some(LogChoice::Text), _) | (None, Some("text")) => LogFormat::Text,
        (Some(LogChoice::Off), _) | (None, Some("off")) => LogFormat::Off,
        (None, None) if std::io::stderr().is_terminal() => LogFormat::Text,
        (None, None) => LogFormat::Json,
        (None, Some(_)) => {
            return Err(Failure::new(code::USAGE, "the setting log is none").next("it is json, text or off"));
        }
    };
    Ok(ServerOptions {
        access,
        open_metrics: config.open_metrics,
        limits: config.limits,
        rules: AllRules { defaults: config.defaults, some: config.repositories },
        tls,
        log: Log::stderr(log),
        ..ServerOptions::new(served, context.settings)
    })
}

fn tokens(action: &TokenAction, context: &Context) -> Result<u8, Failure> {
    match action {
        TokenAction::New { name, scope, repositories, place } => {
            let path = place.find()?;
            let mut file = TokenFile::read_or_new(&path)?;
            let token = file.add(name, (*scope).into(), repositories.clone())?;
            file.write(&path)?;
            if context.ui.json {
                context.ui.print_json(&json!({"name": name, "token": token}))?;
            } else {
                context.ui.print(&format!("{token}\n"))?;
                context.ui.note(&["this token is shown once: its hash alone is kept".to_owned()]);
            }
        }
        TokenAction::Ls { place } => list(&TokenFile::read(&place.find()?)?, context)?,
        TokenAction::Rm { names, place } => {
            let path = place.find()?;
            let mut file = TokenFile::read(&path)?;
            for name in names {
                file.remove(name)?;
            }
            file.write(&path)?;
            if context.ui.json {
                context.ui.print_json(&json!({"removed": names}))?;
            } else {
                context.ui.inform(&format!("Took back {}\n", names.join(", ")))?;
            }
        }
    }
    Ok(code::DONE)
}

impl Place {
    fn find(&self) -> Result<PathBuf, Failure> {
        if let Some(tokens) = &self.tokens {
            return Ok(tokens.clone());
        }
        let config = self.config.as_deref().map(ServeConfig::read).transpose()?.unwrap_or_default();
        let none = || {
            Failure::new(code::USAGE, "the settings name no file of tokens").next("set tokens, or give --tokens FILE")
        };
        config.tokens.ok_or_else(none)
    }
}

fn list(file: &TokenFile, context: &Context) -> Result<(), Failure> {
    if context.ui.json {
        let tokens = file.tokens.iter().map(|token| {
            json!({"name": token.name, "scope": token.scope, "repositories": token.repositories, "created": token.created})
        });
        return context.ui.print_json(&json!({"tokens": tokens.collect::<Vec<_>>()}));
    }
    let mut table = Table::new(&["", "", "", ""]);
    for token in &file.tokens {
        table.row(vec![
            Cell::new(token.name.clone(), Style::Green),
            token.scope.as_str().into(),
            visible(&token.repositories.join(" ")).into_owned().into(),
            token.created.clone().unwrap_or_default().into(),
        ]);
    }
    context.ui.print(&context.ui.table(&table))
}

/// Over when the process is told to stop.
fn stop() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let signals = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::terminate()).ok(), signal(SignalKind::interrupt()).ok())
    };
    async move {
        #[cfg(unix)]
        {
            if let (Some(mut terminate), Some(mut interrupt)) = signals {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                return;
            }
        }
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Is told whenever the process gets SIGHUP.
fn reload() -> Arc<tokio::sync::Notify> {
    let told = Arc::new(tokio::sync::Notify::new());
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut hangup) = signal(SignalKind::hangup()) {
            let tell = Arc::clone(&told);
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    tell.notify_one();
                }
            });
        }
    }
    told
}
