//! A file becomes blocks: read once, cut, hashed, encoded on every core, and written in order.
//!
//! One thread reads and hashes the file, workers hash and encode blocks, one thread hands them to the sink. A fixed number
//! of slots (a block's bytes and its encoding) goes round between them, so memory does not grow with the file.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use shard_codecs::{Base, Block, Encoder, Level};
use shard_core::limits::Cut;
use shard_core::{BaseRef, CompressedRun, Digest, Layout, NoProgress, Progress, TensorView, sha256};
use shard_formats::Source;
use shard_formats::compress::Expanded;
use shard_formats::cut::Cutter;
use shard_formats::sidecar::Neighbours;
use shard_manifest::{BlockSpan, ContentManifest, Lossy, ManifestSegment};
use shard_store::{EntryKey, EntryKind, EntrySink};

use crate::base_chain::ChainLimits;
use crate::blocks::{BlockReader, block_key};
use crate::derive::{LowRanks, MadeBlocks};
use crate::error::{RepoError, Result};
use crate::parent::{BasePlan, EarlierFiles, Sketches, read_part};
use crate::repository::Settings;

mod bases;
mod derived;
mod file_hash;
mod look;
mod work;

use derived::{Derivation, Tried};
pub(crate) use file_hash::cannot_read;
use file_hash::{FileHash, repeatable};
pub(crate) use look::{manifest_and_summaries, manifest_of};
use work::Links;

/// Files up to this size, in bytes, are not worth starting threads for.
const INLINE: u64 = 1 << 20;

/// How blocks are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotOptions {
    pub(crate) cut: Cut,
    pub(crate) level: Level,
    pub(crate) coarse: Option<u8>,
    pub(crate) threads: usize,
    pub(crate) chains: ChainLimits,
}

impl SnapshotOptions {
    pub(crate) fn new(cut: Cut, settings: Settings, chains: ChainLimits) -> Self {
        Self { cut, level: settings.level, coarse: settings.coarse, threads: settings.workers(), chains }
    }
}

/// What a snapshot of a file cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotCost {
    /// Blocks in the file.
    pub blocks: u64,
    /// Blocks that were not known before.
    pub new_blocks: u64,
    /// Stored bytes of the new blocks.
    pub new_bytes: u64,
    /// New blocks that are stored as a delta.
    pub deltas: u64,
}

impl SnapshotCost {
    /// Adds another file's cost to this one.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.new_blocks += other.new_blocks;
        self.new_bytes += other.new_bytes;
        self.deltas += other.deltas;
    }
}

/// A file whose blocks and manifest are stored.
pub(crate) struct Kept {
    pub(crate) manifest: ContentManifest,
    pub(crate) id: Digest,
    pub(crate) cost: SnapshotCost,
    /// Why a file that looked like a model is kept as opaque bytes.
    pub(crate) note: Option<String>,
}

/// What is remembered while several files are kept in one go.
#[derive(Default)]
pub(crate) struct FileBatch {
    sketches: Sketches,
    neighbours: Neighbours,
}

impl FileBatch {
    /// The layout of a file of the batch.
    pub(crate) fn layout(&self, source: &dyn Source, path: &Path) -> Result<Layout> {
        let parsed = self.neighbours.parse_file(path, source).map_err(RepoError::io("cannot read", path))?;
        Ok(parsed.layout)
    }
}

/// A file to be kept.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) path: &'a Path,
    /// How it is laid out, where that is known without reading it.
    pub(crate) layout: Option<&'a Layout>,
    /// What its manifest says where it is an approximation of another.
    pub(crate) mark: Option<&'a Lossy>,
}

