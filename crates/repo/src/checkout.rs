//! `checkout`: files of a revision come back into the work tree, or into another folder.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use shard_core::{Digest, Progress};
use shard_history::revision::RefKind;
use shard_history::{FileEntry, FileMode, FileTree};
use shard_store::process::Process;
use shard_store::{EntrySource, RefState, RefUpdate, Target};
use tempfile::TempPath;

use crate::begun::{BegunFiles, PartFile};
use crate::beneath::Place;
use crate::blocks::block_key;
use crate::collect::hold_target;
use crate::error::{RepoError, Result};
use crate::objects::{Objects, check_manifest};
use crate::repository::{HEAD, HEADS, Repository, STAGE, head_of};
use crate::restore::{copy_file, hash_file, restore_bytes, restore_file};
use crate::stage::put_tree;
use crate::status::WorkState;
use crate::worktree::{Found, UNFINISHED};

/// How to check out.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckoutOptions {
    /// Whether changes in the work tree that are not committed may be lost.
    pub force: bool,
}

/// What `checkout` did.
#[derive(Debug, Clone)]
pub struct CheckoutReport {
    /// The commit that the files are from.
    pub commit: Digest,
    /// The branch that is checked out now; `None` where a commit is, or where only files were taken.
    pub branch: Option<String>,
    /// Files written, and their bytes.
    pub written: Vec<(String, u64)>,
    /// Files removed.
    pub removed: Vec<String>,
    /// Files that were right already.
    pub unchanged: u64,
}

/// What becomes of changes that no commit has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Losses {
    /// They stay in files that are the same in stage and target, and are refused to be lost in others.
    Keep,
    /// The same, where the log of the stage keeps what is staged; files that are gone stay so where they do not differ.
    KeepUnstaged,
    /// Tracked files may have none.
    Refuse,
    /// They may be lost.
    Allow,
    /// They may be lost, but only in files that differ between stage and target.
    AllowTouched,
}

/// What became of the work tree.
pub(crate) struct Placed {
    /// The stage's state, from which it has to follow.
    pub(crate) stage: Option<RefState>,
    /// Files written, and their bytes.
    pub(crate) written: Vec<(String, u64)>,
    /// Files removed.
    pub(crate) removed: Vec<String>,
    /// Files that were right already.
    pub(crate) unchanged: u64,
    /// What was at the paths that were written or removed, `None` where nothing was; without those that had changes.
    pub(crate) before: BTreeMap<String, Option<FileEntry>>,
}

/// Most paths that an error names.
pub(crate) const NAMED: usize = 10;

impl Repository {
    /// Makes the work tree, the stage and HEAD those of a revision. A branch's name leaves that branch checked out,
    /// anything else the commit alone.
    ///
    /// # Errors
    /// [`RepoError::WouldOverwrite`] where files would be lost that no commit has; an unknown revision; damaged data; a file
    /// where a folder is needed or the reverse. All of these before anything is touched. Also what the file system says.
    pub fn checkout(&self, text: &str, options: CheckoutOptions, progress: &dyn Progress) -> Result<CheckoutReport> {
        let commit = self.resolve(text)?;
        let branch = self.branch_of(text, commit)?;
        self.switch((commit, branch), &[], &format!("checkout: {text}"), options, progress)
    }

    /// The branch that the text of a commit names.
    pub(crate) fn branch_of(&self, text: &str, commit: Digest) -> Result<Option<String>> {
        if matches!(text, "HEAD" | "@") {
            // What is checked out stays so.
            return Ok(self.head()?.branch);
        }
        let text = text.strip_prefix("refs/").unwrap_or(text);
        let name = text.strip_prefix(HEADS).unwrap_or(text);
        let state = self.store.refs().read(&format!("{HEADS}{name}")).ok().flatten();
        Ok(state.filter(|state| state.target == Target::Commit(commit)).map(|_| name.to_owned()))
    }

