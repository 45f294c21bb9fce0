//! The kernels of the context coder: every instruction set against what each computes by its definition.

use proptest::collection::vec;
use proptest::prelude::*;
use shard_core::DType;

use super::buckets::{BitSink, Bits, Chosen, ESCAPE, Key, MAX_BUCKETS, SLACK};
use super::*;

/// Bytes of which many are such that vectors could trip over them.
fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(255), Just(254), 0u8..4, Just(0x80), Just(0x7f)];
    vec(byte, 0..most)
}

fn word_of(kind: usize) -> Word {
    Word::of(Some(DType::ALL[kind % DType::ALL.len()]))
}

/// Word `index` as a number.
fn get(words: &[u8], bytes: usize, index: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes].copy_from_slice(&words[index * bytes..(index + 1) * bytes]);
    u64::from_le_bytes(wide)
}

/// The same, signed.
fn get_signed(words: &[u8], bytes: usize, index: usize) -> i64 {
    let unused = 64 - 8 * bytes as u32;
    (get(words, bytes, index) << unused) as i64 >> unused
}

/// Bytes that hold bits, and the number of bits.
struct BitVec(Vec<u8>, usize);

impl BitVec {
    fn put(&mut self, value: u64, width: u32) {
        for bit in 0..width {
            self.0.resize((self.1 + 1).div_ceil(8).max(self.0.len()), 0);
            self.0[self.1 / 8] |= ((value >> bit & 1) as u8) << (self.1 % 8);
            self.1 += 1;
        }
    }
}

