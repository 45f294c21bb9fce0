//! A repository behind a server, as one to exchange commits with.

mod credentials;
mod exchange;
mod files;
mod http;

use reqwest::Method;
use shard_repo::peer::{Inbound, Outbound, Peer, Wanted, Welcome};
use shard_repo::{RepoError, SyncProblem};

use crate::protocol::{BINARY, Opened, Wants, WelcomeMessage, offers_of};
pub use credentials::{CredentialError, Credentials, PLAIN_VARIABLE, Secret, TOKEN_VARIABLE, token_for};
use exchange::{Fetching, Pushing};
pub use files::HttpBackend;
use http::Http;
pub(crate) use http::described;

/// A repository behind a server.
pub struct HttpPeer {
    http: Http,
}

impl HttpPeer {
    /// The repository at an `http://` or `https://` address, for who has this token. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SyncProblem::Url`]; what keeps a connection from being made at all.
    pub fn new(url: &str, token: Option<&Secret>) -> Result<Self, RepoError> {
        Ok(Self { http: Http::new(url, token)? })
    }
}

impl Peer for HttpPeer {
    fn url(&self) -> String {
        self.http.url().to_owned()
    }

    fn welcome(&self) -> Result<Welcome, RepoError> {
        let message: WelcomeMessage = self.http.json(Method::GET, "info", Vec::new())?;
        Ok(message.read()?)
    }

    fn inbound(&self) -> Result<Box<dyn Inbound + '_>, RepoError> {
        let opened: Opened = self.http.json(Method::POST, "push", Vec::new())?;
        if opened.push.is_empty() || !opened.push.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(SyncProblem::Malformed("a push has no name").into());
        }
        Ok(Box::new(Pushing::new(&self.http, opened.push, opened.welcome.read()?)))
    }

    fn outbound(&self, wanted: &Wanted) -> Result<Box<dyn Outbound + '_>, RepoError> {
        let body = http::to_json(&Wants::new(wanted))?;
        let answer = self.http.call(Method::POST, "fetch/offers", BINARY, body)?;
        Ok(Box::new(Fetching::new(&self.http, offers_of(&answer)?)))
    }
}
