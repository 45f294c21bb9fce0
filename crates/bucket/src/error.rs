//! What keeps a bucket from being used at all.

use std::path::PathBuf;

use thiserror::Error;

/// Why a bucket cannot be used.
#[derive(Debug, Error)]
pub enum BucketError {
    /// An address that is none of a bucket.
    #[error("{url:?} {why}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There are no credentials, or such as cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// A file with settings could not be read.
    #[error("{path}: cannot be read")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The store's settings make no sense.
    #[error("{0}")]
    Unusable(String),
    /// The system does not give what is needed to connect.
    #[error("cannot connect")]
    System(#[source] std::io::Error),
}
