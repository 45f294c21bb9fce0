//! `verify`: is everything there, and is it what it says?

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::PoisonError;

use rayon::prelude::*;
use shard_core::limits::MAX_DEPTH;
use shard_core::{Digest, Progress, Sha256};
use shard_manifest::ContentManifest;
use shard_store::{EntryKey, EntryKind, EntrySource, StoreError, Target};

use crate::blocks::{BlockReader, block_key, read_in_order};
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::Repository;
use crate::restore::file_bytes;

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
    /// What is wrong.
    pub problems: Vec<String>,
    /// What is odd and does no harm, such as what an interrupted writer left.
    pub warnings: Vec<String>,
}

impl Repository {
    /// Checks the repository. A quick look checks its structure: refs, history, and that every block that is reached is
    /// there within the depth bound. A full one decodes and hashes every entry, file and pack.
    ///
    /// # Errors
    /// Only what keeps it from looking; what is wrong is in the report.
    pub fn verify(&self, full: bool, progress: &dyn Progress) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let mut reached = Reached::default();
        self.walk_refs(&mut report, &mut reached)?;
        self.check_packs(full, &mut report, progress)?;
        self.find_leftovers(&mut report)?;
        if full {
            let manifests = std::mem::take(&mut reached.files);
            let checked = verify_source(&self.store, &|kind| Ok(self.store.keys(kind)?), manifests, progress)?;
            report.files = checked.files;
            report.entries = checked.entries;
            report.bytes = checked.bytes;
            report.problems.extend(checked.problems);
        } else {
            self.check_blocks(&reached, &mut report);
        }
        report.problems.sort();
        report.problems.dedup();
        Ok(report)
    }

    fn check_packs(&self, full: bool, report: &mut VerifyReport, progress: &dyn Progress) -> Result<()> {
        let packs = self.store.packs()?;
        progress.begin("verifying packs", full.then(|| packs.iter().map(|pack| pack.size).sum()));
        let checked: Vec<_> = packs
            .par_iter()
            .map(|pack| {
                let checked =
                    if full { self.store.verify_pack(&pack.id) } else { self.store.open_pack(&pack.id).map(drop) };
                progress.advance(pack.size);
                checked
            })
            .collect();
        progress.finish();
        report.packs = packs.len() as u64;
        report.problems.extend(packs.into_iter().filter_map(|pack| pack.problem));
        report.problems.extend(checked.into_iter().filter_map(|checked| Some(with_sources(&checked.err()?))));
        for key in self.store.undecodable()? {
            report.problems.push(format!("{key} leans on blocks that are missing"));
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

    fn walk_refs(&self, report: &mut VerifyReport, reached: &mut Reached) -> Result<()> {
        let mut objects = Objects::new(&self.store);
        for (name, state) in self.store.refs().list_each("").map_err(StoreError::from)? {
            report.refs += 1;
            // Older states are the ref's log: a damaged one loses no data, but does not go unseen.
            for older in self.store.refs().log(&name).map_err(StoreError::from)?.skip(1) {
                if let Err(error) = older {
                    report.problems.push(format!("ref {name}: {}", with_sources(&error)));
                }
            }
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    report.problems.push(format!("ref {name}: {}", with_sources(&error)));
                    continue;
                }
            };
            let outcome = match &state.target {
                Target::Commit(id) => reached.commit(*id, &mut objects, report),
                Target::Tree(id) => reached.tree(*id, &mut objects),
                Target::Tag(id) => objects.tag(*id).and_then(|tag| reached.commit(tag.target, &mut objects, report)),
                Target::Symbolic(_) | Target::Deleted => Ok(()),
            };
            if let Err(error) = outcome {
                report.problems.push(format!("ref {name}: {}", with_sources(&error)));
            }
        }
        Ok(())
    }

    fn check_blocks(&self, reached: &Reached, report: &mut VerifyReport) {
        let mut objects = Objects::new(&self.store);
        let mut seen = HashSet::new();
        for (path, id, sha256) in &reached.files {
            report.files += 1;
            let manifest = match objects.manifest_once(*id) {
                Ok(manifest) => manifest,
                Err(error) => {
                    report.problems.push(format!("{path}: {}", with_sources(&error)));
                    continue;
                }
            };
            if manifest.sha256 != *sha256 {
                report.problems.push(format!("{path}: its tree and its manifest {id} disagree about its hash"));
            }
            for block in manifest.blocks() {
                if !seen.insert(block.span.id) {
                    continue;
                }
                match self.store.locate(&block_key(block.span.id)) {
                    Ok(Some(location)) if location.depth > MAX_DEPTH => {
                        report
                            .problems
                            .push(format!("{path}: the chain of bases of block {} is too long", block.span.id));
                    }
                    Ok(Some(location)) if location.raw_len != u64::from(block.span.len) => {
                        report
                            .problems
                            .push(format!("{path}: block {} has another length than it should", block.span.id));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => report.problems.push(format!("{path}: block {} is missing", block.span.id)),
                    Err(error) => report.problems.push(format!("{path}: {}", with_sources(&error))),
                }
            }
        }
    }
}

