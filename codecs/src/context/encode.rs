use shard_core::wire::put_varint;

use super::fit::{Subject, fit};
use super::segment::{Segment, SymbolWriter, cost, histogram};
use super::{Buffers, Rows, TILE, lanes, pool_len, reserve, starts};
use crate::Level;
use crate::chain::Word;
use crate::entropy::Counts;
use crate::kernel::buckets::{BINS, BitSink, ESCAPE, Key, MAX_BUCKETS, SLACK};
use crate::kernel::{self, Isa};

/// What is to be encoded.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) word: Word,
    /// Whole words.
    pub(crate) words: &'a [u8],
    /// As many words, where the chain has a prediction.
    pub(crate) prediction: Option<&'a [u8]>,
    pub(crate) rows: Option<Rows>,
}

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
    let Buffers { classes, ids, pool, symbols, escapes, residuals, bins, tokens, low_bits, far, encode_tables, .. } =
        buffers;
    let prepared = prepare(isa, input, residuals, bins);
    let (mut params, _) = fit(&mut buffers.fit, prepared.subject(isa, level, input, count), classes);
    (params.first_key, params.origin) = (prepared.first_key, prepared.origin);
    let Prepared { residuals, bins, .. } = prepared;
    if let Some(prediction) = prediction.filter(|_| params.mantissa_classes != 0) {
        let tiles = prediction.chunks(TILE * bytes).zip(bins.chunks_mut(TILE));
        for (tile, (prediction, bins)) in tiles.enumerate() {
            params.bin(isa, word, classes, tile * TILE..tile * TILE + bins.len(), prediction, bins);
        }
    }

    // Tokens and buckets of all words, and what tokens leave out.
    reserve(ids, count);
    reserve(tokens, count);
    let (ids, tokens) = (&mut ids[..count], &mut tokens[..count]);
    let bucket_maps = params.bucket_maps();
    let low_bit_maps = params.low_bit_maps();
    // What takes more room than the words is not worth its while.
    reserve(low_bits, words.len() + SLACK);
    let mut low_bit_sink = BitSink { out: low_bits, at: 0 };
    let mut widths = [0; TILE];
    for (tile, (ids, tokens)) in ids.chunks_mut(TILE).zip(tokens.chunks_mut(TILE)).enumerate() {
        let range = tile * TILE..tile * TILE + ids.len();
        let residuals = &residuals[range.start * bytes..range.end * bytes];
        let bins = bins.get(range.clone()).unwrap_or_default();
        params.look_up(isa, &bucket_maps, classes, range.clone(), bins, ids);
        let Some(maps) = &low_bit_maps else {
            kernel::fold(isa, bytes, residuals, tokens);
            continue;
        };
        let widths = &mut widths[..ids.len()];
        params.look_up(isa, maps, classes, range, bins, widths);
        if widths.iter().fold(0, |any, width| any | width) == 0 {
            kernel::fold(isa, bytes, residuals, tokens);
            continue;
        }
        kernel::fold_shifted(isa, bytes, residuals, widths, tokens);
        kernel::put_low_bits(isa, bytes, widths, residuals, &mut low_bit_sink);
    }
    let low_bits_len = low_bit_sink.finish();

    // Tokens in buckets, and how each bucket is packed.
    let counts = kernel::count_ids(isa, params.buckets, ids);
    let cursors = starts(&counts);
    reserve(pool, pool_len(count));
    let mut ends = cursors;
    for (ids, tokens) in ids.chunks(TILE).zip(tokens.chunks(TILE)) {
        kernel::scatter_tokens(isa, params.buckets, ids, tokens, &mut ends, pool)?;
    }
    // The symbols of the buckets that have several tokens in one, one after the other.
    reserve(symbols, pool_len(count));
    let mut heads = Vec::new();
    let mut segments = Vec::with_capacity(params.buckets);
    let mut limits = [ESCAPE; BINS];
    let (mut at, mut total) = (0, 0);
    for (bucket, limit) in limits.iter_mut().enumerate().take(params.buckets) {
        let len = counts.get(bucket).map_or(0, |count| *count as usize);
        let place = cursors[bucket]..cursors[bucket] + len;
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
            residual[..bytes].copy_from_slice(&residuals[index * bytes..(index + 1) * bytes]);
            // Signed, of the width of a word.
            let unused = 64 - 8 * bytes as u32;
            let residual = (u64::from_le_bytes(residual) << unused) as i64 >> unused;
            let class = params.runs.map_or(0, |(rows, _)| {
                classes.get((index + rows.phase as usize) / rows.len as usize).copied().unwrap_or(0)
            });
            let bin = bins.get(index).copied().unwrap_or(0);
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

/// What the context coder would take for `words` words like those of the input, a sample of them, in bytes.
pub(crate) fn estimate(buffers: &mut Buffers, isa: Isa, level: Level, input: Input<'_>, words: usize) -> u64 {
    let prepared = prepare(isa, input, &mut buffers.residuals, &mut buffers.bins);
    let subject = prepared.subject(isa, level, Input { rows: None, ..input }, words);
    let (_, cost) = fit(&mut buffers.fit, subject, &mut buffers.classes);
    // Parameters, heads and states.
    (cost >> 19) + 16 + 2 * lanes(words) as u64
}

/// The residuals of a block, and the bins of its predictions.
struct Prepared<'a> {
    residuals: &'a [u8],
    bins: &'a mut [u8],
    first_key: u32,
    origin: u64,
    low_bits: Option<u8>,
}

