//! A server of repositories.

mod access;
mod care;
mod config;
mod fetch;
mod files;
mod listen;
mod log;
mod metrics;
mod observe;
mod plain;
mod push;
mod reply;
mod repositories;
mod routes;
mod stored;
mod tls;
mod tokens;
mod webhooks;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use shard_repo::{RepoError, Settings};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use access::AccessOptions;
pub use config::{AllRules, ConfigError, Limits, RepositoryRules, RetentionRule, ServeConfig, WebhookConfig};
pub use log::{Log, LogFormat};
pub use tls::{TlsError, TlsOptions};
pub use tokens::{Scope, Token, TokenError, TokenFile};
pub use webhooks::WebhookError;

use access::Access;
use care::Schedule;
use metrics::Metrics;
use plain::Deposits;
use push::Pushes;
use repositories::Repositories;
use tls::Tls;
use webhooks::{Hook, Webhooks};

/// How often pushes are looked for whose clients are gone.
const SWEEP: Duration = Duration::from_secs(15);
/// How often it is looked whether the file of tokens has changed.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked whether a repository is to be collected.
const TICK: Duration = Duration::from_secs(30);

/// Which repositories are served.
#[derive(Debug, Clone)]
pub enum Served {
    /// The one in this folder, or at this address of a bucket, at the server's own address.
    One(PathBuf),
    /// All below this folder, or address of a bucket, at the paths that they have in it: one name, or two with a slash between.
    All(PathBuf),
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What is served.
    pub served: Served,
    /// How repositories are used.
    pub settings: Settings,
    /// To whom.
    pub access: AccessOptions,
    /// Whether everybody may read `/metrics`.
    pub open_metrics: bool,
    /// Within which limits.
    pub limits: Limits,
    /// What holds for which repository.
    pub rules: AllRules,
    /// The certificate, where there is TLS.
    pub tls: Option<TlsOptions>,
    /// What is logged, and where.
    pub log: Log,
    /// How long is waited before a webhook is tried again, where not as usual.
    pub webhook_pauses: Option<Vec<Duration>>,
}

impl ServerOptions {
    /// The usual limits, for programs on this machine, with nothing logged.
    #[must_use]
    pub fn new(served: Served, settings: Settings) -> Self {
        Self {
            served,
            settings,
            access: AccessOptions::ThisMachine,
            open_metrics: false,
            limits: Limits::default(),
            rules: AllRules::default(),
            tls: None,
            log: Log::stderr(LogFormat::Off),
            webhook_pauses: None,
        }
    }
}

/// Why there is no server.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The repositories.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// The address.
    #[error("{address}: cannot listen there")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Others than this machine would be let in without tokens.
    #[error("{0} can be reached from elsewhere, and without tokens whoever reaches it may do everything")]
    Open(SocketAddr),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A webhook.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
}

/// What all requests share.
struct App {
    repositories: Repositories,
    access: Access,
    open_metrics: bool,
    pushes: Pushes,
    deposits: Deposits,
    webhooks: Webhooks,
    limits: Limits,
    metrics: Arc<Metrics>,
    log: Log,
    is_stopping: AtomicBool,
}

/// A server that listens already.
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    hooks: Vec<Hook>,
    app: Arc<App>,
}

