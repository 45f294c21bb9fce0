//! Floats that are multiples of one power of two, coded as the whole numbers that they are: what was rounded to a grid.
//!
//! The lowest bits of such words are zeros, as many as their exponent says, which no coder of words sees. As whole numbers they have no
//! such bits, and steps from an earlier version are as wide whatever the size of a word.
//!
//! Stored form:
//!
//! 1. the exponent field, as a binary64, of the *step* (varint, 1 to 2046);
//! 2. the number of words that are no such multiples (varint, at most one in [`RARE`]); for each the number of words since the one before
//!    it (varint), and the word. In what follows they are 0;
//! 3. the multiples as two's complement words of the same width, as the stored form of [`crate::context`]: on those that are nearest to the
//!    predictions, ties to even, where there are predictions. Multiples are below 2^(bits - 2) in magnitude, of predictions limited to that;
//!    a prediction that is not finite counts as 0.

use shard_core::wire::put_varint;
use shard_core::{FloatFormat, WireReader};

use super::{Recoding, TILE, Tools};
use crate::CodecError;
use crate::chain::Word;
use crate::context;
use crate::kernel::{self, Isa, linear};

/// At most one word in so many is no multiple.
const RARE: usize = 256;
/// The exponent that no value's lowest bit has: that of 0.
const NONE: i32 = i32::MAX;

/// Words of whole numbers of the same width.
fn whole(word: Word) -> Word {
    Word { float: None, units: None, ..word }
}

/// Multiples of a word are below this.
fn limit(word: Word) -> f64 {
    (1u64 << (8 * word.bytes - 2).min(52)) as f64
}

/// The exponent of the lowest bit of a value.
fn lowest(value: f64) -> i32 {
    let (field, mantissa) = ((value.to_bits() >> 52 & 0x7ff) as i32, value.to_bits() & ((1 << 52) - 1));
    let significand = mantissa | u64::from(field > 0) << 52;
    if significand == 0 { NONE } else { field.max(1) - 1075 + significand.trailing_zeros() as i32 }
}

/// The exponent of a value, but for subnormal numbers.
fn highest(value: f64) -> i32 {
    (value.to_bits() >> 52 & 0x7ff) as i32 - 1023
}

/// Whether a few words are enough to tell that there is no grid of so many bits: nearly always, where there is none.
fn has_none(isa: Isa, float: FloatFormat, word: Word, words: &[u8], most_bits: i32) -> bool {
    const FEW: usize = 64;
    let mut values = [0.0; FEW];
    let few = &words[..words.len().min(FEW * word.bytes)];
    let values = &mut values[..few.len() / word.bytes];
    kernel::load(isa, float, few, values);
    // Those that are rare enough to be kept apart are not among so few, or not more than one.
    let mut exponents = [i32::MIN; 2];
    for value in values.iter() {
        let own = highest(*value);
        exponents = if own > exponents[0] { [own, exponents[0]] } else { [exponents[0], exponents[1].max(own)] };
    }
    let is_beyond = |value: &&f64| exponents[1].saturating_sub(lowest(**value)) > most_bits;
    values.iter().filter(is_beyond).count() > FEW / 8
}

/// The exponent field of the step that nearly all words are multiples of, if they are few enough of it.
fn find(isa: Isa, word: Word, words: &[u8]) -> Option<u16> {
    let float = word.float.filter(|float| linear::is_known(*float))?;
    let count = words.len() / word.bytes;
    let mut values = [0.0; TILE];
    let mut step = NONE;
    let most_bits = 8 * word.bytes as i32 - 4;
    if has_none(isa, float, word, words, most_bits) {
        return None;
    }
    let mut top = i32::MIN;
    for tile in words.chunks(TILE * word.bytes) {
        let values = &mut values[..tile.len() / word.bytes];
        kernel::load(isa, float, tile, values);
        // Those that are rare enough to be kept apart do not count.
        let beyond = (2 * values.len() / RARE).min(values.len() - 1);
        let mut exponents: Vec<i32> = values.iter().map(|value| lowest(*value)).collect();
        let (_, least, _) = exponents.select_nth_unstable(beyond);
        step = step.min(*least);
        let mut exponents: Vec<i32> = values.iter().map(|value| highest(*value)).collect();
        let (_, most, _) = exponents.select_nth_unstable(values.len() - 1 - beyond);
        top = top.max(*most);
        // Most words are on no grid, which the first few tell.
        if step != NONE && top.saturating_sub(step) > most_bits {
            return None;
        }
    }
    let field = u16::try_from(step.checked_add(1023)?).ok().filter(|field| (1..=2046).contains(field))?;
    (count > 0 && step != NONE).then_some(field)
}

/// The power of two of an exponent field.
fn power(field: u16) -> f64 {
    f64::from_bits(u64::from(field) << 52)
}

