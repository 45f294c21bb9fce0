use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;
use shard_core::sha256;

use super::*;
use crate::file_tree::FileTree;
use crate::path::case_fold_clash;
use crate::tree::FileMode;

/// Stored trees, and how often each was read.
#[derive(Default)]
struct Stored {
    trees: HashMap<Digest, Vec<u8>>,
    reads: RefCell<Vec<Digest>>,
}

impl Stored {
    fn put(&mut self, files: &FileTree) -> Digest {
        let (root, trees) = files.to_trees().unwrap();
        self.trees.extend(trees);
        root
    }

    fn fetch(&self, id: &Digest) -> Result<Tree, Digest> {
        self.reads.borrow_mut().push(*id);
        self.trees.get(id).map(|bytes| Tree::from_bytes(bytes).unwrap()).ok_or(*id)
    }

    fn files(&self, root: &Digest) -> FileTree {
        FileTree::from_trees(root, |id| self.trees.get(id).cloned().ok_or(())).unwrap()
    }
}

fn file(content: &str) -> FileEntry {
    let digest = sha256(content.as_bytes());
    FileEntry { mode: FileMode::Regular, size: content.len() as u64, sha256: digest, manifest: digest }
}

fn tree(paths: &[&str]) -> FileTree {
    let mut tree = FileTree::new();
    for path in paths {
        tree.insert(path, file(path)).unwrap();
    }
    tree
}

#[test]
fn only_directories_on_the_way_are_read_and_written() {
    let mut stored = Stored::default();
    let mut files = tree(&["a/b/c/x", "a/b/y", "a/z", "other/1", "other/deep/2", "top"]);
    let root = stored.put(&files);
    let fetch = |id: &Digest| stored.fetch(id);
    let mut edit = TreeEdit::new(Some(root), fetch).unwrap();
    edit.put("a/b/y", TreeNode::File(file("new")), fetch).unwrap();
    let (new, trees) = edit.finish(Some(root)).unwrap();
    assert_eq!((trees.len(), stored.reads.borrow().len()), (3, 3));
    files.insert("a/b/y", file("new")).unwrap();
    assert_eq!(new, files.to_trees().unwrap().0);
    stored.trees.extend(trees);
    let fetch = |id: &Digest| stored.fetch(id);
    stored.reads.borrow_mut().clear();
    let changed = changed_files(Some(root), Some(new), fetch).unwrap();
    assert_eq!(changed, [("a/b/y".to_owned(), Some(file("a/b/y")), Some(file("new")))]);
    assert_eq!(stored.reads.borrow().len(), 6, "three directories on either side");
    assert_eq!(changed_files(Some(new), Some(new), fetch), Ok(Vec::new()));
    assert_eq!(changed_files(None, Some(new), fetch).unwrap().len(), 6);
    // Nothing changed: nothing is written.
    let mut edit = TreeEdit::new(Some(root), fetch).unwrap();
    edit.put("top", TreeNode::File(file("top")), fetch).unwrap();
    assert_eq!(edit.finish(Some(root)), Ok((root, Vec::new())));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut stored = Stored::default();
    let root = stored.put(&tree(&["dir/file", "Readme", "caf\u{e9}"]));
    let fetch = |id: &Digest| stored.fetch(id);
    let mut edit = TreeEdit::new(Some(root), fetch).unwrap();
    let node = TreeNode::File(file("x"));
    let clash = |path: &str| Err(EditError::Object(HistoryError::Clash(path.to_owned())));
    assert_eq!(edit.put("dir", node, fetch), clash("dir"));
    assert_eq!(edit.put("Readme/x/y", node, fetch), clash("Readme"));
    assert_eq!(edit.put("Readme", TreeNode::Directory(root), fetch), clash("Readme"));
    for (path, at, other) in [
        ("README", "README", "Readme"),
        ("DIR/x", "DIR", "dir"),
        ("dir/FILE", "dir/FILE", "dir/file"),
        ("cafe\u{301}", "cafe\u{301}", "caf\u{e9}"),
    ] {
        let clash = EditError::CaseFold { path: at.to_owned(), other: other.to_owned() };
        assert_eq!(edit.put(path, node, fetch), Err(clash), "{path}");
    }
    for path in ["../x", "a//b", "", "/a", ".git/config", "nul", "a\\b"] {
        assert!(matches!(edit.put(path, node, fetch), Err(EditError::Object(HistoryError::Path(_)))), "{path:?}");
    }
    assert_eq!(edit.finish(Some(root)), Ok((root, Vec::new())), "refusals change nothing");
    // What has gone makes room, for another spelling and another kind.
    let mut edit = TreeEdit::new(Some(root), fetch).unwrap();
    assert!(edit.put("README", node, fetch).is_err());
    assert!(edit.remove("Readme", fetch).unwrap().is_some());
    edit.put("README", node, fetch).unwrap();
    assert!(edit.remove("dir/file", fetch).unwrap().is_some());
    assert_eq!(edit.get("dir", fetch), Ok(None));
    edit.put("dir", node, fetch).unwrap();
    assert_eq!(edit.get("dir/x", fetch), Ok(None));
    assert_eq!(edit.remove("dir/x", fetch), Ok(None));
}

