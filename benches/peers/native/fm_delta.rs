//! FM-Delta, after the paper ("FM-Delta: Lossless Compression for Storing Massive Fine-tuned Foundation Models", Ning et al.,
//! NeurIPS 2024): words are mapped to integers in the order of the floats; of the difference to the base, the sign and the
//! place of the highest bit are one symbol of an adaptive range coder, and the bits below are stored as they are.

use std::error::Error;

use shard_core::DType;

use crate::codec::Codec;
use crate::range_coder::{Decoder, Encoder, Model};
use crate::tensors::Tensor;

/// One model for each tensor.
pub(crate) struct FmDelta;

impl Codec for FmDelta {
    fn encode(&mut self, tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
        let base = tensor.base.as_deref().ok_or("FM-Delta needs a base")?;
        let float = is_float(tensor.dtype);
        match tensor.dtype.word_bytes() {
            1 => encode::<1>(&tensor.data, base, float, out),
            2 => encode::<2>(&tensor.data, base, float, out),
            4 => encode::<4>(&tensor.data, base, float, out),
            _ => encode::<8>(&tensor.data, base, float, out),
        }
        Ok(())
    }

    fn decode(&mut self, stored: &[u8], tensor: &Tensor, out: &mut [u8]) -> Result<(), Box<dyn Error>> {
        let base = tensor.base.as_deref().ok_or("FM-Delta needs a base")?;
        let float = is_float(tensor.dtype);
        match tensor.dtype.word_bytes() {
            1 => decode::<1>(stored, base, float, out),
            2 => decode::<2>(stored, base, float, out),
            4 => decode::<4>(stored, base, float, out),
            _ => decode::<8>(stored, base, float, out),
        }
        Ok(())
    }
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16 | DType::F32 | DType::F64)
}

/// The sign bit of words of `W` bytes.
const fn top<const W: usize>() -> u64 {
    1 << (8 * W - 1)
}

/// A word as an integer; for floats in their order.
fn ordered<const W: usize>(word: &[u8; W], float: bool) -> u64 {
    let mut bytes = [0; 8];
    bytes[..W].copy_from_slice(word);
    let bits = u64::from_le_bytes(bytes);
    match (float, bits & top::<W>() != 0) {
        (false, _) => bits,
        (true, true) => !bits & (top::<W>() | (top::<W>() - 1)),
        (true, false) => bits | top::<W>(),
    }
}

/// The inverse of [`ordered`]; bits above the word do not matter.
fn unordered<const W: usize>(integer: u64, float: bool) -> [u8; W] {
    let bits = match (float, integer & top::<W>() != 0) {
        (false, _) => integer,
        (true, true) => integer & !top::<W>(),
        (true, false) => !integer,
    };
    let mut word = [0; W];
    word.copy_from_slice(&bits.to_le_bytes()[..W]);
    word
}

fn symbols<const W: usize>() -> usize {
    2 * 8 * W + 1
}

fn encode<const W: usize>(data: &[u8], base: &[u8], float: bool, out: &mut Vec<u8>) {
    let (words, tail) = data.as_chunks::<W>();
    let (base, _) = base.as_chunks::<W>();
    let start = out.len();
    let (mut encoder, mut model) = (Encoder::new(out), Model::new(symbols::<W>()));
    let unused = 64 - 8 * W as u32;
    for (word, base) in words.iter().zip(base) {
        let difference = ordered(word, float).wrapping_sub(ordered(base, float));
        let difference = ((difference << unused) as i64) >> unused;
        let size = difference.unsigned_abs();
        if size == 0 {
            encoder.symbol(&mut model, 0);
            continue;
        }
        let bits = 64 - size.leading_zeros();
        encoder.symbol(&mut model, 2 * bits as usize - usize::from(difference > 0));
        encoder.bits(size, bits - 1);
    }
    encoder.finish();
    debug_assert!(out.len() > start);
    out.extend_from_slice(tail);
}

fn decode<const W: usize>(stored: &[u8], base: &[u8], float: bool, out: &mut [u8]) {
    let (words, tail) = out.as_chunks_mut::<W>();
    let (base, _) = base.as_chunks::<W>();
    let (stored, stored_tail) = stored.split_at(stored.len().saturating_sub(tail.len()));
    tail.copy_from_slice(stored_tail);
    let (mut decoder, mut model) = (Decoder::new(stored), Model::new(symbols::<W>()));
    for (word, base) in words.iter_mut().zip(base) {
        let symbol = decoder.symbol(&mut model);
        let mut integer = ordered(base, float);
        if symbol > 0 {
            let bits = symbol.div_ceil(2) as u32;
            let size = 1 << (bits - 1) | decoder.bits(bits - 1);
            integer = if symbol % 2 == 1 { integer.wrapping_add(size) } else { integer.wrapping_sub(size) };
        }
        *word = unordered(integer, float);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(dtype: DType, data: Vec<u8>, base: Vec<u8>) {
        let tensor = Tensor { name: "w".to_owned(), dtype, shape: Vec::new(), data, base: Some(base) };
        let mut stored = Vec::new();
        FmDelta.encode(&tensor, &mut stored).unwrap();
        let mut out = vec![0; tensor.data.len()];
        FmDelta.decode(&stored, &tensor, &mut out).unwrap();
        assert_eq!(out, tensor.data, "{}", dtype.name());
    }

    #[test]
    fn every_difference_of_bf16_words_comes_back() {
        for base in [0, 1, 0x3f80, 0x7f80, 0x7fff, 0x8000, 0x8001, 0xff80, 0xffff_u16] {
            let data: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            exact(DType::BF16, data, base.to_le_bytes().repeat(1 << 16));
        }
    }

    #[test]
    fn extreme_words_of_every_width_come_back() {
        let extremes = [0, 1, 1 << 31, 1 << 63, u64::MAX, u64::MAX >> 1, 0x7ff0_0000_7f80_7c00, 0x8000_8000_8000_8000];
        let pairs = extremes.iter().flat_map(|a| extremes.iter().map(move |b| (a.to_le_bytes(), b.to_le_bytes())));
        let (data, base): (Vec<_>, Vec<_>) = pairs.unzip();
        for dtype in [DType::F64, DType::F32, DType::F16, DType::I64, DType::I32, DType::U16, DType::I8] {
            exact(dtype, data.concat(), base.concat());
        }
        exact(DType::F32, vec![], vec![]);
        exact(DType::F32, vec![1, 2, 3, 4, 5], vec![5, 4, 3, 2, 1]);
    }
}
