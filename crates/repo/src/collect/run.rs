//! A collection, step by step.

use std::collections::HashSet;

use rayon::prelude::*;
use shard_core::{Digest, Progress};
use shard_store::epoch::Epoch;
use shard_store::{Choice, Claim, EntrySource, Inventory, Location, PackId, Store, StoreError};

use super::graph::{Owners, stay};
use super::plan::{Before, Draft, complete, draft, reach, settle};
use super::roots::Roots;
use super::{GcOptions, GcReport};
use crate::blocks::BlockReader;
use crate::error::{RepoError, Result};
use crate::repository::Repository;

/// How often it is planned again since copies turn out to be bad.
const PLANS: usize = 64;
/// How often what was brought back to life is copied: once, and again for copies that turn out to be damaged.
const RESCUES: usize = 64;

impl Repository {
    /// Deletes what nothing leads to. Whoever reads or writes meanwhile goes on; one collection runs at a time. Should it be
    /// interrupted at any moment, nothing that is needed is lost, and the next one finishes it. What processes that are gone left
    /// behind, and views where `options` ask for that, go first, also where the rest is refused then.
    ///
    /// # Errors
    /// [`StoreError::Claimed`] where another process may delete packs; [`StoreError::Held`] where writers that began before
    /// were still at work after the time that `options` give them, with no pack deleted; what is damaged or missing among
    /// that which refs lead to, with nothing deleted.
    pub fn gc(&self, options: &GcOptions, progress: &dyn Progress) -> Result<GcReport> {
        let store = &self.store;
        // First what takes no room on a disk that may be full.
        let mut report = GcReport { leftovers: store.remove_leftovers(true)?, ..GcReport::default() };
        if options.prune_cache {
            (report.view_files, report.view_bytes) = self.remove_views()?;
        }
        let claim = match store.claim("gc").map_err(RepoError::from) {
            Err(error) if is_full(&error) => {
                let (files, bytes) = store.give_back_caches()?;
                let what = format!("the disk is full: {files} files of caches ({bytes} bytes) were deleted first");
                report.notes.push(what);
                store.claim("gc")?
            }
            claim => claim?,
        };
        self.refuse_lost(options)?;
        let freed = self.collect(&claim, options, &mut report, true, progress)?;
        if freed == Rewriting::NoRoom && report.deleted_packs > 0 {
            // There is room now, perhaps.
            self.collect(&claim, options, &mut report, false, progress)?;
        }
        Ok(report)
    }

    /// Refuses to delete what a ref led to that may be lost, unless that is wanted.
    pub(super) fn refuse_lost(&self, options: &GcOptions) -> Result<()> {
        if options.prune_unnamed { Ok(()) } else { self.refuse_lost_branch() }
    }

    fn collect(
        &self,
        claim: &Claim,
        options: &GcOptions,
        report: &mut GcReport,
        is_first: bool,
        progress: &dyn Progress,
    ) -> Result<Rewriting> {
        let store = &self.store;
        let mut before = Before { condemned: store.epochs().current()?.condemned, ..Before::default() };
        let roots = Roots::read(store, options.keep_reflog)?;
        let (mut rewriting, mut plans) = (Rewriting::Done, 0);
        // Again whenever something turns out to be damaged that was to be counted on.
        let (inventory, reached, proven, condemned) = loop {
            let inventory = Inventory::read(store)?;
            let avoided = in_packs(&inventory, &before.condemned);
            let reached = reach(&Choice::new(store, &inventory, &avoided, &[]), &roots)?;
            let mut draft = draft(store, &inventory, &reached, &before, options)?;
            if rewriting == Rewriting::NoRoom {
                spare_needed(&mut draft);
            }
            plans += 1;
            let loses_one = |copy: u32| draft.goes[inventory.pack_of(copy) as usize];
            if let Some(error) = prove(&draft.choice, draft.owners.reached(), loses_one)? {
                if plans == PLANS {
                    return Err(error);
                }
                continue;
            }
            match copy_out(store, &draft.choice, &needed_in(&draft.choice, &draft.owners, &draft.goes), progress) {
                Ok((entries, bytes)) => {
                    report.copied_entries += entries;
                    report.copied_bytes += bytes;
                }
                Err(CopyError::Unreadable(bad, why)) => {
                    report.notes.push(why);
                    before.unreadable.extend(pack_of(&bad));
                    continue;
                }
                Err(CopyError::Other(error)) if is_full(&error) && rewriting == Rewriting::Done => {
                    report.notes.push(format!("there is no room to write packs anew: {error}"));
                    rewriting = Rewriting::NoRoom;
                    continue;
                }
                Err(CopyError::Other(error)) => return Err(error),
            }
            if is_first {
                report.plan = draft.plan.clone();
                report.plan.leftovers = report.leftovers;
                complete(&mut report.plan, store, &roots)?;
            }
            let goes = inventory.packs().iter().zip(&draft.goes).filter(|(_, goes)| **goes);
            let condemned: HashSet<Digest> = goes.map(|(pack, _)| pack.id).collect();
            let Draft { choice, owners: proven, .. } = draft;
            drop(choice);
            break (inventory, reached, proven, condemned);
        };
        let known = Known { roots: &roots, inventory: &inventory, reached: &reached, proven: &proven };
        self.delete(claim, options, &known, (condemned, &before), report, progress)?;
        Ok(rewriting)
    }

