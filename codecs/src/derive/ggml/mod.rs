mod super_blocks;

use shard_core::DType;

use super::values::{Float, Store, values};
use super::{Derivation, Derived, InputLens, Number, Numbers, Rounding, Target, byte_len, dtype};
use crate::CodecError;
use crate::kernel::{Isa, Work, compiled_for};

/// Blocks of quantised elements as GGML makes them of floats (its reference code, not the search with importances).
///
/// Input: the floats, which are used as binary32. Numbers: their type; whether a product and the sum after it are rounded once
/// (1), as by compilers that fuse them, or each (0).
pub struct Ggml;

impl Ggml {
    /// Blocks made of floats of that type.
    #[must_use]
    pub fn of(source: DType, fused: bool) -> Derived {
        Derived::new(&Self, &[u64::from(source.wire_id()), u64::from(fused)])
    }

    /// The types that it makes.
    #[must_use]
    pub fn makes(dtype: DType) -> bool {
        matches!(
            dtype,
            DType::Q4_0
                | DType::Q4_1
                | DType::Q5_0
                | DType::Q5_1
                | DType::Q8_0
                | DType::Q2_K
                | DType::Q3_K
                | DType::Q4_K
                | DType::Q5_K
                | DType::Q6_K
        )
    }
}

/// How products and sums are rounded.
struct Arithmetic {
    fused: bool,
    half: Float,
}

impl Arithmetic {
    /// `a · b + c`.
    #[inline(always)]
    fn multiply_add(&self, a: f32, b: f32, c: f32) -> f32 {
        if self.fused {
            // The product is exact.
            (f64::from(a) * f64::from(b) + f64::from(c)) as f32
        } else {
            a * b + c
        }
    }

    /// Puts a binary16, and gives its value.
    #[inline(always)]
    fn put_half(&self, value: f32, out: &mut [u8]) -> f32 {
        let finite = if value.is_finite() { value } else { 0.0 };
        let store = Store {
            float: self.half,
            rounding: Rounding::Nearest,
            saturates: false,
            values: &[f64::from(finite)],
            words: out,
        };
        store.run();
        let mut read = [0.0];
        values(Isa::SCALAR, self.half, out, &mut read);
        read[0] as f32
    }
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// A number without its fraction, as C converts it.
#[inline(always)]
fn whole(value: f32) -> u8 {
    value as i32 as u8
}

/// Puts codes of 4 or 5 bits: the first half of them in low nibbles, fifth bits in a word of their own before that.
#[inline(always)]
pub(crate) fn put_codes<const BITS: u32>(codes: &[u8; 32], out: &mut [u8]) {
    let nibbles = if BITS == 5 {
        let fifth = codes.iter().enumerate().fold(0u32, |bits, (at, code)| bits | u32::from(code >> 4 & 1) << at);
        let (word, nibbles) = out.split_at_mut(4);
        word.copy_from_slice(&fifth.to_le_bytes());
        nibbles
    } else {
        out
    };
    let (low, high) = codes.split_at(16);
    for (out, (low, high)) in nibbles.iter_mut().zip(low.iter().zip(high)) {
        *out = low & 15 | high << 4;
    }
}

/// A scale such that the value of the largest magnitude, by its sign, is the lowest code; codes around `HALF`.
#[inline(always)]
fn symmetric<const HALF: i8>(with: &Arithmetic, x: &[f32], out: &mut [u8]) {
    let mut largest = 0.0f32;
    for value in x {
        largest = if value.abs() > largest.abs() { *value } else { largest };
    }
    let scale = largest / -f32::from(HALF);
    let factor = inverse(scale);
    with.put_half(scale, &mut out[..2]);
    let mut codes = [0; 32];
    for (code, value) in codes.iter_mut().zip(x) {
        *code = whole(with.multiply_add(*value, factor, f32::from(HALF) + 0.5)).min(2 * HALF as u8 - 1);
    }
    if HALF == 8 { put_codes::<4>(&codes, &mut out[2..]) } else { put_codes::<5>(&codes, &mut out[2..]) }
}

/// A scale and a minimum; codes up to `MOST`.
#[inline(always)]
fn affine<const MOST: u8>(with: &Arithmetic, x: &[f32], out: &mut [u8]) {
    let (mut least, mut most) = (f32::MAX, -f32::MAX);
    for value in x {
        least = if *value < least { *value } else { least };
        most = if *value > most { *value } else { most };
    }
    let scale = (most - least) / f32::from(MOST);
    let factor = inverse(scale);
    with.put_half(scale, &mut out[..2]);
    with.put_half(least, &mut out[2..4]);
    let mut codes = [0; 32];
    for (code, value) in codes.iter_mut().zip(x) {
        *code = whole(with.multiply_add(value - least, factor, 0.5)).min(MOST);
    }
    if MOST == 15 { put_codes::<4>(&codes, &mut out[4..]) } else { put_codes::<5>(&codes, &mut out[4..]) }
}

/// A scale such that the largest magnitude is 127, and codes of a byte.
#[inline(always)]
fn bytes(with: &Arithmetic, x: &[f32], out: &mut [u8]) {
    let largest = x.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = largest / 127.0;
    let factor = inverse(scale);
    with.put_half(scale, &mut out[..2]);
    for (out, value) in out[2..].iter_mut().zip(x) {
        *out = (value * factor).round() as i32 as i8 as u8;
    }
}

/// All blocks of a run.
struct Run<'a> {
    dtype: DType,
    with: Arithmetic,
    floats: &'a [f32],
    out: &'a mut [u8],
}

