use shard_core::DType;

use super::values::{Float, Store, bits, values};
use super::{Derivation, Derived, InputLens, Number, Numbers, Target, byte_len, dtype};
use crate::CodecError;
use crate::kernel::{Isa, compiled_for};

pub use super::values::Rounding;

/// Elements that are worked on at a time.
const TILE: usize = 1024;

/// The words of another tensor in another float type: the bf16 copy of an fp32 master, or the master whose upper halves are
/// known.
///
/// Inputs: the words that are cast. Numbers: their type; how they are rounded (0 to the nearest, ties to even; 1 towards zero;
/// 2 to the nearest, ties away); what a NaN becomes ([`NanRule`]); whether what is beyond the largest value becomes that (1) or
/// infinity (0).
pub struct Cast;

/// What a NaN becomes in a cast, since programs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanRule {
    /// Its sign and the upper bits of its payload, made quiet: processors, numpy.
    Payload,
    /// The positive quiet NaN without payload: torch to bf16, one at a time.
    Canonical,
    /// All bits set: torch to bf16, in vectors.
    Ones,
    /// Its sign, and the quiet NaN without payload: torch to fp16, one at a time.
    Signed,
}

impl NanRule {
    const ALL: [Self; 4] = [Self::Payload, Self::Canonical, Self::Ones, Self::Signed];
}

impl Cast {
    /// A cast from that type.
    #[must_use]
    pub fn of(from: DType, rounding: Rounding, nan: NanRule, saturates: bool) -> Derived {
        Derived::new(&Self, &[u64::from(from.wire_id()), rounding as u64, nan as u64, u64::from(saturates)])
    }

    /// The cast that makes most of some words out of others, each with their type, of all casts between these types, and how many
    /// words it makes; `None` where there is no cast.
    #[must_use]
    pub fn find(isa: Isa, (from, source): (DType, &[u8]), (to, words): (DType, &[u8])) -> Option<(Derived, usize)> {
        let (wide, narrow) = (Float::of(from).ok()?, Float::of(to).ok()?);
        let target = Target { dtype: to, len: words.len() };
        let mut out = vec![0; words.len()];
        let mut equal = |cast: Derived| {
            cast.derive(isa, target, source, &mut out).ok()?;
            let pairs = out.chunks_exact(narrow.bytes()).zip(words.chunks_exact(narrow.bytes()));
            Some((cast, pairs.filter(|(made, word)| made == word).count()))
        };
        let count = words.len() / narrow.bytes();
        let is_narrower = narrow.format.mantissa < wide.format.mantissa;
        let mut best = equal(Self::of(from, Rounding::Nearest, NanRule::Payload, false))?;
        let mut rounding = Rounding::Nearest;
        // One after the other: what a NaN becomes does not depend on how numbers are rounded.
        for other in Rounding::ALL.into_iter().skip(1).filter(|_| is_narrower) {
            if best.1 < count {
                let found = equal(Self::of(from, other, NanRule::Payload, false))?;
                if found.1 > best.1 {
                    (best, rounding) = (found, other);
                }
            }
        }
        for saturates in [false, true] {
            for nan in NanRule::ALL {
                if best.1 < count && (saturates || nan != NanRule::Payload) {
                    let found = equal(Self::of(from, rounding, nan, saturates))?;
                    best = if found.1 > best.1 { found } else { best };
                }
            }
        }
        Some(best)
    }
}

/// Puts what a word that is not finite becomes.
pub(super) fn put_special(from: Float, source: &[u8], nan: NanRule, saturates: bool, to: Float, out: &mut [u8]) {
    let word = bits(source);
    let magnitude = word & (from.sign() - 1);
    if magnitude < from.infinity() {
        return;
    }
    let sign = if word & from.sign() != 0 { to.sign() } else { 0 };
    let quiet = 1u64 << to.format.mantissa >> 1;
    let special = if from.dtype != DType::F8E4M3 && magnitude == from.infinity() {
        sign | (to.infinity() - u64::from(saturates))
    } else {
        let payload = magnitude & ((1 << from.format.mantissa) - 1);
        let payload = match to.format.mantissa.checked_sub(from.format.mantissa) {
            Some(more) => payload << more,
            None => payload >> (from.format.mantissa - to.format.mantissa),
        };
        match nan {
            NanRule::Payload => sign | to.infinity() | quiet | payload,
            NanRule::Canonical => to.infinity() | quiet,
            NanRule::Ones => to.sign() | (to.sign() - 1),
            NanRule::Signed => sign | to.infinity() | quiet,
        }
    };
    for (byte, place) in out.iter_mut().enumerate() {
        *place = (special >> (8 * byte)) as u8;
    }
}

impl Derivation for Cast {
    fn id(&self) -> u8 {
        1
    }
    fn name(&self) -> &'static str {
        "cast"
    }
    fn numbers(&self) -> &'static [Number] {
        &[Number::DType, Number::UpTo(2), Number::UpTo(3), Number::UpTo(1)]
    }
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError> {
        let from = Float::of(dtype(numbers[0])?)?;
        Float::of(target.dtype)?;
        Ok(InputLens::of(&[byte_len(from.dtype, target.elements()?)?]))
    }
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let (from, to) = (Float::of(dtype(numbers[0])?)?, Float::of(target.dtype)?);
        let choice = |index: usize| numbers.get(index).map_or(0, |number| *number as usize);
        let rounding = *Rounding::ALL.get(choice(1)).ok_or(CodecError::Chain("no such rounding"))?;
        let nan = *NanRule::ALL.get(choice(2)).ok_or(CodecError::Chain("no such rule for NaN"))?;
        let saturates = numbers[3] == 1;
        let source = inputs.first().copied().unwrap_or_default();
        let mut buffer = [0.0; TILE];
        for (words, out) in source.chunks(TILE * from.bytes()).zip(out.chunks_mut(TILE * to.bytes())) {
            let buffer = &mut buffer[..words.len() / from.bytes()];
            let all_finite = values(isa, from, words, buffer);
            compiled_for(isa, Store { float: to, rounding, saturates, values: buffer, words: out });
            if !all_finite {
                for (word, out) in words.chunks_exact(from.bytes()).zip(out.chunks_exact_mut(to.bytes())) {
                    put_special(from, word, nan, saturates, to, out);
                }
            }
        }
        Ok(())
    }
}
