//! Blocks on bases that are computed.

use std::sync::Arc;

use shard_codecs::derive::{MAX_INPUT, Target};
use shard_codecs::{Base, Level};
use shard_core::limits::MAX_DEPTH;
use shard_core::{BaseRef, Digest};
use shard_formats::Source;
use shard_manifest::ManifestSegment;

use super::{Slot, Worker};
use crate::blocks::{MAX_FETCHES, block_key};
use crate::derive::{Computed, DerivedBase, LowRanks, MadeBlocks, Matrix};
use crate::error::Result;
use crate::parent::in_any_order;

/// The most that is decoded to derive a block, with all that is below its inputs and each only once: so many times the longest of
/// them. Scales of rows and columns are hardly anything of it.
const MOST_WORK: u64 = 40;

/// Most blocks below one, those counted again that it leads to in several ways: readers may have to decode them again, take up to two
/// fetches for each, and follow some more links on top.
const MOST_BLOCKS: u32 = (MAX_FETCHES - 4 * MAX_DEPTH) / 2;

/// What derivations are looked for in.
#[derive(Clone, Copy)]
pub(super) struct Derivation<'a> {
    /// The file.
    pub(super) source: &'a dyn Source,
    /// Where its segments start, in bytes.
    pub(super) starts: &'a [u64],
    pub(super) low_ranks: &'a LowRanks,
    /// Which tensors may be computed from others of the file, and what is known of these.
    pub(super) level: u32,
    pub(super) own: &'a [ManifestSegment],
}

/// A block that was encoded.
pub(super) struct Tried {
    pub(super) stored: Vec<u8>,
    /// The blocks that it leans on.
    pub(super) bases: Vec<Digest>,
    /// Those among them that may not be stored yet.
    pub(super) made: Option<Arc<MadeBlocks>>,
}

impl Tried {
    /// A block that takes less than this share of its bytes, as its inverse, is not tried another way.
    const EXACT: usize = 16;

    pub(super) fn is_exact(&self, slot: &Slot) -> bool {
        self.stored.len() * Self::EXACT <= slot.data.len()
    }

    /// The one with fewer bytes, those of blocks that were made for it not counted: they serve all of a tensor.
    pub(super) fn smaller(before: Option<Self>, now: Self) -> Option<Self> {
        match before {
            Some(before) if before.stored.len() <= now.stored.len() => Some(before),
            _ => Some(now),
        }
    }
}