impl Work for Run<'_> {
    #[inline(always)]
    fn run(self) {
        // Each by itself, and not by a pointer: only what is inlined is compiled again.
        match self.dtype {
            DType::Q4_0 => self.each(symmetric::<8>),
            DType::Q5_0 => self.each(symmetric::<16>),
            DType::Q4_1 => self.each(affine::<15>),
            DType::Q5_1 => self.each(affine::<31>),
            DType::Q8_0 => self.each(bytes),
            DType::Q2_K => self.each(super_blocks::q2),
            DType::Q3_K => self.each(super_blocks::q3),
            DType::Q4_K => self.each(super_blocks::q4_or_q5::<4>),
            DType::Q5_K => self.each(super_blocks::q4_or_q5::<5>),
            DType::Q6_K => self.each(super_blocks::q6),
            _ => {}
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn each(self, quantise: impl Fn(&Arithmetic, &[f32], &mut [u8])) {
        let (elements, bytes) = self.dtype.storage_unit();
        let blocks = self.out.chunks_exact_mut(bytes as usize);
        for (floats, out) in self.floats.chunks_exact(elements as usize).zip(blocks) {
            quantise(&self.with, floats, out);
        }
    }
}

impl Derivation for Ggml {
    fn id(&self) -> u8 {
        4
    }
    fn name(&self) -> &'static str {
        "ggml"
    }
    fn is_slow(&self, dtype: DType) -> bool {
        // Sub-blocks search for their scales: 10 to 50 MB/s.
        dtype.storage_unit().0 == 256
    }
    fn numbers(&self) -> &'static [Number] {
        &[Number::DType, Number::UpTo(1)]
    }
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError> {
        if !Self::makes(target.dtype) {
            return Err(CodecError::Chain("the block is not of a type that is made of floats"));
        }
        Ok(InputLens::of(&[byte_len(Float::of(dtype(numbers[0])?)?.dtype, target.elements()?)?]))
    }
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let from = Float::of(dtype(numbers[0])?)?;
        let (elements, bytes) = target.dtype.storage_unit();
        let (elements, bytes) = (elements as usize, bytes as usize);
        let source = inputs.first().copied().unwrap_or_default();
        let half = Float::of(DType::F16)?;
        const BLOCKS: usize = 32;
        let (mut wide, mut floats) = (vec![0.0; elements * BLOCKS], vec![0.0; elements * BLOCKS]);
        let parts = source.chunks(elements * BLOCKS * from.bytes()).zip(out.chunks_mut(bytes * BLOCKS));
        for (words, out) in parts {
            let count = words.len() / from.bytes();
            values(isa, from, words, &mut wide[..count]);
            floats.iter_mut().zip(&wide[..count]).for_each(|(float, value)| *float = *value as f32);
            let with = Arithmetic { fused: numbers[1] == 1, half };
            compiled_for(isa, Run { dtype: target.dtype, with, floats: &floats[..count], out });
        }
        Ok(())
    }
}