/// Parses, cuts, encodes and stores a file and its manifest. `earlier` gives the manifests of files that may predict it; `batch` is what
/// is known of the other files, if several are kept in one go.
pub(crate) fn keep_file(
    Input { source, path, layout, mark }: Input<'_>,
    earlier: impl FnOnce(&Layout) -> Result<EarlierFiles>,
    batch: &mut FileBatch,
    sink: &dyn EntrySink,
    options: SnapshotOptions,
    progress: &dyn Progress,
) -> Result<Kept> {
    let (layout, note) = match layout {
        Some(layout) => (layout.clone(), None),
        None => {
            let parsed = batch.neighbours.parse_file(path, source).map_err(RepoError::io("cannot read", path))?;
            (parsed.layout, parsed.note)
        }
    };
    let earlier = earlier(&layout)?;
    let (mut manifest, mut cost) = repeatable(&layout, |layout| {
        let expanded = Expanded::new(source, layout);
        let plan = BasePlan::new(layout, &earlier, &expanded, path, sink, &mut batch.sketches)?;
        snapshot(&expanded, path, layout, &plan, sink, options, progress)
    })?;
    if let Some(mark) = mark {
        manifest.mark_lossy(mark);
    }
    let mut note = note.map(|note| note.to_string());
    let (id, bytes) = match manifest.encode() {
        Ok(encoded) => encoded,
        // More tensors than a manifest can list: the file is kept all the same.
        Err(error) if !manifest.tensors.is_empty() => {
            note = Some(error.to_string());
            let opaque = Layout::opaque(source.len());
            let plan = BasePlan::none(opaque.segments.len());
            let plain = Expanded::new(source, &opaque);
            (manifest, cost) = snapshot(&plain, path, &opaque, &plan, sink, options, &NoProgress)?;
            if let Some(mark) = mark {
                manifest.mark_lossy(&Lossy { tensors: BTreeMap::new(), ..*mark });
            }
            manifest.encode().map_err(RepoError::manifest(path))?
        }
        Err(error) => return Err(RepoError::manifest(path)(error)),
    };
    put_object(sink, EntryKind::Manifest, &bytes)?;
    Ok(Kept { manifest, id, cost, note })
}

/// Encodes the blocks of a file that is stored already again, its expanded bytes being `source`, and offers them to the sink.
///
/// # Errors
/// As [`keep_file`]; [`RepoError::Internal`] where the blocks are not those of the manifest.
pub(crate) fn encode_again(
    source: &dyn Source,
    path: &Path,
    manifest: &ContentManifest,
    earlier: &EarlierFiles,
    sink: &dyn EntrySink,
    options: SnapshotOptions,
    progress: &dyn Progress,
) -> Result<()> {
    let layout = Layout { compressed: Vec::new(), ..manifest.layout() };
    let expanded = Expanded::new(source, &layout);
    let plan = BasePlan::new(&layout, earlier, &expanded, path, sink, &mut Sketches::default())?;
    let options = SnapshotOptions { cut: manifest.cut, ..options };
    let (again, _) = snapshot(&expanded, path, &layout, &plan, sink, options, progress)?;
    let is_same = again.segments == manifest.segments;
    if is_same { Ok(()) } else { Err(RepoError::Internal("a stored file was cut in another way than before")) }
}

/// What goes round between the threads: a block and room for its encoding.
#[derive(Default)]
struct Slot {
    sequence: u64,
    segment: usize,
    offset: u64,
    data: Vec<u8>,
    stored: Vec<u8>,
}

struct Encoded {
    id: Digest,
    /// The bases' ids, where the block is new.
    new: Option<Vec<Digest>>,
    /// Blocks among the bases that may not be stored yet.
    made: Option<Arc<MadeBlocks>>,
}

