use shard_core::WireReader;

use super::params::Params;
use super::segment::{Segment, SymbolReader};
use super::{Buffers, TILE, pool_len, reserve};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::buckets::{Bits, ESCAPE, MAX_BUCKETS};
use crate::kernel::{self, Isa};

fn body(cause: &'static str) -> CodecError {
    CodecError::Body(cause)
}

/// A segment's head, and how many tokens it has.
pub(super) struct Head {
    segment: Segment,
    tokens: usize,
}

/// What is done with whole words as they are decoded.
pub(crate) enum Words<'a> {
    /// They are put here.
    Wanted(&'a mut [u8]),
    /// They are compared with these, which takes no more than a tile of room.
    Known(&'a [u8]),
}

impl Words<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Wanted(words) => words.len(),
            Self::Known(words) => words.len(),
        }
    }
}

/// Decodes words from their stored form. `prediction`, where the chain has one, has their length; `turned` says that it tells
/// magnitudes only.
///
/// # Errors
/// [`CodecError::Body`] or [`CodecError::Header`] where `stored` is not the stored form of so many words, or of the known ones.
pub(crate) fn decode(
    buffers: &mut Buffers,
    isa: Isa,
    word: Word,
    prediction: Option<&[u8]>,
    turned: bool,
    stored: &[u8],
    mut words: Words<'_>,
) -> Result<(), CodecError> {
    let count = words.len() / word.bytes;
    let (params, rest) = Params::read(stored, word, prediction.is_some())?;
    let Buffers { tables, heads, classes, pool, symbols, escapes, chosen, .. } = buffers;
    let rest = read_heads(&params, count, rest, heads)?;
    let mut reader = SymbolReader::new(isa, params.lanes, tables, rest)?;
    let (heads_of_runs, heads) = heads.split_at(usize::from(params.runs.is_some()).min(heads.len()));
    let Some((head_of_escapes, heads)) = heads.split_last() else { return Err(body("a segment is missing")) };
    let mut take = |head: &Head, tokens: &mut [u8]| take_tokens(&mut reader, isa, &head.segment, symbols, tokens);

    classes.clear();
    if let (Some((_, known)), Some(head)) = (params.runs, heads_of_runs.first()) {
        classes.resize(head.tokens, 0);
        take(head, classes)?;
        if classes.iter().any(|class| usize::from(*class) >= known) {
            return Err(body("a run has a class that there is not"));
        }
    }
    reserve(pool, pool_len(count));
    let mut cursors = [0; MAX_BUCKETS];
    let mut ends = [0; MAX_BUCKETS];
    let mut at = 0;
    for ((head, cursor), end) in heads.iter().zip(&mut cursors).zip(&mut ends) {
        *cursor = at;
        take(head, &mut pool[at..at + head.tokens])?;
        at += head.tokens;
        *end = at;
    }
    reserve(escapes, head_of_escapes.tokens);
    let escapes = &mut escapes[..head_of_escapes.tokens];
    take(head_of_escapes, escapes)?;
    let rest = reader.finish()?;
    let far_count = escapes.iter().filter(|escape| **escape == ESCAPE).count();
    let far = rest.split_at_checked(far_count * word.bytes);
    let (far, low) = far.ok_or(body("folded residuals are missing"))?;

    let bucket_maps = params.bucket_maps();
    let low_bit_maps = params.low_bit_maps();
    let mut low_bits = Bits { data: low, at: 0 };
    let mut escapes = Escapes { near: escapes.iter(), far: far.chunks_exact(word.bytes) };
    let (mut bins, mut ids, mut tokens, mut widths) = ([0; TILE], [0; TILE], [0; TILE], [0; TILE]);
    let mut escape_masks = [0; TILE / 64];
    let (mut residuals, mut decoded) = ([0; 8 * TILE], [0; 8 * TILE]);
    for from in (0..count).step_by(TILE) {
        let range = from..(from + TILE).min(count);
        let len = range.len();
        let place = range.start * word.bytes..range.end * word.bytes;
        let (out, known) = match &mut words {
            Words::Wanted(words) => (&mut words[place], None),
            Words::Known(words) => (&mut decoded[..place.len()], Some(&words[place])),
        };
        let predicted = prediction.map(|prediction| &prediction[range.start * word.bytes..range.end * word.bytes]);
        let bins = match predicted {
            Some(predicted) if params.bins > 1 => {
                params.bin(isa, word, classes, range.clone(), predicted, &mut bins[..len]);
                &bins[..len]
            }
            _ => &[],
        };
        let (ids, tokens, residuals) = (&mut ids[..len], &mut tokens[..len], &mut residuals[..out.len()]);
        params.look_up(isa, &bucket_maps, classes, range.clone(), bins, ids);
        kernel::gather_tokens(isa, params.buckets, ids, pool, &mut cursors, tokens, &mut escape_masks)
            .ok_or(body("a bucket has too few tokens"))?;
        kernel::unfold(isa, word.bytes, tokens, residuals);
        escapes.fill_in(word.bytes, &escape_masks[..len.div_ceil(64)], residuals).ok_or(body("escapes run out"))?;
        if let Some(maps) = &low_bit_maps {
            let widths = &mut widths[..len];
            params.look_up(isa, maps, classes, range, bins, widths);
            kernel::add_low_bits(isa, word.bytes, widths, &mut low_bits, residuals, chosen);
        }
        match predicted {
            Some(predicted) if turned => kernel::turn_inverse(isa, word, residuals, predicted, out),
            Some(predicted) => kernel::step_inverse(isa, word, residuals, predicted, out),
            None => kernel::offset_inverse(isa, word, params.origin, residuals, out),
        }
        if known.is_some_and(|known| known != out) {
            return Err(body("a word is not the known one"));
        }
    }
    if cursors != ends || escapes.near.next().is_some() {
        return Err(body("tokens are left over"));
    }
    if !low_bits.is_finished() {
        return Err(body("low bits are missing or left over"));
    }
    Ok(())
}

