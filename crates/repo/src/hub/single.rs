//! Commits of one path.

use shard_core::{NoProgress, Progress};

use super::commit::{CommitInfo, CommitRequest};
use super::operation::{CommitOperation, Content};
use crate::error::Result;
use crate::repository::Repository;

impl Repository {
    /// Adds one file. Without a message the commit says which.
    ///
    /// # Errors
    /// As [`Self::create_commit`].
    ///
    /// ```
    /// # use shard_core::NoProgress;
    /// # use shard_repo::{CommitRequest, NewRepo, Repository, Settings};
    /// # let folder = tempfile::tempdir()?;
    /// let hub = Repository::create_repo(&folder.path().join("hub"), &NewRepo::default(), Settings::default())?;
    /// let info = hub.upload_file("notes.txt", b"some words".as_slice(), &CommitRequest::default(), &NoProgress)?;
    /// assert_eq!(info.title, "Upload notes.txt");
    /// assert_eq!(hub.read_bytes("notes.txt", None)?, b"some words");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upload_file(
        &self,
        path: &str,
        content: impl Into<Content>,
        request: &CommitRequest,
        progress: &dyn Progress,
    ) -> Result<CommitInfo> {
        let request = request.or_message(format!("Upload {path}"));
        self.create_commit(vec![CommitOperation::add(path, content)], &request, progress)
    }

    /// Deletes one file.
    ///
    /// # Errors
    /// As [`Self::create_commit`].
    pub fn delete_file(&self, path: &str, request: &CommitRequest) -> Result<CommitInfo> {
        let request = request.or_message(format!("Delete {path}"));
        self.create_commit(vec![CommitOperation::delete(path)], &request, &NoProgress)
    }

    /// Deletes a folder with everything in it.
    ///
    /// # Errors
    /// As [`Self::create_commit`].
    pub fn delete_folder(&self, path: &str, request: &CommitRequest) -> Result<CommitInfo> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let request = request.or_message(format!("Delete folder {path}"));
        self.create_commit(vec![CommitOperation::delete(format!("{path}/"))], &request, &NoProgress)
    }
}
