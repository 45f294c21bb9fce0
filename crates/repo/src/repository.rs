//! A repository: opening it, its refs, and what its revisions mean.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use shard_codecs::Level;
use shard_core::Digest;
use shard_core::limits::Cut;
use shard_history::revision::{RefKind, ResolveError, Resolver};
use shard_history::{GitId, Revision, RevisionError, validate_path};
use shard_store::{EntryKey, EntryKind, Nonce, RecordError, RefState, Store, StoreError, Target, ref_name};

use crate::away::Away;
use crate::base_chain::ChainLimits;
use crate::begun::BegunFiles;
use crate::error::{RepoError, Result};
use crate::hub::TwinMemory;
use crate::object_cache::{BLOCKS, OBJECTS, ObjectCache};
use crate::objects::Objects;
use crate::refs::check_name;
use crate::snapshot::SnapshotOptions;
use crate::sync::{Connect, with_promised};
use crate::worktree::{REPOSITORY_DIR, WorkTree};

/// The branch that a new repository starts on.
pub const DEFAULT_BRANCH: &str = "main";

/// The ref that says what is checked out: a symbolic ref to a branch, or a commit.
pub(crate) const HEAD: &str = "HEAD";
/// The folder that refs are in.
pub(crate) const REFS: &str = "refs";
/// Largest file of a ref's state, in bytes.
pub(crate) const MAX_REF_FILE: u64 = 1 << 20;
/// The ref that names the staged tree.
pub(crate) const STAGE: &str = "stage";
/// The ref that names a merge under way.
pub(crate) const MERGE: &str = "merge";
/// The ref that leads to the default branch.
pub(crate) const DEFAULT: &str = "default";
/// The prefix of branches' refs.
pub(crate) const HEADS: &str = "heads/";
/// The prefix of tags' refs.
pub(crate) const TAGS: &str = "tags/";

/// Most workers: their buffers have to fit in the memory that shard promises to stay under, 512 MiB.
const MAX_THREADS: usize = 10;
/// Most at the highest level, at which a worker takes up to 130 MiB instead of 40.
const MAX_THREADS_MAX: usize = 3;

/// Most commits that an ambiguous id is shown to mean.
const MAX_CANDIDATES: usize = 5;

/// How a repository is used by this process.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Worker threads; 0 means one a core. At most 10 are used, at the highest level 3.
    pub threads: usize,
    /// How hard encoders try.
    pub level: Level,
    /// The bits of the first of two layers that deltas are stored in, 1 to 8; `None` for one layer.
    pub coarse: Option<u8>,
    /// Finds other repositories, for blocks that were left there; `None` where nobody is asked.
    pub connect: Option<Connect>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { threads: 0, level: Level::Default, coarse: None, connect: None }
    }
}

impl Settings {
    /// Worker threads, at least 1.
    #[must_use]
    pub fn workers(self) -> usize {
        let wanted = if self.threads > 0 {
            self.threads
        } else {
            thread::available_parallelism().map_or(1, std::num::NonZero::get)
        };
        wanted.min(if self.level == Level::Max { MAX_THREADS_MAX } else { MAX_THREADS })
    }
}

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch, without `heads/`; `None` when a commit is checked out that no branch follows.
    pub branch: Option<String>,
    /// The commit; `None` on a branch without commits.
    pub commit: Option<Digest>,
}

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRef {
    /// Which of the two.
    pub kind: RefKind,
    /// Its name, without `heads/` or `tags/`.
    pub name: String,
    /// The commit that it leads to.
    pub commit: Digest,
}

/// A repository: in a work tree, or bare, with none. Operations that need a work tree say so with [`RepoError::Bare`].
pub struct Repository {
    dir: PathBuf,
    work: Option<WorkTree>,
    /// Where it is that is in no folder; `dir` is its address then, to be shown.
    pub(crate) away: Option<Away>,
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    objects: ObjectCache,
    /// Blocks of files that are read in parts.
    pub(crate) blocks: ObjectCache,
    pub(crate) twins: TwinMemory,
    /// Files that were written while their blocks arrived: the next checkout takes them.
    pub(crate) begun: Mutex<Option<BegunFiles>>,
}

