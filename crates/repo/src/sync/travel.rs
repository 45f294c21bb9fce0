//! Which stored copies travel: a delta as it is stored, after everything that it leans on and the other side lacks.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use shard_core::Digest;
use shard_store::runs::in_runs;
use shard_store::{EntryKey, EntrySource, Location, Store};

use super::needed::Needed;
use super::peer::{Chosen, Offer, Supply};
use crate::error::{RepoError, Result};

/// All that may have to travel so that another repository gets what is needed: that first, and then what it leans on.
///
/// # Errors
/// [`RepoError::Missing`] where something that is needed is not here, or cannot be decoded.
pub(crate) fn offers(store: &Store, needed: &Needed) -> Result<Vec<Offer>> {
    let keys = needed.blocks.iter().map(|id| EntryKey::block(*id)).chain(needed.objects.iter().copied());
    let mut open: Vec<EntryKey> = keys.collect();
    store.bring(&mut open.iter().copied())?;
    let mut known: HashSet<EntryKey> = open.iter().copied().collect();
    let needed = open.len();
    let (mut offers, mut at) = (Vec::with_capacity(needed), 0);
    while let Some(key) = open.get(at).copied() {
        // The copy that readers take: it leans on what is less deep, so there is no circle.
        let (location, bases) = best_copy(store, &key)?.ok_or(RepoError::Missing { key })?;
        let keys = bases.iter().map(|base| EntryKey::block(*base));
        open.extend(keys.filter(|key| known.insert(*key)));
        let (raw_len, stored_len) = (location.raw_len, location.stored_len);
        offers.push(Offer { key, raw_len, stored_len, bases, is_needed: at < needed });
        at += 1;
    }
    Ok(offers)
}

/// The copy of an entry that readers take, and what it leans on. Before it is said to be nowhere, what other processes have written or
/// moved meanwhile is looked at.
fn best_copy(store: &Store, key: &EntryKey) -> Result<Option<(Location, Vec<Digest>)>> {
    let look = || Ok(store.copies_and_bases(key)?.into_iter().next());
    match look()? {
        None => {
            store.refresh()?;
            look()
        }
        found => Ok(found),
    }
}

/// Those of the offers that have to travel to one who has those that `there` says, each after what it leans on.
pub(crate) fn choose(offers: &[Offer], there: &[bool]) -> Vec<(usize, Chosen)> {
    let numbers: HashMap<EntryKey, usize> =
        offers.iter().enumerate().map(|(number, offer)| (offer.key, number)).collect();
    // What is there, and what is in the row already.
    let mut done = there.to_vec();
    done.resize(offers.len(), false);
    let (mut is_met, mut is_base) = (vec![false; offers.len()], HashSet::new());
    let mut order = Vec::new();
    for (number, offer) in offers.iter().enumerate() {
        if !offer.is_needed {
            continue;
        }
        // Down to what leans on nothing that travels, and up again.
        let mut open = vec![number];
        while let Some(number) = open.last().copied() {
            if done[number] {
                open.pop();
                continue;
            }
            let bases = offers[number].bases.iter().filter_map(|base| numbers.get(&EntryKey::block(*base)).copied());
            let travelling = bases.filter(|base| !there.get(*base).copied().unwrap_or(false));
            let lacking: Vec<usize> =
                travelling.inspect(|base| _ = is_base.insert(*base)).filter(|base| !done[*base]).collect();
            // Met twice: what it leans on leans on it, which only a lie says. The receiver will tell.
            if lacking.is_empty() || std::mem::replace(&mut is_met[number], true) {
                open.pop();
                done[number] = true;
                order.push(number);
            } else {
                open.extend(lacking);
            }
        }
    }
    let chosen = |number: usize| (number, Chosen { key: offers[number].key, is_base: is_base.contains(&number) });
    order.into_iter().map(chosen).collect()
}

/// Entries as a repository has them stored.
pub(crate) struct Stored<'a> {
    source: &'a Store,
    chosen: Vec<Chosen>,
    /// Where they are, and whether each is best read together with the one before; empty where that does not matter.
    places: HashMap<EntryKey, Location>,
    joins: Vec<bool>,
    next: AtomicUsize,
    is_nearby: bool,
}

impl<'a> Stored<'a> {
    /// Entries in this order.
    pub(crate) fn new(source: &'a Store, chosen: Vec<Chosen>) -> Self {
        let (places, joins) = (HashMap::new(), Vec::new());
        Self { source, chosen, places, joins, next: AtomicUsize::new(0), is_nearby: false }
    }

