//! Repositories over HTTP, what a [`Server`] says and an [`HttpPeer`] asks, and those in buckets.
//!
//! `docs/protocol.md` describes every route. The engine is [`shard_repo`]: what is pushed here is what is pushed to a folder.
#![forbid(unsafe_code)]

mod away;
mod client;
mod private_file;
mod protocol;
mod server;
#[cfg(test)]
mod tests;

use std::path::Path;

use shard_repo::{Peer, Place, RepoError, Repository, Settings, SyncProblem};
use thiserror::Error;

pub use away::{bucket, check_bucket, init_bucket, open_away, open_damaged_away};
pub use client::{
    CredentialError, Credentials, HttpBackend, HttpPeer, PLAIN_VARIABLE, Secret, TOKEN_VARIABLE, token_for,
};
pub use server::{
    AccessOptions, AllRules, ConfigError, Limits, Log, LogFormat, RepositoryRules, RetentionRule, Scope, ServeConfig,
    Served, Server, ServerError, ServerOptions, TlsError, TlsOptions, Token, TokenError, TokenFile, WebhookConfig,
    WebhookError,
};

/// Why a repository cannot be asked.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The repository, or its address.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// The token for it.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// The repository at an address, wherever that is, for this user, with the token that they have for it.
///
/// # Errors
/// [`CredentialError`]; [`SyncProblem::Url`]; for a folder [`RepoError::NotARepository`] and what its store says; as [`open_away`]. A
/// server is not asked yet.
pub fn peer(url: &str, settings: Settings) -> Result<Box<dyn Peer>, PeerError> {
    match Place::of(url)? {
        Place::Folder(folder) => Ok(Box::new(Repository::at(&folder, settings)?)),
        Place::Server => Ok(Box::new(HttpPeer::new(url, token_for(url)?.as_ref())?)),
        Place::Bucket => Ok(Box::new(open_away(url, settings)?)),
    }
}

/// The same for [`Settings::connect`].
///
/// # Errors
/// As [`peer`].
pub fn connect(url: &str, settings: Settings) -> Result<Box<dyn Peer>, RepoError> {
    peer(url, settings).map_err(|error| match error {
        PeerError::Repository(error) => error,
        PeerError::Credential(error) => refused(url, &error),
    })
}

fn refused(url: &str, error: &CredentialError) -> RepoError {
    SyncProblem::Refused { url: url.to_owned(), why: error.to_string() }.into()
}

/// Opens the repository at an address: in a bucket, or of a folder.
///
/// # Errors
/// As [`open_away`] and [`Repository::open`].
pub fn open(place: &Path, settings: Settings) -> Result<Repository, RepoError> {
    match place.to_str().filter(|place| is_bucket(place)) {
        Some(url) => open_away(url, settings),
        None => Repository::open(place, settings),
    }
}

/// Whether an address is that of a bucket.
#[must_use]
pub fn is_bucket(url: &str) -> bool {
    shard_bucket::Address::is_meant(url)
}

/// Whether an address is that of a repository which is in no folder.
#[must_use]
pub fn is_away(url: &str) -> bool {
    is_bucket(url) || url.starts_with("http://") || url.starts_with("https://")
}

/// The same of any but `here` itself.
///
/// # Errors
/// As [`peer`].
pub fn other(here: &Repository, url: &str) -> Result<Box<dyn Peer>, PeerError> {
    let itself = || RepoError::from(SyncProblem::Url { url: url.to_owned(), why: "is this repository itself" }).into();
    if let Place::Folder(folder) = Place::of(url)? {
        let there = Repository::at(&folder, here.settings())?;
        if let (Ok(there), Ok(here)) = (there.dir().canonicalize(), here.dir().canonicalize())
            && there == here
        {
            return Err(itself());
        }
        return Ok(Box::new(there));
    }
    let there = peer(url, here.settings())?;
    if there.url() == here.root().display().to_string() {
        return Err(itself());
    }
    Ok(there)
}

/// Whether the name or address of a host, without a port, is this machine by itself, whatever a resolver says.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
