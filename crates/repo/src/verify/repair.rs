//! `verify --repair`: what is damaged or missing here, taken from another copy of the repository, or mended without one.
//!
//! The other copy is never believed. An entry is taken when its bytes hash to the id that is wanted; it is stored as the other
//! has it where that decodes to those bytes here too, and by itself otherwise. A pack that is damaged goes out of use as a
//! whole: what is good in it is proven and written again, and then it is removed, if nothing is lost with it ([`packs`]). So no
//! index that is built anew finds the bad copies again. How states of refs are put right is in [`refs`].

mod packs;
mod refs;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use shard_codecs::{Block, BlockHeader, Encoder, Level};
use shard_core::limits::MAX_DEPTH;
use shard_core::{Digest, Progress, sha256};
use shard_history::tree::TreeNode;
use shard_history::{Commit, Tag, Tree};
use shard_manifest::ContentManifest;
use shard_store::pack::parse_pack_name;
use shard_store::{
    ArchiveReader, EntryKey, EntryKind, EntrySource, Location, PackId, Salvage, Store, StoreError, Transaction,
};

use super::{Damage, VerifyOptions, VerifyReport};
use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result, unless_damaged};
use crate::objects::Objects;
use crate::repository::Repository;
use crate::worktree::REPOSITORY_DIR;
use refs::Mended;

/// Folders in folders that are looked into: more than a path that can be kept has.
const MAX_FOLDERS: usize = 4096 / 2;
/// Most paths that are told of one folder.
const MAX_PATHS: usize = 10_000;

/// A path that could not be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffectedPath {
    /// The path; empty where a whole revision cannot be read.
    pub path: String,
    /// The commits that have it so.
    pub commits: Vec<Digest>,
}

/// What a repair did.
#[derive(Debug, Clone, Default)]
pub struct RepairReport {
    /// What was found before, refs that were put right among it.
    pub before: VerifyReport,
    /// Entries that were taken from the other copy.
    pub fetched: u64,
    /// Entries that were written again out of packs that are damaged elsewhere.
    pub saved: u64,
    /// Bytes of entries that were written.
    pub bytes: u64,
    /// Packs that went out of use.
    pub retired: Vec<Digest>,
    /// Packs that are damaged and stay, since not all that was in them is known to be elsewhere.
    pub left: Vec<Digest>,
    /// Files of refs, of epochs and index files that were put right, or removed since others do without them.
    pub files: Vec<String>,
    /// What to know of refs that were put right: where nothing proves what they were, and commits that none leads to.
    pub notes: Vec<String>,
    /// What is still wrong.
    pub after: VerifyReport,
    /// Whom that concerns.
    pub affected: Vec<AffectedPath>,
}

/// Another copy.
enum Other {
    Nothing,
    Repository(Store),
    Archive(ArchiveReader),
}

/// A copy that has nothing.
struct Nothing;

impl EntrySource for Nothing {
    fn locate(&self, _key: &EntryKey) -> std::result::Result<Option<Location>, StoreError> {
        Ok(None)
    }

    fn read_stored(&self, location: &Location, _out: &mut Vec<u8>) -> std::result::Result<(), StoreError> {
        Err(StoreError::Missing(location.key))
    }
}

impl Other {
    fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Nothing) };
        if !path.is_dir() {
            return Ok(Self::Archive(ArchiveReader::open(path)?));
        }
        let inside = path.join(REPOSITORY_DIR);
        Ok(Self::Repository(Store::open(if inside.is_dir() { &inside } else { path })?))
    }

    fn entries(&self) -> &dyn EntrySource {
        match self {
            Self::Nothing => &Nothing,
            Self::Repository(store) => store,
            Self::Archive(reader) => reader,
        }
    }

    fn store(&self) -> Option<&Store> {
        match self {
            Self::Repository(store) => Some(store),
            Self::Nothing | Self::Archive(_) => None,
        }
    }
}

