//! Reading history: the log, and what a revision has.

use std::collections::BTreeMap;
use std::sync::Arc;

use shard_core::Digest;
use shard_formats::model::INDEX_SUFFIX;
use shard_history::{Commit, FileChange, FileEntry, FileTree, Revision, TreeNode, diff_files};
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use crate::compare::Side;
use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::topic::Topic;

/// A commit with its id.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// The commit's id.
    pub id: Digest,
    /// The commit.
    pub commit: Commit,
}

impl Repository {
    /// Commits reachable from `from`, newest first and none before a commit that follows it, at most `most`; with a path, only
    /// those that changed it, as [`Self::log_of`] has it.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn log(&self, from: Digest, path: Option<&str>, most: usize) -> Result<Vec<LogEntry>> {
        self.log_of(from, &path.map_or(Topic::All, |path| Topic::Path(path.to_owned())), most)
    }

    /// A commit.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read_commit(&self, id: Digest) -> Result<Commit> {
        self.objects().commit(id)
    }

    /// Every file of a commit.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn files_of(&self, commit: Digest) -> Result<FileTree> {
        let mut objects = self.objects();
        let root = objects.commit(commit)?.tree;
        objects.file_tree(root)
    }

    /// What a commit changed against its first parent.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn changes_of(&self, commit: &Commit) -> Result<Vec<FileChange>> {
        let mut objects = self.objects();
        let before = match commit.parents.first() {
            Some(parent) => {
                let root = objects.commit(*parent)?.tree;
                objects.file_tree(root)?
            }
            None => FileTree::default(),
        };
        Ok(diff_files(&before, &objects.file_tree(commit.tree)?))
    }

    /// A content manifest.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn manifest(&self, id: Digest) -> Result<Arc<ContentManifest>> {
        self.objects().manifest(id)
    }

    /// The file that `REV:PATH` names.
    ///
    /// # Errors
    /// An unknown revision, or a path that it does not have.
    pub fn file_at(&self, revision: &Revision, path: &str) -> Result<FileEntry> {
        let commit = self.resolve_revision(revision)?;
        let mut objects = self.objects();
        let tree = objects.commit(commit)?.tree;
        match objects.lookup(tree, path)? {
            Some(TreeNode::File(entry)) => Ok(entry),
            _ => Err(RepoError::NoSuchPath { revision: revision.to_string(), path: path.to_owned() }),
        }
    }

    /// The models of a revision, by name: the files with tensors, shards of one model together, named by their path
    /// without the numbering of shards and the extension; only those at or below `path`, unless it is empty.
    ///
    /// # Errors
    /// An unknown revision, or a path that it does not have.
    pub fn models(&self, revision: &Revision, path: &str) -> Result<BTreeMap<String, Side>> {
        let commit = self.resolve_revision(revision)?;
        let below = format!("{path}/");
        let mut objects = self.objects();
        let mut models: BTreeMap<String, Vec<Arc<ContentManifest>>> = BTreeMap::new();
        let mut exists = path.is_empty();
        // An index file stands for the model that it indexes.
        let indexed = path.strip_suffix(INDEX_SUFFIX);
        for (other, entry) in self.files_of(commit)?.files() {
            if let Some(name) = indexed.filter(|name| *other != path && model_name(other) == *name) {
                models.entry(name.to_owned()).or_default().push(objects.manifest(entry.manifest)?);
                continue;
            }
            if !(path.is_empty() || other == path || other.starts_with(&below)) {
                continue;
            }
            exists = true;
            let manifest = objects.manifest(entry.manifest)?;
            if !manifest.tensors.is_empty() || (other == path && indexed.is_none()) {
                models.entry(model_name(other).to_owned()).or_default().push(manifest);
            }
        }
        if !exists {
            return Err(RepoError::NoSuchPath { revision: revision.to_string(), path: path.to_owned() });
        }
        let side = |(name, parts): (String, _)| {
            let label = format!("{revision}:{name}");
            (name, Side::stored(label, parts, Arc::new(self.store.clone()) as Arc<dyn EntrySource + Send>))
        };
        Ok(models.into_iter().map(side).collect())
    }
}

/// The name of the model that a file is (a shard of): its path without extension and without `-00001-of-00002`.
#[must_use]
pub fn model_name(path: &str) -> &str {
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let stem = match path[name_at..].rfind('.') {
        Some(dot) if dot > 0 => &path[..name_at + dot],
        _ => path,
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unnumbered = stem.rsplit_once("-of-").and_then(|(front, count)| {
        let (front, number) = front.rsplit_once('-')?;
        (is_number(number) && is_number(count)).then_some(front)
    });
    unnumbered.unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_the_name_of_their_model() {
        assert_eq!(model_name("a/model-00001-of-00002.safetensors"), "a/model");
        assert_eq!(model_name("model.safetensors"), "model");
        assert_eq!(model_name("v1.0/step-10"), "v1.0/step-10");
        assert_eq!(model_name("x-of-y.bin"), "x-of-y");
        assert_eq!(model_name(".hidden"), ".hidden");
    }
}
