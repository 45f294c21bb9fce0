//! What is derived: every derivation, with every choice that it has.

use half::{bf16, f16};
use shard_codecs::Derived;
use shard_codecs::derive::quantise::{Division, Ties};
use shard_codecs::derive::{
    Arithmetic, Cast, Channels, Codes, Ggml, Linear, Merge, Moments, NanRule, Rounding, Sizes, Summing, Target,
};
use shard_core::DType;

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// About normal, of that spread.
    pub(crate) fn weight(&mut self, spread: f64) -> f64 {
        let sum: f64 = (0..4).map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).sum();
        sum * spread * 3f64.sqrt()
    }
}

pub(crate) fn word(dtype: DType, value: f64) -> Vec<u8> {
    match dtype {
        DType::F64 => value.to_le_bytes().to_vec(),
        DType::F32 => (value as f32).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f64(value).to_le_bytes().to_vec(),
        DType::U16 => ((32_768.0 + value * 9_000.0) as u16).to_le_bytes().to_vec(),
        DType::U32 => ((8_388_608.0 + value * 9_000_000.0) as u32).to_le_bytes().to_vec(),
        _ => vec![(value * 300.0) as i64 as u8],
    }
}

pub(crate) fn weights(dtype: DType, count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..count).flat_map(|_| word(dtype, random.weight(0.05))).collect()
}

/// Weights among which are NaNs with payloads, infinities, zeros of both signs, subnormals, the largest and the smallest.
pub(crate) fn special(dtype: DType, count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed | 1);
    let bytes = dtype.word_bytes();
    let mut out = weights(dtype, count, seed + 7);
    for word in out.chunks_exact_mut(bytes) {
        if random.next().is_multiple_of(3) {
            let bits = random.next();
            let value = match random.next() % 6 {
                0 => bits,
                1 => bits | 0x7ff0_0000_0000_0000 >> (64 - 8 * bytes) << (64 - 8 * bytes).min(48),
                2 => bits & 0xff,
                3 => 0,
                4 => 1 << (8 * bytes - 1),
                _ => (1 << (8 * bytes - 1)) - 1 - (bits & 1),
            };
            word.copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
    }
    out
}

pub(crate) const SUMMINGS: [Summing; 5] =
    [Summing::Wide, Summing::Single, Summing::Multiple, Summing::Mean, Summing::WideMean];

pub(crate) const FLOATS: [DType; 6] = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::F8E4M3, DType::F8E5M2];

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) derived: Derived,
    pub(crate) target: Target,
    pub(crate) input: Vec<u8>,
}

