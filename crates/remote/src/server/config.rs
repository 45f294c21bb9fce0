//! `serve.toml`: what is served, to whom, and within which limits.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::tokens::fits;

/// Most bytes of a configuration.
const MAX_FILE: u64 = 4 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it.
    #[error("{}: line {line}: {why}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// A configuration, as `serve.toml` has it. Paths in it are relative to its folder.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// The folder whose repositories are served, or the address of a bucket.
    pub folder: Option<PathBuf>,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// The certificates of the server, and those between it and the authority, in PEM.
    pub tls_cert: Option<PathBuf>,
    /// The key of the first of them, in PEM.
    pub tls_key: Option<PathBuf>,
    /// `json`, `text` or `off`.
    pub log: Option<String>,
    /// Whether everybody may read `/metrics`, and not only who has a token for all repositories.
    pub open_metrics: bool,
    /// Limits of the server.
    pub limits: Limits,
    /// What holds for every repository.
    pub defaults: RepositoryRules,
    /// What holds for some: by name, or `TEAM/*`. The most exact one that says something counts.
    pub repositories: BTreeMap<String, RepositoryRules>,
}

/// Limits of a server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once; others wait.
    pub connections: usize,
    /// Pushes at once.
    pub pushes: usize,
    /// How long the head of a request may take, and a connection be idle.
    #[serde(deserialize_with = "duration")]
    pub head: Duration,
    /// How long a client may be silent in the middle of a body, or between the requests of a push.
    #[serde(deserialize_with = "duration")]
    pub idle: Duration,
    /// Bytes a second that a body has to arrive with, on average, once it has taken as long as `idle`.
    #[serde(deserialize_with = "size")]
    pub slowest: u64,
    /// Bytes of the longest body: one of entries. Others are shorter.
    #[serde(deserialize_with = "size")]
    pub body: u64,
    /// How long requests under way may go on when the server is told to stop.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            pushes: 256,
            head: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            slowest: 1 << 10,
            body: 1 << 30,
            grace: Duration::from_secs(30),
        }
    }
}

/// What holds for a repository, as far as it is said.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepositoryRules {
    /// Whether everybody may read it.
    pub anonymous_read: Option<bool>,
    /// Requests about it at once.
    pub requests: Option<usize>,
    /// Bytes that it may take.
    #[serde(deserialize_with = "some_size")]
    pub quota: Option<u64>,
    /// How often it is collected.
    #[serde(deserialize_with = "some_duration")]
    pub gc_every: Option<Duration>,
    /// States of each ref that a collection keeps.
    pub keep_reflog: Option<u64>,
    /// Which commits of branches stay, before a collection.
    pub retention: Option<Vec<RetentionRule>>,
    /// Who is told when refs move.
    pub webhooks: Option<Vec<WebhookConfig>>,
}

impl RepositoryRules {
    /// What this says, and where it says nothing, what the other does.
    fn or(self, other: &Self) -> Self {
        Self {
            anonymous_read: self.anonymous_read.or(other.anonymous_read),
            requests: self.requests.or(other.requests),
            quota: self.quota.or(other.quota),
            gc_every: self.gc_every.or(other.gc_every),
            keep_reflog: self.keep_reflog.or(other.keep_reflog),
            retention: self.retention.or_else(|| other.retention.clone()),
            webhooks: self.webhooks.or_else(|| other.webhooks.clone()),
        }
    }
}

/// Which commits of a branch stay: as `shard forget` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionRule {
    /// The branch.
    pub branch: String,
    /// So many last commits.
    pub keep_last: usize,
    /// The last one of each of so many hours, days, weeks, months and years that have commits.
    pub keep_hourly: usize,
    /// Days.
    pub keep_daily: usize,
    /// Weeks.
    pub keep_weekly: usize,
    /// Months.
    pub keep_monthly: usize,
    /// Years.
    pub keep_yearly: usize,
    /// Every commit that has a tag.
    pub keep_tagged: bool,
}

/// Who is told when refs move.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to.
    pub url: String,
    /// A file with the secret that signs what is sent.
    pub secret_file: PathBuf,
    /// Full names of the refs whose moves are told, such as `heads/main` or `tags/*`; all where there are none.
    #[serde(default)]
    pub refs: Vec<String>,
}

impl ServeConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io { path: path.to_owned(), source };
        if fs::metadata(path).map_err(io)?.len() > MAX_FILE {
            return Err(ConfigError::Malformed { path: path.to_owned(), line: 1, why: "it is too long".to_owned() });
        }
        let text = fs::read_to_string(path).map_err(io)?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            ConfigError::Malformed { path: path.to_owned(), line, why: error.message().to_owned() }
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [&mut config.folder, &mut config.tokens, &mut config.tls_cert, &mut config.tls_key];
        for path in paths.into_iter().flatten().filter(|path| !path.to_str().is_some_and(crate::is_bucket)) {
            *path = folder.join(&*path);
        }
        for rules in config.repositories.values_mut().chain([&mut config.defaults]) {
            for hook in rules.webhooks.iter_mut().flatten() {
                hook.secret_file = folder.join(&hook.secret_file);
            }
        }
        Ok(config)
    }
}

