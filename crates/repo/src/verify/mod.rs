//! `verify`: is everything there, and is it what it says?
//!
//! A quick look ([`structure`]) follows everything that refs name down to the list of blocks, and decodes none. A full one
//! ([`decode`]) decodes and hashes every entry once, however many files name it, and remembers how far it came ([`memory`]).
//! What is damaged can be taken from another copy of the repository ([`repair`]).

mod decode;
mod lost;
mod memory;
mod order;
mod repair;
mod structure;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use shard_core::{Digest, Progress};
use shard_store::{EntryKey, EntryList, Nonce, PackInfo, PackSum, Store, StoreError};

pub use repair::{AffectedPath, RepairReport};

use crate::error::{RepoError, Result};
use crate::repository::Repository;
use decode::{Budget, Decoded, Decoding};
use memory::Memory;
use order::lock;
use structure::ReachedFile;

/// How often it is looked where a collection runs at the same time.
const LOOKS: usize = 4;

/// How to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyOptions {
    /// Whether every byte is decoded and hashed, not only the structure looked at.
    pub full: bool,
    /// With `full`: whether to go on where an earlier one was interrupted, if the packs are still those.
    pub resume: bool,
    /// With `full`: after about so many bytes stop, to be resumed later.
    pub at_most: Option<u64>,
}

/// What `verify` looked at and found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Refs followed.
    pub refs: u64,
    /// Commits reached.
    pub commits: u64,
    /// Files whose hash was checked (full) or whose blocks are all there (quick).
    pub files: u64,
    /// Entries decoded and hashed; 0 for a quick look.
    pub entries: u64,
    /// Bytes decoded and hashed.
    pub bytes: u64,
    /// Packs whose own hash was checked (full) or whose list of entries was (quick).
    pub packs: u64,
    /// Entries that an interrupted run had decoded and hashed already: not counted in `entries`.
    pub resumed: u64,
    /// Whether it stopped before everything was decoded, since that was asked: what was not looked at may be damaged.
    pub stopped: bool,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What is odd and does no harm, such as what an interrupted writer left.
    pub warnings: Vec<String>,
}

/// What is wrong, for who repairs it.
#[derive(Debug, Default)]
struct Damage {
    /// Entries that are missing, or of which no copy that readers take can be decoded to its id.
    entries: BTreeSet<EntryKey>,
    /// Packs whose bytes are not those of their name, or that are no packs.
    packs: BTreeSet<Digest>,
    /// The first error that says nothing about what is stored, such as that of a disk: whatever was behind it may be whole.
    failed: Option<RepoError>,
}

impl Damage {
    /// Takes in why an entry could not be read.
    fn note(&mut self, key: EntryKey, error: RepoError) {
        if error.is_damage() {
            self.entries.insert(key);
        } else {
            self.failed.get_or_insert(error);
        }
    }

    /// The same of a pack.
    fn note_pack(&mut self, id: Digest, error: RepoError) {
        if error.is_damage() {
            self.packs.insert(id);
        } else {
            self.failed.get_or_insert(error);
        }
    }
}

impl VerifyReport {
    fn sort(&mut self) {
        for list in [&mut self.problems, &mut self.warnings] {
            list.sort();
            list.dedup();
        }
    }
}

impl Repository {
    /// As [`Self::verify_with`]: everything, or only the structure.
    ///
    /// # Errors
    /// Only what keeps it from looking; what is wrong is in the report.
    pub fn verify(&self, full: bool, progress: &dyn Progress) -> Result<VerifyReport> {
        self.verify_with(VerifyOptions { full, ..VerifyOptions::default() }, progress)
    }

    /// Checks the repository. A quick look checks its structure: refs and their logs, history, packs against the index, and
    /// that every block that is reached is there within the depth bound. A full one decodes and hashes every entry, file and
    /// pack.
    ///
    /// # Errors
    /// Only what keeps it from looking; what is wrong is in the report.
    pub fn verify_with(&self, options: VerifyOptions, progress: &dyn Progress) -> Result<VerifyReport> {
        Ok(self.inspect(options, None, progress)?.0)
    }

