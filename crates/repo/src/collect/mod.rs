//! `gc`: what nothing leads to any more is deleted, and nobody is kept from working meanwhile.
//!
//! What is needed is what the states of refs lead to, over commits, trees and manifests to blocks, and what these blocks lean on.
//! A collection looks what that is, copies it out of packs that are mostly dead, condemns these packs by beginning an epoch,
//! waits for the writers that began before, looks again, copies what they brought back to life, and deletes. Why no
//! interleaving with writers, readers and crashes loses anything is in `docs/decisions/024`.

mod graph;
mod hold;
mod leases;
mod overview;
mod plan;
mod roots;
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration;

use shard_store::{Inventory, Leftovers};

use crate::error::Result;
use crate::repository::Repository;
pub(crate) use hold::{hold_commit, hold_manifest, hold_target};
pub use leases::{Holding, LeaseInfo};
pub use overview::{Reclaim, RefUsage, StorageOverview, StorageSection};
pub use plan::{GcPack, GcPlan, KindUsage};

/// How to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcOptions {
    /// How many states of each ref stay before its present one, and hold what they name: also of refs that were deleted.
    pub keep_reflog: u64,
    /// How much may stay dead in packs that are partly needed, in percent of what is needed: they are written anew from the
    /// deadest on until what is left is at most that.
    pub max_unused: u32,
    /// How long to wait for writers that began before.
    pub wait: Duration,
    /// Whether the views that downloads made inside the repository go too. Whoever still reads one loses it.
    pub prune_cache: bool,
    /// Whether commits that no ref leads to go also where the branch that is checked out has no ref: it may have been lost with
    /// them.
    pub prune_unnamed: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        // A twentieth, as restic has it: packs with a byte dead here and there would otherwise be written anew each time.
        Self {
            keep_reflog: 100,
            max_unused: 5,
            wait: Duration::from_secs(60),
            prune_cache: false,
            prune_unnamed: false,
        }
    }
}

impl GcOptions {
    /// Keeps nothing that only logs of refs hold, no dead byte, and no commit that no ref leads to.
    #[must_use]
    pub fn prune_now(self) -> Self {
        Self { keep_reflog: 0, max_unused: 0, prune_unnamed: true, ..self }
    }
}

/// What a collection did.
#[derive(Debug, Clone, Default)]
pub struct GcReport {
    /// What was planned.
    pub plan: GcPlan,
    /// Packs deleted.
    pub deleted_packs: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Entries copied to new packs.
    pub copied_entries: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Earlier states of refs removed.
    pub states: u64,
    /// Leases and unfinished files of processes that are gone, removed.
    pub leftovers: Leftovers,
    /// Index files removed.
    pub index_files: u64,
    /// Their bytes.
    pub index_bytes: u64,
    /// Files of views removed.
    pub view_files: u64,
    /// Their bytes.
    pub view_bytes: u64,
    /// What was out of the ordinary.
    pub notes: Vec<String>,
}

impl GcReport {
    /// What was given back in all, in bytes; 0 where more was written than deleted.
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        let removed = self.deleted_bytes + self.index_bytes + self.leftovers.bytes + self.view_bytes;
        removed.saturating_sub(self.copied_bytes)
    }
}

impl Repository {
    /// What [`Self::gc`] would do now. Nothing is written.
    ///
    /// # Errors
    /// As [`Self::gc`].
    pub fn plan_gc(&self, options: &GcOptions) -> Result<GcPlan> {
        self.refuse_lost(options)?;
        let roots = roots::Roots::read(&self.store, options.keep_reflog)?;
        let inventory = Inventory::read(&self.store)?;
        let before = plan::Before { condemned: self.store.epochs().current()?.condemned, ..Default::default() };
        let avoided: Vec<bool> = inventory.packs().iter().map(|pack| before.condemned.contains(&pack.id)).collect();
        let owners = plan::reach(&shard_store::Choice::new(&self.store, &inventory, &avoided, &[]), &roots)?;
        let mut plan = plan::draft(&self.store, &inventory, &owners, &before, options)?.plan;
        let (files, bytes) = self.store.stale_temporaries()?;
        plan.leftovers = Leftovers { leases: self.store.leases().stale()?.len() as u64, files, bytes };
        plan::complete(&mut plan, &self.store, &roots)?;
        if options.prune_cache {
            (plan.view_files, plan.view_bytes) = self.views()?;
            plan.freed_bytes += plan.view_bytes;
        }
        Ok(plan)
    }
}
