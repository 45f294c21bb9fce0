//! Requests, and what becomes of them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Client, ClientBuilder, Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shard_repo::{RepoError, SyncProblem};
use tokio::runtime::Runtime;

use super::credentials::{Secret, is_loopback};
use crate::protocol::{MAX_MESSAGE, Problem, ROUTES};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a server may be silent: it answers some questions only when it has looked through a history.
const SILENCE: Duration = Duration::from_secs(300);
/// Most bytes of the message of an error.
const MAX_PROBLEM: usize = 64 << 10;

/// The variable that names a file of certificates, in PEM, of authorities that are trusted beside those of the system.
const CA_VARIABLE: &str = "SHARD_CA";

/// Connections to the server of a repository.
pub(super) struct Http {
    url: String,
    /// What says who asks.
    authorization: Option<HeaderValue>,
    client: Client,
    pub(super) runtime: Runtime,
}

impl Http {
    pub(super) fn new(url: &str, token: Option<&Secret>) -> Result<Self, RepoError> {
        let refuse = |why| SyncProblem::Url { url: url.to_owned(), why };
        let parsed = Url::parse(url).map_err(|_| refuse("is not a URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(refuse("is not the URL of a server").into());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refuse("has a name or password in it, which would be kept and shown").into());
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(refuse("has a question mark or a number sign in it").into());
        }
        let unusable = |why: String| SyncProblem::Unreachable { url: url.to_owned(), why };
        // A server that sends somewhere else might send to where only this machine may go.
        let mut builder =
            Client::builder().redirect(Policy::none()).connect_timeout(CONNECT).read_timeout(SILENCE).tcp_nodelay(true);
        if is_loopback(&parsed) {
            // What stays on this machine is not sent to a proxy elsewhere.
            builder = builder.no_proxy();
        }
        let client = trusting(builder).map_err(unusable)?.build().map_err(|error| unusable(described(&error)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| unusable(error.to_string()))?;
        let authorization = token.map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            // Never shown, whatever is logged.
            value.map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let authorization = authorization.transpose().map_err(|_| unusable("the token cannot be sent".to_owned()))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), authorization, client, runtime })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A request of one of the protocol's routes.
    pub(super) fn request(&self, method: Method, route: &str) -> RequestBuilder {
        let agent = concat!("shard/", env!("CARGO_PKG_VERSION"));
        let request = self.client.request(method, format!("{}{ROUTES}/{route}", self.url)).header(USER_AGENT, agent);
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }

    /// Asks and gives the whole answer.
    pub(super) fn call(&self, method: Method, route: &str, accept: &str, body: Vec<u8>) -> Result<Vec<u8>, RepoError> {
        let request = self.request(method, route).header(ACCEPT, accept).header(CONTENT_TYPE, accept).body(body);
        self.runtime.block_on(async {
            let response = self.answer(request.send().await).await?;
            self.whole(response, MAX_MESSAGE).await
        })
    }

    /// Asks and gives the answer as what was expected.
    pub(super) fn json<T: DeserializeOwned>(&self, method: Method, route: &str, body: Vec<u8>) -> Result<T, RepoError> {
        let answer = self.call(method, route, "application/json", body)?;
        serde_json::from_slice(&answer)
            .map_err(|_| SyncProblem::Malformed("an answer is not what was asked for").into())
    }

    /// An answer that is none of an error.
    pub(super) async fn answer(&self, sent: reqwest::Result<Response>) -> Result<Response, RepoError> {
        let response = sent.map_err(|error| self.lost(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.whole(response, MAX_PROBLEM).await.unwrap_or_default();
        if let Ok(problem) = serde_json::from_slice::<Problem>(&body) {
            return Err(problem.read(&self.url));
        }
        let why = match status.is_redirection() {
            true => format!("it sends somewhere else ({status}): give the address that it is at"),
            false => format!("no shard server answers there: {status}"),
        };
        Err(SyncProblem::Refused { url: self.url.clone(), why }.into())
    }

    async fn whole(&self, mut response: Response, most: usize) -> Result<Vec<u8>, RepoError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(&error))? {
            if body.len() + chunk.len() > most {
                return Err(SyncProblem::Malformed("an answer is too long").into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The error of a connection that could not be made, or was lost.
    pub(super) fn lost(&self, error: &reqwest::Error) -> RepoError {
        SyncProblem::Unreachable { url: self.url.clone(), why: described(error) }.into()
    }
}

/// Trusts the authorities that the environment names, beside those of the system.
fn trusting(builder: ClientBuilder) -> Result<ClientBuilder, String> {
    let Some(path) = std::env::var_os(CA_VARIABLE).filter(|path| !path.is_empty()) else { return Ok(builder) };
    let shown = std::path::Path::new(&path).display().to_string();
    let pem = std::fs::read(&path).map_err(|error| format!("{shown}, which {CA_VARIABLE} names: {error}"))?;
    let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
    let certificates =
        certificates.ok_or_else(|| format!("{shown}, which {CA_VARIABLE} names, has no certificates in PEM"))?;
    Ok(builder.tls_certs_merge(certificates))
}

/// A body of pieces.
pub(super) fn body_of(pieces: tokio::sync::mpsc::Receiver<io::Result<Bytes>>) -> Body {
    let next = |mut pieces: tokio::sync::mpsc::Receiver<io::Result<Bytes>>| async move {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    };
    Body::wrap_stream(futures_util::stream::unfold(pieces, next))
}

pub(super) fn to_json(message: &impl Serialize) -> Result<Vec<u8>, RepoError> {
    serde_json::to_vec(message).map_err(|_| RepoError::Internal("a message cannot be written"))
}

/// What an error says, and what its causes add: addresses are told elsewhere.
pub(crate) fn described(error: &dyn std::error::Error) -> String {
    let mut text = match error.source() {
        None => error.to_string(),
        Some(_) => String::new(),
    };
    let mut source = error.source();
    while let Some(error) = source {
        if text.is_empty() {
            text = error.to_string();
        } else if !text.contains(&error.to_string()) {
            text.push_str(&format!(": {error}"));
        }
        source = error.source();
    }
    text
}