    /// Looks, and again where a collection took meanwhile what was looked at: earlier states of refs, and the packs that only
    /// they need. Whoever looks again holds a lease, where one can be had: later collections then wait, and only what an earlier
    /// one condemned still goes. `claim` is that of who asks, if it has one.
    fn inspect(
        &self,
        options: VerifyOptions,
        claim: Option<Nonce>,
        progress: &dyn Progress,
    ) -> Result<(VerifyReport, Damage)> {
        let mut looks = 1;
        loop {
            let lease = if looks > 1 { self.store.begin_copy("verify").ok() } else { None };
            let own: Vec<Nonce> = lease.iter().map(|lease| lease.lease().nonce).chain(claim).collect();
            self.store.refresh()?;
            let packs = self.store.packs()?;
            let (report, damage) = self.inspect_once(&packs, &own, options, progress)?;
            if report.problems.is_empty() || looks == LOOKS {
                return Ok((report, damage));
            }
            self.store.refresh()?;
            let left: BTreeSet<Digest> = self.store.packs()?.into_iter().map(|pack| pack.id).collect();
            if packs.iter().all(|pack| left.contains(&pack.id)) {
                return Ok((report, damage));
            }
            looks += 1;
        }
    }

    fn inspect_once(
        &self,
        packs: &[PackInfo],
        own_leases: &[Nonce],
        options: VerifyOptions,
        progress: &dyn Progress,
    ) -> Result<(VerifyReport, Damage)> {
        let (mut report, mut damage) = (VerifyReport::default(), Damage::default());
        let (memory, note) = match options.full {
            true => Memory::open(&self.store, packs, options.resume),
            false => (Memory::none(), None),
        };
        report.warnings.extend(note);
        progress.begin("following refs", None);
        let files = self.follow_refs(&mut report, &mut damage)?;
        progress.finish();
        let openable = self.check_packs(packs, &mut report, &mut damage)?;
        self.check_epochs(&mut report, &mut damage)?;
        self.find_leftovers(own_leases, &mut report)?;
        let budget = Budget::new(options.at_most);
        if options.full {
            let packs = PackHashes::new(&self.store, openable, &memory, &budget);
            let decoded = decode_all(&self.store, &files, &memory, &budget, Some(&packs), progress)?;
            for (id, error) in packs.bad.into_inner().unwrap_or_else(PoisonError::into_inner) {
                report.problems.push(with_sources(&error));
                damage.note_pack(id, error.into());
            }
            (report.files, report.entries, report.bytes) = (decoded.files, decoded.entries, decoded.bytes);
            (report.resumed, report.stopped) = (decoded.resumed, budget.is_spent());
            report.problems.extend(decoded.problems);
            damage.entries.extend(decoded.bad);
        } else {
            report.files = files.len() as u64;
        }
        memory.close(report.stopped);
        report.sort();
        Ok((report, damage))
    }

    /// Checks the packs' lists of entries, and that the index has the same. The packs that could be opened are given.
    fn check_packs<'p>(
        &self,
        packs: &'p [PackInfo],
        report: &mut VerifyReport,
        damage: &mut Damage,
    ) -> Result<Vec<&'p PackInfo>> {
        let sums = self.store.index_sums()?;
        let check = |pack: &PackInfo| self.store.open_pack(&pack.id).map(|opened| PackSum::of(opened.footer()));
        let checked: Vec<_> = packs.par_iter().map(check).collect();
        report.packs = packs.len() as u64;
        let mut openable = Vec::new();
        for (pack, checked) in packs.iter().zip(checked) {
            if pack.problem.is_some() {
                damage.packs.insert(pack.id);
            }
            report.problems.extend(pack.problem.clone());
            match checked {
                Ok(sum) => {
                    let (problem, warning) =
                        disagreement(&pack.id, sum, sums.get(&pack.id).copied().unwrap_or_default());
                    report.problems.extend(problem);
                    report.warnings.extend(warning);
                    openable.push(pack);
                }
                Err(error) => {
                    report.problems.push(with_sources(&error));
                    damage.note_pack(pack.id, error.into());
                }
            }
        }
        for key in self.store.undecodable()? {
            // What a file needs was told with its path.
            if damage.entries.insert(key) {
                report.problems.push(format!("{key} leans on blocks that are missing"));
            }
        }
        Ok(openable)
    }

    /// Looks at the records of collections, without which nobody writes.
    fn check_epochs(&self, report: &mut VerifyReport, damage: &mut Damage) -> Result<()> {
        for (place, (_, epoch)) in self.store.epochs().list()?.into_iter().enumerate() {
            let Err(error) = epoch else { continue };
            // The newest is read by every writer, the others by those that began before them.
            let whom = if place == 0 { "nothing can be written" } else { "writers at work cannot finish" };
            report.problems.push(format!("{}: {whom} until it is repaired", with_sources(&error)));
            if error.io().is_some() {
                damage.failed.get_or_insert(error.into());
            }
        }
        Ok(())
    }

    fn find_leftovers(&self, own_leases: &[Nonce], report: &mut VerifyReport) -> Result<()> {
        for (file, lease) in self.store.leases().list()? {
            let what = match lease {
                Ok(lease) if own_leases.contains(&lease.nonce) => continue,
                Ok(lease) => format!("process {} on {} ({})", lease.process.pid, lease.process.host, lease.purpose),
                Err(error) => {
                    let name = file.rsplit('/').next().unwrap_or(&file);
                    let text = format!(
                        "{}: nobody can tell whose it is: a collection waits for it; `shard leases --break {name}` ends it",
                        with_sources(&error)
                    );
                    report.warnings.push(text);
                    continue;
                }
            };
            report.warnings.push(format!("{file}: a writer is at work, or was interrupted: {what}"));
        }
        Ok(())
    }
}

