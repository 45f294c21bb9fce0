//! What changed between two trees of files.

use std::collections::BTreeMap;

use shard_core::Digest;

use crate::file_tree::FileTree;
use crate::similarity::Pairing;
use crate::tree::FileEntry;

/// A file that is not the same on both sides. Content is equal exactly when its SHA-256 is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChange {
    /// Only on the new side.
    Added {
        /// The path.
        path: String,
        /// The file.
        new: FileEntry,
    },
    /// Only on the old side.
    Removed {
        /// The path.
        path: String,
        /// The file.
        old: FileEntry,
    },
    /// Other content at the same path; the mode may differ too.
    Modified {
        /// The path.
        path: String,
        /// The file before.
        old: FileEntry,
        /// The file after.
        new: FileEntry,
    },
    /// The same content at the same path with another mode.
    ModeChanged {
        /// The path.
        path: String,
        /// The file before.
        old: FileEntry,
        /// The file after.
        new: FileEntry,
    },
    /// The same content at another path; the mode may differ too.
    Renamed {
        /// The path before.
        from: String,
        /// The path after.
        path: String,
        /// The file before.
        old: FileEntry,
        /// The file after.
        new: FileEntry,
    },
}

impl FileChange {
    /// The path on the new side, or the old one of a removed file.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Added { path, .. }
            | Self::Removed { path, .. }
            | Self::Modified { path, .. }
            | Self::ModeChanged { path, .. }
            | Self::Renamed { path, .. } => path,
        }
    }

    /// The file on the old side.
    #[must_use]
    pub fn old(&self) -> Option<&FileEntry> {
        match self {
            Self::Added { .. } => None,
            Self::Removed { old, .. }
            | Self::Modified { old, .. }
            | Self::ModeChanged { old, .. }
            | Self::Renamed { old, .. } => Some(old),
        }
    }

    /// The file on the new side.
    #[must_use]
    pub fn new_entry(&self) -> Option<&FileEntry> {
        match self {
            Self::Removed { .. } => None,
            Self::Added { new, .. }
            | Self::Modified { new, .. }
            | Self::ModeChanged { new, .. }
            | Self::Renamed { new, .. } => Some(new),
        }
    }

    /// The letter that Git's short status has for it.
    #[must_use]
    pub fn letter(&self) -> char {
        match self {
            Self::Added { .. } => 'A',
            Self::Removed { .. } => 'D',
            Self::Modified { .. } => 'M',
            Self::ModeChanged { .. } => 'T',
            Self::Renamed { .. } => 'R',
        }
    }
}

