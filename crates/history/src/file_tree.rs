//! All files of a commit by path, and the tree objects that hold them.

use std::collections::BTreeMap;

use shard_core::Digest;

use crate::error::{FetchError, HistoryError};
use crate::path::validate_path;
use crate::tree::{FileEntry, Tree, TreeNode};

/// Most files and directories that one tree may hold, all levels together. Trees that name the same subtree again and again
/// could otherwise stand for more files than there is memory.
pub const MAX_ENTRIES: usize = 1 << 20;

/// Files by path. Paths are valid, and none is both a file and a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileTree {
    files: BTreeMap<String, FileEntry>,
}

/// A root tree's id, and the id and bytes of each tree below it.
pub type EncodedTrees = (Digest, Vec<(Digest, Vec<u8>)>);

impl FileTree {
    /// A tree without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The files, by path, in the order of their bytes.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, FileEntry> {
        &self.files
    }

    /// The file at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&FileEntry> {
        self.files.get(path)
    }

    /// The files below a directory (all files for an empty path), in order.
    pub fn below<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a String, &'a FileEntry)> + 'a {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        self.files.range(prefix.clone()..).take_while(move |(path, _)| path.starts_with(&prefix))
    }

    /// Whether files lie below that path.
    #[must_use]
    pub fn is_directory(&self, path: &str) -> bool {
        self.below(path).next().is_some()
    }

    /// Puts a file at a path, in place of the file that was there.
    ///
    /// # Errors
    /// [`HistoryError::Path`] for a path that is not valid, [`HistoryError::Clash`] where it is a directory or goes through a
    /// file, [`HistoryError::TooManyEntries`].
    pub fn insert(&mut self, path: &str, entry: FileEntry) -> Result<Option<FileEntry>, HistoryError> {
        validate_path(path)?;
        let through = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        if let Some(file) = through.into_iter().find(|prefix| self.files.contains_key(*prefix)) {
            return Err(HistoryError::Clash(file.to_owned()));
        }
        if self.is_directory(path) {
            return Err(HistoryError::Clash(path.to_owned()));
        }
        let replaced = self.files.insert(path.to_owned(), entry);
        if self.files.len() > MAX_ENTRIES {
            self.files.remove(path);
            return Err(HistoryError::TooManyEntries(MAX_ENTRIES));
        }
        Ok(replaced)
    }

    /// Takes a file out.
    pub fn remove(&mut self, path: &str) -> Option<FileEntry> {
        self.files.remove(path)
    }

    /// Takes all files below a directory out, and says how many there were.
    pub fn remove_directory(&mut self, directory: &str) -> usize {
        let paths: Vec<String> = self.below(directory).map(|(path, _)| path.clone()).collect();
        for path in &paths {
            self.files.remove(path);
        }
        paths.len()
    }

    /// Reads all trees from a root on. `fetch` returns the decoded bytes of the tree with that id.
    ///
    /// # Errors
    /// What `fetch` says, or [`HistoryError`] for a tree that is malformed, too deep, too large, or empty below the root.
    pub fn from_trees<E>(
        root: &Digest,
        mut fetch: impl FnMut(&Digest) -> Result<Vec<u8>, E>,
    ) -> Result<Self, FetchError<E>> {
        let mut files = BTreeMap::new();
        let mut open = vec![(String::new(), *root)];
        let mut entries = 0usize;
        while let Some((directory, id)) = open.pop() {
            let tree = Tree::from_bytes(&fetch(&id).map_err(FetchError::Fetch)?)?;
            if tree.entries.is_empty() && !directory.is_empty() {
                return Err(HistoryError::EmptyDirectory(directory).into());
            }
            entries = entries.saturating_add(tree.entries.len());
            if entries > MAX_ENTRIES {
                return Err(HistoryError::TooManyEntries(MAX_ENTRIES).into());
            }
            for (name, node) in tree.entries {
                let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                validate_path(&path)?;
                match node {
                    TreeNode::File(file) => {
                        files.insert(path, file);
                    }
                    TreeNode::Directory(tree) => open.push((path, tree)),
                }
            }
        }
        Ok(Self { files })
    }

    /// The tree objects: the root's id, and the id and bytes of every tree, each once, a tree after the trees in it.
    ///
    /// # Errors
    /// [`HistoryError`] for a directory over the limits of canonical JSON.
    pub fn to_trees(&self) -> Result<EncodedTrees, HistoryError> {
        let mut trees: Vec<(Digest, Vec<u8>)> = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        let mut close = |tree: &Tree| -> Result<Digest, HistoryError> {
            let (id, bytes) = tree.encode()?;
            if known.insert(id) {
                trees.push((id, bytes));
            }
            Ok(id)
        };
        // Open directories from the root down: paths with a common directory follow one another.
        let mut root = Tree::default();
        let mut open: Vec<(&str, Tree)> = Vec::new();
        for (path, file) in &self.files {
            let mut names: Vec<&str> = path.split('/').collect();
            let Some(name) = names.pop() else { continue };
            let common = open.iter().zip(&names).take_while(|((open, _), name)| open == *name).count();
            fold(&mut root, &mut open, common, &mut close)?;
            open.extend(names.iter().skip(common).map(|name| (*name, Tree::default())));
            let directory = open.last_mut().map_or(&mut root, |(_, tree)| tree);
            directory.entries.insert(name.to_owned(), TreeNode::File(*file));
        }
        fold(&mut root, &mut open, 0, &mut close)?;
        let id = close(&root)?;
        Ok((id, trees))
    }
}

/// Closes open directories until `keep` are left, each into the one around it.
fn fold(
    root: &mut Tree,
    open: &mut Vec<(&str, Tree)>,
    keep: usize,
    close: &mut impl FnMut(&Tree) -> Result<Digest, HistoryError>,
) -> Result<(), HistoryError> {
    while open.len() > keep {
        let Some((name, tree)) = open.pop() else { break };
        let id = close(&tree)?;
        let parent = open.last_mut().map_or(&mut *root, |(_, tree)| tree);
        parent.entries.insert(name.to_owned(), TreeNode::Directory(id));
    }
    Ok(())
}

/// Finds one path from a root tree, reading only the trees on the way; the empty path is the root itself.
///
/// # Errors
/// What `fetch` says, or [`HistoryError`] for a malformed tree.
pub fn lookup<E>(
    root: &Digest,
    path: &str,
    mut fetch: impl FnMut(&Digest) -> Result<Vec<u8>, E>,
) -> Result<Option<TreeNode>, FetchError<E>> {
    let mut node = TreeNode::Directory(*root);
    for name in path.split('/').filter(|_| !path.is_empty()) {
        let TreeNode::Directory(id) = node else { return Ok(None) };
        let mut tree = Tree::from_bytes(&fetch(&id).map_err(FetchError::Fetch)?)?;
        match tree.entries.remove(name) {
            Some(next) => node = next,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}
