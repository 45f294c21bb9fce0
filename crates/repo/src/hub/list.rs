//! Listings: what a revision has at paths, and the commits that lead to it.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use shard_core::Digest;
use shard_history::git::lfs_pointer;
use shard_history::{FileEntry, FileMode, GitId, Timestamp, Tree, TreeNode};

use super::commit::split_message;
use super::twin::Twins;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::Repository;

/// What a listing says beside paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// What is in folders below too, each folder before what is in it.
    pub recursive: bool,
    /// The Git ids of files and folders.
    pub git_ids: bool,
    /// The last commit that changed each, which reads the history as far as it has to.
    pub last_commit: bool,
}

/// A file or a folder of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepoEntry {
    /// A file.
    File(RepoFile),
    /// A folder.
    Folder(RepoFolder),
}

impl RepoEntry {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::File(file) => &file.path,
            Self::Folder(folder) => &folder.path,
        }
    }
}

/// A file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoFile {
    /// Its path.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its content manifest.
    pub manifest: Digest,
    /// What it is.
    pub mode: FileMode,
    /// The Git id of its bytes, or of its pointer, where it was asked for.
    pub blob_id: Option<GitId>,
    /// The pointer that stands for it in Git, where it is large.
    pub lfs: Option<LfsInfo>,
    /// The last commit that changed it, where it was asked for.
    pub last_commit: Option<LastCommit>,
}

impl RepoFile {
    /// What tells its content from any other over HTTP: the SHA-256 of large files, the Git id of small ones if it is known.
    #[must_use]
    pub fn etag(&self) -> String {
        match self.blob_id {
            Some(id) if self.lfs.is_none() => id.to_hex(),
            _ => self.sha256.to_hex(),
        }
    }
}

/// The pointer of Git LFS that stands for a large file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LfsInfo {
    /// The file's length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// The length of the pointer in bytes.
    pub pointer_size: u64,
}

/// A folder of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoFolder {
    /// Its path.
    pub path: String,
    /// Its tree.
    pub tree: Digest,
    /// The Git id of its tree, where it was asked for.
    pub tree_id: Option<GitId>,
    /// The last commit that changed something in it, where it was asked for.
    pub last_commit: Option<LastCommit>,
}

/// The commit that last changed a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCommit {
    /// Its id.
    pub id: Digest,
    /// The first line of its message.
    pub title: String,
    /// When it was made.
    pub created_at: String,
}

/// A commit, as listings have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSummary {
    /// Its id.
    pub id: Digest,
    /// Its Git twin, where it was asked for.
    pub twin: Option<GitId>,
    /// The commits that it follows.
    pub parents: Vec<Digest>,
    /// Who made it.
    pub author: Option<String>,
    /// When.
    pub created_at: String,
    /// The first line of its message.
    pub title: String,
    /// The rest of its message.
    pub message: String,
}

impl Repository {
    /// Files and folders at paths, in the order of the paths; those that the revision does not have are left out.
    ///
    /// # Errors
    /// An unknown revision; what cannot be read.
    pub fn get_paths_info(
        &self,
        paths: &[&str],
        revision: Option<&str>,
        options: ListOptions,
    ) -> Result<Vec<RepoEntry>> {
        let commit = self.revision_or_default(revision)?;
        let mut objects = self.objects();
        let root = objects.shared_commit(commit)?.tree;
        let mut found = Vec::new();
        for path in paths {
            let path = path.strip_suffix('/').unwrap_or(path);
            let node = if path.is_empty() { None } else { objects.lookup(root, path)? };
            found.extend(node.map(|node| (path.to_owned(), node)));
        }
        self.entries(commit, found, options)
    }