/// What is to be said where the index does not have what a pack's footer lists: a problem, or a warning.
fn disagreement(pack: &Digest, footer: PackSum, index: PackSum) -> (Option<String>, Option<String>) {
    if footer == index {
        return (None, None);
    }
    match footer.entries().checked_sub(index.entries()).filter(|missing| *missing > 0) {
        Some(missing) => {
            let text = format!(
                "packs/{pack}.pack: {missing} of its entries are not used, since they were found to be damaged"
            );
            (None, Some(text))
        }
        None => (Some(format!("packs/{pack}.pack: the index has something else than its list of entries")), None),
    }
}

/// Packs whose own hash is to be checked: each taken by one worker.
struct PackHashes<'a> {
    store: &'a Store,
    packs: Vec<&'a PackInfo>,
    memory: &'a Memory,
    budget: &'a Budget,
    next: AtomicUsize,
    bad: Mutex<Vec<(Digest, StoreError)>>,
}

impl<'a> PackHashes<'a> {
    /// Those that no earlier run has checked.
    fn new(store: &'a Store, mut packs: Vec<&'a PackInfo>, memory: &'a Memory, budget: &'a Budget) -> Self {
        packs.retain(|pack| !memory.has_pack(&pack.id));
        Self { store, packs, memory, budget, next: AtomicUsize::new(0), bad: Mutex::default() }
    }

    fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.size).sum()
    }

    /// Checks packs until none is left, or it is over.
    fn work(&self, is_over: &AtomicBool, progress: &dyn Progress) {
        while !self.budget.is_spent() && !is_over.load(Ordering::Relaxed) {
            let Some(pack) = self.packs.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return };
            self.budget.spend(pack.size);
            match self.store.verify_pack(&pack.id) {
                Ok(()) => self.memory.note_pack(pack.id),
                Err(error) => lock(&self.bad).push((pack.id, error)),
            }
            progress.advance(pack.size);
        }
    }
}

/// Decodes and hashes every file that is given, and every entry that there is, each once; packs are hashed at the same time.
fn decode_all(
    source: &dyn EntryList,
    files: &[ReachedFile],
    memory: &Memory,
    budget: &Budget,
    packs: Option<&PackHashes<'_>>,
    progress: &dyn Progress,
) -> Result<Decoded> {
    let mut decoding = Decoding::new(source, files, memory, budget)?;
    let bytes = decoding.open_bytes() + packs.map_or(0, PackHashes::bytes);
    progress.begin("verifying packs and blocks", Some(bytes));
    let outcome = decoding.blocks(packs, progress);
    progress.finish();
    outcome?;
    decoding.files(progress)?;
    decoding.objects(progress)?;
    Ok(decoding.finish())
}

/// Decodes and hashes every file of `manifests` (path, manifest id, the file's hash), then every entry that no file led to.
pub(crate) fn verify_source(
    source: &dyn EntryList,
    manifests: Vec<(String, Digest, Digest)>,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    let (mut report, mut damage) = (VerifyReport::default(), Damage::default());
    let files = structure::read_files(source, manifests, &mut report, &mut damage)?;
    let decoded = decode_all(source, &files, &Memory::none(), &Budget::new(None), None, progress)?;
    report.problems.extend(decoded.problems);
    (report.files, report.entries, report.bytes) = (decoded.files, decoded.entries, decoded.bytes);
    report.sort();
    Ok(report)
}

/// An error and what caused it, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors say what their source says.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
