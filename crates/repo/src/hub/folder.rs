//! Uploads of folders: every file below, in one commit.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use shard_core::Progress;
use shard_history::validate_path;

use super::commit::{CommitInfo, CommitRequest};
use super::operation::{CommitOperation, Content};
use crate::error::{RepoError, Result};
use crate::pattern::{PathFilter, Patterns};
use crate::repository::Repository;
use crate::worktree::WorkTree;

/// Where views in folders keep what they know of them: no content.
pub(super) const VIEW_FOLDER: &str = ".cache/shard";

/// What of a folder is uploaded, and where to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderUpload {
    /// The folder in the repository; the root without one.
    pub path_in_repo: Option<String>,
    /// Which files are uploaded, by their paths in the folder.
    pub filter: PathFilter,
    /// Files of the repository, by their paths below `path_in_repo`, that are deleted unless they are uploaded.
    pub delete: Vec<String>,
}

impl Repository {
    /// Uploads the files below a folder in one commit. `.git`, `.shard` and what downloads remember (`.cache/shard`) are left out;
    /// links to files are followed.
    ///
    /// # Errors
    /// As [`Self::create_commit`]; files whose names are not UTF-8; links that lead to no file; [`RepoError::NothingToDo`] where no
    /// file is meant and none is deleted.
    ///
    /// ```
    /// # use shard_core::NoProgress;
    /// # use shard_repo::{CommitRequest, FolderUpload, NewRepo, PathFilter, Repository, Settings};
    /// # let folder = tempfile::tempdir()?;
    /// # let run = folder.path().join("run");
    /// std::fs::create_dir_all(run.join("logs"))?;
    /// std::fs::write(run.join("config.json"), "{}")?;
    /// std::fs::write(run.join("logs/1.log"), "…")?;
    /// let hub = Repository::create_repo(&folder.path().join("hub"), &NewRepo::default(), Settings::default())?;
    /// let upload = FolderUpload {
    ///     path_in_repo: Some("runs/1".to_owned()),
    ///     filter: PathFilter { ignore: vec!["logs/".to_owned()], ..PathFilter::default() },
    ///     ..FolderUpload::default()
    /// };
    /// hub.upload_folder(&run, &upload, &CommitRequest::default(), &NoProgress)?;
    /// assert_eq!(hub.list_repo_files(None)?, ["runs/1/config.json"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upload_folder(
        &self,
        folder: &Path,
        upload: &FolderUpload,
        request: &CommitRequest,
        progress: &dyn Progress,
    ) -> Result<CommitInfo> {
        let prefix = match upload.path_in_repo.as_deref().map(|path| path.strip_suffix('/').unwrap_or(path)) {
            None | Some("" | ".") => String::new(),
            Some(path) => {
                validate_path(path).map_err(|error| RepoError::BadPath { path: error.path, why: error.reason })?;
                format!("{path}/")
            }
        };
        let mut operations = Vec::new();
        let mut uploaded = BTreeSet::new();
        let admits = upload.filter.admits();
        for path in files_below(folder)? {
            if admits(&path) {
                let place = folder.join(&path);
                let path = format!("{prefix}{path}");
                operations.push(CommitOperation::Add { path: path.clone(), content: Content::File(place) });
                uploaded.insert(path);
            }
        }
        if !upload.delete.is_empty() {
            let (branch, _) = self.target_branch(request.revision.as_deref())?;
            let there = match self.tip(&branch)?.1 {
                Some(tip) => self.files_of(tip)?,
                None => Default::default(),
            };
            let delete = Patterns::new(&upload.delete);
            let gone = there.files().keys().filter(|path| {
                let below = path.strip_prefix(&prefix).filter(|below| delete.match_any(below));
                below.is_some() && !uploaded.contains(*path)
            });
            // What goes makes room for what comes.
            operations.splice(0..0, gone.map(CommitOperation::delete));
        }
        if operations.is_empty() {
            return Err(RepoError::NothingToDo(format!("there is nothing to upload in {}", folder.display())));
        }
        let request = request.or_message("Upload folder".to_owned());
        self.create_commit(operations, &request, progress)
    }

    /// Uploads the files below a folder in one commit, however many and large: memory is bounded, and a commit is whole or not
    /// there. What an upload that was interrupted had stored is found again by the next.
    ///
    /// # Errors
    /// As [`Self::upload_folder`].
    pub fn upload_large_folder(
        &self,
        folder: &Path,
        filter: PathFilter,
        request: &CommitRequest,
        progress: &dyn Progress,
    ) -> Result<CommitInfo> {
        let request = request.or_message("Upload large folder".to_owned());
        let upload = FolderUpload { filter, ..FolderUpload::default() };
        self.upload_folder(folder, &upload, &request, progress)
    }
}

/// The files below a folder, by their paths in it, links to files included.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<String>> {
    let read = RepoError::io("cannot read", folder);
    if !fs::metadata(folder).map_err(read)?.is_dir() {
        return Err(RepoError::Path { path: folder.to_owned(), why: "is no folder".to_owned() });
    }
    let (found, unnameable) = WorkTree::new(folder.to_owned()).files("")?;
    if let Some(place) = unnameable.into_iter().next() {
        return Err(RepoError::Path { path: place, why: "has a name that is not valid UTF-8; rename it".to_owned() });
    }
    let below = format!("{VIEW_FOLDER}/");
    let mut paths = Vec::with_capacity(found.len());
    for file in found.into_iter().filter(|file| !file.path.starts_with(&below)) {
        let place = folder.join(&file.path);
        if file.metadata.is_symlink() && !fs::metadata(&place).is_ok_and(|target| target.is_file()) {
            return Err(RepoError::Path { path: place, why: "is a link that leads to no file".to_owned() });
        }
        paths.push(file.path);
    }
    Ok(paths)
}
