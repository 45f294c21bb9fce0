//! Which entries are reached, and by whom: one walk over commits, trees and manifests, each read once.

use std::collections::HashMap;

use rayon::prelude::*;
use shard_core::Digest;
use shard_history::{HistoryError, Tree, TreeNode};
use shard_manifest::{Sketch, StorageManifest};
use shard_store::{Choice, EntryKey, EntryKind, EntrySource, Inventory, Target};

use crate::blocks::BlockReader;
use crate::error::{RepoError, Result};
use crate::objects::Objects;

/// Nobody reaches an entry.
const NOBODY: u32 = 0;
/// Several owners reach it.
const SEVERAL: u32 = u32::MAX;
/// Only logs of refs do.
const LOGS: u32 = u32::MAX - 1;

/// Nobody does, but something leans on it in a pack that stays.
const STAYS: u32 = u32::MAX - 2;

/// Manifests that are read at once.
const BATCH: usize = 512;

/// Who reaches an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody.
    Nobody,
    /// One of those that were named, by its number.
    One(u32),
    /// Several of them.
    Several,
    /// None of them, but an earlier state of a ref.
    Logs,
}

/// For each entry of an inventory, who reaches it.
#[derive(Clone)]
pub(crate) struct Owners(Vec<u32>);

impl Owners {
    pub(crate) fn of(&self, entry: u32) -> Owner {
        match self.0[entry as usize] {
            NOBODY | STAYS => Owner::Nobody,
            SEVERAL => Owner::Several,
            LOGS => Owner::Logs,
            one => Owner::One(one - 1),
        }
    }

    /// Whether an entry is needed.
    pub(crate) fn is_reached(&self, entry: u32) -> bool {
        self.0[entry as usize] != NOBODY
    }

    /// The entries that are reached.
    pub(crate) fn reached(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.0).filter(|(_, owner)| **owner != NOBODY).map(|(entry, _)| entry)
    }

    /// Notes that an owner reaches an entry. Whether that is news for what the entry leads to.
    fn reach(&mut self, entry: u32, owner: u32) -> bool {
        let before = &mut self.0[entry as usize];
        let after = match (*before, owner) {
            (NOBODY, _) => owner,
            (SEVERAL, _) | (_, NOBODY | LOGS | STAYS) => *before,
            (LOGS | STAYS, _) => owner,
            (one, other) if one == other => one,
            _ => SEVERAL,
        };
        std::mem::replace(before, after) != after
    }

    /// The same of another inventory, by the entries' keys.
    pub(crate) fn in_other(&self, from: &Inventory, to: &Inventory) -> Result<Self> {
        let mut owners = Self(vec![NOBODY; to.len()]);
        for entry in self.reached() {
            let key = from.key(entry);
            let there = to.find(&key).ok_or(RepoError::Missing { key })?;
            owners.0[there as usize] = self.0[entry as usize];
        }
        Ok(owners)
    }
}

/// The walk.
pub(crate) struct Graph<'a> {
    choice: &'a Choice<'a>,
    objects: Objects<'a>,
    owners: Owners,
    /// The parents of commits that were read.
    parents: HashMap<u32, Vec<u32>>,
    /// The trees that are led to: by the entry of a commit, or, where a ref names one itself, by an owner.
    trees: Vec<(From, u32)>,
}

enum From {
    Commit(u32),
    Owner(u32),
}

impl<'a> Graph<'a> {
    pub(crate) fn new(choice: &'a Choice<'a>) -> Self {
        let owners = Owners(vec![NOBODY; choice.inventory().len()]);
        Self { choice, objects: Objects::new(choice), owners, parents: HashMap::new(), trees: Vec::new() }
    }

    /// Goes from what an owner names over all commits.
    pub(crate) fn start(&mut self, targets: &[&Target], owner: Owner) -> Result<()> {
        let owner = match owner {
            Owner::One(number) => number + 1,
            Owner::Logs => LOGS,
            Owner::Several => SEVERAL,
            Owner::Nobody => return Ok(()),
        };
        let mut open = Vec::new();
        for target in targets {
            match target {
                Target::Commit(id) => open.push(self.find(EntryKind::Commit, *id)?),
                Target::Tag(id) => {
                    let entry = self.find(EntryKind::Tag, *id)?;
                    if self.owners.reach(entry, owner) {
                        let commit = self.objects.tag(*id)?.target;
                        open.push(self.find(EntryKind::Commit, commit)?);
                    }
                }
                Target::Tree(id) => self.trees.push((From::Owner(owner), self.find(EntryKind::Tree, *id)?)),
                Target::Symbolic(_) | Target::Deleted => {}
            }
        }
        while let Some(entry) = open.pop() {
            if !self.owners.reach(entry, owner) {
                continue;
            }
            if !self.parents.contains_key(&entry) {
                let commit = self.objects.commit(self.choice.inventory().key(entry).id)?;
                let tree = self.find(EntryKind::Tree, commit.tree)?;
                let parents = commit.parents.iter().map(|id| self.find(EntryKind::Commit, *id));
                self.parents.insert(entry, parents.collect::<Result<_>>()?);
                self.trees.push((From::Commit(entry), tree));
            }
            open.extend(self.parents.get(&entry).into_iter().flatten());
        }
        Ok(())
    }

