//! Who asks, and what they may do.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};

use super::config::RepositoryRules;
use super::reply::Failed;
use super::tokens::{Scope, Token, TokenError, TokenFile};

/// Whether tokens are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessOptions {
    /// They are those of a file, which is read again when it changes.
    Tokens(PathBuf),
    /// They are not: whoever reaches the server may do everything. Only programs on this machine are answered.
    ThisMachine,
    /// They are not, and whoever reaches the server may do everything.
    Everybody,
}

/// Who may do what.
pub(super) struct Access {
    options: AccessOptions,
    tokens: RwLock<(Arc<TokenFile>, Option<Mark>)>,
}

/// When a file was changed last, and how long it was.
type Mark = (SystemTime, u64);

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// Anybody, where no tokens are asked for.
    Anybody,
    /// Who has no token.
    Nobody,
    /// Who has this one.
    Token(Box<Token>),
}

impl Who {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Token(token) => Some(&token.name),
            Self::Anybody | Self::Nobody => None,
        }
    }

    /// What they may do with a repository; `None` where they may not even know that it is there.
    fn scope(&self, repository: &str, rules: &RepositoryRules) -> Option<Scope> {
        let anonymous = (rules.anonymous_read == Some(true)).then_some(Scope::Read);
        match self {
            Self::Anybody => Some(Scope::Admin),
            Self::Nobody => anonymous,
            Self::Token(token) if token.is_for(repository) => Some(token.scope),
            Self::Token(_) => anonymous,
        }
    }

    /// Refuses who may not do with every repository what takes a scope.
    pub(super) fn check_all(&self, needed: Scope) -> Result<(), Failed> {
        match self {
            Self::Anybody => Ok(()),
            Self::Nobody => Err(unknown("a token is needed: send it as Authorization: Bearer TOKEN")),
            Self::Token(token) if token.scope >= needed && token.repositories.iter().any(|name| name == "*") => Ok(()),
            Self::Token(_) => {
                Err(Failed::new(StatusCode::FORBIDDEN, "scope", "this takes a token that is for all repositories"))
            }
        }
    }

    /// Refuses who may not do with a repository what takes a scope, and gives the scope that they have.
    pub(super) fn check(&self, repository: &str, rules: &RepositoryRules, needed: Scope) -> Result<Scope, Failed> {
        match (self, self.scope(repository, rules)) {
            (_, Some(scope)) if scope >= needed => Ok(scope),
            (Self::Nobody, _) => Err(unknown("a token is needed: send it as Authorization: Bearer TOKEN")),
            (_, None) => Err(no_repository()),
            (_, Some(scope)) => {
                let (has, needs) = (scope.as_str(), needed.as_str());
                Err(Failed::new(
                    StatusCode::FORBIDDEN,
                    "scope",
                    &format!("the token may {has}, and this takes {needs}"),
                ))
            }
        }
    }
}

/// The answer about a repository that is not there, or that one may not know of.
pub(super) fn no_repository() -> Failed {
    Failed::new(StatusCode::NOT_FOUND, "no-repository", "there is no such repository")
}

fn unknown(why: &str) -> Failed {
    Failed::new(StatusCode::UNAUTHORIZED, "unauthorized", why)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"shard\""))
}

impl Access {
    /// # Errors
    /// [`TokenError`].
    pub(super) fn new(options: AccessOptions) -> Result<Self, TokenError> {
        let tokens = match &options {
            AccessOptions::Tokens(path) => {
                let mark = mark(path);
                (Arc::new(TokenFile::read(path)?), mark)
            }
            AccessOptions::ThisMachine | AccessOptions::Everybody => Default::default(),
        };
        Ok(Self { options, tokens: RwLock::new(tokens) })
    }

    pub(super) fn is_for_this_machine_alone(&self) -> bool {
        self.options == AccessOptions::ThisMachine
    }

    /// Reads the tokens again where their file has changed; says whether it had. Where it cannot be read those before it count.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(super) fn reload(&self, is_asked: bool) -> Result<bool, TokenError> {
        let AccessOptions::Tokens(path) = &self.options else { return Ok(false) };
        let mark = mark(path);
        if !is_asked && self.tokens.read().unwrap_or_else(PoisonError::into_inner).1 == mark {
            return Ok(false);
        }
        let read = TokenFile::read(path);
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        // What cannot be read is told once.
        tokens.1 = mark;
        tokens.0 = Arc::new(read?);
        Ok(true)
    }

    /// Who asks.
    ///
    /// # Errors
    /// 401 for a token that is none.
    pub(super) fn who(&self, headers: &HeaderMap) -> Result<Who, Failed> {
        if !matches!(self.options, AccessOptions::Tokens(_)) {
            return Ok(Who::Anybody);
        }
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let wrong = || unknown("the token is none of this server's: it may have been taken back");
        let Some(value) = sent.next() else { return Ok(Who::Nobody) };
        let value = value.to_str().ok().filter(|_| sent.next().is_none()).ok_or_else(wrong)?;
        let (scheme, token) = value.split_once(' ').ok_or_else(wrong)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(wrong());
        }
        let tokens = Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner).0);
        tokens.find(token.trim()).map(|token| Who::Token(Box::new(token.clone()))).ok_or_else(wrong)
    }
}

fn mark(path: &std::path::Path) -> Option<Mark> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}