/// Cuts, encodes and stores a file whose layout is known, and gives its content manifest, which is not stored yet.
fn snapshot(
    source: &Expanded<&dyn Source>,
    path: &Path,
    layout: &Layout,
    plan: &BasePlan,
    sink: &dyn EntrySink,
    options: SnapshotOptions,
    progress: &dyn Progress,
) -> Result<(ContentManifest, SnapshotCost)> {
    let claimed = Mutex::new(HashMap::new());
    let (starts, low_ranks) = (layout.segment_offsets(), LowRanks::new(layout.segments.len()));
    let derivation = Derivation { source, starts: &starts, low_ranks: &low_ranks, level: 0, own: &[] };
    let job = BlockJob { sink, path, layout, plan, derivation, claimed: &claimed, options };
    let mut cutter = Cutter::new(source, layout, options.cut);
    let mut builder = Builder::new(source.file().len(), layout, options.cut, Some(sink));
    let changed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => RepoError::Changed(path.to_owned()),
        _ => cannot_read(error, path),
    };
    let mut file_hash = FileHash::new(*source.file(), layout, path);
    let threads = if source.len() <= INLINE { 1 } else { options.threads };
    let next = |slot: &mut Slot| {
        let Some(cut) = cutter.next(&mut slot.data).map_err(changed)? else { return Ok(false) };
        (slot.segment, slot.offset) = (cut.segment, cut.offset);
        // The hash needs the bytes in order, so it is taken here, while workers are busy with earlier blocks.
        file_hash.update(&slot.data)?;
        Ok(true)
    };
    let take = |slot: &Slot, encoded: Encoded| {
        progress.advance(slot.data.len() as u64);
        builder.put(slot, &encoded)?;
        builder.add(slot, encoded.id);
        Ok(())
    };
    encode_all(&job, threads, next, take)?;
    // What is computed from tensors of this file comes after them.
    for level in 1..=plan.levels() {
        let own = builder.segments.clone();
        let job = BlockJob { derivation: Derivation { level, own: &own, ..derivation }, ..job };
        let placed = |(segment, manifest): (usize, &ManifestSegment)| {
            let mut at = 0;
            let place = |block: &BlockSpan| {
                at += u64::from(block.len);
                (segment, at - u64::from(block.len), *block)
            };
            manifest.blocks.iter().map(place).collect::<Vec<_>>()
        };
        let segments = own.iter().enumerate().filter(|(segment, _)| plan.level(*segment) == level);
        let blocks: Vec<(usize, u64, BlockSpan)> = segments.flat_map(placed).collect();
        let (mut left, mut known) = (blocks.iter(), blocks.iter());
        let next = |slot: &mut Slot| {
            let Some((segment, offset, block)) = left.next() else { return Ok(false) };
            (slot.segment, slot.offset) = (*segment, *offset);
            slot.data.resize(block.len as usize, 0);
            read_part(source, starts.get(*segment).copied().unwrap_or(u64::MAX) + offset, &mut slot.data, path)?;
            Ok(true)
        };
        let take = |slot: &Slot, encoded: Encoded| {
            let is_same = known.next().is_some_and(|(_, _, block)| block.id == encoded.id);
            if is_same { builder.put(slot, &encoded) } else { Err(RepoError::Changed(path.to_owned())) }
        };
        encode_all(&job, threads, next, take)?;
    }
    Ok(builder.finish(file_hash.finish()))
}

/// Encodes blocks on all threads: `next` reads one into a slot, and says whether there was one; `take` gets them in their order, so
/// that packs do not depend on the threads' timing.
fn encode_all(
    job: &BlockJob<'_>,
    threads: usize,
    mut next: impl FnMut(&mut Slot) -> Result<bool>,
    mut take: impl FnMut(&Slot, Encoded) -> Result<()> + Send,
) -> Result<()> {
    if threads <= 1 {
        let mut worker = job.worker();
        let mut slot = Slot::default();
        while next(&mut slot)? {
            slot.sequence += 1;
            let encoded = worker.encode(&mut slot)?;
            take(&slot, encoded)?;
        }
        return Ok(());
    }
    let slots = threads + threads.min(4);
    let failed = AtomicBool::new(false);
    let (free_tx, free_rx) = bounded::<Slot>(slots);
    let (work_tx, work_rx) = bounded::<Slot>(slots);
    let (done_tx, done_rx) = bounded::<(Slot, Result<Encoded>)>(slots);
    for _ in 0..slots {
        // The channel holds as many as there are.
        let _ = free_tx.send(Slot::default());
    }
    thread::scope(|scope| {
        for _ in 0..threads {
            let (work, done) = (work_rx.clone(), done_tx.clone());
            scope.spawn(move || work_through(job, &work, &done));
        }
        drop((work_rx, done_tx));
        let failed = &failed;
        let writer = scope.spawn(move || take_in_order(&mut take, &done_rx, &free_tx, failed));
        let mut read = || -> Result<()> {
            let mut sequence = 0;
            while !failed.load(Ordering::Relaxed) {
                let Ok(mut slot) = free_rx.recv() else { break };
                if !next(&mut slot)? {
                    break;
                }
                slot.sequence = sequence;
                sequence += 1;
                if work_tx.send(slot).is_err() {
                    break;
                }
            }
            Ok(())
        };
        let read = read();
        drop(work_tx);
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        read
    })
}

fn work_through(job: &BlockJob<'_>, work: &Receiver<Slot>, done: &Sender<(Slot, Result<Encoded>)>) {
    let mut worker = job.worker();
    for mut slot in work {
        // A worker that panics must not leave the others waiting for its block.
        let encoded = catch_unwind(AssertUnwindSafe(|| worker.encode(&mut slot)))
            .unwrap_or_else(|_| Err(RepoError::Internal("a worker panicked while encoding a block")));
        if done.send((slot, encoded)).is_err() {
            break;
        }
    }
}

