//! `optimize`: what is stored is encoded again, as it would be today, and small packs become large ones.
//!
//! Commits are gone through from the first on, as if they were made now: each file leans on what came before it, on the best
//! base that is known, at the level that is asked for. A copy that comes out smaller is written beside the old one; what does
//! not stays as it is ([`recoder`]). No id changes, and nothing is deleted: a collection keeps the smallest copies
//! ([`shard_store::Choice`]), and the old ones go. What is stored as computed from other tensors stays so.

mod progress;
mod recoder;
mod stored_file;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use shard_codecs::Level;
use shard_core::{Digest, Progress};
use shard_history::{FileEntry, FileTree, Order, Tree, TreeNode, Walk};
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntrySource, Location, PackId, StoreError, Target, Transaction};

use crate::base_chain::ChainLimits;
use crate::blocks::BlockReader;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::parent::{EarlierFiles, MAX_CANDIDATES, by_nearness};
use crate::repository::{Repository, head_of};
use crate::snapshot::{SnapshotOptions, encode_again};
use progress::Done;
use recoder::Recoder;
use stored_file::StoredFile;

/// A pack is small below this share of a full one.
const SMALL: u64 = 16;
/// Bytes that are written before they are made durable, and what was done is noted.
const EVERY: u64 = 64 << 20;

/// How to optimize. The level is that of the repository's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OptimizeOptions {
    /// Whether to go on where an earlier one at the same level was interrupted.
    pub resume: bool,
    /// After files of about so many bytes stop, to be resumed later.
    pub at_most: Option<u64>,
}

/// What there is to optimize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OptimizePlan {
    /// Files that are looked at, each content once.
    pub files: u64,
    /// Those that an interrupted run has done.
    pub done: u64,
    /// Their blocks, each once.
    pub blocks: u64,
    /// Bytes that those are.
    pub raw_bytes: u64,
    /// Bytes that those take, each in its smallest copy.
    pub bytes_before: u64,
    /// Small packs that are put together.
    pub small_packs: u64,
    /// Bytes of what is in them and nowhere else.
    pub small_bytes: u64,
}

/// What was optimized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OptimizeReport {
    /// Files that were looked at.
    pub files: u64,
    /// Those that an interrupted run had done.
    pub done: u64,
    /// Their blocks, each once.
    pub blocks: u64,
    /// Blocks that were encoded anew.
    pub recoded: u64,
    /// Entries that were copied out of small packs as they are.
    pub repacked: u64,
    /// Bytes that the blocks took, each in its smallest copy.
    pub bytes_before: u64,
    /// Bytes that they take.
    pub bytes_after: u64,
    /// Whether it stopped before everything was looked at, since that was asked.
    pub stopped: bool,
}

/// A file of the history.
struct Found {
    path: String,
    entry: FileEntry,
    /// The trees before, in which its predecessors are.
    before: Vec<Digest>,
}

/// Everything that refs name.
#[derive(Default)]
struct History {
    /// Every content once, oldest first.
    files: Vec<Found>,
    /// All else.
    objects: HashSet<EntryKey>,
}