    /// What is in a folder (the root without one), by name.
    ///
    /// # Errors
    /// An unknown revision; [`RepoError::NoSuchPath`] where it has no such folder; what cannot be read.
    ///
    /// ```
    /// # use shard_core::NoProgress;
    /// # use shard_repo::{CommitOperation, CommitRequest, ListOptions, NewRepo, Repository, Settings};
    /// # let folder = tempfile::tempdir()?;
    /// let hub = Repository::create_repo(&folder.path().join("hub"), &NewRepo::default(), Settings::default())?;
    /// let operations = vec![CommitOperation::add("a/b.txt", b"b".to_vec()), CommitOperation::add("c.txt", b"c".to_vec())];
    /// hub.create_commit(operations, &CommitRequest::new("Two files"), &NoProgress)?;
    /// let all = ListOptions { recursive: true, git_ids: true, last_commit: true };
    /// let entries = hub.list_repo_tree(None, None, all)?;
    /// let paths: Vec<&str> = entries.iter().map(|entry| entry.path()).collect();
    /// assert_eq!(paths, ["a", "a/b.txt", "c.txt"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_repo_tree(
        &self,
        folder: Option<&str>,
        revision: Option<&str>,
        options: ListOptions,
    ) -> Result<Vec<RepoEntry>> {
        let commit = self.revision_or_default(revision)?;
        let mut objects = self.objects();
        let root = objects.shared_commit(commit)?.tree;
        let folder = folder.map(|folder| folder.strip_suffix('/').unwrap_or(folder)).unwrap_or_default();
        let Some(TreeNode::Directory(id)) = objects.lookup(root, folder)? else {
            return Err(self.no_such_path(&format!("{folder}/"), revision));
        };
        let mut found: Vec<(String, TreeNode)> = Vec::new();
        let mut open = vec![(folder.to_owned(), id)];
        while let Some((folder, id)) = open.pop() {
            for (name, node) in &objects.tree(id)?.entries {
                let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                if let (true, TreeNode::Directory(below)) = (options.recursive, node) {
                    open.push((path.clone(), *below));
                }
                found.push((path, *node));
            }
            if found.len() > shard_history::file_tree::MAX_ENTRIES {
                let source = shard_history::HistoryError::TooManyEntries(shard_history::file_tree::MAX_ENTRIES);
                return Err(RepoError::History { what: "tree", id: root, source });
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        self.entries(commit, found, options)
    }

    /// The paths of all files, in order.
    ///
    /// # Errors
    /// An unknown revision; what cannot be read.
    pub fn list_repo_files(&self, revision: Option<&str>) -> Result<Vec<String>> {
        let entries = self.list_repo_tree(None, revision, ListOptions { recursive: true, ..ListOptions::default() })?;
        let file = |entry| match entry {
            RepoEntry::File(file) => Some(file.path),
            RepoEntry::Folder(_) => None,
        };
        Ok(entries.into_iter().filter_map(file).collect())
    }

    /// All commits that lead to a revision, merged branches included: none before a commit that follows it, otherwise newest
    /// first. With `git_ids` each has its twin.
    ///
    /// # Errors
    /// An unknown revision; what cannot be read.
    pub fn list_repo_commits(&self, revision: Option<&str>, git_ids: bool) -> Result<Vec<CommitSummary>> {
        let mut commits = Vec::new();
        let mut twins = Twins::new(self)?;
        for entry in self.log(self.revision_or_default(revision)?, None, usize::MAX)? {
            let (title, message) = split_message(&entry.commit.message);
            commits.push(CommitSummary {
                id: entry.id,
                twin: git_ids.then(|| twins.commit(entry.id)).transpose()?,
                parents: entry.commit.parents,
                author: entry.commit.author,
                created_at: entry.commit.created_at,
                title,
                message,
            });
        }
        twins.finish();
        Ok(commits)
    }

    /// Nodes of a commit's tree as entries.
    fn entries(&self, commit: Digest, nodes: Vec<(String, TreeNode)>, options: ListOptions) -> Result<Vec<RepoEntry>> {
        let mut last = match options.last_commit {
            true => self.last_commits(commit, nodes.iter().map(|(path, _)| path.as_str()))?,
            false => HashMap::new(),
        };
        let mut twins = Twins::new(self)?;
        let mut entries = Vec::with_capacity(nodes.len());
        for (path, node) in nodes {
            let last_commit = last.remove(&path);
            entries.push(match node {
                TreeNode::File(entry) => RepoEntry::File(RepoFile {
                    blob_id: options.git_ids.then(|| twins.file(&path, &entry)).transpose()?,
                    lfs: (entry.size >= twins.threshold).then(|| lfs_info(&entry)),
                    path,
                    size: entry.size,
                    sha256: entry.sha256,
                    manifest: entry.manifest,
                    mode: entry.mode,
                    last_commit,
                }),
                TreeNode::Directory(tree) => {
                    let tree_id = options.git_ids.then(|| twins.tree(tree)).transpose()?;
                    RepoEntry::Folder(RepoFolder { path, tree, tree_id, last_commit })
                }
            });
        }
        twins.finish();
        Ok(entries)
    }

    /// The commit that last changed each path: going back from a commit, a path stays with a parent that has the same at it, and is
    /// explained where none has. The history is walked once for all of them.
    fn last_commits<'p>(
        &self,
        from: Digest,
        paths: impl Iterator<Item = &'p str>,
    ) -> Result<HashMap<String, LastCommit>> {
        let mut objects = self.objects();
        // Paths by folder and name, since a folder that is the same has the same in it.
        let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for path in paths {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            wanted.entry(folder).or_default().push(name);
        }
        let mut found = HashMap::new();
        let mut waiting = HashMap::from([(from, wanted)]);
        // Newest first, so that what comes from several children mostly comes together.
        let mut open: BinaryHeap<(Option<Timestamp>, Digest)> = BinaryHeap::from([(None, from)]);
        while let Some((_, id)) = open.pop() {
            let Some(mut wanted) = waiting.remove(&id) else { continue };
            let commit = objects.shared_commit(id)?;
            for parent in &commit.parents {
                let above = objects.shared_commit(*parent)?;
                let mut passed: Vec<(&str, Vec<&str>)> = Vec::new();
                for (folder, names) in &mut wanted {
                    let same = same_names(&mut objects, (commit.tree, above.tree), folder, names)?;
                    passed.extend((!same.is_empty()).then_some((*folder, same)));
                }
                if passed.is_empty() {
                    continue;
                }
                let there = waiting.entry(*parent).or_default();
                passed.into_iter().for_each(|(folder, names)| there.entry(folder).or_default().extend(names));
                wanted.retain(|_, names| !names.is_empty());
                open.push((above.time().ok(), *parent));
            }
            for (folder, names) in wanted {
                for name in names {
                    let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                    let (title, created_at) = (commit.title().to_owned(), commit.created_at.clone());
                    found.insert(path, LastCommit { id, title, created_at });
                }
            }
        }
        Ok(found)
    }
}

