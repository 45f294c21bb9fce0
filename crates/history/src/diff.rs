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