impl Repository {
    /// What there is to optimize. Nothing is encoded: what it comes to is only known afterwards.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn plan_optimize(&self, options: OptimizeOptions) -> Result<OptimizePlan> {
        let history = self.whole_history()?;
        let done = Done::open(&self.store, self.settings.level, options.resume);
        let transaction = self.store.begin("plan")?;
        let recoder = Recoder::new(&transaction)?;
        let mut plan = OptimizePlan { files: history.files.len() as u64, ..OptimizePlan::default() };
        let (mut objects, mut seen) = (Objects::new(&self.store), HashSet::new());
        for found in &history.files {
            plan.done += u64::from(done.has(&found.entry.manifest));
            for block in objects.manifest_once(found.entry.manifest)?.blocks() {
                if seen.insert(block.span.id) && recoder.keep(block.span.id)? {
                    plan.blocks += 1;
                    plan.raw_bytes += u64::from(block.span.len);
                    plan.bytes_before += recoder.decided(&block.span.id).map_or(0, |location| location.stored_len);
                }
            }
        }
        let small = self.in_small_packs(&history, &seen, &recoder)?;
        let packs: HashSet<PackId> = small.iter().map(|location| location.pack).collect();
        plan.small_packs = packs.len() as u64;
        plan.small_bytes = small.iter().map(|location| location.stored_len).sum();
        Ok(plan)
    }

    /// Encodes everything that refs name anew, and keeps what is smaller; puts small packs together.
    ///
    /// # Errors
    /// [`StoreError::Claimed`] where somebody else optimizes, repairs or collects; what cannot be read or written. What was made
    /// durable until then counts.
    pub fn optimize(&self, options: OptimizeOptions, progress: &dyn Progress) -> Result<OptimizeReport> {
        head_of(&self.store)?;
        let _claim = self.store.claim("optimize")?;
        let transaction = self.store.begin_copy("optimize")?;
        let history = self.whole_history()?;
        let total = history.files.iter().map(|found| found.entry.size).sum();
        progress.begin("optimizing", Some(total));
        let mut done = Done::open(&self.store, self.settings.level, options.resume);
        let recoder = Recoder::new(&transaction)?;
        let mut run = Run {
            recoder: &recoder,
            transaction: &transaction,
            objects: Objects::new(&self.store),
            trees: HashMap::new(),
            options: SnapshotOptions {
                chains: ChainLimits::of_level(self.settings.level).without_derivations(),
                ..self.snapshot_options()
            },
            seen: HashSet::new(),
            report: OptimizeReport { files: history.files.len() as u64, ..OptimizeReport::default() },
        };
        let (mut looked_at, mut noted) = (0, 0);
        for found in &history.files {
            if options.at_most.is_some_and(|most| looked_at >= most) {
                run.report.stopped = true;
                break;
            }
            let is_done = done.has(&found.entry.manifest);
            run.file(found, is_done, progress)?;
            if is_done {
                run.report.done += 1;
                continue;
            }
            looked_at += found.entry.size;
            done.add(found.entry.manifest);
            if looked_at - noted >= EVERY {
                noted = looked_at;
                transaction.seal()?;
                done.note();
            }
        }
        let Run { mut report, seen, .. } = run;
        report.recoded = recoder.written();
        if !report.stopped {
            for location in self.in_small_packs(&history, &seen, &recoder)? {
                report.repacked += u64::from(copy_as_it_is(&transaction, &location)?);
            }
        }
        transaction.seal()?;
        transaction.check_epoch()?;
        done.note();
        if !report.stopped {
            done.close();
        }
        progress.finish();
        Ok(report)
    }

    /// Everything that refs name, commits oldest first.
    fn whole_history(&self) -> Result<History> {
        let (mut objects, mut history) = (Objects::new(&self.store), History::default());
        let (mut tips, mut last_trees) = (Vec::new(), Vec::new());
        for (_, state) in self.store.refs().list("").map_err(StoreError::from)? {
            match state.target {
                Target::Commit(id) => tips.push(id),
                Target::Tag(id) => {
                    history.objects.insert(EntryKey::new(EntryKind::Tag, id));
                    tips.push(objects.tag(id)?.target);
                }
                Target::Tree(id) => last_trees.push(id),
                Target::Symbolic(_) | Target::Deleted => {}
            }
        }
        let mut commits: HashMap<Digest, (Digest, Vec<Digest>)> = HashMap::new();
        let fetch = |id: &Digest| {
            let commit = objects.commit(*id)?;
            let node = commit.node().map_err(|source| RepoError::History { what: "commit", id: *id, source })?;
            commits.insert(*id, (commit.tree, commit.parents));
            Ok(node)
        };
        let order: std::result::Result<Vec<Digest>, _> = Walk::new(&tips, Order::Topological, fetch).collect();
        let order = order.map_err(|error| match error {
            shard_history::DagError::Fetch(error) => error,
            shard_history::DagError::Cycle(id) => RepoError::Cycle(id),
        })?;
        let mut objects = Objects::new(&self.store);
        let mut trees: Vec<(Digest, Vec<Digest>)> = Vec::new();
        for id in order.iter().rev() {
            let Some((tree, parents)) = commits.get(id) else { continue };
            let before = parents.iter().filter_map(|parent| Some(commits.get(parent)?.0)).collect();
            trees.push((*tree, before));
        }
        let head = trees.last().map(|(tree, _)| *tree);
        trees.extend(last_trees.into_iter().map(|tree| (tree, head.into_iter().collect())));
        history.objects.extend(order.into_iter().map(|id| EntryKey::new(EntryKind::Commit, id)));
        let mut files = HashSet::new();
        for (root, before) in trees {
            let mut open = vec![(String::new(), root)];
            while let Some((path, id)) = open.pop() {
                if !history.objects.insert(EntryKey::new(EntryKind::Tree, id)) {
                    continue;
                }
                let tree = Tree::from_bytes(objects.bytes(EntryKind::Tree, id)?)
                    .map_err(|source| RepoError::History { what: "tree", id, source })?;
                for (name, node) in tree.entries {
                    let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                    match node {
                        TreeNode::Directory(id) => open.push((path, id)),
                        TreeNode::File(entry) if files.insert(entry.manifest) => {
                            history.objects.insert(EntryKey::new(EntryKind::Manifest, entry.manifest));
                            history.files.push(Found { path, entry, before: before.clone() });
                        }
                        TreeNode::File(_) => {}
                    }
                }
            }
        }
        Ok(history)
    }

    /// What is kept in small packs, if they are several: blocks in the copies that were decided on, and all else that refs name.
    fn in_small_packs(
        &self,
        history: &History,
        blocks: &HashSet<Digest>,
        recoder: &Recoder<'_>,
    ) -> Result<Vec<Location>> {
        let limit = self.store.pack_limit() / SMALL;
        let packs = self.store.packs()?;
        let small: HashSet<PackId> =
            packs.into_iter().filter(|pack| pack.size < limit).map(|pack| PackId::Sealed(pack.id)).collect();
        let mut found = Vec::new();
        let mut others: Vec<EntryKey> = history.objects.iter().copied().collect();
        // Sketches are named by nothing, and small.
        others.extend(self.store.keys(EntryKind::Sketch)?);
        others.sort_unstable();
        for key in others {
            found.extend(recoder.copies(&key)?.first().map(|(copy, _)| *copy));
        }
        let mut blocks: Vec<&Digest> = blocks.iter().collect();
        blocks.sort_unstable();
        found.extend(blocks.into_iter().filter_map(|id| recoder.decided(id)));
        found.retain(|location| small.contains(&location.pack));
        let first = found.first().map(|location| location.pack);
        if found.iter().all(|location| Some(location.pack) == first) {
            found.clear();
        }
        // A base before what leans on it.
        found.sort_by_key(|location| (location.key.kind, location.depth));
        Ok(found)
    }
}