fn take_in_order(
    take: &mut impl FnMut(&Slot, Encoded) -> Result<()>,
    done: &Receiver<(Slot, Result<Encoded>)>,
    free: &Sender<Slot>,
    failed: &AtomicBool,
) -> Result<()> {
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    let mut outcome = Ok(());
    for (slot, encoded) in done {
        waiting.insert(slot.sequence, (slot, encoded));
        while let Some((slot, encoded)) = waiting.remove(&next) {
            next += 1;
            if outcome.is_ok() {
                outcome = encoded.and_then(|encoded| take(&slot, encoded));
                if outcome.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
            }
            // The reader may have stopped.
            let _ = free.send(slot);
        }
    }
    outcome
}

/// What all workers of a file share.
#[derive(Clone, Copy)]
struct BlockJob<'a> {
    sink: &'a dyn EntrySink,
    path: &'a Path,
    layout: &'a Layout,
    plan: &'a BasePlan,
    derivation: Derivation<'a>,
    /// The first place in the file of each id, as far as workers have seen it: equal blocks are encoded once, and always
    /// with the base of the first, whichever worker was faster.
    claimed: &'a Mutex<HashMap<Digest, u64>>,
    options: SnapshotOptions,
}

impl<'a> BlockJob<'a> {
    fn worker(&'a self) -> Worker<'a> {
        Worker {
            job: self,
            encoder: Encoder::new(self.options.level).with_layers(self.options.coarse.map(u32::from)),
            reader: BlockReader::new(self.sink),
            base: Vec::new(),
            inputs: Vec::new(),
            links: HashMap::new(),
            works: HashMap::new(),
        }
    }

    /// What a slot holds, for the encoder.
    fn block<'b>(&self, slot: &'b Slot, base: Option<Base<'b>>) -> Block<'b> {
        let dtype = self.layout.segments.get(slot.segment).and_then(|segment| segment.dtype);
        Block { data: &slot.data, dtype, rows: self.plan.rows(slot.segment, slot.offset), base }
    }
}

struct Worker<'a> {
    job: &'a BlockJob<'a>,
    encoder: Encoder,
    reader: BlockReader<'a>,
    base: Vec<u8>,
    /// What a base is computed from.
    inputs: Vec<u8>,
    /// What earlier blocks lean on, as far as that was looked up.
    links: HashMap<Digest, Rc<Links>>,
    /// How many blocks have to be decoded before an earlier one, as far as that was looked up.
    works: HashMap<Digest, u32>,
}

impl Worker<'_> {
    fn encode(&mut self, slot: &mut Slot) -> Result<Encoded> {
        let id = sha256(&slot.data);
        // What is computed from tensors of this file waits for them.
        if self.job.plan.level(slot.segment) > self.job.derivation.level {
            return Ok(Encoded { id, new: None, made: None });
        }
        if !self.claim(id, slot.sequence) || self.is_kept(id)? {
            return Ok(Encoded { id, new: None, made: None });
        }
        // What is computed exactly is hardly to be beaten: nothing else is looked at then.
        let computed = match self.computed_base(slot) {
            // What is damaged predicts nothing, and keeps nobody from storing what comes after it.
            Err(error) if error.is_damage() => None,
            base => base?,
        };
        let mut best = computed.map(|base| self.encode_derived(slot, &base)).transpose()?.flatten();
        if best.as_ref().is_none_or(|best| !best.is_exact(slot)) {
            let base = match self.base(slot) {
                Err(error) if error.is_damage() => None,
                base => base?,
            };
            let product = match self.low_rank_base(slot, base.as_ref()) {
                Err(error) if error.is_damage() => None,
                product => product?,
            };
            if let Some(product) = product
                && let Some(tried) = self.encode_derived(slot, &product)?
            {
                best = Tried::smaller(best, tried);
            }
            if best.as_ref().is_none_or(|best| !best.is_exact(slot)) {
                best = Tried::smaller(best, self.encode_on(slot, base.as_ref())?);
            }
        }
        let Some(Tried { stored, bases, made }) = best else {
            return Err(RepoError::Internal("a block was not encoded"));
        };
        slot.stored = stored;
        Ok(Encoded { id, new: Some(bases), made })
    }

    /// Encodes a block on the base in `self.base`, or alone.
    fn encode_on(&mut self, slot: &mut Slot, base: Option<&BaseRef>) -> Result<Tried> {
        let base = base.map(|reference| Base::new(reference, &self.base));
        let mut stored = std::mem::take(&mut slot.stored);
        stored.clear();
        let encoded = self
            .encoder
            .encode(&self.job.block(slot, base), &mut stored)
            .map_err(|source| RepoError::Encode { path: self.job.path.to_owned(), source })?;
        // Of two versions that were offered the encoder may have taken one.
        let versions = encoded.chain.predictor().bases();
        let used = base.filter(|_| versions > 0).map(|base| base.reference.first(versions * slot.data.len()));
        Ok(Tried { stored, bases: used.map(|base| base.blocks()).unwrap_or_default(), made: None })
    }

    /// Whether no earlier place of the file has this block.
    fn claim(&self, id: Digest, sequence: u64) -> bool {
        let mut claimed = self.job.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let first = claimed.entry(id).or_insert(sequence);
        *first = sequence.min(*first);
        *first == sequence
    }

    /// Whether a block is here already, whole: its stored bytes are read and checked, since whoever adds a file again may do so
    /// because the repository's copy is damaged.
    fn is_kept(&mut self, id: Digest) -> Result<bool> {
        let Some(location) = self.job.sink.locate(&block_key(id))? else { return Ok(false) };
        match self.job.sink.read_stored(&location, &mut self.base) {
            Ok(()) => Ok(true),
            Err(error) => {
                let error = RepoError::from(error);
                if !error.is_damage() {
                    return Err(error);
                }
                self.job.sink.forget(&location)?;
                Ok(false)
            }
        }
    }
}

