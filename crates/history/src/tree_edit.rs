//! Changing a few paths of a tree without reading the others: only the directories on the way to them are read and written.

use std::collections::{BTreeMap, HashMap};

use shard_core::Digest;
use thiserror::Error;

use crate::error::HistoryError;
use crate::file_tree::{EncodedTrees, MAX_ENTRIES};
use crate::path::{PathError, fold, validate_path};
use crate::tree::{FileEntry, Tree, TreeNode};

/// A change that cannot be made to a tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError<E> {
    /// What the caller's closure said.
    #[error(transparent)]
    Fetch(E),
    /// A path that cannot be kept, or a directory over a limit.
    #[error("{0}")]
    Object(HistoryError),
    /// Another path that some file systems take for the same.
    #[error("{path:?} could not be told from {other:?} on every system")]
    CaseFold {
        /// The new path.
        path: String,
        /// The path that is there.
        other: String,
    },
}

impl<E> From<HistoryError> for EditError<E> {
    fn from(error: HistoryError) -> Self {
        Self::Object(error)
    }
}

impl<E> From<PathError> for EditError<E> {
    fn from(error: PathError) -> Self {
        Self::Object(error.into())
    }
}

/// What a path of a tree that is being changed stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditedNode {
    /// A file.
    File(FileEntry),
    /// A directory.
    Directory,
}

/// A directory that was read.
#[derive(Debug, Default)]
struct Open {
    /// Directories in it that are open as well have any id.
    tree: Tree,
    is_changed: bool,
    /// Its names as [`fold`] has them, once they are needed.
    folded: Option<HashMap<String, String>>,
}

impl Open {
    /// Takes in a name, unless a file system may take it for another one.
    fn admit(&mut self, name: &str) -> Result<(), String> {
        if self.tree.entries.contains_key(name) {
            return Ok(());
        }
        let names = &self.tree.entries;
        let folded = self.folded.get_or_insert_with(|| names.keys().map(|name| (fold(name), name.clone())).collect());
        let key = fold(name);
        match folded.get(&key) {
            // A name that has gone makes room.
            Some(other) if names.contains_key(other) => return Err(other.clone()),
            _ => folded.insert(key, name.to_owned()),
        };
        Ok(())
    }
}

/// A tree that is being changed. `fetch` gives the stored tree with an id.
#[derive(Debug)]
pub struct TreeEdit {
    /// Directories that were read, by path; those above each are among them.
    open: BTreeMap<String, Open>,
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

impl TreeEdit {
    /// Begins with a stored tree, or with an empty one.
    ///
    /// # Errors
    /// What `fetch` says.
    pub fn new<E>(root: Option<Digest>, mut fetch: impl FnMut(&Digest) -> Result<Tree, E>) -> Result<Self, E> {
        let tree = root.map(|root| fetch(&root)).transpose()?.unwrap_or_default();
        let open = Open { tree, is_changed: root.is_none(), folded: None };
        Ok(Self { open: [(String::new(), open)].into() })
    }

    /// Opens the directories down to `directory`; gives whether it is there. With `make` those that are missing are made.
    fn enter<E>(
        &mut self,
        directory: &str,
        make: bool,
        fetch: &mut impl FnMut(&Digest) -> Result<Tree, E>,
    ) -> Result<bool, EditError<E>> {
        if self.open.contains_key(directory) {
            return Ok(true);
        }
        let ends = directory.match_indices('/').map(|(at, _)| at).chain([directory.len()]);
        for path in ends.filter_map(|end| directory.get(..end)) {
            if self.open.contains_key(path) {
                continue;
            }
            let (above, name) = split(path);
            let Some(parent) = self.open.get_mut(above) else { return Ok(false) };
            let opened = match parent.tree.entries.get(name) {
                Some(TreeNode::Directory(id)) => {
                    Open { tree: fetch(id).map_err(EditError::Fetch)?, is_changed: false, folded: None }
                }
                Some(TreeNode::File(_)) if make => return Err(HistoryError::Clash(path.to_owned()).into()),
                None if make => {
                    parent
                        .admit(name)
                        .map_err(|other| EditError::CaseFold { path: path.to_owned(), other: join(above, &other) })?;
                    parent.tree.entries.insert(name.to_owned(), TreeNode::Directory(Digest([0; 32])));
                    parent.is_changed = true;
                    Open { is_changed: true, ..Open::default() }
                }
                _ => return Ok(false),
            };
            self.open.insert(path.to_owned(), opened);
        }
        Ok(true)
    }

    /// What a path stands for now.
    ///
    /// # Errors
    /// What `fetch` says.
    pub fn get<E>(
        &mut self,
        path: &str,
        mut fetch: impl FnMut(&Digest) -> Result<Tree, E>,
    ) -> Result<Option<EditedNode>, EditError<E>> {
        let (directory, name) = split(path);
        if path.is_empty() {
            return Ok(Some(EditedNode::Directory));
        }
        if !self.enter(directory, false, &mut fetch)? {
            return Ok(None);
        }
        let node = self.open.get(directory).and_then(|open| open.tree.entries.get(name));
        Ok(node.map(|node| match node {
            TreeNode::File(file) => EditedNode::File(*file),
            TreeNode::Directory(_) => EditedNode::Directory,
        }))
    }

