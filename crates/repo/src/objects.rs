//! Manifests, trees, commits and tags, read from where entries are kept.

use std::collections::HashMap;
use std::sync::Arc;

use shard_core::Digest;
use shard_history::{Commit, FetchError, FileEntry, FileTree, Tag, Tree, TreeNode};
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntrySource};

use crate::blocks::BlockReader;
use crate::error::{RepoError, Result};
use crate::object_cache::ObjectCache;

/// Reads objects of one source and remembers the manifests it has read.
pub(crate) struct Objects<'a> {
    reader: BlockReader<'a>,
    bytes: Vec<u8>,
    manifests: HashMap<Digest, Arc<ContentManifest>>,
    /// What was read before, by whoever.
    cache: Option<&'a ObjectCache>,
}

impl<'a> Objects<'a> {
    pub(crate) fn new(source: &'a dyn EntrySource) -> Self {
        Self { reader: BlockReader::new(source), bytes: Vec::new(), manifests: HashMap::new(), cache: None }
    }

    /// The same, where what was read before need not be read again.
    pub(crate) fn cached(source: &'a dyn EntrySource, cache: &'a ObjectCache) -> Self {
        Self { cache: Some(cache), ..Self::new(source) }
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
        let cached = self.cache.and_then(|cache| cache.manifest(id));
        let manifest = match cached {
            Some(manifest) => manifest,
            None => {
                let manifest = Arc::new(self.manifest_once(id)?);
                if let Some(cache) = self.cache {
                    cache.put_manifest(id, &manifest);
                }
                manifest
            }
        };
        self.manifests.insert(id, Arc::clone(&manifest));
        Ok(manifest)
    }

    /// The manifest of a file at a path, which must be of that file's content.
    pub(crate) fn manifest_of(&mut self, path: &str, entry: &FileEntry) -> Result<Arc<ContentManifest>> {
        let manifest = self.manifest(entry.manifest)?;
        check_manifest(path, entry, &manifest)?;
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

    /// One directory.
    pub(crate) fn tree(&mut self, id: Digest) -> Result<Arc<Tree>> {
        if let Some(tree) = self.cache.and_then(|cache| cache.tree(id)) {
            return Ok(tree);
        }
        let bytes = self.bytes(EntryKind::Tree, id)?;
        let tree = Tree::from_bytes(bytes).map_err(|source| RepoError::History { what: "tree", id, source })?;
        let tree = Arc::new(tree);
        if let Some(cache) = self.cache {
            cache.put_tree(id, &tree);
        }
        Ok(tree)
    }

    /// What a tree has at a path, with only the directories on the way read; the empty path is the tree itself.
    pub(crate) fn lookup(&mut self, root: Digest, path: &str) -> Result<Option<TreeNode>> {
        let mut node = TreeNode::Directory(root);
        for name in path.split('/').filter(|_| !path.is_empty()) {
            let TreeNode::Directory(id) = node else { return Ok(None) };
            match self.tree(id)?.entries.get(name) {
                Some(next) => node = *next,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    pub(crate) fn commit(&mut self, id: Digest) -> Result<Commit> {
        Ok(Arc::unwrap_or_clone(self.shared_commit(id)?))
    }

    pub(crate) fn shared_commit(&mut self, id: Digest) -> Result<Arc<Commit>> {
        if let Some(commit) = self.cache.and_then(|cache| cache.commit(id)) {
            return Ok(commit);
        }
        let bytes = self.bytes(EntryKind::Commit, id)?;
        let commit = Commit::from_bytes(bytes).map_err(|source| RepoError::History { what: "commit", id, source })?;
        let commit = Arc::new(commit);
        if let Some(cache) = self.cache {
            cache.put_commit(id, &commit);
        }
        Ok(commit)
    }

    pub(crate) fn tag(&mut self, id: Digest) -> Result<Tag> {
        let bytes = self.bytes(EntryKind::Tag, id)?;
        Tag::from_bytes(bytes).map_err(|source| RepoError::History { what: "tag", id, source })
    }
}

/// Checks that a manifest is of the content that a tree says: a malformed tree can name any.
pub(crate) fn check_manifest(path: &str, entry: &FileEntry, manifest: &ContentManifest) -> Result<()> {
    if manifest.size == entry.size && manifest.sha256 == entry.sha256 {
        return Ok(());
    }
    Err(RepoError::WrongFile { path: path.to_owned(), expected: entry.sha256, found: manifest.sha256 })
}