impl Repository {
    /// Makes a repository in the folder `root`, which is made where it does not exist and may have files. One whose making
    /// was interrupted is completed.
    ///
    /// # Errors
    /// [`RepoError::AlreadyARepository`], or what the file system says.
    pub fn init(root: &Path, branch: &str, cut: Cut, settings: Settings) -> Result<Self> {
        let branch = check_name(RefKind::Branch, branch)?;
        let root = made(root)?;
        let (dir, root) = (root.join(REPOSITORY_DIR), root);
        Self::init_in(dir, Some(root), branch, cut, settings)
    }

    /// Makes a bare repository, which has no work tree, in the folder `dir` itself. It is made where it does not exist, and must
    /// be empty. One whose making was interrupted is completed.
    ///
    /// # Errors
    /// [`RepoError::AlreadyARepository`]; [`RepoError::Path`] where the folder has files; what the file system says.
    pub fn init_bare(dir: &Path, branch: &str, cut: Cut, settings: Settings) -> Result<Self> {
        let branch = check_name(RefKind::Branch, branch)?;
        let dir = made(dir)?;
        let is_begun = Store::is_in(&dir) || Store::lacks_format(&dir);
        let mut names = fs::read_dir(&dir).map_err(RepoError::io("cannot list", &dir))?;
        if !is_begun && !names.all(|name| name.is_ok_and(|name| Store::is_own(&name.file_name()))) {
            let why = "has files already: a bare repository is a folder of its own".to_owned();
            return Err(RepoError::Path { path: dir, why });
        }
        Self::init_in(dir, None, branch, cut, settings)
    }

    fn init_in(dir: PathBuf, root: Option<PathBuf>, branch: String, cut: Cut, settings: Settings) -> Result<Self> {
        let store = match Store::init(&dir, cut) {
            Err(StoreError::AlreadyARepository(_)) => {
                // One without a HEAD and without anything else was interrupted while it was made: that is finished now.
                let store = Store::open(&dir)?;
                match head_of(&store) {
                    Err(RepoError::Unfinished(_)) => store,
                    Err(error @ RepoError::NoHead { .. }) => return Err(error),
                    _ => return Err(RepoError::AlreadyARepository(root.unwrap_or(dir))),
                }
            }
            other => other?,
        };
        // Git, where it is used beside shard, should not look in here.
        let ignore = dir.join(".gitignore");
        fs::write(&ignore, "*\n").map_err(RepoError::io("cannot write", &ignore))?;
        set_first_refs(&store, branch)?;
        Ok(Self::new(dir, root, store, settings))
    }

    /// Opens the repository of the folder `start` or of the nearest folder above that has one. A folder that is a bare
    /// repository itself counts as well; one named `.shard` always belongs to the work tree around it.
    ///
    /// # Errors
    /// [`RepoError::NotARepository`]; [`RepoError::NoHead`] where refs are lost, and [`RepoError::Unfinished`] where they were never
    /// made; what the store says.
    pub fn discover(start: &Path, settings: Settings) -> Result<Self> {
        let repository = Self::discover_damaged(start, settings)?;
        match head_of(&repository.store) {
            Err(error @ (RepoError::NoHead { .. } | RepoError::Unfinished(_))) => Err(error),
            // What else is wrong with HEAD concerns only those who read it.
            _ => Ok(repository),
        }
    }

    /// The folder of the repository that the folder `start` is in, and that of its work tree.
    fn place(start: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
        let start = start.canonicalize().map_err(RepoError::io("cannot be resolved", start))?;
        let found = start.ancestors().find_map(repository_of);
        found.ok_or_else(|| RepoError::NotARepository(start.clone()))
    }

