//! A segment: symbols that share their probabilities.
//!
//! Wire form of its head: a byte, of which bits 0 to 3 are the precision of the table (at most 11), bit 4 says whether
//! probabilities are of 14 bits instead of 12, bits 5 and 6 give the tokens of a symbol (0: 1, 1: 2, 2: 4, 3: 8), and bit 7 says
//! whether all symbols are one, which then follows as a byte. Otherwise the table follows (see the `model` module of
//! [`crate::entropy`]).

use crate::entropy::model::{MOST_PRECISION, Model};
use crate::entropy::{self, Counts};
use crate::kernel::{
    self, COARSE_BITS, DecodeTables, EncodeTables, FINE_BITS, Isa, LANES, MANY_LANES, STATE_LOW, rans_decode,
    rans_decode_wide, rans_encode, rans_encode_wide,
};
use crate::{CodecError, Level};

/// Symbols that share their probabilities.
pub(super) struct Segment {
    /// Bits of a token: 8, 4, 2 or 1.
    pub(super) token_bits: u32,
    coding: Coding,
}

enum Coding {
    Constant(u8),
    Modelled(Box<Model>),
}

fn body(cause: &'static str) -> CodecError {
    CodecError::Body(cause)
}

impl Segment {
    /// The number of symbols that hold so many tokens.
    pub(super) fn symbols(&self, tokens: usize) -> usize {
        tokens.div_ceil((8 / self.token_bits) as usize)
    }

    /// The segment for symbols with these counts (`len` in all), its head appended to `out`.
    pub(super) fn put(level: Level, token_bits: u32, counts: &Counts, len: usize, out: &mut Vec<u8>) -> Self {
        let packing = (8 / token_bits).ilog2() as u8;
        let mut values = (0..=255u8).filter(|value| counts[usize::from(*value)] > 0);
        let first = values.next().unwrap_or(0);
        if values.next().is_none() {
            out.extend([packing << 5 | 1 << 7, first]);
            return Self { token_bits, coding: Coding::Constant(first) };
        }
        let fit = if level == Level::Max { Model::fit } else { Model::fit_fast };
        let (mut model, mut precision) = fit(counts, len, COARSE_BITS);
        let most = counts.iter().max().map_or(0, |most| *most as usize);
        // Only where one value is very frequent do rare ones, with their least share, cost it much.
        if most > len - len / 8 {
            let (fine, fine_precision) = fit(counts, len, FINE_BITS);
            let cost = model.cost(counts);
            let saved = cost.saturating_sub(fine.cost(counts));
            if saved > (16 << 16) && saved * 160 > cost {
                (model, precision) = (fine, fine_precision);
            }
        }
        out.push(precision as u8 | u8::from(model.bits == FINE_BITS) << 4 | packing << 5);
        Model::put(counts, len, precision, out);
        Self { token_bits, coding: Coding::Modelled(Box::new(model)) }
    }

    /// Reads a head; returns what follows it.
    pub(super) fn read(data: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (head, rest) = data.split_first().ok_or(body("a segment's head is missing"))?;
        let token_bits = 8 >> (head >> 5 & 3);
        if head >> 7 == 1 {
            let (symbol, rest) = rest.split_first().ok_or(body("a constant segment has no value"))?;
            if head & 31 != 0 {
                return Err(body("a segment's head is malformed"));
            }
            return Ok((Self { token_bits, coding: Coding::Constant(*symbol) }, rest));
        }
        let precision = u32::from(head & 15);
        if precision > MOST_PRECISION {
            return Err(body("a segment's head is malformed"));
        }
        let bits = if head >> 4 & 1 == 1 { FINE_BITS } else { COARSE_BITS };
        let (model, rest) = Model::read(rest, bits, precision).ok_or(body("a segment's table is malformed"))?;
        Ok((Self { token_bits, coding: Coding::Modelled(Box::new(model)) }, rest))
    }
}

/// Decodes segments one after the other.
pub(super) struct SymbolReader<'a> {
    isa: Isa,
    tables: &'a mut DecodeTables,
    states: [u32; MANY_LANES],
    lanes: usize,
    words: &'a [u8],
}

