//! Repositories over HTTP: what a [`Server`] says, and an [`HttpPeer`] asks.
//!
//! `docs/protocol.md` describes every route. The engine is [`shard_repo`]: what is pushed here is what is pushed to a folder.
#![forbid(unsafe_code)]

mod client;
mod protocol;
mod server;
#[cfg(test)]
mod tests;

use shard_repo::{Peer, Place, RepoError, Repository, Settings, SyncProblem};

pub use client::HttpPeer;
pub use server::{Served, Server, ServerOptions};

/// The repository at an address, wherever that is.
///
/// # Errors
/// [`SyncProblem::Url`]; for a folder [`RepoError::NotARepository`] and what its store says. A server is not asked yet.
pub fn peer(url: &str, settings: Settings) -> Result<Box<dyn Peer>, RepoError> {
    match Place::of(url)? {
        Place::Folder(folder) => Ok(Box::new(Repository::at(&folder, settings)?)),
        Place::Server => Ok(Box::new(HttpPeer::new(url)?)),
    }
}

/// The same of any but `here` itself.
///
/// # Errors
/// As [`peer`].
pub fn other(here: &Repository, url: &str) -> Result<Box<dyn Peer>, RepoError> {
    if let Place::Folder(folder) = Place::of(url)? {
        let there = Repository::at(&folder, here.settings())?;
        if let (Ok(there), Ok(here)) = (there.dir().canonicalize(), here.dir().canonicalize())
            && there == here
        {
            return Err(SyncProblem::Url { url: url.to_owned(), why: "is this repository itself" }.into());
        }
        return Ok(Box::new(there));
    }
    peer(url, here.settings())
}