/// Collects block spans into a manifest, storing what is new.
struct Builder<'a> {
    size: u64,
    format: String,
    cut: Cut,
    segments: Vec<ManifestSegment>,
    tensors: Vec<TensorView>,
    compressed: Vec<CompressedRun>,
    /// `None` where nothing is to be stored.
    sink: Option<&'a dyn EntrySink>,
    cost: SnapshotCost,
}

impl<'a> Builder<'a> {
    fn new(size: u64, layout: &Layout, cut: Cut, sink: Option<&'a dyn EntrySink>) -> Self {
        let segments = layout
            .segments
            .iter()
            .map(|s| ManifestSegment { len: s.len, dtype: s.dtype, blocks: Vec::new() })
            .collect();
        Self {
            size,
            format: layout.format.clone(),
            cut,
            segments,
            tensors: layout.tensors.clone(),
            compressed: layout.compressed.clone(),
            sink,
            cost: SnapshotCost::default(),
        }
    }

    /// Stores a block, if it is new.
    fn put(&mut self, slot: &Slot, encoded: &Encoded) -> Result<()> {
        let len = slot.data.len();
        // A later block may have been encoded before its equal was seen at an earlier place.
        if let (Some(bases), Some(sink)) = (&encoded.new, self.sink)
            && sink.locate(&block_key(encoded.id))?.is_none()
        {
            if let Some(made) = &encoded.made {
                made.store(|made| {
                    let key = block_key(made.span.id);
                    if sink.locate(&key)?.is_none() {
                        self.cost.new_bytes += made.stored.len() as u64;
                        sink.put(&key, &made.stored, made.span.len.into(), &[])?;
                    }
                    Ok(())
                })?;
            }
            self.cost.new_blocks += 1;
            self.cost.new_bytes += slot.stored.len() as u64;
            self.cost.deltas += u64::from(!bases.is_empty());
            sink.put(&block_key(encoded.id), &slot.stored, len as u64, bases)?;
        }
        Ok(())
    }

    /// Adds a block to the manifest.
    fn add(&mut self, slot: &Slot, id: Digest) {
        self.cost.blocks += 1;
        if let Some(segment) = self.segments.get_mut(slot.segment) {
            segment.blocks.push(BlockSpan { id, len: slot.data.len() as u32 });
        }
    }

    fn finish(self, sha256: Digest) -> (ContentManifest, SnapshotCost) {
        let manifest = ContentManifest {
            format: self.format,
            size: self.size,
            sha256,
            cut: self.cut,
            segments: self.segments,
            tensors: self.tensors,
            compressed: self.compressed,
            extra: Default::default(),
        };
        (manifest, self.cost)
    }
}

/// Stores an object (manifest, tree, commit, tag, archive root) that is its own canonical bytes, and gives its id.
pub(crate) fn put_object(sink: &dyn EntrySink, kind: EntryKind, bytes: &[u8]) -> Result<Digest> {
    let key = EntryKey { kind, id: sha256(bytes) };
    if sink.locate(&key)?.is_none() {
        let mut stored = Vec::new();
        Encoder::new(Level::Default)
            .encode(&Block { data: bytes, dtype: None, rows: None, base: None }, &mut stored)
            .map_err(|source| RepoError::Encode { path: key.to_string().into(), source })?;
        sink.put(&key, &stored, bytes.len() as u64, &[])?;
    }
    Ok(key.id)
}