/// The changes from one tree to another, sorted by path.
///
/// A file that is gone and one that is new with the same content are a rename, one to one; among several the paths that are
/// most alike. Empty files are never renamed: they have nothing to tell them by.
#[must_use]
pub fn diff_files(old: &FileTree, new: &FileTree) -> Vec<FileChange> {
    let mut changes = Vec::new();
    let mut removed: Vec<(&String, &FileEntry)> = Vec::new();
    let mut added: Vec<(&String, &FileEntry)> = Vec::new();
    for (path, before) in old.files() {
        match new.get(path) {
            None => removed.push((path, before)),
            Some(after) => {
                let (path, old, new) = (path.clone(), *before, *after);
                if old.sha256 != new.sha256 {
                    changes.push(FileChange::Modified { path, old, new });
                } else if old.mode != new.mode {
                    changes.push(FileChange::ModeChanged { path, old, new });
                }
            }
        }
    }
    added.extend(new.files().iter().filter(|(path, _)| old.get(path).is_none()));

    type Group<'a> = (Vec<(usize, &'a str)>, Vec<(usize, &'a str)>);
    let mut groups: BTreeMap<Digest, Group<'_>> = BTreeMap::new();
    for (index, (path, entry)) in removed.iter().enumerate().filter(|(_, (_, entry))| entry.size > 0) {
        groups.entry(entry.sha256).or_default().0.push((index, path));
    }
    for (index, (path, entry)) in added.iter().enumerate() {
        if let Some(group) = groups.get_mut(&entry.sha256) {
            group.1.push((index, path));
        }
    }
    let mut pairing = Pairing::new();
    let mut renamed_from = vec![None; added.len()];
    let mut gone = vec![true; removed.len()];
    for (from, to) in groups.values().flat_map(|(old, new)| pairing.pair(old, new)) {
        if let (Some(source), Some(target)) = (gone.get_mut(from), renamed_from.get_mut(to)) {
            *source = false;
            *target = removed.get(from);
        }
    }
    for ((path, entry), from) in added.into_iter().zip(renamed_from) {
        let (path, new) = (path.clone(), *entry);
        changes.push(match from {
            Some((from, old)) => FileChange::Renamed { from: (*from).clone(), path, old: **old, new },
            None => FileChange::Added { path, new },
        });
    }
    let gone = removed.into_iter().zip(gone).filter(|(_, gone)| *gone);
    changes.extend(gone.map(|((path, entry), _)| FileChange::Removed { path: path.clone(), old: *entry }));
    changes.sort_by(|a, b| a.path().cmp(b.path()));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::FileMode;
    use proptest::prelude::*;
    use shard_core::sha256;

    fn file(content: &str, mode: FileMode) -> FileEntry {
        let (sha256, manifest) = (sha256(content.as_bytes()), sha256(format!("{content}, parsed").as_bytes()));
        FileEntry { mode, size: content.len() as u64, sha256, manifest }
    }

    fn tree(files: &[(&str, &str)]) -> FileTree {
        let mut tree = FileTree::new();
        for (path, content) in files {
            let (content, mode) = match content.strip_suffix('*') {
                Some(content) => (content, FileMode::Executable),
                None => (*content, FileMode::Regular),
            };
            tree.insert(path, file(content, mode)).unwrap();
        }
        tree
    }

    fn summary(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        let changes = diff_files(&tree(old), &tree(new));
        let line = |change: &FileChange| match change {
            FileChange::Renamed { from, path, .. } => format!("R {from} {path}"),
            other => format!("{} {}", other.letter(), other.path()),
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn every_kind_of_change() {
        let old = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5"), ("f", "6")];
        let new = [("a", "1"), ("b", "2x"), ("c", "3*"), ("x/d", "4*"), ("f", "6y*"), ("g", "7")];
        assert_eq!(summary(&old, &new), ["M b", "T c", "D e", "M f", "A g", "R d x/d"]);
    }

    #[test]
    fn files_are_equal_when_their_content_is() {
        let (old, mut new) = (tree(&[("a", "1")]), FileTree::new());
        let reparsed = FileEntry { manifest: sha256(b"another parser"), ..file("1", FileMode::Regular) };
        new.insert("a", reparsed).unwrap();
        assert_eq!(diff_files(&old, &new), []);
    }

    #[test]
    fn renames_are_one_to_one() {
        let old = [("run/step1/model.bin", "w"), ("run/step2/model.bin", "w")];
        let new = [("runs/step2/model.bin", "w"), ("runs/step1/model.bin", "w"), ("copy", "w")];
        assert_eq!(
            summary(&old, &new),
            ["A copy", "R run/step1/model.bin runs/step1/model.bin", "R run/step2/model.bin runs/step2/model.bin"]
        );
        assert_eq!(summary(&[("a", "w"), ("b", "w")], &[("c", "w")]).len(), 2);
        assert_eq!(summary(&[("a", "")], &[("b", "")]), ["D a", "A b"], "empty files are all alike");
    }

    proptest! {
        #[test]
        fn every_file_is_accounted_for(
            old in prop::collection::btree_map("[a-e]", "[x-z]{0,1}[*]?", 0..5),
            new in prop::collection::btree_map("[a-e]", "[x-z]{0,1}[*]?", 0..5),
        ) {
            let files = |map: &BTreeMap<String, String>| {
                tree(&map.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect::<Vec<_>>())
            };
            let (old, new) = (files(&old), files(&new));
            let changes = diff_files(&old, &new);
            prop_assert!(changes.is_sorted_by(|a, b| a.path() <= b.path()));
            // Applying the changes to the old tree gives the new one.
            let mut applied = old.clone();
            for change in &changes {
                match change {
                    FileChange::Removed { path, old } | FileChange::Renamed { from: path, old, .. } => {
                        prop_assert_eq!(applied.remove(path), Some(*old));
                    }
                    _ => {}
                }
            }
            for change in &changes {
                if let Some(entry) = change.new_entry() {
                    applied.insert(change.path(), *entry).unwrap();
                }
            }
            prop_assert_eq!(applied, new);
        }
    }
}
