//! Names for other repositories.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use shard_history::{validate_path, validate_ref_name};
use shard_store::{RefUpdate, StoreError, Target};

use super::SyncProblem;
use crate::error::{RepoError, Result};
use crate::repository::{Repository, Settings};

/// What the names of remote branches begin with.
pub(crate) const REMOTES: &str = "remotes/";
/// The remote that is meant where none is named.
pub const DEFAULT_REMOTE: &str = "origin";

/// The prefix of the names that a remote's branches have here.
pub(super) fn tracking(remote: &str) -> String {
    format!("{REMOTES}{remote}/")
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a folder of this machine, or of one that is mounted here.
    Folder(PathBuf),
    /// Behind a server, at an `http://` or `https://` URL.
    Server,
    /// In a bucket, at an `s3://`, `gs://` or `az://` URL.
    Bucket,
}

impl Place {
    /// What an address leads to.
    ///
    /// # Errors
    /// [`SyncProblem::Url`] for what is no address.
    pub fn of(url: &str) -> Result<Self> {
        let refuse = |why| SyncProblem::Url { url: url.to_owned(), why };
        if url.is_empty() || url.chars().any(char::is_control) {
            return Err(refuse("is not the address of a repository").into());
        }
        match url.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Folder(path.into())),
            Some(("file", _)) => Err(refuse("a file URL begins with file:/// and the whole path").into()),
            Some(("http" | "https", rest)) => match rest.split('/').next() {
                Some("") | None => Err(refuse("names no server").into()),
                Some(server) if server.contains('@') => {
                    Err(refuse("has a name or password in it, which would be kept and shown").into())
                }
                _ => Ok(Self::Server),
            },
            Some(("s3" | "gs" | "az", rest)) => match rest.split('/').next() {
                Some("") | None => Err(refuse("names no bucket").into()),
                Some(bucket) if bucket.contains('@') => {
                    Err(refuse("has a name or password in it, which would be kept and shown").into())
                }
                _ => Ok(Self::Bucket),
            },
            Some(_) => Err(refuse("of URLs http://, https://, s3://, gs://, az:// and file:// are known").into()),
            None => Ok(Self::Folder(url.into())),
        }
    }
}

impl Repository {
    /// The repository in a folder, to exchange commits with.
    ///
    /// # Errors
    /// [`RepoError::NotARepository`]; what the store says.
    pub fn at(folder: &Path, settings: Settings) -> Result<Self> {
        match Self::open(folder, settings) {
            Err(RepoError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(RepoError::NotARepository(folder.to_owned()))
            }
            other => other,
        }
    }

    /// The remotes: their addresses by name.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub fn remotes(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.store.remotes().read()?.urls)
    }

    /// The address of a remote: of that with a name, or one that is given itself; without either that of the remote `origin`, or of
    /// the only one. The name is `None` where an address was given.
    ///
    /// # Errors
    /// [`SyncProblem::UnknownRemote`], [`SyncProblem::NoDefault`].
    pub fn remote(&self, given: Option<&str>) -> Result<(Option<String>, String)> {
        let mut urls = self.remotes()?;
        let name = match given {
            Some(given) if urls.contains_key(given) => given.to_owned(),
            Some(given) if given.contains('/') || given.starts_with('.') => return Ok((None, given.to_owned())),
            Some(given) => return Err(SyncProblem::UnknownRemote(given.to_owned()).into()),
            None if urls.contains_key(DEFAULT_REMOTE) => DEFAULT_REMOTE.to_owned(),
            None => match urls.keys().next() {
                Some(only) if urls.len() == 1 => only.clone(),
                _ => return Err(SyncProblem::NoDefault(urls.len()).into()),
            },
        };
        let url = urls.remove(&name).unwrap_or_default();
        Ok((Some(name), url))
    }

    /// Gives a name to the repository at an address. A folder that is given relative to the current one is noted in full.
    ///
    /// # Errors
    /// [`RepoError::Sync`] for a name that is not allowed or taken, and an address that is none.
    pub fn add_remote(&self, name: &str, url: &str) -> Result<String> {
        check_remote_name(name)?;
        let url = in_full(url)?;
        self.change_remotes(|urls| match urls.insert(name.to_owned(), url.clone()) {
            None => Ok(()),
            Some(_) => Err(SyncProblem::RemoteExists(name.to_owned())),
        })?;
        Ok(url)
    }

    /// Gives another address to a remote.
    ///
    /// # Errors
    /// [`RepoError::Sync`].
    pub fn set_remote_url(&self, name: &str, url: &str) -> Result<String> {
        let url = in_full(url)?;
        self.change_remotes(|urls| match urls.insert(name.to_owned(), url.clone()) {
            Some(_) => Ok(()),
            None => Err(SyncProblem::UnknownRemote(name.to_owned())),
        })?;
        Ok(url)
    }

    /// Forgets a remote, and where its branches were; gives how many those were. What was fetched stays until it is collected.
    ///
    /// # Errors
    /// [`RepoError::Sync`]; [`RepoError::Raced`].
    pub fn remove_remote(&self, name: &str) -> Result<usize> {
        let list = self.store.remotes().read()?;
        if !list.urls.contains_key(name) {
            return Err(SyncProblem::UnknownRemote(name.to_owned()).into());
        }
        if list.promises.as_deref() == Some(name) {
            return Err(SyncProblem::Promises(name.to_owned()).into());
        }
        let branches = self.store.refs().list(&tracking(name)).map_err(StoreError::from)?;
        let delete = |(name, state)| RefUpdate { name, expected: Some(state), target: Target::Deleted };
        let updates: Vec<RefUpdate> = branches.into_iter().map(delete).collect();
        if !updates.is_empty() {
            let transaction = self.store.begin("remote")?;
            self.move_or_lose(&transaction, &updates, &format!("remote: {name} removed"))?;
        }
        self.change_remotes(|urls| match urls.remove(name) {
            Some(_) => Ok(()),
            None => Err(SyncProblem::UnknownRemote(name.to_owned())),
        })?;
        Ok(updates.len())
    }

    fn change_remotes(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> std::result::Result<(), SyncProblem>,
    ) -> Result<()> {
        let remotes = self.store.remotes();
        let read = remotes.read()?;
        let mut urls = read.urls.clone();
        change(&mut urls)?;
        remotes.replace(&read, urls, read.promises.clone()).map_err(or_raced)
    }

    /// Notes that a remote has the blocks that are not here.
    pub(super) fn note_promises(&self, name: &str) -> Result<()> {
        let remotes = self.store.remotes();
        let read = remotes.read()?;
        match &read.promises {
            Some(other) if other == name => Ok(()),
            Some(other) => Err(SyncProblem::Promises(other.clone()).into()),
            None => remotes.replace(&read, read.urls.clone(), Some(name.to_owned())).map_err(or_raced),
        }
    }
}

