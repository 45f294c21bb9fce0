//! Connections: accepted, limited in number, and served until they or the server are over.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::App;
use super::metrics::Counted;
use super::tls::Tls;

/// Bytes of the longest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// Most header lines of a request.
const MAX_HEADERS: usize = 64;

/// Takes connections until `stop` is over, and then waits for those that are there, for a while.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    app: &Arc<App>,
    routes: Router,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(app.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    tokio::pin!(stop);
    loop {
        // Others wait in the system's queue until there is a place: those who hold one without asking for anything lose it soon.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((place, listener.accept().await?.0))
        };
        let (place, stream) = tokio::select! {
            next = next => match next {
                Ok(next) => next,
                // Too many files are open, or a client was gone at once.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let _ = stream.set_nodelay(true);
        let (app, routes, watcher) = (Arc::clone(app), routes.clone(), graceful.watcher());
        let acceptor = tls.as_ref().map(|tls| tls.acceptor());
        tokio::spawn(async move {
            let _held = (place, Counted::new(&app.metrics.connections));
            match acceptor {
                None => serve_one(stream, &app, routes, watcher).await,
                // Whoever does not get this far in time has nothing to say.
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(app.limits.head, acceptor.accept(stream)).await {
                        serve_one(stream, &app, routes, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(app.limits.grace, graceful.shutdown()).await;
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    app: &App,
    routes: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // HTTP/1.1 alone: nothing here needs more, and floods of frames cannot be sent over it.
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(app.limits.head).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // What goes wrong on a connection is between it and its client.
    let _ = watcher.watch(connection).await;
}
