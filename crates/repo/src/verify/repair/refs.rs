//! Refs from another copy: single states that are damaged, and all of them where they were lost.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use shard_core::Digest;
use shard_store::{EntryKind, RefState, Store, StoreError, ref_name};

use super::get;
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::repository::{HEAD, REFS, Repository, head_of};
use crate::verify::{Damage, VerifyReport};

/// Largest file of a ref's state, in bytes.
const MAX_REF_FILE: u64 = 1 << 20;

impl Repository {
    /// Where HEAD is missing, refs were lost, and nothing here tells which: those that are not here are taken from the other copy,
    /// with their logs, if it is one of this repository. Others have nothing to say about its refs.
    pub(super) fn restore_refs(&self, other: &Store) -> Result<Vec<String>> {
        if !matches!(head_of(&self.store), Err(RepoError::NoHead { .. })) || other.id() != self.store.id() {
            return Ok(Vec::new());
        }
        let (here, there) = (self.store.backend(), other.backend());
        let mut restored = Vec::new();
        let mut names: Vec<String> =
            other.refs().list_each("").map_err(StoreError::from)?.into_iter().map(|r| r.0).collect();
        // With HEAD it is complete: should this be interrupted, it is done again.
        names.sort_by_key(|name| name == HEAD);
        for name in names {
            let folder = format!("{REFS}/{}", ref_name::escape(&name));
            if !here.list(&folder).map_err(StoreError::from)?.is_empty() {
                continue;
            }
            // The oldest first: where a state is, those before it are. What is older than one that is damaged stays away.
            let states: Vec<RefState> =
                other.refs().log(&name).map_err(StoreError::from)?.map_while(|state| state.ok()).collect();
            for state in states.iter().rev() {
                let file = format!("{folder}/{:016x}", u64::MAX - state.generation);
                let bytes = there.get(&file, MAX_REF_FILE).map_err(StoreError::from)?;
                here.put_if_absent(&file, &bytes).map_err(StoreError::from)?;
                restored.push(file);
            }
        }
        Ok(restored)
    }

    /// The commits at the ends of what no ref leads to, once refs were taken from another copy: it may be older than this one.
    pub(super) fn unnamed(&self) -> Result<Vec<String>> {
        let followed = self.follow_commits(&self.store, &mut VerifyReport::default(), &mut Damage::default())?;
        let mut unnamed: BTreeSet<Digest> = self.store.ids(EntryKind::Commit)?.into_iter().collect();
        for (commit, _) in &followed.commits {
            unnamed.remove(commit);
        }
        let mut objects = Objects::new(&self.store);
        for id in unnamed.clone() {
            if let Ok(commit) = objects.commit(id) {
                for parent in &commit.parents {
                    unnamed.remove(parent);
                }
            }
        }
        let tell = |id: &Digest| {
            format!("no ref leads to commit {id}: `shard branch NAME {id}` keeps it, `shard gc` removes it")
        };
        Ok(unnamed.iter().map(tell).collect())
    }

    /// Puts states of refs right of which this copy has enough to prove what the other has: their checksum, or all but that.
    pub(super) fn repair_refs(&self, other: &Store) -> Result<Vec<String>> {
        let Some(root) = self.store.root() else { return Ok(Vec::new()) };
        let mut repaired = Vec::new();
        for folder in self.store.backend().list(REFS).map_err(StoreError::from)? {
            let folder = format!("{REFS}/{folder}");
            for name in self.store.backend().list(&folder).map_err(StoreError::from)? {
                let name = format!("{folder}/{name}");
                let read = |store: &Store| get(store, &name, MAX_REF_FILE);
                let Some(here) = read(&self.store)?.filter(|here| RefState::decode(here).is_err()) else { continue };
                let Some(there) = read(other)?.filter(|there| RefState::decode(there).is_ok()) else { continue };
                if proves(&here, &there) {
                    replace(&root.join(&name), &there)?;
                    repaired.push(name);
                }
            }
        }
        Ok(repaired)
    }
}

/// Whether what is left of a record here shows that it was the one that the other copy has. Records end in a line with the
/// SHA-256 of all before it.
fn proves(here: &[u8], there: &[u8]) -> bool {
    let body = there.len().saturating_sub("checksum \n".len() + 64);
    let (fields, checksum) = there.split_at(body);
    here.ends_with(checksum) || here.starts_with(fields)
}

/// Gives a file other bytes: those or the old ones are there at any time.
fn replace(place: &Path, bytes: &[u8]) -> Result<()> {
    let folder = place.parent().unwrap_or(place);
    let failed = |error| RepoError::io("cannot be put right", place)(error);
    let mut file = tempfile::Builder::new().prefix(".repair-").tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(place).map_err(|error| failed(error.error))?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