fn or_raced(error: StoreError) -> RepoError {
    match error {
        StoreError::Backend(error) if error.is_already_exists() => SyncProblem::Raced.into(),
        error => error.into(),
    }
}

fn check_remote_name(name: &str) -> Result<()> {
    let refuse = |why| Err(SyncProblem::RemoteName { name: name.chars().take(80).collect(), why }.into());
    if name.contains('/') {
        return refuse("a slash would make it a folder");
    }
    if validate_ref_name(name).is_err() || shard_core::text::visible(name) != name {
        return refuse("branches over there are called NAME/BRANCH here, and Git would not take that");
    }
    match validate_path(name) {
        Ok(()) => Ok(()),
        Err(error) => refuse(error.reason),
    }
}

/// An address that means the same in every folder.
fn in_full(url: &str) -> Result<String> {
    match Place::of(url)? {
        Place::Server | Place::Bucket => Ok(url.trim_end_matches('/').to_owned()),
        Place::Folder(_) if url.contains("://") => Ok(url.to_owned()),
        Place::Folder(folder) => {
            let folder = std::path::absolute(&folder).map_err(RepoError::io("cannot be resolved", &folder))?;
            text_of(&folder)
        }
    }
}

fn text_of(folder: &Path) -> Result<String> {
    let why = || RepoError::Path { path: folder.to_owned(), why: "is not valid UTF-8".to_owned() };
    Ok(folder.to_str().ok_or_else(why)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_folders_servers_or_buckets() {
        for (url, folder) in
            [("file:///srv/models", "/srv/models"), ("../models", "../models"), ("/srv/a b", "/srv/a b")]
        {
            assert_eq!(Place::of(url).unwrap(), Place::Folder(folder.into()), "{url}");
        }
        for url in ["http://host", "https://host:8000/team/model"] {
            assert_eq!(Place::of(url).unwrap(), Place::Server, "{url}");
        }
        for url in ["s3://models", "gs://models/a/b", "az://models/x/"] {
            assert_eq!(Place::of(url).unwrap(), Place::Bucket, "{url}");
        }
        for url in [
            "s3://",
            "gs:///x",
            "s3://key:secret@models/x",
            "",
            "a\nb",
            "file://host/x",
            "ftp://host/x",
            "ssh://host/x",
            "http://",
            "https:///x",
            "http://me:pw@host/x",
        ] {
            assert!(matches!(Place::of(url), Err(RepoError::Sync(SyncProblem::Url { .. }))), "{url}");
        }
    }

    #[test]
    fn names_of_remotes_are_parts_of_names_of_refs() {
        assert!(check_remote_name("origin").is_ok() && check_remote_name("lab-2").is_ok());
        for name in ["", "a/b", "..", "a b", "a.lock", "-x", "con", "a\u{200b}"] {
            assert!(check_remote_name(name).is_err(), "{name:?}");
        }
    }
}
