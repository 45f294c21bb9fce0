//! Every entry decoded and hashed, once.
//!
//! Blocks that lean on others are trees: each hangs on the deepest block that it leans on. A tree is gone through from its
//! keyframe up, with the blocks between there and the one that is decoded at hand, so that no base is decoded again. Trees
//! come in the order in which files have their blocks, and each block is handed to the hashes of all files that have it: the
//! versions of a model are hashed side by side. A file whose turn does not come so, since its blocks are all over, is hashed
//! in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rayon::prelude::*;
use shard_codecs::kernel::sha256_along;
use shard_core::limits::MAX_BLOCK;
use shard_core::{Digest, Progress, Sha256, sha256};
use shard_store::{EntryKey, EntryKind, EntryList, EntrySource};

use super::memory::{Done, Memory};
use super::order::{Blocks, NONE, Path, UnderWay, lock};
use super::structure::ReachedFile;
use super::{PackHashes, with_sources};
use crate::blocks::{BlockReader, EntryDecoder, StoredEntry, block_key, read_in_order};
use crate::error::{RepoError, Result};
use crate::objects::Objects;
use crate::restore::file_bytes;

/// Bytes of blocks that came before their turn in some file, and wait for it.
const WAITING: u64 = 16 * MAX_BLOCK as u64;
/// How long a worker waits for another before it looks again.
const PATIENCE: Duration = Duration::from_millis(1);

/// How far verifying may go before it stops, to be resumed.
pub(crate) struct Budget {
    left: Option<AtomicU64>,
}

impl Budget {
    /// Of so many bytes; no end where that is `None`.
    pub(crate) fn new(bytes: Option<u64>) -> Self {
        Self { left: bytes.map(AtomicU64::new) }
    }

    pub(super) fn spend(&self, bytes: u64) {
        if let Some(left) = &self.left {
            let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }
}

/// What decoding found.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) files: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) resumed: u64,
    pub(crate) problems: Vec<String>,
    pub(crate) bad: BTreeSet<EntryKey>,
}

const OPEN: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

/// A file's hash, as far as it came.
struct FileHash {
    next: u32,
    hash: Sha256,
    /// Blocks whose turn has not come.
    waiting: BTreeMap<u32, Vec<u8>>,
    is_done: bool,
}

/// What became of a file's hash.
enum Hashed {
    /// An interrupted run had compared it.
    Before,
    To(Digest),
    /// Why it has none.
    Not(String),
}

impl Hashed {
    /// What hashing gave. That something could not be read, and is not known to be damaged, stays an error.
    fn of(hashed: Result<Digest>) -> Result<Self> {
        match hashed {
            Ok(found) => Ok(Self::To(found)),
            Err(error @ (RepoError::Io { .. } | RepoError::Store(_))) if !error.is_damage() => Err(error),
            Err(error) => Ok(Self::Not(with_sources(&error))),
        }
    }
}

