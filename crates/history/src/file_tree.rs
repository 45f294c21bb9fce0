//! All files of a commit by path, and the tree objects that hold them.

use std::collections::BTreeMap;

use shard_core::Digest;

use crate::error::{FetchError, HistoryError};
use crate::path::{validate_path, validate_path_length};
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
                // The names were checked as the tree was read.
                validate_path_length(&path)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::FileMode;
    use proptest::prelude::*;
    use shard_core::sha256;
    use std::collections::HashMap;

    fn file(content: &str) -> FileEntry {
        let digest = sha256(content.as_bytes());
        FileEntry { mode: FileMode::Regular, size: content.len() as u64, sha256: digest, manifest: digest }
    }

    fn tree(paths: &[&str]) -> FileTree {
        let mut tree = FileTree::new();
        for path in paths {
            assert_eq!(tree.insert(path, file(path)), Ok(None));
        }
        tree
    }

    fn load(root: &Digest, trees: &[(Digest, Vec<u8>)]) -> Result<FileTree, FetchError<Digest>> {
        let trees: HashMap<Digest, Vec<u8>> = trees.iter().cloned().collect();
        FileTree::from_trees(root, |id| trees.get(id).cloned().ok_or(*id))
    }

    #[test]
    fn trees_and_back() {
        let files = tree(&["a.txt", "a/x", "a/y/z", "a0", "b/x", "README"]);
        let (root, trees) = files.to_trees().unwrap();
        assert_eq!(root.to_hex(), "a9167a9db42ab3a73dcf88c4ad0f34b5d5acd81eea078f699a312cfa5da2d0f5");
        assert_eq!(trees.len(), 4);
        assert_eq!(trees.last().map(|(id, _)| *id), Some(root));
        assert_eq!(load(&root, &trees), Ok(files));
        assert!(matches!(load(&root, &trees[1..]), Err(FetchError::Fetch(_))));
    }

    #[test]
    fn equal_directories_are_one_tree() {
        let mut files = FileTree::new();
        for path in ["a/x", "b/x"] {
            files.insert(path, file("same")).unwrap();
        }
        let (root, trees) = files.to_trees().unwrap();
        assert_eq!(trees.len(), 2);
        assert_eq!(load(&root, &trees), Ok(files));
        assert_eq!(FileTree::new().to_trees().unwrap().1.len(), 1);
    }

    #[test]
    fn a_path_is_a_file_or_a_directory() {
        let mut files = tree(&["a/b", "c"]);
        let clash = |path: &str| Err(HistoryError::Clash(path.to_owned()));
        assert_eq!(files.insert("a", file("")), clash("a"));
        assert_eq!(files.insert("a/b/c/d", file("")), clash("a/b"));
        assert_eq!(files.insert("c/x", file("")), clash("c"));
        assert!(matches!(files.insert("../x", file("")), Err(HistoryError::Path(_))));
        assert_eq!(files.insert("c", file("new")), Ok(Some(file("c"))));
        assert_eq!(files.insert("a.b", file("")), Ok(None));
        assert!(files.is_directory("a") && files.is_directory("") && !files.is_directory("c"));
        assert_eq!(files.below("a").count(), 1);
        assert_eq!(files.below("").count(), 3);
        assert_eq!(files.remove_directory("a"), 1);
        assert!(files.remove("c").is_some() && files.remove("c").is_none());
        assert_eq!(files.files().keys().collect::<Vec<_>>(), ["a.b"]);
    }

    #[test]
    fn forged_trees_are_refused() {
        let empty = Tree::default().encode().unwrap();
        let mut forged = Tree::default();
        forged.entries.insert("a".to_owned(), TreeNode::Directory(empty.0));
        let (root, bytes) = forged.encode().unwrap();
        let error = load(&root, &[empty, (root, bytes)]).unwrap_err();
        assert_eq!(error, FetchError::Object(HistoryError::EmptyDirectory("a".to_owned())));

        // Sixty levels of two equal directories each would be 2^60 files.
        let mut trees = vec![Tree { entries: [("x".to_owned(), TreeNode::File(file("x")))].into() }.encode().unwrap()];
        for _ in 0..60 {
            let below = TreeNode::Directory(trees.last().unwrap().0);
            let both = [("a".to_owned(), below), ("b".to_owned(), below)];
            trees.push(Tree { entries: both.into() }.encode().unwrap());
        }
        // Depth first, so it is the number of entries that stops it, not the memory for what is open.
        let error = load(&trees.last().unwrap().0, &trees).unwrap_err();
        assert_eq!(error, FetchError::Object(HistoryError::TooManyEntries(MAX_ENTRIES)));

        // A fetch that answers with a tree that holds itself.
        let mut own = Tree::default();
        own.entries.insert("a".to_owned(), TreeNode::Directory(sha256(b"")));
        let bytes = own.to_bytes().unwrap();
        let error = FileTree::from_trees(&sha256(b""), |_| Ok::<_, ()>(bytes.clone())).unwrap_err();
        assert!(matches!(error, FetchError::Object(HistoryError::Path(_))), "the path becomes too long");
        let error = FileTree::from_trees(&sha256(b""), |_| Ok::<_, ()>(b"{}".to_vec())).unwrap_err();
        assert!(matches!(error, FetchError::Object(HistoryError::Object(_))));
    }

    proptest! {
        #[test]
        fn any_set_of_paths_round_trips(paths in prop::collection::btree_set("[a-c.]?[ab](/[ab.]?[a-c]){0,4}", 0..30)) {
            let mut files = FileTree::new();
            for path in &paths {
                // Paths that clash with one before are left out.
                let _ = files.insert(path, file(path));
            }
            let (root, trees) = files.to_trees().unwrap();
            prop_assert_eq!(load(&root, &trees).unwrap(), files);
        }
    }
}
