//! Commits made of operations on paths: contents are stored first, then the tree of the branch is changed along the paths alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use shard_core::{Digest, Progress};
use shard_history::file_tree::MAX_ENTRIES;
use shard_history::revision::RefKind;
use shard_history::tree_edit::EditedNode;
use shard_history::{
    Commit, EditError, FileEntry, FileMode, GitId, HistoryError, Timestamp, Tree, TreeEdit, TreeNode, changed_files,
    validate_path,
};
use shard_store::process::Process;
use shard_store::{
    EntryKind, FileStat, Nonce, RefError, RefState, RefUpdate, StoreError, Target, Transaction, timestamp,
};

use super::operation::{CommitOperation, Opened};
use super::twin::Twins;
use crate::collect::hold_commit;
use crate::error::{RepoError, Result};
use crate::keep::{Keeper, entry_of, likely_of};
use crate::objects::Objects;
use crate::refs::{RefProblem, check_name};
use crate::repository::{HEADS, Repository, STAGE};
use crate::snapshot::put_object;
use crate::worktree::tree_mode;

/// How often a commit is tried again on top of others that came first.
pub(crate) const ATTEMPTS: u64 = 64;
/// From which on it waits before, for a random part of so many milliseconds for each: hundreds may come at once.
const PATIENT_ATTEMPTS: u64 = 4;
const WAIT_MS: u64 = 20;

/// Characters of a commit's title that the ref's log repeats.
const MAX_TITLE: usize = 200;

/// What a commit says, and where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// What and why; the first line is the title.
    pub message: String,
    /// More, after an empty line.
    pub description: Option<String>,
    /// The branch; without one the default branch.
    pub revision: Option<String>,
    /// The commit that the branch must end at. Without one the commit follows whatever came first.
    pub parent_commit: Option<String>,
    /// Who; recorded only where given.
    pub author: Option<String>,
    /// When, RFC 3339 in UTC; now where not given.
    pub created_at: Option<String>,
}

impl CommitRequest {
    /// A commit to the default branch.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The same to a branch.
    #[must_use]
    pub fn on(self, branch: impl Into<String>) -> Self {
        Self { revision: Some(branch.into()), ..self }
    }

    pub(super) fn or_message(&self, message: String) -> Self {
        let message = if self.message.trim().is_empty() { message } else { self.message.clone() };
        Self { message, ..self.clone() }
    }

    pub(crate) fn text(&self) -> Result<String> {
        let message = self.message.trim_end();
        if message.trim().is_empty() {
            return Err(RepoError::Argument("a commit needs a message".to_owned()));
        }
        let description = self.description.as_deref().map(str::trim_end).filter(|text| !text.is_empty());
        Ok(description.map_or_else(|| message.to_owned(), |description| format!("{message}\n\n{description}")))
    }
}

/// A commit that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: Digest,
    /// The id that Git would give it.
    pub twin: GitId,
    /// The branch that moved to it.
    pub branch: String,
    /// The commit that it follows; `None` for the first.
    pub parent: Option<Digest>,
    /// The first line of its message.
    pub title: String,
    /// The rest of its message, without the empty line between.
    pub description: String,
    /// The id of its tree.
    pub tree: Digest,
}

/// What a commit asks for that is not of its own paths.
#[derive(Default)]
pub(crate) struct Terms<'a> {
    /// The branch is made, and must not be there.
    pub(crate) makes_branch: bool,
    /// Nothing is committed where the branch has this path.
    pub(crate) unless: Option<&'a str>,
    /// Files to add that are stored already, since a commit has them.
    pub(crate) stored: Option<(Digest, &'a BTreeMap<String, FileEntry>)>,
}

/// What is common to all attempts at a commit.
struct Said {
    message: String,
    created_at: String,
    author: Option<String>,
}

/// An operation whose content is open.
enum Wanted {
    Put { path: String, content: Opened },
    Delete { path: String, is_folder: bool },
    Copy { from: String, revision: Option<String>, to: String },
}

/// An operation whose content is stored.
enum Edit {
    Put(String, FileEntry),
    Delete { path: String, is_folder: bool },
    Copy { from: String, source: Option<Digest>, to: String },
}