/// Everything that workers share.
pub(super) struct Decoding<'a> {
    source: &'a dyn EntryList,
    files: &'a [ReachedFile],
    memory: &'a Memory,
    budget: &'a Budget,
    blocks: Blocks,
    states: Vec<AtomicU8>,
    hashes: Vec<Mutex<FileHash>>,
    waiting: AtomicU64,
    /// Entries of other kinds that are done.
    objects: Mutex<HashSet<EntryKey>>,
    hashed: Mutex<HashSet<Digest>>,
    entries: AtomicU64,
    bytes: AtomicU64,
    resumed: u64,
    problems: Mutex<(Vec<String>, BTreeMap<EntryKey, String>)>,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(
        source: &'a dyn EntryList,
        files: &'a [ReachedFile],
        memory: &'a Memory,
        budget: &'a Budget,
    ) -> Result<Self> {
        let before = memory.take();
        let blocks = Blocks::new(source, files)?;
        let is_done = |id: &Digest| before.entries.contains(&block_key(*id));
        let states = blocks.ids.iter().map(|id| AtomicU8::new(if is_done(id) { GOOD } else { OPEN })).collect();
        let hash = |file: &ReachedFile| {
            let begun = before.begun.get(&file.manifest);
            let begun = begun.and_then(|(next, state)| Some((*next, Sha256::resume(state)?)));
            let (next, hash) = begun.unwrap_or_default();
            let is_done = before.files.contains(&file.manifest);
            Mutex::new(FileHash { next, hash, waiting: BTreeMap::new(), is_done })
        };
        let hashes = files.iter().map(hash).collect();
        let resumed = before.entries.len() as u64;
        let objects = before.entries.into_iter().filter(|key| key.kind != EntryKind::Block).collect();
        Ok(Self {
            source,
            files,
            memory,
            budget,
            blocks,
            states,
            hashes,
            waiting: AtomicU64::new(0),
            objects: Mutex::new(objects),
            hashed: Mutex::new(before.files),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            resumed,
            problems: Mutex::default(),
        })
    }

    fn state(&self, block: usize) -> u8 {
        self.states[block].load(Ordering::Acquire)
    }

    fn bad(&self, key: EntryKey, text: String) {
        lock(&self.problems).1.insert(key, text);
    }

    fn count(&self, bytes: u64, progress: &dyn Progress) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.spend(bytes);
        progress.advance(bytes);
    }

    /// Bytes of blocks that no earlier run decoded.
    pub(super) fn open_bytes(&self) -> u64 {
        let open = (0..self.blocks.ids.len()).filter(|block| self.state(*block) == OPEN);
        open.map(|block| u64::from(self.blocks.lens[block])).sum()
    }

    /// Decodes and hashes all blocks, tree by tree on all threads, and hands them to the hashes of their files; and hashes packs.
    pub(super) fn blocks(&mut self, packs: Option<&PackHashes<'_>>, progress: &dyn Progress) -> Result<()> {
        let this = &*self;
        let roots = this.blocks.roots(this.files);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let under_way = UnderWay::default();
        let noting = Mutex::new(());
        let work = || -> Result<()> {
            let (mut worker, mut path) = (Worker::new(this), Path::default());
            loop {
                let turn = under_way.begin(&next);
                let is_over = failed.load(Ordering::Relaxed) || this.budget.is_spent();
                let Some(root) = roots.get(turn.number).filter(|_| !is_over) else { return Ok(()) };
                path.cut(NONE);
                let is_first = || failed.load(Ordering::Relaxed) || turn.is_first();
                for block in this.blocks.tree(*root, |block| this.state(block) != OPEN) {
                    if this.budget.is_spent() {
                        break;
                    }
                    worker.decode(block, &mut path, &is_first, progress)?;
                    if this.memory.is_due()
                        && let Ok(_only) = noting.try_lock()
                    {
                        this.memory.note(&this.done());
                    }
                }
            }
        };
        let hash_packs = || packs.inspect(|packs| packs.work(&failed, progress));
        // A pack is hashed from its start to its end, and so is a file: of one large file in one pack, each takes a core.
        let run = |packs_first: bool| {
            packs_first.then(hash_packs);
            let outcome = work();
            failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
            hash_packs();
            outcome
        };
        let count = rayon::current_num_threads().clamp(1, 8);
        let outcome: Result<Vec<()>> = thread::scope(|scope| {
            let start = |number| scope.spawn(move || run(number >= count / 2));
            let threads: Vec<_> = (0..count).map(start).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        outcome.map(drop)
    }

    /// The digest of a block. A file whose turn it is takes it in at the same time, which costs next to nothing, if it is right.
    fn prove(&self, block: usize, bytes: &[u8]) -> Digest {
        for (file, place) in self.blocks.uses(block) {
            let Some(mut hash) = self.hashes.get(*file as usize).and_then(|hash| hash.try_lock().ok()) else {
                continue;
            };
            if hash.is_done || hash.next != *place {
                continue;
            }
            let mut with_it = hash.hash.clone();
            let found = sha256_along(bytes, &mut with_it);
            if found == self.blocks.ids[block] {
                hash.hash = with_it;
                self.passed(&mut hash);
            }
            return found;
        }
        sha256(bytes)
    }

    /// Hands a block to a file that has it at a place. `is_first` says whether nobody is to be waited for.
    fn hand(&self, file: u32, place: u32, bytes: &[u8], worker: &mut BlockReader<'_>, is_first: &dyn Fn() -> bool) {
        let Some(mutex) = self.hashes.get(file as usize) else { return };
        let mut hash = lock(mutex);
        loop {
            if hash.is_done || hash.next > place {
                return;
            }
            if hash.next == place {
                self.take_in(&mut hash, bytes);
                return;
            }
            let before = self.files[file as usize].blocks.get(hash.next as usize).and_then(|id| self.blocks.find(id));
            match before.map(|block| self.state(block)) {
                // It has passed by, in this run at another place of the file, or in one that was interrupted.
                Some(GOOD) => {
                    let mut again = Vec::new();
                    let key = block_key(self.files[file as usize].blocks[hash.next as usize]);
                    if worker.read(&key, &mut again).is_err() {
                        return;
                    }
                    self.take_in(&mut hash, &again);
                }
                Some(OPEN) => {
                    let len = bytes.len() as u64;
                    if self.waiting.fetch_add(len, Ordering::Relaxed) + len <= WAITING {
                        let replaced = hash.waiting.insert(place, bytes.to_vec());
                        self.waiting.fetch_sub(replaced.map_or(0, |bytes| bytes.len() as u64), Ordering::Relaxed);
                        return;
                    }
                    self.waiting.fetch_sub(len, Ordering::Relaxed);
                    if is_first() || self.budget.is_spent() {
                        return;
                    }
                    drop(hash);
                    thread::sleep(PATIENCE);
                    hash = lock(mutex);
                }
                // The file cannot be whole.
                _ => return,
            }
        }
    }

    /// Takes the next block into a hash, and those that waited for it.
    fn take_in(&self, hash: &mut FileHash, bytes: &[u8]) {
        hash.hash.update(bytes);
        self.passed(hash);
    }

    /// A hash took its next block in: those that waited for it follow.
    fn passed(&self, hash: &mut FileHash) {
        hash.next += 1;
        loop {
            let passed = hash.waiting.first_entry().filter(|first| *first.key() < hash.next);
            let waited = match passed {
                Some(first) => Some(first.remove()),
                None => hash.waiting.remove(&hash.next).inspect(|bytes| {
                    hash.hash.update(bytes);
                    hash.next += 1;
                }),
            };
            let Some(waited) = waited else { return };
            self.waiting.fetch_sub(waited.len() as u64, Ordering::Relaxed);
        }
    }

    /// Compares the hash of every file with what it should be, and hashes what is left of those that did not get all blocks.
    pub(super) fn files(&mut self, progress: &dyn Progress) -> Result<()> {
        progress.begin("verifying files", None);
        for (file, reached) in self.files.iter().enumerate() {
            if self.budget.is_spent() {
                break;
            }
            let problem = match self.file(file, progress)? {
                Hashed::Before => continue,
                Hashed::To(found) if found == reached.sha256 => {
                    lock(&self.hashed).insert(reached.manifest);
                    None
                }
                Hashed::To(found) => Some(format!("its bytes hash to {found}, not to {}", reached.sha256)),
                Hashed::Not(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                lock(&self.problems).0.push(format!("{}: {problem}", reached.path));
            }
            self.memory.is_due().then(|| self.memory.note(&self.done()));
        }
        progress.finish();
        Ok(())
    }

    /// The hash of a file.
    fn file(&self, file: usize, progress: &dyn Progress) -> Result<Hashed> {
        let reached = &self.files[file];
        let mut hash = lock(&self.hashes[file]);
        if hash.is_done {
            return Ok(Hashed::Before);
        }
        hash.is_done = true;
        let bad = reached.blocks.iter().find_map(|id| lock(&self.problems).1.get(&block_key(*id)).cloned());
        if let Some(problem) = bad {
            return Ok(Hashed::Not(problem));
        }
        // Blocks that are decoded again are work as well.
        let advance = |bytes: usize| {
            self.budget.spend(bytes as u64);
            progress.advance(bytes as u64);
        };
        if reached.is_compressed {
            return Hashed::of(hash_file(self.source, reached.manifest, &advance));
        }
        if let [only] = reached.blocks[..]
            && self.blocks.find(&only).is_some_and(|block| self.state(block) == GOOD)
        {
            return Ok(Hashed::To(only));
        }
        let left = reached.blocks.get(hash.next as usize..).unwrap_or_default();
        let mut whole = std::mem::take(&mut hash.hash);
        let read = read_in_order(self.source, left, &mut |_, block| {
            advance(block.len());
            whole.update(block);
            Ok(())
        });
        Hashed::of(read.map(|()| whole.finish()))
    }

    /// Decodes and hashes all entries that are no blocks.
    pub(super) fn objects(&mut self, progress: &dyn Progress) -> Result<()> {
        progress.begin("verifying objects", None);
        for kind in EntryKind::ALL.into_iter().filter(|kind| *kind != EntryKind::Block) {
            let mut keys = Vec::new();
            self.source.each_best(kind, &mut |copy| {
                if copy.is_decodable {
                    keys.push(copy.location.key);
                } else {
                    self.bad(copy.location.key, format!("{} leans on blocks that are missing", copy.location.key));
                }
            })?;
            let new = || (BlockReader::new(self.source), Vec::new());
            let left = keys.par_iter().filter(|key| !lock(&self.objects).contains(key));
            left.map_init(new, |(reader, out), key| {
                if self.budget.is_spent() {
                    return Ok(());
                }
                match reader.read(key, out) {
                    Ok(()) => drop(lock(&self.objects).insert(*key)),
                    Err(error) if !error.is_damage() => return Err(error),
                    Err(error) => self.bad(*key, with_sources(&error)),
                }
                self.count(out.len() as u64, progress);
                Ok(())
            })
            .collect::<Result<()>>()?;
        }
        progress.finish();
        Ok(())
    }

    /// What has been done so far. What is noted as begun is never ahead of it, and what is behind is caught up with.
    fn done(&self) -> Done {
        let good = (0..self.blocks.ids.len()).filter(|block| self.state(*block) == GOOD);
        let mut entries: HashSet<EntryKey> = good.map(|block| block_key(self.blocks.ids[block])).collect();
        entries.extend(lock(&self.objects).iter());
        let files = lock(&self.hashed).clone();
        let mut begun = HashMap::new();
        for (reached, hash) in self.files.iter().zip(&self.hashes) {
            let hash = lock(hash);
            if hash.next > 0 && !hash.is_done {
                begun.insert(reached.manifest, (hash.next, hash.hash.pause()));
            }
        }
        Done { entries, files, begun }
    }

    pub(super) fn finish(self) -> Decoded {
        if self.budget.is_spent() {
            self.memory.note(&self.done());
        }
        let files = lock(&self.hashed).len() as u64;
        let (mut problems, bad) = self.problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Blocks of files are told with their files.
        let told: HashSet<&String> = problems.iter().collect();
        let is_told = |text: &String| told.iter().any(|problem| problem.ends_with(text.as_str()));
        let untold: Vec<String> = bad.values().filter(|text| !is_told(text)).cloned().collect();
        problems.extend(untold);
        Decoded {
            files,
            entries: self.entries.into_inner(),
            bytes: self.bytes.into_inner(),
            resumed: self.resumed,
            problems,
            bad: bad.into_keys().collect(),
        }
    }
}

/// What one thread has for itself.
struct Worker<'a, 'd> {
    decoding: &'d Decoding<'a>,
    entries: EntryDecoder<'d>,
    stored: Vec<u8>,
}

impl<'a, 'd> Worker<'a, 'd> {
    fn new(decoding: &'d Decoding<'a>) -> Self {
        Self { decoding, entries: EntryDecoder::new(decoding.source), stored: Vec::new() }
    }

    /// Decodes a block whose parent is the last of the path, proves it, and hands it on.
    fn decode(
        &mut self,
        number: u32,
        path: &mut Path,
        is_first: &dyn Fn() -> bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        let decoding = self.decoding;
        let (block, parent) = (number as usize, decoding.blocks.parents[number as usize]);
        let key = block_key(decoding.blocks.ids[block]);
        path.cut(parent);
        let was_done = decoding.state(block) != OPEN;
        let mut out = path.spare.pop().unwrap_or_default();
        let outcome = if parent != NONE && path.get(parent).is_none() {
            Err(format!("{key} leans on block {}, which is damaged", decoding.blocks.ids[parent as usize]))
        } else {
            match self.decode_on(&key, path, &mut out) {
                Err(error) if !error.is_damage() => return Err(error),
                outcome => outcome.map_err(|error| with_sources(&error)),
            }
        };
        let outcome = outcome.and_then(|()| {
            // What an interrupted run has proven is only decoded for what hangs on it.
            let found = if was_done { key.id } else { decoding.prove(block, &out) };
            let wrong = || with_sources(&RepoError::WrongBytes { key, found });
            if found == key.id { Ok(()) } else { Err(wrong()) }
        });
        match outcome {
            Ok(()) => {
                for (file, place) in decoding.blocks.uses(block) {
                    decoding.hand(*file, *place, &out, &mut self.entries.reader, is_first);
                }
                decoding.states[block].store(GOOD, Ordering::Release);
                if !was_done {
                    decoding.count(out.len() as u64, progress);
                }
                path.blocks.push((number, out));
            }
            Err(text) => {
                decoding.bad(key, text);
                decoding.states[block].store(BAD, Ordering::Release);
                decoding.count(out.len() as u64, progress);
                path.spare.push(out);
            }
        }
        Ok(())
    }

    /// The bytes of a block, not proven.
    fn decode_on(&mut self, key: &EntryKey, path: &Path, out: &mut Vec<u8>) -> Result<()> {
        let source: &dyn EntrySource = self.decoding.source;
        let location = source.read(key, &mut self.stored)?;
        let at_hand = |id: &Digest| path.get(self.decoding.blocks.find(id)? as u32);
        let entry = StoredEntry { key, pack: location.pack, stored: &self.stored, raw_len: location.raw_len };
        self.entries.decode(entry, at_hand, out)
    }
}

/// The hash of a file that is more than its blocks, these decoded on all cores, a batch at a time.
fn hash_file(source: &dyn EntrySource, manifest: Digest, advance: &dyn Fn(usize)) -> Result<Digest> {
    let manifest = Objects::new(source).manifest_once(manifest)?;
    let spans: Vec<Digest> = manifest.blocks().map(|block| block.span.id).collect();
    let mut hash = Sha256::new();
    let mut bytes = file_bytes(&manifest);
    read_in_order(source, &spans, &mut |_, block| {
        advance(block.len());
        bytes.push::<RepoError>(block, &mut |part| {
            hash.update(part);
            Ok(())
        })
    })?;
    Ok(hash.finish())
}