fn prepare<'a>(isa: Isa, input: Input<'_>, residuals: &'a mut Vec<u8>, bins: &'a mut Vec<u8>) -> Prepared<'a> {
    let Input { word, words, prediction, .. } = input;
    let count = words.len() / word.bytes;
    reserve(residuals, words.len());
    let residuals = &mut residuals[..words.len()];
    let Some(prediction) = prediction else {
        let (origin, low_bits) = origin_of(word, words);
        kernel::offset_forward(isa, word, origin, words, residuals);
        return Prepared { residuals, bins: &mut [], first_key: 0, origin, low_bits };
    };
    reserve(bins, count);
    let bins = &mut bins[..count];
    let first_key = first_key_of(word, prediction);
    let size = TILE * word.bytes;
    let parts = words.chunks(size).zip(prediction.chunks(size));
    for ((words, prediction), (residuals, bins)) in parts.zip(residuals.chunks_mut(size).zip(bins.chunks_mut(TILE))) {
        kernel::step_forward(isa, word, words, prediction, residuals);
        kernel::bins(isa, word, Key::Exponent { first: first_key }, prediction, bins);
    }
    Prepared { residuals, bins, first_key, origin: 0, low_bits: None }
}

impl Prepared<'_> {
    fn subject<'a>(&'a self, isa: Isa, level: Level, input: Input<'a>, words: usize) -> Subject<'a> {
        let Input { word, prediction, rows, .. } = input;
        let Self { residuals, bins, low_bits, .. } = self;
        Subject { isa, level, word, residuals, prediction, bins, low_bits: *low_bits, rows, words }
    }
}

/// The tiles of a block that its key and origin are taken from.
fn some_tiles(word: Word, words: &[u8]) -> impl Iterator<Item = &[u8]> {
    let tiles = words.chunks(TILE * word.bytes);
    let step = tiles.len().div_ceil(4).max(1);
    tiles.step_by(step)
}

