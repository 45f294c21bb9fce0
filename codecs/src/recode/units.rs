//! Units of codes that share a scale: GGML's `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` and `Q8_0`, against an earlier version.
//!
//! When one weight of a unit moves its scale, all codes move with it. So the scales go first, and each code is predicted to be what the old
//! one stands for in the new scale: `(q * d' + (m' - m)) / d` for a code `q`, the old scale `d'` and minimum `m'`, the new ones `d` and
//! `m` (0 for types that have none), each operation in binary32, to the nearest, ties to even, and limited to the codes that there are;
//! `q` itself where the unit has the scales it had, or where one is no finite number, or the new one is 0. What the code differs by is
//! coded by how far that was rounded, and by how much the scale moved.
//!
//! Stored form:
//!
//! 1. the length of the scales (varint), and the scales: words of `F16`, first of all units the scale, then of all the minimum where the
//!    type has one, as the stored form of [`crate::context`] on the old ones; or as they are, where that is no longer;
//! 2. the differences modulo 256, a word of `F8_E5M2` each, as the stored form of [`crate::context`] for the words that have them as
//!    residuals, on predictions whose exponent field is the *context*, with sign and mantissa 0. A difference is negated where the prediction
//!    was rounded up. The context is 1 where `q` itself was taken. Else 2, 1 more for each eighth of a code that the prediction was rounded by
//!    (to 3), and 4 more where `|d' - d| * 64` is at least `d'` in magnitude, 8 more where `|d' - d| * 16` is.

use shard_core::wire::put_varint;
use shard_core::{DType, WireReader};

use super::{Recoding, Tools};
use crate::CodecError;
use crate::chain::Word;
use crate::context::{self, Rows};
use crate::derive::put_codes;
use crate::kernel::{self, Isa};
use crate::predict::Predictor;

/// Codes of a unit.
const CODES: usize = 32;
/// Where the exponent field of a word of `F8_E5M2` starts.
const FIELD: u32 = 2;

/// How the units of a type are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Bytes of a unit: the scale, the minimum where there is one, the codes.
    bytes: usize,
    has_minimum: bool,
    /// Bits of a code.
    bits: u32,
}

impl Units {
    /// Those of a type; `None` for types whose units are no such.
    #[must_use]
    pub(crate) fn of(dtype: DType) -> Option<Self> {
        let (bytes, has_minimum, bits) = match dtype {
            DType::Q4_0 => (18, false, 4),
            DType::Q4_1 => (20, true, 4),
            DType::Q5_0 => (22, false, 5),
            DType::Q5_1 => (24, true, 5),
            DType::Q8_0 => (34, false, 8),
            _ => return None,
        };
        Some(Self { bytes, has_minimum, bits })
    }

    /// Whether so many bytes are units, and some.
    fn are_whole(self, len: usize) -> bool {
        len > 0 && len.is_multiple_of(self.bytes)
    }

    fn fields(self) -> usize {
        1 + usize::from(self.has_minimum)
    }

    /// The highest code, and the one that stands for 0: codes are taken for unsigned numbers here.
    fn codes(self) -> (f32, f32) {
        let most = ((1u32 << self.bits) - 1) as f32;
        (most, if self.has_minimum { 0.0 } else { (1u32 << (self.bits - 1)) as f32 })
    }

    /// The scales of all units, then their minima.
    fn scales(self, words: &[u8]) -> Vec<u8> {
        let field =
            |index: usize| words.chunks_exact(self.bytes).flat_map(move |unit| [unit[2 * index], unit[2 * index + 1]]);
        (0..self.fields()).flat_map(field).collect()
    }

    /// The codes of a unit.
    fn unpack(self, unit: &[u8], codes: &mut [u8; CODES]) {
        let packed = &unit[2 * self.fields()..];
        if self.bits == 8 {
            codes.copy_from_slice(packed);
            codes.iter_mut().for_each(|code| *code ^= 0x80);
            return;
        }
        let (fifth, nibbles) = packed.split_at(if self.bits == 5 { 4 } else { 0 });
        let fifth = fifth.iter().rev().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let (low, high) = codes.split_at_mut(CODES / 2);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(nibbles) {
            (*low, *high) = (byte & 15, byte >> 4);
        }
        codes.iter_mut().enumerate().for_each(|(at, code)| *code |= ((fifth >> at & 1) as u8) << 4);
    }

