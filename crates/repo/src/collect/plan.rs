//! Which packs go, which are written anew without what is dead in them, and which stay as they are.

use std::collections::HashSet;

use shard_core::Digest;
use shard_store::{Choice, EntryKind, Inventory, Leftovers, Store};

use super::GcOptions;
use super::graph::{Graph, Owner, Owners, lean, stay};
use super::roots::Roots;
use crate::error::Result;

/// Entries of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindUsage {
    /// The kind.
    pub kind: EntryKind,
    /// How many entries there are, each counted once.
    pub entries: u64,
    /// What all their copies take, in bytes.
    pub bytes: u64,
    /// How many of the entries are needed.
    pub needed_entries: u64,
    /// What one copy of each of those takes, in bytes.
    pub needed_bytes: u64,
}

/// A pack that a collection touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcPack {
    /// The SHA-256 of its bytes.
    pub id: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What is copied out of it, in bytes.
    pub needed: u64,
}

/// What a collection would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcPlan {
    /// Refs whose states were followed, those that were deleted included.
    pub refs: u64,
    /// Packs that there are, and their bytes.
    pub packs: u64,
    /// Bytes of all packs.
    pub pack_bytes: u64,
    /// Bytes of entries that are needed, one copy of each.
    pub needed_bytes: u64,
    /// Bytes of entries that nothing needs, and of copies besides the one that stays.
    pub dead_bytes: u64,
    /// Packs of which nothing is needed.
    pub delete: Vec<GcPack>,
    /// Packs whose needed entries are copied to new packs before they go.
    pub rewrite: Vec<GcPack>,
    /// Dead bytes in packs that are left as they are, since too little of them is dead.
    pub left_bytes: u64,
    /// What the collection gives back in all, in bytes: packs, less what is copied, index files and unfinished files.
    pub freed_bytes: u64,
    /// Earlier states of refs that go.
    pub states: u64,
    /// Entries by kind.
    pub kinds: Vec<KindUsage>,
    /// What processes that are gone left behind.
    pub leftovers: Leftovers,
    /// Index files that serve no pack.
    pub index_files: u64,
    /// Their bytes.
    pub index_bytes: u64,
    /// Files of views that go, where they were asked for.
    pub view_files: u64,
    /// Their bytes.
    pub view_bytes: u64,
    /// Whether an earlier collection was not finished: this one does it.
    pub unfinished: bool,
    /// Packs that stay since they are damaged, and why.
    pub damaged: Vec<(Digest, String)>,
}

/// A plan, with what it takes to carry it out.
pub(super) struct Draft<'a> {
    pub(super) plan: GcPlan,
    pub(super) choice: Choice<'a>,
    /// What has to be there afterwards.
    pub(super) owners: Owners,
    /// The packs that go, by their numbers.
    pub(super) goes: Vec<bool>,
}

/// Packs that decisions were made about before.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Those that an earlier collection condemned: they have to go.
    pub(super) condemned: HashSet<Digest>,
    /// Those that cannot be read whole: they are not touched.
    pub(super) unreadable: HashSet<Digest>,
}

/// Everything that refs lead to.
pub(super) fn reach(choice: &Choice<'_>, roots: &Roots) -> Result<Owners> {
    let mut graph = Graph::new(choice);
    for current in [true, false] {
        graph.start(&roots.targets(current).collect::<Vec<_>>(), Owner::One(0))?;
    }
    graph.finish()
}

/// Chooses which copies stay, where `owners` are what refs lead to: of equally good ones those in packs that are needed most
/// anyway. Gives them, and what is needed with them: bases too.
pub(super) fn settle<'a>(
    store: &'a Store,
    inventory: &'a Inventory,
    avoided: &[bool],
    owners: &Owners,
) -> Result<(Choice<'a>, Owners)> {
    let first = Choice::new(store, inventory, avoided, &[]);
    let needed = lean(owners.clone(), &first)?;
    let has_several = (0..inventory.len() as u32).any(|entry| inventory.copies(entry).len() > 1);
    if !has_several {
        return Ok((first, needed));
    }
    let mut bytes = vec![(0u64, 0u64); inventory.packs().len()];
    for entry in 0..inventory.len() as u32 {
        for copy in inventory.copies(entry) {
            let (all, used) = &mut bytes[inventory.pack_of(copy) as usize];
            *all += inventory.bytes(copy);
            *used += if needed.is_reached(entry) { inventory.bytes(copy) } else { 0 };
        }
    }
    // Thousandths of a pack that are dead.
    let rank: Vec<u64> = bytes.iter().map(|(all, used)| (all - used).saturating_mul(1000) / (*all).max(1)).collect();
    let choice = Choice::new(store, inventory, avoided, &rank);
    let needed = lean(owners.clone(), &choice)?;
    Ok((choice, needed))
}

