//! `du`: what a repository holds, why, and what would give room back.

use shard_core::Digest;
use shard_history::revision::RefKind;
use shard_store::{Backend, BackendError, Choice, Inventory, Leftovers, Store, StoreError, Target};

use super::graph::{Graph, Owner, Owners, lean};
use super::plan::{Before, KindUsage, complete, draft, kinds};
use super::roots::Roots;
use super::{GcOptions, GcPlan};
use crate::error::{RepoError, Result};
use crate::repository::{HEADS, Repository, TAGS};

/// How the room that something takes can be had back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reclaim {
    /// It cannot: it is needed.
    Keep,
    /// By a collection.
    Gc,
    /// By deleting it: it is made again when it is needed.
    PruneCache,
    /// By nobody but people who have looked at it.
    ManualReview,
}

impl Reclaim {
    /// Its name: `keep`, `gc`, `prune-cache` or `manual-review`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Gc => "gc",
            Self::PruneCache => "prune-cache",
            Self::ManualReview => "manual-review",
        }
    }
}

/// A part of the repository's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSection {
    /// What it is.
    pub name: &'static str,
    /// Where, below the repository's folder.
    pub path: &'static str,
    /// Bytes of its files.
    pub total_size: u64,
    /// How many files there are.
    pub file_count: u64,
    /// Bytes that can be had back, in the way of `reclaim`.
    pub reclaimable_size: u64,
    /// How.
    pub reclaim: Reclaim,
    /// What there is to know, for people.
    pub notes: Vec<String>,
}

/// What a branch or tag holds that nothing else does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUsage {
    /// Branch or tag.
    pub kind: RefKind,
    /// Its name, without `heads/` or `tags/`.
    pub name: String,
    /// The commit that it leads to, or its tag object.
    pub target: Digest,
    /// Stored bytes that only this ref leads to: what deleting it and collecting with nothing kept for logs would give back.
    pub frees: u64,
    /// How many entries that is.
    pub entries: u64,
}

/// What a repository holds.
#[derive(Debug, Clone)]
pub struct StorageOverview {
    /// Bytes of all files.
    pub total_size: u64,
    /// Stored bytes that the present states of refs lead to, with what that leans on.
    pub reachable_size: u64,
    /// Stored bytes that only earlier states of refs lead to.
    pub historical_retained_size: u64,
    /// What a collection would give back now.
    pub reclaimable_gc_size: u64,
    /// Bytes of caches.
    pub reclaimable_cache_size: u64,
    /// Unfinished files of processes that are gone.
    pub reclaimable_temporary_size: u64,
    /// Part of the packs' bytes that nothing needs, 0 to 1.
    pub dead_share: f64,
    /// Parts of the folder.
    pub sections: Vec<StorageSection>,
    /// Entries by kind; those that only logs of refs hold are needed, too.
    pub kinds: Vec<KindUsage>,
    /// Branches and tags, by name.
    pub refs: Vec<RefUsage>,
    /// What a collection would do.
    pub gc: GcPlan,
    /// What could be done, for people.
    pub recommendations: Vec<String>,
}

