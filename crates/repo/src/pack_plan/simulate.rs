//! Packing the sample as the engine would pack the files: the same bases, the same limits, the same encoder. Only second versions
//! are left out: they save little, and cost chains no links for it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use shard_codecs::{Base, Block, BlockHeader, Encoder, Level};
use shard_core::{BaseRef, Digest, Progress, sha256};

use super::sample::{Piece, Sample, Unit};
use crate::base_chain::{ChainLimits, Height, estimate, expected, link_work, work};
use crate::error::{RepoError, Result};

/// A piece as it would be stored.
#[derive(Debug, Clone, Copy)]
struct Stored {
    /// What it leans on, where that is another piece.
    base: Option<Piece>,
    /// The file of its base.
    leans_on: Option<usize>,
    height: Height,
    /// The work of its own link.
    link: u32,
    /// Bytes; 0 for what is stored already.
    bytes: u64,
}

/// What packing a file would make.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Stored bytes of its blocks.
    pub(super) stored: f64,
    /// Blocks that would be stored.
    pub(super) blocks: f64,
    /// The deepest of its chains.
    pub(super) depth: u32,
    /// Bytes that lean on each earlier file.
    pub(super) leans: BTreeMap<usize, f64>,
    /// The work of decoding its bytes, each in hundredths of a keyframe's restore.
    pub(super) work: f64,
}

/// What a piece takes on a base.
#[derive(Debug, Clone, Copy)]
struct Tried {
    bytes: u64,
    used_base: bool,
    link: u32,
}

/// What the same piece of several versions took, and what it was estimated to take: alone, and on a base.
#[derive(Debug, Clone, Copy, Default)]
struct Experience {
    taken: [u64; 2],
    estimated: [u64; 2],
    coding: Option<&'static str>,
}

impl Experience {
    /// A better estimate.
    fn correct(&self, estimated: u64, based: bool) -> u64 {
        let index = usize::from(based);
        if self.estimated[index] == 0 {
            return estimated;
        }
        (estimated as f64 * self.taken[index] as f64 / self.estimated[index] as f64) as u64
    }
}

type Memo<K, V> = Mutex<HashMap<K, V>>;

/// What was tried already is remembered for other limits.
pub(super) struct Simulator<'a> {
    sample: &'a Sample,
    level: Level,
    progress: &'a dyn Progress,
    tried: Memo<(Piece, Option<Piece>), Tried>,
    estimated: Memo<(Piece, Option<Piece>), (u64, u64)>,
    ids: Memo<Piece, Digest>,
    /// By segment, offset and length.
    experience: Memo<(usize, u64, usize), Experience>,
}

/// A worker's tools.
struct Tools {
    encoder: Encoder,
    stored: Vec<u8>,
}

impl<'a> Simulator<'a> {
    pub(super) fn new(sample: &'a Sample, level: Level, progress: &'a dyn Progress) -> Self {
        Self {
            sample,
            level,
            progress,
            tried: Memo::default(),
            estimated: Memo::default(),
            ids: Memo::default(),
            experience: Memo::default(),
        }
    }