/// A title and the text after it.
pub(super) fn split_message(message: &str) -> (String, String) {
    let (title, rest) = message.split_once('\n').unwrap_or((message, ""));
    (title.trim_end().to_owned(), rest.trim_start_matches(['\n', '\r']).to_owned())
}

/// The error of a change that a tree cannot take.
fn refused(error: EditError<RepoError>, path: &str) -> RepoError {
    let clash = |path: &str, why: String| RepoError::Clash { path: path.to_owned(), why };
    match error {
        EditError::Fetch(error) => error,
        EditError::CaseFold { path, other } => {
            clash(&path, format!("there is {other:?}, which some file systems take for the same"))
        }
        EditError::Object(HistoryError::Clash(there)) => {
            clash(path, format!("{there:?} would be both a file and a folder"))
        }
        EditError::Object(HistoryError::Path(problem)) => {
            RepoError::BadPath { path: problem.path, why: problem.reason }
        }
        EditError::Object(error) => RepoError::Path { path: path.into(), why: error.to_string() },
    }
}

/// Whether somebody else moved a ref first: the stage, or the branch when the stage had moved.
fn is_lost_race(error: &RepoError) -> bool {
    match error {
        RepoError::Raced(_) => true,
        RepoError::Store(StoreError::Ref(error)) => {
            matches!(&**error, RefError::Partial { source, .. } if matches!(**source, RefError::Conflict { .. }))
        }
        _ => false,
    }
}

/// Checks the path of an operation before anything is read.
fn check_path(path: &str) -> Result<()> {
    validate_path(path).map_err(|error| refused(error.into(), path))
}

impl Repository {
    /// Makes a commit on a branch. When it returns, the commit survives a power loss; where it fails, nothing has changed.
    ///
    /// Only folders on the way to the paths are read and written, however large the tree is, unless folders are copied: then all
    /// are read, since copies multiply. In a repository with a work tree
    /// where that branch is checked out, the stage follows in what the commit changed, and the work tree stays as it is.
    ///
    /// # Errors
    /// [`RepoError::NothingToDo`] without operations; [`RepoError::Argument`] without a message; [`RepoError::Path`] and
    /// [`RepoError::Clash`] for paths that cannot be; [`RepoError::NoSuchPath`] for what is to be deleted or copied and is not
    /// there; [`RepoError::Ref`] where there is no such branch; [`RepoError::Merge`] where a merge into it waits; [`RepoError::NotAt`] where the branch is not at
    /// `parent_commit`; [`RepoError::Raced`] where others were first again and again; what cannot be read or written.
    pub fn create_commit(
        &self,
        operations: Vec<CommitOperation>,
        request: &CommitRequest,
        progress: &dyn Progress,
    ) -> Result<CommitInfo> {
        if operations.is_empty() {
            return Err(RepoError::NothingToDo("a commit needs operations".to_owned()));
        }
        let made = self.make_commit(operations, request, &Terms::default(), progress)?;
        made.ok_or(RepoError::Internal("a commit without terms was not made"))
    }

