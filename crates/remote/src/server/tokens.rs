//! Bearer tokens: who may do what. A file keeps their hashes alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shard_core::{Digest, sha256};
use shard_store::timestamp;
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;

/// What a token begins with, so that scanners of leaked secrets and people know one.
const MARK: &str = "shard_";
/// Most bytes of a file of tokens.
const MAX_FILE: u64 = 16 << 20;
/// Most bytes of a token that is looked at.
const MAX_TOKEN: usize = 512;

/// What a token may do in its repositories: each may also do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Fetch and read.
    Read,
    /// Move branches on to commits that follow, and make branches and tags; nothing that loses anything.
    Append,
    /// Also move branches by force, and delete branches and tags.
    Write,
    /// Also collect, and protect branches and tags.
    Admin,
}

impl Scope {
    /// All of them, the one that may least first.
    pub const ALL: [Self; 4] = [Self::Read, Self::Append, Self::Write, Self::Admin];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// A token as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What people call it, and logs show.
    pub name: String,
    /// SHA-256 of the token, in lowercase hexadecimal digits.
    pub sha256: String,
    /// What it may do.
    pub scope: Scope,
    /// Where: names of repositories, `TEAM/*` for all of a team, `*` for all.
    pub repositories: Vec<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl Token {
    /// Whether it is for a repository.
    #[must_use]
    pub fn is_for(&self, repository: &str) -> bool {
        self.repositories.iter().any(|pattern| fits(pattern, repository))
    }
}

/// Whether a name is one of those that a pattern stands for.
pub(super) fn fits(pattern: &str, repository: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(team) => repository.strip_prefix(team).is_some_and(|rest| rest.starts_with('/')),
        None => pattern == "*" || pattern == repository,
    }
}

/// Why tokens cannot be read or changed.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file.
    #[error("{}: {doing}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it.
    #[error("{}: is no file of tokens: {why}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A name that is not allowed.
    #[error("{name:?} cannot be the name of a token: {why}")]
    Name {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A token of that name is there.
    #[error("there is a token {0:?} already")]
    Exists(String),
    /// No token has that name.
    #[error("there is no token {0:?}")]
    Unknown(String),
}

/// A file of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// The tokens.
    #[serde(default, rename = "token")]
    pub tokens: Vec<Token>,
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`TokenError::Io`], [`TokenError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io { path: path.to_owned(), doing: "cannot be read", source };
        let malformed = |why: String| TokenError::Malformed { path: path.to_owned(), why };
        if fs::metadata(path).map_err(io)?.len() > MAX_FILE {
            return Err(malformed("it is too long".to_owned()));
        }
        let text = fs::read_to_string(path).map_err(io)?;
        // The place of an error is told, not the lines around it.
        let read: Self = toml::from_str(&text).map_err(|error| malformed(error.message().to_owned()))?;
        for token in &read.tokens {
            check_name(&token.name)?;
            if Digest::from_hex(&token.sha256).is_err() {
                return Err(malformed(format!("the hash of {:?} is not 64 lowercase hexadecimal digits", token.name)));
            }
        }
        Ok(read)
    }

    /// The same, and no tokens where there is no file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_or_new(path: &Path) -> Result<Self, TokenError> {
        match Self::read(path) {
            Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            outcome => outcome,
        }
    }

    /// Adds a token, and gives it: it cannot be had again, since its hash alone is kept.
    ///
    /// # Errors
    /// [`TokenError::Name`], [`TokenError::Exists`]; [`TokenError::Io`] where the system has no random numbers.
    pub fn add(&mut self, name: &str, scope: Scope, repositories: Vec<String>) -> Result<String, TokenError> {
        check_name(name)?;
        if self.tokens.iter().any(|token| token.name == name) {
            return Err(TokenError::Exists(name.to_owned()));
        }
        let none = |source| TokenError::Io { path: "random numbers".into(), doing: "the system has none", source };
        let halves = [shard_store::Nonce::random().map_err(none)?, shard_store::Nonce::random().map_err(none)?];
        let secret = format!("{MARK}{}{}", halves[0].to_hex(), halves[1].to_hex());
        self.tokens.push(Token {
            name: name.to_owned(),
            sha256: sha256(secret.as_bytes()).to_hex(),
            scope,
            repositories,
            created: Some(timestamp::now()),
        });
        Ok(secret)
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`TokenError::Unknown`].
    pub fn remove(&mut self, name: &str) -> Result<(), TokenError> {
        let at = self.tokens.iter().position(|token| token.name == name);
        let at = at.ok_or_else(|| TokenError::Unknown(name.to_owned()))?;
        self.tokens.remove(at);
        Ok(())
    }

    /// Writes the file anew, whole or not at all. Nobody else may read it.
    ///
    /// # Errors
    /// [`TokenError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), TokenError> {
        let text = toml::to_string(self)
            .map_err(|error| TokenError::Malformed { path: path.to_owned(), why: error.to_string() })?;
        crate::private_file::write(path, &format!("{HEAD}{text}")).map_err(|source| TokenError::Io {
            path: path.to_owned(),
            doing: "cannot be written",
            source,
        })
    }

    /// The token that was sent, if it is one of these. All are looked at, in constant time.
    pub(super) fn find(&self, sent: &str) -> Option<&Token> {
        if sent.len() > MAX_TOKEN {
            return None;
        }
        let hash = sha256(sent.as_bytes()).to_hex();
        let mut found = None;
        for token in &self.tokens {
            let is_it: Choice = token.sha256.as_bytes().ct_eq(hash.as_bytes());
            if is_it.into() {
                found = Some(token);
            }
        }
        found
    }
}