    /// Goes on from the commits to everything below, and gives who reaches what. Bases are not among it: see [`lean`].
    pub(crate) fn finish(mut self) -> Result<Owners> {
        let mut trees: Vec<(u32, u32)> = std::mem::take(&mut self.trees)
            .into_iter()
            .map(|(from, tree)| match from {
                From::Commit(commit) => (self.owners.0[commit as usize], tree),
                From::Owner(owner) => (owner, tree),
            })
            .collect();
        self.parents = HashMap::new();
        // What several reach comes first: hardly anything is then met by one of them and later by another. Logs come last.
        trees.sort_by_key(|(owner, _)| match *owner {
            SEVERAL => (0, 0),
            LOGS => (2, 0),
            one => (1, one),
        });
        for of_one in trees.chunk_by(|a, b| a.0 == b.0) {
            let Some((owner, _)) = of_one.first().copied() else { continue };
            self.below(of_one.iter().map(|(_, tree)| *tree).collect(), owner)?;
        }
        self.attachments();
        Ok(self.owners)
    }

    fn find(&self, kind: EntryKind, id: Digest) -> Result<u32> {
        let key = EntryKey::new(kind, id);
        self.choice.inventory().find(&key).ok_or(RepoError::Missing { key })
    }

    fn below(&mut self, mut trees: Vec<u32>, owner: u32) -> Result<()> {
        let inventory = self.choice.inventory();
        let mut manifests = Vec::new();
        while let Some(entry) = trees.pop() {
            if !self.owners.reach(entry, owner) {
                continue;
            }
            let id = inventory.key(entry).id;
            let malformed = |source: HistoryError| RepoError::History { what: "tree", id, source };
            let tree = Tree::from_bytes(self.objects.bytes(EntryKind::Tree, id)?).map_err(malformed)?;
            for node in tree.entries.values() {
                match node {
                    TreeNode::Directory(tree) => trees.push(self.find(EntryKind::Tree, *tree)?),
                    TreeNode::File(file) => {
                        let manifest = self.find(EntryKind::Manifest, file.manifest)?;
                        if self.owners.reach(manifest, owner) {
                            manifests.push(manifest);
                        }
                    }
                }
            }
        }
        for some in manifests.chunks(BATCH) {
            let read: Result<Vec<Vec<u32>>> = some
                .par_iter()
                .map_init(|| Objects::new(self.choice), |objects, entry| self.blocks_of(objects, *entry))
                .collect();
            for block in read?.into_iter().flatten() {
                self.owners.reach(block, owner);
            }
        }
        Ok(())
    }

    /// The blocks of a manifest; of a partial repository those that are here.
    fn blocks_of(&self, objects: &mut Objects<'_>, manifest: u32) -> Result<Vec<u32>> {
        let inventory = self.choice.inventory();
        let manifest = objects.manifest_once(inventory.key(manifest).id)?;
        let is_partial = self.choice.is_partial();
        let find = |id| {
            let key = EntryKey::block(id);
            match inventory.find(&key) {
                None if !is_partial => Some(Err(RepoError::Missing { key })),
                found => found.map(Ok),
            }
        };
        manifest.blocks().filter_map(|block| find(block.span.id)).collect()
    }

    /// Sketches and storage manifests are of a manifest, and stay with it. One that cannot be read serves nobody.
    fn attachments(&mut self) {
        let inventory = self.choice.inventory();
        for kind in [EntryKind::Sketch, EntryKind::Storage] {
            let of: Vec<(u32, Option<u32>)> = inventory
                .of_kind(kind)
                .into_par_iter()
                .map_init(
                    || (BlockReader::new(self.choice), Vec::new()),
                    |(reader, bytes), entry| {
                        let manifest = reader.read(&inventory.key(entry), bytes).ok().and_then(|()| match kind {
                            EntryKind::Sketch => Sketch::from_bytes(bytes).ok().map(|sketch| sketch.manifest),
                            _ => StorageManifest::from_bytes(bytes).ok().map(|storage| storage.manifest),
                        });
                        (entry, manifest.and_then(|id| inventory.find(&EntryKey::new(EntryKind::Manifest, id))))
                    },
                )
                .collect();
            for (entry, manifest) in of {
                if let Some(manifest) = manifest {
                    self.owners.0[entry as usize] = self.owners.0[manifest as usize];
                }
            }
        }
    }
}

/// Who reaches what once the bases of the chosen copies count too.
///
/// # Errors
/// [`RepoError::Missing`] where something is reached that no copy of can be decoded.
pub(crate) fn lean(mut owners: Owners, choice: &Choice<'_>) -> Result<Owners> {
    let inventory = choice.inventory();
    let mut open: Vec<u32> = owners.reached().collect();
    while let Some(entry) = open.pop() {
        let missing = || RepoError::Missing { key: inventory.key(entry) };
        let copy = choice.copy(entry).ok_or_else(missing)?;
        let owner = owners.0[entry as usize];
        for base in inventory.bases(copy) {
            let base = base.ok_or_else(missing)?;
            if owners.reach(base, owner) {
                open.push(base);
            }
        }
    }
    Ok(owners)
}

/// What has to be there once some packs have gone, so that every copy in the others can still be decoded: what is needed, and
/// what copies lean on that nobody needs, in packs that stay.
pub(crate) fn stay(needed: &Owners, choice: &Choice<'_>, goes: &[bool]) -> Owners {
    let inventory = choice.inventory();
    let mut owners = needed.clone();
    let mut open = Vec::new();
    for entry in 0..inventory.len() as u32 {
        for copy in inventory.copies(entry).filter(|copy| !goes[inventory.pack_of(*copy) as usize]) {
            open.extend(inventory.bases(copy).flatten().filter(|base| owners.reach(*base, STAYS)));
        }
    }
    while let Some(entry) = open.pop() {
        // What cannot be decoded today is no worse tomorrow.
        let Some(copy) = choice.copy(entry) else { continue };
        open.extend(inventory.bases(copy).flatten().filter(|base| owners.reach(*base, STAYS)));
    }
    owners
}
