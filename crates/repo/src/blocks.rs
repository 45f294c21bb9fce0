//! Reading entries back: locate, read, follow the chain of bases, decode, and check against the id.

use rayon::prelude::*;
use shard_codecs::kernel::sha256_pair;
use shard_codecs::{BlockHeader, Decoder, Deviation};
use shard_core::base::BaseError;
use shard_core::limits::{MAX_BLOCK, MAX_DEPTH, MAX_METADATA};
use shard_core::{BaseRange, BaseRef, Digest, sha256};
use shard_store::{EntryKey, EntryKind, EntrySource, Location, StoreError};

use crate::base_chain::{link_work, versions_work};
use crate::error::{RepoError, Result};

mod entry;
mod inputs;

pub(crate) use entry::{EntryDecoder, StoredEntry};
use inputs::Inputs;

/// Decodes entries of one source. A reader keeps its buffers, so make one a thread.
pub(crate) struct BlockReader<'a> {
    source: &'a dyn EntrySource,
    at_hand: Option<&'a AtHand<'a>>,
    decoder: Decoder,
    spare: Vec<Vec<u8>>,
    /// Where blocks that lean on two are decoded.
    third: Vec<u8>,
    /// Blocks that derivations lean on more than once.
    inputs: Inputs,
    /// Entries that may still be fetched for the one that is being read: bases of many ranges could otherwise lead to more than
    /// any reader has time for.
    fetches: u32,
    /// The work of decoding what was read last from its keyframes up, and that of the last link of it, were it on one version.
    work: u32,
    link: u32,
}

/// Most entries that are fetched to read one. A chain takes two for each of its blocks, a base of many ranges one for each.
pub(crate) const MAX_FETCHES: u32 = 1024;

/// Stored bytes of a chain that are kept on the way down, so that they are not fetched again on the way up.
const KEPT: usize = 2 * MAX_BLOCK;

/// Is shown each block of a chain, the keyframe first: its id, the work of decoding it, and its bytes, which are not proven.
pub(crate) type Visit<'v> = dyn FnMut(Digest, u32, &[u8]) -> Result<()> + 'v;

/// Blocks that are somewhere else than in the source, decoded: puts the bytes of one into the buffer, and says whether it is there. They
/// need not be right, since what is decoded with them is proven.
pub(crate) type AtHand<'a> = dyn Fn(&Digest, &mut Vec<u8>) -> bool + Sync + 'a;

/// An entry as it is stored.
struct Fetched {
    header: BlockHeader,
    /// Length of the header in bytes.
    len: usize,
    location: Location,
}

/// An entry that was fetched, and its stored bytes.
type Kept = (Fetched, Vec<u8>);

/// How [`BlockReader::read_coarse`] read a block.
pub(crate) struct Coarse {
    /// How far it is off; `None` where it is exact.
    pub(crate) deviation: Option<Deviation>,
    /// Bytes of the entry that it takes.
    pub(crate) needed: u64,
    /// Bytes of the entry.
    pub(crate) stored: u64,
}

impl<'a> BlockReader<'a> {
    pub(crate) fn new(source: &'a dyn EntrySource) -> Self {
        Self {
            source,
            at_hand: None,
            decoder: Decoder::new(),
            spare: Vec::new(),
            third: Vec::new(),
            inputs: Inputs::default(),
            fetches: MAX_FETCHES,
            work: 0,
            link: 0,
        }
    }

    /// The decoded bytes of an entry, proven by its id.
    pub(crate) fn read(&mut self, key: &EntryKey, out: &mut Vec<u8>) -> Result<()> {
        self.begin();
        self.read_proven(key, out)
    }

    /// The decoded bytes of an entry, not proven: for who only compares them, and is told later if they are wrong.
    pub(crate) fn look_at(&mut self, key: &EntryKey, out: &mut Vec<u8>) -> Result<()> {
        self.begin();
        self.read_within(key, out, MAX_DEPTH, None)
    }