    /// Packs the sample of every file within these limits. Pieces are encoded where it has to be `exact`, else estimated, with
    /// what the exact run before taught.
    pub(super) fn run(&self, limits: ChainLimits, exact: bool) -> Result<Vec<Outcome>> {
        let mut known: HashMap<Piece, Stored> = HashMap::new();
        let mut seen: HashMap<Digest, Piece> = HashMap::new();
        let mut outcomes: Vec<Outcome> = Vec::new();
        for member in &self.sample.members {
            let new: Vec<(Stored, Digest)> = member
                .units
                .par_iter()
                .map_init(
                    || self.tools(),
                    |tools, unit| {
                        let files = &outcomes;
                        let step = Step { simulator: self, limits, exact, known: &known, seen: &seen, files };
                        let stored = step.store(tools, unit);
                        self.progress.advance(unit.piece.3 as u64);
                        stored
                    },
                )
                .collect::<Result<_>>()?;
            let mut outcome = Outcome::default();
            for (unit, (stored, id)) in member.units.iter().zip(new) {
                known.insert(unit.piece, stored);
                let is_repeated = *seen.entry(id).or_insert(unit.piece) != unit.piece;
                let scale = unit.bytes / unit.piece.3 as f64;
                if !is_repeated {
                    outcome.stored += stored.bytes as f64 * scale;
                    outcome.blocks += unit.blocks;
                }
                outcome.depth = outcome.depth.max(stored.height.depth);
                outcome.work += f64::from(stored.height.work) * unit.bytes;
                if let Some(file) = stored.leans_on {
                    *outcome.leans.entry(file).or_default() += unit.bytes;
                }
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn tools(&self) -> Tools {
        Tools { encoder: Encoder::new(self.level), stored: Vec::new() }
    }

    fn id(&self, piece: Piece, data: &[u8]) -> Digest {
        if let Some(id) = get(&self.ids, &piece) {
            return id;
        }
        put(&self.ids, piece, sha256(data))
    }
}

/// A base: its reference, the piece that it is, its height.
type Found = (BaseRef, Option<Piece>, Height);

/// One piece of a file, when those before are stored.
struct Step<'a> {
    simulator: &'a Simulator<'a>,
    limits: ChainLimits,
    exact: bool,
    known: &'a HashMap<Piece, Stored>,
    seen: &'a HashMap<Digest, Piece>,
    files: &'a [Outcome],
}

impl Step<'_> {
    fn store(&self, tools: &mut Tools, unit: &Unit) -> Result<(Stored, Digest)> {
        let piece = unit.piece;
        let data = self.simulator.sample.read(piece)?;
        let id = self.simulator.id(piece, &data);
        if let Some(earlier) = self.seen.get(&id).and_then(|earlier| Some((earlier.0, self.known.get(earlier)?))) {
            // The same block: whoever leans on it leans on what that leans on.
            let (file, stored) = earlier;
            return Ok((Stored { bytes: 0, leans_on: Some(file), ..*stored }, id));
        }
        let (reference, on, height) = match self.base(tools, unit, &data)? {
            Some((reference, on, height)) => (Some(reference), on, Some(height)),
            None => (None, None, None),
        };
        let tried = match &reference {
            Some(reference) if self.exact || on.is_none() => self.encode(tools, unit, &data, Some(reference), on)?,
            None if self.exact => self.encode(tools, unit, &data, None, None)?,
            _ => self.guess(tools, unit, &data, on)?,
        };
        let Some(below) = height.filter(|_| tried.used_base) else {
            let height = Height::default();
            return Ok((Stored { base: None, leans_on: None, height, link: 0, bytes: tried.bytes }, id));
        };
        let height = Height { depth: below.depth + 1, work: below.work.saturating_add(tried.link) };
        let file = reference.as_ref().and_then(|reference| self.simulator.sample.files(reference).next());
        let leans_on = on.map(|piece| piece.0).or(file);
        Ok((Stored { base: on, leans_on, height, link: tried.link, bytes: tried.bytes }, id))
    }

    /// The base that the engine would take: its reference, the piece that it is where that was sampled, its height.
    fn base(&self, tools: &mut Tools, unit: &Unit, data: &[u8]) -> Result<Option<Found>> {
        let sample = self.simulator.sample;
        let (_, segment, offset, len) = unit.piece;
        let planned = sample.member(unit.piece).and_then(|member| member.bases.base(segment, offset, len));
        let Some(planned) = planned.filter(|_| self.limits.depth() > 0) else { return Ok(None) };
        let piece = sample.piece(&planned, len);
        let Some((piece, last)) = piece.and_then(|piece| Some((piece, self.known.get(&piece)?))) else {
            // It was not sampled: it is taken to be as deep as the deepest of its file, and at the limit to be moved down.
            let files = sample.files(&planned).filter_map(|file| self.files.get(file));
            let depth = files.map(|file| file.depth).max().unwrap_or(0) % self.limits.depth();
            return Ok(Some((planned, None, Height { depth, work: 0 })));
        };
        if self.limits.allow(last.height, expected(last.link)) {
            return Ok(Some((planned, Some(piece), last.height)));
        }
        let (alone, near) = self.estimate(tools, unit, data, Some(piece))?;
        let (mut bases, mut pieces) = (Vec::new(), Vec::new());
        let mut next = last.base;
        while let Some((at, stored)) = next.and_then(|at| Some((at, self.known.get(&at)?))) {
            bases.push((stored.height, self.estimate(tools, unit, data, Some(at))?.1));
            pieces.push((at, stored.height));
            next = stored.base;
        }
        // As the engine has them: the keyframe first.
        bases.reverse();
        pieces.reverse();
        let chosen = self.limits.choose(expected(last.link), near, alone, &bases).and_then(|index| pieces.get(index));
        let reference = |at: Piece| BaseRef::whole(sha256(format!("{at:?}").as_bytes()), len as u32);
        Ok(chosen.map(|(at, height)| (reference(*at), Some(*at), *height)))
    }

    /// What the encoder expects a piece to take alone, and on a base.
    fn estimate(&self, tools: &mut Tools, unit: &Unit, data: &[u8], on: Option<Piece>) -> Result<(u64, u64)> {
        let key = (unit.piece, on);
        if let Some(known) = get(&self.simulator.estimated, &key) {
            return Ok(known);
        }
        let bytes = on.map(|on| self.simulator.sample.read(on)).transpose()?;
        let reference = BaseRef::whole(Digest([0; 32]), data.len() as u32);
        let base = bytes.as_deref().map(|bytes| Base::new(&reference, bytes));
        let block = self.block(unit, data, base);
        let estimated = estimate(&mut tools.encoder, &block).map_err(|error| self.failed(unit, error))?;
        Ok(put(&self.simulator.estimated, key, estimated))
    }

    /// What a piece takes, by estimate.
    fn guess(&self, tools: &mut Tools, unit: &Unit, data: &[u8], on: Option<Piece>) -> Result<Tried> {
        if let Some(known) = get(&self.simulator.tried, &(unit.piece, on)) {
            return Ok(known);
        }
        let (alone, based) = self.estimate(tools, unit, data, on)?;
        let experience = get(&self.simulator.experience, &same_place(unit.piece)).unwrap_or_default();
        let (alone, based) = (experience.correct(alone, false), experience.correct(based, true));
        if on.is_none() || alone <= based {
            return Ok(Tried { bytes: alone, used_base: false, link: 0 });
        }
        let link = work(experience.coding.unwrap_or("context"), unit.dtype, based, data.len() as u64);
        Ok(Tried { bytes: based, used_base: true, link })
    }

    /// What a piece takes, encoded.
    fn encode(
        &self,
        tools: &mut Tools,
        unit: &Unit,
        data: &[u8],
        reference: Option<&BaseRef>,
        on: Option<Piece>,
    ) -> Result<Tried> {
        let bytes = match (on, reference) {
            (Some(on), _) => Some(self.simulator.sample.read(on)?),
            (None, reference) => {
                reference.map(|reference| self.simulator.sample.base_bytes(reference, data.len())).transpose()?
            }
        };
        let base = reference.zip(bytes.as_deref()).map(|(reference, bytes)| Base::new(reference, bytes));
        let failed = |error| self.failed(unit, error);
        tools.stored.clear();
        let encoded = tools.encoder.encode(&self.block(unit, data, base), &mut tools.stored).map_err(failed)?;
        let (header, _) = BlockHeader::read(&tools.stored).map_err(failed)?;
        let bytes = tools.stored.len() as u64;
        let tried = Tried { bytes, used_base: encoded.used_base, link: link_work(&header) };
        if on.is_some() == reference.is_some() {
            put(&self.simulator.tried, (unit.piece, on), tried);
            let (alone, based) = self.estimate(tools, unit, data, on)?;
            let mut all = self.simulator.experience.lock().unwrap_or_else(PoisonError::into_inner);
            let experience = all.entry(same_place(unit.piece)).or_default();
            let index = usize::from(tried.used_base);
            experience.taken[index] += bytes;
            experience.estimated[index] += if tried.used_base { based } else { alone };
            if tried.used_base {
                experience.coding = Some(header.chain.coding().name());
            }
        }
        Ok(tried)
    }

    fn block<'b>(&self, unit: &Unit, data: &'b [u8], base: Option<Base<'b>>) -> Block<'b> {
        let (_, segment, offset, _) = unit.piece;
        let rows = self.simulator.sample.member(unit.piece).and_then(|member| member.bases.rows(segment, offset));
        Block { data, dtype: unit.dtype, rows, base }
    }

    fn failed(&self, unit: &Unit, source: shard_codecs::CodecError) -> RepoError {
        let path = self.simulator.sample.member(unit.piece).map(|member| member.place.clone()).unwrap_or_default();
        RepoError::Encode { path, source }
    }
}

fn get<K: Eq + Hash, V: Copy>(memo: &Memo<K, V>, key: &K) -> Option<V> {
    memo.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
}

fn put<K: Eq + Hash, V: Copy>(memo: &Memo<K, V>, key: K, value: V) -> V {
    memo.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    value
}

/// Where a piece is in its file.
fn same_place((_, segment, offset, len): Piece) -> (usize, u64, usize) {
    (segment, offset, len)
}