    /// Puts back the format file of a repository that cannot be opened without it, from another copy of it: one that has a state
    /// of a ref with it in common. Nobody else knows its id. Gives whether the file was missing or damaged.
    ///
    /// # Errors
    /// [`RepoError::NotARepository`]; [`RepoError::Argument`] where the other one is no copy of this repository.
    pub fn restore_format(start: &Path, copy: &Path) -> Result<bool> {
        let (dir, _) = Self::place(start)?;
        match Store::open(&dir) {
            Err(StoreError::NoFormat(_)) => {}
            Err(StoreError::Record { file, problem })
                if file == shard_store::FORMAT && problem == RecordError::Checksum => {}
            _ => return Ok(false),
        }
        let inside = copy.join(REPOSITORY_DIR);
        let copy = Store::open(if inside.is_dir() { &inside } else { copy })?;
        // Every state has a nonce that no other has.
        let (backend, mut is_same) = (copy.backend(), false);
        for folder in backend.list(REFS).map_err(StoreError::from)? {
            for file in backend.list(&format!("{REFS}/{folder}")).map_err(StoreError::from)? {
                let file = format!("{REFS}/{folder}/{file}");
                let Ok(there) = backend.get(&file, MAX_REF_FILE) else { continue };
                let here = dir.join(&file);
                let may_be = fs::metadata(&here).is_ok_and(|here| here.len() == there.len() as u64);
                is_same |= may_be && fs::read(&here).is_ok_and(|here| here == there);
            }
        }
        if !is_same {
            let why = "the other copy has no state of a ref in common with this repository: only a copy of this very one has its \
                       format file";
            return Err(RepoError::Argument(why.to_owned()));
        }
        Store::restore_format(&dir, &copy)?;
        Ok(true)
    }

    /// As [`Self::discover`], and also opens one whose HEAD is missing: for who looks what is damaged, and repairs it.
    ///
    /// # Errors
    /// [`RepoError::NotARepository`], or what the store says.
    pub fn discover_damaged(start: &Path, settings: Settings) -> Result<Self> {
        let (dir, root) = Self::place(start)?;
        let store = Store::open(&dir)?;
        Ok(Self::new(dir, root, store, settings))
    }

    /// Opens the repository of a folder, which has it or is a bare one itself.
    ///
    /// # Errors
    /// As [`Self::discover`].
    pub fn open(folder: &Path, settings: Settings) -> Result<Self> {
        let folder = folder.canonicalize().map_err(RepoError::io("cannot be resolved", folder))?;
        let (dir, root) = repository_of(&folder).ok_or(RepoError::NotARepository(folder))?;
        let store = Store::open(&dir)?;
        head_of(&store)?;
        Ok(Self::new(dir, root, store, settings))
    }

    pub(crate) fn new(dir: PathBuf, root: Option<PathBuf>, store: Store, settings: Settings) -> Self {
        let store = with_promised(store, settings);
        let (objects, blocks) = (ObjectCache::new(OBJECTS), ObjectCache::new(BLOCKS));
        let (work, twins) = (root.map(WorkTree::new), TwinMemory::default());
        Self { dir, work, away: None, store, settings, objects, blocks, twins, begun: Mutex::default() }
    }

    pub(crate) fn new_away(away: Away, store: Store, settings: Settings) -> Self {
        let dir = PathBuf::from(&away.address);
        Self { away: Some(away), ..Self::new(dir, None, store, settings) }
    }

