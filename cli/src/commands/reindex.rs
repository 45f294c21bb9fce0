//! `shard reindex`

use serde_json::json;

use crate::Context;
use crate::error::{Failure, RESTORE, code};
use crate::report::size::{count, human};

/// Build the index anew from the packs; nothing is lost with the old one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, context: &Context) -> Result<u8, Failure> {
    let repository = context.damaged_repository()?;
    let store = repository.store();
    store.reindex().map_err(shard_repo::RepoError::from)?;
    let packs = store.packs().map_err(shard_repo::RepoError::from)?;
    let bytes: u64 = packs.iter().map(|pack| pack.size).sum();
    let damaged: Vec<_> = packs.iter().filter_map(|pack| Some((pack.id.to_hex(), pack.problem.clone()?))).collect();
    if context.ui.json {
        let damaged: Vec<_> = damaged.iter().map(|(pack, problem)| json!({"pack": pack, "problem": problem})).collect();
        context.ui.print_json(&json!({"packs": packs.len(), "bytes": bytes, "damaged": damaged}))?;
    } else {
        context.ui.inform(&format!("indexed {} ({})\n", count(packs.len() as u64, "pack"), human(bytes)))?;
    }
    match damaged.first() {
        None => Ok(code::DONE),
        Some((pack, problem)) => Err(Failure::new(code::DAMAGED, format!("pack {pack} is damaged and was left out"))
            .because(problem)
            .next(RESTORE)),
    }
}
