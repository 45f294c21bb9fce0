//! The repositories of a server, and requests about them.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::request::Parts;
use shard_history::validate_path;
use shard_repo::{RepoError, Repository, Settings};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::no_repository;
use super::config::{AllRules, RepositoryRules};
use super::observe::About;
use super::reply::Failed;
use super::stored::Stored;
use super::tokens::Scope;
use super::{App, Served};

/// Requests about a repository at once, where nothing else is said.
const REQUESTS: usize = 64;
/// What routes have after the name of a repository: no repository of a team is called so.
const ROUTES: [&str; 4] = ["-", "blocks", "manifests", "refs"];

/// Repositories that are open.
pub(super) struct Repositories {
    served: Served,
    settings: Settings,
    rules: AllRules,
    open: Mutex<HashMap<String, Arc<Open>>>,
}

/// A repository that is open.
pub(super) struct Open {
    pub(super) name: String,
    pub(super) repository: Arc<Repository>,
    pub(super) rules: RepositoryRules,
    pub(super) stored: Stored,
    requests: Arc<Semaphore>,
}

impl Repositories {
    /// # Errors
    /// What keeps the one that is served from being opened.
    pub(super) fn new(served: Served, settings: Settings, rules: AllRules) -> Result<Self, RepoError> {
        let new = Self { served, settings, rules, open: Mutex::default() };
        match &new.served {
            Served::One(_) => drop(new.find("")?),
            Served::All(folder) if in_bucket(folder).is_some() => {
                crate::bucket(in_bucket(folder).unwrap_or_default())?;
            }
            Served::All(folder) => {
                let problem = |source| RepoError::Io { path: folder.clone(), doing: "cannot list", source };
                std::fs::read_dir(folder).map_err(problem)?;
            }
        }
        Ok(new)
    }

    pub(super) fn is_one(&self) -> bool {
        matches!(self.served, Served::One(_))
    }

    pub(super) fn rules(&self) -> &AllRules {
        &self.rules
    }

    /// The names of all that are there.
    pub(super) fn names(&self) -> Vec<String> {
        let Served::All(folder) = &self.served else { return vec![String::new()] };
        let mut names = Vec::new();
        for first in names_in(folder) {
            if is_repository(&folder.join(&first)) {
                names.push(first);
                continue;
            }
            let below = names_in(&folder.join(&first)).into_iter().map(|second| format!("{first}/{second}"));
            names.extend(below.filter(|name| is_repository(&folder.join(name))));
        }
        names.retain(|name| place(folder, name).is_some());
        names
    }

    /// # Errors
    /// [`RepoError::NotARepository`]; what keeps it from being opened.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Open>, RepoError> {
        if let Some(found) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Arc::clone(found));
        }
        let place = match &self.served {
            Served::One(folder) => Some(folder.clone()),
            Served::All(folder) => place(folder, name),
        };
        let place = place.ok_or_else(|| RepoError::NotARepository(name.into()))?;
        let repository = Arc::new(crate::open(&place, self.settings)?);
        let rules = self.rules.of(name);
        let requests = Arc::new(Semaphore::new(rules.requests.unwrap_or(REQUESTS).clamp(1, Semaphore::MAX_PERMITS)));
        let stored = Stored::new(rules.quota);
        let found = Arc::new(Open { name: name.to_owned(), repository, rules, stored, requests });
        // Who opened it meanwhile has what holds for all.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(open.entry(name.to_owned()).or_insert(found)))
    }
}

/// The names of folders in a folder.
fn names_in(folder: &Path) -> Vec<String> {
    if let Some(url) = in_bucket(folder) {
        return crate::away::folders_below(url).unwrap_or_default();
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir()));
    let mut names: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn is_repository(place: &Path) -> bool {
    in_bucket(place).map_or_else(|| Repository::is_at(place), crate::away::is_repository)
}

/// The address of a bucket, where a folder is one.
fn in_bucket(folder: &Path) -> Option<&str> {
    folder.to_str().filter(|url| crate::is_bucket(url))
}

/// The folder of a repository by its name: only one that is below the folder itself, by no link.
fn place(folder: &Path, name: &str) -> Option<PathBuf> {
    let is_plain = validate_path(name).is_ok() && !name.split('/').any(|part| part.starts_with('.'));
    let is_route = name.split('/').any(|part| ROUTES.contains(&part));
    if !is_plain || is_route {
        return None;
    }
    let mut place = folder.to_owned();
    if in_bucket(folder).is_some() {
        place.push(name);
        return Some(place);
    }
    for part in name.split('/') {
        place.push(part);
        if !std::fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir()) {
            return None;
        }
    }
    Some(place)
}

/// What a route takes.
pub(super) trait Needs {
    const SCOPE: Scope;
}

/// Reading.
pub(super) struct ToRead;
/// Adding what loses nothing.
pub(super) struct ToAppend;
/// Collecting and protecting.
pub(super) struct ToAdmin;

impl Needs for ToRead {
    const SCOPE: Scope = Scope::Read;
}
impl Needs for ToAppend {
    const SCOPE: Scope = Scope::Append;
}
impl Needs for ToAdmin {
    const SCOPE: Scope = Scope::Admin;
}

/// The repository that a request is about, for who may do with it what the route takes.
pub(super) struct Asked<N> {
    pub(super) open: Arc<Open>,
    /// What they may do.
    pub(super) scope: Scope,
    /// The name of their token.
    pub(super) token: Option<String>,
    /// Held as long as the request lasts.
    _permit: OwnedSemaphorePermit,
    _needs: PhantomData<fn() -> N>,
}

impl<N: Needs> FromRequestParts<Arc<App>> for Asked<N> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failed> {
        let about = parts.extensions.get::<About>().cloned().unwrap_or_default();
        let who = app.access.who(&parts.headers)?;
        about.note(|seen| seen.token = who.name().map(str::to_owned));
        let params =
            RawPathParams::from_request_parts(parts, app).await.map_err(|_| Failed::malformed("the path is none"))?;
        let names =
            params.iter().filter(|(key, _)| matches!(*key, "first" | "second")).map(|(_, value)| value.to_owned());
        let name = names.collect::<Vec<String>>().join("/");
        // Before it is looked for: who may not know of it learns nothing from how long that takes.
        let scope = who.check(&name, &app.repositories.rules().of(&name), N::SCOPE)?;
        let (found, sought) = (Arc::clone(app), name.clone());
        let open = super::reply::blocking(move || match found.repositories.find(&sought) {
            // Whatever is wrong with the path of it.
            Err(RepoError::Io { .. } | RepoError::NoRepository(_)) => {
                Err(RepoError::NotARepository(PathBuf::from(&sought)))
            }
            found => found,
        })
        .await
        .map_err(|failed| if failed.is_not_found() { no_repository() } else { failed })?;
        about.note(|seen| seen.repository = Some(name));
        let permit = Arc::clone(&open.requests).try_acquire_owned().map_err(|_| {
            let why = "too many requests about this repository are under way: try again in a moment";
            Failed::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why)
                .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
        })?;
        Ok(Self { open, scope, token: who.name().map(str::to_owned), _permit: permit, _needs: PhantomData })
    }
}