    /// Condemns packs whose needed entries have other copies, and deletes them once nobody can count on them.
    fn delete(
        &self,
        claim: &Claim,
        options: &GcOptions,
        known: &Known<'_>,
        (condemned, before): (HashSet<Digest>, &Before),
        report: &mut GcReport,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (store, Known { roots, inventory, .. }) = (&self.store, known);
        let has_old_states = !condemned.is_empty() || report.plan.states > 0;
        if has_old_states {
            // What was once condemned stays so until it is gone, whatever is known of it now.
            let there: HashSet<Digest> = inventory.packs().iter().map(|pack| pack.id).collect();
            let mut all = condemned.clone();
            all.extend(before.condemned.intersection(&there));
            let epoch = store.epochs().begin(all)?;
            store.leases().wait_for_older(epoch.number, options.wait)?;
            let spared: HashSet<Digest> = epoch.condemned.difference(&condemned).copied().collect();
            let spared = self.rescue(&epoch, spared, known, report, progress)?;
            claim.check()?;
            // Before the packs: a state that is there must not name what is not.
            for (name, oldest) in &roots.oldest {
                report.states += store.refs().prune(name, *oldest).map_err(StoreError::from)? as u64;
            }
            let packs: Vec<_> = inventory.packs().iter().filter(|pack| condemned.contains(&pack.id)).collect();
            let packs: Vec<_> = packs.into_iter().filter(|pack| !spared.contains(&pack.id)).collect();
            claim.delete_packs(&packs.iter().map(|pack| pack.id).collect::<Vec<_>>())?;
            report.deleted_packs += packs.len() as u64;
            report.deleted_bytes += packs.iter().map(|pack| pack.size).sum::<u64>();
            store.backend().settle("packs").map_err(StoreError::from)?;
            // Nobody has to look at what is gone any more.
            let gone: HashSet<Digest> = packs.iter().map(|pack| pack.id).collect();
            let left: HashSet<Digest> = epoch.condemned.difference(&gone).copied().collect();
            store.epochs().begin(left)?;
            store.epochs().prune(epoch.number)?;
        }
        for (name, bytes) in store.idle_index_files()? {
            store.backend().delete(&name).map_err(StoreError::from)?;
            report.index_files += 1;
            report.index_bytes += bytes;
        }
        Ok(())
    }