    /// The same, where no operations make a commit with the tree of its parent; `None` where the terms say that none is made.
    pub(crate) fn make_commit(
        &self,
        operations: Vec<CommitOperation>,
        request: &CommitRequest,
        terms: &Terms<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<CommitInfo>> {
        let message = request.text()?;
        let created_at = match &request.created_at {
            None => timestamp::now(),
            Some(given) => {
                Timestamp::from_str(given).map_err(|error| RepoError::Argument(error.to_string()))?.to_string()
            }
        };
        for operation in &operations {
            match operation {
                CommitOperation::Add { path, .. } => check_path(path)?,
                CommitOperation::Delete { path } => check_path(path.strip_suffix('/').unwrap_or(path))?,
                CommitOperation::Copy { from, to, .. } => {
                    [from, to].into_iter().try_for_each(|path| check_path(path))?;
                }
            }
        }
        // Opened once: a reader cannot be read again.
        let temporary = self.temporary();
        let open = |operation| match operation {
            CommitOperation::Add { path, content } => {
                let content = content.open(&path, (&temporary.0, &temporary.1))?;
                Ok(Wanted::Put { path, content })
            }
            CommitOperation::Delete { path } => {
                let is_folder = path.ends_with('/');
                Ok(Wanted::Delete { path: path.strip_suffix('/').map_or(path.clone(), str::to_owned), is_folder })
            }
            CommitOperation::Copy { from, revision, to } => Ok(Wanted::Copy { from, revision, to }),
        };
        let wanted = operations.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        let said = Said { message, created_at, author: request.author.clone() };
        self.again_if_condemned(|| self.commit_operations_once(&wanted, &said, (request, terms), progress))
    }

    fn commit_operations_once(
        &self,
        wanted: &[Wanted],
        said: &Said,
        (request, terms): (&CommitRequest, &Terms<'_>),
        progress: &dyn Progress,
    ) -> Result<Option<CommitInfo>> {
        let (branch, full) = match &request.revision {
            Some(new) if terms.makes_branch => (new.clone(), self.new_name(RefKind::Branch, new, None)?),
            revision => self.target_branch(revision.as_deref())?,
        };
        self.refuse_while_merging_into(&full)?;
        // Before the branch is read: what it leads to stays from here on.
        let transaction = self.store.begin("commit")?;
        let mut stored = Vec::new();
        if let Some((commit, files)) = terms.stored {
            hold_commit(&self.store, &transaction, commit)?;
            stored.extend(files.iter().map(|(path, entry)| Edit::Put(path.clone(), *entry)));
        }
        let parent = request.parent_commit.as_deref().map(|parent| self.resolve(parent)).transpose()?;
        let (mut state, mut tip) = self.tip(&branch)?;
        let mut twins = Twins::over(self, &transaction)?;
        let title: String = said.message.lines().next().unwrap_or_default().chars().take(MAX_TITLE).collect();
        let title = format!("commit: {title}");
        let mut edits = None;
        for attempt in 0..ATTEMPTS {
            if terms.makes_branch && tip.is_some() {
                return Err(RefProblem::Exists { kind: "branch", name: branch }.into());
            }
            if let Some(expected) = parent.filter(|parent| Some(*parent) != tip) {
                return Err(RepoError::NotAt { name: full, expected, found: tip });
            }
            let before = tip.map(|tip| self.objects().shared_commit(tip)).transpose()?.map(|commit| commit.tree);
            if let (Some(root), Some(path)) = (before, terms.unless)
                && self.objects().lookup(root, path)?.is_some()
            {
                return Ok(None);
            }
            let edits = match &mut edits {
                Some(edits) => edits,
                None => {
                    let mut kept = self.keep_contents(wanted, tip, &transaction, &mut twins, progress)?;
                    kept.append(&mut stored);
                    edits.insert(kept)
                }
            };
            let tree = self.edited(before, edits, &branch, &transaction)?;
            let commit = Commit {
                tree,
                parents: tip.into_iter().collect(),
                created_at: said.created_at.clone(),
                author: said.author.clone(),
                message: said.message.clone(),
                records: Vec::new(),
                extra: Default::default(),
            };
            let (id, bytes) =
                commit.encode().map_err(|source| RepoError::History { what: "commit", id: tree, source })?;
            put_object(&transaction, EntryKind::Commit, &bytes)?;
            // Before anything moves: where it fails, nothing has changed.
            let twin = twins.commit(id)?;
            // First the stage: a branch that had moved alone would leave one that undoes the commit.
            let stage = self.stage_that_follows(&branch, before, tree, &transaction)?;
            let branch_moves = RefUpdate { name: full.clone(), expected: state, target: Target::Commit(id) };
            let updates: Vec<RefUpdate> = stage.into_iter().chain([branch_moves]).collect();
            match self.move_or_lose(&transaction, &updates, &title) {
                // Another commit came first, or somebody staged something; what is staged already stays.
                Err(error) if is_lost_race(&error) => {
                    self.wait_after(attempt)?;
                    (state, tip) = self.tip(&branch)?;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    twins.finish();
                    let (title, description) = split_message(&said.message);
                    return Ok(Some(CommitInfo { id, twin, branch, parent: tip, title, description, tree }));
                }
            }
        }
        Err(RepoError::Raced(full))
    }

    /// Waits for a random time after a lost race, unless it is one of the first.
    pub(crate) fn wait_after(&self, attempt: u64) -> Result<()> {
        if attempt >= PATIENT_ATTEMPTS {
            let drawn = Nonce::random().map_err(RepoError::io("cannot draw random numbers for", &self.dir()))?;
            let part = drawn.to_hex().bytes().map(u64::from).sum::<u64>() % WAIT_MS;
            std::thread::sleep(Duration::from_millis(part * attempt));
        }
        Ok(())
    }

    /// The name of a branch that can be committed to, in short and in full.
    pub(crate) fn target_branch(&self, revision: Option<&str>) -> Result<(String, String)> {
        let name = match revision {
            None => self.default_branch()?,
            Some(revision) => {
                let name = revision.strip_prefix("refs/").unwrap_or(revision);
                name.strip_prefix(HEADS).unwrap_or(name).to_owned()
            }
        };
        let unknown = || RefProblem::Unknown { kind: "branch", name: name.clone() };
        let full = check_name(RefKind::Branch, &name).map_err(|_| unknown())?;
        let is_unborn =
            || -> Result<bool> { Ok(name == self.default_branch()? || self.head()?.branch.as_ref() == Some(&name)) };
        if self.read_ref(&full)?.is_none() && !is_unborn()? {
            return Err(unknown().into());
        }
        Ok((name, full))
    }

    /// Where a branch ends, and its state.
    pub(crate) fn tip(&self, branch: &str) -> Result<(Option<RefState>, Option<Digest>)> {
        let state = self.read_ref(&format!("{HEADS}{branch}"))?;
        let tip = match state.as_ref().map(|state| &state.target) {
            Some(Target::Commit(commit)) => Some(*commit),
            Some(_) => return Err(RepoError::Argument(format!("the branch {branch:?} names no commit"))),
            None => None,
        };
        Ok((state, tip))
    }

    /// Stores the contents that operations add, and finds what they copy from other revisions.
    fn keep_contents(
        &self,
        wanted: &[Wanted],
        tip: Option<Digest>,
        transaction: &Transaction,
        twins: &mut Twins<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Edit>> {
        let root = tip.map(|tip| self.objects().shared_commit(tip)).transpose()?.map(|commit| commit.tree);
        let mut keeper = Keeper::new(transaction, self.snapshot_options());
        let mut kept: BTreeMap<String, FileEntry> = BTreeMap::new();
        let mut edits = Vec::with_capacity(wanted.len());
        let lens = wanted.iter().map(|wanted| match wanted {
            Wanted::Put { content, .. } => content.len(),
            _ => 0,
        });
        progress.begin("adding", Some(lens.sum()));
        let temporary = self.temporary();
        for wanted in wanted {
            edits.push(match wanted {
                Wanted::Put { path, content } => {
                    let likely = || {
                        let siblings = self.siblings(root, path)?;
                        Ok(likely_of(path, &kept, siblings.iter().map(|(path, entry)| (path.as_str(), entry))))
                    };
                    // Bytes that are no file have no neighbours: nothing is where this leads.
                    let nowhere = temporary.0.join("none").join(path);
                    let entry = keep(&mut keeper, content, &nowhere, likely, twins, progress)?;
                    kept.insert(path.clone(), entry);
                    Edit::Put(path.clone(), entry)
                }
                Wanted::Delete { path, is_folder } => Edit::Delete { path: path.clone(), is_folder: *is_folder },
                Wanted::Copy { from, revision, to } => {
                    let source = revision.as_deref().map(|revision| self.resolve(revision)).transpose()?;
                    if let Some(source) = source {
                        hold_commit(&self.store, transaction, source)?;
                    }
                    let source = source.map(|commit| self.objects().shared_commit(commit)).transpose()?;
                    Edit::Copy { from: from.clone(), source: source.map(|commit| commit.tree), to: to.clone() }
                }
            });
        }
        progress.finish();
        Ok(edits)
    }

    /// The files in the folder of a path, by path.
    fn siblings(&self, root: Option<Digest>, path: &str) -> Result<Vec<(String, FileEntry)>> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut objects = self.objects();
        let found = root.map(|root| objects.lookup(root, folder)).transpose()?.flatten();
        let Some(TreeNode::Directory(id)) = found else { return Ok(Vec::new()) };
        let tree = objects.tree(id)?;
        let file = |(name, node): (&String, &TreeNode)| match node {
            TreeNode::File(entry) if folder.is_empty() => Some((name.clone(), *entry)),
            TreeNode::File(entry) => Some((format!("{folder}/{name}"), *entry)),
            TreeNode::Directory(_) => None,
        };
        Ok(tree.entries.iter().filter_map(file).collect())
    }

    /// Applies edits to a tree, and stores the folders that changed.
    fn edited(
        &self,
        before: Option<Digest>,
        edits: &[Edit],
        branch: &str,
        transaction: &Transaction,
    ) -> Result<Digest> {
        let mut objects = self.objects();
        let mut sources = self.objects();
        let mut fetch = |id: &Digest| -> Result<Tree> { objects.tree(*id).map(|tree| Tree::clone(&tree)) };
        let mut tree = TreeEdit::new(before, &mut fetch)?;
        let missing = |path: &str| RepoError::NoSuchPath { revision: branch.to_owned(), path: path.to_owned() };
        let too_many = |to: &str| RepoError::Path {
            path: to.into(),
            why: format!("with this copy there would be more than {MAX_ENTRIES} files and folders"),
        };
        let (mut copied, mut last_copy) = (0usize, None);
        for edit in edits {
            match edit {
                Edit::Put(path, entry) => {
                    tree.put(path, TreeNode::File(*entry), &mut fetch).map_err(|error| refused(error, path))?;
                }
                Edit::Delete { path, is_folder } => {
                    let there = tree.get(path, &mut fetch).map_err(|error| refused(error, path))?;
                    if there.is_none_or(|node| (node == EditedNode::Directory) != *is_folder) {
                        return Err(missing(path));
                    }
                    tree.remove(path, &mut fetch).map_err(|error| refused(error, path))?;
                }
                Edit::Copy { from, source, to } => {
                    let root = source.or(before);
                    let node = root.map(|root| sources.lookup(root, from)).transpose()?.flatten();
                    let node = node.ok_or_else(|| missing(from))?;
                    let files = expanded(&mut sources, to, node)?;
                    if matches!(node, TreeNode::Directory(_)) {
                        copied = copied.saturating_add(files.len());
                        last_copy = Some(to);
                    }
                    // Copies multiply: what cannot be kept is refused before it takes memory.
                    if copied > MAX_ENTRIES {
                        return Err(too_many(to));
                    }
                    for (path, entry) in files {
                        tree.put(&path, TreeNode::File(entry), &mut fetch).map_err(|error| refused(error, &path))?;
                    }
                }
            }
        }
        let (root, trees) =
            tree.finish(before).map_err(|source| RepoError::History { what: "tree", id: Digest([0; 32]), source })?;
        for (_, bytes) in &trees {
            put_object(transaction, EntryKind::Tree, bytes)?;
        }
        // A tree of too many entries could be stored, and never read again.
        if let Some(to) = last_copy
            && let Err(error) = Objects::new(transaction).file_tree(root)
        {
            let is_over = matches!(&error, RepoError::History { source: HistoryError::TooManyEntries(_), .. });
            return Err(if is_over { too_many(to) } else { error });
        }
        Ok(root)
    }

    /// Where a branch that moves is checked out, the stage takes over what changes, unless that was staged otherwise: or else the
    /// next commit of the stage would undo it.
    fn stage_that_follows(
        &self,
        branch: &str,
        before: Option<Digest>,
        after: Digest,
        transaction: &Transaction,
    ) -> Result<Option<RefUpdate>> {
        if self.is_bare() || self.head()?.branch.as_deref() != Some(branch) {
            return Ok(None);
        }
        let Some(state) = self.read_ref(STAGE)? else { return Ok(None) };
        let Target::Tree(staged) = state.target else { return Ok(None) };
        // The new tree is in the transaction alone.
        let mut objects = Objects::new(transaction);
        let mut fetch = |id: &Digest| -> Result<Tree> { objects.tree(*id).map(|tree| Tree::clone(&tree)) };
        let changed = changed_files(before, Some(after), &mut fetch)?;
        let mut stage = TreeEdit::new(Some(staged), &mut fetch)?;
        let (gone, there): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(_, _, new)| new.is_none());
        // First what goes: a folder may have become a file, or the reverse.
        for (path, old, new) in gone.into_iter().chain(there) {
            let now = match stage.get(&path, &mut fetch).map_err(|error| refused(error, &path))? {
                Some(EditedNode::File(entry)) => Some(entry),
                Some(EditedNode::Directory) => continue,
                None => None,
            };
            if now != old {
                continue;
            }
            let Some(entry) = new else {
                stage.remove(&path, &mut fetch).map_err(|error| refused(error, &path))?;
                continue;
            };
            // What was staged in its place stays.
            if let Err(EditError::Fetch(error)) = stage.put(&path, TreeNode::File(entry), &mut fetch) {
                return Err(error);
            }
        }
        let (root, trees) =
            stage.finish(Some(staged)).map_err(|source| RepoError::History { what: "tree", id: staged, source })?;
        for (_, bytes) in &trees {
            put_object(transaction, EntryKind::Tree, bytes)?;
        }
        let update = RefUpdate { name: STAGE.to_owned(), expected: Some(state), target: Target::Tree(root) };
        Ok((root != staged).then_some(update))
    }

    /// Where temporary files go: a folder, and how their names begin, so that what a killed process leaves is found and removed.
    pub(crate) fn temporary(&self) -> (PathBuf, String) {
        let folder = match &self.away {
            None => self.dir().join("tmp"),
            Some(away) => {
                // If it cannot be made, whoever writes there says so.
                let _ = fs::create_dir_all(&away.scratch);
                away.scratch.clone()
            }
        };
        (folder, format!("{}.hub-", Process::current().tag()))
    }
}

/// Stores one content, and notes its twin.
fn keep(
    keeper: &mut Keeper<'_>,
    opened: &Opened,
    nowhere: &Path,
    likely: impl FnOnce() -> Result<crate::keep::Likely>,
    twins: &mut Twins<'_>,
    progress: &dyn Progress,
) -> Result<FileEntry> {
    let place = match opened {
        Opened::File(place) => place,
        _ => nowhere,
    };
    let stat = |place: &Path| fs::metadata(place).map_err(RepoError::io("cannot read", place));
    let before = matches!(opened, Opened::File(_)).then(|| stat(place)).transpose()?;
    let (kept, twin) = opened.with(|source| {
        let kept = keeper.keep(source, place, likely, progress)?;
        let twin = twins.content(source).map_err(RepoError::io("cannot read", place))?;
        Ok((kept, twin))
    })?;
    let mut mode = FileMode::Regular;
    if let Some(before) = before {
        let now = stat(place)?;
        if FileStat::new(&now) != FileStat::new(&before) || now.len() != kept.manifest.size {
            return Err(RepoError::Changed(place.to_owned()));
        }
        mode = tree_mode(&now);
    }
    let entry = entry_of(&kept, mode);
    if let Some(twin) = twin {
        twins.kept(&entry, twin);
    }
    Ok(entry)
}

/// What a copy puts where, file by file: each path is looked at as if the file were added.
fn expanded(objects: &mut Objects<'_>, to: &str, node: TreeNode) -> Result<Vec<(String, FileEntry)>> {
    match node {
        TreeNode::Directory(id) => {
            let files = objects.file_tree(id)?;
            Ok(files.files().iter().map(|(path, entry)| (format!("{to}/{path}"), *entry)).collect())
        }
        TreeNode::File(entry) => Ok(vec![(to.to_owned(), entry)]),
    }
}
