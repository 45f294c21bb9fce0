//! Floats of a wide type whose values a narrower one has too, coded as words of that: what was computed in one type and saved in
//! another.
//!
//! Stored form: the wire id of the narrower type (byte: `BF16`, `F16`, of `F64` also `F32`), then its words, as the stored form of
//! [`crate::context`]; where there are predictions, on these rounded to the narrower type (to the nearest, ties to even, 0 where they are
//! not finite).

use shard_core::DType;

use super::{Recoding, TILE, Tools};
use crate::CodecError;
use crate::chain::Word;
use crate::context;
use crate::derive::{Float, store, values};
use crate::kernel::Isa;

/// The type of words of that kind, where there are narrower ones.
fn wide(word: Word) -> Option<DType> {
    let dtype = if word.bytes == 4 { DType::F32 } else { DType::F64 };
    (Word::of(Some(dtype)) == word).then_some(dtype)
}

/// Types that are narrower, the narrowest first.
fn narrower(dtype: DType) -> &'static [DType] {
    match dtype {
        DType::F32 => &[DType::BF16, DType::F16],
        DType::F64 => &[DType::BF16, DType::F16, DType::F32],
        _ => &[],
    }
}

/// Words of one type as those of another, to the nearest.
fn cast(isa: Isa, from: DType, to: DType, words: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
    let (source, target) = (Float::of(from)?, Float::of(to)?);
    let mut wide = [0.0; TILE];
    let pieces = words.chunks(TILE * from.word_bytes()).zip(out.chunks_mut(TILE * to.word_bytes()));
    for (words, out) in pieces {
        let wide = &mut wide[..words.len() / from.word_bytes()];
        values(isa, source, words, wide);
        store(isa, target, wide, out);
    }
    Ok(())
}

/// The narrowest type that has all values of some words, if one has.
fn find(isa: Isa, word: Word, words: &[u8]) -> Option<DType> {
    let from = wide(word)?;
    let is_exact = |to: DType| {
        let (mut short, mut again) = ([0; 8 * TILE], [0; 8 * TILE]);
        words.chunks(TILE * word.bytes).all(|words| {
            let short = &mut short[..words.len() / word.bytes * to.word_bytes()];
            let again = &mut again[..words.len()];
            cast(isa, from, to, words, short).and_then(|()| cast(isa, to, from, short, again)).is_ok() && again == words
        })
    };
    narrower(from).iter().copied().find(|to| !words.is_empty() && is_exact(*to))
}

fn encode(tools: &mut Tools<'_>, input: context::Input<'_>, out: &mut Vec<u8>) -> Option<()> {
    let (isa, level) = (tools.workspace.isa(), tools.workspace.level());
    let (from, to) = (wide(input.word)?, find(isa, input.word, input.words)?);
    let narrowed = |words: &[u8]| {
        let mut short = vec![0; words.len() / from.word_bytes() * to.word_bytes()];
        cast(isa, from, to, words, &mut short).ok().map(|()| short)
    };
    let words = narrowed(input.words)?;
    let prediction = match input.prediction {
        Some(prediction) => Some(narrowed(prediction)?),
        None => None,
    };
    out.push(to.wire_id());
    let word = Word::of(Some(to));
    let short =
        context::Input { word, words: &words, prediction: prediction.as_deref(), turned: false, rows: input.rows };
    context::encode(tools.context, isa, level, short, out).then_some(())
}

fn decode(
    tools: &mut Tools<'_>,
    word: Word,
    prediction: Option<&[u8]>,
    stored: &[u8],
    words: &mut [u8],
) -> Result<(), CodecError> {
    let isa = tools.workspace.isa();
    let body = CodecError::Body("a narrower type is not one");
    let from = wide(word).ok_or(CodecError::Chain("the type has none that are narrower"))?;
    let (id, rest) = stored.split_first().ok_or(CodecError::Body("the narrower type is missing"))?;
    let to = DType::from_wire_id(*id).filter(|to| narrower(from).contains(to)).ok_or(body)?;
    let len = words.len() / from.word_bytes() * to.word_bytes();
    let mut short = vec![0; len];
    let on = match prediction {
        Some(prediction) => {
            let mut on = vec![0; len];
            cast(isa, from, to, prediction, &mut on)?;
            Some(on)
        }
        None => None,
    };
    let wanted = context::Words::Wanted(&mut short);
    context::decode(tools.context, isa, Word::of(Some(to)), on.as_deref(), false, rest, wanted)?;
    cast(isa, to, from, &short, words)
}

/// See the module.
pub struct Narrow;

impl Recoding for Narrow {
    fn id(&self) -> u8 {
        super::NARROW
    }
    fn name(&self) -> &'static str {
        "narrow"
    }
    fn fits(&self, word: Word) -> bool {
        wide(word).is_some()
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