    /// Looks again what is needed, now that no writer from before is left, and copies what is needed of condemned packs. Gives
    /// the packs that have to stay, since something needed in them cannot be read.
    fn rescue(
        &self,
        epoch: &Epoch,
        mut spared: HashSet<Digest>,
        known: &Known<'_>,
        report: &mut GcReport,
        progress: &dyn Progress,
    ) -> Result<HashSet<Digest>> {
        let (store, Known { roots, inventory: earlier, reached, proven }) = (&self.store, known);
        let now = roots.again(store)?;
        let mut found = None;
        for _ in 0..RESCUES {
            let inventory = Inventory::read(store)?;
            let condemned = in_packs(&inventory, &epoch.condemned);
            let owners = if now.is_as(roots) {
                reached.in_other(earlier, &inventory)?
            } else {
                reach(&Choice::new(store, &inventory, &condemned, &[]), &now)?
            };
            let (choice, needed) = settle(store, &inventory, &condemned, &owners)?;
            // What came back to life, and is to be read from another pack than one that goes. Of what was needed before that was
            // proven, or copied.
            let is_new =
                |entry: &u32| earlier.find(&inventory.key(*entry)).is_none_or(|entry| !proven.is_reached(entry));
            let loses_one = |copy: u32| {
                let pack = inventory.pack_of(copy) as usize;
                condemned[pack] && !spared.contains(&inventory.packs()[pack].id)
            };
            found = prove(&choice, needed.reached().filter(is_new), loses_one)?;
            if found.is_some() {
                continue;
            }
            let needed = stay(&needed, &choice, &condemned);
            let mut strays = needed_in(&choice, &needed, &condemned);
            strays.retain(|entry| {
                let copy = choice.copy(*entry).map(|copy| inventory.pack_of(copy) as usize);
                copy.is_some_and(|pack| !spared.contains(&inventory.packs()[pack].id))
            });
            if strays.is_empty() {
                return Ok(spared);
            }
            match copy_out(store, &choice, &strays, progress) {
                Ok((entries, bytes)) => {
                    report.copied_entries += entries;
                    report.copied_bytes += bytes;
                }
                Err(CopyError::Unreadable(bad, why)) => {
                    report.notes.push(why);
                    spared.extend(pack_of(&bad));
                    // The pack stays, and with it a copy that is of no use: another one, in a pack that goes, must not count as
                    // needless beside it.
                    if inventory.find(&bad.key).is_some_and(|entry| inventory.copies(entry).len() > 1) {
                        choice.forget(&bad)?;
                    }
                }
                Err(CopyError::Other(error)) if is_full(&error) => {
                    report.notes.push(format!("there is no room to copy what is needed again: {error}"));
                    let copies = strays.iter().filter_map(|entry| choice.copy(*entry));
                    spared.extend(copies.map(|copy| inventory.packs()[inventory.pack_of(copy) as usize].id));
                }
                Err(CopyError::Other(error)) => return Err(error),
            }
        }
        Err(found.unwrap_or(RepoError::Internal("a collection copied what is needed, and it still was not elsewhere")))
    }
}

/// What a collection knew when it condemned packs.
struct Known<'a> {
    roots: &'a Roots,
    inventory: &'a Inventory,
    /// What refs led to.
    reached: &'a Owners,
    /// What had to be there afterwards: copies of it were decoded, or copied, wherever one goes.
    proven: &'a Owners,
}

/// The pack that a copy is in.
fn pack_of(location: &Location) -> Option<Digest> {
    match location.pack {
        PackId::Sealed(pack) => Some(pack),
        _ => None,
    }
}

/// Whether packs were written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rewriting {
    Done,
    /// The disk is full: only packs of which nothing is needed go.
    NoRoom,
}

fn is_full(error: &RepoError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error {
        RepoError::Store(error) => error.io().is_some_and(|io| matches!(io.kind(), StorageFull | QuotaExceeded)),
        _ => false,
    }
}

/// For each pack of an inventory, whether it is one of these.
fn in_packs(inventory: &Inventory, packs: &HashSet<Digest>) -> Vec<bool> {
    inventory.packs().iter().map(|pack| packs.contains(&pack.id)).collect()
}