/// Takes out of the names in a folder those that are the same in two root trees.
fn same_names<'p>(
    objects: &mut Objects<'_>,
    (own, above): (Digest, Digest),
    folder: &str,
    names: &mut Vec<&'p str>,
) -> Result<Vec<&'p str>> {
    let mut id = |root: Digest| -> Result<Option<Digest>> {
        Ok(match objects.lookup(root, folder)? {
            Some(TreeNode::Directory(id)) => Some(id),
            _ => None,
        })
    };
    let (own, above) = if own == above { (None, None) } else { (id(own)?, id(above)?) };
    if own == above {
        return Ok(std::mem::take(names));
    }
    let mut tree = |id: Option<Digest>| id.map(|id| objects.tree(id)).transpose();
    let (own, above) = (tree(own)?, tree(above)?);
    let node = |tree: &Option<Arc<Tree>>, name: &str| tree.as_ref().and_then(|tree| tree.entries.get(name).copied());
    let (same, others) = names.iter().partition(|name| node(&own, name) == node(&above, name));
    *names = others;
    Ok(same)
}

fn lfs_info(entry: &FileEntry) -> LfsInfo {
    let pointer_size = lfs_pointer(&entry.sha256, entry.size).len() as u64;
    LfsInfo { size: entry.size, sha256: entry.sha256, pointer_size }
}
