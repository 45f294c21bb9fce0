//! Planning an archive: what packing would make of a series, without writing anything.
//!
//! A few percent of the blocks are encoded as packing would encode them, on the bases that they would lean on. How much each
//! file then takes, and how long the slowest version takes to restore, follows from the sample.

mod sample;
mod simulate;

use std::path::PathBuf;

use shard_codecs::{Block, Encoder, Level};
use shard_core::{BaseRef, Progress};
use shard_manifest::{BlockStorage, StorageManifest};

use crate::archive::{PackOptions, inputs};
use crate::base_chain::ChainLimits;
use crate::error::{RepoError, Result};
use crate::repository::Settings;
use sample::{Member, Sample};
use simulate::{Outcome, Simulator};

/// The depths that a plan compares.
const DEPTHS: [u32; 5] = [0, 1, 2, 4, 8];

/// Bytes that an archive has for an entry beside what is stored of it: its header and its line in the list of entries.
const ENTRY: f64 = 85.0;

/// Bytes of an archive that do not depend on its files, and of the line of a file in its list.
const ARCHIVE: f64 = 400.0;
const LINE: f64 = 150.0;

/// What packing would make.
#[derive(Debug, Clone)]
pub struct PackPlan {
    /// The files, in series order.
    pub files: Vec<PlannedFile>,
    /// What other limits of chains would make, and the ones asked for.
    pub chains: Vec<PlannedChains>,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of them that were encoded to make the plan.
    pub sampled: u64,
    /// Expected length of the archive in bytes.
    pub stored: u64,
}

/// A file that would be packed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFile {
    /// Its path in the archive.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// The earlier file that most of its bytes would lean on, or be equal to those of.
    pub base: Option<String>,
    /// Bytes of the file that would lean on that one.
    pub leaning: u64,
    /// Most bases that a block of it would have on its way to a keyframe.
    pub depth: u32,
    /// By how many bytes it would make the archive grow.
    pub stored: u64,
    /// Expected time to restore it, in multiples of what it would take alone: by what codecs were measured to take, and as if
    /// nothing but decoding, one SHA-256 and one write took time.
    pub restore: f64,
    /// Why a file that looked like a model would be kept as opaque bytes.
    pub note: Option<String>,
}

/// What limits of chains would make of all files.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedChains {
    /// The most bases; `None` for the default rule.
    pub depth: Option<u32>,
    /// Most bases that there would be.
    pub deepest: u32,
    /// Expected length of the archive in bytes.
    pub stored: u64,
    /// Expected time to restore the slowest file, in multiples of what it would take alone.
    pub slowest: f64,
    /// Whether these are the ones asked for, which the plan's files are by.
    pub chosen: bool,
}