    fn pack(self, codes: &[u8; CODES], unit: &mut [u8]) {
        let packed = &mut unit[2 * self.fields()..];
        match self.bits {
            4 => put_codes::<4>(codes, packed),
            5 => put_codes::<5>(codes, packed),
            _ => packed.iter_mut().zip(codes).for_each(|(packed, code)| *packed = code ^ 0x80),
        }
    }

    /// Rows of codes, from rows of bytes.
    fn rows(self, rows: Option<Rows>) -> Option<Rows> {
        let rows = rows.filter(|rows| (rows.len as usize).is_multiple_of(self.bytes))?;
        let codes = |bytes: u32| u32::try_from(bytes as usize / self.bytes * CODES).ok();
        Some(Rows { len: codes(rows.len)?, phase: codes(rows.phase)? })
    }
}

/// What the old unit and the new scales say of the new codes.
struct Rescaled {
    most: f32,
    zero: f32,
    /// The old scale over the new, as `value = (code * old + shift) / new`; `None` where codes stay.
    moved: Option<(f32, f32, f32)>,
    base: u8,
}

impl Rescaled {
    /// `old` and `new` are the scale and the minimum of a unit.
    fn new(units: Units, old: [f32; 2], new: [f32; 2]) -> Self {
        let (most, zero) = units.codes();
        let is_same = old.map(f32::to_bits) == new.map(f32::to_bits);
        let is_usable = old.iter().chain(&new).all(|scale| scale.is_finite()) && new[0] != 0.0;
        let change = (old[0] - new[0]).abs();
        let far = u8::from(change * 64.0 >= old[0].abs()) + u8::from(change * 16.0 >= old[0].abs());
        let base = match far {
            0 => 2,
            1 => 6,
            _ => 14,
        };
        let moved = (!is_same && is_usable).then_some((old[0], old[1] - new[1], new[0]));
        Self { most, zero, moved, base }
    }

    /// The code, whether the prediction was rounded up, and the context.
    fn predict(&self, code: u8) -> (u8, bool, u8) {
        let Some((old, shift, new)) = self.moved else { return (code, false, 1) };
        let exact = ((f32::from(code) - self.zero) * old + shift) / new + self.zero;
        let exact = exact.max(0.0).min(self.most);
        let whole = exact.round_ties_even();
        let off = exact - whole;
        let eighths = ((off.abs() * 8.0) as u8).min(3);
        (whole as u8, off < 0.0, self.base + eighths)
    }
}

/// Shows each unit: its predictor and its place, given the old and new scales as [`Units::scales`] has them.
fn each_unit(units: Units, old: &[u8], new: &[u8], mut show: impl FnMut(usize, &Rescaled)) {
    let count = old.len() / 2 / units.fields();
    let value = |scales: &[u8], field: usize, at: usize| {
        let at = 2 * (field * count + at);
        if field < units.fields() { half(u16::from_le_bytes([scales[at], scales[at + 1]])) } else { 0.0 }
    };
    for at in 0..count {
        let [old, new] = [old, new].map(|scales| [value(scales, 0, at), value(scales, 1, at)]);
        show(at, &Rescaled::new(units, old, new));
    }
}

