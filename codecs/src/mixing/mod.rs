//! Context mixing: the smallest form, at tens of megabytes a second.
//!
//! Residuals are coded bit by bit with an arithmetic coder. Several models guess each bit, from the exponent of the prediction and
//! from how far the words before, above, and in the same row and column moved; a mixer weighs the guesses by how good they
//! were so far. All arithmetic is in integers, so every machine computes the same.
//!
//! A residual `r` ([`crate::residual::Step`]) is a *class*, the bit length of its magnitude, then its sign, the three bits below
//! its top one, and the rest, which is noise. Class 0 is a bit of its own, the others are the leaves of a binary tree.
//!
//! Stored form: words of a row and words of the first row that lie before the block (varints; 0 and 0 where there are no rows), the
//! key of bin 0 (varint, as in [`crate::context`]), the length of the arithmetic code (varint) and the code, then the bits that are
//! noise, as low bits are in [`crate::context`].

mod binary;
mod model;
mod probability;

use shard_core::WireReader;
use shard_core::wire::put_varint;

use crate::CodecError;
use crate::chain::Word;
use crate::context::{Rows, first_key_of};
use crate::kernel::buckets::{BitSink, Bits, Key};
use crate::kernel::{self, Isa, Work};
use binary::{BitCoder, BitDecoder, BitEncoder};
use model::{Model, Noise};

/// Words whose residuals and bins are worked out at a time.
const TILE: usize = 2048;

/// Appends the stored form of words. Returns false, with nothing appended, where that would not be shorter than they are.
pub(crate) fn encode(
    isa: Isa,
    word: Word,
    words: &[u8],
    prediction: &[u8],
    rows: Option<Rows>,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    let first_key = first_key_of(word, prediction);
    let (len, phase) = rows.map_or((0, 0), |rows| (rows.len, rows.phase));
    put_varint(out, u64::from(len));
    put_varint(out, u64::from(phase));
    put_varint(out, u64::from(first_key));
    let mut code = Vec::new();
    // No word has more low bits than it has bits.
    let mut low_bits = vec![0; words.len() + 8];
    let mut noise = BitSink { out: &mut low_bits, at: 0 };
    let mut encoder = BitEncoder::new(&mut code);
    let mut model = Model::new(word, rows, words.len() / word.bytes);
    let mut tile = Tile::new();
    let size = TILE * word.bytes;
    for (words, prediction) in words.chunks(size).zip(prediction.chunks(size)) {
        let count = words.len() / word.bytes;
        let residuals = &mut tile.residuals[..words.len()];
        kernel::step_forward(isa, word, words, prediction, residuals);
        kernel::widen(word.bytes, residuals, &mut tile.wide[..count]);
        tile.look_at(isa, word, first_key, prediction);
        let (model, coder, noise) = (&mut model, &mut encoder, &mut noise);
        kernel::compiled_for(isa, Run { model, coder, noise, tile: &mut tile, count });
    }
    encoder.finish();
    let noise_len = noise.finish();
    put_varint(out, code.len() as u64);
    out.extend_from_slice(&code);
    out.extend_from_slice(&low_bits[..noise_len]);
    let shorter = out.len() - start < words.len();
    if !shorter {
        out.truncate(start);
    }
    shorter
}

/// Fills `words` (whole words) from their stored form.
///
/// # Errors
/// [`CodecError::Body`] or [`CodecError::Header`] where `stored` is not the stored form of so many words.
pub(crate) fn decode(
    isa: Isa,
    word: Word,
    prediction: &[u8],
    stored: &[u8],
    words: &mut [u8],
) -> Result<(), CodecError> {
    let body = CodecError::Body;
    let mut reader = WireReader::new(stored);
    let len = reader.varint_up_to(u64::from(u32::MAX), "words of a row")? as u32;
    let phase = reader.varint_up_to(u64::from(u32::MAX), "words before the block")? as u32;
    let most = word.float.map_or(0, |float| (1 << float.exponent) - 1);
    let first_key = reader.varint_up_to(most, "first key")? as u32;
    let code_len = reader.varint_up_to(stored.len() as u64, "length of the arithmetic code")? as usize;
    if phase > 0 && phase >= len {
        return Err(body("rows are impossible"));
    }
    let rows = (len > 0).then_some(Rows { len, phase });
    let rest = stored.get(reader.position()..).unwrap_or_default();
    let (code, low) = rest.split_at_checked(code_len).ok_or(body("the arithmetic code is cut short"))?;
    let mut decoder = BitDecoder::new(code);
    let mut noise = Bits { data: low, at: 0 };
    let mut model = Model::new(word, rows, words.len() / word.bytes);
    let mut tile = Tile::new();
    let size = TILE * word.bytes;
    for (words, prediction) in words.chunks_mut(size).zip(prediction.chunks(size)) {
        tile.look_at(isa, word, first_key, prediction);
        let (count, model, coder, noise) = (words.len() / word.bytes, &mut model, &mut decoder, &mut noise);
        kernel::compiled_for(isa, Run { model, coder, noise, tile: &mut tile, count });
        let residuals = &mut tile.residuals[..words.len()];
        for (place, residual) in residuals.chunks_exact_mut(word.bytes).zip(tile.wide.iter()) {
            place.copy_from_slice(&residual.to_le_bytes()[..word.bytes]);
        }
        kernel::step_inverse(isa, word, residuals, prediction, words);
    }
    if !decoder.is_finished() {
        return Err(body("the arithmetic code does not end where it should"));
    }
    if !noise.is_finished() {
        return Err(body("low bits are missing or left over"));
    }
    Ok(())
}

/// Buffers for a piece of a block.
struct Tile {
    bins: [u8; TILE],
    mantissas: [u8; TILE],
    residuals: Box<[u8; 8 * TILE]>,
    wide: Box<[i64; TILE]>,
}

impl Tile {
    fn new() -> Self {
        Self { bins: [0; TILE], mantissas: [0; TILE], residuals: Box::new([0; 8 * TILE]), wide: Box::new([0; TILE]) }
    }

    fn look_at(&mut self, isa: Isa, word: Word, first_key: u32, prediction: &[u8]) {
        let count = (prediction.len() / word.bytes).min(TILE);
        kernel::bins(isa, word, Key::Exponent { first: first_key }, prediction, &mut self.bins[..count]);
        kernel::bins(isa, word, Key::Mantissa, prediction, &mut self.mantissas[..count]);
    }
}

/// Coding the words of a tile: from `wide`, or to it.
struct Run<'a, C, N> {
    model: &'a mut Model,
    coder: &'a mut C,
    noise: &'a mut N,
    tile: &'a mut Tile,
    count: usize,
}

impl<C: BitCoder, N: Noise> Work for Run<'_, C, N> {
    #[inline(always)]
    fn run(self) {
        let Tile { bins, mantissas, wide, .. } = self.tile;
        let contexts = bins.iter().copied().zip(mantissas.iter().copied());
        for (residual, context) in wide.iter_mut().zip(contexts).take(self.count) {
            *residual = self.model.code(self.coder, self.noise, context, *residual);
        }
    }
}

impl Noise for BitSink<'_> {
    #[inline(always)]
    fn code(&mut self, value: u64, width: u32) -> u64 {
        self.put(value, width);
        value & ((1 << width) - 1)
    }
}

impl Noise for Bits<'_> {
    #[inline(always)]
    fn code(&mut self, _value: u64, width: u32) -> u64 {
        self.take(width)
    }
}
