//! `verify`: is everything there, and is it what it says?
//!
//! A quick look ([`structure`]) follows everything that refs name down to the list of blocks, and decodes none. A full one
//! ([`decode`]) decodes and hashes every entry once, however many files name it, and remembers how far it came ([`memory`]).
//! What is damaged can be taken from another copy of the repository ([`repair`]).

mod decode;
mod memory;
mod order;
mod repair;
mod structure;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use rayon::prelude::*;
use shard_core::{Digest, Progress};
use shard_store::{EntryKey, EntryList, PackInfo, PackSum};

pub use repair::{AffectedPath, RepairReport};

use crate::error::Result;
use crate::repository::Repository;
use decode::{Budget, Decoding};
use memory::Memory;
use structure::ReachedFile;

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
    /// Packs whose bytes are not those of their name, or that cannot be opened.
    packs: BTreeSet<Digest>,
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
        Ok(self.inspect(options, progress)?.0)
    }

    fn inspect(&self, options: VerifyOptions, progress: &dyn Progress) -> Result<(VerifyReport, Damage)> {
        self.store.refresh()?;
        let (mut report, mut damage) = (VerifyReport::default(), Damage::default());
        let packs = self.store.packs()?;
        let (memory, note) = match options.full {
            true => Memory::open(&self.store, &packs, options.resume),
            false => (Memory::none(), None),
        };
        report.warnings.extend(note);
        progress.begin("following refs", None);
        let files = self.follow_refs(&mut report, &mut damage)?;
        progress.finish();
        let budget = Budget::new(options.at_most);
        self.check_packs(&packs, options.full.then_some((&memory, &budget)), &mut report, &mut damage, progress)?;
        self.find_leftovers(&mut report)?;
        if options.full {
            let decoded = decode_all(&self.store, &files, &memory, &budget, progress)?;
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

    /// Checks the packs' lists of entries, and that the index has the same; in full each pack's own hash as well.
    fn check_packs(
        &self,
        packs: &[PackInfo],
        full: Option<(&Memory, &Budget)>,
        report: &mut VerifyReport,
        damage: &mut Damage,
        progress: &dyn Progress,
    ) -> Result<()> {
        progress.begin("verifying packs", full.map(|_| packs.iter().map(|pack| pack.size).sum()));
        let sums = self.store.index_sums()?;
        let check = |pack: &PackInfo| -> (bool, Option<String>, Option<String>) {
            let outcome = self.store.open_pack(&pack.id).and_then(|opened| {
                match full {
                    Some((memory, budget)) if !memory.has_pack(&pack.id) && !budget.is_spent() => {
                        budget.spend(pack.size);
                        self.store.verify_pack(&pack.id)?;
                        memory.note_pack(pack.id);
                    }
                    _ => {}
                }
                Ok(PackSum::of(opened.footer()))
            });
            progress.advance(pack.size);
            match outcome {
                Err(error) => (true, Some(with_sources(&error)), None),
                Ok(sum) => {
                    let (problem, warning) =
                        disagreement(&pack.id, sum, sums.get(&pack.id).copied().unwrap_or_default());
                    (false, problem, warning)
                }
            }
        };
        let checked: Vec<_> = packs.par_iter().map(check).collect();
        progress.finish();
        report.packs = packs.len() as u64;
        for (pack, (is_damaged, problem, warning)) in packs.iter().zip(checked) {
            if is_damaged || pack.problem.is_some() {
                damage.packs.insert(pack.id);
            }
            report.problems.extend(pack.problem.clone());
            report.problems.extend(problem);
            report.warnings.extend(warning);
        }
        for key in self.store.undecodable()? {
            report.problems.push(format!("{key} leans on blocks that are missing"));
            damage.entries.insert(key);
        }
        Ok(())
    }

    fn find_leftovers(&self, report: &mut VerifyReport) -> Result<()> {
        for (file, lease) in self.store.leases().list()? {
            let what = match lease {
                Ok(lease) => format!("process {} on {} ({})", lease.process.pid, lease.process.host, lease.purpose),
                Err(error) => with_sources(&error),
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

/// Decodes and hashes every file that is given, and every entry that there is, each once.
pub(crate) fn decode_all(
    source: &dyn EntryList,
    files: &[ReachedFile],
    memory: &Memory,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<decode::Decoded> {
    let mut decoding = Decoding::new(source, files, memory, budget)?;
    decoding.blocks(progress)?;
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
    let decoded = decode_all(source, &files, &Memory::none(), &Budget::new(None), progress)?;
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