    /// Makes a branch that ends at a revision, and checks it out; where that is refused, there is no branch either.
    ///
    /// # Errors
    /// As [`Self::checkout`] and [`Self::create_branch`].
    pub fn checkout_new_branch(
        &self,
        name: &str,
        start: &str,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<CheckoutReport> {
        let commit = self.resolve(start)?;
        let full = self.new_name(RefKind::Branch, name, None)?;
        let update = RefUpdate { name: full, expected: None, target: Target::Commit(commit) };
        let to = (commit, Some(name.to_owned()));
        self.switch(to, &[update], &format!("checkout: {name}"), options, progress)
    }

    /// Switches to a commit and the branch that leads there. `first` are refs that move before: the branch, where it has to be
    /// made.
    pub(crate) fn switch(
        &self,
        to: (Digest, Option<String>),
        first: &[RefUpdate],
        message: &str,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<CheckoutReport> {
        self.switch_and(to, (first, &[]), message, options, progress)
    }

    /// The same; the second updates are of refs that move after what is checked out.
    pub(crate) fn switch_and(
        &self,
        to: (Digest, Option<String>),
        others: (&[RefUpdate], &[RefUpdate]),
        message: &str,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<CheckoutReport> {
        self.again_if_condemned(|| self.switch_once(to.clone(), others, message, options, progress))
    }

    fn switch_once(
        &self,
        (commit, branch): (Digest, Option<String>),
        (first, last): (&[RefUpdate], &[RefUpdate]),
        message: &str,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<CheckoutReport> {
        if !options.force {
            self.refuse_while_merging()?;
        }
        let transaction = self.begin_move("checkout", commit)?;
        for update in first.iter().chain(last) {
            hold_target(&self.store, &transaction, &update.target)?;
        }
        let target = self.files_of(commit)?;
        let losses = if options.force { Losses::Allow } else { Losses::Keep };
        let Placed { stage, written, removed, unchanged, .. } = self.replace_work_tree(&target, losses, progress)?;
        let root = put_tree(&transaction, &target)?;
        let head = head_of(&self.store)?;
        let to = match &branch {
            Some(branch) => Target::Symbolic(format!("{HEADS}{branch}")),
            None => Target::Commit(commit),
        };
        let mut updates = first.to_vec();
        if stage.as_ref().is_none_or(|state| state.target != Target::Tree(root)) {
            updates.push(RefUpdate { name: STAGE.to_owned(), expected: stage, target: Target::Tree(root) });
        }
        if head.target != to {
            updates.push(RefUpdate { name: HEAD.to_owned(), expected: Some(head), target: to });
        }
        updates.extend(self.forget_merge()?);
        updates.extend_from_slice(last);
        self.move_or_lose(&transaction, &updates, message)?;
        Ok(CheckoutReport { commit, branch, written, removed, unchanged })
    }

    /// Makes the tracked files those of a tree; the stage has to follow. The caller holds a transaction, so that nothing is
    /// collected meanwhile.
    pub(crate) fn replace_work_tree(
        &self,
        target: &FileTree,
        losses: Losses,
        progress: &dyn Progress,
    ) -> Result<Placed> {
        let work = self.work()?;
        let (stage_state, stage) = self.stage()?;
        let changes: BTreeMap<String, WorkState> = self.work_changes(&stage)?.into_iter().collect();
        if !matches!(losses, Losses::Allow | Losses::AllowTouched) {
            self.refuse_losses(&stage, target, &changes, losses)?;
        }
        let gone = stage.files().keys().filter(|path| target.get(path).is_none());
        let removed: Vec<String> = gone.cloned().collect();
        let (wanted, unchanged): (BTreeMap<_, _>, BTreeMap<_, _>) = target.files().iter().partition(|(path, entry)| {
            let is_off = match changes.get(*path) {
                Some(WorkState::Deleted) => !matches!(losses, Losses::KeepUnstaged | Losses::AllowTouched),
                Some(WorkState::Modified) => matches!(losses, Losses::Refuse | Losses::Allow),
                _ => false,
            };
            is_off || !is_same_file(stage.get(path), Some(*entry))
        });
        self.refuse_clashes(&wanted, &removed)?;
        let touched = wanted.keys().copied().chain(&removed);
        let before = touched.filter_map(|path| match changes.get(path) {
            None => Some((path.clone(), stage.get(path).copied())),
            Some(WorkState::Deleted) => Some((path.clone(), None)),
            Some(WorkState::Modified | WorkState::Untracked) => None,
        });
        let before = before.collect();
        // Everything is decoded before anything is touched.
        let ready = self.prepare_files(&wanted, progress)?;
        for path in &removed {
            work.remove(path)?;
        }
        let written = place_all(ready, work.root())?;
        Ok(Placed { stage: stage_state, written, removed, unchanged: unchanged.len() as u64, before })
    }

    /// Takes single files or folders of a revision into the work tree and the stage, over what is there: naming a path asks
    /// for that, as in Git. What is checked out stays.
    ///
    /// # Errors
    /// As [`Self::checkout`]; a path that the revision does not have.
    pub fn checkout_paths(&self, text: &str, paths: &[PathBuf], progress: &dyn Progress) -> Result<CheckoutReport> {
        self.again_if_condemned(|| self.checkout_paths_once(text, paths, progress))
    }

    fn checkout_paths_once(&self, text: &str, paths: &[PathBuf], progress: &dyn Progress) -> Result<CheckoutReport> {
        let commit = self.resolve(text)?;
        let tracked = paths.iter().map(|path| self.tracked_path(path)).collect::<Result<Vec<_>>>()?;
        let transaction = self.begin_move("checkout", commit)?;
        let chosen = choose(text, self.files_of(commit)?, &tracked)?;
        let (stage_state, mut stage) = self.stage()?;
        let wanted: BTreeMap<&String, &FileEntry> = chosen.iter().collect();
        self.refuse_clashes(&wanted, &[])?;
        let written = place_all(self.prepare_files(&wanted, progress)?, self.work()?.root())?;
        let changes = chosen.iter().map(|(path, entry)| (path.clone(), Some(*entry))).collect();
        let is_decided = |path: &str| chosen.contains_key(path);
        let message = format!("checkout: {text} (paths)");
        self.move_stage(&transaction, stage_state, &mut stage, &changes, is_decided, &message)?;
        Ok(CheckoutReport { commit, branch: None, written, removed: Vec::new(), unchanged: 0 })
    }

    /// Writes files of a revision (all, or those at or below `paths`) into a folder outside of the work tree's care, which
    /// may exist; files in it that have the same names are replaced only with `force`. Nothing else of the repository
    /// changes.
    ///
    /// # Errors
    /// As [`Self::checkout`].
    pub fn export(
        &self,
        text: &str,
        paths: &[String],
        folder: &Path,
        options: CheckoutOptions,
        progress: &dyn Progress,
    ) -> Result<CheckoutReport> {
        let (commit, chosen) = self.chosen(text, paths)?;
        self.made_outside(folder)?;
        refuse_taken(chosen.keys(), folder, options)?;
        let wanted: BTreeMap<&String, &FileEntry> = chosen.iter().collect();
        let temporary = (folder, UNFINISHED.0);
        let ready = prepare_all(&self.store, &wanted, folder, temporary, self.settings.workers(), progress)?;
        let written = place_all(ready, folder)?;
        Ok(CheckoutReport { commit, branch: None, written, removed: Vec::new(), unchanged: 0 })
    }

    /// Makes a folder to write files to, where it is not there, and gives its whole path.
    ///
    /// # Errors
    /// [`RepoError::Argument`] inside the repository's own folder.
    pub(crate) fn made_outside(&self, folder: &Path) -> Result<PathBuf> {
        let absolute = std::path::absolute(folder).map_err(RepoError::io("cannot be found", folder))?;
        let there = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(&absolute);
        let own = fs::canonicalize(self.dir()).map_err(RepoError::io("cannot be found", &self.dir()))?;
        let check = |place: &Path| {
            if fs::canonicalize(place).map_err(RepoError::io("cannot be found", folder))?.starts_with(&own) {
                let why = "is inside the repository's own folder: choose one outside";
                return Err(RepoError::Argument(format!("{} {why}", folder.display())));
            }
            Ok(())
        };
        check(there)?;
        fs::create_dir_all(&absolute).map_err(RepoError::io("cannot create", &absolute))?;
        // Again, since `..` after a folder that was not there leads elsewhere.
        check(&absolute)?;
        Ok(absolute)
    }

    /// A revision's commit, and its files: all, or those at or below `paths`.
    pub(crate) fn chosen(&self, text: &str, paths: &[String]) -> Result<(Digest, BTreeMap<String, FileEntry>)> {
        let commit = self.resolve(text)?;
        let tree = self.files_of(commit)?;
        let chosen = if paths.is_empty() { tree.files().clone() } else { choose(text, tree, paths)? };
        Ok((commit, chosen))
    }

    /// Refuses where content that no commit has would be replaced or removed: files of the work tree that differ from the
    /// stage or are untracked, and what is staged.
    fn refuse_losses(
        &self,
        stage: &FileTree,
        target: &FileTree,
        changes: &BTreeMap<String, WorkState>,
        losses: Losses,
    ) -> Result<()> {
        let last = self.head()?.commit.map(|commit| self.files_of(commit)).transpose()?.unwrap_or_default();
        let mut lost: Vec<String> = Vec::new();
        for (path, entry) in stage.files() {
            let wanted = target.get(path);
            let is_kept = losses == Losses::KeepUnstaged || is_same_file(wanted, Some(entry));
            if !is_kept && last.get(path) != Some(entry) {
                lost.push(path.clone());
            }
        }
        for (path, state) in changes {
            let wanted = target.get(path);
            let is_touched = match state {
                WorkState::Deleted => false,
                WorkState::Modified => losses == Losses::Refuse || !is_same_file(stage.get(path), wanted),
                WorkState::Untracked => wanted.is_some(),
            };
            if is_touched && !self.has_content(path, wanted)? {
                lost.push(path.clone());
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        lost.sort();
        lost.dedup();
        lost.truncate(NAMED);
        Err(RepoError::WouldOverwrite { what: "changes that no commit has would be lost", paths: lost })
    }

    pub(crate) fn has_content(&self, path: &str, entry: Option<&FileEntry>) -> Result<bool> {
        let Some(entry) = entry else { return Ok(false) };
        let place = self.work()?.place(path);
        let metadata = fs::symlink_metadata(&place).map_err(RepoError::io("cannot read", &place))?;
        self.is_unchanged(&Found { path: path.to_owned(), metadata }, entry, &mut Vec::new(), 0)
    }

    /// Refuses where a file is needed and a folder with other files is, or a folder and something else is, unless what is
    /// there is among the files to be removed.
    pub(crate) fn refuse_clashes(&self, wanted: &BTreeMap<&String, &FileEntry>, removed: &[String]) -> Result<()> {
        let work = self.work()?;
        let goes = |path: &str| removed.iter().any(|gone| gone == path);
        for path in wanted.keys() {
            for (end, _) in path.match_indices('/') {
                let Some(folder) = path.get(..end) else { continue };
                let there = fs::symlink_metadata(work.place(folder));
                if there.is_ok_and(|metadata| !metadata.is_dir()) && !goes(folder) {
                    return Err(RepoError::InTheWay { path: work.place(folder), needed: "a folder" });
                }
            }
            if work.place(path).is_dir() && !work.place(path).is_symlink() {
                let (files, unnameable) = work.files(path)?;
                if !unnameable.is_empty() || !files.iter().all(|file| goes(&file.path)) {
                    return Err(RepoError::InTheWay { path: work.place(path), needed: "a file" });
                }
            }
        }
        Ok(())
    }

    /// Where files are written before they are put in their places: a folder, and the beginning of their names. They are named as the
    /// store names its own, so that what a killed process leaves is found and removed.
    fn temporary_files(&self) -> (PathBuf, String) {
        (self.dir().join("tmp"), format!("{}.checkout-", Process::current().tag()))
    }

    /// Begins the files of a commit that is in a transaction, and whose blocks are on their way: the next checkout of them decodes
    /// only what did not arrive.
    pub(crate) fn begin_files(&self, arriving: &dyn EntrySource, commit: Digest) -> Result<BegunFiles> {
        let mut objects = Objects::new(arriving);
        let root = objects.commit(commit)?.tree;
        let tree = objects.file_tree(root)?;
        let ((folder, prefix), mut begun) = (self.temporary_files(), BegunFiles::new());
        for (path, entry) in tree.files() {
            let manifest = objects.manifest_once(entry.manifest)?;
            check_manifest(path, entry, &manifest)?;
            begun.begin(entry, &manifest, (&folder, &prefix), self.settings.workers())?;
        }
        Ok(begun)
    }

    pub(crate) fn prepare_files(
        &self,
        wanted: &BTreeMap<&String, &FileEntry>,
        progress: &dyn Progress,
    ) -> Result<Vec<Ready>> {
        let (temporary, prefix) = self.temporary_files();
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let begun = begun.map(BegunFiles::into_parts).unwrap_or_default();
        let temporary = (&*temporary, &*prefix);
        complete_all((&self.store, begun), wanted, self.work()?.root(), temporary, self.settings.workers(), progress)
    }
}

/// Whether two trees have the same at a path: the same file, however it is stored, or none.
pub(crate) fn is_same_file(one: Option<&FileEntry>, other: Option<&FileEntry>) -> bool {
    let content = |entry: &FileEntry| (entry.mode, entry.size, entry.sha256);
    one.map(content) == other.map(content)
}

/// Refuses where files are in a folder already, unless they may be overwritten.
pub(crate) fn refuse_taken<'a>(
    paths: impl Iterator<Item = &'a String>,
    folder: &Path,
    options: CheckoutOptions,
) -> Result<()> {
    let taken = paths.filter(|path| fs::symlink_metadata(folder.join(path)).is_ok());
    let paths: Vec<String> = taken.take(NAMED).cloned().collect();
    if options.force || paths.is_empty() {
        return Ok(());
    }
    Err(RepoError::WouldOverwrite { what: "files would be overwritten", paths })
}

/// The files at or below `paths`.
fn choose(text: &str, tree: FileTree, paths: &[String]) -> Result<BTreeMap<String, FileEntry>> {
    let mut chosen = BTreeMap::new();
    for path in paths {
        let before = chosen.len();
        chosen.extend(tree.get(path).map(|entry| (path.clone(), *entry)));
        chosen.extend(tree.below(path).map(|(path, entry)| (path.clone(), *entry)));
        if chosen.len() == before && !paths.iter().any(|other| other != path && tree.get(path).is_some()) {
            return Err(RepoError::NoSuchPath { revision: text.to_owned(), path: path.clone() });
        }
    }
    Ok(chosen)
}

/// A file that is decoded and only has to be put in its place.
pub(crate) struct Ready {
    path: String,
    size: u64,
    content: Content,
}

impl Ready {
    pub(crate) fn file(path: &str, size: u64, file: TempPath) -> Self {
        Self { path: path.to_owned(), size, content: Content::File(file) }
    }

    /// Refuses a file whose bytes are not those of a hash.
    pub(crate) fn prove(&self, expected: Digest) -> Result<()> {
        let found = match &self.content {
            Content::File(file) => hash_file(file).map_err(RepoError::io("cannot be read again", file))?,
            Content::Link(bytes) => shard_core::sha256(bytes),
        };
        if found == expected { Ok(()) } else { Err(RepoError::WrongFile { path: self.path.clone(), expected, found }) }
    }
}

enum Content {
    File(TempPath),
    Link(Vec<u8>),
}

/// Decodes files into temporary ones, in `temporary` (a folder and the beginning of names) or else in `folder`. Of files with the same
/// content one is decoded, and the others are copies of it: clones that share its space, where the file system has them.
pub(crate) fn prepare_all(
    source: &dyn EntrySource,
    wanted: &BTreeMap<&String, &FileEntry>,
    folder: &Path,
    temporary: (&Path, &str),
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Ready>> {
    complete_all((source, HashMap::new()), wanted, folder, temporary, threads, progress)
}

/// The same; files that are begun are completed.
fn complete_all(
    (source, mut begun): (&dyn EntrySource, HashMap<Digest, PartFile>),
    wanted: &BTreeMap<&String, &FileEntry>,
    folder: &Path,
    temporary: (&Path, &str),
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Ready>> {
    let mut objects = Objects::new(source);
    let mut ready: Vec<Ready> = Vec::new();
    let mut first: HashMap<(Digest, FileMode), usize> = HashMap::new();
    if source.is_partial() {
        // Those of all files at once: small files would take a round trip each.
        let mut blocks = Vec::new();
        for entry in wanted.values() {
            blocks.extend(objects.manifest_once(entry.manifest)?.blocks().map(|block| block_key(block.span.id)));
        }
        source.bring(&mut blocks.into_iter())?;
    }
    progress.begin("writing", Some(wanted.values().map(|entry| entry.size).sum()));
    for (path, entry) in wanted {
        let manifest = objects.manifest_once(entry.manifest)?;
        check_manifest(path, entry, &manifest)?;
        let content = if entry.mode == FileMode::Symlink {
            Content::Link(restore_bytes(&manifest, source, path)?)
        } else {
            let executable = entry.mode == FileMode::Executable;
            let same = first.get(&(entry.manifest, entry.mode)).and_then(|index| match &ready.get(*index)?.content {
                Content::File(file) => Some(file),
                Content::Link(_) => None,
            });
            let restored = match same {
                Some(file) => copy_file(file, temporary, folder).inspect(|_| progress.advance(entry.size)),
                None => {
                    let begun = begun.remove(&entry.manifest);
                    restore_file((&manifest, begun), source, executable, temporary, folder, threads, progress)
                }
            };
            Content::File(restored.map_err(|error| match error {
                RepoError::NotRepeated(_) => RepoError::OtherCompressor { path: (*path).clone() },
                error => error,
            })?)
        };
        first.entry((entry.manifest, entry.mode)).or_insert(ready.len());
        ready.push(Ready { path: (*path).clone(), size: entry.size, content });
    }
    progress.finish();
    Ok(ready)
}

/// Puts decoded files in their places below `folder`, each by one rename, and gives their paths and sizes.
pub(crate) fn place_all(ready: Vec<Ready>, folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut written = Vec::with_capacity(ready.len());
    for Ready { path, size, content } in ready {
        let place = Place::make(folder, &path)?;
        match content {
            Content::Link(bytes) => place.link(&bytes)?,
            Content::File(file) => place.put(file)?,
        }
        written.push((path, size));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use shard_core::NoProgress;
    use shard_core::limits::Cut;
    use shard_store::EntryKind;

    use super::*;
    use crate::Settings;
    use crate::counted::Counted;

    #[test]
    fn of_files_with_the_same_content_one_is_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path(), "main", Cut::TEST, Settings::default()).unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for path in ["a.bin", "b.bin", "c.bin", "other.bin"] {
            fs::write(folder.path().join(path), &bytes[usize::from(path == "other.bin")..]).unwrap();
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(folder.path().join("c.bin"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        repository.add(&[folder.path().to_owned()], &NoProgress).unwrap();
        let (_, files) = repository.stage().unwrap();
        let wanted: BTreeMap<&String, &FileEntry> =
            files.files().iter().filter(|(path, _)| *path != "other.bin").collect();
        let out = tempfile::tempdir().unwrap();
        let source = Counted::new(repository.store());
        let temporary = (out.path(), UNFINISHED.0);
        let ready = prepare_all(&source, &wanted, out.path(), temporary, 2, &NoProgress).unwrap();
        place_all(ready, out.path()).unwrap();
        for path in ["a.bin", "b.bin", "c.bin"] {
            assert!(fs::read(out.path().join(path)).unwrap() == bytes, "{path}");
            let modes = [folder.path(), out.path()].map(|root| fs::metadata(root.join(path)).unwrap().permissions());
            assert_eq!(modes[0], modes[1], "{path}");
        }
        // Once for both files of one mode, and once for the executable one.
        let reads = source.reads();
        let mut blocks = reads.iter().filter(|(key, _)| key.kind == EntryKind::Block).peekable();
        assert!(blocks.peek().is_some() && blocks.all(|(_, count)| *count == 2), "{reads:?}");
    }
}