    /// A block about as it is, from the first of its two layers alone, with what that leans on proven; exact, and proven itself,
    /// where it has one.
    pub(crate) fn read_coarse(&mut self, key: &EntryKey, out: &mut Vec<u8>) -> Result<Coarse> {
        self.begin();
        let mut stored = self.buffer();
        let Fetched { header, len, location } = self.fetch(key, &mut stored)?;
        let damaged = |source| RepoError::Decode { key: *key, pack: location.pack, source };
        let all = stored.len() as u64;
        let body = stored.get(len..).unwrap_or_default();
        let (Some(first), Some(reference)) = (header.first_layer_len(body).map_err(damaged)?, &header.base) else {
            self.spare.push(stored);
            self.read(key, out)?;
            return Ok(Coarse { deviation: None, needed: all, stored: all });
        };
        let mut base = self.buffer();
        base.resize(header.base_len(), 0);
        let read = |id: &Digest, buffer: &mut Vec<u8>| {
            self.read_input(id, buffer, MAX_DEPTH - 1)?;
            prove(&block_key(*id), buffer)
        };
        reference.assemble(&mut base, read).map_err(|error| base_error(reference, error))?;
        let whole = if header.derived.is_some() { base.len() } else { header.raw_len as usize };
        let bases: Vec<&[u8]> = base.chunks(whole.max(1)).collect();
        out.resize(header.raw_len as usize, 0);
        let first_layer = body.get(..first).unwrap_or(body);
        let deviation = self.decoder.decode_first_layer(&header, first_layer, &bases, out).map_err(damaged)?;
        self.spare.extend([stored, base]);
        // What the layer says of itself is not proven; that it is exact is.
        let deviation = Some(deviation).filter(|_| prove(key, out).is_err());
        Ok(Coarse { deviation, needed: (len + first) as u64, stored: all })
    }

    fn begin(&mut self) {
        (self.fetches, self.work, self.link) = (MAX_FETCHES, 0, 0);
        self.inputs.clear();
    }

    fn read_proven(&mut self, key: &EntryKey, out: &mut Vec<u8>) -> Result<()> {
        self.fetches = MAX_FETCHES;
        self.read_within(key, out, MAX_DEPTH, None)?;
        prove(key, out)
    }

    /// The decoded bytes of two entries, proven by their ids. Where they have one length, that takes half the time to prove.
    pub(crate) fn read_pair(&mut self, keys: [&EntryKey; 2], outs: [&mut Vec<u8>; 2]) -> Result<()> {
        let [first, second] = outs;
        for (key, out) in [(keys[0], &mut *first), (keys[1], &mut *second)] {
            self.begin();
            self.read_within(key, out, MAX_DEPTH, None)?;
        }
        for (key, found) in keys.into_iter().zip(sha256_pair(first, second)) {
            if found != key.id {
                return Err(RepoError::WrongBytes { key: *key, found });
            }
        }
        Ok(())
    }

    /// Shows every block of the chain that an entry is the end of, as long as each leans on one other, whole.
    pub(crate) fn visit(&mut self, key: &EntryKey, visit: &mut Visit<'_>) -> Result<()> {
        self.begin();
        let mut out = self.buffer();
        self.read_within(key, &mut out, MAX_DEPTH, Some(visit))?;
        self.spare.push(out);
        Ok(())
    }

    /// The work of decoding what was read last from its keyframes up, and that of the last link of it, were it on one version.
    pub(crate) fn work(&self) -> (u32, u32) {
        (self.work, self.link)
    }

    fn read_within(
        &mut self,
        key: &EntryKey,
        out: &mut Vec<u8>,
        depth_left: u32,
        visit: Option<&mut Visit<'_>>,
    ) -> Result<()> {
        let mut below = self.buffer();
        self.walk(key, out, &mut below, depth_left, visit)?;
        self.spare.push(below);
        Ok(())
    }

