//! The repositories of a server.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use shard_history::validate_path;
use shard_repo::{RepoError, Repository, Settings};

use super::reply::Failed;
use super::{App, Served, ServerOptions};

/// Repositories that are open.
pub(super) struct Repositories {
    served: Served,
    settings: Settings,
    open: Mutex<HashMap<String, Arc<Repository>>>,
}

impl Repositories {
    /// # Errors
    /// What keeps the one that is served from being opened.
    pub(super) fn new(options: &ServerOptions) -> Result<Self, RepoError> {
        let ServerOptions { served, settings, .. } = options.clone();
        let mut open = HashMap::new();
        match &served {
            Served::One(folder) => {
                open.insert(String::new(), Arc::new(Repository::open(folder, settings)?));
            }
            Served::All(folder) => {
                let problem = |source| RepoError::Io { path: folder.clone(), doing: "cannot list", source };
                std::fs::read_dir(folder).map_err(problem)?;
            }
        }
        Ok(Self { served, settings, open: Mutex::new(open) })
    }

    pub(super) fn is_one(&self) -> bool {
        matches!(self.served, Served::One(_))
    }

    /// # Errors
    /// [`RepoError::NotARepository`]; what keeps it from being opened.
    fn find(&self, name: &str) -> Result<Arc<Repository>, RepoError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = open.get(name) {
            return Ok(Arc::clone(found));
        }
        let place = match &self.served {
            Served::All(folder) => place(folder, name),
            Served::One(_) => None,
        };
        let place = place.ok_or_else(|| RepoError::NotARepository(name.into()))?;
        let found = Arc::new(Repository::open(&place, self.settings)?);
        open.insert(name.to_owned(), Arc::clone(&found));
        Ok(found)
    }
}

/// The folder of a repository by its name: only one that is below the folder itself, by no link.
fn place(folder: &Path, name: &str) -> Option<PathBuf> {
    let is_plain = validate_path(name).is_ok() && !name.split('/').any(|part| part.starts_with('.'));
    if !is_plain {
        return None;
    }
    let mut place = folder.to_owned();
    for part in name.split('/') {
        place.push(part);
        if !std::fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir()) {
            return None;
        }
    }
    Some(place)
}

/// The repository that a request is about.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) repository: Arc<Repository>,
}

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failed> {
        let params =
            RawPathParams::from_request_parts(parts, app).await.map_err(|_| Failed::malformed("the path is none"))?;
        let names =
            params.iter().filter(|(key, _)| matches!(*key, "first" | "second")).map(|(_, value)| value.to_owned());
        let name = names.collect::<Vec<String>>().join("/");
        let app = Arc::clone(app);
        super::reply::blocking(move || {
            let repository = match app.repositories.find(&name) {
                // Whatever is wrong with the path of it.
                Err(RepoError::Io { .. }) => Err(RepoError::NotARepository(PathBuf::from(&name))),
                found => found,
            }?;
            Ok(Self { name, repository })
        })
        .await
    }
}