impl Repository {
    /// Repairs the repository with another copy of it: a directory, or an archive of some of its files. Without one, only what
    /// is here still is put in order.
    ///
    /// # Errors
    /// Another copy that is none, or is this repository; what keeps it from reading or writing here. What could not be
    /// repaired is in the report.
    pub fn repair(&self, other: Option<&Path>, progress: &dyn Progress) -> Result<RepairReport> {
        let copy = Other::open(other)?;
        self.refuse_unreadable()?;
        // Packs are removed by one at a time.
        let claim = self.store.claim("repair")?;
        let mut report = RepairReport::default();
        let mut told = Vec::new();
        if let Other::Repository(store) = &copy {
            let place = |store: &Store| store.root().and_then(|root| root.canonicalize().ok());
            if place(store) == place(&self.store) {
                return Err(RepoError::Argument("a repository cannot be repaired with itself".to_owned()));
            }
            report.files.extend(self.restore_refs(store)?);
            told.extend(report.files.iter().map(|file| format!("{file}: it was missing")));
        }
        let mended = self.repair_refs(copy.store())?;
        for Mended { file, problem, note } in mended {
            told.push(problem);
            report.notes.extend(note);
            report.files.push(file);
        }
        let is_ref_restored = !report.files.is_empty();
        report.files.extend(self.remove_damaged_index_files()?);
        let full = VerifyOptions { full: true, ..VerifyOptions::default() };
        let (before, damage) = self.inspect(full, Some(claim.lease().nonce), progress)?;
        report.before = before;
        report.before.problems.splice(0..0, told);
        if let Some(error) = damage.failed {
            return Err(error);
        }
        report.files.extend(claim.repair_epochs()?);
        let transaction = self.store.begin_copy("repair")?;
        let mut fetcher = Fetcher {
            store: &self.store,
            transaction: &transaction,
            other: copy.entries(),
            other_store: copy.store(),
            bad_packs: damage.packs.clone(),
            lost: BTreeMap::new(),
            settled: BTreeMap::new(),
            encoder: Encoder::new(Level::Default),
            report: &mut report,
        };
        fetcher.salvage_all()?;
        let mut damage = damage;
        while !damage.entries.is_empty() {
            fetcher.fetch_all(&damage)?;
            transaction.seal()?;
            // What came back leads to more that nothing led to before.
            damage = Damage::default();
            self.follow_refs(&mut VerifyReport::default(), &mut damage)?;
            if let Some(error) = damage.failed {
                return Err(error);
            }
            damage.entries.retain(|key| !fetcher.settled.contains_key(key));
        }
        let packs = fetcher.save_all()?;
        transaction.seal()?;
        transaction.check_epoch()?;
        drop(transaction);
        claim.delete_packs(&packs)?;
        report.retired = packs;
        let (after, left) = self.inspect(full, Some(claim.lease().nonce), progress)?;
        report.after = after;
        if is_ref_restored {
            report.notes.extend(self.unnamed()?);
        }
        report.affected = self.affected(&left.entries)?;
        Ok(report)
    }

