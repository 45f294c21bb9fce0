//! Tokens of this user: from the environment, or from a file that nobody else may read. Each goes to the servers that it is for alone.

use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The variable that holds a token for whatever server a command is about.
pub const TOKEN_VARIABLE: &str = "SHARD_TOKEN";
/// The variable that, set to 1, lets that token be sent without encryption.
pub const PLAIN_VARIABLE: &str = "SHARD_TOKEN_OVER_HTTP";
/// Most bytes of the file.
const MAX_FILE: u64 = 1 << 20;

/// A token. It is shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// # Errors
    /// [`CredentialError::Token`] for what cannot be one.
    pub fn new(text: &str) -> Result<Self, CredentialError> {
        let text = text.trim();
        match !text.is_empty() && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err(CredentialError::Token),
        }
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why tokens cannot be had or kept.
#[derive(Debug, Error)]
pub enum CredentialError {
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
    /// What is in it. It is not shown: it may be a token.
    #[error("{}: is no list of tokens", .0.display())]
    Malformed(PathBuf),
    /// No folder for it is known.
    #[error("there is no folder for this user's settings: neither XDG_CONFIG_HOME nor HOME is set")]
    NoHome,
    /// What cannot be a token.
    #[error("what was given is no token: one is 1 to 512 visible characters, without spaces")]
    Token,
    /// An address that a token cannot be for.
    #[error("{0}: is not the address of a server")]
    Address(String),
    /// It could be read on the way.
    #[error("{0}: a token would be sent there without encryption, and whoever is in between could use it")]
    Plain(String),
}

/// A token, and the servers that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    /// What addresses begin with.
    url: String,
    token: Secret,
    /// Whether it may be sent without encryption.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    over_http: bool,
}

/// The tokens of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    #[serde(default, rename = "credential")]
    all: Vec<Credential>,
}

impl Credentials {
    /// Where they are: `shard/credentials` in the folder of this user's settings.
    ///
    /// # Errors
    /// [`CredentialError::NoHome`].
    pub fn path() -> Result<PathBuf, CredentialError> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
        let folder = folder.or_else(|| set("HOME").map(|home| home.join(".config")));
        Ok(folder.ok_or(CredentialError::NoHome)?.join("shard").join("credentials"))
    }

    /// Reads a file; there are none where there is no file.
    ///
    /// # Errors
    /// [`CredentialError::Io`] also where others may read it; [`CredentialError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, CredentialError> {
        let text = match crate::private_file::read_secret(path, MAX_FILE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(CredentialError::Io { path: path.to_owned(), doing: "cannot be used", source }),
        };
        toml::from_str(&text).map_err(|_| CredentialError::Malformed(path.to_owned()))
    }

    /// Writes the file anew, for this user alone.
    ///
    /// # Errors
    /// [`CredentialError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), CredentialError> {
        let io = |source| CredentialError::Io { path: path.to_owned(), doing: "cannot be written", source };
        let text = toml::to_string(self).map_err(|_| CredentialError::Malformed(path.to_owned()))?;
        if let Some(folder) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(folder).map_err(io)?;
        }
        crate::private_file::write(path, &text).map_err(io)
    }

    /// Keeps a token for all addresses that begin with this one, in the place of one that was there.
    ///
    /// # Errors
    /// [`CredentialError::Address`]; [`CredentialError::Plain`] where it is not encrypted, not on this machine, and not meant so.
    pub fn set(&mut self, url: &str, token: Secret, over_http: bool) -> Result<(), CredentialError> {
        let parsed = address(url)?;
        if !over_http && !is_private(&parsed) {
            return Err(CredentialError::Plain(url.to_owned()));
        }
        let url = shown(&parsed);
        self.all.retain(|credential| credential.url != url);
        self.all.push(Credential { url, token, over_http });
        Ok(())
    }

    /// Forgets the token of an address; says whether there was one.
    ///
    /// # Errors
    /// [`CredentialError::Address`].
    pub fn remove(&mut self, url: &str) -> Result<bool, CredentialError> {
        let (url, before) = (shown(&address(url)?), self.all.len());
        self.all.retain(|credential| credential.url != url);
        Ok(self.all.len() < before)
    }

    /// The token for an address: that of the longest address that it begins with.
    fn find(&self, url: &Url) -> Option<&Credential> {
        let fits = |credential: &&Credential| {
            let Ok(of) = address(&credential.url) else { return false };
            let (start, path) = (of.path().trim_end_matches('/'), url.path());
            let rest = path.strip_prefix(start);
            of.scheme() == url.scheme()
                && of.host_str() == url.host_str()
                && of.port_or_known_default() == url.port_or_known_default()
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.all.iter().filter(fits).max_by_key(|credential| credential.url.len())
    }
}

