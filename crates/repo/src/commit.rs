//! `commit`: the staged tree becomes a commit, and the branch moves to it.

use std::str::FromStr;

use shard_core::Digest;
use shard_history::revision::RefKind;
use shard_history::{Commit, FileChange, Timestamp, diff_files};
use shard_manifest::RunRecord;
use shard_store::{EntryKind, RefState, RefUpdate, Target, timestamp};

use crate::error::{RepoError, Result};
use crate::refs::check_name;
use crate::repository::{HEAD, HEADS, Repository, STAGE, TAGS, head_of};
use crate::snapshot::put_object;

/// Characters of a commit's title that the ref's log repeats.
const MAX_TITLE: usize = 200;

/// What a commit says beside its tree.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// What and why.
    pub message: String,
    /// Who; recorded only where given.
    pub author: Option<String>,
    /// When, RFC 3339 in UTC; now where not given.
    pub created_at: Option<String>,
    /// A tag to put on the commit, or with `heads/` in front a further branch to move to it.
    pub name: Option<String>,
    /// Run metadata for every file with tensors that the commit adds or changes, or, where there is none, for every file; its
    /// `file_path` is filled in. `None` records nothing.
    pub record: Option<RunRecord>,
    /// Whether a commit may have the tree of its parent.
    pub allow_empty: bool,
}

/// What `commit` did.
#[derive(Debug, Clone)]
pub struct CommitReport {
    /// The new commit.
    pub id: Digest,
    /// The branch that moved to it; `None` where a commit was checked out.
    pub branch: Option<String>,
    /// The parent, where there is one.
    pub parent: Option<Digest>,
    /// Paths added, changed and removed.
    pub changes: Vec<FileChange>,
    /// The tag or branch that names it besides.
    pub name: Option<String>,
}

impl Repository {
    /// Makes a commit of the stage on what is checked out. When it returns, the commit survives a power loss.
    ///
    /// # Errors
    /// [`RepoError::NothingToDo`] where nothing is staged; [`RepoError::Raced`] where another writer moved the branch
    /// meanwhile; what the store says. Nothing has moved then.
    pub fn commit(&self, options: &CommitOptions) -> Result<CommitReport> {
        self.again_if_condemned(|| self.commit_once(options))
    }

    fn commit_once(&self, options: &CommitOptions) -> Result<CommitReport> {
        if options.message.trim().is_empty() {
            return Err(RepoError::Argument("a commit needs a message".to_owned()));
        }
        self.work()?;
        // Before refs are read: what they name stays from here on.
        let transaction = self.store.begin("commit")?;
        self.refuse_while_merging()?;
        let head = self.head()?;
        let Some(RefState { target: Target::Tree(tree), .. }) = self.read_ref(STAGE)? else {
            return Err(RepoError::NothingToDo("nothing was ever added".to_owned()));
        };
        let mut objects = self.objects();
        let parent_tree = head.commit.map(|commit| objects.commit(commit)).transpose()?.map(|commit| commit.tree);
        if parent_tree == Some(tree) && !options.allow_empty {
            return Err(RepoError::NothingToDo("nothing is staged that the last commit does not have".to_owned()));
        }
        let before = parent_tree.map(|tree| objects.file_tree(tree)).transpose()?.unwrap_or_default();
        let after = objects.file_tree(tree)?;
        let changes = diff_files(&before, &after);
        let name = options.name.as_deref().map(|name| self.name_ref(name)).transpose()?;

        let mut records = Vec::new();
        if let Some(record) = &options.record {
            for change in &changes {
                let Some(entry) = change.new_entry() else { continue };
                let is_model = !objects.manifest(entry.manifest)?.tensors.is_empty();
                records.push((is_model, RunRecord { file_path: change.path().to_owned(), ..record.clone() }));
            }
            // Where no file is known to be a model, any may be one in a format that is kept as it is.
            if records.iter().any(|(is_model, _)| *is_model) {
                records.retain(|(is_model, _)| *is_model);
            }
            if records.is_empty() {
                let why = "run metadata was given, but the commit adds or changes no file".to_owned();
                return Err(RepoError::Argument(why));
            }
        }
        let mut records: Vec<RunRecord> = records.into_iter().map(|(_, record)| record).collect();
        if !records.is_empty() {
            records.sort_by(|a, b| a.file_path.cmp(&b.file_path));
        }
        let created_at = match &options.created_at {
            None => timestamp::now(),
            Some(given) => {
                Timestamp::from_str(given).map_err(|error| RepoError::Argument(error.to_string()))?.to_string()
            }
        };
        let commit = Commit {
            tree,
            parents: head.commit.into_iter().collect(),
            created_at,
            author: options.author.clone(),
            message: options.message.clone(),
            records,
            extra: Default::default(),
        };
        let title: String = commit.title().chars().take(MAX_TITLE).collect();
        let title = format!("commit: {title}");
        let (id, bytes) = commit.encode().map_err(|source| RepoError::History { what: "commit", id: tree, source })?;
        put_object(&transaction, EntryKind::Commit, &bytes)?;
        let (moved, expected) = self.moved_by_commits()?;
        if expected.as_ref().map(|state| &state.target) != head.commit.map(Target::Commit).as_ref() {
            return Err(RepoError::Raced(moved));
        }
        let mut updates = vec![RefUpdate { name: moved, expected, target: Target::Commit(id) }];
        updates.extend(name.clone().map(|(name, expected)| RefUpdate { name, expected, target: Target::Commit(id) }));
        self.move_or_lose(&transaction, &updates, &title)?;
        let name = name.map(|(name, _)| name);
        Ok(CommitReport { id, branch: head.branch, parent: head.commit, changes, name })
    }

    /// The ref that a commit moves: the branch that is checked out, or HEAD itself.
    pub(crate) fn moved_by_commits(&self) -> Result<(String, Option<RefState>)> {
        let head = head_of(&self.store)?;
        match &head.target {
            Target::Symbolic(branch) => Ok((branch.clone(), self.read_ref(branch)?)),
            _ => Ok((HEAD.to_owned(), Some(head))),
        }
    }

    /// The ref that `--name` means, and its state: a tag, which must be new, or a branch given with `heads/`.
    fn name_ref(&self, name: &str) -> Result<(String, Option<RefState>)> {
        let is_full = name.starts_with(HEADS) || name.starts_with(TAGS);
        let full = if is_full { name.to_owned() } else { format!("{TAGS}{name}") };
        let (kind, short) = match full.strip_prefix(HEADS) {
            Some(branch) => (RefKind::Branch, branch),
            None => (RefKind::Tag, full.strip_prefix(TAGS).unwrap_or(name)),
        };
        check_name(kind, short)?;
        let state = self.read_ref(&full)?;
        if kind == RefKind::Tag || state.is_none() {
            self.new_name(kind, short, None)?;
        }
        if full.strip_prefix(HEADS).is_some_and(|branch| self.head().is_ok_and(|h| h.branch.as_deref() == Some(branch)))
        {
            return Err(RepoError::Argument(format!("{name:?} is the branch that the commit goes to anyway")));
        }
        Ok((full, state))
    }
}