    /// What cannot be read now may be whole: only what was read is known to be damaged, and what is known not to be there to be
    /// missing. The index leaves out packs that it could not read, so each is looked at here.
    fn refuse_unreadable(&self) -> Result<()> {
        for id in self
            .store
            .backend()
            .list("packs")
            .map_err(StoreError::from)?
            .iter()
            .filter_map(|name| parse_pack_name(name))
        {
            if let Err(error) = self.store.open_pack(&id).map_err(RepoError::from)
                && !error.is_damage()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Index files that are not what their names say are a shortcut for nobody.
    fn remove_damaged_index_files(&self) -> Result<Vec<String>> {
        let backend = self.store.backend();
        let mut removed = Vec::new();
        for file in backend.list("index").map_err(StoreError::from)? {
            let name = format!("index/{file}");
            let id = file.strip_suffix(".idx").and_then(|id| Digest::from_hex(id).ok());
            let Some(id) = id else { continue };
            if get(&self.store, &name, 1 << 30)?.is_some_and(|bytes| sha256(&bytes) != id) {
                backend.delete(&name).map_err(StoreError::from)?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// The paths that bad entries concern, and the commits that have them.
    fn affected(&self, bad: &BTreeSet<EntryKey>) -> Result<Vec<AffectedPath>> {
        if bad.is_empty() {
            return Ok(Vec::new());
        }
        let mut objects = Objects::new(&self.store);
        let mut looker = Looker { bad, manifests: HashMap::new(), trees: HashMap::new() };
        let mut affected: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        let (mut report, mut damage) = (VerifyReport::default(), Damage::default());
        for (commit, tree) in self.follow_commits(&self.store, &mut report, &mut damage)?.commits {
            for path in looker.tree(tree, 0, &mut objects) {
                affected.entry(path).or_default().push(commit);
            }
        }
        for key in damage.entries.iter().filter(|key| key.kind == EntryKind::Commit) {
            affected.entry(String::new()).or_default().push(key.id);
        }
        Ok(affected.into_iter().map(|(path, commits)| AffectedPath { path, commits }).collect())
    }
}

/// The bytes of a file of a repository, at most so many; `None` where it is not there.
fn get(store: &Store, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    match store.backend().get(name, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(StoreError::from(error).into()),
    }
}

/// The blocks that an entry leans on by its own header; `None` where it has none that can be read.
fn bases_of(stored: &[u8]) -> Option<Vec<Digest>> {
    let (header, _) = BlockHeader::read(stored).ok()?;
    Some(header.base.map(|base| base.blocks()).unwrap_or_default())
}

/// Finds which paths lead to bad entries, every tree and manifest looked at once.
struct Looker<'a> {
    bad: &'a BTreeSet<EntryKey>,
    manifests: HashMap<Digest, bool>,
    trees: HashMap<Digest, Vec<String>>,
}

impl Looker<'_> {
    /// The paths below a tree, itself `depth` folders down. Where there are too many it is the tree as a whole: trees that name one
    /// another over and over have more paths than anybody can list.
    fn tree(&mut self, id: Digest, depth: usize, objects: &mut Objects<'_>) -> Vec<String> {
        if let Some(known) = self.trees.get(&id) {
            return known.clone();
        }
        if depth > MAX_FOLDERS {
            return vec![String::new()];
        }
        // Against trees that lead to themselves.
        self.trees.insert(id, Vec::new());
        let tree = objects.bytes(EntryKind::Tree, id).ok().and_then(|bytes| Tree::from_bytes(bytes).ok());
        let mut paths = Vec::new();
        match tree {
            None => paths.push(String::new()),
            Some(tree) => {
                for (name, node) in tree.entries {
                    match node {
                        TreeNode::Directory(id) => {
                            let below = self.tree(id, depth + 1, objects).into_iter();
                            let path = |path: String| match path.is_empty() {
                                true => name.clone(),
                                false => format!("{name}/{path}"),
                            };
                            paths.extend(below.map(path));
                        }
                        TreeNode::File(file) if self.is_bad(file.manifest, objects) => paths.push(name),
                        TreeNode::File(_) => {}
                    }
                }
            }
        }
        if paths.len() > MAX_PATHS {
            paths = vec![String::new()];
        }
        self.trees.insert(id, paths.clone());
        paths
    }

    fn is_bad(&mut self, id: Digest, objects: &mut Objects<'_>) -> bool {
        *self.manifests.entry(id).or_insert_with(|| match objects.manifest_once(id) {
            Ok(manifest) => manifest.blocks().any(|block| self.bad.contains(&block_key(block.span.id))),
            Err(_) => true,
        })
    }
}

/// The paths below a tree that lead to bad entries.
#[cfg(test)]
pub(super) fn affected_paths(tree: Digest, bad: &BTreeSet<EntryKey>, source: &dyn EntrySource) -> Vec<String> {
    Looker { bad, manifests: HashMap::new(), trees: HashMap::new() }.tree(tree, 0, &mut Objects::new(source))
}

/// An entry as it is stored somewhere, over everything that is here: to see whether it decodes here.
struct Grafted<'a> {
    location: Location,
    stored: &'a [u8],
    below: &'a dyn EntrySource,
}

impl EntrySource for Grafted<'_> {
    fn locate(&self, key: &EntryKey) -> std::result::Result<Option<Location>, StoreError> {
        if *key == self.location.key { Ok(Some(self.location)) } else { self.below.locate(key) }
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> std::result::Result<(), StoreError> {
        if location.key != self.location.key {
            return self.below.read_stored(location, out);
        }
        out.clear();
        out.extend_from_slice(self.stored);
        Ok(())
    }

    fn read(&self, key: &EntryKey, out: &mut Vec<u8>) -> std::result::Result<Location, StoreError> {
        if *key != self.location.key {
            return self.below.read(key, out);
        }
        self.read_stored(&self.location, out)?;
        Ok(self.location)
    }
}

struct Fetcher<'a> {
    store: &'a Store,
    transaction: &'a Transaction,
    other: &'a dyn EntrySource,
    /// The same, where it is a repository.
    other_store: Option<&'a Store>,
    /// Packs that go out of use. One with an entry that was bad when it was written is among them, though its hash is right.
    bad_packs: BTreeSet<Digest>,
    /// What is in those of them that the index knows nothing of.
    lost: BTreeMap<Digest, Salvage>,
    /// Whether an entry is whole here by now.
    settled: BTreeMap<EntryKey, bool>,
    encoder: Encoder,
    report: &'a mut RepairReport,
}

impl Fetcher<'_> {
    /// Fetches what is bad or missing, and what turns out to be missing then.
    fn fetch_all(&mut self, damage: &Damage) -> Result<()> {
        let mut open: Vec<EntryKey> = damage.entries.iter().rev().copied().collect();
        while let Some(key) = open.pop() {
            if self.settled.contains_key(&key) {
                continue;
            }
            if self.settle(key, MAX_DEPTH)? {
                open.extend(self.children(&key)?);
            }
        }
        Ok(())
    }

