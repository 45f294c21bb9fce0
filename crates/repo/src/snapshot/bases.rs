//! Which earlier blocks a block is offered as its base.

use shard_codecs::Base;
use shard_core::{BaseRange, BaseRef, Digest};
use shard_store::EntrySink;

use super::{Slot, Worker};
use crate::base_chain::{Extra, Height, estimate, expected, versions_work};
use crate::blocks::{block_key, whole_base};
use crate::error::{RepoError, Result};
use crate::parent::MAX_WORK;

impl Worker<'_> {
    /// The base of a block, its bytes in `self.base`: the planned one, or where its chain is at a limit, one further back.
    pub(super) fn base(&mut self, slot: &Slot) -> Result<Option<BaseRef>> {
        let limits = self.job.options.chains;
        let len = slot.data.len();
        let planned = self.job.plan.base(slot.segment, slot.offset, len);
        let Some(planned) = planned.filter(|_| limits.depth() > 0) else { return Ok(None) };
        let last = whole_base(&planned, len as u32);
        let depth = self.depth_of(&planned)?;
        if depth < limits.depth() && (last.is_some() || self.is_readable(&planned)?) {
            let offered = self.read(&planned, slot)?;
            let (work, link) = self.reader.work();
            if limits.allow(Height { depth, work }, expected(link)) {
                return Ok(Some(offered));
            }
        }
        let found = match last {
            Some(last) => self.further_back(slot, last)?,
            None => self.on_keyframes(planned)?,
        };
        found.map(|reference| self.read(&reference, slot)).transpose()
    }

    /// Reads a base into `self.base`, and gives the reference that stands for it: where that is one whole block which leans on
    /// another, and the encoder makes something of two versions, both. So a reader decodes no more blocks for two than for one.
    /// A second version is work as well: where that costs the chain a link, it has to be worth one.
    fn read(&mut self, reference: &BaseRef, slot: &Slot) -> Result<BaseRef> {
        let limits = self.job.options.chains;
        let len = slot.data.len();
        let Some(newer) = whole_base(reference, len as u32) else {
            self.reader.base_bytes(reference, len, &mut self.base)?;
            return Ok(reference.clone());
        };
        let depth = self.depth_of(reference)?;
        let Self { job, encoder, reader, base, .. } = self;
        let block = job.block(slot, None);
        let wanted = |work, link, bases: [&[u8]; 2]| {
            let more = versions_work(bases.len(), block.dtype);
            match limits.extra(Height { depth, work }, expected(link), more) {
                Extra::TooMuch => false,
                extra => encoder.wants_two(&block, bases, extra == Extra::CostsLinks),
            }
        };
        let two = reader.two_base_bytes(newer, len, wanted, base)?;
        // Another copy of the newer one may be less deep than the one that was read.
        if self.depth_of(&two)? < limits.depth() {
            return Ok(two);
        }
        self.base.truncate(len);
        Ok(two.first(len))
    }

    /// The best base in the chain that `last` is the end of; `None` where a new keyframe is better.
    fn further_back(&mut self, slot: &Slot, last: Digest) -> Result<Option<BaseRef>> {
        let Self { job, encoder, reader, .. } = self;
        let limits = job.options.chains;
        let len = slot.data.len();
        let mut bases: Vec<(Digest, Height, u64)> = Vec::new();
        let (mut near, mut alone) = (0, len as u64);
        reader.visit(&block_key(last), &mut |id, work, bytes| {
            let Some(bytes) = bytes.get(..len) else { return Ok(()) };
            let reference = BaseRef::whole(id, len as u32);
            let block = job.block(slot, Some(Base::new(&reference, bytes)));
            (alone, near) =
                estimate(encoder, &block).map_err(|source| RepoError::Encode { path: job.path.to_owned(), source })?;
            bases.push((id, Height { depth: depth(job.sink, id)?, work }, near));
            Ok(())
        })?;
        let (_, link) = reader.work();
        let costs: Vec<(Height, u64)> = bases.iter().map(|(_, height, bytes)| (*height, *bytes)).collect();
        let chosen = limits.choose(expected(link), near, alone, &costs).and_then(|index| bases.get(index));
        Ok(chosen.map(|(id, ..)| BaseRef::whole(*id, len as u32)))
    }

    /// The planned base with each of its runs moved down to its keyframe.
    fn on_keyframes(&mut self, mut reference: BaseRef) -> Result<Option<BaseRef>> {
        for range in &mut reference.ranges {
            if !self.move_to_keyframe(range)? {
                return Ok(None);
            }
        }
        Ok(if self.is_readable(&reference)? { Some(reference) } else { None })
    }

    /// Whether a base takes few enough blocks to read. A run of one block takes as many as its chain is deep.
    fn is_readable(&mut self, reference: &BaseRef) -> Result<bool> {
        Ok(reference.ranges.len() == 1 || self.work(reference, MAX_WORK)? <= MAX_WORK)
    }

    /// Follows the chain of a run's block down to the keyframe, and puts that in its place; false where it is no chain.
    fn move_to_keyframe(&mut self, range: &mut BaseRange) -> Result<bool> {
        let Some(mut id) = range.block else { return Ok(true) };
        while depth(self.job.sink, id)? > 0 {
            let (header, _) = self.reader.header(&block_key(id))?;
            // Only a base that lies under the block byte for byte can stand in for it; of two versions the newer one.
            let newer = header.base.filter(|base| base.transpose.is_none() && header.derived.is_none());
            let newer = newer.map(|base| base.first(header.raw_len as usize).ranges);
            let Some([below]) = newer.as_deref() else { return Ok(false) };
            let (Some(next), true) = (below.block, below.len >= range.start + range.len) else { return Ok(false) };
            range.start += below.start;
            id = next;
        }
        range.block = Some(id);
        Ok(true)
    }

    /// The depth of the deepest block that a base names.
    pub(super) fn depth_of(&self, reference: &BaseRef) -> Result<u32> {
        let ids = reference.ranges.iter().filter_map(|range| range.block);
        ids.map(|id| depth(self.job.sink, id)).try_fold(0, |deepest, depth| Ok(deepest.max(depth?)))
    }
}

pub(super) fn depth(sink: &dyn EntrySink, id: Digest) -> Result<u32> {
    let key = block_key(id);
    Ok(sink.locate(&key)?.ok_or(RepoError::Missing { key })?.depth)
}