impl Repository {
    /// What the repository holds, and what each branch and tag holds alone. `options` are those of the collection that is
    /// weighed. Nothing is written.
    ///
    /// # Errors
    /// As [`Self::gc`].
    pub fn storage_overview(&self, options: &GcOptions) -> Result<StorageOverview> {
        let store = &self.store;
        let roots = Roots::read(store, options.keep_reflog)?;
        let inventory = Inventory::read(store)?;
        let before = Before { condemned: store.epochs().current()?.condemned, ..Before::default() };
        let avoided: Vec<bool> = inventory.packs().iter().map(|pack| before.condemned.contains(&pack.id)).collect();
        let choice = Choice::new(store, &inventory, &avoided, &[]);
        // One walk for all: who reaches what by present states, and what is left for earlier ones.
        let mut graph = Graph::new(&choice);
        for (number, root) in (0u32..).zip(&roots.refs) {
            graph.start(
                &root.states.first().map(|state| &state.target).into_iter().collect::<Vec<_>>(),
                Owner::One(number),
            )?;
        }
        graph.start(&roots.targets(false).collect::<Vec<_>>(), Owner::Logs)?;
        let reached = graph.finish()?;
        let mut gc = draft(store, &inventory, &reached, &before, options)?.plan;
        let (files, bytes) = store.stale_temporaries()?;
        gc.leftovers = Leftovers { leases: store.leases().stale()?.len() as u64, files, bytes };
        complete(&mut gc, store, &roots)?;

        let owners = lean(reached, &choice)?;
        let mut held = vec![(0u64, 0u64); roots.refs.len()];
        let (mut reachable_size, mut historical_retained_size) = (0, 0);
        for entry in owners.reached() {
            let bytes = choice.copy(entry).map_or(0, |copy| inventory.bytes(copy));
            match owners.of(entry) {
                Owner::One(number) => {
                    if let Some((alone, entries)) = held.get_mut(number as usize) {
                        *alone += bytes;
                        *entries += 1;
                    }
                    reachable_size += bytes;
                }
                Owner::Several => reachable_size += bytes,
                Owner::Logs => historical_retained_size += bytes,
                Owner::Nobody => {}
            }
        }
        let refs = roots.refs.iter().zip(held).filter_map(|(root, (frees, entries))| {
            let (kind, name) = match (root.name.strip_prefix(HEADS), root.name.strip_prefix(TAGS)) {
                (Some(name), _) => (RefKind::Branch, name),
                (_, Some(name)) => (RefKind::Tag, name),
                _ => return None,
            };
            let (Target::Commit(target) | Target::Tag(target)) = root.states.first()?.target else { return None };
            Some(RefUsage { kind, name: name.to_owned(), target, frees, entries })
        });
        let refs = refs.collect();
        let sections = sections(store, &gc, self.views()?)?;
        let size_of = |reclaim: Reclaim| -> u64 {
            sections.iter().filter(|section| section.reclaim == reclaim).map(|section| section.reclaimable_size).sum()
        };
        let all = gc.needed_bytes + gc.dead_bytes;
        Ok(StorageOverview {
            total_size: sections.iter().map(|section| section.total_size).sum(),
            reachable_size,
            historical_retained_size,
            reclaimable_gc_size: gc.freed_bytes,
            reclaimable_cache_size: size_of(Reclaim::PruneCache),
            reclaimable_temporary_size: gc.leftovers.bytes,
            dead_share: if all == 0 { 0.0 } else { gc.dead_bytes as f64 / all as f64 },
            recommendations: recommend(&gc, historical_retained_size, &sections),
            sections,
            kinds: usage(&inventory, &choice, &owners),
            refs,
            gc,
        })
    }
}

fn usage(inventory: &Inventory, choice: &Choice<'_>, owners: &Owners) -> Vec<KindUsage> {
    let mut kinds = kinds(inventory, choice, owners);
    kinds.sort_by_key(|usage| (std::cmp::Reverse(usage.bytes), usage.kind));
    kinds
}

/// Files of a folder: how many, and their bytes. Those that go meanwhile do not count.
fn measure(backend: &dyn Backend, folder: &str) -> Result<(u64, u64)> {
    let mut measured = (0, 0);
    for name in backend.list(folder).map_err(StoreError::from)? {
        match backend.size(&format!("{folder}/{name}")) {
            Ok(size) => measured = (measured.0 + 1, measured.1 + size),
            Err(error) if error.is_not_found() => {}
            // A folder in it, or a name that is none of shard's.
            Err(BackendError::Io { .. } | BackendError::Name(_)) => {}
            Err(error) => return Err(RepoError::Store(error.into())),
        }
    }
    Ok(measured)
}