/// What the refs lead to.
#[derive(Default)]
struct Reached {
    commits: HashSet<Digest>,
    trees: HashSet<Digest>,
    /// Path, manifest and file hash of every file, each manifest once.
    files: Vec<(String, Digest, Digest)>,
    manifests: BTreeSet<Digest>,
}

impl Reached {
    fn commit(&mut self, id: Digest, objects: &mut Objects<'_>, report: &mut VerifyReport) -> Result<()> {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if !self.commits.insert(id) {
                continue;
            }
            let commit = objects.commit(id)?;
            report.commits += 1;
            self.tree(commit.tree, objects)?;
            open.extend(commit.parents);
        }
        Ok(())
    }

    fn tree(&mut self, id: Digest, objects: &mut Objects<'_>) -> Result<()> {
        if !self.trees.insert(id) {
            return Ok(());
        }
        for (path, entry) in objects.file_tree(id)?.files() {
            if self.manifests.insert(entry.manifest) {
                self.files.push((path.clone(), entry.manifest, entry.sha256));
            }
        }
        Ok(())
    }
}

/// Decodes and hashes every file of `manifests` (path, manifest id, the file's hash), then every entry that no file led to.
pub(crate) fn verify_source(
    source: &dyn EntrySource,
    keys: &dyn Fn(EntryKind) -> Result<Vec<EntryKey>>,
    manifests: Vec<(String, Digest, Digest)>,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let mut objects = Objects::new(source);
    let mut checked: HashSet<EntryKey> = HashSet::new();
    progress.begin("verifying files", None);
    for (path, id, sha256) in &manifests {
        report.files += 1;
        // One at a time: the manifests of a long history are more than memory has room for.
        let manifest = match objects.manifest_once(*id) {
            Ok(manifest) => manifest,
            Err(error) => {
                report.problems.push(format!("{path}: {}", with_sources(&error)));
                continue;
            }
        };
        match hash_file(source, &manifest, progress) {
            Ok(found) if found == *sha256 => {
                for block in manifest.blocks() {
                    if checked.insert(block_key(block.span.id)) {
                        report.entries += 1;
                        report.bytes += u64::from(block.span.len);
                    }
                }
            }
            Ok(found) => report.problems.push(format!("{path}: its bytes hash to {found}, not to {sha256}")),
            Err(error) => report.problems.push(format!("{path}: {}", with_sources(&error))),
        }
    }
    progress.finish();

    let mut rest = Vec::new();
    for kind in EntryKind::ALL {
        rest.extend(keys(kind)?.into_iter().filter(|key| !checked.contains(key)));
    }
    let problems = Mutex::new(Vec::new());
    let bytes: u64 = rest
        .par_iter()
        .map_init(
            || (BlockReader::new(source), Vec::new()),
            |(reader, out), key| match reader.read(key, out) {
                Ok(()) => out.len() as u64,
                Err(error) => {
                    problems.lock().unwrap_or_else(PoisonError::into_inner).push(with_sources(&error));
                    0
                }
            },
        )
        .sum();
    report.entries += rest.len() as u64;
    report.bytes += bytes;
    report.problems.extend(problems.into_inner().unwrap_or_else(PoisonError::into_inner));
    report.problems.sort();
    report.problems.dedup();
    Ok(report)
}

/// The hash of a file, its blocks decoded on all cores, a batch at a time.
fn hash_file(source: &dyn EntrySource, manifest: &ContentManifest, progress: &dyn Progress) -> Result<Digest> {
    let spans: Vec<Digest> = manifest.blocks().map(|block| block.span.id).collect();
    let mut hash = Sha256::new();
    let mut bytes = file_bytes(manifest);
    read_in_order(source, &spans, &mut |_, block| {
        progress.advance(block.len() as u64);
        bytes.push::<RepoError>(block, &mut |part| {
            hash.update(part);
            Ok(())
        })
    })?;
    Ok(hash.finish())
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
