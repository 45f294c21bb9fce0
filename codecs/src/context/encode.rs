use shard_core::wire::put_varint;

use super::fit::{Found, fit};
use super::packing::pack_bucket;
use super::segment::{Segment, SymbolWriter, histogram};
use super::subject::{Input, Subject};
use super::{Buffers, TILE, lanes, reserve};
use crate::Level;
use crate::kernel::buckets::{BINS, BitSink, Cursors, ESCAPE, MAX_BUCKETS, SLACK};
use crate::kernel::{self, Isa};

/// Appends the stored form of words. Returns false, with nothing appended, where that would not be shorter than they are.
pub(crate) fn encode(buffers: &mut Buffers, isa: Isa, level: Level, input: Input<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let done = try_encode(buffers, isa, level, input, out).is_some() && out.len() - start < input.words.len();
    if !done {
        out.truncate(start);
    }
    done
}

fn try_encode(buffers: &mut Buffers, isa: Isa, level: Level, input: Input<'_>, out: &mut Vec<u8>) -> Option<()> {
    let Input { word, words, prediction, .. } = input;
    let bytes = word.bytes;
    let count = words.len() / bytes;
    let start = out.len();
    let Buffers { classes, ids, pool, symbols, escapes, chosen, tokens, low_bits, far, encode_tables, .. } = buffers;
    let subject = Subject::new(isa, level, input, count);
    let Found { mut params, counts, .. } = fit(&mut buffers.fit, subject, classes);
    let bucket_maps = params.bucket_maps();
    let low_bit_maps = params.low_bit_maps();

    // The buckets of all words, their tokens, also in buckets, and what tokens leave out. A tile stays in the first-level cache.
    reserve(ids, count);
    reserve(tokens, count);
    let (ids, tokens) = (&mut ids[..count], &mut tokens[..count]);
    // Buckets have the room that the sample makes one expect: to count their words first would take another pass.
    let spare = count / (2 * params.buckets);
    let mut places = Places::new(counts.iter().map(|count| count + count / 4 + spare), pool);
    let mut in_place = true;
    // What takes more room than the words is not worth its while.
    reserve(low_bits, words.len() + SLACK);
    let mut low_bit_sink = BitSink { out: low_bits, at: 0 };
    let (mut bins, mut widths, mut residuals) = ([0; TILE], [0; TILE], [0; 8 * TILE]);
    for (tile, (ids, tokens)) in ids.chunks_mut(TILE).zip(tokens.chunks_mut(TILE)).enumerate() {
        let range = tile * TILE..tile * TILE + ids.len();
        let residuals = subject.residuals(range.clone(), &mut residuals);
        let bins = params.binned(&subject, classes, range.clone(), &mut bins);
        params.look_up(isa, &bucket_maps, classes, range.clone(), bins, ids);
        let widths = &mut widths[..ids.len()];
        let mut any = 0;
        if let Some(maps) = &low_bit_maps {
            params.look_up(isa, maps, classes, range, bins, widths);
            any = widths.iter().fold(0, |any, width| any | width);
        }
        if any == 0 {
            kernel::fold(isa, bytes, residuals, tokens);
        } else {
            kernel::fold_shifted(isa, bytes, residuals, widths, tokens);
            kernel::put_low_bits(isa, bytes, widths, residuals, &mut low_bit_sink, chosen);
        }
        if in_place {
            kernel::scatter_tokens(isa, params.buckets, ids, tokens, &mut places.ends, pool)?;
            in_place = places.are_kept();
        }
    }
    let low_bits_len = low_bit_sink.finish();
    if !in_place {
        let counts = histogram(ids);
        places = Places::new(counts.iter().take(params.buckets).map(|count| *count as usize), pool);
        for (ids, tokens) in ids.chunks(TILE).zip(tokens.chunks(TILE)) {
            kernel::scatter_tokens(isa, params.buckets, ids, tokens, &mut places.ends, pool)?;
        }
    }

    // The symbols of the buckets that have several tokens in one, one after the other.
    reserve(symbols, count + MAX_BUCKETS);
    let mut heads = Vec::new();
    let mut segments = Vec::with_capacity(params.buckets);
    let mut limits = [ESCAPE; BINS];
    let (mut at, mut total) = (0, 0);
    for (bucket, limit) in limits.iter_mut().enumerate().take(params.buckets) {
        let place = places.starts[bucket]..places.ends[bucket];
        let len = place.len();
        let packed = pack_bucket(isa, level, &pool[place.clone()], &mut symbols[at..]);
        let place = if packed.token_bits == 8 { place } else { at..at + packed.symbols };
        at += if packed.token_bits == 8 { 0 } else { packed.symbols };
        total += packed.symbols;
        let segment = Segment::put(level, packed.token_bits, &packed.counts, packed.symbols, &mut heads);
        segments.push((segment, place));
        if bucket + 1 < params.buckets {
            put_varint(&mut heads, len as u64);
        }
        *limit = ((1u32 << packed.token_bits) - 1) as u8;
    }

    // Escapes, in the order of words.
    escapes.clear();
    far.clear();
    find_escapes(isa, &limits, ids, tokens, |index| {
        escapes.push(tokens[index]);
        if tokens[index] == ESCAPE {
            let mut residual = [0; 8];
            subject.residuals(index..index + 1, &mut residual);
            // Signed, of the width of a word.
            let unused = 64 - 8 * bytes as u32;
            let residual = (u64::from_le_bytes(residual) << unused) as i64 >> unused;
            let class = params.runs.map_or(0, |(rows, _)| {
                classes.get((index + rows.phase as usize) / rows.len as usize).copied().unwrap_or(0)
            });
            let bin = params.binned(&subject, classes, index..index + 1, &mut bins).first().copied().unwrap_or(0);
            let dropped = low_bit_maps.as_ref().map_or(0, |maps| maps[usize::from(class)][usize::from(bin)]);
            let kept = residual >> dropped;
            far.extend_from_slice(&((kept << 1 ^ kept >> 63) as u64).to_le_bytes()[..bytes]);
        }
    });
    let mut escape_head = Vec::new();
    let escape_segment = Segment::put(level, 8, &histogram(escapes), escapes.len(), &mut escape_head);
    put_varint(&mut escape_head, escapes.len() as u64);

    let mut class_head = Vec::new();
    let class_segment =
        params.runs.map(|_| Segment::put(level, 8, &histogram(classes), classes.len(), &mut class_head));
    params.lanes = lanes(classes.len() + total + escapes.len());
    params.put(word, prediction.is_some(), out);
    out.extend_from_slice(&class_head);
    out.extend_from_slice(&heads);
    out.extend_from_slice(&escape_head);
    // Words that take more room than the block are not worth their while.
    let room = words.len() + 4 * params.lanes;
    reserve(&mut buffers.words, room);
    let mut writer = SymbolWriter::new(isa, params.lanes, encode_tables, &mut buffers.words[..room]);
    writer.put(&escape_segment, escapes)?;
    for (segment, range) in segments.iter().rev() {
        let source: &[u8] = if segment.token_bits == 8 { pool } else { symbols };
        writer.put(segment, &source[range.clone()])?;
    }
    if let Some(segment) = &class_segment {
        writer.put(segment, classes)?;
    }
    writer.finish(out);
    out.extend_from_slice(far);
    out.extend_from_slice(&low_bits[..low_bits_len]);
    (out.len() - start < words.len()).then_some(())
}

