//! Refs: states that are damaged, and refs that were lost, put right by another copy and by what is left here.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use shard_core::Digest;
use shard_store::{EntryKind, Nonce, RecordError, RefState, Store, StoreError, Target, ref_name, refs, timestamp};

use super::get;
use crate::error::{RepoError, Result, unless_damaged};
use crate::objects::Objects;
use crate::repository::{DEFAULT, HEAD, HEADS, MAX_REF_FILE, REFS, Repository};
use crate::verify::{Damage, VerifyReport};

/// A file of a ref that was put right.
pub(super) struct Mended {
    pub(super) file: String,
    /// What was wrong with it.
    pub(super) problem: String,
    /// What there is to know, where nothing proves that it is what it was.
    pub(super) note: Option<String>,
}

/// A state that cannot be read, and its neighbours in the log of its ref, as far as they can.
struct Torn {
    name: String,
    generation: u64,
    bytes: Vec<u8>,
    newer: Option<RefState>,
    older: Option<RefState>,
    is_newest: bool,
}

impl Torn {
    /// Whether a state of another copy of this very repository follows what is here, and does not contradict what is left of this
    /// one.
    fn is_followed_by(&self, there: &RefState) -> bool {
        let previous = self.older.as_ref().is_none_or(|older| there.previous == Some(older.nonce));
        let nonce = format!("\nnonce {}", there.nonce.to_hex());
        let is_same = match self.bytes.windows(7).position(|line| line == b"\nnonce ") {
            Some(at) => {
                self.bytes[at..].starts_with(nonce.as_bytes()) || nonce.as_bytes().starts_with(&self.bytes[at..])
            }
            None => true,
        };
        previous && is_same
    }
}

impl Repository {
    /// Where HEAD is missing, refs were lost, and nothing here tells which: those that are not here are taken from the other copy,
    /// with their logs, if it is one of this repository. Others have nothing to say about its refs. Where HEAD leads to a branch
    /// that has no state, that branch is taken.
    pub(super) fn restore_refs(&self, other: &Store) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            other.refs().list_each("").map_err(StoreError::from)?.into_iter().map(|r| r.0).collect();
        match self.branch_without_state() {
            _ if other.id() != self.store.id() => return Ok(Vec::new()),
            Err(RepoError::NoHead { .. }) => {}
            Ok(Some(branch)) => names.retain(|name| *name == branch),
            // Another error is told with its ref.
            Ok(None) | Err(_) => return Ok(Vec::new()),
        }
        let (here, there) = (self.store.backend(), other.backend());
        let mut restored = Vec::new();
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

    /// The commits at the ends of what no ref leads to, once refs were put right: a copy may be older than this one.
    pub(super) fn unnamed(&self) -> Result<Vec<String>> {
        let tell = |id: &Digest| {
            format!("no ref leads to commit {id}: `shard branch NAME {id}` keeps it, `shard gc` removes it")
        };
        Ok(self.unnamed_ends()?.iter().map(tell).collect())
    }

    fn unnamed_ends(&self) -> Result<Vec<Digest>> {
        let followed = self.follow_commits(&self.store, &mut VerifyReport::default(), &mut Damage::default())?;
        Ok(self.unnamed_commits(&followed)?.ends)
    }

    /// Puts states of refs right. The other's state is taken where what is left of this one proves it; where the state after it
    /// names its nonce; and, of the newest one, where it is of this very repository, follows the state before it, and nothing that
    /// is left says otherwise. Where there is no such state, a ref whose newest one is damaged goes to what that, the commits that
    /// no ref leads to, or the state before it tell.
    pub(super) fn repair_refs(&self, other: Option<&Store>) -> Result<Vec<Mended>> {
        let Some(root) = self.store.root() else { return Ok(Vec::new()) };
        let mut mended = Vec::new();
        for folder in self.store.backend().list(REFS).map_err(StoreError::from)? {
            let Some(name) = ref_name::unescape(&folder) else { continue };
            let folder = format!("{REFS}/{folder}");
            let files = self.store.backend().list(&folder).map_err(StoreError::from)?;
            // The newest first: an older one is proven by the one after it.
            for file in files {
                let Some(generation) = refs::parse_generation(&file) else { continue };
                let file = refs::file(&name, generation);
                let Some(bytes) = get(&self.store, &file, MAX_REF_FILE)? else { continue };
                // What a later version wrote is whole.
                if matches!(RefState::decode(&bytes), Err(RecordError::Version { .. })) {
                    continue;
                }
                let Err(problem) = decode(&bytes, &name, generation) else { continue };
                let neighbour = |of: Option<u64>| -> Result<_> {
                    let Some(of) = of.filter(|of| *of > 0) else { return Ok((None, None)) };
                    let bytes = get(&self.store, &refs::file(&name, of), MAX_REF_FILE)?;
                    let state = bytes.as_ref().and_then(|bytes| decode(bytes, &name, of).ok());
                    Ok((bytes, state))
                };
                let (above, newer) = neighbour(generation.checked_add(1))?;
                let (_, older) = neighbour(generation.checked_sub(1))?;
                let torn = Torn { is_newest: above.is_none(), newer, older, name: name.clone(), generation, bytes };
                let there = other.map(|other| get(other, &file, MAX_REF_FILE)).transpose()?.flatten();
                let there = there.and_then(|bytes| Some((decode(&bytes, &name, generation).ok()?, bytes)));
                let is_copy = other.is_some_and(|other| other.id() == self.store.id());
                let found = match there {
                    Some((state, there)) if self.is_proven(&torn, &state, &there) => Some((there, None)),
                    Some((state, there)) if torn.is_newest && is_copy && torn.is_followed_by(&state) => {
                        let note = format!("ref {name} is where the other copy has it: {}", state.target);
                        Some((there, Some(note)))
                    }
                    _ => self.guess(&torn)?.map(|(state, note)| (state.encode(), Some(note))),
                };
                if let Some((bytes, note)) = found {
                    replace(&root.join(&file), &bytes)?;
                    mended.push(Mended { problem: format!("{file}: {problem}"), file, note });
                }
            }
        }
        Ok(mended)
    }