const HEAD: &str =
    "# Tokens of `shard serve`: their hashes alone. `shard serve token new` adds one, `token rm` takes one out.\n\n";

fn check_name(name: &str) -> Result<(), TokenError> {
    let refuse = |why| Err(TokenError::Name { name: name.chars().take(80).collect(), why });
    match name {
        "" => refuse("it is empty"),
        _ if name.len() > 64 => refuse("it is longer than 64 bytes"),
        _ if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte)) => {
            refuse("letters, digits and - _ . @ can be in one")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_44_only_hashes_are_kept_and_all_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let mut file = TokenFile::read_or_new(&path).unwrap();
        let first = file.add("ci", Scope::Append, vec!["team/*".to_owned()]).unwrap();
        let second = file.add("ops", Scope::Admin, vec!["*".to_owned()]).unwrap();
        assert!(matches!(file.add("ci", Scope::Read, Vec::new()), Err(TokenError::Exists(_))));
        file.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(first.starts_with(MARK) && first.len() == MARK.len() + 64 && first != second);
        assert!(!text.contains(&first) && !text.contains(&second) && text.contains("team/*"), "{text}");
        let read = TokenFile::read(&path).unwrap();
        assert_eq!(read, file);
        assert_eq!(read.find(&first).unwrap().name, "ci");
        assert_eq!(read.find(&second).unwrap().scope, Scope::Admin);
        for wrong in
            ["", "shard_", &first[1..], &format!("{first} "), &"x".repeat(MAX_TOKEN + 1), &read.tokens[0].sha256]
        {
            assert!(read.find(wrong).is_none(), "{wrong:?}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let mut fewer = read;
        fewer.remove("ci").unwrap();
        assert!(fewer.find(&first).is_none() && matches!(fewer.remove("ci"), Err(TokenError::Unknown(_))));
    }

    #[test]
    fn patterns_stand_for_repositories() {
        for (pattern, name, is) in [
            ("*", "a/b", true),
            ("a/b", "a/b", true),
            ("a/*", "a/b", true),
            ("a/*", "a", false),
            ("a/*", "ab/c", false),
            ("a", "a/b", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn files_that_are_none_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        for text in [
            "token = 3",
            "[[token]]\nname = \"x\"",
            "[[token]]\nname = \"x\"\nsha256 = \"12\"\nscope = \"read\"\nrepositories = []",
            "[[token]]\nname = \"x\"\nsha256 = \"12\"\nscope = \"root\"\nrepositories = []",
            "[[tokens]]\n",
        ] {
            fs::write(&path, text).unwrap();
            assert!(matches!(TokenFile::read(&path), Err(TokenError::Malformed { .. })), "{text}");
        }
        assert!(matches!(TokenFile::read(folder.path()), Err(TokenError::Io { .. })));
        for name in ["", "a b", "a\n", "ü"] {
            assert!(matches!(TokenFile::default().add(name, Scope::Read, Vec::new()), Err(TokenError::Name { .. })));
        }
    }
}