/// Copies an entry; says whether that was written.
fn copy_as_it_is(transaction: &Transaction, location: &Location) -> Result<bool> {
    let key = location.key;
    if matches!(transaction.locate(&key)?, Some(Location { pack: PackId::Pending(_), .. })) {
        return Ok(false);
    }
    let mut stored = Vec::new();
    transaction.store().read_stored(location, &mut stored)?;
    let copies = transaction.store().copies_and_bases(&key)?;
    let this = copies.into_iter().find(|(copy, _)| copy.pack == location.pack);
    let (_, bases) = this.ok_or(RepoError::Missing { key })?;
    transaction.put_copy(&key, &stored, location.raw_len, &bases)?;
    Ok(true)
}

/// One run through the history.
struct Run<'a> {
    recoder: &'a Recoder<'a>,
    transaction: &'a Transaction,
    objects: Objects<'a>,
    /// The files of the last trees that predecessors were looked for in.
    trees: HashMap<Digest, FileTree>,
    options: SnapshotOptions,
    seen: HashSet<Digest>,
    report: OptimizeReport,
}

impl Run<'_> {
    fn file(&mut self, found: &Found, is_done: bool, progress: &dyn Progress) -> Result<()> {
        let manifest = self.objects.manifest_once(found.entry.manifest)?;
        let mut before = 0;
        let mut new = Vec::new();
        let ids: Vec<Digest> = manifest.blocks().map(|block| block.span.id).collect();
        for id in ids {
            if !self.seen.insert(id) {
                continue;
            }
            let smallest = self.recoder.copies(&EntryKey::block(id))?.first().map(|(copy, _)| copy.stored_len);
            before += smallest.ok_or(RepoError::Missing { key: EntryKey::block(id) })?;
            if self.options.coarse.is_none() && self.has_layers(id)? {
                self.recoder.keep(id)?;
            }
            new.push(id);
        }
        let is_decided = |id: &Digest| self.recoder.decided(id).is_some();
        if is_done || new.iter().all(is_decided) {
            progress.advance(found.entry.size);
        } else {
            match self.encode(found, &manifest, progress) {
                // What is damaged stays for `verify` to tell; it is not made worse.
                Err(error) if error.is_damage() => {}
                outcome => outcome?,
            }
        }
        for id in &new {
            self.recoder.keep(*id)?;
            self.report.bytes_after += self.recoder.decided(id).map_or(0, |location| location.stored_len);
        }
        self.report.blocks += new.len() as u64;
        self.report.bytes_before += before;
        Ok(())
    }

    /// Whether a block is stored so that a part of it tells about what it is: who asked for that does not want it smaller.
    fn has_layers(&self, id: Digest) -> Result<bool> {
        match BlockReader::new(self.transaction.store()).header(&EntryKey::block(id)) {
            Ok((header, _)) => Ok(header.chain.coding().name() == "layers"),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn encode(&mut self, found: &Found, manifest: &ContentManifest, progress: &dyn Progress) -> Result<()> {
        let earlier = self.earlier(found, manifest)?;
        let source = StoredFile::new(manifest, self.transaction.store());
        let path = Path::new(&found.path);
        encode_again(&source, path, manifest, &earlier, self.recoder, self.options, progress)
    }

    /// What may predict a file: what the path had before, then the files that were beside it, the nearest by name first.
    fn earlier(&mut self, found: &Found, manifest: &ContentManifest) -> Result<EarlierFiles> {
        if manifest.tensors.is_empty() {
            return Ok(EarlierFiles::default());
        }
        let mut ids: Vec<Digest> = Vec::new();
        for tree in &found.before {
            if !self.trees.contains_key(tree) {
                // Those of one commit follow each other.
                self.trees.clear();
                self.trees.insert(*tree, self.objects.file_tree(*tree)?);
            }
            let Some(files) = self.trees.get(tree) else { continue };
            ids.extend(files.get(&found.path).map(|entry| entry.manifest));
            let near = by_nearness(&found.path, files.files().keys().map(String::as_str));
            ids.extend(near.into_iter().filter_map(|path| files.get(path)).map(|entry| entry.manifest));
        }
        let mut seen = HashSet::from([found.entry.manifest]);
        ids.retain(|id| seen.insert(*id));
        ids.truncate(MAX_CANDIDATES);
        let mut files = Vec::new();
        for id in ids {
            files.push(self.objects.manifest_once(id)?.into());
        }
        Ok(files.into())
    }
}

/// The level's name, for what is noted.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Fast => "fast",
        Level::Default => "default",
        Level::Max => "max",
    }
}