    /// Follows a chain of whole blocks down by its headers, and decodes it upwards, keyframe to end, in two buffers that take
    /// turns as base and output. So nothing in between is written anywhere or hashed, what was decoded last is in the cache when
    /// it is leant on, and a deep chain takes hardly more memory than a shallow one.
    ///
    /// A block that leans on two goes on from the newer one. The older one is what that leans on, as writers have it: it has
    /// just passed by, and a third buffer is all that it takes. Anything else is read by itself.
    ///
    /// Gives the block whose bytes are in `below` at the end, not proven: the one that the entry leans on, where it is whole.
    fn walk(
        &mut self,
        key: &EntryKey,
        out: &mut Vec<u8>,
        below: &mut Vec<u8>,
        depth_left: u32,
        mut visit: Option<&mut Visit<'_>>,
    ) -> Result<Option<Digest>> {
        let mut stored = self.buffer();
        let mut fetched = self.fetch(key, &mut stored)?;
        let mut above: Vec<(EntryKey, Option<Kept>)> = Vec::new();
        let mut room = KEPT;
        let mut at = *key;
        // Down, as long as each block leans on others, whole, that are not at hand.
        let bottom = loop {
            let Some(next) = under(&fetched.header) else { break Some(fetched) };
            if above.len() as u32 >= depth_left {
                return Err(RepoError::TooDeep { key: *key });
            }
            let next = block_key(next.newer);
            if self.at_hand.is_some_and(|get| get(&next.id, out)) {
                let other = self.buffer();
                let bytes = std::mem::replace(&mut stored, other);
                above.push((std::mem::replace(&mut at, next), Some((fetched, bytes))));
                break None;
            }
            let kept = if let Some(left) = room.checked_sub(stored.len()) {
                room = left;
                let other = self.buffer();
                let bytes = std::mem::replace(&mut stored, other);
                let lower = self.fetch(&next, &mut stored)?;
                Some((std::mem::replace(&mut fetched, lower), bytes))
            } else {
                fetched = self.fetch(&next, &mut stored)?;
                None
            };
            above.push((std::mem::replace(&mut at, next), kept));
        };
        // What is left over of the depth for what the block at `at` leans on.
        let left = |above: usize| depth_left.checked_sub(above as u32 + 1).ok_or(RepoError::TooDeep { key: *key });
        if let Some(fetched) = bottom {
            self.decode_bottom(&at, &fetched, &stored, (out, below), left(above.len()))?;
        }
        // Up again: what was decoded last is the base of the next.
        let mut beneath = None;
        while let Some((key, kept)) = above.pop() {
            if let Some(visit) = visit.as_deref_mut() {
                visit(at.id, self.work, out)?;
            }
            let fetched = match kept {
                Some((fetched, bytes)) => {
                    self.spare.push(std::mem::replace(&mut stored, bytes));
                    fetched
                }
                None => self.fetch(&key, &mut stored)?,
            };
            let len = fetched.header.raw_len as usize;
            if let Some(Under { older: Some(older), .. }) = under(&fetched.header) {
                if beneath != Some(older) {
                    self.read_within(&block_key(older), below, left(above.len())?, None)?;
                }
                let mut next = std::mem::take(&mut self.third);
                let bases = [start(out, len, at.id)?, start(below, len, older)?];
                self.decode(&key, &fetched, &stored, &bases, &mut next)?;
                std::mem::swap(out, below);
                std::mem::swap(out, &mut next);
                self.third = next;
            } else {
                std::mem::swap(out, below);
                self.decode(&key, &fetched, &stored, &[start(below, len, at.id)?], out)?;
            }
            (beneath, at) = (Some(at.id), key);
        }
        if let Some(visit) = visit {
            visit(at.id, self.work, out)?;
        }
        self.spare.push(stored);
        Ok(beneath)
    }

    /// Decodes a block that leans on none, or on other than whole ones.
    fn decode_bottom(
        &mut self,
        at: &EntryKey,
        fetched: &Fetched,
        stored: &[u8],
        (out, below): (&mut Vec<u8>, &mut Vec<u8>),
        depth_left: Result<u32>,
    ) -> Result<()> {
        let Some(reference) = &fetched.header.base else { return self.decode(at, fetched, stored, &[], out) };
        let len = fetched.header.raw_len as usize;
        let is_derived = fetched.header.derived.is_some();
        self.read_base(reference, fetched.header.base_len(), below, depth_left?, is_derived)?;
        if is_derived {
            self.decode(at, fetched, stored, &[below], out)?;
        } else {
            let count = fetched.header.chain.predictor().bases();
            let bases = below.split_at(len.min(below.len()));
            self.decode(at, fetched, stored, &[bases.0, bases.1][..count.min(2)], out)?;
        }
        if below.len() > 2 * MAX_BLOCK {
            *below = Vec::new();
        }
        Ok(())
    }

    /// The stored bytes of an entry, and its header.
    fn fetch(&mut self, key: &EntryKey, stored: &mut Vec<u8>) -> Result<Fetched> {
        self.fetches = self.fetches.checked_sub(1).ok_or(RepoError::TooDeep { key: *key })?;
        let location = self.source.read(key, stored).map_err(|error| match error {
            StoreError::Missing(key) => RepoError::Missing { key },
            error => error.into(),
        })?;
        let (header, len) =
            BlockHeader::read(stored).map_err(|source| RepoError::Decode { key: *key, pack: location.pack, source })?;
        let most = if key.kind == EntryKind::Block { MAX_BLOCK } else { MAX_METADATA };
        if header.raw_len as usize > most || u64::from(header.raw_len) != location.raw_len {
            return Err(RepoError::WrongLength { key: *key, pack: location.pack });
        }
        Ok(Fetched { header, len, location })
    }