/// The token of this user for an address, if there is one.
///
/// # Errors
/// [`CredentialError`]; [`CredentialError::Plain`] for one that would be sent without encryption, to another machine, without this being
/// meant.
pub fn token_for(url: &str) -> Result<Option<Secret>, CredentialError> {
    let parsed = address(url)?;
    let (token, over_http) = match env::var(TOKEN_VARIABLE) {
        Ok(token) if !token.trim().is_empty() => {
            (Secret::new(&token)?, env::var(PLAIN_VARIABLE).is_ok_and(|value| value == "1"))
        }
        _ => {
            let path = match Credentials::path() {
                Ok(path) => path,
                Err(_) => return Ok(None),
            };
            match Credentials::read(&path)?.find(&parsed) {
                Some(found) => (found.token.clone(), found.over_http),
                None => return Ok(None),
            }
        }
    };
    match over_http || is_private(&parsed) {
        true => Ok(Some(token)),
        false => Err(CredentialError::Plain(shown(&parsed))),
    }
}

fn address(url: &str) -> Result<Url, CredentialError> {
    let parsed =
        Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
    parsed.filter(plain).ok_or_else(|| CredentialError::Address(hidden(url)))
}

/// What may be shown of what is no address: there may be a password in it.
fn hidden(url: &str) -> String {
    let start = url.split_once("://").map_or("what was given", |(scheme, _)| scheme);
    format!("{start}…")
}

fn shown(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Whether nobody can read what is sent on the way.
fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// Whether an address is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(crate::is_this_machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(credentials: &Credentials, url: &str) -> Option<String> {
        credentials.find(&address(url).unwrap()).map(|found| found.token.reveal().to_owned())
    }

    #[test]
    fn fault_45_a_token_goes_where_it_is_for() {
        let mut all = Credentials::default();
        let mut set = |url, token| all.set(url, Secret::new(token).unwrap(), false).unwrap();
        set("https://host/", "whole");
        set("https://host/team", "team");
        set("https://host/team/model/", "model");
        set("https://host:8443", "port");
        set("http://127.0.0.1:9/x", "local");
        for (url, token) in [
            ("https://host/other/x", Some("whole")),
            ("https://HOST:443/team", Some("team")),
            ("https://host/team/x", Some("team")),
            ("https://host/teams/x", Some("whole")),
            ("https://host/team/model", Some("model")),
            ("https://host:8443/team/model", Some("port")),
            ("http://host/team", None),
            ("https://host.evil.example/team", None),
            ("https://evil.example/host", None),
            ("http://127.0.0.1:9/x/y", Some("local")),
            ("http://127.0.0.1:9/", None),
            ("http://127.0.0.1:90/x", None),
        ] {
            assert_eq!(find(&all, url).as_deref(), token, "{url}");
        }
        assert!(all.remove("https://host/team").unwrap() && !all.remove("https://host/team").unwrap());
        assert_eq!(find(&all, "https://host/team").as_deref(), Some("whole"));
    }

    #[test]
    fn fault_46_tokens_are_shown_nowhere_and_not_sent_in_the_open() {
        let secret = Secret::new(" canary-7f3a\n").unwrap();
        let mut all = Credentials::default();
        let refused = all.set("http://host/team", secret.clone(), false).unwrap_err();
        assert!(matches!(refused, CredentialError::Plain(_)));
        all.set("http://host/team", secret.clone(), true).unwrap();
        assert!(!format!("{secret:?} {all:?} {refused} {refused:?}").contains("canary"));
        for url in ["https://me:canary@host", "https://host?token=canary", "x", "ftp://canary/"] {
            let refused = all.set(url, secret.clone(), true).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("canary"), "{refused}");
        }
        for text in ["", " ", "a b", "a\u{7f}b", "ü"] {
            assert!(matches!(Secret::new(text), Err(CredentialError::Token)), "{text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn fault_47_a_file_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/shard/credentials");
        assert_eq!(Credentials::read(&path).unwrap(), Credentials::default());
        let mut all = Credentials::default();
        all.set("https://host", Secret::new("canary").unwrap(), false).unwrap();
        all.write(&path).unwrap();
        assert_eq!(Credentials::read(&path).unwrap(), all);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Credentials::read(&path).unwrap_err();
        assert!(matches!(&refused, CredentialError::Io { source, .. } if source.to_string().contains("chmod 600")));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "token = \"canary\"").unwrap();
        let refused = Credentials::read(&path).unwrap_err();
        assert!(
            matches!(refused, CredentialError::Malformed(_)) && !format!("{refused} {refused:?}").contains("canary")
        );
    }
}
