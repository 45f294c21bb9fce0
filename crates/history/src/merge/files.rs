//! Three-way merge of trees of files, path by path.
//!
//! A path is taken from the side that changed it. Content (SHA-256) and mode are merged apart, so that a file made executable
//! on one side and changed on the other is both. Renames are not followed: a file is what is at its path.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::diff::{FileChange, diff_files};
use crate::error::HistoryError;
use crate::file_tree::FileTree;
use crate::merge::{Merge, Side};
use crate::path::fold;
use crate::tree::{FileEntry, FileMode};

/// Why both sides cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConflictKind {
    /// Both sides added it, with different content.
    AddAdd,
    /// One side deleted it, the other changed it.
    DeleteModify,
    /// Both sides changed the content.
    ModifyModify,
    /// Both sides agree on the content, or only one changed it, but they differ in what the file is (a file, an executable
    /// file, a symbolic link).
    Mode,
    /// A file on one side, and a directory on the other.
    FileDirectory,
    /// A path of each side that some file systems take for one: where case is ignored, or how characters are composed (NFC, NFD).
    CaseFold,
}

impl ConflictKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::AddAdd, Self::DeleteModify, Self::ModifyModify, Self::Mode, Self::FileDirectory, Self::CaseFold];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddAdd => "add/add",
            Self::DeleteModify => "delete/modify",
            Self::ModifyModify => "modify/modify",
            Self::Mode => "mode",
            Self::FileDirectory => "file/directory",
            Self::CaseFold => "case-fold",
        }
    }
}

/// A path that someone has to decide about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConflict {
    /// The path of a file on at least one side.
    pub path: String,
    /// Why.
    pub kind: ConflictKind,
    /// What is at the path; where it is `None` there is no file.
    pub entries: Merge<Option<FileEntry>>,
    /// The other path that has to do with it: where a deleted file went, if it was renamed; the first file below a directory
    /// that is a file on the other side; the path that is the same where case and composition are ignored, or the first file of that
    /// directory.
    pub related_path: Option<String>,
}

/// What became of two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMerge {
    /// The files that merged. Paths in conflict are not in it: it and a decision about each of them are the result.
    pub tree: FileTree,
    /// Paths in conflict, sorted, each once.
    pub conflicts: Vec<FileConflict>,
}

/// Merges two trees that both come from `base`, which is empty for histories that share nothing.
///
/// Seen from the other side the result is the same, but for manifests: of two files with the same content, ours is kept
/// whatever parser cut them. Where a path has several conflicts, file/directory comes first and case-fold last. Paths that
/// clash by case on one side alone are left as they are.
///
/// # Errors
/// [`HistoryError::TooManyEntries`] where both sides together have more files than a tree holds.
pub fn merge_files(sides: Merge<&FileTree>) -> Result<FileMerge, HistoryError> {
    let mut outcome = Outcome { sides, merged: BTreeMap::new(), conflicts: BTreeMap::new() };
    let all = [sides.base, sides.ours, sides.theirs].into_iter().flat_map(|tree| tree.files().keys());
    for path in all.map(String::as_str).collect::<BTreeSet<_>>() {
        match merge_entries(sides.map(|tree| tree.get(path))) {
            Ok(None) => {}
            Ok(Some(entry)) => drop(outcome.merged.insert(path, entry)),
            Err(kind) => outcome.refuse(path, kind, None),
        }
    }
    outcome.name_renames();
    outcome.find_directories();
    outcome.find_case_clashes();

    let mut tree = sides.ours.clone();
    for path in sides.ours.files().keys().filter(|path| !outcome.merged.contains_key(path.as_str())) {
        tree.remove(path);
    }
    for (path, entry) in outcome.merged {
        if tree.get(path) != Some(&entry) {
            tree.insert(path, entry)?;
        }
    }
    Ok(FileMerge { tree, conflicts: outcome.conflicts.into_values().collect() })
}

/// The file at a path, if there is one.
fn merge_entries(entries: Merge<Option<&FileEntry>>) -> Result<Option<FileEntry>, ConflictKind> {
    let identity = entries.map(|entry| entry.map(|entry| (entry.sha256, entry.mode)));
    if let Some(side) = identity.changed().side() {
        return Ok(entries.side(side).copied());
    }
    match (entries.base, entries.ours, entries.theirs) {
        (None, Some(ours), Some(theirs)) if ours.sha256 == theirs.sha256 => Err(ConflictKind::Mode),
        (None, ..) => Err(ConflictKind::AddAdd),
        (Some(base), Some(ours), Some(theirs)) => {
            let files = Merge { base, ours, theirs };
            let modes = files.map(|file| file.mode);
            // The content of a symbolic link is its target, which is no content for a file.
            let has_link = [modes.base, modes.ours, modes.theirs].contains(&FileMode::Symlink);
            match (files.map(|file| file.sha256).changed().side(), modes.resolve()) {
                (None, _) => Err(ConflictKind::ModifyModify),
                (Some(side), Ok(mode)) if !has_link => Ok(Some(FileEntry { mode, ..**files.side(side) })),
                _ => Err(ConflictKind::Mode),
            }
        }
        _ => Err(ConflictKind::DeleteModify),
    }
}

