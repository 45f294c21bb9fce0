//! What people can do about servers, tokens and certificates.

use shard_remote::{ConfigError, CredentialError, PeerError, ServerError, TokenError};

use super::{Failure, causes, code};

fn with(error: &dyn std::error::Error, code: u8, next: impl Into<String>) -> Failure {
    let what = error.to_string();
    let why = causes(&what, error);
    Failure { why, ..Failure::new(code, what).next(next) }
}

impl From<PeerError> for Failure {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Repository(error) => error.into(),
            PeerError::Credential(error) => error.into(),
        }
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        let (code, next) = match &error {
            CredentialError::Io { .. } => {
                (code::SYSTEM, "nothing was sent: see to the file, or give the token as SHARD_TOKEN")
            }
            CredentialError::Malformed(_) => {
                (code::DAMAGED, "nothing was sent: mend the file, or remove it and `shard remote login` again")
            }
            CredentialError::NoHome => (code::SYSTEM, "set one of them, or give the token as SHARD_TOKEN"),
            CredentialError::Token => {
                (code::USAGE, "give it as who runs the server gave it to you: it begins with shard_")
            }
            CredentialError::Address(_) => {
                (code::USAGE, "give the name of a remote that is a server, or an http:// or https:// address")
            }
            CredentialError::Plain(_) => (
                code::REFUSED,
                "nothing was sent: use the https:// address; where the way is safe, `shard remote login --over-http`, or \
                 SHARD_TOKEN_OVER_HTTP=1 beside SHARD_TOKEN, allows it",
            ),
        };
        with(&error, code, next)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let (code, next) = match &error {
            TokenError::Io { .. } => (code::SYSTEM, "`shard serve token new` makes the file"),
            TokenError::Malformed { .. } => {
                (code::DAMAGED, "nothing was changed: mend the file, docs/operations.md shows one")
            }
            TokenError::Name { .. } => (code::USAGE, "choose a name such as ci or alice@lab"),
            TokenError::Exists(_) => {
                (code::REFUSED, "choose another name, or take that one back: `shard serve token rm NAME`")
            }
            TokenError::Unknown(_) => (code::NOT_FOUND, "`shard serve token ls` lists them"),
        };
        with(&error, code, next)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = if matches!(error, ConfigError::Io { .. }) { code::SYSTEM } else { code::USAGE };
        with(&error, code, "docs/operations.md describes every setting")
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let (code, next) = match error {
            ServerError::Repository(error) => return error.into(),
            ServerError::Tokens(error) => return error.into(),
            ServerError::Listen { .. } => {
                (code::SYSTEM, "choose another address: --listen 127.0.0.1:0 takes any port that is free")
            }
            ServerError::Open(_) => (
                code::REFUSED,
                "make tokens, `shard serve token new NAME --tokens FILE`, and give --tokens FILE; or let everybody in with --insecure-open",
            ),
            ServerError::Tls(_) => (code::SYSTEM, "both files are in PEM; docs/operations.md shows how to make them"),
            ServerError::Webhook(_) => (code::USAGE, "docs/operations.md shows how webhooks are configured"),
        };
        with(&error, code, next)
    }
}