/// The value of a word of `F16`.
fn half(bits: u16) -> f32 {
    let (exponent, mantissa) = (u32::from(bits >> 10 & 31), u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa as f32 / 16_777_216.0,
        31 => f32::from_bits(0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits((exponent + 112) << 23 | mantissa << 13),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn scale_word() -> Word {
    Word::of(Some(DType::F16))
}

fn code_word() -> Word {
    Word::of(Some(DType::F8E5M2))
}

fn encode(tools: &mut Tools<'_>, input: context::Input<'_>, out: &mut Vec<u8>) -> Option<()> {
    let (isa, level) = (tools.workspace.isa(), tools.workspace.level());
    let (units, prediction) = (input.word.units?, input.prediction?);
    if !units.are_whole(input.words.len()) {
        return None;
    }
    let (old, new) = (units.scales(prediction), units.scales(input.words));
    let mut scales = Vec::new();
    let scale_input =
        context::Input { word: scale_word(), words: &new, prediction: Some(&old), turned: false, rows: None };
    if !context::encode(tools.context, isa, level, scale_input, &mut scales) {
        scales.clone_from(&new);
    }
    put_varint(out, scales.len() as u64);
    out.extend_from_slice(&scales);

    let count = input.words.len() / units.bytes * CODES;
    let (mut differences, mut on) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (mut before, mut now) = ([0; CODES], [0; CODES]);
    each_unit(units, &old, &new, |at, predictor| {
        let place = at * units.bytes..(at + 1) * units.bytes;
        units.unpack(&prediction[place.clone()], &mut before);
        units.unpack(&input.words[place], &mut now);
        for (before, now) in before.iter().zip(now) {
            let (code, is_up, context) = predictor.predict(*before);
            let difference = now.wrapping_sub(code);
            differences.push(if is_up { difference.wrapping_neg() } else { difference });
            on.push(context << FIELD);
        }
    });
    let word = code_word();
    let mut words = vec![0; count];
    kernel::step_inverse(isa, word, &differences, &on, &mut words);
    let rows = units.rows(input.rows);
    let code_input = context::Input { word, words: &words, prediction: Some(&on), turned: false, rows };
    context::encode(tools.context, isa, level, code_input, out).then_some(())
}

fn decode(
    tools: &mut Tools<'_>,
    units: Units,
    prediction: &[u8],
    stored: &[u8],
    words: &mut [u8],
) -> Result<(), CodecError> {
    let isa = tools.workspace.isa();
    let body = CodecError::Body;
    if !units.are_whole(words.len()) {
        return Err(body("units are not whole"));
    }
    let old = units.scales(prediction);
    let mut reader = WireReader::new(stored);
    let len = reader.varint_up_to(old.len() as u64, "length of the scales")? as usize;
    let scales = reader.bytes(len)?;
    let mut new = vec![0; old.len()];
    if len == new.len() {
        new.copy_from_slice(scales);
    } else {
        let wanted = context::Words::Wanted(&mut new);
        context::decode(tools.context, isa, scale_word(), Some(&old), false, scales, wanted)?;
    }
    let count = words.len() / units.bytes * CODES;
    let (mut codes, mut on) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut turned = Vec::with_capacity(count);
    let mut before = [0; CODES];
    each_unit(units, &old, &new, |at, predictor| {
        units.unpack(&prediction[at * units.bytes..(at + 1) * units.bytes], &mut before);
        for before in before {
            let (code, is_up, context) = predictor.predict(before);
            codes.push(code);
            turned.push(is_up);
            on.push(context << FIELD);
        }
    });
    let rest = stored.get(reader.position()..).unwrap_or_default();
    let mut coded = vec![0; count];
    context::decode(tools.context, isa, code_word(), Some(&on), false, rest, context::Words::Wanted(&mut coded))?;
    let mut differences = on;
    let on = differences.clone();
    kernel::step_forward(isa, code_word(), &coded, &on, &mut differences);
    let mut is_beyond = false;
    for ((code, difference), is_up) in codes.iter_mut().zip(&differences).zip(&turned) {
        *code = code.wrapping_add(if *is_up { difference.wrapping_neg() } else { *difference });
        is_beyond |= u32::from(*code) >> units.bits != 0;
    }
    if is_beyond {
        return Err(body("a code has more bits than there are"));
    }
    let scales_of = new.len() / units.fields();
    for (at, (unit, codes)) in words.chunks_exact_mut(units.bytes).zip(codes.as_chunks().0).enumerate() {
        for field in 0..units.fields() {
            let from = field * scales_of + 2 * at;
            unit[2 * field..2 * field + 2].copy_from_slice(&new[from..from + 2]);
        }
        units.pack(codes, unit);
    }
    Ok(())
}

/// See the module.
pub struct UnitCodes;

impl Recoding for UnitCodes {
    fn id(&self) -> u8 {
        super::UNITS
    }
    fn name(&self) -> &'static str {
        "units"
    }
    fn fits(&self, word: Word) -> bool {
        word.units.is_some()
    }
    fn goes_with(&self, predictor: &dyn Predictor) -> bool {
        predictor.bases() == 1
    }
    fn may_be(&self, word: Word, len: usize) -> bool {
        word.units.is_some_and(|units| units.are_whole(len))
    }
    fn suits(&self, _isa: Isa, word: Word, words: &[u8]) -> bool {
        self.may_be(word, words.len())
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
        let units = word.units.ok_or(CodecError::Chain("the type has no units"))?;
        decode(tools, units, prediction.ok_or(CodecError::BaseMissing)?, stored, words)
    }
}
