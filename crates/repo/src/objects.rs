//! Manifests, trees, commits and tags, read from where entries are kept.

use std::collections::HashMap;
use std::sync::Arc;

use shard_core::Digest;
use shard_history::file_tree::lookup;
use shard_history::{Commit, FetchError, FileTree, Tag, TreeNode};
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntrySource};

use crate::blocks::BlockReader;
use crate::error::{RepoError, Result};

/// Reads objects of one source and remembers the manifests it has read.
pub(crate) struct Objects<'a> {
    reader: BlockReader<'a>,
    bytes: Vec<u8>,
    manifests: HashMap<Digest, Arc<ContentManifest>>,
}

impl<'a> Objects<'a> {
    pub(crate) fn new(source: &'a dyn EntrySource) -> Self {
        Self { reader: BlockReader::new(source), bytes: Vec::new(), manifests: HashMap::new() }
    }

    /// The bytes of an object, proven by its id.
    pub(crate) fn bytes(&mut self, kind: EntryKind, id: Digest) -> Result<&[u8]> {
        self.reader.read(&EntryKey { kind, id }, &mut self.bytes)?;
        Ok(&self.bytes)
    }

    pub(crate) fn manifest(&mut self, id: Digest) -> Result<Arc<ContentManifest>> {
        if let Some(manifest) = self.manifests.get(&id) {
            return Ok(Arc::clone(manifest));
        }
        let manifest = Arc::new(self.manifest_once(id)?);
        self.manifests.insert(id, Arc::clone(&manifest));
        Ok(manifest)
    }

    /// A tree with everything below it, as a flat list of files.
    pub(crate) fn file_tree(&mut self, root: Digest) -> Result<FileTree> {
        FileTree::from_trees(&root, |id| self.bytes(EntryKind::Tree, *id).map(<[u8]>::to_vec)).map_err(|error| {
            match error {
                FetchError::Fetch(error) => error,
                FetchError::Object(source) => RepoError::History { what: "tree", id: root, source },
            }
        })
    }

    /// A manifest that is not remembered.
    pub(crate) fn manifest_once(&mut self, id: Digest) -> Result<ContentManifest> {
        let bytes = self.bytes(EntryKind::Manifest, id)?;
        ContentManifest::from_bytes(bytes).map_err(|source| RepoError::Object { what: "manifest", id, source })
    }

    /// What a tree has at a path; the empty path is the tree itself.
    pub(crate) fn lookup(&mut self, root: Digest, path: &str) -> Result<Option<TreeNode>> {
        lookup(&root, path, |id| self.bytes(EntryKind::Tree, *id).map(<[u8]>::to_vec)).map_err(|error| match error {
            FetchError::Fetch(error) => error,
            FetchError::Object(source) => RepoError::History { what: "tree", id: root, source },
        })
    }

    pub(crate) fn commit(&mut self, id: Digest) -> Result<Commit> {
        let bytes = self.bytes(EntryKind::Commit, id)?;
        Commit::from_bytes(bytes).map_err(|source| RepoError::History { what: "commit", id, source })
    }

    pub(crate) fn tag(&mut self, id: Digest) -> Result<Tag> {
        let bytes = self.bytes(EntryKind::Tag, id)?;
        Tag::from_bytes(bytes).map_err(|source| RepoError::History { what: "tag", id, source })
    }
}