    fn decode(
        &mut self,
        key: &EntryKey,
        fetched: &Fetched,
        stored: &[u8],
        bases: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.resize(fetched.header.raw_len as usize, 0);
        let versions = versions_work(fetched.header.chain.predictor().bases(), fetched.header.dtype);
        self.link = link_work(&fetched.header);
        self.work = self.work.saturating_add(self.link + versions);
        self.decoder
            .decode_on(&fetched.header, stored.get(fetched.len..).unwrap_or_default(), bases, out)
            .map_err(|source| RepoError::Decode { key: *key, pack: fetched.location.pack, source })
    }

    /// Puts the `len` bytes that a base reference stands for into `out`.
    fn read_base(
        &mut self,
        reference: &BaseRef,
        len: usize,
        out: &mut Vec<u8>,
        depth_left: u32,
        is_derived: bool,
    ) -> Result<()> {
        // What the first input leans on in turn is read before there is room for all of them: that room is not taken at every depth.
        if let Some(first) = reference.ranges.first().and_then(|range| range.block).filter(|_| is_derived)
            && self.source.locate(&block_key(first))?.is_some_and(|location| location.depth > 0)
        {
            self.read_input(&first, out, depth_left)?;
        }
        out.resize(len, 0);
        let read = |id: &Digest, buffer: &mut Vec<u8>| match is_derived {
            true => self.read_input(id, buffer, depth_left),
            false => self.read_within(&block_key(*id), buffer, depth_left, None),
        };
        reference.assemble(out, read).map_err(|error| base_error(reference, error))
    }

    /// The bytes of a block that a derivation leans on, not proven.
    fn read_input(&mut self, id: &Digest, out: &mut Vec<u8>, depth_left: u32) -> Result<()> {
        if self.inputs.get(*id, depth_left, out) {
            return Ok(());
        }
        self.read_within(&block_key(*id), out, depth_left, None)?;
        // A keyframe takes hardly longer to decode than to copy.
        if self.link > 0 {
            self.inputs.put(*id, depth_left, out);
        }
        Ok(())
    }

    /// The bytes that would predict a block of `len` bytes, for an encoder. They are proven by their blocks' ids: a delta made
    /// on wrong bytes would be verified with the same wrong bytes, and never be decoded again.
    pub(crate) fn base_bytes(&mut self, reference: &BaseRef, len: usize, out: &mut Vec<u8>) -> Result<()> {
        self.begin();
        if let Some(id) = whole_base(reference, len as u32) {
            self.read_proven(&block_key(id), out)?;
            start(out, len, id)?;
            // The base may be the start of a longer block.
            out.truncate(len);
            return Ok(());
        }
        out.resize(len, 0);
        let read = |id: &Digest, buffer: &mut Vec<u8>| self.read_proven(&block_key(*id), buffer);
        reference.assemble(out, read).map_err(|error| base_error(reference, error))
    }

    /// As [`Self::base_bytes`], where some blocks may be at hand that are not stored yet.
    pub(crate) fn input_bytes(
        &mut self,
        reference: &BaseRef,
        len: usize,
        at_hand: impl Fn(&Digest) -> Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.begin();
        out.resize(len, 0);
        let read = |id: &Digest, buffer: &mut Vec<u8>| match at_hand(id) {
            Some(bytes) => {
                *buffer = bytes;
                Ok(())
            }
            None => {
                let key = block_key(*id);
                self.fetches = MAX_FETCHES;
                self.read_input(id, buffer, MAX_DEPTH)?;
                prove(&key, buffer)
            }
        };
        reference.assemble(out, read).map_err(|error| base_error(reference, error))
    }