impl Worker<'_> {
    /// What a block is computed from, its inputs in `self.inputs`.
    pub(super) fn computed_base(&mut self, slot: &Slot) -> Result<Option<DerivedBase>> {
        let computed = self.job.plan.computed(slot.segment).filter(|_| self.job.options.chains.derived());
        let Some(computed) = computed else { return Ok(None) };
        match self.inputs_for(slot, computed)? {
            Some(found) => Ok(Some(found)),
            None => computed.on_fewer().map_or(Ok(None), |fewer| self.inputs_for(slot, &fewer)),
        }
    }

    fn inputs_for(&mut self, slot: &Slot, computed: &Computed) -> Result<Option<DerivedBase>> {
        let found = computed.base(slot.offset, slot.data.len(), self.job.derivation.own);
        let (Some(found), Some(dtype)) = (found, self.job.block(slot, None).dtype) else { return Ok(None) };
        // As slow as the slowest codec, and at the same level.
        if found.formula.is_slow(dtype) && self.job.options.level != Level::Max {
            return Ok(None);
        }
        self.inputs_of(found)
    }

    /// The product of low rank that a block's change is, its inputs in `self.inputs`. `base` is what the block leans on otherwise.
    pub(super) fn low_rank_base(&mut self, slot: &Slot, base: Option<&BaseRef>) -> Result<Option<DerivedBase>> {
        let Self { job, reader, base: base_bytes, .. } = self;
        let plan = job.plan;
        let Some((dtype, [rows, columns @ ..])) = plan.tensor(slot.segment) else { return Ok(None) };
        let columns = columns.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let (Some(columns), Some(start)) = (columns, job.derivation.starts.get(slot.segment)) else { return Ok(None) };
        let other = plan.computed(slot.segment).filter(|_| base.is_none());
        let other = other.and_then(|other| Some((other, other.nearest()?)));
        let planned = |offset: u64, len: usize| match other {
            Some((other, _)) => other.in_place(offset, len, &[]),
            None => plan.base(slot.segment, offset, len).filter(|base| base.transpose.is_none()),
        };
        // What was read last is the planned base, unless that was too deep.
        let len = slot.data.len();
        let is_planned = |base: &BaseRef| planned(0, len).is_some_and(|planned| base.first(len) == planned);
        let is_at_hand = slot.offset == 0 && base.is_some_and(is_planned);
        let matrix = Matrix {
            segment: slot.segment,
            dtype,
            rows: *rows,
            columns,
            start: *start,
            base_type: other.map_or(dtype, |(_, from)| from),
            base: &planned,
            first: is_at_hand.then(|| (&slot.data[..], &base_bytes[..len])),
            adapter: plan.adapter(slot.segment),
        };
        let is_known = job.options.chains.derived()
            && dtype.float().is_some()
            && matrix.is_large()
            && in_any_order(job.layout, slot.segment);
        if !is_known || (base.is_none() && other.is_none()) {
            return Ok(None);
        }
        let found =
            job.derivation.low_ranks.base(&matrix, (slot.offset, len), job.derivation.source, job.path, reader)?;
        match found {
            Some(found) => self.inputs_of(found),
            None => Ok(None),
        }
    }

    /// Reads what a base is computed from into `self.inputs`; `None` where that would be too deep.
    fn inputs_of(&mut self, base: DerivedBase) -> Result<Option<DerivedBase>> {
        // What is no longer at hand is stored.
        let mut stored = base.reference.clone();
        for range in std::mem::take(&mut stored.ranges) {
            let is_made = |id: &Digest| base.made.as_ref().is_some_and(|made| made.has(id));
            let Some(id) = range.block else { continue };
            // The same block may be in an earlier file, as a delta.
            if !is_made(&id) || self.job.sink.locate(&block_key(id))?.is_some() {
                stored.ranges.push(range);
            }
        }
        // Readers decode all inputs with what is below them, again for each block.
        if self.depth_of(&stored)? >= self.job.options.chains.depth() || self.work(&stored, MOST_BLOCKS)? > MOST_BLOCKS
        {
            return Ok(None);
        }
        let (decoded, longest) = self.decoded(&stored)?;
        if decoded > longest.saturating_mul(MOST_WORK) {
            return Ok(None);
        }
        let len: usize = base.reference.ranges.iter().map(|range| range.len as usize).sum();
        if len > MAX_INPUT {
            return Ok(None);
        }
        let at_hand = |id: &Digest| base.made.as_ref().and_then(|made| made.bytes(id));
        self.reader.input_bytes(&base.reference, len, at_hand, &mut self.inputs)?;
        Ok(Some(base))
    }

    /// Encodes a block on the base that `self.inputs` give; `None` where that is no help.
    pub(super) fn encode_derived(&mut self, slot: &mut Slot, base: &DerivedBase) -> Result<Option<Tried>> {
        let Some(dtype) = self.job.block(slot, None).dtype else { return Ok(None) };
        let target = Target { dtype, len: slot.data.len() };
        let Some(derived) = base.formula.of(target, &self.inputs, &slot.data) else { return Ok(None) };
        // What an earlier file's manifest says of its tensors may not fit together: then there is no such base.
        if derived.input_lens(target).map_or(None, |lens| Some(lens.total())) != Some(self.inputs.len()) {
            return Ok(None);
        }
        let offered = Base { reference: &base.reference, derived: Some(derived), bytes: &self.inputs };
        let mut stored = Vec::new();
        // An offer that comes to nothing keeps nobody from storing the block another way.
        let Ok(encoded) = self.encoder.encode(&self.job.block(slot, Some(offered)), &mut stored) else {
            return Ok(None);
        };
        let is_used = encoded.used_base;
        let bases = if is_used { base.reference.blocks() } else { Vec::new() };
        Ok(Some(Tried { stored, bases, made: base.made.clone().filter(|_| is_used) }))
    }
}