fn folded(residual: i64) -> u64 {
    (residual << 1 ^ residual >> 63) as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn maps_and_limits(map: [u8; BINS / 2], bins in vec(0u8..64, 0..400), tokens in bytes(400), limits in bytes(400)) {
        let map: [u8; BINS] = std::array::from_fn(|bin| map[bin / 2].wrapping_mul(bin as u8 | 1));
        let expected: Vec<u8> = bins.iter().map(|bin| map[usize::from(*bin)]).collect();
        let len = tokens.len().min(limits.len());
        let (tokens, limits) = (&tokens[..len], &limits[..len]);
        let mut expected_masks = vec![0u64; len.div_ceil(64)];
        for index in (0..len).filter(|index| tokens[*index] >= limits[*index]) {
            expected_masks[index / 64] |= 1 << (index % 64);
        }
        for isa in Isa::available() {
            let mut out = vec![0xee; bins.len()];
            map_bins(isa, &map, &bins, &mut out);
            prop_assert_eq!(&out, &expected, "{:?}", isa);
            let mut masks = vec![!0; len.div_ceil(64)];
            reaches(isa, tokens, limits, &mut masks);
            prop_assert_eq!(&masks, &expected_masks, "{:?}", isa);
        }
    }

    #[test]
    fn tokens_go_to_their_buckets_and_back(
        buckets in 1usize..=MAX_BUCKETS,
        ids in vec(any::<u8>(), 0..500),
        tokens in vec(prop_oneof![any::<u8>(), Just(ESCAPE)], 500),
        missing in 0usize..200,
    ) {
        let ids: Vec<u8> = ids.iter().map(|id| id % buckets as u8).collect();
        let tokens = &tokens[..ids.len()];
        let mut in_order: Vec<Vec<u8>> = vec![Vec::new(); MAX_BUCKETS];
        ids.iter().zip(tokens).for_each(|(id, token)| in_order[usize::from(*id)].push(*token));
        let mut masks_expected = vec![0u64; ids.len().div_ceil(64)];
        for index in (0..ids.len()).filter(|index| tokens[*index] == ESCAPE) {
            masks_expected[index / 64] |= 1 << (index % 64);
        }
        let mut at = 0;
        let starts: Cursors = std::array::from_fn(|bucket| {
            let start = at;
            at += in_order[bucket].len() + SLACK;
            start
        });
        let pool_len = at + ids.len() + SLACK;
        // Too short a pool, from where tokens are on: all fare alike, and none reads or writes beyond it.
        let short = pool_len.saturating_sub(SLACK + ids.len() + missing);
        let mut short_expected: Option<(Option<()>, Cursors)> = None;
        for isa in Isa::available() {
            let mut pool = vec![0xee; pool_len];
            let mut ends = starts;
            prop_assert_eq!(scatter_tokens(isa, buckets, &ids, tokens, &mut ends, &mut pool), Some(()));
            for (bucket, tokens) in in_order.iter().enumerate() {
                prop_assert_eq!(ends[bucket], starts[bucket] + tokens.len(), "{:?}", isa);
                prop_assert_eq!(&pool[starts[bucket]..ends[bucket]], &tokens[..], "{:?}", isa);
            }
            let (mut out, mut masks, mut cursors) = (vec![0xee; ids.len()], vec![!0; masks_expected.len()], starts);
            let done = gather_tokens(isa, buckets, &ids, &pool, &mut cursors, &mut out, &mut masks);
            prop_assert_eq!((done, cursors), (Some(()), ends), "{:?}", isa);
            prop_assert_eq!((&out[..], &masks), (tokens, &masks_expected), "{:?}", isa);

            let mut cursors = starts;
            let done = gather_tokens(isa, buckets, &ids, &pool[..short], &mut cursors, &mut out, &mut masks);
            let expected = short_expected.get_or_insert((done, cursors));
            prop_assert_eq!(*expected, (done, cursors), "{:?}", isa);
            let mut ends = starts;
            let done = scatter_tokens(isa, buckets, &ids, tokens, &mut ends, &mut pool[..short]);
            prop_assert_eq!(done, expected.0, "{:?}", isa);
        }
    }

    #[test]
    fn tokens_share_symbols(bits in prop::sample::select(vec![1u32, 2, 4, 8]), tokens in bytes(700), padding: u8) {
        let per_symbol = 8 / bits as usize;
        let most = (1u32 << bits) as u8;
        let most = most.wrapping_sub(1);
        let mut expected = vec![0u8; tokens.len().div_ceil(per_symbol)];
        for (index, token) in tokens.iter().enumerate() {
            expected[index / per_symbol] |= token.min(&most) << (bits as usize * (index % per_symbol));
        }
        let back: Vec<u8> = tokens.iter().map(|token| if *token >= most { ESCAPE } else { *token }).collect();
        // Bits without a token count for nothing.
        let mut padded = expected.clone();
        let used = bits as usize * (tokens.len() % per_symbol);
        if let (Some(last), true) = (padded.last_mut(), used > 0) {
            *last |= padding << used;
        }
        for isa in Isa::available() {
            let mut symbols = vec![0xee; expected.len()];
            pack(isa, bits, &tokens, &mut symbols);
            prop_assert_eq!(&symbols, &expected, "{:?}", isa);
            for symbols in [&symbols, &padded] {
                let mut out = vec![0xee; tokens.len()];
                unpack(isa, bits, symbols, &mut out);
                prop_assert_eq!(&out, &back, "{:?}", isa);
            }
        }
    }

    #[test]
    fn low_bits_come_and_go(
        bytes in prop::sample::select(vec![1usize, 2, 4, 8]),
        widths in prop_oneof![
            vec(prop_oneof![Just(0u8), 0u8..57, 0u8..4], 0..2200),
            vec(1u8..57, 1000..2200),
            vec(Just(55u8), 1000..2200),
        ],
        residuals in vec(any::<u8>(), 17_600),
        data in prop_oneof![vec(any::<u8>(), 0..1600), vec(any::<u8>(), 17_000)],
        at in 0usize..40,
        no_room: bool,
    ) {
        let most = [0, 7, 15, 0, 25, 0, 0, 0, 56][bytes];
        let widths: Vec<u8> = widths.iter().map(|width| width % (most + 1)).collect();
        let residuals = &residuals[..bytes * widths.len()];
        let mut expected = BitVec(vec![0; 8], 0);
        expected.put(0b10_1101_0011, at as u32);
        let mut moved = Vec::new();
        let mut end = at;
        for (index, width) in widths.iter().enumerate() {
            let residual = get(residuals, bytes, index);
            expected.put(residual, u32::from(*width));
            // Bit by bit, zeros beyond the end.
            let low = (0..usize::from(*width)).fold(0, |low, bit| {
                let place = end + bit;
                let byte = data.get(place / 8).copied().unwrap_or(0);
                low | u64::from(byte >> (place % 8) & 1) << bit
            });
            end += usize::from(*width);
            moved.extend_from_slice(&(residual << width | low).to_le_bytes()[..bytes]);
        }
        for isa in Isa::available() {
            let mut out = residuals.to_vec();
            let mut chosen = Chosen::new();
            let mut bits = Bits { data: &data, at };
            add_low_bits(isa, bytes, &widths, &mut bits, &mut out, &mut chosen);
            prop_assert_eq!((&out, bits.at), (&moved, end), "{:?}", isa);
            let room = expected.1.div_ceil(8) + if no_room { 8 } else { 400 };
            let mut put = vec![0xee; room];
            let mut sink = BitSink { out: &mut put, at: 0 };
            sink.put(0b10_1101_0011, at as u32);
            put_low_bits(isa, bytes, &widths, residuals, &mut sink, &mut chosen);
            prop_assert_eq!(sink.at, expected.1, "{:?}", isa);
            let len = sink.finish();
            prop_assert_eq!(&put[..len], &expected.0[..len], "{:?}", isa);
        }
    }

    #[test]
    fn words_have_bins(kind: usize, words in bytes(1200), first in 0u32..2200, mantissa: bool) {
        let word = word_of(kind);
        let count = words.len() / word.bytes;
        let words = &words[..count * word.bytes];
        let first = match word.float {
            Some(float) => first % (1 << float.exponent),
            None => 0,
        };
        let key = if mantissa && word.sign_magnitude() { Key::Mantissa } else { Key::Exponent { first } };
        let expected: Vec<u8> = (0..count)
            .map(|index| {
                let bits = get(words, word.bytes, index);
                match (word.float, key) {
                    (None, _) => bits >> (8 * word.bytes - 6),
                    (Some(float), Key::Exponent { first }) => {
                        (bits >> float.mantissa & ((1 << float.exponent) - 1)).saturating_sub(u64::from(first)).min(63)
                    }
                    (Some(float), Key::Mantissa) => {
                        (bits & ((1 << float.mantissa) - 1)) >> float.mantissa.saturating_sub(6)
                    }
                }
            })
            .map(|bin| bin as u8)
            .collect();
        for isa in Isa::available() {
            let mut bins_out = vec![0xee; count];
            bins(isa, word, key, words, &mut bins_out);
            prop_assert_eq!(&bins_out, &expected, "{:?}", isa);
        }
    }

    #[test]
    fn residuals_fold(
        bytes in prop::sample::select(vec![1usize, 2, 4, 8]),
        residuals in bytes(1200),
        small: bool,
        shifts in vec(any::<u8>(), 1200),
        typical in 1e-30f32..1e30,
        bins in vec(0u8..64, 1200),
    ) {
        let count = residuals.len() / bytes;
        let mut residuals = residuals[..count * bytes].to_vec();
        if small {
            // Of one byte's worth, and its sign.
            for index in 0..count {
                let value = i64::from(residuals[index * bytes] as i8);
                residuals[index * bytes..(index + 1) * bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            }
        }
        let shifts: Vec<u8> = shifts[..count].iter().map(|shift| shift % (8 * bytes as u8)).collect();
        let signed: Vec<i64> = (0..count).map(|index| get_signed(&residuals, bytes, index)).collect();
        let plain: Vec<u8> = signed.iter().map(|residual| folded(*residual).min(255) as u8).collect();
        let shifted: Vec<u8> =
            signed.iter().zip(&shifts).map(|(residual, shift)| folded(residual >> shift).min(255) as u8).collect();
        let sums = movement(Isa::SCALAR, bytes, typical, &bins[..count], &residuals);
        for isa in Isa::available() {
            let mut tokens = vec![0xee; count];
            fold(isa, bytes, &residuals, &mut tokens);
            prop_assert_eq!(&tokens, &plain, "{:?}", isa);
            let mut back = vec![0xee; residuals.len()];
            unfold(isa, bytes, &tokens, &mut back);
            for index in (0..count).filter(|index| plain[*index] < ESCAPE) {
                prop_assert_eq!(get_signed(&back, bytes, index), signed[index], "{:?}", isa);
            }
            fold_shifted(isa, bytes, &residuals, &shifts, &mut tokens);
            prop_assert_eq!(&tokens, &shifted, "{:?}", isa);
            let (moved, weight) = movement(isa, bytes, typical, &bins[..count], &residuals);
            prop_assert_eq!((moved.to_bits(), weight.to_bits()), (sums.0.to_bits(), sums.1.to_bits()), "{:?}", isa);
        }
    }

    #[test]
    fn steps_and_offsets(kind: usize, words in bytes(1200), prediction in vec(any::<u8>(), 1200), origin: u64) {
        let word = word_of(kind);
        let bits = 8 * word.bytes as u32;
        let len = words.len() / word.bytes * word.bytes;
        let (words, prediction) = (&words[..len], &prediction[..len]);
        let mask = u64::MAX >> (64 - bits);
        let top = 1u64 << (bits - 1);
        let ordered = |bits: u64| if !word.sign_magnitude() { bits } else if bits & top != 0 { !bits } else { bits + top };
        let (mut steps, mut offsets) = (Vec::new(), Vec::new());
        for index in 0..len / word.bytes {
            let (now, before) = (get(words, word.bytes, index), get(prediction, word.bytes, index));
            let step = ordered(now).wrapping_sub(ordered(before));
            let step = if word.sign_magnitude() && before & top != 0 { step.wrapping_neg() } else { step };
            steps.extend_from_slice(&step.to_le_bytes()[..word.bytes]);
            let rotated = if word.sign_magnitude() { (now << 1 | now >> (bits - 1)) & mask } else { now };
            offsets.extend_from_slice(&rotated.wrapping_sub(origin).to_le_bytes()[..word.bytes]);
        }
        for isa in Isa::available() {
            let (mut out, mut back) = (vec![0xee; len], vec![0xee; len]);
            step_forward(isa, word, words, prediction, &mut out);
            prop_assert_eq!(&out, &steps, "{:?}", isa);
            step_inverse(isa, word, &out, prediction, &mut back);
            prop_assert_eq!(&back[..], words, "{:?}", isa);
            offset_forward(isa, word, origin, words, &mut out);
            prop_assert_eq!(&out, &offsets, "{:?}", isa);
            offset_inverse(isa, word, origin, &out, &mut back);
            prop_assert_eq!(&back[..], words, "{:?}", isa);
        }
    }

    #[test]
    fn floats_are_scaled(
        dtype in prop::sample::select(vec![DType::F16, DType::BF16, DType::F32, DType::F64]),
        words in bytes(1200),
        factor in prop_oneof![any::<u64>().prop_map(f64::from_bits), 0.5f64..2.0, Just(1.0), Just(0.0), Just(-0.0)],
    ) {
        let word = Word::of(Some(dtype));
        let float = word.float.unwrap();
        let count = words.len() / word.bytes;
        let words = &words[..count * word.bytes];
        let (mut expected, mut values_expected): (Option<Vec<u8>>, Option<Vec<f64>>) = (None, None);
        for isa in Isa::available() {
            let mut out = vec![0xee; words.len()];
            scale(isa, float, factor, words, &mut out);
            let expected = expected.get_or_insert_with(|| out.clone());
            prop_assert_eq!(&out, &*expected, "{:?}", isa);
            let mut values = vec![f64::NAN; count];
            load(isa, float, words, &mut values);
            let values_expected = values_expected.get_or_insert_with(|| values.clone());
            prop_assert!(values.iter().zip(values_expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{:?}", isa);
        }
        let (scaled, values) = (expected.unwrap_or_default(), values_expected.unwrap_or_default());
        for (index, value) in values.iter().enumerate() {
            let (from, to) = (get(words, word.bytes, index), get(&scaled, word.bytes, index));
            let exact = value_of(float, from);
            prop_assert_eq!(value.to_bits(), exact.unwrap_or(0.0).to_bits());
            let product = exact.unwrap_or(f64::NAN) * factor;
            let product = if float.mantissa == 52 { product } else { f64::from(product as f32) };
            prop_assert!(is_nearest(float, product, to) || (to == from && !fits(float, product)), "{from:x} {to:x}");
        }
    }

    #[test]
    fn floats_are_combined(
        dtype in prop::sample::select(vec![DType::F16, DType::BF16, DType::F32, DType::F64]),
        words in bytes(1200),
        others in vec(any::<u8>(), 1200),
        factors in prop_oneof![any::<[u64; 2]>().prop_map(|bits| bits.map(f64::from_bits)), (0.5f64..2.0).prop_map(|f| [f, 1.0 - f])],
    ) {
        let word = Word::of(Some(dtype));
        let float = word.float.unwrap();
        let len = words.len() / word.bytes * word.bytes;
        let (words, others) = (&words[..len], &others[..len]);
        let mut expected: Option<Vec<u8>> = None;
        for isa in Isa::available() {
            let mut out = vec![0xee; len];
            combine(isa, float, factors, [words, others], &mut out);
            prop_assert_eq!(&*expected.get_or_insert_with(|| out.clone()), &out, "{:?}", isa);
        }
        let combined = expected.unwrap_or_default();
        for index in 0..len / word.bytes {
            let (newer, to) = (get(words, word.bytes, index), get(&combined, word.bytes, index));
            let value = |bits| value_of(float, bits).unwrap_or(f64::NAN);
            let sum = value(newer) * factors[0] + value(get(others, word.bytes, index)) * factors[1];
            let sum = if float.mantissa == 52 { sum } else { f64::from(sum as f32) };
            prop_assert!(is_nearest(float, sum, to) || (to == newer && !fits(float, sum)), "{newer:x} {to:x}");
        }
    }
}

proptest! {
    #[test]
    fn floats_are_shifted(
        dtype in prop::sample::select(vec![DType::F16, DType::BF16, DType::F32, DType::F64]),
        words in bytes(1200),
        distances in vec(prop_oneof![any::<f64>(), -1.0f64..1.0, Just(-0.0)], 1200),
    ) {
        let word = Word::of(Some(dtype));
        let float = word.float.unwrap();
        let words = &words[..words.len() / word.bytes * word.bytes];
        let distances = &distances[..words.len() / word.bytes];
        let mut expected: Option<Vec<u8>> = None;
        for isa in Isa::available() {
            let mut out = vec![0xee; words.len()];
            shift(isa, float, distances, words, &mut out);
            prop_assert_eq!(&*expected.get_or_insert_with(|| out.clone()), &out, "{:?}", isa);
        }
        let shifted = expected.unwrap_or_default();
        for (index, distance) in distances.iter().enumerate() {
            let (from, to) = (get(words, word.bytes, index), get(&shifted, word.bytes, index));
            prop_assert!(distance.to_bits() != (-0.0f64).to_bits() || to == from, "{from:x} {to:x}");
            let sum = value_of(float, from).unwrap_or(f64::NAN) + distance;
            let sum = if float.mantissa == 52 { sum } else { f64::from(sum as f32) };
            prop_assert!(is_nearest(float, sum, to) || (to == from && !fits(float, sum)), "{from:x} {to:x}");
        }
    }
}

/// The value of a float by its definition; `None` where it is not finite.
fn value_of(float: FloatFormat, bits: u64) -> Option<f64> {
    let (exponent, mantissa) = (float.exponent, float.mantissa);
    let field = (bits >> mantissa & ((1 << exponent) - 1)) as i32;
    let fraction = bits & ((1 << mantissa) - 1);
    let bias = (1 << (exponent - 1)) - 1;
    let (whole, power) = if field == 0 { (fraction, 1) } else { (fraction | 1 << mantissa, field) };
    // In two steps, of which none leaves the range of what is exact.
    let power = power - bias - mantissa as i32;
    let magnitude = whole as f64 * 2f64.powi(power / 2) * 2f64.powi(power - power / 2);
    let sign = if bits >> (exponent + mantissa) & 1 == 1 { -1.0 } else { 1.0 };
    (field < (1 << exponent) - 1).then_some(sign * magnitude)
}

/// Whether a value is below what rounds to infinity.
fn fits(float: FloatFormat, value: f64) -> bool {
    let largest = value_of(float, (((1 << float.exponent) - 1) << float.mantissa) - 1).unwrap_or(0.0);
    let ulp = 2f64.powi((1 << (float.exponent - 1)) - 1 - float.mantissa as i32);
    value.is_finite() && value.abs() < largest + ulp / 2.0
}

/// Whether a word is the float nearest to a value, the even one of two.
fn is_nearest(float: FloatFormat, value: f64, bits: u64) -> bool {
    let top = 1u64 << (float.exponent + float.mantissa);
    let Some(found) = value_of(float, bits).filter(|_| fits(float, value)) else { return false };
    let error = (value.abs() - found.abs()).abs();
    let magnitude = bits & !top & (top | (top - 1));
    let even = magnitude & 1 == 0;
    let beats = |other: Option<f64>| {
        other.is_none_or(|other| {
            let others = (value.abs() - other).abs();
            error < others || (error == others && even)
        })
    };
    let neighbours = [magnitude.checked_sub(1), Some(magnitude + 1)];
    let nearest = neighbours.into_iter().flatten().all(|other| beats(value_of(float, other)));
    nearest && (bits & top != 0) == value.is_sign_negative()
}

#[test]
fn nothing_gives_nothing() {
    for isa in Isa::available() {
        let mut cursors = [0; MAX_BUCKETS];
        assert_eq!(gather_tokens(isa, 3, &[], &[], &mut cursors, &mut [], &mut []), Some(()));
        assert_eq!(scatter_tokens(isa, 3, &[], &[], &mut cursors, &mut []), Some(()));
        assert_eq!(cursors, [0; MAX_BUCKETS]);
        let mut bits = Bits { data: &[], at: 0 };
        add_low_bits(isa, 4, &[], &mut bits, &mut [], &mut Chosen::new());
        assert_eq!(bits.at, 0);
        let mut sink = BitSink { out: &mut [], at: 0 };
        put_low_bits(isa, 4, &[], &[], &mut sink, &mut Chosen::new());
        assert_eq!(sink.finish(), 0);
        assert_eq!(movement(isa, 2, 1.0, &[], &[]), (0.0, 0.0));
        let mut states = [STATE_LOW; MANY_LANES];
        let tables = EncodeTables::new();
        assert_eq!(rans_encode_wide(isa, &tables, &mut states, &[], &mut [], 0), Some(0));
        let tables = DecodeTables::new();
        assert_eq!(rans_decode_wide::<false, MANY_LANES>(isa, &tables, &mut states, &[], &mut []), Some(0));
        assert_eq!(states, [STATE_LOW; MANY_LANES]);
    }
}