/// The multiples nearest to words.
fn multiples(isa: Isa, word: Word, step: u16, words: &[u8]) -> Option<Vec<u8>> {
    let (float, limit) = (word.float?, limit(word) - 1.0);
    let mut out = Vec::with_capacity(words.len());
    let mut values = [0.0; TILE];
    for tile in words.chunks(TILE * word.bytes) {
        let values = &mut values[..tile.len() / word.bytes];
        kernel::load(isa, float, tile, values);
        for value in values {
            let multiple = (*value / power(step)).round_ties_even().max(-limit).min(limit) as i64;
            out.extend_from_slice(&multiple.to_le_bytes()[..word.bytes]);
        }
    }
    Some(out)
}

/// The words that are these multiples.
fn words_of(isa: Isa, word: Word, step: u16, multiples: &[u8], out: &mut [u8]) {
    let Some(float) = word.float else { return };
    let (mut wide, mut values) = ([0; TILE], [0.0; TILE]);
    let zeros = [0; 8 * TILE];
    for (multiples, out) in multiples.chunks(TILE * word.bytes).zip(out.chunks_mut(TILE * word.bytes)) {
        let count = multiples.len() / word.bytes;
        kernel::widen(word.bytes, multiples, &mut wide[..count]);
        values.iter_mut().zip(&wide[..count]).for_each(|(value, multiple)| *value = *multiple as f64 * power(step));
        kernel::shift(isa, float, &values[..count], &zeros[..out.len()], out);
    }
}

fn encode(tools: &mut Tools<'_>, input: context::Input<'_>, out: &mut Vec<u8>) -> Option<()> {
    let (isa, level) = (tools.workspace.isa(), tools.workspace.level());
    let step = find(isa, input.word, input.words)?;
    let context::Input { word, words, prediction, .. } = input;
    let mut own = multiples(isa, word, step, words)?;
    let mut again = vec![0; words.len()];
    words_of(isa, word, step, &own, &mut again);
    let most = words.len() / word.bytes / RARE;
    let (mut others, mut found, mut last) = (Vec::new(), 0, 0);
    let pairs = words.chunks_exact(word.bytes).zip(again.chunks_exact(word.bytes)).enumerate();
    for (index, (exact, _)) in pairs.filter(|(_, (exact, again))| exact != again) {
        found += 1;
        if found > most {
            return None;
        }
        put_varint(&mut others, (index - last) as u64);
        others.extend_from_slice(exact);
        own[index * word.bytes..(index + 1) * word.bytes].fill(0);
        last = index;
    }
    put_varint(out, u64::from(step));
    put_varint(out, found as u64);
    out.extend_from_slice(&others);
    let on = prediction.map(|prediction| multiples(isa, word, step, prediction).unwrap_or_default());
    let whole =
        context::Input { word: whole(word), words: &own, prediction: on.as_deref(), turned: false, rows: input.rows };
    context::encode(tools.context, isa, level, whole, out).then_some(())
}

fn decode(
    tools: &mut Tools<'_>,
    word: Word,
    prediction: Option<&[u8]>,
    stored: &[u8],
    words: &mut [u8],
) -> Result<(), CodecError> {
    let isa = tools.workspace.isa();
    let body = CodecError::Body;
    let count = words.len() / word.bytes;
    let mut reader = WireReader::new(stored);
    let step = reader.varint_up_to(2046, "step of a grid")? as u16;
    if step == 0 {
        return Err(body("the step of a grid is no power of two"));
    }
    let found = reader.varint_up_to((count / RARE) as u64, "words beside a grid")?;
    let mut others = Vec::with_capacity(found as usize);
    let mut index = 0;
    for _ in 0..found {
        index += reader.varint_up_to(count as u64, "place of a word beside a grid")? as usize;
        let place = index.checked_mul(word.bytes).filter(|at| at + word.bytes <= words.len());
        let place = place.ok_or(body("a word beside a grid is beyond the block"))?;
        others.push((place, reader.bytes(word.bytes)?));
    }
    let rest = stored.get(reader.position()..).unwrap_or_default();
    let on = prediction.map(|prediction| multiples(isa, word, step, prediction).unwrap_or_default());
    let mut own = vec![0; words.len()];
    let wanted = context::Words::Wanted(&mut own);
    context::decode(tools.context, isa, whole(word), on.as_deref(), false, rest, wanted)?;
    words_of(isa, word, step, &own, words);
    for (place, other) in others {
        words[place..place + word.bytes].copy_from_slice(other);
    }
    Ok(())
}

/// See the module.
pub struct Grid;

impl Recoding for Grid {
    fn id(&self) -> u8 {
        super::GRID
    }
    fn name(&self) -> &'static str {
        "grid"
    }
    fn fits(&self, word: Word) -> bool {
        word.float.is_some_and(linear::is_known)
    }
    fn suits(&self, isa: Isa, word: Word, words: &[u8]) -> bool {
        find(isa, word, words).is_some()
    }
    fn put(&self, tools: &mut Tools<'_>, input: context::Input<'_>, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        Ok(encode(tools, input, out).is_some())
    }
    fn take(
        &self,
        tools: &mut Tools<'_>,
        word: Word,
        prediction: Option<&[u8]>,
        stored: &[u8],
        words: &mut [u8],
    ) -> Result<(), CodecError> {
        decode(tools, word, prediction, stored, words)
    }
}