/// Every derivation, with every choice that it has, at odd lengths and places.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, derived, dtype: DType, len: usize, input| {
        cases.push(Case { name, derived, target: Target { dtype, len }, input });
    };
    for from in FLOATS {
        for to in FLOATS {
            for rounding in [Rounding::Nearest, Rounding::Truncate, Rounding::Away] {
                for (nan, saturates) in [
                    (NanRule::Payload, false),
                    (NanRule::Canonical, true),
                    (NanRule::Ones, false),
                    (NanRule::Signed, true),
                ] {
                    let name = format!("cast-{from}-{to}-{rounding:?}-{nan:?}-{saturates}");
                    let len = 1501 * to.word_bytes();
                    add(name, Cast::of(from, rounding, nan, saturates), to, len, special(from, 1501, 3));
                }
            }
        }
    }
    let usual = Merge {
        dtypes: [DType::F32, DType::F32, DType::F32],
        arithmetic: Arithmetic::Wide,
        rank: 3,
        columns: 70,
        phase: 0,
        transposed_rows: None,
        factor: 0.25,
    };
    for to in [DType::F32, DType::BF16, DType::F16] {
        for arithmetic in Arithmetic::ALL {
            for (phase, transposed_rows) in [(0u64, None), (33, None), (75, Some(11))] {
                for factors in [DType::F32, DType::BF16, DType::U8, DType::U16, DType::U32] {
                    let dtypes = [if phase == 33 { to } else { DType::F32 }, factors, factors];
                    let factor = if factors.float().is_some() { 0.25 } else { 1e-9 };
                    let merge = Merge { dtypes, arithmetic, phase, transposed_rows, factor, ..usual };
                    let count = 640;
                    let rows = transposed_rows.map_or((phase as usize % 70 + count).div_ceil(70), |rows| rows as usize);
                    let mut input = special(dtypes[0], count, 5);
                    for words in [rows * 3, 70 * 3] {
                        let numbers = weights(factors, words, 9 + words as u64);
                        input.extend(numbers);
                    }
                    let name = format!("low-rank-{to}-{arithmetic:?}-{phase}-{factors}");
                    add(name, merge.derived(), to, count * to.word_bytes(), input);
                }
            }
        }
    }
    let codes = |channels, transposed_rows, phase| Codes {
        source: DType::F32,
        scale: Some(DType::F32),
        zero: None,
        division: Division::Quotient,
        ties: Ties::Even,
        limits: (-128, 127),
        columns: 60,
        phase,
        channels,
        transposed_rows,
        divisor: 127.0,
    };
    for dtype in [DType::I8, DType::U8] {
        for channels in Channels::ALL {
            for transposed_rows in [None, Some(13)] {
                for division in Division::ALL {
                    for ties in Ties::ALL {
                        for is_given in [true, false] {
                            let known = matches!(
                                (channels, transposed_rows),
                                (Channels::Row, None) | (Channels::Column, Some(_))
                            );
                            if !is_given && !known {
                                continue;
                            }
                            let with = codes(channels, transposed_rows, 65);
                            let zero = (dtype == DType::U8 && is_given).then_some(DType::U8);
                            let with = Codes {
                                scale: is_given.then_some(DType::F16),
                                zero,
                                division,
                                ties,
                                limits: if dtype == DType::U8 { (0, 255) } else { (-127, 127) },
                                ..with
                            };
                            let derived = with.derived();
                            let target = Target { dtype, len: 500 };
                            let lens = derived.input_lens(target).unwrap();
                            let mut input = weights(DType::F32, lens.as_slice()[0] / 4, 21);
                            if is_given {
                                let mut random = Random(99);
                                for _ in 0..lens.as_slice()[1] / 2 {
                                    input.extend(word(DType::F16, random.weight(0.01).abs() + 1e-4));
                                }
                                input.extend((0..lens.total() - input.len()).map(|at| 120 + (at % 9) as u8));
                            }
                            let name = format!(
                                "quantise-{dtype}-{channels:?}-{}-{division:?}-{ties:?}-{is_given}",
                                transposed_rows.is_some()
                            );
                            add(name, derived, dtype, 500, input);
                        }
                    }
                }
            }
        }
    }
    for from in [DType::F32, DType::BF16] {
        for pairs in [1u64, 2] {
            for second in [true, false] {
                let moments = Moments { weights: DType::F32, moments: from, pairs: pairs as u8, second };
                let target = Target { dtype: DType::F32, len: 4 * 1300 };
                let weights = weights(DType::F32, 1300, 41);
                let moment = |seed| special(from, 1300, seed);
                let count = pairs * if second { 2 } else { 1 };
                let input: Vec<u8> = weights.iter().copied().chain((0..count).flat_map(moment)).collect();
                let derived = moments.derived(&[-1e-4, 3e-4, -2e-4]);
                add(format!("step-{from}-{pairs}-{second}"), derived, DType::F32, target.len, input);
            }
        }
        for (tensors, scales) in [(1u8, None), (2, Some(DType::BF16)), (0, Some(DType::F32))] {
            let sizes = Sizes { tensors, dtype: from, scales, columns: 50, phase: 75 };
            let target = Target { dtype: DType::F32, len: 4 * 1200 };
            let mut input: Vec<u8> = (0..tensors).flat_map(|seed| special(from, 1200, seed.into())).collect();
            // 25 rows are touched.
            if let Some(scales) = scales {
                input.extend(weights(scales, 25 + 50, 3));
            }
            let derived = sizes.derived(&[1e8, 0.5, -0.25, 0.0, 0.375]);
            add(format!("magnitude-{from}-{tensors}-{}", scales.is_some()), derived, DType::F32, target.len, input);
        }
    }
    for from in [DType::F32, DType::BF16] {
        for to in [DType::F32, DType::F16, DType::BF16] {
            for summing in SUMMINGS {
                for count in [1usize, 3, 8] {
                    let weights = [0.25, 0.5, 0.125, -1.5, 2.0, 0.0, 1e300, 0.7];
                    let input = special(from, 1100 * count, 61);
                    let derived = Linear::of(from, summing, &weights[..count]);
                    add(format!("linear-{from}-{to}-{summing:?}-{count}"), derived, to, 1100 * to.word_bytes(), input);
                }
            }
        }
    }
    for dtype in DType::ALL.iter().copied().filter(|dtype| Ggml::makes(*dtype)) {
        for from in [DType::F32, DType::F16, DType::BF16] {
            for fused in [false, true] {
                let (elements, bytes) = dtype.storage_unit();
                let mut input = weights(from, 37 * elements as usize, 31);
                // A block of zeros, and one of specials.
                let block = elements as usize * from.word_bytes();
                input[..block].fill(0);
                input[block..2 * block].copy_from_slice(&special(from, elements as usize, 8));
                let name = format!("ggml-{dtype}-{from}-{fused}");
                add(name, Ggml::of(from, fused), dtype, 37 * bytes as usize, input);
            }
        }
    }
    cases
}