    /// Makes an entry whole, with the blocks that it leans on, no further down than `depth_left`.
    fn settle(&mut self, key: EntryKey, depth_left: u32) -> Result<bool> {
        if let Some(is_whole) = self.settled.get(&key) {
            return Ok(*is_whole);
        }
        let is_whole = self.is_whole_here(key, depth_left)? || self.fetch(key, depth_left)?;
        self.settled.insert(key, is_whole);
        Ok(is_whole)
    }

    /// Whether an entry can be read here once its bases can. Copies that cannot are used no more.
    fn is_whole_here(&mut self, key: EntryKey, depth_left: u32) -> Result<bool> {
        let mut out = Vec::new();
        loop {
            if self.is_readable(&key, &mut out)? {
                return Ok(true);
            }
            let Some((best, bases)) = self.store.copies_and_bases(&key)?.into_iter().next() else { return Ok(false) };
            for base in bases {
                let is_readable = self.is_readable(&block_key(base), &mut out)?;
                // The copy may be good, and come to use when its base is found elsewhere.
                if !is_readable && (depth_left == 0 || !self.settle(block_key(base), depth_left - 1)?) {
                    return Ok(false);
                }
            }
            if self.prove(&best, None)?.is_some() {
                return Ok(true);
            }
            self.store.forget(&best)?;
            if let PackId::Sealed(pack) = best.pack {
                self.bad_packs.insert(pack);
            }
        }
    }

    fn is_readable(&self, key: &EntryKey, out: &mut Vec<u8>) -> Result<bool> {
        Ok(unless_damaged(BlockReader::new(self.transaction).read(key, out))?.is_some())
    }