/// Leaves packs alone of which something is needed.
fn spare_needed(draft: &mut Draft<'_>) {
    let inventory = draft.choice.inventory();
    let spared: HashSet<Digest> = draft.plan.rewrite.iter().map(|pack| pack.id).collect();
    for (pack, goes) in inventory.packs().iter().zip(&mut draft.goes) {
        *goes &= !spared.contains(&pack.id);
    }
    for pack in std::mem::take(&mut draft.plan.rewrite) {
        draft.plan.left_bytes += pack.size - pack.needed;
        draft.plan.freed_bytes = draft.plan.freed_bytes.saturating_sub(pack.size - pack.needed);
    }
}

/// The entries that are needed and whose chosen copies are in some of the packs, those first that others lean on.
fn needed_in(choice: &Choice<'_>, owners: &Owners, packs: &[bool]) -> Vec<u32> {
    let inventory = choice.inventory();
    let is_there = |entry: &u32| choice.copy(*entry).is_some_and(|copy| packs[inventory.pack_of(copy) as usize]);
    let mut entries: Vec<u32> = owners.reached().filter(is_there).collect();
    entries.sort_by_key(|entry| {
        let place = choice.location(*entry).map(|location| location.offset);
        (choice.depth(*entry), choice.copy(*entry).map(|copy| inventory.pack_of(copy)), place)
    });
    entries
}

/// Decodes and hashes those of the entries of which a copy `goes` and another stays. One that turns out to be bad is not counted on
/// any more, and it has to be planned again: gives why.
fn prove(
    choice: &Choice<'_>,
    entries: impl Iterator<Item = u32>,
    goes: impl Fn(u32) -> bool,
) -> Result<Option<RepoError>> {
    let inventory = choice.inventory();
    let loses_one = |entry: &u32| {
        let copies = inventory.copies(*entry);
        copies.len() > 1 && copies.into_iter().any(&goes)
    };
    let entries: Vec<u32> = entries.filter(loses_one).collect();
    let bad: Vec<(u32, RepoError)> = entries
        .into_par_iter()
        .map_init(
            || (BlockReader::new(choice), Vec::new()),
            |(reader, bytes), entry| match reader.read(&inventory.key(entry), bytes) {
                Ok(()) => Ok(None),
                Err(error) if error.is_damage() => Ok(Some((entry, error))),
                Err(error) => Err(error),
            },
        )
        .filter_map(Result::transpose)
        .collect::<Result<_>>()?;
    for (entry, _) in &bad {
        if let Some(location) = choice.location(*entry) {
            choice.forget(&location)?;
        }
    }
    Ok(bad.into_iter().next().map(|(_, error)| error))
}

/// Why entries could not be copied.
enum CopyError {
    /// This one is damaged.
    Unreadable(Box<Location>, String),
    Other(RepoError),
}

impl<T: Into<RepoError>> From<T> for CopyError {
    fn from(error: T) -> Self {
        Self::Other(error.into())
    }
}

/// Copies entries to new packs, as they are stored. When it returns, the copies are durable. Gives how many, and their bytes.
fn copy_out(
    store: &Store,
    choice: &Choice<'_>,
    entries: &[u32],
    progress: &dyn Progress,
) -> std::result::Result<(u64, u64), CopyError> {
    if entries.is_empty() {
        return Ok((0, 0));
    }
    let inventory = choice.inventory();
    let chosen = || entries.iter().filter_map(|entry| Some((*entry, choice.copy(*entry)?)));
    let bytes = chosen().map(|(_, copy)| inventory.bytes(copy)).sum();
    progress.begin("copying what is needed", Some(bytes));
    let transaction = store.begin_copy("gc")?;
    let mut stored = Vec::new();
    for (entry, copy) in chosen() {
        let Some(location) = choice.location(entry) else { continue };
        match choice.read_stored(&location, &mut stored) {
            Err(error @ StoreError::Entry { .. }) => {
                return Err(CopyError::Unreadable(Box::new(location), error.to_string()));
            }
            read => read?,
        }
        let bases: Vec<Digest> = inventory.bases(copy).flatten().map(|base| inventory.key(base).id).collect();
        transaction.put_copy(&location.key, &stored, location.raw_len, &bases)?;
        progress.advance(inventory.bytes(copy));
    }
    transaction.seal()?;
    progress.finish();
    Ok((entries.len() as u64, bytes))
}