    /// Puts a file, or a whole stored directory, at a path. A file may take the place of a file; a directory only of nothing.
    ///
    /// # Errors
    /// [`HistoryError::Path`] for a path that is not valid, [`HistoryError::Clash`] where one is a file and a directory,
    /// [`EditError::CaseFold`], [`HistoryError::TooManyEntries`] in one directory; what `fetch` says.
    pub fn put<E>(
        &mut self,
        path: &str,
        node: TreeNode,
        mut fetch: impl FnMut(&Digest) -> Result<Tree, E>,
    ) -> Result<(), EditError<E>> {
        validate_path(path)?;
        let (directory, name) = split(path);
        // Looked at first, so that a refusal leaves no empty directories.
        if let Some(there) = self.get(path, &mut fetch)?
            && !matches!((there, node), (EditedNode::File(_), TreeNode::File(_)))
        {
            return Err(HistoryError::Clash(path.to_owned()).into());
        }
        self.enter(directory, true, &mut fetch)?;
        let Some(open) = self.open.get_mut(directory) else { return Ok(()) };
        open.admit(name)
            .map_err(|other| EditError::CaseFold { path: path.to_owned(), other: join(directory, &other) })?;
        if open.tree.entries.len() >= MAX_ENTRIES {
            return Err(HistoryError::TooManyEntries(MAX_ENTRIES).into());
        }
        if open.tree.entries.get(name) != Some(&node) {
            open.tree.entries.insert(name.to_owned(), node);
            open.is_changed = true;
        }
        Ok(())
    }

    /// Takes out the file or the directory at a path, and directories that this leaves empty. Gives what was there.
    ///
    /// # Errors
    /// What `fetch` says.
    pub fn remove<E>(
        &mut self,
        path: &str,
        fetch: impl FnMut(&Digest) -> Result<Tree, E>,
    ) -> Result<Option<EditedNode>, EditError<E>> {
        let found = self.get(path, fetch)?;
        if found.is_none() || path.is_empty() {
            return Ok(found);
        }
        let below = format!("{path}/");
        self.open.remove(path);
        let inside: Vec<String> = self.open.range(below.clone()..).map(|(path, _)| path.clone()).collect();
        for open in inside.iter().take_while(|open| open.starts_with(&below)) {
            self.open.remove(open);
        }
        let mut at = path;
        loop {
            let (directory, name) = split(at);
            let Some(open) = self.open.get_mut(directory) else { break };
            open.tree.entries.remove(name);
            open.is_changed = true;
            if directory.is_empty() || !open.tree.entries.is_empty() {
                break;
            }
            self.open.remove(directory);
            at = directory;
        }
        Ok(found)
    }

    /// The root's id, and the id and bytes of every directory that changed, a tree after those in it; `unchanged` is the id of the
    /// tree that it all began with.
    ///
    /// # Errors
    /// [`HistoryError`] for a directory over the limits of canonical JSON.
    pub fn finish(mut self, unchanged: Option<Digest>) -> Result<EncodedTrees, HistoryError> {
        let mut trees = Vec::new();
        // Paths of directories sort before those in them, so the last one is open for itself.
        while let Some((path, open)) = self.open.pop_last() {
            if !open.is_changed {
                if let (true, Some(root)) = (path.is_empty(), unchanged) {
                    return Ok((root, trees));
                }
                continue;
            }
            let (id, bytes) = open.tree.encode()?;
            trees.push((id, bytes));
            if path.is_empty() {
                return Ok((id, trees));
            }
            let (directory, name) = split(&path);
            if let Some(parent) = self.open.get_mut(directory) {
                let before = parent.tree.entries.insert(name.to_owned(), TreeNode::Directory(id));
                parent.is_changed |= before != Some(TreeNode::Directory(id));
            }
        }
        let (id, bytes) = Tree::default().encode()?;
        trees.push((id, bytes));
        Ok((id, trees))
    }
}

/// A file that two trees have differently: its path, and what it is in each.
pub type ChangedFile = (String, Option<FileEntry>, Option<FileEntry>);

/// The files that differ between two trees, in no order. Directories that are the same in both are not read.
///
/// # Errors
/// What `fetch` says.
pub fn changed_files<E>(
    before: Option<Digest>,
    after: Option<Digest>,
    mut fetch: impl FnMut(&Digest) -> Result<Tree, E>,
) -> Result<Vec<ChangedFile>, E> {
    let mut changed = Vec::new();
    let mut open = vec![(String::new(), before, after)];
    while let Some((directory, before, after)) = open.pop() {
        if before == after {
            continue;
        }
        let mut read = |id: Option<Digest>| id.map(|id| fetch(&id)).transpose().map(Option::unwrap_or_default);
        let (mut old, new) = (read(before)?, read(after)?);
        let mut pair = |name: &str, old: Option<TreeNode>, new: Option<TreeNode>| {
            let parts = |node| match node {
                Some(TreeNode::File(file)) => (Some(file), None),
                Some(TreeNode::Directory(id)) => (None, Some(id)),
                None => (None, None),
            };
            let ((old_file, old_tree), (new_file, new_tree)) = (parts(old), parts(new));
            let path = join(&directory, name);
            if old_tree != new_tree {
                open.push((path.clone(), old_tree, new_tree));
            }
            if old_file != new_file {
                changed.push((path, old_file, new_file));
            }
        };
        for (name, node) in &new.entries {
            pair(name, old.entries.remove(name), Some(*node));
        }
        for (name, node) in &old.entries {
            pair(name, Some(*node), None);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests;