    /// Entries in an order in which they are read with the fewest requests, where each is a round trip.
    pub(crate) fn in_runs(source: &'a Store, chosen: Vec<Chosen>) -> Result<Self> {
        if source.backend().requests_at_once() == 1 {
            return Ok(Self::new(source, chosen));
        }
        let locations: Vec<Option<Location>> =
            chosen.iter().map(|chosen| source.locate(&chosen.key)).collect::<std::result::Result<_, _>>()?;
        // One that is not there is told by who reads it.
        let Some(mut locations) = locations.into_iter().collect::<Option<Vec<Location>>>() else {
            return Ok(Self::new(source, chosen));
        };
        let joins = in_runs(&mut locations);
        let bases: HashMap<EntryKey, bool> = chosen.iter().map(|chosen| (chosen.key, chosen.is_base)).collect();
        let is_base = |key: &EntryKey| bases.get(key).copied().unwrap_or(true);
        let chosen = locations.iter().map(|at| Chosen { key: at.key, is_base: is_base(&at.key) }).collect();
        let places = locations.into_iter().map(|location| (location.key, location)).collect();
        Ok(Self { places, joins, ..Self::new(source, chosen) })
    }

    /// Entries of a repository that is nearer than the one that takes them.
    pub(crate) fn nearby(source: &'a Store, chosen: Vec<Chosen>) -> Self {
        Self { is_nearby: true, ..Self::new(source, chosen) }
    }
}

impl Supply for Stored<'_> {
    fn next(&self, _: &mut Vec<u8>) -> Result<Option<Chosen>> {
        Ok(self.chosen.get(self.next.fetch_add(1, Ordering::Relaxed)).copied())
    }

    fn goes_on(&self) -> bool {
        self.joins.get(self.next.load(Ordering::Relaxed)).is_some_and(|joins| *joins)
    }

    fn complete(&self, chosen: &[Chosen], stored: &mut [Vec<u8>]) -> Result<()> {
        let run: Option<Vec<Location>> = chosen.iter().map(|chosen| self.places.get(&chosen.key).copied()).collect();
        // Where something is wrong with one of them, or it has moved, the best copy of each is looked for.
        if run.is_some_and(|run| run.len() > 1 && self.source.read_run(&run, stored).is_ok()) {
            return Ok(());
        }
        for (chosen, stored) in chosen.iter().zip(stored) {
            self.source.read(&chosen.key, stored)?;
        }
        Ok(())
    }

    fn at_once(&self) -> usize {
        let requests = self.source.backend().requests_at_once();
        // Long ones leave less to wait for.
        if self.joins.is_empty() { requests } else { requests.div_ceil(2) }
    }

    fn nearby(&self) -> Option<&dyn EntrySource> {
        self.is_nearby.then_some(self.source)
    }
}

#[cfg(test)]
mod tests {
    use shard_core::{Digest, sha256};

    use super::*;

    fn block(name: u8) -> Digest {
        sha256(&[name])
    }

    fn offer(name: u8, bases: &[u8], is_needed: bool) -> Offer {
        let bases = bases.iter().map(|base| block(*base)).collect();
        Offer { key: EntryKey::block(block(name)), raw_len: 1, stored_len: 1, bases, is_needed }
    }

    fn chosen(offers: &[Offer], there: &[u8]) -> Vec<(u8, bool)> {
        let is_there = |offer: &Offer| there.iter().any(|name| offer.key.id == block(*name));
        let there: Vec<bool> = offers.iter().map(is_there).collect();
        let name = |key: EntryKey| (0..=255).find(|name| block(*name) == key.id).unwrap();
        choose(offers, &there).into_iter().map(|(_, chosen)| (name(chosen.key), chosen.is_base)).collect()
    }

    #[test]
    fn what_is_leaned_on_comes_first_and_only_where_it_is_lacking() {
        let offers = [offer(1, &[2], true), offer(4, &[], true), offer(2, &[3], false), offer(3, &[], false)];
        assert_eq!(chosen(&offers, &[]), [(3, true), (2, true), (1, false), (4, false)]);
        assert_eq!(chosen(&offers, &[2]), [(1, false), (4, false)], "what only block 2 leans on does not travel");
        assert_eq!(chosen(&offers, &[3]), [(2, true), (1, false), (4, false)]);
        assert_eq!(chosen(&offers, &[1, 3]), [(4, false)]);
        assert_eq!(chosen(&offers, &[1, 2, 3, 4]), []);
        // A base that is not offered is there.
        assert_eq!(chosen(&[offer(1, &[9], true)], &[]), [(1, false)]);
    }

    #[test]
    fn a_lie_about_bases_ends() {
        let offers = [offer(1, &[2], true), offer(2, &[1], true), offer(3, &[3], true)];
        let names: Vec<u8> = chosen(&offers, &[]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 3);
    }
}
