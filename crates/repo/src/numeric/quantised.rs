//! The values of block-quantised types, as GGML defines them (`ggml-common.h`, `ggml-quants.c`). All fields are little-endian;
//! scales are binary16 unless said otherwise. Types whose codes are points of a lattice need its tables, and have no values here.

use half::f16;
use shard_core::DType;

/// Appends the values of one block.
pub(super) type Expand = fn(&[u8], &mut Vec<f32>);

/// How a block of a type is expanded; `None` where shard cannot.
pub(super) fn expand(dtype: DType) -> Option<Expand> {
    Some(match dtype {
        DType::Q4_0 => q4_0,
        DType::Q4_1 => q4_1,
        DType::Q5_0 => q5_0,
        DType::Q5_1 => q5_1,
        DType::Q8_0 => q8_0,
        DType::Q2_K => q2_k,
        DType::Q3_K => q3_k,
        DType::Q4_K => q4_k,
        DType::Q5_K => q5_k,
        DType::Q6_K => q6_k,
        DType::Q8_K => q8_k,
        DType::IQ4_NL => iq4_nl,
        DType::IQ4_XS => iq4_xs,
        DType::TQ1_0 => tq1_0,
        DType::TQ2_0 => tq2_0,
        DType::MXFP4 => mxfp4,
        DType::NVFP4 => nvfp4,
        _ => return None,
    })
}

/// The codes of `IQ4_NL` and `IQ4_XS`.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// FP4: E2M1, doubled.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A block, taken apart from its start.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }

    fn half(&mut self) -> f32 {
        f16::from_le_bytes(self.take()).to_f32()
    }
}

/// Codes of four bits: the low halves of all bytes, then the high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

fn q4_0(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let d = fields.half();
    out.extend(nibbles(&fields.take::<16>()).map(|q| d * (f32::from(q) - 8.0)));
}

fn q4_1(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (d, m) = (fields.half(), fields.half());
    out.extend(nibbles(&fields.take::<16>()).map(|q| d * f32::from(q) + m));
}

fn q5_0(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let d = fields.half();
    let high = u32::from_le_bytes(fields.take());
    out.extend(fifth_bit(&fields.take::<16>(), high).map(|q| d * (f32::from(q) - 16.0)));
}

fn q5_1(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (d, m) = (fields.half(), fields.half());
    let high = u32::from_le_bytes(fields.take());
    out.extend(fifth_bit(&fields.take::<16>(), high).map(|q| d * f32::from(q) + m));
}

/// Codes of five bits, the upper ones in `high`.
fn fifth_bit(bytes: &[u8; 16], high: u32) -> impl Iterator<Item = u8> {
    nibbles(bytes).enumerate().map(move |(at, low)| low | ((high >> at & 1) as u8) << 4)
}

fn q8_0(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let d = fields.half();
    out.extend(fields.take::<32>().map(|q| d * f32::from(q.cast_signed())));
}

fn q8_k(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let d = f32::from_le_bytes(fields.take());
    out.extend(fields.take::<256>().map(|q| d * f32::from(q.cast_signed())));
}

fn q2_k(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (scales, codes) = (fields.take::<16>(), fields.take::<64>());
    let (d, min) = (fields.half(), fields.half());
    for (group, scale) in scales.iter().enumerate() {
        let (d, min) = (d * f32::from(scale & 15), min * f32::from(scale >> 4));
        out.extend(two_bits(&codes, group).map(|q| d * f32::from(q) - min));
    }
}

/// The 16 codes of two bits of a group: 128 values are in 32 bytes, 32 of them in each pair of bits.
fn two_bits(codes: &[u8; 64], group: usize) -> impl Iterator<Item = u8> {
    let (start, shift) = (group / 8 * 32 + group % 2 * 16, group % 8 / 2 * 2);
    (0..16).map(move |at| codes[start + at] >> shift & 3)
}

fn q3_k(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (high, codes, scales) = (fields.take::<32>(), fields.take::<64>(), fields.take::<12>());
    let d = fields.half();
    for group in 0..16 {
        // Four bits of a scale are in the first 8 bytes, low halves first; two more in the last 4.
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let scale = low | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
        let d = d * (f32::from(scale) - 32.0);
        let (start, bit) = (group % 2 * 16, group / 2);
        for (at, q) in two_bits(&codes, group).enumerate() {
            let offset = if high[start + at] >> bit & 1 == 1 { 0.0 } else { 4.0 };
            out.push(d * (f32::from(q) - offset));
        }
    }
}