impl Server {
    /// Listens at an address; port 0 is any that is free.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(address: SocketAddr, options: ServerOptions) -> Result<Self, ServerError> {
        let ServerOptions { served, settings, access, open_metrics, limits, rules, tls, log, webhook_pauses } = options;
        if access == AccessOptions::ThisMachine && !address.ip().is_loopback() {
            return Err(ServerError::Open(address));
        }
        let metrics = Arc::new(Metrics::new());
        let (webhooks, hooks) = Webhooks::new(&rules, webhook_pauses, &metrics, &log)?;
        let repositories = Repositories::new(served, settings, rules)?;
        let tls = tls.map(Tls::new).transpose()?.map(Arc::new);
        let access = Access::new(access)?;
        let listener = TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })?;
        let app = App {
            repositories,
            access,
            open_metrics,
            pushes: Pushes::default(),
            deposits: Deposits::default(),
            webhooks,
            limits,
            metrics,
            log,
            is_stopping: AtomicBool::new(false),
        };
        Ok(Self { listener, tls, hooks, app: Arc::new(app) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is over; then requests under way are finished, for a while. Whenever `reload` is told, the certificate and the
    /// tokens are read again.
    pub async fn run(self, stop: impl Future<Output = ()>, reload: Arc<Notify>) {
        let Self { listener, tls, hooks, app } = self;
        let address = listener.local_addr().map(|address| address.to_string()).ok();
        app.log
            .line("started", json!({"address": address, "tls": tls.is_some(), "version": env!("CARGO_PKG_VERSION")}));
        let hooks: Vec<_> = hooks.into_iter().map(|hook| tokio::spawn(hook.run())).collect();
        let others = [
            tokio::spawn(sweep(Arc::clone(&app))),
            tokio::spawn(look(Arc::clone(&app), tls.clone(), reload)),
            tokio::spawn(keep_tidy(Arc::clone(&app))),
        ];
        let stopping = async {
            stop.await;
            app.is_stopping.store(true, Ordering::Relaxed);
            app.log.line("stopping", json!({}));
        };
        listen::serve(listener, tls, &app, routes::all(&app), stopping).await;
        for other in &others {
            other.abort();
        }
        // What has arrived of pushes that were not finished is kept.
        let ended = Arc::clone(&app);
        let end = move || {
            ended.pushes.end_all();
            ended.deposits.end_all();
        };
        let _ = tokio::task::spawn_blocking(end).await;
        app.webhooks.close();
        let sent = futures_util::future::join_all(hooks);
        let _ = tokio::time::timeout(app.limits.grace.min(Duration::from_secs(10)), sent).await;
        app.log.line("stopped", json!({}));
    }
}

/// Ends pushes and deposits whose clients have been silent for too long.
async fn sweep(app: Arc<App>) {
    let idle = app.limits.idle;
    loop {
        tokio::time::sleep(SWEEP.min(idle)).await;
        let app = Arc::clone(&app);
        let end = move || {
            app.pushes.end_idle(idle);
            app.deposits.end_idle(idle);
        };
        let _ = tokio::task::spawn_blocking(end).await;
    }
}

/// Reads tokens again when their file has changed, and all that can be read again when that is asked for.
async fn look(app: Arc<App>, tls: Option<Arc<Tls>>, reload: Arc<Notify>) {
    loop {
        let is_asked = tokio::time::timeout(LOOK, reload.notified()).await.is_ok();
        let (app, tls) = (Arc::clone(&app), tls.clone().filter(|_| is_asked));
        let read = move || {
            match app.access.reload(is_asked) {
                Ok(true) => app.log.line("reloaded", json!({"what": "tokens"})),
                Ok(false) => {}
                Err(error) => app.log.problem("tokens: those that were read before still count", &error),
            }
            match tls.map(|tls| tls.reload()) {
                Some(Ok(())) => app.log.line("reloaded", json!({"what": "certificate"})),
                Some(Err(error)) => app.log.problem("certificate: the one that was read before is still used", &error),
                None => {}
            }
        };
        let _ = tokio::task::spawn_blocking(read).await;
    }
}

/// Collects repositories when their time has come.
async fn keep_tidy(app: Arc<App>) {
    let mut schedule = Schedule::default();
    let mut tick = TICK;
    for rules in app.repositories.rules().each() {
        tick = tick.min(rules.gc_every.unwrap_or(tick));
    }
    loop {
        let app = Arc::clone(&app);
        let run = move || {
            schedule.run(&app);
            schedule
        };
        // A collection that panics is the last one of this process: what is wrong there is not made worse.
        match tokio::task::spawn_blocking(run).await {
            Ok(after) => schedule = after,
            Err(_) => return,
        }
        tokio::time::sleep(tick).await;
    }
}