    fn is_proven(&self, torn: &Torn, state: &RefState, there: &[u8]) -> bool {
        let is_named = torn.newer.as_ref().is_some_and(|newer| newer.previous == Some(state.nonce));
        is_named || proves(&torn.bytes, there)
    }

    /// A new state in place of a newest one that nobody has: it leads to what is left of that, else to the one commit that no ref
    /// leads to and that follows the state before, else to what that led to.
    fn guess(&self, torn: &Torn) -> Result<Option<(RefState, String)>> {
        if !torn.is_newest || (torn.older.is_none() && torn.generation > 1) {
            return Ok(None);
        }
        let before = match &torn.older {
            Some(older) => Some(older.target.clone()),
            // Both begin with the repository.
            None if torn.name == HEAD => match self.read_ref(DEFAULT) {
                Ok(default) => default.map(|default| default.target),
                Err(error) if error.is_damage() => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        let left = match RefState::torn_target(&torn.bytes) {
            Some(Target::Commit(id)) if self.has(EntryKind::Commit, id)? => Some(Target::Commit(id)),
            Some(Target::Tree(id)) if self.has(EntryKind::Tree, id)? => Some(Target::Tree(id)),
            Some(Target::Tag(id)) if self.has(EntryKind::Tag, id)? => Some(Target::Tag(id)),
            Some(target @ (Target::Symbolic(_) | Target::Deleted)) => Some(target),
            _ => None,
        };
        let (target, how) = match (left, self.only_follower(torn, before.as_ref())?, before) {
            (Some(target), ..) => (target, "what is left of its newest state says so"),
            (None, Some(commit), _) => {
                (Target::Commit(commit), "its newest state was damaged, and nothing else leads to this commit")
            }
            (None, None, Some(before)) => (before, "its newest state was damaged, and this is what it was before"),
            (None, None, None) => return Ok(None),
        };
        let draw = || Nonce::random().map_err(RepoError::io("cannot draw random numbers for", &self.dir()));
        let state = RefState {
            name: torn.name.clone(),
            generation: torn.generation,
            nonce: draw()?,
            previous: torn.older.as_ref().map(|older| older.nonce),
            operation: draw()?,
            target,
            created_at: timestamp::now_exact(),
            message: "repair: the state was damaged".to_owned(),
        };
        let note = format!("ref {} is at {}: {how}", torn.name, state.target);
        Ok(Some((state, note)))
    }

    /// The one commit that no ref leads to and that follows where a branch was before; `None` where there are several, too.
    fn only_follower(&self, torn: &Torn, before: Option<&Target>) -> Result<Option<Digest>> {
        if !torn.name.starts_with(HEADS) {
            return Ok(None);
        }
        let mut found = Vec::new();
        for end in self.unnamed_ends()? {
            let follows = match before {
                Some(Target::Commit(before)) => is_followed(&self.store, *before, end)?,
                _ => true,
            };
            found.extend(follows.then_some(end));
        }
        Ok(if found.len() == 1 { found.pop() } else { None })
    }
}

/// A state, if it is the one that its place says.
fn decode(bytes: &[u8], name: &str, generation: u64) -> std::result::Result<RefState, String> {
    let state = RefState::decode(bytes).map_err(|error| error.to_string())?;
    if state.name == name && state.generation == generation {
        Ok(state)
    } else {
        Err("it is the state of another ref, or another one of this".to_owned())
    }
}

/// Whether a commit is among the ancestors of another; what cannot be read leads nowhere.
fn is_followed(store: &Store, before: Digest, from: Digest) -> Result<bool> {
    let mut objects = Objects::new(store);
    let (mut seen, mut open) = (HashSet::new(), vec![from]);
    while let Some(id) = open.pop() {
        if id == before {
            return Ok(true);
        }
        if seen.insert(id)
            && let Some(commit) = unless_damaged(objects.commit(id))?
        {
            open.extend(commit.parents);
        }
    }
    Ok(false)
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
