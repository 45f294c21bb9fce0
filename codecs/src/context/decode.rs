use super::low_bits::LowBitReader;
use super::params::Params;
use super::segment::{Segment, SymbolReader};
use super::{Buffers, TILE, pool_len, reserve, starts};
use crate::CodecError;
use crate::chain::Word;
use crate::kernel::buckets::ESCAPE;
use crate::kernel::{self, Isa};

fn body(cause: &'static str) -> CodecError {
    CodecError::Body(cause)
}

/// Fills `words` (whole words) from their stored form. `prediction`, where the chain has one, has the length of `words`.
///
/// # Errors
/// [`CodecError::Body`] or [`CodecError::Header`] where `stored` is not the stored form of so many words.
pub(crate) fn decode(
    buffers: &mut Buffers,
    isa: Isa,
    word: Word,
    prediction: Option<&[u8]>,
    stored: &[u8],
    words: &mut [u8],
) -> Result<(), CodecError> {
    let count = words.len() / word.bytes;
    let (params, mut rest) = Params::read(stored, word, prediction.is_some())?;
    let Buffers { tables, segments, classes, ids, pool, symbols, escapes, .. } = buffers;
    segments.clear();
    for _ in 0..usize::from(params.runs.is_some()) + params.buckets + 1 {
        let (segment, after) = Segment::read(rest)?;
        segments.push(segment);
        rest = after;
    }
    let mut reader = SymbolReader::new(isa, params.lanes, tables, rest)?;
    let mut heads = segments.iter();
    let mut next = || heads.next().ok_or(body("a segment is missing"));

    classes.clear();
    if let Some((rows, known)) = params.runs {
        let segment = next()?;
        classes.resize(rows.count(count), 0);
        take_tokens(&mut reader, isa, segment, symbols, classes)?;
        if classes.iter().any(|class| usize::from(*class) >= known) {
            return Err(body("a run has a class that there is not"));
        }
    }

    reserve(ids, count);
    let ids = &mut ids[..count];
    let bucket_maps = params.bucket_maps();
    let mut bins = [0; TILE];
    let bins_of = |from: usize, len: usize, bins: &mut [u8; TILE]| match prediction {
        Some(prediction) if params.bins > 1 => {
            let part = &prediction[from * word.bytes..(from + len) * word.bytes];
            kernel::bins(isa, word, params.first_key, part, &mut bins[..len]);
            len
        }
        _ => 0,
    };
    for (tile, ids) in ids.chunks_mut(TILE).enumerate() {
        let from = tile * TILE;
        let len = bins_of(from, ids.len(), &mut bins);
        params.look_up(isa, &bucket_maps, classes, from..from + ids.len(), &bins[..len], ids);
    }

    let counts = kernel::count_ids(isa, params.buckets, ids);
    let mut cursors = starts(&counts);
    reserve(pool, pool_len(count));
    let mut escaped = 0;
    for (start, len) in cursors.iter().zip(counts).take(params.buckets) {
        let tokens = &mut pool[*start..start + len as usize];
        take_tokens(&mut reader, isa, next()?, symbols, tokens)?;
        escaped += tokens.iter().filter(|token| **token == ESCAPE).count();
    }
    reserve(escapes, escaped);
    let escapes = &mut escapes[..escaped];
    take_tokens(&mut reader, isa, next()?, symbols, escapes)?;
    let rest = reader.finish()?;
    let far_count = escapes.iter().filter(|escape| **escape == ESCAPE).count();
    let far = rest.split_at_checked(far_count * word.bytes);
    let (far, low) = far.ok_or(body("folded residuals are missing"))?;

    let low_bit_maps = params.low_bit_maps();
    let mut low_bits = LowBitReader::new(low);
    let mut tokens = [0; TILE];
    let mut widths = [0; TILE];
    let mut residuals = [0; 8 * TILE];
    let mut escapes = Escapes { near: escapes.iter(), far: far.chunks_exact(word.bytes) };
    for (tile, (ids, out)) in ids.chunks(TILE).zip(words.chunks_mut(TILE * word.bytes)).enumerate() {
        let from = tile * TILE;
        let len = ids.len();
        let tokens = &mut tokens[..len];
        let residuals = &mut residuals[..len * word.bytes];
        kernel::gather_tokens(isa, params.buckets, ids, pool, &mut cursors, tokens)
            .ok_or(body("a bucket has too few tokens"))?;
        kernel::unfold(isa, word.bytes, tokens, residuals);
        escapes.fill_in(word.bytes, tokens, residuals).ok_or(body("escapes run out"))?;
        if let Some(maps) = &low_bit_maps {
            let widths = &mut widths[..len];
            let binned = bins_of(from, len, &mut bins);
            params.look_up(isa, maps, classes, from..from + len, &bins[..binned], widths);
            add_low_bits(word.bytes, widths, &mut low_bits, residuals);
        }
        match prediction {
            Some(prediction) => {
                let part = &prediction[from * word.bytes..(from + len) * word.bytes];
                kernel::step_inverse(isa, word, residuals, part, out);
            }
            None => kernel::offset_inverse(isa, word, params.origin, residuals, out),
        }
    }
    if !low_bits.finish() {
        return Err(body("low bits are missing or left over"));
    }
    Ok(())
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

    fn fill_in(&mut self, bytes: usize, tokens: &[u8], residuals: &mut [u8]) -> Option<()> {
        for (group, tokens) in tokens.chunks(32).enumerate() {
            // One vector comparison for most groups.
            if !tokens.iter().fold(false, |any, token| any | (*token == ESCAPE)) {
                continue;
            }
            for (index, _) in tokens.iter().enumerate().filter(|(_, token)| **token == ESCAPE) {
                let folded = self.next(bytes)?;
                let residual = folded >> 1 ^ (folded & 1).wrapping_neg();
                let at = (32 * group + index) * bytes;
                residuals[at..at + bytes].copy_from_slice(&residual.to_le_bytes()[..bytes]);
            }
        }
        Some(())
    }
}

/// Puts low bits below the residuals of words that have some.
fn add_low_bits(bytes: usize, widths: &[u8], low_bits: &mut LowBitReader<'_>, residuals: &mut [u8]) {
    match bytes {
        1 => add_low_bits_to::<1>(widths, low_bits, residuals),
        2 => add_low_bits_to::<2>(widths, low_bits, residuals),
        4 => add_low_bits_to::<4>(widths, low_bits, residuals),
        _ => add_low_bits_to::<8>(widths, low_bits, residuals),
    }
}

fn add_low_bits_to<const BYTES: usize>(widths: &[u8], low_bits: &mut LowBitReader<'_>, residuals: &mut [u8]) {
    for (widths, residuals) in widths.chunks(64).zip(residuals.chunks_mut(64 * BYTES)) {
        if widths.iter().fold(0, |any, width| any | width) == 0 {
            continue;
        }
        for (width, residual) in widths.iter().zip(residuals.as_chunks_mut::<BYTES>().0) {
            let mut wide = [0; 8];
            wide[..BYTES].copy_from_slice(residual);
            let wide = u64::from_le_bytes(wide) << width | low_bits.take(u32::from(*width));
            residual.copy_from_slice(&wide.to_le_bytes()[..BYTES]);
        }
    }
}