/// The key for bin 0: the lowest that leaves next to no word above the last bin.
pub(crate) fn first_key_of(word: Word, prediction: &[u8]) -> u32 {
    let Some(float) = word.float else { return 0 };
    let mut counts = vec![0u32; 1 << float.exponent];
    let mask = counts.len() - 1;
    let mut wide = [0; TILE];
    let mut all = 0;
    for tile in some_tiles(word, prediction) {
        let wide = &mut wide[..tile.len() / word.bytes];
        kernel::widen(word.bytes, tile, wide);
        for word in wide.iter() {
            counts[(*word >> float.mantissa) as usize & mask] += 1;
        }
        all += wide.len() as u32;
    }
    // Infinities and the like must not push the others out.
    let mut above = 0;
    let highest = counts.iter().rposition(|count| {
        above += count;
        above > all / 512
    });
    (highest.unwrap_or(0) as u32 + 1).saturating_sub(BINS as u32 - 1)
}

/// What words without a prediction are measured from, and the bits below what is modelled: of floats, the exponent is.
fn origin_of(word: Word, words: &[u8]) -> (u64, Option<u8>) {
    let Some(float) = word.float else { return (0, None) };
    // The top byte is modelled: the exponent, or a part of it, or some of the mantissa too.
    let low_bits = 8 * (word.bytes as u32 - 1);
    let (mut sum, mut count) = (0u64, 0u64);
    let mut wide = [0; TILE];
    for tile in some_tiles(word, words) {
        let wide = &mut wide[..tile.len() / word.bytes];
        kernel::widen(word.bytes, tile, wide);
        // The sign goes out at the top, as in the rotated word.
        let unused = 64 - 8 * word.bytes as u32 + u32::from(float.signed);
        sum += wide.iter().map(|word| (*word as u64) << unused >> 56).sum::<u64>();
        count += wide.len() as u64;
    }
    ((sum / count.max(1)) << low_bits, Some(low_bits as u8))
}

/// How a bucket is packed.
struct Packed {
    token_bits: u32,
    symbols: usize,
    counts: Counts,
}

/// Buckets of more tokens than this are judged by a part of them.
const MANY: usize = 16 << 10;

/// A part of a large bucket: 8 runs, spread evenly.
fn some_of(tokens: &[u8]) -> Vec<u8> {
    let run = tokens.len() / 64;
    (0..8).flat_map(|index| &tokens[(tokens.len() - run) / 7 * index..][..run]).copied().collect()
}

/// Puts the tokens of a bucket into symbols, several in one, at the start of `symbols`, where that is no longer.
fn pack_bucket(isa: Isa, level: Level, tokens: &[u8], symbols: &mut [u8]) -> Packed {
    let part = if tokens.len() > MANY { Some(some_of(tokens)) } else { None };
    let token_bits = token_bits(isa, level, part.as_deref().unwrap_or(tokens), symbols);
    if token_bits == 8 {
        return Packed { token_bits, symbols: tokens.len(), counts: histogram(tokens) };
    }
    let symbols = &mut symbols[..tokens.len().div_ceil((8 / token_bits) as usize)];
    kernel::pack(isa, token_bits, tokens, symbols);
    Packed { token_bits, symbols: symbols.len(), counts: histogram(symbols) }
}

/// The bits of a token with which a bucket like `tokens` is smallest. `scratch` is overwritten.
fn token_bits(isa: Isa, level: Level, tokens: &[u8], scratch: &mut [u8]) -> u32 {
    if tokens.len() < 64 {
        return 8;
    }
    let counts = histogram(tokens);
    let (mut best, mut least) = (8, cost(&counts, tokens.len()));
    for token_bits in [4u32, 2, 1] {
        let most = (1usize << token_bits) - 1;
        let escaped: u32 = counts[most..].iter().sum();
        // An escape costs its own code beside its symbol's.
        if escaped as usize * 32 > tokens.len() || level == Level::Fast && token_bits != 4 {
            break;
        }
        let symbols = &mut scratch[..tokens.len().div_ceil((8 / token_bits) as usize)];
        kernel::pack(isa, token_bits, tokens, symbols);
        let found = cost(&histogram(symbols), symbols.len()) + ((u64::from(escaped) * 5) << 16);
        // Fewer symbols are decoded faster: worth half a percent.
        if found > least + least / 256 {
            break;
        }
        (best, least) = (token_bits, found);
    }
    best
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