    /// The stored bytes of a copy, if they decode to the entry here; those of the other's copy where they are given.
    fn prove(&self, location: &Location, stored: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let stored = match stored {
            Some(stored) => stored.to_vec(),
            None => {
                let mut stored = Vec::new();
                let read = self.store.read_stored(location, &mut stored).map_err(RepoError::from);
                match unless_damaged(read)? {
                    Some(()) => stored,
                    None => return Ok(None),
                }
            }
        };
        let grafted = Grafted { location: *location, stored: &stored, below: self.transaction };
        let read = BlockReader::new(&grafted).read(&location.key, &mut Vec::new());
        Ok(unless_damaged(read)?.map(|()| stored))
    }

    /// Takes an entry from the other copy.
    fn fetch(&mut self, key: EntryKey, depth_left: u32) -> Result<bool> {
        let mut bytes = Vec::new();
        // Decoded and hashed: whatever the other copy is, these are the bytes.
        if self.other.locate(&key)?.is_none()
            || unless_damaged(BlockReader::new(self.other).read(&key, &mut bytes))?.is_none()
        {
            return Ok(false);
        }
        let mut stored = Vec::new();
        let location = unless_damaged(self.other.read(&key, &mut stored).map_err(RepoError::from))?;
        if let (Some(location), Some(bases)) = (location, bases_of(&stored)) {
            let mut has_bases = depth_left > 0 || bases.is_empty();
            for base in &bases {
                has_bases = has_bases && self.settle(block_key(*base), depth_left.saturating_sub(1))?;
            }
            if has_bases && self.prove(&location, Some(&stored))?.is_some() {
                match self.transaction.put_copy(&key, &stored, bytes.len() as u64, &bases) {
                    Ok(()) => return Ok(self.count(stored.len(), true)),
                    Err(StoreError::TooDeep { .. } | StoreError::MissingBase { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        stored.clear();
        let block = Block { data: &bytes, dtype: None, rows: None, base: None };
        let failed = |source| RepoError::Encode { path: key.to_string().into(), source };
        self.encoder.encode(&block, &mut stored).map_err(failed)?;
        self.transaction.put_copy(&key, &stored, bytes.len() as u64, &[])?;
        Ok(self.count(stored.len(), true))
    }

    fn count(&mut self, stored: usize, is_fetched: bool) -> bool {
        *(if is_fetched { &mut self.report.fetched } else { &mut self.report.saved }) += 1;
        self.report.bytes += stored as u64;
        true
    }

    /// What an object names that is not here.
    fn children(&mut self, key: &EntryKey) -> Result<Vec<EntryKey>> {
        let mut bytes = Vec::new();
        if key.kind == EntryKind::Block || !self.is_readable(key, &mut bytes)? {
            return Ok(Vec::new());
        }
        let mut named = Vec::new();
        match key.kind {
            EntryKind::Commit => {
                if let Ok(commit) = Commit::from_bytes(&bytes) {
                    named.push(EntryKey::new(EntryKind::Tree, commit.tree));
                    named.extend(commit.parents.iter().map(|id| EntryKey::new(EntryKind::Commit, *id)));
                }
            }
            EntryKind::Tag => {
                named.extend(Tag::from_bytes(&bytes).map(|tag| EntryKey::new(EntryKind::Commit, tag.target)))
            }
            EntryKind::Tree => {
                let nodes = Tree::from_bytes(&bytes).map(|tree| tree.entries).unwrap_or_default();
                named.extend(nodes.into_values().map(|node| match node {
                    TreeNode::Directory(id) => EntryKey::new(EntryKind::Tree, id),
                    TreeNode::File(file) => EntryKey::new(EntryKind::Manifest, file.manifest),
                }));
            }
            EntryKind::Manifest => {
                let manifest = ContentManifest::from_bytes(&bytes);
                named.extend(manifest.iter().flat_map(ContentManifest::blocks).map(|block| block_key(block.span.id)));
            }
            _ => {}
        }
        let mut missing = Vec::new();
        for key in named {
            if self.transaction.locate(&key)?.is_none() {
                missing.push(key);
            }
        }
        Ok(missing)
    }
}