/// Scale and minimum of one of the 8 groups of `Q4_K` and `Q5_K`, six bits each.
fn six_bits(scales: &[u8; 12], group: usize) -> (f32, f32) {
    let (scale, min) = if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        let both = scales[group + 4];
        (both & 15 | scales[group - 4] >> 6 << 4, both >> 4 | scales[group] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

fn q4_k(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (d, min) = (fields.half(), fields.half());
    let (scales, codes) = (fields.take::<12>(), fields.take::<128>());
    for group in 0..8 {
        let (scale, least) = six_bits(&scales, group);
        let part = &codes[group / 2 * 32..][..32];
        out.extend(part.iter().map(|byte| d * scale * f32::from(byte >> (group % 2 * 4) & 15) - min * least));
    }
}

fn q5_k(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (d, min) = (fields.half(), fields.half());
    let (scales, high, codes) = (fields.take::<12>(), fields.take::<32>(), fields.take::<128>());
    for group in 0..8 {
        let (scale, least) = six_bits(&scales, group);
        let part = codes[group / 2 * 32..][..32].iter().zip(high);
        out.extend(part.map(|(byte, high)| {
            let q = byte >> (group % 2 * 4) & 15 | (high >> group & 1) << 4;
            d * scale * f32::from(q) - min * least
        }));
    }
}

fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (low, high, scales) = (fields.take::<128>(), fields.take::<64>(), fields.take::<16>());
    let d = fields.half();
    for at in 0..256 {
        // 128 values are in 64 bytes of low halves and 32 of upper pairs of bits, 32 of them in each.
        let (half, quarter, lane) = (at / 128, at % 128 / 32, at % 32);
        let four = low[half * 64 + quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 15;
        let two = high[half * 32 + lane] >> (quarter * 2) & 3;
        let scale = f32::from(scales[at / 16].cast_signed());
        out.push(d * scale * (f32::from(four | two << 4) - 32.0));
    }
}

fn iq4_nl(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let d = fields.half();
    out.extend(nibbles(&fields.take::<16>()).map(|q| d * f32::from(IQ4[usize::from(q)])));
}

fn iq4_xs(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let d = fields.half();
    let high = u16::from_le_bytes(fields.take());
    let (low, codes) = (fields.take::<4>(), fields.take::<128>());
    for (group, part) in codes.chunks_exact(16).enumerate() {
        let scale = low[group / 2] >> (group % 2 * 4) & 15 | ((high >> (2 * group) & 3) as u8) << 4;
        let d = d * (f32::from(scale) - 32.0);
        out.extend(nibbles(part).map(|q| d * f32::from(IQ4[usize::from(q)])));
    }
}

fn tq1_0(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (first, second, last) = (fields.take::<32>(), fields.take::<16>(), fields.take::<4>());
    let d = fields.half();
    let mut digits = |bytes: &[u8], count: u32| {
        for power in 0..count {
            let digit = |byte: &u8| (u16::from(byte.wrapping_mul(3u8.wrapping_pow(power))) * 3) >> 8;
            out.extend(bytes.iter().map(|byte| d * (f32::from(digit(byte)) - 1.0)));
        }
    };
    digits(&first, 5);
    digits(&second, 5);
    digits(&last, 4);
}

fn tq2_0(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let codes = fields.take::<64>();
    let d = fields.half();
    for part in codes.chunks_exact(32) {
        for pair in 0..4 {
            out.extend(part.iter().map(|byte| d * (f32::from(byte >> (2 * pair) & 3) - 1.0)));
        }
    }
}

/// OCP Microscaling Formats 1.0: the scale is a power of two (E8M0), halved here since codes are doubled.
fn mxfp4(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let [exponent] = fields.take();
    let d = match u32::from(exponent) {
        small @ 0..2 => f32::from_bits(0x0020_0000 << small),
        exponent => f32::from_bits((exponent - 1) << 23),
    };
    out.extend(nibbles(&fields.take::<16>()).map(|q| d * f32::from(E2M1[usize::from(q)])));
}

/// Four groups of 16, each with a scale of 8 bits (E4M3 without a sign), halved since codes are doubled.
fn nvfp4(block: &[u8], out: &mut Vec<f32>) {
    let mut fields = Fields(block);
    let (scales, codes) = (fields.take::<4>(), fields.take::<32>());
    for (scale, part) in scales.into_iter().zip(codes.chunks_exact(8)) {
        let (exponent, mantissa) = (i32::from(scale >> 3 & 15), f32::from(scale & 7));
        let d = match (scale, exponent) {
            (0 | 0x7f, _) => 0.0,
            (_, 0) => mantissa * 2f32.powi(-10),
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 8),
        };
        out.extend(nibbles(part).map(|q| d * f32::from(E2M1[usize::from(q)])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks of bytes that count up from a seed, with scales that are small numbers, expanded by the Python package `gguf`
    /// 0.19: the sum of the values, and the sum of each times its place, from 1 on.
    const EXPECTED: &[(DType, f64, f64)] = &[
        (DType::Q4_0, -2.5992431640625, -34.335693359375),
        (DType::Q4_1, 37.6845703125, 1286.26953125),
        (DType::Q5_0, -3.9498291015625, -73.5550537109375),
        (DType::Q5_1, 66.74835205078125, 2188.1077880859375),
        (DType::Q8_0, 25.43255615234375, 280.52130126953125),
        (DType::Q2_K, 163.5516357421875, 30906.50262451172),
        (DType::Q3_K, -88.4263916015625, -24888.396240234375),
        (DType::Q4_K, 6625.573547363281, 1772140.9280395508),
        (DType::Q5_K, 12213.022094726562, 2879539.327331543),
        (DType::Q6_K, -136.604736328125, 288486.025390625),
        (DType::Q8_K, -51.67298227548599, -22255.17680621147),
        (DType::IQ4_NL, -35.512451171875, -483.214111328125),
        (DType::IQ4_XS, 909.5631713867188, 182779.10760498047),
        (DType::TQ1_0, -1.71051025390625, -222.9981689453125),
        (DType::TQ2_0, 18.257080078125, 4820.5330810546875),
        (DType::MXFP4, 0.25, -27.8125),
        (DType::NVFP4, 20.298828125, 1491.1337890625),
    ];

    /// Bytes `7 i + i^2 / 5 mod 256`, but for the top bits of those that hold a binary16.
    fn block(dtype: DType) -> Vec<u8> {
        let (_, len) = dtype.storage_unit();
        let mut bytes: Vec<u8> = (0..2 * len).map(|i| (7 * i + i * i / 5) as u8).collect();
        for block in bytes.chunks_mut(len as usize) {
            for (at, top) in scales(dtype) {
                block[*at] = *top;
            }
        }
        bytes
    }

    /// Where a block has the upper bytes of its scales, and what they are set to: 0x2c is about a sixteenth.
    fn scales(dtype: DType) -> &'static [(usize, u8)] {
        match dtype {
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[(1, 0x2c), (3, 0x2d)],
            DType::Q2_K => &[(81, 0x2c), (83, 0x2d)],
            DType::Q3_K => &[(109, 0x2c)],
            DType::Q6_K => &[(209, 0x2c)],
            DType::TQ1_0 => &[(53, 0x2c)],
            DType::TQ2_0 => &[(65, 0x2c)],
            DType::Q8_K => &[(3, 0x3d)],
            DType::MXFP4 => &[(0, 124)],
            DType::NVFP4 => &[(0, 0), (1, 5), (2, 0x7f), (3, 0x41)],
            _ => &[(1, 0x2c)],
        }
    }

    #[test]
    fn blocks_have_the_values_that_ggml_gives_them() {
        let mut seen = 0;
        for dtype in DType::ALL.iter().filter(|dtype| dtype.is_quantised()) {
            let Some(expand) = expand(*dtype) else {
                assert!(EXPECTED.iter().all(|(other, ..)| other != dtype), "{dtype}");
                continue;
            };
            let (elements, len) = dtype.storage_unit();
            let mut values = Vec::new();
            block(*dtype).chunks_exact(len as usize).for_each(|block| expand(block, &mut values));
            assert_eq!(values.len() as u64, 2 * elements, "{dtype}");
            let (_, sum, weighted) = EXPECTED.iter().find(|(known, ..)| known == dtype).unwrap();
            let ours: f64 = values.iter().map(|value| f64::from(*value)).sum();
            let by_place: f64 = values.iter().enumerate().map(|(at, value)| f64::from(*value) * (at + 1) as f64).sum();
            assert!((ours - sum).abs() <= 1e-6 * sum.abs() + 1e-9, "{dtype}: {ours}, not {sum}");
            assert!((by_place - weighted).abs() <= 1e-6 * weighted.abs() + 1e-7, "{dtype}: {by_place}, not {weighted}");
            seen += 1;
        }
        assert_eq!(seen, EXPECTED.len());
    }
}