/// Says what [`crate::pack`] would make of these files with these options, writing nothing. `options.force` does not matter.
///
/// # Errors
/// As [`crate::pack`], as far as nothing is written.
pub fn plan_pack(
    files: &[PathBuf],
    options: &PackOptions,
    settings: Settings,
    progress: &dyn Progress,
) -> Result<PackPlan> {
    options.chains(settings.level)?;
    let sample = Sample::new(inputs(files, None)?)?;
    let sampled: u64 = sample.members.iter().flat_map(|member| &member.units).map(|unit| unit.piece.3 as u64).sum();
    let mut rules: Vec<Option<u32>> = DEPTHS.into_iter().map(Some).chain([None]).collect();
    if !rules.contains(&options.depth) {
        rules.push(options.depth);
        rules.sort_by_key(|depth| depth.unwrap_or(u32::MAX));
    }
    progress.begin("planning", Some(sampled * rules.len() as u64));
    let simulator = Simulator::new(&sample, settings.level, progress);
    let limits = |depth: Option<u32>| depth.map_or(ChainLimits::of_level(settings.level), ChainLimits::of_depth);
    let chosen = simulator.run(limits(options.depth), true)?;
    let mut runs = Vec::new();
    for depth in rules {
        let is_chosen = depth == options.depth;
        runs.push((depth, if is_chosen { chosen.clone() } else { simulator.run(limits(depth), false)? }));
    }
    progress.finish();

    let mut plan = PackPlan {
        files: Vec::new(),
        chains: Vec::new(),
        size: sample.members.iter().map(|member| member.size).sum(),
        sampled,
        stored: 0,
    };
    let mut encoder = Encoder::new(Level::Default);
    for (depth, outcomes) in runs {
        let mut files = Vec::new();
        for (member, outcome) in sample.members.iter().zip(&outcomes) {
            files.push(planned(member, outcome, &sample, &mut encoder)?);
        }
        let has_tensors = sample.members.iter().map(|member| !member.manifest.tensors.is_empty());
        let restores = files.iter().zip(has_tensors).filter(|(_, has)| *has).map(|(file, _)| file.restore);
        let chains = PlannedChains {
            depth,
            deepest: files.iter().map(|file| file.depth).max().unwrap_or(0),
            stored: files.iter().map(|file| file.stored).sum::<u64>() + ARCHIVE as u64,
            slowest: restores.fold(1.0, f64::max),
            chosen: depth == options.depth,
        };
        if chains.chosen {
            (plan.files, plan.stored) = (files, chains.stored);
        }
        plan.chains.push(chains);
    }
    Ok(plan)
}

fn planned(member: &Member, outcome: &Outcome, sample: &Sample, encoder: &mut Encoder) -> Result<PlannedFile> {
    let lists = lists(member, outcome, encoder)?;
    let most = outcome.leans.iter().max_by(|a, b| a.1.total_cmp(b.1));
    Ok(PlannedFile {
        path: member.path.clone(),
        size: member.size,
        base: most.and_then(|(file, _)| sample.members.get(*file)).map(|base| base.path.clone()),
        leaning: most.map_or(0, |(_, bytes)| *bytes as u64),
        depth: outcome.depth,
        stored: (outcome.stored + ENTRY * outcome.blocks + lists) as u64,
        restore: 1.0 + outcome.work / 100.0 / member.size.max(1) as f64,
        note: member.note.clone(),
    })
}

/// Bytes that a file's manifests and its line in the archive's list would take.
fn lists(member: &Member, outcome: &Outcome, encoder: &mut Encoder) -> Result<f64> {
    let failed = |source| RepoError::manifest(&member.place)(source);
    // A file with more tensors than a manifest can list is kept all the same.
    let (id, manifest) = member.manifest.encode().unwrap_or((shard_core::sha256(&[]), Vec::new()));
    let mut storage = StorageManifest::new(id);
    let ratio = outcome.stored / member.size.max(1) as f64;
    for block in member.manifest.blocks() {
        // Digits that differ from block to block, as those of true lengths do.
        let noise = u64::from(block.span.id.0[0]);
        let stored = BlockStorage {
            chain: "parent+ulp+escape[rans,rans]".to_owned(),
            raw: u64::from(block.span.len),
            stored: (f64::from(block.span.len) * ratio) as u64 + noise,
            depth: outcome.depth,
            base: (outcome.depth > 0).then(|| BaseRef::whole(reversed(block.span.id), block.span.len)),
            pack: None,
            params: Default::default(),
            extra: Default::default(),
        };
        storage.blocks.insert(block.span.id, stored);
    }
    let storage = storage.to_bytes().map_err(|error| failed(error.into()))?;
    let mut total = LINE + 2.0 * ENTRY;
    let mut stored = Vec::new();
    for bytes in [&manifest, &storage] {
        stored.clear();
        let block = Block { data: bytes, dtype: None, rows: None, base: None };
        let encoded = encoder
            .encode(&block, &mut stored)
            .map_err(|source| RepoError::Encode { path: member.place.clone(), source })?;
        total += encoded.stored_len as f64;
    }
    Ok(total)
}

/// Another id that is as hard to compress.
fn reversed(mut id: shard_core::Digest) -> shard_core::Digest {
    id.0.reverse();
    id
}