impl<'a> SymbolReader<'a> {
    /// Starts at the states at the start of `data`.
    pub(super) fn new(
        isa: Isa,
        lanes: usize,
        tables: &'a mut DecodeTables,
        data: &'a [u8],
    ) -> Result<Self, CodecError> {
        let (stored, words) = data.split_at_checked(4 * lanes).ok_or(body("rANS states are missing"))?;
        let mut states = [STATE_LOW; MANY_LANES];
        for (state, bytes) in states.iter_mut().zip(stored.as_chunks::<4>().0) {
            *state = u32::from_le_bytes(*bytes);
        }
        Ok(Self { isa, tables, states, lanes, words })
    }

    /// Decodes as many symbols as `out` has bytes.
    pub(super) fn take(&mut self, segment: &Segment, out: &mut [u8]) -> Result<(), CodecError> {
        let model = match &segment.coding {
            Coding::Constant(symbol) => {
                out.fill(*symbol);
                return Ok(());
            }
            Coding::Modelled(model) => model,
        };
        if out.is_empty() {
            return Ok(());
        }
        let fine = model.bits == FINE_BITS;
        self.tables.fill(fine, &model.frequencies);
        let used = if fine { self.run::<true>(out) } else { self.run::<false>(out) };
        let used = used.ok_or(body("rANS words run out"))?;
        self.words = self.words.get(used..).unwrap_or_default();
        Ok(())
    }

    fn run<const FINE: bool>(&mut self, out: &mut [u8]) -> Option<usize> {
        let Self { isa, tables, states, words, .. } = self;
        match self.lanes {
            1 => rans_decode::<FINE, 1>(tables, states.first_chunk_mut()?, words, out),
            4 => rans_decode::<FINE, 4>(tables, states.first_chunk_mut()?, words, out),
            LANES => rans_decode_wide::<FINE, LANES>(*isa, tables, states.first_chunk_mut()?, words, out),
            _ => rans_decode_wide::<FINE, MANY_LANES>(*isa, tables, states, words, out),
        }
    }

    /// Checks that the states came out even; returns what follows the words.
    pub(super) fn finish(self) -> Result<&'a [u8], CodecError> {
        if self.states != [STATE_LOW; MANY_LANES] {
            return Err(body("rANS states do not return to the start"));
        }
        Ok(self.words)
    }
}

/// Encodes segments, the last one first.
pub(super) struct SymbolWriter<'a> {
    isa: Isa,
    tables: &'a mut EncodeTables,
    states: [u32; MANY_LANES],
    lanes: usize,
    /// Room for the words, filled from its end.
    words: &'a mut [u8],
    first: usize,
}

impl<'a> SymbolWriter<'a> {
    pub(super) fn new(isa: Isa, lanes: usize, tables: &'a mut EncodeTables, words: &'a mut [u8]) -> Self {
        let first = words.len();
        Self { isa, tables, states: [STATE_LOW; MANY_LANES], lanes, words, first }
    }

    /// Takes the symbols of a segment in. `None` where the words do not fit.
    pub(super) fn put(&mut self, segment: &Segment, symbols: &[u8]) -> Option<()> {
        let Coding::Modelled(model) = &segment.coding else { return Some(()) };
        self.tables.fill(model.bits, &model.frequencies);
        let Self { isa, tables, states, words, first, .. } = self;
        self.first = match self.lanes {
            1 => rans_encode::<1>(tables, states.first_chunk_mut()?, symbols, words, *first),
            4 => rans_encode::<4>(tables, states.first_chunk_mut()?, symbols, words, *first),
            LANES => rans_encode_wide::<LANES>(*isa, tables, states.first_chunk_mut()?, symbols, words, *first),
            _ => rans_encode_wide::<MANY_LANES>(*isa, tables, states, symbols, words, *first),
        }?;
        Some(())
    }

    /// Appends states and words.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        for state in &self.states[..self.lanes] {
            out.extend_from_slice(&state.to_le_bytes());
        }
        out.extend_from_slice(&self.words[self.first..]);
    }
}

/// What symbols with these counts take, table included, in units of 2^-16 bit.
pub(super) fn cost(counts: &Counts, len: usize) -> u64 {
    let (bits, values) = entropy::entropy_of(len as u32, counts.iter().copied());
    bits + ((8 + 5 * values) << 16)
}

pub(super) use kernel::histogram;
