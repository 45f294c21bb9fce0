//! What a full verification has done, so that one that was interrupted can go on.
//!
//! A file of the cache, which may be deleted at any time. It names the packs with what the file system says of them: where
//! one of them is another now, or gone, nothing in it counts. Packs that came since do no harm.
//!
//! Wire form: magic, version (u32), the repository's id; packs (varint count; each id, then size, modification and change
//! time, inode and device as u64, and a byte that is 1 where its hash was checked); entries that were decoded and hashed
//! (count; each kind, id); files that were hashed (count; each manifest id); files begun (count; each manifest id, number of
//! blocks hashed, and the state of the hash with its length); SHA-256 of all of that.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shard_core::wire::put_varint;
use shard_core::{Digest, Sha256, WireError, WireReader, sha256};
use shard_store::pack::pack_name;
use shard_store::{EntryKey, EntryKind, FileStat, PackInfo, Store};

const MAGIC: &[u8; 8] = b"shardvfd";
const VERSION: u32 = 2;
/// Its place in the repository's directory.
const FILE: &str = "cache/verified";
/// Longest time between two notes, where writing one takes next to none.
const EVERY: Duration = Duration::from_secs(5);

/// What is remembered, and where.
pub(crate) struct Memory {
    /// The repository's directory; `None` where nothing is remembered.
    root: Option<PathBuf>,
    repository: Vec<u8>,
    /// The packs as they were when the verification began.
    packs: Vec<(Digest, FileStat)>,
    state: Mutex<State>,
}

struct State {
    hashed: HashSet<Digest>,
    before: Done,
    written: Instant,
    /// How long it took to write the last note.
    took: Duration,
}

/// What was done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) entries: HashSet<EntryKey>,
    /// Files that were hashed whole, by their manifests.
    pub(super) files: HashSet<Digest>,
    /// Files that were begun, by their manifests: how many blocks were hashed, and the hash of those.
    pub(super) begun: HashMap<Digest, (u32, Vec<u8>)>,
}

impl Memory {
    /// One that remembers nothing.
    pub(crate) fn none() -> Self {
        let state =
            State { hashed: HashSet::new(), before: Done::default(), written: Instant::now(), took: Duration::ZERO };
        Self { root: None, repository: Vec::new(), packs: Vec::new(), state: Mutex::new(state) }
    }