    /// As [`Self::base_bytes`] of one whole block, followed by those of the block that it leans on first itself, if that is
    /// whole too and `wanted`, by the work of the newer one, that of its last link, and the bytes of both, which are not proven
    /// yet. Two versions cost hardly more than one: the older one is decoded for the newer one anyway, and both are proven in one
    /// go. Gives the reference that stands for what is in `out`.
    pub(crate) fn two_base_bytes(
        &mut self,
        newer: Digest,
        len: usize,
        wanted: impl FnOnce(u32, u32, [&[u8]; 2]) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<BaseRef> {
        self.begin();
        let key = block_key(newer);
        let mut below = self.buffer();
        let older = self.walk(&key, out, &mut below, MAX_DEPTH, None)?;
        let two = [start(out, len, newer)?, below.get(..len).unwrap_or_default()];
        let older = older.filter(|_| two[1].len() == len && wanted(self.work, self.link, two));
        let (found, older) = match older {
            Some(older) => {
                let [found, below] = sha256_pair(out, &below);
                (found, Some(older).filter(|older| *older == below))
            }
            None => (sha256(out), None),
        };
        if found != newer {
            return Err(RepoError::WrongBytes { key, found });
        }
        out.truncate(len);
        let mut reference = BaseRef::whole(newer, len as u32);
        if let Some(older) = older {
            out.extend_from_slice(start(&below, len, older)?);
            reference.ranges.push(BaseRange { block: Some(older), start: 0, len: len as u32 });
        }
        self.spare.push(below);
        Ok(reference)
    }

    /// The header of an entry as it is stored, with the entry's location.
    pub(crate) fn header(&mut self, key: &EntryKey) -> Result<(BlockHeader, Location)> {
        let mut stored = self.buffer();
        self.fetches = MAX_FETCHES;
        let fetched = self.fetch(key, &mut stored)?;
        self.spare.push(stored);
        Ok((fetched.header, fetched.location))
    }

    fn buffer(&mut self) -> Vec<u8> {
        // Not cleared: who takes it gives it another length or content, and zeros are not written twice.
        self.spare.pop().unwrap_or_default()
    }
}

fn prove(key: &EntryKey, bytes: &[u8]) -> Result<()> {
    let found = sha256(bytes);
    if found == key.id { Ok(()) } else { Err(RepoError::WrongBytes { key: *key, found }) }
}

/// The key of a block.
pub(crate) fn block_key(id: Digest) -> EntryKey {
    EntryKey { kind: EntryKind::Block, id }
}

/// The blocks that lie under an entry byte for byte: the one before, and the one before that where two are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Under {
    pub(crate) newer: Digest,
    pub(crate) older: Option<Digest>,
}

/// The blocks that an entry leans on byte for byte, if all that it leans on are such.
pub(crate) fn under(header: &BlockHeader) -> Option<Under> {
    let base = header.base.as_ref().filter(|base| base.transpose.is_none() && header.derived.is_none())?;
    let whole = |range: &BaseRange| range.block.filter(|_| range.start == 0 && range.len == header.raw_len);
    match (header.chain.predictor().bases(), &base.ranges[..]) {
        (1, [only]) => Some(Under { newer: whole(only)?, older: None }),
        (2, [newer, older]) => Some(Under { newer: whole(newer)?, older: Some(whole(older)?) }),
        _ => None,
    }
}

/// The block that a base is the start of, of at least `len` bytes.
pub(crate) fn whole_base(base: &BaseRef, len: u32) -> Option<Digest> {
    match (&base.ranges[..], &base.transpose) {
        ([range], None) if range.start == 0 && range.len == len => range.block,
        _ => None,
    }
}

/// The first `len` bytes of a block.
fn start(bytes: &[u8], len: usize, block: Digest) -> Result<&[u8]> {
    bytes.get(..len).ok_or(RepoError::BadBase { block })
}

pub(crate) fn base_error(reference: &BaseRef, error: BaseError<RepoError>) -> RepoError {
    match error {
        BaseError::Reference => {
            RepoError::BadBase { block: reference.blocks().first().copied().unwrap_or(Digest([0; 32])) }
        }
        BaseError::Fetch(error) => error,
    }
}

/// Blocks that are decoded side by side, for each core, before they are handed on.
const BATCH: usize = 2;

/// Decodes blocks on all cores, a batch at a time, and hands them on in order: the block's index, and its bytes.
pub(crate) fn read_in_order(
    source: &dyn EntrySource,
    ids: &[Digest],
    each: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    read_in_order_with(source, None, ids, each)
}

/// The same, where blocks that these lean on may be at hand.
pub(crate) fn read_in_order_with(
    source: &dyn EntrySource,
    at_hand: Option<&AtHand<'_>>,
    ids: &[Digest],
    each: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    source.bring(&mut ids.iter().map(|id| block_key(*id)))?;
    let batch = BATCH * rayon::current_num_threads().clamp(1, 8);
    for (number, ids) in ids.chunks(batch).enumerate() {
        let blocks: Vec<Vec<u8>> = ids
            .par_iter()
            .map_init(
                || BlockReader::new(source),
                |reader, id| {
                    let mut out = Vec::new();
                    reader.at_hand = at_hand;
                    match reader.read(&block_key(*id), &mut out) {
                        // What was at hand may have been wrong.
                        Err(_) if at_hand.is_some() => {
                            reader.at_hand = None;
                            reader.read(&block_key(*id), &mut out).map(|()| out)
                        }
                        read => read.map(|()| out),
                    }
                },
            )
            .collect::<Result<_>>()?;
        for (index, block) in blocks.iter().enumerate() {
            each(number * batch + index, block)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