fn sections(store: &Store, gc: &GcPlan, views: (u64, u64)) -> Result<Vec<StorageSection>> {
    let backend = store.backend().as_ref();
    let section = |name, path, (file_count, total_size), reclaimable_size, reclaim| StorageSection {
        name,
        path,
        total_size,
        file_count,
        reclaimable_size,
        reclaim,
        notes: Vec::new(),
    };
    let packs = gc.delete.iter().chain(&gc.rewrite).map(|pack| pack.size - pack.needed.min(pack.size)).sum();
    let is_damaged = |id: &Digest| gc.damaged.iter().any(|(other, _)| other == id);
    let (damaged, sound): (Vec<_>, Vec<_>) = store.packs()?.into_iter().partition(|pack| is_damaged(&pack.id));
    let sum = |packs: &[shard_store::PackInfo]| (packs.len() as u64, packs.iter().map(|pack| pack.size).sum::<u64>());
    let mut sections = vec![section("packs", "packs", sum(&sound), packs, Reclaim::Gc)];
    if !damaged.is_empty() {
        let (files, bytes) = sum(&damaged);
        let mut section = section("damaged packs", "packs", (files, bytes), bytes, Reclaim::ManualReview);
        section.notes = gc.damaged.iter().map(|(_, why)| why.clone()).collect();
        sections.push(section);
    }
    sections.push(section("index files", "index", measure(backend, "index")?, gc.index_bytes, Reclaim::Gc));
    let mut refs = (0, 0);
    for name in backend.list("refs").map_err(StoreError::from)? {
        let (files, bytes) = measure(backend, &format!("refs/{name}"))?;
        refs = (refs.0 + files, refs.1 + bytes);
    }
    let mut refs = section("refs and their logs", "refs", refs, 0, Reclaim::Keep);
    if gc.states > 0 {
        refs.notes.push(format!("a collection removes {} earlier states", gc.states));
    }
    sections.push(refs);
    sections.push(section("cache", "cache", measure(backend, "cache")?, 0, Reclaim::Keep));
    sections.push(section("views of downloads", "cache/files, cache/snapshots", views, views.1, Reclaim::PruneCache));
    let mut temporary = section("unfinished files", "tmp", measure(backend, "tmp")?, gc.leftovers.bytes, Reclaim::Gc);
    if temporary.file_count > gc.leftovers.files {
        temporary.notes.push("some belong to processes that are at work, or cannot be proven to be gone".to_owned());
    }
    sections.push(temporary);
    let mut leases = section("leases", "leases", measure(backend, "leases")?, 0, Reclaim::Keep);
    if store.leases().list()?.iter().any(|(_, lease)| lease.is_err()) {
        leases.reclaim = Reclaim::ManualReview;
        leases.notes.push("some cannot be read: `shard leases` lists them".to_owned());
    }
    sections.push(leases);
    sections.push(section("epochs", "epochs", measure(backend, "epochs")?, 0, Reclaim::Keep));
    let format = backend.size("format").map_err(StoreError::from)?;
    sections.push(section("format", "format", (1, format), 0, Reclaim::Keep));
    Ok(sections)
}

fn recommend(gc: &GcPlan, only_logs: u64, sections: &[StorageSection]) -> Vec<String> {
    let mut all = Vec::new();
    if gc.unfinished {
        all.push("a collection was interrupted: `shard gc` finishes it".to_owned());
    } else if gc.freed_bytes > 0 {
        all.push("`shard gc` gives back what nothing leads to".to_owned());
    }
    if gc.left_bytes > 0 || only_logs > 0 {
        all.push("`shard gc --prune-now` gives back every dead byte, and what only logs of refs hold".to_owned());
    }
    if sections.iter().any(|section| section.reclaim == Reclaim::PruneCache && section.reclaimable_size > 0) {
        all.push(
            "`shard gc --prune-cache` gives back the views that downloads made: they are made again when asked for"
                .to_owned(),
        );
    }
    for section in sections.iter().filter(|section| section.reclaim == Reclaim::ManualReview) {
        all.push(format!("look at the {}: `shard verify --full` says what is wrong", section.name));
    }
    all
}
