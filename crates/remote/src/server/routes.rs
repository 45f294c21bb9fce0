//! Which request goes where.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::HeaderValue;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use serde_json::json;

use super::metrics::TYPE;
use super::observe::{About, observe};
use super::reply::{Failed, Json, of_type};
use super::tokens::Scope;
use super::{App, care, fetch, files, plain, push};
use crate::protocol::ROUTES;

/// The description of all of them.
const DESCRIPTION: &str = include_str!("../../../../docs/openapi.yaml");

pub(super) fn all(app: &Arc<App>) -> Router {
    let routes = match app.repositories.is_one() {
        true => of_repository(""),
        false => of_repository("/{first}").merge(of_repository("/{first}/{second}")),
    };
    let routes = routes
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.yaml", get(description))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(app), observe));
    routes.with_state(Arc::clone(app))
}

/// The routes of a repository whose address has these parameters.
fn of_repository(names: &str) -> Router<Arc<App>> {
    let protocol = Router::new()
        .route("/info", get(fetch::info))
        .route("/fetch/offers", post(fetch::offers))
        .route("/fetch/entries", post(fetch::entries))
        .route("/push", post(push::open))
        .route("/push/{push}", delete(push::end))
        .route("/push/{push}/reaches", post(push::reaches))
        .route("/push/{push}/has", post(push::has))
        .route("/push/{push}/entries", post(push::entries))
        .route("/push/{push}/refs", post(push::refs))
        .route("/files", get(files::list))
        .route("/files/{*name}", get(files::read).head(files::read).put(files::put).delete(files::delete))
        .route("/gc", post(care::collect))
        .route("/protections", get(care::protections))
        .route("/protect", post(care::protect))
        .route("/unprotect", post(care::unprotect));
    Router::new()
        .nest(&format!("{names}{ROUTES}"), protocol)
        .route(&format!("{names}/blocks/{{hash}}"), get(plain::block).head(plain::block).put(plain::put_block))
        .route(
            &format!("{names}/manifests/{{hash}}"),
            get(plain::manifest).head(plain::manifest).put(plain::put_manifest),
        )
        .route(&format!("{names}/manifests"), get(plain::manifests))
        .route(&format!("{names}/refs"), get(plain::refs))
        .route(&format!("{names}/refs/{{*name}}"), get(plain::one_ref))
}

/// Whether the process runs.
async fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Whether it takes requests: not any more once it is told to stop.
async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_stopping.load(Ordering::Relaxed) {
        return Failed::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is about to stop").into_response();
    }
    Json(json!({"status": "ok"})).into_response()
}

/// Numbers, for who may read every repository.
async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap, request: Request) -> Result<Response, Failed> {
    if !app.open_metrics {
        let who = app.access.who(&headers)?;
        if let Some(about) = request.extensions().get::<About>() {
            about.note(|seen| seen.token = who.name().map(str::to_owned));
        }
        who.check_all(Scope::Read)?;
    }
    Ok(of_type(HeaderValue::from_static(TYPE), Body::from(app.metrics.to_text())))
}

/// The description of the routes.
async fn description() -> Response {
    of_type(HeaderValue::from_static("application/yaml"), Body::from(DESCRIPTION))
}

async fn no_route() -> Failed {
    Failed::new(StatusCode::NOT_FOUND, "no-route", "there is nothing at this path: docs/protocol.md has the routes")
}

async fn no_method() -> Failed {
    Failed::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path takes other methods")
}