/// Reads the heads of all segments and their numbers of tokens; returns what follows them.
fn read_heads<'a>(
    params: &Params,
    words: usize,
    data: &'a [u8],
    heads: &mut Vec<Head>,
) -> Result<&'a [u8], CodecError> {
    heads.clear();
    let mut rest = data;
    if let Some((rows, _)) = params.runs {
        let (segment, after) = Segment::read(rest)?;
        heads.push(Head { segment, tokens: rows.count(words) });
        rest = after;
    }
    let mut left = words;
    for bucket in 0..=params.buckets {
        let (segment, after) = Segment::read(rest)?;
        rest = after;
        // The last bucket has what the others leave; then come the escapes.
        let tokens = if bucket + 1 == params.buckets {
            left
        } else {
            let mut reader = WireReader::new(rest);
            let most = if bucket == params.buckets { words } else { left };
            let tokens = reader.varint_up_to(most as u64, "number of tokens")? as usize;
            rest = rest.get(reader.position()..).unwrap_or_default();
            left -= if bucket == params.buckets { 0 } else { tokens };
            tokens
        };
        heads.push(Head { segment, tokens });
    }
    Ok(rest)
}

/// Decodes a segment into tokens, as many as `tokens` has room for.
fn take_tokens(
    reader: &mut SymbolReader<'_>,
    isa: Isa,
    segment: &Segment,
    symbols: &mut Vec<u8>,
    tokens: &mut [u8],
) -> Result<(), CodecError> {
    if segment.token_bits == 8 {
        return reader.take(segment, tokens);
    }
    let len = segment.symbols(tokens.len());
    reserve(symbols, len);
    reader.take(segment, &mut symbols[..len])?;
    kernel::unpack(isa, segment.token_bits, &symbols[..len], tokens);
    Ok(())
}

/// The folded residuals of words whose token is [`ESCAPE`].
struct Escapes<'a> {
    near: std::slice::Iter<'a, u8>,
    far: std::slice::ChunksExact<'a, u8>,
}

impl Escapes<'_> {
    fn next(&mut self, bytes: usize) -> Option<u64> {
        let near = *self.near.next()?;
        if near != ESCAPE {
            return Some(u64::from(near));
        }
        let mut far = [0; 8];
        far[..bytes].copy_from_slice(self.far.next()?);
        Some(u64::from_le_bytes(far))
    }

    fn fill_in(&mut self, bytes: usize, masks: &[u64], residuals: &mut [u8]) -> Option<()> {
        for (group, mask) in masks.iter().enumerate() {
            let mut mask = *mask;
            while mask != 0 {
                let at = (64 * group + mask.trailing_zeros() as usize) * bytes;
                mask &= mask - 1;
                let folded = self.next(bytes)?;
                let residual = folded >> 1 ^ (folded & 1).wrapping_neg();
                residuals.get_mut(at..at + bytes)?.copy_from_slice(&residual.to_le_bytes()[..bytes]);
            }
        }
        Some(())
    }
}