#[test]
fn whole_directories_are_put_and_taken_out() {
    let mut stored = Stored::default();
    let root = stored.put(&tree(&["a/b/c", "a/d"]));
    let fetch = |id: &Digest| stored.fetch(id);
    let Some(TreeNode::Directory(a)) = stored.fetch(&root).unwrap().entries.get("a").copied() else { panic!() };
    let mut edit = TreeEdit::new(Some(root), fetch).unwrap();
    edit.put("copy/of", TreeNode::Directory(a), fetch).unwrap();
    edit.put("copy/of/b/new", TreeNode::File(file("n")), fetch).unwrap();
    assert_eq!(edit.remove("a", fetch), Ok(Some(EditedNode::Directory)));
    let (new, trees) = edit.finish(Some(root)).unwrap();
    stored.trees.extend(trees);
    let paths: Vec<String> = stored.files(&new).files().keys().cloned().collect();
    assert_eq!(paths, ["copy/of/b/c", "copy/of/b/new", "copy/of/d"]);
    let fetch = |id: &Digest| stored.fetch(id);
    let mut edit = TreeEdit::new(Some(new), fetch).unwrap();
    assert!(edit.remove("copy", fetch).unwrap().is_some());
    assert_eq!(edit.finish(Some(new)).unwrap().0, Tree::default().encode().unwrap().0);
}

proptest! {
    /// Any edits come to what the flat list of files comes to.
    #[test]
    fn edits_are_those_of_a_flat_tree(
        first in prop::collection::btree_set("[a-c](/[a-cA]){0,3}", 0..20),
        edits in prop::collection::vec(("[a-c](/[a-cA]){0,3}", 0..4u8), 0..20),
    ) {
        let mut stored = Stored::default();
        let mut files = FileTree::new();
        for path in &first {
            if case_fold_clash(files.files().keys().map(String::as_str).chain([path.as_str()])).is_none() {
                let _ = files.insert(path, file(path));
            }
        }
        let root = stored.put(&files);
        let before = files.clone();
        let fetch = |id: &Digest| stored.fetch(id);
        let mut edit = TreeEdit::new(Some(root), fetch).unwrap();
        for (number, (path, what)) in edits.iter().enumerate() {
            if *what == 0 {
                let was = files.remove(path).is_some() || files.remove_directory(path) > 0;
                prop_assert_eq!(edit.remove(path, fetch).unwrap().is_some(), was);
            } else {
                let entry = file(&number.to_string());
                let folds = case_fold_clash(files.files().keys().map(String::as_str).chain([path.as_str()])).is_some();
                let fits = !folds && files.insert(path, entry).is_ok();
                prop_assert_eq!(edit.put(path, TreeNode::File(entry), fetch).is_ok(), fits, "{}", path);
            }
        }
        let (new, trees) = edit.finish(Some(root)).unwrap();
        prop_assert_eq!(new, files.to_trees().unwrap().0);
        stored.trees.extend(trees);
        let fetch = |id: &Digest| stored.fetch(id);
        let mut changed = changed_files(Some(root), Some(new), fetch).unwrap();
        changed.sort_by(|a, b| a.0.cmp(&b.0));
        let paths: Vec<String> = changed.iter().map(|(path, _, _)| path.clone()).collect();
        let expected: Vec<String> =
            crate::diff::diff_files(&before, &files).iter().map(|change| change.path().to_owned()).collect();
        prop_assert_eq!(paths, expected);
    }
}
