//! Whoever asked for it is told when refs move: signed, again where it did not arrive, and never in the way of a push.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use sha2::Sha256;
use shard_history::revision::RefKind;
use shard_repo::peer::RefMove;
use shard_store::{Nonce, timestamp};
use thiserror::Error;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::config::{AllRules, WebhookConfig};
use super::log::Log;
use super::metrics::Metrics;
use super::repositories::Open;

/// What waits for each hook at most.
const WAITING: usize = 256;
/// How long a receiver may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited before each further try.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];
/// Most bytes of a secret.
const MAX_SECRET: u64 = 4 << 10;

/// Why a webhook cannot be used.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// Its secret.
    #[error("{}: the secret of a webhook cannot be read", .path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its secret is too short to be one.
    #[error("{}: the secret of a webhook has at least 16 characters", .0.display())]
    Short(PathBuf),
    /// Where it goes.
    #[error("{0}: is not the URL of a webhook: it begins with http:// or https://, and has no name or password in it")]
    Url(String),
    /// What it is about.
    #[error("{0:?} is not the name of refs: such as heads/main or tags/*")]
    Refs(String),
    /// What sends it.
    #[error("webhooks cannot be sent")]
    Client(#[source] reqwest::Error),
}

/// What is sent.
struct Event {
    id: String,
    body: Vec<u8>,
}

/// The hooks of all repositories: each has a row of its own, so that one that does not answer keeps no other waiting.
pub(super) struct Webhooks {
    rows: RwLock<HashMap<(String, PathBuf), Sender<Event>>>,
    metrics: Arc<Metrics>,
    log: Log,
}

/// A hook that sends what comes.
pub(super) struct Hook {
    config: WebhookConfig,
    secret: Vec<u8>,
    client: Client,
    pauses: Vec<Duration>,
    metrics: Arc<Metrics>,
    log: Log,
    events: Receiver<Event>,
}

impl Webhooks {
    /// All hooks, which send once they are [run](Hook::run).
    ///
    /// # Errors
    /// [`WebhookError`].
    pub(super) fn new(
        rules: &AllRules,
        pauses: Option<Vec<Duration>>,
        metrics: &Arc<Metrics>,
        log: &Log,
    ) -> Result<(Self, Vec<Hook>), WebhookError> {
        let (mut rows, mut hooks) = (HashMap::new(), Vec::new());
        let client =
            Client::builder().redirect(Policy::none()).timeout(PATIENCE).build().map_err(WebhookError::Client)?;
        for config in rules.each().flat_map(|rules| rules.webhooks.iter().flatten()) {
            let url = Url::parse(&config.url).ok().filter(|url| {
                matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
            });
            if url.is_none() {
                return Err(WebhookError::Url(config.url.clone()));
            }
            for name in &config.refs {
                if !name.starts_with("heads/") && !name.starts_with("tags/") {
                    return Err(WebhookError::Refs(name.clone()));
                }
            }
            let path = &config.secret_file;
            let cannot = |source| WebhookError::Secret { path: path.clone(), source };
            let secret = crate::private_file::read_secret(path, MAX_SECRET).map_err(cannot)?.trim().as_bytes().to_vec();
            if secret.len() < 16 {
                return Err(WebhookError::Short(path.clone()));
            }
            let (sender, events) = mpsc::channel(WAITING);
            if rows.insert((config.url.clone(), path.clone()), sender).is_some() {
                // The same for another repository: one row for both would drop what comes to the first.
                continue;
            }
            hooks.push(Hook {
                config: config.clone(),
                secret,
                client: client.clone(),
                pauses: pauses.clone().unwrap_or_else(|| PAUSES.to_vec()),
                metrics: Arc::clone(metrics),
                log: log.clone(),
                events,
            });
        }
        Ok((Self { rows: RwLock::new(rows), metrics: Arc::clone(metrics), log: log.clone() }, hooks))
    }

    /// Nothing more is sent than what waits.
    pub(super) fn close(&self) {
        self.rows.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Tells that refs have moved. It waits for nothing: what there is no room for is dropped, and logged.
    pub(super) fn moved(&self, open: &Open, token: Option<&str>, moves: &[RefMove]) {
        for config in open.rules.webhooks.iter().flatten() {
            let told: Vec<Value> = moves.iter().filter_map(|moved| described(config, moved)).collect();
            if told.is_empty() {
                continue;
            }
            let Ok(id) = Nonce::random().map(|nonce| nonce.to_hex()) else { continue };
            let body = json!({
                "event": "push",
                "delivery": id,
                "repository": open.name,
                "token": token,
                "time": timestamp::now(),
                "moves": told,
            });
            let event = Event { id, body: body.to_string().into_bytes() };
            let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
            let Some(row) = rows.get(&(config.url.clone(), config.secret_file.clone())) else { continue };
            if let Err(TrySendError::Full(event) | TrySendError::Closed(event)) = row.try_send(event) {
                self.metrics.webhook("dropped");
                let about = json!({"url": config.url, "delivery": event.id, "error": "too many wait already"});
                self.log.line("webhook-dropped", about);
            }
        }
    }
}

/// A move as it is told, where a hook is for it.
fn described(config: &WebhookConfig, moved: &RefMove) -> Option<Value> {
    let folder = if moved.kind == RefKind::Tag { "tags" } else { "heads" };
    let name = format!("{folder}/{}", moved.name);
    let is_for = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => *pattern == name,
    };
    let is_told = config.refs.is_empty() || config.refs.iter().any(is_for);
    is_told.then(
        || json!({"name": name, "from": moved.from.to_string(), "to": moved.to.to_string(), "force": moved.is_forced}),
    )
}

/// The value of the header that signs a body.
fn signature(secret: &[u8], body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(body);
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    Some(format!("sha256={}", shard_core::Digest(digest).to_hex()))
}

impl Hook {
    /// Sends what comes, one after the other, until nothing more can come.
    pub(super) async fn run(mut self) {
        while let Some(event) = self.events.recv().await {
            let mut pauses = self.pauses.clone().into_iter();
            loop {
                let why = match self.send(&event).await {
                    Ok(()) => {
                        self.metrics.webhook("delivered");
                        break;
                    }
                    Err(why) => why,
                };
                let pause = pauses.next();
                let about = json!({
                    "url": self.config.url,
                    "delivery": event.id,
                    "error": why,
                    "again_in_seconds": pause.map(|pause| pause.as_secs()),
                });
                self.log.line("webhook-failed", about);
                let Some(pause) = pause else {
                    self.metrics.webhook("failed");
                    break;
                };
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn send(&self, event: &Event) -> Result<(), String> {
        let signature = signature(&self.secret, &event.body).ok_or("it cannot be signed")?;
        let request = self
            .client
            .post(&self.config.url)
            .header("content-type", "application/json")
            .header("user-agent", concat!("shard/", env!("CARGO_PKG_VERSION")))
            .header("x-shard-event", "push")
            .header("x-shard-delivery", &event.id)
            .header("x-shard-signature", signature)
            .body(event.body.clone());
        let response = request.send().await.map_err(|error| crate::client::described(&error))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the answer is {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let key = [0x0b; 20];
        let found = signature(&key, b"Hi There").unwrap();
        assert_eq!(found, "sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }
}