/// What holds for repositories, by their names.
#[derive(Debug, Clone, Default)]
pub struct AllRules {
    /// What holds for every repository.
    pub defaults: RepositoryRules,
    /// What holds for some: by name, or `TEAM/*`.
    pub some: BTreeMap<String, RepositoryRules>,
}

impl AllRules {
    /// What holds for one.
    #[must_use]
    pub fn of(&self, name: &str) -> RepositoryRules {
        let mut said: Vec<(&String, &RepositoryRules)> =
            self.some.iter().filter(|(pattern, _)| fits(pattern, name)).collect();
        // The name itself, then its team, then `*`.
        said.sort_by_key(|(pattern, _)| (pattern.as_str() != name, pattern.as_str() == "*"));
        said.into_iter()
            .map(|(_, rules)| rules)
            .chain([&self.defaults])
            .fold(RepositoryRules::default(), RepositoryRules::or)
    }

    /// All of them.
    pub(super) fn each(&self) -> impl Iterator<Item = &RepositoryRules> {
        self.some.values().chain([&self.defaults])
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

/// A number with a unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const TIMES: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match Number::deserialize(from)? {
        Number::Plain(bytes) => Ok(bytes),
        Number::Text(text) => with_unit(&text, &SIZES)
            .ok_or_else(|| D::Error::custom("a size is such as 500 MB, 64MiB or a number of bytes")),
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let wrong = || D::Error::custom("a time is such as 30s, 15m, 12h or 7d");
    match Number::deserialize(from)? {
        Number::Plain(_) => Err(wrong()),
        Number::Text(text) => {
            with_unit(&text, &TIMES).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
        }
    }
}

fn some_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    size(from).map(Some)
}

fn some_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ServeConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serve.toml");
        fs::write(&path, text).unwrap();
        let mut config = ServeConfig::read(&path)?;
        for path in [&mut config.folder, &mut config.tokens].into_iter().flatten() {
            *path = path.strip_prefix(folder.path()).unwrap().to_owned();
        }
        Ok(config)
    }

    #[test]
    fn rules_of_repositories_come_together() {
        let text = r#"
            listen = "0.0.0.0:8460"
            folder = "models"
            tokens = "tokens.toml"
            [limits]
            idle = "45s"
            body = "2 GiB"
            [defaults]
            quota = "100 GB"
            keep_reflog = 7
            [repositories."team/*"]
            anonymous_read = true
            quota = 5
            [repositories."team/model"]
            quota = "1TiB"
            gc_every = "1d"
            retention = [{ branch = "main", keep_last = 3 }]
            webhooks = [{ url = "http://127.0.0.1:1/x", secret_file = "secret" }]
        "#;
        let config = read(text).unwrap();
        assert_eq!((config.folder, config.tokens), (Some("models".into()), Some("tokens.toml".into())));
        assert_eq!((config.limits.idle, config.limits.body), (Duration::from_secs(45), 2 << 30));
        assert_eq!(config.limits.connections, Limits::default().connections);
        let all = AllRules { defaults: config.defaults, some: config.repositories };
        let model = all.of("team/model");
        assert_eq!((model.quota, model.keep_reflog, model.anonymous_read), (Some(1 << 40), Some(7), Some(true)));
        assert_eq!((model.gc_every, model.retention.unwrap()[0].keep_last), (Some(Duration::from_secs(86_400)), 3));
        let other = all.of("team/other");
        assert_eq!((other.quota, other.gc_every, other.webhooks), (Some(5), None, None));
        assert_eq!(all.of("alone").quota, Some(100_000_000_000));
    }

    #[test]
    fn a_bucket_is_in_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serve.toml");
        fs::write(&path, "folder = \"s3://models/team\"\ntokens = \"tokens.toml\"\n").unwrap();
        let config = ServeConfig::read(&path).unwrap();
        let expected = (Some("s3://models/team".into()), Some(folder.path().join("tokens.toml")));
        assert_eq!((config.folder, config.tokens), expected);
    }

    #[test]
    fn what_is_misspelt_is_told_with_its_line() {
        for (text, line, what) in [
            ("listen = \"0.0.0.0:1\"\n\nfolders = \"x\"\n", 3, "folders"),
            ("[limits]\nidle = 30\n", 2, "30s"),
            ("[limits]\nidle = \"0s\"\n", 2, "30s"),
            ("[defaults]\nquota = \"1 XiB\"\n", 2, "500 MB"),
            ("[defaults]\nquota = \"99999999 TiB\"\n", 2, "500 MB"),
            ("[repositories.x]\nread = true\n", 2, "read"),
        ] {
            match read(text) {
                Err(ConfigError::Malformed { line: found, why, .. }) => {
                    assert_eq!(found, line, "{text}");
                    assert!(why.contains(what), "{text}: {why}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