    /// The memory of a repository; with `resume` what an interrupted verification left there. The note says why that does not
    /// count.
    pub(super) fn open(store: &Store, packs: &[PackInfo], resume: bool) -> (Self, Option<String>) {
        let mut memory = Self { root: store.root().map(Path::to_owned), ..Self::none() };
        memory.repository = store.id().to_hex().into_bytes();
        let Some(root) = memory.root.clone() else { return (memory, None) };
        let stat =
            |pack: &PackInfo| Some((pack.id, FileStat::new(&fs::metadata(root.join(pack_name(&pack.id))).ok()?)));
        memory.packs = packs.iter().filter_map(stat).collect();
        if !resume {
            return (memory, None);
        }
        let Ok(bytes) = fs::read(root.join(FILE)) else {
            let note = "there is no interrupted verification to resume: everything is verified";
            return (memory, Some(note.to_owned()));
        };
        match memory.decode(&bytes) {
            Ok((hashed, before)) => {
                let state = memory.state.get_mut().unwrap_or_else(PoisonError::into_inner);
                (state.hashed, state.before) = (hashed, before);
                (memory, None)
            }
            Err(_) => {
                let note =
                    "the packs are not those of the verification that was interrupted: everything is verified again";
                (memory, Some(note.to_owned()))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an interrupted verification had done.
    pub(super) fn take(&self) -> Done {
        std::mem::take(&mut self.lock().before)
    }

    pub(super) fn has_pack(&self, id: &Digest) -> bool {
        self.lock().hashed.contains(id)
    }

    pub(super) fn note_pack(&self, id: Digest) {
        self.lock().hashed.insert(id);
    }

    /// Whether it is time for another note. They take a small share of the time at most.
    pub(super) fn is_due(&self) -> bool {
        let state = self.lock();
        self.root.is_some() && state.written.elapsed() >= EVERY.max(state.took.saturating_mul(20))
    }

    /// Writes down what was done. That it cannot be written keeps nobody from verifying.
    pub(super) fn note(&self, done: &Done) {
        let Some(root) = &self.root else { return };
        let began = Instant::now();
        let bytes = self.encode(&self.lock().hashed, done);
        let (file, unfinished) = (root.join(FILE), root.join(format!("{FILE}.tmp")));
        let _ = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, &file));
        let mut state = self.lock();
        (state.written, state.took) = (Instant::now(), began.elapsed());
    }

    /// The verification is over; what was done is only of use where it `stopped` early.
    pub(super) fn close(&self, stopped: bool) {
        if let Some(root) = self.root.as_ref().filter(|_| !stopped) {
            let _ = fs::remove_file(root.join(FILE));
        }
    }

    fn encode(&self, hashed: &HashSet<Digest>, done: &Done) -> Vec<u8> {
        let mut out = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &self.repository].concat();
        put_varint(&mut out, self.packs.len() as u64);
        for (id, stat) in &self.packs {
            out.extend_from_slice(&id.0);
            for field in fields(stat) {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.push(u8::from(hashed.contains(id)));
        }
        put_varint(&mut out, done.entries.len() as u64);
        for key in &done.entries {
            out.push(key.kind as u8);
            out.extend_from_slice(&key.id.0);
        }
        put_varint(&mut out, done.files.len() as u64);
        done.files.iter().for_each(|id| out.extend_from_slice(&id.0));
        put_varint(&mut out, done.begun.len() as u64);
        for (id, (blocks, hash)) in &done.begun {
            out.extend_from_slice(&id.0);
            put_varint(&mut out, u64::from(*blocks));
            put_varint(&mut out, hash.len() as u64);
            out.extend_from_slice(hash);
        }
        let sum = sha256(&out);
        out.extend_from_slice(&sum.0);
        out
    }

    /// What a note says, if it is about these packs.
    fn decode(&self, bytes: &[u8]) -> Result<(HashSet<Digest>, Done), WireError> {
        let (body, sum) = bytes.split_at(bytes.len().saturating_sub(Digest::LEN));
        let mut reader = WireReader::new(body);
        if sha256(body).0 != sum
            || reader.bytes(MAGIC.len())? != MAGIC
            || reader.u32()? != VERSION
            || reader.bytes(self.repository.len())? != self.repository
        {
            return Err(reader.invalid("note of what was verified"));
        }
        let now: HashMap<Digest, [u64; 5]> = self.packs.iter().map(|(id, stat)| (*id, fields(stat))).collect();
        let most = |reader: &WireReader<'_>| reader.remaining() as u64;
        let mut hashed = HashSet::new();
        for _ in 0..reader.varint_up_to(most(&reader), "number of packs")? {
            let id = reader.digest()?;
            let mut then = [0; 5];
            for field in &mut then {
                *field = reader.u64()?;
            }
            if now.get(&id) != Some(&then) {
                return Err(reader.invalid("pack"));
            }
            if reader.u8()? == 1 {
                hashed.insert(id);
            }
        }
        let mut done = Done::default();
        for _ in 0..reader.varint_up_to(most(&reader), "number of entries")? {
            let kind = EntryKind::from_byte(reader.u8()?).ok_or_else(|| reader.invalid("kind"))?;
            done.entries.insert(EntryKey::new(kind, reader.digest()?));
        }
        for _ in 0..reader.varint_up_to(most(&reader), "number of files")? {
            done.files.insert(reader.digest()?);
        }
        for _ in 0..reader.varint_up_to(most(&reader), "number of files begun")? {
            let (id, blocks) = (reader.digest()?, reader.varint_up_to(u64::from(u32::MAX), "number of blocks")?);
            let len = reader.varint_up_to(most(&reader), "length of a hash")?;
            let hash = reader.bytes(len as usize)?.to_vec();
            if Sha256::resume(&hash).is_none() {
                return Err(reader.invalid("state of a hash"));
            }
            done.begun.insert(id, (blocks as u32, hash));
        }
        reader.finish()?;
        Ok((hashed, done))
    }
}

fn fields(stat: &FileStat) -> [u64; 5] {
    [stat.size, stat.mtime_ns as u64, stat.ctime_ns as u64, stat.inode, stat.device]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(packs: &[(u8, u64)]) -> Memory {
        let stat = |size| FileStat { size, mtime_ns: -1, ctime_ns: 7, inode: 8, device: 9 };
        let packs = packs.iter().map(|(id, size)| (sha256(&[*id]), stat(*size))).collect();
        Memory { root: None, repository: b"an id".to_vec(), packs, ..Memory::none() }
    }

    #[test]
    fn fault_09_a_note_counts_for_the_same_packs_only() {
        let mut hash = Sha256::new();
        hash.update(b"the first block");
        let done = Done {
            entries: [EntryKey::block(sha256(b"a")), EntryKey::new(EntryKind::Tree, sha256(b"a"))].into(),
            files: [sha256(b"file")].into(),
            begun: [(sha256(b"begun"), (3, hash.pause()))].into(),
        };
        let before = memory(&[(1, 100), (2, 200)]);
        let hashed: HashSet<Digest> = [sha256(&[2])].into();
        let bytes = before.encode(&hashed, &done);
        assert_eq!(before.decode(&bytes), Ok((hashed.clone(), done)));
        assert!(memory(&[(2, 200), (1, 100), (3, 300)]).decode(&bytes).is_ok(), "a pack that came since");
        for packs in [&[(1, 100)][..], &[(1, 100), (2, 201)], &[]] {
            assert!(memory(packs).decode(&bytes).is_err(), "{packs:?}");
        }
        let other = Memory { repository: b"other".to_vec(), ..memory(&[(1, 100), (2, 200)]) };
        assert!(other.decode(&bytes).is_err());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(before.decode(&bad).is_err() && before.decode(&bytes[..at]).is_err(), "{at}");
        }
    }
}