/// Where the buckets lie in the pool.
struct Places {
    starts: Cursors,
    ends: Cursors,
    /// As far as each may grow before another tile of words is put in place.
    limits: Cursors,
}

impl Places {
    /// One after the other, each with this much room and that of a tile, in a pool that is made long enough.
    fn new(room: impl Iterator<Item = usize>, pool: &mut Vec<u8>) -> Self {
        let (mut starts, mut limits) = ([0; MAX_BUCKETS], [0; MAX_BUCKETS]);
        let mut at = 0;
        let mut used = 0;
        for ((room, start), limit) in room.zip(&mut starts).zip(&mut limits) {
            (*start, *limit) = (at, at + room);
            at += room + TILE + SLACK;
            used += 1;
        }
        // A kernel may write where further buckets would start.
        starts[used..].fill(at);
        limits[used..].fill(at);
        reserve(pool, at + TILE + SLACK);
        Self { starts, ends: starts, limits }
    }

    /// Whether every bucket has room for another tile.
    fn are_kept(&self) -> bool {
        self.ends.iter().zip(&self.limits).all(|(end, limit)| end <= limit)
    }
}

/// What the context coder would take for `words` words like those of the input, a sample of them, in bytes.
pub(crate) fn estimate(buffers: &mut Buffers, isa: Isa, level: Level, input: Input<'_>, words: usize) -> u64 {
    let subject = Subject::new(isa, level, Input { rows: None, ..input }, words);
    let Found { cost, .. } = fit(&mut buffers.fit, subject, &mut buffers.classes);
    // Parameters, heads and states.
    (cost >> 19) + 16 + 2 * lanes(words) as u64
}

/// Calls `found` for each word whose token is not below its bucket's limit.
fn find_escapes(isa: Isa, limits: &[u8; BINS], ids: &[u8], tokens: &[u8], mut found: impl FnMut(usize)) {
    const { assert!(MAX_BUCKETS <= BINS) };
    let mut tile_limits = [0; TILE];
    let mut masks = [0; TILE / 64];
    for (tile, (ids, tokens)) in ids.chunks(TILE).zip(tokens.chunks(TILE)).enumerate() {
        let tile_limits = &mut tile_limits[..ids.len()];
        kernel::map_bins(isa, limits, ids, tile_limits);
        let masks = &mut masks[..ids.len().div_ceil(64)];
        kernel::reaches(isa, tokens, tile_limits, masks);
        for (group, mask) in masks.iter().enumerate() {
            let mut mask = *mask;
            while mask != 0 {
                found(tile * TILE + 64 * group + mask.trailing_zeros() as usize);
                mask &= mask - 1;
            }
        }
    }
}