/// A merge under way. A path is merged, in conflict, or gone.
struct Outcome<'a> {
    sides: Merge<&'a FileTree>,
    merged: BTreeMap<&'a str, FileEntry>,
    conflicts: BTreeMap<&'a str, FileConflict>,
}

/// The spellings of one path or directory, where case is ignored.
#[derive(Default)]
struct Spellings<'a> {
    /// Of each spelling the first file: the path itself, or one below it.
    first: BTreeMap<&'a str, &'a str>,
    /// The first spelling that only that side has.
    alone: [Option<&'a str>; 2],
}

impl<'a> Outcome<'a> {
    fn refuse(&mut self, path: &'a str, kind: ConflictKind, related: Option<&str>) {
        self.merged.remove(path);
        let entries = self.sides.map(|tree| tree.get(path).copied());
        let related_path = related.map(str::to_owned);
        self.conflicts.insert(path, FileConflict { path: path.to_owned(), kind, entries, related_path });
    }

    /// Paths at which there is a file, or a conflict about one.
    fn live(&self) -> BTreeSet<&'a str> {
        self.merged.keys().chain(self.conflicts.keys()).copied().collect()
    }

    /// Says where files in conflict went that one side deleted.
    fn name_renames(&mut self) {
        for side in Side::ALL {
            let is_gone = |conflict: &FileConflict| {
                conflict.kind == ConflictKind::DeleteModify && conflict.entries.side(side).is_none()
            };
            if !self.conflicts.values().any(is_gone) {
                continue;
            }
            for change in diff_files(self.sides.base, self.sides.side(side)) {
                let FileChange::Renamed { from, path, .. } = change else { continue };
                if let Some(conflict) = self.conflicts.get_mut(from.as_str()).filter(|conflict| is_gone(conflict)) {
                    conflict.related_path = Some(path);
                }
            }
        }
    }

    fn find_directories(&mut self) {
        let live = self.live();
        for path in &live {
            let below = format!("{path}/");
            let inside = live.range(below.as_str()..).next().filter(|inside| inside.starts_with(&below));
            if let Some(inside) = inside {
                self.refuse(path, ConflictKind::FileDirectory, Some(inside));
            }
        }
    }

    fn find_case_clashes(&mut self) {
        let live = self.live();
        let mut known: HashMap<String, Spellings<'a>> = HashMap::new();
        for path in &live {
            for prefix in prefixes(path) {
                known.entry(fold(prefix)).or_default().first.entry(prefix).or_insert(path);
            }
        }
        known.retain(|_, spellings| spellings.first.len() > 1);
        for spellings in known.values_mut() {
            for prefix in spellings.first.keys() {
                // Two spellings clash when no side has both.
                let is_on = Side::ALL.map(|side| self.is_on(side, prefix));
                let alone = spellings.alone.iter_mut().zip([is_on == [true, false], is_on == [false, true]]);
                for (first, _) in alone.filter(|(_, is_alone)| *is_alone) {
                    first.get_or_insert(prefix);
                }
            }
        }
        known.retain(|_, spellings| spellings.alone.iter().all(Option::is_some));
        if known.is_empty() {
            return;
        }
        for path in &live {
            let rivals =
                prefixes(path).filter_map(|prefix| Some((prefix, self.rival(prefix, known.get(&fold(prefix))?)?)));
            // The topmost directory that clashes; below it the very path, if the other side has it.
            let Some((prefix, (rival, first))) = rivals.into_iter().next() else { continue };
            let twin = path.get(prefix.len()..).map(|rest| format!("{rival}{rest}"));
            let related = twin.filter(|twin| live.contains(twin.as_str()));
            let related = related.as_deref().unwrap_or(first);
            match self.conflicts.get_mut(path) {
                Some(conflict) => drop(conflict.related_path.get_or_insert_with(|| related.to_owned())),
                None => self.refuse(path, ConflictKind::CaseFold, Some(related)),
            }
        }
    }

    /// The spelling of the other side that a spelling clashes with, and the first file of it.
    fn rival(&self, prefix: &str, spellings: &Spellings<'a>) -> Option<(&'a str, &'a str)> {
        let [ours, theirs] = spellings.alone;
        let rival = match Side::ALL.map(|side| self.is_on(side, prefix)) {
            [true, false] => theirs,
            [false, true] => ours,
            _ => None,
        }?;
        Some((rival, spellings.first.get(rival)?))
    }

    fn is_on(&self, side: Side, prefix: &str) -> bool {
        let tree = self.sides.side(side);
        tree.get(prefix).is_some() || tree.is_directory(prefix)
    }
}

/// The directories of a path from the root down, then the path itself.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| end).chain([path.len()]).filter_map(|end| path.get(..end))
}

#[cfg(test)]
mod tests;
