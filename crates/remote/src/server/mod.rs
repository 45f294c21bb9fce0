//! A server of repositories.

mod fetch;
mod push;
mod reply;
mod repositories;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use shard_repo::{RepoError, Settings};
use tokio::net::TcpListener;

use crate::protocol::ROUTES;
use push::Pushes;
use repositories::Repositories;

/// How long the head of a request may take to arrive.
const HEAD: Duration = Duration::from_secs(30);
/// How long requests under way may go on when the server is told to stop.
const GRACE: Duration = Duration::from_secs(30);
/// How often pushes are looked for whose clients are gone.
const SWEEP: Duration = Duration::from_secs(15);

/// Which repositories are served.
#[derive(Debug, Clone)]
pub enum Served {
    /// The one in this folder, at the server's own address.
    One(PathBuf),
    /// All below this folder, at the paths that they have in it: one name, or two with a slash between.
    All(PathBuf),
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What is served.
    pub served: Served,
    /// How repositories are used.
    pub settings: Settings,
    /// How long a client may be silent in the middle of a body, or between the requests of a push.
    pub idle: Duration,
}

impl ServerOptions {
    /// The usual limits.
    #[must_use]
    pub fn new(served: Served, settings: Settings) -> Self {
        Self { served, settings, idle: Duration::from_secs(120) }
    }
}

/// What all requests share.
struct App {
    repositories: Repositories,
    pushes: Pushes,
    idle: Duration,
}

/// A server that listens already.
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
}

impl Server {
    /// Listens at an address; port 0 is any that is free.
    ///
    /// # Errors
    /// [`io::Error`] where it cannot; what keeps the one repository that is served from being opened.
    pub async fn bind(address: SocketAddr, options: ServerOptions) -> Result<Self, RepoError> {
        let repositories = Repositories::new(&options)?;
        let cannot =
            |source: io::Error| RepoError::Io { path: address.to_string().into(), doing: "cannot listen", source };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let app = App { repositories, pushes: Pushes::default(), idle: options.idle };
        Ok(Self { listener, app: Arc::new(app) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is over; then requests under way are finished, for a while.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, app } = self;
        let routes = routes(&app);
        let graceful = GracefulShutdown::new();
        let sweeper = tokio::spawn(sweep(Arc::clone(&app)));
        tokio::pin!(stop);
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    // Too many files are open, or a client was gone at once.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            let _ = stream.set_nodelay(true);
            // HTTP/1.1 alone: nothing here needs more, and floods of frames cannot be sent over it.
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.clone()));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // What goes wrong on a connection is between it and its client.
                let _ = connection.await;
            });
        }
        drop(listener);
        sweeper.abort();
        let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
        // What has arrived of pushes that were not finished is kept.
        let _ = tokio::task::spawn_blocking(move || app.pushes.end_all()).await;
    }
}

/// Ends pushes whose clients have been silent for too long.
async fn sweep(app: Arc<App>) {
    loop {
        tokio::time::sleep(SWEEP.min(app.idle)).await;
        let app = Arc::clone(&app);
        let _ = tokio::task::spawn_blocking(move || app.pushes.end_idle(app.idle)).await;
    }
}

fn routes(app: &Arc<App>) -> Router {
    let of_repository = || {
        Router::new()
            .route("/info", get(fetch::info))
            .route("/fetch/offers", post(fetch::offers))
            .route("/fetch/entries", post(fetch::entries))
            .route("/push", post(push::open))
            .route("/push/{push}", delete(push::end))
            .route("/push/{push}/reaches", post(push::reaches))
            .route("/push/{push}/has", post(push::has))
            .route("/push/{push}/entries", post(push::entries))
            .route("/push/{push}/refs", post(push::refs))
    };
    let routes = match app.repositories.is_one() {
        true => Router::new().nest(ROUTES, of_repository()),
        false => Router::new()
            .nest(&format!("/{{first}}{ROUTES}"), of_repository())
            .nest(&format!("/{{first}}/{{second}}{ROUTES}"), of_repository()),
    };
    routes.with_state(Arc::clone(app))
}