/// Plans, where `owners` are what refs lead to.
pub(super) fn draft<'a>(
    store: &'a Store,
    inventory: &'a Inventory,
    owners: &Owners,
    before: &Before,
    options: &GcOptions,
) -> Result<Draft<'a>> {
    let packs = inventory.packs();
    let avoided: Vec<bool> = packs.iter().map(|pack| before.condemned.contains(&pack.id)).collect();
    let (choice, owners) = settle(store, inventory, &avoided, owners)?;
    let mut used = vec![0u64; packs.len()];
    let mut all = vec![0u64; packs.len()];
    for entry in 0..inventory.len() as u32 {
        for copy in inventory.copies(entry) {
            let bytes = inventory.bytes(copy);
            all[inventory.pack_of(copy) as usize] += bytes;
            if owners.is_reached(entry) && choice.copy(entry) == Some(copy) {
                used[inventory.pack_of(copy) as usize] += bytes;
            }
        }
    }
    let mut plan = GcPlan {
        packs: packs.len() as u64,
        pack_bytes: packs.iter().map(|pack| pack.size).sum(),
        needed_bytes: used.iter().sum(),
        kinds: kinds(inventory, &choice, &owners),
        unfinished: avoided.contains(&true),
        ..GcPlan::default()
    };
    plan.dead_bytes = all.iter().sum::<u64>() - plan.needed_bytes;
    let mut goes = avoided;
    let mut partly = Vec::new();
    for (number, pack) in packs.iter().enumerate() {
        if let Some(problem) = &pack.problem {
            goes[number] = false;
            plan.damaged.push((pack.id, problem.clone()));
        } else if before.unreadable.contains(&pack.id) {
            goes[number] = false;
            plan.damaged.push((pack.id, "an entry that is needed cannot be read".to_owned()));
        } else if used[number] == 0 {
            goes[number] = true;
        } else if !goes[number] && all[number] > used[number] {
            partly.push(number);
        }
    }
    // Those first of which most is dead: there a byte that is copied gives most back.
    let share = |number: &usize| ((all[*number] - used[*number]) as u128 * (1 << 32)) / u128::from(all[*number].max(1));
    partly.sort_by_key(|number| (std::cmp::Reverse(share(number)), packs[*number].id));
    let limit = u128::from(plan.needed_bytes) * u128::from(options.max_unused) / 100;
    plan.left_bytes = partly.iter().map(|number| all[*number] - used[*number]).sum();
    for number in partly {
        if u128::from(plan.left_bytes) <= limit {
            break;
        }
        plan.left_bytes -= all[number] - used[number];
        goes[number] = true;
    }
    let can_go = |number: usize| packs[number].problem.is_none() && !before.unreadable.contains(&packs[number].id);
    let staying = loop {
        let staying = stay(&owners, &choice, &goes);
        let is_extra = |entry: u32| {
            let copy = choice.copy(entry).filter(|_| staying.is_reached(entry) && !owners.is_reached(entry));
            copy.is_some_and(|copy| goes[inventory.pack_of(copy) as usize])
        };
        let extra: Vec<u32> = (0..inventory.len() as u32).filter(|entry| is_extra(*entry)).collect();
        let bytes: u64 = extra.iter().filter_map(|entry| choice.copy(*entry)).map(|copy| inventory.bytes(copy)).sum();
        let leans = |copy: u32| inventory.bases(copy).flatten().any(|base| extra.binary_search(&base).is_ok());
        let mut more: Vec<usize> = Vec::new();
        if u128::from(plan.left_bytes + bytes) > limit {
            // Dead bytes that would have to be copied for other dead bytes: those go too.
            let copies = (0..inventory.len() as u32).flat_map(|entry| inventory.copies(entry));
            let packs = copies.filter(|copy| leans(*copy)).map(|copy| inventory.pack_of(copy) as usize);
            more = packs.filter(|number| !goes[*number] && can_go(*number)).collect();
            more.sort_unstable();
            more.dedup();
        }
        if more.is_empty() {
            for copy in extra.iter().filter_map(|entry| choice.copy(*entry)) {
                used[inventory.pack_of(copy) as usize] += inventory.bytes(copy);
            }
            plan.left_bytes += bytes;
            break staying;
        }
        for number in more {
            plan.left_bytes -= all[number] - used[number];
            goes[number] = true;
        }
    };
    let mut copied = 0;
    for (number, pack) in packs.iter().enumerate().filter(|(number, _)| goes[*number]) {
        let touched = GcPack { id: pack.id, size: pack.size, needed: used[number] };
        copied += touched.needed;
        plan.freed_bytes += pack.size;
        if touched.needed == 0 { plan.delete.push(touched) } else { plan.rewrite.push(touched) }
    }
    plan.freed_bytes = plan.freed_bytes.saturating_sub(copied);
    Ok(Draft { plan, choice, owners: staying, goes })
}

/// Entries by kind, and which of them are needed.
pub(super) fn kinds(inventory: &Inventory, choice: &Choice<'_>, owners: &Owners) -> Vec<KindUsage> {
    let of_kind = |kind: EntryKind| {
        let mut usage = KindUsage { kind, entries: 0, bytes: 0, needed_entries: 0, needed_bytes: 0 };
        for entry in inventory.of_kind(kind) {
            usage.entries += 1;
            usage.bytes += inventory.copies(entry).map(|copy| inventory.bytes(copy)).sum::<u64>();
            if let Some(copy) = choice.copy(entry).filter(|_| owners.is_reached(entry)) {
                usage.needed_entries += 1;
                usage.needed_bytes += inventory.bytes(copy);
            }
        }
        usage
    };
    EntryKind::ALL.into_iter().map(of_kind).filter(|usage| usage.entries > 0).collect()
}

/// What goes beside packs: states of refs, leftovers, index files.
pub(super) fn complete(plan: &mut GcPlan, store: &Store, roots: &Roots) -> Result<()> {
    plan.refs = roots.refs.len() as u64;
    for (name, oldest) in &roots.oldest {
        plan.states += store.refs().count_before(name, *oldest).map_err(shard_store::StoreError::from)?;
    }
    let idle = store.idle_index_files()?;
    plan.index_files = idle.len() as u64;
    plan.index_bytes = idle.iter().map(|(_, bytes)| bytes).sum();
    plan.freed_bytes += plan.index_bytes + plan.leftovers.bytes;
    Ok(())
}