    /// The folder that holds the repository and the work tree; of a bare repository, its own.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.work.as_ref().map_or(&self.dir, WorkTree::root)
    }

    /// The folder of the repository itself; the address of one that is in no folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Whether the repository has no work tree.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.work.is_none()
    }

    /// The work tree, for what cannot be done without.
    pub(crate) fn work(&self) -> Result<&WorkTree> {
        self.work.as_ref().ok_or_else(|| RepoError::Bare(self.dir.clone()))
    }

    /// The store behind the repository.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How this process uses it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Where tensors of this repository are cut.
    #[must_use]
    pub fn cut(&self) -> Cut {
        self.store.cut()
    }

    pub(crate) fn snapshot_options(&self) -> SnapshotOptions {
        SnapshotOptions::new(self.cut(), self.settings, ChainLimits::of_level(self.settings.level))
    }

    /// Reads objects, from memory where they were read before.
    pub(crate) fn objects(&self) -> Objects<'_> {
        Objects::cached(&self.store, &self.objects)
    }

    pub(crate) fn read_ref(&self, name: &str) -> Result<Option<RefState>> {
        Ok(self.store.refs().read(name).map_err(StoreError::from)?)
    }

    /// What is checked out.
    ///
    /// # Errors
    /// Refs that cannot be read, or [`RepoError::NoHead`].
    pub fn head(&self) -> Result<Head> {
        let head = head_of(&self.store)?;
        match head.target {
            Target::Commit(commit) => Ok(Head { branch: None, commit: Some(commit) }),
            Target::Symbolic(name) => {
                let commit = self.read_ref(&name)?.and_then(|state| commit_of(&state));
                let branch = name.strip_prefix(HEADS).unwrap_or(&name).to_owned();
                Ok(Head { branch: Some(branch), commit })
            }
            _ => Err(RepoError::Argument(format!("the ref {HEAD} names neither a branch nor a commit"))),
        }
    }

    /// The branches that have commits, then the tags, each in the order of their names.
    ///
    /// # Errors
    /// Refs that cannot be read.
    pub fn named_refs(&self) -> Result<Vec<NamedRef>> {
        self.named_refs_unless(|_| false)
    }

    /// As [`Self::named_refs`], without those that are damaged: for who only shows names beside something else.
    ///
    /// # Errors
    /// Refs that cannot be read for another reason.
    pub fn readable_refs(&self) -> Result<Vec<NamedRef>> {
        self.named_refs_unless(RepoError::is_damage)
    }

    fn named_refs_unless(&self, is_left_out: impl Fn(&RepoError) -> bool) -> Result<Vec<NamedRef>> {
        let mut names = Names { repository: self, objects: self.objects() };
        let mut found = Vec::new();
        for (kind, prefix) in [(RefKind::Branch, HEADS), (RefKind::Tag, TAGS)] {
            for (full, state) in self.store.refs().list_each(prefix).map_err(StoreError::from)? {
                let Some(name) = full.strip_prefix(prefix) else { continue };
                let state = state.map_err(|error| RepoError::from(StoreError::from(error)));
                match state.and_then(|_| names.reference(kind, name)) {
                    Ok(commit) => found.extend(commit.map(|commit| NamedRef { kind, name: name.to_owned(), commit })),
                    Err(error) if is_left_out(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// The tracked path of a place given by a user, relative to the current folder or absolute; empty for the root itself. In a
    /// bare repository it is the path itself, from the root of a tree.
    ///
    /// # Errors
    /// A place outside of the work tree, or a path that cannot be kept.
    pub fn tracked_path(&self, given: &Path) -> Result<String> {
        if let Some(work) = &self.work {
            return work.tracked_path(given);
        }
        let why = "it is not valid UTF-8";
        let not_text = || RepoError::BadPath { path: given.to_string_lossy().into_owned(), why };
        let path = given.to_str().ok_or_else(not_text)?;
        let path = if path == "." { "" } else { path.strip_suffix('/').unwrap_or(path) };
        if !path.is_empty() {
            validate_path(path).map_err(|error| RepoError::BadPath { path: error.path, why: error.reason })?;
        }
        Ok(path.to_owned())
    }

    /// The commit that a revision names.
    ///
    /// # Errors
    /// [`RepoError::Revision`], or what cannot be read.
    pub fn resolve(&self, text: &str) -> Result<Digest> {
        self.resolve_revision(&Revision::parse(text)?)
    }

    pub(crate) fn resolve_revision(&self, revision: &Revision) -> Result<Digest> {
        revision.resolve(&mut Names { repository: self, objects: self.objects() }).map_err(|error| match error {
            ResolveError::Revision(error) => self.unless_damaged(revision, error),
            ResolveError::Resolver(error) => error,
        })
    }

    /// A commit that is given by its whole id and not found is missing, not unknown, where packs are damaged.
    fn unless_damaged(&self, revision: &Revision, error: RevisionError) -> RepoError {
        let is_damaged = || self.store.packs().is_ok_and(|packs| packs.iter().any(|pack| pack.problem.is_some()));
        match (Digest::from_hex(&revision.name), &error) {
            (Ok(id), RevisionError::Unknown(_)) if is_damaged() => {
                RepoError::Missing { key: EntryKey { kind: EntryKind::Commit, id } }
            }
            _ => error.into(),
        }
    }
}

/// The state of HEAD. Every repository has one from the moment on that it is made, also before there is a commit: where it is
/// missing refs were lost, and nobody knows what those that are left leave out.
///
/// # Errors
/// [`RepoError::NoHead`]; [`RepoError::Unfinished`] where nothing was ever kept; what cannot be read.
pub(crate) fn head_of(store: &Store) -> Result<RefState> {
    let read = || store.refs().read(HEAD).map_err(StoreError::from);
    if let Some(head) = read()? {
        return Ok(head);
    }
    let backend = store.backend();
    let names = store.refs().list_each("").map_err(StoreError::from)?;
    let is_unfinished =
        names.iter().all(|(name, _)| name == DEFAULT) && backend.list("packs").map_err(StoreError::from)?.is_empty();
    // Another process may just have finished it, and written more.
    if let Some(head) = read()? {
        return Ok(head);
    }
    let dir = store.root().unwrap_or(Path::new("")).to_owned();
    Err(match (is_unfinished, names.is_empty()) {
        (true, _) => RepoError::Unfinished(dir),
        (false, true) => RepoError::NoHead { dir, missing: "all refs are missing (the folder refs)" },
        (false, false) => RepoError::NoHead { dir, missing: "the ref HEAD is missing" },
    })
}

/// Gives a repository that was just made its first refs. With HEAD it is complete.
pub(crate) fn set_first_refs(store: &Store, branch: String) -> Result<()> {
    let target = Target::Symbolic(branch);
    let operation = Nonce::random().map_err(RepoError::io("cannot draw random numbers for", Path::new(HEAD)))?;
    let refs = store.refs();
    let default = refs.read(DEFAULT).map_err(StoreError::from)?;
    if default.as_ref().is_none_or(|default| default.target != target) {
        let made = refs.compare_and_swap(DEFAULT, default.as_ref(), target.clone(), "init", operation);
        made.map_err(StoreError::from)?;
    }
    refs.compare_and_swap(HEAD, None, target, "init", operation).map_err(StoreError::from)?;
    Ok(())
}

/// The repository that a folder has, or is, and its work tree.
pub(crate) fn repository_of(folder: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    let dir = folder.join(REPOSITORY_DIR);
    if dir.is_dir() {
        return Some((dir, Some(folder.to_owned())));
    }
    let is_bare = !folder.ends_with(REPOSITORY_DIR) && (Store::is_in(folder) || Store::lacks_format(folder));
    is_bare.then(|| (folder.to_owned(), None))
}

/// A folder, made where it does not exist, as the system knows it.
fn made(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(RepoError::io("cannot create", folder))?;
    folder.canonicalize().map_err(RepoError::io("cannot be resolved", folder))
}

/// What revisions can name in a repository.
struct Names<'a> {
    repository: &'a Repository,
    objects: Objects<'a>,
}

impl Resolver for Names<'_> {
    type Error = RepoError;

    fn head(&mut self) -> Result<Option<Digest>> {
        Ok(self.repository.head()?.commit)
    }

    fn reference(&mut self, kind: RefKind, name: &str) -> Result<Option<Digest>> {
        let full = format!("{}{name}", kind.prefix().trim_start_matches("refs/"));
        if ref_name::check(&full).is_err() {
            return Ok(None);
        }
        let state = self.repository.store.refs().read_resolved(&full).map_err(StoreError::from)?.state;
        match state.map(|state| state.target) {
            Some(Target::Commit(commit)) => Ok(Some(commit)),
            Some(Target::Tag(tag)) => Ok(Some(self.objects.tag(tag)?.target)),
            _ => Ok(None),
        }
    }

    fn logged(&mut self, name: &str, moves: usize) -> Result<Option<Digest>> {
        self.repository.logged(name, moves)
    }

    fn commits_with_prefix(&mut self, digits: &str) -> Result<Vec<Digest>> {
        let found = self.repository.store.find_prefix(EntryKind::Commit, digits, MAX_CANDIDATES)?;
        match GitId::from_hex(digits) {
            Some(twin) if found.is_empty() => self.repository.commits_of_twin(twin, MAX_CANDIDATES),
            _ => Ok(found),
        }
    }

    fn parents(&mut self, commit: &Digest) -> Result<Vec<Digest>> {
        Ok(self.objects.commit(*commit)?.parents)
    }
}

fn commit_of(state: &RefState) -> Option<Digest> {
    match state.target {
        Target::Commit(commit) => Some(commit),
        _ => None,
    }
}
